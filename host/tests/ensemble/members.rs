//! An ensemble of server processes on this machine. A member keeps its id, its ports, its directory
//! and its zoo.cfg, whoever's server it is started as.

use core::fmt::Write as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use crate::support::process::{Directory, Kind, Server, free_address};
use crate::support::tree::{Tree, dump};
use crate::support::wire::{self, Client};

/// Elections, joins and snapshots of a few hundred znodes take seconds, on a busy machine too.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(40);
/// Apache ZooKeeper may leave a word unanswered that comes while it changes its role.
const WORD_TIME_MAX: Duration = Duration::from_millis(500);
const READ_TIME_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const SESSION_MS: i32 = 20_000;
/// Each server writes it by itself: the time is its own, and where the configuration cannot change
/// all of it is.
const CONFIG: &str = "/zookeeper/config";

/// A member's id, its myid.
pub(crate) type Id = u8;

/// What a member does for the ensemble, by the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Observer,
    Participant,
}

/// How a member ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Kill,
    Stop,
}

/// All members. Every process is gone when it is dropped.
pub(crate) struct Ensemble {
    members: BTreeMap<Id, Member>,
    reconfig: Reconfig,
    // The last: its members' processes end first.
    _directory: Directory,
    _kept: Vec<Directory>,
}

struct Member {
    quorum: SocketAddr,
    election: SocketAddr,
    home: PathBuf,
    client: SocketAddr,
    running: Option<Server>,
    paused: bool,
    starts: u32,
}

/// Whether the configuration may change while servers run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reconfig {
    Off,
    On,
}

impl Ensemble {
    /// Writes the configuration of members that are yet to be started.
    pub(crate) fn new(test: &str, reconfig: Reconfig, roles: &[(Id, Role)]) -> Self {
        Self::with(test, reconfig, roles, "")
    }

    /// The same, with more lines in everybody's configuration.
    pub(crate) fn with(test: &str, reconfig: Reconfig, roles: &[(Id, Role)], more: &str) -> Self {
        let directory = Directory::new(test);
        let mut lines = String::new();
        let mut members = BTreeMap::new();
        for &(id, role) in roles {
            let member = Member {
                quorum: free_address(),
                election: free_address(),
                client: free_address(),
                home: directory.path().join(format!("member-{id}")),
                running: None,
                paused: false,
                starts: 0,
            };
            lines += &member.line(id, role, reconfig);
            lines.push('\n');
            members.insert(id, member);
        }
        lines += more;
        for (id, member) in &members {
            member.write_files(*id, reconfig, &lines);
        }
        Self {
            members,
            reconfig,
            _directory: directory,
            _kept: Vec::new(),
        }
    }

    /// Writes a file beside the zoo.cfg of each of these members.
    pub(crate) fn write_beside(&self, ids: &[Id], name: &str, text: &str) {
        for id in ids {
            fs::write(self.member(*id).home.join(name), text).unwrap();
        }
    }

    /// Adds lines to a member's configuration, for its next start; the last of a key counts.
    pub(crate) fn append(&self, id: Id, lines: &str) {
        let file = self.member(id).home.join("zoo.cfg");
        let mut text = fs::read_to_string(&file).unwrap();
        for line in lines.lines() {
            let (key, _) = line.split_once('=').unwrap();
            let kept = text
                .lines()
                .filter(|old| !old.starts_with(&format!("{key}=")));
            text = kept.map(|old| format!("{old}\n")).collect();
            text += &format!("{line}\n");
        }
        fs::write(file, text).unwrap();
    }

