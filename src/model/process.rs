//! Who holds a socket.

use serde::{Deserialize, Serialize};

use super::socket::named;
use super::{Container, Fact, Text};

/// Index into `Snapshot::processes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

/// One reference that a process has to a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holder {
    pub process: ProcessId,
    /// Descriptor number; for a ring, the ring's; -1 for mapped memory and where nobody could tell.
    pub fd: i32,
    pub how: How,
}

named! {
    /// How a holder was found.
    How {
        /// In the file table of the process.
        Fd = "fd",
        /// In a file table that only some thread has.
        Thread = "thread",
        /// Registered in an io_uring.
        Ring = "ring",
        /// Mapped into memory (a ring of a packet or XDP socket), its descriptor closed.
        Memory = "memory",
        /// The kernel told who opened it, and both were gone before anybody could look.
        Event = "event",
    }
}

named! {
    ExeState {
        Present = "present",
        /// Unlinked, and nothing stands at its path.
        Deleted = "deleted",
        /// Another file stands at its path: an upgrade without restart.
        Replaced = "replaced",
        /// Never was on a disk (memfd_create(2)).
        Memory = "memory",
        Unknown = "unknown",
    }
}

/// A parent, nearest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ancestor {
    pub pid: u32,
    pub name: Text,
}

/// What standard input, output and error point to: the link text of `/proc/PID/fd/N`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stdio(pub [Fact<Text>; 3]);

/// A process, known by pid **and** start time. Everything below `ppid` is filled by `enrich`,
/// and unknown until then; but whoever reads a file table sees where its streams point to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks after boot (proc_pid_stat(5), field 22).
    pub start_ticks: u64,
    /// `comm`: free text of at most 15 bytes.
    pub name: Text,
    pub ppid: u32,
    /// Nanoseconds since the epoch, from boot time and `start_ticks`.
    pub start_time: Fact<i64>,
    /// Path as in the process's own mount namespace, without " (deleted)".
    pub exe: Fact<Text>,
    pub exe_state: ExeState,
    /// Device and inode of the executable, by which a replaced one is told from a restarted one.
    /// No part of a saved snapshot.
    #[serde(skip)]
    pub exe_file: Option<((u32, u32), u64)>,
    pub cmdline: Fact<Vec<Text>>,
    pub cwd: Fact<Text>,
    /// Real and effective user id, as seen from our user namespace.
    pub uid: Fact<u32>,
    pub euid: Fact<u32>,
    /// Name of the effective user in the process's own `/etc/passwd`.
    pub user: Fact<Text>,
    /// Effective capabilities, a bit set (capabilities(7)).
    pub capabilities: Fact<u64>,
    pub unit: Fact<Text>,
    pub container: Fact<Container>,
    pub package: Fact<Text>,
    pub parents: Fact<Vec<Ancestor>>,
    pub stdio: Stdio,
    /// The network namespace that the process is in now: inode.
    pub netns: Fact<u64>,
}

impl Process {
    /// A process of which only the kernel's short record is known.
    pub fn new(pid: u32, start_ticks: u64, name: Text, ppid: u32) -> Self {
        Self {
            pid,
            start_ticks,
            name,
            ppid,
            start_time: Fact::Unknown,
            exe: Fact::Unknown,
            exe_state: ExeState::Unknown,
            exe_file: None,
            cmdline: Fact::Unknown,
            cwd: Fact::Unknown,
            uid: Fact::Unknown,
            euid: Fact::Unknown,
            user: Fact::Unknown,
            capabilities: Fact::Unknown,
            unit: Fact::Unknown,
            container: Fact::Unknown,
            package: Fact::Unknown,
            parents: Fact::Unknown,
            stdio: Stdio::default(),
            netns: Fact::Unknown,
        }
    }
}
