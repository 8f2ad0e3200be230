//! The tables of legacy iptables, as getsockopt(2) on a raw socket tells them
//! (`<linux/netfilter_ipv4/ip_tables.h>`; the numbers are the same for IPv6).

#![allow(unsafe_code, reason = "getsockopt with structures that have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::source::FILE_LIMIT;

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// `struct ipt_getinfo`, and the part of `struct ipt_get_entries` before the entries.
const INFO: usize = 84;
const HEAD: usize = 40;
/// How often a table may change while it is read.
const ATTEMPTS: u32 = 8;

/// `struct ipt_getinfo`, then all entries. Asking for a table that is not there would make it: only
/// ask for those that /proc names.
pub(crate) fn table(v6: bool, name: &str) -> io::Result<Vec<u8>> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    let level = if v6 { libc::SOL_IPV6 } else { libc::SOL_IP };
    let mut last = io::Error::from_raw_os_error(libc::EAGAIN);
    for _ in 0..ATTEMPTS {
        let mut info = vec![0; INFO];
        let place = info.get_mut(..name.len()).filter(|place| place.len() < 32);
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
        ask(&socket, level, GET_INFO, &mut info)?;
        let size = u32::from_ne_bytes([info[80], info[81], info[82], info[83]]);
        if size as usize > FILE_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut entries = vec![0; HEAD + size as usize];
        entries[..name.len()].copy_from_slice(name.as_bytes());
        entries[32..36].copy_from_slice(&size.to_ne_bytes());
        match ask(&socket, level, GET_ENTRIES, &mut entries) {
            Ok(()) => {
                info.extend_from_slice(&entries[HEAD..]);
                return Ok(info);
            }
            // Its size has changed since.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn ask(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut size = libc::socklen_t::try_from(buffer.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the kernel writes at most `size` bytes, which is the length of `buffer`.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
