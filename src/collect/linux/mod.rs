//! Every socket of a Linux machine, in the order of what can be trusted: the kernel's tables
//! first, then who holds what, then what the tables do not list, then what has no owner yet.

#![forbid(unsafe_code)]

pub mod ask;
pub mod bpf;
#[cfg(target_os = "linux")]
pub(super) mod glance;
#[cfg(target_os = "linux")]
pub(crate) mod iterated;
mod leftover;
pub mod links;
pub(crate) mod netns;
pub(crate) mod proc_fd;
pub mod proc_net;
pub(crate) mod rights;
mod sock_diag;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};

use leftover::Circumstances;
use netns::Namespaces;
use proc_fd::{Held, Seen, Walk};
use proc_net::inode_of;
use rights::Capability;
use sock_diag::Place;

use super::gaps::Gaps;
use super::join::{Arranged, Found, Inodes, arrange};
use super::table::Table;
use super::{peers, roles};
use crate::model::{
    Gap, Holder, How, NamespaceId, OwnerGap, Process, ProcessId, Protocol, Snapshot, Socket, Span, State,
    Wants, counted,
};
use crate::source::{NetnsPlace, SocketAnswer, Source};

/// See `collect::sockets`.
pub(super) fn sockets(source: &Source, wants: &Wants) -> Snapshot {
    source.look_anew();
    let mut look = Look {
        source,
        wants: *wants,
        namespaces: Namespaces::own(source),
        table: Table::default(),
        gaps: Gaps::default(),
        mptcp_among_tcp: BTreeSet::new(),
    };
    let taken_at = super::taken_at(source);
    let pids = look.pids();
    look.list_tables(&pids);
    let mut walk = if wants.owners { look.walk(&pids) } else { Walk::default() };
    look.follow_descriptors(&walk);
    look.ask_the_unlisted(&walk);
    look.tell_mptcp_from_tcp(&walk);
    let Arranged { mut sockets, unix_peers, inodes } =
        arrange(std::mem::take(&mut look.table), &source.own_sockets());
    let ephemeral: Vec<_> = look.namespaces.list.iter().map(|each| ephemeral(source, each.inode)).collect();
    peers::assign(&mut sockets, &unix_peers, &inodes);
    roles::assign(&mut sockets, &ephemeral);
    drop(unix_peers);
    for socket in &mut sockets {
        socket.owner_gap = leftover::by_nature(socket);
    }
    if wants.owners {
        look.attribute(&mut sockets, &inodes, &mut walk, &pids);
    }
    let (processes, holders) = hand_over(&mut sockets, &inodes, walk);
    Snapshot {
        taken_at,
        namespaces: look.namespaces.list,
        processes,
        holders,
        sockets,
        gaps: look.gaps.into_list(),
        ..Snapshot::default()
    }
}

/// One look at the machine.
struct Look<'s> {
    source: &'s Source,
    wants: Wants,
    namespaces: Namespaces,
    table: Table,
    gaps: Gaps,
    /// Namespaces in which MPTCP sockets look like TCP ones.
    mptcp_among_tcp: BTreeSet<NamespaceId>,
}

