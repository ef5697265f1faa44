#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its expectation fails"
)]

use super::*;

/// An exchange between two servers of Apache ZooKeeper 3.8.0, as it was on the wire.
const CHALLENGE: &str = "realm=\"zk-quorum-sasl-md5\",\
    nonce=\"3N4frvPxEr53n4MlMLb2yI8RDmbzqWcjlEg4PbxS\",charset=utf-8,algorithm=md5-sess";
const NONCE: &str = "3N4frvPxEr53n4MlMLb2yI8RDmbzqWcjlEg4PbxS";
const CNONCE: &str = "ZDY/c/Z0a1iSJyqpCgeIaGCMp31IgmMR/gzBvJ6C";
const RESPONSE: &str = "charset=utf-8,username=\"test\",realm=\"zk-quorum-sasl-md5\",\
    nonce=\"3N4frvPxEr53n4MlMLb2yI8RDmbzqWcjlEg4PbxS\",nc=00000001,\
    cnonce=\"ZDY/c/Z0a1iSJyqpCgeIaGCMp31IgmMR/gzBvJ6C\",\
    digest-uri=\"zookeeper-quorum/zk-quorum-sasl-md5\",maxbuf=65536,\
    response=ef809687d4466c5b21834152e33c0bed,qop=auth,authzid=\"test\"";
const RSPAUTH: &str = "rspauth=02cc4ec5cec96fbfa07e7e2e6d9ba17a";

fn secret(text: &str) -> Secret {
    Secret::from(String::from(text))
}

fn nonces() -> Nonces {
    Nonces::new(secret("seed"), 7)
}

fn users() -> Vec<(String, Secret)> {
    alloc::vec![
        ("test".into(), secret("secret")),
        ("rene".into(), secret("mot \"de\" passe")),
    ]
}

/// A whole exchange; what the client sends may be changed on its way.
fn login(
    user: &str,
    password: &str,
    change: impl Fn(String) -> String,
) -> Result<String, &'static str> {
    let (mut server, mut nonces) = (Server::default(), nonces());
    let Step::Challenge(challenge) = server.evaluate(&CLIENTS, b"", &users(), &mut nonces)? else {
        return Err("let in by nothing");
    };
    let login = (user.into(), secret(password));
    let (answer, expected) = respond(&CLIENTS, challenge.as_bytes(), &login, "cnonce")?;
    match server.evaluate(&CLIENTS, change(answer).as_bytes(), &users(), &mut nonces)? {
        Step::Done { user, token } => {
            assert_eq!(token, expected);
            Ok(user)
        }
        Step::Challenge(_) => Err("asked twice"),
    }
}

#[test]
fn both_roles_say_what_zookeeper_says() {
    let login = ("test".into(), secret("secret"));
    let answer = respond(&SERVERS, CHALLENGE.as_bytes(), &login, CNONCE).unwrap();
    assert_eq!(answer, (RESPONSE.into(), RSPAUTH.into()));
    let mut server = Server::Challenged(NONCE.into());
    let done = server.evaluate(&SERVERS, RESPONSE.as_bytes(), &users(), &mut nonces());
    assert_eq!(
        done,
        Ok(Step::Done {
            user: "test".into(),
            token: RSPAUTH.into()
        })
    );
}

#[test]
fn users_are_let_in_by_their_passwords() {
    for (user, password) in [("test", "secret"), ("rene", "mot \"de\" passe")] {
        assert_eq!(login(user, password, |answer| answer), Ok(user.into()));
    }
    for (user, password) in [
        ("test", "Secret"),
        ("test", ""),
        ("nobody", ""),
        ("", "secret"),
        ("rene", "secret"),
    ] {
        login(user, password, |answer| answer).unwrap_err();
    }
}

/// ZOOKEEPER-4839: who did not exist was let in with the password of who came before.
#[test]
fn zookeeper_4839_nobody_is_let_in_as_the_user_before() {
    assert!(login("test", "secret", |answer| answer).is_ok());
    login("nobody", "secret", |answer| answer).unwrap_err();
}

