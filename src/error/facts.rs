//! What there is to say about a limit that refuses, before any language says it.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::limits::{Refusal, Resource};

/// The numbers of a refused limit, in the resource's unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) held: u64,
    pub(super) needs: u64,
}

/// Why the limit refuses, which decides what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The limit is nothing at all; waiting does not help.
    Closed,
    /// It is used up; only the next period helps.
    UsedUp,
    /// The message is larger than the whole limit; only a smaller one helps.
    TooSmall,
    /// Running answers hold the rest; waiting for them helps.
    Held,
    /// Something is left, but less than the message needs.
    NotEnough {
        /// Whether it would fit if running answers gave back all they hold.
        fits_later: bool,
    },
}

impl Facts {
    pub(super) fn of(refusal: &Refusal) -> Self {
        // A message that is being answered is a message: nobody is told to wait until its answer has finished.
        let (used, held) = match refusal.bucket.resource {
            Resource::Messages => (refusal.used.saturating_add(refusal.held), 0),
            Resource::Tokens | Resource::Cost => (refusal.used, refusal.held),
        };
        Self { limit: refusal.bar.limit, used, held, needs: refusal.needs }
    }

    /// Whether it would fit if running answers gave back all they hold.
    pub(super) fn fits_later(&self) -> bool {
        self.used.saturating_add(self.needs) <= self.limit
    }

    pub(super) fn reason(&self) -> Reason {
        if self.limit == 0 {
            Reason::Closed
        } else if self.used >= self.limit {
            Reason::UsedUp
        } else if self.needs > self.limit {
            Reason::TooSmall
        } else if self.left() == 0 {
            Reason::Held
        } else {
            Reason::NotEnough { fits_later: self.held > 0 && self.fits_later() }
        }
    }

    /// What neither use nor running answers take.
    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.held)
    }
}

/// When a limit opens again, as a person in their time zone says it.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) day: Day,
    pub(super) date: Date,
    /// Hour and minute, `00:00`.
    pub(super) time: String,
    /// The zone's IANA name, else its offset.
    pub(super) zone: String,
}

/// The day of an opening, seen from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Day {
    Today,
    Tomorrow,
    Later,
}

impl Opening {
    pub(super) fn of(opens: Timestamp, now: Timestamp, zone: &TimeZone) -> Self {
        let local = Zoned::new(opens, zone.clone());
        let today = Zoned::new(now, zone.clone()).date();
        let day = match local.date() {
            date if date == today => Day::Today,
            date if today.checked_add(1.day()).is_ok_and(|tomorrow| date == tomorrow) => Day::Tomorrow,
            _ => Day::Later,
        };
        let zone = zone.iana_name().map_or_else(|| format!("UTC{}", local.offset()), str::to_owned);
        Self { day, date: local.date(), time: clock(local.time()), zone }
    }
}

fn clock(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}
