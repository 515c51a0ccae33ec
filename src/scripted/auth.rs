//! LibreChat's access tokens: checked as its `jwt` strategy checks them, and minted for demo and tests.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::options::User;

/// Seconds an access token lives.
pub const LIFETIME: i64 = 900;
/// Seconds a refresh token lives.
pub const REFRESH_LIFETIME: i64 = 7 * 86_400;

/// What an access token says. LibreChat ignores every other claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The id of the person's document.
    pub id: String,
    /// The user name.
    #[serde(default)]
    pub username: String,
    /// Where the account comes from: `local`, `openid`, ...
    #[serde(default)]
    pub provider: String,
    /// The e-mail address.
    #[serde(default)]
    pub email: String,
    /// Issued at, seconds.
    #[serde(default)]
    pub iat: i64,
    /// Valid until, seconds.
    pub exp: i64,
    /// Set in tokens of agent triggers, which are good for nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Claims {
    /// What LibreChat puts in a token for this person.
    pub fn of(user: &User, now: Timestamp) -> Self {
        Self {
            id: user.id.clone(),
            username: user.username.clone(),
            provider: "local".to_owned(),
            email: user.email.clone(),
            iat: now.as_second(),
            exp: now.as_second().saturating_add(LIFETIME),
            scope: None,
        }
    }

    /// Signed with LibreChat's secret.
    pub fn sign(&self, secret: &str) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), self, &EncodingKey::from_secret(secret.as_bytes()))
    }
}

/// An access token for this person, valid for 15 minutes.
pub fn mint(secret: &str, user: &User, now: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
    Claims::of(user, now).sign(secret)
}

/// What a valid token says, or the message of the 401.
pub fn verify(secret: &str, token: &str, now: Timestamp) -> Result<Claims, &'static str> {
    let mut rules = Validation::new(Algorithm::HS256);
    // The clock is ours, and LibreChat has neither audience nor leeway.
    rules.validate_exp = false;
    rules.validate_aud = false;
    let key = DecodingKey::from_secret(secret.as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules).map_err(|_| "invalid token")?.claims;
    if claims.exp <= now.as_second() {
        return Err("jwt expired");
    }
    let is_document = claims.id.len() == 24 && claims.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_document && claims.scope.is_none() { Ok(claims) } else { Err("invalid token") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_is_good_for_fifteen_minutes() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let user = User::new("alice@lab.test");
        let token = mint("secret", &user, now).unwrap();
        assert_eq!(verify("secret", &token, now).unwrap().id, user.id);
        assert_eq!(verify("other", &token, now), Err("invalid token"), "the secret counts");
        assert_eq!(verify("secret", "a.b.c", now), Err("invalid token"));
        let later = Timestamp::from_second(1_800_000_900).unwrap();
        assert_eq!(verify("secret", &token, later), Err("jwt expired"));
    }

    #[test]
    fn a_token_without_a_document_id_is_refused() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut claims = Claims::of(&User::new("a@b"), now);
        claims.id = "alice".to_owned();
        assert_eq!(verify("s", &claims.sign("s").unwrap(), now), Err("invalid token"));
        let mut trigger = Claims::of(&User::new("a@b"), now);
        trigger.scope = Some("agent_trigger".to_owned());
        assert_eq!(verify("s", &trigger.sign("s").unwrap(), now), Err("invalid token"));
    }
}
