//! Sockets in their fixed order, and holders put to them by inode. Where two sockets claim one
//! inode, neither gets the holder: nobody guesses here.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::table::Table;
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, State};

/// Brings the sockets into their fixed order: namespace, protocol, listeners first, port, age. A
/// socket that a dump showed twice (it moved while the kernel walked its tables) stands there
/// once, and so does an MPTCP socket whose first TCP flow the TCP table shows as well.
///
/// `ours`: inodes of the sockets through which we asked, which are no part of the answer.
pub(crate) fn arrange(table: Table, ours: &[u64]) -> Arranged {
    let Table { mut sockets, mut unix_peers } = table;
    without_inherited_cookies(&mut sockets);
    let mut order: Vec<(u128, u32)> =
        sockets.iter().zip(0_u32..).map(|(socket, at)| (key(socket), at)).collect();
    order.sort_unstable();
    let mut inodes = Inodes::of(&sockets);
    let again = shown_again(&sockets, &inodes);
    let doubles = Doubles::of(&sockets);
    let is_ours = |socket: &Socket| socket.protocol == Protocol::Netlink && ours.contains(&socket.inode);
    let mut dropped = Vec::new();
    let mut new_order: Vec<u32> = Vec::with_capacity(order.len());
    for (_, at) in order {
        let socket = &sockets[at as usize];
        if again[at as usize] || doubles.contains(socket) || is_ours(socket) {
            dropped.push(at);
        } else {
            new_order.push(at);
        }
    }
    let kept = new_order.len();
    new_order.extend(dropped);
    let mut places = vec![0_u32; new_order.len()];
    for (new, old) in (0_u32..).zip(&new_order) {
        places[*old as usize] = new;
    }
    permute(&mut sockets, &mut new_order);
    sockets.truncate(kept);
    for (socket, _) in &mut unix_peers {
        *socket = places[*socket as usize];
    }
    unix_peers.retain(|(socket, _)| (*socket as usize) < kept);
    for (_, at) in &mut inodes.list {
        *at = places[*at as usize];
    }
    inodes.list.retain(|(_, at)| (*at as usize) < kept);
    Arranged { sockets, unix_peers, inodes }
}

/// What [`arrange`] makes of a table.
pub(crate) struct Arranged {
    pub(crate) sockets: Vec<Socket>,
    /// Index of a UNIX socket and inode of its peer.
    pub(crate) unix_peers: Vec<(u32, u64)>,
    pub(crate) inodes: Inodes,
}

fn key(socket: &Socket) -> u128 {
    let rank = Protocol::NAMED.iter().position(|each| *each == socket.protocol).unwrap_or(255);
    let port = match &socket.local {
        Endpoint::Inet(_, port) => *port,
        Endpoint::Vsock { port, .. } => u16::try_from(*port).unwrap_or(u16::MAX),
        Endpoint::None | Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) | Endpoint::Interface(_) => 0,
    };
    u128::from(socket.netns.0 & 0xff_ffff) << 104
        | (rank as u128) << 96
        | u128::from(socket.state != State::Listen) << 88
        | u128::from(port) << 72
        | u128::from(socket.inode & 0xff_ffff_ffff) << 32
        | u128::from(socket.cookie & 0xffff_ffff)
}

/// Which sockets stand in the table once more. The cookie tells: a socket keeps it while it is bound,
/// listens, is accepted and waits for its end, and no other has it (`sock_gen_cookie` in
/// net/core/sock_diag.c; `inet_csk_clone_lock` and `inet_twsk_alloc` hand it on). What is shown with
/// an inode is kept, and of these the last, which is the newest.
fn shown_again(sockets: &[Socket], inodes: &Inodes) -> Vec<bool> {
    let mut again = vec![false; sockets.len()];
    for pair in inodes.list.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let [one, other] = [pair[0].1, pair[1].1].map(|at| at as usize);
        again[one] = same(&sockets[one], &sockets[other]);
    }
    let mut without_inode: HashMap<u64, usize> = HashMap::new();
    for (at, socket) in sockets.iter().enumerate().filter(|(_, socket)| socket.inode == 0) {
        if let Some(earlier) = without_inode.insert(socket.cookie, at) {
            again[earlier] = same(&sockets[earlier], socket);
        }
    }
    if !without_inode.is_empty() {
        for socket in sockets.iter().filter(|socket| socket.inode != 0) {
            if let Some(&at) = without_inode.get(&socket.cookie) {
                again[at] |= same(&sockets[at], socket);
            }
        }
    }
    again
}

