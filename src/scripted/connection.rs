//! Connections that can be reset from the outside, so that tests can break them at an exact place.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// The end of one connection that a handler holds.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    reset: AtomicBool,
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Handle {
    /// Resets the connection: the peer sees `ECONNRESET`, not an orderly end.
    pub fn reset(&self) {
        self.0.reset.store(true, Ordering::SeqCst);
        for waker in [self.0.reader.lock().take(), self.0.writer.lock().take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Every connection that is open, and whether new ones are let in.
#[derive(Debug, Default)]
pub struct Lines {
    down: AtomicBool,
    open: Mutex<Vec<Weak<Line>>>,
}

impl Lines {
    /// From now on connections are reset as they come, and those that are open are reset; or no more.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        if down {
            self.reset_all();
        }
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.lock().iter().filter(|line| line.strong_count() > 0).count()
    }

    fn reset_all(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        open.iter().filter_map(Weak::upgrade).for_each(|line| Handle(line).reset());
    }

    fn take(&self, line: &Arc<Line>) {
        let mut open = self.open.lock();
        // Closed ones are cleared away when the list is about to grow, so that its length stays near what is open.
        if open.len() == open.capacity() {
            open.retain(|line| line.strong_count() > 0);
        }
        open.push(Arc::downgrade(line));
    }
}

/// Accepts connections into [`Lines`].
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    lines: Arc<Lines>,
}

impl Door {
    /// A door over a bound listener.
    pub fn new(listener: TcpListener, lines: Arc<Lines>) -> Self {
        Self { listener, lines }
    }
}

impl Listener for Door {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) if self.lines.down.load(Ordering::SeqCst) => reset_on_close(&socket),
                Ok((socket, peer)) => {
                    // Latency is better than a full packet here; a socket without the option still works.
                    let _ = socket.set_nodelay(true);
                    let line = Arc::<Line>::default();
                    self.lines.take(&line);
                    return (Stream { socket, line }, peer);
                }
                // Out of descriptors, mostly: later it may work again.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Door>> for Handle {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(Arc::clone(&stream.io().line))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    line: Arc<Line>,
}

impl Stream {
    /// `Err` once the connection was reset. The waker is left first, so that a reset in between is not missed.
    fn check(&self, slot: &Mutex<Option<Waker>>, context: &Context<'_>) -> io::Result<()> {
        *slot.lock() = Some(context.waker().clone());
        if self.line.reset.load(Ordering::SeqCst) {
            reset_on_close(&self.socket);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(&self.line.reader, context)?;
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(&self.line.writer, context)?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(&self.line.writer, context)?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(&self.line.writer, context)?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check(&self.line.writer, context)?;
        Pin::new(&mut self.socket).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// Makes the close of this socket a reset. A socket that cannot do it closes in order, which is nearly as good.
fn reset_on_close(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

/// Keeps a future on the runtime for as long as it is held.
#[derive(Debug)]
pub struct Task(tokio::task::JoinHandle<()>);

impl Task {
    /// Runs `future` until it ends or this is dropped.
    pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Ends it, and waits until it has let go of all it held.
    pub async fn cancel(mut self) {
        self.0.abort();
        // Cancelled is what it was asked to be.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
