//! Real usage as LibreChat reports it: one frame per model call, or a roll-up on the saved message.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::chat::bounded;

/// What model calls used, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tokens {
    /// Input, cached tokens included.
    pub input: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Of the input: read from the provider's cache.
    pub cache_read: u64,
    /// Of the input: written to the provider's cache.
    pub cache_write: u64,
}

impl Tokens {
    /// Input and output.
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }

    /// What is left of it without the other; never below nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            cache_read: self.cache_read.saturating_sub(other.cache_read),
            cache_write: self.cache_write.saturating_sub(other.cache_write),
        }
    }
}

/// Which model call a usage frame is about. Frames are repeated on every reconnect and in every tab; this tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId {
    /// The run: the answer's message id, with a suffix for sub-agents and labels.
    pub run_id: String,
    /// The number of the call within the run; labels count downwards from zero.
    pub seq: i64,
    /// Absent for the main calls; `summarization`, `subagent`, ... otherwise.
    pub usage_type: String,
    /// What it used, where LibreChat did not number it: then only that tells it from other calls, and `seq` counts equal ones.
    #[serde(default)]
    pub unnumbered: Option<Box<CallUsage>>,
}

impl CallId {
    /// Whether it answers a prompt that was told of beforehand: calls for summaries, labels and sub-agents do not.
    pub fn is_primary(&self) -> bool {
        matches!(&*self.usage_type, "" | "sequential")
    }
}

/// Numbers the calls that LibreChat does not, in the order in which a stream or a list shows them. The same call has the
/// same number wherever its equals were seen too, and is at worst taken for one of them: it is never charged twice.
#[derive(Debug, Default)]
pub struct CallNumbers(HashMap<CallId, i64>);

impl CallNumbers {
    /// The call with its number.
    pub fn give(&mut self, mut call: CallId) -> CallId {
        if call.unnumbered.is_some() {
            let next = self.0.entry(call.clone()).or_default();
            call.seq = *next;
            *next += 1;
        }
        call
    }
}

/// One model call's real usage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallUsage {
    /// The model as the provider names it; empty where the frame does not say.
    pub model: String,
    /// What it used.
    pub tokens: Tokens,
}

/// The body of an `on_token_usage` frame, and an entry of `collectedUsage`.
#[derive(Debug, Deserialize)]
pub(super) struct RawCallUsage<'a> {
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
    #[serde(default)]
    total_tokens: Count,
    #[serde(default, deserialize_with = "lenient")]
    input_token_details: Option<RawInputDetails>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "runId", deserialize_with = "lenient")]
    run_id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient")]
    seq: Option<i64>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    usage_type: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
struct RawInputDetails {
    #[serde(default)]
    cache_creation: Count,
    #[serde(default)]
    cache_read: Count,
}

impl RawCallUsage<'_> {
    /// The call and its usage, normalised: input includes cached tokens for every provider, and output includes what a
    /// provider adds only to the total (LibreChat: `packages/api/src/agents/usage.ts`).
    pub(super) fn normalise(self) -> (CallId, CallUsage) {
        let details = self.input_token_details.unwrap_or_default();
        let (cache_read, cache_write) = (details.cache_read.0, details.cache_creation.0);
        let cached = cache_read.saturating_add(cache_write);
        let within = match self.provider.as_deref() {
            Some(provider) => CACHED_WITHIN.iter().any(|known| known.eq_ignore_ascii_case(provider)),
            None => cached <= self.input_tokens.0,
        };
        // What is part of the input is not more than it.
        let input = if within { self.input_tokens.0.max(cached) } else { self.input_tokens.0.saturating_add(cached) };
        let output = self.output_tokens.0.max(self.total_tokens.0.saturating_sub(input));
        let usage =
            CallUsage { model: bounded(&self.model.unwrap_or_default()), tokens: Tokens { input, output, cache_read, cache_write } };
        let call = CallId {
            run_id: bounded(&self.run_id.unwrap_or_default()),
            seq: self.seq.unwrap_or_default(),
            usage_type: bounded(&self.usage_type.unwrap_or_default()),
            unnumbered: self.seq.is_none().then(|| Box::new(usage.clone())),
        };
        (call, usage)
    }
}

/// The providers whose input includes the cached tokens; all others count them beside it. Where LibreChat names no provider,
/// it takes them for included unless they are more than the input (`inputTokensIncludesCache`, `normalizeEventUnits`).
const CACHED_WITHIN: [&str; 9] = ["openAI", "azureOpenAI", "google", "vertexai", "xai", "deepseek", "openrouter", "moonshot", "anthropic"];

/// `metadata.usage` of a saved answer: its input is what was not cached.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMessageUsage {
    #[serde(default)]
    input: Count,
    #[serde(default)]
    output: Count,
    #[serde(default)]
    cache_write: Count,
    #[serde(default)]
    cache_read: Count,
}

