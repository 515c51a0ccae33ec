//! The laws of [`tollgate::identity::lockouts::Lockouts`]: one function per law, run in memory and on a real Redis.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tollgate::identity::lockouts::memory::MemoryLockouts;
use tollgate::identity::lockouts::redis::RedisLockouts;
use tollgate::identity::lockouts::{After, Bar, Begun, How, Lockouts, LoginName, Place, Subject};
use tollgate::shared::{Redis, RedisSettings};
use uuid::Uuid;

use crate::support::redis::RedisServer;

const MINUTE: Duration = Duration::from_mins(1);

fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("this is an instant")
}

fn minutes_later(minutes: i64) -> Timestamp {
    noon() + SignedDuration::from_mins(minutes)
}

fn name(typed: &str) -> LoginName {
    LoginName::of(typed).expect("this is a name")
}

fn place(address: &str) -> Place {
    Place::read(address).expect("this is an address")
}

/// Five failures lock for 15 minutes, then 30, an hour at most.
fn of(subject: Subject) -> Bar {
    let (window, lock) = (15 * MINUTE, 15 * MINUTE);
    Bar { subject, failures: 5, window, lock, max_lock: 60 * MINUTE, remembered: 24 * 60 * MINUTE }
}

fn ann() -> Bar {
    of(Subject::Name(name("ann@acme.test")))
}

/// Seven failures make it wait for one minute, then two, four at most.
fn address() -> Bar {
    let subject = Subject::Address(place("203.0.113.7"));
    Bar { subject, failures: 7, window: 15 * MINUTE, lock: MINUTE, max_lock: 4 * MINUTE, remembered: 15 * MINUTE }
}

async fn begin(lockouts: &dyn Lockouts, bars: &[Bar], now: Timestamp) -> (Uuid, Begun) {
    let id = Uuid::now_v7();
    (id, lockouts.begin(id, bars, now).await.expect("an answer"))
}

/// An attempt that must be let through, and how it ends.
async fn attempt(lockouts: &dyn Lockouts, bars: &[Bar], how: How, now: Timestamp) -> Vec<After> {
    let (id, begun) = begin(lockouts, bars, now).await;
    assert_eq!(begun, Begun::Admitted, "at {now}");
    lockouts.end(id, bars, how, now).await.expect("an answer")
}

async fn fail(lockouts: &dyn Lockouts, bars: &[Bar], times: usize, now: Timestamp) -> After {
    let mut last = None;
    for _ in 0..times {
        last = attempt(lockouts, bars, How::Failed, now).await.first().copied();
    }
    last.expect("at least one attempt")
}

/// Until when it is locked now.
async fn locked_until(lockouts: &dyn Lockouts, bars: &[Bar], now: Timestamp) -> Option<Timestamp> {
    match begin(lockouts, bars, now).await.1 {
        Begun::Refused { until, .. } => Some(until.expect("it is locked, not busy")),
        Begun::Admitted => None,
    }
}

mod laws {
    use super::*;

    type Any = Arc<dyn Lockouts>;

