//! The frames of a stream, key for key as LibreChat 0.8.8 and 0.8.1 were recorded.

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::json::{Node, Object};
use super::options::Wire;

/// The parent of a first message.
pub const NO_PARENT: &str = "00000000-0000-0000-0000-000000000000";
/// The context window every model has here, in tokens.
const MAX_CONTEXT: u64 = 128_000;
/// What of it LibreChat leaves for the prompt.
const CONTEXT_BUDGET: u64 = MAX_CONTEXT / 100 * 95;
/// Tokens LibreChat adds to its own estimate of the messages.
const PRIMING: u64 = 3;

/// One model at work in a run.
#[derive(Debug, Clone)]
pub struct Lane {
    /// How frames name the agent.
    pub agent_id: String,
    /// The model.
    pub model: String,
    /// The endpoint.
    pub endpoint: String,
}

/// What stays the same in every frame of a run.
#[derive(Debug, Clone)]
pub struct Turn {
    /// How the chat is spoken.
    pub wire: Wire,
    /// The generation protocol of the answer: 2 where the client spoke it.
    pub protocol: u64,
    /// Conversation and stream.
    pub conversation_id: String,
    /// `generationCreatedAt`.
    pub created_at: Timestamp,
    /// Whose run it is.
    pub user: String,
    /// The endpoint.
    pub endpoint: String,
    /// `custom`, where the client says so.
    pub endpoint_type: Option<String>,
    /// Who answers, for people.
    pub sender: String,
    /// The models, the one of `addedConvo` first, as LibreChat answers.
    pub lanes: Vec<Lane>,
    /// The text.
    pub text: String,
    /// The message before.
    pub parent_id: String,
    /// LibreChat's id of the person's message.
    pub message_id: String,
    /// LibreChat's id of the answer, also the run's id.
    pub response_id: String,
    /// Messages in the prompt.
    pub message_count: u64,
    /// Tokens of the text and of the conversation before it, as LibreChat estimates.
    pub text_tokens: u64,
    /// Tokens of the prompt's messages.
    pub prompt_tokens: u64,
    /// The title this conversation gets, if it is new.
    pub title: Option<String>,
}

impl Turn {
    /// The model the person asked for; that of `addedConvo` comes before it.
    pub fn main(&self) -> Option<&Lane> {
        self.lanes.last()
    }

    /// The group of a run with several models.
    fn group(&self) -> Option<u64> {
        (self.lanes.len() > 1).then_some(1)
    }

    /// Adds the protocol version where this LibreChat writes it.
    fn versioned(&self, object: Object) -> Object {
        object.put_some("generationProtocolVersion", (self.wire == Wire::Resumable).then_some(self.protocol))
    }
}

/// One model call's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallUsage {
    /// The model.
    pub model: String,
    /// Tokens of the prompt, those from the cache included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Tokens read from the cache.
    pub cached: u64,
    /// Tokens written to the cache.
    pub written: u64,
}

/// A step that is open: one stretch of text, reasoning or tool call.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its id.
    pub id: String,
    /// Its place in the answer.
    pub index: u64,
    /// `text`, `think` or `tool_calls`.
    pub kind: &'static str,
    /// Which lane it belongs to.
    pub lane: usize,
    /// When it was opened.
    pub opened: Timestamp,
}

/// An `event: message` frame.
pub fn message(data: &Object) -> Bytes {
    Bytes::from(format!("event: message\ndata: {}\n\n", data.text()))
}

/// An `event: error` frame.
pub fn error(data: &Object) -> Bytes {
    Bytes::from(format!("event: error\ndata: {}\n\n", data.text()))
}

/// LibreChat's `event` frames: a name and data.
pub fn event(name: &'static str, data: impl Into<Node>) -> Object {
    Object::new().put("event", name).put("data", data)
}

/// The person's message, accepted.
pub fn created(turn: &Turn) -> Object {
    let message = user_message(turn);
    match turn.wire {
        Wire::Direct => Object::new().put("message", message).put("created", true),
        _ => Object::new().put("created", true).put("message", message).put("streamId", turn.conversation_id.clone()),
    }
}

