//! What simulated clients ask for.
//!
//! Few paths and few names, so that clients meet; a good part of what they ask is wrong in some
//! way.

use std::rc::Rc;

use crate::plan::Plan;
use crate::rng::Rng;
use crate::wire::{Acl, ConnectRequest, CreateKind, Op, RawExpect, Rearm};

/// A client, as it knows itself.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// Where it connects from.
    pub address: String,
    /// Its session, or 0.
    pub session: i64,
    /// The session's password.
    pub password: Vec<u8>,
    /// The highest zxid it has received.
    pub last_zxid: i64,
    /// The number of its last request.
    pub xid: i32,
    /// The link it uses.
    pub link: Option<u64>,
    /// Whether the server has answered its request to connect.
    pub is_open: bool,
    /// Received bytes that are not a whole frame yet.
    pub partial: Vec<u8>,
    /// How often it has acted.
    pub acts: u64,
    /// How often it has connected.
    pub connects: u64,
    /// The timeout it asks for.
    pub timeout_ms: i32,
    /// Requests without answer.
    pub outstanding: u64,
    /// Since when it is silent, in microseconds; until when, if it is.
    pub silent_until: u64,
}

impl Client {
    /// The client of this number.
    #[must_use]
    pub fn new(id: u64, plan: &Plan, rng: &mut Rng) -> Self {
        let tick = u64::from(plan.tick_ms);
        Self {
            id,
            address: format!("10.0.{}.{}", id / 200, id % 200 + 1),
            session: 0,
            password: vec![0; 16],
            last_zxid: 0,
            xid: 0,
            link: None,
            is_open: false,
            partial: Vec::new(),
            acts: 0,
            connects: 0,
            timeout_ms: i32::try_from(rng.between(0, 25 * tick)).unwrap_or(0),
            outstanding: 0,
            silent_until: 0,
        }
    }

    /// How it asks to connect.
    pub fn connect(&mut self, rng: &mut Rng) -> ConnectRequest {
        self.connects += 1;
        self.is_open = false;
        self.partial.clear();
        self.outstanding = 0;
        let mut request = ConnectRequest {
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.timeout_ms,
            session: self.session,
            password: self.password.clone(),
            read_only: (!rng.one_in(4)).then(|| rng.one_in(3)),
        };
        if rng.one_in(40) {
            request.last_zxid_seen += 1_000_000;
        }
        if self.session != 0 && rng.one_in(15) {
            request.password = vec![7; 16];
        }
        if rng.one_in(8) {
            request.timeout_ms = rng
                .pick(&[-1, 0, 100, 1000, i32::MAX])
                .copied()
                .unwrap_or(0);
        }
        request
    }

    /// Forgets its session.
    pub fn forget_session(&mut self) {
        self.session = 0;
        self.password = vec![0; 16];
    }

    /// The number of the next request.
    pub const fn next_xid(&mut self, op: &Op) -> i32 {
        self.xid += 1;
        match op {
            Op::Ping => -2,
            _ => self.xid,
        }
    }

    /// What it sends right after it connected.
    pub fn greeting(&self, rng: &mut Rng) -> Vec<Op> {
        let mut ops = Vec::new();
        // The first client administers: otherwise a few ACLs would soon lock everybody out.
        if self.id == 0 {
            ops.push(auth("digest", b"super:admin"));
        } else if rng.one_in(2) {
            let secret: &[u8] = if self.id.is_multiple_of(2) {
                b"alice:a"
            } else {
                b"bob:b"
            };
            ops.push(auth("digest", secret));
        }
        if self.connects > 1 && rng.percent(70) {
            ops.push(self.rearm(rng));
        }
        ops
    }

    fn rearm(&self, rng: &mut Rng) -> Op {
        let paths = |rng: &mut Rng| -> Vec<String> {
            let count = rng.below(4);
            (0..count).map(|_| path(rng)).collect()
        };
        let back = rng.below(20).cast_signed();
        Op::SetWatches(Box::new(Rearm {
            relative_zxid: (self.last_zxid - back).max(0),
            data: paths(rng),
            exist: paths(rng),
            child: paths(rng),
            persistent: rng.one_in(2).then(|| (paths(rng), paths(rng))),
        }))
    }

