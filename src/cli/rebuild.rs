//! `tollgate usage rebuild`: makes daily sums anew from their rows, after rows were put right by hand.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::ledger::{self, Noted, Opened};
use super::say::say;
use super::{Exit, Source, failed, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::identity::Org;
use crate::records::rebuild::{Compared, DailySums, Difference, Differs, OrgDay, Rebuilding};

/// An org whose time zone was changed has rows of a day from further than the day itself is long.
const ZONES_APART: SignedDuration = SignedDuration::from_hours(48);

/// Retention may begin with a day while this is at it.
const MEANWHILE: SignedDuration = SignedDuration::from_hours(1);

/// What is to be rebuilt.
#[derive(Debug, Clone)]
pub struct RebuildAsked {
    /// The org's id; every org of the configuration where it is left out.
    pub org: Option<String>,
    /// The first day, in the org's calendar.
    pub from: String,
    /// The last day.
    pub to: String,
    /// Whether it is only said what differs.
    pub dry_run: bool,
}

/// `tollgate usage rebuild`: says which daily sums are not what their rows add up to, and then makes them so.
pub fn rebuild(source: &Source, asked: &RebuildAsked) -> Exit {
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let orgs = match &asked.org {
        Some(id) => match ledger::org_of(&config, id) {
            Some(org) => vec![org],
            None => return Exit::Configuration,
        },
        None => config.orgs.clone(),
    };
    let Some(days) = ledger::days_of(&asked.from, &asked.to) else { return Exit::Configuration };
    wait_for(async move {
        let opened = match Opened::open(&config).await {
            Ok(opened) => opened,
            Err(reason) => return failed(&reason),
        };
        let mut exit = Exit::Success;
        for org in &orgs {
            exit = match rebuild_org(&config, &opened, org, &days, asked).await {
                Ok(shown) => exit.and(shown),
                Err(reason) => exit.and(failed(&reason)),
            };
        }
        opened.close().await;
        exit
    })
}

/// The sums of one day that differ.
type Differing = Vec<(DailySums, OrgDay)>;

async fn rebuild_org(
    config: &Config,
    opened: &Opened,
    org: &Org,
    days: &RangeInclusive<Date>,
    asked: &RebuildAsked,
) -> Result<Exit, String> {
    let action = if asked.dry_run { "usage.compared" } else { "usage.rebuilt" };
    let which = format!("{} to {}", asked.from, asked.to);
    let detail = Some(json!({ "tables": DailySums::ALL.map(DailySums::name) }));
    opened.note(Noted { action, org: Some(org), kind: "usage", which, detail }, SystemClock.now()).await?;
    let (mut differing, mut lines, mut shown) = (Differing::new(), 0, Exit::Success);
    let mut day = *days.start();
    while day <= *days.end() {
        for sums in DailySums::ALL {
            let Some(of) = rows_of(config, org, day, sums) else {
                shown = shown.and(say(&format!("{} {day} {}: left alone, retention takes rows of that day\n", org.id, sums.name())));
                continue;
            };
            let compared = opened.rebuilder.rebuild(sums, &of, Rebuilding::Compared).await.map_err(|error| error.to_string())?;
            shown = shown.and(say(&told(&of, sums, &compared)));
            if !compared.rows_are_gone() && !compared.differences.is_empty() {
                lines += compared.differences.len();
                differing.push((sums, of));
            }
        }
        day = day.tomorrow().map_err(|error| error.to_string())?;
    }
    let done = if asked.dry_run { "would be rebuilt" } else { "rebuilt" };
    if !asked.dry_run {
        lines = make_right(opened, &differing).await?;
    }
    Ok(shown.and(say(&format!("{}: {lines} {} {done}.\n", org.id, if lines == 1 { "line" } else { "lines" }))))
}

/// Answers how many lines were. A writer may have made one right, or another wrong, since they were shown.
async fn make_right(opened: &Opened, differing: &Differing) -> Result<usize, String> {
    let mut lines = 0;
    for (sums, day) in differing {
        let compared = opened.rebuilder.rebuild(*sums, day, Rebuilding::Done).await.map_err(|error| error.to_string())?;
        if !compared.rows_are_gone() {
            lines += compared.differences.len();
        }
    }
    Ok(lines)
}

/// The day, unless rows of it may be gone.
fn rows_of(config: &Config, org: &Org, day: Date, sums: DailySums) -> Option<OrgDay> {
    let begins = |day: Date| -> Option<Timestamp> { Some(day.to_zoned(org.zone.clone()).ok()?.start_of_day().ok()?.timestamp()) };
    let soon = SystemClock.now().checked_add(MEANWHILE).ok()?;
    let (begin, end) = (begins(day)?, begins(day.tomorrow().ok()?)?);
    let times = begin.checked_sub(ZONES_APART).ok()?..end.checked_add(ZONES_APART).ok()?;
    let is_whole = begin >= config.records.retention.cutoff(sums.rows(), soon);
    is_whole.then(|| OrgDay { org: org.id.to_string(), day: day.to_string(), times })
}

fn told(day: &OrgDay, sums: DailySums, compared: &Compared) -> String {
    let OrgDay { org, day, .. } = day;
    let name = sums.name();
    if compared.rows_are_gone() {
        return format!("{org} {day} {name}: left alone, its rows are gone\n");
    }
    let mut text = String::new();
    for Difference { keys, how } in &compared.differences {
        let how = match how {
            Differs::Missing => "is missing".to_owned(),
            Differs::Unfounded => "has no rows".to_owned(),
            Differs::Wrong(numbers) => {
                let number = |number: &Option<i64>| number.map_or_else(|| "nothing".to_owned(), |number| number.to_string());
                let wrong = numbers.iter().map(|(column, held, should)| format!("{column} {}, rows say {}", number(held), number(should)));
                wrong.collect::<Vec<_>>().join("; ")
            }
        };
        // Org, day and month stand in front. Writing to a string does not fail.
        let _ = writeln!(text, "{org} {day} {name} {}: {how}", keys.get(3..).unwrap_or_default().join(" / "));
    }
    text
}
