//! Which limits apply to a person.
//!
//! Every limit comes from one rule of the configuration. Per resource, window and mode the closest rule that matches
//! wins: member > role > org and plan > org > plan > default, where a closer selector outweighs all further ones
//! together. An allowance (of a member), a cap of the org and a cap of everyone are chosen apart and all apply.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Bar, Bucket, Charge, MAX_AMOUNT, Mode, OnFailure, Period, Resource, Scope, Window};
use crate::identity::Identity;

/// Whose use a rule limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppliesTo {
    /// Each member on their own: an allowance. May be narrowed by member, role, org and plan.
    Member,
    /// All of an org together: a cap. May be narrowed by org and plan.
    Org,
    /// Everyone behind this gateway together: a cap, in UTC. Cannot be narrowed.
    Everyone,
}

impl AppliesTo {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Org => "org",
            Self::Everyone => "everyone",
        }
    }
}

/// One `[[limits]]` entry of the configuration. A limit of 0 allows nothing; `None` limits nothing.
#[derive(Debug, Clone)]
pub struct LimitRule {
    /// What errors and answers call it: `limits[2]`.
    pub name: Arc<str>,
    /// Whose use it limits.
    pub applies_to: AppliesTo,
    /// Only this org.
    pub org: Option<Arc<str>>,
    /// Only orgs or members on this plan.
    pub plan: Option<Arc<str>>,
    /// Only members with this role.
    pub role: Option<Arc<str>>,
    /// Only this member, by id.
    pub member: Option<Arc<str>>,
    /// Tokens charged in a calendar day.
    pub tokens_per_day: Option<u64>,
    /// Tokens charged in a calendar month.
    pub tokens_per_month: Option<u64>,
    /// Accepted chat starts in a calendar day.
    pub messages_per_day: Option<u64>,
    /// Accepted chat starts in a calendar month.
    pub messages_per_month: Option<u64>,
    /// Cost in a calendar day, in nano-dollars.
    pub usd_per_day: Option<u64>,
    /// Cost in a calendar month, in nano-dollars.
    pub usd_per_month: Option<u64>,
    /// Whether it refuses, or only records that it would have.
    pub mode: Mode,
    /// What happens when the store is away.
    pub on_failure: OnFailure,
}

impl LimitRule {
    /// Each limit it can set, with the configuration's word for it, in the order of [`SLOTS`].
    fn limits(&self) -> [(&'static str, Option<u64>); SLOTS.len()] {
        [
            ("tokens_per_month", self.tokens_per_month),
            ("usd_per_month", self.usd_per_month),
            ("messages_per_month", self.messages_per_month),
            ("tokens_per_day", self.tokens_per_day),
            ("usd_per_day", self.usd_per_day),
            ("messages_per_day", self.messages_per_day),
        ]
    }
}

/// What is wrong with a set of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Neither of two rules is closer than the other.
    #[error("{first} and {second} both set {limit} for {whom}; neither is closer, so remove one of them")]
    Tie {
        /// The earlier rule.
        first: Arc<str>,
        /// The later rule.
        second: Arc<str>,
        /// The limit that both set.
        limit: &'static str,
        /// Whom both are about.
        whom: String,
    },
    /// A rule is narrowed by something that its `applies_to` does not know.
    #[error("{rule}.{selector} cannot narrow a limit that applies to {applies_to}; {allowed}")]
    Narrowing {
        /// The rule.
        rule: Arc<str>,
        /// What it is narrowed by.
        selector: &'static str,
        /// Whom it applies to.
        applies_to: &'static str,
        /// What may be used instead.
        allowed: &'static str,
    },
    /// A limit is larger than counters can be.
    #[error("{rule}.{limit} is above {MAX_AMOUNT} (usd: in nano-dollars), the largest amount that is counted exactly")]
    TooLarge {
        /// The rule.
        rule: Arc<str>,
        /// The limit.
        limit: &'static str,
    },
    /// A rule sets no limit at all.
    #[error("{rule} sets no limit; give it at least one of tokens, messages or usd, per_day or per_month")]
    Empty {
        /// The rule.
        rule: Arc<str>,
    },
}

