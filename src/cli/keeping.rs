//! What `watch --history` keeps, and where.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;

use super::errors::Usage;
use super::interrupt::Pending;
use super::listeners;
use super::session::Session;
use crate::finding::ChangeKind;
use crate::history::{self, Bounds, Keeper, Record, Talks};
use crate::model::Snapshot;
use crate::output::What;
use crate::watch::{Batch, SeenBy};

/// Where this user's history is: root's is the system's.
pub(super) fn usual_place() -> Option<PathBuf> {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from(history::USUAL));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("sockwarden/history.db"))
}

/// A history that is being written.
pub(super) struct Keeping {
    keeper: Keeper,
    talks: Talks,
    /// The first scan, until what stands has been told: it comes after that.
    early: Option<Record>,
    begun: bool,
    own_namespace_only: bool,
    /// Interrupted or not, what was seen is written.
    _pending: Pending,
}

impl Keeping {
    /// `named`: the place, or nothing for the usual one.
    pub(super) fn open(named: Option<&PathBuf>, session: &Session, own: bool) -> anyhow::Result<Self> {
        let place = match named {
            Some(place) => std::path::absolute(place)?,
            None => usual_place().ok_or_else(|| {
                Usage::new("there is no home for a history").help("name a file: --history=FILE.db")
            })?,
        };
        let settings = &session.settings;
        let bounds = Bounds { age: settings.duration("history.age"), size: settings.size("history.size") };
        let keeper = Keeper::open(&place, bounds, listeners::say).context("cannot keep a history")?;
        let pending = Pending::new(keeper.closer());
        Ok(Self {
            keeper,
            talks: Talks::default(),
            early: None,
            begun: false,
            own_namespace_only: own,
            _pending: pending,
        })
    }

    /// A scan has been made.
    pub(super) fn scanned(&mut self, snapshot: &Snapshot) {
        let record = self.talks.scan(Instant::now(), snapshot);
        if self.begun {
            self.keeper.keep(record);
        } else {
            self.early = Some(record);
        }
    }

    /// News, or what stands at the beginning.
    pub(super) fn tell(&mut self, batch: &Batch) {
        let all = || batch.changes.iter().map(super::watch::what);
        if batch.seen_by == SeenBy::Start {
            let sockets = all().filter_map(|what| match what {
                What::Socket { after, .. } => after,
                What::Finding { .. } | What::Lost(_) => None,
            });
            let findings = all().filter_map(|what| match what {
                What::Finding { kind: ChangeKind::Finding, finding, .. } => Some(finding),
                What::Finding { .. } | What::Socket { .. } | What::Lost(_) => None,
            });
            self.keeper.keep(history::standing(batch.at, sockets, findings, self.own_namespace_only));
            self.begun = true;
            self.early.take().into_iter().for_each(|record| self.keeper.keep(record));
            return;
        }
        for what in all() {
            let (kind, before, after, finding) = match what {
                What::Socket { kind, before, after } => (kind, before, after, None),
                What::Finding { kind, finding, .. } => (kind, None, None, Some(finding)),
                What::Lost(_) => continue,
            };
            let record = history::change(batch.at, batch.seen_by.name(), kind, before, after, finding);
            record.into_iter().for_each(|record| self.keeper.keep(record));
        }
    }

    pub(super) fn end(self) {
        self.keeper.end();
    }
}
