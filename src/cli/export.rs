//! `tollgate usage export` and `tollgate audit export`: rows of a span, one after the other, in constant memory.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::ledger::{self, Noted, Opened};
use super::parquet_file::{ParquetFile, Table};
use super::say::complain_aloud;
use super::{Exit, Source, failed, spreadsheet, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::identity::Org;
use crate::records::ledger::{PAGE, Place, Rated, Span};
use crate::records::{ReadError, StoredAudit};

/// How often a terminal is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// How wide the bar is, in cells.
const BAR: usize = 30;

/// What a file of rows looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Comma-separated values with a line of names, safe to open in a spreadsheet.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Typed columns, for tools that analyse.
    Parquet,
}

/// Which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// What was used.
    Usage,
    /// Who did what.
    Audit,
}

/// What is to be exported, and where to.
#[derive(Debug, Clone)]
pub struct ExportAsked {
    /// Which rows.
    pub what: Exported,
    /// The org's id; every row where it is left out, in UTC.
    pub org: Option<String>,
    /// The first day, in the org's calendar.
    pub from: String,
    /// The last day.
    pub to: String,
    /// What the file looks like.
    pub format: ExportFormat,
    /// The file; standard output where it is left out.
    pub output: Option<PathBuf>,
}

/// The names of the columns of usage rows. `corrections_nanousd` is what later corrections add to the cost.
const USAGE: [&str; 26] = [
    "id",
    "time",
    "generation_id",
    "org_id",
    "member_id",
    "org_day",
    "org_month",
    "endpoint",
    "model",
    "agent_id",
    "conversation_id",
    "messages",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "total_tokens",
    "cost_nanousd",
    "corrections_nanousd",
    "price_version",
    "usage_source",
    "estimate_tokens",
    "status",
    "time_to_first_token_ms",
    "duration_ms",
    "request_id",
];

/// The names of the columns of audit rows.
const AUDIT: [&str; 29] = [
    "id",
    "time",
    "category",
    "severity",
    "org_id",
    "org_day",
    "actor_id",
    "actor_name",
    "actor_role",
    "action",
    "resource_type",
    "resource_id",
    "outcome",
    "request_id",
    "method",
    "path",
    "query",
    "status",
    "duration_ms",
    "error",
    "address",
    "user_agent",
    "conversation_id",
    "model",
    "total_tokens",
    "cost_nanousd",
    "count",
    "reference",
    "detail",
];

const USAGE_TABLE: Table = Table {
    numbers: &[
        "messages",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "total_tokens",
        "cost_nanousd",
        "corrections_nanousd",
        "estimate_tokens",
        "time_to_first_token_ms",
        "duration_ms",
    ],
    nullable: &["agent_id", "conversation_id", "time_to_first_token_ms"],
};

const AUDIT_TABLE: Table = Table {
    numbers: &["status", "duration_ms", "total_tokens", "cost_nanousd", "count"],
    nullable: &[
        "org_id",
        "org_day",
        "actor_id",
        "actor_name",
        "actor_role",
        "resource_type",
        "resource_id",
        "request_id",
        "method",
        "path",
        "query",
        "status",
        "duration_ms",
        "error",
        "address",
        "user_agent",
        "conversation_id",
        "model",
        "total_tokens",
        "cost_nanousd",
        "reference",
        "detail",
    ],
};

fn usage_cells(Rated { row, corrected_by, .. }: &Rated) -> [Value; 26] {
    [
        json!(row.id),
        json!(row.time.to_string()),
        json!(row.generation_id),
        json!(&*row.org_id),
        json!(&*row.member_id),
        json!(row.org_day),
        json!(row.org_month),
        json!(row.endpoint),
        json!(row.model),
        json!(row.agent_id),
        json!(row.conversation_id),
        json!(row.messages),
        json!(row.input_tokens),
        json!(row.output_tokens),
        json!(row.cache_read_tokens),
        json!(row.cache_write_tokens),
        json!(row.total_tokens),
        json!(row.cost_nanousd),
        json!(corrected_by),
        json!(&*row.price_version),
        json!(row.usage_source),
        json!(row.estimate_tokens),
        json!(row.status),
        json!(row.time_to_first_token_ms),
        json!(row.duration_ms),
        json!(&*row.request_id),
    ]
}

