//! Many at once: a limit that fits so many admits exactly so many, wherever its counter is.

use tokio::task::JoinSet;

use super::*;
use crate::support::gateway::wait_for;
use crate::support::process::TollgateProcess;
use crate::support::redis::RedisServer;

const CROWD: usize = 200;
const FITS: usize = 38;

/// What one ordinary message holds: its text and 100 tokens of room. The crowd's limit has room for [`FITS`] of them.
async fn limit_for_the_crowd() -> String {
    let gateway = setup(HUNDRED).start().await;
    answered(&gateway, &gateway.client("ann@acme.test"), ORDINARY).await;
    let needs = usize::try_from(gateway.usage_rows(1).await[0].estimate_tokens).expect("a small number");
    format!(
        "[[limits]]\napplies_to = 'org'\ntokens_per_day = {}\n[[limits]]\napplies_to = 'everyone'\nmessages_per_day = 1000\n{HUNDRED}{FOLLOWED}",
        needs * FITS + needs / 2
    )
}

/// Everyone starts a chat at once, spread over these gateways, and no answer comes before all are decided.
async fn crowd(librechat: &ScriptedLibreChat, urls: &[String]) {
    librechat.hold_answers(true);
    let mut starts_sent = JoinSet::new();
    for person in 0..CROWD {
        let client = ChatClient::new(&urls[person % urls.len()], &librechat.token(&format!("person{}@acme.test", person % 20)));
        starts_sent.spawn(async move { client.start(&ChatBody::new(ORDINARY)).await.expect("an answer") });
    }
    for _ in FITS..CROWD {
        let answer = starts_sent.join_next().await.expect("a task").expect("a task that does not panic");
        assert_eq!(answer.status, 429, "while answers are held only refusals come: {}", answer.text);
    }
    librechat.wait_for_runs(FITS).await.expect("the others are let through");
    librechat.hold_answers(false);
    while let Some(answer) = starts_sent.join_next().await {
        let answer = answer.expect("a task that does not panic");
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(starts(librechat), FITS, "LibreChat heard of exactly as many as fit");
}

async fn settled(librechat: &ScriptedLibreChat, url: &str) {
    let client = ChatClient::new(url, &librechat.token("person0@acme.test"));
    wait_for("every answer to be charged what it used", || async {
        let me = me(&client).await;
        let limits = me["limits"].as_array().expect("a list");
        let is =
            |scope: &str, used: usize| limits.iter().any(|limit| limit["scope"] == scope && limit["used"] == used && limit["held"] == 0);
        (is("org", FITS * 157) && is("everyone", FITS)).then_some(())
    })
    .await;
}

/// Patient with a busy machine: what is tried here is not the store's timeout.
fn on_redis(server: &RedisServer, config: &str) -> Setup {
    Setup { store: server.url(), store_keys: "timeout_ms = 10000".to_owned(), ..setup(config) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_as_fit_on_memory() {
    let gateway = setup(&limit_for_the_crowd().await).start().await;
    crowd(&gateway.librechat, &[gateway.url()]).await;
    settled(&gateway.librechat, &gateway.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_as_fit_on_redis() {
    let server = RedisServer::start();
    let gateway = on_redis(&server, &limit_for_the_crowd().await).start().await;
    crowd(&gateway.librechat, &[gateway.url()]).await;
    settled(&gateway.librechat, &gateway.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_as_fit_on_two_gateways() {
    let server = RedisServer::start();
    let here = on_redis(&server, &limit_for_the_crowd().await);
    let librechat = ScriptedLibreChat::start(patient()).await.expect("a free port");
    // Who shares counters shares the database that they are counted from.
    let folder = tempfile::tempdir().expect("a folder");
    let gateways = [(), ()].map(|()| here.gateway(&librechat, &folder));
    let urls = gateways.each_ref().map(|gateway| format!("http://{}", gateway.public));
    crowd(&librechat, &urls).await;
    settled(&librechat, &urls[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_as_fit_on_two_processes() {
    let server = RedisServer::start();
    let here = on_redis(&server, &limit_for_the_crowd().await);
    let librechat = ScriptedLibreChat::start(patient()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let config = here.text(&librechat, &folder);
    let (one, other) = tokio::join!(TollgateProcess::start(&config), TollgateProcess::start(&config));
    crowd(&librechat, &[one.url(), other.url()]).await;
    settled(&librechat, &one.url()).await;
}
