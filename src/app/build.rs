//! Builds every shared handle, in one straight line.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::App;
use super::open::{Flag, OpenRequests};
use crate::clock::SharedClock;
use crate::config::{Config, RecordsUrl, StoreUrl};
use crate::db::{Database, DatabaseError};
use crate::generations::Generations;
use crate::generations::redis_board::RedisBoard;
use crate::generations::registry::{Parts, Settings};
use crate::identity::access::TenantId;
use crate::identity::directory::arrivals::Arrivals;
use crate::identity::directory::refresh;
use crate::identity::directory::store::{DirectoryError, PutStanding};
use crate::identity::keys::news::News;
use crate::identity::keys::notes::Notes;
use crate::identity::lockouts::Lockouts;
use crate::identity::lockouts::memory::MemoryLockouts;
use crate::identity::lockouts::redis::RedisLockouts;
use crate::identity::sign_in::{self, SignIn};
use crate::identity::{Accounts, AgentKeys, Directory, KeyStanding, LibreChatUser, Logins, LookupError, Minter, SettingsError};
use crate::librechat::client::{CallError, LibreChat, Person};
use crate::librechat::upstreams::Upstreams;
use crate::limits::caps::Caps;
use crate::limits::memory::MemoryStore;
use crate::limits::metered::MeteredStore;
use crate::limits::redis::RedisStore;
use crate::limits::restoring::{CLOCKS_DIFFER, RestoringStore};
use crate::limits::rules::RuleError;
use crate::limits::{Store, StoreError};
use crate::prices::PriceTable;
use crate::records::attest::Proof;
use crate::records::audit_keys::{AuditKeyError, AuditKeys};
use crate::records::journal::OpenError;
use crate::records::refused_tokens::RefusedTokens;
use crate::records::{NameKey, ReadError, Recorder, Redactor, RowLog, recorder};
use crate::shared::{Redis, SharedError};
use crate::telemetry::log_files::LogFiles;
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use crate::telemetry::system::machine::Machine;
use crate::telemetry::traces::{Traces, TracesError};
use crate::tokens::TokenCounter;

