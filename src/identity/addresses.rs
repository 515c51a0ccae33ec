//! The networks that requests may come from.
//!
//! One type for every rule of this kind (an org's, a role's, an account's, a key's): each list that applies to a request
//! must hold its address, so that a narrower rule never opens what a wider one closes. The address is the client's true one
//! behind trusted proxies, and what is not known to be inside is outside.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Identity, ROLES};

/// The most networks of one list.
pub const MOST_NETWORKS: usize = 1000;

/// How long the prefix is that makes an IPv4 address an IPv6 one (`::ffff:0:0/96`, RFC 4291 2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// A list of networks. Addresses of IPv4 in IPv6 clothes (`::ffff:10.0.0.1`) count as IPv4, in requests and in rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It cannot be read.
    #[error("\"{0}\" is no network; allowed: such as 10.0.0.0/8, 2001:db8::/32 or a single address")]
    Unreadable(String),
    /// It names an address within the network, so that it is not clear which of the two is meant.
    #[error("\"{written}\" is an address within {network}: write {network} for the whole of it, or the address alone")]
    HostBits {
        /// What was written.
        written: String,
        /// The network around it.
        network: IpNet,
    },
}

impl Networks {
    /// A list of these networks, as [`read_network`] reads them.
    pub fn of(networks: &[IpNet]) -> Self {
        // Networks within others are dropped and neighbours joined: the fewer, the quicker a request is judged.
        Self(IpNet::aggregate(&networks.to_vec()))
    }

    /// As it stands in the database and in answers: networks with commas between them.
    pub fn text(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The same, read.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::read(text.split(',')).ok()
    }

    /// Reads a list of at least one network, at most [`MOST_NETWORKS`] of them. Says what is wrong with the first that cannot be read.
    pub fn read<'a>(written: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let networks = written.into_iter().map(read_network).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        match networks.len() {
            0 => Err("a list without a network would let nobody in".to_owned()),
            1..=MOST_NETWORKS => Ok(Self::of(&networks)),
            many => Err(format!("{many} networks are too many; at most {MOST_NETWORKS}")),
        }
    }

    /// Whether a request from this address is within the list. Who comes from nowhere is outside.
    pub fn hold(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address.map(|address| address.to_canonical()) else { return false };
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Reads a network or a single address.
pub fn read_network(written: &str) -> Result<IpNet, NetworkError> {
    let text = written.trim();
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network: IpNet = network.map_err(|_| NetworkError::Unreadable(written.to_owned()))?;
    if network.addr() != network.network() {
        return Err(NetworkError::HostBits { written: written.to_owned(), network: network.trunc() });
    }
    Ok(match network {
        IpNet::V6(network) => without_clothes(network).map_or(IpNet::V6(network), IpNet::V4),
        network @ IpNet::V4(_) => network,
    })
}

/// The IPv4 network that an IPv6 one stands for, where it stands for one.
fn without_clothes(network: Ipv6Net) -> Option<Ipv4Net> {
    let is_mapped = |address: Ipv6Addr| address.to_ipv4_mapped();
    let prefix = network.prefix_len().checked_sub(MAPPED_PREFIX)?;
    Ipv4Net::new(is_mapped(network.addr())?, prefix).ok()
}

/// Whose list an address is not in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The org's, or that of a role there.
    Org,
    /// The account's.
    Account,
    /// The API key's.
    Key,
}

impl Closing {
    /// As it stands in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Account => "account",
            Self::Key => "key",
        }
    }
}

/// Where the people of an org may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrgAddresses {
    /// For everyone of the org.
    pub all: Option<Networks>,
    /// For each of [`ROLES`], on top of `all`.
    pub by_role: [Option<Networks>; ROLES.len()],
}

impl OrgAddresses {
    /// Whether someone with this role may come from this address.
    pub fn allow(&self, role: &str, address: Option<IpAddr>) -> bool {
        let of_role = ROLES.iter().position(|known| *known == role).and_then(|place| self.by_role[place].as_ref());
        self.all.iter().chain(of_role).all(|networks| networks.hold(address))
    }
}

