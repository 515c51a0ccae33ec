//! Whose request it is: tokens, issuers, and the directory of orgs.

pub mod directory;
pub mod mint;
pub mod tokens;

use std::sync::Arc;

pub use directory::{Directory, Org};

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
}
