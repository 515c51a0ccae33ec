//! All generations this replica owns, and the parts they are settled with.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lru::LruCache;
use parking_lot::Mutex;
use uuid::Uuid;

use super::claims::{Claim, Claims};
use super::generation::{Generation, Phase};
use super::observation::Observation;
use super::reader::StreamReader;
use super::recall::Recall;
use super::redis_board::RedisBoard;
use super::start::Start;
use super::told::{Paused, Told};
use super::tool_rules::ToolRules;
use crate::clock::SharedClock;
use crate::identity::Directory;
use crate::librechat::client::LibreChat;
use crate::limits::Store;
use crate::prices::{PriceTable, UnknownModel};
use crate::records::journal::JournalError;
use crate::records::{RecordStore, Recorder};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::tokens::TokenCounter;

/// How generations are followed and owned.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This process, unlike any other on the same store.
    pub replica: Arc<str>,
    /// How long the owner may stay silent before another replica takes over.
    pub lease: Duration,
    /// How long a running generation may go unwatched before it is followed by our own subscription.
    pub follow_after: Duration,
    /// How long a generation is followed without a sign of life.
    pub give_up_after: Duration,
}

/// What generations are followed, charged and recorded with.
#[derive(Debug)]
pub struct Parts {
    /// How they are followed and owned.
    pub settings: Settings,
    /// The time.
    pub clock: SharedClock,
    /// The orgs.
    pub directory: Arc<Directory>,
    /// Counters and reservations.
    pub store: Arc<dyn Store>,
    /// What replicas tell each other; only with a shared store.
    pub board: Option<RedisBoard>,
    /// Where rows go.
    pub recorder: Recorder,
    /// Where they are read.
    pub records: Arc<dyn RecordStore>,
    /// LibreChat.
    pub librechat: LibreChat,
    /// Counts what no report covers.
    pub counter: Arc<TokenCounter>,
    /// What tokens cost.
    pub prices: Arc<PriceTable>,
    /// What a model costs that the table does not know.
    pub unknown_model: UnknownModel,
    /// Which results of tools are failures.
    pub tool_rules: Arc<ToolRules>,
    /// The numbers that are watched.
    pub metrics: Arc<Metrics>,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
    /// The long-lived runtime that attends to generations.
    pub runtime: tokio::runtime::Handle,
    /// Told when the store has its counters back: it has lost what runs.
    pub store_restored: Arc<tokio::sync::Notify>,
}

/// All generations this replica owns.
#[derive(Debug)]
pub struct Generations {
    pub(super) parts: Parts,
    pub(super) recall: Recall,
    open: Mutex<Open>,
    pub(super) claims: Claims,
    /// What was charged of runs that wait for a person, by member and conversation.
    pub(super) paused: Mutex<LruCache<(Arc<str>, String), Paused>>,
    /// What this replica has told of generations that others own: whether it was certain, and everything that was told.
    pub(super) told: Mutex<LruCache<(Uuid, bool), Observation>>,
    /// The one search at a time that is made for a member's lost starts.
    searches: Mutex<LruCache<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
    emptied: tokio::sync::Notify,
    /// Held by each round of renewing and sweeping, and while generations are handed over. `false` once they were: what this
    /// replica has let go of is not for it to take over.
    pub(super) takes_over: tokio::sync::Mutex<bool>,
}

/// Open generations, by id and by member: each stream that a client asks for is looked up among its member's.
#[derive(Debug, Default)]
struct Open {
    by_id: HashMap<Uuid, Arc<Generation>>,
    by_member: HashMap<Arc<str>, Vec<Arc<Generation>>>,
}

impl Open {
    fn add(&mut self, generation: &Arc<Generation>) {
        let Start { id, member, .. } = generation.start();
        self.remove(*id);
        self.by_id.insert(*id, Arc::clone(generation));
        self.by_member.entry(Arc::clone(member)).or_default().push(Arc::clone(generation));
    }

