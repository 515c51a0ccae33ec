//! The log: text for people, JSON lines for machines, on standard error.
//!
//! A line reads alone. Fields have the same dotted names everywhere: `request.id`, `org.id`, `route`, `generation.id`,
//! `conversation.id`, `model`, `http.method`, `http.status`, `error`. A failure is logged once, where it is handled. No
//! bodies, tokens, e-mail addresses or ids of people, with one exception: a usage row that no database took is logged
//! whole, since the log is then its only copy.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use tracing::Level;
use tracing_subscriber::filter::{FilterExt, Targets, dynamic_filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::log_files::{LineWriter, LogFiles};

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
///
/// What it answers can send the same lines, as JSON, into log files as well.
pub fn install(format: Format, level: Level) -> Result<AlsoToFiles, LogError> {
    let colours = std::io::stderr().is_terminal();
    let also = AlsoToFiles::default();
    let layers = vec![lines(format, filter(level), colours, std::io::stderr), also.lines(filter(level))];
    tracing_subscriber::registry().with(layers).try_init().map_err(|error| LogError(error.to_string()))?;
    Ok(also)
}

/// Sends the process's own log into log files too, once there are any.
#[derive(Debug, Clone, Default)]
pub struct AlsoToFiles(Arc<OnceLock<LogFiles>>);

impl AlsoToFiles {
    /// From now on into these files. Only the first ones count.
    pub fn send_to(&self, files: LogFiles) {
        let _ = self.0.set(files);
    }

    fn lines(&self, filter: Targets) -> Box<dyn Layer<Registry> + Send + Sync> {
        let set = self.0.clone();
        // Whether there are files is asked for every line: nothing is put into words for none.
        let filter = filter.and(dynamic_filter_fn(move |_, _| set.get().is_some()));
        json_lines().with_writer(self.clone()).with_filter(filter).boxed()
    }
}

impl<'writer> MakeWriter<'writer> for AlsoToFiles {
    type Writer = OptionalWriter<LineWriter>;

    fn make_writer(&'writer self) -> Self::Writer {
        self.0.get().map_or_else(OptionalWriter::none, |files| OptionalWriter::some(files.make_writer()))
    }
}

fn filter(level: Level) -> Targets {
    Targets::new().with_default(level.min(Level::WARN)).with_target("tollgate", level)
}

fn lines<W>(format: Format, filter: Targets, colours: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    match format {
        Format::Text => fmt::layer().with_writer(writer).with_ansi(colours).with_filter(filter).boxed(),
        Format::Json => json_lines().with_writer(writer).with_filter(filter).boxed(),
    }
}

fn json_lines() -> fmt::Layer<Registry, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json>> {
    fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::telemetry::log_files;

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
        let layer = super::lines(format, filter(level), false, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
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

    #[test]
    fn lines_go_to_files_once_there_are_some() {
        let folder = tempfile::tempdir().unwrap();
        let settings = log_files::Settings { folder: folder.path().to_owned(), zone: jiff::tz::TimeZone::UTC, keep: 1 };
        let clock = crate::clock::ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let also = AlsoToFiles::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(also.lines(filter(Level::INFO))), || {
            let warn = |number: u32| tracing::warn!(number, "line");
            warn(1);
            let files = LogFiles::start(settings, clock).unwrap();
            also.send_to(files.clone());
            warn(2);
            tracing::debug!("detail");
            assert!(files.close(std::time::Duration::from_secs(20)));
        });
        let text = std::fs::read_to_string(folder.path().join("tollgate-1970-01-01.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["number"].as_u64()).collect::<Vec<_>>(), [Some(2)], "{text}");
    }
}
