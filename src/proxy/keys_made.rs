//! `/_tollgate/keys`: members list, make and revoke their API keys; admins list and revoke those of everyone of their org.
//! Keys themselves never come this far.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ctx::Ctx;
use super::{body, own, settle};
use crate::app::App;
use crate::error::{Answer, KeyRefused, Malformed, Rejection};
use crate::identity::addresses::Networks;
use crate::identity::directory::kept_email;
use crate::identity::directory::store::DirectoryError;
use crate::identity::keys::{ApiKey, COUNTED_AFTER_REVOKED, KeyScope, KeyScopes, KeySecret, WhoseKeys, is_name};
use crate::identity::{Identity, Member, Org, is_user_id};
use crate::librechat::routes::decode;
use crate::records::{AuditRow, Category, ReadError, Severity};

/// Where they are.
const PATH: &str = "/_tollgate/keys";

/// The largest body: a name, scopes, and a list of networks.
const MAX_BYTES: usize = 64 * 1024;

/// Roles that look after the keys of everyone of their org.
const ADMINS: [&str; 2] = ["admin", "super_admin"];

/// Whether this asks for keys.
pub fn are_asked_for(session: &Session) -> bool {
    what_follows(session.req_header().uri.path()).is_some()
}

/// What follows [`PATH`] in a path: nothing, or the id of a key.
fn what_follows(path: &str) -> Option<&str> {
    let (beginning, rest) = path.split_at_checked(PATH.len())?;
    let follows = rest.is_empty() || rest.starts_with('/');
    (beginning.eq_ignore_ascii_case(PATH) && follows).then(|| rest.trim_matches('/'))
}

