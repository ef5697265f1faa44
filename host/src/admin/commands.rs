//! The commands of ZooKeeper's AdminServer, by its names and in its shapes.
//!
//! Source: ZooKeeper 3.9's `Commands`, `JettyAdminServer`, `JsonOutputter`.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use zabra_core::server::set_trace_mask;

use super::ask::{Asker, NOT_SERVING, NotTold};
use super::http::{Asked, Reply, Site};
use super::members::{Member, Members};
use super::snapshot::Snapshots;
use super::texts::{self, Detail, Object};
use super::{facts::Known, health};
use crate::host_facts;

/// A command's names, the primary one first.
type Names = &'static [&'static str];

/// Every command. The order is that of the list that a browser is shown.
const COMMANDS: [Names; 27] = [
    &["configuration", "conf", "config"],
    &["connection_stat_reset", "crst"],
    &["connections", "cons"],
    &["dirs"],
    &["dump"],
    &["environment", "env", "envi"],
    &["get_trace_mask", "gtmk"],
    &["hash"],
    &["initial_configuration", "icfg"],
    &["is_read_only", "isro"],
    &["last_snapshot", "lsnp"],
    &["leader", "lead"],
    &["monitor", "mntr"],
    &["observer_connection_stat_reset", "orst"],
    &["observers", "obsr"],
    &["restore", "rest"],
    &["ruok"],
    &["server_stats", "srvr"],
    &["set_trace_mask", "stmk"],
    &["snapshot", "snap"],
    &["stat_reset", "srst"],
    &["stats", "stat"],
    &["system_properties", "sysp"],
    &["voting_view"],
    &["watch_summary", "wchs"],
    &["watches", "wchc"],
    &["watches_by_path", "wchp"],
];

/// Added by ZooKeeper behind the others.
const ZAB_STATE: Names = &["zabstate"];

fn names() -> impl Iterator<Item = Names> {
    COMMANDS.into_iter().chain([ZAB_STATE])
}

/// What a command came to.
pub(super) struct Outcome {
    status: StatusCode,
    data: Object,
    error: Option<String>,
}

impl Outcome {
    fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            data: Object::new(),
            error: Some(text.into()),
        }
    }
}

impl From<Object> for Outcome {
    fn from(data: Object) -> Self {
        Self {
            status: StatusCode::OK,
            data,
            error: None,
        }
    }
}

impl From<NotTold> for Outcome {
    fn from(why: NotTold) -> Self {
        // As ZooKeeper, which answers 200 whatever a command's error is.
        Self::error(StatusCode::OK, why.to_string())
    }
}

/// The AdminServer's pages.
pub(super) struct Commands {
    pub(super) asker: Asker,
    pub(super) known: Known,
    /// `admin.commandURL`.
    pub(super) url: String,
    pub(super) snapshots: Snapshots,
}

impl Site for Commands {
    async fn answer(&self, asked: Asked) -> Reply {
        match asked.path.as_str() {
            "/health/live" if asked.is_get() => return health::live(&self.asker).await,
            "/health/ready" if asked.is_get() => return health::ready(&self.asker).await,
            _ => {}
        }
        let within = asked.path.strip_prefix(&self.url);
        let name = match within {
            Some("" | "/") if asked.is_get() => return self.list(),
            Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => {
                let text = format!(
                    "there is nothing here; see {}, /health/live and /health/ready\n",
                    self.url
                );
                return Reply::text(StatusCode::NOT_FOUND, text);
            }
        };
        if asked.method != Method::POST && !asked.is_get() {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST\n");
        }
        self.command(name, &asked).await
    }
}

impl Commands {
    /// Links to every command.
    fn list(&self) -> Reply {
        let mut text = String::new();
        for names in names() {
            let name = names.first().copied().unwrap_or_default();
            let url = &self.url;
            text += &format!("<a href=\"{url}/{name}\">{name}</a>\n<br/>\n");
        }
        Reply::new(StatusCode::OK, "text/html; charset=utf-8", text)
    }

    async fn command(&self, name: &str, asked: &Asked) -> Reply {
        let found = names().find(|names| names.contains(&name));
        let Some(&primary) = found.and_then(<[_]>::first) else {
            let error = format!("Unknown command: {name}");
            return json_reply(name, Outcome::error(StatusCode::OK, error));
        };
        if matches!(primary, "restore" | "snapshot")
            && let Err((status, text)) = self.known.authorise(asked.authorization.as_deref())
        {
            return json_reply(primary, Outcome::error(status, text));
        }
        let posts = primary == "restore";
        if posts == asked.is_get() {
            let expected = if posts { "POST" } else { "GET" };
            let error = format!("expected the method {expected}, found {}", asked.method);
            return json_reply(
                primary,
                Outcome::error(StatusCode::METHOD_NOT_ALLOWED, error),
            );
        }
        if primary == "snapshot" {
            return match self.snapshots.take(&self.asker, asked).await {
                Ok(reply) => reply,
                Err((status, text)) => json_reply(primary, Outcome::error(status, text)),
            };
        }
        let outcome = self.run(primary, asked).await;
        json_reply(primary, outcome.unwrap_or_else(Outcome::from))
    }

