//! Where LibreChat is, looked up beforehand: Pingora would look a name up for each request, on the event loop, and panic
//! where it has no address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::RwLock;

use crate::config::Upstream;

/// How long a lookup may take: health checks of all LibreChats wait for it.
const LOOKED_UP_IN: Duration = Duration::from_secs(1);

/// LibreChat's address.
#[derive(Debug)]
pub struct Address {
    authority: String,
    host: String,
    /// Whether the configuration gives an address and no name.
    is_fixed: bool,
    /// What was found of a name, the one in use first.
    found: RwLock<Vec<SocketAddr>>,
}

impl Address {
    /// The address of this upstream. A name has none before it was looked up.
    pub fn of(upstream: &Upstream) -> Self {
        let fixed = upstream.host().parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, upstream.port()));
        Self {
            authority: upstream.authority(),
            host: upstream.host().to_owned(),
            is_fixed: fixed.is_some(),
            found: RwLock::new(fixed.into_iter().collect()),
        }
    }

    /// The name or address that is configured, without its port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `host:port` as it is configured.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The address in use; `None` while the name has none.
    pub fn known(&self) -> Option<SocketAddr> {
        self.found.read().first().copied()
    }

    /// Looks the name up again. Of several addresses the one in use stays as long as it is among them; where the lookup
    /// fails, what was found before stays.
    pub async fn look_up(&self) {
        if self.is_fixed {
            return;
        }
        match tokio::time::timeout(LOOKED_UP_IN, tokio::net::lookup_host(&self.authority)).await {
            Ok(Ok(found)) => self.found_these(found.collect()),
            Ok(Err(error)) => tracing::debug!(upstream = %self.authority, error = %error, "LibreChat's name could not be looked up"),
            Err(_) => tracing::debug!(upstream = %self.authority, "LibreChat's name is not looked up in time"),
        }
    }

    fn found_these(&self, mut these: Vec<SocketAddr>) {
        let mut found = self.found.write();
        if let Some(used) = found.first()
            && let Some(at) = these.iter().position(|address| address == used)
        {
            these.rotate_left(at);
        }
        if !these.is_empty() {
            *found = these;
        }
    }

    /// Every address that was found, the one in use first.
    pub fn all(&self) -> Vec<SocketAddr> {
        self.found.read().clone()
    }

    /// From now on this one of several is in use: somebody answers there.
    pub fn uses(&self, address: SocketAddr) {
        let mut found = self.found.write();
        if let Some(at) = found.iter().position(|other| *other == address) {
            found.rotate_left(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_known_at_once_and_a_name_after_it_was_looked_up() {
        let fixed = Address::of(&Upstream::new("::1", 3080));
        assert_eq!(fixed.known().map(|address| address.to_string()).as_deref(), Some("[::1]:3080"));
        let name = Address::of(&Upstream::new("localhost", 3080));
        assert_eq!(name.known(), None);
        name.look_up().await;
        let first = name.known().expect("localhost has an address");
        assert!(first.ip().is_loopback() && first.port() == 3080, "{first}");
        name.look_up().await;
        assert_eq!(name.known(), Some(first), "an address that is still there stays");
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_there() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [one, two, three] = [at("10.0.0.1:80"), at("10.0.0.2:80"), at("10.0.0.3:80")];
        let name = Address::of(&Upstream::new("librechat", 80));
        name.found_these(vec![one, two]);
        assert_eq!((name.known(), name.all()), (Some(one), vec![one, two]));
        name.uses(two);
        assert_eq!(name.known(), Some(two));
        name.uses(three);
        assert_eq!(name.known(), Some(two), "it is no address of this name");
        name.found_these(vec![one, two, three]);
        assert_eq!(name.known(), Some(two), "whatever order they are told in");
        name.found_these(vec![three, one]);
        assert_eq!(name.known(), Some(three), "it moved");
        name.found_these(Vec::new());
        assert_eq!(name.known(), Some(three));
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_no_reason_to_panic() {
        let nowhere = Address::of(&Upstream::new("nowhere.invalid", 3080));
        nowhere.look_up().await;
        assert_eq!(nowhere.known(), None);
    }
}
