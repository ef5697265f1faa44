//! What one connection has sent and may hear.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::marks::Marks;
use crate::model::acl::{self, Identity, READ, digest_identities};
use crate::model::watch::{Heard, Watches};
use crate::model::{Caller, Outcome};
use crate::oracle::{Version, Versions};
use crate::violation::{Violation, ensure};
use crate::wire::{
    Body, ConnectRequest, CreateKind, Op, RawExpect, Reader, ReplyHeader, WatchEvent,
};

/// A request that is not answered.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number.
    pub xid: i32,
    /// What it asks.
    pub op: Op,
    /// Who asks.
    pub caller: Caller,
    /// Where its frame ends in the bytes of the connection.
    pub end: u64,
    /// When the server was given the end of it.
    pub received: u64,
    /// What the model answers, once the write has its place in the order.
    pub prepared: Option<(i64, Outcome)>,
}

/// How far a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request to connect is not answered.
    Connecting(ConnectRequest),
    /// It belongs to a session.
    Open(i64),
    /// Nothing is expected of it: its peer does not speak the protocol.
    Hostile,
}

/// One connection, as the oracle sees it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// How far it is.
    pub stage: Stage,
    /// When it was opened, in microseconds.
    pub opened: u64,
    /// Why the server may close it, if it may.
    pub may_close: Option<&'static str>,
    /// Whether the server must close it in the step in which it says so.
    pub must_close: bool,
    /// Requests that are not answered, in order.
    pub pending: VecDeque<Pending>,
    /// When the server was given the last request that it has surely looked at.
    pub looked_at: u64,
    /// How many bytes the server was given.
    pub delivered: u64,
    /// How many bytes the client has sent.
    pub sent: u64,
    /// Where the request to connect ends.
    pub connect_end: u64,
    /// Received bytes that are not a whole frame yet.
    pub partial: Vec<u8>,
    /// The watches.
    pub watches: Watches,
    /// Up to which transaction they have heard.
    pub heard: i64,
    /// Who it has been confirmed to be.
    pub identities: Rc<[Identity]>,
    /// Who it had been confirmed to be when a step began and all that was applied had been shown.
    pub identities_before: Rc<[Identity]>,
    /// Who it will be when all it has sent is processed.
    pub claimed: Rc<[Identity]>,
    expected: VecDeque<Heard>,
    is_unordered: bool,
    catch_up: Vec<WatchEvent>,
    has_rearmed: bool,
}

impl Connection {
    /// A connection that was just opened from this address.
    #[must_use]
    pub fn new(stage: Stage, opened: u64, address: &str) -> Self {
        let identities: Rc<[Identity]> = Rc::from([("ip".to_owned(), address.to_owned())]);
        Self {
            stage,
            opened,
            may_close: None,
            must_close: false,
            pending: VecDeque::new(),
            looked_at: opened,
            delivered: 0,
            sent: 0,
            connect_end: 0,
            partial: Vec::new(),
            watches: Watches::default(),
            heard: 0,
            claimed: Rc::clone(&identities),
            identities_before: Rc::clone(&identities),
            identities,
            expected: VecDeque::new(),
            is_unordered: false,
            catch_up: Vec::new(),
            has_rearmed: false,
        }
    }

    /// The session, if it has one.
    #[must_use]
    pub const fn session(&self) -> i64 {
        match &self.stage {
            Stage::Open(session) => *session,
            Stage::Connecting(request) => request.session,
            Stage::Hostile => 0,
        }
    }