    async fn run(&self, primary: &str, asked: &Asked) -> Result<Outcome, NotTold> {
        let mut data = Object::new();
        match primary {
            "configuration" => data = texts::configuration(&self.word("conf").await?),
            "connection_stat_reset" => drop(self.word("crst").await?),
            "connections" => {
                self.put_connections(&mut data, Detail::Full).await?;
            }
            "dirs" => data = texts::directories(&self.word("dirs").await?),
            "dump" => data = texts::dump(&self.word("dump").await?),
            // These two are told by a server without a part, too.
            "environment" => data = self.environment().await,
            "get_trace_mask" => put(
                &mut data,
                "tracemask",
                number(&self.asker.ask("gtmk").await?),
            ),
            "hash" => put(
                &mut data,
                "digests",
                texts::digests(&self.word("hash").await?),
            ),
            "initial_configuration" => {
                self.word("isro").await?;
                put(&mut data, primary, self.known.initial_configuration());
            }
            "is_read_only" => {
                let read_only = self.word("isro").await? == "ro";
                put(&mut data, "read_only", read_only.into());
            }
            "last_snapshot" => {
                self.word("isro").await?;
                data = self.snapshots.last();
            }
            "leader" => return self.leader().await,
            "monitor" => data = texts::monitor(&self.word("mntr").await?),
            // No follower serves observers: there are no statistics to forget.
            "observer_connection_stat_reset" | "ruok" => drop(self.word("isro").await?),
            "observers" => {
                let mntr = self.word("mntr").await?;
                put(
                    &mut data,
                    "synced_observers",
                    texts::metric(&mntr, "synced_observers"),
                );
                put(&mut data, "observers", json!([]));
            }
            "restore" => {
                let error = "restoring over HTTP is not built in this version: stop the server, put \
                             the snapshot into an empty dataDir as version-2/snapshot.ZXID, start";
                return Ok(Outcome::error(StatusCode::SERVICE_UNAVAILABLE, error));
            }
            "server_stats" => self.put_stats(&mut data).await?,
            "set_trace_mask" => return self.set_trace_mask(asked).await,
            "stat_reset" => drop(self.word("srst").await?),
            "stats" => {
                self.put_stats(&mut data).await?;
                self.put_connections(&mut data, Detail::Brief).await?;
            }
            "system_properties" => {
                data = self.environment().await;
                data.sort_keys();
            }
            "voting_view" => {
                let conf = self.word("conf").await?;
                put(
                    &mut data,
                    "current_config",
                    self.members(&conf).voting_view(),
                );
            }
            "watch_summary" => data = texts::watch_summary(&self.word("wchs").await?),
            "watches" => {
                let watches = texts::watches(&self.word("wchc").await?);
                put(&mut data, "session_id_to_watched_paths", watches.into());
            }
            "watches_by_path" => {
                let watches = texts::watches_by_path(&self.word("wchp").await?);
                put(&mut data, "path_to_session_ids", watches.into());
            }
            _ => return self.zab_state().await,
        }
        Ok(data.into())
    }

    /// The answer to a word that needs a server which serves.
    async fn word(&self, word: &'static str) -> Result<String, NotTold> {
        let text = self.asker.ask(word).await?;
        // Source: `IsroCommand`; a machine without a part says `null`.
        if text.trim_end() == NOT_SERVING || (word == "isro" && text == "null") {
            return Err(NotTold::NotServing);
        }
        Ok(text)
    }

    fn members(&self, conf: &str) -> Members {
        Members::of(conf, self.known.clients)
    }

    async fn environment(&self) -> Object {
        match self.asker.ask("envi").await {
            Ok(text) => texts::environment(&text),
            Err(_) => host_facts::environment()
                .into_iter()
                .map(|(key, value)| (key, value.into()))
                .collect(),
        }
    }

    async fn set_trace_mask(&self, asked: &Asked) -> Result<Outcome, NotTold> {
        const EXPECTED: &str = "setTraceMask requires long traceMask argument";
        let wrong = |text: String| Ok(Outcome::error(StatusCode::OK, text));
        let Some(mask) = asked.parameter("traceMask") else {
            return wrong(EXPECTED.to_owned());
        };
        let Ok(mask) = mask.parse() else {
            return wrong(format!("{EXPECTED}, got {mask}"));
        };
        let told = self.asker.ask(set_trace_mask(mask)).await?;
        let mut data = Object::new();
        put(&mut data, "tracemask", number(&told));
        Ok(data.into())
    }

    async fn put_connections(&self, data: &mut Object, detail: Detail) -> Result<(), NotTold> {
        let cons = self.word("cons").await?;
        put(data, "connections", texts::connections(&cons, detail));
        put(data, "secure_connections", json!([]));
        Ok(())
    }

