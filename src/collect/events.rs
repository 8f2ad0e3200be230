//! What happens among sockets, live: cheap looks at whatever can receive, and what the kernel tells
//! of itself when one ends. Hints only: who wants the truth scans.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::linux::glance as imp;
#[cfg(not(target_os = "linux"))]
use super::unseen as imp;

pub use super::linux::bpf::hooks::{Hook, Without};
use crate::model::{Process, Snapshot, Socket};
use crate::source::Source;

/// Shortest and longest time from one look to the next, while something happens and in quiet.
const BUSY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
const QUIET: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// Looks may take this part of one core: 1/20 while something happens, 1/100 in quiet.
const SHARE: (u32, u32) = (20, 100);
/// Shortest time from one hearing to the next: `REST` of `linux/bpf/events.bpf.c`.
const SOON: Duration = Duration::from_millis(10);
/// Hearing may take this part of one core.
const HEARING_SHARE: u32 = 4;
/// For so long after something happened it is not quiet.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What one look found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Something that can receive has come or gone, or a namespace has come.
    pub changed: bool,
    /// The kernel told of it; else a look found it.
    pub told: bool,
    /// Sockets that were bound, and closed before any scan saw them.
    pub brief: Vec<Brief>,
    /// How often the kernel had more to tell than there was room for.
    pub lost: u64,
}

/// A socket that no scan has seen: it lived shortly, or has just come.
#[derive(Clone, Debug)]
pub struct Brief {
    /// Inode of its namespace.
    pub netns: u64,
    pub socket: Socket,
    /// Who opened it, where a program in the kernel told.
    pub owner: Option<Arc<Process>>,
}

/// Puts down what could not be read any more of a process that ended under our eyes, as a program in
/// the kernel told it.
pub fn describe(process: &mut Process, told: &Process) {
    let same = (process.pid, process.start_ticks) == (told.pid, told.start_ticks);
    if !same || process.exe.known().is_some() || told.exe.known().is_none() {
        return;
    }
    (process.exe, process.exe_state) = (told.exe.clone(), told.exe_state);
    (process.cmdline, process.capabilities) = (told.cmdline.clone(), told.capabilities.clone());
    for (fact, told) in [(&mut process.uid, &told.uid), (&mut process.euid, &told.euid)] {
        if fact.is_unknown() {
            *fact = told.clone();
        }
    }
    if process.parents.is_unknown() {
        process.parents = told.parents.clone();
    }
}

/// The live events of one machine.
#[derive(Debug)]
pub struct Events {
    imp: imp::Watcher,
    last_look: Option<Instant>,
    last_hearing: Option<Instant>,
    last_event: Option<Instant>,
    /// What a look costs, smoothed, and what it took to hear the last time.
    cost: Duration,
    hearing: Duration,
    /// The longest time between two looks, and when it was.
    widest: Option<(Duration, Instant)>,
}

impl Events {
    pub fn new(all_namespaces: bool) -> Self {
        Self {
            imp: imp::Watcher::new(all_namespaces),
            last_look: None,
            last_hearing: None,
            last_event: None,
            cost: Duration::ZERO,
            hearing: Duration::ZERO,
            widest: None,
        }
    }

    /// Whether this system offers cheap looks at all; without them only scans tell.
    pub fn can_look(&self) -> bool {
        imp::CAN_LOOK
    }

    /// Loads what the kernel takes of our programs. Best before the first scan, so that nothing falls
    /// between both.
    pub fn load(&mut self, without: Without) {
        if let Ok(source) = Source::live() {
            self.imp.load(&source, without);
        }
    }

    /// Goes by what a scan found: its sockets are known, its namespaces are watched.
    ///
    /// # Errors
    /// When this machine cannot be looked at (any more).
    pub fn follow(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        self.imp.follow(Source::live()?, snapshot)
    }

    /// Hears what was told while this snapshot was taken, and names who opened what it shows without
    /// owner: the owner was gone before the scan came by.
    pub fn complete(&mut self, snapshot: &mut Snapshot) -> Seen {
        self.heard_by(|imp| imp.complete(snapshot))
    }

