//! What the stores of the directory, of sessions and of keys share that change together: one count of revisions, and how ids are
//! kept in each database.

use uuid::Uuid;

use crate::records::ReadError;
use crate::records::sql::unavailable;

/// The next revision. The row stays locked until the end of the transaction, so that revisions become visible in order.
pub(super) const NEXT_REVISION: &str = "UPDATE directory_revision SET revision = revision + 1 RETURNING revision";

/// An id as an SQLite file has it.
pub(super) fn as_text(id: Uuid) -> String {
    id.to_string()
}

/// An id as PostgreSQL has it.
pub(super) fn as_uuid(id: Uuid) -> Uuid {
    id
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
pub(super) fn away(error: sqlx::Error) -> ReadError {
    unavailable(&error)
}
