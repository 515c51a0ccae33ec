//! `tollgate usage export` and `tollgate audit export`: rows of a span, one after the other, in constant memory.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::columns::{AUDIT, Column, USAGE};
use super::ledger::{self, Noted, Opened};
use super::parquet_file::ParquetFile;
use super::progress::Progress;
use super::say::complain_aloud;
use super::{Exit, Source, failed, spreadsheet, wait_for};
use crate::clock::{Clock as _, SystemClock};
use crate::identity::Org;
use crate::records::ReadError;
use crate::records::ledger::{PAGE, Place, Span};
use crate::records::seal::unseal_rows;

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
    /// Whether audit rows say names, addresses and captured texts, which are sealed otherwise.
    pub unsealed: bool,
}

/// `tollgate usage export` and `tollgate audit export`.
pub fn export(source: &Source, asked: &ExportAsked) -> Exit {
    let config = match source.load_with_orgs() {
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
    let detail = asked.unsealed.then(|| json!({ "unsealed": true }));
    let noted = Noted { action, org, kind, which, detail };
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
    match asked.what {
        Exported::Usage => write_usage(output, opened, asked, span).await,
        Exported::Audit => write_audit(output, opened, asked, span).await,
    }
}

async fn write_usage(output: impl Write + Send, opened: &Opened, asked: &ExportAsked, span: &Span) -> Result<u64, Unwritten> {
    let progress = progress(asked, opened.ledger.count_usage(span).await?);
    let mut rows = Rows::begin(output, asked.format, USAGE)?;
    let mut after = Some(Place::before(span));
    while let Some(place) = after {
        let page = opened.ledger.usage_page(span, place).await?;
        for rated in &page {
            rows.add(rated)?;
        }
        progress.add(page.len());
        let last = page.last().filter(|_| page.len() == PAGE);
        after = last.map(|rated| Place { time: rated.row.time, id: rated.row.id });
    }
    rows.end()?;
    Ok(progress.end())
}

async fn write_audit(output: impl Write + Send, opened: &Opened, asked: &ExportAsked, span: &Span) -> Result<u64, Unwritten> {
    let progress = progress(asked, opened.ledger.count_audit(span).await?);
    let mut rows = Rows::begin(output, asked.format, AUDIT)?;
    let mut after = Some(Place::before(span));
    while let Some(place) = after {
        let mut page = opened.ledger.audit_page(span, place).await?;
        if asked.unsealed {
            unseal_rows(&*opened.member_keys(), &mut page).await?;
        }
        for row in &page {
            rows.add(row)?;
        }
        progress.add(page.len());
        after = page.last().filter(|_| page.len() == PAGE).map(|row| Place { time: row.time, id: row.id });
    }
    rows.end()?;
    Ok(progress.end())
}

/// A bar among the rows themselves would help nobody.
fn progress(asked: &ExportAsked, total: u64) -> Progress {
    if asked.output.is_none() && io::stdout().is_terminal() { Progress::hidden() } else { Progress::of(total) }
}

/// Rows on their way to a file.
struct Rows<W: Write + Send, R: 'static> {
    columns: &'static [Column<R>],
    file: Written<W>,
}

enum Written<W: Write + Send> {
    Csv(BufWriter<W>),
    Ndjson(BufWriter<W>),
    Parquet(Box<ParquetFile<W>>),
}

impl<W: Write + Send, R> Rows<W, R> {
    fn begin(output: W, format: ExportFormat, columns: &'static [Column<R>]) -> io::Result<Self> {
        let file = match format {
            ExportFormat::Csv => {
                let mut output = BufWriter::new(output);
                output.write_all(spreadsheet::line(columns.iter().map(|column| column.name)).as_bytes())?;
                Written::Csv(output)
            }
            ExportFormat::Ndjson => Written::Ndjson(BufWriter::new(output)),
            ExportFormat::Parquet => Written::Parquet(Box::new(ParquetFile::new(output, columns)?)),
        };
        Ok(Self { columns, file })
    }

    fn add(&mut self, row: &R) -> io::Result<()> {
        let cells = self.columns.iter().map(|column| (column.value)(row));
        match &mut self.file {
            Written::Csv(output) => output.write_all(spreadsheet::line(cells.map(|value| cell(&value))).as_bytes()),
            Written::Ndjson(output) => {
                let row: Map<String, Value> = self.columns.iter().map(|column| column.name.to_owned()).zip(cells).collect();
                serde_json::to_writer(&mut *output, &row)?;
                output.write_all(b"\n")
            }
            Written::Parquet(file) => file.add(cells),
        }
    }

    fn end(self) -> io::Result<()> {
        match self.file {
            Written::Csv(mut output) | Written::Ndjson(mut output) => output.flush(),
            Written::Parquet(file) => file.end(),
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
