//! `[records]`: where usage and audit rows are written, and how.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::errors::Errors;
use super::secret::{Secret, resolve};
use super::urls::{host_of, server_of, split};
use super::values::{at_least_one, bounded, milliseconds, rows};
use crate::db::check_url;
use crate::records::audit_keys::AuditFiles;
use crate::records::recorder::WhenFull;
use crate::records::retention::Retention;
use crate::records::store::BATCH_ROWS;

/// Where usage and audit rows are written, and how.
#[derive(Debug, Clone)]
pub struct Records {
    /// Which database.
    pub url: RecordsUrl,
    /// Which requests leave an audit row.
    pub audit: Audit,
    /// The most rows written at once.
    pub batch_rows: usize,
    /// How long a row may wait for others to be written with.
    pub flush_after: Duration,
    /// Audit rows waiting for the journal, at most; more are dropped and counted.
    pub audit_queue_rows: usize,
    /// The journal's file.
    pub journal: PathBuf,
    /// Whether the operator named it; otherwise the next free name does as well.
    pub journal_is_named: bool,
    /// The most the journal may take, in bytes.
    pub journal_max_bytes: u64,
    /// Whether each commit of the journal waits for the disk.
    pub journal_sync: JournalSync,
    /// What new chats get when the journal has no room.
    pub when_full: WhenFull,
    /// How long rows are kept.
    pub retention: Retention,
    /// The keys of the audit log, and its checkpoints.
    pub audit_files: AuditFiles,
}

/// What a commit of the journal waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalSync {
    /// The disk: nothing is lost when the machine loses its power.
    Full,
    /// The operating system: nothing is lost when this process is killed.
    Normal,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordsUrl {
    /// An SQLite file, made when it is not there.
    Sqlite(PathBuf),
    /// `postgres://...`, as PostgreSQL's clients read it.
    Postgres(Secret),
}

impl fmt::Display for RecordsUrl {
    /// Without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "SQLite file {}", file.display()),
            Self::Postgres(url) => match host_of(url.expose()) {
                "" => f.write_str("PostgreSQL on this machine"),
                host => write!(f, "PostgreSQL at {host}"),
            },
        }
    }
}

/// Which requests leave an audit row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audit {
    /// All but successful GETs of pages, assets and catalogues.
    Actions,
    /// All.
    All,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordsKeys {
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    audit: Audit,
    #[serde(deserialize_with = "batch")]
    batch_rows: usize,
    #[serde(rename = "flush_after_ms", deserialize_with = "milliseconds")]
    flush_after: Duration,
    #[serde(deserialize_with = "rows")]
    audit_queue_rows: usize,
    journal: Option<PathBuf>,
    #[serde(deserialize_with = "megabytes")]
    journal_max_mb: usize,
    journal_sync: JournalSync,
    when_full: WhenFull,
    retention: RetentionKeys,
    #[serde(default)]
    audit_chain: AuditChainKeys,
}

/// The section `[records.retention]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionKeys {
    #[serde(rename = "audit_days", deserialize_with = "days")]
    audit: u32,
    #[serde(rename = "usage_days", deserialize_with = "days")]
    usage: u32,
    #[serde(rename = "tools_days", deserialize_with = "days")]
    tools: u32,
    #[serde(rename = "system_days", deserialize_with = "days")]
    system: u32,
}

/// A hundred years: for good, and far from where instants end.
const MOST_DAYS: usize = 36_500;

fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let days = bounded(at_least_one(deserializer)?, MOST_DAYS)?;
    u32::try_from(days).map_err(D::Error::custom)
}

/// A terabyte: no disk is to be filled by mistake.
const MOST_MEGABYTES: usize = 1 << 20;

fn megabytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(at_least_one(deserializer)?, MOST_MEGABYTES)
}

/// `[records.audit_chain]` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are called so in the configuration, as every key of a file is")]
struct AuditChainKeys {
    key_file: Option<PathBuf>,
    signing_key_file: Option<PathBuf>,
    checkpoint_file: Option<PathBuf>,
}

fn batch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(at_least_one(deserializer)?, BATCH_ROWS)
}

const ALLOWED: &str = "allowed: sqlite:file.db or postgres://[user[:password]@]host[:port]/database";

/// Checks the section.
pub(super) fn check(keys: RecordsKeys, errors: &mut Errors) -> Option<Records> {
    let url = resolve("records.url", keys.url, keys.url_file, errors)?;
    let url = read_url(url).map_err(|message| errors.add("records.url", message)).ok()?;
    let journal_is_named = keys.journal.is_some();
    let journal = keys.journal.unwrap_or_else(|| beside(&url));
    check_journal(&journal, errors);
    let audit_files = audit_files(keys.audit_chain, &journal, errors);
    Some(Records {
        url,
        audit: keys.audit,
        batch_rows: keys.batch_rows,
        flush_after: keys.flush_after,
        audit_queue_rows: keys.audit_queue_rows,
        journal,
        journal_is_named,
        journal_max_bytes: (keys.journal_max_mb as u64).saturating_mul(1 << 20).max(LEAST_JOURNAL_BYTES),
        journal_sync: keys.journal_sync,
        when_full: keys.when_full,
        retention: Retention {
            audit_days: keys.retention.audit,
            usage_days: keys.retention.usage,
            tools_days: keys.retention.tools,
            system_days: keys.retention.system,
        },
        audit_files,
    })
}

