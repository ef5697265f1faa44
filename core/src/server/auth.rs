//! Who a connection is, and what that permits.
//!
//! Source: `ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`, the providers in
//! `server.auth`.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Config;
use crate::error::ErrorCode;
use crate::secret::sha1;
use crate::wire::records::{Acl, AclText, Id, Perms};

/// What came of an `auth` request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authenticated {
    /// These identities are the connection's too.
    As(Vec<Id>),
    /// The scheme is not known.
    Failed,
}

/// The identity that every connection has from the start.
pub(super) fn address_id(address: IpAddr) -> Id {
    Id {
        scheme: "ip".into(),
        id: address_text(address),
    }
}

/// An address as Java prints it: IPv6 in eight groups, none left out; IPv4 within IPv6 as IPv4.
pub(super) fn address_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => alloc::format!("{v4}"),
        IpAddr::V6(v6) => {
            let groups: Vec<String> = v6
                .segments()
                .iter()
                .map(|group| alloc::format!("{group:x}"))
                .collect();
            groups.join(":")
        }
    }
}

/// The identities of whoever has a certificate of this subject.
///
/// Source: `X509AuthenticationProvider.handleAuthentication`.
pub(super) fn certified(config: &Config, subject: String) -> impl Iterator<Item = Id> {
    let secure = config.secure.as_ref();
    let is_super = secure.is_some_and(|secure| secure.super_user.as_ref() == Some(&subject));
    let super_id = is_super.then(|| Id {
        scheme: "super".into(),
        id: subject.clone(),
    });
    let id = Id {
        scheme: "x509".into(),
        id: subject,
    };
    super_id.into_iter().chain([id])
}

/// Answers an `auth` request.
pub(super) fn authenticate(
    config: &Config,
    address: IpAddr,
    scheme: &str,
    secret: &[u8],
) -> Authenticated {
    match scheme {
        "ip" => Authenticated::As(alloc::vec![address_id(address)]),
        "digest" if config.digest_auth => {
            let id = digest_id(secret);
            let mut ids = Vec::new();
            if config
                .super_digest
                .as_ref()
                .is_some_and(|secret| secret.is(&id))
            {
                ids.push(Id {
                    scheme: "super".into(),
                    id: String::new(),
                });
            }
            ids.push(Id {
                scheme: "digest".into(),
                id,
            });
            Authenticated::As(ids)
        }
        _ => Authenticated::Failed,
    }
}

/// `user:base64(sha1(user:password))` of `user:password`.
///
/// Source: `DigestAuthenticationProvider.generateDigest`.
#[must_use]
pub fn digest_id(secret: &[u8]) -> String {
    let text = String::from_utf8_lossy(secret);
    let user = text.split(':').next().unwrap_or_default();
    let hash = STANDARD.encode(sha1(text.as_bytes()));
    alloc::format!("{user}:{hash}")
}

/// The name that `whoAmI` shows for an identity.
pub(super) fn user_name(id: &Id) -> &str {
    match id.scheme.as_str() {
        "digest" => id.id.split(':').next().unwrap_or_default(),
        "ip" | "sasl" | "x509" => &id.id,
        _ => "",
    }
}

/// Whether an ACL permits any of `needed` to somebody with these identities.
pub(super) fn permits(config: &Config, acl: &[Acl], needed: Perms, ids: &[Id]) -> bool {
    if config.skip_acl || acl.is_empty() || ids.iter().any(|id| id.scheme == "super") {
        return true;
    }
    acl.iter()
        .filter(|entry| entry.perms.meets(needed))
        .any(|entry| {
            let Id { scheme, id } = &entry.id;
            match scheme.as_str() {
                "world" => id == "anyone",
                "ip" => ids
                    .iter()
                    .any(|own| own.scheme == "ip" && address_matches(&own.id, id)),
                "digest" => config.digest_auth && ids.contains(&entry.id),
                // Source: SASLAuthenticationProvider.matches.
                "sasl" => ids.iter().filter(|own| own.scheme == "sasl").any(|own| {
                    own.id == *id
                        || own.id == "super"
                        || config.auth.any_sasl_user.as_ref() == Some(id)
                }),
                "x509" => config.secure.is_some() && ids.contains(&entry.id),
                _ => false,
            }
        })
}

/// Bytes of an ACL entry of somebody.
pub(super) const fn identity_bytes(id: &Id) -> usize {
    12 + id.scheme.len() + id.id.len()
}

