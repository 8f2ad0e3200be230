//! What changes, as it happens: wait for a sign, scan, compare, tell.
//!
//! Signs are hints, the scan is the truth. A full scan every minute corrects what signs missed, and
//! counts it. Whoever runs the watch hands in a [`Desk`]: the loop knows no rules' files, no
//! terminal and no socket of its own.

#![forbid(unsafe_code)]

mod diff;
#[cfg(unix)]
pub mod publish;
mod trigger;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use diff::{Change, Kept, Ledger};
pub use trigger::Files;

use crate::collect::events::{Brief, Events, Seen, describe};
pub use crate::collect::events::{Hook, Without};
use crate::finding::{ChangeKind, Report};
use crate::firewall::generation::Generation;
use crate::model::{
    Holder, How, Namespace, NamespaceId, Observation, Process, ProcessId, Snapshot, SocketIndex, Span,
};
use crate::source::Source;

/// What is gone so soon after the kernel told of it is told without a scan.
const SHORTLY: Duration = Duration::from_millis(10);
/// What was told ahead of a scan may wait for it so long.
const TOLD: Duration = Duration::from_millis(100);
/// Telling ahead must be quick; where it is not, it is left to the scans for a while.
const QUICK: Duration = Duration::from_millis(20);
const LEFT: Duration = Duration::from_secs(10);
/// A change of addresses or rules seldom comes alone.
const SETTLE: Duration = Duration::from_millis(50);
/// Scans that signs ask for may take this part of one core.
const SCAN_SHARE: u32 = 4;
/// How often files of rules and settings are looked at.
const FILES_EVERY: Duration = Duration::from_secs(1);
/// Where every look is a scan: its share of one core, and the bounds of the time between two.
const PORTABLE: (u32, Duration, Duration) = (50, Duration::from_secs(1), Duration::from_secs(30));

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From one full scan to the next, unless something happens.
    pub every: Duration,
    /// How long something must be away to count as gone.
    pub dwell: Duration,
    /// Connections too, not only what can receive.
    pub connections: bool,
    pub all_namespaces: bool,
    /// Hooks in the kernel that shall not be used.
    pub without: Without,
    /// When to end; never by itself without.
    pub until: Option<Instant>,
}

/// What made the watch see a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeenBy {
    /// It stood when the watch began.
    Start,
    /// A look at what can receive.
    Look,
    /// The kernel told of it, or a file changed.
    Event,
    /// The regular full scan: no sign had announced it.
    Reconciliation,
}

impl SeenBy {
    pub const ALL: &'static [Self] = &[Self::Start, Self::Look, Self::Event, Self::Reconciliation];

    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Look => "look",
            Self::Event => "event",
            Self::Reconciliation => "reconciliation",
        }
    }
}

/// News of one moment.
#[derive(Debug)]
pub struct Batch {
    /// Nanoseconds since the epoch.
    pub at: i64,
    pub seen_by: SeenBy,
    pub changes: Vec<Change>,
    /// How often signs were lost before this; everything has been read anew since.
    pub lost: u64,
}

/// What the watch has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub looks: u64,
    pub scans: u64,
    pub changes: u64,
    /// Changes that only the regular full scan saw.
    pub missed: u64,
    pub lost: u64,
    /// What the last scan took, and one look on average.
    pub scan: Duration,
    pub look: Duration,
    /// The longest time between two looks of late.
    pub blind: Option<Duration>,
}

/// Whoever runs the watch.
pub trait Desk {
    /// Everything that is so now, judged.
    ///
    /// # Errors
    /// When this machine cannot be looked at.
    fn scan(&mut self) -> io::Result<(Snapshot, Report)>;

    /// What can be said at once of a snapshot of one socket that has just come, with the places of
    /// the last scan.
    fn glimpse(&self, snapshot: &mut Snapshot);

