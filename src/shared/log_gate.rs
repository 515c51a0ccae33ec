//! A log line that would come with every request comes once in a while instead.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the log stays silent about the same thing.
const SILENCE: Duration = Duration::from_secs(10);

/// Lets one line in ten seconds pass, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogGate {
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogGate {
    /// How many lines were left out since the last one, where this one may be written.
    pub(super) fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now < last + SILENCE) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds() {
        let gate = LogGate::default();
        let start = Instant::now();
        assert_eq!(gate.pass(start), Some(0), "the first line is written");
        for _ in 0..1000 {
            assert_eq!(gate.pass(start + Duration::from_secs(9)), None, "more of the same is not");
        }
        assert_eq!(gate.pass(start + Duration::from_secs(10)), Some(1000), "the next line says how many were left out");
    }
}
