//! What both databases share: the columns, how values are stored, how rows are read, whose fault an error is.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::chains::ChainId;
use super::checkpoint::Anchor;
use super::member_keys::RowsOf;
use super::seal::MemberKey;
use super::store::{Fault, MemberDay, Sums, UtcDay};
use super::{Category, Head, Link, Outcome, ReadError, Severity, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};

/// The columns of `usage_events`, in the order they are written.
pub(super) const USAGE_COLUMNS: &str = "id, time, generation_id, org_id, member_id, org_day, org_month, endpoint, model, agent_id, \
    conversation_id, messages, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, total_tokens, cost_nanousd, \
    price_version, usage_source, estimate_tokens, status, time_to_first_token_ms, duration_ms, request_id";

/// The columns of `audit_events`, in the order they are written.
pub(super) const AUDIT_COLUMNS: &str = "id, time, category, severity, org_id, org_day, actor_id, actor_name, actor_role, action, resource_type, \
    resource_id, outcome, request_id, method, path, query, status, duration_ms, error, address, user_agent, conversation_id, model, \
    total_tokens, cost_nanousd, count, reference, detail, chain_writer, chain_seq, chain_previous, chain_hash";

/// The columns of `tool_calls`, in the order they are written.
pub(super) const TOOL_COLUMNS: &str = "id, time, generation_id, org_id, member_id, org_day, org_month, conversation_id, tool, \
    mcp_server, outcome, duration_ms, error";

/// The columns of `system_metrics`, in the order they are written.
pub(super) const SYSTEM_COLUMNS: &str = "id, time, server, cpu_percent, load_1m, load_5m, load_15m, memory_used_bytes, \
    memory_total_bytes, swap_used_bytes, disk_used_bytes, disk_total_bytes, disk_read_bytes, disk_written_bytes, \
    network_received_bytes, network_sent_bytes, process_cpu_percent, process_memory_bytes, process_open_files, process_threads";

/// A row that a database answered. The texts it answers as errors say what is wrong with a column.
pub(crate) trait Columns {
    fn text(&self, column: &str) -> Result<Option<String>, String>;
    fn number(&self, column: &str) -> Result<Option<i64>, String>;
    fn float(&self, column: &str) -> Result<Option<f64>, String>;
    fn uuid(&self, column: &str) -> Result<Option<Uuid>, String>;
    fn time(&self, column: &str) -> Result<Option<Timestamp>, String>;
    fn json(&self, column: &str) -> Result<Option<Value>, String>;
    fn flag(&self, column: &str) -> Result<Option<bool>, String>;
}

/// A number as the databases hold it, whose integers are signed.
pub(super) fn stored(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A row as it is kept: by its id and time.
pub(super) trait Keyed {
    fn key(&self) -> (Uuid, Timestamp);

    /// Which of several rows with one key is written: the one with the largest.
    fn count(&self) -> u64 {
        1
    }
}

impl Keyed for StoredUsage {
    fn key(&self) -> (Uuid, Timestamp) {
        (self.id, self.time)
    }
}

impl Keyed for StoredAudit {
    fn key(&self) -> (Uuid, Timestamp) {
        (self.id, self.time)
    }

    fn count(&self) -> u64 {
        self.count
    }
}

impl Keyed for ToolRow {
    fn key(&self) -> (Uuid, Timestamp) {
        (self.id, self.time)
    }
}

impl Keyed for SystemRow {
    fn key(&self) -> (Uuid, Timestamp) {
        (self.id, self.time)
    }
}

/// A row's key as the databases hold it, who cut times to microseconds.
pub(super) fn key(row: &impl Keyed) -> (Uuid, i64) {
    let (id, time) = row.key();
    (id, time.as_microsecond())
}

/// The rows in the order of their keys, each key once, with its largest count. Writers that take rows in one order
/// cannot lock each other out.
pub(super) fn once_each<R: Keyed>(rows: &[R]) -> Vec<&R> {
    let mut ordered: Vec<&R> = rows.iter().collect();
    ordered.sort_by_key(|row| (key(*row), std::cmp::Reverse(row.count())));
    ordered.dedup_by_key(|row| key(*row));
    ordered
}

/// The same for audit rows, each with its link where one of them has it: what comes again with a larger count has none.
pub(super) fn audit_once_each(rows: &[StoredAudit]) -> Vec<Cow<'_, StoredAudit>> {
    let mut ordered: Vec<Cow<'_, StoredAudit>> = rows.iter().map(Cow::Borrowed).collect();
    ordered.sort_by_key(|row| (key(&**row), row.link.is_none(), std::cmp::Reverse(row.count)));
    ordered.dedup_by(|again, kept| {
        let same = key(&**again) == key(&**kept);
        if same && again.count > kept.count {
            kept.to_mut().count = again.count;
        }
        same
    });
    ordered
}