#[test]
fn nobody_acts_as_another_than_whose_password_it_has() {
    let (mut server, mut nonces) = (Server::Challenged("n".into()), nonces());
    let password = secret("secret");
    let proof = Proof {
        place: &CLIENTS,
        user: "test",
        password: &password,
        nonce: "n",
        cnonce: "c",
        authzid: "super",
    };
    let answer = format!(
        "username=\"test\",realm=\"zk-sasl-md5\",nonce=\"n\",nc=00000001,cnonce=\"c\",\
         digest-uri=\"zookeeper/zk-sasl-md5\",response={},authzid=\"super\"",
        proof.response("AUTHENTICATE")
    );
    let step = server.evaluate(&CLIENTS, answer.as_bytes(), &users(), &mut nonces);
    let Ok(Step::Done { user, .. }) = step else {
        panic!("expected test to be let in, found {step:?}");
    };
    assert_eq!(user, "test");
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let without = |text: &'static str| move |answer: String| answer.replace(text, "");
    for text in [
        "nc=00000001,",
        "qop=auth",
        "realm=\"zk-sasl-md5\",",
        "cnonce=\"cnonce\",",
    ] {
        let came = login("test", "secret", without(text));
        // The quality may be left out: there is one.
        assert_eq!(came.is_ok(), text == "qop=auth", "{text}");
    }
    for (from, to) in [
        ("qop=auth", "qop=auth-conf"),
        ("zookeeper/", "ldap/"),
        ("charset=utf-8", "charset=latin1"),
        ("nc=00000001", "nc=00000002"),
        ("nonce=\"", "nonce=\"0"),
        ("username=\"test\"", "username=\"test\",username=\"test\""),
        ("username=\"test\"", "username=\"test"),
    ] {
        let came = login("test", "secret", |answer| answer.replace(from, to));
        assert!(came.is_err(), "{to}");
    }
    let long = "x".repeat(TOKEN_BYTES_MAX);
    login("test", "secret", |answer| answer + "," + &long + "=1").unwrap_err();
    login("test", "secret", |_| String::new()).unwrap_err();
}

#[test]
fn connection_has_one_attempt() {
    let (mut server, mut nonces) = (Server::default(), nonces());
    assert!(
        server
            .evaluate(&CLIENTS, b"", &users(), &mut nonces)
            .is_ok()
    );
    for _ in 0..3 {
        assert!(
            server
                .evaluate(&CLIENTS, b"", &users(), &mut nonces)
                .is_err()
        );
    }
    let mut server = Server::default();
    let kerberos = b"\x60\x82\x02\x04";
    assert!(
        server
            .evaluate(&CLIENTS, kerberos, &users(), &mut nonces)
            .is_err()
    );
}

#[test]
fn challenges_that_are_none_are_not_answered() {
    let login = ("test".into(), secret("secret"));
    for challenge in [
        "",
        "nonce=\"n\"",
        "realm=\"zk-quorum-sasl-md5\",nonce=\"n\",algorithm=md5",
        "realm=\"elsewhere\",nonce=\"n\",algorithm=md5-sess",
        "realm=\"zk-quorum-sasl-md5\",nonce=\"n\",algorithm=md5-sess,qop=\"auth-int\"",
        "=,=,=",
        "\"",
    ] {
        assert!(
            respond(&SERVERS, challenge.as_bytes(), &login, "c").is_err(),
            "{challenge}"
        );
    }
}

/// Whatever arrives: a decision, and no more than the token's own size of memory.
#[test]
fn tokens_of_any_bytes_are_decided() {
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        let length = state % 60;
        for _ in 0..length {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let [.., a, b] = state.to_le_bytes();
            let alphabet = b"\",=\\ nonce=\x80u";
            bytes.push(alphabet.get(usize::from(a ^ b) % 16).copied().unwrap_or(b));
        }
        state = state.wrapping_add(1);
        let mut server = Server::Challenged("n".into());
        let came = server.evaluate(&CLIENTS, &bytes, &users(), &mut nonces());
        assert!(came.is_err());
    }
}
