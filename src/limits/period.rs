//! Calendar periods in a time zone.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Window;

/// One calendar day or month of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Period {
    /// Day or month.
    pub window: Window,
    /// Its first day, in the zone's own calendar.
    pub first_day: Date,
    /// When it ends, and its successor begins.
    pub ends: Timestamp,
}

impl Period {
    /// The period of `window` that `now` falls in, in the calendar of `zone`.
    pub fn at(window: Window, now: Timestamp, zone: &TimeZone) -> Self {
        let _ = (window, now, zone);
        todo!()
    }

    /// The part of a counter's key: `2026-11-20` for a day, `2026-11` for a month.
    pub fn key(&self) -> String {
        todo!()
    }
}
