//! Packet, netlink, vsock and XDP sockets.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;

use libc::{
    AF_INET, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_XDP, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM,
};
use serde_json::json;

use super::sys;
use super::want::Want;
use crate::lab::hold;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_ALL: u16 = 0x0003;
const ETH_P_ARP: u16 = 0x0806;

pub(super) fn make(_: &[OsString]) -> io::Result<()> {
    packet()?;
    netlink()?;
    sys::if_there("vsock", vsock)?;
    sys::if_there("XDP", || {
        let fd = sys::socket(AF_XDP, SOCK_RAW, 0)?;
        let fields = json!({"protocol": "xdp", "type": "raw", "exposure": null});
        Want::new("XDP", &fd, fields)?.keep(fd).map(|_| ())
    })?;
    hold()
}

/// Index of eth0 in this namespace.
fn eth0() -> io::Result<u32> {
    // SAFETY: a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(c"eth0".as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// One that accepts everything: `ret #-1`, as struct sock_fprog.
fn attach_filter(fd: &impl AsRawFd) -> io::Result<()> {
    let code = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX }];
    let program = libc::sock_fprog { len: 1, filter: code.as_ptr().cast_mut() };
    // SAFETY: the program and its one instruction outlive the call, which copies them.
    crate::lab::check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    })
    .map(|_| ())
}

fn packet() -> io::Result<()> {
    let row = |kind: &str, number: u16| json!({"protocol": "packet", "type": kind, "protocol_number": number, "exposure": null});
    let index = eth0()?;
    let fd = sys::socket(AF_PACKET, SOCK_RAW, 0)?;
    attach_filter(&fd)?;
    sys::bind(&fd, &sys::packet(ETH_P_IP, index))?;
    let mut fields = row("raw", ETH_P_IP);
    fields["local"] = json!({"interface": "eth0"});
    Want::new("packet, IP on one interface, filtered", &fd, fields)?.keep(fd)?;

    let fd = sys::socket(AF_PACKET, SOCK_DGRAM, i32::from(ETH_P_ALL.to_be()))?;
    Want::new("packet, everything everywhere", &fd, row("dgram", ETH_P_ALL))?.keep(fd)?;

    let fd = sys::socket(AF_PACKET, SOCK_RAW, 0)?;
    Want::new("packet, no protocol yet", &fd, row("raw", 0))?.keep(fd)?;

    // SOCK_PACKET of AF_INET is an AF_PACKET socket since Linux 2.0 (packet(7)).
    const SOCK_PACKET: i32 = 10;
    let fd = sys::socket(AF_INET, SOCK_PACKET, i32::from(ETH_P_ARP.to_be()))?;
    Want::new("packet, the old way", &fd, row("packet", ETH_P_ARP))?.keep(fd)?;

    // A ring mapped into memory keeps the socket when its descriptor is closed.
    let fd = sys::socket(AF_PACKET, SOCK_RAW, i32::from(ETH_P_ALL.to_be()))?;
    let request = [4096_u32, 1, 2048, 2]; // struct tpacket_req: block size, blocks, frame size, frames
    let bytes: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &bytes)?;
    let want = Want::new("packet, only in mapped memory", &fd, row("raw", ETH_P_ALL))?;
    // SAFETY: a fresh mapping at an address of the kernel's choice, never touched.
    let ring = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        )
    };
    if ring == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    drop(fd);
    want.say()
}

fn netlink() -> io::Result<()> {
    for (case, bus, mask, groups) in [
        ("netlink route with groups", libc::NETLINK_ROUTE, 0x11, vec!["1", "5"]),
        ("netlink kernel events", libc::NETLINK_KOBJECT_UEVENT, 1, vec!["1"]),
        ("netlink generic", libc::NETLINK_GENERIC, 0, vec![]),
        ("netlink socket diagnosis", libc::NETLINK_SOCK_DIAG, 0, vec![]),
    ] {
        let fd = sys::socket(AF_NETLINK, SOCK_RAW, bus)?;
        sys::bind(&fd, &sys::netlink(mask))?;
        let fields = json!({
            "protocol": "netlink", "type": "raw", "protocol_number": bus, "groups": groups, "exposure": null,
        });
        Want::new(case, &fd, fields)?.keep(fd)?;
    }
    let fd = sys::socket(AF_NETLINK, SOCK_DGRAM, libc::NETLINK_ROUTE)?;
    let fields = json!({"protocol": "netlink", "type": "dgram", "protocol_number": 0, "groups": []});
    Want::new("netlink never bound", &fd, fields)?.keep(fd)?;
    Ok(())
}

fn vsock() -> io::Result<()> {
    for (case, kind, number) in
        [("vsock listener", "stream", SOCK_STREAM), ("vsock seqpacket listener", "seqpacket", SOCK_SEQPACKET)]
    {
        let fd = sys::socket(AF_VSOCK, number, 0)?;
        // The port is shared by the whole machine: take a free one, as bind with port -1 does.
        sys::bind(&fd, &sys::vsock(libc::VMADDR_CID_ANY, u32::MAX))?;
        let port = vsock_port(&fd)?;
        sys::listen(&fd)?;
        let fields = json!({
            "protocol": "vsock", "type": kind, "state": "listen",
            "local": {"cid": libc::VMADDR_CID_ANY, "port": port},
        });
        Want::new(case, &fd, fields)?.keep(fd)?;
    }
    let fd = sys::socket(AF_VSOCK, SOCK_STREAM, 0)?;
    Want::new("vsock never bound", &fd, json!({"protocol": "vsock", "type": "stream"}))?.keep(fd)?;
    Ok(())
}

fn vsock_port(fd: &impl AsRawFd) -> io::Result<u32> {
    let mut address = [0_u8; 16];
    let mut length = 16_u32;
    // SAFETY: room for the 16 bytes of sockaddr_vm, and its length.
    crate::lab::check(unsafe {
        libc::getsockname(fd.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut length)
    })?;
    Ok(u32::from_ne_bytes([address[4], address[5], address[6], address[7]]))
}
