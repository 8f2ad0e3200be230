//! What stands in one cell of a table of sockets. Every cell is one word or phrase without
//! control characters; `-` stands for nothing.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use crate::model::{
    Endpoint, Fact, Observation, OwnerGap, Process, Protocol, Snapshot, SocketIndex, SocketType, State, Text,
    Users,
};
use crate::output::json::v1::Ids;
use crate::output::{Column, SortKey};

/// Appends the cell to `out`.
pub(crate) fn write(out: &mut String, ids: &Ids<'_>, each: &Observation<'_>, column: Column) {
    let before = out.len();
    fill(out, ids, each, column);
    if out.len() == before {
        out.push('-');
    }
}

fn fill(out: &mut String, ids: &Ids<'_>, each: &Observation<'_>, column: Column) {
    let socket = each.socket;
    match column {
        Column::Netid => put_netid(out, each),
        Column::State => out.push_str(state(socket.state)),
        Column::RecvQ => put(out, socket.queues.0),
        Column::SendQ => put(out, socket.queues.1),
        Column::Local => local(out, each),
        Column::Peer => peer(out, each),
        Column::Port => {
            if let Some(port) = port(each) {
                put(out, port);
            }
        }
        Column::Process => process(out, each),
        Column::Reach => reach(out, each),
        Column::Unit => joined(out, each.units().map(Text::to_string)),
        Column::Container => joined(out, each.owners().filter_map(|owner| container(owner.process))),
        Column::Role => out.push_str(socket.role.name()),
        Column::User => match (each.user(), socket.uid) {
            (Some(user), _) => put(out, user),
            (None, Some(uid)) => put(out, uid),
            (None, None) => {}
        },
        Column::Pid => joined(out, each.owners().map(|owner| owner.process.pid.to_string())),
        Column::Exe => {
            joined(out, each.owners().filter_map(|owner| owner.process.exe.known().map(Text::to_string)))
        }
        Column::Package => {
            joined(out, each.owners().filter_map(|owner| owner.process.package.known().map(Text::to_string)));
        }
        Column::Netns => match &each.namespace().name {
            Some(name) => put(out, name),
            None => put(out, each.namespace().inode),
        },
        Column::Interface => match (each.interface(), socket.interface) {
            (Some(interface), _) => put(out, &interface.name),
            (None, 0) => {}
            (None, index) => {
                let _ = write!(out, "if{index}");
            }
        },
        Column::Inode if socket.inode != 0 => put(out, socket.inode),
        Column::Cookie if socket.cookie != 0 => put(out, socket.cookie),
        Column::Inode | Column::Cookie => {}
        Column::Access => access(out, each),
        Column::Gap => out.push_str(socket.owner_gap.map_or("", OwnerGap::name)),
        Column::Id => put(out, ids.of(each.index)),
    }
}

fn put(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

/// Distinct values, in order, with commas between.
fn joined(out: &mut String, values: impl Iterator<Item = String>) {
    let mut seen: Vec<String> = Vec::new();
    for value in values.filter(|value| !value.is_empty()) {
        if !seen.contains(&value) {
            out.push_str(if seen.is_empty() { "" } else { "," });
            out.push_str(&value);
            seen.push(value);
        }
    }
}

/// `docker:web`, or the first 12 digits of the id of a nameless one.
pub(crate) fn container(process: &Process) -> Option<String> {
    let container = process.container.known()?;
    let runtime = crate::output::Clean(&container.runtime);
    Some(match &container.name {
        Some(name) => format!("{runtime}:{name}"),
        None => format!("{runtime}:{}", container.id.to_string().chars().take(12).collect::<String>()),
    })
}

/// The names of ss(8).
pub(crate) fn netid(each: &Observation<'_>) -> String {
    let mut name = String::new();
    put_netid(&mut name, each);
    name
}

fn put_netid(out: &mut String, each: &Observation<'_>) {
    let socket = each.socket;
    let prefix = match socket.protocol {
        Protocol::Unix => "u_",
        Protocol::Packet => "p_",
        Protocol::Vsock => "v_",
        Protocol::Netlink => return out.push_str("nl"),
        Protocol::Tcp
        | Protocol::Udp
        | Protocol::UdpLite
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Icmp
        | Protocol::Raw
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Smc
        | Protocol::Other(_) => return out.push_str(&socket.protocol.name()),
    };
    let kind = match socket.kind {
        SocketType::Stream => "str",
        SocketType::Dgram => "dgr",
        SocketType::Raw => "raw",
        SocketType::Rdm => "rdm",
        SocketType::Seqpacket => "seq",
        SocketType::Packet => "pkt",
        SocketType::Unknown => "?",
    };
    out.push_str(prefix);
    out.push_str(kind);
}

/// The names of ss(8), where it has one.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Listen => "LISTEN",
        State::Established => "ESTAB",
        State::SynSent => "SYN-SENT",
        State::SynRecv => "SYN-RECV",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::TimeWait => "TIME-WAIT",
        State::Closed => "CLOSED",
        State::CloseWait => "CLOSE-WAIT",
        State::LastAck => "LAST-ACK",
        State::Closing => "CLOSING",
        State::Bound => "BOUND",
        State::Unconnected => "UNCONN",
        State::Published => "PUBLISHED",
        State::Unknown => "UNKNOWN",
    }
}

