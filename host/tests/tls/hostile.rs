//! Whoever should not get in does not, the log says why, and others are served on.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Instant, SystemTime};

use crate::support::raw::Raw;
use crate::support::wire::{self, Client};
use crate::support::witness::Witness;
use crate::tunnel::{Tunnel, client, client_of, handshake, word};
use crate::{Authority, Secure};

const MIB: u64 = 1 << 20;
const SESSION_MS: i32 = 20_000;
const CLOSED_MAX: Duration = Duration::from_secs(20);
/// More than the server lets be under way.
const HALF_OPEN: usize = 3000;
const WORD_TIME_MAX: Duration = Duration::from_secs(10);

#[test]
fn certificates_that_are_not_good_are_refused_with_the_reason() {
    let secure = Secure::start("tls-wrong", &[]);
    let good = secure.certify("good");
    let stranger = Authority::new("somebody else").certify("mallory", &[]);
    let day = Duration::from_secs(24 * 3600);
    let ended = secure
        .authority
        .certify_until("late", &[], SystemTime::now() - day);
    let early = secure
        .authority
        .certify_until("early", &[], SystemTime::now() + 400 * day);
    for (own, reason) in [
        (None, "it shows no certificate"),
        (Some(&stranger), "nobody in the trust store has signed"),
        (Some(&ended), "its certificate has expired"),
        (Some(&early), "its certificate is not valid yet"),
    ] {
        let config = client(&secure.authority, own);
        let answer = word(&config, secure.address, "ruok");
        assert!(answer.is_err(), "{reason}: {answer:?}");
        secure.server.wait_for_log(reason);
    }
    let config = client(&secure.authority, Some(&good));
    assert_eq!(word(&config, secure.address, "ruok").unwrap(), "imok");
}

#[test]
fn plain_client_is_refused_where_tls_is_spoken() {
    let secure = Secure::start("tls-plain", &[]);
    assert!(Client::open(secure.address, SESSION_MS).is_err());
    secure.server.wait_for_log("what it sends is not TLS");
    let mut word = Raw::connect(secure.address).unwrap();
    word.send(b"ruok").unwrap();
    word.finish_sending().unwrap();
    assert!(word.is_closed_within(CLOSED_MAX));
}

#[test]
fn tls_client_is_refused_where_none_is_spoken() {
    let secure = Secure::start("tls-reverse", &[]);
    let config = client(&secure.authority, None);
    assert!(word(&config, secure.server.address, "ruok").is_err());
    let answer = wire::word(secure.server.address, "ruok", WORD_TIME_MAX);
    assert_eq!(answer.unwrap(), "imok");
}

#[test]
fn garbage_is_refused_at_every_place() {
    let secure = Secure::start("tls-garbage", &["ssl.clientAuth=none"]);
    let hello: &[u8] = &[0x16, 3, 1, 0xff, 0xff];
    let empty: &[u8] = &[0x16, 3, 1, 0, 0];
    let long_message: &[u8] = &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    for bytes in [hello, empty, long_message, &[0; 64], &[0xff; 4096]] {
        let mut raw = Raw::connect(secure.address).unwrap();
        // It may be closed before all is sent.
        let _ = raw.send(bytes);
        let _ = raw.finish_sending();
        assert!(raw.is_closed_within(CLOSED_MAX), "{bytes:x?}");
    }
    // Behind a good handshake, which with TLS 1.2 is over for both when the client knows it.
    let config = client_of(&secure.authority, None, &[&rustls::version::TLS12]);
    let (_, mut stream) = handshake(&config, secure.address).unwrap();
    stream.write_all(&[0x17, 3, 3, 0, 32]).unwrap();
    stream.write_all(&[7; 32]).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    secure
        .server
        .wait_for_log("TLS connection of a client closed");
    assert_eq!(word(&config, secure.address, "ruok").unwrap(), "imok");
}

#[test]
fn half_open_handshakes_by_the_thousand_keep_nobody_out() {
    let secure = Secure::start("tls-half-open", &["ssl.clientAuth=none"]);
    let config = client(&secure.authority, None);
    let tunnel = Tunnel::new(std::sync::Arc::clone(&config), secure.address);
    let witness = Witness::start(tunnel.address);
    let before = secure.server.memory_bytes_most().unwrap_or(0);
    let mut open = Vec::new();
    for number in 0..HALF_OPEN {
        // When its descriptors are all taken, the server closes what comes.
        let Ok(mut stream) = TcpStream::connect(secure.address) else {
            continue;
        };
        if number % 3 == 1 {
            // A hello of 16 KiB that does not come.
            let _ = stream.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]);
        }
        open.push(stream);
        // Ours goes on with some of them.
        if open.len() > 800 {
            open.drain(..400);
        }
    }
    let begun = Instant::now();
    assert_eq!(word(&config, secure.address, "ruok").unwrap(), "imok");
    assert!(begun.elapsed() < WORD_TIME_MAX, "{:?}", begun.elapsed());
    let account = witness.conclude();
    assert!(account.slowest < Duration::from_secs(3), "{account:?}");
    let after = secure.server.memory_bytes_most().unwrap_or(0);
    assert!(after - before < 64 * MIB, "{before} to {after}");
}

#[test]
fn oldest_handshake_gives_way_when_all_places_are_taken() {
    let secure = Secure::start(
        "tls-places",
        &[
            "ssl.clientAuth=none",
            "netty.server.outstandingHandshake.limit=5",
        ],
    );
    let mut oldest = Raw::connect(secure.address).unwrap();
    let others: Vec<_> = (0..5).map(|_| Raw::connect(secure.address)).collect();
    assert!(oldest.is_closed_within(Duration::from_secs(5)));
    secure.server.wait_for_log("5 TLS handshakes are under way");
    let config = client(&secure.authority, None);
    assert_eq!(word(&config, secure.address, "ruok").unwrap(), "imok");
    drop(others);
}

#[test]
fn handshake_that_stands_still_is_given_up() {
    let secure = Secure::start("tls-slow", &["ssl.clientAuth=none"]);
    let mut silent = Raw::connect(secure.address).unwrap();
    assert!(silent.is_closed_within(CLOSED_MAX));
    secure
        .server
        .wait_for_log("the TLS handshake was not done within 10000 ms");
}

#[test]
fn storm_of_handshakes_does_not_stop_those_who_are_served() {
    let secure = Secure::start("tls-storm", &["ssl.clientAuth=none"]);
    let config = client(&secure.authority, None);
    let tunnel = Tunnel::new(std::sync::Arc::clone(&config), secure.address);
    let witness = Witness::start(tunnel.address);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while begun.elapsed() < Duration::from_secs(3) {
                    handshake(&config, secure.address).unwrap();
                }
            });
        }
    });
    let account = witness.conclude();
    assert!(account.rounds > 20, "{account:?}");
    assert!(account.slowest < Duration::from_secs(2), "{account:?}");
}
