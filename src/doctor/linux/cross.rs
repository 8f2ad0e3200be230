//! The comparison, on Linux: our own list, the text below /proc/net, netstat2, a bind probe; and file
//! tables, as /proc shows them and as a program in the kernel tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::ports::{self, Probe};
use crate::collect;
use crate::collect::linux::proc_net::{self, File};
use crate::collect::linux::{iterated, netns, proc_fd};
use crate::collect::table::Table;
use crate::doctor::cross::{Crossed, Disagreement};
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, State, Wants, canonical, counted};
use crate::source::Source;

const OURS: &str = "sockwarden";
const TEXT: &str = "/proc/net";
const NETSTAT2: &str = "netstat2";
const TABLES: &str = "/proc/PID/fd";
const PROGRAM: &str = "iter/task_file";
const PROBE: &str = "bind probe";

/// A difference counts when it is there this often, with a pause between.
const ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_millis(120);

/// How a socket is known in every source. TCP and UDP by address, since time-wait has no inode;
/// the others by inode.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Tcp(SocketAddr, Option<SocketAddr>),
    Udp(SocketAddr),
    Inode(Protocol, u64),
    /// In some file table, in whatever namespace: inode.
    File(u64),
    /// In the file table of this process: inode, pid.
    Table(u64, u32),
    /// A port that cannot be bound although nothing lists it.
    Held(ports::Kind, u16),
    /// An address that can be bound although something is said to listen there.
    Free(SocketAddr),
}

/// What one source lists.
struct List {
    name: &'static str,
    keys: BTreeSet<Key>,
    /// Listed too, but no other source is asked to.
    besides: BTreeSet<Key>,
    covers: fn(&Key) -> bool,
}

impl List {
    fn new(name: &'static str, covers: fn(&Key) -> bool) -> Self {
        Self { name, keys: BTreeSet::new(), besides: BTreeSet::new(), covers }
    }

    fn of(name: &'static str, sockets: &[Socket], own: &[u64], covers: fn(&Key) -> bool) -> Self {
        let mut list = Self::new(name, covers);
        for socket in sockets {
            let Some(key) = key(socket).filter(|_| socket.inode == 0 || !own.contains(&socket.inode)) else {
                continue;
            };
            // Neither bound TCP nor unbound netlink sockets stand in the kernel's text tables.
            let idle = matches!(socket.state, State::Bound | State::Unconnected | State::Closed);
            let silent = idle && matches!(key, Key::Tcp(..) | Key::Inode(Protocol::Netlink, _));
            if silent { &mut list.besides } else { &mut list.keys }.insert(key);
        }
        list
    }

    fn count(&self) -> usize {
        self.keys.iter().filter(|key| !matches!(key, Key::File(_))).count()
    }

    fn knows(&self, key: &Key) -> bool {
        self.keys.contains(key) || self.besides.contains(key)
    }

    /// Local ports, by transport.
    fn ports(&self, tcp: bool) -> impl Iterator<Item = u16> {
        self.keys.iter().chain(&self.besides).filter_map(move |key| match key {
            Key::Tcp(local, _) if tcp => Some(local.port()),
            Key::Udp(local) if !tcp => Some(local.port()),
            Key::Tcp(..)
            | Key::Udp(_)
            | Key::Inode(..)
            | Key::File(_)
            | Key::Table(..)
            | Key::Held(..)
            | Key::Free(_) => None,
        })
    }
}

pub(in crate::doctor) fn check(source: &Source) -> Crossed {
    let mut lasting: Option<BTreeMap<Key, Disagreement>> = None;
    let mut sources = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            std::thread::sleep(PAUSE);
        }
        let ours = Ours::ask(source);
        let lists = ask(source, &ours);
        let probe = probe(&lists, &ours.sockets, lasting.as_ref());
        let mut found = compare(&lists);
        found.extend(probed(&lists, &probe));
        if sources.is_empty() {
            let listed = |list: &List| format!("{}: {}", list.name, counted(list.count(), "socket"));
            sources = lists.iter().map(listed).collect();
            sources.push(format!("{PROBE}: {}", probe.summary()));
        }
        let still: BTreeMap<_, _> = match lasting {
            None => found,
            Some(before) => before.into_iter().filter(|(key, _)| found.contains_key(key)).collect(),
        };
        if still.is_empty() {
            return Crossed { sources, disagreements: Vec::new() };
        }
        lasting = Some(still);
    }
    Crossed { sources, disagreements: lasting.unwrap_or_default().into_values().collect() }
}

fn ask(source: &Source, ours: &Ours) -> Vec<List> {
    let own = source.own_sockets();
    let of_no_table = |key: &Key| !matches!(key, Key::Table(..));
    let of_a_list = |key: &Key| !matches!(key, Key::Table(..) | Key::File(_));
    let mut lists = vec![
        List::of(OURS, &ours.sockets, &own, of_no_table),
        List::of(TEXT, &text(source), &own, of_a_list),
    ];
    lists[0].besides.extend(ours.everywhere.iter().flatten().map(|inode| Key::File(*inode)));
    lists.extend(netstat2().ok());
    lists.extend(tables(source, ours.everywhere.is_some()));
    lists
}

