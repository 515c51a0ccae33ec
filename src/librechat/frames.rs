//! The frames of an answer's stream, on both generations of the wire and for assistants.
//!
//! A frame is one server-sent event with one JSON object in it. What Tollgate has no use for is [`Frame::Other`]: new
//! kinds of frames pass unread.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::bounded;
use super::deltas::{Text, read_content_delta, read_plain_delta, read_tool_call_delta};
use super::saved::{RawMessage, RawPart, owned, plain, read_parts};
use super::tools::{RawStep, RawToolCall, ToolFrame, ToolResult, read_completed};
use super::usage::{CallId, CallNumbers, CallUsage, Count, RawCallUsage, Tokens, lenient, lenient_list, readable};
use crate::sse::Event;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// LibreChat accepted the message.
    Created {
        /// The conversation, where the frame names it.
        conversation_id: Option<Cow<'a, str>>,
    },
    /// What the next model call of an agent will be sent, by LibreChat's own counting.
    Context(ContextUsage),
    /// What a model call really used.
    Usage(CallId, CallUsage),
    /// A step of the answer begins; names the agent that takes it.
    Step {
        /// The step, named again by its deltas.
        id: Cow<'a, str>,
        /// The agent; empty where there is only one.
        agent_id: Cow<'a, str>,
        /// The run, where the frame names it.
        run_id: Option<Cow<'a, str>>,
        /// The tools that it calls, if it does.
        called: Option<Box<ToolFrame>>,
    },
    /// Something about tool calls, and nothing else.
    Tools(Box<ToolFrame>),
    /// A piece of the answer: text, reasoning or the arguments of a tool call.
    Delta {
        /// The step it belongs to.
        step_id: Cow<'a, str>,
        /// The piece.
        text: Cow<'a, str>,
    },
    /// A piece of the answer that names a tool it calls.
    CallDelta {
        /// The step it belongs to.
        step_id: Cow<'a, str>,
        /// The piece.
        text: String,
        /// The tool.
        called: Box<ToolFrame>,
    },
    /// A part of the answer as a whole so far, which takes the place of the same part before it (assistants, and LibreChat before 0.7.9).
    Part {
        /// Which part.
        index: u64,
        /// All of it so far.
        text: Cow<'a, str>,
        /// The tool that it is a call of, if it is one.
        called: Option<Box<ToolFrame>>,
    },
    /// What happened before this subscriber came.
    Sync(Box<SyncState>),
    /// The run waits for a person; the stream ends, and goes on after a resume.
    Paused,
    /// The run is over.
    Final(Box<FinalFrame>),
    /// The run is over with an error.
    Error,
    /// Nothing of interest.
    Other,
}

/// `on_context_usage`: the prompt of an agent's next call as LibreChat counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextUsage {
    /// The run.
    pub run_id: String,
    /// The agent.
    pub agent_id: String,
    /// Messages before pruning, and instructions with tool schemas, in tokens.
    pub tokens: u64,
}

/// The first frame of a late subscriber.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncState {
    /// The answer so far.
    pub answer: Vec<AnswerPart>,
    /// Usage frames so far.
    pub usage: Vec<(CallId, CallUsage)>,
    /// The last context usage.
    pub context: Option<ContextUsage>,
    /// The model, where it is named.
    pub model: Option<String>,
    /// What the person said, where it is told.
    pub said: Option<String>,
    /// The answer's message id, which is the run's id, where it is told.
    pub run_id: Option<String>,
    /// Whether the run waits for a person.
    pub paused: bool,
    /// What its steps and the frames in between say of tool calls.
    pub tools: Vec<ToolFrame>,
    /// The tool calls in the answer so far.
    pub results: Vec<ToolResult>,
}

/// How a final frame ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The answer is complete.
    Complete,
    /// Someone stopped it.
    Aborted,
    /// The answer ends in an error part: the provider failed.
    ProviderError,
    /// Another run took its place; not a completion.
    Replaced,
}

/// The last frame of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalFrame {
    /// How it ended.
    pub ending: Ending,
    /// The conversation.
    pub conversation_id: Option<String>,
    /// The answer's message id, which is the run's id.
    pub run_id: Option<String>,
    /// The model, as LibreChat saves it.
    pub model: Option<String>,
    /// The whole answer; `None` where the frame does not hold it.
    pub answer: Option<Vec<AnswerPart>>,
    /// `metadata.usage`: what all model calls used together.
    pub usage: Option<Tokens>,
    /// `promptTokens`: LibreChat's estimate of the prompt.
    pub prompt_tokens: Option<u64>,
    /// The tool calls in the answer.
    pub results: Vec<ToolResult>,
}

