//! The journal's file: one table of entries in an SQLite database with a write-ahead log.
//!
//! Two connections: one writes, under a lock of ours, so that nothing ever waits in SQLite for another writer; the other
//! reads and brings the log back into the file, which holds up neither.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, QueryBuilder, Row, Sqlite, SqliteConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Entry, HEADS, Left, OpenError, OpenGeneration, ROWS, Settings};
use crate::records::Head;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
        kind INTEGER NOT NULL,
        generation TEXT,
        rows INTEGER NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS entries_generation ON entries (generation, kind) WHERE generation IS NOT NULL;
    CREATE INDEX IF NOT EXISTS entries_closed ON entries (generation) WHERE kind IN (5, 6);
    CREATE INDEX IF NOT EXISTS entries_rows ON entries (seq, rows) WHERE kind = 0;
    CREATE INDEX IF NOT EXISTS entries_heads ON entries (seq) WHERE kind = 7;
    CREATE TABLE IF NOT EXISTS refused (
        at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
        reason TEXT NOT NULL,
        row TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL) STRICT;
";

const PAGE_BYTES: u64 = 4096;

/// How many files that could not be used are kept beside each other; the last is written over.
const MOST_BROKEN: u32 = 1000;

/// How many generations are tidied away in one step. A chat start waits for a step that goes on: a quarter of a millisecond.
const TIDIED_AT_ONCE: u32 = 3;

/// How many entries of heads are made one in one step, once as many have gathered.
const HEADS_GATHERED: usize = 16;

/// A file of entries.
#[derive(Debug, Clone)]
pub(in crate::records) struct Source {
    connections: Arc<Connections>,
}

#[derive(Debug)]
struct Connections {
    writer: Mutex<Option<Writer>>,
    reader: Mutex<Option<SqliteConnection>>,
}

/// The connection that writes.
#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    /// Whether appends wait for the disk.
    sync: bool,
    /// Whether what it does now would.
    waits: bool,
}

impl Writer {
    /// For what must be as durable as the settings say.
    async fn appending(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        if self.sync && !self.waits {
            sqlx::query("PRAGMA synchronous = FULL").execute(&mut self.connection).await?;
            self.waits = true;
        }
        Ok(&mut self.connection)
    }

    /// For what only forgets. It does not wait for the disk, so that no chat start waits for it twice: after a loss of power
    /// it is forgotten again.
    async fn forgetting(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        if std::mem::take(&mut self.waits) {
            sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut self.connection).await?;
        }
        Ok(&mut self.connection)
    }
}

/// Why entries were not appended.
#[derive(Debug)]
pub(super) enum Writable {
    /// The file may not grow, or the disk is full.
    Full,
    /// Anything else.
    No(Arc<str>),
}

/// An entry with rows.
#[derive(Debug)]
pub(in crate::records) struct Batch {
    pub(in crate::records) seq: i64,
    pub(in crate::records) rows: u64,
    pub(in crate::records) body: String,
}

impl Source {
    /// Opens the file, or makes it. One that is no journal any more is set aside.
    pub(super) async fn open(file: &Path, settings: &Settings) -> Result<Self, OpenError> {
        let unusable = |error: sqlx::Error| OpenError::Unusable { file: file.to_owned(), reason: error.to_string() };
        let writer = match writer(file, settings).await {
            Err(error) if is_broken(&error) => {
                set_aside(file, &error)?;
                writer(file, settings).await.map_err(unusable)?
            }
            opened => opened.map_err(unusable)?,
        };
        let reader = options(file, settings).connect().await.map_err(unusable)?;
        let writer = Writer { connection: writer, sync: settings.sync, waits: settings.sync };
        let connections = Connections { writer: Mutex::new(Some(writer)), reader: Mutex::new(Some(reader)) };
        Ok(Self { connections: Arc::new(connections) })
    }

    /// The journal's own id, made with the file.
    pub(super) async fn identity(&self) -> Result<Uuid, String> {
        let mut writer = self.connections.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?.appending().await.map_err(text)?;
        let made = "INSERT INTO identity (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM identity)";
        sqlx::query(made).bind(Uuid::new_v4().to_string()).execute(&mut *writer).await.map_err(text)?;
        let id: String = sqlx::query_scalar("SELECT id FROM identity").fetch_one(&mut *writer).await.map_err(text)?;
        id.parse().map_err(|error| format!("its id {id:?} is no UUID: {error}"))
    }

