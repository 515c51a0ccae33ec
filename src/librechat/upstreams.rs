//! The LibreChats behind Tollgate, and which of them is whose.
//!
//! A person stays with one LibreChat, since what runs there runs in its memory. Which one follows from the person and from the
//! names of the LibreChats alone (rendezvous hashing), so that every Tollgate comes to the same, nothing is kept, and of a
//! LibreChat that goes only its own people move. docs/decisions/0008-several-librechats.md says why it is done here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::address::Address;
use crate::config::{self, HealthChecks};

/// A LibreChat that has been dead for so long is not asked any more about what ran there: the others have its database.
/// Until then it may come back, and what it ran may have gone on meanwhile.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// All LibreChats.
#[derive(Debug)]
pub struct Upstreams(Vec<Arc<Place>>);

/// One LibreChat.
#[derive(Debug)]
pub struct Place {
    name: Arc<str>,
    base: Arc<str>,
    address: Address,
    seed: u64,
    always_drained: bool,
    drained: AtomicBool,
    alive: AtomicBool,
    checks: HealthChecks,
    health: Mutex<Health>,
}

/// What was heard of a LibreChat.
#[derive(Debug, Default)]
struct Health {
    /// Whether it was ever asked.
    asked: bool,
    /// How many answers in a row speak against what it is taken for.
    contrary: u32,
    /// Since when it is dead.
    dead_since: Option<Timestamp>,
}

impl Upstreams {
    /// Those that the configuration names. Until they were asked, none is alive.
    pub fn new(config: &config::LibreChat) -> Self {
        let place = |upstream| Arc::new(Place::new(upstream, config.drained.contains(upstream), config.health));
        Self(config.upstreams.iter().map(place).collect())
    }

    /// Every one, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Place>] {
        &self.0
    }

    /// Whether there is a choice.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// The one with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Place>> {
        self.0.iter().find(|place| *place.name == *name)
    }

    /// Whether any of them is alive.
    pub fn any_is_alive(&self) -> bool {
        self.0.iter().any(|place| place.is_alive())
    }

    /// Whose this person is, by what they are known by: the one that takes people and is alive; a drained one where no other
    /// is alive; and where none is, the one that would be.
    pub fn of(&self, person: &str) -> Option<&Arc<Place>> {
        self.best(person, |_| true)
    }

    /// The next one that is alive, where these could not be reached.
    pub fn besides(&self, tried: &[Arc<Place>], person: &str) -> Option<&Arc<Place>> {
        self.best(person, |place| place.is_alive() && tried.iter().all(|tried| tried.name != place.name))
    }

    /// The one to ask about a run of this person: that where it runs, as long as it may still know.
    pub fn of_run(&self, name: Option<&str>, person: &str, now: Timestamp) -> Option<&Arc<Place>> {
        name.and_then(|name| self.named(name)).filter(|place| !place.is_given_up(now)).or_else(|| self.of(person))
    }

    fn best(&self, person: &str, comes_into_question: impl Fn(&Place) -> bool) -> Option<&Arc<Place>> {
        if let [only] = &*self.0 {
            return comes_into_question(only).then_some(only);
        }
        let person = digest(person);
        let in_question = self.0.iter().filter(|place| comes_into_question(place));
        in_question.max_by_key(|place| (place.is_alive(), !place.is_drained(), mixed(place.seed ^ person)))
    }

    /// Takes in which of them an operator has drained.
    pub fn set_drained(&self, names: &BTreeSet<String>) {
        for place in &self.0 {
            let drained = names.contains(&*place.name);
            if place.drained.swap(drained, Ordering::Relaxed) != drained {
                tracing::info!(upstream = &*place.name, drained, "a LibreChat is drained, or no longer");
            }
        }
    }
}

impl Place {
    fn new(upstream: &config::Upstream, always_drained: bool, checks: HealthChecks) -> Self {
        let name: Arc<str> = upstream.authority().into();
        Self {
            seed: digest(&name),
            base: upstream.to_string().into(),
            name,
            address: Address::of(upstream),
            always_drained,
            drained: AtomicBool::new(false),
            alive: AtomicBool::new(false),
            checks,
            health: Mutex::default(),
        }
    }

