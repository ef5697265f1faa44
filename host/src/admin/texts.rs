//! What the machine tells as text, as JSON: the answers to four-letter words in the shapes that
//! ZooKeeper's AdminServer gives them.
//!
//! Source: ZooKeeper 3.9's `Commands`, `ServerCnxn.getConnectionInfo`, `ServerStats`.

use serde_json::{Map, Number, Value, json};
use zabra_core::server::days_since_1970;

/// An object, its keys in the order in which they were put in.
pub(super) type Object = Map<String, Value>;

/// The lines `key<separator>value` of a text.
fn pairs<'a>(text: &'a str, separator: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.lines()
        .filter_map(move |line| line.split_once(separator))
        .map(|(key, value)| (key.trim(), value.trim()))
}

/// A whole number, else one with a fraction, else text.
fn value(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    match text.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => text.into(),
    }
}

/// The answer to `conf`.
pub(super) fn configuration(text: &str) -> Object {
    const KEYS: [(&str, &str); 9] = [
        ("clientPort", "client_port"),
        ("dataDir", "data_dir"),
        ("dataLogDir", "data_log_dir"),
        ("tickTime", "tick_time"),
        ("maxClientCnxns", "max_client_cnxns"),
        ("minSessionTimeout", "min_session_timeout"),
        ("maxSessionTimeout", "max_session_timeout"),
        ("serverId", "server_id"),
        ("clientPortListenBacklog", "client_port_listen_backlog"),
    ];
    let mut object = Object::new();
    for (name, key) in KEYS {
        let found = pairs(text, "=").find(|(known, _)| *known == name);
        // Directories are text, even one that is called 7.
        let found = found.map_or(Value::Null, |(_, it)| match key {
            "data_dir" | "data_log_dir" => it.into(),
            _ => value(it),
        });
        object.insert(key.to_owned(), found);
    }
    object
}

/// Where `conf` tells of the membership, its lines.
pub(super) fn membership(conf: &str) -> Option<&str> {
    conf.split_once("\nmembership: \n").map(|(_, lines)| lines)
}

/// The answer to `dirs`.
pub(super) fn directories(text: &str) -> Object {
    let sizes = pairs(text, ": ");
    sizes
        .map(|(key, size)| (key.to_owned(), value(size)))
        .collect()
}

/// The answer to `envi`, all of it text.
pub(super) fn environment(text: &str) -> Object {
    let variables = pairs(text, "=");
    variables
        .map(|(key, found)| (key.to_owned(), found.into()))
        .collect()
}

/// The answer to `hash`.
pub(super) fn digests(text: &str) -> Value {
    let lines = pairs(text, ": ").filter_map(|(zxid, digest)| {
        let zxid = i64::from_str_radix(zxid, 16).ok()?;
        // Source: `DigestCalculator.DIGEST_VERSION`.
        Some(json!({ "zxid": zxid, "digest": value(digest), "digest_version": 2 }))
    });
    lines.collect()
}

/// The answer to `mntr`, its keys without `zk_`.
pub(super) fn monitor(text: &str) -> Object {
    let metrics = pairs(text, "\t");
    metrics
        .map(|(key, found)| {
            let key = key.strip_prefix("zk_").unwrap_or(key);
            let found = match key {
                "version" | "server_state" | "peer_state" => found.into(),
                _ => value(found),
            };
            (key.to_owned(), found)
        })
        .collect()
}

/// One metric of an answer to `mntr`, 0 if it is not there.
pub(super) fn metric(mntr: &str, name: &str) -> Value {
    let mut metrics = pairs(mntr, "\t");
    let found = metrics.find(|(key, _)| key.strip_prefix("zk_") == Some(name));
    found.map_or_else(|| 0.into(), |(_, found)| value(found))
}

/// How much is told of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Brief,
    Full,
}

/// The answer to `cons`.
pub(super) fn connections(text: &str, detail: Detail) -> Value {
    text.lines()
        .filter_map(|line| connection(line.trim(), detail))
        .map(Value::Object)
        .collect()
}

