//! One process behind one handle: everything read through it is of one and the same process.

#![forbid(unsafe_code)]

use std::io;

use super::record::Recording;
use super::{FILE_LIMIT, FileStat, Live, imp};

/// Of a file of one process, at most this much is returned.
const PROCESS_FILE_LIMIT: usize = 1 << 20;

fn matching_lines(all: &[u8], text: &[u8]) -> Vec<u8> {
    let holds = |line: &&[u8]| line.windows(text.len().max(1)).any(|part| part == text);
    all.split_inclusive(|byte| *byte == b'\n').filter(holds).flatten().copied().collect()
}

/// A handle on /proc/PID.
#[derive(Debug)]
pub struct ProcessDir<'s> {
    pid: u32,
    inner: Inner<'s>,
    /// When it was started, where that was learnt already.
    started: Option<u64>,
}

#[derive(Debug)]
enum Inner<'s> {
    Live(imp::Dir, &'s Live),
    Recorded(&'s Recording),
}

/// Room for one directory listing and one link, kept between calls.
#[derive(Debug)]
pub struct LinkBuffer(imp::LinkBuffer);

impl LinkBuffer {
    pub fn new() -> Self {
        Self(imp::LinkBuffer::new())
    }
}

impl Default for LinkBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s> ProcessDir<'s> {
    pub(super) fn live(pid: u32, dir: imp::Dir, live: &'s Live, started: Option<u64>) -> Self {
        Self { pid, inner: Inner::Live(dir, live), started }
    }

    pub(super) fn recorded(pid: u32, recording: &'s Recording) -> Self {
        Self { pid, inner: Inner::Recorded(recording), started: None }
    }

    /// Those of its threads that have a file table of their own.
    pub(super) fn own_tables(&self, mut threads: Vec<u32>) -> Vec<u32> {
        match &self.inner {
            Inner::Live(dir, _) => dir.own_tables(self.pid, threads),
            Inner::Recorded(recording) => {
                threads.retain(|thread| recording.has_table(self.pid, *thread));
                threads
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Keeps this handle for whoever asks next for the process, which was started at `ticks` since boot.
    /// Not while a recording is made: there the process is asked again.
    pub fn keep(self, ticks: u64) {
        if let Inner::Live(dir, live) = self.inner
            && live.tee.is_none()
        {
            let mut kept = live.kept();
            if kept.processes.len() < live.host.spare_handles() {
                kept.processes.insert(self.pid, (dir, ticks));
            }
        }
    }

    /// When the process was started, where this handle was kept with that.
    pub fn start(&self) -> Option<u64> {
        self.started
    }

    /// A file of the process: `stat`, `cmdline`, `fdinfo/4`. Longer ones are cut at 1 MiB.
    ///
    /// # Errors
    /// As open(2) and read(2); `NotFound` or ESRCH when the process has ended.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        match &self.inner {
            Inner::Live(dir, Live { tee, .. }) => {
                let found = dir.read(name, PROCESS_FILE_LIMIT);
                if let Some(tee) = tee {
                    tee.file("proc", &self.path(name), &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.file("proc", &self.path(name)),
        }
    }

    /// The lines of a long file (`maps`) that hold some text; a file above 256 MiB is cut.
    ///
    /// # Errors
    /// As [`ProcessDir::read`].
    pub fn lines_with(&self, name: &str, text: &[u8]) -> io::Result<Vec<u8>> {
        match &self.inner {
            Inner::Live(dir, Live { tee, .. }) => {
                let found = dir.read(name, FILE_LIMIT).map(|all| matching_lines(&all, text));
                if let Some(tee) = tee {
                    tee.file("proc", &self.path(name), &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.file("proc", &self.path(name)),
        }
    }

    /// Where a link points to: `exe`, `fd/4`, `ns/net`.
    ///
    /// # Errors
    /// As readlink(2).
    pub fn read_link(&self, name: &str) -> io::Result<Vec<u8>> {
        match &self.inner {
            Inner::Live(dir, Live { tee, .. }) => {
                let found = dir.read_link(name);
                if let Some(tee) = tee {
                    tee.link("proc", &self.path(name), &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.link("proc", &self.path(name)),
        }
    }

    /// Names in a directory: `task`, `fd`.
    ///
    /// # Errors
    /// As open(2) and getdents(2).
    pub fn list(&self, name: &str) -> io::Result<Vec<String>> {
        match &self.inner {
            Inner::Live(dir, Live { tee, .. }) => {
                let found = dir.list(name);
                if let Some(tee) = tee {
                    tee.list("proc", &self.path(name), &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.list("proc", &self.path(name)),
        }
    }

    /// stat(2) of a file of the process; follows links, so `exe` is the program itself.
    ///
    /// # Errors
    /// As stat(2).
    pub fn stat(&self, name: &str) -> io::Result<FileStat> {
        match &self.inner {
            Inner::Live(dir, Live { tee, .. }) => {
                let found = dir.stat(name);
                if let Some(tee) = tee {
                    tee.stat(&format!("proc-stat/{}", self.path(name)), &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.stat(&format!("proc-stat/{}", self.path(name))),
        }
    }

    /// Hands over number and target of every link in a directory of numbered links (`fd`,
    /// `task/17/fd`), without allocating.
    ///
    /// # Errors
    /// As open(2) and getdents(2). A link that vanishes meanwhile is left out.
    pub fn each_link(
        &self,
        name: &str,
        buffer: &mut LinkBuffer,
        take: &mut dyn FnMut(i32, &[u8]),
    ) -> io::Result<()> {
        match &self.inner {
            Inner::Live(dir, Live { tee: None, .. }) => dir.each_link(name, &mut buffer.0, take),
            Inner::Live(dir, Live { tee: Some(tee), .. }) => {
                let path = self.path(name);
                let done = dir.each_link(name, &mut buffer.0, &mut |number, target| {
                    tee.link("proc", &format!("{path}/{number}"), &Ok(target.to_vec()));
                    take(number, target);
                });
                tee.folder("proc", &path, &done);
                done
            }
            Inner::Recorded(recording) => recording.each_link(&self.path(name), take),
        }
    }

    /// What the kernel's own tables call the protocol of a socket: `TCPv6`, `AF_VSOCK`. Needs no
    /// right beyond that to read the link.
    ///
    /// # Errors
    /// As getxattr(2).
    pub fn protocol_name(&self, fd: i32) -> io::Result<Vec<u8>> {
        let key = format!("protocol-name/{}-{fd}", self.pid);
        match &self.inner {
            Inner::Live(dir, Live { tee, .. }) => {
                let found = dir.protocol_name(self.pid, fd);
                if let Some(tee) = tee {
                    tee.file("answers", &key, &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.file("answers", &key),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.pid)
    }
}
