//! What a verifier is told, and the checks on it before the first token comes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::OWN_ISSUER;
use super::key_set::{KeySet, Timing};
use super::keys::{Algorithm, VerifyingKey};
use super::mapping::Mapping;
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
    /// Its keys.
    pub keys: IssuerKeys,
    /// Where its tokens say what we ask for.
    pub claims: Mapping,
    /// Whether it may say which LibreChat user a person is.
    pub may_name_users: bool,
}

/// The keys of an issuer, and with them the algorithms. While a key is changed two are good.
#[derive(Clone)]
pub enum IssuerKeys {
    /// Shared secrets of 32 bytes or more, for HS256.
    Secrets(Vec<Vec<u8>>),
    /// Public keys in PEM, each for the one of these algorithms that it fits: RSA of 2048 bits or more, P-256, Ed25519.
    Pem(Vec<Algorithm>, Vec<String>),
    /// The key set at this address, which is fetched while the process runs.
    Published(Vec<Algorithm>, String),
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secrets(_) => formatter.write_str("Secrets(***)"),
            Self::Pem(algorithms, pems) => write!(formatter, "Pem({algorithms:?}, {} public keys)", pems.len()),
            Self::Published(algorithms, url) => write!(formatter, "Published({algorithms:?}, {url})"),
        }
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
    /// An issuer whose tokens could be taken for LibreChat's, since they carry no `organization`, or that publishes its keys
    /// for everyone's tokens.
    #[error("issuer {issuer:?} needs {what}: {why}")]
    TooWide {
        /// The issuer's name.
        issuer: String,
        /// What it needs.
        what: &'static str,
        /// What for.
        why: &'static str,
    },
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

/// An issuer with its keys made ready.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) iss: Option<String>,
    pub(super) keys: ReadyKeys,
    pub(super) claims: Mapping,
    pub(super) may_name_users: bool,
    pub(super) audience: Option<String>,
    orgs: HashSet<String>,
}

/// Keys that are ready to verify.
#[derive(Debug)]
pub(super) enum ReadyKeys {
    /// They are configured.
    Fixed(Vec<VerifyingKey>),
    /// The issuer publishes them.
    Published(Arc<KeySet>),
}

impl ReadyKeys {
    fn fixed(&self) -> &[VerifyingKey] {
        match self {
            Self::Fixed(keys) => keys,
            Self::Published(_) => &[],
        }
    }
}

impl Issuer {
    /// Whether it may speak for the org with this id.
    pub(super) fn speaks_for(&self, org: &str) -> bool {
        self.orgs.contains(org)
    }

    /// Whether both publish the same set: whose a token is could then not be told by its key.
    fn publishes_with(&self, other: &Self) -> bool {
        matches!((&self.keys, &other.keys), (ReadyKeys::Published(ours), ReadyKeys::Published(theirs)) if ours.url() == theirs.url())
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
        let keys = issuer.keys.fixed();
        let holds_one = |others: &[VerifyingKey]| others.iter().any(|other| keys.iter().any(|key| key.is_same_as(other)));
        let same = issuers.iter().find(|other| holds_one(other.keys.fixed()) || other.publishes_with(&issuer));
        let other = if holds_one(std::slice::from_ref(&librechat)) { Some("LibreChat") } else { same.map(|other| &*other.name) };
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
    if let Some((what, why)) = too_wide(&issuer) {
        return Err(SettingsError::TooWide { issuer: issuer.name, what, why });
    }
    let name: Arc<str> = issuer.name.as_str().into();
    let keys = match issuer.keys {
        IssuerKeys::Secrets(secrets) => secrets.iter().map(|secret| shared_secret(secret)).collect::<Result<_, _>>().map(ReadyKeys::Fixed),
        IssuerKeys::Pem(algorithms, pems) => {
            pems.iter().map(|pem| VerifyingKey::pem(pem, &algorithms)).collect::<Result<_, _>>().map(ReadyKeys::Fixed)
        }
        IssuerKeys::Published(algorithms, url) => {
            Ok(ReadyKeys::Published(Arc::new(KeySet::new(name.clone(), url, algorithms, Timing::default()))))
        }
    };
    match keys {
        Ok(keys) => Ok(Issuer {
            name,
            iss: issuer.issuer,
            keys,
            claims: issuer.claims,
            may_name_users: issuer.may_name_users,
            orgs: issuer.orgs.into_iter().collect(),
            audience: issuer.audience,
        }),
        Err(why) => Err(SettingsError::BadKey { issuer: issuer.name, why }),
    }
}

/// What an issuer lacks that others could slip through, and why.
fn too_wide(issuer: &IssuerSettings) -> Option<(&'static str, &'static str)> {
    let published = matches!(issuer.keys, IssuerKeys::Published(..));
    let ours = Mapping::default();
    if issuer.issuer.is_none() && published {
        Some(("issuer", "whoever publishes keys signs for many, and its tokens are told apart by their iss"))
    } else if issuer.audience.is_none() && published {
        Some(("audience", "whoever publishes keys signs for many, and a token for somebody else's application must be refused"))
    } else if issuer.issuer.is_none() && issuer.claims.org != ours.org {
        Some(("issuer", "without an organization in its tokens only their iss tells them from LibreChat's"))
    } else {
        None
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

/// What is wrong with a public key in PEM for an issuer with these algorithms.
///
/// # Errors
///
/// What is wrong with it, as a clause that begins with "it".
pub fn check_public_key(pem: &str, algorithms: &[Algorithm]) -> Result<(), &'static str> {
    VerifyingKey::pem(pem, algorithms).map(|_| ())
}
