//! Sockets whose namespace is not the one to look in first.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use libc::{CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER};
use serde_json::json;

use super::inet::toy;
use super::sys;
use super::want::{Want, netns};
use crate::lab::{check, hold, unshare};

/// The network namespace that this thread is in, to return to.
pub(super) fn home() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

pub(super) fn enter(path: &Path) -> io::Result<()> {
    enter_file(&File::open(path)?)
}

pub(super) fn enter_file(file: &File) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::setns(file.as_raw_fd(), CLONE_NEWNET) }).map(|_| ())
}

/// Opens a listener in a namespace that has a name but no process, then leaves. Argument: its path.
pub(super) fn moved_away(args: &[OsString]) -> io::Result<()> {
    let home = home()?;
    enter(Path::new(args.first().ok_or_else(|| io::Error::other("which namespace?"))?))?;
    let (fd, want) = toy("TCP in a bind-mounted namespace without process")?;
    enter_file(&home)?;
    want.keep(fd)?;
    hold()
}

/// Opens a listener in a namespace that nothing but this socket keeps.
pub(super) fn nameless(_: &[OsString]) -> io::Result<()> {
    let home = home()?;
    unshare(CLONE_NEWNET)?;
    let (fd, want) = toy("TCP in a namespace that only the socket keeps")?;
    enter_file(&home)?;
    want.keep(fd)?;
    hold()
}

/// A process in its own network namespace, which has no name.
pub(super) fn own_netns(_: &[OsString]) -> io::Result<()> {
    unshare(CLONE_NEWNET)?;
    let (fd, want) = toy("TCP in the namespace of its process")?;
    want.keep(fd)?;
    hold()
}

/// A listener of a process in its own pid namespace.
pub(super) fn own_pids(_: &[OsString]) -> io::Result<()> {
    unshare(CLONE_NEWPID)?;
    sys::fork(|| {
        let (fd, want) = toy("TCP held in another pid namespace")?;
        want.keep(fd)?;
        println!("ready");
        sys::sleep_forever()
    })?;
    // The child says ready.
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())
}

/// A listener of a process in its own user and network namespaces.
pub(super) fn own_users(_: &[OsString]) -> io::Result<()> {
    unshare(CLONE_NEWUSER | CLONE_NEWNET)?;
    let (fd, want) = toy("TCP held in another user namespace")?;
    want.keep(fd)?;
    hold()
}

/// Each end of a connection in another namespace, both held by this process. Arguments: path of the
/// other namespace, its address on the cable.
pub(super) fn two_ends(args: &[OsString]) -> io::Result<()> {
    let (Some(path), Some(address)) = (args.first(), args.get(1).and_then(|text| text.to_str())) else {
        return Err(io::Error::other("which namespace and address?"));
    };
    let address: std::net::IpAddr = address.parse().map_err(io::Error::other)?;
    let (home, here) = (home()?, netns()?);
    enter(Path::new(path))?;
    let there = netns()?;
    let server = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::bind(&server, &sys::inet((address, 0).into()))?;
    sys::listen(&server)?;
    enter_file(&home)?;
    let client = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::connect(&client, &sys::inet(sys::local(&server)?))?;
    let served = sys::accept(&server)?;
    let (near, far) = (super::want::inode(&client)?, super::want::inode(&served)?);
    let row = |netns: u64, local, remote| {
        json!({
            "protocol": "tcp", "state": "established", "netns": {"inode": netns}, "local": local, "remote": remote,
        })
    };
    let (a, b) = (super::want::inet(sys::local(&client)?), super::want::inet(sys::local(&server)?));
    Want::new("TCP client, server in another namespace", &client, row(here, a.clone(), b.clone()))?
        .peer(far)
        .keep(client)?;
    Want::new("TCP server, client in another namespace", &served, row(there, b, a))?
        .peer(near)
        .keep(served)?;
    std::mem::forget(server);
    hold()
}

/// Sends connection requests whose answers get lost: the other side stays in SYN_RECV. Arguments:
/// our address, the listener's address and port.
pub(super) fn half_open(args: &[OsString]) -> io::Result<()> {
    let parse = |n: usize| args.get(n).and_then(|text| text.to_str());
    let (Some(from), Some(to)) = (parse(0), parse(1)) else {
        return Err(io::Error::other("from where, to where?"));
    };
    let from: std::net::IpAddr = from.parse().map_err(io::Error::other)?;
    let to: std::net::SocketAddr = to.parse().map_err(io::Error::other)?;
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    sys::bind(&fd, &sys::inet((from, 0).into()))?;
    match sys::connect(&fd, &sys::inet(to)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => return Err(io::Error::other(format!("connect: {other:?}"))),
    }
    let local = sys::local(&fd)?;
    let fields = json!({
        "protocol": "tcp", "state": "syn-sent", "local": super::want::inet(local), "remote": super::want::inet(to),
    });
    Want::new("TCP whose answer gets lost", &fd, fields)?.keep(fd)?;
    println!("from {local}");
    hold()
}
