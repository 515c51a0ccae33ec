//! `[tools]`: what is written down of tool calls.

use std::sync::Arc;

use serde::Deserialize;

use super::errors::Errors;
use crate::generations::ToolRules;

/// What is written down of tool calls.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Which results are failures.
    pub rules: Arc<ToolRules>,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolsKeys {
    failure_patterns: Vec<String>,
}

/// Checks the section.
pub(super) fn check(keys: &ToolsKeys, errors: &mut Errors) -> Tools {
    let rules = ToolRules::new(&keys.failure_patterns).unwrap_or_else(|(index, message)| {
        let place = index.map_or_else(String::new, |index| format!("[{index}]"));
        errors.add(format!("tools.failure_patterns{place}"), message);
        ToolRules::default()
    });
    Tools { rules: Arc::new(rules) }
}
