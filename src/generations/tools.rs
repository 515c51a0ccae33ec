//! What has been seen of a generation's tool calls. It is merged as everything that is seen is: order, grouping and
//! repetition do not matter.
//!
//! A stream shows a call by its step, a whole answer by its place among the answer's parts. Both are kept apart and brought
//! together only in the end, because some providers number the calls of each model call anew: two calls of one run may
//! have the same id.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::observation::{End, Observation, earlier, pairs};
use super::start::Start;
use super::tool_rules::ToolRules;
use crate::librechat::tools::{NamedCall, ToolFrame, ToolResult, tool_and_server};
use crate::records::Outcome;

/// How many tool calls of a generation are told apart. Of more, those with the lowest keys are kept, whoever saw them.
pub const MAX_TOOL_CALLS: usize = 512;

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ToolEnd {
    /// Its step is over; what came of it was not seen.
    Closed,
    /// The tool gave a result.
    Succeeded,
    /// The tool failed; how its result begins, without secrets.
    Failed(String),
}

/// When a call began and ended, by one clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl Span {
    fn merge(&mut self, other: Self) {
        self.began = earlier(self.began, other.began);
        self.ended = earlier(self.ended, other.ended);
    }

    fn milliseconds(self) -> Option<u64> {
        u64::try_from(self.ended?.duration_since(self.began?).as_millis()).ok()
    }
}

/// What was seen of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ToolSeen {
    name: String,
    /// By our clocks: when frames passed.
    here: Span,
    /// By LibreChat's clock: what frames say.
    there: Span,
    end: Option<ToolEnd>,
}

impl ToolSeen {
    fn merge(&mut self, other: &Self) {
        if other.name > self.name {
            self.name.clone_from(&other.name);
        }
        self.here.merge(other.here);
        self.there.merge(other.there);
        if other.end > self.end {
            self.end.clone_from(&other.end);
        }
    }
}

type Seen<K> = BTreeMap<K, ToolSeen>;

/// The tool calls of a generation, as far as they were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCalls {
    /// From frames: by step and call.
    #[serde(with = "pairs")]
    by_step: Seen<(String, String)>,
    /// From whole answers: by call, and how many calls before it in the answer had the same id.
    #[serde(with = "pairs")]
    by_part: Seen<(String, u32)>,
}

impl ToolCalls {
    /// A frame says something of tool calls: `now` if it comes as it happens, else at some time before.
    pub fn see(&mut self, frame: ToolFrame, now: Option<Timestamp>, rules: &ToolRules) {
        match frame {
            ToolFrame::Called { step_id, calls, at } => {
                for NamedCall { id, name } in calls {
                    let called =
                        ToolSeen { name, here: Span { began: now, ended: None }, there: Span { began: at, ended: None }, end: None };
                    keep(&mut self.by_step, (step_id.clone(), id), &called);
                }
            }
            ToolFrame::Answered { step_id, result: ToolResult { call, output } } => {
                let ended = Span { began: None, ended: now };
                let end = output.map(|output| rules.judge(&output));
                keep(&mut self.by_step, (step_id, call.id), &ToolSeen { name: call.name, here: ended, end, ..ToolSeen::default() });
            }
            ToolFrame::Closed { step_id, failed, at } => self.close(&step_id, failed, at, now),
            ToolFrame::Part(result) => self.see_part(result, 0, now, rules),
        }
    }

    /// A whole answer, or as much of one as there is, holds these.
    pub fn see_answer(&mut self, results: Vec<ToolResult>, rules: &ToolRules) {
        let mut before = BTreeMap::<String, u32>::new();
        for result in results {
            let nth = before.entry(result.call.id.clone()).or_default();
            self.see_part(result, *nth, None, rules);
            *nth += 1;
        }
    }

    fn see_part(&mut self, result: ToolResult, nth: u32, now: Option<Timestamp>, rules: &ToolRules) {
        let ToolResult { call: NamedCall { id, name }, output } = result;
        let ended = now.filter(|_| output.is_some());
        let end = output.map(|output| rules.judge(&output));
        keep(&mut self.by_part, (id, nth), &ToolSeen { name, here: Span { began: now, ended }, there: Span::default(), end });
    }

    fn close(&mut self, step_id: &str, failed: bool, at: (Option<Timestamp>, Option<Timestamp>), now: Option<Timestamp>) {
        let end = if failed { ToolEnd::Failed(String::new()) } else { ToolEnd::Closed };
        let mut there = Span { began: at.0, ended: at.1 };
        let mut here = Span { began: None, ended: now };
        let first = (step_id.to_owned(), String::new());
        let calls = self.by_step.range_mut(first..).take_while(|((step, _), _)| step == step_id);
        let mut calls: Vec<&mut ToolSeen> = calls.map(|(_, call)| call).collect();
        if calls.len() > 1 || calls.iter().any(|call| call.here.began.is_none() && call.there.began.is_none()) {
            // The step ends with its last call, and says nothing of when the others did; there may be some that were not seen.
            (here.ended, there.ended) = (None, None);
        }
        for call in &mut calls {
            call.merge(&ToolSeen { name: String::new(), here, there, end: Some(end.clone()) });
        }
    }

