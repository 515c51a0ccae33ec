//! The hash chain of audit rows: one chain for each org and writer, keyed, so that whoever can write to the database but
//! does not know the key can neither change a row nor take one out or put one in without it showing.
//!
//! A link is `HMAC-SHA256(key, writer, org, seq, previous hash, content)`. Content is what both databases give back of a
//! row, whichever held it: time to the microsecond, numbers as the databases hold them, JSON with sorted keys. `count` is
//! left out, since a row that stands for many may grow. Every part has its length in front, so that no two rows have the
//! same content; nothing and empty text differ.

use std::fmt;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::AuditRow;

/// What the first thing hashed says: another form of content would have another number.
const LINK: &str = "tollgate audit link 1";

/// The hash before the first row.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The fewest bytes of a key: as many as the hash has (RFC 2104, 3).
pub const LEAST_KEY: usize = 32;

/// A row's place in its chain. Hashes are lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Who linked it: one journal.
    pub writer: Uuid,
    /// Its number in the chain, from 1.
    pub seq: u64,
    /// The hash of the row before it.
    pub previous: String,
    /// Its own.
    pub hash: String,
}

/// The end of a chain: what the next row is linked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the last row; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: NOTHING.to_owned() }
    }
}

impl Head {
    /// The end of a chain whose last row has this link.
    pub fn of(link: &Link) -> Self {
        Self { seq: link.seq, hash: link.hash.clone() }
    }
}

/// The org whose chain a row belongs to; rows without an org form the chain of the empty one.
pub fn chain_of<Word>(row: &AuditRow<Word>) -> &str {
    row.org_id.as_deref().unwrap_or_default()
}

/// The key that chains are made and verified with.
#[derive(Clone)]
pub struct ChainKey(hmac::Key);

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainKey(***)")
    }
}

/// What is wrong with a row, or with what should be before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It has no link.
    #[error("it has no link: it was put in beside the chain, or its link was taken away")]
    Unlinked,
    /// It stands in another chain than its link was made for.
    #[error("its link is of another chain")]
    Elsewhere,
    /// Rows before it are not there.
    #[error("rows {after} to {until} are missing before it")]
    Missing {
        /// The first that is missing.
        after: u64,
        /// The last that is missing.
        until: u64,
    },
    /// Its number was there already.
    #[error("its number is not the one after the row before it: a row was doubled, put in or moved")]
    Again,
    /// It was linked to another row than the one before it.
    #[error("it was linked to another row than the one that stands before it")]
    Unconnected,
    /// Its content is not what was linked.
    #[error("it is not what was written: its content, place or hash was changed")]
    Changed,
}

impl ChainKey {
    /// A key; nothing where it has fewer than [`LEAST_KEY`] bytes.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= LEAST_KEY).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// A key for another use, which tells nothing of this one.
    pub(super) fn for_use(&self, label: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, label.as_bytes()).as_ref())
    }

    /// Links a row to the end of the chain of `writer` and `org`, and answers the chain's new end.
    pub fn link<Word: AsRef<str>>(&self, writer: Uuid, org: &str, head: &Head, row: &AuditRow<Word>) -> (Link, Head) {
        let seq = head.seq.saturating_add(1);
        let link = Link { writer, seq, previous: head.hash.clone(), hash: self.hash(writer, org, seq, &head.hash, row) };
        let head = Head::of(&link);
        (link, head)
    }

    /// Links a row as the only one of a writer of its own: for commands that write one row beside a running Tollgate.
    pub fn alone<Word: AsRef<str>>(&self, row: AuditRow<Word>) -> (AuditRow<Word>, Head) {
        let (link, head) = self.link(Uuid::now_v7(), chain_of(&row), &Head::default(), &row);
        (AuditRow { link: Some(link), ..row }, head)
    }

    /// Whether a row is what its own link says, whatever stands before it.
    pub fn holds<Word: AsRef<str>>(&self, row: &AuditRow<Word>) -> bool {
        row.link.as_ref().is_some_and(|link| self.hash(link.writer, chain_of(row), link.seq, &link.previous, row) == link.hash)
    }

    /// Whether a row is the one that comes after `head` in the chain of `writer` and `org`; the chain's new end.
    pub fn follow<Word: AsRef<str>>(&self, writer: Uuid, org: &str, head: &Head, row: &AuditRow<Word>) -> Result<Head, Broken> {
        let link = row.link.as_ref().ok_or(Broken::Unlinked)?;
        if link.writer != writer || chain_of(row) != org {
            return Err(Broken::Elsewhere);
        }
        let next = head.seq.saturating_add(1);
        if link.seq < next {
            return Err(Broken::Again);
        }
        if !self.holds(row) {
            return Err(Broken::Changed);
        }
        if link.seq > next {
            return Err(Broken::Missing { after: next, until: link.seq - 1 });
        }
        if link.previous != head.hash {
            return Err(Broken::Unconnected);
        }
        Ok(Head::of(link))
    }

    fn hash<Word: AsRef<str>>(&self, writer: Uuid, org: &str, seq: u64, previous: &str, row: &AuditRow<Word>) -> String {
        let mut place = Parts::default();
        place.text(LINK);
        place.bytes(writer.as_bytes());
        place.text(org);
        place.number(seq);
        place.text(previous);
        place.bytes(&content(row));
        hex(hmac::sign(&self.0, &place.0).as_ref())
    }
}

