//! The audit log is proved: linked rows on real databases, and everything that someone with the database's password may do
//! to them.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use tollgate::records::anchoring::anchor_before;
use tollgate::records::chains::{ChainId, Span};
use tollgate::records::checkpoint::{Anchor, Checkpoints, anchor};
use tollgate::records::signing::Signer;
use tollgate::records::verify::{Report, Scope, Verifier};
use tollgate::records::witnesses::Witnesses;
use tollgate::records::{AuditRow, ChainKey, Head};
use uuid::Uuid;

use super::{Place, audit, noon, stored};

const WRITER: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_a000_0000_0000_0001);

/// A database with linked rows, the keys that linked them, and a file of checkpoints.
struct Log {
    place: Place,
    key: ChainKey,
    signer: std::sync::Arc<Signer>,
    folder: TempDir,
    rows: Vec<AuditRow>,
}

impl Log {
    async fn of(place: Place, rows: Vec<AuditRow>) -> Self {
        let key = ChainKey::new(b"a key of thirty-two bytes or more").expect("long enough");
        let (signer, _) = Signer::generate().expect("a key");
        let mut log = Self { place, key, signer: signer.into(), folder: tempfile::tempdir().expect("a folder"), rows: Vec::new() };
        let mut head = Head::default();
        for row in rows {
            let (link, next) = log.key.link(WRITER, "acme", &head, &row);
            head = next;
            log.rows.push(AuditRow { link: Some(link), ..row });
        }
        log.write().await;
        log
    }

    async fn with(place: Place, count: u64) -> Self {
        Self::of(place, (1..=count).map(audit).collect()).await
    }

    async fn write(&self) {
        for batch in self.rows.chunks(500) {
            self.place.database.records().insert_audit(&stored(batch.to_vec())).await.expect("linked rows");
        }
    }

    fn head(&self, seq: usize) -> Head {
        Head::of(self.rows[seq - 1].link.as_ref().expect("a link"))
    }

    fn chain() -> ChainId {
        ChainId { org: "acme".to_owned(), writer: WRITER }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("checkpoints.jsonl")
    }

    /// Checkpoints after these rows.
    fn check_after(&self, seqs: &[usize]) {
        let mut checkpoints = Checkpoints::open(&self.file(), WRITER, self.signer.clone()).expect("the file");
        for seq in seqs {
            checkpoints.write([("acme", &self.head(*seq))], noon()).expect("a checkpoint");
        }
    }

    async fn verify(&self) -> Report {
        self.verify_only(&Scope::default()).await
    }

    async fn verify_only(&self, scope: &Scope) -> Report {
        let mut witnesses = Witnesses::default();
        if self.file().exists() {
            witnesses.read(&self.file(), &self.signer.public()).expect("the file of checkpoints");
        }
        let chains = self.place.database.chains();
        let verifier = Verifier { chains: &*chains, key: &self.key, public: &self.signer.public(), witnesses: &witnesses };
        verifier.verify(scope).await.expect("the database answers")
    }

    async fn good(&self) -> Report {
        let report = self.verify().await;
        assert_eq!(report.problems, [], "nothing was touched on {}", self.place.url);
        report
    }

    /// There is one chain with a problem, which says so and names this row.
    async fn bad(&self, what: &str, seq: Option<u64>) {
        let report = self.verify().await;
        let [problem] = &report.problems[..] else { panic!("on {}: {:?}", self.place.url, report.problems) };
        assert!(problem.what.contains(what), "on {}: {problem:?}", self.place.url);
        assert_eq!(problem.seq, seq, "on {}: {problem:?}", self.place.url);
    }

    async fn add_anchor(&self, anchor: &Anchor) {
        self.place.database.chains().insert_anchor(anchor).await.expect("an anchor");
    }

    /// What a purge by hand does.
    async fn remove(&self, condition: &str) {
        self.place.sql(&format!("DELETE FROM audit_events WHERE {condition}")).await;
    }
}

async fn both(count: u64) -> [Log; 2] {
    [Log::with(Place::sqlite().await, count).await, Log::with(Place::postgres().await, count).await]
}

