//! Takes up what the process before this one left in the journal: generations whose books are not closed are followed to
//! their end, or settled at their estimate; counters that may not know of a settlement are settled again.
//!
//! The journal's id is also the replica's, so that leases of the process before are still ours, unless another replica
//! took them over meanwhile.

use std::sync::Arc;

use super::generation::Generation;
use super::registry::Generations;
use super::settle::Amounts;
use super::start::Start;
use crate::records::journal::{Left, Note, OpenGeneration};

impl Generations {
    /// Takes up everything. Returns when all of it is on its way.
    pub async fn take_up_left(self: &Arc<Self>, left: Left) {
        if left != Left::default() {
            tracing::info!(
                generations.open = left.open.len(),
                generations.uncounted = left.uncounted.len(),
                "taking up what the journal holds"
            );
        }
        for (id, amounts) in left.uncounted {
            let generations = Arc::clone(self);
            self.parts.runtime.spawn(async move { generations.count_again(id, &amounts).await });
        }
        let opened: Vec<_> = left.open.iter().filter_map(recovered).collect();
        for generation in &opened {
            self.claim_as_recorded(generation);
        }
        for generation in opened {
            self.take_up_open(generation).await;
        }
    }

    /// Settles counters that may not have been settled. A store that lives in this process was filled from the rows.
    async fn count_again(&self, id: uuid::Uuid, amounts: &str) {
        if self.parts.board.is_some() {
            match serde_json::from_str::<Amounts>(amounts) {
                Ok(Amounts { org, amounts }) => _ = self.settle_counters(&org, id, &amounts).await,
                Err(error) => {
                    tracing::error!(generation.id = %id, error = %error, "what a generation's counters are charged cannot be read");
                }
            }
        }
        self.parts.recorder.note(id, Note::Counted, String::new()).await;
    }

    async fn take_up_open(self: &Arc<Self>, generation: Arc<Generation>) {
        let id = generation.start().id;
        match self.reserve_again(&generation).await {
            Ok(false) => {
                tracing::info!(generation.id = %id, "another replica has a generation of the process before");
                self.parts.recorder.note(id, Note::Dismissed, String::new()).await;
            }
            // A store that is away is asked again when the generation is settled.
            Ok(true) | Err(_) => _ = self.attend_to(generation),
        }
    }
}

fn recovered(open: &OpenGeneration) -> Option<Arc<Generation>> {
    match serde_json::from_str::<Start>(&open.record) {
        Ok(start) => Some(Generation::recovered(start, open.forwarded)),
        Err(error) => {
            tracing::error!(generation.id = %open.id, error = %error, "the journal's record of a generation cannot be read");
            None
        }
    }
}
