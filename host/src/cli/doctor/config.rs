//! What is wrong with a zoo.cfg, beside what would keep a server from starting.

use core::net::IpAddr;
use std::env;
use std::fs;
use std::path::Path;

use super::data;
use super::disk::{self, Measure};
use super::finding::{Finding, Weight};
use crate::cli::failure::count;
use crate::config::{EnsembleConfig, ServerConfig, Sources};
use zabra_core::server::config::FourLetterWords;

/// Frames as long as this stop everything else on their connection, and a crowd of them takes all
/// memory.
const FRAME_BYTES_RISKY: u32 = 16 << 20;

/// Reads it as a server would, with this environment.
pub(super) fn look(file: &Path, measure: Measure) -> Vec<Finding> {
    let about = file.display().to_string();
    let sources = Sources {
        file: Some(file.to_owned()),
        environment: env::vars_os().collect(),
        flags: Vec::new(),
    };
    let mut findings = Vec::new();
    let config = match ServerConfig::load(&sources) {
        Ok(config) => config,
        Err(problems) => {
            let problems = problems.iter().map(|problem| {
                let text = format!("a server would not start: {problem}");
                Finding::new(Weight::Wrong, &about, text, "")
            });
            return problems.collect();
        }
    };
    let warnings = config.warnings.iter();
    findings.extend(warnings.map(|it| Finding::new(Weight::Risk, &about, it.to_string(), "")));
    let mut say = |weight, text: String, advice: &str| {
        findings.push(Finding::new(weight, &about, text, advice));
    };
    purge(&config, &mut say);
    limits(&config, &mut say);
    exposure(&config, file, &mut say);
    if let Some(ensemble) = &config.ensemble {
        members(ensemble, &mut say);
    }
    let (data, logs) = (&config.data_dir, &config.data_log_dir);
    if disk::share_a_disk(data, logs) == Some(true) {
        say(
            Weight::Note,
            "snapshots and log are on one disk: while a snapshot is written, or somebody reads \
             much, transactions may wait"
                .to_owned(),
            "give dataLogDir a disk of its own if latency matters",
        );
    }
    let versioned = |directory: &Path| {
        let versioned = directory.join("version-2");
        if versioned.is_dir() {
            versioned
        } else {
            directory.to_owned()
        }
    };
    if data.is_dir() && logs.is_dir() {
        data::look_at(&versioned(data), &versioned(logs), &mut findings);
    }
    disk::look(
        &versioned(logs),
        config.disk_free_min,
        measure,
        &mut findings,
    );
    if data != logs {
        let data = versioned(data);
        disk::look(&data, config.disk_free_min, Measure::Nothing, &mut findings);
    }
    disk::open_files(&mut findings);
    findings
}

/// Takes a finding's weight, text and advice.
type Say<'a> = &'a mut dyn FnMut(Weight, String, &str);

fn purge(config: &ServerConfig, say: Say<'_>) {
    if config.purge.is_none() {
        say(
            Weight::Risk,
            "autopurge.purgeInterval=0: snapshots and logs stay until the disk is full".to_owned(),
            "remove the line, or set it to 1",
        );
    }
    if config.disk_free_min == Some(0) {
        say(
            Weight::Risk,
            "zabra.diskFreeMin=0: nothing is refused before the disk is full, and then the server \
             ends"
                .to_owned(),
            "remove the line",
        );
    }
}

fn limits(config: &ServerConfig, say: Say<'_>) {
    let core = &config.core;
    if core.connections_per_address_max == 0 && core.connections_max == 0 {
        say(
            Weight::Risk,
            "maxClientCnxns=0, and there is no maxCnxns: one client that leaks connections takes \
             them from all others"
                .to_owned(),
            "set maxClientCnxns to what one host needs, or maxCnxns",
        );
    }
    if core.frame_bytes_max > FRAME_BYTES_RISKY {
        say(
            Weight::Risk,
            format!(
                "jute.maxbuffer={}: whoever stores so much slows everybody down, and clients with \
                 the default cannot read it",
                core.frame_bytes_max
            ),
            "keep znodes below 1 MB, and lists of children below that too",
        );
    }
    if core.tick_ms < 200 {
        say(
            Weight::Risk,
            format!(
                "tickTime={}: a short pause of a machine or the network ends sessions and leaders",
                core.tick_ms
            ),
            "set it to 2000, and session timeouts in the clients",
        );
    }
}

