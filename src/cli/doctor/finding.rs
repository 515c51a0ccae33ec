//! What the doctor found: each finding has an id that stays.

use serde::Serialize;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and is probably not meant so.
    Warn,
    /// It does not work.
    Fail,
    /// It was not asked, because something for it was not given.
    Skipped,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was asked.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) id: String,
    pub(super) outcome: Outcome,
    /// What was found.
    pub(super) said: String,
    /// The line to change, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<String>,
}

impl Finding {
    pub(super) fn ok(id: impl Into<String>, said: impl Into<String>) -> Self {
        Self { id: id.into(), outcome: Outcome::Ok, said: said.into(), change: None }
    }

    pub(super) fn warn(id: impl Into<String>, said: impl Into<String>, change: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, change: Some(change.into()), ..Self::ok(id, said) }
    }

    /// Without a `change` where the sentence says it.
    pub(super) fn fail(id: impl Into<String>, said: impl Into<String>, change: impl Into<String>) -> Self {
        let change = Some(change.into()).filter(|change| !change.is_empty());
        Self { outcome: Outcome::Fail, change, ..Self::ok(id, said) }
    }

    pub(super) fn skipped(id: impl Into<String>, said: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::ok(id, said) }
    }
}
