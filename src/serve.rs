//! From an [`App`] to listeners and runtimes, and the order in which they start and stop.
//!
//! One long-lived runtime of ours owns the store, the database, the writers, and everything that attends to generations.
//! It is built before Pingora's and outlives them, so that the last row is written after the last request is gone.

mod gateway;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::admin;
use crate::app::{App, BuildError};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::identity::directory::refresh;
use crate::limits::caps;
use crate::limits::reconcile::Reconciler;
use crate::proxy::door::{Door, PATIENCE};
use crate::telemetry::system;

/// How long the writers may take after everything else is over.
const LAST_WRITES: Duration = Duration::from_secs(20);

/// How long the last lines may take on their way to the log files.
const LAST_LINES: Duration = Duration::from_secs(5);

/// How long the last traces may take.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// How long generations may take to close their books after the streams are gone.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(10);

/// How often what nobody asks for is looked after: refused tokens, how everything does.
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
    /// It was asked to stop before it had started.
    #[error("stopped before the start was complete")]
    Stopped,
    /// The certificate cannot be used any more: it could when the configuration was read.
    #[cfg(feature = "tls")]
    #[error("public.tls_cert: {0}")]
    Certificate(#[from] crate::tls::CertificateError),
    /// The certificate cannot be shown.
    #[cfg(feature = "tls")]
    #[error("public.tls_cert: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
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
    start_unless_stopped(config, clock, &Signals::none())
}

/// The same, given up at the first signal.
pub fn start_unless_stopped(config: Config, clock: SharedClock, signals: &Signals) -> Result<Running, StartError> {
    on_a_thread(move || start_here(config, clock, signals))
}

fn start_here(mut config: Config, clock: SharedClock, signals: &Signals) -> Result<Running, StartError> {
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
    // Whether it can be taken is told at once; it is taken when there is somebody to serve there. Until then a balancer that
    // connects is refused, and asks another.
    drop(bind("public", config.public.listen)?);
    let public = config.public.listen;
    let (metrics, admin) = (local_address("metrics", &metrics_listener)?, local_address("admin", &admin_listener)?);

    let server = || system::server_name(metrics).map(Into::into);
    config.system.server = config.system.server.take().or_else(server);

    // Whoever asks is told that this process lives and is not ready, from the first moment on.
    let (built, is_built) = oneshot::channel::<()>();
    let starting = metrics_listener.try_clone().map_err(StartError::Runtime)?;
    let starting = on_runtime(&runtime, starting)?;
    runtime.spawn(admin::serve_until(starting, admin::starting_routes(), async move { drop(is_built.await) }));
    let app = runtime.block_on(async {
        tokio::select! {
            () = signals.nth(1) => Err(StartError::Stopped),
            app = App::build(config, clock, runtime.handle()) => Ok(app?),
        }
    })?;
    let (metrics_listener, admin_listener) = (on_runtime(&runtime, metrics_listener)?, on_runtime(&runtime, admin_listener)?);
    runtime.spawn(admin::serve(metrics_listener, admin::metrics_routes(app.clone())));
    runtime.spawn(admin::serve(admin_listener, admin::routes()));
    drop(built);
    runtime.spawn(app.generations.clone().keep_leases());
    runtime.spawn(keep_directory(app.clone()));
    runtime.block_on(async {
        tokio::select! {
            () = signals.nth(1) => Err(StartError::Stopped),
            () = app.check_upstreams() => Ok(()),
        }
    })?;
    runtime.spawn(watch_upstreams(app.clone()));
    runtime.spawn(upkeep(app.clone()));
    runtime.spawn(retention(app.clone()));
    for keys in app.verifier.key_sets() {
        runtime.spawn(keys.clone().keep_fresh());
    }
    runtime.spawn(watch_system(app.clone()));
    runtime.spawn(watch_caps(app.clone()));
    runtime.spawn(Reconciler::new(app.counters.clone(), app.replica.clone(), app.config.store.reconcile_every).run());

    let (stop, stopping) = watch::channel(false);
    let server = gateway::pingora(threads);
    let door = Door::new(&app, &server.configuration, PATIENCE);
    #[cfg(feature = "tls")]
    let door = with_tls(door, &app, &runtime)?;
    let listener = bind("public", public)?;
    let public = local_address("public", &listener)?;
    let gateway = gateway::run(server, door, listener, stopping)?;
    app.ready.set(true);
    tracing::info!(public = %public, admin = %admin, metrics = %metrics, upstreams = names(&app), "serving");
    Ok(Running { app, public, admin, metrics, runtime: Some(runtime), stop, gateway: Some(gateway) })
}

impl Running {
    /// Stops: readiness fails, new chats are turned away, running streams get their grace, what is open is settled or
    /// handed over, everything is written. Answers whether everything was.
    pub fn stop(self) -> bool {
        self.stop_or_hurry(&Signals::none())
    }

    /// The same; a second signal ends the grace.
    pub fn stop_or_hurry(mut self, signals: &Signals) -> bool {
        on_a_thread(|| self.stop_all(signals))
    }