/// The row with what its count grew by, from what it was.
pub(super) fn grown_by(row: &StoredAudit, from: i64) -> StoredAudit {
    StoredAudit { count: row.count.saturating_sub(u64::try_from(from).unwrap_or_default()), ..row.clone() }
}

/// Reads a row of `usage_events`.
pub(super) fn usage_row(row: &impl Columns) -> Result<StoredUsage, ReadError> {
    let row = Reader { row, table: "usage_events" };
    Ok(StoredUsage {
        id: row.uuid("id")?,
        time: row.time("time")?,
        generation_id: row.uuid("generation_id")?,
        org_id: row.text("org_id")?.into(),
        member_id: row.text("member_id")?.into(),
        org_day: row.text("org_day")?,
        org_month: row.text("org_month")?,
        endpoint: row.text("endpoint")?,
        model: row.text("model")?,
        agent_id: row.text_if_any("agent_id")?,
        conversation_id: row.text_if_any("conversation_id")?,
        messages: row.number("messages")?,
        input_tokens: row.number("input_tokens")?,
        output_tokens: row.number("output_tokens")?,
        cache_read_tokens: row.number("cache_read_tokens")?,
        cache_write_tokens: row.number("cache_write_tokens")?,
        total_tokens: row.number("total_tokens")?,
        cost_nanousd: row.number("cost_nanousd")?,
        price_version: row.text("price_version")?.into(),
        usage_source: row.text("usage_source")?,
        estimate_tokens: row.number("estimate_tokens")?,
        status: row.text("status")?,
        time_to_first_token_ms: row.number_if_any("time_to_first_token_ms")?,
        duration_ms: row.number("duration_ms")?,
        request_id: row.text("request_id")?.into(),
    })
}

/// Reads a row of `audit_events`.
pub(super) fn audit_row(row: &impl Columns) -> Result<StoredAudit, ReadError> {
    let row = Reader { row, table: "audit_events" };
    Ok(StoredAudit {
        id: row.uuid("id")?,
        time: row.time("time")?,
        category: row.word("category", Category::from_word)?,
        severity: row.word("severity", Severity::from_word)?,
        org_id: row.text_if_any("org_id")?.map(Arc::from),
        org_day: row.text_if_any("org_day")?,
        actor_id: row.text_if_any("actor_id")?.map(Arc::from),
        actor_name: row.text_if_any("actor_name")?.map(Arc::from),
        actor_role: row.text_if_any("actor_role")?.map(Arc::from),
        action: row.text("action")?,
        resource_type: row.text_if_any("resource_type")?,
        resource_id: row.text_if_any("resource_id")?,
        outcome: row.word("outcome", Outcome::from_word)?,
        request_id: row.text_if_any("request_id")?.map(Arc::from),
        method: row.text_if_any("method")?,
        path: row.text_if_any("path")?,
        query: row.text_if_any("query")?,
        status: row.number_if_any("status")?,
        duration_ms: row.number_if_any("duration_ms")?,
        error: row.text_if_any("error")?,
        address: row.text_if_any("address")?,
        user_agent: row.text_if_any("user_agent")?,
        conversation_id: row.text_if_any("conversation_id")?,
        model: row.text_if_any("model")?,
        total_tokens: row.number_if_any("total_tokens")?,
        cost_nanousd: row.number_if_any("cost_nanousd")?,
        count: row.number("count")?,
        reference: row.text_if_any("reference")?,
        detail: row.value("detail", row.row.json("detail"))?,
        link: row.link()?,
    })
}

