//! `[[issuers]]`: who signs org-scoped tokens, for which orgs, with which keys, and where their tokens say what.

mod claims;
mod keys;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::errors::Errors;
use super::secret::Secret;
use super::{Insecure, LibreChat};
use crate::identity::{Algorithm, ClaimPath, IssuerKeys, IssuerSettings, Preset};

/// One issuer as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IssuerEntry {
    name: Option<Arc<str>>,
    preset: Option<Preset>,
    orgs: Vec<Arc<str>>,
    org: Option<Arc<str>>,
    org_ids: Option<BTreeMap<String, String>>,
    issuer: Option<Arc<str>>,
    audience: Option<Arc<str>>,
    algorithm: Option<Algorithm>,
    algorithms: Vec<Algorithm>,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    second_secret: Option<Secret>,
    second_secret_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    second_public_key_file: Option<PathBuf>,
    jwks_url: Option<String>,
    claims: Option<ClaimKeys>,
    roles: Option<BTreeMap<String, String>>,
    require: BTreeMap<String, String>,
    require_verified_email: Option<bool>,
    may_name_users: bool,
}

/// Where claims stand, as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClaimKeys {
    sub: Option<ClaimPath>,
    email: Option<ClaimPath>,
    email_verified: Option<ClaimPath>,
    name: Option<ClaimPath>,
    username: Option<ClaimPath>,
    avatar: Option<ClaimPath>,
    role: Option<ClaimPath>,
    org: Option<ClaimPath>,
    plan: Option<ClaimPath>,
    librechat_user_id: Option<ClaimPath>,
}

/// Checks every issuer. `orgs` are the ids of the known orgs, `None` when those could not all be read.
pub(super) fn check(
    entries: Vec<IssuerEntry>,
    librechat: Option<&LibreChat>,
    orgs: Option<&[Arc<str>]>,
    insecure: &Insecure,
    errors: &mut Errors,
) -> Vec<IssuerSettings> {
    let mut issuers = Vec::new();
    let mut names = BTreeMap::new();
    let mut secrets = shared_with_librechat(librechat);
    for (index, mut entry) in entries.into_iter().enumerate() {
        let at = format!("issuers[{index}]");
        let name = entry.name.clone().filter(|name| !name.trim().is_empty());
        match &name {
            None => errors.add(format!("{at}.name"), "missing; every issuer needs a name such as dashboard"),
            Some(name) => match names.entry(name.clone()) {
                Entry::Vacant(free) => _ = free.insert(index),
                Entry::Occupied(taken) => {
                    let other = taken.get();
                    errors.add(format!("{at}.name"), format!("\"{name}\" is the name of issuers[{other}] already; names must be unique"));
                }
            },
        }
        check_orgs(&mut entry, orgs, &at, errors);
        check_issuer(&entry, &at, errors);
        let keys = keys::check(&entry, insecure, &at, errors);
        if let Some(IssuerKeys::Secrets(given)) = &keys {
            check_secrets(given, &entry, &mut secrets, &at, errors);
        }
        let claims = claims::check(&entry, &at, errors);
        let (Some(name), Some(keys)) = (name, keys) else { continue };
        let text = |text: &Arc<str>| text.to_string();
        issuers.push(IssuerSettings {
            name: text(&name),
            orgs: entry.orgs.iter().map(text).collect(),
            issuer: entry.issuer.as_ref().map(text),
            audience: audience(&entry).map(str::to_owned),
            keys,
            claims,
            may_name_users: entry.may_name_users,
        });
    }
    issuers
}

/// The audience: Supabase says the same one of everybody who is signed in.
fn audience(entry: &IssuerEntry) -> Option<&str> {
    let usual = (entry.preset == Some(Preset::Supabase)).then_some("authenticated");
    entry.audience.as_deref().or(usual)
}

/// The secrets that no issuer may sign with, since its tokens would then be LibreChat's own.
fn shared_with_librechat(librechat: Option<&LibreChat>) -> Vec<(Vec<u8>, String)> {
    let Some(librechat) = librechat else { return Vec::new() };
    let refresh = librechat.jwt_refresh_secret.as_ref().map(|secret| (secret, "librechat.jwt_refresh_secret"));
    let all = std::iter::once((&librechat.jwt_secret, "librechat.jwt_secret")).chain(refresh);
    all.map(|(secret, owner)| (secret.expose().as_bytes().to_vec(), owner.to_owned())).collect()
}

/// Reports secrets that somebody else has, and remembers these.
fn check_secrets(given: &[Vec<u8>], entry: &IssuerEntry, taken: &mut Vec<(Vec<u8>, String)>, at: &str, errors: &mut Errors) {
    let paths = [("secret", entry.secret_file.is_some()), ("second_secret", entry.second_secret_file.is_some())];
    for (secret, (key, in_file)) in given.iter().zip(paths) {
        let file = if in_file { "_file" } else { "" };
        if let Some((_, owner)) = taken.iter().find(|(taken, _)| taken == secret) {
            errors.add(format!("{at}.{key}{file}"), format!("the secret is the same as {owner}; every issuer needs one of its own"));
        }
        taken.push((secret.clone(), format!("that of {at}")));
    }
}

fn check_orgs(entry: &mut IssuerEntry, known: Option<&[Arc<str>]>, at: &str, errors: &mut Errors) {
    if let Some(org) = &entry.org {
        if entry.orgs.is_empty() {
            entry.orgs.push(org.clone());
        } else if entry.orgs != [org.clone()] {
            errors.add(format!("{at}.org"), "an issuer whose tokens name no org speaks for this one alone; leave orgs out");
        }
    }
    if entry.orgs.is_empty() {
        errors.add(format!("{at}.orgs"), "missing; name the ids of the orgs that this issuer may speak for");
    }
    let Some(known) = known else { return };
    let at_org = |index: usize| if entry.org.is_some() { format!("{at}.org") } else { format!("{at}.orgs[{index}]") };
    for (index, org) in entry.orgs.iter().enumerate().filter(|(_, org)| !known.contains(org)) {
        errors.add(at_org(index), super::orgs::unknown(org, known));
    }
    let ours: BTreeSet<&str> = entry.orgs.iter().map(|org| &**org).collect();
    for (theirs, org) in entry.org_ids.iter().flatten().filter(|(_, org)| !ours.contains(org.as_str())) {
        errors.add(format!("{at}.org_ids"), format!("\"{theirs}\" stands for \"{org}\", which is none of the issuer's orgs"));
    }
}

fn check_issuer(entry: &IssuerEntry, at: &str, errors: &mut Errors) {
    match (&entry.issuer, entry.preset) {
        (Some(issuer), _) if &**issuer == "tollgate" => {
            errors.add(format!("{at}.issuer"), "\"tollgate\" is the issuer of Tollgate's own tokens; choose another");
        }
        (None, Some(preset)) => {
            let such = keys::example(preset);
            errors.add(format!("{at}.issuer"), format!("missing; a preset needs the iss of the tokens, such as {such}"));
        }
        _ => {}
    }
    if entry.preset.is_some() && audience(entry).is_none() {
        errors.add(
            format!("{at}.audience"),
            "missing; a preset needs the aud of the tokens: the id of the application or API that they are for",
        );
    }
}
