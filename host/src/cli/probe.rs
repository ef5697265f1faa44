//! `zabra probe`: whether one server lives, or serves, as an exit code: for orchestrators, in images
//! without a shell.

use core::time::Duration;
use std::io::{self, Write as _};
use std::process::ExitCode;

use super::USAGE;
use super::ensemble::address;
use super::ensemble::condition::{self, Answer, Role};

const AFTER_HELP: &str = "\
The question is the four-letter word srvr, which every server answers, Apache ZooKeeper's too.

Exit codes: 0 it serves (with --alive: it answers), 1 it does not, 2 wrong command line";

/// `zabra probe`.
#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// The server to ask
    #[arg(value_name = "HOST[:PORT]", default_value = "127.0.0.1:2181")]
    server: String,
    /// Is content with an answer: a server without a leader lives, though it serves nobody
    #[arg(long)]
    alive: bool,
    /// How long it may take to answer
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    timeout: u64,
}

/// Asks.
pub(super) fn main(args: &Args) -> ExitCode {
    let servers = match address::parse(&args.server) {
        Ok(servers) => servers,
        Err(error) => return say(&format!("error: {error}"), ExitCode::from(USAGE)),
    };
    let [server] = servers.as_slice() else {
        let found = &args.server;
        let error = format!("error: expected one server, found {found:?}");
        return say(&error, ExitCode::from(USAGE));
    };
    let (is_well, text) = match condition::ask_role(server, Duration::from_secs(args.timeout)) {
        Answer::Condition(condition) => {
            let serves = condition.role != Role::NotServing;
            (serves || args.alive, condition.role.name().to_owned())
        }
        Answer::Silence(silence) => (false, silence.to_string()),
        Answer::Strange(line) => (
            false,
            format!("is no ZooKeeper server: expected the answer to srvr, found {line:?}"),
        ),
    };
    let code = if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    say(&format!("{server}: {text}"), code)
}

fn say(line: &str, code: ExitCode) -> ExitCode {
    // Unlike `eprintln`, this does not panic when nobody listens.
    let _closed = writeln!(io::stderr(), "{line}");
    code
}
