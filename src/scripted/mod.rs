//! A scripted LibreChat: it speaks LibreChat's wire well enough to stand in for it in `tollgate demo`, in tests and in
//! benches, and does on demand what a real one does only on bad days.
//!
//! Runs are steered by [`directives`] in the text of a message.

mod assistant;
pub mod auth;
pub mod client;
mod connection;
pub mod curl;
pub mod directives;
mod drive;
mod frames;
mod ids;
mod json;
mod options;
mod place;
mod replay;
mod requests;
mod routes;
mod run;
mod saved;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

pub use frames::CallUsage;
pub use options::{Agents, JWT_SECRET, Options, PASSWORD, Strangers, User, Wire};
pub use replay::{Replay, ReplayError};
pub use requests::Received;
pub use run::{RunState, RunSummary};

use connection::{Door, Handle, Task};
use place::Place;
use run::Stop;

#[cfg(test)]
mod tests;

/// How long the wait helpers wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something did not happen in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {} s for {what}, but saw only [{seen}]", PATIENCE.as_secs())]
pub struct TimedOut {
    what: String,
    seen: String,
}

/// A scripted LibreChat that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct ScriptedLibreChat {
    address: SocketAddr,
    place: Arc<Place>,
    /// Dropped to stop serving.
    server: Task,
}

impl ScriptedLibreChat {
    /// Starts to serve.
    ///
    /// Fails where the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let place = Place::new(options);
        let service = routes::router(Arc::clone(&place)).into_make_service_with_connect_info::<Handle>();
        let door = Door::new(listener, Arc::clone(&place.lines));
        let server = Task::spawn(async move {
            // It serves until its task is dropped; accepting never fails for good.
            let _ = axum::serve(door, service).await;
        });
        Ok(Self { address, place, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its page, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The secret its access tokens are signed with.
    pub fn jwt_secret(&self) -> &str {
        &self.place.options.jwt_secret
    }

    /// Stops serving: runs end, connections are reset, the port is free.
    pub async fn stop(mut self) {
        let server = std::mem::replace(&mut self.server, Task::spawn(async {}));
        drop(self);
        server.cancel().await;
    }

    /// Every request that arrived and is remembered, in order.
    pub fn requests(&self) -> Vec<Received> {
        self.place.requests.all()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.place.requests.clear();
    }

    /// Every run that is remembered, in the order they began.
    pub fn runs(&self) -> Vec<RunSummary> {
        self.place.runs()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.place.lines.open()
    }

    /// Waits until `count` runs have begun.
    pub async fn wait_for_runs(&self, count: usize) -> Result<Vec<RunSummary>, TimedOut> {
        self.wait_until(&format!("{count} runs"), |runs| runs.len() >= count).await
    }

    /// Waits until `count` runs are over.
    pub async fn wait_for_ended(&self, count: usize) -> Result<Vec<RunSummary>, TimedOut> {
        let over = |runs: &[RunSummary]| runs.iter().filter(|run| run.state.is_over()).count() >= count;
        self.wait_until(&format!("the end of {count} runs"), over).await
    }

    /// Waits until the runs are as `enough` wants them.
    pub async fn wait_until(&self, what: &str, enough: impl Fn(&[RunSummary]) -> bool) -> Result<Vec<RunSummary>, TimedOut> {
        let look = || {
            let runs = self.runs();
            if enough(&runs) { Ok(runs) } else { Err(format!("{runs:?}")) }
        };
        self.wait(what, look).await
    }

    /// Waits until a request for this method and path, as in `POST /api/agents/chat/abort`, has arrived.
    pub async fn wait_for_request(&self, line: &str) -> Result<Received, TimedOut> {
        let look = || {
            let requests = self.requests();
            let found = requests.iter().find(|request| request.line() == line).cloned();
            found.ok_or_else(|| requests.iter().map(Received::line).collect::<Vec<_>>().join(", "))
        };
        self.wait(line, look).await
    }

    /// While it is down, connections are reset as they come, and those that were open are reset; runs go on.
    pub fn set_down(&self, down: bool) {
        self.place.lines.set_down(down);
    }

    /// While answers are held, chat starts begin their runs but are not answered.
    pub fn hold_answers(&self, hold: bool) {
        self.place.held.send_replace(hold);
    }

    /// One more recording for a chat start to come.
    pub fn push_replay(&self, replay: Replay) {
        self.place.push_replay(replay);
    }

    /// One more person who may log in.
    pub fn add_user(&self, user: User) {
        self.place.register(user);
    }

    /// Takes away who has this e-mail address.
    pub fn remove_user(&self, email: &str) {
        if let Some(user) = self.place.user_by_email(email) {
            self.place.remove(&user.id);
        }
    }

    /// An access token for a person with this e-mail address, as their login would give.
    pub fn token(&self, email: &str) -> String {
        let user = self.place.user_by_email(email).unwrap_or_else(|| User::new(email));
        // Signing with a shared secret has no way to fail; an empty token would be refused with a clear message.
        auth::mint(&self.place.options.jwt_secret, &user, self.place.now()).unwrap_or_default()
    }

    /// Looks whenever something happened, and now and then, for what grows silently.
    async fn wait<T>(&self, what: &str, look: impl Fn() -> Result<T, String>) -> Result<T, TimedOut> {
        let mut changed = self.place.changed.subscribe();
        let deadline = Instant::now() + PATIENCE;
        loop {
            changed.mark_unchanged();
            let seen = match look() {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            if Instant::now() >= deadline {
                return Err(TimedOut { what: what.to_owned(), seen });
            }
            // Either way it is time to look again.
            let _ = timeout(Duration::from_millis(20), changed.changed()).await;
        }
    }
}

impl Drop for ScriptedLibreChat {
    fn drop(&mut self) {
        self.place.lines.set_down(true);
        self.place.held.send_replace(false);
        self.place.all_live().iter().for_each(|run| run.stop(Stop::Shutdown));
    }
}
