//! What replicas tell each other of a generation, small enough to be told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::observation::{Observation, Transcript};

/// The longest text that is told, in bytes. The owner counts the whole answer by its own subscription.
const MAX_TEXT: usize = 64 * 1024;

/// What was seen, and of which run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `generationCreatedAt` of the run that was seen, where the stream was asked for by it.
    pub created_at: Option<i64>,
    /// What was seen of it.
    pub seen: Observation,
}

/// What was charged of a run that waits for a person, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The last generation that was charged for it.
    pub by: Uuid,
    /// `generationCreatedAt` of the run.
    pub created_at: Option<i64>,
    /// All that was seen of the run up to there.
    pub seen: Observation,
    /// The LibreChat at which it waits, by its name.
    #[serde(default)]
    pub upstream: Option<Arc<str>>,
}

/// The same without text that nobody needs: none where the run's whole usage is known, the beginning of a long one.
pub fn light(mut seen: Observation) -> Observation {
    if seen.reported.is_some() {
        seen.transcript = Transcript::default();
    } else if seen.transcript.bytes() > MAX_TEXT {
        seen.transcript = beginning(&seen.transcript);
    }
    seen
}

fn beginning(whole: &Transcript) -> Transcript {
    let mut cut = Transcript::default();
    for (agent, text) in whole.by_agent() {
        let room = MAX_TEXT.saturating_sub(cut.bytes());
        cut.append(agent, &text[..text.floor_char_boundary(room.min(text.len()))]);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::librechat::usage::Tokens;

    #[test]
    fn a_long_text_is_cut_and_one_that_is_not_needed_is_left_out() {
        let mut seen = Observation::default();
        seen.transcript.append("a", &"ä".repeat(MAX_TEXT));
        seen.transcript.complete = true;
        let cut = light(seen.clone());
        assert!((MAX_TEXT - 2..=MAX_TEXT).contains(&cut.transcript.bytes()) && !cut.transcript.complete, "it is not the whole");
        let short = Observation::default();
        assert_eq!(light(short.clone()), short);
        seen.reported = Some(Tokens::default());
        assert!(light(seen).transcript.is_empty());
    }
}
