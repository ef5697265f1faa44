//! What a server does when its disk is nearly full, and when it is full in spite of that.
//!
//! Each test has a small disk of its own, in a namespace: where the system gives none, the tests say
//! so and count as passed, unless `CI` is `true`.
#![cfg(target_os = "linux")]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that panics has failed, which is what is wanted; a skip must be seen"
)]

#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod process;
    pub(crate) mod wire;
}

use core::time::Duration;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, thread};

use support::process::{Directory, Server, free_address};
use support::wire::{Acl, Client, Error, flags, word};

const SESSION_TIMEOUT_MS: i32 = 20_000;
const TIME_MAX: Duration = Duration::from_secs(20);
const QUOTA_EXCEEDED: i32 = -125;
const DISK_MIB: u32 = 48;

/// A small disk that only processes in its namespace see, until this is dropped.
struct Disk {
    holder: Child,
    /// Where servers have their data: `home/data`.
    data: PathBuf,
}

impl Disk {
    fn new(home: &Path) -> Option<Self> {
        let data = home.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let script = "mount -t tmpfs -o size=$1m zabra-test \"$0\" && echo there && exec cat";
        let holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(&data)
            .arg(DISK_MIB.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => return skip(&error.to_string()),
        };
        let mut line = String::new();
        let out = holder.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        if line == "there\n" {
            return Some(Self { holder, data });
        }
        let output = holder.wait_with_output().unwrap();
        skip(&String::from_utf8_lossy(&output.stderr))
    }

