//! Uploads, answered with what arrived, speech, and the code tool.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::StreamExt;

use crate::scripted::json::Object;
use crate::scripted::place::Place;
use crate::scripted::requests::Tally;

use super::answer;
use super::person::Browser;

/// `/api/files` and below.
pub fn routes() -> Router<Arc<Place>> {
    Router::new()
        .route("/api/files", get(list).post(upload))
        .route("/api/files/images", post(upload))
        .route("/api/files/speech/stt", post(hear))
        .route("/api/files/speech/tts", post(speak))
        .route("/api/files/speech/tts/manual", post(speak))
        .route("/api/agents/tools/{tool}/call", post(call))
}

async fn list(Browser(_): Browser) -> Response {
    answer::text(StatusCode::OK, "application/json; charset=utf-8", "[]")
}

async fn upload(State(place): State<Arc<Place>>, Browser(user): Browser, Extension(tally): Extension<Tally>, request: Request) -> Response {
    if !read(request.into_body()).await {
        return answer::message(StatusCode::BAD_REQUEST, "Unexpected end of form");
    }
    let (bytes, sha256) = tally.measure();
    let file = Object::new()
        .put("message", "File uploaded and processed successfully")
        .put("file_id", place.ids.message().to_string())
        .put("user", user.id)
        .put("bytes", bytes)
        .put("sha256", sha256);
    answer::ok(&file)
}

async fn hear(Browser(_): Browser, request: Request) -> Response {
    if !read(request.into_body()).await {
        return answer::message(StatusCode::BAD_REQUEST, "Unexpected end of form");
    }
    answer::ok(&Object::new().put("text", "scripted speech"))
}

async fn speak(Browser(_): Browser, request: Request) -> Response {
    if !read(request.into_body()).await {
        return answer::message(StatusCode::BAD_REQUEST, "Unexpected end of form");
    }
    answer::text(StatusCode::OK, "audio/mpeg", vec![0xff_u8; 2048])
}

async fn call(Browser(_): Browser) -> Response {
    answer::ok(&Object::new().put("result", "scripted result"))
}

/// Reads a body to its end without keeping it; `false` if it broke off.
async fn read(body: Body) -> bool {
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        if piece.is_err() {
            return false;
        }
    }
    true
}
