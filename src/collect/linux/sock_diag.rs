//! Which sockets a network namespace has: sock_diag first, /proc/net where the kernel has no
//! table for a family. A dump that was interrupted or lost something is asked for again; what
//! stays incomplete is a gap, never an end.

#![forbid(unsafe_code)]

use super::proc_net::{self, File};
use super::wire::{self, Dump};
use crate::collect::gaps::Gaps;
use crate::collect::table::Table;
use crate::model::{NamespaceId, Protocol};
use crate::source::{NetlinkError, Source};

const NETLINK_SOCK_DIAG: u32 = 4;
/// A changing table is asked this often before what it last said is taken as incomplete.
const ATTEMPTS: usize = 5;

/// One network namespace to be listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) inode: u64,
    pub(super) id: NamespaceId,
}

/// Whether these protocols' tables still hold what they held: their sockets once more. `again`
/// keeps the answers apart in a recording.
pub(super) fn list_again(
    source: &Source,
    place: Place,
    protocols: &[Protocol],
    again: &'static str,
) -> Table {
    let mut table = Table::default();
    let tcp = [inet("tcp4", AF_INET, Protocol::Tcp, 6, TCP4), inet("tcp6", AF_INET6, Protocol::Tcp, 6, TCP6)];
    let tcp = tcp.into_iter().map(|question| Question { again, ..question });
    for question in tcp.chain(questions(again)) {
        if protocols.contains(&question.protocol()) {
            settle(source, place, &question, &mut table, &mut Gaps::default());
        }
    }
    table
}

/// A question, and what to do where the kernel does not know it.
struct Question {
    name: &'static str,
    again: &'static str,
    dump: Dump,
    request: Vec<u8>,
    /// Tables below /proc/net that tell the same.
    fallback: &'static [(&'static str, File)],
}

/// Lists every socket of one namespace. False when there are MPTCP sockets that the kernel lists
/// among those of TCP only, for want of its module mptcp_diag.
pub(super) fn list(source: &Source, place: Place, table: &mut Table, gaps: &mut Gaps) -> bool {
    let start = table.mark();
    let tcp = Question {
        again: "",
        name: "tcp",
        dump: Dump::Inet(Protocol::Tcp),
        request: old_tcp_request(),
        fallback: &[],
    };
    // One walk for both families; kernels without the old form are asked twice.
    match ask(source, place, &tcp, table) {
        Ok(()) => {}
        Err(NetlinkError::Missing(_)) => {
            table.cut_back(start);
            for (name, family, fallback) in [("tcp4", AF_INET, TCP4), ("tcp6", AF_INET6, TCP6)] {
                settle(source, place, &inet(name, family, Protocol::Tcp, 6, fallback), table, gaps);
            }
        }
        Err(error) => unlisted(place, &tcp, &error, gaps),
    }
    let mut told_apart = true;
    for question in questions("") {
        let found = settle(source, place, &question, table, gaps);
        if question.protocol() == Protocol::Mptcp && !found {
            told_apart = false;
        }
    }
    for (name, file) in PROC_ONLY {
        if let Ok(text) = source.netns_file(place.inode, name) {
            proc_net::decode(*file, place.id, &text, table);
        }
    }
    told_apart
        || source
            .netns_file(place.inode, "net/protocols")
            .is_ok_and(|text| proc_net::sockets_in_use(&text, b"MPTCP") == 0)
}

/// What can receive, as the kernel filters it: TCP and UNIX listeners, unconnected UDP and UNIX
/// datagram sockets, packet sockets. What cannot be listed is left out: scans say why.
#[cfg(target_os = "linux")]
pub(super) fn glance(source: &Source, place: Place, table: &mut Table) {
    const LISTEN: u32 = 1 << 10;
    const CLOSE: u32 = 1 << 7;
    let mut tcp = Question {
        again: "",
        name: "tcp",
        dump: Dump::Inet(Protocol::Tcp),
        request: old_tcp_request(),
        fallback: &[],
    };
    // The states of `struct inet_diag_req`.
    tcp.request[16 + 52..16 + 56].copy_from_slice(&LISTEN.to_ne_bytes());
    let of = |name, family, protocol, number, states: u32| {
        let mut question = inet(name, family, protocol, number, &[]);
        // Those of `struct inet_diag_req_v2`.
        question.request[16 + 4..16 + 8].copy_from_slice(&states.to_ne_bytes());
        question
    };
    let start = table.mark();
    if ask(source, place, &tcp, table).is_err() {
        table.cut_back(start);
        for (name, family) in [("tcp4", AF_INET), ("tcp6", AF_INET6)] {
            quietly(source, place, &of(name, family, Protocol::Tcp, 6, LISTEN), table);
        }
    }
    for (name, family) in [("udp4", AF_INET), ("udp6", AF_INET6)] {
        quietly(source, place, &of(name, family, Protocol::Udp, 17, CLOSE), table);
    }
    // states, inode, show: NAME, no cookie
    let unix = by_family(AF_UNIX, 0, &[LISTEN | CLOSE, 0, 0x1, u32::MAX, u32::MAX]);
    let packet = by_family(AF_PACKET, 0, &[0, 0x1, u32::MAX, u32::MAX]);
    for (name, dump, request) in [("unix", Dump::Unix, unix), ("packet", Dump::Packet, packet)] {
        quietly(source, place, &Question { again: "", name, dump, request, fallback: &[] }, table);
    }
}

