//! `tollgate demo`: the whole job on one machine, against a scripted LibreChat and with nothing else installed.
//!
//! It starts a gateway with embedded stores in a place of its own, plays a short conversation in front of it, shows what
//! people saw and what was written down, and checks every step by itself.

mod conversation;
mod people;
mod place;
mod ports;
mod screen;
mod shown;

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{DemoEnd, Exit, complain};
use crate::telemetry::log;
use place::{Place, PlaceError};
use screen::Screen;

/// How long anything that must happen may take. It takes well under a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was not as it should be, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

impl From<reqwest::Error> for Wrong {
    fn from(error: reqwest::Error) -> Self {
        Self(format!("a request failed: {error}"))
    }
}

/// Plays the demo, and ends as `end` says. Fails if it could not be played or anything was not as it should be.
pub fn run(end: DemoEnd) -> Exit {
    // Where a log is set up already, that one will do.
    let _ = log::install(log::Format::Text, tracing::Level::WARN);
    match play(end, &Screen::of_stdout()) {
        Ok(exit) => exit,
        Err(error) => {
            complain(&format_args!("the demo cannot be played: {error}"));
            Exit::Failure
        }
    }
}

fn play(end: DemoEnd, screen: &Screen) -> Result<Exit, PlaceError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(PlaceError::Runtime)?;
    let mut interrupt = Interrupt::on(&runtime)?;
    let place = Place::open(&runtime)?;
    let played = runtime.block_on(interrupt.or(async {
        shown::place(&place, screen);
        let mut wrong = conversation::play(&place, screen).await;
        wrong.extend(shown::what_it_left(&place, screen).await);
        wrong
    }));
    let mut exit = match &played {
        Some(wrong) => verdict(wrong, screen),
        None => Exit::Failure,
    };
    if end == DemoEnd::StayUp && played.is_some() {
        runtime.block_on(shown::what_to_try(&place, screen));
        screen.line("It stays up until Ctrl-C.");
        runtime.block_on(interrupt.next());
    }
    if !place.close(&runtime) {
        complain(&"not every row was written before the demo ended");
        exit = Exit::Failure;
    }
    Ok(exit)
}

fn verdict(wrong: &[Wrong], screen: &Screen) -> Exit {
    if wrong.is_empty() {
        screen.line("Everything was as it should be.");
        return Exit::Success;
    }
    screen.line("Not everything was as it should be:");
    for wrong in wrong {
        screen.paragraph("  - ", &wrong.0);
    }
    Exit::Failure
}

/// Ctrl-C or SIGTERM, from the first moment on, so that the place is always cleaned up.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn on(runtime: &Runtime) -> Result<Self, PlaceError> {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(PlaceError::Runtime);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// What the future answers, or nothing if it was interrupted.
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.next() => None,
            answer = work => Some(answer),
        }
    }
}

/// Asks until there is an answer that is good enough, for at most [`PATIENCE`]; then gives the last one.
async fn until<T, F: Future<Output = T>>(good: impl Fn(&T) -> bool, mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if good(&answer) || tokio::time::Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
