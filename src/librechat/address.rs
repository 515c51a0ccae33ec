//! Where LibreChat is, looked up beforehand: Pingora would look a name up for each request, on the event loop, and panic
//! where it has no address.

use std::net::{IpAddr, SocketAddr};

use parking_lot::RwLock;

use crate::config::Upstream;

/// LibreChat's address.
#[derive(Debug)]
pub struct Address {
    authority: String,
    /// Whether the configuration gives an address and no name.
    is_fixed: bool,
    known: RwLock<Option<SocketAddr>>,
}

impl Address {
    /// The address of this upstream. A name has none before it was looked up.
    pub fn of(upstream: &Upstream) -> Self {
        let fixed = upstream.host().parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, upstream.port()));
        Self { authority: upstream.authority(), is_fixed: fixed.is_some(), known: RwLock::new(fixed) }
    }

    /// `host:port` as it is configured.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The address that was last found; `None` while the name has none.
    pub fn known(&self) -> Option<SocketAddr> {
        *self.known.read()
    }

    /// Looks the name up again. Of several addresses the one in use stays as long as it is among them; where the lookup
    /// fails, what was found before stays.
    pub async fn look_up(&self) {
        if self.is_fixed {
            return;
        }
        match tokio::net::lookup_host(&self.authority).await {
            Ok(found) => {
                let found: Vec<SocketAddr> = found.collect();
                let mut known = self.known.write();
                if known.is_none_or(|known| !found.contains(&known)) {
                    *known = found.first().copied().or(*known);
                }
            }
            Err(error) => tracing::debug!(upstream = %self.authority, error = %error, "LibreChat's name could not be looked up"),
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

    #[tokio::test]
    async fn a_name_without_an_address_is_no_reason_to_panic() {
        let nowhere = Address::of(&Upstream::new("nowhere.invalid", 3080));
        nowhere.look_up().await;
        assert_eq!(nowhere.known(), None);
    }
}
