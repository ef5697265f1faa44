//! The driver against real sockets, with a machine that does as each frame says.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the machine fails on what it does not expect"
)]

#[path = "driver/echo.rs"]
mod echo;
#[path = "driver/peers.rs"]
mod peers;
#[path = "driver/server.rs"]
mod server;

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use zabra::net::{ListenOptions, Listeners};
use zabra_core::ids::Zxid;
use zabra_core::server::Event;

use echo::{
    BLOCK, CLOSE, ECHO, EVENT, FACTS, FLOOD, PANIC, PAUSE, PIECE, STORE, STREAM, TIMER, UNSENT_MAX,
};
use server::{Server, frame, number};

const MIB: usize = 1024 * 1024;

#[test]
fn pipelined_frames_share_a_step() {
    let server = Server::start();
    let mut client = server.connect();
    client.round_trip();
    let before = server.gauges.steps();
    let frames = frame(ECHO, b"0123456789").repeat(1000);

    client.send(&frames);

    assert_eq!(client.take(frames.len()), frames);
    // 15 kB may arrive as several segments, but not as a thousand.
    let steps = server.gauges.steps() - before;
    assert!(steps <= 10, "{steps} steps");
}

#[test]
fn connections_ready_together_share_a_step() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(server::Client::round_trip);
    clients[0].send(&frame(BLOCK, b""));
    server
        .watch
        .until("the step is held up", |seen| seen.received == 50 * 11 + 5);
    let before = server.gauges.steps();
    for client in &mut clients[1..] {
        client.send(&frame(ECHO, b"hello"));
    }

    server.unblock.send(()).unwrap();

    for client in &mut clients[1..] {
        assert_eq!(client.take(10), frame(ECHO, b"hello"));
    }
    // The held up step counts as one of them.
    let steps = server.gauges.steps() - before;
    assert!(steps <= 4, "{steps} steps");
}

#[test]
fn frames_may_arrive_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect();
    for byte in frame(ECHO, b"slow") {
        client.send(&[byte]);
    }
    assert_eq!(client.take(9), frame(ECHO, b"slow"));
}

#[test]
fn large_frames_go_both_ways() {
    let server = Server::start();
    let mut client = server.connect();
    let payload: Vec<u8> = (0..3 * MIB)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect();
    let large = frame(ECHO, &payload);
    let mut writer = client.socket.try_clone().unwrap();
    let to_send = large.clone();
    let writing = std::thread::spawn(move || writer.write_all(&to_send).unwrap());

    assert!(client.take(large.len()) == large, "the echo differs");

    writing.join().unwrap();
}

#[test]
fn every_sent_byte_is_reported_flushed() {
    let server = Server::start();
    let mut client = server.connect();
    // Much more than a socket's buffer takes at once.
    client.send(&number(FLOOD, 32 * MIB));
    client.take(32 * MIB);
    // The last of it may be reported with the next step only.
    client.round_trip();
    let seen = server
        .watch
        .until("all is flushed", |seen| seen.flushed >= 32 * MIB);
    assert_eq!(seen.sent, 32 * MIB + 11);

    client.round_trip();

    let seen = server.watch.until("the replies are, but the last", |seen| {
        seen.sent == 32 * MIB + 22
    });
    assert_eq!((seen.sent, seen.flushed), (32 * MIB + 22, 32 * MIB + 11));
}

#[test]
fn small_replies_cost_no_step_for_being_flushed() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..100 {
        client.round_trip();
    }
    assert_eq!(server.watch.seen().flush_steps, 0);
}

#[test]
fn client_that_never_reads_holds_no_more_than_the_machine_sends() {
    let server = Server::start();
    let mut client = server.connect();
    let mut other = server.connect();
    client.send(&number(STREAM, 64 * MIB));
    let stuck = server
        .watch
        .until("its buffers are full", |seen| seen.sent > 2 * UNSENT_MAX);
    for _ in 0..100 {
        other.round_trip();
    }
    assert!(stuck.sent < 64 * MIB);

    assert!(client.take(64 * MIB).iter().all(|&byte| byte == 0));

    client.round_trip();
    let seen = server
        .watch
        .until("all is flushed", |seen| seen.flushed >= 64 * MIB);
    assert!(seen.unsent_max <= UNSENT_MAX);
    drop((client, other));
    server.until_no_sockets();
}

