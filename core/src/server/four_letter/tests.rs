#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ids::{Instant, LinkId, UnixMillis};
use crate::link::{LinkInput, LinkOutput, Port};
use crate::machine::{Machine as _, Now};
use crate::server::config::{Config, FourLetterWords, HostConfig};
use crate::server::{HostFacts, Input, Output, Recovered, Server, SnapshotOp, StoreOp, Summary};
use crate::tree::Loader;

/// A server with a store that is done at once, and a host that knows all.
struct Bench {
    server: Server,
    now: Now,
    links: u64,
    facts: HostFacts,
    outputs: Vec<Output>,
}

const TOOL: LinkId = LinkId(1000);
const VERSION: &str = "3.9.5-zabra-0.1.0, built on 2026-07-16 10:11 UTC";

impl Bench {
    /// One that still has to write its first snapshot.
    fn loading(words: FourLetterWords) -> Self {
        let environment = [
            ("zookeeper.version", VERSION),
            ("host.name", "localhost"),
            ("os.memory.max", "1000MB"),
            ("os.memory.total", "1MB"),
        ];
        let environment = environment.map(|(k, v)| (k.to_string(), v.to_string()));
        let config = Config {
            tick_ms: 2000,
            session_timeout_ms_min: 4000,
            session_timeout_ms_max: 40_000,
            four_letter_words: words,
            host: HostConfig {
                client_port: 2181,
                data_dir: "/data/version-2".into(),
                data_log_dir: "/log/version-2".into(),
                listen_backlog: -1,
                environment: environment.into(),
            },
            ..Config::default()
        };
        let now = Now {
            instant: Instant(10_000_000),
            // Thu Jul 16 10:11:12 UTC 2026
            wall: UnixMillis(1_784_196_672_000),
        };
        let loader = Loader::new(1, true);
        let server = Server::new(config, loader, Recovered::default(), 7, now);
        Self {
            server,
            now,
            links: 0,
            facts: HostFacts {
                data_dir_bytes: 457,
                log_dir_bytes: 67_108_880,
                open_files: 48,
                open_files_max: 20_000,
                memory_bytes: 5 << 20,
                fsync_ms: Summary {
                    count: 7,
                    sum: 9,
                    min: 0,
                    max: 5,
                },
                utc_offset_s: 0,
                disk_free_bytes: 1 << 30,
            },
            outputs: Vec::new(),
        }
    }

    fn serving() -> Self {
        let mut bench = Self::loading(FourLetterWords::All);
        bench.step([]);
        bench
    }

