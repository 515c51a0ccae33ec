//! What is shown around the conversation: the place, the rows and metrics that it left, and what to try next.

use super::conversation::{ANSWERED, MODEL, REFUSED};
use super::people::{ADA, MINJI, name_of};
use super::place::{INPUT_TOKENS, OUTPUT_TOKENS, Place};
use super::ports::Ports;
use super::screen::Screen;
use super::{Wrong, until};
use crate::prices::format_usd;
use crate::records::{ReadError, StoredAudit, StoredUsage};
use crate::scripted::client::plain_http;
use crate::scripted::curl;

/// More rows than the conversation leaves.
const ALL_ROWS: u32 = 1_000;

/// Where everything is.
pub fn place(place: &Place, screen: &Screen) {
    let gateway = place.gateway();
    screen.heading(&format!("Tollgate {} in front of a scripted LibreChat", env!("CARGO_PKG_VERSION")));
    let instead =
        |port: u16, usual: u16| if port == usual { String::new() } else { format!("  (not {usual}: the usual ports are not all free)") };
    screen.line(&format!("  Tollgate   {}{}", place.url(), instead(gateway.public.port(), Ports::USUAL.public)));
    screen.line(&format!("  admin      http://{}{}", gateway.admin, instead(gateway.admin.port(), Ports::USUAL.admin)));
    screen.line(&format!("  metrics    {}{}", place.metrics_url(), instead(gateway.metrics.port(), Ports::USUAL.metrics)));
    screen.line(&format!("  LibreChat  {}", place.librechat_url()));
    screen.line(&format!("  settings   {}", place.config_file().display()));
    screen.line(&format!("  records    {}", place.database().display()));
}

/// The rows and the metrics that the conversation left, and what is not as it should be in them.
pub async fn what_it_left(place: &Place, screen: &Screen) -> Vec<Wrong> {
    let results = [usage(place, screen).await, audit(place, screen).await, metrics(place, screen).await];
    results.into_iter().filter_map(Result::err).collect()
}

async fn usage(place: &Place, screen: &Screen) -> Result<(), Wrong> {
    let records = &place.app().records;
    let rows = until(|rows: &Result<Vec<_>, _>| rows.is_err() || holds(rows, ANSWERED), || records.usage_rows(ALL_ROWS)).await;
    let rows = oldest_first(rows)?;
    screen.heading("Usage: one row for each answer (SQLite, usage_events)");
    let cells = rows.iter().map(usage_cells).collect::<Vec<_>>();
    screen.table(["org", "member", "model", "input", "output", "tokens", "cost", "from", "status"], &cells);
    let is_right = |row: &StoredUsage| {
        (row.input_tokens, row.output_tokens, row.messages) == (INPUT_TOKENS, OUTPUT_TOKENS, 1)
            && (row.model.as_str(), row.usage_source.as_str(), row.status.as_str()) == (MODEL, "frames", "completed")
            && format_usd(row.cost_nanousd) == "0.004"
    };
    match rows.iter().find(|row| !is_right(row)) {
        Some(row) => Err(Wrong(format!("this usage row is not what was used: {row:?}"))),
        None => count("usage rows", ANSWERED, rows.len()),
    }
}

async fn audit(place: &Place, screen: &Screen) -> Result<(), Wrong> {
    let app = place.app();
    // Refused tokens are counted, and written with their count every few seconds.
    app.refused_tokens.tick().into_iter().for_each(|row| app.recorder.record_audit(row));
    // An answered chat is started, streamed and settled; one token was refused.
    let answered = ["chat.started", "chat.streamed", "chat.settled"].map(|action| (action, ANSWERED));
    let refused = [("chat.refused", REFUSED), ("auth.token_refused", 1)];
    let expected = answered.into_iter().chain(refused).collect::<Vec<_>>();
    let all = expected.iter().map(|(_, count)| count).sum();
    let rows = until(|rows: &Result<Vec<_>, _>| rows.is_err() || holds(rows, all), || app.records.audit_rows(ALL_ROWS)).await;
    let rows = oldest_first(rows)?;
    screen.heading("Audit: who did what, and how it went (SQLite, audit_events)");
    let cells = rows.iter().map(audit_cells).collect::<Vec<_>>();
    screen.table(["org", "actor", "action", "category", "severity", "status", "error", "reference"], &cells);
    for (action, expected) in expected {
        count(&format!("audit rows of {action}"), expected, rows.iter().filter(|row| row.action == action).count())?;
    }
    count("audit rows", all, rows.len())
}

