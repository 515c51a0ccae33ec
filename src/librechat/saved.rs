//! Answers as LibreChat saves them, whole: at the end of a stream and in `GET /api/messages/:conversationId`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::bounded;
use super::frames::{AnswerPart, ContextUsage, Ending, FinalFrame, RawContextUsage};
use super::tools::{RawToolCall, ToolResult};
use super::usage::{Count, RawMessageUsage, lenient, lenient_list, readable};

/// An answer as LibreChat saved it, from `GET /api/messages/:conversationId`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedAnswer {
    /// Its id: the run's id.
    pub message_id: String,
    /// What the person had said, where that is saved too.
    pub asked: Option<String>,
    /// When it was last saved, RFC 3339: an answer that is edited and gone on with keeps the time of its making.
    pub created_at: Option<jiff::Timestamp>,
    /// Whether it was cut short.
    pub unfinished: bool,
    /// What it says, read as a final frame is.
    pub frame: FinalFrame,
    /// `metadata.contextUsage`, where it was saved.
    pub context: Option<ContextUsage>,
}

/// The messages of a conversation as LibreChat saved them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedMessages {
    /// What the person said, oldest first.
    pub said: Vec<String>,
    /// What was answered, oldest first.
    pub answers: Vec<SavedAnswer>,
}

/// Reads the saved messages of a conversation.
pub fn saved_messages(json: &[u8]) -> Option<SavedMessages> {
    let messages: Vec<RawMessage<'_>> = readable(serde_json::from_slice(json).ok()?)?;
    let (persons, answers): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.is_created_by_user == Some(true));
    let said: Vec<(String, String)> =
        persons.into_iter().filter_map(|message| Some((owned(message.message_id)?, plain(message.text)?))).collect();
    let answers = answers.into_iter().map(|message| {
        let asked = message.parent_message_id.as_deref().and_then(|parent| said.iter().find(|(id, _)| id == parent));
        let asked = asked.map(|(_, text)| text.clone());
        SavedAnswer { asked, ..message.into_saved() }
    });
    Some(SavedMessages { answers: answers.collect(), said: said.into_iter().map(|(_, text)| text).collect() })
}

/// A name or id from the wire, cut where it is longer than any real one: what is remembered of a stream is bounded.
pub(super) fn owned(id: Option<Cow<'_, str>>) -> Option<String> {
    id.map(|id| bounded(&id))
}

/// Text as it stands in a message.
pub(super) fn plain(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<RawText>(raw?.get()).ok().map(RawText::into_string)
}

/// Text as a string, or as assistants write it, `{"value": "..."}`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawText {
    Plain(String),
    Value { value: String },
}

impl RawText {
    pub(super) fn into_string(self) -> String {
        match self {
            Self::Plain(text) | Self::Value { value: text } => text,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawPart<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "lenient")]
    kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient")]
    text: Option<RawText>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    think: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    tool_call: Option<RawToolCall<'a>>,
    #[serde(borrow, default, rename = "agentId", deserialize_with = "lenient")]
    agent_id: Option<Cow<'a, str>>,
}

/// What the parts of an answer say, and the tool calls among them.
pub(super) fn read_parts(parts: Vec<RawPart<'_>>) -> (Vec<AnswerPart>, Vec<ToolResult>) {
    let results = parts.iter().filter_map(|part| part.tool_call.as_ref()?.result()).collect();
    (parts.into_iter().filter_map(RawPart::into_answer).collect(), results)
}

impl RawPart<'_> {
    fn into_answer(self) -> Option<AnswerPart> {
        if self.kind.as_deref() == Some("error") {
            return None;
        }
        let mut text = self.text.map(RawText::into_string).unwrap_or_default();
        text.push_str(&self.think.unwrap_or_default());
        if let Some(call) = self.tool_call {
            text.push_str(&call.written());
        }
        Some(AnswerPart { agent_id: bounded(&self.agent_id.unwrap_or_default()), text })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMessage<'a> {
    #[serde(borrow, default, deserialize_with = "lenient")]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    parent_message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    created_at: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    updated_at: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient")]
    is_created_by_user: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    unfinished: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    error: Option<bool>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    content: Option<Vec<RawPart<'a>>>,
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(borrow, default, deserialize_with = "lenient")]
    metadata: Option<RawMetadata<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata<'a> {
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<RawMessageUsage>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    context_usage: Option<RawContextUsage<'a>>,
}

