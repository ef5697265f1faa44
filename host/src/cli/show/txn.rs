//! A transaction.

use serde::Serialize;
use zabra_core::wire::client::OpCode;
use zabra_core::wire::log::Record;
use zabra_core::wire::records::to_acls;
use zabra_core::wire::txn::{CreateKind, Txn, TxnDigest, TxnHeader};

use super::{AclLine, Data};
use crate::backup::{format_time, is_below};

/// A transaction of a log.
#[derive(Serialize)]
pub(in crate::cli) struct TxnLine<'a> {
    zxid: String,
    time: String,
    session: String,
    cxid: i32,
    #[serde(flatten)]
    op: OpLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    file: &'a str,
    offset: u64,
}

/// What a transaction, or a part of a multi, does.
#[derive(Default, Serialize)]
struct OpLine {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(flatten)]
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acl: Option<Vec<AclLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ephemeral: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_cversion: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<Vec<Self>>,
}

impl<'a> TxnLine<'a> {
    pub(in crate::cli) fn new(
        file: &'a str,
        record: &Record<'_>,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
    ) -> Self {
        Self {
            zxid: header.zxid.to_string(),
            time: format_time(header.time),
            session: header.client.to_string(),
            cxid: header.cxid.0,
            op: OpLine::new(header.op, txn),
            digest: digest.map(|digest| format!("{:x}", digest.digest)),
            file,
            offset: record.offset,
        }
    }
}

impl OpLine {
    fn new(op: OpCode, txn: &Txn<'_>) -> Self {
        let line = Self {
            r#type: name(op),
            ..Self::default()
        };
        match txn {
            Txn::Check { path, version } => Self {
                path: Some(path.to_string()),
                version: Some(*version),
                ..line
            },
            Txn::CloseSession { paths } => Self {
                paths: paths.as_ref().map(|paths| {
                    paths
                        .iter()
                        .map(|path| path.or_empty().to_owned())
                        .collect()
                }),
                ..line
            },
            Txn::Create {
                path,
                data,
                acl,
                kind,
                parent_cversion,
            } => Self {
                path: Some(path.to_string()),
                data: Some((*data).into()),
                acl: Some(to_acls(acl).iter().map(AclLine::from).collect()),
                ephemeral: (*kind == CreateKind::Ephemeral).then_some(true),
                ttl_ms: match kind {
                    CreateKind::Ttl(ttl_ms) => Some(*ttl_ms),
                    CreateKind::Container | CreateKind::Ephemeral | CreateKind::Persistent => None,
                },
                parent_cversion: Some(*parent_cversion),
                ..line
            },
            Txn::CreateSession { timeout_ms } => Self {
                timeout_ms: Some(*timeout_ms),
                ..line
            },
            Txn::Delete { path } => Self {
                path: Some(path.to_string()),
                ..line
            },
            Txn::Error(code) => Self {
                code: Some(code.0),
                error: Some(code.text().to_owned()),
                ..line
            },
            Txn::Multi(parts) => Self {
                ops: Some(
                    parts
                        .iter()
                        .map(|(op, part)| Self::new(*op, part))
                        .collect(),
                ),
                ..line
            },
            Txn::SetData {
                path,
                data,
                version,
            } => Self {
                path: Some(path.to_string()),
                data: Some((*data).into()),
                version: Some(*version),
                ..line
            },
            Txn::SetAcl { path, acl, version } => Self {
                path: Some(path.to_string()),
                acl: Some(to_acls(acl).iter().map(AclLine::from).collect()),
                version: Some(*version),
                ..line
            },
        }
    }
}

/// ZooKeeper's word for an operation. Source: `Request.op2String`.
fn name(op: OpCode) -> String {
    let name = match op {
        OpCode::CREATE_SESSION => "createSession",
        OpCode::CLOSE_SESSION => "closeSession",
        OpCode::ERROR => "error",
        OpCode::CREATE => "create",
        OpCode::DELETE => "delete",
        OpCode::SET_DATA => "setData",
        OpCode::SET_ACL => "setACL",
        OpCode::CHECK => "check",
        OpCode::MULTI => "multi",
        OpCode::CREATE2 => "create2",
        OpCode::RECONFIG => "reconfig",
        OpCode::CREATE_CONTAINER => "createContainer",
        OpCode::DELETE_CONTAINER => "deleteContainer",
        OpCode::CREATE_TTL => "createTTL",
        OpCode(other) => return format!("unknown {other}"),
    };
    name.to_owned()
}

/// Whether a transaction is about a znode at or below `top`.
pub(in crate::cli) fn touches(txn: &Txn<'_>, top: &str) -> bool {
    match txn {
        Txn::Check { path, .. }
        | Txn::Create { path, .. }
        | Txn::Delete { path }
        | Txn::SetAcl { path, .. }
        | Txn::SetData { path, .. } => is_below(path, top),
        Txn::CloseSession { paths } => {
            let mut paths = paths.iter().flatten();
            paths.any(|path| is_below(path.or_empty(), top))
        }
        Txn::Multi(parts) => parts.iter().any(|(_, part)| touches(part, top)),
        Txn::CreateSession { .. } | Txn::Error(_) => false,
    }
}
