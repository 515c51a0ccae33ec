//! What a generation costs, by what was seen of it: a function of the start and the observation, and of nothing else.
//!
//! The order of trust: usage frames, then the usage on the final frame or the saved answer, then what the status route
//! collected, then LibreChat's own count of the last prompt of each agent with the answer counted here, then the larger
//! of its estimate and ours of the prompt with the answer counted here. `tokenCount` is never used: it is wrong often enough.
//!
//! Usage frames may have been missed, and a call that was cut off has none. So what the final frame reports beyond them is
//! charged too, and so is what was underway when a run was stopped or failed.

use std::collections::BTreeMap;

use super::observation::{End, Observation};
use super::start::Start;
use crate::librechat::usage::{CallId, CallUsage, Tokens};

/// Where a charge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UsageSource {
    /// Usage frames: the provider's numbers, call by call.
    Frames,
    /// The roll-up on the final frame or the saved answer.
    Message,
    /// What the status route had collected.
    Status,
    /// LibreChat's count of the prompt, and the answer counted here.
    Context,
    /// Prompt and answer counted here.
    Counted,
}

impl UsageSource {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Frames, Self::Message, Self::Status, Self::Context, Self::Counted];

    /// As it stands in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Message => "message",
            Self::Status => "status",
            Self::Context => "context",
            Self::Counted => "counted",
        }
    }
}

/// How a generation ended, as it stands in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The answer is complete.
    Completed,
    /// It was stopped.
    Aborted,
    /// It failed.
    Failed,
    /// It waits for a person.
    Paused,
    /// Its end was never seen.
    Lost,
}

impl Status {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Aborted, Self::Failed, Self::Paused, Self::Lost];

    /// As it stands in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Lost => "lost",
        }
    }
}

/// What one model used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelUse {
    /// The model; empty where nothing names it.
    pub model: String,
    /// What it used.
    pub tokens: Tokens,
    /// Where the numbers come from.
    pub source: UsageSource,
}

/// What a generation is charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// How it ended.
    pub status: Status,
    /// Whether it counts as a message.
    pub counts_as_message: bool,
    /// What each model used; at least one entry.
    pub uses: Vec<ModelUse>,
}

/// Decides. `count` counts a text with the encoding of a model.
pub fn charge(start: &Start, seen: &Observation, count: &dyn Fn(&str, &str) -> u64) -> Charged {
    let status = match seen.end {
        Some(End::Completed) => Status::Completed,
        Some(End::Aborted) => Status::Aborted,
        Some(End::Failed) => Status::Failed,
        Some(End::Paused) => Status::Paused,
        None if seen.error_at.is_some() => Status::Failed,
        None => Status::Lost,
    };
    if !seen.measured_anything() {
        return unmeasured(start, seen, status);
    }
    let uses = if !seen.calls.is_empty() {
        of_frames(start, seen, status, count)
    } else if let Some(tokens) = seen.reported {
        vec![ModelUse { model: main_model(start, seen), tokens, source: UsageSource::Message }]
    } else if !seen.status_calls.is_empty() {
        let mut uses = by_model(start, seen, &seen.status_calls, UsageSource::Status);
        let silent = without_usage(start, seen, &seen.status_calls);
        uses.extend(counted_beside(start, seen, silent, count));
        uses
    } else if !seen.contexts.is_empty() {
        let prompts = seen.contexts.iter().map(|(agent, context)| (agent.clone(), context.tokens)).collect();
        counted(start, seen, prompts, UsageSource::Context, count)
    } else {
        let prompt = start.input_estimate.max(seen.prompt_tokens.unwrap_or_default());
        let mut prompts = vec![(String::new(), prompt)];
        if let Some(model) = &start.added_model {
            prompts.push((model.clone(), prompt));
        }
        counted(start, seen, prompts, UsageSource::Counted, count)
    };
    Charged { status, counts_as_message: true, uses }
}

