//! The certificate that the public listener shows, where TLS ends here: read, checked, and exchanged while everything goes on.
//!
//! The connections themselves are in `proxy/tls.rs`. docs/decisions/0009-tls.md says why Pingora's own TLS is not used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::clock::SharedClock;
use crate::telemetry::metrics::Metrics;

mod validity;

/// How often the files are looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// Where a certificate and its key are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and after it those by which clients come to a root that they trust.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file of the certificate holds none.
    #[error("{} holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// The file of the key holds none.
    #[error("{} holds no private key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The key is another certificate's, or of a kind that is not known.
    #[error("{}: {reason}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate cannot be understood.
    #[error("{} holds a certificate that cannot be read", .0.display())]
    Garbled(PathBuf),
    /// It is not valid yet.
    #[error("{} holds a certificate that is not valid before {from}", .file.display())]
    TooEarly {
        /// The file.
        file: PathBuf,
        /// When it begins to be.
        from: Timestamp,
    },
    /// It is not valid any more.
    #[error("{} holds a certificate that expired at {until}", .file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// When it did.
        until: Timestamp,
    },
}

impl CertificateError {
    /// Whether the key is at fault, and not the certificate.
    pub fn is_of_key(&self, files: &Files) -> bool {
        match self {
            Self::NoKey(_) | Self::Key { .. } => true,
            Self::Unreadable { file, .. } => *file == files.key,
            _ => false,
        }
    }
}

/// A certificate that can be shown, with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    shown: Arc<CertifiedKey>,
    expires: Timestamp,
}

impl Certificate {
    /// Reads and checks both files.
    ///
    /// # Errors
    ///
    /// Where they cannot be read, do not belong together, or are not valid now.
    pub fn read(files: &Files, now: Timestamp) -> Result<Self, CertificateError> {
        Self::of(files, &Read::from(files)?, now)
    }

    fn of(files: &Files, read: &Read, now: Timestamp) -> Result<Self, CertificateError> {
        let file = files.certificate.clone();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read.certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate(file.clone()))?;
        let first = chain.first().ok_or_else(|| CertificateError::NoCertificate(file.clone()))?;
        let (from, until) = validity::of(first).ok_or_else(|| CertificateError::Garbled(file.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(|error| match error {
            pem::Error::NoItemsFound => CertificateError::NoKey(files.key.clone()),
            error => CertificateError::Key { file: files.key.clone(), reason: error.to_string() },
        })?;
        let shown = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateError::Key { file: files.key.clone(), reason: format!("is not the key of {}", file.display()) }
            }
            rustls::Error::InvalidCertificate(_) => CertificateError::Garbled(file.clone()),
            error => CertificateError::Key { file: files.key.clone(), reason: error.to_string() },
        })?;
        if now < from {
            return Err(CertificateError::TooEarly { file, from });
        }
        if until <= now {
            return Err(CertificateError::Expired { file, until });
        }
        Ok(Self { shown: Arc::new(shown), expires: until })
    }

    /// When it expires.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Read {
    fn from(files: &Files) -> Result<Self, CertificateError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| CertificateError::Unreadable { file: file.to_owned(), reason: error.to_string() })
        };
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }
}

/// The certificate that is shown now.
pub struct Certificates {
    files: Files,
    now: RwLock<Certificate>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().shown.clone())
    }
}

impl Certificates {
    /// The certificate of these files.
    ///
    /// # Errors
    ///
    /// Where it cannot be used.
    pub fn open(files: Files, clock: SharedClock, metrics: Arc<Metrics>) -> Result<Arc<Self>, CertificateError> {
        let now = Certificate::read(&files, clock.now())?;
        metrics.certificate_expires(now.expires);
        Ok(Arc::new(Self { files, now: RwLock::new(now), clock, metrics }))
    }

    /// How the public listener speaks TLS: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    ///
    /// Where the cryptography lacks something, which it does not.
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions()?;
        let mut server = builder.with_no_client_auth().with_cert_resolver(self.clone());
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(server)
    }

    /// Looks at the files from time to time, and at once on SIGHUP, for ever. What is new and good is shown from then on; what
    /// is not good is said, and the one before stays. Connections that are open go on as they are.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut hang_ups = signal(SignalKind::hangup()).inspect_err(|error| tracing::error!(%error, "SIGHUP cannot be listened to")).ok();
        let mut looked = Looked { last: Read::from(&self.files).ok(), is_settled: true };
        loop {
            let hung_up = async {
                match &mut hang_ups {
                    Some(hang_ups) => hang_ups.recv().await,
                    None => std::future::pending().await,
                }
            };
            let at_once = tokio::select! {
                () = tokio::time::sleep(LOOKED_AT_EVERY) => false,
                _ = hung_up => true,
            };
            self.look(&mut looked, at_once);
        }
    }

    /// Whoever puts two files in place may be between them, so that what is not good is looked at twice before it is said.
    fn look(&self, looked: &mut Looked, at_once: bool) {
        let read = Read::from(&self.files);
        let is_the_same = read.as_ref().ok() == looked.last.as_ref();
        if is_the_same && looked.is_settled && !at_once {
            return;
        }
        let found = read.as_ref().map_err(Clone::clone).and_then(|read| Certificate::of(&self.files, read, self.clock.now()));
        looked.is_settled = found.is_ok() || is_the_same || at_once;
        looked.last = read.ok();
        match found {
            Ok(certificate) => {
                tracing::info!(expires = %certificate.expires, "the certificate was read again");
                self.metrics.certificate_expires(certificate.expires);
                *self.now.write() = certificate;
            }
            Err(error) if looked.is_settled => {
                let expires = self.now.read().expires;
                tracing::error!(%error, %expires, "the new certificate cannot be used; the one before is shown on");
            }
            Err(_) => {}
        }
    }
}

/// What was found when the files were last looked at.
struct Looked {
    last: Option<Read>,
    /// Whether it was taken, or said that it cannot be.
    is_settled: bool,
}