/// Less is no use: an empty journal and its log take some of it.
const LEAST_JOURNAL_BYTES: u64 = 1 << 20;

/// Where the journal is when nobody says: beside the SQLite file, else where the process runs.
fn beside(url: &RecordsUrl) -> PathBuf {
    match url {
        RecordsUrl::Sqlite(file) => file.with_extension("journal.db"),
        RecordsUrl::Postgres(_) => PathBuf::from("tollgate.journal.db"),
    }
}

fn check_journal(journal: &Path, errors: &mut Errors) {
    let folder = journal.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            errors.add("records.journal", format!("the folder {} does not exist; make it, or name another file", folder.display()));
        }
        _ if journal.is_dir() => errors.add("records.journal", format!("{} is a folder; name a file", journal.display())),
        _ => {}
    }
}

/// Files that are named must be there; those that are not are made at the first start, beside the journal.
fn audit_files(keys: AuditChainKeys, journal: &Path, errors: &mut Errors) -> AuditFiles {
    let folder = journal.parent().unwrap_or(Path::new(""));
    for (key, file) in [("key_file", &keys.key_file), ("signing_key_file", &keys.signing_key_file)] {
        if let Some(file) = file
            && let Err(error) = std::fs::File::open(file)
        {
            errors.add(format!("records.audit_chain.{key}"), format!("cannot read {}: {error}", file.display()));
        }
    }
    AuditFiles {
        key_file: keys.key_file.unwrap_or_else(|| folder.join("tollgate-audit.key")),
        signing_key_file: keys.signing_key_file.unwrap_or_else(|| folder.join("tollgate-audit-signing.pem")),
        checkpoint_file: keys.checkpoint_file.unwrap_or_else(|| folder.join("tollgate-audit-checkpoints.jsonl")),
    }
}

/// Errors do not repeat the text of a PostgreSQL address, which may hold a password.
fn read_url(url: Secret) -> Result<RecordsUrl, String> {
    let text = url.expose();
    if let Some(file) = text.strip_prefix("sqlite:") {
        return sqlite(file.strip_prefix("//").unwrap_or(file));
    }
    let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
        return Err(format!("is no address of a database; {ALLOWED}"));
    };
    let query = split(rest).rest.split_once('?').map_or("", |(_, query)| query);
    let says = |key: &str, allowed: fn(&str) -> bool| query.split('&').any(|pair| pair.strip_prefix(key).is_some_and(allowed));
    if says("sslmode=", |mode| matches!(mode, "require" | "verify-ca" | "verify-full")) {
        return Err("sslmode asks for TLS, which this build does not have; allowed: disable, allow, prefer, or no sslmode".to_owned());
    }
    let on_a_socket = split(rest).host.is_empty() && says("host=", |host| !host.is_empty());
    if let Err(wrong) = server_of(rest)
        && !on_a_socket
    {
        return Err(format!("{wrong}; {ALLOWED}"));
    }
    check_url(text).map_err(|error| format!("{error}; {ALLOWED}"))?;
    Ok(RecordsUrl::Postgres(url))
}

fn sqlite(file: &str) -> Result<RecordsUrl, String> {
    if file.is_empty() {
        return Err(format!("names no file; {ALLOWED}"));
    }
    if file.contains(":memory:") || file.contains('?') {
        return Err(format!("rows are kept in a file, without further options; {ALLOWED}"));
    }
    let file = Path::new(file);
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => Err(format!("the folder {} does not exist; make it, or name another file", folder.display())),
        _ if file.is_dir() => Err(format!("{} is a folder; name a file", file.display())),
        _ => Ok(RecordsUrl::Sqlite(file.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_databases() {
        for (url, shown) in [
            ("sqlite:tollgate.db", "SQLite file tollgate.db"),
            ("sqlite:///tmp/tollgate.db", "SQLite file /tmp/tollgate.db"),
            ("postgres://me:hunter2@db:5432/tollgate?sslmode=prefer", "PostgreSQL at db:5432"),
            ("postgresql://db/tollgate", "PostgreSQL at db"),
            ("postgres:///tollgate?host=/run/postgresql", "PostgreSQL on this machine"),
        ] {
            assert_eq!(read_url(Secret::new(url)).map(|url| url.to_string()), Ok(shown.to_owned()), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_database() {
        for url in [
            "",
            "tollgate.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:/no/such/folder/x.db",
            "sqlite:x.db?mode=ro",
            "mysql://hunter2@db/x",
            "postgres://",
            "postgres://me:hunter2@/x",
            "postgres://me:hunter2@db:port/x",
            "postgres://me:hunter2@db/x?sslmode=require",
        ] {
            let error = read_url(Secret::new(url)).expect_err(url);
            assert!(!error.contains("hunter2"), "the error of {url:?} shows a password: {error}");
            assert_eq!(error.contains("the port"), url.contains("@db:"), "{url:?}: {error}");
        }
    }
}
