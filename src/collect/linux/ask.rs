//! Sockets that no table lists: what they say of themselves, understood. Unbound TCP and UDP,
//! AF_ALG, AF_XDP, vsock without its module, and whatever else stands in a file table.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{inet_kind, local_end, remote_end, unix_name, vsock_end};
use crate::collect::table::{kind_of, state_of};
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, SocketType, State, canonical};
use crate::source::SocketAnswer;

/// Address families of <bits/socket.h>.
const FAMILIES: [(u32, Protocol); 11] = [
    (1, Protocol::Unix),
    (15, Protocol::Key),
    (16, Protocol::Netlink),
    (17, Protocol::Packet),
    (29, Protocol::Can),
    (30, Protocol::Tipc),
    (31, Protocol::Bluetooth),
    (38, Protocol::Alg),
    (40, Protocol::Vsock),
    (43, Protocol::Smc),
    (44, Protocol::Xdp),
];

/// IP protocol numbers of sockets that are not raw.
const IP_PROTOCOLS: [(u32, Protocol); 8] = [
    (1, Protocol::Icmp),
    (6, Protocol::Tcp),
    (17, Protocol::Udp),
    (33, Protocol::Dccp),
    (58, Protocol::Icmp),
    (132, Protocol::Sctp),
    (136, Protocol::UdpLite),
    (262, Protocol::Mptcp),
];

/// Turns an answer into a socket of this namespace.
pub fn understand(answer: &SocketAnswer, netns: NamespaceId) -> Socket {
    let protocol = protocol_of(answer);
    let mut socket = Socket::blank(protocol, netns);
    socket.kind = kind_of(answer.kind);
    socket.inode = answer.inode;
    socket.cookie = answer.cookie;
    socket.uid = Some(answer.uid);
    socket.interface = answer.interface;
    socket.v6only = answer.v6only;
    socket.local = end(protocol, &answer.name);
    socket.remote = end(protocol, &answer.peer);
    if let Endpoint::Inet(address, port) = socket.local {
        socket.local = local_end(protocol, address, port);
    }
    if let Endpoint::Inet(address, port) = socket.remote {
        socket.remote = remote_end(address, port);
    }
    match protocol {
        Protocol::Raw | Protocol::Netlink => socket.protocol_number = Some(answer.protocol),
        // The ethertype, in network order.
        Protocol::Packet => {
            socket.protocol_number = half(&answer.name, 2).map(|p| u32::from(u16::from_be(p)));
            if let Endpoint::Interface(index) = socket.local {
                socket.interface = index;
            }
        }
        Protocol::Tcp
        | Protocol::Udp
        | Protocol::UdpLite
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Icmp
        | Protocol::Unix
        | Protocol::Vsock
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Smc
        | Protocol::Other(_) => {}
    }
    socket.state = state(answer, &socket);
    if protocol == Protocol::Netlink && word(&answer.name, 8).is_some_and(|groups| groups != 0) {
        let groups = word(&answer.name, 8).unwrap_or(0);
        socket.groups =
            (0..32).filter(|bit| groups & (1 << bit) != 0).map(|bit| (bit + 1).to_string().into()).collect();
    }
    socket
}

fn protocol_of(answer: &SocketAnswer) -> Protocol {
    let among =
        |list: &[(u32, Protocol)], number| list.iter().find(|each| each.0 == number).map(|each| each.1);
    let unknown = Protocol::Other(u16::try_from(answer.domain).unwrap_or(u16::MAX));
    match answer.domain {
        2 | 10 if kind_of(answer.kind) == SocketType::Raw => Protocol::Raw,
        2 | 10 => among(&IP_PROTOCOLS, answer.protocol).unwrap_or(unknown),
        family => among(&FAMILIES, family).unwrap_or(unknown),
    }
}

fn state(answer: &SocketAnswer, socket: &Socket) -> State {
    if answer.accepting {
        return State::Listen;
    }
    let connects = matches!(socket.kind, SocketType::Stream | SocketType::Seqpacket);
    let named = match &socket.local {
        Endpoint::Inet(_, port) => *port != 0,
        Endpoint::None | Endpoint::Interface(_) => false,
        Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) | Endpoint::Vsock { .. } => true,
    };
    match answer.tcp_state {
        Some(number) => state_of(number, connects, named),
        // A UNIX peer may be unnamed: its address is a family and nothing more.
        None if socket.remote != Endpoint::None || (answer.domain == 1 && !answer.peer.is_empty()) => {
            State::Established
        }
        None => state_of(7, connects, named),
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// `struct sockaddr_*`: the family first, then each its own way.
fn end(protocol: Protocol, bytes: &[u8]) -> Endpoint {
    known_end(protocol, bytes).unwrap_or_default()
}

fn known_end(protocol: Protocol, bytes: &[u8]) -> Option<Endpoint> {
    let port = half(bytes, 2).map(u16::from_be);
    match half(bytes, 0)? {
        1 => Some(unix_name(&bytes[2..])),
        2 => Some(Endpoint::Inet(
            IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?)),
            ip_port(protocol, port?),
        )),
        10 => Some(Endpoint::Inet(
            canonical(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?))),
            ip_port(protocol, port?),
        )),
        17 => Some(Endpoint::Interface(word(bytes, 4)?)),
        40 => Some(vsock_end(word(bytes, 8)?, word(bytes, 4)?)),
        _ => None,
    }
}

