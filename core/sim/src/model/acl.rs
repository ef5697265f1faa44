//! Who may do what.

use core::net::Ipv4Addr;
use std::rc::Rc;

use crate::wire::Acl;

/// May read data, children and `Stat`.
pub const READ: i32 = 1;
/// May set data.
pub const WRITE: i32 = 2;
/// May create children.
pub const CREATE: i32 = 4;
/// May delete children.
pub const DELETE: i32 = 8;
/// May set the ACL.
pub const ADMIN: i32 = 16;

const INVALID_ACL: i32 = -114;
const NO_AUTH: i32 = -102;

/// Who a connection has shown itself to be: a scheme and an id.
pub type Identity = (String, String);

/// Checks that one of the identities has any of these permissions.
///
/// # Errors
/// `NoAuth`.
pub fn check(acl: &[Acl], needed: i32, identities: &[Identity]) -> Result<(), i32> {
    let is_super = identities.iter().any(|(scheme, _)| scheme == "super");
    let granted = |entry: &Acl| {
        entry.perms & needed != 0
            && (is_anyone(entry) || identities.iter().any(|identity| matches(entry, identity)))
    };
    if acl.is_empty() || is_super || acl.iter().any(granted) {
        Ok(())
    } else {
        Err(NO_AUTH)
    }
}

fn is_anyone(entry: &Acl) -> bool {
    entry.scheme.as_deref() == Some("world") && entry.id.as_deref() == Some("anyone")
}

fn matches(entry: &Acl, (scheme, id): &Identity) -> bool {
    let (Some(wanted_scheme), Some(wanted)) = (entry.scheme.as_deref(), entry.id.as_deref()) else {
        return false;
    };
    if wanted_scheme != scheme {
        return false;
    }
    match scheme.as_str() {
        "digest" => wanted == id,
        "ip" => id.parse().is_ok_and(|address| in_network(wanted, address)),
        _ => false,
    }
}

fn network(text: &str) -> Option<(u32, u32)> {
    let (address, bits) = match text.split_once('/') {
        None => (text, 32),
        Some((address, bits)) => (address, bits.parse::<u32>().ok()?),
    };
    let mask = match bits {
        0 => 0,
        1..=32 => u32::MAX << (32 - bits),
        _ => return None,
    };
    Some((u32::from(address.parse::<Ipv4Addr>().ok()?), mask))
}

fn in_network(text: &str, address: Ipv4Addr) -> bool {
    network(text).is_some_and(|(wanted, mask)| wanted & mask == u32::from(address) & mask)
}

fn is_digest(id: &str) -> bool {
    // Java's split drops empty parts at the end.
    id.trim_end_matches(':').split(':').count() == 2
}

/// Makes the list that is stored from the list that was sent.
///
/// # Errors
/// `InvalidACL`.
pub fn fix_up(sent: Option<&[Acl]>, identities: &[Identity]) -> Result<Rc<[Acl]>, i32> {
    let mut unique: Vec<&Acl> = Vec::new();
    for entry in sent.unwrap_or_default() {
        if !unique.contains(&entry) {
            unique.push(entry);
        }
    }
    if unique.is_empty() {
        return Err(INVALID_ACL);
    }
    let mut stored = Vec::new();
    for entry in unique {
        let scheme = entry.scheme.as_deref().ok_or(INVALID_ACL)?;
        if scheme == "auth" {
            let before = stored.len();
            for (scheme, id) in identities.iter().filter(|(scheme, _)| scheme == "digest") {
                stored.push(Acl::new(entry.perms, scheme, id));
            }
            if stored.len() == before {
                return Err(INVALID_ACL);
            }
            continue;
        }
        let id = entry.id.as_deref().ok_or(INVALID_ACL)?;
        let is_valid = match scheme {
            "world" => id == "anyone",
            "digest" => is_digest(id),
            "ip" => network(id).is_some(),
            _ => false,
        };
        if !is_valid {
            return Err(INVALID_ACL);
        }
        stored.push(entry.clone());
    }
    Ok(stored.into())
}

/// The list as shown to one who may read but not administer: without the digests.
#[must_use]
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    acl.iter()
        .map(
            |entry| match (entry.scheme.as_deref(), entry.id.as_deref()) {
                (Some("digest"), Some(id)) => {
                    let user = id.split_once(':').map_or(id, |(user, _)| user);
                    Acl::new(entry.perms, "digest", &format!("{user}:x"))
                }
                _ => entry.clone(),
            },
        )
        .collect()
}

/// The identity that an auth packet proves, with the one of the superuser before it.
#[must_use]
pub fn digest_identities(auth: &[u8]) -> Option<Vec<Identity>> {
    // Computed once with Python's hashlib: an own SHA-1 would be one more thing to doubt.
    let known: [(&[u8], &str); 4] = [
        (b"alice:a", "alice:AIueg8ag5ALfqeEyKdLnva1Wvi0="),
        (b"bob:b", "bob:LcrmCNs/wfVD+i5a5yaz89GyjIM="),
        (b"nocolon", "nocolon:Ra+cHr2ZoHvBjtNArFGNGlVie4g="),
        (b"super:admin", SUPER_DIGEST),
    ];
    let (_, id) = known.iter().find(|(secret, _)| *secret == auth)?;
    let mut identities = Vec::new();
    if *id == SUPER_DIGEST {
        identities.push(("super".to_owned(), String::new()));
    }
    identities.push(("digest".to_owned(), (*id).to_owned()));
    Some(identities)
}

/// The digest of `super:admin`, which the simulated servers know as their superuser's.
pub const SUPER_DIGEST: &str = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";

#[cfg(test)]
mod tests {
    use super::{check, fix_up, in_network, is_digest};
    use crate::wire::Acl;

    #[test]
    fn an_auth_entry_becomes_the_callers_digests() {
        let alice = ("digest".to_owned(), "alice:h".to_owned());
        let sent = [Acl::new(31, "auth", "")];
        let stored = fix_up(Some(&sent), core::slice::from_ref(&alice));
        assert_eq!(
            stored.as_deref(),
            Ok(&[Acl::new(31, "digest", "alice:h")][..])
        );
        assert_eq!(fix_up(Some(&sent), &[]), Err(-114));
        assert_eq!(check(&sent, 1, &[alice]), Err(-102));
    }

    #[test]
    fn schemes_validate_as_zookeepers_providers() {
        assert!(is_digest("a:b") && is_digest(":b") && is_digest("a:b:"));
        assert!(!is_digest("a") && !is_digest("a:") && !is_digest("a:b:c"));
        let address = core::net::Ipv4Addr::new(10, 1, 2, 3);
        assert!(in_network("10.0.0.0/8", address) && in_network("0.0.0.0/0", address));
        assert!(!in_network("10.1.2.4", address) && !in_network("10.1.2.3/33", address));
    }
}
