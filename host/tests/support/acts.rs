//! What a client does that is worth auditing.

use super::process::Server;
use super::wire::{Acl, Client, Op, flags};

const SESSION_MS: i32 = 30_000;

/// Does a bit of everything that an audit log tells of; returns the session's number.
pub(crate) fn act(server: &Server) -> String {
    let mut client = Client::open(server.address, SESSION_MS).unwrap();
    let open = Acl::open();
    client
        .create("/a", Some(b"1"), &open, flags::PERSISTENT)
        .unwrap();
    client
        .create("/a", None, &open, flags::PERSISTENT)
        .unwrap_err();
    client
        .create("/a/s-", None, &open, flags::SEQUENTIAL)
        .unwrap();
    client
        .create("/eph", None, &open, flags::EPHEMERAL)
        .unwrap();
    client.set_data("/a", Some(b"2"), -1).unwrap();
    client.set_data("/none", Some(b"2"), -1).unwrap_err();
    client.set_acl("/a", &open, -1).unwrap();
    client.data("/a", false).unwrap();
    client
        .multi(&[
            Op::Check {
                path: "/a",
                version: -1,
            },
            Op::Create {
                path: "/m",
                data: None,
                flags: flags::PERSISTENT,
            },
            delete("/m"),
        ])
        .unwrap();
    client.multi(&[delete("/a/none"), delete("/m")]).unwrap();
    client.add_auth("digest", b"ann:secret").unwrap();
    client.delete("/a/s-0000000000", -1).unwrap();
    let session = format!("0x{:x}", client.session_id);
    client.close().unwrap();
    session
}

const fn delete(path: &str) -> Op<'_> {
    Op::Delete { path, version: -1 }
}
