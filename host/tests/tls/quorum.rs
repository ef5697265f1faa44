//! TLS between servers: who is let into an ensemble.

use core::time::Duration;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::SystemTime;

use crate::members::{Ensemble, Reconfig, Role};
use crate::support::certs::{Authority, Certified, stores};
use crate::support::process::{Directory, Kind};
use crate::support::wire;

const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];
const ALONE: Duration = Duration::from_secs(4);
const WORD_TIME_MAX: Duration = Duration::from_millis(500);

/// Three members of which two speak TLS as they should, and what the third has.
fn with_third(test: &str, third: impl FnOnce(&Authority, &Path) -> Vec<String>) -> Ensemble {
    let directory = Directory::new(&format!("{test}-certificates"));
    let authority = Authority::new("authority");
    let own = authority.certify("server", &HOSTS);
    let key = own.write(&directory.path().join("own.pem"));
    let trust = directory.path().join("trust.pem");
    fs::write(&trust, &authority.pem).unwrap();
    let lines = stores("ssl.quorum.", &key, &trust).join("\n");
    let roles = [1, 2, 3].map(|id| (id, Role::Participant));
    let lines = format!("{lines}\nsslQuorum=true\n");
    let more = third(&authority, directory.path());
    let mut ensemble = Ensemble::with(test, Reconfig::Off, &roles, &lines);
    ensemble.keep(directory);
    for line in more {
        ensemble.append(3, &line);
    }
    ensemble
}

/// The third never gets in, the others say why, and go on.
fn third_stays_out(mut ensemble: Ensemble, reason: &str) {
    for id in [1, 2] {
        ensemble.start(id, Kind::Zabra);
    }
    ensemble.settle();
    ensemble.start(3, Kind::Zabra);
    std::thread::sleep(ALONE);
    let logs = [1, 2].map(|id| ensemble.log(id)).join("\n");
    assert!(logs.contains(reason), "{reason}: {logs}");
    let srvr = wire::word(ensemble.address(3), "srvr", WORD_TIME_MAX).unwrap_or_default();
    assert!(!srvr.contains("Mode:"), "{srvr}\n{}", ensemble.log(3));
    assert_eq!(ensemble.leader(), 2);
}

fn key_of(directory: &Path, certified: &Certified) -> Vec<String> {
    let path = certified.write(&directory.join("third.pem"));
    vec![format!("ssl.quorum.keyStore.location={}", path.display())]
}

#[test]
fn stranger_with_a_certificate_of_its_own_stays_out() {
    let ensemble = with_third("tls-stranger", |_, directory| {
        key_of(
            directory,
            &Authority::new("another").certify("server", &HOSTS),
        )
    });
    third_stays_out(ensemble, "nobody in the trust store has signed");
}

#[test]
fn expired_certificate_keeps_a_server_out() {
    let ensemble = with_third("tls-expired", |authority, directory| {
        let end = SystemTime::now() - Duration::from_secs(3600);
        key_of(directory, &authority.certify_until("server", &HOSTS, end))
    });
    third_stays_out(ensemble, "its certificate has expired");
}

#[test]
fn certificate_of_another_host_keeps_a_server_out() {
    let ensemble = with_third("tls-host", |authority, directory| {
        key_of(
            directory,
            &authority.certify("server", &["elsewhere.example"]),
        )
    });
    third_stays_out(
        ensemble,
        "its certificate is neither of 127.0.0.1 nor of a host",
    );
}

/// The address's name is in the certificate, but it is not who the configuration says: whoever
/// answers for an address could give it any name.
#[test]
fn cve_2026_24281_name_of_an_address_is_not_asked_for() {
    let ensemble = with_third("tls-reverse-dns", |authority, directory| {
        key_of(directory, &authority.certify("server", &["localhost"]))
    });
    third_stays_out(
        ensemble,
        "its certificate is neither of 127.0.0.1 nor of a host",
    );
}

#[test]
fn cve_2018_8012_server_without_a_certificate_stays_out() {
    let ensemble = with_third("tls-none", |_, _| vec!["sslQuorum=false".into()]);
    third_stays_out(ensemble, "what it sends is not TLS");
}

#[test]
fn garbage_on_the_ports_of_servers_is_refused() {
    let mut ensemble = with_third("tls-peer-garbage", |_, _| Vec::new());
    for id in [1, 2] {
        ensemble.start(id, Kind::Zabra);
    }
    ensemble.settle();
    let line = ensemble.line(2, Role::Participant);
    let ports: Vec<u16> = line
        .split(':')
        .filter_map(|part| part.parse().ok())
        .collect();
    assert_eq!(ports.len(), 2, "{line}");
    for port in ports {
        for _ in 0..200 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let _ = stream.write_all(&[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]);
        }
        let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _ = plain.write_all(&[0xff; 64]);
    }
    ensemble.start(3, Kind::Zabra);
    ensemble.settle();
}
