//! What a socket does for its program: serve, call, or both ends alike.
//!
//! The kernel keeps no record of who called. It is told from the listeners that stand beside a
//! connection or at its other end and, where those tell nothing, from which end has a port out of
//! the automatic range; what neither tells is `Role::Peer`. Runs after `peers`.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;

use super::peers::Receivers;
use crate::model::{Endpoint, NamespaceId, Protocol, Role, Socket, SocketType, State};

/// The kernel's default of net.ipv4.ip_local_port_range.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// Fills `Socket::role`. `ephemeral`: the range of ports that the kernel chooses from, for each
/// namespace.
pub(crate) fn assign(sockets: &mut [Socket], ephemeral: &[Option<(u16, u16)>]) {
    let receivers = Receivers::of(sockets);
    let unix = unix_listeners(sockets);
    let view = View { sockets, receivers, unix, ephemeral };
    let roles: Vec<Role> = (0..view.sockets.len()).map(|at| view.role(at)).collect();
    for (socket, role) in sockets.iter_mut().zip(roles) {
        socket.role = role;
    }
}

/// Names that somebody listens at. A path means the same file in every network namespace; an
/// abstract name belongs to one (unix(7)).
fn unix_listeners(sockets: &[Socket]) -> HashSet<(NamespaceId, Endpoint)> {
    sockets
        .iter()
        .filter(|socket| socket.protocol == Protocol::Unix && socket.state == State::Listen)
        .map(|socket| (place_of_name(socket), socket.local.clone()))
        .collect()
}

fn place_of_name(socket: &Socket) -> NamespaceId {
    if matches!(socket.local, Endpoint::UnixAbstract(_)) { socket.netns } else { NamespaceId(0) }
}

struct View<'v> {
    sockets: &'v [Socket],
    receivers: Receivers,
    unix: HashSet<(NamespaceId, Endpoint)>,
    ephemeral: &'v [Option<(u16, u16)>],
}