    /// Whether changes of this socket are wanted.
    fn wanted(&self, seen: &Observation<'_>) -> bool;

    /// Files and folders that decide what a scan says.
    fn files(&self) -> Vec<PathBuf>;

    /// Some of them have changed.
    fn reload(&mut self);

    /// The first scan is done.
    ///
    /// # Errors
    /// Those of telling.
    fn begun(&mut self, snapshot: &Snapshot, limits: &[String]) -> io::Result<()>;

    /// Tells the news; `Break` ends the watch.
    ///
    /// # Errors
    /// Those of telling.
    fn tell(&mut self, batch: Batch) -> io::Result<ControlFlow<()>>;

    /// What stands now, for those who have come meanwhile.
    fn stand(&mut self, batch: Batch);

    /// Whether somebody has come who does not know what stands.
    fn is_asked(&mut self) -> bool;

    /// Between two waits: whoever wants to know what the watch costs is told here.
    fn turn(&mut self, tally: &Tally);
}

/// Watches until the desk has enough, the time is over, or nobody reads standard output any more.
///
/// # Errors
/// Those of the first scan, and of telling.
pub fn run(desk: &mut dyn Desk, options: &Options) -> io::Result<Tally> {
    let mut events = Events::new(options.all_namespaces);
    events.load(options.without);
    let mut watch = Watch {
        options: *options,
        events,
        generation: Generation::default(),
        ledger: Ledger::new(options.dwell, options.connections),
        files: Files::new(desk.files()),
        tally: Tally::default(),
        ahead_from: Instant::now(),
    };
    let (flow, due) = watch.begin(desk)?;
    if flow.is_continue() {
        watch.follow(desk, due)?;
    }
    Ok(watch.tally)
}

struct Watch {
    options: Options,
    events: Events,
    generation: Generation,
    ledger: Ledger,
    files: Files,
    tally: Tally,
    /// From when on it is tried again to tell ahead of scans.
    ahead_from: Instant,
}

/// A scan that is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    seen_by: SeenBy,
    /// Only because of a sign, which may mean nothing any more by then.
    hint: bool,
}

impl Watch {
    /// Tells too whether something has changed meanwhile, so that another scan is due.
    fn begin(&mut self, desk: &mut dyn Desk) -> io::Result<(ControlFlow<()>, Option<Due>)> {
        let (batch, changed) = self.scan(desk, SeenBy::Start)?;
        // What is there now and was not there for the scan has come in between.
        let seen = self.events.look();
        let changed = changed || seen.changed || seen.lost > 0;
        let due = changed.then(|| Due { hint: seen.lost == 0, ..Due::new(Instant::now(), SeenBy::Look) });
        let limits: Vec<String> = self.events.limits().into_iter().chain(self.generation.limits()).collect();
        desk.begun(self.ledger.standing().0, &limits)?;
        let mut flow = desk.tell(batch)?;
        if flow.is_continue() {
            let (lost, changes) = (seen.lost, self.brief(desk, seen));
            flow = self.deliver(desk, Batch { at: epoch(), seen_by: SeenBy::Look, changes, lost })?;
        }
        Ok((flow, due))
    }

