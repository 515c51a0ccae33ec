//! From the configuration to what the gateway works with: limits, prices, and who signs tokens. All of it is made once
//! while the configuration is checked, so that what `serve` refuses, `check` refuses in the same words.

use std::sync::Arc;
use std::time::Duration;

use super::errors::Errors;
use super::{Config, Limit, Prices};
use crate::clock::SystemClock;
use crate::identity::{Directory, IssuerKeys, SettingsError, Verifier, VerifierSettings};
use crate::limits::rules::{LimitRule, RuleError, Rules};
use crate::limits::{Mode, Resource, Window};
use crate::prices::{PriceTable, PriceTableError};
use crate::records::{journal, recorder};
use crate::shared::RedisSettings;

/// How far the clocks of those who sign tokens may be apart from ours: the most that is allowed.
const LEEWAY: Duration = Duration::from_mins(1);

impl Config {
    /// The limits, ready to be looked up.
    ///
    /// # Errors
    ///
    /// Every pair of limits that contradict each other.
    pub fn rules(&self) -> Result<Rules, Vec<RuleError>> {
        let rules = Rules::new(self.limits.iter().map(Limit::rule).collect())?;
        Ok(rules.with_token_caps(self.limits_defaults.mode.unwrap_or(Mode::Enforce), self.store.on_failure))
    }

    /// What judges tokens, for the orgs of this directory.
    ///
    /// # Errors
    ///
    /// When a key cannot be used, or is used twice.
    pub fn verifier(&self, directory: Arc<Directory>) -> Result<Verifier, SettingsError> {
        let settings = VerifierSettings {
            librechat_secret: self.librechat.jwt_secret.expose().as_bytes(),
            default_org: self.librechat.default_org.as_deref().map(str::to_owned),
            trust_email_domains: self.librechat.trust_email_domains,
            issuers: self.issuers.clone(),
            leeway: LEEWAY,
        };
        Verifier::new(settings, directory)
    }
}

impl Limit {
    fn rule(&self) -> LimitRule {
        LimitRule {
            name: self.name().into(),
            applies_to: self.applies_to,
            org: self.org.clone(),
            plan: self.plan.clone(),
            role: self.role.clone(),
            member: self.member.clone(),
            tokens_per_day: self.amount(Resource::Tokens, Window::Day),
            tokens_per_month: self.amount(Resource::Tokens, Window::Month),
            messages_per_day: self.amount(Resource::Messages, Window::Day),
            messages_per_month: self.amount(Resource::Messages, Window::Month),
            usd_per_day: self.amount(Resource::Cost, Window::Day),
            usd_per_month: self.amount(Resource::Cost, Window::Month),
            mode: self.mode,
            on_failure: self.on_failure,
        }
    }
}

impl Prices {
    /// The price table: the configured file, or the one that is built in.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no price table.
    pub fn table(&self) -> Result<PriceTable, PriceTableError> {
        match &self.file {
            None => PriceTable::built_in(),
            Some(file) => {
                PriceTable::parse(&std::fs::read_to_string(file).map_err(|error| PriceTableError::Unreadable(error.to_string()))?)
            }
        }
    }
}

impl Prices {
    /// Which table is used, and its version, for people.
    pub fn shown(&self) -> String {
        let file = self.file.as_ref().map_or_else(|| "built in".to_owned(), |file| file.display().to_string());
        let version = self.table().map_or_else(|error| error.to_string(), |table| format!("version {}", table.version()));
        format!("{file}, {version}")
    }
}

impl super::Store {
    /// How to reach the Redis at this address.
    pub fn redis(&self, url: &super::Secret) -> RedisSettings {
        RedisSettings {
            connect_timeout: self.timeout,
            response_timeout: self.timeout,
            prefix: self.prefix.clone(),
            ..RedisSettings::new(url.expose())
        }
    }
}

impl super::Records {
    /// How rows wait and are written.
    pub fn recorder(&self) -> recorder::Settings {
        recorder::Settings {
            row_log: None,
            journal: journal::Settings {
                file: self.journal.clone(),
                or_next: !self.journal_is_named,
                max_bytes: self.journal_max_bytes,
                sync: self.journal_sync == super::records::JournalSync::Full,
            },
            when_full: self.when_full,
            audit_room: self.audit_queue_rows,
            batch_rows: self.batch_rows,
            linger: self.flush_after,
            proof: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Tries the price table.
pub(super) fn check_prices(prices: &Prices, errors: &mut Errors) {
    if let (Some(file), Err(error)) = (&prices.file, prices.table()) {
        errors.add("prices.file", format!("{} is no price table: {error}", file.display()));
    }
}

/// Looks for limits that contradict each other. What is wrong with one of them alone was said by its own check.
pub(super) fn check_ties(limits: &[Limit], errors: &mut Errors) {
    let Err(contradictions) = Rules::new(limits.iter().map(Limit::rule).collect()) else { return };
    for error in &contradictions {
        if let RuleError::Tie { second, .. } = error {
            errors.add(&**second, error.to_string());
        }
    }
}

/// Makes what was not made yet of a configuration in which nothing wrong was found so far.
pub(super) fn check(config: &Config, errors: &mut Errors) {
    if let Err(contradictions) = config.rules() {
        for error in &contradictions {
            errors.add("limits", error.to_string());
        }
    }
    if let Err(error) = config.verifier(Arc::new(Directory::new(config.orgs.clone()))) {
        errors.add(place_of(config, &error), error.to_string());
    }
}

fn place_of(config: &Config, error: &SettingsError) -> String {
    let (issuer, key) = match error {
        SettingsError::NoLibreChatSecret => return "librechat.jwt_secret".to_owned(),
        SettingsError::UnknownDefaultOrg(_) => return "librechat.default_org".to_owned(),
        SettingsError::LeewayTooLong => return String::new(),
        SettingsError::UnknownOrg { issuer, .. } => (issuer, "orgs"),
        SettingsError::SameName(issuer) => (issuer, "name"),
        SettingsError::ReservedIssuer(issuer) => (issuer, "issuer"),
        SettingsError::TooWide { issuer, what, .. } => (issuer, *what),
        SettingsError::BadKey { issuer, .. } | SettingsError::SharedKey { issuer, .. } => (issuer, ""),
    };
    let Some(index) = config.issuers.iter().position(|candidate| candidate.name == *issuer) else { return "issuers".to_owned() };
    let key = match (key, &config.issuers[index].keys) {
        ("", IssuerKeys::Secrets(_)) => "secret",
        ("", IssuerKeys::Pem(..)) => "public_key_file",
        ("", IssuerKeys::Published(..)) => "jwks_url",
        (key, _) => key,
    };
    format!("issuers[{index}].{key}")
}
