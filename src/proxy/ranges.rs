//! Where the people of an org, one of them or a key may come from. From elsewhere nothing of the org is read or changed; only what the page needs
//! to draw itself, and to say so, passes.

use pingora_proxy::Session;

use super::counted;
use super::ctx::Ctx;
use crate::app::App;
use crate::error::Rejection;
use crate::identity::addresses::{Closing, Networks};
use crate::librechat::routes::{self, Route};
use crate::telemetry::metrics;

/// Refuses a person who comes from an address that their org, role, account or key does not allow.
pub fn check(app: &App, session: &Session, ctx: &mut Ctx) -> Result<(), Rejection> {
    let Some(closing) = closing(app, ctx) else { return Ok(()) };
    // A program has no page to draw.
    if ctx.key.is_none() && passes(&ctx.route, session.req_header().uri.path()) {
        return Ok(());
    }
    if ctx.route.spends() {
        app.metrics.decision(metrics::Outcome::Policy, None);
    }
    Err(counted::refuse(app, session, ctx, "auth.address_refused", Rejection::Elsewhere(closing)))
}

/// Whose list the address is not in. All that apply must hold it: the org's and the role's, the account's, the key's.
fn closing(app: &App, ctx: &Ctx) -> Option<Closing> {
    let identity = ctx.identity.as_ref()?;
    let is_outside = |networks: &Option<Networks>| networks.as_ref().is_some_and(|networks| !networks.hold(ctx.address));
    if !identity.may_come_from(ctx.address) {
        Some(Closing::Org)
    } else if app.directory.by_librechat_id(&identity.user).is_some_and(|member| is_outside(&member.addresses)) {
        Some(Closing::Account)
    } else {
        ctx.key.as_ref().filter(|key| is_outside(&key.addresses)).map(|_| Closing::Key)
    }
}

/// What the page cannot do without: LibreChat's client takes refusals of these for a lost sign-in, or shows nothing at all.
/// Whoever is known by a token on a shared conversation reads it as a person of their org.
fn passes(route: &Route, path: &str) -> bool {
    let is = |known: &str| path.trim_end_matches('/').eq_ignore_ascii_case(known);
    match route {
        Route::Page | Route::Catalogue | Route::Login(_) | Route::Logout | Route::Refresh | Route::Register | Route::Config => true,
        Route::PublicApi => !routes::is_share(path),
        Route::Api => is("/api/user"),
        _ => false,
    }
}
