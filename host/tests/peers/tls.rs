//! Apache ZooKeeper's `zkCli` and kazoo by TLS, with key stores that Java's `keytool` and OpenSSL
//! have made.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::certs::{Authority, stores};
use crate::support::process::{Directory, Kind, Server, free_address, is_baseline, peer};

const PASSWORD: &str = "of-the-store";

/// Runs a program, which must succeed.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output
}

fn keytool(arguments: &[&str]) {
    run("keytool", arguments);
}

/// The server's port for TLS, and the lines of its zoo.cfg.
fn secure_lines(lines: &[String]) -> (core::net::SocketAddr, Vec<String>) {
    let address = free_address();
    let mut all = vec![
        format!("secureClientPort={}", address.port()),
        "secureClientPortAddress=127.0.0.1".to_owned(),
        // Apache ZooKeeper needs it; ours says that it has but one network layer.
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
    ];
    all.extend_from_slice(lines);
    (address, all)
}

fn start(home: &Path, lines: &[String]) -> Server {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Server::start(Kind::Zabra, home, &lines)
}

/// What zkCli prints for one command, over TLS with these stores.
fn zkcli(address: core::net::SocketAddr, properties: &[String], command: &[&str]) -> String {
    let properties: Vec<String> = properties
        .iter()
        .map(|property| format!("-Dzookeeper.{property}"))
        .collect();
    let output = Command::new(peer("apache-zookeeper"))
        .args(["cli", "-server", &format!("localhost:{}", address.port())])
        .args(command)
        .env("JAVA_TOOL_OPTIONS", properties.join(" "))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    said.into_owned()
}

/// As an operator of Java makes them: PKCS12 by keytool, each trusting the other's certificate.
#[test]
fn zkcli_and_keytool_stores() {
    let home = Directory::new("tls-zkcli");
    let at = |name: &str| home.path().join(name).display().to_string();
    for (who, dname) in [
        ("server", "CN=localhost"),
        ("client", "CN=cli, OU=\"a+b\", C=DE"),
    ] {
        let (store, cert) = (at(&format!("{who}.p12")), at(&format!("{who}.crt")));
        keytool(&[
            "-genkeypair",
            "-alias",
            who,
            "-keyalg",
            "EC",
            "-dname",
            dname,
            "-ext",
            "SAN=dns:localhost,ip:127.0.0.1",
            "-keystore",
            &store,
            "-storetype",
            "PKCS12",
            "-storepass",
            PASSWORD,
        ]);
        keytool(&[
            "-exportcert",
            "-alias",
            who,
            "-keystore",
            &store,
            "-storepass",
            PASSWORD,
            "-file",
            &cert,
        ]);
    }
    for (who, other) in [("server", "client"), ("client", "server")] {
        keytool(&[
            "-importcert",
            "-noprompt",
            "-alias",
            other,
            "-file",
            &at(&format!("{other}.crt")),
            "-keystore",
            &at(&format!("{who}-trust.p12")),
            "-storetype",
            "PKCS12",
            "-storepass",
            PASSWORD,
        ]);
    }
    let secret = home.path().join("secret");
    fs::write(&secret, format!("{PASSWORD}\n")).unwrap();
    let of = |who: &str| {
        let [key, trust] = stores(
            "ssl.",
            Path::new(&at(&format!("{who}.p12"))),
            Path::new(&at(&format!("{who}-trust.p12"))),
        );
        let password = format!("ssl.trustStore.password={PASSWORD}");
        vec![key, trust, password]
    };
    let mut server_lines = of("server");
    server_lines.push(format!("ssl.keyStore.passwordPath={}", secret.display()));
    let (address, lines) = secure_lines(&server_lines);
    let server = start(home.path(), &lines);

    let mut client = of("client");
    client.push(format!("ssl.keyStore.password={PASSWORD}"));
    client.push("clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty".into());
    client.push("client.secure=true".into());
    let said = zkcli(address, &client, &["create", "/by-tls", "data"]);
    assert!(said.contains("Created /by-tls"), "{said}\n{}", server.log());
    let said = zkcli(address, &client, &["get", "/by-tls"]);
    assert!(said.contains("data"), "{said}");
    // As Java writes the subject.
    let said = zkcli(address, &client, &["whoami"]);
    assert!(said.contains("x509: CN=cli,OU=a\\+b,C=DE"), "{said}");

    if is_baseline() {
        return;
    }
    // The same store in Java's old format is refused with the line that converts it.
    let old = at("old.jks");
    keytool(&[
        "-importkeystore",
        "-srckeystore",
        &at("server.p12"),
        "-srcstorepass",
        PASSWORD,
        "-destkeystore",
        &old,
        "-deststoretype",
        "JKS",
        "-deststorepass",
        PASSWORD,
    ]);
    let refused = refusal(
        home.path(),
        &[
            "secureClientPort=0".into(),
            "ssl.clientAuth=none".into(),
            format!("ssl.keyStore.location={old}"),
        ],
    );
    assert!(refused.contains("keytool -importkeystore"), "{refused}");
}

