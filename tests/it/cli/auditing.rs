//! `tollgate audit`: what it says and how it ends.

use tollgate::db::Database;
use tollgate::records::audit_keys::{AuditFiles, AuditKeys};
use tollgate::records::checkpoint::Checkpoints;
use tollgate::records::seal::MemberKey;
use tollgate::records::{AuditRow, Head};
use uuid::Uuid;

use super::Place;
use crate::records::{audit, noon, stored};

/// A place with three linked rows and a checkpoint after them.
async fn logged() -> (Place, Database) {
    let place = Place::new("");
    place.run(&["migrate"]).expect(0, &["migrated"]);
    let files = AuditFiles {
        key_file: place.path("tollgate-audit.key"),
        signing_key_file: place.path("tollgate-audit-signing.pem"),
        checkpoint_file: place.path("tollgate-audit-checkpoints.jsonl"),
    };
    let keys = AuditKeys::read_or_make(&files).expect("new keys");
    let writer = Uuid::from_u128(7);
    let mut head = Head::default();
    let mut rows: Vec<AuditRow> = Vec::new();
    for number in 1..=3 {
        let (link, next) = keys.chain.link(writer, "acme", &head, &audit(number));
        head = next;
        rows.push(AuditRow { link: Some(link), ..audit(number) });
    }
    let database = Database::open(&format!("sqlite:{}", place.path("tollgate.db").display())).expect("the place's database");
    database.records().insert_audit(&stored(rows)).await.expect("linked rows");
    let mut checkpoints = Checkpoints::open(&files.checkpoint_file, writer, keys.signer).expect("the file");
    checkpoints.write([("acme", &head)], noon()).expect("a checkpoint");
    (place, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_whole_and_one_that_is_not() {
    let (place, database) = logged().await;
    place
        .run_with(&["audit", "verify"], &[])
        .expect(0, &["3 rows in 1 chains, 1 of them compared", "1 checkpoints", "The audit log is what was written"]);
    place.run(&["audit", "verify", "--org", "acme", "--from", "2026-11-20", "--to", "2026-11-21"]).expect(0, &["3 rows in 1 chains"]);
    place.run(&["audit", "verify", "--org", "blue"]).expect(0, &["0 rows"]);
    place.run(&["audit", "verify", "--from", "yesterday"]).expect(64, &["--from yesterday", "2026-11-20"]);
    place.run(&["audit", "verify", "--checkpoints", "gone.jsonl"]).expect(1, &["gone.jsonl"]);

    place.run_with(&["audit", "export", "--from", "2026-11-20", "--to", "2026-11-20", "--format", "csv"], &[]).expect(0, &[]);
    let ran = place.run(&["audit", "verify"]);
    ran.expect(0, &["4 rows in 2 chains, 2 of them compared", "2 checkpoints", "The audit log is what was written"]);

    let changed = AuditRow { id: Uuid::nil(), ..audit(9) };
    database.records().insert_audit(&[changed.into()]).await.expect("a row beside the chain");
    let ran = place.run(&["audit", "verify"]);
    ran.expect(1, &["THE AUDIT LOG IS NOT WHAT WAS WRITTEN: 1 problem", &Uuid::nil().to_string(), "no link"]);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_key_and_keys_that_are_not_there() {
    let (place, database) = logged().await;
    database.close().await;
    place.run(&["audit", "public-key"]).expect(0, &["-----BEGIN PUBLIC KEY-----", "key "]);
    std::fs::remove_file(place.path("tollgate-audit.key")).expect("the key");
    place.run(&["audit", "verify"]).expect(1, &["tollgate-audit.key is not there"]);
    let named = Place::new("[records]\nurl = 'sqlite:tollgate.db'\naudit_chain = { key_file = 'gone.key' }");
    named.run(&["audit", "verify"]).expect(64, &["records.audit_chain.key_file", "gone.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_erased_unless_their_org_is_on_hold() {
    let (place, database) = logged().await;
    let key = MemberKey::generate("acme", "ada", noon()).expect("a key");
    database.member_keys().insert_keys(std::slice::from_ref(&key)).await.expect("a key");
    let erase = ["member", "erase", "--org", "acme", "--member", "ada"];
    let held = Place::new("[[orgs]]\nid = 'acme'\nlegal_hold = true");
    held.run_with(&erase, &[]).expect(1, &["legal hold"]);
    place
        .run_with(&erase, &[])
        .expect(0, &["1 key of member ada of org acme destroyed", "0 audit rows", "3 rows are from before", "member_keys in backups"]);
    assert_eq!(database.member_keys().keys(&[key.key_id]).await.expect("reading"), []);
    place.run_with(&erase, &[]).expect(0, &["has no key"]);
    let rows = database.records().audit_rows(10).await.expect("reading");
    let erased: Vec<_> = rows.iter().filter(|row| row.action == "member.erased").collect();
    assert_eq!(erased.len(), 2, "each erasure leaves a row");
    assert!(erased.iter().all(|row| row.link.is_some() && row.resource_id.as_deref() == Some("ada")), "{erased:?}");
    place.run(&["audit", "verify"]).expect(0, &["5 rows in 3 chains, 3 of them compared", "3 checkpoints"]);
    database.close().await;
}
