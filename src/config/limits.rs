//! `[[limits]]` and `[limits_defaults]`: who may use how much. Which limit applies to whom is
//! `crate::limits::rules`' to say, and which of them contradict each other.

use std::sync::Arc;

use serde::Deserialize;

use super::errors::Errors;
use super::ready;
use super::values::amount;
use crate::identity::ROLES;
use crate::limits::rules::AppliesTo;
use crate::limits::{Mode, OnFailure, Resource, Window};
use crate::prices::Usd;

/// One entry of `[[limits]]`, with the defaults of the place filled in. It has at least one amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its place in the file: 2 for `limits[2]`.
    pub index: usize,
    /// Whose use it bounds.
    pub applies_to: AppliesTo,
    /// Only in this org; a known org's id.
    pub org: Option<Arc<str>>,
    /// Only with this plan.
    pub plan: Option<Arc<str>>,
    /// Only members with this role.
    pub role: Option<Arc<str>>,
    /// Only this member.
    pub member: Option<Arc<str>>,
    /// The amounts, in the resource's unit (cost in nano-dollars); at most one for a resource and window.
    pub amounts: Vec<(Resource, Window, u64)>,
    /// Whether it refuses.
    pub mode: Mode,
    /// What happens when the store is away.
    pub on_failure: OnFailure,
}

impl Limit {
    /// What errors and explanations call it: `limits[2]`.
    pub fn name(&self) -> String {
        format!("limits[{}]", self.index)
    }

    /// The amount for this resource and window, if it names one; in the resource's unit.
    pub fn amount(&self, resource: Resource, window: Window) -> Option<u64> {
        self.amounts.iter().find(|(of, within, _)| (*of, *within) == (resource, window)).map(|(_, _, amount)| *amount)
    }
}

/// What limits do that do not say it themselves.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsDefaults {
    /// The mode of limits that name none. `shadow` goes further: every limit is then a shadow, whatever it says.
    pub mode: Option<Mode>,
}

/// One limit as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitKeys {
    applies_to: Option<AppliesTo>,
    org: Option<Arc<str>>,
    plan: Option<Arc<str>>,
    role: Option<Arc<str>>,
    member: Option<Arc<str>>,
    #[serde(deserialize_with = "amount")]
    tokens_per_day: Option<u64>,
    #[serde(deserialize_with = "amount")]
    tokens_per_month: Option<u64>,
    #[serde(deserialize_with = "amount")]
    messages_per_day: Option<u64>,
    #[serde(deserialize_with = "amount")]
    messages_per_month: Option<u64>,
    usd_per_day: Option<Usd>,
    usd_per_month: Option<Usd>,
    mode: Option<Mode>,
    on_failure: Option<OnFailure>,
}

impl LimitKeys {
    fn amounts(&self) -> Vec<(Resource, Window, u64)> {
        let amounts = [
            (Resource::Tokens, Window::Day, self.tokens_per_day),
            (Resource::Tokens, Window::Month, self.tokens_per_month),
            (Resource::Messages, Window::Day, self.messages_per_day),
            (Resource::Messages, Window::Month, self.messages_per_month),
            (Resource::Cost, Window::Day, self.usd_per_day.map(Usd::nanos)),
            (Resource::Cost, Window::Month, self.usd_per_month.map(Usd::nanos)),
        ];
        amounts.into_iter().filter_map(|(resource, window, amount)| Some((resource, window, amount?))).collect()
    }

    /// The keys that narrow this limit, and what each says.
    fn narrowings(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        let keys = [("org", &self.org), ("plan", &self.plan), ("role", &self.role), ("member", &self.member)];
        keys.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

/// Checks every limit. `orgs` are the ids of the known orgs, `None` when those could not all be read.
pub(super) fn check(
    keys: Vec<LimitKeys>,
    defaults: &LimitsDefaults,
    on_failure: OnFailure,
    orgs: Option<&[Arc<str>]>,
    errors: &mut Errors,
) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (index, keys) in keys.into_iter().enumerate() {
        let at = format!("limits[{index}]");
        let amounts = keys.amounts();
        if amounts.is_empty() && !errors.clouds(&at) {
            errors.add(
                &at,
                "limits nothing; give at least one of tokens_per_day, tokens_per_month, messages_per_day, messages_per_month, usd_per_day, usd_per_month",
            );
        }
        let Some(applies_to) = keys.applies_to else {
            errors.add(format!("{at}.applies_to"), "missing; allowed: member, org, everyone");
            continue;
        };
        check_narrowing(&keys, applies_to, orgs, &at, errors);
        let mode = match defaults.mode {
            Some(Mode::Shadow) => Mode::Shadow,
            default => keys.mode.or(default).unwrap_or(Mode::Enforce),
        };
        let on_failure = keys.on_failure.unwrap_or(on_failure);
        let LimitKeys { org, plan, role, member, .. } = keys;
        limits.push(Limit { index, applies_to, org, plan, role, member, amounts, mode, on_failure });
    }
    // Limits that could not be read whole may look alike without being it.
    if !errors.clouds("limits") {
        ready::check_ties(&limits, errors);
    }
    limits
}

fn check_narrowing(keys: &LimitKeys, applies_to: AppliesTo, orgs: Option<&[Arc<str>]>, at: &str, errors: &mut Errors) {
    let (whose, allowed): (&str, &[&str]) = match applies_to {
        AppliesTo::Member => ("a limit of members", &["org", "plan", "role", "member"]),
        AppliesTo::Org => ("a limit of orgs", &["org", "plan"]),
        AppliesTo::Everyone => ("a limit of everyone", &[]),
    };
    for (key, value) in keys.narrowings() {
        let path = format!("{at}.{key}");
        if !allowed.contains(&key) {
            let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
            errors.add(path, format!("{whose} is not narrowed by {key}; allowed: {allowed}"));
        } else if value.trim().is_empty() {
            errors.add(path, "is empty; leave the key out or give it a value");
        } else if key == "org"
            && let Some(known) = orgs.filter(|known| !known.contains(value))
        {
            errors.add(path, super::orgs::unknown(value, known));
        } else if key == "role" && !ROLES.contains(&&**value) {
            errors.add(path, format!("\"{value}\" is no role; allowed: {}", ROLES.join(", ")));
        }
    }
}
