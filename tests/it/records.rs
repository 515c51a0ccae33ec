//! Records: one suite of laws on a real SQLite file and a real PostgreSQL, outages of both, and the recorder alone.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tollgate::db::Database;
use tollgate::records::{AuditRow, Category, Outcome, Severity, StoredAudit, StoredUsage, UsageRow};
use uuid::Uuid;

use crate::support::postgres::Postgres;

mod laws;
mod migrations;
mod outages;
mod recorder;

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

    /// The SQLite file.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(self.url.trim_start_matches("sqlite:"))
    }
}

/// Runs a statement on an SQLite file and answers its first value.
async fn sqlite(file: &std::path::Path, statement: &str) -> String {
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.expect("opening the SQLite file");
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_optional(&mut connection).await.expect("a statement of the test's own");
    connection.close().await.expect("closing the SQLite file");
    let Some(row) = row else { return String::new() };
    row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string())).unwrap_or_default()
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
    }
}

/// What is to be read back after this row was written.
pub fn stored_usage(row: UsageRow) -> StoredUsage {
    StoredUsage {
        id: row.id,
        time: row.time,
        generation_id: row.generation_id,
        org_id: row.org_id,
        member_id: row.member_id,
        org_day: row.org_day,
        org_month: row.org_month,
        endpoint: row.endpoint,
        model: row.model,
        agent_id: row.agent_id,
        conversation_id: row.conversation_id,
        messages: row.messages,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cache_read_tokens: row.cache_read_tokens,
        cache_write_tokens: row.cache_write_tokens,
        total_tokens: row.total_tokens,
        cost_nanousd: row.cost_nanousd,
        price_version: row.price_version,
        usage_source: row.usage_source.to_owned(),
        estimate_tokens: row.estimate_tokens,
        status: row.status.to_owned(),
        time_to_first_token_ms: row.time_to_first_token_ms,
        duration_ms: row.duration_ms,
        request_id: row.request_id,
    }
}

/// What is to be read back after this row was written.
pub fn stored_audit(row: AuditRow) -> StoredAudit {
    StoredAudit {
        id: row.id,
        time: row.time,
        category: row.category,
        severity: row.severity,
        org_id: row.org_id,
        actor_id: row.actor_id,
        actor_name: row.actor_name,
        actor_role: row.actor_role,
        action: row.action.to_owned(),
        resource_type: row.resource_type.map(str::to_owned),
        resource_id: row.resource_id,
        outcome: row.outcome,
        request_id: row.request_id,
        method: row.method,
        path: row.path,
        query: row.query,
        status: row.status,
        duration_ms: row.duration_ms,
        error: row.error,
        address: row.address,
        user_agent: row.user_agent,
        conversation_id: row.conversation_id,
        model: row.model,
        total_tokens: row.total_tokens,
        cost_nanousd: row.cost_nanousd,
        count: row.count,
        reference: row.reference,
        detail: row.detail,
    }
}

/// Polls until `holds`, or fails with what was waited for.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "waited {} s in vain: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
