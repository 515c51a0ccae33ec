//! Rows as a Parquet file: typed columns, in groups of bounded size.

use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use super::columns::{Column, Holds};

/// A group is written once it holds this many rows,
const GROUP_ROWS: usize = 10_000;

/// or this many bytes of text: a row may be long.
const GROUP_BYTES: usize = 16 << 20;

/// A file that is being written. Without its end, which [`ParquetFile::end`] writes, no reader takes it.
pub(super) struct ParquetFile<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Waiting>,
    rows: usize,
    bytes: usize,
}

/// The values of a column that wait for their group.
struct Waiting {
    name: &'static str,
    values: Values,
    /// For every row whether there is a value, as Parquet counts it; nothing where there always is one.
    present: Option<Vec<i16>>,
}

enum Values {
    Number(Vec<i64>),
    Time(Vec<i64>),
    Text(Vec<ByteArray>),
    Json(Vec<ByteArray>),
}

impl<W: Write + Send> ParquetFile<W> {
    pub(super) fn new<R>(output: W, columns: &[Column<R>]) -> io::Result<Self> {
        let fields: Vec<String> = columns.iter().map(field).collect();
        let schema = parse_message_type(&format!("message rows {{ {} }}", fields.join(" "))).map_err(unwritten)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(output, Arc::new(schema), Arc::new(properties)).map_err(unwritten)?;
        Ok(Self { file, columns: columns.iter().map(Waiting::of).collect(), rows: 0, bytes: 0 })
    }

    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = Value>) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += column.add(cell)?;
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.finish().map_err(unwritten)?;
        self.file.inner_mut().flush()
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(unwritten)?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column().map_err(unwritten)? else { break };
            let present = column.present.as_deref();
            match (&column.values, writer.untyped()) {
                (Values::Number(values) | Values::Time(values), ColumnWriter::Int64ColumnWriter(to)) => {
                    to.write_batch(values, present, None)
                }
                (Values::Text(values) | Values::Json(values), ColumnWriter::ByteArrayColumnWriter(to)) => {
                    to.write_batch(values, present, None)
                }
                _ => Err(ParquetError::General("a column is of another type than its values".into())),
            }
            .map_err(unwritten)?;
            writer.close().map_err(unwritten)?;
            column.clear();
        }
        group.close().map_err(unwritten)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Waiting {
    fn of<R>(column: &Column<R>) -> Self {
        let values = match column.holds {
            Holds::Number => Values::Number(Vec::new()),
            Holds::Time => Values::Time(Vec::new()),
            Holds::Text => Values::Text(Vec::new()),
            Holds::Json => Values::Json(Vec::new()),
        };
        Self { name: column.name, values, present: column.is_nullable.then(Vec::new) }
    }

    /// Takes a cell in, and says how many bytes of text it holds.
    fn add(&mut self, cell: Value) -> io::Result<usize> {
        match &mut self.present {
            Some(present) => present.push(i16::from(!cell.is_null())),
            None if cell.is_null() => return Err(io::Error::other(format!("a row has no {}", self.name))),
            None => {}
        }
        if cell.is_null() {
            return Ok(0);
        }
        match &mut self.values {
            // Databases hold larger numbers as the largest, too.
            Values::Number(values) => values.push(cell.as_i64().unwrap_or(i64::MAX)),
            Values::Time(values) => {
                let time: Timestamp = cell.as_str().unwrap_or_default().parse().map_err(io::Error::other)?;
                values.push(time.as_microsecond());
            }
            Values::Text(values) => return Ok(push(values, if let Value::String(text) = cell { text } else { cell.to_string() })),
            Values::Json(values) => return Ok(push(values, cell.to_string())),
        }
        Ok(0)
    }

    fn clear(&mut self) {
        self.present.iter_mut().for_each(Vec::clear);
        match &mut self.values {
            Values::Number(values) | Values::Time(values) => values.clear(),
            Values::Text(values) | Values::Json(values) => values.clear(),
        }
    }
}

/// A column in the words of Parquet's schemas.
fn field<R>(column: &Column<R>) -> String {
    let repetition = if column.is_nullable { "OPTIONAL" } else { "REQUIRED" };
    let name = column.name;
    match column.holds {
        Holds::Number => format!("{repetition} INT64 {name};"),
        Holds::Time => format!("{repetition} INT64 {name} (TIMESTAMP(MICROS,true));"),
        Holds::Text => format!("{repetition} BYTE_ARRAY {name} (STRING);"),
        Holds::Json => format!("{repetition} BYTE_ARRAY {name} (JSON);"),
    }
}

fn push(values: &mut Vec<ByteArray>, text: String) -> usize {
    let bytes = text.len();
    values.push(text.into_bytes().into());
    bytes
}

/// A reader that left is told apart from a disk that is full by what the system said.
fn unwritten(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
