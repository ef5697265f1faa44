//! Java's names of cipher suites and versions.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::error::TlsError;
use crate::config::tls::TlsConfig;

/// What encrypts, by the operator's choice of suites.
pub(super) fn provider(config: &TlsConfig) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    let Some(names) = &config.cipher_suites else {
        return Ok(provider.into());
    };
    let all = core::mem::take(&mut provider.cipher_suites);
    for name in names {
        let suite = all.iter().find(|suite| java_name(suite) == *name);
        let Some(suite) = suite else {
            let known: Vec<String> = all.iter().map(java_name).collect();
            let text = format!(
                "expected some of {}, found {name:?}, which is not built in: remove it",
                known.join(", ")
            );
            return Err(TlsError::new(
                format!("{}ciphersuites", config.prefix),
                text,
            ));
        };
        provider.cipher_suites.push(*suite);
    }
    let usable = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(_) => config.versions.tls12,
        SupportedCipherSuite::Tls13(_) => config.versions.tls13,
    };
    if !provider.cipher_suites.iter().any(usable) {
        let text = "expected one at least for the versions of TLS that are on, found none";
        return Err(TlsError::new(
            format!("{}ciphersuites", config.prefix),
            text,
        ));
    }
    Ok(provider.into())
}

/// The versions that are on and have a suite.
pub(super) fn versions(
    config: &TlsConfig,
    provider: &CryptoProvider,
) -> Vec<&'static SupportedProtocolVersion> {
    let has = |version: &SupportedProtocolVersion| {
        let mut suites = provider.cipher_suites.iter();
        suites.any(|suite| suite.version().version == version.version)
    };
    let mut versions = Vec::new();
    if config.versions.tls13 && has(&TLS13) {
        versions.push(&TLS13);
    }
    if config.versions.tls12 && has(&TLS12) {
        versions.push(&TLS12);
    }
    versions
}

/// rustls says of TLS 1.3's suites in their names that they are.
fn java_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::java_name;

    #[test]
    fn suites_have_the_names_that_java_gives_them() {
        let provider = rustls::crypto::ring::default_provider();
        let names: Vec<String> = provider.cipher_suites.iter().map(java_name).collect();
        for name in [
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ] {
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
        }
    }
}