/// The estimate of the prompt, before a model call.
pub fn context_usage(turn: &Turn, lane: &Lane, prompt: u64, instructions: u64) -> Object {
    let used = prompt.saturating_add(PRIMING).saturating_add(instructions);
    let breakdown = Object::new()
        .put("maxContextTokens", MAX_CONTEXT)
        .put("instructionTokens", instructions)
        .put("systemMessageTokens", instructions)
        .put("dynamicInstructionTokens", 0)
        .put("toolSchemaTokens", 0)
        .put("summaryTokens", 0)
        .put("toolCount", 0)
        .put("messageCount", turn.message_count)
        .put("messageTokens", prompt.saturating_add(PRIMING))
        .put("availableForMessages", CONTEXT_BUDGET.saturating_sub(instructions))
        .put("toolTokenCounts", Object::new());
    Object::new()
        .put("runId", turn.response_id.clone())
        .put("agentId", lane.agent_id.clone())
        .put("breakdown", breakdown)
        .put("contextBudget", CONTEXT_BUDGET)
        .put("effectiveInstructionTokens", instructions)
        .put("prePruneContextTokens", prompt)
        .put("remainingContextTokens", CONTEXT_BUDGET.saturating_sub(used))
        .put("calibrationRatio", 1)
}

/// The provider's numbers, after a model call.
pub fn token_usage(turn: &Turn, lane: &Lane, usage: &CallUsage, seq: u64) -> Object {
    let details = Object::new().put_some("cache_creation", (usage.written > 0).then_some(usage.written)).put("cache_read", usage.cached);
    Object::new()
        .put("input_tokens", usage.input)
        .put("output_tokens", usage.output)
        .put("total_tokens", usage.input.saturating_add(usage.output))
        .put("input_token_details", details)
        .put("model", lane.model.clone())
        .put("provider", provider(&lane.endpoint))
        .put("runId", turn.response_id.clone())
        .put("seq", seq)
}

/// What a usage frame calls the provider: custom endpoints are all `openAI`.
fn provider(endpoint: &str) -> String {
    let own = ["openAI", "azureOpenAI", "google", "anthropic", "bedrock"];
    own.into_iter().find(|known| *known == endpoint).unwrap_or("openAI").to_owned()
}

/// A step is opened.
pub fn run_step(turn: &Turn, step: &Step, details: Object) -> Object {
    let object = Object::new()
        .put("stepIndex", 0)
        .put("id", step.id.clone())
        .put("type", step_type(step))
        .put("index", step.index)
        .put("stepDetails", details)
        .put("usage", Value::Null);
    if turn.wire == Wire::Direct {
        return object.put("runId", turn.response_id.clone()).put("agentId", "ephemeral");
    }
    let object = object.put("status", "in_progress").put("runId", turn.response_id.clone());
    grouped(turn, step, object).put("created_at", step.opened.as_millisecond())
}

/// The details of a step that says or thinks something.
pub fn message_step(wire: Wire, step: &Step, number: u64) -> Object {
    let creation = Object::new()
        .put("message_id", format!("chatcmpl-scripted{number:04}"))
        .put_some("content_type", (wire != Wire::Direct).then_some(step.kind));
    Object::new().put("type", "message_creation").put("message_creation", creation)
}

/// The details of a step that calls a tool.
pub fn tool_step(call_id: &str, tool: &str) -> Object {
    let call = Object::new().put("id", call_id).put("name", tool).put("args", "");
    Object::new().put("type", "tool_calls").put("tool_calls", vec![call])
}

/// One more word. Written by hand, because a stream is made of thousands of these.
pub fn delta(step: &Step, word: &str) -> Bytes {
    let (event, key) = if step.kind == "think" { ("on_reasoning_delta", "think") } else { ("on_message_delta", "text") };
    Bytes::from(format!(
        "event: message\ndata: {{\"event\":\"{event}\",\"data\":{{\"id\":\"{}\",\"delta\":{{\"content\":[{{\"type\":\"{key}\",\"{key}\":\"{word}\"}}]}}}}}}\n\n",
        step.id
    ))
}

/// The arguments of a tool call.
pub fn tool_delta(step: &Step, arguments: &str) -> Object {
    let call = Object::new().put("index", 0).put("args", arguments);
    let delta = Object::new().put("type", "tool_calls").put("tool_calls", vec![call]);
    Object::new().put("id", step.id.clone()).put("delta", delta)
}

