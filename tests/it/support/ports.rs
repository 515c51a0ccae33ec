//! Ports for programs that are told theirs and take it themselves.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to whoever asks for any, outgoing connections among them: between looking and taking, only
/// another of our own tests could come first.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// How many were given.
static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A free port, never the same twice within a run of the tests. Runs side by side begin at different ones.
pub fn free_port() -> u16 {
    let begin = std::process::id().wrapping_mul(97);
    loop {
        let given = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        let offset = begin.wrapping_add(given) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
