//! A part of a tree, brought back on its own: into a server that runs, or as a new state.

use zabra_core::error::ErrorCode;
use zabra_core::ids::{SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute;
use zabra_core::path::{self, validate};
use zabra_core::store::Restore as _;
use zabra_core::tree::{CONFIG, Loader, NodeId, SYSTEM, Tree};
use zabra_core::wire::client::{
    CreateRequest, CreateTtlRequest, OpCode, SetAclRequest, SetDataRequest,
};
use zabra_core::wire::records::{Acl, AclText, Perms};
use zabra_core::wire::txn::{CreateKind, Txn, TxnHeader, append_body};

use super::{Client, Error};

/// How many requests are sent before their answers are read.
const WINDOW: usize = 64;

/// The flags of `create`. Source: ZooKeeper `CreateMode`.
const FLAG_PERSISTENT: i32 = 0;
const FLAG_CONTAINER: i32 = 4;
const FLAG_TTL: i32 = 5;

/// What to do about znodes that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Set their data and ACL; what the backup does not have stays.
    Merge,
    /// Change nothing at all.
    Refuse,
}

/// A subtree on its way to another place.
pub struct Subtree {
    znodes: Vec<Znode>,
    /// Where its top goes.
    to: String,
    /// Ephemeral znodes that were left out: their sessions are gone.
    ephemerals: usize,
}

struct Znode {
    path: String,
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    kind: CreateKind,
    ctime: UnixMillis,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Znodes that were created.
    pub created: usize,
    /// Znodes that were there, and were given the data and ACL of the backup.
    pub changed: usize,
    /// Ephemeral znodes that were left out.
    pub ephemerals: usize,
}

impl Subtree {
    /// The znode at `from` and all below it, to be at `to`. Of the whole tree, ZooKeeper's own
    /// znodes are left out.
    ///
    /// # Errors
    /// A path is not valid, there is no such znode, or it is ephemeral.
    pub fn of(tree: &Tree, from: &str, to: &str) -> Result<Self, Error> {
        for path in [from, to] {
            validate(path).map_err(|error| {
                Error::new(format!(
                    "expected a znode's path, found {path:?}: {error:?}"
                ))
            })?;
        }
        if is_below(to, SYSTEM) {
            return Err(Error::new(format!(
                "expected a place outside {SYSTEM}, which is the server's own, found {to}"
            )));
        }
        let top = tree.find(from).ok_or_else(|| {
            Error::new(format!(
                "expected a znode {from} in the state at {}, found none; choose another point or \
                 path, zabra snapshot lists what is there",
                tree.last_zxid()
            ))
        })?;
        let mut subtree = Self {
            znodes: Vec::new(),
            to: to.to_owned(),
            ephemerals: 0,
        };
        for id in tree.walk(top) {
            subtree.add(tree, id, from);
        }
        // Parents first, and the same order every time.
        subtree
            .znodes
            .sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        if subtree.znodes.is_empty() && subtree.ephemerals > 0 {
            return Err(Error::new(format!(
                "expected znodes that last at {from}, found an ephemeral one; it belonged to a \
                 session and is not brought back"
            )));
        }
        Ok(subtree)
    }

    fn add(&mut self, tree: &Tree, id: NodeId, from: &str) {
        let path = tree.path(id);
        if from == "/" && is_below(&path, SYSTEM) {
            return;
        }
        let kind = tree.kind(id);
        if kind == CreateKind::Ephemeral {
            self.ephemerals += 1;
            return;
        }
        let rest = path.strip_prefix(from.trim_end_matches('/'));
        let rest = rest.unwrap_or_default().trim_end_matches('/');
        let moved = format!("{}{rest}", self.to.trim_end_matches('/'));
        if moved.is_empty() {
            // The root is there already, everywhere.
            return;
        }
        self.znodes.push(Znode {
            path: moved,
            data: tree.data(id).map(<[u8]>::to_vec),
            acl: tree.acl(id).to_vec(),
            kind,
            ctime: tree.stat_persisted(id).ctime,
        });
    }

    /// How many znodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.znodes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.znodes.is_empty()
    }

    /// A tree that has nothing else, but what every new server has and the znodes above it.
    ///
    /// # Errors
    /// A place of it is taken by what every server has.
    pub fn into_tree(self) -> Result<(Tree, Written), Error> {
        let mut loader = Loader::new(1, false);
        let mut zxid = Zxid::ZERO;
        let written = Written {
            created: self.znodes.len(),
            changed: 0,
            ephemerals: self.ephemerals,
        };
        let time = self
            .znodes
            .first()
            .map_or(UnixMillis(0), |znode| znode.ctime);
        let above = parents(&self.to).into_iter().map(|path| Znode {
            path: path.to_owned(),
            data: Some(Vec::new()),
            acl: vec![Acl::anyone(Perms::ALL)],
            kind: CreateKind::Persistent,
            ctime: time,
        });
        for znode in above.chain(self.znodes) {
            zxid.0 += 1;
            let payload = znode.payload(zxid);
            loader.txn(&payload).map_err(|error| {
                Error::new(format!("{}: cannot be created: {error}", znode.path))
            })?;
            if loader.tree().find(&znode.path).is_none() {
                return Err(Error::new(format!("{}: cannot be created", znode.path)));
            }
        }
        let (tree, _) = loader.finish_with_orphans();
        debug_assert!(tree.find(CONFIG).is_some(), "every server has it");
        Ok((tree, written))
    }

    /// Creates the znodes through a session, parents first. Others see them appear one by one.
    ///
    /// # Errors
    /// The server refused something, or the connection broke; says how far it came.
    pub fn write_to(&self, client: &mut Client, existing: Existing) -> Result<Written, Error> {
        if existing == Existing::Refuse && self.to != "/" && client.exists(&self.to)? {
            return Err(Error::new(format!(
                "{}: expected no znode at {}, found one; choose another place with --to, or have \
                 what is there set to what the backup has with --merge",
                client.server(),
                self.to
            )));
        }
        let mut written = Written {
            ephemerals: self.ephemerals,
            ..Written::default()
        };
        for window in self.znodes.chunks(WINDOW) {
            create_all(client, window, existing, &mut written)
                .map_err(|error| self.stopped(&error, written))?;
        }
        Ok(written)
    }

    fn stopped(&self, error: &Error, written: Written) -> Error {
        let done = written.created + written.changed;
        if done == 0 {
            return Error::new(error.to_string());
        }
        Error::new(format!(
            "{error}; {done} of {} znodes were written before, go on with --merge or delete {}",
            self.znodes.len(),
            self.to
        ))
    }
}

