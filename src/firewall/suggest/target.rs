//! What a rule has to name to meet a socket: protocol, ports, addresses, family.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::firewall::ranges::Family;
use crate::model::{Endpoint, Namespace, NamespaceId, Protocol, Snapshot, SocketIndex};

/// Protocols that every packet filter knows by port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Carrier {
    Tcp,
    Udp,
    UdpLite,
    Sctp,
    Dccp,
}

impl Carrier {
    fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Tcp | Protocol::Mptcp | Protocol::Smc => Some(Self::Tcp),
            Protocol::Udp => Some(Self::Udp),
            Protocol::UdpLite => Some(Self::UdpLite),
            Protocol::Sctp => Some(Self::Sctp),
            Protocol::Dccp => Some(Self::Dccp),
            Protocol::Icmp
            | Protocol::Raw
            | Protocol::Packet
            | Protocol::Unix
            | Protocol::Netlink
            | Protocol::Vsock
            | Protocol::Xdp
            | Protocol::Alg
            | Protocol::Key
            | Protocol::Tipc
            | Protocol::Can
            | Protocol::Bluetooth
            | Protocol::Other(_) => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udplite",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
        }
    }
}

/// Ports of one protocol that are bound alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Target {
    pub(super) carrier: Carrier,
    /// The families that are served; never empty.
    pub(super) families: Vec<Family>,
    /// Destinations; empty for every address of this computer.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: BTreeSet<u16>,
}

impl Target {
    /// The same with the addresses of a namespace in place of "every one". `None` where they are
    /// not known or there are none.
    pub(super) fn at(&self, namespace: &Namespace) -> Option<Self> {
        let mut made = self.clone();
        if made.addresses.is_empty() {
            let all = namespace.interfaces.known()?.iter().flat_map(|each| &each.addresses);
            made.addresses = all.map(|net| net.addr()).collect();
        }
        made.addresses.retain(|address| {
            let link = matches!(address, IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80);
            self.families.contains(&Family::of(*address)) && !address.is_loopback() && !link
        });
        made.addresses.sort_unstable();
        made.addresses.dedup();
        (!made.addresses.is_empty()).then_some(made)
    }

    /// Its addresses of one family.
    pub(super) fn of_family(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(move |address| Family::of(*address) == family)
    }
}

/// The targets of those of the sockets that are in one namespace, joined by everything but ports.
pub(super) fn targets(snapshot: &Snapshot, place: NamespaceId, sockets: &[SocketIndex]) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    for index in sockets {
        let socket = &snapshot.sockets[index.0 as usize];
        let (Some(carrier), Endpoint::Inet(address, port)) = (Carrier::of(socket.protocol), &socket.local)
        else {
            continue;
        };
        if socket.netns != place || *port == 0 {
            continue;
        }
        let wildcard = address.is_unspecified();
        let dual = wildcard && address.is_ipv6() && socket.v6only != Some(true);
        let families = if dual { Family::BOTH.to_vec() } else { vec![Family::of(*address)] };
        let addresses = if wildcard { Vec::new() } else { vec![*address] };
        match found
            .iter_mut()
            .find(|each| each.carrier == carrier && each.families == families && each.addresses == addresses)
        {
            Some(same) => {
                same.ports.insert(*port);
            }
            None => found.push(Target { carrier, families, addresses, ports: BTreeSet::from([*port]) }),
        }
    }
    found.sort();
    found
}

/// `tcp 80, 443; udp 53`
pub(super) fn describe(targets: &[Target]) -> String {
    let each = targets.iter().map(|target| {
        let ports: Vec<String> = target.ports.iter().map(u16::to_string).collect();
        format!("{} {}", target.carrier.name(), ports.join(", "))
    });
    let mut parts: Vec<String> = each.collect();
    parts.dedup();
    parts.join("; ")
}

/// A name of letters, digits and underscores that tells sets of targets apart: their ports, or a
/// digest of them where that would be long.
pub(super) fn label(targets: &[Target]) -> String {
    let mut text = String::new();
    for target in targets {
        let _ = write!(text, "_{}", target.carrier.name());
        for port in &target.ports {
            let _ = write!(text, "_{port}");
        }
        for address in &target.addresses {
            let _ = write!(text, "_{address}");
        }
    }
    let text = text.replace([':', '.'], "_");
    if text.len() <= 48 {
        return format!("sockwarden{text}");
    }
    // FNV-1a: the same on every machine and in every version.
    let digest = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("sockwarden_{digest:016x}")
}

/// How to see from another machine that it worked.
pub(super) fn probe(targets: &[Target]) -> String {
    let Some(target) = targets.first() else { return String::new() };
    let port = target.ports.first().copied().unwrap_or_default();
    let udp = if target.carrier == Carrier::Udp { "u" } else { "" };
    match target.carrier {
        Carrier::Tcp | Carrier::Udp => {
            format!("from another machine `nc -{udp}vz -w 3 ADDRESS {port}` gets no answer")
        }
        Carrier::UdpLite | Carrier::Sctp | Carrier::Dccp => {
            format!("from another machine nothing answers on {} port {port}", target.carrier.name())
        }
    }
}
