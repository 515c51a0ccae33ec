//! `tollgate explain REFERENCE`: the whole decision behind a refusal, from its audit row.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::ledger::{Noted, Opened};
use super::say::{complain, say, say_json};
use super::table::{amount_of, at, of_limits, shown};
use super::{Exit, Format, Source, failed, misconfigured, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::error::read_reference;
use crate::records::seal::unseal_rows;
use crate::records::{ReadError, StoredAudit};

/// `tollgate explain`: the whole decision behind the reference of a refusal.
pub fn explain(source: &Source, reference: &str, format: Format) -> Exit {
    let Some(reference) = read_reference(reference) else {
        return misconfigured(&format_args!("\"{reference}\" is no reference: ten digits and letters, as the refusal showed them"));
    };
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    wait_for(async move {
        match decision(&config, &reference).await {
            Ok(Some(row)) => show(&config, &row, format),
            Ok(None) => {
                let place = &config.records.url;
                failed(&format_args!(
                    "{place} holds no refusal with the reference {reference}. Rows take up to a second to be written; \
                     is this the database of the Tollgate that refused?"
                ))
            }
            Err(reason) => failed(&reason),
        }
    })
}

async fn decision(config: &Config, reference: &str) -> Result<Option<StoredAudit>, String> {
    let opened = Opened::open(config).await?;
    let row = unsealed(&opened, reference).await.map_err(|error| error.to_string());
    if let Ok(Some(row)) = &row {
        note(config, &opened, row, reference).await;
    }
    opened.close().await;
    row
}

async fn unsealed(opened: &Opened, reference: &str) -> Result<Option<StoredAudit>, ReadError> {
    let mut row = opened.records().decision(reference).await?;
    unseal_rows(&*opened.member_keys(), row.as_mut_slice()).await?;
    Ok(row)
}

/// Who reads a person's row is audited. A database that may only be read, such as a replica, still answers: whoever was
/// refused waits.
async fn note(config: &Config, opened: &Opened, row: &StoredAudit, reference: &str) {
    let org = row.org_id.as_ref().and_then(|id| config.orgs.iter().find(|org| org.id == *id));
    let noted = Noted { action: "audit.read", org, kind: "audit", which: reference.to_owned(), detail: None };
    if let Err(reason) = opened.note(noted, SystemClock.now()).await {
        complain(&format_args!("reading this row leaves no trace: {reason}"));
    }
}

fn show(config: &Config, row: &StoredAudit, format: Format) -> Exit {
    let zone =
        row.org_id.as_ref().and_then(|id| config.orgs.iter().find(|org| org.id == *id)).map_or(TimeZone::UTC, |org| org.zone.clone());
    match format {
        Format::Json => say_json(&json_of(row)),
        Format::Text => say(&text_of(row, &zone)),
    }
}

fn json_of(row: &StoredAudit) -> Value {
    json!({
        "reference": row.reference,
        "time": row.time.to_string(),
        "outcome": row.outcome.as_str(),
        "reason": row.error,
        "org": row.org_id.as_deref(),
        "member": row.actor_id.as_deref(),
        "member_name": row.actor_name.as_deref(),
        "role": row.actor_role.as_deref(),
        "request_id": row.request_id.as_deref(),
        "method": row.method,
        "path": row.path,
        "status": row.status,
        "address": row.address,
        "user_agent": row.user_agent,
        "conversation_id": row.conversation_id,
        "model": row.model,
        "decision": row.detail,
    })
}

/// Lines of a name and what stands there, where anything does.
struct Facts(String);

impl Facts {
    fn titled(title: &str) -> Self {
        Self(format!("{title}\n"))
    }

    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(self.0, "  {name:<12} {value}");
        }
    }
}

