//! `[prices]`: the price table.

use std::path::PathBuf;

use serde::Deserialize;

use super::errors::Errors;
use super::ready;
use crate::prices::UnknownModel;

/// The price table.
#[derive(Debug, Clone)]
pub struct Prices {
    /// Its file; `None` for the table that is part of the binary.
    pub file: Option<PathBuf>,
    /// What a model costs that the table does not know.
    pub unknown_model: UnknownModel,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PricesKeys {
    pub(super) file: PathBuf,
    unknown_model: UnknownModel,
}

/// Who named the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// The operator, in a file or a variable.
    ByOperator,
    /// The built-in defaults.
    ByNobody,
}

/// Checks the section. A file that nobody named need not be there: a binary alone prices by the table it carries.
pub(super) fn check(keys: PricesKeys, named: Named, errors: &mut Errors) -> Prices {
    let file = match std::fs::metadata(&keys.file) {
        Ok(found) if found.is_file() => Some(keys.file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named == Named::ByNobody => None,
        found => {
            let why = found.map_or_else(|error| error.to_string(), |_| "it is no file".to_owned());
            errors.add("prices.file", format!("cannot read {}: {why}; relative names start in the working directory", keys.file.display()));
            None
        }
    };
    let prices = Prices { file, unknown_model: keys.unknown_model };
    ready::check_prices(&prices, errors);
    prices
}
