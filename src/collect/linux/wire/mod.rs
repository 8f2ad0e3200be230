//! What the kernel says over NETLINK_SOCK_DIAG (sock_diag(7), include/uapi/linux/*_diag.h), turned
//! into sockets. Bytes in, sockets out: asks nobody, and no bytes make it panic.

#![forbid(unsafe_code)]

mod inet;
#[cfg(test)]
mod tests;

use crate::collect::table::{Table, kind_of, of_the_kernel, state_of};
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, SocketType, State, Text};
use crate::netlink::{attributes, messages};

pub(crate) use inet::{finish_inet, inet_kind, local_end, remote_end};
use inet::{inet, smc};

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

fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(in crate::collect) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(in crate::collect) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

pub(in crate::collect) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Two halves, the lower first, in every `*_diag.h`.
fn cookie_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32)
}

fn unix(netns: NamespaceId, message: &[u8]) -> Option<(Socket, u32)> {
    const NAME: u16 = 0;
    const VFS: u16 = 1;
    const PEER: u16 = 2;
    const RQLEN: u16 = 4;
    const UID: u16 = 7;
    let mut socket = Socket::blank(Protocol::Unix, netns);
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
    let mut socket = Socket::blank(Protocol::Packet, netns);
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
    let mut socket = Socket::blank(Protocol::Netlink, netns);
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
    let mut socket = Socket::blank(Protocol::Vsock, netns);
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
    let mut socket = Socket::blank(Protocol::Xdp, netns);
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

fn tipc(netns: NamespaceId, message: &[u8]) -> Option<Socket> {
    const SOCK: u16 = 2;
    const TYPE: u16 = 6;
    const INODE: u16 = 7;
    const UID: u16 = 8;
    const STATE: u16 = 9;
    const COOKIE: u16 = 10;
    let (_, nest) = attributes(message).find(|(kind, _)| *kind == SOCK)?;
    let mut socket = Socket::blank(Protocol::Tipc, netns);
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
