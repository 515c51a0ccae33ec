//! Calendar periods in a time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::Window;

/// One calendar day or month of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    ///
    /// Periods tile: each begins where its predecessor ends, also where midnight does not exist or comes twice. What
    /// decides is therefore not the date on the wall but between which two starts `now` lies; the two differ where a
    /// clock was put back over midnight (`America/St_Johns` until 2011).
    pub fn at(window: Window, now: Timestamp, zone: &TimeZone) -> Self {
        let on_the_wall = now.to_zoned(zone.clone()).date();
        let mut first_day = match window {
            Window::Day => on_the_wall,
            Window::Month => on_the_wall.first_of_month(),
        };
        if now < start(first_day, zone) {
            first_day = neighbour(window, first_day, -1);
        }
        let mut ends = start(neighbour(window, first_day, 1), zone);
        if now >= ends {
            first_day = neighbour(window, first_day, 1);
            ends = start(neighbour(window, first_day, 1), zone);
        }
        Self { window, first_day, ends }
    }

    /// When it begins, in the zone it is of.
    pub fn begins(&self, zone: &TimeZone) -> Timestamp {
        start(self.first_day, zone)
    }

    /// The part of a counter's key: `2026-11-20` for a day, `2026-11` for a month.
    pub fn key(&self) -> String {
        let (year, month) = (self.first_day.year(), self.first_day.month());
        match self.window {
            Window::Day => format!("{year:04}-{month:02}-{:02}", self.first_day.day()),
            Window::Month => format!("{year:04}-{month:02}"),
        }
    }
}

/// The first day of the next (`1`) or previous (`-1`) period.
fn neighbour(window: Window, first_day: Date, by: i32) -> Date {
    match window {
        Window::Day => first_day.saturating_add(by.days()),
        Window::Month => first_day.saturating_add(by.months()),
    }
}

