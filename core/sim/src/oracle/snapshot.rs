//! Snapshots are exact: each is compared with the model at the zxid in its name.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::{Node, State};
use crate::violation::{Violation, ensure};
use crate::wire::{Acl, Reader};

/// Compares a snapshot file with the state it must hold; `own` is a znode of which every server
/// has its own.
pub fn check(file: &[u8], state: &State, own: Option<&str>) -> Result<(), Violation> {
    let found = decode(file).map_err(|error| Violation::new("snapshot", error))?;
    let (sessions, nodes) = found;
    ensure(sessions == state.sessions, "snapshot: sessions", || {
        format!(
            "at {}: expected {:x?}, found {sessions:x?}",
            state.zxid, state.sessions
        )
    })?;
    let common = state.nodes.iter();
    for (path, node) in common.filter(|(path, _)| Some(&***path) != own) {
        let found = nodes.get(&**path);
        ensure(found == Some(&**node), "snapshot: znodes", || {
            format!(
                "{path} at {}: expected {node:?}, found {found:?}",
                state.zxid
            )
        })?;
    }
    let extra = nodes
        .keys()
        .find(|path| !state.nodes.contains_key(path.as_str()));
    ensure(extra.is_none(), "snapshot: znodes", || {
        format!("{extra:?} at {} is too many", state.zxid)
    })
}

type Contents = (BTreeMap<i64, i32>, BTreeMap<String, Node>);

fn decode(file: &[u8]) -> Result<Contents, String> {
    let mut input = Reader(file);
    let (magic, version, _database) = (input.take(4)?, input.int()?, input.long()?);
    if magic != b"ZKSN" || version != 2 {
        return Err(format!("begins with {magic:?}, version {version}"));
    }
    let mut sessions = BTreeMap::new();
    for _ in 0..input.count()? {
        sessions.insert(input.long()?, input.int()?);
    }
    let mut lists: BTreeMap<i64, Rc<[Acl]>> = BTreeMap::new();
    lists.insert(-1, Rc::from([Acl::new(31, "world", "anyone")]));
    for _ in 0..input.count()? {
        lists.insert(input.long()?, input.acl()?.into());
    }
    let mut nodes = BTreeMap::new();
    loop {
        let path = input.path()?;
        if path == "/" {
            break;
        }
        let data = input.buffer()?.map(Into::into);
        let acl = input.long()?;
        let acl = lists
            .get(&acl)
            .ok_or_else(|| format!("{path} has unknown ACL {acl}"))?;
        let node = Node {
            data,
            acl: Rc::clone(acl),
            czxid: input.long()?,
            mzxid: input.long()?,
            ctime: input.long()?,
            mtime: input.long()?,
            version: input.int()?,
            cversion: input.int()?,
            aversion: input.int()?,
            owner: input.long()?,
            pzxid: input.long()?,
        };
        let path = if path.is_empty() {
            "/".to_owned()
        } else {
            path
        };
        if nodes.insert(path.clone(), node).is_some() {
            return Err(format!("{path} stands twice"));
        }
    }
    seals(file, input)?;
    Ok((sessions, nodes))
}

/// Checks the checksums: after the znodes, after the digest, after the last zxid.
fn seals(file: &[u8], mut input: Reader<'_>) -> Result<(), String> {
    seal(file, &mut input)?;
    if input.0.len() >= 33 {
        input.take(20)?;
        seal(file, &mut input)?;
    }
    if !input.0.is_empty() {
        input.take(8)?;
        seal(file, &mut input)?;
    }
    input.end()
}

fn seal(file: &[u8], input: &mut Reader<'_>) -> Result<(), String> {
    let before = file.len() - input.0.len();
    let expected = adler32(file.get(..before).unwrap_or_default());
    let found = input.long()?;
    let name = input.path()?;
    if found != i64::from(expected) || name != "/" {
        return Err(format!(
            "expected seal {expected:#x}, found {found:#x} {name:?}"
        ));
    }
    Ok(())
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for chunk in bytes.chunks(5552) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65521;
        b %= 65521;
    }
    b << 16 | a
}
