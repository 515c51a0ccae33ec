//! Rows as lines of JSON in the log files, for people without a database at hand: the columns of a row under their names,
//! and in front of them `table`, the table it belongs to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seal::KeyRing;
use super::{AuditRow, Rows, SystemRow, ToolRow, UsageRow};
use crate::telemetry::log_files::{LogFiles, Written};

/// How personal fields of audit rows stand in the log files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonalFields {
    /// As in the database: unreadable once their person is erased.
    Sealed,
    /// To be read by whoever reads the files, for as long as they are kept.
    Clear,
}

/// Writes rows into the log files. Never waits; cheap to clone.
#[derive(Debug, Clone)]
pub struct RowLog {
    files: LogFiles,
    personal: PersonalFields,
}

impl RowLog {
    /// Into these files.
    pub fn new(files: LogFiles, personal: PersonalFields) -> Self {
        Self { files, personal }
    }

    /// Rows were journalled. `ring` is what audit rows were sealed with, where they were.
    pub(super) fn rows(&self, rows: &Rows, ring: Option<&KeyRing>) {
        rows.usage.iter().for_each(|row| self.usage(row));
        rows.tools.iter().for_each(|row| self.tool(row));
        match ring.filter(|_| self.personal == PersonalFields::Clear) {
            None => rows.audit.iter().for_each(|row| self.audit(row)),
            Some(ring) => rows.audit.iter().cloned().for_each(|mut row| {
                ring.unseal(&mut row);
                self.audit(&row);
            }),
        }
        rows.system.iter().for_each(|row| self.system(row));
    }

    /// A usage row was journalled.
    pub fn usage<Word: Serialize>(&self, row: &UsageRow<Word>) {
        self.row("usage_events", row);
    }

    /// An audit row was journalled. Its link stands in columns of its own, as in the database.
    pub fn audit<Word: Serialize>(&self, row: &AuditRow<Word>) {
        let columns = serde_json::to_value(row).map(|mut columns| {
            if let (Some(columns), Some(link)) = (columns.as_object_mut(), &row.link) {
                columns.remove("link");
                columns.insert("chain_writer".to_owned(), link.writer.to_string().into());
                columns.insert("chain_seq".to_owned(), link.seq.into());
                columns.insert("chain_previous".to_owned(), link.previous.as_str().into());
                columns.insert("chain_hash".to_owned(), link.hash.as_str().into());
            }
            columns
        });
        match columns {
            Ok(columns) => self.row("audit_events", &columns),
            Err(error) => tracing::error!(error = %error, "an audit row is no JSON"),
        }
    }

    /// A tool row was journalled.
    pub fn tool(&self, row: &ToolRow) {
        self.row("tool_calls", row);
    }

    /// A system row was journalled.
    pub fn system(&self, row: &SystemRow) {
        self.row("system_metrics", row);
    }

    /// What became of lines since the start.
    pub fn written(&self) -> Written {
        self.files.written()
    }

    /// The files, for the process's own log.
    pub fn files(&self) -> &LogFiles {
        &self.files
    }

    /// Writes what waits and ends; see [`LogFiles::close`].
    pub fn close(&self, within: Duration) -> bool {
        self.files.close(within)
    }

    fn row(&self, table: &str, row: &impl Serialize) {
        match line(table, row) {
            Ok(line) => self.files.line(line),
            Err(error) => tracing::error!(error = %error, records.table = table, "a row is no JSON"),
        }
    }
}

fn line(table: &str, row: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(1024);
    line.extend_from_slice(br#"{"table":""#);
    line.extend_from_slice(table.as_bytes());
    line.push(b'"');
    let columns = line.len();
    serde_json::to_writer(&mut line, row)?;
    // The columns go on in the same object.
    if let Some(brace) = line.get_mut(columns).filter(|brace| **brace == b'{') {
        *brace = b',';
    }
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_with_its_table_and_its_columns() {
        let row = serde_json::json!({"id": 7, "error": "two\nlines"});
        let text = String::from_utf8(line("tool_calls", &row).expect("JSON")).expect("text");
        assert_eq!(text, "{\"table\":\"tool_calls\",\"error\":\"two\\nlines\",\"id\":7}\n");
    }
}
