//! How the stream of an answer is seen: chunks in, an [`Observation`] out.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::observation::{Context, End, Observation, Transcript};
use crate::librechat::chat::bounded;
use crate::librechat::frames::{self, ContextUsage, Ending, FinalFrame, Frame, SyncState};
use crate::librechat::saved::SavedAnswer;
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
    /// Which agent takes a step; only kept where the agent has a name.
    agents: HashMap<String, String>,
    parts: BTreeMap<u64, String>,
    parts_bytes: usize,
    news: bool,
}

impl StreamReader {
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
            Frame::Usage(call, usage) => {
                self.seen.run_id.get_or_insert_with(|| main_run(&call.run_id).to_owned());
                if self.seen.calls.len() < MAX_CALLS {
                    self.seen.calls.insert(call, usage);
                }
                self.news = true;
            }
            Frame::Step { id, agent_id, run_id } => {
                if !agent_id.is_empty() && self.agents.len() < MAX_STEPS {
                    self.agents.insert(bounded(&id), bounded(&agent_id));
                }
                if let Some(run_id) = run_id {
                    self.seen.run_id.get_or_insert_with(|| bounded(main_run(&run_id)));
                }
            }
            Frame::Delta { step_id, text } => {
                self.see_text(now);
                if self.seen.transcript.bytes() + text.len() <= MAX_TRANSCRIPT_BYTES {
                    let agent = self.agents.get(&*step_id).map_or("", String::as_str);
                    self.seen.transcript.append(agent, &text);
                }
            }
            Frame::Part { index, text } => self.see_part(index, &text, now),
            Frame::Sync(state) => {
                self.seen.created = true;
                let paused = state.paused;
                absorb_sync(&mut self.seen, *state);
                self.news = true;
                if paused {
                    self.see_end(End::Paused, now);
                }
            }
            Frame::Paused => self.see_end(End::Paused, now),
            Frame::Error => self.see_end(End::Failed, now),
            Frame::Final(last) => {
                let end = absorb_final(&mut self.seen, *last);
                self.see_end(end, now);
            }
            Frame::Other => {}
        }
    }

    fn see_context(&mut self, context: ContextUsage) {
        let nth = self.seen.contexts.get(&context.agent_id).map_or(0, |last| last.nth + 1);
        if nth == 0 && self.seen.contexts.len() >= MAX_STEPS {
            return;
        }
        self.seen.run_id.get_or_insert_with(|| main_run(&context.run_id).to_owned());
        self.seen.contexts.insert(context.agent_id, Context { nth, tokens: context.tokens });
        self.news = true;
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

/// Adds what a late subscriber is told, or what the status route says.
pub fn absorb_sync(seen: &mut Observation, state: SyncState) {
    let mut transcript = Transcript::default();
    for part in &state.answer {
        transcript.append(&part.agent_id, &part.text);
    }
    let mut told = Observation { transcript, model: state.model, run_id: state.run_id, ..Observation::default() };
    told.calls.extend(state.usage);
    if let Some(context) = state.context {
        told.run_id.get_or_insert_with(|| main_run(&context.run_id).to_owned());
        told.contexts.insert(context.agent_id, Context { nth: 0, tokens: context.tokens });
    }
    seen.merge(&told);
}

/// Adds what the last frame says, and answers how it ended.
fn absorb_final(seen: &mut Observation, last: FinalFrame) -> End {
    let mut told = Observation {
        conversation_id: last.conversation_id,
        run_id: last.run_id,
        model: last.model.filter(|model| !model.is_empty()),
        reported: last.usage,
        prompt_tokens: last.prompt_tokens,
        ..Observation::default()
    };
    if let Some(answer) = last.answer {
        told.transcript.complete = !answer.is_empty();
        for part in &answer {
            told.transcript.append(&part.agent_id, &part.text);
        }
    }
    seen.merge(&told);
    match last.ending {
        Ending::Complete => End::Completed,
        Ending::Aborted | Ending::Replaced => End::Aborted,
        Ending::ProviderError => End::Failed,
    }
}

/// What a saved answer shows of a generation whose stream was not seen to its end.
pub fn of_saved(answer: SavedAnswer) -> Observation {
    let mut seen = Observation { created: true, ended_at: answer.created_at, ..Observation::default() };
    if let Some(context) = answer.context {
        seen.contexts.insert(context.agent_id, Context { nth: 0, tokens: context.tokens });
    }
    let end = absorb_final(&mut seen, answer.frame);
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
}
