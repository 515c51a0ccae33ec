//! LibreChat's answer to `POST /api/api-keys` (`packages/api/src/apiKeys/handlers.ts`): the one time that it shows a key.

use serde::Deserialize;

/// The largest answer that is read; LibreChat's are about 300 bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// A key that LibreChat has made.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct NewAgentKey {
    /// LibreChat's id of it.
    pub id: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for NewAgentKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewAgentKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Collects the answer as it comes.
#[derive(Default)]
pub struct NewKeyReader(Vec<u8>);

impl std::fmt::Debug for NewKeyReader {
    /// Without what it has read, which is a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKeyReader").finish_non_exhaustive()
    }
}

impl NewKeyReader {
    /// Adds a chunk. Answers the key once the answer is whole.
    pub fn push(&mut self, chunk: &[u8]) -> Option<NewAgentKey> {
        let room = MAX_ANSWER_BYTES.saturating_sub(self.0.len());
        self.0.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if !self.0.trim_ascii_end().ends_with(b"}") {
            return None;
        }
        let key: NewAgentKey = serde_json::from_slice(&self.0).ok()?;
        (key.key.starts_with("sk-") && !key.id.is_empty()).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_whatever_the_chunks() {
        let answer =
            r#"{"id":"6b008f411deed07a2f49c1c8","name":"a}b","key":"sk-0123","keyPrefix":"sk-0123","createdAt":"2026-11-20T00:00:00Z"}"#;
        for size in 1..answer.len() {
            let mut reader = NewKeyReader::default();
            let read: Vec<_> = answer.as_bytes().chunks(size).filter_map(|chunk| reader.push(chunk)).collect();
            assert_eq!(read, [NewAgentKey { id: "6b008f411deed07a2f49c1c8".into(), key: "sk-0123".into() }], "chunks of {size}");
        }
        for odd in [r#"{"error":"Failed to create API key"}"#, r#"{"id":"1","key":"tgk_0"}"#, "<html>}", "{}", r#"{"id":7,"key":"sk-0"}"#] {
            assert_eq!(NewKeyReader::default().push(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(NewKeyReader::default().push(&vec![b'}'; 1 << 20]), None, "a flood");
        assert!(!format!("{:?}", NewAgentKey { id: String::new(), key: "sk-0123".into() }).contains("sk-"));
    }
}
