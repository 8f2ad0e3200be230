//! Cheap looks at whatever can receive: dumps that the kernel filters, of every namespace that the
//! last scan knew, and its notifications of sockets that end (`SKNLGRP_INET_TCP_DESTROY` and its
//! kin in <linux/sock_diag.h>).

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::netns::{self, Namespaces};
use super::proc_net::{self, File, inode_of};
use super::sock_diag;
use super::wire::{self, Dump};
use crate::collect::events::Seen;
use crate::collect::gaps::Gaps;
use crate::collect::table::Table;
use crate::model::{Endpoint, NamespaceId, OwnerGap, Protocol, Snapshot, Socket, SocketType, State};
use crate::source::{Heard, Source, Subscription};

pub(crate) const CAN_LOOK: bool = true;

const NETLINK_SOCK_DIAG: u32 = 4;
/// Groups 1 to 4: TCP and UDP of IPv4, then of IPv6.
const DESTROY_GROUPS: u32 = 0b1111;
/// Namespaces that are looked into and listened in between two scans; the rest is found by scans.
const NAMESPACES: usize = 64;
/// Brief sockets that are told apart in one look; more are counted as lost.
const BRIEF: usize = 1_000;
/// Sockets that are remembered until a scan has seen them.
const UNSCANNED: usize = 100_000;
/// Linux's own choice, for a namespace where it could not be read.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// A socket for as long as it lives: namespace, cookie, inode. The kernel gives cookies to all but
/// those that only /proc/net lists.
type Key = (u64, u64, u64);

#[derive(Debug)]
struct Place {
    inode: u64,
    ephemeral: (u16, u16),
    ends: Option<Subscription>,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    all_namespaces: bool,
    source: Option<Source>,
    places: Vec<Place>,
    /// Found by the last look.
    last: BTreeSet<Key>,
    /// Found by the last look or the scan since.
    known: BTreeSet<Key>,
    /// Found by looks, and by no scan yet: if they end now, no scan will ever tell of them.
    unscanned: BTreeMap<Key, Socket>,
    namespaces: BTreeSet<u64>,
    pids: Vec<u32>,
    /// Namespaces beyond `NAMESPACES`, and why the kernel does not tell of ends.
    unwatched: usize,
    deaf: Option<String>,
}

impl Watcher {
    pub(crate) fn new(all_namespaces: bool) -> Self {
        Self {
            all_namespaces,
            source: None,
            places: Vec::new(),
            last: BTreeSet::new(),
            known: BTreeSet::new(),
            unscanned: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            pids: Vec::new(),
            unwatched: 0,
            deaf: None,
        }
    }

    pub(crate) fn follow(&mut self, source: Source, snapshot: &Snapshot) -> io::Result<()> {
        let mut found = Namespaces::own(&source);
        self.pids = source.pids()?;
        if self.all_namespaces {
            netns::find(&source, &self.pids, &mut found, &mut Gaps::default());
        }
        let mut before = std::mem::take(&mut self.places);
        self.namespaces = snapshot.namespaces.iter().map(|each| each.inode).collect();
        self.namespaces.extend(found.list.iter().map(|each| each.inode));
        self.unwatched = found.list.len().saturating_sub(NAMESPACES);
        for namespace in found.list.iter().take(NAMESPACES) {
            let inode = namespace.inode;
            let told = snapshot.namespaces.iter().find(|each| each.inode == inode);
            let ends = match before.iter().position(|place| place.inode == inode) {
                Some(at) => before.swap_remove(at).ends,
                None => self.listen(&source, inode),
            };
            let ephemeral = told.and_then(|each| each.sysctls.ephemeral).unwrap_or(EPHEMERAL);
            self.places.push(Place { inode, ephemeral, ends });
        }
        for socket in &snapshot.sockets {
            let netns = snapshot.namespaces.get(socket.netns.0 as usize).map_or(0, |each| each.inode);
            let key = key(netns, socket);
            self.unscanned.remove(&key);
            self.known.insert(key);
        }
        self.source = Some(source);
        Ok(())
    }

