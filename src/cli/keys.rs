//! `tollgate key`: API keys of members.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::directory::{Place, id_of, known, read_ranges, with_directory};
use super::ledger::Noted;
use super::table::{aligned, at};
use super::{Exit, Format, Source, misconfigured};
use crate::config::ApiKeySettings;
use crate::identity::keys::{ApiKey, COUNTED_AFTER_REVOKED, KeyScope, KeyScopes, KeySecret, LONGEST_NAME, WhoseKeys, is_name};
use crate::identity::{Member, addresses::Networks};

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct KeyAsked {
    /// The org's id.
    pub org: String,
    /// The member: an id of theirs, or their e-mail address.
    pub member: String,
    /// What it is called.
    pub name: String,
    /// What it may, with commas between.
    pub scopes: String,
    /// After how many days it ends.
    pub expires_days: Option<u32>,
    /// Where it may be used, with commas between.
    pub address_ranges: Option<String>,
}

/// `tollgate key create`.
pub fn create_key(source: &Source, asked: &KeyAsked, format: Format) -> Exit {
    let Some(scopes) = KeyScopes::from_text(&asked.scopes) else {
        let known = KeyScope::ALL.map(KeyScope::as_str).join(", ");
        return misconfigured(&format_args!("\"{}\" names no scopes; the scopes are: {known}, with commas between", asked.scopes));
    };
    if !is_name(&asked.name) {
        return misconfigured(&format_args!("--name is no name: 1 to {LONGEST_NAME} characters on one line"));
    }
    let addresses = match asked.address_ranges.as_deref().map(read_ranges).transpose() {
        Ok(addresses) => addresses.flatten(),
        Err(reason) => return misconfigured(&reason),
    };
    with_directory(source, async |config, place, now| {
        let org = known(place, &asked.org)?;
        let member = place.member(&org.id, &asked.member)?;
        let settings = &config.api_keys;
        may_have(settings, &member, scopes)?;
        let secret = KeySecret::make().map_err(|_| "this system has no randomness".to_owned())?;
        let key = ApiKey {
            id: Uuid::now_v7(),
            org: org.id.clone(),
            member: member.id,
            name: asked.name.as_str().into(),
            ending: secret.ending().into(),
            scopes,
            addresses: addresses.clone(),
            created: now,
            created_by: "command line".into(),
            expires: end(settings, asked.expires_days, now)?,
            last_used: None,
            revoked: None,
        };
        let too_many = || format!("member {} has as many keys as they may: {}", asked.member, settings.per_member);
        let theirs = keys_of(place, &WhoseKeys::OfMember(org.id.clone(), member.id)).await?;
        if theirs.iter().filter(|key| key.expires > now).count() >= settings.per_member as usize {
            return Err(too_many());
        }
        // What cannot be audited is not done.
        let noted = Noted {
            action: "api_key.created",
            org: Some(&org),
            kind: "api_key",
            which: key.id.to_string(),
            detail: Some(detail(&key, &member)),
        };
        place.opened.note(noted, now).await?;
        let counted_since = now.saturating_sub(COUNTED_AFTER_REVOKED).unwrap_or(Timestamp::MIN);
        let added = place.opened.api_keys().add(&secret.hash(), &key, settings.per_member, counted_since).await;
        if !added.map_err(|error| error.to_string())? {
            return Err(too_many());
        }
        if format == Format::Json {
            let mut told = told(place, &key);
            told["key"] = secret.expose().into();
            return Ok(format!("{told:#}\n"));
        }
        let (member, until) = (&asked.member, at(key.expires, &org.zone));
        Ok(format!("{}\nThe key of {member}, until {until}. It is not shown again. Its id is {}.\n", secret.expose(), key.id))
    })
}

/// Whether a member may have a key with these scopes.
fn may_have(settings: &ApiKeySettings, member: &Member, scopes: KeyScopes) -> Result<(), String> {
    if !settings.enabled {
        return Err("there are no API keys here: api_keys.enabled is false".to_owned());
    }
    if member.librechat_id.is_none() {
        return Err("this member has no account in LibreChat yet, as whom a program could come".to_owned());
    }
    if member.is_viewer() && scopes.hold(KeyScope::Chat) {
        return Err("a viewer has no keys with the scope chat".to_owned());
    }
    Ok(())
}

