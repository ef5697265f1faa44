//! Drivers that dial each other, listen for each other, and begin anew.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, Type};
use zabra::net::{ListenOptions, PeerOptions};
use zabra::server::driver::{DriverError, Ended};
use zabra_core::link::Port;
use zabra_core::zab::MembershipOp;

use crate::echo::{BLOCK, DIAL, DIAL_AND_CLOSE, Dialled, LISTEN, MEMBERS, RESTART, TELL};
use crate::server::{Client, Server, bind, frame, number};

const PATIENCE: Duration = Duration::from_secs(20);
/// What a dialled link sends before it is there, and what an echo therefore answers.
const EARLY: &[u8] = b"\0\0\0\x06eearly";

fn peer() -> Server {
    Server::start_peer(bind(ListenOptions::default()), fast())
}

fn fast() -> PeerOptions {
    PeerOptions {
        bind_pause: Duration::from_millis(10),
        ..PeerOptions::default()
    }
}

/// An address of this machine on which nobody listens, and nobody else soon will.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// A socket that never answers: its queue of connections is full.
struct Deaf {
    addr: SocketAddr,
    _socket: Socket,
    _waiting: Vec<Socket>,
}

fn deaf() -> Deaf {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let addr: SockAddr = socket.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Connected ones fill the queue; the first that is not says that it is full.
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = client.connect_timeout(&addr, Duration::from_millis(200));
        let full = connected.is_err();
        waiting.push(client);
        if full {
            break;
        }
        assert!(waiting.len() < 100, "the queue has no end");
    }
    Deaf {
        addr: addr.as_socket().unwrap(),
        _socket: socket,
        _waiting: waiting,
    }
}

fn dial(client: &mut Client, how: u8, port: u8, timeout_ms: u32, to: &str) {
    let rest = [&[port], &timeout_ms.to_be_bytes() as &[u8], to.as_bytes()].concat();
    client.send(&frame(how, &rest));
}

fn listen(client: &mut Client, port: u8, at: &str) {
    client.send(&frame(LISTEN, &[&[port], at.as_bytes()].concat()));
    client.round_trip();
}

/// Waits for the only link that was dialled to be gone.
fn closed(server: &Server, nth: usize) -> Dialled {
    let seen = server.watch.until("it is closed", |seen| {
        seen.dialled.get(nth).is_some_and(|d| d.closed)
    });
    seen.dialled[nth].clone()
}

fn received(server: &Server, nth: usize, bytes: &[u8]) -> Dialled {
    let seen = server.watch.until("it has received", |seen| {
        seen.dialled
            .get(nth)
            .is_some_and(|d| d.received.ends_with(bytes))
    });
    seen.dialled[nth].clone()
}

