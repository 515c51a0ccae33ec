use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;
use crate::records::{Category, Outcome, Severity, StoredAudit};

pub fn key() -> ChainKey {
    ChainKey::new(b"0123456789abcdef0123456789abcdef").expect("long enough")
}

pub fn row(number: u64) -> StoredAudit {
    StoredAudit {
        id: Uuid::from_u128(u128::from(number)),
        time: Timestamp::from_millisecond(1_800_000_000_000 + number.cast_signed()).expect("an instant"),
        category: Category::Api,
        severity: Severity::Info,
        org_id: Some("acme".into()),
        org_day: Some("2026-11-20".to_owned()),
        actor_id: Some("ada".into()),
        actor_name: Some("Ada".into()),
        actor_role: Some("user".into()),
        action: "chat.started".to_owned(),
        resource_type: Some("route".to_owned()),
        resource_id: Some("chat".to_owned()),
        outcome: Outcome::Success,
        request_id: Some("r1".into()),
        method: Some("POST".to_owned()),
        path: Some("/api/agents/chat/openAI".to_owned()),
        query: Some("a=b".to_owned()),
        status: Some(200),
        duration_ms: Some(3),
        error: Some("none".to_owned()),
        address: Some("192.0.2.1".to_owned()),
        user_agent: Some("Firefox".to_owned()),
        conversation_id: Some("c1".to_owned()),
        model: Some("gpt-5".to_owned()),
        total_tokens: Some(7),
        cost_nanousd: Some(9),
        count: 1,
        reference: Some("R".to_owned()),
        detail: Some(json!({ "b": [1, { "c": null }], "a": "x" })),
        link: None,
    }
}

pub const WRITER: Uuid = Uuid::from_u128(7);

fn linked(count: u64) -> Vec<StoredAudit> {
    let mut head = Head::default();
    let link = |number| {
        let mut row = row(number);
        let (link, next) = key().link(WRITER, "acme", &head, &row);
        head = next;
        row.link = Some(link);
        row
    };
    (1..=count).map(link).collect()
}

/// Walks the chain; the first row that breaks it.
fn walk(rows: &[StoredAudit]) -> Result<Head, (usize, Broken)> {
    rows.iter()
        .enumerate()
        .try_fold(Head::default(), |head, (index, row)| key().follow(WRITER, "acme", &head, row).map_err(|broken| (index, broken)))
}

#[test]
fn a_key_must_be_as_long_as_the_hash() {
    assert!(ChainKey::new(&[0; 31]).is_none());
    assert!(!format!("{:?}", key()).contains("0123"), "a key does not show itself");
}

#[test]
fn a_whole_chain_holds() {
    let rows = linked(5);
    let head = walk(&rows).expect("nothing was touched");
    assert_eq!(head, Head::of(rows[4].link.as_ref().expect("a link")));
    assert_eq!(walk(&[]), Ok(Head::default()));
}

/// The exact hash of a row: whoever changes what is covered, or how, makes every written row unverifiable.
#[test]
fn the_form_of_content_does_not_change_unseen() {
    let (link, _) = key().link(WRITER, "acme", &Head::default(), &row(1));
    insta::assert_snapshot!(link.hash);
}

