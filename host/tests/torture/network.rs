//! Where servers live and who can reach whom.
//!
//! ```text
//! the run's own namespaces (network, mounts, processes: whatever is in them ends with the run)
//!   clients 10.99.0.254 -- bridge --+-- 10.99.0.1 namespace s1: server 1, its nftables drop
//!                                   +-- 10.99.0.2 namespace s2: server 2  what it must not hear
//! ```
//!
//! Without the right to make namespaces servers live on loopback ports, and nobody is cut off.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeSet;
use std::env;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{self, Command, ExitCode, Stdio};

use super::membership::Role;
use super::options::Options;

/// In the environment of a process that is in namespaces of its own.
const INSIDE: &str = "TORTURE_NAMESPACES";
const CLIENT_PORT: u16 = 2181;
const QUORUM_PORT: u16 = 2888;
const ELECTION_PORT: u16 = 3888;

const UNSHARE: [&str; 6] = [
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
/// Without root a user may be root in a namespace of users.
const USER: [&str; 2] = ["--user", "--map-root-user"];

/// Everything that a run needs of the system, tried.
const PROBE: &str = "set -e; mount -t tmpfs torture /run; mkdir /run/netns; ip netns add probe
ip link add br0 type bridge; ip link add v1 type veth peer name eth0 netns probe
nsenter --net=/run/netns/probe nft add table ip torture";

/// Server's number, or [`CLIENTS`].
pub(crate) type Host = u32;

/// Where the clients are.
pub(crate) const CLIENTS: Host = 0;

/// Where a process is after [`enter`].
pub(crate) enum Inside {
    /// It was there: a process of its own has done the work.
    Left(ExitCode),
    /// In namespaces of its own.
    Namespaces,
    /// Where it began: there are no namespaces to be had.
    Loopback,
}

/// Begins this program again in namespaces of its own, unless it is there.
pub(crate) fn enter(options: &Options) -> Inside {
    if env::var_os(INSIDE).is_some() {
        run("mount", &["-t", "tmpfs", "torture", "/run"]);
        run("mkdir", &["/run/netns"]);
        run("ip", &["link", "set", "lo", "up"]);
        return Inside::Namespaces;
    }
    let mut wrong = String::new();
    for user in [&[][..], &USER] {
        let mut probe = Command::new("unshare");
        probe.args(user).args(UNSHARE).args(["sh", "-c", PROBE]);
        match probe.output() {
            Ok(output) if output.status.success() => return Inside::Left(again(user, options)),
            Ok(output) => wrong = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => wrong = format!("unshare: {error}"),
        }
    }
    eprintln!("torture: no network namespaces, so nobody is cut off and no disk is full: {wrong}");
    Inside::Loopback
}

fn again(user: &[&str], options: &Options) -> ExitCode {
    let mut command = Command::new("unshare");
    command
        .args(user)
        .args(UNSHARE)
        .arg(env::current_exe().unwrap())
        .args(env::args_os().skip(1));
    if !env::args().any(|argument| argument == "--seed") {
        command.args(["--seed", &options.seed.to_string()]);
    }
    let id = process::id().to_string();
    let status = command.env(INSIDE, id).status().unwrap();
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A number that no other run of this moment has. Within a namespace of processes numbers begin
/// anew.
pub(crate) fn run_id() -> String {
    env::var(INSIDE).unwrap_or_else(|_| process::id().to_string())
}

/// The addresses of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) client: SocketAddr,
    pub(crate) quorum: SocketAddr,
    pub(crate) election: SocketAddr,
}

/// The network of one ensemble.
pub(crate) struct Network {
    servers: Vec<Addresses>,
    namespaces: bool,
}

impl Network {
    pub(crate) fn new(servers: u32, namespaces: bool) -> Self {
        if namespaces {
            make_namespaces(servers);
        }
        let addresses = |server| {
            if namespaces {
                let ip = ip(server);
                Addresses {
                    client: (ip, CLIENT_PORT).into(),
                    quorum: (ip, QUORUM_PORT).into(),
                    election: (ip, ELECTION_PORT).into(),
                }
            } else {
                let at = |kind| free_address(3 * server + kind);
                Addresses {
                    client: at(0),
                    quorum: at(1),
                    election: at(2),
                }
            }
        };
        Self {
            servers: (1..=servers).map(addresses).collect(),
            namespaces,
        }
    }

    /// Whether hosts can be cut off.
    pub(crate) const fn can_cut(&self) -> bool {
        self.namespaces
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = Host> + use<> {
        1..=u32::try_from(self.servers.len()).unwrap_or(0)
    }

    pub(crate) fn of(&self, server: Host) -> Addresses {
        let index = usize::try_from(server).unwrap_or(0).wrapping_sub(1);
        *self.servers.get(index).expect("a server of the ensemble")
    }

    /// What stands behind `server.N=` of a server in a membership.
    pub(crate) fn member(&self, server: Host, role: Role) -> String {
        let Addresses {
            client,
            quorum,
            election,
        } = self.of(server);
        let role = match role {
            Role::Observer => "observer",
            Role::Participant => "participant",
        };
        format!("{quorum}:{}:{role};{client}", election.port())
    }

    /// A command that runs where the server lives.
    pub(crate) fn command(&self, server: Host, program: &Path) -> Command {
        if !self.namespaces {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/s{server}"))
            .arg(program);
        command
    }

    /// From now on nothing of the first of each pair reaches the second; everything else does. The
    /// second is a server.
    pub(crate) fn cut(&self, pairs: &BTreeSet<(Host, Host)>) {
        if !self.namespaces {
            return;
        }
        for server in self.servers() {
            let mut rules = "add table ip torture\ndelete table ip torture\n".to_owned();
            rules.push_str("table ip torture {\n chain input {\n");
            rules.push_str("  type filter hook input priority 0; policy accept;\n");
            for (from, _) in pairs.iter().filter(|(_, to)| *to == server) {
                writeln!(rules, "  ip saddr {} drop", ip(*from)).unwrap();
            }
            rules.push_str(" }\n}\n");
            feed_nft(server, &rules);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.namespaces {
            for server in self.servers() {
                // At once: with its namespace it would be gone some time later.
                let link = format!("v{server}");
                let _ = Command::new("ip").args(["link", "delete", &link]).status();
                let _ = Command::new("ip")
                    .args(["netns", "delete", &format!("s{server}")])
                    .status();
            }
            let _ = Command::new("ip").args(["link", "delete", "br0"]).status();
        }
    }
}

fn ip(host: Host) -> IpAddr {
    let last = if host == CLIENTS {
        254
    } else {
        u8::try_from(host).expect("few servers")
    };
    Ipv4Addr::new(10, 99, 0, last).into()
}

fn make_namespaces(servers: u32) {
    run("ip", &["link", "add", "br0", "type", "bridge"]);
    let address = format!("{}/24", ip(CLIENTS));
    run("ip", &["address", "add", &address, "dev", "br0"]);
    run("ip", &["link", "set", "br0", "up"]);
    for server in 1..=servers {
        let (space, link) = (format!("s{server}"), format!("v{server}"));
        run("ip", &["netns", "add", &space]);
        let peer = ["peer", "name", "eth0", "netns", &space];
        run(
            "ip",
            &[&["link", "add", &link, "type", "veth"][..], &peer].concat(),
        );
        run("ip", &["link", "set", &link, "master", "br0", "up"]);
        let address = format!("{}/24", ip(server));
        run(
            "ip",
            &["-n", &space, "address", "add", &address, "dev", "eth0"],
        );
        run("ip", &["-n", &space, "link", "set", "lo", "up"]);
        run("ip", &["-n", &space, "link", "set", "eth0", "up"]);
    }
}

fn feed_nft(server: Host, rules: &str) {
    let mut nft = Command::new("nsenter")
        .arg(format!("--net=/run/netns/s{server}"))
        .args(["nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = nft.stdin.take().unwrap();
    stdin.write_all(rules.as_bytes()).unwrap();
    drop(stdin);
    assert!(nft.wait().unwrap().success(), "nft: {rules}");
}

/// Runs a command that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An address that nobody listens on, outside the range from which the kernel takes ports for
/// connections.
fn free_address(number: u32) -> SocketAddr {
    let begin = process::id().wrapping_mul(41).wrapping_add(number);
    let free = (0..200).find_map(|attempt: u32| {
        let offset = begin.wrapping_add(attempt.wrapping_mul(64)) % 10_000;
        let port = u16::try_from(20_000 + offset).ok()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpListener::bind(address).is_ok().then_some(address)
    });
    free.expect("a port is free")
}
