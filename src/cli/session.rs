//! What every command starts with: settings, a console, the machine or a snapshot of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use super::args::{Ground, Manner, Sight};
use super::console::Console;
use super::errors::Usage;
use super::exit::{Exit, Threshold};
use super::settings::{Settings, shown};
use crate::finding::Report;
use crate::model::{Observation, Snapshot, SocketIndex, Wants, counted};
use crate::output::{Question, RuleRow, View, read_snapshot};
use crate::source::Source;
use crate::{firewall, scan};

/// Larger than the snapshot of any machine that was ever seen.
const SNAPSHOT_LIMIT: u64 = 4 << 30;
/// Stands in a recorded folder that was made with `--netns current`, with that word in it.
const NETNS_FILE: &str = "sockwarden-netns";
const CURRENT: &str = "current";

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
    /// Whether it was replayed from what `snapshot --raw` kept.
    recorded: bool,
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
        let netns = sight.breadth.netns.as_deref().or_else(|| self.settings.get("scan.netns"));
        let recorded = sight.from.as_deref().is_some_and(kept_current_alone);
        if recorded && sight.breadth.netns.as_deref().is_some_and(|asked| asked != CURRENT) {
            self.console.notice("the recording was made with --netns current: there is no more in it");
        }
        Scope {
            from: sight.from.clone(),
            own_namespace_only: recorded || netns == Some(CURRENT),
            strict: sight.breadth.strict || self.settings.get("scan.strict") == Some("true"),
        }
    }

    pub(crate) fn look(&self, scope: &Scope, wants: Wants) -> anyhow::Result<Subject> {
        let mut recorded = false;
        let snapshot = match &scope.from {
            None => self.gather(&live()?, wants),
            Some(place) if place.is_dir() => {
                recorded = true;
                let source =
                    Source::recorded(place).with_context(|| format!("cannot read {}", shown(place)))?;
                self.gather(&source, wants)
            }
            Some(file) => read(file)?,
        };
        let mut subject = Subject { snapshot, report: Report::default(), recorded };
        subject.settle();
        Ok(subject)
    }

    /// Looks at this machine and keeps every byte that was read of it in a folder.
    pub(crate) fn look_and_record(&self, wants: Wants, dir: &Path) -> anyhow::Result<Subject> {
        let context = || format!("cannot record to {}", shown(dir));
        let source = live()?.record_to(dir).with_context(context)?;
        if !wants.all_namespaces {
            fs::write(dir.join(NETNS_FILE), CURRENT).with_context(context)?;
        }
        let snapshot = self.gather(&source, wants);
        source.finish().with_context(context)?;
        Ok(Subject { snapshot, report: Report::default(), recorded: false })
    }

    fn gather(&self, source: &Source, wants: Wants) -> Snapshot {
        let started = Instant::now();
        let snapshot = scan::gather(source, &wants);
        self.console.detail(&format!(
            "read {}, {}, {} in {:.1} ms",
            counted(snapshot.sockets.len(), "socket"),
            counted(snapshot.processes.len(), "process"),
            counted(snapshot.namespaces.len(), "namespace"),
            started.elapsed().as_secs_f64() * 1e3,
        ));
        snapshot
    }

    /// Who can reach each socket, without asking any rule.
    pub(crate) fn expose(&self, subject: &mut Subject) {
        firewall::expose(&mut subject.snapshot, self.settings.upstream());
        subject.settle();
    }

    /// The exit code, and the last words for the curious.
    pub(crate) fn end(&self, view: &View<'_>, threshold: Option<Threshold>, strict: bool) -> Exit {
        self.console.detail(&format!(
            "{} shown, {:.1} ms in all",
            counted(view.selection.len(), "socket"),
            self.started.elapsed().as_secs_f64() * 1e3
        ));
        let violated = threshold.is_some_and(|threshold| threshold.reached(&view.report.findings));
        Exit::of(violated, strict, view.complete())
    }
}

fn live() -> anyhow::Result<Source> {
    Source::live().context("cannot look at this machine")
}

/// Whether `place` is a recording of one network namespace: the others were never read.
fn kept_current_alone(place: &Path) -> bool {
    let file = place.join(NETNS_FILE);
    let small = fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() < 64);
    small && fs::read(file).is_ok_and(|word| word.trim_ascii() == CURRENT.as_bytes())
}

/// `-`: standard input.
pub(crate) fn is_standard_input(place: &Path) -> bool {
    place.as_os_str() == OsStr::new("-")
}

/// Reads a snapshot file, or standard input; whatever else it is, it is refused.
fn read(file: &Path) -> anyhow::Result<Snapshot> {
    let name = if is_standard_input(file) { "standard input".to_owned() } else { shown(file) };
    let context = || format!("cannot read {name}");
    let bytes = if is_standard_input(file) {
        whole(io::stdin().lock(), SNAPSHOT_LIMIT).with_context(context)?
    } else {
        let metadata = fs::metadata(file).with_context(context)?;
        if !metadata.is_file() || metadata.len() > SNAPSHOT_LIMIT {
            let pipe = !metadata.is_file() && !metadata.is_dir();
            let help = if pipe { "`--from -` reads standard input" } else { MADE_BY };
            return Err(Usage::new(format!("{name} is not a snapshot")).help(help).into());
        }
        fs::read(file).with_context(context)?
    };
    read_snapshot(&bytes).map_err(|error| {
        Usage::new(format!("{name} is not a snapshot that can be read: {error}")).help(MADE_BY).into()
    })
}

/// All of a stream, if it is no larger than `limit` bytes.
fn whole(stream: impl io::Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any snapshot"));
    }
    Ok(bytes)
}

const MADE_BY: &str = "snapshots are made by `sockwarden snapshot -o FILE`";

impl Subject {
    /// What was recorded cannot be looked at once more with more rights: its gaps have no remedy.
    pub(crate) fn settle(&mut self) {
        if self.recorded {
            self.snapshot.gaps.iter_mut().for_each(|gap| gap.remedy = None);
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_whole_or_not_at_all() {
        assert_eq!(whole(&b"1234"[..], 4).unwrap(), b"1234");
        assert_eq!(whole(&b"12345"[..], 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(whole(io::repeat(b'x'), 1 << 20).is_err(), "a stream without end ends here");
    }
}
