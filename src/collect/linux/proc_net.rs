//! The text tables below /proc/net, for what sock_diag cannot list here (proc_pid_net(5)). Text
//! in, sockets out: asks nobody, and no text makes it panic.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{finish_inet, inet_kind, local_end, remote_end};
use crate::collect::table::{Table, kind_of, of_the_kernel};
use crate::model::{Endpoint, NamespaceId, Protocol, Socket, SocketType, State, Text, canonical};

/// One file below /proc/net.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// `tcp`, `udp6`, `raw`, `icmp`, `udplite6`: rows of one layout, of this protocol.
    Inet(Protocol),
    Unix,
    Packet,
    Netlink,
    /// `sctp/eps`
    SctpEndpoints,
    /// `sctp/assocs`
    SctpAssociations,
    /// `pfkey`
    Key,
}

impl File {
    /// Every kind, for tests and fuzzing.
    pub const ALL: [Self; 9] = [
        Self::Inet(Protocol::Tcp),
        Self::Inet(Protocol::Udp),
        Self::Inet(Protocol::Raw),
        Self::Unix,
        Self::Packet,
        Self::Netlink,
        Self::SctpEndpoints,
        Self::SctpAssociations,
        Self::Key,
    ];
}

/// Decodes a whole file into `table`; the heading and rows that do not read are left out.
pub fn decode(file: File, netns: NamespaceId, text: &[u8], table: &mut Table) {
    if file == File::Unix {
        return unix(netns, text, table);
    }
    for line in text.split(|byte| *byte == b'\n').skip(1) {
        let words = Words::of(line);
        table.sockets.extend(match file {
            File::Inet(protocol) => inet(protocol, netns, &words),
            File::Packet => packet(netns, &words),
            File::Netlink => netlink(netns, &words),
            File::SctpEndpoints => sctp_endpoint(netns, &words),
            File::SctpAssociations => sctp_association(netns, &words),
            File::Key => key(netns, &words),
            File::Unix => None,
        });
    }
}

/// The words of a row; no table has more than these.
struct Words<'t>([&'t [u8]; 32]);

impl<'t> Words<'t> {
    fn of(line: &'t [u8]) -> Self {
        let mut words = [&b""[..]; 32];
        let found = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (place, word) in words.iter_mut().zip(found) {
            *place = word;
        }
        Self(words)
    }

    fn get(&self, at: usize) -> &'t [u8] {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn decimal<T: std::str::FromStr>(&self, at: usize) -> Option<T> {
        std::str::from_utf8(self.get(at)).ok()?.parse().ok()
    }

    fn hex(&self, at: usize) -> Option<u32> {
        hex(self.get(at))
    }
}

