//! What a scripted LibreChat holds: people, conversations with their messages, runs and requests.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use jiff::Timestamp;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::auth::Claims;
use super::connection::Lines;
use super::ids::Ids;
use super::json::Node;
use super::options::{Options, Strangers, User};
use super::replay::Replay;
use super::requests::Requests;
use super::run::{Run, RunSummary, Stop};

/// Everything the routes share.
#[derive(Debug)]
pub struct Place {
    /// How it behaves.
    pub options: Options,
    /// Where ids come from.
    pub ids: Ids,
    /// What arrived.
    pub requests: Requests,
    /// The connections.
    pub lines: Arc<Lines>,
    /// Whether answers to chat starts are held back.
    pub held: watch::Sender<bool>,
    /// Grows with everything tests may wait for.
    pub changed: watch::Sender<u64>,
    users: Mutex<HashMap<String, User>>,
    sign_ups: Mutex<HashMap<String, usize>>,
    convos: Mutex<LruCache<String, Convo>>,
    live: Mutex<HashMap<String, Arc<Run>>>,
    started: Mutex<LruCache<(String, String), Started>>,
    runs: Mutex<VecDeque<Arc<Mutex<RunSummary>>>>,
    replays: Mutex<VecDeque<Replay>>,
    keys: Mutex<Vec<Key>>,
}

/// A start that was answered: what the same `clientRequestId` gets again.
#[derive(Debug, Clone)]
pub struct Started {
    /// The conversation.
    pub conversation_id: String,
    /// `generationCreatedAt`.
    pub created_at: Timestamp,
}

/// A conversation.
#[derive(Debug, Clone)]
pub struct Convo {
    /// The id of its document.
    pub document: String,
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// Its title.
    pub title: String,
    /// Where it began.
    pub endpoint: String,
    /// `custom`, where the client says so.
    pub endpoint_type: Option<String>,
    /// The model.
    pub model: String,
    /// The agent.
    pub agent_id: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When something was last said.
    pub updated_at: Timestamp,
    /// Its place among all conversations: later ones have larger numbers.
    pub number: u64,
    /// The ids of its messages' documents.
    pub documents: Vec<String>,
    /// Its messages, as `/api/messages` shows them.
    pub messages: Vec<Message>,
    /// The tokens of its messages, as LibreChat estimates.
    pub tokens: u64,
}

/// A saved message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// What the API shows of it.
    pub json: Node,
}

/// A key for the OpenAI-compatible API.
#[derive(Debug, Clone)]
pub struct Key {
    /// The id of its document.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What its owner calls it.
    pub name: String,
    /// What its owner sends.
    pub secret: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it was deleted.
    pub deleted: bool,
}

