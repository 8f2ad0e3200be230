//! The bind probe: a port that refuses although nothing lists it is held by something that hides.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Tcp4, Self::Tcp6, Self::Udp4, Self::Udp6];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp4 => "tcp (IPv4)",
            Self::Tcp6 => "tcp (IPv6)",
            Self::Udp4 => "udp (IPv4)",
            Self::Udp6 => "udp (IPv6)",
        }
    }

    fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }

    fn wildcard(self, port: u16) -> SocketAddr {
        match self {
            Self::Tcp4 | Self::Udp4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            Self::Tcp6 | Self::Udp6 => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }
}

/// What came of it.
#[derive(Default)]
pub(super) struct Probe {
    pub(super) held: Vec<(Kind, u16)>,
    pub(super) free: Vec<SocketAddr>,
    tried: u32,
    /// Ports that this user may not bind.
    forbidden: u32,
}

impl Probe {
    pub(super) fn summary(&self) -> String {
        let Self { tried, forbidden, .. } = self;
        match forbidden {
            0 => format!("{tried} ports tried"),
            _ => format!("{tried} ports tried, {forbidden} that this user may not bind left out"),
        }
    }
}

/// Tries every port that is not in use as far as anybody lists, and every listener's address. A
/// port is taken for an instant only, and never listened on, so nobody can connect meanwhile.
pub(super) fn probe(
    tcp: &BTreeSet<u16>,
    udp: &BTreeSet<u16>,
    listening: impl Iterator<Item = SocketAddr>,
) -> Probe {
    let mut probe = Probe::default();
    for kind in Kind::ALL {
        let used = if kind.is_tcp() { tcp } else { udp };
        for port in (1..=u16::MAX).filter(|port| !used.contains(port)) {
            match attempt(kind.wildcard(port), kind.is_tcp()) {
                Ok(_) => probe.tried += 1,
                Err(Errno::ADDRINUSE) => {
                    probe.tried += 1;
                    probe.held.push((kind, port));
                }
                // The right to low ports; other errors say nothing of the port either.
                Err(_) => probe.forbidden += 1,
            }
        }
    }
    let free = listening.filter(|address| attempt(*address, true).is_ok());
    probe.free = free.collect();
    probe
}

/// Binds, and lets go at once. With SO_REUSEADDR (TCP alone: for UDP it would share the port) only
/// a listener, or whoever bound without it, is in the way, and whoever binds with it is not
/// hindered by us.
fn attempt(address: SocketAddr, tcp: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if tcp {
        set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_nobody_lists_is_found_and_a_listed_one_is_not() {
        let hidden = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = hidden.local_addr().unwrap().port();
        let all: BTreeSet<u16> = (1..=u16::MAX).collect();
        let but_one = all.iter().copied().filter(|each| *each != port).collect();
        let found = probe(&but_one, &all, std::iter::once(hidden.local_addr().unwrap()));
        assert_eq!(found.held, [(Kind::Tcp4, port)]);
        assert!(found.free.is_empty(), "the address of a listener is not free");
        assert!(probe(&all, &all, std::iter::empty()).held.is_empty());
    }
}
