//! What an operator decides about TLS: which ports speak it, with which keys, trusting whom.
//!
//! Only words are judged here; files are read, and names of cipher suites looked up, by
//! [`tls`](crate::tls).
//!
//! Source: ZooKeeper's `X509Util`, `ClientX509Util`, `QuorumX509Util`, `ZKConfig`.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use zabra_core::server::config::Secure;

use super::{
    draft::{Draft, Settings},
    keys::{I32_MAX, key, number, u32_of},
    listen::{self, Unbound},
    problem::{Problem, shown},
    table::{Effect, Key},
};

/// Keys, trust and rules of one kind of port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// What its settings begin with: `ssl.` or `ssl.quorum.`.
    pub prefix: &'static str,
    /// This server's key and certificate.
    pub key_store: StoreConfig,
    /// Whose certificates are trusted; `None`: nobody's, and none is asked for.
    pub trust_store: Option<StoreConfig>,
    /// `clientAuth`.
    pub client_auth: ClientAuth,
    /// `enabledProtocols`, or `protocol`.
    pub versions: Versions,
    /// `ciphersuites`, by Java's names; `None`: all that are built in.
    pub cipher_suites: Option<Vec<String>>,
    /// `hostnameVerification`: whether a peer's certificate must be of its host.
    pub hostname_verification: bool,
    /// `handshakeDetectionTimeoutMillis`: how long a connection may take to show whether it speaks
    /// TLS.
    pub detection: Duration,
    /// Whether files that change are read again.
    pub reload: bool,
}

/// A file with keys or certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// `location`.
    pub path: PathBuf,
    /// `type`, or what the name ends in.
    pub format: StoreFormat,
    /// What opens it.
    pub password: Password,
}

/// How a file with keys or certificates is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFormat {
    /// Java's own, which is not read: [`tls`](crate::tls) says how to convert it.
    Jks,
    /// `-----BEGIN …`.
    Pem,
    /// `.p12`, `.pfx`.
    Pkcs12,
}

/// A password, or where it is. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The first line of a file, read whenever it is needed.
    File(PathBuf),
    /// There is none.
    None,
    /// As it was given.
    Text(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::None => f.write_str("none"),
            Self::Text(_) => f.write_str("(not shown)"),
        }
    }
}

/// Whether those who connect show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They must.
    Need,
    /// They are not asked.
    None,
    /// They may; if they do, it must be good.
    Want,
}

/// Versions of the protocol; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// TLSv1.2.
    pub tls12: bool,
    /// TLSv1.3.
    pub tls13: bool,
}

/// TLS on the ports for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Keys and rules.
    pub tls: TlsConfig,
    /// `secureClientPort`: where only TLS is spoken. May be empty if `unified`.
    pub listen: Vec<SocketAddr>,
    /// `client.portUnification`: the plain port takes TLS too.
    pub unified: bool,
    /// `netty.server.outstandingHandshake.limit`: handshakes under way above which the oldest is
    /// given up; `None`: the built-in bound.
    pub handshakes_max: Option<usize>,
}

/// TLS between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumTls {
    /// Keys and rules.
    pub tls: TlsConfig,
    /// `sslQuorum`: whether this server speaks TLS to those that it connects to.
    pub dial: bool,
    /// `portUnification`: whether those that connect may go without.
    pub plain_too: bool,
}

/// The keys that decide whether there is TLS, while they are read.
#[derive(Default)]
pub(super) struct TlsDraft {
    pub(super) secure_port: Option<u16>,
    pub(super) secure_address: Option<String>,
    unified: bool,
    reload: bool,
    handshakes_max: Option<usize>,
    ssl_quorum: bool,
    quorum_unified: bool,
    quorum_reload: bool,
    super_user: Option<String>,
}

