//! `tollgate lockouts`: what failed sign-ins have locked, and how it is opened before its time.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio::runtime::Handle;

use super::directory::{Place as Kept, with_directory};
use super::ledger::Noted;
use super::say::complain;
use super::table::at;
use super::{Exit, Source};
use crate::config::{Config, StoreUrl};
use crate::identity::is_user_id;
use crate::identity::lockouts::redis::RedisLockouts;
use crate::identity::lockouts::{Lockout, Lockouts as _, LoginName, Place, Subject};
use crate::records::{AuditRow, Category, Severity};
use crate::shared::Redis;

/// `tollgate lockouts list`.
pub fn list_lockouts(source: &Source) -> Exit {
    with_directory(source, async |config, kept, now| {
        let locked = shared(config)?.locked(now).await.map_err(|error| error.to_string())?;
        let noted = Noted { action: "lockouts.read", org: None, kind: "lockouts", which: "all".to_owned(), detail: None };
        kept.opened.note(noted, now).await?;
        if locked.is_empty() {
            return Ok("Nothing is locked.\n".to_owned());
        }
        Ok(locked.iter().map(line).collect())
    })
}

fn line(Lockout { subject, until }: &Lockout) -> String {
    let shown = subject.to_string();
    let who = shown.split_once(':').map_or(shown.as_str(), |(_, who)| who);
    format!("  {:<14}  until {}  {who}\n", subject.kind(), at(*until, &TimeZone::UTC))
}

/// `tollgate lockouts open`.
pub fn open_lockout(source: &Source, named: &str) -> Exit {
    with_directory(source, async |config, kept, now| {
        let lockouts = shared(config)?;
        let subject = read(named).ok_or_else(|| format!("\"{named}\" names nobody: an e-mail address, a LibreChat id or an address"))?;
        let subjects = with_second_factors(kept, subject);
        // What cannot be audited is not done.
        for subject in &subjects {
            kept.opened.note_row(unlocked(kept, subject, now)).await?;
        }
        let mut opened = false;
        for subject in &subjects {
            opened |= lockouts.open(subject).await.map_err(|error| error.to_string())?;
        }
        Ok(if opened { format!("{named} is open again, on every replica.\n") } else { format!("Nothing was counted against {named}.\n") })
    })
}

fn read(named: &str) -> Option<Subject> {
    let user = || is_user_id(named).then(|| Subject::SecondFactor(named.into()));
    let address = || Place::read(named).map(Subject::Address);
    let name = || LoginName::of(named).map(Subject::Name);
    Subject::read(named).or_else(user).or_else(address).or_else(name)
}

/// Whoever is let in again by name is let in with their code, too.
fn with_second_factors(kept: &Kept, subject: Subject) -> Vec<Subject> {
    let members = if let Subject::Name(name) = &subject { kept.directory.by_login_name(name) } else { Vec::new() };
    let codes = members.iter().filter_map(|member| member.librechat_id.clone()).map(Subject::SecondFactor);
    std::iter::once(subject).chain(codes).collect()
}

/// Where several Tollgates count together.
fn shared(config: &Config) -> Result<RedisLockouts, String> {
    let StoreUrl::Redis(url) = &config.store.url else {
        return Err("failed sign-ins are counted in the memory of the Tollgate that runs, which opens everything when it starts again; \
                    with a Redis as store.url they are shared, and can be listed and opened"
            .to_owned());
    };
    Ok(RedisLockouts::new(Redis::new(config.store.redis(url), Handle::current()).map_err(|error| error.to_string())?))
}

/// The row says whose lock it was as the row of the lock did.
fn unlocked(kept: &Kept, subject: &Subject, now: Timestamp) -> AuditRow {
    let (resource_type, resource_id) = match subject {
        Subject::Name(name) | Subject::NameAt(name, _) => ("login_name", kept.opened.name_key().map(|key| key.hash(name.as_str()))),
        Subject::SecondFactor(user) => ("member", Some(user.to_string())),
        Subject::Address(place) => ("address", Some(place.as_str().to_owned())),
    };
    if resource_id.is_none() {
        complain(&"the audit row does not say which name: the key of the audit log is not here");
    }
    let members = match subject {
        Subject::Name(name) | Subject::NameAt(name, _) => kept.directory.by_login_name(name),
        Subject::SecondFactor(user) => kept.directory.by_librechat_id(user).into_iter().collect(),
        Subject::Address(_) => Vec::new(),
    };
    let org = if let [member] = members.as_slice() { kept.directory.by_id(&member.org) } else { None };
    AuditRow {
        org_day: org.as_ref().map(|org| org.day(now)),
        org_id: org.map(|org| org.id.clone()),
        actor_name: Some("command line".into()),
        resource_type: Some(resource_type),
        resource_id,
        detail: Some(json!({ "unlocked": subject.kind() })),
        ..AuditRow::plain(now, Category::Admin, Severity::Warning, "auth.unlocked")
    }
}
