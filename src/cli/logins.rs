//! `tollgate member logins`: when a member signed in, or somebody tried to, from the audit rows.

use jiff::{SignedDuration, Timestamp};

use super::directory::{Place as Kept, id_of, known, with_directory};
use super::ledger::Noted;
use super::table::at;
use super::{Exit, Source};
use crate::identity::Member;
use crate::identity::lockouts::LoginName;
use crate::records::StoredAudit;
use crate::records::ledger::{PAGE, Place, Span};
use crate::records::seal::unseal_rows;

/// The words that rows about signing in begin with.
const SIGNING_IN: [&str; 6] =
    ["auth.login", "auth.two_factor_login", "auth.two_factor_failed", "auth.admin_login", "auth.locked", "auth.unlocked"];

/// `tollgate member logins`: the last `days` of them.
pub fn member_logins(source: &Source, org: &str, member: &str, days: u16) -> Exit {
    with_directory(source, async |_, kept, now| {
        let org = known(kept, org)?;
        let member = kept.member(&org.id, member)?;
        let noted = Noted { action: "member.logins_read", org: Some(&org), kind: "member", which: id_of(&member), detail: None };
        kept.opened.note(noted, now).await?;
        let from = now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MIN);
        let rows = rows_of(kept, &member, Span { org: Some(org.id.to_string()), times: from..now }).await?;
        if rows.is_empty() {
            return Ok(format!("No sign-ins in the last {days} days.\n"));
        }
        Ok(rows.iter().map(|row| line(row, &org.zone)).collect())
    })
}

/// The rows about a member's sign-ins, the newest last. Those of failures name them only by the hash of their address.
async fn rows_of(kept: &Kept, member: &Member, span: Span) -> Result<Vec<StoredAudit>, String> {
    let hash = member.email.as_deref().and_then(LoginName::of).zip(kept.opened.name_key()).map(|(name, key)| key.hash(name.as_str()));
    let is_theirs = |row: &StoredAudit| {
        let named = row.resource_id.as_deref();
        let by_id = member.librechat_id.is_some() && (row.actor_id == member.librechat_id || named == member.librechat_id.as_deref());
        SIGNING_IN.iter().any(|word| row.action.starts_with(word)) && (by_id || (hash.is_some() && named == hash.as_deref()))
    };
    let mut theirs = Vec::new();
    let mut after = Some(Place::before(&span));
    while let Some(place) = after {
        let page = kept.opened.ledger.audit_page(&span, place).await.map_err(|error| error.to_string())?;
        after = page.last().filter(|_| page.len() == PAGE).map(|row| Place { time: row.time, id: row.id });
        theirs.extend(page.into_iter().filter(is_theirs));
    }
    unseal_rows(&*kept.opened.member_keys(), &mut theirs).await.map_err(|error| error.to_string())?;
    Ok(theirs)
}

fn line(row: &StoredAudit, zone: &jiff::tz::TimeZone) -> String {
    let how = row.error.as_deref().unwrap_or(row.outcome.as_str());
    let times = if row.count > 1 { format!(", {} times in that minute", row.count) } else { String::new() };
    let from = [&row.address, &row.user_agent].into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    format!("  {}  {:<22}  {how}{times}  {from}\n", at(row.time, zone), row.action)
}
