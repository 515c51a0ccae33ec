//! `tollgate org` and `tollgate member`: who is in the directory, and who may go on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ledger::{Noted, Opened};
use super::say::say;
use super::table::{aligned, at};
use super::{Exit, Source, failed, misconfigured, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::identity::addresses::Networks;
use crate::identity::directory::store::{Changes, DirectoryStore, PutStanding};
use crate::identity::{Directory, Member, Org, ROLES, Standing};

/// What is done to an org or a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It may no longer use what costs something, from now on, on every replica.
    Suspend,
    /// It may again.
    Resume,
    /// Another role, for members.
    Role(String),
    /// Where a member may come from: networks with commas between them, or `anywhere`.
    Ranges(String),
}

/// Which members are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersOf {
    /// Those of this org.
    Org(String),
    /// People of LibreChat whom no org claims.
    Nobody,
}

/// The directory as the database has it, with the orgs of the configuration.
pub(super) struct Place {
    pub(super) opened: Opened,
    pub(super) directory: Directory,
    pub(super) members: Vec<Member>,
    pub(super) store: std::sync::Arc<dyn DirectoryStore>,
}

impl Place {
    pub(super) async fn open(config: &Config) -> Result<Self, String> {
        let opened = Opened::open(config).await?;
        let store = opened.directory();
        let directory = Directory::new(config.orgs.clone());
        let Changes { revision, orgs, members, .. } = store.changes(-1).await.map_err(|error| error.to_string())?;
        directory.apply(Changes { revision, orgs, members: members.clone(), ..Changes::default() });
        Ok(Self { opened, directory, members, store })
    }

    /// The member of an org whom this names: by an id of theirs, or by their e-mail address.
    pub(super) fn member(&self, org: &str, named: &str) -> Result<Member, String> {
        let is_theirs = |member: &&Member| {
            let theirs = [&member.librechat_id, &member.external_id, &member.email];
            *member.org == *org && theirs.into_iter().flatten().any(|name| **name == *named)
        };
        let mut found = self.members.iter().filter(is_theirs);
        match (found.next(), found.next()) {
            (Some(member), None) => Ok(member.clone()),
            (None, _) => Err(format!("org {org} has no member \"{named}\": name a LibreChat id, an external id or an e-mail address")),
            (Some(_), Some(_)) => Err(format!("org {org} has several members \"{named}\": name a LibreChat id")),
        }
    }
}

/// Opens the directory, does something with it, and says what came of it.
pub(super) fn with_directory(source: &Source, work: impl AsyncFnOnce(&Config, &Place, Timestamp) -> Result<String, String>) -> Exit {
    let config = match source.load_without_secret() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    wait_for(async move {
        let place = match Place::open(&config).await {
            Ok(place) => place,
            Err(reason) => return failed(&reason),
        };
        let done = work(&config, &place, SystemClock.now()).await;
        place.opened.close().await;
        match done {
            Ok(said) => say(&said),
            Err(reason) => failed(&reason),
        }
    })
}