/// The first instant of a day. The end of time stands in for days beyond what can be represented (the year 9999).
fn start(day: Date, zone: &TimeZone) -> Timestamp {
    let first_instant = day.to_zoned(zone.clone()).and_then(|zoned| zoned.start_of_day());
    first_instant.map_or(Timestamp::MAX, |zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap_or_else(|why| panic!("the time zone database has no {name}: {why}"))
    }

    fn instant(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|why| panic!("{text} is no instant: {why}"))
    }

    fn day(now: &str, zone_name: &str) -> Period {
        Period::at(Window::Day, instant(now), &zone(zone_name))
    }

    /// How long the day of this instant is, in hours: the end of its predecessor is its start.
    fn hours(now: &str, zone_name: &str) -> i64 {
        let zone = zone(zone_name);
        let day = Period::at(Window::Day, instant(now), &zone);
        (day.ends.as_second() - start(day.first_day, &zone).as_second()) / 3600
    }

    #[test]
    fn a_day_in_seoul_turns_at_15_00_utc() {
        let before = day("2026-11-20T14:59:59.999999999Z", "Asia/Seoul");
        assert_eq!(before.key(), "2026-11-20");
        assert_eq!(before.ends, instant("2026-11-20T15:00:00Z"));
        let after = day("2026-11-20T15:00:00Z", "Asia/Seoul");
        assert_eq!(after.key(), "2026-11-21");
        assert_eq!(after.ends, instant("2026-11-21T15:00:00Z"));
    }

    #[test]
    fn a_month_in_seoul_turns_with_its_first_day() {
        let before = Period::at(Window::Month, instant("2026-12-31T14:59:59Z"), &zone("Asia/Seoul"));
        assert_eq!((before.key().as_str(), before.ends), ("2026-12", instant("2026-12-31T15:00:00Z")));
        let after = Period::at(Window::Month, instant("2026-12-31T15:00:00Z"), &zone("Asia/Seoul"));
        assert_eq!((after.key().as_str(), after.ends), ("2027-01", instant("2027-01-31T15:00:00Z")));
    }

    #[test]
    fn days_of_23_and_25_hours() {
        assert_eq!(hours("2026-03-08T12:00:00Z", "America/New_York"), 23, "New York springs forward at 2:00");
        assert_eq!(hours("2026-11-01T12:00:00Z", "America/New_York"), 25, "New York falls back at 2:00");
        assert_eq!(hours("2026-03-29T12:00:00Z", "Europe/Berlin"), 23, "Berlin springs forward at 2:00");
        assert_eq!(hours("2026-10-25T12:00:00Z", "Europe/Berlin"), 25, "Berlin falls back at 3:00");
        assert_eq!(hours("2026-11-20T12:00:00Z", "Europe/Berlin"), 24, "an ordinary day");
    }

    #[test]
    fn a_day_without_midnight_begins_at_one() {
        // Beirut goes from 2026-03-28 24:00 (+02) straight to 2026-03-29 01:00 (+03).
        let before = day("2026-03-28T21:59:59Z", "Asia/Beirut");
        assert_eq!((before.key().as_str(), before.ends), ("2026-03-28", instant("2026-03-28T22:00:00Z")));
        let after = day("2026-03-28T22:00:00Z", "Asia/Beirut");
        assert_eq!((after.key().as_str(), after.ends), ("2026-03-29", instant("2026-03-29T21:00:00Z")));
        // Santiago goes from 2026-09-05 24:00 (-04) straight to 2026-09-06 01:00 (-03).
        assert_eq!(day("2026-09-06T03:59:59Z", "America/Santiago").key(), "2026-09-05");
        assert_eq!(day("2026-09-06T04:00:00Z", "America/Santiago").key(), "2026-09-06");
        assert_eq!(hours("2026-09-06T12:00:00Z", "America/Santiago"), 23);
        assert_eq!(hours("2026-04-04T12:00:00Z", "America/Santiago"), 25, "its last hour comes twice");
    }

    #[test]
    fn a_day_that_never_was_is_empty() {
        // Samoa left out 2011-12-30 altogether.
        let before = day("2011-12-30T09:59:59Z", "Pacific/Apia");
        assert_eq!((before.key().as_str(), before.ends), ("2011-12-29", instant("2011-12-30T10:00:00Z")));
        assert_eq!(day("2011-12-30T10:00:00Z", "Pacific/Apia").key(), "2011-12-31");
    }

    #[test]
    fn the_last_day_there_is_does_not_panic() {
        for window in [Window::Day, Window::Month] {
            assert_eq!(Period::at(window, Timestamp::MAX, &TimeZone::UTC).ends, Timestamp::MAX);
            let first = Period::at(window, Timestamp::MIN, &zone("America/New_York"));
            assert!(first.ends > Timestamp::MIN, "the first period there is ends after it began");
        }
    }

    const ZONES: [&str; 11] = [
        "UTC",
        "Asia/Seoul",
        "America/New_York",
        "Europe/Berlin",
        "Asia/Beirut",
        "America/Santiago",
        "America/St_Johns",
        "Africa/Cairo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Asia/Kathmandu",
    ];

    proptest! {
        /// From the year 2000 to 2100, on and beside every edge.
        #[test]
        fn every_instant_lies_in_exactly_one_period_and_periods_tile(
            second in 946_684_800_i64..4_102_444_800,
            zone_name in prop::sample::select(&ZONES[..]),
            window in prop::sample::select(&[Window::Day, Window::Month][..]),
        ) {
            let zone = zone(zone_name);
            let now = Timestamp::from_second(second).unwrap();
            let period = Period::at(window, now, &zone);
            let began = start(period.first_day, &zone);
            prop_assert!(began <= now && now < period.ends, "{now} lies outside of its own {period:?}");

            let just_before = |edge: Timestamp| edge - 1.nanosecond();
            prop_assert_eq!(&Period::at(window, began, &zone), &period, "its first instant is its own");
            prop_assert_eq!(&Period::at(window, just_before(period.ends), &zone), &period, "its last instant is its own");

            let next = Period::at(window, period.ends, &zone);
            prop_assert_eq!(start(next.first_day, &zone), period.ends, "the next begins where it ends");
            prop_assert!(next.key() > period.key(), "keys grow with time");
            prop_assert_eq!(Period::at(window, just_before(began), &zone).ends, began, "the one before ends where it begins");
        }
    }
}
