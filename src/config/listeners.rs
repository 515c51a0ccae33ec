//! `[public]`, `[admin]` and `[metrics]`: where Tollgate listens.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::access::cors_origins;
use super::errors::Errors;
use super::values::{bounded, listen, networks};
use crate::identity::web_origin::WebOrigin;

/// The listener that stands where LibreChat stood.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Its address; port 0 takes any free one.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// The networks whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The origins whose pages may read answers, whatever org they are for.
    #[serde(deserialize_with = "cors_origins")]
    pub cors_origins: Vec<WebOrigin>,
}

/// The listener of the admin API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Its address; port 0 takes any free one.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
}

/// The listener of `/metrics`, `/livez` and `/readyz`, and what its metrics tell apart.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Its address; port 0 takes any free one.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// How many orgs have a label of their own; the others share one.
    #[serde(deserialize_with = "labels")]
    pub org_labels: usize,
}

fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(u64::deserialize(deserializer)?, 10_000)
}

/// Reports listeners that would take each other's port.
pub(super) fn check(public: &Public, admin: &Admin, metrics: &Metrics, errors: &mut Errors) {
    let listeners = [("public", public.listen), ("admin", admin.listen), ("metrics", metrics.listen)];
    for (index, (name, address)) in listeners.iter().enumerate() {
        for (earlier, taken) in listeners.iter().take(index) {
            if same_port(*address, *taken) {
                errors.add(
                    format!("{name}.listen"),
                    format!("{address} is taken by {earlier}.listen = {taken}; each listener needs a port of its own"),
                );
            }
        }
    }
}

/// Whether two addresses ask for one port. The unspecified address asks for it on every interface.
fn same_port(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
