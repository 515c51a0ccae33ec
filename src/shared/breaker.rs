//! A circuit breaker: after failures in a row, calls are refused at once until a single probe succeeds.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Breaker {
    failures_to_open: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// What the outcome of a call did to the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened,
    Closed,
}

impl Breaker {
    pub(super) fn new(failures_to_open: u32, open_for: Duration) -> Self {
        Self { failures_to_open: failures_to_open.max(1), open_for, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.state.lock(), State::Closed { .. })
    }

    /// Leave to make a call. While the circuit is open there is none, but for one probe at a time once it was open
    /// long enough.
    pub(super) fn enter(&self, now: Instant) -> Option<Permit<'_>> {
        let mut state = self.state.lock();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } if now >= until => {
                *state = State::Probing;
                true
            }
            State::Open { .. } | State::Probing => return None,
        };
        Some(Permit { breaker: self, is_probe, is_told: false })
    }
}

/// Leave to make one call, to be told how it went. Dropped without being told, the call was given up by its caller: that
/// says nothing about Redis, and the next caller may probe.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    is_told: bool,
}

impl Permit<'_> {
    pub(super) fn succeeded(mut self) -> Change {
        self.is_told = true;
        let mut state = self.breaker.state.lock();
        match *state {
            State::Closed { .. } => *state = State::Closed { failures: 0 },
            _ if self.is_probe => {
                *state = State::Closed { failures: 0 };
                return Change::Closed;
            }
            // An answer that was asked for before the circuit opened; the probe decides.
            State::Open { .. } | State::Probing => {}
        }
        Change::None
    }

    pub(super) fn failed(mut self, now: Instant) -> Change {
        self.is_told = true;
        let mut state = self.breaker.state.lock();
        let until = now + self.breaker.open_for;
        match *state {
            State::Closed { failures } if failures + 1 < self.breaker.failures_to_open => {
                *state = State::Closed { failures: failures + 1 };
                Change::None
            }
            State::Closed { .. } => {
                *state = State::Open { until };
                Change::Opened
            }
            _ if self.is_probe => {
                *state = State::Open { until };
                Change::Opened
            }
            State::Open { .. } | State::Probing => Change::None,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.is_told {
            *self.breaker.state.lock() = State::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(1);

    fn opened(at: Instant) -> Breaker {
        let breaker = Breaker::new(3, OPEN_FOR);
        let permits: Vec<_> = (0..3).map(|_| breaker.enter(at).expect("a closed circuit lets everyone pass")).collect();
        let changes: Vec<_> = permits.into_iter().map(|permit| permit.failed(at)).collect();
        assert_eq!(changes, [Change::None, Change::None, Change::Opened], "the third failure in a row opens");
        breaker
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let (breaker, now) = (Breaker::new(2, OPEN_FOR), Instant::now());
        for _ in 0..10 {
            assert_eq!(breaker.enter(now).expect("it is closed").failed(now), Change::None);
            assert_eq!(breaker.enter(now).expect("it is closed").succeeded(), Change::None);
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn while_open_there_is_one_probe_at_a_time() {
        let start = Instant::now();
        let breaker = opened(start);
        assert!(breaker.enter(start + OPEN_FOR / 2).is_none(), "too early for a probe");
        let probe = breaker.enter(start + OPEN_FOR).expect("the first caller after a second may probe");
        assert!(breaker.enter(start + OPEN_FOR).is_none(), "a second caller may not probe beside the first");
        assert_eq!(probe.failed(start + OPEN_FOR), Change::Opened, "a failed probe opens it for another second");
        assert!(breaker.enter(start + OPEN_FOR * 3 / 2).is_none());
        let probe = breaker.enter(start + OPEN_FOR * 2).expect("then the next may probe");
        assert_eq!(probe.succeeded(), Change::Closed, "a probe that succeeds closes it");
        assert!(breaker.enter(start + OPEN_FOR * 2).is_some());
    }

    #[test]
    fn a_probe_that_is_given_up_lets_the_next_one_probe() {
        let start = Instant::now();
        let breaker = opened(start - OPEN_FOR);
        drop(breaker.enter(start).expect("the first may probe"));
        assert!(breaker.enter(Instant::now()).is_some(), "the next one may probe at once");
    }

    #[test]
    fn a_late_answer_does_not_close_it() {
        let start = Instant::now();
        let breaker = Breaker::new(1, OPEN_FOR);
        let slow = breaker.enter(start).expect("it is closed");
        assert_eq!(breaker.enter(start).expect("it is closed").failed(start), Change::Opened);
        assert_eq!(slow.succeeded(), Change::None);
        assert!(!breaker.is_closed());
    }
}
