//! LibreChat's accounts as the page makes and enters them: `POST /api/auth/register`, `POST /api/auth/login`.
//!
//! LibreChat limits both by address (`REGISTER_MAX`, `LOGIN_MAX`). All of ours come from one machine, so that each account is
//! given an address of its own: of the range for private networks (RFC 4193), and with a network of its own, since IPv6 is
//! counted by network.

use std::net::Ipv6Addr;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{CallError, FALLBACK_USER_AGENT, LibreChat, Person};
use crate::identity::access::TenantId;

/// An account as it is made.
#[derive(Clone)]
pub struct Credentials {
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: String,
    /// The tenant that it belongs to.
    pub tenant: Option<TenantId>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What LibreChat says to a name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// They are this user's, with this e-mail address.
    User {
        /// The id, 24 hex digits.
        id: String,
        /// The address.
        email: String,
    },
    /// They are the user's whom this token names; the second factor is asked for.
    CodeAsked(String),
    /// They are nobody's.
    Nobody,
}

/// The shortest name that LibreChat takes, and the longest, in characters (`registerSchema`).
const NAME_LENGTHS: std::ops::RangeInclusive<usize> = 3..=80;

impl LibreChat {
    /// Enters an account.
    ///
    /// # Errors
    ///
    /// Where LibreChat is away, or refuses for another reason than name and password.
    pub async fn enter(&self, account: &Credentials) -> Result<Entered, CallError> {
        #[derive(Deserialize)]
        struct Answer {
            user: Option<Document>,
            #[serde(default, rename = "twoFAPending")]
            code_asked: bool,
            #[serde(rename = "tempToken")]
            temp_token: Option<String>,
        }
        #[derive(Deserialize)]
        struct Document {
            id: Option<String>,
            #[serde(rename = "_id")]
            object_id: Option<String>,
            email: String,
        }
        let body = json!({ "email": account.email, "password": account.password });
        match self.read(self.of_account(account, "/api/auth/login").json(&body)).await {
            Ok(body) => match serde_json::from_slice(&body).map_err(|_| CallError::Unreadable)? {
                Answer { code_asked: true, temp_token: Some(token), .. } => Ok(Entered::CodeAsked(token)),
                Answer { user: Some(Document { id, object_id, email }), .. } => {
                    Ok(Entered::User { id: object_id.or(id).ok_or(CallError::Unreadable)?, email })
                }
                Answer { .. } => Err(CallError::Unreadable),
            },
            Err(CallError::Status(400 | 401 | 404)) => Ok(Entered::Nobody),
            Err(error) => Err(error),
        }
    }

    /// Makes an account. LibreChat answers the same where there is one under the address already, so that only entering it
    /// tells.
    ///
    /// # Errors
    ///
    /// Where LibreChat is away or makes none: registration may be closed, or the address not allowed.
    pub async fn register(&self, account: &Credentials, name: &str) -> Result<(), CallError> {
        let Credentials { email, password, .. } = account;
        let body = json!({ "name": fitting_name(name, email), "email": email, "password": password, "confirm_password": password });
        self.read(self.of_account(account, "/api/auth/register").json(&body)).await.map(|_| ())
    }

    /// A user's whole document, as the page is shown it.
    ///
    /// # Errors
    ///
    /// Where LibreChat is away, knows no such user, or answers something else.
    pub async fn document(&self, person: &Person) -> Result<Value, CallError> {
        let body = self.read(self.get(person, "/api/user", &[])).await?;
        serde_json::from_slice(&body).ok().filter(Value::is_object).ok_or(CallError::Unreadable)
    }

    fn of_account(&self, account: &Credentials, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .http
            .post(self.url(&account.email, path))
            .header("User-Agent", FALLBACK_USER_AGENT)
            .header("X-Forwarded-For", address_of(&account.email).to_string())
            .header("Accept-Encoding", "identity");
        match &account.tenant {
            Some(tenant) => request.header("X-Tenant-Id", tenant.header()),
            None => request,
        }
    }
}

fn address_of(email: &str) -> Ipv6Addr {
    let digest = Sha256::digest(email.as_bytes());
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..7].copy_from_slice(&digest[..6]);
    bytes[15] = 1;
    Ipv6Addr::from(bytes)
}

/// A name as long as LibreChat wants one.
fn fitting_name(name: &str, email: &str) -> String {
    let plain: String = name.chars().filter(|letter| !letter.is_control()).collect();
    let plain = plain.trim();
    let name = if plain.chars().count() < *NAME_LENGTHS.start() { email } else { plain };
    name.chars().take(*NAME_LENGTHS.end()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_comes_from_a_network_of_its_own() {
        let (ann, bob) = (address_of("ann@acme.test"), address_of("bob@acme.test"));
        assert_eq!(ann, address_of("ann@acme.test"));
        assert_ne!(ann.octets()[..7], bob.octets()[..7], "IPv6 is counted by /56");
        assert!([ann, bob].iter().all(Ipv6Addr::is_unique_local));
    }

    #[test]
    fn names_fit() {
        let email = "ann@acme.test";
        assert_eq!(fitting_name(" Ann Lee ", email), "Ann Lee");
        for short in ["", "  ", "A", "\u{0}\u{7}B", "김"] {
            assert_eq!(fitting_name(short, email), email, "{short:?}");
        }
        assert_eq!(fitting_name(&"é".repeat(200), email).chars().count(), 80);
    }
}
