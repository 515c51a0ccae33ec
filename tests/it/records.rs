//! Records: one suite of laws on a real SQLite file and a real PostgreSQL, outages of both, and the recorder alone.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tollgate::db::Database;
use tollgate::records::recorder::Settings;
use tollgate::records::{AuditRow, Category, Outcome, RecordStore, Recorder, Rows, Severity, SystemRow, ToolRow, UsageRow, journal};
use uuid::Uuid;

use crate::support::postgres::Postgres;

mod data_model;
mod erasing;
mod laws;
mod migrations;
mod outages;
mod proving;
mod readers;
mod recorder;
mod retention;
mod rollups;
mod timescale;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A migrated database, and what it lives in.
pub struct Place {
    pub database: Database,
    pub url: String,
    home: Home,
}

enum Home {
    /// Kept so that the file stays.
    Folder {
        _folder: TempDir,
    },
    Server(Arc<Postgres>),
}

impl Place {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder for an SQLite file");
        let url = format!("sqlite:{}", folder.path().join("records.db").display());
        Self::migrated(url, Home::Folder { _folder: folder }).await
    }

    pub async fn postgres() -> Self {
        let server = tokio::task::spawn_blocking(Postgres::shared).await.expect("starting PostgreSQL");
        let url = server.database();
        Self::migrated(url, Home::Server(server)).await
    }

    /// On TimescaleDB, where there is one.
    pub async fn timescale() -> Option<Self> {
        let server = tokio::task::spawn_blocking(Postgres::timescale).await.expect("starting TimescaleDB")?;
        let url = server.database();
        Some(Self::migrated(url, Home::Server(server)).await)
    }

    /// The server, of a place that has one.
    pub fn server(&self) -> &Postgres {
        match &self.home {
            Home::Server(server) => server,
            Home::Folder { .. } => panic!("an SQLite file has no server"),
        }
    }

    /// As [`Place::sqlite`], but not migrated.
    pub fn empty_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder for an SQLite file");
        let url = format!("sqlite:{}", folder.path().join("records.db").display());
        Self { database: Database::open(&url).expect("opening the test's database"), url, home: Home::Folder { _folder: folder } }
    }

    /// As [`Place::postgres`], but not migrated.
    pub async fn empty_postgres() -> Self {
        let server = tokio::task::spawn_blocking(Postgres::shared).await.expect("starting PostgreSQL");
        let url = server.database();
        Self { database: Database::open(&url).expect("opening the test's database"), url, home: Home::Server(server) }
    }

    async fn migrated(url: String, home: Home) -> Self {
        let database = Database::open(&url).expect("opening the test's database");
        database.migrate().await.expect("migrating the test's database");
        Self { database, url, home }
    }

    /// Runs a statement past the code under test.
    pub async fn sql(&self, statement: &str) -> String {
        match &self.home {
            Home::Server(server) => server.sql(&self.url, statement).expect("a statement of the test's own"),
            Home::Folder { .. } => sqlite(&self.file(), statement).await,
        }
    }

    /// Runs several statements past the code under test.
    pub async fn script(&self, statements: &str) {
        match &self.home {
            Home::Server(server) => drop(server.sql(&self.url, statements).expect("statements of the test's own")),
            Home::Folder { .. } => script(&self.file(), statements).await,
        }
    }

    /// The SQLite file.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(self.url.trim_start_matches("sqlite:"))
    }
}

/// Runs a statement on an SQLite file and answers its first value.
pub async fn sqlite(file: &std::path::Path, statement: &str) -> String {
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.expect("opening the SQLite file");
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_optional(&mut connection).await.expect("a statement of the test's own");
    connection.close().await.expect("closing the SQLite file");
    let Some(row) = row else { return String::new() };
    row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string())).unwrap_or_default()
}

/// A recorder with a journal in this folder.
pub async fn recorder(records: &Arc<dyn RecordStore>, folder: &TempDir) -> Recorder {
    let journal = journal::Settings { file: folder.path().join("journal.db"), or_next: false, max_bytes: 1 << 30, sync: false };
    let runtime = tokio::runtime::Handle::current();
    Recorder::open(Arc::clone(records), Settings::with(journal), &runtime).await.expect("a journal").0
}

/// Closes the books of a generation with these rows.
pub async fn settle(recorder: &Recorder, rows: impl IntoIterator<Item = UsageRow>) {
    let rows = Rows { usage: rows.into_iter().map(Into::into).collect(), ..Rows::default() };
    recorder.settle(Uuid::now_v7(), rows, "{}".to_owned()).await.expect("the journal takes it, however long that takes");
}

/// Runs statements on an SQLite file.
pub async fn script(file: &std::path::Path, statements: &str) {
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = options.connect().await.expect("opening the SQLite file");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.expect("statements of the test's own");
    connection.close().await.expect("closing the SQLite file");
}

