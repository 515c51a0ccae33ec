//! Signing in with LibreChat's own accounts: what a request names, and what the answer means.
//!
//! Neither passwords nor codes are read here.

use serde::Deserialize;
use serde_json::Value;

use super::chat::without_lone_surrogates;
use super::routes::LoginStep;

/// The largest answer that is read; LibreChat's are about 1 KB, and hold the person's own settings.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Why the body of a sign-in cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no JSON object.
    NotJson,
    /// What it names stands there twice.
    Twice,
    /// What it names is no text: this field.
    NoText(&'static str),
}

/// What a sign-in names: the name that was typed, or the token of who has proved the password; nothing where LibreChat would
/// find nothing either.
pub fn named(step: LoginStep, json: &[u8]) -> Result<Option<String>, Unreadable> {
    #[derive(Deserialize)]
    struct Raw {
        email: Option<Value>,
        #[serde(rename = "tempToken")]
        temp_token: Option<Value>,
    }
    if json.is_empty() {
        return Ok(None);
    }
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable::NotJson);
    }
    let read = serde_json::from_slice(json).or_else(|error| match without_lone_surrogates(json) {
        Some(json) => serde_json::from_slice(&json),
        None => Err(error),
    });
    let raw: Raw = read.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Unreadable::Twice,
        _ => Unreadable::NotJson,
    })?;
    let (value, field) = match step {
        LoginStep::Password => (raw.email, "email"),
        LoginStep::SecondFactor => (raw.temp_token, "tempToken"),
    };
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        // Some directories would read a list of one name as that name.
        Some(_) => Err(Unreadable::NoText(field)),
    }
}

/// What LibreChat's answer to a sign-in means. Words are for audit rows.
#[derive(Clone, PartialEq, Eq)]
pub enum LoginAnswer {
    /// The person is signed in, with this access token.
    SignedIn(String),
    /// The password was right, and the code is asked for.
    CodeAsked,
    /// The guess was wrong.
    Wrong(&'static str),
    /// Nobody has judged the guess, or it was right and not enough.
    NotJudged(&'static str),
}

impl std::fmt::Debug for LoginAnswer {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SignedIn(_) => f.write_str("SignedIn(***)"),
            Self::CodeAsked => f.write_str("CodeAsked"),
            Self::Wrong(why) => write!(f, "Wrong({why})"),
            Self::NotJudged(why) => write!(f, "NotJudged({why})"),
        }
    }
}

/// Collects the answer to a sign-in as it comes.
#[derive(Default)]
pub struct LoginReader {
    status: u16,
    answer: Vec<u8>,
}

impl std::fmt::Debug for LoginReader {
    /// Without what it has read, which holds tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginReader").field("status", &self.status).finish_non_exhaustive()
    }
}