    /// Steps until the server has nothing more to do; what it says to connections is kept.
    fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: Vec<Input> = inputs.into_iter().collect();
        loop {
            let mut outputs = Vec::new();
            self.server.step(self.now, &mut inputs, &mut outputs);
            if outputs.is_empty() {
                return;
            }
            for output in &outputs {
                match output {
                    Output::Store(upto, StoreOp::Append { .. } | StoreOp::Roll) => {
                        inputs.push(Input::Stored { upto: *upto });
                    }
                    Output::Snapshot(SnapshotOp::Chunk(bytes)) => {
                        inputs.push(Input::SnapshotWritten(bytes.len()));
                    }
                    Output::Snapshot(SnapshotOp::End) => {
                        let zxid = self.server.tree().last_zxid();
                        inputs.push(Input::SnapshotStored { zxid });
                    }
                    Output::AskFacts(link) => {
                        inputs.push(Input::Facts(*link, self.facts.clone()));
                    }
                    Output::Snapshot(_) | Output::Event(_) | Output::Link(..) => {}
                    Output::Listen(..)
                    | Output::Membership(_)
                    | Output::Restart(_)
                    | Output::Store(..) => unreachable!("{output:?} is for ensembles"),
                }
            }
            self.outputs.extend(outputs);
        }
    }

    fn later(&mut self, ms: u64) {
        self.now.instant = self.now.instant.plus_ms(ms);
        self.now.wall.0 += ms.cast_signed();
        self.step([]);
    }

    fn open(&mut self, link: LinkId) {
        let port = u16::try_from(30_000 + link.0).unwrap();
        let peer = ([127, 0, 0, 1], port).into();
        self.step([Input::Link(
            link,
            LinkInput::Opened {
                port: Port::Client,
                peer,
            },
        )]);
    }

    fn send(&mut self, link: LinkId, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.step([Input::Link(link, LinkInput::Received(bytes))]);
    }

    /// What was said on a connection since the last call, and whether it was closed then.
    fn said(&mut self, link: LinkId) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut closed = false;
        for output in core::mem::take(&mut self.outputs) {
            match output {
                Output::Link(l, LinkOutput::Send(more)) if l == link => {
                    assert!(!closed, "nothing is sent after the end");
                    bytes.extend_from_slice(&more);
                }
                Output::Link(l, LinkOutput::Close) if l == link => {
                    assert!(!closed, "a connection is closed once");
                    closed = true;
                }
                Output::Link(l, LinkOutput::Pause) if l == link => panic!("not read any more"),
                Output::AskFacts(_)
                | Output::Event(_)
                | Output::Link(..)
                | Output::Listen(..)
                | Output::Membership(_)
                | Output::Restart(_)
                | Output::Snapshot(_)
                | Output::Store(..) => {}
            }
        }
        (bytes, closed)
    }

    /// Asks a word as a tool does, on a connection of its own.
    fn ask(&mut self, word: &str) -> String {
        self.open(TOOL);
        self.outputs.clear();
        self.send(TOOL, word.as_bytes());
        let (bytes, closed) = self.said(TOOL);
        assert!(closed, "{word} is answered and over");
        String::from_utf8(bytes).unwrap()
    }

    /// A client with a session.
    fn client(&mut self) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        self.open(link);
        let mut body = Vec::new();
        body.extend_from_slice(&0_i32.to_be_bytes());
        body.extend_from_slice(&0_i64.to_be_bytes());
        body.extend_from_slice(&10_000_i32.to_be_bytes());
        body.extend_from_slice(&0_i64.to_be_bytes());
        body.extend_from_slice(&16_i32.to_be_bytes());
        body.extend_from_slice(&[0; 17]);
        self.send(link, &frame(&body));
        link
    }

    fn request(&mut self, link: LinkId, xid: i32, op: i32, body: &[u8]) {
        let mut all = xid.to_be_bytes().to_vec();
        all.extend_from_slice(&op.to_be_bytes());
        all.extend_from_slice(body);
        self.send(link, &frame(&all));
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut all = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    all.extend_from_slice(body);
    all
}

fn text(text: &str) -> Vec<u8> {
    frame(text.as_bytes())
}

fn create(path: &str, data: &str, flags: i32) -> Vec<u8> {
    let mut body = [text(path), text(data)].concat();
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&31_i32.to_be_bytes());
    body.extend([text("world"), text("anyone")].concat());
    body.extend_from_slice(&flags.to_be_bytes());
    body
}

fn watched(path: &str) -> Vec<u8> {
    [text(path), [1].into()].concat()
}

fn ids(bench: &Bench) -> Vec<String> {
    let sessions = bench.server.tree().sessions();
    sessions.map(|(id, _)| id.to_string()).collect()
}

/// Two clients after a few operations. Apache ZooKeeper 3.8.0 answered the same after the same.
fn busy() -> (Bench, LinkId, LinkId) {
    let mut bench = Bench::serving();
    let (a, b) = (bench.client(), bench.client());
    bench.request(a, 1, 1, &create("/a", "hello", 0));
    bench.request(a, 2, 1, &create("/a/e", "x", 1));
    bench.request(b, 1, 1, &create("/b", "x", 1));
    bench.request(b, 2, 1, &create("/a/c", "x", 1));
    bench.request(a, 3, 4, &watched("/a"));
    bench.request(b, 3, 4, &watched("/a"));
    bench.request(b, 4, 3, &watched("/nothere"));
    bench.request(b, 5, 8, &watched("/a"));
    bench.request(b, 6, 106, &[text("/a/p"), [0; 4].into()].concat());
    bench.request(b, 7, 106, &[text("/"), [0, 0, 0, 1].into()].concat());
    bench.request(a, -2, 11, &[]);
    let missing = [text("/none"), text("y"), [255; 4].into()].concat();
    bench.request(a, 4, 5, &missing);
    (bench, a, b)
}

