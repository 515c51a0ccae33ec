//! From an [`App`] to listeners and runtimes, and the order in which they start and stop.
//!
//! One long-lived runtime of ours owns the store, the database, the writers, and everything that attends to generations.
//! It is built before Pingora's and outlives them, so that the last row is written after the last request is gone.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin;
use crate::app::{App, BuildError};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::proxy::Gateway;

/// How long the writers may take after everything else is over.
const LAST_WRITES: Duration = Duration::from_secs(20);

/// How long generations may take to close their books after the streams are gone.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(10);

/// How often what nobody asks for is looked after: refused tokens, health.
const UPKEEP: Duration = Duration::from_secs(2);

/// How often rows that are too old are removed, and how soon again where a round left some.
const RETENTION: Duration = Duration::from_hours(1);
const RETENTION_AGAIN: Duration = Duration::from_mins(1);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be built.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// A listener's address cannot be taken.
    #[error("{listener}.listen: {address} cannot be listened on: {reason}")]
    Listen {
        /// Which listener.
        listener: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why not.
        reason: std::io::Error,
    },
    /// Threads cannot be started.
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    /// Its shared handles.
    pub app: Arc<App>,
    /// Where the public listener is.
    pub public: SocketAddr,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    /// Where the metrics listener is.
    pub metrics: SocketAddr,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    gateway: Option<std::thread::JoinHandle<()>>,
}

/// Starts a gateway. Port 0 takes a free one. May be called from anywhere, also from within another runtime.
pub fn start(config: Config, clock: SharedClock) -> Result<Running, StartError> {
    on_a_thread(move || start_here(config, clock))
}

fn start_here(config: Config, clock: SharedClock) -> Result<Running, StartError> {
    let threads =
        if config.runtime.threads == 0 { std::thread::available_parallelism().map_or(2, usize::from) } else { config.runtime.threads };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.clamp(2, 8))
        .thread_name("tollgate")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;

    let metrics_listener = bind("metrics", config.metrics.listen)?;
    let admin_listener = bind("admin", config.admin.listen)?;
    // Pingora takes its address itself, and would end the process where it cannot.
    let public = local_address("public", &bind("public", config.public.listen)?)?;
    let (metrics, admin) = (local_address("metrics", &metrics_listener)?, local_address("admin", &admin_listener)?);

    let app = runtime.block_on(App::build(config, clock, runtime.handle()))?;
    let (stop, stopping) = watch::channel(false);
    {
        let _inside = runtime.enter();
        let listener = |listener: TcpListener| listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
        let metrics_listener = listener(metrics_listener).map_err(StartError::Runtime)?;
        let admin_listener = listener(admin_listener).map_err(StartError::Runtime)?;
        runtime.spawn(admin::serve(metrics_listener, admin::metrics_routes(app.clone())));
        runtime.spawn(admin::serve(admin_listener, admin::routes()));
        runtime.spawn(app.generations.clone().keep_leases());
        runtime.spawn(upkeep(app.clone()));
        runtime.spawn(retention(app.clone()));
    }

    let gateway = run_gateway(&app, public, threads, stopping)?;
    runtime.block_on(until_listening(public));
    app.ready.set(true);
    tracing::info!(public = %public, admin = %admin, metrics = %metrics, upstream = app.upstream.authority(), "serving");
    Ok(Running { app, public, admin, metrics, runtime: Some(runtime), stop, gateway: Some(gateway) })
}

impl Running {
    /// Waits for SIGTERM or SIGINT.
    pub fn wait_for_signal(&self) {
        match Signals::listen() {
            Ok(signals) => signals.wait(),
            Err(error) => tracing::error!(error = %error, "signals cannot be waited for"),
        }
    }

