//! Names that people typed and that may be nobody's, as they stand in rows: hashed with a key, so that rows about the same
//! name are found together, and nobody without the key can try which name it is.

use std::fmt;

use aws_lc_rs::hmac;

use super::chain::{ChainKey, hex};

/// What the key is for.
const LABEL: &str = "tollgate tried names 1";

/// How many bytes of the hash are kept.
const KEPT: usize = 16;

/// Hashes names. The same for every Tollgate with the same key of the audit log.
#[derive(Clone)]
pub struct NameKey(hmac::Key);

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameKey(***)")
    }
}

impl NameKey {
    /// The one that belongs to the key of the chains.
    pub fn of(chain: &ChainKey) -> Self {
        Self(chain.for_use(LABEL))
    }

    /// A name as rows call it.
    pub fn hash(&self, name: &str) -> String {
        let hash = hmac::sign(&self.0, name.as_bytes());
        format!("name:{}", hex(hash.as_ref().get(..KEPT).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: u8) -> NameKey {
        NameKey::of(&ChainKey::new(&[letter; 32]).expect("a key"))
    }

    #[test]
    fn a_name_has_one_hash_for_each_key() {
        let hash = key(b'a').hash("ann@acme.test");
        assert_eq!(hash, key(b'a').hash("ann@acme.test"));
        assert_eq!(hash.len(), "name:".len() + 32);
        assert_ne!(hash, key(b'b').hash("ann@acme.test"));
        assert_ne!(hash, key(b'a').hash("bob@acme.test"));
    }
}
