use proptest::prelude::*;

use super::*;
use crate::prices::UnknownModel;

const TABLE: &str = r#"
version = "test-1"

[default]
input = 5
output = 20.0

[[models]]
name = "gpt-4"
prices = [{ input = 30, output = 60 }]

[[models]]
name = "gpt-4o"
aliases = ["chatgpt-4o-latest"]
prices = [
    { input = 5.0, output = 15.0 },
    { effective_from = 2024-10-01, input = 2.5, cache_read = 1.25, output = 10.0 },
    { effective_from = 2026-01-01T09:00:00Z, input = 2, output = 8, cache_read = "0.5", cache_write = 2.5 },
]

[[models]]
name = "gpt-4o-mini"
prices = [{ input = 0.15, cache_read = 0.075, output = 0.6 }]

[[models]]
name = "claude-sonnet-4-5"
prices = [{ input = 3, cache_read = 0.3, cache_write = 3.75, output = 15 }]

[[models]]
name = "Llama-3.3-70B"
prices = [{ input = 0.59, output = 0.79 }]
"#;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn broken(toml: &str) -> String {
    PriceTable::parse(toml).unwrap_err().to_string()
}

/// The table above with one more line at its end.
fn broken_model(line: &str) -> String {
    broken(&format!("{TABLE}\n[[models]]\nname = \"more\"\n{line}"))
}

#[test]
fn names_find_their_model() {
    let table = PriceTable::parse(TABLE).unwrap();
    let names = [
        ("gpt-4o", Some("gpt-4o")),
        ("GPT-4o", Some("gpt-4o")),
        ("chatgpt-4o-latest", Some("gpt-4o")),
        ("gpt-4o-2024-08-06", Some("gpt-4o")),
        ("gpt-4o-mini-2024-07-18", Some("gpt-4o-mini")),
        ("openai/gpt-4o-mini", Some("gpt-4o-mini")),
        ("openrouter/openai/gpt-4o:extended", Some("gpt-4o")),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some("claude-sonnet-4-5")),
        ("claude-sonnet-4-5@20250929", Some("claude-sonnet-4-5")),
        ("meta-llama/llama-3.3-70b-instruct", Some("Llama-3.3-70B")),
        ("gpt-4-turbo", Some("gpt-4")),
        ("gpt-4.1", None),
        ("gpt-4ever", None),
        ("gpt", None),
        ("claude-sonnet-4", None),
        ("openai/", None),
        ("-", None),
        ("", None),
    ];
    for (name, known) in names {
        assert_eq!(table.known_name(name), known, "{name:?}");
        assert_eq!(matches!(table.price(name, Timestamp::UNIX_EPOCH), Found::Known(_)), known.is_some(), "the price of {name:?}");
    }
    assert_eq!(table.known_name(&format!("gpt-4-{}", "x".repeat(1_000_000))), None, "an endless name is nobody's model");
}

#[test]
fn the_price_in_force_at_the_time_is_used() {
    let table = PriceTable::parse(TABLE).unwrap();
    let output = |time: &str| match table.price("gpt-4o", at(time)) {
        Found::Known(price) => price.output,
        Found::Unknown => panic!("gpt-4o is in the table"),
    };
    assert_eq!(output("1970-01-01T00:00:00Z"), 15_000_000_000, "before all dates");
    assert_eq!(output("2024-09-30T23:59:59.999Z"), 15_000_000_000, "the last moment of the first price");
    assert_eq!(output("2024-10-01T00:00:00Z"), 10_000_000_000, "midnight UTC of the second price's day");
    assert_eq!(output("2026-01-01T08:59:59Z"), 10_000_000_000, "the last second of the second price");
    assert_eq!(output("2026-01-01T09:00:00Z"), 8_000_000_000, "the instant of the third price");
}

