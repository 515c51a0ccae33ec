//! Audit rows: who did what, from where, and how it went. Never a prompt, a token or a password.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::Link;

/// What an audit row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Category {
    /// Signing in and out, expired tokens.
    Auth,
    /// Requests to LibreChat.
    Api,
    /// Changes made by administrators.
    Admin,
    /// Refused credentials and permissions.
    Security,
    /// Reading or exporting data.
    Data,
    /// The gateway itself.
    System,
}

impl Category {
    /// As it stands in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::Api => "API",
            Self::Admin => "ADMIN",
            Self::Security => "SECURITY",
            Self::Data => "DATA",
            Self::System => "SYSTEM",
        }
    }

    /// What stands in a row as `word`, if it is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Auth, Self::Api, Self::Admin, Self::Security, Self::Data, Self::System].into_iter().find(|known| known.as_str() == word)
    }
}

/// How much an audit row matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Ordinary.
    Info,
    /// Status 400 and more.
    Warning,
    /// Status 500 and more.
    Error,
    /// Someone must look now.
    Critical,
}

impl Severity {
    /// As it stands in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// What stands in a row as `word`, if it is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Error, Self::Critical].into_iter().find(|known| known.as_str() == word)
    }
}

/// How an action or a tool call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused, or failed.
    Failure,
    /// How it went was not seen.
    Unknown,
}

impl Outcome {
    /// As it stands in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }

    /// What stands in a row as `word`, if it is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Success, Self::Failure, Self::Unknown].into_iter().find(|known| known.as_str() == word)
    }
}

/// One thing that happened. Its key is `id, time`; writing it again keeps the larger `count`.
///
/// `Word` is what our own closed words are held in: literals where rows are made, strings where they are read back. As JSON
/// it is the object of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow<Word = &'static str> {
    /// Its id.
    pub id: Uuid,
    /// When it began.
    pub time: Timestamp,
    /// What it is about.
    pub category: Category,
    /// How much it matters.
    pub severity: Severity,
    /// The org, if known.
    pub org_id: Option<Arc<str>>,
    /// The day of `time` in the org's calendar, `2026-11-20`; nothing where no org is known.
    pub org_day: Option<String>,
    /// Who: the member's id, if known.
    pub actor_id: Option<Arc<str>>,
    /// Who: a name for people.
    pub actor_name: Option<Arc<str>>,
    /// Who: the role in the org.
    pub actor_role: Option<Arc<str>>,
    /// What was done: `chat.started`, `chat.refused`, `auth.token_refused`, `api.request`, ...
    pub action: Word,
    /// The kind of thing it was done to.
    pub resource_type: Option<Word>,
    /// Which one.
    pub resource_id: Option<String>,
    /// How it went.
    pub outcome: Outcome,
    /// The request's id.
    pub request_id: Option<Arc<str>>,
    /// The request's method.
    pub method: Option<String>,
    /// The request's path, without its query.
    pub path: Option<String>,
    /// The request's query with secrets struck out.
    pub query: Option<String>,
    /// The answer's status.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What went wrong, in a word or a sentence.
    pub error: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// The client's user agent.
    pub user_agent: Option<String>,
    /// For chats: the conversation.
    pub conversation_id: Option<String>,
    /// For chats: the model.
    pub model: Option<String>,
    /// For chats: tokens charged.
    pub total_tokens: Option<u64>,
    /// For chats: the cost in nano-dollars.
    pub cost_nanousd: Option<u64>,
    /// How many like it this row stands for.
    pub count: u64,
    /// The short reference a person was given, for `tollgate explain`.
    pub reference: Option<String>,
    /// The whole decision, as JSON.
    pub detail: Option<serde_json::Value>,
    /// Its place in its chain, once its writer has linked it.
    #[serde(flatten)]
    pub link: Option<Link>,
}

impl<Word> AuditRow<Word> {
    /// A row of nobody's request that says only this: a success, once.
    pub fn plain(time: Timestamp, category: Category, severity: Severity, action: Word) -> Self {
        Self {
            id: Uuid::now_v7(),
            time,
            category,
            severity,
            org_id: None,
            org_day: None,
            actor_id: None,
            actor_name: None,
            actor_role: None,
            action,
            resource_type: None,
            resource_id: None,
            outcome: Outcome::Success,
            request_id: None,
            method: None,
            path: None,
            query: None,
            status: None,
            duration_ms: None,
            error: None,
            address: None,
            user_agent: None,
            conversation_id: None,
            model: None,
            total_tokens: None,
            cost_nanousd: None,
            count: 1,
            reference: None,
            detail: None,
            link: None,
        }
    }
}

/// An audit row as it was read back.
pub type StoredAudit = AuditRow<String>;

impl From<AuditRow> for StoredAudit {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            time: row.time,
            category: row.category,
            severity: row.severity,
            org_id: row.org_id,
            org_day: row.org_day,
            actor_id: row.actor_id,
            actor_name: row.actor_name,
            actor_role: row.actor_role,
            action: row.action.to_owned(),
            resource_type: row.resource_type.map(str::to_owned),
            resource_id: row.resource_id,
            outcome: row.outcome,
            request_id: row.request_id,
            method: row.method,
            path: row.path,
            query: row.query,
            status: row.status,
            duration_ms: row.duration_ms,
            error: row.error,
            address: row.address,
            user_agent: row.user_agent,
            conversation_id: row.conversation_id,
            model: row.model,
            total_tokens: row.total_tokens,
            cost_nanousd: row.cost_nanousd,
            count: row.count,
            reference: row.reference,
            detail: row.detail,
            link: row.link,
        }
    }
}
