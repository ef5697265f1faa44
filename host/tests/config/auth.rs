//! Who may connect, and whose passwords sessions have.

use zabra::config::SecretFile;
use zabra_core::{secret::Secret, server::config::SessionPasswords};

use super::{Dir, NEEDED, ServerConfig, fs, sources};

const MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule required";
const KRB5: &str = "com.sun.security.auth.module.Krb5LoginModule required";
const TWO: &str = "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmyid=1\n\
                   server.1=127.0.0.1:2881:3881\nserver.2=127.0.0.1:2882:3882\n";

/// Loads these lines behind what is needed, with this `jaas.conf` beside them unless it is empty.
fn load(lines: &str, jaas: &str) -> Result<ServerConfig, Vec<String>> {
    let dir = Dir::new();
    if !jaas.is_empty() {
        dir.file("jaas.conf", jaas);
    }
    let lines = lines.replace("DIR", &dir.0.display().to_string());
    let file = dir.file("zoo.cfg", format!("{NEEDED}{lines}\n"));
    let prefix = format!("{}/", dir.0.display());
    let loaded = ServerConfig::load(&sources(Some(&file), &[]));
    loaded.map_err(|problems| {
        let texts = problems.iter().map(|problem| problem.to_string());
        texts.map(|text| text.replace(&prefix, "")).collect()
    })
}

fn section(name: &str, module: &str, options: &str) -> String {
    format!("{name} {{\n {module}\n {options};\n}};\n")
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

/// The only problem, which must say this.
fn assert_refused(lines: &str, jaas: &str, says: &str) {
    let problems = load(lines, jaas).err().unwrap_or_default();
    let fits = problems.len() == 1 && problems.iter().all(|problem| problem.contains(says));
    assert!(fits, "{lines}\n{jaas}\n{problems:#?}");
    assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
}

#[test]
fn users_stand_in_the_file_beside_or_in_one_that_is_named() {
    let jaas = section("Server", MODULE, "user_bob=\"canary\" user_super=\"old\"");
    let config = load("", &jaas).unwrap();
    let bob = ("bob".to_owned(), secret("canary"));
    let users = vec![bob.clone(), ("super".to_owned(), secret("old"))];
    assert_eq!(config.core.auth.sasl_users, Some(users));
    assert!(config.core.auth.sasl_acls);
    assert!(!format!("{config:?}").contains("canary"), "{config:?}");

    let config = load("SASLAuthenticationProvider.superPassword=new", &jaas).unwrap();
    let users = vec![bob, ("super".to_owned(), secret("new"))];
    assert_eq!(config.core.auth.sasl_users, Some(users));

    let dir = Dir::new();
    let other = dir.file("other.conf", section("Mine", MODULE, "user_eve=e"));
    let lines = format!(
        "java.security.auth.login.config={}\nsasl.serverconfig=Mine\nsuperUser=eve\nsuperUser.x=y",
        other.display()
    );
    let config = load(&lines, &jaas).unwrap();
    let eve = ("eve".to_owned(), secret("e"));
    assert_eq!(config.core.auth.sasl_users, Some(vec![eve]));
    assert_eq!(config.core.auth.super_users, ["eve", "y"]);

    let without = load("", "").unwrap();
    assert_eq!(without.core.auth.sasl_users, None);
    let clients = section("Client", KRB5, "useKeyTab=true");
    assert_eq!(load("", &clients).unwrap().core.auth.sasl_users, None);
}

#[test]
fn what_cannot_let_in_is_refused() {
    let users = section("Server", MODULE, "user_bob=\"canary\"");
    let named = "java.security.auth.login.config=/nonexistent/jaas.conf";
    for (lines, jaas, says) in [
        (
            "",
            &*section("Server", KRB5, "useKeyTab=true"),
            "jaas.conf:1: Server: Kerberos",
        ),
        (
            "",
            &section("Server", "a.Other required", "x=y"),
            "found \"Other\"",
        ),
        (
            "",
            &section("Server", MODULE, "x=canary"),
            "expected user_NAME=",
        ),
        (
            "",
            &section("Server", MODULE, "user_a@b=canary"),
            "without @, quotes",
        ),
        (
            "",
            &section("Server", MODULE, "user_a=\"\""),
            "expected a password",
        ),
        (
            "",
            "Server {\n",
            "jaas.conf:2: expected the class of a login module",
        ),
        ("", "Server { };", "expected one login module, found 0"),
        ("fips-mode=true", &users, "is not allowed by fips-mode=true"),
        (
            "sasl.serverconfig=Other",
            &users,
            "there is no section Other",
        ),
        (named, &users, "/nonexistent/jaas.conf: cannot be read"),
        (
            "sessionRequireClientSASLAuth=true",
            "",
            "nobody could log in",
        ),
        (
            "enforce.auth.enabled=true",
            &users,
            "enforce.auth.schemes is missing",
        ),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=sasl",
            "",
            "nobody could log in",
        ),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=x509",
            "",
            "no secureClientPort",
        ),
        (
            "enforce.auth.schemes=kerberos",
            "",
            "of digest, ip, sasl and x509",
        ),
    ] {
        assert_refused(lines, jaas, says);
    }
}

