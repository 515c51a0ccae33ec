//! A run: it belongs to no connection, and any number of them may listen.

mod listen;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::connection::Handle;
use super::directives::Directives;
use super::frames::{self, CallUsage, Lane, Step, Turn};
use super::json::{Node, Object};
use super::replay::{Replay, recorded_usage};

pub use listen::Listen;

use listen::Listener;

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It is at work.
    Running,
    /// It waits for `/chat/resume`.
    Paused,
    /// It ended with a whole answer.
    Finished,
    /// The provider died; the answer holds what there was.
    Failed,
    /// It was refused on the stream.
    Refused,
    /// Someone stopped it, or on the direct wire the client left.
    Aborted,
    /// A newer run of the same conversation took its place.
    Replaced,
}

impl RunState {
    /// Whether nothing more comes of it.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }
}

/// What is remembered of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// The conversation, which is also the stream's id.
    pub conversation_id: String,
    /// `generationCreatedAt`, milliseconds.
    pub created_at: i64,
    /// Whose run it is: the id of the LibreChat user.
    pub user: String,
    /// The endpoint.
    pub endpoint: String,
    /// What the person said.
    pub text: String,
    /// The models, that of `addedConvo` first.
    pub models: Vec<String>,
    /// The model calls that came to their end, whether or not the stream told of their usage.
    pub calls: Vec<CallUsage>,
    /// Words said and thought, in all model calls.
    pub tokens: u64,
    /// How far it came.
    pub state: RunState,
}

/// What a run works at.
#[derive(Debug, Clone)]
pub enum Work {
    /// A chat.
    Chat,
    /// A chat that was recorded.
    Replay(Replay),
    /// A thread of this assistant.
    Assistant(String),
}

/// Why a run stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Someone asked, or on the direct wire the client left.
    Aborted,
    /// A newer run of the conversation began.
    Replaced,
    /// The server ends.
    Shutdown,
}

/// A run.
#[derive(Debug)]
pub struct Run {
    /// What it answers.
    pub turn: Turn,
    /// How it goes.
    pub directives: Directives,
    /// What it works at.
    pub work: Work,
    summary: Arc<Mutex<RunSummary>>,
    live: Mutex<Live>,
    moved: Notify,
    resumed: Notify,
    stop: watch::Sender<Option<Stop>>,
}

/// What listeners see, and what a late one is told.
#[derive(Debug, Default)]
struct Live {
    frames: Vec<Bytes>,
    /// Where the stream was ended by a pause: listeners of the time before go no further.
    pauses: Vec<usize>,
    over: bool,
    listeners: usize,
    heard: bool,
    /// The first frame that nobody was there to hear.
    unheard: usize,
    cut: Option<u64>,
    stumble: Option<u64>,
    steps: Vec<Node>,
    parts: Vec<Part>,
    context: Option<Node>,
    usage: Vec<Node>,
    title: Option<Object>,
}

/// A stretch of the answer.
#[derive(Debug)]
struct Part {
    kind: &'static str,
    lane: usize,
    text: String,
    tool: Option<Object>,
}

impl Run {
    /// A run that has said nothing yet.
    pub fn new(turn: Turn, directives: Directives, work: Work) -> Arc<Self> {
        let summary = RunSummary {
            conversation_id: turn.conversation_id.clone(),
            created_at: turn.created_at.as_millisecond(),
            user: turn.user.clone(),
            endpoint: turn.endpoint.clone(),
            text: turn.text.clone(),
            models: turn.lanes.iter().map(|lane| lane.model.clone()).collect(),
            calls: Vec::new(),
            tokens: 0,
            state: RunState::Running,
        };
        let live = Live { cut: directives.cut, stumble: directives.stumble, ..Live::default() };
        Arc::new(Self {
            turn,
            directives,
            work,
            summary: Arc::new(Mutex::new(summary)),
            live: Mutex::new(live),
            moved: Notify::new(),
            resumed: Notify::new(),
            stop: watch::channel(None).0,
        })
    }

    /// What is remembered after the run is gone.
    pub fn summary(&self) -> &Arc<Mutex<RunSummary>> {
        &self.summary
    }

    /// One frame for everyone who listens.
    pub fn say(&self, frame: Bytes) {
        let mut live = self.live.lock();
        live.frames.push(frame);
        drop(live);
        self.moved.notify_waiters();
    }

    /// A step begins.
    pub fn open(&self, step: &Step, frame: Object) {
        let mut live = self.live.lock();
        live.parts.push(Part { kind: step.kind, lane: step.lane, text: String::new(), tool: None });
        live.frames.push(frames::message(&frames::event("on_run_step", frame.clone())));
        live.steps.push(frame.into());
        drop(live);
        self.moved.notify_waiters();
    }