#[test]
fn srvr_tells_of_a_fresh_server_what_zookeeper_tells() {
    let mut bench = Bench::serving();
    let expected = "Zookeeper version: 3.9.5-zabra-0.1.0, built on 2026-07-16 10:11 UTC\n\
                    Latency min/avg/max: 0/0.0/0\n\
                    Received: 1\n\
                    Sent: 0\n\
                    Connections: 1\n\
                    Outstanding: 0\n\
                    Zxid: 0x0\n\
                    Mode: standalone\n\
                    Node count: 5\n";
    assert_eq!(bench.ask("srvr"), expected);
    let again = expected.replace("Received: 1\nSent: 0", "Received: 2\nSent: 1");
    assert_eq!(bench.ask("srvr"), again);
    assert_eq!(bench.server.connection_count(), 0);
}

#[test]
fn srvr_counts_every_request() {
    let (mut bench, ..) = busy();
    assert_eq!(
        bench.ask("srvr"),
        "Zookeeper version: 3.9.5-zabra-0.1.0, built on 2026-07-16 10:11 UTC\n\
         Latency min/avg/max: 0/0.0/0\n\
         Received: 15\n\
         Sent: 14\n\
         Connections: 3\n\
         Outstanding: 0\n\
         Zxid: 0x7\n\
         Mode: standalone\n\
         Node count: 9\n"
    );
}

#[test]
fn stat_lists_clients_briefly() {
    let (mut bench, ..) = busy();
    assert_eq!(
        bench.ask("stat"),
        "Zookeeper version: 3.9.5-zabra-0.1.0, built on 2026-07-16 10:11 UTC\n\
         Clients:\n \
         /127.0.0.1:30001[5](queued=0,recved=6,sent=6)\n \
         /127.0.0.1:30002[5](queued=0,recved=8,sent=8)\n \
         /127.0.0.1:31000[0](queued=0,recved=1,sent=0)\n\
         \n\
         Latency min/avg/max: 0/0.0/0\n\
         Received: 15\n\
         Sent: 14\n\
         Connections: 3\n\
         Outstanding: 0\n\
         Zxid: 0x7\n\
         Mode: standalone\n\
         Node count: 9\n"
    );
}

#[test]
fn cons_tells_the_last_operation_and_crst_forgets_it() {
    let (mut bench, a, b) = busy();
    let ids = ids(&bench);
    for link in [a, b] {
        let out = bench.server.conns[&link].unflushed;
        bench.step([Input::Link(link, LinkInput::Flushed(out))]);
    }
    bench.later(5);
    let est = "est=1784196672000,to=10000";
    let rest = "lresp=10000,llat=0,minlat=0,avglat=0,maxlat=0)";
    let expected = [
        alloc::format!(
            " /127.0.0.1:30001[1](queued=0,recved=6,sent=6,sid={},\
             lop=NA,{est},lcxid=0x4,lzxid=0x7,{rest}\n",
            ids[0]
        ),
        alloc::format!(
            " /127.0.0.1:30002[1](queued=0,recved=8,sent=8,sid={},\
             lop=ADDW,{est},lcxid=0x7,lzxid=0x6,{rest}\n",
            ids[1]
        ),
        " /127.0.0.1:31000[0](queued=0,recved=1,sent=0)\n\n".into(),
    ];
    assert_eq!(bench.ask("cons"), expected.concat());
    assert_eq!(bench.ask("crst"), "Connection stats reset.\n");
    let rest = "lop=NA,est=1784196672000,to=10000,lzxid=0xffffffffffffffff,\
                lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)";
    let expected = [
        alloc::format!(
            " /127.0.0.1:30001[1](queued=0,recved=0,sent=0,sid={},{rest}\n",
            ids[0]
        ),
        alloc::format!(
            " /127.0.0.1:30002[1](queued=0,recved=0,sent=0,sid={},{rest}\n",
            ids[1]
        ),
        " /127.0.0.1:31000[0](queued=0,recved=1,sent=0)\n\n".into(),
    ];
    assert_eq!(bench.ask("cons"), expected.concat());
    bench.request(a, -2, 11, &[]);
    assert!(
        bench
            .ask("cons")
            .contains("lop=PING,est=1784196672000,to=10000,lzxid=0x7,")
    );
}

