//! Systems whose tables cannot be looked at cheaply: every look is a scan, which the caller makes.

#![forbid(unsafe_code)]

use super::events::{Brief, Seen, Without};
use crate::model::Snapshot;
use crate::source::Source;

pub(super) const CAN_LOOK: bool = false;

#[derive(Debug)]
pub(super) struct Watcher;

#[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the door is the same on every system")]
impl Watcher {
    pub(super) fn new(_all_namespaces: bool) -> Self {
        Self
    }

    pub(super) fn follow(&mut self, _source: Source, _snapshot: &Snapshot) -> std::io::Result<()> {
        Ok(())
    }

    pub(super) fn look(&mut self) -> Seen {
        Seen { changed: true, ..Seen::default() }
    }

    pub(super) fn load(&mut self, _source: &Source, _without: Without) {}

    pub(super) fn complete(&mut self, _snapshot: &mut Snapshot) -> Seen {
        Seen::default()
    }

    pub(super) fn unsettled(&self) -> bool {
        true
    }

    pub(super) fn hear(&mut self) -> Seen {
        Seen::default()
    }

    pub(super) fn newcomers(&mut self) -> Vec<Brief> {
        Vec::new()
    }

    pub(super) fn heard(&self) -> bool {
        false
    }

    pub(super) fn limits(&self) -> Vec<String> {
        vec!["this system tells of changes only when it is asked for everything".to_owned()]
    }

    #[cfg(unix)]
    pub(super) fn descriptors(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        Vec::new()
    }
}
