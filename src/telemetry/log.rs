//! The log: text for people, JSON lines for machines, on standard error.
//!
//! A line reads alone. Fields have the same dotted names everywhere: `request.id`, `org.id`, `member.id`, `route`,
//! `generation.id`, `conversation.id`, `model`, `http.method`, `http.status`, `error`. A failure is logged once, where it
//! is handled. No bodies, tokens or e-mail addresses.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a word nor directives.
    #[error("the log level {level:?} is none of error, warn, info, debug, trace, and no list of target=level: {reason}")]
    Level {
        /// As it was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log is set up already: {0}")]
    Installed(String),
}

/// Sets up the log of this process, once. `level` is one word (`error`, `warn`, `info`, `debug`, `trace`), which is
/// Tollgate's own level and leaves libraries at `warn`, or directives as `tracing-subscriber` takes them:
/// `info,sqlx=debug`.
pub fn install(format: Format, level: &str) -> Result<(), LogError> {
    let colours = std::io::stderr().is_terminal();
    subscriber(format, filter(level)?, colours, std::io::stderr).try_init().map_err(|error| LogError::Installed(error.to_string()))
}

/// Whether [`install`] would take this level; for the check of a configuration.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(|_| ())
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = |reason: String| LogError::Level { level: level.to_owned(), reason };
    let directives = match level.trim().to_ascii_lowercase().as_str() {
        "error" => "error".to_owned(),
        word @ ("warn" | "info" | "debug" | "trace") => format!("warn,tollgate={word}"),
        // A lone unknown word would be taken as a target and silence everything else.
        word if !word.contains(['=', ',']) => return Err(wrong("unknown word".to_owned())),
        _ => level.to_owned(),
    };
    EnvFilter::try_new(directives).map_err(|error| wrong(error.to_string()))
}

fn subscriber<W>(format: Format, filter: EnvFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => fmt::layer().with_writer(writer).with_ansi(colours).with_filter(filter).boxed(),
        Format::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            lines.with_writer(writer).with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(lines)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(format, filter(level).unwrap(), false, move || writer.clone()), || {
            let _span = tracing::info_span!("admit", request.id = "r1").entered();
            tracing::info!(org.id = "acme", http.status = 429, "refused");
            tracing::info!(target: "sqlx", "chatter of a library");
            tracing::debug!("detail");
        });
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_with_dotted_fields() {
        let text = logged(Format::Json, "info");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "libraries and details are left out: {text}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(line["org.id"], "acme");
        assert_eq!(line["http.status"], 429);
        assert_eq!(line["message"], "refused");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["request.id"], "r1");
        assert_eq!(line["span"]["name"], "admit");
    }

    #[test]
    fn a_text_line_has_the_same_fields_and_no_colours_away_from_a_terminal() {
        let text = logged(Format::Text, "info,sqlx=off");
        assert!(text.contains("org.id=\"acme\" http.status=429"), "{text}");
        assert!(text.contains("admit{request.id=\"r1\"}"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_word_is_our_own_level_and_directives_are_taken_as_they_are() {
        assert_eq!(logged(Format::Text, "debug").lines().count(), 2);
        assert_eq!(logged(Format::Text, "error").lines().count(), 0);
        assert_eq!(logged(Format::Text, "warn,sqlx=info").lines().count(), 1);
    }

    #[test]
    fn a_level_that_means_nothing_is_refused() {
        for level in ["loud", "", "tollgate=loud", "info,=,"] {
            assert!(check_level(level).is_err(), "{level:?} must not be taken");
        }
    }
}
