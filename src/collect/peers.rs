//! The socket at the other end of a conversation, where that end is on this computer.
//!
//! Runs when the sockets stand in their final order. Two candidates mean none: a peer is named
//! only when it is the only one that fits.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{Endpoint, NamespaceId, Protocol, Role, Socket, SocketIndex, State};

/// One side of a conversation as the other side sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Tuple {
    protocol: Protocol,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

/// Who stands behind a key: one socket, or more than one, which is nobody.
#[derive(Clone, Copy)]
enum Found {
    One(u32),
    Many,
}

/// Fills `Socket::peer`. `unix` lists UNIX sockets by index with the inode that they are
/// connected to (`UNIX_DIAG_PEER`).
pub fn assign(sockets: &mut [Socket], unix: &[(u32, u64)]) {
    let found: Vec<(u32, u32)> = ip_pairs(sockets).into_iter().chain(unix_pairs(sockets, unix)).collect();
    for (index, peer) in found {
        sockets[index as usize].peer = Some(SocketIndex(peer));
    }
}

fn numbered(sockets: &[Socket]) -> impl Iterator<Item = (u32, &Socket)> {
    (0u32..).zip(sockets)
}

fn note<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Found>, key: K, index: u32) {
    map.entry(key).and_modify(|found| *found = Found::Many).or_insert(Found::One(index));
}

fn unix_pairs(sockets: &[Socket], unix: &[(u32, u64)]) -> Vec<(u32, u32)> {
    if unix.is_empty() {
        return Vec::new();
    }
    let mut by_inode = HashMap::new();
    for (index, socket) in numbered(sockets) {
        if socket.protocol == Protocol::Unix && socket.inode != 0 {
            note(&mut by_inode, socket.inode, index);
        }
    }
    let peer_of = |&(index, inode): &(u32, u64)| match by_inode.get(&inode) {
        Some(Found::One(peer)) => Some((index, *peer)),
        Some(Found::Many) | None => None,
    };
    unix.iter().filter_map(peer_of).collect()
}

fn ip_pairs(sockets: &[Socket]) -> Vec<(u32, u32)> {
    let mut everywhere: HashMap<Tuple, Found> = HashMap::new();
    let mut here: HashMap<(NamespaceId, Tuple), Found> = HashMap::new();
    let mut receivers: HashMap<(NamespaceId, Protocol, IpAddr, u16), Found> = HashMap::new();
    for (index, socket) in numbered(sockets) {
        if let Some(tuple) = tuple(socket) {
            note(&mut everywhere, tuple, index);
            note(&mut here, (socket.netns, tuple), index);
        } else if let (Role::Receiver | Role::Idle, true, Endpoint::Inet(address, port)) =
            (socket.role, datagrams(socket.protocol), &socket.local)
        {
            note(&mut receivers, (socket.netns, socket.protocol, *address, *port), index);
        }
    }

    let other_end = |socket: &Socket| {
        let tuple = tuple(socket)?;
        let mirrored = Tuple { local: tuple.remote, remote: tuple.local, ..tuple };
        if let Some(found) = here.get(&(socket.netns, mirrored)) {
            return Some(*found);
        }
        // A loopback address means the same namespace; any other may lead through a veth pair.
        let stays = tuple.remote.0.is_loopback() || tuple.local.0 == tuple.remote.0;
        if let Some(found) = everywhere.get(&mirrored).filter(|_| !stays) {
            return Some(*found);
        }
        if !datagrams(socket.protocol) || !stays {
            return None;
        }
        // A connected datagram socket whose other end serves everybody.
        let (address, port) = tuple.remote;
        let wildcards: [IpAddr; 2] = match address {
            IpAddr::V4(_) => [std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv6Addr::UNSPECIFIED.into()],
            IpAddr::V6(_) => [std::net::Ipv6Addr::UNSPECIFIED.into(); 2],
        };
        std::iter::once(address).chain(wildcards).find_map(|bound| {
            let found = receivers.get(&(socket.netns, socket.protocol, bound, port))?;
            match found {
                Found::One(index) if bound.is_ipv6() && address.is_ipv4() => {
                    (sockets[*index as usize].v6only == Some(false)).then_some(*found)
                }
                Found::One(_) | Found::Many => Some(*found),
            }
        })
    };
    numbered(sockets)
        .filter_map(|(index, socket)| match other_end(socket)? {
            Found::One(peer) if peer != index => Some((index, peer)),
            Found::One(_) | Found::Many => None,
        })
        .collect()
}

