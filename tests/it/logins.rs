//! Sign-ins with LibreChat's own accounts, at the front door: what is counted, what locks, what is told, and what is written
//! down.

mod codes;
mod hostile;

use serde_json::{Value, json};
use tollgate::clock::{ManualClock, SharedClock};
use tollgate::identity::directory::store::PutStanding;
use tollgate::identity::lockouts::redis::RedisLockouts;
use tollgate::identity::lockouts::{Lockouts as _, LoginName, Subject};
use tollgate::identity::{Org, Standing};
use tollgate::records::{Severity, StoredAudit};
use tollgate::scripted::client::BROWSER;
use tollgate::scripted::{Options, PASSWORD, ScriptedLibreChat, Strangers, User};
use tollgate::serve::Running;
use tollgate::shared::{Redis, RedisSettings};

use crate::support::gateway::{Setup, TestGateway, value_of, wait_for};
use crate::support::redis::RedisServer;
use crate::support::wire::{HandmadeLibreChat, Message, Wire};

const ANN: &str = "ann@acme.test";
const WRONG: &str = "wrong-password";
const LOGIN: &str = "/api/auth/login";

/// Ann and Bob, and nobody else.
fn people() -> Options {
    Options { users: vec![User::new(ANN), User::new("bob@acme.test")], strangers: Strangers::Refused, ..Options::default() }
}

fn setup() -> Setup {
    Setup { librechat: people(), ..Setup::default() }
}

