//! Requests that are many, large, or whose answers nobody reads.

use core::time::Duration;
use std::io::Read as _;
use std::thread;
use std::time::Instant;

use crate::support::raw::{Raw, handshake, request};
use crate::support::wire::{Acl, Client, Op, Reader, Writer, flags, op, word};
use crate::{Cost, LITTLE, MIB, beside_a_witness};

/// Requests as long and as expensive as they can be: their own work cannot be divided.
const LARGE: Cost = Cost {
    memory_bytes_max: 300 * MIB,
    answer_ms_max: 6000,
};

const SESSION_TIMEOUT_MS: i32 = 30_000;
const MARSHALLING_ERROR: i32 = -5;
const INVALID_ACL: i32 = -114;

fn read_of(path: &str) -> Writer {
    let mut body = Writer::default();
    body.text(path).byte(0);
    body
}

fn create_of(path: &str, data: &[u8]) -> Writer {
    let mut body = Writer::default();
    body.text(path).buffer(Some(data));
    body.acl(&Acl::open()).int(flags::PERSISTENT);
    body
}

#[test]
fn multis_without_end_or_with_a_hundred_thousand_operations() {
    let options = ["jute.maxbuffer=4194304"];
    beside_a_witness("multis", &options, &LARGE, |server| {
        let mut connection = Raw::open(server.address).unwrap();
        let check = Op::Check {
            path: "/",
            version: -1,
        };
        let mut endless = Writer::default();
        for _ in 0..100_000 {
            endless.part(&check);
        }
        connection.request(1, op::MULTI, &endless).unwrap();
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!(reply.code, MARSHALLING_ERROR);
        endless.int(op::ERROR).byte(1).int(-1);
        connection.request(2, op::MULTI, &endless).unwrap();
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!((reply.xid, reply.code), (2, 0));
        // One result each, and an end.
        assert_eq!(reply.body.len(), 100_000 * 9 + 9);
        // Whatever comes before the last that fails, is undone.
        let mut failing = Writer::default();
        for number in 0..40_000 {
            failing.part(&Op::Create {
                path: &format!("/m{number}"),
                data: None,
                flags: flags::PERSISTENT,
            });
        }
        failing.part(&Op::Check {
            path: "/none",
            version: 0,
        });
        failing.int(op::ERROR).byte(1).int(-1);
        connection.request(3, op::MULTI, &failing).unwrap();
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!((reply.xid, reply.code), (3, 0));
        let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        assert_eq!(client.children("/").unwrap().1.num_children, 2);
    });
}

