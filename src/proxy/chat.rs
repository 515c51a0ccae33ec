//! How a message is admitted: read, estimate, reserve. The one decision is made over every limit that applies, before
//! anything is forwarded.

use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use pingora_proxy::Session;
use serde_json::json;

use super::body;
use super::ctx::{Ctx, Origin, Refused, Traced};
use super::upstream;
use crate::app::App;
use crate::error::{Malformed, Rejection};
use crate::generations::Start;
use crate::generations::trace::{self, Trace};
use crate::generations::whereabouts::Waiting;
use crate::identity::{Identity, Org};
use crate::librechat::chat::{AddedConversation, Answered, ChatBody, bounded, only_stops, without_lone_surrogates};
use crate::librechat::openai::ApiRequest;
use crate::librechat::routes::{ChatRoute, Route};
use crate::limits::rules::{Amounts, Who};
use crate::limits::{Bucket, Charge, Decision, OnFailure, Refusal, Reserve, StoreError};
use crate::prices::{Found, UnknownModel, Usage};
use crate::telemetry::metrics;
use crate::tokens::{Encoding, Fit};

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
    /// Room for the answer that it names itself, where LibreChat keeps to that.
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
    /// What the text was counted with, and whether that is the model's own.
    encoding: (Encoding, Fit),
}

/// Admits a message and opens its generation.
pub async fn admit(app: &App, session: &mut Session, ctx: &mut Ctx) -> Result<(), Rejection> {
    if app.draining.is_set() {
        return Err(Rejection::Draining);
    }
    // Whoever spends was authenticated, and belongs to an org.
    let identity = ctx.identity.clone().ok_or(Rejection::Unauthorized)?;
    let org = identity.org.clone().ok_or(Rejection::NoOrg)?;
    let body = tokio::select! {
        biased;
        body = body_of(app, session, ctx) => body?,
        // The stop does not wait for a body that is still being sent.
        () = app.draining.until_set() => return Err(Rejection::Draining),
    };
    if app.draining.is_set() {
        return Err(Rejection::Draining);
    }
    let arrived = tokio::time::Instant::now();
    let message = read(&ctx.route, &body)?;
    ctx.body = Some(body);
    if let Some(zone) = message.time_zone.as_deref().and_then(|zone| TimeZone::get(zone).ok()) {
        ctx.zone = Some(zone);
    }
    let message = recall_models(app, &org, &identity, message).await;
    let waiting = if message.goes_on { Waiting::IsRun } else { Waiting::IsNoRun };
    upstream::choose_for_message(app, ctx, message.conversation_id.as_deref(), waiting).await;
    ctx.asks.conversation_id.clone_from(&message.conversation_id);
    ctx.asks.model.clone_from(&message.model);
    ctx.asks.captured = app.redactor.captured(org.capture, message.said.as_deref().unwrap_or(&message.text));
    let estimate = estimate(app, &org, &identity, &message).await?;
    let decided = reserve(app, session, ctx, &identity, &org, message, &estimate).await;
    let opened = match decided {
        Ok(start) => app.generations.open(start).await.map_err(|error| {
            tracing::debug!(error = %error, "a chat was refused because it cannot be written down");
            Rejection::JournalFull
        }),
        Err(rejection) => Err(rejection),
    };
    let decided_in = arrived.elapsed();
    app.metrics.admission(decided_in);
    ctx.generation = Some(opened?);
    ctx.admitted_in = Some(decided_in);
    Ok(())
}

/// Admits what asks for a stop and nothing else. Any other body is a chat start, and that is what LibreChat before 0.8.2
/// takes it for.
pub async fn admit_stop(app: &App, session: &mut Session, ctx: &mut Ctx) -> Result<(), Rejection> {
    let body = body_of(app, session, ctx).await?;
    let only_stops = only_stops(&body);
    ctx.body = Some(body);
    if only_stops {
        return Ok(());
    }
    ctx.route = Route::Chat(ChatRoute::Agents { endpoint: String::new() });
    admit(app, session, ctx).await
}

