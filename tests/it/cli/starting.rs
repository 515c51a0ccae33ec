//! `serve`, `check` and `migrate`: what stops a start, in which words, and with which status.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tollgate::scripted::client::plain_http;

use super::{Place, Ran, SECRET};
use crate::support::postgres::Postgres;

/// How long a start or a stop may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const TIE: &str = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 5\n[[limits]]\napplies_to = 'member'\ntokens_per_day = 6";

const ISSUER: &str = "[[orgs]]\nid = 'acme'\n[[issuers]]\nname = 'dashboard'\norgs = ['acme']\nalgorithm = 'HS256'\n";

#[test]
fn what_serve_would_refuse_check_refuses_in_the_same_words() {
    let keys = format!("{}/tests/fixtures/keys", env!("CARGO_MANIFEST_DIR"));
    let rsa = format!("name = 'b'\norgs = ['acme']\nalgorithm = 'RS256'\npublic_key_file = '{keys}/rsa2048.pub.pem'\n");
    let same_keys = format!("[[orgs]]\nid = 'acme'\n[[issuers]]\n{}[[issuers]]\n{rsa}", rsa.replace("'b'", "'a'"));
    let cases: [(&str, &[&str]); 12] = [
        ("[public]\nlisen = 'x'", &["public.lisen", "tollgate.toml, line 2"]),
        ("[public]\nlisten = '127.0.0.1'", &["public.listen"]),
        (TIE, &["limits[0] and limits[1]", "tokens_per_day", "tollgate.toml, line 4"]),
        (&format!("{ISSUER}secret = 'only-twenty-five-bytes-xx'"), &["issuers[0].secret", "25 bytes", "at least 32"]),
        (&format!("{ISSUER}secret = '{SECRET}'"), &["issuers[0].secret", "librechat.jwt_secret"]),
        (&format!("{ISSUER}secret = '-----BEGIN PUBLIC KEY----- 0123456789'"), &["issuers[0].secret", "PEM"]),
        (&same_keys, &["issuers[1].public_key_file", "\"a\""]),
        ("[prices]\nfile = 'gone.toml'", &["prices.file", "gone.toml", "cannot read"]),
        ("[prices]\nfile = 'prices.toml'", &["prices.file", "prices.toml is no price table", "default"]),
        ("[store]\nurl = 'redis://127.0.0.1:6379/x'", &["store.url", "the database is not a number"]),
        ("[records]\nurl = 'sqlite:no/such/folder/tollgate.db'", &["records.url", "no/such/folder"]),
        ("[records]\nurl = 'postgres://me@127.0.0.1/x?sslmode=sometimes'", &["records.url", "sometimes"]),
    ];
    for (config, words) in cases {
        let place = Place::new(config);
        place.write("prices.toml", "version = '1'\n[[models]]\nname = 'x'\n");
        let (served, checked) = (place.run(&["serve"]), place.run(&["check"]));
        served.expect(64, words);
        checked.expect(64, words);
        assert_eq!(served.err, checked.err, "serve (left) and check (right) disagree about {config}");
        assert!(!place.path("tollgate.db").exists(), "a start that is refused leaves nothing behind");
    }
}

#[test]
fn without_a_secret_the_ways_to_give_one_are_named() {
    let place = Place::new("");
    let ways = ["jwt_secret", "jwt_secret_file", "JWT_SECRET", "TOLLGATE_LIBRECHAT__JWT_SECRET"];
    place.run_with(&["serve"], &[]).expect(64, &ways);
    place.run_with(&["check", "--live"], &[]).expect(64, &ways);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_listener() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for listener in ["public", "admin", "metrics"] {
        let ran = Place::new(&format!("[{listener}]\nlisten = '{address}'")).run(&["serve"]);
        ran.expect(1, &[&format!("{listener}.listen"), &address, "in use"]);
    }
}

#[test]
fn a_database_that_cannot_be_made_or_reached_stops_the_start() {
    // Nobody can make a file there, root included.
    let place = Place::new("[records]\nurl = 'sqlite:/proc/tollgate.db'");
    place.run(&["check"]).expect(0, &[]);
    place.run(&["serve"]).expect(1, &["/proc/tollgate.db"]);
    place.run(&["migrate"]).expect(1, &["/proc/tollgate.db"]);
    let place = Place::new("[records]\nurl = 'postgres://postgres@127.0.0.1:1/tollgate'");
    place.run(&["serve"]).expect(1, &["the records database cannot be reached"]);
    place.run(&["migrate"]).expect(1, &["the records database cannot be reached"]);
}