    /// Whether the server has been given requests that it has not answered.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let first = self.pending.front();
        first.is_some_and(|pending| pending.end <= self.delivered)
    }

    /// Notes a request that the client sends.
    pub fn send(&mut self, xid: i32, op: Op, bytes: usize) {
        self.sent += bytes as u64;
        let caller = Caller {
            session: self.session(),
            identities: Rc::clone(&self.claimed),
        };
        if let Op::Auth { scheme, auth } = &op {
            self.claimed = with_auth(&self.claimed, scheme, auth);
        }
        self.pending.push_back(Pending {
            xid,
            op,
            caller,
            end: self.sent,
            received: 0,
            prepared: None,
        });
    }

    /// Takes a frame other than the answer to the request to connect.
    pub fn frame(
        &mut self,
        frame: &[u8],
        versions: &Versions,
        marks: &mut Marks,
    ) -> Result<(), Violation> {
        let mut input = Reader(frame);
        let header = input
            .reply_header()
            .map_err(|error| Violation::new("wire", error))?;
        if header.xid == -1 {
            return self.event(header, input, versions, marks);
        }
        let index = self.pending.iter().position(|pending| {
            pending.xid == header.xid || (header.xid == -2 && pending.op == Op::Ping)
        });
        let is_first_or_auth = |index: &usize| {
            let pending = self.pending.get(*index);
            // These are answered at once, also before what came earlier.
            let overtakes = |pending: &Pending| match &pending.op {
                Op::Auth { .. } => true,
                Op::Raw { expect, .. } => *expect == RawExpect::Unimplemented,
                _ => false,
            };
            *index == 0 || pending.is_some_and(overtakes)
        };
        let pending = index
            .filter(is_first_or_auth)
            .and_then(|index| self.pending.remove(index));
        let Some(pending) = pending else {
            let first = self
                .pending
                .front()
                .map(|pending| (pending.xid, &pending.op));
            return Err(Violation::new(
                "C2 replies in order of requests",
                format!("expected the reply to {first:?}, found {header:?}"),
            ));
        };
        ensure(
            pending.end <= self.delivered,
            "C2 reply before request",
            || format!("{:?} is answered but was not received", pending.op),
        )?;
        self.looked_at = self.looked_at.max(pending.received);
        self.reply(pending, header, input, versions, marks)
    }

    fn reply(
        &mut self,
        pending: Pending,
        header: ReplyHeader,
        input: Reader<'_>,
        versions: &Versions,
        marks: &mut Marks,
    ) -> Result<(), Violation> {
        let Pending {
            op,
            caller,
            prepared,
            ..
        } = pending;
        let found = if header.err == 0 {
            Body::decode(&op, input.0)
                .map_err(|error| Violation::new("wire", format!("reply to {op:?}: {error}")))?
        } else {
            input
                .end()
                .map_err(|error| Violation::new("wire", format!("error to {op:?}: {error}")))?;
            Body::Empty
        };
        let found = Outcome {
            err: header.err,
            body: found,
        };
        let expected_zxid = match (&op, &prepared) {
            (Op::Auth { .. }, _) => Some(0),
            (
                Op::Raw {
                    expect: RawExpect::Unimplemented,
                    ..
                },
                _,
            ) => Some(-1),
            (_, Some((zxid, _))) => Some(*zxid),
            _ => None,
        };
        if let Some(zxid) = expected_zxid {
            ensure(header.zxid == zxid, "zxid in the header of a reply", || {
                format!("expected {zxid}, found {header:?} to {op:?}")
            })?;
        }
        if header.zxid > 0 || expected_zxid.is_none() {
            versions.ensure_visible(header.zxid, &op)?;
            self.hear_up_to(header.zxid, versions, marks)?;
        }
        let is_rearm = matches!(op, Op::SetWatches(_));
        ensure(
            self.catch_up.is_empty() || is_rearm,
            "C11 catch-up only with setWatches",
            || format!("events {:?} before the reply to {op:?}", self.catch_up),
        )?;
        let expected = match prepared {
            Some((_, outcome)) => outcome,
            None if op.is_write() => {
                return Err(Violation::new(
                    "C1 a write is answered after its transaction",
                    format!("{op:?} is answered {found:?} and has no transaction"),
                ));
            }
            None => {
                let expected = self.answer(&op, &caller, header.zxid, versions, marks)?;
                self.or_as_confirmed(expected, &found, &op, caller, header.zxid, versions)?
            }
        };
        compare(&op, &expected, &found, header.zxid)?;
        mark_reply(&op, &found, marks);
        Ok(())
    }

    /// A read that waited may be judged by what its connection has proven meanwhile.
    fn or_as_confirmed(
        &mut self,
        expected: Outcome,
        found: &Outcome,
        op: &Op,
        caller: Caller,
        zxid: i64,
        versions: &Versions,
    ) -> Result<Outcome, Violation> {
        if expected == *found || caller.identities == self.identities || zxid <= 0 {
            return Ok(expected);
        }
        let caller = Caller {
            identities: Rc::clone(&self.identities),
            ..caller
        };
        self.answer(op, &caller, zxid, versions, &mut Marks::default())
    }

    fn answer(
        &mut self,
        op: &Op,
        caller: &Caller,
        zxid: i64,
        versions: &Versions,
        marks: &mut Marks,
    ) -> Result<Outcome, Violation> {
        if let Op::Auth { scheme, auth } = op {
            let is_known = scheme == "digest" || scheme == "ip";
            if !is_known {
                self.may_close = Some("authentication failed");
                self.must_close = true;
                return Ok(Outcome::error(-115));
            }
            self.identities = with_auth(&self.identities, scheme, auth);
            return Ok(Outcome::of(Ok(Body::Empty)));
        }
        if let Op::Raw { expect, .. } = op {
            return Ok(Outcome::error(match expect {
                RawExpect::Marshalling => -5,
                RawExpect::Unimplemented => {
                    self.may_close = Some("unknown operation");
                    self.must_close = true;
                    -6
                }
            }));
        }
        let version = versions.at(zxid)?;
        let state = &version.state;
        let outcome = state.read(op, caller);
        match op {
            Op::AddWatch { path, mode } => {
                return Ok(if self.watches.add(path, *mode) {
                    Outcome::of(Ok(Body::Number(0)))
                } else {
                    Outcome::error(-5)
                });
            }
            Op::CheckWatches { path, kind } => {
                let code = self.watches.find(path, *kind, false);
                marks.hit(if code == 0 {
                    "check_watches_found"
                } else {
                    "check_watches_missing"
                });
                return Ok(code_only(code));
            }
            Op::RemoveWatches { path, kind } => {
                return Ok(code_only(self.watches.find(path, *kind, true)));
            }
            Op::SetWatches(rearm) => {
                let expected = self.watches.rearm(rearm, state);
                let found = core::mem::take(&mut self.catch_up);
                ensure(expected == found, "C11 setWatches catches up", || {
                    format!("{rearm:?} at {zxid}: expected {expected:?}, found {found:?}")
                })?;
                self.has_rearmed = true;
            }
            Op::Exists { path, watch: true } if matches!(outcome.err, 0 | -101) => {
                self.watches.watch_data(path);
            }
            Op::GetData { path, watch: true } if outcome.err == 0 => self.watches.watch_data(path),
            Op::GetChildren {
                path, watch: true, ..
            } if outcome.err == 0 => self.watches.watch_children(path),
            _ => {}
        }
        Ok(outcome)
    }

    fn event(
        &mut self,
        header: ReplyHeader,
        input: Reader<'_>,
        versions: &Versions,
        marks: &mut Marks,
    ) -> Result<(), Violation> {
        let event = input
            .event()
            .map_err(|error| Violation::new("wire", format!("event: {error}")))?;
        ensure(header.err == 0, "wire", || format!("event with {header:?}"))?;
        if header.zxid == -1 {
            marks.hit(match event.kind {
                1 => "catch_up_created",
                2 => "catch_up_deleted",
                3 => "catch_up_changed",
                _ => "catch_up_children",
            });
            self.catch_up.push(event);
            return Ok(());
        }
        ensure(
            versions.stored >= header.zxid,
            "C20 nothing is shown before it is durable",
            || {
                format!(
                    "{event:?} at {} when {} is durable",
                    header.zxid, versions.stored
                )
            },
        )?;
        ensure(
            header.zxid >= self.heard,
            "C9 events in order of zxid",
            || format!("{event:?} at {} after {}", header.zxid, self.heard),
        )?;
        if header.zxid > self.heard {
            self.hear_up_to(header.zxid - 1, versions, marks)?;
            let version = versions.at(header.zxid)?;
            self.expect_from(version, marks);
            self.heard = header.zxid;
        }
        self.take_expected(&event, header.zxid)?;
        marks.hit(match event.kind {
            1 => "event_created",
            2 => "event_deleted",
            3 => "event_changed",
            _ => "event_children",
        });
        if self.has_rearmed {
            marks.hit("event_after_restart_rearmed");
        }
        if !self.watches.is_empty() {
            marks.hit("event_persistent");
        }
        Ok(())
    }

    fn take_expected(&mut self, event: &WatchEvent, zxid: i64) -> Result<(), Violation> {
        loop {
            let position = if self.is_unordered {
                self.expected.iter().position(|heard| heard.event == *event)
            } else {
                Some(0)
            };
            let next = position.and_then(|index| self.expected.remove(index));
            match next {
                Some(heard) if heard.event == *event => return Ok(()),
                Some(heard) if !heard.is_readable => {}
                other => {
                    let expected = other.map(|heard| heard.event);
                    return Err(Violation::new(
                        "C10 events exactly once",
                        format!("at {zxid} expected {expected:?}, found {event:?}"),
                    ));
                }
            }
        }
    }

    /// Works out what the watches hear of one transaction.
    fn expect_from(&mut self, version: &Version, marks: &mut Marks) {
        self.is_unordered = version.is_unordered;
        if self.watches.is_empty() {
            return;
        }
        // Within a step, and while an auth packet is under way, the server may have known less or
        // more.
        let others = [&self.identities_before, &self.claimed].map(Rc::clone);
        for trigger in &version.triggers {
            let heard = self.watches.hear(trigger, &self.identities);
            let can_read = |who: &[Identity]| acl::check(&trigger.acl, READ, who).is_ok();
            let others_hear = others.each_ref().map(|who| can_read(who));
            for mut heard in heard {
                if !heard.is_readable {
                    marks.hit("event_withheld_by_acl");
                }
                let is_certain = others_hear == [heard.is_readable; 2];
                if is_certain && !heard.is_readable {
                    continue;
                }
                heard.is_readable &= is_certain;
                self.expected.push_back(heard);
            }
        }
    }

    /// Says that the connection has heard of everything up to this transaction.
    pub fn hear_up_to(
        &mut self,
        zxid: i64,
        versions: &Versions,
        marks: &mut Marks,
    ) -> Result<(), Violation> {
        self.ensure_heard(zxid)?;
        if self.watches.is_empty() {
            self.heard = self.heard.max(zxid);
        }
        while let Some(version) = versions.next(self.heard, zxid) {
            self.expect_from(version, marks);
            self.heard = version.state.zxid;
            self.ensure_heard(zxid)?;
        }
        self.heard = self.heard.max(zxid);
        Ok(())
    }

    fn ensure_heard(&mut self, shown: i64) -> Result<(), Violation> {
        self.expected.retain(|heard| heard.is_readable);
        let missing = self.expected.front().map(|heard| heard.event.clone());
        ensure(missing.is_none(), "C8 watch before data", || {
            format!(
                "{missing:?} at {} is not heard before {shown} is shown",
                self.heard
            )
        })
    }
}

