//! What each holder is: executable, arguments, user, rights, parents, where it stands.
//!
//! Each process is read once, through one handle on /proc/PID, and its start time is compared at the
//! end: either everything is of the process that holds the sockets, or nothing is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use crate::model::{Ancestor, ExeState, Fact, Process, Snapshot, Text};
use crate::source::{FileStat, ProcessDir, Source};

use super::cgroup::{self, Mark};
use super::record;
use super::user::{self, IdRange};
use super::world::{RootKey, Worlds, missing, same_file};

/// USER_HZ: what the kernel counts start times in, on every architecture that we build for.
const TICKS_PER_SECOND: i64 = 100;
/// A chain of parents is not followed further.
const DEEPEST: usize = 64;

/// What was seen of one process beyond its own record.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Which root it has; `None` when we may not look.
    pub(super) world: Option<usize>,
    /// Its ids, where its user namespace and its user names are not ours.
    pub(super) ids: Option<Rc<[IdRange]>>,
    pub(super) container: Option<Mark>,
    /// Where its executable is to be found in that root (`None`: in ours).
    pub(super) program: Option<(Option<usize>, Vec<u8>)>,
    /// Working folder, where the process' own facts were not wanted.
    pub(super) cwd: Option<Text>,
    /// The first process of its pid namespace.
    pub(super) first: bool,
    exe_file: Option<FileStat>,
    marked: bool,
}

/// How many processes could not be read, and why.
#[derive(Debug, Default)]
pub(super) struct Missed {
    pub(super) denied: u64,
    pub(super) ended: u64,
}

/// Fills what /proc tells of every process. One [`Look`] for each, in the same order.
pub(super) fn fill(
    snapshot: &mut Snapshot,
    source: &Source,
    worlds: &mut Worlds<'_>,
    streams: bool,
) -> (Vec<Look>, Missed) {
    let boot = boot_time(source);
    let mut reader =
        Reader { source, streams, ids: Ids::new(source), lineage: Lineage::new(source, &snapshot.processes) };
    let mut missed = Missed::default();
    let mut looks = Vec::with_capacity(snapshot.processes.len());
    for process in &mut snapshot.processes {
        if let Some(boot) = boot {
            let since = i64::try_from(process.start_ticks).unwrap_or(0);
            process.start_time = Fact::Known(boot + since.saturating_mul(1_000_000_000 / TICKS_PER_SECOND));
        }
        process.parents = reader.lineage.of(process);
        let look = reader.read(process, worlds).unwrap_or_else(|_| {
            missed.ended += 1;
            Look::default()
        });
        missed.denied += u64::from(look.world.is_none() && process.exe.is_unknown());
        looks.push(look);
    }
    missed.denied = missed.denied.saturating_sub(missed.ended);
    (looks, missed)
}

/// Finds the roots of these processes, and nothing else of them. One [`Look`] for each process.
pub(super) fn roots(
    snapshot: &Snapshot,
    source: &Source,
    worlds: &mut Worlds<'_>,
    wanted: &BTreeSet<usize>,
) -> Vec<Look> {
    let mut looks: Vec<Look> = std::iter::repeat_with(Look::default).take(snapshot.processes.len()).collect();
    let mut ids = Ids::new(source);
    for &at in wanted {
        let process = &snapshot.processes[at];
        let Ok(dir) = source.process(process.pid) else { continue };
        let gone = || RootKey::read(&dir, "").as_ref().is_err_and(missing);
        let task = gone().then(|| living_thread(&dir)).flatten();
        let (look, at) = (&mut looks[at], folder_of(task));
        let key = RootKey::read(&dir, &at).ok();
        look.cwd = dir.read_link(&format!("{at}cwd")).ok().map(Into::into);
        if is_still(&dir, process, key.is_some()) {
            look.world = key.map(|key| worlds.meet(key, &dir, task, process.start_ticks));
            look.ids = ids.of(&dir, &at, look.world, worlds);
        }
    }
    looks
}

