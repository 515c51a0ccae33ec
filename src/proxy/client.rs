//! A client: how its connection is kept, and its true address, behind trusted proxies only.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use pingora_proxy::Session;

use crate::app::App;

/// How long a connection may wait for its next request. Proxies in front of us let go of theirs after 60 or 75 s.
pub const IDLE: Duration = Duration::from_mins(2);

/// How long a client may read nothing of what it is sent. Whoever stops reading would hold an answer open, and what it is charged
/// back, for as long as it likes.
const READ_IN: Duration = Duration::from_mins(2);

/// How the connection of a request is kept.
pub fn set_up(session: &mut Session) {
    // A next request that comes too early waits for its turn. Without this Pingora ends the request that is being served,
    // which LibreChat may have got already. What follows an upgrade is no request.
    let upgrades = session.is_upgrade_req();
    session.as_downstream_mut().set_pipelining_enabled(!upgrades);
    session.as_downstream_mut().set_write_timeout(Some(READ_IN));
    if session.get_keepalive() == Some(0) {
        session.set_keepalive(Some(IDLE.as_secs()));
    }
}

/// Before an answer begins: its connection is the last thing that holds a client to a process that stops, so it is told to come
/// by another, where a balancer sends it to somebody who stays.
pub fn part_when_stopping(app: &App, session: &mut Session) {
    if app.draining.is_set() {
        session.set_keepalive(None);
    }
}

/// The address a request comes from: the peer's, or, as long as the hops behind it are trusted, the one that the last of
/// them names in `X-Forwarded-For`, read from the right. What an untrusted peer claims is not read.
pub fn true_address<'a>(peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>, trusted: &[IpNet]) -> IpAddr {
    let mut address = canonical(peer);
    let hops = forwarded_for.rev().flat_map(|header| header.rsplit(','));
    for hop in hops {
        if !is_trusted(address, trusted) {
            break;
        }
        let Some(named) = parse(hop.trim()) else { break };
        address = named;
    }
    address
}

/// Whether an address belongs to a trusted proxy.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// IPv4 addresses may come in IPv6 clothes (`::ffff:10.0.0.1`); rules are written for what they are.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_matches('"');
    bare.parse()
        .ok()
        .or_else(|| bare.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| bare.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().expect("a net")).collect();
        true_address(peer.parse().expect("an address"), headers.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_hops_are_believed() {
        assert_eq!(address("9.9.9.9", &["1.1.1.1"], &["127.0.0.1/32"]), "9.9.9.9", "an untrusted peer");
        assert_eq!(address("127.0.0.1", &["1.1.1.1, 2.2.2.2"], &["127.0.0.1/32"]), "2.2.2.2", "the last hop names the client");
        assert_eq!(address("127.0.0.1", &["1.1.1.1, 10.0.0.1"], &["127.0.0.1/32", "10.0.0.0/8"]), "1.1.1.1", "a chain of trusted hops");
        assert_eq!(address("127.0.0.1", &["1.1.1.1", "2.2.2.2"], &["127.0.0.1/32"]), "2.2.2.2", "two headers are one list");
        assert_eq!(address("127.0.0.1", &[], &["127.0.0.1/32"]), "127.0.0.1");
        assert_eq!(address("127.0.0.1", &["garbage"], &["127.0.0.1/32"]), "127.0.0.1");
    }

    #[test]
    fn ipv6_in_every_clothing() {
        assert_eq!(address("::ffff:127.0.0.1", &["[2001:db8::7]:443"], &["127.0.0.1/32"]), "2001:db8::7");
        assert_eq!(address("::1", &["2001:db8::8"], &["::1/128"]), "2001:db8::8");
        assert_eq!(address("::1", &["::ffff:1.2.3.4"], &["::1/128"]), "1.2.3.4");
    }
}
