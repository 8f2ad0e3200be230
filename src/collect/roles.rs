//! What a socket does for its program: serve, call, or both ends alike.
//!
//! The kernel keeps no record of who called. It is told from the listeners that stand beside a
//! connection and, where those tell nothing, from which end has a port out of the automatic range;
//! what neither tells is `Role::Peer`.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;

use crate::model::{Endpoint, NamespaceId, Protocol, Role, Socket, SocketType, State};

/// A port that somebody serves.
type Served = (NamespaceId, Protocol, u16);

/// Fills `Socket::role`. `ephemeral` gives a namespace's `net.ipv4.ip_local_port_range`.
pub fn assign(sockets: &mut [Socket], ephemeral: &dyn Fn(NamespaceId) -> (u16, u16)) {
    let served: HashSet<Served> = sockets.iter().filter_map(serves).collect();
    let names: HashSet<Endpoint> = sockets
        .iter()
        .filter(|socket| socket.protocol == Protocol::Unix && socket.state == State::Listen)
        .map(|socket| socket.local.clone())
        .collect();
    for socket in sockets {
        socket.role = match socket.state {
            State::Listen => Role::Listener,
            State::Published => Role::Published,
            _ if socket.protocol == Protocol::Unix => unix(socket, &names),
            State::SynSent => Role::Outbound,
            State::SynRecv => Role::Inbound,
            State::Unconnected | State::Bound | State::Closed | State::Unknown => unconnected(socket),
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::TimeWait
            | State::CloseWait
            | State::LastAck
            | State::Closing => connected(socket, &served, ephemeral(socket.netns)),
        };
    }
}

/// The port that a socket serves to newcomers, where it does.
fn serves(socket: &Socket) -> Option<Served> {
    let newcomers = socket.state == State::Listen
        || datagrams(socket.protocol)
            && socket.remote == Endpoint::None
            && socket.state != State::Established;
    port(&socket.local).filter(|_| newcomers).map(|port| (socket.netns, socket.protocol, port))
}

fn datagrams(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Udp | Protocol::UdpLite)
}

fn port(end: &Endpoint) -> Option<u16> {
    match end {
        Endpoint::Inet(_, port) if *port != 0 => Some(*port),
        Endpoint::Vsock { port, .. } => u16::try_from(*port).ok().filter(|port| *port != 0),
        Endpoint::None
        | Endpoint::Inet(..)
        | Endpoint::UnixPath(_)
        | Endpoint::UnixAbstract(_)
        | Endpoint::Interface(_) => None,
    }
}

/// Sockets without a remote end: does a packet of a stranger reach them?
fn unconnected(socket: &Socket) -> Role {
    let receives = match socket.protocol {
        Protocol::Udp | Protocol::UdpLite => port(&socket.local).is_some(),
        Protocol::Raw | Protocol::Icmp | Protocol::Packet | Protocol::Xdp | Protocol::Key | Protocol::Can => {
            true
        }
        Protocol::Netlink => !socket.groups.is_empty(),
        Protocol::Vsock | Protocol::Tipc => {
            socket.kind == SocketType::Dgram && socket.local != Endpoint::None
        }
        Protocol::Tcp
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Smc
        | Protocol::Unix
        | Protocol::Alg
        | Protocol::Bluetooth
        | Protocol::Other(_) => false,
    };
    if receives { Role::Receiver } else { Role::Idle }
}

fn connected(socket: &Socket, served: &HashSet<Served>, (first, last): (u16, u16)) -> Role {
    let automatic = |port: u16| first <= port && port <= last;
    let (Some(local), Some(remote)) = (port(&socket.local), port(&socket.remote)) else {
        return if socket.remote == Endpoint::None { unconnected(socket) } else { Role::Outbound };
    };
    let stays = match (&socket.local, &socket.remote) {
        (Endpoint::Inet(here, _), Endpoint::Inet(there, _)) => here == there || IpAddr::is_loopback(there),
        _ => false,
    };
    let we_serve = served.contains(&(socket.netns, socket.protocol, local));
    let they_serve = stays && served.contains(&(socket.netns, socket.protocol, remote));
    match (we_serve, they_serve) {
        (true, false) => Role::Inbound,
        (false, true) => Role::Outbound,
        // Nobody serves any more, or both do: the caller is the one whose port the kernel picked.
        (true, true) | (false, false) => match (automatic(local), automatic(remote)) {
            (true, false) => Role::Outbound,
            (false, true) => Role::Inbound,
            (true, true) | (false, false) => Role::Peer,
        },
    }
}

/// An accepted UNIX socket carries its listener's name; a caller's is mostly nameless, and so are
/// both ends of a pair.
fn unix(socket: &Socket, listeners: &HashSet<Endpoint>) -> Role {
    let named = socket.local != Endpoint::None;
    if socket.state == State::Established {
        return if named && listeners.contains(&socket.local) {
            Role::Inbound
        } else if socket.remote != Endpoint::None {
            Role::Outbound
        } else {
            Role::Peer
        };
    }
    match (socket.state == State::SynSent, socket.state == State::SynRecv) {
        (true, _) => Role::Outbound,
        (_, true) => Role::Inbound,
        (false, false) if named && socket.kind == SocketType::Dgram => Role::Receiver,
        (false, false) => Role::Idle,
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
        assign(&mut sockets, &|_| (32768, 60999));
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
        assign(&mut sockets, &|_| (32768, 60999));
        let found: Vec<_> = sockets.iter().map(|socket| socket.role).collect();
        let expected =
            [Role::Listener, Role::Inbound, Role::Outbound, Role::Peer, Role::Receiver, Role::Idle];
        assert_eq!(found, expected);
    }
}