/// Reads a row of `tool_calls`.
pub(super) fn tool_row(row: &impl Columns) -> Result<ToolRow, ReadError> {
    let row = Reader { row, table: "tool_calls" };
    Ok(ToolRow {
        id: row.uuid("id")?,
        time: row.time("time")?,
        generation_id: row.uuid("generation_id")?,
        org_id: row.text("org_id")?.into(),
        member_id: row.text("member_id")?.into(),
        org_day: row.text("org_day")?,
        org_month: row.text("org_month")?,
        conversation_id: row.text_if_any("conversation_id")?,
        tool: row.text("tool")?,
        mcp_server: row.text_if_any("mcp_server")?,
        outcome: row.word("outcome", Outcome::from_word)?,
        duration_ms: row.number_if_any("duration_ms")?,
        error: row.text_if_any("error")?,
    })
}

/// Reads a row of `system_metrics`.
pub(super) fn system_row(row: &impl Columns) -> Result<SystemRow, ReadError> {
    let row = Reader { row, table: "system_metrics" };
    Ok(SystemRow {
        id: row.uuid("id")?,
        time: row.time("time")?,
        server: row.text("server")?.into(),
        cpu_percent: row.float("cpu_percent")?,
        load_1m: row.float("load_1m")?,
        load_5m: row.float("load_5m")?,
        load_15m: row.float("load_15m")?,
        memory_used_bytes: row.number("memory_used_bytes")?,
        memory_total_bytes: row.number("memory_total_bytes")?,
        swap_used_bytes: row.number("swap_used_bytes")?,
        disk_used_bytes: row.number("disk_used_bytes")?,
        disk_total_bytes: row.number("disk_total_bytes")?,
        disk_read_bytes: row.number("disk_read_bytes")?,
        disk_written_bytes: row.number("disk_written_bytes")?,
        network_received_bytes: row.number("network_received_bytes")?,
        network_sent_bytes: row.number("network_sent_bytes")?,
        process_cpu_percent: row.float("process_cpu_percent")?,
        process_memory_bytes: row.number("process_memory_bytes")?,
        process_open_files: row.number("process_open_files")?,
        process_threads: row.number("process_threads")?,
    })
}

/// Reads the name of a chain.
pub(super) fn chain_id(row: &impl Columns) -> Result<ChainId, ReadError> {
    let row = Reader { row, table: "audit_events" };
    Ok(ChainId { org: row.text("org")?, writer: row.uuid("chain_writer")? })
}

/// Reads the first and the last number of some rows, where there are any.
pub(super) fn numbers(row: &impl Columns) -> Result<Option<(u64, u64)>, ReadError> {
    let row = Reader { row, table: "audit_events" };
    Ok(row.number_if_any("first")?.zip(row.number_if_any("last")?))
}

/// Reads where a chain stands.
pub(super) fn head(row: &impl Columns) -> Result<Head, ReadError> {
    let row = Reader { row, table: "audit_events" };
    Ok(Head { seq: row.number("chain_seq")?, hash: row.text("chain_hash")? })
}

/// Reads the time of an audit row.
pub(super) fn time(row: &impl Columns) -> Result<Timestamp, ReadError> {
    Reader { row, table: "audit_events" }.time("time")
}

/// Reads a row of `audit_anchors`.
pub(super) fn anchor(row: &impl Columns) -> Result<Anchor, ReadError> {
    let row = Reader { row, table: "audit_anchors" };
    Ok(Anchor {
        chain: ChainId { org: row.text("org_id")?, writer: row.uuid("chain_writer")? },
        head: Head { seq: row.number("chain_seq")?, hash: row.text("chain_hash")? },
        time: row.time("time")?,
        signature: row.text("signature")?,
    })
}

