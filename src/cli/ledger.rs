//! What the commands share that read and correct what orgs are billed by.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;
use uuid::Uuid;

use super::noted;
use super::say::complain;
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, Status};
use crate::identity::Org;
use crate::records::audit_keys::AuditFiles;
use crate::records::ledger::{Ledger, Span};
use crate::records::{AuditRow, Category, Outcome, Severity};

/// A database that is there and migrated.
pub(super) struct Opened {
    database: Database,
    pub(super) ledger: Arc<dyn Ledger>,
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
        let ledger = database.ledger();
        Ok(Self { database, ledger, audit_files: config.records.audit_files.clone() })
    }

    /// Writes down that this is done, before it is: who reads what others are billed by is audited, and what cannot be audited
    /// is not done.
    pub(super) async fn note(&self, noted: Noted<'_>, now: Timestamp) -> Result<(), String> {
        let written = noted::write(&self.audit_files, &self.database, audit_row(noted, now)).await;
        written.map_err(|reason| format!("it cannot be audited: {reason}"))
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
        id: Uuid::now_v7(),
        time: now,
        category: Category::Data,
        severity: Severity::Info,
        org_id: org.map(|org| Arc::clone(&org.id)),
        org_day: org.map(|org| org.day(now)),
        actor_id: None,
        actor_name: Some("command line".into()),
        actor_role: None,
        action,
        resource_type: Some(kind),
        resource_id: Some(which),
        outcome: Outcome::Success,
        request_id: None,
        method: None,
        path: None,
        query: None,
        status: None,
        duration_ms: None,
        error: None,
        address: None,
        user_agent: None,
        conversation_id: None,
        model: None,
        total_tokens: None,
        cost_nanousd: None,
        count: 1,
        reference: None,
        detail,
        link: None,
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
    let day = |text: &str| {
        let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
        if day.is_none() {
            complain(&format_args!("\"{text}\" is no day; write it such as 2026-11-20"));
        }
        day
    };
    let begins = |day: Date| Some(day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?.timestamp());
    let (from, to) = (day(from)?, day(to)?);
    if from > to {
        complain(&format_args!("{from} is after {to}"));
        return None;
    }
    Some(Span { org: org.map(|org| org.id.to_string()), times: begins(from)?..begins(to.tomorrow().ok()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
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
