//! Whose request it is: tokens, issuers, and the directory of orgs.
//!
//! A request's `Authorization` header is read by [`bearer()`], the token in it is judged by [`Verifier`], and a person of
//! an embedding application becomes a LibreChat user through [`Accounts`] and [`Minter`]. [`Logins`] watches those who sign in
//! with LibreChat's own accounts. Programs come with [`keys`].

pub mod bearer;
pub mod tokens;

pub mod access;
pub mod accounts;
pub mod addresses;
pub mod agent_keys;
mod answers;
pub mod directory;
pub mod keys;
pub mod lockouts;
pub mod logins;
pub mod mint;
pub mod sessions;
pub mod sign_in;
mod sql;
pub mod web_origin;

use std::sync::Arc;

use uuid::Uuid;

pub use accounts::{AccountError, Accounts, LibreChatUser, LookupError};
pub use agent_keys::{AgentKeys, KeyName, KeyStanding};
pub use bearer::bearer;
pub use directory::{Directory, Member, Org, Standing};
pub use logins::Logins;
pub use mint::Minter;
pub use sign_in::{SignIn, SignInError};
pub use tokens::{
    Algorithm, ClaimPath, FetchError, IssuerKeys, IssuerSettings, KeySet, KeySetHealth, Mapping, OrgFrom, OrgScoped, OrgScopedClaims,
    Preset, ROLES, SettingsError, TokenError, Verified, Verifier, VerifierSettings, Whose,
};

/// The role of whoever has no other: the first of [`ROLES`].
pub const DEFAULT_ROLE: &str = ROLES[0];

/// The role of those who look on: they start nothing that costs something.
pub const VIEWER: &str = ROLES[3];

/// What authentication proved about a request.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The org, or `None` for a person whom no org claims.
    pub org: Option<Arc<Org>>,
    /// The member's id in limits and rows: the LibreChat user id (24 hex digits), or `key:...` for an agent API key.
    pub user: Arc<str>,
    /// A name for people: the user name of the token.
    pub name: Option<Arc<str>>,
    /// The role in the org: `user`, `admin`, `super_admin` or `viewer`; `user` where the token names none.
    pub role: Arc<str>,
    /// The plan: the token's where it may say, else the org's.
    pub plan: Option<Arc<str>>,
    /// One more monthly token cap for the org, from `librechat_config.max_tokens` of an org-scoped token.
    pub org_tokens_per_month: Option<u64>,
    /// The e-mail address of the token.
    pub email: Option<Arc<str>>,
    /// Who may not use what costs something, if so.
    pub suspended: Option<Suspended>,
    /// The session that the token belongs to, where it is of one.
    pub session: Option<Uuid>,
}

impl Identity {
    /// Whether they look on, and send no messages.
    pub fn is_viewer(&self) -> bool {
        *self.role == *VIEWER
    }
}

/// Who may not use what costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspended {
    /// The whole org.
    Org,
    /// This member.
    Member,
}

impl Suspended {
    /// Of a member of an org, the one that is suspended.
    pub fn of(org: Option<&Org>, member: Option<&Member>) -> Option<Self> {
        if org.is_some_and(|org| org.standing == Standing::Suspended) {
            return Some(Self::Org);
        }
        member.filter(|member| member.standing == Standing::Suspended).map(|_| Self::Member)
    }
}

/// Whether this is a LibreChat user id as LibreChat writes it: 24 hexadecimal digits in lower case.
///
/// LibreChat's database would read the same id in upper case as the same user, so that one person could have two
/// counters; LibreChat never writes it that way, and here it is no id.
pub fn is_user_id(id: &str) -> bool {
    id.len() == 24 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
