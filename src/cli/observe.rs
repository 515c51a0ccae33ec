//! `tollgate observe`: limits that refuse nobody for a while, everywhere or in one org, on every replica.

use jiff::Timestamp;
use serde_json::json;

use super::directory::{known, with_directory};
use super::ledger::Opened;
use super::table::{aligned, at};
use super::{Exit, Source};
use crate::config::Config;
use crate::identity::Org;
use crate::identity::directory::observing::{EVERYWHERE, Observing};
use crate::identity::directory::store::DirectoryStore;
use crate::records::{AuditRow, Category, Severity};

/// What is done about observing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Limits refuse nobody, from now on.
    On,
    /// Limits are enforced again.
    Off,
}

/// `tollgate observe on` and `tollgate observe off`: of this org, or of the whole place.
pub fn observe(source: &Source, observation: Observation, org: Option<&str>) -> Exit {
    with_directory(source, async |_, place, now| {
        let org = org.map(|id| known(place, id)).transpose()?;
        let is_on = observation == Observation::On;
        let before = observed(&*place.store).await?;
        let mut which = vec![org.as_ref().map_or_else(|| EVERYWHERE.into(), |org| org.id.clone())];
        if org.is_none() && !is_on {
            // Whoever wants everything enforced again does not want to be left with an org that is not.
            which.extend(before.iter().filter(|on| *on.org != *EVERYWHERE).map(|on| on.org.clone()));
        }
        // What cannot be audited is not done.
        place.opened.note_row(audit_row(observation, org.as_deref(), now)).await?;
        let by = "command line";
        let changes: Vec<_> = which.into_iter().map(|org| Observing { org, is_on, since: now, changed_by: by.into() }).collect();
        place.store.put_observing(&changes).await.map_err(|error| error.to_string())?;
        Ok(said(observation, org.as_deref(), &before))
    })
}

/// `tollgate observe list`: what is observed, since when and by whom.
pub fn list_observed(source: &Source) -> Exit {
    with_directory(source, async |_, place, _| {
        let on = observed(&*place.store).await?;
        if on.is_empty() {
            return Ok("Limits are enforced everywhere, as the configuration says.\n".to_owned());
        }
        let head = ["OBSERVED", "SINCE", "BY"].map(str::to_owned);
        let rows = on.iter().map(|on| {
            let of = if *on.org == *EVERYWHERE { "every org" } else { &*on.org };
            [of.to_owned(), at(on.since, &jiff::tz::TimeZone::UTC), on.changed_by.to_string()]
        });
        Ok(aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
    })
}

/// Whether the limits of an org are observed, as far as the database can be asked.
pub(super) async fn is_observed(config: &Config, org: &str) -> bool {
    let Ok(opened) = Opened::open(config).await else { return false };
    let on = observed(&*opened.directory()).await.unwrap_or_default();
    opened.close().await;
    on.iter().any(|on| *on.org == *EVERYWHERE || *on.org == *org)
}

/// What is observed now.
async fn observed(store: &dyn DirectoryStore) -> Result<Vec<Observing>, String> {
    let changes = store.changes(-1).await.map_err(|error| error.to_string())?;
    Ok(changes.observing.into_iter().filter(|change| change.is_on).collect())
}

/// Giving up a protection is a warning; taking it up again is none.
fn audit_row(observation: Observation, org: Option<&Org>, now: Timestamp) -> AuditRow {
    let (severity, action) = match observation {
        Observation::On => (Severity::Warning, "limits.observed"),
        Observation::Off => (Severity::Info, "limits.enforced"),
    };
    AuditRow {
        org_id: org.map(|org| org.id.clone()),
        org_day: org.map(|org| org.day(now)),
        actor_name: Some("command line".into()),
        resource_type: Some(if org.is_some() { "org" } else { "place" }),
        resource_id: Some(org.map_or_else(|| "every org".to_owned(), |org| org.id.to_string())),
        detail: Some(json!({ "by": "command line" })),
        ..AuditRow::plain(now, Category::Admin, severity, action)
    }
}

fn said(observation: Observation, org: Option<&Org>, before: &[Observing]) -> String {
    let of = org.map_or_else(|| "every org".to_owned(), |org| format!("org {}", org.id));
    match observation {
        Observation::On => format!(
            "The limits of {of} are observed now, on every replica within a second: they are decided and written down, and refuse nobody.\n\
             Who somebody is, who is suspended and where they may come from is judged as before. tollgate observe off ends it.\n"
        ),
        Observation::Off if org.is_some() && before.iter().any(|on| *on.org == *EVERYWHERE) => format!(
            "{} is not observed by itself any more, but every org still is: tollgate observe off, without --org, ends that.\n",
            of.replacen('o', "O", 1)
        ),
        Observation::Off => format!("The limits of {of} are enforced again, on every replica within a second.\n"),
    }
}
