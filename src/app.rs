//! Every shared handle.

mod build;
mod open;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::clock::SharedClock;
use crate::config::Config;
use crate::db::Database;
use crate::generations::Generations;
use crate::identity::directory::arrivals::Arrivals;
use crate::identity::directory::refresh;
use crate::identity::directory::store::DirectoryStore;
use crate::identity::keys::ApiKeyStore;
use crate::identity::keys::news::News;
use crate::identity::keys::notes::Notes;
use crate::identity::sign_in::SignIn;
use crate::identity::{Accounts, AgentKeys, Directory, Logins, Minter, Verifier};
use crate::librechat::client::LibreChat;
use crate::librechat::upstreams::Place;
use crate::limits::caps::Caps;
use crate::limits::explain::{self, Explained};
use crate::limits::restoring::RestoringStore;
use crate::limits::rules::{Amounts, Rules, Who};
use crate::limits::{Charge, Store};
use crate::prices::PriceTable;
use crate::records::anchoring::anchor_before;
use crate::records::audit_keys::AuditKeys;
use crate::records::member_keys::MemberKeys;
use crate::records::refused_tokens::RefusedTokens;
use crate::records::retention::{EventTable, Held, Removed};
use crate::records::{NameKey, RecordStore, Recorder, Redactor, RowLog};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::system::machine::Machine;
use crate::telemetry::traces::Traces;
use crate::tokens::TokenCounter;

pub use self::build::{BuildError, database_url};
pub use self::open::{Flag, OpenRequest, OpenRequests, OpenStream};

/// How long an API key is remembered that is over: whoever still uses it is told apart from who invents one.
const KEPT_AFTER_ITS_END: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Every shared handle of one gateway.
#[derive(Debug)]
pub struct App {
    /// What was configured.
    pub config: Config,
    /// The time.
    pub clock: SharedClock,
    /// The orgs.
    pub directory: Arc<Directory>,
    /// Where it is kept.
    pub orgs_and_members: Arc<dyn DirectoryStore>,
    /// Takes note of who is seen.
    pub arrivals: Arrivals,
    /// Judges tokens.
    pub verifier: Verifier,
    /// Makes LibreChat tokens.
    pub minter: Arc<Minter>,
    /// Confirms the LibreChat accounts that issuers name.
    pub accounts: Arc<Accounts>,
    /// Signs people in for whom an application vouches, where that is done here.
    pub sign_in: Option<SignIn>,
    /// Confirms LibreChat's API keys.
    pub agent_keys: AgentKeys,
    /// Where keys are kept.
    pub api_keys: Arc<dyn ApiKeyStore>,
    /// Hears of keys that were made a moment ago.
    pub key_news: News,
    /// Takes note of keys that are used, made and deleted.
    pub key_notes: Notes,
    /// Watches sign-ins with LibreChat's own accounts, where they are watched.
    pub logins: Option<Logins>,
    /// What rows call names that people tried.
    pub names: NameKey,
    /// Counts text.
    pub counter: Arc<TokenCounter>,
    /// What tokens cost.
    pub prices: Arc<PriceTable>,
    /// Which limits apply to whom.
    pub rules: Rules,
    /// Counters and reservations.
    pub store: Arc<dyn Store>,
    /// The same, as what restores and compares them with the usage rows.
    pub counters: Arc<RestoringStore>,
    /// How full the caps of orgs are.
    pub caps: Caps,
    /// Whether other replicas use the same store.
    pub store_is_shared: bool,
    /// The database, to read rows.
    pub records: Arc<dyn RecordStore>,
    /// The keys that personal fields of audit rows are read with.
    pub member_keys: Arc<dyn MemberKeys>,
    /// Where rows go.
    pub recorder: Recorder,
    /// Writes rows into log files, where these are wanted.
    pub row_log: Option<RowLog>,
    /// Takes traces to the collector, where there is one.
    pub traces: Option<Traces>,
    /// Counts refused tokens.
    pub refused_tokens: RefusedTokens,
    /// Strikes out what must not be written down.
    pub redactor: Redactor,
    /// What runs now.
    pub generations: Arc<Generations>,
    /// Speaks to LibreChat.
    pub librechat: LibreChat,
    /// The numbers that are watched.
    pub metrics: Arc<Metrics>,
    /// The machine it runs on.
    pub machine: Machine,
    /// This process, unlike any other; the same after a restart with the same journal.
    pub replica: Arc<str>,
    /// How long this process may stay silent before its generations are taken over.
    pub lease: Duration,
    /// Set once the process is stopping.
    pub draining: Flag,
    /// Set once everything is up.
    pub ready: Flag,
    /// Requests that are being served.
    pub open_requests: OpenRequests,
    audit_keys: AuditKeys,
    database: Database,
}

