//! The OpenAI-compatible API of LibreChat's agents, `/api/agents/v1`: what a request asks and what its answer used.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::usage::{Count, Tokens};
use crate::sse::{Event, EventReader};

/// What Tollgate reads of a request.
#[derive(Debug, Default, Deserialize)]
pub struct ApiRequest<'a> {
    /// The agent: LibreChat takes its id for the model.
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(default)]
    messages: Option<Value>,
    #[serde(default)]
    input: Option<Value>,
    #[serde(default)]
    instructions: Option<Value>,
    #[serde(default, rename = "__proto__")]
    prototype: Option<IgnoredAny>,
}

impl<'a> ApiRequest<'a> {
    /// Reads a request's body.
    pub fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        // A list would be read as the fields in their order.
        if json.trim_ascii_start().starts_with(b"[") {
            return Err(serde::de::Error::custom("a list is no request"));
        }
        let request: Self = serde_json::from_slice(json)?;
        if request.prototype.is_some() {
            return Err(serde::de::Error::custom("a request has no prototype"));
        }
        Ok(request)
    }

    /// Everything a model would read.
    pub fn visible_text(&self) -> String {
        let mut text = String::new();
        for value in [&self.instructions, &self.messages, &self.input].into_iter().flatten() {
            append_strings(&mut text, value);
        }
        text
    }
}

