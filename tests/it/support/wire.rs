//! Clients and servers that speak HTTP by hand, for what well-behaved libraries never do, and an HTTP/2 client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A message that was read: a request or an answer.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The first line of HTTP/1.1.
    pub line: String,
    /// The status of an answer.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to the end that its framing promised.
    pub complete: bool,
}

impl Message {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The path and query of a request.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// One end of a connection, spoken by hand.
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    ended: bool,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("a connection"))
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, unread: Vec::new(), ended: false }
    }

    /// Sends these bytes as they are; a peer that is gone is noticed when it is read from.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the peer takes what is sent");
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next message to come, interim answers (1xx, except 101) left out.
    pub async fn answer(&mut self) -> Message {
        self.answer_to("GET").await
    }

    /// The next message to come, as the answer to a request of this method.
    pub async fn answer_to(&mut self, method: &str) -> Message {
        loop {
            let mut message = self.head().await;
            if (100..200).contains(&message.status) && message.status != 101 {
                continue;
            }
            if method != "HEAD" {
                self.body(&mut message).await;
            }
            return message;
        }
    }

    /// The next head, interim ones too; the body is left where it is.
    pub async fn head(&mut self) -> Message {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return Message { line: format!("closed after {:?}", String::from_utf8_lossy(&self.unread)), ..Message::default() };
            }
        };
        let rest = self.unread.split_off(end + 4);
        let head = String::from_utf8_lossy(&std::mem::replace(&mut self.unread, rest)).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok()).unwrap_or_default();
        let headers =
            lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Message { line, status, headers: headers.collect(), ..Message::default() }
    }

    /// Reads the body that belongs to a head.
    pub async fn body(&mut self, message: &mut Message) {
        let is_request = message.status == 0;
        let chunked = message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        let length = message.header("content-length").and_then(|length| length.parse().ok());
        let length = length.or((is_request && !chunked || matches!(message.status, 101 | 204 | 304)).then_some(0));
        match length {
            _ if chunked => message.complete = self.chunks(&mut message.body).await,
            Some(length) => {
                while self.unread.len() < length && self.more().await {}
                let rest = self.unread.split_off(length.min(self.unread.len()));
                message.body = std::mem::replace(&mut self.unread, rest);
                message.complete = message.body.len() == length;
            }
            None => {
                while self.more().await {}
                message.body = std::mem::take(&mut self.unread);
                message.complete = true;
            }
        }
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.line().await else { return false };
            let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16) else { return false };
            while self.unread.len() < size + 2 {
                if !self.more().await {
                    body.append(&mut self.unread);
                    return false;
                }
            }
            body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
            if size == 0 {
                return true;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = self.unread.drain(..end + 2).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Exactly so many bytes of what comes next.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count && self.more().await {}
        let rest = self.unread.split_off(count.min(self.unread.len()));
        std::mem::replace(&mut self.unread, rest)
    }

    /// Everything up to and with this text, as soon as it came.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.unread.windows(text.len()).position(|part| part == text.as_bytes()) {
                let rest = self.unread.split_off(at + text.len());
                return String::from_utf8_lossy(&std::mem::replace(&mut self.unread, rest)).into_owned();
            }
            assert!(self.more().await, "the connection ended before {text:?} came: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Whether the peer closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut buffer = vec![0; 256 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("the peer says something in time");
        match read {
            Ok(count) if count > 0 => self.unread.extend_from_slice(&buffer[..count]),
            _ => self.ended = true,
        }
        !self.ended
    }
}

/// What is done with each request that comes to a [`HandmadeLibreChat`]: the connection is given back to be used again.
type Handle = Arc<dyn Fn(Message, Wire) -> BoxFuture<'static, Option<Wire>> + Send + Sync>;

/// A LibreChat whose every byte is written by hand. Health checks are answered without asking.
pub struct HandmadeLibreChat {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl HandmadeLibreChat {
    pub async fn start<F>(handle: impl Fn(Message, Wire) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Wire>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let handle: Handle = Arc::new(move |message, wire| Box::pin(handle(message, wire)));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Wire::new(stream), handle.clone()));
            }
        });
        Self { address, accepting }
    }

    /// Its URL, as a setting.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for HandmadeLibreChat {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut wire: Wire, handle: Handle) {
    loop {
        // Connections may stay idle for longer than a test waits for an answer.
        let mut first = [0; 1];
        if !matches!(wire.stream.peek(&mut first).await, Ok(1)) {
            return;
        }
        let mut request = wire.head().await;
        if request.line.starts_with("closed") {
            return;
        }
        wire.body(&mut request).await;
        if request.target() == "/health" {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
            continue;
        }
        match handle(request, wire).await {
            Some(back) => wire = back,
            None => return,
        }
    }
}

/// A connection of HTTP/2 without TLS.
pub struct Http2 {
    sender: h2::client::SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
}

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2 without TLS");
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender, driver }
    }

    /// Sends a request whose body comes in these frames, and reads the answer. An answer of status 0 is none.
    pub async fn send(&mut self, request: http::Request<()>, frames: &[Bytes]) -> Message {
        self.sender = self.sender.clone().ready().await.expect("room for a stream");
        let (answer, mut body) = self.sender.send_request(request, frames.is_empty()).expect("a request");
        for (index, frame) in frames.iter().enumerate() {
            // A peer that has answered already may not want the rest.
            if body.send_data(frame.clone(), index + 1 == frames.len()).is_err() {
                break;
            }
        }
        let Ok(answer) = timeout(PATIENCE, answer).await.expect("an answer in time") else { return Message::default() };
        let (head, mut stream) = answer.into_parts();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let mut message = Message { status: head.status.as_u16(), headers: headers.collect(), complete: true, ..Message::default() };
        while let Some(chunk) = timeout(PATIENCE, stream.data()).await.expect("a body in time") {
            let Ok(chunk) = chunk else {
                message.complete = false;
                break;
            };
            let _ = stream.flow_control().release_capacity(chunk.len());
            message.body.extend_from_slice(&chunk);
        }
        message
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
