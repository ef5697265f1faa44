//! What servers answer: every frame is judged before it leaves.

use crate::ensemble::history::History;
use crate::ensemble::plan::letter;
use crate::ensemble::service::{Line, Service};
use crate::oracle::connection::Stage;
use crate::oracle::next_frame;
use crate::oracle::session::password;
use crate::oracle::txn::{CREATE_SESSION, Header};
use crate::violation::{Violation, ensure};
use crate::wire::{ConnectResponse, Reader};

impl Service {
    /// Takes bytes that a server sends to a client.
    ///
    /// # Errors
    /// They are not what the model says.
    pub fn sends(
        &mut self,
        history: &mut History,
        link: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        self.catch_up(history)?;
        let Some(mut line) = self.lines.remove(&link) else {
            return Ok(());
        };
        line.connection.partial.extend_from_slice(bytes);
        let mut result = Ok(());
        while result.is_ok() {
            let Some(frame) = next_frame(&mut line.connection.partial) else {
                break;
            };
            result = self.frame(history, link, &mut line, &frame);
        }
        self.lines.insert(link, line);
        result.map_err(|violation| Violation {
            detail: format!("link {link}: {}", violation.detail),
            ..violation
        })
    }

    fn frame(
        &mut self,
        history: &mut History,
        link: u64,
        line: &mut Line,
        frame: &[u8],
    ) -> Result<(), Violation> {
        if matches!(line.connection.stage, Stage::Connecting(_)) {
            return self.connected(history, line, frame);
        }
        let header = Reader(frame)
            .reply_header()
            .map_err(|error| Violation::new("wire", error))?;
        if header.zxid > 0 {
            history.shows(line.server, header.zxid)?;
            if !history.committed_after(self.applied).is_empty() {
                // What is committed by this prepares the answer, on a line that is taken out.
                self.lines.insert(link, line.clone());
                let caught_up = self.catch_up(history);
                if let Some(prepared) = self.lines.remove(&link) {
                    *line = prepared;
                }
                caught_up?;
            }
        }
        self.versions.floor = self.floors.get(line.server).copied().unwrap_or(0);
        self.versions.stored = history.visible();
        let low_until = self.low_until.get(&line.server).copied();
        line.refuse_untold(header.xid, header.err, header.zxid, low_until);
        line.connection
            .frame(frame, &self.versions, &mut self.marks)?;
        if header.zxid <= 0 {
            return Ok(());
        }
        let found = self.versions.at(header.zxid)?.state.zxid;
        let is_event = header.xid == -1;
        ensure(
            is_event || found >= self.resolved(line.seen),
            "C3 a client sees no past",
            || {
                let (server, seen) = (letter(line.server), line.seen);
                format!("{server} shows {found:#x} to one who had seen {seen:#x}")
            },
        )?;
        ensure(
            is_event || found >= self.resolved(line.synced),
            "C7 a read after sync",
            || {
                let (server, synced) = (letter(line.server), line.synced);
                format!("{server} shows {found:#x} after a sync that began at {synced:#x}")
            },
        )?;
        let is_synced = line
            .syncs
            .front()
            .is_some_and(|(xid, _)| *xid == header.xid);
        let synced = if is_synced {
            line.syncs.pop_front()
        } else {
            None
        };
        if let Some((_, floor)) = synced.filter(|_| header.err == 0) {
            self.marks.hit("synced");
            line.synced = line.synced.max(floor);
            ensure(found >= self.resolved(floor), "C7 a sync", || {
                let server = letter(line.server);
                format!("{server} answers a sync of {floor:#x} at {found:#x}")
            })?;
        }
        self.shown_to_anybody = self.shown_to_anybody.max(header.zxid);
        if let Some(shown) = self.shown.get_mut(line.server) {
            *shown = (*shown).max(header.zxid);
        }
        Ok(())
    }

    fn connected(
        &mut self,
        history: &mut History,
        line: &mut Line,
        frame: &[u8],
    ) -> Result<(), Violation> {
        let Stage::Connecting(request) = line.connection.stage.clone() else {
            return Ok(());
        };
        let response =
            ConnectResponse::decode(frame).map_err(|error| Violation::new("wire", error))?;
        let describe = || format!("{request:x?} is answered {response:x?}");
        ensure(
            response.read_only == request.read_only.map(|_| false),
            "handshake mirrors the byte for read-only",
            describe,
        )?;
        if response.session == 0 {
            self.marks.hit("session_refused");
            line.connection.must_close = false;
            line.connection.may_close = Some("its session was refused");
            return Ok(());
        }
        ensure(
            response.password == password(response.session),
            "a session's password",
            describe,
        )?;
        if request.session == 0 {
            self.announced(history, line.server, response.session)?;
        } else {
            ensure(
                response.session == request.session && response.password == request.password,
                "a session keeps id and password",
                describe,
            )?;
            let shown = self.shown.get(line.server).copied().unwrap_or(0);
            let state = &self.versions.at(shown)?.state;
            let is_over = self.ended.contains(&response.session)
                && !state.sessions.contains_key(&response.session)
                && shown > 0;
            let was_there = self.timeouts.contains_key(&response.session);
            ensure(
                was_there && (!is_over || shown < self.last_of(response.session)),
                "C14 only a session that lives is resumed",
                describe,
            )?;
            self.marks.hit("session_resumed");
            let since = line.connection.opened;
            self.sessions
                .moves(line.server, response.session, line.server, since);
        }
        let (least, greatest) = self.timeout_ms;
        let expected = request.timeout_ms.max(least).min(greatest);
        ensure(
            response.timeout_ms == expected,
            "the negotiated timeout",
            || format!("expected {expected} ms, found {response:x?}"),
        )?;
        let granted = self
            .timeouts
            .entry(response.session)
            .or_insert(response.timeout_ms);
        *granted = response.timeout_ms.min(*granted);
        line.connection.stage = Stage::Open(response.session);
        // Others may have been shown more in this very turn, after this one was let in.
        let floor = self.floors.get(line.server).copied().unwrap_or(0);
        line.connection.heard = self.resolved(floor);
        for pending in &mut line.connection.pending {
            pending.caller.session = response.session;
        }
        Ok(())
    }

    /// A session that is announced is committed.
    fn announced(
        &mut self,
        history: &mut History,
        server: usize,
        session: i64,
    ) -> Result<(), Violation> {
        let is_creation = |payload: &[u8]| {
            let header = Header::decode(payload);
            header.is_ok_and(|it| it.kind == CREATE_SESSION && it.session == session)
        };
        if !self.last_of_session.contains_key(&session) {
            let found = history
                .uncommitted(server)
                .find(|(_, txn)| is_creation(&txn.payload))
                .map(|(zxid, _)| zxid);
            if let Some(zxid) = found {
                history.commit(zxid, server)?;
                self.catch_up(history)?;
            }
        }
        ensure(
            self.last_of_session.contains_key(&session),
            "C20 a session is announced once committed",
            || format!("{} announces {session:#x}", letter(server)),
        )
    }
}
