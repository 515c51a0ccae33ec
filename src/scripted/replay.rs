//! Recorded exchanges with a real LibreChat, served again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::frames::CallUsage;
use super::run::Run;

/// Why a recording cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is not there, or cannot be read.
    #[error("cannot read the recording {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a recording.
    #[error("{path} is no recording: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It holds no chat.
    #[error("{path} {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
}

/// One recorded chat: what the start was answered, and the pieces of the stream.
#[derive(Debug, Clone)]
pub struct Replay {
    /// What it is called.
    pub name: String,
    /// The JSON answer of the start; `None` where the start's answer was the stream.
    pub start: Option<Value>,
    /// The pieces of the stream, and when they came.
    pub pieces: Vec<(Duration, Bytes)>,
    /// The text of the recorded request, with its token and cookies left out.
    pub request: Value,
}

#[derive(Deserialize)]
struct Recording {
    request: RecordedRequest,
    response: RecordedResponse,
}

#[derive(Deserialize)]
struct RecordedRequest {
    path: String,
    #[serde(default)]
    body: Option<String>,
}

#[derive(Deserialize)]
struct RecordedResponse {
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct Chunk {
    t: u64,
    text: String,
}

impl Replay {
    /// Reads the recording whose file in `dir` is called `<name>.json`, at its recorded speed.
    ///
    /// `name` is that of a start (`A28-chat-new-start`), whose stream is then looked for in the same folder by the
    /// conversation's id, or that of a direct stream (`H05-chat-new`).
    pub fn load(dir: impl AsRef<Path>, name: &str) -> Result<Self, ReplayError> {
        let path = dir.as_ref().join(format!("{name}.json"));
        let recording = read(&path)?;
        let request = recording.request.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        let mut replay = Self { name: name.to_owned(), start: None, pieces: pieces(&recording.response.chunks), request };
        if !replay.pieces.is_empty() {
            return Ok(replay);
        }
        let body = recording.response.body.unwrap_or_default();
        let start: Value = serde_json::from_str(&body).map_err(|source| ReplayError::Json { path: path.clone(), source })?;
        let Some(id) = start["streamId"].as_str() else {
            return Err(ReplayError::Content { path, what: "holds neither a stream nor the start of one" });
        };
        replay.pieces = stream_of(dir.as_ref(), id, start["generationCreatedAt"].as_i64())?
            .ok_or(ReplayError::Content { path, what: "starts a stream that is not among the recordings" })?;
        replay.start = Some(start);
        Ok(replay)
    }

    /// The same at another speed, in hundredths: 0 is all at once, 100 as recorded, 200 twice as slow.
    #[must_use]
    pub fn at_speed(mut self, percent: u32) -> Self {
        for (at, _) in &mut self.pieces {
            *at = at.saturating_mul(percent) / 100;
        }
        self
    }

    /// The recorded conversation.
    pub fn conversation(&self) -> Option<String> {
        if let Some(start) = &self.start {
            return start["conversationId"].as_str().map(str::to_owned);
        }
        let stream = self.stream();
        let (_, after) = stream.split_once("\"conversationId\":\"")?;
        Some(after.split('"').next()?.to_owned())
    }

    /// The whole stream.
    pub fn stream(&self) -> String {
        self.pieces.iter().map(|(_, piece)| String::from_utf8_lossy(piece)).collect()
    }

    /// Says every piece when its time has come.
    pub(super) async fn perform(&self, run: &Run) {
        let begun = Instant::now();
        for (at, piece) in &self.pieces {
            if !at.is_zero() {
                sleep_until(begun + *at).await;
            }
            run.say(piece.clone());
            for frame in String::from_utf8_lossy(piece).split("\n\n").filter_map(|frame| frame.split_once("data: ")) {
                if let Ok(data) = serde_json::from_str::<Value>(frame.1) {
                    run.overhear(&data);
                }
            }
        }
    }
}

/// The numbers of a recorded `on_token_usage` frame.
pub(super) fn recorded_usage(data: &Value) -> CallUsage {
    let count = |pointer: &str| data.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    CallUsage {
        model: data["model"].as_str().unwrap_or_default().to_owned(),
        input: count("/input_tokens"),
        output: count("/output_tokens"),
        cached: count("/input_token_details/cache_read"),
        written: count("/input_token_details/cache_creation"),
    }
}

fn read(path: &Path) -> Result<Recording, ReplayError> {
    let text = fs::read_to_string(path).map_err(|source| ReplayError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| ReplayError::Json { path: path.to_owned(), source })
}

fn pieces(chunks: &[Chunk]) -> Vec<(Duration, Bytes)> {
    chunks.iter().map(|chunk| (Duration::from_millis(chunk.t), Bytes::from(chunk.text.clone()))).collect()
}

/// The pieces of the first recorded stream of this run, one that does not resume before one that does.
fn stream_of(dir: &Path, id: &str, created_at: Option<i64>) -> Result<Option<Vec<(Duration, Bytes)>>, ReplayError> {
    let entries = fs::read_dir(dir).map_err(|source| ReplayError::Read { path: dir.to_owned(), source })?;
    let mut files = entries.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let stream = format!("/api/agents/chat/stream/{id}?");
    let run = created_at.map(|created| format!("generationCreatedAt={created}"));
    for file in files {
        let recording = read(&file)?;
        let path = &recording.request.path;
        let is_run = run.as_ref().is_none_or(|run| path.contains(run)) && !path.contains("resume=true");
        if path.starts_with(&stream) && is_run && !recording.response.chunks.is_empty() {
            return Ok(Some(pieces(&recording.response.chunks)));
        }
    }
    Ok(None)
}