impl Place {
    /// An empty place.
    pub fn new(options: Options) -> Arc<Self> {
        let keep = NonZeroUsize::new(options.keep).unwrap_or(NonZeroUsize::MIN);
        Arc::new(Self {
            ids: Ids::new(options.seed),
            requests: Requests::new(options.keep, options.keep_body),
            lines: Arc::default(),
            held: watch::channel(false).0,
            changed: watch::channel(0).0,
            users: Mutex::new(options.users.iter().map(|user| (user.id.clone(), user.clone())).collect()),
            sign_ups: Mutex::default(),
            convos: Mutex::new(LruCache::new(keep)),
            live: Mutex::default(),
            started: Mutex::new(LruCache::new(keep)),
            runs: Mutex::default(),
            replays: Mutex::new(options.replays.iter().cloned().collect()),
            keys: Mutex::default(),
            options,
        })
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Tells those who wait that something happened.
    pub fn stir(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The person a valid token speaks of, or `None` where strangers are refused.
    pub fn user_of(&self, claims: &Claims) -> Option<User> {
        let mut users = self.users.lock();
        if !users.contains_key(&claims.id) && self.options.strangers == Strangers::Welcome {
            let stranger = User {
                id: claims.id.clone(),
                username: claims.username.clone(),
                name: claims.username.clone(),
                ..User::new(&claims.email)
            };
            users.insert(claims.id.clone(), stranger);
        }
        users.get(&claims.id).cloned()
    }

    /// The person with this id.
    pub fn user(&self, id: &str) -> Option<User> {
        self.users.lock().get(id).cloned()
    }

    /// The person with this e-mail address.
    pub fn user_by_email(&self, email: &str) -> Option<User> {
        self.users.lock().values().find(|user| user.email.eq_ignore_ascii_case(email)).cloned()
    }

    /// One more person; those who are here already stay as they are.
    pub fn register(&self, user: User) {
        if self.user_by_email(&user.email).is_none() {
            self.users.lock().insert(user.id.clone(), user);
        }
    }

    /// One more person who makes themselves an account: the first of all becomes LibreChat's administrator.
    pub fn sign_up(&self, user: User) {
        let mut users = self.users.lock();
        if !users.values().any(|other| other.email.eq_ignore_ascii_case(&user.email)) {
            let role = if users.is_empty() { "ADMIN" } else { "USER" };
            users.insert(user.id.clone(), User { role: role.to_owned(), ..user });
        }
    }

    /// Takes a person away.
    pub fn remove(&self, id: &str) {
        self.users.lock().remove(id);
    }

    /// Whether an address may make one more account.
    pub fn may_sign_up(&self, address: &str) -> bool {
        let mut made = self.sign_ups.lock();
        let count = made.entry(address.to_owned()).or_default();
        *count += 1;
        *count <= self.options.sign_ups_per_address
    }

    /// One more key.
    pub fn add_key(&self, key: Key) {
        self.keys.lock().push(key);
    }

    /// A person's keys.
    pub fn keys(&self, user: &str) -> Vec<Key> {
        self.keys.lock().iter().filter(|key| key.user == user && !key.deleted).cloned().collect()
    }

    /// Deletes a key of a person. Answers whether there was one.
    pub fn delete_key(&self, user: &str, id: &str) -> bool {
        let mut keys = self.keys.lock();
        let found = keys.iter_mut().find(|key| key.user == user && key.id.eq_ignore_ascii_case(id) && !key.deleted);
        found.map(|key| key.deleted = true).is_some()
    }

    /// Whether a key was deleted.
    pub fn is_deleted(&self, key: &str) -> bool {
        self.keys.lock().iter().any(|known| known.secret == key && known.deleted)
    }

    /// One more recording for a chat start to come.
    pub fn push_replay(&self, replay: Replay) {
        self.replays.lock().push_back(replay);
    }

    /// The recording for this chat start, if one is left.
    pub fn next_replay(&self) -> Option<Replay> {
        self.replays.lock().pop_front()
    }

    /// A run begins; the one before it in the same conversation makes way.
    pub fn begin(&self, run: &Arc<Run>) {
        let mut runs = self.runs.lock();
        while runs.len() >= self.options.keep.max(1) {
            runs.pop_front();
        }
        runs.push_back(Arc::clone(run.summary()));
        drop(runs);
        let before = self.live.lock().insert(run.turn.conversation_id.clone(), Arc::clone(run));
        if let Some(before) = before {
            before.stop(Stop::Replaced);
        }
        self.stir();
    }

    /// A run is over and its stream is gone.
    pub fn finish(&self, run: &Arc<Run>) {
        let mut live = self.live.lock();
        if live.get(&run.turn.conversation_id).is_some_and(|other| Arc::ptr_eq(other, run)) {
            live.remove(&run.turn.conversation_id);
        }
    }

    /// The run that is at work in this conversation.
    pub fn live(&self, conversation_id: &str) -> Option<Arc<Run>> {
        self.live.lock().get(conversation_id).cloned()
    }

    /// Every run that is at work.
    pub fn all_live(&self) -> Vec<Arc<Run>> {
        self.live.lock().values().cloned().collect()
    }

    /// Every run that is remembered, in the order they began.
    pub fn runs(&self) -> Vec<RunSummary> {
        self.runs.lock().iter().map(|summary| summary.lock().clone()).collect()
    }

    /// Claims a `clientRequestId` for a new run, or gives as error what it started before.
    pub fn start_once(&self, user: &str, request: &str, fresh: impl FnOnce() -> Started) -> Result<Started, Started> {
        let mut started = self.started.lock();
        let key = (user.to_owned(), request.to_owned());
        if let Some(before) = started.get(&key) {
            return Err(before.clone());
        }
        let fresh = fresh();
        started.put(key, fresh.clone());
        Ok(fresh)
    }

    /// Remembers the answer to a start.
    pub fn remember_start(&self, user: &str, request: &str, started: Started) {
        self.started.lock().put((user.to_owned(), request.to_owned()), started);
    }

    /// Whose conversation this is, if it is anyone's.
    pub fn owner(&self, id: &str) -> Option<String> {
        self.convos.lock().peek(id).map(|convo| convo.user.clone())
    }

    /// Looks at, or changes, a conversation of this person.
    pub fn convo<T>(&self, user: &str, id: &str, look: impl FnOnce(&mut Convo) -> T) -> Option<T> {
        self.convos.lock().get_mut(id).filter(|convo| convo.user == user).map(look)
    }

    /// One more conversation.
    pub fn add_convo(&self, convo: Convo) {
        self.convos.lock().put(convo.id.clone(), convo);
    }

    /// This person's conversations, the newest first.
    pub fn convos(&self, user: &str) -> Vec<Convo> {
        let mut convos: Vec<Convo> =
            self.convos.lock().iter().filter(|(_, convo)| convo.user == user).map(|(_, convo)| convo.clone()).collect();
        convos.sort_by_key(|convo| std::cmp::Reverse((convo.created_at, convo.number)));
        convos
    }
}
