//! Several LibreChats behind Tollgate: who goes where, and what becomes of those whose LibreChat dies or is drained.

use std::collections::BTreeSet;
use std::time::Duration;

use tollgate::clock::{Clock as _, SystemClock};
use tollgate::db::Database;
use tollgate::scripted::client::{ChatBody, ChatClient, plain_http};
use tollgate::scripted::{Options, ScriptedLibreChat, User};

use crate::support::gateway::{Setup, TestGateway, value_of, wait_for};

const LIMITS: &str = "
    [[limits]]
    applies_to = 'member'
    tokens_per_day = 1_000_000
    messages_per_day = 1000
    [estimate]
    answer_tokens = 100
    [generations]
    follow_after_ms = 100
";

/// A gateway in front of so many LibreChats; the first is the gateway's own.
struct Several {
    gateway: TestGateway,
    others: Vec<ScriptedLibreChat>,
}

fn setup(librechats: &[&ScriptedLibreChat], keys: &str) -> Setup {
    let urls = librechats.iter().map(|librechat| librechat.url()).collect::<Vec<_>>().join(",");
    let librechat_keys = keys.to_owned();
    Setup { librechat_keys, ..Setup::with(LIMITS) }.set("TOLLGATE_LIBRECHAT__UPSTREAMS", &urls)
}

/// One of several: no two give the same ids.
async fn librechat(seed: u64) -> ScriptedLibreChat {
    let options = Options { linger: Duration::from_millis(200), seed, ..Options::default() };
    ScriptedLibreChat::start(options).await.expect("a free port")
}

const QUICK: &str = "health_every_ms = 50\ndead_after = 2\nalive_after = 2";

/// Nobody asks again within a test.
const RARE: &str = "health_every_ms = 60000";

impl Several {
    async fn new(count: usize, keys: &str) -> Self {
        let first = librechat(1).await;
        let mut others = Vec::new();
        for seed in (2..).take(count - 1) {
            others.push(librechat(seed).await);
        }
        let all: Vec<_> = std::iter::once(&first).chain(&others).collect();
        let setup = setup(&all, keys);
        Self { gateway: setup.in_front_of(first), others }
    }

    fn all(&self) -> Vec<&ScriptedLibreChat> {
        std::iter::once(&self.gateway.librechat).chain(&self.others).collect()
    }

    /// Somebody who is at home at the first LibreChat.
    fn of_the_first(&self) -> ChatClient {
        let name = self.gateway.librechat.addr().to_string();
        let upstreams = self.gateway.running.app.librechat.upstreams();
        let emails = (0..1000).map(|number| format!("person{number}@acme.test"));
        let mut theirs = emails.filter(|email| **upstreams.of(&User::new(email).id).expect("somebody's").name() == *name);
        self.gateway.client(&theirs.next().expect("one of a thousand"))
    }

    async fn drain(&self, drained: bool) {
        let (file, name) = (self.gateway.folder.path().join("tollgate.db"), self.gateway.librechat.addr().to_string());
        let database = Database::open(&format!("sqlite:{}", file.display())).expect("the address is good");
        if drained {
            database.drain_upstream(&name, SystemClock.now()).await.expect("it is written");
        } else {
            database.undrain_upstream(&name).await.expect("it is written");
        }
        database.close().await;
        let upstreams = self.gateway.running.app.librechat.upstreams();
        wait_for("the gateway to know", || async { (upstreams.all()[0].is_drained() == drained).then_some(()) }).await;
    }

    async fn readiness(&self) -> u16 {
        let url = format!("http://{}/readyz", self.gateway.running.metrics);
        plain_http().get(url).send().await.expect("the metrics listener answers").status().as_u16()
    }
}

