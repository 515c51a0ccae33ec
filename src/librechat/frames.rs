//! The frames of an answer's stream, on both generations of the wire and for assistants.
//!
//! A frame is one server-sent event with one JSON object in it. What Tollgate has no use for is [`Frame::Other`]: new
//! kinds of frames pass unread.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::bounded;
use super::usage::{CallId, CallUsage, Count, RawCallUsage, RawMessageUsage, Tokens};
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
    },
    /// A piece of the answer: text, reasoning or the arguments of a tool call.
    Delta {
        /// The step it belongs to.
        step_id: Cow<'a, str>,
        /// The piece.
        text: Cow<'a, str>,
    },
    /// A part of the answer as a whole so far, which takes the place of the same part before it (assistants, and LibreChat before 0.7.9).
    Part {
        /// Which part.
        index: u64,
        /// All of it so far.
        text: Cow<'a, str>,
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

/// An answer as LibreChat saved it, from `GET /api/messages/:conversationId`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedAnswer {
    /// Its id: the run's id.
    pub message_id: String,
    /// What the person had said, where that is saved too.
    pub asked: Option<String>,
    /// When it was saved, RFC 3339.
    pub created_at: Option<jiff::Timestamp>,
    /// Whether it was cut short.
    pub unfinished: bool,
    /// What it says, read as a final frame is.
    pub frame: FinalFrame,
    /// `metadata.contextUsage`, where it was saved.
    pub context: Option<ContextUsage>,
}

/// The messages of a conversation as LibreChat saved them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedMessages {
    /// What the person said, oldest first.
    pub said: Vec<String>,
    /// What was answered, oldest first.
    pub answers: Vec<SavedAnswer>,
}

/// Reads the saved messages of a conversation.
pub fn saved_messages(json: &[u8]) -> Option<SavedMessages> {
    let messages: Vec<RawMessage<'_>> = serde_json::from_slice(json).ok()?;
    let (persons, answers): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.is_created_by_user);
    let said: Vec<(String, String)> =
        persons.into_iter().filter_map(|message| Some((owned(message.message_id)?, plain(message.text)?))).collect();
    let answers = answers.into_iter().map(|message| {
        let asked = message.parent_message_id.as_deref().and_then(|parent| said.iter().find(|(id, _)| id == parent));
        let asked = asked.map(|(_, text)| text.clone());
        SavedAnswer { asked, ..message.into_saved() }
    });
    Some(SavedMessages { answers: answers.collect(), said: said.into_iter().map(|(_, text)| text).collect() })
}

/// A name or id from the wire, cut where it is longer than any real one: what is remembered of a stream is bounded.
fn owned(id: Option<Cow<'_, str>>) -> Option<String> {
    id.map(|id| bounded(&id))
}

/// Text as it stands in a message.
fn plain(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<RawText>(raw?.get()).ok().map(RawText::into_string)
}

#[expect(clippy::struct_excessive_bools, reason = "they are LibreChat's own flags")]
#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(borrow, default)]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    created: bool,
    #[serde(default, rename = "final")]
    is_final: bool,
    #[serde(default)]
    sync: bool,
    #[serde(default)]
    aborted: bool,
    #[serde(default)]
    reconcile: bool,
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
    #[serde(borrow, default, rename = "conversationId")]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

