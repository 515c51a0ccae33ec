//! What an org owes for a month: a function of the month's rows, of what was corrected since, and of the statements that
//! were closed before.
//!
//! A closed statement is never drawn again. What changes about its month afterwards (rows that came late, rows that were
//! rated anew) is shown by the next statement, as corrections with their reason: the difference between the month as it is
//! now and as it was closed, less what statements in between have shown already.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ledger::{CorrectedLine, Line, Used};

/// The reason of corrections that are no corrections of anyone's: the rows came after the month was closed.
pub const LATE_ROWS: &str = "rows that came after the month was closed";

/// Sources whose numbers are counted here or estimated, and not a provider's own, as in the daily sums.
const ESTIMATED: [&str; 2] = ["context", "counted"];

/// What an org used in a month, and owes for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The org's id.
    pub org: String,
    /// The month in the org's calendar, `2026-11`.
    pub month: String,
    /// The zone of that calendar.
    pub time_zone: String,
    /// When it was closed; nothing while it may still change.
    pub closed_at: Option<Timestamp>,
    /// What the rows say, before anything was rated anew.
    pub as_recorded: Used,
    /// What was rated anew, by reason, in nano-dollars.
    pub rated_anew: BTreeMap<String, i64>,
    /// What was used: as recorded, and rated anew.
    pub used: Used,
    /// By member.
    pub by_member: BTreeMap<String, Used>,
    /// By model; empty where no row names one.
    pub by_model: BTreeMap<String, Used>,
    /// By day of the org.
    pub by_day: BTreeMap<String, Used>,
    /// By where the numbers come from, as recorded.
    pub by_source: BTreeMap<String, Used>,
    /// Of the tokens, those that were counted or estimated here: `context` and `counted`; in tenths of a percent.
    pub estimated_permille: i64,
    /// By version of the prices, as recorded.
    pub by_price_version: BTreeMap<String, Used>,
    /// What changed about earlier months after they were closed.
    pub corrections: Vec<Change>,
    /// What is owed: the cost of what was used, and of the corrections, in nano-dollars.
    pub owed_nanousd: i64,
}

/// What changed about a closed month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The month.
    pub month: String,
    /// Why.
    pub reason: String,
    /// What is added to it.
    pub used: Used,
}

impl Used {
    /// Input and output.
    pub fn tokens(self) -> i64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    fn add(&mut self, more: Self) {
        self.messages = self.messages.saturating_add(more.messages);
        self.input_tokens = self.input_tokens.saturating_add(more.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(more.output_tokens);
        self.cost_nanousd = self.cost_nanousd.saturating_add(more.cost_nanousd);
    }

    fn less(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            input_tokens: self.input_tokens.saturating_sub(other.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(other.output_tokens),
            cost_nanousd: self.cost_nanousd.saturating_sub(other.cost_nanousd),
        }
    }
}

/// The month as its rows and corrections are now, without corrections of earlier months.
pub fn of_month(org: &str, month: &str, time_zone: &str, lines: &[Line], corrected: &[CorrectedLine]) -> Statement {
    let mut statement = Statement {
        org: org.to_owned(),
        month: month.to_owned(),
        time_zone: time_zone.to_owned(),
        closed_at: None,
        as_recorded: Used::default(),
        rated_anew: BTreeMap::new(),
        used: Used::default(),
        by_member: BTreeMap::new(),
        by_model: BTreeMap::new(),
        by_day: BTreeMap::new(),
        by_source: BTreeMap::new(),
        estimated_permille: 0,
        by_price_version: BTreeMap::new(),
        corrections: Vec::new(),
        owed_nanousd: 0,
    };
    for line in lines {
        statement.as_recorded.add(line.used);
        statement.split(&line.member_id, &line.model, &line.org_day, line.used);
        statement.by_source.entry(line.usage_source.clone()).or_default().add(line.used);
        statement.by_price_version.entry(line.price_version.clone()).or_default().add(line.used);
    }
    for line in corrected {
        let difference = Used { cost_nanousd: line.cost_difference_nanousd, ..Used::default() };
        *statement.rated_anew.entry(line.reason.clone()).or_default() += line.cost_difference_nanousd;
        statement.split(&line.member_id, &line.model, &line.org_day, difference);
    }
    let estimated = |(source, used): (&String, &Used)| if ESTIMATED.contains(&source.as_str()) { used.tokens() } else { 0 };
    let estimated: i64 = statement.by_source.iter().map(estimated).sum();
    statement.estimated_permille = estimated.saturating_mul(1000).checked_div(statement.as_recorded.tokens()).unwrap_or_default();
    statement.owed_nanousd = statement.used.cost_nanousd;
    statement
}

impl Statement {
    fn split(&mut self, member: &str, model: &str, day: &str, used: Used) {
        self.used.add(used);
        self.by_member.entry(member.to_owned()).or_default().add(used);
        self.by_model.entry(model.to_owned()).or_default().add(used);
        self.by_day.entry(day.to_owned()).or_default().add(used);
    }

