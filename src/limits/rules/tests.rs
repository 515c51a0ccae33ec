//! Which rule wins, and which sets of rules are mistakes.

use proptest::prelude::*;

use super::*;

/// A rule that limits nothing and nobody in particular.
fn rule(index: usize, applies_to: AppliesTo) -> LimitRule {
    LimitRule {
        name: format!("limits[{index}]").into(),
        applies_to,
        org: None,
        plan: None,
        role: None,
        member: None,
        tokens_per_day: None,
        tokens_per_month: None,
        messages_per_day: None,
        messages_per_month: None,
        usd_per_day: None,
        usd_per_month: None,
        mode: Mode::Enforce,
        on_failure: OnFailure::Closed,
    }
}

/// A person: `ann`, an admin of `acme` in Seoul, on the plan `pro`.
struct Person {
    org: Arc<str>,
    member: Arc<str>,
    role: Arc<str>,
    plan: Option<Arc<str>>,
    zone: TimeZone,
    cap: Option<u64>,
}

impl Person {
    fn ann() -> Self {
        let zone = TimeZone::get("Asia/Seoul").expect("the time zone database has Seoul");
        Self { org: "acme".into(), member: "ann".into(), role: "admin".into(), plan: Some("pro".into()), zone, cap: None }
    }

    fn who(&self) -> Who<'_> {
        let Self { org, member, role, plan, zone, cap } = self;
        Who { org, member, role, plan: plan.as_ref(), zone, org_tokens_per_month: *cap }
    }
}

fn now() -> Timestamp {
    "2026-11-20T20:00:00Z".parse().expect("this is an instant")
}

/// The charges of one message with 5 tokens and 7 nano-dollars, and 2 and 3 for each token of room.
fn charges(rules: Vec<LimitRule>, person: &Person) -> Vec<Charge> {
    let amounts = Amounts { messages: 1, tokens_fixed: 5, tokens_per_room: 2, cost_fixed: 7, cost_per_room: 3 };
    Rules::new(rules).expect("these rules are good").charges(&person.who(), &amounts, now())
}

/// `why` and limit of the enforced limit on each charge.
fn enforced(charges: &[Charge]) -> Vec<(&str, u64)> {
    charges.iter().filter_map(|charge| charge.enforce.as_ref()).map(|bar| (&*bar.why, bar.limit)).collect()
}

#[test]
fn the_closest_wins() {
    let tokens = |index, limit| LimitRule { tokens_per_day: Some(limit), ..rule(index, AppliesTo::Member) };
    let mut rules = vec![
        tokens(0, 100),
        LimitRule { plan: Some("pro".into()), ..tokens(1, 101) },
        LimitRule { org: Some("acme".into()), ..tokens(2, 102) },
        LimitRule { org: Some("acme".into()), plan: Some("pro".into()), ..tokens(3, 103) },
        LimitRule { role: Some("admin".into()), ..tokens(4, 104) },
        LimitRule { member: Some("ann".into()), ..tokens(5, 105) },
        LimitRule { member: Some("bob".into()), ..tokens(6, 106) },
        LimitRule { role: Some("viewer".into()), org: Some("acme".into()), plan: Some("pro".into()), ..tokens(7, 107) },
    ];
    let whys = [
        ("limits[5]: member ann", 105),
        ("limits[4]: any member with role admin", 104),
        ("limits[3]: member of org acme on plan pro", 103),
        ("limits[2]: member of org acme", 102),
        ("limits[1]: any member on plan pro", 101),
        ("limits[0]: any member", 100),
    ];
    for why in whys {
        assert_eq!(enforced(&charges(rules.clone(), &Person::ann())), [why], "with {} rules", rules.len());
        rules.retain(|rule| !why.0.starts_with(&format!("{}:", rule.name)));
    }
    assert!(charges(rules, &Person::ann()).is_empty(), "the others are about other people");
}