/// The "port" of a raw socket is its IP protocol.
fn ip_port(protocol: Protocol, port: u16) -> u16 {
    if protocol == Protocol::Raw { 0 } else { port }
}

/// What is left when a socket may not be asked: the name of its protocol in /proc/net/protocols
/// (`struct proto`), which its link tells to everybody who may read it.
pub fn by_name(name: &[u8], inode: u64, netns: NamespaceId) -> Socket {
    let protocol = protocol_by_name(name);
    let mut socket = Socket::blank(protocol, netns);
    socket.kind = inet_kind(protocol);
    socket.inode = inode;
    socket
}

/// `struct proto::name` of the kernel.
pub(super) fn protocol_by_name(name: &[u8]) -> Protocol {
    const NAMES: [(&str, Protocol); 19] = [
        ("TCP", Protocol::Tcp),
        ("UDP", Protocol::Udp),
        ("UDP-Lite", Protocol::UdpLite),
        ("UDPLITE", Protocol::UdpLite),
        ("MPTCP", Protocol::Mptcp),
        ("SCTP", Protocol::Sctp),
        ("DCCP", Protocol::Dccp),
        ("PING", Protocol::Icmp),
        ("RAW", Protocol::Raw),
        ("PACKET", Protocol::Packet),
        ("UNIX", Protocol::Unix),
        ("UNIX-STREAM", Protocol::Unix),
        ("NETLINK", Protocol::Netlink),
        ("AF_VSOCK", Protocol::Vsock),
        ("XDP", Protocol::Xdp),
        ("ALG", Protocol::Alg),
        ("KEY", Protocol::Key),
        ("TIPC", Protocol::Tipc),
        ("SMC", Protocol::Smc),
    ];
    let text = String::from_utf8_lossy(name);
    let plain = text.strip_suffix("v6").unwrap_or(&text);
    NAMES.iter().find(|each| each.0 == plain).map_or(Protocol::Other(0), |each| each.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(domain: u32, kind: u32, protocol: u32) -> SocketAnswer {
        SocketAnswer { inode: 7, uid: 33, domain, kind, protocol, cookie: 9, ..SocketAnswer::default() }
    }

    #[test]
    fn an_unbound_socket_has_no_address() {
        let mut name = vec![0; 16];
        name[..2].copy_from_slice(&2_u16.to_ne_bytes());
        let socket =
            understand(&SocketAnswer { name, tcp_state: Some(7), ..answer(2, 1, 6) }, NamespaceId(0));
        assert_eq!(
            (socket.protocol, socket.state, socket.local),
            (Protocol::Tcp, State::Unconnected, Endpoint::None)
        );
        assert_eq!((socket.inode, socket.cookie, socket.uid), (7, 9, Some(33)));
    }

    #[test]
    fn a_raw_socket_tells_its_protocol_apart_from_its_address() {
        let mut name = vec![0; 28];
        name[..2].copy_from_slice(&10_u16.to_ne_bytes());
        name[2..4].copy_from_slice(&[0, 58]);
        name[23] = 1;
        let socket = understand(&SocketAnswer { name, ..answer(10, 3, 58) }, NamespaceId(0));
        assert_eq!((socket.protocol, socket.protocol_number), (Protocol::Raw, Some(58)));
        assert_eq!(socket.local, Endpoint::Inet("::1".parse().unwrap(), 0));
    }

    #[test]
    fn families_without_a_table_keep_their_names() {
        for (domain, protocol) in
            [(38, Protocol::Alg), (44, Protocol::Xdp), (29, Protocol::Can), (99, Protocol::Other(99))]
        {
            assert_eq!(understand(&answer(domain, 5, 0), NamespaceId(0)).protocol, protocol);
        }
        let mut name = 40_u16.to_ne_bytes().to_vec();
        name.extend_from_slice(&[0, 0]);
        name.extend_from_slice(&9999_u32.to_ne_bytes());
        name.extend_from_slice(&3_u32.to_ne_bytes());
        let socket = understand(&SocketAnswer { name, accepting: true, ..answer(40, 1, 0) }, NamespaceId(0));
        assert_eq!((socket.local, socket.state), (Endpoint::Vsock { cid: 3, port: 9999 }, State::Listen));
    }

    #[test]
    fn an_unnamed_unix_peer_is_still_a_peer() {
        let family = 1_u16.to_ne_bytes().to_vec();
        let socket = understand(
            &SocketAnswer { name: family.clone(), peer: family, ..answer(1, 1, 0) },
            NamespaceId(0),
        );
        assert_eq!((socket.state, socket.local), (State::Established, Endpoint::None));
    }

    #[test]
    fn the_name_of_a_protocol_is_the_least_that_is_known() {
        let socket = by_name(b"UDPv6", 5, NamespaceId(0));
        assert_eq!((socket.protocol, socket.inode, socket.state), (Protocol::Udp, 5, State::Unknown));
        assert_eq!(protocol_by_name(b"AF_VSOCK"), Protocol::Vsock);
        assert_eq!(protocol_by_name(b"\xffodd"), Protocol::Other(0));
    }
}