fn append_strings(text: &mut String, value: &Value) {
    match value {
        Value::String(part) => {
            text.push_str(part);
            text.push('\n');
        }
        Value::Array(values) => values.iter().for_each(|value| append_strings(text, value)),
        Value::Object(object) => {
            for (key, value) in object {
                // Images are counted by the provider in its own way; their base64 is no text.
                if !matches!(key.as_str(), "role" | "type" | "id" | "image_url" | "input_audio" | "file") {
                    append_strings(text, value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What an answer turned out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiAnswer {
    /// Usage that the answer itself reports, unless it is all zero.
    pub usage: Option<Tokens>,
    /// What the model wrote.
    pub text: String,
    /// Whether the answer is known to be complete.
    pub complete: bool,
    /// Whether it says that it failed.
    pub failed: bool,
}

/// The most of a plain JSON answer, and of the text of a streamed one, that is kept for counting.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Reads an answer as it passes, plain or streamed, compressed or not.
pub struct ApiAnswerReader {
    decoder: Decoder,
    streamed: bool,
    plain: Vec<u8>,
    events: EventReader,
    answer: ApiAnswer,
}

impl std::fmt::Debug for ApiAnswerReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiAnswerReader").field("streamed", &self.streamed).finish_non_exhaustive()
    }
}

impl ApiAnswerReader {
    /// A reader for an answer with these `Content-Type` and `Content-Encoding`.
    pub fn new(content_type: &str, content_encoding: &str) -> Self {
        Self {
            decoder: Decoder::for_encoding(content_encoding),
            streamed: content_type.trim_start().to_ascii_lowercase().starts_with("text/event-stream"),
            plain: Vec::new(),
            events: EventReader::default(),
            answer: ApiAnswer::default(),
        }
    }

    /// Reads a chunk as it came over the wire.
    pub fn push(&mut self, chunk: &[u8]) {
        let decoded = self.decoder.decode(chunk);
        self.take(&decoded);
    }

    /// The answer is over, or was cut.
    pub fn finish(mut self) -> ApiAnswer {
        let rest = self.decoder.finish();
        self.take(&rest);
        if self.streamed {
            let answer = &mut self.answer;
            self.events.finish(&mut |event| read_event(event, answer));
        } else if let Ok(raw) = serde_json::from_slice::<RawAnswer<'_>>(&self.plain) {
            self.answer.complete = true;
            raw.read_into(&mut self.answer);
        }
        self.answer
    }

    fn take(&mut self, decoded: &[u8]) {
        if self.streamed {
            let answer = &mut self.answer;
            self.events.push(decoded, &mut |event| read_event(event, answer));
        } else if self.plain.len() + decoded.len() <= MAX_KEPT_BYTES {
            self.plain.extend_from_slice(decoded);
        }
    }
}

fn read_event(event: Event<'_>, answer: &mut ApiAnswer) {
    if event.data == b"[DONE]" {
        answer.complete = true;
    } else if let Ok(raw) = serde_json::from_slice::<RawAnswer<'_>>(event.data) {
        raw.read_into(answer);
    }
}

/// Chat completions, their chunks, responses and their events: what is read of them has the same names.
#[derive(Deserialize)]
struct RawAnswer<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(default)]
    choices: Option<Vec<RawChoice>>,
    #[serde(default)]
    delta: Option<Value>,
    #[serde(default)]
    response: Option<RawResponse>,
    #[serde(default)]
    output: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct RawResponse {
    #[serde(default)]
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct RawChoice {
    #[serde(default)]
    delta: Option<Value>,
    #[serde(default)]
    message: Option<Value>,
}

#[derive(Deserialize)]
struct RawUsage {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
    #[serde(default, alias = "input_tokens_details")]
    prompt_tokens_details: Option<RawDetails>,
}

#[derive(Default, Deserialize)]
struct RawDetails {
    #[serde(default)]
    cached_tokens: Count,
}

impl RawAnswer<'_> {
    fn read_into(self, answer: &mut ApiAnswer) {
        if let Some(usage) = self.usage.or(self.response.and_then(|response| response.usage)) {
            let tokens = Tokens {
                input: usage.prompt_tokens.0.max(usage.input_tokens.0),
                output: usage.completion_tokens.0.max(usage.output_tokens.0),
                cache_read: usage.prompt_tokens_details.unwrap_or_default().cached_tokens.0,
                cache_write: 0,
            };
            // LibreChat answers 0/0/0 where the provider gave no usage.
            if tokens.total() > 0 {
                answer.usage = Some(tokens);
            }
        }
        let kind = self.kind.unwrap_or_default();
        answer.complete |= kind == "response.completed";
        answer.failed |= kind == "response.failed" || kind == "error" || self.error.is_some_and(|error| !error.is_null());
        for choice in self.choices.unwrap_or_default() {
            for value in [choice.delta, choice.message].into_iter().flatten() {
                keep_written(&mut answer.text, &value);
            }
        }
        if let Some(Value::String(delta)) = self.delta {
            keep(&mut answer.text, &delta);
        }
        if let Some(Value::Array(items)) = self.output {
            for item in &items {
                keep_written(&mut answer.text, item);
            }
        }
    }
}

/// Keeps what a model wrote in a message, a delta or an output item: content, reasoning, tool calls.
fn keep_written(text: &mut String, value: &Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if matches!(
                    key.as_str(),
                    "content" | "text" | "reasoning" | "reasoning_content" | "summary" | "tool_calls" | "function" | "name" | "arguments"
                ) {
                    match value {
                        Value::String(part) => keep(text, part),
                        nested => keep_written(text, nested),
                    }
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keep_written(text, value)),
        _ => {}
    }
}

fn keep(text: &mut String, part: &str) {
    if text.len() + part.len() <= MAX_KEPT_BYTES {
        text.push_str(part);
    }
}

/// Undoes a content encoding piece by piece. What cannot be decoded is not read; it passes all the same.
enum Decoder {
    Identity,
    Gzip(flate2::write::MultiGzDecoder<Vec<u8>>),
    Deflate(flate2::write::ZlibDecoder<Vec<u8>>),
    Brotli(Box<brotli::DecompressorWriter<Vec<u8>>>),
    Unreadable,
}

