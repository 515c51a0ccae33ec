//! What has been seen of a generation.
//!
//! Tabs, reconnects, replays, our own subscription and other replicas all see the same run, each perhaps only a part of
//! it. What they saw is merged, and the merge keeps three laws: order does not matter, grouping does not matter, and
//! seeing something twice is seeing it once. So anyone may tell at any time, and nothing is charged twice.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::tools::ToolCalls;
use crate::librechat::usage::{CallId, CallUsage, Tokens};

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum End {
    /// It waits for a person; a resume is a generation of its own.
    Paused,
    /// It failed.
    Failed,
    /// Someone stopped it, it gave way to another, or its direct stream was closed.
    Aborted,
    /// The answer is complete.
    Completed,
}

/// A prompt as LibreChat counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Context {
    /// How many prompts of this agent were seen before it: the last one counts.
    pub nth: u32,
    /// Its tokens.
    pub tokens: u64,
}

/// What the models wrote, by agent. The agent's id is empty where there is only one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transcript {
    /// Whether it comes from the end of the run, and nothing is missing.
    pub complete: bool,
    /// How many bytes it has; the longer of two partial ones is kept.
    bytes: usize,
    by_agent: BTreeMap<String, String>,
}

impl Transcript {
    /// Appends what an agent wrote.
    pub fn append(&mut self, agent: &str, text: &str) {
        self.bytes += text.len();
        if let Some(written) = self.by_agent.get_mut(agent) {
            written.push_str(text);
        } else {
            self.by_agent.insert(agent.to_owned(), text.to_owned());
        }
    }

    /// What each agent wrote.
    pub fn by_agent(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_agent.iter().map(|(agent, text)| (agent.as_str(), text.as_str()))
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The model calls that began and of which no usage has been told yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// How far the calls that were told reach, by their numbers; 0 before the first.
    pub after: i64,
    /// By agent: the prompt that was sent, and what was written since.
    pub calls: BTreeMap<String, OpenCall>,
}

/// A model call of which no usage has been told yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenCall {
    /// Its prompt by LibreChat's own counting, in tokens.
    pub tokens: u64,
    /// How many bytes of text it has; the longer of two is kept.
    bytes: usize,
    text: String,
}

impl OpenCall {
    /// A call with this prompt, of which nothing was written yet.
    pub fn new(tokens: u64) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// Appends what was written.
    pub fn append(&mut self, text: &str) {
        self.bytes += text.len();
        self.text.push_str(text);
    }

    /// What was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Underway {
    /// Who saw more calls told knows better what is underway; who saw as many may have seen others of them, or more of them.
    fn merge(&mut self, other: &Self) {
        match self.after.cmp(&other.after) {
            Ordering::Less => self.clone_from(other),
            Ordering::Equal => keep_greater_each(&mut self.calls, &other.calls),
            Ordering::Greater => {}
        }
    }
}

/// What has been seen of a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// LibreChat accepted the message.
    pub created: bool,
    /// The conversation, where a frame named it.
    pub conversation_id: Option<String>,
    /// The answer's message id, where a frame named it.
    pub run_id: Option<String>,
    /// The model, as LibreChat saved it.
    pub model: Option<String>,
    /// Real usage by model call, from usage frames.
    #[serde(with = "pairs")]
    pub calls: BTreeMap<CallId, CallUsage>,
    /// Real usage of all calls together, from the final frame or the saved answer.
    pub reported: Option<Tokens>,
    /// Real usage by model call, from the status route.
    #[serde(with = "pairs")]
    pub status_calls: BTreeMap<CallId, CallUsage>,
    /// The last prompt of each agent, by LibreChat's own counting.
    pub contexts: BTreeMap<String, Context>,
    /// What was underway when it was last seen.
    #[serde(default)]
    pub underway: Underway,
    /// LibreChat's estimate of the prompt, from the final frame.
    pub prompt_tokens: Option<u64>,
    /// What was written.
    pub transcript: Transcript,
    /// The tools that were called.
    #[serde(default)]
    pub tools: ToolCalls,
    /// When the first piece of the answer was seen.
    pub first_token_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<End>,
    /// When its end was first seen.
    pub ended_at: Option<Timestamp>,
    /// When a stream of its own last ended in an error. That may be the run's end, or that stream's alone.
    #[serde(default)]
    pub error_at: Option<Timestamp>,
}

