#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on may panic"
)]

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::*;

/// As Apache ZooKeeper 3.8.0 wrote them while servers came and went.
const GOLDEN: [&str; 4] = [
    "server.1=127.0.0.1:24881:25881:participant;127.0.0.1:21821\n\
     server.2=127.0.0.1:24882:25882:participant;127.0.0.1:21822\n\
     server.3=127.0.0.1:24883:25883:participant;127.0.0.1:21823\nversion=0",
    "server.1=127.0.0.1:24881:25881:participant;127.0.0.1:21821\n\
     server.2=127.0.0.1:24882:25882:participant;127.0.0.1:21822\n\
     server.3=127.0.0.1:24883:25883:participant;127.0.0.1:21823\n\
     server.4=127.0.0.1:24884:25884:observer;127.0.0.1:21824\nversion=100000006",
    "server.1=127.0.0.1:24881:25881:participant;127.0.0.1:21821\n\
     server.2=127.0.0.1:24882:25882:participant;127.0.0.1:21822\n\
     server.3=127.0.0.1:24883:25883:participant;127.0.0.1:21823\n\
     server.4=127.0.0.1:24884:25884:participant;127.0.0.1:21824\nversion=10000000b",
    "server.1=127.0.0.1:24881:25881:participant;127.0.0.1:21821\n\
     server.3=127.0.0.1:24883:25883:participant;127.0.0.1:21823\n\
     server.4=127.0.0.1:24884:25884:participant;127.0.0.1:21824\nversion=100000010",
];

fn parse(text: &str) -> Membership {
    Membership::parse(text).unwrap()
}

fn error(text: &str) -> String {
    Membership::parse(text).unwrap_err().to_string()
}

/// The line of one server as it is written after it was read.
fn rewritten(value: &str) -> String {
    let text = parse(&format!("server.7={value}\nserver.8=v:1:2")).to_text();
    let line = text.lines().next().unwrap();
    line.strip_prefix("server.7=").unwrap().to_string()
}

#[test]
fn texts_of_apache_zookeeper_are_written_as_they_were_read() {
    for text in GOLDEN {
        assert_eq!(parse(text).to_text(), text);
    }
    let membership = parse(GOLDEN[1]);
    assert_eq!(membership.version, 0x1_0000_0006);
    assert_eq!(membership.voters().count(), 3);
    let observers: Vec<_> = membership.observers().map(|(id, _)| id).collect();
    assert_eq!(observers, [ServerId(4)]);
    let client = membership.member(ServerId(2)).unwrap().client.clone();
    assert_eq!(client.unwrap().to_string(), "127.0.0.1:21822");
}

#[test]
fn file_has_sorted_lines_and_neither_version_nor_last_end_of_line() {
    let text = "server.10=a:1:2\nserver.2=b:1:2:observer\nversion=5";
    assert_eq!(
        parse(text).to_file_text(),
        "server.10=a:1:2:participant\nserver.2=b:1:2:observer"
    );
    // ... which is another order than that of the text.
    assert!(parse(text).to_text().starts_with("server.2="));
}

#[test]
fn every_form_of_a_server_is_written_in_one() {
    for (value, expected) in [
        ("zoo1:2888:3888", "zoo1:2888:3888:participant"),
        (
            "zoo1:2888:3888;2181",
            "zoo1:2888:3888:participant;0.0.0.0:2181",
        ),
        ("zoo1:2888:3888:OBSERVER", "zoo1:2888:3888:observer"),
        (
            "zoo1:2888:3888:observer ; 10.0.0.1:2181 ",
            "zoo1:2888:3888:observer;10.0.0.1:2181",
        ),
        ("zoo1:2888:3888;", "zoo1:2888:3888:participant"),
        (
            "b:2888:3888:participant|a:2889:3889:participant;2181",
            "a:2889:3889|b:2888:3888:participant;0.0.0.0:2181",
        ),
        (
            "b:2888:3888|a:2889:3889:observer",
            "a:2889:3889|b:2888:3888:observer",
        ),
        (
            "[::1]:2888:3888;[fe80::1]:2181",
            "[0:0:0:0:0:0:0:1]:2888:3888:participant;[fe80:0:0:0:0:0:0:1]:2181",
        ),
        ("[::ffff:10.0.0.1]:1:2", "10.0.0.1:1:2:participant"),
        ("a:1:2;2181;2281", "a:1:2:participant;0.0.0.0:2181"),
        ("a:1:2;;10.0.0.1:2281", "a:1:2:participant"),
    ] {
        assert_eq!(rewritten(value), expected, "{value}");
        assert_eq!(rewritten(expected), expected);
    }
}

