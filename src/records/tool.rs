//! Tool rows: one per call of a tool within a generation.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Outcome, clean};

/// One call of a tool. Written once; writing it again changes nothing (its key is `id, time`). As JSON it is the object of
/// its columns. Neither what the tool was asked nor what it answered is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRow {
    /// Its id.
    pub id: Uuid,
    /// When the generation that called was admitted, as in its usage rows.
    pub time: Timestamp,
    /// The generation that called.
    pub generation_id: Uuid,
    /// The org it belongs to.
    pub org_id: Arc<str>,
    /// The member whose message led to it.
    pub member_id: Arc<str>,
    /// The day of `time` in the org's calendar, `2026-11-20`.
    pub org_day: String,
    /// The month of `time` in the org's calendar, `2026-11`.
    pub org_month: String,
    /// LibreChat's conversation id, where it became known.
    pub conversation_id: Option<String>,
    /// The tool's name, without its server's.
    pub tool: String,
    /// The MCP server it is of; nothing for LibreChat's own tools.
    pub mcp_server: Option<String>,
    /// How it went; `unknown` where no result was seen before the generation ended.
    pub outcome: Outcome,
    /// How long it took, in milliseconds, where its beginning and its end were seen; the model's writing of what it asks is part of it.
    pub duration_ms: Option<u64>,
    /// How the result of a failure begins: at most 200 characters, secrets masked.
    pub error: Option<String>,
}

impl ToolRow {
    /// The row fit to be stored: without NUL, its texts bounded.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        clean::tool(&mut self);
        self
    }
}
