//! Whoever reaches the ports of an ensemble's servers: garbage, strangers, and those who say that
//! they are somebody else. What is said on these ports is not authenticated, so that this is about
//! mistakes and noise, not about somebody who takes the time (SECURITY.md).

use core::fmt::Write as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;
use std::{fs, thread};

use zabra_core::ids::{Epoch, ServerId, Zxid};
use zabra_core::wire::election::{Initial, InitialVersion};
use zabra_core::wire::quorum::{LearnerInfo, PROTOCOL, Packet, PacketType};

use crate::MIB;
use crate::support::process::{Directory, Kind, Server, free_address};
use crate::support::witness::Witness;

pub(crate) const IN_STEP: &str = "in step with the ensemble";
/// Ten lines of a kind are logged in a second.
const PAUSE: Duration = Duration::from_millis(110);
const CLOSED_TIME_MAX: Duration = Duration::from_secs(10);
const MEMORY_GROWN_MAX: u64 = 64 * MIB;

/// Three servers that serve, the place of a fourth, and a witness at each of the three.
pub(crate) struct Ensemble {
    pub(crate) home: Directory,
    pub(crate) quorum: Vec<SocketAddr>,
    pub(crate) election: Vec<SocketAddr>,
    pub(crate) members: Vec<Server>,
    pub(crate) witnesses: Vec<Witness>,
}

impl Ensemble {
    pub(crate) fn start(name: &str) -> Self {
        let addresses = || (0..4).map(|_| free_address()).collect();
        let mut ensemble = Self {
            home: Directory::new(name),
            quorum: addresses(),
            election: addresses(),
            members: Vec::new(),
            witnesses: Vec::new(),
        };
        let servers = ensemble.servers(&[1, 2, 3]);
        for id in 1..=3 {
            let member = ensemble.member(id, id, &servers);
            ensemble.members.push(member);
        }
        for member in &ensemble.members {
            member.wait_for_log(IN_STEP);
            ensemble.witnesses.push(Witness::start(member.address));
        }
        ensemble
    }

    /// The lines `server.N` of the servers at these places.
    pub(crate) fn servers(&self, places: &[usize]) -> String {
        let mut lines = String::new();
        for (&place, id) in places.iter().zip(1..) {
            let (quorum, election) = (
                self.quorum[place - 1].port(),
                self.election[place - 1].port(),
            );
            writeln!(lines, "server.{id}=127.0.0.1:{quorum}:{election}").unwrap();
        }
        lines
    }

    /// A server with this id that keeps its things at this place.
    pub(crate) fn member(&self, place: usize, id: usize, servers: &str) -> Server {
        let home: PathBuf = self.home.path().join(place.to_string());
        let data = home.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("myid"), id.to_string()).unwrap();
        let address = free_address();
        let config = home.join("zoo.cfg");
        let text = format!(
            "tickTime=1000\ninitLimit=5\nsyncLimit=5\ndataDir={}\nclientPort={}\n\
             clientPortAddress=127.0.0.1\nadmin.enableServer=false\n{servers}",
            data.display(),
            address.port()
        );
        fs::write(&config, text).unwrap();
        Server::spawn_with(Kind::Zabra, &config, address, home.join("log"))
    }

    /// The place of the leader: only it awaits learners.
    pub(crate) fn leader(&self) -> usize {
        let leads = |place: &usize| TcpStream::connect(self.quorum[place - 1]).is_ok();
        (1..=3).find(leads).unwrap()
    }

    pub(crate) fn lost_roles(&self) -> usize {
        let lost = |member: &Server| member.log().matches("role given up").count();
        self.members.iter().map(lost).sum()
    }

    /// The ensemble fared as if there had been nobody else.
    pub(crate) fn conclude(self, memory_before: &[u64]) {
        for witness in self.witnesses {
            eprintln!("{:?}", witness.conclude());
        }
        for (member, before) in self.members.into_iter().zip(memory_before) {
            let grown = member
                .memory_bytes_most()
                .unwrap_or(0)
                .saturating_sub(*before);
            assert!(grown <= MEMORY_GROWN_MAX, "grown by {grown} bytes");
            let log = member.log();
            assert!(!log.contains("panicked"), "{log}");
            assert!(!log.contains("begins anew"), "{log}");
            assert_eq!(
                member.signal("TERM").0,
                Some(0),
                "it stops as if nothing had been"
            );
        }
    }

    pub(crate) fn memory(&self) -> Vec<u64> {
        let memory = |member: &Server| member.memory_bytes_most().unwrap_or(0);
        self.members.iter().map(memory).collect()
    }
}

/// Says this and waits until the other side has enough of it.
fn is_closed_after(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    thread::sleep(PAUSE);
    // It may be closed before all is said.
    let _ = stream.write_all(bytes);
    let begun = Instant::now();
    let mut answer = [0; 4096];
    while begun.elapsed() < CLOSED_TIME_MAX {
        match stream.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {}
            Err(_) => return true,
        }
    }
    false
}