    fn remove(&mut self, id: Uuid) {
        let Some(generation) = self.by_id.remove(&id) else { return };
        let member = &generation.start().member;
        if let Some(theirs) = self.by_member.get_mut(member) {
            theirs.retain(|other| other.start().id != id);
            if theirs.is_empty() {
                self.by_member.remove(member);
            }
        }
    }
}

/// How many runs that wait for a person are remembered.
const PAUSED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How many generations of other replicas are remembered with what was told of them.
const TOLD: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Generations {
    /// No generation yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let recall = Recall::new(parts.board.clone());
        Arc::new(Self {
            parts,
            recall,
            open: Mutex::default(),
            claims: Claims::default(),
            paused: Mutex::new(LruCache::new(PAUSED)),
            told: Mutex::new(LruCache::new(TOLD)),
            searches: Mutex::new(LruCache::new(PAUSED)),
            emptied: tokio::sync::Notify::new(),
            takes_over: tokio::sync::Mutex::new(true),
        })
    }

    /// What earlier generations taught.
    pub fn recall(&self) -> &Recall {
        &self.recall
    }

    /// Takes charge of a generation that was just admitted, once it stands in the journal.
    ///
    /// # Errors
    ///
    /// Where the journal does not take it. Its reservation is released then, and it must not be forwarded.
    pub async fn open(self: &Arc<Self>, start: Start) -> Result<Arc<Generation>, JournalError> {
        let journalled = self.parts.recorder.start(start.id, start.to_json()).await;
        let generation = Generation::admitted(start);
        if let Err(error) = journalled {
            let generations = Arc::clone(self);
            self.parts.runtime.spawn(async move { generations.release(&generation).await });
            return Err(error);
        }
        Ok(self.attend_to(generation))
    }

    /// Takes charge of a generation, and attends to it until its books are closed.
    pub(super) fn attend_to(self: &Arc<Self>, generation: Arc<Generation>) -> Arc<Generation> {
        self.open.lock().add(&generation);
        self.parts.metrics.generation_opened();
        let (generations, attended) = (Arc::clone(self), Arc::clone(&generation));
        self.parts.runtime.spawn(async move { generations.attend(attended).await });
        generation
    }

    /// LibreChat answered that a generation runs. That outranks whatever was guessed of the run before.
    pub fn started(&self, generation: &Generation, conversation_id: String, created_at: Option<i64>) {
        let start = generation.start();
        if start.conversation_id.is_none() {
            self.claims.put(Claim::of_conversation(&start.member, &conversation_id), start.id);
        }
        if let Some(created_at) = created_at {
            self.claims.put(Claim::of_creation(&start.member, &conversation_id, created_at), start.id);
        }
        generation.started(conversation_id, created_at);
    }

    /// Claims for a generation what its record says of its run, before anybody looks for lost starts: whoever said the same at
    /// the same time would else be given it.
    pub(super) fn claim_as_recorded(&self, generation: &Generation) {
        let start = generation.start();
        let Some(conversation_id) = &start.conversation_id else { return };
        self.claims.put(Claim::of_conversation(&start.member, conversation_id), start.id);
        if let Some(created_at) = start.created_at {
            self.claims.put(Claim::of_creation(&start.member, conversation_id, created_at), start.id);
        }
    }

    /// LibreChat answered that a generation goes on with the run that waited for a person. Only its word makes it so:
    /// before 0.8.8 the same route starts a chat, beside whatever runs in the conversation.
    pub fn resumed(&self, generation: &Generation, conversation_id: String, created_at: Option<i64>) {
        self.take_up(generation, &conversation_id);
        self.started(generation, conversation_id, created_at);
    }

    /// The generation that a stream of this member's conversation shows: the one created then where the client says,
    /// else the newest that is not settled.
    pub fn find(&self, member: &str, conversation_id: &str, created_at: Option<i64>) -> Option<Arc<Generation>> {
        let open = self.open.lock();
        let mut newest: Option<&Arc<Generation>> = None;
        for generation in open.by_member.get(member).into_iter().flatten() {
            if generation.phase() != Phase::Running || generation.conversation_id().as_deref() != Some(conversation_id) {
                continue;
            }
            match (created_at, generation.created_at()) {
                (Some(asked), Some(known)) if asked == known => return Some(Arc::clone(generation)),
                (Some(_), Some(_)) => {}
                _ if newest.is_none_or(|newest| newest.start().id < generation.start().id) => newest = Some(generation),
                _ => {}
            }
        }
        newest.cloned()
    }

    /// Reads a stream that is the run of a generation itself.
    pub fn reader(&self) -> StreamReader {
        StreamReader::new(self.parts.tool_rules.clone())
    }

    /// Reads a stream of a generation whose run goes on without it.
    pub fn detached_reader(&self) -> StreamReader {
        StreamReader::detached(self.parts.tool_rules.clone())
    }

    /// Claims the run that was created then in a conversation, where it is told when.
    pub(super) fn claim_creation(&self, generation: &Generation, conversation_id: &str, created_at: Option<i64>) -> bool {
        let start = generation.start();
        created_at.is_none_or(|created_at| self.claims.claim(Claim::of_creation(&start.member, conversation_id, created_at), start.id))
    }

    /// The lock under which a member's lost starts are looked for.
    pub(super) fn searches_of(&self, member: &Arc<str>) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.searches.lock().get_or_insert(Arc::clone(member), Arc::default))
    }

    /// The open generation with this id.
    pub(super) fn by_id(&self, id: Uuid) -> Option<Arc<Generation>> {
        self.open.lock().by_id.get(&id).cloned()
    }

    /// The open generations of this member.
    pub(super) fn open_of(&self, member: &str) -> Vec<Arc<Generation>> {
        self.open.lock().by_member.get(member).cloned().unwrap_or_default()
    }

    /// Every open generation.
    pub fn all_open(&self) -> Vec<Arc<Generation>> {
        self.open.lock().by_id.values().cloned().collect()
    }

    /// How many generations are open.
    pub fn count_open(&self) -> usize {
        self.open.lock().by_id.len()
    }

    /// When the oldest open generation was admitted.
    pub fn oldest_open(&self) -> Option<Timestamp> {
        self.open.lock().by_id.values().map(|generation| generation.start().admitted_at).min()
    }

    /// The books of a generation are closed here.
    pub(super) fn forget(&self, id: Uuid) {
        let left = {
            let mut open = self.open.lock();
            open.remove(id);
            open.by_id.len()
        };
        self.parts.metrics.generation_left();
        if left == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until no generation is open.
    pub async fn all_closed(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count_open() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Ends the work at the stop of the process: with a shared store every open generation is handed over to the other
    /// replicas, without one it is settled by what was seen, at its estimate where nothing was.
    pub async fn stop(&self) {
        self.let_go_of_all().await;
        self.all_closed().await;
    }

    async fn let_go_of_all(&self) {
        let mut takes_over = self.takes_over.lock().await;
        *takes_over = false;
        if self.parts.board.is_some() {
            // What the store does not know cannot be handed over.
            self.renew().await;
        }
        for generation in self.all_open() {
            if generation.phase().is_decided() {
                continue;
            }
            if self.hand_over(&generation).await {
                generation.disown();
            } else if generation.phase() == Phase::Admitted {
                generation.dismiss();
            } else {
                generation.give_up();
            }
        }
    }

    /// Leaves a running generation to the other replicas, with what was seen of it. Answers whether they can have it.
    async fn hand_over(&self, generation: &Generation) -> bool {
        if self.parts.board.is_none() || generation.phase() == Phase::Direct {
            return false;
        }
        let start = generation.start();
        let seen = generation.seen();
        if seen != Observation::default() {
            self.tell_others(&start.org, start.id, Told { created_at: generation.created_at(), seen }).await;
        }
        self.parts.store.hand_over(&start.org, start.id).await.is_ok()
    }
}

/// Whether two runs of a conversation can be one, by when they were created.
pub(super) fn same_run(ours: Option<i64>, theirs: Option<i64>) -> bool {
    ours.is_none() || theirs.is_none() || ours == theirs
}
