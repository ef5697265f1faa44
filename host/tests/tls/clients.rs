//! What clients get by TLS, and who they are by it.

use core::time::Duration;

use crate::support::raw::Raw;
use crate::support::wire::{self, Acl, Client, Error, Reader, Writer, flags};
use crate::tunnel::{Tunnel, client, word};
use crate::{Authority, Secure};

const SESSION_MS: i32 = 20_000;
const NO_AUTH: i32 = -102;
const INVALID_ACL: i32 = -114;
const WHO_AM_I: i32 = 107;
const WORD_TIME_MAX: Duration = Duration::from_secs(10);
/// As Java's `X500Principal.getName()` writes the subjects of `support::certs`.
const ALICE: &str = "O=Zabra\\, tests,CN=alice";

/// Who the server says that a connection is, sorted.
fn who_am_i(client: &mut Client) -> Vec<(String, String)> {
    let reply = client.call(WHO_AM_I, &Writer::default()).unwrap();
    let mut reply = Reader(&reply);
    let count = reply.int().unwrap();
    let mut all: Vec<_> = (0..count)
        .map(|_| (reply.text().unwrap(), reply.text().unwrap()))
        .collect();
    all.sort();
    all
}

fn is_refused<T>(result: Result<T, Error>, code: i32) -> bool {
    matches!(result, Err(Error::Code(found)) if found == code)
}

#[test]
fn certificate_is_an_identity_that_acls_know() {
    let secure = Secure::start("tls-x509", &["ssl.clientAuth=want"]);
    let alice = secure.certify("alice");
    let by_alice = Tunnel::new(client(&secure.authority, Some(&alice)), secure.address);
    let by_nobody = Tunnel::new(client(&secure.authority, None), secure.address);

    let mut alice = Client::open(by_alice.address, SESSION_MS).unwrap();
    let mut nobody = Client::open(by_nobody.address, SESSION_MS).unwrap();
    let mut plain = Client::open(secure.server.address, SESSION_MS).unwrap();

    let ip = ("ip".to_owned(), "127.0.0.1".to_owned());
    let x509 = ("x509".to_owned(), ALICE.to_owned());
    assert_eq!(who_am_i(&mut alice), [ip.clone(), x509]);
    assert_eq!(who_am_i(&mut nobody), [ip]);
    let mine = [Acl::new(31, "x509", ALICE)];
    alice
        .create("/hers", Some(b"secret"), &mine, flags::PERSISTENT)
        .unwrap();
    let auth = [Acl::new(31, "auth", "")];
    alice
        .create("/too", None, &auth, flags::PERSISTENT)
        .unwrap();
    assert_eq!(alice.acl("/too").unwrap().0, mine);
    assert_eq!(alice.data("/hers", false).unwrap().0.unwrap(), b"secret");
    assert!(is_refused(nobody.data("/hers", false), NO_AUTH));
    assert!(is_refused(plain.data("/hers", false), NO_AUTH));
    // By a packet nobody becomes another.
    assert!(plain.add_auth("x509", ALICE.as_bytes()).is_err());
    let meaningless = [Acl::new(31, "x509", "alice")];
    assert!(is_refused(
        alice.create("/x", None, &meaningless, flags::PERSISTENT),
        INVALID_ACL
    ));
}