/// A piece of a whole answer that the model wrote: text, reasoning, or the arguments of a tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPart {
    /// The agent that wrote it; empty where there is only one.
    pub agent_id: String,
    /// What it wrote.
    pub text: String,
}

/// Reads an event. What cannot be read is [`Frame::Other`].
pub fn read<'a>(event: Event<'a>) -> Frame<'a> {
    if event.name != "error"
        && let Some(delta) = read_plain_delta(event.data)
    {
        return delta;
    }
    let Ok(raw) = serde_json::from_slice::<RawFrame<'a>>(event.data) else {
        return if event.name == "error" { Frame::Error } else { Frame::Other };
    };
    if event.name == "error" { Frame::Error } else { raw.read() }
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(borrow, default)]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    created: Flag,
    #[serde(default, rename = "final")]
    is_final: Flag,
    #[serde(default)]
    sync: Flag,
    #[serde(default)]
    aborted: Flag,
    #[serde(default)]
    reconcile: Flag,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "responseMessage")]
    response_message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    conversation: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "resumeState")]
    resume_state: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "pendingEvents")]
    pending_events: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "conversationId", deserialize_with = "lenient")]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_call: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    index: Option<u64>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

/// One of LibreChat's flags; set by `true` and by nothing else.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(lenient(deserializer)? == Some(true)))
    }
}

impl<'a> RawFrame<'a> {
    fn read(self) -> Frame<'a> {
        if let Some(event) = &self.event {
            return self.data.map_or(Frame::Other, |data| read_event(&event.0, data.get()));
        }
        if self.is_final.0 {
            return self.read_final();
        }
        if self.sync.0 && self.resume_state.is_some() {
            return Frame::Sync(Box::new(self.read_sync()));
        }
        if self.sync.0 {
            // How assistants say that they accepted the message.
            return Frame::Created { conversation_id: self.conversation_id };
        }
        if self.created.0 {
            return Frame::Created { conversation_id: self.conversation_of_message() };
        }
        if self.kind.is_some() && (self.text.is_some() || self.tool_call.is_some()) {
            return self.read_part();
        }
        // LibreChat before 0.7.9: `{"message": true, "text": "all so far"}`.
        match (self.message.map(RawValue::get), self.text) {
            (Some("true"), Some(text)) => {
                let part = |text| Frame::Part { index: 0, text: Cow::Owned(text), called: None };
                serde_json::from_str(text.get()).map_or(Frame::Other, part)
            }
            _ => Frame::Other,
        }
    }

    fn conversation_of_message(&self) -> Option<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow, default, rename = "conversationId")]
            conversation_id: Option<Cow<'a, str>>,
        }
        self.message.and_then(|message| serde_json::from_str::<Message<'a>>(message.get()).ok()?.conversation_id)
    }

    fn read_part(&self) -> Frame<'a> {
        let call = self.tool_call.and_then(|raw| serde_json::from_str::<RawToolCall<'_>>(raw.get()).ok());
        let called = call.as_ref().and_then(RawToolCall::result).map(|result| Box::new(ToolFrame::Part(result)));
        let index = self.index.unwrap_or_default();
        let text = plain(self.text).or_else(|| Some(call?.written()));
        text.map_or(Frame::Other, |text| Frame::Part { index, text: Cow::Owned(text), called })
    }

    fn read_final(self) -> Frame<'a> {
        let Some(message) = self.response_message.and_then(|raw| serde_json::from_str::<Option<RawMessage<'a>>>(raw.get()).ok()?) else {
            if self.error.is_some() && !self.aborted.0 {
                return Frame::Error;
            }
            let conversation_id = self.conversation.and_then(conversation_id).or(owned(self.conversation_id));
            let ending = if self.reconcile.0 {
                Ending::Replaced
            } else if self.aborted.0 {
                Ending::Aborted
            } else {
                Ending::Complete
            };
            return Frame::Final(Box::new(FinalFrame {
                ending,
                conversation_id,
                run_id: None,
                model: None,
                answer: None,
                usage: None,
                prompt_tokens: None,
                results: Vec::new(),
            }));
        };
        let mut frame = message.into_final();
        frame.conversation_id = frame.conversation_id.or_else(|| self.conversation.and_then(conversation_id));
        if self.reconcile.0 {
            frame.ending = Ending::Replaced;
        } else if self.aborted.0 {
            frame.ending = Ending::Aborted;
        }
        Frame::Final(Box::new(frame))
    }

    fn read_sync(&self) -> SyncState {
        let mut state = SyncState::default();
        if let Some(resume) = self.resume_state.and_then(|raw| serde_json::from_str::<RawResumeState<'_>>(raw.get()).ok()) {
            (state.answer, state.results) = resume.aggregated_content.map(read_parts).unwrap_or_default();
            let steps = resume.run_steps.unwrap_or_default();
            state.tools = steps.iter().flat_map(|step| [step.called(), step.closed()]).flatten().collect();
            state.usage = numbered(resume.collected_usage.unwrap_or_default().into_iter().map(RawCallUsage::normalise));
            state.context = resume.context_usage.map(RawContextUsage::total);
            state.model = owned(resume.model);
            state.said = resume.user_message.and_then(|message| plain(message.text));
            state.run_id = owned(resume.response_message_id);
            state.paused = resume.pending_action.is_some_and(|action| action.get().starts_with('{'));
        }
        let pending = self.pending_events.and_then(readable::<RawFrame<'_>>);
        let mut later = Vec::new();
        for frame in pending.unwrap_or_default() {
            match frame.read() {
                Frame::Usage(call, usage) => later.push((call, usage)),
                Frame::Context(context) => state.context = Some(context),
                Frame::Delta { text, .. } => state.answer.push(AnswerPart { agent_id: String::new(), text: text.into_owned() }),
                Frame::CallDelta { text, called, .. } => {
                    state.answer.push(AnswerPart { agent_id: String::new(), text });
                    state.tools.push(*called);
                }
                Frame::Step { called: Some(tools), .. } | Frame::Part { called: Some(tools), .. } | Frame::Tools(tools) => {
                    state.tools.push(*tools);
                }
                _ => {}
            }
        }
        // What is pending may have been collected too.
        state.usage.extend(numbered(later.into_iter()));
        state
    }
}

