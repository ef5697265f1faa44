//! The keys about who may connect, and who may have a session back.
//!
//! Source: as in [`keys`](super::keys); client-protocol 8.6 to 8.9, quorum-protocol 6.2.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use zabra_core::{secret::Secret, server::config::SessionPasswords, zab};

use super::{
    draft::{Draft, Settings},
    ensemble::EnsembleConfig,
    jaas::{self, Jaas, LoginModule},
    keys::{key, path},
    problem::{Origin, Problem},
    properties,
    table::{Effect, Key},
};

const LOGIN_CONFIG: &str = "java.security.auth.login.config";
const SECTION: &str = "sasl.serverconfig";
const ENABLE: &str = "quorum.auth.enableSasl";
const SERVER_REQUIRES: &str = "quorum.auth.serverRequireSasl";
const LEARNER_REQUIRES: &str = "quorum.auth.learnerRequireSasl";
const SERVER_SECTION: &str = "quorum.auth.server.saslLoginContext";
const LEARNER_SECTION: &str = "quorum.auth.learner.saslLoginContext";
const SCHEMES: &str = "enforce.auth.schemes";
const ENFORCE: &str = "enforce.auth.enabled";
const REQUIRE_SASL: &str = "sessionRequireClientSASLAuth";
const PASSWORDS: &str = "zabra.sessionPasswords";
const SECRET: &str = "zabra.sessionSecret";
const SECRET_FILE: &str = "zabra.sessionSecretFile";
/// Found beside zoo.cfg without being named.
const FILE: &str = "jaas.conf";
/// Fewer characters could be tried one after the other.
const SECRET_CHARS_MIN: usize = 16;

pub(super) static KEYS: &[Key] = &[
    // A property of Java itself there; a key here.
    key(
        LOGIN_CONFIG,
        "",
        Effect::Text(|d, v| path(&mut d.auth.jaas, v)),
    ),
    key(
        SECTION,
        "Server",
        Effect::Text(|d, v| name(&mut d.auth.section, v)),
    ),
    key(
        "allowSaslFailedClients",
        "false",
        Effect::Switch(|d, on| d.core.auth.allow_failed = on),
    ),
    key(
        REQUIRE_SASL,
        "false",
        Effect::Switch(|d, on| d.auth.require_sasl = on),
    ),
    key(
        "letAnySaslUserDoX",
        "",
        Effect::Text(|d, v| name(&mut d.core.auth.any_sasl_user, v)),
    ),
    key("superUser", "", Effect::Text(super_user)),
    key("superUser.*", "", Effect::Text(super_user)),
    key(
        "SASLAuthenticationProvider.superPassword",
        "",
        Effect::Text(|d, v| name(&mut d.auth.super_password, v)),
    )
    .secret(),
    key(
        ENFORCE,
        "false",
        Effect::Switch(|d, on| d.auth.enforce = on),
    ),
    key(SCHEMES, "", Effect::Text(schemes)),
    key("authProvider.*", "", Effect::Text(provider)),
    key(
        ENABLE,
        "false",
        Effect::Switch(|d, on| d.auth.quorum.enable = on),
    ),
    key(
        SERVER_REQUIRES,
        "false",
        Effect::Switch(|d, on| d.auth.quorum.server_requires = on),
    ),
    key(
        LEARNER_REQUIRES,
        "false",
        Effect::Switch(|d, on| d.auth.quorum.learner_requires = on),
    ),
    key(
        SERVER_SECTION,
        "QuorumServer",
        Effect::Text(|d, v| name(&mut d.auth.quorum.server_section, v)),
    ),
    key(
        LEARNER_SECTION,
        "QuorumLearner",
        Effect::Text(|d, v| name(&mut d.auth.quorum.learner_section, v)),
    ),
    // Ours.
    key(PASSWORDS, "", Effect::Text(passwords)),
    key(SECRET, "", Effect::Text(secret)).secret(),
    key(
        SECRET_FILE,
        "",
        Effect::Text(|d, v| path(&mut d.auth.secret_file, v)),
    ),
];