/// `ADDR%INTERFACE:PORT`, `*:PORT` for both families, a path, `@name`, `*:INODE` for a nameless
/// UNIX socket, `ETHERTYPE:INTERFACE`, a netlink bus.
pub(crate) fn local(out: &mut String, each: &Observation<'_>) {
    let socket = each.socket;
    match &socket.local {
        Endpoint::None if socket.protocol == Protocol::Netlink => bus(out, socket.protocol_number),
        Endpoint::None if socket.protocol == Protocol::Unix && socket.inode != 0 => {
            let _ = write!(out, "*:{}", socket.inode);
        }
        Endpoint::None if socket.protocol.is_ip() => out.push_str("*:*"),
        Endpoint::None => out.push('*'),
        Endpoint::Inet(address, port) => {
            let both = *address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && socket.v6only == Some(false);
            match address {
                _ if both => out.push('*'),
                IpAddr::V4(v4) => put(out, v4),
                IpAddr::V6(v6) => {
                    let _ = write!(out, "[{v6}]");
                }
            }
            if let Some(interface) = each.interface() {
                let _ = write!(out, "%{}", interface.name);
            }
            out.push(':');
            inet_port(out, each, *port);
        }
        Endpoint::Interface(index) => {
            ethertype(out, socket.protocol_number);
            out.push(':');
            let known = each.namespace().interfaces.known();
            match known.and_then(|all| all.iter().find(|one| one.index == *index && *index != 0)) {
                Some(interface) => put(out, &interface.name),
                None if *index == 0 => out.push('*'),
                None => {
                    let _ = write!(out, "if{index}");
                }
            }
        }
        Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) | Endpoint::Vsock { .. } => {
            plain(out, &socket.local)
        }
    }
}

fn inet_port(out: &mut String, each: &Observation<'_>, port: u16) {
    match (each.socket.protocol, each.socket.protocol_number) {
        (Protocol::Raw, Some(number)) => ip_protocol(out, number),
        _ if port == 0 => out.push('*'),
        _ => put(out, port),
    }
}

/// The local port, where it has one.
fn port(each: &Observation<'_>) -> Option<u32> {
    match each.socket.local {
        Endpoint::Inet(_, 0) => None,
        Endpoint::Inet(_, port) => Some(port.into()),
        Endpoint::Vsock { port, .. } => Some(port),
        Endpoint::None | Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) | Endpoint::Interface(_) => None,
    }
}

pub(crate) fn peer(out: &mut String, each: &Observation<'_>) {
    let socket = each.socket;
    match (&socket.remote, socket.peer) {
        (Endpoint::None, Some(other)) => {
            let other = each.snapshot.observe(other);
            local(out, &other);
        }
        (Endpoint::None, None) if socket.state == State::Published => match each.targets() {
            [] => out.push_str("*:*"),
            [first, rest @ ..] => {
                put(out, first);
                out.push_str(if rest.iter().all(|each| each.address == first.address) { "" } else { ",.." });
            }
        },
        (Endpoint::None, None) => out.push_str(if socket.protocol.is_ip() { "*:*" } else { "*" }),
        (remote, _) => plain(out, remote),
    }
}

