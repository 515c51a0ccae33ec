//! The door: which HTTP a new connection speaks, and how long it may say nothing.
//!
//! Pingora tells HTTP/2 by waiting, for ever, for the 24 bytes that it begins with. There are whole requests that are
//! shorter, and clients that say nothing at all. So the first bytes are looked at here, for a while, and each connection is
//! given to a proxy that need not guess. Where TLS ends here, its handshake has told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;

use super::{Gateway, client};
use crate::app::App;

/// What an HTTP/2 client says first (RFC 9113 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may say nothing before it says what it speaks.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The door of the public listener.
pub struct Door {
    http1: Arc<HttpProxy<Gateway>>,
    http2: Arc<HttpProxy<Gateway>>,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::Ender>,
    patience: Duration,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Door").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Door {
    /// The door of this app's gateway.
    pub fn new(app: &Arc<App>, conf: &Arc<ServerConf>, patience: Duration) -> Self {
        let proxy = |h2c: bool| {
            let mut proxy = HttpProxy::new(Gateway::new(app.clone()), conf.clone());
            proxy.handle_init_modules();
            let mut options = HttpServerOptions::default();
            options.h2c = h2c;
            options.h2_idle_timeout = Some(client::IDLE);
            // It is refused by us, as everything is.
            options.allow_connect_method_proxying = true;
            proxy.server_options = Some(options);
            Arc::new(proxy)
        };
        Self {
            http1: proxy(false),
            http2: proxy(true),
            #[cfg(feature = "tls")]
            tls: None,
            patience,
        }
    }

    /// The same, where TLS ends here.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn speaking_tls(self, tls: super::tls::Ender) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// A connection as requests come on it, and whether they are HTTP/2; nothing where none come, or not in time.
    async fn opened(&self, mut stream: Stream) -> Option<(Stream, bool)> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tokio::time::timeout(self.patience, tls.end(stream)).await.ok()??;
            let http2 = stream.selected_alpn_proto() == Some(pingora_core::protocols::ALPN::H2);
            return Some((stream, http2));
        }
        let http2 = said_in_time(&mut stream, self.patience).await?;
        Some((stream, http2))
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut stopping = shutdown.clone();
        let (stream, http2) = tokio::select! {
            biased;
            opened = self.opened(stream) => opened?,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        let proxy = if http2 { &self.http2 } else { &self.http1 };
        proxy.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.http1.cleanup().await;
        self.http2.cleanup().await;
    }
}

/// Whether it is HTTP/2, or `None` where nothing is said, or not in time.
async fn said_in_time(stream: &mut Stream, patience: Duration) -> Option<bool> {
    tokio::time::timeout(patience, speaks_http2(stream)).await.ok()?.ok()
}

/// Waits for the first bytes; what was looked at is read again by whoever comes next.
async fn speaks_http2(stream: &mut Stream) -> std::io::Result<bool> {
    let mut method = [0; 3];
    if !stream.try_peek(&mut method).await? || !PREFACE.starts_with(&method) {
        return Ok(false);
    }
    let mut preface = [0; PREFACE.len()];
    Ok(stream.try_peek(&mut preface).await? && preface == *PREFACE)
}

#[cfg(test)]
mod tests {
    use pingora_core::protocols::l4::stream::Stream as TcpStream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What the door makes of a connection that begins with these bytes, and all of what the next reader gets.
    async fn looked_at(said: &[u8]) -> (std::io::Result<bool>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        client.write_all(said).await.expect("it is taken");
        client.shutdown().await.expect("it is closed");
        let (server, _) = listener.accept().await.expect("a client");
        let mut stream: Stream = Box::new(TcpStream::from(server));
        let http2 = speaks_http2(&mut stream).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("it is read");
        (http2, rest)
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        for said in [&b""[..], b"G", b"PRI * HT"] {
            let mut client = tokio::net::TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
            client.write_all(said).await.expect("it is taken");
            let (server, _) = listener.accept().await.expect("a client");
            let mut stream: Stream = Box::new(TcpStream::from(server));
            assert_eq!(said_in_time(&mut stream, Duration::from_millis(50)).await, None, "nothing comes after {said:?}");
            drop(client);
        }
    }

    #[tokio::test]
    async fn the_first_bytes_tell_and_are_not_lost() {
        let preface = [&PREFACE[..], b"more"].concat();
        for (said, http2) in [
            (&b"GET / HTTP/1.0\r\n\r\n"[..], false),
            (b"PUT", false),
            (b"PRI / HTTP/1.1\r\nHost: example.test\r\n\r\n", false),
            (&preface, true),
        ] {
            let (spoken, rest) = looked_at(said).await;
            assert_eq!((spoken.ok(), rest.as_slice()), (Some(http2), said), "{}", String::from_utf8_lossy(said));
        }
        for short in [&b""[..], b"G", b"PRI * HTTP"] {
            assert!(looked_at(short).await.0.is_err(), "nothing comes after {short:?}");
        }
    }
}