impl<'a> RawFrame<'a> {
    fn read(self) -> Frame<'a> {
        if let Some(event) = &self.event {
            return self.data.map_or(Frame::Other, |data| read_event(&event.0, data.get()));
        }
        if self.is_final {
            return self.read_final();
        }
        if self.sync && self.resume_state.is_some() {
            return Frame::Sync(Box::new(self.read_sync()));
        }
        if self.sync {
            // How assistants say that they accepted the message.
            return Frame::Created { conversation_id: self.conversation_id };
        }
        if self.created {
            return Frame::Created { conversation_id: self.conversation_of_message() };
        }
        if self.kind.is_some() && self.text.is_some() {
            return self.read_part();
        }
        // LibreChat before 0.7.9: `{"message": true, "text": "all so far"}`.
        match (self.message.map(RawValue::get), self.text) {
            (Some("true"), Some(text)) => {
                serde_json::from_str(text.get()).map_or(Frame::Other, |text| Frame::Part { index: 0, text: Cow::Owned(text) })
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
        plain(self.text).map_or(Frame::Other, |text| Frame::Part { index: self.index.unwrap_or_default(), text: Cow::Owned(text) })
    }

    fn read_final(self) -> Frame<'a> {
        let Some(message) = self.response_message.and_then(|raw| serde_json::from_str::<Option<RawMessage<'a>>>(raw.get()).ok()?) else {
            if self.error.is_some() && !self.aborted {
                return Frame::Error;
            }
            let conversation_id = self.conversation.and_then(conversation_id).or(owned(self.conversation_id));
            let ending = if self.reconcile {
                Ending::Replaced
            } else if self.aborted {
                Ending::Aborted
            } else {
                Ending::Complete
            };
            let nothing = FinalFrame { ending, conversation_id, run_id: None, model: None, answer: None, usage: None, prompt_tokens: None };
            return Frame::Final(Box::new(nothing));
        };
        let mut frame = message.into_final();
        frame.conversation_id = frame.conversation_id.or_else(|| self.conversation.and_then(conversation_id));
        if self.reconcile {
            frame.ending = Ending::Replaced;
        } else if self.aborted {
            frame.ending = Ending::Aborted;
        }
        Frame::Final(Box::new(frame))
    }

    fn read_sync(&self) -> SyncState {
        let mut state = SyncState::default();
        if let Some(resume) = self.resume_state.and_then(|raw| serde_json::from_str::<RawResumeState<'_>>(raw.get()).ok()) {
            state.answer =
                resume.aggregated_content.map(|parts| parts.into_iter().filter_map(RawPart::into_answer).collect()).unwrap_or_default();
            state.usage = resume.collected_usage.unwrap_or_default().into_iter().map(RawCallUsage::normalise).collect();
            state.context = resume.context_usage.map(RawContextUsage::total);
            state.model = owned(resume.model);
            state.said = resume.user_message.and_then(|message| plain(message.text));
            state.run_id = owned(resume.response_message_id);
            state.paused = resume.pending_action.is_some_and(|action| action.get().starts_with('{'));
        }
        let pending = self.pending_events.and_then(|raw| serde_json::from_str::<Vec<RawFrame<'_>>>(raw.get()).ok());
        for frame in pending.unwrap_or_default() {
            match frame.read() {
                Frame::Usage(call, usage) => state.usage.push((call, usage)),
                Frame::Context(context) => state.context = Some(context),
                Frame::Delta { text, .. } => state.answer.push(AnswerPart { agent_id: String::new(), text: text.into_owned() }),
                _ => {}
            }
        }
        state
    }
}

fn read_event<'a>(event: &str, data: &'a str) -> Frame<'a> {
    let frame = match event {
        "on_message_delta" | "on_reasoning_delta" => read_content_delta(data),
        "on_run_step_delta" => read_tool_call_delta(data),
        "on_run_step" => serde_json::from_str::<RawStep<'a>>(data).ok().map(|step| Frame::Step {
            id: step.id,
            agent_id: step.agent_id.unwrap_or_default(),
            run_id: step.run_id,
        }),
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
struct RawStep<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, rename = "agentId")]
    agent_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "runId")]
    run_id: Option<Cow<'a, str>>,
}

/// `{"id": step, "delta": {...}}`: what differs is what the delta holds.
#[derive(Deserialize)]
struct RawDelta<'a, D> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    delta: D,
}

#[derive(Deserialize)]
struct ContentDelta<'a> {
    #[serde(borrow, default)]
    content: Option<OneOrMany<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<'a> {
    Many(#[serde(borrow)] Vec<ContentPiece<'a>>),
    One(#[serde(borrow)] ContentPiece<'a>),
}

#[derive(Deserialize)]
struct ContentPiece<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    think: Option<Text<'a>>,
}