/// The list that is stored for the list that was asked for.
///
/// # Errors
/// [`ErrorCode::INVALID_ACL`]: it is empty, an entry has no meaning, or those that stand for the client's
/// identities stand for more than `bytes_left`, from which they are taken.
pub(super) fn resolve(
    config: &Config,
    asked: &[AclText<'_>],
    ids: &[Id],
    bytes_left: &mut usize,
) -> Result<Vec<Acl>, ErrorCode> {
    let mut seen = BTreeSet::new();
    let mut list = Vec::with_capacity(asked.len());
    for entry in asked {
        let key = (entry.perms, entry.scheme.as_deref(), entry.id.as_deref());
        if asked.len() > 1 && !seen.insert(key) {
            continue;
        }
        let scheme = entry.scheme.as_deref().ok_or(ErrorCode::INVALID_ACL)?;
        if scheme == "auth" {
            // kazoo writes an empty id as null.
            let own = ids.iter().filter(|id| match id.scheme.as_str() {
                "digest" | "x509" => true,
                "sasl" => config.auth.sasl_acls,
                _ => false,
            });
            let before = list.len();
            for id in own {
                let left = bytes_left.checked_sub(identity_bytes(id));
                *bytes_left = left.ok_or(ErrorCode::INVALID_ACL)?;
                list.push(Acl {
                    perms: entry.perms,
                    id: id.clone(),
                });
            }
            if list.len() == before {
                return Err(ErrorCode::INVALID_ACL);
            }
            continue;
        }
        let id = entry.id.as_deref().ok_or(ErrorCode::INVALID_ACL)?;
        let valid = match scheme {
            "world" => id == "anyone",
            "digest" => config.digest_auth && digest_is_valid(id),
            "ip" => parse_range(id).is_some(),
            "sasl" => config.auth.sasl_acls && name_is_valid(id),
            // ZooKeeper parses it; whatever is no name is nobody's.
            "x509" => config.secure.is_some() && id.contains('='),
            _ => false,
        };
        if !valid {
            return Err(ErrorCode::INVALID_ACL);
        }
        list.push(entry.to_acl());
    }
    if list.is_empty() {
        Err(ErrorCode::INVALID_ACL)
    } else {
        Ok(list)
    }
}

/// As Java's `split(":")` sees it, which drops empty parts at the end: `a:b` and `:b` are valid,
/// `a:` not.
fn digest_is_valid(id: &str) -> bool {
    let trimmed = id.trim_end_matches(':');
    trimmed.split(':').count() == 2
}

/// Whether this may be a Kerberos name, `primary[/instance]@REALM`; without a realm anything is.
/// Source: `KerberosName`.
fn name_is_valid(name: &str) -> bool {
    name.split_once('@').is_none_or(|(principal, realm)| {
        !realm.contains(['/', '@']) && principal.matches('/').count() < 2
    })
}

/// Whether this is an identity that nobody can claim without showing that it is its own.
pub(super) fn is_proven(id: &Id) -> bool {
    matches!(id.scheme.as_str(), "sasl" | "x509")
}

/// Hides the password hashes of a list from somebody who may not administer the znode. Source:
/// CVE-2019-0201.
pub(super) fn masked(acl: &[Acl]) -> Vec<Acl> {
    let mask = |entry: &Acl| {
        let mut entry = entry.clone();
        if entry.id.scheme == "digest" {
            let user = entry.id.id.split(':').next().unwrap_or_default();
            entry.id.id = alloc::format!("{user}:x");
        }
        entry
    };
    acl.iter().map(mask).collect()
}

fn parse_range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|&bits| bits <= most)?,
        None => most,
    };
    Some((address, bits))
}