/// The file tables of all processes that may be looked into, twice; not our own, which changes while
/// we ask. `files`: it is known which sockets there are in all namespaces.
fn tables(source: &Source, files: bool) -> Vec<List> {
    let Ok(told) = iterated::references(source) else { return Vec::new() };
    let pids = source.pids().unwrap_or_default();
    let mut closed: BTreeSet<u32> = netns::denied(source, &pids).into_iter().collect();
    closed.insert(std::process::id());
    let table = |(inode, pid): &(u64, u32)| (!closed.contains(pid)).then_some(Key::Table(*inode, *pid));
    let covers = |key: &Key| matches!(key, Key::Table(..));
    let mut program = List::new(PROGRAM, covers);
    program.keys.extend(told.iter().filter_map(table));
    if files {
        let of_others = told.iter().filter(|(_, pid)| *pid != std::process::id());
        program.keys.extend(of_others.map(|(inode, _)| Key::File(*inode)));
    }
    let mut shown = List::new(TABLES, covers);
    shown.keys.extend(proc_fd::references(source, &pids).iter().filter_map(table));
    vec![shown, program]
}

/// What every command sees.
struct Ours {
    /// Of our own namespace.
    sockets: Vec<Socket>,
    /// Inodes in all namespaces, where each could be asked.
    everywhere: Option<Vec<u64>>,
}

impl Ours {
    fn ask(source: &Source) -> Self {
        let wants = Wants { owners: true, all_namespaces: true, ..Wants::NOTHING };
        let snapshot = collect::sockets(source, &wants);
        let whole = snapshot.gaps.iter().all(|gap| gap.unlisted.is_none());
        let everywhere = whole.then(|| snapshot.sockets.iter().map(|socket| socket.inode).collect());
        let own = |socket: &Socket| snapshot.namespace(socket.netns).own;
        Self { sockets: snapshot.sockets.iter().filter(|socket| own(socket)).cloned().collect(), everywhere }
    }
}

fn text(source: &Source) -> Vec<Socket> {
    const FILES: [(&str, File); 11] = [
        ("tcp", File::Inet(Protocol::Tcp)),
        ("tcp6", File::Inet(Protocol::Tcp)),
        ("udp", File::Inet(Protocol::Udp)),
        ("udp6", File::Inet(Protocol::Udp)),
        ("raw", File::Inet(Protocol::Raw)),
        ("raw6", File::Inet(Protocol::Raw)),
        ("icmp", File::Inet(Protocol::Icmp)),
        ("icmp6", File::Inet(Protocol::Icmp)),
        ("unix", File::Unix),
        ("packet", File::Packet),
        ("netlink", File::Netlink),
    ];
    let mut table = Table::default();
    for (name, kind) in FILES {
        if let Ok(text) = source.proc_file(&format!("thread-self/net/{name}")) {
            proc_net::decode(kind, NamespaceId(0), &text, &mut table);
        }
    }
    table.sockets
}

fn netstat2() -> Result<List, netstat2::error::Error> {
    use netstat2::{
        AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, TcpState, iterate_sockets_info_without_pids,
    };
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let mut list = List::new(NETSTAT2, |key| matches!(key, Key::Tcp(..) | Key::Udp(_)));
    for info in iterate_sockets_info_without_pids(families, ProtocolFlags::TCP | ProtocolFlags::UDP)? {
        match info?.protocol_socket_info {
            ProtocolSocketInfo::Tcp(tcp) => {
                let local = SocketAddr::new(canonical(tcp.local_addr), tcp.local_port);
                let remote = SocketAddr::new(canonical(tcp.remote_addr), tcp.remote_port);
                let key = Key::Tcp(local, Some(remote).filter(|remote| remote.port() != 0));
                if tcp.state == TcpState::Closed { &mut list.besides } else { &mut list.keys }.insert(key);
            }
            ProtocolSocketInfo::Udp(udp) => {
                list.keys.insert(Key::Udp(SocketAddr::new(canonical(udp.local_addr), udp.local_port)));
            }
        }
    }
    Ok(list)
}

fn address(endpoint: &Endpoint) -> Option<SocketAddr> {
    match endpoint {
        Endpoint::Inet(address, port) => Some(SocketAddr::new(*address, *port)),
        Endpoint::None
        | Endpoint::UnixPath(_)
        | Endpoint::UnixAbstract(_)
        | Endpoint::Vsock { .. }
        | Endpoint::Interface(_) => None,
    }
}