    /// What it asks next.
    pub fn next_op(&self, rng: &mut Rng, plan: &Plan) -> Op {
        if self.id == 0 && rng.one_in(12) {
            return quota(rng);
        }
        match rng.weighted(&plan.weights) {
            0 | 1 => create(rng),
            2 => delete(rng),
            3 | 4 => set_data(rng),
            5 => Op::SetAcl {
                path: plain_path(rng),
                acl: acl(rng),
                version: version(rng),
            },
            6 => Op::Exists {
                path: odd_path(rng),
                watch: rng.one_in(2),
            },
            7 => Op::GetData {
                path: odd_path(rng),
                watch: rng.one_in(2),
            },
            8 => Op::GetChildren {
                path: odd_path(rng),
                watch: rng.one_in(2),
                stat: rng.one_in(2),
            },
            9 => Op::GetAcl {
                path: odd_path(rng),
            },
            10 | 11 => Op::Multi(multi(rng)),
            12 => Op::MultiRead(multi_read(rng)),
            13 => Op::Sync { path: path(rng) },
            14 => Op::AddWatch {
                path: path(rng),
                mode: *rng.pick(&[0, 0, 0, 0, 1, 1, 1, 1, 2]).unwrap_or(&0),
            },
            15 => Op::RemoveWatches {
                path: path(rng),
                kind: i32::try_from(rng.below(7)).unwrap_or(0),
            },
            16 => Op::CheckWatches {
                path: path(rng),
                kind: i32::try_from(rng.below(7)).unwrap_or(0),
            },
            17 => self.rearm(rng),
            18 => Op::GetEphemerals {
                prefix: rng
                    .pick(&["", "/", "/a", "/b/x", " "])
                    .copied()
                    .unwrap_or("")
                    .to_owned(),
            },
            19 => Op::GetAllChildrenNumber {
                path: odd_path(rng),
            },
            20 => rare(rng),
            _ => Op::Ping,
        }
    }
}

fn auth(scheme: &str, secret: &[u8]) -> Op {
    Op::Auth {
        scheme: scheme.to_owned(),
        auth: secret.to_vec(),
    }
}

fn rare(rng: &mut Rng) -> Op {
    match rng.below(16) {
        0 => auth("digest", b"nocolon"),
        1 => auth("world", b"anyone"),
        2 => auth("ip", b""),
        3 => auth("digest", b"alice:a"),
        4 => Op::CloseSession,
        5 => Op::Raw {
            code: *rng.pick(&[3, 4, 5, 1, 2, 7, 8, 12, 6]).unwrap_or(&3),
            body: vec![0, 0, 0, 9, b'/'],
            expect: RawExpect::Marshalling,
        },
        6 => Op::Raw {
            code: *rng
                .pick(&[0, 10, 13, 23, 99, 1000, -5, 20, -10])
                .unwrap_or(&10),
            body: Vec::new(),
            expect: RawExpect::Unimplemented,
        },
        7 => Op::Multi(vec![Op::Create {
            kind: CreateKind::Create,
            path: "/a".to_owned(),
            data: None,
            acl: None,
            flags: 9,
            ttl: -1,
        }]),
        _ => Op::WhoAmI,
    }
}

/// One of a few paths that are well formed.
#[must_use]
pub fn path(rng: &mut Rng) -> String {
    let mut path = String::new();
    let depth = match rng.below(8) {
        0 => 3,
        1..=3 => 2,
        _ => 1,
    };
    for names in [["a", "b", "c"], ["x", "y", "z"], ["1", "2", "3"]]
        .iter()
        .take(depth)
    {
        path.push('/');
        path.push_str(rng.pick(names).copied().unwrap_or("a"));
    }
    if rng.one_in(25) {
        path.push_str(&format!("{:010}", rng.below(4)));
    }
    path
}

fn odd_path(rng: &mut Rng) -> String {
    if !rng.one_in(8) {
        return path(rng);
    }
    let odd = [
        "",
        "/",
        "/",
        "/zookeeper",
        "/zookeeper/quota",
        "/zookeeper/config",
        "a",
        "/a/",
        "//a",
        "/a/../b",
        "/a\u{1}",
        "/\u{1f600}",
        "/a//x",
        "/a/./x",
        "/\u{e000}",
        "/b\0",
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/zookeeper_stats",
        "/zookeeper/quota/b/x/zookeeper_stats",
        "/ä",
        "/a/x/1/2/3",
    ];
    rng.pick(&odd).copied().unwrap_or("/").to_owned()
}

fn version(rng: &mut Rng) -> i32 {
    match rng.below(4) {
        0 => i32::try_from(rng.below(4)).unwrap_or(0),
        _ => -1,
    }
}

fn data(rng: &mut Rng) -> Option<Rc<[u8]>> {
    let length = match rng.below(40) {
        0..=2 => return None,
        3..=5 => 0,
        6 => rng.between(1000, 40_000),
        _ => rng.between(1, 24),
    };
    let byte = rng.bits().to_le_bytes()[0];
    Some(vec![byte; usize::try_from(length).unwrap_or(0)].into())
}

fn acl(rng: &mut Rng) -> Option<Vec<Acl>> {
    let alice = "alice:AIueg8ag5ALfqeEyKdLnva1Wvi0=";
    let perms = i32::try_from(rng.below(32)).unwrap_or(31);
    let one = |perms, scheme, id| Some(vec![Acl::new(perms, scheme, id)]);
    match rng.below(24) {
        0 => one(1, "world", "anyone"),
        1 => one(perms, "world", "anyone"),
        2 => one(31, "auth", ""),
        3 => one(31, "digest", alice),
        4 => Some(vec![
            Acl::new(1, "world", "anyone"),
            Acl::new(perms, "digest", alice),
        ]),
        5 => one(31, "ip", "10.0.0.0/24"),
        6 => one(31, "ip", "10.0.0.2"),
        7 => match rng.below(10) {
            0 => None,
            1 => Some(Vec::new()),
            2 => one(31, "world", "me"),
            3 => one(31, "digest", "nohash"),
            4 => one(31, "ip", "10.0.0.1/33"),
            5 => one(31, "nobody", "x"),
            6 => one(31, "super", ""),
            7 => Some(vec![Acl {
                perms: 31,
                scheme: Some("auth".to_owned()),
                id: None,
            }]),
            8 => Some(vec![Acl {
                perms: 31,
                scheme: Some("digest".to_owned()),
                id: None,
            }]),
            _ => Some(vec![
                Acl::new(31, "world", "anyone"),
                Acl::new(31, "world", "anyone"),
            ]),
        },
        _ => one(31, "world", "anyone"),
    }
}