    /// A command that sees the disk.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--user", "--mount", "--preserve-credentials", "--target"])
            .arg(self.holder.id().to_string())
            .arg(program);
        command
    }

    fn shell(&self, script: &str) -> String {
        let mut shell = self.command("sh");
        let output = shell.args(["-c", script]).arg(&self.data).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Leaves so much free.
    fn fill_but(&self, mib: u32) {
        self.shell(&format!(
            "free=$(df --output=avail -B1 \"$0\" | tail -1)
             fallocate -l $((free - ({mib} << 20))) \"$0/filler\""
        ));
    }

    fn free(&self) {
        self.shell("rm -f \"$0/filler\"");
    }

    fn server(&self, home: &Path, options: &[&str]) -> Server {
        Server::start_within(home, options, |program| self.command(program))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn skip(reason: &str) -> Option<Disk> {
    assert!(
        env::var_os("CI").is_none_or(|ci| ci != "true"),
        "no small disk: {reason}"
    );
    eprintln!("skipped: no small disk can be had: {reason}");
    None
}

/// Has a write go through or be refused, as the answer says, until `wanted` is the answer.
fn wait_for_write(client: &mut Client, wanted: Option<i32>) {
    let end = Instant::now() + TIME_MAX;
    loop {
        let answer = match client.set_data("/a", Some(b"again"), -1) {
            Ok(_) => None,
            Err(Error::Code(code)) => Some(code),
            Err(error) => panic!("{error:?}"),
        };
        if answer == wanted {
            return;
        }
        assert!(
            Instant::now() < end,
            "expected {wanted:?}, found {answer:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = word(server.address, "mntr", TIME_MAX).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().trim().parse().unwrap()
}

#[test]
fn nearly_full_disk_refuses_writes_and_serves_all_else_until_there_is_room() {
    let home = Directory::new("disk-nearly-full");
    let Some(disk) = Disk::new(home.path()) else {
        return;
    };
    let server = disk.server(home.path(), &["snapCount=100", "preAllocSize=64"]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let acl = Acl::open();
    client
        .create("/a", Some(b"before"), &acl, flags::PERSISTENT)
        .unwrap();
    assert_eq!(metric(&server, "zk_zabra_disk_low"), 0);

    // A tenth of so small a disk is spared.
    disk.fill_but(3);
    wait_for_write(&mut client, Some(QUOTA_EXCEEDED));
    let free = metric(&server, "zk_zabra_disk_free_bytes");
    assert!(free <= 3 << 20, "{free}");
    assert_eq!(metric(&server, "zk_zabra_disk_low"), 1);
    server.wait_for_log("the disk is nearly full: writes are refused");
    let zxid = server.zxid();
    for _ in 0..1000 {
        let refused = client.create("/b", None, &acl, flags::PERSISTENT);
        assert!(matches!(refused, Err(Error::Code(QUOTA_EXCEEDED))));
    }
    assert_eq!(server.zxid(), zxid, "a refusal takes no room");
    assert!(client.data("/a", true).unwrap().0.is_some());
    // Sessions begin and end.
    let mut other = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    assert!(other.data("/a", false).is_ok());
    other.close().unwrap();

    disk.free();
    wait_for_write(&mut client, None);
    server.wait_for_log("there is room on the disk again");
    assert_eq!(metric(&server, "zk_zabra_disk_low"), 0);
    server.stop();
}

#[test]
fn server_that_starts_on_a_nearly_full_disk_says_so_and_serves_reads() {
    let home = Directory::new("disk-nearly-full-start");
    let Some(disk) = Disk::new(home.path()) else {
        return;
    };
    let server = disk.server(home.path(), &[]);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    client
        .create("/a", Some(b"before"), &Acl::open(), flags::PERSISTENT)
        .unwrap();
    client.close().unwrap();
    server.stop();
    disk.fill_but(3);
    let server = disk.server(home.path(), &[]);
    server.wait_for_log("the disk is nearly full: writes are refused");
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    wait_for_write(&mut client, Some(QUOTA_EXCEEDED));
    assert_eq!(client.data("/a", false).unwrap().0.unwrap(), b"before");
    server.stop();
}

/// With the guard off: the log meets the end of the disk in the midst of a write.
#[test]
fn full_disk_ends_the_server_and_loses_nothing_that_was_acknowledged() {
    let home = Directory::new("disk-full");
    let Some(disk) = Disk::new(home.path()) else {
        return;
    };
    let options = ["zabra.diskFreeMin=0", "preAllocSize=64"];
    let server = disk.server(home.path(), &options);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let acl = Acl::open();
    client.create("/a", None, &acl, flags::PERSISTENT).unwrap();
    disk.fill_but(2);
    let mut acknowledged = 0;
    let data = [7; 50_000];
    while client
        .create(
            &format!("/a/{acknowledged}"),
            Some(&data),
            &acl,
            flags::PERSISTENT,
        )
        .is_ok()
    {
        acknowledged += 1;
        assert!(acknowledged < 1000, "2 MiB are not endless");
    }
    assert!(acknowledged > 10, "{acknowledged}");
    server.wait_for_log("free space on this disk, then start the server again");
    drop(server);

    disk.free();
    let server = disk.server(home.path(), &options);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let found = client.children("/a").unwrap().0.len();
    assert!(found >= acknowledged, "{found} of {acknowledged} are left");
    for number in 0..acknowledged {
        let (found, _) = client.data(&format!("/a/{number}"), false).unwrap();
        assert_eq!(found.unwrap(), data);
    }
    server.stop();
}

/// Snapshots of 2 MiB, again and again, within a budget of 9 MiB on a disk of 48.
#[test]
fn purge_keeps_within_its_bytes_and_the_state_survives() {
    let home = Directory::new("disk-budget");
    let Some(disk) = Disk::new(home.path()) else {
        return;
    };
    let options = [
        "snapCount=40",
        "autopurge.snapRetainCount=10",
        "zabra.purge.bytesMax=9437184",
        "preAllocSize=64",
    ];
    let server = disk.server(home.path(), &options);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    let acl = Acl::open();
    let data = [3; 50_000];
    for number in 0..40 {
        let path = format!("/{number}");
        client
            .create(&path, Some(&data), &acl, flags::PERSISTENT)
            .unwrap();
    }
    for round in 0..15_u8 {
        for number in 0..20 {
            client
                .set_data(&format!("/{number}"), Some(&[round; 50_000]), -1)
                .unwrap();
        }
    }
    server.wait_for_log("old snapshots and logs removed");
    let snapshots = disk.shell("ls \"$0/version-2\" | grep -c '^snapshot\\.'");
    let snapshots: u32 = snapshots.trim().parse().unwrap();
    // Each has 2 MiB, and the log of its time as much; one more may just have been written.
    assert!((2..=5).contains(&snapshots), "{snapshots}");
    server.kill();
    let server = disk.server(home.path(), &options);
    let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
    assert_eq!(client.data("/5", false).unwrap().0.unwrap(), [14; 50_000]);
    assert_eq!(client.data("/35", false).unwrap().0.unwrap(), data);
    server.stop();
}

/// A server of three, whose disk is its own.
struct Member {
    disk: Disk,
    server: Server,
}

fn member(home: &Directory, id: usize, lines: &str) -> Option<Member> {
    let home = home.path().join(id.to_string());
    let disk = Disk::new(&home)?;
    let address = free_address();
    disk.shell(&format!("echo {id} >\"$0/myid\"; touch \"$0/initialize\""));
    let config = home.join("zoo.cfg");
    let text = format!(
        "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ntickTime=500\ninitLimit=20\n\
         syncLimit=10\npreAllocSize=64\n4lw.commands.whitelist=*\n{lines}",
        disk.data.display(),
        address.port()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = disk.command(env!("CARGO_BIN_EXE_zabra"));
    command.args(["server", "--config"]).arg(&config);
    let server = Server::spawn(command, address, home.join("log"));
    Some(Member { disk, server })
}

fn leads(member: &Member) -> bool {
    let answer = word(member.server.address, "srvr", TIME_MAX);
    answer.is_ok_and(|it| it.contains("Mode: leader"))
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIME_MAX;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "expected {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn leader_without_room_lets_another_lead_and_all_without_room_refuse_until_there_is_some() {
    let home = Directory::new("disk-ensemble");
    let lines: Vec<String> = (1..=3)
        .map(|id| {
            let (quorum, election) = (free_address().port(), free_address().port());
            format!("server.{id}=127.0.0.1:{quorum}:{election}\n")
        })
        .collect();
    let lines = lines.concat();
    let members: Vec<Member> = (1..=3).filter_map(|id| member(&home, id, &lines)).collect();
    if members.len() < 3 {
        return;
    }
    let leader = wait_for("a leader", || members.iter().position(leads));
    let follower = (leader + 1) % 3;
    let open = |member: &Member| {
        let address = member.server.address;
        wait_for("a session", || {
            Client::open(address, SESSION_TIMEOUT_MS).ok()
        })
    };
    let mut client = open(&members[follower]);
    let acl = Acl::open();
    client.create("/a", None, &acl, flags::PERSISTENT).unwrap();

    members[leader].disk.fill_but(3);
    let next = wait_for("another leader", || {
        members.iter().position(leads).filter(|it| *it != leader)
    });
    members[leader]
        .server
        .wait_for_log("its disk is nearly full, and others can lead");
    let mut client = open(&members[next]);
    wait_for_write(&mut client, None);
    // It follows, and stores what it must.
    let mut there = open(&members[leader]);
    wait_for_write(&mut there, None);

    for member in &members {
        if !core::ptr::eq(member, &raw const members[leader]) {
            member.disk.fill_but(3);
        }
    }
    // Each lets another lead once; whoever leads in the end refuses.
    wait_for("a refusal by each server", || {
        let refuses = |member: &Member| {
            let mut client = Client::open(member.server.address, SESSION_TIMEOUT_MS).ok()?;
            let refused = client.set_data("/a", Some(b"x"), -1);
            matches!(refused, Err(Error::Code(QUOTA_EXCEEDED))).then_some(())
        };
        members.iter().all(|it| refuses(it).is_some()).then_some(())
    });
    let mut client = open(&members[leader]);
    assert!(client.data("/a", false).is_ok());

    for member in &members {
        member.disk.free();
    }
    for member in &members {
        wait_for_write(&mut open(member), None);
    }
    for member in members {
        member.server.stop();
    }
}
