//! Makes rows fit to be stored before they are queued: what clients say can hold NUL, which PostgreSQL refuses, and can
//! be of any length, which neither a queue in memory nor an index bears.

use std::sync::Arc;

use serde_json::Value;

use super::{StoredAudit, StoredUsage, SystemRow, ToolRow};

/// The longest text of an indexed column, in bytes. Two of them and a time fit in PostgreSQL's largest B-tree entry,
/// 2,704 bytes.
pub(super) const ID_BYTES: usize = 1024;

/// The longest name of a model, endpoint or tool, in bytes. Rollups are keyed by a day, two ids and two names, which fit in
/// such an entry together.
pub(super) const NAME_BYTES: usize = 256;

/// The longest text of any other column, in bytes.
pub(super) const TEXT_BYTES: usize = 8 * 1024;

/// The longest detail, in bytes of JSON.
pub(super) const DETAIL_BYTES: usize = 256 * 1024;

/// What stands where text was cut.
const CUT: char = '…';

/// Cleans a usage row in place.
pub(super) fn usage(row: &mut StoredUsage) {
    for id in [&mut row.org_id, &mut row.member_id] {
        shared(id, ID_BYTES);
    }
    for text in [&mut row.price_version, &mut row.request_id] {
        shared(text, TEXT_BYTES);
    }
    for name in [&mut row.org_day, &mut row.org_month, &mut row.endpoint, &mut row.model] {
        owned(name, NAME_BYTES);
    }
    row.agent_id.iter_mut().for_each(|id| owned(id, TEXT_BYTES));
    row.conversation_id.iter_mut().for_each(|id| owned(id, ID_BYTES));
}

/// Cleans an audit row in place.
pub(super) fn audit(row: &mut StoredAudit) {
    for id in [&mut row.org_id, &mut row.actor_id].into_iter().flatten() {
        shared(id, ID_BYTES);
    }
    for text in [&mut row.actor_name, &mut row.actor_role, &mut row.request_id].into_iter().flatten() {
        shared(text, TEXT_BYTES);
    }
    row.org_day.iter_mut().for_each(|day| owned(day, NAME_BYTES));
    for id in [&mut row.conversation_id, &mut row.reference].into_iter().flatten() {
        owned(id, ID_BYTES);
    }
    let texts = [
        &mut row.resource_id,
        &mut row.method,
        &mut row.path,
        &mut row.query,
        &mut row.error,
        &mut row.address,
        &mut row.user_agent,
        &mut row.model,
    ];
    for text in texts.into_iter().flatten() {
        owned(text, TEXT_BYTES);
    }
    row.detail.iter_mut().for_each(detail);
}

/// Cleans a tool row in place.
pub(super) fn tool(row: &mut ToolRow) {
    for id in [&mut row.org_id, &mut row.member_id] {
        shared(id, ID_BYTES);
    }
    for name in [&mut row.org_day, &mut row.org_month, &mut row.tool].into_iter().chain(&mut row.mcp_server) {
        owned(name, NAME_BYTES);
    }
    row.conversation_id.iter_mut().for_each(|id| owned(id, ID_BYTES));
    row.error.iter_mut().for_each(|error| owned(error, TEXT_BYTES));
}

/// Cleans a system row in place. Databases and JSON disagree about what is no number.
pub(super) fn system(row: &mut SystemRow) {
    shared(&mut row.server, NAME_BYTES);
    let numbers = [&mut row.cpu_percent, &mut row.load_1m, &mut row.load_5m, &mut row.load_15m, &mut row.process_cpu_percent];
    for number in numbers.into_iter().filter(|number| !number.is_finite()) {
        *number = 0.0;
    }
}

fn owned(text: &mut String, most: usize) {
    if let Some(cleaned) = cleaned(text, most) {
        *text = cleaned;
    }
}

fn shared(text: &mut Arc<str>, most: usize) {
    if let Some(cleaned) = cleaned(text, most) {
        *text = cleaned.into();
    }
}

/// The text without NUL and of at most `most` bytes; nothing where it is so already.
fn cleaned(text: &str, most: usize) -> Option<String> {
    let has_nul = memchr::memchr(0, text.as_bytes()).is_some();
    if !has_nul && text.len() <= most {
        return None;
    }
    let mut cleaned = text[..text.floor_char_boundary(most.saturating_mul(2))].replace('\0', "");
    if cleaned.len() > most {
        cleaned.truncate(cleaned.floor_char_boundary(most - CUT.len_utf8()));
        cleaned.push(CUT);
    }
    Some(cleaned)
}

pub(super) fn detail(value: &mut Value) {
    let text = value.to_string();
    if text.len() > DETAIL_BYTES {
        *value = serde_json::json!({ "omitted": "larger than a detail may be", "bytes": text.len() });
        return;
    }
    if memchr::memmem::find(text.as_bytes(), br"\u0000").is_some() {
        without_nul(value);
    }
    without_fractions(value);
}

/// Numbers that are not whole become text: databases and parsers give them back in other spellings, or rounded, and
/// what was linked into the audit chain must come back as it was.
fn without_fractions(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(without_fractions),
        Value::Object(members) => members.values_mut().for_each(without_fractions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// PostgreSQL's JSONB refuses NUL in strings and keys.
fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) => text.retain(|letter| letter != '\0'),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(key, mut value)| {
                    without_nul(&mut value);
                    (key.replace('\0', ""), value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_fits_is_left_alone() {
        assert_eq!(cleaned("한국어 🦀", 64), None);
    }

    #[test]
    fn detail_loses_nul_in_keys_and_strings_and_nothing_else() {
        let mut value = serde_json::json!({ "a\0b": ["c\0", { "d": "\\u0000" }], "n": 1 });
        detail(&mut value);
        assert_eq!(value, serde_json::json!({ "ab": ["c", { "d": "\\u0000" }], "n": 1 }));
    }

    #[test]
    fn numbers_that_are_not_whole_become_text() {
        let mut value = serde_json::json!({ "a": [0.1, 5.0, 1e300, -0.0], "b": u64::MAX, "c": -7 });
        detail(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["0.1", "5.0", "1e+300", "-0.0"], "b": u64::MAX, "c": -7 }));
    }

    proptest! {
        #[test]
        fn cleaned_text_fits_and_begins_as_the_text_did(text in "[\0a가🦀]{0,200}", most in 8_usize..300) {
            let after = cleaned(&text, most).unwrap_or_else(|| text.clone());
            prop_assert!(after.len() <= most, "{} bytes where {most} are allowed", after.len());
            prop_assert!(!after.contains('\0'));
            let stripped = text.replace('\0', "");
            prop_assert!(stripped.starts_with(after.trim_end_matches(CUT)), "{after:?} is not the beginning of {stripped:?}");
        }
    }
}
