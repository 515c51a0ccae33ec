//! `[api_keys]`: keys of members for their own programs.

use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::Deserializer;

use super::values::{at_least_one, bounded};

/// The longest a key may be allowed to last, in days: ten years.
const MOST_DAYS: usize = 3_650;

/// The most keys that a member may be allowed.
const MOST_KEYS: usize = 1_000;

/// What keys members may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// Whether there are any: otherwise none is made, and none is good.
    pub enabled: bool,
    /// How many days a key lasts at most, and where nobody says how long.
    #[serde(deserialize_with = "days")]
    pub longest_days: u32,
    /// How many a member may have.
    #[serde(deserialize_with = "keys")]
    pub per_member: u32,
}

impl ApiKeySettings {
    /// How long a key lasts at most.
    pub fn longest(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.longest_days))
    }
}

fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    at_most(at_least_one(deserializer)?, MOST_DAYS)
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    at_most(at_least_one(deserializer)?, MOST_KEYS)
}

fn at_most<E: serde::de::Error>(number: u64, most: usize) -> Result<u32, E> {
    bounded(number, most).and_then(|number| u32::try_from(number).map_err(E::custom))
}
