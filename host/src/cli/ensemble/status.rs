//! `zabra ensemble status`: how an ensemble is.

use core::fmt::Write as _;
use core::time::Duration;
use std::path::PathBuf;
use std::thread;

use super::address::{self, Address};
use super::condition::{self, Answer, Condition};
use super::table::table;
use super::verdict::{self, Verdict};
use super::{Failure, print, remote, ssh, tell};

/// Longer than that is no timeout.
const SECONDS_MAX: u64 = 3600;

/// What `--help` says at its end.
pub(super) const AFTER_HELP: &str = "\
SERVERS is a connect string as clients have it; a chroot is ignored, an IPv6 address stands in
brackets, the port goes without saying if it is 2181:

    zabra ensemble status zoo1,zoo2,zoo3
    zabra ensemble status '[fd00::1]:2181,[fd00::2]:2181'

Apache ZooKeeper's servers are shown like ours. The number of sessions comes from the four-letter
word mntr, which they answer only if zoo.cfg has `4lw.commands.whitelist=srvr,mntr`; everything
else from srvr, which every server answers. EPOCH is that of the last transaction. LATENCY is
minimum/average/maximum in milliseconds.

Exit codes: 0 exactly one leader and a quorum serves (or one standalone server was named and it
serves), 1 otherwise, 2 wrong command line or file of hosts";

/// `zabra ensemble status`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The servers to ask
    #[arg(
        value_name = "HOST[:PORT],…",
        required_unless_present = "hosts",
        conflicts_with = "hosts"
    )]
    servers: Option<String>,
    /// Looks over ssh whether the processes of these hosts run, then asks the servers [see
    /// `zabra ensemble start --help` for the file]
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    #[command(flatten)]
    ssh: ssh::Options,
    /// How long a server may take to answer
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX)
    )]
    timeout: u64,
    /// Prints JSON, one object
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let time_max = Duration::from_secs(args.timeout);
    let (addresses, processes_well) = match (&args.servers, &args.hosts) {
        (Some(servers), _) => (address::parse(servers).map_err(Failure::Usage)?, true),
        (None, Some(file)) => remote::processes(file, &args.ssh, args.json)?,
        (None, None) => return Err(Failure::Usage("expected servers or --hosts".to_owned())),
    };
    let servers = ask_all(addresses, time_max);
    let verdict = verdict::judge(&servers);
    if args.json {
        print(&json(&servers, &verdict));
    } else {
        print(&text(&servers, &verdict));
    }
    for problem in &verdict.problems {
        tell(&format!("not well: {problem}"));
    }
    if verdict.is_well() && processes_well {
        Ok(())
    } else {
        Err(Failure::Said)
    }
}

/// All at once: the slowest decides how long it takes.
fn ask_all(addresses: Vec<Address>, time_max: Duration) -> Vec<(Address, Answer)> {
    let asked: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let of_thread = address.clone();
            let thread = thread::spawn(move || condition::ask(&of_thread, time_max));
            (address, thread)
        })
        .collect();
    asked
        .into_iter()
        .map(|(address, thread)| {
            let answer = thread.join();
            let answer = answer.unwrap_or_else(|_| Answer::Strange("a bug in zabra".to_owned()));
            (address, answer)
        })
        .collect()
}

fn text(servers: &[(Address, Answer)], verdict: &Verdict) -> String {
    let headings = [
        "SERVER",
        "ROLE",
        "ZXID",
        "EPOCH",
        "SESSIONS",
        "CONNECTIONS",
        "LATENCY",
        "VERSION",
    ];
    let rows: Vec<[String; 8]> = servers
        .iter()
        .map(|(address, answer)| row(address, answer))
        .collect();
    let mut text = table(headings, &rows);
    if verdict.is_well() {
        let _infallible = writeln!(text, "\nwell: {}", verdict.summary);
    } else {
        text.push('\n');
    }
    for remark in &verdict.remarks {
        let _infallible = writeln!(text, "note: {remark}");
    }
    let silent: Vec<String> = servers
        .iter()
        .filter(|(_, answer)| !tells_sessions(answer))
        .map(|(address, _)| address.to_string())
        .collect();
    if !silent.is_empty() {
        let _infallible = writeln!(
            text,
            "note: SESSIONS is not shown for {}: mntr is not answered there; put \
             4lw.commands.whitelist=srvr,mntr into zoo.cfg and restart the server",
            silent.join(", ")
        );
    }
    text
}

