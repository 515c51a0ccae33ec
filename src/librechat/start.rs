//! What LibreChat answers to a chat start: a short JSON since 0.8.2, the stream itself before.

use serde::Deserialize;
use serde_json::Value;

use super::chat::MAX_ID_BYTES;

/// The largest start answer that is read; LibreChat's are about 200 bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

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
    /// LibreChat refused, and said why.
    Refused,
    /// It cannot be told whether a run began.
    Unclear,
}

/// Collects the answer to a chat start as it comes.
#[derive(Debug, Default)]
pub struct StartReader {
    answer: Vec<u8>,
    is_too_long: bool,
}

impl StartReader {
    /// Adds a chunk. Answers what it means as soon as that is sure.
    pub fn push(&mut self, chunk: &[u8]) -> Option<StartAnswer> {
        if self.is_too_long || self.answer.len() + chunk.len() > MAX_ANSWER_BYTES {
            // What is left out in the middle could make another answer of the rest.
            *self = Self { answer: Vec::new(), is_too_long: true };
            return None;
        }
        self.answer.extend_from_slice(chunk);
        // The client may ask for the stream as soon as it has the last byte, so that the end is not waited for.
        Some(&self.answer).filter(|answer| answer.last() == Some(&b'}')).map(|answer| read(answer)).filter(StartAnswer::is_clear)
    }

    /// What it means, now that it is whole.
    pub fn finish(&self) -> StartAnswer {
        if self.is_too_long { StartAnswer::Unclear } else { read(&self.answer) }
    }
}

impl StartAnswer {
    fn is_clear(&self) -> bool {
        matches!(self, Self::Started { .. } | Self::Resuming { .. } | Self::NotNew)
    }
}

/// Reads the body of a 2xx answer. Only what is recognised for a refusal is one: a run that began all the same would be
/// nobody's.
pub fn read(json: &[u8]) -> StartAnswer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        status: Option<Value>,
        stream_id: Option<Value>,
        conversation_id: Option<Value>,
        generation_created_at: Option<Value>,
        #[serde(rename = "type")]
        kind: Option<Value>,
        code: Option<Value>,
    }
    let Ok(raw) = serde_json::from_slice::<Raw>(json) else { return StartAnswer::Unclear };
    let id = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
    let created_at = raw.generation_created_at.as_ref().and_then(milliseconds);
    let conversation_id = id(&raw.conversation_id).or_else(|| id(&raw.stream_id));
    let is_known = conversation_id.as_ref().is_some_and(|id| id.len() <= MAX_ID_BYTES);
    match (raw.status.as_ref().and_then(Value::as_str), conversation_id) {
        (Some("started"), Some(conversation_id)) if is_known => StartAnswer::Started { conversation_id, created_at },
        (Some("resuming"), Some(conversation_id)) if is_known => StartAnswer::Resuming { conversation_id, created_at },
        (Some("resumed" | "settled" | "replaced"), _) => StartAnswer::NotNew,
        (None, None) if [raw.kind, raw.code].iter().flatten().any(Value::is_string) => StartAnswer::Refused,
        _ => StartAnswer::Unclear,
    }
}

/// A point in time as JavaScript may write it. One that is no whole number of milliseconds cannot be said again as it was,
/// and counts as not told.
fn milliseconds(value: &Value) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= LARGEST)?;
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and within what both can hold")]
            Some(number as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
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
        assert_eq!(read(br#"{"code":"SERVER_NOT_READY"}"#), StartAnswer::Refused);
    }

    #[test]
    fn what_is_not_understood_is_no_refusal() {
        let long = format!(r#"{{"status":"started","conversationId":"{}"}}"#, "c".repeat(MAX_ID_BYTES + 1));
        for odd in [
            "<html>",
            "",
            "{}",
            r#"{"status":"queued","streamId":"c1"}"#,
            r#"{"status":"started"}"#,
            r#"{"type":"x","streamId":"c"}"#,
            &long,
        ] {
            assert_eq!(read(odd.as_bytes()), StartAnswer::Unclear, "{odd}");
        }
    }

    #[test]
    fn times_as_javascript_writes_them() {
        for (written, meant) in
            [("1795198786673.0", Some(1_795_198_786_673)), (r#""1795198786673""#, Some(1_795_198_786_673)), ("1.5", None), ("{}", None)]
        {
            let answer = read(format!(r#"{{"status":"started","streamId":"c","generationCreatedAt":{written}}}"#).as_bytes());
            assert_eq!(answer, StartAnswer::Started { conversation_id: "c".into(), created_at: meant }, "{written}");
        }
    }

    #[test]
    fn a_head_and_a_tail_are_no_answer() {
        let mut reader = StartReader::default();
        assert_eq!(reader.push(br#"{"status":"#), None);
        assert_eq!(reader.push(&vec![b' '; MAX_ANSWER_BYTES]), None);
        assert_eq!(reader.push(br#""settled"}"#), None);
        assert_eq!(reader.finish(), StartAnswer::Unclear);
    }
}
