//! Requests that change nothing: answered from the tree at once when their turn comes.
//!
//! Source of results and the order of checks: `FinalRequestProcessor`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::auth::{masked, permits, user_name};
use super::conn::Conn;
use super::{Config, Stats};
use crate::error::ErrorCode;
use crate::ids::{LinkId, Xid, Zxid};
use crate::jute::{self, Text, take};
use crate::tree::watch::{Mode, Modes, Table, Watches};
use crate::tree::{NodeId, Tree};
use crate::wire::client::{
    ClientInfo, EventType, GetDataResponse, MultiHeader, OpCode, PersistentWatches, ReadRequest,
    ReplyHeader, STATE_SYNC_CONNECTED, SetWatches, WatchRequest, WatcherEvent, XID_NOTIFICATION,
    XID_PING,
};
use crate::wire::records::{Acl, Perms};

/// What reads are answered from.
pub(super) struct Reads<'a> {
    pub(super) config: &'a Config,
    pub(super) tree: &'a Tree,
    pub(super) watches: &'a mut Watches,
    pub(super) stats: &'a mut Stats,
}

type Answered = Result<(), ErrorCode>;

impl From<jute::Error> for ErrorCode {
    fn from(_: jute::Error) -> Self {
        Self::MARSHALLING_ERROR
    }
}