/// Reads a row of `member_keys` whose key is there.
pub(super) fn member_key(row: &impl Columns) -> Result<MemberKey, ReadError> {
    let row = Reader { row, table: "member_keys" };
    Ok(MemberKey {
        key_id: row.uuid("key_id")?,
        org_id: row.text("org_id")?,
        member_id: row.text("member_id")?,
        key: row.text("key")?,
        created_at: row.time("created_at")?,
    })
}

/// Remembers that a member was erased of whom no key was there yet.
pub(super) const ERASURE_MARK: &str =
    "INSERT INTO member_keys (key_id, org_id, member_id, created_at, destroyed_at) VALUES ($1, $2, $3, $4, $4)";

/// A row that holds something of its person that is not sealed.
pub(super) const IN_THE_CLEAR: &str =
    "actor_name NOT LIKE 'sealed:1:%' OR address NOT LIKE 'sealed:1:%' OR user_agent NOT LIKE 'sealed:1:%'";

/// Reads the counts of a member's audit rows.
pub(super) fn rows_of(row: &impl Columns) -> Result<RowsOf, ReadError> {
    let row = Reader { row, table: "audit_events" };
    Ok(RowsOf { all: row.number("found")?, in_the_clear: row.number("in_the_clear")? })
}

/// Reads the id of a key.
pub(super) fn key_id(row: &impl Columns) -> Result<Uuid, ReadError> {
    Reader { row, table: "member_keys" }.uuid("key_id")
}

/// Reads one line of the sums by member.
pub(super) fn member_day(row: &impl Columns) -> Result<MemberDay, ReadError> {
    let row = Reader { row, table: "usage_events" };
    Ok(MemberDay {
        org_id: row.text("org_id")?.into(),
        member_id: row.text("member_id")?.into(),
        org_day: row.text("org_day")?,
        org_month: row.text("org_month")?,
        sums: row.sums()?,
    })
}

/// Reads one line of the sums of everyone.
pub(super) fn utc_day(row: &impl Columns) -> Result<UtcDay, ReadError> {
    let row = Reader { row, table: "usage_events" };
    Ok(UtcDay { day: row.text("utc_day")?, sums: row.sums()? })
}

/// A row and the table it is of, to name both where a column cannot be read.
pub(crate) struct Reader<'row, C> {
    pub(crate) row: &'row C,
    pub(crate) table: &'static str,
}