/// The answer of a tool.
pub fn tool_completed(step: &Step, call: Object) -> Object {
    let result = Object::new().put("id", step.id.clone()).put("index", step.index).put("type", "tool_call").put("tool_call", call);
    Object::new().put("result", result)
}

/// A step is closed.
pub fn step_closed(turn: &Turn, step: &Step, status: &str, now: Timestamp) -> Object {
    let object = Object::new()
        .put("id", step.id.clone())
        .put("index", step.index)
        .put("type", step_type(step))
        .put("status", status)
        .put("closed_at", now.as_millisecond())
        .put("created_at", step.opened.as_millisecond())
        .put("runId", turn.response_id.clone());
    grouped(turn, step, object).put("stepIndex", 0)
}

/// The title of a new conversation.
pub fn title(turn: &Turn, title: &str) -> Object {
    event("title", Object::new().put("conversationId", turn.conversation_id.clone()).put("title", title))
}

/// The end of a run.
pub fn last(turn: &Turn, conversation: Object, title: &str, response: Object) -> Object {
    let request = user_message(turn).put("tokenCount", turn.text_tokens);
    turn.versioned(
        Object::new()
            .put("final", true)
            .put("conversation", conversation)
            .put("title", title)
            .put("requestMessage", request)
            .put("responseMessage", response),
    )
}

/// The end of a run that someone stopped.
pub fn aborted(turn: &Turn, response: Object, early: bool) -> Object {
    let request = Object::new()
        .put("messageId", turn.message_id.clone())
        .put("parentMessageId", turn.parent_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("text", turn.text.clone())
        .put("isCreatedByUser", true);
    turn.versioned(
        Object::new()
            .put("final", true)
            .put("conversation", Object::new().put("conversationId", turn.conversation_id.clone()))
            .put("title", "New Chat")
            .put("requestMessage", request)
            .put("responseMessage", response)
            .put("aborted", true)
            .put("earlyAbort", early),
    )
}

/// The end of a stream whose run made way for a newer one in the same conversation. It is no completion.
pub fn replaced(turn: &Turn) -> Object {
    turn.versioned(Object::new().put("final", true).put("reconcile", true).put("reconcileReason", "generation_replaced"))
}

/// A refusal on the stream: a sentence, or JSON as text.
pub fn refusal(turn: &Turn, text: String) -> Object {
    if turn.wire != Wire::Direct {
        return turn.versioned(Object::new().put("error", text));
    }
    refused_message(&turn.response_id, &turn.message_id, &turn.conversation_id, text)
}

/// A refusal as a whole message, the only shape 0.8.1 and refused starts know.
pub fn refused_message(message_id: &str, parent_id: &str, conversation_id: &str, text: String) -> Object {
    Object::new()
        .put("sender", "LibreChat")
        .put("messageId", message_id)
        .put("conversationId", conversation_id)
        .put("parentMessageId", parent_id)
        .put("unfinished", false)
        .put("error", true)
        .put("final", true)
        .put("text", text)
        .put("isCreatedByUser", false)
}

/// What someone who comes late hears first.
pub fn sync(state: Object) -> Object {
    Object::new().put("sync", true).put("resumeState", state).put("pendingEvents", Vec::<Node>::new())
}

/// The person's message as frames show it.
pub fn user_message(turn: &Turn) -> Object {
    Object::new()
        .put("messageId", turn.message_id.clone())
        .put("parentMessageId", turn.parent_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("sender", "User")
        .put("text", turn.text.clone())
        .put("isCreatedByUser", true)
}

/// A time as JavaScript writes it.
pub fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn step_type(step: &Step) -> &'static str {
    if step.kind == "tool_calls" { "tool_calls" } else { "message_creation" }
}

/// Says which of several models a step belongs to.
fn grouped(turn: &Turn, step: &Step, object: Object) -> Object {
    let lane = turn.lanes.get(step.lane).filter(|_| turn.lanes.len() > 1);
    object.put_some("agentId", lane.map(|lane| lane.agent_id.clone())).put_some("groupId", lane.and(turn.group()))
}