/// An accepted MPTCP socket is a copy of its listener, cookie and all (`mptcp_sk_clone_init`): it keeps
/// none, for a cookie is the name of one socket.
fn without_inherited_cookies(sockets: &mut [Socket]) {
    let mut seen: HashMap<(NamespaceId, u64), (u64, bool)> = HashMap::new();
    for socket in sockets.iter().filter(|socket| socket.protocol == Protocol::Mptcp) {
        let (inode, shared) = seen.entry((socket.netns, socket.cookie)).or_insert((socket.inode, false));
        *shared |= *inode != socket.inode;
    }
    let copies = sockets.iter_mut().filter(|socket| {
        socket.protocol == Protocol::Mptcp
            && socket.state != State::Listen
            && seen.get(&(socket.netns, socket.cookie)).is_some_and(|(_, shared)| *shared)
    });
    copies.for_each(|socket| socket.cookie = 0);
}

fn same(one: &Socket, other: &Socket) -> bool {
    one.cookie != 0
        && one.cookie == other.cookie
        && one.protocol == other.protocol
        && one.netns == other.netns
}

/// TCP sockets that are the carrier of an MPTCP socket. The kernel gives both one inode
/// (mptcp_subflow_create_socket in net/mptcp/subflow.c); what nobody has accepted yet has none,
/// but the same addresses.
#[derive(Default)]
struct Doubles {
    inodes: HashSet<(NamespaceId, u64)>,
    ends: HashSet<(NamespaceId, Endpoint, Endpoint)>,
}

impl Doubles {
    fn of(sockets: &[Socket]) -> Self {
        let mut found = Self::default();
        for socket in sockets.iter().filter(|socket| socket.protocol == Protocol::Mptcp) {
            if socket.inode == 0 {
                found.ends.insert((socket.netns, socket.local.clone(), socket.remote.clone()));
            } else {
                found.inodes.insert((socket.netns, socket.inode));
            }
        }
        found
    }

    fn contains(&self, socket: &Socket) -> bool {
        if socket.protocol != Protocol::Tcp || (self.inodes.is_empty() && self.ends.is_empty()) {
            return false;
        }
        if socket.inode == 0 {
            self.ends.contains(&(socket.netns, socket.local.clone(), socket.remote.clone()))
        } else {
            self.inodes.contains(&(socket.netns, socket.inode))
        }
    }
}

/// Puts the element `order[new]` at `new`, without a second list.
fn permute<T>(list: &mut [T], order: &mut [u32]) {
    for start in 0..order.len() {
        let mut at = start;
        loop {
            let next = order[at] as usize;
            order[at] = u32::try_from(at).unwrap_or(u32::MAX);
            if next == start {
                break;
            }
            list.swap(at, next);
            at = next;
        }
    }
}

/// Finds sockets by inode.
#[derive(Debug)]
pub(crate) struct Inodes {
    /// Sorted; an inode that two sockets claim stands there twice.
    list: Vec<(u64, u32)>,
}

impl Inodes {
    pub(crate) fn of(sockets: &[Socket]) -> Self {
        let mut list: Vec<(u64, u32)> = sockets
            .iter()
            .zip(0_u32..)
            .filter(|(socket, _)| socket.inode != 0)
            .map(|(socket, at)| (socket.inode, at))
            .collect();
        list.sort_unstable();
        Self { list }
    }

    pub(crate) fn find(&self, inode: u64) -> Found {
        let start = self.list.partition_point(|(each, _)| *each < inode);
        match self.list[start..] {
            [(one, at), (two, _), ..] if one == inode && two != inode => Found::One(at),
            [(one, at)] if one == inode => Found::One(at),
            [(one, _), ..] if one == inode => Found::Several,
            _ => Found::None,
        }
    }

    /// How many inodes are claimed twice.
    pub(crate) fn ambiguous(&self) -> usize {
        self.list.windows(2).filter(|pair| pair[0].0 == pair[1].0).count()
    }
}

