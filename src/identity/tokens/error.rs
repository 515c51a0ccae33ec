//! Why a token is refused.

use std::sync::Arc;

use super::OrgScoped;
use crate::identity::Identity;

/// Which rule a token broke first. The client is told none of it: every one is a bare 401, but a foreign org is a
/// 403, and keys that are away are a 503.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good in everything but its time is over.
    #[error("the token has expired")]
    Expired {
        /// Whose it was, for the audit row.
        whose: Option<Box<Whose>>,
    },
    /// No key that may sign for it made its signature.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Its issuer publishes no such key, or none that made its signature: not even now, where there was leave to ask again.
    #[error("the token's key is not among those that {issuer} publishes")]
    UnknownKey {
        /// The issuer's configured name.
        issuer: Arc<str>,
    },
    /// Its issuer publishes its keys, and they could not be fetched yet, or not for a day: nothing can be said of the token.
    #[error("the keys of {issuer} cannot be fetched")]
    KeysAway {
        /// The issuer's configured name.
        issuer: Arc<str>,
    },
    /// Its `alg` is not the one configured for its issuer.
    #[error("the token's algorithm is not its issuer's")]
    BadAlgorithm,
    /// No issuer is configured for its `iss`.
    #[error("the token's issuer is unknown")]
    BadIssuer,
    /// It was not made for us.
    #[error("the token is for another audience")]
    BadAudience,
    /// It is no token of its kind: too long, not three parts, a claim missing or of the wrong type, or one too many.
    #[error("the token is malformed")]
    BadShape,
    /// Its `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its org is unknown, or not one its issuer may speak for.
    #[error("the token speaks for an org that it may not speak for")]
    ForeignOrg,
    /// The session behind it is over, or its person has moved to another org.
    #[error("the session of the token is over")]
    Revoked,
    /// Its issuer does not vouch for its e-mail address.
    #[error("the token's e-mail address is not verified")]
    UnverifiedEmail,
}

impl TokenError {
    /// Every reason, as audit rows and metrics call them.
    pub const REASONS: [&str; 12] = [
        "expired",
        "signature",
        "unknown_kid",
        "keys_away",
        "algorithm",
        "issuer",
        "audience",
        "shape",
        "not_yet_valid",
        "foreign_org",
        "revoked",
        "unverified_email",
    ];

    /// The reason as audit rows and metrics call it, one of [`Self::REASONS`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "expired",
            Self::BadSignature => "signature",
            Self::UnknownKey { .. } => "unknown_kid",
            Self::KeysAway { .. } => "keys_away",
            Self::BadAlgorithm => "algorithm",
            Self::BadIssuer => "issuer",
            Self::BadAudience => "audience",
            Self::BadShape => "shape",
            Self::NotYetValid => "not_yet_valid",
            Self::ForeignOrg => "foreign_org",
            Self::Revoked => "revoked",
            Self::UnverifiedEmail => "unverified_email",
        }
    }
}

/// Whose expired token it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// Their org, if any.
    pub org: Option<Arc<str>>,
    /// Their LibreChat user id, where the token proves it.
    pub user: Option<Arc<str>>,
    /// Their name.
    pub name: Option<Arc<str>>,
    /// Their role.
    pub role: Arc<str>,
}

impl From<&Identity> for Whose {
    fn from(identity: &Identity) -> Self {
        Self {
            org: identity.org.as_deref().map(|org| org.id.clone()),
            user: Some(identity.user.clone()),
            name: identity.name.clone(),
            role: identity.role.clone(),
        }
    }
}

impl From<&OrgScoped> for Whose {
    /// An org-scoped token proves no LibreChat user by itself.
    fn from(person: &OrgScoped) -> Self {
        let name = person.claims.username.as_deref().or(person.claims.name.as_deref());
        Self { org: Some(person.org.id.clone()), user: None, name: name.map(Arc::from), role: person.role.clone() }
    }
}
