//! The questions themselves, as bytes for the kernel (netlink(7), sock_diag(7), rtnetlink(7)).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::source::Source;

/// NLM_F_REQUEST | NLM_F_DUMP
const DUMP: u16 = 0x301;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// The dump that an ability named `diag-…` is about.
pub(super) fn diag(id: &str) -> Option<Vec<u8>> {
    Some(match id {
        "diag-tcp" => inet(6),
        "diag-udp" => inet(17),
        "diag-udplite" => inet(136),
        "diag-raw" => inet(255),
        // Numbers above 255 travel in an attribute: INET_DIAG_REQ_PROTOCOL.
        "diag-mptcp" => {
            let mut body = inet_body(0);
            body.extend(8_u16.to_ne_bytes());
            body.extend(3_u16.to_ne_bytes());
            body.extend(262_u32.to_ne_bytes());
            message(SOCK_DIAG_BY_FAMILY, &body)
        }
        // struct unix_diag_req: family, protocol, states, inode, show, cookie.
        "diag-unix" => by_family(1, &[u32::MAX, 0, 0, u32::MAX, u32::MAX]),
        // struct packet_diag_req: family, protocol, inode, show, cookie.
        "diag-packet" => by_family(17, &[0, 0, u32::MAX, u32::MAX]),
        // struct netlink_diag_req; protocol 255 stands for all.
        "diag-netlink" => {
            let mut request = by_family(16, &[0, 0, u32::MAX, u32::MAX]);
            request[17] = 255;
            request
        }
        // struct vsock_diag_req: family, protocol, states, inode, show, cookie.
        "diag-vsock" => by_family(40, &[u32::MAX, 0, 0, u32::MAX, u32::MAX]),
        "diag-xdp" => by_family(44, &[0, 0, u32::MAX, u32::MAX]),
        _ => return None,
    })
}

fn inet(protocol: u8) -> Vec<u8> {
    message(SOCK_DIAG_BY_FAMILY, &inet_body(protocol))
}

/// struct inet_diag_req_v2: every state, every socket.
fn inet_body(protocol: u8) -> Vec<u8> {
    let mut body = vec![2, protocol, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend([0; 48]);
    body
}

fn by_family(family: u8, words: &[u32]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    message(SOCK_DIAG_BY_FAMILY, &body)
}

/// RTM_GETLINK
pub(super) fn links() -> Vec<u8> {
    message(18, &[0; 16])
}

/// NFT_MSG_GETTABLE of subsystem nftables, every family.
pub(super) fn nft_tables() -> Vec<u8> {
    message(10 << 8 | 1, &[0, 0, 0, 0])
}

/// Enters the namespace that we are in: allowed to whoever may enter others (setns(2)).
pub(super) fn enter_own(_inode: u64) -> io::Result<()> {
    let handle = std::fs::File::open("/proc/self/ns/net")?;
    let entered = std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(
            handle.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
    });
    Ok(entered.join().map_err(|_| io::Error::other("the helper thread panicked"))??)
}

/// Binds a TCP socket to a free loopback port without listening, and looks for it in the dump.
pub(super) fn lists_bound(source: &Source) -> io::Result<bool> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let inode = rustix::fs::fstat(&socket)?.st_ino;
    let netns = source.own_netns().ok_or(io::ErrorKind::NotFound)?;
    let reply = source.netlink(netns, 4, "doctor-bound", &inet(6)).map_err(io::Error::other)?;
    Ok(inodes(&reply).any(|found| u64::from(found) == inode))
}

/// `idiag_inode` of every struct inet_diag_msg in a dump.
fn inodes(reply: &[u8]) -> impl Iterator<Item = u32> {
    let mut rest = reply;
    std::iter::from_fn(move || {
        let length = rest.get(..4)?.try_into().map(u32::from_ne_bytes).ok()? as usize;
        let message = rest.get(..length).filter(|_| length >= 16)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // 16 bytes of header; the inode is the last of 72 bytes.
        Some(message.get(84..88).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_length_that_they_name() {
        for (id, _) in super::super::super::ABILITIES.iter().filter(|(id, _)| id.starts_with("diag-")) {
            let request = diag(id).unwrap();
            let named = u32::from_ne_bytes(request[..4].try_into().unwrap());
            assert_eq!(named as usize, request.len(), "{id}");
        }
    }

    #[test]
    fn a_broken_dump_ends_the_search() {
        assert_eq!(inodes(&[1, 2, 3]).count(), 0);
        assert_eq!(inodes(&[0; 64]).count(), 0);
        assert_eq!(inodes(&[0xff; 64]).count(), 0);
    }
}
