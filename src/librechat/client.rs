//! Tollgate's own calls to LibreChat, on behalf of the person whose generation it follows.
//!
//! Each carries a token minted for that person, fresh for every call, the person's address, and the browser's user agent
//! of the start: LibreChat bans whoever comes with another (`api/server/middleware/uaParser.js`).

pub mod accounts;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::frames::{self, RunStatus};
use super::saved::{self, SavedMessages};
use super::upstreams::{Place, Upstreams};
use crate::clock::SharedClock;
use crate::identity::access::TenantId;
use crate::identity::mint::Minter;

/// The person a call is made for.
#[derive(Debug, Clone)]
pub struct Person {
    /// LibreChat's user id.
    pub user: Arc<str>,
    /// The org.
    pub org: Arc<str>,
    /// The address their start came from.
    pub address: String,
    /// The user agent their start came with.
    pub user_agent: String,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// LibreChat cannot be reached, or broke off.
    #[error("LibreChat is away: {0}")]
    Away(String),
    /// LibreChat refused.
    #[error("LibreChat answered {0}")]
    Status(u16),
    /// It answered with its page, as it does before 0.8.2 wherever it knows no route.
    #[error("this LibreChat has no such route")]
    NoSuchRoute,
    /// The answer is too large or cannot be read.
    #[error("LibreChat's answer cannot be read")]
    Unreadable,
}

impl CallError {
    /// Whether LibreChat says that nothing of this kind runs or is there (any more). Every other refusal, such as that of a
    /// LibreChat that is starting or limits its requests, says nothing about a run.
    pub fn tells_that_nothing_runs(&self) -> bool {
        matches!(self, Self::Status(404 | 409) | Self::NoSuchRoute)
    }
}

/// A user of LibreChat, as `GET /api/user` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The id, 24 hex digits.
    pub id: String,
    /// The user name, where they have one.
    pub username: Option<String>,
    /// How they signed up: `local`, `openid`, ...
    pub provider: String,
    /// The e-mail address.
    pub email: String,
}

/// A conversation in the list of a person's newest ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Its id.
    pub conversation_id: String,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<jiff::Timestamp>,
}

/// How a LibreChat answers chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatWire {
    /// The start answers JSON, and the answer comes on a stream of its own: 0.8.2 and later.
    Resumable,
    /// The answer of the start is the stream: before 0.8.2.
    Direct,
}

/// Speaks to LibreChat: to that of several whose the person is, or to the one where something runs.
#[derive(Clone)]
pub struct LibreChat {
    upstreams: Arc<Upstreams>,
    /// Where what is asked about runs, where that is known.
    at: Option<Arc<str>>,
    http: reqwest::Client,
    checks: reqwest::Client,
    minter: Arc<Minter>,
    clock: SharedClock,
}

impl std::fmt::Debug for LibreChat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LibreChat").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What LibreChat's own client would look like, where a start came without a browser's user agent.
const FALLBACK_USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// The largest answer that is read whole. A long conversation's messages are the largest there is.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// How long an ordinary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long its health check may take: it is asked every few seconds, and answers from memory.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Names are where requests of people go: of several addresses the one in use, so that what is found well is what they meet.
#[derive(Debug)]
struct SameAddress(Arc<Upstreams>);

impl reqwest::dns::Resolve for SameAddress {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let place = self.0.all().iter().find(|place| place.address().host().eq_ignore_ascii_case(name.as_str()));
        let known = place.and_then(|place| place.address().known());
        Box::pin(async move {
            let found: reqwest::dns::Addrs = match known {
                Some(known) => Box::new(std::iter::once(known)),
                None => Box::new(tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<_>>().into_iter()),
            };
            Ok(found)
        })
    }
}

