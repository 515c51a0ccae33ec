//! The layers of settings, laid over each other as one tree whose every value knows where it was written.
//!
//! TOML is read with `toml_edit` rather than into `f64`s, so that `usd_per_day = 5.10` arrives as the digits that were
//! typed. The types below have no `Debug`: they hold secrets that nothing has wrapped yet.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml_edit::{Document, Item};

/// Where a value was written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the defaults that are part of the binary.
    BuiltIn,
    /// In the operator's file.
    File {
        /// The file's name, as it was given.
        name: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
    /// In a variable of the environment.
    Variable(Arc<str>),
}

/// One value and where it was written.
#[derive(Clone)]
pub(super) struct Node {
    pub origin: Origin,
    pub value: Value,
}

/// The keys of a table.
pub(super) type Table = BTreeMap<String, Node>;

/// What TOML can say, and what a variable of the environment can.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    /// A number with a point or an exponent, as its literal text.
    Decimal(String),
    Boolean(bool),
    Date,
    /// Text of an environment variable, whose type is decided by the setting it is for.
    Untyped(String),
    List(Vec<Node>),
    Table(Table),
    /// An entry of a list that could not be read; it keeps its place so that later entries keep their numbers.
    Unreadable,
}

/// Why a text is not TOML. Holds no piece of the text, which may be a secret.
pub(super) struct NotToml {
    pub message: String,
    pub line: Option<usize>,
}

/// Reads a whole TOML document. `origin` makes the origin of a value from its line.
pub(super) fn parse(text: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Table, NotToml> {
    let document = Document::parse(text).map_err(|error| NotToml {
        // The first line of the message says what was expected; what follows it quotes the file.
        message: error.message().lines().next().unwrap_or_default().to_owned(),
        line: error.span().map(|span| line_of(text, span.start)),
    })?;
    let reader = Reader { text, origin };
    Ok(reader.table(document.as_table().iter(), 1))
}

/// Reads one TOML value, as a variable of the environment may hold for a list or table.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let mut table = parse(&format!("value = {text}"), &|_| origin.clone()).ok()?;
    // A line break in the text could smuggle in further keys.
    if table.len() == 1 { table.remove("value") } else { None }
}

/// Lays `upper` over `lower`: tables merge, everything else replaces. A secret that is given directly replaces the
/// file that the layer below names for it, and the other way round.
pub(super) fn merge(lower: &mut Table, upper: Table) {
    for key in upper.keys() {
        match key.strip_suffix("_file") {
            Some(direct) => lower.remove(direct),
            None => lower.remove(&format!("{key}_file")),
        };
    }
    for (key, node) in upper {
        match (lower.get_mut(&key), node) {
            (Some(Node { origin, value: Value::Table(below) }), Node { origin: above_origin, value: Value::Table(above) }) => {
                *origin = above_origin;
                merge(below, above);
            }
            (_, node) => {
                lower.insert(key, node);
            }
        }
    }
}

/// Where the value at `path` was written, or the nearest table around it: `limits[2].member`.
pub(super) fn origin_of<'tree>(tree: &'tree Table, path: &str) -> Option<&'tree Origin> {
    let mut table = Some(tree);
    let mut found = None;
    for part in path.split('.') {
        let (key, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((key, index)) => (key, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(mut node) = table.and_then(|table| table.get(key)) else { break };
        if let (Value::List(items), Some(index)) = (&node.value, index) {
            node = items.get(index).unwrap_or(node);
        }
        found = Some(&node.origin);
        table = match &node.value {
            Value::Table(table) => Some(table),
            _ => None,
        };
    }
    found
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Turns `toml_edit`'s tree into ours.
struct Reader<'a> {
    text: &'a str,
    origin: &'a dyn Fn(usize) -> Origin,
}

impl Reader<'_> {
    fn table<'item>(&self, items: impl Iterator<Item = (&'item str, &'item Item)>, line: usize) -> Table {
        items.filter_map(|(key, item)| Some((key.to_owned(), self.item(item, line)?))).collect()
    }

    fn item(&self, item: &Item, parent: usize) -> Option<Node> {
        let line = self.line(item.span(), parent);
        let value = match item {
            Item::None => return None,
            Item::Value(value) => return Some(self.value(value, line)),
            Item::Table(table) => Value::Table(self.table(table.iter(), line)),
            Item::ArrayOfTables(tables) => Value::List(
                tables
                    .iter()
                    .map(|table| {
                        let line = self.line(table.span(), line);
                        Node { origin: (self.origin)(line), value: Value::Table(self.table(table.iter(), line)) }
                    })
                    .collect(),
            ),
        };
        Some(Node { origin: (self.origin)(line), value })
    }

    fn value(&self, value: &toml_edit::Value, parent: usize) -> Node {
        let line = self.line(value.span(), parent);
        let read = match value {
            toml_edit::Value::String(text) => Value::Text(text.value().clone()),
            toml_edit::Value::Integer(number) => Value::Integer(*number.value()),
            toml_edit::Value::Float(number) => {
                Value::Decimal(number.span().and_then(|span| self.text.get(span)).unwrap_or("unreadable").to_owned())
            }
            toml_edit::Value::Boolean(truth) => Value::Boolean(*truth.value()),
            toml_edit::Value::Datetime(_) => Value::Date,
            toml_edit::Value::Array(items) => Value::List(items.iter().map(|item| self.value(item, line)).collect()),
            toml_edit::Value::InlineTable(table) => {
                Value::Table(table.iter().map(|(key, value)| (key.to_owned(), self.value(value, line))).collect())
            }
        };
        Node { origin: (self.origin)(line), value: read }
    }

    fn line(&self, span: Option<Range<usize>>, parent: usize) -> usize {
        span.map_or(parent, |span| line_of(self.text, span.start))
    }
}