#[test]
fn latency_is_of_every_answer() {
    let mut bench = Bench::serving();
    let a = bench.client();
    // The store takes its time.
    let body = [1_i32.to_be_bytes().to_vec(), 1_i32.to_be_bytes().to_vec()].concat();
    let body = [body, create("/a", "", 0)].concat();
    let bytes = Bytes::from(frame(&body));
    let mut inputs = alloc::vec![Input::Link(a, LinkInput::Received(bytes))];
    let mut outputs = Vec::new();
    bench.server.step(bench.now, &mut inputs, &mut outputs);
    let Some(&Output::Store(upto, _)) = outputs.iter().find(|o| matches!(o, Output::Store(..)))
    else {
        panic!("a write is stored: {outputs:?}");
    };
    assert!(bench.ask("srvr").contains("Outstanding: 1\n"));
    bench.now.instant = bench.now.instant.plus_ms(14);
    bench.step([Input::Stored { upto }]);
    bench.request(a, 2, 4, &watched("/a"));
    let answer = bench.ask("srvr");
    assert!(answer.contains("min/avg/max: 0/4.6667/14\n"), "{answer}");
    let cons = bench.ask("cons");
    let end = "lop=GETD,est=1784196672000,to=10000,lcxid=0x2,lzxid=0x2,lresp=10014,\
               llat=0,minlat=0,avglat=4,maxlat=14)\n";
    assert!(cons.contains(end), "{cons}");
    let mntr = bench.ask("mntr");
    for line in [
        "zk_avg_latency\t4.6667\n",
        "zk_cnt_readlatency\t1\n",
        "zk_cnt_updatelatency\t2\n",
        "zk_p50_updatelatency\t0\n",
        "zk_p99_updatelatency\t14\n",
        "zk_max_updatelatency\t14\n",
    ] {
        assert!(mntr.contains(line), "{line} in {mntr}");
    }
    assert_eq!(bench.ask("srst"), "Server stats reset.\n");
    let answer = bench.ask("srvr");
    assert!(
        answer.contains("0/0.0/0\nReceived: 1\nSent: 1\nConn"),
        "{answer}"
    );
}

#[test]
fn dump_tells_what_sessions_hold_and_when_they_end() {
    let (mut bench, ..) = busy();
    let ids = ids(&bench);
    let [first, second] = [&ids[0], &ids[1]];
    bench.facts.utc_offset_s = 3600;
    bench.later(1000);
    assert_eq!(
        bench.ask("dump"),
        alloc::format!(
            "SessionTracker dump:\n\
             Session Sets (1)/(2):\n\
             2 expire at Thu Jul 16 11:11:24 GMT+01:00 2026:\n\
             \t{first}\n\
             \t{second}\n\
             ephemeral nodes dump:\n\
             Sessions with Ephemerals (2):\n\
             {first}:\n\
             \t/a/e\n\
             {second}:\n\
             \t/a/c\n\
             \t/b\n\
             Connections dump:\n\
             Connections Sets (2)/(3):\n\
             1 expire at Thu Jul 16 11:11:23 GMT+01:00 2026:\n\
             \tip: /127.0.0.1:31000 sessionId: 0x0\n\
             2 expire at Thu Jul 16 11:11:24 GMT+01:00 2026:\n\
             \tip: /127.0.0.1:30001 sessionId: {first}\n\
             \tip: /127.0.0.1:30002 sessionId: {second}\n"
        )
    );
}

