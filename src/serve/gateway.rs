//! Pingora, on a listener that is ours, until we say that it is over.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service as PingoraService;
use pingora_core::services::listening::Service;
use tokio::sync::watch;

use super::StartError;
use crate::proxy::door::Door;

/// Pingora, before it has a service.
pub(super) fn pingora(threads: usize) -> Server {
    let conf = ServerConf {
        threads,
        // The grace was given before Pingora is told; it would sleep through its own.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server
}

/// Runs Pingora on a thread of its own, until it is told to stop; its services bring their own runtimes.
pub(super) fn run(
    mut server: Server,
    door: Door,
    listener: TcpListener,
    stopping: watch::Receiver<bool>,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    server.add_service(Public::new(door, listener).map_err(StartError::Runtime)?);
    let run = move || server.run(RunArgs { shutdown_signal: Box::new(OurSignal(stopping)) });
    std::thread::Builder::new().name("gateway".to_owned()).spawn(run).map_err(StartError::Runtime)
}

/// The public service, on a listener that was taken before.
///
/// Pingora takes addresses itself: where one is in use it tries again for half a minute, and then ends the process. Meanwhile
/// whoever has the address would be taken for us. So it is given the listener in the way in which an upgraded process gets
/// those of the one before.
struct Public {
    service: Service<Door>,
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Public {
    fn new(door: Door, listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let mut service = Service::new("public".to_owned(), door);
        service.add_tcp(&address.to_string());
        Ok(Self { service, address, listener: Some(listener) })
    }
}

#[async_trait]
impl PingoraService for Public {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        let fds = fds.unwrap_or_else(|| Arc::new(Mutex::new(Fds::new())));
        if let Some(listener) = self.listener.take() {
            fds.lock().add(self.address.to_string(), listener.into_raw_fd());
        }
        self.service.start_service(Some(fds), shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }
}

/// Pingora's own signals sleep through a grace period; ours comes when the grace is over.
struct OurSignal(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for OurSignal {
    async fn recv(&self) -> ShutdownSignal {
        let mut stopping = self.0.clone();
        let _ = stopping.wait_for(|stop| *stop).await;
        ShutdownSignal::GracefulTerminate
    }
}
