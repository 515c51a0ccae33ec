//! The body of a refusal for each audience.

use serde::Serialize;

use super::{AnswerContext, Audience, Rejection, texts};

const JSON: &str = "application/json; charset=utf-8";

/// The content type and body.
pub(super) fn body(rejection: &Rejection, context: &AnswerContext<'_>) -> (&'static str, String) {
    let sentences = rejection.sentences(context);
    match (context.audience, rejection) {
        (Audience::Page, _) => ("text/html; charset=utf-8", page(&sentences, context)),
        (Audience::Admin, _) => ("application/problem+json", problem(rejection, &sentences, context)),
        (Audience::AgentApi, _) => (JSON, openai(rejection, &sentences)),
        (Audience::Application, _) => (JSON, json(&CodedMessage { message: &sentences, code: rejection.kind() })),
        (Audience::Chat | Audience::Api, Rejection::Unauthorized) => (JSON, json(&Message { message: "Unauthorized" })),
        (Audience::Chat, Rejection::Draining) => (JSON, chat(&sentences, Some("SERVER_NOT_READY"))),
        (Audience::Chat, _) => (JSON, chat(&sentences, None)),
        (Audience::Api, _) => (JSON, json(&Message { message: &sentences })),
    }
}

/// An event of a stream that every version of LibreChat's client shows as these sentences; newer ones look into `error`,
/// older ones into `text`.
pub(super) fn event(rejection: &Rejection, context: &AnswerContext<'_>) -> String {
    #[derive(Serialize)]
    struct Event<'a> {
        error: &'a str,
        text: &'a str,
        message: &'a str,
    }
    let sentences = rejection.sentences(context);
    if context.audience == Audience::AgentApi {
        return format!("data: {}\n\n", openai(rejection, &sentences));
    }
    let shown = json(&GoogleError { r#type: "google_error", info: &sentences });
    format!("event: error\ndata: {}\n\n", json(&Event { error: &shown, text: &shown, message: &sentences }))
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

/// For programs: the sentences, and the word by which they tell refusals apart.
#[derive(Serialize)]
struct CodedMessage<'a> {
    message: &'a str,
    code: &'static str,
}

/// The one error that LibreChat's client prints verbatim.
#[derive(Serialize)]
struct GoogleError<'a> {
    r#type: &'static str,
    info: &'a str,
}

/// The body that every version of LibreChat's client shows as these sentences and nothing else: newer ones find
/// `type` and `info` in it, older ones take the body as a message and look into its `text`.
#[derive(Serialize)]
struct ChatBody<'a> {
    /// LibreChat's web client since 0.8.7 takes a 503 with `SERVER_NOT_READY` as "try again shortly", keeps the message
    /// pending and honours `Retry-After`. Older ones, and that of the assistants, show the sentences to the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    r#type: &'static str,
    info: &'a str,
    text: String,
    message: &'a str,
    error: ChatError<'a>,
}

#[derive(Serialize)]
struct ChatError<'a> {
    message: &'a str,
    r#type: &'static str,
}

fn chat(sentences: &str, code: Option<&'static str>) -> String {
    let shown = GoogleError { r#type: "google_error", info: sentences };
    json(&ChatBody {
        code,
        r#type: shown.r#type,
        info: shown.info,
        text: json(&shown),
        message: sentences,
        error: ChatError { message: sentences, r#type: "rate_limit_error" },
    })
}

/// OpenAI's error object.
#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'static str>,
    code: &'static str,
}

fn openai(rejection: &Rejection, sentences: &str) -> String {
    let (kind, code) = match rejection {
        Rejection::Unauthorized => ("invalid_request_error", "invalid_api_key"),
        Rejection::Limit(_) => ("insufficient_quota", "rate_limit_exceeded"),
        Rejection::UnknownModel { .. } => ("invalid_request_error", "model_not_found"),
        _ if rejection.status() >= 500 => ("server_error", rejection.kind()),
        _ => ("invalid_request_error", rejection.kind()),
    };
    json(&OpenAiBody { error: OpenAiError { message: sentences, r#type: kind, param: None, code } })
}

/// RFC 9457, with our word for the problem, the short reference and the request's id beside its members.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    reference: &'a str,
    request_id: &'a str,
}

fn problem(rejection: &Rejection, sentences: &str, context: &AnswerContext<'_>) -> String {
    let status = rejection.status();
    let title = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    let AnswerContext { reference, request_id, .. } = *context;
    json(&Problem { r#type: "about:blank", title, status, detail: sentences, code: rejection.kind(), reference, request_id })
}

/// A page that needs nothing from anywhere, in the colours the person's system uses.
fn page(sentences: &str, context: &AnswerContext<'_>) -> String {
    let (title, request) = texts::page_words(context.language);
    let language = context.language.code();
    let sentences = escaped(sentences);
    let request_id = escaped(&texts::clean(context.request_id));
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{sentences}</p>\n\
         <p class=\"small\">{request}: <code>{request_id}</code></p>\n</main>\n</body>\n</html>\n"
    )
}

const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;\
     font:16px/1.6 system-ui,sans-serif;background:#fff;color:#1f2328}main{max-width:36rem;padding:2rem}\
     h1{font-size:1.25rem}.small{font-size:.8rem;opacity:.7}code{overflow-wrap:anywhere}\
     @media(prefers-color-scheme:dark){body{background:#171717;color:#ececec}}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Plain structs of strings and numbers always serialize; the empty object only satisfies the type.
fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned())
}
