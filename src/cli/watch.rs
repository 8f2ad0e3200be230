//! `watch`: changes and findings as they happen.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args as ClapArgs;
use clap::builder::PossibleValuesParser;

use super::args::{Answer, Ground, Words, forms};
use super::errors::{Faults, show};
use super::exec::Runner;
use super::exit::{Exit, Threshold};
use super::filter::{Filter, explanation};
#[cfg(feature = "history")]
use super::keeping::Keeping;
use super::listeners::{Listeners, json, say};
use super::session::Session;
use super::settings::{Settings, duration};
use crate::finding::{ChangeKind, Report, Suppressions};
use crate::model::{Observation, Snapshot, Wants};
use crate::output::{self, Event, Format, What};
use crate::rules::RuleSet;
use crate::scan;
use crate::source::Source;
use crate::watch::{self, Batch, Change, Desk, Hook, Options, SeenBy, Tally, Without};

#[derive(ClapArgs, Debug)]
#[command(after_help = explanation(), mut_arg("format", forms(Format::SCREENS)))]
pub(crate) struct Args {
    #[command(flatten)]
    words: Words,
    /// Connections too, not only what can receive
    #[arg(short, long, help_heading = "View")]
    all: bool,
    /// Network namespaces to look into: all or current
    #[arg(long, value_name = "WHICH", help_heading = "View",
          value_parser = PossibleValuesParser::new(["all", "current"]), hide_possible_values = true)]
    netns: Option<String>,
    /// First what stands already, marked as seen at the start
    #[arg(long, help_heading = "View")]
    standing: bool,
    /// From one full scan to the next [default: 60s, a tenth more or less]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Time")]
    every: Option<Duration>,
    /// How long something must be away to count as closed, so that a restart is no news [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Time")]
    dwell: Option<Duration>,
    /// Do without this hook in the kernel (`doctor` names those in use), or without all; may be repeated
    #[arg(long, value_name = "HOOK", help_heading = "View", value_parser = hook)]
    without_hook: Vec<String>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration, help_heading = "Time")]
    length: Option<Duration>,
    /// Show desktop notifications: findings from `alert.least` on, and new listeners that others can
    /// reach
    #[cfg(feature = "desktop")]
    #[arg(long, help_heading = "Telling")]
    pub(crate) notify: bool,
    /// Let others listen at this UNIX socket; they are told, and can say nothing
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, help_heading = "Telling",
          default_missing_value = crate::watch::publish::USUAL, value_hint = clap::ValueHint::FilePath)]
    pub(crate) publish: Option<PathBuf>,
    /// Run this program for each change that is told, with its JSON on standard input: no shell, no
    /// arguments, four at once
    #[arg(long, value_name = "PROGRAM", help_heading = "Telling", value_hint = clap::ValueHint::ExecutablePath)]
    exec: Option<PathBuf>,
    /// How long the program of --exec may take before it is ended [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Telling", requires = "exec")]
    exec_timeout: Option<Duration>,
    /// Keep first and last sightings, changes, findings and peers in a file that `history` reads
    /// [default: /var/lib/sockwarden/history.db for root, else one at home]
    #[cfg(feature = "history")]
    #[arg(long, value_name = "FILE.db", num_args = 0..=1, require_equals = true, help_heading = "Telling",
          conflicts_with_all = ["filter", "self_test"], value_hint = clap::ValueHint::FilePath)]
    history: Option<Option<PathBuf>>,
    /// Open a harmless door that a rule objects to, and prove that whoever must hear of it does within
    /// 2 seconds: rules, with --notify the desktop, and the subscribers of a watch that publishes
    #[arg(long, conflicts_with_all = ["filter", "all", "netns", "standing", "every", "dwell", "length", "exec", "fail_on"],
          help_heading = "Telling")]
    self_test: bool,
    #[command(flatten)]
    ground: Ground,
    /// End with 1 as soon as a new finding of this severity or above is told: none, info, low,
    /// medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = Threshold::parse, help_heading = "Rules")]
    fail_on: Option<Threshold>,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let filter = Filter::parse(&args.words.filter)?;
    let format = args.answer.format(Format::SCREENS)?;
    let session = Session::open(&args.answer.manner, &args.ground)?;
    if args.self_test {
        return super::selftest::run(&args, format, &session);
    }
    let own_namespace_only =
        args.netns.as_deref().or_else(|| session.settings.get("scan.netns")) == Some("current");
    let options = Options {
        every: args.every.unwrap_or_else(|| session.settings.duration("watch.every")).max(SHORTEST),
        dwell: args.dwell.unwrap_or_else(|| session.settings.duration("watch.dwell")),
        connections: args.all,
        all_namespaces: !own_namespace_only,
        without: without(&args),
        until: args.length.map(|length| Instant::now() + length),
    };
    let (rules, suppressions) = (session.rules()?, session.suppressions()?);
    let mut post = Post {
        session: &session,
        ground: &args.ground,
        upstream: session.settings.upstream(),
        files: session.settings.on_disk(),
        rules,
        suppressions,
        filter,
        format,
        own_namespace_only,
        standing: args.standing,
        threshold: args.fail_on.unwrap_or(Threshold::Never),
        failed: false,
        report: CostReport::new(),
        every: options.every,
        listeners: Listeners::open(&args, &session)?,
        runner: args
            .exec
            .as_ref()
            .map(|program| Runner::start(program, args.exec_timeout.unwrap_or(EXEC_TIMEOUT), say))
            .transpose()?,
        #[cfg(feature = "history")]
        keeping: args
            .history
            .as_ref()
            .map(|named| Keeping::open(named.as_ref(), &session, own_namespace_only))
            .transpose()?,
    };
    let tally = watch::run(&mut post, &options).context("the watch has ended")?;
    let failed = post.failed;
    post.listeners.end();
    if let Some(runner) = post.runner {
        runner.end();
    }
    #[cfg(feature = "history")]
    if let Some(keeping) = post.keeping {
        keeping.end();
    }
    session.console.detail(&cost(&tally));
    Ok(if failed { Exit::Findings } else { Exit::Clean })
}

