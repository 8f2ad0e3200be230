//! Loads the programs of `events.bpf.c` and hears what they tell.
//!
//! The object beside this file is what clang makes of the source; `.ci/run` makes it again and
//! compares. Nothing here needs a compiler.

#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};

use super::Refusal;
use crate::collect::linux::rights;
use crate::source::Source;

static OBJECT: &[u8] = aya::include_bytes_aligned!("events.bpf.o");

/// Where `COUNTS` counts what there was no room for.
const LOST: u32 = 0;

/// The programs that the kernel took; they go when this is dropped.
pub(crate) struct Programs {
    ring: RingBuf<MapData>,
    counts: Array<MapData, u64>,
    /// What had been lost when it was last asked.
    lost: u64,
    _kept: Ebpf,
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Programs").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Programs {
    /// # Errors
    /// Why the kernel does not take them.
    pub(crate) fn load(source: &Source) -> Result<Self, Refusal> {
        if rights::unshown(source).is_some() {
            return Err(Refusal::Foreign);
        }
        let btf = Btf::from_sys_fs().map_err(|error| Refusal::Types(error.to_string()))?;
        let mut kept = EbpfLoader::new().btf(Some(&btf)).load(OBJECT).map_err(|error| refused(&error))?;
        let program: &mut BtfTracePoint = kept
            .program_mut("listening")
            .ok_or_else(|| Refusal::Kernel("the object has no such program".to_owned()))?
            .try_into()
            .map_err(|error| refused(&error))?;
        program.load("inet_sock_set_state", &btf).map_err(|error| refused(&error))?;
        program.attach().map_err(|error| refused(&error))?;
        let missing = || Refusal::Kernel("the object lacks a map".to_owned());
        let ring = RingBuf::try_from(kept.take_map("EVENTS").ok_or_else(missing)?);
        let counts = Array::try_from(kept.take_map("COUNTS").ok_or_else(missing)?);
        Ok(Self {
            ring: ring.map_err(|error| refused(&error))?,
            counts: counts.map_err(|error| refused(&error))?,
            lost: 0,
            _kept: kept,
        })
    }

    /// Hands over what was told since the last time, without waiting, and returns how much was lost
    /// meanwhile.
    pub(crate) fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> u64 {
        while let Some(record) = self.ring.next() {
            take(&record);
        }
        let lost = self.counts.get(&LOST, 0).unwrap_or(self.lost);
        let more = lost.saturating_sub(self.lost);
        self.lost = lost;
        more
    }

    pub(crate) fn has_told(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut ring = [PollFd::new(&self.ring, PollFlags::IN)];
        poll(&mut ring, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Readable when something has been told.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
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