impl Reads<'_> {
    /// Answers one request.
    pub(super) fn answer(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
    ) {
        let zxid = self.tree.last_zxid();
        if let Err(error) = self.dispatch(conn, link, xid, op, body) {
            conn.reply(xid, zxid, Some(error), |_| {});
        }
    }

    fn dispatch(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
    ) -> Answered {
        let zxid = self.tree.last_zxid();
        match op {
            OpCode::GET_DATA => self.get_data(conn, link, xid, body),
            OpCode::EXISTS => self.exists(conn, link, xid, body),
            OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => {
                self.get_children(conn, link, xid, op, body)
            }
            OpCode::PING => {
                conn.reply(XID_PING, zxid, None, |_| {});
                Ok(())
            }
            OpCode::SYNC => {
                let mut input = body;
                let path: Text<'_> = take(&mut input)?;
                conn.answer(xid, zxid, &path);
                Ok(())
            }
            OpCode::GET_ACL => self.get_acl(conn, xid, body),
            OpCode::MULTI_READ => self.multi_read(conn, xid, body),
            OpCode::SET_WATCHES | OpCode::SET_WATCHES2 => {
                self.set_watches(conn, link, xid, op, body)
            }
            OpCode::ADD_WATCH => self.add_watch(conn, link, xid, body),
            OpCode::CHECK_WATCHES | OpCode::REMOVE_WATCHES => {
                self.remove_watches(conn, link, xid, op, body)
            }
            OpCode::GET_EPHEMERALS => self.get_ephemerals(conn, xid, body),
            OpCode::GET_ALL_CHILDREN_NUMBER => {
                let mut input = body;
                let path: Text<'_> = take(&mut input)?;
                let id = self.find(&path)?;
                self.permit(conn, id, Perms::READ)?;
                let count = self.tree.descendant_count(id);
                conn.answer(xid, zxid, &i32::try_from(count).unwrap_or(i32::MAX));
                Ok(())
            }
            OpCode::WHO_AM_I => {
                let ids = core::mem::take(&mut conn.ids);
                let infos = ids.iter().map(|id| ClientInfo {
                    scheme: id.scheme.as_str().into(),
                    user: user_name(id).into(),
                });
                conn.answer(xid, zxid, &infos.collect::<Vec<_>>());
                conn.ids = ids;
                Ok(())
            }
            _ => Err(ErrorCode::UNIMPLEMENTED),
        }
    }

    /// The znode of a request. A null path is an error of its encoding.
    fn find(&self, path: &Text<'_>) -> Result<NodeId, ErrorCode> {
        let path = path.as_deref().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        self.tree.find(path).ok_or(ErrorCode::NO_NODE)
    }

    fn permit(&self, conn: &Conn, id: NodeId, needed: Perms) -> Answered {
        let permitted = permits(self.config, self.tree.acl(id), needed, &conn.ids);
        if permitted {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    fn get_data(&mut self, conn: &mut Conn, link: LinkId, xid: Xid, body: &[u8]) -> Answered {
        let mut input = body;
        let request: ReadRequest<'_> = take(&mut input)?;
        let id = self.find(&request.path)?;
        self.permit(conn, id, Perms::READ)?;
        if request.watch {
            self.watches
                .add(Table::Data, request.path.or_empty(), link, Mode::Standard);
        }
        let response = GetDataResponse {
            data: self.tree.data(id),
            stat: self.tree.stat(id),
        };
        conn.answer(xid, self.tree.last_zxid(), &response);
        Ok(())
    }

    fn exists(&mut self, conn: &mut Conn, link: LinkId, xid: Xid, body: &[u8]) -> Answered {
        let mut input = body;
        let request: ReadRequest<'_> = take(&mut input)?;
        let path = request
            .path
            .as_deref()
            .ok_or(ErrorCode::MARSHALLING_ERROR)?;
        if path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let found = self.tree.find(path);
        if let Some(id) = found {
            // Source: ZOOKEEPER-2590.
            self.permit(conn, id, Perms::READ)?;
        }
        if request.watch {
            self.watches.add(Table::Data, path, link, Mode::Standard);
        }
        let id = found.ok_or(ErrorCode::NO_NODE)?;
        conn.answer(xid, self.tree.last_zxid(), &self.tree.stat(id));
        Ok(())
    }

    fn get_children(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
    ) -> Answered {
        let mut input = body;
        let request: ReadRequest<'_> = take(&mut input)?;
        let id = self.find(&request.path)?;
        self.permit(conn, id, Perms::READ)?;
        if request.watch {
            self.watches
                .add(Table::Child, request.path.or_empty(), link, Mode::Standard);
        }
        let tree = self.tree;
        conn.reply(xid, tree.last_zxid(), None, |out| {
            append_children(out, tree, id);
            if op == OpCode::GET_CHILDREN2 {
                jute::append(out, &tree.stat(id));
            }
        });
        Ok(())
    }

    fn get_acl(&self, conn: &mut Conn, xid: Xid, body: &[u8]) -> Answered {
        let mut input = body;
        let path: Text<'_> = take(&mut input)?;
        let id = self.find(&path)?;
        self.permit(conn, id, Perms::READ.or(Perms::ADMIN))?;
        let list: &Arc<[Acl]> = self.tree.acl(id);
        let stat = self.tree.stat(id);
        if self.permit(conn, id, Perms::ADMIN).is_ok() {
            conn.answer(xid, self.tree.last_zxid(), &(&**list, stat));
        } else {
            conn.answer(xid, self.tree.last_zxid(), &(masked(list), stat));
        }
        Ok(())
    }

    fn multi_read(&self, conn: &mut Conn, xid: Xid, body: &[u8]) -> Answered {
        let mut input = body;
        let mut results = Vec::new();
        // A `usize` of 32 bits does not hold four of the longest frame there may be.
        let frame = self.config.frame_bytes_max as usize;
        let answer_bytes_max = frame.saturating_mul(super::MULTI_READ_FRAMES_MAX);
        loop {
            let header: MultiHeader = take(&mut input)?;
            if header.done {
                break;
            }
            let request: ReadRequest<'_> = match header.op {
                OpCode::GET_DATA | OpCode::GET_CHILDREN => take(&mut input)?,
                _ => return Err(ErrorCode::MARSHALLING_ERROR),
            };
            self.one_read(conn, header.op, &request, &mut results);
            if results.len() > answer_bytes_max {
                return Err(ErrorCode::MARSHALLING_ERROR);
            }
        }
        jute::append(&mut results, &MultiHeader::END);
        let zxid = self.tree.last_zxid();
        conn.reply(xid, zxid, None, |out| out.extend_from_slice(&results));
        Ok(())
    }

    fn one_read(&self, conn: &Conn, op: OpCode, request: &ReadRequest<'_>, out: &mut Vec<u8>) {
        let found = self.find(&request.path);
        let found = found.and_then(|id| self.permit(conn, id, Perms::READ).map(|()| id));
        match found {
            Ok(id) if op == OpCode::GET_DATA => {
                let response = GetDataResponse {
                    data: self.tree.data(id),
                    stat: self.tree.stat(id),
                };
                jute::append(out, &(MultiHeader::result(op), response));
            }
            Ok(id) => {
                jute::append(out, &MultiHeader::result(op));
                append_children(out, self.tree, id);
            }
            Err(error) => jute::append(out, &(MultiHeader::failure(error.0), error)),
        }
    }

    fn get_ephemerals(&self, conn: &mut Conn, xid: Xid, body: &[u8]) -> Answered {
        let mut input = body;
        let prefix: Text<'_> = take(&mut input)?;
        let prefix = prefix.or_empty();
        let all = matches!(prefix.trim(), "" | "/");
        let paths = self
            .tree
            .ephemerals(conn.session)
            .map(|id| self.tree.path(id));
        let paths: Vec<_> = paths
            .filter(|path| all || path.starts_with(prefix))
            .collect();
        conn.answer(xid, self.tree.last_zxid(), &paths);
        Ok(())
    }

    fn add_watch(&mut self, conn: &mut Conn, link: LinkId, xid: Xid, body: &[u8]) -> Answered {
        let mut input = body;
        let request: WatchRequest<'_> = take(&mut input)?;
        let path = request
            .path
            .as_deref()
            .ok_or(ErrorCode::MARSHALLING_ERROR)?;
        match request.kind {
            0 => {
                self.watches.add(Table::Data, path, link, Mode::Persistent);
                self.watches.add(Table::Child, path, link, Mode::Persistent);
            }
            1 => self.watches.add(Table::Data, path, link, Mode::Recursive),
            _ => return Err(ErrorCode::MARSHALLING_ERROR),
        }
        conn.answer(xid, self.tree.last_zxid(), &0_i32);
        Ok(())
    }

    fn remove_watches(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
    ) -> Answered {
        let mut input = body;
        let request: WatchRequest<'_> = take(&mut input)?;
        let path = request
            .path
            .as_deref()
            .ok_or(ErrorCode::MARSHALLING_ERROR)?;
        let standard = Modes::only(Mode::Standard);
        let (data, child) = match request.kind {
            1 => (None, Some(standard)),
            2 => (Some(standard), None),
            3 => (Some(Modes::ALL), Some(Modes::ALL)),
            4 => {
                let persistent = Modes::only(Mode::Persistent);
                (Some(persistent), Some(persistent))
            }
            5 => (Some(Modes::only(Mode::Recursive)), None),
            _ => return Err(ErrorCode::MARSHALLING_ERROR),
        };
        let mut found = false;
        for (table, modes) in [(Table::Data, data), (Table::Child, child)] {
            let Some(modes) = modes else { continue };
            found |= if op == OpCode::REMOVE_WATCHES {
                self.watches.remove(table, path, link, modes)
            } else {
                self.watches.has(table, path, link, modes)
            };
        }
        if !found {
            return Err(ErrorCode::NO_WATCHER);
        }
        conn.reply(xid, self.tree.last_zxid(), None, |_| {});
        Ok(())
    }

    /// Sets again what a client had set on another connection, and tells it at once what it missed.
    ///
    /// Source: `DataTree.setWatches`.
    fn set_watches(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
    ) -> Answered {
        let mut input = body;
        let request: SetWatches<'_> = take(&mut input)?;
        let persistent: PersistentWatches<'_> = match op {
            OpCode::SET_WATCHES2 => take(&mut input)?,
            _ => PersistentWatches::default(),
        };
        let since = request.relative_zxid;
        for path in request.data.iter().map(Text::or_empty) {
            let missed = match self.tree.find(path) {
                None => Some(EventType::DELETED),
                Some(id) => {
                    (self.tree.stat_persisted(id).mzxid > since).then_some(EventType::DATA_CHANGED)
                }
            };
            self.rearm(conn, link, Table::Data, path, missed);
        }
        for path in request.exist.iter().map(Text::or_empty) {
            let missed = self.tree.find(path).map(|_| EventType::CREATED);
            self.rearm(conn, link, Table::Data, path, missed);
        }
        for path in request.child.iter().map(Text::or_empty) {
            let missed = match self.tree.find(path) {
                None => Some(EventType::DELETED),
                Some(id) => (self.tree.stat_persisted(id).pzxid > since)
                    .then_some(EventType::CHILDREN_CHANGED),
            };
            self.rearm(conn, link, Table::Child, path, missed);
        }
        for path in persistent.persistent.iter().map(Text::or_empty) {
            self.watches.add(Table::Data, path, link, Mode::Persistent);
            self.watches.add(Table::Child, path, link, Mode::Persistent);
        }
        for path in persistent.recursive.iter().map(Text::or_empty) {
            self.watches.add(Table::Data, path, link, Mode::Recursive);
        }
        conn.reply(xid, self.tree.last_zxid(), None, |_| {});
        Ok(())
    }

    fn rearm(
        &mut self,
        conn: &mut Conn,
        link: LinkId,
        table: Table,
        path: &str,
        missed: Option<EventType>,
    ) {
        match missed {
            // What happened while nobody was connected has no zxid of its own.
            Some(kind) => notify(conn, self.stats, kind, path, Zxid(-1)),
            None => self.watches.add(table, path, link, Mode::Standard),
        }
    }
}

/// Appends a notification.
pub(super) fn notify(conn: &mut Conn, stats: &mut Stats, kind: EventType, path: &str, zxid: Zxid) {
    let event = WatcherEvent {
        kind,
        state: STATE_SYNC_CONNECTED,
        path: path.into(),
    };
    let before = conn.out.len();
    conn.frame(|out| {
        jute::append(
            out,
            &ReplyHeader {
                xid: XID_NOTIFICATION,
                zxid,
                error: 0,
            },
        );
        jute::append(out, &event);
    });
    stats.sent += 1;
    stats.watch_bytes += (conn.out.len() - before - 4) as u64;
}

/// The names of a znode's children, as Jute's vector of strings.
fn append_children(out: &mut Vec<u8>, tree: &Tree, id: NodeId) {
    jute::append(
        out,
        &i32::try_from(tree.child_count(id)).unwrap_or(i32::MAX),
    );
    for child in tree.children(id) {
        jute::append(out, serde_bytes::Bytes::new(tree.name(child)));
    }
}