fn plain(out: &mut String, end: &Endpoint) {
    match end {
        Endpoint::None => out.push('*'),
        Endpoint::Inet(IpAddr::V4(v4), port) => {
            let _ = write!(out, "{v4}:{port}");
        }
        Endpoint::Inet(IpAddr::V6(v6), port) => {
            let _ = write!(out, "[{v6}]:{port}");
        }
        Endpoint::UnixPath(path) => put(out, path),
        Endpoint::UnixAbstract(name) => {
            let _ = write!(out, "@{name}");
        }
        Endpoint::Vsock { cid, port } => {
            out.push_str(&wild(*cid));
            out.push(':');
            out.push_str(&wild(*port));
        }
        Endpoint::Interface(index) => {
            let _ = write!(out, "if{index}");
        }
    }
}

/// `VMADDR_CID_ANY` and `VMADDR_PORT_ANY` are all ones (vsock(7)).
fn wild(number: u32) -> String {
    if number == u32::MAX { "*".to_owned() } else { number.to_string() }
}

/// `<linux/netlink.h>`
fn bus(out: &mut String, number: Option<u32>) {
    let name = match number {
        Some(0) => "route",
        Some(2) => "usersock",
        Some(4) => "sock_diag",
        Some(6) => "xfrm",
        Some(7) => "selinux",
        Some(9) => "audit",
        Some(10) => "fib_lookup",
        Some(11) => "connector",
        Some(12) => "netfilter",
        Some(15) => "uevent",
        Some(16) => "generic",
        Some(21) => "crypto",
        Some(number) => return put(out, number),
        None => "*",
    };
    out.push_str(name);
}

/// `<linux/if_ether.h>`
fn ethertype(out: &mut String, number: Option<u32>) {
    let name = match number {
        None | Some(0 | 3) => "*",
        Some(0x0800) => "ip",
        Some(0x0806) => "arp",
        Some(0x86dd) => "ipv6",
        Some(0x888e) => "eapol",
        Some(0x88cc) => "lldp",
        Some(number) => {
            let _ = write!(out, "{number:#06x}");
            return;
        }
    };
    out.push_str(name);
}

/// The IANA protocol numbers that a raw socket is likely to have.
fn ip_protocol(out: &mut String, number: u32) {
    let name = match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        255 => "raw",
        _ => return put(out, number),
    };
    out.push_str(name);
}

/// `users:(("nginx",pid=12,fd=6))`, or why nobody is named.
fn process(out: &mut String, each: &Observation<'_>) {
    if each.socket.holders.len == 0 {
        if let Some(gap) = each.socket.owner_gap {
            let _ = write!(out, "({})", gap.name());
        }
        return;
    }
    out.push_str("users:(");
    let mut first = true;
    for owner in each.owners() {
        for holder in owner.holders {
            out.push_str(if first { "(\"" } else { ",(\"" });
            first = false;
            let start = out.len();
            put(out, &owner.process.name);
            if out[start..].contains('"') {
                let name = out.split_off(start).replace('"', "\\x22");
                out.push_str(&name);
            }
            // As in lsof(8): what is only mapped into memory has no number.
            let _ = match holder.fd {
                0.. => write!(out, "\",pid={},fd={})", owner.process.pid, holder.fd),
                _ => write!(out, "\",pid={},fd=mem)", owner.process.pid),
            };
        }
    }
    out.push(')');
}

/// The class, with `?` where some path to it is not certain.
fn reach(out: &mut String, each: &Observation<'_>) {
    if let Some(exposure) = &each.socket.exposure {
        out.push_str(exposure.reach.name());
        out.push_str(if exposure.certain { "" } else { "?" });
    }
}

/// `0660 root,redis`, `everyone`.
fn access(out: &mut String, each: &Observation<'_>) {
    let Some(access) = &each.socket.access else { return };
    if let Some(mode) = access.mode {
        let _ = write!(out, "{mode:04o} ");
    }
    match &access.users {
        Users::Everyone => out.push_str("everyone"),
        Users::Named(names) if names.is_empty() => out.push_str("root"),
        Users::Named(names) => joined(out, names.iter().map(Text::to_string)),
        Users::Unknown => out.push('?'),
    }
}

/// `who` for a table: `(hidden), user redis` where nobody is named.
pub(crate) fn who_briefly(each: &Observation<'_>) -> String {
    let user = || {
        let name = each.user().map(Text::to_string);
        name.or_else(|| each.socket.uid.map(|uid| uid.to_string()))
    };
    match each.socket.owner_gap.filter(|_| each.socket.holders.len == 0) {
        Some(gap @ OwnerGap::Hidden) => user()
            .map_or_else(|| format!("({})", gap.name()), |user| format!("({}), user {user}", gap.name())),
        Some(gap) => format!("({})", gap.name()),
        None => who(each),
    }
}

