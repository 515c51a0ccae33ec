//! One connection that listens to a run.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;

use super::{Run, Stop};
use crate::scripted::connection::Handle;
use crate::scripted::frames;

/// How someone listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// A stream of its own.
    Plain,
    /// The same, to take up where another stream broke.
    Resume,
    /// The answer of the start itself: the run stops when this listener leaves.
    Own,
}

/// One connection that listens.
pub struct Listener {
    /// The run.
    pub run: Arc<Run>,
    /// How it listens.
    pub how: Listen,
    /// Its connection, to be reset where the run says so.
    pub connection: Handle,
    /// The frame to write next.
    pub next: usize,
    /// How many pauses were before that frame: the next one ends the stream.
    pub segment: usize,
    /// Frames left before the connection is reset.
    pub cut: Option<u64>,
    /// Frames left before the stream ends with an error.
    pub stumble: Option<u64>,
    /// Whether that error was written.
    pub stumbled: bool,
    /// What of the current frame was not written yet.
    pub rest: Bytes,
}

impl Listener {
    /// The next bytes to write, `None` at the end.
    pub async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        if self.rest.is_empty() {
            if self.cut == Some(0) {
                // What was written so far is sent first.
                tokio::task::yield_now().await;
                self.connection.reset();
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if self.stumbled {
                return None;
            }
            self.stumbled = self.stumble == Some(0);
            self.rest = if self.stumbled {
                frames::error(&frames::refusal(&self.run.turn, "this stream was lost".to_owned()))
            } else {
                self.frame().await?
            };
            self.cut = self.cut.map(|left| left - 1);
            self.stumble = self.stumble.map(|left| left.saturating_sub(1));
        } else {
            // So that the pieces of one frame are written one by one.
            tokio::task::yield_now().await;
        }
        let size = self.run.directives.split.unwrap_or(usize::MAX).min(self.rest.len());
        Some(Ok(self.rest.split_to(size)))
    }

    async fn frame(&mut self) -> Option<Bytes> {
        let run = Arc::clone(&self.run);
        run.until(|live| live.over || live.pauses.len() > self.segment || live.frames.len() > self.next).await;
        let live = run.live.lock();
        let end = live.pauses.get(self.segment).copied().unwrap_or(live.frames.len());
        let frame = live.frames.get(self.next).filter(|_| self.next < end).cloned()?;
        self.next += 1;
        Some(frame)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut live = self.run.live.lock();
        live.listeners = live.listeners.saturating_sub(1);
        if live.listeners == 0 {
            live.unheard = self.next;
        }
        drop(live);
        if self.how == Listen::Own {
            self.run.stop(Stop::Aborted);
        }
    }
}
