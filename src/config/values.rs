//! Readers of single values that several sections share. Each error says what is allowed.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error};

use crate::limits::MAX_AMOUNT;

/// Reads a text with the type's own parser, whose error is shown.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    String::deserialize(deserializer)?.trim().parse().map_err(D::Error::custom)
}

/// An address and port to listen on.
pub(super) fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.trim().parse().map_err(|_| {
        D::Error::custom(format!("\"{text}\" is no address with a port; allowed: such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080"))
    })
}

/// Networks such as `10.0.0.0/8`; a bare address stands for itself alone.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|Network(network)| network).collect())
}

struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.trim();
        network.parse().or_else(|_| network.parse::<IpAddr>().map(IpNet::from)).map(Self).map_err(|_| {
            D::Error::custom(format!("\"{text}\" is no network; allowed: such as 127.0.0.1/32, 10.0.0.0/8, fd00::/8 or an address"))
        })
    }
}

/// The longest time a setting may name, so that adding it to an instant cannot overflow: ten years.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Milliseconds, at least one.
pub(super) fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within_ten_years(Duration::from_millis(at_least_one(deserializer)?))
}

/// Seconds, at least one.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within_ten_years(Duration::from_secs(at_least_one(deserializer)?))
}

/// Seconds, or none at all.
pub(super) fn seconds_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within_ten_years(Duration::from_secs(u64::deserialize(deserializer)?))
}

/// Minutes, at least one.
pub(super) fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within_ten_years(Duration::from_secs(at_least_one(deserializer)?.saturating_mul(60)))
}

fn within_ten_years<E: Error>(time: Duration) -> Result<Duration, E> {
    if time > LONGEST { Err(E::custom("longer than ten years")) } else { Ok(time) }
}

/// A whole number of 1 or more.
pub(super) fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    NonZeroU64::new(number).map(NonZeroU64::get).ok_or_else(|| D::Error::custom("0 is not allowed; at least 1"))
}

/// How many of something are kept in memory: 1 to 10 million.
pub(super) fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(at_least_one(deserializer)?, 10_000_000)
}

/// A whole number that is at most `most`.
pub(super) fn bounded<E: Error>(number: u64, most: usize) -> Result<usize, E> {
    usize::try_from(number).ok().filter(|number| *number <= most).ok_or_else(|| E::custom(format!("{number} is too large; at most {most}")))
}

/// An amount that a limit can have.
pub(super) fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(amount) if amount > MAX_AMOUNT => Err(D::Error::custom(format!("{amount} is too large; at most {MAX_AMOUNT} (2^53 - 1)"))),
        amount => Ok(amount),
    }
}