/// What a server says that does not start with these lines.
fn refusal(home: &Path, lines: &[String]) -> String {
    let config = home.join("refused.cfg");
    let data = home.join("refused");
    let text = format!("dataDir={}\nclientPort=0\n", data.display());
    fs::write(&config, text + &lines.join("\n") + "\n").unwrap();
    let server = std::env::var_os("PEERS_SERVER");
    let server = server.unwrap_or_else(|| env!("CARGO_BIN_EXE_zabra").into());
    let output = Command::new(server)
        .args(["server", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Where `cargo xtask setup` puts kazoo.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("peers/python/bin/python")
}

const KAZOO: &str = r#"
import sys
from kazoo.client import KazooClient
port, ca, own = sys.argv[1:]
client = KazooClient(hosts=f"localhost:{port}", use_ssl=True, ca=ca, certfile=own, keyfile=own)
client.start(timeout=20)
client.create("/kazoo", b"x" * 500000)
assert client.get("/kazoo")[0] == b"x" * 500000
futures = [client.get_async("/kazoo") for _ in range(40)]
assert all(len(future.get(20)[0]) == 500000 for future in futures)
seen = []
client.get("/kazoo", watch=seen.append)
client.set("/kazoo", b"y")
client.sync("/kazoo")
client.stop()
assert [event.type for event in seen] == ["CHANGED"], seen
print("well")
"#;

/// With PEM files, the server's key encrypted by OpenSSL.
#[test]
fn kazoo_and_pem_stores() {
    let home = Directory::new("tls-kazoo");
    let at = |name: &str| home.path().join(name).display().to_string();
    let authority = Authority::new("Zabra test authority");
    fs::write(at("ca.pem"), &authority.pem).unwrap();
    let own = authority.certify("server", &["localhost"]);
    fs::write(at("plain.pem"), &own.key).unwrap();
    run(
        "openssl",
        &[
            "pkcs8",
            "-topk8",
            "-in",
            &at("plain.pem"),
            "-out",
            &at("server.pem"),
            "-passout",
            &format!("pass:{PASSWORD}"),
        ],
    );
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(at("server.pem"))
        .unwrap();
    file.write_all(own.certificate.as_bytes()).unwrap();
    authority
        .certify("kazoo", &[])
        .write(Path::new(&at("kazoo.pem")));
    let [key, trust] = stores(
        "ssl.",
        Path::new(&at("server.pem")),
        Path::new(&at("ca.pem")),
    );
    let (address, lines) = secure_lines(&[key, trust, format!("ssl.keyStore.password={PASSWORD}")]);
    let server = start(home.path(), &lines);
    let output = Command::new(python())
        .args([
            "-c",
            KAZOO,
            &address.port().to_string(),
            &at("ca.pem"),
            &at("kazoo.pem"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", server.log_end());
}

/// OpenSSL's own client shows what a server says of itself.
#[test]
fn openssl_finds_both_versions_and_the_chain() {
    let home = Directory::new("tls-openssl");
    let at = |name: &str| home.path().join(name).display().to_string();
    let authority = Authority::new("Zabra test authority");
    fs::write(at("ca.pem"), &authority.pem).unwrap();
    authority
        .certify("server", &["localhost"])
        .write(Path::new(&at("server.pem")));
    let (address, lines) = secure_lines(&[
        format!("ssl.keyStore.location={}", at("server.pem")),
        "ssl.clientAuth=none".into(),
    ]);
    let _server = start(home.path(), &lines);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Command::new("openssl")
            .args([
                "s_client",
                "-verify_return_error",
                version,
                "-servername",
                "localhost",
            ])
            .args([
                "-verify_hostname",
                "localhost",
                "-CAfile",
                &at("ca.pem"),
                "-quiet",
            ])
            .args(["-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.stdin.as_mut().unwrap().write_all(b"ruok").unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"imok", "{version}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let old = Command::new("openssl")
            .args(["s_client", version, "-cipher", "DEFAULT@SECLEVEL=0"])
            .args(["-connect", &address.to_string()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&old.stderr);
        assert!(said.contains("SSL alert number"), "{version}: {said}");
    }
}
