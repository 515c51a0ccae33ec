//! `[[orgs]]`: the tenants.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::access::{self, AccessKeys, RoleAddressKeys};
use super::errors::Errors;
use crate::identity::directory::{Language, Org};
use crate::records::Capture;

/// One org as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OrgKeys {
    id: Option<String>,
    name: Option<Arc<str>>,
    domains: Vec<String>,
    time_zone: Option<String>,
    plan: Option<Arc<str>>,
    language: Option<Language>,
    capture: Capture,
    legal_hold: bool,
    tenant_id: Option<String>,
    hosts: Vec<String>,
    addresses: Option<Vec<String>>,
    role_addresses: RoleAddressKeys,
    frame_ancestors: Vec<String>,
    cors_origins: Vec<String>,
}

/// Checks every org.
pub(super) fn check(keys: Vec<OrgKeys>, errors: &mut Errors) -> Vec<Org> {
    let mut orgs: Vec<Org> = Vec::new();
    let mut ids = BTreeMap::new();
    for (index, keys) in keys.into_iter().enumerate() {
        let at = format!("orgs[{index}]");
        let zone = time_zone(keys.time_zone.as_deref(), &at, errors);
        let domains = domains(keys.domains, &orgs, &at, errors);
        let access = AccessKeys {
            tenant_id: keys.tenant_id,
            hosts: keys.hosts,
            addresses: keys.addresses,
            role_addresses: keys.role_addresses,
            frame_ancestors: keys.frame_ancestors,
            cors_origins: keys.cors_origins,
        };
        let access = access::check(access, &orgs, &at, errors);
        let Some(id) = id(keys.id, &at, errors) else { continue };
        if let Some(other) = ids.get(&id) {
            errors.add(format!("{at}.id"), format!("\"{id}\" is the id of orgs[{other}] already; ids must be unique"));
        }
        ids.entry(id.clone()).or_insert(index);
        let name = keys.name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| id.clone());
        let OrgKeys { plan, language, capture, legal_hold, .. } = keys;
        orgs.push(Org { id, name, domains, zone, plan, language, capture, legal_hold, access });
    }
    access::check_together(&orgs, errors);
    orgs
}

/// The error text for an org that is named but not there.
pub(super) fn unknown(org: &str, known: &[Arc<str>]) -> String {
    if known.is_empty() {
        return format!("\"{org}\" is no org; there is none in [[orgs]] yet");
    }
    let known: Vec<&str> = known.iter().map(|id| &**id).collect();
    format!("\"{org}\" is no org; allowed: {}", known.join(", "))
}

/// The id. It becomes part of the store's keys and of labels, and `everyone` has its own place among the keys.
fn id(id: Option<String>, at: &str, errors: &mut Errors) -> Option<Arc<str>> {
    let path = format!("{at}.id");
    let Some(id) = id else {
        errors.add(path, "missing; every org needs an id such as acme");
        return None;
    };
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fits {
        errors.add(path, format!("\"{id}\" is no id; allowed: 1 to 64 letters, digits, dots, underscores and hyphens"));
        return None;
    }
    if id == "everyone" {
        errors.add(path, "\"everyone\" stands for all orgs together; choose another id");
        return None;
    }
    Some(id.into())
}

fn time_zone(name: Option<&str>, at: &str, errors: &mut Errors) -> TimeZone {
    let Some(name) = name else { return TimeZone::UTC };
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => zone,
        _ => {
            errors.add(
                format!("{at}.time_zone"),
                format!("\"{name}\" is no time zone; allowed: IANA names such as Asia/Seoul, Europe/Berlin or UTC"),
            );
            TimeZone::UTC
        }
    }
}

/// The domains in lower case.
fn domains(written: Vec<String>, earlier: &[Org], at: &str, errors: &mut Errors) -> Vec<String> {
    let mut domains = Vec::new();
    for (index, written) in written.into_iter().enumerate() {
        let path = format!("{at}.domains[{index}]");
        let domain = written.trim().to_ascii_lowercase();
        let fits = domain.split('.').all(|label| !label.is_empty()) && !domain.contains(|c: char| c.is_whitespace() || "@/:*".contains(c));
        if !fits {
            errors.add(path, format!("\"{written}\" is no e-mail domain; allowed: what stands after the @, such as acme.test"));
        } else if let Some(other) = earlier.iter().find(|org| org.domains.contains(&domain)) {
            errors.add(path, format!("\"{domain}\" belongs to org \"{}\" already; a domain has one org", other.id));
        } else if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}
