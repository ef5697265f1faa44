//! Who looks after a server, and how: the AdminServer, metrics, the audit log.

use core::time::Duration;
use std::path::PathBuf;

use super::{
    draft::{Draft, Settings},
    keys::{I32_MAX, key, number, path, u32_of},
    problem::{Problem, shown},
    table::{self, Effect, Key, Severity},
};

/// The AdminServer: HTTP for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// `admin.serverAddress`: a name or an address; ours is loopback unless told otherwise.
    pub host: String,
    /// `admin.serverPort`.
    pub port: u16,
    /// `admin.commandURL`.
    pub url: String,
    /// `admin.idleTimeout`: a connection on which nothing happens is closed after it.
    pub idle: Duration,
    /// `admin.snapshot.enabled`.
    pub snapshots: bool,
    /// `admin.rateLimiterIntervalInMS`: the least time between two snapshots that are asked for.
    pub rate_interval: Duration,
    /// Whether anybody decided on it: if nobody did, a port that is taken is nothing to warn of.
    pub wished: bool,
}

/// Where metrics are had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `metricsProvider.httpHost`.
    pub host: String,
    /// `metricsProvider.httpPort`.
    pub port: u16,
    /// `metricsProvider.exportJvmInfo`: there is no JVM, but a process.
    pub process: bool,
}

/// Who did what with what result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// `audit.format`.
    pub format: AuditFormat,
    /// `audit.file`; `None` is standard error.
    pub file: Option<PathBuf>,
}

/// How a line of the audit log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditFormat {
    /// A JSON object.
    Json,
    /// ZooKeeper's: `key=value`, with tabs between.
    #[default]
    Text,
}

const PROMETHEUS: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
/// Source: `MetricsProviderBootstrap`; the first only feeds `mntr`, which here needs no provider.
const NO_PROVIDERS: [&str; 2] = [
    "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
    "org.apache.zookeeper.metrics.impl.NullMetricsProvider",
];

const ADMIN_TLS: &str = "the AdminServer has no TLS in this version";
const METRICS_TLS: &str = "metrics have no TLS in this version";

