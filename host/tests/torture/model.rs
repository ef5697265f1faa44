//! What every znode was at every moment of the history, by an interpreter that shares nothing with
//! the server's but the decoding.

use std::collections::{BTreeMap, BTreeSet};

use zabra_core::wire::client::OpCode;
use zabra_core::wire::txn::{self, CreateKind, Txn};

use super::history::History;
use super::membership::CONFIG;

/// What servers keep there for themselves is not modelled.
const SYSTEM: &str = "/zookeeper";

/// A znode at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) data: Vec<u8>,
    pub(crate) version: i32,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    /// 0: nobody's.
    pub(crate) owner: i64,
}

/// What a transaction was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It was refused with this error.
    Refused(i32),
    Done(OpCode),
}

/// All of it.
#[derive(Default)]
pub(crate) struct Model {
    /// By path: since when it is what, `None` for gone.
    states: BTreeMap<String, Vec<(i64, Option<Node>)>>,
    alive: BTreeSet<i64>,
    /// By session and number of the request: where it is in the order, and what it did.
    pub(crate) requests: BTreeMap<(i64, i32), (i64, Effect)>,
    /// The memberships, each with its transaction and who asked for it.
    pub(crate) memberships: Vec<(i64, (i64, i32), String)>,
    /// Sessions that were ended by nobody's request.
    pub(crate) expired: usize,
}

impl Model {
    /// # Panics
    /// If a transaction does what cannot be done to the state before it, or a request was done
    /// twice.
    pub(crate) fn new(history: &History) -> Self {
        let mut model = Self::default();
        for (&zxid, payload) in history {
            let (header, txn, _digest) =
                txn::decode(payload).unwrap_or_else(|error| panic!("0x{zxid:x}: {error}"));
            assert_eq!(header.zxid.0, zxid, "the log's number is the transaction's");
            let effect = model.apply(zxid, header.client.0, &txn, header.op);
            if let Txn::SetData { path, data, .. } = &txn
                && &**path == CONFIG
            {
                let text = String::from_utf8(data.unwrap_or_default().to_vec());
                let text = text.expect("a membership is text");
                let request = (header.client.0, header.cxid.0);
                model.memberships.push((zxid, request, text));
            }
            if header.cxid.0 != 0 {
                let request = (header.client.0, header.cxid.0);
                let twice = model.requests.insert(request, (zxid, effect));
                assert_eq!(
                    twice, None,
                    "0x{zxid:x}: request {request:x?} is done twice"
                );
            }
            if header.op == OpCode::CLOSE_SESSION && header.cxid.0 == 0 {
                model.expired += 1;
            }
        }
        model
    }

    fn apply(&mut self, zxid: i64, client: i64, txn: &Txn<'_>, op: OpCode) -> Effect {
        match txn {
            Txn::Error(code) => return Effect::Refused(code.0),
            Txn::CreateSession { .. } => {
                assert!(
                    self.alive.insert(client),
                    "0x{zxid:x}: {client:x} begins twice"
                );
            }
            Txn::CloseSession { paths } => self.close(zxid, client, paths.as_deref()),
            Txn::Create {
                path, data, kind, ..
            } => {
                assert_eq!(self.now(path), None, "0x{zxid:x}: {path} is created twice");
                let ephemeral = *kind == CreateKind::Ephemeral;
                let alive = !ephemeral || self.alive.contains(&client);
                assert!(
                    alive,
                    "0x{zxid:x}: {path} is of session {client:x}, which is over"
                );
                let node = Node {
                    data: data.unwrap_or_default().to_vec(),
                    version: 0,
                    created: zxid,
                    modified: zxid,
                    owner: if ephemeral { client } else { 0 },
                };
                self.put(path, zxid, Some(node));
            }
            Txn::Delete { path } => {
                assert!(self.now(path).is_some(), "0x{zxid:x}: {path} is not there");
                self.put(path, zxid, None);
            }
            Txn::SetData {
                path,
                data,
                version,
            } if !path.starts_with(SYSTEM) => {
                let Some(mut node) = self.now(path).cloned() else {
                    panic!("0x{zxid:x}: {path} is not there to be set");
                };
                assert_eq!(*version, node.version + 1, "0x{zxid:x}: version of {path}");
                node.data = data.unwrap_or_default().to_vec();
                node.version = *version;
                node.modified = zxid;
                self.put(path, zxid, Some(node));
            }
            Txn::Multi(parts) => {
                for (_, part) in parts {
                    if let Txn::Error(code) = part
                        && code.0 != 0
                    {
                        return Effect::Refused(code.0);
                    }
                }
                for (op, part) in parts {
                    self.apply(zxid, client, part, *op);
                }
            }
            Txn::SetData { .. } | Txn::SetAcl { .. } | Txn::Check { .. } => {}
        }
        Effect::Done(op)
    }

    fn close(&mut self, zxid: i64, client: i64, paths: Option<&[zabra_core::jute::Text<'_>]>) {
        self.alive.remove(&client);
        let owned: BTreeSet<String> = self
            .paths(zxid)
            .filter(|(_, node)| node.owner == client)
            .map(|(path, _)| path.to_owned())
            .collect();
        let said = paths.unwrap_or_default().iter();
        let said: BTreeSet<String> = said
            .filter_map(|path| path.0.as_deref())
            .map(str::to_owned)
            .collect();
        assert_eq!(
            said, owned,
            "0x{zxid:x}: the ephemerals of session {client:x}"
        );
        for path in owned {
            self.put(&path, zxid, None);
        }
    }

    fn put(&mut self, path: &str, zxid: i64, node: Option<Node>) {
        let states = self.states.entry(path.to_owned()).or_default();
        // The second change by one multi is what is seen.
        if states.last().is_some_and(|last| last.0 == zxid) {
            states.pop();
        }
        states.push((zxid, node));
    }

    fn now(&self, path: &str) -> Option<&Node> {
        self.at(path, i64::MAX)
    }

    /// What a znode was after a transaction; `None` if it was not there.
    pub(crate) fn at(&self, path: &str, zxid: i64) -> Option<&Node> {
        let states = self.states.get(path)?;
        let upto = states.partition_point(|(since, _)| *since <= zxid);
        states.get(upto.checked_sub(1)?)?.1.as_ref()
    }

    /// The last membership up to a transaction; `None` for the first.
    pub(crate) fn membership_at(&self, zxid: i64) -> Option<&str> {
        let upto = self.memberships.partition_point(|it| it.0 <= zxid);
        Some(&self.memberships.get(upto.checked_sub(1)?)?.2)
    }

    /// The first change of a znode after a transaction, and whether it is there then.
    pub(crate) fn next_change(&self, path: &str, zxid: i64) -> Option<(i64, bool)> {
        let states = self.states.get(path)?;
        let upto = states.partition_point(|(since, _)| *since <= zxid);
        states.get(upto).map(|(zxid, node)| (*zxid, node.is_some()))
    }

    /// All znodes after a transaction.
    pub(crate) fn paths(&self, zxid: i64) -> impl Iterator<Item = (&str, &Node)> {
        let paths = self.states.keys();
        paths.filter_map(move |path| Some((path.as_str(), self.at(path, zxid)?)))
    }
}