fn create(rng: &mut Rng) -> Op {
    let kind = match rng.below(8) {
        0 => CreateKind::Container,
        1 | 2 => CreateKind::Ttl,
        3 | 4 => CreateKind::Create2,
        _ => CreateKind::Create,
    };
    let mut ttl = -1;
    let mut flags = match kind {
        CreateKind::Container => 4,
        CreateKind::Ttl => {
            ttl = rng.between(1, 700).cast_signed();
            i32::try_from(rng.between(5, 6)).unwrap_or(5)
        }
        CreateKind::Create | CreateKind::Create2 => *rng.pick(&[0, 0, 0, 1, 1, 2, 3]).unwrap_or(&0),
    };
    if rng.one_in(30) {
        flags = i32::try_from(rng.below(10)).unwrap_or(9) - 1;
        ttl = *rng.pick(&[-1, 0, 1, (1 << 40) - 1, 1 << 40]).unwrap_or(&0);
    }
    Op::Create {
        kind,
        path: if rng.one_in(12) {
            odd_path(rng)
        } else {
            path(rng)
        },
        data: data(rng),
        acl: acl(rng),
        flags,
        ttl,
    }
}

fn delete(rng: &mut Rng) -> Op {
    Op::Delete {
        path: plain_path(rng),
        version: version(rng),
    }
}

fn set_data(rng: &mut Rng) -> Op {
    Op::SetData {
        path: plain_path(rng),
        data: data(rng),
        version: version(rng),
    }
}

/// Sometimes an odd path, but no quota's, whose content is the server's.
fn plain_path(rng: &mut Rng) -> String {
    if !rng.one_in(12) {
        return path(rng);
    }
    match odd_path(rng) {
        path if path.starts_with("/zookeeper/quota/") => "/zookeeper/quota".to_owned(),
        path => path,
    }
}

fn multi(rng: &mut Rng) -> Vec<Op> {
    let count = rng.below(5);
    (0..count)
        .map(|_| match rng.below(8) {
            0..=2 => match create(rng) {
                // A flag that means nothing makes the whole request undecodable; see `rare`.
                Op::Create {
                    kind,
                    path,
                    data,
                    acl,
                    flags,
                    ttl,
                } => Op::Create {
                    kind,
                    path,
                    data,
                    acl,
                    flags: flags.clamp(0, 6),
                    ttl,
                },
                op => op,
            },
            3 => delete(rng),
            4 | 5 => set_data(rng),
            _ => Op::Check {
                path: path(rng),
                version: version(rng),
            },
        })
        .collect()
}

fn multi_read(rng: &mut Rng) -> Vec<Op> {
    let count = rng.below(4);
    (0..count)
        .map(|_| {
            if rng.one_in(2) {
                Op::GetData {
                    path: path(rng),
                    watch: rng.one_in(4),
                }
            } else {
                Op::GetChildren {
                    path: path(rng),
                    watch: false,
                    stat: false,
                }
            }
        })
        .collect()
}

/// The administrator's steps to a quota, in any order: many of them fail.
///
/// Limits and stats come and go together, so that the stats are always up to date: whether they are
/// counted anew at a start would show otherwise, and that depends on which snapshot is read.
fn quota(rng: &mut Rng) -> Op {
    let quotas = [
        (
            "/zookeeper/quota/a",
            "count=3,bytes=-1=;byteHardLimit=60;countHardLimit=4",
        ),
        ("/zookeeper/quota/b/x", "count=2,bytes=10"),
    ];
    let (path, limits) = rng
        .pick(&quotas)
        .copied()
        .unwrap_or(("/zookeeper/quota/a", ""));
    let create = |path: String, text: &str| Op::Create {
        kind: CreateKind::Create,
        path,
        data: Some(Rc::from(text.as_bytes())),
        acl: Some(vec![Acl::new(31, "world", "anyone")]),
        flags: 0,
        ttl: -1,
    };
    let delete = |path: String| Op::Delete { path, version: -1 };
    let limits_path = format!("{path}/zookeeper_limits");
    let stats_path = format!("{path}/zookeeper_stats");
    match rng.below(10) {
        0 => Op::Multi(vec![delete(stats_path), delete(limits_path)]),
        1 | 2 => create("/zookeeper/quota/b".to_owned(), ""),
        3 | 4 => create(path.to_owned(), ""),
        5 | 6 => Op::GetData {
            path: stats_path,
            watch: true,
        },
        _ => Op::Multi(vec![
            create(limits_path, limits),
            create(stats_path, "count=0,bytes=0"),
        ]),
    }
}
