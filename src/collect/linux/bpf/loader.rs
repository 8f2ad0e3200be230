//! Loads the programs of `events.bpf.c` and hears what they tell.
//!
//! The object beside this file is what clang makes of the source; `.ci/run` makes it again and
//! compares. Nothing here needs a compiler.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;

use aya::maps::{Array, RingBuf};
use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSock, Program, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader};

use super::ear::Ear;
use super::hooks::{Hook, Purpose, Without};
use super::{Refusal, Refused};
use crate::collect::linux::rights;
use crate::source::{Source, give_back_memory};

static OBJECT: &[u8] = aya::include_bytes_aligned!("events.bpf.o");

/// The programs that the kernel took; they go when this is dropped.
pub(crate) struct Programs {
    ear: Ear,
    used: Vec<Hook>,
    refused: Vec<Refused>,
    _kept: Ebpf,
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used: Vec<&str> = self.used.iter().map(|hook| hook.name()).collect();
        formatter.debug_struct("Programs").field("used", &used).finish_non_exhaustive()
    }
}

impl Programs {
    /// Each purpose gets the best hook that the kernel takes.
    ///
    /// # Errors
    /// Why the kernel takes none of them.
    pub(crate) fn load(source: &Source, without: Without) -> Result<Self, Refusal> {
        let loaded = Self::load_each(source, without);
        // The description of the kernel's types is by far the largest thing that we ever hold.
        give_back_memory();
        loaded
    }

    fn load_each(source: &Source, without: Without) -> Result<Self, Refusal> {
        if rights::unshown(source).is_some() {
            return Err(Refusal::Foreign);
        }
        let btf = Btf::from_sys_fs().map_err(|error| Refusal::Types(error.to_string()))?;
        let mut kept = EbpfLoader::new().btf(Some(&btf)).load(OBJECT).map_err(|error| refused(&error))?;
        let (mut used, mut refused_ones) = (Vec::new(), Vec::new());
        for purpose in Purpose::ALL {
            for hook in purpose.hooks() {
                let tried =
                    if without.has(*hook) { Err(Refusal::Unwanted) } else { attach(&mut kept, *hook, &btf) };
                match tried {
                    Ok(()) => {
                        used.push(*hook);
                        break;
                    }
                    Err(why) => refused_ones.push(Refused { hook: *hook, why }),
                }
            }
        }
        if used.is_empty() {
            return Err(refused_ones.into_iter().next().map_or(Refusal::NotLoaded, |first| first.why));
        }
        let missing = || Refusal::Kernel("the object lacks a map".to_owned());
        let ring = RingBuf::try_from(kept.take_map("EVENTS").ok_or_else(missing)?);
        let counts = Array::try_from(kept.take_map("COUNTS").ok_or_else(missing)?);
        let ring = ring.map_err(|error| refused(&error))?;
        let counts = counts.map_err(|error| refused(&error))?;
        Ok(Self {
            ear: Ear::open(ring, counts).map_err(|error| refused(&error))?,
            used,
            refused: refused_ones,
            _kept: kept,
        })
    }

    /// The hooks in use.
    pub(crate) fn used(&self) -> &[Hook] {
        &self.used
    }

    /// Those that the kernel refused, or somebody did not want.
    pub(crate) fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Hands over what was told since the last time, without waiting, each with whether anything was
    /// lost meanwhile, and returns how much.
    pub(crate) fn drain(&mut self, take: &mut dyn FnMut(&[u8], bool)) -> u64 {
        self.ear.empty(take)
    }

    pub(crate) fn has_told(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let bell = self.descriptor();
        let mut bell = [PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        poll(&mut bell, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Readable when something has been told.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.ear.descriptor()
    }
}

fn attach(object: &mut Ebpf, hook: Hook, btf: &Btf) -> Result<(), Refusal> {
    let missing = || Refusal::Kernel("the object has no such program".to_owned());
    let program = object.program_mut(hook.program()).ok_or_else(missing)?;
    hang(program, hook, btf).map_err(|error| refused(&error))
}

fn hang(program: &mut Program, hook: Hook, btf: &Btf) -> Result<(), ProgramError> {
    let event = hook.name().rsplit('/').next().unwrap_or_default();
    match hook {
        Hook::TcpState => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(event, btf)?;
            program.attach()?;
        }
        Hook::TcpStatePlain => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(event)?;
        }
        Hook::Bind4 | Hook::Bind6 | Hook::Release => {
            let program: &mut CgroupSock = program.try_into()?;
            program.load()?;
            // Others' programs stay: a link joins them (Linux 5.7).
            program.attach(control_groups()?, CgroupAttachMode::Single)?;
        }
    }
    Ok(())
}

/// The root of all control groups: what hangs there is asked of every process of the machine.
fn control_groups() -> io::Result<File> {
    /// What the kernel calls the topmost folder (fs/kernfs/mount.c); that of a namespace has another.
    const TOPMOST: u64 = 1;
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    // Those of version 1 have no such file.
    let second = |place: &&&str| std::fs::exists(format!("{place}/cgroup.controllers")).unwrap_or(false);
    let Some(place) = mounts.iter().find(second) else {
        return Err(io::Error::other("no control groups of version 2 are mounted"));
    };
    let root = File::open(place)?;
    if root.metadata()?.ino() != TOPMOST {
        return Err(io::Error::other("the control groups seen here are not those of the whole machine"));
    }
    Ok(root)
}

/// The kernel's own words, and those of everybody in between.
fn refused(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let mut words = Vec::new();
    let mut denied = false;
    let mut each = Some(error);
    while let Some(error) = each {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            denied |= error.kind() == std::io::ErrorKind::PermissionDenied;
        }
        words.push(error.to_string().lines().next().unwrap_or_default().to_owned());
        each = error.source();
    }
    words.dedup();
    let why = words.join(": ");
    if denied { Refusal::Denied(why) } else { Refusal::Kernel(why) }
}
