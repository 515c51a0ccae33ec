//! The ways to an org, at the front door: its tenant in LibreChat, where its people may come from, who may frame its pages,
//! and which pages may ask and read.

mod addresses;
mod framing;
mod origins;
mod tenants;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tollgate::scripted::client::BROWSER;
use tollgate::scripted::{Received, User};

use crate::support::gateway::{Setup, TestGateway};
use crate::support::wire::{Http2, Message, Wire};

/// Two orgs, acme with these keys and globex with those; people belong to one by the domain of their address.
fn two_orgs(acme: &str, globex: &str) -> Setup {
    let orgs = format!("domains = [\"acme.test\"]\n{acme}\n[[orgs]]\nid = \"globex\"\ndomains = [\"globex.test\"]\n{globex}\n");
    Setup { librechat_keys: "trust_email_domains = true".into(), default_org: String::new(), ..Setup::with(&orgs) }
}

/// A token as we mint them, with a role.
fn minted(gateway: &TestGateway, email: &str, org: &str, role: &str) -> String {
    let (user, now) = (User::new(email), gateway.running.app.clock.now().as_second());
    let claims = json!({
        "id": user.id, "username": user.username, "provider": "local", "email": email,
        "iss": "tollgate", "org": org, "role": role, "iat": now, "exp": now + 600,
    });
    let key = EncodingKey::from_secret(gateway.librechat.jwt_secret().as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}

/// A request over HTTP/1.1 with these lines of headers. What is posted is JSON of a chat.
async fn ask(gateway: &TestGateway, line: &str, headers: &str) -> Message {
    const BODY: &str = r#"{"text":"Hello","endpoint":"LabAI","model":"lab-small"}"#;
    let host = if headers.to_ascii_lowercase().contains("host:") { "" } else { "Host: chat.example\r\n" };
    let method = line.split(' ').next().unwrap_or_default();
    let body = if matches!(method, "GET" | "HEAD" | "OPTIONS") { "" } else { BODY };
    let framing =
        if body.is_empty() { String::new() } else { format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()) };
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(format!("{line} HTTP/1.1\r\n{host}User-Agent: {BROWSER}\r\n{framing}{headers}\r\n{body}")).await;
    wire.answer_to(method).await
}

/// The same over HTTP/2, where `Host` is `:authority`.
async fn ask2(http2: &mut Http2, line: &str, headers: &str) -> Message {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let lines = || headers.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()));
    let host = lines().find(|(name, _)| name.eq_ignore_ascii_case("host")).map_or("chat.example", |(_, host)| host);
    let mut request = http::Request::builder().method(method).uri(format!("http://{host}{path}")).header("user-agent", BROWSER);
    for (name, value) in lines().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        request = request.header(name.to_ascii_lowercase(), value);
    }
    http2.send(request.body(()).expect("a request"), &[]).await
}

/// The `Authorization` of a person.
fn bearer(gateway: &TestGateway, email: &str) -> String {
    format!("Authorization: Bearer {}\r\n", gateway.token(email))
}

fn all_of<'a>(message: &'a Message, name: &str) -> Vec<&'a str> {
    message.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

/// What LibreChat heard besides health checks.
fn heard(gateway: &TestGateway) -> Vec<String> {
    gateway.librechat.requests().iter().filter(|request| request.path != "/health").map(Received::line).collect()
}
