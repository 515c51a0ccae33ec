//! Tool calls on every way they are shown, and the laws of merging what was seen of them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::generations::reader::{StreamReader, absorb_sync};
use crate::librechat::frames::run_status;

prop_compose! {
    fn seen_calls()(
        name in prop::sample::select(vec!["", "find", "find_mcp_lab"]),
        here in (prop::option::of(0i64..9), prop::option::of(0i64..9)),
        there in (prop::option::of(0i64..9), prop::option::of(0i64..9)),
        end in prop::option::of(prop_oneof![
            Just(ToolEnd::Closed),
            Just(ToolEnd::Succeeded),
            "[ab]?".prop_map(ToolEnd::Failed),
        ]),
    ) -> ToolSeen {
        let span = |(began, ended): (Option<i64>, Option<i64>)| Span { began: began.map(second), ended: ended.map(second) };
        ToolSeen { name: name.to_owned(), here: span(here), there: span(there), end }
    }
}

prop_compose! {
    /// Some tool calls, few enough to meet those of others.
    pub(in crate::generations) fn tool_calls_seen()(
        by_step in prop::collection::btree_map(("[st]", "[ab]"), seen_calls(), 0..3),
        by_part in prop::collection::btree_map(("[ab]", 0u32..2), seen_calls(), 0..3),
    ) -> ToolCalls {
        ToolCalls { by_step, by_part }
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn start() -> Start {
    serde_json::from_value(serde_json::json!({
        "id": "019ac000-0000-7000-8000-000000000001", "org": "acme", "member": "m", "member_name": null, "role": "user",
        "admitted_at": "2026-11-28T00:00:00Z", "org_day": "2026-11-28", "org_month": "2026-11", "request_id": "r",
        "address": "", "user_agent": "", "endpoint": "openAI", "model": null, "added_model": null, "agent_id": null,
        "conversation_id": null, "created_at": null, "input_estimate": 0, "room": 0, "models": 1, "buckets": [],
    }))
    .expect("a start")
}

/// Each frame a second after the one before.
fn watch(frames: &[&str]) -> Observation {
    let mut reader = StreamReader::new(Arc::new(ToolRules::default()));
    for (at, frame) in (0..).zip(frames) {
        reader.push(format!("event: message\ndata: {frame}\n\n").as_bytes(), second(at));
    }
    reader.seen().clone()
}

/// Tool, server, duration, outcome and error of a call.
type Shown = (String, Option<String>, Option<u64>, &'static str, Option<String>);

fn shown(seen: &Observation) -> Vec<Shown> {
    let calls = tool_calls(&start(), seen).into_iter();
    calls.map(|call| (call.tool, call.mcp_server, call.duration_ms, call.outcome.as_str(), call.error)).collect()
}

fn call(tool: &str, server: Option<&str>, duration: Option<u64>, outcome: &'static str, error: Option<&str>) -> Shown {
    (tool.to_owned(), server.map(str::to_owned), duration, outcome, error.map(str::to_owned))
}

const CALLED: &str = r#"{"event":"on_run_step","data":{"id":"s","runId":"r","type":"tool_calls","stepDetails":{"type":"tool_calls","tool_calls":[{"id":"c","name":"find_mcp_lab","args":""}]}}}"#;
const ANSWERED: &str = r#"{"event":"on_run_step_completed","data":{"result":{"id":"s","index":1,"type":"tool_call","tool_call":{"id":"c","name":"find_mcp_lab","args":"{}","output":"Error: 401, token=abc","progress":1}}}}"#;
const FINAL: &str = r#"{"final":true,"responseMessage":{"messageId":"r","content":[{"type":"tool_call","tool_call":{"id":"c","name":"find_mcp_lab","args":"{}","output":"Error: 401, token=abc","progress":1}}]}}"#;

#[test]
fn a_call_is_seen_from_its_step_to_its_result() {
    let failed = call("find", Some("lab"), Some(2_000), "failure", Some("Error: 401, token=***"));
    let delta = r#"{"event":"on_run_step_delta","data":{"id":"s","delta":{"type":"tool_calls","tool_calls":[{"index":0,"args":"{}"}]}}}"#;
    assert_eq!(shown(&watch(&[CALLED, delta, ANSWERED, FINAL])), std::slice::from_ref(&failed));
    assert_eq!(shown(&watch(&[CALLED, delta])), [call("find", Some("lab"), None, "unknown", None)], "it has no end");
    let only_final = call("find", Some("lab"), None, "failure", Some("Error: 401, token=***"));
    assert_eq!(shown(&watch(&[FINAL])), [only_final], "a saved answer says what was called, and not for how long");
    let seen = watch(&[CALLED, ANSWERED]);
    let kept = serde_json::to_string(&seen.tools).expect("serialisable");
    assert!(!kept.contains("abc") && !kept.contains("args"), "neither results nor arguments are kept: {kept}");
    assert_eq!(tool_calls(&start(), &seen)[0].began_at, Some(second(0)));
}

#[test]
fn libre_chats_own_times_do_not_depend_on_who_listened() {
    let called = CALLED.replace(r#""runId""#, r#""created_at":1000,"runId""#);
    let closed = r#"{"event":"on_run_step_closed","data":{"id":"s","index":1,"type":"tool_calls","status":"completed","created_at":1000,"closed_at":1250}}"#;
    assert_eq!(shown(&watch(&[&called, ANSWERED, closed]))[0].2, Some(250), "both frames came late, from a buffer");
    let late = r#"{"sync":true,"resumeState":{"runSteps":[{"id":"s","type":"tool_calls","stepDetails":{"type":"tool_calls","tool_calls":[{"id":"c","name":"find_mcp_lab"}]},"status":"in_progress","created_at":1000}],"aggregatedContent":[{"type":"tool_call","tool_call":{"id":"c","name":"find_mcp_lab","args":"{}"}}]},"pendingEvents":[]}"#;
    let seen = watch(&[late, ANSWERED, closed]);
    assert_eq!(shown(&seen), [call("find", Some("lab"), Some(250), "failure", Some("Error: 401, token=***"))]);
}

#[test]
fn two_calls_with_the_same_id_are_two() {
    let step = |step: &str, id: &str| {
        CALLED.replace(r#""id":"s""#, &format!(r#""id":"{step}""#)).replace(r#""id":"c""#, &format!(r#""id":"{id}""#))
    };
    let answer = |step: &str, id: &str| {
        ANSWERED
            .replace(r#""id":"s""#, &format!(r#""id":"{step}""#))
            .replace(r#""id":"c""#, &format!(r#""id":"{id}""#))
            .replace("Error: ", "")
    };
    let twice = r#"{"final":true,"responseMessage":{"messageId":"r","content":[{"type":"tool_call","tool_call":{"id":"call_0","name":"find","output":"a"}},{"type":"text","text":"b"},{"type":"tool_call","tool_call":{"id":"call_0","name":"find","output":"Error: c"}}]}}"#;
    let seen = watch(&[&step("s1", "call_0"), &answer("s1", "call_0"), &step("s2", "call_0"), &answer("s2", "call_0")]);
    assert_eq!(shown(&seen).len(), 2);
    let mut whole = seen.clone();
    whole.merge(&watch(&[twice]));
    let outcomes: Vec<_> = shown(&whole).into_iter().map(|call| (call.2, call.3)).collect();
    assert_eq!(outcomes, [(Some(1_000), "success"), (Some(1_000), "failure")], "each meets itself in the saved answer");
    let ids: Vec<Uuid> = tool_calls(&start(), &whole).iter().map(|call| call.id).collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(
        ids,
        tool_calls(&start(), &seen).iter().map(|call| call.id).collect::<Vec<_>>(),
        "rows have the same ids, whoever writes them"
    );
    assert_eq!(ids[0].get_version_num(), 7);
}

#[test]
fn several_calls_in_one_step_end_one_by_one() {
    let called =
        r#"{"event":"on_run_step","data":{"id":"s","type":"tool_calls","stepDetails":{"tool_calls":[{"id":"a","name":"one","args":""}]}}}"#;
    let another = r#"{"event":"on_run_step_delta","data":{"id":"s","delta":{"type":"tool_calls","tool_calls":[{"index":1,"id":"b","name":"two","args":""}]}}}"#;
    let first = r#"{"event":"on_run_step_completed","data":{"result":{"id":"s","tool_call":{"id":"b","name":"two","output":"yes"}}}}"#;
    let closed =
        r#"{"event":"on_run_step_closed","data":{"id":"s","type":"tool_calls","status":"cancelled","created_at":1,"closed_at":900}}"#;
    let expected = [call("one", None, None, "unknown", None), call("two", None, Some(1_000), "success", None)];
    assert_eq!(shown(&watch(&[called, another, first, closed])), expected);
    let failed = closed.replace("cancelled", "failed");
    assert_eq!(shown(&watch(&[called, &failed])), [call("one", None, Some(899), "failure", None)], "the step says that it failed, not why");
}

#[test]
fn assistants_repeat_a_call_until_it_is_answered() {
    let frame = |output: &str| {
        format!(
            r#"{{"type":"tool_call","index":0,"tool_call":{{"id":"c","type":"function","function":{{"name":"find","arguments":"{{}}"{output}}},"progress":0.1}},"stream":true}}"#
        )
    };
    let seen = watch(&[&frame(""), &frame(""), &frame(r#","output":"found""#)]);
    assert_eq!(shown(&seen), [call("find", None, Some(2_000), "success", None)]);
}

#[test]
fn the_status_route_tells_of_calls_too() {
    let status = br#"{"active":true,"resumeState":{"runSteps":[{"id":"s","type":"tool_calls","stepDetails":{"tool_calls":[{"id":"c","name":"find"}]},"status":"completed","created_at":1000,"completed_at":1500}],"aggregatedContent":[{"type":"tool_call","tool_call":{"id":"c","name":"find","output":"yes","progress":1}}]}}"#;
    let mut seen = Observation::default();
    absorb_sync(&mut seen, run_status(status).expect("a status").so_far, &ToolRules::default());
    assert_eq!(shown(&seen), [call("find", None, Some(500), "success", None)]);
}

#[test]
fn a_call_belongs_to_one_side_of_a_pause() {
    let mut before = watch(&[CALLED, &CALLED.replace(r#""id":"c""#, r#""id":"d""#), ANSWERED]);
    before.end = Some(End::Paused);
    assert_eq!(shown(&before).len(), 1, "the call that waits for a person has not been made yet");
    let mut whole = before.clone();
    whole.merge(&watch(&[&ANSWERED.replace(r#""id":"c""#, r#""id":"d""#).replace("Error: ", "")]));
    whole.end = Some(End::Completed);
    let after = whole.since(&before);
    assert_eq!(shown(&after).iter().map(|call| call.3).collect::<Vec<_>>(), ["success"], "only what was not over by then");
}

#[test]
fn the_number_of_calls_is_bounded_and_the_same_ones_are_kept() {
    let rules = ToolRules::default();
    let called = |number: usize| ToolFrame::Called {
        step_id: format!("s{number:05}"),
        calls: vec![NamedCall { id: "c".into(), name: "find".into() }],
        at: None,
    };
    let (mut forwards, mut backwards) = (ToolCalls::default(), ToolCalls::default());
    (0..2 * MAX_TOOL_CALLS).for_each(|number| forwards.see(called(number), None, &rules));
    (0..2 * MAX_TOOL_CALLS).rev().for_each(|number| backwards.see(called(number), None, &rules));
    assert_eq!(forwards.by_step.len(), MAX_TOOL_CALLS);
    assert_eq!(forwards, backwards, "which are kept does not depend on the order");
    let mut both = forwards.clone();
    both.merge(&backwards);
    assert_eq!(both, forwards);
}

#[test]
fn an_observation_of_an_older_replica_has_no_tool_calls() {
    let mut json = serde_json::to_value(Observation::default()).expect("serialisable");
    json.as_object_mut().expect("an object").remove("tools");
    assert_eq!(serde_json::from_value::<Observation>(json).expect("readable"), Observation::default());
}

proptest! {
    #[test]
    fn every_call_is_counted_once(one in tool_calls_seen(), other in tool_calls_seen()) {
        let mut both = one.clone();
        both.merge(&other);
        let calls = |tools: &ToolCalls| tool_calls(&start(), &Observation { tools: tools.clone(), ..Observation::default() }).len();
        prop_assert!(calls(&both) >= calls(&one).max(calls(&other)), "merging forgets nothing");
        prop_assert!(calls(&both) <= calls(&one) + calls(&other), "and makes nothing up");
    }
}
