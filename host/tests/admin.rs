//! What operators and their tools ask over HTTP, of real processes: ZooKeeper's commands, health,
//! metrics; and the audit log.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is what is wanted"
)]

#[path = "admin/audit.rs"]
mod audit;
#[path = "admin/commands.rs"]
mod commands;
#[path = "admin/hostile.rs"]
mod hostile;
#[path = "admin/metrics.rs"]
mod metrics;
#[path = "support"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod support {
    pub(crate) mod acts;
    pub(crate) mod http;
    pub(crate) mod process;
    pub(crate) mod tree;
    pub(crate) mod wire;
}

use core::net::SocketAddr;

use serde_json::Value;
use support::http::get;
use support::process::{Directory, Kind, Server, free_address};

const SESSION_MS: i32 = 30_000;
/// super:test.
const SUPER: &str = "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// A server with an AdminServer.
struct Administered {
    server: Server,
    admin: SocketAddr,
    directory: Directory,
}

impl Administered {
    fn start(test: &str, more: &[&str]) -> Self {
        let directory = Directory::new(test);
        let admin = free_address();
        let port = format!("admin.serverPort={}", admin.port());
        let mut options = vec!["admin.enableServer=true", &port, SUPER];
        options.extend(more);
        let server = Server::start(Kind::Zabra, directory.path(), &options);
        Self {
            server,
            admin,
            directory,
        }
    }

    /// What a command answers, as JSON.
    fn command(&self, name: &str) -> Value {
        let answer = get(self.admin, &format!("/commands/{name}")).unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        serde_json::from_slice(&answer.body).unwrap()
    }
}
