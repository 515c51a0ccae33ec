//! The one place where refusals are made: every stage of a request returns a [`Rejection`], and
//! [`Rejection::answer`] turns it into status, headers and body for the kind of route it happened on.
//!
//! What went wrong inside is logged where it is handled and never sent. What is sent is a plain sentence in the
//! person's language with a short reference, by which an operator finds the whole decision.

mod amounts;
mod bodies;
mod english;
mod facts;
mod korean;
mod language;
mod reference;
mod texts;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use facts::Facts;

use crate::identity::Suspended;
use crate::identity::addresses::Closing;
use crate::identity::directory::Language;
use crate::identity::keys::KeyScope;
use crate::limits::Refusal;

pub(crate) use amounts::thousands;
pub use reference::{read_reference, reference};

/// What a client is answered that speaks plain HTTP where TLS is spoken: there is no request yet, and nobody to reject.
#[cfg(feature = "tls")]
pub const SPEAKS_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 31\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS only.\r\n\r\n";

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// No credential, or one that does not hold. 401.
    Unauthorized,
    /// The credential is good, but speaks for an org its issuer may not speak for. 403.
    ForeignOrg,
    /// The person belongs to no org, and the route spends. 403.
    NoOrg,
    /// The session behind the token was ended. 401.
    SessionEnded,
    /// A code that signs somebody in opens nothing. 403.
    Code(CodeRefused),
    /// The token is too old to sign anybody in, or does not say how old it is. 403.
    TokenTooOld,
    /// The person or their org is suspended, and the route spends. 403.
    Suspended(Suspended),
    /// A sign-in with LibreChat's own account is not let through.
    Login(LoginRefused),
    /// The person's org or role there, their account or their key does not allow requests from this address. 403.
    Elsewhere(Closing),
    /// An API key is good, and not for this. 403; 409 where there are too many.
    Key(KeyRefused),
    /// A page of another origin asks what only the place's own pages may ask for. 403.
    ForeignOrigin,
    /// The route or feature is not for this caller. 403.
    Forbidden(Forbidden),
    /// The price table does not know the model, and unknown ones are rejected. 403.
    UnknownModel {
        /// The model as the body named it; foreign text, cleaned before it is shown.
        model: String,
    },
    /// A limit does not leave room. 429.
    Limit(Box<Refusal>),
    /// The request cannot be read. 400.
    Malformed(Malformed),
    /// The client sent its body too slowly. 408.
    TooSlow,
    /// The body must be plain JSON on this route. 415.
    UnsupportedMedia,
    /// The body has no stated length and is longer than such a body may be. 411.
    LengthRequired,
    /// The body is larger than the route takes. 413.
    TooLarge {
        /// What the route takes, in bytes.
        limit: u64,
    },
    /// Nothing is here. 404.
    NotFound,
    /// The route is here, but not for this method. 405.
    MethodNotAllowed {
        /// The methods it takes, as the `Allow` header lists them.
        allow: &'static str,
    },
    /// The store of counters does not answer and a limit is closed on failure. 503.
    StoreClosed,
    /// What must be written down finds no room. 503.
    JournalFull,
    /// The keys of the token's issuer cannot be fetched, so that nothing can be said of the token. 503.
    IssuerAway,
    /// The database does not answer, so that nobody can say whose the request is. 503.
    IdentityAway,
    /// LibreChat cannot be reached; the request did not get there. 503.
    UpstreamAway,
    /// LibreChat broke the exchange off; the request may have got there. 502.
    UpstreamBroken,
    /// LibreChat took too long; the request may have got there. 504.
    UpstreamTimeout,
    /// This process is stopping and takes no new chats. 503, and on a chat the one body that the web client retries silently.
    Draining,
    /// A fault of ours. 500.
    Internal,
}

/// Why a sign-in is not let through to LibreChat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginRefused {
    /// Too many failed with this name. 429.
    Locked {
        /// Until when it is locked.
        until: Timestamp,
    },
    /// Too many failed from this network. 429.
    Slowed {
        /// When the next may come.
        until: Timestamp,
    },
    /// As many run as are left before the lock. 429.
    Busy,
    /// The person or their org is suspended. 403.
    Suspended(Suspended),
    /// Failures cannot be counted right now, and sign-ins are closed then. 503.
    Away,
}

/// Why a code opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRefused {
    /// There is no such code.
    Unknown,
    /// It was opened before.
    Used,
    /// It came too late.
    Late,
    /// It is of another org than that whose host it was opened at.
    Foreign,
}

/// Why an API key of a member is refused, or not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefused {
    /// It lacks this scope.
    Scope(KeyScope),
    /// No key may do this.
    Never,
    /// `/api/agents/v1/*` takes LibreChat's own keys only.
    AgentApi,
    /// The member may not have more.
    TooMany {
        /// How many they may have.
        most: u32,
    },
    /// Viewers have no keys that chat.
    ViewerChats,
}

