//! The audit log: who did what, with what result, by ZooKeeper's names and in its format, or as
//! JSON objects.
//!
//! A thread of its own makes the lines and writes them: the driver only hands over what happened,
//! and waits only if the disk is so slow that [`WAITING_MAX`] of them pile up.
//!
//! Source: ZooKeeper's `AuditHelper`, `AuditEvent`, `ZKAuditProvider`.

use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Map, Value};
use tracing::warn;
use zabra_core::jute::{self, take};
use zabra_core::server::{Event, civil_date};
use zabra_core::wire::audit::Audited;
use zabra_core::wire::client::{
    CreateRequest, CreateTtlRequest, MultiHeader, OpCode, PathVersion, SetAclRequest,
    SetDataRequest,
};
use zabra_core::wire::records::{AclText, Perms};

use crate::config::{AuditConfig, AuditFormat};
use crate::error::Error;
use crate::host_facts;

/// Entries that wait to be written.
const WAITING_MAX: usize = 65_536;
/// Bytes of lines that are written at once.
const WRITE_BYTES: usize = 256 * 1024;
/// How often it is said that lines cannot be written.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(60);

/// Writes entries; dropped, it finishes what it was given.
pub struct Audit {
    entries: Option<SyncSender<Entry>>,
    thread: Option<JoinHandle<()>>,
}

/// What happened, before it is a line.
enum Entry {
    /// An encoded [`Audited`].
    Write(SystemTime, Bytes),
    Server(&'static str, &'static str),
}

impl Audit {
    /// Opens the log, and says that the server starts.
    ///
    /// # Errors
    /// The file cannot be opened, or a thread not be started.
    pub fn start(config: &AuditConfig) -> Result<Self, Error> {
        let target = match &config.file {
            None => Target::StandardError,
            Some(path) => Target::File(append(path).map_err(|source| Error::Store {
                path: path.clone(),
                source: format!("the audit log cannot be opened: {source}").into(),
            })?),
        };
        let (entries, waiting) = mpsc::sync_channel(WAITING_MAX);
        let writer = Writer {
            format: config.format,
            target,
            // Source: `ZKAuditProvider.getZKUser`.
            user: host_facts::user_name(),
            lines: String::new(),
            complained: None,
        };
        let thread = thread::Builder::new()
            .name("zabra-audit".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(Error::Runtime)?;
        let audit = Self {
            entries: Some(entries),
            thread: Some(thread),
        };
        audit.put(Entry::Server("serverStart", "success"));
        Ok(audit)
    }

    /// Hears an event of the machine. Returns whether it was for nobody else.
    pub fn hear(&self, event: &mut Event) -> bool {
        let Event::Audited(bytes) = event else {
            return false;
        };
        self.put(Entry::Write(SystemTime::now(), core::mem::take(bytes)));
        true
    }

    fn put(&self, entry: Entry) {
        if let Some(entries) = &self.entries {
            // Its thread only ends before this value by a panic, which has its message.
            let _ = entries.send(entry);
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.put(Entry::Server("serverStop", "invoked"));
        self.entries = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Target {
    File(File),
    StandardError,
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

struct Writer {
    format: AuditFormat,
    target: Target,
    user: String,
    lines: String,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            self.line(&first);
            while self.lines.len() < WRITE_BYTES
                && let Ok(more) = entries.try_recv()
            {
                self.line(&more);
            }
            self.write();
        }
    }

    fn write(&mut self) {
        let bytes = self.lines.as_bytes();
        let written = match &mut self.target {
            Target::File(file) => file.write_all(bytes),
            Target::StandardError => io::stderr().lock().write_all(bytes),
        };
        let due = self
            .complained
            .is_none_or(|at| at.elapsed() >= COMPLAINT_PERIOD);
        if let Err(error) = written
            && due
        {
            self.complained = Some(Instant::now());
            let lines = self.lines.lines().count();
            warn!(lines, %error, "lines of the audit log are lost: they cannot be written");
        }
        self.lines.clear();
    }

    fn line(&mut self, entry: &Entry) {
        match entry {
            Entry::Server(operation, result) => {
                let mut record = Record::at(SystemTime::now());
                record.put("user", self.user.clone());
                record.put("operation", *operation);
                self.record(record, result);
            }
            Entry::Write(at, bytes) => {
                let mut input: &[u8] = bytes;
                // The core is ours, or a module that says what its page says.
                let Ok(what) = take::<Audited<'_>>(&mut input) else {
                    return;
                };
                let write = Write { at: *at, what };
                for (record, result) in write.records(&self.user) {
                    self.record(record, result);
                }
            }
        }
    }

    fn record(&mut self, record: Record, result: &str) {
        match self.format {
            AuditFormat::Text => record.text(&mut self.lines, result),
            AuditFormat::Json => record.json(&mut self.lines, result),
        }
    }
}

/// One line: fields in ZooKeeper's order.
struct Record {
    at: SystemTime,
    fields: Vec<(&'static str, String)>,
}

impl Record {
    const fn at(at: SystemTime) -> Self {
        Self {
            at,
            fields: Vec::new(),
        }
    }

    fn put(&mut self, name: &'static str, value: impl Into<String>) {
        self.fields.push((name, value.into()));
    }

    /// The time, and what ZooKeeper's logger writes: fields with tabs between.
    fn text(&self, lines: &mut String, result: &str) {
        *lines += &time(self.at);
        *lines += " ";
        for (name, value) in &self.fields {
            // What a client chose must not make lines or fields of its own.
            let value = value.replace(|c: char| c.is_control(), "");
            *lines += &format!("{name}={value}\t");
        }
        *lines += &format!("result={result}\n");
    }

    fn json(&self, lines: &mut String, result: &str) {
        let mut object = Map::new();
        object.insert("time".to_owned(), time(self.at).into());
        for (name, value) in &self.fields {
            object.insert((*name).to_owned(), value.as_str().into());
        }
        object.insert("result".to_owned(), result.into());
        *lines += &Value::Object(object).to_string();
        lines.push('\n');
    }
}

/// `2026-11-22T16:14:20.123Z`.
fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, ms) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil_date(i64::try_from(seconds / 86_400).unwrap_or(0));
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A write, or a session's end.
struct Write<'a> {
    at: SystemTime,
    what: Audited<'a>,
}

impl Write<'_> {
    fn records(&self, server: &str) -> Vec<(Record, &'static str)> {
        let done = self.what.error == 0;
        let result = if done { "success" } else { "failure" };
        if self.what.op == OpCode::CLOSE_SESSION {
            // Source: `DataTree.deleteNodes`: in the name of who runs the server.
            let gone = self
                .what
                .paths
                .or_empty()
                .split_terminator('\0')
                .map(|path| {
                    let mut record = Record::at(self.at);
                    record.put("session", self.what.session.to_string());
                    record.put("user", server);
                    record.put("operation", "ephemeralZNodeDeletionOnSessionCloseOrExpire");
                    record.put("znode", path);
                    (record, result)
                });
            return gone.collect();
        }
        let request = self.what.request.unwrap_or_default();
        let mut created = self.what.paths.or_empty().split_terminator('\0');
        if self.what.op == OpCode::MULTI {
            if !done {
                let whole = Operation::named("multiOperation");
                return vec![(self.record(whole), result)];
            }
            let operations = split_multi(request);
            let operations = operations
                .into_iter()
                .filter_map(|(op, body)| operation(op, body))
                .map(|operation| (self.record(operation.at(&mut created)), result));
            return operations.collect();
        }
        let operation = operation(self.what.op, request);
        let operation = operation.map(|operation| operation.at(&mut created));
        let record = operation.map(|operation| (self.record(operation), result));
        record.into_iter().collect()
    }