/// The whole body, read before anyone is contacted.
async fn body_of(app: &App, session: &mut Session, ctx: &Ctx) -> Result<Bytes, Rejection> {
    if let Some(body) = &ctx.body {
        return Ok(body.clone());
    }
    if !session.as_downstream_mut().is_body_empty() {
        body::expect_plain_json(session)?;
    }
    body::read(session, app.config.body.max_chat_bytes).await
}

/// Reads a body. Half characters, which JavaScript can write, are read as everyone else writes them.
fn read(route: &Route, body: &[u8]) -> Result<Message, Rejection> {
    read_exactly(route, body).or_else(|rejection| match without_lone_surrogates(body) {
        Some(body) => read_exactly(route, &body),
        None => Err(rejection),
    })
}

fn read_exactly(route: &Route, body: &[u8]) -> Result<Message, Rejection> {
    let malformed = |error: &serde_json::Error| match error.classify() {
        serde_json::error::Category::Data if body.trim_ascii_start().starts_with(b"{") => Rejection::Malformed(Malformed::Shape),
        _ => Rejection::Malformed(Malformed::NotJson),
    };
    if let Route::AgentApi(_) = route {
        let request = ApiRequest::read(body).map_err(|error| malformed(&error))?;
        return Ok(Message {
            endpoint: "agents_api".to_owned(),
            agent_id: request.model.as_deref().map(bounded),
            text: request.visible_text(),
            has_answer: true,
            ..Message::default()
        });
    }
    let chat = match ChatBody::read(body) {
        Ok(chat) => chat,
        // What a person answered to a waiting run has any shape.
        Err(error) if *route == Route::Chat(ChatRoute::Resume) && error.is_data() => {
            let Answered { text, model, conversation_id } = Answered::read(body).map_err(|error| malformed(&error))?;
            return Ok(Message { text, model, conversation_id, goes_on: true, names_model: true, has_answer: true, ..Message::default() });
        }
        Err(error) => return Err(malformed(&error)),
    };
    if let Some(field) = chat.impossible_field() {
        return Err(Rejection::Malformed(Malformed::Field(field)));
    }
    let in_path = match route {
        Route::Chat(ChatRoute::Agents { endpoint }) => endpoint.as_str(),
        _ => "",
    };
    // A saved agent answers with the model and the settings it was saved with, a run that goes on with those it began with.
    // An assistant takes the model of the body, but no other settings.
    let (agent_id, takes_model, takes_settings) = match route {
        Route::Chat(ChatRoute::Agents { .. }) => {
            let agent_id = chat.saved_agent(in_path);
            (agent_id, agent_id.is_none(), agent_id.is_none())
        }
        Route::Chat(ChatRoute::Assistants) => (chat.assistant_id.as_deref(), true, false),
        _ => (None, false, false),
    };
    let added = chat.added_convo.as_ref();
    Ok(Message {
        // LibreChat goes by the body.
        endpoint: bounded(chat.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()).unwrap_or(in_path)),
        model: chat.model.as_deref().filter(|model| takes_model && !model.is_empty()).map(bounded),
        added_model: added.map(|added| added.model().map(bounded).unwrap_or_default()),
        added_agent_id: added.and_then(AddedConversation::saved_agent).map(bounded),
        agent_id: agent_id.map(bounded),
        conversation_id: chat.conversation_id().map(str::to_owned),
        text: chat.visible_text(),
        said: chat.said().map(str::to_owned),
        goes_on: *route == Route::Chat(ChatRoute::Resume),
        names_model: true,
        answer_tokens: chat.answer_tokens().filter(|_| takes_settings),
        // Before 0.8.8 LibreChat takes a steer's path for a chat start.
        has_answer: *route != Route::Steer || chat.is_a_start(),
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
    let encoding = Encoding::for_model(model);
    let visible = app.counter.count_off_loop(encoding.0, message.text.clone()).await;
    let context = match &message.conversation_id {
        Some(conversation_id) if message.has_answer => app.generations.recall().context_of(&org.id, &identity.user, conversation_id).await,
        _ => 0,
    };
    let settings = &app.config.estimate;
    let room = if message.has_answer { room(message, settings) } else { 0 };
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
            (Found::Unknown, UnknownModel::Reject) if message.names_model && !model.is_empty() && app.directory.is_observed(&org.id) => {
                app.metrics.decision(metrics::Outcome::ShadowRefused, None);
                app.prices.default_price()
            }
            (Found::Unknown, UnknownModel::Reject) if message.names_model && !model.is_empty() => {
                app.metrics.unpriced_message();
                app.metrics.decision(metrics::Outcome::Policy, None);
                return Err(Rejection::UnknownModel { model: model.to_owned() });
            }
            (Found::Unknown, _) => app.prices.default_price(),
        };
        amounts.cost_fixed = amounts.cost_fixed.saturating_add(price.cost(Usage { input, ..Usage::default() }));
        if message.has_answer {
            amounts.cost_per_room = amounts.cost_per_room.saturating_add(price.output_nanos_per_token_ceil());
        }
    }
    Ok(Estimate { input, context, room, least_room: room.min(settings.least_answer_tokens), models: count, amounts, encoding })
}