/// Text that is copied only where something in it is escaped; an `Option<Cow<str>>` always is.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The usual delta, `{"content": [{"type": "text", "text": "..."}]}`, without the detour through an untagged enum.
#[derive(Deserialize)]
struct PlainContentDelta<'a> {
    #[serde(borrow)]
    content: Vec<ContentPiece<'a>>,
}

/// The frame that nearly all frames are, read in one go: `{"event":"on_message_delta","data":{...}}` in this order and of the
/// usual shape. `None` for everything else, which is then read with care.
fn read_plain_delta(frame: &[u8]) -> Option<Frame<'_>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct PlainDelta<'a> {
        #[serde(rename = "event")]
        _event: serde::de::IgnoredAny,
        #[serde(borrow)]
        data: RawDelta<'a, PlainContentDelta<'a>>,
    }
    if !frame.starts_with(br#"{"event":"on_message_delta","#) && !frame.starts_with(br#"{"event":"on_reasoning_delta","#) {
        return None;
    }
    let PlainDelta { data: RawDelta { id, delta }, .. } = serde_json::from_slice(frame).ok()?;
    Some(Frame::Delta { step_id: id, text: joined(delta.content) })
}

fn read_content_delta(data: &str) -> Option<Frame<'_>> {
    if let Ok(RawDelta { id, delta: PlainContentDelta { content } }) = serde_json::from_str(data) {
        return Some(Frame::Delta { step_id: id, text: joined(content) });
    }
    let RawDelta { id, delta: ContentDelta { content } } = serde_json::from_str(data).ok()?;
    let pieces = match content? {
        OneOrMany::Many(pieces) => pieces,
        OneOrMany::One(piece) => vec![piece],
    };
    Some(Frame::Delta { step_id: id, text: joined(pieces) })
}

fn joined(pieces: Vec<ContentPiece<'_>>) -> Cow<'_, str> {
    let mut texts = pieces.into_iter().filter_map(|piece| Some(piece.text.or(piece.think)?.0));
    let first = texts.next().unwrap_or_default();
    texts.fold(first, |mut text, next| {
        text.to_mut().push_str(&next);
        text
    })
}

fn read_tool_call_delta(data: &str) -> Option<Frame<'_>> {
    #[derive(Deserialize)]
    struct Delta<'a> {
        #[serde(borrow, default)]
        tool_calls: Option<Vec<Call<'a>>>,
    }
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(borrow, default)]
        name: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        args: Option<&'a RawValue>,
    }
    let RawDelta::<'_, Delta<'_>> { id, delta } = serde_json::from_str(data).ok()?;
    let mut text = String::new();
    for call in delta.tool_calls? {
        text.push_str(&call.name.unwrap_or_default());
        text.push_str(&argument_text(call.args));
    }
    Some(Frame::Delta { step_id: id, text: Cow::Owned(text) })
}

/// The arguments of a tool call as the model wrote them: a string of JSON, or the JSON itself.
fn argument_text(args: Option<&RawValue>) -> String {
    let raw = args.map_or("", RawValue::get);
    serde_json::from_str::<String>(raw).unwrap_or_else(|_| if raw == "null" { String::new() } else { raw.to_owned() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContextUsage<'a> {
    #[serde(borrow, default)]
    run_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    agent_id: Option<Cow<'a, str>>,
    #[serde(default)]
    pre_prune_context_tokens: Count,
    #[serde(default)]
    breakdown: Option<RawBreakdown>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBreakdown {
    #[serde(default)]
    instruction_tokens: Count,
}

impl RawContextUsage<'_> {
    fn total(self) -> ContextUsage {
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
    #[serde(borrow, default)]
    aggregated_content: Option<Vec<RawPart<'a>>>,
    #[serde(borrow, default)]
    collected_usage: Option<Vec<RawCallUsage<'a>>>,
    #[serde(borrow, default)]
    context_usage: Option<RawContextUsage<'a>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user_message: Option<RawUserMessage<'a>>,
    #[serde(borrow, default)]
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
        #[serde(default, rename = "createdAt")]
        created_at: Option<i64>,
        #[serde(borrow, default)]
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
            created: false,
            is_final: false,
            sync: false,
            aborted: false,
            reconcile: false,
            message: None,
            response_message: None,
            conversation: None,
            resume_state: None,
            pending_events: None,
            conversation_id: None,
            kind: None,
            text: None,
            index: None,
            error: None,
        }
    }
}

/// Text as a string, or as assistants write it, `{"value": "..."}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawText {
    Plain(String),
    Value { value: String },
}

