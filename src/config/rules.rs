//! From the configuration to what the gateway looks up: limits and prices.

use super::limits::{AppliesTo, Limit};
use super::{Config, Prices};
use crate::limits::rules::{self, LimitRule, RuleError, Rules};
use crate::limits::{Mode, OnFailure, Resource, Window};
use crate::prices::{PriceTable, PriceTableError};

impl Config {
    /// The limits, ready to be looked up. Those that contradict each other are errors.
    pub fn rules(&self) -> Result<Rules, Vec<RuleError>> {
        let rules = Rules::new(self.limits.iter().map(rule).collect())?;
        Ok(rules.with_token_caps(self.limits_defaults.mode.unwrap_or(Mode::Enforce), self.store.on_failure))
    }
}

impl Limit {
    /// Whether every chat has to pass it.
    pub fn concerns_everyone(&self) -> bool {
        self.org.is_none() && self.plan.is_none() && self.role.is_none() && self.member.is_none() && self.mode == Mode::Enforce
    }

    /// Whether it refuses when the store is away.
    pub fn closes(&self) -> bool {
        self.mode == Mode::Enforce && self.on_failure == OnFailure::Closed
    }
}

impl Prices {
    /// The price table: the configured file, or the one that is built in.
    pub fn table(&self) -> Result<PriceTable, PriceTableError> {
        match &self.file {
            None => PriceTable::built_in(),
            Some(file) => PriceTable::parse(&std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?),
        }
    }
}

fn unreadable(file: &std::path::Path, error: &std::io::Error) -> PriceTableError {
    PriceTableError::Syntax(format!("{} cannot be read: {error}", file.display()))
}

fn rule(limit: &Limit) -> LimitRule {
    let amount =
        |resource, window| limit.amounts.iter().find(|(of, per, _)| (*of, *per) == (resource, window)).map(|(_, _, amount)| *amount);
    LimitRule {
        name: format!("limits[{}]", limit.index).into(),
        applies_to: match limit.applies_to {
            AppliesTo::Member => rules::AppliesTo::Member,
            AppliesTo::Org => rules::AppliesTo::Org,
            AppliesTo::Everyone => rules::AppliesTo::Everyone,
        },
        org: limit.org.clone(),
        plan: limit.plan.clone(),
        role: limit.role.clone(),
        member: limit.member.clone(),
        tokens_per_day: amount(Resource::Tokens, Window::Day),
        tokens_per_month: amount(Resource::Tokens, Window::Month),
        messages_per_day: amount(Resource::Messages, Window::Day),
        messages_per_month: amount(Resource::Messages, Window::Month),
        usd_per_day: amount(Resource::Cost, Window::Day),
        usd_per_month: amount(Resource::Cost, Window::Month),
        mode: limit.mode,
        on_failure: limit.on_failure,
    }
}