/// Finds unit and container of every process, and nothing else but of `askers`, and of service
/// managers, whose units tell what a socket was made for. One [`Look`] for each process.
pub(super) fn stands(
    snapshot: &mut Snapshot,
    source: &Source,
    worlds: &mut Worlds<'_>,
    askers: &BTreeSet<usize>,
) -> Vec<Look> {
    let mut reader = Reader {
        source,
        streams: false,
        ids: Ids::new(source),
        lineage: Lineage::new(source, &snapshot.processes),
    };
    let mut looks = Vec::with_capacity(snapshot.processes.len());
    for (at, process) in snapshot.processes.iter_mut().enumerate() {
        let whole = askers.contains(&at) || process.name.as_bytes() == b"systemd";
        let look = if whole { reader.read(process, worlds) } else { reader.stand(process, worlds) };
        looks.push(look.unwrap_or_default());
    }
    looks
}

/// Where the files of a process lie below its folder: `""`, or `task/TID/`.
fn folder_of(task: Option<u32>) -> String {
    task.map_or_else(String::new, |task| format!("task/{task}/"))
}

/// Whether the handle is of the process that was recorded, by its start time, and whether it was
/// there to the end. `seen`: something that only a living process shows was read last.
fn is_still(dir: &ProcessDir<'_>, process: &Process, seen: bool) -> bool {
    if seen && dir.start() == Some(process.start_ticks) {
        return true;
    }
    let stat = dir.read("stat").ok().and_then(|bytes| record::stat(&bytes));
    stat.is_some_and(|stat| stat.start_ticks == process.start_ticks)
}

struct Reader<'s> {
    source: &'s Source,
    /// Whether standard streams and network namespace are wanted.
    streams: bool,
    ids: Ids,
    lineage: Lineage<'s>,
}

impl Reader<'_> {
    /// # Errors
    /// As [`Self::read`].
    fn stand(&mut self, process: &mut Process, worlds: &mut Worlds<'_>) -> io::Result<Look> {
        let dir = self.source.process(process.pid)?;
        let (mut read, mut look) = (process.clone(), Look::default());
        let seen = stand(&dir, "", &mut read, &mut look);
        // The name of a container is looked up in its own root.
        let key = look.container.as_ref().and_then(|_| RootKey::read(&dir, "").ok());
        if !is_still(&dir, process, seen) {
            return Err(io::ErrorKind::NotFound.into());
        }
        look.world = key.map(|key| worlds.meet(key, &dir, None, process.start_ticks));
        *process = read;
        Ok(look)
    }

    /// # Errors
    /// When the process has ended, or another has its pid by now; its record is left as it was.
    fn read(&mut self, process: &mut Process, worlds: &mut Worlds<'_>) -> io::Result<Look> {
        let dir = self.source.process(process.pid)?;
        let mut read = process.clone();
        let mut look = Look::default();
        let mut exe = dir.read_link("exe");
        let mut task = None;
        if exe.as_ref().is_err_and(missing) {
            task = living_thread(&dir);
        }
        let at = folder_of(task);
        let name = |file: &str| format!("{at}{file}");
        if task.is_some() {
            exe = dir.read_link(&name("exe"));
        }
        let status = dir.read(&name("status")).map(|bytes| record::status(&bytes)).unwrap_or_default();
        read.uid = known(status.uids.map(|(real, _)| real));
        read.euid = known(status.uids.map(|(_, effective)| effective));
        read.capabilities = known(status.effective_capabilities);
        look.first = process.pid == 1 || status.inner_pid == Some(1);
        let arguments = dir.read(&name("cmdline"));
        // Whoever ends lets go of its arguments and its executable at once (exit_mm() of kernel/exit.c).
        if exe.is_ok() && arguments.as_ref().is_ok_and(Vec::is_empty) && dir.read_link(&name("exe")).is_err()
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        read.cmdline = known(arguments.ok().map(|bytes| record::cmdline(&bytes)));
        read.cwd = link(dir.read_link(&name("cwd")));
        if self.streams {
            for (fd, stream) in read.stdio.0.iter_mut().enumerate().filter(|(_, stream)| stream.is_unknown())
            {
                *stream = link(dir.read_link(&name(&format!("fd/{fd}"))));
            }
            let netns = dir.read_link(&name("ns/net")).ok();
            read.netns = known(netns.as_deref().and_then(record::namespace_inode));
        }
        stand(&dir, &at, &mut read, &mut look);
        if let Ok(target) = &exe {
            let split = record::exe_link(target);
            look.marked = split.marked;
            look.exe_file = dir.stat(&name("exe")).ok();
            read.exe = Fact::Known(split.path.into());
        } else if exe.as_ref().is_err_and(missing) {
            read.exe = Fact::Absent; // a kernel thread, or nothing but a corpse
        }
        let key = RootKey::read(&dir, &at).ok();
        if !is_still(&dir, process, key.is_some()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        look.world = key.map(|key| worlds.meet(key, &dir, task, process.start_ticks));
        look.ids = self.ids.of(&dir, &at, look.world, worlds);
        *process = read;
        Ok(look)
    }
}