const fn code_only(code: i32) -> Outcome {
    Outcome {
        err: code,
        body: Body::Empty,
    }
}

fn with_auth(identities: &Rc<[Identity]>, scheme: &str, auth: &[u8]) -> Rc<[Identity]> {
    if scheme != "digest" {
        return Rc::clone(identities);
    }
    let mut all = identities.to_vec();
    for identity in digest_identities(auth).unwrap_or_default() {
        if !all.contains(&identity) {
            all.push(identity);
        }
    }
    all.into()
}

/// Compares an answer with the model's.
fn compare(op: &Op, expected: &Outcome, found: &Outcome, zxid: i64) -> Result<(), Violation> {
    let is_same = match (op, &expected.body, &found.body) {
        // A container in a multi may be answered with its path only, which the C client needs.
        (Op::Multi(ops), Body::Multi(expected), Body::Multi(found)) => {
            expected.len() == found.len()
                && ops
                    .iter()
                    .zip(expected.iter().zip(found))
                    .all(|(op, (expected, found))| {
                        let is_container = matches!(
                            op,
                            Op::Create {
                                kind: CreateKind::Container,
                                ..
                            }
                        );
                        match (&expected.2, &found.2) {
                            (Body::Path(expected, _), Body::Path(path, None)) if is_container => {
                                expected == path && found.0 == 1 && found.1 == 0
                            }
                            _ => expected == found,
                        }
                    })
        }
        _ => expected.body == found.body,
    };
    ensure(
        is_same && expected.err == found.err,
        "C4 reply equals the model's",
        || format!("{op:?} at {zxid}: expected {expected:?}, found {found:?}"),
    )
}

