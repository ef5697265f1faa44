//! The syntax of Java's properties files, of which `zoo.cfg` is one.
//!
//! Source: `java.util.Properties.load`. Two differences, both wider: text that is valid UTF-8 is
//! read as such (Java reads ISO-8859-1), and every property knows its line.

use core::{iter::Peekable, str::Chars};
use std::borrow::Cow;

/// One `key=value`. Has no `Debug`: the value may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Property {
    /// The line on which the key stands, from 1.
    pub(super) line: u32,
    /// The key, trimmed.
    pub(super) key: String,
    /// The value, trimmed.
    pub(super) value: String,
}

/// An escape that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadEscape {
    /// The line on which its property begins, from 1.
    pub(super) line: u32,
    /// What was expected and found.
    pub(super) text: String,
}

/// Reads a file's properties in their order, duplicates included.
///
/// # Errors
///
/// All escapes that are not `\u` and four hexadecimal digits, or halves of surrogate pairs.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Property>, Vec<BadEscape>> {
    let text = decode(bytes);
    let mut properties = Vec::new();
    let mut bad = Vec::new();
    for (line, logical) in logical_lines(&text) {
        match property(line, &logical) {
            Ok(property) => properties.push(property),
            Err(text) => bad.push(BadEscape { line, text }),
        }
    }
    if bad.is_empty() {
        Ok(properties)
    } else {
        Err(bad)
    }
}

fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // Every byte of ISO-8859-1 is the code point of the same number.
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// Lines without blank ones and comments, continuations joined, each with the number of its first
/// line.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(u32, String)> = None;
    // "\r\n" counts as one end of line, a lone '\r' as one too.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for (number, natural) in (1..).zip(text.split('\n')) {
        let natural = natural.trim_start_matches(is_blank);
        let (first, mut logical) = match open.take() {
            Some(open) => open,
            None if natural.is_empty() || natural.starts_with(['#', '!']) => continue,
            None => (number, String::new()),
        };
        match continued(natural) {
            Some(part) => {
                logical.push_str(part);
                open = Some((first, logical));
            }
            None => {
                logical.push_str(natural);
                lines.push((first, logical));
            }
        }
    }
    lines.extend(open);
    lines
}

/// The line without its last backslash, if that one is not itself escaped.
fn continued(natural: &str) -> Option<&str> {
    let backslashes = natural.len() - natural.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        natural.strip_suffix('\\')
    } else {
        None
    }
}

fn property(line: u32, logical: &str) -> Result<Property, String> {
    let mut chars = logical.chars().peekable();
    let key = unescape(&mut chars, |c| c == '=' || c == ':' || is_blank(c))?;
    skip_blanks(&mut chars);
    if chars.next_if(|&c| c == '=' || c == ':').is_some() {
        skip_blanks(&mut chars);
    }
    let value = unescape(&mut chars, |_| false)?;
    Ok(Property {
        line,
        key: key.trim().to_owned(),
        value: value.trim().to_owned(),
    })
}

