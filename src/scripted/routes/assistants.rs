//! Starting a run of an assistant.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use crate::scripted::connection::Handle;
use crate::scripted::options::Wire;
use crate::scripted::place::Place;
use crate::scripted::run::{Listen, Run, Work};

use super::answer;
use super::chat::{Start, answered, launch, new_turn};
use super::person::Browser;

/// `POST /api/assistants/v1/chat` and `/v2/chat`: the answer is the stream, in every version.
pub async fn start(
    State(place): State<Arc<Place>>,
    ConnectInfo(connection): ConnectInfo<Handle>,
    Browser(user): Browser,
    body: Bytes,
) -> Response {
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&body) else {
        return answer::message(StatusCode::BAD_REQUEST, "Unexpected token in JSON");
    };
    let body = Start { body, endpoint: Some("assistants".to_owned()) };
    let directives = place.options.defaults.clone().read(body.text("text"));
    let mut turn = new_turn(&place, &user, &body, &directives);
    turn.wire = Wire::Direct;
    let run = Run::new(turn, directives, Work::Assistant(body.text("assistant_id").to_owned()));
    launch(&place, &run);
    let response = answer::events(Wire::Direct, run.listen(Listen::Own, connection.clone()));
    answered(&place, &run.directives, &connection, response).await
}
