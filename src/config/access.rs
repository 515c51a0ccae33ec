//! The keys of `[[orgs]]` that say which ways lead to an org, and `cors_origins` of `[public]`.

use std::fmt::Display;

use serde::{Deserialize, Deserializer};

use super::errors::Errors;
use crate::identity::ROLES;
use crate::identity::access::{Access, Framing, MOST_FRAMING_BYTES, TenantId, shared_framing};
use crate::identity::addresses::{MOST_NETWORKS, Networks, OrgAddresses, read_network};
use crate::identity::directory::Org;
use crate::identity::web_origin::{OriginUse, WebOrigin, is_host};

/// The most origins or host names of one list.
const MOST_NAMES: usize = 100;

/// How an org's access is written.
pub(super) struct AccessKeys {
    pub(super) tenant_id: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) addresses: Option<Vec<String>>,
    pub(super) role_addresses: RoleAddressKeys,
    pub(super) frame_ancestors: Vec<String>,
    pub(super) cors_origins: Vec<String>,
}

/// Addresses by role, a key for each of [`ROLES`].
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RoleAddressKeys {
    user: Option<Vec<String>>,
    admin: Option<Vec<String>>,
    super_admin: Option<Vec<String>>,
    viewer: Option<Vec<String>>,
}

impl RoleAddressKeys {
    /// In the order of [`ROLES`].
    fn in_order(self) -> [Option<Vec<String>>; ROLES.len()] {
        [self.user, self.admin, self.super_admin, self.viewer]
    }
}

/// Checks what one org says. `earlier` are the orgs before it.
pub(super) fn check(keys: AccessKeys, earlier: &[Org], at: &str, errors: &mut Errors) -> Access {
    let all = networks(keys.addresses, &format!("{at}.addresses"), errors);
    let mut by_role = [const { None }; ROLES.len()];
    for ((role, written), read) in ROLES.iter().zip(keys.role_addresses.in_order()).zip(&mut by_role) {
        *read = networks(written, &format!("{at}.role_addresses.{role}"), errors);
    }
    let ancestors = origins(&keys.frame_ancestors, OriginUse::Frames, &format!("{at}.frame_ancestors"), errors);
    Access {
        tenant: tenant(keys.tenant_id, earlier, at, errors),
        hosts: hosts(keys.hosts, earlier, at, errors),
        addresses: OrgAddresses { all, by_role },
        framing: Framing::by(ancestors),
        cors_origins: origins(&keys.cors_origins, OriginUse::Reads, &format!("{at}.cors_origins"), errors),
    }
}

/// Checks what all orgs say together.
pub(super) fn check_together(orgs: &[Org], errors: &mut Errors) {
    let orgs: Vec<_> = orgs.iter().cloned().map(std::sync::Arc::new).collect();
    let bytes = shared_framing(&orgs).policy().len();
    if bytes > MOST_FRAMING_BYTES {
        errors.add(
            "orgs",
            format!(
                "the frame_ancestors of all orgs without hosts of their own take {bytes} bytes in the head of every page; at most \
                 {MOST_FRAMING_BYTES}: give orgs hosts, or name one host for several with https://*.example"
            ),
        );
    }
}

fn tenant(written: Option<String>, earlier: &[Org], at: &str, errors: &mut Errors) -> Option<TenantId> {
    let path = format!("{at}.tenant_id");
    let tenant = report(TenantId::read(&written?), &path, errors)?;
    // Two orgs in one tenant would read each other's conversations.
    if let Some(other) = earlier.iter().find(|org| org.access.tenant.as_ref() == Some(&tenant)) {
        errors.add(path, format!("\"{tenant}\" is the tenant of org \"{}\" already; a tenant has one org", other.id));
        return None;
    }
    Some(tenant)
}

fn hosts(written: Vec<String>, earlier: &[Org], at: &str, errors: &mut Errors) -> Vec<Box<str>> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    check_count(written.len(), MOST_NAMES, &format!("{at}.hosts"), errors);
    for (index, written) in written.into_iter().enumerate() {
        let path = format!("{at}.hosts[{index}]");
        let host: Box<str> = written.trim().to_ascii_lowercase().into();
        if !is_host(&host) {
            errors.add(path, format!("\"{written}\" is no host name; allowed: such as acme.chat.example, without scheme and port"));
        } else if let Some(other) = earlier.iter().find(|org| org.access.hosts.contains(&host)) {
            errors.add(path, format!("\"{host}\" is the host of org \"{}\" already; a host has one org", other.id));
        } else if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn networks(written: Option<Vec<String>>, path: &str, errors: &mut Errors) -> Option<Networks> {
    let written = written?;
    if written.is_empty() {
        errors.add(path, "is empty, so that nobody could come from anywhere; leave the key out to allow every address");
        return None;
    }
    check_count(written.len(), MOST_NETWORKS, path, errors);
    let read = written.iter().enumerate().filter_map(|(index, written)| report(read_network(written), &format!("{path}[{index}]"), errors));
    Some(Networks::of(&read.collect::<Vec<_>>()))
}

fn origins(written: &[String], used: OriginUse, path: &str, errors: &mut Errors) -> Vec<WebOrigin> {
    check_count(written.len(), MOST_NAMES, path, errors);
    let mut origins = Vec::new();
    for (index, written) in written.iter().enumerate() {
        if let Some(origin) = report(WebOrigin::read(written, used), &format!("{path}[{index}]"), errors)
            && !origins.contains(&origin)
        {
            origins.push(origin);
        }
    }
    origins
}

fn check_count(count: usize, most: usize, path: &str, errors: &mut Errors) {
    if count > most {
        errors.add(path, format!("has {count} entries; at most {most}"));
    }
}

fn report<T>(read: Result<T, impl Display>, path: &str, errors: &mut Errors) -> Option<T> {
    read.map_err(|error| errors.add(path, error.to_string())).ok()
}

/// A list of origins whose pages may read answers.
pub(super) fn cors_origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WebOrigin>, D::Error> {
    let origins = Vec::<Read>::deserialize(deserializer)?;
    Ok(origins.into_iter().map(|Read(origin)| origin).collect())
}

struct Read(WebOrigin);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        WebOrigin::read(&written, OriginUse::Reads).map(Self).map_err(serde::de::Error::custom)
    }
}
