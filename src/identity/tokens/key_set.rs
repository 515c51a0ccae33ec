//! The keys of an issuer that publishes them: fetched in the background, kept while the issuer is down, and asked for again
//! when a token names a key that is not known.
//!
//! Judging a token only looks at the newest set that was read. One task for each issuer fetches, every ten minutes and when
//! it is asked to. It is asked at most once in half a minute, however many tokens name however many unknown keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::fetch::{self, FetchError};
use super::jwks::Keys;
use super::keys::Algorithm;

/// When keys are fetched, and for how long they are good.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often.
    pub every: Duration,
    /// How soon again after the first failure; twice as long after each further one, at most [`Self::every`].
    pub again: Duration,
    /// How long unknown keys make nobody ask again.
    pub cool_down: Duration,
    /// How long a request waits for a fetch.
    pub patience: Duration,
    /// How long keys are used that cannot be fetched any more. Longer than a day no token lives.
    pub stale: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            every: Duration::from_mins(10),
            again: Duration::from_secs(2),
            cool_down: Duration::from_secs(30),
            patience: Duration::from_secs(2),
            stale: Duration::from_hours(24),
        }
    }
}

/// How many requests wait for a fetch at once; more are refused without waiting.
const MOST_WAITING: usize = 64;

/// The keys that an issuer publishes at an address.
#[derive(Debug)]
pub struct KeySet {
    issuer: Arc<str>,
    url: String,
    algorithms: Vec<Algorithm>,
    timing: Timing,
    newest: RwLock<Option<Arc<Fetched>>>,
    asking: Mutex<Asking>,
    asked: Notify,
    /// How many fetches have come to their end.
    ended: watch::Sender<u64>,
    waiting: AtomicUsize,
    good: AtomicU64,
    failed: AtomicU64,
}

/// A set as it was read.
#[derive(Debug)]
struct Fetched {
    keys: Keys,
    since: Instant,
}

#[derive(Debug, Default)]
struct Asking {
    /// Whether a fetch runs, or is about to.
    fetching: bool,
    /// When a token last made us ask.
    last: Option<Instant>,
    /// How many fetches have failed since the last good one.
    failures: u32,
}

/// How a key set does, for metrics and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySetHealth {
    /// Fetches that brought a set, since the start.
    pub good: u64,
    /// Fetches that did not.
    pub failed: u64,
    /// How many keys are used now.
    pub keys: usize,
    /// How old they are; `None` before the first.
    pub age: Option<Duration>,
    /// Whether the last fetch failed, or tokens cannot be judged for want of a key.
    pub degraded: bool,
}

impl KeySet {
    /// The set at this address, not fetched yet.
    pub fn new(issuer: Arc<str>, url: String, algorithms: Vec<Algorithm>, timing: Timing) -> Self {
        Self {
            issuer,
            url,
            algorithms,
            timing,
            newest: RwLock::default(),
            // The first fetch is about to run, so that those who come before it wait for it.
            asking: Mutex::new(Asking { fetching: true, ..Asking::default() }),
            asked: Notify::new(),
            ended: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            good: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The configured name of the issuer.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Where it is published.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How it does.
    pub fn health(&self) -> KeySetHealth {
        let newest = self.newest.read().clone();
        let keys = newest.as_ref().map_or(0, |fetched| fetched.keys.len());
        KeySetHealth {
            good: self.good.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            keys,
            age: newest.map(|fetched| fetched.since.elapsed()),
            degraded: keys == 0 || self.asking.lock().failures > 0,
        }
    }

    /// How its issuer may sign.
    pub(super) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Looks at the newest keys; `None` when there are none that can still be relied on.
    pub(super) fn with_keys<T>(&self, look: impl FnOnce(&Keys) -> T) -> Option<T> {
        let newest = self.newest.read().clone()?;
        (newest.since.elapsed() <= self.timing.stale).then(|| look(&newest.keys))
    }

    /// Asks for newer keys and waits for them a little. Answers whether a fetch came to its end meanwhile, so that it is
    /// worth looking again.
    pub(super) async fn ask(&self) -> bool {
        // From now on no end of a fetch is missed.
        let mut ended = self.ended.subscribe();
        if !self.is_worth_waiting() {
            return false;
        }
        let Some(_place) = Place::take(&self.waiting) else { return false };
        matches!(tokio::time::timeout(self.timing.patience, ended.changed()).await, Ok(Ok(())))
    }

    /// Whether a fetch runs or was started now: at most one for each cool-down.
    fn is_worth_waiting(&self) -> bool {
        let mut asking = self.asking.lock();
        if asking.fetching {
            return true;
        }
        let now = Instant::now();
        if asking.last.is_some_and(|last| now < last + self.timing.cool_down) {
            return false;
        }
        asking.last = Some(now);
        asking.fetching = true;
        self.asked.notify_one();
        true
    }

    /// Fetches now and then, and when asked, for as long as the process runs.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            self.fetch().await;
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                () = self.asked.notified() => {}
            }
            self.asking.lock().fetching = true;
        }
    }

    fn pause(&self) -> Duration {
        match self.asking.lock().failures {
            0 => self.timing.every,
            failures => self.timing.again.saturating_mul(2_u32.saturating_pow(failures.min(16) - 1)).min(self.timing.every),
        }
    }

    async fn fetch(&self) {
        let read = self.try_to_fetch().await;
        let mut asking = self.asking.lock();
        match read {
            Ok(keys) => {
                let (usable, unusable) = (keys.len(), keys.unusable);
                let was = self.newest.write().replace(Arc::new(Fetched { keys, since: Instant::now() }));
                self.good.fetch_add(1, Ordering::Relaxed);
                if usable == 0 {
                    tracing::warn!(
                        issuer = &*self.issuer,
                        keys.unusable = unusable,
                        "the issuer publishes no key that can be used: all of its tokens are refused"
                    );
                } else if asking.failures > 0 || was.is_none_or(|was| was.keys.len() != usable) {
                    tracing::info!(issuer = &*self.issuer, keys.usable = usable, keys.unusable = unusable, "the issuer's keys were read");
                }
                asking.failures = 0;
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                asking.failures = asking.failures.saturating_add(1);
                let keys = self.newest.read().as_ref().map_or(0, |fetched| fetched.keys.len());
                tracing::warn!(issuer = &*self.issuer, keys.usable = keys, error = %error, "the issuer's keys cannot be fetched; those that are there go on being used");
            }
        }
        asking.fetching = false;
        drop(asking);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Fetches once: the keys, of which at least none may be usable.
    async fn try_to_fetch(&self) -> Result<Keys, FetchError> {
        let text = fetch::text(&self.url).await?;
        Keys::read(&text, &self.algorithms).ok_or(FetchError::NoKeySet)
    }

    /// Fetches once and answers how many keys can be used, and how many cannot.
    pub async fn try_once(&self) -> Result<(usize, usize), FetchError> {
        self.try_to_fetch().await.map(|keys| (keys.len(), keys.unusable))
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl KeySet {
    /// Puts the set of this text in its place, as if it had been fetched now.
    pub(super) fn hold(&self, text: &str) {
        let keys = Keys::read(text, &self.algorithms).unwrap();
        *self.newest.write() = Some(Arc::new(Fetched { keys, since: Instant::now() }));
        self.asking.lock().fetching = false;
    }
}
