//! Failed sign-ins, counted in this process: for exactly one Tollgate.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{ATTEMPT_LASTS, After, Bar, Begun, How, Lockout, Lockouts, LoginName, Place, Subject};
use crate::limits::StoreError;

/// The most subjects that are counted at a time: about 50 MB. Beyond them the quietest tenth of those without a lock goes,
/// then the locks that end first.
const MOST_SUBJECTS: usize = 200_000;

/// The most places that are known of a name, and the most names that have some.
const MOST_PLACES: usize = 20;
const MOST_KNOWN_NAMES: usize = 100_000;

/// Failures and locks in memory.
#[derive(Debug, Default)]
pub struct MemoryLockouts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    states: HashMap<Subject, State>,
    places: HashMap<LoginName, Vec<(Place, Timestamp)>>,
}

#[derive(Debug, Clone)]
struct State {
    failures: u32,
    last: Timestamp,
    lockouts: u32,
    until: Timestamp,
    /// Attempts that run, and when they count as failed.
    pending: Vec<(Uuid, Timestamp)>,
    /// When nothing of it is to be remembered any more.
    kept_until: Timestamp,
}

impl Default for State {
    fn default() -> Self {
        let long_ago = Timestamp::MIN;
        Self { failures: 0, last: long_ago, lockouts: 0, until: long_ago, pending: Vec::new(), kept_until: long_ago }
    }
}

impl State {
    /// Forgets what is too old, and counts attempts whose end nobody told in time. Answers whether that locked it.
    fn bring_up_to(&mut self, now: Timestamp, bar: &Bar) -> bool {
        if now > after(self.last, bar.window) {
            self.failures = 0;
        }
        if now > after(self.until, bar.remembered) {
            self.lockouts = 0;
        }
        let before = self.pending.len();
        self.pending.retain(|(_, lost_at)| *lost_at > now);
        let lost = u32::try_from(before - self.pending.len()).unwrap_or(u32::MAX);
        lost > 0 && self.fail(lost, now, bar)
    }

    /// Counts failures; answers whether they locked it. A lock that lasts is never shortened. What is shared stays one failure
    /// away from the next lock until it has been quiet.
    fn fail(&mut self, count: u32, now: Timestamp, bar: &Bar) -> bool {
        self.failures = self.failures.saturating_add(count);
        self.last = now;
        let locks = self.failures >= bar.failures;
        if locks {
            let doubled = 2_u32.checked_pow(self.lockouts).and_then(|times| bar.lock.checked_mul(times));
            self.until = self.until.max(after(now, doubled.unwrap_or(bar.max_lock).min(bar.max_lock)));
            self.lockouts = self.lockouts.saturating_add(1);
            self.failures = if bar.subject.is_shared() { bar.failures.saturating_sub(1) } else { 0 };
        }
        self.keep(now, bar);
        locks
    }

    fn keep(&mut self, now: Timestamp, bar: &Bar) {
        self.kept_until = after(now, bar.window).max(after(self.until, bar.remembered));
    }
}

impl Inner {
    fn state(&mut self, bar: &Bar, now: Timestamp) -> &mut State {
        if !self.states.contains_key(&bar.subject) && self.states.len() >= MOST_SUBJECTS {
            self.make_room(now);
        }
        self.states.entry(bar.subject.clone()).or_default()
    }

    fn make_room(&mut self, now: Timestamp) {
        self.states.retain(|_, state| state.kept_until > now);
        if self.states.len() < MOST_SUBJECTS {
            return;
        }
        let mut by_worth: Vec<_> = self.states.iter().map(|(subject, state)| (state.until.max(now), state.last, subject.clone())).collect();
        by_worth.sort_unstable_by_key(|(until, last, _)| (*until, *last));
        for (.., subject) in by_worth.drain(..MOST_SUBJECTS / 10) {
            self.states.remove(&subject);
        }
    }
}