    /// Whether a scan would tell anything new.
    pub fn unsettled(&self) -> bool {
        self.imp.unsettled()
    }

    /// Sockets that the kernel has told of since the last time, that still are open, and that no scan
    /// has seen; none in a flood, which is for scans.
    pub fn newcomers(&mut self) -> Vec<Brief> {
        self.imp.newcomers()
    }

    /// What the kernel has told since the last time.
    pub fn hear(&mut self) -> Seen {
        self.heard_by(imp::Watcher::hear)
    }

    fn heard_by(&mut self, hear: impl FnOnce(&mut imp::Watcher) -> Seen) -> Seen {
        let start = Instant::now();
        let seen = hear(&mut self.imp);
        let now = Instant::now();
        self.hearing = now - start;
        self.last_hearing = Some(now);
        if seen.changed || !seen.brief.is_empty() {
            self.last_event = Some(now);
        }
        seen
    }

    /// Looks once, and hears what the kernel has told.
    pub fn look(&mut self) -> Seen {
        let start = Instant::now();
        if let Some(last) = self.last_look {
            let gap = start - last;
            let old = self.widest.is_none_or(|(_, at)| start - at > Duration::from_secs(60));
            if old || self.widest.is_some_and(|(widest, _)| gap > widest) {
                self.widest = Some((gap, start));
            }
        }
        let seen = self.imp.look();
        let now = Instant::now();
        let cost = now - start;
        self.cost = if self.cost.is_zero() { cost } else { (self.cost * 3 + cost) / 4 };
        (self.last_look, self.last_hearing) = (Some(now), Some(now));
        if seen.changed || !seen.brief.is_empty() {
            self.last_event = Some(now);
        }
        seen
    }

    /// How long to wait from one look to the next: looks take a bounded part of one core.
    pub fn pace(&self) -> Duration {
        let busy = self.last_event.is_some_and(|at| at.elapsed() < AFTERMATH);
        let ((shortest, longest), share) = if busy { (BUSY, SHARE.0) } else { (QUIET, SHARE.1) };
        (self.cost * share).clamp(shortest, longest)
    }

    /// When the next look is due.
    pub fn next(&self) -> Instant {
        self.last_look.map_or_else(Instant::now, |last| last + self.pace())
    }

    /// From when on it is worth to hear again. A program in the kernel wakes who sleeps at most this
    /// often and relies on it that everything is heard that much later; in a flood, hearing keeps its
    /// share.
    pub fn listens_from(&self) -> Instant {
        let rest = (self.hearing * HEARING_SHARE).clamp(SOON, BUSY.0);
        self.last_hearing.map_or_else(Instant::now, |last| last + rest)
    }

    pub fn last_look(&self) -> Option<Instant> {
        self.last_look
    }

    /// Whether the kernel has something to tell right now.
    pub fn heard(&self) -> bool {
        self.imp.heard()
    }

    /// What a look costs, on average.
    pub fn cost(&self) -> Duration {
        self.cost
    }

    /// The longest time between two looks within the last minute or so: what lives shorter may not
    /// be seen.
    pub fn blind_window(&self) -> Option<Duration> {
        self.widest.map(|(gap, _)| gap)
    }

    /// What could not be set up, in words, and what it costs.
    pub fn limits(&self) -> Vec<String> {
        self.imp.limits()
    }

    /// What becomes readable when the kernel has something to tell.
    #[cfg(unix)]
    pub fn descriptors(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        self.imp.descriptors()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_take_a_bounded_part_of_a_core() {
        let mut events = Events::new(false);
        events.cost = Duration::from_millis(4);
        assert_eq!(events.pace(), Duration::from_millis(400));
        events.last_event = Some(Instant::now());
        assert_eq!(events.pace(), Duration::from_millis(80));
        events.cost = Duration::from_secs(1);
        assert_eq!(events.pace(), BUSY.1);
        events.cost = Duration::from_micros(1);
        assert_eq!(events.pace(), BUSY.0);
    }
}
