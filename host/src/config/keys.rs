//! The keys that take effect.
//!
//! Source of names, defaults and meanings: ZooKeeper 3.9's `QuorumPeerConfig` and the system
//! properties of its administrator's guide. Where we differ, the entry says why.

use core::time::Duration;
use std::path::PathBuf;

use zabra_core::server::config::FourLetterWords;

use super::{
    Compression,
    draft::Draft,
    listen::bare_host,
    problem::shown,
    table::{Effect, Key},
};

/// The words that a server knows. Source: ZooKeeper's `FourLetterCommands`.
const FOUR_LETTER_WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst",
    "srvr", "stat", "stmk", "wchc", "wchp", "wchs",
];

pub(super) const I32_MAX: i64 = i32::MAX as i64;

pub(super) static KEYS: &[Key] = &[
    key(
        "tickTime",
        "3000",
        // 20 ticks, the default of maxSessionTimeout, must fit the signed 32 bits of the wire.
        number(1, I32_MAX / 20, "milliseconds", |d, n| {
            d.core.tick_ms = u32_of(n)
        }),
    ),
    key(
        "minSessionTimeout",
        "-1",
        number(-1, I32_MAX, "milliseconds", |d, n| {
            d.session_timeout_ms_min = (n >= 0).then(|| u32_of(n));
        }),
    ),
    key(
        "maxSessionTimeout",
        "-1",
        number(-1, I32_MAX, "milliseconds", |d, n| {
            d.session_timeout_ms_max = (n >= 0).then(|| u32_of(n));
        }),
    ),
    key("dataDir", "", Effect::Text(|d, v| path(&mut d.data_dir, v))),
    key(
        "dataLogDir",
        "",
        Effect::Text(|d, v| path(&mut d.data_log_dir, v)),
    ),
    key("clientPort", "", Effect::Text(client_port)),
    key("clientPortAddress", "", Effect::Text(client_port_address)),
    key(
        "clientPortListenBacklog",
        "-1",
        number(-1, I32_MAX, "connections", |d, n| {
            d.core.host.listen_backlog = i32::try_from(n).unwrap_or(-1);
        }),
    ),
    key(
        "maxClientCnxns",
        "60",
        number(0, I32_MAX, "connections", |d, n| {
            d.core.connections_per_address_max = u32_of(n)
        }),
    ),
    key(
        "maxCnxns",
        "0",
        number(0, I32_MAX, "connections", |d, n| {
            d.core.connections_max = u32_of(n)
        }),
    ),
    key(
        "globalOutstandingLimit",
        "1000",
        number(1, I32_MAX, "requests", |d, n| {
            d.core.outstanding_max = u32_of(n)
        }),
    ),
    key(
        "nio.sessionlessCnxnTimeout",
        "10000",
        number(1, I32_MAX, "milliseconds", |d, n| {
            d.core.handshake_timeout_ms = u32_of(n)
        }),
    ),
    key(
        "clientTcpKeepAlive",
        "false",
        Effect::Switch(|d, on| d.tcp_keep_alive = on),
    ),
    key("jute.maxbuffer", "1048575", Effect::Text(frame_bytes_max)),
    key(
        "4lw.commands.whitelist",
        "",
        Effect::Lenient(four_letter_words),
    ),
    // In an ensemble it also lets a cut-off server serve reads; alone it only allows the word
    // `isro`.
    key(
        "readonlymode.enabled",
        "false",
        Effect::Switch(|d, on| d.read_only_mode = on),
    ),
    key("skipACL", "no", Effect::Text(skip_acl)),
    key(
        "enforceQuota",
        "false",
        Effect::Switch(|d, on| d.core.enforce_quota = on),
    ),
    // Ours: the same on every server that may lead.
    key(
        "zabra.treeBytesMax",
        "0",
        number(0, i64::MAX, "bytes", |d, n| {
            d.core.tree_bytes_max = u64::try_from(n).unwrap_or(0);
        }),
    ),
    key(
        "extendedTypesEnabled",
        "false",
        Effect::Switch(|d, on| d.core.extended_types = on),
    ),
    key(
        "digest.enabled",
        "true",
        Effect::Switch(|d, on| d.core.tree_digest = on),
    ),
    key(
        "DigestAuthenticationProvider.enabled",
        "true",
        Effect::Switch(|d, on| d.core.digest_auth = on),
    ),
    key(
        "DigestAuthenticationProvider.superDigest",
        "",
        Effect::Text(super_digest),
    )
    .secret(),
    key(
        "snapCount",
        "100000",
        // ZooKeeper raises 1 to 2 with a warning: a snapshot between two transactions needs two.
        number(2, I32_MAX, "transactions", |d, n| {
            d.core.snapshot_txns = u32_of(n)
        }),
    ),
    key(
        "snapSizeLimitInKb",
        "4194304",
        number(-1, I32_MAX, "KiB", |d, n| {
            d.core.snapshot_log_bytes = bytes_of_kib(n)
        }),
    ),
    key(
        "txnLogSizeLimitInKb",
        "-1",
        number(-1, I32_MAX, "KiB", |d, n| {
            d.log_file_bytes_max = Some(bytes_of_kib(n)).filter(|&bytes| bytes > 0);
        }),
    ),
    key(
        "preAllocSize",
        "65536",
        number(0, I32_MAX, "KiB", |d, n| {
            d.pre_alloc_bytes = bytes_of_kib(n)
        }),
    ),
    key(
        "fsync.warningthresholdms",
        "1000",
        number(0, I32_MAX, "milliseconds", |d, n| {
            d.fsync_warning_ms = u32_of(n)
        }),
    ),
    key("snapshot.compression.method", "", Effect::Text(compression)),
    key(
        "datadir.autocreate",
        "true",
        Effect::Switch(|d, on| d.create_directories = on),
    ),
    // ZooKeeper's default is off; here purging is on, as a full disk stops a server for good.
    key("autopurge.purgeInterval", "1", Effect::Text(purge_interval)),
    key(
        "autopurge.snapRetainCount",
        "3",
        number(0, I32_MAX, "snapshots", |d, n| d.purge_retain = u32_of(n)),
    ),
    // Ours.
    key(
        "zabra.purge.bytesMax",
        "0",
        number(0, i64::MAX, "bytes", |d, n| {
            d.purge_bytes_max = u64::try_from(n).unwrap_or(0);
        }),
    ),
    key(
        "zabra.diskFreeMin",
        "-1",
        number(-1, i64::MAX, "bytes", |d, n| {
            d.disk_free_min = u64::try_from(n).ok();
        }),
    ),
    key(
        "znode.container.checkIntervalMs",
        "60000",
        number(1, I32_MAX, "milliseconds", |d, n| {
            d.core.container_check_ms = u32_of(n)
        }),
    ),
    key(
        "znode.container.maxPerMinute",
        "10000",
        number(1, I32_MAX, "deletions", |d, n| {
            d.core.container_deletes_per_minute_max = u32_of(n);
        }),
    ),
    key(
        "znode.container.maxNeverUsedIntervalMs",
        "0",
        number(0, i64::MAX, "milliseconds", |d, n| {
            d.core.container_never_used_ms_max = u64::try_from(n).unwrap_or(0);
        }),
    ),
];

