//! Ensembles whose servers speak TLS to each other, ours and Apache ZooKeeper's, and the way there
//! and back while clients go on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::support::certs::{Authority, stores};
use crate::support::process::{Directory, Kind};

const IDS: [Id; 3] = [1, 2, 3];
const WRITES: u64 = 25;
const OLD: Kind = Kind::Release("3.8.6");
const NEW: Kind = Kind::Release("3.9.5");

/// Who is trusted, and a certificate for every server of this machine.
struct Trust {
    lines: String,
    directory: Directory,
}

impl Trust {
    fn new(test: &str) -> Self {
        let directory = Directory::new(&format!("{test}-certificates"));
        let at = |name: &str| -> PathBuf { Path::new(directory.path()).join(name) };
        let authority = Authority::new("Zabra test authority");
        let hosts = ["localhost", "127.0.0.1"];
        let key = authority.certify("server", &hosts).write(&at("key.pem"));
        let trust = at("trust.pem");
        fs::write(&trust, &authority.pem).unwrap();
        let lines = stores("ssl.quorum.", &key, &trust).join("\n") + "\n";
        Self { lines, directory }
    }
}

fn ensemble(test: &str, more: &str) -> Ensemble {
    let trust = Trust::new(test);
    let roles = IDS.map(|id| (id, Role::Participant));
    let lines = format!("{}{more}\n", trust.lines);
    let mut ensemble = Ensemble::with(test, Reconfig::Off, &roles, &lines);
    ensemble.keep(trust.directory);
    ensemble
}

#[test]
fn our_leader_leads_apache_by_tls() {
    serve("tls-ours-leads", &[(3, Kind::Zabra), (2, NEW), (1, OLD)]);
}

#[test]
fn apache_leads_us_by_tls() {
    serve("tls-apache-leads", &[(3, NEW), (2, Kind::Zabra), (1, OLD)]);
}

fn serve(test: &str, kinds: &[(Id, Kind)]) {
    let mut ensemble = ensemble(test, "sslQuorum=true");
    ensemble.start_all(kinds);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    // Whoever comes back is given what it missed.
    let (last, kind) = kinds.last().copied().unwrap();
    ensemble.end(last, End::Kill);
    load.go_on_for(WRITES);
    ensemble.start(last, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    finish(&ensemble, load);
}

#[test]
fn ensemble_goes_over_to_tls_and_back_without_a_pause() {
    let test = "tls-rolling";
    let kinds = [(3, Kind::Zabra), (2, NEW), (1, Kind::Zabra)];
    let mut ensemble = ensemble(test, "");
    ensemble.start_all(&kinds);
    let load = Load::start(&ensemble.addresses());
    // The way that ZooKeeper's manual describes, and its reverse.
    for step in [
        "portUnification=true",
        "sslQuorum=true",
        "portUnification=false",
        "portUnification=true",
        "sslQuorum=false",
        "portUnification=false",
    ] {
        for (id, kind) in kinds {
            ensemble.end(id, End::Stop);
            ensemble.append(id, step);
            ensemble.start(id, kind);
            ensemble.settle();
            load.go_on_for(WRITES);
        }
    }
    finish(&ensemble, load);
}
