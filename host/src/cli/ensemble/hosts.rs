//! The file of hosts: `[user@]host[:sshport] config-path`, a server per line.

use core::fmt;
use core::net::Ipv6Addr;
use std::fs;
use std::path::Path;

/// What `--help` says of the file at its end.
pub(super) const FORMAT: &str = "\
The file of hosts has a line for every server:

    # [user@]host[:sshport]  path of its zoo.cfg on that host
    zoo1                     /etc/zabra/zoo.cfg
    admin@zoo2:2222          /etc/zabra/zoo.cfg
    admin@[fd00::3]          /etc/zabra/zoo.cfg

Empty lines and lines that begin with # are skipped. The path ends where the line does, so it may
have spaces in it. A path that is not absolute begins at the user's home directory there.

The system's ssh is used, with whatever ~/.ssh/config says, and never asks anything: keys must work
without a passphrase (ssh-agent) and hosts be known. `start` runs `zabra server --config PATH`
there in the background. Its log is appended to zabra.log in its dataDir, and its process id
written to zabra.pid beside it, by which `stop` and `status` find it. A host that fails does not
keep the others from being started or stopped.

Exit codes: 0 done on every host, 1 not on every host, 2 wrong command line or file of hosts";

/// A server somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) user: Option<String>,
    /// A name or an address, without brackets.
    pub(super) name: String,
    pub(super) ssh_port: Option<u16>,
    /// Its configuration's path there.
    pub(super) config: String,
}

/// Reads the file.
pub(super) fn read(file: &Path) -> Result<Vec<Host>, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems
            .iter()
            .map(|(line, problem)| format!("{name}:{line}: {problem}"))
            .collect();
        if lines.is_empty() {
            format!("{name}: expected a line for every server, found none")
        } else {
            lines.join("\nerror: ")
        }
    })
}

/// The hosts, or what is wrong in which lines; nothing if there is no host.
fn parse(text: &str) -> Result<Vec<Host>, Vec<(usize, String)>> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match host(line) {
            Some(host) if hosts.contains(&host) => {
                problems.push((number, "this server is named twice".to_owned()));
            }
            Some(host) => hosts.push(host),
            None => problems.push((
                number,
                format!("expected [user@]host[:sshport] config-path, found {line:?}"),
            )),
        }
    }
    if problems.is_empty() && !hosts.is_empty() {
        Ok(hosts)
    } else {
        Err(problems)
    }
}

fn host(line: &str) -> Option<Host> {
    let (place, config) = line.split_once(char::is_whitespace)?;
    let config = config.trim_start();
    let (user, place) = match place.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, place),
    };
    let (name, port) = if let Some(rest) = place.strip_prefix('[') {
        let (name, rest) = rest.split_once(']')?;
        name.parse::<Ipv6Addr>().ok()?;
        match rest {
            "" => (name, None),
            rest => (name, Some(rest.strip_prefix(':')?)),
        }
    } else {
        match place.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (place, None),
        }
    };
    let ssh_port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|&port| port > 0)?),
    };
    let good = is_plain(name) && user.is_none_or(is_plain);
    let good = good && !config.chars().any(char::is_control);
    good.then(|| Host {
        user: user.map(str::to_owned),
        name: name.to_owned(),
        ssh_port,
        config: config.to_owned(),
    })
}

/// Whether a program takes it for a name, not for an option or anything of a shell's.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-:%+".contains(c);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.name.contains(':') {
            write!(f, "[{}]", self.name)?;
        } else {
            f.write_str(&self.name)?;
        }
        match self.ssh_port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_line_is_read() {
        let text = "# ours\n\nzoo1 /etc/zoo.cfg\n  admin@zoo2:2222\t/a path/zoo's.cfg  \n\
                    a@[fd00::3] zoo.cfg\n[::1]:22 zoo.cfg\n";
        let hosts = parse(text).expect("all are right");
        let found: Vec<(String, &str)> = hosts
            .iter()
            .map(|host| (host.to_string(), host.config.as_str()))
            .collect();
        let expected = [
            ("zoo1", "/etc/zoo.cfg"),
            ("admin@zoo2:2222", "/a path/zoo's.cfg"),
            ("a@[fd00::3]", "zoo.cfg"),
            ("[::1]:22", "zoo.cfg"),
        ];
        assert_eq!(found, expected.map(|(host, path)| (host.to_owned(), path)));
    }

    #[test]
    fn lines_that_are_wrong_are_named_by_their_numbers() {
        let text = "zoo1\nzoo2 /a\n-oProxyCommand=x /a\nzoo2 /a\nzoo:x /a\nz$(a) /a\n@z /a\n[z] /a";
        let problems = parse(text).expect_err("wrong lines");
        let lines: Vec<usize> = problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7, 8]);
        assert_eq!(parse("# nobody\n"), Err(Vec::new()));
    }
}
