//! Two gateways in front of two LibreChats: what runs at one of them is known to both gateways, and to whoever takes over.

use super::*;
use tollgate::clock::{Clock as _, SystemClock};

/// Somebody who is at home at this LibreChat.
fn of(gateway: &Running, librechat: &ScriptedLibreChat) -> String {
    let (upstreams, name) = (gateway.app.librechat.upstreams(), librechat.addr().to_string());
    let id = |email: &String| tollgate::scripted::User::new(email).id;
    let mut emails = (0..1000).map(|number| format!("person{number}@acme.test"));
    emails.find(|email| **upstreams.of(&id(email)).expect("somebody's").name() == *name).expect("one of a thousand")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_at_a_drained_librechat_is_found_by_the_other_gateway_and_by_its_heir() {
    let site = Site::new().await;
    let options = Options { linger: Duration::from_secs(10), seed: 2, ..Options::default() };
    let other = ScriptedLibreChat::start(options).await.expect("a free port");
    let urls = format!("{},{}", site.librechat.url(), other.url());
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let setup = Setup { librechat_keys: "health_every_ms = 50".to_owned(), ..site.setup(&unhurried()) };
    let setup = setup.set("TOLLGATE_LIBRECHAT__UPSTREAMS", &urls);
    let [a, b] = folders.each_ref().map(|folder| setup.gateway(&site.librechat, folder));
    let email = of(&a, &site.librechat);
    let [by_a, by_b] = [&a, &b].map(|gateway| site.client(&format!("http://{}", gateway.public), &email));

    let (watched, created_at) = begin(&by_a, "One [[tokens=150 delay=30 in=100 out=57]]").await;
    let (_, _) = begin(&by_a, "Two [[tokens=220 delay=30 in=200 out=57]]").await;
    let database = Database::open(&site.database).expect("the address is good");
    database.drain_upstream(&site.librechat.addr().to_string(), SystemClock.now()).await.expect("it is written");
    for gateway in [&a, &b] {
        let upstreams = gateway.app.librechat.upstreams();
        wait_for("every gateway to know", || async { upstreams.all()[0].is_drained().then_some(()) }).await;
    }
    by_b.chat("Three [[tokens=2 in=300 out=57]]").await.expect("an answer");
    assert_eq!((site.librechat.runs().len(), other.runs().len()), (2, 1), "what is new goes elsewhere, through either gateway");

    let stream = by_b.listen(&watched, created_at).await.expect("a stream through the gateway that does not own it");
    assert_eq!(stream.status, 200, "the other gateway knows where it runs");
    // The owner leaves: the other one takes over, and follows where the runs are.
    assert!(tokio::task::spawn_blocking(move || a.stop()).await.expect("a thread"), "everything is written or handed over");
    let frames = stream.all().await.expect("a whole stream");
    assert!(frames.iter().any(|frame| frame.kind() == "final"), "it ends well: {frames:?}");
    let rows = site.rows(3).await;
    let mut charged: Vec<_> = rows.iter().map(|row| (row.input_tokens, row.output_tokens, row.usage_source.as_str())).collect();
    charged.sort_unstable();
    assert_eq!(charged, [(100, 57, "frames"), (200, 57, "frames"), (300, 57, "frames")]);
    site.counters_match(&by_b, &rows).await;
    // What ran there is over, and so is what kept its person there.
    by_b.start(&ChatBody::new("Four [[tokens=2]]").after(&watched, "0")).await.expect("an answer");
    let starts = other.requests().iter().filter(|request| request.path == "/api/agents/chat/LabAI").count();
    assert_eq!((site.librechat.runs().len(), starts), (2, 2), "what is said next goes where they are at home");
}