    /// Fails if a member serves within this time.
    pub(crate) fn stay_a_stranger(&self, id: Id, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert_eq!(mode(self.member(id).client), None, "member {id} was let in");
            thread::sleep(POLL);
        }
    }

    /// Keeps a directory that members need.
    pub(crate) fn keep(&mut self, directory: Directory) {
        self._kept.push(directory);
    }

    /// Starts a member and does not wait for it.
    pub(crate) fn start(&mut self, id: Id, kind: Kind) {
        let member = self.members.get_mut(&id).unwrap();
        assert!(member.running.is_none(), "member {id} runs already");
        member.starts += 1;
        let log = member.home.join(format!("{}-{kind}.log", member.starts));
        let config = member.home.join("zoo.cfg");
        eprintln!("member {id} starts as {kind}, log in {}", log.display());
        member.running = Some(Server::spawn_with(kind, &config, member.client, log));
    }

    /// Starts all members. The first will lead: the second has a lower id, and nobody else is there
    /// to vote.
    pub(crate) fn start_all(&mut self, kinds: &[(Id, Kind)]) {
        let (first, others) = kinds.split_at(2);
        for &(id, kind) in first {
            self.start(id, kind);
        }
        self.settle();
        for &(id, kind) in others {
            self.start(id, kind);
        }
        self.settle();
        let &[(leader, _), ..] = first else {
            panic!("an ensemble has two servers at least");
        };
        assert_eq!(self.leader(), leader, "who leads");
    }

    pub(crate) fn end(&mut self, id: Id, end: End) {
        eprintln!("member {id} ends: {end:?}");
        let server = self.members.get_mut(&id).unwrap().running.take().unwrap();
        match end {
            End::Kill => server.kill(),
            End::Stop => server.stop(),
        }
    }

    /// Has a member hang: its connections stay, but nothing comes from it.
    pub(crate) fn pause(&mut self, id: Id) {
        eprintln!("member {id} hangs");
        let member = self.members.get_mut(&id).unwrap();
        member.running.as_ref().unwrap().pause();
        member.paused = true;
    }

    pub(crate) fn resume(&mut self, id: Id) {
        eprintln!("member {id} goes on");
        let member = self.members.get_mut(&id).unwrap();
        member.running.as_ref().unwrap().resume();
        member.paused = false;
    }

    /// Takes from a member that does not run all that it knew except who it is.
    pub(crate) fn wipe(&self, id: Id) {
        fs::remove_dir_all(self.data(id).join("version-2")).unwrap();
    }

    /// A member's data directory.
    pub(crate) fn data(&self, id: Id) -> PathBuf {
        self.member(id).home.join("data")
    }

    /// Waits until one member leads and all others that run, and do not hang, follow or observe.
    pub(crate) fn settle(&mut self) {
        let end = Instant::now() + SETTLE_TIME_MAX;
        loop {
            let modes = self.modes();
            let leaders = modes.values().filter(|mode| *mode == "leader").count();
            let learners = ["follower", "observer"];
            let learns = |mode: &&String| learners.contains(&mode.as_str());
            if leaders == 1 && modes.values().filter(learns).count() == modes.len() - 1 {
                eprintln!("settled: {modes:?}");
                return;
            }
            for member in self.members.values_mut() {
                if let Some(server) = &mut member.running {
                    server.assert_running();
                }
            }
            assert!(
                Instant::now() < end,
                "not settled: {modes:?}{}",
                self.log_ends()
            );
            thread::sleep(POLL);
        }
    }

    /// The id of the one that leads.
    pub(crate) fn leader(&self) -> Id {
        let modes = self.modes();
        let leader = modes.iter().find(|(_, mode)| *mode == "leader");
        *leader.unwrap_or_else(|| panic!("none leads: {modes:?}")).0
    }

    /// What each member that runs says it does; empty if it does not serve.
    fn modes(&self) -> BTreeMap<Id, String> {
        self.running()
            .map(|(id, member)| (id, mode(member.client).unwrap_or_default()))
            .collect()
    }

    /// Waits until a member says that it does this.
    pub(crate) fn wait_for_mode(&self, id: Id, expected: &str) {
        let end = Instant::now() + SETTLE_TIME_MAX;
        while mode(self.member(id).client).as_deref() != Some(expected) {
            assert!(
                Instant::now() < end,
                "member {id} is no {expected}{}",
                self.log_ends()
            );
            thread::sleep(POLL);
        }
    }

    /// A member's number of this name, as it tells those who watch over it.
    pub(crate) fn metric(&self, id: Id, name: &str) -> u64 {
        let answer = wire::word(self.address(id), "mntr", WORD_TIME_MAX * 4).unwrap();
        let mut lines = answer.lines().filter_map(|line| line.split_once('\t'));
        let value = lines.find_map(|(found, value)| (found == name).then_some(value));
        let number = value.and_then(|value| value.parse().ok());
        number.unwrap_or_else(|| panic!("no {name}: {answer}"))
    }

    /// Fails if somebody leads within this time.
    pub(crate) fn stay_without_a_leader(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let modes = self.modes();
            assert!(!modes.values().any(|mode| mode == "leader"), "{modes:?}");
            thread::sleep(POLL);
        }
    }

    /// Where clients connect, of all members, running or not.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.values().map(|member| member.client).collect()
    }

    pub(crate) fn address(&self, id: Id) -> SocketAddr {
        self.member(id).client
    }

    /// A member's line in a configuration that gives it this role.
    pub(crate) fn line(&self, id: Id, role: Role) -> String {
        self.member(id).line(id, role, self.reconfig)
    }

    /// Everything that the latest process of a member has logged.
    pub(crate) fn log(&self, id: Id) -> String {
        let running = self.member(id).running.as_ref();
        running.map(Server::log).unwrap_or_default()
    }

    /// The tree that every running member has; fails if it is not the same, or if the digests that
    /// members remember are not.
    pub(crate) fn tree(&self) -> Tree {
        let mut first: Option<(Id, Tree)> = None;
        for (id, member) in self.running() {
            let tree = self.tree_of(member);
            match &first {
                None => first = Some((id, tree)),
                Some((other, expected)) => assert_same(expected, *other, &tree, id),
            }
        }
        self.assert_digests();
        first.expect("some member runs").1
    }

    fn tree_of(&self, member: &Member) -> Tree {
        let end = Instant::now() + SETTLE_TIME_MAX;
        let mut tree = loop {
            match read_tree(member.client) {
                Ok(tree) => break tree,
                // An observer of Apache ZooKeeper 3.8.0 was once seen never to answer a read.
                Err(error) => assert!(Instant::now() < end, "{}: {error:?}", member.client),
            }
        };
        if self.reconfig == Reconfig::Off {
            tree.remove(CONFIG);
        } else if let Some(config) = tree.get_mut(CONFIG) {
            config.stat.mtime = 0;
        }
        tree
    }

    /// How often each member has found that its tree's digest was not the leader's. Joining from a
    /// snapshot that was written while the tree changed, an Apache ZooKeeper finds that a few times
    /// until it has caught up, also from Apache ZooKeeper. After that nobody may.
    pub(crate) fn digest_mismatches(&self) -> BTreeMap<Id, u64> {
        let counts = self.running().filter_map(|(id, member)| {
            let answer = wire::word(member.client, "mntr", WORD_TIME_MAX * 4).unwrap();
            let mut lines = answer.lines();
            // Before 3.6 there are no digests.
            let count = lines.find_map(|line| line.strip_prefix("zk_digest_mismatches_count\t"))?;
            Some((id, count.parse().unwrap()))
        });
        counts.collect()
    }

    fn assert_digests(&self) {
        let mut known: BTreeMap<String, (Id, String)> = BTreeMap::new();
        for (id, member) in self.running() {
            for (zxid, digest) in digests(member.client) {
                let first = known.entry(zxid.clone());
                let (other, expected) = first.or_insert_with(|| (id, digest.clone()));
                assert_eq!(&digest, expected, "members {id} and {other} at {zxid}");
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = (Id, &Member)> {
        let members = self.members.iter();
        members
            .filter(|(_, member)| member.running.is_some() && !member.paused)
            .map(|(id, member)| (*id, member))
    }

    fn member(&self, id: Id) -> &Member {
        self.members.get(&id).unwrap()
    }

    fn log_ends(&self) -> String {
        let mut text = String::new();
        for (id, member) in &self.members {
            if let Some(server) = &member.running {
                write!(text, "\nmember {id}:\n{}", server.log_end()).unwrap();
            }
        }
        text
    }
}

impl Member {
    fn line(&self, id: Id, role: Role, reconfig: Reconfig) -> String {
        let role = match role {
            Role::Observer => "observer",
            Role::Participant => "participant",
        };
        let (quorum, election) = (self.quorum, self.election.port());
        let client = match reconfig {
            Reconfig::Off => String::new(),
            Reconfig::On => format!(";{}", self.client),
        };
        format!("server.{id}={quorum}:{election}:{role}{client}")
    }

    fn write_files(&self, id: Id, reconfig: Reconfig, servers: &str) {
        let data = self.home.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("myid"), format!("{id}\n")).unwrap();
        let mut text = format!(
            // Short ticks, so that elections and lost servers are noticed soon; limits long enough
            // for a machine that is busy.
            "tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={}\nmaxSessionTimeout=60000\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n\
             extendedTypesEnabled=true\nznode.container.checkIntervalMs=1000\npreAllocSize=64\nsnapCount=300\n\
             DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n\
             reconfigEnabled={}\n{servers}",
            data.display(),
            reconfig == Reconfig::On,
        );
        if reconfig == Reconfig::Off {
            let port = self.client.port();
            write!(text, "clientPort={port}\nclientPortAddress=127.0.0.1\n").unwrap();
        }
        fs::write(self.home.join("zoo.cfg"), text).unwrap();
    }
}

fn read_tree(address: SocketAddr) -> wire::Result<Tree> {
    let mut client = Client::open_within(address, SESSION_MS, READ_TIME_MAX)?;
    client.add_auth("digest", b"super:test")?;
    client.sync("/")?;
    let tree = dump(&mut client)?;
    client.close()?;
    Ok(tree)
}

fn mode(address: SocketAddr) -> Option<String> {
    let answer = wire::word(address, "srvr", WORD_TIME_MAX).ok()?;
    let mode = answer
        .lines()
        .find_map(|line| line.strip_prefix("Mode: "))?;
    Some(mode.to_owned())
}

/// Zxids and digests of the tree, as far as a server remembers them.
fn digests(address: SocketAddr) -> Vec<(String, String)> {
    let answer = wire::word(address, "hash", WORD_TIME_MAX * 4).unwrap_or_default();
    let pairs = answer.lines().filter_map(|line| line.split_once(": "));
    pairs
        .map(|(zxid, digest)| (zxid.to_owned(), digest.to_owned()))
        .collect()
}

fn assert_same(expected: &Tree, other: Id, found: &Tree, id: Id) {
    for (path, znode) in expected {
        assert_eq!(
            found.get(path),
            Some(znode),
            "{path}: of member {id}, and of {other}"
        );
    }
    let extra: Vec<_> = found
        .keys()
        .filter(|path| !expected.contains_key(*path))
        .collect();
    assert!(
        extra.is_empty(),
        "member {id} has what {other} has not: {extra:?}"
    );
}
