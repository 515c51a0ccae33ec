//! Ownership between replicas: leases are renewed by a timer, not by traffic, and lapsed ones are taken over.
//!
//! A store may forget (it started anew, or was away when a generation was let through unreserved). So a generation whose
//! lease is gone is given up only when another replica has it, or has settled it; else it is reserved once more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::generation::{FIRST_FENCE, Generation, Phase};
use super::registry::Generations;
use super::start::Start;
use crate::limits::store::{Orphan, Reserve, Stage, StoreError};
use crate::limits::{Charge, MAX_AMOUNT, Resource};
use crate::prices::Usage;

/// The pause between two questions whose a generation is.
const UNCLEAR_PAUSE: Duration = Duration::from_millis(50);

/// Whose a generation is.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    /// Another replica follows it, or has settled it.
    Anothers,
    /// Somebody has it for a moment.
    Unclear,
}

impl Generations {
    /// Renews and sweeps, for ever. Without a shared store there is nobody to share with, and nothing to do.
    pub async fn keep_leases(self: Arc<Self>) {
        if self.parts.board.is_none() {
            return;
        }
        let mut ticks = tokio::time::interval(self.parts.settings.lease / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.parts.store_restored.notified() => {}
            }
            let takes_over = self.takes_over.lock().await;
            self.renew().await;
            if *takes_over {
                self.sweep().await;
            }
        }
    }

    /// Renews the lease of everything that is open, and lets go of what is another replica's by now.
    pub(super) async fn renew(&self) {
        let mut by_org: HashMap<Arc<str>, Vec<Arc<Generation>>> = HashMap::new();
        for generation in self.all_open() {
            by_org.entry(generation.start().org.clone()).or_default().push(generation);
        }
        for (org, generations) in by_org {
            if let Err(error) = self.renew_these(&org, &generations).await {
                tracing::debug!(error = %error, "leases could not be renewed");
            }
        }
    }

    /// Whether a generation is still this replica's to settle. A store that is away leaves it so. Where that is not clear it is waited
    /// for: nobody else would settle it.
    pub(super) async fn is_ours(&self, generation: &Arc<Generation>) -> bool {
        if self.parts.board.is_none() {
            return true;
        }
        let start = generation.start();
        let until = tokio::time::Instant::now() + self.parts.settings.lease * 2;
        loop {
            match self.renewed(&start.org, &[(start.id, generation.fence())]).await {
                Ok(lost) if lost.is_empty() => return true,
                Err(_) => return true,
                Ok(_) => match self.whose(generation).await {
                    Ok(Whose::Ours) | Err(_) => return true,
                    Ok(Whose::Anothers) => return false,
                    Ok(Whose::Unclear) if tokio::time::Instant::now() >= until => return false,
                    Ok(Whose::Unclear) => tokio::time::sleep(UNCLEAR_PAUSE).await,
                },
            }
        }
    }

    /// Whose a generation is whose lease is gone. It is reserved once more where nobody has it.
    async fn whose(&self, generation: &Arc<Generation>) -> Result<Whose, StoreError> {
        let start = generation.start();
        if self.reserve_again(generation).await? {
            return Ok(Whose::Ours);
        }
        match self.parts.store.holder(&start.org, start.id).await? {
            Some(holder) if holder.stage == Stage::Forwarded && holder.owner != *self.parts.settings.replica => Ok(Whose::Anothers),
            // Whoever swept what looked as if it had never been forwarded is about to release it; or a sweep of our own has it in
            // hand, and its fence is known in a moment.
            Some(_) => Ok(Whose::Unclear),
            // Settled; or released just now, and then it can be reserved.
            None if self.reserve_again(generation).await? => Ok(Whose::Ours),
            None => Ok(Whose::Anothers),
        }
    }

    async fn renew_these(&self, org: &str, generations: &[Arc<Generation>]) -> Result<(), StoreError> {
        let leases: Vec<_> = generations.iter().map(|generation| (generation.start().id, generation.fence())).collect();
        let lost = self.renewed(org, &leases).await?;
        for generation in generations {
            let is_lost = lost.contains(&generation.start().id);
            // What is decided is being settled, which looks for itself whose it is.
            if is_lost && !generation.phase().is_decided() {
                // What is not clear is asked again by the next round.
                if self.whose(generation).await? != Whose::Anothers {
                    continue;
                }
                tracing::warn!(generation.id = %generation.start().id, "another replica took over a generation of ours");
                generation.disown();
            } else if !is_lost && generation.is_unwritten() {
                self.write_record(generation, &generation.record()).await;
            }
        }
        Ok(())
    }

    /// Renews these leases. Answers those that are gone.
    async fn renewed(&self, org: &str, leases: &[(Uuid, u64)]) -> Result<Vec<Uuid>, StoreError> {
        let settings = &self.parts.settings;
        self.parts.store.renew(org, &settings.replica, leases, self.parts.clock.now(), settings.lease).await
    }

    /// Reserves once more what the store does not know (any more), without asking whether it fits: it runs already.
    /// Answers whether it is this replica's now; it is not where another replica has it or has settled it.
    pub(super) async fn reserve_again(&self, generation: &Arc<Generation>) -> Result<bool, StoreError> {
        let start = generation.record();
        let settings = &self.parts.settings;
        let record = start.to_json();
        let charges = self.what_it_holds(&start);
        let reserve = Reserve {
            id: start.id,
            org: &start.org,
            charges: &charges,
            room: 0,
            least_room: 0,
            owner: &settings.replica,
            lease: settings.lease,
            now: self.parts.clock.now(),
            record: &record,
        };
        self.parts.store.reserve(&reserve).await?;
        let is_ours = self.renewed(&start.org, &[(start.id, FIRST_FENCE)]).await?.is_empty();
        if is_ours {
            tracing::info!(generation.id = %start.id, "the store did not know a running generation; it is reserved again");
            generation.fenced_by(FIRST_FENCE);
            if generation.phase() != Phase::Admitted {
                self.write_record(generation, &start).await;
            }
        }
        Ok(is_ours)
    }

    /// The opening estimate over the counters that hold it, with no limit on any.
    fn what_it_holds(&self, start: &Start) -> Vec<Charge> {
        let usage = Usage { input: start.input_estimate, output: start.room, ..Usage::default() };
        let models = [Some(start.model.as_deref().unwrap_or_default()), start.added_model.as_deref()];
        let cost = |model| self.parts.price_of(model, start.admitted_at).map_or(0, |price| price.cost(usage));
        let cost = models.into_iter().flatten().map(cost).fold(0, u64::saturating_add).min(MAX_AMOUNT);
        let charge = |bucket: &crate::limits::Bucket| {
            let fixed = match bucket.resource {
                Resource::Tokens => start.estimate_tokens(),
                Resource::Messages => 1,
                Resource::Cost => cost,
            };
            Charge { bucket: bucket.clone(), enforce: None, shadow: None, fixed, per_room_token: 0 }
        };
        start.buckets.iter().map(charge).collect()
    }

    /// Writes the record of a forwarded generation. What cannot be written now is written with the next renewal.
    pub(super) async fn write_record(&self, generation: &Generation, record: &Start) {
        let written = self.parts.store.write(&record.org, record.id, Stage::Forwarded, &record.to_json()).await;
        if let Err(error) = &written {
            tracing::debug!(generation.id = %record.id, error = %error, "the record of a generation could not be written yet");
        }
        generation.set_unwritten(written.is_err());
    }

    async fn sweep(self: &Arc<Self>) {
        let settings = &self.parts.settings;
        for org in self.parts.directory.orgs() {
            match self.parts.store.sweep(&org.id, &settings.replica, self.parts.clock.now(), settings.lease).await {
                Ok(orphans) => {
                    for orphan in orphans {
                        self.take_over(&org.id, orphan).await;
                    }
                }
                Err(error) => tracing::debug!(error = %error, "lapsed leases could not be looked for"),
            }
        }
    }

    async fn take_over(self: &Arc<Self>, org: &str, orphan: Orphan) {
        if let Some(ours) = self.by_id(orphan.id) {
            // The store was away for longer than the lease, and nobody was faster.
            return ours.fenced_by(orphan.fence);
        }
        if orphan.stage == Stage::Held {
            if let Err(error) = self.parts.store.release(org, orphan.id).await {
                tracing::warn!(generation.id = %orphan.id, error = %error, "a reservation that was never forwarded could not be released");
            }
            return;
        }
        match serde_json::from_str::<Start>(&orphan.record) {
            Ok(start) => {
                tracing::info!(generation.id = %orphan.id, "taking over a generation whose owner fell silent");
                self.parts.metrics.generation_taken_over();
                if let Err(error) = self.parts.recorder.start(start.id, start.to_json()).await {
                    tracing::warn!(generation.id = %orphan.id, error = %error, "a generation that was taken over is not in the journal");
                }
                let generation = Generation::taken_over(start, orphan.fence);
                self.claim_as_recorded(&generation);
                self.attend_to(generation);
            }
            Err(error) => tracing::error!(generation.id = %orphan.id, error = %error, "the record of a generation cannot be read"),
        }
    }
}
