//! What the kernel says over NETLINK_SOCK_DIAG (sock_diag(7), include/uapi/linux/*_diag.h), turned
//! into sockets. Bytes in, sockets out: asks nobody, and no bytes make it panic.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::collect::table::{Table, blank, kind_of, of_the_kernel, state_of};
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, SocketType, State, Text, canonical};

/// One kind of dump: which question it answers decides how its messages read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dump {
    /// `struct inet_diag_msg`, of this protocol.
    Inet(Protocol),
    Unix,
    Packet,
    Netlink,
    Vsock,
    Xdp,
    Smc,
    Tipc,
}

impl Dump {
    /// Every kind, for tests and fuzzing.
    pub const ALL: [Self; 9] = [
        Self::Inet(Protocol::Tcp),
        Self::Inet(Protocol::Raw),
        Self::Unix,
        Self::Packet,
        Self::Netlink,
        Self::Vsock,
        Self::Xdp,
        Self::Smc,
        Self::Tipc,
    ];
}

/// Decodes a block of messages into `table`. Control messages and whatever is too short to be a
/// socket are left out; how the dump ended is judged by who received it.
pub fn decode(dump: Dump, netns: NamespaceId, block: &[u8], table: &mut Table) {
    for (kind, message) in messages(block) {
        // NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN
        if kind < 16 {
            continue;
        }
        match dump {
            Dump::Inet(protocol) => table.sockets.extend(inet(protocol, netns, message)),
            Dump::Unix => {
                if let Some((socket, peer)) = unix(netns, message) {
                    if peer != 0 {
                        table.unix_peers.push((table.next(), u64::from(peer)));
                    }
                    table.sockets.push(socket);
                }
            }
            Dump::Packet => table.sockets.extend(packet(netns, message)),
            Dump::Netlink => table.sockets.extend(netlink(netns, message)),
            Dump::Vsock => table.sockets.extend(vsock(netns, message)),
            Dump::Xdp => table.sockets.extend(xdp(netns, message)),
            Dump::Smc => table.sockets.extend(smc(netns, message)),
            Dump::Tipc => table.sockets.extend(tipc(netns, message)),
        }
    }
}

/// Type and payload of each `struct nlmsghdr` message.
pub(super) fn messages(block: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let kind = u16_at(rest, 4)?;
        let payload = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// Type (without flags) and payload of each `struct nlattr`.
pub(super) fn attributes(block: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let payload = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Two halves, the lower first, in every `*_diag.h`.
fn cookie_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32)
}

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

fn inet(protocol: Protocol, netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const PROTOCOL: u16 = 10;
    const SKV6ONLY: u16 = 11;
    const LOCALS: u16 = 12;
    let (family, state) = (u8_at(message, 0)?, u8_at(message, 1)?);
    let id = sock_id(family, message.get(4..52)?, protocol)?;
    let mut socket = blank(protocol, netns);
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

fn unix(netns: NamespaceId, message: &[u8]) -> Option<(Socket, u32)> {
    const NAME: u16 = 0;
    const VFS: u16 = 1;
    const PEER: u16 = 2;
    const RQLEN: u16 = 4;
    const UID: u16 = 7;
    let mut socket = blank(Protocol::Unix, netns);
    socket.kind = kind_of(u32::from(u8_at(message, 1)?));
    let state = u8_at(message, 2)?;
    socket.inode = u64::from(u32_at(message, 4)?);
    socket.cookie = cookie_at(message, 8)?;
    let mut peer = 0;
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            NAME => socket.local = unix_name(value),
            VFS => socket.file = u32_at(value, 4).zip(u32_at(value, 0)),
            PEER => peer = u32_at(value, 0).unwrap_or(0),
            RQLEN => socket.queues = u32_at(value, 0).zip(u32_at(value, 4)).unwrap_or_default(),
            UID => socket.uid = u32_at(value, 0),
            _ => {}
        }
    }
    let connects = matches!(socket.kind, SocketType::Stream | SocketType::Seqpacket);
    socket.state = state_of(state, connects, socket.local != Endpoint::None);
    // To connect to a datagram socket makes that one "established" as well (unix_dgram_connect in
    // net/unix/af_unix.c), although it still receives from everybody: only a peer of its own counts.
    if socket.state == State::Established && !connects && peer == 0 {
        socket.state = State::Unconnected;
    }
    Some((socket, peer))
}