#[test]
fn a_model_whose_only_price_lies_ahead_has_it_already() {
    let ahead = format!("{TABLE}\n[[models]]\nname = \"soon\"\nprices = [{{ effective_from = 2030-01-01, input = 1, output = 2 }}]");
    let table = PriceTable::parse(&ahead).unwrap();
    let expected = Price { input: 1_000_000_000, output: 2_000_000_000, cache_read: 1_000_000_000, cache_write: 1_000_000_000 };
    assert_eq!(table.price("soon", at("2026-11-20T00:00:00Z")), Found::Known(&expected));
}

#[test]
fn amounts_are_exact_and_cached_input_costs_input_unless_said() {
    let table = PriceTable::parse(TABLE).unwrap();
    assert_eq!(table.version().as_ref(), "test-1");
    let default = Price { input: 5_000_000_000, output: 20_000_000_000, cache_read: 5_000_000_000, cache_write: 5_000_000_000 };
    assert_eq!(table.default_price(), &default);
    let mini = Price { input: 150_000_000, output: 600_000_000, cache_read: 75_000_000, cache_write: 150_000_000 };
    assert_eq!(table.price("gpt-4o-mini", Timestamp::UNIX_EPOCH), Found::Known(&mini));
    let text = Price { input: 2_000_000_000, output: 8_000_000_000, cache_read: 500_000_000, cache_write: 2_500_000_000 };
    assert_eq!(table.price("gpt-4o", at("2026-11-20T00:00:00Z")), Found::Known(&text));
}

#[test]
fn a_usage_costs_its_parts_rounded_up_once() {
    let price = Price { input: 3_000_000_000, output: 15_000_000_000, cache_read: 300_000_000, cache_write: 3_750_000_000 };
    let usage = Usage { input: 10_000, output: 500, cache_read: 7_000, cache_write: 2_000 };
    assert_eq!(price.cost(usage), 1_000 * 3_000 + 500 * 15_000 + 7_000 * 300 + 2_000 * 3_750);
    let fine = Price { input: 1, output: 1, cache_read: 1, cache_write: 1 };
    assert_eq!(fine.cost(Usage { input: 1, output: 1, ..Usage::default() }), 1, "two millionths of a nano-dollar are one, not two");
    assert_eq!(price.cost(Usage::default()), 0, "nothing costs nothing");
    assert_eq!(Price::FREE.cost(usage), 0, "free is free");
    let beyond = Usage { input: 10, cache_read: 20, ..Usage::default() };
    assert_eq!(price.cost(beyond), 20 * 300, "more cached than input is charged as said");
    assert_eq!((price.input_nanos_per_token_ceil(), price.output_nanos_per_token_ceil()), (3_000, 15_000));
    assert_eq!(fine.output_nanos_per_token_ceil(), 1, "a fraction of a nano-dollar is estimated as one");
}

#[test]
fn errors_name_the_place() {
    assert!(broken("version = ").starts_with("not TOML: "), "broken TOML says so");
    assert_eq!(broken("[default]\ninput = 1\noutput = 1"), "version: is missing");
    assert_eq!(broken("version = 1"), "version: must be text, not empty");
    assert_eq!(broken("version = \"1\""), "default: is missing");
    assert_eq!(broken("version = \"1\"\ncurrency = \"EUR\""), "currency: unknown key; allowed: version, default, models");
    assert_eq!(broken("version = \"1\"\n[default]\ninput = 1"), "default.output: is missing");
    assert_eq!(broken("version = \"1\"\nmodels = 1\n[default]\ninput = 1\noutput = 1"), "models: must be a list of tables");
    assert_eq!(
        broken_model("prices = [{ inptu = 1, output = 1 }]"),
        "models[5].prices[0].inptu: unknown key; allowed: effective_from, input, output, cache_read, cache_write"
    );
    assert_eq!(broken_model("price = 1"), "models[5].price: unknown key; allowed: name, aliases, prices");
    assert_eq!(broken_model("prices = []"), "models[5].prices: a model needs at least one price");
    assert_eq!(broken_model("prices = [1]"), "models[5].prices[0]: must be a table");
    assert_eq!(
        broken_model("prices = [{ input = -1.0, output = 1 }]"),
        "models[5].prices[0].input: an amount cannot be negative (found -1.0)"
    );
    assert_eq!(
        broken_model("prices = [{ input = 1e3, output = 1 }]"),
        "models[5].prices[0].input: not an amount in dollars; write it like 5, 5.0 or 0.075 (found 1e3)"
    );
    assert_eq!(
        broken_model("prices = [{ input = true, output = 1 }]"),
        "models[5].prices[0].input: must be an amount in dollars, like 5 or 0.075"
    );
    assert_eq!(
        broken_model("prices = [{ effective_from = 09:00:00, input = 1, output = 1 }]"),
        "models[5].prices[0].effective_from: must be a date, like 2026-11-20, or an instant, like 2026-11-20T09:00:00Z"
    );
    assert_eq!(
        broken_model("prices = [{ input = 1, output = 1 }, { input = 2, output = 2 }]"),
        "models[5].prices: two prices have the same effective_from"
    );
    assert_eq!(
        broken_model("aliases = [\"GPT-4\"]\nprices = [{ input = 1, output = 1 }]"),
        "models[5]: the name \"GPT-4\" is already in the table"
    );
}

