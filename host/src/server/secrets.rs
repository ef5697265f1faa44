//! What nobody may guess: from the system's generator, and the file in which a server that stands
//! alone keeps the secret of its sessions' passwords.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use zabra_core::secret::Secret;

use crate::config::{SecretFile, ServerConfig};
use crate::error::Error;

/// A secret file that has fewer characters was not written by this.
const CHARS_MIN: usize = 16;

/// Gives a configuration what must be another in every process, and the secret of its sessions.
///
/// # Errors
/// The secret's file cannot be read, or made.
pub(super) fn complete(config: &mut ServerConfig) -> Result<(), Error> {
    config.core.auth.nonce_seed = Secret::from(random());
    if let Some(ensemble) = &mut config.ensemble {
        ensemble.zab.sasl.seed = Secret::from(random());
    }
    let Some(file) = &config.secret_file else {
        return Ok(());
    };
    let secret = read_or_make(file).map_err(|source| Error::Store {
        path: file.path.clone(),
        source: source.into(),
    })?;
    let auth = &mut config.core.auth;
    if let Some((secret, was_there)) = secret {
        auth.session_secret = Secret::from(secret);
        auth.session_passwords = match file.made {
            Some(made) if !was_there => made,
            Some(_) | None => file.found,
        };
    }
    Ok(())
}

/// The secret, and whether it was there before; `None` if there is to be none.
fn read_or_make(file: &SecretFile) -> io::Result<Option<(String, bool)>> {
    match fs::read_to_string(&file.path) {
        Ok(text) if text.trim().len() >= CHARS_MIN => Ok(Some((text.trim().to_owned(), true))),
        Ok(_) => Err(io::Error::other(
            "expected at least 16 characters, found fewer; remove the file, and clients open new \
             sessions",
        )),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) if file.made.is_none() => Ok(None),
        Err(_) => {
            let secret = random();
            make(&file.path, &secret)?;
            Ok(Some((secret, false)))
        }
    }
}

/// Writes it so that it is there as a whole or not at all, before anybody is given a password.
fn make(path: &Path, secret: &str) -> io::Result<()> {
    let partial = path.with_extension("secret.partial");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&partial)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// 256 bits from the system's generator, as text.
fn random() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has a generator of random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test may stop at what it did not expect"
    )]

    use std::{env, process};

    use zabra_core::server::config::SessionPasswords;

    use super::*;

    #[test]
    fn secret_is_made_once_and_for_its_owner() {
        let directory = env::temp_dir().join(format!("zabra-secret-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut file = SecretFile {
            path: directory.join("zabra-session.secret"),
            found: SessionPasswords::OfSecret,
            made: None,
        };
        assert_eq!(read_or_make(&file).unwrap(), None);
        file.made = Some(SessionPasswords::OfSecretFromNow);

        let (made, was_there) = read_or_make(&file).unwrap().unwrap();

        assert!(!was_there && made.len() == 64);
        assert_eq!(read_or_make(&file).unwrap(), Some((made, true)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&file.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&file.path, "short\n").unwrap();
        read_or_make(&file).unwrap_err();
        fs::remove_dir_all(&directory).unwrap();
    }
}
