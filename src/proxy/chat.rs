//! How a message is admitted: read, estimate, reserve. The one decision is made over every limit that applies, before
//! anything is forwarded.

use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use pingora_proxy::Session;
use serde_json::json;

use super::body;
use super::ctx::{Ctx, Refused};
use crate::app::App;
use crate::error::{Malformed, Rejection};
use crate::generations::Start;
use crate::identity::{Identity, Org};
use crate::librechat::chat::{ChatBody, bounded};
use crate::librechat::openai::ApiRequest;
use crate::librechat::routes::{ChatRoute, Route};
use crate::limits::rules::{Amounts, Who};
use crate::limits::{Bucket, Charge, Decision, OnFailure, Refusal, Reserve, StoreError};
use crate::prices::{Found, UnknownModel, Usage};
use crate::telemetry::metrics;
use crate::tokens::Encoding;

/// The most room that is reserved for an answer, in tokens, whatever its body asks for.
const MOST_ROOM: u64 = 1_000_000;

/// What a message asks, whichever route it came by.
#[derive(Debug, Default)]
struct Message {
    endpoint: String,
    model: Option<String>,
    /// The second model; empty where it is a saved agent's and not known.
    added_model: Option<String>,
    /// The saved agent that answers beside, where no model is named for it.
    added_agent_id: Option<String>,
    agent_id: Option<String>,
    conversation_id: Option<String>,
    text: String,
    /// What the person says, without what else is visible.
    said: Option<String>,
    /// Whether it goes on with a run that waited for a person.
    goes_on: bool,
    /// Whether the body names the model, and not an earlier answer of the same agent.
    names_model: bool,
    /// Room for the answer that it names itself.
    answer_tokens: Option<u64>,
    /// Whether an answer is paid for here; a steer's is not.
    has_answer: bool,
    time_zone: Option<String>,
}

/// What it will take, as far as can be told.
#[derive(Debug)]
struct Estimate {
    /// Visible text and the conversation's last context, in tokens, for each model.
    input: u64,
    /// The part of `input` that is the conversation's last context.
    context: u64,
    room: u64,
    least_room: u64,
    models: u64,
    amounts: Amounts,
}

/// Admits a message and opens its generation.
pub async fn admit(app: &App, session: &mut Session, ctx: &mut Ctx) -> Result<(), Rejection> {
    if app.draining.is_set() {
        return Err(Rejection::Draining);
    }
    // Whoever spends was authenticated, and belongs to an org.
    let identity = ctx.identity.clone().ok_or(Rejection::Unauthorized)?;
    let org = identity.org.clone().ok_or(Rejection::NoOrg)?;
    if !session.as_downstream_mut().is_body_empty() {
        expect_plain_json(session)?;
    }
    let body = body::read(session, app.config.body.max_chat_bytes).await?;
    let arrived = tokio::time::Instant::now();
    let message = read(&ctx.route, &body)?;
    ctx.body = Some(body);
    if let Some(zone) = message.time_zone.as_deref().and_then(|zone| TimeZone::get(zone).ok()) {
        ctx.zone = Some(zone);
    }
    let message = recall_models(app, &org, &identity, message).await;
    ctx.asks.conversation_id.clone_from(&message.conversation_id);
    ctx.asks.model.clone_from(&message.model);
    let estimate = estimate(app, &org, &identity, &message).await?;
    let decided = reserve(app, session, ctx, &identity, &org, message, &estimate).await;
    let decided_in = arrived.elapsed();
    app.metrics.admission(decided_in);
    ctx.generation = Some(app.generations.open(decided?));
    ctx.admitted_in = Some(decided_in);
    Ok(())
}

