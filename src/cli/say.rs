//! What commands say: what was asked for on standard output, what went wrong on standard error.
//!
//! The standard library's own macros panic where nobody reads any more; clippy forbids them outside tests.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::Exit;

/// Shows what was asked for. A reader that left has what it wanted; output that cannot be written, as on a full disk, is a
/// failure.
pub(super) fn say(text: &str) -> Exit {
    say_to(&mut std::io::stdout().lock(), text)
}

/// Shows JSON.
pub(super) fn say_json(value: &serde_json::Value) -> Exit {
    say(&format!("{value:#}\n"))
}

/// Says what went wrong.
pub(crate) fn complain(error: &dyn Display) {
    complain_aloud(&format!("tollgate: {error}\n"));
}

/// Says what went wrong in whole lines.
pub(super) fn complain_aloud(text: &str) {
    // Nothing can be done about a standard error that is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn say_to(out: &mut impl Write, text: &str) -> Exit {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => Exit::Success,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => {
            complain(&format_args!("standard output cannot be written: {error}"));
            Exit::Failure
        }
    }
}
