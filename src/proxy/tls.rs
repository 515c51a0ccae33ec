//! TLS of the public listener: it ends here, and what is inside goes on as any other connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::door::PREFACE;
use crate::error::SPEAKS_TLS;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long whoever speaks plain HTTP may take to read what is wrong.
const TOLD_IN: Duration = Duration::from_secs(2);

/// The first byte of a TLS connection: a record of its handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// Ends TLS.
pub struct Ender(TlsAcceptor);

impl Ender {
    /// Speaks TLS like this.
    pub fn new(server: ServerConfig) -> Self {
        Self(TlsAcceptor::from(Arc::new(server)))
    }

    /// Makes of a connection what is inside; nothing where it is no TLS, or comes to nothing. Whoever speaks plain HTTP is told.
    pub async fn end(&self, mut stream: Stream) -> Option<Stream> {
        let mut first = [0];
        if !stream.try_peek(&mut first).await.ok()? {
            return None;
        }
        if first != [HANDSHAKE_RECORD] {
            // It is on its way out, whether it reads the answer or not.
            let _ = tokio::time::timeout(TOLD_IN, tell(stream, first[0])).await;
            return None;
        }
        let inside = tokio::time::timeout(HANDSHAKE, self.0.accept(stream)).await.ok()?;
        match inside {
            Ok(inside) => {
                let mut inside = Inside::new(inside);
                // Pingora would wait for it for ever. How long it may take is the door's to say.
                if inside.stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    inside.hear(PREFACE.len()).await.ok()?;
                }
                Some(Box::new(inside))
            }
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
        }
    }
}

/// Reads what is there before it closes: otherwise the client might be told of a reset, and of nothing else.
async fn tell(mut stream: Stream, first: u8) -> io::Result<()> {
    if !first.is_ascii_uppercase() {
        return Ok(());
    }
    let mut asked = [0; 4096];
    let _ = stream.read(&mut asked).await?;
    stream.write_all(SPEAKS_TLS.as_bytes()).await?;
    stream.flush().await?;
    AsyncWriteExt::shutdown(&mut stream).await?;
    while stream.read(&mut asked).await? > 0 {}
    Ok(())
}

/// What is inside a TLS connection.
struct Inside {
    stream: TlsStream<Stream>,
    /// What was read before the next reader came, and is read again by it.
    heard: VecDeque<u8>,
    digest: Arc<SslDigest>,
}

impl Inside {
    fn new(stream: TlsStream<Stream>) -> Self {
        let session = stream.get_ref().1;
        let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or_default();
        let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let digest = Arc::new(SslDigest::new(cipher, version, None, None, Vec::new()));
        Self { stream, heard: VecDeque::new(), digest }
    }

    /// Waits until so much was said.
    async fn hear(&mut self, bytes: usize) -> io::Result<()> {
        let mut heard = vec![0; bytes];
        self.stream.read_exact(&mut heard).await?;
        self.heard.extend(heard);
        Ok(())
    }

    fn outside(&self) -> &Stream {
        self.stream.get_ref().0
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inside").field("outside", self.outside()).finish_non_exhaustive()
    }
}

impl AsyncRead for Inside {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.heard.is_empty() {
            let (first, _) = self.heard.as_slices();
            let count = first.len().min(buffer.remaining());
            buffer.put_slice(&first[..count]);
            self.heard.drain(..count);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Inside {
    async fn shutdown(&mut self) {
        // The other side may be gone.
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl UniqueID for Inside {
    fn id(&self) -> UniqueIDType {
        self.outside().id()
    }
}

impl Ssl for Inside {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(self.digest.clone())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.stream.get_ref().1.alpn_protocol()? {
            b"h2" => Some(ALPN::H2),
            _ => Some(ALPN::H1),
        }
    }
}

impl GetTimingDigest for Inside {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.outside().get_timing_digest()
    }
}

impl GetProxyDigest for Inside {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.outside().get_proxy_digest()
    }
}

impl GetSocketDigest for Inside {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.outside().get_socket_digest()
    }
}

impl Peek for Inside {}
