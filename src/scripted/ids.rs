//! Ids that look like LibreChat's and are the same in every run: a hash of a seed and a counter.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// The letters of a step id.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A source of ids.
#[derive(Debug)]
pub struct Ids {
    seed: u64,
    next: AtomicU64,
}

impl Ids {
    /// Ids of this seed, from the first on.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(1) }
    }

    /// A number that was not given before.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A message or run id: version 4.
    pub fn message(&self) -> Uuid {
        Builder::from_random_bytes(sixteen(&self.hash("message"))).into_uuid()
    }

    /// A conversation id: version 5, as LibreChat 0.8.8 makes them.
    pub fn conversation(&self) -> Uuid {
        Builder::from_sha1_bytes(sixteen(&self.hash("conversation"))).into_uuid()
    }

    /// A document id: 24 hexadecimal digits.
    pub fn document(&self) -> String {
        hex(&self.hash("document")[..12])
    }

    /// The id of a step of a run.
    pub fn step(&self) -> String {
        let letters = self.hash("step")[..21].iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)])).collect::<String>();
        format!("step_{letters}")
    }

    fn hash(&self, kind: &str) -> [u8; 32] {
        digest(&format!("{}/{kind}/{}", self.seed, self.number()))
    }
}

/// The document id of a person with this e-mail address: 24 hexadecimal digits.
pub fn user_id(email: &str) -> String {
    hex(&digest(&format!("user/{}", email.to_ascii_lowercase()))[..12])
}

/// `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].iter().filter_map(|half| char::from_digit(u32::from(*half), 16)));
        text
    })
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn sixteen(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (one, two, other) = (Ids::new(1), Ids::new(1), Ids::new(2));
        let first = one.message();
        assert_eq!(first, two.message(), "a run can be repeated");
        assert_ne!(first, other.message(), "two servers with two seeds do not share ids");
        assert_eq!((first.get_version_num(), one.conversation().get_version_num()), (4, 5));
        assert_eq!((one.document().len(), one.step().len(), user_id("A@b").len()), (24, 26, 24));
        assert_eq!(user_id("A@b"), user_id("a@B"), "letter case does not matter in an e-mail address");
    }
}