fn audit_cells(row: &StoredAudit) -> [Value; 29] {
    [
        json!(row.id),
        json!(row.time.to_string()),
        json!(row.category.as_str()),
        json!(row.severity.as_str()),
        json!(row.org_id.as_deref()),
        json!(row.org_day),
        json!(row.actor_id.as_deref()),
        json!(row.actor_name.as_deref()),
        json!(row.actor_role.as_deref()),
        json!(row.action),
        json!(row.resource_type),
        json!(row.resource_id),
        json!(row.outcome.as_str()),
        json!(row.request_id.as_deref()),
        json!(row.method),
        json!(row.path),
        json!(row.query),
        json!(row.status),
        json!(row.duration_ms),
        json!(row.error),
        json!(row.address),
        json!(row.user_agent),
        json!(row.conversation_id),
        json!(row.model),
        json!(row.total_tokens),
        json!(row.cost_nanousd),
        json!(row.count),
        json!(row.reference),
        json!(row.detail),
    ]
}

/// `tollgate usage export` and `tollgate audit export`.
pub fn export(source: &Source, asked: &ExportAsked) -> Exit {
    let config = match source.load_without_secret() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let org = match &asked.org {
        Some(id) => match ledger::org_of(&config, id) {
            Some(org) => Some(org),
            None => return Exit::Configuration,
        },
        None => None,
    };
    let Some(span) = ledger::span_of(org.as_ref(), &asked.from, &asked.to) else { return Exit::Configuration };
    wait_for(async move {
        let opened = match Opened::open(&config).await {
            Ok(opened) => opened,
            Err(reason) => return failed(&reason),
        };
        let written = write_all(&opened, asked, org.as_ref(), &span).await;
        opened.close().await;
        match written {
            Ok(rows) => {
                if let Some(file) = &asked.output {
                    complain_aloud(&format!("{rows} rows are in {}.\n", file.display()));
                }
                Exit::Success
            }
            // A reader that left has what it wanted.
            Err(Unwritten::ReaderLeft) => Exit::Success,
            Err(Unwritten::Failed(reason)) => failed(&reason),
        }
    })
}

/// Why rows were not written.
enum Unwritten {
    /// Nobody reads standard output any more.
    ReaderLeft,
    Failed(String),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderLeft,
            _ => Self::Failed(format!("the rows cannot be written: {error}")),
        }
    }
}

