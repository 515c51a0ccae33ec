//! Audit rows in the names of the Elastic Common Schema (ECS 8.17), for log files, exports and whoever collects them.
//! Columns that it has no name for stand under `tollgate`. `docs/audit.md` shows the table.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{AuditRow, Category, Severity};

/// The version whose names are used.
const VERSION: &str = "8.17";

/// A row as one JSON object. What is sealed in it stays so: unseal it first for eyes that may see it.
pub fn audit_row_as_ecs<Word: AsRef<str>>(row: &AuditRow<Word>) -> Value {
    let mut fields = Fields(Map::new());
    fields.put("@timestamp", Some(row.time.to_string()));
    fields.put("ecs.version", Some(VERSION));
    fields.put("log.level", Some(level(row.severity)));
    event(&mut fields, row);
    fields.put("organization.id", row.org_id.as_deref());
    fields.put("tollgate.org_day", row.org_day.as_deref());
    fields.put("user.id", row.actor_id.as_deref());
    fields.put("user.name", row.actor_name.as_deref());
    fields.put("user.roles", row.actor_role.as_deref().map(|role| [role]));
    fields.put("http.request.id", row.request_id.as_deref());
    fields.put("http.request.method", row.method.as_deref());
    fields.put("http.response.status_code", row.status);
    fields.put("url.path", row.path.as_deref());
    fields.put("url.query", row.query.as_deref());
    fields.put("error.message", row.error.as_deref());
    fields.put("source.address", row.address.as_deref());
    fields.put("source.ip", row.address.as_deref().filter(|address| address.parse::<IpAddr>().is_ok()));
    fields.put("user_agent.original", row.user_agent.as_deref());
    fields.put("gen_ai.request.model", row.model.as_deref());
    fields.put("tollgate.conversation_id", row.conversation_id.as_deref());
    fields.put("tollgate.category", Some(row.category.as_str()));
    fields.put("tollgate.severity", Some(row.severity.as_str()));
    fields.put("tollgate.resource.type", row.resource_type.as_ref().map(AsRef::as_ref));
    fields.put("tollgate.resource.id", row.resource_id.as_deref());
    fields.put("tollgate.total_tokens", row.total_tokens);
    fields.put("tollgate.cost_nanousd", row.cost_nanousd);
    fields.put("tollgate.count", Some(row.count));
    fields.put("tollgate.reference", row.reference.as_deref());
    fields.put("tollgate.detail", row.detail.as_ref());
    if let Some(link) = &row.link {
        fields.put("tollgate.chain.writer", Some(link.writer));
        fields.put("tollgate.chain.previous", Some(&link.previous));
        fields.put("tollgate.chain.hash", Some(&link.hash));
    }
    Value::Object(fields.0)
}

fn event<Word: AsRef<str>>(fields: &mut Fields, row: &AuditRow<Word>) {
    fields.put("event.id", Some(row.id));
    fields.put("event.kind", Some("event"));
    fields.put("event.dataset", Some("tollgate.audit"));
    fields.put("event.category", Some([category(row.category)]));
    fields.put("event.action", Some(row.action.as_ref()));
    fields.put("event.outcome", Some(row.outcome.as_str()));
    // Nanoseconds.
    fields.put("event.duration", row.duration_ms.map(|duration| duration.saturating_mul(1_000_000)));
    fields.put("event.sequence", row.link.as_ref().map(|link| link.seq));
}

/// One of the categories that ECS allows.
fn category(category: Category) -> &'static str {
    match category {
        Category::Auth | Category::Security => "authentication",
        Category::Api => "api",
        Category::Admin => "configuration",
        Category::Data => "database",
        Category::System => "process",
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warn",
        Severity::Error => "error",
        Severity::Critical => "critical",
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    /// Puts a value where there is one; dots in its name are objects.
    fn put(&mut self, name: &str, value: Option<impl serde::Serialize>) {
        let Some(value) = value.map(|value| json!(value)) else { return };
        let mut place = &mut self.0;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                place.insert(part.to_owned(), value);
                return;
            }
            // The names above have no value where another one has an object.
            let Value::Object(inner) = place.entry(part).or_insert_with(|| Value::Object(Map::new())) else { return };
            place = inner;
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::records::{Link, Outcome, StoredAudit};

    #[test]
    fn a_full_row_and_a_bare_one() {
        let text = |text: &str| Some(text.to_owned());
        let full = StoredAudit {
            id: Uuid::from_u128(1),
            time: "2026-11-20T12:00:00.123456Z".parse().expect("an instant"),
            category: Category::Security,
            severity: Severity::Warning,
            org_id: Some("acme".into()),
            org_day: Some("2026-11-20".to_owned()),
            actor_id: Some("66f0".into()),
            actor_name: Some("Ada".into()),
            actor_role: Some("user".into()),
            action: "chat.refused".to_owned(),
            resource_type: text("route"),
            resource_id: text("chat"),
            outcome: Outcome::Failure,
            request_id: Some("r1".into()),
            method: text("POST"),
            path: text("/api/agents/chat/openAI"),
            query: text("a=b"),
            status: Some(429),
            duration_ms: Some(3),
            error: text("limit"),
            address: text("2001:db8::1"),
            user_agent: text("Firefox"),
            conversation_id: text("c1"),
            model: text("gpt-5"),
            total_tokens: Some(7),
            cost_nanousd: Some(9),
            count: 1,
            reference: text("REF"),
            detail: Some(json!({ "limit": 5 })),
            link: Some(Link { writer: Uuid::from_u128(2), seq: 4, previous: "aa".to_owned(), hash: "bb".to_owned() }),
        };
        let bare = StoredAudit {
            org_id: None,
            org_day: None,
            actor_id: None,
            actor_name: None,
            actor_role: None,
            resource_type: None,
            resource_id: None,
            request_id: None,
            method: None,
            path: None,
            query: None,
            status: None,
            duration_ms: None,
            error: None,
            address: text("not an address"),
            user_agent: None,
            conversation_id: None,
            model: None,
            total_tokens: None,
            cost_nanousd: None,
            reference: None,
            detail: None,
            link: None,
            ..full.clone()
        };
        insta::assert_json_snapshot!([audit_row_as_ecs(&full), audit_row_as_ecs(&bare)]);
    }
}
