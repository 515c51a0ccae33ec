//! Which of LibreChat's routes a request is for, and what that means: who may call it, whether it spends, how much of it is read.
//!
//! Express matches paths without regard to case and to a slash at the end, so this does too. Where a strange path could
//! be read in two ways it is taken for the route that spends: LibreChat then answers 404, and nothing is lost. The few
//! routes that lie among chat starts and cost less are therefore only what they are in plain writing: to Express an escaped
//! letter is another word, and every other word there names an endpoint and starts a chat.

use std::borrow::Cow;

/// A route, as far as Tollgate tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Starts a generation.
    Chat(ChatRoute),
    /// Puts a person's text into a running generation.
    Steer,
    /// `GET /api/agents/chat/stream/:id`.
    Stream {
        /// The stream's id, which is the conversation's.
        conversation_id: String,
    },
    /// `POST /api/agents/chat/abort`; before 0.8.2 that starts a chat.
    Abort,
    /// `POST /api/assistants/v2/chat/abort`, in every version.
    AssistantsAbort,
    /// `/api/agents/v1/*` that spends: the OpenAI-compatible API.
    AgentApi(AgentApiRoute),
    /// The rest of `/api/agents/v1/*`: its list of models and stored responses.
    AgentApiRead,
    /// Speech in and out.
    Speech,
    /// Runs a tool.
    Tool,
    /// Brings a file.
    Upload,
    /// What the page needs to draw itself: configuration, endpoints, models, roles, banner.
    Catalogue,
    /// Signing in with a password, or the code that follows it.
    Login(LoginStep),
    /// Everything else about signing in and out.
    Auth,
    /// `GET /api/auth/verify`, which Tollgate answers: whose a token is.
    Verify,
    /// `/api/librechat/auth`: an application signs somebody in.
    HandOff,
    /// `/_tollgate/enter`: a browser opens a code.
    Enter,
    /// `POST /api/auth/refresh`: a browser asks for a token.
    Refresh,
    /// `POST /api/auth/logout`.
    Logout,
    /// `POST /api/auth/register`: somebody makes themselves an account.
    Register,
    /// `GET /api/config`: what the page shows.
    Config,
    /// `POST /api/api-keys`: LibreChat makes a key for `/api/agents/v1`.
    NewAgentKey,
    /// `DELETE /api/api-keys/:id`: LibreChat deletes one.
    AgentKeyDeletion {
        /// LibreChat's id of the key, in lower case.
        key_id: String,
    },
    /// Any other API route.
    Api,
    /// API routes that anyone may call, with or without a token.
    PublicApi,
    /// The page, its assets, images, health checks.
    Page,
    /// Tollgate's own answers on the public listener.
    Own,
    /// What is never passed on: LibreChat's metrics.
    Hidden,
}

/// The routes that start a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatRoute {
    /// `/api/agents/chat[/:endpoint]`, and `/api/ask`, `/api/edit`, `/api/bedrock/chat` of older versions.
    Agents {
        /// The endpoint in the path, decoded; empty where there is none.
        endpoint: String,
    },
    /// `/api/agents/chat/resume`: goes on with a run that waited for a person.
    Resume,
    /// `/api/assistants/v1/chat`, `/v2/chat`.
    Assistants,
}

/// The steps of signing in with LibreChat's own accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginStep {
    /// `/api/auth/login`, and `/api/admin/login/local` of its administrators: a name and a password.
    Password,
    /// `/api/auth/2fa/verify-temp`: the code of a person who has proved the password.
    SecondFactor,
}

/// The routes of the OpenAI-compatible API that start a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentApiRoute {
    /// `/api/agents/v1/chat/completions`.
    Completions,
    /// `/api/agents/v1/responses`.
    Responses,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A good Bearer token.
    Required,
    /// None; one that is there passes on as it came.
    None,
    /// None; a good one says whose request it is, any other passes on as it came.
    Optional,
    /// An `sk-` key, which LibreChat verifies.
    AgentKey,
}

/// How a route that spends provider money is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    /// One message, and the tokens and cost of the generation it starts.
    Generation,
    /// One message and its visible text; the running generation is charged for the rest.
    VisibleText,
    /// Authenticated and audited, not limited or charged yet.
    Audited,
}