/// Who can reach what.
fn exposure(config: &ServerConfig, file: &Path, say: Say<'_>) {
    let core = &config.core;
    if core.skip_acl {
        say(
            Weight::Wrong,
            "skipACL=yes: everybody may read, change and delete everything".to_owned(),
            "remove the line",
        );
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_open = config
        .listen
        .iter()
        .any(|address| !is_loopback(address.ip()));
    let proves = |key: &str| is_on(&text, key);
    let clients_prove = ["sessionRequireClientSASLAuth", "enforce.auth.enabled"];
    if is_open && !core.skip_acl && !clients_prove.iter().any(|key| proves(key)) {
        say(
            Weight::Risk,
            format!(
                "clients of every machine that reaches port {} get a session without saying who \
                 they are",
                core.host.client_port
            ),
            "let a firewall admit only clients, set clientPortAddress, or enforce authentication; \
             and give znodes ACLs",
        );
    }
    if is_open && core.four_letter_words == FourLetterWords::All {
        say(
            Weight::Risk,
            "4lw.commands.whitelist=*: everybody who reaches the port may ask for every session, \
             path and watch, as often as it costs most (CVE-2017-5637)"
                .to_owned(),
            "list what monitoring needs: srvr, ruok, mntr, isro",
        );
    }
    let reachable = config.ensemble.as_ref().is_some_and(|ensemble| {
        let own = ensemble.zab.committed.member(ensemble.zab.me);
        own.is_some_and(|own| own.election.iter().any(|at| !names_this_machine(&at.host)))
    });
    let peers_prove = ["sslQuorum", "quorum.auth.enableSasl"];
    if reachable && !peers_prove.iter().any(|key| proves(key)) {
        say(
            Weight::Risk,
            "whoever reaches the quorum and election ports is a server of the ensemble \
             (CVE-2018-8012): they neither encrypt nor ask who it is"
                .to_owned(),
            "let a firewall admit only the servers, or set sslQuorum or quorum.auth.enableSasl",
        );
    }
    if core.super_digest.is_some() && others_may_read(file) {
        say(
            Weight::Risk,
            "the file holds the hash of the super user's password, and every user of this machine \
             may read it"
                .to_owned(),
            "chmod o-r",
        );
    }
}

fn members(ensemble: &EnsembleConfig, say: Say<'_>) {
    let membership = &ensemble.zab.committed;
    let voters = membership.voters().count();
    if membership.groups.is_empty() && voters.is_multiple_of(2) && voters > 0 {
        say(
            Weight::Risk,
            format!(
                "{} vote, an even number: that survives no more failures than {} would, and more \
                 servers can fail",
                count(voters, "server"),
                voters - 1
            ),
            "add a voter, or make one an observer",
        );
    }
    let is_here = |id| {
        let member = membership.member(id);
        member.is_some_and(|it| it.quorum.iter().all(|at| names_this_machine(&at.host)))
    };
    let here = membership.servers.keys().filter(|id| is_here(**id)).count();
    if here > 0 && here < membership.servers.len() {
        say(
            Weight::Wrong,
            "some server.N lines name localhost, others do not: each server takes localhost for \
             itself"
                .to_owned(),
            "name every server by an address that all others reach",
        );
    } else if here > 1 {
        say(
            Weight::Risk,
            "all servers are on this machine: they fail together".to_owned(),
            "use one machine for each, if this is not for tests",
        );
    }
    if let Some(file) = &ensemble.dynamic_file
        && !file.is_file()
    {
        let file = file.display();
        say(
            Weight::Wrong,
            format!("dynamicConfigFile {file} is not there"),
            "",
        );
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn names_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// Whether a switch is on, by the file's text: of what others decide, only this much counts here.
fn is_on(text: &str, key: &str) -> bool {
    text.lines().any(|line| {
        let Some((name, value)) = line.split_once('=') else {
            return false;
        };
        let name = name.trim();
        name.strip_prefix("zookeeper.").unwrap_or(name) == key
            && value.trim().eq_ignore_ascii_case("true")
    })
}

#[cfg(unix)]
pub(super) fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
pub(super) fn others_may_read(_: &Path) -> bool {
    false
}
