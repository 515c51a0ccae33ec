//! Which ports the demo takes: Tollgate's usual ones where they are free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// The ports of the three listeners; 0 is any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Where people come in.
    pub public: u16,
    /// The admin API.
    pub admin: u16,
    /// `/metrics`.
    pub metrics: u16,
}

impl Ports {
    /// The defaults of `config/tollgate.toml`.
    pub const USUAL: Self = Self { public: 8080, admin: 3090, metrics: 9464 };
    /// Free ones.
    pub const FREE: Self = Self { public: 0, admin: 0, metrics: 0 };

    /// The usual ports as far as they are free.
    ///
    /// A gateway that is starting takes its metrics port first and its public port last. So the usual public port is
    /// tried only by whoever has the other two in its hands: two demos that start together never reach for it at once.
    pub fn choose() -> Self {
        let (Some(_metrics), Some(_admin)) = (taken(Self::USUAL.metrics), taken(Self::USUAL.admin)) else { return Self::FREE };
        match taken(Self::USUAL.public) {
            Some(_public) => Self::USUAL,
            None => Self { public: 0, ..Self::USUAL },
        }
    }
}

/// A port in our hands until this is dropped, if nobody else has it.
fn taken(port: u16) -> Option<TcpListener> {
    TcpListener::bind(loopback(port)).ok()
}

/// A port of this machine, for this machine alone.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
