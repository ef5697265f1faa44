//! What the AdminServer knows of its server without asking it: its settings, and who may command.

use core::net::{IpAddr, SocketAddr};
use std::fs;
use std::path::PathBuf;

use hyper::StatusCode;
use serde_json::Value;
use zabra_core::secret::Secret;
use zabra_core::server::digest_id;

use super::ask::Asker;
use crate::config::{ServerConfig, without_secrets};

/// Settings that commands show or obey.
pub(super) struct Known {
    asker: Asker,
    file: Option<PathBuf>,
    /// Whether the scheme `digest` authenticates.
    digest_auth: bool,
    super_digest: Option<Secret>,
    /// Where clients come.
    pub(super) clients: Option<IpAddr>,
}

impl Known {
    pub(super) fn new(config: &ServerConfig, asker: Asker) -> Self {
        Self {
            asker,
            file: config.file.clone(),
            digest_auth: config.core.digest_auth,
            super_digest: config.core.super_digest.clone(),
            clients: config.listen.first().map(SocketAddr::ip),
        }
    }

    /// The `zoo.cfg` as it is, but for its secrets; null if there is none.
    pub(super) fn initial_configuration(&self) -> Value {
        let text = self.file.as_ref().map(fs::read_to_string);
        match text {
            Some(Ok(text)) => without_secrets(&text).into(),
            Some(Err(_)) | None => Value::Null,
        }
    }

    /// Fsyncs of the log that took longer than `fsync.warningthresholdms`.
    pub(super) fn slow_fsyncs(&self) -> u64 {
        self.asker.fsyncs().map_or(0, |fsyncs| fsyncs.slow())
    }

    /// Judges the header `Authorization: digest user:password`.
    ///
    /// ZooKeeper asks for all permissions on `/`, which with the ACL that it begins with anybody
    /// has who claims any name. Here it must be the super user: these commands give away every
    /// znode.
    pub(super) fn authorise(&self, header: Option<&str>) -> Result<(), (StatusCode, &'static str)> {
        let not_authenticated = Err((StatusCode::UNAUTHORIZED, "Not authenticated"));
        let Some(header) = header else {
            let missing = "Auth info is missing for the command";
            return Err((StatusCode::UNAUTHORIZED, missing));
        };
        let Some(("digest", secret)) = header.split_once(' ') else {
            return not_authenticated;
        };
        if !self.digest_auth || !secret.contains(':') {
            return not_authenticated;
        }
        let id = digest_id(secret.as_bytes());
        match &self.super_digest {
            Some(digest) if digest.is(&id) => Ok(()),
            Some(_) | None => Err((StatusCode::FORBIDDEN, "Not authorized")),
        }
    }
}