impl RawMessageUsage {
    /// The usage, normalised; nothing where it reports nothing at all.
    pub(super) fn normalise(self) -> Option<Tokens> {
        let (cache_read, cache_write) = (self.cache_read.0, self.cache_write.0);
        let input = self.input.0.saturating_add(cache_read).saturating_add(cache_write);
        let tokens = Tokens { input, output: self.output.0, cache_read, cache_write };
        (tokens.total() > 0).then_some(tokens)
    }
}

/// A number of tokens as JavaScript may write it: an integer, a whole float, null. Anything else counts as nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub(super) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(whole(&value).unwrap_or_default()))
    }
}

/// A value that counts as absent where it is of another shape, so that one odd value does not hide what stands beside it.
pub(super) fn lenient<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// The elements of a list that have the right shape.
pub(super) fn lenient_list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(readable(raw))
}

/// The elements of a list that have the right shape; `None` where it is no list.
pub(super) fn readable<'de, T: Deserialize<'de>>(raw: &'de RawValue) -> Option<Vec<T>> {
    let elements: Vec<&'de RawValue> = serde_json::from_str(raw.get()).ok()?;
    Some(elements.into_iter().filter_map(|element| serde_json::from_str(element.get()).ok()).collect())
}

/// A whole number of at most 2^53 - 1, from a number or a string of digits.
pub(super) fn whole(value: &serde_json::Value) -> Option<u64> {
    const MAX: u64 = (1 << 53) - 1;
    let number = match value {
        serde_json::Value::Number(number) => number.as_u64().or_else(|| whole_float(number.as_f64()?))?,
        serde_json::Value::String(digits) => digits.trim().parse().ok()?,
        _ => return None,
    };
    (number <= MAX).then_some(number)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie within the exact whole numbers of a double")]
fn whole_float(number: f64) -> Option<u64> {
    ((0.0..9_007_199_254_740_992.0).contains(&number)).then(|| number.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalise(json: &str) -> Tokens {
        serde_json::from_str::<RawCallUsage<'_>>(json).expect("a usage frame").normalise().1.tokens
    }

    #[test]
    fn providers_count_cached_tokens_differently() {
        let subset = normalise(
            r#"{"input_tokens":1060,"output_tokens":57,"total_tokens":1117,"input_token_details":{"cache_creation":0,"cache_read":512},"provider":"openAI"}"#,
        );
        assert_eq!(subset, Tokens { input: 1060, output: 57, cache_read: 512, cache_write: 0 }, "cached tokens are within the input");
        let beside = normalise(
            r#"{"input_tokens":100,"output_tokens":10,"total_tokens":710,"input_token_details":{"cache_creation":200,"cache_read":400},"provider":"bedrock"}"#,
        );
        assert_eq!(beside, Tokens { input: 700, output: 10, cache_read: 400, cache_write: 200 }, "cached tokens are beside the input");
    }

    #[test]
    fn cached_tokens_of_providers_that_are_missing_or_unknown() {
        let of = |provider: &str, input: u64, cached: u64, total: u64| {
            normalise(&format!(
                r#"{{"input_tokens":{input},"output_tokens":10,"total_tokens":{total},"input_token_details":{{"cache_read":{cached}}}{provider}}}"#
            ))
        };
        let tokens = |input, cache_read| Tokens { input, output: 10, cache_read, cache_write: 0 };
        assert_eq!(of("", 100, 50_000, 50_110), tokens(50_100, 50_000), "more than the input cannot be part of it");
        assert_eq!(of("", 100, 40, 110), tokens(100, 40));
        assert_eq!(of(r#","provider":"Mistral""#, 100, 40, 150), tokens(140, 40), "LibreChat adds what it does not know");
        assert_eq!(of(r#","provider":"anthropic""#, 100, 40, 110), tokens(100, 40));
        assert_eq!(of(r#","provider":"azureOpenAI""#, 100, 40, 110), tokens(100, 40));
        assert_eq!(of(r#","provider":{}"#, 100, 40, 110), tokens(100, 40), "an odd provider is none");
    }

    #[test]
    fn odd_values_hide_nothing_beside_them() {
        let odd = r#"{"input_tokens":7,"output_tokens":3,"model":{},"runId":5,"seq":"x","usage_type":[],"input_token_details":9}"#;
        let (call, usage) = serde_json::from_str::<RawCallUsage<'_>>(odd).expect("a usage frame").normalise();
        assert_eq!((usage.tokens.total(), &*usage.model, &*call.run_id), (10, "", ""));
        assert!(call.unnumbered.is_some(), "it has no number");
    }

    #[test]
    fn thinking_that_only_the_total_shows_is_output() {
        let vertex = normalise(r#"{"input_tokens":100,"output_tokens":10,"total_tokens":160,"provider":"vertexai"}"#);
        assert_eq!(vertex.output, 60);
    }

    #[test]
    fn odd_numbers_count_as_nothing() {
        let odd = normalise(r#"{"input_tokens":-5,"output_tokens":"12","total_tokens":null,"input_token_details":null}"#);
        assert_eq!(odd, Tokens { output: 12, ..Tokens::default() });
        assert_eq!(normalise(r#"{"input_tokens":1e300,"output_tokens":2.0}"#), Tokens { output: 2, ..Tokens::default() });
    }
}
