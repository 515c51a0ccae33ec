//! Tool calls as LibreChat shows them: by name when a step begins, with their result when it is completed, and both
//! together in the parts of a whole answer.
//!
//! Arguments are read elsewhere, as text that a model wrote. Results are looked at and not kept.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::bounded;
use super::deltas::argument_text;
use super::usage::{Count, lenient, lenient_list};

/// How much of a result is looked at, in bytes.
const LOOKED_AT: usize = 16 * 1024;

/// What parts the tool from its MCP server in a name.
const MCP_DELIMITER: &str = "_mcp_";

/// A tool call by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCall {
    /// Its id, as the model's provider gave it. Some providers give the same one again in the next model call.
    pub id: String,
    /// The tool, as LibreChat names it; empty where a frame does not say.
    pub name: String,
}

/// A tool call and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The call.
    pub call: NamedCall,
    /// The beginning of what the tool answered; nothing while it has not.
    pub output: Option<String>,
}

/// What a frame says of tool calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolFrame {
    /// A step calls tools.
    Called {
        /// The step.
        step_id: String,
        /// The tools.
        calls: Vec<NamedCall>,
        /// When it began, by LibreChat's clock.
        at: Option<Timestamp>,
    },
    /// A tool answered.
    Answered {
        /// The step.
        step_id: String,
        /// What it answered.
        result: ToolResult,
    },
    /// A step is over.
    Closed {
        /// The step.
        step_id: String,
        /// Whether it failed.
        failed: bool,
        /// When it began and ended, by LibreChat's clock.
        at: (Option<Timestamp>, Option<Timestamp>),
    },
    /// A part of an answer is a tool call (assistants).
    Part(ToolResult),
}

/// The tool and its MCP server, where it is one's: LibreChat names such a tool `tool_mcp_server`.
pub fn tool_and_server(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(MCP_DELIMITER) {
        Some((tool, server)) if !tool.is_empty() && !server.is_empty() => (tool, Some(server)),
        _ => (name, None),
    }
}

/// `tool_call` of a part, and of the frame that completes a step: as agents write it, `{"name": .., "args": ..}`, or as
/// assistants do, below the name of its kind.
#[derive(Deserialize)]
pub(super) struct RawToolCall<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    progress: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    function: Option<RawFunction<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    code_interpreter: Option<RawCode<'a>>,
}

#[derive(Deserialize)]
struct RawFunction<'a> {
    #[serde(borrow, default, deserialize_with = "lenient")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawCode<'a> {
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

impl RawToolCall<'_> {
    /// What the model wrote of it; what the tool answered is nobody's answer.
    pub(super) fn written(self) -> String {
        let mut text = self.name.map(Cow::into_owned).unwrap_or_default();
        text.push_str(&argument_text(self.args));
        if let Some(function) = self.function {
            text.push_str(&function.name.unwrap_or_default());
            text.push_str(&argument_text(function.arguments));
        }
        if let Some(code) = self.code_interpreter {
            text.push_str(&argument_text(code.input));
        }
        text
    }

    /// The call and its result; `None` where it has no id to be known by.
    pub(super) fn result(&self) -> Option<ToolResult> {
        let id = word(self.id).filter(|id| !id.is_empty())?;
        let function = self.function.as_ref();
        let function_name = function.and_then(|function| function.name.as_deref());
        // Assistants have tools of their own, which have a type and no name.
        let name = self.name.as_deref().or(function_name).map(bounded).or_else(|| word(self.kind)).unwrap_or_default();
        let output = beginning(self.output).or_else(|| beginning(function?.output)).filter(|output| !output.is_empty());
        let is_done = self.progress.is_some_and(|progress| progress.get().parse().is_ok_and(|progress: f64| progress >= 1.0));
        Some(ToolResult { call: NamedCall { id, name }, output: output.or_else(|| is_done.then(String::new)) })
    }
}

/// The body of `on_run_step`, and an entry of `runSteps`.
#[derive(Deserialize)]
pub(super) struct RawStep<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow, default, rename = "agentId", deserialize_with = "lenient")]
    pub(super) agent_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "runId", deserialize_with = "lenient")]
    pub(super) run_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "stepDetails")]
    details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(default)]
    created_at: Count,
    #[serde(default)]
    closed_at: Count,
    #[serde(default)]
    completed_at: Count,
    #[serde(default)]
    failed_at: Count,
    #[serde(default)]
    cancelled_at: Count,
}

impl RawStep<'_> {
    /// The tools that this step calls, if it does.
    pub(super) fn called(&self) -> Option<ToolFrame> {
        #[derive(Deserialize)]
        struct Details<'a> {
            #[serde(borrow, default, deserialize_with = "lenient_list")]
            tool_calls: Option<Vec<RawNamedCall<'a>>>,
        }
        let details: Details<'_> = serde_json::from_str(self.details?.get()).ok()?;
        called(&self.id, details.tool_calls?, time(self.created_at))
    }

    /// That it is over, if it calls tools and is: as `on_run_step_closed` says it, or a step that is told of later.
    pub(super) fn closed(&self) -> Option<ToolFrame> {
        let status = word(self.status).filter(|status| status != "in_progress")?;
        if self.kind.is_some_and(|kind| kind.get() != r#""tool_calls""#) {
            return None;
        }
        let ended = [self.closed_at, self.completed_at, self.failed_at, self.cancelled_at].into_iter().find_map(time);
        Some(ToolFrame::Closed { step_id: bounded(&self.id), failed: status == "failed", at: (time(self.created_at), ended) })
    }
}

