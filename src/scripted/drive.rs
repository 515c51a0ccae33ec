//! What a run does, from `created` to `final`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::assistant;
use super::frames::{self, CallUsage, Step, Turn};
use super::json::Object;
use super::options::Wire;
use super::place::Place;
use super::run::{Run, RunState, Stop, Work};
use super::saved;

/// The words of an answer, with their number behind.
const WORDS: [&str; 10] = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet"];

/// Runs to the end, or until it is stopped.
pub async fn drive(place: Arc<Place>, run: Arc<Run>) {
    let ending = tokio::select! {
        biased;
        stop = run.stopped() => Err(stop),
        state = perform(&place, &run) => Ok(state),
    };
    let (state, last) = match ending {
        Ok(state) => (state, farewell(&place, &run, state)),
        Err(Stop::Aborted) => (RunState::Aborted, Some(abort(&place, &run))),
        Err(Stop::Replaced) => (RunState::Replaced, Some(frames::message(&frames::replaced(&run.turn)))),
        Err(Stop::Shutdown) => (RunState::Aborted, None),
    };
    // Whoever sees the end finds the messages saved and the stream gone.
    place.finish(&run);
    run.end(state, last);
    place.stir();
}

async fn perform(place: &Place, run: &Run) -> RunState {
    match &run.work {
        Work::Chat => perform_chat(place, run).await,
        Work::Replay(replay) => {
            let begun = Instant::now();
            replay.perform(run).await;
            linger(place, run, begun).await;
            RunState::Finished
        }
        Work::Assistant(assistant) => assistant::perform(run, assistant).await,
    }
}

async fn perform_chat(place: &Place, run: &Run) -> RunState {
    let begun = Instant::now();
    run.say(frames::message(&frames::created(&run.turn)));
    if let Some(kind) = &run.directives.error {
        run.say(frames::error(&frames::refusal(&run.turn, refusal_text(&run.turn, kind))));
        linger(place, run, begun).await;
        return RunState::Refused;
    }
    let mut script = Script { place, run, said: 0, index: 0, seq: 0, titled: false };
    for call in 0..run.directives.calls() {
        if !script.model_call(call).await {
            linger(place, run, begun).await;
            return RunState::Failed;
        }
        if call < run.directives.pause && run.turn.wire == Wire::Resumable {
            script.pause().await;
        }
        if call < run.directives.tools {
            script.tool_call().await;
        }
    }
    linger(place, run, begun).await;
    RunState::Finished
}

/// Waits for the first listener, for as long as the options say, before the end.
async fn linger(place: &Place, run: &Run, begun: Instant) {
    // Whether someone came or not, the run ends; how it went makes no difference.
    let _ = timeout_at(begun + place.options.linger, run.heard()).await;
}

/// The `final` frame of a run that came to its end, after its messages were saved.
fn farewell(place: &Place, run: &Run, state: RunState) -> Option<Bytes> {
    match &run.work {
        Work::Chat => {}
        Work::Replay(_) => {
            saved::save_replay(place, run);
            return None;
        }
        Work::Assistant(_) => return Some(assistant::farewell(place, run, state)),
    }
    if state == RunState::Refused {
        saved::save_request(place, run);
        return None;
    }
    let response = saved::save_answer(place, run, state);
    let (convo, title) = saved::conversation(place, &run.turn);
    Some(frames::message(&frames::last(&run.turn, convo, &title, response)))
}

fn abort(place: &Place, run: &Run) -> Bytes {
    let early = run.summary().lock().tokens == 0;
    let response = saved::save_answer(place, run, RunState::Aborted);
    frames::message(&frames::aborted(&run.turn, response, early))
}

/// The text of a refusal on the stream: mostly JSON as text.
pub fn refusal_text(turn: &Turn, kind: &str) -> String {
    let object = Object::new().put("type", kind);
    match kind {
        "token_balance" => {
            object.put("balance", 0).put("tokenCost", turn.prompt_tokens.saturating_mul(6)).put("promptTokens", turn.prompt_tokens)
        }
        "illegal_model_request" => {
            let model = turn.main().map_or("", |lane| lane.model.as_str());
            object.put("info", format!("{}|{model}", turn.endpoint))
        }
        "no_user_key" | "invalid_agent_provider" => object.put("info", turn.endpoint.clone()),
        _ => object,
    }
    .text()
}

/// A run in the middle of its work.
struct Script<'a> {
    place: &'a Place,
    run: &'a Run,
    /// Words said in the calls before this one.
    said: u64,
    /// The place of the next step in the answer.
    index: u64,
    /// The number of the last usage frame.
    seq: u64,
    titled: bool,
}

