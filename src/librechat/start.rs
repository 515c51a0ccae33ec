//! What LibreChat answers to a chat start: a short JSON since 0.8.2, the stream itself before.

use serde::Deserialize;

use super::chat::bounded;

/// The largest start answer that is read; LibreChat's are about 200 bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What the JSON answer to a chat start means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAnswer {
    /// A run began. It is found again by this conversation and, since 0.8.8, by when it was created.
    Started {
        /// The conversation, which is also the stream's id.
        conversation_id: String,
        /// `generationCreatedAt`, in milliseconds since 1970.
        created_at: Option<i64>,
    },
    /// The run of this conversation that waited for a person goes on.
    Resuming {
        /// The conversation, which is also the stream's id.
        conversation_id: String,
        /// `generationCreatedAt`, in milliseconds since 1970.
        created_at: Option<i64>,
    },
    /// No run began: the POST joined, repeated or gave way to another one.
    NotNew,
    /// LibreChat refused, or the answer cannot be read.
    Refused,
}

/// Reads the body of a 200 answer.
pub fn read(json: &[u8]) -> StartAnswer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        #[serde(default)]
        status: Option<String>,
        #[serde(default)]
        stream_id: Option<String>,
        #[serde(default)]
        conversation_id: Option<String>,
        #[serde(default)]
        generation_created_at: Option<i64>,
    }
    let Ok(raw) = serde_json::from_slice::<Raw>(json) else { return StartAnswer::Refused };
    let created_at = raw.generation_created_at;
    match (raw.status.as_deref(), raw.conversation_id.or(raw.stream_id).as_deref().map(bounded)) {
        (Some("started"), Some(conversation_id)) => StartAnswer::Started { conversation_id, created_at },
        (Some("resuming"), Some(conversation_id)) => StartAnswer::Resuming { conversation_id, created_at },
        (Some("resumed" | "settled" | "replaced"), _) => StartAnswer::NotNew,
        _ => StartAnswer::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_started_starts() {
        let started = read(br#"{"streamId":"c1","conversationId":"c1","generationCreatedAt":1795198786673,"status":"started"}"#);
        assert_eq!(started, StartAnswer::Started { conversation_id: "c1".into(), created_at: Some(1_795_198_786_673) });
        let resuming = read(br#"{"streamId":"c1","status":"resuming"}"#);
        assert_eq!(resuming, StartAnswer::Resuming { conversation_id: "c1".into(), created_at: None });
        assert_eq!(read(br#"{"streamId":"c1","conversationId":"c1","status":"resumed"}"#), StartAnswer::NotNew);
        assert_eq!(read(br#"{"status":"settled"}"#), StartAnswer::NotNew);
        assert_eq!(read(br#"{"type":"concurrent","limit":1}"#), StartAnswer::Refused);
        assert_eq!(read(b"<html>"), StartAnswer::Refused);
    }
}
