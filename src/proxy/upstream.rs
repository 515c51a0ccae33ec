//! Which LibreChat a request goes to: its person's, or the one where the run is that it has to do with.

use std::borrow::Cow;
use std::sync::Arc;

use pingora_core::Error;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::forward::may_have_arrived;
use crate::app::App;
use crate::generations::whereabouts::Waiting;
use crate::librechat::chat::stopped_conversation;
use crate::librechat::routes::{Route, status_asked_of};
use crate::librechat::upstreams::Place;

/// The LibreChat that a request is sent to.
#[derive(Debug, Default)]
pub struct Destination {
    /// Which one; nothing before it is chosen.
    pub place: Option<Arc<Place>>,
    /// Whether only that one will do, since what the request has to do with runs there.
    is_pinned: bool,
    /// Those that could not be reached.
    tried: Vec<Arc<Place>>,
}

/// Chooses for a request that is forwarded, unless its message chose.
pub async fn choose(app: &App, session: &Session, ctx: &mut Ctx) {
    if ctx.destination.place.is_some() {
        return;
    }
    let upstreams = app.librechat.upstreams();
    let running = match &ctx.identity {
        Some(identity) if upstreams.are_several() => {
            let asked_about = run_asked_about(session, ctx);
            let org = identity.org.as_ref().map_or("", |org| &org.id);
            app.generations.whereabouts(org, &identity.user, asked_about.as_deref(), Waiting::IsRun).await
        }
        _ => None,
    };
    ctx.destination = destination(app, ctx, running.as_deref());
}

/// Chooses for a message: where a run of its conversation is, since LibreChat joins or replaces that. A new one goes to its
/// person's, wherever others of theirs run.
pub async fn choose_for_message(app: &App, ctx: &mut Ctx, conversation_id: Option<&str>, waiting: Waiting) {
    let running = match (&ctx.identity, conversation_id) {
        (Some(identity), Some(conversation_id)) if app.librechat.upstreams().are_several() => {
            let org = identity.org.as_ref().map_or("", |org| &org.id);
            app.generations.whereabouts(org, &identity.user, Some(conversation_id), waiting).await
        }
        _ => None,
    };
    ctx.destination = destination(app, ctx, running.as_deref());
}

fn destination(app: &App, ctx: &Ctx, running: Option<&str>) -> Destination {
    let upstreams = app.librechat.upstreams();
    // What ran at one that is dead ended with it, or is known to the others.
    let pinned = running.and_then(|name| upstreams.named(name)).filter(|place| place.is_alive());
    let place = pinned.or_else(|| upstreams.of(&person(ctx))).cloned();
    Destination { place, is_pinned: pinned.is_some(), tried: Vec::new() }
}

/// Whether a request that never reached its LibreChat may go to another one, and which.
pub fn choose_another(app: &App, ctx: &mut Ctx, error: &Error) -> bool {
    let destination = &ctx.destination;
    if destination.is_pinned || may_have_arrived(error) || !app.librechat.upstreams().are_several() {
        return false;
    }
    let tried: Vec<_> = destination.tried.iter().chain(&destination.place).cloned().collect();
    let next = app.librechat.upstreams().besides(&tried, &person(ctx)).cloned();
    let Some(next) = next else { return false };
    tracing::debug!(upstream = &**next.name(), error = %error, "a LibreChat could not be reached; another is tried");
    if let Some(generation) = &ctx.generation {
        generation.goes_to(next.name().clone());
    }
    ctx.destination = Destination { place: Some(next), is_pinned: false, tried };
    true
}

/// What a person is known by: who they proved to be, else the address that they come from.
fn person(ctx: &Ctx) -> Cow<'_, str> {
    match &ctx.identity {
        Some(identity) if !identity.user.is_empty() => Cow::Borrowed(&identity.user),
        _ => Cow::Owned(ctx.address_text()),
    }
}

/// The conversation whose run a request is about, where it says so.
fn run_asked_about(session: &Session, ctx: &Ctx) -> Option<String> {
    match &ctx.route {
        Route::Stream { conversation_id } => Some(conversation_id.clone()),
        Route::Abort => stopped_conversation(ctx.body.as_ref()?),
        Route::Api => status_asked_of(session.req_header().uri.path()),
        _ => None,
    }
}
