//! The few system calls that make sockets of every family, addresses as the kernel's bytes.

use std::ffi::c_void;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::lab::check;

pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; the descriptor it answers is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(check(libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol))?) })
}

pub(crate) fn pair(kind: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [0; 2];
    // SAFETY: room for the two descriptors it answers, which are nobody else's.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Leaves them open until this process ends.
pub(crate) fn keep<F: std::os::fd::IntoRawFd>(fds: impl IntoIterator<Item = F>) {
    for fd in fds {
        let _ = fd.into_raw_fd();
    }
}

/// Whether the kernel says that it has no such family, type or protocol.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    [libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT]
        .map(Some)
        .contains(&error.raw_os_error())
}

/// Runs `work`; where the kernel lacks what it needs, says so to the test.
pub(crate) fn if_there(what: &str, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match work() {
        Err(error) if is_absent(&error) => {
            println!("absent {what}");
            Ok(())
        }
        other => other,
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

pub(crate) fn bind(socket: &impl AsRawFd, address: &[u8]) -> io::Result<()> {
    // SAFETY: address and its length belong together and outlive the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length(address)) }).map(|_| ())
}

pub(crate) fn connect(socket: &impl AsRawFd, address: &[u8]) -> io::Result<()> {
    // SAFETY: address and its length belong together and outlive the call.
    check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length(address)) }).map(|_| ())
}

pub(crate) fn listen(socket: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::listen(socket.as_raw_fd(), 8) }).map(|_| ())
}

pub(crate) fn accept(listener: &impl AsRawFd) -> io::Result<OwnedFd> {
    let (none, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null pointers ask for no address; the descriptor it answers is nobody else's.
    Ok(unsafe {
        OwnedFd::from_raw_fd(check(libc::accept4(listener.as_raw_fd(), none, no_length, libc::SOCK_CLOEXEC))?)
    })
}

/// setsockopt(2) with the bytes of the value.
pub(crate) fn set(socket: &impl AsRawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: value and its length belong together and outlive the call.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast::<c_void>(), length(value))
    })
    .map(|_| ())
}

pub(crate) fn set_int(socket: &impl AsRawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    set(socket, level, option, &value.to_ne_bytes())
}

/// The address that an IP socket has now.
pub(crate) fn local(socket: &impl AsRawFd) -> io::Result<SocketAddr> {
    // SAFETY: borrowed for this call only, while `socket` is alive.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    SocketAddr::try_from(rustix::net::getsockname(fd)?).map_err(|_| io::Error::other("not an IP address"))
}

pub(crate) fn inet(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(ip) => {
            [&(libc::AF_INET as u16).to_ne_bytes()[..], &address.port().to_be_bytes(), &ip.octets(), &[0; 8]]
                .concat()
        }
        IpAddr::V6(ip) => {
            let scope = match address {
                SocketAddr::V6(v6) => v6.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            [
                &(libc::AF_INET6 as u16).to_ne_bytes()[..],
                &address.port().to_be_bytes(),
                &[0; 4],
                &ip.octets(),
                &scope.to_ne_bytes(),
            ]
            .concat()
        }
    }
}

/// A path, or with a leading NUL an abstract name; empty asks for autobind.
pub(crate) fn unix(name: &[u8]) -> Vec<u8> {
    [&(libc::AF_UNIX as u16).to_ne_bytes()[..], name].concat()
}

/// sockaddr_nl with a mask of groups (netlink(7)).
pub(crate) fn netlink(groups: u32) -> Vec<u8> {
    [&(libc::AF_NETLINK as u16).to_ne_bytes()[..], &[0; 6], &groups.to_ne_bytes()].concat()
}

/// sockaddr_ll (packet(7)).
pub(crate) fn packet(protocol: u16, interface: u32) -> Vec<u8> {
    [&(libc::AF_PACKET as u16).to_ne_bytes()[..], &protocol.to_be_bytes(), &interface.to_ne_bytes(), &[0; 12]]
        .concat()
}

/// sockaddr_vm (vsock(7)).
pub(crate) fn vsock(cid: u32, port: u32) -> Vec<u8> {
    [&(libc::AF_VSOCK as u16).to_ne_bytes()[..], &[0; 2], &port.to_ne_bytes(), &cid.to_ne_bytes(), &[0; 4]]
        .concat()
}

/// Sends one descriptor over a UNIX socket (unix(7), SCM_RIGHTS).
pub(crate) fn send_fd(channel: &UnixStream, fd: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
    let data = [io::IoSlice::new(b"f")];
    rustix::net::sendmsg(channel, &data, &mut control, rustix::net::SendFlags::empty())?;
    Ok(())
}

pub(crate) fn receive_fd(channel: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(channel, &mut data, &mut control, rustix::net::RecvFlags::CMSG_CLOEXEC)?;
    control
        .drain()
        .find_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            rustix::net::RecvAncillaryMessage::ScmCredentials(_) | _ => None,
        })
        .ok_or_else(|| io::Error::other("no descriptor came"))
}

/// Forks; `child` runs in the child, which never returns from here.
pub(crate) fn fork(child: impl FnOnce() -> io::Result<()>) -> io::Result<u32> {
    fork_with(0, child)
}

/// clone(2) with these flags and the caller's stack, for a process with one thread.
pub(crate) fn fork_with(flags: i32, child: impl FnOnce() -> io::Result<()>) -> io::Result<u32> {
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM the child has its own copy of the stack, and the makers that fork
    // have one thread, so no lock can be held by another one.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), none, none, none, none)
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            crate::lab::end_with_parent();
            let code = match child() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("forked maker: {error}");
                    1
                }
            };
            std::process::exit(code)
        }
        pid => Ok(u32::try_from(pid).unwrap()),
    }
}

/// Sleeps until killed.
pub(crate) fn sleep_forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// The name that the kernel shows for this thread, at most 15 bytes.
pub(crate) fn set_name(name: &std::ffi::CStr) {
    // SAFETY: a NUL-terminated string that outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Whether the process has this inode in its file table.
pub(crate) fn holds(pid: u32, inode: u64) -> io::Result<bool> {
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        if std::fs::read_link(entry?.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
}
