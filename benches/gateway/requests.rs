//! What the clients send: heads as a browser sends them, from people of one org, and chat starts of 4 KB.

use std::rc::Rc;

use jiff::Timestamp;
use tollgate::scripted::User;
use tollgate::scripted::auth::Claims;

/// LibreChat's `JWT_SECRET` here.
pub const SECRET: &str = "a-secret-of-this-bench-0123456789abcdef";

/// How many people take turns.
const PEOPLE: usize = 64;

/// The size of a chat start's body, in bytes.
const BODY_BYTES: usize = 4096;

/// Longer than the bench takes, in seconds.
const LIFETIME: i64 = 4 * 3600;

/// The requests, made once.
pub struct Wishes {
    tokens: Vec<String>,
    assets: Vec<Rc<[u8]>>,
    lists: Vec<Rc<[u8]>>,
    chats: Vec<Rc<[u8]>>,
}

impl Wishes {
    /// The requests of people whose tokens are signed at `now`.
    pub fn new(now: Timestamp) -> Self {
        let token = |nth| {
            let mut claims = Claims::of(&User::new(&format!("person{nth}@acme.test")), now);
            claims.exp += LIFETIME;
            claims.sign(SECRET).expect("HMAC signs anything")
        };
        let tokens: Vec<String> = (0..PEOPLE).map(token).collect();
        let get = |path: &str, more: &str| Rc::from(format!("GET {path} HTTP/1.1\r\n{HEADERS}{more}\r\n").as_bytes());
        let chat = |(nth, token): (usize, &String)| {
            let body = body(nth);
            let more = format!("{}Content-Type: application/json\r\nContent-Length: {}\r\n", authorization(token), body.len());
            Rc::from(format!("POST /api/agents/chat/openAI HTTP/1.1\r\n{HEADERS}{more}\r\n{body}").as_bytes())
        };
        Self {
            assets: vec![get("/assets/index.BGk3yL2c.js", "")],
            lists: tokens.iter().map(|token| get("/api/convos?limit=25&sortBy=updatedAt", &authorization(token))).collect(),
            chats: tokens.iter().enumerate().map(chat).collect(),
            tokens,
        }
    }

    /// A public file.
    pub fn asset(&self, _nth: usize) -> Rc<[u8]> {
        self.assets[0].clone()
    }

    /// An API route that needs a token and leaves an audit row.
    pub fn list(&self, nth: usize) -> Rc<[u8]> {
        self.lists[nth % self.lists.len()].clone()
    }

    /// A chat start.
    pub fn chat(&self, nth: usize) -> Rc<[u8]> {
        self.chats[nth % self.chats.len()].clone()
    }

    /// The stream that the answer to the `nth` chat start names.
    pub fn stream(&self, nth: usize, answer: &[u8]) -> Rc<[u8]> {
        let answer: serde_json::Value = serde_json::from_slice(answer).expect("a start is answered in JSON");
        let (id, created_at) = (answer["streamId"].as_str(), answer["generationCreatedAt"].as_i64());
        let (Some(id), Some(created_at)) = (id, created_at) else { panic!("no start: {answer}") };
        let path = format!("/api/agents/chat/stream/{id}?generationCreatedAt={created_at}&generationProtocolVersion=2");
        let more = authorization(&self.tokens[nth % PEOPLE]);
        Rc::from(format!("GET {path} HTTP/1.1\r\n{HEADERS}Accept: text/event-stream\r\n{more}\r\n").as_bytes())
    }
}

const HEADERS: &str = "Host: chat.acme.test\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Referer: https://chat.acme.test/c/new\r\n\
    Cookie: token_provider=librechat; lang=en-US\r\n\
    X-Forwarded-For: 203.0.113.7\r\n\
    X-Forwarded-Proto: https\r\n";

fn authorization(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A body as LibreChat's client sends it, with prose of its own for each person.
fn body(nth: usize) -> String {
    let with = |text: &str| {
        serde_json::json!({
            "text": text, "sender": "User", "clientTimestamp": "2026-11-20T12:00:00", "isCreatedByUser": true,
            "parentMessageId": "00000000-0000-0000-0000-000000000000", "conversationId": null,
            "messageId": format!("11111111-1111-4111-8111-{nth:012}"), "error": false, "generation": "",
            "endpoint": "openAI", "endpointType": "openAI", "model": "gpt-4o", "modelLabel": null, "temperature": 0.7,
            "max_tokens": 500, "key": "never", "isContinued": false, "isRegenerate": false, "timezone": "Europe/Rome",
            "ephemeralAgent": {"mcp": [], "web_search": false, "file_search": false, "execute_code": false},
        })
        .to_string()
    };
    let room = BODY_BYTES - with("").len();
    with(&prose(nth, room))
}

/// English of so many bytes, different for each seed.
fn prose(seed: usize, bytes: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = String::with_capacity(bytes + 16);
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [nth, mark, ..] = state.to_le_bytes();
        text.push_str(words[usize::from(nth) % words.len()]);
        text.push_str(if mark < 25 {
            ". "
        } else if mark < 45 {
            ", "
        } else {
            " "
        });
    }
    text.truncate(bytes);
    text
}

const WORDS: &str = "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they \
    which one you were all her she there would their we him been has when who will no more if out so up said what its about than \
    into them can only other time new some could these two may first then do any like my now over such our man me even most made \
    after also did many before must through years where much your way well down should because each just those people too little \
    state good very make world still see own work men day get here between both life being under never same another know while \
    last might us great old year off come since against go came right used take three himself few house use during without again \
    place American around however home small found thought went say part once general high upon school every document summarise \
    conversation language translate paragraph function variable compile deployment organization quarterly responsibility \
    understanding infrastructure recommendation";
