//! Keys and trust, ready for connections, and read again when their files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::error::TlsError;
use super::stores::{identity, trusted};
use super::subject::not_after;
use super::suites::{provider, versions};
use super::trust::Trust;
use crate::config::tls::{Password, TlsConfig};

/// Plaintext that one connection holds encrypted for its socket at once, at most.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// What connections of one kind of port are made with. Shared between threads; what is read again
/// counts for those that are opened after it.
#[derive(Debug)]
pub struct Context {
    config: TlsConfig,
    current: RwLock<Loaded>,
    /// Of the files as they were first read, or before.
    stamps: Stamps,
}

#[derive(Clone, Debug)]
struct Loaded {
    server: Arc<ServerConfig>,
    /// To connect to other servers; only with a trust store.
    client: Option<Arc<ClientConfig>>,
    /// When the first of our own certificates ends, in seconds since 1970.
    ends: i64,
}

/// When files were last changed, as far as the system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Context {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn load(config: TlsConfig) -> Result<Self, TlsError> {
        let stamps = Stamps::of(&config);
        let current = Loaded::read(&config)?;
        Ok(Self {
            config,
            current: RwLock::new(current),
            stamps,
        })
    }

    /// Reads the files again; if there is anything wrong with them, all stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Context::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.config)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// What it was made from.
    pub const fn config(&self) -> &TlsConfig {
        &self.config
    }

    /// When the first certificate of this server's own chain ends, in seconds since 1970.
    pub fn ends(&self) -> i64 {
        self.current().ends
    }

    /// The server's end of a connection.
    ///
    /// # Errors
    ///
    /// When there is no entropy.
    pub fn accept(&self) -> Result<rustls::Connection, rustls::Error> {
        let mut connection = ServerConnection::new(self.current().server)?;
        connection.set_buffer_limit(Some(SEND_BYTES_MAX));
        Ok(connection.into())
    }

    /// The client's end of a connection to this host.
    ///
    /// # Errors
    ///
    /// When the host is no name, or nobody is trusted.
    pub fn connect(&self, host: &str) -> Result<rustls::Connection, String> {
        let Some(client) = self.current().client else {
            let prefix = self.config.prefix;
            return Err(format!("{prefix}trustStore.location is not set"));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(client, name);
        let mut connection = connection.map_err(|error| error.to_string())?;
        connection.set_buffer_limit(Some(SEND_BYTES_MAX));
        Ok(connection.into())
    }

    fn current(&self) -> Loaded {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How its files were before they were first read, and how they are at the moment.
    pub(super) fn stamps(&self) -> (Stamps, Stamps) {
        (self.stamps.clone(), Stamps::of(&self.config))
    }
}

impl Stamps {
    fn of(config: &TlsConfig) -> Self {
        let stores = [Some(&config.key_store), config.trust_store.as_ref()];
        let paths = stores.into_iter().flatten().flat_map(|store| {
            let password = match &store.password {
                Password::File(path) => Some(path.as_path()),
                Password::None | Password::Text(_) => None,
            };
            [Some(store.path.as_path()), password]
        });
        let stamp = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        let paths = paths.flatten();
        Self(paths.map(|path| (path.into(), stamp(path))).collect())
    }
}

impl Loaded {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let prefix = config.prefix;
        let key_setting = format!("{prefix}keyStore");
        let provider = provider(config)?;
        let versions = versions(config, &provider);
        let own = identity(&config.key_store, &key_setting)?;
        let ends = own.chain.iter().filter_map(not_after).min();
        let trust_setting = format!("{prefix}trustStore");
        let trust = match &config.trust_store {
            Some(store) => {
                let setting = format!("{trust_setting}.location");
                let trust = Trust::new(trusted(store, &trust_setting)?, &setting);
                Some(trust.map_err(|error| error.at(&store.path))?)
            }
            None => None,
        };
        let wrong_trust = |text| TlsError::new(format!("{trust_setting}.location"), text);
        let wrong_key = |error: rustls::Error| {
            let text = format!("the key and its certificate cannot be used: {error}");
            TlsError::new(format!("{key_setting}.location"), text).at(&config.key_store.path)
        };

        let clients = match &trust {
            Some(trust) => trust
                .of_clients(config.client_auth, &provider)
                .map_err(wrong_trust)?,
            None => None,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(wrong_key)?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder
            .with_single_cert(own.chain.clone(), own.key.clone_key())
            .map_err(wrong_key)?;
        // Whoever comes again shows a certificate again, and nothing is kept for those who do not.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let client = match &trust {
            Some(trust) => {
                let servers = trust.of_servers(config.hostname_verification, &provider);
                let mut client = ClientConfig::builder_with_provider(provider)
                    .with_protocol_versions(&versions)
                    .map_err(wrong_key)?
                    .dangerous()
                    .with_custom_certificate_verifier(servers.map_err(wrong_trust)?)
                    .with_client_auth_cert(own.chain, own.key)
                    .map_err(wrong_key)?;
                client.resumption = Resumption::disabled();
                Some(Arc::new(client))
            }
            None => None,
        };
        Ok(Self {
            server: server.into(),
            client,
            ends: ends.unwrap_or(i64::MAX),
        })
    }
}
