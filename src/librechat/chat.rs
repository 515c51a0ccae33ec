//! What a chat start asks: the body of `POST /api/agents/chat/:endpoint`, of assistants, and of a steer.

use std::borrow::Cow;

use serde::Deserialize;
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
        match json.trim_ascii_start().first() {
            None if json.is_empty() => Ok(Self::default()),
            // A list would be read as the fields in their order.
            Some(b'[') => Err(serde::de::Error::custom("a list is no chat")),
            _ => serde_json::from_slice(json),
        }
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
        self.conversation_id.as_deref().filter(|id| !id.is_empty() && *id != "new" && id.len() <= MAX_ID_BYTES)
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
    fn odd_values_do_not_lower_the_room() {
        for odd in [&b"{\"max_tokens\":-1}"[..], b"{\"max_tokens\":{}}", b"{\"max_tokens\":0}", b"{\"max_tokens\":1e99}"] {
            assert_eq!(ChatBody::read(odd).expect("readable").answer_tokens(), None);
        }
    }
}
