//! Who holds which socket: one pass over the file tables of all processes (proc_pid_fd(5)).
//!
//! /proc/PID/fd is one file table; a process can have several. A socket registered in an io_uring
//! is in none, and is listed by the ring.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::proc_net::{self, Stat, inode_of};
use crate::model::{Fact, How, Stdio};
use crate::source::{LinkBuffer, ProcessDir, Source};

/// One reference to a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Held {
    pub(super) inode: u64,
    /// Index into `Walk::processes`.
    pub(super) process: u32,
    /// Whose file table it is in: the process, or one of its threads.
    pub(super) task: u32,
    pub(super) fd: i32,
    pub(super) how: How,
}

/// What the file tables say.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Those that hold a socket, and others.
    pub(super) processes: Vec<Seen>,
    pub(super) held: Vec<Held>,
    /// Network namespaces that somebody holds open: inode, process, descriptor.
    pub(super) namespaces: Vec<(u64, u32, i32)>,
    /// Processes that could not be looked into.
    pub(super) denied: u64,
    /// Told by the program in the kernel: tables that single threads have for themselves are in it.
    pub(super) iterated: bool,
}

/// A process that holds a socket.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pid: u32,
    pub(super) stat: Stat,
    /// Unknown where its own file table was not read.
    pub(super) stdio: Stdio,
}

/// Room that each thread of a walk keeps.
struct Scratch {
    links: LinkBuffer,
    /// What descriptors 0, 1 and 2 of the process point to, as far as they are open.
    streams: [Vec<u8>; 3],
}

/// Below this many processes a second thread costs more than it gains.
const WORTH_A_THREAD: usize = 200;
const THREADS: usize = 4;
/// How many processes a thread takes at a time.
const HANDFUL: usize = 16;

/// Looks into the file table of every process. `streams`: what standard streams point to is kept, for
/// the tables are read whole anyway.
pub(super) fn walk(source: &Source, pids: &[u32], streams: bool) -> Walk {
    in_parallel(pids, |pid, scratch, found| look(source, pid, streams, scratch, found))
}

/// Looks into the tables that single threads have for themselves.
pub(super) fn walk_threads(source: &Source, pids: &[u32]) -> Walk {
    in_parallel(pids, |pid, scratch, found| look_at_threads(source, pid, scratch, found))
}

/// Looks for sockets that are mapped into memory, whose descriptors may be closed.
pub(super) fn walk_memory(source: &Source, pids: &[u32]) -> Walk {
    in_parallel(pids, |pid, _, found| look_at_memory(source, pid, found))
}

fn in_parallel(pids: &[u32], look: impl Fn(u32, &mut Scratch, &mut Walk) + Sync) -> Walk {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let threads = if pids.len() < WORTH_A_THREAD { 1 } else { cores };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Walk::default();
        let mut scratch = Scratch { links: LinkBuffer::new(), streams: Default::default() };
        while let Some(some) = pids.chunks(HANDFUL).nth(next.fetch_add(1, Ordering::Relaxed)) {
            for pid in some {
                look(*pid, &mut scratch, &mut found);
            }
        }
        found
    };
    if threads == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut all = work();
        for other in others {
            if let Ok(found) = other.join() {
                all.append(found);
            }
        }
        all
    })
}

/// Every socket, by inode, with each of these processes that has it in a file table and may be looked
/// into.
pub(crate) fn references(source: &Source, pids: &[u32]) -> BTreeSet<(u64, u32)> {
    let mut walk = walk(source, pids, false);
    walk.append(walk_threads(source, pids));
    walk.references()
}

impl Walk {
    pub(super) fn references(&self) -> BTreeSet<(u64, u32)> {
        let in_tables = self.held.iter().filter(|held| matches!(held.how, How::Fd | How::Thread));
        in_tables.map(|held| (held.inode, self.processes[held.process as usize].pid)).collect()
    }

    pub(super) fn append(&mut self, other: Self) {
        let shift = u32::try_from(self.processes.len()).unwrap_or(u32::MAX);
        self.processes.extend(other.processes);
        self.held.extend(
            other.held.into_iter().map(|held| Held { process: held.process.saturating_add(shift), ..held }),
        );
        self.namespaces.extend(other.namespaces);
        self.denied += other.denied;
    }
}