fn hook(name: &str) -> Result<String, String> {
    let names: Vec<&str> = Hook::ALL.iter().map(|hook| hook.name()).collect();
    let known = Without::default().and(name).is_some();
    if known { Ok(name.to_owned()) } else { Err(format!("there are: all, {}", names.join(", "))) }
}

/// Full scans are no substitute for looks.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a program of `--exec` may take.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// What the watch reports to.
struct Post<'s> {
    session: &'s Session,
    ground: &'s Ground,
    upstream: Option<crate::model::Upstream>,
    files: Vec<PathBuf>,
    rules: RuleSet,
    suppressions: Suppressions,
    filter: Filter,
    format: Format,
    own_namespace_only: bool,
    standing: bool,
    threshold: Threshold,
    failed: bool,
    report: CostReport,
    every: Duration,
    listeners: Listeners,
    runner: Option<Runner>,
    #[cfg(feature = "history")]
    keeping: Option<Keeping>,
}

impl Desk for Post<'_> {
    fn scan(&mut self) -> io::Result<(Snapshot, Report)> {
        let (snapshot, report) =
            look(self.own_namespace_only, self.upstream, &self.rules, &self.suppressions)?;
        #[cfg(feature = "history")]
        if let Some(keeping) = &mut self.keeping {
            keeping.scanned(&snapshot);
        }
        Ok((snapshot, report))
    }

    fn glimpse(&self, snapshot: &mut Snapshot) {
        glimpse(snapshot, self.upstream);
    }

    fn wanted(&self, seen: &Observation<'_>) -> bool {
        (!self.own_namespace_only || seen.namespace().own) && self.filter.matches(seen)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// Whatever is wrong with the new rules, the old ones hold until it is put right.
    fn reload(&mut self) {
        let load = || -> anyhow::Result<(Settings, RuleSet, Suppressions)> {
            let settings = Settings::load(self.ground.config.as_deref(), &self.ground.rules)?;
            let rules = RuleSet::load(&settings.rules).map_err(Faults)?;
            let suppressions = Suppressions::load(&settings.suppressions).map_err(Faults)?;
            Ok((settings, rules, suppressions))
        };
        match load() {
            Ok((settings, rules, suppressions)) => {
                self.upstream = settings.upstream();
                self.files = settings.on_disk();
                (self.rules, self.suppressions) = (rules, suppressions);
                self.session.console.notice("rules and settings have changed and are in force");
            }
            Err(error) => {
                if let Some(Faults(problems)) = error.downcast_ref() {
                    show(problems);
                }
                self.session.console.notice(&format!("{error:#}; what was in force stays in force"));
            }
        }
    }

    fn begun(&mut self, snapshot: &Snapshot, limits: &[String]) -> io::Result<()> {
        let count = snapshot.observations().filter(|each| self.wanted(each)).count();
        self.session.console.notice(&format!(
            "watching {count} sockets in {} network namespaces; everything is read anew every {} s",
            snapshot.namespaces.len(),
            self.every.as_secs_f64().round(),
        ));
        for limit in limits {
            self.session.console.notice(limit);
        }
        for gap in &snapshot.gaps {
            self.session.console.detail(&format!("out of sight: {}: {}", gap.what, gap.why));
        }
        Ok(())
    }

    fn tell(&mut self, batch: Batch) -> io::Result<ControlFlow<()>> {
        self.listeners.tell(&batch);
        #[cfg(feature = "history")]
        if let Some(keeping) = &mut self.keeping {
            keeping.tell(&batch);
        }
        if batch.seen_by == SeenBy::Start && !self.standing {
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(runner) = &self.runner {
            events(&batch).for_each(|event| runner.run(json(&event)));
        }
        let console = &self.session.console;
        console.answer_io(|out| {
            events(&batch).try_for_each(|event| output::event(out, self.format, &event, &console.style))
        })?;
        let counts = |change: &Change| match &change.finding {
            Some((_, finding)) => {
                change.kind == ChangeKind::Finding && self.threshold.reached(std::slice::from_ref(finding))
            }
            None => false,
        };
        if batch.seen_by != SeenBy::Start && batch.changes.iter().any(counts) {
            self.failed = true;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn stand(&mut self, batch: Batch) {
        self.listeners.stand(&batch);
    }

    fn is_asked(&mut self) -> bool {
        self.listeners.turn()
    }

    fn turn(&mut self, tally: &Tally) {
        if self.report.asked() {
            self.session.console.notice(&cost(tally));
        }
    }
}

/// The hooks in the kernel that we are to do without.
pub(super) fn without(args: &Args) -> Without {
    args.without_hook.iter().fold(Without::default(), |without, name| without.and(name).unwrap_or(without))
}

/// See [`Desk::glimpse`].
pub(super) fn glimpse(snapshot: &mut Snapshot, upstream: Option<crate::model::Upstream>) {
    if let Ok(source) = Source::live() {
        scan::glimpse(&source, snapshot, upstream);
    }
}

/// Everything that is so now, judged.
pub(super) fn look(
    own_namespace_only: bool,
    upstream: Option<crate::model::Upstream>,
    rules: &RuleSet,
    suppressions: &Suppressions,
) -> io::Result<(Snapshot, Report)> {
    let wants = Wants { all_namespaces: !own_namespace_only, gentle: true, ..Wants::EVERYTHING };
    let mut snapshot = scan::gather(&Source::live()?, &wants);
    let report = scan::judge(&mut snapshot, upstream, rules, suppressions);
    Ok((snapshot, report))
}

/// A change as outputs know it.
pub(crate) fn what(change: &Change) -> What<'_> {
    match &change.finding {
        Some((snapshot, finding)) => What::Finding { kind: change.kind, snapshot, finding },
        None => What::Socket {
            kind: change.kind,
            before: change.before.as_ref().map(|kept| kept.observe()),
            after: change.after.as_ref().map(|kept| kept.observe()),
        },
    }
}

/// A batch as outputs know it.
pub(crate) fn events(batch: &Batch) -> impl Iterator<Item = Event<'_>> {
    let seen_by = batch.seen_by.name();
    let lost = (batch.lost > 0).then_some(What::Lost(batch.lost));
    let changes = batch.changes.iter().map(what);
    lost.into_iter().chain(changes).map(move |what| Event { at: batch.at, seen_by, what })
}

/// What the watch has cost and done.
fn cost(tally: &Tally) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let blind = tally
        .blind
        .map_or_else(|| "not yet measured".to_owned(), |blind| format!("{:.0} ms", milliseconds(blind)));
    format!(
        "{} looks of {:.2} ms, {} scans (the last {:.1} ms), {} changes told, {} of them seen by the \
         regular scan alone, signs lost {} times; longest time between two looks of late: {blind}{}",
        tally.looks,
        milliseconds(tally.look),
        tally.scans,
        milliseconds(tally.scan),
        tally.changes,
        tally.missed,
        tally.lost,
        own_cost().map_or_else(String::new, |own| format!("; {own}")),
    )
}

#[cfg(unix)]
fn own_cost() -> Option<String> {
    let times = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = times.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of 1/100 s on every Linux that we know.
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim();
    Some(format!("{:.2} s of processor time, {resident} resident", ticks as f64 / 100.0))
}

#[cfg(not(unix))]
fn own_cost() -> Option<String> {
    None
}

/// Whether somebody has asked what the watch costs (SIGUSR1).
struct CostReport(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl CostReport {
    fn new() -> Self {
        let asked = std::sync::Arc::default();
        #[cfg(unix)]
        {
            // Without it nobody can ask, and nothing else is lost.
            let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, std::sync::Arc::clone(&asked));
        }
        Self(asked)
    }

    fn asked(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}
