//! Quotas that are set through one server, counted by all and enforced by whoever leads.

use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::support::process::Kind;
use crate::support::wire::{Acl, Client, Error, Op, flags};

const IDS: [Id; 3] = [1, 2, 3];
const SESSION_MS: i32 = 20_000;
const QUOTA_EXCEEDED: i32 = -125;
const COUNT_TIME_MAX: Duration = Duration::from_secs(10);
/// At most three znodes, the one with the quota among them, and 12 bytes.
const LIMITS: &[u8] = b"count=-1,bytes=-1=;byteHardLimit=12;countHardLimit=3";
const NOTHING: &[u8] = b"count=0,bytes=0";

#[test]
fn quotas_are_enforced_by_whoever_leads() {
    let apache = Kind::Release("3.9.5");
    let kinds = [(3, apache), (2, Kind::Zabra), (1, apache)];
    let roles = IDS.map(|id| (id, Role::Participant));
    let mut ensemble = Ensemble::with("quotas", Reconfig::Off, &roles, "enforceQuota=true\n");
    ensemble.start_all(&kinds);
    for id in IDS {
        limited(&ensemble, "apache-leads", id);
    }
    // What was set and counted under one leader holds under the next.
    set(&mut open(&ensemble, 2), "/held");
    ensemble.end(1, End::Stop);
    ensemble.start(1, Kind::Zabra);
    ensemble.settle();
    ensemble.end(3, End::Stop);
    ensemble.settle();
    ensemble.start(3, apache);
    ensemble.settle();
    assert_eq!(ensemble.leader(), 2, "one of ours");
    exceed(&ensemble, &mut open(&ensemble, 3), "/held");
    for id in IDS {
        limited(&ensemble, "zabra-leads", id);
    }
    ensemble.tree();
}

fn open(ensemble: &Ensemble, id: Id) -> Client {
    let mut client = Client::open(ensemble.address(id), SESSION_MS).unwrap();
    client.sync("/").unwrap();
    client
}

/// Sets a quota through this member, exceeds it through the next.
fn limited(ensemble: &Ensemble, name: &str, id: Id) {
    let path = format!("/{name}-{id}");
    let (mut setter, mut writer) = (open(ensemble, id), open(ensemble, id % 3 + 1));
    set(&mut setter, &path);
    writer.sync("/").unwrap();
    exceed(ensemble, &mut writer, &path);
    setter.sync("/").unwrap();
    let stats = format!("/zookeeper/quota{path}/zookeeper_stats");
    let counted = [&mut setter, &mut writer].map(|client| {
        let (data, _) = client.data(&stats, false).unwrap();
        String::from_utf8(data.unwrap()).unwrap()
    });
    let [here, there] = &counted;
    assert_eq!(here, there);
    assert!(here.starts_with("count=3,bytes=12"), "{here}");
    setter.close().unwrap();
    writer.close().unwrap();
}

/// As zkCli's `setquota` does.
fn set(client: &mut Client, path: &str) {
    let (open, persistent) = (Acl::open(), flags::PERSISTENT);
    client
        .create(path, Some(b"1234"), &open, persistent)
        .unwrap();
    let quota = format!("/zookeeper/quota{path}");
    client.create(&quota, None, &open, persistent).unwrap();
    let limits = format!("{quota}/zookeeper_limits");
    client
        .create(&limits, Some(LIMITS), &open, persistent)
        .unwrap();
    let stats = format!("{quota}/zookeeper_stats");
    client
        .create(&stats, Some(NOTHING), &open, persistent)
        .unwrap();
}

/// Up to the limits, and beyond.
fn exceed(ensemble: &Ensemble, client: &mut Client, path: &str) {
    let (open, persistent) = (Acl::open(), flags::PERSISTENT);
    let at = |name: &str| format!("{path}/{name}");
    client
        .create(&at("a"), Some(b"12"), &open, persistent)
        .unwrap();
    counted(ensemble, path, "count=2,bytes=6");
    refused(client.set_data(&at("a"), Some(b"123456789"), 0).err());
    client
        .create(&at("b"), Some(b"12"), &open, persistent)
        .unwrap();
    counted(ensemble, path, "count=3,bytes=8");
    refused(client.create(&at("c"), None, &open, persistent).err());
    refused(client.create(&at("d"), None, &open, flags::EPHEMERAL).err());
    let part = Op::SetData {
        path,
        data: Some(b"123456789"),
        version: -1,
    };
    let results = client.multi(&[part]).unwrap();
    assert_eq!(results, [QUOTA_EXCEEDED]);
    client.set_data(&at("b"), Some(b"123456"), 0).unwrap();
    client.set_data(&at("b"), Some(b"654321"), 1).unwrap();
}

/// Waits until everybody counts so: a leader of Apache's judges by what it has applied, and a
/// follower's client may have its answer before that.
fn counted(ensemble: &Ensemble, path: &str, expected: &str) {
    let end = Instant::now() + COUNT_TIME_MAX;
    let stats = format!("/zookeeper/quota{path}/zookeeper_stats");
    for id in IDS {
        let mut client = open(ensemble, id);
        loop {
            let data = client.data(&stats, false).unwrap().0.unwrap();
            if data.starts_with(expected.as_bytes()) {
                break;
            }
            let found = String::from_utf8_lossy(&data);
            assert!(
                Instant::now() < end,
                "{id}: expected {expected}, found {found}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        client.close().unwrap();
    }
}

fn refused(error: Option<Error>) {
    assert!(
        matches!(error, Some(Error::Code(QUOTA_EXCEEDED))),
        "{error:?}"
    );
}