fn initial(server: i64, addresses: &[(&str, u16)]) -> Vec<u8> {
    let addresses = addresses
        .iter()
        .map(|&(host, port)| (host.to_owned(), port));
    let initial = Initial {
        version: InitialVersion::V1,
        server: ServerId(server),
        addresses: addresses.collect(),
    };
    initial.to_bytes().to_vec()
}

fn follower(server: i64, accepted: i32, config_version: i64) -> Vec<u8> {
    let info = LearnerInfo {
        server: ServerId(server),
        protocol: PROTOCOL,
        config_version,
    };
    let zxid = Epoch(accepted).start();
    let packet = Packet::with_data(PacketType::FOLLOWER_INFO, zxid, info.to_bytes());
    packet.to_bytes().to_vec()
}

/// The beginning of a packet with so much data.
fn head(length: i32) -> Vec<u8> {
    let packet = Packet::new(PacketType::FOLLOWER_INFO, Zxid::ZERO).to_bytes();
    let mut bytes = packet.get(..12).unwrap_or_default().to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.resize(1 << 16, 0);
    bytes
}

#[test]
fn those_who_are_no_peers_are_refused_with_a_reason_and_disturb_nobody() {
    let ensemble = Ensemble::start("hostile-peers");
    let place = ensemble.leader();
    let leader = i64::try_from(place).unwrap();
    let other = leader % 3 + 1;
    let log = |words: &str| ensemble.members[place - 1].wait_for_log(words);
    let (memory, lost) = (ensemble.memory(), ensemble.lost_roles());
    // As an id, and as a length, these bytes are too large.
    let noise: Vec<u8> = (0..5000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0] | 1)
        .collect();
    let frame = |length: i32| [initial(99, &[("h", 1)]), length.to_be_bytes().to_vec()].concat();

    for (bytes, reason) in [
        (
            noise.clone(),
            "expected a frame of 1 to 524288 bytes, found a length of ",
        ),
        (
            initial(leader, &[("h", 1)]),
            "which is this one: do two have this myid?",
        ),
        (
            initial(-5, &[("h", 1)]),
            "expected a server's id from 0, found -5",
        ),
        (
            initial(99, &[(&"h".repeat(2048), 1)]),
            "expected addresses of 1 to 2048 bytes",
        ),
        (
            frame(0),
            "expected a frame of 1 to 524288 bytes, found a length of 0",
        ),
        (frame(-1), "found a length of -1"),
        (frame(524_289), "found a length of 524289"),
    ] {
        assert!(
            is_closed_after(ensemble.election[place - 1], &bytes),
            "{reason}"
        );
        log(reason);
    }
    let early = Packet::new(PacketType::ACK, Zxid(5)).to_bytes().to_vec();
    for (bytes, reason) in [
        (noise, "a packet's data has a length of "),
        (head(100 << 20), "a packet's data has a length of 104857600"),
        (head(i32::MAX), "a packet's data has a length of 2147483647"),
        (early, "expected FOLLOWERINFO or OBSERVERINFO, found ACK"),
        (
            follower(77, 1, 0),
            "it says that it is server 77, which is none of",
        ),
        (
            follower(other, 1, i64::MAX),
            "has a membership of version 7fffffffffffffff",
        ),
        (
            follower(other, i32::MAX, 0),
            "has promised itself to epoch 2147483647",
        ),
        (follower(other, 1, 0), "and answers: do two have this myid?"),
        (follower(other, 9, 0), "and answers: do two have this myid?"),
    ] {
        assert!(
            is_closed_after(ensemble.quorum[place - 1], &bytes),
            "{reason}"
        );
        log(reason);
    }
    thread::sleep(10 * PAUSE);
    let crowd: Vec<TcpStream> = (0..300)
        .map(|n| {
            let ports = [ensemble.quorum[place - 1], ensemble.election[place - 1]];
            TcpStream::connect(ports[n % 2]).unwrap()
        })
        .collect();
    log("that have not said whose they are");
    drop(crowd);

    assert_eq!(ensemble.lost_roles(), lost, "nobody's part has ended");
    ensemble.conclude(&memory);
}

#[test]
fn second_server_with_one_myid_does_not_get_in_and_disturbs_nobody() {
    let ensemble = Ensemble::start("hostile-myid");
    let leader = ensemble.leader();
    let id = leader % 3 + 1;
    let (memory, lost) = (ensemble.memory(), ensemble.lost_roles());
    // On another machine its own line would name another address.
    let mut places = [1, 2, 3];
    places[id - 1] = 4;
    let second = ensemble.member(4, id, &ensemble.servers(&places));

    let refused = format!("it says that it is server {id}, which is connected from 127.0.0.1:");
    ensemble.members[leader - 1].wait_for_log(&refused);
    second.wait_for_log("if it refused this server, its log says why");

    assert!(!second.log().contains(IN_STEP), "{}", second.log());
    assert_eq!(second.signal("TERM").0, Some(0));
    assert_eq!(ensemble.lost_roles(), lost, "nobody's part has ended");
    ensemble.conclude(&memory);
}
