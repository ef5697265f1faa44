//! Files with keys and certificates.

use std::fs;
use std::path::Path;

use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::ec::completed;
use super::error::TlsError;
use crate::config::tls::{Password, StoreConfig, StoreFormat};

/// The most that such a file may have: those of all public authorities are a third of a MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A server's key, and its certificate with those that lead up to an authority, its own first.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Reads a key store. `setting` is its name without the last part: `ssl.keyStore`.
pub(super) fn identity(store: &StoreConfig, setting: &str) -> Result<Identity, TlsError> {
    let wrong = |text: String| TlsError::new(format!("{setting}.location"), text).at(&store.path);
    let bytes = read(store, setting)?;
    let mut found = match store.format {
        StoreFormat::Jks => return Err(wrong(convert(&store.path))),
        StoreFormat::Pem => pem_identity(&bytes, store, setting)?,
        StoreFormat::Pkcs12 => {
            let opened = open_pkcs12(&bytes, store, setting)?;
            match opened.private_key_chain() {
                Some((_, chain)) => Identity {
                    chain: chain
                        .certs()
                        .iter()
                        .map(|cert| cert.as_der().to_vec().into())
                        .collect(),
                    key: PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec()).into(),
                },
                None => {
                    return Err(wrong(
                        "expected a key with its certificate, found none".into(),
                    ));
                }
            }
        }
    };
    if found.chain.is_empty() {
        let text = "expected the key's certificate, and those of the authorities that signed it, \
                    after the key; found none";
        return Err(wrong(text.into()));
    }
    found.key = completed(found.key, found.chain.first());
    Ok(found)
}

/// Reads a trust store. `setting` is as in [`identity`].
pub(super) fn trusted(
    store: &StoreConfig,
    setting: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |text: String| TlsError::new(format!("{setting}.location"), text).at(&store.path);
    let bytes = read(store, setting)?;
    let found: Vec<_> = match store.format {
        StoreFormat::Jks => return Err(wrong(convert(&store.path))),
        StoreFormat::Pem => pem_certificates(&bytes).map_err(wrong)?,
        StoreFormat::Pkcs12 => open_pkcs12(&bytes, store, setting)?
            .entries()
            .filter_map(|(_, entry)| match entry {
                KeyStoreEntry::Certificate(cert) => Some(cert.as_der().to_vec().into()),
                KeyStoreEntry::PrivateKeyChain(_) | KeyStoreEntry::Secret(_) => None,
            })
            .collect(),
    };
    if found.is_empty() {
        let text = match store.format {
            // As in Java: what is not marked as trusted is not.
            StoreFormat::Pkcs12 => {
                "expected certificates that are marked as trusted, found none; put them in by \
                 `keytool -importcert`, or give them as PEM"
            }
            StoreFormat::Jks | StoreFormat::Pem => "expected certificates, found none",
        };
        return Err(wrong(text.into()));
    }
    Ok(found)
}

fn read(store: &StoreConfig, setting: &str) -> Result<Vec<u8>, TlsError> {
    let wrong = |text: String| TlsError::new(format!("{setting}.location"), text).at(&store.path);
    let size = fs::metadata(&store.path).map(|found| found.len());
    match size {
        Ok(size) if size > FILE_BYTES_MAX => {
            return Err(wrong(format!(
                "expected at most {FILE_BYTES_MAX} bytes, found {size}"
            )));
        }
        Ok(_) | Err(_) => {}
    }
    fs::read(&store.path).map_err(|error| wrong(format!("cannot be read: {error}")))
}

/// The password itself; empty if there is none.
fn password(store: &StoreConfig, setting: &str) -> Result<String, TlsError> {
    match &store.password {
        Password::None => Ok(String::new()),
        Password::Text(text) => Ok(text.clone()),
        Password::File(path) => {
            let text = fs::read_to_string(path).map_err(|error| {
                let text = format!("cannot be read: {error}");
                TlsError::new(format!("{setting}.passwordPath"), text).at(path)
            })?;
            // Source: SecretUtils.readSecret, which drops the end of the line.
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        }
    }
}

fn convert(path: &Path) -> String {
    let from = path.display();
    let to = path.with_extension("p12");
    format!(
        "is a Java key store of the old kind, which is not read; convert it by `keytool \
         -importkeystore -srckeystore {from} -srcstoretype JKS -destkeystore {} -deststoretype \
         PKCS12`, and name that",
        to.display()
    )
}

/// Where a key store of Java begins, and what it may be named.
const JKS_MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];

fn open_pkcs12(bytes: &[u8], store: &StoreConfig, setting: &str) -> Result<KeyStore, TlsError> {
    let wrong = |text: String| TlsError::new(format!("{setting}.location"), text).at(&store.path);
    if bytes.starts_with(&JKS_MAGIC) {
        return Err(wrong(convert(&store.path)));
    }
    let password = password(store, setting)?;
    KeyStore::from_pkcs12(bytes, &password, Pkcs12ImportPolicy::Strict).map_err(|error| {
        wrong(format!(
            "cannot be opened as PKCS12: {error}; is {setting}.password right?"
        ))
    })
}

fn pem_certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("is no PEM file: {error}"))
}

fn pem_identity(bytes: &[u8], store: &StoreConfig, setting: &str) -> Result<Identity, TlsError> {
    let wrong = |text: String| TlsError::new(format!("{setting}.location"), text).at(&store.path);
    let chain = pem_certificates(bytes).map_err(wrong)?;
    let key = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => {
            let der = encrypted_section(bytes).ok_or_else(|| {
                wrong("expected a private key (-----BEGIN PRIVATE KEY-----), found none".into())
            })?;
            let password = password(store, setting)?;
            decrypt(&der, &password).map_err(|text| {
                wrong(format!(
                    "the private key cannot be decrypted: {text}; is {setting}.password right?"
                ))
            })?
        }
        Err(error) => return Err(wrong(format!("the private key cannot be read: {error}"))),
    };
    Ok(Identity { chain, key })
}

/// `-----BEGIN ENCRYPTED PRIVATE KEY-----`, which rustls does not know.
fn encrypted_section(bytes: &[u8]) -> Option<Vec<u8>> {
    const LABEL: &str = "ENCRYPTED PRIVATE KEY";
    let text = core::str::from_utf8(bytes).ok()?;
    let begin = text.find(&format!("-----BEGIN {LABEL}-----"))?;
    let rest = text.get(begin..)?;
    let end_line = format!("-----END {LABEL}-----");
    let end = rest.find(&end_line)?.checked_add(end_line.len())?;
    let (label, document) = pkcs8::Document::from_pem(rest.get(..end)?).ok()?;
    (label == LABEL).then(|| document.as_bytes().to_vec())
}

fn decrypt(der: &[u8], password: &str) -> Result<PrivateKeyDer<'static>, String> {
    let info = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der).map_err(|e| e.to_string())?;
    let key = info.decrypt(password).map_err(|error| error.to_string())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}
