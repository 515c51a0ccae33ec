//! How the stream of an answer is seen: chunks in, an [`Observation`] out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::observation::{Context, End, Observation, OpenCall, Transcript};
use super::tool_rules::ToolRules;
use crate::librechat::chat::{bounded, is_saved_agent};
use crate::librechat::frames::{self, ContextUsage, Ending, FinalFrame, Frame, SyncState};
use crate::librechat::saved::SavedAnswer;
use crate::librechat::usage::{CallId, CallNumbers, CallUsage};
use crate::sse::EventReader;

/// How much of an answer's text one reader keeps for counting. Longer answers come with real usage, or are counted short.
const MAX_TRANSCRIPT_BYTES: usize = 4 * 1024 * 1024;

/// How many steps of an answer are told apart.
const MAX_STEPS: usize = 4096;

/// How many model calls of a run are told apart.
const MAX_CALLS: usize = 65_536;

/// Reads one stream.
#[derive(Debug, Default)]
pub struct StreamReader {
    events: EventReader,
    sight: Sight,
}

/// What one stream has shown so far.
#[derive(Debug, Default)]
struct Sight {
    seen: Observation,
    /// Whether the run goes on without this stream, so that an error on it need not be the run's end.
    is_detached: bool,
    rules: Arc<ToolRules>,
    numbers: CallNumbers,
    /// The last prompt that this stream was told of when it came. Only what comes next tells whether it was answered already.
    resumed_at: Option<(String, u64)>,
    /// Which agent takes a step; only kept where the agent has a name.
    agents: HashMap<String, String>,
    parts: BTreeMap<u64, String>,
    parts_bytes: usize,
    news: bool,
}

impl StreamReader {
    /// A reader of a stream that is the run itself. It tells failures of tools by these rules.
    pub fn new(rules: Arc<ToolRules>) -> Self {
        Self { sight: Sight { rules, ..Sight::default() }, ..Self::default() }
    }

    /// A reader of a stream whose run goes on without it.
    pub fn detached(rules: Arc<ToolRules>) -> Self {
        Self { sight: Sight { is_detached: true, rules, ..Sight::default() }, ..Self::default() }
    }

    /// Reads a chunk that arrived at `now`. Answers whether it held something that others should know at once.
    pub fn push(&mut self, chunk: &[u8], now: Timestamp) -> bool {
        let sight = &mut self.sight;
        self.events.push(chunk, &mut |event| sight.see(frames::read(event), now));
        std::mem::take(&mut self.sight.news)
    }

    /// The stream is over; what was left unfinished in it is read as far as it goes.
    pub fn finish(&mut self, now: Timestamp) {
        let sight = &mut self.sight;
        self.events.finish(&mut |event| sight.see(frames::read(event), now));
    }

    /// What was seen.
    pub fn seen(&self) -> &Observation {
        &self.sight.seen
    }
}

impl Sight {
    fn see(&mut self, frame: Frame<'_>, now: Timestamp) {
        match frame {
            Frame::Created { conversation_id } => {
                self.seen.created = true;
                if let Some(conversation_id) = conversation_id {
                    self.seen.conversation_id = Some(bounded(&conversation_id));
                }
                self.news = true;
            }
            Frame::Context(context) => self.see_context(context),
            Frame::Usage(call, usage) => self.see_usage(call, usage),
            Frame::Step { id, agent_id, run_id, called } => {
                if !agent_id.is_empty() && self.agents.len() < MAX_STEPS {
                    self.agents.insert(bounded(&id), bounded(&agent_id));
                }
                if let Some(run_id) = run_id {
                    self.seen.run_id.get_or_insert_with(|| bounded(main_run(&run_id)));
                }
                if let Some(called) = called {
                    self.seen.tools.see(*called, Some(now), &self.rules);
                }
            }
            Frame::Tools(tools) => self.seen.tools.see(*tools, Some(now), &self.rules),
            Frame::Delta { step_id, text } => self.see_delta(&step_id, &text, now),
            Frame::CallDelta { step_id, text, called } => {
                self.see_delta(&step_id, &text, now);
                self.seen.tools.see(*called, Some(now), &self.rules);
            }
            Frame::Part { index, text, called } => {
                self.see_part(index, &text, now);
                if let Some(called) = called {
                    self.seen.tools.see(*called, Some(now), &self.rules);
                }
            }
            Frame::Sync(state) => {
                self.seen.created = true;
                let paused = state.paused;
                self.resumed_at = state.context.as_ref().map(|context| (context.agent_id.clone(), context.tokens));
                let told = state.usage.iter().map(|(call, _)| call);
                let told = told.fold(self.seen.underway.after, number_after);
                absorb_sync(&mut self.seen, *state, &self.rules);
                self.seen.underway.after = told;
                self.news = true;
                if paused {
                    self.see_end(End::Paused, now);
                }
            }
            Frame::Paused => self.see_end(End::Paused, now),
            Frame::Error if self.is_detached => {
                self.seen.error_at = Some(now);
                self.news = true;
            }
            Frame::Error => self.see_end(End::Failed, now),
            Frame::Final(last) => {
                let end = absorb_final(&mut self.seen, *last, &self.rules);
                self.see_end(end, now);
            }
            Frame::Other => {}
        }
    }