/// Nothing was measured. A failure before anything was spent costs nothing and gives its message back; a stop before
/// anything was seen costs its prompt; a generation whose end nobody saw costs its estimate, never nothing.
fn unmeasured(start: &Start, seen: &Observation, status: Status) -> Charged {
    let tokens = match status {
        Status::Failed => Tokens::default(),
        Status::Lost => Tokens { input: start.input_estimate, output: start.room, ..Tokens::default() },
        Status::Completed | Status::Aborted | Status::Paused => {
            Tokens { input: start.input_estimate.max(seen.prompt_tokens.unwrap_or_default()), ..Tokens::default() }
        }
    };
    let models = std::iter::once(main_model(start, seen)).chain(start.added_model.clone());
    let uses = models.map(|model| ModelUse { model, tokens, source: UsageSource::Counted }).collect();
    Charged { status, counts_as_message: status != Status::Failed, uses }
}

/// The calls added up by the model that they name.
fn by_model(start: &Start, seen: &Observation, calls: &BTreeMap<CallId, CallUsage>, source: UsageSource) -> Vec<ModelUse> {
    let mut models = BTreeMap::<String, Tokens>::new();
    for call in calls.values() {
        let model = if call.model.is_empty() { main_model(start, seen) } else { call.model.clone() };
        let sum = models.entry(model).or_default();
        *sum = sum.plus(call.tokens);
    }
    models.into_iter().map(|(model, tokens)| ModelUse { model, tokens, source }).collect()
}

/// What the usage frames tell, what was missed of them, what agents used of whom none tells, and what was cut off.
fn of_frames(start: &Start, seen: &Observation, status: Status, count: &dyn Fn(&str, &str) -> u64) -> Vec<ModelUse> {
    let mut uses = by_model(start, seen, &seen.calls, UsageSource::Frames);
    let missed = beyond(&seen.calls, seen.reported);
    if missed.total() > 0 {
        add(&mut uses, ModelUse { model: main_model(start, seen), tokens: missed, source: UsageSource::Message });
    }
    let silent = without_usage(start, seen, &seen.calls);
    let cut_off = cut_off(start, seen, status, &silent, count);
    uses.extend(counted_beside(start, seen, silent, count));
    for more in cut_off {
        add(&mut uses, more);
    }
    uses
}

/// What the final frame reports beyond the calls that were seen: a tab that came late saw only the last ones.
fn beyond(calls: &BTreeMap<CallId, CallUsage>, reported: Option<Tokens>) -> Tokens {
    let told = calls.values().fold(Tokens::default(), |sum, call| sum.plus(call.tokens));
    reported.filter(|reported| reported.total() > told.total()).map(|reported| reported.minus(told)).unwrap_or_default()
}

/// Adds what a model used to what is known of it already. Where that comes from several sources, the least trusted is told.
fn add(uses: &mut Vec<ModelUse>, more: ModelUse) {
    let alone = uses.len() == 1 && more.model.is_empty();
    match uses.iter_mut().find(|known| alone || known.model == more.model || is_asked_for_as(&known.model, &more.model)) {
        Some(known) => {
            known.tokens = known.tokens.plus(more.tokens);
            known.source = known.source.max(more.source);
        }
        None => uses.push(more),
    }
}

/// Whether a provider may call a model so that was asked for by a shorter name: `gpt-4o-2024-08-06` is `gpt-4o`, while
/// `gpt-4o-mini` is not.
fn is_asked_for_as(told: &str, asked: &str) -> bool {
    let version =
        |rest: &str| rest.len() > 1 && rest.starts_with(['-', '@']) && !rest.contains(|letter: char| letter.is_ascii_alphabetic());
    !asked.is_empty() && told.strip_prefix(asked).is_some_and(version)
}