/// LibreChat would also read compressed and form-encoded bodies, which its own client never sends. What cannot be read
/// here must not be forwarded.
fn expect_plain_json(session: &Session) -> Result<(), Rejection> {
    let headers = &session.req_header().headers;
    let one = |name| {
        let mut values =
            headers.get_all(name).iter().map(|value: &http::HeaderValue| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        (values.next(), values.next().is_some())
    };
    let (content_type, doubled) = one("content-type");
    let media = content_type.unwrap_or_default();
    let (media, parameters) = media.split_once(';').unwrap_or((&media, ""));
    let foreign_charset = parameters.contains("charset") && !parameters.contains("utf-8") && !parameters.contains("utf8");
    if doubled || media.trim() != "application/json" || foreign_charset {
        return Err(Rejection::UnsupportedMedia);
    }
    match one("content-encoding") {
        (None, _) => Ok(()),
        (Some(encoding), false) if encoding == "identity" => Ok(()),
        _ => Err(Rejection::UnsupportedMedia),
    }
}

fn read(route: &Route, body: &Bytes) -> Result<Message, Rejection> {
    let malformed = |error: &serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => Rejection::Malformed(Malformed::Field("body")),
        _ => Rejection::Malformed(Malformed::NotJson),
    };
    if let Route::AgentApi(_) = route {
        let request = ApiRequest::read(body).map_err(|error| malformed(&error))?;
        return Ok(Message {
            endpoint: "agents_api".to_owned(),
            agent_id: request.model.as_deref().map(bounded),
            text: request.visible_text(),
            answer_tokens: request.answer_tokens(),
            has_answer: true,
            ..Message::default()
        });
    }
    let chat = match ChatBody::read(body) {
        Ok(chat) => chat,
        // A resume carries a decision of any shape; what it is about is known from the run that waits.
        Err(error) if *route == Route::Chat(ChatRoute::Resume) && error.is_data() => ChatBody::default(),
        Err(error) => return Err(malformed(&error)),
    };
    let in_path = match route {
        Route::Chat(ChatRoute::Agents { endpoint }) => endpoint.as_str(),
        _ => "",
    };
    let added = chat.added_convo.as_ref();
    Ok(Message {
        endpoint: bounded(if in_path.is_empty() { chat.endpoint.as_deref().unwrap_or_default() } else { in_path }),
        model: chat.model.as_deref().filter(|model| !model.is_empty()).map(bounded),
        added_model: added.map(|added| added.model.as_deref().map(bounded).unwrap_or_default()),
        added_agent_id: added.filter(|added| added.model.is_none()).and_then(|added| added.agent_id.as_deref()).map(bounded),
        agent_id: chat.agent_id.as_deref().or(chat.assistant_id.as_deref()).map(bounded),
        conversation_id: chat.conversation_id().map(str::to_owned),
        text: chat.visible_text(),
        said: chat.said().map(str::to_owned),
        goes_on: *route == Route::Chat(ChatRoute::Resume),
        names_model: true,
        answer_tokens: chat.answer_tokens(),
        has_answer: *route != Route::Steer,
        time_zone: chat.timezone.as_deref().map(bounded),
    })
}

/// A saved agent's start names no model: the last one seen for it is the best guess. What is said to a running answer
/// goes to the model of that answer.
async fn recall_models(app: &App, org: &Org, identity: &Identity, mut message: Message) -> Message {
    let recall = app.generations.recall();
    if let Some(agent_id) = message.added_agent_id.take() {
        message.added_model = Some(recall.model_of(&org.id, &agent_id).await.unwrap_or_default());
    }
    if message.model.is_none() {
        message.names_model = false;
        message.model = match (&message.agent_id, &message.conversation_id) {
            (Some(agent_id), _) => recall.model_of(&org.id, agent_id).await,
            (None, Some(conversation_id)) => {
                let running = app.generations.find(&identity.user, conversation_id, None);
                running.and_then(|running| running.start().model.clone())
            }
            (None, None) => None,
        };
    }
    message
}

async fn estimate(app: &App, org: &Org, identity: &Identity, message: &Message) -> Result<Estimate, Rejection> {
    let model = message.model.as_deref().unwrap_or_default();
    let visible = app.counter.count_off_loop(Encoding::for_model(model).0, message.text.clone()).await;
    let context = match &message.conversation_id {
        Some(conversation_id) if message.has_answer => app.generations.recall().context_of(&org.id, &identity.user, conversation_id).await,
        _ => 0,
    };
    let settings = &app.config.estimate;
    let room = if message.has_answer { message.answer_tokens.unwrap_or(settings.answer_tokens).min(MOST_ROOM) } else { 0 };
    let input = visible.saturating_add(context);
    let mut amounts = Amounts { messages: 1, ..Amounts::default() };
    let models = std::iter::once(model).chain(message.added_model.as_deref());
    let mut count = 0;
    for model in models {
        count += 1;
        amounts.tokens_fixed = amounts.tokens_fixed.saturating_add(input);
        amounts.tokens_per_room += u64::from(message.has_answer);
        let price = match (app.prices.price(model, app.clock.now()), app.config.prices.unknown_model) {
            (Found::Known(price), _) => price,
            (Found::Unknown, UnknownModel::Free) => continue,
            // What names no model cannot name an unknown one.
            (Found::Unknown, UnknownModel::Reject) if message.names_model && !model.is_empty() => {
                return Err(Rejection::UnknownModel { model: model.to_owned() });
            }
            (Found::Unknown, _) => app.prices.default_price(),
        };
        amounts.cost_fixed = amounts.cost_fixed.saturating_add(price.cost(Usage { input, ..Usage::default() }));
        if message.has_answer {
            amounts.cost_per_room = amounts.cost_per_room.saturating_add(price.output_nanos_per_token_ceil());
        }
    }
    Ok(Estimate { input, context, room, least_room: room.min(settings.least_answer_tokens), models: count, amounts })
}