impl RawText {
    fn into_string(self) -> String {
        match self {
            Self::Plain(text) | Self::Value { value: text } => text,
        }
    }
}

#[derive(Deserialize)]
struct RawPart<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    text: Option<RawText>,
    #[serde(borrow, default)]
    think: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_call: Option<RawToolCall<'a>>,
    #[serde(borrow, default, rename = "agentId")]
    agent_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawToolCall<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

impl RawPart<'_> {
    fn into_answer(self) -> Option<AnswerPart> {
        if self.kind.as_deref() == Some("error") {
            return None;
        }
        let mut text = self.text.map(RawText::into_string).unwrap_or_default();
        text.push_str(&self.think.unwrap_or_default());
        if let Some(call) = self.tool_call {
            text.push_str(&call.name.unwrap_or_default());
            text.push_str(&argument_text(call.args));
        }
        Some(AnswerPart { agent_id: bounded(&self.agent_id.unwrap_or_default()), text })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage<'a> {
    #[serde(borrow, default)]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parent_message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    created_at: Option<Cow<'a, str>>,
    #[serde(default)]
    is_created_by_user: bool,
    #[serde(default)]
    unfinished: Option<bool>,
    #[serde(default)]
    error: Option<bool>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<Vec<RawPart<'a>>>,
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(borrow, default)]
    metadata: Option<RawMetadata<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata<'a> {
    #[serde(default)]
    usage: Option<RawMessageUsage>,
    #[serde(borrow, default)]
    context_usage: Option<RawContextUsage<'a>>,
}

impl RawMessage<'_> {
    fn into_final(self) -> FinalFrame {
        self.into_saved().frame
    }

    fn into_saved(self) -> SavedAnswer {
        // The text of an error is LibreChat's, not a model's.
        let is_error = self.error == Some(true);
        let failed = is_error || self.content.as_ref().is_some_and(|parts| parts.iter().any(|part| part.kind.as_deref() == Some("error")));
        let answer = self.content.map(|parts| parts.into_iter().filter_map(RawPart::into_answer).collect::<Vec<_>>());
        // Before content parts there was only `text`; where there are parts, `text` repeats them or is empty.
        let text = plain(self.text).filter(|_| !is_error);
        let answer = answer
            .filter(|parts| !parts.is_empty() || failed)
            .or_else(|| text.filter(|text| !text.is_empty()).map(|text| vec![AnswerPart { agent_id: String::new(), text }]));
        let (usage, context) = self.metadata.map_or((None, None), |metadata| {
            (metadata.usage.and_then(RawMessageUsage::normalise), metadata.context_usage.map(RawContextUsage::total))
        });
        let run_id = owned(self.message_id);
        SavedAnswer {
            message_id: run_id.clone().unwrap_or_default(),
            asked: None,
            created_at: self.created_at.and_then(|time| time.parse().ok()),
            unfinished: self.unfinished.unwrap_or_default(),
            frame: FinalFrame {
                ending: if failed { Ending::ProviderError } else { Ending::Complete },
                conversation_id: owned(self.conversation_id),
                run_id,
                model: owned(self.model),
                answer,
                usage,
                prompt_tokens: Some(self.prompt_tokens.0).filter(|tokens| *tokens > 0),
            },
            context,
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
