//! A data directory goes from server to server, ours and Apache ZooKeeper's. Each finds exactly
//! what the one before it left: every znode, Stat and ACL, the last zxid, and the sessions. Then it
//! writes more, and is killed or stopped.

mod doctor;

use core::time::Duration;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::support::process::{Directory, Kind, Server, copy_directory};
use crate::support::tree::{Tree, dump};
use crate::support::wire::{Acl, Client, Error, Op, flags};

/// Survives the change of servers.
const SESSION_MS: i32 = 60_000;
/// Is left to expire, but not before the next server has been compared.
const SESSION_SHORT_MS: i32 = 15_000;
/// Over at once, but servers look only once in a minute unless told otherwise.
const TTL_SHORT_MS: i64 = 1;
const ABANDONED: &str = "/abandoned";
const VANISH_TIME_MAX: Duration = Duration::from_secs(45);
const SNAPSHOTS_MIN: usize = 3;
const WRITERS: usize = 3;
const WRITES: usize = 120;
const NO_NODE: i32 = -101;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const NOT_EMPTY: i32 = -111;

const OPTIONS: &[&str] = &[
    // super:test sees every znode.
    "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
    "extendedTypesEnabled=true",
    // Sessions go back, too: to a server that knows no other passwords.
    "zabra.sessionPasswords=zookeeper",
    "maxSessionTimeout=120000",
    "maxClientCnxns=0",
    // Small, so that each server writes several snapshots, fuzzy ones in Apache ZooKeeper, and
    // several logs.
    "snapCount=80",
    "preAllocSize=64",
];

/// How a server ends before the next takes over its directory.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Stop,
}

#[test]
fn apache_to_zabra_and_back() {
    use {End::*, Kind::*};
    relay(
        "there",
        "",
        &[
            (Apache, Kill),
            (Zabra, Kill),
            (Apache, Stop),
            (Zabra, Stop),
            (Zabra, Kill),
        ],
    );
}

#[test]
fn zabra_to_apache_and_back() {
    use {End::*, Kind::*};
    relay(
        "back",
        "",
        &[(Zabra, Kill), (Apache, Kill), (Zabra, Stop), (Apache, Kill)],
    );
}

#[test]
fn gzip_snapshots_go_both_ways() {
    use {End::*, Kind::*};
    relay("gz", "gz", &[(Apache, Kill), (Zabra, Kill), (Apache, Kill)]);
}

#[test]
fn snappy_snapshots_go_both_ways() {
    use {End::*, Kind::*};
    relay(
        "snappy",
        "snappy",
        &[(Apache, Kill), (Zabra, Kill), (Apache, Kill)],
    );
}

fn relay(test: &str, compression: &str, legs: &[(Kind, End)]) {
    let directory = Directory::new(test);
    let compress = format!("snapshot.compression.method={compression}");
    let mut options = OPTIONS.to_vec();
    if !compression.is_empty() {
        options.push(&compress);
    }
    let mut left: Option<Left> = None;
    for (round, &(kind, end)) in legs.iter().enumerate() {
        let home = directory.path().join(format!("{round}-{kind:?}"));
        if let Some(left) = &left {
            copy_directory(&left.data, &home.join("data"));
        }
        let server = Server::start(kind, &home, &options);
        let found = left.take().map(|left| left.compare(&server, kind));
        let last = round + 1 == legs.len();
        let next = Left::write(&server, &home.join("data"), round, found, last);
        assert_no_digest_mismatch(&server);
        match end {
            End::Kill => server.kill(),
            End::Stop => server.stop(),
        }
        assert_several_files(&home.join("data/version-2"), compression);
        left = Some(next);
    }
    // Whoever comes last, ours must let go of sessions that another server gave.
    let home = directory.path().join("last");
    let left = left.expect("there is at least one leg");
    copy_directory(&left.data, &home.join("data"));
    let server = Server::start(Kind::Zabra, &home, &options);
    let mut found = left.compare(&server, Kind::Zabra);
    assert_vanishes(
        &mut found.admin,
        &format!("/round-{}/short", legs.len() - 1),
    );
}