/// Asks; what is not answered adds nothing.
#[cfg(target_os = "linux")]
fn quietly(source: &Source, place: Place, question: &Question, table: &mut Table) {
    let before = table.mark();
    if ask(source, place, question, table).is_err() {
        table.cut_back(before);
    }
}

/// Tables that no kernel offers over sock_diag.
const PROC_ONLY: &[(&str, File)] = &[
    ("net/icmp", File::Inet(Protocol::Icmp)),
    ("net/icmp6", File::Inet(Protocol::Icmp)),
    ("net/pfkey", File::Key),
];
const TCP4: &[(&str, File)] = &[("net/tcp", File::Inet(Protocol::Tcp))];
const TCP6: &[(&str, File)] = &[("net/tcp6", File::Inet(Protocol::Tcp))];
const UDP4: &[(&str, File)] = &[("net/udp", File::Inet(Protocol::Udp))];
const UDP6: &[(&str, File)] = &[("net/udp6", File::Inet(Protocol::Udp))];
const UDPLITE4: &[(&str, File)] = &[("net/udplite", File::Inet(Protocol::UdpLite))];
const UDPLITE6: &[(&str, File)] = &[("net/udplite6", File::Inet(Protocol::UdpLite))];
const RAW4: &[(&str, File)] = &[("net/raw", File::Inet(Protocol::Raw))];
const RAW6: &[(&str, File)] = &[("net/raw6", File::Inet(Protocol::Raw))];
const SCTP: &[(&str, File)] =
    &[("net/sctp/eps", File::SctpEndpoints), ("net/sctp/assocs", File::SctpAssociations)];

/// `again` is added to the names under which the answers are recorded.
fn questions(again: &'static str) -> Vec<Question> {
    let inet = |name, family, protocol, number, fallback| Question {
        again,
        ..inet(name, family, protocol, number, fallback)
    };
    vec![
        inet("udp4", AF_INET, Protocol::Udp, 17, UDP4),
        inet("udp6", AF_INET6, Protocol::Udp, 17, UDP6),
        inet("udplite4", AF_INET, Protocol::UdpLite, 136, UDPLITE4),
        inet("udplite6", AF_INET6, Protocol::UdpLite, 136, UDPLITE6),
        inet("mptcp4", AF_INET, Protocol::Mptcp, 262, &[]),
        inet("mptcp6", AF_INET6, Protocol::Mptcp, 262, &[]),
        inet("raw4", AF_INET, Protocol::Raw, 255, RAW4),
        inet("raw6", AF_INET6, Protocol::Raw, 255, RAW6),
        inet("sctp4", AF_INET, Protocol::Sctp, 132, SCTP),
        inet("sctp6", AF_INET6, Protocol::Sctp, 132, &[]),
        inet("dccp4", AF_INET, Protocol::Dccp, 33, &[]),
        inet("dccp6", AF_INET6, Protocol::Dccp, 33, &[]),
        Question {
            again,
            name: "unix",
            dump: Dump::Unix,
            // states, inode, show: NAME VFS PEER RQLEN UID, no cookie
            request: by_family(AF_UNIX, 0, &[u32::MAX, 0, 0x1 | 0x2 | 0x4 | 0x10 | 0x40, u32::MAX, u32::MAX]),
            fallback: &[("net/unix", File::Unix)],
        },
        Question {
            again,
            name: "packet",
            dump: Dump::Packet,
            // inode, show: INFO FILTER, no cookie
            request: by_family(AF_PACKET, 0, &[0, 0x1 | 0x20, u32::MAX, u32::MAX]),
            fallback: &[("net/packet", File::Packet)],
        },
        Question {
            again,
            name: "netlink",
            dump: Dump::Netlink,
            // NDIAG_PROTO_ALL; inode, show: GROUPS, no cookie
            request: by_family(AF_NETLINK, 255, &[0, 0x2, u32::MAX, u32::MAX]),
            fallback: &[("net/netlink", File::Netlink)],
        },
        Question {
            again,
            name: "vsock",
            dump: Dump::Vsock,
            request: by_family(AF_VSOCK, 0, &[u32::MAX, 0, 0, u32::MAX, u32::MAX]),
            fallback: &[],
        },
        Question {
            again,
            name: "xdp",
            dump: Dump::Xdp,
            // inode, show: INFO, no cookie
            request: by_family(AF_XDP, 0, &[0, 0x1, u32::MAX, u32::MAX]),
            fallback: &[],
        },
        Question {
            again,
            name: "smc",
            dump: Dump::Smc,
            request: by_family(AF_SMC, 0, &[0; 12]),
            fallback: &[],
        },
        Question {
            again,
            name: "tipc",
            dump: Dump::Tipc,
            request: by_family(AF_TIPC, 0, &[u32::MAX]),
            fallback: &[],
        },
    ]
}