    /// Adds what another one saw.
    pub fn merge(&mut self, other: &Self) {
        other.by_step.iter().for_each(|(key, call)| keep(&mut self.by_step, key.clone(), call));
        other.by_part.iter().for_each(|(key, call)| keep(&mut self.by_part, key.clone(), call));
    }

    /// What came after `before`: calls that had ended by then are left out.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        self.by_step.retain(|key, _| before.by_step.get(key).is_none_or(|call| call.end.is_none()));
        self.by_part.retain(|key, _| before.by_part.get(key).is_none_or(|call| call.end.is_none()));
        self
    }

    /// Every call once, by its id and how often that came before.
    fn together(&self) -> Seen<(&str, u32)> {
        let mut frames: Vec<(&str, &ToolSeen)> = self.by_step.iter().map(|((_, call_id), seen)| (call_id.as_str(), seen)).collect();
        frames.sort_by_key(|(call_id, seen)| (*call_id, seen.there.began, seen.here.began));
        let mut calls: Seen<(&str, u32)> =
            self.by_part.iter().map(|((call_id, nth), seen)| ((call_id.as_str(), *nth), seen.clone())).collect();
        let mut before = BTreeMap::<&str, u32>::new();
        for (call_id, seen) in frames {
            let nth = before.entry(call_id).or_default();
            let call = calls.entry((call_id, *nth)).or_default();
            // Where ids are used again and not every step was seen, times may be those of another call; results never are.
            let result = call.end.take();
            call.merge(seen);
            call.end = result.or(call.end.take());
            *nth += 1;
        }
        calls
    }
}

fn keep<K: Ord>(calls: &mut Seen<K>, key: K, seen: &ToolSeen) {
    calls.entry(key).or_default().merge(seen);
    if calls.len() > MAX_TOOL_CALLS {
        calls.pop_last();
    }
}

/// A tool call of a generation that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its row's id: the same whoever writes it.
    pub id: Uuid,
    /// The id its model's provider gave it; it need not be unique.
    pub call_id: String,
    /// The tool, without its server's name; empty where no frame named it.
    pub tool: String,
    /// The MCP server it belongs to, if it is one's.
    pub mcp_server: Option<String>,
    /// When it began: by the clock of whoever saw it begin, else by LibreChat's.
    pub began_at: Option<Timestamp>,
    /// From its beginning to its end, in milliseconds, where both were seen by one clock. The model's writing of the
    /// arguments is part of it.
    pub duration_ms: Option<u64>,
    /// How it went.
    pub outcome: Outcome,
    /// How the result of a failure begins: at most 200 characters, secrets masked.
    pub error: Option<String>,
}

/// The tool calls of a generation that is over, in the order of their ids.
pub fn tool_calls(start: &Start, seen: &Observation) -> Vec<ToolCall> {
    let call = |((call_id, nth), seen): ((&str, u32), ToolSeen)| {
        let (tool, mcp_server) = tool_and_server(&seen.name);
        let (outcome, error) = match &seen.end {
            Some(ToolEnd::Failed(error)) => (Outcome::Failure, Some(error.clone()).filter(|error| !error.is_empty())),
            Some(ToolEnd::Succeeded) => (Outcome::Success, None),
            Some(ToolEnd::Closed) | None => (Outcome::Unknown, None),
        };
        ToolCall {
            id: row_id(start.id, call_id, nth),
            call_id: call_id.to_owned(),
            tool: tool.to_owned(),
            mcp_server: mcp_server.map(str::to_owned),
            began_at: seen.here.began.or(seen.there.began),
            // LibreChat's own times do not depend on when somebody listened.
            duration_ms: seen.there.milliseconds().or_else(|| seen.here.milliseconds()),
            outcome,
            error,
        }
    };
    // What a run that waits for a person has begun is called, or is not, when it goes on: by another generation.
    let waits = |call: &ToolSeen| seen.end == Some(End::Paused) && call.end.is_none();
    seen.tools.together().into_iter().filter(|(_, seen)| !waits(seen)).map(call).collect()
}

/// The time of the generation's id, so that rows stay together, and a digest for the rest.
fn row_id(generation: Uuid, call_id: &str, nth: u32) -> Uuid {
    let digest = Sha256::new().chain_update(generation.as_bytes()).chain_update(nth.to_be_bytes()).chain_update(call_id).finalize();
    let mut bytes = *generation.as_bytes();
    bytes[8..].copy_from_slice(&digest[..8]);
    uuid::Builder::from_bytes(bytes).with_variant(uuid::Variant::RFC4122).into_uuid()
}

#[cfg(test)]
pub(super) mod tests;
