//! What a maker says of each socket that it opened, and what the program under test must say.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One awkward socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Want {
    /// What is awkward about it.
    pub(crate) case: String,
    /// 0: found by its fields, since the kernel gives it none.
    pub(crate) inode: u64,
    /// pids in the test's pid namespace, ascending.
    pub(crate) owners: Vec<u32>,
    /// Fields of `sockets[]` in the JSON document (contract: schema version 1); those not named
    /// here may be anything.
    pub(crate) fields: Value,
    /// Fields that every owner has.
    pub(crate) owner: Value,
    /// Inode of the socket at the other end.
    pub(crate) peer: Option<u64>,
}

/// Inode of an open file.
pub(crate) fn inode(fd: &impl AsRawFd) -> io::Result<u64> {
    // Not by way of /proc/self/fd: that may be another file table than this thread's, or not ours
    // to read.
    // SAFETY: borrowed for this call only, while `fd` is alive.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

/// Inode of the network namespace that this thread is in.
pub(crate) fn netns() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// An IP endpoint as the document writes it.
pub(crate) fn inet(address: SocketAddr) -> Value {
    json!({"address": address.ip().to_canonical().to_string(), "port": address.port()})
}

impl Want {
    /// A socket that this process alone holds, in the namespace that this thread is in.
    pub(crate) fn new(case: &str, fd: &impl AsRawFd, fields: Value) -> io::Result<Self> {
        Self::with_inode(case, inode(fd)?, fields)
    }

    pub(crate) fn with_inode(case: &str, inode: u64, mut fields: Value) -> io::Result<Self> {
        let map = fields.as_object_mut().ok_or_else(|| io::Error::other("fields must be an object"))?;
        if !map.contains_key("netns") {
            map.insert("netns".into(), json!({"inode": netns()?}));
        }
        map.entry("owner_gap").or_insert(Value::Null);
        Ok(Self { case: case.into(), inode, owners: vec![pid()?], fields, owner: json!({}), peer: None })
    }

    pub(crate) fn owners(mut self, owners: &[u32]) -> Self {
        self.owners = owners.to_vec();
        self.owners.sort_unstable();
        self
    }

    /// Nobody holds it, for this reason.
    pub(crate) fn gap(mut self, gap: &str) -> Self {
        self.owners.clear();
        self.fields["owner_gap"] = json!(gap);
        self
    }

    pub(crate) fn owner(mut self, fields: Value) -> Self {
        self.owner = fields;
        self
    }

    pub(crate) fn peer(mut self, inode: u64) -> Self {
        self.peer = Some(inode);
        self
    }

    /// Tells the test; one line.
    pub(crate) fn say(&self) -> io::Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }

    /// Tells the test, and keeps the socket open until this process ends.
    pub(crate) fn keep(self, fd: impl IntoRawFd) -> io::Result<RawFd> {
        self.say()?;
        Ok(fd.into_raw_fd())
    }
}

/// Our pid in the pid namespace that `/proc` shows: the test's, whichever we are in.
pub(crate) fn pid() -> io::Result<u32> {
    let link = std::fs::read_link("/proc/self")?;
    link.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other("odd /proc/self"))
}