pub(super) static KEYS: &[Key] = &[
    key("secureClientPort", "", Effect::Text(secure_port)),
    key("secureClientPortAddress", "", Effect::Text(secure_address)),
    key(
        "client.portUnification",
        "false",
        Effect::Switch(|d, on| d.tls.unified = on),
    ),
    key(
        "client.certReload",
        "false",
        Effect::Switch(|d, on| d.tls.reload = on),
    ),
    key(
        "netty.server.outstandingHandshake.limit",
        "-1",
        number(-1, I32_MAX, "handshakes", |d, n| {
            d.tls.handshakes_max = usize::try_from(u32_of(n)).ok().filter(|_| n > 0);
        }),
    ),
    key(
        "X509AuthenticationProvider.superUser",
        "",
        Effect::Text(super_user),
    ),
    key(
        "sslQuorum",
        "false",
        Effect::Switch(|d, on| d.tls.ssl_quorum = on),
    ),
    key(
        "portUnification",
        "false",
        Effect::Switch(|d, on| d.tls.quorum_unified = on),
    ),
    key(
        "sslQuorumReloadCertFiles",
        "false",
        Effect::Switch(|d, on| d.tls.quorum_reload = on),
    ),
    ssl("ssl.keyStore.location"),
    ssl("ssl.keyStore.password").secret(),
    ssl("ssl.keyStore.passwordPath"),
    ssl("ssl.keyStore.type"),
    ssl("ssl.trustStore.location"),
    ssl("ssl.trustStore.password").secret(),
    ssl("ssl.trustStore.passwordPath"),
    ssl("ssl.trustStore.type"),
    ssl("ssl.clientAuth"),
    ssl("ssl.protocol"),
    ssl("ssl.enabledProtocols"),
    ssl("ssl.ciphersuites"),
    ssl("ssl.hostnameVerification"),
    ssl("ssl.handshakeDetectionTimeoutMillis"),
    ssl("ssl.quorum.keyStore.location"),
    ssl("ssl.quorum.keyStore.password").secret(),
    ssl("ssl.quorum.keyStore.passwordPath"),
    ssl("ssl.quorum.keyStore.type"),
    ssl("ssl.quorum.trustStore.location"),
    ssl("ssl.quorum.trustStore.password").secret(),
    ssl("ssl.quorum.trustStore.passwordPath"),
    ssl("ssl.quorum.trustStore.type"),
    ssl("ssl.quorum.clientAuth"),
    ssl("ssl.quorum.protocol"),
    ssl("ssl.quorum.enabledProtocols"),
    ssl("ssl.quorum.ciphersuites"),
    ssl("ssl.quorum.hostnameVerification"),
    ssl("ssl.quorum.handshakeDetectionTimeoutMillis"),
];

/// The same rules for both kinds of ports: read by [`Reader`], once it is known whether they count.
const fn ssl(name: &'static str) -> Key {
    key(name, "", Effect::Tls)
}

const CLIENT: &str = "ssl.";
const QUORUM: &str = "ssl.quorum.";

/// Source: `X509Util.DEFAULT_HANDSHAKE_DETECTION_TIMEOUT_MILLIS`.
const DETECTION_MS: u32 = 5000;

fn secure_port(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    let port = value
        .parse()
        .map_err(|_| "a port from 0 to 65535 (0 lets the system choose)")?;
    draft.tls.secure_port = Some(port);
    Ok(())
}

fn secure_address(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.tls.secure_address = Some(listen::bare_host(value)?);
    Ok(())
}

fn super_user(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    if !value.contains('=') {
        return Err("the subject of a certificate, like CN=admin,O=example");
    }
    draft.tls.super_user = Some(value.to_owned());
    Ok(())
}

impl Draft {
    /// TLS for clients, as far as it was asked for; what is wrong with it goes to the problems.
    pub(super) fn client_tls(&mut self, settings: &Settings) -> Option<ClientTls> {
        let wanted = self.tls.secure_port.is_some() || self.tls.unified;
        if !wanted {
            let why = "there is neither secureClientPort nor client.portUnification, without which \
                       no ssl.* counts";
            self.warn_of_unused(settings, why, |name| {
                !name.starts_with(QUORUM) && name.starts_with(CLIENT)
                    || [
                        "secureClientPortAddress",
                        "X509AuthenticationProvider.superUser",
                    ]
                    .contains(&name)
            });
            return None;
        }
        let mut reader = Reader {
            settings,
            prefix: CLIENT,
            problems: &mut self.problems,
        };
        let cause = if self.tls.secure_port.is_some() {
            "secureClientPort"
        } else {
            "client.portUnification"
        };
        let tls = reader.read(cause, self.tls.reload);
        let listen = match self.tls.secure_port {
            Some(port) => self.secure_addresses(settings, port),
            None => Vec::new(),
        };
        self.core.secure = Some(Secure {
            port: self.tls.secure_port.unwrap_or(0),
            super_user: self.tls.super_user.take(),
        });
        Some(ClientTls {
            tls: tls?,
            listen,
            unified: self.tls.unified,
            handshakes_max: self.tls.handshakes_max,
        })
    }

