//! `[librechat]`: the LibreChats behind Tollgate, and the secrets they share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::errors::Errors;
use super::secret::{Secret, resolve_signing};
use super::values::parsed;
use super::{Insecure, Public};

/// The LibreChats behind Tollgate: one, or several that share a database.
#[derive(Debug, Clone)]
pub struct LibreChat {
    /// Where they are; at least one, and none twice.
    pub upstreams: Vec<Upstream>,
    /// Those of them that take no new people.
    pub drained: Vec<Upstream>,
    /// How it is told which of them are alive.
    pub health: HealthChecks,
    /// Their `JWT_SECRET`: signs access tokens.
    pub jwt_secret: Secret,
    /// Their `JWT_REFRESH_SECRET`: signs refresh cookies.
    pub jwt_refresh_secret: Option<Secret>,
    /// The org of people whom nothing else assigns to one; a known org's id.
    pub default_org: Option<Arc<str>>,
    /// Whether the domain of a person's e-mail address decides their org.
    pub trust_email_domains: bool,
    /// What happens to `/api/agents/v1/*` with LibreChat's own `sk-` keys.
    pub agent_api: AgentApi,
}

/// How it is told whether a LibreChat is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthChecks {
    /// How often each is asked.
    pub every: Duration,
    /// After so many answers in a row that are missing or bad it is dead.
    pub dead_after: u32,
    /// After so many good ones in a row it is alive again.
    pub alive_after: u32,
}

/// What happens to requests that come with an API key of LibreChat instead of a person's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentApi {
    /// They are refused.
    Refuse,
    /// They are counted, limited and charged as members of the default org.
    DefaultOrg,
}

/// The address of a LibreChat, spoken to in plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
}

