//! The bind probe: a port that refuses although nothing lists it is held by something that hides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::model::counted;

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
    /// Per transport and family, how many ports were tried, and how many this user may not bind.
    counts: BTreeMap<Kind, (usize, usize)>,
    /// What this system has not, such as IPv6 where it is switched off.
    absent: BTreeSet<Kind>,
}

impl Probe {
    pub(super) fn summary(&self) -> String {
        // Counted alike in every kind, unless one of them is absent or its ports are in use.
        let most = |part: fn(&(usize, usize)) -> usize| self.counts.values().map(part).max().unwrap_or(0);
        let (tried, forbidden) = (most(|(tried, _)| *tried), most(|(_, forbidden)| *forbidden));
        let kinds: Vec<&str> =
            Kind::ALL.iter().filter(|kind| !self.absent.contains(kind)).map(|kind| kind.name()).collect();
        let mut text = format!("{} tried in each of {}", counted(tried, "port"), kinds.join(", "));
        if forbidden > 0 {
            text.push_str(&format!("; {} that this user may not bind left out", counted(forbidden, "port")));
        }
        text
    }
}

/// Every port of every kind.
pub(super) fn all() -> impl Iterator<Item = (Kind, u16)> {
    Kind::ALL.into_iter().flat_map(|kind| (1..=u16::MAX).map(move |port| (kind, port)))
}

/// Tries each of `ports` that is not in use as far as anybody lists, and each listener's address. A
/// port is taken for an instant only, and never listened on, so nobody can connect meanwhile.
pub(super) fn probe(
    tcp: &BTreeSet<u16>,
    udp: &BTreeSet<u16>,
    ports: impl Iterator<Item = (Kind, u16)>,
    listening: impl Iterator<Item = SocketAddr>,
) -> Probe {
    let mut probe = Probe::default();
    for (kind, port) in ports {
        let used = if kind.is_tcp() { tcp } else { udp };
        if used.contains(&port) || probe.absent.contains(&kind) {
            continue;
        }
        let (tried, forbidden) = probe.counts.entry(kind).or_default();
        match attempt(kind.wildcard(port), kind.is_tcp()) {
            Ok(_) => *tried += 1,
            Err(Errno::ADDRINUSE) => {
                *tried += 1;
                probe.held.push((kind, port));
            }
            Err(Errno::ACCESS | Errno::PERM) => *forbidden += 1,
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => drop(probe.absent.insert(kind)),
            // Says nothing of the port: no descriptor or buffer left, for one.
            Err(_) => {}
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
        let found = probe(&but_one, &all, super::all(), std::iter::once(hidden.local_addr().unwrap()));
        assert_eq!(found.held, [(Kind::Tcp4, port)]);
        assert!(found.free.is_empty(), "the address of a listener is not free");
        assert!(probe(&all, &all, super::all(), std::iter::empty()).held.is_empty());
        let again = probe(&but_one, &all, [(Kind::Tcp4, port)].into_iter(), std::iter::empty());
        assert_eq!((again.held, again.counts[&Kind::Tcp4]), (found.held, (1, 0)));
    }

    #[test]
    fn a_port_counts_once_and_not_once_for_each_kind() {
        let counts =
            |tried, forbidden| Kind::ALL.into_iter().map(|kind| (kind, (tried, forbidden))).collect();
        let told = |counts| Probe { counts, ..Probe::default() }.summary();
        let kinds = "tcp (IPv4), tcp (IPv6), udp (IPv4), udp (IPv6)";
        assert_eq!(told(counts(65_530, 0)), format!("65530 ports tried in each of {kinds}"));
        assert_eq!(
            told(counts(64_511, 1_023)),
            format!("64511 ports tried in each of {kinds}; 1023 ports that this user may not bind left out")
        );
        let only_v4 = Probe { absent: [Kind::Tcp6, Kind::Udp6].into(), ..Probe::default() };
        assert_eq!(only_v4.summary(), "0 ports tried in each of tcp (IPv4), udp (IPv4)");
    }
}
