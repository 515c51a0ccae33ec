//! Limits as a person meets them: through the front door, before anything is forwarded, settled to the truth.

mod crowds;
mod edges;
mod periods;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use tollgate::scripted::client::{Answer, ChatBody, ChatClient, Exchange};
use tollgate::scripted::{Options, ScriptedLibreChat, User};

use crate::support::gateway::{Setup, TestGateway, value_of};

/// Answers are given room for 100 tokens, no more and no less.
const HUNDRED: &str = "
    [estimate]
    answer_tokens = 100
    least_answer_tokens = 100
";

/// Answers that nobody watches are followed at once.
const FOLLOWED: &str = "
    [generations]
    follow_after_ms = 100
";

/// A gateway's settings. LibreChat waits for whoever is slow to come and listen.
fn setup(config: &str) -> Setup {
    Setup { librechat: patient(), ..Setup::with(config) }
}

fn patient() -> Options {
    Options { linger: Duration::from_secs(10), ..Options::default() }
}

/// A message whose real usage is 157 tokens: $0.001925 at the default price of $5 and $25 for a million.
const ORDINARY: &str = "Hello [[tokens=5 in=100 out=57]]";

/// How many chat starts LibreChat has heard of.
fn starts(librechat: &ScriptedLibreChat) -> usize {
    librechat.requests().iter().filter(|request| request.line() == "POST /api/agents/chat/LabAI").count()
}

/// A chat that must be answered to its end, and settled.
async fn answered(gateway: &TestGateway, client: &ChatClient, text: &str) -> Exchange {
    let exchange = client.chat(text).await.expect("an answer");
    assert_eq!(exchange.start.status, 200, "it should be let through: {}", exchange.start.text);
    assert!(exchange.last().is_some(), "the stream ends with a final frame");
    gateway.all_settled().await;
    exchange
}

/// A chat that must be refused without LibreChat hearing of it; what its person is told.
async fn refused(gateway: &TestGateway, client: &ChatClient, text: &str) -> (Answer, String) {
    let before = starts(&gateway.librechat);
    let answer = client.start(&ChatBody::new(text)).await.expect("an answer");
    assert_eq!(answer.status, 429, "it should be refused: {}", answer.text);
    assert_eq!(starts(&gateway.librechat), before, "nothing of a refused chat reaches LibreChat");
    let body = answer.json();
    assert_eq!(body["type"], "google_error", "LibreChat's client shows this body: {body}");
    let told = body["info"].as_str().expect("a text").to_owned();
    (answer, told)
}

