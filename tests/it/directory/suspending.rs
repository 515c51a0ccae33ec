//! Whoever is suspended is so within a second on every replica, in the middle of an answer too.

use std::time::Duration;

use tollgate::clock::{Clock as _, SystemClock};
use tollgate::db::Database;
use tollgate::identity::directory::store::PutStanding;
use tollgate::identity::{Member, Org, Standing};
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{Options, ScriptedLibreChat, User, Wire};

use crate::support::gateway::{Setup, wait_for};
use crate::support::postgres::Postgres;
use crate::support::process::TollgateProcess;
use crate::support::redis::RedisServer;

const LONG: &str = "A long one [[tokens=2000 delay=20 in=100 out=2000]]";

struct Site {
    librechat: ScriptedLibreChat,
    database: Database,
    gateways: Vec<TollgateProcess>,
    _redis: RedisServer,
    _postgres: std::sync::Arc<Postgres>,
}

impl Site {
    /// Two gateways as real processes on one PostgreSQL and one Redis.
    async fn new(wire: Wire) -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.expect("PostgreSQL");
        let (url, redis) = (postgres.database(), RedisServer::start());
        let librechat = ScriptedLibreChat::start(Options { wire, ..Options::default() }).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let store_keys = "timeout_ms = 5000".to_owned();
        let setup = Setup { records: url.clone(), store: redis.url(), store_keys, ..Setup::default() };
        let text = setup.text(&librechat, &folder);
        let (one, other) = tokio::join!(TollgateProcess::start(&text), TollgateProcess::start(&text));
        let database = Database::open(&url).expect("the database");
        Self { librechat, database, gateways: vec![one, other], _redis: redis, _postgres: postgres }
    }

    fn client(&self, gateway: usize, email: &str) -> ChatClient {
        ChatClient::new(&self.gateways[gateway].url(), &self.librechat.token(email))
    }

    async fn member(&self, email: &str) -> Member {
        let id = User::new(email).id;
        wait_for("the member to be written down", || async {
            let members = self.database.directory().changes(-1).await.ok()?.members;
            members.into_iter().find(|member| member.librechat_id.as_deref() == Some(&*id))
        })
        .await
    }

    async fn stand(&self, email: &str, standing: Standing) {
        let member = Member { standing, ..self.member(email).await };
        self.database.directory().put_members(&[member], SystemClock.now()).await.expect("a change");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_answer_of_a_suspended_member_ends_with_a_sentence_through_any_replica() {
    let site = Site::new(Wire::Resumable).await;
    let [one, other] = [0, 1].map(|gateway| site.client(gateway, "ada@acme.test"));
    let started = one.start(&ChatBody::new(LONG)).await.expect("an answer").json();
    let conversation = started["conversationId"].as_str().expect("a conversation").to_owned();
    let created_at = started["generationCreatedAt"].as_i64();
    // The replica that does not own it shows it, too.
    let mut shown = other.listen(&conversation, created_at).await.expect("a stream");
    shown.until("on_message_delta").await.expect("its first words");
    site.stand("ada@acme.test", Standing::Suspended).await;
    let rest = tokio::time::timeout(Duration::from_secs(10), shown.all()).await.expect("the stream ends").expect("frames");
    let last = format!("{:?}", rest.last());
    assert!(last.contains("Your account is suspended here"), "its last frame is the sentence: {last}");
    site.librechat.wait_for_ended(1).await.expect("the run is stopped, too");
    for client in [&one, &other] {
        wait_for("both to refuse", || async {
            let answer = client.start(&ChatBody::new("Again [[tokens=2]]")).await.ok()?;
            (answer.status == 403 && answer.text.contains("suspended")).then_some(())
        })
        .await;
        assert_eq!(client.get("/api/user").await.expect("an answer").status, 200, "the page goes on");
    }
    assert_eq!(
        site.client(0, "bob@acme.test").start(&ChatBody::new("Hi [[tokens=2]]")).await.expect("an answer").status,
        200,
        "others chat"
    );
    site.stand("ada@acme.test", Standing::Active).await;
    wait_for("her to be let in again", || async {
        (one.start(&ChatBody::new("Back [[tokens=2]]")).await.ok()?.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_answers_its_own_post_is_cut_with_a_sentence_when_the_org_is_suspended() {
    let site = Site::new(Wire::Direct).await;
    let ada = site.client(0, "ada@acme.test");
    let mut stream = match ada.open(&ChatBody::new(LONG)).await.expect("an answer") {
        tollgate::scripted::client::Opened::Stream(stream) => stream,
        tollgate::scripted::client::Opened::Answer(answer) => panic!("no stream: {answer:?}"),
    };
    stream.until("on_message_delta").await.expect("its first words");
    let acme = site.database.directory().changes(-1).await.expect("the directory").orgs.into_iter().next().expect("acme");
    let suspended = Org { standing: Standing::Suspended, ..acme };
    site.database.directory().put_orgs(&[suspended], PutStanding::Written, SystemClock.now()).await.expect("a change");
    let mut said = String::new();
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(Duration::from_secs(10), stream.next()).await {
        said = format!("{frame:?}");
    }
    assert!(said.contains("Your organization is suspended here"), "its last frame is the sentence: {said}");
    site.librechat.wait_for_ended(1).await.expect("the run ends with its connection");
}