fn datagrams(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Udp | Protocol::UdpLite)
}

/// Both ends of a socket that has both. MPTCP's own rows are its subflows' business.
fn tuple(socket: &Socket) -> Option<Tuple> {
    if !socket.protocol.has_ports() || socket.state == State::Listen {
        return None;
    }
    match (&socket.local, &socket.remote) {
        (Endpoint::Inet(local, from), Endpoint::Inet(remote, to)) if *to != 0 => {
            Some(Tuple { protocol: socket.protocol, local: (*local, *from), remote: (*remote, *to) })
        }
        _ => None,
    }
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

    /// Sockets from (protocol, namespace, local, remote, role).
    fn sockets(rows: &[(Protocol, u32, &str, Option<&str>, Role)]) -> Vec<Socket> {
        let mut sample = Sample::new();
        for (protocol, netns, local, remote, role) in rows {
            let socket = sample.socket(*protocol, State::Established, local, &[]);
            socket.netns = NamespaceId(*netns);
            socket.remote = remote.map_or(Endpoint::None, inet);
            socket.role = *role;
            socket.peer = None;
        }
        sample.snapshot.sockets
    }

    fn peers(mut sockets: Vec<Socket>, unix: &[(u32, u64)]) -> Vec<Option<u32>> {
        assign(&mut sockets, unix);
        sockets.iter().map(|socket| socket.peer.map(|peer| peer.0)).collect()
    }

    #[test]
    fn loopback_conversation_names_both_ends() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "127.0.0.1:80", Some("127.0.0.1:40000"), Role::Inbound),
            (Protocol::Tcp, 0, "127.0.0.1:40000", Some("127.0.0.1:80"), Role::Outbound),
        ]);
        assert_eq!(peers(rows, &[]), [Some(1), Some(0)]);
    }

    #[test]
    fn loopback_of_another_namespace_is_another_conversation() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "127.0.0.1:80", Some("127.0.0.1:40000"), Role::Inbound),
            (Protocol::Tcp, 1, "127.0.0.1:40000", Some("127.0.0.1:80"), Role::Outbound),
        ]);
        assert_eq!(peers(rows, &[]), [None, None]);
    }

    #[test]
    fn a_veth_pair_joins_two_namespaces() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "10.0.0.1:80", Some("10.0.0.2:40000"), Role::Inbound),
            (Protocol::Tcp, 1, "10.0.0.2:40000", Some("10.0.0.1:80"), Role::Outbound),
        ]);
        assert_eq!(peers(rows, &[]), [Some(1), Some(0)]);
    }

    #[test]
    fn two_candidates_are_none() {
        let rows = sockets(&[
            (Protocol::Tcp, 0, "10.0.0.1:80", Some("10.0.0.2:40000"), Role::Inbound),
            (Protocol::Tcp, 1, "10.0.0.2:40000", Some("10.0.0.1:80"), Role::Outbound),
            (Protocol::Tcp, 2, "10.0.0.2:40000", Some("10.0.0.1:80"), Role::Outbound),
        ]);
        assert_eq!(peers(rows, &[])[0], None);
    }

    #[test]
    fn a_connected_datagram_socket_finds_the_server_that_serves_all() {
        let mut rows = sockets(&[
            (Protocol::Udp, 0, "[::]:53", None, Role::Receiver),
            (Protocol::Udp, 0, "127.0.0.1:40000", Some("127.0.0.1:53"), Role::Outbound),
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
