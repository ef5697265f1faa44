//! `zabra ensemble start|stop --hosts` and the half of `status --hosts` that goes over ssh.

use core::fmt::Write as _;
use core::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;

use super::address::Address;
use super::hosts::{self, Host};
use super::table::table;
use super::{Failure, count, print, ssh, tell};

const SCRIPT: &str = include_str!("remote.sh");

/// What every line of the script's begins with.
const MARK: &str = "zabra-ensemble ";

/// `zabra ensemble start`.
#[derive(clap::Args)]
pub(super) struct StartArgs {
    /// The file of hosts, see below
    #[arg(long, value_name = "FILE")]
    hosts: PathBuf,
    /// The program on the hosts: its name, if it is in PATH there, or its path
    #[arg(long, value_name = "PROGRAM", default_value = "zabra")]
    binary: String,
    #[command(flatten)]
    ssh: ssh::Options,
}

/// `zabra ensemble stop`.
#[derive(clap::Args)]
pub(super) struct StopArgs {
    /// The file of hosts, see below
    #[arg(long, value_name = "FILE")]
    hosts: PathBuf,
    /// How long a server may take to end
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    timeout: u32,
    #[command(flatten)]
    ssh: ssh::Options,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Look,
    Start,
    Stop,
}

/// What came of one host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    done: bool,
    text: String,
    /// The path and the last lines of a server's log that ended at once.
    log: Option<(String, Vec<String>)>,
    /// Where clients connect, if its configuration says so.
    client: Option<Address>,
}

/// Starts the servers that do not run.
pub(super) fn start(args: &StartArgs) -> Result<(), Failure> {
    let script = |host: &Host| script(host, Action::Start, &args.binary, 0);
    change(&args.hosts, &args.ssh, Action::Start, script, "started")?;
    let file = args.hosts.display();
    print(&format!(
        "whether they serve: zabra ensemble status --hosts {file}\n"
    ));
    Ok(())
}

/// Stops the servers that run.
pub(super) fn stop(args: &StopArgs) -> Result<(), Failure> {
    let script = |host: &Host| script(host, Action::Stop, "", args.timeout);
    change(&args.hosts, &args.ssh, Action::Stop, script, "stopped")
}

fn change(
    file: &Path,
    options: &ssh::Options,
    action: Action,
    script: impl Fn(&Host) -> String,
    done: &str,
) -> Result<(), Failure> {
    let hosts = hosts::read(file).map_err(Failure::Usage)?;
    let outcomes = all(&hosts, options, action, script);
    print(&(text(&hosts, &outcomes) + "\n"));
    let failed = outcomes.iter().filter(|outcome| !outcome.done).count();
    let servers = count(outcomes.len(), "server");
    if failed > 0 {
        let message = format!("{failed} of {servers} could not be {done}");
        return Err(Failure::Running(message));
    }
    print(&format!("{servers} {done}\n"));
    Ok(())
}

/// Shows whether the servers of a file run, and returns where their clients connect; and whether
/// all run.
pub(super) fn processes(
    file: &Path,
    options: &ssh::Options,
    silently: bool,
) -> Result<(Vec<Address>, bool), Failure> {
    let hosts = hosts::read(file).map_err(Failure::Usage)?;
    let outcomes = all(&hosts, options, Action::Look, |host| {
        script(host, Action::Look, "", 0)
    });
    if silently {
        for (host, outcome) in hosts.iter().zip(&outcomes) {
            if !outcome.done {
                tell(&format!("{host} {}: {}", host.config, outcome.text));
            }
        }
    } else {
        print(&(text(&hosts, &outcomes) + "\n"));
    }
    let well = outcomes.iter().all(|outcome| outcome.done);
    let clients: Vec<Address> = outcomes.into_iter().filter_map(|it| it.client).collect();
    if clients.is_empty() {
        return Err(Failure::Running(
            "no host told where its server's clients connect, so nobody can be asked".to_owned(),
        ));
    }
    Ok((clients, well))
}

/// All hosts at once.
fn all(
    hosts: &[Host],
    options: &ssh::Options,
    action: Action,
    script: impl Fn(&Host) -> String,
) -> Vec<Outcome> {
    thread::scope(|scope| {
        let threads: Vec<_> = hosts
            .iter()
            .map(|host| {
                let script = script(host);
                scope.spawn(move || match ssh::run(host, options, &script) {
                    Ok(output) => outcome(host, action, &output),
                    Err(text) => Outcome {
                        text,
                        ..Outcome::default()
                    },
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Outcome {
                    text: "a bug in zabra".to_owned(),
                    ..Outcome::default()
                })
            })
            .collect()
    })
}

fn script(host: &Host, action: Action, binary: &str, timeout: u32) -> String {
    let action = match action {
        Action::Look => "look",
        Action::Start => "start",
        Action::Stop => "stop",
    };
    format!(
        "config={}\nbinary={}\naction={action}\nseconds={timeout}\n{SCRIPT}",
        ssh::quote(&host.config),
        ssh::quote(binary),
    )
}

/// Reads what the script said.
fn outcome(host: &Host, action: Action, output: &str) -> Outcome {
    let mut outcome = Outcome {
        text: "expected the script's answer, found none: is sh there?".to_owned(),
        ..Outcome::default()
    };
    let mut log: Option<(String, Vec<String>)> = None;
    let mut settings = Vec::new();
    let mut my_id = "";
    for line in output.lines().filter_map(|line| line.strip_prefix(MARK)) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let done = match kind {
            "already" => Some((true, format!("runs already, pid {rest}"))),
            "failed" => Some((false, rest.to_owned())),
            "idle" => {
                let text = format!("does not run, by {rest}");
                Some((action == Action::Stop, text))
            }
            "running" => Some((true, format!("runs, pid {rest}"))),
            "started" => Some((true, format!("started, pid {rest}"))),
            "stopped" => Some((true, format!("stopped, was pid {rest}"))),
            _ => None,
        };
        if let Some(done) = done {
            (outcome.done, outcome.text) = done;
        }
        match kind {
            "line" => {
                if let Some((_, lines)) = &mut log {
                    lines.push(rest.to_owned());
                }
            }
            "log" => log = Some((rest.to_owned(), Vec::new())),
            "myid" => my_id = rest.trim(),
            "setting" => settings.push(rest),
            _ => {}
        }
    }
    outcome.log = log;
    outcome.client = client(host, &settings, my_id);
    outcome
}