/// Asks, falls back, and says what is missing in the end. False when the kernel has no such table.
fn settle(source: &Source, place: Place, question: &Question, table: &mut Table, gaps: &mut Gaps) -> bool {
    let before = table.mark();
    let error = match ask(source, place, question, table) {
        Ok(()) => return true,
        Err(error) => error,
    };
    table.cut_back(before);
    let mut read = false;
    for (name, file) in question.fallback {
        if let Ok(text) = source.netns_file(place.inode, name) {
            proc_net::decode(*file, place.id, &text, table);
            read = true;
        }
    }
    // A family that the kernel does not know has no sockets; one that it knows and cannot list
    // (vsock or XDP without their modules) is found through the descriptors of its holders.
    let missing = matches!(error, NetlinkError::Missing(_));
    if !read && !missing {
        unlisted(place, question, &error, gaps);
    }
    read || !missing
}

fn ask(source: &Source, place: Place, question: &Question, table: &mut Table) -> Result<(), NetlinkError> {
    let before = table.mark();
    let name = format!("{}{}", question.name, question.again);
    let mut last = NetlinkError::Interrupted;
    for attempt in 1..=ATTEMPTS {
        let done =
            source.netlink_each(place.inode, NETLINK_SOCK_DIAG, &name, &question.request, &mut |block| {
                wire::decode(question.dump, place.id, block, table);
                Ok(())
            });
        match done {
            Ok(()) => return Ok(()),
            Err(error @ (NetlinkError::Interrupted | NetlinkError::Short)) => {
                last = error;
                // What the last attempt saw is kept, beside the gap.
                if attempt < ATTEMPTS {
                    table.cut_back(before);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn unlisted(place: Place, question: &Question, error: &NetlinkError, gaps: &mut Gaps) {
    gaps.unlisted(question.protocol(), place.id, error);
}

impl Question {
    fn protocol(&self) -> Protocol {
        match self.dump {
            Dump::Inet(protocol) => protocol,
            Dump::Unix => Protocol::Unix,
            Dump::Packet => Protocol::Packet,
            Dump::Netlink => Protocol::Netlink,
            Dump::Vsock => Protocol::Vsock,
            Dump::Xdp => Protocol::Xdp,
            Dump::Smc => Protocol::Smc,
            Dump::Tipc => Protocol::Tipc,
        }
    }
}

const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_NETLINK: u8 = 16;
const AF_PACKET: u8 = 17;
const AF_TIPC: u8 = 30;
const AF_VSOCK: u8 = 40;
const AF_SMC: u8 = 43;
const AF_XDP: u8 = 44;

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// `struct nlmsghdr` with `NLM_F_REQUEST | NLM_F_DUMP`, and a payload. The source sets the
/// sequence number.
fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + payload.len());
    bytes.extend_from_slice(&u32::try_from(16 + payload.len()).unwrap_or(0).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&0x301_u16.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(payload);
    bytes
}

/// `struct inet_diag_req`: family, lengths, extensions, socket id, states, database. The kernel
/// answers for IPv4 and IPv6 at once (inet_diag_dump_compat in net/ipv4/inet_diag.c).
fn old_tcp_request() -> Vec<u8> {
    let mut payload = [0_u8; 60];
    payload[52..56].copy_from_slice(&u32::MAX.to_ne_bytes());
    message(TCPDIAG_GETSOCK, &payload)
}

/// `struct inet_diag_req_v2`, with the protocol in an attribute of its own where it does not fit
/// into a byte (`INET_DIAG_REQ_PROTOCOL`).
fn inet(
    name: &'static str,
    family: u8,
    protocol: Protocol,
    number: u16,
    fallback: &'static [(&'static str, File)],
) -> Question {
    const REQ_PROTOCOL: u16 = 3;
    const EXPERIMENTAL: u8 = 254;
    let mut payload = vec![0_u8; 56];
    payload[0] = family;
    // A kernel that does not read the attribute must not take the number for another protocol's.
    payload[1] = u8::try_from(number).unwrap_or(EXPERIMENTAL);
    payload[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    if number > 255 {
        payload.extend_from_slice(&8_u16.to_ne_bytes());
        payload.extend_from_slice(&REQ_PROTOCOL.to_ne_bytes());
        payload.extend_from_slice(&u32::from(number).to_ne_bytes());
    }
    Question {
        again: "",
        name,
        dump: Dump::Inet(protocol),
        request: message(SOCK_DIAG_BY_FAMILY, &payload),
        fallback,
    }
}

/// Family, protocol, padding, then words: the shape of all other `struct *_diag_req`.
fn by_family(family: u8, protocol: u8, words: &[u32]) -> Vec<u8> {
    let mut payload = vec![family, protocol, 0, 0];
    for word in words {
        payload.extend_from_slice(&word.to_ne_bytes());
    }
    message(SOCK_DIAG_BY_FAMILY, &payload)
}