    pub(super) async fn of_100_at_once_no_more_than_are_left_before_the_lock_get_through(lockouts: Any) {
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let lockouts = lockouts.clone();
                tokio::spawn(async move { begin(&*lockouts, &[ann()], noon()).await })
            })
            .collect();
        let mut admitted = Vec::new();
        for task in tasks {
            match task.await.expect("a task") {
                (id, Begun::Admitted) => admitted.push(id),
                (_, Begun::Refused { until, .. }) => assert_eq!(until, None, "nothing is locked yet"),
            }
        }
        assert_eq!(admitted.len(), 5);
        for id in admitted {
            lockouts.end(id, &[ann()], How::Failed, noon()).await.expect("an answer");
        }
        assert_eq!(locked_until(&*lockouts, &[ann()], noon()).await, Some(minutes_later(15)));
    }

    pub(super) async fn the_fifth_failure_locks_and_locks_grow_to_their_longest(lockouts: Any) {
        assert_eq!(fail(&*lockouts, &[ann()], 4, noon()).await, After { locked_until: None, lockouts: 0 });
        let mut now = noon();
        for (first, minutes) in [(1, 15), (5, 30), (5, 60), (5, 60)] {
            let after = fail(&*lockouts, &[ann()], first, now).await;
            let ends = now + SignedDuration::from_mins(minutes);
            assert_eq!(after.locked_until, Some(ends));
            assert_eq!(locked_until(&*lockouts, &[ann()], ends - SignedDuration::from_secs(1)).await, Some(ends));
            now = ends;
        }
        // A day without a lock forgets them.
        let later = now + SignedDuration::from_hours(25);
        assert_eq!(fail(&*lockouts, &[ann()], 5, later).await.locked_until, Some(later + SignedDuration::from_mins(15)));
    }

    pub(super) async fn a_late_failure_never_shortens_a_lock(lockouts: Any) {
        let short = Bar { lock: MINUTE, max_lock: MINUTE, ..ann() };
        let (late, begun) = begin(&*lockouts, &[ann()], noon()).await;
        assert_eq!(begun, Begun::Admitted);
        fail(&*lockouts, &[ann()], 4, noon()).await;
        lockouts.end(late, &[ann()], How::Failed, noon()).await.expect("an answer");
        for how in [How::Failed, How::Failed, How::GivenBack, How::Succeeded] {
            lockouts.end(late, std::slice::from_ref(&short), how, minutes_later(1)).await.expect("an answer");
        }
        assert_eq!(locked_until(&*lockouts, &[ann()], minutes_later(1)).await, Some(minutes_later(15)));
    }

    pub(super) async fn failures_are_forgotten_after_a_quiet_window(lockouts: Any) {
        fail(&*lockouts, &[ann()], 4, noon()).await;
        fail(&*lockouts, &[ann()], 4, minutes_later(16)).await;
        assert_eq!(fail(&*lockouts, &[ann()], 1, minutes_later(30)).await.locked_until, Some(minutes_later(45)), "each renews the window");
    }

    pub(super) async fn a_success_forgives_a_person_and_not_an_address(lockouts: Any) {
        let bars = [ann(), address()];
        fail(&*lockouts, &bars, 4, noon()).await;
        attempt(&*lockouts, &bars, How::Succeeded, noon()).await;
        fail(&*lockouts, &bars, 2, noon()).await;
        attempt(&*lockouts, &bars, How::Succeeded, noon()).await;
        let after = attempt(&*lockouts, &bars, How::Failed, noon()).await;
        assert_eq!(after[0], After { locked_until: None, lockouts: 0 });
        assert_eq!(after[1].locked_until, Some(minutes_later(1)), "the seventh from there");
    }

    pub(super) async fn an_address_is_slowed_down(lockouts: Any) {
        fail(&*lockouts, &[address()], 7, noon()).await;
        assert_eq!(locked_until(&*lockouts, &[address()], noon()).await, Some(minutes_later(1)));
        for (now, next) in [(1, 3), (3, 7), (7, 11)] {
            // One at a time may try, and its failure makes the next one wait longer.
            let (id, begun) = begin(&*lockouts, &[address()], minutes_later(now)).await;
            assert_eq!(begun, Begun::Admitted, "it may try again after {now} minutes");
            assert!(matches!(begin(&*lockouts, &[address()], minutes_later(now)).await.1, Begun::Refused { until: None, .. }));
            lockouts.end(id, &[address()], How::Failed, minutes_later(now)).await.expect("an answer");
            assert_eq!(locked_until(&*lockouts, &[address()], minutes_later(now)).await, Some(minutes_later(next)));
        }
        assert_eq!(fail(&*lockouts, &[address()], 6, minutes_later(60)).await.locked_until, None, "when it was quiet it begins anew");
    }

    pub(super) async fn it_is_all_or_nothing(lockouts: Any) {
        fail(&*lockouts, &[ann()], 5, noon()).await;
        let bars = [address(), ann()];
        for _ in 0..20 {
            let (_, begun) = begin(&*lockouts, &bars, noon()).await;
            assert_eq!(begun, Begun::Refused { subject: ann().subject, until: Some(minutes_later(15)) });
        }
        assert_eq!(begin(&*lockouts, &[address()], noon()).await.1, Begun::Admitted, "nothing is held of the other");
    }

    pub(super) async fn what_is_given_back_counts_for_nobody(lockouts: Any) {
        for _ in 0..20 {
            attempt(&*lockouts, &[ann(), address()], How::GivenBack, noon()).await;
        }
        fail(&*lockouts, &[ann()], 4, noon()).await;
        attempt(&*lockouts, &[ann()], How::GivenBack, noon()).await;
        assert!(fail(&*lockouts, &[ann()], 1, noon()).await.locked_until.is_some(), "and forgives nothing");
    }

    pub(super) async fn an_attempt_that_nobody_ends_has_failed(lockouts: Any) {
        for _ in 0..5 {
            assert_eq!(begin(&*lockouts, &[ann()], noon()).await.1, Begun::Admitted);
        }
        assert!(matches!(begin(&*lockouts, &[ann()], minutes_later(1)).await.1, Begun::Refused { until: None, .. }));
        assert_eq!(locked_until(&*lockouts, &[ann()], minutes_later(2)).await, Some(minutes_later(17)));
    }

    pub(super) async fn locks_are_listed_and_opened(lockouts: Any) {
        let here = place("2001:db8:1:2::5");
        let at = of(Subject::NameAt(name("ann@acme.test"), here.clone()));
        lockouts.remember_place(&name("ann@acme.test"), &here, noon(), minutes_later(600)).await.expect("an answer");
        fail(&*lockouts, &[ann()], 5, noon()).await;
        fail(&*lockouts, std::slice::from_ref(&at), 5, minutes_later(1)).await;
        let listed = lockouts.locked(minutes_later(2)).await.expect("an answer");
        let listed: Vec<_> = listed.iter().map(|lockout| (lockout.subject.to_string(), lockout.until)).collect();
        let expected = [("name:ann@acme.test", 15), ("name_at:2001:db8:1:2::/64 ann@acme.test", 16)]
            .map(|(text, end)| (text.to_owned(), minutes_later(end)));
        assert_eq!(listed, expected);
        assert!(lockouts.open(&ann().subject).await.expect("an answer"));
        assert!(!lockouts.open(&ann().subject).await.expect("an answer"), "there is nothing left");
        assert_eq!(lockouts.locked(minutes_later(2)).await.expect("an answer"), []);
        for bar in [ann(), at] {
            assert_eq!(fail(&*lockouts, &[bar], 4, minutes_later(2)).await, After { locked_until: None, lockouts: 0 });
        }
        assert_eq!(lockouts.locked(minutes_later(600)).await.expect("an answer"), []);
    }

    pub(super) async fn places_are_known_for_a_while(lockouts: Any) {
        let (ann, bob) = (name("ann@acme.test"), name("bob@acme.test"));
        let (here, there) = (place("203.0.113.7"), place("203.0.113.8"));
        lockouts.remember_place(&ann, &here, noon(), minutes_later(60)).await.expect("an answer");
        for (who, place, minutes, knows) in
            [(&ann, &here, 59, true), (&ann, &here, 60, false), (&ann, &there, 0, false), (&bob, &here, 0, false)]
        {
            assert_eq!(lockouts.knows_place(who, place, minutes_later(minutes)).await.expect("an answer"), knows, "{who:?} {place:?}");
        }
        for last in 1..=30 {
            let place = place(&format!("198.51.100.{last}"));
            lockouts.remember_place(&ann, &place, noon(), minutes_later(100 + last)).await.expect("an answer");
        }
        assert!(!lockouts.knows_place(&ann, &here, noon()).await.expect("an answer"), "the oldest of many goes");
        assert!(lockouts.knows_place(&ann, &place("198.51.100.30"), noon()).await.expect("an answer"));
    }

    pub(super) async fn strange_names_do_not_mix(lockouts: Any) {
        for strange in ["a:b", "a b", "a}b", "{a}", "a%3Ab", "name_at:203.0.113.7 a"] {
            fail(&*lockouts, &[of(Subject::Name(name(strange)))], 4, noon()).await;
        }
        assert_eq!(fail(&*lockouts, &[of(Subject::NameAt(name("a"), place("203.0.113.7")))], 4, noon()).await.locked_until, None);
    }
}

