//! Writes down who is seen: members on first sight, and when they were last here. Nobody waits for it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::store::{DirectoryError, DirectoryStore};
use super::{Directory, Member, Org, kept_email};
use crate::clock::SharedClock;

/// How often a member's last sight is written.
const SEEN_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// How many people's last sight is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// How many sights may wait; more are forgotten, and noted the next time.
const ROOM: usize = 1024;

/// Takes note of people. Cheap to ask, from anywhere.
#[derive(Debug)]
pub struct Arrivals {
    seen: Mutex<LruCache<Arc<str>, Timestamp>>,
    waiting: mpsc::Sender<Sight>,
    clock: SharedClock,
}

#[derive(Debug)]
enum Sight {
    New(Box<Member>),
    Claimed { member: Arc<Member>, org: Arc<str> },
    Again(Uuid, Timestamp),
}

impl Arrivals {
    /// Arrivals that are written to this store.
    pub fn start(store: Arc<dyn DirectoryStore>, clock: SharedClock, runtime: &Handle) -> Self {
        let (waiting, sights) = mpsc::channel(ROOM);
        runtime.spawn(write(store, sights, clock.clone()));
        Self { seen: Mutex::new(LruCache::new(REMEMBERED)), waiting, clock }
    }

    /// A person of LibreChat is here: a member of their org, one who becomes one now, or one whom no org claims.
    pub fn seen(&self, directory: &Directory, org: Option<&Org>, librechat_id: &Arc<str>, name: Option<&Arc<str>>, email: Option<&str>) {
        let now = self.clock.now();
        let is_fresh = |last: &Timestamp| now.duration_since(*last) < SEEN_EVERY;
        if self.seen.lock().get(librechat_id).is_some_and(is_fresh) {
            return;
        }
        let org: Arc<str> = org.map_or_else(|| Arc::from(""), |org| org.id.clone());
        let sight = match directory.by_librechat_id(librechat_id) {
            Some(member) if member.org.is_empty() && !org.is_empty() => Sight::Claimed { member, org },
            Some(member) => Sight::Again(member.id, now),
            None => Sight::New(Box::new(Member {
                librechat_id: Some(librechat_id.clone()),
                email: email.map(kept_email),
                name: name.cloned(),
                ..Member::seen_first(org, now)
            })),
        };
        if self.waiting.try_send(sight).is_ok() {
            self.seen.lock().put(librechat_id.clone(), now);
        }
    }
}

async fn write(store: Arc<dyn DirectoryStore>, mut sights: mpsc::Receiver<Sight>, clock: SharedClock) {
    let mut some = Vec::new();
    while sights.recv_many(&mut some, ROOM).await > 0 {
        let mut again = Vec::new();
        let mut written: Result<(), DirectoryError> = Ok(());
        for sight in some.drain(..) {
            match sight {
                Sight::New(member) => written = written.and(store.add_member(&member, clock.now()).await),
                Sight::Claimed { member, org } => {
                    // Where somebody else was faster, the member is in an org by now.
                    let claimed = Member { org, ..Member::clone(&member) };
                    written = written.and(store.amend_member(&member, &claimed, clock.now()).await.map(|_| ()));
                }
                Sight::Again(id, time) => again.push((id, time)),
            }
        }
        if !again.is_empty() {
            written = written.and(store.seen(&again).await);
        }
        if let Err(error) = written {
            tracing::warn!(error = %error, "who was seen could not be written down, and is tried at their next sight");
        }
    }
}