#[async_trait]
impl Lockouts for MemoryLockouts {
    async fn begin(&self, id: Uuid, bars: &[Bar], now: Timestamp) -> Result<Begun, StoreError> {
        let mut inner = self.inner.lock();
        for bar in bars {
            let state = inner.state(bar, now);
            state.bring_up_to(now, bar);
            let subject = || bar.subject.clone();
            if state.until > now {
                return Ok(Begun::Refused { subject: subject(), until: Some(state.until) });
            }
            if state.failures as usize + state.pending.len() >= bar.failures as usize {
                return Ok(Begun::Refused { subject: subject(), until: None });
            }
        }
        for bar in bars {
            let state = inner.state(bar, now);
            state.pending.push((id, after(now, ATTEMPT_LASTS)));
            state.keep(now, bar);
        }
        Ok(Begun::Admitted)
    }

    async fn end(&self, id: Uuid, bars: &[Bar], how: How, now: Timestamp) -> Result<Vec<After>, StoreError> {
        let mut inner = self.inner.lock();
        let end = |bar: &Bar| {
            let state = inner.state(bar, now);
            let before = state.pending.len();
            state.pending.retain(|(pending, _)| *pending != id);
            let was_pending = state.pending.len() < before;
            let mut locked = state.bring_up_to(now, bar);
            match how {
                How::Failed if was_pending => locked |= state.fail(1, now, bar),
                How::Succeeded if !bar.subject.is_shared() => state.failures = 0,
                _ => {}
            }
            After { locked_until: locked.then_some(state.until), lockouts: state.lockouts }
        };
        Ok(bars.iter().map(end).collect())
    }

    async fn remember_place(&self, name: &LoginName, place: &Place, now: Timestamp, until: Timestamp) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if !inner.places.contains_key(name) && inner.places.len() >= MOST_KNOWN_NAMES {
            inner.places.retain(|_, places| places.iter().any(|(_, until)| *until > now));
            if inner.places.len() >= MOST_KNOWN_NAMES {
                return Ok(());
            }
        }
        let places = inner.places.entry(name.clone()).or_default();
        places.retain(|(known, until)| known != place && *until > now);
        places.push((place.clone(), until));
        if places.len() > MOST_PLACES {
            places.remove(0);
        }
        Ok(())
    }

    async fn knows_place(&self, name: &LoginName, place: &Place, now: Timestamp) -> Result<bool, StoreError> {
        let inner = self.inner.lock();
        let places = inner.places.get(name).map(Vec::as_slice).unwrap_or_default();
        Ok(places.iter().any(|(known, until)| known == place && *until > now))
    }

    async fn open(&self, subject: &Subject) -> Result<bool, StoreError> {
        let mut inner = self.inner.lock();
        let mut subjects = vec![subject.clone()];
        if let Subject::Name(name) = subject {
            let places = inner.places.get(name).map(Vec::as_slice).unwrap_or_default();
            subjects.extend(places.iter().map(|(place, _)| Subject::NameAt(name.clone(), place.clone())));
        }
        let mut opened = false;
        for subject in subjects {
            let Some(state) = inner.states.get_mut(&subject) else { continue };
            // Attempts that run are counted all the same.
            let fresh = State { pending: std::mem::take(&mut state.pending), kept_until: state.kept_until, ..State::default() };
            let before = std::mem::replace(state, fresh);
            opened |= before.failures > 0 || before.lockouts > 0;
        }
        Ok(opened)
    }

    async fn locked(&self, now: Timestamp) -> Result<Vec<Lockout>, StoreError> {
        let inner = self.inner.lock();
        let lasting = inner.states.iter().filter(|(_, state)| state.until > now);
        let mut locked: Vec<_> = lasting.map(|(subject, state)| Lockout { subject: subject.clone(), until: state.until }).collect();
        locked.sort_by_key(|lockout| (lockout.until, lockout.subject.to_string()));
        Ok(locked)
    }
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration).ok().and_then(|duration| time.checked_add(duration).ok()).unwrap_or(Timestamp::MAX)
}
