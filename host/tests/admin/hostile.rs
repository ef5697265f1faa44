//! Whoever comes to the AdminServer with bad manners is bounded, and the server serves on.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::support::http::get;
use super::support::process::{Directory, Kind, Server};
use super::support::wire::{Acl, Client, flags};
use super::{Administered, SESSION_MS};

const CONNECTIONS: usize = 1000;
/// `HEAD_TIME_MAX`, with room for a busy machine.
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);

/// Whether the other end closes within this time.
fn closes(mut stream: &TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
    }
}

#[test]
fn connections_by_the_thousand_take_nothing_from_clients() {
    let it = Administered::start("admin-thousand", &["admin.idleTimeout=3000"]);
    let before = it.server.memory_bytes_most();
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        let Ok(mut stream) = TcpStream::connect(it.admin) else {
            continue;
        };
        // Some begin a request and never end it, some say nothing.
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /commands/mntr HTTP/1.1\r\nHost: x\r\nX-A: ");
        }
        held.push(stream);
    }
    let mut client = Client::open(it.server.address, SESSION_MS).unwrap();
    for number in 0..100 {
        let path = format!("/n{number}");
        client
            .create(&path, None, &Acl::open(), flags::PERSISTENT)
            .unwrap();
    }
    if let (Some(before), Some(after)) = (before, it.server.memory_bytes_most()) {
        let grown = after.saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes more than {before}");
    }
    // Those beyond the bound are closed at once, and the others when they have been idle.
    for stream in &held {
        assert!(closes(stream, HEAD_TIME_MAX));
    }
    assert_eq!(get(it.admin, "/health/ready").unwrap().status, 200);
}

#[test]
fn head_that_comes_byte_by_byte_is_given_up() {
    let it = Administered::start("admin-slow", &[]);
    let mut slow = TcpStream::connect(it.admin).unwrap();
    slow.set_nodelay(true).unwrap();
    let begun = Instant::now();
    let mut written = slow.write_all(b"GET /commands/mntr HTTP/1.1\r\n");
    while written.is_ok() && begun.elapsed() < HEAD_TIME_MAX {
        std::thread::sleep(Duration::from_millis(200));
        written = slow.write_all(b"a");
        if closes(&slow, Duration::from_millis(1)) {
            break;
        }
    }
    assert!(begun.elapsed() < HEAD_TIME_MAX, "it was served for ever");
}

#[test]
fn head_without_end_is_refused() {
    let it = Administered::start("admin-long", &[]);
    let mut stream = TcpStream::connect(it.admin).unwrap();
    let line = format!("X-Long: {}\r\n", "x".repeat(4000));
    let _ = stream.write_all(b"GET /commands/mntr HTTP/1.1\r\nHost: x\r\n");
    let sent = (0..10_000).find(|_| stream.write_all(line.as_bytes()).is_err());
    assert!(sent.is_some_and(|sent| sent < 5000), "it reads on for ever");
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"\0\0\0\x2d\0\0\0\0",
        b"\r\n\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(it.admin).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert!(closes(&stream, HEAD_TIME_MAX));
    }
    assert_eq!(get(it.admin, "/health/live").unwrap().status, 200);
}

#[test]
fn taken_port_is_a_warning() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new("admin-taken");
    let port = format!("admin.serverPort={}", taken.local_addr().unwrap().port());
    let options = ["admin.enableServer=true", &port];
    let server = Server::start(Kind::Zabra, directory.path(), &options);
    let log = server.log();
    assert!(log.contains("no AdminServer: cannot listen on"), "{log}");
    assert!(log.contains("WARN"), "{log}");
}
