//! The laws of a store of codes and sessions, on both databases.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::task::JoinSet;
use tollgate::identity::directory::store::Changes;
use tollgate::identity::sessions::{HandOff, Redeemed, Secret, Session, SessionStore, WhichSessions};
use uuid::Uuid;

use crate::records::{Place, noon};

fn hand_off(member: u128) -> HandOff {
    HandOff {
        org: "acme".into(),
        member: Uuid::from_u128(member),
        plan: Some("pro".into()),
        org_tokens_per_month: Some(500_000),
        expires: noon() + SignedDuration::from_secs(60),
    }
}

fn session(id: u128, org: &str, member: u128) -> Session {
    Session {
        id: Uuid::from_u128(id),
        org: org.into(),
        member: Uuid::from_u128(member),
        plan: None,
        org_tokens_per_month: None,
        started: noon(),
        expires: noon() + SignedDuration::from_hours(7 * 24),
    }
}

async fn places() -> [(Place, Arc<dyn SessionStore>); 2] {
    [Place::sqlite().await, Place::postgres().await].map(|place| {
        let store = place.database.sessions();
        (place, store)
    })
}

#[test]
fn secrets_differ_and_nothing_else_is_taken_for_one() {
    let (one, other) = (Secret::make().expect("randomness"), Secret::make().expect("randomness"));
    assert_ne!(one.hash(), other.hash());
    assert_eq!(Secret::shown(one.expose()).map(|shown| shown.hash()), Some(one.hash()));
    for odd in [
        "",
        "a",
        &one.expose()[1..],
        &format!("{}A", one.expose()),
        &format!("{}=", one.expose()),
        "../../../../../../../../../../../../../etc",
    ] {
        assert_eq!(Secret::shown(odd), None, "{odd:?}");
    }
    assert!(!format!("{one:?}").contains(one.expose()), "it is not printed by accident");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_once_and_not_too_late() {
    for (_place, store) in places().await {
        store.add_hand_off("code", &hand_off(1), noon()).await.expect("a code");
        let mut opened = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            opened.spawn(async move { store.redeem("code", noon()).await.expect("the database answers") });
        }
        let opened = opened.join_all().await;
        assert_eq!(opened.iter().filter(|told| **told == Redeemed::Opens(hand_off(1))).count(), 1, "{opened:?}");
        assert_eq!(opened.iter().filter(|told| **told == Redeemed::Again(hand_off(1))).count(), 7, "{opened:?}");

        store.add_hand_off("late", &hand_off(2), noon()).await.expect("a code");
        assert_eq!(store.redeem("late", hand_off(2).expires).await.expect("an answer"), Redeemed::Late(hand_off(2)));
        assert_eq!(store.redeem("guessed", noon()).await.expect("an answer"), Redeemed::Unknown);
        assert!(store.add_hand_off("code", &hand_off(3), noon()).await.is_err(), "nobody takes a code's place");
    }
}

#[tokio::test]
async fn a_session_lasts_until_its_end_or_until_it_is_revoked() {
    for (place, store) in places().await {
        let revoked = async || place.database.directory().changes(-1).await.map(|Changes { revoked, .. }| revoked).expect("changes");
        for (secret, one) in
            [("a", session(1, "acme", 1)), ("b", session(2, "acme", 1)), ("c", session(3, "acme", 2)), ("d", session(4, "blue", 3))]
        {
            store.start(secret, &one).await.expect("a session");
        }
        let is_there = async |secret: &str, now| store.session(secret, now).await.expect("an answer").is_some();
        assert_eq!(store.session("a", noon()).await.expect("an answer"), Some(session(1, "acme", 1)), "as it was put");
        assert!(!is_there("a", session(1, "acme", 1).expires).await, "its time is over");
        assert!(!is_there("x", noon()).await && revoked().await.is_empty());

        assert_eq!(store.revoke(&WhichSessions::One(Uuid::from_u128(1)), noon()).await.expect("an answer"), [session(1, "acme", 1)]);
        assert!(store.revoke(&WhichSessions::One(Uuid::from_u128(1)), noon()).await.expect("an answer").is_empty(), "once");
        assert!(!is_there("a", noon()).await && is_there("b", noon()).await);
        assert_eq!(revoked().await, [(Uuid::from_u128(1), session(1, "acme", 1).expires)], "every replica hears of it");

        let all = store.revoke(&WhichSessions::OfMember(Uuid::from_u128(1)), noon()).await.expect("an answer");
        assert_eq!(all, [session(2, "acme", 1)], "those that were left of the member");
        assert_eq!(store.revoke(&WhichSessions::OfOrg("acme".into()), noon()).await.expect("an answer"), [session(3, "acme", 2)]);
        assert!(is_there("d", noon()).await, "another org's stays");
        assert_eq!(revoked().await.len(), 3);

        store.tidy(session(1, "acme", 1).expires + SignedDuration::from_secs(1)).await.expect("tidied");
        assert!(revoked().await.is_empty(), "what is over is forgotten");
    }
}
