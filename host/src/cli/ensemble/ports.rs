//! Ports for a local ensemble.

use core::net::Ipv4Addr;
use std::io;
use std::net::TcpListener;
use std::process;

/// Where a search begins: below the ports that systems take for connections, which would otherwise
/// be gone when a server is started again.
const FIRST: u16 = 20_000;
/// Different processes begin their search at different ports of this range.
const RANGE: u16 = 10_000;
const SEARCHES_MAX: u16 = 200;

/// A block of ports: of clients, then of the quorum, then of elections, each in the order of
/// servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) base: u16,
    servers: u16,
}

impl Ports {
    /// The block from `base` on.
    pub(super) fn at(base: u16, servers: u16) -> Result<Self, String> {
        let ports = servers * 3;
        if base == 0 || base.checked_add(ports - 1).is_none() {
            return Err(format!(
                "--base-port: expected a port from 1 to {}, because {ports} are needed from there \
                 on, found {base}",
                65_536 - u32::from(ports)
            ));
        }
        Ok(Self { base, servers })
    }

    /// A block of which every port is free.
    pub(super) fn find(servers: u16) -> Result<Self, String> {
        let offset = u16::try_from(process::id() % u32::from(RANGE)).unwrap_or(0);
        for search in 0..SEARCHES_MAX {
            let offset = offset.wrapping_add(search.wrapping_mul(servers * 3)) % RANGE;
            let ports = Self::at(FIRST + offset, servers)?;
            if ports.taken().is_empty() {
                return Ok(ports);
            }
        }
        Err(format!(
            "found no {} free ports in a row from {FIRST} on; name a place by --base-port",
            servers * 3
        ))
    }

    /// The ports that cannot be listened on, each with its use and why.
    pub(super) fn taken(self) -> Vec<String> {
        let uses = [
            ("clients", self.base),
            ("quorum", self.base + self.servers),
            ("election", self.base + 2 * self.servers),
        ];
        let mut taken = Vec::new();
        for (purpose, first) in uses {
            for (server, port) in (1..=self.servers).zip(first..) {
                if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                    let why = if error.kind() == io::ErrorKind::AddrInUse {
                        "is in use".to_owned()
                    } else {
                        format!("cannot be listened on: {error}")
                    };
                    taken.push(format!("port {port} ({purpose} of server {server}) {why}"));
                }
            }
        }
        taken
    }

    /// Clients' port of a server; servers count from 1.
    pub(super) const fn client(self, server: u16) -> u16 {
        self.base + server - 1
    }

    /// Where learners connect to a server.
    pub(super) const fn quorum(self, server: u16) -> u16 {
        self.client(server) + self.servers
    }

    /// Where peers connect to a server to elect.
    pub(super) const fn election(self, server: u16) -> u16 {
        self.quorum(server) + self.servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_block_are_in_a_row_and_different() {
        let ports = Ports::at(2181, 3).expect("there is room");
        let all: Vec<u16> = (1..=3)
            .flat_map(|server| {
                [
                    ports.client(server),
                    ports.quorum(server),
                    ports.election(server),
                ]
            })
            .collect();
        assert_eq!(all, [2181, 2184, 2187, 2182, 2185, 2188, 2183, 2186, 2189]);
    }

    #[test]
    fn block_must_end_before_the_ports_do() {
        assert!(Ports::at(65_527, 3).is_ok());
        let error = Ports::at(65_528, 3).expect_err("one too far");
        assert!(
            error.contains("from 1 to 65527, because 9 are needed"),
            "{error}"
        );
        assert!(Ports::at(0, 1).is_err());
    }
}