/// Unit and container, from the control groups of a process. Whether they could be read.
fn stand(dir: &ProcessDir<'_>, at: &str, process: &mut Process, look: &mut Look) -> bool {
    match dir.read(&format!("{at}cgroup")) {
        Ok(bytes) => {
            let lines = cgroup::parse(&bytes);
            process.unit = cgroup::unit(&lines).into();
            look.container = cgroup::container(&lines);
            process.container = Fact::Absent; // filled from `look` where there is one
            true
        }
        // A kernel without control groups has neither.
        Err(error) if missing(&error) => {
            (process.unit, process.container) = (Fact::Absent, Fact::Absent);
            false
        }
        Err(_) => false,
    }
}

/// How user namespaces number their users.
struct Ids {
    own: Option<Vec<u8>>,
    /// By the link text of `ns/user`.
    maps: BTreeMap<Vec<u8>, Rc<[IdRange]>>,
}

impl Ids {
    fn new(source: &Source) -> Self {
        Self { own: source.proc_link("thread-self/ns/user").ok(), maps: BTreeMap::new() }
    }

    /// The numbering of a process, where its user namespace is not ours. Not asked where its user
    /// names are our own, which go by the numbers that we see.
    fn of(
        &mut self,
        dir: &ProcessDir<'_>,
        at: &str,
        world: Option<usize>,
        worlds: &mut Worlds<'_>,
    ) -> Option<Rc<[IdRange]>> {
        if worlds.people(Some(world?)).is_ok_and(|people| people.ours) {
            return None;
        }
        let users = dir.read_link(&format!("{at}ns/user")).ok()?;
        if Some(&users) == self.own.as_ref() {
            return None;
        }
        if let Some(known) = self.maps.get(&users) {
            return Some(Rc::clone(known));
        }
        let map: Rc<[IdRange]> = user::id_map(&dir.read(&format!("{at}uid_map")).ok()?).into();
        self.maps.insert(users, Rc::clone(&map));
        Some(map)
    }
}

/// A thread that still runs in a process whose leading thread has ended.
fn living_thread(dir: &ProcessDir<'_>) -> Option<u32> {
    let stat = record::stat(&dir.read("stat").ok()?)?;
    if !matches!(stat.state, b'Z' | b'X') {
        return None;
    }
    let threads = dir.list("task").ok()?;
    let mut threads = threads.iter().filter_map(|name| name.parse().ok()).filter(|tid| *tid != dir.pid());
    threads.find(|tid| dir.read_link(&format!("task/{tid}/exe")).is_ok())
}

/// What could not be read is unknown.
fn known<T>(value: Option<T>) -> Fact<T> {
    value.map_or(Fact::Unknown, Fact::Known)
}

/// A link that is not there is absent: a closed descriptor.
fn link(read: io::Result<Vec<u8>>) -> Fact<Text> {
    match read {
        Ok(target) => Fact::Known(target.into()),
        Err(error) if missing(&error) => Fact::Absent,
        Err(_) => Fact::Unknown,
    }
}