/// `None` for what at least one source cannot list by nature.
fn key(socket: &Socket) -> Option<Key> {
    match socket.protocol {
        // The subflows of an MPTCP socket are TCP sockets of the same address.
        Protocol::Tcp | Protocol::Mptcp | Protocol::Smc => {
            let local = address(&socket.local).filter(|local| local.port() != 0)?;
            Some(Key::Tcp(local, address(&socket.remote).filter(|remote| remote.port() != 0)))
        }
        Protocol::Udp => address(&socket.local).filter(|local| local.port() != 0).map(Key::Udp),
        Protocol::Raw | Protocol::Icmp | Protocol::Unix | Protocol::Packet | Protocol::Netlink => {
            (socket.inode != 0).then_some(Key::Inode(socket.protocol, socket.inode))
        }
        Protocol::UdpLite
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Vsock
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Other(_) => None,
    }
}

fn compare(lists: &[List]) -> BTreeMap<Key, Disagreement> {
    let all: BTreeSet<&Key> = lists.iter().flat_map(|list| &list.keys).collect();
    let mut found = BTreeMap::new();
    for key in all {
        let names = |wanted: &dyn Fn(&List) -> bool| -> Vec<String> {
            lists.iter().filter(|list| wanted(list)).map(|list| list.name.to_owned()).collect()
        };
        let missed_by = names(&|list| (list.covers)(key) && !list.knows(key));
        if !missed_by.is_empty() {
            let seen_by = names(&|list| list.knows(key));
            found.insert(key.clone(), Disagreement { what: described(key), seen_by, missed_by, note: None });
        }
    }
    found
}

/// After the first round only what is still in dispute is tried once more.
fn probe(lists: &[List], ours: &[Socket], lasting: Option<&BTreeMap<Key, Disagreement>>) -> Probe {
    let used = |tcp| lists.iter().flat_map(|list| list.ports(tcp)).collect();
    let (tcp, udp) = (used(true), used(false));
    let listens = |socket: &&Socket| socket.protocol == Protocol::Tcp && socket.state == State::Listen;
    let listening = ours.iter().filter(listens).filter_map(|socket| address(&socket.local));
    let Some(disputed) = lasting else {
        return ports::probe(&tcp, &udp, ports::all(), listening);
    };
    let held = disputed.keys().filter_map(|key| match key {
        Key::Held(kind, port) => Some((*kind, *port)),
        Key::Tcp(..) | Key::Udp(_) | Key::Inode(..) | Key::File(_) | Key::Table(..) | Key::Free(_) => None,
    });
    let free = listening.filter(|address| disputed.contains_key(&Key::Free(*address)));
    ports::probe(&tcp, &udp, held, free)
}

fn probed(lists: &[List], probe: &Probe) -> BTreeMap<Key, Disagreement> {
    let others = || lists.iter().map(|list| list.name.to_owned()).collect();
    let held = probe.held.iter().map(|&(kind, port)| {
        let note = Some("something holds this port and is hidden from every table".to_owned());
        let key = Key::Held(kind, port);
        (
            key.clone(),
            Disagreement {
                what: described(&key),
                seen_by: vec![PROBE.to_owned()],
                missed_by: others(),
                note,
            },
        )
    });
    let free = probe.free.iter().map(|&address| {
        let key = Key::Free(address);
        let note = Some("a listener is listed, and its address can be bound all the same".to_owned());
        let missed_by = vec![PROBE.to_owned()];
        (key.clone(), Disagreement { what: described(&key), seen_by: vec![OURS.to_owned()], missed_by, note })
    });
    held.chain(free).collect()
}

fn described(key: &Key) -> String {
    match key {
        Key::Tcp(local, None) => format!("tcp {local}"),
        Key::Tcp(local, Some(remote)) => format!("tcp {local} to {remote}"),
        Key::Udp(local) => format!("udp {local}"),
        Key::Inode(protocol, inode) => format!("{} socket, inode {inode}", protocol.name()),
        Key::File(inode) => format!("socket in a file table, inode {inode}"),
        Key::Table(inode, pid) => format!("socket of process {pid}, inode {inode}"),
        Key::Held(kind, port) => format!("{} port {port}", kind.name()),
        Key::Free(address) => format!("tcp {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &'static str, ports: &[u16], covers: fn(&Key) -> bool) -> List {
        let keys = ports.iter().map(|port| Key::Tcp(SocketAddr::from(([0; 4], *port)), None)).collect();
        List { keys, ..List::new(name, covers) }
    }

    #[test]
    fn a_socket_that_one_source_lacks_is_named_with_both_sides() {
        let lists =
            [list(OURS, &[22], |_| true), list(TEXT, &[22, 31337], |_| true), list(NETSTAT2, &[], |_| false)];
        let found: Vec<_> = compare(&lists).into_values().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "tcp 0.0.0.0:31337");
        assert_eq!(
            (found[0].seen_by.as_slice(), found[0].missed_by.as_slice()),
            (&[TEXT.to_owned()][..], &[OURS.to_owned()][..])
        );
    }

    #[test]
    fn what_a_source_lists_besides_is_asked_of_nobody() {
        let mut bound = list(OURS, &[], |_| true);
        bound.besides.insert(Key::Tcp(SocketAddr::from(([0; 4], 40001)), None));
        assert!(compare(&[bound, list(TEXT, &[], |_| true)]).is_empty());
    }
}
