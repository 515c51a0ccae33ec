//! Which pages may show LibreChat's in a frame.
//!
//! Where an org says so, every document carries the rule of the org that it is for. Whose a page is can be told by its
//! person, or by the host name; where neither is known, the pages of every org that has no host of its own may frame it, and
//! what is asked for within it carries its person's token. Where no org says anything, LibreChat's answers stay as they are.

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_FRAME_OPTIONS};
use pingora_core::Result;
use pingora_http::ResponseHeader;

use super::ctx::Ctx;
use crate::app::App;
use crate::librechat::routes::Route;

const DIRECTIVE: &str = "frame-ancestors";

/// Says who may frame an answer of LibreChat, where it is a document.
pub fn answer(app: &App, ctx: &Ctx, head: &mut ResponseHeader) -> Result<()> {
    let entrances = app.directory.entrances();
    let Some(framing) = entrances.framing(ctx.org().map(|org| &**org)) else { return Ok(()) };
    if !is_document(ctx, head) {
        return Ok(());
    }
    if framing.is_open() {
        // What LibreChat says itself would be in the way: of several policies each must allow it. Where nobody else may frame
        // the page, its own word stays, since it may be the stricter one.
        take_away(head)?;
    }
    head.append_header(CONTENT_SECURITY_POLICY, framing.policy().clone())?;
    Ok(())
}

/// A page; what has no type may be one that the browser knows already (304).
fn is_document(ctx: &Ctx, head: &ResponseHeader) -> bool {
    let Some(kind) = head.headers.get(CONTENT_TYPE) else { return ctx.route == Route::Page };
    let begins = |known: &[u8]| kind.as_bytes().get(..known.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(known));
    begins(b"text/html") || begins(b"application/xhtml+xml")
}

/// Takes away what LibreChat says about frames, and leaves the rest of its policies.
fn take_away(head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&X_FRAME_OPTIONS);
    let policies: Vec<HeaderValue> = head.headers.get_all(CONTENT_SECURITY_POLICY).iter().cloned().collect();
    if policies.is_empty() {
        return Ok(());
    }
    head.remove_header(&CONTENT_SECURITY_POLICY);
    for policy in policies {
        let Ok(text) = policy.to_str() else {
            head.append_header(CONTENT_SECURITY_POLICY, policy)?;
            continue;
        };
        let left = without_frame_ancestors(text);
        if !left.is_empty() {
            head.append_header(CONTENT_SECURITY_POLICY, left)?;
        }
    }
    Ok(())
}

/// Policies, as a header holds them, without this one directive.
fn without_frame_ancestors(policies: &str) -> String {
    let is_about_frames =
        |directive: &str| directive.split_ascii_whitespace().next().is_some_and(|name| name.eq_ignore_ascii_case(DIRECTIVE));
    let left = policies.split(',').map(|policy| {
        let directives = policy.split(';').map(str::trim).filter(|directive| !directive.is_empty() && !is_about_frames(directive));
        directives.collect::<Vec<_>>().join("; ")
    });
    left.filter(|policy| !policy.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_about_frames_is_taken_away() {
        for (policies, left) in [
            ("frame-ancestors 'none'", ""),
            ("Frame-Ancestors", ""),
            (" ; frame-ancestors 'self';; ", ""),
            ("default-src 'self'; frame-ancestors 'none'; img-src *", "default-src 'self'; img-src *"),
            ("frame-ancestors 'none', script-src 'self'; FRAME-ANCESTORS https://a.example", "script-src 'self'"),
            ("frame-src 'none'; child-src x", "frame-src 'none'; child-src x"),
            ("report-uri /frame-ancestors; x-frame-ancestors y", "report-uri /frame-ancestors; x-frame-ancestors y"),
            ("sandbox;\tframe-ancestors\t'none'", "sandbox"),
            ("", ""),
        ] {
            assert_eq!(without_frame_ancestors(policies), left, "{policies:?}");
        }
    }
}
