//! People who are signed in through Tollgate: codes that open a session once, and the sessions behind what browsers hold.
//!
//! A code and a session are known by secrets of 32 random bytes, of which only the SHA-256 is kept: whoever reads the
//! database can sign in as nobody. A code opens one session, whoever comes first; a session lasts until its end or until it
//! is revoked, which every replica knows within a second ([`Changes::revoked`](super::directory::store::Changes)).

mod sql;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::records::ReadError;
pub use sql::{PostgresSessions, SqliteSessions};

/// How long a secret is, in bytes before it is written as text.
const SECRET_BYTES: usize = 32;

/// A secret as its owner holds it: 43 characters that may stand in an address and in a cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    ///
    /// Where the system has no randomness.
    pub fn make() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// One that somebody shows; `None` for whatever cannot be one.
    pub fn shown(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == SECRET_BYTES).then(|| Self(text.to_owned()))
    }

    /// As its owner holds it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> String {
        use std::fmt::Write as _;
        Sha256::digest(&self.0).iter().fold(String::with_capacity(64), |mut hash, byte| {
            // Writing to a string does not fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        })
    }
}

/// What a code hands over: who is signed in by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOff {
    /// The org's id.
    pub org: Arc<str>,
    /// The member's id in the directory.
    pub member: Uuid,
    /// The plan of the token that it was made for, where that says one.
    pub plan: Option<Arc<str>>,
    /// One more monthly token cap for the org, of the same token.
    pub org_tokens_per_month: Option<u64>,
    /// From when on it opens nothing any more.
    pub expires: Timestamp,
}

/// What became of a code that somebody showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// It opens a session, this once.
    Opens(HandOff),
    /// Somebody opened it before.
    Again(HandOff),
    /// It came too late.
    Late(HandOff),
    /// There is no such code.
    Unknown,
}

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, the `sid` of tokens.
    pub id: Uuid,
    /// The org's id.
    pub org: Arc<str>,
    /// The member's id in the directory.
    pub member: Uuid,
    /// The plan of the token that it began with, where that says one.
    pub plan: Option<Arc<str>>,
    /// One more monthly token cap for the org, of the same token.
    pub org_tokens_per_month: Option<u64>,
    /// When it began.
    pub started: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
}

/// Which sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichSessions {
    /// This one.
    One(Uuid),
    /// All of a member.
    OfMember(Uuid),
    /// All of an org.
    OfOrg(Arc<str>),
}

/// Keeps codes and sessions. Two implementations run, and one suite of laws runs on both.
#[async_trait]
pub trait SessionStore: std::fmt::Debug + Send + Sync {
    /// Keeps what the code with this hash hands over.
    async fn add_hand_off(&self, code_hash: &str, hand_off: &HandOff, now: Timestamp) -> Result<(), ReadError>;

    /// Opens a code. Of all who show the same one, on whichever replica, one is told [`Redeemed::Opens`].
    async fn redeem(&self, code_hash: &str, now: Timestamp) -> Result<Redeemed, ReadError>;

    /// Keeps a session under its secret's hash.
    async fn start(&self, secret_hash: &str, session: &Session) -> Result<(), ReadError>;

    /// The session with this secret's hash, unless it is over or was revoked.
    async fn session(&self, secret_hash: &str, now: Timestamp) -> Result<Option<Session>, ReadError>;

    /// Those of these sessions that are neither over nor revoked, the oldest first.
    async fn list(&self, which: &WhichSessions, now: Timestamp) -> Result<Vec<Session>, ReadError>;

    /// Ends sessions now. Answers those that it ended.
    async fn revoke(&self, which: &WhichSessions, now: Timestamp) -> Result<Vec<Session>, ReadError>;

    /// Forgets codes and sessions that ended before.
    async fn tidy(&self, before: Timestamp) -> Result<(), ReadError>;
}