    /// One more word of a step.
    pub fn word(&self, step: &Step, word: &str) {
        self.word_of(step, word, frames::delta(step, word));
    }

    /// One more word of a step, in a frame of its own making.
    pub fn word_of(&self, step: &Step, word: &str, frame: Bytes) {
        let mut live = self.live.lock();
        if live.parts.is_empty() {
            live.parts.push(Part { kind: step.kind, lane: step.lane, text: String::new(), tool: None });
        }
        if let Some(part) = usize::try_from(step.index).ok().and_then(|index| live.parts.get_mut(index)) {
            part.text.push_str(word);
        }
        live.frames.push(frame);
        drop(live);
        self.summary.lock().tokens += 1;
        self.moved.notify_waiters();
    }

    /// A tool that does not answer: whoever asks for the answer so far sees that it was called.
    pub fn pending_tool(&self, step: &Step, call: Object) {
        let mut live = self.live.lock();
        if let Some(part) = usize::try_from(step.index).ok().and_then(|index| live.parts.get_mut(index)) {
            part.tool = Some(call);
        }
    }

    /// What a tool answered.
    pub fn tool(&self, step: &Step, call: Object) {
        let frame = frames::message(&frames::event("on_run_step_completed", frames::tool_completed(step, call.clone())));
        let mut live = self.live.lock();
        if let Some(part) = usize::try_from(step.index).ok().and_then(|index| live.parts.get_mut(index)) {
            part.tool = Some(call);
        }
        live.frames.push(frame);
        drop(live);
        self.moved.notify_waiters();
    }

    /// The estimate before a model call.
    pub fn context(&self, frame: Object) {
        self.say(frames::message(&frames::event("on_context_usage", frame.clone())));
        self.live.lock().context = Some(frame.into());
    }

    /// A model call came to its end; `frame` is what the stream tells of it.
    pub fn call(&self, usage: CallUsage, frame: Option<Object>) {
        self.summary.lock().calls.push(usage);
        if let Some(frame) = frame {
            self.say(frames::message(&frames::event("on_token_usage", frame.clone())));
            self.live.lock().usage.push(frame.into());
        }
    }

    /// Learns from a recorded frame what a late listener has to be told.
    pub fn overhear(&self, data: &Value) {
        let mut live = self.live.lock();
        match data["event"].as_str() {
            Some("on_context_usage") => live.context = Some(recorded(&data["data"])),
            Some("on_token_usage") => {
                live.usage.push(recorded(&data["data"]));
                self.summary.lock().calls.push(recorded_usage(&data["data"]));
            }
            Some("on_run_step") => live.steps.push(recorded(&data["data"])),
            Some("on_message_delta" | "on_reasoning_delta") => {
                let said = &data["data"]["delta"]["content"][0];
                let kind = if said["think"].is_string() { "think" } else { "text" };
                let text = said[kind].as_str().unwrap_or_default();
                match live.parts.last_mut().filter(|part| part.kind == kind) {
                    Some(part) => part.text.push_str(text),
                    None => live.parts.push(Part { kind, lane: 0, text: text.to_owned(), tool: None }),
                }
                self.summary.lock().tokens += 1;
            }
            _ => {}
        }
    }

    /// Someone put a word in.
    pub fn steer(&self, id: &str, text: &str) {
        let steer = Object::new().put("steerId", id).put("text", text);
        self.say(frames::message(&frames::event("on_steer_applied", steer)));
    }

    /// The conversation has a title.
    pub fn title(&self, frame: Object) {
        self.say(frames::message(&frame));
        self.live.lock().title = Some(frame);
    }

    /// Ends every stream that is open, but not the run, and waits for `/chat/resume`.
    pub async fn pause(&self) {
        self.summary.lock().state = RunState::Paused;
        self.end_streams();
        self.resumed.notified().await;
        self.summary.lock().state = RunState::Running;
    }

    fn end_streams(&self) {
        let mut live = self.live.lock();
        let end = live.frames.len();
        live.pauses.push(end);
        drop(live);
        self.moved.notify_waiters();
    }

    /// Goes on after a pause; `false` where there was none.
    pub fn resume(&self) -> bool {
        let paused = self.state() == RunState::Paused;
        if paused {
            self.resumed.notify_one();
        }
        paused
    }

