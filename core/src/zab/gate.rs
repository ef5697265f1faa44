//! SASL between servers: nothing of a connection is heard before whoever is at its other end has
//! shown that it belongs here, if that is asked for.
//!
//! Source: spec 6.2, `SaslQuorumAuthServer`, `SaslQuorumAuthLearner`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::io::Sasl;
use crate::sasl::{self, SERVERS, Server, Step, TOKEN_BYTES_MAX};
use crate::secret::Nonces;
use crate::wire::quorum::auth::{Front, Status, front, to_bytes};

/// One end of a connection on which it is not decided yet.
#[derive(Debug)]
pub(super) struct Gate {
    /// What arrived and was not taken.
    received: Vec<u8>,
    end: End,
}

#[derive(Debug)]
enum End {
    /// It lets in.
    Server(Server),
    /// It asks to be let in; what it must be told in the end, once that is known.
    Client(Option<String>),
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// To be sent first.
    pub(super) send: Option<Bytes>,
    pub(super) then: Then,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// More must come.
    Wait,
    /// It is decided, or nothing was to be. These bytes are not the gate's any more.
    Through(Bytes),
    /// The other end is to be left, for this reason.
    Refuse(String),
}

impl Turn {
    const WAIT: Self = Self {
        send: None,
        then: Then::Wait,
    };

    fn say(status: Status, token: &[u8], then: Then) -> Self {
        Self {
            send: Some(to_bytes(status, token)),
            then,
        }
    }

    fn refuse(reason: impl ToString) -> Self {
        Self {
            send: None,
            then: Then::Refuse(reason.to_string()),
        }
    }
}

impl Gate {
    /// For a connection that was accepted, if anybody is to be let in by it.
    pub(super) fn server(sasl: &Sasl) -> Option<Self> {
        let gate = Self {
            received: Vec::new(),
            end: End::Server(Server::default()),
        };
        sasl.users.is_some().then_some(gate)
    }

    /// For a connection that was asked for, if this server logs in; and what it says first.
    pub(super) fn client(sasl: &Sasl) -> Option<(Self, Bytes)> {
        let gate = Self {
            received: Vec::new(),
            end: End::Client(None),
        };
        let hello = to_bytes(Status::IN_PROGRESS, b"");
        sasl.login.is_some().then_some((gate, hello))
    }

    /// Takes what arrived.
    pub(super) fn receive(&mut self, bytes: &[u8], sasl: &Sasl, nonces: &mut Nonces) -> Turn {
        self.received.extend_from_slice(bytes);
        let (status, length, token_length) = match front(&self.received, TOKEN_BYTES_MAX) {
            Front::More => return Turn::WAIT,
            Front::Packet(status, length, token_length) => (status, length, token_length),
            Front::TooLong => return Turn::refuse("its token is longer than 4096 bytes"),
            Front::Other => return self.other(sasl),
        };
        let rest = self.received.split_off(length);
        let packet = core::mem::replace(&mut self.received, rest);
        let token = packet.get(length - token_length..).unwrap_or_default();
        match &mut self.end {
            End::Server(server) => {
                let users = sasl.users.as_deref().unwrap_or_default();
                let step = match status {
                    Status::IN_PROGRESS => server.evaluate(&SERVERS, token, users, nonces),
                    _ => Err("it has given up its login"),
                };
                match step {
                    Ok(Step::Challenge(token)) => {
                        Turn::say(Status::IN_PROGRESS, token.as_bytes(), Then::Wait)
                    }
                    Ok(Step::Done { token, .. }) => {
                        let then = Then::Through(self.rest());
                        Turn::say(Status::SUCCESS, token.as_bytes(), then)
                    }
                    Err(reason) => {
                        // As one that does not log in at all.
                        let then = if sasl.required {
                            Then::Refuse(format!("its login fails: {reason}"))
                        } else {
                            Then::Through(self.rest())
                        };
                        Turn::say(Status::ERROR, b"", then)
                    }
                }
            }
            End::Client(expected) => match (status, expected) {
                (Status::IN_PROGRESS, expected @ None) => {
                    let Some(login) = &sasl.login else {
                        return Turn::refuse("there is nobody to log in as");
                    };
                    match sasl::respond(&SERVERS, token, login, &nonces.next()) {
                        Ok((answer, last)) => {
                            *expected = Some(last);
                            Turn::say(Status::IN_PROGRESS, answer.as_bytes(), Then::Wait)
                        }
                        Err(reason) => Turn::refuse(reason),
                    }
                }
                (Status::SUCCESS, Some(last)) if last.as_bytes() == token => Turn {
                    send: None,
                    then: Then::Through(self.rest()),
                },
                (Status::SUCCESS, Some(_)) => {
                    Turn::refuse("it lets this server in and does not know its password")
                }
                (Status::ERROR, _) => Turn::refuse("it refuses this server's login"),
                _ => Turn::refuse("it says something else than a login needs"),
            },
        }
    }

