//! A peer that wins the elections and then says what no leader may: a fake, with the id and the
//! ports of a member.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use zabra_core::ids::{Epoch, ServerId, Zxid};
use zabra_core::wire::election::{Frames, Initial, InitialVersion, Notification, State, VERSION};
use zabra_core::wire::quorum::{LeaderInfo, PROTOCOL, Packet, PacketType, Packets};

const POLL: Duration = Duration::from_millis(20);
/// Better than any vote of a young ensemble.
const EPOCH: i64 = 1 << 16;

/// What the fake says to whoever comes to follow it.
pub(crate) type Script = Arc<dyn Fn(&mut Follower) + Send + Sync>;

/// One that came to follow the fake.
pub(crate) struct Follower {
    stream: TcpStream,
    packets: Packets,
    /// The epoch to which it has promised itself, and the one of this leader.
    pub(crate) accepted: i32,
    pub(crate) epoch: i32,
    /// Its last transaction, as ACKEPOCH tells it.
    pub(crate) last: Zxid,
}

impl Follower {
    fn packet(&mut self) -> Option<Packet> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(packet) = self.packets.next().unwrap() {
                return Some(packet);
            }
            let count = self.stream.read(&mut bytes).ok().filter(|&n| n > 0)?;
            self.packets.receive(bytes[..count].to_vec().into());
        }
    }

    /// Until one of this kind comes, or it is gone.
    pub(crate) fn await_packet(&mut self, kind: PacketType) -> Option<Packet> {
        loop {
            let packet = self.packet()?;
            if packet.kind == kind {
                return Some(packet);
            }
        }
    }

    /// It may be gone already; what it thinks of that is in its log.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Like a process that has ended.
    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn say(&mut self, kind: PacketType, zxid: Zxid, data: Option<&[u8]>) {
        let data = data.map(|data| data.to_vec().into());
        let packet = Packet {
            data,
            ..Packet::new(kind, zxid)
        };
        self.bytes(&packet.to_bytes());
    }

    /// As a leader begins: LEADERINFO, and the answer to it.
    pub(crate) fn lead(&mut self) {
        let info = LeaderInfo { protocol: PROTOCOL }.to_bytes();
        let start = Epoch(self.epoch).start();
        self.say(PacketType::LEADER_INFO, start, Some(&info));
        if let Some(answer) = self.await_packet(PacketType::ACK_EPOCH) {
            self.last = answer.zxid;
        }
    }

    /// As one comes to be led: nothing is missing, and a quorum has it.
    pub(crate) fn establish(&mut self) {
        self.lead();
        let (last, start) = (self.last, Epoch(self.epoch).start());
        self.say(PacketType::DIFF, last, None);
        self.say(PacketType::NEW_LEADER, start, None);
        self.await_packet(PacketType::ACK);
        self.say(PacketType::UP_TO_DATE, Zxid(-1), None);
    }
}

/// The fake.
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Fake {
    /// Takes part as server `id` with this quorum port, as peer of those who listen at `election`.
    pub(crate) fn start(
        id: i64,
        quorum: SocketAddr,
        election: &[SocketAddr],
        first: Script,
    ) -> Self {
        let listener = TcpListener::bind(quorum).unwrap();
        listener.set_nonblocking(true).unwrap();
        let script = Arc::new(Mutex::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for &peer in election {
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || votes_for_itself(id, peer, &stop)));
        }
        let (scripts, stopped) = (Arc::clone(&script), Arc::clone(&stop));
        threads.push(thread::spawn(move || {
            let mut followers = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(POLL);
                    continue;
                };
                let script = Arc::clone(&scripts.lock().unwrap());
                followers.push(thread::spawn(move || follow(stream, &script)));
            }
            followers.into_iter().for_each(|one| one.join().unwrap());
        }));
        Self {
            script,
            stop,
            threads,
        }
    }

    /// What it says from the next connection on.
    pub(crate) fn play(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the fake has no mistake of its own");
        }
    }
}

/// Answers every vote with a better one for itself.
fn votes_for_itself(id: i64, peer: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(stream) = TcpStream::connect(peer) {
            vote(id, stream, stop);
        }
        thread::sleep(POLL);
    }
}

fn vote(id: i64, mut stream: TcpStream, stop: &AtomicBool) -> Option<()> {
    stream.set_read_timeout(Some(POLL)).ok()?;
    stream.set_nodelay(true).ok()?;
    let initial = Initial {
        version: InitialVersion::V1,
        server: ServerId(id),
        addresses: vec![("127.0.0.1".to_owned(), 1)],
    };
    stream.write_all(&initial.to_bytes()).ok()?;
    let own = |round, state| Notification {
        state,
        leader: ServerId(id),
        zxid: Zxid(EPOCH << 32 | 1),
        round,
        peer_epoch: EPOCH,
        version: VERSION,
        config: Some(String::new()),
    };
    // It leads, it says, whatever there is.
    stream.write_all(&own(1, State::LEADING).to_frame()).ok()?;
    let mut frames = Frames::new();
    let mut bytes = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => frames.receive(bytes[..count].to_vec().into()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        while let Some(frame) = frames.next().unwrap() {
            let theirs = Notification::decode(&frame).unwrap();
            if theirs.state == State::LOOKING {
                let ours = own(theirs.round, State::LOOKING);
                stream.write_all(&ours.to_frame()).ok()?;
            }
        }
    }
    None
}

fn follow(stream: TcpStream, script: &Script) {
    // Accepted from a listener that does not block.
    stream.set_nonblocking(false).unwrap();
    let time_max = Some(Duration::from_secs(20));
    stream.set_read_timeout(time_max).unwrap();
    stream.set_write_timeout(time_max).unwrap();
    let mut follower = Follower {
        stream,
        packets: Packets::new(1 << 20),
        accepted: 0,
        epoch: 0,
        last: Zxid::ZERO,
    };
    let Some(info) = follower.await_packet(PacketType::FOLLOWER_INFO) else {
        return;
    };
    follower.accepted = info.zxid.epoch().0;
    follower.epoch = follower.accepted + 1;
    script(&mut follower);
    // Until the other side has enough.
    while follower.packet().is_some() {}
}
