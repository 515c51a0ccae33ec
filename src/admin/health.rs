//! The metrics listener: `/metrics`, `/livez`, `/readyz`, `/system`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::Shared;
use crate::app::App;
use crate::limits::OnFailure;
use crate::limits::rules::{Amounts, Who};
use crate::records::recorder::WhenFull;
use crate::telemetry::log_files::Written;
use crate::telemetry::system::machine;

/// Its routes.
pub fn routes(app: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/readyz/self", get(ready_itself))
        .route("/system", get(system))
        .with_state(app)
}

/// Its routes while everything is being built.
pub fn starting_routes() -> Router {
    let starting = || async { (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": "starting", "degraded": []}))) };
    Router::new().route("/livez", get(|| async { "alive\n" })).fallback(starting)
}

async fn metrics(State(app): State<Shared>) -> Response {
    measure(&app).await;
    // It reads what the system knows of this process, open files one by one, so it does not hold up the runtime.
    let there = Arc::clone(&app);
    let shown = tokio::task::spawn_blocking(move || there.metrics.exposition()).await;
    let text = shown.unwrap_or_else(|_| app.metrics.exposition());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// How the machine has done in the last five minutes.
async fn system(State(app): State<Shared>) -> Response {
    Json(app.machine.told()).into_response()
}

/// Ready, unless the start is not complete, the process is stopping, or every chat would be refused because of something
/// it depends on.
async fn readyz(State(app): State<Shared>) -> Response {
    let degraded = degraded(&app).await;
    let store_closes = degraded.contains(&"store") && closes_without_store(&app);
    let reason = if !app.ready.is_set() {
        Some("starting")
    } else if app.draining.is_set() {
        Some("stopping")
    } else if degraded.contains(&"librechat") {
        Some("LibreChat does not answer")
    } else if store_closes {
        Some("the store does not answer, and limits are closed without it")
    } else if degraded.contains(&"journal") && app.config.records.when_full == WhenFull::Refuse {
        Some("the journal takes no new chats")
    } else {
        None
    };
    let system = machine::levels(app.machine.levels());
    let status = if reason.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let told = json!({
        "ready": reason.is_none(), "reason": reason, "degraded": degraded, "system": system, "observing": app.directory.observed(),
    });
    (status, Json(told)).into_response()
}

/// Ready as far as this process goes, for a balancer: what all replicas share and lack takes none of them out, since people
/// are told better by a replica what is wrong than by nobody.
async fn ready_itself(State(app): State<Shared>) -> Response {
    let reason = if !app.ready.is_set() {
        Some("starting")
    } else if app.draining.is_set() {
        Some("stopping")
    } else if app.recorder.health().journal.full && app.config.records.when_full == WhenFull::Refuse {
        Some("the journal takes no new chats")
    } else {
        None
    };
    let status = if reason.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(json!({ "ready": reason.is_none(), "reason": reason }))).into_response()
}

/// Parts that do not work right now.
async fn degraded(app: &App) -> Vec<&'static str> {
    let mut degraded = Vec::new();
    if !app.store.healthy().await {
        degraded.push("store");
    }
    let records = app.recorder.health();
    if records.failing_for.is_some() {
        degraded.push("records");
    }
    if records.journal.full || records.journal.failing_for.is_some() {
        degraded.push("journal");
    }
    if !app.librechat.upstreams().any_is_alive() {
        degraded.push("librechat");
    }
    if app.directory.is_behind() {
        degraded.push("directory");
    }
    if app.verifier.key_sets().any(|keys| keys.health().degraded) {
        degraded.push("issuers");
    }
    degraded
}

/// Whether nobody may chat when the store is away: in every org an ordinary member meets a limit that is closed without it.
fn closes_without_store(app: &App) -> bool {
    let (now, nobody, user) = (app.clock.now(), Arc::from(""), Arc::from("user"));
    let orgs = app.directory.orgs();
    !orgs.is_empty()
        && orgs.iter().all(|org| {
            let who =
                Who { org: &org.id, member: &nobody, role: &user, plan: org.plan.as_ref(), zone: &org.zone, org_tokens_per_month: None };
            let mut enforced = app.charges(&who, &Amounts::default(), now).into_iter().filter_map(|charge| charge.enforce);
            enforced.any(|bar| bar.on_failure == OnFailure::Closed)
        })
}

/// Brings the gauges up to date that no request moves.
pub async fn measure(app: &App) {
    let degraded = degraded(app).await;
    for component in ["store", "records", "journal", "librechat", "directory", "issuers"] {
        app.metrics.degraded(component, degraded.contains(&component));
    }
    app.metrics.store_up(!degraded.contains(&"store"));
    app.metrics.records(&app.recorder.health());
    let observed = app.directory.observed();
    app.metrics.observing(
        observed.iter().any(|observed| observed.org.is_none()),
        observed.iter().filter(|observed| observed.org.is_some()).count(),
    );
    let (used, idle) = app.database_connections();
    app.metrics.database_connections(used, idle);
    let oldest = app.generations.oldest_open().map(|admitted_at| app.clock.now().duration_since(admitted_at));
    app.metrics.generation_oldest(oldest.and_then(|age| age.try_into().ok()).unwrap_or_default());
    app.verifier.key_sets().for_each(|keys| app.metrics.key_set(keys.issuer(), &keys.health()));
    if let Some(rows) = &app.row_log {
        let Written { written, dropped, failed } = rows.written();
        for (result, lines) in [("written", written), ("dropped", dropped), ("failed", failed)] {
            app.metrics.log_file_lines(result, lines);
        }
    }
}
