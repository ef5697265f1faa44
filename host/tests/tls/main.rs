//! TLS over real sockets, against servers in processes of their own: who is let in and as whom,
//! what is refused and why, and what a server does for others meanwhile. With Java's TLS:
//! `tests/peers` and `tests/ensemble`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what is wanted"
)]

mod clients;
mod hostile;
#[path = "../ensemble/members.rs"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod members;
mod quorum;
mod reload;
#[path = "../support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod certs;
    pub(crate) mod http;
    pub(crate) mod process;
    pub(crate) mod raw;
    pub(crate) mod tree;
    pub(crate) mod wire;
    pub(crate) mod witness;
}
mod tunnel;

use core::net::SocketAddr;
use std::fs;

use support::certs::{Authority, Certified, stores};
use support::process::{Directory, Kind, Server, free_address};

/// A server with a plain port and one for TLS, and who is trusted there.
struct Secure {
    server: Server,
    /// The port for TLS.
    address: SocketAddr,
    authority: Authority,
    home: Directory,
}

impl Secure {
    fn start(test: &str, options: &[&str]) -> Self {
        let home = Directory::new(test);
        let authority = Authority::new("Zabra test authority");
        let own = authority.certify("server", &["localhost", "127.0.0.1"]);
        let key = own.write(&home.path().join("server.pem"));
        let trust = home.path().join("trust.pem");
        fs::write(&trust, &authority.pem).unwrap();
        let address = free_address();
        let [key, trust] = stores("ssl.", &key, &trust);
        let port = format!("secureClientPort={}", address.port());
        let mut lines = vec![key, trust, port, "secureClientPortAddress=127.0.0.1".into()];
        lines.extend(options.iter().map(|line| (*line).to_owned()));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let server = Server::start(Kind::Zabra, home.path(), &lines);
        Self {
            server,
            address,
            authority,
            home,
        }
    }

    fn certify(&self, name: &str) -> Certified {
        self.authority.certify(name, &[])
    }
}
