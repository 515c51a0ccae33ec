//! Usage rows: one per generation and model.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What one generation used of one model. Written once; writing it again changes nothing (its key is `id, time`).
///
/// `Word` is what our own closed words are held in: literals where rows are made, strings where they are read back. As JSON
/// it is the object of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow<Word = &'static str> {
    /// The generation's id for its first model, derived from it for any further one.
    pub id: Uuid,
    /// When the generation was admitted.
    pub time: Timestamp,
    /// The generation's id.
    pub generation_id: Uuid,
    /// The org it is billed to.
    pub org_id: Arc<str>,
    /// The member who asked.
    pub member_id: Arc<str>,
    /// The day of admission in the org's calendar, `2026-11-20`.
    pub org_day: String,
    /// The month of admission in the org's calendar, `2026-11`.
    pub org_month: String,
    /// LibreChat's endpoint, as in the path or body.
    pub endpoint: String,
    /// The model, as the usage frame, the body or the last answer of that agent named it; empty where none did.
    pub model: String,
    /// The saved agent's or assistant's id, if one was asked.
    pub agent_id: Option<String>,
    /// LibreChat's conversation id, where it became known.
    pub conversation_id: Option<String>,
    /// Accepted messages this row counts: 1 on a generation's first row, 0 on its further ones and on failed starts.
    pub messages: u32,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of the input: read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Of the input: written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Input and output.
    pub total_tokens: u64,
    /// What it costs, in nano-dollars.
    pub cost_nanousd: u64,
    /// The version of the price table that priced it.
    pub price_version: Arc<str>,
    /// Where the numbers come from: `provider`, `frames`, `message`, `status`, `context` or `counted`.
    pub usage_source: Word,
    /// The opening estimate, in tokens, room for the answer included.
    pub estimate_tokens: u64,
    /// How it ended: `completed`, `aborted`, `failed`, `paused` or `lost` (its end was never seen).
    pub status: Word,
    /// From admission to the first piece of the answer, in milliseconds.
    pub time_to_first_token_ms: Option<u64>,
    /// From admission to its end, in milliseconds.
    pub duration_ms: u64,
    /// The request that started it.
    pub request_id: Arc<str>,
}

/// A usage row as it was read back.
pub type StoredUsage = UsageRow<String>;

impl From<UsageRow> for StoredUsage {
    fn from(row: UsageRow) -> Self {
        Self {
            id: row.id,
            time: row.time,
            generation_id: row.generation_id,
            org_id: row.org_id,
            member_id: row.member_id,
            org_day: row.org_day,
            org_month: row.org_month,
            endpoint: row.endpoint,
            model: row.model,
            agent_id: row.agent_id,
            conversation_id: row.conversation_id,
            messages: row.messages,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cache_read_tokens: row.cache_read_tokens,
            cache_write_tokens: row.cache_write_tokens,
            total_tokens: row.total_tokens,
            cost_nanousd: row.cost_nanousd,
            price_version: row.price_version,
            usage_source: row.usage_source.to_owned(),
            estimate_tokens: row.estimate_tokens,
            status: row.status.to_owned(),
            time_to_first_token_ms: row.time_to_first_token_ms,
            duration_ms: row.duration_ms,
            request_id: row.request_id,
        }
    }
}