/// Whose message is about to be charged.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The org's id.
    pub org: &'a Arc<str>,
    /// The member's id.
    pub member: &'a Arc<str>,
    /// The member's role.
    pub role: &'a Arc<str>,
    /// The plan, if there is one.
    pub plan: Option<&'a Arc<str>>,
    /// The org's calendar.
    pub zone: &'a TimeZone,
    /// One more monthly token cap of the org, from the sign-in token.
    pub org_tokens_per_month: Option<u64>,
}

impl<'a> Who<'a> {
    /// The person an identity proves, or `None` for one whom no org claims.
    pub fn of(identity: &'a Identity) -> Option<Self> {
        let org = identity.org.as_ref()?;
        Some(Self {
            org: &org.id,
            member: &identity.user,
            role: &identity.role,
            plan: identity.plan.as_ref(),
            zone: &org.zone,
            org_tokens_per_month: identity.org_tokens_per_month,
        })
    }
}

/// What a message would add to counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// How many messages it counts as: 1 for a chat start.
    pub messages: u64,
    /// Tokens, whatever the answer is.
    pub tokens_fixed: u64,
    /// Tokens for each token of room for the answer.
    pub tokens_per_room: u64,
    /// Nano-dollars, whatever the answer is.
    pub cost_fixed: u64,
    /// Nano-dollars for each token of room for the answer.
    pub cost_per_room: u64,
}

impl Amounts {
    /// The fixed part and the part per token of room.
    fn of(&self, resource: Resource) -> (u64, u64) {
        match resource {
            Resource::Tokens => (self.tokens_fixed, self.tokens_per_room),
            Resource::Messages => (self.messages, 0),
            Resource::Cost => (self.cost_fixed, self.cost_per_room),
        }
    }
}

/// Every rule of the configuration, checked and ready to be looked up.
#[derive(Debug)]
pub struct Rules {
    member: Table,
    org: Table,
    everyone: Table,
    token_cap: Bar,
    token_cap_mode: Mode,
}

impl Rules {
    /// Checks the rules against each other. Every mistake is reported, not only the first.
    pub fn new(rules: Vec<LimitRule>) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        let mut all = Self::none();
        for rule in rules {
            check(&rule, &mut errors);
            let table = match rule.applies_to {
                AppliesTo::Member => &mut all.member,
                AppliesTo::Org => &mut all.org,
                AppliesTo::Everyone => &mut all.everyone,
            };
            table.insert(&rule, &mut errors);
        }
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    /// No rules: nothing is limited, except by caps that sign-in tokens carry.
    pub fn none() -> Self {
        let why = Arc::from("the sign-in token's monthly cap for its org");
        Self {
            member: Table::default(),
            org: Table::default(),
            everyone: Table::default(),
            token_cap: Bar { limit: 0, on_failure: OnFailure::Closed, why },
            token_cap_mode: Mode::Enforce,
        }
    }

    /// How caps that sign-in tokens carry behave where no rule of the org says: by the defaults of the configuration.
    /// Without this they are enforced, and closed when the store is away.
    #[must_use]
    pub fn with_token_caps(mut self, mode: Mode, on_failure: OnFailure) -> Self {
        self.token_cap_mode = mode;
        self.token_cap.on_failure = on_failure;
        self
    }

    /// What a message adds to each counter that a limit stands on, each counter once.
    ///
    /// The order decides which limit a refusal names: months before days, so that the reset it tells of is the one
    /// that really opens the way, and within each the member's before the org's; everyone's come last.
    pub fn charges(&self, who: &Who<'_>, amounts: &Amounts, now: Timestamp) -> Vec<Charge> {
        let member = (self.member.resolve(who), Scope::Member { org: who.org.clone(), member: who.member.clone() });
        let mut org = (self.org.resolve(who), Scope::Org { org: who.org.clone() });
        self.add_token_cap(who, &mut org.0);
        let everyone = (self.everyone.resolve(who), Scope::Everyone);

        let mut charges = Vec::new();
        for (limits, zone) in [(&[member, org][..], who.zone), (&[everyone][..], &TimeZone::UTC)] {
            for window in [Window::Month, Window::Day] {
                let period = LazyCell::new(|| Period::at(window, now, zone));
                for (resolved, scope) in limits {
                    for (resource, bars) in resolved.in_window(window) {
                        let bucket = Bucket { scope: scope.clone(), resource, period: period.clone() };
                        charges.push(bars.charge(bucket, amounts));
                    }
                }
            }
        }
        charges
    }

