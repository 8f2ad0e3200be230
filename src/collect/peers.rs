//! The socket at the other end of a conversation, where that end is on this computer.
//!
//! Runs when the sockets stand in their final order. Two candidates mean none: a peer is named
//! only when it is the only one that fits.

#![forbid(unsafe_code)]

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::join::{Found, Inodes};
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, SocketIndex, SocketType, State};

/// Fills `Socket::peer`, and the remote name of UNIX sockets, which is their peer's own. `unix`
/// lists UNIX sockets by index with the inode that they are connected to (`UNIX_DIAG_PEER`).
pub(crate) fn assign(sockets: &mut [Socket], unix: &[(u32, u64)], inodes: &Inodes) {
    let receivers = Receivers::of(sockets);
    for (socket, peer) in inet_peers(sockets, &receivers) {
        sockets[socket as usize].peer = Some(SocketIndex(peer));
    }
    for (socket, inode) in unix {
        if let Found::One(peer) = inodes.find(*inode) {
            sockets[*socket as usize].remote = sockets[peer as usize].local.clone();
            sockets[*socket as usize].peer = Some(SocketIndex(peer));
        }
    }
}

/// TCP and MPTCP speak to each other; every other protocol to itself.
fn class(protocol: Protocol) -> Protocol {
    if protocol == Protocol::Mptcp { Protocol::Tcp } else { protocol }
}

/// Sockets that take what is sent to a port: listeners, and unconnected datagram sockets.
/// In order of namespace, protocol, port and address: thousands may share a port.
pub(super) struct Receivers(Vec<(Place, u32)>);

type Place = (NamespaceId, Protocol, u16, IpAddr);

impl Receivers {
    pub(super) fn of(sockets: &[Socket]) -> Self {
        let mut list = Vec::new();
        for (socket, at) in sockets.iter().zip(0_u32..) {
            let open = match socket.state {
                State::Listen => true,
                State::Unconnected => socket.kind == SocketType::Dgram,
                State::Established
                | State::SynSent
                | State::SynRecv
                | State::FinWait1
                | State::FinWait2
                | State::TimeWait
                | State::Closed
                | State::CloseWait
                | State::LastAck
                | State::Closing
                | State::Bound
                | State::Published
                | State::Unknown => false,
            };
            if let (true, Endpoint::Inet(address, port)) = (open, &socket.local) {
                list.push(((socket.netns, class(socket.protocol), *port, *address), at));
            }
        }
        list.sort_unstable();
        Self(list)
    }

    /// Those of a namespace that a packet to this address and port may reach.
    pub(super) fn at<'r>(
        &'r self,
        sockets: &'r [Socket],
        netns: NamespaceId,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> impl Iterator<Item = u32> + 'r {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let others = any.into_iter().filter(move |each| *each != address);
        std::iter::once(address)
            .chain(others)
            .flat_map(move |own| {
                let wanted = (netns, class(protocol), port, own);
                let start = self.0.partition_point(|each| each.0 < wanted);
                self.0[start..].iter().take_while(move |each| each.0 == wanted).map(|each| each.1)
            })
            .filter(move |at| covers(&sockets[*at as usize], address))
    }
}

/// Whether a socket's local address takes in another.
fn covers(socket: &Socket, address: IpAddr) -> bool {
    match &socket.local {
        Endpoint::Inet(own, _) if *own == address => true,
        Endpoint::Inet(own, _) if own.is_unspecified() => {
            own.is_ipv4() == address.is_ipv4() || (own.is_ipv6() && socket.v6only != Some(true))
        }
        Endpoint::Inet(..)
        | Endpoint::None
        | Endpoint::UnixPath(_)
        | Endpoint::UnixAbstract(_)
        | Endpoint::Vsock { .. }
        | Endpoint::Interface(_) => false,
    }
}

/// Pairs of connected sockets whose addresses mirror each other, and connected datagram sockets
/// with the one receiver that stands at their other end.
fn inet_peers(sockets: &[Socket], receivers: &Receivers) -> Vec<(u32, u32)> {
    let hasher = RandomState::new();
    let mut connected: Vec<(u64, u32)> = Vec::new();
    for (socket, at) in sockets.iter().zip(0_u32..) {
        if is_connected(socket) {
            // The same for both ends.
            let ends = hasher.hash_one(&socket.local) ^ hasher.hash_one(&socket.remote);
            connected.push((ends, at));
        }
    }
    connected.sort_unstable();
    let mut pairs = Vec::new();
    for same in connected.chunk_by(|a, b| a.0 == b.0) {
        for (_, at) in same {
            let others = same.iter().map(|(_, other)| *other).filter(|other| other != at);
            let peer = mirror(sockets, *at, others).or_else(|| receiver(sockets, receivers, *at));
            pairs.extend(peer.map(|peer| (*at, peer)));
        }
    }
    pairs
}

fn is_connected(socket: &Socket) -> bool {
    match (&socket.local, &socket.remote) {
        (Endpoint::Inet(..), Endpoint::Inet(_, port)) => *port != 0,
        (Endpoint::Vsock { .. }, Endpoint::Vsock { .. }) => true,
        _ => false,
    }
}