impl App {
    /// What a message adds to each counter that a limit stands on. Where limits are observed, none of them refuses.
    pub fn charges(&self, who: &Who<'_>, amounts: &Amounts, now: Timestamp) -> Vec<Charge> {
        let charges = self.rules.charges(who, amounts, now);
        if self.directory.is_observed(who.org) { charges.into_iter().map(Charge::observed).collect() } else { charges }
    }

    /// How full the counters of these charges are, for people. A store that is away leaves their use unknown.
    pub async fn levels_of(&self, charges: &[Charge]) -> Vec<Explained> {
        explain::levels(&*self.store, charges).await
    }

    /// A stream passes through here until the guard is dropped.
    pub fn open_stream(&self) -> OpenStream {
        self.metrics.stream_opened();
        OpenStream(self.metrics.clone())
    }

    /// One round of removing rows that are too old. Answers whether there is more to remove.
    pub async fn retain_records(&self) -> bool {
        let (retention, now) = (&self.config.records.retention, self.clock.now());
        let held: Held = self.directory.orgs().iter().filter(|org| org.legal_hold).map(|org| org.id.clone()).collect();
        let cutoff = retention.cutoff(EventTable::Audit, now);
        // What is removed without an anchor would look as if somebody had taken it out.
        if let Err(error) = anchor_before(&*self.database.chains(), &self.audit_keys.signer, cutoff, |org| held.contains(org), now).await {
            tracing::warn!(error = %error, "retention: the chains of the audit log cannot be anchored, so that nothing is removed");
            return false;
        }
        match self.database.retain(retention, &held, now).await {
            Ok(removed) => {
                for Removed { table, count, .. } in removed.iter().filter(|removed| removed.count > 0) {
                    tracing::info!(records.table = table.name(), records.removed = count, "old rows were removed");
                }
                removed.iter().any(|removed| removed.more)
            }
            Err(error) => {
                tracing::warn!(error = %error, "retention");
                false
            }
        }
    }

    /// One round of asking every LibreChat how it is, and which of them an operator has drained.
    pub async fn check_upstreams(&self) {
        let upstreams = self.librechat.upstreams();
        join_all(upstreams.all().iter().map(|place| self.check_upstream(place))).await;
        if !upstreams.are_several() {
            return;
        }
        match self.database.drained_upstreams().await {
            Ok(names) => upstreams.set_drained(&names),
            Err(error) => tracing::debug!(%error, "which LibreChats are drained cannot be read; it stays as it was"),
        }
    }

    async fn check_upstream(&self, place: &Place) {
        place.address().look_up().await;
        let is_well = self.librechat.health(place).await.is_ok();
        place.was_asked(is_well, self.clock.now());
        self.metrics.upstream_up(place.name(), place.is_alive());
    }

    /// Takes in what changed in the directory, at once. Answers whether the database did.
    pub async fn refresh_directory(&self) -> bool {
        match refresh::once(&self.directory, &*self.orgs_and_members).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(error = %error, "the directory cannot be read");
                false
            }
        }
    }

    /// Forgets API keys that have been over for a while.
    pub async fn tidy_keys(&self) {
        let before = self.clock.now().saturating_sub(KEPT_AFTER_ITS_END).unwrap_or(Timestamp::MIN);
        self.directory.forget_keys(before);
        if let Err(error) = self.api_keys.tidy(before).await {
            tracing::warn!(error = %error, "API keys that are over could not be removed");
        }
    }

    /// How many connections to the database are in use, and how many are idle.
    pub fn database_connections(&self) -> (usize, usize) {
        self.database.connections()
    }

    /// Closes the database, after everything was written.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
