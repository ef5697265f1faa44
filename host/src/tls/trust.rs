//! Whose certificates are believed.
//!
//! Both directions share two rules that differ from a browser's, as ZooKeeper's operators rely on
//! them: a certificate that stands in the trust store itself is believed (keytool makes such), and
//! names are compared only where the setting says so.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::error::TlsError;
use super::names::{has_common_name, is_of};
use super::subject::validity;
use crate::config::tls::ClientAuth;

/// What is trusted.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    roots: Arc<RootCertStore>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Trust {
    /// `setting` is for messages: `ssl.trustStore.location`.
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        setting: &str,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|error| {
                let number = index + 1;
                TlsError::new(
                    setting,
                    format!("certificate {number} cannot be used: {error}"),
                )
            })?;
        }
        Ok(Self {
            roots: roots.into(),
            certificates: certificates.into(),
        })
    }

    /// What judges those who connect; `None`: they are not asked.
    pub(super) fn of_clients(
        &self,
        auth: ClientAuth,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let builder = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(provider),
        );
        let builder = match auth {
            ClientAuth::None => return Ok(None),
            ClientAuth::Need => builder,
            ClientAuth::Want => builder.allow_unauthenticated(),
        };
        let inner = builder.build().map_err(|error| error.to_string())?;
        let trust = self.clone();
        Ok(Some(Arc::new(Clients { trust, inner })))
    }

    /// What judges those that this server connects to.
    pub(super) fn of_servers(
        &self,
        names: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let inner = WebPkiServerVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(provider),
        );
        let inner = inner.build().map_err(|error| error.to_string())?;
        let trust = self.clone();
        Ok(Arc::new(Servers {
            trust,
            inner,
            names,
        }))
    }

    /// The verdict on a certificate that is trusted itself; `None` if it is not.
    ///
    /// Source: Java's `PKIXValidator`, which does not look at the dates here. We do.
    fn itself(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Option<Result<(), Error>> {
        if !self.certificates.iter().any(|known| known == certificate) {
            return None;
        }
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let error = match validity(certificate) {
            None => CertificateError::BadEncoding,
            Some((begin, _)) if now < begin => CertificateError::NotValidYet,
            Some((_, end)) if now > end => CertificateError::Expired,
            Some(_) => return Some(Ok(())),
        };
        Some(Err(error.into()))
    }
}

#[derive(Debug)]
struct Clients {
    trust: Trust,
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.trust.itself(end_entity, now) {
            Some(verdict) => verdict.map(|()| ClientCertVerified::assertion()),
            None => self
                .inner
                .verify_client_cert(end_entity, intermediates, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers {
    trust: Trust,
    inner: Arc<WebPkiServerVerifier>,
    /// Whether a server's certificate must be of its host.
    names: bool,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let host = server_name.to_str();
        if let Some(verdict) = self.trust.itself(end_entity, now) {
            verdict?;
            if self.names && !is_of(end_entity, &host) {
                return Err(CertificateError::NotValidForName.into());
            }
            return Ok(ServerCertVerified::assertion());
        }
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            // The name is what is compared last: all else is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names || has_common_name(end_entity, &host) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