    fn see_delta(&mut self, step_id: &str, text: &str, now: Timestamp) {
        self.see_text(now);
        if self.seen.transcript.bytes() + text.len() <= MAX_TRANSCRIPT_BYTES {
            let agent = self.agents.get(step_id).map_or("", String::as_str);
            self.seen.transcript.append(agent, text);
            see_written(&mut self.seen, &mut self.resumed_at, agent, text);
        }
    }

    fn see_context(&mut self, context: ContextUsage) {
        let nth = self.seen.contexts.get(&context.agent_id).map_or(0, |last| last.nth + 1);
        if nth == 0 && self.seen.contexts.len() >= MAX_STEPS {
            return;
        }
        self.seen.run_id.get_or_insert_with(|| main_run(&context.run_id).to_owned());
        // A sub-agent's calls are told of under the run that it belongs to, or not at all.
        if main_run(&context.run_id) == context.run_id {
            self.seen.underway.calls.entry(context.agent_id.clone()).or_default().tokens = context.tokens;
        }
        self.resumed_at = None;
        self.seen.contexts.insert(context.agent_id, Context { nth, tokens: context.tokens });
        self.news = true;
    }

    fn see_usage(&mut self, call: CallId, usage: CallUsage) {
        self.seen.run_id.get_or_insert_with(|| main_run(&call.run_id).to_owned());
        self.news = true;
        if self.seen.calls.len() >= MAX_CALLS {
            return;
        }
        let call = self.numbers.give(call);
        if call.is_primary() && !self.seen.calls.contains_key(&call) {
            self.resumed_at = None;
            self.seen.underway.after = number_after(self.seen.underway.after, &call);
            self.close_call(&usage.model);
        }
        self.seen.calls.insert(call, usage);
    }

    /// A call was told: it is no longer underway. Of several, it was the one whose agent is named after the model.
    fn close_call(&mut self, model: &str) {
        let calls = &mut self.seen.underway.calls;
        let named =
            |agent: &&String| !model.is_empty() && agent.split("___").next().is_some_and(|name| name.ends_with(&format!("__{model}")));
        if let Some(agent) = calls.keys().find(named).or_else(|| calls.keys().next()).cloned() {
            calls.remove(&agent);
        }
    }

    fn see_text(&mut self, now: Timestamp) {
        if self.seen.first_token_at.is_none() {
            self.seen.first_token_at = Some(now);
            self.news = true;
        }
    }

    /// A part as a whole takes the place of what it continues; one that does not continue it comes after it.
    fn see_part(&mut self, index: u64, text: &str, now: Timestamp) {
        self.see_text(now);
        if self.parts_bytes + text.len() > MAX_TRANSCRIPT_BYTES || self.parts.len() >= MAX_STEPS {
            return;
        }
        let part = self.parts.entry(index).or_default();
        self.parts_bytes -= part.len();
        if text.starts_with(part.as_str()) {
            text.clone_into(part);
        } else {
            part.push_str(text);
        }
        self.parts_bytes += part.len();
    }

    fn see_end(&mut self, end: End, now: Timestamp) {
        if !self.parts.is_empty() && !self.seen.transcript.complete {
            let mut transcript = Transcript::default();
            self.parts.values().for_each(|part| transcript.append("", part));
            self.seen.transcript = self.seen.transcript.clone().max(transcript);
        }
        self.seen.end = Some(self.seen.end.map_or(end, |known| known.max(end)));
        self.seen.ended_at.get_or_insert(now);
        self.news = true;
    }
}

