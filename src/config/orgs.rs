//! `[[orgs]]`: the tenants.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use super::access::{self, AccessKeys, RoleAddressKeys};
use super::errors::Errors;
use crate::identity::directory::{Joining, Language, Org, Standing};
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
    #[serde(deserialize_with = "joining")]
    join: Joining,
    policy: Option<Arc<str>>,
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
        let OrgKeys { plan, language, capture, legal_hold, join, policy, .. } = keys;
        orgs.push(Org {
            id,
            name,
            domains,
            zone,
            plan,
            language,
            capture,
            legal_hold,
            standing: Standing::Active,
            joining: join,
            policy,
            access,
        });
    }
    access::check_together(&orgs, errors);
    orgs
}

/// One org from words, as a line of a CSV file has them: those that are there, by the names of the configuration's keys.
///
/// # Errors
///
/// What is wrong with it, each with its key.
pub(crate) fn from_words(words: &BTreeMap<String, String>) -> Result<Org, Vec<String>> {
    let list = |text: &str| text.split([';', ' ']).filter(|word| !word.is_empty()).map(serde_json::Value::from).collect::<Vec<_>>();
    let keys = words.iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| {
        let value = match key.as_str() {
            "domains" => list(text).into(),
            "join" => text.replace([';', ' '], ",").into(),
            "legal_hold" => text.parse::<bool>().map_or_else(|_| text.as_str().into(), Into::into),
            _ => text.as_str().into(),
        };
        (key.clone(), value)
    });
    let keys = serde_json::Value::Object(keys.collect());
    let keys = OrgKeys::deserialize(keys).map_err(|error| vec![error.to_string()])?;
    let mut errors = Errors::default();
    let org = check(vec![keys], &mut errors).pop();
    match org {
        Some(org) if errors.is_empty() => Ok(org),
        _ => Err(errors.messages().map(|message| message.replace("orgs[0].", "")).collect()),
    }
}

/// One word, or a list of them.
fn joining<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Joining, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        Several(Vec<String>),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::One(word) => word,
        Written::Several(words) => words.join(","),
    };
    Joining::from_text(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("\"{text}\" is no way to join; allowed: by_domain, by_token, both as a list, or invited"))
    })
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
