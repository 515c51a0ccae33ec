//! `tollgate member erase`: makes unreadable what the audit log knows of a person beyond their id.

use std::fmt::Write as _;

use serde_json::json;

use super::say::say;
use super::{Exit, Source, failed, noted, wait_for};
use crate::app::database_url;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::db::{Database, Status};
use crate::records::member_keys::RowsOf;
use crate::records::{AuditRow, Category, Severity};

/// `tollgate member erase`: destroys the keys of a member.
pub fn erase_member(source: &Source, org: &str, member: &str) -> Exit {
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    if config.orgs.iter().any(|known| *known.id == *org && known.legal_hold) {
        return failed(&format_args!("org {org} is under a legal hold (legal_hold = true): nobody of it can be erased"));
    }
    wait_for(async move {
        match erase(&config, org, member).await {
            Ok(said) => say(&said),
            Err(reason) => failed(&reason),
        }
    })
}

async fn erase(config: &Config, org: &str, member: &str) -> Result<String, String> {
    let place = &config.records.url;
    let database = Database::open(&database_url(place)).map_err(|error| error.to_string())?;
    match database.status().await {
        Status::Missing(_) => return Err(format!("{place} does not exist")),
        Status::Unreachable(reason) => return Err(format!("{place} cannot be reached: {reason}")),
        Status::NotMigrated { .. } => return Err(format!("{place} is not migrated; run tollgate migrate")),
        Status::Ready => {}
    }
    let keys = database.member_keys();
    let rows = keys.rows_of(org, member).await.map_err(|error| error.to_string())?;
    let destroyed = keys.destroy(org, member, SystemClock.now()).await.map_err(|error| error.to_string())?;
    let audited = note(config, &database, org, member, destroyed).await;
    database.close().await;
    audited?;
    Ok(told(&place.to_string(), org, member, destroyed, rows))
}

fn told(place: &str, org: &str, member: &str, destroyed: u64, rows: RowsOf) -> String {
    let RowsOf { all, in_the_clear } = rows;
    let mut said = match destroyed {
        0 => format!("Member {member} of org {org} has no key in {place}: nothing to destroy. {all} audit rows name the id.\n"),
        _ => format!(
            "{destroyed} {} of member {member} of org {org} destroyed in {place}.\n\
             Names, addresses, user agents and captured texts in {} audit rows can no longer be read, nor in any copy of them.\n\
             The rows are still there, name the id, and can be verified. Copies of member_keys in backups must be destroyed too.\n",
            if destroyed == 1 { "key" } else { "keys" },
            all - in_the_clear.min(all),
        ),
    };
    if in_the_clear > 0 {
        // Writing to a string does not fail.
        let _ =
            writeln!(said, "{in_the_clear} rows are from before rows were sealed: they stay in the clear until retention removes them.");
    }
    said
}

/// The erasure is itself an audit row.
async fn note(config: &Config, database: &Database, org: &str, member: &str, destroyed: u64) -> Result<(), String> {
    let now = SystemClock.now();
    let day = config.orgs.iter().find(|known| *known.id == *org).map(|known| known.day(now));
    let row = AuditRow { org_day: day, ..erasure(org, member, destroyed, now) };
    let written = noted::write(&config.records.audit_files, database, row).await;
    written.map_err(|reason| format!("the keys are destroyed, but no audit row says so: {reason}"))
}

fn erasure(org: &str, member: &str, destroyed: u64, now: jiff::Timestamp) -> AuditRow {
    AuditRow {
        org_id: (!org.is_empty()).then(|| org.into()),
        actor_name: Some("command line".into()),
        resource_type: Some("member"),
        resource_id: Some(member.to_owned()),
        detail: Some(json!({ "keys": destroyed })),
        ..AuditRow::plain(now, Category::Admin, Severity::Warning, "member.erased")
    }
}