#[test]
fn paused_link_is_not_read_and_costs_no_cpu() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&number(PAUSE, 400));
    server
        .watch
        .until("it is paused", |seen| seen.pauses.len() == 1);
    let echo = frame(ECHO, &[1; 1000]);
    let frames = echo.repeat(8 * MIB / echo.len());
    let mut writer = client.socket.try_clone().unwrap();
    let to_send = frames.clone();
    let writing = std::thread::spawn(move || writer.write_all(&to_send).unwrap());

    let seen = server
        .watch
        .until("it is resumed", |seen| seen.pauses.len() == 2);

    let [(cpu_before, received_before), (cpu, received)] = seen.pauses[..] else {
        panic!()
    };
    // What a read under way brought, and no more.
    assert!(received <= received_before + PIECE, "{seen:?}");
    let busy = cpu.saturating_sub(cpu_before);
    assert!(busy <= Duration::from_millis(100), "{busy:?} of 400 ms");
    assert!(client.take(frames.len()) == frames, "the echo differs");
    writing.join().unwrap();
}

#[test]
fn paused_link_hears_at_once_of_every_flushed_byte() {
    let server = Server::start();
    let mut client = server.connect();
    client.round_trip();
    client.send(&[number(FLOOD, 100), number(PAUSE, 0)].concat());
    client.take(100);
    // Else a machine that waits for the last of them would wait for ever.
    server
        .watch
        .until("all is flushed", |seen| seen.flushed == 111);
}

#[test]
fn reset_is_noticed_while_paused() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&number(PAUSE, 0));
    server
        .watch
        .until("it is paused", |seen| seen.pauses.len() == 1);
    client.send(&frame(ECHO, b"never read"));

    reset(client.socket);

    server.watch.until("it is closed", |seen| seen.closed == 1);
    server.until_no_sockets();
}

#[test]
fn reset_is_noticed_while_much_is_to_be_sent() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&number(FLOOD, 64 * MIB));
    client.take(MIB);

    reset(client.socket);

    let seen = server.watch.until("it is closed", |seen| seen.closed == 1);
    assert!(seen.flushed < seen.sent);
    server.until_no_sockets();
}

#[test]
fn close_sends_the_last_bytes_despite_unread_input() {
    let server = Server::start();
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(&number(CLOSE, 4 * MIB));
        // Nobody will read these. A reset for them would cost the client its reply.
        for _ in 0..5 {
            client.send(&[0; 100_000]);
        }
        assert_eq!(client.rest().len(), 4 * MIB);
    }
    server.until_no_sockets();
    let seen = server.watch.seen();
    assert_eq!(seen.stray, 0, "inputs after the close");
    assert_eq!(seen.closed, 0, "reported though the machine closed it");
}

#[test]
fn close_gives_up_on_a_client_that_never_reads() {
    let server = Server::start();
    let mut client = server.connect();
    let start = Instant::now();
    client.send(&number(CLOSE, 64 * MIB));
    server
        .watch
        .until("it is sent", |seen| seen.sent == 64 * MIB);

    server.until_no_sockets();

    assert!(
        start.elapsed() >= Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn close_does_not_wait_long_for_a_client_that_stays() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&number(CLOSE, 10));
    assert_eq!(client.rest().len(), 10);

    server.until_no_sockets();
}

#[test]
fn half_closed_client_gets_its_answers() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&frame(ECHO, b"last"));
    client.send(&number(FLOOD, 8 * MIB));
    client.socket.shutdown(Shutdown::Write).unwrap();

    assert_eq!(client.rest().len(), 9 + 8 * MIB);

    server.watch.until("it is closed", |seen| seen.closed == 1);
    server.until_no_sockets();
}

#[test]
fn half_closed_client_gets_the_facts_it_asked_for() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&frame(FACTS, b""));
    client.socket.shutdown(Shutdown::Write).unwrap();

    assert_eq!(client.rest(), 42_u64.to_be_bytes());

    server.watch.until("it is closed", |seen| seen.closed == 1);
    server.until_no_sockets();
}

#[test]
fn facts_that_panic_end_the_driver() {
    let mut server = Server::start_with(|| panic!("no facts"));
    let mut client = server.connect();
    client.send(&frame(FACTS, b""));
    let error = server.end().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server cannot go on: the thread of facts panicked"
    );
}