#[tokio::test]
async fn rows_of_any_content_hold_on_every_database() {
    let texts = ["", "한국어 🦀 \u{202e}", "'; DROP TABLE audit_events; --", "\\u0041\\\"\n\r\t\u{1}\u{7f}\u{2028}"];
    let details = [
        json!(null),
        json!({}),
        json!([]),
        json!([[], {}, [null, true, false, "", 0, -1]]),
        json!({ "longer": 1, "b": 2, "a": 3, "": 4, "가": 5, "B": 6, "a.b": { "z": [1, 2], "y": [2, 1] } }),
        json!({ "most": u64::MAX, "least": i64::MIN, "beyond": 9_007_199_254_740_993_u64 }),
        json!("1.50"),
        json!({ "text": texts }),
    ];
    let mut rows = Vec::new();
    for (number, (text, detail)) in texts.iter().cycle().zip(&details).enumerate() {
        let number = number as u64;
        rows.push(AuditRow {
            actor_name: Some((*text).into()),
            path: Some((*text).to_owned()),
            error: Some(text.repeat(50)),
            query: None,
            duration_ms: Some(u64::MAX),
            time: noon() + jiff::SignedDuration::from_nanos(1_234_567_891 * number.cast_signed()),
            detail: Some(detail.clone()),
            ..audit(number)
        });
    }
    rows.push(AuditRow { detail: None, org_id: Some("acme".into()), actor_id: None, status: None, ..audit(99) });
    for place in [Place::sqlite().await, Place::postgres().await] {
        let count = rows.len() as u64;
        let log = Log::of(place, rows.clone()).await;
        let report = log.good().await;
        assert_eq!((report.rows, report.chains, report.unlinked), (count, 1, 0));
        let read = log.place.database.records().audit_rows(100).await.expect("reading");
        let written: Vec<_> = log.rows.iter().map(|row| row.link.clone()).collect();
        for row in read {
            assert!(written.contains(&row.link) && row.link.is_some(), "the link comes back as it was written: {row:?}");
        }
    }
}

#[tokio::test]
async fn a_long_chain_is_walked_in_pages_and_a_count_may_grow() {
    for log in both(2_345).await {
        log.check_after(&[1, 1000, 2_345]);
        log.write().await;
        log.place.database.records().insert_audit(&stored([AuditRow { count: 42, ..audit(7) }])).await.expect("the same row, larger");
        let report = log.good().await;
        assert_eq!((report.rows, report.chains, report.compared), (2_345, 1, 3));
        // A page ends at row 1,000: a double there is found like any other.
        log.place.sql("UPDATE audit_events SET chain_seq = 1000 WHERE chain_seq = 1001").await;
        log.bad("doubled", Some(1000)).await;
    }
}

#[tokio::test]
async fn whatever_is_done_to_a_row_shows() {
    for log in both(9).await {
        log.check_after(&[9]);
        let id = log.rows[4].id;
        for change in [
            "error = 'nothing happened'",
            "error = NULL",
            "org_id = 'blue'",
            "actor_name = 'Bob'",
            "status = 200",
            "severity = 'INFO'",
            "detail = NULL",
            "chain_previous = chain_hash",
            "chain_hash = chain_previous",
            "severity = 'LOUD'",
            "chain_hash = NULL",
        ] {
            log.place.sql(&format!("UPDATE audit_events SET {change} WHERE id = '{id}'")).await;
            let report = log.verify().await;
            assert!(report.problem_count > 0, "{change} does not show on {}", log.place.url);
            let told = format!("{:?}", report.problems);
            // A row that left its chain is missed before the next one.
            let next = log.rows[5].id.to_string();
            assert!(told.contains(&id.to_string()) || told.contains(&next), "{change}: the row is not named: {told}");
            log.remove(&format!("id = '{id}'")).await;
            log.place.database.records().insert_audit(&stored(log.rows[4..5].to_vec())).await.expect("the row as it was");
            log.good().await;
        }
    }
}

#[tokio::test]
async fn a_row_without_a_link_is_no_part_of_the_log() {
    for log in both(3).await {
        let old = AuditRow { time: noon() - jiff::SignedDuration::from_hours(24), ..audit(100) };
        log.place.database.records().insert_audit(&[old.into()]).await.expect("a row from before there were chains");
        assert_eq!(log.good().await.unlinked, 1);
        log.place.database.records().insert_audit(&stored([audit(101), audit(102)])).await.expect("rows that were put in");
        let report = log.verify().await;
        assert_eq!((report.problem_count, report.unlinked), (2, 1));
        assert_eq!(report.problems[0].row.expect("a row").0, audit(101).id, "the first is named");
        let scope = Scope { unlinked_until: Some(noon() + jiff::SignedDuration::from_hours(1)), ..Scope::default() };
        assert_eq!(log.verify_only(&scope).await.problems, [], "an operator may accept them");
    }
}

#[tokio::test]
async fn only_checkpoints_show_that_the_end_is_gone_or_everything_was_written_anew() {
    for mut log in both(9).await {
        log.remove("chain_seq > 7").await;
        log.good().await;
        log.check_after(&[4, 9]);
        log.bad("rows 8 to 9 are missing at the end", Some(9)).await;
        // Whoever has the key links other rows, and as many.
        let whole = std::mem::take(&mut log.rows);
        log.remove("1 = 1").await;
        log.bad("no row of this chain is there", Some(9)).await;
        let mut head = Head::default();
        for row in whole {
            let other = AuditRow { error: Some("nothing happened".to_owned()), link: None, ..row };
            let (link, next) = log.key.link(WRITER, "acme", &head, &other);
            head = next;
            log.rows.push(AuditRow { link: Some(link), ..other });
        }
        log.write().await;
        log.bad("written anew", Some(4)).await;
    }
}

