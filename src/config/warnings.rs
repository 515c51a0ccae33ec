//! What is allowed but probably not meant. It is said by `tollgate check` and once at start, and stops nothing.

use super::{Config, RecordsUrl, StoreUrl};
use crate::limits::Mode;
use crate::limits::rules::AppliesTo;

/// The secrets of LibreChat's `.env.example`. Whoever knows them can sign tokens for a place that kept them.
const PUBLISHED_SECRETS: [&str; 2] = [
    "16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef",
    "eaa5191f2914e30b9387fd84e254e4ba6fc51b4654968a9b0803b456a54b8418",
];

/// The warnings for a configuration that is otherwise good.
pub(super) fn of(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn_if = |condition: bool, warning: &str| {
        if condition {
            warnings.push(warning.to_owned());
        }
    };
    let librechat = &config.librechat;
    let published = |secret: &super::Secret| PUBLISHED_SECRETS.contains(&secret.expose());
    warn_if(
        published(&librechat.jwt_secret) || librechat.jwt_refresh_secret.as_ref().is_some_and(published),
        "LibreChat's secrets are those of its published .env.example: anyone can sign tokens with them. Make new ones in LibreChat's .env.",
    );
    warn_if(
        librechat.jwt_refresh_secret.as_ref() == Some(&librechat.jwt_secret),
        "JWT_SECRET and JWT_REFRESH_SECRET are the same: make two different ones in LibreChat's .env.",
    );
    warn_if(
        config.insecure.short_secrets,
        "insecure.short_secrets is on: a signing secret that is short enough can be guessed from one token.",
    );
    warn_if(
        config.insecure.keys_over_http,
        "insecure.keys_over_http is on: whoever can change what an issuer sends over plain http can sign in as anyone.",
    );
    let nobody_belongs = !config.orgs.is_empty() && librechat.default_org.is_none() && config.issuers.is_empty();
    let domains = config.orgs.iter().any(|org| !org.domains.is_empty());
    warn_if(
        nobody_belongs && !librechat.trust_email_domains,
        "Nobody belongs to an org, so nobody may chat: librechat.default_org names none, there are no issuers, and librechat.trust_email_domains is false, so that domains are not used.",
    );
    warn_if(
        nobody_belongs && librechat.trust_email_domains && !domains,
        "Nobody belongs to an org, so nobody may chat: librechat.default_org names none, there are no issuers, and no org has domains.",
    );
    warn_if(config.orgs.is_empty(), "There is no org, so nobody may chat: add [[orgs]] and say who belongs to them.");
    warn_if(
        matches!(config.store.url, StoreUrl::Memory) && matches!(config.records.url, RecordsUrl::Postgres(_)),
        "Counters are in memory: run exactly one Tollgate on this database, or set store.url to a Redis.",
    );
    warn_if(
        config.limits_defaults.mode == Some(Mode::Shadow) && !config.limits.is_empty(),
        "limits_defaults.mode is shadow: limits are watched, and refuse nobody.",
    );
    if let Some((one, other, org)) = two_applications(config) {
        warnings.push(format!(
            "Issuers \"{one}\" and \"{other}\" sign in people of org {org}: their ids (sub) must never be the same for different people, who would be one person here."
        ));
    }
    warnings.extend(unknown_plans(config));
    warnings
}

/// Two issuers of different applications that sign people into one org.
fn two_applications(config: &Config) -> Option<(&str, &str, &str)> {
    config.sign_in.as_ref()?;
    let issuers = &config.issuers;
    let pairs = issuers.iter().enumerate().flat_map(|(index, one)| issuers.iter().skip(index + 1).map(move |other| (one, other)));
    // One application may have two while its keys are changed; it is known by its `iss`.
    pairs.filter(|(one, other)| one.issuer.is_none() || one.issuer != other.issuer).find_map(|(one, other)| {
        let org = one.orgs.iter().find(|org| other.orgs.contains(org))?;
        Some((one.name.as_str(), other.name.as_str(), org.as_str()))
    })
}

/// Limits for plans that no org has. Tokens of issuers may bring plans of their own, so without issuers only.
fn unknown_plans(config: &Config) -> Vec<String> {
    let in_vain = config.limits.iter().filter(|limit| {
        config.issuers.is_empty()
            && limit.applies_to != AppliesTo::Everyone
            && limit.plan.as_ref().is_some_and(|plan| !config.orgs.iter().any(|org| org.plan.as_ref() == Some(plan)))
    });
    in_vain
        .map(|limit| {
            let (index, plan) = (limit.index, limit.plan.as_deref().unwrap_or_default());
            format!("limits[{index}] is for the plan \"{plan}\", which no org has: it applies to nobody.")
        })
        .collect()
}