/// Connects as soon as somebody listens.
fn connect(addr: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(addr) {
            Ok(socket) => return socket,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{addr}: {error}"),
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn refuses(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn only_warning(server: &Server) -> String {
    let warnings = server.warnings.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    warnings[0].clone()
}

#[test]
fn peers_talk_on_both_ports() {
    let (caller, called) = (peer(), peer());
    let (mut call, mut answer) = (caller.connect(), called.connect());
    for (nth, port, name) in [(0, b'e', Port::Election), (1, b'q', Port::Quorum)] {
        let addr = free();
        listen(&mut answer, port, &addr.to_string());
        drop(connect(addr));

        dial(&mut call, DIAL, port, 20_000, &addr.to_string());

        let link = received(&caller, nth, EARLY);
        assert_eq!(link.opened, Some((name, addr)));
        let large = frame(crate::echo::ECHO, &vec![7; 3 << 20]);
        call.send(&frame(TELL, &large));
        let link = received(&caller, nth, &large);
        assert_eq!(link.received.len(), EARLY.len() + large.len());
        let accepted = called.watch.seen().accepted;
        assert!(accepted.contains(&name), "{accepted:?}");
    }
    assert!(caller.warnings.lock().unwrap().is_empty());
}

/// Whether the kernel probes the connection from this port to that one: Linux tells of the timer.
#[cfg(target_os = "linux")]
fn is_probed(from: u16, to: u16) -> bool {
    const KEEPALIVE: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let found = table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = |field: &str| u16::from_str_radix(field.split_once(':')?.1, 16).ok();
        let ours = port(fields[1]) == Some(from) && port(fields[2]) == Some(to);
        ours.then(|| fields[5].starts_with(KEEPALIVE))
    });
    found.expect("the connection is there")
}

#[cfg(target_os = "linux")]
#[test]
fn kernel_probes_connections_of_peers_if_it_is_to() {
    for keep_alive in [false, true] {
        let options = PeerOptions {
            keep_alive,
            ..fast()
        };
        let called = Server::start_peer(bind(ListenOptions::default()), options);
        let mut answer = called.connect();
        let addr = free();
        listen(&mut answer, b'e', &addr.to_string());
        let accepted = connect(addr);
        let local = accepted.local_addr().unwrap();
        answer.round_trip();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        dial(&mut answer, DIAL, b'q', 20_000, &there.to_string());
        let (dialled, from) = listener.accept().unwrap();
        // Prepared in the step after it was connected, of which what it sends is a sign.
        (&dialled).read_exact(&mut [0; 1]).unwrap();

        assert_eq!(is_probed(addr.port(), local.port()), keep_alive);
        assert_eq!(is_probed(from.port(), there.port()), keep_alive);
    }
}

#[test]
fn refused_dial_is_closed_and_says_where() {
    let server = peer();
    let mut client = server.connect();
    let nobody = free();

    dial(&mut client, DIAL, b'e', 20_000, &nobody.to_string());

    let link = closed(&server, 0);
    assert_eq!(link.opened, None);
    let warning = only_warning(&server);
    let expected =
        format!("cannot connect to a peer's election port: {nobody}: Connection refused");
    assert!(warning.starts_with(&expected), "{warning}");
    // Said once, however often it is tried.
    dial(&mut client, DIAL, b'e', 20_000, &nobody.to_string());
    closed(&server, 1);
    only_warning(&server);
}

#[test]
fn unanswered_dial_is_closed_in_time() {
    let server = peer();
    let mut client = server.connect();
    let deaf = deaf();
    let begun = Instant::now();

    dial(&mut client, DIAL, b'q', 100, &deaf.addr.to_string());

    closed(&server, 0);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let addr = deaf.addr;
    assert_eq!(
        only_warning(&server),
        format!("cannot connect to the leader's quorum port: {addr}: no answer within 100 ms")
    );
}

#[test]
fn unknown_name_is_closed_and_named() {
    let server = peer();
    let mut client = server.connect();

    dial(&mut client, DIAL, b'e', 20_000, "nobody.invalid:3888");

    closed(&server, 0);
    let warning = only_warning(&server);
    let words = "nobody.invalid:3888: the name cannot be resolved: ";
    assert!(warning.contains(words), "{warning}");
}

#[test]
fn first_address_that_answers_is_taken() {
    let (caller, called) = (peer(), peer());
    let (mut call, mut answer) = (caller.connect(), called.connect());
    let (nobody, deaf, addr) = (free(), deaf(), free());
    listen(&mut answer, b'e', &addr.to_string());
    drop(connect(addr));

    let to = format!("{nobody}|{}|{addr}|nobody.invalid:1", deaf.addr);
    dial(&mut call, DIAL, b'e', 20_000, &to);

    let link = received(&caller, 0, EARLY);
    assert_eq!(link.opened, Some((Port::Election, addr)));
    assert!(caller.warnings.lock().unwrap().is_empty());
}

#[test]
fn every_dead_address_is_named() {
    let server = peer();
    let mut client = server.connect();
    let (nobody, deaf) = (free(), deaf());

    let to = format!("{}|{nobody}|nobody.invalid:1", deaf.addr);
    dial(&mut client, DIAL, b'e', 100, &to);

    closed(&server, 0);
    let warning = only_warning(&server);
    for words in [
        format!("{}: no answer within 100 ms; ", deaf.addr),
        format!("{nobody}: Connection refused"),
        "nobody.invalid:1: ".to_owned(),
    ] {
        assert!(warning.contains(&words), "{words:?} in {warning}");
    }
}

#[test]
fn names_are_resolved() {
    let (caller, called) = (peer(), peer());
    let (mut call, mut answer) = (caller.connect(), called.connect());
    let addr = free();
    let name = format!("localhost:{}", addr.port());
    listen(&mut answer, b'q', &name);
    drop(connect(addr));

    dial(&mut call, DIAL, b'q', 20_000, &name);

    let (port, to) = received(&caller, 0, EARLY).opened.unwrap();
    assert_eq!((port, to.port()), (Port::Quorum, addr.port()));
}

#[test]
fn nothing_is_heard_of_a_dial_that_was_closed() {
    let (caller, called) = (peer(), peer());
    let (mut call, mut answer) = (caller.connect(), called.connect());
    let (nobody, deaf, addr) = (free(), deaf(), free());
    listen(&mut answer, b'e', &addr.to_string());
    drop(connect(addr));

    for to in [nobody, deaf.addr, addr] {
        dial(&mut call, DIAL_AND_CLOSE, b'e', 1, &to.to_string());
    }
    // These end later than those would have.
    for nth in 3..6 {
        dial(&mut call, DIAL, b'e', 50, &deaf.addr.to_string());
        closed(&caller, nth);
    }

    let dialled = caller.watch.seen().dialled;
    for link in &dialled[..3] {
        assert!(link.opened.is_none() && !link.closed && link.received.is_empty());
    }
    drop(call);
    caller.until_no_sockets();
}

#[test]
fn stop_does_not_wait_for_what_is_dialled() {
    let mut server = peer();
    let mut client = server.connect();
    let deaf = deaf();
    dial(&mut client, DIAL, b'e', 60_000, &deaf.addr.to_string());
    client.round_trip();

    server.ask_to_stop();

    assert!(client.rest().is_empty());
    drop(client);
    assert_eq!(server.end().unwrap(), Ended::Stopped);
    assert!(!server.watch.seen().dialled[0].closed);
}

#[test]
fn listening_moves_and_leaves_connections_alone() {
    let (caller, called) = (peer(), peer());
    let (mut call, mut answer) = (caller.connect(), called.connect());
    let (first, kept, second) = (free(), free(), free());
    listen(&mut answer, b'e', &format!("{first}|{kept}"));
    drop((connect(first), connect(kept)));
    dial(&mut call, DIAL, b'e', 20_000, &first.to_string());
    received(&caller, 0, EARLY);
    // Not accepted yet while the step is held up: only a socket that stays open keeps it.
    answer.send(&frame(BLOCK, b""));
    let mut waiting = TcpStream::connect(kept).unwrap();
    called.unblock.send(()).unwrap();

    listen(&mut answer, b'e', &format!("{kept}|{second}"));

    assert!(refuses(first));
    drop(connect(second));
    std::io::Write::write_all(&mut waiting, EARLY).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.read_exact(&mut [0; EARLY.len()]).unwrap();
    call.send(&frame(TELL, &frame(crate::echo::ECHO, b"still there")));
    received(&caller, 0, b"still there");

    listen(&mut answer, b'e', "");

    assert!(refuses(kept) && refuses(second));
    // The same place again, at once and in another way.
    listen(&mut answer, b'e', &format!("localhost:{}", kept.port()));
    drop(connect(kept));
    listen(&mut answer, b'e', &format!("0.0.0.0:{}", kept.port()));
    drop(connect(kept));
    assert!(called.warnings.lock().unwrap().is_empty());
}

#[test]
fn election_port_that_stays_taken_ends_the_driver() {
    let mut server = peer();
    let mut client = server.connect();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();

    client.send(&frame(
        LISTEN,
        &[b"e", addr.to_string().as_bytes()].concat(),
    ));

    let error = server.end().unwrap_err();
    assert!(matches!(error, DriverError::Bind(_)), "{error:?}");
    let expected = format!("cannot listen for elections on {addr}: Address already in use");
    assert!(error.to_string().starts_with(&expected), "{error}");
    let warning = only_warning(&server);
    assert!(warning.starts_with(&expected), "{warning}");
    assert!(warning.ends_with("; trying again"), "{warning}");
}

#[test]
fn quorum_port_that_is_taken_is_tried_until_it_is_free() {
    let server = peer();
    let mut client = server.connect();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    listen(&mut client, b'q', &addr.to_string());
    let begun = Instant::now();
    while server.warnings.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        thread::park_timeout(Duration::from_millis(1));
    }

    drop(taken);

    drop(connect(addr));
    let warning = only_warning(&server);
    let expected = format!("cannot listen for learners on {addr}: ");
    assert!(warning.starts_with(&expected), "{warning}");
}

