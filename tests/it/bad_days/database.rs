//! PostgreSQL stops, stalls, and falls silent after it has committed: rows wait in the journal, nobody else notices.

use std::sync::Arc;

use sqlx::{Connection as _, Executor as _, PgConnection};
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::db::Database;
use tollgate::identity::directory::observing::{EVERYWHERE, Observing};
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::{CONFIG, Crowd, every_answer_is_charged_once, in_soak, outage, some_more};
use crate::support::commits::CommitsUnheard;
use crate::support::gateway::{Setup, metrics_at, value_of, wait_for};
use crate::support::postgres::Postgres;
use crate::support::process::TollgateProcess;
use crate::support::silence::Silence;

/// A gateway on a PostgreSQL of its own.
struct Place {
    librechat: ScriptedLibreChat,
    server: Arc<Postgres>,
    url: String,
    process: TollgateProcess,
}

impl Place {
    async fn new() -> Self {
        let server = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL"));
        let url = server.database();
        let (librechat, process) = gateway_on(&url).await;
        Self { librechat, server, url, process }
    }

    /// PostgreSQL does this while people talk, for as long as an outage lasts, and then that.
    async fn goes_through(self, begins: fn(&Postgres), ends: fn(&Postgres)) {
        let crowd = Crowd::talks(&self.librechat, &[self.process.url()]);
        some_more(&self.librechat, 20).await;
        let server = self.server.clone();
        tokio::task::spawn_blocking(move || begins(&server)).await.expect("the outage begins");
        let over = tokio::time::Instant::now() + outage();
        some_more(&self.librechat, 50).await;
        tokio::time::sleep_until(over).await;
        let waiting = value_of(&metrics_at(self.process.metrics).await, "tollgate_records_queue_rows{kind=\"journal\"}");
        assert!(waiting > 50.0, "rows wait in the journal: {waiting}\n{}", self.process.log());
        some_more(&self.librechat, 20).await;
        let server = self.server.clone();
        tokio::task::spawn_blocking(move || ends(&server)).await.expect("the outage ends");
        some_more(&self.librechat, 20).await;
        crowd.falls_silent(&self.librechat).await;
        let database = Database::open(&self.url).expect("the database");
        every_answer_is_charged_once(&self.librechat, &*database.records(), &self.process.url(), 0, || self.process.log()).await;
        the_sums_are_those_of_the_rows(&self.server, &self.url);
    }
}

async fn gateway_on(url: &str) -> (ScriptedLibreChat, TollgateProcess) {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { records: url.to_owned(), ..Setup::with(CONFIG) };
    let process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    (librechat, process)
}

/// Sums are written with the rows: what was written twice would be in them twice.
fn the_sums_are_those_of_the_rows(server: &Postgres, url: &str) {
    let sum = |table: &str| server.sql(url, &format!("SELECT SUM(total_tokens), SUM(messages) FROM {table}")).expect("sums");
    assert_eq!(sum("usage_events"), sum("usage_daily"), "the sums by day are those of the rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stops_under_load() {
    Place::new().await.goes_through(Postgres::crash, Postgres::resume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stalls_under_load() {
    Place::new().await.goes_through(Postgres::stall, Postgres::go_on).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_there_twice_where_a_commit_was_never_heard_of() {
    let server = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL"));
    let url = server.database();
    let between = CommitsUnheard::in_front_of(server.port()).await;
    let (librechat, mut process) = gateway_on(&url.replace(&format!(":{}/", server.port()), &format!(":{}/", between.port()))).await;
    let crowd = Crowd::talks(&librechat, &[process.url()]);
    let rounds = in_soak(4, 40);
    for round in 0..rounds {
        some_more(&librechat, 10).await;
        let unheard = between.unheard();
        between.cut_the_next();
        wait_for("a commit that is not heard of", || async { (between.unheard() > unheard).then_some(()) }).await;
        if round % 2 == 1 {
            // Nor will this process ever hear of it.
            process.crash_and_restart().await;
        }
    }
    crowd.falls_silent(&librechat).await;
    let database = Database::open(&url).expect("the database");
    every_answer_is_charged_once(&librechat, &*database.records(), &process.url(), rounds, || process.log()).await;
    the_sums_are_those_of_the_rows(&server, &url);
}

/// The machine of the database is gone, and another has its place: changes of orgs and members arrive again, and the process ends
/// when it is asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fall_silent_hold_up_neither_changes_nor_the_stop() {
    let server = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL"));
    let url = server.database();
    let between = Silence::in_front_of(server.port()).await;
    let (_librechat, mut process) = gateway_on(&url.replace(&format!(":{}/", server.port()), &format!(":{}/", between.port()))).await;

    // A question for changes is under way when it happens.
    let mut holder = PgConnection::connect(&url).await.expect("a connection");
    holder.execute("BEGIN; LOCK TABLE directory_revision IN ACCESS EXCLUSIVE MODE").await.expect("it is locked");
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = 'directory_revision'::regclass";
    wait_for("a question that waits", || async { (server.sql(&url, waiting).as_deref() != Ok("0")).then_some(()) }).await;
    between.falls();
    holder.execute("ROLLBACK").await.expect("it is free");

    let observed = Observing { org: EVERYWHERE.into(), is_on: true, since: SystemClock.now(), changed_by: "ops".into() };
    Database::open(&url).expect("the database").directory().put_observing(&[observed]).await.expect("a change");
    let readyz = format!("http://{}/readyz", process.metrics);
    wait_for("the change to arrive", || async {
        let told = tollgate::scripted::client::plain_http().get(&readyz).send().await.ok()?.json::<serde_json::Value>().await.ok()?;
        (told["observing"].as_array()?.len() == 1).then_some(())
    })
    .await;
    // Now it is its last connection that says nothing.
    between.falls();
    assert_eq!(process.terminate().await.code(), Some(0), "{}", process.log());
}
