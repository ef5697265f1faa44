//! Clients show who they are by SASL, and a session stays whose it is.

use md5::{Digest as _, Md5};
use zabra_core::error::ErrorCode;
use zabra_core::ids::{LinkId, SessionId, UnixMillis, Xid, Zxid};
use zabra_core::jute::{append, take, to_vec};
use zabra_core::secret::Secret;
use zabra_core::server::config::{AuthConfig, SessionPasswords};
use zabra_core::server::{Config, Event};
use zabra_core::store::Restore as _;
use zabra_core::tree::Loader;
use zabra_core::wire::client::{ConnectRequest, OpCode, ReplyHeader};
use zabra_core::wire::txn::TxnHeader;

use crate::bench::{
    A, B, Bench, auth, connect, create, create_with, data, entry, get, ping, request,
};

const C: LinkId = LinkId(3);
const REQUIRED: ErrorCode = ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH;
/// ZooKeeper's password of the session 0x100000000000000.
const OF_ID: u128 = 0xf22a_cd4a_97e6_9d6d_20a4_9bb6_38ea_db38;

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn config(change: impl FnOnce(&mut AuthConfig)) -> Config {
    let mut config = Config {
        auth: AuthConfig {
            sasl_users: Some(vec![
                ("bob".into(), secret("bob's")),
                ("eve".into(), secret("eve's")),
                ("root".into(), secret("root's")),
            ]),
            sasl_acls: true,
            super_users: vec!["root".into()],
            session_passwords: SessionPasswords::OfSecret,
            session_secret: secret("of this server"),
            ..AuthConfig::default()
        },
        ..Config::default()
    };
    change(&mut config.auth);
    config
}

fn sasl(token: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = to_vec(&(1_i32, OpCode::SASL.0));
    append(&mut bytes, &token.map(serde_bytes::Bytes::new));
    bytes
}

fn hash(text: &[u8]) -> [u8; 16] {
    Md5::digest(text).into()
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client's answer, written from RFC 2831 and not from the server.
fn answer(challenge: &str, user: &str, password: &str) -> String {
    let (_, nonce) = challenge.split_once("nonce=\"").unwrap();
    let (nonce, _) = nonce.split_once('"').unwrap();
    let uri = "zookeeper/zk-sasl-md5";
    let mut first = hash(format!("{user}:zk-sasl-md5:{password}").as_bytes()).to_vec();
    first.extend_from_slice(format!(":{nonce}:client").as_bytes());
    let (first, second) = (
        hex(hash(&first)),
        hex(hash(format!("AUTHENTICATE:{uri}").as_bytes())),
    );
    let response = hex(hash(
        format!("{first}:{nonce}:00000001:client:auth:{second}").as_bytes(),
    ));
    format!(
        "username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",cnonce=\"client\",\
         nc=00000001,qop=auth,digest-uri=\"{uri}\",response={response}"
    )
}

/// An answer's error, and its token unless that is null.
type Token = (i32, Option<String>);

/// Logs in; returns the last answer.
fn login(bench: &mut Bench, link: LinkId, user: &str, password: &str) -> Token {
    bench.send(link, &[sasl(Some(b""))]);
    let (error, challenge) = token(bench, link);
    assert_eq!(error, 0);
    let answer = answer(&challenge.unwrap(), user, password);
    bench.send(link, &[sasl(Some(answer.as_bytes()))]);
    token(bench, link)
}

/// Of the only answer there is.
fn token(bench: &mut Bench, link: LinkId) -> Token {
    let frames = bench.frames(link);
    let [frame] = frames.as_slice() else {
        panic!("{} answers", frames.len());
    };
    let mut rest: &[u8] = frame;
    let header: ReplyHeader = take(&mut rest).unwrap();
    assert_eq!(header.zxid, Zxid::ZERO);
    (header.error, take::<Option<String>>(&mut rest).unwrap())
}

/// A session's id and password, as a client was told them last.
fn session(frame: &[u8]) -> (SessionId, [u8; 16]) {
    let id = i64::from_be_bytes(frame[8..16].try_into().unwrap());
    (SessionId(id), frame[20..36].try_into().unwrap())
}

fn open(bench: &mut Bench, link: LinkId) -> (SessionId, [u8; 16]) {
    bench.open(link);
    bench.send(link, &[connect(30_000)]);
    bench.store();
    session(&bench.frames(link)[0])
}

/// Comes back with a password; returns what the server says the session is.
fn resume(
    bench: &mut Bench,
    link: LinkId,
    id: SessionId,
    password: &[u8],
) -> (SessionId, [u8; 16]) {
    bench.open(link);
    let request = to_vec(&ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 30_000,
        session: id,
        password: Some(password),
    });
    bench.send(link, &[request]);
    session(&bench.frames(link)[0])
}

