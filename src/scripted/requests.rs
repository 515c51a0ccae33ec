//! What arrived: every request, in order, as tests want to look at it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::request::Parts;
use futures_util::Stream;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::ids::hex;

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The path, undecoded.
    pub path: String,
    /// The query, undecoded and without `?`; empty where there is none.
    pub query: String,
    /// Header names in lower case and values, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Bytes of body that arrived.
    pub body_len: u64,
    /// SHA-256 of them, in hexadecimal.
    pub body_sha256: String,
    /// The first of them, up to `Options::keep_body`.
    pub body: Vec<u8>,
    /// Whether the body arrived to its end.
    pub body_complete: bool,
}

impl Received {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Method and path, as in `GET /api/user`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The requests that are remembered.
#[derive(Debug)]
pub struct Requests {
    keep: usize,
    keep_body: usize,
    kept: Mutex<VecDeque<Arc<Mutex<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    head: Received,
    hash: Sha256,
}

/// What a body was, once it was read.
#[derive(Debug, Clone)]
pub struct Tally(Arc<Mutex<Entry>>);

impl Tally {
    /// Length and SHA-256 (hexadecimal) of what was read so far.
    pub fn measure(&self) -> (u64, String) {
        let entry = self.0.lock();
        (entry.head.body_len, hex(&entry.hash.clone().finalize()))
    }
}

impl Requests {
    /// Remembers the newest `keep` requests, and `keep_body` bytes of each.
    pub fn new(keep: usize, keep_body: usize) -> Self {
        Self { keep, keep_body, kept: Mutex::default() }
    }

    /// Every request that is remembered.
    pub fn all(&self) -> Vec<Received> {
        self.kept.lock().iter().map(|entry| finished(&entry.lock())).collect()
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.kept.lock().clear();
    }

    /// Remembers a request; what it answers is the body to read instead of the first one.
    pub fn take(&self, parts: &Parts, body: Body) -> (Tally, Body) {
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let head = Received {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: headers.collect(),
            body_len: 0,
            body_sha256: String::new(),
            body: Vec::new(),
            body_complete: false,
        };
        let entry = Arc::new(Mutex::new(Entry { head, hash: Sha256::new() }));
        let mut kept = self.kept.lock();
        while kept.len() >= self.keep.max(1) {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&entry));
        let counted = Counted { body: body.into_data_stream(), entry: Arc::clone(&entry), keep: self.keep_body };
        (Tally(entry), Body::from_stream(counted))
    }
}

fn finished(entry: &Entry) -> Received {
    Received { body_sha256: hex(&entry.hash.clone().finalize()), ..entry.head.clone() }
}

/// A body that is measured while it is read.
struct Counted {
    body: BodyDataStream,
    entry: Arc<Mutex<Entry>>,
    keep: usize,
}

impl Stream for Counted {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.body).poll_next(context);
        let mut entry = self.entry.lock();
        match &next {
            Poll::Ready(Some(Ok(bytes))) => {
                entry.hash.update(bytes);
                entry.head.body_len += bytes.len() as u64;
                let room = self.keep.saturating_sub(entry.head.body.len()).min(bytes.len());
                entry.head.body.extend_from_slice(&bytes[..room]);
            }
            Poll::Ready(None) => entry.head.body_complete = true,
            _ => {}
        }
        drop(entry);
        next
    }
}