impl RawMessage<'_> {
    pub(super) fn into_final(self) -> FinalFrame {
        self.into_saved().frame
    }

    fn into_saved(self) -> SavedAnswer {
        // The text of an error is LibreChat's, not a model's.
        let is_error = self.error == Some(true);
        let failed = is_error || self.content.as_ref().is_some_and(|parts| parts.iter().any(|part| part.kind.as_deref() == Some("error")));
        let (answer, results) = self.content.map(read_parts).unzip();
        // Before content parts there was only `text`; where there are parts, `text` repeats them or is empty.
        let text = plain(self.text).filter(|_| !is_error);
        let answer = answer
            .filter(|parts: &Vec<AnswerPart>| !parts.is_empty() || failed)
            .or_else(|| text.filter(|text| !text.is_empty()).map(|text| vec![AnswerPart { agent_id: String::new(), text }]));
        let (usage, context) = self.metadata.map_or((None, None), |metadata| {
            (metadata.usage.and_then(RawMessageUsage::normalise), metadata.context_usage.map(RawContextUsage::total))
        });
        let run_id = owned(self.message_id);
        SavedAnswer {
            message_id: run_id.clone().unwrap_or_default(),
            asked: None,
            created_at: [self.updated_at, self.created_at].into_iter().flatten().find_map(|time| time.parse().ok()),
            unfinished: self.unfinished.unwrap_or_default(),
            frame: FinalFrame {
                ending: if failed { Ending::ProviderError } else { Ending::Complete },
                conversation_id: owned(self.conversation_id),
                run_id,
                model: owned(self.model),
                answer,
                usage,
                prompt_tokens: Some(self.prompt_tokens.0).filter(|tokens| *tokens > 0),
                results: results.unwrap_or_default(),
            },
            context,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_messages_know_what_they_answer() {
        let json = br#"[
            {"messageId":"u1","isCreatedByUser":true,"text":"Hello","createdAt":"2026-11-20T18:21:58.149Z"},
            {"messageId":"r1","parentMessageId":"u1","isCreatedByUser":false,"unfinished":true,"model":"m","text":"","content":[{"type":"text","text":"Hi"}],
             "createdAt":"2026-11-20T18:21:59.030Z","metadata":{"usage":{"input":4,"output":2}}},
            {"messageId":"r2","parentMessageId":"u1","isCreatedByUser":false,"error":true,"text":"{\"type\":\"message_limit\"}"}]"#;
        let saved = saved_messages(json).expect("messages");
        assert_eq!(saved.said, ["Hello"]);
        let [answer, refusal] = &saved.answers[..] else { panic!("two answers: {saved:?}") };
        assert_eq!((answer.asked.as_deref(), answer.unfinished), (Some("Hello"), true));
        assert_eq!(answer.frame.usage.map(super::super::usage::Tokens::total), Some(6));
        assert_eq!(
            (refusal.frame.ending, &refusal.frame.answer),
            (Ending::ProviderError, &None),
            "the text of an error is nobody's answer"
        );
    }

    #[test]
    fn odd_messages_and_parts_hide_nothing_beside_them() {
        let json = br#"[null, 7, {"messageId":{}},
            {"messageId":"r1","model":{},"content":[null,{"type":"text","text":{}},{"type":"text","text":"Hi"},9],"metadata":{"usage":7}},
            {"messageId":"r2","content":{},"metadata":{"usage":{"input":4,"output":2},"contextUsage":[]},"createdAt":5}]"#;
        let saved = saved_messages(json).expect("messages");
        let [_, odd, metered] = &saved.answers[..] else { panic!("three answers: {saved:?}") };
        let written: String = odd.frame.answer.iter().flatten().map(|part| part.text.as_str()).collect();
        assert_eq!((written.as_str(), &odd.frame.model), ("Hi", &None));
        assert_eq!(metered.frame.usage.map(super::super::usage::Tokens::total), Some(6));
        assert_eq!(saved_messages(b"{}"), None, "what is no list holds no messages");
    }
}
