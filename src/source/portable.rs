//! Systems without /proc, namespaces and netlink: every question of that kind is answered
//! `Unsupported`, and what the system can tell comes through other crates in `collect` and
//! `enrich`.

#![forbid(unsafe_code)]

use std::io;

use super::netlink::NetlinkError;
use super::{FileStat, NetnsPlace, SocketAnswer};

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn ask_socket(_pid: u32, _fd: i32) -> io::Result<SocketAnswer> {
    unsupported()
}

pub(crate) fn listing(_program: super::Listing) -> io::Result<Vec<u8>> {
    unsupported()
}

pub(crate) fn legacy_table(_v6: bool, _name: &str) -> io::Result<Vec<u8>> {
    unsupported()
}

#[derive(Debug)]
pub(crate) struct Host;

#[derive(Debug)]
pub(crate) enum Dir {}

#[derive(Debug)]
pub(crate) enum RootDir {}

#[derive(Debug)]
pub(crate) enum Folder {}

#[derive(Debug)]
pub(crate) enum Subscription {}

impl Subscription {
    pub(crate) fn only(&self, _zero: u32, _nonzero: u32) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn is_ready(&self) -> bool {
        match *self {}
    }

    pub(crate) fn drain(&mut self, _take: &mut dyn FnMut(&[u8])) -> io::Result<super::Heard> {
        match *self {}
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Subscription {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) struct LinkBuffer;

impl LinkBuffer {
    pub(crate) fn new() -> Self {
        Self
    }
}

#[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "the door is the same on every system")]
impl Host {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn proc_file(&self, _path: &str) -> io::Result<Vec<u8>> {
        unsupported()
    }

    pub(crate) fn sys_file(&self, _path: &str) -> io::Result<Vec<u8>> {
        unsupported()
    }

    pub(crate) fn proc_link(&self, _path: &str) -> io::Result<Vec<u8>> {
        unsupported()
    }

    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        unsupported()
    }

    pub(crate) fn spare_handles(&self) -> usize {
        0
    }

    pub(crate) fn process(&self, _pid: u32) -> io::Result<Dir> {
        unsupported()
    }

    pub(crate) fn root(&self, _pid: u32) -> io::Result<RootDir> {
        unsupported()
    }

    pub(crate) fn keep_netns(&self, _inode: u64, _place: &NetnsPlace) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn netns_of_socket(&self, _pid: u32, _fd: i32) -> io::Result<u64> {
        unsupported()
    }

    pub(crate) fn within<T: Send>(&self, _netns: u64, _ask: impl FnOnce() -> T + Send) -> io::Result<T> {
        unsupported()
    }

    pub(crate) fn netlink(
        &self,
        _netns: u64,
        _protocol: u32,
        _request: &[u8],
        _take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), NetlinkError> {
        Err(NetlinkError::Missing(io::ErrorKind::Unsupported.into()))
    }

    pub(crate) fn netns_cookie(&self, _netns: u64) -> io::Result<u64> {
        unsupported()
    }

    pub(crate) fn subscribe(&self, _netns: u64, _protocol: u32, _groups: u32) -> io::Result<Subscription> {
        unsupported()
    }

    pub(crate) fn own_sockets(&self) -> Vec<u64> {
        Vec::new()
    }
}

impl Dir {
    pub(crate) fn read(&self, _name: &str, _limit: usize) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn read_link(&self, _name: &str) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn list(&self, _name: &str) -> io::Result<Vec<String>> {
        match *self {}
    }

    pub(crate) fn stat(&self, _name: &str) -> io::Result<FileStat> {
        match *self {}
    }

    pub(crate) fn each_link(
        &self,
        _name: &str,
        _buffer: &mut LinkBuffer,
        _take: &mut dyn FnMut(i32, &[u8]),
    ) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn protocol_name(&self, _pid: u32, _fd: i32) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn own_tables(&self, _pid: u32, _threads: Vec<u32>) -> Vec<u32> {
        match *self {}
    }
}

impl RootDir {
    pub(crate) fn read_at(&self, _path: &[u8], _offset: u64, _len: usize) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn read(&self, _path: &[u8], _limit: usize) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn stat(&self, _path: &[u8]) -> io::Result<FileStat> {
        match *self {}
    }

    pub(crate) fn read_link(&self, _path: &[u8]) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn acl(&self, _path: &[u8]) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn folder(&self, _path: &[u8]) -> Option<Folder> {
        match *self {}
    }

    pub(crate) fn list(&self, _path: &[u8], _limit: usize) -> io::Result<Vec<Vec<u8>>> {
        match *self {}
    }
}

impl Folder {
    pub(crate) fn read(&mut self, _name: &[u8], _limit: usize) -> io::Result<&[u8]> {
        match *self {}
    }
}