fn address_matches(own: &str, range: &str) -> bool {
    let (Ok(own), Some((base, bits))) = (own.parse::<IpAddr>(), parse_range(range)) else {
        return false;
    };
    match (own, base) {
        (IpAddr::V4(own), IpAddr::V4(base)) => {
            let differing = own.to_bits() ^ base.to_bits();
            differing.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(own), IpAddr::V6(base)) => {
            let differing = own.to_bits() ^ base.to_bits();
            differing.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Text;
    use crate::server::config::Secure;

    fn ip(text: &str) -> Id {
        address_id(text.parse().expect("an address"))
    }

    #[test]
    fn digest_ids_are_those_of_zookeeper() {
        assert_eq!(
            digest_id(b"super:admin"),
            "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
        );
        assert!(digest_id(b"nocolon").starts_with("nocolon:"));
    }

    #[test]
    fn addresses_match_their_networks() {
        let config = Config::default();
        for (own, range, matches) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.0/24", true),
            ("10.1.3.3", "10.1.2.0/24", false),
            ("10.1.3.3", "0.0.0.0/0", true),
            ("::1", "::/0", true),
            ("::1", "::1/128", true),
            ("::2", "::1/128", false),
            ("fe80::1:2", "fe80::/16", true),
            ("::1", "0.0.0.0/0", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
        ] {
            let acl = Acl {
                perms: Perms::ALL,
                id: Id {
                    scheme: "ip".into(),
                    id: range.into(),
                },
            };
            assert_eq!(
                permits(&config, &[acl], Perms::READ, &[ip(own)]),
                matches,
                "{own} in {range}"
            );
        }
    }

    #[test]
    fn certificates_are_identities_where_there_is_tls() {
        let mut config = Config {
            secure: Some(Secure {
                port: 0,
                super_user: Some("CN=root".into()),
            }),
            ..Config::default()
        };
        let own: Vec<Id> = certified(&config, "CN=a,O=b".into()).collect();
        let asked = [AclText {
            perms: Perms::READ,
            scheme: "auth".into(),
            id: Text(None),
        }];
        let acl = resolve(&config, &asked, &own, &mut 100).expect("who is known has an ACL");
        let other: Vec<Id> = certified(&config, "CN=a".into()).collect();
        let root: Vec<Id> = certified(&config, "CN=root".into()).collect();
        assert_eq!(own.first().map(user_name), Some("CN=a,O=b"));
        assert!(permits(&config, &acl, Perms::READ, &own));
        assert!(!permits(&config, &acl, Perms::READ, &other));
        assert!(permits(&config, &acl, Perms::READ, &root));
        assert_eq!(root.last().map(|id| id.scheme.as_str()), Some("x509"));
        config.secure = None;
        assert!(!permits(&config, &acl, Perms::READ, &own));
    }

    #[test]
    fn lists_with_meaningless_entries_are_refused() {
        let config = Config::default();
        let bob = Id {
            scheme: "digest".into(),
            id: "bob:hash".into(),
        };
        let entry = |scheme: &'static str, id: Option<&'static str>| AclText {
            perms: Perms::ALL,
            scheme: scheme.into(),
            id: Text(id.map(Into::into)),
        };
        let ids = [ip("127.0.0.1"), bob.clone()];
        let resolved = resolve(&config, &[entry("auth", None)], &ids, &mut 100);
        assert_eq!(
            resolved,
            Ok(alloc::vec![Acl {
                perms: Perms::ALL,
                id: bob
            }])
        );
        let twice = [
            entry("world", Some("anyone")),
            entry("world", Some("anyone")),
        ];
        assert_eq!(
            resolve(&config, &twice, &ids, &mut 0).map(|list| list.len()),
            Ok(1)
        );
        for bad in [
            entry("world", Some("nobody")),
            entry("world", None),
            entry("digest", Some("a")),
            entry("digest", Some("a:")),
            entry("digest", Some("a:b:c")),
            entry("ip", Some("10.0.0.0/33")),
            entry("ip", Some("somewhere")),
            entry("super", Some("")),
            entry("x509", Some("CN=a")),
            entry("", Some("")),
        ] {
            let refused = Err(ErrorCode::INVALID_ACL);
            assert_eq!(
                resolve(&config, core::slice::from_ref(&bad), &ids, &mut 100),
                refused,
                "{bad:?}"
            );
        }
        assert_eq!(
            resolve(&config, &[], &ids, &mut 100),
            Err(ErrorCode::INVALID_ACL)
        );
        let many = [entry("auth", None), entry("auth", Some(""))];
        assert_eq!(
            resolve(&config, &many, &ids, &mut 52).map(|list| list.len()),
            Ok(2)
        );
        let refused = Err(ErrorCode::INVALID_ACL);
        assert_eq!(resolve(&config, &many, &ids, &mut 51), refused);
        let nobody = [ip("127.0.0.1")];
        assert!(resolve(&config, &[entry("auth", Some(""))], &nobody, &mut 100).is_err());
    }

    #[test]
    fn hashes_are_masked() {
        let id = Id {
            scheme: "digest".into(),
            id: "bob:secret".into(),
        };
        let masked = masked(&[Acl {
            perms: Perms::ALL,
            id,
        }]);
        assert_eq!(masked.first().map(|acl| acl.id.id.as_str()), Some("bob:x"));
    }
}