/// The table of spending routes: method, path, credential, how it is charged. Everything else is free.
pub const SPENDING_ROUTES: &[(&str, &str, Credential, Spending)] = &[
    ("POST", "/api/agents/chat[/:endpoint]", Credential::Required, Spending::Generation),
    ("POST", "/api/agents/chat/resume", Credential::Required, Spending::Generation),
    ("POST", "/api/agents/chat/steer[/deliver]", Credential::Required, Spending::VisibleText),
    ("POST", "/api/assistants/v{1,2}/chat[/modify]", Credential::Required, Spending::Generation),
    ("POST", "/api/{ask,edit}/:endpoint, /api/bedrock/chat", Credential::Required, Spending::Generation),
    ("POST", "/api/agents/v1/chat/completions", Credential::AgentKey, Spending::Generation),
    ("POST", "/api/agents/v1/responses", Credential::AgentKey, Spending::Generation),
    ("POST", "/api/agents/tools/:toolId/call", Credential::Required, Spending::Audited),
    ("POST", "/api/files/speech/{stt,tts}", Credential::Required, Spending::Audited),
    ("POST", "/api/files[/images]", Credential::Required, Spending::Audited),
];

impl Route {
    /// The route of a request. `path` is as it stands in the request line, without the query.
    pub fn of(method: &str, path: &str) -> Self {
        let decoded: Vec<Cow<'_, str>> = path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
        let lower: Vec<Cow<'_, str>> = decoded.iter().map(|segment| lower_case(segment)).collect();
        let lower: Vec<&str> = lower.iter().map(|segment| &**segment).collect();
        match lower.as_slice() {
            ["metrics", ..] => Self::Hidden,
            ["_tollgate", "enter"] => Self::Enter,
            ["_tollgate", ..] => Self::Own,
            ["api", rest @ ..] => Self::of_api(method, path, rest, decoded.get(1..).unwrap_or_default()),
            _ => Self::Page,
        }
    }