impl View<'_> {
    fn role(&self, at: usize) -> Role {
        let socket = &self.sockets[at];
        match socket.state {
            State::Listen => return Role::Listener,
            State::SynSent => return Role::Outbound,
            State::SynRecv => return Role::Inbound,
            State::Published => return Role::Published,
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::TimeWait
            | State::Closed
            | State::CloseWait
            | State::LastAck
            | State::Closing
            | State::Bound
            | State::Unconnected
            | State::Unknown => {}
        }
        match socket.protocol {
            Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp | Protocol::Dccp | Protocol::Smc => {
                self.stream(socket).unwrap_or(Role::Idle)
            }
            Protocol::Udp | Protocol::UdpLite => self.stream(socket).unwrap_or_else(|| self.datagram(socket)),
            Protocol::Unix => self.unix(socket),
            // IPPROTO_RAW (255) sends only (raw(7)).
            Protocol::Raw if socket.protocol_number == Some(255) => Role::Idle,
            Protocol::Raw | Protocol::Icmp => Role::Receiver,
            // Protocol 0 receives nothing until one is chosen (packet(7)).
            Protocol::Packet if socket.protocol_number == Some(0) => Role::Idle,
            Protocol::Packet | Protocol::Key | Protocol::Can => Role::Receiver,
            Protocol::Netlink if socket.groups.is_empty() => Role::Idle,
            Protocol::Netlink => Role::Receiver,
            Protocol::Xdp if socket.state == State::Bound => Role::Receiver,
            Protocol::Vsock => self.vsock(socket),
            Protocol::Xdp | Protocol::Alg | Protocol::Tipc | Protocol::Bluetooth | Protocol::Other(_) => {
                if socket.state == State::Established {
                    Role::Peer
                } else {
                    Role::Idle
                }
            }
        }
    }

    /// Who called whom, for a connected IP socket.
    fn stream(&self, socket: &Socket) -> Option<Role> {
        let (Endpoint::Inet(local, port), Endpoint::Inet(remote, remote_port)) =
            (&socket.local, &socket.remote)
        else {
            return None;
        };
        if self.is_served(socket, *local, *port) {
            return Some(Role::Inbound);
        }
        let peer = socket.peer.map(|peer| &self.sockets[peer.0 as usize]);
        let called =
            |peer: &Socket| peer.state == State::Unconnected || self.is_served(peer, *remote, *remote_port);
        if peer.is_some_and(called) {
            return Some(Role::Outbound);
        }
        let theirs = peer.map_or(socket.netns, |peer| peer.netns);
        Some(match (self.is_ephemeral(socket.netns, *port), self.is_ephemeral(theirs, *remote_port)) {
            (true, false) => Role::Outbound,
            (false, true) => Role::Inbound,
            // The one who calls takes any port; a well-known one at both ends is a custom among
            // servers of one kind (DNS, NTP), and tells nothing.
            (true, true) | (false, false) => Role::Peer,
        })
    }

    /// Whether somebody else stands ready where this socket is.
    fn is_served(&self, socket: &Socket, address: IpAddr, port: u16) -> bool {
        self.receivers
            .at(self.sockets, socket.netns, socket.protocol, address, port)
            .any(|other| !std::ptr::eq(&raw const self.sockets[other as usize], socket))
    }

    fn is_ephemeral(&self, netns: NamespaceId, port: u16) -> bool {
        let (first, last) = self.ephemeral.get(netns.0 as usize).copied().flatten().unwrap_or(EPHEMERAL);
        (first..=last).contains(&port)
    }

    /// UDP has no state of listening: a wildcard address with a port that the kernel chose is a
    /// client that has sent something; whoever chose address or port wants to be found.
    fn datagram(&self, socket: &Socket) -> Role {
        match &socket.local {
            Endpoint::Inet(_, 0) => Role::Idle,
            Endpoint::Inet(address, port)
                if address.is_unspecified() && self.is_ephemeral(socket.netns, *port) =>
            {
                Role::Outbound
            }
            Endpoint::Inet(..) => Role::Receiver,
            Endpoint::None
            | Endpoint::UnixPath(_)
            | Endpoint::UnixAbstract(_)
            | Endpoint::Vsock { .. }
            | Endpoint::Interface(_) => Role::Idle,
        }
    }

    /// What was accepted carries the name of its listener.
    fn unix(&self, socket: &Socket) -> Role {
        let named = socket.local != Endpoint::None;
        let connected = socket.state != State::Unconnected && socket.state != State::Bound;
        if !connected {
            return if named && socket.kind == SocketType::Dgram { Role::Receiver } else { Role::Idle };
        }
        if named && socket.kind != SocketType::Dgram && self.has_listener(socket) {
            return Role::Inbound;
        }
        let Some(peer) = socket.peer.map(|peer| &self.sockets[peer.0 as usize]) else {
            return if socket.remote == Endpoint::None { Role::Peer } else { Role::Outbound };
        };
        if socket.kind == SocketType::Dgram {
            let both =
                peer.peer.is_some_and(|back| std::ptr::eq(&raw const self.sockets[back.0 as usize], socket));
            return if both { Role::Peer } else { Role::Outbound };
        }
        match (named, peer.local != Endpoint::None) {
            (_, true) if self.has_listener(peer) => Role::Outbound,
            (false, true) => Role::Outbound,
            (true, false) => Role::Inbound,
            (true, true) | (false, false) => Role::Peer,
        }
    }

    fn has_listener(&self, socket: &Socket) -> bool {
        self.unix.contains(&(place_of_name(socket), socket.local.clone()))
    }

    fn vsock(&self, socket: &Socket) -> Role {
        let (Endpoint::Vsock { port, .. }, Endpoint::Vsock { .. }) = (&socket.local, &socket.remote) else {
            return Role::Idle;
        };
        let served = self.sockets.iter().any(|other| {
            other.protocol == Protocol::Vsock
                && other.state == State::Listen
                && matches!(&other.local, Endpoint::Vsock { port: theirs, .. } if theirs == port)
        });
        if served { Role::Inbound } else { Role::Outbound }
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

    fn roles(rows: &[(Protocol, State, &str, &str)]) -> Vec<Role> {
        let mut sample = Sample::new();
        for (protocol, state, local, remote) in rows {
            let socket = sample.socket(*protocol, *state, local, &[]);
            socket.remote = if remote.is_empty() { Endpoint::None } else { inet(remote) };
        }
        let mut sockets = sample.snapshot.sockets;
        let inodes = crate::collect::join::Inodes::of(&sockets);
        crate::collect::peers::assign(&mut sockets, &[], &inodes);
        assign(&mut sockets, &[None]);
        sockets.iter().map(|socket| socket.role).collect()
    }

    #[test]
    fn a_listener_beside_it_makes_a_connection_inbound() {
        let found = roles(&[
            (Protocol::Tcp, State::Listen, "0.0.0.0:40001", ""),
            (Protocol::Tcp, State::Established, "203.0.113.5:40001", "198.51.100.1:50000"),
            (Protocol::Tcp, State::Established, "203.0.113.5:50001", "198.51.100.1:443"),
        ]);
        assert_eq!(found, [Role::Listener, Role::Inbound, Role::Outbound]);
    }

    #[test]
    fn without_listener_the_automatic_port_is_the_callers() {
        let found = roles(&[
            (Protocol::Tcp, State::Established, "203.0.113.5:22", "198.51.100.1:50000"),
            (Protocol::Tcp, State::Established, "203.0.113.5:50000", "198.51.100.1:50001"),
            (Protocol::Tcp, State::Established, "203.0.113.5:179", "198.51.100.1:180"),
        ]);
        assert_eq!(found, [Role::Inbound, Role::Peer, Role::Peer]);
    }

    #[test]
    fn a_listener_on_our_own_port_is_not_the_remote_computers() {
        let found = roles(&[
            (Protocol::Tcp, State::Listen, "0.0.0.0:443", ""),
            (Protocol::Tcp, State::Established, "203.0.113.5:50001", "198.51.100.1:443"),
            (Protocol::Tcp, State::Established, "127.0.0.1:50002", "127.0.0.1:443"),
            (Protocol::Tcp, State::Established, "127.0.0.1:443", "127.0.0.1:50002"),
        ]);
        assert_eq!(found, [Role::Listener, Role::Outbound, Role::Outbound, Role::Inbound]);
    }

    #[test]
    fn datagram_sockets_receive_while_they_are_bound_and_unconnected() {
        let found = roles(&[
            (Protocol::Udp, State::Unconnected, "0.0.0.0:53", ""),
            (Protocol::Udp, State::Established, "127.0.0.1:53", "127.0.0.1:40000"),
            (Protocol::Udp, State::Established, "127.0.0.1:40000", "127.0.0.1:53"),
            (Protocol::Tcp, State::Bound, "0.0.0.0:99", ""),
        ]);
        assert_eq!(found, [Role::Receiver, Role::Inbound, Role::Outbound, Role::Idle]);
    }

    #[test]
    fn unix_callers_and_accepted_ends_are_told_by_name() {
        let mut sample = Sample::new();
        let name = Endpoint::UnixPath(Text::from("/run/x"));
        for (state, kind, local, remote) in [
            (State::Listen, SocketType::Stream, name.clone(), Endpoint::None),
            (State::Established, SocketType::Stream, name.clone(), Endpoint::None),
            (State::Established, SocketType::Stream, Endpoint::None, name.clone()),
            (State::Established, SocketType::Stream, Endpoint::None, Endpoint::None),
            (State::Unconnected, SocketType::Dgram, name.clone(), Endpoint::None),
            (State::Unconnected, SocketType::Stream, Endpoint::None, Endpoint::None),
        ] {
            let socket = sample.socket(Protocol::Unix, state, "/run/x", &[]);
            (socket.kind, socket.local, socket.remote) = (kind, local, remote);
        }
        let mut sockets = sample.snapshot.sockets;
        let inodes = crate::collect::join::Inodes::of(&sockets);
        crate::collect::peers::assign(&mut sockets, &[], &inodes);
        assign(&mut sockets, &[None]);
        let found: Vec<_> = sockets.iter().map(|socket| socket.role).collect();
        let expected =
            [Role::Listener, Role::Inbound, Role::Outbound, Role::Peer, Role::Receiver, Role::Idle];
        assert_eq!(found, expected);
    }
}