/// The room for each model's answer. What the message names is a bound of one model call, of which a run may make many, so
/// it never lowers the room below the least; and it is the first model's, so a second one has at least the usual room.
fn room(message: &Message, settings: &crate::config::Estimate) -> u64 {
    let least = if message.added_model.is_some() { settings.answer_tokens } else { settings.least_answer_tokens };
    message.answer_tokens.map_or(settings.answer_tokens, |named| named.max(least)).min(MOST_ROOM)
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
    app.caps.carried_by_token(&who);
    let charges = app.charges(&who, &estimate.amounts, now);
    let mut start = start_of(session, ctx, identity, org, message, estimate, &charges, now);
    start.trace = begin_trace(app, ctx);
    if charges.is_empty() && !app.store_is_shared {
        app.metrics.decision(metrics::Outcome::Admitted, None);
        return Ok(start);
    }
    // Only other replicas ever read it.
    let record = if app.store_is_shared { start.to_json() } else { String::new() };
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

/// The trace of a message, where it is traced; LibreChat hears of it either way.
fn begin_trace(app: &App, ctx: &mut Ctx) -> Option<Trace> {
    let percent = app.traces.as_ref()?.sample_percent();
    let incoming = match ctx.traced {
        Traced::Trusted(incoming) => incoming,
        _ => None,
    };
    let (trace, said) = trace::begin(ctx.id, incoming, percent);
    ctx.traced = Traced::Here(said, if incoming.is_some() { Origin::Before } else { Origin::Here });
    trace
}

/// The store is away: each enforced limit says itself what then.
fn without_store(app: &App, start: Start, charges: &[Charge], error: &StoreError) -> Result<Start, Rejection> {
    let closed = charges.iter().filter_map(|charge| charge.enforce.as_ref()).any(|bar| bar.on_failure == OnFailure::Closed);
    app.metrics.decision(if closed { metrics::Outcome::DegradedRefused } else { metrics::Outcome::DegradedAdmitted }, None);
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
        session: identity.session,
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
        trace: None,
        upstream: ctx.destination.place.as_ref().map(|place| place.name().clone()),
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
            "encoding": estimate.encoding.0.as_str(),
            "encoding_fit": estimate.encoding.1.as_str(),
            "visible_tokens": estimate.input.saturating_sub(estimate.context),
            "context_tokens": estimate.context,
            "input_tokens": estimate.input,
            "room_for_answer": estimate.room,
            "least_room": estimate.least_room,
            "models": estimate.models,
        },
    })
}
