//! Pieces of an answer, as the stream brings them: text, reasoning, and the arguments of tool calls.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::frames::Frame;
use super::tools::{RawNamedCall, called};
use super::usage::{lenient_list, readable};

/// `{"id": step, "delta": {...}}`: what differs is what the delta holds.
#[derive(Deserialize)]
struct RawDelta<'a, D> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    delta: D,
}

#[derive(Deserialize)]
struct ContentDelta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ContentPiece<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    think: Option<Text<'a>>,
}

/// Text that is copied only where something in it is escaped; an `Option<Cow<str>>` always is.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The usual delta, `{"content": [{"type": "text", "text": "..."}]}`, without the detour through an untagged enum.
#[derive(Deserialize)]
struct PlainContentDelta<'a> {
    #[serde(borrow)]
    content: Vec<ContentPiece<'a>>,
}

/// The frame that nearly all frames are, read in one go: `{"event":"on_message_delta","data":{...}}` in this order and of the
/// usual shape. `None` for everything else, which is then read with care.
pub(super) fn read_plain_delta(frame: &[u8]) -> Option<Frame<'_>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct PlainDelta<'a> {
        #[serde(rename = "event")]
        _event: serde::de::IgnoredAny,
        #[serde(borrow)]
        data: RawDelta<'a, PlainContentDelta<'a>>,
    }
    if !frame.starts_with(br#"{"event":"on_message_delta","#) && !frame.starts_with(br#"{"event":"on_reasoning_delta","#) {
        return None;
    }
    let PlainDelta { data: RawDelta { id, delta }, .. } = serde_json::from_slice(frame).ok()?;
    Some(Frame::Delta { step_id: id, text: joined(delta.content) })
}

pub(super) fn read_content_delta(data: &str) -> Option<Frame<'_>> {
    if let Ok(RawDelta { id, delta: PlainContentDelta { content } }) = serde_json::from_str(data) {
        return Some(Frame::Delta { step_id: id, text: joined(content) });
    }
    let RawDelta { id, delta: ContentDelta { content } } = serde_json::from_str(data).ok()?;
    let content = content?;
    // One piece may stand alone; among several an odd one is passed over.
    let pieces = readable(content).or_else(|| Some(vec![serde_json::from_str(content.get()).ok()?]))?;
    Some(Frame::Delta { step_id: id, text: joined(pieces) })
}

fn joined(pieces: Vec<ContentPiece<'_>>) -> Cow<'_, str> {
    let mut texts = pieces.into_iter().filter_map(|piece| Some(piece.text.or(piece.think)?.0));
    let first = texts.next().unwrap_or_default();
    texts.fold(first, |mut text, next| {
        text.to_mut().push_str(&next);
        text
    })
}

pub(super) fn read_tool_call_delta(data: &str) -> Option<Frame<'_>> {
    #[derive(Deserialize)]
    struct Delta<'a> {
        #[serde(borrow, default, deserialize_with = "lenient_list")]
        tool_calls: Option<Vec<RawNamedCall<'a>>>,
    }
    let RawDelta::<'_, Delta<'_>> { id, delta } = serde_json::from_str(data).ok()?;
    let calls = delta.tool_calls?;
    let mut text = String::new();
    for call in &calls {
        text.push_str(call.name.as_deref().unwrap_or_default());
        text.push_str(&argument_text(call.args));
    }
    Some(match called(&id, calls, None) {
        Some(called) => Frame::CallDelta { step_id: id, text, called: Box::new(called) },
        None => Frame::Delta { step_id: id, text: Cow::Owned(text) },
    })
}

/// The arguments of a tool call as the model wrote them: a string of JSON, or the JSON itself.
pub(super) fn argument_text(args: Option<&RawValue>) -> String {
    let raw = args.map_or("", RawValue::get);
    serde_json::from_str::<String>(raw).unwrap_or_else(|_| if raw == "null" { String::new() } else { raw.to_owned() })
}