/// Answers what is asked about keys.
pub async fn answer(app: &App, session: &mut Session, ctx: &mut Ctx) -> Result<Answer, Rejection> {
    if !app.config.api_keys.enabled {
        return Err(Rejection::NotFound);
    }
    let identity = ctx.identity.clone().ok_or(Rejection::Unauthorized)?;
    let org = identity.org.clone().ok_or(Rejection::NoOrg)?;
    let head = session.req_header();
    let (method, key) = (head.method.clone(), what_follows(head.uri.path()).unwrap_or_default().to_owned());
    match (method, key.as_str()) {
        (Method::GET | Method::HEAD, "") => list(app, session, &identity, &org).await,
        (Method::POST, "") => make(app, session, ctx, &identity, &org).await,
        (Method::DELETE, id) if !id.is_empty() => revoke(app, session, ctx, &identity, &org, id).await,
        (_, "") => Err(Rejection::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        _ => Err(Rejection::MethodNotAllowed { allow: "DELETE" }),
    }
}

/// The member that somebody is. Whoever is here for the first time becomes one now.
async fn member(app: &App, identity: &Identity, org: &Org) -> Result<Arc<Member>, Rejection> {
    let known = || app.directory.by_librechat_id(&identity.user).filter(|member| *member.org == *org.id);
    if let Some(member) = known() {
        return Ok(member);
    }
    if !is_user_id(&identity.user) || app.directory.by_librechat_id(&identity.user).is_some() {
        return Err(Rejection::NoOrg);
    }
    let new = Member {
        librechat_id: Some(identity.user.clone()),
        email: identity.email.as_deref().map(kept_email),
        name: identity.name.clone(),
        ..Member::seen_first(org.id.clone(), app.clock.now())
    };
    app.orgs_and_members.add_member(&new, app.clock.now()).await.map_err(|error: DirectoryError| unwritten(&error))?;
    app.refresh_directory().await;
    known().ok_or(Rejection::IdentityAway)
}

fn unwritten(error: &dyn std::fmt::Display) -> Rejection {
    tracing::warn!(error = %error, "API keys cannot be read or written");
    Rejection::IdentityAway
}

async fn list(app: &App, session: &Session, identity: &Identity, org: &Org) -> Result<Answer, Rejection> {
    let whose = match asked(session.req_header().uri.query())? {
        AskedFor::Own => match app.directory.by_librechat_id(&identity.user).filter(|member| member.org == org.id) {
            Some(member) => WhoseKeys::OfMember(org.id.clone(), member.id),
            // Whoever has not been written down yet has none.
            None => return Ok(own::json_answer(200, &json!({ "keys": [] }))),
        },
        _ if !ADMINS.contains(&&*identity.role) => return Err(Rejection::Forbidden(crate::error::Forbidden::Route)),
        AskedFor::All => WhoseKeys::OfOrg(org.id.clone()),
        AskedFor::Member(id) => {
            let theirs = app.directory.by_librechat_id(&id).filter(|member| member.org == org.id).ok_or(Rejection::NotFound)?;
            WhoseKeys::OfMember(org.id.clone(), theirs.id)
        }
    };
    let keys = app.api_keys.keys(&whose).await.map_err(|error| unwritten(&error))?;
    Ok(own::json_answer(200, &json!({ "keys": keys.iter().map(|key| shown(app, key)).collect::<Vec<_>>() })))
}

/// Whose keys a query asks for.
enum AskedFor {
    Own,
    /// Those of the member with this LibreChat id.
    Member(String),
    All,
}

fn asked(query: Option<&str>) -> Result<AskedFor, Rejection> {
    match query.unwrap_or_default().split_once('=') {
        None if query.unwrap_or_default().is_empty() => Ok(AskedFor::Own),
        Some(("all", "true")) => Ok(AskedFor::All),
        Some(("member", id)) if !id.contains('&') => Ok(AskedFor::Member(decode(id).into_owned())),
        _ => Err(Rejection::Malformed(Malformed::Target)),
    }
}

/// A key for people, without its secret.
fn shown(app: &App, key: &ApiKey) -> Value {
    let member = app.directory.member(key.member);
    json!({
        "id": key.id.to_string(),
        "name": &*key.name,
        "ending": &*key.ending,
        "member": member.as_ref().and_then(|member| member.librechat_id.as_deref()),
        "scopes": key.scopes.each().map(KeyScope::as_str).collect::<Vec<_>>(),
        "addresses": key.addresses.as_ref().map(|networks| networks.text().split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default(),
        "created_at": key.created.to_string(),
        "created_by": &*key.created_by,
        "expires_at": key.expires.to_string(),
        "expired": key.expires <= app.clock.now(),
        "last_used_at": key.last_used.map(|used| used.to_string()),
    })
}

/// What is asked of a new key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: Option<Value>,
    scopes: Option<Value>,
    expires_at: Option<Value>,
    addresses: Option<Value>,
}

/// The same, read.
struct Terms {
    name: String,
    scopes: KeyScopes,
    expires: Timestamp,
    addresses: Option<Networks>,
}

impl Wanted {
    /// Reads a body: every field must be known, and stand there once.
    fn read(body: &[u8]) -> Result<Self, Rejection> {
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Rejection::Malformed(Malformed::NotJson));
        }
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Rejection::Malformed(Malformed::Shape),
            _ => Rejection::Malformed(Malformed::NotJson),
        })
    }

    fn terms(self, longest: SignedDuration, now: Timestamp) -> Result<Terms, &'static str> {
        let Self { name, scopes, expires_at, addresses } = self;
        let name = name.as_ref().and_then(Value::as_str).filter(|name| is_name(name)).ok_or("name")?;
        let scopes = texts(scopes).and_then(|words| {
            let scopes: Option<Vec<_>> = words.iter().map(|word| KeyScope::from_word(word)).collect();
            KeyScopes::of(scopes?)
        });
        // What the database keeps of times is microseconds; a clock that is set far ahead allows nothing more.
        let latest = now.saturating_add(longest).unwrap_or(Timestamp::MAX);
        let expires = match expires_at {
            None => latest,
            Some(time) => {
                let time: Option<Timestamp> = time.as_str().and_then(|time| time.parse().ok());
                time.filter(|time| *time > now && *time <= latest).ok_or("expires_at")?
            }
        };
        let addresses = match addresses {
            None => None,
            Some(list) => {
                let list = texts(Some(list)).ok_or("addresses")?;
                let networks = || Networks::read(list.iter().map(String::as_str)).map_err(|_| "addresses");
                if list.is_empty() { None } else { Some(networks()?) }
            }
        };
        Ok(Terms { name: name.to_owned(), scopes: scopes.ok_or("scopes")?, expires, addresses })
    }
}

fn texts(list: Option<Value>) -> Option<Vec<String>> {
    let Some(Value::Array(list)) = list else { return None };
    list.into_iter().map(|item| if let Value::String(text) = item { Some(text) } else { None }).collect()
}