pub(super) const fn key(name: &'static str, default: &'static str, effect: Effect) -> Key {
    Key {
        name,
        default,
        effect,
        secret: false,
    }
}

pub(super) const fn number(
    min: i64,
    max: i64,
    unit: &'static str,
    set: fn(&mut Draft, i64),
) -> Effect {
    Effect::Number {
        min,
        max,
        unit,
        set,
    }
}

/// The number, which the table's bounds keep within 32 bits.
pub(super) fn u32_of(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Zero for the values by which ZooKeeper means "no limit".
fn bytes_of_kib(kib: i64) -> u64 {
    u64::try_from(kib).unwrap_or(0) * 1024
}

pub(super) fn path(slot: &mut Option<PathBuf>, value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("a path");
    }
    *slot = Some(value.into());
    Ok(())
}

fn client_port(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    let port = value
        .parse()
        .map_err(|_| "a port from 0 to 65535 (0 lets the system choose)")?;
    draft.client_port = Some(port);
    Ok(())
}

fn client_port_address(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.client_address = Some(bare_host(value)?);
    Ok(())
}

/// Like Java's `Integer.getInteger`, which also takes `0xfffff`.
fn frame_bytes_max(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    let parsed = value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
        .map_or_else(|| value.parse(), |digits| u32::from_str_radix(digits, 16));
    match parsed {
        // Much less would not take a handshake (44 bytes, an auth packet, a path).
        Ok(bytes) if (1024..=i32::MAX.cast_unsigned()).contains(&bytes) => {
            draft.core.frame_bytes_max = bytes;
            Ok(())
        }
        Ok(_) | Err(_) => Err("a whole number of bytes from 1024 to 2147483647"),
    }
}

fn four_letter_words(draft: &mut Draft, value: &str) -> Result<(), String> {
    let words: Vec<String> = value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    if words.iter().any(|word| word == "*") {
        draft.core.four_letter_words = FourLetterWords::All;
        return Ok(());
    }
    let unknown: Vec<String> = words
        .iter()
        .filter(|word| !FOUR_LETTER_WORDS.contains(&word.as_str()))
        .map(|word| shown(word))
        .collect();
    draft.core.four_letter_words = FourLetterWords::Only(words);
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "expected four-letter words with commas between them, or *; there is no word {}",
        unknown.join(", ")
    ))
}

/// ZooKeeper takes everything but `yes` as no; a misspelt wish about security deserves an error.
fn skip_acl(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.core.skip_acl = match value {
        "yes" => true,
        "no" => false,
        _ => return Err("yes or no"),
    };
    Ok(())
}

/// Anything else could never match, as the server compares it with what it makes of a user's
/// password.
fn super_digest(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    const SHA1_BASE64_LEN: usize = 28;
    let of_form = value.split_once(':').is_some_and(|(user, digest)| {
        !user.is_empty()
            && digest.len() == SHA1_BASE64_LEN
            && digest.strip_suffix('=').is_some_and(|digits| {
                digits
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
            })
    });
    if !of_form {
        return Err("user:base64(sha1(user:password))");
    }
    draft.core.super_digest = Some(value.to_owned().into());
    Ok(())
}

fn compression(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.compression = match value {
        "" => Compression::None,
        "gz" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        _ => return Err("gz, snappy or nothing"),
    };
    Ok(())
}

/// Hours, or a number with a unit as ZooKeeper 3.10 takes it; zero and less is off.
fn purge_interval(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    const EXPECTED: &str =
        "a whole number of hours, or one with a unit: ms, s, m, h or d (0 is off)";
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: i64 = digits.trim().parse().map_err(|_| EXPECTED)?;
    let unit_ms: u64 = match value.strip_prefix(digits) {
        Some("ms") => 1,
        Some("s") => 1000,
        Some("m") => 60_000,
        Some("" | "h") => 3_600_000,
        Some("d") => 86_400_000,
        Some(_) | None => return Err(EXPECTED),
    };
    let number = u64::try_from(number).unwrap_or(0);
    let ms = number.checked_mul(unit_ms).ok_or(EXPECTED)?;
    draft.purge_interval = Some(Duration::from_millis(ms)).filter(|interval| !interval.is_zero());
    Ok(())
}