#[test]
fn the_built_in_table_is_good() {
    let table = PriceTable::built_in().unwrap();
    assert!(table.models.len() > 50, "it has the usual models");
    for model in &table.models {
        assert_eq!(table.known_name(&model.name), Some(model.name.as_str()), "{} finds itself", model.name);
        for (from, price) in &model.prices {
            assert!(price.cache_read <= price.input, "{} from {from}: reading a cache does not cost more than input", model.name);
            assert!(price.input <= price.output || price.output == 0, "{} from {from}: output does not cost less than input", model.name);
        }
    }
    for name in
        ["gpt-4o", "gpt-4.1-nano", "o3", "claude-sonnet-4-5-20250929", "anthropic/claude-opus-4.1", "gemini-2.5-flash", "deepseek-chat"]
    {
        assert!(table.known_name(name).is_some(), "{name} is in the table");
    }
}

#[test]
fn policies_are_written_in_snake_case() {
    for (word, policy) in [("default_price", UnknownModel::DefaultPrice), ("reject", UnknownModel::Reject), ("free", UnknownModel::Free)] {
        assert_eq!(serde_json::from_str::<UnknownModel>(&format!("\"{word}\"")).unwrap(), policy);
    }
}

prop_compose! {
    fn any_price()(input in 0..=MAX_AMOUNT, output in 0..=MAX_AMOUNT, cache_read in 0..=MAX_AMOUNT, cache_write in 0..=MAX_AMOUNT) -> Price {
        Price { input, output, cache_read, cache_write }
    }
}

prop_compose! {
    fn any_usage()(input: u64, output: u64, cache_read: u64, cache_write: u64, shift in 0..64_u32) -> Usage {
        Usage { input: input >> shift, output: output >> shift, cache_read: cache_read >> shift, cache_write: cache_write >> shift }
    }
}

proptest! {
    #[test]
    fn a_cost_never_overflows(price in any_price(), usage in any_usage()) {
        prop_assert!(price.cost(usage) <= MAX_AMOUNT);
    }

    #[test]
    fn more_tokens_never_cost_less(price in any_price(), usage in any_usage(), input in 0..=u64::MAX, output in 0..=u64::MAX) {
        let more = Usage { input: usage.input.saturating_add(input), output: usage.output.saturating_add(output), ..usage };
        prop_assert!(price.cost(more) >= price.cost(usage));
    }

    #[test]
    fn an_estimate_by_token_is_never_below_the_cost(price in any_price(), input in 0..1_000_000_u64, output in 0..1_000_000_u64) {
        let cost = price.cost(Usage { input, output, ..Usage::default() });
        let estimate = input.saturating_mul(price.input_nanos_per_token_ceil()).saturating_add(output.saturating_mul(price.output_nanos_per_token_ceil()));
        prop_assert!(estimate.min(MAX_AMOUNT) >= cost);
    }

    #[test]
    fn no_name_makes_the_lookup_panic(name in "\\PC{0,40}") {
        let table = PriceTable::parse(TABLE).unwrap();
        let _ = table.known_name(&name);
    }
}
