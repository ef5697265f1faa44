//! Whose a certificate is.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The hosts of an ensemble, as its configuration names them: any of them may connect. A clone is
/// the same.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<RwLock<BTreeSet<String>>>);

impl Names {
    /// Replaces them.
    pub fn set(&self, names: impl IntoIterator<Item = String>) {
        let names = names.into_iter().collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Whether a certificate is of one of them, or of the address that its owner connects from.
    ///
    /// # Errors
    ///
    /// What was expected and found, as a clause.
    pub fn check(&self, certificate: &CertificateDer<'_>, from: IpAddr) -> Result<(), String> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if is_of(certificate, &from.to_canonical().to_string())
            || names.iter().any(|name| is_of(certificate, name))
        {
            return Ok(());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Err(format!(
            "its certificate is neither of {from} nor of a host of the ensemble ({})",
            names.join(", ")
        ))
    }
}

/// Whether a certificate is of this host or address.
pub(super) fn is_of(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(name) = ServerName::try_from(host) else {
        return false;
    };
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok() || has_common_name(certificate, host)
}

/// As in Java, the common name counts only where there are no alternative names at all. Source:
/// `ZKHostnameVerifier.verify`.
pub(super) fn has_common_name(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let alternatives = parsed.subject_alternative_name();
    if !matches!(alternatives, Ok(None)) {
        return false;
    }
    let mut names = parsed.subject().iter_common_name();
    names.any(|name| {
        let name = name.as_str().unwrap_or_default();
        name.eq_ignore_ascii_case(host)
    })
}
