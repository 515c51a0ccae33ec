//! What LibreChat writes down: conversations and messages, as its API shows them.

use serde_json::Value;

use super::frames::{self, NO_PARENT, Turn};
use super::json::{Node, Object};
use super::options::Wire;
use super::place::{Convo, Message, Place};
use super::run::{Run, RunState};
use crate::librechat::chat::is_saved_agent;

/// The title of a conversation that has none yet.
const NEW_CHAT: &str = "New Chat";

/// The tokens of a text, roughly: four bytes each, and what a message costs by itself.
pub fn estimate(text: &str) -> u64 {
    text.len() as u64 / 4 + 4
}

/// The conversation of a run is there from the run's start on.
pub fn open(place: &Place, turn: &Turn) {
    if place.convo(&turn.user, &turn.conversation_id, |_| ()).is_some() {
        return;
    }
    place.add_convo(Convo {
        document: place.ids.document(),
        id: turn.conversation_id.clone(),
        user: turn.user.clone(),
        title: NEW_CHAT.to_owned(),
        endpoint: turn.endpoint.clone(),
        endpoint_type: turn.endpoint_type.clone(),
        model: turn.main().map(|lane| lane.model.clone()).unwrap_or_default(),
        agent_id: turn.main().map(|lane| lane.agent_id.clone()).unwrap_or_default(),
        created_at: turn.created_at,
        updated_at: turn.created_at,
        number: place.ids.number(),
        documents: Vec::new(),
        messages: Vec::new(),
        tokens: 0,
    });
}

/// Gives a conversation its title.
pub fn entitle(place: &Place, turn: &Turn, title: &str) {
    place.convo(&turn.user, &turn.conversation_id, |convo| title.clone_into(&mut convo.title));
}

/// Saves what the person said. A message that is there already, as in a regeneration, is not saved twice.
pub fn save_request(place: &Place, run: &Run) {
    let (turn, now) = (&run.turn, place.now());
    let message = Object::new()
        .put("messageId", turn.message_id.clone())
        .put("updatedAt", frames::iso(now))
        .put("unfinished", false)
        .put("endpoint", turn.endpoint.clone())
        .put("tokenCount", turn.text_tokens)
        .put("isCreatedByUser", true)
        .put("text", turn.text.clone())
        .put("sender", "User")
        .put("conversationId", turn.conversation_id.clone())
        .put("parentMessageId", turn.parent_id.clone())
        .put("createdAt", frames::iso(turn.created_at))
        .put("model", Value::Null)
        .put("isTemporary", false)
        .put("error", false);
    add(place, turn, &turn.message_id, message, turn.text_tokens);
}

