//! Sockets with IP addresses: `struct inet_diag_msg` and `struct smc_diag_msg`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{cookie_at, u8_at, u16_at, u32_at, u64_at};
use crate::collect::table::state_of;
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, SocketType, State, canonical};
use crate::netlink::attributes;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?))),
        AF_INET6 => Some(canonical(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(..16)?).ok()?)))),
        _ => None,
    }
}

/// `struct inet_diag_sockid`: ports in network order, addresses, interface, cookie.
struct SockId {
    local: Endpoint,
    remote: Endpoint,
    port: u16,
    interface: u32,
    cookie: u64,
}

fn sock_id(family: u8, id: &[u8], protocol: Protocol) -> Option<SockId> {
    let (port, remote_port) = (u16::from_be(u16_at(id, 0)?), u16::from_be(u16_at(id, 2)?));
    let (local, remote) = (address(family, id.get(4..)?)?, address(family, id.get(20..)?)?);
    // The "port" of a raw socket is its IP protocol (net/ipv4/raw.c).
    let shown = if protocol == Protocol::Raw { 0 } else { port };
    Some(SockId {
        local: local_end(protocol, local, shown),
        remote: remote_end(remote, if protocol == Protocol::Raw { 0 } else { remote_port }),
        port,
        interface: u32_at(id, 36)?,
        cookie: cookie_at(id, 40)?,
    })
}

/// What has a port and has not got one yet is written as the wildcard address with port 0.
pub(crate) fn local_end(protocol: Protocol, address: IpAddr, port: u16) -> Endpoint {
    if port == 0 && address.is_unspecified() && protocol.has_ports() {
        Endpoint::None
    } else {
        Endpoint::Inet(address, port)
    }
}

/// No peer is written as the wildcard address with port 0.
pub(crate) fn remote_end(address: IpAddr, port: u16) -> Endpoint {
    if port == 0 && address.is_unspecified() { Endpoint::None } else { Endpoint::Inet(address, port) }
}

pub(super) fn inet(protocol: Protocol, netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const PROTOCOL: u16 = 10;
    const SKV6ONLY: u16 = 11;
    const LOCALS: u16 = 12;
    let (family, state) = (u8_at(message, 0)?, u8_at(message, 1)?);
    let id = sock_id(family, message.get(4..52)?, protocol)?;
    let mut socket = Socket::blank(protocol, netns);
    socket.local = id.local;
    socket.remote = id.remote;
    socket.interface = id.interface;
    socket.cookie = id.cookie;
    socket.queues = (u32_at(message, 56)?, u32_at(message, 60)?);
    socket.uid = Some(u32_at(message, 64)?);
    socket.inode = u64::from(u32_at(message, 68)?);
    for (kind, value) in attributes(message.get(72..).unwrap_or_default()) {
        match kind {
            SKV6ONLY => socket.v6only = u8_at(value, 0).map(|bit| bit != 0),
            PROTOCOL => socket.protocol_number = u8_at(value, 0).map(u32::from),
            LOCALS => first_local(value, &mut socket.local),
            _ => {}
        }
    }
    let kind = inet_kind(protocol);
    if protocol == Protocol::Raw {
        socket.protocol_number = socket.protocol_number.or(Some(u32::from(id.port)));
    }
    finish_inet(&mut socket, state, kind, family == AF_INET6);
    // Those who have no user any more belong to nobody.
    if socket.inode == 0 && socket.state == State::TimeWait {
        socket.uid = None;
    }
    Some(socket)
}

/// What /proc/net and sock_diag have in common.
pub(crate) fn finish_inet(socket: &mut Socket, state: u8, kind: SocketType, v6: bool) {
    let named = matches!(socket.local, Endpoint::Inet(_, port) if port != 0);
    socket.kind = kind;
    socket.state = state_of(state, matches!(kind, SocketType::Stream | SocketType::Seqpacket), named);
    // IPV6_V6ONLY is a bit of IPv6 sockets alone.
    if !v6 {
        socket.v6only = None;
    }
}

pub(crate) fn inet_kind(protocol: Protocol) -> SocketType {
    match protocol {
        Protocol::Tcp | Protocol::Mptcp | Protocol::Smc => SocketType::Stream,
        Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => SocketType::Dgram,
        Protocol::Raw => SocketType::Raw,
        Protocol::Sctp => SocketType::Stream,
        Protocol::Dccp => SocketType::Unknown,
        Protocol::Packet
        | Protocol::Unix
        | Protocol::Netlink
        | Protocol::Vsock
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Other(_) => SocketType::Unknown,
    }
}

/// SCTP binds to several addresses at once: a list of `struct sockaddr_storage`. One that is
/// bound to a single address says so here alone.
fn first_local(list: &[u8], local: &mut Endpoint) {
    if list.len() != 128 {
        return;
    }
    let Some(family) = u16_at(list, 0).and_then(|family| u8::try_from(family).ok()) else { return };
    let start = if family == AF_INET { 4 } else { 8 };
    let found = list.get(start..).and_then(|bytes| address(family, bytes));
    if let (Endpoint::Inet(shown, _), Some(found)) = (local, found)
        && shown.is_unspecified()
    {
        *shown = found;
    }
}

pub(super) fn smc(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    let (family, state) = (u8_at(message, 0)?, u8_at(message, 1)?);
    // The family is AF_SMC; the addresses are those of the TCP connection underneath, and only
    // their length tells which kind they are.
    let id = message.get(4..52)?;
    let wide = id[8..20].iter().chain(&id[24..36]).any(|byte| *byte != 0);
    let inner = if wide || family == AF_INET6 { AF_INET6 } else { AF_INET };
    let id = sock_id(inner, id, Protocol::Smc)?;
    let mut socket = Socket::blank(Protocol::Smc, netns);
    socket.local = id.local;
    socket.remote = id.remote;
    socket.interface = id.interface;
    socket.cookie = id.cookie;
    socket.uid = u32_at(message, 52);
    socket.inode = u64_at(message, 56)?;
    // enum smc_state of net/smc/smc.h: its own numbers beyond those of TCP stand for a
    // connection that is being closed.
    let known = match state {
        2 => 7,
        20..=u8::MAX => 11,
        other => other,
    };
    finish_inet(&mut socket, known, SocketType::Stream, inner == AF_INET6);
    Some(socket)
}
