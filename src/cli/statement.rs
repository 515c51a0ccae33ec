//! `tollgate statement`: what an org owes for a month, and closing it.

use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::ledger::{self, Noted, Opened};
use super::say::{say, say_json};
use super::spreadsheet;
use super::table::money;
use super::{Exit, Source, failed, misconfigured, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::identity::Org;
use crate::limits::{Period, Window};
use crate::records::ledger::{Closed, Used};
use crate::records::retention::Retention;
use crate::records::statement::{Change, Statement, changes, of_month};

/// How a statement is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// Lines for a spreadsheet.
    Csv,
}

/// Which statement, and whether it is to be closed.
#[derive(Debug, Clone)]
pub struct StatementAsked {
    /// The org's id.
    pub org: String,
    /// The month, `2026-11`.
    pub month: String,
    /// How it is shown.
    pub format: StatementFormat,
    /// Whether it is to be closed.
    pub close: bool,
}

/// `tollgate statement`: shows what an org owes for a month, as it was closed where it was.
pub fn statement(source: &Source, asked: &StatementAsked) -> Exit {
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let Some(org) = ledger::org_of(&config, &asked.org) else { return Exit::Configuration };
    let Some(month) = month_of(&asked.month, &org.zone) else {
        return misconfigured(&format_args!("\"{}\" is no month; write it such as 2026-11", asked.month));
    };
    wait_for(async move {
        let opened = match Opened::open(&config).await {
            Ok(opened) => opened,
            Err(reason) => return failed(&reason),
        };
        let drawn = draw(&opened, &org, &month, config.records.retention, asked).await;
        opened.close().await;
        match drawn {
            Ok(statement) => show(&statement, asked.format),
            Err(reason) => failed(&reason),
        }
    })
}

/// The month's period in the org's calendar.
fn month_of(text: &str, zone: &TimeZone) -> Option<Period> {
    Some(Period::at(Window::Month, begins(text, zone)?, zone)).filter(|period| period.key() == text)
}

/// When a month of a calendar begins.
fn begins(month: &str, zone: &TimeZone) -> Option<Timestamp> {
    let first_day: Date = format!("{month}-01").parse().ok()?;
    Some(first_day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?.timestamp())
}

/// Whether the rows of a month are all there, as far as retention goes: what it has begun to remove can no longer be added up.
fn is_kept(month: &str, zone: &TimeZone, retention: Retention, now: Timestamp) -> bool {
    let kept_since = now.checked_sub(SignedDuration::from_hours(24 * i64::from(retention.usage_days))).unwrap_or(Timestamp::MIN);
    begins(month, zone).is_some_and(|begins| begins >= kept_since)
}

async fn draw(opened: &Opened, org: &Org, month: &Period, retention: Retention, asked: &StatementAsked) -> Result<Statement, String> {
    let (key, now) = (month.key(), SystemClock.now());
    let all_closed = opened.ledger.closed(&org.id).await.map_err(|error| error.to_string())?;
    let closed = all_closed.iter().map(read_closed).collect::<Result<Vec<_>, _>>()?;
    if let Some(frozen) = closed.iter().find(|statement| statement.month == key) {
        opened.note(noted("statement.read", org, &key), now).await?;
        return Ok(frozen.clone());
    }
    if !is_kept(&key, &org.zone, retention, now) {
        let days = retention.usage_days;
        return Err(format!("{key} was not closed while its rows were there: usage rows are kept for {days} days (records.retention)"));
    }
    if asked.close && month.ends > now {
        return Err(format!("{key} is not over for {}, and cannot be closed before it is", org.id));
    }
    opened.note(noted(if asked.close { "statement.closed" } else { "statement.read" }, org, &key), now).await?;
    let mut statement = as_it_is(opened, org, &key).await?;
    for earlier in closed.iter().filter(|earlier| earlier.month < key && is_kept(&earlier.month, &org.zone, retention, now)) {
        let as_now = as_it_is(opened, org, &earlier.month).await?;
        let shown = closed.iter().flat_map(|later| &later.corrections);
        statement.correct(changes(earlier, &as_now, shown));
    }
    if asked.close {
        close(opened, org, &mut statement, now).await?;
    }
    Ok(statement)
}

/// Freezes a statement.
async fn close(opened: &Opened, org: &Org, statement: &mut Statement, now: Timestamp) -> Result<(), String> {
    statement.closed_at = Some(now);
    let content = serde_json::to_string(statement).map_err(|error| error.to_string())?;
    let (org_id, month, sha256) = (org.id.to_string(), statement.month.clone(), hash(&content));
    let closing = Closed { org_id, month, closed_at: now, content, sha256 };
    if opened.ledger.close(&closing).await.map_err(|error| error.to_string())? {
        return Ok(());
    }
    Err(format!("{} was closed by someone else in this moment; ask again to see it", statement.month))
}

fn noted<'a>(action: &'static str, org: &'a Org, month: &str) -> Noted<'a> {
    Noted { action, org: Some(org), kind: "statement", which: month.to_owned(), detail: None }
}