/// What is forbidden, so that the sentence can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// `/api/agents/v1/*` is switched off (`[librechat] agent_api = "refuse"`).
    AgentApiOff,
    /// The person is vouched for, but LibreChat has no account for them under their e-mail address.
    NoAccount,
    /// The org takes only those who are in its directory.
    NotInvited,
    /// Somebody else has the LibreChat account under the person's e-mail address.
    AccountExists,
    /// Accounts are made by Tollgate, and by nobody for themselves.
    Registration,
    /// A token in an address signs nobody in here (`[insecure] token_in_url`).
    TokenInAddress,
    /// The cookie and the token of a request are of different people.
    OtherPerson,
    /// The person looks on, and sends nothing.
    Viewer,
    /// This caller may not use this route.
    Route,
}

/// What about a request cannot be read. The names are ours, never the client's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The body is not JSON, or not a JSON object.
    NotJson,
    /// Text that must be UTF-8 is not.
    NotUtf8,
    /// The body ended before its stated length.
    Truncated,
    /// This header is missing, doubled or wrong.
    Header(&'static str),
    /// A field of the body has the wrong type, or stands twice.
    Shape,
    /// This field of the body or parameter of the query is missing or wrong.
    Field(&'static str),
    /// The path or query cannot be read.
    Target,
}

/// Who reads the answer, which decides its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// LibreChat's web client on a chat start. It shows one body shape verbatim, in every version.
    Chat,
    /// A client of `/api/agents/v1/*`, which expects the error shape of OpenAI.
    AgentApi,
    /// Any other `/api` route.
    Api,
    /// An application that embeds LibreChat, and signs its people in.
    Application,
    /// A person's browser loading a page.
    Page,
    /// A client of the admin API (RFC 9457).
    Admin,
}

/// What the answer depends on besides the rejection.
#[derive(Debug, Clone, Copy)]
pub struct AnswerContext<'a> {
    /// Who reads it.
    pub audience: Audience,
    /// The language of its sentences.
    pub language: Language,
    /// The time zone its times are given in: the person's or the org's.
    pub zone: &'a TimeZone,
    /// Now.
    pub now: Timestamp,
    /// The short reference of this request, from [`reference()`]; left out of the sentences where it is empty.
    pub reference: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

/// A whole answer. The connection's own headers (length, date, request id) are added by whoever sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Header names in their usual spelling, each at most once, and their values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// After how many seconds a client may try again where a part of the place is away: the sentences say "in a minute".
const AWAY_RETRY_SECONDS: i64 = 60;

/// After how many seconds it is worth trying again where only running answers are in the way.
const HELD_RETRY_SECONDS: i64 = 30;

/// After how many seconds it is worth trying again where other sign-ins are being judged.
const BUSY_RETRY_SECONDS: i64 = 2;

impl Rejection {
    /// The HTTP status, the same for every audience.
    pub fn status(&self) -> u16 {
        self.row().0
    }

