//! SASL with DIGEST-MD5, both roles, as ZooKeeper speaks it with clients and between servers.
//!
//! ```text
//! client                              server
//! empty token                  ──▶
//!                              ◀──    realm, nonce                   (challenge)
//! username, cnonce, response   ──▶
//!                              ◀──    rspauth: the server knows the password too
//! ```
//!
//! Names and passwords are ASCII: clients do not agree on how others are hashed (RFC 2831 2.1.2.1).
//! Only the quality `auth`, only `md5-sess`, one attempt for each connection. Whoever asks to act as
//! another than it has the password of (`authzid`) acts as itself. How tokens travel is not said
//! here.
//!
//! Source: RFC 2831; `ZooKeeperSaslServer`, `SaslQuorumAuthServer`, `SaslServerCallbackHandler`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use md5::{Digest as _, Md5};

use crate::secret::{Nonces, Secret, hex, same};

/// The longest token. Source: `DigestMD5Base.MAX_CHALLENGE_LENGTH`, `MAX_RESPONSE_LENGTH`.
pub(crate) const TOKEN_BYTES_MAX: usize = 4096;
/// How often a nonce is used.
const COUNT: &str = "00000001";

/// What both ends of a kind of connections call it.
#[derive(Debug)]
pub(crate) struct Place {
    service: &'static str,
    /// The server's name, and the realm.
    host: &'static str,
}

/// Clients to servers.
pub(crate) const CLIENTS: Place = Place {
    service: "zookeeper",
    host: "zk-sasl-md5",
};
/// Servers to each other.
pub(crate) const SERVERS: Place = Place {
    service: "zookeeper-quorum",
    host: "zk-quorum-sasl-md5",
};

/// One end that lets others in.
#[derive(Debug, Default)]
pub(crate) enum Server {
    /// Nothing was said.
    #[default]
    Fresh,
    /// This nonce was sent.
    Challenged(String),
    /// It is decided.
    Over,
}

/// What follows from a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This is to be sent, and answered.
    Challenge(String),
    /// It is who it says, and is to be sent this.
    Done {
        /// Who it is.
        user: String,
        /// By what it knows that this server has the password too.
        token: String,
    },
}

impl Server {
    /// Takes a token. An error ends the attempt, and says why as a clause.
    pub(crate) fn evaluate(
        &mut self,
        place: &Place,
        token: &[u8],
        users: &[(String, Secret)],
        nonces: &mut Nonces,
    ) -> Result<Step, &'static str> {
        match mem::replace(self, Self::Over) {
            Self::Fresh if token.is_empty() => {
                let nonce = nonces.next();
                let host = place.host;
                let challenge =
                    format!("realm=\"{host}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                *self = Self::Challenged(nonce);
                Ok(Step::Challenge(challenge))
            }
            Self::Fresh => Err(
                "it begins with a token, and DIGEST-MD5, which is all there is \
                                here, begins without: does it want Kerberos?",
            ),
            Self::Challenged(nonce) => verify(place, &nonce, token, users),
            Self::Over => Err("it was answered already, and a connection has one attempt"),
        }
    }
}

fn verify(
    place: &Place,
    nonce: &str,
    token: &[u8],
    users: &[(String, Secret)],
) -> Result<Step, &'static str> {
    let said = Directives::parse(token)?;
    let uri = format!("{}/{}", place.service, place.host);
    let cnonce = said.one("cnonce").unwrap_or_default();
    let fits = said.one("realm") == Some(place.host)
        && said.one("nonce") == Some(nonce)
        && said.one("nc") == Some(COUNT)
        && !cnonce.is_empty()
        && said.one("qop").unwrap_or("auth") == "auth"
        && said.one("charset").unwrap_or("utf-8") == "utf-8"
        && said.one("digest-uri") == Some(&uri);
    let (Some(user), Some(response), true) = (said.one("username"), said.one("response"), fits)
    else {
        return Err("its answer is not to what it was asked");
    };
    let known = users.iter().find(|(name, _)| name == user);
    let nobodys = Secret::default();
    let password = known.map_or(&nobodys, |(_, password)| password);
    let proof = Proof {
        place,
        user,
        password,
        nonce,
        cnonce,
        authzid: said.one("authzid").unwrap_or_default(),
    };
    // Of somebody unknown the same is computed: how long it takes tells nothing, nor does the error.
    let right = same(
        proof.response("AUTHENTICATE").as_bytes(),
        response.as_bytes(),
    );
    if known.is_none() || !right {
        return Err("there is no such user, or the password is wrong");
    }
    Ok(Step::Done {
        user: user.into(),
        token: format!("rspauth={}", proof.response("")),
    })
}