    /// Runs a future on the gateway's long-lived runtime.
    pub fn block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        self.runtime.as_ref().map(|runtime| runtime.block_on(future))
    }

    /// Stops: readiness fails, new chats are turned away, running streams get their grace, what is open is settled or
    /// handed over, everything is written. Answers whether everything was.
    pub fn stop(mut self) -> bool {
        on_a_thread(|| self.stop_all())
    }

    fn stop_all(&mut self) -> bool {
        let Some(runtime) = self.runtime.take() else { return true };
        let app = self.app.clone();
        tracing::info!(generations = app.generations.count_open(), "stopping");
        app.draining.set(true);
        runtime.block_on(async {
            let _ = tokio::time::timeout(app.config.shutdown.grace, app.open_requests.none_left()).await;
        });
        let _ = self.stop.send(true);
        if let Some(gateway) = self.gateway.take() {
            let _ = gateway.join();
        }
        let written = runtime.block_on(last_writes(&app));
        runtime.shutdown_timeout(Duration::from_millis(200));
        tracing::info!("stopped");
        written
    }
}

/// SIGTERM and SIGINT, noticed from the moment this is made: also those that come before anyone waits.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to notice. From now on neither signal ends the process by itself.
    pub fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Waits for the first of them.
    pub fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        on_a_thread(|| self.stop_all());
    }
}

/// Runs what blocks on a thread of its own, which may belong to no runtime, and waits for it.
fn on_a_thread<T: Send>(blocking: impl FnOnce() -> T + Send) -> T {
    let result = std::thread::scope(|scope| scope.spawn(blocking).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn last_writes(app: &App) -> bool {
    if tokio::time::timeout(LAST_SETTLEMENTS, app.generations.stop()).await.is_err() {
        tracing::error!(generations = app.generations.count_open(), "not every generation could be settled before the stop");
    }
    app.refused_tokens.tick().into_iter().for_each(|row| app.recorder.record_audit(row));
    let unwritten = app.recorder.close(LAST_WRITES).await;
    app.close().await;
    for row in &unwritten.usage {
        tracing::error!(generation.id = %row.generation_id, row = ?row, "a usage row could not be written before the stop");
    }
    unwritten.usage.is_empty() && app.generations.count_open() == 0
}

/// Looks after what no request does.
async fn upkeep(app: Arc<App>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        app.refused_tokens.tick().into_iter().for_each(|row| app.recorder.record_audit(row));
        app.upstream.look_up().await;
        let up = matches!(app.librechat.health().await, Ok(status) if status < 500);
        if app.upstream_is_up.is_set() != up {
            tracing::info!(upstream = app.upstream.authority(), up, "LibreChat");
        }
        app.upstream_is_up.set(up);
        admin::health::measure(&app).await;
    }
}

/// Removes rows that are too old, a while after the start and then every hour, and sooner where there is more.
async fn retention(app: Arc<App>) {
    let mut pause = RETENTION_AGAIN;
    loop {
        tokio::time::sleep(pause).await;
        pause = if app.retain_records().await { RETENTION_AGAIN } else { RETENTION };
    }
}

fn bind(listener: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|reason| StartError::Listen { listener, address, reason })
}

fn local_address(listener: &'static str, bound: &TcpListener) -> Result<SocketAddr, StartError> {
    bound.local_addr().map_err(|reason| StartError::Listen { listener, address: SocketAddr::from(([0, 0, 0, 0], 0)), reason })
}

/// Runs Pingora on a thread of its own; its services bring their own runtimes.
fn run_gateway(
    app: &Arc<App>,
    public: SocketAddr,
    threads: usize,
    stopping: watch::Receiver<bool>,
) -> Result<std::thread::JoinHandle<()>, StartError> {
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
    let mut service = pingora_proxy::http_proxy_service(&server.configuration, Gateway::new(app.clone()));
    if let Some(logic) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        logic.server_options = Some(options);
    }
    service.add_tcp(&public.to_string());
    server.add_service(service);
    let run = move || server.run(RunArgs { shutdown_signal: Box::new(OurSignal(stopping)) });
    std::thread::Builder::new().name("gateway".to_owned()).spawn(run).map_err(StartError::Runtime)
}

/// Waits, for a while, until the public listener takes connections.
async fn until_listening(public: SocketAddr) {
    let reachable = if public.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], public.port())) } else { public };
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(reachable).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
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