impl LoginReader {
    /// Of an answer with this status.
    pub fn new(status: u16) -> Self {
        Self { status, answer: Vec::new() }
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        let room = MAX_ANSWER_BYTES.saturating_sub(self.answer.len());
        self.answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    /// What it means, whole or not.
    pub fn finish(&self, step: LoginStep) -> LoginAnswer {
        #[derive(Default, Deserialize)]
        struct Raw {
            token: Option<Value>,
            #[serde(rename = "twoFAPending")]
            code_asked: Option<Value>,
            message: Option<Value>,
        }
        let raw: Raw = serde_json::from_slice(&self.answer).unwrap_or_default();
        let message = raw.message.as_ref().and_then(Value::as_str).unwrap_or_default();
        match (self.status, raw.token, step) {
            (200..=299, _, _) if raw.code_asked == Some(Value::Bool(true)) => LoginAnswer::CodeAsked,
            (200..=299, Some(Value::String(token)), _) => LoginAnswer::SignedIn(token),
            (200..=299, ..) => LoginAnswer::NotJudged("unclear_answer"),
            (403, ..) => LoginAnswer::NotJudged("refused_by_librechat"),
            (422, _, LoginStep::Password) => LoginAnswer::NotJudged("unverified_email"),
            (429, ..) => LoginAnswer::NotJudged("librechats_own_limit"),
            (500.., ..) => LoginAnswer::NotJudged("librechat_failed"),
            (_, _, LoginStep::Password) => LoginAnswer::Wrong(match message {
                "Incorrect password." => "wrong_password",
                "Email does not exist." => "unknown_name",
                _ => "not_accepted",
            }),
            (400, _, LoginStep::SecondFactor) => LoginAnswer::NotJudged("not_accepted"),
            // The token of the first step is over; the code was not looked at.
            (_, _, LoginStep::SecondFactor) if message.contains("temporary token") => LoginAnswer::NotJudged("first_step_over"),
            (_, _, LoginStep::SecondFactor) => LoginAnswer::Wrong("wrong_code"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sign_in_names() {
        let name = |json: &str| named(LoginStep::Password, json.as_bytes());
        assert_eq!(name(r#"{"email":" Ann@acme.test ","password":"x"}"#), Ok(Some(" Ann@acme.test ".into())));
        assert_eq!(name(r#"{"email":"\ud800x"}"#), Ok(Some("\u{fffd}x".into())), "half a character, as JavaScript writes it");
        for nothing in ["", "{}", r#"{"email":null}"#, r#"{"Email":"ann"}"#] {
            assert_eq!(name(nothing), Ok(None), "{nothing}");
        }
        for list in [r#"{"email":["ann"]}"#, r#"{"email":{"$ne":""}}"#, r#"{"email":7}"#] {
            assert_eq!(name(list), Err(Unreadable::NoText("email")), "{list}");
        }
        assert_eq!(name(r#"{"email":"a","email":"b"}"#), Err(Unreadable::Twice));
        for other in ["[\"ann\"]", "email=ann", "{", "\"ann\"", "{\"email\":\"\u{1}\"}"] {
            assert_eq!(name(other), Err(Unreadable::NotJson), "{other}");
        }
        assert_eq!(named(LoginStep::SecondFactor, br#"{"tempToken":"t","token":"123456"}"#), Ok(Some("t".into())));
    }

    #[test]
    fn what_answers_mean() {
        let means = |step, status, text: &str| {
            let mut reader = LoginReader::new(status);
            text.as_bytes().chunks(7).for_each(|chunk| reader.push(chunk));
            reader.finish(step)
        };
        let (first, second) = (LoginStep::Password, LoginStep::SecondFactor);
        assert_eq!(means(first, 200, r#"{"token":"t","user":{"_id":"1"}}"#), LoginAnswer::SignedIn("t".into()));
        assert_eq!(means(first, 200, r#"{"twoFAPending":true,"tempToken":"t"}"#), LoginAnswer::CodeAsked);
        assert_eq!(means(first, 200, r#"{"token":"#), LoginAnswer::NotJudged("unclear_answer"), "it broke off");
        assert_eq!(means(first, 404, r#"{"message":"Incorrect password."}"#), LoginAnswer::Wrong("wrong_password"));
        assert_eq!(means(first, 404, r#"{"message":"Email does not exist."}"#), LoginAnswer::Wrong("unknown_name"));
        assert_eq!(means(first, 404, "<html>"), LoginAnswer::Wrong("not_accepted"));
        assert_eq!(means(first, 422, "{}"), LoginAnswer::NotJudged("unverified_email"));
        for status in [403, 429, 500, 503] {
            assert!(matches!(means(first, status, "{}"), LoginAnswer::NotJudged(_)), "{status}");
        }
        assert_eq!(means(second, 401, r#"{"message":"Invalid 2FA code or backup code"}"#), LoginAnswer::Wrong("wrong_code"));
        assert_eq!(means(second, 401, r#"{"message":"Invalid or expired temporary token"}"#), LoginAnswer::NotJudged("first_step_over"));
        assert_eq!(means(second, 200, r#"{"token":"t"}"#), LoginAnswer::SignedIn("t".into()));
        assert!(!format!("{:?}", means(second, 200, r#"{"token":"secret"}"#)).contains("secret"));
    }
}
