//! Telling a generation what was seen of it, here or at another replica.

use std::sync::Arc;

use uuid::Uuid;

use super::claims::Claim;
use super::generation::{Generation, Phase};
use super::observation::Observation;
use super::redis_board::Announced;
use super::registry::Generations;
use super::told::{Told, light};

/// An owner that is being looked for.
pub type OwnerElsewhere = tokio::task::JoinHandle<Option<Announced>>;

impl Generations {
    /// Something was seen that surely is this generation's, such as its own stream.
    pub fn tell(&self, generation: &Generation, seen: &Observation) {
        if let Some(claim) = claim_of_run(generation, seen) {
            self.claims.put(claim, generation.start().id);
        }
        generation.tell(seen);
    }

    /// Something was seen of a run in a generation's conversation. It is the generation's where the run was asked for by
    /// when it was created; where it was not, unless another open generation has it.
    pub fn tell_of_run(&self, generation: &Generation, created_at: Option<i64>, seen: &Observation) {
        match (created_at, generation.created_at()) {
            (Some(asked), Some(known)) if asked != known => {}
            (Some(_), Some(_)) => self.tell(generation, seen),
            _ => {
                let holder = claim_of_run(generation, seen).and_then(|claim| self.claims.holder(&claim));
                if holder.is_none_or(|holder| holder == generation.start().id || self.by_id(holder).is_none()) {
                    self.tell(generation, seen);
                }
            }
        }
    }

    /// A stream of a generation is over. Where another replica has taken the generation over meanwhile, that one is told.
    pub fn tell_at_end(self: &Arc<Self>, generation: &Generation, created_at: Option<i64>, seen: &Observation) {
        self.tell_of_run(generation, created_at, seen);
        let start = generation.start();
        if generation.phase() == Phase::Disowned && self.parts.board.is_some() {
            let created_at = created_at.filter(|asked| generation.created_at() == Some(*asked));
            let (generations, org, id, told) = (Arc::clone(self), start.org.clone(), start.id, Told { created_at, seen: seen.clone() });
            self.parts.runtime.spawn(async move { generations.tell_others(&org, id, told).await });
        }
    }

    /// Looks for the owner of a run, another replica, whose stream begins to pass through this one. What runs in the
    /// conversation when the stream ends may be another.
    pub fn owner_elsewhere(
        self: &Arc<Self>,
        org: Arc<str>,
        member: Arc<str>,
        conversation_id: String,
        created_at: Option<i64>,
    ) -> Option<OwnerElsewhere> {
        let board = self.parts.board.clone()?;
        Some(self.parts.runtime.spawn(async move { board.generation_of(&org, &member, &conversation_id, created_at).await }))
    }

    /// Tells the owner of a generation, another replica, what a stream of it through this one showed.
    pub fn tell_owner(
        self: &Arc<Self>,
        (org, member): (Arc<str>, Arc<str>),
        (conversation_id, created_at): (String, Option<i64>),
        owner: Option<OwnerElsewhere>,
        seen: Observation,
    ) {
        if self.parts.board.is_none() || !(seen.measured_anything() || seen.end.is_some() || seen.error_at.is_some()) {
            return;
        }
        let generations = Arc::clone(self);
        self.parts.runtime.spawn(async move {
            let Some(board) = &generations.parts.board else { return };
            let mut found = None;
            if let Some(owner) = owner {
                found = owner.await.ok().flatten();
            }
            if found.is_none() {
                // The owner may announce it after the stream began.
                found = board.generation_of(&org, &member, &conversation_id, created_at).await;
            }
            if let Some(owner) = found {
                let created_at = created_at.filter(|asked| owner.created_at == Some(*asked));
                generations.tell_others(&org, owner.id, Told { created_at, seen }).await;
            }
        });
    }

    /// Tells whoever owns a generation what was seen of it, with all that this replica told before, where that is news.
    pub(super) async fn tell_others(&self, org: &str, id: Uuid, told: Told) {
        let Some(board) = &self.parts.board else { return };
        let seen = {
            let mut known = self.told.lock();
            let known = known.get_or_insert_mut((id, told.created_at.is_some()), Observation::default);
            let mut all = known.clone();
            all.merge(&light(told.seen));
            if all == *known {
                return;
            }
            known.clone_from(&all);
            all
        };
        board.tell(org, id, &self.parts.settings.replica, &Told { seen, ..told }).await;
    }

    /// Adds what other replicas saw.
    pub(super) async fn hear_others(&self, generation: &Generation) {
        let Some(board) = &self.parts.board else { return };
        for told in board.told(&generation.start().org, generation.start().id).await {
            self.tell_of_run(generation, told.created_at, &told.seen);
        }
    }
}

/// The claim of the run that was seen, where it has a name.
fn claim_of_run(generation: &Generation, seen: &Observation) -> Option<Claim> {
    let run_id = seen.run_id.as_ref()?;
    let conversation_id = generation.conversation_id().or_else(|| seen.conversation_id.clone())?;
    Some(Claim::of_run(&generation.start().member, &conversation_id, run_id))
}
