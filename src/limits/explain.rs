//! Limits told to people: every one that applies, why it is this one, and how full it is. And the way back from what was
//! written down to the counters it filled.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Bar, Bucket, Charge, Level, Mode, Period, Resource, Scope, Store, Window};
use crate::identity::Directory;
use crate::prices::format_usd;
use crate::records::{Sums, Used};

/// A limit as it stands for one person now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// `member`, `org` or `everyone`.
    pub scope: &'static str,
    /// `tokens`, `messages` or `cost`.
    pub resource: &'static str,
    /// `day` or `month`.
    pub window: &'static str,
    /// Which day or month.
    pub period: String,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
    /// The limit; of cost, in nano-dollars.
    pub limit: u64,
    /// Settled use; `None` while the store is away.
    pub used: Option<u64>,
    /// Held by running answers.
    pub held: Option<u64>,
    /// What is left of it.
    pub left: Option<u64>,
    /// The limit, in dollars; only of cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_usd: Option<String>,
    /// Settled use, in dollars; only of cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_usd: Option<String>,
    /// Held by running answers, in dollars; only of cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_usd: Option<String>,
    /// What is left of it, in dollars; only of cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_usd: Option<String>,
    /// When it starts anew.
    pub resets_at: Timestamp,
    /// Which rule this is, and why it applies.
    pub why: String,
}

/// How full the counters of these charges are.
pub async fn levels(store: &dyn Store, charges: &[Charge]) -> Vec<Explained> {
    let buckets: Vec<Bucket> = charges.iter().map(|charge| charge.bucket.clone()).collect();
    let levels = store.peek(&buckets).await.unwrap_or_default();
    told(charges, &levels.into_iter().map(Some).collect::<Vec<_>>())
}

/// The limits of these charges where their counters hold these levels, in the same order; what is missing is unknown.
pub fn told(charges: &[Charge], levels: &[Option<Level>]) -> Vec<Explained> {
    let mut explained = Vec::new();
    for (index, charge) in charges.iter().enumerate() {
        let level = levels.get(index).copied().flatten();
        for (mode, bar) in [(Mode::Enforce, &charge.enforce), (Mode::Shadow, &charge.shadow)] {
            explained.extend(bar.as_ref().map(|bar| of(&charge.bucket, mode, bar, level)));
        }
    }
    explained
}

fn of(bucket: &Bucket, mode: Mode, bar: &Bar, level: Option<Level>) -> Explained {
    let left = level.map(|level| bar.limit.saturating_sub(level.used.saturating_add(level.held)));
    let is_cost = bucket.resource == Resource::Cost;
    Explained {
        scope: bucket.scope.as_str(),
        resource: bucket.resource.as_str(),
        window: bucket.period.window.as_str(),
        period: bucket.period.key(),
        mode: match mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
        limit: bar.limit,
        used: level.map(|level| level.used),
        held: level.map(|level| level.held),
        left,
        limit_usd: is_cost.then(|| format_usd(bar.limit)),
        used_usd: level.filter(|_| is_cost).map(|level| format_usd(level.used)),
        held_usd: level.filter(|_| is_cost).map(|level| format_usd(level.held)),
        left_usd: left.filter(|_| is_cost).map(format_usd),
        resets_at: bucket.period.ends,
        why: bar.why.to_string(),
    }
}

/// No later than the beginning of every calendar month that is open anywhere.
pub fn months_open_since(now: Timestamp) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(33 * 24)).unwrap_or(Timestamp::MIN)
}

/// The counters of the current periods, filled with what the rows say was used. Counters of orgs that are not configured
/// any more are left out.
pub fn buckets_of(used: &Used, directory: &Directory, now: Timestamp) -> Vec<(Bucket, u64)> {
    let current = |zone: &TimeZone| [Window::Day, Window::Month].map(|window| Period::at(window, now, zone)).to_vec();
    buckets_in(used, directory, current)
}

/// The same with yesterday's, to which answers that began before midnight are still settled.
pub fn buckets_lately_of(used: &Used, directory: &Directory, now: Timestamp) -> Vec<(Bucket, u64)> {
    let current_and_yesterday = |zone: &TimeZone| {
        let yesterday = Period::at(Window::Day, now, zone).begins(zone).checked_sub(SignedDuration::from_nanos(1));
        let days = [now, yesterday.unwrap_or(now)].map(|instant| Period::at(Window::Day, instant, zone));
        days.into_iter().chain([Period::at(Window::Month, now, zone)]).collect()
    };
    buckets_in(used, directory, current_and_yesterday)
}

fn buckets_in(used: &Used, directory: &Directory, periods: impl Fn(&TimeZone) -> Vec<Period>) -> Vec<(Bucket, u64)> {
    let mut levels = HashMap::<Bucket, u64>::new();
    for row in &used.members {
        let Some(org) = directory.by_id(&row.org_id) else { continue };
        let member = Scope::Member { org: org.id.clone(), member: row.member_id.clone() };
        let periods = periods(&org.zone);
        for scope in [member, Scope::Org { org: org.id.clone() }] {
            for period in &periods {
                let key = if period.window == Window::Day { &row.org_day } else { &row.org_month };
                if period.key() == *key {
                    add(&mut levels, &scope, period, row.sums);
                }
            }
        }
    }
    for row in &used.everyone {
        for period in periods(&TimeZone::UTC) {
            if row.day.starts_with(&period.key()) {
                add(&mut levels, &Scope::Everyone, &period, row.sums);
            }
        }
    }
    levels.into_iter().collect()
}

fn add(levels: &mut HashMap<Bucket, u64>, scope: &Scope, period: &Period, sums: Sums) {
    for (resource, amount) in
        [(Resource::Tokens, sums.total_tokens), (Resource::Messages, sums.messages), (Resource::Cost, sums.cost_nanousd)]
    {
        let level = levels.entry(Bucket { scope: scope.clone(), resource, period: period.clone() }).or_default();
        *level = level.saturating_add(amount);
    }
}
