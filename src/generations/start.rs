//! What is known of a generation when it is admitted. It is also the record another replica needs to take it over.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::trace::Trace;
use crate::librechat::client::Person;
use crate::limits::Bucket;

/// An admitted start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The generation's id, which is also the reservation's and the first usage row's.
    pub id: Uuid,
    /// The org it is billed to.
    pub org: Arc<str>,
    /// The member who asks: LibreChat's user id, or `key:...`.
    pub member: Arc<str>,
    /// The member's name, for audit rows.
    pub member_name: Option<Arc<str>>,
    /// The member's role.
    pub role: Arc<str>,
    /// The session that it was asked in, where it was in one.
    #[serde(default)]
    pub session: Option<Uuid>,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// The day of admission in the org's calendar.
    pub org_day: String,
    /// The month of admission in the org's calendar.
    pub org_month: String,
    /// The request that asks.
    pub request_id: Arc<str>,
    /// The client's address.
    pub address: String,
    /// The client's user agent.
    pub user_agent: String,
    /// LibreChat's endpoint.
    pub endpoint: String,
    /// The model, where the body or an earlier answer of the same agent names it.
    pub model: Option<String>,
    /// The model that answers beside it (`addedConvo`); empty where that is not known.
    pub added_model: Option<String>,
    /// The saved agent or assistant.
    pub agent_id: Option<String>,
    /// The conversation that goes on; `None` for a new one until LibreChat names it.
    pub conversation_id: Option<String>,
    /// `generationCreatedAt`, once LibreChat has named it.
    pub created_at: Option<i64>,
    /// The prompt as far as it can be told beforehand, in tokens: visible text and the conversation's last context.
    pub input_estimate: u64,
    /// The room for the answer that was reserved, in tokens.
    pub room: u64,
    /// How many models answer.
    pub models: u64,
    /// Its trace, where it is traced.
    #[serde(default)]
    pub trace: Option<Trace>,
    /// The LibreChat that it was sent to, by its name; a Tollgate that knew only one did not say.
    #[serde(default)]
    pub upstream: Option<Arc<str>>,
    /// A digest of what the person said, by which its run is known again; see [`digest`].
    #[serde(default)]
    pub said: Option<String>,
    /// Whether it goes on with a run that waited for a person.
    #[serde(default)]
    pub goes_on: bool,
    /// The counters that hold it.
    pub buckets: Vec<Bucket>,
}

impl Start {
    /// The record as it stands in the journal and in the store.
    pub fn to_json(&self) -> String {
        // Strings and numbers: there is nothing that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The opening estimate, in tokens.
    pub fn estimate_tokens(&self) -> u64 {
        self.input_estimate.saturating_add(self.room).saturating_mul(self.models)
    }

    /// Whether this may be what the person said. Where that is not known, anything may be.
    pub fn may_have_said(&self, text: &str) -> bool {
        self.said.as_ref().is_none_or(|said| *said == digest(self.id, text))
    }

    /// Whether its member is known by a key of LibreChat's own API only, and not as a person of LibreChat's.
    pub fn is_of_a_key(&self) -> bool {
        self.member.starts_with("key:")
    }

    /// The person on whose behalf LibreChat is asked about it.
    pub fn person(&self) -> Person {
        Person { user: self.member.clone(), org: self.org.clone(), address: self.address.clone(), user_agent: self.user_agent.clone() }
    }
}

/// How much of either end of a text is looked at.
const LOOKED_AT: usize = 1024;

/// What is remembered of a text to know it again: salted with the generation, so that it tells nothing to anyone else.
/// Space around the text does not count, and of a long one its ends and its length do.
pub fn digest(id: Uuid, text: &str) -> String {
    let text = text.trim().as_bytes();
    let digest = Sha256::new()
        .chain_update(id.as_bytes())
        .chain_update(text.len().to_be_bytes())
        .chain_update(&text[..text.len().min(LOOKED_AT)])
        .chain_update(&text[text.len().saturating_sub(LOOKED_AT)..])
        .finalize();
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_again_by_its_generation_only() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(digest(one, " Hello\n"), digest(one, "Hello"), "LibreChat may trim");
        assert_ne!(digest(one, "Hello"), digest(other, "Hello"), "it tells nothing to whoever does not know the generation");
        let long = "x".repeat(5_000);
        for changed in [format!("y{long}"), format!("{long}y"), long[1..].to_owned()] {
            assert_ne!(digest(one, &changed), digest(one, &long));
        }
    }
}