    fn of_api(method: &str, path: &str, lower: &[&str], decoded: &[Cow<'_, str>]) -> Self {
        let post = method.eq_ignore_ascii_case("POST");
        let as_written = post && is_plain(path);
        let last = || decoded.last().map(ToString::to_string).unwrap_or_default();
        match lower {
            ["agents", "chat", "stream", _] if !post => Self::Stream { conversation_id: last() },
            ["agents", "chat", "abort"] if as_written => Self::Abort,
            ["agents", "chat", "steer"] | ["agents", "chat", "steer", "deliver"] if as_written => Self::Steer,
            ["agents", "chat", "steer", "cancel" | "arm"] if as_written => Self::Api,
            ["agents", "chat", "resume"] if as_written => Self::Chat(ChatRoute::Resume),
            ["assistants", _, "chat", "abort"] if as_written => Self::AssistantsAbort,
            ["agents" | "bedrock", "chat"] if post => Self::Chat(ChatRoute::Agents { endpoint: String::new() }),
            ["agents", "chat", ..] | ["ask" | "edit", ..] if post => Self::Chat(ChatRoute::Agents { endpoint: last() }),
            ["assistants", _, "chat", ..] if post => Self::Chat(ChatRoute::Assistants),
            ["agents", "v1", "chat", "completions"] if post => Self::AgentApi(AgentApiRoute::Completions),
            ["agents", "v1", "responses"] if post => Self::AgentApi(AgentApiRoute::Responses),
            ["agents", "v1", ..] => Self::AgentApiRead,
            ["agents", "tools", _, "call"] if post => Self::Tool,
            ["files", "speech", "stt" | "tts", ..] if post => Self::Speech,
            ["files"] | ["files", "images", ..] if post => Self::Upload,
            ["auth", "login"] | ["admin", "login", "local"] if post => Self::Login(LoginStep::Password),
            ["auth", "2fa", "verify-temp"] if post => Self::Login(LoginStep::SecondFactor),
            _ => Self::of_free_api(method, lower),
        }
    }

    #[expect(clippy::match_same_arms, reason = "a line for each kind of route is easier to check")]
    fn of_free_api(method: &str, lower: &[&str]) -> Self {
        let reads = method.eq_ignore_ascii_case("GET") || method.eq_ignore_ascii_case("HEAD");
        let post = method.eq_ignore_ascii_case("POST");
        match lower {
            ["config"] if reads => Self::Config,
            ["auth", "refresh"] if post => Self::Refresh,
            ["auth", "register"] if post => Self::Register,
            ["auth", "logout"] if post => Self::Logout,
            ["librechat", "auth"] => Self::HandOff,
            ["config" | "banner"] | ["rum", ..] => Self::PublicApi,
            ["share", _] | ["share", _, "config" | "files", ..] if reads => Self::PublicApi,
            ["user", "verify", ..] | ["admin", "oauth", ..] | ["admin", "login", "local"] => Self::PublicApi,
            ["actions" | "mcp", _, "oauth", "callback"] => Self::PublicApi,
            ["auth", "login" | "register" | "refresh" | "requestpasswordreset" | "resetpassword"] => Self::PublicApi,
            ["auth", "2fa", "verify-temp"] | ["auth", "cloudfront", "refresh"] => Self::PublicApi,
            ["auth", "verify"] if reads => Self::Verify,
            ["auth", ..] => Self::Auth,
            ["api-keys"] if method.eq_ignore_ascii_case("POST") => Self::NewAgentKey,
            ["api-keys", key_id] if method.eq_ignore_ascii_case("DELETE") => Self::AgentKeyDeletion { key_id: (*key_id).to_owned() },
            ["endpoints" | "models" | "roles" | "categories" | "search" | "startup", ..] if method.eq_ignore_ascii_case("GET") => {
                Self::Catalogue
            }
            _ => Self::Api,
        }
    }

    /// What the route asks of its caller. A preflight (`OPTIONS`) asks nothing.
    pub fn credential(&self, method: &str) -> Credential {
        match self {
            _ if method.eq_ignore_ascii_case("OPTIONS") => Credential::None,
            Self::Page | Self::Hidden | Self::Enter => Credential::None,
            Self::PublicApi | Self::Login(_) | Self::Refresh | Self::Register | Self::Config => Credential::Optional,
            Self::AgentApi(_) | Self::AgentApiRead => Credential::AgentKey,
            _ => Credential::Required,
        }
    }

    /// Whether a person without an org is refused here.
    pub fn spends(&self) -> bool {
        matches!(self, Self::Chat(_) | Self::Steer | Self::AgentApi(_) | Self::Speech | Self::Tool | Self::Upload)
    }

    /// Whether the answer's body is read, and must therefore come uncompressed.
    pub fn answer_is_read(&self) -> bool {
        matches!(self, Self::Chat(_) | Self::Steer | Self::Stream { .. } | Self::AgentApi(_) | Self::Login(_) | Self::NewAgentKey)
    }

    /// The name of the route's class in metrics and audit rows.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Chat(_) => "chat",
            Self::Steer => "steer",
            Self::Stream { .. } => "stream",
            Self::Abort | Self::AssistantsAbort => "abort",
            Self::AgentApi(_) | Self::AgentApiRead => "agent_api",
            Self::Speech => "speech",
            Self::Tool => "tool",
            Self::Upload => "upload",
            Self::Catalogue => "catalogue",
            Self::Login(_) => "login",
            Self::Auth | Self::Verify | Self::HandOff | Self::Enter | Self::Logout => "auth",
            Self::Api | Self::NewAgentKey | Self::AgentKeyDeletion { .. } => "api",
            Self::PublicApi | Self::Refresh | Self::Register | Self::Config => "public_api",
            Self::Page => "page",
            Self::Own => "own",
            Self::Hidden => "hidden",
        }
    }
}

/// Whether the page of an identity provider sends people here with a form, which is a `POST` from another origin: Apple does,
/// and SAML. Only in plain writing.
pub fn is_called_back(path: &str) -> bool {
    let parts = segments(path);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    is_plain(path) && matches!(parts.as_slice(), ["oauth", _, "callback"] | ["api", "admin", "oauth", _, "callback"])
}