#[test]
fn durable_operations_are_answered_and_no_others() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&frame(STORE, b"first"));
    client.round_trip();

    server.permit.send(()).unwrap();

    assert_eq!(client.take(10), frame(STORE, b"first"));
}

#[test]
fn operations_of_a_step_are_handed_over_together() {
    let server = Server::start();
    let mut client = server.connect();
    let mut other = server.connect();
    other.send(&frame(BLOCK, b""));
    server
        .watch
        .until("the step is held up", |seen| seen.received == 5);
    client.send(&frame(STORE, b"w").repeat(100));

    server.unblock.send(()).unwrap();
    server.permit.send(()).unwrap();

    assert_eq!(client.take(600), frame(STORE, b"w").repeat(100));
    assert_eq!(server.handovers.load(Ordering::SeqCst), 1);
}

#[test]
fn timers_fire_neither_early_nor_for_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    client.round_trip();
    let before = server.gauges.steps();
    let start = Instant::now();
    client.send(&[number(TIMER, 200), number(TIMER, 30)].concat());

    assert_eq!(client.take(9), number(TIMER, 30));
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(client.take(9), number(TIMER, 200));
    assert!(start.elapsed() >= Duration::from_millis(200));

    // One for the frames, or two, and one for each timer.
    assert!(server.gauges.steps() - before <= 4);
}

#[test]
fn events_reach_the_host() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&frame(EVENT, b""));
    let event = server.events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(event, Event::DigestMismatch { zxid: Zxid(7) });
}

#[test]
fn stop_lets_the_store_finish_and_answers() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.send(&frame(STORE, b"late"));
    client.round_trip();
    server.ask_to_stop();
    let refused = Instant::now();
    while TcpStream::connect(server.addr).is_ok() {
        assert!(refused.elapsed() < Duration::from_secs(5), "still accepts");
    }

    server.permit.send(()).unwrap();

    assert_eq!(client.rest(), frame(STORE, b"late"));
    drop(client);
    server.end().unwrap();
    server.until_no_sockets();
    assert!(server.warnings.lock().unwrap().is_empty());
}

#[test]
fn stop_does_not_wait_for_ever_for_the_store() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.send(&frame(STORE, b"never"));
    client.round_trip();

    server.ask_to_stop();

    assert!(client.rest().is_empty());
    drop(client);
    server.end().unwrap();
    let warnings = server.warnings.lock().unwrap();
    assert_eq!(
        *warnings,
        ["stopped before the store was done: operation 0 of 1 is durable"]
    );
}

#[test]
fn failed_lane_ends_the_driver() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.round_trip();

    server.inbox.fail("disk full");

    assert_eq!(
        server.end().unwrap_err().to_string(),
        "the server cannot go on: disk full"
    );
}

#[test]
fn panic_of_the_machine_is_the_caller_s() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.send(&[frame(ECHO, b"not performed"), frame(PANIC, b"")].concat());
    assert!(server.panicked());
    match client.socket.read(&mut [0]) {
        Ok(count) => assert_eq!(
            count, 0,
            "an output of the step that panicked was performed"
        ),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn port_in_use_is_named() {
    let server = Server::start();
    let error = Listeners::bind(&[server.addr], ListenOptions::default()).unwrap_err();
    let port = server.addr.port();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on 127.0.0.1:{port}: another process listens on port {port} already"
        )
    );
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let server = Server::start();
    let mut survivor = server.connect();
    for round in 0..10_000 {
        let mut socket = TcpStream::connect(server.addr).unwrap();
        match round % 4 {
            0 => {}
            1 => socket.write_all(&frame(ECHO, b"unread")).unwrap(),
            2 => socket.write_all(&[0, 0]).unwrap(),
            _ => reset(socket),
        }
    }
    survivor.round_trip();

    let seen = server
        .watch
        .until("all are closed", |seen| seen.closed >= 10_000);

    assert_eq!(seen.opened, 10_001);
    assert_eq!(seen.stray, 0);
    assert_eq!(server.gauges.links(), 1);
    drop(survivor);
    server.until_no_sockets();
}

fn reset(socket: TcpStream) {
    let socket = socket2::Socket::from(socket);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}