#[test]
fn every_field_but_count_is_covered() {
    type Change = (&'static str, fn(&mut StoredAudit));
    let changes: [Change; 29] = [
        ("id", |row| row.id = Uuid::nil()),
        ("time", |row| row.time += jiff::SignedDuration::from_micros(1)),
        ("category", |row| row.category = Category::Auth),
        ("severity", |row| row.severity = Severity::Critical),
        ("org_id", |row| row.org_id = Some("blue".into())),
        ("actor_id", |row| row.actor_id = None),
        ("actor_name", |row| row.actor_name = Some("".into())),
        ("actor_role", |row| row.actor_role = Some("admin".into())),
        ("action", |row| row.action.push('x')),
        ("resource_type", |row| row.resource_type = None),
        ("resource_id", |row| row.resource_id = Some(String::new())),
        ("outcome", |row| row.outcome = Outcome::Failure),
        ("request_id", |row| row.request_id = None),
        ("method", |row| row.method = None),
        ("path", |row| row.path = None),
        ("query", |row| row.query = None),
        ("status", |row| row.status = Some(0)),
        ("duration_ms", |row| row.duration_ms = None),
        ("error", |row| row.error = None),
        ("address", |row| row.address = None),
        ("user_agent", |row| row.user_agent = None),
        ("conversation_id", |row| row.conversation_id = None),
        ("model", |row| row.model = None),
        ("total_tokens", |row| row.total_tokens = Some(0)),
        ("cost_nanousd", |row| row.cost_nanousd = None),
        ("reference", |row| row.reference = None),
        ("detail", |row| row.detail = None),
        ("a detail's value", |row| row.detail = Some(json!({ "b": [1, { "c": false }], "a": "x" }))),
        ("text moved to its neighbour", |row| (row.method, row.path) = (row.path.take(), row.method.take())),
    ];
    for (what, change) in changes {
        let mut touched = linked(1);
        change(&mut touched[0]);
        assert!(!key().holds(&touched[0]), "a change of {what} does not show");
        assert!(walk(&touched).is_err(), "a change of {what} does not show in the chain");
    }
    let mut counted = linked(1);
    counted[0].count = 42;
    assert!(walk(&counted).is_ok(), "a row that stands for many may grow");
}

#[test]
fn nothing_and_empty_differ_and_nothing_beyond_microseconds_counts() {
    let of = |error: Option<&str>| content(&StoredAudit { error: error.map(str::to_owned), ..row(1) });
    assert_ne!(of(None), of(Some("")));
    let precise = StoredAudit { time: "2026-11-20T12:00:00.123456789Z".parse().expect("an instant"), ..row(1) };
    let cut = StoredAudit { time: "2026-11-20T12:00:00.123456Z".parse().expect("an instant"), ..row(1) };
    assert_eq!(content(&precise), content(&cut));
    let most = StoredAudit { duration_ms: Some(u64::MAX), ..row(1) };
    let stored = StoredAudit { duration_ms: Some(i64::MAX.unsigned_abs()), ..row(1) };
    assert_eq!(content(&most), content(&stored), "the databases hold no larger number");
}

#[test]
fn another_key_writer_or_org_is_another_chain() {
    let rows = linked(2);
    let other = ChainKey::new(&[1; 32]).expect("long enough");
    assert_eq!(other.follow(WRITER, "acme", &Head::default(), &rows[0]), Err(Broken::Changed));
    assert_eq!(key().follow(Uuid::nil(), "acme", &Head::default(), &rows[0]), Err(Broken::Elsewhere));
    assert_eq!(key().follow(WRITER, "blue", &Head::default(), &rows[0]), Err(Broken::Elsewhere));
    assert_eq!(key().follow(WRITER, "acme", &Head::default(), &row(1)), Err(Broken::Unlinked));
    let mut claimed = rows[0].clone();
    claimed.link.as_mut().expect("a link").writer = Uuid::nil();
    assert_eq!(key().follow(Uuid::nil(), "acme", &Head::default(), &claimed), Err(Broken::Changed));
}

#[test]
fn what_is_wrong_is_named() {
    let rows = linked(5);
    let without = |gone: &[usize]| -> Vec<StoredAudit> {
        rows.iter().enumerate().filter(|(index, _)| !gone.contains(index)).map(|(_, row)| row.clone()).collect()
    };
    assert_eq!(walk(&without(&[2, 3])), Err((2, Broken::Missing { after: 3, until: 4 })));
    assert_eq!(walk(&without(&[0])), Err((0, Broken::Missing { after: 1, until: 1 })));
    let mut doubled = rows.clone();
    doubled.insert(2, rows[1].clone());
    assert_eq!(walk(&doubled), Err((2, Broken::Again)));
    let mut swapped = rows.clone();
    swapped.swap(1, 2);
    assert_eq!(walk(&swapped), Err((1, Broken::Missing { after: 2, until: 2 })));
    // Whoever knows the key can make links, and still not join them to what others linked.
    let mut joined = rows.clone();
    let (link, _) = key().link(WRITER, "acme", &Head { seq: 2, hash: hex(&[9; 32]) }, &joined[2]);
    joined[2].link = Some(link);
    assert_eq!(walk(&joined), Err((2, Broken::Unconnected)));
}

#[test]
fn hexadecimal_there_and_back() {
    assert_eq!(unhex(&hex(&[0, 1, 0xab, 0xff])), Some(vec![0, 1, 0xab, 0xff]));
    assert_eq!((unhex("abc"), unhex("zz")), (None, None));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("\\PC{0,4}", inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_row() -> impl Strategy<Value = StoredAudit> {
    let text = || prop::option::of("\\PC{0,12}");
    let texts = (text(), text(), text(), text(), text());
    (any::<u128>(), 0_i64..4_000_000_000_000, texts, prop::option::of(any::<u64>()), prop::option::of(any_json())).prop_map(
        |(id, millis, (name, path, query, error, agent), number, detail)| {
            let mut detail = detail;
            detail.iter_mut().for_each(crate::records::clean::detail);
            StoredAudit {
                id: Uuid::from_u128(id),
                time: Timestamp::from_millisecond(millis).expect("an instant"),
                actor_name: name.map(Arc::from),
                path,
                query,
                error,
                user_agent: agent,
                duration_ms: number,
                detail,
                ..row(0)
            }
        },
    )
}

proptest! {
    #[test]
    fn content_is_stable_over_json(detail in any_json()) {
        let mut detail = detail;
        crate::records::clean::detail(&mut detail);
        let read: Value = serde_json::from_str(&detail.to_string()).expect("JSON that was just written");
        let of = |detail: &Value| content(&StoredAudit { detail: Some(detail.clone()), ..row(1) });
        prop_assert_eq!(of(&detail), of(&read));
    }

    #[test]
    fn rows_that_differ_have_different_content(one in any_row(), other in any_row()) {
        let apart = |row: &StoredAudit| StoredAudit { id: Uuid::nil(), time: Timestamp::UNIX_EPOCH, ..row.clone() };
        for (one, other) in [(one.clone(), other.clone()), (apart(&one), apart(&other))] {
            prop_assert_eq!(one == other, content(&one) == content(&other));
        }
    }

    #[test]
    fn removing_doubling_or_moving_any_row_shows(count in 2_u64..12, from in any::<Index>(), to in any::<Index>(), what in 0_u8..3) {
        let rows = linked(count);
        let (from, to) = (from.index(rows.len()), to.index(rows.len()));
        let mut touched = rows.clone();
        match what {
            // The last row's removal is what checkpoints are for.
            0 => { touched.remove(from.min(rows.len() - 2)); }
            1 => touched.insert(to, rows[from].clone()),
            _ => { let row = touched.remove(from); touched.insert(to, row); }
        }
        prop_assert_eq!(touched == rows, walk(&touched).is_ok());
    }
}
