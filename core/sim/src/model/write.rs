//! What writes do, in ZooKeeper's order of checks.

use std::rc::Rc;

use crate::model::acl::{self, ADMIN, CREATE, DELETE, READ, WRITE};
use crate::model::{CONTAINER_OWNER, Caller, Node, Outcome, Settings, State, Trigger, path, quota};
use crate::wire::{Acl, Body, CreateKind, Op};

const RUNTIME_INCONSISTENCY: i32 = -2;
const MARSHALLING_ERROR: i32 = -5;
const UNIMPLEMENTED: i32 = -6;
const BAD_ARGUMENTS: i32 = -8;
const NO_NODE: i32 = -101;
const BAD_VERSION: i32 = -103;
const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
const NODE_EXISTS: i32 = -110;
const NOT_EMPTY: i32 = -111;
const SESSION_EXPIRED: i32 = -112;
const QUOTA_EXCEEDED: i32 = -125;
const TTL_MAX: i64 = (1 << 40) - 1;

/// What the server decided and the model takes from it: the place in the order and the time.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The transaction's id.
    pub zxid: i64,
    /// The transaction's time.
    pub time: i64,
}

/// What a write does.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The state after it.
    pub state: State,
    /// The answer.
    pub outcome: Outcome,
    /// What watches hear, in order.
    pub triggers: Vec<Trigger>,
    /// The type that stands in the transaction's header.
    pub kind: i32,
}

/// One write being worked out.
struct Work<'a> {
    state: State,
    /// Quotas are judged by the usage before the whole request.
    before: &'a State,
    settings: &'a Settings,
    caller: &'a Caller,
    stamp: Stamp,
    triggers: Vec<Trigger>,
}

impl State {
    /// Works out a client's write. `usage` is the state by which quotas are judged.
    #[must_use]
    pub fn write(
        &self,
        op: &Op,
        caller: &Caller,
        stamp: Stamp,
        settings: &Settings,
        usage: &Self,
    ) -> Applied {
        let mut work = Work {
            state: self.clone(),
            before: usage,
            settings,
            caller,
            stamp,
            triggers: Vec::new(),
        };
        let result = match op {
            Op::Multi(ops) => work.multi(ops),
            Op::CloseSession => {
                work.close_session(caller.session);
                Ok(Body::Empty)
            }
            _ => work.single(op).and_then(|body| work.fits(0, body)),
        };
        let is_rolled_back = matches!(&result, Ok(Body::Multi(results))
            if results.iter().any(|(kind, ..)| *kind == -1));
        let kind = if result.is_err() { -1 } else { op.code() };
        if result.is_err() || is_rolled_back {
            work.state = self.clone();
            work.triggers.clear();
        }
        work.state.zxid = stamp.zxid;
        Applied {
            state: work.state,
            outcome: Outcome::of(result),
            triggers: work.triggers,
            kind,
        }
    }

    /// Opens a session.
    #[must_use]
    pub fn open_session(&self, session: i64, timeout_ms: i32, zxid: i64) -> Self {
        let mut state = self.clone();
        state.sessions.insert(session, timeout_ms);
        state.zxid = zxid;
        state
    }

    /// Deletes a container or TTL znode as the server does on its own.
    ///
    /// # Errors
    /// It may not be deleted.
    pub fn reap(&self, path: &str, stamp: Stamp, settings: &Settings) -> Result<Applied, String> {
        let node = self
            .node(path)
            .ok_or_else(|| format!("{path} does not exist"))?;
        if self.descendants(path).next().is_some() {
            return Err(format!("{path} has children"));
        }
        match node.ttl(settings) {
            Some(ttl) if stamp.time - node.mtime <= ttl => {
                return Err(format!(
                    "{path} is {} ms old, of {ttl}",
                    stamp.time - node.mtime
                ));
            }
            Some(_) => {}
            None if node.owner != CONTAINER_OWNER => {
                return Err(format!("{path} is neither container nor TTL znode"));
            }
            None if node.cversion == 0 => return Err(format!("{path} was never used")),
            None => {}
        }
        let caller = Caller {
            session: 0,
            identities: Rc::from([]),
        };
        let mut work = Work {
            state: self.clone(),
            before: self,
            settings,
            caller: &caller,
            stamp,
            triggers: Vec::new(),
        };
        work.remove(path);
        work.state.zxid = stamp.zxid;
        Ok(Applied {
            state: work.state,
            outcome: Outcome::of(Ok(Body::Empty)),
            triggers: work.triggers,
            kind: 20,
        })
    }
}

