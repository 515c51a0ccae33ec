//! Rows as an ordinary day leaves them: 20 orgs, 1,000 members, five models.

use jiff::{SignedDuration, Timestamp};
use tollgate::records::{AuditRow, Category, Outcome, Rows, Severity, StoredUsage, UsageRow};
use uuid::Uuid;

/// The question of `docs/data-model.md`.
pub const LAST_30_DAYS: &str = "SELECT org_day, SUM(messages) AS messages, SUM(total_tokens) AS tokens, \
    SUM(cost_nanousd) / 1000000000.0 AS usd FROM usage_daily \
    WHERE org_id = 'org-7' AND org_day BETWEEN '2026-10-22' AND '2026-11-20' GROUP BY org_day ORDER BY org_day";

/// What stands in the journal when a chat starts: as long as a real one.
pub fn start_record(id: Uuid) -> String {
    format!("{{\"id\":\"{id}\",\"filler\":\"{}\"}}", "x".repeat(900))
}

/// One answer's usage row.
pub fn usage_only(number: u64) -> Rows {
    Rows { usage: vec![usage(number)], ..Rows::default() }
}

/// One answer's usage row and the two audit rows of its chat.
pub fn of_a_chat(number: u64) -> Rows {
    Rows {
        usage: vec![usage(number)],
        audit: vec![audit(number, "chat.started").into(), audit(number, "chat.completed").into()],
        ..Rows::default()
    }
}

fn usage(number: u64) -> StoredUsage {
    let (id, member) = (Uuid::now_v7(), number * 7919 % 1000);
    UsageRow {
        id,
        time: noon() + SignedDuration::from_millis(number.cast_signed()),
        generation_id: id,
        org_id: format!("org-{}", member % 20).into(),
        member_id: format!("68e3f2c0a1b2c3d4e5f6{member:04}").into(),
        org_day: "2026-11-20".to_owned(),
        org_month: "2026-11".to_owned(),
        endpoint: "openAI".to_owned(),
        model: format!("model-{}", number % 5),
        agent_id: None,
        conversation_id: Some(Uuid::new_v4().to_string()),
        messages: 1,
        input_tokens: 2910,
        output_tokens: 90,
        cache_read_tokens: 1024,
        cache_write_tokens: 7,
        total_tokens: 3000,
        cost_nanousd: 4_537_500,
        price_version: "2026-11".into(),
        usage_source: "frames",
        estimate_tokens: 1007,
        status: "completed",
        time_to_first_token_ms: Some(420),
        duration_ms: 2000,
        request_id: Uuid::new_v4().to_string().into(),
    }
    .into()
}

fn audit(number: u64, action: &'static str) -> AuditRow {
    let member = number * 7919 % 1000;
    AuditRow {
        org_id: Some(format!("org-{}", member % 20).into()),
        org_day: Some("2026-11-20".to_owned()),
        actor_id: Some(format!("68e3f2c0a1b2c3d4e5f6{member:04}").into()),
        actor_name: Some("Ada".into()),
        actor_role: Some("user".into()),
        outcome: Outcome::Success,
        request_id: Some(Uuid::new_v4().to_string().into()),
        method: Some("POST".to_owned()),
        path: Some("/api/agents/chat/openAI".to_owned()),
        status: Some(200),
        duration_ms: Some(12),
        address: Some("192.0.2.1".to_owned()),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
        conversation_id: Some(Uuid::new_v4().to_string()),
        model: Some(format!("model-{}", number % 5)),
        ..AuditRow::plain(noon(), Category::Api, Severity::Info, action)
    }
}

fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("this is an instant")
}

/// Statements that make so many rows over 60 days, and their sums by day. The indexes of the rows are made afterwards:
/// the question does not read them.
pub fn many(rows: u64) -> [String; 2] {
    let made = format!(
        "INSERT INTO usage_events (id, time, generation_id, org_id, member_id, org_day, org_month, endpoint, model, messages, \
         input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, total_tokens, cost_nanousd, price_version, usage_source, \
         estimate_tokens, status, time_to_first_token_ms, duration_ms, request_id) \
         SELECT id, time, id, 'org-' || member % 20, 'member-' || member, to_char(time, 'YYYY-MM-DD'), to_char(time, 'YYYY-MM'), 'openAI', \
         'model-' || n % 5, 1, 2910, 90, 1024, 7, 3000, 4537500, '2026-11', 'frames', 1007, 'completed', 420, 2000, '' \
         FROM (SELECT n, n * 7919 % 1000 AS member, gen_random_uuid() AS id, \
         TIMESTAMP '2026-11-20 23:59:59' - n % 5184000 * INTERVAL '1 second' AS time FROM generate_series(1, {rows}::BIGINT) AS n) AS made"
    );
    let summed = "INSERT INTO usage_daily SELECT org_id, org_day, org_month, member_id, model, endpoint, SUM(messages), COUNT(*), COUNT(*), \
         0, SUM(input_tokens), SUM(output_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens), SUM(total_tokens), 0, \
         SUM(cost_nanousd), SUM(time_to_first_token_ms), COUNT(*), MIN(time_to_first_token_ms), MAX(time_to_first_token_ms), \
         SUM(duration_ms), COUNT(*), MIN(duration_ms), MAX(duration_ms) \
         FROM usage_events GROUP BY org_id, org_day, org_month, member_id, model, endpoint; ANALYZE usage_daily";
    let drop = "DROP INDEX usage_events_time, usage_events_org, usage_events_member, usage_events_generation, usage_events_conversation; \
         ALTER TABLE usage_events DROP CONSTRAINT usage_events_pkey";
    [format!("{drop}; {made}"), summed.to_owned()]
}