    /// What the process before left.
    pub(super) async fn left(&self) -> Result<Left, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let open = "SELECT started.generation, \
             (SELECT body FROM entries newer WHERE newer.generation = started.generation AND newer.kind IN (1, 2, 3) AND newer.body <> '' ORDER BY seq DESC LIMIT 1) AS record, \
             EXISTS (SELECT 1 FROM entries sent WHERE sent.generation = started.generation AND sent.kind IN (2, 3)) AS forwarded \
             FROM entries started WHERE started.generation IS NOT NULL AND started.kind = 1 AND NOT EXISTS ( \
             SELECT 1 FROM entries ended WHERE ended.generation = started.generation AND ended.kind IN (4, 6)) ORDER BY started.seq";
        let uncounted = "SELECT generation, body FROM entries settled WHERE generation IS NOT NULL AND kind = 4 AND NOT EXISTS ( \
             SELECT 1 FROM entries counted WHERE counted.generation = settled.generation AND counted.kind = 5) ORDER BY seq";
        let mut left = Left::default();
        for row in sqlx::query(open).fetch_all(&mut *reader).await.map_err(text)? {
            left.open.push(OpenGeneration {
                id: generation(&row)?,
                record: row.try_get("record").map_err(text)?,
                forwarded: row.try_get("forwarded").map_err(text)?,
            });
        }
        for row in sqlx::query(uncounted).fetch_all(&mut *reader).await.map_err(text)? {
            left.uncounted.push((generation(&row)?, row.try_get("body").map_err(text)?));
        }
        Ok(left)
    }

    /// Where the chains of its audit rows stand.
    pub(super) async fn heads(&self) -> Result<BTreeMap<String, Head>, String> {
        folded(&self.entries_of_heads(-1).await?)
    }

    /// The oldest entries of heads, at most so many; all of them with -1.
    async fn entries_of_heads(&self, most: i64) -> Result<Vec<(i64, String)>, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let select = "SELECT seq, body FROM entries WHERE kind = 7 ORDER BY seq LIMIT ?";
        sqlx::query_as(select).bind(most).fetch_all(reader).await.map_err(text)
    }

    /// Makes one entry of some that say where chains stand. The newest of them says all before the others go, so that it may
    /// stop in between. Answers whether there may be more.
    pub(in crate::records) async fn thin_heads(&self) -> Result<bool, String> {
        let entries = self.entries_of_heads(i64::try_from(HEADS_GATHERED).unwrap_or(i64::MAX)).await?;
        let Some((newest, _)) = entries.last().filter(|_| entries.len() >= HEADS_GATHERED) else { return Ok(false) };
        let heads = serde_json::to_string(&folded(&entries)?).map_err(|error| error.to_string())?;
        let mut writer = self.connections.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?.forgetting().await.map_err(text)?;
        let said = sqlx::query("UPDATE entries SET body = ? WHERE seq = ?").bind(heads).bind(newest).execute(&mut *writer).await;
        said.map_err(text)?;
        let removed = sqlx::query("DELETE FROM entries WHERE kind = 7 AND seq < ?").bind(newest).execute(writer).await;
        removed.map_err(text).map(|_| true)
    }

    /// Appends entries, all or none. Once it answers they are as durable as the settings say.
    pub(super) async fn append(&self, entries: &[Entry]) -> Result<(), Writable> {
        let mut statement = QueryBuilder::<Sqlite>::new("INSERT INTO entries (kind, generation, rows, body) ");
        statement.push_values(entries, |mut values, entry| {
            values
                .push_bind(entry.kind)
                .push_bind(entry.generation.map(|id| id.to_string()))
                .push_bind(entry.rows.cast_signed())
                .push_bind(&entry.body);
        });
        let mut writer = self.connections.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(|| Writable::No(closed().into()))?;
        let written = match writer.appending().await {
            Ok(writer) => statement.build().persistent(false).execute(writer).await.map(|_| ()),
            Err(error) => Err(error),
        };
        written.map_err(|error| match primary_code(&error) {
            // FULL.
            Some(13) => Writable::Full,
            _ => Writable::No(error.to_string().into()),
        })
    }

    /// The next entries with rows after `seq`, at most so many.
    pub(in crate::records) async fn next(&self, after: i64, most: u32) -> Result<Vec<Batch>, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let select = "SELECT seq, rows, body FROM entries WHERE kind = 0 AND seq > ? ORDER BY seq LIMIT ?";
        let found = sqlx::query(select).bind(after).bind(i64::from(most)).fetch_all(reader).await.map_err(text)?;
        let batch = |row: &sqlx::sqlite::SqliteRow| {
            let rows: i64 = row.try_get("rows").map_err(text)?;
            Ok(Batch { seq: row.try_get("seq").map_err(text)?, rows: rows.unsigned_abs(), body: row.try_get("body").map_err(text)? })
        };
        found.iter().map(batch).collect()
    }

    /// The database has these entries' rows. Answers how many rows they held.
    pub(in crate::records) async fn remove(&self, entries: &[i64]) -> Result<u64, String> {
        let mut statement = QueryBuilder::<Sqlite>::new("DELETE FROM entries WHERE seq IN (");
        let mut list = statement.separated(", ");
        for seq in entries {
            list.push_bind(*seq);
        }
        statement.push(") RETURNING rows");
        let mut writer = self.connections.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?.forgetting().await.map_err(text)?;
        let removed: Vec<i64> = statement.build_query_scalar().persistent(false).fetch_all(writer).await.map_err(text)?;
        Ok(removed.into_iter().map(i64::unsigned_abs).sum())
    }

    /// The database refuses this row for what it holds: it is set apart, with the reason.
    pub(in crate::records) async fn refuse(&self, row: &str, reason: &str) -> Result<(), String> {
        let mut writer = self.connections.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?.appending().await.map_err(text)?;
        let refused = sqlx::query("INSERT INTO refused (reason, row) VALUES (?, ?)").bind(reason).bind(row).execute(writer).await;
        refused.map_err(text).map(|_| ())
    }

    /// Forgets generations that are over. Answers whether there may be more.
    pub(in crate::records) async fn tidy(&self) -> Result<bool, String> {
        let mut writer = self.connections.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?.forgetting().await.map_err(text)?;
        let over = "DELETE FROM entries WHERE generation IN \
             (SELECT generation FROM entries WHERE kind IN (5, 6) LIMIT ?)";
        let deleted = sqlx::query(over).bind(i64::from(TIDIED_AT_ONCE)).execute(writer).await.map_err(text)?;
        Ok(deleted.rows_affected() >= u64::from(TIDIED_AT_ONCE))
    }

    /// Brings the log back into the file, most of it without holding anyone up. What was appended meanwhile is little, and
    /// appends wait for it: only when all is in the file does the log begin anew, and while chats come and go without a break
    /// it would grow for ever.
    pub(in crate::records) async fn checkpoint(&self) -> Result<(), String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let bring = "PRAGMA wal_checkpoint(PASSIVE)";
        sqlx::query(bring).execute(&mut *reader).await.map_err(text)?;
        let _nothing_is_appended = self.connections.writer.lock().await;
        sqlx::query(bring).execute(reader).await.map_err(text).map(|_| ())
    }

    /// How many bytes of the file are in use.
    pub(in crate::records) async fn bytes(&self) -> Result<u64, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let pages: i64 = sqlx::query_scalar("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")
            .fetch_one(reader)
            .await
            .map_err(text)?;
        Ok(pages.unsigned_abs() * PAGE_BYTES)
    }

    /// How many rows wait.
    pub(super) async fn rows(&self) -> Result<u64, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let rows: i64 =
            sqlx::query_scalar("SELECT COALESCE(SUM(rows), 0) FROM entries WHERE kind = 0").fetch_one(reader).await.map_err(text)?;
        Ok(rows.unsigned_abs())
    }

    /// The newest entry with rows.
    pub(in crate::records) async fn newest_rows(&self) -> Result<Option<i64>, String> {
        self.entry_of_rows("SELECT seq FROM entries WHERE kind = 0 ORDER BY seq DESC LIMIT 1").await
    }

    /// The oldest entry with rows.
    pub(in crate::records) async fn oldest_rows(&self) -> Result<Option<i64>, String> {
        self.entry_of_rows("SELECT seq FROM entries WHERE kind = 0 ORDER BY seq LIMIT 1").await
    }

    async fn entry_of_rows(&self, select: &'static str) -> Result<Option<i64>, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        sqlx::query_scalar(select).fetch_optional(reader).await.map_err(text)
    }

    /// For how long the oldest rows have waited.
    pub(in crate::records) async fn oldest(&self) -> Result<Option<Duration>, String> {
        let mut reader = self.connections.reader.lock().await;
        let reader = reader.as_mut().ok_or_else(closed)?;
        let age = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) - at FROM entries WHERE kind = 0 ORDER BY seq LIMIT 1";
        let age: Option<i64> = sqlx::query_scalar(age).fetch_optional(reader).await.map_err(text)?;
        Ok(age.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or_default())))
    }

    /// Closes the file, whole and without a log beside it.
    pub(super) async fn close(&self) {
        let reader = self.connections.reader.lock().await.take();
        let writer = self.connections.writer.lock().await.take().map(|writer| writer.connection);
        for connection in [reader, writer].into_iter().flatten() {
            if let Err(error) = connection.close().await {
                tracing::warn!(error = %error, "the journal could not be closed cleanly; it is taken up at the next start");
            }
        }
    }
}

