//! What is seen of a stream does not depend on where its chunks break, and nothing in it breaks the reader.

use jiff::Timestamp;
use proptest::prelude::*;
use tollgate::generations::Observation;
use tollgate::generations::reader::StreamReader;
use tollgate::generations::tools::ToolCalls;

use crate::support::recorded::{load, shared_folder};

/// A made-up stream of everything that is read: both generations of the wire, assistants, and a late subscriber.
const STREAMS: [&str; 3] = [
    concat!(
        "event: message\ndata: {\"created\":true,\"message\":{\"conversationId\":\"c-1\",\"text\":\"안녕\"},\"streamId\":\"c-1\"}\n\n",
        "event: message\ndata: {\"event\":\"on_context_usage\",\"data\":{\"runId\":\"r-1\",\"agentId\":\"a\",\"breakdown\":{\"instructionTokens\":3},\"prePruneContextTokens\":11}}\n\n",
        "event: message\ndata: {\"event\":\"on_run_step\",\"data\":{\"id\":\"s-1\",\"runId\":\"r-1\",\"agentId\":\"a\",\"type\":\"message_creation\"}}\n\n",
        "event: message\ndata: {\"event\":\"on_reasoning_delta\",\"data\":{\"id\":\"s-1\",\"delta\":{\"content\":[{\"type\":\"think\",\"think\":\"hm \"}]}}}\n\n",
        "event: message\ndata: {\"event\":\"on_message_delta\",\"data\":{\"id\":\"s-1\",\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"네, 안녕하세요 👋\"}]}}}\n\n",
        "event: message\ndata: {\"event\":\"on_run_step_delta\",\"data\":{\"id\":\"s-2\",\"delta\":{\"type\":\"tool_calls\",\"tool_calls\":[{\"name\":\"find\",\"args\":\"{\\\"q\\\":1}\"}]}}}\n\n",
        "event: message\ndata: {\"event\":\"on_run_step\",\"data\":{\"id\":\"s-3\",\"type\":\"tool_calls\",\"stepDetails\":{\"tool_calls\":[{\"id\":\"c-1\",\"name\":\"find_mcp_lab\"}]},\"created_at\":1000}}\n\n",
        "event: message\ndata: {\"event\":\"on_run_step_completed\",\"data\":{\"result\":{\"id\":\"s-3\",\"tool_call\":{\"id\":\"c-1\",\"name\":\"find_mcp_lab\",\"output\":\"Error: 없음 👋\"}}}}\n\n",
        "event: message\ndata: {\"event\":\"on_run_step_closed\",\"data\":{\"id\":\"s-3\",\"type\":\"tool_calls\",\"status\":\"completed\",\"created_at\":1000,\"closed_at\":1500}}\n\n",
        "event: message\ndata: {\"event\":\"on_token_usage\",\"data\":{\"input_tokens\":15,\"output_tokens\":9,\"total_tokens\":24,\"model\":\"m\",\"provider\":\"openAI\",\"runId\":\"r-1\",\"seq\":1}}\n\n",
        "event: message\ndata: {\"final\":true,\"conversation\":{\"conversationId\":\"c-1\"},\"responseMessage\":{\"messageId\":\"r-1\",\"model\":\"m\",\"promptTokens\":11,\"content\":[{\"type\":\"text\",\"text\":\"네, 안녕하세요 👋\"}]}}\n\n",
    ),
    concat!(
        "data: {\"sync\":true,\"conversationId\":\"c-2\",\"requestMessage\":{},\"responseMessage\":{\"model\":\"asst\"}}\r\n\r\n",
        "data: {\"type\":\"text\",\"index\":0,\"text\":{\"value\":\"One\"},\"stream\":true}\r\n\r\ndata: {\"type\":\"text\",\"index\":0,\"text\":{\"value\":\"One two\"}}\r\n\r\n",
        "data: {\"type\":\"tool_call\",\"index\":1,\"tool_call\":{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"find\",\"output\":\"found\"},\"progress\":1}}\r\n\r\n",
        "data: {\"final\":true,\"conversation\":{\"conversationId\":\"c-2\"},\"requestMessage\":{}}\r\n\r\n",
    ),
    concat!(
        "event: message\ndata: {\"sync\":true,\"resumeState\":{\"aggregatedContent\":[{\"type\":\"text\",\"text\":\"so far\"}],\"collectedUsage\":[{\"input_tokens\":4,\"output_tokens\":2,\"runId\":\"r\",\"seq\":1}],",
        "\"userMessage\":{\"text\":\"x\"},\"responseMessageId\":\"r\",\"contextUsage\":{\"runId\":\"r\",\"agentId\":\"a\",\"prePruneContextTokens\":4}},\"pendingEvents\":[{\"event\":\"on_token_usage\",\"data\":{\"input_tokens\":6,\"output_tokens\":1,\"runId\":\"r\",\"seq\":2}}]}\n\n",
        "event: error\ndata: {\"error\":\"{\\\"type\\\":\\\"token_balance\\\"}\"}\n\n",
    ),
];