    /// What `srvr` has, of which `mntr` knows more.
    async fn put_stats(&self, data: &mut Object) -> Result<(), NotTold> {
        let (srvr, mntr) = (self.word("srvr").await?, self.word("mntr").await?);
        let dirs = texts::directories(&self.word("dirs").await?);
        let metric = |name: &str| texts::metric(&mntr, name);
        let line = |name: &str| texts::line(&srvr, name);
        let directory = |name: &str| dirs.get(name).cloned().unwrap_or_default();
        let responses = json!({
            "last_buffer_size": metric("last_client_response_size"),
            "min_buffer_size": metric("min_client_response_size"),
            "max_buffer_size": metric("max_client_response_size"),
        });
        put(data, "version", line("Zookeeper version:").into());
        put(data, "read_only", srvr.contains("\nREAD-ONLY mode").into());
        let stats = json!({
            "packets_sent": metric("packets_sent"),
            "packets_received": metric("packets_received"),
            "fsync_threshold_exceed_count": self.known.slow_fsyncs(),
            "client_response_stats": responses,
            "avg_latency": metric("avg_latency"),
            "max_latency": metric("max_latency"),
            "min_latency": metric("min_latency"),
            "outstanding_requests": metric("outstanding_requests"),
            "server_state": line("Mode:"),
            "uptime": metric("uptime"),
            "provider_null": false,
            "data_dir_size": directory("datadir_size"),
            "log_dir_size": directory("logdir_size"),
            "last_processed_zxid": line("Zxid:").and_then(texts::zxid),
            "num_alive_client_connections": metric("num_alive_connections"),
            "auth_failed_count": metric("auth_failed_count"),
            "non_mtlsremote_conn_count": metric("non_mtls_remote_conn_count"),
            "non_mtlslocal_conn_count": metric("non_mtls_local_conn_count"),
        });
        put(data, "server_stats", stats);
        put(data, "client_response", responses);
        if let Some(stats) = texts::proposal_stats(&srvr) {
            put(data, "proposal_stats", stats);
        }
        put(data, "node_count", metric("znode_count"));
        Ok(())
    }

    async fn leader(&self) -> Result<Outcome, NotTold> {
        let srvr = self.word("srvr").await?;
        let mode = texts::line(&srvr, "Mode:").unwrap_or_default();
        if matches!(mode, "standalone" | "read-only") {
            return Ok(Outcome::error(StatusCode::OK, "server is not initialized"));
        }
        let conf = self.word("conf").await?;
        let members = self.members(&conf);
        let leads = mode == "leader";
        let leader = if leads {
            members.me
        } else {
            self.asker.leader().map(|leader| leader.0)
        };
        let mut data = Object::new();
        put(&mut data, "is_leader", leads.into());
        put(&mut data, "leader_id", leader.into());
        let address = leader.and_then(|leader| members.host(leader));
        put(&mut data, "leader_ip", address.unwrap_or_default().into());
        Ok(data.into())
    }

    async fn zab_state(&self) -> Result<Outcome, NotTold> {
        let (srvr, conf) = (self.word("srvr").await?, self.word("conf").await?);
        let mntr = self.word("mntr").await?;
        let members = self.members(&conf);
        let zxid = texts::line(&srvr, "Zxid:").and_then(texts::zxid);
        let zxid = zxid.unwrap_or_default();
        let mode = texts::line(&srvr, "Mode:").unwrap_or_default();
        let state = texts::monitor(&mntr).remove("peer_state");
        let state = state.as_ref().and_then(Value::as_str).unwrap_or_default();
        let (_, state) = state.split_once(" - ").unwrap_or_default();
        let mut data = Object::new();
        if members.me.is_none() {
            put(&mut data, "voting", false.into());
            put(&mut data, "zabstate", "".into());
            return Ok(data.into());
        }
        put(&mut data, "myid", members.me.into());
        put(&mut data, "is_leader", (mode == "leader").into());
        let me = members.me.and_then(|me| members.get(me));
        let quorum = me.map_or(Value::Null, Member::quorum);
        put(&mut data, "quorum_address", quorum);
        let election = me.map_or(Value::Null, Member::election);
        put(&mut data, "election_address", election);
        put(
            &mut data,
            "client_address",
            me.map_or("", |me| &me.client).into(),
        );
        put(&mut data, "voting", me.is_some_and(Member::votes).into());
        put(&mut data, "last_zxid", format!("0x{zxid:x}").into());
        put(&mut data, "zab_epoch", (zxid >> 32).into());
        put(&mut data, "zab_counter", (zxid & 0xffff_ffff).into());
        put(&mut data, "zabstate", state.into());
        Ok(data.into())
    }
}

fn put(data: &mut Object, key: &str, value: Value) {
    data.insert(key.to_owned(), value);
}

fn number(text: &str) -> Value {
    text.trim().parse::<i64>().map_or(Value::Null, Value::from)
}

/// Data first, then the command and what is wrong.
fn json_reply(command: &str, outcome: Outcome) -> Reply {
    let mut object = outcome.data;
    put(&mut object, "command", command.into());
    put(&mut object, "error", outcome.error.into());
    let text = serde_json::to_string_pretty(&Value::Object(object)).unwrap_or_default();
    Reply::new(outcome.status, "application/json", text + "\n")
}
