//! What a chat start asks: the body of `POST /api/agents/chat/:endpoint`, of assistants, and of a steer.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::Value;

use super::usage::whole;

/// The largest JSON body LibreChat accepts (`express.json({ limit: '3mb' })`).
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// What Tollgate reads of a chat start's body. A key that stands twice is an error: the two sides could read different ones.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatBody<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "promptPrefix")]
    prompt_prefix: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    instructions: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "additional_instructions")]
    additional_instructions: Option<Cow<'a, str>>,
    #[serde(default)]
    quotes: Option<Value>,
    #[serde(default)]
    edited_content: Option<Value>,
    /// LibreChat's endpoint, where the body names it.
    #[serde(borrow, default)]
    pub endpoint: Option<Cow<'a, str>>,
    /// The model; absent for saved agents, and not looked at by LibreChat where it is not.
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "agent_id")]
    agent_id: Option<Cow<'a, str>>,
    /// The assistant.
    #[serde(borrow, default, rename = "assistant_id")]
    pub assistant_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(default, rename = "max_tokens")]
    max_tokens: Option<Value>,
    #[serde(default)]
    max_output_tokens: Option<Value>,
    /// The person's time zone, as the browser knows it.
    #[serde(borrow, default)]
    pub timezone: Option<Cow<'a, str>>,
    /// A second model that answers the same message.
    #[serde(borrow, default)]
    pub added_convo: Option<AddedConversation<'a>>,
    #[serde(default, rename = "__proto__")]
    prototype: Option<IgnoredAny>,
}

/// The second model of a chat start.
#[derive(Debug, Default, Deserialize)]
pub struct AddedConversation<'a> {
    /// Its endpoint.
    #[serde(borrow, default)]
    pub endpoint: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    agent_id: Option<Cow<'a, str>>,
    #[serde(default, rename = "__proto__")]
    prototype: Option<IgnoredAny>,
}

impl AddedConversation<'_> {
    /// The saved agent that answers, whichever endpoint stands beside it.
    pub fn saved_agent(&self) -> Option<&str> {
        self.agent_id.as_deref().filter(|id| is_saved_agent(id))
    }

    /// The model that answers; a saved agent brings its own.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref().filter(|_| self.saved_agent().is_none())
    }
}

impl<'a> ChatBody<'a> {
    /// Reads a body. It must be one JSON object of the shapes LibreChat's client sends; no body at all is an empty one.
    pub fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        let body: Self = match json.trim_ascii_start().first() {
            None if json.is_empty() => return Ok(Self::default()),
            // A list would be read as the fields in their order.
            Some(b'[') => return Err(serde_json::Error::custom("a list is no chat")),
            _ => serde_json::from_slice(json)?,
        };
        // Where LibreChat copies a body, its `__proto__` may become where missing fields are found.
        if body.prototype.is_some() || body.added_convo.as_ref().is_some_and(|added| added.prototype.is_some()) {
            return Err(serde_json::Error::custom("a chat has no prototype"));
        }
        Ok(body)
    }

    /// Everything in the body that will be part of the prompt: text, instructions, quotes, an edited answer.
    pub fn visible_text(&self) -> String {
        let mut text = String::with_capacity(self.text.as_ref().map_or(0, |text| text.len()) + 16);
        for part in [&self.prompt_prefix, &self.instructions, &self.additional_instructions, &self.text].into_iter().flatten() {
            append(&mut text, part);
        }
        for value in [&self.quotes, &self.edited_content].into_iter().flatten() {
            append_strings(&mut text, value);
        }
        text
    }

    /// What the person says, as LibreChat will save it; not known where an answer is edited, which LibreChat goes on from
    /// with the message that it has saved.
    pub fn said(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.edited_content.is_none())
    }

    /// The saved agent that answers, with a model and settings of its own: LibreChat then looks at no other model and no
    /// `max_tokens`. It asks one only where the endpoint is `agents`, and takes any other id for none at all. The body's
    /// endpoint counts; that of the path where it names none.
    pub fn saved_agent(&self, in_path: &str) -> Option<&str> {
        let endpoint = self.endpoint.as_deref().unwrap_or(in_path);
        self.agent_id.as_deref().filter(|id| endpoint == "agents" && is_saved_agent(id))
    }

    /// The conversation that goes on; `None` for a new one.
    pub fn conversation_id(&self) -> Option<&str> {
        self.conversation_id.as_deref().filter(|id| !id.is_empty() && *id != "new")
    }

    /// The field that holds what LibreChat cannot have made: a conversation of such a name is no new one either.
    pub fn impossible_field(&self) -> Option<&'static str> {
        self.conversation_id.as_deref().is_some_and(|id| id.len() > MAX_ID_BYTES).then_some("conversationId")
    }

    /// Whether it is what starts a chat, and not only something said to a running one.
    pub fn is_a_start(&self) -> bool {
        self.endpoint.is_some() || self.model.is_some() || self.agent_id.is_some()
    }

    /// The most tokens the answer may have, where the body says.
    pub fn answer_tokens(&self) -> Option<u64> {
        // Which of them counts depends on the provider.
        [&self.max_tokens, &self.max_output_tokens].into_iter().flatten().filter_map(whole).max().filter(|tokens| *tokens > 0)
    }
}

