//! What a scripted LibreChat is like.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{SharedClock, SystemClock};

use super::directives::Directives;
use super::ids;
use super::replay::Replay;

/// The secret that access tokens are signed with where nothing else is said.
pub const JWT_SECRET: &str = "scripted-librechat-jwt-secret-0123456789abcdef";

/// The password of everyone who was not given one of their own.
pub const PASSWORD: &str = "scripted-password";

/// How a chat is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// 0.8.8: the start answers JSON, the answer comes on a stream of its own, with context and usage frames.
    #[default]
    Resumable,
    /// 0.8.2 to 0.8.6: the same without `generationCreatedAt`, protocol header, `clientRequestId`, context and usage frames.
    ResumableEarly,
    /// 0.8.1: the answer of the start is the stream itself, and closing it aborts the run.
    Direct,
}

/// Someone who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The id of their document: 24 hexadecimal digits.
    pub id: String,
    /// Their name.
    pub name: String,
    /// Their user name.
    pub username: String,
    /// Their e-mail address.
    pub email: String,
    /// Their password.
    pub password: String,
    /// `USER` or `ADMIN`.
    pub role: String,
    /// The one code of their second factor, where they have one.
    pub code: Option<String>,
    /// Whether their e-mail address is verified.
    pub verified: bool,
}

impl User {
    /// A person with [`PASSWORD`], whose id and names follow from the e-mail address.
    pub fn new(email: &str) -> Self {
        let username = email.split('@').next().unwrap_or_default().to_ascii_lowercase();
        Self {
            id: ids::user_id(email),
            name: username.clone(),
            username,
            email: email.to_ascii_lowercase(),
            password: PASSWORD.to_owned(),
            role: "USER".to_owned(),
            code: None,
            verified: true,
        }
    }
}

/// What LibreChat says to a valid token of a person it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strangers {
    /// They are brought into being from the token: convenient, and unlike LibreChat.
    #[default]
    Welcome,
    /// 401, as LibreChat does.
    Refused,
}

/// Which programs may use the routes that LibreChat keeps for browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Agents {
    /// Only those whose `User-Agent` looks like a browser's, as in LibreChat: others get a 200 with an error event.
    #[default]
    Browsers,
    /// All.
    Any,
}

/// How a scripted LibreChat behaves. Start from `Options::default()`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// How a chat is spoken.
    pub wire: Wire,
    /// The secret of access tokens (HS256).
    pub jwt_secret: String,
    /// Recordings for the first chat starts, one each, in this order.
    pub replays: Vec<Replay>,
    /// Who may log in.
    pub users: Vec<User>,
    /// What happens to valid tokens of people who are not among `users`.
    pub strangers: Strangers,
    /// How many accounts an address may make before it is told to wait (`REGISTER_MAX`).
    pub sign_ups_per_address: usize,
    /// Whether anybody may make an account (`ALLOW_REGISTRATION`).
    pub registration: bool,
    /// Which programs may chat.
    pub agents: Agents,
    /// How a run goes where its text does not say.
    pub defaults: Directives,
    /// A run does not end before someone came to listen or this long after its start. LibreChat's database and titles
    /// take that time by themselves; without it the quickest runs would be over before their stream can be asked for.
    pub linger: Duration,
    /// How many requests, runs and conversations are remembered, the newest of each.
    pub keep: usize,
    /// How many bytes of each request's body are remembered.
    pub keep_body: usize,
    /// The wall clock of dates in answers.
    pub clock: SharedClock,
    /// Two servers with different seeds give different ids.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            wire: Wire::default(),
            jwt_secret: JWT_SECRET.to_owned(),
            replays: Vec::new(),
            users: Vec::new(),
            strangers: Strangers::default(),
            sign_ups_per_address: 5,
            registration: true,
            agents: Agents::default(),
            defaults: Directives::default(),
            linger: Duration::from_millis(500),
            keep: 20_000,
            keep_body: 64 * 1024,
            clock: Arc::new(SystemClock),
            seed: 1,
        }
    }
}
