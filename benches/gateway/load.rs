//! The clients: raw HTTP/1.1 over kept connections, so that their own cost is small and the same before every proxy.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::upstream::{TIME_DIGITS, TIME_MARK, content_length};

/// A client's connection.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("TCP can do without delay");
        Self { stream, read: Vec::with_capacity(16 * 1024) }
    }

    /// Sends a request and reads its answer, which must be a 200; answers its body.
    pub async fn exchange(&mut self, request: &[u8]) -> &[u8] {
        let head_end = self.ask(request).await;
        let length = content_length(&self.read[..head_end]);
        while self.read.len() < head_end + length {
            self.more().await;
        }
        &self.read[head_end..]
    }

    /// Sends a request and reads the head of its answer; answers how long that is.
    async fn ask(&mut self, request: &[u8]) -> usize {
        self.read.clear();
        self.stream.write_all(request).await.expect("the proxy reads");
        let head_end = loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await;
        };
        assert!(self.read.starts_with(b"HTTP/1.1 200"), "refused: {}", String::from_utf8_lossy(&self.read));
        head_end
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.read).await.expect("the proxy answers");
        assert!(read > 0, "the proxy closed the connection after {}", String::from_utf8_lossy(&self.read));
    }

    /// Reads a stream until its end, or until so many events of text came; hands over how late each came.
    pub async fn follow(&mut self, request: &[u8], epoch: Instant, events: usize, mut late: impl FnMut(Duration)) {
        let head_end = self.ask(request).await;
        self.read.drain(..head_end);
        let mut seen = 0;
        loop {
            let now = epoch.elapsed();
            let mut done = 0;
            for mark in memchr::memmem::find_iter(&self.read, TIME_MARK) {
                let digits = mark + TIME_MARK.len();
                let Some(digits) = self.read.get(digits..digits + TIME_DIGITS) else { break };
                if let Ok(sent) = std::str::from_utf8(digits).unwrap_or_default().parse() {
                    late(now.saturating_sub(Duration::from_nanos(sent)));
                    seen += 1;
                }
                done = mark + TIME_MARK.len() + TIME_DIGITS;
            }
            self.read.drain(..done);
            if seen >= events || self.read.ends_with(b"\r\n0\r\n\r\n") {
                return;
            }
            self.more().await;
        }
    }
}

/// Many requests: how many, what the `nth` is, and who is handed its answer's body.
pub struct Requests<'a> {
    /// How many.
    pub count: usize,
    /// The bytes of one.
    pub bytes: &'a dyn Fn(usize) -> Rc<[u8]>,
    /// Takes the body of its answer.
    pub answered: &'a dyn Fn(usize, &[u8]),
}

/// Sends requests over so many connections, each as soon as its connection is free; answers how many a second.
pub async fn closed_loop(address: SocketAddr, connections: usize, requests: &Requests<'_>) -> f64 {
    let (next, started) = (Cell::new(0), Instant::now());
    let client = async || {
        let mut connection = Connection::to(address).await;
        while next.get() < requests.count {
            let nth = next.replace(next.get() + 1);
            (requests.answered)(nth, connection.exchange(&(requests.bytes)(nth)).await);
        }
    };
    join_all((0..connections).map(|_| client())).await;
    count(requests.count) / started.elapsed().as_secs_f64()
}

/// Sends requests at so many a second, whether the ones before were answered or not; answers how long each took.
pub async fn open_loop(address: SocketAddr, rate: f64, requests: &Requests<'_>) -> Vec<Duration> {
    let mut arrivals = pace(rate, requests.count);
    let (idle, took) = (RefCell::new(Vec::new()), RefCell::new(Vec::with_capacity(requests.count)));
    let mut running = FuturesUnordered::new();
    let mut nth = 0;
    loop {
        tokio::select! {
            biased;
            arrived = arrivals.recv() => {
                let Some(arrived) = arrived else { break };
                let (idle, took, this) = (&idle, &took, nth);
                nth += 1;
                running.push(async move {
                    let free: Option<Connection> = idle.borrow_mut().pop();
                    let mut connection = match free {
                        Some(connection) => connection,
                        None => Connection::to(address).await,
                    };
                    (requests.answered)(this, connection.exchange(&(requests.bytes)(this)).await);
                    took.borrow_mut().push(arrived.elapsed());
                    idle.borrow_mut().push(connection);
                });
            }
            Some(()) = running.next() => {}
        }
    }
    while running.next().await.is_some() {}
    drop(running);
    took.into_inner()
}

/// Reads streams to their end over so many connections, each asked for as soon as its connection is free.
pub async fn follow_all(address: SocketAddr, connections: usize, streams: &[Rc<[u8]>], epoch: Instant, late: &dyn Fn(usize, Duration)) {
    let next = Cell::new(0);
    let client = async || {
        let mut connection = Connection::to(address).await;
        while let Some(request) = streams.get(next.get()) {
            next.set(next.get() + 1);
            let mut nth = 0;
            let heard = |delay| {
                late(nth, delay);
                nth += 1;
            };
            connection.follow(request, epoch, usize::MAX, heard).await;
        }
    };
    join_all((0..connections).map(|_| client())).await;
}

/// A number of things, to calculate with.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
pub fn count(things: usize) -> f64 {
    things as f64
}

/// Arrivals at an even rate. A thread of its own keeps the time: a runtime's timers are a millisecond wide.
fn pace(rate: f64, count: usize) -> tokio::sync::mpsc::UnboundedReceiver<Instant> {
    let (send, arrivals) = tokio::sync::mpsc::unbounded_channel();
    let pause = Duration::from_secs_f64(1.0 / rate);
    std::thread::spawn(move || {
        let mut due = Instant::now();
        for _ in 0..count {
            due += pause;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if send.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    arrivals
}
