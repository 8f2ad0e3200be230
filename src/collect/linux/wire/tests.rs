//! Messages as the kernel writes them, and some that it does not.

use super::*;

/// A message: header, payload, and attributes of (type, value).
fn message(payload: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = payload.to_vec();
    for (kind, value) in attributes {
        body.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
    bytes.extend_from_slice(&20_u16.to_ne_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&body);
    bytes
}

fn one(dump: Dump, bytes: &[u8]) -> Socket {
    let mut table = Table::default();
    decode(dump, NamespaceId(0), bytes, &mut table);
    assert_eq!(table.sockets.len(), 1);
    table.sockets.remove(0)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct inet_diag_msg`
fn inet_message(family: u8, state: u8, ends: ([u8; 16], u16, [u8; 16], u16)) -> Vec<u8> {
    let mut bytes = vec![family, state, 0, 0];
    bytes.extend_from_slice(&ends.1.to_be_bytes());
    bytes.extend_from_slice(&ends.3.to_be_bytes());
    bytes.extend_from_slice(&ends.0);
    bytes.extend_from_slice(&ends.2);
    // interface, cookie, expires, rqueue, wqueue, uid, inode
    bytes.extend_from_slice(&words(&[3, 0x11, 0x22, 0, 5, 128, 1000, 4711]));
    bytes
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[a, b, c, d]);
    bytes
}

#[test]
fn a_dual_stack_listener_is_read_whole() {
    let bytes =
        message(&inet_message(10, 10, ([0; 16], 443, [0; 16], 0)), &[(8, &[0]), (11, &[0]), (22, &[1, 2])]);
    let socket = one(Dump::Inet(Protocol::Tcp), &bytes);
    assert_eq!(socket.local, Endpoint::Inet("::".parse().unwrap(), 443));
    assert_eq!((socket.remote, socket.state, socket.v6only), (Endpoint::None, State::Listen, Some(false)));
    assert_eq!((socket.interface, socket.cookie, socket.queues), (3, 0x22_0000_0011, (5, 128)));
    assert_eq!((socket.uid, socket.inode), (Some(1000), 4711));
}

#[test]
fn a_mapped_address_is_ipv4() {
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[255, 255, 10, 0, 0, 1]);
    let bytes = message(&inet_message(10, 1, (mapped, 80, mapped, 40000)), &[]);
    let socket = one(Dump::Inet(Protocol::Tcp), &bytes);
    assert_eq!(socket.local, Endpoint::Inet("10.0.0.1".parse().unwrap(), 80));
    assert_eq!(socket.remote, Endpoint::Inet("10.0.0.1".parse().unwrap(), 40000));
}

#[test]
fn bound_and_unbound_are_told_apart() {
    let bound = message(&inet_message(2, 13, (v4(127, 0, 0, 1), 7001, [0; 16], 0)), &[]);
    assert_eq!(one(Dump::Inet(Protocol::Tcp), &bound).state, State::Bound);
    let unbound = message(&inet_message(2, 7, ([0; 16], 0, [0; 16], 0)), &[]);
    let socket = one(Dump::Inet(Protocol::Udp), &unbound);
    assert_eq!((socket.state, socket.local), (State::Unconnected, Endpoint::None));
}

#[test]
fn the_port_of_a_raw_socket_is_its_protocol() {
    let bytes = message(&inet_message(2, 7, (v4(10, 0, 0, 1), 89, [0; 16], 0)), &[]);
    let socket = one(Dump::Inet(Protocol::Raw), &bytes);
    assert_eq!(
        (socket.local, socket.protocol_number),
        (Endpoint::Inet("10.0.0.1".parse().unwrap(), 0), Some(89))
    );
    let told = message(&inet_message(2, 7, (v4(10, 0, 0, 1), 89, [0; 16], 0)), &[(10, &[17])]);
    assert_eq!(one(Dump::Inet(Protocol::Raw), &told).protocol_number, Some(17));
}

#[test]
fn sctp_bound_to_one_address_tells_it_in_its_list() {
    let mut list = vec![0_u8; 128];
    list[..2].copy_from_slice(&2_u16.to_ne_bytes());
    list[2..8].copy_from_slice(&[0, 99, 192, 0, 2, 1]);
    let bytes = message(&inet_message(2, 10, ([0; 16], 99, [0; 16], 0)), &[(12, &list)]);
    let socket = one(Dump::Inet(Protocol::Sctp), &bytes);
    assert_eq!(
        (socket.local, socket.state),
        (Endpoint::Inet("192.0.2.1".parse().unwrap(), 99), State::Listen)
    );
    list.extend_from_slice(&[0; 128]);
    let several = message(&inet_message(2, 10, ([0; 16], 99, [0; 16], 0)), &[(12, &list)]);
    assert_eq!(
        one(Dump::Inet(Protocol::Sctp), &several).local,
        Endpoint::Inet("0.0.0.0".parse().unwrap(), 99)
    );
}

#[test]
fn unix_names_keep_every_byte() {
    let mut payload = vec![1, 1, 10, 0];
    payload.extend_from_slice(&words(&[77, 1, 2]));
    let vfs = words(&[4242, 0x00fe_0001]);
    let queues = words(&[1, 5]);
    let bytes = message(
        &payload,
        &[(0, b"\0a\nb\0c"), (1, &vfs), (4, &queues), (7, &words(&[33])), (2, &words(&[78]))],
    );
    let mut table = Table::default();
    decode(Dump::Unix, NamespaceId(0), &bytes, &mut table);
    let socket = &table.sockets[0];
    assert_eq!(socket.local, Endpoint::UnixAbstract(Text::from(&b"a\nb\0c"[..])));
    assert_eq!((socket.state, socket.kind, socket.uid), (State::Listen, SocketType::Stream, Some(33)));
    assert_eq!((socket.file, socket.queues), (Some((0x00fe_0001, 4242)), (1, 5)));
    assert_eq!(table.unix_peers, [(0, 78)]);
    let path = message(&payload, &[(0, b"/run/x\0")]);
    assert_eq!(one(Dump::Unix, &path).local, Endpoint::UnixPath(Text::from("/run/x")));
}

#[test]
fn a_packet_filter_is_told_to_the_privileged_alone() {
    let mut payload = vec![17, 3];
    payload.extend_from_slice(&3_u16.to_ne_bytes());
    payload.extend_from_slice(&words(&[9, 1, 0]));
    let info = words(&[2, 0, 0, 0, 0, 0]);
    let filtered = |attributes: &[(u16, &[u8])]| one(Dump::Packet, &message(&payload, attributes)).filtered;
    assert_eq!(filtered(&[(0, &info)]), Some(false));
    assert_eq!(filtered(&[(0, &info), (7, &[])]), None);
    assert_eq!(filtered(&[(0, &info), (7, &[6, 0, 0, 0, 0, 0, 0, 0])]), Some(true));
    let socket = one(Dump::Packet, &message(&payload, &[(0, &info)]));
    assert_eq!((socket.local, socket.protocol_number, socket.inode), (Endpoint::Interface(2), Some(3), 9));
}

#[test]
fn netlink_groups_are_numbers_and_port_0_is_the_kernel() {
    let mut payload = vec![16, 3, 15, 0];
    payload.extend_from_slice(&words(&[4321, 0, 0, 88, 1, 0]));
    let mut bits = [0_u8; 16];
    bits[..8].copy_from_slice(&0x8000_0001_u64.to_ne_bytes());
    let socket = one(Dump::Netlink, &message(&payload, &[(1, &bits)]));
    assert_eq!(*socket.groups, [Text::from("1"), Text::from("32")]);
    assert_eq!((socket.protocol_number, socket.inode, socket.owner_gap), (Some(15), 88, None));
    payload[4..8].fill(0);
    let kernel = one(Dump::Netlink, &message(&payload, &[]));
    assert_eq!(kernel.owner_gap, Some(crate::model::OwnerGap::Kernel));
}

#[test]
fn vsock_and_xdp_and_their_addresses() {
    let mut payload = vec![40, 1, 10, 0];
    payload.extend_from_slice(&words(&[u32::MAX, 9999, u32::MAX, u32::MAX, 55, 7, 0]));
    let socket = one(Dump::Vsock, &message(&payload, &[]));
    assert_eq!(socket.local, Endpoint::Vsock { cid: u32::MAX, port: 9999 });
    assert_eq!(
        (socket.remote, socket.state, socket.inode, socket.cookie),
        (Endpoint::None, State::Listen, 55, 7)
    );
    let mut payload = vec![44, 3, 0, 0];
    payload.extend_from_slice(&words(&[66, 8, 0]));
    let socket = one(Dump::Xdp, &message(&payload, &[(1, &words(&[2, 0])), (2, &words(&[0]))]));
    assert_eq!((socket.local, socket.state, socket.inode), (Endpoint::Interface(2), State::Bound, 66));
}

#[test]
fn smc_and_tipc() {
    let mut payload = vec![43, 10, 0, 0];
    payload.extend_from_slice(&8080_u16.to_be_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(&v4(192, 0, 2, 9));
    payload.extend_from_slice(&[0; 16]);
    payload.extend_from_slice(&words(&[0, 5, 0, 1000]));
    payload.extend_from_slice(&606_u64.to_ne_bytes());
    let socket = one(Dump::Smc, &message(&payload, &[]));
    assert_eq!(socket.local, Endpoint::Inet("192.0.2.9".parse().unwrap(), 8080));
    assert_eq!((socket.state, socket.inode, socket.uid), (State::Listen, 606, Some(1000)));
    let inner = message(
        &[],
        &[(6, &words(&[5])), (7, &words(&[707])), (9, &words(&[10])), (10, &9_u64.to_ne_bytes())],
    );
    let socket = one(Dump::Tipc, &message(&[], &[(2, &inner[16..])]));
    assert_eq!(
        (socket.kind, socket.inode, socket.state, socket.cookie),
        (SocketType::Seqpacket, 707, State::Listen, 9)
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        for dump in Dump::ALL {
            decode(dump, NamespaceId(0), &bytes, &mut Table::default());
            // And with a header that lets the rest through.
            decode(dump, NamespaceId(0), &message(&bytes, &[]), &mut Table::default());
        }
    }
}
