//! Checkpoints and anchors: signed words about where chains stood.
//!
//! A chain alone does not show that its end was cut off, nor that whoever knows its key wrote all of it anew. A
//! checkpoint says, signed, how far the chains of one writer had come at a time; it goes to a file and to the log, which
//! whoever can write to the database cannot take back. An anchor says the same of the last row that retention removed, so
//! that the rest can be verified from there.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::chain::{Head, hex};
use super::chains::ChainId;
use super::signing::{PublicKey, Signer};

/// What stands between what is signed and its signature. It cannot stand within JSON text, whose quotes are escaped.
const BEFORE_SIGNATURE: &str = ",\"signature\":\"";

/// So many lines of a writer are looked through for its last, from the end: one may be torn, or put in by somebody else.
const LAST_LINES: usize = 16;

/// Where the chains of a writer stood at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// When.
    pub time: Timestamp,
    /// Whose chains.
    pub writer: Uuid,
    /// The end of each, by org.
    pub heads: Vec<(String, Head)>,
    /// The SHA-256 of the writer's line before this one.
    pub previous: Option<String>,
}

/// Why a line is no checkpoint of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// It is not what is written there.
    #[error("it is no checkpoint")]
    Unreadable,
    /// It is one, but not signed with this key.
    #[error("its signature is not ours")]
    Unsigned,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    kind: String,
    time: Timestamp,
    writer: Uuid,
    heads: Vec<(String, u64, String)>,
    previous: Option<String>,
    #[serde(rename = "key")]
    _key: String,
    signature: String,
}

impl Checkpoint {
    /// The line of JSON that says so, signed. What is signed is the line up to `,"signature":"`.
    pub fn signed(&self, signer: &Signer) -> String {
        let heads: Vec<_> = self.heads.iter().map(|(org, head)| json!([org, head.seq, head.hash])).collect();
        let line = json!({
            "kind": "audit.checkpoint",
            "time": self.time,
            "writer": self.writer,
            "heads": heads,
            "previous": self.previous,
            "key": signer.public().id(),
        });
        let line = line.to_string();
        let said = line.strip_suffix('}').unwrap_or(&line);
        format!("{said}{BEFORE_SIGNATURE}{}\"}}", signer.sign(said))
    }

    /// Reads a line and verifies its signature.
    pub fn read(line: &str, key: &PublicKey) -> Result<Self, BadCheckpoint> {
        let (said, _) = line.rsplit_once(BEFORE_SIGNATURE).ok_or(BadCheckpoint::Unreadable)?;
        let read: Line = serde_json::from_str(line).map_err(|_| BadCheckpoint::Unreadable)?;
        if read.kind != "audit.checkpoint" {
            return Err(BadCheckpoint::Unreadable);
        }
        if !key.verifies(said, &read.signature) {
            return Err(BadCheckpoint::Unsigned);
        }
        let heads = read.heads.into_iter().map(|(org, seq, hash)| (org, Head { seq, hash })).collect();
        Ok(Self { time: read.time, writer: read.writer, heads, previous: read.previous })
    }
}

/// The SHA-256 of a line, by which the next one names it.
pub fn digest_of(line: &str) -> String {
    hex(digest::digest(&digest::SHA256, line.as_bytes()).as_ref())
}

/// The file that a writer's checkpoints go to.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
    file: File,
    writer: Uuid,
    signer: Arc<Signer>,
    previous: Option<String>,
    heads: Vec<(String, Head)>,
}

impl Checkpoints {
    /// Opens the file of a writer, and makes it where there is none. Reads it through once, for the writer's last line:
    /// signatures are costly, and a year's lines many, so that only the last that may be it are verified.
    pub fn open(path: &Path, writer: Uuid, signer: Arc<Signer>) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).read(true).open(path)?;
        let named = writer.to_string();
        let mut last = VecDeque::with_capacity(LAST_LINES);
        for line in BufReader::new(&file).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if line.contains(&named) {
                last.truncate(LAST_LINES - 1);
                last.push_front(line.into_owned());
            }
        }
        let public = signer.public();
        let ours = |line: &&String| Checkpoint::read(line, &public).is_ok_and(|checkpoint| checkpoint.writer == writer);
        let previous = last.iter().find(ours).map(|line| digest_of(line));
        end_torn_line(&mut file)?;
        Ok(Self { path: path.to_owned(), file, writer, signer, previous, heads: Vec::new() })
    }

    /// Writes where the chains stand, durably, and says it to the log; nothing where they stand as they did. To be called
    /// on a timer, with the last row of each chain that is *in the database*: verifying would miss one that still waits in a
    /// journal. Chains that have not moved since the start may be left out.
    pub fn write<'head, Org>(&mut self, heads: impl IntoIterator<Item = (Org, &'head Head)>, now: Timestamp) -> io::Result<()>
    where
        Org: AsRef<str>,
    {
        let mut heads: Vec<(String, Head)> = heads.into_iter().map(|(org, head)| (org.as_ref().to_owned(), head.clone())).collect();
        heads.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        if heads.is_empty() || heads == self.heads {
            return Ok(());
        }
        let checkpoint = Checkpoint { time: now, writer: self.writer, heads, previous: self.previous.clone() };
        let line = checkpoint.signed(&self.signer);
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()?;
        tracing::info!(audit.checkpoint = line, audit.file = %self.path.display(), "audit checkpoint");
        self.previous = Some(digest_of(&line));
        self.heads = checkpoint.heads;
        Ok(())
    }
}