#[test]
fn watches_are_told_in_all_by_connection_and_by_path() {
    let mut bench = Bench::serving();
    assert_eq!(
        bench.ask("wchs"),
        "0 connections watching 0 paths\nTotal watches:0\n"
    );
    assert_eq!(
        (bench.ask("wchc"), bench.ask("wchp")),
        ("\n".into(), "\n".into())
    );
    let (mut bench, ..) = busy();
    let ids = ids(&bench);
    let [first, second] = [&ids[0], &ids[1]];
    assert_eq!(
        bench.ask("wchs"),
        "2 connections watching 4 paths\nTotal watches:5\n"
    );
    let by_connection =
        alloc::format!("{first}\n\t/a\n{second}\n\t/\n\t/a\n\t/a/p\n\t/nothere\n\n");
    assert_eq!(bench.ask("wchc"), by_connection);
    let by_path = alloc::format!(
        "/\n\t{second}\n/a\n\t{first}\n\t{second}\n/a/p\n\t{second}\n/nothere\n\t{second}\n\n"
    );
    assert_eq!(bench.ask("wchp"), by_path);
}

#[test]
fn words_about_the_configuration_tell_what_the_host_said() {
    let mut bench = Bench::serving();
    assert_eq!(
        bench.ask("conf"),
        "clientPort=2181\n\
         secureClientPort=-1\n\
         dataDir=/data/version-2\n\
         dataDirSize=457\n\
         dataLogDir=/log/version-2\n\
         dataLogSize=67108880\n\
         tickTime=2000\n\
         maxClientCnxns=60\n\
         minSessionTimeout=4000\n\
         maxSessionTimeout=40000\n\
         clientPortListenBacklog=-1\n\
         serverId=0\n"
    );
    assert_eq!(
        bench.ask("dirs"),
        "datadir_size: 457\nlogdir_size: 67108880\n"
    );
    assert_eq!(
        bench.ask("envi"),
        "Environment:\n\
         zookeeper.version=3.9.5-zabra-0.1.0, built on 2026-07-16 10:11 UTC\n\
         host.name=localhost\n\
         os.memory.max=1000MB\n\
         os.memory.total=5MB\n"
    );
    assert_eq!(bench.ask("ruok"), "imok");
    assert_eq!(bench.ask("isro"), "rw");
}

#[test]
fn the_trace_mask_is_kept_for_who_asks() {
    let mut bench = Bench::serving();
    assert_eq!(bench.ask("gtmk"), "306");
    bench.open(TOOL);
    bench.send(TOOL, b"stmk\0\0\0\0\0\0");
    assert_eq!(bench.said(TOOL), (Vec::new(), false));
    bench.send(TOOL, b"\x02\x00");
    assert_eq!(bench.said(TOOL), (b"512".into(), true));
    assert_eq!(bench.ask("srst"), "Server stats reset.\n");
    assert_eq!(bench.ask("gtmk"), "512");
}

#[test]
fn hash_tells_the_digest_after_every_128th_transaction() {
    let mut bench = Bench::serving();
    let a = bench.client();
    assert_eq!(bench.ask("hash"), "");
    bench.request(a, 1, 1, &create("/a", "", 0));
    let set = [text("/a"), text("y"), [255; 4].into()].concat();
    for xid in 2..0x100 {
        if bench.server.tree().last_zxid().0 == 0x80 {
            break;
        }
        bench.request(a, xid, 5, &set);
    }
    let digest = bench.server.tree().digest().cast_signed();
    assert_eq!(bench.ask("hash"), alloc::format!("80: {digest}\n"));
}