/// What an inode leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    None,
    One(u32),
    Several,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(protocol: Protocol, port: u16, inode: u64, cookie: u64) -> Socket {
        let mut socket = Socket::blank(protocol, NamespaceId(0));
        socket.state = State::Established;
        socket.local = Endpoint::Inet("127.0.0.1".parse().unwrap(), port);
        (socket.inode, socket.cookie) = (inode, cookie);
        socket
    }

    fn inodes(table: Table) -> Vec<u64> {
        arrange(table, &[]).sockets.iter().map(|socket| socket.inode).collect()
    }

    #[test]
    fn the_order_does_not_depend_on_that_of_the_dump() {
        let sockets = [
            socket(Protocol::Udp, 1, 1, 1),
            socket(Protocol::Tcp, 9, 2, 2),
            socket(Protocol::Tcp, 5, 3, 3),
            socket(Protocol::Tcp, 5, 4, 4),
        ];
        let mut listener = socket(Protocol::Tcp, 80, 5, 5);
        listener.state = State::Listen;
        let forward = sockets.iter().cloned().chain([listener.clone()]).collect();
        let backward = [listener].into_iter().chain(sockets.iter().rev().cloned()).collect();
        for sockets in [forward, backward] {
            assert_eq!(inodes(Table { sockets, unix_peers: Vec::new() }), [5, 3, 4, 2, 1]);
        }
    }

    #[test]
    fn a_socket_shown_twice_is_one_and_peers_follow_it() {
        let sockets = vec![
            socket(Protocol::Unix, 0, 9, 90),
            socket(Protocol::Unix, 0, 8, 80),
            socket(Protocol::Unix, 0, 8, 80),
            socket(Protocol::Tcp, 1, 7, 70),
        ];
        let Arranged { sockets, unix_peers: peers, .. } =
            arrange(Table { sockets, unix_peers: vec![(0, 8), (1, 9), (2, 9)] }, &[]);
        assert_eq!(sockets.iter().map(|each| each.inode).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(peers, [(2, 8), (1, 9)]);
    }

    #[test]
    fn a_socket_that_changes_during_the_dump_is_one() {
        let mut listener = socket(Protocol::Tcp, 5, 8, 80);
        listener.state = State::Listen;
        let mut bound = socket(Protocol::Tcp, 5, 8, 80);
        bound.state = State::Bound;
        // Not accepted yet, then accepted, then waiting for its end; and one beside it.
        let lives = [(0, 90), (9, 90), (0, 90), (0, 91)]
            .map(|(inode, cookie)| socket(Protocol::Tcp, 6, inode, cookie));
        let sockets = [bound, listener].into_iter().chain(lives).collect();
        let Arranged { sockets, inodes, .. } = arrange(Table { sockets, unix_peers: Vec::new() }, &[]);
        assert_eq!(
            sockets.iter().map(|each| (each.state, each.inode, each.cookie)).collect::<Vec<_>>(),
            [(State::Listen, 8, 80), (State::Established, 0, 91), (State::Established, 9, 90)]
        );
        assert_eq!([inodes.find(8), inodes.find(9)], [Found::One(0), Found::One(2)]);
        assert_eq!(inodes.ambiguous(), 0);
    }

    #[test]
    fn mptcp_hides_its_carrier_and_nothing_else() {
        let sockets = vec![
            socket(Protocol::Mptcp, 7007, 5, 1),
            socket(Protocol::Tcp, 7007, 5, 2),
            socket(Protocol::Tcp, 7007, 6, 3),
            socket(Protocol::Mptcp, 9, 0, 4),
            socket(Protocol::Tcp, 9, 0, 5),
            socket(Protocol::Tcp, 10, 0, 6),
        ];
        let Arranged { sockets, .. } = arrange(Table { sockets, unix_peers: Vec::new() }, &[]);
        assert_eq!(sockets.iter().map(|each| each.cookie).collect::<Vec<_>>(), [6, 3, 4, 1]);
    }

    #[test]
    fn what_an_mptcp_listener_accepted_has_no_cookie_of_its_listener() {
        let mut listener = socket(Protocol::Mptcp, 9, 4, 70);
        listener.state = State::Listen;
        let sockets = vec![
            listener,
            socket(Protocol::Mptcp, 9, 5, 70),
            socket(Protocol::Mptcp, 9, 0, 70),
            socket(Protocol::Mptcp, 9, 6, 71),
            socket(Protocol::Tcp, 9, 7, 70),
        ];
        let Arranged { sockets, .. } = arrange(Table { sockets, unix_peers: Vec::new() }, &[]);
        let mut named: Vec<_> = sockets.iter().map(|each| (each.inode, each.cookie)).collect();
        named.sort_unstable();
        assert_eq!(named, [(0, 0), (4, 70), (5, 0), (6, 71), (7, 70)]);
    }

    #[test]
    fn an_inode_that_two_sockets_claim_leads_to_none() {
        let found = Inodes::of(&[
            socket(Protocol::Tcp, 1, 5, 1),
            socket(Protocol::Udp, 1, 5, 2),
            socket(Protocol::Udp, 1, 6, 3),
        ]);
        assert_eq!(
            [found.find(5), found.find(6), found.find(7)],
            [Found::Several, Found::One(2), Found::None]
        );
        assert_eq!(found.ambiguous(), 1);
    }
}