#[test]
fn groups_and_weights_follow_the_servers() {
    let text = "group.2=4:3\nweight.3=5\nweight.1=1\ngroup.1=1:2\nversion=1f\n\
                server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2";
    let membership = parse(text);
    assert_eq!(
        membership.to_text(),
        "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:participant\n\
         server.4=d:1:2:participant\ngroup.1=1:2\ngroup.2=3:4\nweight.1=1\nweight.2=1\n\
         weight.3=5\nweight.4=1\nversion=1f"
    );
    assert_eq!(parse(&membership.to_text()), membership);
    assert_eq!(membership.weight(ServerId(3)), 5);
    assert_eq!(membership.weight(ServerId(4)), 1);
    assert_eq!(membership.weight(ServerId(9)), 0);
}

#[test]
fn syntax_is_that_of_java_properties() {
    let text =
        "# one\r\n! two\n  server.1 : a:1:2\nserver.2   b\\:1:\\\n   2\n\nversion\\u003d 1\n";
    // The last line's key is "version=", which there is not.
    assert_eq!(
        error(text),
        "line 7: version=: expected only server.N, group.N, weight.N and version; remove it"
    );
    let text = text.replace("\\u003d", "");
    let membership = parse(&text);
    assert_eq!(membership.version, 1);
    assert_eq!(membership.servers.len(), 2);
}

#[test]
fn membership_without_version_is_the_first() {
    assert_eq!(parse("server.1=a:1:2").version, 0);
}

#[test]
fn errors_name_the_line_the_server_and_what_to_do() {
    let one = "server.1=a:1:2\n";
    for (text, expected) in [
        (
            "".to_string(),
            "expected at least one server with a vote, found none; without one no leader can be \
             elected",
        ),
        (
            "server.1=a:1:2:observer".to_string(),
            "expected at least one server with a vote, found none; without one no leader can be \
             elected",
        ),
        (
            format!("{one}server.1=b:1:2"),
            "line 2: server.1: stands on line 1 too; remove one of them",
        ),
        (
            format!("{one}server.01=b:1:2"),
            "line 2: server.01: there is a server 1 already; remove one of them",
        ),
        (
            format!("{one}server.x=b:1:2"),
            "line 2: server.x: expected a server's or group's number, found \"x\"",
        ),
        (
            format!("{one}server.2=b:2888:2888"),
            "line 2: server.2: expected two ports, one for the quorum and one for elections, \
             found 2888 twice; change one of them",
        ),
        (
            format!("{one}server.2=b:1:2:observer|c:1:2:participant"),
            "line 2: server.2: expected one role, found two in \
             \"b:1:2:observer|c:1:2:participant\"",
        ),
        (
            format!("{one}\ngroup.1=1\ngroup.2=1"),
            "line 4: group.2: expected every server in one group, found server 1 in group 1 too; \
             remove it from one of them",
        ),
        (
            format!("{one}group.1=1:1"),
            "line 2: group.1: names server 1 twice; remove one of them",
        ),
        (
            format!("{one}server.2=b:1:2\ngroup.1=1"),
            "line 2: server.2: has a vote but is in no group, and there are groups or weights; \
             name 2 in a group.N line, or make it an observer",
        ),
        (
            format!("{one}weight.1=1"),
            "line 1: server.1: has a vote but is in no group, and there are groups or weights; \
             name 1 in a group.N line, or make it an observer",
        ),
        (
            format!("{one}group.1=1:9"),
            "line 2: group.1: names server 9, which has no vote and no weight; remove it from \
             the group, or make it a participant",
        ),
        (
            format!("{one}group.1=1\nweight.1=-1"),
            "line 3: weight.1: expected a whole number from 0, found \"-1\"",
        ),
        (
            format!("{one}group.1=1\nweight.1=0"),
            "expected weights with which the voters can be a quorum, found that all of them \
             together are none: all weights are 0; change the weight.N lines",
        ),
        (
            format!("{one}server.2=b:1:2:observer\ngroup.1=1:2\nweight.2=1"),
            "expected weights with which the voters can be a quorum, found that all of them \
             together are none: those who have no vote hold half of a group's weight; change the \
             weight.N lines",
        ),
        (
            format!("{one}version=xyz"),
            "line 2: version: expected a hexadecimal number, found \"xyz\"",
        ),
        (
            format!("{one}clientPort=2181"),
            "line 2: clientPort: expected only server.N, group.N, weight.N and version; remove it",
        ),
        (
            format!("{one}server.2=b\\u12"),
            "line 2: expected four hexadecimal digits after \\u, found \"\\u12\" (a backslash \
             itself is written \\\\)",
        ),
    ] {
        assert_eq!(error(&text), expected, "{text}");
    }
}

