//! What a gateway wrote down is proved: by `tollgate audit verify`, after crashes, after retention, after somebody was erased;
//! and what was done to it behind its back is found.

use std::path::Path;
use std::process::Command;

use jiff::SignedDuration;
use tollgate::clock::{Clock as _, ManualClock, SystemClock};
use tollgate::db::Database;
use tollgate::records::StoredAudit;
use tollgate::records::seal::{ERASED, unseal_rows};
use tollgate::scripted::client::ChatClient;
use tollgate::scripted::{Options, ScriptedLibreChat, User};

use crate::records::{script, sqlite};
use crate::support::gateway::{Setup, wait_for};
use crate::support::process::TollgateProcess;

/// What `tollgate` said in this folder, and its exit status.
fn tollgate(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).args(["--config", "tollgate.toml"]).current_dir(folder).env_clear();
    let output = command.output().expect("the program starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[track_caller]
fn verified(folder: &Path) -> String {
    let (status, said) = tollgate(folder, &["audit", "verify"]);
    assert_eq!(status, Some(0), "nothing was touched:\n{said}");
    assert!(said.contains("The audit log is what was written."), "{said}");
    said
}

/// Chats, kills it, chats on, and ends it in order.
async fn eventful() -> (ScriptedLibreChat, TollgateProcess) {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::with("capture = 'full'") };
    let mut process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
    for round in 0..3 {
        for person in ["ada", "bob"] {
            let client = ChatClient::new(&process.url(), &librechat.token(&format!("{person}@acme.test")));
            let chat = client.chat(&format!("My secret wish, round {round} [[tokens=3]]")).await.expect("a chat");
            assert_eq!(chat.start.status, 200, "{}", chat.start.text);
        }
        // Nobody: refused tokens are counted by the minute in a row that comes again.
        let stranger = ChatClient::new(&process.url(), "no token");
        for _ in 0..3 {
            assert!(stranger.chat("hello").await.is_err() || round < 3, "whatever a stranger is told");
        }
        if round < 2 {
            // What was being written down when it is killed may be lost; that is not asked here.
            wait_for("both chats to be written down", || async {
                let rows = database.records().audit_rows(1000).await.ok()?;
                (rows.iter().filter(|row| row.action == "chat.started").count() == 2 * (round + 1)).then_some(())
            })
            .await;
            process.crash_and_restart().await;
        }
    }
    database.close().await;
    assert!(process.terminate().await.success(), "{}", process.log());
    (librechat, process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_whole_after_crashes_and_whatever_is_done_to_it_is_found() {
    let (_librechat, process) = eventful().await;
    let folder = process.folder();
    let said = verified(folder);
    assert!(!said.contains("cannot be proved"), "every row has a link: {said}");
    assert!(!said.contains(" 0 of them compared"), "there are checkpoints, of what is there: {said}");
    let file = folder.join("rows.db");
    let settled = sqlite(&file, "SELECT COUNT(*) FROM audit_events WHERE action = 'chat.settled'").await;
    assert_eq!(settled, "6", "every chat is there: {}", process.log());
    let whole = std::fs::read(&file).expect("the file");
    assert!(!String::from_utf8_lossy(&whole).contains("secret wish"), "what was captured is sealed");
    for journal in ["rows.journal.db", "rows.journal.db-wal"] {
        let bytes = std::fs::read(folder.join(journal)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret wish"), "and sealed in {journal}");
    }

    let victim = "(SELECT id FROM audit_events WHERE action = 'chat.settled' ORDER BY chain_seq LIMIT 1 OFFSET 2)";
    let id = sqlite(&file, &format!("SELECT id FROM audit_events WHERE id = {victim}")).await;
    let after = "(SELECT id FROM audit_events WHERE org_id = 'acme' ORDER BY chain_seq LIMIT 1 OFFSET 3)";
    let follower = sqlite(&file, &format!("SELECT id FROM audit_events WHERE id = {after}")).await;
    for (done, statement, named) in [
        ("changed", format!("UPDATE audit_events SET total_tokens = 1 WHERE id = {victim}"), id.as_str()),
        ("moved", format!("UPDATE audit_events SET org_day = '2020-01-01' WHERE id = {victim}"), id.as_str()),
        ("unlinked", format!("UPDATE audit_events SET chain_writer = NULL, chain_hash = NULL WHERE id = {victim}"), id.as_str()),
        ("removed", "DELETE FROM audit_events WHERE org_id = 'acme' AND chain_seq = 3".to_owned(), follower.as_str()),
        (
            "put in",
            "INSERT INTO audit_events (id, time, category, severity, action, outcome, count) \
             SELECT '00000000-0000-0000-0000-00000000abcd', MAX(time), 'API', 'INFO', 'chat.started', 'success', 1 FROM audit_events"
                .to_owned(),
            "00000000-0000-0000-0000-00000000abcd",
        ),
        ("cut off", "DELETE FROM audit_events WHERE org_id = 'acme' AND chain_seq > 5".to_owned(), "missing at the end"),
        ("emptied", "DELETE FROM audit_events".to_owned(), "checkpoint"),
    ] {
        script(&file, &statement).await;
        let (status, said) = tollgate(folder, &["audit", "verify"]);
        assert_eq!(status, Some(1), "a row was {done}:\n{said}");
        assert!(said.contains(named), "what was {done} is named, {named}:\n{said}");
        for log in ["rows.db-wal", "rows.db-shm"] {
            let _ = std::fs::remove_file(folder.join(log));
        }
        std::fs::write(&file, &whole).expect("the file as it was");
    }
    verified(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_erased_cannot_be_read_and_the_log_is_whole() {
    let (_librechat, process) = eventful().await;
    let folder = process.folder();
    let file = folder.join("rows.db");
    let database = Database::open(&format!("sqlite:{}", file.display())).expect("the database");
    let read = async || {
        let mut rows = database.records().audit_rows(1000).await.expect("rows");
        unseal_rows(&*database.member_keys(), &mut rows).await.expect("keys");
        rows
    };
    let started = |rows: Vec<StoredAudit>, who: &str| {
        let of = |row: &StoredAudit| row.action == "chat.started" && row.actor_id.as_deref() == Some(who);
        rows.into_iter().filter(of).collect::<Vec<_>>()
    };
    let (ada, bob) = (User::new("ada@acme.test").id, User::new("bob@acme.test").id);
    let before = started(read().await, &ada);
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(before.iter().all(|row| row.address.as_deref() == Some("127.0.0.1")), "keys came with the rows: {before:?}");

    let (status, said) = tollgate(folder, &["member", "erase", "--org", "acme", "--member", &ada]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("3 keys"), "one for each process: {said}");
    let after = read().await;
    assert!(started(after.clone(), &ada).iter().all(|row| row.address.as_deref() == Some(ERASED)), "{after:?}");
    assert!(started(after, &bob).iter().all(|row| row.address.as_deref() == Some("127.0.0.1")), "others stay");
    verified(folder);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_leaves_the_log_verifiable_and_an_org_on_hold_whole() {
    for held in [false, true] {
        let clock = ManualClock::at(SystemClock.now());
        let setup = Setup { clock: clock.clone(), ..Setup::with(&format!("legal_hold = {held}")) };
        let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("tollgate.toml"), setup.text(&librechat, &folder)).expect("a configuration");
        let running = setup.gateway(&librechat, &folder);
        let url = format!("http://{}", running.public);
        let chat = async |text: &str| {
            let user = User::new("ada@acme.test");
            let token = tollgate::scripted::auth::mint(librechat.jwt_secret(), &user, clock.now()).expect("a token");
            ChatClient::new(&url, &token).chat(text).await.expect("a chat");
        };
        let count =
            async || running.app.records.audit_rows(1000).await.expect("rows").iter().filter(|row| row.action == "chat.settled").count();
        chat("old [[tokens=3]]").await;
        wait_for("the old chat", || async { (count().await == 1).then_some(()) }).await;
        clock.set(clock.now() + SignedDuration::from_hours(24 * 366));
        chat("new [[tokens=3]]").await;
        wait_for("the new chat", || async { (count().await == 2).then_some(()) }).await;
        assert!(!running.app.retain_records().await, "one round is enough");
        assert_eq!(count().await, if held { 2 } else { 1 }, "held: {held}");
        assert!(running.stop(), "everything was written");
        let said = verified(folder.path());
        assert_eq!(said.contains("1 chains begin after what retention removed"), !held, "{said}");
    }
}