/// Whether nothing is hidden by a whitelist.
fn tells_sessions(answer: &Answer) -> bool {
    match answer {
        // While there is nothing to serve, mntr says no more than srvr.
        Answer::Condition(condition) => {
            condition.monitored.is_some() || condition.role == condition::Role::NotServing
        }
        Answer::Silence(_) | Answer::Strange(_) => true,
    }
}

fn row(address: &Address, answer: &Answer) -> [String; 8] {
    let nothing = || "-".to_owned();
    let number = |value: Option<u64>| value.map_or_else(nothing, |value| value.to_string());
    let Answer::Condition(condition) = answer else {
        let mut cells = [(); 8].map(|()| nothing());
        let [first, second, ..] = &mut cells;
        *first = address.to_string();
        *second = "no answer".to_owned();
        return cells;
    };
    let latency = condition
        .latency_ms
        .map_or_else(nothing, |(min, average, max)| {
            format!("{min}/{average}/{max}")
        });
    let sessions = condition.monitored.as_ref().and_then(|it| it.sessions);
    [
        address.to_string(),
        condition.role.name().to_owned(),
        condition
            .zxid
            .map_or_else(nothing, |zxid| format!("0x{zxid:x}")),
        number(condition.zxid.map(epoch)),
        number(sessions),
        number(condition.connections),
        latency,
        condition.version.clone().unwrap_or_else(nothing),
    ]
}

const fn epoch(zxid: u64) -> u64 {
    zxid >> 32
}

fn json(servers: &[(Address, Answer)], verdict: &Verdict) -> String {
    let objects: Vec<String> = servers
        .iter()
        .map(|(address, answer)| object(address, answer))
        .collect();
    let strings = |lines: &[String]| {
        let quoted: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
        quoted.join(",")
    };
    format!(
        "{{\"well\":{},\"problems\":[{}],\"remarks\":[{}],\"servers\":[{}]}}\n",
        verdict.is_well(),
        strings(&verdict.problems),
        strings(&verdict.remarks),
        objects.join(","),
    )
}

fn object(address: &Address, answer: &Answer) -> String {
    let address = quoted(&address.to_string());
    match answer {
        Answer::Condition(condition) => {
            format!("{{\"server\":{address},{}}}", fields(condition))
        }
        Answer::Silence(silence) => {
            let error = quoted(&silence.to_string());
            format!("{{\"server\":{address},\"role\":null,\"error\":{error}}}")
        }
        Answer::Strange(line) => {
            let error = quoted(&format!("expected the answer to srvr, found {line:?}"));
            format!("{{\"server\":{address},\"role\":null,\"error\":{error}}}")
        }
    }
}

fn fields(condition: &Condition) -> String {
    let null = || "null".to_owned();
    let number = |value: Option<u64>| value.map_or_else(null, |value| value.to_string());
    let latency = condition
        .latency_ms
        .map_or_else(null, |(min, average, max)| {
            format!("{{\"min\":{min},\"avg\":{average},\"max\":{max}}}")
        });
    let monitored = condition.monitored.clone().unwrap_or_default();
    let zxid = condition.zxid.map(|zxid| format!("\"0x{zxid:x}\""));
    format!(
        "\"role\":{},\"zxid\":{},\"epoch\":{},\"sessions\":{},\"connections\":{},\
         \"latency_ms\":{latency},\"nodes\":{},\"quorum_size\":{},\"synced_followers\":{},\
         \"version\":{},\"error\":null",
        quoted(condition.role.name()),
        zxid.unwrap_or_else(null),
        number(condition.zxid.map(epoch)),
        number(monitored.sessions),
        number(condition.connections),
        number(condition.nodes),
        number(monitored.voters),
        number(monitored.followers),
        condition.version.as_deref().map_or_else(null, quoted),
    )
}

/// A string of JSON. Source: RFC 8259, section 7.
pub(in crate::cli) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            c if c.is_control() => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _infallible = write!(quoted, "\\u{unit:04x}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_escape_what_they_must() {
        assert_eq!(
            quoted("a \"b\"\\ c\n\u{7}é"),
            "\"a \\\"b\\\"\\\\ c\\u000a\\u0007é\""
        );
    }
}