#[test]
fn each_resource_window_and_mode_is_chosen_apart() {
    let rules = vec![
        LimitRule { tokens_per_day: Some(1), tokens_per_month: Some(2), usd_per_day: Some(3), ..rule(0, AppliesTo::Member) },
        LimitRule { org: Some("acme".into()), tokens_per_month: Some(4), messages_per_day: Some(0), ..rule(1, AppliesTo::Member) },
        LimitRule { org: Some("acme".into()), mode: Mode::Shadow, tokens_per_day: Some(6), ..rule(2, AppliesTo::Member) },
    ];
    let charges = charges(rules, &Person::ann());
    let seen: Vec<_> = charges
        .iter()
        .map(|charge| {
            let limit = |bar: &Option<Bar>| bar.as_ref().map(|bar| bar.limit);
            let Charge { bucket, fixed, per_room_token, .. } = charge;
            (bucket.resource, bucket.period.key(), limit(&charge.enforce), limit(&charge.shadow), *fixed, *per_room_token)
        })
        .collect();
    let expected = [
        (Resource::Tokens, "2026-11".to_owned(), Some(4), None, 5, 2),
        (Resource::Tokens, "2026-11-21".to_owned(), Some(1), Some(6), 5, 2),
        (Resource::Cost, "2026-11-21".to_owned(), Some(3), None, 7, 3),
        (Resource::Messages, "2026-11-21".to_owned(), Some(0), None, 1, 0),
    ];
    assert_eq!(seen, expected, "months before days, in the calendar of Seoul, where it is the 21st already");
}

#[test]
fn allowances_and_caps_all_apply() {
    let rules = vec![
        LimitRule { tokens_per_day: Some(3), ..rule(0, AppliesTo::Everyone) },
        LimitRule { tokens_per_month: Some(4), ..rule(1, AppliesTo::Everyone) },
        LimitRule { tokens_per_day: Some(2), ..rule(2, AppliesTo::Org) },
        LimitRule { org: Some("acme".into()), tokens_per_month: Some(5), ..rule(3, AppliesTo::Org) },
        LimitRule { plan: Some("pro".into()), tokens_per_month: Some(6), ..rule(4, AppliesTo::Org) },
        LimitRule { tokens_per_day: Some(1), ..rule(5, AppliesTo::Member) },
    ];
    let charges = charges(rules, &Person::ann());
    let expected = [
        ("limits[3]: org acme", 5),
        ("limits[5]: any member", 1),
        ("limits[2]: any org", 2),
        ("limits[1]: everyone", 4),
        ("limits[0]: everyone", 3),
    ];
    assert_eq!(enforced(&charges), expected, "everyone's come last, and months before days");
    let (org, member): (Arc<str>, Arc<str>) = ("acme".into(), "ann".into());
    let scopes: Vec<_> = charges.iter().map(|charge| charge.bucket.scope.clone()).collect();
    let org_scope = Scope::Org { org: org.clone() };
    let member_scope = Scope::Member { org, member };
    assert_eq!(scopes, [org_scope.clone(), member_scope, org_scope, Scope::Everyone, Scope::Everyone]);
    let days: Vec<_> = charges.iter().map(|charge| charge.bucket.period.key()).collect();
    assert_eq!(days, ["2026-11", "2026-11-21", "2026-11-21", "2026-11", "2026-11-20"], "everyone's calendar is UTC");
}

#[test]
fn someone_without_a_plan_is_not_on_any() {
    let rules = vec![LimitRule { plan: Some("pro".into()), tokens_per_day: Some(1), ..rule(0, AppliesTo::Member) }];
    assert!(charges(rules, &Person { plan: None, ..Person::ann() }).is_empty());
}

#[test]
fn the_cap_of_a_sign_in_token_tightens_and_never_loosens() {
    let of_token = "the sign-in token's monthly cap for its org";
    let own = |limit| LimitRule { tokens_per_month: Some(limit), on_failure: OnFailure::Open, ..rule(0, AppliesTo::Org) };
    for (rules, cap, expected) in [
        (vec![], 50, (of_token, 50)),
        (vec![own(100)], 50, (of_token, 50)),
        (vec![own(40)], 50, ("limits[0]: any org", 40)),
        (vec![own(50)], 50, ("limits[0]: any org", 50)),
        (vec![LimitRule { mode: Mode::Shadow, ..own(10) }], 50, (of_token, 50)),
        (vec![], u64::MAX, (of_token, MAX_AMOUNT)),
    ] {
        let has_own = !rules.is_empty();
        let charges = charges(rules, &Person { cap: Some(cap), ..Person::ann() });
        assert_eq!(enforced(&charges), [expected]);
        assert_eq!(charges[0].bucket.scope, Scope::Org { org: "acme".into() });
        let on_failure = charges[0].enforce.as_ref().map(|bar| bar.on_failure);
        let is_open = has_own && charges[0].shadow.is_none();
        let expected = if is_open { OnFailure::Open } else { OnFailure::Closed };
        assert_eq!(on_failure, Some(expected), "the org's own limit says what happens without a store");
    }
}