/// An entry of `tool_calls` in a step or a delta.
#[derive(Deserialize)]
pub(super) struct RawNamedCall<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) args: Option<&'a RawValue>,
}

/// The calls among these that have an id; further pieces of a call have none.
pub(super) fn called(step_id: &str, calls: Vec<RawNamedCall<'_>>, at: Option<Timestamp>) -> Option<ToolFrame> {
    let named = |call: RawNamedCall<'_>| {
        let id = word(call.id).filter(|id| !id.is_empty())?;
        Some(NamedCall { id, name: call.name.as_deref().map(bounded).unwrap_or_default() })
    };
    let calls: Vec<NamedCall> = calls.into_iter().filter_map(named).collect();
    (!calls.is_empty()).then(|| ToolFrame::Called { step_id: bounded(step_id), calls, at })
}

/// The body of `on_run_step_completed`.
pub(super) fn read_completed(data: &str) -> Option<ToolFrame> {
    #[derive(Deserialize)]
    struct Completed<'a> {
        #[serde(borrow)]
        result: Completion<'a>,
    }
    #[derive(Deserialize)]
    struct Completion<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(borrow)]
        tool_call: RawToolCall<'a>,
    }
    let Completion { id, tool_call } = serde_json::from_str::<Completed<'_>>(data).ok()?.result;
    let mut result = tool_call.result()?;
    // That it is completed says this frame, whatever stands in it.
    result.output.get_or_insert_default();
    Some(ToolFrame::Answered { step_id: bounded(&id), result })
}

/// A bounded text; nothing where the value is of another kind.
fn word(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<Cow<'_, str>>(raw?.get()).ok().map(|text| bounded(&text))
}

/// The beginning of a result, which is text, or whatever else a tool answered as JSON.
fn beginning(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw?.get();
    if raw == "null" {
        return None;
    }
    let text = if raw.starts_with('"') { serde_json::from_str::<String>(raw).ok()? } else { raw.to_owned() };
    let end = text.floor_char_boundary(LOOKED_AT);
    if end == text.len() { Some(text) } else { Some(text[..end].to_owned()) }
}

fn time(milliseconds: Count) -> Option<Timestamp> {
    let milliseconds = i64::try_from(milliseconds.0).ok().filter(|milliseconds| *milliseconds > 0)?;
    Timestamp::from_millisecond(milliseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mcp_tool_is_named_with_its_server() {
        for (name, expected) in [
            ("web_search", ("web_search", None)),
            ("list_issues_mcp_github", ("list_issues", Some("github"))),
            ("run_mcp_step_mcp_jobs", ("run_mcp_step", Some("jobs"))),
            ("_mcp_github", ("_mcp_github", None)),
            ("list_mcp_", ("list_mcp_", None)),
            ("", ("", None)),
        ] {
            assert_eq!(tool_and_server(name), expected, "{name}");
        }
    }

    fn part(json: &str) -> Option<(String, String, Option<String>)> {
        let result = serde_json::from_str::<RawToolCall<'_>>(json).expect("a tool call").result()?;
        Some((result.call.id, result.call.name, result.output))
    }

    #[test]
    fn calls_of_agents_and_of_assistants() {
        let found = |id: &str, name: &str, output: Option<&str>| Some((id.to_owned(), name.to_owned(), output.map(str::to_owned)));
        for (json, expected) in [
            (r#"{"id":"c","name":"find","args":"{}","output":"Error: no","progress":1}"#, found("c", "find", Some("Error: no"))),
            (r#"{"id":"c","name":"find","args":"{}","output":"","progress":1}"#, found("c", "find", Some(""))),
            (r#"{"id":"c","name":"find","output":"","progress":0.1}"#, found("c", "find", None)),
            (r#"{"id":"c","name":"find","output":null}"#, found("c", "find", None)),
            (r#"{"id":"c","name":"find","output":{"a":1}}"#, found("c", "find", Some(r#"{"a":1}"#))),
            (r#"{"id":"c","type":"function","function":{"name":"find","output":"yes"}}"#, found("c", "find", Some("yes"))),
            (r#"{"id":"c","type":"code_interpreter","code_interpreter":{},"progress":1}"#, found("c", "code_interpreter", Some(""))),
            (r#"{"id":"","name":"find"}"#, None),
            (r#"{"id":7,"name":"find","function":[],"progress":"x"}"#, None),
        ] {
            assert_eq!(part(json), expected, "{json}");
        }
        let long = format!(r#"{{"id":"c","output":"{}"}}"#, "가".repeat(LOOKED_AT));
        assert!(part(&long).expect("a call").2.expect("an output").len() <= LOOKED_AT, "only the beginning is looked at");
    }

    #[test]
    fn a_step_that_is_told_of_later_is_closed_when_its_status_says_so() {
        let closed = |json: &str| serde_json::from_str::<RawStep<'_>>(json).expect("a step").closed();
        assert_eq!(closed(r#"{"id":"s","status":"in_progress","created_at":5}"#), None);
        assert_eq!(closed(r#"{"id":"s"}"#), None, "before 0.8.8 steps have no status");
        let at = (Timestamp::from_millisecond(5).ok(), Timestamp::from_millisecond(9).ok());
        let failed = ToolFrame::Closed { step_id: "s".into(), failed: true, at };
        assert_eq!(closed(r#"{"id":"s","status":"failed","created_at":5,"failed_at":9}"#), Some(failed));
        let odd = ToolFrame::Closed { step_id: "s".into(), failed: false, at: (None, None) };
        assert_eq!(closed(r#"{"id":"s","status":"cancelled","created_at":"then","closed_at":null}"#), Some(odd));
    }
}
