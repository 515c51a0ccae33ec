//! Reads the price table's TOML. Amounts are taken from the text as it is written, so that no float is ever in between.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::money::parse_usd;
use super::table::{Model, Price};

const TOP_KEYS: &[&str] = &["version", "default", "models"];
const MODEL_KEYS: &[&str] = &["name", "aliases", "prices"];
const AMOUNT_KEYS: &[&str] = &["input", "output", "cache_read", "cache_write"];
const PRICE_KEYS: &[&str] = &["effective_from", "input", "output", "cache_read", "cache_write"];

/// What is wrong with a price table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceTableError {
    /// Its file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The text is not TOML; the message says where.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// Something at one place is wrong.
    #[error("{path}: {problem}")]
    At {
        /// The place, like `models[3].prices[0].input`.
        path: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

impl PriceTableError {
    pub(super) fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::At { path: path.into(), problem: problem.into() }
    }
}

/// What the text says.
pub(super) struct Loaded {
    pub(super) version: String,
    pub(super) default_price: Price,
    pub(super) models: Vec<Model>,
}

/// Reads the whole text.
pub(super) fn load(toml: &str) -> Result<Loaded, PriceTableError> {
    let document: DocumentMut = toml.parse().map_err(|error: toml_edit::TomlError| PriceTableError::Syntax(error.to_string()))?;
    let top = Section { path: String::new(), table: document.as_table() };
    top.allow_only(TOP_KEYS)?;
    let version = top.string("version")?;
    let default = top.section("default")?;
    default.allow_only(AMOUNT_KEYS)?;
    let models = top.sections("models")?.iter().map(model).collect::<Result<_, _>>()?;
    Ok(Loaded { version, default_price: price(&default)?, models })
}

fn model(section: &Section<'_>) -> Result<Model, PriceTableError> {
    section.allow_only(MODEL_KEYS)?;
    let mut prices = Vec::new();
    for entry in section.sections("prices")? {
        entry.allow_only(PRICE_KEYS)?;
        prices.push((entry.effective_from()?, price(&entry)?));
    }
    if prices.is_empty() {
        return Err(PriceTableError::at(section.path_of("prices"), "a model needs at least one price"));
    }
    prices.sort_by_key(|&(from, _)| from);
    if prices.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(PriceTableError::at(section.path_of("prices"), "two prices have the same effective_from"));
    }
    Ok(Model { name: section.string("name")?, aliases: section.strings("aliases")?, prices })
}

/// Cached input costs what input costs, where nothing else is said.
fn price(section: &Section<'_>) -> Result<Price, PriceTableError> {
    let input = section.amount("input")?.ok_or_else(|| section.missing("input"))?;
    let output = section.amount("output")?.ok_or_else(|| section.missing("output"))?;
    Ok(Price {
        input,
        output,
        cache_read: section.amount("cache_read")?.unwrap_or(input),
        cache_write: section.amount("cache_write")?.unwrap_or(input),
    })
}

/// A table and its path, so that every error can say where it is.
struct Section<'a> {
    path: String,
    table: &'a dyn TableLike,
}

impl<'a> Section<'a> {
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn wrong(&self, key: &str, problem: impl Into<String>) -> PriceTableError {
        PriceTableError::at(self.path_of(key), problem)
    }

    fn missing(&self, key: &str) -> PriceTableError {
        self.wrong(key, "is missing")
    }

    fn allow_only(&self, allowed: &[&str]) -> Result<(), PriceTableError> {
        match self.table.iter().find(|(key, _)| !allowed.contains(key)) {
            Some((key, _)) => Err(self.wrong(key, format!("unknown key; allowed: {}", allowed.join(", ")))),
            None => Ok(()),
        }
    }

    fn string(&self, key: &str) -> Result<String, PriceTableError> {
        let item = self.table.get(key).ok_or_else(|| self.missing(key))?;
        self.non_empty(key, item.as_str())
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, PriceTableError> {
        let Some(item) = self.table.get(key) else { return Ok(Vec::new()) };
        let array = item.as_array().ok_or_else(|| self.wrong(key, "must be a list of text"))?;
        array.iter().enumerate().map(|(place, value)| self.non_empty(&format!("{key}[{place}]"), value.as_str())).collect()
    }

    fn non_empty(&self, key: &str, text: Option<&str>) -> Result<String, PriceTableError> {
        text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| self.wrong(key, "must be text, not empty"))
    }

    fn section(&self, key: &str) -> Result<Self, PriceTableError> {
        let item = self.table.get(key).ok_or_else(|| self.missing(key))?;
        let table = item.as_table_like().ok_or_else(|| self.wrong(key, "must be a table"))?;
        Ok(Self { path: self.path_of(key), table })
    }

    /// A list of tables, however it is written: `[[models]]` or `[{...}]`.
    fn sections(&self, key: &str) -> Result<Vec<Self>, PriceTableError> {
        let tables: Vec<Option<&'a dyn TableLike>> = match self.table.get(key) {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| Some(table as &dyn TableLike)).collect(),
            Some(Item::Value(Value::Array(values))) => {
                values.iter().map(|value| value.as_inline_table().map(|table| table as &dyn TableLike)).collect()
            }
            Some(_) => return Err(self.wrong(key, "must be a list of tables")),
        };
        let tables = tables.into_iter().enumerate().map(|(place, table)| {
            let path = format!("{}[{place}]", self.path_of(key));
            match table {
                Some(table) => Ok(Self { path, table }),
                None => Err(PriceTableError::at(path, "must be a table")),
            }
        });
        tables.collect()
    }

    /// An amount in dollars, from a whole number, a decimal or text, as nano-dollars.
    fn amount(&self, key: &str) -> Result<Option<u64>, PriceTableError> {
        let Some(item) = self.table.get(key) else { return Ok(None) };
        let written = match item.as_value() {
            Some(Value::Integer(number)) => number.display_repr().into_owned(),
            Some(Value::Float(number)) => number.display_repr().into_owned(),
            Some(Value::String(text)) => text.value().clone(),
            _ => return Err(self.wrong(key, "must be an amount in dollars, like 5 or 0.075")),
        };
        parse_usd(written.trim()).map(Some).map_err(|why| self.wrong(key, format!("{why} (found {written})")))
    }

    /// The beginning of a day in UTC, or of time where nothing is said.
    fn effective_from(&self) -> Result<Timestamp, PriceTableError> {
        const KEY: &str = "effective_from";
        let Some(item) = self.table.get(KEY) else { return Ok(Timestamp::MIN) };
        let written = match item.as_value() {
            Some(Value::Datetime(date)) => date.value().to_string(),
            Some(Value::String(text)) => text.value().clone(),
            _ => String::new(),
        };
        if let Ok(instant) = written.parse::<Timestamp>() {
            return Ok(instant);
        }
        let day = written.parse::<Date>().ok().filter(|day| day.to_string() == written);
        day.and_then(|day| day.to_zoned(TimeZone::UTC).ok())
            .map(|midnight| midnight.timestamp())
            .ok_or_else(|| self.wrong(KEY, "must be a date, like 2026-11-20, or an instant, like 2026-11-20T09:00:00Z"))
    }
}
