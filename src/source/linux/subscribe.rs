//! Notifications that the kernel sends of itself (netlink(7), multicast groups).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, sockopt};

use super::{OWN_SOCKETS, lock, open_netlink, own};
use crate::source::Heard;

/// Room for notifications that wait; some 4,000 of them, as the kernel counts their memory.
const ROOM: usize = 4 << 20;
/// Longer than any notification of the groups that we join.
const LONGEST: usize = 64 << 10;
/// Messages taken in one go: whoever floods us is answered in portions.
const PORTION: usize = 10_000;

/// A socket that is a member of multicast groups. Never blocks.
#[derive(Debug)]
pub(crate) struct Subscription {
    socket: OwnedFd,
    inode: u64,
    buffer: Vec<u8>,
}

impl Subscription {
    pub(super) fn open(protocol: u32, groups: u32) -> io::Result<Self> {
        let socket = open_netlink(protocol)?;
        // Without the right to more, the usual room must do.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, ROOM));
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        let inode = own(&socket)?;
        Ok(Self { socket, inode, buffer: vec![0; LONGEST] })
    }

    /// Lets the kernel keep back all but the messages whose two bytes at `zero` are zero and at
    /// `nonzero` are not.
    pub(crate) fn only(&self, zero: u32, nonzero: u32) -> io::Result<()> {
        const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
        const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
        const RETURN: u16 = 0x06; // BPF_RET | BPF_K
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut program = [
            step(LOAD_HALF, 0, 0, zero),
            step(EQUAL, 0, 3, 0),
            step(LOAD_HALF, 0, 0, nonzero),
            step(EQUAL, 1, 0, 0),
            step(RETURN, 0, 0, u32::MAX),
            step(RETURN, 0, 0, 0),
        ];
        let attached =
            libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
        // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const attached).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(crate) fn is_ready(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut waiting = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Hands over what has come, message block by message block.
    pub(crate) fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<Heard> {
        let mut heard = Heard::Nothing;
        for _ in 0..PORTION {
            match rustix::net::recv(
                &self.socket,
                &mut self.buffer[..],
                RecvFlags::DONTWAIT | RecvFlags::TRUNC,
            ) {
                Ok((_, 0)) => break,
                Ok((size, whole)) => {
                    if heard != Heard::Lost {
                        heard = if whole > size { Heard::Lost } else { Heard::Something };
                    }
                    take(&self.buffer[..size]);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                // The kernel had to throw some away (netlink(7)).
                Err(rustix::io::Errno::NOBUFS) => heard = Heard::Lost,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(heard)
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&OWN_SOCKETS).remove(&self.inode);
    }
}
