//! Who cannot log in, or asks to as nobody can, again and again; and what nobody may read in a log.

use core::fmt::Write as _;
use core::time::Duration;
use std::fs;
use std::thread;

use crate::support::process::{Directory, Kind, Server};
use crate::support::raw::Raw;
use crate::support::wire::{Client, Reader, Writer, word};
use crate::{LITTLE, beside_a_witness};

const SASL: i32 = 102;
const AUTH_FAILED: i32 = -115;
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);
const USERS: &str = "Server {\n org.apache.zookeeper.server.auth.DigestLoginModule required\n \
                     user_bob=\"canary-of-a-user\";\n};\n";

fn token(token: &[u8]) -> Writer {
    let mut body = Writer::default();
    body.buffer(Some(token));
    body
}

/// Begins to log in as a user and ends with a guess; the code that it is answered with.
fn guess(server: &Server, answer: &[u8]) -> i32 {
    let mut connection = Raw::open(server.address).unwrap();
    connection.request(1, SASL, &token(b"")).unwrap();
    let challenge = connection.reply().unwrap().expect("a challenge");
    let text = Reader(&challenge.body).buffer().unwrap().unwrap();
    let text = String::from_utf8(text).unwrap();
    let (_, nonce) = text.split_once("nonce=\"").unwrap();
    let (nonce, _) = nonce.split_once('"').unwrap();
    let answer = String::from_utf8_lossy(answer).replace("NONCE", nonce);
    connection
        .request(2, SASL, &token(answer.as_bytes()))
        .unwrap();
    let code = connection.reply().unwrap().expect("an answer").code;
    assert!(connection.is_closed_within(CLOSE_TIME_MAX));
    code
}

#[test]
fn guessed_passwords_by_the_thousand_cost_connections_and_nothing_else() {
    let directory = Directory::new("logins");
    let file = directory.path().join("users.conf");
    fs::write(&file, USERS).unwrap();
    let named = format!("java.security.auth.login.config={}", file.display());
    let options = ["maxClientCnxns=0", &named];
    let mut well_formed = String::from("username=\"bob\",realm=\"zk-sasl-md5\",nonce=\"NONCE\",");
    well_formed += "cnonce=\"c\",nc=00000001,qop=auth,digest-uri=\"zookeeper/zk-sasl-md5\",";
    let long = "x=\"".to_owned() + &"y".repeat(100_000) + "\"";
    beside_a_witness("logins", &options, &LITTLE, |server| {
        thread::scope(|scope| {
            for worker in 0..4 {
                let (well_formed, long) = (&well_formed, &long);
                scope.spawn(move || {
                    for number in 0..250_u32 {
                        let mut answer = well_formed.clone();
                        write!(answer, "response={number:032x}").unwrap();
                        let answer = match number % 4 {
                            0 | 1 => answer.as_str(),
                            2 => long,
                            _ => "\"\"\"\"",
                        };
                        let code = guess(server, answer.as_bytes());
                        assert_eq!(code, AUTH_FAILED, "{worker} {number}");
                    }
                });
            }
        });
        server.wait_for_log("there is no such user, or the password is wrong");
        // What Kerberos begins with.
        let mut connection = Raw::open(server.address).unwrap();
        connection
            .request(1, SASL, &token(b"\x60\x82\x02"))
            .unwrap();
        assert_eq!(connection.reply().unwrap().unwrap().code, AUTH_FAILED);
        assert!(connection.is_closed_within(CLOSE_TIME_MAX));
    });
}

/// CVE-2026-24308: values of a configuration were logged, passwords among them. What is asked of a
/// server by its words is read too.
#[test]
fn cve_2026_24308_secrets_are_in_no_log() {
    let home = Directory::new("canaries");
    fs::write(home.path().join("jaas.conf"), USERS).unwrap();
    let options = [
        "zabra.sessionSecret=canary-of-sessions",
        "SASLAuthenticationProvider.superPassword=canary-of-super",
        "DigestAuthenticationProvider.superDigest=super:canarycanarycanarycanaryca0=",
    ];
    let server = Server::start(Kind::Zabra, home.path(), &options);
    let mut client = Client::open(server.address, 10_000).unwrap();
    client.add_auth("digest", b"me:canary-of-a-client").unwrap();
    assert_eq!(guess(&server, b"canary"), AUTH_FAILED);
    let mut said = server.log();
    for name in ["conf", "cons", "dump", "envi", "mntr", "srvr", "stat"] {
        said += &word(server.address, name, Duration::from_secs(5)).unwrap();
    }
    client.close().unwrap();
    assert!(!said.contains("canary"), "{said}");
}
