//! Which results of tools are failures.
//!
//! LibreChat hands the model an error as it hands it a result: as text. Its own begin with `Error:`; what else a place's
//! tools say when they fail, its configuration knows.

use regex::{RegexSet, RegexSetBuilder};

use super::tools::ToolEnd;
use crate::masking;

/// The most patterns.
pub const MAX_PATTERNS: usize = 50;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 500;

/// What one pattern, or all together, may take when they are compiled, in bytes.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// How much of a failing result is kept, in characters.
pub const MAX_ERROR_CHARACTERS: usize = 200;

/// Tells failures from results. A pattern is matched in a time that grows only with the length of the text.
#[derive(Debug, Clone, Default)]
pub struct ToolRules {
    failures: RegexSet,
}

impl ToolRules {
    /// Results that one of these patterns is found in are failures too. The error names the pattern that is at fault, by
    /// its place, where one is.
    pub fn new(patterns: &[String]) -> Result<Self, (Option<usize>, String)> {
        if patterns.len() > MAX_PATTERNS {
            return Err((None, format!("{} patterns are too many; at most {MAX_PATTERNS}", patterns.len())));
        }
        for (index, pattern) in patterns.iter().enumerate() {
            check(pattern).map_err(|error| (Some(index), error))?;
        }
        let failures = compiled(patterns).map_err(|error| (None, error))?;
        Ok(Self { failures })
    }

    /// How a call ended that gave this result, of which the beginning is enough.
    pub fn judge(&self, result: &str) -> ToolEnd {
        if result.trim_start().starts_with("Error:") || self.failures.is_match(result) {
            ToolEnd::Failed(masking::beginning(result, MAX_ERROR_CHARACTERS))
        } else {
            ToolEnd::Succeeded
        }
    }
}

fn check(pattern: &String) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("an empty pattern is found in every result".to_owned());
    }
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("is {} bytes long; at most {MAX_PATTERN_BYTES}", pattern.len()));
    }
    compiled(std::slice::from_ref(pattern)).map(|_| ())
}

fn compiled(patterns: &[String]) -> Result<RegexSet, String> {
    let built = RegexSetBuilder::new(patterns).size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "takes too much memory; make it simpler".to_owned(),
        // The last line of a message of several says what is wrong.
        error => {
            format!("is no regular expression: {}", error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> Result<ToolRules, (Option<usize>, String)> {
        ToolRules::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn failures_begin_with_error_or_match_a_pattern() {
        let rules = rules(&[r"(?i)^error processing tool", r#""isError"\s*:\s*true"#]).expect("good patterns");
        let failed = |error: &str| ToolEnd::Failed(error.to_owned());
        for (result, end) in [
            ("Error: no such issue\n Please fix your mistakes.", failed("Error: no such issue Please fix your mistakes.")),
            ("  Error: password=hunter2", failed("Error: password=***")),
            ("Error processing tool", failed("Error processing tool")),
            (r#"{"isError": true}"#, failed(r#"{"isError": true}"#)),
            ("An Error: in the middle", ToolEnd::Succeeded),
            ("error: in small letters", ToolEnd::Succeeded),
            ("", ToolEnd::Succeeded),
        ] {
            assert_eq!(rules.judge(result), end, "{result}");
        }
        let ToolEnd::Failed(error) = rules.judge(&format!("Error: {}", "no ".repeat(500))) else { panic!("a failure") };
        assert_eq!(error.chars().count(), MAX_ERROR_CHARACTERS);
    }

    #[test]
    fn patterns_that_cannot_be_used_are_named() {
        for (patterns, index, said) in [
            (vec!["ok", "a("], Some(1), "is no regular expression: unclosed group"),
            (vec![""], Some(0), "an empty pattern is found in every result"),
            (vec!["(?=x)"], Some(0), "look-around"),
            (vec![r"(\w{1000}){1000}"], Some(0), "takes too much memory"),
            (vec!["x"; MAX_PATTERNS + 1], None, "at most 50"),
            (vec![&*"x".repeat(MAX_PATTERN_BYTES + 1)], Some(0), "at most 500"),
        ] {
            let (at, error) = rules(&patterns).expect_err("a bad pattern");
            assert_eq!(at, index, "{error}");
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn patterns_that_trap_others_take_linear_time() {
        let rules = rules(&[r"(a|a)*b$", r"(x+x+)+y"]).expect("good patterns");
        assert_eq!(rules.judge(&"a".repeat(16 * 1024)), ToolEnd::Succeeded);
        assert_eq!(rules.judge(&"x".repeat(16 * 1024)), ToolEnd::Succeeded);
    }
}
