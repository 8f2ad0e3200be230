//! As much rtnetlink as a cable needs (rtnetlink(7)).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
/// NLM_F_REQUEST | NLM_F_ACK
const ASK: u16 = 0x1 | 0x4;
/// NLM_F_EXCL | NLM_F_CREATE
const CREATE: u16 = 0x200 | 0x400;
const IFF_UP: u32 = 1;
/// `lo` is the first interface of every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// A line to the kernel about the interfaces of this namespace.
pub(super) struct Kernel(OwnedFd);

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    pub(super) fn up(&mut self, index: u32) -> io::Result<()> {
        self.ask(NEWLINK, ASK, &link(index, IFF_UP)).map(drop)
    }

    /// A veth pair whose two ends have the same name, one here and one where process `pid` is.
    pub(super) fn cable(&mut self, name: &str, pid: u32) -> io::Result<()> {
        let other = [link(0, 0), attribute(3, &zero_ended(name)), attribute(19, &pid.to_ne_bytes())].concat();
        let data = attribute(1, &other); // VETH_INFO_PEER
        let info = [attribute(1, b"veth"), attribute(2, &data)].concat(); // IFLA_INFO_KIND, IFLA_INFO_DATA
        let body = [link(0, 0), attribute(3, &zero_ended(name)), attribute(18, &info)].concat();
        self.ask(NEWLINK, ASK | CREATE, &body).map(drop)
    }

    /// Waits for an interface to appear, gives it an address with 24 bits of network, sets it up.
    pub(super) fn plug(&mut self, name: &str, address: Ipv4Addr) -> io::Result<()> {
        let started = Instant::now();
        let index = loop {
            match self.index(name) {
                Err(_) if started.elapsed() < super::PATIENCE => std::thread::sleep(Duration::from_millis(5)),
                found => break found?,
            }
        };
        let octets = address.octets();
        let head = [&[2, 24, 0, 0][..], &index.to_ne_bytes()].concat(); // struct ifaddrmsg
        let body = [head, attribute(1, &octets), attribute(2, &octets)].concat(); // IFA_ADDRESS, IFA_LOCAL
        self.ask(NEWADDR, ASK | CREATE, &body)?;
        self.up(index)
    }

    /// Whatever is elsewhere is reached through `gateway`.
    pub(super) fn route(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        // struct rtmsg: IPv4, anywhere, main table, protocol boot, universe, unicast.
        let head = [2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let body = [&head[..], &attribute(5, &gateway.octets())].concat(); // RTA_GATEWAY
        self.ask(NEWROUTE, ASK | CREATE, &body).map(drop)
    }

    fn index(&mut self, name: &str) -> io::Result<u32> {
        let body = [link(0, 0), attribute(3, &zero_ended(name))].concat();
        let reply = self.ask(GETLINK, ASK, &body)?;
        let bytes = reply.get(20..24).and_then(|bytes| bytes.try_into().ok()); // ifi_index of ifinfomsg
        bytes.map(u32::from_ne_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sends one request; the first message of the reply, or the error that it carries.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(16 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty())?;
        let mut first = None;
        loop {
            let mut buffer = vec![0; 1 << 16];
            let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
            buffer.truncate(length);
            let code = buffer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
            match (buffer.get(4..6), code) {
                // NLMSG_ERROR: 0 is the acknowledgement that ends every answer.
                (Some([2, 0] | [0, 2]), Some(0)) => return Ok(first.unwrap_or(buffer)),
                (Some([2, 0] | [0, 2]), Some(code)) => return Err(io::Error::from_raw_os_error(-code)),
                (Some(_), Some(_)) => first = Some(buffer),
                (None, _) | (_, None) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// struct ifinfomsg
fn link(index: u32, flags: u32) -> Vec<u8> {
    [&[0; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &flags.to_ne_bytes()].concat()
}

/// struct rtattr with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn zero_ended(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes() {
        assert_eq!(attribute(3, b"lo\0").len(), 8);
        assert_eq!(attribute(3, b"lo\0")[..2], 7_u16.to_ne_bytes());
        assert_eq!(link(1, IFF_UP).len(), 16);
    }
}