async fn as_it_is(opened: &Opened, org: &Org, month: &str) -> Result<Statement, String> {
    let lines = opened.ledger.month(&org.id, month).await.map_err(|error| error.to_string())?;
    let corrected = opened.ledger.corrected(&org.id, month).await.map_err(|error| error.to_string())?;
    Ok(of_month(&org.id, month, org.zone.iana_name().unwrap_or("UTC"), &lines, &corrected))
}

/// A closed statement, if it is what was closed.
fn read_closed(closed: &Closed) -> Result<Statement, String> {
    let Closed { org_id, month, content, sha256, .. } = closed;
    if hash(content) != *sha256 {
        return Err(format!(
            "the closed statement of {org_id} for {month} was changed: its content does not have the hash it was closed with"
        ));
    }
    serde_json::from_str(content).map_err(|error| format!("the closed statement of {org_id} for {month} cannot be read: {error}"))
}

fn hash(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn show(statement: &Statement, format: StatementFormat) -> Exit {
    match format {
        StatementFormat::Text => say(&text_of(statement)),
        StatementFormat::Csv => say(&csv_of(statement)),
        StatementFormat::Json => match serde_json::to_value(statement) {
            Ok(json) => say_json(&json),
            Err(error) => failed(&error),
        },
    }
}

/// The parts of a statement, each a title and its lines.
fn parts(statement: &Statement) -> [(&'static str, Vec<(String, Used)>); 5] {
    let lines = |of: &std::collections::BTreeMap<String, Used>| {
        of.iter().map(|(name, used)| (if name.is_empty() { "(not named)".to_owned() } else { name.clone() }, *used)).collect()
    };
    [
        ("member", lines(&statement.by_member)),
        ("model", lines(&statement.by_model)),
        ("day", lines(&statement.by_day)),
        ("usage source", lines(&statement.by_source)),
        ("price version", lines(&statement.by_price_version)),
    ]
}

fn text_of(statement: &Statement) -> String {
    let mut text = format!("Statement of {} for {} ({})\n", statement.org, statement.month, statement.time_zone);
    let state = statement.closed_at.map_or_else(|| "open: it may still change".to_owned(), |at| format!("closed at {at}"));
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{state}; {}.{} % of its tokens are estimates\n",
        statement.estimated_permille / 10,
        statement.estimated_permille % 10
    );
    let line = |text: &mut String, name: &str, used: &Used| {
        let (messages, input, output) = (used.messages, used.input_tokens, used.output_tokens);
        let _ = writeln!(text, "  {name:<40} {messages:>10} {input:>16} {output:>16} {:>20}", money(used.cost_nanousd));
    };
    for (title, lines) in parts(statement) {
        let _ = writeln!(
            text,
            "  {:<40} {:>10} {:>16} {:>16} {:>20}",
            format!("BY {}", title.to_uppercase()),
            "MESSAGES",
            "INPUT",
            "OUTPUT",
            "COST"
        );
        for (name, used) in &lines {
            line(&mut text, name, used);
        }
        text.push('\n');
    }
    line(&mut text, "used", &statement.used);
    for (reason, cost) in &statement.rated_anew {
        line(&mut text, &format!("  in it, rated anew: {reason}"), &Used { cost_nanousd: *cost, ..Used::default() });
    }
    for Change { month, reason, used } in &statement.corrections {
        line(&mut text, &format!("correction of {month}: {reason}"), used);
    }
    let _ = writeln!(text, "  {:<40} {:>10} {:>16} {:>16} {:>20}", "owed", "", "", "", money(statement.owed_nanousd));
    text
}

fn csv_of(statement: &Statement) -> String {
    let mut csv = spreadsheet::line(["org", "month", "part", "name", "messages", "input_tokens", "output_tokens", "cost_nanousd"]);
    let mut line = |part: &str, name: &str, used: &Used| {
        let numbers = [used.messages, used.input_tokens, used.output_tokens, used.cost_nanousd].map(|number| number.to_string());
        let texts = [&statement.org, &statement.month, part, name].map(spreadsheet::text);
        csv.push_str(&spreadsheet::line(texts.iter().chain(&numbers)));
    };
    for (part, lines) in parts(statement) {
        for (name, used) in &lines {
            line(part, name, used);
        }
    }
    line("total", "used", &statement.used);
    for (reason, cost) in &statement.rated_anew {
        line("rated anew", reason, &Used { cost_nanousd: *cost, ..Used::default() });
    }
    for Change { month, reason, used } in &statement.corrections {
        line("correction", &format!("{month}: {reason}"), used);
    }
    line("total", "owed", &Used { cost_nanousd: statement.owed_nanousd, ..Used::default() });
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_read_strictly() {
        let zone = TimeZone::get("Asia/Seoul").expect("a zone");
        let november = month_of("2026-11", &zone).expect("a month");
        assert_eq!(november.ends.to_string(), "2026-11-30T15:00:00Z");
        for wrong in ["2026-13", "2026", "2026-1", "november", "2026-11-01", ""] {
            assert!(month_of(wrong, &zone).is_none(), "{wrong:?} is no month");
        }
    }
}