impl Look<'_> {
    fn pids(&mut self) -> Vec<u32> {
        self.source.pids().unwrap_or_else(|error| {
            self.gaps.add(Gap {
                id: "processes-unread".into(),
                what: "the list of processes".into(),
                why: error.to_string(),
                remedy: Some("mount /proc: mount -t proc proc /proc".into()),
                count: 1,
                unlisted: None,
            });
            Vec::new()
        })
    }

    /// Who holds what: as the program in the kernel tells it, or else by a walk through /proc.
    fn walk(&self, pids: &[u32]) -> Walk {
        #[cfg(target_os = "linux")]
        if let Ok(mut walk) = iterated::walk(self.source) {
            // Whom /proc denies us is told of all the same, on most kernels. Whoever is neither shown nor
            // told of may hold anything.
            let told: BTreeSet<u32> = walk.processes.iter().map(|seen| seen.pid).collect();
            let asked = (!self.wants.all_namespaces).then(|| netns::denied(self.source, pids));
            let denied = asked.as_ref().unwrap_or(&self.namespaces.denied);
            walk.denied += denied.iter().filter(|pid| !told.contains(pid)).count() as u64;
            return walk;
        }
        proc_fd::walk(self.source, pids, self.wants.streams)
    }

    /// The kernel's tables, of our own namespace and of all that can be found.
    fn list_tables(&mut self, pids: &[u32]) {
        let mut places = vec![NamespaceId(0)];
        if self.wants.all_namespaces {
            places.extend(netns::find(self.source, pids, &mut self.namespaces, &mut self.gaps));
        }
        for id in places {
            self.list_namespace(id);
        }
    }

    fn list_namespace(&mut self, id: NamespaceId) {
        let inode = self.namespaces.list[id.0 as usize].inode;
        if !sock_diag::list(self.source, Place { inode, id }, &mut self.table, &mut self.gaps) {
            self.mptcp_among_tcp.insert(id);
        }
    }

    /// Finds the MPTCP sockets that the kernel lists as TCP: their descriptors tell.
    fn tell_mptcp_from_tcp(&mut self, walk: &Walk) {
        if self.mptcp_among_tcp.is_empty() {
            return;
        }
        let doubtful: BTreeMap<u64, usize> = (0..)
            .zip(&self.table.sockets)
            .filter(|(_, socket)| {
                socket.protocol == Protocol::Tcp && self.mptcp_among_tcp.contains(&socket.netns)
            })
            .map(|(at, socket)| (socket.inode, at))
            .collect();
        let mut asked = BTreeSet::new();
        for held in walk.held.iter().filter(|held| held.how == How::Fd) {
            let Some(at) = doubtful.get(&held.inode) else { continue };
            if !asked.insert(held.inode) {
                continue;
            }
            let pid = walk.processes[held.process as usize].pid;
            let name = self.source.process(pid).and_then(|process| process.protocol_name(held.fd));
            if name.is_ok_and(|name| ask::protocol_by_name(&name) == Protocol::Mptcp) {
                self.table.sockets[*at].protocol = Protocol::Mptcp;
            }
        }
    }

    /// Namespaces that somebody only holds open.
    fn follow_descriptors(&mut self, walk: &Walk) {
        if !self.wants.all_namespaces {
            return;
        }
        let mut ways: BTreeMap<u64, Vec<NetnsPlace>> = BTreeMap::new();
        // Those that we hold ourselves, to look into them, keep nothing open.
        let ours = self.source.is_live().then(std::process::id);
        for (inode, pid, fd) in walk.namespaces.iter().filter(|(_, pid, _)| Some(*pid) != ours) {
            let ways = ways.entry(*inode).or_default();
            if ways.len() < 3 {
                ways.push(NetnsPlace::Proc(format!("{pid}/fd/{fd}")));
            }
        }
        for (inode, ways) in ways {
            let entered = self.namespaces.enter(self.source, inode, None, &ways, &mut self.gaps);
            if let Some(id) = entered {
                self.list_namespace(id);
            }
        }
    }

    /// Asks sockets that stand in a file table and in none of the kernel's.
    fn ask_the_unlisted(&mut self, walk: &Walk) {
        let mut listed: BTreeSet<u64> = BTreeSet::new();
        let mut known: Vec<u64> = self.table.sockets.iter().map(|socket| socket.inode).collect();
        // What we ask through stands in tables that we need not have listed.
        known.extend(self.source.own_sockets());
        known.sort_unstable();
        let mut unlisted: Vec<Held> =
            walk.held.iter().filter(|held| known.binary_search(&held.inode).is_err()).copied().collect();
        drop(known);
        unlisted.sort_unstable();
        for references in unlisted.chunk_by(|a, b| a.inode == b.inode) {
            if listed.contains(&references[0].inode)
                || self.wants.gentle && self.comes_by_itself(walk, references)
            {
                continue;
            }
            let before = self.table.sockets.len();
            self.ask_one(walk, references);
            // A new namespace may list others of the unlisted.
            if self.table.sockets.len() > before + 1 {
                listed.extend(self.table.sockets[before..].iter().map(|socket| socket.inode));
            }
        }
    }

    /// Whether a socket is of a family whose tables list it as soon as it can be spoken to: it was
    /// opened since they were read, or has no address yet.
    fn comes_by_itself(&self, walk: &Walk, references: &[Held]) -> bool {
        let held = references.iter().filter(|held| held.how == How::Fd);
        let names = held.filter_map(|held| {
            let pid = walk.processes[held.process as usize].pid;
            self.source.process(pid).and_then(|process| process.protocol_name(held.fd)).ok()
        });
        names.map(|name| ask::protocol_by_name(&name)).next().is_some_and(|protocol| {
            matches!(
                protocol,
                Protocol::Tcp
                    | Protocol::Mptcp
                    | Protocol::Udp
                    | Protocol::UdpLite
                    | Protocol::Unix
                    | Protocol::Netlink
                    | Protocol::Packet
            )
        })
    }

    fn ask_one(&mut self, walk: &Walk, references: &[Held]) {
        let inode = references[0].inode;
        let mut refusal = None;
        for held in references.iter().filter(|held| held.how != How::Ring).take(4) {
            match self.source.ask_socket(held.task, held.fd) {
                Ok(answer) if answer.inode == inode => {
                    let Some(netns) = self.netns_of(&answer, held) else { return };
                    let listed = |socket: &Socket| socket.inode == inode && socket.netns == netns;
                    if !self.table.sockets.iter().rev().take(100_000).any(listed) {
                        self.table.sockets.push(ask::understand(&answer, netns));
                    }
                    return;
                }
                // Closed, or another socket by now.
                Ok(_) => {}
                Err(error) if has_ended(&error) => {}
                Err(error) => refusal = Some((error, held)),
            }
        }
        let Some((error, held)) = refusal else { return };
        let pid = walk.processes[held.process as usize].pid;
        let name = self.source.process(pid).and_then(|process| {
            let name = process.protocol_name(held.fd)?;
            let still = process.read_link(&format!("fd/{}", held.fd))?;
            if inode_of(&still, b"socket") == Some(inode) {
                Ok(name)
            } else {
                Err(std::io::ErrorKind::NotFound.into())
            }
        });
        if let Ok(name) = name {
            let Some(netns) = self.netns_of_process(pid) else { return };
            self.table.sockets.push(ask::by_name(&name, inode, netns));
            self.gaps.add(Gap {
                id: "sockets-unasked".into(),
                what: "sockets that no table of the kernel lists and that may not be asked: only their protocol is known".into(),
                why: error.to_string(),
                remedy: Some(rights::remedy(self.source, Capability::SysPtrace)),
                count: 1,
                unlisted: None,
            });
        }
    }

    /// The namespace of a socket; `None` when it is not in question. One that is only known by
    /// this socket is entered through it, and listed.
    fn netns_of(&mut self, answer: &SocketAnswer, held: &Held) -> Option<NamespaceId> {
        if let Some(id) = answer.netns_cookie.and_then(|cookie| self.namespaces.with_cookie(cookie)) {
            return Some(id);
        }
        if !self.wants.all_namespaces && self.namespaces.list[0].cookie.is_some() {
            return None;
        }
        match self.source.netns_of_socket(held.task, held.fd) {
            Ok(inode) => {
                let (id, new) = self.namespaces.add_of_socket(self.source, inode);
                if new && self.wants.all_namespaces {
                    self.list_namespace(id);
                }
                (self.wants.all_namespaces || id == NamespaceId(0)).then_some(id)
            }
            Err(error) => {
                // A namespace that we could not enter, and whose cookie nobody has told yet, is
                // taken for the one that its holder is in now.
                if let Some(id) = self.netns_of_process(held.task)
                    && self.namespaces.name_closed(id, answer.netns_cookie)
                {
                    return Some(id);
                }
                let id = self.namespaces.push_closed(answer.netns_cookie);
                self.gaps.add(netns::unread(self.source, id, &error));
                Some(id)
            }
        }
    }

    fn netns_of_process(&self, pid: u32) -> Option<NamespaceId> {
        let link = self.source.proc_link(&format!("{pid}/ns/net")).ok()?;
        let inode = inode_of(&link, b"net")?;
        self.namespaces.known(inode)
    }

    /// Looks again for whoever holds what has no holder, and says of the rest what it is.
    fn attribute(&mut self, sockets: &mut [Socket], inodes: &Inodes, walk: &mut Walk, pids: &[u32]) {
        let mut leftover = ownerless(sockets, inodes, walk);
        let iterated = walk.iterated;
        let mut add = |leftover: &mut Vec<u32>, mut more: Walk| {
            let wanted: BTreeSet<u64> = leftover.iter().map(|at| sockets[*at as usize].inode).collect();
            more.held.retain(|held| wanted.contains(&held.inode));
            // Whoever was walked through /proc has counted them already.
            let denied = std::mem::take(&mut more.denied);
            walk.denied = if walk.iterated { walk.denied.max(denied) } else { walk.denied };
            more.namespaces.clear();
            if !more.held.is_empty() {
                walk.append(more);
                *leftover = ownerless(sockets, inodes, walk);
            }
        };
        if !leftover.is_empty() && !iterated {
            add(&mut leftover, proc_fd::walk_threads(self.source, pids));
        }
        if !leftover.is_empty() {
            // By now others may hold it: who was started meanwhile is looked at too.
            let now = self.pids();
            add(&mut leftover, self.walk(&now));
        }
        // To read what every process has mapped is dear, and few sockets can be.
        if leftover.iter().any(|at| may_be_mapped(&sockets[*at as usize])) {
            add(&mut leftover, proc_fd::walk_memory(self.source, pids));
        }
        let hidden = self.hidden(walk);
        if !leftover.is_empty() {
            let holders: BTreeMap<u64, (u32, i32)> =
                walk.held.iter().map(|held| (held.inode, (held.task, held.fd))).collect();
            let in_flight = leftover::in_flight(self.source, sockets, |inode| holders.get(&inode).copied());
            let circumstances = Circumstances {
                namespaces: &self.namespaces.list,
                hidden: hidden.is_some(),
                denied: walk.denied > 0,
                in_flight,
            };
            leftover::sort(self.source, sockets, &leftover, &circumstances);
        }
        let ambiguous = inodes.ambiguous();
        if ambiguous > 0 {
            self.gaps.add(Gap {
                id: "inode-ambiguous".into(),
                what: "sockets that share an inode number: their owners cannot be told apart".into(),
                why: "the kernel's inode numbers of sockets have wrapped round".into(),
                remedy: None,
                count: ambiguous as u64,
                unlisted: None,
            });
        }
        if let Some(mut gap) = hidden {
            let hidden = sockets.iter().filter(|socket| socket.owner_gap == Some(OwnerGap::Hidden)).count();
            let consequence = match hidden {
                0 => "no socket lacks an owner for it".to_owned(),
                1 => "1 socket has an owner that cannot be seen".to_owned(),
                many => format!("{} have an owner that cannot be seen", counted(many, "socket")),
            };
            gap.what = format!("{}: {consequence}", gap.what);
            self.gaps.add(gap);
        }
    }

    /// Whether there are processes that we cannot look into, tried and not guessed.
    fn hidden(&self, walk: &Walk) -> Option<Gap> {
        let remedy = Some(rights::remedy(self.source, Capability::SysPtrace));
        let gap = |what: &str, why: &str, count| Gap {
            id: "owners-hidden".into(),
            what: what.into(),
            why: why.into(),
            remedy: remedy.clone(),
            count,
            unlisted: None,
        };
        if walk.denied > 0 {
            let s = if walk.denied == 1 { "process" } else { "processes" };
            let what = format!("{} {s} could not be looked into", walk.denied);
            return Some(gap(&what, "permission denied on /proc/PID/fd", walk.denied));
        }
        let unshown = rights::unshown(self.source)?;
        Some(Gap { remedy: Some(unshown.remedy), ..gap(unshown.what, unshown.why, 1) })
    }
}

