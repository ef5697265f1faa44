//! Names to addresses, away from the driver's thread.

use core::cell::RefCell;
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::spawn_local;

/// What a name service said, in words if it failed: several wait for one answer.
type Answer = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Asks the system for addresses, anew each time; nothing is kept.
///
/// A clone is the same. Lookups cannot be cancelled and each holds a thread, perhaps for minutes:
/// whoever asks for a name that is being looked up waits for that answer, so there are never more
/// threads than names.
#[derive(Clone, Default)]
pub(super) struct Resolver {
    under_way: Rc<RefCell<BTreeMap<String, watch::Receiver<Option<Answer>>>>>,
}

impl Resolver {
    /// All addresses of a host, which may be an address itself.
    ///
    /// # Errors
    ///
    /// When there is none, or the name service does not answer.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let mut asked = self.ask(host);
        let answer = match asked.wait_for(Option::is_some).await {
            Ok(answer) => (*answer).clone(),
            Err(_) => None,
        };
        let unanswered = || Err((io::ErrorKind::Other, "the lookup was given up".to_owned()));
        let found = answer.unwrap_or_else(unanswered);
        let mut addrs = found.map_err(|(kind, text)| {
            io::Error::new(kind, format!("the name cannot be resolved: {text}"))
        })?;
        for addr in &mut addrs {
            addr.set_port(port);
        }
        addrs.sort_unstable();
        addrs.dedup();
        if addrs.is_empty() {
            let text = "the name has no address";
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(addrs)
    }

    fn ask(&self, host: &str) -> watch::Receiver<Option<Answer>> {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(asked) = under_way.get(host) {
            return asked.clone();
        }
        let (answered, asked) = watch::channel(None);
        under_way.insert(host.to_owned(), asked.clone());
        let (resolver, host) = (self.clone(), host.to_owned());
        // Dropping the handle detaches the task.
        drop(spawn_local(async move {
            let found = lookup_host((host.as_str(), 0)).await;
            resolver.under_way.borrow_mut().remove(&host);
            let found = found
                .map(Iterator::collect)
                .map_err(|error| (error.kind(), error.to_string()));
            // Whoever asked may have given up.
            let _ = answered.send(Some(found));
        }));
        asked
    }
}