/// Names the effective user and tells what became of the executable. Counts the processes whose
/// root could not be asked, by dead mounts for example.
pub(super) fn settle(snapshot: &mut Snapshot, looks: &mut [Look], worlds: &mut Worlds<'_>) -> u64 {
    let mut unasked = 0;
    let mut seen: BTreeMap<(Option<usize>, Vec<u8>), Stands> = BTreeMap::new();
    for at in by_world(looks) {
        let (process, look) = (&mut snapshot.processes[at], &mut looks[at]);
        let Some(world) = look.world else { continue };
        let people = worlds.people(Some(world));
        if let (Fact::Known(euid), Ok(people)) = (&process.euid, &people) {
            process.user = people.name_of(*euid, look.ids.as_deref().unwrap_or_default());
        }
        let mut lost = people.is_err();
        if let (Fact::Known(path), Some(file)) = (&process.exe, look.exe_file) {
            let memory = look.marked
                && path.as_bytes().starts_with(b"/memfd:")
                && file.device != worlds.world(world).key.device;
            if memory {
                process.exe_state = ExeState::Memory;
                continue;
            }
            let mut find = |path: &[u8]| {
                let place = worlds.locate(world, path)?;
                *seen.entry(place.clone()).or_insert_with(|| lookup(worlds, place.0, &place.1))
            };
            let (state, full) = exe_state(path.as_bytes(), look.marked, &file, |path| find(path));
            process.exe_state = state;
            process.exe_file = Some((file.device, file.inode));
            lost |= state == ExeState::Unknown;
            if let Some(full) = full {
                process.exe = Fact::Known(full.into());
            }
        }
        if let Fact::Known(path) = &process.exe
            && !matches!(process.exe_state, ExeState::Memory | ExeState::Unknown)
        {
            look.program = worlds.locate(world, path.as_bytes());
        }
        unasked += u64::from(lost);
    }
    unasked
}

/// What stands at a path: `Some(Err)` for nothing, `None` when nobody can tell.
type Stands = Option<Result<FileStat, ()>>;

/// Indices of all looks, those of one root together, so that each root is opened once.
fn by_world(looks: &[Look]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..looks.len()).collect();
    order.sort_by_key(|&at| looks[at].world);
    order
}

fn lookup(worlds: &mut Worlds<'_>, world: Option<usize>, path: &[u8]) -> Stands {
    match worlds.root(world).and_then(|root| root.stat(path)) {
        Ok(file) => Some(Ok(file)),
        Err(error) if missing(&error) => Some(Err(())),
        Err(_) => None,
    }
}

/// What became of an executable, and its real path where ` (deleted)` is part of its name. `find`
/// tells what stands at a path now.
fn exe_state(
    path: &[u8],
    marked: bool,
    file: &FileStat,
    mut find: impl FnMut(&[u8]) -> Stands,
) -> (ExeState, Option<Vec<u8>>) {
    if marked {
        let full = [path, b" (deleted)"].concat();
        if let Some(Ok(found)) = find(&full)
            && same_file(Some(&found), Some(file))
        {
            return (ExeState::Present, Some(full));
        }
    }
    let state = match find(path) {
        Some(Ok(found)) if same_file(Some(&found), Some(file)) => ExeState::Present,
        Some(Ok(_)) => ExeState::Replaced,
        Some(Err(())) if marked => ExeState::Deleted,
        // Not unlinked, and yet not at its path: covered by a mount, or unmounted lazily.
        Some(Err(())) | None => ExeState::Unknown,
    };
    (state, None)
}

/// When the computer was started: nanoseconds since the epoch, to the tick.
fn boot_time(source: &Source) -> Option<i64> {
    let exact = source.answer("boot-time", || Ok(clocks()?.to_string().into_bytes())).ok();
    let exact = exact.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
    exact.or_else(|| record::boot_seconds(&source.proc_file("stat").ok()?).map(|at| at * 1_000_000_000))
}

/// Difference of the clocks CLOCK_REALTIME and CLOCK_BOOTTIME (clock_gettime(2)), rounded to a tick
/// so that it is the same at each call.
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere there is no answer")]
fn clocks() -> io::Result<i64> {
    use rustix::time::{ClockId, clock_gettime};
    let nanoseconds = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    };
    let boot = nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime);
    let tick = 1_000_000_000 / TICKS_PER_SECOND;
    Ok((boot + tick / 2).div_euclid(tick) * tick)
}