impl Observation {
    /// Adds what another one saw.
    pub fn merge(&mut self, other: &Self) {
        self.created |= other.created;
        keep_greater(&mut self.conversation_id, other.conversation_id.as_ref());
        keep_greater(&mut self.run_id, other.run_id.as_ref());
        keep_greater(&mut self.model, other.model.as_ref());
        keep_greater_each(&mut self.calls, &other.calls);
        keep_greater_each(&mut self.status_calls, &other.status_calls);
        keep_greater_each(&mut self.contexts, &other.contexts);
        keep_greater(&mut self.reported, other.reported.as_ref());
        keep_greater(&mut self.prompt_tokens, other.prompt_tokens.as_ref());
        self.underway.merge(&other.underway);
        if other.transcript > self.transcript {
            self.transcript = other.transcript.clone();
        }
        self.tools.merge(&other.tools);
        self.first_token_at = earlier(self.first_token_at, other.first_token_at);
        keep_greater(&mut self.end, other.end.as_ref());
        self.ended_at = earlier(self.ended_at, other.ended_at);
        keep_greater(&mut self.error_at, other.error_at.as_ref());
    }

    /// What came after `before`, which was seen of the same run.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        let called = |call: &CallId| before.calls.contains_key(call) || before.status_calls.contains_key(call);
        self.calls.retain(|call, _| !called(call));
        self.status_calls.retain(|call, _| !called(call));
        let calls = if before.calls.is_empty() { &before.status_calls } else { &before.calls };
        let spent = calls.values().fold(Tokens::default(), |sum, call| sum.plus(call.tokens));
        self.reported = self.reported.map(|tokens| tokens.minus(spent)).filter(|tokens| tokens.total() > 0);
        self.contexts.retain(|agent, context| before.contexts.get(agent).is_none_or(|known| known.tokens != context.tokens));
        if self.underway == before.underway {
            self.underway = Underway::default();
        }
        let mut transcript = Transcript { complete: self.transcript.complete, ..Transcript::default() };
        for (agent, text) in self.transcript.by_agent() {
            let known = before.transcript.by_agent.get(agent).map_or("", String::as_str);
            transcript.append(agent, text.strip_prefix(known).unwrap_or(text));
        }
        self.transcript = transcript;
        self.tools = self.tools.since(&before.tools);
        self
    }

    /// Whether anything was seen that a provider may have been paid for.
    pub fn measured_anything(&self) -> bool {
        !self.calls.is_empty()
            || self.reported.is_some()
            || !self.status_calls.is_empty()
            || !self.contexts.is_empty()
            || !self.transcript.is_empty()
    }
}

fn keep_greater<T: Ord + Clone>(mine: &mut Option<T>, theirs: Option<&T>) {
    if theirs > mine.as_ref() {
        *mine = theirs.cloned();
    }
}

fn keep_greater_each<K: Ord + Clone, V: Ord + Clone>(mine: &mut BTreeMap<K, V>, theirs: &BTreeMap<K, V>) {
    for (key, value) in theirs {
        match mine.get_mut(key) {
            Some(known) if *known >= *value => {}
            Some(known) => known.clone_from(value),
            None => {
                mine.insert(key.clone(), value.clone());
            }
        }
    }
}

pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// A map whose keys are no strings, as JSON: a list of pairs.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn observation()(
            created: bool,
            name in prop::option::of("[ab]"),
            calls in prop::collection::btree_map((0i64..3, "[rs]"), 0u64..4, 0..3),
            contexts in prop::collection::btree_map("[xy]", (0u32..3, 0u64..9), 0..2),
            text in prop::collection::vec(("[xy]?", "[a-z]{0,4}"), 0..3),
            complete: bool,
            after in 0i64..3,
            underway in prop::collection::btree_map("[xy]?", (0u64..3, "[a-z]{0,3}"), 0..2),
            tools in super::super::tools::tests::tool_calls_seen(),
            times in (prop::option::of(0i64..9), prop::option::of(0i64..9), prop::option::of(0i64..9)),
            end in prop::option::of(prop::sample::select(vec![End::Paused, End::Failed, End::Aborted, End::Completed])),
        ) -> Observation {
            let mut transcript = Transcript { complete, ..Transcript::default() };
            for (agent, text) in &text {
                transcript.append(agent, text);
            }
            let open = |(agent, (tokens, text)): (String, (u64, String))| {
                let mut call = OpenCall::new(tokens);
                call.append(&text);
                (agent, call)
            };
            let second = |second| Timestamp::from_second(second).expect("in range");
            Observation {
                created,
                conversation_id: name.clone(),
                run_id: name,
                calls: calls.into_iter().map(|((seq, run_id), input)| (
                    CallId { run_id, seq, usage_type: String::new(), unnumbered: None },
                    CallUsage { model: String::new(), tokens: Tokens { input, ..Tokens::default() } },
                )).collect(),
                contexts: contexts.into_iter().map(|(agent, (nth, tokens))| (agent, Context { nth, tokens })).collect(),
                transcript,
                tools,
                first_token_at: times.0.map(second),
                underway: Underway { after, calls: underway.into_iter().map(open).collect() },
                ended_at: times.1.map(second),
                error_at: times.2.map(second),
                end,
                ..Observation::default()
            }
        }
    }

    #[test]
    fn what_came_after_a_pause_is_told_apart() {
        let call = |seq, input| {
            let id = CallId { run_id: "r".into(), seq, usage_type: String::new(), unnumbered: None };
            (id, CallUsage { model: "m".into(), tokens: Tokens { input, output: 1, ..Tokens::default() } })
        };
        let mut before = Observation { end: Some(End::Paused), ..Observation::default() };
        before.calls.extend([call(1, 10)]);
        before.contexts.insert("a".into(), Context { nth: 0, tokens: 9 });
        before.transcript.append("a", "So far");
        let mut whole = Observation { end: Some(End::Completed), ..before.clone() };
        whole.calls.extend([call(2, 30)]);
        whole.reported = Some(Tokens { input: 40, output: 2, ..Tokens::default() });
        whole.transcript.append("a", ", so good");
        let after = whole.clone().since(&before);
        assert_eq!(after.calls.into_iter().collect::<Vec<_>>(), [call(2, 30)]);
        assert_eq!(after.reported, Some(Tokens { input: 30, output: 1, ..Tokens::default() }));
        assert_eq!(after.transcript.by_agent().collect::<Vec<_>>(), [("a", ", so good")]);
        assert!(after.contexts.is_empty(), "no new prompt was seen");
        let nothing = whole.clone().since(&whole);
        assert!(nothing.calls.is_empty() && nothing.transcript.is_empty() && nothing.contexts.is_empty(), "nothing comes after the end");
    }

    fn merged(one: &Observation, other: &Observation) -> Observation {
        let mut both = one.clone();
        both.merge(other);
        both
    }

    proptest! {
        #[test]
        fn order_does_not_matter(a in observation(), b in observation()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        }

        #[test]
        fn grouping_does_not_matter(a in observation(), b in observation(), c in observation()) {
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn twice_is_once(a in observation(), b in observation()) {
            let both = merged(&a, &b);
            prop_assert_eq!(merged(&both, &b), both.clone());
        }

        #[test]
        fn it_travels_as_json(a in observation()) {
            let json = serde_json::to_string(&a).expect("serialisable");
            prop_assert_eq!(serde_json::from_str::<Observation>(&json).expect("readable"), a);
        }
    }
}
