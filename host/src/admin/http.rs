//! HTTP/1.1 for people and programs who look after a server: few connections, short heads, no
//! request bodies.
//!
//! It runs on a thread of its own: whatever comes here never delays the driver.

use core::convert::Infallible;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use super::idle::Idle;

/// Connections at a time; more are closed as soon as they come. A scraper needs one.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take to come.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long accepting pauses when the system refuses it: it has no more files for us.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a request says that counts here.
pub(super) struct Asked {
    pub(super) method: Method,
    /// Without a query.
    pub(super) path: String,
    /// What is behind `?`, not decoded.
    pub(super) query: String,
    /// `Authorization`.
    pub(super) authorization: Option<String>,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) content: Content,
}

/// What it holds.
pub(super) enum Content {
    Whole(Bytes),
    /// The pieces of a file and the bytes of it that are still to come.
    File(mpsc::Receiver<io::Result<Bytes>>, u64),
}

impl Reply {
    pub(super) fn new(
        status: StatusCode,
        content_type: &'static str,
        content: impl Into<Bytes>,
    ) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            content: Content::Whole(content.into()),
        }
    }

    /// A sentence, for whoever typed an address.
    pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text)
    }

    fn into_http(self) -> Response<Content> {
        let mut response = Response::new(self.content);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let sniff = HeaderName::from_static("x-content-type-options");
        headers.insert(sniff, HeaderValue::from_static("nosniff"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => {
                let bytes = core::mem::take(bytes);
                let frame = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)));
                Poll::Ready(frame)
            }
            Self::File(pieces, left) => pieces.poll_recv(cx).map(|piece| {
                let piece = piece?.inspect(|bytes| *left = left.saturating_sub(bytes.len() as u64));
                Some(piece.map(Frame::data))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::File(_, left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::File(_, left) => *left,
        })
    }
}

/// What is behind a listener.
pub(super) trait Site: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, asked: Asked) -> impl Future<Output = Reply> + Send;
}

/// Answers whoever connects, until the runtime is gone.
pub(super) async fn serve(listener: TcpListener, idle: Duration, site: impl Site) {
    let site = Arc::new(site);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            // Closed at once: who is there already goes on being served.
            continue;
        };
        let busy = Arc::new(AtomicBool::new(false));
        let stream = TokioIo::new(Idle::new(stream, idle, Arc::clone(&busy)));
        let site = Arc::clone(&site);
        let service = service_fn(move |request: Request<Incoming>| {
            let (site, busy) = (Arc::clone(&site), Busy::new(&busy));
            async move {
                let reply = site.answer(Asked::new(&request)).await;
                drop(busy);
                Ok::<_, Infallible>(reply.into_http())
            }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(stream, service);
            // Whatever its peer did wrong, it was told, or is gone.
            let _ = connection.await;
            drop(place);
        });
    }
}

/// An answer is being made for as long as this lives.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(busy: &Arc<AtomicBool>) -> Self {
        busy.store(true, Ordering::Relaxed);
        Self(Arc::clone(busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Asked {
    fn new<B>(request: &Request<B>) -> Self {
        let authorization = request.headers().get(AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok());
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            authorization: authorization.map(str::to_owned),
        }
    }

    /// Whether it only wants to look.
    pub(super) fn is_get(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// The first value of a parameter, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key) == name).then(|| decoded(value))
        })
    }
}

/// `%41` and `+` decoded. What is no such thing stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hex = rest.strip_prefix('%').and_then(|rest| rest.get(..2));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = rest.get(3..).unwrap_or_default();
            continue;
        }
        let mut room = [0; 4];
        let plain = if first == '+' { ' ' } else { first };
        bytes.extend_from_slice(plain.encode_utf8(&mut room).as_bytes());
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let asked = Asked {
            method: Method::GET,
            path: String::new(),
            query: "a=1&traceMask=%33+0%zz%&a=2&b".to_owned(),
            authorization: None,
        };
        assert_eq!(asked.parameter("a").as_deref(), Some("1"));
        assert_eq!(asked.parameter("traceMask").as_deref(), Some("3 0%zz%"));
        assert_eq!(asked.parameter("b").as_deref(), Some(""));
        assert_eq!(asked.parameter("c"), None);
    }
}
