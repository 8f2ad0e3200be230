//! Sockets without an owner: looked at once more, and then each told which kind it is. What no
//! source explains stays unexplained, for a rule to judge.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::proc_net;
use super::sock_diag::{self, Place};
use crate::model::{Endpoint, Namespace, NamespaceId, OwnerGap, Protocol, Socket, SocketType, State};
use crate::source::Source;

/// Sockets whose queues are searched for descriptors in flight, at most.
const QUEUES_LIMIT: usize = 10_000;

/// Up to so many unexplained sockets are looked at again after [`A_MOMENT`].
const WAITED_FOR: usize = 64;
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(20);

/// What is owned by nobody by its nature: it has no inode, so no descriptor can lead to it.
pub(super) fn by_nature(socket: &Socket) -> Option<OwnerGap> {
    if socket.inode != 0 || socket.owner_gap.is_some() {
        return socket.owner_gap;
    }
    Some(match socket.state {
        // Its program has closed it; the kernel finishes the conversation.
        State::TimeWait
        | State::FinWait1
        | State::FinWait2
        | State::LastAck
        | State::Closing
        | State::SynSent => OwnerGap::TimeWait,
        State::SynRecv | State::Established | State::CloseWait => OwnerGap::NotYetAccepted,
        // At the end of its connection, a moment before it is freed (`inet_csk_destroy_sock`).
        State::Closed | State::Bound | State::Unconnected
            if socket.protocol == Protocol::Tcp && socket.remote != Endpoint::None =>
        {
            OwnerGap::Gone
        }
        State::Listen
        | State::Closed
        | State::Bound
        | State::Unconnected
        | State::Published
        | State::Unknown => OwnerGap::Kernel,
    })
}

/// What is known of the machine when the leftovers are sorted.
pub(super) struct Circumstances<'c> {
    pub(super) namespaces: &'c [Namespace],
    /// Some process could not be looked into, or not even be seen.
    pub(super) hidden: bool,
    /// Some process could not be looked into.
    pub(super) denied: bool,
    /// Descriptors that wait in unread messages of a namespace's UNIX sockets.
    pub(super) in_flight: BTreeMap<NamespaceId, usize>,
}

/// Sorts sockets that have an inode and no holder.
pub(super) fn sort(
    source: &Source,
    sockets: &mut [Socket],
    leftover: &[u32],
    circumstances: &Circumstances<'_>,
) {
    let mut rest = leftover.to_vec();
    let mut kernel = KernelPorts::default();
    for again in ["-again", "-again2", "-again3"] {
        let gone = Gone::ask(source, sockets, &rest, circumstances.namespaces, again);
        rest.retain(|at| {
            let socket = &mut sockets[*at as usize];
            if gone.contains(socket) {
                socket.owner_gap = Some(OwnerGap::Gone);
            } else if kernel.explains(source, socket, circumstances.namespaces) {
                socket.owner_gap = Some(OwnerGap::Kernel);
            }
            socket.owner_gap.is_none()
        });
        // A process that ends has no file table any more a moment before its sockets are closed.
        // To wait for that makes sense where few are left, and nothing else explains them.
        if rest.is_empty() || rest.len() > WAITED_FOR || circumstances.denied {
            break;
        }
        if source.is_live() && again != "-again3" {
            std::thread::sleep(A_MOMENT);
        }
    }
    let rest: Vec<(NamespaceId, u32)> = rest.into_iter().map(|at| (sockets[at as usize].netns, at)).collect();
    let otherwise = circumstances.hidden.then_some(OwnerGap::Hidden);
    // The list is in order of namespaces.
    for some in rest.chunk_by(|a, b| a.0 == b.0) {
        let waiting = circumstances.in_flight.get(&some[0].0);
        // A descriptor that waits unread is evidence, a process that cannot be looked into is none.
        // More sockets than waiting descriptors: nobody can tell which of them wait.
        let gap = if waiting.is_some_and(|waiting| *waiting >= some.len()) {
            Some(OwnerGap::InFlight)
        } else {
            otherwise
        };
        for (_, at) in some {
            sockets[*at as usize].owner_gap = gap;
        }
    }
}

/// Which of the leftovers a second dump does not show any more.
struct Gone(BTreeSet<(u32, u64, u64)>);

