//! The addresses that a server listens on.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fs, net::ToSocketAddrs};

/// Where a server listens when no address is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbound {
    /// On every address, as ZooKeeper does.
    All,
    /// Where only this machine reaches it.
    Loopback,
}

/// A host without its brackets.
pub(super) fn bare_host(value: &str) -> Result<String, &'static str> {
    let bare = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(value);
    if bare.is_empty() || bare.contains(|c: char| c.is_whitespace() || "[]/,".contains(c)) {
        return Err("one IP address or host name, without a port");
    }
    Ok(bare.to_owned())
}

/// The addresses for this port. Each is of one family only: an IPv6 socket must not take IPv4 as
/// well.
///
/// With port 0 there is only one, as the system would choose another port for each.
pub(super) fn addresses(
    address: Option<&str>,
    unbound: Unbound,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    let (v4, v6) = match (address, unbound) {
        (None, Unbound::All) => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        (None, Unbound::Loopback) => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        (Some(address), _) => match resolve(address)? {
            // Java listens with both families on either of the two.
            ip if ip.is_unspecified() => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
            ip => return Ok(vec![SocketAddr::new(ip, port)]),
        },
    };
    let mut addresses = vec![SocketAddr::new(v4.into(), port)];
    if port != 0 && has_ipv6(v6) {
        addresses.push(SocketAddr::new(v6.into(), port));
    }
    Ok(addresses)
}

/// Like ZooKeeper, the first address of a name. Waits for the name service.
fn resolve(address: &str) -> Result<IpAddr, String> {
    if let Ok(ip) = address.parse() {
        return Ok(ip);
    }
    match (address, 0).to_socket_addrs() {
        Ok(mut found) => found
            .next()
            .map(|found| found.ip())
            .ok_or_else(|| format!("the host name {address:?} has no address")),
        Err(error) => Err(format!(
            "expected an IP address or a host name, found {address:?}, which cannot be resolved: \
             {error}"
        )),
    }
}

/// Whether this machine has IPv6 (and `::1`, if that is asked). False where there is no `/proc`.
fn has_ipv6(address: Ipv6Addr) -> bool {
    const LOOPBACK: &str = "00000000000000000000000000000001";
    let Ok(interfaces) = fs::read_to_string("/proc/net/if_inet6") else {
        return false;
    };
    if address.is_loopback() {
        interfaces.lines().any(|line| line.starts_with(LOOPBACK))
    } else {
        !interfaces.trim().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};

    use super::{Unbound, addresses, has_ipv6};

    fn v4(addresses: &[SocketAddr]) -> Vec<String> {
        addresses
            .iter()
            .filter(|a| a.is_ipv4())
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn without_an_address_the_source_of_the_configuration_decides() {
        let all = addresses(None, Unbound::All, 2181).unwrap_or_default();
        assert_eq!(v4(&all), ["0.0.0.0:2181"]);
        let local = addresses(None, Unbound::Loopback, 2181).unwrap_or_default();
        assert_eq!(v4(&local), ["127.0.0.1:2181"]);
        assert!(local.iter().all(|a| a.ip().is_loopback()));
        let with_ipv6 = has_ipv6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_eq!(all.len(), 1 + usize::from(with_ipv6));
    }

    #[test]
    fn port_chosen_by_the_system_is_one_port() {
        assert_eq!(addresses(None, Unbound::All, 0).map(|a| a.len()), Ok(1));
    }

    #[test]
    fn given_address_is_the_only_one() {
        for (address, expected) in [("::1", "[::1]:7"), ("10.1.2.3", "10.1.2.3:7")] {
            let found = addresses(Some(address), Unbound::All, 7).unwrap_or_default();
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn either_unspecified_address_means_both_families() {
        let all = addresses(None, Unbound::All, 7);
        assert_eq!(addresses(Some("::"), Unbound::Loopback, 7), all);
        assert_eq!(addresses(Some("0.0.0.0"), Unbound::Loopback, 7), all);
    }
}