    /// Every limit that applies to a person now, as charges of nothing.
    pub fn applies(&self, who: &Who<'_>, now: Timestamp) -> Vec<Charge> {
        self.charges(who, &Amounts::default(), now)
    }

    /// Puts the token's cap beside the org's own: it tightens, never loosens.
    fn add_token_cap(&self, who: &Who<'_>, org: &mut Resolved) {
        let Some(cap) = who.org_tokens_per_month else { return };
        let cap = cap.min(MAX_AMOUNT);
        let bar = org.0[TOKENS_PER_MONTH].of(self.token_cap_mode);
        match bar {
            Some(own) if own.limit <= cap => {}
            Some(own) => *own = Bar { limit: cap, on_failure: own.on_failure, why: self.token_cap.why.clone() },
            None => *bar = Some(Bar { limit: cap, ..self.token_cap.clone() }),
        }
    }
}

/// What can be limited, in the order of refusals; see [`Rules::charges`].
const SLOTS: [(Window, Resource); 6] = [
    (Window::Month, Resource::Tokens),
    (Window::Month, Resource::Cost),
    (Window::Month, Resource::Messages),
    (Window::Day, Resource::Tokens),
    (Window::Day, Resource::Cost),
    (Window::Day, Resource::Messages),
];

/// Where [`SLOTS`] has the monthly tokens.
const TOKENS_PER_MONTH: usize = 0;

/// The closest limits on one resource and window.
#[derive(Debug, Default)]
struct Bars {
    enforce: Option<Bar>,
    shadow: Option<Bar>,
}

impl Bars {
    fn of(&mut self, mode: Mode) -> &mut Option<Bar> {
        match mode {
            Mode::Enforce => &mut self.enforce,
            Mode::Shadow => &mut self.shadow,
        }
    }

    fn charge(&self, bucket: Bucket, amounts: &Amounts) -> Charge {
        let (fixed, per_room_token) = amounts.of(bucket.resource);
        Charge { bucket, enforce: self.enforce.clone(), shadow: self.shadow.clone(), fixed, per_room_token }
    }
}

/// The closest limits, by [`SLOTS`].
#[derive(Debug, Default)]
struct Resolved([Bars; SLOTS.len()]);

impl Resolved {
    /// What is limited in a window, in the order of [`SLOTS`].
    fn in_window(&self, window: Window) -> impl Iterator<Item = (Resource, &Bars)> {
        let slots = SLOTS.into_iter().zip(&self.0).filter(move |((of, _), _)| *of == window);
        slots.map(|((_, resource), bars)| (resource, bars)).filter(|(_, bars)| bars.enforce.is_some() || bars.shadow.is_some())
    }
}

/// What a rule is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Selectors {
    member: Option<Arc<str>>,
    role: Option<Arc<str>>,
    org: Option<Arc<str>>,
    plan: Option<Arc<str>>,
}

impl Selectors {
    /// How close these are: member 8, role 4, org 2, plan 1. Also which of them are given.
    fn closeness(&self) -> u8 {
        let given = [self.member.is_some(), self.role.is_some(), self.org.is_some(), self.plan.is_some()];
        given.into_iter().fold(0, |weight, is_given| weight * 2 + u8::from(is_given))
    }

    /// The selectors of this closeness that match a person, or `None` where they have no plan to match.
    fn matching(who: &Who<'_>, closeness: u8) -> Option<Self> {
        let given = |weight: u8| closeness & weight != 0;
        if given(1) && who.plan.is_none() {
            return None;
        }
        Some(Self {
            member: given(8).then(|| who.member.clone()),
            role: given(4).then(|| who.role.clone()),
            org: given(2).then(|| who.org.clone()),
            plan: if given(1) { who.plan.cloned() } else { None },
        })
    }

