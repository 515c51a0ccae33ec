//! What files of checkpoints say about chains: read through once, kept in bounded memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use jiff::Timestamp;
use uuid::Uuid;

use super::chains::ChainId;
use super::checkpoint::{BadCheckpoint, Checkpoint, digest_of};
use super::signing::PublicKey;

/// The most checkpoints of one chain that are kept: beyond it every other one is let go, never the newest. Whoever writes
/// a chain anew changes all its later hashes, so that any later one of those that are kept shows it.
const MOST_POINTS: usize = 4096;

/// The longest line that is read, in bytes: a checkpoint of a hundred thousand orgs.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// Where a chain stood, by a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The hash of the row with this number.
    pub hash: String,
    /// When the checkpoint was made.
    pub time: Timestamp,
}

/// What checkpoints say.
#[derive(Debug, Default)]
pub struct Witnesses {
    chains: BTreeMap<ChainId, BTreeMap<u64, Point>>,
    lines: u64,
    complaints: Vec<String>,
    remarks: Vec<String>,
}

impl Witnesses {
    /// Reads a file of checkpoints, beside those that were read already.
    pub fn read(&mut self, file: &Path, key: &PublicKey) -> io::Result<()> {
        let name = file.display();
        let mut last: BTreeMap<Uuid, String> = BTreeMap::new();
        let mut reader = BufReader::new(File::open(file)?);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            if io::Read::take(&mut reader, LONGEST_LINE as u64).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
            match Checkpoint::read(&text, key) {
                Ok(checkpoint) => {
                    let before = last.insert(checkpoint.writer, digest_of(&text));
                    match (&before, &checkpoint.previous) {
                        (None, None) => {}
                        (None, Some(_)) => self.remarks.push(format!("{name}, line {number}: the file begins after earlier checkpoints")),
                        (Some(before), Some(previous)) if before == previous => {}
                        _ => self.complaints.push(format!("{name}, line {number}: checkpoints before it were removed or put in")),
                    }
                    self.add(&checkpoint, &format!("{name}, line {number}"));
                }
                Err(BadCheckpoint::Unsigned) => {
                    self.complaints
                        .push(format!("{name}, line {number}: the signature is not of this key: a forgery, or another Tollgate's"));
                }
                // A crash leaves half a line; that no whole one is missing is seen by what the next names as its previous.
                Err(BadCheckpoint::Unreadable) if text.trim().is_empty() => {}
                Err(BadCheckpoint::Unreadable) => self.remarks.push(format!("{name}, line {number}: no whole checkpoint; passed over")),
            }
        }
        Ok(())
    }

    fn add(&mut self, checkpoint: &Checkpoint, place: &str) {
        self.lines += 1;
        for (org, head) in &checkpoint.heads {
            let chain = ChainId { org: org.clone(), writer: checkpoint.writer };
            let points = self.chains.entry(chain).or_default();
            if points.last_key_value().is_some_and(|(newest, _)| *newest > head.seq) {
                self.complaints.push(format!("{place}: the chain of org \"{org}\" has fewer rows than a checkpoint before it says"));
            }
            let point = Point { hash: head.hash.clone(), time: checkpoint.time };
            let kept = points.entry(head.seq).or_insert_with(|| point.clone());
            if kept.hash != point.hash {
                self.complaints.push(format!("{place}: contradicts the checkpoint of {} about org \"{org}\"", kept.time));
            }
            if points.len() > MOST_POINTS {
                thin_out(points);
            }
        }
    }

    /// How many checkpoints were read.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What is wrong with the files themselves.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// What is odd about them and may be harmless.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Every chain that a checkpoint names.
    pub fn chains(&self) -> impl Iterator<Item = &ChainId> {
        self.chains.keys()
    }

    /// What is said of the row with this number.
    pub fn point(&self, chain: &ChainId, seq: u64) -> Option<&Point> {
        self.chains.get(chain)?.get(&seq)
    }

    /// The furthest that a chain came.
    pub fn newest(&self, chain: &ChainId) -> Option<(u64, &Point)> {
        let (seq, point) = self.chains.get(chain)?.last_key_value()?;
        Some((*seq, point))
    }
}

fn thin_out(points: &mut BTreeMap<u64, Point>) {
    let newest = points.last_key_value().map(|(seq, _)| *seq);
    let mut keeps = false;
    points.retain(|seq, _| {
        keeps = !keeps;
        keeps || Some(*seq) == newest
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::chain::Head;
    use crate::records::signing::Signer;

    fn line(signer: &Signer, seq: u64, hash: &str, previous: Option<&str>) -> String {
        let head = Head { seq, hash: hash.to_owned() };
        let time = Timestamp::from_second(1_800_000_000).expect("an instant");
        let previous = previous.map(digest_of);
        Checkpoint { time, writer: Uuid::from_u128(7), heads: vec![("acme".to_owned(), head)], previous }.signed(signer)
    }

    fn read(lines: &[&str], signer: &Signer) -> Witnesses {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), lines.join("\n")).expect("writing");
        let mut witnesses = Witnesses::default();
        witnesses.read(file.path(), &signer.public()).expect("reading");
        witnesses
    }

    #[test]
    fn a_file_is_believed_only_as_a_whole() {
        let (signer, _) = Signer::generate().expect("a key");
        let one = line(&signer, 1, "a", None);
        let two = line(&signer, 2, "b", Some(&one));
        let three = line(&signer, 3, "c", Some(&two));
        let whole = read(&[&one, &two, &three], &signer);
        assert_eq!((whole.lines(), whole.complaints().len(), whole.remarks().len()), (3, 0, 0));
        let chain = ChainId { org: "acme".to_owned(), writer: Uuid::from_u128(7) };
        assert_eq!(whole.newest(&chain).map(|(seq, point)| (seq, point.hash.as_str())), Some((3, "c")));
        assert_eq!(whole.point(&chain, 2).map(|point| point.hash.as_str()), Some("b"));

        let gap = read(&[&one, &three], &signer);
        assert!(gap.complaints()[0].contains("line 2") && gap.complaints()[0].contains("removed"), "{:?}", gap.complaints());
        let torn = read(&[&one, &two[..40], &two, &three], &signer);
        assert_eq!((torn.complaints().len(), torn.remarks().len()), (0, 1), "half a line is a crash's");
        let begun = read(&[&two, &three], &signer);
        assert_eq!((begun.complaints().len(), begun.remarks().len()), (0, 1), "a file may have been put away");
        let (other, _) = Signer::generate().expect("a key");
        let forged = read(&[&one, &line(&other, 2, "x", Some(&one))], &signer);
        assert!(forged.complaints()[0].contains("signature"), "{:?}", forged.complaints());
        let back = read(&[&one, &two, &line(&signer, 1, "a", Some(&two))], &signer);
        assert!(back.complaints()[0].contains("fewer rows"), "{:?}", back.complaints());
        let contrary = read(&[&one, &line(&signer, 1, "z", Some(&one))], &signer);
        assert!(contrary.complaints()[0].contains("contradicts"), "{:?}", contrary.complaints());
    }

    #[test]
    fn many_checkpoints_are_thinned_out_and_the_newest_stays() {
        let mut points = BTreeMap::new();
        for seq in 0..101 {
            points.insert(seq, Point { hash: String::new(), time: Timestamp::UNIX_EPOCH });
        }
        thin_out(&mut points);
        thin_out(&mut points);
        assert!(points.len() < 30 && points.contains_key(&100), "{:?}", points.keys());
    }
}
