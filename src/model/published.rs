//! A port that address translation offers without a socket behind it in the same namespace.

use std::fmt;
use std::net::IpAddr;

use super::{
    AddrRange, Endpoint, Exposure, NamespaceId, Observation, PortRange, Protocol, Role, Socket, SocketIndex,
    SocketType, State,
};

/// Where what is sent to a published port goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Published {
    pub targets: Vec<PublishedTarget>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PublishedTarget {
    /// `None`: no namespace of this computer has the address.
    pub netns: Option<NamespaceId>,
    /// More than one: one of them, and nobody can tell which.
    pub address: AddrRange,
    pub ports: PortRange,
    /// Whoever takes it there; `None` where nobody does, or nobody can tell.
    pub socket: Option<SocketIndex>,
}

/// `172.17.0.2:80`, `[fd00::2]:80`.
impl fmt::Display for PublishedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddrRange { first, last } = self.address;
        match first {
            IpAddr::V4(_) if first == last => write!(f, "{first}:{}", self.ports),
            IpAddr::V6(_) if first == last => write!(f, "[{first}]:{}", self.ports),
            IpAddr::V4(_) => write!(f, "{}:{}", self.address, self.ports),
            IpAddr::V6(_) => write!(f, "[{}]:{}", self.address, self.ports),
        }
    }
}

impl Published {
    /// Whether every target is a socket that was found, which then says more than this row can.
    pub fn is_told_elsewhere(&self) -> bool {
        self.targets.iter().all(|target| target.socket.is_some())
    }
}

impl Socket {
    /// A port of `netns` that no socket has; port 0 stands for more ports than would have a row each.
    pub fn published(
        (netns, protocol): (NamespaceId, Protocol),
        (address, port): (IpAddr, u16),
        published: Published,
        exposure: Exposure,
    ) -> Self {
        Self {
            kind: if protocol == Protocol::Udp { SocketType::Dgram } else { SocketType::Stream },
            state: State::Published,
            role: Role::Published,
            local: Endpoint::Inet(address, port),
            v6only: address.is_ipv6().then_some(true),
            exposure: Some(Box::new(exposure)),
            published: Some(Box::new(published)),
            ..Self::blank(protocol, netns)
        }
    }
}

impl<'s> Observation<'s> {
    /// Of a published row for many ports, those that somebody gets in by.
    pub fn published_ports(&self) -> impl Iterator<Item = PortRange> + use<'s> {
        let socket = self.socket;
        let many = socket.state == State::Published && matches!(socket.local, Endpoint::Inet(_, 0));
        let paths = socket.exposure.iter().filter(move |_| many).flat_map(|exposure| &exposure.paths);
        paths.flat_map(|path| path.ports.iter().flatten().copied())
    }

    /// Whether it stands at this port.
    pub fn has_port(&self, port: u16) -> bool {
        matches!(self.socket.local, Endpoint::Inet(_, own) if own == port)
            || self.published_ports().any(|range| (range.first..=range.last).contains(&port))
    }

    /// The targets of a published port.
    pub fn targets(&self) -> &'s [PublishedTarget] {
        self.socket.published.as_deref().map_or(&[], |published| &published.targets)
    }
}
