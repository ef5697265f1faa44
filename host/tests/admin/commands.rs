//! The AdminServer's commands and the pages for orchestrators.

use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::support::http::{Answer, ask, get};
use super::support::process::{Directory, Kind, Server, free_address};
use super::support::tree::dump;
use super::support::wire::{Acl, Client, flags, word};
use super::{Administered, SESSION_MS, SUPER};

const AUTHORITY: (&str, &str) = ("Authorization", "digest super:test");
const START_TIME_MAX: Duration = Duration::from_secs(30);

#[test]
fn every_command_answers_by_each_of_its_names() {
    let it = Administered::start("admin-names", &[]);
    let list = get(it.admin, "/commands").unwrap();
    assert_eq!(list.status, 200);
    let text = list.text();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("<a href=\"/commands/")?.split('"').next())
        .collect();
    assert_eq!(names.len(), 28, "{text}");
    assert_eq!(text.lines().filter(|line| *line == "<br/>").count(), 28);
    for name in names {
        if matches!(name, "restore" | "snapshot") {
            continue;
        }
        let answer = it.command(name);
        assert_eq!(answer["command"], name);
        let error = match name {
            "leader" => json!("server is not initialized"),
            "set_trace_mask" => json!("setTraceMask requires long traceMask argument"),
            _ => Value::Null,
        };
        assert_eq!(answer["error"], error, "{name}");
    }
    for (alias, name) in [
        ("conf", "configuration"),
        ("config", "configuration"),
        ("mntr", "monitor"),
        ("srvr", "server_stats"),
        ("env", "environment"),
        ("obsr", "observers"),
    ] {
        assert_eq!(it.command(alias)["command"], name);
    }
    assert_eq!(
        it.command("nonsense"),
        json!({ "command": "nonsense", "error": "Unknown command: nonsense" })
    );
}

