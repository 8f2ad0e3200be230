//! Systems that are asked through the netstat2 crate (macOS, Windows): TCP and UDP with the
//! processes that hold them. What such a system cannot tell is a gap.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, SocketInfo, TcpState};

use super::gaps::Gaps;
use super::join::{Arranged, arrange};
use super::table::Table;
use super::{peers, roles};
use crate::model::{
    Endpoint, Gap, Holder, How, Namespace, NamespaceId, OwnerGap, Process, ProcessId, Protocol, Snapshot,
    Socket, SocketType, Span, State, Text, Wants, canonical,
};
use crate::source::Source;

/// See `collect::sockets`.
pub(super) fn sockets(source: &Source, wants: &Wants) -> Snapshot {
    let mut gaps = Gaps::default();
    let mut found = Vec::new();
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    match netstat2::iterate_sockets_info(families, ProtocolFlags::TCP | ProtocolFlags::UDP) {
        Err(error) => unlisted(&mut gaps, &error.to_string(), 1),
        Ok(rows) => {
            for row in rows {
                match row {
                    Ok(row) => found.push(row),
                    Err(error) => unlisted(&mut gaps, &error.to_string(), 1),
                }
            }
        }
    }
    let mut table = Table::default();
    for (number, row) in (1_u64..).zip(&found) {
        table.sockets.extend(socket(row).map(|mut socket| {
            // A mark of our own, by which the row is found again after sorting.
            socket.inode = number;
            socket
        }));
    }
    let Arranged { mut sockets, inodes, .. } = arrange(table, &[]);
    peers::assign(&mut sockets, &[], &inodes);
    roles::assign(&mut sockets, &[None]);
    let names = if wants.owners { process_names() } else { BTreeMap::new() };
    let mut processes: Vec<Process> = Vec::new();
    let mut numbers: BTreeMap<u32, ProcessId> = BTreeMap::new();
    if wants.owners {
        let held: std::collections::BTreeSet<u32> =
            found.iter().flat_map(|row| row.associated_pids.iter().copied()).collect();
        for pid in held {
            let (name, parent, start) = names.get(&pid).cloned().unwrap_or_default();
            numbers.insert(pid, ProcessId(u32::try_from(processes.len()).unwrap_or(u32::MAX)));
            processes.push(Process::new(pid, start, name, parent));
        }
    }
    let mut holders = Vec::new();
    for socket in &mut sockets {
        let row = usize::try_from(socket.inode).ok().and_then(|number| found.get(number.checked_sub(1)?));
        socket.inode = 0;
        let mut pids = row.map(|row| row.associated_pids.clone()).unwrap_or_default();
        pids.sort_unstable();
        pids.dedup();
        let start = u32::try_from(holders.len()).unwrap_or(u32::MAX);
        // These systems do not tell which descriptor it is.
        holders.extend(pids.iter().filter_map(|pid| numbers.get(pid)).map(|process| Holder {
            process: *process,
            fd: -1,
            how: How::Fd,
        }));
        socket.holders = Span { start, len: u32::try_from(holders.len()).unwrap_or(u32::MAX) - start };
        if wants.owners && socket.holders.len == 0 {
            // These systems do not say why; a listener of theirs must not pass for an unexplained one.
            let over = socket.state == State::TimeWait;
            socket.owner_gap = Some(if over { OwnerGap::TimeWait } else { OwnerGap::Hidden });
        }
    }
    for gap in blind_spots() {
        gaps.add(gap);
    }
    Snapshot {
        taken_at: super::taken_at(source),
        namespaces: vec![Namespace { own: true, ..Namespace::default() }],
        processes,
        holders,
        sockets,
        gaps: gaps.into_list(),
        ..Snapshot::default()
    }
}

fn unlisted(gaps: &mut Gaps, why: &str, count: u64) {
    gaps.add(Gap {
        id: "table-unread".into(),
        what: "TCP and UDP sockets are not all listed".into(),
        why: why.into(),
        remedy: Some("run as administrator".into()),
        count,
        unlisted: Some((None, Some(NamespaceId(0)))),
    });
}

/// What the interfaces of these systems do not tell.
fn blind_spots() -> Vec<Gap> {
    let blind = |id: &'static str, what: &str, unlisted| Gap {
        id: id.into(),
        what: what.into(),
        why: "this system tells of TCP and UDP only, without descriptors".into(),
        remedy: None,
        count: 1,
        unlisted,
    };
    vec![
        blind("family-unlisted", "UNIX sockets", Some((Some(Protocol::Unix), Some(NamespaceId(0))))),
        blind("family-unlisted", "raw sockets", Some((Some(Protocol::Raw), Some(NamespaceId(0))))),
        blind("bound-unlisted", "sockets that are bound and neither listen nor are connected", None),
        blind("socket-details", "owner, bound interface, IPV6_V6ONLY and queues of each socket", None),
    ]
}

fn socket(row: &SocketInfo) -> Option<crate::model::Socket> {
    let end = |address, port| Endpoint::Inet(canonical(address), port);
    Some(match &row.protocol_socket_info {
        ProtocolSocketInfo::Tcp(tcp) => {
            let mut socket = Socket::blank(Protocol::Tcp, NamespaceId(0));
            socket.kind = SocketType::Stream;
            socket.state = state(tcp.state)?;
            socket.local = end(tcp.local_addr, tcp.local_port);
            if socket.state != State::Listen {
                socket.remote = end(tcp.remote_addr, tcp.remote_port);
            }
            socket
        }
        ProtocolSocketInfo::Udp(udp) => {
            let mut socket = Socket::blank(Protocol::Udp, NamespaceId(0));
            socket.kind = SocketType::Dgram;
            socket.state = State::Unconnected;
            socket.local = end(udp.local_addr, udp.local_port);
            socket
        }
    })
}

/// `None` for an entry that is being deleted (Windows).
fn state(state: TcpState) -> Option<State> {
    Some(match state {
        TcpState::Closed => State::Closed,
        TcpState::Listen => State::Listen,
        TcpState::SynSent => State::SynSent,
        TcpState::SynReceived => State::SynRecv,
        TcpState::Established => State::Established,
        TcpState::FinWait1 => State::FinWait1,
        TcpState::FinWait2 => State::FinWait2,
        TcpState::CloseWait => State::CloseWait,
        TcpState::Closing => State::Closing,
        TcpState::LastAck => State::LastAck,
        TcpState::TimeWait => State::TimeWait,
        TcpState::DeleteTcb => return None,
        TcpState::Unknown => State::Unknown,
    })
}

/// Name, parent and start (seconds after boot cannot be told here: seconds since the epoch).
fn process_names() -> BTreeMap<u32, (Text, u32, u64)> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
    let mut found = BTreeMap::new();
    let Ok(mut system) = System::new() else { return found };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
    for process in system.processes().values() {
        let name = Text::from(process.name().to_string_lossy().into_owned());
        let parent = process.parent().map_or(0, |pid| pid.as_u32());
        found.insert(process.pid().as_u32(), (name, parent, process.start_time()));
    }
    found
}