impl StreamReader {
    /// Counts the parts seen so far as the transcript, for a stream that is cut before its end.
    pub fn close(&mut self, now: Timestamp) {
        self.finish(now);
        if self.sight.seen.end.is_none() && !self.sight.parts.is_empty() {
            let mut transcript = Transcript::default();
            self.sight.parts.values().for_each(|part| transcript.append("", part));
            self.sight.seen.transcript = std::mem::take(&mut self.sight.seen.transcript).max(transcript);
        }
    }
}

/// What was written belongs to the call of that agent that is underway. In a stream that came late, text before anything
/// else shows that the last prompt it was told of was not answered yet.
fn see_written(seen: &mut Observation, resumed_at: &mut Option<(String, u64)>, agent: &str, text: &str) {
    // Before the first call is told, everything is counted anyhow.
    if seen.underway.after == 0 {
        return;
    }
    if let Some((agent, tokens)) = resumed_at.take() {
        seen.underway.calls.insert(agent, OpenCall::new(tokens));
    }
    let calls = &mut seen.underway.calls;
    if let Some(call) = calls.get_mut(agent) {
        call.append(text);
    } else if let (1, Some(call)) = (calls.len(), calls.values_mut().next()) {
        // Deltas name no agent where there is only one.
        call.append(text);
    }
}

/// How far the calls that were told reach, with this one.
fn number_after(before: i64, call: &CallId) -> i64 {
    match (call.is_primary(), &call.unnumbered) {
        (false, _) => before,
        (true, Some(_)) => before.saturating_add(1),
        (true, None) => before.max(call.seq.saturating_add(1)).max(1),
    }
}

/// A model as LibreChat names it. Of a saved agent it names the agent instead, which is no model.
fn model_named(model: Option<String>) -> Option<String> {
    model.filter(|model| !model.is_empty() && !is_saved_agent(model))
}

/// Adds what a late subscriber is told, or what the status route says.
pub fn absorb_sync(seen: &mut Observation, state: SyncState, rules: &ToolRules) {
    let mut transcript = Transcript::default();
    for part in &state.answer {
        transcript.append(&part.agent_id, &part.text);
    }
    let mut told = Observation { transcript, model: model_named(state.model), run_id: state.run_id, ..Observation::default() };
    told.calls.extend(state.usage);
    state.tools.into_iter().for_each(|tools| told.tools.see(tools, None, rules));
    told.tools.see_answer(state.results, rules);
    if let Some(context) = state.context {
        told.run_id.get_or_insert_with(|| main_run(&context.run_id).to_owned());
        told.contexts.insert(context.agent_id, Context { nth: 0, tokens: context.tokens });
    }
    seen.merge(&told);
}

/// Adds what the last frame says, and answers how it ended.
fn absorb_final(seen: &mut Observation, last: FinalFrame, rules: &ToolRules) -> End {
    let mut told = Observation {
        conversation_id: last.conversation_id,
        run_id: last.run_id,
        model: model_named(last.model),
        reported: last.usage,
        prompt_tokens: last.prompt_tokens,
        ..Observation::default()
    };
    told.tools.see_answer(last.results, rules);
    if let Some(answer) = last.answer {
        for part in &answer {
            told.transcript.append(&part.agent_id, &part.text);
        }
        // An answer without a word is no better than what was seen of it.
        told.transcript.complete = !told.transcript.is_empty();
    }
    seen.merge(&told);
    match last.ending {
        Ending::Complete => End::Completed,
        Ending::Aborted | Ending::Replaced => End::Aborted,
        Ending::ProviderError => End::Failed,
    }
}

/// What a saved answer shows of a generation whose stream was not seen to its end.
pub fn of_saved(answer: SavedAnswer, rules: &ToolRules) -> Observation {
    let mut seen = Observation { created: true, ended_at: answer.created_at, ..Observation::default() };
    if let Some(context) = answer.context {
        seen.contexts.insert(context.agent_id, Context { nth: 0, tokens: context.tokens });
    }
    let end = absorb_final(&mut seen, answer.frame, rules);
    seen.end = Some(if answer.unfinished { End::Aborted } else { end });
    seen
}

