//! The `zabra` program: what it prints, and its exit codes.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{self, Command},
};

/// Exit code, standard output and standard error.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn zabra(args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    // Whatever the variables of this process are, they are not of the test.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ZABRA_") || text.starts_with("ZOO_") {
            command.env_remove(&name);
        }
    }
    let output = command
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A file that stays until the test ends.
fn file(name: &str, text: &str) -> PathBuf {
    let file = env::temp_dir().join(format!("zabra-cli-{}-{name}", process::id()));
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn version_and_help_go_to_standard_output() {
    let run = zabra(&["--version"], &[]);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.out, concat!("zabra ", env!("CARGO_PKG_VERSION"), "\n"));
    for args in [
        &["--help"] as &[_],
        &["server", "--help"],
        &["help", "server"],
    ] {
        let run = zabra(args, &[]);
        assert_eq!(run.code, Some(0), "{args:?}");
        for option in [
            "--config",
            "--data-dir",
            "--client-port",
            "--client-port-address",
            "--log-format",
            "--log-level",
        ] {
            assert!(
                run.out.contains(option),
                "{args:?} lacks {option}:\n{}",
                run.out
            );
        }
        assert_eq!(run.err, "");
    }
    assert!(
        zabra(&["--help"], &[])
            .out
            .contains("Exit codes: 0 clean stop, 1 failure")
    );
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for (args, message) in [
        (&["sever"] as &[_], "error: unrecognized subcommand 'sever'"),
        (
            &["--client-prot", "1"],
            "error: unexpected argument '--client-prot' found",
        ),
        (
            &["server", "--client-port", "70000"],
            "error: invalid value '70000' for '--client-port <PORT>'",
        ),
        (
            &["server", "a.cfg", "--config", "b.cfg"],
            "error: the argument '[FILE]' cannot be used with",
        ),
        (
            &["--log-format", "xml"],
            "error: invalid value 'xml' for '--log-format <LOG_FORMAT>'",
        ),
    ] {
        let run = zabra(args, &[]);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.err);
        assert!(run.err.contains(message), "{args:?}: {}", run.err);
        assert_eq!(run.out, "");
    }
    let run = zabra(&[], &[("ZABRA_LOG_LEVEL", "loud")]);
    assert_eq!(run.code, Some(2));
    assert_eq!(
        run.err,
        "error: environment variable ZABRA_LOG_LEVEL: expected one of debug, error, info, \
         trace, warn, \
         found \"loud\"\n"
    );
}

#[test]
fn wrong_configuration_exits_with_2_and_names_every_line() {
    let config = file("bad.cfg", "dataDir=/nonexistent\nclientPort=x\ntickTme=1\n");
    let path = config.to_str().unwrap();
    for args in [
        &["server", path] as &[_],
        &["server", "--config", path],
        &["--config", path],
    ] {
        let run = zabra(args, &[]);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.err);
        let messages: Vec<&str> = run
            .err
            .lines()
            .map(|line| line.split_once("Z ERROR ").unwrap().1)
            .collect();
        assert_eq!(
            messages,
            [
                &format!(
                    "{path}:2: clientPort: expected a port from 0 to 65535 (0 lets the system \
                          choose), found \"x\""
                ),
                &format!("{path}:3: tickTme: there is no such key; did you mean tickTime?"),
                "the server did not start problems=2",
            ]
        );
    }
    let run = zabra(&["--log-format", "json"], &[("ZABRA_CONFIG", path)]);
    assert_eq!(run.code, Some(2));
    assert_eq!(run.err.lines().count(), 3);
    assert!(
        run.err
            .lines()
            .all(|line| line.starts_with('{') && line.ends_with('}')),
        "{}",
        run.err
    );
    fs::remove_file(config).unwrap();
}

#[test]
fn address_in_use_exits_with_1_and_says_so() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let data = env::temp_dir().join(format!("zabra-cli-{}-in-use", process::id()));
    let args = [
        "server",
        "--client-port-address",
        "127.0.0.1",
        "--client-port",
        &port,
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let run = zabra(&args, &[]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    let message = format!("ERROR cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(run.err.contains(&message), "{}", run.err);
    assert!(
        run.err
            .contains("; stop the server that is there, or choose another port")
    );
    let _never_created = fs::remove_dir_all(data);
}
