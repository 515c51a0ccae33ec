//! Whether everybody's clock says the same, and which versions they are of.

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::finding::Finding;
use crate::app::database_url;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, StoreUrl};
use crate::db::{Database, Facts};
use crate::librechat::client::LibreChat;
use crate::shared::Redis;

/// Further apart than this, in seconds, is worth a look: leases and periods begin to be judged differently.
const APART_WARN: f64 = 5.0;

/// Further apart than this, in seconds, LibreChat refuses Tollgate's own tokens, which live two minutes.
const APART_FAIL: f64 = 60.0;

/// The oldest versions that Tollgate is tried with.
const LEAST_REDIS: u32 = 6;
const LEAST_POSTGRES: u32 = 13;
const LEAST_TIMESCALE: u32 = 2;

/// LibreChat's clock and version, as far as anybody is told.
pub(super) async fn librechat(librechat: &LibreChat) -> Vec<Finding> {
    let asked = SystemClock.now();
    let told = librechat.time().await;
    let clock = match told {
        Ok(theirs) => clock("librechat.clock", "LibreChat", middle(asked, SystemClock.now()), theirs),
        Err(error) => Finding::skipped("librechat.clock", format!("LibreChat tells no time: {error}")),
    };
    vec![clock, version_of(librechat).await]
}

/// LibreChat tells its version to nobody; since 0.8.6 it has `/livez`, where an older one shows its page.
async fn version_of(librechat: &LibreChat) -> Finding {
    let id = "librechat.version";
    match librechat.is_alive().await {
        Ok(true) => Finding::ok(id, "LibreChat is 0.8.6 or later, as far as can be told"),
        Ok(false) => Finding::warn(
            id,
            "LibreChat is older than 0.8.6: it does not ask custom endpoints what an answer used, and before 0.8.7 it shows no numbers",
            "update LibreChat to 0.8.7 or 0.8.8",
        ),
        Err(error) => Finding::skipped(id, format!("GET /livez: {error}")),
    }
}

/// Redis' clock and version.
pub(super) async fn store(config: &Config) -> Vec<Finding> {
    let StoreUrl::Redis(url) = &config.store.url else { return Vec::new() };
    let Ok(redis) = Redis::new(config.store.redis(url), Handle::current()) else { return Vec::new() };
    let asked = SystemClock.now();
    // That it does not answer was said already.
    let Ok(time) = redis.time().await else { return Vec::new() };
    let clock = clock("store.clock", "Redis", middle(asked, SystemClock.now()), time);
    let version = match redis.version().await {
        Ok(version) => judged("store.version", "Redis", &version, LEAST_REDIS),
        Err(error) => Finding::skipped("store.version", format!("Redis does not tell its version: {error}")),
    };
    vec![clock, version]
}

/// PostgreSQL's clock and versions. An SQLite file has the clock of its process.
pub(super) async fn records(config: &Config) -> Vec<Finding> {
    let Ok(database) = Database::open(&database_url(&config.records.url)) else { return Vec::new() };
    let asked = SystemClock.now();
    let facts = database.facts().await;
    let told = SystemClock.now();
    database.close().await;
    let Some(Facts { time, version, timescale }) = facts else { return Vec::new() };
    let mut findings = vec![
        clock("records.clock", "PostgreSQL", middle(asked, told), time),
        judged("records.version", "PostgreSQL", &version, LEAST_POSTGRES),
    ];
    findings.extend(timescale.map(|version| judged("records.timescale", "TimescaleDB", &version, LEAST_TIMESCALE)));
    findings
}

/// The instant in the middle of a question: when it was answered, as far as can be told.
fn middle(asked: Timestamp, told: Timestamp) -> Timestamp {
    asked.checked_add(told.duration_since(asked) / 2).unwrap_or(asked)
}

fn clock(id: &str, whose: &str, ours: Timestamp, theirs: Timestamp) -> Finding {
    let apart = theirs.duration_since(ours).as_secs_f64();
    let change = format!("set the clock of {whose}'s machine, or of this one, by NTP (timedatectl set-ntp true)");
    let said = format!("the clock of {whose} is {:.0} s {} ours", apart.abs(), if apart < 0.0 { "behind" } else { "ahead of" });
    if apart.abs() > APART_FAIL {
        Finding::fail(id, said, change)
    } else if apart.abs() > APART_WARN {
        Finding::warn(id, said, change)
    } else {
        Finding::ok(id, format!("the clock of {whose} says what ours does"))
    }
}

fn judged(id: &str, whose: &str, version: &str, least: u32) -> Finding {
    let major = version.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= least => Finding::ok(id, format!("{whose} is {version}")),
        Some(_) => {
            Finding::warn(id, format!("{whose} is {version}, which nobody has tried"), format!("update {whose} to {least} or later"))
        }
        None => Finding::skipped(id, format!("{whose} calls itself \"{version}\"")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::finding::Outcome;
    use super::*;

    #[test]
    fn clocks_are_judged_by_how_far_they_are_apart() {
        let apart =
            |seconds: i64| clock("x", "Redis", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)).outcome;
        assert_eq!([0, 4, -6, 59, -61].map(apart), [Outcome::Ok, Outcome::Ok, Outcome::Warn, Outcome::Warn, Outcome::Fail]);
    }

    #[test]
    fn versions_are_judged_by_their_first_number() {
        let of = |version| judged("x", "Redis", version, 6).outcome;
        assert_eq!(["7.0.15", "6", "5.0.14", "v?"].map(of), [Outcome::Ok, Outcome::Ok, Outcome::Warn, Outcome::Skipped]);
    }
}