    fn stop_all(&mut self, signals: &Signals) -> bool {
        let Some(runtime) = self.runtime.take() else { return true };
        let app = self.app.clone();
        tracing::info!(generations = app.generations.count_open(), "stopping");
        app.draining.set(true);
        runtime.block_on(async {
            tokio::select! {
                () = app.open_requests.none_left() => {}
                () = tokio::time::sleep(app.config.shutdown.grace) => {}
                () = signals.nth(2) => tracing::warn!("asked again to stop: streams that still run get no more grace"),
            }
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

/// SIGTERM and SIGINT, counted from the moment this is made: also those that come before anyone waits.
#[derive(Debug)]
pub struct Signals(watch::Receiver<usize>);

impl Signals {
    /// Begins to count, on a thread of its own. From now on neither signal ends the process by itself, and SIGHUP, which many
    /// send for "read it again", does not either: certificates are read again by it (feature `tls`), and nothing else is.
    pub fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt, mut hang_up) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
        };
        let (count, counted) = watch::channel(0);
        let listen = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hang_up.recv() => {
                        tracing::info!("SIGHUP: the certificate is read again, if there is one; whatever else changed needs a restart");
                        continue;
                    }
                }
                count.send_modify(|count| *count += 1);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listen))?;
        Ok(Self(counted))
    }

    /// None will ever come.
    pub fn none() -> Self {
        Self(watch::channel(0).1)
    }

    /// Waits until so many have come in all.
    pub async fn nth(&self, count: usize) {
        if self.0.clone().wait_for(|counted| *counted >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        on_a_thread(|| self.stop_all(&Signals::none()));
    }
}

fn on_runtime(runtime: &Runtime, listener: TcpListener) -> Result<tokio::net::TcpListener, StartError> {
    let _inside = runtime.enter();
    listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)).map_err(StartError::Runtime)
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
    if let Some(traces) = &app.traces {
        traces.flush(LAST_TRACES).await;
    }
    app.refused_tokens.tick().into_iter().for_each(|row| app.recorder.record_audit(row));
    let left = app.recorder.close(LAST_WRITES).await;
    if let Some(rows) = app.row_log.clone() {
        let closed = tokio::task::spawn_blocking(move || rows.close(LAST_LINES)).await;
        if !closed.unwrap_or_default() {
            tracing::error!("not every line was written to the log files before the stop");
        }
    }
    app.close().await;
    if left > 0 {
        tracing::warn!(records.rows = left, "rows are left in the journal, for the next start to ship");
    }
    left == 0 && app.generations.count_open() == 0
}

/// Looks after what no request does.
async fn upkeep(app: Arc<App>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        app.refused_tokens.tick().into_iter().for_each(|row| app.recorder.record_audit(row));
        admin::health::measure(&app).await;
    }
}

/// Asks every LibreChat how it is.
async fn watch_upstreams(app: Arc<App>) {
    let mut ticks = tokio::time::interval(app.config.librechat.health.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.check_upstreams().await;
    }
}

/// The LibreChats, for a line of the log.
fn names(app: &App) -> String {
    app.librechat.upstreams().all().iter().map(|place| &**place.name()).collect::<Vec<_>>().join(", ")
}

/// Changes of orgs and members arrive, and what runs for those who lost something ends.
async fn keep_directory(app: Arc<App>) {
    let (directory, store, generations) = (app.directory.clone(), app.orgs_and_members.clone(), app.generations.clone());
    refresh::run(directory, store, move |lost| generations.end_those_of(&lost)).await;
}

/// Removes rows that are too old, a while after the start and then every hour, and sooner where there is more.
async fn retention(app: Arc<App>) {
    let mut pause = RETENTION_AGAIN;
    loop {
        tokio::time::sleep(pause).await;
        if let Some(sign_in) = &app.sign_in
            && let Err(error) = sign_in.tidy().await
        {
            tracing::warn!(%error, "sessions that are over cannot be removed");
        }
        app.tidy_keys().await;
        pause = if app.retain_records().await { RETENTION_AGAIN } else { RETENTION };
    }
}

/// Shows how full the caps of orgs are.
async fn watch_caps(app: Arc<App>) {
    let mut ticks = tokio::time::interval(caps::EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.caps.show(&app.counters, &app.rules).await;
    }
}

/// Looks at the machine, and at the disk that the journal lies on.
async fn watch_system(app: Arc<App>) {
    let machine = &app.machine;
    let folder = app.config.records.journal.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    system::watch(folder, system::EVERY, |sample| {
        app.metrics.system(&sample);
        let now = app.clock.now();
        let followed = machine.take(now, sample);
        for crossing in followed.crossings {
            app.recorder.record_audit(machine.tell(now, crossing));
        }
        app.metrics.system_levels(machine.levels());
        if let Some(sample) = followed.row {
            app.recorder.record_system(sample.row(Uuid::now_v7(), now, machine.server.clone()));
        }
    })
    .await;
}

fn bind(listener: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|reason| StartError::Listen { listener, address, reason })
}

fn local_address(listener: &'static str, bound: &TcpListener) -> Result<SocketAddr, StartError> {
    bound.local_addr().map_err(|reason| StartError::Listen { listener, address: SocketAddr::from(([0, 0, 0, 0], 0)), reason })
}

/// The door with the certificate of the configuration, if it names one, which is looked after from now on.
#[cfg(feature = "tls")]
fn with_tls(door: Door, app: &Arc<App>, runtime: &Runtime) -> Result<Door, StartError> {
    let public = &app.config.public;
    let (Some(certificate), Some(key)) = (public.tls_cert.clone(), public.tls_key.clone()) else { return Ok(door) };
    let files = crate::tls::Files { certificate, key };
    let certificates = crate::tls::Certificates::open(files, app.clock.clone(), app.metrics.clone())?;
    let server = certificates.server()?;
    runtime.spawn(certificates.keep_fresh());
    Ok(door.speaking_tls(crate::proxy::tls::Ender::new(server)))
}

/// Where a listener is reached from this machine.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_reached_over_loopback() {
        for (listen, reached) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
