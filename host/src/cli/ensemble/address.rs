//! Connect strings: `host[:port],host[:port],…[/chroot]`.
//!
//! Source: `ConnectStringParser`.

use core::fmt;
use core::net::Ipv6Addr;

/// The port that goes without saying.
const PORT: u16 = 2181;

/// No name is longer (RFC 1035, section 2.3.4), and what is printed in columns has to end.
const HOST_BYTES_MAX: usize = 255;

/// Where a server's clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    /// A name or an address, without brackets.
    pub(in crate::cli) host: String,
    pub(in crate::cli) port: u16,
}

/// Reads a connect string. Its chroot is nothing to a server's condition.
pub(in crate::cli) fn parse(text: &str) -> Result<Vec<Address>, String> {
    let (servers, _chroot) = text.split_once('/').unwrap_or((text, ""));
    let servers = servers.split(',').map(str::trim);
    let addresses: Result<Vec<Address>, String> = servers
        .filter(|server| !server.is_empty())
        .map(server)
        .collect();
    let addresses = addresses?;
    if addresses.is_empty() {
        return Err(format!(
            "expected HOST[:PORT],HOST[:PORT],…, found {text:?}"
        ));
    }
    Ok(addresses)
}

fn server(text: &str) -> Result<Address, String> {
    let wrong = || {
        format!(
            "expected HOST, HOST:PORT or [IPV6]:PORT with a port from 1 to 65535, found {text:?}"
        )
    };
    let (host, port) = if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or_else(wrong)?),
        };
        (host, port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => PORT,
        Some(port) => port.parse().map_err(|_| wrong())?,
    };
    let is_name = |c: char| !c.is_whitespace() && !c.is_control();
    if host.is_empty() || host.len() > HOST_BYTES_MAX || port == 0 || !host.chars().all(is_name) {
        return Err(wrong());
    }
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_with_its_port() {
        for (text, expected) in [
            ("zoo1", "zoo1:2181"),
            ("zoo1:2182,zoo2:2183", "zoo1:2182,zoo2:2183"),
            (" zoo1:2182 , 10.0.0.1 ,", "zoo1:2182,10.0.0.1:2181"),
            ("zoo1:2182,zoo2/app/one", "zoo1:2182,zoo2:2181"),
            (
                "[::1]:2182,[fe80::1],::1",
                "[::1]:2182,[fe80::1]:2181,[::1]:2181",
            ),
        ] {
            let addresses = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let found: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(","), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "/app",
            ",",
            "zoo1:",
            "zoo1:x",
            "zoo1:0",
            "zoo1:70000",
            ":2181",
            "[::1",
            "[::1]2181",
            "[zoo1]:2181",
            "zoo 1",
            "a:b:c",
            &"x".repeat(256),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with("expected HOST"), "{error}");
        }
    }
}
