//! What of a prompt stands in audit rows: nothing unless an org asks for it, and a secret never.

use serde_json::json;
use tollgate::records::StoredAudit;
use tollgate::records::seal::unseal_rows;
use tollgate::scripted::client::plain_http;

use crate::support::gateway::{Setup, TestGateway};

const SECRETS: [&str; 4] = ["HUNTER2", "sk-abcdefghijkl", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "0123456789abcdef0123456789abcdef"];

const PROMPT: &str = "My password is HUNTER2, my key sk-abcdefghijkl, my token eyJhbGciOiJIUzI1NiJ9.e30.c2ln, \
    my hash 0123456789abcdef0123456789abcdef. Write to ada@example.org or +82 10-1234-5678.";

/// Chats once, asks for a page with secrets in its address, and answers every audit row.
async fn rows_of(gateway: &TestGateway) -> Vec<StoredAudit> {
    let client = gateway.client("ada@acme.test");
    client.chat(PROMPT).await.expect("a chat");
    let asked = format!("{}/api/share/{}?token=HUNTER2&to=%2Fx%3Fpassword%3DHUNTER2&a={}", gateway.url(), SECRETS[3], SECRETS[2]);
    let sent = plain_http().post(asked).header("user-agent", format!("Mozilla/5.0 {}", SECRETS[3]));
    let sent = sent.header("cookie", "refreshToken=HUNTER2").header("authorization", format!("Bearer {}", gateway.token("ada@acme.test")));
    sent.send().await.expect("an answer");
    gateway.audit_rows("share.created", 1).await;
    gateway.audit_rows("chat.settled", 1).await;
    let app = &gateway.running.app;
    let mut rows = app.records.audit_rows(100).await.expect("reading");
    unseal_rows(&*app.member_keys, &mut rows).await.expect("the keys");
    rows
}

fn prompt_in(rows: &[StoredAudit]) -> Option<String> {
    let started = rows.iter().find(|row| row.action == "chat.started").expect("the start");
    Some(started.detail.as_ref()?["captured"]["prompt"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_written_down_only_as_the_org_asks_and_a_secret_never() {
    for (capture, keeps_text, keeps_mail) in [("none", false, false), ("redacted", true, false), ("full", true, true)] {
        let gateway = Setup::with(&format!("capture = \"{capture}\"")).start().await;
        let me = gateway.client("ada@acme.test").get("/_tollgate/me").await.expect("an answer").json();
        assert_eq!(me["capture"], json!(capture), "whoever is recorded is told");
        let rows = rows_of(&gateway).await;
        let prompt = prompt_in(&rows);
        assert_eq!(prompt.is_some(), keeps_text, "{capture}: {prompt:?}");
        let mail = prompt.as_ref().is_some_and(|prompt| prompt.contains("ada@example.org") && prompt.contains("1234-5678"));
        assert_eq!(mail, keeps_mail, "{capture}: {prompt:?}");
        let all = format!("{rows:?}");
        assert_eq!(all.contains("Write to"), keeps_text, "{capture}: the prompt stands nowhere else");
        for secret in SECRETS {
            assert!(!all.contains(secret), "{capture}: {secret} stands in a row: {all}");
        }
    }
}
