//! Who holds which socket: one pass over the file tables of all processes (proc_pid_fd(5)).
//!
//! /proc/PID/fd is one file table; a process can have several. A socket registered in an io_uring
//! is in none, and is listed by the ring.

#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::proc_net::{self, Stat, inode_of};
use crate::model::How;
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
    /// Those that hold a socket.
    pub(super) processes: Vec<(u32, Stat)>,
    pub(super) held: Vec<Held>,
    /// Network namespaces that somebody holds open: inode, process, descriptor.
    pub(super) namespaces: Vec<(u64, u32, i32)>,
    /// Processes that could not be looked into.
    pub(super) denied: u64,
}

/// Below this many processes a second thread costs more than it gains.
const WORTH_A_THREAD: usize = 200;
const THREADS: usize = 4;
/// How many processes a thread takes at a time.
const HANDFUL: usize = 16;

/// Looks into the file table of every process.
pub(super) fn walk(source: &Source, pids: &[u32]) -> Walk {
    in_parallel(pids, |pid, buffer, found| look(source, pid, buffer, found))
}

/// Looks into the tables that single threads have for themselves.
pub(super) fn walk_threads(source: &Source, pids: &[u32]) -> Walk {
    in_parallel(pids, |pid, buffer, found| look_at_threads(source, pid, buffer, found))
}

/// Looks for sockets that are mapped into memory, whose descriptors may be closed.
pub(super) fn walk_memory(source: &Source, pids: &[u32]) -> Walk {
    in_parallel(pids, |pid, _, found| look_at_memory(source, pid, found))
}

fn in_parallel(pids: &[u32], look: impl Fn(u32, &mut LinkBuffer, &mut Walk) + Sync) -> Walk {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let threads = if pids.len() < WORTH_A_THREAD { 1 } else { cores };
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut found, mut buffer) = (Walk::default(), LinkBuffer::new());
        while let Some(some) = pids.chunks(HANDFUL).nth(next.fetch_add(1, Ordering::Relaxed)) {
            for pid in some {
                look(*pid, &mut buffer, &mut found);
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

impl Walk {
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

fn look(source: &Source, pid: u32, buffer: &mut LinkBuffer, found: &mut Walk) {
    let Ok(process) = source.process(pid) else { return };
    let before = found.held.len();
    match read_table(&process, "fd", pid, How::Fd, buffer, found) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Threads of the kernel hold no sockets.
            let kernel =
                process.read("stat").is_ok_and(|text| proc_net::stat(&text).is_some_and(|s| s.kernel));
            found.denied += u64::from(!kernel);
        }
        // It has ended meanwhile.
        Err(_) | Ok(()) => {}
    }
    name_holder(&process, before, found);
}

fn look_at_threads(source: &Source, pid: u32, buffer: &mut LinkBuffer, found: &mut Walk) {
    let Ok(process) = source.process(pid) else { return };
    // The link count of the folder is 2 more than there are threads (proc_task_getattr).
    if process.stat("task").is_ok_and(|folder| folder.links <= 3) {
        return;
    }
    let Ok(threads) = source.file_tables(&process) else { return };
    let before = found.held.len();
    for thread in threads {
        // A thread that ends meanwhile has given its table back.
        let _ = read_table(&process, &format!("task/{thread}/fd"), thread, How::Thread, buffer, found);
    }
    name_holder(&process, before, found);
}

fn look_at_memory(source: &Source, pid: u32, found: &mut Walk) {
    let Ok(process) = source.process(pid) else { return };
    let Ok(maps) = process.lines_with("maps", b"socket:[") else { return };
    let (before, index) = (found.held.len(), u32::try_from(found.processes.len()).unwrap_or(u32::MAX));
    for inode in proc_net::mapped_sockets(&maps) {
        found.held.push(Held { inode, process: index, task: pid, fd: -1, how: How::Memory });
    }
    name_holder(&process, before, found);
}

fn read_table(
    process: &ProcessDir<'_>,
    name: &str,
    task: u32,
    how: How,
    buffer: &mut LinkBuffer,
    found: &mut Walk,
) -> io::Result<()> {
    let index = u32::try_from(found.processes.len()).unwrap_or(u32::MAX);
    let mut rings = Vec::new();
    let done = process.each_link(name, buffer, &mut |fd, target| {
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
fn name_holder(process: &ProcessDir<'_>, before: usize, found: &mut Walk) {
    if found.held.len() == before {
        return;
    }
    match process.read("stat").ok().and_then(|text| proc_net::stat(&text)) {
        Some(stat) => {
            process.remember_start(stat.start_ticks);
            found.processes.push((process.pid(), stat));
        }
        None => found.held.truncate(before),
    }
}