fn see<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Observation {
    let mut reader = StreamReader::default();
    for chunk in chunks {
        reader.push(chunk, Timestamp::UNIX_EPOCH);
    }
    reader.close(Timestamp::UNIX_EPOCH);
    reader.seen().clone()
}

/// The stream in pieces, cut at these places.
fn cut<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([0, stream.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

#[test]
fn everything_in_the_made_up_streams_is_seen() {
    let [chat, assistant, late] = STREAMS.map(|stream| see([stream.as_bytes()]));
    assert!(chat.created && chat.calls.len() == 1 && chat.contexts.len() == 1 && chat.end.is_some(), "{chat:?}");
    assert!(chat.tools != assistant.tools && late.tools == ToolCalls::default(), "{chat:?} {assistant:?}");
    assert!(assistant.created && assistant.conversation_id.as_deref() == Some("c-2"), "{assistant:?}");
    assert_eq!(assistant.transcript.by_agent().collect::<Vec<_>>(), [("", "One twofind")]);
    assert_eq!((late.calls.len(), late.run_id.as_deref()), (2, Some("r")), "{late:?}");
}

#[test]
fn recorded_streams_are_seen_the_same_byte_by_byte() {
    let recordings = ["librechat-0.8.8-rc1", "librechat-0.8.1"].into_iter().filter_map(|of| load(&shared_folder(of)));
    for recording in recordings.flat_map(std::collections::HashMap::into_values).filter(|recording| !recording.response.chunks.is_empty()) {
        let text = recording.text();
        let whole = see([text.as_bytes()]);
        assert_eq!(see(text.as_bytes().chunks(1)), whole, "{}: byte by byte", recording.name);
        let pieces = recording.pieces();
        assert_eq!(see(pieces.iter().map(String::as_bytes)), whole, "{}: as it was recorded", recording.name);
    }
}

/// Names that frames have.
const NAMES: [&str; 51] = [
    "event",
    "data",
    "created",
    "final",
    "sync",
    "aborted",
    "message",
    "responseMessage",
    "conversation",
    "resumeState",
    "pendingEvents",
    "conversationId",
    "type",
    "text",
    "index",
    "error",
    "id",
    "delta",
    "content",
    "think",
    "tool_calls",
    "args",
    "runId",
    "seq",
    "agentId",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "input_token_details",
    "cache_read",
    "prePruneContextTokens",
    "breakdown",
    "aggregatedContent",
    "collectedUsage",
    "contextUsage",
    "userMessage",
    "metadata",
    "usage",
    "input",
    "output",
    "promptTokens",
    "value",
    "result",
    "tool_call",
    "stepDetails",
    "runSteps",
    "status",
    "name",
    "progress",
    "function",
    "created_at",
];

/// JSON of any shape, with the names that frames have.
fn hostile() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        prop::sample::select(vec![
            "on_token_usage",
            "on_context_usage",
            "on_message_delta",
            "on_run_step",
            "on_run_step_delta",
            "on_run_step_completed",
            "on_run_step_closed",
            "text",
            "error"
        ])
        .prop_map(Into::into),
    ];
    let names = prop::sample::select(&NAMES[..]);
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn chunks_do_not_matter(which in 0..STREAMS.len(), cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        let stream = STREAMS[which].as_bytes();
        prop_assert_eq!(see(cut(stream, &cuts)), see([stream]));
    }

    #[test]
    fn hostile_frames_are_only_not_understood(frames in prop::collection::vec((hostile(), "message|error|"), 0..8), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let text: String = frames.iter().map(|(frame, name)| format!("event: {name}\ndata: {frame}\n\n")).collect();
        prop_assert_eq!(see(cut(text.as_bytes(), &cuts)), see([text.as_bytes()]));
    }

    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        see([&bytes[..]]);
    }
}

#[test]
fn deep_nesting_and_huge_numbers() {
    let deep = format!("data: {{\"final\":true,\"responseMessage\":{}1{}}}\n\n", "[".repeat(100_000), "]".repeat(100_000));
    see([deep.as_bytes()]);
    let huge = "data: {\"event\":\"on_token_usage\",\"data\":{\"input_tokens\":1e308,\"output_tokens\":99999999999999999999999,\"runId\":\"r\",\"seq\":1}}\n\n";
    let seen = see([huge.as_bytes()]);
    assert!(seen.calls.values().all(|call| call.tokens.total() == 0), "numbers that are none count as nothing: {seen:?}");
}
