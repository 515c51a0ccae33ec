//! From the tree of settings into typed sections, finding every wrong key and value rather than only the first.

use std::fmt::{self, Display};

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::errors::Errors;
use super::layers::{Node, Origin, Table, Value, parse_value};

/// Reads the whole tree. What cannot be read is reported, replaced by the built-in value (or left out where there is
/// none), and the tree is read again, so that one run finds everything. `None` when not even that helped.
pub(super) fn read<T: for<'de> Deserialize<'de>>(tree: &Table, built_in: &Table, errors: &mut Errors) -> Option<T> {
    let mut root = Node { origin: Origin::BuiltIn, value: Value::Table(tree.clone()) };
    let defaults = Node { origin: Origin::BuiltIn, value: Value::Table(built_in.clone()) };
    let mut failed: Vec<Vec<Step>> = Vec::new();
    loop {
        let error = match T::deserialize(root.clone()) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let steps: Vec<Step> = error.steps.iter().rev().cloned().collect();
        let attempt = failed.iter().filter(|earlier| **earlier == steps).count();
        if attempt == 0 {
            errors.unreadable(&path(&steps), error.message);
        }
        if steps.is_empty() || attempt > 1 {
            return None;
        }
        replace(&mut root, &steps, if attempt == 0 { find(&defaults, &steps) } else { None }, attempt);
        failed.push(steps);
    }
}

/// The keys that the table at the top (`None`) or a section of it allows.
pub(super) fn keys<T: for<'de> Deserialize<'de>>(section: Option<&str>) -> &'static [&'static str] {
    let node = |value| Node { origin: Origin::BuiltIn, value };
    let table = |key: &str, value| Value::Table(Table::from([(key.to_owned(), node(value))]));
    // No key is called `?`, so that the refusal names those that are allowed. A section is a table or a list of them.
    let probes = match section {
        None => vec![table("?", Value::Boolean(true))],
        Some(section) => {
            let inner = table("?", Value::Boolean(true));
            vec![table(section, inner.clone()), table(section, Value::List(vec![node(inner)]))]
        }
    };
    probes.into_iter().find_map(|probe| T::deserialize(node(probe)).err().and_then(|error| error.allowed)).unwrap_or_default()
}

/// One step of a path into the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => path = format!("{path}.{key}"),
            Step::Index(index) => path = format!("{path}[{index}]"),
        }
    }
    path
}

fn find<'tree>(node: &'tree Node, steps: &[Step]) -> Option<&'tree Node> {
    steps.iter().try_fold(node, |node, step| match (&node.value, step) {
        (Value::Table(table), Step::Key(key)) => table.get(key),
        _ => None,
    })
}

/// Puts `substitute` where the unreadable value was. Without one a key is left out; an entry of a list becomes an empty
/// table at the first attempt, since its other checks still name its number, and is passed over at the second.
fn replace(root: &mut Node, steps: &[Step], substitute: Option<&Node>, attempt: usize) {
    let Some((last, parents)) = steps.split_last() else { return };
    let mut node = root;
    for step in parents {
        expand(node);
        let next = match (&mut node.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key),
            (Value::List(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => return,
        }
    }
    expand(node);
    match (&mut node.value, last, substitute) {
        (Value::Table(table), Step::Key(key), Some(substitute)) => {
            table.insert(key.clone(), substitute.clone());
        }
        (Value::Table(table), Step::Key(key), None) => {
            table.remove(key);
        }
        (Value::List(items), Step::Index(index), _) => {
            if let Some(item) = items.get_mut(*index) {
                item.value = if attempt == 0 { Value::Table(Table::new()) } else { Value::Unreadable };
            }
        }
        _ => node.value = Value::Unreadable,
    }
}

/// Makes entries of a list that came as the text of a variable, so that one of them can be replaced.
fn expand(node: &mut Node) {
    if let Value::Untyped(text) = &node.value
        && let Ok(items) = listed(text, &node.origin)
    {
        node.value = Value::List(items);
    }
}

/// Why a value could not be read. Never holds a value that may be secret: only texts that the caller's own types chose
/// to show.
#[derive(Debug)]
pub(super) struct ReadError {
    /// From the value outwards.
    steps: Vec<Step>,
    message: String,
    /// The keys that would have been allowed, when one was not.
    allowed: Option<&'static [&'static str]>,
}

