//! Where decoders put the sockets that they find.

#![forbid(unsafe_code)]

use crate::model::{OwnerGap, Socket, SocketType, State};

/// Sockets in the order in which they were found, with what only the join needs to know.
#[derive(Debug, Default)]
pub struct Table {
    pub sockets: Vec<Socket>,
    /// UNIX sockets: index into `sockets`, and inode of the socket that it is connected to.
    pub unix_peers: Vec<(u32, u64)>,
}

/// A place in a table, to which it is cut back when a dump has to be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize, usize);

impl Table {
    pub fn mark(&self) -> Mark {
        Mark(self.sockets.len(), self.unix_peers.len())
    }

    pub fn cut_back(&mut self, mark: Mark) {
        self.sockets.truncate(mark.0);
        self.unix_peers.truncate(mark.1);
    }

    /// Number of the socket that is pushed next.
    pub(crate) fn next(&self) -> u32 {
        u32::try_from(self.sockets.len()).unwrap_or(u32::MAX)
    }
}

/// A socket that the kernel opened for itself.
pub(crate) fn of_the_kernel(mut socket: Socket) -> Socket {
    socket.owner_gap = Some(OwnerGap::Kernel);
    socket
}

/// `enum sock_type` of <linux/net.h>.
pub(crate) fn kind_of(number: u32) -> SocketType {
    match number {
        1 => SocketType::Stream,
        2 => SocketType::Dgram,
        3 => SocketType::Raw,
        4 => SocketType::Rdm,
        5 => SocketType::Seqpacket,
        10 => SocketType::Packet,
        _ => SocketType::Unknown,
    }
}

/// The states of <net/tcp_states.h>, which other families borrow. `named`: the socket has an
/// address of its own; `connects`: it is of a kind that is connected before it is used.
pub(crate) fn state_of(number: u8, connects: bool, named: bool) -> State {
    match number {
        1 => State::Established,
        2 => State::SynSent,
        3 | 12 => State::SynRecv,
        4 => State::FinWait1,
        5 => State::FinWait2,
        6 => State::TimeWait,
        8 => State::CloseWait,
        9 => State::LastAck,
        10 => State::Listen,
        11 => State::Closing,
        // TCP_CLOSE and TCP_BOUND_INACTIVE.
        7 | 13 if connects && named => State::Bound,
        7 | 13 => State::Unconnected,
        _ => State::Unknown,
    }
}