/// The conversation whose run's status a path asks for.
pub fn status_asked_of(path: &str) -> Option<String> {
    let parts: Vec<Cow<'_, str>> = path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
    let [api, agents, chat, status, conversation_id] = parts.as_slice() else { return None };
    let words = [(api, "api"), (agents, "agents"), (chat, "chat"), (status, "status")];
    words.iter().all(|(part, word)| part.eq_ignore_ascii_case(word)).then(|| conversation_id.to_string())
}

/// Whether a path shows a shared conversation, or what belongs to one.
pub fn is_share(path: &str) -> bool {
    matches!(segments(path).as_slice(), [api, share, ..] if api == "api" && share == "share")
}

/// The parts of a path, decoded and in lower case.
pub(super) fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(|segment| lower_case(&decode(segment)).into_owned()).collect()
}

fn lower_case(segment: &str) -> Cow<'_, str> {
    if segment.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(segment.to_ascii_lowercase()) } else { Cow::Borrowed(segment) }
}

/// Whether a path is written without escapes and empty segments, so that everyone reads the same words in it.
fn is_plain(path: &str) -> bool {
    !path.contains('%') && !path.contains("//")
}

/// Whether a path is none, or names another kind of route once its escapes, dots and doubled slashes are undone, as a server
/// in between may do. Browsers undo dots themselves, and escape what no path may hold, so that nobody needs such a path.
pub fn is_ambiguous(method: &str, path: &str) -> bool {
    if !path.starts_with('/') {
        return path != "*";
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return true;
    }
    if is_plain(path) && !path.contains('\\') && !path.contains("/.") {
        return false;
    }
    let decoded = decode(path);
    let mut plain: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => drop(plain.pop()),
            segment => plain.push(segment),
        }
    }
    Route::of(method, &format!("/{}", plain.join("/"))).class() != Route::of(method, path).class()
}

/// One segment of a path with its percent escapes undone.
pub fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Whether a query names what LibreChat, where a sign-in's body does not hold it, takes from there: the name and the password.
pub fn names_credentials(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let key = decode(pair.split('=').next().unwrap_or_default()).to_ascii_lowercase();
        ["email", "username", "password"].iter().any(|word| key.contains(word))
    })
}

/// When the run was created whose stream is asked for (`generationCreatedAt`, milliseconds), where the client says.
pub fn created_at(query: &str) -> Option<i64> {
    query_value(query, "generationCreatedAt")?.parse().ok()
}

/// The value of a parameter in a query string, escapes undone in both.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query_values(query).find_map(|(key, value)| (key == name).then_some(value))
}

