//! The same as [`super::client`] does, as lines for a shell. The person's access token is in `$TOKEN`.

/// Starts a chat at the site of this URL, shows what it is answered, and keeps the stream's id in `$STREAM`. `text` holds no
/// quotes.
pub fn start(base_url: &str, text: &str, model: &str) -> [String; 3] {
    [
        format!("STREAM=$(curl -s {base_url}/api/agents/chat/openAI -H \"Authorization: Bearer $TOKEN\" \\"),
        format!("  -H 'Content-Type: application/json' -d '{{\"text\": \"{text}\", \"model\": \"{model}\"}}' \\"),
        "  | tee /dev/stderr | grep -o 'streamId\":\"[^\"]*' | cut -d '\"' -f 3)".to_owned(),
    ]
}

/// Listens to the answer of the chat in `$STREAM`.
pub fn listen(base_url: &str) -> String {
    format!("curl -sN {base_url}/api/agents/chat/stream/$STREAM -H \"Authorization: Bearer $TOKEN\"")
}
