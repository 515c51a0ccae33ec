//! Texts that must never be seen: signing secrets and addresses that hold passwords.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Insecure;
use super::errors::Errors;
use crate::identity::tokens::LEAST_SECRET;

/// A secret; it shows itself as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Where this is called, the secret leaves its wrapping: search for the name to see every place.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The secret that stands at `path` directly, or in the file named by `path` + `_file`. One line break at the end of a
/// file is no part of its secret. `None` when neither is given, or what is given was reported.
pub(super) fn resolve(path: &str, direct: Option<Secret>, file: Option<PathBuf>, errors: &mut Errors) -> Option<Secret> {
    match (direct, file) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            let key = path.rsplit('.').next().unwrap_or(path);
            errors.add(format!("{path}_file"), format!("both {key} and {key}_file are given; keep one of them"));
            None
        }
        (Some(secret), None) if secret.0.is_empty() => {
            errors.add(path, "is empty; leave the key out or give it a value");
            None
        }
        (Some(secret), None) => Some(secret),
        (None, Some(file)) => match from_file(&file) {
            Ok(secret) => Some(secret),
            Err(message) => {
                errors.add(format!("{path}_file"), message);
                None
            }
        },
    }
}

fn from_file(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(format!("{} is empty", file.display()));
    }
    Ok(Secret::new(text))
}

/// Like [`resolve`], for a secret of LibreChat's that signs tokens: one that is short enough to be guessed from a token is
/// reported.
pub(super) fn resolve_signing(
    path: &str,
    direct: Option<Secret>,
    file: Option<PathBuf>,
    insecure: &Insecure,
    errors: &mut Errors,
) -> Option<Secret> {
    let given_at = if file.is_some() { format!("{path}_file") } else { path.to_owned() };
    let secret = resolve(path, direct, file, errors)?;
    if secret.0.len() < LEAST_BYTES && !insecure.short_secrets {
        let too_short = too_short(&secret, LEAST_BYTES);
        errors.add(given_at, format!("{too_short}; insecure.short_secrets = true accepts it"));
    }
    Some(secret)
}

/// Like [`resolve`], for an issuer's secret, which is made for this and has no reason to be short.
pub(super) fn resolve_issuer(path: &str, direct: Option<Secret>, file: Option<PathBuf>, errors: &mut Errors) -> Option<Secret> {
    let given_at = if file.is_some() { format!("{path}_file") } else { path.to_owned() };
    let secret = resolve(path, direct, file, errors)?;
    if secret.0.len() < LEAST_SECRET {
        errors.add(given_at, too_short(&secret, LEAST_SECRET));
    }
    Some(secret)
}

fn too_short(secret: &Secret, least: usize) -> String {
    let length = secret.0.len();
    format!("the secret is {length} bytes long; at least {least} are needed, since a shorter one can be guessed from a token")
}

/// Fewer bytes than this can be guessed. LibreChat itself asks for none; an issuer's need more, by RFC 7518 3.2.
const LEAST_BYTES: usize = 16;