#[cfg(not(target_os = "linux"))]
fn clocks() -> io::Result<i64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Parents of parents, each process read once.
struct Lineage<'s> {
    source: &'s Source,
    known: BTreeMap<u32, Option<Forebear>>,
}

#[derive(Clone)]
struct Forebear {
    name: Text,
    ppid: u32,
    start_ticks: u64,
}

impl<'s> Lineage<'s> {
    fn new(source: &'s Source, processes: &[Process]) -> Self {
        let known = processes.iter().map(|each| {
            let Process { name, ppid, start_ticks, .. } = each;
            (each.pid, Some(Forebear { name: name.clone(), ppid: *ppid, start_ticks: *start_ticks }))
        });
        Self { source, known: known.collect() }
    }

    /// Nearest first, up to the first process of the namespace that we see. Unknown when a link of
    /// the chain cannot be read.
    fn of(&mut self, process: &Process) -> Fact<Vec<Ancestor>> {
        let mut chain = Vec::new();
        let (mut pid, mut start) = (process.ppid, process.start_ticks);
        while pid != 0 && chain.len() < DEEPEST {
            let Some(parent) = self.find(pid) else { return Fact::Unknown };
            if parent.start_ticks > start {
                return Fact::Unknown; // the parent ended, and a newer process has its pid
            }
            chain.push(Ancestor { pid, name: parent.name });
            (pid, start) = (parent.ppid, parent.start_ticks);
        }
        Fact::Known(chain)
    }

    fn find(&mut self, pid: u32) -> Option<Forebear> {
        let source = self.source;
        let found = self.known.entry(pid).or_insert_with(|| {
            let stat = record::stat(&source.process(pid).ok()?.read("stat").ok()?)?;
            Some(Forebear { name: stat.name, ppid: stat.ppid, start_ticks: stat.start_ticks })
        });
        found.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileStat {
        FileStat { device: (8, 1), inode, mode: 0o100_755, uid: 0, gid: 0, links: 1, size: 1, mount: 0 }
    }

    fn state(path: &str, marked: bool, there: &[(&str, u64)]) -> (ExeState, Option<Vec<u8>>) {
        exe_state(path.as_bytes(), marked, &file(7), |asked| {
            let found = there.iter().find(|(name, _)| name.as_bytes() == asked);
            Some(found.map(|(_, inode)| file(*inode)).ok_or(()))
        })
    }

    #[test]
    fn what_became_of_the_program() {
        assert_eq!(state("/x", false, &[("/x", 7)]).0, ExeState::Present);
        assert_eq!(state("/x", true, &[]).0, ExeState::Deleted);
        assert_eq!(state("/x", true, &[("/x", 8)]).0, ExeState::Replaced);
        assert_eq!(state("/x", false, &[("/x", 8)]).0, ExeState::Replaced, "covered by a mount");
        assert_eq!(state("/x", false, &[]).0, ExeState::Unknown);
        assert_eq!(exe_state(b"/x", true, &file(7), |_| None).0, ExeState::Unknown);
    }

    #[test]
    fn a_program_that_is_really_called_so() {
        let (state, full) = state("/x", true, &[("/x (deleted)", 7), ("/x", 8)]);
        assert_eq!((state, full.as_deref()), (ExeState::Present, Some(&b"/x (deleted)"[..])));
    }

    #[test]
    fn a_newer_parent_is_none() {
        let source = Source::live().expect("a source");
        let grown = |pid, ppid, start| Process::new(pid, start, "x".into(), ppid);
        let all = [grown(7, 0, 10), grown(8, 7, 20), grown(9, 7, 5)];
        let mut lineage = Lineage::new(&source, &all);
        assert_eq!(lineage.of(&all[1]), Fact::Known(vec![Ancestor { pid: 7, name: "x".into() }]));
        assert_eq!(lineage.of(&all[2]), Fact::Unknown);
        assert_eq!(lineage.of(&all[0]), Fact::Known(Vec::new()));
    }
}
