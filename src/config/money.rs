//! Amounts of money in the configuration: decimal dollars in, whole nano-dollars out, never a float in between.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::limits::MAX_AMOUNT;

/// Nano-dollars in a dollar.
const NANOS: u64 = 1_000_000_000;

/// The largest amount, [`MAX_AMOUNT`] nano-dollars, as dollars.
const LARGEST: &str = "9007199.254740991";

/// An amount of money in nano-dollars, at most [`MAX_AMOUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

impl Usd {
    /// The amount in nano-dollars.
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// Reads decimal dollars such as `5`, `5.0` or `1_000.000000001`. The error says what is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{why}; allowed: dollars from 0 to {LARGEST}, such as 5 or 0.25"));
        if text.starts_with('-') {
            return refuse("the amount is negative");
        }
        let digits = text.strip_prefix('+').unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) if is_number(fraction) => (whole, fraction.replace('_', "")),
            Some(_) => return refuse("not a decimal number"),
            None => (digits, String::new()),
        };
        if !is_number(whole) {
            return refuse("not a decimal number");
        }
        if fraction.len() > 9 {
            return refuse("more than 9 digits after the point");
        }
        let whole = whole.replace('_', "").parse::<u64>().ok();
        let nanos = format!("{fraction:0<9}").parse::<u64>().ok();
        let amount = whole.and_then(|whole| whole.checked_mul(NANOS)).zip(nanos).and_then(|(whole, nanos)| whole.checked_add(nanos));
        match amount {
            Some(amount) if amount <= MAX_AMOUNT => Ok(Self(amount)),
            _ => refuse("the amount is too large"),
        }
    }
}

/// Digits, with single underscores between them as TOML allows.
fn is_number(text: &str) -> bool {
    text.split('_').all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()))
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Dollars)
    }
}

/// Takes whole numbers, and decimals as their literal text.
struct Dollars;

impl Visitor<'_> for Dollars {
    type Value = Usd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dollars such as 5 or 0.25")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Usd, E> {
        Usd::parse(text.trim()).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, dollars: u64) -> Result<Usd, E> {
        self.visit_str(&dollars.to_string())
    }

    fn visit_i64<E: Error>(self, dollars: i64) -> Result<Usd, E> {
        self.visit_str(&dollars.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_become_nano_dollars() {
        for (text, nanos) in
            [("0", 0), ("5", 5 * NANOS), ("5.0", 5 * NANOS), ("+0.000000001", 1), ("1_000.50", 1_000_500_000_000), (LARGEST, MAX_AMOUNT)]
        {
            assert_eq!(Usd::parse(text).map(Usd::nanos), Ok(nanos), "{text} dollars");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "-1", "-0.5", ".5", "5.", "1e3", "inf", "nan", "1__0", "_1", "1_", "0.0000000001", "9007199.254740992", "1 2"] {
            assert!(Usd::parse(text).is_err(), "{text:?} was accepted as dollars");
        }
    }

    proptest! {
        #[test]
        fn every_amount_survives_being_written_out(nanos in 0..=MAX_AMOUNT) {
            let text = format!("{}.{:09}", nanos / NANOS, nanos % NANOS);
            prop_assert_eq!(Usd::parse(&text), Ok(Usd(nanos)));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Usd::parse(&text);
        }
    }
}