    fn follow(&mut self, desk: &mut dyn Desk, mut due: Option<Due>) -> io::Result<()> {
        let mut reconcile = Instant::now() + trigger::jitter(self.options.every);
        let mut files_at = Instant::now() + FILES_EVERY;
        let mut rested = Instant::now();
        loop {
            let listening = self.events.listens_from();
            let deaf = Instant::now() < listening;
            let next = [
                Some(reconcile),
                Some(files_at),
                due.map(|due| due.at.max(rested)),
                Some(self.next_look()),
                deaf.then_some(listening),
                self.ledger.next_expiry().filter(|_| due.is_none()),
                self.options.until,
            ];
            if !self.wait(next.into_iter().flatten().min(), deaf) {
                return Ok(());
            }
            let now = Instant::now();
            let mut batch = Batch { at: epoch(), seen_by: SeenBy::Event, changes: Vec::new(), lost: 0 };
            if self.generation.changed() {
                due = Some(sooner(due, Due::new(now + SETTLE, SeenBy::Event)));
            }
            if now >= files_at {
                files_at = now + FILES_EVERY;
                if self.files.changed() {
                    desk.reload();
                    self.files = Files::new(desk.files());
                    due = Some(sooner(due, Due::new(now, SeenBy::Event)));
                }
            }
            let look = now >= self.next_look() || now >= reconcile;
            if look || now >= listening && self.events.heard() {
                let seen = if look { self.look() } else { self.events.hear() };
                let (changed, lost, told) = (seen.changed, seen.lost, seen.told);
                batch.lost = lost;
                batch.changes.extend(self.brief(desk, seen));
                let ahead = self.ahead(desk);
                if changed || lost > 0 {
                    let seen_by = if told { SeenBy::Event } else { SeenBy::Look };
                    let at = now + if ahead.is_empty() || lost > 0 { SHORTLY } else { TOLD };
                    due = Some(sooner(due, Due { hint: lost == 0, ..Due::new(at, seen_by) }));
                }
                batch.changes.extend(ahead);
            }
            // What is said to be away may have come back, if a scan is due.
            if due.is_none() {
                batch.changes.extend(self.ledger.expire(now));
            }
            if self.deliver(desk, batch)?.is_break() {
                return Ok(());
            }
            if now >= reconcile {
                reconcile = now + trigger::jitter(self.options.every);
                due = Some(sooner(due, Due::new(now, SeenBy::Reconciliation)));
            }
            if let Some(scan) = due.filter(|due| now >= due.at && now >= rested) {
                due = None;
                if scan.hint && !self.events.unsettled() {
                    continue;
                }
                let (batch, changed) = self.scan(desk, scan.seen_by)?;
                if changed {
                    due = Some(Due { hint: batch.lost == 0, ..Due::new(Instant::now(), SeenBy::Event) });
                }
                rested = Instant::now() + self.tally.scan * SCAN_SHARE;
                if self.deliver(desk, batch)?.is_break() {
                    return Ok(());
                }
            }
            self.tally.look = self.events.cost();
            self.tally.blind = self.events.blind_window();
            desk.turn(&self.tally);
            if desk.is_asked() {
                let changes = self.ledger.all();
                desk.stand(Batch { at: epoch(), seen_by: SeenBy::Start, changes, lost: 0 });
            }
            if self.options.until.is_some_and(|until| now >= until) {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, desk: &mut dyn Desk, batch: Batch) -> io::Result<ControlFlow<()>> {
        self.tally.lost += batch.lost;
        if batch.changes.is_empty() && batch.lost == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        self.tally.changes += batch.changes.len() as u64;
        desk.tell(batch)
    }

    /// Tells too whether something has changed meanwhile.
    fn scan(&mut self, desk: &mut dyn Desk, seen_by: SeenBy) -> io::Result<(Batch, bool)> {
        let start = Instant::now();
        let (mut snapshot, report) = desk.scan()?;
        let seen = self.events.complete(&mut snapshot);
        let changed = seen.changed || seen.lost > 0;
        let (at, wanted) = (snapshot.taken_at, |seen: &Observation<'_>| desk.wanted(seen));
        let mut changes = self.ledger.observe(Instant::now(), snapshot, report, &wanted);
        let standing = self.ledger.standing().0;
        self.events.follow(standing)?;
        self.generation.follow(&Source::live()?, standing);
        self.tally.scans += 1;
        self.tally.scan = start.elapsed();
        if seen_by == SeenBy::Reconciliation {
            let come =
                changes.iter().filter(|each| !matches!(each.kind, ChangeKind::Closed | ChangeKind::Cleared));
            self.tally.missed += come.count() as u64;
        }
        let lost = seen.lost;
        changes.extend(self.brief(desk, seen));
        changes.extend(self.ahead(desk));
        Ok((Batch { at, seen_by, changes, lost }, changed))
    }

    fn next_look(&self) -> Instant {
        if self.events.can_look() {
            return self.events.next();
        }
        let (share, shortest, longest) = PORTABLE;
        let pace = (self.tally.scan * share).clamp(shortest, longest);
        self.events.last_look().map_or_else(Instant::now, |last| last + pace)
    }

    fn look(&mut self) -> Seen {
        self.tally.looks += 1;
        self.events.look()
    }

    /// Sockets that were closed before any scan saw them: opened and closed.
    fn brief(&mut self, desk: &dyn Desk, seen: Seen) -> Vec<Change> {
        let mut changes = Vec::new();
        for Brief { netns, mut socket, owner } in seen.brief {
            let (standing, _) = self.ledger.standing();
            let known = standing.namespaces.iter().find(|each| each.inode == netns);
            let namespace = known.map_or_else(
                || Namespace { inode: netns, ..Namespace::default() },
                |each| Namespace {
                    inode: netns,
                    cookie: each.cookie,
                    name: each.name.clone(),
                    own: each.own,
                    sysctls: each.sysctls.clone(),
                    ..Namespace::default()
                },
            );
            socket.netns = NamespaceId(0);
            let holder = Holder { process: ProcessId(0), fd: -1, how: How::Event };
            let holders: Vec<Holder> = owner.iter().map(|_| holder).collect();
            socket.holders = Span { start: 0, len: u32::from(owner.is_some()) };
            let snapshot = Arc::new(Snapshot {
                taken_at: epoch(),
                host: standing.host.clone(),
                namespaces: vec![namespace],
                sockets: vec![socket],
                processes: owner.into_iter().map(Arc::unwrap_or_clone).collect(),
                holders,
                ..Snapshot::default()
            });
            let kept = Kept { snapshot, at: SocketIndex(0) };
            let seen = kept.observe();
            if !desk.wanted(&seen) || self.ledger.knows(Instant::now(), &seen) {
                continue;
            }
            let change = |kind, before, after| Change { kind, before, after, finding: None };
            changes.push(change(ChangeKind::Opened, None, Some(kept.clone())));
            changes.push(change(ChangeKind::Closed, Some(kept), None));
        }
        changes
    }

    /// Sockets that have just come and are plainly new are told before any scan has seen them.
    fn ahead(&mut self, desk: &dyn Desk) -> Vec<Change> {
        let start = Instant::now();
        let newcomers = self.events.newcomers();
        if start < self.ahead_from {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for Brief { netns, mut socket, owner } in newcomers {
            let Some(told) = owner else { continue };
            let Some(at) = self.ledger.place(netns) else { continue };
            socket.netns = at;
            let holder = Holder { process: ProcessId(0), fd: -1, how: How::Event };
            socket.holders = Span { start: 0, len: 1 };
            let mut snapshot = self.ledger.lend();
            snapshot.taken_at = epoch();
            (snapshot.sockets, snapshot.holders) = (vec![socket], vec![holder]);
            snapshot.processes = vec![Process::clone(&told)];
            desk.glimpse(&mut snapshot);
            snapshot.processes.iter_mut().for_each(|process| describe(process, &told));
            let (part, numbers) = snapshot.excerpt(&[SocketIndex(0)]);
            self.ledger.take_back(snapshot);
            let Some(at) = numbers.get(&SocketIndex(0)).copied() else { continue };
            let kept = Kept { snapshot: Arc::new(part), at };
            if desk.wanted(&kept.observe()) && self.ledger.foresee(&kept) {
                changes.push(Change {
                    kind: ChangeKind::Opened,
                    before: None,
                    after: Some(kept),
                    finding: None,
                });
            }
        }
        if start.elapsed() > QUICK {
            self.ahead_from = Instant::now() + LEFT;
        }
        changes
    }

    #[cfg(target_os = "linux")]
    fn wait(&self, until: Option<Instant>, deaf: bool) -> bool {
        let patience = until.map_or(FILES_EVERY, |until| until.saturating_duration_since(Instant::now()));
        let mut descriptors = if deaf { Vec::new() } else { self.events.descriptors() };
        descriptors.extend(self.generation.descriptors());
        trigger::wait(&descriptors, patience)
    }

    #[cfg(not(target_os = "linux"))]
    fn wait(&self, until: Option<Instant>, _deaf: bool) -> bool {
        trigger::wait(until.map_or(FILES_EVERY, |until| until.saturating_duration_since(Instant::now())))
    }
}

impl Due {
    fn new(at: Instant, seen_by: SeenBy) -> Self {
        Self { at, seen_by, hint: false }
    }
}

/// The earlier of two scans; what asked for it first is what saw it.
fn sooner(due: Option<Due>, new: Due) -> Due {
    let Some(due) = due else { return new };
    let first = if due.at <= new.at { due } else { new };
    Due { hint: due.hint && new.hint, ..first }
}

/// Nanoseconds since the epoch.
fn epoch() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}
