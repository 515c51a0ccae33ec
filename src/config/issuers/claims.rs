//! Where the tokens of one issuer say what we ask for.

use super::{ClaimKeys, IssuerEntry};
use crate::config::errors::Errors;
use crate::identity::{ClaimPath, Mapping, OrgFrom, Preset, ROLES};

/// What the preset says, or our own kind of token, with what is written over it.
pub(super) fn check(entry: &IssuerEntry, at: &str, errors: &mut Errors) -> Mapping {
    let mut mapping = entry.preset.map_or_else(Mapping::default, Preset::mapping);
    if let Some(claims) = &entry.claims {
        mapping.may_have_scope = true;
        put(&mut mapping, claims);
    }
    if let Some(org) = &entry.org {
        if entry.claims.as_ref().is_some_and(|claims| claims.org.is_some()) {
            errors.add(
                format!("{at}.org"),
                "claims.org says where tokens name their org, so that there is not one for all of them; keep one",
            );
        }
        if entry.org_ids.is_some() {
            errors.add(format!("{at}.org_ids"), "org is the org of every token, so that there are no ids to be read; keep one");
        }
        mapping.org = OrgFrom::Fixed(org.to_string());
        mapping.tokens_per_month = None;
        mapping.plan = mapping.plan.filter(|_| entry.claims.as_ref().is_some_and(|claims| claims.plan.is_some()));
    }
    mapping.org_ids.clone_from(&entry.org_ids);
    if let Some(roles) = &entry.roles {
        for (theirs, ours) in roles.iter().filter(|(_, ours)| !ROLES.contains(&ours.as_str())) {
            let allowed = ROLES.join(", ");
            errors.add(format!("{at}.roles"), format!("\"{theirs}\" stands for \"{ours}\", which is no role; allowed: {allowed}"));
        }
        mapping.roles = Some(roles.clone());
    }
    for (path, value) in &entry.require {
        match path.parse::<ClaimPath>() {
            Ok(path) => {
                mapping.require.retain(|(other, _)| *other != path);
                mapping.require.push((path, value.clone()));
            }
            Err(message) => errors.add(format!("{at}.require"), message),
        }
    }
    if let Some(required) = entry.require_verified_email {
        mapping.requires_verified_email = required;
    }
    mapping
}

fn put(mapping: &mut Mapping, claims: &ClaimKeys) {
    let ClaimKeys { sub, email, email_verified, name, username, avatar, role, org, plan, librechat_user_id } = claims;
    for (at, path) in [(&mut mapping.sub, sub), (&mut mapping.email, email), (&mut mapping.librechat_user_id, librechat_user_id)] {
        if let Some(path) = path {
            at.clone_from(path);
        }
    }
    for (at, path) in [
        (&mut mapping.email_verified, email_verified),
        (&mut mapping.name, name),
        (&mut mapping.username, username),
        (&mut mapping.avatar, avatar),
        (&mut mapping.role, role),
        (&mut mapping.plan, plan),
    ] {
        if path.is_some() {
            at.clone_from(path);
        }
    }
    if let Some(org) = org {
        mapping.org = OrgFrom::Claim(org.clone());
        // Where the org stands elsewhere, nothing else of an `organization` is meant for us.
        mapping.tokens_per_month = None;
        mapping.plan.clone_from(plan);
    }
}
