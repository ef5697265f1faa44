//! Certificates and settings as an operator changes them.

use core::time::Duration;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Instant, SystemTime};

use crate::Secure;
use crate::support::certs::{Authority, stores};
use crate::support::http;
use crate::support::process::{Directory, Kind, Server, free_address};
use crate::support::wire::Client;
use crate::tunnel::{Tunnel, client, handshake, word};

const SESSION_MS: i32 = 20_000;
const RELOAD_MAX: Duration = Duration::from_secs(20);

#[test]
fn files_that_change_count_and_bad_ones_do_not() {
    let secure = Secure::start(
        "tls-reload",
        &["ssl.clientAuth=none", "client.certReload=true"],
    );
    let key = secure.home.path().join("server.pem");
    let before = Tunnel::new(client(&secure.authority, None), secure.address);
    let mut session = Client::open(before.address, SESSION_MS).unwrap();

    fs::write(&key, "-----BEGIN nonsense").unwrap();
    secure
        .server
        .wait_for_log("the certificates that were read before stay in use");
    let old = client(&secure.authority, None);
    assert_eq!(word(&old, secure.address, "ruok").unwrap(), "imok");

    let next = Authority::new("the next authority");
    next.certify("server", &["localhost"]).write(&key);
    let new = client(&next, None);
    let end = Instant::now() + RELOAD_MAX;
    while word(&new, secure.address, "ruok").is_err() {
        assert!(Instant::now() < end, "{}", secure.server.log_end());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(handshake(&old, secure.address).is_err());
    session.ping().unwrap();
    assert!(secure.server.log().contains("read again"));
}

#[test]
fn certificate_that_ends_soon_is_warned_of() {
    let home = Directory::new("tls-ends");
    let authority = Authority::new("authority");
    let end = SystemTime::now() + Duration::from_secs(12 * 24 * 3600 + 60);
    let own = authority.certify_until("server", &["localhost"], end);
    let key = own.write(&home.path().join("server.pem"));
    let trust = home.path().join("trust.pem");
    fs::write(&trust, &authority.pem).unwrap();
    let [key, trust] = stores("ssl.", &key, &trust);
    let port = format!("secureClientPort={}", free_address().port());
    let metrics = free_address();
    let metrics_port = format!("metricsProvider.httpPort={}", metrics.port());
    let provider = "metricsProvider.className=\
                    org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
    let lines = [&key, &trust, &port, provider, &metrics_port];
    let server = Server::start(Kind::Zabra, home.path(), &lines);
    server.wait_for_log("a certificate of this server ends in 12 days");

    let page = http::get(metrics, "/metrics").unwrap().text();
    let mut values = page
        .lines()
        .filter_map(|line| line.strip_prefix("zabra_certificate_expires_in_seconds "));
    let days = values.next().unwrap().parse::<f64>().unwrap() / (24.0 * 3600.0);
    assert!((11.9..=12.01).contains(&days), "{days}");
}

/// What a server says that does not start with these lines; `{home}` stands for its directory.
fn refusal(home: &Directory, lines: &[&str]) -> String {
    let path = home.path().display().to_string();
    let config = home.path().join("zoo.cfg");
    let data = home.path().join("data");
    let text = format!("dataDir={}\nclientPort=0\n", data.display());
    let lines = lines.join("\n").replace("{home}", &path);
    fs::write(&config, text + &lines + "\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zabra"))
        .args(["server", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).replace(&path, "{home}")
        + &String::from_utf8_lossy(&output.stdout).replace(&path, "{home}")
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_to_do() {
    let home = Directory::new("tls-refused");
    let authority = Authority::new("authority");
    let own = authority.certify("server", &["localhost"]);
    own.write(&home.path().join("own.pem"));
    fs::write(home.path().join("trust.pem"), &authority.pem).unwrap();
    fs::write(home.path().join("old.jks"), b"\xfe\xed\xfe\xed\0\0\0\x02").unwrap();
    fs::write(home.path().join("empty.pem"), "").unwrap();
    let port = "secureClientPort=0";
    let key = "ssl.keyStore.location={home}/own.pem";
    let trust = "ssl.trustStore.location={home}/trust.pem";
    let none = "ssl.clientAuth=none";
    for (lines, expected) in [
        (&[port, none] as &[_], "ssl.keyStore.location: is missing"),
        (&[port, key], "set ssl.clientAuth=none"),
        (
            &[port, none, "ssl.keyStore.location={home}/old.jks"],
            "keytool -importkeystore -srckeystore {home}/old.jks -srcstoretype JKS -destkeystore \
             {home}/old.p12 -deststoretype PKCS12",
        ),
        (
            &[port, none, "ssl.keyStore.location={home}/nowhere.pem"],
            "{home}/nowhere.pem: cannot be read",
        ),
        (
            &[port, none, "ssl.keyStore.location={home}/trust.pem"],
            "expected a private key",
        ),
        (
            &[port, key, "ssl.trustStore.location={home}/empty.pem"],
            "expected certificates, found none",
        ),
        (
            &[
                port,
                key,
                trust,
                "ssl.ciphersuites=TLS_RSA_WITH_AES_128_CBC_SHA",
            ],
            "found \"TLS_RSA_WITH_AES_128_CBC_SHA\", which is not built in",
        ),
        (
            &[port, key, trust, "ssl.enabledProtocols=TLSv1.1,TLSv1.2"],
            "expected TLSv1.2 or TLSv1.3, found \"TLSv1.1\"",
        ),
        (
            &[port, key, trust, "ssl.clientAuth=maybe"],
            "expected need, want or none",
        ),
        (&[port, key, trust, "ssl.crl=true"], "ssl.crl: revoked"),
        (
            &[port, key, trust, "ssl.context.supplier.class=a.B"],
            "Java classes are not loaded",
        ),
    ] {
        let said = refusal(&home, lines);
        assert!(said.contains(expected), "{lines:?}: {said}");
    }
}

#[test]
fn cve_2026_24308_passwords_are_never_shown() {
    let home = Directory::new("tls-secret");
    fs::write(home.path().join("bad.p12"), "no store").unwrap();
    let said = refusal(
        &home,
        &[
            "secureClientPort=0",
            "ssl.clientAuth=none",
            "ssl.keyStore.location={home}/bad.p12",
            "ssl.keyStore.password=canary-7351",
        ],
    );
    assert!(said.contains("is ssl.keyStore.password right?"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn versions_and_suites_are_those_that_are_set() {
    let secure = Secure::start(
        "tls-versions",
        &["ssl.clientAuth=none", "ssl.protocol=TLSv1.2"],
    );
    let config = client(&secure.authority, None);
    let (tls, _stream) = handshake(&config, secure.address).unwrap();
    assert_eq!(
        tls.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_2)
    );
    let suite = "ssl.ciphersuites=TLS_CHACHA20_POLY1305_SHA256";
    let secure = Secure::start("tls-suites", &["ssl.clientAuth=none", suite]);
    let config = client(&secure.authority, None);
    let (tls, _stream) = handshake(&config, secure.address).unwrap();
    let found = tls.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(found, rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
}
