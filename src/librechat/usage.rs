//! Real usage as LibreChat reports it: one frame per model call, or a roll-up on the saved message.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::chat::bounded;

/// What model calls used, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
}

/// One model call's real usage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    #[serde(default)]
    input_token_details: Option<RawInputDetails>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "runId")]
    run_id: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: Option<i64>,
    #[serde(borrow, default)]
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
        let provider = self.provider.unwrap_or_default();
        // Bedrock counts cached tokens beside the input, everyone else within it.
        let cached_beside = if provider.eq_ignore_ascii_case("bedrock") { cache_read.saturating_add(cache_write) } else { 0 };
        let input = self.input_tokens.0.saturating_add(cached_beside);
        let output = self.output_tokens.0.max(self.total_tokens.0.saturating_sub(input));
        let call = CallId {
            run_id: bounded(&self.run_id.unwrap_or_default()),
            seq: self.seq.unwrap_or_default(),
            usage_type: bounded(&self.usage_type.unwrap_or_default()),
        };
        (call, CallUsage { model: bounded(&self.model.unwrap_or_default()), tokens: Tokens { input, output, cache_read, cache_write } })
    }
}

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
