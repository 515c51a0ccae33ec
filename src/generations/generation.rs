//! One generation alive: what is known of it, what has been seen of it, and what stage it is in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::observation::{End, Observation};
use super::start::Start;

/// The fencing number of a fresh reservation. Whoever takes it over has a greater one.
pub const FIRST_FENCE: u64 = 1;

/// How far a generation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its request has not left yet.
    Admitted,
    /// Its request is on its way, and LibreChat has not answered yet.
    Asked,
    /// The answer to its start was not seen: it may run, and has to be looked for.
    Unseen,
    /// It runs, detached from every connection.
    Running,
    /// It runs, and the answer of its own POST is its stream; closing that ends it.
    Direct,
    /// Its end was seen, or given up on.
    Over,
    /// No generation came of the start.
    Dismissed,
    /// Another replica owns it now.
    Disowned,
}

impl Phase {
    /// Whether nothing can change any more.
    pub fn is_decided(self) -> bool {
        matches!(self, Self::Over | Self::Dismissed | Self::Disowned)
    }
}

/// When this replica saw how far it had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Its request had left.
    pub asked_at: Option<Timestamp>,
    /// LibreChat had answered.
    pub running_at: Option<Timestamp>,
}

/// A generation.
#[derive(Debug)]
pub struct Generation {
    start: Start,
    state: Mutex<State>,
    changed: Notify,
    watchers: AtomicUsize,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    conversation_id: Option<String>,
    created_at: Option<i64>,
    upstream: Option<Arc<str>>,
    times: Times,
    seen: Observation,
    /// The fencing number of the lease under which this replica owns it.
    fence: u64,
    /// Whether the shared record lags behind.
    unwritten: bool,
    /// Whether its request may never have left: this process found it in the journal, and nothing there says that it did.
    may_never_have_left: bool,
    /// Whether it runs, or ran, apart from its POST.
    detached: bool,
    /// What an earlier generation of the same run was charged for, where this one goes on with it after a pause.
    before: Option<Box<Observation>>,
}

impl Generation {
    /// A generation that was just admitted here.
    pub fn admitted(start: Start) -> Arc<Self> {
        Self::owned(start, Phase::Admitted, FIRST_FENCE)
    }

    /// A generation taken over from a replica that fell silent.
    pub fn taken_over(start: Start, fence: u64) -> Arc<Self> {
        let phase = if start.created_at.is_some() || start.conversation_id.is_some() { Phase::Running } else { Phase::Unseen };
        Self::owned(start, phase, fence)
    }

    /// A generation that the journal holds of the process before this one.
    pub fn recovered(start: Start, forwarded: bool) -> Arc<Self> {
        let generation = Self::taken_over(start, 1);
        generation.state.lock().may_never_have_left = !forwarded;
        generation
    }

    fn owned(start: Start, phase: Phase, fence: u64) -> Arc<Self> {
        let state = State {
            phase,
            conversation_id: start.conversation_id.clone(),
            created_at: start.created_at,
            upstream: start.upstream.clone(),
            times: Times::default(),
            seen: Observation::default(),
            fence,
            unwritten: false,
            may_never_have_left: false,
            detached: phase == Phase::Running,
            before: None,
        };
        Arc::new(Self { start, state: Mutex::new(state), changed: Notify::new(), watchers: AtomicUsize::new(0) })
    }