    fn record(&self, operation: Operation) -> Record {
        let mut record = Record::at(self.at);
        record.put("session", self.what.session.to_string());
        record.put("user", self.what.users.or_empty());
        // The address is the first that anybody has proved.
        let ip = self
            .what
            .users
            .or_empty()
            .split(',')
            .next()
            .unwrap_or_default();
        record.put("ip", ip);
        record.put("operation", operation.name);
        let rest = [
            ("znode", operation.path),
            ("znode_type", operation.kind.map(str::to_owned)),
            ("acl", operation.acl),
        ];
        for (name, value) in rest {
            if let Some(value) = value {
                record.put(name, value);
            }
        }
        record
    }
}

/// What was asked for.
struct Operation {
    name: &'static str,
    path: Option<String>,
    kind: Option<&'static str>,
    acl: Option<String>,
}

impl Operation {
    const fn named(name: &'static str) -> Self {
        Self {
            name,
            path: None,
            kind: None,
            acl: None,
        }
    }

    /// With the path that a created znode has got: of a sequential one it is another than was
    /// asked for.
    fn at<'a>(mut self, created: &mut impl Iterator<Item = &'a str>) -> Self {
        if self.name == "create"
            && let Some(path) = created.next()
        {
            self.path = Some(path.to_owned());
        }
        self
    }
}

/// What a request asks for, if that is audited: not of a `check`.
fn operation(op: OpCode, body: &[u8]) -> Option<Operation> {
    let mut input = body;
    let of = |name: &'static str, path: &jute::Text<'_>| {
        let mut operation = Operation::named(name);
        operation.path = path.0.as_deref().map(str::to_owned);
        operation
    };
    Some(match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER => {
            let request: CreateRequest<'_> = take(&mut input).ok()?;
            let mut operation = of("create", &request.path);
            operation.kind = kind(request.flags);
            operation
        }
        // ZooKeeper forgets this one, but in a multi.
        OpCode::CREATE_TTL => {
            let request: CreateTtlRequest<'_> = take(&mut input).ok()?;
            let mut operation = of("create", &request.create.path);
            operation.kind = kind(request.create.flags);
            operation
        }
        OpCode::DELETE => {
            let request: PathVersion<'_> = take(&mut input).ok()?;
            of("delete", &request.path)
        }
        OpCode::SET_DATA => {
            let request: SetDataRequest<'_> = take(&mut input).ok()?;
            of("setData", &request.path)
        }
        OpCode::SET_ACL => {
            let request: SetAclRequest<'_> = take(&mut input).ok()?;
            let mut operation = of("setAcl", &request.path);
            operation.acl = Some(acl(&request.acl));
            operation
        }
        OpCode::RECONFIG => Operation::named("reconfig"),
        _ => return None,
    })
}