/// A line that a crash cut off is ended, so that the next one stands alone.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Where retention cut a chain off: the last row that it removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The chain.
    pub chain: ChainId,
    /// The number and hash of the last removed row.
    pub head: Head,
    /// When it was made.
    pub time: Timestamp,
    /// In base64.
    pub signature: String,
}

/// An anchor after the row whose link is `head`, signed. Retention writes it before it removes rows up to that one.
pub fn anchor(signer: &Signer, chain: ChainId, head: Head, now: Timestamp) -> Anchor {
    // As both databases give it back.
    let time = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let mut anchor = Anchor { chain, head, time, signature: String::new() };
    anchor.signature = signer.sign(&anchor.said());
    anchor
}

impl Anchor {
    /// Whether it was signed with this key.
    pub fn is_signed_with(&self, key: &PublicKey) -> bool {
        key.verifies(&self.said(), &self.signature)
    }

    fn said(&self) -> String {
        let Self { chain, head, time, .. } = self;
        json!({
            "kind": "audit.anchor",
            "org": chain.org,
            "writer": chain.writer,
            "seq": head.seq,
            "hash": head.hash,
            "time": time.as_microsecond(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Arc<Signer> {
        Arc::new(Signer::generate().expect("a key").0)
    }

    fn head(seq: u64) -> Head {
        Head { seq, hash: hex(&[u8::try_from(seq).expect("small"); 32]) }
    }

    fn noon() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().expect("an instant")
    }

    #[test]
    fn a_line_says_what_was_signed_and_any_change_of_it_shows() {
        let signer = signer();
        let odd = "a\",\"signature\":\"b";
        let checkpoint = Checkpoint {
            time: noon(),
            writer: Uuid::from_u128(7),
            heads: vec![(String::new(), head(1)), (odd.to_owned(), head(2))],
            previous: None,
        };
        let line = checkpoint.signed(&signer);
        assert_eq!(Checkpoint::read(&line, &signer.public()), Ok(checkpoint));
        let other = Signer::generate().expect("a key").0;
        assert_eq!(Checkpoint::read(&line, &other.public()), Err(BadCheckpoint::Unsigned));
        let changed = line.replace(",2,", ",3,");
        assert_eq!(Checkpoint::read(&changed, &signer.public()), Err(BadCheckpoint::Unsigned));
        for end in 0..line.len() {
            assert_eq!(Checkpoint::read(&line[..end], &signer.public()), Err(BadCheckpoint::Unreadable), "cut off at {end}");
        }
    }

    #[test]
    fn the_file_goes_on_after_a_crash_and_repeats_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("checkpoints.jsonl");
        let (signer, writer) = (signer(), Uuid::from_u128(7));
        let mut first = Checkpoints::open(&path, writer, signer.clone()).expect("a new file");
        first.write([("acme", &head(1))], noon()).expect("writing");
        first.write([("acme", &head(1))], noon()).expect("nothing new");
        first.write([("blue", &head(3)), ("acme", &head(2))], noon()).expect("writing");
        drop(first);
        let whole = std::fs::read_to_string(&path).expect("the file");
        let torn = format!("{whole}{}", &whole[..50]);
        std::fs::write(&path, torn).expect("a torn line");
        let mut second = Checkpoints::open(&path, writer, signer.clone()).expect("the file");
        second.write([("acme", &head(4))], noon()).expect("writing");
        let text = std::fs::read_to_string(&path).expect("the file");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "two lines, the torn one, and the new one: {text}");
        let read = |line: &str| Checkpoint::read(line, &signer.public());
        assert_eq!(read(lines[1]).expect("whole").heads, [("acme".to_owned(), head(2)), ("blue".to_owned(), head(3))]);
        assert_eq!(read(lines[0]).expect("whole").previous, None);
        assert_eq!(read(lines[3]).expect("whole").previous, Some(digest_of(lines[1])));
    }

    #[test]
    fn an_anchor_is_what_was_signed() {
        let signer = signer();
        let chain = ChainId { org: "acme".to_owned(), writer: Uuid::from_u128(7) };
        let anchor = anchor(&signer, chain, head(9), "2026-11-20T12:00:00.123456789Z".parse().expect("an instant"));
        assert!(anchor.is_signed_with(&signer.public()));
        let forged = Anchor { head: head(10), ..anchor.clone() };
        assert!(!forged.is_signed_with(&signer.public()));
        let moved = Anchor { chain: ChainId { org: "blue".to_owned(), ..anchor.chain.clone() }, ..anchor };
        assert!(!moved.is_signed_with(&signer.public()));
    }
}