/// The keys while they are read. Has no `Debug`: it holds passwords.
#[derive(Default)]
pub(super) struct AuthDraft {
    jaas: Option<PathBuf>,
    section: Option<String>,
    super_password: Option<String>,
    require_sasl: bool,
    enforce: bool,
    schemes: Vec<String>,
    quorum: QuorumDraft,
    passwords: Option<Passwords>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
}

#[derive(Default)]
struct QuorumDraft {
    enable: bool,
    server_requires: bool,
    learner_requires: bool,
    server_section: Option<String>,
    learner_section: Option<String>,
}

/// `zabra.sessionPasswords`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passwords {
    Migrate,
    Secret,
    ZooKeeper,
}

/// A file that the server makes when it is not there: a secret of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Where.
    pub path: PathBuf,
    /// What passwords of sessions are if the file is there already.
    pub found: SessionPasswords,
    /// And what they are if it is not; `None`: then it is not made, and they are of ids.
    pub made: Option<SessionPasswords>,
}

/// The name of that file in `dataDir`.
const OWN_SECRET_FILE: &str = "zabra-session.secret";

fn name(slot: &mut Option<String>, value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("a name");
    }
    *slot = Some(value.to_owned());
    Ok(())
}

fn super_user(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("the name of a SASL user");
    }
    draft.core.auth.super_users.push(value.to_owned());
    Ok(())
}

fn schemes(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    let schemes = value.split(',').map(str::trim);
    let schemes: BTreeSet<&str> = schemes.filter(|scheme| !scheme.is_empty()).collect();
    draft.auth.schemes = schemes.into_iter().map(str::to_owned).collect();
    let known = ["digest", "ip", "sasl", "x509"];
    if draft
        .auth
        .schemes
        .iter()
        .all(|scheme| known.contains(&scheme.as_str()))
    {
        Ok(())
    } else {
        Err("schemes with commas between them, of digest, ip, sasl and x509")
    }
}

/// The classes of ZooKeeper's own that are here, by the last part of their names.
fn provider(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    match value.rsplit('.').next().unwrap_or_default() {
        "SASLAuthenticationProvider" => {
            draft.core.auth.sasl_acls = true;
            Ok(())
        }
        "DigestAuthenticationProvider"
        | "IPAuthenticationProvider"
        | "X509AuthenticationProvider" => Ok(()),
        _ => Err(
            "the class of a provider that is built in: SASLAuthenticationProvider, \
                  X509AuthenticationProvider, DigestAuthenticationProvider or \
                  IPAuthenticationProvider of org.apache.zookeeper.server.auth",
        ),
    }
}

fn passwords(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    draft.auth.passwords = Some(match value {
        "migrate" => Passwords::Migrate,
        "secret" => Passwords::Secret,
        "zookeeper" => Passwords::ZooKeeper,
        _ => return Err("secret, migrate or zookeeper"),
    });
    Ok(())
}

fn secret(draft: &mut Draft, value: &str) -> Result<(), &'static str> {
    if value.chars().count() < SECRET_CHARS_MIN {
        return Err("at least 16 characters, the same on every server and chosen at random");
    }
    draft.auth.secret = Some(value.to_owned());
    Ok(())
}

/// Whether this can be the name of a user. Source: `KerberosName`: with an `@` it would become
/// another by rules that are not here.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.is_ascii() && !name.contains(['@', '"', '\\'])
}

impl Draft {
    /// Checks who may connect, and completes what the servers decide by.
    pub(super) fn authentication(
        &mut self,
        settings: &Settings,
        file: Option<&Arc<Path>>,
        ensemble: Option<&mut EnsembleConfig>,
    ) {
        let login = self.read_jaas(file);
        let auth = core::mem::take(&mut self.auth);
        let is_ensemble = ensemble.is_some();
        if let Some((origin, jaas)) = &login {
            self.clients_sasl(&auth, settings, origin, jaas);
        }
        self.enforced(&auth, settings);
        let sasl = self.quorum_sasl(&auth.quorum, settings, login.as_ref(), is_ensemble);
        if let (Some(ensemble), Some(sasl)) = (ensemble, sasl) {
            ensemble.zab.sasl = sasl;
        }
        self.session_secret(auth, settings, is_ensemble);
    }