/// `sun_path` as unix(7) describes it: a leading NUL makes it abstract, and then every byte counts.
pub(crate) fn unix_name(bytes: &[u8]) -> Endpoint {
    match bytes.split_first() {
        None => Endpoint::None,
        Some((0, name)) => Endpoint::UnixAbstract(Text::from(name)),
        Some(_) => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Endpoint::UnixPath(Text::from(&bytes[..end]))
        }
    }
}

fn packet(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const INFO: u16 = 0;
    const UID: u16 = 5;
    const FILTER: u16 = 7;
    let mut socket = blank(Protocol::Packet, netns);
    socket.kind = kind_of(u32::from(u8_at(message, 1)?));
    socket.protocol_number = u16_at(message, 2).map(u32::from);
    socket.inode = u64::from(u32_at(message, 4)?);
    socket.cookie = cookie_at(message, 8)?;
    socket.state = State::Unconnected;
    socket.local = Endpoint::Interface(0);
    socket.filtered = Some(false);
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            INFO => {
                socket.interface = u32_at(value, 0).unwrap_or(0);
                socket.local = Endpoint::Interface(socket.interface);
            }
            UID => socket.uid = u32_at(value, 0),
            // Without CAP_NET_ADMIN the attribute is there, and empty (net/core/sock_diag.c).
            FILTER => socket.filtered = (!value.is_empty()).then_some(true),
            _ => {}
        }
    }
    Some(socket)
}

fn netlink(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const GROUPS: u16 = 1;
    let mut socket = blank(Protocol::Netlink, netns);
    socket.kind = kind_of(u32::from(u8_at(message, 1)?));
    socket.protocol_number = u8_at(message, 2).map(u32::from);
    socket.state = netlink_state(u8_at(message, 3)?);
    let port = u32_at(message, 4)?;
    socket.inode = u64::from(u32_at(message, 16)?);
    socket.cookie = cookie_at(message, 20)?;
    for (kind, value) in attributes(message.get(28..)?) {
        if kind == GROUPS {
            socket.groups = groups(value);
        }
    }
    // Port 0 is the kernel's own end (netlink(7)).
    Some(if port == 0 { of_the_kernel(socket) } else { socket })
}

/// `NETLINK_UNCONNECTED` and `NETLINK_CONNECTED`; before either the socket has its first state,
/// `TCP_CLOSE`.
fn netlink_state(number: u8) -> State {
    match number {
        0 | 7 => State::Unconnected,
        1 => State::Established,
        _ => State::Unknown,
    }
}

/// A bit set of groups, the lowest bit standing for group 1. The kernel's array is of unsigned
/// long, which on a little-endian machine is an array of bytes as well.
fn groups(bits: &[u8]) -> Box<[Text]> {
    const WORD: usize = size_of::<usize>();
    let byte_at = |at: usize| {
        if cfg!(target_endian = "big") { (at / WORD) * WORD + (WORD - 1 - at % WORD) } else { at }
    };
    (0..bits.len())
        .flat_map(|at| (0..8).map(move |bit| (at, bit)))
        .filter(|(at, bit)| bits.get(byte_at(*at)).is_some_and(|byte| byte & (1 << bit) != 0))
        .map(|(at, bit)| Text::from((at * 8 + bit + 1).to_string()))
        .collect()
}

fn vsock(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    let mut socket = blank(Protocol::Vsock, netns);
    socket.kind = kind_of(u32::from(u8_at(message, 1)?));
    let state = u8_at(message, 2)?;
    socket.local = vsock_end(u32_at(message, 4)?, u32_at(message, 8)?);
    socket.remote = vsock_end(u32_at(message, 12)?, u32_at(message, 16)?);
    socket.inode = u64::from(u32_at(message, 20)?);
    socket.cookie = cookie_at(message, 24)?;
    socket.state = state_of(state, socket.kind != SocketType::Dgram, socket.local != Endpoint::None);
    // A listener's "remote" is any address.
    if socket.state == State::Listen {
        socket.remote = Endpoint::None;
    }
    Some(socket)
}