impl<C: Columns> Reader<'_, C> {
    pub(crate) fn text(&self, column: &'static str) -> Result<String, ReadError> {
        self.required(column, self.row.text(column))
    }

    pub(crate) fn text_if_any(&self, column: &'static str) -> Result<Option<String>, ReadError> {
        self.value(column, self.row.text(column))
    }

    pub(crate) fn uuid(&self, column: &'static str) -> Result<Uuid, ReadError> {
        self.required(column, self.row.uuid(column))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, ReadError> {
        self.required(column, self.row.time(column))
    }

    pub(crate) fn time_if_any(&self, column: &'static str) -> Result<Option<Timestamp>, ReadError> {
        self.value(column, self.row.time(column))
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool, ReadError> {
        self.required(column, self.row.flag(column))
    }

    pub(crate) fn number<N: TryFrom<i64, Error: Display>>(&self, column: &'static str) -> Result<N, ReadError> {
        self.required(column, self.number_or_reason(column))
    }

    pub(crate) fn number_if_any<N: TryFrom<i64, Error: Display>>(&self, column: &'static str) -> Result<Option<N>, ReadError> {
        self.value(column, self.number_or_reason(column))
    }

    fn float(&self, column: &'static str) -> Result<f64, ReadError> {
        self.required(column, self.row.float(column))
    }

    fn number_or_reason<N: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<Option<N>, String> {
        let number = self.row.number(column)?;
        number.map(|number| N::try_from(number).map_err(|error| format!("{number}: {error}"))).transpose()
    }

    pub(crate) fn word<W>(&self, column: &'static str, from_word: fn(&str) -> Option<W>) -> Result<W, ReadError> {
        let word = self.text(column)?;
        from_word(&word).ok_or_else(|| self.unreadable(column, format!("`{word}` is no word of ours")))
    }

    pub(crate) fn word_if_any<W>(&self, column: &'static str, from_word: fn(&str) -> Option<W>) -> Result<Option<W>, ReadError> {
        let Some(word) = self.text_if_any(column)? else { return Ok(None) };
        from_word(&word).map(Some).ok_or_else(|| self.unreadable(column, format!("`{word}` is no word of ours")))
    }

    /// Sums come in two halves, the upper and the lower 32 bits, since the sum of stored numbers can be more than a
    /// stored number.
    fn sums(&self) -> Result<Sums, ReadError> {
        let sum = |upper, lower| -> Result<u64, ReadError> {
            let (upper, lower): (u64, u64) = (self.number(upper)?, self.number(lower)?);
            Ok(u64::try_from((u128::from(upper) << 32) + u128::from(lower)).unwrap_or(u64::MAX))
        };
        Ok(Sums {
            total_tokens: sum("tokens_upper", "tokens_lower")?,
            messages: self.number("messages")?,
            cost_nanousd: sum("cost_upper", "cost_lower")?,
        })
    }

    /// A link is whole or not there at all.
    fn link(&self) -> Result<Option<Link>, ReadError> {
        let parts = (
            self.value("chain_writer", self.row.uuid("chain_writer"))?,
            self.number_if_any("chain_seq")?,
            self.text_if_any("chain_previous")?,
            self.text_if_any("chain_hash")?,
        );
        match parts {
            (None, None, None, None) => Ok(None),
            (Some(writer), Some(seq), Some(previous), Some(hash)) => Ok(Some(Link { writer, seq, previous, hash })),
            _ => Err(self.unreadable("chain_hash", "a part of its link is NULL".to_owned())),
        }
    }

    fn required<T>(&self, column: &'static str, read: Result<Option<T>, String>) -> Result<T, ReadError> {
        self.value(column, read)?.ok_or_else(|| self.unreadable(column, "it is NULL".to_owned()))
    }

    fn value<T>(&self, column: &'static str, read: Result<Option<T>, String>) -> Result<Option<T>, ReadError> {
        read.map_err(|reason| self.unreadable(column, reason))
    }

    fn unreadable(&self, column: &'static str, reason: String) -> ReadError {
        // Sums have no id: they are named by whose they are.
        let key = ["id", "org_id", "utc_day"].into_iter().find_map(|key| match self.row.uuid(key) {
            Ok(Some(id)) => Some(id.to_string()),
            _ => self.row.text(key).ok().flatten(),
        });
        ReadError::Unreadable { table: self.table, column, row: key.unwrap_or_else(|| "without a key".to_owned()), reason }
    }
}

/// An error that is the database's or its driver's.
pub(super) fn write_error(error: &sqlx::Error, fault_of_code: fn(&str) -> Fault) -> WriteError {
    let fault = match error {
        sqlx::Error::Database(database) => database.code().map_or(Fault::Unclear, |code| fault_of_code(&code)),
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => Fault::Row,
        _ => Fault::Away,
    };
    WriteError { fault, message: error.to_string().into() }
}

/// A write that took too long.
pub(super) fn too_slow(what: &str, limit: std::time::Duration) -> WriteError {
    WriteError { fault: Fault::Away, message: format!("{what} took more than {} s", limit.as_secs()).into() }
}

/// A read that failed as a whole.
pub(crate) fn unavailable(error: &sqlx::Error) -> ReadError {
    ReadError::Unavailable(error.to_string().into())
}