impl Work<'_> {
    fn single(&mut self, op: &Op) -> Result<Body, i32> {
        if !self.state.sessions.contains_key(&self.caller.session) {
            return Err(SESSION_EXPIRED);
        }
        match op {
            Op::Check { path, version } => self.check(path, *version),
            Op::Create {
                kind,
                path,
                data,
                acl,
                flags,
                ttl,
            } => {
                let owner = self.owner(*kind, *flags, *ttl)?;
                let is_sequential = matches!(*flags, 2 | 3 | 6);
                let path = self.create(path, data.clone(), acl.as_deref(), owner, is_sequential)?;
                let stat = self.state.stat(&path);
                let stat = (*kind != CreateKind::Create).then_some(stat);
                Ok(Body::Path(path.to_string(), stat))
            }
            Op::Delete { path, version } => self.delete(path, *version),
            Op::SetAcl { path, acl, version } => self.set_acl(path, acl.as_deref(), *version),
            Op::SetData {
                path,
                data,
                version,
            } => self.set_data(path, data.clone(), *version),
            _ => Err(MARSHALLING_ERROR),
        }
    }

    /// Checks mode and time to live, and says who will own the znode.
    fn owner(&self, kind: CreateKind, flags: i32, ttl: i64) -> Result<i64, i32> {
        let is_ttl = matches!(flags, 5 | 6);
        if !(0..=6).contains(&flags) {
            return Err(BAD_ARGUMENTS);
        }
        if is_ttl && !self.settings.extended_types {
            return Err(UNIMPLEMENTED);
        }
        match kind {
            CreateKind::Create | CreateKind::Create2 if is_ttl => Err(BAD_ARGUMENTS),
            CreateKind::Create | CreateKind::Create2 => {
                let is_ephemeral = matches!(flags, 1 | 3);
                Ok(if is_ephemeral { self.caller.session } else { 0 })
            }
            CreateKind::Container if flags == 4 => Ok(CONTAINER_OWNER),
            CreateKind::Ttl if is_ttl && (1..=TTL_MAX).contains(&ttl) => Ok((-1 << 56) | ttl),
            // Where ZooKeeper stores something half-made we refuse.
            CreateKind::Container | CreateKind::Ttl => Err(BAD_ARGUMENTS),
        }
    }

    fn create(
        &mut self,
        asked: &str,
        data: Option<Rc<[u8]>>,
        acl: Option<&[Acl]>,
        owner: i64,
        is_sequential: bool,
    ) -> Result<Rc<str>, i32> {
        if !asked.contains('/') || asked.contains('\0') {
            return Err(BAD_ARGUMENTS);
        }
        let acl = acl::fix_up(acl, &self.caller.identities)?;
        let parent_path = path::parent(asked);
        let parent = Rc::clone(self.state.node(parent_path).ok_or(NO_NODE)?);
        acl::check(&parent.acl, CREATE, &self.caller.identities)?;
        let created: Rc<str> = if is_sequential {
            format!("{asked}{:010}", parent.cversion).into()
        } else {
            asked.into()
        };
        if !path::is_valid(&created) {
            return Err(BAD_ARGUMENTS);
        }
        if self.state.node(&created).is_some() {
            return Err(NODE_EXISTS);
        }
        if parent.is_ephemeral(self.settings) {
            return Err(NO_CHILDREN_FOR_EPHEMERALS);
        }
        let bytes = length(data.as_deref());
        if self.settings.enforce_quota {
            quota::check(self.before, &created, bytes, 1)?;
        }
        let Stamp { zxid, time } = self.stamp;
        self.state.change(parent_path, |parent| {
            parent.cversion += 1;
            parent.pzxid = zxid;
        });
        let node = Node {
            data,
            acl: Rc::clone(&acl),
            czxid: zxid,
            mzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            cversion: 0,
            aversion: 0,
            owner,
            pzxid: zxid,
        };
        self.state.nodes.insert(Rc::clone(&created), Rc::new(node));
        quota::created(&mut self.state, &created);
        quota::count(&mut self.state, &created, bytes, 1);
        self.trigger(1, &created, &acl);
        self.trigger(4, path::parent_name(&created), &parent.acl);
        Ok(created)
    }

    fn delete(&mut self, path: &str, version: i32) -> Result<Body, i32> {
        let is_special = matches!(
            path,
            "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config"
        );
        if !path.contains('/') || path.contains('\0') || is_special {
            return Err(BAD_ARGUMENTS);
        }
        let parent = self.state.node(path::parent(path)).ok_or(NO_NODE)?;
        acl::check(&parent.acl, DELETE, &self.caller.identities)?;
        let node = self.state.node(path).ok_or(NO_NODE)?;
        expect(version, node.version)?;
        if self.state.descendants(path).next().is_some() {
            return Err(NOT_EMPTY);
        }
        self.remove(path);
        Ok(Body::Empty)
    }

    fn remove(&mut self, path: &str) {
        let Some(node) = self.state.nodes.remove(path) else {
            return;
        };
        let zxid = self.stamp.zxid;
        self.state.change(path::parent(path), |parent| {
            parent.pzxid = parent.pzxid.max(zxid);
        });
        quota::count(&mut self.state, path, -length(node.data.as_deref()), -1);
        self.trigger(2, path, &node.acl);
        let parent = self.state.node(path::parent(path));
        let acl = parent.map_or_else(|| Rc::from([]), |parent| Rc::clone(&parent.acl));
        self.trigger(4, path::parent_name(path), &acl);
    }

    fn set_data(&mut self, path: &str, data: Option<Rc<[u8]>>, version: i32) -> Result<Body, i32> {
        if !path::is_valid(path) {
            return Err(BAD_ARGUMENTS);
        }
        let node = Rc::clone(self.state.node(path).ok_or(NO_NODE)?);
        acl::check(&node.acl, WRITE, &self.caller.identities)?;
        let difference = length(data.as_deref()) - length(node.data.as_deref());
        if self.settings.enforce_quota {
            quota::check(self.before, path, difference, 0)?;
        }
        expect(version, node.version)?;
        let Stamp { zxid, time } = self.stamp;
        self.state.change(path, |node| {
            node.data = data;
            node.version = next_version(node.version);
            node.mzxid = zxid;
            node.mtime = time;
        });
        quota::count(&mut self.state, path, difference, 0);
        self.trigger(3, path, &node.acl);
        Ok(Body::Stat(self.state.stat(path)))
    }

    fn set_acl(&mut self, path: &str, acl: Option<&[Acl]>, version: i32) -> Result<Body, i32> {
        if !path::is_valid(path) {
            return Err(BAD_ARGUMENTS);
        }
        let acl = acl::fix_up(acl, &self.caller.identities)?;
        let node = self.state.node(path).ok_or(NO_NODE)?;
        acl::check(&node.acl, ADMIN, &self.caller.identities)?;
        expect(version, node.aversion)?;
        self.state.change(path, |node| {
            node.acl = acl;
            node.aversion = next_version(node.aversion);
        });
        Ok(Body::Stat(self.state.stat(path)))
    }

    fn check(&self, path: &str, version: i32) -> Result<Body, i32> {
        if !path::is_valid(path) {
            return Err(BAD_ARGUMENTS);
        }
        let node = self.state.node(path).ok_or(NO_NODE)?;
        acl::check(&node.acl, READ, &self.caller.identities)?;
        expect(version, node.version)?;
        Ok(Body::Empty)
    }

    fn multi(&mut self, ops: &[Op]) -> Result<Body, i32> {
        if ops.iter().any(is_undecodable) {
            return Err(MARSHALLING_ERROR);
        }
        let mut results = Vec::new();
        let mut failed = None;
        for (index, op) in ops.iter().enumerate() {
            let result = self.single(op).and_then(|body| self.fits(index, body));
            match result {
                Ok(body) => results.push((result_kind(op), 0, body)),
                Err(err) => {
                    failed = Some((index, err));
                    break;
                }
            }
        }
        let Some((at, err)) = failed else {
            return Ok(Body::Multi(results));
        };
        let error = |index: usize| match index.cmp(&at) {
            core::cmp::Ordering::Less => 0,
            core::cmp::Ordering::Equal => err,
            core::cmp::Ordering::Greater => RUNTIME_INCONSISTENCY,
        };
        let results = (0..ops.len()).map(|index| (-1, error(index), Body::Number(error(index))));
        Ok(Body::Multi(results.collect()))
    }

    /// The outcome of an operation, unless there is no room for it.
    fn fits(&self, index: usize, body: Body) -> Result<Body, i32> {
        if self.settings.full_at == Some(index) {
            return Err(QUOTA_EXCEEDED);
        }
        Ok(body)
    }

    fn close_session(&mut self, session: i64) {
        for path in self.state.ephemerals(session) {
            self.remove(&path);
        }
        self.state.sessions.remove(&session);
    }

    fn trigger(&mut self, kind: i32, path: &str, acl: &Rc<[Acl]>) {
        self.triggers.push(Trigger {
            kind,
            path: path.into(),
            acl: Rc::clone(acl),
        });
    }
}

