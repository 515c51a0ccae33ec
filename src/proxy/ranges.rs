//! Where the people of an org may come from. From elsewhere nothing of the org is read or changed; only what the page needs
//! to draw itself, and to say so, passes.

use pingora_proxy::Session;

use super::counted;
use super::ctx::Ctx;
use crate::app::App;
use crate::error::Rejection;
use crate::librechat::routes::{self, Route};
use crate::telemetry::metrics;

/// Refuses a person who comes from an address that their org or role does not allow.
pub fn check(app: &App, session: &Session, ctx: &mut Ctx) -> Result<(), Rejection> {
    let Some(identity) = &ctx.identity else { return Ok(()) };
    if identity.may_come_from(ctx.address) || passes(&ctx.route, session.req_header().uri.path()) {
        return Ok(());
    }
    if ctx.route.spends() {
        app.metrics.decision(metrics::Outcome::Policy, None);
    }
    Err(counted::refuse(app, session, ctx, "auth.address_refused", Rejection::Elsewhere))
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