/// The run of the answer itself: sub-agents and labels add a suffix to it.
fn main_run(run_id: &str) -> &str {
    run_id.split_once(':').map_or(run_id, |(run, _)| run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(chunks: &[&str]) -> Observation {
        let mut reader = StreamReader::default();
        for chunk in chunks {
            reader.push(chunk.as_bytes(), Timestamp::UNIX_EPOCH);
        }
        reader.close(Timestamp::UNIX_EPOCH);
        reader.seen().clone()
    }

    #[test]
    fn a_late_tab_adds_nothing_to_what_an_early_one_saw() {
        let usage = r#"data: {"event":"on_token_usage","data":{"input_tokens":10,"output_tokens":2,"runId":"r","seq":1,"model":"m"}}"#;
        let delta = r#"data: {"event":"on_message_delta","data":{"id":"s","delta":{"content":[{"type":"text","text":"Hi"}]}}}"#;
        let early = watch(&["data: {\"created\":true,\"message\":{\"conversationId\":\"c\"}}\n\n", delta, "\n\n", usage, "\n\n"]);
        let late = watch(&[
            r#"data: {"sync":true,"resumeState":{"aggregatedContent":[{"type":"text","text":"Hi"}],"collectedUsage":[{"input_tokens":10,"output_tokens":2,"runId":"r","seq":1,"model":"m"}]}}"#,
            "\n\n",
        ]);
        let mut both = early.clone();
        both.merge(&late);
        assert_eq!(both, early, "the same text and the same call");
        assert_eq!(early.calls.len(), 1);
    }

    #[test]
    fn assistants_repeat_a_part_as_it_grows() {
        let seen = watch(&[
            "data: {\"type\":\"text\",\"index\":0,\"text\":{\"value\":\"Hel\"}}\n\ndata: {\"type\":\"text\",\"index\":0,\"text\":{\"value\":\"Hello\"}}\n\n",
            "data: {\"type\":\"text\",\"index\":1,\"text\":{\"value\":\"!\"}}\n\ndata: {\"final\":true,\"conversation\":{\"conversationId\":\"c\"}}\n\n",
        ]);
        assert_eq!(seen.transcript.by_agent().collect::<Vec<_>>(), [("", "Hello!")]);
        assert_eq!(seen.end, Some(End::Completed));
    }

    #[test]
    fn an_error_after_created_is_a_failure() {
        let seen = watch(&["event: message\ndata: {\"created\":true}\n\nevent: error\ndata: {\"error\":\"no\"}\n\n"]);
        assert_eq!((seen.created, seen.end, seen.measured_anything()), (true, Some(End::Failed), false));
    }

    fn usage(seq: &str, input: u64) -> String {
        format!("data: {{\"event\":\"on_token_usage\",\"data\":{{\"input_tokens\":{input},\"output_tokens\":1,\"runId\":\"r\"{seq}}}}}\n\n")
    }

    fn context(tokens: u64) -> String {
        format!(
            "data: {{\"event\":\"on_context_usage\",\"data\":{{\"runId\":\"r\",\"agentId\":\"a\",\"prePruneContextTokens\":{tokens}}}}}\n\n"
        )
    }

    const WORD: &str =
        "data: {\"event\":\"on_message_delta\",\"data\":{\"id\":\"s\",\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]}}}\n\n";

    fn underway(seen: &Observation) -> Vec<(u64, &str)> {
        seen.underway.calls.values().map(|call| (call.tokens, call.text())).collect()
    }

    #[test]
    fn what_is_underway_is_what_came_after_the_last_call_that_was_told() {
        let (first, second, told) = (context(10), context(90), usage(",\"seq\":1", 12));
        let seen = watch(&[&first, WORD, &told, WORD, &second, WORD, WORD]);
        assert_eq!(underway(&seen), [(90, "HiHi")], "text between two calls is no call's");
        assert!(underway(&watch(&[&first, WORD, &told, &second, WORD, &usage(",\"seq\":2", 92)])).is_empty());
        let mut merged = watch(&[&first, WORD]);
        merged.merge(&seen);
        merged.merge(&watch(&[&first, WORD, &told]));
        assert_eq!(underway(&merged), [(90, "HiHi")], "whoever saw less says nothing against it");
    }

    #[test]
    fn who_comes_late_learns_by_the_next_text_that_a_call_is_underway() {
        let sync = r#"data: {"sync":true,"resumeState":{"aggregatedContent":[{"type":"text","text":"Hi"}],"collectedUsage":[{"input_tokens":10,"output_tokens":2,"runId":"r","seq":1}],"contextUsage":{"runId":"r","agentId":"a","prePruneContextTokens":90}}}"#;
        assert_eq!(underway(&watch(&[sync, "\n\n", WORD, WORD])), [(90, "HiHi")]);
        assert!(underway(&watch(&[sync, "\n\n"])).is_empty(), "its prompt may be that of the call that was told");
        assert!(underway(&watch(&[sync, "\n\n", &usage(",\"seq\":2", 92), WORD])).is_empty());
    }

    #[test]
    fn calls_without_a_number_are_told_apart_by_what_they_used() {
        let (one, other) = (usage("", 10), usage("", 30));
        let early = watch(&[&one, &other, &one]);
        let total = |seen: &Observation| seen.calls.values().map(|call| call.tokens.input).sum::<u64>();
        assert_eq!((early.calls.len(), total(&early)), (3, 50));
        for late in [watch(&[&other, &one]), watch(&[&one]), early.clone()] {
            let mut both = early.clone();
            both.merge(&late);
            assert_eq!(both, early, "nothing is charged twice");
        }
    }

    #[test]
    fn an_answer_without_a_word_does_not_undo_what_was_seen_of_it() {
        let last = r#"data: {"final":true,"responseMessage":{"messageId":"r","content":[{"type":"text","text":""}]}}"#;
        let seen = watch(&["data: {\"created\":true}\n\n", WORD, last, "\n\n"]);
        assert_eq!((seen.end, seen.transcript.by_agent().collect::<Vec<_>>()), (Some(End::Completed), vec![("", "Hi")]));
    }

    #[test]
    fn one_odd_element_hides_nothing_beside_it() {
        let last = r#"data: {"final":true,"conversationId":7,"responseMessage":{"messageId":"r","content":[null,{"type":"text","text":"Hi"}],"metadata":{"usage":{"input":4,"output":2},"contextUsage":7}}}"#;
        let seen = watch(&[last, "\n\n"]);
        assert_eq!((seen.reported.map(crate::librechat::usage::Tokens::total), seen.transcript.bytes()), (Some(6), 2));
        let odd = r#"data: {"event":"on_token_usage","data":{"input_tokens":10,"output_tokens":1,"model":{},"runId":"r","seq":1}}"#;
        assert_eq!(watch(&[odd, "\n\n"]).calls.len(), 1);
        let late = r#"data: {"sync":true,"resumeState":{"aggregatedContent":[7,{"type":"text","text":"Hi"}],"collectedUsage":[null,{"input_tokens":4,"runId":"r","seq":1}],"contextUsage":[]},"pendingEvents":[1]}"#;
        let seen = watch(&[late, "\n\n"]);
        assert_eq!((seen.calls.len(), seen.transcript.bytes()), (1, 2));
    }

    #[test]
    fn the_tools_that_an_assistant_calls_are_part_of_its_answer() {
        let call = |input: &str| {
            format!(
                "data: {{\"type\":\"tool_call\",\"index\":0,\"tool_call\":{{\"id\":\"c\",\"type\":\"code_interpreter\",\"code_interpreter\":{{\"input\":\"{input}\",\"outputs\":[{{\"logs\":\"not the model's\"}}]}}}}}}\n\n"
            )
        };
        let function = "data: {\"type\":\"tool_call\",\"index\":1,\"tool_call\":{\"type\":\"function\",\"function\":{\"name\":\"find\",\"arguments\":\"{}\",\"output\":\"no\"}}}\n\n";
        let seen = watch(&[&call("1 +"), &call("1 + 1"), function]);
        assert_eq!(seen.transcript.by_agent().collect::<Vec<_>>(), [("", "1 + 1find{}")]);
    }

    #[test]
    fn an_error_on_a_stream_that_is_not_the_run_itself_is_not_yet_its_end() {
        let mut reader = StreamReader::detached(Arc::default());
        assert!(reader.push(b"data: {\"created\":true}\n\nevent: error\ndata: {\"error\":\"no\"}\n\n", Timestamp::UNIX_EPOCH));
        assert_eq!((reader.seen().end, reader.seen().error_at), (None, Some(Timestamp::UNIX_EPOCH)));
    }
}