#[test]
fn the_cap_of_a_sign_in_token_only_watches_where_everything_does() {
    let rules = Rules::none().with_token_caps(Mode::Shadow, OnFailure::Open);
    let ann = Person { cap: Some(50), ..Person::ann() };
    let charges = rules.applies(&ann.who(), now());
    let [Charge { enforce: None, shadow: Some(bar), fixed: 0, per_room_token: 0, .. }] = &charges[..] else {
        panic!("one shadow limit, charged nothing, not {charges:?}")
    };
    assert_eq!((bar.limit, bar.on_failure), (50, OnFailure::Open));
}

#[test]
fn mistakes_are_all_found_and_name_their_rules() {
    let tokens = |index, applies_to| LimitRule { tokens_per_day: Some(1), ..rule(index, applies_to) };
    let rules = vec![
        LimitRule { org: Some("acme".into()), ..tokens(0, AppliesTo::Member) },
        LimitRule { org: Some("acme".into()), tokens_per_month: Some(9), ..tokens(1, AppliesTo::Member) },
        LimitRule { org: Some("acme".into()), mode: Mode::Shadow, ..tokens(2, AppliesTo::Member) },
        LimitRule { role: Some("admin".into()), member: Some("ann".into()), ..tokens(3, AppliesTo::Org) },
        LimitRule { org: Some("acme".into()), ..tokens(4, AppliesTo::Everyone) },
        LimitRule { usd_per_day: Some(MAX_AMOUNT + 1), ..rule(5, AppliesTo::Member) },
        rule(6, AppliesTo::Org),
    ];
    let errors = Rules::new(rules).expect_err("these rules are full of mistakes");
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "limits[0] and limits[1] both set tokens_per_day for member of org acme; neither is closer, so remove one of them",
        "limits[3].role cannot narrow a limit that applies to org; only org and plan can",
        "limits[3].member cannot narrow a limit that applies to org; only org and plan can",
        "limits[4].org cannot narrow a limit that applies to everyone; nothing can",
        "limits[5].usd_per_day is above 9007199254740991 (usd: in nano-dollars), the largest amount that is counted exactly",
        "limits[6] sets no limit; give it at least one of tokens, messages or usd, per_day or per_month",
    ];
    assert_eq!(texts, expected);
}

proptest! {
    /// The look-up finds what a plain search through the rules finds.
    #[test]
    fn the_look_up_is_the_closest_match(
        selectors in prop::collection::hash_set(prop::array::uniform4(prop::option::of(0..2_usize)), 1..30),
        has_plan in any::<bool>(),
    ) {
        let names = [["ann", "bob"], ["admin", "user"], ["acme", "umbrella"], ["pro", "free"]];
        let pick = |which: usize, value: Option<usize>| -> Option<Arc<str>> { value.map(|value| names[which][value].into()) };
        let rules: Vec<_> = selectors.iter().enumerate().map(|(index, [member, role, org, plan])| LimitRule {
            member: pick(0, *member),
            role: pick(1, *role),
            org: pick(2, *org),
            plan: pick(3, *plan),
            tokens_per_day: Some(index as u64),
            ..rule(index, AppliesTo::Member)
        }).collect();
        let ann = Person { plan: if has_plan { Some("pro".into()) } else { None }, ..Person::ann() };
        let matches = |rule: &LimitRule| {
            let is = |selector: &Option<Arc<str>>, own: Option<&Arc<str>>| selector.is_none() || selector.as_ref() == own;
            is(&rule.member, Some(&ann.member)) && is(&rule.role, Some(&ann.role))
                && is(&rule.org, Some(&ann.org)) && is(&rule.plan, ann.plan.as_ref())
        };
        let closeness = |rule: &LimitRule| (rule.member.is_some(), rule.role.is_some(), rule.org.is_some(), rule.plan.is_some());
        let expected = rules.iter().filter(|rule| matches(rule)).max_by_key(|rule| closeness(rule)).and_then(|rule| rule.tokens_per_day);
        let found = charges(rules.clone(), &ann).first().and_then(|charge| charge.enforce.as_ref()).map(|bar| bar.limit);
        prop_assert_eq!(found, expected);
    }
}
