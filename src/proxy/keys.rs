//! Programs that come with an API key of a member: whose they are, and what the key may. To LibreChat they are that member.

use std::sync::Arc;

use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{counted, settle, sign_in};
use crate::app::App;
use crate::error::{Forbidden, KeyRefused, Rejection};
use crate::identity::keys::{ApiKey, KeyScope, KeySecret, PREFIX};
use crate::identity::{Identity, Member, Org, Suspended, bearer};
use crate::librechat::reach::Reach;
use crate::librechat::routes::Route;
use crate::records::{AuditRow, Category, Outcome, Severity};

/// The action of rows about keys that are refused.
const REFUSED: &str = "auth.key_refused";

/// Why a key proves nobody. Words are for audit rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worthless {
    /// There are no keys here.
    Off,
    /// It is nobody's.
    Unknown,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// Its member is of another org now, or of none.
    Moved,
    /// Nobody can say whose it is.
    Away,
}

impl Worthless {
    fn reason(self) -> &'static str {
        match self {
            Self::Off => "keys_off",
            Self::Unknown => "unknown_key",
            Self::Revoked => "key_revoked",
            Self::Expired => "key_expired",
            Self::Moved => "key_moved",
            Self::Away => "identity_away",
        }
    }
}

/// What a request shows as an API key, good or not.
pub fn shown(session: &Session) -> Option<String> {
    let token = bearer(session.req_header().headers.get_all("authorization")).ok()??;
    token.starts_with(PREFIX).then(|| token.to_owned())
}

/// Finds out whose request it is by its key, and whether the key may do what is asked.
pub async fn authenticate(app: &App, session: &Session, ctx: &mut Ctx, shown: &str) -> Result<(), Rejection> {
    let key = match find(app, shown).await {
        Ok(key) => key,
        Err(why) => return Err(refuse(app, session, ctx, None, why)),
    };
    let (member, org) = match judge(app, &key) {
        Ok(whose) => whose,
        Err(why) => return Err(refuse(app, session, ctx, Some(&key), why)),
    };
    let Some(librechat_id) = member.librechat_id.clone() else { return Err(Rejection::Forbidden(Forbidden::NoAccount)) };
    let identity = identity(&member, org, librechat_id.clone());
    ctx.identity = Some(identity.clone());
    ctx.key = Some(key.clone());
    if let Err(refused) = may(session, ctx, &key, &identity) {
        return Err(counted::refuse(app, session, ctx, REFUSED, Rejection::Key(refused)));
    }
    if ctx.route != Route::Own {
        let known = app.accounts.known(&librechat_id).await.map_err(|error| sign_in::rejection(error.into()))?;
        let user = known.ok_or(Rejection::Forbidden(Forbidden::NoAccount))?;
        ctx.swapped_token = Some(app.minter.mint_swapped(&user, &identity, key.expires, app.clock.now()));
    }
    app.key_notes.used(key.id);
    Ok(())
}

/// The key, as it is kept. One that is not known here may have been made elsewhere a moment ago.
async fn find(app: &App, shown: &str) -> Result<Arc<ApiKey>, Worthless> {
    if !app.config.api_keys.enabled {
        return Err(Worthless::Off);
    }
    let hash = KeySecret::shown(shown).ok_or(Worthless::Unknown)?.hash();
    if let Some(key) = app.directory.api_key(&hash) {
        return Ok(key);
    }
    if !app.key_news.heard(|| app.refresh_directory()).await {
        return Err(Worthless::Away);
    }
    app.directory.api_key(&hash).ok_or(Worthless::Unknown)
}

/// Whose a key is, where it is still good.
fn judge(app: &App, key: &ApiKey) -> Result<(Arc<Member>, Arc<Org>), Worthless> {
    if key.revoked.is_some() {
        return Err(Worthless::Revoked);
    }
    if key.expires <= app.clock.now() {
        return Err(Worthless::Expired);
    }
    let member = app.directory.member(key.member).filter(|member| member.org == key.org);
    member.zip(app.directory.by_id(&key.org)).ok_or(Worthless::Moved)
}

fn identity(member: &Member, org: Arc<Org>, librechat_id: Arc<str>) -> Identity {
    Identity {
        session: None,
        plan: org.plan.clone(),
        suspended: Suspended::of(Some(&org), Some(member)),
        org: Some(org),
        user: librechat_id,
        name: member.name.clone(),
        role: member.role.clone(),
        org_tokens_per_month: None,
        email: member.email.clone(),
    }
}

/// Whether a key may do what is asked.
fn may(session: &Session, ctx: &Ctx, key: &ApiKey, identity: &Identity) -> Result<(), KeyRefused> {
    let head = session.req_header();
    let path = head.uri.path();
    if ctx.route == Route::Own {
        let reads_own = path.trim_end_matches('/').eq_ignore_ascii_case("/_tollgate/me");
        return if reads_own { needs(key.scopes.hold(KeyScope::Usage), KeyScope::Usage) } else { Err(KeyRefused::Never) };
    }
    // Whoever became a viewer since it was made does not chat any more.
    let chats = key.scopes.hold(KeyScope::Chat) && !identity.is_viewer();
    match Reach::of(&ctx.route, head.method.as_str(), path) {
        Reach::Chat => needs(chats, KeyScope::Chat),
        Reach::Read => needs(key.scopes.hold(KeyScope::Chat) || key.scopes.hold(KeyScope::Read), KeyScope::Read),
        Reach::AgentApi => Err(KeyRefused::AgentApi),
        Reach::Never => Err(KeyRefused::Never),
    }
}

fn needs(is_there: bool, scope: KeyScope) -> Result<(), KeyRefused> {
    if is_there { Ok(()) } else { Err(KeyRefused::Scope(scope)) }
}

/// Refuses a key that proves nobody: the answer says nothing, the audit row says why, and whose it was where that is known.
fn refuse(app: &App, session: &Session, ctx: &mut Ctx, key: Option<&Arc<ApiKey>>, why: Worthless) -> Rejection {
    let rejection = if why == Worthless::Away { Rejection::IdentityAway } else { Rejection::Unauthorized };
    app.metrics.token_refused(why.reason());
    let member = key.and_then(|key| app.directory.member(key.member));
    let address = ctx.address_text();
    let whom = key.map(|key| key.id.to_string()).unwrap_or_default();
    let (id, row) = app.refused_tokens.count_of(&address, why.reason(), &whom, |id| AuditRow {
        id,
        org_id: key.map(|key| key.org.clone()),
        org_day: key.and_then(|key| app.directory.day_of(&key.org, ctx.received_at)),
        actor_id: member.as_ref().and_then(|member| member.librechat_id.clone()),
        actor_name: member.as_ref().and_then(|member| member.name.clone()),
        actor_role: member.as_ref().map(|member| member.role.clone()),
        resource_type: Some(if key.is_some() { "api_key" } else { "route" }),
        resource_id: Some(key.map_or_else(|| ctx.route.class().to_owned(), |key| key.id.to_string())),
        outcome: Outcome::Failure,
        request_id: Some(ctx.request_id.clone()),
        method: Some(session.req_header().method.as_str().to_owned()),
        path: Some(settle::path(session)),
        status: Some(rejection.status()),
        error: Some(why.reason().to_owned()),
        address: Some(address.clone()),
        user_agent: settle::user_agent(session),
        ..AuditRow::plain(
            ctx.received_at,
            if why == Worthless::Away { Category::Auth } else { Category::Security },
            Severity::Warning,
            REFUSED,
        )
    });
    if let Some(row) = row {
        app.recorder.record_audit(row);
    }
    ctx.counted_by = Some(id);
    rejection
}