/// ` /127.0.0.1:1234[1](queued=0,recved=1,sent=1,sid=0x1,lop=PING,…)`.
fn connection(line: &str, detail: Detail) -> Option<Object> {
    const FULL: [(&str, &str); 10] = [
        ("sid", "session_id"),
        ("lop", "last_operation"),
        ("est", "established"),
        ("to", "session_timeout"),
        ("lcxid", "last_cxid"),
        ("lzxid", "last_zxid"),
        ("lresp", "last_response_time"),
        ("llat", "last_latency"),
        ("minlat", "min_latency"),
        ("avglat", "avg_latency"),
    ];
    let (address, rest) = line.strip_prefix('/')?.split_once("[")?;
    // An IPv6 address has brackets of its own.
    let (address, rest) = match address {
        "" => {
            let (ip, rest) = rest.split_once(']')?;
            let (port, rest) = rest.split_once('[')?;
            (format!("[{ip}]{port}"), rest)
        }
        _ => (address.to_owned(), rest),
    };
    let (interest, rest) = rest.split_once("](")?;
    let fields = rest.strip_suffix(')')?;
    let field = |name: &str| {
        let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let number = |name: &str| field(name).map_or(Value::Null, value);
    let mut object = Object::new();
    let mut put = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    put("remote_socket_address", address.into());
    put("interest_ops", value(interest));
    put("outstanding_requests", number("queued"));
    put("packets_received", number("recved"));
    put("packets_sent", number("sent"));
    if detail == Detail::Full && field("sid").is_some() {
        for (name, key) in FULL {
            let found = match (name, field(name)) {
                ("sid", Some(id)) => session(id),
                // Source: `ServerCnxn.lastCxid`.
                ("lcxid", None) => (-1).into(),
                ("lcxid" | "lzxid", Some(id)) => session(id),
                ("lop", Some(text)) => text.into(),
                (_, found) => found.map_or(Value::Null, value),
            };
            put(key, found);
        }
        put("max_latency", number("maxlat"));
    }
    Some(object)
}

/// A session's number, as Java prints a `long`.
fn session(text: &str) -> Value {
    session_number(text).map_or_else(|| text.into(), Value::from)
}

fn session_number(text: &str) -> Option<i64> {
    let hex = text.trim().strip_prefix("0x")?;
    u64::from_str_radix(hex, 16).ok().map(u64::cast_signed)
}

/// The answer to `dump`: when sessions end, and what goes with them.
pub(super) fn dump(text: &str) -> Object {
    let (sessions, rest) = text
        .split_once("ephemeral nodes dump:\n")
        .unwrap_or((text, ""));
    let (ephemerals, _) = rest.split_once("Connections dump:\n").unwrap_or((rest, ""));
    let mut expiry = Object::new();
    let mut at: Option<String> = None;
    for line in sessions.lines() {
        if let Some((_, date)) = line.split_once(" expire at ") {
            at = epoch_ms(date.trim_end_matches(':')).map(|ms| ms.to_string());
        } else if let (Some(id), Some(at)) = (line.strip_prefix('\t'), &at) {
            push(&mut expiry, at, session(id));
        }
    }
    let mut object = Object::new();
    object.insert("expiry_time_to_session_ids".to_owned(), expiry.into());
    object.insert(
        "session_id_to_ephemeral_paths".to_owned(),
        by_session(ephemerals).into(),
    );
    object
}

/// Lines `0x…` or `0x…:`, each with lines of paths after it.
fn by_session(text: &str) -> Object {
    let mut object = Object::new();
    let mut of: Option<String> = None;
    for line in text.lines() {
        if let (Some(path), Some(of)) = (line.strip_prefix('\t'), &of) {
            push(&mut object, of, path.into());
        } else {
            of = session_number(line.trim_end_matches(':')).map(|id| id.to_string());
        }
    }
    object
}

fn push(object: &mut Object, key: &str, item: Value) {
    let list = object.entry(key).or_insert_with(|| json!([]));
    if let Value::Array(list) = list {
        list.push(item);
    }
}

/// The answer to `wchc`.
pub(super) fn watches(text: &str) -> Object {
    by_session(text)
}

/// The answer to `wchp`.
pub(super) fn watches_by_path(text: &str) -> Object {
    let mut object = Object::new();
    let mut of: Option<&str> = None;
    for line in text.lines() {
        if let (Some(id), Some(of)) = (line.strip_prefix('\t'), of) {
            push(&mut object, of, session(id));
        } else if !line.is_empty() {
            of = Some(line);
        }
    }
    object
}

/// The answer to `wchs`: `2 connections watching 3 paths`, `Total watches:4`.
pub(super) fn watch_summary(text: &str) -> Object {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(value);
    ["num_connections", "num_paths", "num_total_watches"]
        .map(|key| (key.to_owned(), numbers.next().unwrap_or_default()))
        .into_iter()
        .collect()
}

/// A line of `srvr` or `stat` behind its name.
pub(super) fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// A zxid in hexadecimal.
pub(super) fn zxid(text: &str) -> Option<i64> {
    session_number(text)
}

/// `Proposal sizes last/min/max: 1/2/3`, of a leader.
pub(super) fn proposal_stats(srvr: &str) -> Option<Value> {
    let sizes = line(srvr, "Proposal sizes last/min/max:")?;
    let mut sizes = sizes.split('/').map(value);
    let mut size = || sizes.next().unwrap_or_default();
    let (last, min, max) = (size(), size(), size());
    Some(json!({
        "last_buffer_size": last, "min_buffer_size": min, "max_buffer_size": max,
    }))
}

/// The milliseconds since 1970 of a date as Java prints it, in UTC: `Sun Nov 22 16:14:20 UTC 2026`.
fn epoch_ms(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, month, day, time, "UTC", year] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|known| known == month)?;
    let month = i64::try_from(month).ok()? + 1;
    let mut clock = time.split(':').map(str::parse::<i64>);
    let mut unit = || clock.next()?.ok();
    let (hour, minute, second) = (unit()?, unit()?, unit()?);
    let days = days_since_1970(year.parse().ok()?, month, day.parse().ok()?);
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_lines_are_read_with_addresses_of_either_family() {
        let text = " /10.0.0.1:4000[1](queued=0,recved=3,sent=2)\n \
                    /[0:0:0:0:0:0:0:1]:4001[5](queued=1,recved=3,sent=2,sid=0x8000000000000001,\
                    lop=PING,est=7,to=4000,lzxid=0xffffffffffffffff,lresp=9,llat=0,minlat=0,\
                    avglat=0,maxlat=1)\n\n";
        let found = connections(text, Detail::Full);
        let expected = json!([
            {
                "remote_socket_address": "10.0.0.1:4000", "interest_ops": 1,
                "outstanding_requests": 0, "packets_received": 3, "packets_sent": 2,
            },
            {
                "remote_socket_address": "[0:0:0:0:0:0:0:1]:4001", "interest_ops": 5,
                "outstanding_requests": 1, "packets_received": 3, "packets_sent": 2,
                "session_id": i64::MIN + 1, "last_operation": "PING", "established": 7,
                "session_timeout": 4000, "last_cxid": -1, "last_zxid": -1,
                "last_response_time": 9, "last_latency": 0, "min_latency": 0, "avg_latency": 0,
                "max_latency": 1,
            },
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn sessions_of_a_dump_are_put_under_the_times_at_which_they_end() {
        let text = "SessionTracker dump:\nSession Sets (1)/(2):\n\
                    2 expire at Sun Nov 22 16:14:20 UTC 2026:\n\t0x1\n\t0x2\n\
                    ephemeral nodes dump:\nSessions with Ephemerals (1):\n0x2:\n\t/a\n\t/b\n\
                    Connections dump:\nConnections Sets (1)/(1):\n\
                    1 expire at Sun Nov 22 16:14:20 UTC 2026:\n\tip: /10.0.0.1:1 sessionId: 0x1\n";
        let expected = json!({
            "expiry_time_to_session_ids": { "1795364060000": [1, 2] },
            "session_id_to_ephemeral_paths": { "2": ["/a", "/b"] },
        });
        assert_eq!(Value::Object(dump(text)), expected);
    }

    #[test]
    fn directories_are_text_whatever_they_are_called() {
        let found = configuration("clientPort=2181\ndataDir=7\nserverId=3\n");
        assert_eq!(found.get("data_dir"), Some(&json!("7")));
        assert_eq!(found.get("client_port"), Some(&json!(2181)));
        assert_eq!(found.get("tick_time"), Some(&Value::Null));
    }
}
