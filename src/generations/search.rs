//! Looks for a generation whose start was forwarded but not answered: the client hung up, or the connection broke.
//! LibreChat runs it all the same, so it is found and followed, or settled at its estimate; it is never let go.

use std::time::Duration;

use super::attend::{CLOCKS_DIFFER_SECONDS, claim_of_conversation};
use super::generation::{Generation, Phase};
use super::registry::Generations;
use crate::librechat::client::CallError;

/// The pauses between two looks. LibreChat may still be reading the request, or may be starting again.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(8),
];

/// How many of a person's newest conversations are looked at.
const NEWEST: usize = 100;

impl Generations {
    /// Finds the run, and turns the generation into a running one; or gives it up.
    pub(super) async fn look_for(&self, generation: &Generation) {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            if generation.phase() != Phase::Unseen {
                return;
            }
            let found = match generation.conversation_id() {
                Some(conversation_id) => self.look_in(generation, conversation_id).await,
                None => self.look_everywhere(generation).await,
            };
            match found {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(generation.id = %generation.start().id, error = %error, "looking for a generation"),
            }
        }
        tracing::warn!(generation.id = %generation.start().id, "a start was forwarded and never heard of again; it is settled at its estimate");
        generation.give_up();
    }

    /// Looks in the conversation that went on.
    async fn look_in(&self, generation: &Generation, conversation_id: String) -> Result<bool, CallError> {
        let status = self.parts.librechat.status(&generation.start().person(), &conversation_id).await;
        if let Ok(status) = status
            && status.active
            && status.created_at.is_none_or(|created_at| began_after(generation, created_at))
            && status
                .created_at
                .is_none_or(|created_at| self.claim(&format!("created:{conversation_id}:{created_at}"), generation.start().id))
        {
            generation.started(conversation_id, status.created_at);
            return Ok(true);
        }
        let Some(seen) = self.saved_answer(generation, &conversation_id).await else { return Ok(false) };
        self.tell(generation, &seen);
        Ok(generation.phase() != Phase::Unseen)
    }

    /// Looks among the person's running conversations, then among their newest ones.
    async fn look_everywhere(&self, generation: &Generation) -> Result<bool, CallError> {
        let person = generation.start().person();
        for conversation_id in self.parts.librechat.active(&person).await? {
            if self.belongs_to_another(generation, &conversation_id).await {
                continue;
            }
            let status = self.parts.librechat.status(&person, &conversation_id).await?;
            let ours = status.active && status.created_at.is_none_or(|created_at| began_after(generation, created_at));
            if ours && self.take(generation, &conversation_id) {
                generation.started(conversation_id, status.created_at);
                return Ok(true);
            }
        }
        // Those that are over: oldest first, so that several lost starts find theirs in the order they were made.
        for conversation in self.parts.librechat.newest_conversations(&person, NEWEST).await?.into_iter().rev() {
            let recent = conversation.created_at.is_some_and(|time| began_after(generation, time.as_millisecond()));
            let id = conversation.conversation_id;
            if recent && !self.belongs_to_another(generation, &id).await && self.take(generation, &id) {
                generation.started(id, None);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a conversation is known as another generation's, here or at another replica.
    async fn belongs_to_another(&self, generation: &Generation, conversation_id: &str) -> bool {
        let start = generation.start();
        if self.is_claimed_by_another(&claim_of_conversation(&start.member, conversation_id), start.id) {
            return true;
        }
        match &self.parts.board {
            Some(board) => board.generation_of(&start.org, &start.member, conversation_id).await.is_some_and(|id| id != start.id),
            None => false,
        }
    }

    fn take(&self, generation: &Generation, conversation_id: &str) -> bool {
        let start = generation.start();
        self.claim(&claim_of_conversation(&start.member, conversation_id), start.id)
    }
}

/// Whether a run can be this generation's: it began when that was admitted, or later.
fn began_after(generation: &Generation, created_at_ms: i64) -> bool {
    created_at_ms >= generation.start().admitted_at.as_millisecond() - CLOCKS_DIFFER_SECONDS * 1000
}
