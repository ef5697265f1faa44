//! Authorities and certificates, made for one test.

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Who signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A key with its certificate.
pub(crate) struct Certified {
    pub(crate) key: String,
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// For these hosts and addresses, good for a year.
    pub(crate) fn certify(&self, name: &str, hosts: &[&str]) -> Certified {
        self.certify_until(name, hosts, SystemTime::now() + 365 * DAY)
    }

    /// Until then, and from a year before that.
    pub(crate) fn certify_until(&self, name: &str, hosts: &[&str], end: SystemTime) -> Certified {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = common_name(name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Zabra, tests");
        params.not_before = (end - 366 * DAY).into();
        params.not_after = end.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified {
            key: key.serialize_pem(),
            certificate: certificate.pem(),
        }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

impl Certified {
    /// Both in one file, as ZooKeeper's PEM key stores are.
    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, format!("{}{}", self.key, self.certificate)).unwrap();
        path.to_path_buf()
    }
}

/// Lines of a zoo.cfg for `ssl.` or `ssl.quorum.`.
pub(crate) fn stores(prefix: &str, key: &Path, trust: &Path) -> [String; 2] {
    [
        format!("{prefix}keyStore.location={}", key.display()),
        format!("{prefix}trustStore.location={}", trust.display()),
    ]
}