/// Tells equal calls in one list apart, where LibreChat does not number them.
fn numbered(calls: impl Iterator<Item = (CallId, CallUsage)>) -> Vec<(CallId, CallUsage)> {
    let mut numbers = CallNumbers::default();
    calls.map(|(call, usage)| (numbers.give(call), usage)).collect()
}

fn read_event<'a>(event: &str, data: &'a str) -> Frame<'a> {
    let frame = match event {
        "on_message_delta" | "on_reasoning_delta" => read_content_delta(data),
        "on_run_step_delta" => read_tool_call_delta(data),
        "on_run_step" => serde_json::from_str::<RawStep<'a>>(data).ok().map(|step| Frame::Step {
            called: step.called().map(Box::new),
            id: step.id,
            agent_id: step.agent_id.unwrap_or_default(),
            run_id: step.run_id,
        }),
        "on_run_step_completed" => read_completed(data).map(|answered| Frame::Tools(Box::new(answered))),
        "on_run_step_closed" => {
            serde_json::from_str::<RawStep<'a>>(data).ok().and_then(|step| step.closed()).map(|closed| Frame::Tools(Box::new(closed)))
        }
        "on_token_usage" => serde_json::from_str::<RawCallUsage<'a>>(data).ok().map(|raw| {
            let (call, usage) = raw.normalise();
            Frame::Usage(call, usage)
        }),
        "on_context_usage" => serde_json::from_str::<RawContextUsage<'a>>(data).ok().map(|raw| Frame::Context(raw.total())),
        "on_pending_action" => Some(Frame::Paused),
        _ => None,
    };
    frame.unwrap_or(Frame::Other)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawContextUsage<'a> {
    #[serde(borrow, default, deserialize_with = "lenient")]
    run_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    agent_id: Option<Cow<'a, str>>,
    #[serde(default)]
    pre_prune_context_tokens: Count,
    #[serde(default, deserialize_with = "lenient")]
    breakdown: Option<RawBreakdown>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBreakdown {
    #[serde(default)]
    instruction_tokens: Count,
}

