//! What the commands share that read and correct what orgs are billed by.

use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::noted;
use super::say::complain;
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, Status};
use crate::identity::Org;
use crate::identity::directory::store::DirectoryStore;
use crate::identity::keys::ApiKeyStore;
use crate::identity::sessions::SessionStore;
use crate::records::audit_keys::{AuditFiles, AuditKeys};
use crate::records::ledger::{Ledger, Span};
use crate::records::member_keys::MemberKeys;
use crate::records::rebuild::Rebuild;
use crate::records::{AuditRow, Category, NameKey, RecordStore, Severity};

/// A database that is there and migrated.
pub(super) struct Opened {
    database: Database,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) rebuilder: Arc<dyn Rebuild>,
    audit_files: AuditFiles,
}

impl Opened {
    pub(super) async fn open(config: &Config) -> Result<Self, String> {
        let place = &config.records.url;
        let database = Database::open(&database_url(place)).map_err(|error| error.to_string())?;
        match database.status().await {
            Status::Missing(_) => return Err(format!("{place} does not exist")),
            Status::Unreachable(reason) => return Err(format!("{place} cannot be read: {reason}")),
            Status::NotMigrated { .. } => return Err(format!("{place} is not migrated; run tollgate migrate")),
            Status::Ready => {}
        }
        let (ledger, rebuilder) = (database.ledger(), database.rebuilder());
        Ok(Self { database, ledger, rebuilder, audit_files: config.records.audit_files.clone() })
    }

    /// Writes down that this is done, before it is: who reads what others are billed by is audited, and what cannot be audited
    /// is not done.
    pub(super) async fn note(&self, noted: Noted<'_>, now: Timestamp) -> Result<(), String> {
        self.note_row(audit_row(noted, now)).await
    }

    /// The same, with a row of its own kind.
    pub(super) async fn note_row(&self, row: AuditRow) -> Result<(), String> {
        let written = noted::write(&self.audit_files, &self.database, row).await;
        written.map_err(|reason| format!("it cannot be audited: {reason}"))
    }

    /// What rows call names that people tried; nothing where the key of the audit log is elsewhere.
    pub(super) fn name_key(&self) -> Option<NameKey> {
        AuditKeys::read(&self.audit_files).ok().map(|keys| NameKey::of(&keys.chain))
    }

    pub(super) fn records(&self) -> Arc<dyn RecordStore> {
        self.database.records()
    }

    pub(super) fn member_keys(&self) -> Arc<dyn MemberKeys> {
        self.database.member_keys()
    }

    /// The database itself.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Where sessions are.
    pub(super) fn sessions(&self) -> Arc<dyn SessionStore> {
        self.database.sessions()
    }

    /// API keys.
    pub(super) fn api_keys(&self) -> Arc<dyn ApiKeyStore> {
        self.database.api_keys()
    }

    /// Where orgs and members are.
    pub(super) fn directory(&self) -> Arc<dyn DirectoryStore> {
        self.database.directory()
    }

    pub(super) async fn close(&self) {
        self.database.close().await;
    }
}

/// What is done, for its audit row.
pub(super) struct Noted<'a> {
    pub(super) action: &'static str,
    /// The org it is about; every org where there is none.
    pub(super) org: Option<&'a Org>,
    pub(super) kind: &'static str,
    pub(super) which: String,
    pub(super) detail: Option<Value>,
}

/// Nobody is signed in at a terminal; whoever may read the configuration and the database is `command line`.
fn audit_row(Noted { action, org, kind, which, detail }: Noted<'_>, now: Timestamp) -> AuditRow {
    AuditRow {
        org_id: org.map(|org| Arc::clone(&org.id)),
        org_day: org.map(|org| org.day(now)),
        actor_name: Some("command line".into()),
        resource_type: Some(kind),
        resource_id: Some(which),
        detail,
        ..AuditRow::plain(now, Category::Data, Severity::Info, action)
    }
}

/// The org with this id, or what there is on standard error.
pub(super) fn org_of(config: &Config, id: &str) -> Option<Org> {
    let org = config.orgs.iter().find(|org| *org.id == *id).cloned();
    if org.is_none() {
        let known = config.orgs.iter().map(|org| &*org.id).collect::<Vec<_>>().join(", ");
        complain(&format_args!("there is no org \"{id}\"; the orgs are: {}", if known.is_empty() { "none" } else { &known }));
    }
    org
}

/// From the beginning of one day to the end of another, in the calendar of a zone; or why not on standard error.
pub(super) fn span_of(org: Option<&Org>, from: &str, to: &str) -> Option<Span> {
    let zone = org.map_or(TimeZone::UTC, |org| org.zone.clone());
    let begins = |day: Date| Some(day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?.timestamp());
    let (from, to) = days_of(from, to)?.into_inner();
    Some(Span { org: org.map(|org| org.id.to_string()), times: begins(from)?..begins(to.tomorrow().ok()?)? })
}

/// From one day to another; or why not on standard error.
pub(super) fn days_of(from: &str, to: &str) -> Option<RangeInclusive<Date>> {
    let day = |text: &str| {
        let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
        if day.is_none() {
            complain(&format_args!("\"{text}\" is no day; write it such as 2026-11-20"));
        }
        day
    };
    let (from, to) = (day(from)?, day(to)?);
    if from > to {
        complain(&format_args!("{from} is after {to}"));
        return None;
    }
    Some(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::directory::{Joining, Standing};
    use crate::records::capture::Capture;

    fn seoul() -> Org {
        Org {
            id: "acme".into(),
            name: "Acme".into(),
            domains: Vec::new(),
            zone: TimeZone::get("Asia/Seoul").expect("a zone"),
            plan: None,
            language: None,
            capture: Capture::None,
            legal_hold: false,
            standing: Standing::Active,
            joining: Joining::default(),
            policy: None,
            access: crate::identity::access::Access::default(),
        }
    }

    #[test]
    fn days_are_the_orgs_and_the_last_is_whole() {
        let span = span_of(Some(&seoul()), "2026-11-20", "2026-11-20").expect("a span");
        assert_eq!(span.times.start.to_string(), "2026-11-19T15:00:00Z");
        assert_eq!(span.times.end.to_string(), "2026-11-20T15:00:00Z");
        for (from, to) in [("2026-11-21", "2026-11-20"), ("2026-11", "2026-11-20"), ("2026-11-20", "yesterday")] {
            assert!(span_of(None, from, to).is_none(), "{from} to {to}");
        }
    }
}