    fn listen(&mut self, source: &Source, inode: u64) -> Option<Subscription> {
        // In `struct nlmsghdr` and `struct inet_diag_msg`: somebody at the other end has a port;
        // what was never bound has none.
        const REMOTE_PORT: u32 = 16 + 4 + 2;
        const LOCAL_PORT: u32 = 16 + 4;
        let heard = source
            .subscribe(inode, NETLINK_SOCK_DIAG, DESTROY_GROUPS)
            .and_then(|ends| ends.only(REMOTE_PORT, LOCAL_PORT).map(|()| ends));
        match heard {
            Ok(ends) => Some(ends),
            Err(error) => {
                self.deaf = Some(error.to_string());
                None
            }
        }
    }

    pub(crate) fn look(&mut self) -> Seen {
        let mut seen = Seen::default();
        self.hear(&mut seen);
        let Some(source) = &self.source else { return Seen { changed: true, ..seen } };
        let mut now = BTreeMap::new();
        for place in &self.places {
            let mut table = Table::default();
            let there = sock_diag::Place { inode: place.inode, id: NamespaceId(0) };
            sock_diag::glance(source, there, &mut table);
            if Some(place.inode) == source.own_netns() {
                for name in ["net/raw", "net/raw6"] {
                    if let Ok(text) = source.proc_file(name) {
                        proc_net::decode(File::Inet(Protocol::Raw), NamespaceId(0), &text, &mut table);
                    }
                }
            }
            let received = table.sockets.into_iter().filter(|socket| receives(socket, place.ephemeral));
            now.extend(received.map(|socket| (key(place.inode, &socket), socket)));
        }
        let gone: Vec<Key> = self.last.iter().filter(|key| !now.contains_key(*key)).copied().collect();
        for key in &gone {
            if let Some(socket) = self.unscanned.remove(key) {
                tell_brief(&mut seen, key.0, socket);
            }
        }
        seen.changed |= !gone.is_empty() || self.new_namespace();
        self.last = now.keys().copied().collect();
        let room = UNSCANNED.saturating_sub(self.unscanned.len());
        let new = now.into_iter().filter(|(key, _)| !self.known.contains(key));
        self.unscanned.extend(new.take(room));
        seen.changed |= self.last.difference(&self.known).next().is_some();
        self.known.clone_from(&self.last);
        seen
    }

    /// What the kernel told of sockets that ended.
    fn hear(&mut self, seen: &mut Seen) {
        for place in &mut self.places {
            let Some(ends) = &mut place.ends else { continue };
            let mut table = Table::default();
            let heard = ends.drain(&mut |block| {
                if table.sockets.len() < 2 * BRIEF {
                    wire::decode(Dump::Inet(Protocol::Tcp), NamespaceId(0), block, &mut table);
                } else {
                    seen.lost += 1;
                }
            });
            match heard {
                Ok(Heard::Nothing | Heard::Something) => {}
                Ok(Heard::Lost) => seen.lost += 1,
                Err(error) => {
                    self.deaf = Some(error.to_string());
                    place.ends = None;
                }
            }
            for socket in table.sockets {
                let key = key(place.inode, &socket);
                if let Some(known) = self.unscanned.remove(&key) {
                    seen.changed = true;
                    tell_brief(seen, place.inode, known);
                } else if self.known.contains(&key) {
                    seen.changed = true;
                } else if let Some(socket) = brief(socket, place.ephemeral) {
                    tell_brief(seen, place.inode, socket);
                }
            }
        }
    }

    /// Whether a process has appeared in a namespace that nobody knows.
    fn new_namespace(&mut self) -> bool {
        let Some(source) = self.source.as_ref().filter(|_| self.all_namespaces) else { return false };
        let Ok(pids) = source.pids() else { return false };
        let mut found = false;
        for pid in pids.iter().filter(|pid| self.pids.binary_search(pid).is_err()) {
            let link = source.proc_link(&format!("{pid}/ns/net"));
            let inode = link.ok().and_then(|link| inode_of(&link, b"net"));
            found |= inode.is_some_and(|inode| self.namespaces.insert(inode));
        }
        self.pids = pids;
        found
    }

    pub(crate) fn heard(&self) -> bool {
        self.places.iter().any(|place| place.ends.as_ref().is_some_and(Subscription::is_ready))
    }

    pub(crate) fn limits(&self) -> Vec<String> {
        let deaf = self.deaf.as_ref().map(|why| {
            format!("the kernel does not tell of sockets that end ({why}): one that lives between two looks stays unseen")
        });
        let beyond = (self.unwatched > 0)
            .then(|| format!("{} network namespaces are only seen by the full scans", self.unwatched));
        deaf.into_iter().chain(beyond).collect()
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.places.iter().filter_map(|place| place.ends.as_ref().map(|ends| ends.as_fd())).collect()
    }
}