#[test]
fn whoever_does_not_read_large_replies_is_served_no_more_of_them() {
    beside_a_witness("unread-replies", &[], &LARGE, |server| {
        let mut writer = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        let data = vec![7; 1_000_000];
        writer
            .create("/large", Some(&data), &Acl::open(), flags::PERSISTENT)
            .unwrap();
        let requests: Vec<u8> = (0..1000)
            .flat_map(|xid| request(xid, op::GET_DATA, &read_of("/large")))
            .collect();
        let mut unread: Vec<Raw> = (0..20)
            .map(|_| {
                let mut connection = Raw::open(server.address).unwrap();
                connection.send(&requests).unwrap();
                connection
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        // They are served as soon as they read.
        let connection = unread.first_mut().unwrap();
        for xid in 0..100 {
            let reply = connection.reply().unwrap().expect("an answer");
            assert_eq!((reply.xid, reply.code), (xid, 0));
        }
    });
}

#[test]
fn reads_behind_a_write_are_answered_at_the_readers_pace() {
    beside_a_witness("reads-behind-a-write", &[], &LARGE, |server| {
        let mut connection = Raw::open(server.address).unwrap();
        let mut requests = request(1, op::CREATE, &create_of("/large", &[7; 1_000_000]));
        for xid in 2..=20 {
            requests.extend(request(xid, op::GET_DATA, &read_of("/large")));
        }
        connection.send(&requests).unwrap();
        for xid in 1..=20 {
            let reply = connection
                .reply()
                .unwrap_or_else(|error| panic!("no answer to {xid}: {error}"))
                .expect("an answer");
            assert_eq!((reply.xid, reply.code), (xid, 0));
        }
    });
}

#[test]
fn long_answers_that_wait_for_a_write_do_not_pile_up() {
    beside_a_witness("long-answers", &[], &LARGE, |server| {
        let mut writer = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        let data = vec![7; 1_000_000];
        writer
            .create("/large", Some(&data), &Acl::open(), flags::PERSISTENT)
            .unwrap();
        let mut reads = Writer::default();
        for _ in 0..60 {
            reads.int(op::GET_DATA).byte(0).int(-1);
            reads.text("/large").byte(0);
        }
        reads.int(op::ERROR).byte(1).int(-1);
        let mut set = Writer::default();
        set.text("/large").buffer(Some(&data)).int(-1);
        // Two writes, and between them reads that must be answered before the second is.
        let mut connection = Raw::open(server.address).unwrap();
        let mut requests = request(0, op::SET_DATA, &set);
        for xid in 1..=20 {
            requests.extend(request(xid, op::MULTI_READ, &reads));
        }
        for xid in 21..=40 {
            requests.extend(request(xid, op::GET_DATA, &read_of("/large")));
        }
        requests.extend(request(41, op::SET_DATA, &set));
        connection.send(&requests).unwrap();
        thread::sleep(Duration::from_millis(500));
        for xid in 0..=41 {
            let reply = connection.reply().unwrap().expect("an answer");
            let code = if (1..=20).contains(&xid) {
                // Sixty megabytes are no answer.
                MARSHALLING_ERROR
            } else {
                0
            };
            assert_eq!((reply.xid, reply.code), (xid, code));
        }
    });
}

#[test]
fn identities_and_what_auth_stands_for_are_bounded() {
    beside_a_witness("identities", &[], &LARGE, |server| {
        let auth = |user: &str| {
            let mut body = Writer::default();
            body.int(0).text("digest").buffer(Some(user.as_bytes()));
            request(-4, op::AUTH, &body)
        };
        let mut connection = Raw::open(server.address).unwrap();
        for number in 0..100 {
            connection.send(&auth(&format!("user-{number}:p"))).unwrap();
            let reply = connection.reply().unwrap().expect("an answer");
            assert_eq!((reply.xid, reply.code), (-4, 0));
        }
        // Each entry would become a hundred.
        let entries: Vec<Acl> = (0..40_000)
            .map(|perms| Acl::new(perms, "auth", ""))
            .collect();
        let mut body = Writer::default();
        body.text("/acl").buffer(None).acl(&entries).int(0);
        connection.request(1, op::CREATE, &body).unwrap();
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!((reply.xid, reply.code), (1, INVALID_ACL));
        let mut body = Writer::default();
        body.text("/acl").buffer(None);
        body.acl(&[Acl::new(31, "auth", "")]).int(0);
        connection.request(2, op::CREATE, &body).unwrap();
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!((reply.xid, reply.code), (2, 0));
        for long in ["u", "v", "w"] {
            // The server may have closed it.
            let _ = connection.send(&auth(&format!("{}:p", long.repeat(600_000))));
        }
        assert!(connection.is_closed_within(Duration::from_secs(10)));
        server.wait_for_log("it claims more identities than anybody has");
    });
}

#[test]
fn whoever_asks_for_long_work_waits_for_others_in_between() {
    beside_a_witness("long-work", &[], &LITTLE, |server| {
        let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        client
            .create("/p", None, &Acl::open(), flags::PERSISTENT)
            .unwrap();
        for block in 0..10 {
            let paths: Vec<String> = (0..1000)
                .map(|number| format!("/p/{block}-{number}"))
                .collect();
            let parts: Vec<Op<'_>> = paths
                .iter()
                .map(|path| Op::Create {
                    path,
                    data: None,
                    flags: flags::PERSISTENT,
                })
                .collect();
            client.multi(&parts).unwrap();
        }
        let mut connection = Raw::open(server.address).unwrap();
        let mut path = Writer::default();
        path.text("/p");
        let count = request(1, op::GET_ALL_CHILDREN_NUMBER, &path);
        connection.send(&count.repeat(2000)).unwrap();
        for _ in 0..2000 {
            let reply = connection.reply().unwrap().expect("an answer");
            assert_eq!(
                (reply.code, Reader(&reply.body).int().unwrap()),
                (0, 10_000)
            );
        }
    });
}

#[test]
fn whoever_does_not_read_notifications_is_closed() {
    beside_a_witness("unread-notifications", &[], &LARGE, |server| {
        let mut watcher = Raw::open(server.address).unwrap();
        let path = format!("/{}", "n".repeat(100_000));
        let mut writer = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        writer
            .create(&path, None, &Acl::open(), flags::PERSISTENT)
            .unwrap();
        let mut body = Writer::default();
        body.text(&path).int(1);
        watcher.request(1, op::ADD_WATCH, &body).unwrap();
        let reply = watcher.reply().unwrap().expect("an answer");
        assert_eq!(reply.code, 0);
        let end = Instant::now() + Duration::from_secs(60);
        while !server.log().contains("it does not read its notifications") {
            for _ in 0..20 {
                writer.set_data(&path, None, -1).unwrap();
            }
            assert!(Instant::now() < end, "{}", server.log_end());
        }
    });
}

#[test]
fn watches_on_a_hundred_thousand_paths_are_set_at_once() {
    let options = ["jute.maxbuffer=4194304"];
    beside_a_witness("set-watches", &options, &LARGE, |server| {
        let mut connection = Raw::open(server.address).unwrap();
        let mut body = Writer::default();
        // None exists, so the first are told of at once, and the others wait for them to.
        body.long(0).int(50_000);
        for number in 0..50_000 {
            body.text(&format!("/gone-{number}"));
        }
        body.int(50_000);
        for number in 0..50_000 {
            body.text(&format!("/wanted-{number}"));
        }
        body.int(0);
        connection.request(-8, op::SET_WATCHES, &body).unwrap();
        for _ in 0..50_000 {
            let event = connection.reply().unwrap().expect("an event");
            assert_eq!(event.xid, -1);
        }
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!((reply.xid, reply.code), (-8, 0));
        let mut writer = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        writer
            .create("/wanted-49999", None, &Acl::open(), flags::PERSISTENT)
            .unwrap();
        let event = connection.reply().unwrap().expect("an event");
        let mut reader = Reader(&event.body);
        let (kind, _state) = (reader.int().unwrap(), reader.int().unwrap());
        let path = reader.text().unwrap();
        assert_eq!((event.xid, kind, path.as_str()), (-1, 1, "/wanted-49999"));
        assert!(
            word(server.address, "wchs", Duration::from_secs(5))
                .unwrap()
                .contains("49999")
        );
        drop(connection);
        let end = Instant::now() + Duration::from_secs(10);
        while !word(server.address, "wchs", Duration::from_secs(5))
            .unwrap()
            .contains("Total watches:0")
        {
            assert!(Instant::now() < end, "its watches stay though it is gone");
        }
    });
}

#[test]
fn fifty_thousand_children_are_listed() {
    beside_a_witness("children", &[], &LARGE, |server| {
        let mut client = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        client
            .create("/p", None, &Acl::open(), flags::PERSISTENT)
            .unwrap();
        for block in 0..50 {
            let paths: Vec<String> = (0..1000)
                .map(|number| format!("/p/child-{:05}", block * 1000 + number))
                .collect();
            let parts: Vec<Op<'_>> = paths
                .iter()
                .map(|path| Op::Create {
                    path,
                    data: None,
                    flags: flags::PERSISTENT,
                })
                .collect();
            client.multi(&parts).unwrap();
        }
        let mut lists: Vec<Raw> = (0..10)
            .map(|_| {
                let mut connection = Raw::open(server.address).unwrap();
                for xid in 0..20 {
                    let body = read_of("/p");
                    connection.request(xid, op::GET_CHILDREN2, &body).unwrap();
                }
                connection
            })
            .collect();
        for connection in &mut lists {
            for xid in 0..20 {
                let reply = connection.reply().unwrap().expect("an answer");
                assert_eq!((reply.xid, reply.code), (xid, 0));
                assert_eq!(Reader(&reply.body).int().unwrap(), 50_000);
            }
        }
    });
}

#[test]
fn a_path_of_ten_thousand_segments_is_a_path() {
    beside_a_witness("deep", &[], &LARGE, |server| {
        let mut connection = Raw::open(server.address).unwrap();
        let deepest = "/d".repeat(10_000);
        let ends: Vec<usize> = (1..=10_000).map(|depth| depth * 2).collect();
        for block in ends.chunks(40) {
            let mut body = Writer::default();
            for &end in block {
                body.part(&Op::Create {
                    path: deepest.get(..end).unwrap(),
                    data: None,
                    flags: flags::PERSISTENT,
                });
            }
            body.int(op::ERROR).byte(1).int(-1);
            connection.request(1, op::MULTI, &body).unwrap();
            let reply = connection.reply().unwrap().expect("an answer");
            assert_eq!(reply.code, 0);
        }
        connection
            .request(2, op::GET_DATA, &read_of(&deepest))
            .unwrap();
        assert_eq!(connection.reply().unwrap().expect("an answer").code, 0);
        // Recursive watches look at every znode above a change.
        let mut body = Writer::default();
        body.text("/d").int(1);
        connection.request(3, op::ADD_WATCH, &body).unwrap();
        assert_eq!(connection.reply().unwrap().expect("an answer").code, 0);
        let mut body = Writer::default();
        body.text(&deepest).buffer(None).int(-1);
        connection.request(4, op::SET_DATA, &body).unwrap();
        let event = connection.reply().unwrap().expect("an event");
        let reply = connection.reply().unwrap().expect("an answer");
        assert_eq!((event.xid, reply.xid, reply.code), (-1, 4, 0));
    });
}

#[test]
fn frames_that_come_byte_by_byte_hold_nobody_up() {
    beside_a_witness("byte-by-byte", &[], &LITTLE, |server| {
        let mut handshaking: Vec<Raw> = (0..20)
            .map(|_| Raw::connect(server.address).unwrap())
            .collect();
        let hello = handshake(SESSION_TIMEOUT_MS, 0, None);
        let mut framed = Writer::default();
        framed.buffer(Some(hello.bytes()));
        let creates = request(1, op::CREATE, &create_of("/slow", b"slow"));
        let bytes: Vec<u8> = [framed.bytes(), &creates].concat();
        for byte in bytes {
            for connection in &mut handshaking {
                connection.send(&[byte]).unwrap();
            }
            thread::sleep(Duration::from_millis(2));
        }
        let mut created = 0;
        for connection in &mut handshaking {
            assert_eq!(
                connection.frame_back().unwrap().expect("a greeting").len(),
                37
            );
            let reply = connection.reply().unwrap().expect("an answer");
            created += i32::from(reply.code == 0);
        }
        assert_eq!(created, 1, "one creates it, the others find it there");
    });
}

#[test]
fn large_writes_wait_for_the_disk_outside_the_server() {
    beside_a_witness("large-writes", &[], &LARGE, |server| {
        let mut setup = Client::open(server.address, SESSION_TIMEOUT_MS).unwrap();
        setup
            .create("/w", None, &Acl::open(), flags::PERSISTENT)
            .unwrap();
        let mut body = Writer::default();
        body.text("/w").buffer(Some(&[7; 1_000_000])).int(-1);
        let frame = request(1, op::SET_DATA, &body);
        let flood = |address| {
            // Each leaves what it has sent behind, unanswered.
            for _ in 0..10 {
                let mut connection = Raw::open(address).unwrap();
                for _ in 0..20 {
                    if connection.send(&frame).is_err() {
                        break;
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| flood(server.address));
            }
        });
    });
}

#[test]
fn floods_of_words_are_answered() {
    beside_a_witness("words", &["maxClientCnxns=0"], &LITTLE, |server| {
        for _ in 0..20 {
            let mut asked = Vec::new();
            for name in [
                "srvr", "mntr", "dump", "cons", "wchc", "conf", "ruok", "nope",
            ] {
                for _ in 0..5 {
                    let mut connection = Raw::connect(server.address).unwrap();
                    connection.send(name.as_bytes()).unwrap();
                    connection.finish_sending().unwrap();
                    asked.push((name, connection));
                }
            }
            for (name, mut connection) in asked {
                let mut text = String::new();
                connection.stream.read_to_string(&mut text).unwrap();
                assert_eq!(text.is_empty(), name == "nope", "{name}: {text}");
            }
        }
    });
}
