//! What an orchestrator asks: whether to restart this server, and whether to send clients to it.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::ask::{Asker, NotTold};
use super::http::Reply;

/// Whether the process does its work: its core answers, or is being made anew from disk.
///
/// A server without a leader lives: restarting it would not bring one.
pub(super) async fn live(asker: &Asker) -> Reply {
    match asker.ask("ruok").await {
        Ok(_) => reply(StatusCode::OK, "live", true, "the core answers"),
        Err(NotTold::NotServing) => reply(
            StatusCode::OK,
            "live",
            true,
            "the state is being read from disk",
        ),
        Err(why @ (NotTold::Busy | NotTold::Late)) => reply(
            StatusCode::SERVICE_UNAVAILABLE,
            "live",
            false,
            &why.to_string(),
        ),
    }
}

/// Whether clients are served, reads and writes.
pub(super) async fn ready(asker: &Asker) -> Reply {
    let refused = |why: &str| reply(StatusCode::SERVICE_UNAVAILABLE, "ready", false, why);
    match asker.ask("isro").await.as_deref() {
        Ok("rw") => reply(StatusCode::OK, "ready", true, "clients are served"),
        Ok("ro") => refused("there is no leader: only clients that ask for no more may read"),
        Ok(_) => refused("there is no leader, or the state is still on its way"),
        Err(NotTold::NotServing) => refused("the state is being read from disk"),
        Err(why) => refused(&why.to_string()),
    }
}

fn reply(status: StatusCode, key: &str, is: bool, reason: &str) -> Reply {
    let mut object = serde_json::Map::new();
    object.insert(key.to_owned(), is.into());
    object.insert("reason".to_owned(), json!(reason));
    let text = Value::Object(object).to_string();
    Reply::new(status, "application/json", text + "\n")
}
