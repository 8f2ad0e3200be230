//! What every command starts with: settings, a console, the machine or a snapshot of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use super::args::{Ground, Manner, Sight};
use super::console::Console;
use super::errors::Usage;
use super::exit::{Exit, Threshold};
use super::settings::{Settings, shown};
use crate::finding::Report;
use crate::model::{Observation, Snapshot, SocketIndex, Wants};
use crate::output::{Question, RuleRow, View, read_snapshot};
use crate::source::Source;
use crate::{firewall, scan};

/// Larger than the snapshot of any machine that was ever seen.
const SNAPSHOT_LIMIT: u64 = 4 << 30;

pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) console: Console,
    started: Instant,
}

/// What is looked at: command line and settings together.
pub(crate) struct Scope {
    from: Option<PathBuf>,
    own_namespace_only: bool,
    pub(crate) strict: bool,
}

impl Scope {
    pub(crate) fn wants(&self, wants: Wants) -> Wants {
        Wants { all_namespaces: !self.own_namespace_only, ..wants }
    }

    pub(crate) fn question(&self) -> Question {
        Question { own_namespace_only: self.own_namespace_only, ..Question::EVERYTHING }
    }
}

/// A snapshot and, once judged, what the rules say of it.
pub(crate) struct Subject {
    pub(crate) snapshot: Snapshot,
    pub(crate) report: Report,
}

impl Session {
    pub(crate) fn open(manner: &Manner, ground: &Ground) -> anyhow::Result<Self> {
        let settings = Settings::load(ground.config.as_deref(), &ground.rules)?;
        Ok(Self::with(manner, settings))
    }

    pub(crate) fn with(manner: &Manner, settings: Settings) -> Self {
        let console = Console::new(manner, &settings);
        settings.skipped.iter().for_each(|note| console.notice(note));
        Self { settings, console, started: Instant::now() }
    }

    pub(crate) fn sight(&self, sight: &Sight) -> Scope {
        let netns = sight.netns.as_deref().or_else(|| self.settings.get("scan.netns"));
        Scope {
            from: sight.from.clone(),
            own_namespace_only: netns == Some("current"),
            strict: sight.strict || self.settings.get("scan.strict") == Some("true"),
        }
    }

    pub(crate) fn look(&self, scope: &Scope, wants: Wants) -> anyhow::Result<Subject> {
        let snapshot = match &scope.from {
            None => self.gather(&live()?, wants),
            Some(place) if place.is_dir() => {
                let recorded =
                    Source::recorded(place).with_context(|| format!("cannot read {}", shown(place)))?;
                self.gather(&recorded, wants)
            }
            Some(file) => read(file)?,
        };
        Ok(Subject { snapshot, report: Report::default() })
    }

    /// Looks at this machine and keeps every byte that was read of it in a folder.
    pub(crate) fn look_and_record(&self, wants: Wants, dir: &Path) -> anyhow::Result<Subject> {
        let context = || format!("cannot record to {}", shown(dir));
        let source = live()?.record_to(dir).with_context(context)?;
        let snapshot = self.gather(&source, wants);
        source.finish().with_context(context)?;
        Ok(Subject { snapshot, report: Report::default() })
    }

    fn gather(&self, source: &Source, wants: Wants) -> Snapshot {
        let started = Instant::now();
        let snapshot = scan::gather(source, &wants);
        self.console.detail(&format!(
            "read {} sockets, {} processes, {} namespaces in {:.1} ms",
            snapshot.sockets.len(),
            snapshot.processes.len(),
            snapshot.namespaces.len(),
            started.elapsed().as_secs_f64() * 1e3,
        ));
        snapshot
    }

    /// Who can reach each socket, without asking any rule.
    pub(crate) fn expose(&self, subject: &mut Subject) {
        firewall::expose(&mut subject.snapshot, self.settings.upstream());
    }

    /// The exit code, and the last words for the curious.
    pub(crate) fn end(&self, view: &View<'_>, threshold: Option<Threshold>, strict: bool) -> Exit {
        self.console.detail(&format!(
            "{} sockets shown, {:.1} ms in all",
            view.selection.len(),
            self.started.elapsed().as_secs_f64() * 1e3
        ));
        let violated = threshold.is_some_and(|threshold| threshold.reached(&view.report.findings));
        Exit::of(violated, strict, view.complete())
    }
}

fn live() -> anyhow::Result<Source> {
    Source::live().context("cannot look at this machine")
}

/// Reads a snapshot file; whatever else it is, it is refused.
fn read(file: &Path) -> anyhow::Result<Snapshot> {
    let context = || format!("cannot read {}", shown(file));
    let metadata = std::fs::metadata(file).with_context(context)?;
    if !metadata.is_file() || metadata.len() > SNAPSHOT_LIMIT {
        return Err(Usage::new(format!("{} is not a snapshot", shown(file))).help(MADE_BY).into());
    }
    let bytes = std::fs::read(file).with_context(context)?;
    read_snapshot(&bytes).map_err(|error| {
        Usage::new(format!("{} is not a snapshot that can be read: {error}", shown(file)))
            .help(MADE_BY)
            .into()
    })
}

const MADE_BY: &str = "snapshots are made by `sockwarden snapshot -o FILE`";

impl Subject {
    /// The sockets in scope that are wanted, in the order of the snapshot.
    pub(crate) fn select(
        &self,
        scope: &Scope,
        wanted: impl Fn(&Observation<'_>) -> bool,
    ) -> Vec<SocketIndex> {
        let in_scope = |seen: &Observation<'_>| !scope.own_namespace_only || seen.namespace().own;
        self.snapshot
            .observations()
            .filter(|seen| in_scope(seen) && wanted(seen))
            .map(|seen| seen.index)
            .collect()
    }

    /// What the rules say of a selection. Findings about suppressions have no socket and belong to
    /// the whole alone.
    pub(crate) fn report_on(&self, selection: &[SocketIndex]) -> Report {
        if selection.len() == self.snapshot.sockets.len() {
            return self.report.clone();
        }
        let chosen: HashSet<_> = selection.iter().copied().collect();
        let touches = |sockets: &[SocketIndex]| sockets.iter().any(|each| chosen.contains(each));
        let mut report = self.report.clone();
        report.findings.retain(|finding| touches(&finding.sockets));
        for undecided in &mut report.undecided {
            undecided.sockets.retain(|each| chosen.contains(each));
        }
        report.undecided.retain(|undecided| !undecided.sockets.is_empty());
        report
    }

    pub(crate) fn view<'v>(
        &'v self,
        report: &'v Report,
        selection: &'v [SocketIndex],
        question: &'v Question,
        rules: &'v [RuleRow],
    ) -> View<'v> {
        View { snapshot: &self.snapshot, report, selection, question, rules }
    }
}
