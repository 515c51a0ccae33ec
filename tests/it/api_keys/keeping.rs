//! The laws of a store of keys, on both databases.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tollgate::identity::addresses::Networks;
use tollgate::identity::directory::store::Changes;
use tollgate::identity::keys::{AgentKey, ApiKey, ApiKeyStore, KeyScopes, WhoseKeys, agent_key_hash};
use uuid::Uuid;

use crate::records::{Place, noon};

fn key(id: u128, org: &str, member: u128) -> ApiKey {
    ApiKey {
        id: Uuid::from_u128(id),
        org: org.into(),
        member: Uuid::from_u128(member),
        name: "Laptop".into(),
        ending: "aB3_".into(),
        scopes: KeyScopes::from_text("chat,usage").expect("scopes"),
        addresses: Networks::from_text("10.0.0.0/8,2001:db8::/32"),
        created: noon(),
        created_by: "6b008f411deed07a2f49c1c8".into(),
        expires: noon() + SignedDuration::from_hours(24),
        last_used: None,
        revoked: None,
    }
}

fn later(hours: i64) -> Timestamp {
    noon() + SignedDuration::from_hours(hours)
}

async fn places() -> [(Place, Arc<dyn ApiKeyStore>); 2] {
    [Place::sqlite().await, Place::postgres().await].map(|place| {
        let store = place.database.api_keys();
        (place, store)
    })
}

async fn add(store: &dyn ApiKeyStore, key: &ApiKey, most: u32) -> bool {
    store.add(&format!("hash-{}", key.id), key, most, later(-24)).await.expect("the database answers")
}

async fn changes(place: &Place, after: i64) -> Changes {
    place.database.directory().changes(after).await.expect("the database answers")
}

