//! Dollars in text, nano-dollars everywhere else.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::limits::MAX_AMOUNT;

/// Nano-dollars in a dollar.
const NANOS_PER_DOLLAR: u64 = 1_000_000_000;

/// Digits after the point that nano-dollars can hold.
const DECIMALS: usize = 9;

/// Why a text is no amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not digits, with at most one point between them.
    #[error("not an amount in dollars; write it like 5, 5.0 or 0.075")]
    NotAnAmount,
    /// Below zero.
    #[error("an amount cannot be negative")]
    Negative,
    /// Finer than a nano-dollar.
    #[error("more than 9 digits after the point; the smallest amount is 0.000000001 dollars")]
    TooFine,
    /// Above [`MAX_AMOUNT`] nano-dollars.
    #[error("too large; the largest amount is {} dollars", format_usd(MAX_AMOUNT))]
    TooLarge,
}

/// Decimal dollars (`5`, `5.0`, `0.075`, `1_000.50`) as nano-dollars, exactly.
///
/// # Errors
/// When the text is not such a number, is negative, has more than 9 digits after the point or is above [`MAX_AMOUNT`].
pub fn parse_usd(text: &str) -> Result<u64, MoneyError> {
    if text.starts_with('-') {
        return Err(MoneyError::Negative);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let dollars = digits(whole)?;
    let fraction = fraction.map(digits).transpose()?.unwrap_or_default();
    if fraction.len() > DECIMALS {
        return Err(MoneyError::TooFine);
    }
    // Only digits are left, so parsing fails for amounts that are too large alone.
    let dollars: u64 = dollars.parse().map_err(|_| MoneyError::TooLarge)?;
    let nanos: u64 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| MoneyError::TooLarge)?;
    dollars
        .checked_mul(NANOS_PER_DOLLAR)
        .and_then(|whole| whole.checked_add(nanos))
        .filter(|&amount| amount <= MAX_AMOUNT)
        .ok_or(MoneyError::TooLarge)
}

/// Nano-dollars as dollars for people: at least cents, and as many more digits as the amount has: `5.00`, `0.075`.
pub fn format_usd(nanos: u64) -> String {
    let digits = format!("{:09}", nanos % NANOS_PER_DOLLAR);
    let (cents, finer) = digits.split_at(2);
    format!("{}.{cents}{}", nanos / NANOS_PER_DOLLAR, finer.trim_end_matches('0'))
}

/// An amount of money of at most [`MAX_AMOUNT`] nano-dollars. In configuration it is written in dollars, as a whole number
/// or as decimal text; a float is refused, because it has already lost the exact amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

impl Usd {
    /// Decimal dollars; see [`parse_usd`].
    ///
    /// # Errors
    /// As [`parse_usd`].
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        parse_usd(text).map(Self)
    }

    /// The amount in nano-dollars.
    pub fn nanos(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", format_usd(self.0))
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UsdVisitor)
    }
}

struct UsdVisitor;

impl Visitor<'_> for UsdVisitor {
    type Value = Usd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount in dollars, like 5 or \"0.075\"")
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

/// Digits, single underscores between them (as TOML allows) taken out.
fn digits(text: &str) -> Result<String, MoneyError> {
    let groups_are_digits = text.split('_').all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    if groups_are_digits { Ok(text.replace('_', "")) } else { Err(MoneyError::NotAnAmount) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_dollars_become_nano_dollars() {
        let amounts = [
            ("0", 0),
            ("5", 5_000_000_000),
            ("5.0", 5_000_000_000),
            ("0.075", 75_000_000),
            ("0.1", 100_000_000),
            ("+1_000.50", 1_000_500_000_000),
            ("0.000000001", 1),
            ("007", 7_000_000_000),
            ("9007199.254740991", MAX_AMOUNT),
        ];
        for (text, nanos) in amounts {
            assert_eq!(parse_usd(text), Ok(nanos), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_amount_says_why() {
        use MoneyError::{Negative, NotAnAmount, TooFine, TooLarge};
        let refused = [
            ("", NotAnAmount),
            (".", NotAnAmount),
            (".5", NotAnAmount),
            ("5.", NotAnAmount),
            ("1.2.3", NotAnAmount),
            ("1e3", NotAnAmount),
            ("inf", NotAnAmount),
            ("1__0", NotAnAmount),
            ("1,5", NotAnAmount),
            ("$5", NotAnAmount),
            (" 5", NotAnAmount),
            ("٥", NotAnAmount),
            ("+-5", NotAnAmount),
            ("-1", Negative),
            ("-0", Negative),
            ("0.0000000001", TooFine),
            ("9007199.254740992", TooLarge),
            ("18446744073709551616", TooLarge),
            ("99999999999999999999999999", TooLarge),
        ];
        for (text, why) in refused {
            assert_eq!(parse_usd(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn people_see_cents_and_no_idle_zeros() {
        for (nanos, text) in [(0, "0.00"), (5_000_000_000, "5.00"), (75_000_000, "0.075"), (1, "0.000000001"), (12_345_600_000, "12.3456")]
        {
            assert_eq!(format_usd(nanos), text, "{nanos} nano-dollars");
        }
        assert_eq!(Usd::parse("50").unwrap().to_string(), "$50.00");
    }

    #[test]
    fn configuration_takes_whole_numbers_and_decimal_text_but_no_floats() {
        let read = |json: &str| serde_json::from_str::<Usd>(json).map(Usd::nanos).map_err(|error| error.to_string());
        assert_eq!(read("5"), Ok(5_000_000_000));
        assert_eq!(read("\"5.0\""), Ok(5_000_000_000));
        assert!(read("5.0").unwrap_err().contains("floating point"), "a float is refused");
        assert!(read("-5").unwrap_err().contains("negative"), "a negative number says so");
        assert!(read("\"x\"").unwrap_err().contains("not an amount"), "other text says so");
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_are_inverse(nanos in 0..=MAX_AMOUNT) {
            prop_assert_eq!(parse_usd(&format_usd(nanos)), Ok(nanos));
        }

        #[test]
        fn parsing_agrees_with_whole_numbers(dollars in 0..9_007_199_u64, cents in 0..100_u64) {
            prop_assert_eq!(parse_usd(&format!("{dollars}.{cents:02}")), Ok(dollars * 1_000_000_000 + cents * 10_000_000));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9._eE \\PC]{0,40}") {
            if let Ok(nanos) = parse_usd(&text) {
                prop_assert!(nanos <= MAX_AMOUNT);
            }
        }
    }
}
