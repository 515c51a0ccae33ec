//! What a request carries from stage to stage.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;
use uuid::Uuid;

use super::cutoff::Standing;
use super::logins::Login;
use super::origins::Cors;
use super::relay::Reading;
use super::upstream::Destination;
use crate::generations::trace::Incoming;
use crate::generations::{Generation, Phase};
use crate::identity::keys::ApiKey;
use crate::identity::{Identity, Org};
use crate::librechat::page_config::Hidden;
use crate::librechat::routes::Route;

/// A request on its way through the gateway.
#[derive(Debug)]
pub struct Ctx {
    /// Its id, made here, and in every answer's `X-Request-Id`.
    pub id: Uuid,
    /// The id as it is written.
    pub request_id: Arc<str>,
    /// When it came.
    pub received_at: Timestamp,
    /// The same, for measuring.
    pub received: Instant,
    /// Where it goes.
    pub route: Route,
    /// The client's true address.
    pub address: Option<IpAddr>,
    /// Whether the client speaks TLS to the outermost proxy, or to us.
    pub is_https: bool,
    /// Whose request it is.
    pub identity: Option<Identity>,
    /// The API key that it came with.
    pub key: Option<Arc<ApiKey>>,
    /// The org whose own the host name is that was asked for.
    pub host_org: Option<Arc<Org>>,
    /// What of LibreChat's configuration is not shown, where that is asked for.
    pub hides: Option<Hidden>,
    /// Which page of another origin may read the answer.
    pub cors: Cors,
    /// The LibreChat that it is sent to.
    pub destination: Destination,
    /// What becomes of the trace that it may be part of.
    pub traced: Traced,
    /// The token LibreChat is to see in place of the client's.
    pub swapped_token: Option<String>,
    /// Whether its person's role is what an application says, whatever the directory has.
    pub role_is_tokens: bool,
    /// The body that was read, to be replayed byte for byte.
    pub body: Option<Bytes>,
    /// The generation that it starts.
    pub generation: Option<Arc<Generation>>,
    /// The sign-in that it is.
    pub login: Option<Login>,
    /// What it asks, where it asks something: for the audit row.
    pub asks: Asks,
    /// What is read of the answer.
    pub reading: Reading,
    /// The zone its person is answered in, where the body names one; the org's otherwise.
    pub zone: Option<TimeZone>,
    /// What its audit row says besides, where nothing else does.
    pub detail: Option<serde_json::Value>,
    /// How it was refused: the word and the whole decision.
    pub refused: Option<Refused>,
    /// The audit row that counts its refusal, where that has none of its own, or that says how its sign-in went.
    pub counted_by: Option<Uuid>,
    /// How long it took to admit it; of a chat start, from the end of its body.
    pub admitted_in: Option<std::time::Duration>,
    /// Whether its stream goes on.
    pub standing: Standing,
    /// Counted among the open requests as long as it lives.
    pub counted: Option<crate::app::OpenRequest>,
}

/// What LibreChat hears of the trace that a request is part of.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Traced {
    /// What came: nobody traces here.
    #[default]
    AsItCame,
    /// What a trusted proxy said.
    Trusted(Option<Incoming>),
    /// Nothing: whoever is no trusted proxy says nothing about traces.
    Struck,
    /// The span of its message, gone on with from a trusted proxy or begun here.
    Here(String, Origin),
}

/// Where a trace was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Before us: what its vendor says beside it (`tracestate`) stays.
    Before,
    /// Here.
    Here,
}

/// What a chat start asks.
#[derive(Debug, Default)]
pub struct Asks {
    /// The conversation.
    pub conversation_id: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// What of the prompt is written down, where the org asks for it.
    pub captured: Option<serde_json::Value>,
}

/// How a request was refused.
#[derive(Debug)]
pub struct Refused {
    /// One word.
    pub kind: &'static str,
    /// The reference its person was given.
    pub reference: String,
    /// The whole decision, for `tollgate explain`.
    pub detail: Option<serde_json::Value>,
}

impl Drop for Ctx {
    /// However a request ends, its generation is not left waiting for it: at the end of a stop's grace Pingora drops what
    /// still runs, and what was read until then counts.
    fn drop(&mut self) {
        self.reading.left_behind();
        if let Some(generation) = &self.generation {
            match generation.phase() {
                Phase::Admitted | Phase::Asked => generation.answer_unseen(),
                Phase::Direct => generation.give_up(),
                _ => {}
            }
        }
    }
}

impl Ctx {
    /// A request that came at `now`.
    pub fn new(now: Timestamp) -> Self {
        let id = Uuid::now_v7();
        Self {
            id,
            request_id: id.to_string().into(),
            received_at: now,
            received: Instant::now(),
            route: Route::Page,
            address: None,
            is_https: false,
            identity: None,
            key: None,
            host_org: None,
            hides: None,
            cors: Cors::default(),
            destination: Destination::default(),
            traced: Traced::default(),
            swapped_token: None,
            role_is_tokens: false,
            body: None,
            generation: None,
            login: None,
            asks: Asks::default(),
            reading: Reading::Nothing,
            zone: None,
            detail: None,
            refused: None,
            counted_by: None,
            admitted_in: None,
            standing: Standing::After(0),
            counted: None,
        }
    }

    /// The org that it is for: its person's, else the one whose host was asked for.
    pub fn org(&self) -> Option<&Arc<Org>> {
        self.identity.as_ref().and_then(|identity| identity.org.as_ref()).or(self.host_org.as_ref())
    }

    /// The client's address as it is written in rows and headers.
    pub fn address_text(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}
