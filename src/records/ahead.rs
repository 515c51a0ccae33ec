//! Reads the journal ahead of the shipper, in a task of its own: reading and understanding a batch costs about as much as
//! the other end takes to write one.

use super::journal::Source;
use super::rows::Rows;

/// How many of the journal's entries are read at once, at most; one may hold the rows of hundreds of chats.
const ENTRIES_AT_ONCE: u32 = 64;

/// Entries that come next.
#[derive(Debug)]
pub(super) struct Ahead {
    /// In their order.
    pub(super) entries: Vec<Entry>,
    /// Whether there were no more when it was read.
    pub(super) is_last: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its place in the journal.
    pub(super) seq: i64,
    /// How many rows it holds.
    pub(super) rows: u64,
    /// The rows, or what cannot be read and why.
    pub(super) read: Result<Rows, (String, String)>,
}

/// Reads the entries after `seq`, until they hold `rows` rows or more.
pub(super) async fn read_ahead(source: Source, mut seq: i64, rows: usize) -> Result<Ahead, String> {
    let mut entries = Vec::new();
    let (mut held, mut at_once) = (0, 1);
    while held < rows as u64 {
        let read = source.next(seq, at_once).await?;
        let is_last = read.len() < at_once as usize;
        for batch in read {
            seq = batch.seq;
            held += batch.rows;
            let read = serde_json::from_str(&batch.body).map_err(|error| (batch.body, error.to_string()));
            entries.push(Entry { seq, rows: batch.rows, read });
        }
        if is_last {
            return Ok(Ahead { entries, is_last });
        }
        // As many as are missing, if they hold about as much as those so far.
        let each = (held / entries.len().max(1) as u64).max(1);
        at_once = u32::try_from((rows as u64).saturating_sub(held) / each).unwrap_or(ENTRIES_AT_ONCE).clamp(1, ENTRIES_AT_ONCE);
    }
    Ok(Ahead { entries, is_last: false })
}
