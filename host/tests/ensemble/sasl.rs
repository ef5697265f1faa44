//! Servers that show each other by SASL that they belong to the ensemble: ours and Apache
//! ZooKeeper's, whoever leads. Who does not know the password stays outside.

use core::time::Duration;

use crate::load::Load;
use crate::members::{End, Ensemble, Id, Reconfig, Role};
use crate::mixed::finish;
use crate::support::process::Kind;

use Role::{Observer, Participant};

const APACHE: Kind = Kind::Release("3.9.5");
const OLD_APACHE: Kind = Kind::Release("3.8.6");
const IDS: [Id; 4] = [1, 2, 3, 4];
const WRITES: u64 = 25;
const ALL_REQUIRED: &str = "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\n\
                            quorum.auth.serverRequireSasl=true\n";
/// The first step of the rolling way there.
const ENABLED: &str = "quorum.auth.enableSasl=true\n";
/// Long enough for a server that is let in.
const OUTSIDE_TIME: Duration = Duration::from_secs(6);

fn jaas(password: &str) -> String {
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    format!(
        "QuorumServer {{\n {module}\n user_peer=\"{password}\";\n}};\n\
         QuorumLearner {{\n {module}\n username=\"peer\"\n password=\"{password}\";\n}};\n"
    )
}

#[test]
fn apache_leads_and_we_log_in() {
    let kinds = [(3, APACHE), (2, Kind::Zabra), (1, Kind::Zabra), (4, APACHE)];
    all_log_in("sasl-apache", &kinds);
}

#[test]
fn we_lead_and_apache_logs_in() {
    let kinds = [
        (3, Kind::Zabra),
        (2, APACHE),
        (1, OLD_APACHE),
        (4, Kind::Zabra),
    ];
    all_log_in("sasl-zabra", &kinds);
}

/// Under load; then the leader ends, and the others elect another: the connections of the election
/// are logged in too.
fn all_log_in(test: &str, kinds: &[(Id, Kind)]) {
    let roles = IDS.map(|id| (id, if id == 4 { Observer } else { Participant }));
    let mut ensemble = Ensemble::with(test, Reconfig::Off, &roles, ALL_REQUIRED);
    ensemble.write_beside(&IDS, "jaas.conf", &jaas("secret"));
    ensemble.start_all(kinds);
    let load = Load::start(&ensemble.addresses());
    load.go_on_for(WRITES);
    let leader = ensemble.leader();
    ensemble.end(leader, End::Kill);
    ensemble.settle();
    load.go_on_for(WRITES);
    let kind = kinds.iter().find(|(id, _)| *id == leader).unwrap().1;
    ensemble.start(leader, kind);
    ensemble.settle();
    load.go_on_for(WRITES);
    finish(&ensemble, load);
}

/// From servers that do not log in to such that must, one by one, as operators do it.
#[test]
fn ensemble_learns_to_log_in_while_it_serves() {
    let ids = [1, 2, 3];
    let roles = ids.map(|id| (id, Participant));
    let mut ensemble = Ensemble::with("sasl-rolling", Reconfig::Off, &roles, "");
    ensemble.write_beside(&ids, "jaas.conf", &jaas("secret"));
    let kinds = [(3, Kind::Zabra), (2, APACHE), (1, Kind::Zabra)];
    ensemble.start_all(&kinds);
    let load = Load::start(&ensemble.addresses());
    let learners = format!("{ENABLED}quorum.auth.learnerRequireSasl=true\n");
    for lines in [ENABLED, &learners, ALL_REQUIRED] {
        for (id, kind) in kinds {
            load.go_on_for(WRITES);
            ensemble.end(id, End::Stop);
            ensemble.append(id, lines);
            ensemble.start(id, kind);
            ensemble.settle();
        }
    }
    load.go_on_for(WRITES);
    finish(&ensemble, load);
}

/// CVE-2018-8012, CVE-2023-44981: whoever reaches the ports, with any id, without the password.
#[test]
fn cve_2018_8012_and_2023_44981_nobody_joins_without_the_password() {
    let ids = [1, 2, 3];
    let roles = ids.map(|id| (id, Participant));
    let mut ensemble = Ensemble::with("sasl-stranger", Reconfig::Off, &roles, ALL_REQUIRED);
    ensemble.write_beside(&ids, "jaas.conf", &jaas("secret"));
    ensemble.write_beside(&[1], "jaas.conf", &jaas("guess"));
    ensemble.start(3, Kind::Zabra);
    ensemble.start(2, Kind::Zabra);
    ensemble.settle();
    ensemble.start(1, Kind::Zabra);
    ensemble.stay_a_stranger(1, OUTSIDE_TIME);
    let refused = [2, 3].map(|id| ensemble.log(id).contains("its login fails"));
    assert!(refused.contains(&true), "one of them says why");
    ensemble.end(1, End::Kill);
    ensemble.write_beside(&[1], "jaas.conf", &jaas("secret"));
    ensemble.start(1, Kind::Zabra);
    ensemble.settle();
}