    /// TLS between servers, likewise.
    pub(super) fn quorum_tls(&mut self, settings: &Settings, alone: bool) -> Option<QuorumTls> {
        let (dial, plain_too) = (self.tls.ssl_quorum, self.tls.quorum_unified);
        if alone {
            let why = "a server that stands alone has no peers";
            self.warn_of_unused(settings, why, |name| {
                name.starts_with(QUORUM)
                    || dial && name == "sslQuorum"
                    || plain_too && name == "portUnification"
            });
            return None;
        }
        if !dial && !plain_too {
            let why = "sslQuorum and portUnification are off, without which no ssl.quorum.* counts";
            self.warn_of_unused(settings, why, |name| name.starts_with(QUORUM));
            return None;
        }
        let mut reader = Reader {
            settings,
            prefix: QUORUM,
            problems: &mut self.problems,
        };
        let cause = if dial { "sslQuorum" } else { "portUnification" };
        let tls = reader.read(cause, self.tls.quorum_reload)?;
        if tls.trust_store.is_none() {
            let text = "is missing: servers that connect to each other check each other's \
                        certificates; name the file with those they are signed by";
            let origin = settings.get(cause).map(|setting| &setting.origin);
            let key = "ssl.quorum.trustStore.location";
            self.problems.push(Problem::new(origin, key, text));
        }
        Some(QuorumTls {
            tls,
            dial,
            plain_too,
        })
    }

    /// Says it once: a file may have a dozen of them.
    fn warn_of_unused(&mut self, settings: &Settings, why: &str, is_one: impl Fn(&str) -> bool) {
        // What is never read has a reason of its own, said elsewhere.
        let unused = settings
            .values()
            .filter(|setting| KEYS.iter().any(|key| key.name == setting.key.name))
            .find(|setting| is_one(&setting.name));
        if let Some(setting) = unused {
            let text = format!("has no effect: {why}");
            let problem = Problem::new(Some(&setting.origin), &setting.name, text);
            self.warnings.push(problem);
        }
    }

    fn secure_addresses(&mut self, settings: &Settings, port: u16) -> Vec<SocketAddr> {
        let unbound = match &self.tls.secure_address {
            Some(_) => Unbound::All,
            None => self.unbound,
        };
        match listen::addresses(self.tls.secure_address.as_deref(), unbound, port) {
            Ok(addresses) => addresses,
            Err(text) => {
                let key = "secureClientPortAddress";
                let origin = settings.get(key).map(|setting| &setting.origin);
                self.problems.push(Problem::new(origin, key, text));
                Vec::new()
            }
        }
    }
}

