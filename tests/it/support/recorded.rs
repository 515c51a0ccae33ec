//! A LibreChat that only repeats what one once said: recorded exchanges, found again by method, path and body.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;

/// A recorded exchange.
#[derive(Debug, Clone, Deserialize)]
pub struct Recording {
    pub name: String,
    pub at: Timestamp,
    pub request: RecordedRequest,
    pub response: RecordedResponse,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RecordedRequest {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, serde_json::Value>,
    #[serde(default)]
    pub body: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedResponse {
    pub status: u16,
    pub raw_headers: Vec<String>,
    /// `end`, or who broke off.
    #[serde(default)]
    pub end: String,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Chunk {
    pub text: String,
}

impl Recording {
    /// The body of the answer, piece by piece.
    pub fn pieces(&self) -> Vec<String> {
        let pieces = self.response.chunks.iter().map(|chunk| chunk.text.clone());
        pieces.chain(self.response.body.clone()).collect()
    }

    /// The body of the answer as a whole.
    pub fn text(&self) -> String {
        self.pieces().concat()
    }

    /// Whether LibreChat came to the end of its answer. Otherwise the client left before.
    pub fn is_whole(&self) -> bool {
        self.response.end == "end"
    }

    fn key(&self) -> (String, String, String) {
        (self.request.method.clone(), self.request.path.clone(), self.request.body.clone().unwrap_or_default())
    }
}

/// Every recording in a folder, by name; `None` where the folder is not there.
pub fn load(folder: &Path) -> Option<HashMap<String, Recording>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let files = entries.map(|entry| entry.expect("a readable folder").path());
    let recordings = files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).map(|path| {
        let text = std::fs::read_to_string(&path).expect("a readable recording");
        let recording: Recording = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().expect("a name").to_string_lossy().into_owned(), recording)
    });
    Some(recordings.collect())
}

/// The folder of recordings that several projects share, where it is there.
pub fn shared_folder(of: &str) -> PathBuf {
    let folder = std::env::var_os("TOLLGATE_FIXTURES").map(PathBuf::from);
    folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures")).join(of)
}

/// Serves recordings on a free port until it is dropped.
pub struct Repeater {
    pub url: String,
    server: tokio::task::JoinHandle<()>,
}

type Known = Arc<HashMap<(String, String, String), Recording>>;

impl Repeater {
    pub async fn start(recordings: &HashMap<String, Recording>) -> Self {
        let known: Known = Arc::new(recordings.values().map(|recording| (recording.key(), recording.clone())).collect());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(repeat).with_state(known);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving does not fail") });
        Self { url, server }
    }
}

impl Drop for Repeater {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn repeat(State(known): State<Known>, method: Method, uri: Uri, body: Bytes) -> Response<Body> {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let key = (method.as_str().to_owned(), path.to_owned(), String::from_utf8_lossy(&body).into_owned());
    let Some(recording) = known.get(&key) else { return unknown(uri.path()) };
    let pieces = futures_util::stream::iter(recording.pieces().into_iter().map(Bytes::from)).then(|piece| async move {
        // So that the pieces are written one by one, as they were.
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(piece)
    });
    let body =
        if recording.is_whole() { Body::from_stream(pieces) } else { Body::from_stream(pieces.chain(futures_util::stream::pending())) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(recording.response.status).expect("a status");
    *response.headers_mut() = headers(&recording.response.raw_headers);
    response
}

/// What LibreChat says where nothing was recorded: no stream, nothing runs, nothing saved.
fn unknown(path: &str) -> Response<Body> {
    let (status, body) = match path {
        path if path.starts_with("/api/agents/chat/stream/") => (404, r#"{"error":"Stream not found"}"#),
        path if path.starts_with("/api/agents/chat/status/") => (200, r#"{"active":false}"#),
        path if path.starts_with("/api/messages/") => (200, "[]"),
        "/api/agents/chat/active" => (200, r#"{"activeJobIds":[]}"#),
        "/api/convos" => (200, r#"{"conversations":[]}"#),
        _ => (404, r#"{"message":"Endpoint not found"}"#),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// The recorded headers, without those that belonged to the recorded connection. Bodies were recorded decoded.
fn headers(raw: &[String]) -> HeaderMap {
    const OF_THE_CONNECTION: [&str; 6] = ["connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "date"];
    let pairs = raw.chunks_exact(2).filter(|pair| !OF_THE_CONNECTION.contains(&pair[0].to_ascii_lowercase().as_str()));
    pairs.map(|pair| (HeaderName::try_from(&pair[0]).expect("a name"), HeaderValue::try_from(&pair[1]).expect("a value"))).collect()
}
