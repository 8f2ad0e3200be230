//! What a socket says of itself, through a duplicate of its holder's descriptor
//! (pidfd_getfd(2)). Nothing is ever read from or written to the duplicate, and it is closed at
//! once.

#![allow(unsafe_code, reason = "addresses of every family, and socket options that have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::fstat;

use super::duplicate;
use crate::source::SocketAnswer;

const SO_NETNS_COOKIE: libc::c_int = 71;
const SO_BINDTOIFINDEX: libc::c_int = 62;

pub(crate) fn ask_socket(pid: u32, fd: i32) -> io::Result<SocketAnswer> {
    let socket = duplicate(pid, fd)?;
    let about = fstat(&socket)?;
    let number = |option| option_u32(&socket, libc::SOL_SOCKET, option);
    let domain = number(libc::SO_DOMAIN)?;
    let protocol = number(libc::SO_PROTOCOL).unwrap_or(0);
    let is_tcp = matches!(domain, 2 | 10) && protocol == 6;
    let v6only = (domain == 10).then(|| option_u32(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY));
    Ok(SocketAnswer {
        inode: about.st_ino,
        uid: about.st_uid,
        domain,
        kind: number(libc::SO_TYPE)?,
        protocol,
        accepting: number(libc::SO_ACCEPTCONN).is_ok_and(|bit| bit != 0),
        name: address(&socket, libc::getsockname),
        peer: address(&socket, libc::getpeername),
        cookie: option_u64(&socket, libc::SO_COOKIE).unwrap_or(0),
        netns_cookie: option_u64(&socket, SO_NETNS_COOKIE).ok(),
        interface: number(SO_BINDTOIFINDEX).unwrap_or(0),
        tcp_state: is_tcp.then(|| tcp_state(&socket)).flatten(),
        v6only: v6only.and_then(Result::ok).map(|bit| bit != 0),
    })
}

/// The cookie of the network namespace that one of our own sockets belongs to.
pub(super) fn netns_cookie(socket: &OwnedFd) -> io::Result<u64> {
    option_u64(socket, SO_NETNS_COOKIE)
}

fn option<const N: usize>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<[u8; N]> {
    let mut value = [0_u8; N];
    let mut size = N as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is the length of `value`.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut size)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn option_u32(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<u32> {
    option(socket, level, name).map(u32::from_ne_bytes)
}

fn option_u64(socket: &OwnedFd, name: libc::c_int) -> io::Result<u64> {
    option(socket, libc::SOL_SOCKET, name).map(u64::from_ne_bytes)
}

/// First byte of `struct tcp_info`.
fn tcp_state(socket: &OwnedFd) -> Option<u8> {
    option::<1>(socket, libc::IPPROTO_TCP, libc::TCP_INFO).ok().map(|[state]| state)
}

type AddressCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

/// The address as the kernel writes it; empty where there is none.
fn address(socket: &OwnedFd, call: AddressCall) -> Vec<u8> {
    let mut bytes = [0_u8; 128];
    let mut size = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is the length of `bytes`.
    let done = unsafe { call(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut size) };
    let size = (size as usize).min(bytes.len());
    if done == 0 { bytes[..size].to_vec() } else { Vec::new() }
}