/// Posts JSON, as somebody who comes from this address.
async fn post(running: &Running, path: &str, address: &str, body: &str) -> Message {
    let mut wire = Wire::connect(running.public).await;
    let length = body.len();
    wire.send(format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\nX-Forwarded-For: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire.answer_to("POST").await
}

async fn login_from(running: &Running, address: &str, email: &str, password: &str) -> Message {
    post(running, LOGIN, address, &json!({ "email": email, "password": password }).to_string()).await
}

async fn login(gateway: &TestGateway, email: &str, password: &str) -> Message {
    login_from(&gateway.running, "192.0.2.1", email, password).await
}

/// What LibreChat was asked to judge.
fn judged(librechat: &ScriptedLibreChat) -> usize {
    librechat.requests().iter().filter(|request| request.path.eq_ignore_ascii_case(LOGIN)).count()
}

fn said(answer: &Message) -> String {
    answer.json()["message"].as_str().unwrap_or_else(|| panic!("no sentence: {answer:?}")).to_owned()
}

/// Fails so often, and waits until each failure was counted.
async fn fail(gateway: &TestGateway, address: &str, email: &str, times: usize) {
    for _ in 0..times {
        let answer = login_from(&gateway.running, address, email, WRONG).await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_passes_unchanged_and_its_row_says_who() {
    let gateway = setup().start().await;
    let answer = login(&gateway, ANN, PASSWORD).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["user"]["email"], ANN);
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2, "LibreChat's cookies pass");
    let received = gateway.librechat.wait_for_request("POST /api/auth/login").await.expect("a sign-in");
    assert_eq!(String::from_utf8_lossy(&received.body), json!({ "email": ANN, "password": PASSWORD }).to_string());
    let row = gateway.audit_rows("auth.login", 1).await.remove(0);
    let id = User::new(ANN).id;
    assert_eq!((row.actor_id.as_deref(), row.org_id.as_deref(), row.status), (Some(&*id), Some("acme"), Some(200)), "{row:?}");
    assert_eq!((row.severity, row.address.as_deref()), (Severity::Info, Some("192.0.2.1")));
    // She is in the directory from then on.
    wait_for("her to be a member", || async { gateway.running.app.directory.by_librechat_id(&id).map(|_| ()) }).await;
    let metrics = gateway.metrics().await;
    assert!((value_of(&metrics, r#"tollgate_logins_total{outcome="signed_in"}"#) - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fifth_failure_locks_the_name_in_every_spelling_and_the_right_password_with_it() {
    let gateway = setup().start().await;
    for (number, spelling) in [ANN, "Ann@ACME.test", " ann@acme.test ", "ann@acme.test", "ANN@acme.test"].iter().enumerate() {
        let path = [LOGIN, "/api/auth/login/", "/API/auth/LOGIN", "/api/admin/login/local", LOGIN][number];
        let body = json!({ "email": spelling, "password": WRONG }).to_string();
        assert_eq!(post(&gateway.running, path, "192.0.2.1", &body).await.status, 404, "{path} {spelling}");
    }
    let before = gateway.librechat.requests().len();
    for password in [WRONG, PASSWORD] {
        let answer = login_from(&gateway.running, "198.51.100.7", ANN, password).await;
        assert_eq!(answer.status, 429, "{}", answer.text());
    }
    wait_for("the lock to be told", || async { said(&login(&gateway, ANN, PASSWORD).await).contains("15 minutes").then_some(()) }).await;
    let answer = login(&gateway, ANN, PASSWORD).await;
    assert_eq!(answer.json().as_object().map(serde_json::Map::len), Some(1), "the shape of LibreChat's own limiter");
    let seconds: u64 = answer.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("when to come again");
    assert!((800..=900).contains(&seconds), "{seconds}");
    assert_eq!(
        gateway.librechat.requests().iter().skip(before).filter(|request| request.method == "POST").count(),
        0,
        "nothing was forwarded"
    );
    assert_eq!(login(&gateway, "bob@acme.test", PASSWORD).await.status, 200, "others sign in");
    rows_of_a_lock(&gateway).await;
}

async fn rows_of_a_lock(gateway: &TestGateway) {
    let locked = gateway.audit_rows("auth.locked", 1).await.remove(0);
    assert_eq!((locked.severity, locked.detail.as_ref().map(|detail| detail["locked"].clone())), (Severity::Warning, Some(json!("name"))));
    let failed = gateway.audit_rows("auth.login_failed", 2).await;
    let hash = locked.resource_id.clone().expect("a name");
    assert!(hash.starts_with("name:") && !hash.contains("ann"), "{hash}");
    let reasons: Vec<&str> = failed.iter().filter_map(|row| row.error.as_deref()).collect();
    assert!(reasons.contains(&"wrong_password"), "{reasons:?}");
    assert!(failed.iter().all(|row| row.resource_id.as_ref() == Some(&hash)), "all of one name: {failed:?}");
    let metrics = gateway.metrics().await;
    assert!((value_of(&metrics, r#"tollgate_login_locks_total{locked="name"}"#) - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_ends_and_a_later_failure_never_shortens_it() {
    let noon: jiff::Timestamp = "2026-11-20T12:00:00Z".parse().expect("an instant");
    let clock = ManualClock::at(noon);
    let shared: SharedClock = clock.clone();
    let librechat = Options { clock: shared.clone(), ..people() };
    let gateway = Setup { clock: shared, librechat, ..setup() }.start().await;
    fail(&gateway, "192.0.2.1", ANN, 5).await;
    wait_for("the lock", || async { said(&login(&gateway, ANN, PASSWORD).await).contains("15 minutes").then_some(()) }).await;
    clock.set(noon + jiff::SignedDuration::from_mins(14));
    assert!(said(&login(&gateway, ANN, WRONG).await).contains("in a minute"), "a failure now neither lengthens nor shortens it");
    clock.set(noon + jiff::SignedDuration::from_mins(15));
    assert_eq!(login(&gateway, ANN, PASSWORD).await.status, 200, "it is over");
    let row = gateway.audit_rows("auth.login", 1).await.remove(0);
    assert_eq!(row.severity, Severity::Critical, "from a place where she never was, after a lock: {row:?}");
    // From there she is known now: whoever guesses elsewhere locks her out no more.
    fail(&gateway, "198.51.100.7", ANN, 5).await;
    assert_eq!(login_from(&gateway.running, "198.51.100.8", ANN, PASSWORD).await.status, 429);
    assert_eq!(login(&gateway, ANN, PASSWORD).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_on_one_redis_count_together_and_the_command_opens() {
    let redis = RedisServer::start();
    let setup = Setup { store: redis.url(), store_keys: "timeout_ms = 5000".into(), ..setup() };
    let librechat = ScriptedLibreChat::start(people()).await.expect("a free port");
    let (folder, other_folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (one, other) = (setup.gateway(&librechat, &folder), setup.gateway(&librechat, &other_folder));
    for running in [&one, &other, &one, &other, &one] {
        assert_eq!(login_from(running, "192.0.2.1", ANN, WRONG).await.status, 404);
    }
    for running in [&one, &other] {
        wait_for("both to be locked", || async {
            said(&login_from(running, "192.0.2.1", ANN, PASSWORD).await).contains("minutes").then_some(())
        })
        .await;
    }
    assert_eq!(judged(&librechat), 5);
    let tollgate = |arguments: &'static [&'static str]| command(folder.path(), setup.text(&librechat, &folder), arguments);
    let (status, listed) = tollgate(&["lockouts", "list"]).await;
    assert!(status == Some(0) && listed.contains(ANN) && listed.contains("name"), "{listed}");
    let (status, opened) = tollgate(&["lockouts", "open", "Ann@acme.test"]).await;
    assert!(status == Some(0) && opened.contains("open"), "{opened}");
    assert_eq!(login_from(&other, "192.0.2.1", ANN, PASSWORD).await.status, 200, "{opened}");
    let rows = one.app.records.audit_rows(1_000).await.expect("rows");
    let unlocked: Vec<&StoredAudit> = rows.iter().filter(|row| row.action == "auth.unlocked").collect();
    assert!(unlocked.len() == 1 && unlocked[0].resource_id.as_ref().is_some_and(|id| id.starts_with("name:")), "{unlocked:?}");
    let (status, listed) = tollgate(&["lockouts", "list"]).await;
    assert!(status == Some(0) && listed.contains("Nothing"), "{listed}");
    let lockouts = RedisLockouts::new(Redis::new(RedisSettings::new(redis.url()), tokio::runtime::Handle::current()).expect("a Redis"));
    assert!(!lockouts.open(&Subject::Name(LoginName::of(ANN).expect("a name"))).await.expect("an answer"), "nothing is left of it");
    tokio::task::spawn_blocking(move || (one.stop(), other.stop())).await.expect("they stop");
}

/// Runs a command in a folder, with this configuration: its status, and all that it says.
async fn command(folder: &std::path::Path, config: String, arguments: &'static [&'static str]) -> (Option<i32>, String) {
    let folder = folder.to_owned();
    let run = move || {
        std::fs::write(folder.join("tollgate.toml"), config).expect("a file");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let output = command.args(arguments).args(["--config", "tollgate.toml"]).current_dir(folder).env_clear().output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    tokio::task::spawn_blocking(run).await.expect("an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_history_shows_who_signed_in_and_who_tried() {
    let gateway = setup().start().await;
    assert_eq!(login(&gateway, ANN, PASSWORD).await.status, 200);
    let id = User::new(ANN).id;
    wait_for("her to be a member", || async { gateway.running.app.directory.by_librechat_id(&id).map(|_| ()) }).await;
    fail(&gateway, "198.51.100.7", "Ann@acme.test", 2).await;
    fail(&gateway, "198.51.100.9", "bob@acme.test", 1).await;
    gateway.audit_rows("auth.login_failed", 2).await;
    let config = || setup().text(&gateway.librechat, &gateway.folder);
    let arguments = &["member", "logins", "--org", "acme", "--member", ANN];
    let (status, said) = command(gateway.folder.path(), config(), arguments).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("auth.login ") && said.contains("success") && said.contains("192.0.2.1"), "{said}");
    assert!(said.contains("wrong_password") && said.contains("198.51.100.7") && !said.contains("198.51.100.9"), "{said}");
    let (status, said) = command(gateway.folder.path(), config(), &["lockouts", "list"]).await;
    assert!(status == Some(1) && said.contains("memory"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_guesses_at_once_five_are_judged() {
    let gateway = setup().start().await;
    let guesses = (0..40).map(|number| {
        let running = &gateway.running;
        async move { login_from(running, &format!("203.0.113.{number}"), ANN, &format!("{WRONG}-{number}")).await.status }
    });
    let statuses = futures_util::future::join_all(guesses).await;
    assert_eq!(statuses.iter().filter(|status| **status == 404).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 35, "{statuses:?}");
    assert_eq!(judged(&gateway.librechat), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_tries_many_names_has_to_wait() {
    let gateway = Setup { config: "[logins]\naddress_failures = 6\n".into(), ..setup() }.start().await;
    for number in 0..6 {
        assert_eq!(login(&gateway, &format!("nobody{number}@acme.test"), WRONG).await.status, 404);
    }
    wait_for("it to wait", || async { said(&login(&gateway, ANN, PASSWORD).await).contains("your network").then_some(()) }).await;
    assert_eq!(login_from(&gateway.running, "192.0.2.2", ANN, PASSWORD).await.status, 200, "others do not");
    let rows = gateway.audit_rows("auth.login_failed", 7).await;
    assert!(rows.iter().any(|row| row.error.as_deref() == Some("unknown_name")), "{rows:?}");
    let locked = gateway.audit_rows("auth.locked", 1).await.remove(0);
    assert_eq!((locked.resource_type.as_deref(), locked.resource_id.as_deref()), (Some("address"), Some("192.0.2.1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_person_reads_why_and_librechat_is_not_asked() {
    let gateway = setup().start().await;
    assert_eq!(login(&gateway, ANN, PASSWORD).await.status, 200);
    let app = &gateway.running.app;
    let id = User::new(ANN).id;
    let member = wait_for("her to be a member", || async { app.directory.by_librechat_id(&id) }).await;
    let suspended = tollgate::identity::Member { standing: Standing::Suspended, ..(*member).clone() };
    app.orgs_and_members.put_members(&[suspended], app.clock.now()).await.expect("a change");
    let answer =
        wait_for("it to be known", || async { Some(login(&gateway, ANN, PASSWORD).await).filter(|answer| answer.status == 403) }).await;
    assert!(said(&answer).starts_with("Your account is suspended here, so you cannot sign in."), "{}", answer.text());
    let before = judged(&gateway.librechat);
    assert_eq!(login(&gateway, "Ann@Acme.Test", PASSWORD).await.status, 403);
    assert_eq!(judged(&gateway.librechat), before);
    assert_eq!(login(&gateway, "bob@acme.test", PASSWORD).await.status, 200);
    let acme = app.directory.by_id("acme").expect("acme");
    let suspended = Org { standing: Standing::Suspended, ..(*acme).clone() };
    app.orgs_and_members.put_orgs(&[suspended], PutStanding::Written, app.clock.now()).await.expect("a change");
    let answer = wait_for("it to be known", || async {
        Some(login(&gateway, "bob@acme.test", PASSWORD).await).filter(|answer| answer.status == 403)
    })
    .await;
    assert!(said(&answer).starts_with("Your organization is suspended here"), "{}", answer.text());
    let rows = gateway.audit_rows("auth.login_failed", 2).await;
    let reasons: Vec<&str> = rows.iter().filter_map(|row| row.error.as_deref()).collect();
    assert!(reasons.contains(&"member_suspended") && reasons.contains(&"org_suspended"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_librechat_is_away_nobody_fails() {
    let gateway = setup().start().await;
    gateway.librechat.set_down(true);
    for _ in 0..8 {
        let answer = login(&gateway, ANN, PASSWORD).await;
        assert!(matches!(answer.status, 502 | 503), "{}", answer.text());
    }
    gateway.librechat.set_down(false);
    let answer = login(&gateway, ANN, PASSWORD).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_before_the_answer_has_guessed() {
    let librechat = HandmadeLibreChat::start(|_, wire| async move {
        // Never answers.
        std::future::pending::<()>().await;
        Some(wire)
    })
    .await;
    let gateway = Setup { upstream: librechat.url(), ..setup() }.start().await;
    let body = json!({ "email": ANN, "password": WRONG }).to_string();
    for _ in 0..5 {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(format!(
            "POST {LOGIN} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        drop(wire);
    }
    wait_for("the name to be locked", || async {
        let answer = tokio::time::timeout(std::time::Duration::from_millis(500), login(&gateway, ANN, PASSWORD)).await.ok()?;
        (answer.status == 429 && said(&answer).contains("minutes")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_failures_cannot_be_counted_the_configuration_decides() {
    for (on_failure, status) in [("closed", 503), ("open", 200)] {
        let mut redis = RedisServer::start();
        let config = format!("[logins]\non_failure = \"{on_failure}\"\n");
        let gateway = Setup { store: redis.url(), config, ..setup() }.start().await;
        redis.kill();
        let answer = login(&gateway, ANN, PASSWORD).await;
        assert_eq!(answer.status, status, "{on_failure}: {}", answer.text());
        if status == 503 {
            assert!(said(&answer).starts_with("Sign-ins cannot be checked right now"), "{}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_they_are_not_watched_they_pass() {
    let gateway = Setup { config: "[logins]\nwatch = false\n".into(), ..setup() }.start().await;
    fail(&gateway, "192.0.2.1", ANN, 7).await;
    assert_eq!(login(&gateway, ANN, PASSWORD).await.status, 200);
    let rows = gateway.audit_rows("auth.login_failed", 7).await;
    assert!(rows.iter().all(|row| row.actor_id.is_none()));
}

/// The whole database and log files as text, to look for what must not be there.
fn everything_written(folder: &std::path::Path) -> String {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    files.filter(|path| path.is_file()).map(|path| String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned()).collect()
}

fn shown(value: &Value) -> String {
    value.to_string()
}