impl Decoder {
    fn for_encoding(encoding: &str) -> Self {
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip(flate2::write::MultiGzDecoder::new(Vec::new())),
            "deflate" => Self::Deflate(flate2::write::ZlibDecoder::new(Vec::new())),
            "br" => Self::Brotli(Box::new(brotli::DecompressorWriter::new(Vec::new(), 4096))),
            _ => Self::Unreadable,
        }
    }

    fn decode<'a>(&mut self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        let (result, out) = match self {
            Self::Identity => return Cow::Borrowed(chunk),
            Self::Unreadable => return Cow::Borrowed(&[]),
            Self::Gzip(decoder) => (feed(decoder, chunk), std::mem::take(decoder.get_mut())),
            Self::Deflate(decoder) => (feed(decoder, chunk), std::mem::take(decoder.get_mut())),
            Self::Brotli(decoder) => (feed(&mut **decoder, chunk), std::mem::take(decoder.get_mut())),
        };
        if result.is_err() {
            *self = Self::Unreadable;
        }
        Cow::Owned(out)
    }

    fn finish(&mut self) -> Vec<u8> {
        match std::mem::replace(self, Self::Unreadable) {
            Self::Identity | Self::Unreadable => Vec::new(),
            Self::Gzip(decoder) => decoder.finish().unwrap_or_default(),
            Self::Deflate(decoder) => decoder.finish().unwrap_or_default(),
            Self::Brotli(mut decoder) => {
                let _ = decoder.close();
                std::mem::take(decoder.get_mut())
            }
        }
    }
}

/// Feeds a decoder in small pieces, so that a few bytes that unfold to gigabytes are stopped early.
fn feed(decoder: &mut (impl std::io::Write + Unfolded), chunk: &[u8]) -> std::io::Result<()> {
    for piece in chunk.chunks(1024) {
        decoder.write_all(piece)?;
        decoder.flush()?;
        if decoder.unfolded() > 4 * MAX_KEPT_BYTES {
            return Err(std::io::Error::other("the answer unfolds to too much"));
        }
    }
    Ok(())
}

trait Unfolded {
    fn unfolded(&self) -> usize;
}

impl Unfolded for flate2::write::MultiGzDecoder<Vec<u8>> {
    fn unfolded(&self) -> usize {
        self.get_ref().len()
    }
}

impl Unfolded for flate2::write::ZlibDecoder<Vec<u8>> {
    fn unfolded(&self) -> usize {
        self.get_ref().len()
    }
}

impl Unfolded for brotli::DecompressorWriter<Vec<u8>> {
    fn unfolded(&self) -> usize {
        self.get_ref().len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":5}}}\n\ndata: [DONE]\n\n";

    fn read(content_type: &str, encoding: &str, body: &[u8], step: usize) -> ApiAnswer {
        let mut reader = ApiAnswerReader::new(content_type, encoding);
        body.chunks(step).for_each(|chunk| reader.push(chunk));
        reader.finish()
    }

    fn expected() -> ApiAnswer {
        ApiAnswer {
            usage: Some(Tokens { input: 20, output: 2, cache_read: 5, cache_write: 0 }),
            text: "Hello".into(),
            complete: true,
            failed: false,
        }
    }

    #[test]
    fn streams_compressed_or_not() {
        assert_eq!(read("text/event-stream", "", STREAM.as_bytes(), 7), expected());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(STREAM.as_bytes()).expect("in memory");
        assert_eq!(read("text/event-stream", "gzip", &gzip.finish().expect("in memory"), 5), expected());
        let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
        brotli.write_all(STREAM.as_bytes()).expect("in memory");
        assert_eq!(read("text/event-stream", "br", &brotli.into_inner(), 3), expected());
    }

    #[test]
    fn plain_answers_and_zero_usage() {
        let body =
            br#"{"id":"x","choices":[{"message":{"role":"assistant","content":"Hi"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#;
        assert_eq!(read("application/json", "", body, 9), ApiAnswer { text: "Hi".into(), complete: true, ..ApiAnswer::default() });
        let body = br#"{"output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":3,"output_tokens":1}}"#;
        let answer = read("application/json; charset=utf-8", "", body, 9);
        assert_eq!((answer.text.as_str(), answer.usage.map(Tokens::total)), ("Hi", Some(4)));
    }

    #[test]
    fn an_error_within_a_200_is_a_failure() {
        let answer = read("text/event-stream", "", b"data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n", 9);
        assert!(answer.failed && answer.text.is_empty(), "{answer:?}");
        let answer = read("application/json", "", br#"{"choices":[{"message":{"content":"Hi"}}],"error":null}"#, 9);
        assert!(!answer.failed, "null is no error");
    }

    #[test]
    fn garbage_is_not_read_and_does_not_grow() {
        let answer = read("text/event-stream", "gzip", &[0xff; 5000], 100);
        assert_eq!(answer, ApiAnswer::default());
    }
}