/// What was underway when a run was stopped or failed, or was lost sight of: the provider was sent these prompts and wrote
/// these texts, and no usage will tell of them. A pause comes between two calls, and a whole answer leaves none open.
fn cut_off(
    start: &Start,
    seen: &Observation,
    status: Status,
    silent: &[(String, u64)],
    count: &dyn Fn(&str, &str) -> u64,
) -> Vec<ModelUse> {
    if matches!(status, Status::Completed | Status::Paused) {
        return Vec::new();
    }
    let calls = seen.underway.calls.iter().filter(|(agent, _)| !silent.iter().any(|(of, _)| of == *agent));
    let used = calls.map(|(agent, call)| {
        let model = model_of_agent(start, seen, agent);
        let output = count(&model, call.text());
        ModelUse { model, tokens: Tokens { input: call.tokens, output, ..Tokens::default() }, source: UsageSource::Context }
    });
    used.collect()
}

/// The prompts of agents whose model gave no usage, where that of another model in the same run did: a model that was sent
/// a prompt and of which no call tells.
fn without_usage(start: &Start, seen: &Observation, calls: &BTreeMap<CallId, CallUsage>) -> Vec<(String, u64)> {
    let prompts_sent: u64 = seen.contexts.values().map(|context| u64::from(context.nth) + 1).sum();
    let calls_told = calls.keys().filter(|call| call.usage_type.is_empty()).count() as u64;
    if seen.contexts.len() < 2 || calls_told >= prompts_sent {
        return Vec::new();
    }
    let is_told = |model: &str| {
        let of = |told: &str| told.is_empty() || told == model || is_asked_for_as(told, model) || is_asked_for_as(model, told);
        model.is_empty() || calls.values().any(|call| of(&call.model))
    };
    let silent = seen.contexts.iter().filter(|(agent, _)| !is_told(&model_of_agent(start, seen, agent)));
    silent.map(|(agent, context)| (agent.clone(), context.tokens)).collect()
}

/// What those agents used, beside others: their prompts, with what each of them wrote counted here.
fn counted_beside(start: &Start, seen: &Observation, silent: Vec<(String, u64)>, count: &dyn Fn(&str, &str) -> u64) -> Vec<ModelUse> {
    let mut theirs = Observation { model: seen.model.clone(), ..Observation::default() };
    for (agent, text) in seen.transcript.by_agent().filter(|(agent, _)| silent.iter().any(|(of, _)| of == agent)) {
        theirs.transcript.append(agent, text);
    }
    counted(start, &theirs, silent, UsageSource::Context, count)
}

/// Prompts as given per agent, with what each agent wrote counted here.
fn counted(
    start: &Start,
    seen: &Observation,
    prompts: Vec<(String, u64)>,
    source: UsageSource,
    count: &dyn Fn(&str, &str) -> u64,
) -> Vec<ModelUse> {
    let mut uses: Vec<(String, ModelUse)> = prompts
        .into_iter()
        .map(|(agent, input)| {
            let model = model_of_agent(start, seen, &agent);
            (agent, ModelUse { model, tokens: Tokens { input, ..Tokens::default() }, source })
        })
        .collect();
    for (agent, text) in seen.transcript.by_agent() {
        let model = model_of_agent(start, seen, agent);
        let place = uses.iter().position(|(of, _)| of == agent).or_else(|| uses.iter().position(|(_, entry)| entry.model == model));
        if let Some((_, entry)) = place.or((!uses.is_empty()).then_some(0)).and_then(|place| uses.get_mut(place)) {
            let output = count(&entry.model, text);
            entry.tokens.output = entry.tokens.output.saturating_add(output);
        }
    }
    merge_models(uses.into_iter().map(|(_, entry)| entry))
}

fn merge_models(uses: impl Iterator<Item = ModelUse>) -> Vec<ModelUse> {
    let mut merged: Vec<ModelUse> = Vec::new();
    for entry in uses {
        match merged.iter_mut().find(|known| known.model == entry.model) {
            Some(known) => known.tokens = known.tokens.plus(entry.tokens),
            None => merged.push(entry),
        }
    }
    merged
}

/// The model of the answer: as LibreChat saved it or the calls name it, and only where they do not as the body asked for it,
/// which LibreChat need not have followed. Of an assistant it saves the assistant's id, which is no model.
fn main_model(start: &Start, seen: &Observation) -> String {
    let told = || only_model_told(start, seen);
    saved_model(start, seen).or_else(told).or(start.model.as_deref()).unwrap_or_default().to_owned()
}