/// The instant most rows of these tests are about.
pub fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// A usage row; `number` makes its id and moves its time by so many milliseconds.
pub fn usage(number: u64) -> UsageRow {
    let id = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 + u128::from(number));
    UsageRow {
        id,
        time: noon() + SignedDuration::from_millis(number.cast_signed()),
        generation_id: id,
        org_id: "acme".into(),
        member_id: "ada".into(),
        org_day: "2026-11-20".to_owned(),
        org_month: "2026-11".to_owned(),
        endpoint: "openAI".to_owned(),
        model: "gpt-5".to_owned(),
        agent_id: None,
        conversation_id: Some(format!("conversation-{number}")),
        messages: 1,
        input_tokens: 2910,
        output_tokens: 90,
        cache_read_tokens: 1024,
        cache_write_tokens: 7,
        total_tokens: 3000,
        cost_nanousd: 4_537_500,
        price_version: "2026-11".into(),
        usage_source: "frames",
        estimate_tokens: 1007,
        status: "completed",
        time_to_first_token_ms: Some(420),
        duration_ms: 2000,
        request_id: format!("request-{number}").into(),
    }
}

/// An audit row; `number` makes its id and moves its time by so many milliseconds.
pub fn audit(number: u64) -> AuditRow {
    AuditRow {
        id: Uuid::from_u128(0x0193_0000_0000_7000_9000_0000_0000_0000 + u128::from(number)),
        time: noon() + SignedDuration::from_millis(number.cast_signed()),
        category: Category::Api,
        severity: Severity::Warning,
        org_id: Some("acme".into()),
        org_day: Some("2026-11-20".to_owned()),
        actor_id: Some("ada".into()),
        actor_name: Some("Ada".into()),
        actor_role: Some("user".into()),
        action: "chat.refused",
        resource_type: Some("conversation"),
        resource_id: Some("c1".to_owned()),
        outcome: Outcome::Failure,
        request_id: Some("r1".into()),
        method: Some("POST".to_owned()),
        path: Some("/api/agents/chat/openAI".to_owned()),
        query: None,
        status: Some(429),
        duration_ms: Some(3),
        error: Some("tokens_per_day".to_owned()),
        address: Some("192.0.2.1".to_owned()),
        user_agent: Some("Firefox".to_owned()),
        conversation_id: Some("c1".to_owned()),
        model: Some("gpt-5".to_owned()),
        total_tokens: None,
        cost_nanousd: None,
        count: 1,
        reference: Some(format!("REF-{number}")),
        detail: Some(serde_json::json!({ "limit": { "used": 200_000, "sentence": "한국어 🦀 \"quoted\"" } })),
        link: None,
    }
}

/// A tool row; `number` makes its id and moves its time by so many milliseconds.
pub fn tool(number: u64) -> ToolRow {
    ToolRow {
        id: Uuid::from_u128(0x0193_0000_0000_7000_a000_0000_0000_0000 + u128::from(number)),
        time: noon() + SignedDuration::from_millis(number.cast_signed()),
        generation_id: usage(number).id,
        org_id: "acme".into(),
        member_id: "ada".into(),
        org_day: "2026-11-20".to_owned(),
        org_month: "2026-11".to_owned(),
        conversation_id: Some(format!("conversation-{number}")),
        tool: "search".to_owned(),
        mcp_server: Some("library".to_owned()),
        outcome: Outcome::Success,
        duration_ms: Some(350),
        error: None,
    }
}

/// A system row; `number` makes its id and moves its time by so many milliseconds.
pub fn system(number: u64) -> SystemRow {
    SystemRow {
        id: Uuid::from_u128(0x0193_0000_0000_7000_b000_0000_0000_0000 + u128::from(number)),
        time: noon() + SignedDuration::from_millis(number.cast_signed()),
        server: "tollgate-1".into(),
        cpu_percent: 12.5,
        load_1m: 0.75,
        load_5m: 0.5,
        load_15m: 0.25,
        memory_used_bytes: 6 << 30,
        memory_total_bytes: 8 << 30,
        swap_used_bytes: 0,
        disk_used_bytes: 30 << 30,
        disk_total_bytes: 100 << 30,
        disk_read_bytes: 4096,
        disk_written_bytes: 8192,
        network_received_bytes: 1000,
        network_sent_bytes: 2000,
        process_cpu_percent: 3.5,
        process_memory_bytes: 90 << 20,
        process_open_files: 64,
        process_threads: 9,
    }
}

/// Rows as the database takes and answers them.
pub fn stored<R, S: From<R>>(rows: impl IntoIterator<Item = R>) -> Vec<S> {
    rows.into_iter().map(S::from).collect()
}

/// Polls until `holds`, or fails with what was waited for.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "waited {} s in vain: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
