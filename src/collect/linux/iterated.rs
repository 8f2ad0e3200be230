//! Who holds which socket, from the program in the kernel that tells all file tables in one pass: ten
//! times as fast as a walk through /proc, and for whoever /proc is closed to.
//!
//! What it does not tell is asked of /proc as in the walk: what is registered in an io_uring, and which
//! kind of namespace a descriptor keeps open. Neither sees what is mapped into memory or in flight.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashSet};
use std::io;

use super::bpf::holder::{Foreign, Holder, Kind, Record, Records, Reference};
use super::bpf::{self, Refusal};
use super::proc_fd::{Held, Seen, Walk};
use super::proc_net::{self, Stat, inode_of};
use crate::model::{How, Stdio};
use crate::source::{ProcessDir, Source};

/// How many descriptors that keep one namespace open are looked at.
const WAYS: usize = 3;

/// The whole machine, as far as our pid namespace reaches.
///
/// # Errors
/// Why it cannot be told; then /proc is walked. A recording is of what /proc says.
pub(super) fn walk(source: &Source) -> Result<Walk, Refusal> {
    if !source.is_live() || source.is_recorder() {
        return Err(Refusal::NotLoaded);
    }
    let tables = bpf::file_tables().map_err(Clone::clone)?;
    // By this one we know ourselves among those told.
    let mark = std::os::unix::net::UnixDatagram::unbound();
    let mark = mark.and_then(|socket| Ok((rustix::fs::fstat(&socket)?.st_ino, socket)));
    let (inode, _socket) = mark.map_err(|error| Refusal::Kernel(error.to_string()))?;
    let mut told = Told::default();
    let mut records = Records::default();
    let read = tables.read(&mut |bytes| {
        records
            .feed(bytes, &mut |record| told.take(record))
            .map_err(|Foreign| io::ErrorKind::InvalidData.into())
    });
    read.map_err(|error| Refusal::Kernel(error.to_string()))?;
    if !records.is_complete() || !told.agrees(source, inode) {
        return Err(Refusal::Otherwise);
    }
    told.held.retain(|held| held.inode != inode);
    Ok(told.complete(source))
}

/// Every socket, by inode, with each process that has it in a file table.
///
/// # Errors
/// As [`walk`].
pub(crate) fn references(source: &Source) -> Result<BTreeSet<(u64, u32)>, Refusal> {
    walk(source).map(|walk| walk.references())
}

/// What has been told so far.
#[derive(Default)]
struct Told {
    /// One for each table.
    processes: Vec<Seen>,
    held: Vec<Held>,
    /// From tables that single threads have for themselves.
    threads: Vec<Held>,
    /// Process, task, descriptor.
    rings: Vec<(u32, u32, i32)>,
    /// Inode, process, descriptor.
    namespaces: Vec<(u64, u32, i32)>,
    /// Whose table is being told; `None` for one that has ended meanwhile.
    now: Option<Table>,
    /// The table of the thread before, where it is of the same process.
    before: Option<(u32, usize)>,
}

#[derive(Clone, Copy)]
struct Table {
    pid: u32,
    tid: u32,
    process: u32,
    /// Where it begins in `Told::threads`.
    start: usize,
}

impl Told {
    fn take(&mut self, record: Record) {
        match record {
            Record::Holder(holder) => self.begin(holder),
            Record::Reference(reference) => self.refer(reference),
        }
    }

    fn begin(&mut self, holder: Holder) {
        self.end();
        let Holder { pid, tid, parent, start_ticks, name } = holder;
        if pid == 0 || tid == 0 {
            return;
        }
        let process = u32::try_from(self.processes.len()).unwrap_or(u32::MAX);
        self.now = Some(Table { pid, tid, process, start: self.threads.len() });
        let stat = Stat { name, ppid: parent, start_ticks, kernel: false };
        self.processes.push(Seen { pid, stat, stdio: Stdio::default() });
    }

    fn refer(&mut self, Reference { kind, inode, fd }: Reference) {
        let Some(Table { pid, tid, process, .. }) = self.now else { return };
        let thread = pid != tid;
        match kind {
            Kind::Socket if thread => {
                self.threads.push(Held { inode, process, task: tid, fd, how: How::Thread });
            }
            Kind::Socket => self.held.push(Held { inode, process, task: tid, fd, how: How::Fd }),
            Kind::Ring => self.rings.push((process, tid, fd)),
            Kind::Namespace if thread => {}
            Kind::Namespace => self.namespaces.push((inode, pid, fd)),
        }
    }

    /// Where a leading thread has ended, each of the others is told with the table that they share.
    fn end(&mut self) {
        let Some(table) = self.now.take().filter(|table| table.pid != table.tid) else { return };
        let whose = |held: &Held| (held.inode, held.fd);
        if let Some((pid, start)) = self.before
            && pid == table.pid
            && self.threads[start..table.start]
                .iter()
                .map(whose)
                .eq(self.threads[table.start..].iter().map(whose))
        {
            self.threads.truncate(table.start);
        } else {
            self.before = Some((table.pid, table.start));
        }
    }

    /// Whether pids and start times are those of /proc, which may belong to another pid namespace, or be
    /// seen from another time namespace. `mark`: a socket that we alone hold.
    fn agrees(&self, source: &Source, mark: u64) -> bool {
        let own = std::process::id();
        let stat = source.process(own).and_then(|process| process.read("stat"));
        let Some(stat) = stat.ok().and_then(|text| proc_net::stat(&text)) else { return false };
        let told = self.held.iter().find(|held| held.inode == mark);
        told.map(|held| &self.processes[held.process as usize]).is_some_and(|told| {
            told.pid == own && told.stat.start_ticks == stat.start_ticks && told.stat.name == stat.name
        })
    }