fn hex(word: &[u8]) -> Option<u32> {
    // from_str_radix would take a sign.
    if !word.first()?.is_ascii_hexdigit() {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`
fn inet(protocol: Protocol, netns: NamespaceId, words: &Words<'_>) -> Option<Socket> {
    let (local, port) = end(words.get(1))?;
    let (remote, remote_port) = end(words.get(2))?;
    let state = u8::try_from(words.hex(3)?).ok()?;
    let (sent, received) = pair(words.get(4))?;
    let mut socket = Socket::blank(protocol, netns);
    // The "port" of a raw socket is its IP protocol.
    let raw = protocol == Protocol::Raw;
    if raw {
        socket.protocol_number = Some(u32::from(port));
    }
    socket.local = local_end(protocol, canonical(local), if raw { 0 } else { port });
    socket.remote = remote_end(canonical(remote), if raw { 0 } else { remote_port });
    socket.uid = words.decimal(7);
    socket.inode = words.decimal(9)?;
    socket.queues = (hex(received)?, hex(sent)?);
    finish_inet(&mut socket, state, inet_kind(protocol), local.is_ipv6());
    Some(socket)
}

fn pair(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = word.iter().position(|byte| *byte == b':')?;
    Some((&word[..colon], &word[colon + 1..]))
}

/// `0100007F:0016`: the address as 32-bit words in the machine's own order, the port as a number.
fn end(word: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = pair(word)?;
    let port = u16::try_from(hex(port)?).ok()?;
    let word = |at: usize| Some(hex(address.get(at * 8..at * 8 + 8)?)?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, port))
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`
fn packet(netns: NamespaceId, words: &Words<'_>) -> Option<Socket> {
    let mut socket = Socket::blank(Protocol::Packet, netns);
    socket.kind = kind_of(words.decimal(2)?);
    socket.protocol_number = Some(words.hex(3)?);
    socket.interface = words.decimal(4)?;
    socket.local = Endpoint::Interface(socket.interface);
    socket.state = State::Unconnected;
    socket.queues = (words.decimal(6).unwrap_or(0), 0);
    socket.uid = words.decimal(7);
    socket.inode = words.decimal(8)?;
    Some(socket)
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`; only the first 32 groups are told.
fn netlink(netns: NamespaceId, words: &Words<'_>) -> Option<Socket> {
    let mut socket = Socket::blank(Protocol::Netlink, netns);
    // NETLINK sockets are SOCK_RAW or SOCK_DGRAM, which makes no difference (netlink(7)).
    socket.kind = SocketType::Raw;
    socket.protocol_number = Some(words.decimal(1)?);
    let port: i64 = words.decimal(2)?;
    let groups = words.hex(3)?;
    socket.groups =
        (0..32).filter(|bit| groups & (1 << bit) != 0).map(|bit| Text::from((bit + 1).to_string())).collect();
    socket.state = State::Unconnected;
    socket.inode = words.decimal(9)?;
    Some(if port == 0 { of_the_kernel(socket) } else { socket })
}

/// `ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS`
fn sctp_endpoint(netns: NamespaceId, words: &Words<'_>) -> Option<Socket> {
    let mut socket = Socket::blank(Protocol::Sctp, netns);
    let port = words.decimal(5)?;
    socket.uid = Some(words.decimal(6)?);
    socket.inode = words.decimal(7)?;
    let local = address(words.get(8)).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    socket.local = Endpoint::Inet(canonical(local), port);
    let state = words.decimal(3)?;
    finish_inet(&mut socket, state, sctp_kind(words.decimal(2)?), local.is_ipv6());
    Some(socket)
}

/// `ASSOC SOCK STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <-> RADDRS …`
fn sctp_association(netns: NamespaceId, words: &Words<'_>) -> Option<Socket> {
    let mut socket = Socket::blank(Protocol::Sctp, netns);
    socket.queues = (words.decimal(8)?, words.decimal(7)?);
    socket.uid = Some(words.decimal(9)?);
    socket.inode = words.decimal(10)?;
    let arrow = words.0.iter().position(|word| *word == b"<->")?;
    let local = address(words.get(13))?;
    socket.local = Endpoint::Inet(canonical(local), words.decimal(11)?);
    // The primary path is marked with a star.
    let remote = words.get(arrow + 1);
    let remote = address(remote.strip_prefix(b"*").unwrap_or(remote))?;
    socket.remote = Endpoint::Inet(canonical(remote), words.decimal(12)?);
    finish_inet(&mut socket, words.decimal(3)?, sctp_kind(words.decimal(2)?), local.is_ipv6());
    Some(socket)
}

/// `SCTP_SOCKET_UDP`, `SCTP_SOCKET_UDP_HIGH_BANDWIDTH` and `SCTP_SOCKET_TCP` of net/sctp/structs.h.
fn sctp_kind(style: u32) -> SocketType {
    if style == 2 { SocketType::Stream } else { SocketType::Seqpacket }
}

fn address(word: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// `sk RefCnt Rmem Wmem User Inode`
fn key(netns: NamespaceId, words: &Words<'_>) -> Option<Socket> {
    let mut socket = Socket::blank(Protocol::Key, netns);
    socket.kind = SocketType::Raw;
    socket.state = State::Unconnected;
    socket.uid = words.decimal(4);
    socket.inode = words.decimal(5)?;
    Some(socket)
}

/// `Num: RefCount Protocol Flags Type St Inode Path`. The path is free text and may hold newlines:
/// a line that is no row belongs to the name before it.
fn unix(netns: NamespaceId, text: &[u8], table: &mut Table) {
    let mut name: Option<Vec<u8>> = None;
    let mut lines = text.split(|byte| *byte == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() && lines.peek().is_none() {
            break;
        }
        match unix_row(netns, line) {
            Some((socket, path)) => {
                close_name(table, name.take());
                table.sockets.push(socket);
                name = Some(path.to_vec());
            }
            None => {
                if let Some(name) = &mut name {
                    name.push(b'\n');
                    name.extend_from_slice(line);
                }
            }
        }
    }
    close_name(table, name);
}

/// NUL bytes are printed as `@` (net/unix/af_unix.c), so that a name which holds one of either
/// cannot be told apart here; unix_diag can.
fn close_name(table: &mut Table, name: Option<Vec<u8>>) {
    let (Some(name), Some(socket)) = (name, table.sockets.last_mut()) else { return };
    socket.local = match name.split_first() {
        None => Endpoint::None,
        Some((b'@', rest)) => Endpoint::UnixAbstract(Text::from(rest)),
        Some(_) => Endpoint::UnixPath(Text::from(name)),
    };
    if socket.state == State::Unconnected
        && socket.local != Endpoint::None
        && matches!(socket.kind, SocketType::Stream | SocketType::Seqpacket)
    {
        socket.state = State::Bound;
    }
}

fn unix_row(netns: NamespaceId, line: &[u8]) -> Option<(Socket, &[u8])> {
    const ACCEPTS: u32 = 1 << 16;
    let words = Words::of(line);
    let number = words.get(0).strip_suffix(b":")?;
    if number.len() < 8 || !number.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let flags = words.hex(3)?;
    let mut socket = Socket::blank(Protocol::Unix, netns);
    socket.kind = kind_of(words.hex(4)?);
    socket.state = match words.hex(5)? {
        1 if flags & ACCEPTS != 0 => State::Listen,
        1 => State::Unconnected,
        2 => State::SynSent,
        3 => State::Established,
        4 => State::Closing,
        _ => State::Unknown,
    };
    let inode = words.get(6);
    socket.inode = words.decimal(6)?;
    // Where the words begin that they were cut from: names may begin with a blank.
    let end = inode.as_ptr() as usize - line.as_ptr() as usize + inode.len();
    let path = line.get(end..).unwrap_or_default();
    Some((socket, path.strip_prefix(b" ").unwrap_or(path)))
}

/// The number of a link of this kind: `net:[4026531840]`, `socket:[17]`.
pub fn inode_of(link: &[u8], kind: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(kind)?.strip_prefix(b":[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The inodes of the sockets that a ring holds (`UserFiles` in /proc/PID/fdinfo/RING).
pub fn ring_sockets(fdinfo: &[u8]) -> impl Iterator<Item = u64> {
    fdinfo.split(|byte| byte.is_ascii_whitespace()).filter_map(|word| inode_of(word, b"socket"))
}

/// What matters of /proc/PID/stat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    pub name: Text,
    pub ppid: u32,
    /// Clock ticks after boot.
    pub start_ticks: u64,
    /// A thread of the kernel (`PF_KTHREAD`).
    pub kernel: bool,
}

/// Reads /proc/PID/stat (proc_pid_stat(5)). The name is free text that may hold blanks and
/// parentheses: it ends at the last one.
pub fn stat(text: &[u8]) -> Option<Stat> {
    const KERNEL_THREAD: u64 = 0x20_0000;
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(open + 1..close)?;
    let rest = Words::of(&text[close + 1..]);
    Some(Stat {
        name: Text::from(name),
        ppid: rest.decimal(1)?,
        kernel: rest.decimal::<u64>(6)? & KERNEL_THREAD != 0,
        start_ticks: rest.decimal(19)?,
    })
}

/// How many descriptors wait in unread messages of a UNIX socket (`scm_fds` in
/// /proc/PID/fdinfo/FD).
pub fn waiting_descriptors(fdinfo: &[u8]) -> u32 {
    fdinfo
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"scm_fds:"))
        .and_then(|rest| std::str::from_utf8(rest).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

/// How many sockets of a protocol, IPv6 included, a namespace has (/proc/net/protocols:
/// `protocol size sockets …`).
pub fn sockets_in_use(protocols: &[u8], name: &[u8]) -> u64 {
    protocols
        .split(|byte| *byte == b'\n')
        .map(Words::of)
        .filter(|words| words.get(0).strip_suffix(b"v6").unwrap_or(words.get(0)) == name)
        .filter_map(|words| words.decimal::<u64>(2))
        .fold(0, u64::saturating_add)
}

/// Sockets that are mapped into memory (proc_pid_maps(5): `address perms offset dev inode path`).
/// The path of a file begins with a slash, whatever stands behind its blanks.
pub fn mapped_sockets(maps: &[u8]) -> impl Iterator<Item = u64> {
    maps.split(|byte| *byte == b'\n').filter_map(|line| inode_of(Words::of(line).get(5), b"socket"))
}

/// Paths of namespace files that are mounted somewhere (proc_pid_mountinfo(5)): inode of the
/// network namespace, and mount point with its octal escapes undone.
pub fn mounted_namespaces(mountinfo: &[u8]) -> impl Iterator<Item = (u64, Vec<u8>)> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let words = Words::of(line);
        let dash = words.0.iter().position(|word| *word == b"-")?;
        let inode = inode_of(words.get(3), b"net")?;
        (words.get(dash + 1) == b"nsfs").then(|| (inode, unescape(words.get(4))))
    })
}

/// Undoes `\040` and its kind.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?, 8).ok()
        });
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: File, text: &str) -> Vec<Socket> {
        let mut table = Table::default();
        decode(file, NamespaceId(0), text.as_bytes(), &mut table);
        table.sockets
    }

    #[test]
    fn tcp_rows_of_both_families() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000001 00:00000000 00000000  1000        0 12345 1 0000 100\n";
        let sockets = read(File::Inet(Protocol::Tcp), text);
        assert_eq!(sockets[0].local, Endpoint::Inet("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!((sockets[0].state, sockets[0].uid, sockets[0].inode), (State::Listen, Some(1000), 12345));
        assert_eq!((sockets[0].queues, sockets[0].v6only), ((1, 0), None));
        let text = "heading\n 1: 00000000000000000000000001000000:0016 0000000000000000FFFF00000100000A:C350 01 \
            00000000:00000000 00:00000000 00000000 0 0 77 1\n";
        let sockets = read(File::Inet(Protocol::Tcp), text);
        assert_eq!(sockets[0].local, Endpoint::Inet("::1".parse().unwrap(), 22));
        assert_eq!(sockets[0].remote, Endpoint::Inet("10.0.0.1".parse().unwrap(), 50000));
    }

    #[test]
    fn raw_rows_tell_a_protocol_where_others_have_a_port() {
        let text =
            "h\n  89: 00000000:0059 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 5 2 0 0\n";
        let socket = &read(File::Inet(Protocol::Raw), text)[0];
        assert_eq!((socket.protocol_number, socket.state), (Some(89), State::Unconnected));
    }

    #[test]
    fn a_unix_name_may_hold_newlines_and_blanks() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            00000000e1c3dadb: 00000002 00000000 00010000 0001 01  1210 @two\n  lines\n\
            00000000e1c3dadc: 00000003 00000000 00000000 0001 03  1211\n\
            00000000e1c3dadd: 00000002 00000000 00000000 0002 01  1212 /run/a b\n";
        let sockets = read(File::Unix, text);
        assert_eq!(sockets[0].local, Endpoint::UnixAbstract(Text::from("two\n  lines")));
        assert_eq!((sockets[0].state, sockets[0].inode), (State::Listen, 1210));
        assert_eq!((&sockets[1].local, sockets[1].state), (&Endpoint::None, State::Established));
        assert_eq!(sockets[2].local, Endpoint::UnixPath(Text::from("/run/a b")));
        assert_eq!((sockets[2].kind, sockets.len()), (SocketType::Dgram, 3));
    }

    #[test]
    fn packet_netlink_and_key_rows() {
        let text = "sk RefCnt Type Proto  Iface R Rmem   User   Inode\n00000000a 3 3 0003 2 1 0 0 42\n";
        let socket = &read(File::Packet, text)[0];
        assert_eq!(
            (socket.protocol_number, &socket.local, socket.inode),
            (Some(3), &Endpoint::Interface(2), 42)
        );
        let text = "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n\
            0 0 0 00000000 0 0 0 2 0 4\n0 15 -4097 00000005 0 0 0 2 0 9\n";
        let sockets = read(File::Netlink, text);
        assert_eq!(sockets[0].owner_gap, Some(crate::model::OwnerGap::Kernel));
        assert_eq!(*sockets[1].groups, [Text::from("1"), Text::from("3")]);
        let socket = &read(File::Key, "sk       RefCnt Rmem   Wmem   User   Inode\n0 3 0 0 0 31\n")[0];
        assert_eq!((socket.protocol, socket.inode), (Protocol::Key, 31));
    }

    #[test]
    fn sctp_rows() {
        let text = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n\
            0 0 2   10  29   5000     0 20000 192.0.2.1 192.0.2.2\n";
        let socket = &read(File::SctpEndpoints, text)[0];
        assert_eq!(socket.local, Endpoint::Inet("192.0.2.1".parse().unwrap(), 5000));
        assert_eq!((socket.state, socket.kind, socket.inode), (State::Listen, SocketType::Stream, 20000));
        let text = "heading\n0 0 2 1 3 0 2 7 9 1000 20001 5000 40000 192.0.2.1 <-> *198.51.100.7 198.51.100.8 7500 10 10\n";
        let socket = &read(File::SctpAssociations, text)[0];
        assert_eq!(socket.remote, Endpoint::Inet("198.51.100.7".parse().unwrap(), 40000));
        assert_eq!((socket.state, socket.queues, socket.uid), (State::Established, (9, 7), Some(1000)));
    }

    #[test]
    fn a_process_may_call_itself_anything() {
        let text = b"17 (a) b\n(c) S 4 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 998877 1 2 3";
        let found = stat(text).unwrap();
        assert_eq!((found.name, found.ppid, found.start_ticks), (Text::from("a) b\n(c"), 4, 998_877));
        assert!(!found.kernel);
        let thread = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0";
        assert!(stat(thread).unwrap().kernel);
        for bad in [&b""[..], b"1", b"1 )(", b"1 (x) S"] {
            assert_eq!(stat(bad), None);
        }
    }

    #[test]
    fn rings_queues_mounts_and_counts() {
        let ring =
            b"SqMask:\t0x7\nUserFiles:\t2\n    0: socket:[4711] \n    1: socket:[4712] \nUserBufs:\t0\n";
        assert_eq!(ring_sockets(ring).collect::<Vec<_>>(), [4711, 4712]);
        assert_eq!(waiting_descriptors(b"pos:\t0\nflags:\t02\nscm_fds: 3\n"), 3);
        assert_eq!(waiting_descriptors(b"pos:\t0\n"), 0);
        let mounts = b"50 22 0:4 net:[4026532177] /run/netns/a\\040b rw shared:9 - nsfs nsfs rw\n\
            51 22 0:4 mnt:[1] /x rw - nsfs nsfs rw\n52 1 8:1 net:[7] /y rw - ext4 /dev/sda rw\n";
        assert_eq!(
            mounted_namespaces(mounts).collect::<Vec<_>>(),
            [(4_026_532_177, b"/run/netns/a b".to_vec())]
        );
        let protocols =
            b"protocol  size sockets  memory\nMPTCPv6   2064      2     246\nMPTCP  1936 5 2\nTCP 1 9 1\n";
        assert_eq!(sockets_in_use(protocols, b"MPTCP"), 7);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-fA-F:() \n\\@<>*.-]{0,300}", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            for input in [text.as_bytes(), &bytes] {
                for file in File::ALL {
                    decode(file, NamespaceId(0), input, &mut Table::default());
                }
                let _ = (stat(input), waiting_descriptors(input), sockets_in_use(input, b"TCP"));
                let _ = (ring_sockets(input).count(), mounted_namespaces(input).count());
            }
        }
    }
}