/// Saves both messages of a run that is over, and gives the answer as its `final` frame shows it.
pub fn save_answer(place: &Place, run: &Run, state: RunState) -> Object {
    save_request(place, run);
    let (turn, now) = (&run.turn, place.now());
    let mut content = run.content();
    if state == RunState::Failed {
        content.push(Object::new().put("type", "error").put("error", "An error occurred while processing the request: terminated"));
    }
    let calls = run.summary().lock().calls.clone();
    let tokens = run.summary().lock().tokens;
    let metadata = metadata(run);
    let aborted = state == RunState::Aborted;
    let message = Object::new()
        .put("messageId", turn.response_id.clone())
        .put("updatedAt", frames::iso(now))
        .put("unfinished", aborted)
        .put("attachments", Vec::<Node>::new())
        .put("tokenCount", tokens)
        .put("content", content.clone())
        .put("text", "")
        .put_some("metadata", metadata.clone())
        .put("endpoint", turn.endpoint.clone())
        .put("sender", turn.sender.clone())
        .put("model", model(turn))
        .put("isCreatedByUser", false)
        .put("parentMessageId", turn.message_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("createdAt", frames::iso(now))
        .put("isTemporary", false)
        .put("error", false);
    add(place, turn, &turn.response_id, message, tokens);
    if aborted { aborted_response(turn, content) } else { response(turn, content, metadata, calls.len(), tokens) }
}

/// Saves the messages that a recorded `final` frame shows.
pub fn save_replay(place: &Place, run: &Run) {
    let transcript = run.transcript();
    let last = transcript
        .split("\n\n")
        .filter_map(|frame| frame.split_once("data: "))
        .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
    let Some(last) = last.filter(|data| data["final"] == true).last() else { return };
    for key in ["requestMessage", "responseMessage"] {
        if let Some(id) = last[key]["messageId"].as_str() {
            add(place, &run.turn, id, last[key].clone(), 0);
        }
    }
}

/// A conversation as `final` frames and `/api/convos/:id` show it, and its title when the run began.
pub fn conversation(place: &Place, turn: &Turn) -> (Object, String) {
    place
        .convo(&turn.user, &turn.conversation_id, |convo| {
            // LibreChat's frame still says "New Chat" in the run that makes the title.
            let title = if turn.title.is_some() { NEW_CHAT.to_owned() } else { convo.title.clone() };
            (show(convo, &title), title)
        })
        .unwrap_or_else(|| (Object::new().put("conversationId", turn.conversation_id.clone()), NEW_CHAT.to_owned()))
}

/// A conversation whole.
pub fn show(convo: &Convo, title: &str) -> Object {
    Object::new()
        .put("_id", convo.document.clone())
        .put("conversationId", convo.id.clone())
        .put("user", convo.user.clone())
        .put("createdAt", frames::iso(convo.created_at))
        .put("__v", 0)
        .put("title", title)
        .put("isTemporary", false)
        .put("isArchived", false)
        .put("tags", Vec::<Node>::new())
        .put("chatProjectId", Value::Null)
        .put("files", Vec::<Node>::new())
        .put("endpoint", convo.endpoint.clone())
        .put_some("endpointType", convo.endpoint_type.clone())
        .put("agent_id", convo.agent_id.clone())
        .put("resendFiles", true)
        .put("model", convo.model.clone())
        .put("messages", convo.documents.iter().map(|id| Node::from(id.as_str())).collect::<Vec<_>>())
        .put("updatedAt", frames::iso(convo.updated_at))
}

/// A conversation as `/api/convos` lists it.
pub fn list(convo: &Convo) -> Object {
    Object::new()
        .put("conversationId", convo.id.clone())
        .put("endpoint", convo.endpoint.clone())
        .put("title", convo.title.clone())
        .put("createdAt", frames::iso(convo.created_at))
        .put("updatedAt", frames::iso(convo.updated_at))
        .put("user", convo.user.clone())
        .put("model", convo.model.clone())
        .put("agent_id", convo.agent_id.clone())
        .put("chatProjectId", Value::Null)
        .put("_id", convo.document.clone())
        .put("isShared", false)
}

/// What LibreChat calls the model of an answer: of a saved agent, the agent.
fn model(turn: &Turn) -> String {
    let named = turn.main().map(|lane| if is_saved_agent(&lane.agent_id) { &lane.agent_id } else { &lane.model });
    named.cloned().unwrap_or_default()
}

/// `metadata` of an answer: there only when the provider gave usage for at least one call.
fn metadata(run: &Run) -> Option<Object> {
    let calls = run.summary().lock().calls.clone();
    if run.turn.wire != Wire::Resumable || !run.directives.usage || calls.is_empty() {
        return None;
    }
    let output: u64 = calls.iter().map(|call| call.output).sum();
    let cached: u64 = calls.iter().map(|call| call.cached).sum();
    let written: u64 = calls.iter().map(|call| call.written).sum();
    let input: u64 = calls.iter().map(|call| call.input.saturating_sub(call.cached)).sum();
    let usage = Object::new().put("input", input).put("output", output).put("cacheWrite", written).put("cacheRead", cached);
    let context = run.last_context().map(|context| context.put("completedOutputTokens", output));
    Some(Object::new().put_some("contextUsage", context).put("usage", usage))
}

fn response(turn: &Turn, content: Vec<Object>, metadata: Option<Object>, calls: usize, tokens: u64) -> Object {
    // LibreChat's count is often wrong: without usage, the first answer of a conversation gets its title's (always 3 here).
    let counted = if metadata.is_none() && turn.parent_id == NO_PARENT { 3 } else { tokens };
    let object = Object::new()
        .put("messageId", turn.response_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("parentMessageId", turn.message_id.clone())
        .put("isCreatedByUser", false)
        .put("isEdited", false)
        .put("model", model(turn))
        .put("sender", turn.sender.clone())
        .put("promptTokens", turn.prompt_tokens)
        .put("endpoint", turn.endpoint.clone())
        .put_some("metadata", metadata)
        .put("text", "")
        .put("content", content)
        .put_some("tokenCount", (turn.wire != Wire::Direct && calls > 0).then_some(counted));
    object.put("attachments", Vec::<Node>::new())
}

fn aborted_response(turn: &Turn, content: Vec<Object>) -> Object {
    Object::new()
        .put("messageId", turn.response_id.clone())
        .put("parentMessageId", turn.message_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("content", content)
        .put("sender", turn.sender.clone())
        .put("endpoint", turn.endpoint.clone())
        .put("model", model(turn))
        .put("unfinished", true)
        .put("error", false)
        .put("isCreatedByUser", false)
}

/// Adds a message to its conversation, unless it is there already.
fn add(place: &Place, turn: &Turn, id: &str, message: impl Into<Node>, tokens: u64) {
    let (document, now) = (place.ids.document(), place.now());
    place.convo(&turn.user, &turn.conversation_id, |convo| {
        if convo.messages.iter().all(|saved| saved.id != id) {
            convo.messages.push(Message { id: id.to_owned(), json: message.into() });
            convo.documents.push(document);
            convo.tokens = convo.tokens.saturating_add(tokens);
            convo.updated_at = now;
        }
    });
}
