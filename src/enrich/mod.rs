//! Facts about the holders and the place: readers that never judge.
//!
//! Everything about a process is read in its own namespaces: its users, paths, packages and units
//! are those of its own root. What cannot be read stays unknown and is counted in a gap; no program
//! is ever run, and no device or pipe is opened.

#![forbid(unsafe_code)]

pub mod access;
pub mod activation;
pub mod cgroup;
pub mod container;
mod gaps;
mod host;
pub mod interface;
pub mod netlink;
mod owner;
pub mod package;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod process;
pub mod record;
pub mod rpm;
pub mod unit_file;
pub mod user;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ExeState, Fact, Snapshot, Wants};
use crate::source::Source;

use gaps::{
    ACCESS, AS_ROOT, CONTAINERS, ENDED, GONE, INTERFACES, PACKAGES, PROCESSES, ROOTS, RPM, UNITS, gap,
};
use package::Unread;
use process::Look;
use world::Worlds;

/// Fills what `wants` asks for: the host, the facts of every process, interfaces and settings of
/// every namespace, and who may connect to UNIX sockets.
pub fn context(snapshot: &mut Snapshot, source: &Source, wants: &Wants) {
    let before = snapshot.gaps.len();
    fill(snapshot, source, wants);
    for gap in &mut snapshot.gaps[before..] {
        if gap.remedy.as_deref() == AS_ROOT {
            gap.remedy = lift(source).map(Into::into);
        }
    }
}

/// What more rights would be: those of root, or for a root that lacks it the one to look into
/// others. Where we have both, nothing helps.
fn lift(source: &Source) -> Option<&'static str> {
    const SYS_PTRACE: u64 = 1 << 19;
    let status = source.proc_file("thread-self/status").map(|text| record::status(&text)).unwrap_or_default();
    let capable = status.effective_capabilities.is_some_and(|set| set & SYS_PTRACE != 0);
    match status.uids {
        Some((_, 0)) if capable => None,
        Some((_, 0)) => Some("give it CAP_SYS_PTRACE (docker run --cap-add SYS_PTRACE --pid host …)"),
        Some(_) | None => AS_ROOT,
    }
}

fn fill(snapshot: &mut Snapshot, source: &Source, wants: &Wants) {
    host::fill(&mut snapshot.host, source);
    if wants.places {
        let unread = interface::fill(&mut snapshot.namespaces, source);
        gap(snapshot, &INTERFACES, unread);
    }
    if !(wants.processes || wants.units || wants.packages || wants.places) {
        return;
    }
    #[cfg(not(target_os = "linux"))]
    if source.is_live() {
        if wants.processes {
            let unread = portable::fill(&mut snapshot.processes);
            gap(snapshot, &PROCESSES, unread);
        }
        return;
    }
    let mut worlds = Worlds::new(source);
    let looks = if wants.processes || wants.packages {
        let (mut looks, missed) = process::fill(snapshot, source, &mut worlds, wants.streams);
        gap(snapshot, &PROCESSES, missed.denied);
        gap(snapshot, &ENDED, missed.ended);
        let unasked = process::settle(snapshot, &mut looks, &mut worlds);
        gap(snapshot, &ROOTS, unasked);
        looks
    } else if wants.units {
        let askers = if wants.places { access::askers(snapshot) } else { BTreeSet::new() };
        process::stands(snapshot, source, &mut worlds, &askers)
    } else {
        process::roots(snapshot, source, &mut worlds, &access::askers(snapshot))
    };
    if wants.processes || wants.units {
        let unread = container::fill(snapshot, &looks, source);
        gap(snapshot, &CONTAINERS, unread);
        let unread = activation::fill(snapshot, &looks, &mut worlds);
        gap(snapshot, &UNITS, unread);
    }
    if wants.processes {
        owner::fill(snapshot, &looks, &mut worlds);
    }
    if wants.packages {
        packages(snapshot, &looks, &mut worlds);
    }
    if wants.places {
        let (gone, unread) = access::fill(snapshot, &looks, &mut worlds);
        gap(snapshot, &GONE, gone);
        gap(snapshot, &ACCESS, unread);
    }
}

/// Device and inode of a package data base; roots that share one are asked once.
type Base = ((u32, u32), u64);

/// What is asked of one data base.
#[derive(Default)]
struct Wanted {
    /// A root that has it; `None` is ours.
    world: Option<usize>,
    paths: BTreeSet<Vec<u8>>,
    /// Those that run these programs.
    processes: Vec<usize>,
}