fn look(source: &Source, pid: u32, streams: bool, scratch: &mut Scratch, found: &mut Walk) {
    let Ok(process) = source.process(pid) else { return };
    let before = found.held.len();
    let mut stdio = Stdio::default();
    match read_table(&process, "fd", pid, How::Fd, scratch, found) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Threads of the kernel hold no sockets.
            let kernel =
                process.read("stat").is_ok_and(|text| proc_net::stat(&text).is_some_and(|s| s.kernel));
            found.denied += u64::from(!kernel);
        }
        // It has ended meanwhile.
        Err(_) => {}
        Ok(()) if streams && found.held.len() > before => {
            stdio.0 = scratch.streams.each_ref().map(|target| match target.is_empty() {
                true => Fact::Absent,
                false => Fact::Known(target.as_slice().into()),
            });
        }
        Ok(()) => {}
    }
    name_holder(process, before, stdio, found);
}

fn look_at_threads(source: &Source, pid: u32, scratch: &mut Scratch, found: &mut Walk) {
    let Ok(process) = source.process(pid) else { return };
    // The link count of the folder is 2 more than there are threads (proc_task_getattr).
    if process.stat("task").is_ok_and(|folder| folder.links <= 3) {
        return;
    }
    let Ok(threads) = source.file_tables(&process) else { return };
    let before = found.held.len();
    for thread in threads {
        // A thread that ends meanwhile has given its table back.
        let _ = read_table(&process, &format!("task/{thread}/fd"), thread, How::Thread, scratch, found);
    }
    name_holder(process, before, Stdio::default(), found);
}

fn look_at_memory(source: &Source, pid: u32, found: &mut Walk) {
    let Ok(process) = source.process(pid) else { return };
    let maps = match process.lines_with("maps", b"socket:[") {
        Ok(maps) => maps,
        Err(error) => {
            found.denied += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
            return;
        }
    };
    let (before, index) = (found.held.len(), u32::try_from(found.processes.len()).unwrap_or(u32::MAX));
    for inode in proc_net::mapped_sockets(&maps) {
        found.held.push(Held { inode, process: index, task: pid, fd: -1, how: How::Memory });
    }
    name_holder(process, before, Stdio::default(), found);
}

fn read_table(
    process: &ProcessDir<'_>,
    name: &str,
    task: u32,
    how: How,
    scratch: &mut Scratch,
    found: &mut Walk,
) -> io::Result<()> {
    let index = u32::try_from(found.processes.len()).unwrap_or(u32::MAX);
    let mut rings = Vec::new();
    let Scratch { links, streams } = scratch;
    streams.iter_mut().for_each(Vec::clear);
    let done = process.each_link(name, links, &mut |fd, target| {
        if let Some(stream) = usize::try_from(fd).ok().and_then(|fd| streams.get_mut(fd)) {
            stream.extend_from_slice(target);
        }
        if let Some(inode) = inode_of(target, b"socket") {
            found.held.push(Held { inode, process: index, task, fd, how });
        } else if target == b"anon_inode:[io_uring]" {
            rings.push(fd);
        } else if let Some(inode) = inode_of(target, b"net") {
            found.namespaces.push((inode, process.pid(), fd));
        }
    });
    let folder = name.strip_suffix("fd").unwrap_or_default();
    for fd in rings {
        let Ok(text) = process.read(&format!("{folder}fdinfo/{fd}")) else { continue };
        for inode in proc_net::ring_sockets(&text) {
            found.held.push(Held { inode, process: index, task, fd, how: How::Ring });
        }
    }
    done
}

/// Reads who the holder is, through the same handle: a process whose number was given to another
/// meanwhile cannot be read through it any more.
fn name_holder(process: ProcessDir<'_>, before: usize, stdio: Stdio, found: &mut Walk) {
    if found.held.len() == before {
        return;
    }
    match process.read("stat").ok().and_then(|text| proc_net::stat(&text)) {
        Some(stat) => {
            let pid = process.pid();
            process.keep(stat.start_ticks);
            found.processes.push(Seen { pid, stat, stdio });
        }
        None => found.held.truncate(before),
    }
}