/// Reads the settings of one prefix.
struct Reader<'a> {
    settings: &'a Settings,
    prefix: &'static str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// `None` with a problem. `cause` is the setting that asks for TLS.
    fn read(&mut self, cause: &str, reload: bool) -> Option<TlsConfig> {
        let before = self.problems.len();
        let key_store = self.store("keyStore");
        if key_store.is_none() && self.problems.len() == before {
            let text = format!(
                "is missing: {cause} needs this server's key and certificate; name the file that \
                 has both"
            );
            let origin = self.settings.get(cause).map(|setting| &setting.origin);
            let name = format!("{}keyStore.location", self.prefix);
            self.problems.push(Problem::new(origin, &name, text));
        }
        let trust_store = self.store("trustStore");
        let client_auth = self.client_auth();
        if trust_store.is_none() && client_auth != Some(ClientAuth::None) && self.prefix == CLIENT {
            let text = "is missing: without it no client's certificate can be trusted; name the \
                        file with the certificates they are signed by, or set ssl.clientAuth=none";
            let origin = self.settings.get(cause).map(|setting| &setting.origin);
            let key = "ssl.trustStore.location";
            self.problems.push(Problem::new(origin, key, text));
        }
        let config = TlsConfig {
            prefix: self.prefix,
            key_store: key_store?,
            trust_store,
            client_auth: client_auth?,
            versions: self.versions()?,
            cipher_suites: self.list("ciphersuites"),
            hostname_verification: self.switch("hostnameVerification", true)?,
            detection: self.detection()?,
            reload,
        };
        (self.problems.len() == before).then_some(config)
    }

    fn store(&mut self, which: &str) -> Option<StoreConfig> {
        let location = format!("{which}.location");
        let path = PathBuf::from(self.value(&location)?);
        let format = self.format(which, &path)?;
        let password = match (
            self.value(&format!("{which}.passwordPath")),
            self.value(&format!("{which}.password")),
        ) {
            (Some(path), _) => Password::File(path.into()),
            (None, Some(text)) => Password::Text(text.to_owned()),
            (None, None) => Password::None,
        };
        Some(StoreConfig {
            path,
            format,
            password,
        })
    }

    /// Source: `KeyStoreFileType.fromPropertyValueOrFileName`.
    fn format(&mut self, which: &str, path: &Path) -> Option<StoreFormat> {
        let name = format!("{which}.type");
        let of_name = |end: &str| match end.to_ascii_lowercase().as_str() {
            "jks" => Some(StoreFormat::Jks),
            "pem" => Some(StoreFormat::Pem),
            "p12" | "pfx" | "pkcs12" => Some(StoreFormat::Pkcs12),
            _ => None,
        };
        if let Some(value) = self.value(&name) {
            let found = of_name(value);
            if found.is_none() {
                let value = shown(value);
                self.refuse(&name, format!("expected PEM, PKCS12 or JKS, found {value}"));
            }
            return found;
        }
        let end = path.extension().unwrap_or_default();
        let found = of_name(&end.to_string_lossy());
        if found.is_none() {
            let text = format!(
                "expected a name that ends in .pem or .p12, found {}; rename it, or set {}{name}",
                shown(&path.display().to_string()),
                self.prefix
            );
            self.refuse(&format!("{which}.location"), text);
        }
        found
    }

    /// Source: `X509Util.ClientAuth`: `need` if it is not said.
    fn client_auth(&mut self) -> Option<ClientAuth> {
        let Some(value) = self.value("clientAuth") else {
            return Some(ClientAuth::Need);
        };
        let found = match value.to_ascii_lowercase().as_str() {
            "need" => Some(ClientAuth::Need),
            "none" => Some(ClientAuth::None),
            "want" => Some(ClientAuth::Want),
            _ => None,
        };
        if found.is_none() {
            let value = shown(value);
            self.refuse(
                "clientAuth",
                format!("expected need, want or none, found {value}"),
            );
        }
        found
    }

    /// Source: `SSLContextAndOptions.getEnabledProtocols`: those, or the one, or both.
    fn versions(&mut self) -> Option<Versions> {
        let (name, list) = match self.list("enabledProtocols") {
            Some(list) => ("enabledProtocols", list),
            None => match self.value("protocol") {
                Some("TLS") | None => {
                    return Some(Versions {
                        tls12: true,
                        tls13: true,
                    });
                }
                Some(one) => ("protocol", vec![one.to_owned()]),
            },
        };
        let has = |version: &str| list.iter().any(|found| found == version);
        let other = list
            .iter()
            .find(|found| !["TLSv1.2", "TLSv1.3"].contains(&found.as_str()));
        if let Some(other) = other {
            let text = format!(
                "expected TLSv1.2 or TLSv1.3, found {}: older ones are not safe, and not spoken \
                 here",
                shown(other)
            );
            self.refuse(name, text);
            return None;
        }
        if list.is_empty() {
            self.refuse(name, "expected TLSv1.2 or TLSv1.3, found nothing".into());
            return None;
        }
        Some(Versions {
            tls12: has("TLSv1.2"),
            tls13: has("TLSv1.3"),
        })
    }

    fn detection(&mut self) -> Option<Duration> {
        let name = "handshakeDetectionTimeoutMillis";
        let Some(value) = self.value(name) else {
            return Some(Duration::from_millis(DETECTION_MS.into()));
        };
        match value.parse::<u32>() {
            Ok(ms) if (1..=600_000).contains(&ms) => Some(Duration::from_millis(ms.into())),
            Ok(_) | Err(_) => {
                let text = format!(
                    "expected a whole number of milliseconds from 1 to 600000, found {}",
                    shown(value)
                );
                self.refuse(name, text);
                None
            }
        }
    }

    fn switch(&mut self, name: &str, default: bool) -> Option<bool> {
        match self.value(name).map(str::to_ascii_lowercase).as_deref() {
            None => Some(default),
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                let text = format!("expected true or false, found {}", shown(other));
                self.refuse(name, text);
                None
            }
        }
    }

    fn list(&self, name: &str) -> Option<Vec<String>> {
        let items = self.value(name)?.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        Some(items.map(str::to_owned).collect())
    }

    fn value(&self, name: &str) -> Option<&str> {
        let setting = self.settings.get(&format!("{}{name}", self.prefix))?;
        Some(setting.value.trim()).filter(|value| !value.is_empty())
    }

    fn refuse(&mut self, name: &str, text: String) {
        let name = format!("{}{name}", self.prefix);
        let origin = self.settings.get(&name).map(|setting| &setting.origin);
        self.problems.push(Problem::new(origin, &name, text));
    }
}