/// `nginx (pid 12)`, `redis-server (pid 9) and 2 more`, or why nobody is named.
pub(crate) fn who(each: &Observation<'_>) -> String {
    if each.socket.state == State::Published {
        return super::targets::sent_on(each);
    }
    let mut owners = each.owners();
    let Some(first) = owners.next() else {
        return match each.socket.owner_gap {
            None => "nobody".to_owned(),
            Some(OwnerGap::Hidden) => "hidden (some process could not be looked into)".to_owned(),
            Some(OwnerGap::Kernel) => "the kernel itself".to_owned(),
            Some(OwnerGap::TimeWait) => "nobody any more (time-wait)".to_owned(),
            Some(OwnerGap::NotYetAccepted) => "nobody yet (not accepted)".to_owned(),
            Some(OwnerGap::InFlight) => "nobody (waits in an unread message)".to_owned(),
            Some(OwnerGap::Gone) => "gone while we looked".to_owned(),
        };
    };
    let more = match owners.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("{} (pid {}){more}", first.process.name, first.process.pid)
}

/// The holder's program, user, unit, container and package, as far as they are known.
pub(crate) fn who_at_length(each: &Observation<'_>) -> String {
    let mut words = vec![who(each)];
    let mut units = String::new();
    joined(&mut units, each.units().map(Text::to_string));
    words.extend(Some(units).filter(|units| !units.is_empty()));
    if let Some(first) = each.owners().next() {
        let process = first.process;
        let known = |what: &str, fact: &Fact<Text>| fact.known().map(|text| format!("{what} {text}"));
        words.extend(known("user", &process.user));
        words.extend(container(process).map(|container| format!("container {container}")));
        words.extend(known("package", &process.package));
    } else if let Some(user) = each.user() {
        words.push(format!("user {user}"));
    }
    words.join(", ")
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortValue {
    Number(u64),
    Place(Endpoint),
    Text(String),
}

#[derive(PartialEq, Eq)]
struct Directed(SortValue, bool);

impl PartialOrd for Directed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Directed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = self.0.cmp(&other.0);
        if self.1 { order.reverse() } else { order }
    }
}

/// Orders a selection by columns, first key first; sockets that are equal keep their order.
/// Numbers and addresses are ordered by value, reach from nobody to everybody.
pub fn sort(snapshot: &Snapshot, selection: &mut [SocketIndex], keys: &[SortKey]) {
    if keys.is_empty() {
        return;
    }
    let ids = Ids::new(snapshot);
    selection.sort_by_cached_key(|index| {
        let each = snapshot.observe(*index);
        let directed = |key: &SortKey| Directed(sort_value(&ids, &each, key.column), key.descending);
        keys.iter().map(directed).collect::<Vec<_>>()
    });
}

fn sort_value(ids: &Ids<'_>, each: &Observation<'_>, column: Column) -> SortValue {
    let socket = each.socket;
    match column {
        Column::RecvQ => SortValue::Number(socket.queues.0.into()),
        Column::SendQ => SortValue::Number(socket.queues.1.into()),
        Column::Inode => SortValue::Number(socket.inode),
        Column::Cookie => SortValue::Number(socket.cookie),
        Column::Pid => SortValue::Number(each.owners().next().map_or(0, |owner| owner.process.pid.into())),
        Column::Port => SortValue::Number(port(each).map_or(0, u64::from)),
        Column::Local => SortValue::Place(socket.local.clone()),
        Column::Peer => SortValue::Place(socket.remote.clone()),
        Column::Reach => {
            SortValue::Number(socket.exposure.as_ref().map_or(0, |exposure| 1 + exposure.reach as u64))
        }
        Column::Netid
        | Column::State
        | Column::Process
        | Column::Unit
        | Column::Container
        | Column::Role
        | Column::User
        | Column::Exe
        | Column::Package
        | Column::Netns
        | Column::Interface
        | Column::Access
        | Column::Gap
        | Column::Id => {
            let mut text = String::new();
            fill(&mut text, ids, each, column);
            SortValue::Text(text)
        }
    }
}
