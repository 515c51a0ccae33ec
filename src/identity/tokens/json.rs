//! Reading JSON strictly: what a lenient reader would let pass, another one behind us could take for something else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::TokenError;

/// Reads a whole text as one object. A member of `T` that stands in it twice is refused.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, TokenError> {
    serde_json::from_str::<Object<T>>(text).map(|object| object.0).map_err(|_| TokenError::BadShape)
}

/// Reads a member that may be absent, but not null.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An object, and nothing else that a struct could be read from, such as an array of its members.
pub(super) struct Object<T>(pub(super) T);

/// Whether a member is there at all, be it null.
#[derive(Default)]
pub(super) struct Presence(bool);

impl Presence {
    /// Whether it is there.
    pub(super) fn is_present(&self) -> bool {
        self.0
    }
}

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}