/// The person's own limits.
async fn me(client: &ChatClient) -> Value {
    let answer = client.get("/_tollgate/me").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn header(answer: &Answer, name: &str) -> u64 {
    let value = answer.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {:?}", answer.headers));
    value.to_str().ok().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is {value:?}"))
}

/// One limit for each member and each org: whoever has sent one ordinary message has used it up.
fn one_limit_each() -> (String, Vec<(String, &'static str)>) {
    let kinds = [
        ("tokens_per_day = 150", "daily token limit"),
        ("tokens_per_month = 150", "monthly token limit"),
        ("messages_per_day = 1", "daily message limit"),
        ("messages_per_month = 1", "monthly message limit"),
        ("usd_per_day = 0.003", "daily budget"),
        ("usd_per_month = 0.003", "monthly budget"),
    ];
    let (mut orgs, mut limits, mut people) = (String::new(), String::new(), Vec::new());
    for (index, (amount, name)) in kinds.into_iter().enumerate() {
        let member = format!("member{index}@acme.test");
        let id = User::new(&member).id;
        writeln!(limits, "[[limits]]\napplies_to = 'member'\nmember = '{id}'\n{amount}").expect("a text");
        people.push((member, name));
        writeln!(orgs, "[[orgs]]\nid = 'org{index}'\ndomains = ['org{index}.test']").expect("a text");
        writeln!(limits, "[[limits]]\napplies_to = 'org'\norg = 'org{index}'\n{amount}").expect("a text");
        people.push((format!("someone@org{index}.test"), name));
    }
    (orgs + &limits, people)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_of_members_and_orgs_refuses_before_anything_is_forwarded() {
    let (config, people) = one_limit_each();
    let here = Setup { librechat_keys: "trust_email_domains = true".to_owned(), ..setup(&(config + HUNDRED)) };
    let gateway = here.start().await;
    for (email, name) in people {
        let client = gateway.client(&email);
        answered(&gateway, &client, ORDINARY).await;
        let (answer, told) = refused(&gateway, &client, "Again").await;
        let whose = if email.contains("@acme") { "Your" } else { "Your organization's" };
        assert!(told.starts_with(&format!("{whose} {name} ")), "{email} is told which limit it was: {told}");
        assert!(told.contains("tomorrow at 00:00") || told.contains("at 00:00"), "{email} is told when it opens again: {told}");
        let (reset, retry) = (header(&answer, "RateLimit-Reset"), header(&answer, "Retry-After"));
        let longest = if name.starts_with("daily") { 86_400 } else { 31 * 86_400 };
        assert!((1..=longest).contains(&reset) && retry >= 1, "the reset of {name} is {reset} s away, retry after {retry} s");
        let row = gateway.audit_rows("chat.refused", 1).await.pop().expect("an audit row");
        assert_eq!(row.error.as_deref(), Some("limit"), "the refusal is written down");
    }
    let metrics = gateway.metrics().await;
    for scope in ["member", "org"] {
        for resource in ["tokens", "messages", "cost"] {
            for window in ["day", "month"] {
                let labels = format!(r#"decision="refused",resource="{resource}",scope="{scope}",window="{window}""#);
                assert!((value_of(&metrics, &format!("tollgate_decisions_total{{{labels}}}")) - 1.0).abs() < 1e-9, "{labels}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyones_limit_counts_all_orgs_together() {
    let config = "[[orgs]]\nid = 'beta'\ndomains = ['beta.test']\n[[limits]]\napplies_to = 'everyone'\nmessages_per_day = 2\n";
    let here = Setup { librechat_keys: "trust_email_domains = true".to_owned(), ..setup(&(config.to_owned() + HUNDRED)) };
    let gateway = here.start().await;
    answered(&gateway, &gateway.client("ann@acme.test"), ORDINARY).await;
    answered(&gateway, &gateway.client("bob@beta.test"), ORDINARY).await;
    for email in ["ann@acme.test", "bob@beta.test", "eve@acme.test"] {
        let (_, told) = refused(&gateway, &gateway.client(email), "Again").await;
        assert!(told.starts_with("The daily message limit shared by everyone "), "{email} is told: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_truth_may_exceed_a_limit_and_a_failed_start_gives_its_message_back() {
    let config = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 1000\nmessages_per_day = 3\n".to_owned() + HUNDRED;
    let gateway = setup(&config).start().await;
    let client = gateway.client("ann@acme.test");
    for refusal in ["[[refuse=message_limit]]", "[[refuse=concurrent]]", "[[refuse=ban]]", "[[refuse=model]]", "[[error=token_balance]]"] {
        let exchange = client.chat(&format!("Hello {refusal}")).await.expect("an answer");
        assert!(exchange.last().is_none(), "LibreChat refuses this one");
        gateway.all_settled().await;
        let me = me(&client).await;
        let left: Vec<_> = me["limits"].as_array().expect("a list").iter().map(|limit| (&limit["used"], &limit["held"])).collect();
        assert!(left.iter().all(|(used, held)| **used == 0 && **held == 0), "{refusal} costs nothing: {me}");
    }
    answered(&gateway, &client, "Tell me [[tokens=3 in=5000 out=300]]").await;
    let told = me(&client).await;
    let tokens = told["limits"].as_array().expect("a list").iter().find(|limit| limit["resource"] == "tokens").expect("tokens");
    assert_eq!((&tokens["used"], &tokens["left"], &tokens["held"]), (&5300.into(), &0.into(), &0.into()), "used is the truth");
    let (answer, told) = refused(&gateway, &client, "Again").await;
    assert!(told.contains("5,300 tokens used, the limit is 1,000"), "{told}");
    assert_eq!((header(&answer, "RateLimit-Limit"), header(&answer, "RateLimit-Remaining")), (1000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_the_memory_store_brings_the_counters_back_from_the_rows() {
    let limits = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 1000\nmessages_per_month = 9\nusd_per_month = 1.0\n\
                  [[limits]]\napplies_to = 'org'\ntokens_per_month = 5000\n[[limits]]\napplies_to = 'everyone'\nusd_per_day = 2.0\n";
    let config = limits.to_owned() + HUNDRED;
    let librechat = ScriptedLibreChat::start(patient()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let here = setup(&config);
    let running = here.gateway(&librechat, &folder);
    let client =
        |running: &tollgate::serve::Running| ChatClient::new(&format!("http://{}", running.public), &librechat.token("ann@acme.test"));
    for _ in 0..2 {
        client(&running).chat(ORDINARY).await.expect("an answer");
    }
    running.app.generations.all_closed().await;
    let before = me(&client(&running)).await;
    assert_eq!(before["limits"].as_array().map(Vec::len), Some(5), "every limit that applies: {before}");
    assert!(running.stop(), "everything is written");

    let running = here.gateway(&librechat, &folder);
    let after = me(&client(&running)).await;
    assert_eq!(after, before, "the same as before the restart");
    let used = |resource: &str, window: &str, scope: &str| {
        let limits = after["limits"].as_array().expect("a list");
        let found = limits.iter().find(|limit| limit["resource"] == resource && limit["window"] == window && limit["scope"] == scope);
        found.unwrap_or_else(|| panic!("no {resource} per {window} of {scope} in {after}"))["used"].as_u64()
    };
    assert_eq!(used("tokens", "day", "member"), Some(314));
    assert_eq!(used("messages", "month", "member"), Some(2));
    assert_eq!(used("cost", "month", "member"), Some(3_850_000));
    assert_eq!(used("tokens", "month", "org"), Some(314));
    assert_eq!(used("cost", "day", "everyone"), Some(3_850_000));
}