impl From<ReadError> for Unwritten {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Writes every row. The file has its name only once it is whole.
async fn write_all(opened: &Opened, asked: &ExportAsked, org: Option<&Org>, span: &Span) -> Result<u64, Unwritten> {
    let (action, kind) = match asked.what {
        Exported::Usage => ("usage.exported", "usage"),
        Exported::Audit => ("audit.exported", "audit"),
    };
    let which = format!("{} to {}", asked.from, asked.to);
    let noted = Noted { action, org, kind, which, detail: None };
    opened.note(noted, SystemClock.now()).await.map_err(Unwritten::Failed)?;
    let Some(file) = &asked.output else {
        return write_to(io::stdout(), opened, asked, span).await;
    };
    let unwritable = |error: io::Error| Unwritten::Failed(format!("{} cannot be written: {error}", file.display()));
    let unfinished = unfinished(file);
    let output = File::create(&unfinished).map_err(unwritable)?;
    let written = write_to(output, opened, asked, span).await;
    match &written {
        Ok(_) => std::fs::rename(&unfinished, file).map_err(unwritable)?,
        // What is left of it is of no use to anyone.
        Err(_) => drop(std::fs::remove_file(&unfinished)),
    }
    written
}

/// What a file is called until it is whole.
fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

async fn write_to(output: impl Write + Send, opened: &Opened, asked: &ExportAsked, span: &Span) -> Result<u64, Unwritten> {
    let total = match asked.what {
        Exported::Usage => opened.ledger.count_usage(span).await,
        Exported::Audit => opened.ledger.count_audit(span).await,
    };
    let mut progress = Progress::new(total?);
    let mut after = Place::before(span);
    let mut rows = match asked.what {
        Exported::Usage => Rows::begin(output, asked.format, &USAGE, &USAGE_TABLE)?,
        Exported::Audit => Rows::begin(output, asked.format, &AUDIT, &AUDIT_TABLE)?,
    };
    loop {
        let mut last = None;
        let mut written = 0;
        match asked.what {
            Exported::Usage => {
                for rated in opened.ledger.usage_page(span, after).await? {
                    rows.add(&USAGE, usage_cells(&rated))?;
                    last = Some(Place { time: rated.row.time, id: rated.row.id });
                    written += 1;
                }
            }
            Exported::Audit => {
                for row in opened.ledger.audit_page(span, after).await? {
                    rows.add(&AUDIT, audit_cells(&row))?;
                    last = Some(Place { time: row.time, id: row.id });
                    written += 1;
                }
            }
        }
        progress.add(written as u64);
        match last {
            Some(place) if written == PAGE => after = place,
            _ => break,
        }
    }
    rows.end()?;
    progress.end();
    Ok(progress.rows)
}

/// Rows on their way to a file.
enum Rows<W: Write + Send> {
    Csv(BufWriter<W>),
    Ndjson(BufWriter<W>),
    Parquet(Box<ParquetFile<W>>),
}

impl<W: Write + Send> Rows<W> {
    fn begin(output: W, format: ExportFormat, names: &[&'static str], table: &Table) -> io::Result<Self> {
        Ok(match format {
            ExportFormat::Csv => {
                let mut output = BufWriter::new(output);
                output.write_all(spreadsheet::line(names).as_bytes())?;
                Self::Csv(output)
            }
            ExportFormat::Ndjson => Self::Ndjson(BufWriter::new(output)),
            ExportFormat::Parquet => Self::Parquet(Box::new(ParquetFile::new(output, names, table)?)),
        })
    }

    fn add<const COLUMNS: usize>(&mut self, names: &[&'static str; COLUMNS], cells: [Value; COLUMNS]) -> io::Result<()> {
        match self {
            Self::Csv(output) => output.write_all(spreadsheet::line(cells.iter().map(cell)).as_bytes()),
            Self::Ndjson(output) => {
                let row: Map<String, Value> = names.iter().map(|name| (*name).to_owned()).zip(cells).collect();
                serde_json::to_writer(&mut *output, &row)?;
                output.write_all(b"\n")
            }
            Self::Parquet(file) => file.add(cells),
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::Csv(mut output) | Self::Ndjson(mut output) => output.flush(),
            Self::Parquet(file) => file.end(),
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => spreadsheet::text(text),
        Value::Number(number) => number.to_string(),
        other => spreadsheet::text(&other.to_string()),
    }
}

/// How far it is, for whoever waits at a terminal.
struct Progress {
    rows: u64,
    total: u64,
    told: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self { rows: 0, total, told: None, is_terminal: io::stderr().is_terminal() }
    }

    fn add(&mut self, rows: u64) {
        self.rows += rows;
        if self.is_terminal && self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            complain_aloud(&format!("\r{}", self.bar()));
        }
    }

    fn bar(&self) -> String {
        let Self { rows, total, .. } = *self;
        let done = rows.min(total).saturating_mul(BAR as u64).checked_div(total).unwrap_or(BAR as u64);
        let done = usize::try_from(done).unwrap_or(BAR);
        format!("[{}{}] {rows} of {total} rows", "#".repeat(done), " ".repeat(BAR - done))
    }

    fn end(&self) {
        if self.is_terminal && self.told.is_some() {
            complain_aloud(&format!("\r{}\n", self.bar()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_and_never_overflows() {
        let bar = |rows, total| Progress { rows, total, told: None, is_terminal: false }.bar();
        assert_eq!(bar(0, 0), format!("[{}] 0 of 0 rows", "#".repeat(30)));
        assert_eq!(bar(5, 10), format!("[{}{}] 5 of 10 rows", "#".repeat(15), " ".repeat(15)));
        assert!(bar(11, 10).starts_with(&format!("[{}]", "#".repeat(30))), "rows may be written meanwhile");
    }
}
