//! The connection to Redis that every part shares.
//!
//! One multiplexed connection, made when it is first needed and again when it broke. Connecting and answering have a
//! time limit each, so that a Redis that hangs costs a request milliseconds, not minutes; after a few failures in a
//! row a circuit breaker refuses at once, and a single probe at a time finds out when Redis is back.

mod breaker;
pub mod keys;
mod log_gate;
mod script;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use breaker::{Breaker, Change, Permit};
use log_gate::LogGate;
pub(crate) use script::Script;

/// Where Redis is and how long it may take.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/db]` or `redis+unix:///path`.
    pub url: String,
    /// How long connecting may take, sign-in included. 100 ms by default.
    pub connect_timeout: Duration,
    /// How long an answer may take. 100 ms by default.
    pub response_timeout: Duration,
    /// After how many failures in a row the circuit opens. 5 by default.
    pub failures_to_open: u32,
    /// How long the circuit stays open before a probe is let through. 1 s by default.
    pub open_for: Duration,
    /// What every key begins with, so that several places can share one Redis; without braces. `tollgate` by default.
    pub prefix: String,
}

impl RedisSettings {
    /// The defaults for this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connect_timeout: Duration::from_millis(100),
            response_timeout: Duration::from_millis(100),
            failures_to_open: 5,
            open_for: Duration::from_secs(1),
            prefix: "tollgate".to_owned(),
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("url", &"***")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("failures_to_open", &self.failures_to_open)
            .field("open_for", &self.open_for)
            .field("prefix", &self.prefix)
            .finish()
    }
}

/// Why Redis gave no answer. The texts name it without its password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharedError {
    /// The settings cannot be used.
    #[error("the Redis URL cannot be used: {0}")]
    Settings(Arc<str>),
    /// It cannot be reached, is too slow, cannot serve right now, or the circuit is open.
    #[error("Redis is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// It answered that it will not do this.
    #[error("Redis refused: {0}")]
    Refused(Arc<str>),
}

/// Whether this address can be used, without connecting to it.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<(), SharedError> {
    client(url).map(|_| ())
}

fn client(url: &str) -> Result<Client, SharedError> {
    Client::open(url).map_err(|why| SharedError::Settings(why.to_string().into()))
}

/// A handle on the shared connection. Cloning is cheap, and clones share connection and circuit.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// The address without user and password.
    address: Arc<str>,
    settings: RedisSettings,
    runtime: Handle,
    link: Mutex<Link>,
    /// Held while connecting, so that one caller connects and the others wait for it.
    connecting: tokio::sync::Mutex<()>,
    breaker: Breaker,
    outages: LogGate,
    refusals: LogGate,
}

/// The connection in use. The number tells connections apart: a late failure of an old one must not close a new one.
#[derive(Default)]
struct Link {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl Redis {
    /// A handle that connects when it is first used. The connection lives on `runtime`, whichever runtime calls.
    pub fn new(settings: RedisSettings, runtime: Handle) -> Result<Self, SharedError> {
        let client = client(&settings.url)?;
        let info = client.get_connection_info();
        let address = format!("{}/{}", info.addr(), info.redis_settings().db()).into();
        let breaker = Breaker::new(settings.failures_to_open, settings.open_for);
        let inner = Inner {
            client,
            address,
            settings,
            runtime,
            link: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            breaker,
            outages: LogGate::default(),
            refusals: LogGate::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The key of something of an org. All of an org's keys carry the same hash tag, and so lie in one slot.
    pub fn key(&self, org: &str, what: &str) -> String {
        format!("{}:{{o:{}}}:{what}", self.prefix(), keys::escaped(org))
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &str {
        &self.inner.settings.prefix
    }

    /// The address without user and password: `127.0.0.1:6379/0`.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Whether the circuit is closed: calls are made, not refused at once.
    pub fn is_available(&self) -> bool {
        self.inner.breaker.is_closed()
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), SharedError> {
        self.run(redis::cmd("PING")).await
    }

    /// What Redis' clock says.
    pub async fn time(&self) -> Result<Timestamp, SharedError> {
        let (seconds, microseconds): (i64, i32) = self.run(redis::cmd("TIME")).await?;
        Ok(Timestamp::new(seconds, microseconds.saturating_mul(1000)).unwrap_or_default())
    }

    /// Which version of Redis it is, as it calls itself; not every user may ask.
    pub async fn version(&self) -> Result<String, SharedError> {
        let mut command = redis::cmd("INFO");
        command.arg("server");
        let told: String = self.run(command).await?;
        Ok(told.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default().trim().to_owned())
    }

    /// The value of a key, if it has one.
    pub async fn get(&self, key: &str) -> Result<Option<String>, SharedError> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        self.run(command).await
    }

    /// Sets a key for as long as `ttl` (whole milliseconds, at least one).
    pub async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), SharedError> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(milliseconds(ttl));
        self.run(command).await
    }

    /// Sets a key as [`Redis::put`] does, unless it is there already. Answers whether it was set.
    pub async fn put_new(&self, key: &str, value: &str, ttl: Duration) -> Result<bool, SharedError> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(milliseconds(ttl)).arg("NX");
        self.run::<Option<String>>(command).await.map(|set| set.is_some())
    }

    /// Removes a key, whatever it holds. Answers whether it was there.
    pub async fn delete(&self, key: &str) -> Result<bool, SharedError> {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        self.run(command).await
    }