impl Identity {
    /// Whether this person may come from this address, by the rules of their org and role.
    pub fn may_come_from(&self, address: Option<IpAddr>) -> bool {
        self.org.as_ref().is_none_or(|org| org.access.addresses.allow(&self.role, address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(written: &[&str]) -> Networks {
        Networks::of(&written.iter().map(|written| read_network(written).unwrap()).collect::<Vec<_>>())
    }

    fn hold(written: &[&str], address: &str) -> bool {
        networks(written).hold(Some(address.parse().unwrap()))
    }

    #[test]
    fn an_address_is_within_or_outside() {
        let office = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "2001:db9::1"];
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8::", "2001:db8:ffff::9", "2001:db9::1", "::ffff:10.1.2.3"] {
            assert!(hold(&office, inside), "{inside} is inside");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db7::1", "2001:db9::2", "::10.1.2.3", "::1", "::"] {
            assert!(!hold(&office, outside), "{outside} is outside");
        }
        assert!(!networks(&office).hold(None), "who comes from nowhere is outside");
        assert!(!networks(&["0.0.0.0/0", "::/0"]).hold(None), "even where all addresses are inside");
    }

    #[test]
    fn a_list_is_kept_as_a_text() {
        let office = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        assert_eq!(office.text(), "10.0.0.0/8,192.0.2.7/32,2001:db8::/32");
        assert_eq!(Networks::from_text(&office.text()), Some(office));
        for odd in ["", ",", "10.0.0.0/8,", "10.1.0.0/8", "acme.test"] {
            assert_eq!(Networks::from_text(odd), None, "{odd:?}");
        }
        assert!(Networks::read([]).is_err() && Networks::read(vec!["10.0.0.1"; MOST_NETWORKS + 1]).is_err());
    }

    #[test]
    fn ipv4_in_ipv6_clothes_is_ipv4() {
        for written in ["::ffff:10.0.0.0/104", "::ffff:a00:0/104", "10.0.0.0/8"] {
            assert!(hold(&[written], "10.9.9.9") && hold(&[written], "::ffff:10.9.9.9"), "{written}");
            assert!(!hold(&[written], "11.0.0.1") && !hold(&[written], "::ffff:11.0.0.1"), "{written}");
        }
        assert!(hold(&["::ffff:0:0/96"], "203.0.113.9"), "all of IPv4");
        assert!(!hold(&["::/0"], "203.0.113.9"), "all of IPv6 holds no IPv4");
        assert!(!hold(&["::/0"], "::ffff:203.0.113.9"), "in no clothes either");
        assert!(!hold(&["0.0.0.0/0"], "2001:db8::1"));
    }

    #[test]
    fn neighbours_and_networks_within_others_are_one() {
        assert_eq!(networks(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"]).0, networks(&["10.0.0.0/8"]).0);
    }

    #[test]
    fn what_is_no_network_is_refused_and_says_why() {
        for written in [
            "",
            "10",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0-10.0.0.9",
            "10.*",
            "2001:db8::/129",
            "fe80::1%eth0",
            "[::1]",
            "010.0.0.1",
            "acme.test",
            "*",
            "10.0.0.0/8,11.0.0.0/8",
        ] {
            assert!(matches!(read_network(written), Err(NetworkError::Unreadable(_))), "{written:?} is no network");
        }
        for (written, network) in [("10.1.2.3/8", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32")] {
            let error = read_network(written).unwrap_err();
            assert!(error.to_string().contains(&format!("write {network}")), "{error}");
        }
        assert_eq!(read_network(" 10.0.0.0/8 "), read_network("10.0.0.0/8"));
    }

    #[test]
    fn a_roles_list_narrows_the_orgs() {
        let rules = OrgAddresses {
            all: Some(networks(&["10.0.0.0/8"])),
            by_role: [None, Some(networks(&["10.1.0.0/16", "192.0.2.0/24"])), None, None],
        };
        let allow = |role: &str, address: &str| rules.allow(role, Some(address.parse().unwrap()));
        assert!(allow("user", "10.9.9.9") && allow("viewer", "10.9.9.9") && allow("super_admin", "10.9.9.9"));
        assert!(allow("admin", "10.1.9.9") && !allow("admin", "10.9.9.9"));
        assert!(!allow("admin", "192.0.2.1"), "what the org closes no role opens");
        assert!(!rules.allow("user", None));
        let none = OrgAddresses::default();
        assert!(none.allow("user", None) && none.allow("admin", Some("203.0.113.1".parse().unwrap())), "without a rule all may come");
    }

    proptest! {
        #[test]
        fn joining_networks_changes_no_answer(written in prop::collection::vec((any::<u32>(), 8_u8..=32), 1..8), address: u32) {
            let apart: Vec<IpNet> = written.iter().map(|(bits, prefix)| {
                IpNet::new(std::net::Ipv4Addr::from(*bits).into(), *prefix).unwrap().trunc()
            }).collect();
            // Near the first network, so that both answers come.
            let near = written[0].0 ^ (address >> (written[0].1 - 4).min(31));
            for address in [address, near] {
                let address = IpAddr::from(std::net::Ipv4Addr::from(address));
                let expected = apart.iter().any(|network| network.contains(&address));
                prop_assert_eq!(Networks::of(&apart).hold(Some(address)), expected);
            }
        }
    }
}