/// Source: `CreateMode`.
const fn kind(flags: i32) -> Option<&'static str> {
    Some(match flags {
        0 => "persistent",
        1 => "ephemeral",
        2 => "persistent_sequential",
        3 => "ephemeral_sequential",
        4 => "container",
        5 => "persistent_with_ttl",
        6 => "persistent_sequential_with_ttl",
        _ => return None,
    })
}

/// `world:anyone:cdrwa`, several of them with commas between: ZooKeeper puts nothing there
/// (`ZKUtil.aclToString`), so that nobody can tell where one ends.
fn acl(list: &[AclText<'_>]) -> String {
    const LETTERS: [(Perms, char); 5] = [
        (Perms::CREATE, 'c'),
        (Perms::DELETE, 'd'),
        (Perms::READ, 'r'),
        (Perms::WRITE, 'w'),
        (Perms::ADMIN, 'a'),
    ];
    let entries = list.iter().map(|entry| {
        let entry = entry.to_acl();
        let letters = LETTERS
            .iter()
            .filter(|(perm, _)| entry.perms.0 & perm.0 != 0);
        let letters: String = letters.map(|(_, letter)| letter).collect();
        format!("{}:{}:{letters}", entry.id.scheme, entry.id.id)
    });
    entries.collect::<Vec<_>>().join(",")
}

/// The operations of a multi that was done, so that it is one.
fn split_multi(body: &[u8]) -> Vec<(OpCode, &[u8])> {
    let mut input = body;
    let mut operations = Vec::new();
    while let Ok(MultiHeader { op, done, .. }) = take(&mut input) {
        if done {
            break;
        }
        let start = input;
        let skipped = match op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER => {
                take::<CreateRequest<'_>>(&mut input).is_ok()
            }
            OpCode::CREATE_TTL => take::<CreateTtlRequest<'_>>(&mut input).is_ok(),
            OpCode::DELETE | OpCode::CHECK => take::<PathVersion<'_>>(&mut input).is_ok(),
            OpCode::SET_DATA => take::<SetDataRequest<'_>>(&mut input).is_ok(),
            _ => false,
        };
        if !skipped {
            break;
        }
        let length = start.len() - input.len();
        operations.push((op, start.get(..length).unwrap_or_default()));
    }
    operations
}

#[cfg(test)]
mod tests {
    use zabra_core::ids::SessionId;

    use super::*;

    fn lines(format: AuditFormat, what: &Audited<'_>) -> String {
        let mut writer = Writer {
            format,
            target: Target::StandardError,
            user: "zabra".to_owned(),
            lines: String::new(),
            complained: None,
        };
        let at = UNIX_EPOCH + Duration::from_millis(1_795_364_060_123);
        writer.line(&Entry::Write(at, jute::to_vec(what).into()));
        writer.lines
    }

    /// The line of a create.
    fn create(format: AuditFormat, path: &str, flags: i32, error: i32, created: &str) -> String {
        let request = CreateRequest {
            path: path.into(),
            data: None,
            acl: Vec::new(),
            flags,
        };
        let what = Audited {
            session: SessionId(0x1a),
            op: OpCode::CREATE,
            error,
            users: "10.0.0.1,ann".into(),
            paths: created.into(),
            request: Some(&jute::to_vec(&request)),
        };
        lines(format, &what)
    }

    #[test]
    fn line_has_zookeepers_fields_in_its_order() {
        assert_eq!(
            create(AuditFormat::Text, "/q-", 3, 0, "/q-0000000007\0"),
            "2026-11-22T16:14:20.123Z session=0x1a\tuser=10.0.0.1,ann\tip=10.0.0.1\t\
             operation=create\tznode=/q-0000000007\tznode_type=ephemeral_sequential\t\
             result=success\n"
        );
        assert_eq!(
            create(AuditFormat::Json, "/a", 0, -110, ""),
            "{\"time\":\"2026-11-22T16:14:20.123Z\",\"session\":\"0x1a\",\
             \"user\":\"10.0.0.1,ann\",\"ip\":\"10.0.0.1\",\"operation\":\"create\",\
             \"znode\":\"/a\",\"znode_type\":\"persistent\",\"result\":\"failure\"}\n"
        );
    }

    #[test]
    fn client_cannot_forge_lines() {
        let path = "/a\nsession=0x1\tuser=root";
        let text = create(AuditFormat::Text, path, 0, -8, "");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(text.matches('\t').count(), 6);
        let json = create(AuditFormat::Json, path, 0, -8, "");
        assert_eq!(json.lines().count(), 1);
    }
}
