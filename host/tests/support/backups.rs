//! Backups of a server while clients write, restored into others.

use core::time::Duration;
use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Instant;

use super::cli::{command, zabra, zabra_must};
use super::process::{Directory, Kind, Server};
use super::tree::dump;
use super::wire::{Acl, Client, flags};
use super::writers::{Change, Writers, state_at, state_of};

const SESSION_MS: i32 = 30_000;
const WRITERS: usize = 4;
/// Between two backups there must be writes.
const CHANGES_BETWEEN: usize = 300;
/// How many are written in each act of a follower, so that there are enough to purge some.
const CHANGES_OF_ACT: usize = 1200;
const TIME_MAX: Duration = Duration::from_secs(60);

/// Snapshots, new logs and purges all the time.
const OPTIONS: &[&str] = &[
    "snapCount=300",
    "autopurge.snapRetainCount=3",
    "autopurge.purgeInterval=1",
    "preAllocSize=64",
    "maxClientCnxns=0",
    "extendedTypesEnabled=true",
    // super:test sees every znode.
    "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
];

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until so many more changes are confirmed.
pub(crate) fn wait_for_changes(writers: &Writers, more: usize) {
    let (_, before) = writers.last();
    let end = Instant::now() + TIME_MAX;
    while writers.last().1 < before + more {
        assert!(Instant::now() < end, "the writers are stuck");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A zxid in a manifest.
pub(crate) fn zxid_in(json: &str, field: &str) -> i64 {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let text = value
        .get(field)
        .and_then(|it| it.as_str())
        .unwrap()
        .to_owned();
    i64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// A server on what was restored has what was confirmed up to this zxid, and nothing else.
fn assert_restored(kind: Kind, home: &Path, changes: &[Change], zxid: i64) {
    let server = Server::start(kind, home, OPTIONS);
    let expected = state_at(changes, zxid);
    let found = state_of(server.address);
    for (path, znode) in &expected {
        assert_eq!(found.get(path), Some(znode), "{kind}: {path} at 0x{zxid:x}");
    }
    assert_eq!(found.len(), expected.len(), "{kind}: znodes at 0x{zxid:x}");
    let log = server.log().to_lowercase();
    assert!(!log.contains("digest mismatch") && !log.contains("digests are not match"));
    server.stop();
}

/// Backs a server up again and again while clients write, and restores each into another server.
pub(crate) fn backs_up_while_clients_write(test: &str, kind: Kind, into: &[Kind]) {
    let home = Directory::new(test);
    let server = Server::start(kind, home.path(), OPTIONS);
    let data = home.path().join("data");
    let writers = Writers::start(server.address, WRITERS);
    let mut made = Vec::new();
    for index in 0..into.len() {
        wait_for_changes(&writers, CHANGES_BETWEEN);
        let (confirmed, _) = writers.last();
        let out = home.path().join(format!("{index}.tar"));
        let run = zabra_must(&["backup", "--json", text(&data), text(&out)]);
        let zxid = zxid_in(&run.out, "last_zxid");
        // Whoever looks at files that are being written is not told of damage.
        zabra_must(&["log", "--verify", text(&data)]);
        zabra_must(&["log", "--path", "/load/0-1", text(&data)]);
        if kind == Kind::Zabra {
            // Apache ZooKeeper writes snapshots under their names.
            zabra_must(&["snapshot", "--verify", text(&data)]);
        }
        assert!(
            zxid >= confirmed,
            "0x{confirmed:x} was confirmed before 0x{zxid:x}"
        );
        made.push((out, zxid));
    }
    wait_for_changes(&writers, 1);
    let changes = writers.stop();
    server.kill();
    for (index, ((out, zxid), kind)) in made.iter().zip(into).enumerate() {
        let home = home.path().join(format!("restored-{index}"));
        zabra_must(&["restore", text(out), text(&home.join("data"))]);
        assert_restored(*kind, &home, &changes, *zxid);
    }
}

/// Ships what a server writes, is killed and begun again meanwhile, and restores many points.
pub(crate) fn follows_while_clients_write(test: &str, kind: Kind, into: &[Kind]) {
    let home = Directory::new(test);
    let options: Vec<_> = OPTIONS
        .iter()
        .map(|option| match *option {
            // More than is written while nobody follows.
            "autopurge.snapRetainCount=3" => "autopurge.snapRetainCount=16",
            option => option,
        })
        .collect();
    let server = Server::start(kind, home.path(), &options);
    let data = home.path().join("data");
    let out = home.path().join("copy");
    let mut follower = Follower::start(&data, &out);
    let writers = Writers::start(server.address, WRITERS);
    for _ in 0..3 {
        wait_for_changes(&writers, CHANGES_OF_ACT);
        follower.kill();
        wait_for_changes(&writers, CHANGES_BETWEEN);
        follower = Follower::start(&data, &out);
    }
    wait_for_changes(&writers, CHANGES_OF_ACT);
    let changes = writers.stop();
    let last = changes.last().unwrap().zxid;
    follower.kill();
    zabra_must(&["backup", "--follow", "--once", text(&data), text(&out)]);
    server.kill();
    let version = data.join("version-2");
    assert!(
        out.join("version-2/log.1").exists(),
        "shipped from the beginning"
    );
    // Only ours purges while it runs as often as that.
    assert!(
        kind != Kind::Zabra || !version.join("log.1").exists(),
        "nothing was purged"
    );

    let manifest = fs::read_to_string(out.join("manifest.json")).unwrap();
    assert!(zxid_in(&manifest, "last_zxid") >= last);
    // The first snapshot may be later than the first changes.
    let first = zxid_in(&manifest, "first_zxid").max(changes.first().unwrap().zxid);
    for (index, kind) in into.iter().enumerate() {
        let (count, place) = (into.len() as i64, index as i64);
        let zxid = first + (last - first) * (place + 1) / count;
        let home = home.path().join(format!("restored-{index}"));
        let point = format!("0x{zxid:x}");
        let to = home.join("data");
        zabra_must(&["restore", "--zxid", &point, text(&out), text(&to)]);
        assert_restored(*kind, &home, &changes, zxid);
    }
}

struct Follower(Child);

impl Follower {
    fn start(data: &Path, out: &Path) -> Self {
        let mut command = command(&["backup", "--follow", text(data), text(out)]);
        // To be looked at when a point cannot be restored.
        let log = out.with_extension("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        Self(process.unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Brings one subtree of a backup back into a server that runs.
pub(crate) fn restores_a_subtree(test: &str, kind: Kind) {
    let home = Directory::new(test);
    let server = Server::start(kind, home.path(), OPTIONS);
    let mut client = Client::open(server.address, SESSION_MS).unwrap();
    client.add_auth("digest", b"super:test").unwrap();
    write_subtree(&mut client);
    let expected = dump(&mut client).unwrap();
    let backup = home.path().join("backup.tar");
    zabra_must(&["backup", text(&home.path().join("data")), text(&backup)]);

    let address = server.address.to_string();
    let secret = home.path().join("secret");
    fs::write(&secret, "digest:super:test\n").unwrap();
    let restore = |more: &[&str]| {
        let known = [
            "restore",
            "--server",
            &address,
            "--path",
            "/app",
            text(&backup),
        ];
        zabra(&[&known, more].concat())
    };
    let secret = ["--auth-file", text(&secret)];

    // What is there is not touched unless that is said.
    client.set_data("/app", Some(b"changed"), -1).unwrap();
    let run = restore(&secret);
    assert_eq!(run.code, Some(1), "{}", run.out);
    assert!(
        run.err.contains("expected no znode at /app, found one"),
        "{}",
        run.err
    );
    assert_eq!(
        client.data("/app", false).unwrap().0.as_deref(),
        Some(&b"changed"[..])
    );
    let run = restore(&[&secret[..], &["--merge"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(
        client.data("/app", false).unwrap().0.as_deref(),
        Some(&b"top"[..])
    );

    // Beside it, as it was.
    let run = restore(&[&secret[..], &["--to", "/old"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(
        run.err.contains("left out 1 ephemeral znode"),
        "{}",
        run.err
    );
    let found = dump(&mut client).unwrap();
    let mut restored = 0;
    for (path, znode) in &expected {
        let Some(below) = path.strip_prefix("/app") else {
            continue;
        };
        let moved = found.get(&format!("/old{below}"));
        if znode.stat.ephemeral_owner != 0 && below == "/ephemeral" {
            assert_eq!(moved, None, "{path}");
            continue;
        }
        let moved = moved.unwrap_or_else(|| panic!("{path} was not restored"));
        assert_eq!(
            (&moved.data, &moved.acl),
            (&znode.data, &znode.acl),
            "{path}"
        );
        restored += 1;
    }
    assert_eq!(restored, 206);

    // Nobody in particular may not write below a secret.
    let run = restore(&["--to", "/other"]);
    assert_eq!(run.code, Some(1), "{}", run.out);
    assert!(
        run.err
            .contains("give the super user's name with --auth-file"),
        "{}",
        run.err
    );
    server.stop();
}

fn write_subtree(client: &mut Client) {
    let open = Acl::open();
    let plain = flags::PERSISTENT;
    client.create("/app", Some(b"top"), &open, plain).unwrap();
    client.create("/app/null", None, &open, plain).unwrap();
    client
        .create("/app/bytes", Some(b"\0\xff"), &open, plain)
        .unwrap();
    client.create("/app/many", None, &open, plain).unwrap();
    for number in 0..200 {
        let path = format!("/app/many/{number}");
        client
            .create(&path, Some(&[b'x'; 1000]), &open, plain)
            .unwrap();
    }
    client
        .create("/app/ephemeral", None, &open, flags::EPHEMERAL)
        .unwrap();
    let mine = [Acl::new(31, "digest", "user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=")];
    client
        .create("/app/secret", Some(b"s"), &mine, plain)
        .unwrap();
    client
        .create("/app/secret/below", Some(b"b"), &open, plain)
        .unwrap();
    let kept = 3_600_000;
    client.create_ttl("/app/many/ttl", b"t", kept).unwrap();
    client.delete("/app/many/199", -1).unwrap();
}
