//! Why a server did not start, or stopped.

use core::net::SocketAddr;
use std::{error, fmt, io, path::PathBuf};

use zabra_core::link::{Endpoint, Port};

use crate::config::Problems;
use crate::tls::TlsError;

/// What the environment or the operator did to us. Messages say what was wrong, where, and what to
/// do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be listened on.
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An address at which peers would connect could not be listened on.
    BindPeer {
        /// What for.
        port: Port,
        /// The address, as the membership says it.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The configuration is wrong.
    Config(Problems),
    /// The core is to be a WebAssembly module, and that cannot be had.
    CoreModule(Box<dyn error::Error + Send + Sync>),
    /// The core, a WebAssembly module, gives up whenever it opens what is on disk.
    CoreTrapped {
        /// Which.
        module: String,
        /// How it ended.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// The system refused threads, timers or signals.
    Runtime(io::Error),
    /// Keys or certificates for TLS cannot be used.
    Tls(TlsError),
    /// Data could not be read or written, or is damaged.
    Store {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the operator must change the configuration, so that starting again is of no use.
    #[must_use]
    pub const fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::CoreModule(_) | Self::Tls(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } => {
                write!(f, "cannot listen on {address}: {source}")?;
                f.write_str(bind_remedy(source.kind()))
            }
            Self::BindPeer {
                port,
                endpoint,
                source,
            } => {
                let what = match port {
                    Port::Client => "clients",
                    Port::Election => "elections",
                    Port::Quorum => "learners",
                };
                write!(f, "cannot listen for {what} on {endpoint}: {source}")?;
                f.write_str(bind_peer_remedy(source.kind()))
            }
            Self::Config(problems) => write!(f, "{problems}"),
            Self::CoreModule(source) => source.fmt(f),
            Self::CoreTrapped { module, source } => write!(
                f,
                "{module}: cannot open what is on disk, which is as it was: {source}; take another \
                 core, or the native one"
            ),
            Self::Runtime(source) => write!(f, "the system refused a thread or a timer: {source}"),
            Self::Tls(source) => source.fmt(f),
            Self::Store { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

fn bind_remedy(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::AddrInUse {
        "; stop the server that is there, or choose another port with --client-port or clientPort"
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "; no interface of this machine has this address, see --client-port-address or \
         clientPortAddress"
    } else if kind == io::ErrorKind::PermissionDenied {
        "; this user may not use the port, choose one above 1023"
    } else {
        ""
    }
}

fn bind_peer_remedy(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::AddrInUse {
        "; stop the server that is there, or choose another port for this server's line server.N"
    } else if kind == io::ErrorKind::PermissionDenied {
        "; this user may not use the port, choose one above 1023"
    } else {
        // A name that is not known, an address of another machine.
        "; correct this server's line server.N, or see quorumListenOnAllIPs"
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::BindPeer { source, .. } | Self::Runtime(source) => {
                Some(source)
            }
            Self::Config(problems) => Some(problems),
            Self::Tls(source) => Some(source),
            Self::CoreModule(source)
            | Self::CoreTrapped { source, .. }
            | Self::Store { source, .. } => Some(source.as_ref()),
        }
    }
}

impl From<TlsError> for Error {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_where_and_what_to_do() {
        let bind = |kind: io::ErrorKind| Error::Bind {
            address: SocketAddr::from(([127, 0, 0, 1], 2181)),
            source: kind.into(),
        };
        for (error, expected) in [
            (
                bind(io::ErrorKind::AddrInUse),
                "cannot listen on 127.0.0.1:2181: address in use; stop the server that is \
                 there, or \
                 choose another port with --client-port or clientPort",
            ),
            (
                bind(io::ErrorKind::PermissionDenied),
                "cannot listen on 127.0.0.1:2181: permission denied; this user may not use \
                 the port, \
                 choose one above 1023",
            ),
            (
                bind(io::ErrorKind::AddrNotAvailable),
                "cannot listen on 127.0.0.1:2181: address not available; no interface of this \
                 machine has this address, see --client-port-address or clientPortAddress",
            ),
            (
                Error::BindPeer {
                    port: Port::Election,
                    endpoint: Endpoint {
                        host: "zk1".into(),
                        port: 3888,
                    },
                    source: io::ErrorKind::AddrInUse.into(),
                },
                "cannot listen for elections on zk1:3888: address in use; stop the server that is \
                 there, or choose another port for this server's line server.N",
            ),
            (
                Error::Store {
                    path: "/data/version-2/log.1".into(),
                    source: "bad checksum at byte 16".into(),
                },
                "/data/version-2/log.1: bad checksum at byte 16",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
}
