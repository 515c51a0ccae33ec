//! The laws of a directory store, on both databases.

use std::sync::Arc;

use jiff::tz::TimeZone;
use tollgate::identity::access::{Access, TenantId};
use tollgate::identity::addresses::Networks;
use tollgate::identity::directory::store::{Changes, DirectoryError, DirectoryStore, PutStanding};
use tollgate::identity::directory::{Joining, Language, Lost};
use tollgate::identity::{Directory, Member, Org, Standing};
use tollgate::records::Capture;
use uuid::Uuid;

use crate::records::{Place, noon};

fn org(id: &str) -> Org {
    Org {
        id: id.into(),
        name: format!("The {id}").into(),
        domains: vec![format!("{id}.test"), format!("{id}.example")],
        zone: TimeZone::get("Asia/Seoul").expect("a zone"),
        plan: Some("pro".into()),
        language: Some(Language::Ko),
        capture: Capture::Redacted,
        legal_hold: true,
        standing: Standing::Active,
        joining: Joining { by_domain: false, by_token: true },
        policy: Some("strict".into()),
        access: Access { tenant: Some(TenantId::read("tenant").expect("an id")), ..Access::default() },
    }
}

fn member(number: u128, org: &str) -> Member {
    Member {
        id: Uuid::from_u128(number),
        org: org.into(),
        external_id: Some(format!("ext-{number}").into()),
        librechat_id: Some(format!("{number:024x}").into()),
        email: Some("ada@acme.test".into()),
        name: Some("Ada".into()),
        role: "admin".into(),
        standing: Standing::Active,
        addresses: Networks::from_text("10.0.0.0/8,2001:db8::/32"),
        last_seen: None,
    }
}

async fn stores() -> [(Place, Arc<dyn DirectoryStore>); 2] {
    [Place::sqlite().await, Place::postgres().await].map(|place| {
        let store = place.database.directory();
        (place, store)
    })
}

async fn changes(store: &dyn DirectoryStore, after: i64) -> Changes {
    store.changes(after).await.expect("the database answers")
}

#[tokio::test]
async fn what_is_put_is_read_back_and_only_what_changed_is_told() {
    for (_place, store) in stores().await {
        let store = &*store;
        assert!(changes(store, -1).await.orgs.is_empty(), "nothing yet");
        store.put_orgs(&[org("acme"), org("blue")], PutStanding::Kept, noon()).await.expect("orgs");
        store.put_members(&[member(1, "acme"), member(2, "blue")], noon()).await.expect("members");
        let all = changes(store, -1).await;
        assert_eq!((all.orgs.len(), all.members.len()), (2, 2));
        assert!(all.members.contains(&member(1, "acme")), "{:?}", all.members);
        let acme = all.orgs.iter().find(|org| *org.id == *"acme").expect("acme");
        assert_eq!(format!("{acme:?}"), format!("{:?}", org("acme")), "everything about it");
        let none = changes(store, all.revision).await;
        assert_eq!((none.revision, none.orgs.len(), none.members.len()), (all.revision, 0, 0));
        let moved = Member { org: "blue".into(), ..member(1, "acme") };
        store.put_members(std::slice::from_ref(&moved), noon()).await.expect("a member who moved");
        let some = changes(store, all.revision).await;
        assert_eq!((some.orgs.len(), some.members), (0, vec![moved]));
    }
}

#[tokio::test]
async fn what_the_configuration_says_lets_nobody_go_on_who_was_suspended() {
    for (_place, store) in stores().await {
        let suspended = Org { standing: Standing::Suspended, ..org("acme") };
        store.put_orgs(&[suspended], PutStanding::Written, noon()).await.expect("an org");
        store.put_orgs(&[org("acme")], PutStanding::Kept, noon()).await.expect("a start with the configuration");
        assert_eq!(changes(&*store, -1).await.orgs[0].standing, Standing::Suspended);
    }
}

#[tokio::test]
async fn an_id_belongs_to_one_person() {
    for (_place, store) in stores().await {
        let store = &*store;
        store.put_members(&[member(1, "acme")], noon()).await.expect("a member");
        let same_librechat = Member { librechat_id: member(1, "acme").librechat_id, ..member(2, "blue") };
        let same_external = Member { external_id: member(1, "acme").external_id, ..member(3, "acme") };
        for taken in [same_librechat, same_external] {
            assert_eq!(store.put_members(std::slice::from_ref(&taken), noon()).await, Err(DirectoryError::Taken));
            store.add_member(&taken, noon()).await.expect("whoever comes second finds the first");
        }
        store
            .put_members(&[Member { external_id: member(1, "acme").external_id, ..member(4, "blue") }], noon())
            .await
            .expect("another org's");
        let members = changes(store, -1).await.members;
        assert_eq!(members.len(), 2, "{members:?}");
        store
            .put_members(&[member(5, "acme"), member(1, "acme"), Member { id: Uuid::nil(), ..member(1, "acme") }], noon())
            .await
            .expect_err("one of them");
        assert_eq!(changes(store, -1).await.members.len(), 2, "all or none");
    }
}

