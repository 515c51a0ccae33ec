//! LibreChat access tokens that we make: for our own calls on a person's behalf, in place of an org-scoped token, and for those
//! who are signed in through us.
//!
//! LibreChat accepts any HS256 token under its secret whose `id` is a user, and does not mind more claims beside it.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use uuid::Uuid;

use super::sessions::Session;
use super::tokens::OWN_ISSUER;
use super::{Identity, LibreChatUser};

/// How long a token for one of our own calls lives, in seconds: it is made afresh for each call.
const OWN_CALL_LIFETIME: i64 = 120;

/// The longest a swapped token lives, in seconds: as long as LibreChat's own by default.
const LONGEST_LIFETIME: i64 = 900;

/// The shortest a swapped token lives, in seconds. An org-scoped token may be accepted a little after its end; LibreChat has
/// no such leeway, and would refuse what we have let in.
const SHORTEST_LIFETIME: i64 = 10;

/// Makes LibreChat access tokens.
#[derive(Debug)]
pub struct Minter {
    key: EncodingKey,
    header: Header,
}

impl Minter {
    /// A minter with LibreChat's `JWT_SECRET`.
    pub fn new(librechat_secret: &[u8]) -> Self {
        Self { key: EncodingKey::from_secret(librechat_secret), header: Header::new(Algorithm::HS256) }
    }

    /// A token for one call of ours to LibreChat as the user with this id. It lives two minutes.
    pub fn mint_own_call(&self, user: &str, org: Option<&str>, now: Timestamp) -> String {
        self.sign(&Claims {
            id: user,
            username: None,
            provider: None,
            email: None,
            iss: OWN_ISSUER,
            org,
            role: None,
            session: OfSession::default(),
            iat: now.as_second(),
            exp: now.as_second().saturating_add(OWN_CALL_LIFETIME),
        })
    }

    /// A token that stands in for an org-scoped one: LibreChat's own claims of `user`, and the org and role of `identity`.
    /// It lives until the org-scoped token's own end, at most 15 minutes and at least ten seconds.
    pub fn mint_swapped(&self, user: &LibreChatUser, identity: &Identity, until: Timestamp, now: Timestamp) -> String {
        let earliest = now.as_second().saturating_add(SHORTEST_LIFETIME);
        let latest = now.as_second().saturating_add(LONGEST_LIFETIME);
        self.sign(&Claims {
            id: &user.id,
            username: user.username.as_deref(),
            provider: Some(&user.provider),
            email: Some(&user.email),
            iss: OWN_ISSUER,
            org: identity.org.as_deref().map(|org| &*org.id),
            role: Some(&identity.role),
            session: OfSession::default(),
            iat: now.as_second(),
            exp: until.as_second().clamp(earliest, latest),
        })
    }

    /// What the browser holds of somebody who is signed in: LibreChat's own claims of `user`, with org, role and session. It lives
    /// 15 minutes, and not longer than its session.
    pub fn mint_of_session(&self, user: &LibreChatUser, role: &str, session: &Session, now: Timestamp) -> String {
        let latest = now.as_second().saturating_add(LONGEST_LIFETIME);
        self.sign(&Claims {
            id: &user.id,
            username: user.username.as_deref(),
            provider: Some(&user.provider),
            email: Some(&user.email),
            iss: OWN_ISSUER,
            org: Some(&session.org),
            role: Some(role),
            session: OfSession { sid: Some(session.id), plan: session.plan.as_deref(), org_tokens: session.org_tokens_per_month },
            iat: now.as_second(),
            exp: session.expires.as_second().min(latest),
        })
    }

    #[expect(clippy::expect_used, reason = "an HMAC key signs anything, and claims of strings and integers always serialize")]
    fn sign(&self, claims: &Claims<'_>) -> String {
        jsonwebtoken::encode(&self.header, claims, &self.key).expect("a token of plain claims is signed with an HMAC key")
    }
}

/// The claims in the order in which LibreChat writes its own.
#[derive(Serialize)]
struct Claims<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(flatten)]
    session: OfSession<'a>,
    iat: i64,
    exp: i64,
}

/// What only the tokens of sessions say.
#[derive(Default, Serialize)]
struct OfSession<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_tokens: Option<u64>,
}
