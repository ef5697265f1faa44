//! The file by which a Java process learns who may log in: `jaas.conf`.
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!     user_bob="secret";
//! };
//! ```
//!
//! Source: `sun.security.provider.ConfigFile`, `DigestLoginModule`. Its `${property}` is not known.

use std::collections::BTreeMap;

/// The sections of a file by their names.
pub(super) type Jaas = BTreeMap<String, Section>;

/// The login modules of a section, in their order. Has no `Debug`: it holds passwords.
pub(super) struct Section {
    /// The line on which it begins, from 1.
    pub(super) line: u32,
    pub(super) modules: Vec<LoginModule>,
}

/// One of its modules.
pub(super) struct LoginModule {
    /// The name of its class, with its package.
    pub(super) class: String,
    pub(super) options: Vec<(String, String)>,
}

/// What is wrong with a file, and on which line. Never contains a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: u32,
    pub(super) text: String,
}

enum Token {
    Word(String),
    Quoted(String),
    Sign(char),
    End,
}

impl Token {
    /// How an error shows it: of what is quoted nothing.
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("{word:?}"),
            Self::Quoted(_) => "a quoted text".to_owned(),
            Self::Sign(sign) => format!("{sign:?}"),
            Self::End => "the end of the file".to_owned(),
        }
    }
}

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<Jaas, Fault> {
    let mut reader = Reader {
        rest: text,
        line: 1,
    };
    let mut jaas = Jaas::new();
    loop {
        let name = match reader.next()? {
            Token::End => return Ok(jaas),
            Token::Word(name) | Token::Quoted(name) => name,
            other @ Token::Sign(_) => return reader.fault("the name of a section", &other),
        };
        let line = reader.line;
        reader.expect('{')?;
        let modules = reader.modules()?;
        reader.expect(';')?;
        let section = Section { line, modules };
        if jaas.insert(name.clone(), section).is_some() {
            let text = format!("the section {name} is there twice; remove one");
            return Err(Fault { line, text });
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
}

impl Reader<'_> {
    fn modules(&mut self) -> Result<Vec<LoginModule>, Fault> {
        let mut modules = Vec::new();
        loop {
            let class = match self.next()? {
                Token::Sign('}') => return Ok(modules),
                Token::Word(class) => class,
                other @ (Token::End | Token::Quoted(_) | Token::Sign(_)) => {
                    return self.fault("the class of a login module, or }", &other);
                }
            };
            let flags = ["required", "requisite", "sufficient", "optional"];
            match self.next()? {
                Token::Word(flag) if flags.contains(&flag.to_ascii_lowercase().as_str()) => {}
                other @ (Token::End | Token::Quoted(_) | Token::Sign(_) | Token::Word(_)) => {
                    return self.fault("required, behind the class of a login module", &other);
                }
            }
            let options = self.options()?;
            modules.push(LoginModule { class, options });
        }
    }

    fn options(&mut self) -> Result<Vec<(String, String)>, Fault> {
        let mut options = Vec::new();
        loop {
            let name = match self.next()? {
                Token::Sign(';') => return Ok(options),
                Token::Word(name) => name,
                other @ (Token::End | Token::Quoted(_) | Token::Sign(_)) => {
                    return self.fault("an option, or ; behind the last", &other);
                }
            };
            self.expect('=')?;
            match self.next()? {
                Token::Word(value) | Token::Quoted(value) => {
                    if value.contains("${") {
                        let text = format!(
                            "the value of {name} has ${{...}}, which is not looked up here; write \
                             what it stands for"
                        );
                        let line = self.line;
                        return Err(Fault { line, text });
                    }
                    options.push((name, value));
                }
                other @ (Token::End | Token::Sign(_)) => {
                    return self.fault(&format!("the value of {name}"), &other);
                }
            }
        }
    }

    fn expect(&mut self, sign: char) -> Result<(), Fault> {
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            other @ (Token::End | Token::Quoted(_) | Token::Sign(_) | Token::Word(_)) => {
                self.fault(&format!("{sign:?}"), &other)
            }
        }
    }

    fn fault<T>(&self, expected: &str, found: &Token) -> Result<T, Fault> {
        Err(Fault {
            line: self.line,
            text: format!("expected {expected}, found {}", found.shown()),
        })
    }

    fn next(&mut self) -> Result<Token, Fault> {
        self.skip()?;
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        match first {
            '{' | '}' | ';' | '=' => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                Ok(Token::Sign(first))
            }
            '"' => self.quoted(),
            _ => {
                let end = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '=' | '"');
                let (word, rest) = self
                    .rest
                    .find(end)
                    .and_then(|end| self.rest.split_at_checked(end))
                    .unwrap_or((self.rest, ""));
                let word = word.to_owned();
                self.rest = rest;
                Ok(Token::Word(word))
            }
        }
    }

    fn quoted(&mut self) -> Result<Token, Fault> {
        let line = self.line;
        let mut value = String::new();
        let mut chars = self.rest.chars();
        chars.next();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => match chars.next() {
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some(c) => value.push(c),
                    None => {}
                },
                Some('\n') | None => {
                    let text = "a quoted text does not end on its line; add the quote".to_owned();
                    return Err(Fault { line, text });
                }
                Some(c) => value.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(Token::Quoted(value))
    }

    /// Blanks and comments.
    fn skip(&mut self) -> Result<(), Fault> {
        loop {
            let trimmed = self.rest.trim_start();
            let (blanks, _) = self
                .rest
                .split_at_checked(self.rest.len() - trimmed.len())
                .unwrap_or_default();
            self.pass(blanks);
            self.rest = trimmed;
            if trimmed.starts_with("//") || trimmed.starts_with('#') {
                self.rest = trimmed
                    .find('\n')
                    .map_or("", |end| trimmed.get(end..).unwrap_or_default());
            } else if trimmed.starts_with("/*") {
                let Some((comment, rest)) = trimmed.split_once("*/") else {
                    let text = "a comment does not end; add */".to_owned();
                    return Err(Fault {
                        line: self.line,
                        text,
                    });
                };
                self.pass(comment);
                self.rest = rest;
            } else {
                return Ok(());
            }
        }
    }

    fn pass(&mut self, text: &str) {
        let lines = text.matches('\n').count();
        self.line = self
            .line
            .saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use super::*;

    #[test]
    fn sections_are_read_with_their_options() {
        let text = r#"
            // who may come
            Server { # everybody here
                org.apache.zookeeper.server.auth.DigestLoginModule required
                user_super="a \"quoted\" one"
                user_bob=plain;
            };
            /* two lines
               of comment */
            Client {
                com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;
                other.Module optional;
            };
        "#;
        let jaas = parse(text).unwrap();
        let server = jaas.get("Server").unwrap();
        assert_eq!(server.line, 3);
        let [module] = server.modules.as_slice() else {
            panic!("expected one module");
        };
        assert!(module.class.ends_with(".DigestLoginModule"));
        let expected = [("user_super", "a \"quoted\" one"), ("user_bob", "plain")];
        assert_eq!(module.options, expected.map(|(a, b)| (a.into(), b.into())));
        assert_eq!(jaas.get("Client").unwrap().line, 10);
        assert_eq!(jaas.get("Client").unwrap().modules.len(), 2);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn faults_say_where_and_never_a_password() {
        for (text, line, says) in [
            ("Server", 1, "expected '{', found the end of the file"),
            (
                "Server {\n A required\n x=\"canary\"\n}",
                4,
                "expected an option",
            ),
            (
                "Server {\n A required x=\"canary",
                2,
                "does not end on its line",
            ),
            ("Server { A x=\"canary\"; };", 1, "expected required"),
            (
                "S { A required x \"canary\"; };",
                1,
                "expected '=', found a quoted",
            ),
            ("S { A required x=\"${canary}\"; };", 1, "is not looked up"),
            ("S { };\nS { };", 2, "there twice"),
            ("S { }\n", 2, "expected ';'"),
            ("/* S", 1, "does not end"),
            ("\n};", 2, "the name of a section"),
        ] {
            let fault = parse(text).err().unwrap();
            assert_eq!(fault.line, line, "{text}: {}", fault.text);
            assert!(fault.text.contains(says), "{text}: {}", fault.text);
            assert!(!fault.text.contains("canary"), "{}", fault.text);
        }
    }
}
