//! Connecting to another server.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use zabra_core::link::Endpoint;

use super::resolve::Resolver;

type Boxed<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + 'a>>;

/// Connects to the first of all addresses of `to` that answers, and says by which host it was
/// found. The other attempts are dropped.
///
/// # Errors
///
/// Why it is none of them, as clauses for a log line.
pub(super) async fn connect(
    resolver: &Resolver,
    to: &[Endpoint],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr, String), Vec<String>> {
    let limit = Limit {
        ms: limit.as_millis(),
        end: Instant::now() + limit,
    };
    let attempts = to.iter().map(|endpoint| {
        let attempt: Boxed<'_, _, _> = Box::pin(connect_endpoint(resolver, endpoint, limit));
        attempt
    });
    let reasons = first(attempts.collect()).await;
    reasons.map_err(|reasons| reasons.into_iter().flatten().collect())
}

#[derive(Clone, Copy)]
struct Limit {
    ms: u128,
    end: Instant,
}

async fn connect_endpoint(
    resolver: &Resolver,
    to: &Endpoint,
    limit: Limit,
) -> Result<(TcpStream, SocketAddr, String), Vec<String>> {
    let ms = limit.ms;
    let addrs = match timeout_at(limit.end, resolver.resolve(&to.host, to.port)).await {
        Ok(Ok(addrs)) => addrs,
        Ok(Err(error)) => return Err(vec![format!("{to}: {error}")]),
        Err(_) => {
            let reason = format!("{to}: the name was not resolved within {ms} ms");
            return Err(vec![reason]);
        }
    };
    let attempts = addrs.into_iter().map(|addr| {
        let attempt: Boxed<'_, _, _> = Box::pin(async move {
            let place = place(to, addr);
            match timeout_at(limit.end, connect_addr(addr)).await {
                Ok(Ok(stream)) => Ok((stream, addr, to.host.clone())),
                Ok(Err(error)) => Err(format!("{place}: {error}")),
                Err(_) => Err(format!("{place}: no answer within {ms} ms")),
            }
        });
        attempt
    });
    first(attempts.collect()).await
}

async fn connect_addr(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    // Where nobody listens on a port of those that the system gives out, it may give out just that
    // one, and TCP connects it with itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// An endpoint, and its address where that says more.
fn place(to: &Endpoint, addr: SocketAddr) -> String {
    let (to, addr) = (to.to_string(), addr.to_string());
    if to == addr {
        to
    } else {
        format!("{to} ({addr})")
    }
}

/// The first success of all, or every failure in the order of the attempts.
async fn first<T, E>(attempts: Vec<Boxed<'_, T, E>>) -> Result<T, Vec<E>> {
    let mut attempts: Vec<_> = attempts.into_iter().map(Attempt::UnderWay).collect();
    let won = poll_fn(|cx| {
        let mut waiting = false;
        for attempt in &mut attempts {
            if let Attempt::UnderWay(future) = attempt {
                match future.as_mut().poll(cx) {
                    Poll::Ready(Ok(value)) => return Poll::Ready(Some(value)),
                    Poll::Ready(Err(error)) => *attempt = Attempt::Failed(error),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(None)
        }
    })
    .await;
    won.ok_or_else(|| attempts.into_iter().filter_map(Attempt::failure).collect())
}

enum Attempt<'a, T, E> {
    UnderWay(Boxed<'a, T, E>),
    Failed(E),
}

impl<T, E> Attempt<'_, T, E> {
    fn failure(self) -> Option<E> {
        match self {
            Self::UnderWay(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}
