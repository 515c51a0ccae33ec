//! A store that is watched: every call is counted and timed, whichever store it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::store::{Count, Decision, Holder, Level, Observed, Orphan, Reserve, Settled, Stage, Store, StoreError, Told};
use super::{Books, Bucket};
use crate::telemetry::Metrics;

/// What a call is called in metrics.
const VERBS: [&str; 15] = [
    "reserve",
    "write",
    "renew",
    "extend",
    "settle",
    "settle_counted",
    "begin_count",
    "count",
    "observe",
    "move_cut",
    "tell_shipped",
    "release",
    "hand_over",
    "peek",
    "sweep",
];

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

    async fn measure<T>(&self, verb: &'static str, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.measure_as(verb, call, |_| "ok").await
    }

    /// Counts a call by how it ended; `word` says how, where the store answered.
    async fn measure_as<T>(
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
        self.measure_as("reserve", self.store.reserve(reserve), word).await
    }

    async fn write(&self, org: &str, id: Uuid, stage: Stage, record: &str) -> Result<(), StoreError> {
        self.measure("write", self.store.write(org, id, stage, record)).await
    }

    async fn renew(&self, org: &str, owner: &str, open: &[(Uuid, u64)], now: Timestamp, lease: Duration) -> Result<Vec<Uuid>, StoreError> {
        self.measure("renew", self.store.renew(org, owner, open, now, lease)).await
    }

    async fn extend(&self, org: &str, id: Uuid, to: &[Settled]) -> Result<(), StoreError> {
        self.measure("extend", self.store.extend(org, id, to)).await
    }

    async fn settle(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.measure("settle", self.store.settle(org, id, actual)).await
    }

    async fn settle_counted(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.measure("settle_counted", self.store.settle_counted(org, id, actual)).await
    }

    async fn begin_count(&self, books: &Books, cut: u64) -> Result<Count, StoreError> {
        self.measure("begin_count", self.store.begin_count(books, cut)).await
    }

    async fn count(&self, books: &Books, count: &Count, used: &[(Bucket, u64)]) -> Result<bool, StoreError> {
        self.measure("count", self.store.count(books, count, used)).await
    }

    async fn observe(&self, books: &Books, buckets: &[Bucket]) -> Result<Observed, StoreError> {
        self.measure("observe", self.store.observe(books, buckets)).await
    }

    async fn move_cut(&self, books: &Books, observed: &Observed, cut: u64) -> Result<bool, StoreError> {
        self.measure("move_cut", self.store.move_cut(books, observed, cut)).await
    }

    async fn tell_shipped(&self, replica: &str, at: u64) -> Result<Told, StoreError> {
        self.measure("tell_shipped", self.store.tell_shipped(replica, at)).await
    }

    async fn release(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.measure("release", self.store.release(org, id)).await
    }

    async fn holder(&self, org: &str, id: Uuid) -> Result<Option<Holder>, StoreError> {
        self.measure("holder", self.store.holder(org, id)).await
    }

    async fn hand_over(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.measure("hand_over", self.store.hand_over(org, id)).await
    }

    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError> {
        self.measure("peek", self.store.peek(buckets)).await
    }

    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError> {
        self.measure("sweep", self.store.sweep(org, owner, now, lease)).await
    }

    async fn healthy(&self) -> bool {
        self.store.healthy().await
    }
}
