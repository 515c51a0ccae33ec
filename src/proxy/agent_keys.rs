//! Keys that LibreChat makes for people (`sk-...`, for `/api/agents/v1`): whose one is that was made through here is
//! remembered, and what it asks for is its owner's.

use std::sync::Arc;

use pingora_proxy::Session;

use super::admit::{NoIdentity, refuse_token};
use super::ctx::Ctx;
use crate::app::App;
use crate::config::AgentApi;
use crate::error::{Forbidden, Malformed, Rejection};
use crate::identity::keys::{AgentKey, agent_key_hash};
use crate::identity::{DEFAULT_ROLE, Identity, KeyName, KeyStanding, Member, Org, Suspended, bearer, is_user_id};
use crate::librechat::agent_keys::NewAgentKey;
use crate::librechat::routes::Route;

/// How many keys are remembered of one person: LibreChat makes any number.
const MOST_OF_ONE: usize = 1_000;

/// A caller with one of LibreChat's own API keys. LibreChat vouches for the key before anything is counted to anyone.
pub async fn identity(app: &App, session: &Session, ctx: &Ctx) -> Result<Identity, Rejection> {
    let key = bearer(session.req_header().headers.get_all("authorization"));
    let owner = key.as_ref().ok().copied().flatten().and_then(|key| owner(app, key));
    if owner.is_none() && app.config.librechat.agent_api == AgentApi::Refuse {
        return Err(Rejection::Forbidden(Forbidden::AgentApiOff));
    }
    let key = key
        .map_err(|_| Rejection::Malformed(Malformed::Header("Authorization")))?
        .ok_or_else(|| refuse_token(app, session, ctx, NoIdentity::Missing))?;
    let (name, caller) = (KeyName::of(key), owner.map_or_else(|| unknown(app, key), |owner| owners(app, &owner)));
    let tenant = caller.org.as_ref().and_then(|org| org.access.tenant.as_ref());
    match app.agent_keys.standing(key, &name, ctx.address_text(), tenant).await {
        KeyStanding::Good => Ok(caller),
        KeyStanding::Unknown => Err(refuse_token(app, session, ctx, NoIdentity::UnknownKey)),
        KeyStanding::Forbidden => Err(Rejection::Forbidden(Forbidden::Route)),
        KeyStanding::Away => Err(Rejection::UpstreamAway),
    }
}

/// The member whose a key is, where it was made through here.
fn owner(app: &App, key: &str) -> Option<Arc<Member>> {
    app.directory.by_librechat_id(&app.directory.agent_key_owner(&agent_key_hash(key))?)
}

fn owners(app: &App, member: &Member) -> Identity {
    let org = app.verifier.org_of(member);
    Identity {
        session: None,
        name: member.name.clone(),
        role: member.role.clone(),
        email: member.email.clone(),
        ..caller(org, member.librechat_id.clone().unwrap_or_default(), Some(member))
    }
}

/// A key whose owner nobody knows here counts to the default org.
fn unknown(app: &App, key: &str) -> Identity {
    let org = app.config.librechat.default_org.as_deref().and_then(|id| app.directory.by_id(id));
    caller(org, KeyName::of(key).text(), None)
}

fn caller(org: Option<Arc<Org>>, user: Arc<str>, member: Option<&Member>) -> Identity {
    Identity {
        session: None,
        plan: org.as_ref().and_then(|org| org.plan.clone()),
        suspended: Suspended::of(org.as_deref(), member),
        org,
        user,
        name: None,
        role: DEFAULT_ROLE.into(),
        org_tokens_per_month: None,
        email: None,
    }
}

/// LibreChat shows somebody the key that it made for them: the last moment at which anyone sees whose it is.
pub fn made(app: &App, ctx: &Ctx, key: &NewAgentKey) {
    let Some(identity) = ctx.identity.as_ref().filter(|identity| is_user_id(&identity.user)) else { return };
    if app.directory.agent_keys_of(&identity.user) >= MOST_OF_ONE {
        tracing::warn!(user.id = &*identity.user, "somebody has made so many keys in LibreChat that this one is not remembered as theirs");
        return;
    }
    let hash = agent_key_hash(&key.key).into();
    let key = AgentKey { hash, id: key.id.to_ascii_lowercase().into(), owner: identity.user.clone(), forgotten: false };
    app.directory.learn_agent_key(key.clone());
    app.key_notes.learnt(key);
}

/// LibreChat has answered: it may have deleted a key, which it does for its owner only.
pub fn answered(app: &App, ctx: &Ctx, status: u16) {
    let (Route::AgentKeyDeletion { key_id }, Some(identity), 200..=299) = (&ctx.route, &ctx.identity, status) else { return };
    app.directory.forget_agent_key(&identity.user, key_id);
    app.key_notes.forgotten(identity.user.clone(), key_id.as_str().into());
}
