//! Rows of every kind on their way through the journal, where they stand as JSON.

use serde::{Deserialize, Serialize};

use super::seal::MemberKey;
use super::{StoredAudit, StoredUsage, SystemRow, ToolRow, clean};

/// Rows that are written together, and what they need.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Rows {
    /// What generations used.
    #[serde(default)]
    pub usage: Vec<StoredUsage>,
    /// What they called on the way.
    #[serde(default)]
    pub tools: Vec<ToolRow>,
    /// Who did what.
    #[serde(default)]
    pub audit: Vec<StoredAudit>,
    /// How the machine did.
    #[serde(default)]
    pub system: Vec<SystemRow>,
    /// Keys that were made for audit rows here, which the database has before those rows.
    #[serde(default)]
    pub keys: Vec<MemberKey>,
}

/// The same, put together from several places, as they are written.
#[derive(Debug, Default, Serialize)]
pub(super) struct Together<'rows> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    usage: Vec<&'rows StoredUsage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<&'rows ToolRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit: Vec<&'rows StoredAudit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<&'rows SystemRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<&'rows MemberKey>,
}

impl Rows {
    /// Makes them fit to be stored.
    pub(super) fn clean(&mut self) {
        self.usage.iter_mut().for_each(clean::usage);
        self.tools.iter_mut().for_each(clean::tool);
        self.audit.iter_mut().for_each(clean::audit);
        self.system.iter_mut().for_each(clean::system);
    }

    pub(super) fn together<'rows>(several: impl Iterator<Item = &'rows Self>) -> Together<'rows> {
        let mut together = Together::default();
        for rows in several {
            together.usage.extend(&rows.usage);
            together.tools.extend(&rows.tools);
            together.audit.extend(&rows.audit);
            together.system.extend(&rows.system);
            together.keys.extend(&rows.keys);
        }
        together
    }

    /// Says that they are lost, whole where somebody is billed by them: they hold ids and numbers only.
    pub(super) fn log_lost(&self, why: &str) {
        for row in &self.usage {
            tracing::error!(records.row = ?row, "a usage row {why} and stands only here");
        }
        for row in &self.audit {
            tracing::error!(records.id = %row.id, records.time = %row.time, records.action = row.action, "an audit row {why} and is lost");
        }
    }
}

impl Together<'_> {
    pub(super) fn count(&self) -> u64 {
        (self.usage.len() + self.tools.len() + self.audit.len() + self.system.len()) as u64
    }

    pub(super) fn to_json(&self) -> String {
        // Strings, numbers and JSON values: there is nothing that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}
