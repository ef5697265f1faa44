//! What TLS costs a server: the same reads, plain and encrypted in turn, against one server. Prints
//! the rounds and their median; `cargo bench -p zabra --bench tls`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops, and tells what it found"
)]

#[path = "../tests/support"]
#[expect(dead_code, reason = "tests use other parts of it")]
mod support {
    pub(crate) mod certs;
    pub(crate) mod process;
    pub(crate) mod wire;
}

use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use support::certs::{Authority, stores};
use support::process::{Directory, Kind, Server, free_address};
use support::wire::{Acl, Client, Reader, Writer, flags, op};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 4;
const OUTSTANDING: i32 = 64;
const SIZES: [usize; 2] = [100, 10_000];
const SESSION_MS: i32 = 30_000;

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

fn main() {
    let home = Directory::new("bench-tls");
    let authority = Authority::new("authority");
    let key = authority
        .certify("server", &["localhost"])
        .write(&home.path().join("server.pem"));
    let trust = home.path().join("trust.pem");
    fs::write(&trust, &authority.pem).unwrap();
    let secure = free_address();
    let [key, trust] = stores("ssl.", &key, &trust);
    let port = format!("secureClientPort={}", secure.port());
    let server = Server::start(
        Kind::Zabra,
        home.path(),
        &[&key, &trust, &port, "ssl.clientAuth=none"],
    );
    let mut client = Client::open(server.address, SESSION_MS).unwrap();
    let config = client_config(&authority);
    for size in SIZES {
        let path = format!("/{size}");
        let data = vec![b'x'; size];
        client
            .create(&path, Some(&data), &Acl::open(), flags::PERSISTENT)
            .unwrap();
        println!("getData of {size} bytes: operations per second, server CPU per operation");
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let plain = measure(&server, &path, || connect_plain(server.address));
            let tls = measure(&server, &path, || connect_tls(secure, &config));
            println!("  plain {plain}, TLS {tls}");
            ratios.push((tls.per_second / plain.per_second, plain.cpu_us / tls.cpu_us));
            client.ping().unwrap();
        }
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let (speed, cpu) = ratios.into_iter().unzip();
        println!(
            "  TLS to plain, median: {:.2} of the speed; {:.2} by the server's CPU",
            median(speed),
            median(cpu)
        );
    }
}

struct Found {
    per_second: f64,
    cpu_us: f64,
}

impl core::fmt::Display for Found {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:.0}/s {:.2} us", self.per_second, self.cpu_us)
    }
}

fn measure(server: &Server, path: &str, connect: impl Fn() -> Box<dyn Stream>) -> Found {
    let streams: Vec<_> = (0..CONNECTIONS).map(|_| opened(connect())).collect();
    let before = server.processor_ticks().unwrap();
    let begun = Instant::now();
    let tasks = streams.into_iter().map(|mut stream| {
        let path = path.to_owned();
        thread::spawn(move || {
            let mut count = 0_u32;
            while begun.elapsed() < ROUND {
                count += batch(&mut stream, &path);
            }
            count
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let count: u32 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
    let took = begun.elapsed().as_secs_f64();
    // A tick is 10 ms on Linux.
    let cpu = u32::try_from(server.processor_ticks().unwrap() - before).unwrap();
    Found {
        per_second: f64::from(count) / took,
        cpu_us: f64::from(cpu) * 10_000.0 / f64::from(count),
    }
}

/// As many requests as may be outstanding, and all their answers.
fn batch(stream: &mut Box<dyn Stream>, path: &str) -> u32 {
    let mut requests = Vec::new();
    for xid in 1..=OUTSTANDING {
        let mut request = Writer::default();
        request.int(xid).int(op::GET_DATA).text(path).byte(0);
        frame(&mut requests, request.bytes());
    }
    stream.write_all(&requests).unwrap();
    stream.flush().unwrap();
    for xid in 1..=OUTSTANDING {
        let reply = answer(stream);
        let mut reply = Reader(&reply);
        let (found, _zxid) = (reply.int().unwrap(), reply.long().unwrap());
        assert_eq!((found, reply.int().unwrap()), (xid, 0));
    }
    OUTSTANDING.unsigned_abs()
}

fn opened(mut stream: Box<dyn Stream>) -> Box<dyn Stream> {
    let mut request = Writer::default();
    let (timeout, password) = (SESSION_MS, [0; 16]);
    request.int(0).long(0).int(timeout).long(0);
    request.buffer(Some(&password)).byte(0);
    let mut bytes = Vec::new();
    frame(&mut bytes, request.bytes());
    stream.write_all(&bytes).unwrap();
    stream.flush().unwrap();
    answer(&mut stream);
    Box::new(Buffered::new(stream))
}

/// Reads much at once, as clients do.
struct Buffered {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    at: usize,
}

impl Buffered {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            read: Vec::new(),
            at: 0,
        }
    }
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.read.len() {
            self.read.resize(64 * 1024, 0);
            let count = self.stream.read(&mut self.read)?;
            self.read.truncate(count);
            self.at = 0;
        }
        let mut rest = self.read.get(self.at..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn frame(bytes: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
}

fn answer(stream: &mut Box<dyn Stream>) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    payload
}

fn connect_plain(address: SocketAddr) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    Box::new(stream)
}

fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    Box::new(StreamOwned::new(tls, stream))
}

fn client_config(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.into()
}
