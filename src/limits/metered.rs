//! A store that is watched: every call is counted and timed, whichever store it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::Bucket;
use super::store::{Decision, Level, Orphan, Reserve, Settled, Stage, Store, StoreError};
use crate::telemetry::Metrics;

/// What a call is called in metrics.
const VERBS: [&str; 9] = ["reserve", "write", "renew", "extend", "settle", "release", "hand_over", "peek", "sweep"];

/// Another store, watched.
#[derive(Debug)]
pub struct MeteredStore {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl MeteredStore {
    /// Watches this store.
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        for verb in VERBS {
            metrics.store_verb(verb);
        }
        Self { store, metrics }
    }

    async fn watch<T>(&self, verb: &'static str, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.watch_as(verb, call, |_| "ok").await
    }

    /// Counts a call by how it ended; `word` says how, where the store answered.
    async fn watch_as<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
        word: fn(&T) -> &'static str,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = call.await;
        let result = answer.as_ref().map_or("error", word);
        self.metrics.store_operation(verb, result, began.elapsed());
        answer
    }
}

#[async_trait]
impl Store for MeteredStore {
    async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Decision, StoreError> {
        let word = |decision: &Decision| match decision {
            Decision::Admitted { .. } => "ok",
            Decision::Refused(_) => "refused",
        };
        self.watch_as("reserve", self.store.reserve(reserve), word).await
    }

    async fn write(&self, org: &str, id: Uuid, stage: Stage, record: &str) -> Result<(), StoreError> {
        self.watch("write", self.store.write(org, id, stage, record)).await
    }

    async fn renew(&self, org: &str, owner: &str, open: &[(Uuid, u64)], now: Timestamp, lease: Duration) -> Result<Vec<Uuid>, StoreError> {
        self.watch("renew", self.store.renew(org, owner, open, now, lease)).await
    }

    async fn extend(&self, org: &str, id: Uuid, to: &[Settled]) -> Result<(), StoreError> {
        self.watch("extend", self.store.extend(org, id, to)).await
    }

    async fn settle(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.watch("settle", self.store.settle(org, id, actual)).await
    }

    async fn release(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.watch("release", self.store.release(org, id)).await
    }

    async fn hand_over(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.watch("hand_over", self.store.hand_over(org, id)).await
    }

    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError> {
        self.watch("peek", self.store.peek(buckets)).await
    }

    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError> {
        self.watch("sweep", self.store.sweep(org, owner, now, lease)).await
    }

    async fn healthy(&self) -> bool {
        self.store.healthy().await
    }
}