/// Runs each law on both.
macro_rules! on_both {
    ($($law:ident)*) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                super::laws::$law(std::sync::Arc::new(super::MemoryLockouts::default())).await;
            })*
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                // A cluster is strict about what one script may reach.
                let server = super::RedisServer::start_cluster();
                super::laws::$law(std::sync::Arc::new(super::on(&server))).await;
            })*
        }
    };
}

on_both! {
    of_100_at_once_no_more_than_are_left_before_the_lock_get_through
    the_fifth_failure_locks_and_locks_grow_to_their_longest
    a_late_failure_never_shortens_a_lock
    failures_are_forgotten_after_a_quiet_window
    a_success_forgives_a_person_and_not_an_address
    an_address_is_slowed_down
    it_is_all_or_nothing
    what_is_given_back_counts_for_nobody
    an_attempt_that_nobody_ends_has_failed
    locks_are_listed_and_opened
    places_are_known_for_a_while
    strange_names_do_not_mix
}

fn on(server: &RedisServer) -> RedisLockouts {
    let settings = RedisSettings {
        connect_timeout: Duration::from_secs(10),
        response_timeout: Duration::from_secs(10),
        ..RedisSettings::new(server.url())
    };
    RedisLockouts::new(Redis::new(settings, tokio::runtime::Handle::current()).expect("the address is good"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_count_together() {
    let server = RedisServer::start();
    let replicas = [on(&server), on(&server)];
    let mut admitted = 0;
    for replica in replicas.iter().cycle().take(20) {
        admitted += usize::from(begin(replica, &[ann()], noon()).await.1 == Begun::Admitted);
    }
    assert_eq!(admitted, 5);
}