#[tokio::test]
async fn a_key_is_told_of_until_it_is_revoked() {
    for (place, store) in places().await {
        let (mine, theirs) = (WhoseKeys::OfMember("acme".into(), Uuid::from_u128(1)), WhoseKeys::OfOrg("acme".into()));
        for one in [key(1, "acme", 1), key(2, "acme", 2), ApiKey { addresses: None, ..key(3, "blue", 3) }] {
            assert!(add(&*store, &one, 5).await);
        }
        let all = changes(&place, -1).await;
        let mut told = all.keys.clone();
        told.sort_by_key(|(_, key)| key.id);
        assert_eq!(told[0], (format!("hash-{}", Uuid::from_u128(1)), key(1, "acme", 1)), "as it was put");
        assert_eq!((told.len(), told[2].1.addresses.clone()), (3, None));
        assert_eq!(store.keys(&mine).await.expect("keys"), [key(1, "acme", 1)]);
        assert_eq!(store.keys(&theirs).await.expect("keys").len(), 2);
        assert!(store.add(&told[0].0, &key(9, "acme", 9), 5, later(-24)).await.is_err(), "nobody takes a key's place");

        for (whose, id) in [(&mine, 2), (&theirs, 3), (&WhoseKeys::OfMember("blue".into(), Uuid::from_u128(1)), 1), (&theirs, 7)] {
            assert_eq!(store.revoke(whose, Uuid::from_u128(id), later(1)).await.expect("an answer"), None, "{whose:?} {id}");
        }
        assert_eq!(changes(&place, -1).await.revision, all.revision, "where nothing changed nobody has to look");
        let gone = ApiKey { revoked: Some(later(1)), ..key(1, "acme", 1) };
        let before = changes(&place, -1).await.revision;
        assert_eq!(store.revoke(&mine, gone.id, later(1)).await.expect("an answer"), Some(gone.clone()));
        assert_eq!(store.revoke(&mine, gone.id, later(2)).await.expect("an answer"), None, "once");
        let news = changes(&place, before).await;
        assert_eq!(news.keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>(), [gone], "every replica hears of it, and of nothing else");
        assert!(store.keys(&mine).await.expect("keys").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_has_so_many_keys_and_no_more() {
    for (_place, store) in places().await {
        let mut adding = JoinSet::new();
        for id in 0..8 {
            let store = store.clone();
            adding.spawn(async move { add(&*store, &key(id, "acme", 1), 3).await });
        }
        assert_eq!(adding.join_all().await.iter().filter(|added| **added).count(), 3, "however many come at once");
        assert!(add(&*store, &key(20, "acme", 2), 3).await, "others have their own");
        let whose = WhoseKeys::OfMember("acme".into(), Uuid::from_u128(1));
        let one = store.keys(&whose).await.expect("keys")[0].id;
        store.revoke(&whose, one, noon()).await.expect("an answer").expect("it was there");
        assert!(!add(&*store, &key(21, "acme", 1), 3).await, "what was just revoked is counted");
        let tomorrow = store.add("tomorrow", &ApiKey { expires: later(99), ..key(22, "acme", 1) }, 3, later(1)).await;
        assert!(tomorrow.expect("an answer"), "and not for ever");
        let after_their_end = ApiKey { created: later(25), expires: later(99), ..key(23, "acme", 1) };
        assert!(store.add("later", &after_their_end, 3, later(1)).await.expect("an answer"), "what is over is not counted");
    }
}

#[tokio::test]
async fn when_a_key_was_last_used_is_no_change() {
    for (place, store) in places().await {
        assert!(add(&*store, &key(1, "acme", 1), 5).await);
        let before = changes(&place, -1).await.revision;
        store.used(&[(Uuid::from_u128(1), later(2)), (Uuid::from_u128(9), later(2))]).await.expect("uses");
        store.used(&[(Uuid::from_u128(1), later(1))]).await.expect("an older one that comes late");
        assert_eq!(store.keys(&WhoseKeys::OfOrg("acme".into())).await.expect("keys")[0].last_used, Some(later(2)));
        assert_eq!(changes(&place, -1).await.revision, before);
    }
}

#[tokio::test]
async fn what_is_over_is_removed() {
    for (place, store) in places().await {
        for one in [key(1, "acme", 1), key(2, "acme", 1), ApiKey { expires: later(99), ..key(3, "acme", 1) }] {
            assert!(add(&*store, &one, 5).await);
        }
        store.revoke(&WhoseKeys::OfOrg("acme".into()), Uuid::from_u128(2), later(1)).await.expect("an answer");
        store.tidy(later(2)).await.expect("tidied");
        let left = || async { changes(&place, -1).await.keys.iter().map(|(_, key)| key.id.as_u128()).collect::<Vec<_>>() };
        assert_eq!(left().await, [1, 3], "the revoked one is gone");
        store.tidy(later(25)).await.expect("tidied");
        assert_eq!(left().await, [3]);
    }
}

#[tokio::test]
async fn whose_librechats_keys_are_is_told_until_they_are_deleted() {
    for (place, store) in places().await {
        let key = |number: u8, owner: &str| AgentKey {
            hash: agent_key_hash(&format!("sk-{number}")).into(),
            id: format!("{number:024x}").into(),
            owner: owner.into(),
            forgotten: false,
        };
        for one in [key(1, "ada"), key(2, "ada"), key(3, "bob"), key(1, "ada")] {
            store.learn(&one, noon()).await.expect("a key");
        }
        let before = changes(&place, -1).await;
        assert_eq!(before.agent_keys.len(), 3, "one that comes twice is one");
        assert!(before.agent_keys.contains(&key(3, "bob")), "{:?}", before.agent_keys);
        store.forget("ada", &key(3, "bob").id, noon()).await.expect("an answer");
        store.forget("ada", &key(1, "ada").id, noon()).await.expect("an answer");
        let news = changes(&place, before.revision).await.agent_keys;
        assert_eq!(news, [AgentKey { forgotten: true, ..key(1, "ada") }], "nobody forgets another's");
        store.tidy(later(1)).await.expect("tidied");
        assert_eq!(changes(&place, -1).await.agent_keys.len(), 2);
    }
}