pub(super) static KEYS: &[Key] = &[
    key(
        "admin.enableServer",
        "true",
        Effect::Switch(|d, on| d.admin.enabled = on),
    ),
    key(
        "admin.serverAddress",
        "",
        Effect::Text(|d, v| host(&mut d.admin.host, v)),
    ),
    key(
        "admin.serverPort",
        "8080",
        number(0, 65_535, "ports", |d, n| d.admin.port = port(n)),
    ),
    key("admin.commandURL", "/commands", Effect::Text(command_url)),
    key(
        "admin.idleTimeout",
        "30000",
        number(1, I32_MAX, "milliseconds", |d, n| {
            d.admin.idle_ms = u32_of(n)
        }),
    ),
    key(
        "admin.rateLimiterIntervalInMS",
        "300000",
        number(0, I32_MAX, "milliseconds", |d, n| {
            d.admin.rate_ms = u32_of(n)
        }),
    ),
    key(
        "admin.snapshot.enabled",
        "true",
        Effect::Switch(|d, on| d.admin.snapshots = on),
    ),
    key(
        "admin.restore.enabled",
        "",
        fixed(
            &["true", "false"],
            Severity::Warning,
            "restoring over HTTP is not built in this version",
        ),
    ),
    key(
        "admin.httpVersion",
        "11",
        fixed(
            &["11"],
            Severity::Warning,
            "the AdminServer speaks HTTP/1.1",
        ),
    ),
    key(
        "admin.portUnification",
        "false",
        fixed(&["false"], Severity::Warning, ADMIN_TLS),
    ),
    key(
        "admin.forceHttps",
        "false",
        fixed(&["false"], Severity::Error, ADMIN_TLS),
    ),
    key(
        "admin.needClientAuth",
        "false",
        fixed(&["false"], Severity::Error, ADMIN_TLS),
    ),
    key(
        "IPAuthenticationProvider.usexforwardedfor",
        "false",
        fixed(
            &["false"],
            Severity::Warning,
            "the AdminServer authorises nobody by an address",
        ),
    ),
    key("metricsProvider.className", "", Effect::Lenient(provider)),
    key(
        "metricsProvider.httpHost",
        "0.0.0.0",
        Effect::Text(|d, v| host(&mut d.metrics.host, v)),
    ),
    key(
        "metricsProvider.httpPort",
        "-1",
        number(-1, 65_535, "ports", |d, n| {
            d.metrics.port = (n >= 0).then(|| port(n));
        }),
    ),
    key(
        "metricsProvider.exportJvmInfo",
        "true",
        Effect::Switch(|d, on| d.metrics.process = on),
    ),
    key(
        "metricsProvider.httpsPort",
        "-1",
        fixed(&["-1"], Severity::Error, METRICS_TLS),
    ),
    key(
        "metricsProvider.ssl.*",
        "",
        fixed(&[], Severity::Warning, METRICS_TLS),
    ),
    key(
        "metricsProvider.*",
        "",
        fixed(
            &[],
            Severity::Warning,
            "metrics are made when they are asked for, which needs no tuning",
        ),
    ),
    key(
        "audit.enable",
        "false",
        Effect::Switch(|d, on| d.audit.enabled = on),
    ),
    // Ours.
    key("audit.format", "text", Effect::Text(audit_format)),
    key(
        "audit.file",
        "",
        Effect::Text(|d, v| path(&mut d.audit.file, v)),
    ),
    key(
        "audit.impl.class",
        "",
        fixed(
            &[],
            Severity::Warning,
            "there is one kind of audit log: see audit.format and audit.file",
        ),
    ),
];

/// The settings of the AdminServer while they are read.
pub(super) struct AdminDraft {
    enabled: bool,
    host: Option<String>,
    port: u16,
    url: String,
    idle_ms: u32,
    snapshots: bool,
    rate_ms: u32,
}

impl Default for AdminDraft {
    fn default() -> Self {
        Self {
            enabled: true,
            host: None,
            port: 8080,
            url: "/commands".to_owned(),
            idle_ms: 30_000,
            snapshots: true,
            rate_ms: 300_000,
        }
    }
}

/// Those of metrics.
pub(super) struct MetricsDraft {
    wanted: bool,
    host: Option<String>,
    port: Option<u16>,
    process: bool,
}

impl Default for MetricsDraft {
    fn default() -> Self {
        Self {
            wanted: false,
            host: None,
            port: None,
            process: true,
        }
    }
}

/// Those of the audit log.
#[derive(Default)]
pub(super) struct AuditDraft {
    enabled: bool,
    format: AuditFormat,
    file: Option<PathBuf>,
}

const fn fixed(fine: &'static [&'static str], severity: Severity, why: &'static str) -> Effect {
    Effect::Fixed {
        fine,
        severity,
        why,
    }
}

fn port(number: i64) -> u16 {
    u16::try_from(number).unwrap_or(0)
}

fn host(slot: &mut Option<String>, value: &str) -> Result<(), &'static str> {
    let bare = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(value);
    if bare.is_empty() || bare.contains(|c: char| c.is_whitespace() || "[]/,".contains(c)) {
        return Err("one IP address or host name, without a port");
    }
    *slot = Some(bare.to_owned());
    Ok(())
}

fn command_url(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    let value = value.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !value.starts_with('/') || !value.chars().all(plain) {
        return Err("a path that begins with / and has a name: letters, digits, / - _ . ~");
    }
    draft.admin.url = value.to_owned();
    Ok(())
}

fn provider(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.metrics.wanted = value == PROMETHEUS;
    if draft.metrics.wanted || NO_PROVIDERS.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "has no effect: expected {PROMETHEUS}, found {}",
        shown(value)
    ))
}

