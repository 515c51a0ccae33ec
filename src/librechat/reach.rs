//! What a program needs in order to use a route of LibreChat's with a key of Tollgate's: what chats, what only reads, and what
//! no program does in a person's place.

use super::routes::{Route, decode};

/// What a route is to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A part of a chat.
    Chat,
    /// Reads something of the person's.
    Read,
    /// Takes LibreChat's own keys.
    AgentApi,
    /// Signing in, keys, administration, and whatever changes something that is no chat.
    Never,
}

impl Reach {
    /// Of a request. A path is taken for the least of what it may be read as, by LibreChat and by a server in between.
    pub fn of(route: &Route, method: &str, path: &str) -> Self {
        let (as_written, undone) = (parts(path), undone(path));
        if [&as_written, &undone].into_iter().any(|parts| is_closed(parts)) {
            return Self::Never;
        }
        let reads = ["GET", "HEAD"].iter().any(|known| method.eq_ignore_ascii_case(known));
        match route {
            Route::Chat(_) | Route::Steer | Route::Abort | Route::AssistantsAbort => Self::Chat,
            Route::AgentApi(_) | Route::AgentApiRead => Self::AgentApi,
            Route::Stream { .. } | Route::Catalogue | Route::PublicApi | Route::Config | Route::Page | Route::Api if reads => Self::Read,
            Route::Api if controls_a_chat(&as_written) && as_written == undone => Self::Chat,
            _ => Self::Never,
        }
    }
}

/// What no key opens, whatever the method.
fn is_closed(parts: &[String]) -> bool {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["api", "auth" | "admin" | "keys" | "api-keys" | "librechat", ..] | ["oauth", ..] => true,
        parts => parts.contains(&"oauth"),
    }
}

/// What is said to a chat that runs, besides what is a route of its own.
fn controls_a_chat(parts: &[String]) -> bool {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    matches!(parts.as_slice(), ["api", "agents", "chat", "steer", "cancel" | "arm"])
}

/// The parts of a path, decoded and in lower case.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part).to_ascii_lowercase()).collect()
}

/// The same once dots and what escapes hide are undone.
fn undone(path: &str) -> Vec<String> {
    let mut undone: Vec<String> = Vec::new();
    for part in decode(path).to_ascii_lowercase().split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => drop(undone.pop()),
            part => undone.push(part.to_owned()),
        }
    }
    undone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Reach {
        Reach::of(&Route::of(method, path), method, path)
    }

    #[test]
    fn a_program_chats_and_reads() {
        for (method, path) in [
            ("POST", "/api/agents/chat/openAI"),
            ("POST", "/API/Agents/Chat"),
            ("POST", "/api/agents/chat/resume"),
            ("POST", "/api/agents/chat/abort"),
            ("POST", "/api/agents/chat/steer"),
            ("POST", "/api/agents/chat/steer/cancel"),
            ("POST", "/api/assistants/v2/chat"),
            ("POST", "/api/ask/openAI"),
        ] {
            assert_eq!(of(method, path), Reach::Chat, "{method} {path}");
        }
        for path in [
            "/api/agents/chat/stream/abc",
            "/api/agents/chat/status/abc",
            "/api/agents/chat/active",
            "/api/convos",
            "/api/messages/abc",
            "/api/files/download/u/f",
            "/api/models",
            "/api/user",
            "/api/config",
            "/images/a/b.png",
        ] {
            assert_eq!((of("GET", path), of("HEAD", path)), (Reach::Read, Reach::Read), "{path}");
        }
        for path in ["/api/agents/v1/models", "/api/agents/v1/chat/completions", "/API/agents/V1/responses"] {
            assert_eq!(of("POST", path), Reach::AgentApi, "{path}");
        }
    }

    #[test]
    fn some_things_no_program_does() {
        for (method, path) in [
            ("POST", "/api/auth/refresh"),
            ("GET", "/api/auth/refresh"),
            ("POST", "/api/auth/login"),
            ("POST", "/api/auth/logout"),
            ("GET", "/api/auth/verify"),
            ("GET", "/api/auth/graph-token"),
            ("GET", "/api/admin/users"),
            ("POST", "/api/admin/login/local"),
            ("GET", "/API/%41dmin/users"),
            ("GET", "/api/x/../admin/users"),
            ("GET", "/api/x/%2e%2e/admin/users"),
            ("GET", "/api/x%2f..%2fadmin/users"),
            ("GET", "/api//admin/users"),
            ("GET", "/api/x\\..\\admin/users"),
            ("GET", "/api/api-keys"),
            ("POST", "/api/api-keys"),
            ("DELETE", "/api/api-keys/1"),
            ("GET", "/api/keys"),
            ("PUT", "/api/keys"),
            ("GET", "/oauth/google"),
            ("GET", "/api/mcp/x/oauth/callback"),
            ("DELETE", "/api/user/delete"),
            ("DELETE", "/api/convos"),
            ("POST", "/api/files"),
            ("POST", "/api/files/speech/tts"),
            ("POST", "/api/agents/tools/x/call"),
            ("PATCH", "/api/agents/a"),
            ("POST", "/api/config"),
            ("POST", "/"),
            ("OPTIONS", "/api/convos"),
            ("GET", "/_tollgate/keys"),
            ("GET", "/_tollgate/me"),
        ] {
            assert_eq!(of(method, path), Reach::Never, "{method} {path}");
        }
    }
}
