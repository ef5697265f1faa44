//! Keys on elliptic curves as Java writes them: without the public key, which ring asks for.

use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::asn1::{ObjectIdentifier, OctetStringRef};
use pkcs8::der::{Decode, Encode, Reader, SliceReader};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::subject::tlv;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

const INTEGER: u32 = 0x02;
const BIT_STRING: u32 = 0x03;
const OCTET_STRING: u32 = 0x04;
const SEQUENCE: u32 = 0x30;
/// `[1]`, in which an `ECPrivateKey` has its public key. Source: RFC 5915.
const PUBLIC_KEY: u32 = 0xa1;

/// The same key with the public key of its certificate in it, if it is on an elliptic curve;
/// whether the two belong together is for rustls to find out.
pub(super) fn completed(
    key: PrivateKeyDer<'static>,
    certificate: Option<&CertificateDer<'_>>,
) -> PrivateKeyDer<'static> {
    let PrivateKeyDer::Pkcs8(pkcs8) = &key else {
        return key;
    };
    let completed = certificate.and_then(|own| complete(pkcs8.secret_pkcs8_der(), own));
    completed.map_or(key, |der| PrivatePkcs8KeyDer::from(der).into())
}

fn complete(key: &[u8], certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let info = PrivateKeyInfoRef::from_der(key).ok()?;
    if info.algorithm.oid != EC_PUBLIC_KEY {
        return None;
    }
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let point = &parsed.public_key().subject_public_key.data;
    // A byte that says that it is not compressed, and two coordinates, each as long as the key.
    let length = point.len().checked_sub(1)? / 2;
    let scalar = scalar(info.private_key.as_bytes())?;
    let padding = length.checked_sub(scalar.len())?;
    let scalar = [vec![0; padding], scalar].concat();
    let inner = [
        tlv(INTEGER, &[1]),
        tlv(OCTET_STRING, &scalar),
        tlv(PUBLIC_KEY, &tlv(BIT_STRING, &[&[0], &**point].concat())),
    ];
    let inner = tlv(SEQUENCE, &inner.concat());
    let algorithm = info.algorithm.to_der().ok()?;
    let outer = [tlv(INTEGER, &[0]), algorithm, tlv(OCTET_STRING, &inner)];
    Some(tlv(SEQUENCE, &outer.concat()))
}

/// The number of an `ECPrivateKey`, which Java may write shorter than it should.
fn scalar(inner: &[u8]) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(inner).ok()?;
    reader
        .sequence(|fields| -> pkcs8::der::Result<Vec<u8>> {
            let _version: u8 = fields.decode()?;
            let scalar: &OctetStringRef = fields.decode()?;
            let _optional = fields.read_slice(fields.remaining_len())?;
            Ok(scalar.as_bytes().to_vec())
        })
        .ok()
}
