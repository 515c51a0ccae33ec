//! API keys of members, for people's own programs: what a key may, and where keys are kept.
//!
//! A key is `tgk_` and a secret of 32 random bytes, of which only the SHA-256 is kept: whoever reads the database can use
//! none. It is its member's for as long as they are of its org, until its end or until it is revoked. Every replica holds
//! all of them in memory and hears of changes within a second, as of those of members ([`super::directory`]): so no request
//! waits for the database, invented keys cost it nothing, and known ones go on while it is away.
//!
//! LibreChat makes keys of its own (`sk-...`, for `/api/agents/v1`). Whose such a one is that passed through here when it was
//! made is kept in the same way ([`AgentKey`]).

pub mod news;
pub mod notes;
pub(super) mod sql;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::addresses::Networks;
use super::sessions::Secret;
use crate::records::ReadError;
pub use sql::{PostgresApiKeys, SqliteApiKeys};

/// What every key begins with.
pub const PREFIX: &str = "tgk_";

/// The longest name of a key, in characters.
pub const LONGEST_NAME: usize = 100;

/// For how long keys that were revoked are counted among those that a member has, so that nobody makes any number of them.
pub const COUNTED_AFTER_REVOKED: SignedDuration = SignedDuration::from_hours(24);

/// How many of a key's last characters are kept, for its owner to recognise it by.
const ENDING: usize = 4;

/// A key as its owner holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySecret(Secret);

impl KeySecret {
    /// A new one.
    ///
    /// # Errors
    ///
    /// Where the system has no randomness.
    pub fn make() -> Result<Self, aws_lc_rs::error::Unspecified> {
        Secret::make().map(Self)
    }

    /// One that somebody shows; `None` for whatever cannot be one.
    pub fn shown(text: &str) -> Option<Self> {
        Secret::shown(text.strip_prefix(PREFIX)?).map(Self)
    }

    /// As its owner holds it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", self.0.expose())
    }

    /// What is kept of it.
    pub fn hash(&self) -> String {
        self.0.hash()
    }

    /// Its last characters.
    pub fn ending(&self) -> &str {
        let text = self.0.expose();
        text.get(text.len().saturating_sub(ENDING)..).unwrap_or_default()
    }
}

/// One thing that a key may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// Chat: start, follow, look after, stop, and read what there is.
    Chat,
    /// Read what LibreChat has of the member.
    Read,
    /// Read which limits apply to the member, and what is left.
    Usage,
}

impl KeyScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Read, Self::Usage];

    /// As it stands in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Read => "read",
            Self::Usage => "usage",
        }
    }

    /// The same, read.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// What a key may: at least one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyScopes([bool; KeyScope::ALL.len()]);

impl KeyScopes {
    /// These; `None` where there is none.
    pub fn of(scopes: impl IntoIterator<Item = KeyScope>) -> Option<Self> {
        let mut held = [false; KeyScope::ALL.len()];
        for scope in scopes {
            held[scope as usize] = true;
        }
        held.contains(&true).then_some(Self(held))
    }

