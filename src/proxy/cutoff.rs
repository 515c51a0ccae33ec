//! Streams of people who lost the right to them while they ran: they end with a sentence.

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::reject;
use super::relay::Reading;
use crate::app::App;
use crate::error::{Forbidden, Rejection};
use crate::identity::Identity;

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does, as far as was known after so many losses.
    After(u64),
    /// Its sentence was said; nothing follows.
    Ended,
}

/// Looks at a chunk of an answer after it was read, and puts the sentence in its place where its person may no longer
/// have it. Costs one look at a number while nobody loses anything.
///
/// The owner of the generation has LibreChat stop it, whose stream then ends by itself. One that is its own POST's answer
/// ends when its connection does.
pub fn apply(app: &App, session: &Session, chunk: &mut Option<Bytes>, ctx: &mut Ctx) -> Result<()> {
    let is_direct = match &ctx.reading {
        Reading::Nothing | Reading::Start(_) | Reading::Login(_) | Reading::Config(_) | Reading::NewKey(_) => return Ok(()),
        Reading::Direct(..) | Reading::Api(_) => true,
        Reading::Stream(_) => false,
    };
    let losses = app.directory.losses();
    match ctx.standing {
        Standing::After(known) if known == losses => return Ok(()),
        Standing::After(_) => ctx.standing = Standing::After(losses),
        Standing::Ended if is_direct => return Error::e_explain(ErrorType::ConnectionClosed, "its person was stopped"),
        Standing::Ended => {
            *chunk = None;
            return Ok(());
        }
    }
    let lost = ctx.identity.as_ref().and_then(|identity| lost(app, identity, ctx.role_is_tokens));
    if let (Some(lost), true) = (&lost, chunk.is_some()) {
        ctx.standing = Standing::Ended;
        *chunk = Some(reject::event(app, session, ctx, lost));
    } else if lost.is_some() {
        ctx.standing = Standing::After(losses.wrapping_sub(1));
    }
    Ok(())
}

/// Why a person may no longer have a stream, if so.
fn lost(app: &App, identity: &Identity, role_is_tokens: bool) -> Option<Rejection> {
    if identity.session.is_some_and(|session| app.directory.is_revoked(session)) {
        return Some(Rejection::SessionEnded);
    }
    let org = identity.org.as_ref()?;
    if let Some(suspended) = app.directory.suspended(&org.id, &identity.user) {
        return Some(Rejection::Suspended(suspended));
    }
    let member = app.directory.by_librechat_id(&identity.user).filter(|member| !member.org.is_empty())?;
    if member.org != org.id {
        return Some(Rejection::ForeignOrg);
    }
    (member.is_viewer() && !role_is_tokens && !identity.is_viewer()).then_some(Rejection::Forbidden(Forbidden::Viewer))
}