#[test]
fn redis_away_at_the_start_is_said_and_the_start_goes_on() {
    let place = Place::new("[store]\nurl = 'redis://me:hunter2@127.0.0.1:1'");
    let mut serving = place.command(&["serve"], &[("JWT_SECRET", SECRET)]).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut errors = serving.stderr.take().expect("its standard error");
    let (mut said, mut signalled) = (String::new(), false);
    let deadline = Instant::now() + PATIENCE;
    let mut chunk = [0; 4096];
    // Reading ends when the process does.
    while let Ok(length @ 1..) = errors.read(&mut chunk) {
        said.push_str(&String::from_utf8_lossy(&chunk[..length]));
        assert!(Instant::now() < deadline, "it neither said so nor ended:\n{said}");
        if !signalled && said.contains("serving") && said.contains("Redis is unavailable") {
            signalled = true;
            terminate(&serving);
        }
    }
    let status = serving.wait().expect("it ends").code();
    Ran { status, out: String::new(), err: said }.expect(
        0,
        &[
            "Redis is unavailable",
            "127.0.0.1:1",
            "stopped",
            "config.file=\"tollgate.toml\"",
            "store=Redis at 127.0.0.1:1",
            "prices=\"built in, version ",
        ],
    );
}

#[test]
fn migrating_twice_changes_nothing() {
    let place = Place::new("");
    place.run_with(&["migrate", "--dry-run"], &[]).expect(0, &["does not exist yet", "apply migration 1", "nothing was changed"]);
    assert!(!place.path("tollgate.db").exists(), "showing makes nothing");
    place.run_with(&["migrate"], &[]).expect(0, &["does not exist yet", "migrated."]);
    let database = std::fs::read(place.path("tollgate.db")).unwrap();
    place.run_with(&["migrate"], &[]).expect(0, &["up to date, nothing to do"]);
    assert!(database == std::fs::read(place.path("tollgate.db")).unwrap(), "the second time changed the file");

    let postgres = Postgres::shared();
    let place = Place::new(&format!("[records]\nurl = '{}'", postgres.database()));
    place.run_with(&["migrate", "--dry-run"], &[]).expect(0, &["not applied yet", "nothing was changed"]);
    place.run_with(&["migrate"], &[]).expect(0, &["not applied yet", "migrated."]);
    place.run_with(&["migrate"], &[]).expect(0, &["up to date, nothing to do"]);
}

fn terminate(process: &Child) {
    let killed = std::process::Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
    assert!(killed.is_ok_and(|killed| killed.success()), "SIGTERM could not be sent");
}

#[test]
fn a_database_that_cannot_be_written_stops_the_start() {
    let place = Place::new("");
    place.run(&["migrate"]).expect(0, &["migrated."]);
    let permit = |path: std::path::PathBuf, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    permit(place.folder.path().to_owned(), 0o777);
    permit(place.path("tollgate.toml"), 0o644);
    permit(place.path("tollgate.db"), 0o444);
    let mut serve = place.command(&["serve"], &[("JWT_SECRET", SECRET)]);
    if place.folder.path().metadata().unwrap().uid() == 0 {
        // Root may write everything.
        serve.uid(65_534);
    }
    let ran = Ran::of(serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output).unwrap());
    ran.expect(1, &["the records database cannot be written", "tollgate.db"]);
}

/// A database that takes connections and never says a word, so that a start in front of it waits.
fn silent_database() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://postgres@{}/tollgate", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_is_alive_and_not_ready_and_can_be_stopped() {
    let (_silent, url) = silent_database();
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::new(&format!("[metrics]\nlisten = '{metrics}'\n[records]\nurl = '{url}'"));
    let mut serving = place.command(&["serve"], &[("JWT_SECRET", SECRET)]).stderr(Stdio::piped()).spawn().expect("the program starts");
    let get = |path: &'static str| async move {
        let answer = plain_http().get(format!("http://{metrics}{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    let (status, said) = crate::support::gateway::wait_for("an answer", || get("/readyz")).await;
    assert!(status == 503 && said.contains("starting"), "{status} {said}");
    assert_eq!(get("/livez").await, Some((200, "alive\n".to_owned())));
    assert_eq!(get("/metrics").await.map(|(status, _)| status), Some(503));

    terminate(&serving);
    let mut said = String::new();
    serving.stderr.take().expect("its standard error").read_to_string(&mut said).expect("its log");
    let status = serving.wait().expect("it ends").code();
    Ran { status, out: String::new(), err: said }.expect(0, &["stopped before the start was complete"]);
}

#[test]
fn a_price_table_that_is_named_must_be_there_also_under_its_usual_name() {
    let place = Place::new("");
    place.run(&["check"]).expect(0, &["prices     built in, version "]);
    let place = Place::new("[prices]\nfile = 'config/prices.toml'");
    place.run(&["check"]).expect(64, &["prices.file", "cannot read config/prices.toml", "tollgate.toml, line 2"]);
    std::fs::create_dir(place.path("config")).unwrap();
    place.write("config/prices.toml", "version = 'ours-7'\n[default]\ninput = 1\noutput = 2\n");
    place.run(&["check"]).expect(0, &["prices     config/prices.toml, version ours-7"]);
}
