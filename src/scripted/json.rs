//! JSON with its keys in the order LibreChat writes them, which `serde_json`'s sorted maps would lose.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// An object whose keys stay in the order they were given.
#[derive(Debug, Clone, Default)]
pub struct Object(Vec<(&'static str, Node)>);

/// Anything an [`Object`] can hold.
#[derive(Debug, Clone)]
pub enum Node {
    /// An object in order.
    Object(Object),
    /// A list.
    List(Vec<Node>),
    /// Anything else; objects in here are sorted.
    Value(Value),
}

impl Object {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more key.
    #[must_use]
    pub fn put(mut self, key: &'static str, value: impl Into<Node>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// With one more key if there is a value for it.
    #[must_use]
    pub fn put_some(self, key: &'static str, value: Option<impl Into<Node>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// Without a key, here and in the objects within.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.retain(|(name, _)| *name != key);
        for (_, value) in &mut self.0 {
            if let Node::Object(object) = value {
                *object = std::mem::take(object).without(key);
            }
        }
        self
    }

    /// As one line of JSON.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(object) => object.serialize(serializer),
            Self::List(list) => list.serialize(serializer),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl From<Object> for Node {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Vec<Object>> for Node {
    fn from(list: Vec<Object>) -> Self {
        Self::List(list.into_iter().map(Self::Object).collect())
    }
}

impl From<Vec<Node>> for Node {
    fn from(list: Vec<Node>) -> Self {
        Self::List(list)
    }
}

/// Everything `serde_json` turns into a value by itself.
macro_rules! from_plain {
    ($($plain:ty),*) => {$(
        impl From<$plain> for Node {
            fn from(plain: $plain) -> Self {
                Self::Value(plain.into())
            }
        }
    )*};
}

from_plain!(Value, &str, String, u64, i64, i32, bool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order() {
        let object =
            Object::new().put("z", 1).put("a", vec![Object::new().put("y", "\"").put("b", Value::Null)]).put_some("c", None::<bool>);
        assert_eq!(object.text(), r#"{"z":1,"a":[{"y":"\"","b":null}]}"#);
    }
}