async fn metrics(place: &Place, screen: &Screen) -> Result<(), Wrong> {
    let expected = [
        r#"tollgate_decisions_total{decision="admitted",resource="none",scope="none",window="none"} 4"#,
        r#"tollgate_decisions_total{decision="refused",resource="cost",scope="member",window="day"} 1"#,
        r#"tollgate_decisions_total{decision="refused",resource="messages",scope="member",window="day"} 2"#,
        r#"tollgate_decisions_total{decision="refused",resource="tokens",scope="member",window="day"} 1"#,
        r#"tollgate_token_refusals_total{reason="signature"} 1"#,
        r#"tollgate_generations_total{status="completed"} 4"#,
        r#"tollgate_messages_total{org="acme"} 4"#,
        r#"tollgate_tokens_total{kind="input",model="gpt-4o",org="acme"} 3200"#,
        r#"tollgate_tokens_total{kind="output",model="gpt-4o",org="acme"} 800"#,
        r#"tollgate_cost_usd_total{model="gpt-4o",org="acme"} 0.016"#,
    ];
    let missing = |text: &str| expected.into_iter().find(|line| !text.lines().any(|said| said == *line));
    let url = place.metrics_url();
    let text = until(|text: &reqwest::Result<String>| !matches!(text, Ok(text) if missing(text).is_some()), || get(&url)).await?;
    screen.heading("Metrics: some of those that Prometheus would read");
    let names = expected.map(|line| line.split('{').next().unwrap_or(line));
    let is_shown = |line: &&str| names.iter().any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    for line in text.lines().filter(is_shown).filter(|line| !line.ends_with(" 0")) {
        screen.line(&format!("  {line}"));
    }
    screen.line("");
    missing(&text).map_or(Ok(()), |line| Err(Wrong(format!("the metrics should hold {line}"))))
}

async fn get(url: &str) -> reqwest::Result<String> {
    plain_http().get(url).send().await?.text().await
}

/// Two tokens, and lines to paste.
pub async fn what_to_try(place: &Place, screen: &Screen) {
    screen.heading("Try it yourself: two people, whose tokens are good for 12 hours");
    screen.line("  # Ada of Acme, who has enough for today");
    screen.line(&format!("  ADA={}", place.token(ADA)));
    screen.line("  # Minji of Hanbit, an org that reads Korean, who may send one message a day");
    screen.line(&format!("  MINJI={}", place.token(MINJI)));
    screen.line("  # who you are");
    screen.line("  TOKEN=$ADA");
    screen.line("");
    screen.line("  # start a chat; words in [[...]] steer the scripted LibreChat");
    for line in curl::start(&place.url(), "Hello! [[tokens=40 delay=100]]", MODEL) {
        screen.line(&format!("  {line}"));
    }
    screen.line("  # listen to its answer");
    screen.line(&format!("  {}", curl::listen(&place.url())));
    screen.line("  # what is left of one's limits");
    screen.line(&format!("  curl -s {}/_tollgate/me -H \"Authorization: Bearer $TOKEN\"; echo", place.url()));
    if let Some(reference) = last_reference(place).await {
        let program = std::env::current_exe().map_or_else(|_| "tollgate".to_owned(), |path| path.display().to_string());
        screen.line("  # what an operator sees of Dan's refusal");
        screen.line(&format!("  {program} explain {reference} --config {}", place.config_file().display()));
    }
    screen.line("");
}

/// What the last refused chat was told to ask about.
async fn last_reference(place: &Place) -> Option<String> {
    let rows = place.app().records.audit_rows(ALL_ROWS).await.ok()?;
    rows.into_iter().find(|row| row.action == "chat.refused")?.reference
}

fn holds<Row>(rows: &Result<Vec<Row>, ReadError>, count: usize) -> bool {
    rows.as_ref().is_ok_and(|rows| rows.len() >= count)
}

fn oldest_first<Row>(rows: Result<Vec<Row>, ReadError>) -> Result<Vec<Row>, Wrong> {
    let mut rows = rows.map_err(|error| Wrong(error.to_string()))?;
    rows.reverse();
    Ok(rows)
}

fn count(what: &str, expected: usize, found: usize) -> Result<(), Wrong> {
    if found == expected { Ok(()) } else { Err(Wrong(format!("{found} {what} instead of {expected}"))) }
}

fn usage_cells(row: &StoredUsage) -> [String; 9] {
    [
        row.org_id.to_string(),
        name_of(&row.member_id).to_owned(),
        row.model.clone(),
        row.input_tokens.to_string(),
        row.output_tokens.to_string(),
        row.total_tokens.to_string(),
        format!("${}", format_usd(row.cost_nanousd)),
        row.usage_source.clone(),
        row.status.clone(),
    ]
}

fn audit_cells(row: &StoredAudit) -> [String; 8] {
    let or_nobody = |text: Option<&str>| text.unwrap_or("-").to_owned();
    [
        or_nobody(row.org_id.as_deref()),
        or_nobody(row.actor_id.as_deref().map(name_of)),
        row.action.clone(),
        row.category.as_str().to_owned(),
        row.severity.as_str().to_owned(),
        row.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        or_nobody(row.error.as_deref()),
        or_nobody(row.reference.as_deref()),
    ]
}