/// What of a row the chain covers, as bytes.
pub fn content<Word: AsRef<str>>(row: &AuditRow<Word>) -> Vec<u8> {
    // Taken apart by name, so that a new field cannot be left out unseen.
    let AuditRow {
        id,
        time,
        category,
        severity,
        org_id,
        org_day,
        actor_id,
        actor_name,
        actor_role,
        action,
        resource_type,
        resource_id,
        outcome,
        request_id,
        method,
        path,
        query,
        status,
        duration_ms,
        error,
        address,
        user_agent,
        conversation_id,
        model,
        total_tokens,
        cost_nanousd,
        count: _,
        reference,
        detail,
        link: _,
    } = row;
    let mut parts = Parts::default();
    parts.bytes(id.as_bytes());
    parts.signed(time.as_microsecond());
    for word in [category.as_str(), severity.as_str(), action.as_ref(), outcome.as_str()] {
        parts.text(word);
    }
    for text in [org_id, actor_id, actor_name, actor_role, request_id] {
        parts.text_if_any(text.as_deref());
    }
    parts.text_if_any(resource_type.as_ref().map(AsRef::as_ref));
    for text in [org_day, resource_id, method, path, query, error, address, user_agent, conversation_id, model, reference] {
        parts.text_if_any(text.as_deref());
    }
    for number in [status.map(u64::from), *duration_ms, *total_tokens, *cost_nanousd] {
        parts.number_if_any(number);
    }
    match detail {
        None => parts.tag(b'-'),
        Some(detail) => parts.json(detail),
    }
    parts.0
}

/// Parts one after another, each with a mark of its kind, and its length where that is not fixed.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&(length as u64).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.tag(b'"');
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn text_if_any(&mut self, text: Option<&str>) {
        match text {
            None => self.tag(b'-'),
            Some(text) => self.text(text),
        }
    }

    fn signed(&mut self, number: i64) {
        self.tag(b'#');
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// As the databases hold it, whose integers are signed.
    fn number(&mut self, number: u64) {
        self.signed(i64::try_from(number).unwrap_or(i64::MAX));
    }

    fn number_if_any(&mut self, number: Option<u64>) {
        match number {
            None => self.tag(b'-'),
            Some(number) => self.number(number),
        }
    }

    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.tag(b'n'),
            Value::Bool(truth) => self.tag(if *truth { b't' } else { b'f' }),
            Value::Number(number) => {
                self.tag(b'0');
                self.text(&number.to_string());
            }
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.tag(b'[');
                self.length(items.len());
                for item in items {
                    self.json(item);
                }
            }
            Value::Object(members) => {
                self.tag(b'{');
                self.length(members.len());
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                for (key, value) in members {
                    self.text(key);
                    self.json(value);
                }
            }
        }
    }
}

/// Bytes as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Hexadecimal as bytes.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

#[cfg(test)]
pub(super) mod tests;