/// A cookie outlives the inode number, which is zero when the kernel tells of an end.
fn key(netns: u64, socket: &Socket) -> Key {
    (netns, socket.cookie, if socket.cookie == 0 { socket.inode } else { 0 })
}

/// Whether a look shows it: listeners, bound datagram sockets, packet and raw sockets. The UDP ports
/// that the kernel hands to clients are left to the scans.
fn receives(socket: &Socket, ephemeral: (u16, u16)) -> bool {
    match socket.protocol {
        Protocol::Udp => match &socket.local {
            Endpoint::Inet(address, port) => {
                *port != 0 && !(address.is_unspecified() && (ephemeral.0..=ephemeral.1).contains(port))
            }
            Endpoint::None
            | Endpoint::UnixPath(_)
            | Endpoint::UnixAbstract(_)
            | Endpoint::Vsock { .. }
            | Endpoint::Interface(_) => false,
        },
        Protocol::Unix => {
            socket.state == State::Listen
                || socket.kind == SocketType::Dgram && socket.local != Endpoint::None
        }
        Protocol::Tcp
        | Protocol::UdpLite
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Icmp
        | Protocol::Raw
        | Protocol::Packet
        | Protocol::Netlink
        | Protocol::Vsock
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Smc
        | Protocol::Other(_) => true,
    }
}

/// A socket that ended, if it was one that others could have spoken to, as far as the kernel still
/// tells: bound, with nobody at the other end. The groups are joined together, so its own protocol
/// is in the message.
fn brief(mut socket: Socket, ephemeral: (u16, u16)) -> Option<Socket> {
    const UDP: u32 = 17;
    if socket.protocol_number == Some(UDP) {
        socket.protocol = Protocol::Udp;
        socket.kind = SocketType::Dgram;
        if !receives(&socket, ephemeral) {
            return None;
        }
    }
    socket.protocol_number = None;
    socket.uid = None;
    // A call that was refused keeps the address of whom it called.
    (socket.remote == Endpoint::None).then_some(socket)
}

/// Nobody will ever know who held it.
fn tell_brief(seen: &mut Seen, netns: u64, mut socket: Socket) {
    if seen.brief.len() >= BRIEF {
        seen.lost += 1;
        return;
    }
    socket.inode = 0;
    socket.state = State::Closed;
    socket.owner_gap = Some(OwnerGap::Gone);
    seen.brief.push((netns, socket));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{Sample, endpoint};

    fn udp(local: &str) -> Socket {
        let mut sample = Sample::new();
        sample.socket(Protocol::Udp, State::Unconnected, local, &[]).clone()
    }

    #[test]
    fn ports_of_udp_clients_are_no_news() {
        assert!(receives(&udp("0.0.0.0:53"), EPHEMERAL));
        assert!(!receives(&udp("0.0.0.0:40000"), EPHEMERAL));
        assert!(receives(&udp("127.0.0.1:40000"), EPHEMERAL));
        assert!(!receives(&udp(""), EPHEMERAL));
    }

    #[test]
    fn what_was_bound_and_ended_is_told_and_a_refused_call_is_not() {
        let mut listener = udp("0.0.0.0:4444");
        listener.protocol = Protocol::Tcp;
        let mut refused = listener.clone();
        refused.remote = endpoint("127.0.0.1:1");
        assert!(brief(refused, EPHEMERAL).is_none());
        let mut seen = Seen::default();
        tell_brief(&mut seen, 7, brief(listener, EPHEMERAL).unwrap());
        let (netns, told) = &seen.brief[0];
        assert_eq!((*netns, told.state, told.owner_gap), (7, State::Closed, Some(OwnerGap::Gone)));
        let mut client = udp("0.0.0.0:40000");
        client.protocol_number = Some(17);
        assert!(brief(client, EPHEMERAL).is_none());
        for _ in 0..2 * BRIEF {
            tell_brief(&mut seen, 7, udp("0.0.0.0:53"));
        }
        assert!(seen.brief.len() == BRIEF && seen.lost == BRIEF as u64 + 1);
    }
}
