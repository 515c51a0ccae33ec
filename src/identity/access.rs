//! Which ways lead to an org: the host names that are its own, the addresses its people come from, the pages that show it in
//! a frame or read its answers, and the tenant of LibreChat that it is.
//!
//! Requests without identity (a page, its configuration, a sign-in) are told apart by the host name alone. What is asked of
//! every request is made once, when the orgs are: [`Entrances`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::Org;
use super::addresses::OrgAddresses;
use super::web_origin::{WebOrigin, split_port};

/// The longest tenant id, in bytes: LibreChat's own limit.
const LONGEST_TENANT: usize = 128;

/// The most bytes that all pages together may take which may frame a page whose org is not known. Proxies in front take heads
/// of 4 or 8 KB.
pub const MOST_FRAMING_BYTES: usize = 3000;

/// Which ways lead to an org. The default is an org that has nothing of this.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Its tenant in LibreChat.
    pub tenant: Option<TenantId>,
    /// The host names under which people reach this org and no other, in lower case and without a port.
    pub hosts: Vec<Box<str>>,
    /// Where its people may come from.
    pub addresses: OrgAddresses,
    /// Which pages may show it in a frame, besides its own.
    pub framing: Framing,
    /// Which pages of other origins may read what its people are answered.
    pub cors_origins: Vec<WebOrigin>,
}

/// A tenant of LibreChat, as it may stand in `X-Tenant-Id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantId(HeaderValue);

impl TenantId {
    /// Reads a tenant's id, by LibreChat's rules (`preAuthTenant.ts`). The one that stands for LibreChat itself is nobody's.
    pub fn read(written: &str) -> Result<Self, String> {
        let fits = (1..=LONGEST_TENANT).contains(&written.len())
            && written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !fits {
            return Err(format!("\"{written}\" is no tenant id; allowed: 1 to 128 letters, digits, hyphens, underscores and dots"));
        }
        if written.eq_ignore_ascii_case("__SYSTEM__") {
            return Err(format!("\"{written}\" stands for LibreChat itself; choose another id"));
        }
        HeaderValue::from_str(written).map(Self).map_err(|_| format!("\"{written}\" cannot stand in a header"))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header's value.
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Which pages may show another in a frame, ready to be sent.
#[derive(Debug, Clone)]
pub struct Framing {
    ancestors: Vec<WebOrigin>,
    policy: HeaderValue,
}

impl Default for Framing {
    fn default() -> Self {
        Self { ancestors: Vec::new(), policy: HeaderValue::from_static("frame-ancestors 'self'") }
    }
}

impl Framing {
    /// Pages of these origins, and its own.
    pub fn by(ancestors: Vec<WebOrigin>) -> Self {
        let list = ancestors.iter().map(WebOrigin::as_str).collect::<Vec<_>>().join(" ");
        // An origin holds nothing that a header cannot; were it otherwise, nobody else would frame.
        match HeaderValue::from_str(&format!("frame-ancestors 'self' {list}")) {
            Ok(policy) if !ancestors.is_empty() => Self { ancestors, policy },
            _ => Self::default(),
        }
    }

    /// Whether pages of other origins may.
    pub fn is_open(&self) -> bool {
        !self.ancestors.is_empty()
    }

    /// The pages of other origins that may.
    pub fn ancestors(&self) -> &[WebOrigin] {
        &self.ancestors
    }

    /// The value of `Content-Security-Policy`.
    pub fn policy(&self) -> &HeaderValue {
        &self.policy
    }
}

/// What the ways to all orgs come to, made once for a set of orgs.
#[derive(Debug, Default)]
pub struct Entrances {
    by_host: HashMap<Box<str>, Arc<Org>>,
    /// For pages whose org is not known.
    shared: Framing,
    /// Whether any org says who may frame it. Where none does, LibreChat's answers stay as they are.
    frames: bool,
    reading: HashSet<WebOrigin>,
}

impl Entrances {
    /// What these orgs come to. The configuration has checked that host names are unique; were they not, the first org would
    /// keep one.
    pub fn of<'a>(orgs: impl Iterator<Item = &'a Arc<Org>> + Clone) -> Self {
        let mut entrances = Self { frames: orgs.clone().any(|org| org.access.framing.is_open()), ..Self::default() };
        for org in orgs.clone() {
            for host in &org.access.hosts {
                entrances.by_host.entry(host.clone()).or_insert_with(|| org.clone());
            }
            entrances.reading.extend(org.access.cors_origins.iter().cloned());
        }
        entrances.shared = shared_framing(orgs);
        entrances
    }

    /// The org whose own this host name is, whatever its port.
    pub fn org_of_host(&self, host: &str) -> Option<&Arc<Org>> {
        if self.by_host.is_empty() {
            return None;
        }
        let (name, _) = split_port(host);
        self.by_host.get(&*name.to_ascii_lowercase())
    }

    /// Who may frame a page of this org, or of one that is not known. `None` where no org says anything about it.
    pub fn framing<'a>(&'a self, org: Option<&'a Org>) -> Option<&'a Framing> {
        self.frames.then(|| org.map_or(&self.shared, |org| &org.access.framing))
    }

    /// Whether any org's answers may be read by other origins.
    pub fn are_read(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Whether some org's answers may be read by pages of this origin, as a browser writes it.
    pub fn are_read_by(&self, origin: &str) -> bool {
        self.reading.contains(origin)
    }
}

/// Who may frame a page of which nobody knows whose it is: the pages of every org that has no host name of its own. One that
/// has is framed there.
pub fn shared_framing<'a>(orgs: impl IntoIterator<Item = &'a Arc<Org>>) -> Framing {
    let shared = orgs.into_iter().filter(|org| org.access.hosts.is_empty());
    let mut ancestors: Vec<_> = shared.flat_map(|org| org.access.framing.ancestors()).cloned().collect();
    ancestors.sort_unstable();
    ancestors.dedup();
    Framing::by(ancestors)
}
