//! Daily sums that are kept beside the rows, in the same transaction, so that a year of traffic is read in milliseconds.
//!
//! Only rows that were really new are added, which makes writing twice harmless here too. Days are the org's own; months
//! are the sums of their days. Averages are kept as sum and count.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::clean::{ID_BYTES, NAME_BYTES};
use super::sql::stored;
use super::sqlite::sortable;
use super::{Category, Outcome, StoredAudit, StoredUsage, ToolRow};

/// How a number of a line takes in another of the same column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// They are added up; the sum stays at the largest number that a database holds.
    Sum,
    /// The smaller one stays; nothing is larger than any.
    Low,
    /// The larger one stays; nothing is smaller than any.
    High,
}

/// A table of daily sums of rows of the kind `R`: what its lines are told apart by, and what they hold.
pub(super) struct Rollup<R, const K: usize, const N: usize> {
    pub(super) table: &'static str,
    pub(super) keys: [&'static str; K],
    pub(super) numbers: [(&'static str, Merge); N],
    /// What one row adds; nothing if it does not count.
    line: for<'row> fn(&'row R) -> Option<Line<'row, K, N>>,
}

type Line<'row, const K: usize, const N: usize> = (Keys<'row, K>, [Option<i64>; N]);

/// What a line is told apart by; most of it stands in the row.
pub(super) type Keys<'row, const K: usize> = [Cow<'row, str>; K];

/// Lines in the order of their keys: writers that take them in one order cannot lock each other out.
pub(super) type Lines<'row, const K: usize, const N: usize> = BTreeMap<Keys<'row, K>, [Option<i64>; N]>;

impl<R, const K: usize, const N: usize> Rollup<R, K, N> {
    /// What these rows add.
    pub(super) fn lines<'row>(&self, rows: impl IntoIterator<Item = &'row R>) -> Lines<'row, K, N>
    where
        R: 'row,
    {
        let mut lines = Lines::new();
        for (keys, numbers) in rows.into_iter().filter_map(self.line) {
            lines.entry(keys).and_modify(|held| self.merge(held, numbers)).or_insert(numbers);
        }
        lines
    }

    /// Adds the numbers of one line to another.
    pub(super) fn merge(&self, held: &mut [Option<i64>; N], more: [Option<i64>; N]) {
        for ((held, more), (_, merge)) in held.iter_mut().zip(more).zip(self.numbers) {
            *held = merge.both(*held, more);
        }
    }

    /// The columns, keys first.
    pub(super) fn columns(&self) -> String {
        let numbers = self.numbers.iter().map(|(column, _)| *column);
        self.keys.iter().copied().chain(numbers).collect::<Vec<_>>().join(", ")
    }

    /// What an INSERT does where a line is there already, in words that both databases understand.
    pub(super) fn on_conflict(&self) -> String {
        let keys = self.keys.join(", ");
        let table = self.table;
        let merged = self.numbers.iter().map(|(column, merge)| match merge {
            Merge::Sum => format!(
                "{column} = CASE WHEN excluded.{column} <= 0 THEN {table}.{column} + excluded.{column} \
                 WHEN {table}.{column} > {max} - excluded.{column} THEN {max} ELSE {table}.{column} + excluded.{column} END",
                max = i64::MAX
            ),
            Merge::Low | Merge::High => format!(
                "{column} = CASE WHEN {table}.{column} IS NULL OR excluded.{column} {sign} {table}.{column} \
                 THEN excluded.{column} ELSE {table}.{column} END",
                sign = if *merge == Merge::Low { "<" } else { ">" }
            ),
        });
        format!(" ON CONFLICT ({keys}) DO UPDATE SET {}", merged.collect::<Vec<_>>().join(", "))
    }
}

impl Merge {
    fn both(self, one: Option<i64>, other: Option<i64>) -> Option<i64> {
        match (one, other) {
            (Some(one), Some(other)) => Some(match self {
                Self::Sum => one.saturating_add(other),
                Self::Low => one.min(other),
                Self::High => one.max(other),
            }),
            (one, other) => one.or(other),
        }
    }
}

/// What members used of models, by day.
///
/// A generation's first row stands for the generation: it alone counts as one, as an error, and with its times, so that
/// sums over models count nothing twice.
pub(super) const USAGE_DAILY: Rollup<StoredUsage, 6, 19> = Rollup {
    table: "usage_daily",
    keys: ["org_id", "org_day", "org_month", "member_id", "model", "endpoint"],
    numbers: [
        ("messages", Merge::Sum),
        ("generations", Merge::Sum),
        ("uses", Merge::Sum),
        ("errors", Merge::Sum),
        ("input_tokens", Merge::Sum),
        ("output_tokens", Merge::Sum),
        ("cache_read_tokens", Merge::Sum),
        ("cache_write_tokens", Merge::Sum),
        ("total_tokens", Merge::Sum),
        ("estimated_tokens", Merge::Sum),
        ("cost_nanousd", Merge::Sum),
        ("first_token_ms_sum", Merge::Sum),
        ("first_token_count", Merge::Sum),
        ("first_token_ms_min", Merge::Low),
        ("first_token_ms_max", Merge::High),
        ("response_ms_sum", Merge::Sum),
        ("response_count", Merge::Sum),
        ("response_ms_min", Merge::Low),
        ("response_ms_max", Merge::High),
    ],
    line: usage_line,
};