impl RawContextUsage<'_> {
    pub(super) fn total(self) -> ContextUsage {
        let instructions = self.breakdown.map_or(0, |breakdown| breakdown.instruction_tokens.0);
        ContextUsage {
            run_id: bounded(&self.run_id.unwrap_or_default()),
            agent_id: bounded(&self.agent_id.unwrap_or_default()),
            tokens: self.pre_prune_context_tokens.0.saturating_add(instructions),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResumeState<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    run_steps: Option<Vec<RawStep<'a>>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    aggregated_content: Option<Vec<RawPart<'a>>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    collected_usage: Option<Vec<RawCallUsage<'a>>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    context_usage: Option<RawContextUsage<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    user_message: Option<RawUserMessage<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    response_message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pending_action: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawUserMessage<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

/// What `GET /api/agents/chat/status/:id` says of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStatus {
    /// Whether it still runs.
    pub active: bool,
    /// When it began, in milliseconds since 1970, where LibreChat says.
    pub created_at: Option<i64>,
    /// What it has done so far.
    pub so_far: SyncState,
}

/// Reads the answer of the status route.
pub fn run_status(json: &[u8]) -> Option<RunStatus> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        active: bool,
        #[serde(default, rename = "createdAt", deserialize_with = "lenient")]
        created_at: Option<i64>,
        #[serde(borrow, default, deserialize_with = "lenient")]
        status: Option<Cow<'a, str>>,
        #[serde(borrow, default, rename = "resumeState")]
        resume_state: Option<&'a RawValue>,
    }
    let raw: Raw<'_> = serde_json::from_slice(json).ok()?;
    let frame = RawFrame { resume_state: raw.resume_state, ..RawFrame::nothing() };
    let mut so_far = frame.read_sync();
    so_far.paused |= raw.status.as_deref() == Some("requires_action");
    Some(RunStatus { active: raw.active, created_at: raw.created_at, so_far })
}

impl RawFrame<'_> {
    fn nothing() -> Self {
        Self {
            event: None,
            data: None,
            created: Flag(false),
            is_final: Flag(false),
            sync: Flag(false),
            aborted: Flag(false),
            reconcile: Flag(false),
            message: None,
            response_message: None,
            conversation: None,
            resume_state: None,
            pending_events: None,
            conversation_id: None,
            kind: None,
            text: None,
            tool_call: None,
            index: None,
            error: None,
        }
    }
}

fn conversation_id(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Conversation {
        #[serde(rename = "conversationId")]
        conversation_id: Option<String>,
    }
    serde_json::from_str::<Option<Conversation>>(raw.get()).ok()??.conversation_id.map(|id| bounded(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with_care(data: &str) -> Frame<'_> {
        serde_json::from_str::<RawFrame<'_>>(data).map_or(Frame::Other, RawFrame::read)
    }

    #[test]
    fn the_usual_delta_is_read_as_any_frame_is() {
        let frames = [
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":[{"type":"text","text":"Hi"}]}}}"#,
            r#"{"event":"on_message_delta","data":{"id":"s\n1","delta":{"content":[{"type":"text","text":"\"é\u00e9\n"}]},"more":1}}"#,
            r#"{"event":"on_reasoning_delta","data":{"id":"s1","delta":{"content":[{"type":"think","think":"Hm"},{"type":"text","text":"!"}]}}}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":[]}}}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":[{"text":null}]}}}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":{"type":"text","text":"alone"}}}}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{}}}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":[{"text":"a"}]}},"extra":true}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":[{"text":"a"}]}},"event":"twice"}"#,
            r#"{"event":"on_message_delta","data":null}"#,
            r#"{"event":"on_message_delta","data":{"id":"s1"#,
        ];
        for data in frames {
            assert_eq!(read(Event { name: "message", data: data.as_bytes() }), read_with_care(data), "{data}");
        }
    }

    #[test]
    fn the_usual_delta_is_not_copied() {
        let data = br#"{"event":"on_message_delta","data":{"id":"s1","delta":{"content":[{"type":"text","text":"Hi"}]}}}"#;
        let read = read(Event { name: "message", data });
        assert!(matches!(read, Frame::Delta { step_id: Cow::Borrowed("s1"), text: Cow::Borrowed("Hi") }), "{read:?}");
    }
}
