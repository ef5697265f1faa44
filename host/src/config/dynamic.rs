//! Writes the memberships that an ensemble goes through into files, as a Java server does: either
//! can be started from what the other left.
//!
//! Beside `zoo.cfg` are `zoo.cfg.dynamic.<version>`, one for every membership that was in force,
//! and `zoo.cfg.dynamic.next`, the one that was proposed last. `zoo.cfg` names the one in force.
//! Every file is whole, old or new, whenever the power fails.
//!
//! Source: spec 4.5, `QuorumPeer.setQuorumVerifier`, `QuorumPeerConfig.editStaticConfig`.

use core::fmt;
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use zabra_core::{
    ids::ServerId,
    wire::properties,
    zab::{Membership, MembershipOp},
};

use super::{members::is_of_members, properties::decode};

/// The files of one server that say who is in the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The `zoo.cfg`, beside which the others are. Absolute.
    pub file: PathBuf,
    /// Which server this is.
    pub me: ServerId,
}

/// A file that could not be written or read.
#[derive(Debug)]
pub struct WriteError {
    /// Which.
    pub file: PathBuf,
    /// What was to be done with it: "written", "read".
    pub what: &'static str,
    /// Why not.
    pub source: io::Error,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, what, source } = self;
        write!(f, "{}: cannot be {what}: {source}", file.display())
    }
}

impl core::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Writes what is to be remembered of a membership. Waits for the disk. Doing it again changes
/// nothing.
///
/// # Errors
///
/// The file that could not be written. What was written before it stays: the file in force and
/// those that it names are whole in any case.
pub fn apply(files: &ConfigFiles, op: &MembershipOp) -> Result<(), WriteError> {
    match op {
        MembershipOp::Seen(membership) => write(
            &next_file(&files.file),
            next_text(membership).as_bytes(),
            None,
        ),
        MembershipOp::Active(membership) => activate(files, membership),
    }
}

fn activate(files: &ConfigFiles, membership: &Membership) -> Result<(), WriteError> {
    let file = &files.file;
    let dynamic = with_suffix(file, &format!(".dynamic.{:x}", membership.version));
    write(&dynamic, membership.to_file_text().as_bytes(), None)?;

    let bytes = fs::read(file).map_err(failed(file, "read"))?;
    let metadata = fs::metadata(file).map_err(failed(file, "read"))?;
    let permissions = Some(metadata.permissions());
    let text = decode(&bytes);
    if properties::without(&text, is_member_key) != text {
        write(&with_suffix(file, ".bak"), &bytes, permissions.clone())?;
    }
    let own = membership.member(files.me);
    let has_client = own.is_some_and(|member| member.client.is_some());
    let kept = properties::without(&text, |key| {
        let key = key.strip_prefix("zookeeper.").unwrap_or(key);
        is_member_key(key)
            || ["peerType", "dynamicConfigFile"].contains(&key)
            || has_client && ["clientPort", "clientPortAddress"].contains(&key)
    });
    let mut bytes = encode(&bytes, &kept);
    if !kept.is_empty() && !kept.ends_with(['\n', '\r']) {
        bytes.push(b'\n');
    }
    let name = dynamic.to_str().ok_or_else(|| {
        let error = io::Error::other("expected a path in UTF-8, which a zoo.cfg can name");
        failed(&dynamic, "named")(error)
    })?;
    bytes.extend_from_slice(b"dynamicConfigFile=");
    bytes.extend_from_slice(escape(name).as_bytes());
    bytes.push(b'\n');
    write(file, &bytes, permissions)?;
    remove_next(&next_file(file), membership.version)
}

/// Removes the membership that was proposed, unless it is newer than that of this version.
fn remove_next(next: &Path, version: i64) -> Result<(), WriteError> {
    let bytes = match fs::read(next) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(next, "read")(error)),
    };
    if Membership::parse(&decode(&bytes)).is_ok_and(|seen| seen.version > version) {
        return Ok(());
    }
    fs::remove_file(next).map_err(failed(next, "removed"))?;
    sync_directory(next)
}

/// Whether a `zoo.cfg` says by this key who is in the ensemble.
fn is_member_key(key: &str) -> bool {
    is_of_members(key.strip_prefix("zookeeper.").unwrap_or(key))
}

/// The lines of the text in their order as text: what Java writes there, version included.
fn next_text(membership: &Membership) -> String {
    let text = membership.to_text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The file of a membership that was proposed.
pub(super) fn next_file(file: &Path) -> PathBuf {
    with_suffix(file, ".dynamic.next")
}

/// The version of the membership in a file of this name; 0 if the name has none.
///
/// Source: `QuorumPeerConfig.getVersionFromFilename`.
pub(super) fn version_of(file: &Path) -> i64 {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let version = name.rsplit_once('.').map(|(_, suffix)| suffix);
    let version = version.and_then(|hex| i64::from_str_radix(hex, 16).ok());
    version.filter(|version| *version >= 0).unwrap_or(0)
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// As a value of a properties file, in ASCII: Java reads any other byte as ISO-8859-1.
fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            ' '..='~' => escaped.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

/// The text in the encoding of the bytes of which it is a part.
fn encode(original: &[u8], text: &str) -> Vec<u8> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    if str::from_utf8(original).is_err() {
        // It was read as ISO-8859-1, whose characters are those of one byte.
        return text
            .chars()
            .map(|c| u8::try_from(c).unwrap_or(b'?'))
            .collect();
    }
    let mut bytes = Vec::new();
    if original.starts_with(BOM) {
        bytes.extend_from_slice(BOM);
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Puts a file of these bytes into the place of what is there: wholly or not at all.
fn write(
    file: &Path,
    bytes: &[u8],
    permissions: Option<fs::Permissions>,
) -> Result<(), WriteError> {
    let temporary = with_suffix(file, ".tmp");
    let written = File::create(&temporary).and_then(|mut to| {
        if let Some(permissions) = permissions {
            // Before there is anything to read: a zoo.cfg may hold secrets.
            to.set_permissions(permissions)?;
        }
        to.write_all(bytes)?;
        to.sync_all()
    });
    written.map_err(failed(&temporary, "written"))?;
    fs::rename(&temporary, file).map_err(failed(file, "replaced"))?;
    sync_directory(file)
}

/// Makes the names in a file's directory durable.
fn sync_directory(file: &Path) -> Result<(), WriteError> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed(directory, "synced"))
}

fn failed(file: &Path, what: &'static str) -> impl Fn(io::Error) -> WriteError {
    let file = file.to_owned();
    move |source| WriteError {
        file: file.clone(),
        what,
        source,
    }
}
