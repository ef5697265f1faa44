//! Scripts, run on other machines by the system's ssh.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use super::hosts::Host;

/// How ssh is called.
#[derive(clap::Args)]
pub(super) struct Options {
    /// An option for ssh as in its configuration, such as IdentityFile=/path; may be repeated
    #[arg(long, short = 'o', value_name = "OPTION=VALUE", requires = "hosts")]
    ssh_option: Vec<String>,
    /// How long ssh may take to connect
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    ssh_timeout: u32,
}

/// Runs a script of `sh` there and returns what it printed.
///
/// The script goes through standard input: no shell but `sh` ever sees it, whatever the user's
/// login shell is.
///
/// # Errors
/// In words: ssh failed, or the script did.
pub(super) fn run(host: &Host, options: &Options, script: &str) -> Result<String, String> {
    let mut command = command(host, options);
    let mut ssh = command.spawn().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            "there is no program ssh here; install OpenSSH's client".to_owned()
        } else {
            format!("ssh did not start: {error}")
        }
    })?;
    if let Some(mut input) = ssh.stdin.take() {
        // If ssh is gone, why is on its standard error.
        let _gone = input.write_all(script.as_bytes());
    }
    let output = ssh
        .wait_with_output()
        .map_err(|error| format!("ssh: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    Err(match last {
        Some(line) => format!("{line}{}", remedy(&complaint)),
        None => format!("ssh ended with {}", output.status),
    })
}

fn command(host: &Host, options: &Options) -> Command {
    let mut command = Command::new("ssh");
    // Before ours: of an option that is given twice, ssh takes the first.
    for option in &options.ssh_option {
        command.args(["-o", option]);
    }
    command.args(["-T", "-o", "BatchMode=yes"]);
    command.arg("-o");
    command.arg(format!("ConnectTimeout={}", options.ssh_timeout));
    // A host that dies in the middle is noticed.
    command.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
    if let Some(port) = host.ssh_port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &host.user {
        command.args(["-l", user]);
    }
    command
        .args(["--", &host.name, "sh -s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn remedy(complaint: &str) -> &'static str {
    if complaint.contains("Host key verification failed") {
        "; connect to it once by hand and accept its key, if it is the right one"
    } else if complaint.contains("Permission denied") {
        "; ssh may not ask for a password here: set up a key that works without, perhaps by \
         ssh-agent"
    } else {
        ""
    }
}

/// A word for `sh` that stands for exactly this text.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_comes_through_a_shell_unchanged() {
        for text in [
            "",
            "a b",
            "it's",
            "$(touch x)`y`",
            "\\'\"!*?~#;&|",
            "-n",
            "é\t",
        ] {
            let script = format!("printf %s {}", quote(text));
            let output = Command::new("sh").args(["-c", &script]).output();
            let output = output.expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}