/// `VMADDR_PORT_ANY` (vsock(7)) means that no port was chosen.
pub(crate) fn vsock_end(cid: u32, port: u32) -> Endpoint {
    if port == u32::MAX { Endpoint::None } else { Endpoint::Vsock { cid, port } }
}

fn xdp(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const INFO: u16 = 1;
    const UID: u16 = 2;
    let mut socket = blank(Protocol::Xdp, netns);
    socket.kind = kind_of(u32::from(u8_at(message, 1)?));
    socket.state = State::Unconnected;
    socket.inode = u64::from(u32_at(message, 4)?);
    socket.cookie = cookie_at(message, 8)?;
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            INFO => {
                socket.interface = u32_at(value, 0).unwrap_or(0);
                if socket.interface != 0 {
                    socket.local = Endpoint::Interface(socket.interface);
                    socket.state = State::Bound;
                }
            }
            UID => socket.uid = u32_at(value, 0),
            _ => {}
        }
    }
    Some(socket)
}

fn smc(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    let (family, state) = (u8_at(message, 0)?, u8_at(message, 1)?);
    // The family is AF_SMC; the addresses are those of the TCP connection underneath, and only
    // their length tells which kind they are.
    let id = message.get(4..52)?;
    let wide = id[8..20].iter().chain(&id[24..36]).any(|byte| *byte != 0);
    let inner = if wide || family == AF_INET6 { AF_INET6 } else { AF_INET };
    let id = sock_id(inner, id, Protocol::Smc)?;
    let mut socket = blank(Protocol::Smc, netns);
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

fn tipc(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const SOCK: u16 = 2;
    const TYPE: u16 = 6;
    const INODE: u16 = 7;
    const UID: u16 = 8;
    const STATE: u16 = 9;
    const COOKIE: u16 = 10;
    let (_, nest) = attributes(message).find(|(kind, _)| *kind == SOCK)?;
    let mut socket = blank(Protocol::Tipc, netns);
    let mut state = 0;
    for (kind, value) in attributes(nest) {
        match kind {
            TYPE => socket.kind = kind_of(u32_at(value, 0)?),
            INODE => socket.inode = u64::from(u32_at(value, 0)?),
            UID => socket.uid = u32_at(value, 0),
            STATE => state = u32_at(value, 0).and_then(|state| u8::try_from(state).ok()).unwrap_or(0),
            COOKIE => socket.cookie = u64_at(value, 0)?,
            _ => {}
        }
    }
    socket.state = state_of(state, true, false);
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message: header, payload, and attributes of (type, value).
    fn message(payload: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = payload.to_vec();
        for (kind, value) in attributes {
            body.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&20_u16.to_ne_bytes());
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(&body);
        bytes
    }

    fn one(dump: Dump, bytes: &[u8]) -> Socket {
        let mut table = Table::default();
        decode(dump, NamespaceId(0), bytes, &mut table);
        assert_eq!(table.sockets.len(), 1);
        table.sockets.remove(0)
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// `struct inet_diag_msg`
    fn inet_message(family: u8, state: u8, ends: ([u8; 16], u16, [u8; 16], u16)) -> Vec<u8> {
        let mut bytes = vec![family, state, 0, 0];
        bytes.extend_from_slice(&ends.1.to_be_bytes());
        bytes.extend_from_slice(&ends.3.to_be_bytes());
        bytes.extend_from_slice(&ends.0);
        bytes.extend_from_slice(&ends.2);
        // interface, cookie, expires, rqueue, wqueue, uid, inode
        bytes.extend_from_slice(&words(&[3, 0x11, 0x22, 0, 5, 128, 1000, 4711]));
        bytes
    }

    fn v4(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[a, b, c, d]);
        bytes
    }

    #[test]
    fn a_dual_stack_listener_is_read_whole() {
        let bytes = message(
            &inet_message(10, 10, ([0; 16], 443, [0; 16], 0)),
            &[(8, &[0]), (11, &[0]), (22, &[1, 2])],
        );
        let socket = one(Dump::Inet(Protocol::Tcp), &bytes);
        assert_eq!(socket.local, Endpoint::Inet("::".parse().unwrap(), 443));
        assert_eq!(
            (socket.remote, socket.state, socket.v6only),
            (Endpoint::None, State::Listen, Some(false))
        );
        assert_eq!((socket.interface, socket.cookie, socket.queues), (3, 0x22_0000_0011, (5, 128)));
        assert_eq!((socket.uid, socket.inode), (Some(1000), 4711));
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[255, 255, 10, 0, 0, 1]);
        let bytes = message(&inet_message(10, 1, (mapped, 80, mapped, 40000)), &[]);
        let socket = one(Dump::Inet(Protocol::Tcp), &bytes);
        assert_eq!(socket.local, Endpoint::Inet("10.0.0.1".parse().unwrap(), 80));
        assert_eq!(socket.remote, Endpoint::Inet("10.0.0.1".parse().unwrap(), 40000));
    }

    #[test]
    fn bound_and_unbound_are_told_apart() {
        let bound = message(&inet_message(2, 13, (v4(127, 0, 0, 1), 7001, [0; 16], 0)), &[]);
        assert_eq!(one(Dump::Inet(Protocol::Tcp), &bound).state, State::Bound);
        let unbound = message(&inet_message(2, 7, ([0; 16], 0, [0; 16], 0)), &[]);
        let socket = one(Dump::Inet(Protocol::Udp), &unbound);
        assert_eq!((socket.state, socket.local), (State::Unconnected, Endpoint::None));
    }

    #[test]
    fn the_port_of_a_raw_socket_is_its_protocol() {
        let bytes = message(&inet_message(2, 7, (v4(10, 0, 0, 1), 89, [0; 16], 0)), &[]);
        let socket = one(Dump::Inet(Protocol::Raw), &bytes);
        assert_eq!(
            (socket.local, socket.protocol_number),
            (Endpoint::Inet("10.0.0.1".parse().unwrap(), 0), Some(89))
        );
        let told = message(&inet_message(2, 7, (v4(10, 0, 0, 1), 89, [0; 16], 0)), &[(10, &[17])]);
        assert_eq!(one(Dump::Inet(Protocol::Raw), &told).protocol_number, Some(17));
    }

    #[test]
    fn sctp_bound_to_one_address_tells_it_in_its_list() {
        let mut list = vec![0_u8; 128];
        list[..2].copy_from_slice(&2_u16.to_ne_bytes());
        list[2..8].copy_from_slice(&[0, 99, 192, 0, 2, 1]);
        let bytes = message(&inet_message(2, 10, ([0; 16], 99, [0; 16], 0)), &[(12, &list)]);
        let socket = one(Dump::Inet(Protocol::Sctp), &bytes);
        assert_eq!(
            (socket.local, socket.state),
            (Endpoint::Inet("192.0.2.1".parse().unwrap(), 99), State::Listen)
        );
        list.extend_from_slice(&[0; 128]);
        let several = message(&inet_message(2, 10, ([0; 16], 99, [0; 16], 0)), &[(12, &list)]);
        assert_eq!(
            one(Dump::Inet(Protocol::Sctp), &several).local,
            Endpoint::Inet("0.0.0.0".parse().unwrap(), 99)
        );
    }

    #[test]
    fn unix_names_keep_every_byte() {
        let mut payload = vec![1, 1, 10, 0];
        payload.extend_from_slice(&words(&[77, 1, 2]));
        let vfs = words(&[4242, 0x00fe_0001]);
        let queues = words(&[1, 5]);
        let bytes = message(
            &payload,
            &[(0, b"\0a\nb\0c"), (1, &vfs), (4, &queues), (7, &words(&[33])), (2, &words(&[78]))],
        );
        let mut table = Table::default();
        decode(Dump::Unix, NamespaceId(0), &bytes, &mut table);
        let socket = &table.sockets[0];
        assert_eq!(socket.local, Endpoint::UnixAbstract(Text::from(&b"a\nb\0c"[..])));
        assert_eq!((socket.state, socket.kind, socket.uid), (State::Listen, SocketType::Stream, Some(33)));
        assert_eq!((socket.file, socket.queues), (Some((0x00fe_0001, 4242)), (1, 5)));
        assert_eq!(table.unix_peers, [(0, 78)]);
        let path = message(&payload, &[(0, b"/run/x\0")]);
        assert_eq!(one(Dump::Unix, &path).local, Endpoint::UnixPath(Text::from("/run/x")));
    }

    #[test]
    fn a_packet_filter_is_told_to_the_privileged_alone() {
        let mut payload = vec![17, 3];
        payload.extend_from_slice(&3_u16.to_ne_bytes());
        payload.extend_from_slice(&words(&[9, 1, 0]));
        let info = words(&[2, 0, 0, 0, 0, 0]);
        let filtered =
            |attributes: &[(u16, &[u8])]| one(Dump::Packet, &message(&payload, attributes)).filtered;
        assert_eq!(filtered(&[(0, &info)]), Some(false));
        assert_eq!(filtered(&[(0, &info), (7, &[])]), None);
        assert_eq!(filtered(&[(0, &info), (7, &[6, 0, 0, 0, 0, 0, 0, 0])]), Some(true));
        let socket = one(Dump::Packet, &message(&payload, &[(0, &info)]));
        assert_eq!(
            (socket.local, socket.protocol_number, socket.inode),
            (Endpoint::Interface(2), Some(3), 9)
        );
    }

    #[test]
    fn netlink_groups_are_numbers_and_port_0_is_the_kernel() {
        let mut payload = vec![16, 3, 15, 0];
        payload.extend_from_slice(&words(&[4321, 0, 0, 88, 1, 0]));
        let mut bits = [0_u8; 16];
        bits[..8].copy_from_slice(&0x8000_0001_u64.to_ne_bytes());
        let socket = one(Dump::Netlink, &message(&payload, &[(1, &bits)]));
        assert_eq!(*socket.groups, [Text::from("1"), Text::from("32")]);
        assert_eq!((socket.protocol_number, socket.inode, socket.owner_gap), (Some(15), 88, None));
        payload[4..8].fill(0);
        let kernel = one(Dump::Netlink, &message(&payload, &[]));
        assert_eq!(kernel.owner_gap, Some(crate::model::OwnerGap::Kernel));
    }

    #[test]
    fn vsock_and_xdp_and_their_addresses() {
        let mut payload = vec![40, 1, 10, 0];
        payload.extend_from_slice(&words(&[u32::MAX, 9999, u32::MAX, u32::MAX, 55, 7, 0]));
        let socket = one(Dump::Vsock, &message(&payload, &[]));
        assert_eq!(socket.local, Endpoint::Vsock { cid: u32::MAX, port: 9999 });
        assert_eq!(
            (socket.remote, socket.state, socket.inode, socket.cookie),
            (Endpoint::None, State::Listen, 55, 7)
        );
        let mut payload = vec![44, 3, 0, 0];
        payload.extend_from_slice(&words(&[66, 8, 0]));
        let socket = one(Dump::Xdp, &message(&payload, &[(1, &words(&[2, 0])), (2, &words(&[0]))]));
        assert_eq!((socket.local, socket.state, socket.inode), (Endpoint::Interface(2), State::Bound, 66));
    }

    #[test]
    fn smc_and_tipc() {
        let mut payload = vec![43, 10, 0, 0];
        payload.extend_from_slice(&8080_u16.to_be_bytes());
        payload.extend_from_slice(&[0, 0]);
        payload.extend_from_slice(&v4(192, 0, 2, 9));
        payload.extend_from_slice(&[0; 16]);
        payload.extend_from_slice(&words(&[0, 5, 0, 1000]));
        payload.extend_from_slice(&606_u64.to_ne_bytes());
        let socket = one(Dump::Smc, &message(&payload, &[]));
        assert_eq!(socket.local, Endpoint::Inet("192.0.2.9".parse().unwrap(), 8080));
        assert_eq!((socket.state, socket.inode, socket.uid), (State::Listen, 606, Some(1000)));
        let inner = message(
            &[],
            &[(6, &words(&[5])), (7, &words(&[707])), (9, &words(&[10])), (10, &9_u64.to_ne_bytes())],
        );
        let socket = one(Dump::Tipc, &message(&[], &[(2, &inner[16..])]));
        assert_eq!(
            (socket.kind, socket.inode, socket.state, socket.cookie),
            (SocketType::Seqpacket, 707, State::Listen, 9)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            for dump in Dump::ALL {
                decode(dump, NamespaceId(0), &bytes, &mut Table::default());
                // And with a header that lets the rest through.
                decode(dump, NamespaceId(0), &message(&bytes, &[]), &mut Table::default());
            }
        }
    }
}
