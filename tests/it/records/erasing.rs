//! Keys of members: kept once, destroyed for good, while the log still holds.

use tollgate::records::member_keys::RowsOf;
use tollgate::records::seal::{ERASED, KeyRing, MemberKey, seal, unseal_rows};
use tollgate::records::verify::{Scope, Verifier};
use tollgate::records::witnesses::Witnesses;
use tollgate::records::{AuditRow, ChainKey, Head};
use uuid::Uuid;

use super::{Place, audit, noon, stored};

fn key_of(member: &str) -> MemberKey {
    MemberKey::generate("acme", member, noon()).expect("a key")
}

#[tokio::test]
async fn a_destroyed_key_does_not_come_back() {
    for place in [Place::sqlite().await, Place::postgres().await] {
        let keys = place.database.member_keys();
        let ring = KeyRing::default();
        let made = |member: &str| MemberKey::clone(ring.key_of("acme", member, noon()).expect("a key").key());
        let (ada, bob) = (made("ada"), made("bob"));
        let later = MemberKey { created_at: noon() + jiff::SignedDuration::from_secs(1), ..key_of("ada") };
        for _ in 0..2 {
            keys.insert_keys(&[ada.clone(), bob.clone(), later.clone()]).await.expect("keys");
        }
        keys.insert_keys(&[]).await.expect("no keys are no trouble");
        assert_eq!(keys.keys(&[bob.key_id, Uuid::nil()]).await.expect("reading"), std::slice::from_ref(&bob));
        assert_eq!(keys.destroy("acme", "ada", noon()).await.expect("destroying"), 2);
        assert_eq!(keys.destroy("acme", "ada", noon()).await.expect("destroying again"), 0);
        // A journal that still held it writes it late.
        keys.insert_keys(std::slice::from_ref(&ada)).await.expect("a key that comes late");
        assert_eq!(keys.keys(&[ada.key_id, later.key_id, bob.key_id]).await.expect("reading"), std::slice::from_ref(&bob));
        assert_eq!(keys.destroyed(&[ada.key_id, bob.key_id]).await.expect("reading"), [ada.key_id]);
        assert_eq!(ring.forget_destroyed(&*keys).await.expect("reading"), 1, "only what was destroyed is let go");
        // Nor does one come that was made before, by a Tollgate whose journal had not come so far; one that is made later does.
        let late = key_of("ada");
        let next = MemberKey { created_at: noon() + jiff::SignedDuration::from_secs(1), ..key_of("ada") };
        assert_eq!(keys.destroy("acme", "eve", noon()).await.expect("destroying"), 0, "none is there");
        let unseen = key_of("eve");
        keys.insert_keys(&[late.clone(), next.clone(), unseen.clone()]).await.expect("keys");
        assert_eq!(keys.keys(&[late.key_id, next.key_id, unseen.key_id]).await.expect("reading"), std::slice::from_ref(&next));
        assert_eq!(keys.destroyed(&[late.key_id]).await.expect("reading"), [late.key_id], "and its Tollgate learns of it");
        if place.url.starts_with("sqlite:") {
            for file in [place.file(), place.file().with_extension("db-wal")] {
                let bytes = std::fs::read(&file).unwrap_or_default();
                let is_there = |key: &MemberKey| bytes.windows(key.key.len()).any(|window| window == key.key.as_bytes());
                assert!(!is_there(&ada) && !is_there(&later) && !is_there(&late), "a destroyed key is still in {}", file.display());
            }
        }
    }
}

#[tokio::test]
async fn an_erased_person_cannot_be_read_and_the_chain_holds() {
    let chain = ChainKey::new(&[7; 32]).expect("long enough");
    for place in [Place::sqlite().await, Place::postgres().await] {
        let keys = place.database.member_keys();
        let (ada, bob) = (key_of("ada"), key_of("bob"));
        keys.insert_keys(&[ada.clone(), bob.clone()]).await.expect("keys");
        let mut head = Head::default();
        let mut rows = Vec::new();
        for number in 1..=4_u64 {
            let key = if number % 2 == 0 { &ada } else { &bob };
            let captured = serde_json::json!({ "captured": { "prompt": "a secret wish" }, "limit": 1 });
            let mut row = AuditRow { actor_id: Some(key.member_id.as_str().into()), detail: Some(captured), ..audit(number) };
            seal(&mut row, key).expect("sealing");
            let (link, next) = chain.link(Uuid::nil(), "acme", &head, &row);
            head = next;
            rows.push(AuditRow { link: Some(link), ..row });
        }
        let records = place.database.records();
        records.insert_audit(&stored(rows)).await.expect("sealed rows");
        assert!(!place.sql("SELECT detail FROM audit_events LIMIT 1").await.contains("wish"), "what is kept is sealed");

        let mut read = records.audit_rows(10).await.expect("reading");
        unseal_rows(&*keys, &mut read).await.expect("the keys");
        assert!(read.iter().all(|row| row.actor_name.as_deref() == Some("Ada") && row.address.as_deref() == Some("192.0.2.1")));
        assert_eq!(read[0].detail.as_ref().expect("a detail")["captured"]["prompt"], "a secret wish");

        let old = AuditRow { org_id: Some("blue".into()), ..audit(9) };
        records.insert_audit(&[old.into()]).await.expect("a row from before rows were sealed");
        assert_eq!(keys.rows_of("acme", "ada").await.expect("counting"), RowsOf { all: 2, in_the_clear: 0 });
        assert_eq!(keys.rows_of("blue", "ada").await.expect("counting"), RowsOf { all: 1, in_the_clear: 1 });
        place.sql("DELETE FROM audit_events WHERE org_id = 'blue'").await;
        keys.destroy("acme", "ada", noon()).await.expect("destroying");
        let mut read = records.audit_rows(10).await.expect("reading");
        unseal_rows(&*keys, &mut read).await.expect("the keys that are left");
        for row in &read {
            let expected = if row.actor_id.as_deref() == Some("ada") { ERASED } else { "Ada" };
            assert_eq!(row.actor_name.as_deref(), Some(expected), "{row:?}");
        }
        let (signer, _) = tollgate::records::signing::Signer::generate().expect("a key");
        let (chains, witnesses) = (place.database.chains(), Witnesses::default());
        let verifier = Verifier { chains: &*chains, key: &chain, public: &signer.public(), witnesses: &witnesses };
        let report = verifier.verify(&Scope::default()).await.expect("the database answers");
        assert_eq!((report.problems, report.rows), (vec![], 4), "the log holds without the key");
    }
}