/// What one server left behind, for the next to be compared with.
struct Left {
    data: std::path::PathBuf,
    zxid: i64,
    tree: Tree,
    sessions: Sessions,
}

/// Sessions that outlive their server.
struct Sessions {
    /// Authenticated as super.
    admin: Client,
    /// Owns ephemeral znodes.
    owner: Client,
}

impl Left {
    fn write(
        server: &Server,
        data: &Path,
        round: usize,
        found: Option<Sessions>,
        last: bool,
    ) -> Self {
        let mut sessions = found.unwrap_or_else(|| Sessions {
            admin: Client::open(server.address, SESSION_MS).unwrap(),
            owner: Client::open(server.address, SESSION_MS).unwrap(),
        });
        sessions.admin.add_auth("digest", b"super:test").unwrap();
        let root = format!("/round-{round}");
        write_every_kind(&mut sessions, &root);
        write_concurrently(server, &root);
        if last {
            abandon_a_session(server);
        }
        let tree = dump(&mut sessions.admin).unwrap();
        Self {
            data: data.to_path_buf(),
            zxid: sessions.admin.zxid,
            tree,
            sessions,
        }
    }

    /// Compares the server with what was left and takes the sessions over to it.
    fn compare(self, server: &Server, kind: Kind) -> Sessions {
        assert_eq!(server.zxid(), self.zxid, "{kind:?}: the last zxid");
        let mut admin = Client::reattach(server.address, &self.sessions.admin).unwrap();
        admin.add_auth("digest", b"super:test").unwrap();
        let owner = Client::reattach(server.address, &self.sessions.owner).unwrap();
        let found = dump(&mut admin).unwrap();
        for (path, znode) in &self.tree {
            assert_eq!(found.get(path), Some(znode), "{kind:?}: {path}");
        }
        let extra: Vec<_> = found
            .keys()
            .filter(|path| !self.tree.contains_key(*path))
            .collect();
        assert!(
            extra.is_empty(),
            "{kind:?}: znodes that were not there: {extra:?}"
        );
        Sessions { admin, owner }
    }
}

/// Every kind of znode, change, refusal and ACL.
fn write_every_kind(sessions: &mut Sessions, root: &str) {
    let admin = &mut sessions.admin;
    let open = Acl::open();
    let at = |name: &str| format!("{root}/{name}");
    admin
        .create(root, Some(b"round"), &open, flags::PERSISTENT)
        .unwrap();
    write_data(admin, &at);
    write_kinds(admin, &at);
    write_acls(admin, &at);
    write_quota(admin, root);
    write_multi(admin, &at);
    for name in ["ephemeral", "ephemeral-deleted"] {
        sessions
            .owner
            .create(&at(name), Some(b"mine"), &open, flags::EPHEMERAL)
            .unwrap();
    }
    let sequential = flags::EPHEMERAL_SEQUENTIAL;
    sessions
        .owner
        .create(&at("ephemeral-"), None, &open, sequential)
        .unwrap();
    sessions.owner.delete(&at("ephemeral-deleted"), -1).unwrap();
}

fn write_data(admin: &mut Client, at: &impl Fn(&str) -> String) {
    let open = Acl::open();
    let large = vec![0xa5; 200_000];
    let values: [(&str, Option<&[u8]>); 4] = [
        ("null", None),
        ("empty", Some(b"")),
        ("large", Some(&large)),
        ("größe-日本", Some(b"\0\xff")),
    ];
    for (name, value) in values {
        admin
            .create(&at(name), value, &open, flags::PERSISTENT)
            .unwrap();
    }
    admin.set_data(&at("empty"), None, -1).unwrap();
    admin.set_data(&at("null"), Some(b""), 0).unwrap();
    admin
        .set_data(&at("large"), Some(b"small again"), 0)
        .unwrap();
    assert_code(admin.set_data(&at("large"), None, 7), BAD_VERSION);
    assert_code(admin.set_data(&at("missing"), None, -1), NO_NODE);
    assert_code(
        admin.create(&at("empty"), None, &open, flags::PERSISTENT),
        NODE_EXISTS,
    );
}

