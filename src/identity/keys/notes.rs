//! Writes down when keys were used, and which ones LibreChat made and deleted. Nobody waits for it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{AgentKey, ApiKeyStore};
use crate::clock::SharedClock;
use crate::records::ReadError;

/// How often a key's last use is written.
const USED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// How many keys' last use is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// How many notes may wait; more are forgotten.
const ROOM: usize = 1024;

/// After how long what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes notes. Cheap to ask, from anywhere.
#[derive(Debug)]
pub struct Notes {
    used: Mutex<LruCache<Uuid, Timestamp>>,
    waiting: mpsc::Sender<Note>,
    clock: SharedClock,
}

#[derive(Debug)]
enum Note {
    Used(Uuid, Timestamp),
    Learnt(AgentKey),
    Forgotten { owner: Arc<str>, id: Arc<str> },
}

impl Notes {
    /// Notes that are written to this store.
    pub fn start(store: Arc<dyn ApiKeyStore>, clock: SharedClock, runtime: &Handle) -> Self {
        let (waiting, notes) = mpsc::channel(ROOM);
        runtime.spawn(write(store, notes, clock.clone()));
        Self { used: Mutex::new(LruCache::new(REMEMBERED)), waiting, clock }
    }

    /// A key is used.
    pub fn used(&self, key: Uuid) {
        let now = self.clock.now();
        let mut used = self.used.lock();
        let is_fresh = |last: &Timestamp| now.duration_since(*last) < USED_EVERY;
        if !used.get(&key).is_some_and(is_fresh) && self.waiting.try_send(Note::Used(key, now)).is_ok() {
            used.put(key, now);
        }
    }

    /// LibreChat has made a key.
    pub fn learnt(&self, key: AgentKey) {
        self.note(Note::Learnt(key));
    }

    /// LibreChat has deleted a key of this owner.
    pub fn forgotten(&self, owner: Arc<str>, id: Arc<str>) {
        self.note(Note::Forgotten { owner, id });
    }

    fn note(&self, note: Note) {
        if self.waiting.try_send(note).is_err() {
            tracing::warn!("whose a key of LibreChat's is could not be written down: too much waits to be");
        }
    }
}

async fn write(store: Arc<dyn ApiKeyStore>, mut notes: mpsc::Receiver<Note>, clock: SharedClock) {
    let mut left = Vec::new();
    let mut failing = false;
    loop {
        let mut some = std::mem::take(&mut left);
        if some.is_empty() {
            if notes.recv_many(&mut some, ROOM).await == 0 {
                return;
            }
        } else {
            tokio::time::sleep(AGAIN).await;
        }
        let mut written = Ok(());
        for note in some {
            // What happened later is never written before.
            if left.is_empty() {
                written = put(&*store, &note, clock.now()).await;
            }
            if written.is_err() && !matches!(note, Note::Used(..)) {
                left.push(note);
            }
        }
        if let Err(error) = &written
            && !failing
        {
            tracing::warn!(error = %error, keys.waiting = left.len(), "notes of keys could not be written down, and are tried again");
        }
        failing = written.is_err();
    }
}

async fn put(store: &dyn ApiKeyStore, note: &Note, now: Timestamp) -> Result<(), ReadError> {
    match note {
        Note::Used(key, time) => store.used(&[(*key, *time)]).await,
        Note::Learnt(key) => store.learn(key, now).await,
        Note::Forgotten { owner, id } => store.forget(owner, id, now).await,
    }
}