#[test]
fn peers_take_no_room_of_clients() {
    let options = ListenOptions {
        sockets_max: Some(2),
        ..ListenOptions::default()
    };
    let peers = PeerOptions {
        sockets_max: Some(3),
        ..fast()
    };
    let server = Server::start_peer(bind(options), peers);
    let mut client = server.connect();
    let addr = free();
    listen(&mut client, b'q', &addr.to_string());
    let held: Vec<TcpStream> = (0..3).map(|_| connect(addr)).collect();
    server
        .watch
        .until("they are accepted", |seen| seen.accepted.len() == 3);

    let mut one_more = connect(addr);

    assert_eq!(one_more.read(&mut [0]).unwrap(), 0);
    let mut other = server.connect();
    other.round_trip();
    let warning = only_warning(&server);
    assert!(warning.contains("3 of peers are open"), "{warning}");
    drop(held);
}

#[test]
fn restart_closes_everything_and_comes_back() {
    let listeners = bind(ListenOptions::default());
    let again = listeners.try_clone().unwrap();
    let mut server = Server::start_peer(listeners, fast());
    let addr = server.addr;
    let other = peer();
    let (mut client, mut idle) = (server.connect(), server.connect());
    idle.round_trip();
    let (election, quorum, elsewhere) = (free(), free(), free());
    listen(&mut client, b'e', &election.to_string());
    listen(&mut client, b'q', &quorum.to_string());
    listen(&mut other.connect(), b'q', &elsewhere.to_string());
    drop(connect(elsewhere));
    dial(&mut client, DIAL, b'q', 20_000, &elsewhere.to_string());
    received(&server, 0, EARLY);
    let deaf = deaf();
    dial(&mut client, DIAL, b'e', 60_000, &deaf.addr.to_string());
    let mut learner = connect(quorum);
    client.send(&frame(crate::echo::STORE, b"not durable yet"));
    drop(connect(election));
    client.round_trip();

    client.send(&frame(RESTART, b"its history is another"));

    let ended = server.end().unwrap();
    assert_eq!(ended, Ended::Restart("its history is another".to_owned()));
    // Nobody waits for the store; whoever was there is not there any more.
    for socket in [&mut client.socket, &mut idle.socket, &mut learner] {
        match socket.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    other.watch.until("the peer is gone", |seen| {
        seen.closed >= seen.accepted.len()
    });
    assert_eq!((server.gauges.sockets(), server.gauges.links()), (0, 0));
    assert!(refuses(election) && refuses(quorum));

    // Clients' port was never lost: this one waits in its queue.
    let mut early = server.connect();
    let server = Server::start_peer(again, fast());
    assert_eq!(server.addr, addr);
    early.round_trip();
    listen(&mut early, b'q', &quorum.to_string());
    drop(connect(quorum));
    // The numbers of links and operations begin anew.
    early.send(&frame(crate::echo::STORE, b"first"));
    server.permit.send(()).unwrap();
    let stored = frame(crate::echo::STORE, b"first");
    assert_eq!(early.take(stored.len()), stored);
}

#[test]
fn membership_is_written_before_anything_is_sent() {
    let mut server = peer();
    let mut client = server.connect();
    let seven = number(MEMBERS, 7);

    client.send(&seven);

    assert_eq!(client.take(seven.len()), seven);
    match server.members.lock().unwrap().written.as_slice() {
        [MembershipOp::Active(membership)] => assert_eq!(membership.version, 7),
        other => panic!("{other:?}"),
    }

    server.members.lock().unwrap().full = true;
    client.send(&number(MEMBERS, 8));

    let error = server.end().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server cannot go on: no room for zoo.cfg.dynamic"
    );
    match client.socket.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0, "sent though nothing was written"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