fn options(file: &Path, settings: &Settings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .page_size(u32::try_from(PAGE_BYTES).unwrap_or(4096))
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if settings.sync { SqliteSynchronous::Full } else { SqliteSynchronous::Normal })
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// The connection that writes. It never brings the log back into the file itself, which takes milliseconds.
async fn writer(file: &Path, settings: &Settings) -> Result<SqliteConnection, sqlx::Error> {
    let most_pages = (settings.max_bytes / PAGE_BYTES).clamp(64, 4_294_967_294);
    let options = options(file, settings)
        .create_if_missing(true)
        .pragma("wal_autocheckpoint", "0")
        .pragma("max_page_count", most_pages.to_string())
        .pragma("secure_delete", "ON");
    let mut connection = options.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(SCHEMA)).execute(&mut connection).await?;
    // Everything that will be read is read once, so that a broken file shows now.
    sqlx::query("SELECT COUNT(*), TOTAL(LENGTH(body)) FROM entries WHERE kind <> 0").fetch_one(&mut connection).await?;
    Ok(connection)
}

/// CORRUPT and NOTADB: the file is no database any more.
fn is_broken(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(11 | 26))
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(database) = error else { return None };
    database.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Renames a file that cannot be used, with its log, to a name that is free.
fn set_aside(file: &Path, error: &sqlx::Error) -> Result<(), OpenError> {
    let with = |ending: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        name
    };
    let aside = (1..=MOST_BROKEN)
        .map(|number| format!(".broken-{number}"))
        .find(|ending| !Path::new(&with(ending)).exists())
        .unwrap_or_else(|| format!(".broken-{MOST_BROKEN}"));
    tracing::error!(
        error = %error,
        journal.file = %file.display(),
        journal.kept_as = %Path::new(&with(&aside)).display(),
        "the journal is damaged: it is set aside, and a new one is begun; what it held must be recovered by hand"
    );
    let unusable = |error: std::io::Error| OpenError::Unusable { file: file.to_owned(), reason: error.to_string() };
    std::fs::rename(file, with(&aside)).map_err(unusable)?;
    for log in ["-wal", "-shm"] {
        if Path::new(&with(log)).exists() {
            std::fs::rename(with(log), with(&format!("{aside}{log}"))).map_err(unusable)?;
        }
    }
    Ok(())
}

/// The newest head of each chain. Within a chain numbers only grow.
fn folded(entries: &[(i64, String)]) -> Result<BTreeMap<String, Head>, String> {
    let mut newest = BTreeMap::<String, Head>::new();
    for (seq, body) in entries {
        let heads: BTreeMap<String, Head> =
            serde_json::from_str(body).map_err(|error| format!("entry {seq} does not say where chains stand: {error}"))?;
        for (org, head) in heads {
            if newest.get(&org).is_none_or(|known| known.seq < head.seq) {
                newest.insert(org, head);
            }
        }
    }
    Ok(newest)
}

fn generation(row: &sqlx::sqlite::SqliteRow) -> Result<Uuid, String> {
    let id: String = row.try_get("generation").map_err(text)?;
    id.parse().map_err(|error| format!("{id:?} is no generation's id: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
fn text(error: sqlx::Error) -> String {
    error.to_string()
}

fn closed() -> String {
    "the journal is closed".to_owned()
}

const _: () = assert!(ROWS == 0 && HEADS == 7, "the statements above say so");