/// Whether an id is a saved agent's. LibreChat tells them from models and passing agents by how they begin.
pub fn is_saved_agent(id: &str) -> bool {
    id.starts_with("agent_")
}

/// What matters of a body that has another shape than a chat: what a person answered to a run that waits for them. Before
/// 0.8.8 its route starts a chat, so that whatever a model might read in it counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Every text in it.
    pub text: String,
    /// The model that it names.
    pub model: Option<String>,
    /// The conversation that it names.
    pub conversation_id: Option<String>,
}

impl Answered {
    /// Reads a body of any shape. Of a key that stands twice the last one counts, as for LibreChat.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        let body: Value = serde_json::from_slice(json)?;
        let named = |key| body.get(key).and_then(Value::as_str).filter(|name| !name.is_empty() && name.len() <= MAX_ID_BYTES);
        let mut text = String::new();
        append_strings(&mut text, &body);
        Ok(Self { text, model: named("model").map(str::to_owned), conversation_id: named("conversationId").map(str::to_owned) })
    }
}

/// Whether a body asks `/api/agents/chat/abort` for nothing but to stop. Before 0.8.2 that path is one more endpoint to chat
/// with, and a chat start names more than a run.
pub fn only_stops(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Stop {
        #[serde(rename = "conversationId")]
        _conversation_id: Option<IgnoredAny>,
        #[serde(rename = "streamId")]
        _stream_id: Option<IgnoredAny>,
        #[serde(rename = "abortKey")]
        _abort_key: Option<IgnoredAny>,
        #[serde(rename = "endpoint")]
        _endpoint: Option<IgnoredAny>,
        #[serde(rename = "generationCreatedAt")]
        _created_at: Option<IgnoredAny>,
        #[serde(rename = "generationProtocolVersion")]
        _protocol: Option<IgnoredAny>,
    }
    json.is_empty() || json.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<Stop>(json).is_ok()
}

/// The conversation whose run a body asks `/api/agents/chat/abort` to stop; an `abortKey` begins with it.
pub fn stopped_conversation(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stop<'a> {
        #[serde(borrow)]
        conversation_id: Option<Cow<'a, str>>,
        #[serde(borrow)]
        stream_id: Option<Cow<'a, str>>,
        #[serde(borrow)]
        abort_key: Option<Cow<'a, str>>,
    }
    let Stop { conversation_id, stream_id, abort_key } = serde_json::from_slice(json).ok()?;
    let named = stream_id.or(conversation_id).filter(|named| !named.is_empty()).or(abort_key)?;
    named.split(':').next().map(str::to_owned)
}

