//! The claims of each kind of token, and the rules on single claims.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::json::{Object, Presence, given};
use super::{OWN_ISSUER, TokenError, Whose};
use crate::identity::is_user_id;

/// What the unverified payload is looked at for: which rules the token is held to.
#[derive(Deserialize)]
pub(super) struct Peek<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    pub(super) iss: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub(super) organization: Option<&'a RawValue>,
    #[serde(default)]
    org: Presence,
}

impl Peek<'_> {
    /// Whether the token names its org as an issuer's does and as ours do: others could take it for the other one.
    pub(super) fn names_two_orgs(&self) -> bool {
        self.organization.is_some() && self.org.is_present()
    }

    /// The id of the org that the token claims to be for.
    pub(super) fn organization_id(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct WithId {
            id: String,
        }
        let organization: Object<WithId> = serde_json::from_str(self.organization?.get()).ok()?;
        Some(organization.0.id)
    }
}

/// LibreChat's own access token.
#[derive(Deserialize)]
pub(super) struct LibreChatClaims {
    pub(super) id: String,
    #[serde(default)]
    pub(super) username: Option<String>,
    #[serde(default)]
    pub(super) email: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) iss: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) org: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) role: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) sid: Option<Uuid>,
    #[serde(default, deserialize_with = "given")]
    pub(super) plan: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) org_tokens: Option<u64>,
    pub(super) exp: u64,
    #[serde(default, deserialize_with = "given")]
    pub(super) nbf: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    pub(super) iat: Option<u64>,
    #[serde(default)]
    pub(super) aud: Presence,
    #[serde(default)]
    scope: Presence,
    #[serde(default)]
    organization: Presence,
    #[serde(default, rename = "sessionId")]
    session_id: Presence,
}

impl LibreChatClaims {
    /// Whether this is an access token, and not another thing that LibreChat signs: `scope` marks its agents' triggers,
    /// `sessionId` a refresh token. A foreign `iss` under LibreChat's secret is nobody we know.
    pub(super) fn is_an_access_token(&self) -> bool {
        let foreign = self.scope.is_present() || self.organization.is_present() || self.session_id.is_present();
        is_user_id(&self.id) && !foreign && self.iss.as_deref().is_none_or(|iss| iss == OWN_ISSUER)
    }
}

/// Whether a token for this audience, one or several (RFC 7519 4.1.3), is for `ours` too. A token made for somebody else must
/// be refused, and where no audience is configured, everybody in a token's `aud` is somebody else (RFC 8725 3.9).
pub(super) fn is_for(claims: &Map<String, Value>, ours: Option<&str>) -> Result<bool, TokenError> {
    let is_ours = |one: &Value| one.as_str().map(|one| Some(one) == ours).ok_or(TokenError::BadShape);
    match claims.get("aud") {
        None => Ok(ours.is_none()),
        Some(one @ Value::String(_)) => is_ours(one),
        Some(Value::Array(several)) => several.iter().try_fold(false, |found, one| Ok(is_ours(one)? || found)),
        Some(_) => Err(TokenError::BadShape),
    }
}

/// The LibreChat user that an issuer names; a name that is none is refused rather than overlooked.
pub(super) fn named_user(claim: Option<&Value>) -> Result<Option<Arc<str>>, TokenError> {
    match claim {
        None => Ok(None),
        Some(Value::String(id)) if is_user_id(id) => Ok(Some(id.as_str().into())),
        Some(_) => Err(TokenError::BadShape),
    }
}

/// When a token is good. Times are whole seconds since the epoch; fractions are refused, no issuer needs them.
pub(super) struct Times {
    /// Its end, leeway not included.
    pub(super) expires: Timestamp,
    /// When it was made, where it says so.
    pub(super) issued: Option<Timestamp>,
    not_before: Timestamp,
}

impl Times {
    /// The times of a token, refused when a clock could not show them.
    pub(super) fn of(exp: u64, nbf: Option<u64>, iat: Option<u64>) -> Result<Self, TokenError> {
        let instant =
            |seconds: u64| i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).ok_or(TokenError::BadShape);
        let not_before = instant(nbf.unwrap_or(0))?;
        let issued = iat.map(instant).transpose()?;
        Ok(Self { expires: instant(exp)?, issued, not_before: issued.map_or(not_before, |issued| not_before.max(issued)) })
    }

    /// The times of a token whose claims were all read. It has an end; the other two may be missing.
    pub(super) fn of_claims(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let seconds = |name: &str| claims.get(name).map(|value| value.as_u64().ok_or(TokenError::BadShape)).transpose();
        Self::of(seconds("exp")?.ok_or(TokenError::BadShape)?, seconds("nbf")?, seconds("iat")?)
    }

    /// Whether the token is good now. It is not any more at its very end (RFC 7519 4.1.4), give or take the leeway in seconds.
    pub(super) fn check(&self, now: Timestamp, leeway: i64, whose: impl FnOnce() -> Whose) -> Result<(), TokenError> {
        let now = now.as_second();
        if self.not_before.as_second() > now.saturating_add(leeway) {
            return Err(TokenError::NotYetValid);
        }
        if now >= self.expires.as_second().saturating_add(leeway) {
            return Err(TokenError::Expired { whose: Some(Box::new(whose())) });
        }
        Ok(())
    }
}