/// When a key ends.
fn end(settings: &ApiKeySettings, days: Option<u32>, now: Timestamp) -> Result<Timestamp, String> {
    let days = days.unwrap_or(settings.longest_days);
    if !(1..=settings.longest_days).contains(&days) {
        return Err(format!("{days} days is not what a key may last: 1 to {} (api_keys.longest_days)", settings.longest_days));
    }
    Ok(now.saturating_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX))
}

/// `tollgate key list`.
pub fn list_keys(source: &Source, org: &str, member: Option<&str>, format: Format) -> Exit {
    with_directory(source, async |_, place, now| {
        let org = known(place, org)?;
        let whose = match member {
            Some(named) => WhoseKeys::OfMember(org.id.clone(), place.member(&org.id, named)?.id),
            None => WhoseKeys::OfOrg(org.id.clone()),
        };
        let noted = Noted { action: "api_keys.read", org: Some(&org), kind: "org", which: org.id.to_string(), detail: None };
        place.opened.note(noted, now).await?;
        let keys = keys_of(place, &whose).await?;
        if format == Format::Json {
            let keys: Vec<_> = keys.iter().map(|key| told(place, key)).collect();
            return Ok(format!("{:#}\n", json!({ "keys": keys })));
        }
        Ok(if keys.is_empty() { "No keys.\n".to_owned() } else { table(place, &keys, &org.zone, now) })
    })
}

fn table(place: &Place, keys: &[ApiKey], zone: &TimeZone, now: Timestamp) -> String {
    let head = ["ID", "MEMBER", "NAME", "ENDING", "SCOPES", "UNTIL", "LAST USED", "ADDRESSES"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        let mut until = at(key.expires, zone);
        if key.expires <= now {
            // Writing to a string does not fail.
            let _ = write!(until, " (over)");
        }
        [
            key.id.to_string(),
            place.directory.member(key.member).map_or_else(|| key.member.to_string(), |member| id_of(&member)),
            key.name.to_string(),
            format!("...{}", key.ending),
            key.scopes.text(),
            until,
            key.last_used.map_or_else(|| "-".to_owned(), |used| at(used, zone)),
            key.addresses.as_ref().map_or_else(|| "-".to_owned(), Networks::text),
        ]
    });
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// `tollgate key revoke`.
pub fn revoke_key(source: &Source, org: &str, id: &str) -> Exit {
    let Ok(id) = id.parse::<Uuid>() else {
        return misconfigured(&format_args!("\"{id}\" is no id of a key; tollgate key list shows them"));
    };
    with_directory(source, async |_, place, now| {
        let org = known(place, org)?;
        let whose = WhoseKeys::OfOrg(org.id.clone());
        let no_such_key = || format!("org {} has no key {id} that could be revoked", org.id);
        if !keys_of(place, &whose).await?.iter().any(|key| key.id == id) {
            return Err(no_such_key());
        }
        let noted = Noted { action: "api_key.revoked", org: Some(&org), kind: "api_key", which: id.to_string(), detail: None };
        place.opened.note(noted, now).await?;
        match place.opened.api_keys().revoke(&whose, id, now).await.map_err(|error| error.to_string())? {
            Some(key) => Ok(format!("The key \"{}\" (...{}) is revoked, on every replica within a second.\n", key.name, key.ending)),
            None => Err(no_such_key()),
        }
    })
}

async fn keys_of(place: &Place, whose: &WhoseKeys) -> Result<Vec<ApiKey>, String> {
    place.opened.api_keys().keys(whose).await.map_err(|error| error.to_string())
}

fn detail(key: &ApiKey, member: &Member) -> Value {
    json!({
        "name": &*key.name, "member": id_of(member), "scopes": key.scopes.text(), "expires_at": key.expires.to_string(),
        "addresses": key.addresses.as_ref().map(Networks::text),
    })
}

/// A key for programs, without its secret.
fn told(place: &Place, key: &ApiKey) -> Value {
    let member = place.directory.member(key.member);
    json!({
        "id": key.id.to_string(), "name": &*key.name, "ending": &*key.ending, "member": member.as_deref().map(id_of),
        "scopes": key.scopes.each().map(KeyScope::as_str).collect::<Vec<_>>(),
        "addresses": key.addresses.as_ref().map(Networks::text), "created_at": key.created.to_string(), "created_by": &*key.created_by,
        "expires_at": key.expires.to_string(), "last_used_at": key.last_used.map(|used| used.to_string()),
    })
}