/// The only socket with the same two ends turned round: in the same namespace if there is one,
/// else in another. A loopback address never leaves its namespace.
fn mirror(sockets: &[Socket], at: u32, others: impl Iterator<Item = u32>) -> Option<u32> {
    let socket = &sockets[at as usize];
    let stays = [&socket.local, &socket.remote]
        .into_iter()
        .any(|end| matches!(end, Endpoint::Inet(address, _) if address.is_loopback()));
    let (mut near, mut far) = (Only::Nothing, Only::Nothing);
    for other in others {
        let found = &sockets[other as usize];
        if class(found.protocol) != class(socket.protocol)
            || found.local != socket.remote
            || found.remote != socket.local
        {
            continue;
        }
        if found.netns == socket.netns {
            near.add(other);
        } else if !stays {
            far.add(other);
        }
    }
    match near {
        Only::Nothing => far.one(),
        Only::One(_) | Only::Several => near.one(),
    }
}

/// One candidate, or none worth the name.
#[derive(Clone, Copy)]
enum Only {
    Nothing,
    One(u32),
    Several,
}

impl Only {
    fn add(&mut self, at: u32) {
        *self = match self {
            Self::Nothing => Self::One(at),
            Self::One(_) | Self::Several => Self::Several,
        };
    }

    fn one(self) -> Option<u32> {
        match self {
            Self::One(at) => Some(at),
            Self::Nothing | Self::Several => None,
        }
    }
}

fn receiver(sockets: &[Socket], receivers: &Receivers, at: u32) -> Option<u32> {
    let socket = &sockets[at as usize];
    let Endpoint::Inet(address, port) = socket.remote else { return None };
    let local = matches!(socket.local, Endpoint::Inet(own, _) if own == address) || address.is_loopback();
    if socket.kind != SocketType::Dgram || !local {
        return None;
    }
    let mut found = Only::Nothing;
    receivers
        .at(sockets, socket.netns, socket.protocol, address, port)
        .filter(|other| *other != at)
        .for_each(|other| found.add(other));
    found.one()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Text;
    use crate::model::sample::Sample;

    fn inet(text: &str) -> Endpoint {
        let parsed: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::Inet(parsed.ip(), parsed.port())
    }

    /// Sockets from (protocol, namespace, local, remote, state).
    fn sockets(rows: &[(Protocol, u32, &str, Option<&str>, State)]) -> Vec<Socket> {
        let mut sample = Sample::new();
        for (protocol, netns, local, remote, state) in rows {
            let socket = sample.socket(*protocol, *state, local, &[]);
            socket.netns = NamespaceId(*netns);
            socket.remote = remote.map_or(Endpoint::None, inet);
            socket.peer = None;
        }
        sample.snapshot.sockets
    }

    fn peers(mut sockets: Vec<Socket>, unix: &[(u32, u64)]) -> Vec<Option<u32>> {
        let inodes = Inodes::of(&sockets);
        assign(&mut sockets, unix, &inodes);
        sockets.iter().map(|socket| socket.peer.map(|peer| peer.0)).collect()
    }

    #[test]
    fn loopback_conversation_names_both_ends() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "127.0.0.1:80", Some("127.0.0.1:40000"), State::Established),
            (Protocol::Tcp, 0, "127.0.0.1:40000", Some("127.0.0.1:80"), State::Established),
        ]);
        assert_eq!(peers(rows, &[]), [Some(1), Some(0)]);
    }

    #[test]
    fn loopback_of_another_namespace_is_another_conversation() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "127.0.0.1:80", Some("127.0.0.1:40000"), State::Established),
            (Protocol::Tcp, 1, "127.0.0.1:40000", Some("127.0.0.1:80"), State::Established),
        ]);
        assert_eq!(peers(rows, &[]), [None, None]);
    }

    #[test]
    fn a_veth_pair_joins_two_namespaces() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "10.0.0.1:80", Some("10.0.0.2:40000"), State::Established),
            (Protocol::Tcp, 1, "10.0.0.2:40000", Some("10.0.0.1:80"), State::Established),
        ]);
        assert_eq!(peers(rows, &[]), [Some(1), Some(0)]);
    }

    #[test]
    fn two_candidates_are_none() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "10.0.0.1:80", Some("10.0.0.2:40000"), State::Established),
            (Protocol::Tcp, 1, "10.0.0.2:40000", Some("10.0.0.1:80"), State::Established),
            (Protocol::Tcp, 2, "10.0.0.2:40000", Some("10.0.0.1:80"), State::Established),
        ]);
        assert_eq!(peers(rows, &[])[0], None);
    }

    #[test]
    fn a_connected_datagram_socket_finds_the_server_that_serves_all() {
        let mut rows = sockets(&[
            (Protocol::Udp, 0, "[::]:53", None, State::Unconnected),
            (Protocol::Udp, 0, "127.0.0.1:40000", Some("127.0.0.1:53"), State::Established),
        ]);
        rows[0].v6only = Some(false);
        assert_eq!(peers(rows.clone(), &[]), [None, Some(0)]);
        rows[0].v6only = Some(true);
        assert_eq!(peers(rows, &[]), [None, None]);
    }

    #[test]
    fn unix_peers_are_found_by_inode() {
        let mut sample = Sample::new();
        for inode in [7, 8, 0] {
            let socket = sample.socket(Protocol::Unix, State::Established, "/run/x", &[]);
            socket.local = Endpoint::UnixPath(Text::from("/run/x"));
            socket.inode = inode;
        }
        let found = peers(sample.snapshot.sockets, &[(0, 8), (1, 7), (2, 99)]);
        assert_eq!(found, [Some(1), Some(0), None]);
    }
}