#[test]
fn session_of_a_certificate_is_given_back_to_nobody_else() {
    let secure = Secure::start("tls-thief", &["ssl.clientAuth=want"]);
    let by = |name: Option<&str>| {
        let own = name.map(|name| secure.certify(name));
        Tunnel::new(client(&secure.authority, own.as_ref()), secure.address)
    };
    let (by_alice, by_bob, by_nobody) = (by(Some("alice")), by(Some("bob")), by(None));
    let mut alice = Client::open(by_alice.address, SESSION_MS).unwrap();
    alice
        .create("/hers", None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    for thief in [by_bob.address, by_nobody.address, secure.server.address] {
        assert!(Client::reattach(thief, &alice).is_err(), "{thief}");
    }
    alice.ping().unwrap();
    let mut again = Client::reattach(by_alice.address, &alice).unwrap();
    assert!(again.data("/hers", false).is_ok());
}

#[test]
fn super_user_by_certificate_may_do_everything() {
    let super_user = format!(
        "X509AuthenticationProvider.superUser={}",
        // In a file of properties a backslash stands for the next character.
        ALICE.replace('\\', "\\\\")
    );
    let secure = Secure::start("tls-super", &[&super_user]);
    let own = |name| {
        let own = secure.certify(name);
        Tunnel::new(client(&secure.authority, Some(&own)), secure.address)
    };
    let (by_alice, by_bob) = (own("alice"), own("bob"));
    let mut alice = Client::open(by_alice.address, SESSION_MS).unwrap();
    let mut bob = Client::open(by_bob.address, SESSION_MS).unwrap();

    let acl = [Acl::new(31, "digest", "carol:x")];
    bob.create("/hers", None, &acl, flags::PERSISTENT).unwrap();
    assert!(is_refused(bob.data("/hers", false), NO_AUTH));
    assert!(alice.data("/hers", false).is_ok());
    assert!(who_am_i(&mut alice).iter().any(|id| id.0 == "super"));
}

#[test]
fn words_and_conf_are_there_by_tls() {
    let secure = Secure::start("tls-words", &["ssl.clientAuth=none"]);
    let config = client(&secure.authority, None);
    assert_eq!(word(&config, secure.address, "ruok").unwrap(), "imok");
    let conf = word(&config, secure.address, "conf").unwrap();
    let port = format!("secureClientPort={}\n", secure.address.port());
    assert!(conf.contains(&port), "{conf}");
}

#[test]
fn large_and_many_bytes_come_through_in_order() {
    let secure = Secure::start("tls-large", &["ssl.clientAuth=none"]);
    let tunnel = Tunnel::new(client(&secure.authority, None), secure.address);
    let mut one = Client::open(tunnel.address, SESSION_MS).unwrap();
    for (number, count) in [0_usize, 1, 16_383, 16_384, 16_385, 100_000, 1_000_000]
        .into_iter()
        .enumerate()
    {
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(count).collect();
        let path = format!("/{number}");
        one.create(&path, Some(&data), &Acl::open(), flags::PERSISTENT)
            .unwrap();
        assert_eq!(one.data(&path, false).unwrap().0.unwrap(), data);
    }
    // Answers of 50 MB, asked for before the first is read.
    let mut raw = Raw::open(tunnel.address).unwrap();
    for xid in 1..=50 {
        raw.request(
            xid,
            wire::op::GET_DATA,
            Writer::default().text("/6").byte(0),
        )
        .unwrap();
    }
    for xid in 1..=50 {
        let reply = raw.reply().unwrap().unwrap();
        assert_eq!((reply.xid, reply.code), (xid, 0));
        assert!(reply.body.len() > 1_000_000);
    }
}

#[test]
fn one_port_takes_both_if_it_is_to() {
    let secure = Secure::start(
        "tls-unified",
        &["client.portUnification=true", "ssl.clientAuth=none"],
    );
    let plain_port = secure.server.address;
    let tunnel = Tunnel::new(client(&secure.authority, None), plain_port);
    let mut by_tls = Client::open(tunnel.address, SESSION_MS).unwrap();
    let mut plain = Client::open(plain_port, SESSION_MS).unwrap();
    by_tls
        .create("/a", Some(b"1"), &Acl::open(), flags::PERSISTENT)
        .unwrap();
    assert_eq!(plain.data("/a", false).unwrap().0.unwrap(), b"1");
    assert_eq!(
        wire::word(plain_port, "ruok", WORD_TIME_MAX).unwrap(),
        "imok"
    );
}

#[test]
fn server_without_a_plain_port_serves() {
    let home = crate::Directory::new("tls-only");
    let authority = Authority::new("authority");
    let own = authority.certify("server", &["localhost"]);
    let key = own.write(&home.path().join("server.pem"));
    let address = crate::free_address();
    let config = home.path().join("zoo.cfg");
    let text = format!(
        "dataDir={}\nsecureClientPort={}\nsecureClientPortAddress=127.0.0.1\n\
         ssl.clientAuth=none\nssl.keyStore.location={}\n4lw.commands.whitelist=*\n",
        home.path().join("data").display(),
        address.port(),
        key.display()
    );
    std::fs::write(&config, text).unwrap();
    let log = home.path().join("log");
    let server = crate::Server::spawn_with(crate::Kind::Zabra, &config, address, log);
    server.wait_for_log("listening for clients with TLS");
    let config = client(&authority, None);
    assert_eq!(word(&config, address, "ruok").unwrap(), "imok");
}

#[test]
fn session_goes_on_over_another_connection() {
    let secure = Secure::start("tls-session", &["ssl.clientAuth=none"]);
    let tunnel = Tunnel::new(client(&secure.authority, None), secure.address);
    let mut first = Client::open(tunnel.address, SESSION_MS).unwrap();
    first
        .create("/e", None, &Acl::open(), flags::EPHEMERAL)
        .unwrap();
    drop(tunnel);
    let mut again = Client::reattach(secure.server.address, &first).unwrap();
    let owner = again.data("/e", false).unwrap().1.ephemeral_owner;
    assert_eq!(owner, first.session_id);
}
