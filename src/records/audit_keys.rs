//! The keys of the audit log, in files: read, or made at the first start.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use super::chain::{ChainKey, LEAST_KEY, hex};
use super::signing::{KeyError, Signer};

/// Where the keys and the checkpoints of an audit log are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFiles {
    /// The key of the chains.
    pub key_file: PathBuf,
    /// The key that signs.
    pub signing_key_file: PathBuf,
    /// The checkpoints.
    pub checkpoint_file: PathBuf,
}

/// The keys of an audit log.
#[derive(Debug, Clone)]
pub struct AuditKeys {
    /// Links rows.
    pub chain: ChainKey,
    /// Signs checkpoints and anchors.
    pub signer: Arc<Signer>,
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    /// A file is not there.
    #[error("{} is not there: the audit log has no key yet, or it is kept elsewhere", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read or made.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The key of the chains is too short.
    #[error("{} is too short for a key: at least {LEAST_KEY} bytes", .0.display())]
    TooShort(PathBuf),
    /// The signing key cannot be used.
    #[error("{}: {error}", path.display())]
    Signing {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
}

impl AuditKeys {
    /// Reads the keys.
    pub fn read(files: &AuditFiles) -> Result<Self, AuditKeyError> {
        Ok(Self { chain: chain_key(files)?, signer: Arc::new(signer(files)?) })
    }

    /// Reads the keys, and makes those whose files are not there, for nobody's eyes but the owner's.
    pub fn read_or_make(files: &AuditFiles) -> Result<Self, AuditKeyError> {
        make(&files.key_file, "the key of the audit chains", || {
            let mut secret = [0; LEAST_KEY];
            SystemRandom::new().fill(&mut secret).map_err(|_| KeyError::NoRandomness)?;
            Ok(hex(&secret))
        })?;
        make(&files.signing_key_file, "the key that signs audit checkpoints", || Ok(Signer::generate()?.1))?;
        Self::read(files)
    }
}

/// The key is the file's text, but for the line break at its end.
fn chain_key(files: &AuditFiles) -> Result<ChainKey, AuditKeyError> {
    let path = &files.key_file;
    let text = read(path)?;
    ChainKey::new(text.trim_end_matches(['\r', '\n']).as_bytes()).ok_or_else(|| AuditKeyError::TooShort(path.clone()))
}

/// The key that signs, alone: whoever wants to know its public half need not have the other key.
pub fn signer(files: &AuditFiles) -> Result<Signer, AuditKeyError> {
    let path = &files.signing_key_file;
    Signer::from_pem(&read(path)?).map_err(|error| AuditKeyError::Signing { path: path.clone(), error })
}

fn read(path: &Path) -> Result<String, AuditKeyError> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => AuditKeyError::Missing(path.to_owned()),
        _ => AuditKeyError::File { path: path.to_owned(), error },
    })
}

/// Makes a file with a new key where there is none. Of two processes that do so at once one wins, and both use its key.
fn make(path: &Path, what: &str, key: impl Fn() -> Result<String, KeyError>) -> Result<(), AuditKeyError> {
    if path.exists() {
        return Ok(());
    }
    let failed = |error| AuditKeyError::File { path: path.to_owned(), error };
    let key = key().map_err(|error| AuditKeyError::Signing { path: path.to_owned(), error })?;
    // A file that is there is whole: it gets its name when it is.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
    let line_break = if key.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{key}{line_break}").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let linked = std::fs::hard_link(&draft, path);
    // The draft has done its service, whoever won.
    let _ = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => {
            tracing::info!(
                audit.file = %path.display(),
                "made {what}; keep a copy of it elsewhere: without it the audit log cannot be verified, and whoever has it can forge"
            );
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(folder: &Path) -> AuditFiles {
        AuditFiles {
            key_file: folder.join("audit.key"),
            signing_key_file: folder.join("signing.pem"),
            checkpoint_file: folder.join("checkpoints.jsonl"),
        }
    }

    #[test]
    fn keys_are_made_once_for_the_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        assert!(matches!(AuditKeys::read(&files), Err(AuditKeyError::Missing(path)) if path == files.key_file));
        let made = AuditKeys::read_or_make(&files).expect("new keys");
        let again = AuditKeys::read_or_make(&files).expect("the same keys");
        assert_eq!(made.signer.public(), again.signer.public());
        for path in [&files.key_file, &files.signing_key_file] {
            let permissions = std::fs::metadata(path).expect("the file").permissions();
            assert_eq!(permissions.mode() & 0o777, 0o600, "{} is for its owner alone", path.display());
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
        assert_eq!(left.len(), 2, "nothing else is left: {left:?}");
    }

    #[test]
    fn keys_that_cannot_be_used_are_named_with_their_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        std::fs::write(&files.key_file, "short\n").expect("a file");
        let error = AuditKeys::read_or_make(&files).expect_err("five bytes are no key").to_string();
        assert!(error.contains("audit.key") && error.contains("32"), "{error}");
        std::fs::write(&files.key_file, "x".repeat(32)).expect("a file");
        std::fs::write(&files.signing_key_file, "nonsense").expect("a file");
        let error = AuditKeys::read_or_make(&files).expect_err("no PEM").to_string();
        assert!(error.contains("signing.pem") && error.contains("openssl"), "{error}");
    }
}