#[test]
fn mntr_has_the_keys_of_zookeeper_and_ours_each_once() {
    let (mut bench, ..) = busy();
    bench.later(1706);
    let answer = bench.ask("mntr");
    let mut keys: Vec<&str> = Vec::new();
    for line in answer.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        assert!(key.starts_with("zk_") && !value.is_empty(), "{line}");
        keys.push(key);
    }
    assert_eq!(keys[..2], ["zk_version", "zk_server_state"]);
    keys.sort_unstable();
    let golden = include_str!("mntr.keys");
    let golden: Vec<&str> = golden.lines().collect();
    assert_eq!(keys, golden);
    let expected = "zk_version\t3.9.5-zabra-0.1.0, built on 2026-07-16 10:11 UTC
zk_server_state\tstandalone
zk_ephemerals_count\t3
zk_num_alive_connections\t3
zk_znode_count\t9
zk_global_sessions\t2
zk_last_client_response_size\t16
zk_packets_sent\t14
zk_packets_received\t15
zk_max_client_response_size\t93
zk_min_client_response_size\t16
zk_watch_count\t7
zk_open_file_descriptor_count\t48
zk_max_file_descriptor_count\t20000
zk_approximate_data_size\t64
zk_uptime\t1706
zk_bytes_received_count\t495
zk_connection_request_count\t2
zk_response_bytes\t396
zk_avg_fsynctime\t1.2857
zk_max_fsynctime\t5
zk_cnt_fsynctime\t7
zk_sum_fsynctime\t9
zk_cnt_updatelatency\t7
zk_cnt_readlatency\t7
zk_connection_drop_probability\t0.0
zk_cnt_snapshottime\t1";
    for line in expected.lines() {
        assert!(answer.lines().any(|l| l == line), "{line} in\n{answer}");
    }
}

#[test]
fn sizes_of_responses_are_minus_one_until_there_is_one() {
    let mut bench = Bench::serving();
    let answer = bench.ask("mntr");
    for key in ["last", "max", "min"] {
        let line = alloc::format!("zk_{key}_client_response_size\t-1\n");
        assert!(answer.contains(&line), "{line}");
    }
    assert!(answer.contains("zk_approximate_data_size\t44\n"));
}

#[test]
fn only_words_of_the_whitelist_are_executed() {
    let mut bench = Bench::loading(FourLetterWords::Only(alloc::vec!["ruok".into()]));
    bench.step([]);
    assert_eq!(bench.ask("ruok"), "imok");
    assert!(bench.ask("srvr").starts_with("Zookeeper version: "));
    // stmk does not wait for a mask that nobody will look at.
    for word in ["stat", "mntr", "stmk", "envi"] {
        assert_eq!(
            bench.ask(word),
            alloc::format!("{word} is not executed because it is not in the whitelist.\n")
        );
    }
}

#[test]
fn a_server_that_does_not_serve_yet_says_so() {
    let mut bench = Bench::loading(FourLetterWords::All);
    // The store never says that the first snapshot is there.
    let mut ask = |word: &[u8]| {
        let peer = ([127, 0, 0, 1], 1).into();
        bench.links += 1;
        let link = LinkId(bench.links);
        let word = Bytes::copy_from_slice(word);
        let mut inputs = alloc::vec![
            Input::Link(
                link,
                LinkInput::Opened {
                    port: Port::Client,
                    peer
                }
            ),
            Input::Link(link, LinkInput::Received(word)),
            Input::Facts(link, HostFacts::default()),
        ];
        let mut outputs = Vec::new();
        bench.server.step(bench.now, &mut inputs, &mut outputs);
        bench.outputs = outputs;
        let (bytes, closed) = bench.said(link);
        assert!(closed);
        String::from_utf8(bytes).unwrap()
    };
    let refusal = "This ZooKeeper instance is not currently serving requests";
    for word in [
        "conf", "cons", "crst", "dirs", "dump", "mntr", "srst", "srvr", "stat", "wchc", "wchp",
        "wchs",
    ] {
        assert_eq!(
            ask(word.as_bytes()),
            alloc::format!("{refusal}\n"),
            "{word}"
        );
    }
    assert_eq!(ask(b"hash"), refusal);
    assert_eq!(ask(b"isro"), "null");
    assert_eq!(ask(b"ruok"), "imok");
    assert_eq!(ask(b"gtmk"), "306");
    assert_eq!(ask(b"stmk\0\0\0\0\0\0\0\x01"), "1");
    assert!(ask(b"envi").starts_with("Environment:\n"));
}