impl ReadError {
    fn new(message: String) -> Self {
        Self { steps: Vec::new(), message, allowed: None }
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "text",
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        match unexpected {
            Unexpected::Unsigned(number) => Self::new(format!("{number} is too large")),
            Unexpected::Signed(number) => Self::new(format!("{number} is out of range")),
            _ => Self::new("is out of range".to_owned()),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("\"{variant}\" is not known; allowed: {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("unknown key; allowed here: {}", expected.join(", "));
        Self { steps: vec![Step::Key(field.to_owned())], message, allowed: Some(expected) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("missing".to_owned()).within(Step::Key(field.to_owned()))
    }
}

impl Value {
    fn found(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Untyped(_) => "text",
            Self::Integer(_) => "a number",
            Self::Decimal(_) => "a number with a point",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Unreadable => "nothing",
        }
    }
}

impl Node {
    fn mismatch(&self, expected: &str) -> ReadError {
        ReadError::new(format!("expected {expected}, found {}", self.value.found()))
    }

    fn whole_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let number = match &self.value {
            Value::Integer(number) => Some(*number),
            Value::Untyped(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        match number.map(u64::try_from) {
            Some(Ok(number)) => visitor.visit_u64(number),
            Some(Err(_)) => Err(ReadError::new("expected a whole number, found a negative one".to_owned())),
            None => Err(self.mismatch("a whole number")),
        }
    }

    fn text(self) -> Result<String, ReadError> {
        match self.value {
            Value::Text(text) | Value::Untyped(text) => Ok(text),
            _ => Err(self.mismatch("text in quotes")),
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.whole_number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Text(text) | Value::Untyped(text) | Value::Decimal(text) => visitor.visit_string(text),
            Value::Integer(number) => match u64::try_from(number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(number),
            },
            Value::Boolean(truth) => visitor.visit_bool(truth),
            Value::List(items) => visitor.visit_seq(Items { items: items.into_iter().enumerate() }),
            Value::Table(table) => visitor.visit_map(Entries { entries: table.into_iter(), value: None }),
            Value::Date | Value::Unreadable => Err(self.mismatch("text or a number")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.value {
            Value::Boolean(truth) => visitor.visit_bool(*truth),
            Value::Untyped(text) => match text.trim() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => Err(self.mismatch("true or false")),
            },
            _ => Err(self.mismatch("true or false")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Node { origin, value } = self;
        let items = match value {
            Value::List(items) => items,
            Value::Untyped(text) => listed(&text, &origin)?,
            value => return Err(Node { origin, value }.mismatch("a list in brackets")),
        };
        visitor.visit_seq(Items { items: items.into_iter().enumerate() })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Table(table) => visitor.visit_map(Entries { entries: table.into_iter(), value: None }),
            _ => Err(self.mismatch("a table of keys")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_enum(IntoDeserializer::<ReadError>::into_deserializer(text)),
            _ => Err(self.mismatch(&format!("one of: {}", variants.join(", ")))),
        }
    }

    whole_numbers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list as a variable of the environment says it: a TOML list, or words with commas between them.
fn listed(text: &str, origin: &Origin) -> Result<Vec<Node>, ReadError> {
    if text.trim_start().starts_with('[') {
        return match parse_value(text.trim(), origin) {
            Some(Node { value: Value::List(items), .. }) => Ok(items),
            _ => Err(ReadError::new("expected a list such as [\"a\", \"b\"], found something that is no TOML".to_owned())),
        };
    }
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Ok(words.map(|word| Node { origin: origin.clone(), value: Value::Untyped(word.to_owned()) }).collect())
}

struct Items<I> {
    items: I,
}

impl<'de, I: Iterator<Item = (usize, Node)>> SeqAccess<'de> for Items<I> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        match self.items.find(|(_, item)| !matches!(item.value, Value::Unreadable)) {
            Some((index, item)) => seed.deserialize(item).map(Some).map_err(|error| error.within(Step::Index(index))),
            None => Ok(None),
        }
    }
}

struct Entries<I> {
    entries: I,
    value: Option<(String, Node)>,
}

impl<'de, I: Iterator<Item = (String, Node)>> MapAccess<'de> for Entries<I> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        let key: StringDeserializer<ReadError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some((key, value)) => seed.deserialize(value).map_err(|error| error.within(Step::Key(key))),
            None => Err(ReadError::new("a value was read before its key".to_owned())),
        }
    }
}