#[test]
fn commands_tell_what_the_words_tell() {
    let it = Administered::start("admin-words", &[]);
    let mut client = Client::open(it.server.address, SESSION_MS).unwrap();
    client
        .create("/eph", None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    client.data("/eph", true).unwrap();
    let id = client.session_id;

    let connections = it.command("connections");
    let connection = &connections["connections"][0];
    assert_eq!(connection["session_id"], id);
    assert_eq!(connection["last_operation"], "GETD");
    assert_eq!(connection["session_timeout"], SESSION_MS);
    assert_eq!(connections["connections"].as_array().unwrap().len(), 1);

    let dump = it.command("dump");
    let ends = dump["expiry_time_to_session_ids"].as_object().unwrap();
    assert_eq!(ends.values().collect::<Vec<_>>(), [&json!([id])]);
    assert_eq!(
        dump["session_id_to_ephemeral_paths"],
        json!({ id.to_string(): ["/eph"] })
    );
    assert_eq!(
        it.command("watches")["session_id_to_watched_paths"],
        json!({ id.to_string(): ["/eph"] })
    );
    assert_eq!(
        it.command("watches_by_path")["path_to_session_ids"],
        json!({ "/eph": [id] })
    );
    let summary = it.command("watch_summary");
    assert_eq!(summary["num_total_watches"], 1);

    let monitor = it.command("monitor");
    assert_eq!(monitor["server_state"], "standalone");
    assert_eq!(monitor["ephemerals_count"], 1);
    assert_eq!(monitor["num_alive_connections"], 1);
    let text = word(it.server.address, "mntr", START_TIME_MAX).unwrap();
    let keys = text.lines().filter_map(|line| line.split('\t').next());
    for key in keys.map(|key| key.strip_prefix("zk_").unwrap()) {
        assert!(monitor.get(key).is_some(), "{key}");
    }
    let stats = it.command("server_stats");
    assert_eq!(stats["server_stats"]["server_state"], "standalone");
    let zxid = stats["server_stats"]["last_processed_zxid"].as_i64();
    assert_eq!(zxid, Some(it.server.zxid()));

    let mask = it.command("set_trace_mask?traceMask=14");
    assert_eq!(mask["tracemask"], 14);
    assert_eq!(it.command("get_trace_mask")["tracemask"], 14);
    let wrong = it.command("set_trace_mask?traceMask=x");
    assert_eq!(
        wrong["error"],
        "setTraceMask requires long traceMask argument, got x"
    );
    client.close().unwrap();
}

#[test]
fn words_of_operators_need_no_whitelist_but_clients_do() {
    let it = Administered::start("admin-whitelist", &["4lw.commands.whitelist=srvr"]);
    let text = word(it.server.address, "mntr", START_TIME_MAX).unwrap();
    assert!(text.contains("is not in the whitelist"), "{text}");
    assert_eq!(it.command("monitor")["server_state"], "standalone");
    // Nor is asking a connection.
    assert_eq!(it.command("monitor")["num_alive_connections"], 0);
}

#[test]
fn configuration_is_shown_without_its_secrets() {
    let it = Administered::start("admin-secrets", &[]);
    let text = it.command("initial_configuration")["initial_configuration"].to_string();
    assert!(text.contains("admin.enableServer=true"), "{text}");
    assert!(text.contains("superDigest=(not shown)"), "{text}");
    assert!(!text.contains("D/InIHSb7yEEbrWz8b9l71RjZJU"), "{text}");
}

#[test]
fn snapshot_is_of_the_state_as_it_is_and_starts_another_server() {
    let it = Administered::start("admin-snapshot", &["admin.rateLimiterIntervalInMS=0"]);
    let mut client = Client::open(it.server.address, SESSION_MS).unwrap();
    client.add_auth("digest", b"super:test").unwrap();
    for number in 0..200 {
        let data = vec![b'x'; 1000];
        let path = format!("/n{number}");
        client
            .create(&path, Some(&data), &Acl::open(), flags::PERSISTENT)
            .unwrap();
    }
    let expected = dump(&mut client).unwrap();
    let answer = ask(it.admin, "GET", "/commands/snapshot", &[AUTHORITY]).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    let zxid = answer.header("last_zxid").unwrap();
    let zxid = i64::from_str_radix(zxid.strip_prefix("0x").unwrap(), 16).unwrap();
    assert_eq!(zxid, it.server.zxid());
    let size = answer.header("snapshot_size").unwrap();
    assert_eq!(size, answer.body.len().to_string());

    let home = it.directory.path().join("other");
    let files = home.join("data/version-2");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join(format!("snapshot.{zxid:x}")), &answer.body).unwrap();
    let other = Server::start(Kind::Zabra, &home, &[SUPER]);
    let mut reader = Client::open(other.address, SESSION_MS).unwrap();
    reader.add_auth("digest", b"super:test").unwrap();
    assert_eq!(dump(&mut reader).unwrap(), expected);

    let told = ask(
        it.admin,
        "GET",
        "/commands/snapshot?streaming=false",
        &[AUTHORITY],
    );
    let told = told.unwrap();
    let value: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(value, json!({ "command": "snapshot", "error": null }));
    assert!(told.header("last_zxid").is_some());
    let last = it.command("last_snapshot");
    let newest = i64::from_str_radix(last["zxid"].as_str().unwrap(), 16).unwrap();
    assert!(newest >= zxid);
}

