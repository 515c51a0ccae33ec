//! `[estimate]`, `[body]` and `[generations]`: how a chat is measured, read and followed.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::errors::Errors;
use super::values::{at_least_one, bounded, milliseconds, minutes, seconds};

/// The opening estimate of a chat, before anything is known about its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Tokens of room for the answer when the request names none.
    #[serde(deserialize_with = "tokens")]
    pub answer_tokens: u64,
    /// Tokens of room that an answer is worth starting with; near a limit the room shrinks down to this.
    #[serde(deserialize_with = "tokens")]
    pub least_answer_tokens: u64,
}

/// Request bodies that are read whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// The most bytes of a chat's body; more is answered with 413. LibreChat's own bound is 3 MB.
    #[serde(deserialize_with = "chat_bytes")]
    pub max_chat_bytes: usize,
}

/// Generations: who follows a run, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generations {
    /// How long the Tollgate that follows a run may be silent before another takes it over.
    #[serde(rename = "lease_seconds", deserialize_with = "seconds")]
    pub lease: Duration,
    /// How long a run may have no stream of a client before Tollgate follows it itself.
    #[serde(rename = "follow_after_ms", deserialize_with = "milliseconds")]
    pub follow_after: Duration,
    /// How long a run whose end cannot be found is looked for before it is settled at what is known.
    #[serde(rename = "give_up_after_minutes", deserialize_with = "minutes")]
    pub give_up_after: Duration,
}

/// The most bytes that `max_chat_bytes` may be, since a body is held in memory while it is decided on.
const MOST_CHAT_BYTES: usize = 64 * 1024 * 1024;

/// The most tokens of an estimate; the largest contexts of models are a few million.
const MOST_TOKENS: usize = 100_000_000;

fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let tokens = at_least_one(deserializer)?;
    bounded::<D::Error>(tokens, MOST_TOKENS).map(|_| tokens)
}

fn chat_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = at_least_one(deserializer)?;
    bounded(bytes, MOST_CHAT_BYTES).map_err(|error: D::Error| D::Error::custom(format!("{error} (64 MB)")))
}

/// Checks what the values have to do with each other.
pub(super) fn check(estimate: &Estimate, errors: &mut Errors) {
    if estimate.least_answer_tokens > estimate.answer_tokens {
        errors.add(
            "estimate.least_answer_tokens",
            format!("{} is more than estimate.answer_tokens = {}; at most that much", estimate.least_answer_tokens, estimate.answer_tokens),
        );
    }
}