#[test]
fn server_of_no_known_form_is_refused() {
    for value in [
        "",
        "zoo1",
        "zoo1:2888",
        ":2888:3888",
        "zoo1:0:3888",
        "zoo1:2888:3888:leader",
        "zoo1:2888:3888:observer:x",
        "zoo1:2888:70000",
        "zoo1:2888:3888;x",
        "[::1:2888:3888",
        "zoo1:2888:3888;1;2;3",
        "a:2888:3888|b",
        "a b:2888:3888",
    ] {
        let error = error(&format!("server.3={value}"));
        let expected = format!(
            "line 1: server.3: expected {}",
            "host:quorumPort:electionPort"
        );
        assert!(error.starts_with(&expected), "{value}: {error}");
        assert!(error.ends_with(&format!("found {value:?}")), "{error}");
    }
}

#[test]
fn conflicts_are_addresses_that_two_would_share() {
    let conflicts = |text: &str| -> Vec<String> {
        let found = parse(text).conflicts();
        found.iter().map(|(id, _)| id.to_string()).collect()
    };
    assert!(conflicts("server.1=a:1:2;3\nserver.2=b:1:2;3").is_empty());
    assert!(conflicts("server.1=0.0.0.0:1:2;3\nserver.2=0.0.0.0:1:2;3").is_empty());
    assert!(conflicts("server.1=a:1:2;127.0.0.1:3\nserver.2=b:1:2;127.0.0.1:3").is_empty());
    assert_eq!(conflicts("server.1=a:1:2\nserver.2=A:1:3"), ["2"]);
    assert_eq!(conflicts("server.1=a:1:2\nserver.2=a:3:1"), ["2"]);
    assert_eq!(conflicts("server.1=a:1:2;a:2"), ["1"]);
    let text = &parse("server.1=[::1]:1:2\nserver.2=[0::1]:1:3").conflicts()[0].1;
    assert_eq!(
        text,
        "expected an address of its own for every port, found [0:0:0:0:0:0:0:1]:1 here and in \
         server.1; change one of them"
    );
}

#[test]
fn equal_is_who_has_the_same_version_and_members() {
    let membership = parse(GOLDEN[0]);
    let mut newer = membership.clone();
    newer.version = 9;
    assert!(membership != newer && membership.same_members(&newer));
    for other in [GOLDEN[1], GOLDEN[3]] {
        assert!(!membership.same_members(&parse(other)));
    }
    let observing = GOLDEN[0].replacen("participant", "observer", 1);
    assert!(!membership.same_members(&parse(&observing)));
}

#[test]
fn reconfigured_as_apache_zookeeper_did() {
    // The three changes of the capture from which the texts are.
    let add = "server.4=127.0.0.1:24884:25884:observer;127.0.0.1:21824";
    let promote = "server.4=127.0.0.1:24884:25884:participant;127.0.0.1:21824";
    let steps = [(Some(add), None), (Some(promote), None), (None, Some("2"))];
    let mut membership = parse(GOLDEN[0]);
    for ((joining, leaving), expected) in steps.into_iter().zip(&GOLDEN[1..]) {
        let version = membership.version;
        membership = membership
            .reconfigured(joining, leaving, None, false)
            .unwrap();
        assert_eq!(membership.version, version);
        let expected = parse(expected);
        membership.version = expected.version;
        assert_eq!(membership, expected);
    }
}

#[test]
fn reconfigured_takes_whole_memberships_with_commas_or_lines() {
    let old = parse(GOLDEN[0]);
    for text in [
        "server.1=a:1:2;3,server.2=b:1:2;3,group.1=1:2",
        "server.1=a:1:2;3\nserver.2=b:1:2;3\ngroup.1=1:2\n",
    ] {
        // What joins and leaves does not count beside it.
        let new = old.reconfigured(Some("nonsense"), Some("1"), Some(text), true);
        let new = new.unwrap();
        assert_eq!(new.voters().count(), 2);
        assert_eq!(new.groups.len(), 1);
    }
}