    /// Takes up what changed about earlier months.
    pub fn correct(&mut self, changes: Vec<Change>) {
        for change in &changes {
            self.owed_nanousd = self.owed_nanousd.saturating_add(change.used.cost_nanousd);
        }
        self.corrections.extend(changes);
    }
}

/// What changed about a month since it was closed, where `now` is the month as it is and `shown` is what later closed
/// statements have shown of it.
pub fn changes<'a>(closed: &Statement, now: &Statement, shown: impl Iterator<Item = &'a Change>) -> Vec<Change> {
    let mut changed = BTreeMap::<&str, Used>::new();
    changed.insert(LATE_ROWS, now.as_recorded.less(closed.as_recorded));
    for (reason, cost) in &now.rated_anew {
        let before = closed.rated_anew.get(reason).copied().unwrap_or_default();
        changed.insert(reason, Used { cost_nanousd: cost - before, ..Used::default() });
    }
    for change in shown.filter(|change| change.month == closed.month) {
        let left = changed.entry(&change.reason).or_default();
        *left = left.less(change.used);
    }
    let changed = changed.into_iter().filter(|(_, used)| *used != Used::default());
    changed.map(|(reason, used)| Change { month: closed.month.clone(), reason: reason.to_owned(), used }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(messages: i64, input_tokens: i64, cost_nanousd: i64) -> Used {
        Used { messages, input_tokens, output_tokens: 0, cost_nanousd }
    }

    fn line(member: &str, source: &str, used: Used) -> Line {
        Line {
            member_id: member.to_owned(),
            model: "m".to_owned(),
            org_day: "2026-11-20".to_owned(),
            usage_source: source.to_owned(),
            price_version: "1".to_owned(),
            used,
        }
    }

    fn corrected(reason: &str, cost_difference_nanousd: i64) -> CorrectedLine {
        CorrectedLine {
            member_id: "ann".to_owned(),
            model: "m".to_owned(),
            org_day: "2026-11-20".to_owned(),
            reason: reason.to_owned(),
            cost_difference_nanousd,
        }
    }

    fn november(lines: &[Line], corrections: &[CorrectedLine]) -> Statement {
        of_month("acme", "2026-11", "UTC", lines, corrections)
    }

    #[test]
    fn every_split_adds_up_to_the_whole() {
        let lines = [line("ann", "frames", used(1, 700, 70)), line("bob", "context", used(2, 300, 30))];
        let statement = november(&lines, &[corrected("wrong price", -20)]);
        assert_eq!((statement.used, statement.as_recorded), (used(3, 1000, 80), used(3, 1000, 100)));
        for split in [&statement.by_member, &statement.by_model, &statement.by_day] {
            let mut all = Used::default();
            for part in split.values() {
                all.add(*part);
            }
            assert_eq!(all, statement.used);
        }
        assert_eq!((statement.estimated_permille, statement.owed_nanousd), (300, 80));
        assert_eq!(statement.by_member["ann"], used(1, 700, 50), "a correction is the member's whose row was rated anew");
    }

    #[test]
    fn what_changes_after_the_close_is_shown_once_with_its_reason() {
        let closed = november(&[line("ann", "frames", used(1, 700, 70))], &[corrected("first", 5)]);
        assert_eq!(changes(&closed, &closed, std::iter::empty()), [], "nothing changed");
        let late = [line("ann", "frames", used(1, 700, 70)), line("bob", "frames", used(1, 10, 1))];
        let now = november(&late, &[corrected("first", 5), corrected("second", -40)]);
        let first = changes(&closed, &now, std::iter::empty());
        let told: Vec<_> = first.iter().map(|change| (change.reason.as_str(), change.used)).collect();
        assert_eq!(told, [(LATE_ROWS, used(1, 10, 1)), ("second", used(0, 0, -40))]);
        assert_eq!(changes(&closed, &now, first.iter()), [], "the next statement has shown it; the one after does not");
        let again = november(&late, &[corrected("first", 5), corrected("second", -45)]);
        let second = changes(&closed, &again, first.iter());
        assert_eq!(second, [Change { month: "2026-11".to_owned(), reason: "second".to_owned(), used: used(0, 0, -5) }]);
        let mut december = of_month("acme", "2026-12", "UTC", &[line("ann", "frames", used(1, 1, 100))], &[]);
        december.correct(first);
        assert_eq!(december.owed_nanousd, 100 + 1 - 40);
    }

    #[test]
    fn an_empty_month_owes_nothing() {
        let statement = november(&[], &[]);
        assert_eq!((statement.owed_nanousd, statement.estimated_permille), (0, 0));
    }
}