fn write_kinds(admin: &mut Client, at: &impl Fn(&str) -> String) {
    let open = Acl::open();
    admin
        .create(&at("queue"), None, &open, flags::PERSISTENT)
        .unwrap();
    for _ in 0..12 {
        admin
            .create(&at("queue/item-"), Some(b"item"), &open, flags::SEQUENTIAL)
            .unwrap();
    }
    admin.delete(&at("queue/item-0000000003"), 0).unwrap();
    admin.delete(&at("queue/item-0000000011"), -1).unwrap();
    assert_code(admin.delete(&at("queue"), -1), NOT_EMPTY);
    // One that is empty after it has had a child would be reaped while we compare.
    admin
        .create(&at("container"), Some(b"c"), &open, flags::CONTAINER)
        .unwrap();
    admin
        .create(&at("container/child"), None, &open, flags::PERSISTENT)
        .unwrap();
    admin
        .create(&at("container-unused"), None, &open, flags::CONTAINER)
        .unwrap();
    admin.create_ttl(&at("ttl"), b"t", 3_600_000).unwrap();
    admin.set_data(&at("ttl"), Some(b"touched"), 0).unwrap();
    admin
        .create_ttl(&at("ttl-short"), b"", TTL_SHORT_MS)
        .unwrap();
    admin
        .create(&at("deleted"), None, &open, flags::PERSISTENT)
        .unwrap();
    admin.delete(&at("deleted"), 0).unwrap();
}

fn write_acls(admin: &mut Client, at: &impl Fn(&str) -> String) {
    let read = Acl::new(1, "world", "anyone");
    let user = Acl::new(31, "digest", "user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=");
    let host = Acl::new(3, "ip", "127.0.0.1/8");
    let several = [read.clone(), user.clone(), host];
    admin
        .create(&at("acl"), Some(b"secret"), &several, flags::PERSISTENT)
        .unwrap();
    admin
        .create(&at("acl-changed"), None, &Acl::open(), flags::PERSISTENT)
        .unwrap();
    admin
        .set_acl(&at("acl-changed"), core::slice::from_ref(&user), 0)
        .unwrap();
    admin.set_acl(&at("acl-changed"), &[user, read], 1).unwrap();
    assert_code(
        admin.set_acl(&at("acl-changed"), &Acl::open(), 7),
        BAD_VERSION,
    );
    // Who I am becomes the znode's ACL.
    let mine = [Acl::new(31, "auth", "")];
    admin
        .create(&at("acl-auth"), None, &mine, flags::PERSISTENT)
        .unwrap();
}

/// As zkCli's setquota does it: limits and usage are znodes; the server keeps the usage up to date.
fn write_quota(admin: &mut Client, root: &str) {
    let open = Acl::open();
    let quota = format!("/zookeeper/quota{root}");
    admin
        .create(&quota, None, &open, flags::PERSISTENT)
        .unwrap();
    let limits = format!("{quota}/zookeeper_limits");
    admin
        .create(
            &limits,
            Some(b"count=100000,bytes=-1"),
            &open,
            flags::PERSISTENT,
        )
        .unwrap();
    let stats = format!("{quota}/zookeeper_stats");
    admin
        .create(&stats, Some(b"count=0,bytes=0"), &open, flags::PERSISTENT)
        .unwrap();
}