fn refused_because(bench: &Bench, text: &str) -> bool {
    let says =
        |event: &Event| matches!(event, Event::LinkRefused { reason, .. } if reason.contains(text));
    bench.events.iter().any(says)
}

#[test]
fn users_of_sasl_are_who_they_say() {
    let mut bench = Bench::with(config(|_| {}));
    let (error, last) = login(&mut bench, A, "bob", "bob's");
    assert_eq!(error, 0);
    assert!(last.unwrap().starts_with("rspauth="));
    for (xid, path, acl) in [
        (2, "/bob", vec![entry(31, "sasl", "bob")]),
        (3, "/own", vec![entry(31, "auth", "")]),
    ] {
        bench.send(A, &[create_with(xid, path, b"secret", acl, 0)]);
        bench.store();
        assert_eq!(bench.error(A), 0, "{path}");
    }
    for path in ["/bob", "/own"] {
        bench.send(B, &[get(1, path)]);
        assert_eq!(bench.error(B), ErrorCode::NO_AUTH.0, "{path}");
    }
    assert_eq!(login(&mut bench, B, "eve", "eve's").0, 0);
    bench.send(B, &[get(2, "/bob")]);
    assert_eq!(bench.error(B), ErrorCode::NO_AUTH.0);
    open(&mut bench, C);
    assert_eq!(login(&mut bench, C, "root", "root's").0, 0);
    bench.send(C, &[get(2, "/bob")]);
    let frames = bench.frames(C);
    assert_eq!(data(&frames[0]), b"secret", "root may do everything");
}

#[test]
fn some_id_may_stand_for_every_user_of_sasl() {
    let mut bench = Bench::with(config(|auth| auth.any_sasl_user = Some("anybody".into())));
    bench.send(
        A,
        &[create_with(
            1,
            "/a",
            b"",
            vec![entry(1, "sasl", "anybody")],
            0,
        )],
    );
    bench.store();
    assert_eq!(bench.error(A), 0);
    bench.send(A, &[get(2, "/a")]);
    assert_eq!(bench.error(A), ErrorCode::NO_AUTH.0);
    login(&mut bench, A, "eve", "eve's");
    bench.send(A, &[get(3, "/a")]);
    assert_eq!(bench.error(A), 0);
}

#[test]
fn acls_of_sasl_are_stored_where_there_is_sasl() {
    for (sasl_acls, id, error) in [
        (true, "bob", 0),
        (true, "zookeeper/host@REALM", 0),
        (true, "a/b/c@REALM", ErrorCode::INVALID_ACL.0),
        (true, "a@b@c", ErrorCode::INVALID_ACL.0),
        (false, "bob", ErrorCode::INVALID_ACL.0),
    ] {
        let mut bench = Bench::with(config(|auth| auth.sasl_acls = sasl_acls));
        bench.send(
            A,
            &[create_with(1, "/a", b"", vec![entry(31, "sasl", id)], 0)],
        );
        bench.store();
        assert_eq!(bench.error(A), error, "{id}");
    }
}

