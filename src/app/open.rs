//! What stands open: requests and streams that are counted, and flags that everyone sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::telemetry::metrics::Metrics;

/// Something that is so or is not, seen by everyone.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until it is set, looking now and then: nobody waits for it long or often.
    pub async fn until_set(&self) {
        while !self.is_set() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sets or clears it.
    pub fn set(&self, to: bool) {
        self.0.store(to, Ordering::Relaxed);
    }
}

/// Requests that are being served, streams among them.
#[derive(Debug, Default, Clone)]
pub struct OpenRequests(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    open: AtomicUsize,
    emptied: Notify,
}

impl OpenRequests {
    /// Counts a request until the guard is dropped.
    pub fn enter(&self) -> OpenRequest {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.0.clone())
    }

    /// Waits until no request is being served.
    pub async fn none_left(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.open.load(Ordering::Relaxed) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
pub struct OpenRequest(Arc<Counted>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

/// A stream that passes through here.
#[derive(Debug)]
pub struct OpenStream(pub(super) Arc<Metrics>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.stream_closed();
    }
}