async fn make(app: &App, session: &mut Session, ctx: &mut Ctx, identity: &Identity, org: &Org) -> Result<Answer, Rejection> {
    if let Some(suspended) = identity.suspended {
        return Err(Rejection::Suspended(suspended));
    }
    body::expect_plain_json(session)?;
    let body = body::read(session, MAX_BYTES).await?;
    let (settings, now) = (app.config.api_keys, app.clock.now());
    let terms = Wanted::read(&body)?.terms(settings.longest(), now).map_err(|field| Rejection::Malformed(Malformed::Field(field)))?;
    if identity.is_viewer() && terms.scopes.hold(KeyScope::Chat) {
        return Err(Rejection::Key(KeyRefused::ViewerChats));
    }
    let member = member(app, identity, org).await?;
    let secret = KeySecret::make().map_err(|_| Rejection::Internal)?;
    let key = ApiKey {
        id: Uuid::now_v7(),
        org: org.id.clone(),
        member: member.id,
        name: terms.name.into(),
        ending: secret.ending().into(),
        scopes: terms.scopes,
        addresses: terms.addresses,
        created: now,
        created_by: identity.user.clone(),
        expires: terms.expires,
        last_used: None,
        revoked: None,
    };
    let counted_since = now.saturating_sub(COUNTED_AFTER_REVOKED).unwrap_or(Timestamp::MIN);
    let added = app.api_keys.add(&secret.hash(), &key, settings.per_member, counted_since).await;
    if !added.map_err(|error| unwritten(&error))? {
        return Err(Rejection::Key(KeyRefused::TooMany { most: settings.per_member }));
    }
    // It is known here before its owner knows it.
    app.refresh_directory().await;
    note(app, session, ctx, identity, &key, "api_key.created", 201);
    let mut said = shown(app, &key);
    said["key"] = secret.expose().into();
    Ok(own::json_answer(201, &said))
}

async fn revoke(app: &App, session: &Session, ctx: &mut Ctx, identity: &Identity, org: &Org, id: &str) -> Result<Answer, Rejection> {
    let id: Uuid = id.parse().map_err(|_| Rejection::NotFound)?;
    let whose = if ADMINS.contains(&&*identity.role) {
        WhoseKeys::OfOrg(org.id.clone())
    } else {
        let member = app.directory.by_librechat_id(&identity.user).filter(|member| member.org == org.id).ok_or(Rejection::NotFound)?;
        WhoseKeys::OfMember(org.id.clone(), member.id)
    };
    let revoked: Result<Option<ApiKey>, ReadError> = app.api_keys.revoke(&whose, id, app.clock.now()).await;
    let key = revoked.map_err(|error| unwritten(&error))?.ok_or(Rejection::NotFound)?;
    app.refresh_directory().await;
    note(app, session, ctx, identity, &key, "api_key.revoked", 204);
    Ok(Answer { status: 204, headers: vec![("Cache-Control", "no-store".to_owned())], body: Bytes::new() })
}