fn write_multi(admin: &mut Client, at: &impl Fn(&str) -> String) {
    let (path, child) = (at("multi"), at("multi/child"));
    let (create, version) = (flags::PERSISTENT, 0);
    let done = admin.multi(&[
        Op::Create {
            path: &path,
            data: Some(b"one"),
            flags: create,
        },
        Op::Create {
            path: &child,
            data: None,
            flags: create,
        },
        Op::Check {
            path: &path,
            version,
        },
        Op::SetData {
            path: &path,
            data: Some(b"two"),
            version,
        },
        Op::Delete {
            path: &child,
            version,
        },
    ]);
    assert_eq!(done.unwrap(), [0; 5]);
    let refused = admin.multi(&[
        Op::SetData {
            path: &path,
            data: Some(b"three"),
            version: 1,
        },
        Op::Check {
            path: &path,
            version: 7,
        },
        Op::Delete {
            path: &path,
            version: -1,
        },
    ]);
    assert_eq!(refused.unwrap(), [0, BAD_VERSION, -2]);
}

/// Writers that race the server's snapshots.
fn write_concurrently(server: &Server, root: &str) {
    let address = server.address;
    let write = |writer: usize| {
        let mut client = Client::open(address, SESSION_MS).unwrap();
        let open = Acl::open();
        let base = format!("{root}/writer-{writer}");
        client
            .create(&base, None, &open, flags::PERSISTENT)
            .unwrap();
        client
            .create(&format!("{base}/here"), None, &open, flags::EPHEMERAL)
            .unwrap();
        for number in 0..WRITES {
            let path = format!("{base}/{}", number % 40);
            let data = vec![b'x'; number];
            match number / 40 {
                0 => drop(
                    client
                        .create(&path, Some(&data), &open, flags::PERSISTENT)
                        .unwrap(),
                ),
                1 if number % 3 == 0 => client.delete(&path, 0).unwrap(),
                1 => drop(client.set_data(&path, Some(&data), 0).unwrap()),
                _ => match client.create(&path, Some(&data), &open, flags::PERSISTENT) {
                    Ok(_) | Err(Error::Code(NODE_EXISTS)) => {}
                    Err(error) => panic!("{path}: {error:?}"),
                },
            }
        }
        client.close().unwrap();
    };
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || write(writer));
        }
    });
}

/// Its ephemeral znode stays for the next server, which is to find that the session has expired.
fn abandon_a_session(server: &Server) {
    let mut client = Client::open(server.address, SESSION_SHORT_MS).unwrap();
    client
        .create(ABANDONED, None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
}

fn assert_code<T: core::fmt::Debug>(result: Result<T, Error>, code: i32) {
    assert!(
        matches!(result, Err(Error::Code(found)) if found == code),
        "{result:?}, not {code}"
    );
}

/// Apache ZooKeeper compares its tree with the digests in logs and snapshots, and only logs what it
/// finds.
fn assert_no_digest_mismatch(server: &Server) {
    let log = server.log();
    let wrong = |line: &&str| {
        let line = line.to_lowercase();
        line.contains("digest") && (line.contains("mismatch") || line.contains("not match"))
    };
    let found: Vec<_> = log.lines().filter(wrong).collect();
    assert!(found.is_empty(), "{found:#?}");
}

fn assert_several_files(directory: &Path, compression: &str) {
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let logs = names.iter().filter(|name| name.starts_with("log.")).count();
    let snapshot = |name: &&String| name.starts_with("snapshot.") && name.ends_with(compression);
    let snapshots = names.iter().filter(snapshot).count();
    assert!(
        logs >= SNAPSHOTS_MIN && snapshots >= SNAPSHOTS_MIN,
        "too few files to prove much: {names:?}"
    );
}

fn assert_vanishes(admin: &mut Client, path: &str) {
    let end = Instant::now() + VANISH_TIME_MAX;
    while admin.data(path, false).is_ok() {
        assert!(Instant::now() < end, "{path} is still there");
        thread::sleep(Duration::from_millis(200));
    }
}