    /// Sets a field of a hash, and keeps the whole hash for `ttl` from now.
    pub async fn put_field(&self, key: &str, field: &str, value: &str, ttl: Duration) -> Result<(), SharedError> {
        let mut both = redis::pipe();
        both.atomic().cmd("HSET").arg(key).arg(field).arg(value).ignore();
        both.cmd("PEXPIRE").arg(key).arg(milliseconds(ttl)).ignore();
        self.call(|mut connection| async move { both.query_async(&mut connection).await }).await
    }

    /// The values of all fields of a hash; empty where there is none.
    pub async fn fields(&self, key: &str) -> Result<Vec<String>, SharedError> {
        let mut command = redis::cmd("HVALS");
        command.arg(key);
        self.run(command).await
    }

    /// Runs one command.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: redis::Cmd) -> Result<T, SharedError> {
        self.call(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Runs a script by its hash, and by its text where Redis does not know it (yet, or after `SCRIPT FLUSH`).
    pub(crate) async fn run_script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        fill: impl FnOnce(&mut redis::Cmd),
    ) -> Result<T, SharedError> {
        let by_hash = script.by_hash(keys, fill);
        self.call(|mut connection| async move {
            match by_hash.query_async(&mut connection).await {
                Err(why) if why.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    script.by_text(&by_hash).query_async(&mut connection).await
                }
                answer => answer,
            }
        })
        .await
    }

    /// Makes a call under the circuit breaker and the time limits.
    pub(crate) async fn call<T, F, Answer>(&self, ask: F) -> Result<T, SharedError>
    where
        F: FnOnce(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        let inner = &*self.inner;
        let Some(permit) = inner.breaker.enter(Instant::now()) else {
            return Err(SharedError::Unavailable(format!("{} did not answer lately", inner.address).into()));
        };
        let (number, connection) = match self.connection().await {
            Ok(link) => link,
            Err(why) => return Err(inner.failed(permit, None, &why)),
        };
        match timeout(inner.settings.response_timeout, ask(connection)).await {
            Ok(Ok(answer)) => {
                inner.succeeded(permit);
                Ok(answer)
            }
            Ok(Err(why)) if is_outage(&why) => {
                let broken = (!why.is_timeout()).then_some(number);
                Err(inner.failed(permit, broken, &why.to_string()))
            }
            Ok(Err(why)) => {
                inner.succeeded(permit);
                Err(inner.refused(&why))
            }
            Err(_) => Err(inner.failed(permit, None, &format!("no answer within {:?}", inner.settings.response_timeout))),
        }
    }

    /// The connection in use, or a new one.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection), String> {
        if let Some(link) = self.inner.current() {
            return Ok(link);
        }
        let limit = self.inner.settings.connect_timeout;
        let this = self.clone();
        let connect = async move {
            let _only_one = this.inner.connecting.lock().await;
            match this.inner.current() {
                Some(link) => Ok(link),
                None => this.inner.connect().await,
            }
        };
        // The connection's driver is spawned where `connect` runs, and must outlive the runtime that happens to call.
        let task = self.inner.runtime.spawn(async move { timeout(limit, connect).await });
        match task.await {
            Ok(Ok(connected)) => connected.map_err(|why| why.to_string()),
            Ok(Err(_)) => Err(format!("no connection within {limit:?}")),
            Err(_) => Err("the runtime of the connection has ended".to_owned()),
        }
    }
}

impl Inner {
    fn current(&self) -> Option<(u64, MultiplexedConnection)> {
        let link = self.link.lock();
        Some((link.number, link.connection.clone()?))
    }

    async fn connect(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.response_timeout));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut link = self.link.lock();
        link.number += 1;
        link.connection = Some(connection.clone());
        Ok((link.number, connection))
    }

    fn succeeded(&self, permit: Permit<'_>) {
        if permit.succeeded() == Change::Closed {
            tracing::info!(redis.address = %self.address, "Redis answers again");
        }
    }

    /// Notes a failure, gives up the connection where it is of no more use, and says so in the log, though not each time.
    fn failed(&self, permit: Permit<'_>, broken: Option<u64>, why: &str) -> SharedError {
        let change = permit.failed(Instant::now());
        {
            let mut link = self.link.lock();
            // Where answers merely stay out, the connection may be dead without anyone knowing: try a new one.
            if broken == Some(link.number) || change == Change::Opened {
                link.connection = None;
            }
        }
        if let Some(unsaid) = self.outages.pass(Instant::now()) {
            tracing::warn!(redis.address = %self.address, error = why, unsaid, "Redis is unavailable");
        }
        SharedError::Unavailable(format!("{}: {why}", self.address).into())
    }

    fn refused(&self, why: &redis::RedisError) -> SharedError {
        if let Some(unsaid) = self.refusals.pass(Instant::now()) {
            tracing::warn!(redis.address = %self.address, error = %why, unsaid, "Redis refused a command");
        }
        SharedError::Refused(format!("{}: {why}", self.address).into())
    }
}

/// Whether an error tells of Redis as a whole, and not of the one command that met it.
fn is_outage(why: &redis::RedisError) -> bool {
    match why.kind() {
        ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::Parse => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly | ServerErrorKind::ClusterDown
        ),
        _ => false,
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2).max(1)
}
