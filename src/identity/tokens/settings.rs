//! What a verifier is told, and the checks on it before the first token comes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::OWN_ISSUER;
use super::claims::Audience;
use super::keys::VerifyingKey;
use crate::identity::{Directory, Org};

/// The longest leeway.
const LONGEST_LEEWAY: Duration = Duration::from_mins(1);

/// The least length of an issuer's secret in bytes: that of the hash (RFC 7518 3.2, RFC 8725 3.5).
pub const LEAST_SECRET: usize = 32;

/// What a verifier is told.
#[derive(Clone)]
pub struct VerifierSettings<'a> {
    /// LibreChat's `JWT_SECRET`.
    pub librechat_secret: &'a [u8],
    /// The id of the org of people whom no other rule gives one.
    pub default_org: Option<String>,
    /// Whether the domain of the e-mail address in a LibreChat token names the org. Only for places whose LibreChat verifies
    /// e-mail addresses: elsewhere anybody can sign up with any address.
    pub trust_email_domains: bool,
    /// Who signs org-scoped tokens.
    pub issuers: Vec<IssuerSettings>,
    /// How far clocks may be apart, at most a minute.
    pub leeway: Duration,
}

/// A signer of org-scoped tokens.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// Its name in logs and rows.
    pub name: String,
    /// The ids of the orgs it may speak for.
    pub orgs: Vec<String>,
    /// The `iss` of its tokens; without one, tokens with an `iss` are not its own.
    pub issuer: Option<String>,
    /// The `aud` its tokens must contain; without one, tokens with an `aud` are for somebody else (RFC 7519 4.1.3).
    pub audience: Option<String>,
    /// Its key.
    pub key: IssuerKey,
    /// Whether its claim `librechat_user_id` is honoured.
    pub may_name_users: bool,
}

/// The key of an issuer, and with it the algorithm.
#[derive(Clone)]
pub enum IssuerKey {
    /// A shared secret of 32 bytes or more, for HS256.
    Hs256(Vec<u8>),
    /// An RSA public key of 2048 bits or more in PEM, for RS256.
    Rs256(String),
}

impl std::fmt::Debug for IssuerKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Hs256(_) => "Hs256(***)",
            Self::Rs256(_) => "Rs256(public key)",
        })
    }
}

/// Why no verifier can be made of these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// LibreChat's secret is empty.
    #[error("LibreChat's JWT secret is empty")]
    NoLibreChatSecret,
    /// A leeway longer than a minute.
    #[error("the leeway is longer than 60 seconds")]
    LeewayTooLong,
    /// The default org does not exist.
    #[error("the default org {0:?} is not one of the orgs")]
    UnknownDefaultOrg(String),
    /// An issuer's org does not exist.
    #[error("issuer {issuer:?} names org {org:?}, which is not one of the orgs")]
    UnknownOrg {
        /// The issuer's name.
        issuer: String,
        /// The org's id.
        org: String,
    },
    /// A name used twice.
    #[error("two issuers are called {0:?}")]
    SameName(String),
    /// An `iss` that is ours.
    #[error("issuer {0:?} has the `iss` \"tollgate\", which marks tokens that Tollgate mints")]
    ReservedIssuer(String),
    /// A key that cannot be used.
    #[error("the key of issuer {issuer:?} cannot be used: {why}")]
    BadKey {
        /// The issuer's name.
        issuer: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key used twice: one could then sign as the other.
    #[error("the key of issuer {issuer:?} is also that of {other:?}")]
    SharedKey {
        /// The issuer's name.
        issuer: String,
        /// Who else holds it: `LibreChat`, or an issuer's name.
        other: String,
    },
}

/// Settings that were found good.
pub(super) struct Checked {
    pub(super) librechat: VerifyingKey,
    pub(super) default_org: Option<Arc<Org>>,
    pub(super) trust_email_domains: bool,
    pub(super) issuers: Vec<Issuer>,
    pub(super) leeway: i64,
}

/// An issuer with its key made ready.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) iss: Option<String>,
    pub(super) key: VerifyingKey,
    pub(super) may_name_users: bool,
    orgs: HashSet<String>,
    audience: Option<String>,
}

impl Issuer {
    /// Whether it may speak for the org with this id.
    pub(super) fn speaks_for(&self, org: &str) -> bool {
        self.orgs.contains(org)
    }

    /// Whether a token of its with this audience is for us. A token made for somebody else must be refused, and where no
    /// audience is configured, everybody in a token's `aud` is somebody else (RFC 8725 3.9).
    pub(super) fn is_meant_by(&self, audience: Option<&Audience>) -> bool {
        match (&self.audience, audience) {
            (Some(ours), Some(audience)) => audience.contains(ours),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// Checks settings and makes the keys ready.
pub(super) fn check(settings: VerifierSettings<'_>, directory: &Directory) -> Result<Checked, SettingsError> {
    if settings.librechat_secret.is_empty() {
        return Err(SettingsError::NoLibreChatSecret);
    }
    if settings.leeway > LONGEST_LEEWAY {
        return Err(SettingsError::LeewayTooLong);
    }
    let default_org = settings.default_org.map(|id| directory.by_id(&id).ok_or(SettingsError::UnknownDefaultOrg(id))).transpose()?;

    let librechat = VerifyingKey::hs256(settings.librechat_secret);
    let mut issuers: Vec<Issuer> = Vec::with_capacity(settings.issuers.len());
    for issuer in settings.issuers {
        if issuers.iter().any(|other| *other.name == issuer.name) {
            return Err(SettingsError::SameName(issuer.name));
        }
        let issuer = ready(issuer, directory)?;
        let same = issuers.iter().find(|other| other.key.is_same_as(&issuer.key));
        let other = if issuer.key.is_same_as(&librechat) { Some("LibreChat") } else { same.map(|other| &*other.name) };
        if let Some(other) = other {
            return Err(SettingsError::SharedKey { issuer: issuer.name.to_string(), other: other.to_owned() });
        }
        issuers.push(issuer);
    }
    Ok(Checked {
        librechat,
        default_org,
        trust_email_domains: settings.trust_email_domains,
        issuers,
        leeway: i64::try_from(settings.leeway.as_secs()).unwrap_or(0),
    })
}

fn ready(issuer: IssuerSettings, directory: &Directory) -> Result<Issuer, SettingsError> {
    if issuer.issuer.as_deref() == Some(OWN_ISSUER) {
        return Err(SettingsError::ReservedIssuer(issuer.name));
    }
    if let Some(org) = issuer.orgs.iter().find(|org| directory.by_id(org).is_none()) {
        return Err(SettingsError::UnknownOrg { org: org.clone(), issuer: issuer.name });
    }
    let key = match &issuer.key {
        IssuerKey::Hs256(secret) => shared_secret(secret),
        IssuerKey::Rs256(pem) => VerifyingKey::rs256(pem.as_bytes()),
    };
    match key {
        Ok(key) => Ok(Issuer {
            name: issuer.name.into(),
            iss: issuer.issuer,
            key,
            may_name_users: issuer.may_name_users,
            orgs: issuer.orgs.into_iter().collect(),
            audience: issuer.audience,
        }),
        Err(why) => Err(SettingsError::BadKey { issuer: issuer.name, why }),
    }
}

/// A shared secret, or what is wrong with it. A public key used as a secret is known to everybody.
fn shared_secret(secret: &[u8]) -> Result<VerifyingKey, &'static str> {
    if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
        Err("it is a PEM key and no shared secret")
    } else if secret.len() < LEAST_SECRET {
        Err("it is shorter than 32 bytes")
    } else {
        Ok(VerifyingKey::hs256(secret))
    }
}