/// The model that every call names. Where two models answer, a call does not say whose it is.
fn only_model_told<'a>(start: &Start, seen: &'a Observation) -> Option<&'a str> {
    let mut models = named_calls(seen).map(|(_, usage)| usage.model.as_str());
    let first = models.next().filter(|_| start.added_model.is_none())?;
    models.all(|model| model == first).then_some(first)
}

fn named_calls(seen: &Observation) -> impl Iterator<Item = (&CallId, &CallUsage)> {
    let calls = if seen.calls.is_empty() { &seen.status_calls } else { &seen.calls };
    calls.iter().filter(|(call, usage)| call.is_primary() && !usage.model.is_empty())
}

fn saved_model<'a>(start: &Start, seen: &'a Observation) -> Option<&'a str> {
    seen.model.as_deref().filter(|model| start.agent_id.as_deref() != Some(*model))
}

/// The model that an agent turned out to use, by what LibreChat said and not by what the body did. Nothing where two models
/// answered, since a call does not say whose it is.
pub fn taught_model(start: &Start, seen: &Observation) -> Option<String> {
    if start.added_model.is_some() {
        return None;
    }
    let told = named_calls(seen).max_by_key(|(_, usage)| usage.tokens.total()).map(|(_, usage)| usage.model.as_str());
    told.or(saved_model(start, seen)).map(str::to_owned)
}