    /// It does not speak SASL. Source: `QuorumAuth.nextPacketIsAuth`.
    fn other(&mut self, sasl: &Sasl) -> Turn {
        match &self.end {
            // Its first bytes are peeked at, and only those.
            End::Server(Server::Fresh) if !sasl.required => Turn {
                send: None,
                then: Then::Through(self.rest()),
            },
            End::Server(Server::Fresh) => Turn::refuse(NOT_LOGGED_IN),
            End::Server(_) => Turn::refuse("it breaks its login off"),
            End::Client(_) => Turn::refuse("it does not answer this server's login"),
        }
    }

    fn rest(&mut self) -> Bytes {
        core::mem::take(&mut self.received).into()
    }
}

/// Why somebody is refused that does not try.
pub(super) const NOT_LOGGED_IN: &str = "it does not log in (quorum.auth.serverRequireSasl)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn sasl(password: &str, required: bool) -> Sasl {
        let user = (String::from("test"), Secret::from(String::from(password)));
        Sasl {
            users: Some(alloc::vec![user.clone()]),
            required,
            login: Some(user),
            seed: Secret::default(),
        }
    }

    /// Two ends, with what the one that asks says behind its login; bytes arrive one by one.
    fn meet(client: &Sasl, server: &Sasl) -> (Then, Then) {
        let mut nonces = Nonces::new(Secret::default(), 1);
        let (mut asking, hello) = Gate::client(client).expect("it has a login");
        let mut letting = Gate::server(server).expect("it has users");
        let mut ends = (Then::Wait, Then::Wait);
        let mut to_server = hello;
        loop {
            let mut to_client = Bytes::new();
            for byte in &to_server {
                let turn = letting.receive(&[*byte], server, &mut nonces);
                to_client = turn.send.unwrap_or(to_client);
                ends.1 = turn.then;
            }
            to_server = Bytes::new();
            for byte in &to_client {
                let turn = asking.receive(&[*byte], client, &mut nonces);
                to_server = turn.send.unwrap_or(to_server);
                ends.0 = turn.then;
            }
            if to_server.is_empty() {
                return ends;
            }
        }
    }

    #[test]
    fn servers_with_the_same_password_meet() {
        let through = || Then::Through(Bytes::new());
        let ours = sasl("secret", true);
        assert_eq!(meet(&ours, &ours), (through(), through()));
    }

    #[test]
    fn wrong_password_is_let_through_only_where_none_is_required() {
        let (wrong, ours) = (sasl("guess", true), sasl("secret", true));
        let (asking, letting) = meet(&wrong, &ours);
        assert_eq!(
            asking,
            Then::Refuse("it refuses this server's login".into())
        );
        assert!(
            matches!(letting, Then::Refuse(reason) if reason.contains("the password is wrong"))
        );
        let (asking, letting) = meet(&wrong, &sasl("secret", false));
        assert!(matches!(asking, Then::Refuse(_)), "it insists");
        assert_eq!(letting, Then::Through(Bytes::new()));
    }

    #[test]
    fn whoever_does_not_log_in_is_seen_at_its_first_byte() {
        let mut nonces = Nonces::new(Secret::default(), 1);
        let packet = b"\0\0\0\x0b";
        let mut first = |sasl: &Sasl| {
            let mut gate = Gate::server(sasl).expect("it has users");
            gate.receive(packet, sasl, &mut nonces).then
        };
        let through = Then::Through(Bytes::from_static(packet));
        assert_eq!(first(&sasl("secret", false)), through);
        assert_eq!(
            first(&sasl("secret", true)),
            Then::Refuse(NOT_LOGGED_IN.into())
        );
    }

    /// CVE-2023-44981: in ZooKeeper a part that was missing of whom a peer said that it is let it
    /// in without any check. Here only a password lets in, whoever it says that it is.
    #[test]
    fn cve_2023_44981_a_missing_part_of_an_identity_is_no_way_in() {
        let ours = sasl("secret", true);
        for authzid in ["", "zkquorum", "zkquorum/", "@", "zkquorum@REALM", "test"] {
            let mut nonces = Nonces::new(Secret::default(), 1);
            let mut gate = Gate::server(&ours).expect("it has users");
            let hello = to_bytes(Status::IN_PROGRESS, b"");
            let challenged = gate.receive(&hello, &ours, &mut nonces);
            assert_eq!(challenged.then, Then::Wait);
            for user in ["test", authzid] {
                let nonce = Nonces::new(Secret::default(), 1).next();
                let answer = format!(
                    "username=\"{user}\",realm=\"zk-quorum-sasl-md5\",nonce=\"{nonce}\",\
                     nc=00000001,cnonce=\"c\",digest-uri=\"zookeeper-quorum/zk-quorum-sasl-md5\",\
                     response=00000000000000000000000000000000,authzid=\"{authzid}\""
                );
                let packet = to_bytes(Status::IN_PROGRESS, answer.as_bytes());
                let turn = gate.receive(&packet, &ours, &mut nonces);
                assert_eq!(turn.send, Some(to_bytes(Status::ERROR, b"")));
                assert!(matches!(turn.then, Then::Refuse(_)), "{authzid:?}");
            }
        }
    }

    #[test]
    fn server_that_does_not_know_the_password_is_not_followed() {
        let ours = sasl("secret", true);
        let mut nonces = Nonces::new(Secret::default(), 1);
        for last in [
            &b""[..],
            b"rspauth=0",
            b"rspauth=00000000000000000000000000000000",
        ] {
            let (mut gate, _) = Gate::client(&ours).expect("it has a login");
            let challenge = b"realm=\"zk-quorum-sasl-md5\",nonce=\"n\",algorithm=md5-sess";
            let packet = to_bytes(Status::IN_PROGRESS, challenge);
            assert_eq!(gate.receive(&packet, &ours, &mut nonces).then, Then::Wait);
            let packet = to_bytes(Status::SUCCESS, last);
            let turn = gate.receive(&packet, &ours, &mut nonces);
            assert!(matches!(turn.then, Then::Refuse(_)));
        }
        let (mut gate, _) = Gate::client(&ours).expect("it has a login");
        let turn = gate.receive(&to_bytes(Status::SUCCESS, b""), &ours, &mut nonces);
        assert!(
            matches!(turn.then, Then::Refuse(_)),
            "it was not challenged"
        );
    }

    #[test]
    fn long_tokens_are_refused_before_they_come() {
        let ours = sasl("secret", false);
        let mut nonces = Nonces::new(Secret::default(), 1);
        let mut gate = Gate::server(&ours).expect("it has users");
        let packet = to_bytes(Status::IN_PROGRESS, &[0; TOKEN_BYTES_MAX + 1]);
        let turn = gate.receive(packet.get(..16).unwrap_or_default(), &ours, &mut nonces);
        assert!(matches!(turn.then, Then::Refuse(_)));
    }
}