    /// Whom these select, for people: `member of org acme`.
    fn describe(&self, applies_to: AppliesTo) -> String {
        let mut whom = match (applies_to, &self.member, &self.org) {
            (AppliesTo::Everyone, ..) => "everyone".to_owned(),
            (AppliesTo::Org, _, Some(org)) => format!("org {org}"),
            (AppliesTo::Org, _, None) => "any org".to_owned(),
            (AppliesTo::Member, Some(member), _) => format!("member {member}"),
            (AppliesTo::Member, None, None) => "any member".to_owned(),
            (AppliesTo::Member, None, Some(_)) => "member".to_owned(),
        };
        let mut add = |words: &str, selector: &Option<Arc<str>>| {
            if let Some(value) = selector {
                whom.push_str(words);
                whom.push_str(value);
            }
        };
        add(" with role ", &self.role);
        if applies_to == AppliesTo::Member {
            add(" of org ", &self.org);
        }
        add(" on plan ", &self.plan);
        whom
    }
}

/// The rules of one [`AppliesTo`], found by hash: at most one look-up for each combination of selectors in use.
#[derive(Debug, Default)]
struct Table {
    by_selectors: HashMap<Selectors, Vec<Entry>>,
    /// The combinations in use, the closest first.
    closeness: Vec<u8>,
}

/// One limit of one rule.
#[derive(Debug)]
struct Entry {
    /// Its place in [`SLOTS`].
    slot: usize,
    mode: Mode,
    rule: Arc<str>,
    bar: Bar,
}

impl Table {
    fn insert(&mut self, rule: &LimitRule, errors: &mut Vec<RuleError>) {
        let selectors = Selectors { member: rule.member.clone(), role: rule.role.clone(), org: rule.org.clone(), plan: rule.plan.clone() };
        let closeness = selectors.closeness();
        if !self.closeness.contains(&closeness) {
            self.closeness.push(closeness);
            self.closeness.sort_unstable_by(|a, b| b.cmp(a));
        }
        let whom = selectors.describe(rule.applies_to);
        let why: Arc<str> = format!("{}: {whom}", rule.name).into();
        let same = self.by_selectors.entry(selectors).or_default();
        for (slot, (limit_name, limit)) in rule.limits().into_iter().enumerate() {
            let Some(limit) = limit else { continue };
            if let Some(other) = same.iter().find(|other| other.slot == slot && other.mode == rule.mode) {
                let (first, second) = (other.rule.clone(), rule.name.clone());
                errors.push(RuleError::Tie { first, second, limit: limit_name, whom: whom.clone() });
                continue;
            }
            let bar = Bar { limit, on_failure: rule.on_failure, why: why.clone() };
            same.push(Entry { slot, mode: rule.mode, rule: rule.name.clone(), bar });
        }
    }

    /// The closest limit for each slot and mode.
    fn resolve(&self, who: &Who<'_>) -> Resolved {
        let mut resolved = Resolved::default();
        for closeness in &self.closeness {
            let found = Selectors::matching(who, *closeness).and_then(|selectors| self.by_selectors.get(&selectors));
            for entry in found.into_iter().flatten() {
                resolved.0[entry.slot].of(entry.mode).get_or_insert_with(|| entry.bar.clone());
            }
        }
        resolved
    }
}

/// Checks one rule on its own.
fn check(rule: &LimitRule, errors: &mut Vec<RuleError>) {
    let (refused, allowed): (&[_], _) = match rule.applies_to {
        AppliesTo::Member => (&[], ""),
        AppliesTo::Org => (&[("role", &rule.role), ("member", &rule.member)], "only org and plan can"),
        AppliesTo::Everyone => (&[("org", &rule.org), ("plan", &rule.plan), ("role", &rule.role), ("member", &rule.member)], "nothing can"),
    };
    for (selector, value) in refused {
        if value.is_some() {
            let applies_to = rule.applies_to.as_str();
            errors.push(RuleError::Narrowing { rule: rule.name.clone(), selector, applies_to, allowed });
        }
    }
    for (limit_name, limit) in rule.limits() {
        if limit.is_some_and(|limit| limit > MAX_AMOUNT) {
            errors.push(RuleError::TooLarge { rule: rule.name.clone(), limit: limit_name });
        }
    }
    if rule.limits().iter().all(|(_, limit)| limit.is_none()) {
        errors.push(RuleError::Empty { rule: rule.name.clone() });
    }
}

#[cfg(test)]
mod tests;