#[test]
fn wrong_passwords_and_other_mechanisms_are_refused_and_change_nothing() {
    let wrong: [&dyn Fn(&mut Bench) -> Token; 4] = [
        &|bench| login(bench, A, "bob", "eve's"),
        &|bench| login(bench, A, "nobody", ""),
        &|bench| {
            // What GSSAPI begins with.
            bench.send(A, &[sasl(Some(b"\x60\x82\x02\x04\x06\x09"))]);
            token(bench, A)
        },
        &|bench| {
            bench.send(A, &[sasl(Some(b""))]);
            bench.frames(A);
            bench.send(A, &[sasl(Some(&[b'x'; 5000]))]);
            token(bench, A)
        },
    ];
    for (index, attempt) in wrong.iter().enumerate() {
        let mut bench = Bench::with(config(|_| {}));
        let txns = bench.txns.len();
        assert_eq!(
            attempt(&mut bench),
            (ErrorCode::AUTH_FAILED.0, None),
            "{index}"
        );
        assert!(bench.closed.contains(&A), "{index}");
        assert_eq!(bench.txns.len(), txns, "{index}");
        assert_eq!(
            bench.server.tree().sessions().count(),
            2,
            "its session stays"
        );
        let reasons = [
            "password is wrong",
            "no such user",
            "Kerberos",
            "longer than",
        ];
        assert!(
            refused_because(&bench, reasons[index]),
            "{:?}",
            bench.events
        );
    }
}

#[test]
fn who_may_fail_goes_on_as_nobody() {
    let mut bench = Bench::with(config(|auth| auth.allow_failed = true));
    bench.send(
        A,
        &[create_with(1, "/a", b"", vec![entry(31, "sasl", "bob")], 0)],
    );
    bench.store();
    bench.frames(A);
    assert_eq!(login(&mut bench, A, "bob", "guess"), (0, None));
    let told = |event: &Event| matches!(event, Event::SaslFailed { .. });
    assert!(bench.events.iter().any(told));
    bench.send(A, &[get(2, "/a")]);
    assert_eq!(bench.error(A), ErrorCode::NO_AUTH.0);
    // A connection has one attempt: guesses are not free.
    bench.send(A, &[sasl(Some(b""))]);
    assert_eq!(token(&mut bench, A), (ErrorCode::AUTH_FAILED.0, None));
    assert!(bench.closed.contains(&A));
}

#[test]
fn nothing_is_answered_before_a_required_scheme() {
    for (schemes, is_sasl) in [(&["sasl"][..], true), (&["digest", "sasl"], false)] {
        let required = config(|auth| {
            auth.allow_failed = true;
            auth.schemes_required = schemes.iter().map(|&scheme| scheme.to_owned()).collect();
        });
        for frame in [get(2, "/"), ping(), create(3, "/a", b"")] {
            let mut bench = Bench::with(required.clone());
            let txns = bench.txns.len();
            bench.send(A, &[frame]);
            assert_eq!(bench.error(A), REQUIRED.0);
            assert!(bench.closed.contains(&A));
            assert_eq!(bench.txns.len(), txns);
        }
        let mut bench = Bench::with(required.clone());
        bench.send(A, &[auth("me:password")]);
        bench.frames(A);
        bench.send(A, &[get(2, "/")]);
        let error = if is_sasl { REQUIRED.0 } else { 0 };
        assert_eq!(bench.error(A), error);
        assert_eq!(login(&mut bench, B, "bob", "bob's").0, 0);
        bench.send(B, &[get(2, "/")]);
        assert_eq!(bench.error(B), 0);
        let failed = login(&mut { Bench::with(required) }, A, "bob", "guess");
        assert_eq!(failed, (REQUIRED.0, None), "nobody goes on as nobody");
    }
}

