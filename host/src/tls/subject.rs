//! What a certificate says of its owner.

use core::fmt::Write as _;

use pkcs8::der::{Encode as _, Length};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// The attributes that have a name in RFC 2253; others are written by number. Source: Java's
/// `AVAKeyword`, those that are RFC 2253 compliant.
const KEYWORDS: [(&str, &str); 9] = [
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
];

/// Strings of ASN.1 by their tags: UTF8String, PrintableString, T61String, IA5String,
/// GeneralString, UniversalString, BMPString. Source: Java's `AVA.isDerString`.
const STRING_TAGS: [u32; 7] = [12, 19, 20, 22, 27, 28, 30];

/// The subject as Java's `X500Principal.getName()` writes it, which is what ACLs of the scheme
/// `x509` have.
///
/// # Errors
///
/// The certificate cannot be read.
pub fn subject(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let parts: Vec<String> = parsed
        .subject()
        .iter_rdn()
        .map(|rdn| {
            let all: Vec<String> = rdn.iter().map(attribute).collect();
            all.join("+")
        })
        .collect();
    // The last of the encoding comes first.
    Ok(parts.into_iter().rev().collect::<Vec<_>>().join(","))
}

/// When a certificate ends to be valid, in seconds since 1970; `None` if it cannot be read.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// When it begins and ends.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// Source: Java's `AVA.toRFC2253String`.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == number);
    let (Some((_, keyword)), true) = (keyword, STRING_TAGS.contains(&value.tag().0)) else {
        let mut text = format!("{number}=#");
        for byte in tlv(value.tag().0, value.data) {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        return text;
    };
    format!(
        "{keyword}={}",
        escaped(&String::from_utf8_lossy(value.data))
    )
}

/// A value with its tag and length, as DER has it. No tag of ours needs more than one byte.
pub(super) fn tlv(tag: u32, data: &[u8]) -> Vec<u8> {
    let length = Length::try_from(data.len()).and_then(|length| length.to_der());
    let mut bytes = vec![u8::try_from(tag).unwrap_or(0)];
    // No certificate has the 256 MiB that would be too long.
    bytes.extend(length.unwrap_or_default());
    bytes.extend_from_slice(data);
    bytes
}

fn escaped(value: &str) -> String {
    const SPECIAL: &str = ",=+<>#;\"\\";
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\0' => text.push_str("\\00"),
            c if SPECIAL.contains(c) => {
                text.push('\\');
                text.push(c);
            }
            c => text.push(c),
        }
    }
    let is_blank = |c: char| c == ' ' || c == '\r';
    let inner = text.trim_start_matches(is_blank);
    let leading = text.len() - inner.len();
    let trailing = inner.len() - inner.trim_end_matches(is_blank).len();
    let mut whole = String::with_capacity(text.len() + leading + trailing);
    for (at, c) in text.char_indices() {
        if at < leading || at >= text.len() - trailing {
            whole.push('\\');
        }
        whole.push(c);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_java_does_it() {
        for (value, expected) in [
            ("plain", "plain"),
            ("a,b=c+d", "a\\,b\\=c\\+d"),
            ("  led and followed ", "\\ \\ led and followed\\ "),
            ("   ", "\\ \\ \\ "),
            ("a\"b\\c<d>e;f#g", "a\\\"b\\\\c\\<d\\>e\\;f\\#g"),
            ("nul\0", "nul\\00"),
            ("größe 日本", "größe 日本"),
        ] {
            assert_eq!(escaped(value), expected, "{value:?}");
        }
    }

    #[test]
    fn long_values_have_long_lengths() {
        assert_eq!(tlv(12, b"ab"), [12, 2, b'a', b'b']);
        assert_eq!(tlv(12, &[0; 128]).get(..3), Some(&[12, 0x81, 128][..]));
        assert_eq!(tlv(12, &[0; 300]).get(..4), Some(&[12, 0x82, 1, 44][..]));
    }
}
