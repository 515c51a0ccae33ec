//! Ownership between replicas: leases are renewed by a timer, not by traffic, and lapsed ones are taken over.

use std::collections::HashMap;
use std::sync::Arc;

use super::generation::Generation;
use super::registry::Generations;
use super::start::Start;
use crate::limits::store::{Orphan, Stage};

impl Generations {
    /// Renews and sweeps, for ever. Without a shared store there is nobody to share with, and nothing to do.
    pub async fn keep_leases(self: Arc<Self>) {
        if self.parts.board.is_none() {
            return;
        }
        let mut ticks = tokio::time::interval(self.parts.settings.lease / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew().await;
            self.sweep().await;
        }
    }

    async fn renew(&self) {
        let mut by_org: HashMap<Arc<str>, Vec<Arc<Generation>>> = HashMap::new();
        for generation in self.all_open() {
            by_org.entry(generation.start().org.clone()).or_default().push(generation);
        }
        let settings = &self.parts.settings;
        for (org, generations) in by_org {
            let leases: Vec<_> = generations.iter().map(|generation| (generation.start().id, generation.fence())).collect();
            match self.parts.store.renew(&org, &settings.replica, &leases, self.parts.clock.now(), settings.lease).await {
                Ok(lost) => generations.iter().filter(|generation| lost.contains(&generation.start().id)).for_each(|generation| {
                    tracing::warn!(generation.id = %generation.start().id, "another replica took over a generation of ours");
                    generation.disown();
                }),
                Err(error) => tracing::debug!(error = %error, "leases could not be renewed"),
            }
        }
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
                self.attend_to(Generation::taken_over(start, orphan.fence));
            }
            Err(error) => tracing::error!(generation.id = %orphan.id, error = %error, "the record of a generation cannot be read"),
        }
    }
}