fn mark_reply(op: &Op, found: &Outcome, marks: &mut Marks) {
    match found.err {
        -102 => marks.hit("acl_denied"),
        -108 => marks.hit("ephemeral_child_refused"),
        -114 => marks.hit("invalid_acl"),
        -115 => marks.hit("auth_failed"),
        -125 => marks.hit("quota_refused"),
        -5 => marks.hit("undecodable_request"),
        -6 if matches!(op, Op::Raw { .. }) => marks.hit("unknown_operation"),
        _ => {}
    }
    match (op, &found.body) {
        (Op::Multi(_), Body::Multi(results)) if !results.is_empty() => {
            let is_rolled_back = results.iter().any(|(kind, ..)| *kind == -1);
            marks.hit(if is_rolled_back {
                "multi_rollback"
            } else {
                "multi_applied"
            });
        }
        (Op::MultiRead(_), Body::Multi(_)) => marks.hit("multi_read"),
        (
            Op::Create {
                flags: 2 | 3 | 6, ..
            },
            Body::Path(..),
        ) => marks.hit("create_sequential"),
        (Op::GetAcl { .. }, Body::Acl(acl, _))
            if acl
                .iter()
                .any(|entry| entry.id.as_deref() == Some("alice:x")) =>
        {
            marks.hit("acl_masked");
        }
        (Op::GetData { path, .. }, Body::Data(data, _)) => {
            if data.is_none() {
                marks.hit("null_data");
            }
            if path.ends_with("/zookeeper_stats") {
                marks.hit("quota_counted");
            }
        }
        (Op::CloseSession, _) => marks.hit("session_closed"),
        _ => {}
    }
}