/// The model behind an agent's id: LibreChat names the passing agent of a plain chat `endpoint__model___label`, and that
/// of an added conversation likewise with `____1` at the end.
fn model_of_agent(start: &Start, seen: &Observation, agent: &str) -> String {
    match &start.added_model {
        Some(added) if agent.ends_with("____1") || (agent == added && !added.is_empty()) => added.clone(),
        _ => main_model(start, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::observation::{Context, OpenCall};

    fn start() -> Start {
        serde_json::from_value(serde_json::json!({
            "id": "0193d5a0-0000-7000-8000-000000000000", "org": "acme", "member": "m", "member_name": null, "role": "user",
            "admitted_at": "2026-11-20T00:00:00Z", "org_day": "2026-11-20", "org_month": "2026-11", "request_id": "r",
            "address": "127.0.0.1", "user_agent": "", "endpoint": "LabAI", "model": "lab-small", "added_model": null,
            "agent_id": null, "conversation_id": null, "created_at": null, "input_estimate": 7, "room": 1000, "models": 1, "buckets": [],
        }))
        .expect("a start")
    }

    fn words(_model: &str, text: &str) -> u64 {
        text.split_whitespace().count() as u64
    }

    fn ended(end: End) -> Observation {
        Observation { created: true, end: Some(end), ..Observation::default() }
    }

    #[test]
    fn frames_are_trusted_most_and_split_by_model() {
        let mut seen = ended(End::Completed);
        for (seq, model, input) in [(1, "a", 10), (2, "b", 20), (3, "a", 30)] {
            let call = CallId { run_id: "r".into(), seq, usage_type: String::new(), unnumbered: None };
            seen.calls.insert(call, CallUsage { model: model.into(), tokens: Tokens { input, output: 1, ..Tokens::default() } });
        }
        seen.reported = Some(Tokens { input: 9, output: 9, ..Tokens::default() });
        let charged = charge(&start(), &seen, &words);
        assert!(charged.uses.iter().all(|used| used.source == UsageSource::Frames));
        let totals: Vec<_> = charged.uses.iter().map(|entry| (entry.model.as_str(), entry.tokens.input, entry.tokens.output)).collect();
        assert_eq!(totals, [("a", 40, 2), ("b", 20, 1)]);
    }

    #[test]
    fn two_models_without_usage_are_told_apart_by_their_agents() {
        let start = Start { added_model: Some("lab-large".into()), models: 2, ..start() };
        let mut seen = ended(End::Completed);
        for (agent, tokens) in [("LabAI__lab-large___LabAI____1", 11), ("LabAI__lab-small___LabAI", 12)] {
            seen.contexts.insert(agent.into(), Context { nth: 0, tokens });
            seen.transcript.append(agent, &"word ".repeat(usize::try_from(tokens).expect("small")));
        }
        let charged = charge(&start, &seen, &words);
        let totals: Vec<_> = charged.uses.iter().map(|entry| (entry.model.as_str(), entry.tokens.input, entry.tokens.output)).collect();
        assert_eq!(totals, [("lab-large", 11, 11), ("lab-small", 12, 12)]);
    }

    #[test]
    fn a_model_without_usage_is_counted_beside_one_with_it() {
        let start = Start { added_model: Some("gpt-4o".into()), models: 2, ..start() };
        let mut seen = ended(End::Completed);
        for (agent, tokens) in [("openAI__gpt-4o____1", 11), ("LabAI__lab-small___LabAI", 12)] {
            seen.contexts.insert(agent.into(), Context { nth: 0, tokens });
            seen.transcript.append(agent, "one two");
        }
        let call = CallId { run_id: "r".into(), seq: 1, usage_type: String::new(), unnumbered: None };
        let tokens = Tokens { input: 30, output: 5, ..Tokens::default() };
        seen.calls.insert(call, CallUsage { model: "gpt-4o-2024-08-06".into(), tokens });
        let charged = charge(&start, &seen, &words);
        let uses: Vec<_> =
            charged.uses.iter().map(|used| (used.model.as_str(), used.tokens.input, used.tokens.output, used.source)).collect();
        assert_eq!(uses, [("gpt-4o-2024-08-06", 30, 5, UsageSource::Frames), ("lab-small", 12, 2, UsageSource::Context)]);
    }

    #[test]
    fn an_assistants_id_is_no_model() {
        let start = Start { model: None, agent_id: Some("asst_x".into()), ..start() };
        let seen = Observation { model: Some("asst_x".into()), prompt_tokens: Some(9), ..ended(End::Completed) };
        assert_eq!(charge(&start, &seen, &words).uses[0].model, "", "the price table's default decides");
        assert_eq!(taught_model(&start, &seen), None);
    }

    #[test]
    fn what_libre_chat_saved_outranks_what_the_body_asked_for() {
        let start = Start { model: Some("nonsense".into()), ..start() };
        let seen = Observation { model: Some("gpt-4o".into()), ..ended(End::Completed) };
        assert_eq!(charge(&start, &seen, &words).uses[0].model, "gpt-4o");
        assert_eq!(charge(&start, &ended(End::Completed), &words).uses[0].model, "nonsense", "nothing else names one");
        assert_eq!(taught_model(&start, &seen).as_deref(), Some("gpt-4o"));
        assert_eq!(taught_model(&start, &ended(End::Completed)), None, "a body teaches nothing");
        let beside = Start { added_model: Some("dear".into()), ..start };
        assert_eq!(taught_model(&beside, &seen), None);
    }

    fn told(seq: i64, model: &str, input: u64, output: u64) -> (CallId, CallUsage) {
        let call = CallId { run_id: "r".into(), seq, usage_type: String::new(), unnumbered: None };
        (call, CallUsage { model: model.into(), tokens: Tokens { input, output, ..Tokens::default() } })
    }

    fn rows(charged: &Charged) -> Vec<(&str, u64, u64, UsageSource)> {
        charged.uses.iter().map(|used| (used.model.as_str(), used.tokens.input, used.tokens.output, used.source)).collect()
    }

    #[test]
    fn what_is_reported_beyond_the_frames_is_charged_too() {
        let mut seen = ended(End::Completed);
        seen.calls.extend([told(2, "lab-small-2024-08-06", 100, 10)]);
        seen.reported = Some(Tokens { input: 90_100, output: 5_010, ..Tokens::default() });
        assert_eq!(rows(&charge(&start(), &seen, &words)), [("lab-small-2024-08-06", 90_100, 5_010, UsageSource::Message)]);
        let other = Observation { model: Some("lab".into()), ..seen.clone() };
        let expected = [("lab-small-2024-08-06", 100, 10, UsageSource::Frames), ("lab", 90_000, 5_000, UsageSource::Message)];
        assert_eq!(rows(&charge(&start(), &other, &words)), expected, "another model's calls were missed");
        seen.reported = Some(Tokens { input: 90, output: 5, ..Tokens::default() });
        assert_eq!(rows(&charge(&start(), &seen, &words)), [("lab-small-2024-08-06", 100, 10, UsageSource::Frames)]);
    }

    #[test]
    fn the_call_that_was_cut_off_is_charged() {
        let mut seen = ended(End::Aborted);
        seen.calls.extend([told(1, "lab-small", 100, 10)]);
        seen.contexts.insert("a".into(), Context { nth: 1, tokens: 90_000 });
        let mut open = OpenCall::new(90_000);
        open.append(&"word ".repeat(3_000));
        seen.underway.calls.insert("a".into(), open);
        let expected = [("lab-small", 90_100, 3_010, UsageSource::Context)];
        for end in [Some(End::Aborted), Some(End::Failed), None] {
            seen.end = end;
            assert_eq!(rows(&charge(&start(), &seen, &words)), expected, "{end:?}");
        }
        for end in [End::Completed, End::Paused] {
            seen.end = Some(end);
            assert_eq!(rows(&charge(&start(), &seen, &words)), [("lab-small", 100, 10, UsageSource::Frames)], "{end:?}");
        }
    }

    #[test]
    fn a_closer_name_is_the_same_model_and_a_longer_one_is_not() {
        for (told, asked) in
            [("gpt-4o-2024-08-06", "gpt-4o"), ("claude-sonnet-4@20250514", "claude-sonnet-4"), ("gemini-2.0-flash-001", "gemini-2.0-flash")]
        {
            assert!(is_asked_for_as(told, asked), "{told}");
        }
        for (told, asked) in [("gpt-4o-mini", "gpt-4o"), ("gpt-4o-mini-2024-07-18", "gpt-4o"), ("gpt-4.1", "gpt-4"), ("x", "")] {
            assert!(!is_asked_for_as(told, asked), "{told}");
        }
    }

    #[test]
    fn an_error_and_no_other_end_is_a_failure() {
        let seen = Observation { error_at: Some(jiff::Timestamp::UNIX_EPOCH), ..Observation::default() };
        let charged = charge(&start(), &seen, &words);
        assert_eq!((charged.status, charged.uses[0].tokens.total()), (Status::Failed, 0));
    }

    #[test]
    fn a_failure_before_anything_was_spent_is_free() {
        let charged = charge(&start(), &ended(End::Failed), &words);
        assert!(!charged.counts_as_message, "the message is given back");
        assert_eq!(charged.uses[0].tokens.total(), 0);
    }

    #[test]
    fn a_failure_after_the_prompt_was_counted_costs_the_prompt() {
        let mut seen = ended(End::Failed);
        seen.contexts.insert("a".into(), Context { nth: 0, tokens: 10 });
        let charged = charge(&start(), &seen, &words);
        assert_eq!((charged.counts_as_message, charged.uses[0].tokens.total()), (true, 10));
    }

    #[test]
    fn a_generation_nobody_saw_costs_its_estimate() {
        let charged = charge(&start(), &Observation::default(), &words);
        assert_eq!((charged.status, charged.uses[0].tokens.total()), (Status::Lost, 1007));
    }

    #[test]
    fn without_any_report_the_larger_prompt_counts() {
        let mut seen = ended(End::Completed);
        seen.transcript.append("", "one two three");
        seen.prompt_tokens = Some(15);
        let charged = charge(&start(), &seen, &words);
        assert_eq!(
            (charged.uses[0].source, charged.uses[0].tokens),
            (UsageSource::Counted, Tokens { input: 15, output: 3, ..Tokens::default() })
        );
    }
}