/// Where clients of a server connect, by the lines of its configuration.
fn client(host: &Host, settings: &[&str], my_id: &str) -> Option<Address> {
    let mut port = None;
    let mut address = None;
    for setting in settings {
        let (key, value) = setting.split_once(['=', ':'])?;
        let (key, value) = (key.trim(), value.trim());
        if key == "clientPort" {
            port = value.parse().ok();
        } else if key == "clientPortAddress" {
            address = Some(value);
        } else if key.strip_prefix("server.") == Some(my_id)
            && let Some((_, client)) = value.split_once(';')
        {
            let client = client.split(';').next().unwrap_or(client).trim();
            let (ip, own) = client.rsplit_once(':').map_or((None, client), |(ip, own)| {
                (Some(ip.trim_matches(['[', ']'])), own)
            });
            port = own.parse().ok().or(port);
            address = ip.or(address);
        }
    }
    let reachable = address.filter(|address| {
        // Every address, and one that is another machine's here: by the name that ssh has.
        !address
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified() || ip.is_loopback())
    });
    Some(Address {
        host: reachable.unwrap_or(&host.name).to_owned(),
        port: port?,
    })
}

fn text(hosts: &[Host], outcomes: &[Outcome]) -> String {
    let rows: Vec<[String; 3]> = hosts
        .iter()
        .zip(outcomes)
        .map(|(host, outcome)| {
            let error = if outcome.done { "" } else { "error: " };
            [
                host.to_string(),
                host.config.clone(),
                format!("{error}{}", outcome.text),
            ]
        })
        .collect();
    let mut text = table(["HOST", "CONFIG", "SERVER"], &rows);
    for (host, outcome) in hosts.iter().zip(outcomes) {
        if let Some((path, lines)) = &outcome.log {
            let _infallible = writeln!(text, "\nthe end of {path} on {host}:");
            for line in lines {
                let _infallible = writeln!(text, "    {line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            user: None,
            name: "zoo1".to_owned(),
            ssh_port: None,
            config: "/etc/zoo.cfg".to_owned(),
        }
    }

    #[test]
    fn answer_is_found_among_what_a_login_prints() {
        let output = "Welcome!\nzabra-ensemble started 17\nbye\n";
        let found = outcome(&host(), Action::Start, output);
        assert!(found.done);
        assert_eq!(found.text, "started, pid 17");
        assert!(!outcome(&host(), Action::Start, "Welcome!\n").done);
    }

    #[test]
    fn server_that_ended_shows_its_log() {
        let output = "zabra-ensemble log /d/zabra.log\nzabra-ensemble line  a b\n\
                      zabra-ensemble failed it ended with exit code 2\n";
        let found = outcome(&host(), Action::Start, output);
        let log = ("/d/zabra.log".to_owned(), vec![" a b".to_owned()]);
        assert_eq!((found.done, found.log), (false, Some(log)));
    }

    #[test]
    fn clients_address_is_read_from_either_form() {
        let address = |settings: &[&str]| client(&host(), settings, "2").map(|it| it.to_string());
        for (settings, expected) in [
            (&["clientPort = 2182"] as &[_], Some("zoo1:2182")),
            (
                &["clientPort=2182", "clientPortAddress=0.0.0.0"],
                Some("zoo1:2182"),
            ),
            (
                &["clientPort=2182", "clientPortAddress=10.0.0.7"],
                Some("10.0.0.7:2182"),
            ),
            (
                &["server.1=a:1:2;2181", "server.2=b:1:2;2183"],
                Some("zoo1:2183"),
            ),
            (&["server.2=b:1:2;10.0.0.7:2183"], Some("10.0.0.7:2183")),
            (&["server.2=b:1:2;[fd00::1]:2183"], Some("[fd00::1]:2183")),
            (&["server.2=b:1:2", "clientPort=2181"], Some("zoo1:2181")),
            (&["server.2=b:1:2"], None),
        ] {
            assert_eq!(address(settings).as_deref(), expected, "{settings:?}");
        }
    }
}