fn unescape(chars: &mut Peekable<Chars<'_>>, ends: fn(char) -> bool) -> Result<String, String> {
    let mut units = Vec::new();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next_if(|&c| !ends(c)) {
        let c = if c == '\\' {
            match chars.next() {
                Some('u') => {
                    units.push(hex_unit(chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => continue,
            }
        } else {
            c
        };
        units.extend_from_slice(c.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| {
        "expected \\u escapes above \\ud7ff in pairs that make one character, found half a pair"
            .to_owned()
    })
}

fn hex_unit(chars: &mut Peekable<Chars<'_>>) -> Result<u16, String> {
    let digits: String = core::iter::from_fn(|| chars.next_if(char::is_ascii_hexdigit))
        .take(4)
        .collect();
    if digits.len() == 4
        && let Ok(unit) = u16::from_str_radix(&digits, 16)
    {
        return Ok(unit);
    }
    Err(format!(
        "expected four hexadecimal digits after \\u, found \"\\u{digits}\" (a backslash itself is \
         written \\\\)"
    ))
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|&c| is_blank(c)).is_some() {}
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::parse;

    /// The properties as "line key=value", or the lines and texts of the errors.
    fn read(bytes: &[u8]) -> Vec<String> {
        match parse(bytes) {
            Ok(properties) => properties
                .iter()
                .map(|p| format!("{} {}={}", p.line, p.key, p.value))
                .collect(),
            Err(bad) => bad
                .iter()
                .map(|b| format!("{} ! {}", b.line, b.text))
                .collect(),
        }
    }

    #[test]
    fn keys_end_at_equals_sign_colon_or_blank() {
        for line in [
            "a=1",
            "a:1",
            "a 1",
            "a = 1",
            "  a\t:  1  ",
            "a\u{c}1",
            "a =1",
        ] {
            assert_eq!(read(line.as_bytes()), ["1 a=1"], "{line:?}");
        }
        assert_eq!(
            read(b"server.1=h:2888:3888;2181"),
            ["1 server.1=h:2888:3888;2181"]
        );
        assert_eq!(read(b"a==1"), ["1 a==1"]);
        assert_eq!(read(b"a"), ["1 a="]);
        assert_eq!(read(b"a\\=b\\:c\\ d=1"), ["1 a=b:c d=1"]);
    }

    #[test]
    fn comments_and_blank_lines_count_as_lines() {
        let text = b"# one \\\n! two\n\n  # four\na=1 # not a comment\n";
        assert_eq!(read(text), ["5 a=1 # not a comment"]);
    }

    #[test]
    fn lines_end_as_on_any_system() {
        assert_eq!(
            read(b"a=1\r\nb=2\rc=3\nd=4"),
            ["1 a=1", "2 b=2", "3 c=3", "4 d=4"]
        );
    }

    #[test]
    fn odd_backslash_at_the_end_continues_the_line() {
        assert_eq!(read(b"a=1,\\\n   2,\\\n#3\nb=4"), ["1 a=1,2,#3", "4 b=4"]);
        assert_eq!(read(b"a=1\\\\\nb=2"), ["1 a=1\\", "2 b=2"]);
        assert_eq!(read(b"a=1\\"), ["1 a=1"]);
    }

    #[test]
    fn escapes_are_javas() {
        assert_eq!(read(b"a=\\u0041\\t\\u00e9\\z\\\\x"), ["1 a=A\t\u{e9}z\\x"]);
        assert_eq!(read(b"a=\\ud83d\\ude00"), ["1 a=\u{1f600}"]);
    }

    #[test]
    fn bad_escapes_are_all_reported_with_their_lines() {
        assert_eq!(
            read(b"a=\\u12\nb=2\nc=C:\\users\nd=\\ud83d"),
            [
                "1 ! expected four hexadecimal digits after \\u, found \"\\u12\" (a \
                 backslash itself \
                 is written \\\\)",
                "3 ! expected four hexadecimal digits after \\u, found \"\\u\" (a backslash \
                 itself is \
                 written \\\\)",
                "4 ! expected \\u escapes above \\ud7ff in pairs that make one character, \
                 found half a \
                 pair",
            ]
        );
    }

    #[test]
    fn text_is_utf8_if_it_can_be_and_latin1_otherwise() {
        assert_eq!(read("a=é".as_bytes()), ["1 a=é"]);
        assert_eq!(read(b"a=\xe9"), ["1 a=é"]);
        assert_eq!(read(b"\xef\xbb\xbfa=1"), ["1 a=1"]);
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        // A small generator is enough: every byte class that the syntax knows, in every order.
        let alphabet = b"a=: \\u0#!\n\r\t\xe9";
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..12)
                .filter_map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let index = usize::try_from(state >> 24).ok()? % alphabet.len();
                    alphabet.get(index).copied()
                })
                .collect();
            let lines = text.split(|&b| b == b'\n' || b == b'\r').count();
            assert!(read(&text).len() <= lines, "{text:?}");
        }
    }
}
