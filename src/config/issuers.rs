//! `[[issuers]]`: who signs org-scoped tokens, for which orgs, and with which key.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::LibreChat;
use super::errors::Errors;
use super::secret::{Secret, resolve_issuer};

/// Who signs org-scoped tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Its name in rows and messages; unique.
    pub name: Arc<str>,
    /// The ids of the orgs it may speak for; known orgs, at least one.
    pub orgs: Vec<Arc<str>>,
    /// The `iss` its tokens carry; `None` when they carry none.
    pub issuer: Option<Arc<str>>,
    /// The `aud` its tokens must carry, if any.
    pub audience: Option<Arc<str>>,
    /// Its algorithm and key.
    pub key: IssuerKey,
    /// Whether its claim `librechat_user_id` is honoured.
    pub may_name_users: bool,
}

/// An algorithm and the key it verifies with.
#[derive(Clone)]
pub enum IssuerKey {
    /// HMAC with SHA-256 and a shared secret.
    Hs256(Secret),
    /// RSA with SHA-256 and a public key of at least 2048 bits, as PEM; it was parsed once already.
    Rs256(Arc<str>),
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256(_) => "HS256 ***",
            Self::Rs256(_) => "RS256 (public key)",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Algorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "RS256")]
    Rs256,
}

/// One issuer as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IssuerKeys {
    name: Option<Arc<str>>,
    orgs: Vec<Arc<str>>,
    issuer: Option<Arc<str>>,
    audience: Option<Arc<str>>,
    algorithm: Option<Algorithm>,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    may_name_users: bool,
}

/// Checks every issuer. `orgs` are the ids of the known orgs, `None` when those could not all be read.
pub(super) fn check(keys: Vec<IssuerKeys>, librechat: Option<&LibreChat>, orgs: Option<&[Arc<str>]>, errors: &mut Errors) -> Vec<Issuer> {
    let mut issuers = Vec::new();
    let mut names = BTreeMap::new();
    let mut secrets = shared_with_librechat(librechat);
    for (index, keys) in keys.into_iter().enumerate() {
        let at = format!("issuers[{index}]");
        let name = keys.name.clone().filter(|name| !name.trim().is_empty());
        match &name {
            None => errors.add(format!("{at}.name"), "missing; every issuer needs a name such as dashboard"),
            Some(name) => match names.entry(name.clone()) {
                Entry::Vacant(free) => _ = free.insert(index),
                Entry::Occupied(taken) => {
                    let other = taken.get();
                    errors.add(format!("{at}.name"), format!("\"{name}\" is the name of issuers[{other}] already; names must be unique"));
                }
            },
        }
        check_orgs(&keys.orgs, orgs, &at, errors);
        if keys.issuer.as_deref() == Some("tollgate") {
            errors.add(format!("{at}.issuer"), "\"tollgate\" is the issuer of Tollgate's own tokens; choose another");
        }
        let key = key(&keys, &at, errors);
        if let Some(IssuerKey::Hs256(secret)) = &key {
            let given_at = if keys.secret_file.is_some() { "secret_file" } else { "secret" };
            if let Some((_, owner)) = secrets.iter().find(|(taken, _)| taken == secret) {
                errors.add(format!("{at}.{given_at}"), format!("the secret is the same as {owner}; every issuer needs one of its own"));
            }
            secrets.push((secret.clone(), format!("that of {at}")));
        }
        let (Some(name), Some(key)) = (name, key) else { continue };
        let IssuerKeys { orgs, issuer, audience, may_name_users, .. } = keys;
        issuers.push(Issuer { name, orgs, issuer, audience, key, may_name_users });
    }
    issuers
}

/// The secrets that no issuer may sign with, since its tokens would then be LibreChat's own.
fn shared_with_librechat(librechat: Option<&LibreChat>) -> Vec<(Secret, String)> {
    let Some(librechat) = librechat else { return Vec::new() };
    let refresh = librechat.jwt_refresh_secret.clone().map(|secret| (secret, "librechat.jwt_refresh_secret".to_owned()));
    std::iter::once((librechat.jwt_secret.clone(), "librechat.jwt_secret".to_owned())).chain(refresh).collect()
}

fn check_orgs(named: &[Arc<str>], known: Option<&[Arc<str>]>, at: &str, errors: &mut Errors) {
    if named.is_empty() {
        errors.add(format!("{at}.orgs"), "missing; name the ids of the orgs that this issuer may speak for");
    }
    let Some(known) = known else { return };
    for (index, org) in named.iter().enumerate().filter(|(_, org)| !known.contains(org)) {
        errors.add(format!("{at}.orgs[{index}]"), super::orgs::unknown(org, known));
    }
}

fn key(keys: &IssuerKeys, at: &str, errors: &mut Errors) -> Option<IssuerKey> {
    match keys.algorithm {
        None => {
            errors.add(format!("{at}.algorithm"), "missing; allowed: HS256, RS256");
            None
        }
        Some(Algorithm::Hs256) => {
            if keys.public_key_file.is_some() {
                errors.add(format!("{at}.public_key_file"), "HS256 has no public key; give secret or secret_file, or choose RS256");
                return None;
            }
            if keys.secret.is_none() && keys.secret_file.is_none() {
                errors.add(format!("{at}.secret"), "missing; HS256 needs secret or secret_file");
                return None;
            }
            let path = format!("{at}.secret");
            resolve_issuer(&path, keys.secret.clone(), keys.secret_file.clone(), errors).map(IssuerKey::Hs256)
        }
        Some(Algorithm::Rs256) => {
            for (key, given) in [("secret", keys.secret.is_some()), ("secret_file", keys.secret_file.is_some())] {
                if given {
                    errors.add(format!("{at}.{key}"), "RS256 has no shared secret; give public_key_file, or choose HS256");
                }
            }
            let path = format!("{at}.public_key_file");
            let Some(file) = &keys.public_key_file else {
                errors.add(path, "missing; RS256 needs the file of a public key in PEM form");
                return None;
            };
            public_key(file).map_err(|message| errors.add(path, message)).ok().map(IssuerKey::Rs256)
        }
    }
}

/// The modulus of a 2048-bit key has 256 bytes, and its DER form is a little longer.
const LEAST_DER_BYTES: usize = 256;

fn public_key(file: &Path) -> Result<Arc<str>, String> {
    let name = file.display();
    let pem = std::fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    if pem.contains("PRIVATE KEY") {
        return Err(format!("{name} holds a private key, which must not be here; allowed: the public key alone"));
    }
    let key = DecodingKey::from_rsa_pem(pem.as_bytes())
        .map_err(|_| format!("{name} holds no RSA public key; allowed: PEM that begins with -----BEGIN PUBLIC KEY-----"))?;
    match key.try_get_as_bytes() {
        Ok(der) if der.len() < LEAST_DER_BYTES => Err(format!("{name} holds an RSA key of less than 2048 bits; at least 2048 are needed")),
        _ => Ok(pem.into()),
    }
}
