//! The syntax of Java's properties files: `zoo.cfg` is one, and so is the text of a membership.
//!
//! Source: `java.util.Properties.load`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::Chars;

/// One `key=value`. Has no `Debug`: the value may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    /// The line on which the key stands, from 1.
    pub line: u32,
    /// The key, trimmed.
    pub key: String,
    /// The value, trimmed.
    pub value: String,
}

/// An escape that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEscape {
    /// The line on which its property begins, from 1.
    pub line: u32,
    /// What was expected and found.
    pub text: String,
}

/// A property as it stands in its text, before escapes are read.
struct Logical {
    line: u32,
    lines: u32,
    text: String,
}

/// Reads a text's properties in their order, duplicates included.
///
/// # Errors
///
/// All escapes that are not `\u` and four hexadecimal digits, or halves of surrogate pairs.
pub fn parse(text: &str) -> Result<Vec<Property>, Vec<BadEscape>> {
    let mut properties = Vec::new();
    let mut bad = Vec::new();
    for logical in logical_lines(text) {
        match property(&logical) {
            Ok(property) => properties.push(property),
            Err(text) => bad.push(BadEscape {
                line: logical.line,
                text,
            }),
        }
    }
    if bad.is_empty() {
        Ok(properties)
    } else {
        Err(bad)
    }
}

/// The text without the properties whose keys are `unwanted`; comments, blank lines and the order
/// stay. A property that cannot be read stays too.
#[must_use]
pub fn without(text: &str, unwanted: impl Fn(&str) -> bool) -> String {
    let mut dropped = Vec::new();
    for logical in logical_lines(text) {
        if property(&logical).is_ok_and(|property| unwanted(&property.key)) {
            dropped.push(logical.line..logical.line.saturating_add(logical.lines));
        }
    }
    let mut kept = String::new();
    for (number, line) in (1..).zip(natural_lines(text)) {
        if !dropped.iter().any(|lines| lines.contains(&number)) {
            kept.push_str(line);
        }
    }
    kept
}

/// Lines with their ends: "\r\n" counts as one end, a lone '\r' as one too.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let end = rest.find(['\r', '\n'])?;
        let (line, after) = rest.split_at(end);
        let ending = if after.starts_with("\r\n") { 2 } else { 1 };
        let (whole, next) = rest.split_at(line.len() + ending);
        rest = next;
        Some(whole)
    })
    .chain(core::iter::once_with(move || last_line(text)))
}

/// What stands after the last end of a line.
fn last_line(text: &str) -> &str {
    text.rsplit(['\r', '\n']).next().unwrap_or(text)
}

/// Lines without blank ones and comments, continuations joined.
fn logical_lines(text: &str) -> Vec<Logical> {
    let mut lines = Vec::new();
    let mut open: Option<Logical> = None;
    for (number, natural) in (1..).zip(natural_lines(text)) {
        let natural = natural.trim_end_matches(['\r', '\n']);
        let natural = natural.trim_start_matches(is_blank);
        let mut logical = match open.take() {
            Some(open) => open,
            None if natural.is_empty() || natural.starts_with(['#', '!']) => continue,
            None => Logical {
                line: number,
                lines: 0,
                text: String::new(),
            },
        };
        logical.lines += 1;
        match continued(natural) {
            Some(part) => {
                logical.text.push_str(part);
                open = Some(logical);
            }
            None => {
                logical.text.push_str(natural);
                lines.push(logical);
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

fn property(logical: &Logical) -> Result<Property, String> {
    let mut chars = logical.text.chars().peekable();
    let key = unescape(&mut chars, |c| c == '=' || c == ':' || is_blank(c))?;
    skip_blanks(&mut chars);
    if chars.next_if(|&c| c == '=' || c == ':').is_some() {
        skip_blanks(&mut chars);
    }
    let value = unescape(&mut chars, |_| false)?;
    Ok(Property {
        line: logical.line,
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
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{parse, without};

    /// The properties as "line key=value", or the lines and texts of the errors.
    fn read(text: &str) -> Vec<String> {
        match parse(text) {
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
            assert_eq!(read(line), ["1 a=1"], "{line:?}");
        }
        assert_eq!(
            read("server.1=h:2888:3888;2181"),
            ["1 server.1=h:2888:3888;2181"]
        );
        assert_eq!(read("a==1"), ["1 a==1"]);
        assert_eq!(read("a"), ["1 a="]);
        assert_eq!(read("a\\=b\\:c\\ d=1"), ["1 a=b:c d=1"]);
    }

    #[test]
    fn comments_and_blank_lines_count_as_lines() {
        let text = "# one \\\n! two\n\n  # four\na=1 # not a comment\n";
        assert_eq!(read(text), ["5 a=1 # not a comment"]);
    }

    #[test]
    fn lines_end_as_on_any_system() {
        assert_eq!(
            read("a=1\r\nb=2\rc=3\nd=4"),
            ["1 a=1", "2 b=2", "3 c=3", "4 d=4"]
        );
    }

    #[test]
    fn odd_backslash_at_the_end_continues_the_line() {
        assert_eq!(read("a=1,\\\n   2,\\\n#3\nb=4"), ["1 a=1,2,#3", "4 b=4"]);
        assert_eq!(read("a=1\\\\\nb=2"), ["1 a=1\\", "2 b=2"]);
        assert_eq!(read("a=1\\"), ["1 a=1"]);
    }

    #[test]
    fn escapes_are_javas() {
        assert_eq!(read("a=\\u0041\\t\\u00e9\\z\\\\x"), ["1 a=A\t\u{e9}z\\x"]);
        assert_eq!(read("a=\\ud83d\\ude00"), ["1 a=\u{1f600}"]);
    }

    #[test]
    fn bad_escapes_are_all_reported_with_their_lines() {
        assert_eq!(
            read("a=\\u12\nb=2\nc=C:\\users\nd=\\ud83d"),
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
    fn properties_are_taken_out_with_their_continuations_and_nothing_else() {
        let text = "# one\r\na=1\n\nserver.1 = x,\\\n  y\nb=\\u12\nserver.2=z";
        let kept = without(text, |key| key.starts_with("server."));
        assert_eq!(kept, "# one\r\na=1\n\nb=\\u12\n");
        assert_eq!(without(text, |_| false), text);
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        // A small generator is enough: every class of character that the syntax knows, in every order.
        let alphabet: Vec<char> = "a=: \\u0#!\n\r\té".chars().collect();
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .filter_map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let index = usize::try_from(state >> 24).ok()? % alphabet.len();
                    alphabet.get(index).copied()
                })
                .collect();
            let lines = text.split(['\n', '\r']).count();
            assert!(read(&text).len() <= lines, "{text:?}");
            assert_eq!(without(&text, |_| false), text);
        }
    }
}
