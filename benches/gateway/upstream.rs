//! What stands behind the proxies: fixed answers in the shapes of LibreChat's, as cheap as they can be made.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How long the page waits between the head of a stream and its first event.
const BEFORE_FIRST_EVENT: Duration = Duration::from_millis(2);

/// The digits in which an event says when it was sent.
pub const TIME_DIGITS: usize = 16;

/// What stands before them.
pub const TIME_MARK: &[u8] = br#""text":" "#;

/// How streams go.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// So many events of text.
    pub events: usize,
    /// One after the other at this pace; as fast as they can be written where it is zero.
    pub pace: Duration,
    /// What comes after the last.
    pub then: Then,
}

/// What comes after the last event of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The end.
    End,
    /// Silence.
    Hold,
}

/// The upstream.
#[derive(Clone)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    script: Rc<Cell<Script>>,
    /// Times in events are counted from here.
    pub epoch: Instant,
    starts: Rc<Cell<u64>>,
}

impl Upstream {
    /// Listens on a free port, on the current thread.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let upstream = Self {
            address: listener.local_addr().expect("a bound listener has an address"),
            script: Rc::new(Cell::new(Script { events: 0, pace: Duration::ZERO, then: Then::End })),
            epoch: Instant::now(),
            starts: Rc::default(),
        };
        let serving = upstream.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = serving.clone();
                tokio::task::spawn_local(async move { connection.serve(stream).await });
            }
        });
        upstream
    }

    /// How streams go from now on.
    pub fn play(&self, script: Script) {
        self.script.set(script);
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut read = Vec::with_capacity(16 * 1024);
        loop {
            let head_end = loop {
                if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut read).await.ok()? == 0 {
                    return None;
                }
            };
            let length = content_length(&read[..head_end]);
            while read.len() < head_end + length {
                if stream.read_buf(&mut read).await.ok()? == 0 {
                    return None;
                }
            }
            self.answer(&read[..head_end], &mut stream).await?;
            read.drain(..head_end + length);
        }
    }

    async fn answer(&self, head: &[u8], stream: &mut TcpStream) -> Option<()> {
        if let Some(path) = head.strip_prefix(b"GET /api/agents/chat/stream/") {
            let id = std::str::from_utf8(path.get(..36)?).ok()?.to_owned();
            return self.stream(&id, stream).await;
        }
        let answer = if head.starts_with(b"POST /api/agents/chat/") {
            let nth = self.starts.get() + 1;
            self.starts.set(nth);
            let (id, created_at) = (format!("00000000-0000-4000-8000-{nth:012}"), 1_790_000_000_000 + nth);
            json(&format!(
                r#"{{"streamId":"{id}","conversationId":"{id}","status":"started","generationCreatedAt":{created_at},"generationProtocolVersion":2}}"#
            ))
        } else if head.starts_with(b"GET /assets/") {
            let script = "export const page = 1;\n".repeat(44);
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/javascript\r\nCache-Control: public, max-age=172800\r\nContent-Length: {}\r\n\r\n{script}",
                script.len()
            )
        } else {
            json(
                r#"{"conversations":[{"conversationId":"00000000-0000-4000-8000-000000000000","title":"A conversation","endpoint":"openAI"}],"nextCursor":null}"#,
            )
        };
        stream.write_all(answer.as_bytes()).await.ok()
    }

    async fn stream(&self, id: &str, stream: &mut TcpStream) -> Option<()> {
        let script = self.script.get();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.ok()?;
        if script.events > 0 && !script.pace.is_zero() {
            tokio::time::sleep(BEFORE_FIRST_EVENT).await;
        }
        let created = format!(r#"{{"created":true,"message":{{"messageId":"m-{id}","conversationId":"{id}"}},"streamId":"{id}"}}"#);
        stream.write_all(&event(&created)).await.ok()?;
        let mut beat = tokio::time::interval(script.pace.max(Duration::from_nanos(1)));
        for _ in 0..script.events {
            if script.pace.is_zero() {
                tokio::task::yield_now().await;
            } else {
                beat.tick().await;
            }
            let nanos = self.epoch.elapsed().as_nanos();
            let delta = format!(
                r#"{{"event":"on_message_delta","data":{{"id":"step_0123456789abcdefghijklmn","delta":{{"content":[{{"type":"text","text":" {nanos:0TIME_DIGITS$}"}}]}}}}}}"#
            );
            stream.write_all(&event(&delta)).await.ok()?;
        }
        if script.then == Then::Hold {
            // Until the proxy is gone.
            return stream.read_u8().await.ok().map(drop);
        }
        let usage = format!(
            r#"{{"event":"on_token_usage","data":{{"input_tokens":900,"output_tokens":40,"total_tokens":940,"runId":"m-{id}","seq":1,"model":"gpt-4o","provider":"openAI"}}}}"#
        );
        let last = format!(
            r#"{{"final":true,"conversation":{{"conversationId":"{id}"}},"responseMessage":{{"messageId":"m-{id}","conversationId":"{id}","text":"","content":[{{"type":"text","text":"Done."}}],"model":"gpt-4o"}}}}"#
        );
        let mut end = event(&usage);
        end.extend_from_slice(&event(&last));
        end.extend_from_slice(b"0\r\n\r\n");
        stream.write_all(&end).await.ok()
    }
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An event as one chunk.
fn event(data: &str) -> Vec<u8> {
    let event = format!("event: message\ndata: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// The `Content-Length` of a head, 0 where it has none.
pub fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.unwrap_or_default()
}