#[tokio::test]
async fn what_is_learned_of_somebody_leaves_what_others_wrote_meanwhile() {
    for (_place, store) in stores().await {
        let store = &*store;
        let known = Member { external_id: None, ..member(1, "acme") };
        store.put_members(std::slice::from_ref(&known), noon()).await.expect("a member");
        // An administrator suspends them and gives them another role and no ranges, which whoever learns something does not know.
        let meanwhile = Member { standing: Standing::Suspended, role: "viewer".into(), addresses: None, ..known.clone() };
        store.put_members(std::slice::from_ref(&meanwhile), noon()).await.expect("a change");
        let told = Member { external_id: Some("ext-1".into()), email: Some("ada@acme.example".into()), ..known.clone() };
        let before = changes(store, -1).await.revision;
        assert_eq!(store.amend_member(&known, &told, noon()).await, Ok(true));
        let expected = Member { external_id: told.external_id.clone(), email: told.email.clone(), ..meanwhile };
        assert_eq!(changes(store, before).await.members, std::slice::from_ref(&expected), "others are told");
        // Who has other ids by now, or is in another org, is not who was meant.
        let claimed = Member { org: "blue".into(), ..told.clone() };
        assert_eq!(store.amend_member(&known, &claimed, noon()).await, Ok(false), "the external id is new");
        assert_eq!(store.amend_member(&Member { org: String::new().as_str().into(), ..told.clone() }, &claimed, noon()).await, Ok(false));
        assert_eq!(changes(store, -1).await.members, [expected]);
        let promoted = Member { role: "super_admin".into(), name: Some("Ada L.".into()), ..told.clone() };
        assert_eq!(store.amend_member(&told, &promoted, noon()).await, Ok(true));
        let now = changes(store, -1).await.members.remove(0);
        assert_eq!((&*now.role, now.name.as_deref(), now.standing), ("super_admin", Some("Ada L."), Standing::Suspended));
        store.put_members(&[member(2, "acme")], noon()).await.expect("another");
        let taken = Member { librechat_id: member(2, "acme").librechat_id, ..told.clone() };
        assert_eq!(store.amend_member(&told, &taken, noon()).await, Err(DirectoryError::Taken));
    }
}

#[tokio::test]
async fn when_somebody_was_last_seen_is_no_change() {
    for (_place, store) in stores().await {
        store.put_members(&[member(1, "acme")], noon()).await.expect("a member");
        let before = changes(&*store, -1).await.revision;
        let later = noon() + jiff::SignedDuration::from_mins(5);
        store.seen(&[(Uuid::from_u128(1), later), (Uuid::from_u128(9), later)]).await.expect("sights");
        store.seen(&[(Uuid::from_u128(1), noon())]).await.expect("an older one that comes late");
        let after = changes(&*store, -1).await;
        assert_eq!((after.revision, after.members[0].last_seen), (before, Some(later)));
    }
}

#[test]
fn a_directory_knows_who_lost_something() {
    let directory = Directory::new(vec![org("acme")]);
    let losses = directory.losses();
    let changes = |revision, member: Member| Changes { revision, members: vec![member], orgs: vec![org("blue")], ..Changes::default() };
    assert_eq!(directory.apply(changes(1, member(1, "acme"))), Lost::default());
    assert_eq!(directory.by_external_id("acme", "ext-1").map(|member| member.id), Some(Uuid::from_u128(1)));
    let suspended = Member { standing: Standing::Suspended, ..member(1, "acme") };
    let id = suspended.librechat_id.clone().expect("an id");
    assert_eq!(directory.apply(changes(2, suspended.clone())).members, std::slice::from_ref(&id));
    assert_eq!(directory.apply(changes(3, suspended.clone())), Lost::default(), "once");
    assert!(directory.suspended("acme", &id).is_some() && directory.suspended("blue", &id).is_none());
    assert_eq!(directory.losses(), losses + 1);
    let moved = Member { org: "blue".into(), ..member(1, "acme") };
    assert_eq!(directory.apply(changes(4, moved)).members, std::slice::from_ref(&id), "what runs for them in the old org ends");
    assert!(
        directory.by_external_id("acme", "ext-1").is_none() && directory.by_external_id("blue", "ext-1").is_some(),
        "who moved is gone there"
    );
    let gone = Changes { revision: 5, orgs: vec![Org { standing: Standing::Suspended, ..org("blue") }], ..Changes::default() };
    assert_eq!(directory.apply(gone).orgs, [std::sync::Arc::<str>::from("blue")]);
    assert!(directory.suspended("blue", &id).is_some() && directory.suspended("acme", &id).is_none());
    assert_eq!(directory.revision(), 5);
    let as_role = |role: &str| Member { role: role.into(), ..member(1, "blue") };
    let lost = |revision, role| !directory.apply(changes(revision, as_role(role))).members.is_empty();
    assert_eq!((lost(6, "user"), lost(7, "viewer"), lost(8, "viewer"), lost(9, "admin")), (false, true, false, false));
}