impl Script<'_> {
    /// One call of every model. `false` if the provider died.
    async fn model_call(&mut self, call: u64) -> bool {
        let (turn, directives) = (&self.run.turn, &self.run.directives);
        let prompt = directives.context.unwrap_or(turn.prompt_tokens).saturating_add(self.said);
        if turn.wire == Wire::Resumable {
            for lane in &turn.lanes {
                self.run.context(frames::context_usage(turn, lane, prompt, directives.instructions));
            }
        }
        rest(if call == 0 { directives.first } else { directives.delay }).await;
        if directives.reasoning > 0 {
            let steps = self.open("think");
            self.words(&steps, directives.reasoning).await;
            self.close(&steps, "completed");
            rest(directives.delay).await;
        }
        let steps = self.open("text");
        let words = directives.die.map_or(directives.tokens, |die| die.min(directives.tokens));
        self.words(&steps, words).await;
        if directives.die.is_some() {
            self.close(&steps, "failed");
            return false;
        }
        let said = directives.tokens + directives.reasoning;
        self.usage(prompt.saturating_add(directives.instructions), said);
        self.close(&steps, "completed");
        self.said += said;
        true
    }

    fn open(&mut self, kind: &'static str) -> Vec<Step> {
        let turn = &self.run.turn;
        let steps = (0..turn.lanes.len()).map(|lane| self.step(kind, lane)).collect::<Vec<_>>();
        for step in &steps {
            let details = frames::message_step(turn.wire, step, self.place.ids.number());
            self.run.open(step, frames::run_step(turn, step, details));
        }
        steps
    }

    fn step(&mut self, kind: &'static str, lane: usize) -> Step {
        let index = self.index;
        self.index += 1;
        Step { id: self.place.ids.step(), index, kind, lane, opened: self.place.now() }
    }

    async fn words(&mut self, steps: &[Step], count: u64) {
        for number in 0..count {
            match number {
                0 => {}
                1 => rest(self.run.directives.delay.saturating_add(self.run.directives.silent)).await,
                _ => rest(self.run.directives.delay).await,
            }
            for step in steps {
                self.run.word(step, &word(step.kind, number));
            }
            self.entitle();
        }
    }

    /// The title of a new conversation comes while the first words do.
    fn entitle(&mut self) {
        let turn = &self.run.turn;
        if let (Some(title), false) = (&turn.title, self.titled) {
            self.titled = true;
            saved::entitle(self.place, turn, title);
            if turn.wire != Wire::Direct {
                self.run.title(frames::title(turn, title));
            }
        }
    }

    fn usage(&mut self, prompt: u64, said: u64) {
        let (turn, directives) = (&self.run.turn, &self.run.directives);
        for lane in &turn.lanes {
            let usage = CallUsage {
                model: lane.model.clone(),
                input: directives.input.unwrap_or(prompt),
                output: directives.output.unwrap_or(said),
                cached: directives.cached,
                written: directives.written,
            };
            self.seq += 1;
            let shown = (directives.usage && turn.wire == Wire::Resumable).then(|| frames::token_usage(turn, lane, &usage, self.seq));
            self.run.call(usage, shown);
        }
    }

    fn close(&self, steps: &[Step], status: &str) {
        if self.run.turn.wire != Wire::Direct {
            for step in steps {
                let closed = frames::step_closed(&self.run.turn, step, status, self.place.now());
                self.run.say(frames::message(&frames::event("on_run_step_closed", closed)));
            }
        }
    }

    async fn tool_call(&mut self) {
        let (turn, directives) = (&self.run.turn, &self.run.directives);
        let lane = turn.lanes.len().saturating_sub(1);
        let step = self.step("tool_calls", lane);
        let call_id = format!("call_scripted{:04}", self.place.ids.number());
        let arguments = "{\"query\":\"scripted\"}";
        self.run.open(&step, frames::run_step(turn, &step, frames::tool_step(&call_id, directives.tool())));
        self.run.say(frames::message(&frames::event("on_run_step_delta", frames::tool_delta(&step, arguments))));
        rest(directives.tool_delay).await;
        let call = Object::new().put("id", call_id).put("name", directives.tool()).put("args", arguments);
        match directives.tool_result.output() {
            Some(output) => {
                self.run.tool(&step, call.put("output", output).put("progress", 1));
                self.close(&[step], "completed");
            }
            None => self.run.pending_tool(&step, call),
        }
    }

    async fn pause(&mut self) {
        let action = Object::new()
            .put("actionId", self.place.ids.message().to_string())
            .put("payload", Object::new().put("type", "ask_user_question").put("question", "Shall I go on?"));
        self.run.say(frames::message(&frames::event("on_pending_action", action)));
        self.place.stir();
        self.run.pause().await;
    }
}

/// The word with this number: letters and digits only, so that it needs no escaping in JSON.
pub fn word(kind: &str, number: u64) -> String {
    let space = if number == 0 { "" } else { " " };
    if kind == "think" {
        return format!("think{number} ");
    }
    let letters = usize::try_from(number % 10).ok().and_then(|index| WORDS.get(index)).unwrap_or(&"alpha");
    format!("{space}{letters}{number}")
}

/// Waits, or lets others work where there is no wait.
pub async fn rest(wait: Duration) {
    if wait.is_zero() { tokio::task::yield_now().await } else { sleep(wait).await }
}