    /// The file that is named, or the one that lies beside zoo.cfg.
    fn read_jaas(&mut self, file: Option<&Arc<Path>>) -> Option<(Arc<Path>, Jaas)> {
        let beside = || Some(file?.parent()?.join(FILE));
        let named = self.auth.jaas.take();
        let (place, is_named) = match named {
            Some(named) => (named, true),
            None => (beside()?, false),
        };
        let origin = Origin::File(place.as_path().into());
        let bytes = match fs::read(&place) {
            Ok(bytes) => bytes,
            Err(error) if !is_named && error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let text = format!("cannot be read: {error}; it is to say who may log in");
                self.problems.push(Problem::new(Some(&origin), "", text));
                return None;
            }
        };
        match jaas::parse(&properties::decode(&bytes)) {
            Ok(jaas) => Some((place.into(), jaas)),
            Err(fault) => {
                let origin = Origin::Line(place.into(), fault.line);
                self.problems
                    .push(Problem::new(Some(&origin), "", fault.text));
                None
            }
        }
    }

    /// The digest module of a section, if the section is there. What else it is is said.
    fn digest_module<'a>(
        &mut self,
        (file, jaas): (&Arc<Path>, &'a Jaas),
        name: &str,
        settings: &Settings,
    ) -> Option<&'a LoginModule> {
        let section = jaas.get(name)?;
        let origin = Origin::Line(Arc::clone(file), section.line);
        let mut complain = |text: String| {
            self.problems.push(Problem::new(Some(&origin), name, text));
            None
        };
        let [module] = section.modules.as_slice() else {
            let found = section.modules.len();
            return complain(format!("expected one login module, found {found}"));
        };
        let class = module.class.rsplit('.').next().unwrap_or_default();
        match class {
            "DigestLoginModule" => {}
            "Krb5LoginModule" => {
                return complain(
                    "Kerberos (GSSAPI) is not built; use \
                     org.apache.zookeeper.server.auth.DigestLoginModule, or TLS with client \
                     certificates"
                        .to_owned(),
                );
            }
            _ => {
                return complain(format!(
                    "expected org.apache.zookeeper.server.auth.DigestLoginModule, found {class:?}"
                ));
            }
        }
        let fips = settings.get("fips-mode");
        if fips.is_some_and(|fips| fips.value.eq_ignore_ascii_case("true")) {
            return complain(
                "DIGEST-MD5 is not allowed by fips-mode=true; set that to false, or use TLS with \
                 client certificates instead of this section"
                    .to_owned(),
            );
        }
        Some(module)
    }

    /// `user_NAME="PASSWORD"`.
    fn users(
        &mut self,
        module: &LoginModule,
        file: &Arc<Path>,
        section: &str,
    ) -> Vec<(String, Secret)> {
        let mut users: Vec<(String, Secret)> = Vec::new();
        for (option, password) in &module.options {
            let Some(user) = option.strip_prefix("user_") else {
                continue;
            };
            let origin = Origin::File(Arc::clone(file));
            let wrong = if !is_name(user) {
                Some("expected a name of ASCII without @, quotes and backslashes behind user_")
            } else if !password.is_ascii() {
                Some("expected a password of ASCII: clients hash others differently")
            } else if password.is_empty() {
                Some("expected a password, found nothing")
            } else {
                None
            };
            if let Some(text) = wrong {
                let key = format!("{section} {option}");
                self.problems.push(Problem::new(Some(&origin), &key, text));
            }
            users.retain(|(name, _)| name != user);
            users.push((user.to_owned(), Secret::from(password.clone())));
        }
        users
    }

    fn clients_sasl(
        &mut self,
        auth: &AuthDraft,
        settings: &Settings,
        file: &Arc<Path>,
        jaas: &Jaas,
    ) {
        let section = auth.section.as_deref().unwrap_or("Server");
        if !jaas.contains_key(section) && settings.contains_key(SECTION) {
            let origin = settings.get(SECTION).map(|setting| &setting.origin);
            let text = format!("there is no section {section} in {}", file.display());
            self.problems.push(Problem::new(origin, SECTION, text));
        }
        let Some(module) = self.digest_module((file, jaas), section, settings) else {
            return;
        };
        let mut users = self.users(module, file, section);
        if let Some(password) = &auth.super_password {
            // Source: SaslServerCallbackHandler: it counts more than the file.
            users.retain(|(name, _)| name != "super");
            users.push(("super".to_owned(), Secret::from(password.clone())));
        }
        if users.is_empty() {
            let origin = Origin::File(Arc::clone(file));
            let text = "expected user_NAME=\"PASSWORD\" for each who may log in, found none";
            self.problems
                .push(Problem::new(Some(&origin), section, text));
        }
        self.core.auth.sasl_users = Some(users);
        self.core.auth.sasl_acls = true;
    }

    fn enforced(&mut self, auth: &AuthDraft, settings: &Settings) {
        let mut schemes = Vec::new();
        if auth.enforce {
            schemes.clone_from(&auth.schemes);
            if schemes.is_empty() && !settings.contains_key(SCHEMES) {
                let origin = settings.get(ENFORCE).map(|setting| &setting.origin);
                let text = "is true, but enforce.auth.schemes is missing: expected one scheme at \
                            least, as sasl";
                self.problems.push(Problem::new(origin, ENFORCE, text));
            }
        }
        if auth.require_sasl && !schemes.iter().any(|scheme| scheme == "sasl") {
            schemes.push("sasl".to_owned());
        }
        let key = if auth.require_sasl {
            REQUIRE_SASL
        } else {
            SCHEMES
        };
        let origin = settings.get(key).map(|setting| &setting.origin);
        for scheme in &schemes {
            let missing = match scheme.as_str() {
                "sasl" if self.core.auth.sasl_users.is_none() => {
                    "sasl is required, and nobody could log in: expected a section Server with \
                     user_NAME=\"PASSWORD\" in jaas.conf beside zoo.cfg, or in the file that \
                     java.security.auth.login.config names"
                }
                "digest" if !self.core.digest_auth => {
                    "digest is required, and DigestAuthenticationProvider.enabled is false"
                }
                "x509" if !settings.contains_key("secureClientPort") => {
                    "x509 is required, and there is no secureClientPort"
                }
                _ => continue,
            };
            self.problems.push(Problem::new(origin, key, missing));
        }
        self.core.auth.schemes_required = schemes;
    }

    fn quorum_sasl(
        &mut self,
        quorum: &QuorumDraft,
        settings: &Settings,
        login: Option<&(Arc<Path>, Jaas)>,
        is_ensemble: bool,
    ) -> Option<zab::Sasl> {
        let mut needs = |on: bool, key: &str, needed: &str| {
            if on {
                let origin = settings.get(key).map(|setting| &setting.origin);
                let text = format!("is true, and needs {needed}=true, which is not set");
                self.problems.push(Problem::new(origin, key, text));
            }
        };
        // Source: QuorumPeerConfig.parseProperties.
        needs(
            quorum.server_requires && !quorum.enable,
            SERVER_REQUIRES,
            ENABLE,
        );
        needs(
            quorum.learner_requires && !quorum.enable,
            LEARNER_REQUIRES,
            ENABLE,
        );
        let only_asked = quorum.server_requires && !quorum.learner_requires && quorum.enable;
        needs(only_asked, SERVER_REQUIRES, LEARNER_REQUIRES);
        if !quorum.enable || !is_ensemble {
            return None;
        }
        let server = quorum.server_section.as_deref().unwrap_or("QuorumServer");
        let learner = quorum.learner_section.as_deref().unwrap_or("QuorumLearner");
        let mut module = |name| {
            let found = match login {
                Some((file, jaas)) if jaas.contains_key(name) => {
                    return self
                        .digest_module((file, jaas), name, settings)
                        .map(|module| (module, file));
                }
                Some((file, _)) => format!("there is none in {}", file.display()),
                None => "there is no such file".to_owned(),
            };
            let origin = settings.get(ENABLE).map(|setting| &setting.origin);
            let text = format!(
                "is true: expected a section {name} in jaas.conf beside zoo.cfg, or in the file \
                 that java.security.auth.login.config names, and {found}"
            );
            self.problems.push(Problem::new(origin, ENABLE, text));
            None
        };
        let (server_module, learner_module) = (module(server), module(learner));
        let (module, file) = server_module?;
        let users = self.users(module, file, server);
        let (module, file) = learner_module?;
        let option = |wanted: &str| {
            let mut options = module.options.iter();
            let found = options.rfind(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let login = match (option("username"), option("password")) {
            (Some(user), Some(password)) if is_name(&user) && password.is_ascii() => {
                (user, Secret::from(password))
            }
            _ => {
                let origin = Origin::File(Arc::clone(file));
                let text = "expected username=\"NAME\" and password=\"PASSWORD\", in ASCII";
                self.problems
                    .push(Problem::new(Some(&origin), learner, text));
                return None;
            }
        };
        if quorum.server_requires && !users.contains(&login) {
            let text = format!(
                "the login of {learner} is none of the users of {server}: others of this ensemble \
                 would refuse this server, if they have the same file"
            );
            let origin = Origin::File(Arc::clone(file));
            self.warnings.push(Problem::new(Some(&origin), "", text));
        }
        Some(zab::Sasl {
            users: Some(users),
            required: quorum.server_requires,
            login: Some(login).filter(|_| quorum.learner_requires),
            seed: Secret::default(),
        })
    }

    /// Where passwords of sessions come from.
    fn session_secret(&mut self, auth: AuthDraft, settings: &Settings, is_ensemble: bool) {
        let origin = |key: &str| settings.get(key).map(|setting| &setting.origin);
        let secret = match (auth.secret, &auth.secret_file) {
            (Some(_), Some(_)) => {
                let text = "zabra.sessionSecretFile is set too; remove one of them";
                self.problems
                    .push(Problem::new(origin(SECRET), SECRET, text));
                return;
            }
            (None, Some(file)) => match fs::read_to_string(file) {
                Ok(text) if text.trim().chars().count() >= SECRET_CHARS_MIN => {
                    Some(text.trim().to_owned())
                }
                Ok(_) | Err(_) => {
                    let text = format!(
                        "expected {} to be readable and to hold at least {SECRET_CHARS_MIN} \
                         characters, the same on every server and chosen at random",
                        file.display()
                    );
                    let problem = Problem::new(origin(SECRET_FILE), SECRET_FILE, text);
                    self.problems.push(problem);
                    return;
                }
            },
            (secret, None) => secret,
        };
        let wished = auth.passwords;
        let core = &mut self.core.auth;
        if let Some(secret) = secret {
            core.session_secret = Secret::from(secret);
            core.session_passwords = match wished {
                None | Some(Passwords::Secret) => SessionPasswords::OfSecret,
                Some(Passwords::Migrate) => SessionPasswords::OfBoth,
                Some(Passwords::ZooKeeper) => SessionPasswords::OfIdForNow,
            };
        } else if is_ensemble && matches!(wished, Some(Passwords::Secret | Passwords::Migrate)) {
            let text = "needs zabra.sessionSecret or zabra.sessionSecretFile, the same on every \
                        server of the ensemble, and there is none";
            self.problems
                .push(Problem::new(origin(PASSWORDS), PASSWORDS, text));
        } else if !is_ensemble {
            let (found, made) = match wished {
                None | Some(Passwords::Secret) => (
                    SessionPasswords::OfSecret,
                    Some(SessionPasswords::OfSecretFromNow),
                ),
                Some(Passwords::Migrate) => {
                    (SessionPasswords::OfBoth, Some(SessionPasswords::OfBoth))
                }
                Some(Passwords::ZooKeeper) => (SessionPasswords::OfIdForNow, None),
            };
            self.secret_file = Some(SecretFile {
                path: OWN_SECRET_FILE.into(),
                found,
                made,
            });
        }
    }
}
