//! Servers that are led by somebody who says what no leader of theirs may say: they leave it, say
//! why, and have what they had.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use zabra_core::ids::Zxid;
use zabra_core::wire::quorum::PacketType as P;

use crate::MIB;
use crate::fake::{Fake, Follower};
use crate::peers::Ensemble;
use crate::support::process::Server;
use crate::support::tree::{Tree, dump};
use crate::support::wire::{Acl, Client, Writer, flags};
use crate::support::witness::Witness;

const SESSION_MS: i32 = 30_000;
const REPLY_TIME_MAX: Duration = Duration::from_secs(4);
/// A vote, a connection, a few packets; after some, a life that begins after a pause.
const EPISODE_TIME_MAX: Duration = Duration::from_secs(25);
/// The state that never ends has so much when its sender gives up.
const ENDLESS_BYTES: u64 = 48 * MIB;
/// A state is in memory while it comes.
const MEMORY_GROWN_MAX: u64 = 200 * MIB;
const POLL: Duration = Duration::from_millis(20);

/// What is said, and what is answered in the log.
type Episode = (&'static str, fn(&mut Follower));

/// They leave nothing behind; only the last asks for SNAP from then on.
const SYNCS: [Episode; 13] = [
    ("no word from the leader for 5000 ms", Follower::lead),
    ("expected LEADERINFO from the leader, found SNAP", |f| {
        f.say(P::SNAP, Zxid(1), None);
    }),
    ("the leader's epoch is 0, promised was ", |f| {
        f.epoch = 0;
        f.lead();
    }),
    ("a packet's data has a length of 2147483647", |f| {
        f.bytes(&[[0, 0, 0, 17].as_slice(), &[0; 8], &[0x7f, 255, 255, 255]].concat());
    }),
    (
        "expected DIFF, TRUNC or SNAP, or only SNAP, from the leader, found PROPOSAL",
        |f| {
            f.lead();
            f.say(P::PROPOSAL, next(f.last, 1), Some(b"x"));
        },
    ),
    (" does not follow ", gap),
    ("00 does not follow ", |f| {
        // Back to the very beginning.
        f.lead();
        f.say(P::DIFF, f.last, None);
        f.say(P::PROPOSAL, Zxid(0x1_0000_0000), Some(b"x"));
    }),
    ("7fffffff00000001 does not follow ", |f| {
        f.lead();
        f.say(P::DIFF, f.last, None);
        f.say(P::PROPOSAL, Zxid(0x7fff_ffff_0000_0001), Some(b"x"));
    }),
    ("a COMMIT of 0x900000009, expected None after ", |f| {
        f.lead();
        f.say(P::DIFF, f.last, None);
        f.say(P::COMMIT, Zxid(0x9_0000_0009), None);
    }),
    (", found NEWLEADER of 0x7000000000000000", |f| {
        f.lead();
        f.say(P::DIFF, f.last, None);
        f.say(P::NEW_LEADER, Zxid(0x7000_0000_0000_0000), None);
    }),
    (
        "expected NEWLEADER before from the leader, found UPTODATE",
        |f| {
            f.lead();
            f.say(P::DIFF, f.last, None);
            f.say(P::UP_TO_DATE, Zxid(-1), None);
        },
    ),
    (
        "a state of 0x6000000000000001 from a leader of epoch ",
        |f| {
            f.lead();
            f.say(P::SNAP, Zxid(0x6000_0000_0000_0001), None);
        },
    ),
    (
        "the leader cuts at 0x100000000, which is not in the history from ",
        |f| {
            f.lead();
            f.say(P::TRUNC, Zxid(0x1_0000_0000), None);
        },
    ),
];

/// Each costs those who hear it their state in memory, and a pause.
const STATES: [Episode; 3] = [
    ("the leader's state cannot be read: ", |f| {
        f.lead();
        f.say(P::SNAP, f.last, None);
        f.bytes(&[0xff; 4096]);
    }),
    ("the leader was lost before its state of 0x100000041", |f| {
        f.lead();
        f.say(P::SNAP, Zxid(0x1_0000_0041), None);
        f.bytes(&[0; 8]);
        f.hang_up();
    }),
    (
        "the leader was lost before its state of 0x100000042",
        endless,
    ),
];

/// In the broadcast, of one that has come to be followed.
const BROADCAST: [Episode; 4] = [
    ("a PROPOSAL of 0x7fffffff00000001 in epoch ", |f| {
        f.establish();
        f.say(P::PROPOSAL, Zxid(0x7fff_ffff_0000_0001), Some(b"x"));
    }),
    (
        "expected no SYNC that was not asked for from the leader",
        |f| {
            f.establish();
            f.say(P::SYNC, Zxid(1), None);
        },
    ),
    ("a COMMIT of 0x90000000a, expected None after ", |f| {
        f.establish();
        f.say(P::COMMIT, Zxid(0x9_0000_000a), None);
    }),
    ("a PROPOSAL of 0x100000001 after the one of ", |f| {
        f.establish();
        f.say(P::PROPOSAL, Zxid(0x1_0000_0001), Some(b"x"));
    }),
];

fn next(zxid: Zxid, by: i64) -> Zxid {
    Zxid(zxid.0 + by)
}

/// One is missing.
fn gap(follower: &mut Follower) {
    follower.lead();
    follower.say(P::DIFF, follower.last, None);
    follower.say(P::PROPOSAL, next(follower.last, 2), Some(b"x"));
}

/// Znodes, and more znodes.
fn endless(follower: &mut Follower) {
    follower.lead();
    follower.say(P::SNAP, Zxid(0x1_0000_0042), None);
    // No session, no ACL, the root.
    let mut head = Writer::default();
    head.int(0).int(0);
    let mut said = follower.bytes(head.bytes()) && follower.bytes(&znode("", 0));
    for number in 0..ENDLESS_BYTES / 1024 {
        said = said && follower.bytes(&znode(&format!("/znode-{number}"), 1024));
    }
    follower.hang_up();
}

fn znode(path: &str, bytes: usize) -> Vec<u8> {
    let mut znode = Writer::default();
    // The ACL that needs no entry, and a stat.
    znode.text(path).buffer(Some(&vec![7; bytes])).long(-1);
    [znode.bytes(), &[0; 60]].concat()
}

#[test]
fn fake_leader_is_left_with_a_reason_and_takes_nothing_along() {
    let mut ensemble = Ensemble::start("hostile-leader");
    conclude(&mut ensemble);
    let mut client = Client::open(ensemble.members[2].address, SESSION_MS).unwrap();
    let open = Acl::open();
    let (persistent, ephemeral) = (flags::PERSISTENT, flags::EPHEMERAL);
    client
        .create("/kept", Some(b"k"), &open, persistent)
        .unwrap();
    client.create("/mine", None, &open, ephemeral).unwrap();

    // Its third server is gone, and somebody has its place: while the two others are in step, it
    // may say what it likes.
    ensemble.members.remove(2).stop();
    for member in &ensemble.members {
        wait(|| serves(member.address));
    }
    let election = &ensemble.election[..2];
    let fake = Fake::start(3, ensemble.quorum[2], election, Arc::new(SYNCS[0].1));
    let lost = ensemble.lost_roles();
    witness(&mut ensemble);
    assert_eq!(ensemble.lost_roles(), lost, "nobody's part has ended");

    // When they have to elect, it wins.
    let mut client = Client::reattach(ensemble.members[0].address, &client).unwrap();
    let before = tree(&mut client);
    ensemble.members.drain(..).for_each(Server::kill);
    let servers = ensemble.servers(&[1, 2, 3]);
    for id in 1..=2 {
        let member = ensemble.member(id, id, &servers);
        ensemble.members.push(member);
    }
    let memory = ensemble.memory();
    for episode in SYNCS.into_iter().chain(STATES).chain(BROADCAST) {
        play(&ensemble, &fake, episode);
    }
    fake.end();
    for (member, before) in ensemble.members.iter().zip(memory) {
        let most = member.memory_bytes_most().unwrap_or(0);
        let grown = most.saturating_sub(before);
        assert!(grown <= MEMORY_GROWN_MAX, "grown by {grown} bytes");
        assert!(!member.log().contains("panicked"), "{}", member.log());
    }

    let third = ensemble.member(3, 3, &servers);
    ensemble.members.push(third);
    for member in &ensemble.members {
        wait(|| serves(member.address));
        client = Client::reattach(member.address, &client).unwrap();
        let after = tree(&mut client);
        assert_eq!(after, before, "nothing is lost, and nothing came");
    }
    witness(&mut ensemble);
    client.close().unwrap();
}

/// Has the fake say this to both, until both have said what they think of it.
fn play(ensemble: &Ensemble, fake: &Fake, (reason, script): Episode) {
    let begun = Instant::now();
    fake.play(Arc::new(script));
    for member in &ensemble.members {
        while !member.log().contains(reason) {
            assert!(
                begun.elapsed() < EPISODE_TIME_MAX,
                "expected {reason:?} in the log, found:\n{}",
                member.log_end()
            );
            thread::sleep(POLL);
        }
    }
    eprintln!("{reason:?} after {:?}", begun.elapsed());
}

/// Well-behaved sessions at all members, for a while.
fn witness(ensemble: &mut Ensemble) {
    let addresses = ensemble.members.iter().map(|member| member.address);
    ensemble.witnesses = addresses.map(Witness::start).collect();
    thread::sleep(Duration::from_secs(1));
    conclude(ensemble);
}

fn conclude(ensemble: &mut Ensemble) {
    for witness in ensemble.witnesses.drain(..) {
        eprintln!("{:?}", witness.conclude());
    }
}

/// All znodes but the one that each server writes by itself.
fn tree(client: &mut Client) -> Tree {
    client.sync("/").unwrap();
    let mut tree = dump(client).unwrap();
    tree.remove("/zookeeper/config");
    tree
}

fn serves(address: SocketAddr) -> bool {
    Client::open_within(address, SESSION_MS, REPLY_TIME_MAX).is_ok_and(|c| c.close().is_ok())
}

fn wait(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + EPISODE_TIME_MAX;
    while !done() {
        assert!(Instant::now() < end, "it takes too long");
        thread::sleep(POLL);
    }
}