async fn begin(client: &ChatClient, text: &str) -> (String, Option<i64>) {
    let answer = client.start(&ChatBody::new(text)).await.expect("an answer");
    assert_eq!(answer.status, 200, "it should be let through: {}", answer.text);
    let json = answer.json();
    (json["streamId"].as_str().expect("a stream").to_owned(), json["generationCreatedAt"].as_i64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_stays_with_one_librechat_whichever_gateway_they_come_by() {
    let site = Several::new(3, "").await;
    let [first, second, third] = site.all()[..] else { panic!("three LibreChats") };
    // Another Tollgate, whose operator lists them in another order.
    let folder = tempfile::tempdir().expect("a folder");
    let other = setup(&[third, first, second], "").gateway(first, &folder);
    for number in 0..8 {
        let token = site.gateway.token(&format!("person{number}@acme.test"));
        for url in [site.gateway.url(), format!("http://{}", other.public)] {
            let exchange = ChatClient::new(&url, &token).chat("Hello [[tokens=2]]").await.expect("an answer");
            assert_eq!(exchange.start.status, 200, "{}", exchange.start.text);
        }
    }
    let people: Vec<BTreeSet<String>> =
        site.all().iter().map(|librechat| librechat.runs().into_iter().map(|run| run.user).collect()).collect();
    assert_eq!(people.iter().map(BTreeSet::len).sum::<usize>(), 8, "nobody is at two: {people:?}");
    assert!(people.iter().filter(|people| !people.is_empty()).count() > 1, "they are spread: {people:?}");
    for _ in 0..5 {
        plain_http().get(format!("{}/", site.gateway.url())).send().await.expect("the page");
    }
    let pages = |librechat: &&ScriptedLibreChat| librechat.requests().iter().any(|request| request.line() == "GET /");
    assert_eq!(site.all().iter().filter(|librechat| pages(librechat)).count(), 1, "an address without a name stays with one, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_be_reached_is_passed_over_at_once() {
    let site = Several::new(2, RARE).await;
    let client = site.of_the_first();
    let Several { gateway, others } = site;
    let TestGateway { running, librechat, folder } = gateway;
    librechat.stop().await;
    let exchange = client.chat("Hello [[tokens=5 in=100 out=57]]").await.expect("an answer");
    assert_eq!(exchange.start.status, 200, "{}", exchange.start.text);
    assert_eq!(others[0].runs().len(), 1, "it went to the other, before any check failed");
    let app = running.app.clone();
    wait_for("its row", || async { app.records.usage_rows(10).await.expect("rows").first().map(|row| row.total_tokens) }).await;
    let rows = app.records.usage_rows(10).await.expect("rows");
    assert_eq!((rows.len(), rows[0].total_tokens, rows[0].usage_source.as_str()), (1, 157, "frames"));
    drop((running, folder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_under_load_takes_no_message_with_it() {
    let site = Several::new(2, QUICK).await;
    let address = site.gateway.librechat.addr();
    let upstreams = site.gateway.running.app.librechat.upstreams().clone();
    let tokens: Vec<String> = (0..6).map(|number| site.gateway.token(&format!("person{number}@acme.test"))).collect();
    let Several { gateway, others } = site;
    let TestGateway { running, librechat, folder } = gateway;
    let url = format!("http://{}", running.public);
    let talking = tokens.into_iter().map(|token| {
        let client = ChatClient::new(&url, &token);
        tokio::spawn(async move {
            let mut counted = Vec::new();
            for _ in 0..12 {
                // What never reached LibreChat is no message. Whatever did is one, whether its answer was seen or not.
                let answer = client.start(&ChatBody::new("Hello [[tokens=20 delay=10 in=100 out=57]]")).await.expect("an answer");
                counted.extend((answer.status != 503).then_some(answer.status));
                if answer.status == 200 {
                    let json = answer.json();
                    let stream = json["streamId"].as_str().expect("a stream").to_owned();
                    // It may break, where LibreChat did.
                    let _ = client.stream(&stream, json["generationCreatedAt"].as_i64()).await;
                }
            }
            (client, counted)
        })
    });
    let talking: Vec<_> = talking.collect();
    librechat.wait_for_runs(6).await.expect("people talk");
    librechat.stop().await;
    wait_for("it to be taken for dead", || async { (!upstreams.all()[0].is_alive()).then_some(()) }).await;
    assert_eq!(readiness(&running.metrics).await, 200, "the other lives");
    let metrics = crate::support::gateway::metrics_at(running.metrics).await;
    let up = |librechat: std::net::SocketAddr| value_of(&metrics, &format!("tollgate_upstream_up{{upstream=\"{librechat}\"}}")) > 0.5;
    assert_eq!((up(address), up(others[0].addr())), (false, true));
    let back = ScriptedLibreChat::start(Options { address, seed: 9, ..Options::default() }).await.expect("its port");
    wait_for("it to be alive again", || async { upstreams.all()[0].is_alive().then_some(()) }).await;

    let (mut messages, mut used) = (0, 0);
    for person in talking {
        let (client, counted) = person.await.expect("a task");
        messages += counted.len();
        let app = running.app.clone();
        wait_for("everything to be settled", || async { (app.generations.count_open() == 0).then_some(()) }).await;
        let me = client.get("/_tollgate/me").await.expect("an answer").json();
        for limit in me["limits"].as_array().into_iter().flatten() {
            assert_eq!(limit["held"], 0, "nothing is held any more: {limit}");
            if limit["resource"] == "messages" {
                used += usize::try_from(limit["used"].as_u64().expect("a number")).expect("few");
            }
        }
    }
    let app = running.app.clone();
    let rows = wait_for("every row", || async {
        let rows = app.records.usage_rows(1000).await.expect("rows");
        (rows.len() == messages).then_some(rows)
    })
    .await;
    assert_eq!(used, rows.iter().map(|row| row.messages as usize).sum::<usize>(), "counters and rows agree");
    assert!(rows.iter().all(|row| row.total_tokens <= 157 || row.usage_source != "frames"), "nothing is charged twice: {rows:?}");
    let whole = rows.iter().filter(|row| row.total_tokens == 157).count();
    assert!(whole >= messages - 12, "only what ran there at that moment was cut: {whole} of {messages}");
    drop((running, folder, back));
}

async fn readiness(metrics: &std::net::SocketAddr) -> u16 {
    plain_http().get(format!("http://{metrics}/readyz")).send().await.expect("the metrics listener answers").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_as_long_as_one_lives() {
    let site = Several::new(2, QUICK).await;
    assert_eq!(site.readiness().await, 200);
    site.all().iter().for_each(|librechat| librechat.set_down(true));
    wait_for("it to be unready", || async { (site.readiness().await == 503).then_some(()) }).await;
    site.others[0].set_down(false);
    wait_for("it to be ready again", || async { (site.readiness().await == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_one_finishes_what_runs_there_and_takes_nobody() {
    let site = Several::new(2, QUICK).await;
    let (client, [home, other]) = (site.of_the_first(), [site.all()[0], site.all()[1]]);
    let (watched, created_at) = begin(&client, "One [[tokens=60 delay=30 in=100 out=57]]").await;
    let (unwatched, _) = begin(&client, "Two [[tokens=40 delay=30 in=200 out=57]]").await;
    let (stopped, stopped_at) = begin(&client, "Three [[tokens=5000 delay=30 in=300 out=57]]").await;
    let stream = client.listen(&watched, created_at).await.expect("a stream");
    site.drain(true).await;

    let new = client.chat("Four [[tokens=2 in=400 out=57]]").await.expect("an answer");
    assert_eq!((new.start.status.as_u16(), home.runs().len(), other.runs().len()), (200, 3, 1), "what is new goes elsewhere");
    let late = client.listen(&watched, created_at).await.expect("a stream for a second tab");
    let status = client.get(&format!("/api/agents/chat/status/{unwatched}")).await.expect("an answer").json();
    assert_eq!(status["active"], true, "what runs there is asked there: {status}");
    let answer = client.abort(&stopped, stopped_at).await.expect("an answer");
    assert_eq!(answer.status, 200, "what runs there is stopped there: {}", answer.text);
    for stream in [stream, late] {
        let frames = stream.all().await.expect("a whole stream");
        assert!(frames.iter().any(|frame| frame.kind() == "final"), "it ends well");
    }
    let rows = site.gateway.usage_rows(4).await;
    let mut charged: Vec<_> = rows.iter().map(|row| (row.input_tokens, row.status.as_str())).collect();
    charged.sort_unstable();
    assert_eq!(charged.iter().filter(|(_, status)| *status == "completed").count(), 3, "{charged:?}");
    assert!(charged.contains(&(200, "completed")), "what nobody watched was followed there: {charged:?}");
    assert_eq!(charged.iter().filter(|(_, status)| *status == "aborted").count(), 1, "{charged:?}");

    site.drain(false).await;
    client.chat("Five [[tokens=2]]").await.expect("an answer");
    assert_eq!(home.runs().len(), 4, "and its people come back");
}