#[expect(clippy::unnecessary_wraps, reason = "of other kinds there are rows that do not count")]
fn usage_line(row: &StoredUsage) -> Option<Line<'_, 6, 19>> {
    let first = row.id == row.generation_id;
    let failed = matches!(row.status.as_str(), "failed" | "lost");
    let estimated = matches!(row.usage_source.as_str(), "context" | "counted");
    let first_token = first_token(row);
    // How long a person lets an answer run before stopping it is no response time.
    let response = (first && row.status == "completed").then(|| stored(row.duration_ms));
    let keys = [
        bounded(&row.org_id, ID_BYTES),
        bounded(&row.org_day, NAME_BYTES),
        bounded(&row.org_month, NAME_BYTES),
        bounded(&row.member_id, ID_BYTES),
        bounded(&row.model, NAME_BYTES),
        bounded(&row.endpoint, NAME_BYTES),
    ];
    let numbers = [
        Some(stored(row.messages)),
        one_if(first),
        one_if(true),
        one_if(first && failed),
        Some(stored(row.input_tokens)),
        Some(stored(row.output_tokens)),
        Some(stored(row.cache_read_tokens)),
        Some(stored(row.cache_write_tokens)),
        Some(stored(row.total_tokens)),
        Some(if estimated { stored(row.total_tokens) } else { 0 }),
        Some(stored(row.cost_nanousd)),
        first_token.or(Some(0)),
        one_if(first_token.is_some()),
        first_token,
        first_token,
        response.or(Some(0)),
        one_if(response.is_some()),
        response,
        response,
    ];
    Some((keys, numbers))
}

/// What members used, whatever the model: a third of the lines, for questions about everyone over a long time.
pub(super) const MEMBERS_DAILY: Rollup<StoredUsage, 4, 12> = Rollup {
    table: "members_daily",
    keys: ["org_id", "org_day", "org_month", "member_id"],
    numbers: [
        ("messages", Merge::Sum),
        ("generations", Merge::Sum),
        ("errors", Merge::Sum),
        ("input_tokens", Merge::Sum),
        ("cache_read_tokens", Merge::Sum),
        ("total_tokens", Merge::Sum),
        ("estimated_tokens", Merge::Sum),
        ("cost_nanousd", Merge::Sum),
        ("first_token_ms_sum", Merge::Sum),
        ("first_token_count", Merge::Sum),
        ("response_ms_sum", Merge::Sum),
        ("response_count", Merge::Sum),
    ],
    line: member_line,
};

fn member_line(row: &StoredUsage) -> Option<Line<'_, 4, 12>> {
    let ([org, day, month, member, ..], numbers) = usage_line(row)?;
    let [messages, generations, _, errors, input, _, cache_read, _, total, estimated, cost, rest @ ..] = numbers;
    let [first_token, first_tokens, _, _, response, responses, _, _] = rest;
    let numbers =
        [messages, generations, errors, input, cache_read, total, estimated, cost, first_token, first_tokens, response, responses];
    Some(([org, day, month, member], numbers))
}

/// What was used of models, whoever used them: few lines, for questions about models over a long time.
pub(super) const MODELS_DAILY: Rollup<StoredUsage, 5, 9> = Rollup {
    table: "models_daily",
    keys: ["org_id", "org_day", "org_month", "model", "endpoint"],
    numbers: [
        ("messages", Merge::Sum),
        ("generations", Merge::Sum),
        ("uses", Merge::Sum),
        ("errors", Merge::Sum),
        ("total_tokens", Merge::Sum),
        ("estimated_tokens", Merge::Sum),
        ("cost_nanousd", Merge::Sum),
        ("response_ms_sum", Merge::Sum),
        ("response_count", Merge::Sum),
    ],
    line: model_line,
};

fn model_line(row: &StoredUsage) -> Option<Line<'_, 5, 9>> {
    let ([org, day, month, _, model, endpoint], numbers) = usage_line(row)?;
    let [messages, generations, uses, errors, _, _, _, _, total, estimated, cost, _, _, _, _, response, responses, _, _] = numbers;
    Some(([org, day, month, model, endpoint], [messages, generations, uses, errors, total, estimated, cost, response, responses]))
}