/// One end that asks to be let in, as a user whose name has no quotes: its answer to a challenge,
/// and what it must then be told.
pub(crate) fn respond(
    place: &Place,
    challenge: &[u8],
    (user, password): &(String, Secret),
    cnonce: &str,
) -> Result<(String, String), &'static str> {
    let said = Directives::parse(challenge)?;
    let offers_auth = |qop: &str| qop.split(',').any(|one| one.trim() == "auth");
    let fits = said.one("algorithm") == Some("md5-sess")
        && said.one("realm") == Some(place.host)
        && said.one("qop").is_none_or(offers_auth);
    let nonce = said
        .one("nonce")
        .filter(|nonce| !nonce.contains(['"', '\\']));
    let (Some(nonce), true) = (nonce, fits) else {
        return Err("its challenge is none of DIGEST-MD5 between servers of ZooKeeper");
    };
    let proof = Proof {
        place,
        user,
        password,
        nonce,
        cnonce,
        authzid: user,
    };
    let response = proof.response("AUTHENTICATE");
    let Place { service, host } = place;
    let answer = format!(
        "charset=utf-8,username=\"{user}\",realm=\"{host}\",nonce=\"{nonce}\",nc={COUNT},\
         cnonce=\"{cnonce}\",digest-uri=\"{service}/{host}\",maxbuf=65536,response={response},\
         qop=auth,authzid=\"{user}\""
    );
    Ok((answer, format!("rspauth={}", proof.response(""))))
}

/// What a response is computed from.
struct Proof<'a> {
    place: &'a Place,
    user: &'a str,
    password: &'a Secret,
    nonce: &'a str,
    cnonce: &'a str,
    /// Empty if it was not said.
    authzid: &'a str,
}

impl Proof<'_> {
    fn response(&self, method: &str) -> String {
        let Place { service, host } = self.place;
        let secret = digest(&[
            self.user.as_bytes(),
            host.as_bytes(),
            self.password.reveal().as_bytes(),
        ]);
        let (nonce, cnonce) = (self.nonce.as_bytes(), self.cnonce.as_bytes());
        let session = [&secret[..], nonce, cnonce, self.authzid.as_bytes()];
        let parts = if self.authzid.is_empty() { 3 } else { 4 };
        let session = digest(session.get(..parts).unwrap_or_default());
        let uri = format!("{service}/{host}");
        let what = digest(&[method.as_bytes(), uri.as_bytes()]);
        let (session, what) = (hex(&session), hex(&what));
        hex(&digest(&[
            session.as_bytes(),
            nonce,
            COUNT.as_bytes(),
            cnonce,
            b"auth",
            what.as_bytes(),
        ]))
    }
}

/// The hash of these with colons between them. Once in the module, as [`sha1`](crate::secret).
#[inline(never)]
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    Md5::digest(parts.join(&b':')).into()
}

/// `key=value,key="value"`.
struct Directives<'a>(Vec<(&'a str, String)>);

impl<'a> Directives<'a> {
    fn parse(token: &'a [u8]) -> Result<Self, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("its token is longer than 4096 bytes");
        }
        let text = core::str::from_utf8(token).ok();
        let found = text.and_then(Self::of);
        found.ok_or("its token is no list of key=value")
    }

    fn of(text: &'a str) -> Option<Self> {
        let mut found = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches([',', ' ', '\t', '\r', '\n']);
            if rest.is_empty() {
                return Some(Self(found));
            }
            let (key, after) = rest.split_once('=')?;
            let mut value = String::new();
            rest = if let Some(quoted) = after.strip_prefix('"') {
                let mut chars = quoted.chars();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => value.push(chars.next()?),
                        c => value.push(c),
                    }
                }
                chars.as_str()
            } else {
                let end = after.find(',').unwrap_or(after.len());
                let (plain, after) = after.split_at_checked(end)?;
                value.push_str(plain.trim());
                after
            };
            found.push((key.trim(), value));
        }
    }

    /// The value of a key that is there once.
    fn one(&self, key: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(name, _)| *name == key);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
