//! What each model costs, and since when.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::loader::{self, PriceTableError};
use crate::limits::MAX_AMOUNT;

/// Prices are per so many tokens.
const TOKENS: u64 = 1_000_000;

/// Longer names are nobody's model; they are not looked up.
const MAX_NAME_BYTES: usize = 256;

/// The table that is part of the program.
const BUILT_IN: &str = include_str!("../../config/prices.toml");

/// What tokens of one model cost, in nano-dollars per million tokens. Each is at most [`MAX_AMOUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Input that no cache has seen.
    pub input: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Input read from the provider's cache.
    pub cache_read: u64,
    /// Input written to the provider's cache.
    pub cache_write: u64,
}

/// The tokens of one or more calls to one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Of the input: read from the provider's cache.
    pub cache_read: u64,
    /// Of the input: written to the provider's cache.
    pub cache_write: u64,
}

impl Price {
    /// Nothing costs anything.
    pub const FREE: Self = Self { input: 0, output: 0, cache_read: 0, cache_write: 0 };

    /// What a usage costs in nano-dollars, rounded up once at the end, at most [`MAX_AMOUNT`].
    ///
    /// Where the cached parts are said to be more than the input, they are charged as said and nothing is left over.
    pub fn cost(&self, usage: Usage) -> u64 {
        let fresh = usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write);
        let parts =
            [(fresh, self.input), (usage.output, self.output), (usage.cache_read, self.cache_read), (usage.cache_write, self.cache_write)];
        // No product overflows: both factors are below 2^64. Their sum would, for absurd amounts, so it saturates.
        let total = parts.iter().fold(0_u128, |sum, &(tokens, price)| sum.saturating_add(u128::from(tokens) * u128::from(price)));
        u64::try_from(total.div_ceil(u128::from(TOKENS))).unwrap_or(MAX_AMOUNT).min(MAX_AMOUNT)
    }

    /// What one fresh input token costs in nano-dollars, rounded up; for estimates. How much of the input will be read from
    /// or written to a cache is not known in front; the settlement knows.
    pub fn input_nanos_per_token_ceil(&self) -> u64 {
        self.input.div_ceil(TOKENS)
    }

    /// What one output token costs in nano-dollars, rounded up; for estimates.
    pub fn output_nanos_per_token_ceil(&self) -> u64 {
        self.output.div_ceil(TOKENS)
    }
}

/// What the table says of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// The price in force.
    Known(&'a Price),
    /// The table has no such model; the policy [`super::UnknownModel`] decides.
    Unknown,
}

/// The prices of all known models.
///
/// A name finds its model as it is written, in any case; else as the longest known name that it starts with and after
/// which one of `- @ : _` follows (`gpt-4o-2024-08-06` is `gpt-4o`, `gpt-4.1` is not `gpt-4`); else the same again without
/// the providers in front (`openai/`, `openrouter/openai/`, `us.anthropic.`).
#[derive(Debug, Clone)]
pub struct PriceTable {
    version: Arc<str>,
    default_price: Price,
    models: Vec<Model>,
    /// From names and aliases in lower case to places in `models`.
    by_name: HashMap<String, usize>,
}

/// One model: its name as the table writes it, and its prices, the earliest first, never none.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) prices: Vec<(Timestamp, Price)>,
}

impl PriceTable {
    /// Reads a table from TOML text in the format of `config/prices.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, or a key is unknown, missing, double or has a wrong value; the error names its path.
    pub fn parse(toml: &str) -> Result<Self, PriceTableError> {
        let loaded = loader::load(toml)?;
        let mut by_name = HashMap::new();
        for (place, model) in loaded.models.iter().enumerate() {
            for name in std::iter::once(&model.name).chain(&model.aliases) {
                if by_name.insert(name.to_ascii_lowercase(), place).is_some() {
                    return Err(PriceTableError::at(format!("models[{place}]"), format!("the name {name:?} is already in the table")));
                }
            }
        }
        Ok(Self { version: loaded.version.into(), default_price: loaded.default_price, models: loaded.models, by_name })
    }

    /// The table that is part of the program.
    ///
    /// # Errors
    /// Never in a released program: a test reads it.
    pub fn built_in() -> Result<Self, PriceTableError> {
        static TABLE: OnceLock<PriceTable> = OnceLock::new();
        if let Some(table) = TABLE.get() {
            return Ok(table.clone());
        }
        let table = Self::parse(BUILT_IN)?;
        Ok(TABLE.get_or_init(|| table).clone())
    }

    /// What the table is called in usage rows.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// What a model costs that the table does not know, where that is the policy.
    pub fn default_price(&self) -> &Price {
        &self.default_price
    }

    /// The price of a model that was in force at a time. Before its first effective date a model costs what it did first.
    pub fn price(&self, model: &str, at: Timestamp) -> Found<'_> {
        let in_force = self.find(model).and_then(|model| {
            let later = model.prices.partition_point(|&(from, _)| from <= at);
            model.prices.get(later.saturating_sub(1))
        });
        in_force.map_or(Found::Unknown, |(_, price)| Found::Known(price))
    }

    /// The table's own name for a model: one of a bounded set, so it can be a metric's label.
    pub fn known_name(&self, model: &str) -> Option<&str> {
        self.find(model).map(|model| model.name.as_str())
    }

    fn find(&self, model: &str) -> Option<&Model> {
        if model.len() > MAX_NAME_BYTES {
            return None;
        }
        let name =
            if model.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(model.to_ascii_lowercase()) } else { Cow::Borrowed(model) };
        std::iter::successors(Some(name.trim()), |name| without_provider(name))
            .find_map(|name| self.find_bare(name))
            .and_then(|place| self.models.get(place))
    }

    fn find_bare(&self, name: &str) -> Option<usize> {
        let prefixes = name.rmatch_indices(['-', '@', ':', '_']).map(|(end, _)| &name[..end]);
        std::iter::once(name).chain(prefixes).find_map(|prefix| self.by_name.get(prefix).copied())
    }
}

/// `openai/gpt-4o` without `openai/`; `us.anthropic.claude` without `us.`, but `gpt-4.1` has no provider.
fn without_provider(name: &str) -> Option<&str> {
    if let Some((_, rest)) = name.split_once('/') {
        return Some(rest);
    }
    let (provider, rest) = name.split_once('.')?;
    (!provider.is_empty() && provider.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(rest)
}

#[cfg(test)]
mod tests;