    /// One word for logs, audit rows, metrics and the `code` of machine-readable bodies.
    pub fn kind(&self) -> &'static str {
        self.row().1
    }

    /// The table: status and word of every rejection.
    fn row(&self) -> (u16, &'static str) {
        match self {
            Self::Unauthorized => (401, "unauthorized"),
            Self::ForeignOrg => (403, "foreign_org"),
            Self::NoOrg => (403, "no_org"),
            Self::SessionEnded => (401, "session_ended"),
            Self::Code(CodeRefused::Unknown) => (403, "code_unknown"),
            Self::Code(CodeRefused::Used) => (403, "code_used"),
            Self::Code(CodeRefused::Late) => (403, "code_late"),
            Self::Code(CodeRefused::Foreign) => (403, "code_foreign"),
            Self::TokenTooOld => (403, "token_too_old"),
            Self::Suspended(Suspended::Org) | Self::Login(LoginRefused::Suspended(Suspended::Org)) => (403, "org_suspended"),
            Self::Suspended(Suspended::Member) | Self::Login(LoginRefused::Suspended(Suspended::Member)) => (403, "member_suspended"),
            Self::Login(LoginRefused::Locked { .. }) => (429, "login_locked"),
            Self::Login(LoginRefused::Slowed { .. }) => (429, "login_slowed"),
            Self::Login(LoginRefused::Busy) => (429, "login_busy"),
            Self::Login(LoginRefused::Away) => (503, "logins_closed"),
            Self::Elsewhere(_) => (403, "address_refused"),
            Self::Key(KeyRefused::Scope(_)) => (403, "key_scope"),
            Self::Key(KeyRefused::Never) => (403, "key_not_allowed"),
            Self::Key(KeyRefused::AgentApi) => (403, "key_of_tollgate"),
            Self::Key(KeyRefused::TooMany { .. }) => (409, "too_many_keys"),
            Self::Key(KeyRefused::ViewerChats) => (403, "viewer_key"),
            Self::ForeignOrigin => (403, "origin_refused"),
            Self::Forbidden(Forbidden::AgentApiOff) => (403, "agent_api_off"),
            Self::Forbidden(Forbidden::NoAccount) => (403, "no_account"),
            Self::Forbidden(Forbidden::NotInvited) => (403, "not_invited"),
            Self::Forbidden(Forbidden::AccountExists) => (403, "account_exists"),
            Self::Forbidden(Forbidden::Registration) => (403, "registration_closed"),
            Self::Forbidden(Forbidden::TokenInAddress) => (403, "token_in_address"),
            Self::Forbidden(Forbidden::OtherPerson) => (403, "other_person"),
            Self::Forbidden(Forbidden::Viewer) => (403, "viewer"),
            Self::Forbidden(Forbidden::Route) => (403, "forbidden"),
            Self::UnknownModel { .. } => (403, "unknown_model"),
            Self::Limit(_) => (429, "limit"),
            Self::Malformed(_) => (400, "malformed"),
            Self::TooSlow => (408, "too_slow"),
            Self::UnsupportedMedia => (415, "unsupported_media"),
            Self::LengthRequired => (411, "length_required"),
            Self::TooLarge { .. } => (413, "too_large"),
            Self::NotFound => (404, "not_found"),
            Self::MethodNotAllowed { .. } => (405, "method_not_allowed"),
            Self::StoreClosed => (503, "store_closed"),
            Self::JournalFull => (503, "journal_full"),
            Self::IssuerAway => (503, "issuer_away"),
            Self::IdentityAway => (503, "identity_away"),
            Self::UpstreamAway => (503, "upstream_away"),
            Self::UpstreamBroken => (502, "upstream_broken"),
            Self::UpstreamTimeout => (504, "upstream_timeout"),
            Self::Draining => (503, "draining"),
            Self::Internal => (500, "internal"),
        }
    }

    /// The whole answer for this audience.
    pub fn answer(&self, context: &AnswerContext<'_>) -> Answer {
        let (content_type, body) = bodies::body(self, context);
        let mut headers = vec![
            ("Content-Type", content_type.to_owned()),
            ("Cache-Control", "no-store".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
        ];
        if context.audience == Audience::Page {
            headers.push(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'".to_owned()));
        }
        match self {
            // RFC 9110 wants a challenge; this scheme makes no browser open its own sign-in window.
            Self::Unauthorized | Self::SessionEnded => headers.push(("WWW-Authenticate", "Bearer".to_owned())),
            Self::MethodNotAllowed { allow } => headers.push(("Allow", (*allow).to_owned())),
            Self::Limit(refusal) => limit_headers(refusal, context.now, &mut headers),
            _ => {}
        }
        if let Some(seconds) = self.retry_after(context.now) {
            headers.push(("Retry-After", seconds.to_string()));
        }
        Answer { status: self.status(), headers, body: Bytes::from(body) }
    }

    /// The event that ends a stream which is broken off.
    pub fn event(&self, context: &AnswerContext<'_>) -> Bytes {
        Bytes::from(bodies::event(self, context))
    }

    /// The sentences a person is shown, in the language of the context, with the reference at their end. They never
    /// hold a brace: LibreChat's client would look for JSON between them.
    pub fn sentences(&self, context: &AnswerContext<'_>) -> String {
        texts::sentences(self, context)
    }

    /// After how many seconds it is worth trying again, where that can be said.
    fn retry_after(&self, now: Timestamp) -> Option<i64> {
        match self {
            Self::Limit(refusal) => {
                let reset = seconds_until(refusal.resets_at(), now);
                // Running answers give back what they did not need, often long before the period ends.
                Some(if Facts::of(refusal).fits_later() { reset.min(HELD_RETRY_SECONDS) } else { reset })
            }
            Self::Login(LoginRefused::Locked { until } | LoginRefused::Slowed { until }) => Some(seconds_until(*until, now)),
            Self::Login(LoginRefused::Busy) => Some(BUSY_RETRY_SECONDS),
            Self::Login(LoginRefused::Away)
            | Self::StoreClosed
            | Self::JournalFull
            | Self::IssuerAway
            | Self::IdentityAway
            | Self::UpstreamAway
            | Self::UpstreamBroken
            | Self::UpstreamTimeout => Some(AWAY_RETRY_SECONDS),
            Self::Draining => Some(1),
            _ => None,
        }
    }
}

/// The three headers that say where a limit stands, in the resource's unit (nano-dollars for money); reset in seconds.
fn limit_headers(refusal: &Refusal, now: Timestamp, headers: &mut Vec<(&'static str, String)>) {
    let limit = refusal.bar.limit;
    let left = limit.saturating_sub(refusal.used).saturating_sub(refusal.held);
    headers.push(("RateLimit-Limit", limit.to_string()));
    headers.push(("RateLimit-Remaining", left.to_string()));
    headers.push(("RateLimit-Reset", seconds_until(refusal.resets_at(), now).to_string()));
}

/// Whole minutes until `then`, rounded up and at least 1, for sentences.
fn minutes_until(then: Timestamp, now: Timestamp) -> i64 {
    seconds_until(then, now).saturating_add(59) / 60
}

/// Whole seconds until `then`, rounded up and at least 1, so that a client that waits them is never too early.
fn seconds_until(then: Timestamp, now: Timestamp) -> i64 {
    let nanos = then.as_nanosecond().saturating_sub(now.as_nanosecond());
    let seconds = nanos.saturating_add(999_999_999).div_euclid(1_000_000_000);
    i64::try_from(seconds).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests;