#[test]
fn joiner_replaces_a_server_of_its_number_and_who_leaves_may_be_unknown() {
    let old = parse(GOLDEN[0]);
    let joining = "server.2=127.0.0.1:24882:25882;21822 , ,server.9=x:1:2;3,";
    let new = old
        .reconfigured(Some(joining), Some(" 1 ,77"), None, true)
        .unwrap();
    let ids: BTreeSet<_> = new.servers.keys().map(|id| id.0).collect();
    assert_eq!(ids, [2, 3, 9].into());
    let client = new.member(ServerId(2)).unwrap().client.clone().unwrap();
    assert_eq!(client.to_string(), "0.0.0.0:21822");
}

#[test]
fn impossible_changes_are_bad_arguments() {
    let old = parse(GOLDEN[0]);
    let refused = |joining, leaving, new, standalone| {
        let error = old
            .reconfigured(joining, leaving, new, standalone)
            .unwrap_err();
        assert_eq!(error.code(), -8, "{error:?}");
        error.to_string()
    };
    assert_eq!(
        refused(None, Some("1,2"), None, true),
        "expected at least 2 servers with a vote, as standaloneEnabled is true, would be 1"
    );
    assert!(old.reconfigured(None, Some("1,2"), None, false).is_ok());
    assert_eq!(
        refused(None, Some("1,2,3"), None, false),
        "expected at least 1 servers with a vote, would be 0"
    );
    assert_eq!(
        refused(None, Some("one"), None, false),
        "expected the numbers of those leaving, found \"one\""
    );
    assert_eq!(
        refused(Some("server.4=a:1:2"), None, None, false),
        "expected an address for clients (;PORT) of server.4, found \"server.4=a:1:2\""
    );
    assert_eq!(
        refused(Some("server.4"), None, None, false),
        "expected server.N=ADDRESSES, found \"server.4\""
    );
    assert!(refused(Some("server.4=a:1;2"), None, None, false).ends_with("found \"a:1;2\""));
    assert_eq!(
        refused(Some("server.4=127.0.0.1:7:24881;8"), None, None, false),
        "127.0.0.1:24881 of server.4 is an address of server.1 already"
    );
    assert!(refused(None, None, Some("server.1=a"), true).starts_with("line 1: server.1: "));
    assert!(refused(None, None, Some("server.1=a:1:2;3"), true).starts_with("expected at least 2"));
    let grouped = parse("server.1=a:1:2\nserver.2=b:1:2\ngroup.1=1:2");
    let error = grouped.reconfigured(None, Some("1"), None, false);
    assert_eq!(error.unwrap_err().code(), -8);
}

#[test]
fn reconfig_errors_have_the_codes_of_zookeeper() {
    let bad_version = ReconfigError::BadVersion {
        expected: 1,
        found: 2,
    };
    assert_eq!(ReconfigError::Disabled.code(), -123);
    assert_eq!(ReconfigError::InProgress.code(), -14);
    assert_eq!(bad_version.code(), -103);
    assert_eq!(ReconfigError::NoQuorum.code(), -13);
}

#[test]
fn no_text_makes_the_parser_panic_and_what_is_read_is_written_alike() {
    let words = [
        "server.1=a:1:2\n",
        "server.2=b:1:2:observer;3\n",
        "server.3=[::1]:1:2|c:3:4;;5\n",
        "group.1=1\n",
        "group.2=9:2\n",
        "group.1=9\n",
        "weight.2=0\n",
        "weight.9=7\n",
        "version=1f\n",
        "\n",
        "server.",
        ":",
        ";",
        "|",
        "1",
        "\\",
        "é",
        "=",
    ];
    let mut state = 1_u32;
    let mut read = 0;
    for _ in 0..10_000 {
        let text: String = (0..5)
            .filter_map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                words.get((state >> 16) as usize % words.len()).copied()
            })
            .collect();
        let text = format!("server.9=z:1:2\n{text}");
        if let Ok(membership) = Membership::parse(&text) {
            read += 1;
            assert_eq!(parse(&membership.to_text()), membership, "{text:?}");
            let _ = membership.conflicts();
        }
        let _ = parse(GOLDEN[0]).reconfigured(Some(&text), Some(&text), None, false);
    }
    assert!(read > 20, "{read}");
}