/// A body with every half of a surrogate pair that stands alone replaced by U+FFFD, as everyone does who writes it as UTF-8;
/// `None` where there is none. JavaScript reads and writes such text, and a cut through an emoji makes it.
pub fn without_lone_surrogates(json: &[u8]) -> Option<Vec<u8>> {
    let mut whole: Option<Vec<u8>> = None;
    let mut at = 0;
    // Backslashes stand within strings only, and always with what they escape.
    while let Some(found) = json[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        at = match (utf16(json, at), utf16(json, at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => at + 12,
            (Some(0xd800..0xe000), _) => {
                whole.get_or_insert_with(|| json.to_vec())[at + 2..at + 6].copy_from_slice(b"fffd");
                at + 6
            }
            _ => json.len().min(at + 2),
        };
    }
    whole
}

/// The unit of UTF-16 that `\uXXXX` at this place of a JSON text stands for.
fn utf16(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The longest id that is kept. LibreChat's are UUIDs and short names; anything longer is somebody's experiment.
pub const MAX_ID_BYTES: usize = 256;

/// An id or name as it is kept: cut where it is longer than any real one.
pub fn bounded(id: &str) -> String {
    let mut end = id.len().min(MAX_ID_BYTES);
    while !id.is_char_boundary(end) {
        end -= 1;
    }
    id[..end].to_owned()
}

fn append(text: &mut String, part: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(part);
}

/// Appends every string in a JSON value that a model would read; the names of its keys it would not.
fn append_strings(text: &mut String, value: &Value) {
    match value {
        Value::String(part) => append(text, part),
        Value::Array(values) => values.iter().for_each(|value| append_strings(text, value)),
        Value::Object(object) => object.iter().filter(|(key, _)| key.as_str() != "type").for_each(|(_, value)| append_strings(text, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_client_sends() {
        let body =
            br#"{"text":"Hello","conversationId":null,"endpoint":"openAI","model":"gpt-4o","max_tokens":"250","timezone":"Europe/Rome",
            "promptPrefix":"Be short","quotes":["a","b"],"editedContent":{"index":0,"type":"text","text":"c"},
            "addedConvo":{"endpoint":"LabAI","model":"lab-large"},"ephemeralAgent":{"mcp":[]}}"#;
        let body = ChatBody::read(body).expect("a chat body");
        assert_eq!(body.visible_text(), "Be short\nHello\na\nb\nc");
        assert_eq!(body.conversation_id(), None);
        assert_eq!(body.answer_tokens(), Some(250));
        assert_eq!(body.added_convo.expect("a second model").model(), Some("lab-large"));
    }

    #[test]
    fn a_saved_agent_brings_its_own_model() {
        let read = |json: &'static str| ChatBody::read(json.as_bytes()).expect("a chat body");
        let named = read(r#"{"endpoint":"agents","agent_id":"agent_x","model":"nonsense"}"#);
        assert_eq!(named.saved_agent("openAI"), Some("agent_x"), "the body's endpoint counts");
        assert_eq!(read(r#"{"agent_id":"agent_x"}"#).saved_agent("agents"), Some("agent_x"));
        for none in [r#"{"endpoint":"openAI","agent_id":"agent_x"}"#, r#"{"endpoint":"agents","agent_id":"ephemeral"}"#] {
            assert_eq!(read(none).saved_agent("agents"), None, "{none}: LibreChat takes the model of the body");
        }
        let beside = read(r#"{"addedConvo":{"endpoint":"openAI","agent_id":"agent_y","model":"nonsense"}}"#).added_convo.expect("one");
        assert_eq!((beside.saved_agent(), beside.model()), (Some("agent_y"), None));
    }

    #[test]
    fn a_key_twice_is_refused() {
        assert!(ChatBody::read(br#"{"model":"cheap","model":"dear"}"#).is_err(), "LibreChat would take the last one");
    }

    #[test]
    fn what_is_only_a_prototype_is_refused() {
        for body in [r#"{"__proto__":{"model":"dear"}}"#, r#"{"\u005f_proto__":{}}"#, r#"{"addedConvo":{"__proto__":{"model":"dear"}}}"#] {
            assert!(ChatBody::read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_stop_is_nothing_else() {
        for stop in [
            "",
            "{}",
            r#"{"conversationId":"c","generationCreatedAt":17,"generationProtocolVersion":2}"#,
            r#" {"streamId":null,"abortKey":"c:m","endpoint":["agents"]}"#,
        ] {
            assert!(only_stops(stop.as_bytes()), "{stop}");
        }
        for start in [
            r#"{"conversationId":"c","text":"Hello"}"#,
            r#"{"conversationId":"c","messageId":"m"}"#,
            r#"{"conversationId":"c","conversationId":"d"}"#,
            r#"{"conversationId":"c","__proto__":{"text":"Hello"}}"#,
            r#"["c","c","c","agents",1,2]"#,
            "null",
            "{",
            " ",
        ] {
            assert!(!only_stops(start.as_bytes()), "{start}");
        }
    }

    #[test]
    fn an_answer_of_any_shape_counts_what_it_says() {
        let body = br#"{"model":["x"],"model":"dear","text":{"say":["a","b"]},"conversationId":"c","n":1}"#;
        let answered = Answered::read(body).expect("readable");
        assert_eq!((answered.model.as_deref(), answered.conversation_id.as_deref()), (Some("dear"), Some("c")));
        assert!(answered.text.contains("a\nb"), "{answered:?}");
    }

    #[test]
    fn half_characters_become_what_utf_8_makes_of_them() {
        let mended = |json: &str| without_lone_surrogates(json.as_bytes()).map(|json| String::from_utf8(json).expect("UTF-8"));
        for (half, whole) in [
            (r#"{"text":"a \ud83d b"}"#, r#"{"text":"a \ufffd b"}"#),
            (r#"{"text":"\uDE00\ud83d"}"#, r#"{"text":"\ufffd\ufffd"}"#),
            (r#"{"text":"\ud83d\ud83d\ude00"}"#, r#"{"text":"\ufffd\ud83d\ude00"}"#),
            (r#"{"text":"\\\ud83d\n"}"#, r#"{"text":"\\\ufffd\n"}"#),
        ] {
            assert_eq!(mended(half).as_deref(), Some(whole), "{half}");
        }
        for whole in [r#"{"text":"\ud83d\ude00"}"#, r#"{"text":"\\ud83d"}"#, r#"{"text":"\u0041"}"#, r#""\ud8"#, "\\", ""] {
            assert_eq!(mended(whole), None, "{whole}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_of_any_utf_16_is_read_as_javascript_writes_it(units in proptest::collection::vec(proptest::num::u16::ANY, 0..40)) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("{{\"text\":\"{escaped}\"}}").into_bytes();
            let json = without_lone_surrogates(&json).unwrap_or(json);
            let body = ChatBody::read(&json).expect("readable");
            proptest::prop_assert_eq!(body.said(), Some(&*String::from_utf16_lossy(&units)));
        }
    }

    #[test]
    fn odd_values_do_not_lower_the_room() {
        for odd in [&b"{\"max_tokens\":-1}"[..], b"{\"max_tokens\":{}}", b"{\"max_tokens\":0}", b"{\"max_tokens\":1e99}"] {
            assert_eq!(ChatBody::read(odd).expect("readable").answer_tokens(), None);
        }
    }
}