impl Upstream {
    /// An upstream at this host (a name, or an address without brackets) and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// A name or an address, without the brackets of IPv6.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` as a socket or a `Host` header wants it, IPv6 in brackets.
    pub fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl FromStr for Upstream {
    type Err = String;

    /// Reads `http://host:port`. Errors do not repeat the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "allowed: http://host or http://host:port";
        let uri: Uri = text.parse().map_err(|_| format!("no address of a server; {ALLOWED}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!("https is not possible, since this build has no TLS towards LibreChat; {ALLOWED}"));
            }
            _ => return Err(format!("does not begin with http://; {ALLOWED}")),
        }
        let authority = uri.authority().ok_or_else(|| format!("names no host; {ALLOWED}"))?;
        if authority.as_str().contains('@') {
            return Err(format!("a user name or password is not possible here; {ALLOWED}"));
        }
        if !uri.path().trim_end_matches('/').is_empty() || uri.query().is_some() {
            return Err(format!("a path or query is not possible, since requests keep their own; {ALLOWED}"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // `Uri` takes a port that is no number for none at all.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("has no port from 1 to 65535; {ALLOWED}"))?,
            None => return Err(format!("no address of a server; {ALLOWED}")),
        };
        if host.is_empty() {
            return Err(format!("names no host; {ALLOWED}"));
        }
        Ok(Self::new(host.to_ascii_lowercase(), port))
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LibreChatKeys {
    upstreams: Vec<Upstream>,
    drained: Vec<Upstream>,
    health_every_ms: u64,
    dead_after: u32,
    alive_after: u32,
    jwt_secret: Option<Secret>,
    jwt_secret_file: Option<PathBuf>,
    jwt_refresh_secret: Option<Secret>,
    jwt_refresh_secret_file: Option<PathBuf>,
    default_org: Option<Arc<str>>,
    trust_email_domains: bool,
    agent_api: AgentApi,
}

/// What to do about the one setting that has no default.
const NO_SECRET: &str = "missing; it is the JWT_SECRET of LibreChat's .env, without which no token can be checked. Give it in one of these ways: \
    jwt_secret or jwt_secret_file in [librechat], or the environment variable JWT_SECRET or TOLLGATE_LIBRECHAT__JWT_SECRET";

/// Checks the section. `orgs` are the ids of the known orgs, `None` when those could not all be read.
pub(super) fn check(
    keys: LibreChatKeys,
    public: &Public,
    orgs: Option<&[Arc<str>]>,
    insecure: &Insecure,
    errors: &mut Errors,
) -> Option<LibreChat> {
    check_upstreams(&keys.upstreams, public, errors);
    check_drained(&keys.drained, &keys.upstreams, errors);
    let health = check_health(&keys, errors);
    if let (Some(org), Some(known)) = (&keys.default_org, orgs)
        && !known.contains(org)
    {
        errors.add("librechat.default_org", super::orgs::unknown(org, known));
    }
    if keys.agent_api == AgentApi::DefaultOrg && keys.default_org.is_none() {
        errors.add("librechat.agent_api", "\"default_org\" needs librechat.default_org to name an org; allowed without it: refuse");
    }

    let given = keys.jwt_secret.is_some() || keys.jwt_secret_file.is_some();
    let jwt_secret = resolve_signing("librechat.jwt_secret", keys.jwt_secret, keys.jwt_secret_file, insecure, errors);
    if !given {
        errors.lacks_secret("librechat.jwt_secret", NO_SECRET);
    }
    let refresh = (keys.jwt_refresh_secret, keys.jwt_refresh_secret_file);
    let jwt_refresh_secret = resolve_signing("librechat.jwt_refresh_secret", refresh.0, refresh.1, insecure, errors);

    Some(LibreChat {
        upstreams: keys.upstreams,
        drained: keys.drained,
        health,
        jwt_secret: jwt_secret?,
        jwt_refresh_secret,
        default_org: keys.default_org,
        trust_email_domains: keys.trust_email_domains,
        agent_api: keys.agent_api,
    })
}

/// How many LibreChats there may be. Each is asked for its health by every Tollgate.
const MOST_UPSTREAMS: usize = 100;

fn check_upstreams(upstreams: &[Upstream], public: &Public, errors: &mut Errors) {
    if upstreams.is_empty() && !errors.clouds("librechat.upstreams") {
        errors.add("librechat.upstreams", "names no LibreChat; allowed: a list of addresses such as [\"http://127.0.0.1:3080\"]");
    }
    if upstreams.len() > MOST_UPSTREAMS {
        errors.add("librechat.upstreams", format!("names {} LibreChats; at most {MOST_UPSTREAMS} are possible", upstreams.len()));
    }
    for (at, upstream) in upstreams.iter().enumerate() {
        let listen = public.listen;
        if leads_back(upstream, listen) {
            let what = format!("{upstream} is Tollgate itself, which listens on {listen}; name LibreChat's address");
            errors.add(format!("librechat.upstreams[{at}]"), what);
        }
        if upstreams[..at].contains(upstream) {
            errors.add(format!("librechat.upstreams[{at}]"), format!("{upstream} stands there already"));
        }
    }
}

fn check_drained(drained: &[Upstream], upstreams: &[Upstream], errors: &mut Errors) {
    if errors.clouds("librechat.upstreams") {
        return;
    }
    for (at, upstream) in drained.iter().enumerate() {
        if !upstreams.contains(upstream) {
            errors.add(format!("librechat.drained[{at}]"), format!("{upstream} is none of librechat.upstreams"));
        }
    }
    if !upstreams.is_empty() && upstreams.iter().all(|upstream| drained.contains(upstream)) {
        errors.add("librechat.drained", "leaves no LibreChat that takes people; leave out at least one of librechat.upstreams");
    }
}

fn check_health(keys: &LibreChatKeys, errors: &mut Errors) -> HealthChecks {
    if !(10..=60_000).contains(&keys.health_every_ms) {
        errors.add("librechat.health_every_ms", format!("{} is not from 10 to 60000", keys.health_every_ms));
    }
    for (path, count) in [("librechat.dead_after", keys.dead_after), ("librechat.alive_after", keys.alive_after)] {
        if !(1..=100).contains(&count) {
            errors.add(path, format!("{count} is not from 1 to 100"));
        }
    }
    HealthChecks { every: Duration::from_millis(keys.health_every_ms), dead_after: keys.dead_after, alive_after: keys.alive_after }
}

/// Whether the upstream is our own public listener, so that every request would go round in circles.
fn leads_back(upstream: &Upstream, listen: SocketAddr) -> bool {
    let ours = |address: IpAddr| address == listen.ip() || (address.is_loopback() && listen.ip().is_unspecified());
    upstream.port == listen.port()
        && match upstream.host.parse::<IpAddr>() {
            Ok(address) => ours(address),
            Err(_) => upstream.host == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_librechat() {
        for (text, authority) in [
            ("http://127.0.0.1:3080", "127.0.0.1:3080"),
            ("http://LibreChat:3080/", "librechat:3080"),
            ("http://chat.internal", "chat.internal:80"),
            ("http://[::1]:3080", "[::1]:3080"),
        ] {
            assert_eq!(text.parse::<Upstream>().map(|upstream| upstream.authority()), Ok(authority.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_librechat() {
        for text in [
            "",
            "127.0.0.1:3080",
            "https://chat",
            "ftp://chat",
            "http://",
            "http://:3080",
            "http://chat:",
            "http://chat:0",
            "http://chat:x",
            "http://chat:70000",
            "http://me:secret@chat",
            "http://chat/path",
            "http://chat?x=1",
            "http://cha t",
        ] {
            let error = text.parse::<Upstream>().expect_err(text);
            assert!(!error.contains("secret"), "the error of {text:?} shows a password: {error}");
        }
    }
}