    /// What it is called: `host:port`, as the configuration names it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its address as a URL without a path.
    pub fn base(&self) -> &Arc<str> {
        &self.base
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is taken to be alive.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Whether it takes no new people.
    pub fn is_drained(&self) -> bool {
        self.always_drained || self.drained.load(Ordering::Relaxed)
    }

    /// It was asked how it is. The first answer decides, later ones where enough of them in a row say otherwise.
    pub fn was_asked(&self, is_well: bool, now: Timestamp) {
        let mut health = self.health.lock();
        if is_well == self.is_alive() && health.asked {
            health.contrary = 0;
            return;
        }
        health.contrary += 1;
        let enough = if is_well { self.checks.alive_after } else { self.checks.dead_after };
        if health.asked && health.contrary < enough {
            return;
        }
        *health = Health { asked: true, contrary: 0, dead_since: (!is_well).then_some(now) };
        self.alive.store(is_well, Ordering::Relaxed);
        if is_well {
            tracing::info!(upstream = &*self.name, up = true, "LibreChat");
        } else {
            tracing::warn!(upstream = &*self.name, up = false, "LibreChat");
        }
    }

    fn is_given_up(&self, now: Timestamp) -> bool {
        self.health.lock().dead_since.is_some_and(|since| now.duration_since(since) >= GIVEN_UP_AFTER)
    }
}

/// The same number for the same text, on every machine and in every version.
fn digest(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Spreads a number over all others (the finalizer of `SplitMix64`; Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CHECKS: HealthChecks = HealthChecks { every: Duration::from_secs(2), dead_after: 3, alive_after: 2 };

    fn upstreams(names: &[&str]) -> Upstreams {
        let place = |name: &&str| Arc::new(Place::new(&config::Upstream::new(*name, 3080), false, CHECKS));
        let upstreams = Upstreams(names.iter().map(place).collect());
        upstreams.0.iter().for_each(|place| place.was_asked(true, Timestamp::UNIX_EPOCH));
        upstreams
    }

    fn whose(upstreams: &Upstreams, person: u32) -> String {
        upstreams.of(&format!("person-{person}")).expect("somebody's").name().to_string()
    }

    fn dies(upstreams: &Upstreams, name: &str, at: Timestamp) {
        let place = upstreams.named(name).expect("one of them");
        for _ in 0..CHECKS.dead_after {
            place.was_asked(false, at);
        }
    }

    #[test]
    fn people_are_spread_evenly_and_alike_in_any_order() {
        let (one, other) = (upstreams(&["a", "b", "c"]), upstreams(&["c", "a", "b"]));
        let mut counts = std::collections::BTreeMap::new();
        for person in 0..9_000 {
            assert_eq!(whose(&one, person), whose(&other, person));
            *counts.entry(whose(&one, person)).or_insert(0) += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|count| (2_800..3_200).contains(count)), "{counts:?}");
        let first: String = (0..6).map(|person| whose(&one, person).remove(0)).collect();
        assert_eq!(first, "abcacc", "every version comes to the same");
    }

    #[test]
    fn only_the_people_of_one_that_goes_move_and_they_come_back() {
        let all = upstreams(&["a", "b", "c"]);
        let before: Vec<_> = (0..1_000).map(|person| whose(&all, person)).collect();
        dies(&all, "b:3080", Timestamp::UNIX_EPOCH);
        for (person, place) in (0..).zip(&before) {
            let now = whose(&all, person);
            assert!(now != "b:3080" && (place == "b:3080" || now == *place), "{place} -> {now}");
        }
        let place = all.named("b:3080").expect("it is there");
        place.was_asked(true, Timestamp::UNIX_EPOCH);
        assert!(!place.is_alive(), "one good answer is not enough");
        place.was_asked(true, Timestamp::UNIX_EPOCH);
        assert_eq!((0..1_000).map(|person| whose(&all, person)).collect::<Vec<_>>(), before);
    }

    #[test]
    fn one_bad_answer_kills_nobody_and_a_good_one_in_between_counts() {
        let all = upstreams(&["a"]);
        let place = &all.all()[0];
        for well in [false, false, true, false, false] {
            place.was_asked(well, Timestamp::UNIX_EPOCH);
            assert!(place.is_alive());
        }
        place.was_asked(false, Timestamp::UNIX_EPOCH);
        assert!(!place.is_alive() && !all.any_is_alive());
        assert!(all.of("anyone").is_some(), "the only one is tried all the same");
    }

    #[test]
    fn a_drained_one_takes_people_only_where_no_other_lives() {
        let all = upstreams(&["a", "b"]);
        all.set_drained(&BTreeSet::from(["a:3080".to_owned()]));
        assert!((0..100).all(|person| whose(&all, person) == "b:3080"));
        dies(&all, "b:3080", Timestamp::UNIX_EPOCH);
        assert!((0..100).all(|person| whose(&all, person) == "a:3080"));
        dies(&all, "a:3080", Timestamp::UNIX_EPOCH);
        assert!((0..100).all(|person| whose(&all, person) == "b:3080"), "where none lives, those that take people are tried");
    }

    #[test]
    fn what_runs_at_a_dead_one_is_asked_there_for_a_while() {
        let all = upstreams(&["a", "b"]);
        dies(&all, "a:3080", Timestamp::UNIX_EPOCH);
        let asked = |seconds| all.of_run(Some("a:3080"), "ann", Timestamp::from_second(seconds).expect("a time")).expect("one").name();
        assert_eq!((&**asked(59), &**asked(60)), ("a:3080", "b:3080"));
        assert_eq!(&**all.of_run(Some("gone:1"), "ann", Timestamp::UNIX_EPOCH).expect("one").name(), "b:3080");
    }

    #[test]
    fn whoever_could_not_be_reached_is_not_tried_again() {
        let all = upstreams(&["a", "b"]);
        let (a, b) = (all.all()[0].clone(), all.all()[1].clone());
        assert_eq!(all.besides(std::slice::from_ref(&a), "ann").map(|place| place.name()), Some(b.name()));
        assert!(all.besides(&[a, b], "ann").is_none());
    }
}