/// Writes down that a key was made or revoked; the request has no other row.
fn note(app: &App, session: &Session, ctx: &mut Ctx, identity: &Identity, key: &ApiKey, action: &'static str, status: u16) {
    let owner = app.directory.member(key.member).and_then(|member| member.librechat_id.clone());
    let detail = json!({
        "name": &*key.name, "member": owner.as_deref(), "scopes": key.scopes.text(), "expires_at": key.expires.to_string(),
        "addresses": key.addresses.as_ref().map(Networks::text),
    });
    app.recorder.record_audit(AuditRow {
        id: ctx.id,
        org_id: Some(key.org.clone()),
        org_day: app.directory.day_of(&key.org, ctx.received_at),
        actor_id: Some(identity.user.clone()),
        actor_name: identity.name.clone(),
        actor_role: Some(identity.role.clone()),
        resource_type: Some("api_key"),
        resource_id: Some(key.id.to_string()),
        request_id: Some(ctx.request_id.clone()),
        method: Some(session.req_header().method.as_str().to_owned()),
        path: Some(settle::path(session)),
        status: Some(status),
        duration_ms: u64::try_from(ctx.received.elapsed().as_millis()).ok(),
        address: Some(ctx.address_text()),
        user_agent: settle::user_agent(session),
        detail: Some(detail),
        ..AuditRow::plain(ctx.received_at, Category::Admin, Severity::Info, action)
    });
    ctx.counted_by = Some(ctx.id);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn terms(body: &str) -> Result<Terms, Rejection> {
        let longest = SignedDuration::from_hours(24 * 365);
        Wanted::read(body.as_bytes())?.terms(longest, now()).map_err(|field| Rejection::Malformed(Malformed::Field(field)))
    }

    #[test]
    fn a_key_is_asked_for_in_plain_words() {
        let whole =
            terms(r#"{"name":"CI","scopes":["usage","chat"],"expires_at":"2026-12-01T00:00:00Z","addresses":["10.0.0.0/8","::1"]}"#);
        let Ok(whole) = whole else { panic!("it is good") };
        assert_eq!(
            (whole.name.as_str(), whole.scopes.text().as_str(), whole.expires.to_string().as_str()),
            ("CI", "chat,usage", "2026-12-01T00:00:00Z")
        );
        assert_eq!(whole.addresses.map(|networks| networks.text()).as_deref(), Some("10.0.0.0/8,::1/128"));
        let Ok(short) = terms(r#"{"name":"CI","scopes":["read"],"addresses":[]}"#) else { panic!("it is good") };
        assert_eq!((short.expires.to_string().as_str(), short.addresses), ("2027-11-20T10:00:00Z", None), "as long as it may");
    }

    #[test]
    fn what_is_not_meant_is_refused() {
        use Malformed::{Field, NotJson, Shape};
        for (body, expected) in [
            ("", NotJson),
            ("[]", NotJson),
            ("{", NotJson),
            (r#"["a","b","c","d"]"#, NotJson),
            ("{}", Field("name")),
            (r#"{"name":"a"}"#, Field("scopes")),
            (r#"{"name":"a","scopes":[]}"#, Field("scopes")),
            (r#"{"name":"a","scopes":"chat"}"#, Field("scopes")),
            (r#"{"name":"a","scopes":["admin"]}"#, Field("scopes")),
            (r#"{"name":"a","scopes":["chat",7]}"#, Field("scopes")),
            (r#"{"name":7,"scopes":["chat"]}"#, Field("name")),
            (r#"{"name":" ","scopes":["chat"]}"#, Field("name")),
            (r#"{"name":"a","scopes":["chat"],"expires_at":"soon"}"#, Field("expires_at")),
            (r#"{"name":"a","scopes":["chat"],"expires_at":"2026-11-20T10:00:00Z"}"#, Field("expires_at")),
            (r#"{"name":"a","scopes":["chat"],"expires_at":"2027-11-20T10:00:01Z"}"#, Field("expires_at")),
            (r#"{"name":"a","scopes":["chat"],"addresses":["10.1.0.0/8"]}"#, Field("addresses")),
            (r#"{"name":"a","scopes":["chat"],"addresses":"10.0.0.0/8"}"#, Field("addresses")),
            (r#"{"name":"a","scopes":["chat"],"org":"globex"}"#, Shape),
            (r#"{"name":"a","scopes":["chat"],"member":"x"}"#, Shape),
            (r#"{"name":"a","name":"b","scopes":["chat"]}"#, Shape),
        ] {
            assert_eq!(terms(body).err(), Some(Rejection::Malformed(expected)), "{body}");
        }
    }

    #[test]
    fn whose_keys_are_asked_for() {
        assert!(matches!(asked(None), Ok(AskedFor::Own)) && matches!(asked(Some("")), Ok(AskedFor::Own)));
        assert!(matches!(asked(Some("all=true")), Ok(AskedFor::All)));
        assert!(matches!(asked(Some("member=%61bc")), Ok(AskedFor::Member(id)) if id == "abc"));
        for odd in ["all", "all=false", "all=true&member=x", "member=x&member=y", "org=globex", "x"] {
            assert!(asked(Some(odd)).is_err(), "{odd}");
        }
        assert_eq!((what_follows("/_tollgate/keys"), what_follows("/_Tollgate/KEYS/a/")), (Some(""), Some("a")));
        for other in ["/_tollgate/keysx", "/_tollgate/key", "/_tollgate", "/_tollgate/me"] {
            assert_eq!(what_follows(other), None, "{other}");
        }
    }
}
