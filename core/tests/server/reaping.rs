//! When containers and TTL znodes go.

use zabra_core::server::Config;
use zabra_core::wire::client::{CreateRequest, CreateTtlRequest, OpCode};

use crate::bench::{A, B, Bench, entry, ping, request};

fn special<'a>(path: &'a str, flags: i32) -> CreateRequest<'a> {
    CreateRequest {
        path: path.into(),
        data: None,
        acl: vec![entry(31, "world", "anyone")],
        flags,
    }
}

fn ttl(path: &str, ttl_ms: i64) -> Vec<u8> {
    let create = special(path, 5);
    request(1, OpCode::CREATE_TTL, &CreateTtlRequest { create, ttl_ms })
}

fn container(path: &str) -> Vec<u8> {
    request(1, OpCode::CREATE_CONTAINER, &special(path, 4))
}

/// A server that searches each minute, and has taken these requests.
fn bench(config: Config, frames: &[Vec<u8>]) -> Bench {
    let mut bench = Bench::with(Config {
        extended_types: true,
        container_check_ms: 60_000,
        ..config
    });
    bench.send(A, frames);
    bench.store();
    assert_eq!(bench.frames(A).len(), frames.len());
    bench
}

/// Lets time pass; says how many transactions come of it.
fn proposed(bench: &mut Bench, ms: u64) -> usize {
    for link in [A, B] {
        bench.send(link, &[ping()]);
    }
    let before = bench.txns.len();
    bench.wait_ms(ms);
    bench.store();
    bench.txns.len() - before
}

#[test]
fn they_are_searched_for_once_a_period() {
    let mut bench = bench(Config::default(), &[ttl("/a", 1)]);
    assert_eq!(proposed(&mut bench, 20_000), 0);
    assert_eq!(proposed(&mut bench, 20_000), 0);
    assert_eq!(proposed(&mut bench, 19_999), 0);
    assert!(bench.server.tree().find("/a").is_some());
    assert_eq!(proposed(&mut bench, 1), 1);
    assert_eq!(bench.server.tree().find("/a"), None);
}

#[test]
fn they_are_deleted_no_faster_than_a_minute_allows() {
    let config = Config {
        container_deletes_per_minute_max: 60,
        ..Config::default()
    };
    let mut bench = bench(config, &[ttl("/a", 1), ttl("/b", 1), ttl("/c", 1)]);
    for _ in 0..3 {
        proposed(&mut bench, 20_000);
    }
    let left = |bench: &Bench| bench.server.tree().node_count();
    let all = left(&bench);
    let next = bench.now.instant.plus_ms(1000);
    assert_eq!(bench.wake, Some(next));
    assert_eq!(proposed(&mut bench, 999), 0);
    assert_eq!(proposed(&mut bench, 1), 1);
    assert_eq!(left(&bench), all - 1);
    assert_eq!(proposed(&mut bench, 1000), 1);
    assert_eq!(left(&bench), all - 2);
    assert_eq!(proposed(&mut bench, 1000), 0);
}

#[test]
fn a_container_that_was_never_used_goes_only_if_there_is_an_age_for_that() {
    for (age_ms, goes) in [(0, false), (60_000, false), (59_999, true)] {
        let config = Config {
            container_never_used_ms_max: age_ms,
            ..Config::default()
        };
        let mut bench = bench(config, &[container("/a")]);
        for _ in 0..3 {
            proposed(&mut bench, 20_000);
        }
        let there = bench.server.tree().find("/a").is_some();
        assert_eq!(there, !goes, "{age_ms}");
    }
}