/// Every parameter of a query string, escapes undone.
pub fn query_values(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// A query without the parameters with these names, in whatever spelling.
pub fn without_parameters(query: &str, goes: impl Fn(&str) -> bool) -> String {
    let stays = |pair: &&str| !goes(&decode(pair.split('=').next().unwrap_or_default()));
    query.split('&').filter(|pair| !pair.is_empty()).filter(stays).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agents(endpoint: &str) -> Route {
        Route::Chat(ChatRoute::Agents { endpoint: endpoint.into() })
    }

    /// Every spelling that a row of the table stands for.
    fn paths_of(row: &str) -> Vec<String> {
        let mut paths: Vec<String> = row.split(", ").map(str::to_owned).collect();
        while let Some(place) = paths.iter().position(|path| path.contains(['[', '{'])) {
            let path = paths.swap_remove(place);
            let (open, close) = if path.contains('{') { ('{', '}') } else { ('[', ']') };
            // Alternatives within braces hold commas; `split(", ")` above leaves those alone.
            let (before, rest) = path.split_once(open).expect("it was found");
            let (inner, after) = rest.split_once(close).expect("what opens is closed");
            let choices: Vec<&str> = if open == '{' { inner.split(',').collect() } else { vec!["", inner] };
            paths.extend(choices.iter().map(|choice| format!("{before}{choice}{after}")));
        }
        paths.iter().map(|path| path.replace(":endpoint", "openAI").replace(":toolId", "execute_code")).collect()
    }

    #[test]
    fn the_table_of_spending_routes_is_what_routes_do() {
        for (method, row, credential, charged) in SPENDING_ROUTES {
            for path in paths_of(row) {
                let route = Route::of(method, &path);
                assert!(route.spends(), "{method} {path} spends");
                assert_eq!(route.credential(method), *credential, "{method} {path}");
                let charged_as = match route {
                    Route::Chat(_) | Route::AgentApi(_) => Spending::Generation,
                    Route::Steer => Spending::VisibleText,
                    _ => Spending::Audited,
                };
                assert_eq!(charged_as, *charged, "{method} {path}");
            }
        }
    }

    #[test]
    fn chat_starts_in_every_spelling() {
        for path in ["/api/agents/chat/openAI", "/API/Agents/CHAT/openAI/", "//api/agents/chat//openAI", "/api/%61gents/chat/openAI"] {
            assert_eq!(Route::of("POST", path), agents("openAI"), "{path}");
        }
        assert_eq!(Route::of("POST", "/api/agents/chat/My%20LLM"), agents("My LLM"));
        assert_eq!(Route::of("POST", "/api/agents/chat/a%2Fb"), agents("a/b"));
        assert_eq!(Route::of("POST", "/api/agents/chat/.."), agents(".."));
        assert_eq!(Route::of("POST", "/api/agents/chat"), agents(""));
        assert_eq!(Route::of("POST", "/api/agents/chat/stream/x"), agents("x"), "a POST is no stream");
        assert_eq!(Route::of("POST", "/api/ask/openAI"), agents("openAI"));
        assert_eq!(Route::of("POST", "/api/agents/chat/resume"), Route::Chat(ChatRoute::Resume));
        assert_eq!(Route::of("POST", "/api/assistants/v2/chat"), Route::Chat(ChatRoute::Assistants));
        assert_eq!(Route::of("POST", "/api/assistants/v1/chat/modify"), Route::Chat(ChatRoute::Assistants));
    }

    #[test]
    fn beside_chat_starts() {
        assert_eq!(Route::of("GET", "/api/agents/chat/stream/C1-x"), Route::Stream { conversation_id: "C1-x".into() });
        assert_eq!(Route::of("POST", "/api/agents/chat/abort"), Route::Abort);
        assert_eq!(Route::of("POST", "/API/agents/chat/Abort/"), Route::Abort);
        assert_eq!(Route::of("POST", "/api/assistants/v1/chat/abort"), Route::AssistantsAbort);
        assert_eq!(Route::of("POST", "/api/agents/chat/steer"), Route::Steer);
        assert_eq!(Route::of("POST", "/api/agents/chat/steer/cancel"), Route::Api);
        assert_eq!(Route::of("GET", "/api/agents/chat/active"), Route::Api);
        assert_eq!(Route::of("POST", "/api/agents/v1/chat/completions"), Route::AgentApi(AgentApiRoute::Completions));
        assert_eq!(Route::of("GET", "/api/agents/v1/models"), Route::AgentApiRead);
        assert_eq!(Route::of("POST", "/api/agents"), Route::Api);
    }

    /// Every way to write a word with one or all of its letters escaped.
    fn escaped(word: &str) -> Vec<String> {
        let escape = |place: usize| format!("{}%{:02x}{}", &word[..place], word.as_bytes()[place], &word[place + 1..]);
        let all = word.bytes().map(|byte| format!("%{byte:02X}")).collect();
        (0..word.len()).map(escape).chain([all]).collect()
    }

    #[test]
    fn what_express_takes_for_a_chat_start_is_one() {
        for words in [&["abort"][..], &["steer"], &["steer", "deliver"], &["steer", "cancel"], &["steer", "arm"], &["resume"]] {
            let plain = words.join("/");
            let mut spellings = vec![format!("/{plain}"), format!("{plain}//"), plain.replace('/', "%2f")];
            for (nth, word) in words.iter().enumerate() {
                let others = |spelling: String| {
                    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                    words[nth] = spelling;
                    words.join("/")
                };
                spellings.extend(escaped(word).into_iter().map(others));
            }
            for spelling in spellings.iter().filter(|spelling| **spelling != plain) {
                for path in [
                    format!("/api/agents/chat/{spelling}"),
                    format!("/api/agents//chat/{spelling}"),
                    format!("/api/%61gents/chat/{spelling}"),
                ] {
                    let route = Route::of("POST", &path);
                    assert!(matches!(route, Route::Chat(ChatRoute::Agents { .. })), "{path} is {route:?}");
                }
            }
        }
    }

    #[test]
    fn who_may_call() {
        for (method, path) in
            [("GET", "/"), ("GET", "/assets/a.js"), ("OPTIONS", "/api/user"), ("OPTIONS", "/api/agents/v1/chat/completions")]
        {
            assert_eq!(Route::of(method, path).credential(method), Credential::None, "{method} {path}");
        }
        for (method, path) in
            [("GET", "/api/config"), ("POST", "/api/auth/refresh"), ("GET", "/api/share/abc"), ("HEAD", "/api/share/abc/files/x")]
        {
            assert_eq!(Route::of(method, path).credential(method), Credential::Optional, "{method} {path}");
        }
        for (method, path) in [
            ("GET", "/api/user"),
            ("GET", "/api/share"),
            ("POST", "/api/auth/logout"),
            ("GET", "/api/share/link/abc"),
            ("POST", "/api/share/abc"),
            ("PATCH", "/api/share/abc"),
            ("DELETE", "/api/share/abc"),
            ("POST", "/api/files"),
            ("GET", "/api/models"),
        ] {
            assert_eq!(Route::of(method, path).credential(method), Credential::Required, "{method} {path}");
        }
    }

    #[test]
    fn sign_ins_in_every_spelling() {
        for path in ["/api/auth/login", "/API/Auth/LOGIN/", "/api/auth/%6cogin", "/api/admin/login/local", "//api/auth/login"] {
            assert_eq!(Route::of("POST", path), Route::Login(LoginStep::Password), "{path}");
        }
        assert_eq!(Route::of("POST", "/api/auth/2FA/Verify-Temp/"), Route::Login(LoginStep::SecondFactor));
        for (method, path) in [("GET", "/api/auth/login"), ("POST", "/api/auth/login/x"), ("POST", "/api/auth/2fa/verify")] {
            assert!(!matches!(Route::of(method, path), Route::Login(_)), "{method} {path}");
        }
        for query in ["email=a", "x=1&Pass%77ord=b", "a[email]=c", "username"] {
            assert!(names_credentials(query), "{query}");
        }
        assert!(!names_credentials("redirect_to=%2Fc%2Fnew&x=email"));
    }

    #[test]
    fn librechats_metrics_are_hidden_in_every_spelling() {
        for path in ["/metrics", "/METRICS/", "//metrics", "/%6detrics", "/metrics/x"] {
            assert_eq!(Route::of("GET", path), Route::Hidden, "{path}");
        }
    }

    #[test]
    fn paths_that_could_be_read_as_another_route() {
        for path in [
            "/x/../metrics",
            "/./metrics",
            "/x/%2e%2e/metrics",
            "/%2Fmetrics",
            "/x\\..\\metrics",
            "metrics",
            "",
            "/api%2Fuser",
            "/assets/..%2fapi/user",
            "/api/agents/chat\u{a0}",
            "/api/agents/chat\t",
            "/c/\u{fffd}",
        ] {
            assert!(is_ambiguous("GET", path), "{path}");
        }
        for path in [
            "/api/agents/x/../chat/openAI",
            "/api/agents/chat/..",
            "/api/agents%2Fchat%2FopenAI",
            "/api/x/..%5cagents/chat/a",
            "/api/agents/chat/%61bort",
            "/api/agents/chat//abort",
            "/api/agents/chat/x%2f..%2fabort",
        ] {
            assert!(is_ambiguous("POST", path), "{path}");
        }
        for path in ["/", "/api/agents/chat/My%20LLM", "/api/agents/chat/a%2Fb", "/.well-known/x", "/assets/a.b/c..js", "/c/%E2%82%AC"] {
            assert!(!is_ambiguous("POST", path), "{path}");
        }
    }

    #[test]
    fn query_values() {
        assert_eq!(query_value("a=1&generationCreatedAt=17&b", "generationCreatedAt").as_deref(), Some("17"));
        assert_eq!(query_value("%61=%31", "a").as_deref(), Some("1"));
        assert_eq!(query_value("", "a"), None);
    }

    proptest! {
        #[test]
        fn no_path_panics(method in "[A-Z]{0,6}", path in "\\PC{0,60}") {
            let _ = Route::of(&method, &path).credential(&method);
        }
    }
}
