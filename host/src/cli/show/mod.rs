//! What `zabra log` and `zabra snapshot` print: one JSON object a line.

mod txn;
mod znode;

use std::io::{self, BufWriter, StdoutLock, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use zabra_core::ids::Zxid;
use zabra_core::path::validate;
use zabra_core::wire::records::{Acl, Perms};

use crate::backup::{Point, parse_time};

pub(super) use txn::{TxnLine, touches};
pub(super) use znode::{SessionLine, ZnodeLine, preorder};

/// Standard output, line by line.
pub(super) struct Lines(BufWriter<StdoutLock<'static>>);

impl Lines {
    pub(super) fn new() -> Self {
        Self(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    pub(super) fn json(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }

    pub(super) fn text(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Data as text where it is text, else in base64.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Data {
    /// Text, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl From<Option<&[u8]>> for Data {
    fn from(data: Option<&[u8]>) -> Self {
        match data.map(|bytes| (bytes, core::str::from_utf8(bytes))) {
            None => Self {
                data: Some(None),
                data_base64: None,
            },
            Some((_, Ok(text))) => Self {
                data: Some(Some(text.to_owned())),
                data_base64: None,
            },
            Some((bytes, Err(_))) => Self {
                data: None,
                data_base64: Some(STANDARD.encode(bytes)),
            },
        }
    }
}

/// An entry of an ACL.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct AclLine {
    perms: String,
    scheme: String,
    id: String,
}

impl From<&Acl> for AclLine {
    fn from(acl: &Acl) -> Self {
        Self {
            perms: perms(acl.perms),
            scheme: acl.id.scheme.clone(),
            id: acl.id.id.clone(),
        }
    }
}

/// As zkCli writes them, `cdrwa`, or the number if there is more in it.
fn perms(perms: Perms) -> String {
    if perms.0 & !Perms::ALL.0 != 0 {
        return perms.0.to_string();
    }
    let letters = [
        (Perms::CREATE, 'c'),
        (Perms::DELETE, 'd'),
        (Perms::READ, 'r'),
        (Perms::WRITE, 'w'),
        (Perms::ADMIN, 'a'),
    ];
    let has = letters.iter().filter(|(perm, _)| perms.meets(*perm));
    has.map(|(_, letter)| letter).collect()
}

/// Reads a zxid from the command line.
pub(super) fn parse_zxid(text: &str) -> Result<Zxid, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let number = digits.and_then(|digits| i64::from_str_radix(digits, 16).ok());
    match number {
        // A sign after the prefix is none of ours.
        Some(number) if number >= 0 && !text.contains(['+', '-']) => Ok(Zxid(number)),
        _ => Err(format!(
            "expected a zxid in hexadecimal such as 0x10000002d, found {text:?}"
        )),
    }
}

/// Reads a znode's path.
pub(super) fn parse_path(text: &str) -> Result<String, String> {
    match validate(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "expected a znode's path such as /app, found {text:?}"
        )),
    }
}

/// Reads a zxid or a time.
pub(super) fn parse_point(text: &str) -> Result<Point, String> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return parse_zxid(text).map(Point::Zxid);
    }
    let time = parse_time(text).map(Point::Time);
    time.map_err(|_| {
        format!(
            "expected a zxid such as 0x10000002d or a time in UTC such as 2026-11-23T01:02:03Z, \
             found {text:?}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxids_are_hexadecimal_with_their_prefix() {
        assert_eq!(parse_zxid("0x10000002d"), Ok(Zxid(0x1_0000_002d)));
        assert_eq!(parse_zxid("0X0"), Ok(Zxid::ZERO));
        for text in ["", "0x", "31", "0x-1", "0x+1", "0xg", "0x8000000000000000"] {
            assert!(parse_zxid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn data_is_text_or_base64_or_null() {
        let line = |data: Option<&[u8]>| serde_json::to_string(&Data::from(data)).ok();
        assert_eq!(line(None).as_deref(), Some("{\"data\":null}"));
        assert_eq!(line(Some(b"")).as_deref(), Some("{\"data\":\"\"}"));
        assert_eq!(
            line(Some("a\"ü\n".as_bytes())).as_deref(),
            Some("{\"data\":\"a\\\"ü\\n\"}")
        );
        assert_eq!(
            line(Some(b"\xff\0")).as_deref(),
            Some("{\"data_base64\":\"/wA=\"}")
        );
    }

    #[test]
    fn permissions_are_zkclis_letters() {
        assert_eq!(perms(Perms::ALL), "cdrwa");
        assert_eq!(perms(Perms(1)), "r");
        assert_eq!(perms(Perms(0)), "");
        assert_eq!(perms(Perms(-1)), "-1");
    }
}