fn text_of(row: &StoredAudit, zone: &TimeZone) -> String {
    let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
    let shadow = row.error.as_deref() == Some("shadow");
    let verb = if shadow { "let pass, though a shadow limit would have refused it," } else { "refused" };
    let mut facts = Facts::titled(&format!("{}: {verb} at {}", or_nothing(&row.reference), at(row.time, zone)));
    facts.add("reason", row.error.as_deref().map_or("", reason));
    facts.add("who", &who(row));
    let from = [or_nothing(&row.address), or_nothing(&row.user_agent)];
    facts.add("from", from.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ").as_str());
    let status = row.status.map_or_else(String::new, |status| format!(", answered {status}"));
    facts.add("request", &format!("{} {}{status}", or_nothing(&row.method), or_nothing(&row.path)));
    facts.add("request id", row.request_id.as_deref().unwrap_or_default());
    facts.add("conversation", &or_nothing(&row.conversation_id));
    facts.add("model", &or_nothing(&row.model));
    let mut text = facts.0;
    if let Some(detail) = &row.detail {
        text.push_str(&limit_in_the_way(&detail["refused_by"], zone));
        text.push_str(&estimate(&detail["estimate"]));
        let limits = shown(&detail["limits"]);
        if !limits.is_empty() {
            text.push_str("Every limit that applied, as it stood then\n");
            text.push_str(&of_limits(&limits, zone));
        }
    }
    text
}

fn who(row: &StoredAudit) -> String {
    let Some(id) = row.actor_id.as_deref() else { return String::new() };
    let name = row.actor_name.as_deref().map_or_else(|| id.to_owned(), |name| format!("{name} ({id})"));
    let org = row.org_id.as_deref().map_or_else(|| ", of no org".to_owned(), |org| format!(" of org {org}"));
    let role = row.actor_role.as_deref().map_or_else(String::new, |role| format!(", role {role}"));
    format!("{name}{org}{role}")
}

/// The word in the row, for people.
fn reason(word: &str) -> &str {
    match word {
        "limit" => "a limit did not leave room",
        "shadow" => "a limit in shadow mode did not leave room",
        "no_org" => "the person belongs to no org: default_org names none, and no domain or token puts them into one",
        "address_refused" => {
            "the address is in none of the networks that the org or its role, the account or the API key allows; closed_by says whose (--json)"
        }
        "key_scope" => "the API key does not have the scope that this needs",
        "key_not_allowed" => "no API key may do this",
        "key_of_tollgate" => "/api/agents/v1 takes LibreChat's own keys only",
        "too_many_keys" => "the member has as many API keys as api_keys.per_member allows, those revoked in the last day included",
        "viewer" => "viewers look on and send nothing; tollgate member role gives them another role",
        "viewer_key" => "viewers have no API keys with the scope chat",
        "identity_away" => "the database did not answer, so that nobody could say whose it was",
        "origin_refused" => "a page of an origin that is neither this place's own nor in cors_origins sent the request",
        "login_locked" => "too many sign-ins with this name had failed; tollgate lockouts open NAME opens it",
        "login_slowed" => "too many sign-ins from this address had failed",
        "login_busy" => "as many sign-ins like it were running as were left before a lock",
        "logins_closed" => "failed sign-ins could not be counted, and sign-ins are closed then (logins.on_failure)",
        "member_suspended" => "the member is suspended; tollgate member resume lets them in",
        "org_suspended" => "the org is suspended; tollgate org resume lets it in",
        "unknown_model" => "the price table does not know the model, and prices.unknown_model is reject",
        "agent_api_off" => "librechat.agent_api is refuse",
        "no_account" => "LibreChat has no account for the person that the token names, or it has another e-mail address",
        "foreign_org" => "the token's issuer may not speak for this org",
        "unauthorized" => "there was no token, or one that does not hold",
        "store_closed" => "the store of counters did not answer, and a limit is closed then (on_failure)",
        "malformed" => "the request could not be read",
        "too_large" => "the body was larger than body.max_chat_bytes",
        "too_slow" => "the body came too slowly",
        "unsupported_media" => "the body was not plain JSON",
        "length_required" => "the body was long and had no Content-Length",
        "upstream_away" => "LibreChat could not be reached",
        "upstream_broken" => "LibreChat broke the exchange off",
        "upstream_timeout" => "LibreChat took too long to answer",
        "overloaded" => "too much was waiting",
        "draining" => "Tollgate was stopping",
        "not_found" => "nothing is at this address",
        "method_not_allowed" => "the address does not take this method",
        "forbidden" => "the route is not for this caller",
        "internal" => "Tollgate itself failed; its log says how",
        word => word,
    }
}

fn limit_in_the_way(limit: &Value, zone: &TimeZone) -> String {
    let Some(resource) = limit["resource"].as_str() else { return String::new() };
    let text = |key: &str| limit[key].as_str().unwrap_or_default();
    let amount = |key: &str| limit[key].as_u64().map_or_else(String::new, |amount| amount_of(resource, amount));
    let mut facts = Facts::titled("The limit in the way");
    facts.add("rule", text("rule"));
    facts.add("counts", &format!("{resource} per {} of the {}, {}", text("window"), text("scope"), text("period")));
    facts.add("limit", &amount("limit"));
    facts.add("used", &amount("used"));
    facts.add("held", &format!("{} by answers that were running", amount("held")));
    facts.add("needed", &format!("{} at least, for this message", amount("needs")));
    let zone = if text("scope") == "everyone" { &TimeZone::UTC } else { zone };
    facts.add("starts anew", &text("resets_at").parse().map_or_else(|_| String::new(), |resets_at| at(resets_at, zone)));
    facts.0
}

/// Which encoding the text was counted with, and whether it is the model's own.
fn counted_with(estimate: &Value) -> String {
    let Some(encoding) = estimate["encoding"].as_str() else { return String::new() };
    let fit = match estimate["encoding_fit"].as_str() {
        Some("exact") => ", which is the model's own",
        Some("nearest") => ", the nearest to the model's own",
        _ => "",
    };
    format!(", counted with {encoding}{fit}")
}

fn estimate(estimate: &Value) -> String {
    let Some(input) = estimate["input_tokens"].as_u64() else { return String::new() };
    let tokens = |key: &str| estimate[key].as_u64().map(|amount| format!("{} tokens", amount_of("tokens", amount))).unwrap_or_default();
    let mut facts = Facts::titled("The estimate it was judged by");
    facts.add("text", &(tokens("visible_tokens") + &counted_with(estimate)));
    facts.add("context", &tokens("context_tokens"));
    let models = estimate["models"]
        .as_u64()
        .filter(|models| *models > 1)
        .map_or_else(String::new, |models| format!(", for each of {models} models"));
    facts.add("input", &format!("{} tokens{models}", amount_of("tokens", input)));
    facts.add("answer", &format!("{}, shrinking to {} at least", tokens("room_for_answer"), tokens("least_room")));
    facts.0
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::records::{AuditRow, Category, Outcome, Severity};

    fn refused(kind: &str, detail: Value) -> StoredAudit {
        let text = |text: &str| Some(text.to_owned());
        AuditRow {
            id: Uuid::nil(),
            time: "2026-11-20T14:01:02Z".parse().expect("an instant"),
            category: Category::Api,
            severity: Severity::Warning,
            org_id: Some("acme".into()),
            org_day: Some("2026-11-20".to_owned()),
            actor_id: Some("6b008f411deed07a2f49c1c8".into()),
            actor_name: Some("alice".into()),
            actor_role: Some("user".into()),
            action: "chat.refused".to_owned(),
            resource_type: text("route"),
            resource_id: text("chat"),
            outcome: Outcome::Failure,
            request_id: Some("0199f".into()),
            method: text("POST"),
            path: text("/api/agents/chat/openAI"),
            query: None,
            status: Some(429),
            duration_ms: Some(3),
            error: text(kind),
            address: text("203.0.113.9"),
            user_agent: text("Mozilla/5.0"),
            conversation_id: None,
            model: text("gpt-4o"),
            total_tokens: None,
            cost_nanousd: None,
            count: 1,
            reference: text("0123456789"),
            detail: Some(detail),
            link: None,
        }
    }

    fn seoul() -> TimeZone {
        TimeZone::get("Asia/Seoul").expect("a zone")
    }

    #[test]
    fn the_whole_decision_reads_well() {
        let detail = json!({
            "refused_by": {
                "scope": "member", "resource": "cost", "window": "day", "period": "2026-11-20", "limit": 5_000_000_000_u64,
                "used": 4_990_000_000_u64, "held": 5_000_000_u64, "needs": 12_345_678_u64, "resets_at": "2026-11-20T15:00:00Z",
                "rule": "limits[2]: member of org acme",
            },
            "estimate": {
                "visible_tokens": 1200, "context_tokens": 34_000, "input_tokens": 35_200, "room_for_answer": 1000, "least_room": 100,
                "models": 2,
            },
            "limits": [{
                "scope": "member", "resource": "cost", "window": "day", "period": "2026-11-20", "mode": "enforce",
                "limit": 5_000_000_000_u64, "used": 4_990_000_000_u64, "held": 5_000_000_u64, "left": 5_000_000_u64,
                "resets_at": "2026-11-20T15:00:00Z", "why": "limits[2]: member of org acme",
            }],
        });
        insta::assert_snapshot!(text_of(&refused("limit", detail), &seoul()));
    }

    #[test]
    fn a_refusal_without_a_decision_is_told_as_far_as_it_goes() {
        let text = text_of(&StoredAudit { detail: None, ..refused("no_org", Value::Null) }, &TimeZone::UTC);
        assert!(text.contains("belongs to no org") && !text.contains("estimate"), "{text}");
        let odd = json!({"refused_by": {"limit": "a lot"}, "estimate": 5, "limits": {"a": 1}});
        assert_eq!(text_of(&refused("no_org", odd), &TimeZone::UTC), text, "what cannot be read is left out");
    }
}