/// The first error, and of which operation of a multi.
#[must_use]
pub fn refusal(outcome: &Outcome) -> Option<(usize, i32)> {
    if outcome.err != 0 {
        return Some((0, outcome.err));
    }
    let Body::Multi(results) = &outcome.body else {
        return None;
    };
    let errors = results.iter().map(|(_, err, _)| *err);
    errors.enumerate().find(|(_, err)| *err != 0)
}

/// Whether a quota is what refused this.
#[must_use]
pub fn is_quota_refusal(outcome: &Outcome) -> bool {
    match &outcome.body {
        Body::Multi(results) => results.iter().any(|(_, err, _)| *err == QUOTA_EXCEEDED),
        _ => outcome.err == QUOTA_EXCEEDED,
    }
}

const fn result_kind(op: &Op) -> i32 {
    match op {
        Op::Create {
            kind: CreateKind::Container | CreateKind::Ttl,
            ..
        } => CreateKind::Create2 as i32,
        _ => op.code(),
    }
}

/// Whether ZooKeeper fails to decode a multi because of this, though each byte is in place.
fn is_undecodable(op: &Op) -> bool {
    match op {
        Op::Create { flags, .. } => !(0..=6).contains(flags),
        Op::Check { .. } | Op::Delete { .. } | Op::SetData { .. } => false,
        _ => true,
    }
}

const fn expect(wanted: i32, found: i32) -> Result<(), i32> {
    if wanted == -1 || wanted == found {
        Ok(())
    } else {
        Err(BAD_VERSION)
    }
}

/// ZooKeeper 3.10 (ZOOKEEPER-4743): -1 means "any" in a request, so no znode may have it.
const fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}

fn length(data: Option<&[u8]>) -> i64 {
    data.map_or(0, |data| i64::try_from(data.len()).unwrap_or(i64::MAX))
}
