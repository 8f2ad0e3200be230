//! What makes the watch look again: changed files of rules and settings, and waiting for whatever
//! comes first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files that are compared; a folder with more is not looked through to its end.
const FILES: usize = 10_000;
const DEPTH: usize = 8;

/// Size and time of change of every file below some places.
#[derive(Debug, Default)]
pub struct Files {
    places: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, (u64, Option<SystemTime>)>,
}

impl Files {
    pub fn new(places: Vec<PathBuf>) -> Self {
        let mut files = Self { places, seen: BTreeMap::new() };
        files.changed();
        files
    }

    /// Whether something has changed since the last time.
    pub fn changed(&mut self) -> bool {
        let mut seen = BTreeMap::new();
        for place in &self.places {
            look(place, DEPTH, &mut seen);
        }
        let changed = seen != self.seen;
        self.seen = seen;
        changed
    }
}

fn look(place: &Path, depth: usize, seen: &mut BTreeMap<PathBuf, (u64, Option<SystemTime>)>) {
    let Ok(about) = std::fs::metadata(place) else { return };
    if seen.len() >= FILES {
        return;
    }
    seen.insert(place.to_owned(), (about.len(), about.modified().ok()));
    if about.is_dir() && depth > 0 {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            look(&entry.path(), depth - 1, seen);
        }
    }
}

/// A whole minute would make all machines of a fleet look at once: up to a tenth more or less.
pub(super) fn jitter(period: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0_u8) % 201;
    let part = period / 1_000;
    period.saturating_sub(part * 100) + part * u32::try_from(random).unwrap_or(100)
}

/// Waits until one of these becomes readable, or for `patience`. False when whoever reads standard
/// output has gone.
#[cfg(target_os = "linux")]
pub(super) fn wait(descriptors: &[std::os::fd::BorrowedFd<'_>], patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut waiting: Vec<PollFd<'_>> =
        descriptors.iter().map(|each| PollFd::from_borrowed_fd(*each, PollFlags::IN)).collect();
    waiting.push(PollFd::new(&stdout, PollFlags::empty()));
    let patience = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    // A signal ends the wait as well; whoever waits looks at the time.
    let _ = poll(&mut waiting, Some(&patience));
    waiting.last().is_none_or(|stdout| !stdout.revents().intersects(PollFlags::ERR))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn wait(patience: Duration) -> bool {
    std::thread::sleep(patience);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_rule_is_seen_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules");
        let mut files = Files::new(vec![rules.clone()]);
        assert!(!files.changed());
        std::fs::create_dir_all(rules.join("deep")).unwrap();
        assert!(files.changed());
        std::fs::write(rules.join("deep/a.toml"), "a").unwrap();
        assert!(files.changed() && !files.changed());
        std::fs::write(rules.join("deep/a.toml"), "ab").unwrap();
        assert!(files.changed());
        std::fs::remove_file(rules.join("deep/a.toml")).unwrap();
        assert!(files.changed() && !files.changed());
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let all: Vec<Duration> = (0..200).map(|_| jitter(Duration::from_secs(60))).collect();
        assert!(all.iter().all(|each| (54..=66).contains(&each.as_secs())), "{all:?}");
        assert!(all.iter().any(|each| *each != all[0]));
    }
}
