//! The log: text for people, JSON lines for machines, on standard error.
//!
//! A line reads alone. Fields have the same dotted names everywhere: `request.id`, `org.id`, `route`, `generation.id`,
//! `conversation.id`, `model`, `http.method`, `http.status`, `error`. A failure is logged once, where it is handled. No
//! bodies, tokens, e-mail addresses or ids of people, with one exception: a usage row that no database took is logged
//! whole, since the log is then its only copy.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

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

/// The process has a log already.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up already: {0}")]
pub struct LogError(String);

/// Sets up the log of this process, once. `level` is Tollgate's own and leaves
/// libraries at `warn` at most.
pub fn install(format: Format, level: Level) -> Result<(), LogError> {
    let colours = std::io::stderr().is_terminal();
    subscriber(format, filter(level), colours, std::io::stderr).try_init().map_err(|error| LogError(error.to_string()))
}

fn filter(level: Level) -> Targets {
    Targets::new().with_default(level.min(Level::WARN)).with_target("tollgate", level)
}

fn subscriber<W>(format: Format, filter: Targets, colours: bool, writer: W) -> impl Subscriber + Send + Sync
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

    fn logged(format: Format, level: Level) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(format, filter(level), false, move || writer.clone()), || {
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
        let text = logged(Format::Json, Level::INFO);
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
        let text = logged(Format::Text, Level::INFO);
        assert!(text.contains("org.id=\"acme\" http.status=429"), "{text}");
        assert!(text.contains("admit{request.id=\"r1\"}"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn the_level_is_our_own_and_libraries_stay_at_warnings() {
        assert_eq!(logged(Format::Text, Level::DEBUG).lines().count(), 2);
        assert_eq!(logged(Format::Text, Level::ERROR).lines().count(), 0);
    }
}
