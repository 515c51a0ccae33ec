//! Settings from the environment: LibreChat's own names, and `TOLLGATE_SECTION__KEY`.

use std::collections::BTreeMap;

use super::Sections;
use super::errors::Errors;
use super::layers::{Node, Origin, Table, Value};
use super::read::keys;

/// What LibreChat calls the secrets that it shares with Tollgate.
const LIBRECHATS_NAMES: [(&str, &str); 2] = [("JWT_SECRET", "jwt_secret"), ("JWT_REFRESH_SECRET", "jwt_refresh_secret")];

const PREFIX: &str = "TOLLGATE_";

/// The two layers that the environment makes: LibreChat's own names, then ours. A variable without a value counts as
/// not set, since compose files make such ones of variables that they pass on.
///
/// Names without a double underscore are settings only when they name a list at the top, like `TOLLGATE_LIMITS`. Others
/// are left alone, since Kubernetes makes `TOLLGATE_PORT` and the like of a service called tollgate, except for what can
/// only be a mistake: a section, or a setting whose double underscore was forgotten.
pub(super) fn layers(variables: impl Iterator<Item = (String, String)>, errors: &mut Errors) -> [Table; 2] {
    // Sorted, so that the outcome does not depend on the order in the environment.
    let variables: BTreeMap<String, String> = variables.filter(|(_, value)| !value.is_empty()).collect();
    let (mut librechats, mut ours) = (Table::new(), Table::new());
    for (name, key) in LIBRECHATS_NAMES {
        if let Some(value) = variables.get(name) {
            check_text(name, value, errors);
            set(&mut librechats, &["librechat", key], name, value);
        }
    }
    let lists: Vec<&str> = keys::<Sections>(None).iter().copied().filter(|key| ["orgs", "issuers", "limits"].contains(key)).collect();
    for (name, value) in &variables {
        let Some(setting) = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
        let steps: Vec<&str> = setting.split("__").collect();
        if steps.len() > 1 || lists.contains(&setting.as_str()) {
            check_text(name, value, errors);
            set(&mut ours, &steps, name, value);
        } else if keys::<Sections>(None).contains(&setting.as_str()) {
            errors.whole(format!("the environment variable {name} names a section; name its keys one by one: {name}__KEY"), None);
        } else if let Some(meant) = misspelt(&setting, &lists) {
            errors.whole(format!("the environment variable {name} names no setting; did you mean {meant}?"), None);
        }
    }
    [librechats, ours]
}

/// What was not UTF-8 has replacement characters where it was not.
fn check_text(name: &str, value: &str, errors: &mut Errors) {
    if value.contains(char::REPLACEMENT_CHARACTER) {
        errors.whole(format!("the environment variable {name} is not UTF-8"), None);
    }
}

fn set(table: &mut Table, steps: &[&str], name: &str, value: &str) {
    let origin = Origin::Variable(name.into());
    match steps {
        [] => {}
        [key] => {
            table.insert((*key).to_owned(), Node { origin, value: Value::Untyped(value.to_owned()) });
        }
        [section, rest @ ..] => {
            let node =
                table.entry((*section).to_owned()).or_insert_with(|| Node { origin: origin.clone(), value: Value::Table(Table::new()) });
            match &mut node.value {
                Value::Table(inner) => set(inner, rest, name, value),
                // `TOLLGATE_LIMITS` and `TOLLGATE_LIMITS__0__ORG` together: the second is no list, which reading reports.
                other => *other = Value::Table(Table::new()),
            }
        }
    }
}

/// The variable that was meant by one of a list without its s, or by one with a single underscore: `limit`,
/// `public_listen`.
fn misspelt(setting: &str, lists: &[&str]) -> Option<String> {
    if let Some(list) = lists.iter().find(|list| list.strip_suffix('s') == Some(setting)) {
        return Some(format!("{PREFIX}{}", list.to_ascii_uppercase()));
    }
    keys::<Sections>(None).iter().find_map(|section| {
        let key = setting.strip_prefix(section)?.strip_prefix('_')?;
        let known = keys::<Sections>(Some(section)).contains(&key);
        known.then(|| format!("{PREFIX}{}__{}", section.to_ascii_uppercase(), key.to_ascii_uppercase()))
    })
}
