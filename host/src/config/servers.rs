//! The value of `server.N`: where a server of the ensemble is found.
//!
//! Source: `QuorumPeer.QuorumServer`. Of all this, a server that stands alone uses the client port
//! only.

/// What a `server.N` line says, as far as it matters to a server that stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerLine {
    /// `N`.
    pub(super) id: u64,
    pub(super) observer: bool,
    /// The address (empty: all) and port for clients.
    pub(super) client: Option<(String, u16)>,
    /// Whether it asks for a port for TLS.
    pub(super) secure: bool,
}

/// The form of a value, for messages.
pub(super) const EXPECTED: &str =
    "host:quorumPort:electionPort[:participant|:observer][;[clientAddress:]clientPort]";

/// Reads `addr[|addr…][;[clientHost:]clientPort[;[secureHost:]securePort]]`.
pub(super) fn parse(id: &str, value: &str) -> Option<ServerLine> {
    let id = id.parse().ok()?;
    let mut parts = value.split(';');
    let mut observer = false;
    for address in parts.next()?.split('|') {
        observer |= is_observer(address)?;
    }
    let client = match parts.next() {
        None => None,
        Some(text) if text.trim().is_empty() => None,
        Some(text) => Some(client_address(text.trim())?),
    };
    let secure = match parts.next() {
        None => false,
        Some(text) => {
            client_address(text.trim())?;
            true
        }
    };
    if parts.next().is_some() {
        return None;
    }
    Some(ServerLine {
        id,
        observer,
        client,
        secure,
    })
}

/// Checks `host:quorumPort:electionPort[:role]` and returns the role.
fn is_observer(address: &str) -> Option<bool> {
    let (host, rest) = split_host(address.trim())?;
    let mut parts = rest.split(':');
    let quorum_port: u16 = parts.next()?.parse().ok()?;
    let election_port: u16 = parts.next()?.parse().ok()?;
    let observer = match parts.next() {
        None => false,
        Some(role) if role.eq_ignore_ascii_case("participant") => false,
        Some(role) if role.eq_ignore_ascii_case("observer") => true,
        Some(_) => return None,
    };
    let valid = parts.next().is_none() && !host.is_empty() && quorum_port != election_port;
    valid.then_some(observer)
}

fn client_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = if text.contains(':') {
        split_host(text)?
    } else {
        ("", text)
    };
    Some((host.to_owned(), port.parse().ok()?))
}

/// Splits after the host, of which an IPv6 address stands in brackets.
fn split_host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerLine, parse};

    fn line(observer: bool, client: Option<(&str, u16)>, secure: bool) -> Option<ServerLine> {
        Some(ServerLine {
            id: 3,
            observer,
            client: client.map(|(host, port)| (host.to_owned(), port)),
            secure,
        })
    }

    #[test]
    fn every_form_of_the_grammar_is_read() {
        for (value, expected) in [
            ("zoo1:2888:3888", line(false, None, false)),
            ("zoo1:2888:3888;2181", line(false, Some(("", 2181)), false)),
            (
                "zoo1:2888:3888:participant;2181",
                line(false, Some(("", 2181)), false),
            ),
            ("zoo1:2888:3888:observer", line(true, None, false)),
            (
                "zoo1:2888:3888:OBSERVER;10.0.0.1:2181",
                line(true, Some(("10.0.0.1", 2181)), false),
            ),
            (
                "[::1]:2888:3888;[::1]:2181",
                line(false, Some(("::1", 2181)), false),
            ),
            (
                "a:2888:3888|b:2888:3888;2181",
                line(false, Some(("", 2181)), false),
            ),
            ("a:2888:3888;2181;2281", line(false, Some(("", 2181)), true)),
            ("a:2888:3888;;2281", line(false, None, true)),
        ] {
            assert_eq!(parse("3", value), expected, "{value}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [
            "",
            "zoo1",
            "zoo1:2888",
            "zoo1:2888:2888",
            ":2888:3888",
            "zoo1:2888:3888:leader",
            "zoo1:2888:3888:observer:x",
            "zoo1:2888:70000",
            "zoo1:2888:3888;x",
            "[::1:2888:3888",
            "zoo1:2888:3888;1;2;3",
            "a:2888:3888|b",
        ] {
            assert_eq!(parse("3", value), None, "{value}");
        }
        assert_eq!(parse("x", "zoo1:2888:3888"), None);
    }
}
