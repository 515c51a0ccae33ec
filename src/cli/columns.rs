//! The columns of exported rows: what each is called, what it holds and where that comes from, for every format.

use serde_json::{Value, json};

use crate::records::StoredAudit;
use crate::records::ledger::Rated;

/// A column of rows of the kind `R`.
pub(super) struct Column<R> {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    /// Whether a row may be without a value.
    pub(super) is_nullable: bool,
    pub(super) value: fn(&R) -> Value,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Number,
    /// An instant, as RFC 3339 in UTC.
    Time,
    Text,
    Json,
}

const fn column<R>(name: &'static str, holds: Holds, value: fn(&R) -> Value) -> Column<R> {
    Column { name, holds, is_nullable: false, value }
}

const fn number<R>(name: &'static str, value: fn(&R) -> Value) -> Column<R> {
    column(name, Holds::Number, value)
}

const fn time<R>(name: &'static str, value: fn(&R) -> Value) -> Column<R> {
    column(name, Holds::Time, value)
}

const fn text<R>(name: &'static str, value: fn(&R) -> Value) -> Column<R> {
    column(name, Holds::Text, value)
}

const fn json<R>(name: &'static str, value: fn(&R) -> Value) -> Column<R> {
    column(name, Holds::Json, value)
}

const fn or_null<R>(Column { name, holds, value, .. }: Column<R>) -> Column<R> {
    Column { name, holds, is_nullable: true, value }
}

/// Usage rows. `corrections_nanousd` is what later corrections add to the cost.
pub(super) const USAGE: &[Column<Rated>] = &[
    text("id", |of| json!(of.row.id)),
    time("time", |of| json!(of.row.time.to_string())),
    text("generation_id", |of| json!(of.row.generation_id)),
    text("org_id", |of| json!(&*of.row.org_id)),
    text("member_id", |of| json!(&*of.row.member_id)),
    text("org_day", |of| json!(of.row.org_day)),
    text("org_month", |of| json!(of.row.org_month)),
    text("endpoint", |of| json!(of.row.endpoint)),
    text("model", |of| json!(of.row.model)),
    or_null(text("agent_id", |of| json!(of.row.agent_id))),
    or_null(text("conversation_id", |of| json!(of.row.conversation_id))),
    number("messages", |of| json!(of.row.messages)),
    number("input_tokens", |of| json!(of.row.input_tokens)),
    number("output_tokens", |of| json!(of.row.output_tokens)),
    number("cache_read_tokens", |of| json!(of.row.cache_read_tokens)),
    number("cache_write_tokens", |of| json!(of.row.cache_write_tokens)),
    number("total_tokens", |of| json!(of.row.total_tokens)),
    number("cost_nanousd", |of| json!(of.row.cost_nanousd)),
    number("corrections_nanousd", |of| json!(of.corrected_by)),
    text("price_version", |of| json!(&*of.row.price_version)),
    text("usage_source", |of| json!(of.row.usage_source)),
    number("estimate_tokens", |of| json!(of.row.estimate_tokens)),
    text("status", |of| json!(of.row.status)),
    or_null(number("time_to_first_token_ms", |of| json!(of.row.time_to_first_token_ms))),
    number("duration_ms", |of| json!(of.row.duration_ms)),
    text("request_id", |of| json!(&*of.row.request_id)),
];

/// Audit rows, each with its place in its chain.
pub(super) const AUDIT: &[Column<StoredAudit>] = &[
    text("id", |row| json!(row.id)),
    time("time", |row| json!(row.time.to_string())),
    text("category", |row| json!(row.category.as_str())),
    text("severity", |row| json!(row.severity.as_str())),
    or_null(text("org_id", |row| json!(row.org_id.as_deref()))),
    or_null(text("org_day", |row| json!(row.org_day))),
    or_null(text("actor_id", |row| json!(row.actor_id.as_deref()))),
    or_null(text("actor_name", |row| json!(row.actor_name.as_deref()))),
    or_null(text("actor_role", |row| json!(row.actor_role.as_deref()))),
    text("action", |row| json!(row.action)),
    or_null(text("resource_type", |row| json!(row.resource_type))),
    or_null(text("resource_id", |row| json!(row.resource_id))),
    text("outcome", |row| json!(row.outcome.as_str())),
    or_null(text("request_id", |row| json!(row.request_id.as_deref()))),
    or_null(text("method", |row| json!(row.method))),
    or_null(text("path", |row| json!(row.path))),
    or_null(text("query", |row| json!(row.query))),
    or_null(number("status", |row| json!(row.status))),
    or_null(number("duration_ms", |row| json!(row.duration_ms))),
    or_null(text("error", |row| json!(row.error))),
    or_null(text("address", |row| json!(row.address))),
    or_null(text("user_agent", |row| json!(row.user_agent))),
    or_null(text("conversation_id", |row| json!(row.conversation_id))),
    or_null(text("model", |row| json!(row.model))),
    or_null(number("total_tokens", |row| json!(row.total_tokens))),
    or_null(number("cost_nanousd", |row| json!(row.cost_nanousd))),
    number("count", |row| json!(row.count)),
    or_null(text("reference", |row| json!(row.reference))),
    or_null(json("detail", |row| json!(row.detail))),
    or_null(text("chain_writer", |row| json!(row.link.as_ref().map(|link| link.writer)))),
    or_null(number("chain_seq", |row| json!(row.link.as_ref().map(|link| link.seq)))),
    or_null(text("chain_previous", |row| json!(row.link.as_ref().map(|link| &link.previous)))),
    or_null(text("chain_hash", |row| json!(row.link.as_ref().map(|link| &link.hash)))),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{AuditRow, Category, Severity};

    #[test]
    fn audit_columns_without_a_value_are_those_that_may_be() {
        let row: StoredAudit = AuditRow::plain(jiff::Timestamp::UNIX_EPOCH, Category::System, Severity::Info, "gateway.started").into();
        for Column { name, holds, is_nullable, value } in AUDIT {
            let value = value(&row);
            assert_eq!(value.is_null(), *is_nullable, "{name}");
            assert!(value.is_null() || value.is_number() == (*holds == Holds::Number), "{name}");
        }
    }
}