#[test]
fn cve_2025_58457_commands_that_give_everything_away_need_the_super_user() {
    let it = Administered::start("admin-authority", &[]);
    let status = |answer: &Answer| {
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, value["error"].as_str().map(str::to_owned))
    };
    let snapshot = |authority: Option<&str>| {
        let header = authority.map(|it| ("Authorization", it));
        let headers: Vec<_> = header.into_iter().collect();
        status(&ask(it.admin, "GET", "/commands/snapshot", &headers).unwrap())
    };
    let said = |code, text: &str| (code, Some(text.to_owned()));
    let missing = "Auth info is missing for the command";
    assert_eq!(snapshot(None), said(401, missing));
    for wrong in ["Basic c3VwZXI6dGVzdA==", "digest", "digest super", "x509 a"] {
        assert_eq!(
            snapshot(Some(wrong)),
            said(401, "Not authenticated"),
            "{wrong}"
        );
    }
    // CVE-2024-51504: nobody is believed to be where a header says that he is.
    let from_here = [
        ("Authorization", "ip"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
    ];
    let answer = ask(it.admin, "GET", "/commands/snapshot", &from_here).unwrap();
    assert_eq!(status(&answer), said(401, "Not authenticated"));
    for other in ["digest super:wrong", "digest ann:test", "digest super:"] {
        assert_eq!(
            snapshot(Some(other)),
            said(403, "Not authorized"),
            "{other}"
        );
    }
    assert_eq!(snapshot_json(&it).0, 200);
    // One in five minutes.
    let (code, text) = snapshot_json(&it);
    assert_eq!(code, 429);
    assert!(text.contains("300000 ms"), "{text}");

    let restore = |method, headers: &[_]| {
        let answer = ask(it.admin, method, "/commands/restore", headers).unwrap();
        (answer.status, answer.text())
    };
    assert_eq!(restore("POST", &[]).0, 401);
    assert_eq!(restore("GET", &[AUTHORITY]).0, 405);
    let (code, text) = restore("POST", &[AUTHORITY]);
    assert_eq!(code, 503);
    assert!(text.contains("not built"), "{text}");
}

fn snapshot_json(it: &Administered) -> (u16, String) {
    let answer = ask(it.admin, "GET", "/commands/snapshot", &[AUTHORITY]).unwrap();
    (
        answer.status,
        String::from_utf8_lossy(&answer.body).into_owned(),
    )
}

#[test]
fn lone_server_is_live_and_ready() {
    let it = Administered::start("admin-ready", &[]);
    for (path, key) in [("/health/live", "live"), ("/health/ready", "ready")] {
        let answer = get(it.admin, path).unwrap();
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &value[key]), (200, &json!(true)), "{path}");
    }
    assert_eq!(get(it.admin, "/").unwrap().status, 404);
    assert_eq!(
        ask(it.admin, "PUT", "/commands/ruok", &[]).unwrap().status,
        405
    );
    assert_eq!(
        ask(it.admin, "POST", "/commands/ruok", &[]).unwrap().status,
        405
    );
}

#[test]
fn server_without_a_quorum_is_live_and_not_ready() {
    let directory = Directory::new("admin-alone");
    let (client, admin) = (free_address(), free_address());
    let data = directory.path().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("myid"), "1\n").unwrap();
    let servers: String = (1..=3)
        .map(|id| {
            let (quorum, election) = (free_address(), free_address());
            format!("server.{id}={quorum}:{}\n", election.port())
        })
        .collect();
    let text = format!(
        "tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={}\nclientPort={}\n\
         clientPortAddress=127.0.0.1\nadmin.serverPort={}\n{servers}",
        data.display(),
        client.port(),
        admin.port(),
    );
    let config = directory.path().join("zoo.cfg");
    fs::write(&config, text).unwrap();
    let log = directory.path().join("log");
    let mut server = Server::spawn_with(Kind::Zabra, &config, client, log);
    let begun = Instant::now();
    let live = loop {
        server.assert_running();
        match get(admin, "/health/live") {
            Ok(answer) => break answer,
            Err(error) => assert!(begun.elapsed() < START_TIME_MAX, "{error}"),
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(live.status, 200, "{}", live.text());
    let ready = get(admin, "/health/ready").unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    let value: Value = serde_json::from_slice(&ready.body).unwrap();
    assert_eq!(value["ready"], false);
    assert!(value["reason"].as_str().unwrap().len() > 10, "{value}");
    let told = get(admin, "/commands/monitor").unwrap();
    let value: Value = serde_json::from_slice(&told.body).unwrap();
    let text = "This ZooKeeper instance is not currently serving requests";
    assert_eq!(value, json!({ "command": "monitor", "error": text }));
    // Who runs it is told all the same.
    let told = get(admin, "/commands/environment").unwrap();
    let value: Value = serde_json::from_slice(&told.body).unwrap();
    assert!(value["zookeeper.version"].is_string(), "{value}");
}
