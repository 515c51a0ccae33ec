//! Limits as a table for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::error::thousands;
use crate::prices::format_usd;

/// A limit as [`crate::limits::explain::Explained`] shows itself in JSON: here, from a running gateway, or in a row.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Shown {
    pub(super) scope: String,
    pub(super) resource: String,
    pub(super) window: String,
    pub(super) period: String,
    pub(super) mode: String,
    pub(super) limit: u64,
    pub(super) used: Option<u64>,
    pub(super) held: Option<u64>,
    pub(super) left: Option<u64>,
    pub(super) resets_at: Timestamp,
    pub(super) why: String,
}

/// The limits in `limits`, a list of them in JSON. What cannot be read is left out.
pub(super) fn shown(limits: &serde_json::Value) -> Vec<Shown> {
    let limits = limits.as_array().map(Vec::as_slice).unwrap_or_default();
    limits.iter().filter_map(|limit| Shown::deserialize(limit).ok()).collect()
}

/// A table of limits, with times in `zone`; everyone's end by UTC.
pub(super) fn of_limits(limits: &[Shown], zone: &TimeZone) -> String {
    let head = ["LIMIT", "PERIOD", "USED", "HELD", "LEFT", "OF", "MODE", "STARTS ANEW", "WHY"].map(str::to_owned);
    let rows = limits.iter().map(|limit| {
        let zone = if limit.scope == "everyone" { TimeZone::UTC } else { zone.clone() };
        let amount = |amount: Option<u64>| amount.map_or_else(|| "?".to_owned(), |amount| amount_of(&limit.resource, amount));
        [
            format!("{} {} per {}", limit.scope, limit.resource, limit.window),
            limit.period.clone(),
            amount(limit.used),
            amount(limit.held),
            amount(limit.left),
            amount(Some(limit.limit)),
            limit.mode.clone(),
            at(limit.resets_at, &zone),
            limit.why.clone(),
        ]
    });
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// An amount in its resource's unit: `1,234`, or dollars.
pub(super) fn amount_of(resource: &str, amount: u64) -> String {
    if resource == "cost" { format!("${}", format_usd(amount)) } else { thousands(u128::from(amount)) }
}

/// Nano-dollars, which may be owed to the other side: `-$0.50`.
pub(super) fn money(nanos: i64) -> String {
    format!("{}${}", if nanos < 0 { "-" } else { "" }, format_usd(nanos.unsigned_abs()))
}

/// An instant on the clock of a zone: `2026-11-21 00:00 Asia/Seoul`.
pub(super) fn at(instant: Timestamp, zone: &TimeZone) -> String {
    let zoned = instant.to_zoned(zone.clone());
    format!("{} {}", zoned.strftime("%Y-%m-%d %H:%M"), zone.iana_name().unwrap_or("UTC"))
}

/// Columns as wide as their widest cell; amounts stand to the right.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    const AMOUNTS: std::ops::RangeInclusive<usize> = 2..=5;
    let mut widths = BTreeMap::<usize, usize>::new();
    for (column, cell) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        let width = widths.entry(column).or_default();
        *width = (*width).max(cell.chars().count());
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths.get(&column).copied().unwrap_or_default();
            // Writing to a string does not fail.
            let _ = if AMOUNTS.contains(&column) { write!(line, "  {cell:>width$}") } else { write!(line, "  {cell:<width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let limits = serde_json::json!([
            {"scope": "member", "resource": "tokens", "window": "day", "period": "2026-11-20", "mode": "enforce", "limit": 200_000,
             "used": 1234, "held": 0, "left": 198_766, "resets_at": "2026-11-20T15:00:00Z", "why": "limits[0]: any member"},
            {"scope": "everyone", "resource": "cost", "window": "month", "period": "2026-11", "mode": "shadow", "limit": 5_000_000_000_u64,
             "used": null, "held": null, "left": null, "resets_at": "2026-12-01T00:00:00Z", "why": "limits[1]: everyone"},
            {"is": "no limit"},
        ]);
        let limits = shown(&limits);
        assert_eq!(limits.len(), 2, "what is no limit is left out");
        let zone = TimeZone::get("Asia/Seoul").expect("a zone");
        let table = of_limits(&limits, &zone);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert_eq!(
            lines[1],
            "  member tokens per day    2026-11-20  1,234     0  198,766  200,000  enforce  2026-11-21 00:00 Asia/Seoul  limits[0]: any member"
        );
        assert!(lines[2].contains('?') && lines[2].contains("$5.00") && lines[2].contains("2026-12-01 00:00 UTC"), "{table}");
    }
}
