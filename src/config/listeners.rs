//! `[public]`, `[admin]` and `[metrics]`: where Tollgate listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::access::cors_origins;
use super::errors::Errors;
use super::values::{bounded, listen, networks};
#[cfg(feature = "tls")]
use crate::clock::{Clock as _, SystemClock};
use crate::identity::web_origin::WebOrigin;
#[cfg(feature = "tls")]
use crate::tls::{Certificate, Files};

/// The listener that stands where LibreChat stood.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Its address; port 0 takes any free one.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// The certificate that is shown where TLS ends here, in PEM, with those that it is signed by.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// The networks whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The origins whose pages may read answers, whatever org they are for.
    #[serde(deserialize_with = "cors_origins")]
    pub cors_origins: Vec<WebOrigin>,
}

/// The listener of the admin API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Its address; port 0 takes any free one.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
}

/// The listener of `/metrics`, `/livez` and `/readyz`, and what its metrics tell apart.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Its address; port 0 takes any free one.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// How many orgs have a label of their own; the others share one.
    #[serde(deserialize_with = "labels")]
    pub org_labels: usize,
}

fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(u64::deserialize(deserializer)?, 10_000)
}

/// Reports listeners that would take each other's port.
pub(super) fn check(public: &Public, admin: &Admin, metrics: &Metrics, errors: &mut Errors) {
    check_tls(public, READ_CERTIFICATE, errors);
    let listeners = [("public", public.listen), ("admin", admin.listen), ("metrics", metrics.listen)];
    for (index, (name, address)) in listeners.iter().enumerate() {
        for (earlier, taken) in listeners.iter().take(index) {
            if same_port(*address, *taken) {
                errors.add(
                    format!("{name}.listen"),
                    format!("{address} is taken by {earlier}.listen = {taken}; each listener needs a port of its own"),
                );
            }
        }
    }
}

/// Says what is wrong with a certificate and its key.
type ReadCertificate = fn(&Path, &Path, &mut Errors);

#[cfg(feature = "tls")]
const READ_CERTIFICATE: Option<ReadCertificate> = Some(check_certificate);
/// Such a build has no TLS.
#[cfg(not(feature = "tls"))]
const READ_CERTIFICATE: Option<ReadCertificate> = None;

/// Where TLS ends, if it ends here.
fn check_tls(public: &Public, read: Option<ReadCertificate>, errors: &mut Errors) {
    match (&public.tls_cert, &public.tls_key, read) {
        (None, None, _) => {}
        (Some(certificate), Some(key), Some(read)) => read(certificate, key, errors),
        (Some(_), None, Some(_)) => errors.add("public.tls_key", "missing; a certificate needs its private key"),
        (None, Some(_), Some(_)) => errors.add("public.tls_cert", "missing; a private key needs its certificate"),
        (certificate, key, None) => {
            let what = "this build has no TLS: let a reverse proxy end it and leave this key out, or build with --features tls";
            let keys = [("public.tls_cert", certificate), ("public.tls_key", key)];
            keys.into_iter().filter(|(_, file)| file.is_some()).for_each(|(name, _)| errors.add(name, what));
        }
    }
}

#[cfg(feature = "tls")]
fn check_certificate(certificate: &Path, key: &Path, errors: &mut Errors) {
    let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
    if let Err(error) = Certificate::read(&files, SystemClock.now()) {
        errors.add(if error.is_of_key(&files) { "public.tls_key" } else { "public.tls_cert" }, error.to_string());
    }
}

/// Whether two addresses ask for one port. The unspecified address asks for it on every interface.
fn same_port(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(certificate: Option<&str>, key: Option<&str>, read: Option<ReadCertificate>) -> Vec<String> {
        let public = Public {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls_cert: certificate.map(PathBuf::from),
            tls_key: key.map(PathBuf::from),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
        };
        let mut errors = Errors::default();
        check_tls(&public, read, &mut errors);
        errors.messages().collect()
    }

    #[test]
    fn a_build_without_tls_takes_neither_key() {
        let no_tls = "this build has no TLS: let a reverse proxy end it and leave this key out, or build with --features tls";
        let [of_certificate, of_key] = ["public.tls_cert", "public.tls_key"].map(|key| format!("{key}: {no_tls}"));
        assert!(said(None, None, None).is_empty());
        assert_eq!(said(Some("a.pem"), Some("b.pem"), None), [of_certificate.clone(), of_key.clone()]);
        assert_eq!(said(Some("a.pem"), None, None), [of_certificate]);
        assert_eq!(said(None, Some("b.pem"), None), [of_key]);
        assert_eq!(READ_CERTIFICATE.is_some(), cfg!(feature = "tls"));
    }
}