/// Decides over every limit at once, and holds what fits.
async fn reserve(
    app: &App,
    session: &Session,
    ctx: &mut Ctx,
    identity: &Identity,
    org: &Arc<Org>,
    message: Message,
    estimate: &Estimate,
) -> Result<Start, Rejection> {
    let now = app.clock.now();
    let who = Who::of(identity).ok_or(Rejection::NoOrg)?;
    let charges = app.rules.charges(&who, &estimate.amounts, now);
    let mut start = start_of(session, ctx, identity, org, message, estimate, &charges, now);
    if charges.is_empty() && !app.store_is_shared {
        app.metrics.decision(metrics::Outcome::Admitted, None);
        return Ok(start);
    }
    // Only other replicas ever read it.
    let record = if app.store_is_shared { serde_json::to_string(&start).map_err(|_| Rejection::Internal)? } else { String::new() };
    let reserve = Reserve {
        id: start.id,
        org: &org.id,
        charges: &charges,
        room: estimate.room,
        least_room: estimate.least_room,
        owner: &app.replica,
        lease: app.lease,
        now,
        record: &record,
    };
    match app.store.reserve(&reserve).await {
        Ok(Decision::Admitted { room, shadowed }) => {
            start.room = room;
            app.metrics.decision(metrics::Outcome::Admitted, None);
            for refusal in &shadowed {
                app.metrics.decision(metrics::Outcome::ShadowRefused, Some(&refusal.bucket));
            }
            if let Some(first) = shadowed.first() {
                ctx.refused =
                    Some(Refused { kind: "shadow", reference: crate::error::reference(&ctx.id), detail: Some(told(first, estimate)) });
            }
            Ok(start)
        }
        Ok(Decision::Refused(refusal)) => {
            app.metrics.decision(metrics::Outcome::Refused, Some(&refusal.bucket));
            let mut detail = told(&refusal, estimate);
            detail["limits"] = json!(app.levels_of(&charges).await);
            ctx.refused = Some(Refused { kind: "limit", reference: String::new(), detail: Some(detail) });
            Err(Rejection::Limit(refusal))
        }
        Err(error) => without_store(app, start, &charges, &error),
    }
}

/// The store is away: each enforced limit says itself what then.
fn without_store(app: &App, start: Start, charges: &[Charge], error: &StoreError) -> Result<Start, Rejection> {
    app.metrics.decision(metrics::Outcome::Degraded, None);
    let closed = charges.iter().filter_map(|charge| charge.enforce.as_ref()).any(|bar| bar.on_failure == OnFailure::Closed);
    if closed {
        tracing::debug!(error = %error, "a chat was refused because the store is away");
        return Err(Rejection::StoreClosed);
    }
    Ok(start)
}

#[expect(clippy::too_many_arguments, reason = "it only gathers what is known in one record")]
fn start_of(
    session: &Session,
    ctx: &Ctx,
    identity: &Identity,
    org: &Org,
    message: Message,
    estimate: &Estimate,
    charges: &[Charge],
    now: jiff::Timestamp,
) -> Start {
    Start {
        id: ctx.id,
        org: org.id.clone(),
        member: identity.user.clone(),
        member_name: identity.name.clone(),
        role: identity.role.clone(),
        admitted_at: now,
        org_day: org.day(now),
        org_month: org.month(now),
        request_id: ctx.request_id.clone(),
        address: ctx.address_text(),
        user_agent: super::settle::user_agent(session).unwrap_or_default(),
        endpoint: message.endpoint,
        model: message.model,
        added_model: message.added_model,
        agent_id: message.agent_id,
        conversation_id: message.conversation_id,
        created_at: None,
        said: message.said.map(|said| crate::generations::start::digest(ctx.id, &said)),
        goes_on: message.goes_on,
        input_estimate: estimate.input,
        room: estimate.room,
        models: estimate.models,
        buckets: charges.iter().map(|charge| charge.bucket.clone()).collect::<Vec<Bucket>>(),
    }
}

/// The decision as it is kept for `tollgate explain`.
fn told(refusal: &Refusal, estimate: &Estimate) -> serde_json::Value {
    json!({
        "refused_by": {
            "scope": refusal.bucket.scope.as_str(),
            "resource": refusal.bucket.resource.as_str(),
            "window": refusal.bucket.period.window.as_str(),
            "period": refusal.bucket.period.key(),
            "limit": refusal.bar.limit,
            "used": refusal.used,
            "held": refusal.held,
            "needs": refusal.needs,
            "resets_at": refusal.resets_at().to_string(),
            "rule": &*refusal.bar.why,
        },
        "estimate": {
            "visible_tokens": estimate.input.saturating_sub(estimate.context),
            "context_tokens": estimate.context,
            "input_tokens": estimate.input,
            "room_for_answer": estimate.room,
            "least_room": estimate.least_room,
            "models": estimate.models,
        },
    })
}