/// Fills the package of every executable that still is, or was, a file.
fn packages(snapshot: &mut Snapshot, looks: &[Look], worlds: &mut Worlds<'_>) {
    let mut wanted: BTreeMap<Option<Base>, Wanted> = BTreeMap::new();
    let mut bases: BTreeMap<Option<usize>, Option<Option<Base>>> = BTreeMap::new();
    let (mut unread, mut rpm) = (0, 0);
    for (at, look) in looks.iter().enumerate() {
        let process = &mut snapshot.processes[at];
        if process.exe_state == ExeState::Memory || process.exe == Fact::Absent {
            process.package = Fact::Absent;
            continue;
        }
        let Some((world, path)) = &look.program else {
            unread += u64::from(look.world.is_some());
            continue;
        };
        let base = bases.entry(*world).or_insert_with(|| worlds.root(*world).ok().map(package::base));
        let Some(base) = base else {
            unread += 1;
            continue;
        };
        if base.is_none() {
            process.package = Fact::Absent;
            continue;
        }
        let entry = wanted.entry(*base).or_insert_with(|| Wanted { world: *world, ..Wanted::default() });
        entry.paths.insert(path.clone());
        entry.processes.push(at);
    }
    for Wanted { world, paths, processes } in wanted.into_values() {
        let (found, why) = match worlds.root(world) {
            Ok(root) => package::packages(root, &paths),
            Err(error) => (BTreeMap::new(), Some(Unread::Failed(error))),
        };
        for at in processes {
            let path = looks[at].program.as_ref().map(|(_, path)| path);
            match (path.and_then(|path| found.get(path)), &why) {
                (Some(package), _) => snapshot.processes[at].package = package.clone(),
                (None, Some(Unread::Rpm)) => rpm += 1,
                (None, Some(Unread::Failed(_)) | None) => unread += 1,
            }
        }
    }
    gap(snapshot, &RPM, rpm);
    gap(snapshot, &PACKAGES, unread);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::model::{Namespace, Process};

    /// A snapshot of this very process in its own namespace.
    fn own(source: &Source) -> Snapshot {
        let pid = std::process::id();
        let stat = source.process(pid).and_then(|dir| dir.read("stat")).expect("our own record");
        let stat = record::stat(&stat).expect("a record");
        Snapshot {
            processes: vec![Process::new(pid, stat.start_ticks, stat.name, stat.ppid)],
            namespaces: vec![Namespace {
                inode: source.own_netns().expect("a namespace"),
                own: true,
                ..Namespace::default()
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn tells_of_this_very_process() {
        let source = Source::live().expect("a source");
        let mut snapshot = own(&source);
        context(&mut snapshot, &source, &Wants::EVERYTHING);
        let me = &snapshot.processes[0];
        let exe = std::env::current_exe().expect("a program");
        assert_eq!(me.exe.known().map(|exe| exe.lossy().into_owned()).as_deref(), exe.to_str());
        assert_eq!(me.exe_state, ExeState::Present);
        assert_eq!(me.package, Fact::Absent, "no package ships a test");
        assert_eq!(me.cmdline.known().map(Vec::len), Some(std::env::args_os().count()));
        assert_eq!(me.netns.known(), Some(&snapshot.namespaces[0].inode));
        assert!(me.parents.known().is_some() && me.capabilities.known().is_some());
        let age = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos();
        let age = i64::try_from(age).expect("before 2262") - me.start_time.known().expect("a start time");
        assert!((0..3_600_000_000_000).contains(&age), "started {age} ns ago");
        let interfaces = snapshot.namespaces[0].interfaces.known().expect("interfaces");
        let lo = interfaces.iter().find(|each| each.name.as_bytes() == b"lo").expect("a loopback");
        assert_eq!(lo.kind, crate::model::InterfaceKind::Loopback);
        assert!(snapshot.namespaces[0].sysctls.ephemeral.is_some());
    }

    #[test]
    fn another_process_with_the_same_pid_lends_no_facts() {
        let source = Source::live().expect("a source");
        let mut snapshot = own(&source);
        snapshot.processes[0].start_ticks += 1;
        context(&mut snapshot, &source, &Wants::EVERYTHING);
        assert!(snapshot.processes[0].exe.is_unknown() && snapshot.processes[0].cmdline.is_unknown());
        assert_eq!(snapshot.gaps.iter().find(|gap| gap.id == "process-ended").map(|gap| gap.count), Some(1));
    }

    #[test]
    fn a_recording_tells_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("host");
        let live = Source::live().and_then(|live| live.record_to(&dir)).expect("a recorder");
        let mut first = own(&live);
        context(&mut first, &live, &Wants::EVERYTHING);
        live.finish().expect("a recording");
        let recorded = Source::recorded(&dir).expect("a recording");
        let mut again = own(&recorded);
        context(&mut again, &recorded, &Wants::EVERYTHING);
        assert_eq!(again, first);
    }

    #[test]
    fn reads_only_what_is_wanted() {
        let source = Source::live().expect("a source");
        let nothing = Wants { owners: true, all_namespaces: true, ..Wants::NOTHING };
        let mut snapshot = own(&source);
        context(&mut snapshot, &source, &nothing);
        assert!(snapshot.processes[0].exe.is_unknown() && snapshot.namespaces[0].interfaces.is_unknown());
    }
}