/// `tollgate org list`.
pub fn list_orgs(source: &Source) -> Exit {
    with_directory(source, async |config, place, _| {
        let head = ["ORG", "NAME", "STATUS", "DOMAINS", "TIME ZONE", "PLAN", "JOIN", "MEMBERS", "FROM"].map(str::to_owned);
        let mut members: BTreeMap<&str, u64> = BTreeMap::new();
        for member in &place.members {
            *members.entry(&member.org).or_default() += 1;
        }
        let orgs = place.directory.orgs();
        let rows = orgs.iter().map(|org| {
            let from = if config.orgs.iter().any(|named| named.id == org.id) { "configuration" } else { "directory" };
            [
                org.id.to_string(),
                org.name.to_string(),
                org.standing.as_str().to_owned(),
                org.domains.join(" "),
                org.zone.iana_name().unwrap_or("UTC").to_owned(),
                org.plan.as_deref().unwrap_or("-").to_owned(),
                org.joining.text().to_owned(),
                members.get(&*org.id).copied().unwrap_or_default().to_string(),
                from.to_owned(),
            ]
        });
        Ok(aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
    })
}

/// `tollgate member list` and `tollgate member unclaimed`.
pub fn list_members(source: &Source, of: &MembersOf) -> Exit {
    with_directory(source, async |_, place, now| {
        let (org, zone) = match of {
            MembersOf::Nobody => ("", TimeZone::UTC),
            MembersOf::Org(id) => (id.as_str(), known(place, id)?.zone.clone()),
        };
        let mut theirs: Vec<&Member> = place.members.iter().filter(|member| *member.org == *org).collect();
        theirs.sort_by(|one, other| (&one.email, one.id).cmp(&(&other.email, other.id)));
        let read = place.directory.by_id(org);
        let noted = Noted { action: "members.read", org: read.as_deref(), kind: "org", which: org.to_owned(), detail: None };
        place.opened.note(noted, now).await?;
        if theirs.is_empty() {
            return Ok("Nobody.\n".to_owned());
        }
        let head = ["LIBRECHAT ID", "EXTERNAL ID", "E-MAIL", "NAME", "ROLE", "STATUS", "LAST SEEN", "ADDRESSES"].map(str::to_owned);
        let or_dash = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
        let rows = theirs.iter().map(|member| {
            [
                or_dash(&member.librechat_id),
                or_dash(&member.external_id),
                or_dash(&member.email),
                or_dash(&member.name),
                member.role.to_string(),
                member.standing.as_str().to_owned(),
                member.last_seen.map_or_else(|| "-".to_owned(), |seen| at(seen, &zone)),
                member.addresses.as_ref().map_or_else(|| "-".to_owned(), |networks| networks.text().replace(',', " ")),
            ]
        });
        Ok(aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
    })
}

/// `tollgate org suspend` and `tollgate org resume`.
pub fn change_org(source: &Source, org: &str, change: &Change) -> Exit {
    with_directory(source, async |_, place, now| {
        let org = known(place, org)?;
        let (standing, action) = match change {
            Change::Suspend => (Standing::Suspended, "org.suspended"),
            Change::Resume => (Standing::Active, "org.resumed"),
            Change::Role(_) => return Err("an org has no role".to_owned()),
            Change::Ranges(_) => return Err("the addresses of an org stand in the configuration".to_owned()),
        };
        let changed = Org { standing, ..(*org).clone() };
        let noted = Noted { action, org: Some(&org), kind: "org", which: org.id.to_string(), detail: None };
        place.opened.note(noted, now).await?;
        place.store.put_orgs(&[changed], PutStanding::Written, now).await.map_err(|error| error.to_string())?;
        Ok(format!("Org {} is {} now, on every replica within a second.\n", org.id, standing.as_str()))
    })
}

/// `tollgate member suspend`, `tollgate member resume`, `tollgate member role` and `tollgate member ranges`.
pub fn change_member(source: &Source, org: &str, member: &str, change: &Change) -> Exit {
    if let Change::Role(role) = change
        && !ROLES.contains(&role.as_str())
    {
        return misconfigured(&format_args!("\"{role}\" is no role; the roles are: {}", ROLES.join(", ")));
    }
    let addresses = match change {
        Change::Ranges(written) => match read_ranges(written) {
            Ok(addresses) => addresses,
            Err(reason) => return misconfigured(&reason),
        },
        _ => None,
    };
    with_directory(source, async |_, place, now| {
        let org = known(place, org)?;
        let before = place.member(&org.id, member)?;
        let text = |member: &Member| member.addresses.as_ref().map_or_else(|| ANYWHERE.to_owned(), Networks::text);
        let from = addresses.as_ref().map_or_else(|| "from anywhere".to_owned(), |networks| format!("only from {}", networks.text()));
        let (changed, action, is) = match change {
            Change::Suspend => (Member { standing: Standing::Suspended, ..before.clone() }, "member.suspended", "suspended"),
            Change::Resume => (Member { standing: Standing::Active, ..before.clone() }, "member.resumed", "active"),
            Change::Role(role) => (Member { role: role.as_str().into(), ..before.clone() }, "member.role_changed", role.as_str()),
            Change::Ranges(_) => (Member { addresses: addresses.clone(), ..before.clone() }, "member.ranges_changed", from.as_str()),
        };
        let detail = match change {
            Change::Role(_) => Some(serde_json::json!({ "role": { "before": &*before.role, "after": &*changed.role } })),
            Change::Ranges(_) => Some(serde_json::json!({ "addresses": { "before": text(&before), "after": text(&changed) } })),
            Change::Suspend | Change::Resume => None,
        };
        let noted = Noted { action, org: Some(&org), kind: "member", which: id_of(&before), detail };
        place.opened.note(noted, now).await?;
        place.store.put_members(&[changed], now).await.map_err(|error| error.to_string())?;
        Ok(format!("Member {member} of org {} is {is} now, on every replica within a second.\n", org.id))
    })
}

/// What stands for no list of networks.
const ANYWHERE: &str = "anywhere";

/// Networks as they are typed, with commas between them.
pub(super) fn read_ranges(written: &str) -> Result<Option<Networks>, String> {
    if written == ANYWHERE { Ok(None) } else { Networks::read(written.split(',')).map(Some) }
}

/// The org with this id.
pub(super) fn known(place: &Place, id: &str) -> Result<std::sync::Arc<Org>, String> {
    place.directory.by_id(id).ok_or_else(|| format!("there is no org \"{id}\"; tollgate org list shows those that there are"))
}

/// What a member is called in rows.
pub(super) fn id_of(member: &Member) -> String {
    member.librechat_id.as_ref().or(member.external_id.as_ref()).map_or_else(|| member.id.to_string(), ToString::to_string)
}