#[tokio::test]
async fn a_purge_is_told_apart_from_retention() {
    for log in both(9).await {
        log.check_after(&[2, 9]);
        log.remove("chain_seq <= 4").await;
        log.bad("rows 1 to 4 are missing before it, and no anchor accounts for them", Some(5)).await;

        let genuine = anchor(&log.signer, Log::chain(), log.head(4), noon());
        let (other, _) = Signer::generate().expect("a key");
        let forged = anchor(&other, Log::chain(), log.head(4), noon());
        log.add_anchor(&forged).await;
        let report = log.verify().await;
        assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
        assert!(report.problems[0].what.contains("forged"), "{:?}", report.problems);
        log.place.sql("DELETE FROM audit_anchors").await;

        log.add_anchor(&genuine).await;
        log.add_anchor(&genuine).await;
        let report = log.good().await;
        assert_eq!((report.rows, report.anchored), (5, 1));

        // An anchor says nothing about what comes after it.
        log.remove("chain_seq = 6").await;
        log.bad("rows 6 to 6 are missing", Some(7)).await;
        log.remove("chain_seq = 5").await;
        log.bad("rows 5 to 6 are missing before it, and no anchor accounts for them", Some(7)).await;
        log.remove("1 = 1").await;
        log.bad("no row of this chain is there", Some(9)).await;
        log.add_anchor(&anchor(&log.signer, Log::chain(), log.head(9), noon())).await;
        log.good().await;
    }
}

#[tokio::test]
async fn what_retention_left_before_its_anchor_still_is_what_was_written() {
    for log in both(9).await {
        // Rows are linked in the order they were settled, and removed by their time, so that the edge is ragged.
        log.remove("chain_seq <= 5 AND chain_seq <> 3").await;
        log.add_anchor(&anchor(&log.signer, Log::chain(), log.head(5), noon())).await;
        let report = log.good().await;
        assert_eq!((report.rows, report.left_over), (5, 1));
        log.place.sql("UPDATE audit_events SET error = 'else' WHERE chain_seq = 3").await;
        log.bad("not what was written", Some(3)).await;
    }
}

#[tokio::test]
async fn retention_anchors_every_chain_that_it_cuts() {
    for log in both(9).await {
        let chains = log.place.database.chains();
        let cutoff = log.rows[5].time;
        let anchor_unless = |held: &'static str| anchor_before(&*chains, &log.signer, cutoff, move |org| org == held, noon());
        assert_eq!(anchor_unless("acme").await.expect("anchoring"), 0, "an org on hold is not cut");
        assert_eq!(anchor_unless("blue").await.expect("anchoring"), 1);
        assert_eq!(anchor_unless("blue").await.expect("anchoring"), 0, "once is enough");
        log.good().await;
        log.remove("chain_seq <= 5").await;
        let report = log.good().await;
        assert_eq!((report.rows, report.anchored, report.left_over), (4, 1, 0));
    }
}

#[tokio::test]
async fn one_org_or_a_span_of_time_alone() {
    for log in both(9).await {
        let blue = AuditRow { org_id: Some("blue".into()), ..audit(50) };
        let nobody = AuditRow { org_id: None, ..audit(51) };
        let link = |org: &str, row: AuditRow| {
            let (link, _) = log.key.link(WRITER, org, &Head::default(), &row);
            AuditRow { link: Some(link), ..row }
        };
        let others = [link("blue", blue), link("", nobody)];
        log.place.database.records().insert_audit(&stored(others)).await.expect("rows of other chains");
        assert_eq!(log.good().await.chains, 3);
        log.place.sql("UPDATE audit_events SET error = 'else' WHERE chain_seq = 2").await;
        let only = |org: &str| Scope { org: Some(org.to_owned()), ..Scope::default() };
        assert_eq!(log.verify_only(&only("acme")).await.problem_count, 1);
        for org in ["blue", ""] {
            let report = log.verify_only(&only(org)).await;
            assert_eq!((report.problem_count, report.rows), (0, 1), "org {org:?}");
        }
        let time = |seq: usize| Some(log.rows[seq - 1].time);
        let late = Scope { span: Span { from: time(4), to: time(8) }, ..only("acme") };
        let report = log.verify_only(&late).await;
        assert_eq!((report.problem_count, report.rows), (0, 4), "rows 4 to 7 are as they were");
        let early = Scope { span: Span { from: None, to: time(4) }, ..only("acme") };
        let report = log.verify_only(&early).await;
        assert_eq!((report.problem_count, report.rows), (1, 3));
        log.remove("chain_seq = 6").await;
        assert_eq!(log.verify_only(&late).await.problem_count, 1, "a gap within the span");
    }
}