    /// What was known when it was admitted.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The start with what has become known since, as other replicas need it.
    pub fn record(&self) -> Start {
        let state = self.state.lock();
        let (conversation_id, upstream) = (state.conversation_id.clone(), state.upstream.clone());
        Start { conversation_id, created_at: state.created_at, upstream, ..self.start.clone() }
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Its conversation, once known.
    pub fn conversation_id(&self) -> Option<String> {
        self.state.lock().conversation_id.clone()
    }

    /// LibreChat's `generationCreatedAt`, once known.
    pub fn created_at(&self) -> Option<i64> {
        self.state.lock().created_at
    }

    /// When this replica saw how far it had come.
    pub fn times(&self) -> Times {
        self.state.lock().times
    }

    /// It has come to this phase, as far as is seen here.
    pub fn reached(&self, phase: Phase, now: Timestamp) {
        let times = &mut self.state.lock().times;
        match phase {
            Phase::Asked => _ = times.asked_at.get_or_insert(now),
            Phase::Running | Phase::Direct => _ = times.running_at.get_or_insert(now),
            _ => {}
        }
    }

    /// The LibreChat that it was sent to, by its name.
    pub fn upstream(&self) -> Option<Arc<str>> {
        self.state.lock().upstream.clone()
    }

    /// The LibreChat that it was to be sent to could not be reached, and it goes to another.
    pub fn goes_to(&self, upstream: Arc<str>) {
        self.state.lock().upstream = Some(upstream);
    }

    /// The fencing number of this replica's lease.
    pub fn fence(&self) -> u64 {
        self.state.lock().fence
    }

    /// This replica owns it under a lease with another fencing number.
    pub fn fenced_by(&self, fence: u64) {
        self.state.lock().fence = fence;
    }

    /// Whether its shared record lags behind, because the store was away.
    pub fn is_unwritten(&self) -> bool {
        self.state.lock().unwritten
    }

    /// Says whether its shared record lags behind.
    pub fn set_unwritten(&self, unwritten: bool) {
        self.state.lock().unwritten = unwritten;
    }

    /// Whether it runs, or ran, apart from its POST.
    pub fn is_detached(&self) -> bool {
        self.state.lock().detached
    }

    /// It goes on with a run that waited for a person; up to there `before` was seen, and is charged to others.
    pub fn goes_on_after(&self, before: &Observation) {
        self.state.lock().before.get_or_insert_default().merge(before);
    }

    /// All that was seen of its run: by this generation, and by those that it goes on with.
    pub fn whole_run(&self, seen: &Observation) -> Observation {
        let mut whole = self.state.lock().before.as_deref().cloned().unwrap_or_default();
        whole.merge(seen);
        whole
    }

    /// What of `seen` is this generation's, and not what was before a pause.
    pub fn own_part_of(&self, seen: Observation) -> Observation {
        match &self.state.lock().before {
            Some(before) => seen.since(before),
            None => seen,
        }
    }

    /// When a stream of its own last ended in an error.
    pub fn error_at(&self) -> Option<Timestamp> {
        self.state.lock().seen.error_at
    }

    /// What has been seen of it so far.
    pub fn seen(&self) -> Observation {
        self.state.lock().seen.clone()
    }

    /// Its request leaves for LibreChat, whole. Saying so again changes nothing.
    pub fn forwarded(&self) {
        if self.phase() == Phase::Admitted {
            self.change(|state| state.phase = Phase::Asked);
        }
    }

    /// LibreChat answered that it runs.
    pub fn started(&self, conversation_id: String, created_at: Option<i64>) {
        self.change(|state| {
            state.conversation_id = Some(conversation_id);
            state.created_at = created_at.or(state.created_at);
            state.detached = true;
            state.phase = Phase::Running;
        });
    }

    /// LibreChat answers its POST with the stream itself.
    pub fn streams_directly(&self) {
        self.change(|state| state.phase = Phase::Direct);
    }

    /// Nothing came of the start.
    pub fn dismiss(&self) {
        self.change(|state| state.phase = Phase::Dismissed);
    }

    /// The connection broke before the answer to the start was seen. What never left is dismissed.
    pub fn answer_unseen(&self) {
        self.change(|state| match state.phase {
            Phase::Admitted => state.phase = Phase::Dismissed,
            Phase::Asked => state.phase = Phase::Unseen,
            _ => {}
        });
    }

    /// Someone saw something of it. Its end, once seen, ends it.
    pub fn tell(&self, seen: &Observation) {
        self.change(|state| {
            state.seen.merge(seen);
            if state.conversation_id.is_none() {
                state.conversation_id.clone_from(&state.seen.conversation_id);
            }
            if state.seen.end.is_some() {
                state.phase = Phase::Over;
            }
        });
    }

    /// Its own stream is over, and so is it: as `end` says where the stream did not.
    pub fn closed(&self, end: End, now: Timestamp) {
        self.change(|state| {
            state.seen.end.get_or_insert(end);
            state.seen.ended_at.get_or_insert(now);
            state.phase = Phase::Over;
        });
    }

    /// Another replica took it over.
    pub fn disown(&self) {
        self.change(|state| state.phase = Phase::Disowned);
    }

    /// It began longer ago than LibreChat tells of, so that looking in vain does not say that it never left.
    pub fn is_out_of_sight(&self) {
        self.state.lock().may_never_have_left = false;
    }

    /// It was looked for in vain. Where it may never have left, nothing came of it; else it is settled by what was seen.
    pub fn not_found(&self) {
        self.change(|state| state.phase = if state.may_never_have_left { Phase::Dismissed } else { Phase::Over });
    }

    /// Its end will not be seen any more; it is settled by what was.
    pub fn give_up(&self) {
        self.change(|state| state.phase = Phase::Over);
    }

    /// Makes a change, unless everything is decided already.
    fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state.lock();
            if state.phase.is_decided() {
                return;
            }
            change(&mut state);
        }
        self.changed.notify_one();
    }

    /// Waits for the next change. Only the task that attends to the generation waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many streams of it pass through this replica.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// A stream of it passes through this replica until the guard is dropped.
    pub fn watch(self: &Arc<Self>) -> Watch {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watch(Arc::clone(self))
    }
}

/// A stream of a generation that passes through this replica.
#[derive(Debug)]
pub struct Watch(Arc<Generation>);

impl Watch {
    /// The generation.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}
