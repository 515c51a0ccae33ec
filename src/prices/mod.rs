//! What models cost, and money arithmetic.
//!
//! Money is whole nano-dollars everywhere (a dollar is 1,000,000,000), read from decimal text and never through a float.
//! [`PriceTable`] knows what each model costs at which time; the table that comes with the program is
//! `config/prices.toml`, which also documents the format.

mod loader;
mod money;
mod table;

use serde::Deserialize;

pub use loader::PriceTableError;
pub use money::{MoneyError, Usd, format_usd, parse_usd};
pub use table::{Found, Price, PriceTable, Usage};

/// What happens to a model that the price table does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownModel {
    /// It costs what the table's default says.
    DefaultPrice,
    /// Its chats are refused.
    Reject,
    /// It costs nothing.
    Free,
}
