//! Configuration: read, checked and frozen before a socket opens.
//!
//! Four layers lie over each other: the defaults of `config/tollgate.toml`, which are part of the binary; the operator's
//! file; LibreChat's own `JWT_SECRET` and `JWT_REFRESH_SECRET`; and `TOLLGATE_SECTION__KEY`. Tables merge, everything else,
//! lists too, replaces. Whatever is wrong is reported at once, each with its path, where it was written and what is
//! allowed. A [`Config`] that exists is good.

mod access;
mod api_keys;
mod chats;
mod environment;
mod errors;
mod issuers;
mod layers;
mod librechat;
mod limits;
mod listeners;
mod logins;
pub(crate) mod orgs;
mod prices;
mod process;
mod read;
mod ready;
mod records;
pub mod reference;
mod secret;
mod sign_in;
mod store;
mod system;
mod tools;
mod traces;
mod urls;
mod values;
mod warnings;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

pub use api_keys::ApiKeySettings;
pub use chats::{Body, Estimate, Generations};
pub use errors::{ConfigError, ConfigErrors};
pub use librechat::{AgentApi, HealthChecks, LibreChat, Upstream};
pub use limits::{Limit, LimitsDefaults};
pub use listeners::{Admin, Metrics, Public};
pub use prices::Prices;
pub use process::{Insecure, Log, LogFiles, LogLevel, Runtime, Shutdown};
pub use records::{Audit, JournalSync, Records, RecordsUrl};
pub use secret::Secret;
pub use store::{Store, StoreUrl};
pub use system::System;
pub use tools::Tools;
pub use traces::Traces;

use crate::identity::IssuerSettings;
use crate::identity::directory::Org;
use crate::identity::logins::LoginSettings;
use crate::identity::sign_in::SignInSettings;
use errors::Errors;
use layers::{Origin, Table};

/// The documented defaults: the built-in layer, word for word `config/tollgate.toml`.
pub const DEFAULTS: &str = include_str!("../../config/tollgate.toml");

/// Everything that can be set. Prints no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// The listener that stands where LibreChat stood.
    pub public: Public,
    /// The listener of the admin API.
    pub admin: Admin,
    /// The listener of metrics and health.
    pub metrics: Metrics,
    /// The LibreChats behind Tollgate.
    pub librechat: LibreChat,
    /// Who signs org-scoped tokens.
    pub issuers: Vec<IssuerSettings>,
    /// The tenants; ids and domains are unique.
    pub orgs: Vec<Org>,
    /// Who may use how much. No two of them contradict each other.
    pub limits: Vec<Limit>,
    /// What limits do that do not say it themselves; already applied to `limits`.
    pub limits_defaults: LimitsDefaults,
    /// Watching sign-ins with LibreChat's own accounts; nothing where they are not watched.
    pub logins: Option<LoginSettings>,
    /// Signing in through Tollgate; nothing where nobody does.
    pub sign_in: Option<SignInSettings>,
    /// Keys of members for their own programs.
    pub api_keys: ApiKeySettings,
    /// The opening estimate of a chat.
    pub estimate: Estimate,
    /// Where counters and reservations live.
    pub store: Store,
    /// Where usage and audit rows are written.
    pub records: Records,
    /// The price table.
    pub prices: Prices,
    /// Following runs to their end.
    pub generations: Generations,
    /// What is written down of tool calls.
    pub tools: Tools,
    /// Request bodies that are read whole.
    pub body: Body,
    /// Stopping.
    pub shutdown: Shutdown,
    /// The log.
    pub log: Log,
    /// Traces of messages.
    pub traces: Traces,
    /// Threads.
    pub runtime: Runtime,
    /// How the machine is watched.
    pub system: System,
    /// Switches that give up a protection.
    pub insecure: Insecure,
    /// What is allowed but probably not meant, in sentences for the operator.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads, checks and freezes the configuration. Without a file the defaults are the lowest layer alone. `environment`
    /// is passed in so that nothing else reads it. Every error is reported at once.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        let Some(file) = file else { return Self::from_text("", "", environment) };
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::from_text(&text, &name, environment),
            Err(error) => {
                let mut errors = Errors::default();
                errors.whole(format!("cannot read the configuration {name}: {error}"), None);
                Err(errors.finish(&Table::new()))
            }
        }
    }

    /// Like [`Config::load`], from the text of a file; `name` is what errors call it.
    pub fn from_text(text: &str, name: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        let mut errors = Errors::default();
        let name: Arc<str> = name.into();
        let built_in = built_in_layer()?;
        let file = parse_layer(text, &name, &|line| Origin::File { name: name.clone(), line })?;

        let mut tree = built_in.clone();
        layers::merge(&mut tree, file);
        for layer in environment::layers(environment, &mut errors) {
            layers::merge(&mut tree, layer);
        }
        let config = read::read::<Sections>(&tree, built_in, &mut errors).and_then(|sections| sections.check(&tree, &mut errors));
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(errors.finish(&tree)),
        }
    }
}

/// The defaults, which are read once.
fn built_in_layer() -> Result<&'static Table, ConfigErrors> {
    static LAYER: OnceLock<Table> = OnceLock::new();
    if let Some(layer) = LAYER.get() {
        return Ok(layer);
    }
    let layer = parse_layer(DEFAULTS, "the built-in defaults", &|_| Origin::BuiltIn)?;
    Ok(LAYER.get_or_init(|| layer))
}

