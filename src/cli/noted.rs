//! The audit rows that commands write: beside a Tollgate that may be running, and linked like its rows.

use uuid::Uuid;

use super::say::complain;
use crate::db::Database;
use crate::records::AuditRow;
use crate::records::audit_keys::{AuditFiles, AuditKeyError, AuditKeys};
use crate::records::checkpoint::Checkpoints;

/// Writes an audit row. A command is a writer of its own, with a chain of one row and a checkpoint of that.
///
/// Where there are no keys, as before the first start, or on a machine that only reads the database, the row has no link,
/// and standard error says so: verifying will ask where it is from.
pub(super) async fn write(files: &AuditFiles, database: &Database, row: AuditRow) -> Result<(), String> {
    let row = match AuditKeys::read(files) {
        Ok(keys) => linked(files, keys, row)?,
        Err(error @ AuditKeyError::Missing(_)) => {
            complain(&format_args!("the audit row of this command has no link: {error}"));
            row
        }
        Err(error) => return Err(error.to_string()),
    };
    database.records().insert_audit(&[row.into()]).await.map_err(|error| error.to_string())
}

fn linked(files: &AuditFiles, keys: AuditKeys, row: AuditRow) -> Result<AuditRow, String> {
    let time = row.time;
    let (row, head) = keys.chain.alone(row);
    let writer = row.link.as_ref().map_or_else(Uuid::nil, |link| link.writer);
    let org = row.org_id.as_deref().unwrap_or_default();
    let file = &files.checkpoint_file;
    Checkpoints::open(file, writer, keys.signer)
        .and_then(|mut checkpoints| checkpoints.write([(org, &head)], time))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(row)
}
