//! What LibreChat answered about someone, kept for a while and within bounds.

use std::num::NonZeroUsize;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use parking_lot::Mutex;

use crate::clock::SharedClock;

/// How many answers are kept.
pub(super) const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// Answers of one kind, by what was asked about.
pub(super) struct Answers<T> {
    slots: Mutex<LruCache<Arc<str>, Arc<Slot<T>>>>,
    clock: SharedClock,
    lasts: fn(&T) -> SignedDuration,
}

/// What is known of one, and since when. Whoever holds the lock is the only one who asks.
type Slot<T> = tokio::sync::Mutex<Option<(T, Timestamp)>>;

impl<T: Clone> Answers<T> {
    /// No answer yet; each is believed for as long as `lasts` says.
    pub(super) fn new(clock: SharedClock, lasts: fn(&T) -> SignedDuration) -> Self {
        Self { slots: Mutex::new(LruCache::new(KEPT)), clock, lasts }
    }

    /// The answer about one: the one that is kept, else the one that is asked for now. Those who come meanwhile wait for it.
    pub(super) async fn of<F: Future<Output = T>>(&self, about: Arc<str>, ask: impl FnOnce() -> F) -> T {
        let slot = self.slots.lock().get_or_insert(about, Arc::default).clone();
        let mut known = slot.lock().await;
        if let Some((answer, since)) = &*known {
            // A clock that was set back makes the answer stale rather than everlasting.
            if (SignedDuration::ZERO..(self.lasts)(answer)).contains(&self.clock.now().duration_since(*since)) {
                return answer.clone();
            }
        }
        let answer = ask().await;
        *known = Some((answer.clone(), self.clock.now()));
        answer
    }

    /// Forgets what was answered about one.
    pub(super) fn forget(&self, about: &str) {
        self.slots.lock().pop(about);
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.slots.lock().len()
    }
}