    fn complete(mut self, source: &Source) -> Walk {
        self.end();
        let mut walk = Walk { iterated: true, held: self.held, ..Walk::default() };
        if !self.threads.is_empty() {
            let pid = |held: &Held| self.processes[held.process as usize].pid;
            let mut several: Vec<u32> = self.threads.iter().map(pid).collect();
            several.dedup();
            let several: HashSet<u32> = several.into_iter().collect();
            let of_these = walk.held.iter().filter(|held| several.contains(&pid(held)));
            let known: HashSet<(u32, u64)> = of_these.map(|held| (pid(held), held.inode)).collect();
            let of_thread_alone = |held: &&Held| !known.contains(&(pid(held), held.inode));
            walk.held.extend(self.threads.iter().filter(of_thread_alone));
        }
        let mut denied = BTreeSet::new();
        for (process, task, fd) in self.rings {
            let Seen { pid, stat, .. } = &self.processes[process as usize];
            match ring(source, *pid, stat, task, fd) {
                Ok(text) => walk.held.extend(proc_net::ring_sockets(&text).map(|inode| Held {
                    inode,
                    process,
                    task,
                    fd,
                    how: How::Ring,
                })),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => drop(denied.insert(*pid)),
                Err(_) => {}
            }
        }
        walk.denied = denied.len() as u64;
        walk.namespaces = networks(source, self.namespaces);
        walk.processes = self.processes;
        walk
    }
}

/// What a ring says of itself, if its process is still the one that was told of.
fn ring(source: &Source, pid: u32, stat: &Stat, task: u32, fd: i32) -> io::Result<Vec<u8>> {
    let process = source.process(pid)?;
    let folder = if task == pid { String::new() } else { format!("task/{task}/") };
    let text = process.read(&format!("{folder}fdinfo/{fd}"))?;
    let still = |process: &ProcessDir<'_>| {
        let now = process.read("stat").ok().and_then(|text| proc_net::stat(&text));
        now.is_some_and(|now| now.start_ticks == stat.start_ticks)
    };
    if still(&process) { Ok(text) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Those that are network namespaces.
fn networks(source: &Source, mut all: Vec<(u64, u32, i32)>) -> Vec<(u64, u32, i32)> {
    let mut found = Vec::new();
    all.sort_unstable();
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        found.extend(same.iter().take(WAYS).filter(|(inode, pid, fd)| {
            let link = source.process(*pid).and_then(|process| process.read_link(&format!("fd/{fd}")));
            link.is_ok_and(|link| inode_of(&link, b"net") == Some(*inode))
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::bpf::holder::tests::{file, task};
    use super::*;

    fn told(parts: &[Vec<u8>]) -> Walk {
        let (mut told, mut records) = (Told::default(), Records::default());
        records.feed(&parts.concat(), &mut |record| told.take(record)).unwrap();
        assert!(records.is_complete());
        told.complete(&Source::live().unwrap())
    }

    fn held(walk: &Walk) -> Vec<(u32, u32, u64, i32, How)> {
        let each = walk.held.iter();
        each.map(|held| (walk.processes[held.process as usize].pid, held.task, held.inode, held.fd, held.how))
            .collect()
    }

    #[test]
    fn a_thread_counts_where_its_process_does_not_hold_the_socket() {
        let walk = told(&[
            task(40, 40, b"server"),
            file(Kind::Socket, 700, 3, 40),
            task(40, 41, b"server"),
            file(Kind::Socket, 700, 3, 41),
            file(Kind::Socket, 701, 4, 41),
            task(50, 50, b"other"),
            file(Kind::Socket, 701, 9, 50),
        ]);
        assert_eq!(
            held(&walk),
            [(40, 40, 700, 3, How::Fd), (50, 50, 701, 9, How::Fd), (40, 41, 701, 4, How::Thread)]
        );
        assert!(walk.iterated && walk.denied == 0);
        assert_eq!(walk.processes[0].stat.start_ticks, 1234);
    }

    #[test]
    fn threads_without_a_leader_that_share_one_table_are_told_once() {
        let mut parts = Vec::new();
        for tid in 41..45 {
            parts.extend([task(40, tid, b"orphan"), file(Kind::Socket, 700, 3, tid)]);
        }
        parts.extend([task(40, 46, b"orphan"), file(Kind::Socket, 800, 3, 46)]);
        parts.extend([task(60, 61, b"same number"), file(Kind::Socket, 800, 3, 61)]);
        assert_eq!(
            held(&told(&parts)),
            [(40, 41, 700, 3, How::Thread), (40, 46, 800, 3, How::Thread), (60, 61, 800, 3, How::Thread)]
        );
    }

    #[test]
    fn who_has_no_number_any_more_has_ended() {
        let walk = told(&[task(0, 0, b"gone"), file(Kind::Socket, 700, 3, 0)]);
        assert!(walk.held.is_empty() && walk.processes.is_empty());
    }

    /// Where the kernel takes the program; a live test asks the same of the whole.
    #[test]
    fn our_own_socket_is_told_as_ours() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(&one).unwrap().st_ino;
        let source = Source::live().unwrap();
        match references(&source) {
            Ok(all) => assert!(all.contains(&(inode, std::process::id()))),
            Err(refusal) => println!("not tried: {refusal}"),
        }
        drop(other);
    }

    #[test]
    fn a_recording_is_of_what_proc_says() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::live().and_then(|live| live.record_to(&dir.path().join("host"))).unwrap();
        assert_eq!(references(&source), Err(Refusal::NotLoaded));
    }
}
