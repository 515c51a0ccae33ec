//! `tollgate usage reprice`: rates what was used anew, after prices were wrong.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::ledger::{self, Noted, Opened};
use super::say::say;
use super::table::money;
use super::{Exit, Source, failed, misconfigured, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::identity::Org;
use crate::prices::{Found, PriceTable, UnknownModel, Usage};
use crate::records::StoredUsage;
use crate::records::ledger::{Correction, PAGE, Place, Rated, Span};

/// What is to be rated anew.
#[derive(Debug, Clone)]
pub struct RepriceAsked {
    /// The org's id.
    pub org: String,
    /// The first day, in the org's calendar.
    pub from: String,
    /// The last day.
    pub to: String,
    /// Only this model.
    pub model: Option<String>,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    rows: u64,
    corrected: u64,
    difference: i64,
}

/// `tollgate usage reprice`: rates a span with the present prices, and writes the differences as corrections. Doing it
/// again changes nothing.
pub fn reprice(source: &Source, asked: &RepriceAsked) -> Exit {
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let Some(org) = ledger::org_of(&config, &asked.org) else { return Exit::Configuration };
    let Some(span) = ledger::span_of(Some(&org), &asked.from, &asked.to) else { return Exit::Configuration };
    let prices = match config.prices.table() {
        Ok(prices) => prices,
        Err(error) => return misconfigured(&error),
    };
    wait_for(async move {
        let opened = match Opened::open(&config).await {
            Ok(opened) => opened,
            Err(reason) => return failed(&reason),
        };
        let rated =
            rate_span(&opened, &Rating { prices: &prices, unknown: config.prices.unknown_model, org: &org, span: &span }, asked).await;
        opened.close().await;
        match rated {
            Ok(Outcome { rows, corrected, difference }) => {
                let done = if asked.dry_run { "would be corrected" } else { "corrected" };
                let (difference, version) = (money(difference), prices.version());
                say(&format!("{corrected} of {rows} usage rows {done} by {difference} in all, to price version {version}.\n"))
            }
            Err(reason) => failed(&reason),
        }
    })
}

/// What is rated, and how.
struct Rating<'a> {
    prices: &'a PriceTable,
    unknown: UnknownModel,
    org: &'a Org,
    span: &'a Span,
}

async fn rate_span(opened: &Opened, rating: &Rating<'_>, asked: &RepriceAsked) -> Result<Outcome, String> {
    let Rating { prices, unknown, org, span } = *rating;
    let now = SystemClock.now();
    let action = if asked.dry_run { "usage.rated" } else { "usage.repriced" };
    let detail = json!({ "model": asked.model, "price_version": &**prices.version() });
    let which = format!("{} to {}", asked.from, asked.to);
    opened.note(Noted { action, org: Some(org), kind: "usage", which, detail: Some(detail) }, now).await?;
    let mut outcome = Outcome::default();
    let mut after = Place::before(span);
    loop {
        let page = opened.ledger.usage_page(span, after).await.map_err(|error| error.to_string())?;
        let asked_for = page.iter().filter(|rated| asked.model.as_ref().is_none_or(|model| rated.row.model == *model));
        let mut corrections = Vec::new();
        for rated in asked_for {
            outcome.rows += 1;
            corrections.extend(correction(rated, prices, unknown, now));
        }
        for correction in &corrections {
            outcome.corrected += 1;
            outcome.difference = outcome.difference.saturating_add(correction.cost_difference_nanousd);
        }
        if !asked.dry_run {
            opened.ledger.correct(&corrections).await.map_err(|error| error.to_string())?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Place { time: last.row.time, id: last.row.id },
            _ => return Ok(outcome),
        }
    }
}

/// The correction that brings a row to what it costs at these prices; nothing where it costs that.
fn correction(rated: &Rated, prices: &PriceTable, unknown: UnknownModel, now: Timestamp) -> Option<Correction> {
    let Rated { row, corrected_by, corrections } = rated;
    let before = i64::try_from(row.cost_nanousd).unwrap_or(i64::MAX).saturating_add(*corrected_by);
    let after = i64::try_from(cost(row, prices, unknown)).unwrap_or(i64::MAX);
    let difference = after.saturating_sub(before);
    (difference != 0).then(|| Correction {
        id: correction_id(row.id, *corrections, before, after),
        time: now,
        usage: row.clone(),
        cost_difference_nanousd: difference,
        price_version: Arc::clone(prices.version()),
        reason: format!("rated anew with price version {}", prices.version()),
    })
}

fn cost(row: &StoredUsage, prices: &PriceTable, unknown: UnknownModel) -> u64 {
    let usage = Usage {
        input: row.input_tokens,
        output: row.output_tokens,
        cache_read: row.cache_read_tokens,
        cache_write: row.cache_write_tokens,
    };
    match (prices.price(&row.model, row.time), unknown) {
        (Found::Known(price), _) => price.cost(usage),
        (Found::Unknown, UnknownModel::Free) => 0,
        (Found::Unknown, UnknownModel::DefaultPrice | UnknownModel::Reject) => prices.default_price().cost(usage),
    }
}

/// The same for whoever makes this row's next correction, so that two who rate it at once correct it once.
fn correction_id(usage: Uuid, corrections: i64, before: i64, after: i64) -> Uuid {
    let numbers = [corrections, before, after].map(i64::to_be_bytes).concat();
    let digest = Sha256::new().chain_update(usage.as_bytes()).chain_update(numbers).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
    Uuid::from_bytes(bytes)
}