#[test]
fn passwords_of_sessions_do_not_follow_from_their_ids() {
    let mut bench = Bench::new(config(|_| {}), Loader::new(0, true));
    let (id, password) = open(&mut bench, A);
    assert_eq!(id, SessionId(0x0100_0000_0000_0000));
    for guess in [&OF_ID.to_be_bytes()[..], &[0; 16], &[], &password[..15]] {
        bench.closed.clear();
        assert_eq!(resume(&mut bench, B, id, guess), (SessionId::NONE, [0; 16]));
        assert_eq!(bench.closed, [B].into(), "and its owner stays connected");
    }
    assert_eq!(resume(&mut bench, C, id, &password), (id, password));
    let other = config(|auth| auth.session_secret = secret("of another server"));
    let mut bench = Bench::new(other, Loader::new(0, true));
    let (same_id, other_password) = open(&mut bench, A);
    assert!(same_id == id && other_password != password);
}

#[test]
fn sessions_of_zookeeper_are_resumed_and_get_new_passwords() {
    let id = SessionId(0x0100_0000_0000_0000);
    let taken_over = |mode| {
        let mut loader = Loader::new(0, true);
        let header = TxnHeader {
            client: id,
            cxid: Xid(0),
            zxid: Zxid(1),
            time: UnixMillis(0),
            op: OpCode::CREATE_SESSION,
        };
        let mut txn = to_vec(&header);
        append(&mut txn, &30_000);
        loader.txn(&txn).unwrap();
        Bench::new(config(|auth| auth.session_passwords = mode), loader)
    };
    let of_id = OF_ID.to_be_bytes();

    let mut bench = taken_over(SessionPasswords::OfSecretFromNow);
    let (resumed, password) = resume(&mut bench, A, id, &of_id);
    assert!(resumed == id && password != of_id);
    assert_eq!(resume(&mut bench, B, id, &password), (id, password));
    assert_eq!(
        resume(&mut bench, C, id, &of_id).0,
        SessionId::NONE,
        "it has a new one"
    );

    let mut bench = taken_over(SessionPasswords::OfSecret);
    assert_eq!(resume(&mut bench, A, id, &of_id).0, SessionId::NONE);
    let mut bench = taken_over(SessionPasswords::OfBoth);
    assert_eq!(resume(&mut bench, A, id, &of_id), (id, password));
    let mut bench = taken_over(SessionPasswords::OfIdForNow);
    assert_eq!(
        resume(&mut bench, A, id, &password),
        (id, of_id),
        "for ZooKeeper to take over"
    );
    let mut bench = taken_over(SessionPasswords::OfId);
    assert_eq!(resume(&mut bench, A, id, &password).0, SessionId::NONE);
}

#[test]
fn authenticated_session_is_nobody_elses_whoever_knows_its_password() {
    let mut bench = Bench::new(
        config(|auth| auth.allow_failed = true),
        Loader::new(0, true),
    );
    let (id, password) = open(&mut bench, A);
    login(&mut bench, A, "bob", "bob's");

    // Who does not show who it is can do nothing, not even end it.
    for frame in [get(1, "/"), ping(), request(2, OpCode::CLOSE_SESSION, &())] {
        bench.closed.clear();
        bench.events.clear();
        resume(&mut bench, B, id, &password);
        bench.send(B, &[frame]);
        assert_eq!(bench.error(B), REQUIRED.0);
        assert!(bench.closed.contains(&B));
        assert!(refused_because(&bench, "authenticated as another"));
    }
    bench.closed.clear();
    resume(&mut bench, B, id, &password);
    assert_eq!(
        login(&mut bench, B, "eve", "eve's"),
        (ErrorCode::AUTH_FAILED.0, None)
    );
    assert!(bench.closed.contains(&B));
    assert_eq!(bench.server.tree().sessions().count(), 1);

    resume(&mut bench, C, id, &password);
    assert_eq!(login(&mut bench, C, "bob", "bob's").0, 0);
    bench.send(C, &[request(3, OpCode::CLOSE_SESSION, &())]);
    bench.store();
    assert_eq!(bench.error(C), 0);
    assert_eq!(bench.server.tree().sessions().count(), 0);
}