/// The process, or its descriptor, is not there any more.
fn has_ended(error: &std::io::Error) -> bool {
    const ENOENT: i32 = 2;
    const ESRCH: i32 = 3;
    const EBADF: i32 = 9;
    [ENOENT, ESRCH, EBADF].map(Some).contains(&error.raw_os_error())
}

/// Rings of packet and XDP sockets, and received data of TCP (`TCP_ZEROCOPY_RECEIVE`).
fn may_be_mapped(socket: &Socket) -> bool {
    matches!(socket.protocol, Protocol::Packet | Protocol::Xdp)
        || (socket.protocol == Protocol::Tcp && socket.state == State::Established)
}

/// Sockets with an inode and without a holder.
fn ownerless(sockets: &[Socket], inodes: &Inodes, walk: &Walk) -> Vec<u32> {
    let mut owned = vec![false; sockets.len()];
    for held in &walk.held {
        if let Found::One(at) = inodes.find(held.inode) {
            owned[at as usize] = true;
        }
    }
    (0_u32..)
        .zip(sockets)
        .filter(|(at, socket)| socket.inode != 0 && socket.owner_gap.is_none() && !owned[*at as usize])
        .map(|(at, _)| at)
        .collect()
}

/// Puts processes in order of pid and gives each socket its run of holders.
fn hand_over(sockets: &mut [Socket], inodes: &Inodes, walk: Walk) -> (Vec<Process>, Vec<Holder>) {
    let mut found: Vec<(u32, u32, i32, u8, u32, How)> = Vec::with_capacity(walk.held.len());
    for held in &walk.held {
        if let Found::One(at) = inodes.find(held.inode) {
            let pid = walk.processes[held.process as usize].pid;
            found.push((at, pid, held.fd, held.how as u8, held.process, held.how));
        }
    }
    drop(walk.held);
    found.sort_unstable();
    // The same reference may have been seen twice, or through two threads with one table.
    found.dedup_by_key(|each| (each.0, each.1, each.2, each.3));
    let mut needed: Vec<u32> = found.iter().map(|each| each.4).collect();
    needed.sort_unstable();
    needed.dedup();
    needed.sort_by_key(|at| {
        let seen = &walk.processes[*at as usize];
        (seen.pid, seen.stat.start_ticks)
    });
    let mut processes: Vec<Process> = Vec::with_capacity(needed.len());
    let mut numbers: BTreeMap<u32, ProcessId> = BTreeMap::new();
    for at in needed {
        let Seen { pid, stat, stdio } = &walk.processes[at as usize];
        let same =
            processes.last().is_some_and(|last| last.pid == *pid && last.start_ticks == stat.start_ticks);
        if !same {
            let process = Process::new(*pid, stat.start_ticks, stat.name.clone(), stat.ppid);
            processes.push(Process { stdio: stdio.clone(), ..process });
        }
        numbers.insert(at, ProcessId(u32::try_from(processes.len() - 1).unwrap_or(u32::MAX)));
    }
    let mut holders = Vec::with_capacity(found.len());
    for run in found.chunk_by(|a, b| a.0 == b.0) {
        let socket = &mut sockets[run[0].0 as usize];
        let start = u32::try_from(holders.len()).unwrap_or(u32::MAX);
        socket.holders = Span { start, len: u32::try_from(run.len()).unwrap_or(u32::MAX) };
        socket.owner_gap = None;
        for each in run {
            let process = numbers.get(&each.4).copied().unwrap_or(ProcessId(0));
            holders.push(Holder { process, fd: each.2, how: each.5 });
        }
    }
    (processes, holders)
}

/// net.ipv4.ip_local_port_range
fn ephemeral(source: &Source, inode: u64) -> Option<(u16, u16)> {
    let text = source.netns_file(inode, "sys/net/ipv4/ip_local_port_range").ok()?;
    let text = String::from_utf8(text).ok()?;
    let mut words = text.split_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}