impl Gone {
    fn ask(
        source: &Source,
        sockets: &[Socket],
        leftover: &[u32],
        namespaces: &[Namespace],
        again: &'static str,
    ) -> Self {
        let mut asked: BTreeMap<_, Vec<Protocol>> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for at in leftover {
            let socket = &sockets[*at as usize];
            gone.insert((socket.netns.0, socket.inode, socket.cookie));
            let protocols = asked.entry(socket.netns).or_default();
            if !protocols.contains(&socket.protocol) {
                protocols.push(socket.protocol);
            }
        }
        for (id, protocols) in asked {
            let place = Place { inode: namespaces[id.0 as usize].inode, id };
            for socket in sock_diag::list_again(source, place, &protocols, again).sockets {
                gone.remove(&(socket.netns.0, socket.inode, socket.cookie));
            }
        }
        Self(gone)
    }

    fn contains(&self, socket: &Socket) -> bool {
        self.0.contains(&(socket.netns.0, socket.inode, socket.cookie))
    }
}

/// Counts the descriptors that wait in unread messages of UNIX sockets, per namespace.
/// `holder_of`: task and descriptor through which a socket, known by its inode, can be looked at.
pub(super) fn in_flight(
    source: &Source,
    sockets: &[Socket],
    holder_of: impl Fn(u64) -> Option<(u32, i32)>,
) -> BTreeMap<NamespaceId, usize> {
    let may_hold = |socket: &&Socket| {
        socket.protocol == Protocol::Unix
            && socket.state != State::Listen
            && (socket.queues.0 > 0 || socket.kind == SocketType::Dgram)
    };
    let mut found = BTreeMap::new();
    for socket in sockets.iter().filter(may_hold).take(QUEUES_LIMIT) {
        let Some((pid, fd)) = holder_of(socket.inode) else { continue };
        let text = source.process(pid).and_then(|process| process.read(&format!("fdinfo/{fd}")));
        let waiting = text.map_or(0, |text| proc_net::waiting_descriptors(&text));
        *found.entry(socket.netns).or_default() += waiting as usize;
    }
    found
}

/// Ports that the kernel itself serves, per namespace, asked for when first needed.
#[derive(Default)]
struct KernelPorts(BTreeMap<u64, Links>);

#[derive(Default)]
struct Links {
    udp: BTreeSet<u16>,
    /// A WireGuard link, whose port only its own interface tells.
    wireguard: bool,
    nfs: bool,
}

impl KernelPorts {
    fn explains(&mut self, source: &Source, socket: &Socket, namespaces: &[Namespace]) -> bool {
        let Endpoint::Inet(_, port) = socket.local else { return false };
        let inode = namespaces[socket.netns.0 as usize].inode;
        let links = self.0.entry(inode).or_insert_with(|| Links::ask(source, inode));
        match socket.protocol {
            Protocol::Udp => {
                links.udp.contains(&port)
                    || (links.wireguard && socket.uid == Some(0) && socket.remote == Endpoint::None)
                    || (links.nfs && matches!(port, 111 | 2049))
            }
            Protocol::Tcp => links.nfs && (port == 2049 || socket.uid == Some(0)),
            Protocol::UdpLite
            | Protocol::Mptcp
            | Protocol::Sctp
            | Protocol::Dccp
            | Protocol::Icmp
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
            | Protocol::Smc
            | Protocol::Other(_) => false,
        }
    }
}

impl Links {
    fn ask(source: &Source, inode: u64) -> Self {
        let mut links = Self::default();
        if let Ok(bytes) = source.links(inode) {
            for link in super::links::tunnels(&bytes) {
                match link {
                    super::links::Tunnel::Udp(port) => {
                        links.udp.insert(port);
                    }
                    super::links::Tunnel::Wireguard => links.wireguard = true,
                }
            }
        }
        links.nfs = source.netns_file(inode, "net/rpc/nfsd").is_ok();
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_at_its_end_is_gone_and_not_the_kernels() {
        let mut socket = Socket::blank(Protocol::Tcp, NamespaceId(0));
        socket.local = Endpoint::Inet("127.0.0.1".parse().unwrap(), 0);
        for state in [State::Closed, State::Bound, State::Unconnected] {
            socket.state = state;
            socket.remote = Endpoint::None;
            assert_eq!(by_nature(&socket), Some(OwnerGap::Kernel));
            socket.remote = Endpoint::Inet("127.0.0.1".parse().unwrap(), 4000);
            assert_eq!(by_nature(&socket), Some(OwnerGap::Gone));
        }
        socket.state = State::FinWait2;
        assert_eq!(by_nature(&socket), Some(OwnerGap::TimeWait));
        socket.inode = 7;
        assert_eq!(by_nature(&socket), None);
    }
}