    /// Asks the run to stop. One that is over stays as it was.
    pub fn stop(&self, why: Stop) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            if first {
                *stop = Some(why);
            }
            first
        });
    }

    /// Waits until the run is asked to stop.
    pub async fn stopped(&self) -> Stop {
        let mut stop = self.stop.subscribe();
        match stop.wait_for(Option::is_some).await {
            Ok(why) => (*why).unwrap_or(Stop::Shutdown),
            // The sender lives in the run itself.
            Err(_) => Stop::Shutdown,
        }
    }

    /// Says the last frame, if there is one, and is over.
    pub fn end(&self, state: RunState, last: Option<Bytes>) {
        self.summary.lock().state = state;
        let mut live = self.live.lock();
        live.frames.extend(last);
        live.over = true;
        drop(live);
        self.moved.notify_waiters();
    }

    /// How far it came.
    pub fn state(&self) -> RunState {
        self.summary.lock().state
    }

    /// Waits until someone listened.
    pub async fn heard(&self) {
        self.until(|live| live.heard).await;
    }

    /// Waits until the run is over.
    pub async fn over(&self) {
        self.until(|live| live.over).await;
    }

    /// Everything said so far, as one text.
    pub fn transcript(&self) -> String {
        self.live.lock().frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect()
    }

    /// The parts of the answer so far.
    pub fn content(&self) -> Vec<Object> {
        content(&self.live.lock(), &self.turn)
    }

    /// The last estimate, as a saved message keeps it: without what each tool's schema takes.
    pub fn last_context(&self) -> Option<Object> {
        match &self.live.lock().context {
            Some(Node::Object(context)) => Some(context.clone().without("toolTokenCounts")),
            _ => None,
        }
    }

    /// `resumeState`: what a late listener has to know.
    pub fn resume_state(&self) -> Object {
        resume_state(&self.live.lock(), &self.turn)
    }

    /// Listens. The first listener hears everything, a later one what comes from now on, and one that resumes is told
    /// first what it missed.
    pub fn listen(self: &Arc<Self>, how: Listen, connection: Handle) -> Body {
        let mut live = self.live.lock();
        let (next, sync) = match how {
            Listen::Resume => (live.frames.len(), Some(frames::message(&frames::sync(resume_state(&live, &self.turn))))),
            Listen::Plain | Listen::Own if live.listeners == 0 => (live.unheard, None),
            Listen::Plain | Listen::Own => (live.frames.len(), None),
        };
        live.listeners += 1;
        live.heard = true;
        let listener = Listener {
            run: Arc::clone(self),
            how,
            connection,
            next,
            segment: live.pauses.iter().filter(|pause| **pause <= next).count(),
            cut: live.cut.take(),
            stumble: live.stumble.take(),
            stumbled: false,
            rest: sync.unwrap_or_default(),
        };
        drop(live);
        self.moved.notify_waiters();
        Body::from_stream(futures_util::stream::unfold(listener, |mut listener| async move {
            let piece = listener.piece().await?;
            Some((piece, listener))
        }))
    }

    async fn until(&self, enough: impl Fn(&Live) -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if enough(&self.live.lock()) {
                return;
            }
            moved.await;
        }
    }
}

/// A recorded object; its keys are sorted, which no one minds in what late listeners are told.
fn recorded(data: &Value) -> Node {
    Node::Value(data.clone())
}

fn content(live: &Live, turn: &Turn) -> Vec<Object> {
    let several = turn.lanes.len() > 1;
    let part = |part: &Part| {
        let lane = turn.lanes.get(part.lane).filter(|_| several);
        let object = match &part.tool {
            Some(call) => Object::new().put("type", "tool_call").put("tool_call", call.clone()),
            None => Object::new().put("type", part.kind).put(part.kind, part.text.clone()),
        };
        object.put_some("agentId", lane.map(|lane: &Lane| lane.agent_id.clone())).put_some("groupId", lane.map(|_| 1))
    };
    live.parts.iter().filter(|part| part.tool.is_some() || !part.text.is_empty()).map(part).collect()
}

fn resume_state(live: &Live, turn: &Turn) -> Object {
    let message = Object::new()
        .put("messageId", turn.message_id.clone())
        .put("parentMessageId", turn.parent_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("text", turn.text.clone());
    Object::new()
        .put("runSteps", live.steps.clone())
        .put("aggregatedContent", content(live, turn))
        .put("userMessage", message)
        .put("responseMessageId", turn.response_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put("sender", turn.sender.clone())
        .put_some("model", turn.main().map(|lane| lane.model.clone()))
        .put_some("titleEvent", live.title.clone())
        .put_some("collectedUsage", (!live.usage.is_empty()).then(|| Node::from(live.usage.clone())))
        .put_some("contextUsage", live.context.clone())
}
