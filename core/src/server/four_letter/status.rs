//! Who is connected and how it goes: `srvr`, `stat`, `cons`; and `crst`, `srst`, which start the
//! counts anew.
//!
//! Source: `ServerStats.toString`, `StatCommand`, `ServerCnxn.dumpConnectionInfo`.

use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use super::latency::Mean;
use crate::ids::SessionId;
use crate::server::auth::address_text;
use crate::server::conn::{Conn, ConnStats, Stage};
use crate::server::{Server, Stats};
use crate::wire::client::OpCode;

impl Server {
    pub(super) fn srvr(&self) -> String {
        let version = self.version();
        let read_only = self.core.read_only_line();
        format!(
            "Zookeeper version: {version}\n{read_only}{}",
            self.condition()
        )
    }

    pub(super) fn stat(&self) -> String {
        let (version, read_only) = (self.version(), self.core.read_only_line());
        let mut text = format!("Zookeeper version: {version}\n{read_only}Clients:\n");
        for conn in self.conns.values() {
            text += &format!(" {}\n", brief(conn));
        }
        text + "\n" + &self.condition()
    }

    fn condition(&self) -> String {
        let (core, stats) = (&self.core, &self.core.stats);
        let latency = stats.latency_ms;
        format!(
            "Latency min/avg/max: {}/{}/{}\n\
             Received: {}\n\
             Sent: {}\n\
             Connections: {}\n\
             Outstanding: {}\n\
             Zxid: {}\n\
             Mode: {}\n\
             Node count: {}\n{}",
            latency.min,
            Mean(latency),
            latency.max,
            stats.received,
            stats.sent,
            self.conns.len(),
            core.outstanding,
            core.last_processed(),
            core.mode(),
            core.node_count(),
            core.proposal_line(),
        )
    }

    pub(super) fn cons(&self) -> String {
        let mut text = String::new();
        for conn in self.conns.values() {
            text += &full(conn);
        }
        text + "\n"
    }

    pub(super) fn reset_connections(&mut self) -> String {
        for conn in self.conns.values_mut() {
            conn.stats = ConnStats::reset();
        }
        "Connection stats reset.\n".into()
    }

    pub(super) fn reset_server(&mut self) -> String {
        let stats = &mut self.core.stats;
        *stats = Stats {
            trace_mask: stats.trace_mask,
            ..Stats::default()
        };
        "Server stats reset.\n".into()
    }
}

/// `/<address>:<port>[<what is awaited of it>](queued=…`.
fn brief(conn: &Conn) -> String {
    format!("{})", opening(conn))
}

fn opening(conn: &Conn) -> String {
    // As a Java selection key's interest: 1 to read, 4 to write.
    let reads = !conn.paused && conn.stage != Stage::Closing;
    let interest = u8::from(reads) + 4 * u8::from(conn.unflushed > 0);
    format!(
        "{}[{interest}](queued={},recved={},sent={}",
        address(conn),
        conn.pending.len(),
        conn.stats.received,
        conn.stats.sent,
    )
}

/// A connection's peer as Java's `InetSocketAddress.toString` prints it.
pub(super) fn address(conn: &Conn) -> String {
    let (ip, port) = (conn.peer.ip(), conn.peer.port());
    let text = address_text(ip);
    match ip.to_canonical() {
        IpAddr::V4(_) => format!("/{text}:{port}"),
        IpAddr::V6(_) => format!("/[{text}]:{port}"),
    }
}

fn full(conn: &Conn) -> String {
    let opening = opening(conn);
    if conn.session == SessionId::NONE {
        return format!(" {opening})\n");
    }
    let stats = &conn.stats;
    let cxid = match stats.last_cxid {
        Some(xid) => format!(",lcxid=0x{xid:x}"),
        None => String::new(),
    };
    let latency = stats.latency_ms;
    format!(
        " {opening},sid={},lop={},est={},to={}{cxid},lzxid={},lresp={},\
         llat={},minlat={},avglat={},maxlat={})\n",
        conn.session,
        operation(stats.last_op),
        conn.established.0,
        conn.timeout_ms,
        stats.last_zxid,
        stats.last_response.0 / 1000,
        stats.last_latency_ms,
        latency.min,
        latency.sum.checked_div(latency.count).unwrap_or(0),
        latency.max,
    )
}

/// How `cons` names an operation. A refused write is none. Source: `FinalRequestProcessor`.
const fn operation(op: OpCode) -> &'static str {
    match op {
        OpCode::CREATE_SESSION => "SESS",
        OpCode::CLOSE_SESSION => "CLOS",
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => "CREA",
        OpCode::DELETE | OpCode::DELETE_CONTAINER => "DELE",
        OpCode::EXISTS => "EXIS",
        OpCode::GET_DATA => "GETD",
        OpCode::SET_DATA => "SETD",
        OpCode::GET_ACL => "GETA",
        OpCode::SET_ACL => "SETA",
        OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => "GETC",
        OpCode::SYNC => "SYNC",
        OpCode::PING => "PING",
        OpCode::CHECK => "CHEC",
        OpCode::MULTI => "MULT",
        OpCode::RECONFIG => "RECO",
        OpCode::CHECK_WATCHES => "CHKW",
        OpCode::REMOVE_WATCHES => "REMW",
        OpCode::MULTI_READ => "MLTR",
        OpCode::SET_WATCHES => "SETW",
        OpCode::SET_WATCHES2 => "STW2",
        OpCode::ADD_WATCH => "ADDW",
        OpCode::GET_EPHEMERALS => "GETE",
        OpCode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        OpCode::WHO_AM_I => "HOMI",
        _ => "NA",
    }
}