/// A text that is no TOML says nothing about its settings, so that this is the only error then.
fn parse_layer(text: &str, name: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Table, ConfigErrors> {
    layers::parse(text, origin).map_err(|error| {
        let place = error.line.map_or_else(|| name.to_owned(), |line| format!("{name}, line {line}"));
        let mut errors = Errors::default();
        errors.whole(format!("the configuration is not valid TOML: {}", error.message), Some(place));
        errors.finish(&Table::new())
    })
}

/// The top of the tree as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    public: Public,
    admin: Admin,
    metrics: Metrics,
    librechat: librechat::LibreChatKeys,
    #[serde(default)]
    issuers: Vec<issuers::IssuerEntry>,
    #[serde(default)]
    orgs: Vec<orgs::OrgKeys>,
    #[serde(default)]
    limits: Vec<limits::LimitKeys>,
    #[serde(default)]
    limits_defaults: LimitsDefaults,
    logins: logins::LoginsKeys,
    sign_in: sign_in::SignInKeys,
    api_keys: ApiKeySettings,
    estimate: Estimate,
    store: store::StoreKeys,
    records: records::RecordsKeys,
    prices: prices::PricesKeys,
    generations: Generations,
    tools: tools::ToolsKeys,
    body: Body,
    shutdown: Shutdown,
    log: Log,
    traces: Traces,
    runtime: Runtime,
    system: system::SystemKeys,
    insecure: Insecure,
}

impl Sections {
    /// Checks what the parts have to do with each other and the world. `None` only when something was reported.
    fn check(self, tree: &Table, errors: &mut Errors) -> Option<Config> {
        listeners::check(&self.public, &self.admin, &self.metrics, errors);
        chats::check(&self.estimate, errors);
        process::check(&self.log, errors);
        traces::check(&self.traces, errors);

        let orgs_before = errors.count();
        let orgs = orgs::check(self.orgs, errors);
        let ids: Vec<Arc<str>> = orgs.iter().map(|org| org.id.clone()).collect();
        let orgs_are_whole = errors.count() == orgs_before && !errors.clouds("orgs");
        let known = orgs_are_whole.then_some(&*ids);

        let librechat = librechat::check(self.librechat, &self.public, known, &self.insecure, errors);
        let issuers = issuers::check(self.issuers, librechat.as_ref(), known, &self.insecure, errors);
        let limits = limits::check(self.limits, &self.limits_defaults, self.store.on_failure, known, errors);
        let logins = logins::check(&self.logins, self.store.on_failure, errors);
        let sign_in = sign_in::check(self.sign_in, &self.insecure, errors);
        let store = store::check(self.store, errors);
        let records = records::check(self.records, errors);
        let tools = tools::check(&self.tools, errors);
        let system = system::check(self.system, errors);
        let by_nobody = matches!(layers::origin_of(tree, "prices.file"), None | Some(Origin::BuiltIn));
        let named = if by_nobody { prices::Named::ByNobody } else { prices::Named::ByOperator };
        let prices = prices::check(self.prices, named, errors);

        let mut config = Config {
            public: self.public,
            admin: self.admin,
            metrics: self.metrics,
            librechat: librechat?,
            issuers,
            orgs,
            limits,
            limits_defaults: self.limits_defaults,
            logins,
            sign_in,
            api_keys: self.api_keys,
            estimate: self.estimate,
            store: store?,
            records: records?,
            prices,
            generations: self.generations,
            tools,
            body: self.body,
            shutdown: self.shutdown,
            log: self.log,
            traces: self.traces,
            runtime: self.runtime,
            system,
            insecure: self.insecure,
            warnings: Vec::new(),
        };
        if errors.is_empty() {
            ready::check(&config, errors);
        }
        config.warnings = warnings::of(&config);
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of a section that `config/tollgate.toml` shows, set or commented out.
    fn documented(section: &str) -> Vec<&'static str> {
        let uncommented = |line: &'static str| line.strip_prefix("# ").unwrap_or(line);
        let headers = [format!("[{section}]"), format!("[[{section}]]")];
        let tables = format!("[{section}.");
        let tables = DEFAULTS.lines().filter_map(move |line| line.strip_prefix(&tables)?.strip_suffix(']'));
        let keys = DEFAULTS
            .lines()
            .map(uncommented)
            .skip_while(|line| !headers.iter().any(|header| line == header))
            .skip(1)
            .take_while(|line| !line.starts_with('[') && !line.starts_with("----"))
            .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
            .filter(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        tables.chain(keys).collect()
    }

    #[test]
    fn the_defaults_document_every_key_of_log_files() {
        let (mut shown, mut allowed) = (documented("log.files"), read::keys::<Log>(Some("files")).to_vec());
        shown.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(shown, allowed);
    }

    #[test]
    fn the_defaults_document_every_key() {
        let sections = read::keys::<Sections>(None);
        assert!(sections.len() > 10, "the sections were not found: {sections:?}");
        for section in sections {
            let keys = read::keys::<Sections>(Some(section));
            assert!(!keys.is_empty(), "the keys of [{section}] were not found");
            let mut shown = documented(section);
            shown.sort_unstable();
            let mut allowed = keys.to_vec();
            allowed.sort_unstable();
            assert_eq!(shown, allowed, "config/tollgate.toml (left) does not show exactly the keys of [{section}] (right)");
        }
    }
}