    /// Whether this is one of them.
    pub fn hold(self, scope: KeyScope) -> bool {
        self.0[scope as usize]
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = KeyScope> {
        KeyScope::ALL.into_iter().filter(move |scope| self.hold(*scope))
    }

    /// As they stand in the database: words with commas between them.
    pub fn text(self) -> String {
        self.each().map(KeyScope::as_str).collect::<Vec<_>>().join(",")
    }

    /// The same, read.
    pub fn from_text(text: &str) -> Option<Self> {
        let scopes: Option<Vec<_>> = text.split(',').map(|word| KeyScope::from_word(word.trim())).collect();
        Self::of(scopes?)
    }
}

/// A key, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// The org's id.
    pub org: Arc<str>,
    /// The member's id in the directory.
    pub member: Uuid,
    /// What its owner calls it.
    pub name: Arc<str>,
    /// Its last characters.
    pub ending: Arc<str>,
    /// What it may.
    pub scopes: KeyScopes,
    /// Where it may be used, on top of where its member and their org may come from; anywhere when left out.
    pub addresses: Option<Networks>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it: an id of LibreChat, or `command line`.
    pub created_by: Arc<str>,
    /// When it ends by itself.
    pub expires: Timestamp,
    /// When it was last used, to a minute; only as the database has it.
    pub last_used: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// Whether this can be a key's name: 1 to [`LONGEST_NAME`] characters that show something, on one line.
pub fn is_name(name: &str) -> bool {
    let shown = name.trim();
    shown.len() == name.len() && (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// A key that LibreChat made for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentKey {
    /// The SHA-256 of the key, in hexadecimal.
    pub hash: Arc<str>,
    /// LibreChat's id of it.
    pub id: Arc<str>,
    /// Whose it is: their id in LibreChat.
    pub owner: Arc<str>,
    /// Whether LibreChat has deleted it.
    pub forgotten: bool,
}

/// What is kept of a key that LibreChat made.
pub fn agent_key_hash(key: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(key).iter().fold(String::with_capacity(64), |mut hash, byte| {
        // Writing to a string does not fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// Whose keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhoseKeys {
    /// Those of a member of an org.
    OfMember(Arc<str>, Uuid),
    /// Those of everyone of an org.
    OfOrg(Arc<str>),
}

/// Keeps keys. Two implementations run, and one suite of laws runs on both. Every change takes the directory's next revision,
/// so that [`Changes`](super::directory::store::Changes) tell of it.
#[async_trait]
pub trait ApiKeyStore: std::fmt::Debug + Send + Sync {
    /// Keeps a key under its secret's hash, unless its member has so many already; those that were revoked after
    /// `counted_since` are counted. Answers whether it did.
    async fn add(&self, hash: &str, key: &ApiKey, most: u32, counted_since: Timestamp) -> Result<bool, ReadError>;

    /// Keys that were not revoked, the oldest first.
    async fn keys(&self, whose: &WhoseKeys) -> Result<Vec<ApiKey>, ReadError>;

    /// Ends a key now. Answers it, if it is one of these and was not revoked before.
    async fn revoke(&self, whose: &WhoseKeys, id: Uuid, now: Timestamp) -> Result<Option<ApiKey>, ReadError>;

    /// When keys were last used. This is no change that others have to know of.
    async fn used(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), ReadError>;

    /// Keeps whose a key of LibreChat's is.
    async fn learn(&self, key: &AgentKey, now: Timestamp) -> Result<(), ReadError>;

    /// LibreChat has deleted a key of this owner, which it knows by this id.
    async fn forget(&self, owner: &str, id: &str, now: Timestamp) -> Result<(), ReadError>;

    /// Removes what ended, was revoked or forgotten before.
    async fn tidy(&self, before: Timestamp) -> Result<(), ReadError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_nothing_else_is_taken_for_one() {
        let secret = KeySecret::make().expect("randomness");
        let text = secret.expose();
        assert_eq!((text.len(), KeySecret::shown(&text)), (47, Some(secret.clone())));
        assert!(text.ends_with(secret.ending()) && secret.ending().len() == ENDING);
        assert!(!format!("{secret:?}").contains(&text[4..]), "it is not printed by accident");
        for odd in ["", "tgk_", "TGK_", &text[4..], &text[..46], &format!("{text}A"), &text.replace("tgk_", "TGK_"), &format!(" {text}")] {
            assert_eq!(KeySecret::shown(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn scopes_are_words() {
        let both = KeyScopes::from_text("usage, chat").expect("scopes");
        assert_eq!((both.text().as_str(), both.hold(KeyScope::Read)), ("chat,usage", false));
        for odd in ["", ",", "chat,", "Chat", "admin", "chat admin", "*"] {
            assert_eq!(KeyScopes::from_text(odd), None, "{odd:?}");
        }
        assert_eq!(KeyScopes::of([]), None);
    }

    #[test]
    fn names_show_something_on_one_line() {
        for good in ["a", "My laptop", "노트북", &"x".repeat(LONGEST_NAME)] {
            assert!(is_name(good), "{good:?}");
        }
        for odd in ["", " ", " a", "a ", "a\nb", "a\0", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(!is_name(odd), "{odd:?}");
        }
    }
}