#[test]
fn a_word_may_come_in_single_bytes_and_with_more_behind_it() {
    let mut bench = Bench::serving();
    bench.open(TOOL);
    for byte in b"ruo" {
        bench.send(TOOL, &[*byte]);
        assert_eq!(bench.said(TOOL), (Vec::new(), false));
    }
    bench.send(TOOL, b"k");
    assert_eq!(bench.said(TOOL), (b"imok".into(), true));
    assert_eq!(bench.ask("ruok\r\nstat"), "imok");
}

#[test]
fn a_request_for_a_session_in_pieces_is_not_paused() {
    let mut bench = Bench::serving();
    bench.open(TOOL);
    let mut body = [0; 45];
    body[27] = 16;
    for byte in frame(&body) {
        assert_eq!(bench.said(TOOL), (Vec::new(), false));
        bench.send(TOOL, &[byte]);
    }
    assert_eq!(bench.said(TOOL).0.len(), 4 + 37);
}

#[test]
fn what_is_no_word_is_a_length_and_too_long_a_one() {
    let mut bench = Bench::serving();
    for word in ["GET ", "lead", "RUOK"] {
        assert_eq!(bench.ask(word), "", "{word}");
    }
    let complaints = |bench: &Bench| {
        let events = bench.outputs.iter();
        events.filter(|o| matches!(o, Output::Event(_))).count()
    };
    bench.open(TOOL);
    bench.send(TOOL, b"\xff\xf4\xff\xfd\x06");
    assert_eq!(complaints(&bench), 0, "telnet is not complained of");
    assert_eq!(bench.said(TOOL), (Vec::new(), true));
}

#[test]
fn after_the_handshake_there_are_no_words() {
    let mut bench = Bench::serving();
    let a = bench.client();
    bench.outputs.clear();
    bench.send(a, b"ruok");
    assert_eq!(bench.said(a), (Vec::new(), true));
}

#[test]
fn facts_are_told_once_and_only_to_who_is_there() {
    let mut bench = Bench::serving();
    bench.facts = HostFacts::default();
    bench.open(TOOL);
    let word = Bytes::from_static(b"dirsdirs");
    let mut inputs = alloc::vec![Input::Link(TOOL, LinkInput::Received(word))];
    let mut outputs = Vec::new();
    bench.server.step(bench.now, &mut inputs, &mut outputs);
    assert_eq!(outputs, [Output::AskFacts(TOOL)]);
    // Meanwhile it may send what it likes.
    bench.send(TOOL, b"conf");
    assert_eq!(bench.said(TOOL), (Vec::new(), false));
    let facts = || Input::Facts(TOOL, HostFacts::default());
    bench.step([facts(), facts()]);
    let (bytes, closed) = bench.said(TOOL);
    assert_eq!(bytes, b"datadir_size: 0\nlogdir_size: 0\n");
    assert!(closed);

    bench.open(TOOL);
    let word = Bytes::from_static(b"mntr");
    let mut inputs = alloc::vec![
        Input::Link(TOOL, LinkInput::Received(word)),
        Input::Link(TOOL, LinkInput::Closed),
        facts(),
    ];
    let mut outputs = Vec::new();
    bench.server.step(bench.now, &mut inputs, &mut outputs);
    assert_eq!(outputs, [Output::AskFacts(TOOL)]);
    assert_eq!(bench.server.connection_count(), 0);
}