impl Znode {
    fn acl_texts(&self) -> Vec<AclText<'_>> {
        self.acl.iter().map(AclText::from).collect()
    }

    fn send_create(&self, client: &mut Client) -> Result<(), Error> {
        let create = |flags| CreateRequest {
            path: self.path.as_str().into(),
            data: self.data.as_deref(),
            acl: self.acl_texts(),
            flags,
        };
        match self.kind {
            CreateKind::Container => {
                client.request(OpCode::CREATE_CONTAINER, &create(FLAG_CONTAINER))
            }
            CreateKind::Ttl(ttl_ms) => {
                let create = create(FLAG_TTL);
                client.request(OpCode::CREATE_TTL, &CreateTtlRequest { create, ttl_ms })
            }
            CreateKind::Ephemeral | CreateKind::Persistent => {
                client.request(OpCode::CREATE, &create(FLAG_PERSISTENT))
            }
        }
    }

    fn send_set(&self, client: &mut Client) -> Result<(), Error> {
        let path = || self.path.as_str().into();
        let set_data = SetDataRequest {
            path: path(),
            data: self.data.as_deref(),
            version: -1,
        };
        client.request(OpCode::SET_DATA, &set_data)?;
        let set_acl = SetAclRequest {
            path: path(),
            acl: self.acl_texts(),
            version: -1,
        };
        client.request(OpCode::SET_ACL, &set_acl)
    }

    /// The transaction that creates it.
    fn payload(&self, zxid: Zxid) -> Vec<u8> {
        let header = TxnHeader {
            client: SessionId::NONE,
            cxid: Xid(0),
            zxid,
            time: self.ctime,
            op: match self.kind {
                CreateKind::Container => OpCode::CREATE_CONTAINER,
                CreateKind::Ttl(_) => OpCode::CREATE_TTL,
                CreateKind::Ephemeral | CreateKind::Persistent => OpCode::CREATE,
            },
        };
        let body = Txn::Create {
            path: self.path.as_str().into(),
            data: self.data.as_deref(),
            acl: self.acl_texts(),
            kind: self.kind,
            parent_cversion: -1,
        };
        let mut payload = jute::to_vec(&header);
        append_body(&mut payload, &body);
        payload
    }
}

/// Creates the znodes of a window; those that are there are set, if they may be.
fn create_all(
    client: &mut Client,
    znodes: &[Znode],
    existing: Existing,
    written: &mut Written,
) -> Result<(), Error> {
    for znode in znodes {
        znode.send_create(client)?;
    }
    let mut there = Vec::new();
    let mut refused = None;
    for znode in znodes {
        match client.answer()? {
            Ok(()) => written.created += 1,
            Err(ErrorCode::NODE_EXISTS) if existing == Existing::Merge => there.push(znode),
            Err(code) => drop(refused.get_or_insert((znode, code))),
        }
    }
    if let Some((znode, code)) = refused {
        return Err(refusal(client, znode, code));
    }
    for znode in &there {
        znode.send_set(client)?;
    }
    for znode in there {
        let answers = [client.answer()?, client.answer()?];
        if let Some(code) = answers.into_iter().find_map(Result::err) {
            return Err(refusal(client, znode, code));
        }
        written.changed += 1;
    }
    Ok(())
}

fn refusal(client: &Client, znode: &Znode, code: ErrorCode) -> Error {
    let remedy = match code {
        ErrorCode::NO_AUTH => {
            "; the ACL does not let us, give the super user's name with --auth-file"
        }
        ErrorCode::NO_NODE => "; create its parent first",
        ErrorCode::NODE_EXISTS => "; it is there already, see --merge",
        ErrorCode::UNIMPLEMENTED => {
            "; the server has no znodes of this kind, see extendedTypesEnabled"
        }
        ErrorCode::QUOTA_EXCEEDED => "; raise the quota first",
        _ => "",
    };
    Error::new(format!(
        "{}: {}: the server refused it: {code}{remedy}",
        client.server(),
        znode.path
    ))
}

/// Whether `path` is `top` or below it.
#[must_use]
pub fn is_below(path: &str, top: &str) -> bool {
    let rest = path.strip_prefix(top.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The paths above this one, from the top, without the root.
fn parents(path: &str) -> Vec<&str> {
    let mut parents = Vec::new();
    let mut at = path;
    while let Some((parent, _)) = path::split(at)
        && !parent.is_empty()
    {
        parents.push(parent);
        at = parent;
    }
    parents.reverse();
    parents
}
