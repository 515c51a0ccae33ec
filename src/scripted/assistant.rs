//! A run of an assistant: its stream is the answer of its start, in every version, and says nothing of usage.

use axum::body::Bytes;

use super::directives::Directives;
use super::drive::{rest, word};
use super::frames::{self, CallUsage, Step, Turn};
use super::json::{Node, Object};
use super::place::Place;
use super::run::{Run, RunState};
use super::saved;

/// `sync`, then the text so far with each word.
pub async fn perform(run: &Run, assistant: &str) -> RunState {
    let (turn, directives) = (&run.turn, &run.directives);
    run.say(frames::message(&begun(turn, assistant)));
    rest(directives.first).await;
    for number in 0..directives.tools {
        let call_id = format!("call_scripted{number:04}");
        run.say(frames::message(&called(turn, directives, number, &call_id, None)));
        rest(directives.tool_delay).await;
        if let Some(output) = directives.tool_result.output() {
            run.say(frames::message(&called(turn, directives, number, &call_id, Some(output))));
        }
    }
    let step = Step { id: String::new(), index: 0, kind: "text", lane: 0, opened: turn.created_at };
    let mut text = String::new();
    for number in 0..directives.tokens {
        if number > 0 {
            rest(directives.delay).await;
        }
        let word = word("text", number);
        text.push_str(&word);
        run.word_of(&step, &word, frames::message(&said(turn, &text)));
    }
    let usage = CallUsage {
        model: turn.main().map(|lane| lane.model.clone()).unwrap_or_default(),
        input: directives.input.unwrap_or(turn.prompt_tokens),
        output: directives.output.unwrap_or(directives.tokens),
        cached: directives.cached,
        written: directives.written,
    };
    run.call(usage, None);
    RunState::Finished
}

/// The `final` frame.
pub fn farewell(place: &Place, run: &Run, state: RunState) -> Bytes {
    saved::save_answer(place, run, state);
    let turn = &run.turn;
    let (conversation, _) = saved::conversation(place, turn);
    let request = Object::new().put("parentMessageId", turn.parent_id.clone()).put("thread_id", thread(turn));
    frames::message(&Object::new().put("final", true).put("conversation", conversation).put("requestMessage", request))
}

fn begun(turn: &Turn, assistant: &str) -> Object {
    let request = frames::user_message(turn).put("thread_id", thread(turn)).put("assistant_id", assistant);
    let response = Object::new()
        .put("conversationId", turn.conversation_id.clone())
        .put("parentMessageId", turn.message_id.clone())
        .put("messageId", turn.response_id.clone())
        .put("thread_id", thread(turn))
        .put("assistant_id", assistant)
        .put("model", assistant)
        .put("content", Vec::<Node>::new());
    Object::new()
        .put("sync", true)
        .put("conversationId", turn.conversation_id.clone())
        .put("requestMessage", request)
        .put("responseMessage", response)
}

fn said(turn: &Turn, text: &str) -> Object {
    Object::new()
        .put("type", "text")
        .put("index", 0)
        .put("messageId", turn.response_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("thread_id", thread(turn))
        .put("text", Object::new().put("value", text))
        .put("stream", true)
}

/// A tool call, repeated whole once it has an output.
fn called(turn: &Turn, directives: &Directives, index: u64, call_id: &str, output: Option<&str>) -> Object {
    let function = Object::new().put("name", directives.tool()).put("arguments", "{}").put_some("output", output);
    let call =
        Object::new().put("id", call_id).put("type", "function").put("function", function).put("progress", i32::from(output.is_some()));
    Object::new()
        .put("type", "tool_call")
        .put("index", index)
        .put("messageId", turn.response_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("thread_id", thread(turn))
        .put("tool_call", call)
        .put("stream", true)
}

fn thread(turn: &Turn) -> String {
    format!("thread_{}", turn.conversation_id.replace('-', ""))
}
