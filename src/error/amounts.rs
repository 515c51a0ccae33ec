//! Numbers as people read them: separators in thousands, and money that never claims more than is true.

use super::facts::Facts;

/// Nano-dollars in a dollar have nine decimals.
const NANO_DECIMALS: u32 = 9;

/// A whole number with separators: `1,234,567`.
pub(crate) fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Dollars from nano-dollars, rounded to the nearest with at most this many decimals, and at least cents: `1,234.50`.
fn dollars(nanos: u128, decimals: u32) -> String {
    let shown = rounded(nanos, decimals);
    let unit = 10_u128.pow(decimals);
    let fraction = format!("{:0width$}", shown % unit, width = decimals as usize);
    let (cents, finer) = fraction.split_at(2);
    format!("{}.{cents}{}", thousands(shown / unit), finer.trim_end_matches('0'))
}

/// The amount in units of the last decimal shown.
fn rounded(nanos: u128, decimals: u32) -> u128 {
    let unit = 10_u128.pow(NANO_DECIMALS - decimals);
    (nanos + unit / 2) / unit
}

/// The amounts of one refused limit as money: in cents where they tell the truth, else in as many more decimals as it
/// takes to see why the limit refuses. Without this, $4.998 used of $5.00 would read "$5.00 of $5.00 used", and a
/// message of $0.004 would need nothing.
pub(super) struct Money {
    decimals: u32,
}

impl Money {
    pub(super) fn of(facts: &Facts) -> Self {
        Self { decimals: (2..NANO_DECIMALS).find(|decimals| tells_the_truth(facts, *decimals)).unwrap_or(NANO_DECIMALS) }
    }

    pub(super) fn show(&self, nanos: u128) -> String {
        dollars(nanos, self.decimals)
    }

    /// What is left, so that the amounts shown add up.
    pub(super) fn left(&self, facts: &Facts) -> String {
        let shown = |nanos: u64| rounded(u128::from(nanos), self.decimals);
        let left = shown(facts.limit).saturating_sub(shown(facts.used) + shown(facts.held));
        self.show(left * 10_u128.pow(NANO_DECIMALS - self.decimals))
    }
}

/// Whether the rounded amounts say of every sum what the real ones do: whether it fits the limit. The limit itself must be
/// shown exactly, and nothing that is something may be shown as nothing.
fn tells_the_truth(facts: &Facts, decimals: u32) -> bool {
    let exact = u128::from(facts.limit).is_multiple_of(10_u128.pow(NANO_DECIMALS - decimals));
    let shown = |nanos: u64| rounded(u128::from(nanos), decimals);
    let visible = |nanos: u64| nanos == 0 || shown(nanos) > 0;
    let used_up = facts.used >= facts.limit;
    // What the message needs is not said where the limit is used up.
    exact
        && visible(facts.used)
        && visible(facts.held)
        && (used_up || visible(facts.needs))
        && fits(facts, &shown, used_up) == fits(facts, &|nanos| u128::from(nanos), used_up)
}

/// What there is to say about the sums of these amounts, as `amount` shows them.
fn fits(facts: &Facts, amount: &dyn Fn(u64) -> u128, used_up: bool) -> [bool; 5] {
    let [limit, used, held, needs] = [facts.limit, facts.used, facts.held, facts.needs].map(amount);
    if used_up {
        return [used < limit, false, false, false, false];
    }
    [used < limit, used + held < limit, needs <= limit, used + needs <= limit, used + held + needs <= limit]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(limit: u64, used: u64, held: u64, needs: u64) -> Facts {
        Facts { limit, used, held, needs }
    }

    #[test]
    fn thousands_are_separated() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (100_000, "100,000")] {
            assert_eq!(thousands(number), expected);
        }
    }

    #[test]
    fn cents_where_they_are_true() {
        let money = Money::of(&facts(5_000_000_000, 5_034_000_000, 0, 10_000_000));
        assert_eq!((money.show(5_034_000_000), money.show(5_000_000_000)), ("5.03".to_owned(), "5.00".to_owned()));
        let barely = facts(5_000_000_000, 5_000_000_001, 0, 1);
        assert_eq!(Money::of(&barely).show(5_000_000_001), "5.00", "a used up limit needs no billionths");
    }

    #[test]
    fn more_decimals_where_cents_would_mislead() {
        let nearly = facts(5_000_000_000, 4_999_900_000, 0, 20_000_000);
        assert_eq!(Money::of(&nearly).show(4_999_900_000), "4.9999", "not $5.00 of $5.00");
        let small = facts(5_000_000_000, 4_990_000_000, 0, 10_000_001);
        assert_eq!(Money::of(&small).show(10_000_001), "0.010000001", "needs $0.01 with $0.01 left would make no sense");
        let tiny = facts(1_500_000, 1_000_000, 0, 600_000);
        assert_eq!(Money::of(&tiny).show(1_500_000), "0.0015", "the limit is shown exactly");
    }

    proptest! {
        #[test]
        fn what_is_shown_compares_as_what_is(limit: u64, used: u64, held: u64, needs: u64) {
            let facts = facts(limit, used, held, needs);
            let money = Money::of(&facts);
            prop_assert!(tells_the_truth(&facts, money.decimals));
            let parse = |text: String| {
                let (whole, fraction) = text.split_once('.').unwrap_or_default();
                format!("{}{fraction:0<9}", whole.replace(',', "")).parse::<u128>().ok()
            };
            let left = parse(money.left(&facts));
            let shown_needs = parse(money.show(u128::from(needs)));
            let used_and_held = u128::from(used) + u128::from(held);
            if used_and_held < u128::from(limit) && used_and_held + u128::from(needs) > u128::from(limit) {
                prop_assert!(shown_needs > left, "needs {:?} must look larger than {:?} left", shown_needs, left);
            }
        }
    }
}