/// Why a gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Limits contradict each other.
    #[error("the limits contradict each other: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Limits(Vec<RuleError>),
    /// Issuers or secrets cannot be used.
    #[error("{0}")]
    Identity(#[from] SettingsError),
    /// The price table cannot be read.
    #[error("{0}")]
    Prices(#[from] crate::prices::PriceTableError),
    /// The encodings cannot be loaded.
    #[error("{0}")]
    Counter(#[from] crate::tokens::LoadError),
    /// The database cannot be opened.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// The counters cannot be restored from the usage rows.
    #[error("the counters cannot be restored: {0}")]
    Counters(StoreError),
    /// The journal cannot be opened.
    #[error("{0}")]
    Journal(#[from] OpenError),
    /// The keys of the audit log cannot be had.
    #[error("{0}")]
    Audit(#[from] AuditKeyError),
    /// The store cannot be used.
    #[error("the store: {0}")]
    Store(#[from] SharedError),
    /// The orgs of the configuration cannot be written.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    /// Orgs and members cannot be read.
    #[error("the directory of orgs and members: {0}")]
    Members(#[from] ReadError),
    /// The client of LibreChat cannot be built.
    #[error("{0}")]
    LibreChat(#[from] CallError),
    /// The log files cannot be written.
    #[error("log.files.folder: {0}")]
    LogFiles(std::io::Error),
    /// Traces cannot be sent.
    #[error("{0}")]
    Traces(#[from] TracesError),
    /// The patterns of what is struck out cannot be built.
    #[error("redaction: {0}")]
    Redaction(#[from] regex::Error),
    /// Metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl BuildError {
    /// Whether the configuration is at fault.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Limits(_) | Self::Identity(_) | Self::Prices(_) => true,
            Self::Database(error) => matches!(error, DatabaseError::UnknownScheme(_) | DatabaseError::BadUrl(_)),
            Self::Store(error) => matches!(error, SharedError::Settings(_)),
            _ => false,
        }
    }
}

impl App {
    /// Builds everything. What lives longer than a request runs on `runtime`.
    #[expect(clippy::too_many_lines, reason = "everything is built in one straight line")]
    pub async fn build(config: Config, clock: SharedClock, runtime: &Handle) -> Result<Arc<Self>, BuildError> {
        let directory = Arc::new(Directory::new(config.orgs.clone()));
        let rules = config.rules().map_err(BuildError::Limits)?;
        let prices = Arc::new(config.prices.table()?);
        let metrics = Arc::new(metrics(&prices, config.metrics.org_labels)?);
        let counter = Arc::new(TokenCounter::load()?);

        let minter = Arc::new(Minter::new(config.librechat.jwt_secret.expose().as_bytes()));
        let verifier = config.verifier(directory.clone())?;
        let upstreams = Arc::new(Upstreams::new(&config.librechat));
        let librechat = LibreChat::new(upstreams.clone(), minter.clone(), clock.clone())?;
        let accounts = Arc::new(accounts(&librechat, &clock));
        let agent_keys = agent_keys(&librechat, &clock);
        join_all(upstreams.all().iter().map(|place| place.address().look_up())).await;

        let database = Database::open(&database_url(&config.records.url))?;
        database.migrate().await?;
        database.try_to_write().await?;
        let records = database.records();
        let orgs_and_members = database.directory();
        orgs_and_members.put_orgs(&config.orgs, PutStanding::Kept, clock.now()).await?;
        refresh::once(&directory, &*orgs_and_members).await?;
        // Nothing runs yet that could be ended.
        directory.take_lost();
        let api_keys = database.api_keys();
        let key_notes = Notes::start(api_keys.clone(), clock.clone(), runtime);
        let arrivals = Arrivals::start(orgs_and_members.clone(), clock.clone(), runtime);
        let log_files = config.log.files.settings().map(|settings| LogFiles::start(settings, clock.clone())).transpose();
        let row_log = log_files.map_err(BuildError::LogFiles)?.map(|files| RowLog::new(files, config.log.files.personal_fields));
        let member_keys = database.member_keys();
        let audit_keys = AuditKeys::read_or_make(&config.records.audit_files)?;
        let proof = Proof {
            keys: audit_keys.clone(),
            members: member_keys.clone(),
            checkpoint_file: config.records.audit_files.checkpoint_file.clone(),
            clock: clock.clone(),
        };
        let writing =
            recorder::Settings { row_log: row_log.clone(), proof: Some(proof), clock: clock.clone(), ..config.records.recorder() };
        let (recorder, left) = Recorder::open(records.clone(), writing, runtime).await?;

        let Stores { store, board, lockouts } = stores(&config, runtime).await?;
        let secret = config.librechat.jwt_secret.expose().as_bytes();
        let logins = config.logins.clone().map(|settings| Logins::new(lockouts, settings, secret));
        let signing_in = sign_in::Parts {
            sessions: database.sessions(),
            directory: directory.clone(),
            members: orgs_and_members.clone(),
            accounts: accounts.clone(),
            librechat: librechat.clone(),
            minter: minter.clone(),
            clock: clock.clone(),
        };
        let sign_in = config.sign_in.clone().map(|settings| SignIn::new(settings, signing_in, secret));
        let clocks_differ = if board.is_some() { CLOCKS_DIFFER } else { 0 };
        let counters =
            RestoringStore::new(store, records.clone(), recorder.clone(), directory.clone(), clock.clone(), metrics.clone(), clocks_differ);
        let counters = Arc::new(counters);
        if board.is_none() {
            recorder.shipped().await.map_err(|error| BuildError::Counters(StoreError::Unavailable(error)))?;
            counters.restore_all().await.map_err(BuildError::Counters)?;
        }
        let store: Arc<dyn Store> = Arc::new(MeteredStore::new(counters.clone(), metrics.clone()));
        let replica: Arc<str> = recorder.id().to_string().into();
        let lease = config.generations.lease;
        let endpoint = config.traces.endpoint.as_deref();
        let traces = endpoint.map(|endpoint| Traces::start(&config.traces, endpoint, &replica, metrics.clone(), runtime)).transpose()?;
        let generations = Generations::new(Parts {
            settings: Settings {
                replica: replica.clone(),
                lease,
                follow_after: config.generations.follow_after,
                give_up_after: config.generations.give_up_after,
            },
            clock: clock.clone(),
            directory: directory.clone(),
            store: store.clone(),
            board: board.clone(),
            recorder: recorder.clone(),
            records: records.clone(),
            librechat: librechat.clone(),
            counter: counter.clone(),
            prices: prices.clone(),
            unknown_model: config.prices.unknown_model,
            tool_rules: config.tools.rules.clone(),
            metrics: metrics.clone(),
            traces: traces.clone(),
            runtime: runtime.clone(),
            store_restored: counters.restored(),
        });
        generations.take_up_left(left).await;

        Ok(Arc::new(Self {
            refused_tokens: RefusedTokens::new(Uuid::new_v4(), clock.clone()),
            redactor: Redactor::new()?,
            store_is_shared: board.is_some(),
            draining: Flag::default(),
            ready: Flag::default(),
            caps: Caps::default(),
            machine: Machine::new(config.system.server.clone().unwrap_or_else(|| replica.clone()), config.system.thresholds),
            open_requests: OpenRequests::default(),
            config,
            clock,
            directory,
            orgs_and_members,
            arrivals,
            verifier,
            minter,
            accounts,
            sign_in,
            agent_keys,
            api_keys,
            key_news: News::default(),
            key_notes,
            logins,
            names: NameKey::of(&audit_keys.chain),
            counter,
            prices,
            rules,
            store,
            counters,
            records,
            member_keys,
            recorder,
            row_log,
            traces,
            generations,
            librechat,
            metrics,
            replica,
            lease,
            audit_keys,
            database,
        }))
    }
}

fn metrics(prices: &Arc<PriceTable>, org_labels: usize) -> Result<Metrics, prometheus::Error> {
    let known = prices.clone();
    Metrics::new(MetricsSettings {
        version: env!("CARGO_PKG_VERSION"),
        org_labels,
        known_model: Box::new(move |model| known.known_name(model).map(str::to_owned)),
    })
}

/// LibreChat is asked about an account as that account itself: whoever holds its secret may.
fn accounts(librechat: &LibreChat, clock: &SharedClock) -> Accounts {
    let librechat = librechat.clone();
    let lookup = move |id: Arc<str>| {
        let librechat = librechat.clone();
        async move {
            let person = Person { user: id, org: Arc::from(""), address: "127.0.0.1".to_owned(), user_agent: String::new() };
            match librechat.user(&person).await {
                Ok(user) => Ok(Some(LibreChatUser { id: user.id, username: user.username, provider: user.provider, email: user.email })),
                Err(CallError::Status(401 | 404)) => Ok(None),
                Err(error) => Err(LookupError(error.to_string())),
            }
        }
    };
    Accounts::new(lookup, clock.clone())
}

/// LibreChat is asked about a key with the key, in the tenant of the org that it is counted to.
fn agent_keys(librechat: &LibreChat, clock: &SharedClock) -> AgentKeys {
    let librechat = librechat.clone();
    let lookup = move |key: String, address: String, tenant: Option<TenantId>| {
        let librechat = librechat.clone();
        async move {
            match librechat.models_of(&key, &address, tenant.as_ref()).await {
                Ok(()) => Ok(KeyStanding::Good),
                Err(CallError::Status(403)) => Ok(KeyStanding::Forbidden),
                // Before 0.8.3 there are no keys, and nothing or the page at this path.
                Err(CallError::Status(401 | 404) | CallError::Unreadable) => Ok(KeyStanding::Unknown),
                Err(error) => Err(LookupError(error.to_string())),
            }
        }
    };
    AgentKeys::new(lookup, clock.clone())
}

/// What several Tollgates share, where there is a Redis.
struct Stores {
    store: Arc<dyn Store>,
    board: Option<RedisBoard>,
    lockouts: Arc<dyn Lockouts>,
}

async fn stores(config: &Config, runtime: &Handle) -> Result<Stores, BuildError> {
    match &config.store.url {
        StoreUrl::Memory => {
            let (store, lockouts) = (MemoryStore::to_be_restored(), MemoryLockouts::default());
            Ok(Stores { store: Arc::new(store), board: None, lockouts: Arc::new(lockouts) })
        }
        StoreUrl::Redis(url) => {
            let redis = Redis::new(config.store.redis(url), runtime.clone())?;
            let store = RedisStore::to_be_restored(redis.clone());
            match store.self_test().await {
                Ok(()) => tracing::info!(redis.address = redis.address(), "Redis runs scripts"),
                Err(error) => {
                    tracing::error!(redis.address = redis.address(), error = %error, "the store cannot be used yet; starting without it");
                }
            }
            let lockouts = RedisLockouts::new(redis.clone());
            Ok(Stores { store: Arc::new(store), board: Some(RedisBoard::new(redis)), lockouts: Arc::new(lockouts) })
        }
    }
}

/// The url as the database takes it.
pub fn database_url(url: &RecordsUrl) -> String {
    match url {
        RecordsUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        RecordsUrl::Postgres(url) => url.expose().to_owned(),
    }
}