fn audit_format(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.audit.format = match value {
        "json" => AuditFormat::Json,
        "text" => AuditFormat::Text,
        _ => return Err("text or json"),
    };
    Ok(())
}

impl Draft {
    /// The AdminServer, unless it is off.
    pub(super) fn administered(&mut self, settings: &Settings) -> Option<AdminConfig> {
        let admin = core::mem::take(&mut self.admin);
        let wished = settings.keys().any(|key| key.starts_with("admin."));
        admin.enabled.then(|| AdminConfig {
            host: admin.host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: admin.port,
            url: admin.url,
            idle: Duration::from_millis(admin.idle_ms.into()),
            snapshots: admin.snapshots,
            rate_interval: Duration::from_millis(admin.rate_ms.into()),
            wished,
        })
    }

    /// The page for Prometheus, if it is wanted.
    pub(super) fn measured(&mut self, settings: &Settings) -> Option<MetricsConfig> {
        let metrics = core::mem::take(&mut self.metrics);
        if !metrics.wanted {
            return None;
        }
        let Some(port) = metrics.port else {
            let name = "metricsProvider.httpPort";
            let of_class = settings.get("metricsProvider.className");
            let origin = settings.get(name).or(of_class).map(|s| &s.origin);
            let text = "is missing: expected metricsProvider.httpPort=PORT, usually 7000, where \
                        Prometheus comes to read";
            let known = self.problems.iter().any(|problem| problem.key == name);
            if !known {
                self.problems.push(Problem::new(origin, name, text));
            }
            return None;
        };
        Some(MetricsConfig {
            host: metrics.host.unwrap_or_else(|| "0.0.0.0".to_owned()),
            port,
            process: metrics.process,
        })
    }

    /// The audit log, if it is wanted.
    pub(super) fn audited(&mut self) -> Option<AuditConfig> {
        let audit = core::mem::take(&mut self.audit);
        audit.enabled.then_some(AuditConfig {
            format: audit.format,
            file: audit.file,
        })
    }
}

/// The text of a `zoo.cfg` in which nothing is left of secrets but their keys.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut hidden = false;
    for line in text.lines() {
        // A value goes on in the next line if its own ends with an odd number of backslashes.
        let slashes = line.len() - line.trim_end_matches('\\').len();
        let goes_on = slashes % 2 == 1;
        if hidden {
            hidden = goes_on;
            continue;
        }
        let body = line.trim_start();
        let end = body.find(['=', ':', ' ', '\t']).unwrap_or(body.len());
        let (name, _) = body.split_at_checked(end).unwrap_or((body, ""));
        if is_secret(name) && !body.starts_with(['#', '!']) {
            shown += &format!("{name}=(not shown)\n");
            hidden = goes_on;
        } else {
            shown += line;
            shown.push('\n');
        }
    }
    shown
}

fn is_secret(name: &str) -> bool {
    let name_lower = name.to_ascii_lowercase();
    let sounds = ["password", "passwd", "secret", "digest"];
    let listed = table::find(name).is_some_and(|(key, _)| key.secret);
    listed || (sounds.iter().any(|word| name_lower.contains(word)) && name != "digest.enabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let text = "# superDigest=x\ntickTime=2000\n\
                    DigestAuthenticationProvider.superDigest=super:abc\\\n  def\n\
                    zookeeper.DigestAuthenticationProvider.superDigest : x\n\
                    ssl.keyStore.password = hunter2\ndigest.enabled=true\n";
        assert_eq!(
            without_secrets(text),
            "# superDigest=x\ntickTime=2000\n\
             DigestAuthenticationProvider.superDigest=(not shown)\n\
             zookeeper.DigestAuthenticationProvider.superDigest=(not shown)\n\
             ssl.keyStore.password=(not shown)\ndigest.enabled=true\n"
        );
    }
}