/// When orgs work: what they used, by the hour of UTC that a row's time is in. Nothing of costs is here, so that corrections need
/// not look for the hour.
pub(super) const USAGE_BY_HOUR: Rollup<StoredUsage, 4, 4> = Rollup {
    table: "usage_by_hour",
    keys: ["org_id", "org_day", "org_month", "hour"],
    numbers: [
        ("messages", Merge::Sum),
        ("total_tokens", Merge::Sum),
        ("first_token_ms_sum", Merge::Sum),
        ("first_token_count", Merge::Sum),
    ],
    line: hour_line,
};

#[expect(clippy::unnecessary_wraps, reason = "of other kinds there are rows that do not count")]
fn hour_line(row: &StoredUsage) -> Option<Line<'_, 4, 4>> {
    let first_token = first_token(row);
    let mut hour = sortable(row.time);
    hour.truncate("2026-11-20T12".len());
    hour.push_str(":00:00.000000Z");
    let keys = [bounded(&row.org_id, ID_BYTES), bounded(&row.org_day, NAME_BYTES), bounded(&row.org_month, NAME_BYTES), Cow::Owned(hour)];
    Some((keys, [Some(stored(row.messages)), Some(stored(row.total_tokens)), first_token.or(Some(0)), one_if(first_token.is_some())]))
}

/// A generation's first row alone has its times.
fn first_token(row: &StoredUsage) -> Option<i64> {
    row.time_to_first_token_ms.filter(|_| row.id == row.generation_id).map(stored)
}

/// What tools members' messages called, by day.
pub(super) const TOOLS_DAILY: Rollup<ToolRow, 6, 6> = Rollup {
    table: "tools_daily",
    keys: ["org_id", "org_day", "org_month", "member_id", "tool", "mcp_server"],
    numbers: [
        ("calls", Merge::Sum),
        ("failures", Merge::Sum),
        ("duration_ms_sum", Merge::Sum),
        ("duration_count", Merge::Sum),
        ("duration_ms_min", Merge::Low),
        ("duration_ms_max", Merge::High),
    ],
    line: tool_line,
};

#[expect(clippy::unnecessary_wraps, reason = "of other kinds there are rows that do not count")]
fn tool_line(row: &ToolRow) -> Option<Line<'_, 6, 6>> {
    let duration = row.duration_ms.map(stored);
    let keys = [
        bounded(&row.org_id, ID_BYTES),
        bounded(&row.org_day, NAME_BYTES),
        bounded(&row.org_month, NAME_BYTES),
        bounded(&row.member_id, ID_BYTES),
        bounded(&row.tool, NAME_BYTES),
        bounded(row.mcp_server.as_deref().unwrap_or_default(), NAME_BYTES),
    ];
    let failed = one_if(row.outcome == Outcome::Failure);
    Some((keys, [one_if(true), failed, duration.or(Some(0)), one_if(duration.is_some()), duration, duration]))
}

/// The audited requests that members made, by day: rows of category API that stand for a request.
pub(super) const REQUESTS_DAILY: Rollup<StoredAudit, 4, 2> = Rollup {
    table: "requests_daily",
    keys: ["org_id", "org_day", "org_month", "member_id"],
    numbers: [("api_calls", Merge::Sum), ("errors", Merge::Sum)],
    line: request_line,
};

fn request_line(row: &StoredAudit) -> Option<Line<'_, 4, 2>> {
    let (org, day) = row.org_id.as_deref().zip(row.org_day.as_deref())?;
    if row.category != Category::Api || row.method.is_none() {
        return None;
    }
    let count = stored(row.count);
    let errors = if row.outcome == Outcome::Failure { count } else { 0 };
    // `2026-11-20` is a day of the month `2026-11`.
    let month = day.get(..7).unwrap_or(day);
    let (day, month) = (bounded(day, NAME_BYTES), bounded(month, NAME_BYTES));
    let member = bounded(row.actor_id.as_deref().unwrap_or_default(), ID_BYTES);
    Some(([bounded(org, ID_BYTES), day, month, member], [Some(count), Some(errors)]))
}

/// Rows are cleaned where they are recorded; whatever comes another way must not fail for a key too long for an index.
fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    Cow::Borrowed(&text[..text.floor_char_boundary(most)])
}

#[expect(clippy::unnecessary_wraps, reason = "a number of a line may be missing")]
fn one_if(holds: bool) -> Option<i64> {
    Some(i64::from(holds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Batches come as they come: how rows are cut into them must not show.
        #[test]
        fn merging_does_not_care_for_order_and_grouping(numbers in prop::array::uniform3(prop::option::of(0..=i64::MAX))) {
            let [a, b, c] = numbers;
            for merge in [Merge::Sum, Merge::Low, Merge::High] {
                prop_assert_eq!(merge.both(a, b), merge.both(b, a));
                prop_assert_eq!(merge.both(merge.both(a, b), c), merge.both(a, merge.both(b, c)));
                prop_assert_eq!(merge.both(a, None), a);
            }
        }
    }
}
