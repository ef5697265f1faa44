//! The audit log of a real server.

use std::fs;

use serde_json::Value;

use super::support::acts::act;
use super::support::process::{Directory, Kind, Server};

#[test]
fn text_is_zookeepers() {
    let directory = Directory::new("audit-text");
    let file = directory.path().join("audit.log");
    let to = format!("audit.file={}", file.display());
    let options = ["audit.enable=true", &to];
    let server = Server::start(Kind::Zabra, directory.path(), &options);
    let session = act(&server);
    server.stop();
    let text = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect();
    let started = lines.remove(0);
    assert!(started.ends_with("\toperation=serverStart\tresult=success"));
    let stopped = lines.pop().unwrap();
    assert!(stopped.ends_with("\toperation=serverStop\tresult=invoked"));
    let gone = lines.pop().unwrap();
    assert!(gone.starts_with(&format!("session={session}\tuser=")));
    assert!(gone.ends_with(
        "\toperation=ephemeralZNodeDeletionOnSessionCloseOrExpire\tznode=/eph\tresult=success"
    ));
    let by = format!("session={session}\tuser=127.0.0.1\tip=127.0.0.1\toperation=");
    let ann = format!("session={session}\tuser=127.0.0.1,ann\tip=127.0.0.1\toperation=");
    assert_eq!(
        lines,
        [
            format!("{by}create\tznode=/a\tznode_type=persistent\tresult=success"),
            format!("{by}create\tznode=/a\tznode_type=persistent\tresult=failure"),
            format!(
                "{by}create\tznode=/a/s-0000000000\tznode_type=persistent_sequential\tresult=success"
            ),
            format!("{by}create\tznode=/eph\tznode_type=ephemeral\tresult=success"),
            format!("{by}setData\tznode=/a\tresult=success"),
            format!("{by}setData\tznode=/none\tresult=failure"),
            format!("{by}setAcl\tznode=/a\tacl=world:anyone:cdrwa\tresult=success"),
            format!("{by}create\tznode=/m\tznode_type=persistent\tresult=success"),
            format!("{by}delete\tznode=/m\tresult=success"),
            format!("{by}multiOperation\tresult=failure"),
            format!("{ann}delete\tznode=/a/s-0000000000\tresult=success"),
        ]
    );
}

#[test]
fn json_is_an_object_a_line() {
    let directory = Directory::new("audit-json");
    let options = ["audit.enable=true", "audit.format=json"];
    let server = Server::start(Kind::Zabra, directory.path(), &options);
    let session = act(&server);
    server.wait_for_log("ephemeralZNodeDeletionOnSessionCloseOrExpire");
    // Standard error has both logs.
    let objects: Vec<Value> = server
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let by_us = objects.iter().filter(|object| object["ip"] == "127.0.0.1");
    assert_eq!(by_us.clone().count(), 11, "{objects:?}");
    assert!(by_us.clone().all(|object| object["session"] == session));
    let names = by_us.map(|object| object["operation"].as_str().unwrap());
    assert!(names.clone().any(|name| name == "multiOperation"));
    assert_eq!(names.filter(|name| *name == "create").count(), 5);
}