#[test]
fn schemes_are_enforced_when_they_are_to_be() {
    let users = section("Server", MODULE, "user_bob=b");
    for (lines, schemes) in [
        ("", &[][..]),
        ("enforce.auth.schemes=sasl", &[]),
        ("sessionRequireClientSASLAuth=true", &["sasl"]),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=sasl,digest",
            &["digest", "sasl"],
        ),
    ] {
        let config = load(lines, &users).unwrap();
        assert_eq!(config.core.auth.schemes_required, schemes, "{lines}");
    }
}

#[test]
fn servers_log_in_with_each_other() {
    let jaas = section("QuorumServer", MODULE, "user_peer=canary")
        + &section("QuorumLearner", MODULE, "username=peer password=canary");
    let all = "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\n\
               quorum.auth.serverRequireSasl=true";
    let sasl = |lines: &str| {
        let config = load(&format!("{TWO}{lines}"), &jaas).unwrap();
        config.ensemble.unwrap().zab.sasl
    };
    let peer = ("peer".to_owned(), secret("canary"));
    let found = sasl(all);
    assert_eq!(
        (found.users, found.login),
        (Some(vec![peer.clone()]), Some(peer))
    );
    assert!(found.required);
    let found = sasl("quorum.auth.enableSasl=true");
    assert!(found.users.is_some() && found.login.is_none() && !found.required);
    assert_eq!(sasl("").users, None);

    let with = |lines: &str| format!("{TWO}{lines}");
    let no_learner = section("QuorumServer", MODULE, "user_peer=canary");
    for (lines, jaas, says) in [
        (all, "", "there is no such file"),
        (all, &*no_learner, "there is none in"),
        (
            all,
            &jaas.replace("username=peer", ""),
            "expected username=",
        ),
        (all, &jaas.replace(MODULE, KRB5), "Kerberos"),
        (
            "quorum.auth.serverRequireSasl=true",
            &jaas,
            "needs quorum.auth.enableSasl=true",
        ),
    ] {
        let problems = load(&with(lines), jaas).unwrap_err();
        let said = problems.iter().any(|problem| problem.contains(says));
        assert!(said, "{lines}\n{jaas}\n{problems:#?}");
        assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
    }
}

#[test]
fn passwords_of_sessions_are_of_a_secret_where_all_servers_have_it() {
    use SessionPasswords::*;
    let of = |lines: &str| {
        let config = load(lines, "").unwrap();
        (config.core.auth.session_passwords, config.secret_file)
    };
    let own = |found, made| {
        let path = "/nonexistent/zabra/zabra-session.secret".into();
        (OfId, Some(SecretFile { path, found, made }))
    };
    assert_eq!(of(""), own(OfSecret, Some(OfSecretFromNow)));
    assert_eq!(
        of("zabra.sessionPasswords=zookeeper"),
        own(OfIdForNow, None)
    );
    let secret_line = "zabra.sessionSecret=0123456789abcdef\n";
    assert_eq!(of(secret_line), (OfSecret, None));
    assert_eq!(of(TWO), (OfId, None));
    for (setting, passwords) in [
        ("", OfSecret),
        ("zabra.sessionPasswords=secret", OfSecret),
        ("zabra.sessionPasswords=migrate", OfBoth),
        ("zabra.sessionPasswords=zookeeper", OfIdForNow),
    ] {
        let lines = format!("{TWO}{secret_line}{setting}");
        assert_eq!(of(&lines), (passwords, None), "{setting}");
    }
    let dir = Dir::new();
    let file = dir.file("secret", "0123456789abcdef\n");
    let lines = format!("{TWO}zabra.sessionSecretFile={}", file.display());
    let config = load(&lines, "").unwrap();
    assert_eq!(config.core.auth.session_secret, secret("0123456789abcdef"));

    fs::write(&file, "canary\n").unwrap();
    assert_refused(&lines, "", "at least 16 characters");
    assert_refused("zabra.sessionSecret=canary", "", "at least 16 characters");
    let lines = format!("{TWO}zabra.sessionPasswords=secret");
    assert_refused(&lines, "", "needs zabra.sessionSecret");
    assert_refused(
        "zabra.sessionPasswords=x",
        "",
        "secret, migrate or zookeeper",
    );
}