impl LibreChat {
    /// A client for these LibreChats.
    pub fn new(upstreams: Arc<Upstreams>, minter: Arc<Minter>, clock: SharedClock) -> Result<Self, CallError> {
        let client = || {
            reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(5))
                .tcp_nodelay(true)
                .no_proxy()
                // It speaks plain http: the certificates that the system trusts need not be there.
                .tls_certs_only([])
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(Arc::new(SameAddress(upstreams.clone())))
        };
        let built = |client: reqwest::ClientBuilder| client.build().map_err(|error| CallError::Away(error.to_string()));
        // LibreChat closes idle connections after 5 s; ours go before.
        let http = built(client().pool_idle_timeout(Duration::from_secs(3)))?;
        // Whoever was reached once may be gone from there: each check connects anew.
        let checks = built(client().pool_max_idle_per_host(0))?;
        Ok(Self { upstreams, at: None, http, checks, minter, clock })
    }

    /// The LibreChats that it speaks to.
    pub fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// The same, for what runs at the LibreChat of this name. Where that is not known, or it is gone for good, the person's is
    /// asked.
    #[must_use]
    pub fn at(&self, upstream: Option<Arc<str>>) -> Self {
        Self { at: upstream, ..self.clone() }
    }

    /// The URL of a path, at the LibreChat that is asked for this person.
    fn url(&self, person: &str, path: &str) -> String {
        let place = self.upstreams.of_run(self.at.as_deref(), person, self.clock.now());
        // A configuration without any LibreChat is none.
        format!("{}{path}", place.map_or("http://", |place| place.base()))
    }

    /// The person's running conversations.
    pub async fn active(&self, person: &Person) -> Result<Vec<String>, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Active {
            #[serde(default)]
            active_job_ids: Vec<String>,
        }
        let body = self.read(self.get(person, "/api/agents/chat/active", &[])).await?;
        serde_json::from_slice(&body).map(|active: Active| active.active_job_ids).map_err(|_| unread(&body))
    }

    /// Which wire it speaks, told without chatting: the list of running conversations came with streams of their own in
    /// 0.8.2 (`api/server/routes/agents/index.js`), and before there is nothing at its path: 404, or the page.
    pub async fn wire(&self, person: &Person) -> Result<ChatWire, CallError> {
        #[derive(Deserialize)]
        struct Active {
            #[serde(rename = "activeJobIds")]
            _ids: serde::de::IgnoredAny,
        }
        match self.read(self.get(person, "/api/agents/chat/active", &[])).await {
            Ok(body) if serde_json::from_slice::<Active>(&body).is_ok() => Ok(ChatWire::Resumable),
            Ok(body) => match unread(&body) {
                CallError::NoSuchRoute => Ok(ChatWire::Direct),
                error => Err(error),
            },
            Err(CallError::Status(404)) => Ok(ChatWire::Direct),
            Err(error) => Err(error),
        }
    }

    /// How the run in a conversation is getting on.
    pub async fn status(&self, person: &Person, conversation_id: &str) -> Result<RunStatus, CallError> {
        let path = format!("/api/agents/chat/status/{}", escaped(conversation_id));
        let body = self.read(self.get(person, &path, &[])).await?;
        frames::run_status(&body).ok_or_else(|| unread(&body))
    }

    /// The saved messages of a conversation.
    pub async fn messages(&self, person: &Person, conversation_id: &str) -> Result<SavedMessages, CallError> {
        let path = format!("/api/messages/{}", escaped(conversation_id));
        let body = self.read(self.get(person, &path, &[])).await?;
        saved::saved_messages(&body).ok_or(CallError::Unreadable)
    }

    /// The person's newest conversations, newest first.
    pub async fn newest_conversations(&self, person: &Person, limit: usize) -> Result<Vec<Conversation>, CallError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            conversations: Vec<Conversation>,
        }
        let limit = limit.to_string();
        let query = [("limit", limit.as_str()), ("sortBy", "createdAt"), ("sortDirection", "desc")];
        let body = self.read(self.get(person, "/api/convos", &query)).await?;
        serde_json::from_slice(&body).map(|page: Page| page.conversations).map_err(|_| CallError::Unreadable)
    }

    /// The person themselves.
    pub async fn user(&self, person: &Person) -> Result<User, CallError> {
        /// The whole document, with its id under either name or both.
        #[derive(Deserialize)]
        struct Document {
            id: Option<String>,
            #[serde(rename = "_id")]
            object_id: Option<String>,
            username: Option<String>,
            #[serde(default)]
            provider: String,
            email: String,
        }
        let body = self.read(self.get(person, "/api/user", &[])).await?;
        let Document { id, object_id, username, provider, email } = serde_json::from_slice(&body).map_err(|_| CallError::Unreadable)?;
        Ok(User { id: object_id.or(id).ok_or(CallError::Unreadable)?, username, provider, email })
    }

    /// Asks for the models of the OpenAI-compatible API with one of LibreChat's API keys, for a client at this address, in a
    /// tenant where there is one. It costs nothing, and is answered only to a key that may use the API.
    pub async fn models_of(&self, key: &str, address: &str, tenant: Option<&TenantId>) -> Result<(), CallError> {
        #[derive(Deserialize)]
        struct List {
            #[serde(rename = "data")]
            _models: Vec<serde::de::IgnoredAny>,
        }
        let request = self.http.get(self.url(key, "/api/agents/v1/models")).bearer_auth(key);
        let request = request.header("User-Agent", FALLBACK_USER_AGENT).header("X-Forwarded-For", address);
        let request = match tenant {
            Some(tenant) => request.header("X-Tenant-Id", tenant.header()),
            None => request,
        };
        let body = self.read(request.header("Accept-Encoding", "identity")).await?;
        serde_json::from_slice::<List>(&body).map(|_| ()).map_err(|_| CallError::Unreadable)
    }

    /// Subscribes to the stream of a running generation. LibreChat allows any number of subscribers.
    pub async fn subscribe(
        &self,
        person: &Person,
        conversation_id: &str,
        created_at: Option<i64>,
    ) -> Result<impl Stream<Item = Result<Bytes, CallError>> + use<>, CallError> {
        let path = format!("/api/agents/chat/stream/{}", escaped(conversation_id));
        let created_at = created_at.map(|created_at| created_at.to_string());
        let mut query = vec![("resume", "true")];
        if let Some(created_at) = &created_at {
            query.extend([("generationCreatedAt", created_at.as_str()), ("generationProtocolVersion", "2")]);
        }
        let request = self.get(person, &path, &query).header("Accept", "text/event-stream");
        let response = tokio::time::timeout(CALL_TIMEOUT, request.send())
            .await
            .map_err(|_| CallError::Away("no answer in time".into()))?
            .map_err(|error| CallError::Away(plain(&error)))?;
        if response.status() != 200 {
            return Err(CallError::Status(response.status().as_u16()));
        }
        Ok(response.bytes_stream().map(|chunk| chunk.map_err(|error| CallError::Away(plain(&error)))))
    }

    /// Ends a running generation, as its person's stop button does. LibreChat saves what there is of the answer, and ends its
    /// streams.
    pub async fn abort(&self, person: &Person, conversation_id: &str, created_at: Option<i64>) -> Result<(), CallError> {
        let mut body = json!({ "conversationId": conversation_id });
        if let Some(created_at) = created_at {
            body["generationCreatedAt"] = created_at.into();
            body["generationProtocolVersion"] = 2.into();
        }
        let request = self.request(reqwest::Method::POST, person, "/api/agents/chat/abort").json(&body);
        self.read(request).await.map(|_| ())
    }

    /// The health check that every version has, and answers with 200 where LibreChat is well. It is asked at the address in use; where
    /// nobody answers there and its name has others, the first that answers is in use from now on.
    pub async fn health(&self, place: &Place) -> Result<(), CallError> {
        let mut away = None;
        for address in place.address().all() {
            match self.health_at(&format!("http://{address}"), place).await {
                Err(CallError::Away(why)) => away = away.or(Some(CallError::Away(why))),
                heard => {
                    place.address().uses(address);
                    return heard;
                }
            }
        }
        match away {
            Some(away) => Err(away),
            // Its name was not looked up yet, or has no address.
            None => self.health_at(place.base(), place).await,
        }
    }

    async fn health_at(&self, base: &str, place: &Place) -> Result<(), CallError> {
        let request = self.checks.get(format!("{base}/health")).header("Host", place.address().authority()).timeout(HEALTH_TIMEOUT);
        let response = request.send().await.map_err(|error| CallError::Away(plain(&error)))?;
        if response.status() == 200 { Ok(()) } else { Err(CallError::Status(response.status().as_u16())) }
    }

    /// What its clock says, to a second, by the `Date` of an answer.
    pub async fn time(&self) -> Result<Timestamp, CallError> {
        let request = self.http.get(self.url("", "/api/config")).timeout(CALL_TIMEOUT);
        let response = request.send().await.map_err(|error| CallError::Away(plain(&error)))?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let parsed = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        parsed.map(|date| date.timestamp()).ok_or(CallError::Unreadable)
    }

    /// What its page shows to somebody who is not signed in.
    pub async fn page_config(&self) -> Result<serde_json::Map<String, serde_json::Value>, CallError> {
        let request = self.http.get(self.url("", "/api/config")).header("User-Agent", FALLBACK_USER_AGENT);
        let body = self.read(request.header("Accept-Encoding", "identity")).await?;
        serde_json::from_slice(&body).map_err(|_| unread(&body))
    }

    /// Whether it has the liveness check that came with 0.8.6. Before, its page or nothing is there.
    pub async fn is_alive(&self) -> Result<bool, CallError> {
        let request = self.http.get(self.url("", "/livez")).header("Accept-Encoding", "identity");
        match self.read(request).await {
            Ok(body) => Ok(!body.trim_ascii_start().starts_with(b"<")),
            Err(CallError::Status(404)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn get(&self, person: &Person, path: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::GET, person, path).query(query)
    }

    fn request(&self, method: reqwest::Method, person: &Person, path: &str) -> reqwest::RequestBuilder {
        let token = self.minter.mint_own_call(&person.user, Some(&*person.org).filter(|org| !org.is_empty()), self.clock.now());
        let user_agent = if person.user_agent.starts_with("Mozilla/") { &person.user_agent } else { FALLBACK_USER_AGENT };
        self.http
            .request(method, self.url(&person.user, path))
            .bearer_auth(token)
            .header("User-Agent", user_agent)
            .header("X-Forwarded-For", &person.address)
            .header("Accept-Encoding", "identity")
    }

    /// Sends a request and reads its answer, within bounds of time and size.
    async fn read(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, CallError> {
        let response = request.timeout(CALL_TIMEOUT).send().await.map_err(|error| CallError::Away(plain(&error)))?;
        if response.status() != 200 {
            return Err(CallError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| CallError::Away(plain(&error)))?);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(CallError::Unreadable);
            }
        }
        Ok(body)
    }
}

/// What an answer means that is not the JSON it should be.
fn unread(body: &[u8]) -> CallError {
    if body.trim_ascii_start().starts_with(b"<") { CallError::NoSuchRoute } else { CallError::Unreadable }
}

/// The error without its URL, which names a conversation.
fn plain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { "broken connection".to_owned() };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// A path segment with everything escaped that could end it. Ids come from the wire.
fn escaped(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && segment.len() > 2) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
