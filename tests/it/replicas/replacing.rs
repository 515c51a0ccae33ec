//! One of two processes is replaced while people chat, behind a balancer that sends new connections to whoever is ready: every
//! answer is heard whole, and charged once.

use std::net::SocketAddr;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tollgate::scripted::client::{Frame, plain_http};

use super::*;
use crate::support::process::TollgateProcess;

const PEOPLE: usize = 4;
const MESSAGES: usize = 2;
/// At 25 ms each an answer lasts for 3 s: whatever has just begun to speak outlasts the grace of [`QUICK`].
const WORDS: usize = 120;

/// Gives each connection to the first process that says it is ready.
struct Balancer {
    address: SocketAddr,
    /// Where they serve people, and where they say how they are.
    processes: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
}

impl Balancer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let balancer = Self { address: listener.local_addr().expect("an address"), processes: Arc::default() };
        let processes = balancer.processes.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let processes = processes.lock().clone();
                tokio::spawn(async move {
                    for (public, metrics) in processes {
                        let ready = plain_http().get(format!("http://{metrics}/readyz")).send().await;
                        if ready.is_ok_and(|answer| answer.status() == 200)
                            && let Ok(mut server) = TcpStream::connect(public).await
                        {
                            // Whoever leaves first leaves; both sides notice.
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        balancer
    }

    fn add(&self, process: &TollgateProcess) {
        self.processes.lock().push((process.public, process.metrics));
    }
}

/// The answer as a page shows it, from what it heard last.
fn shown(text: &mut String, frames: &[Frame]) -> bool {
    for frame in frames {
        match frame.kind() {
            "sync" => {
                let parts = frame.data["resumeState"]["aggregatedContent"].as_array().into_iter().flatten();
                *text = parts.filter_map(|part| part["text"].as_str()).collect();
            }
            "on_message_delta" => text.push_str(frame.words()),
            _ => {}
        }
    }
    frames.last().is_some_and(|frame| frame.kind() == "final")
}

/// Says something, as LibreChat's page does: what the gateway has no time for is said again, and a stream that breaks is taken up.
/// Tells when the first word comes, and answers how often it was taken up.
async fn say(client: impl Fn() -> ChatClient, speaks: impl Fn()) -> usize {
    let (conversation, created_at) = wait_for("the message to be let in", || async {
        let answer = client().start(&ChatBody::new(&format!("Hello [[tokens={WORDS} delay=25 in=100 out=57]]"))).await.ok()?;
        (answer.status != 503).then(|| started(&answer))
    })
    .await;
    let (mut text, mut taken_up) = (String::new(), 0);
    let mut stream = client().listen(&conversation, created_at).await.ok();
    loop {
        let mut heard = Vec::new();
        while let Some(Ok(Some(frame))) = match &mut stream {
            Some(stream) => Some(stream.next().await),
            None => None,
        } {
            if frame.kind() == "on_message_delta" {
                speaks();
            }
            heard.push(frame);
        }
        if shown(&mut text, &heard) {
            break;
        }
        taken_up += 1;
        assert!(taken_up < 200, "the stream of {conversation} is never whole: {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream = client().resume(&conversation, created_at).await.ok();
    }
    let numbers: Vec<String> =
        text.split_whitespace().map(|word| word.trim_start_matches(|letter: char| !letter.is_ascii_digit()).to_owned()).collect();
    let expected: Vec<String> = (0..WORDS).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected, "every word was heard once, in order");
    taken_up
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_one_of_two_loses_no_stream_and_charges_nothing_twice() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = site.setup(QUICK).text(&site.librechat, &folder);
    let (mut old, other) = tokio::join!(TollgateProcess::start(&config), TollgateProcess::start(&config));
    let balancer = Balancer::start().await;
    balancer.add(&old);
    balancer.add(&other);

    let url = format!("http://{}", balancer.address);
    let (speaks, mut who_speaks) = tokio::sync::mpsc::unbounded_channel();
    let people = (0..PEOPLE).map(|number| {
        let speaks = speaks.clone();
        let (url, token) = (url.clone(), site.librechat.token(&format!("person{number}@acme.test")));
        tokio::spawn(async move {
            let mut taken_up = 0;
            for _ in 0..MESSAGES {
                // Each with connections of its own, so that the balancer is asked.
                taken_up += say(|| ChatClient::new(&url, &token), || _ = speaks.send(number)).await;
            }
            taken_up
        })
    });
    let people: Vec<_> = people.collect();
    let mut spoken_to = std::collections::BTreeSet::new();
    while spoken_to.len() < PEOPLE {
        spoken_to.insert(who_speaks.recv().await.expect("somebody who is spoken to"));
    }
    assert_eq!(old.terminate().await.code(), Some(0), "{}", old.log());
    let new = TollgateProcess::start(&config).await;
    balancer.add(&new);

    let mut taken_up = 0;
    for person in people {
        taken_up += person.await.expect("they hear everything");
    }
    assert!(taken_up > 0, "whoever was spoken to last was in the middle when the grace was over");
    let rows = site.rows(PEOPLE * MESSAGES).await;
    let charged = rows.iter().map(|row| (row.input_tokens, row.output_tokens, row.usage_source.as_str(), row.status.as_str()));
    assert!(charged.clone().all(|charged| charged == (100, 57, "frames", "completed")), "{:?}", charged.collect::<Vec<_>>());
    let ann = site.client(&new.url(), "person0@acme.test");
    let theirs: Vec<_> = rows.iter().filter(|row| *row.member_id == *tollgate::scripted::User::new("person0@acme.test").id).collect();
    let me = ann.get("/_tollgate/me").await.expect("an answer").json();
    for limit in me["limits"].as_array().into_iter().flatten().filter(|limit| limit["resource"] == "messages") {
        assert_eq!((limit["used"].as_u64(), limit["held"].as_u64()), (Some(theirs.len() as u64), Some(0)), "{limit}");
    }
}
