//! What is news: two moments compared, with patience for what comes back.
//!
//! Doors are known by program, protocol, scope and port, never by pid, inode or cookie. What goes
//! away is news only when it stays away for a while (the dwell), so that a restarted service is
//! none; what comes is news at once. Nothing is kept but the last moment and what is leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::finding::{ChangeKind, Finding, Report, Severity, place, port_place, program};
use crate::model::{
    Endpoint, Hex, NamespaceId, Observation, Process, Protocol, Reach, Role, Snapshot, SocketIndex,
};

/// A socket as it was at some moment, in an excerpt of that moment's snapshot.
#[derive(Clone, Debug)]
pub struct Kept {
    pub snapshot: Arc<Snapshot>,
    pub at: SocketIndex,
}

impl Kept {
    pub fn observe(&self) -> Observation<'_> {
        self.snapshot.observe(self.at)
    }
}

/// One piece of news.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    pub before: Option<Kept>,
    pub after: Option<Kept>,
    /// With the snapshot that its sockets are in.
    pub finding: Option<(Arc<Snapshot>, Finding)>,
}

/// What stays the same of a door while it is open. Ports that the kernel hands out are no part of
/// it, so a program may have several that are alike: they are numbered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Door {
    kind: Kind,
    number: usize,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    /// The name of the namespace, else its inode unless it is ours: a restarted service comes back
    /// to the same one.
    netns: Vec<u8>,
    place: Vec<u8>,
    program: Option<Vec<u8>>,
}

/// What may change while it is open.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Traits {
    reach: Option<(Reach, bool)>,
    /// Path, and device and inode of the file.
    binary: Option<Binary>,
}

type Binary = (Vec<u8>, Option<((u32, u32), u64)>);

#[derive(Clone, Debug)]
struct Standing {
    at: SocketIndex,
    local: Endpoint,
    traits: Traits,
    /// The same place with any scope of its address.
    port: Vec<u8>,
}

#[derive(Debug)]
struct Leaving {
    since: Instant,
    kept: Kept,
    traits: Traits,
    port: Vec<u8>,
}

/// Told ahead of the scan that will see it.
#[derive(Debug)]
struct Ahead {
    kind: Kind,
    kept: Kept,
    traits: Traits,
    port: Vec<u8>,
}

impl Ahead {
    fn leave(self, since: Instant) -> (Door, Leaving) {
        let Self { kind, kept, traits, port } = self;
        (Door { kind, number: 0 }, Leaving { since, kept, traits, port })
    }
}

/// A socket for as long as it lives: inode of its namespace, and cookie.
type Identity = (u64, u64);

fn identity(each: &Observation<'_>) -> Identity {
    (each.namespace().inode, each.socket.cookie)
}

/// Everything that counts at one moment.
#[derive(Debug, Default)]
struct Moment {
    snapshot: Snapshot,
    report: Report,
    doors: BTreeMap<Door, Standing>,
}

/// Compares each moment with the one before it.
#[derive(Debug)]
pub struct Ledger {
    dwell: Duration,
    connections: bool,
    last: Moment,
    leaving: BTreeMap<Door, Leaving>,
    ahead: BTreeMap<Identity, Ahead>,
    /// Findings that were told and have gone, by rule and program.
    clearing: BTreeMap<String, (Instant, Arc<Snapshot>, Finding)>,
}

impl Ledger {
    /// `connections`: not only what can receive, but every conversation.
    pub fn new(dwell: Duration, connections: bool) -> Self {
        Self {
            dwell,
            connections,
            last: Moment::default(),
            leaving: BTreeMap::new(),
            ahead: BTreeMap::new(),
            clearing: BTreeMap::new(),
        }
    }

    /// What is different now, worst first.
    pub fn observe(
        &mut self,
        now: Instant,
        snapshot: Snapshot,
        mut report: Report,
        wanted: &dyn Fn(&Observation<'_>) -> bool,
    ) -> Vec<Change> {
        let doors = self.doors(&snapshot, wanted);
        report.findings.retain(|finding| {
            // Those about suppressions have no socket.
            finding.sockets.is_empty() || finding.sockets.iter().any(|at| wanted(&snapshot.observe(*at)))
        });
        let next = Moment { snapshot, report, doors };
        self.leave(now, &next);
        let mut news = News::new(&next);
        for (door, standing) in &next.doors {
            self.compare(door, standing, &mut news);
        }
        self.ahead.clear();
        self.judge(now, &next, &mut news);
        // What has come back by now was not away, however late this scan is.
        let mut changes = self.expire(now);
        changes.extend(news.changes());
        self.last = next;
        changes
    }

    /// What has been away for long enough to count as gone.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let dwell = self.dwell;
        let over = |since: Instant| now.saturating_duration_since(since) >= dwell;
        let gone = self.leaving.extract_if(.., |_, leaving| over(leaving.since));
        let closed = gone.map(|(_, leaving)| Change {
            kind: ChangeKind::Closed,
            before: Some(leaving.kept),
            after: None,
            finding: None,
        });
        let cleared = self.clearing.extract_if(.., |_, (since, ..)| over(*since));
        let cleared = cleared.map(|(_, (_, snapshot, finding))| Change {
            kind: ChangeKind::Cleared,
            before: None,
            after: None,
            finding: Some((snapshot, finding)),
        });
        closed.chain(cleared).collect()
    }

    /// Whether something that came and went is a door that stands, or takes the place of one that has
    /// just gone: then it is no news, and is away from now on.
    pub fn knows(&mut self, now: Instant, each: &Observation<'_>) -> bool {
        if let Some(ahead) = self.ahead.remove(&identity(each)) {
            self.leaving.extend([ahead.leave(now)]);
            return true;
        }
        let kind = self.kind(each);
        let door = |number| Door { kind: kind.clone(), number };
        let all = door(0)..=door(usize::MAX);
        let local = &each.socket.local;
        let stands = self.last.doors.range(all.clone()).any(|(_, standing)| standing.local == *local);
        self.leaving.range_mut(all).fold(stands, |_, (_, leaving)| {
            leaving.since = now;
            true
        })
    }

    /// Whether a socket that no scan has seen is plainly new. Then it is news at once, and none for the
    /// scan that sees it. What may be a restart, a wider bind or another owner is left to the scan.
    pub fn foresee(&mut self, kept: &Kept) -> bool {
        let each = kept.observe();
        let (kind, port) = (self.kind(&each), port_place(&each));
        let near = |other: &Kind, at: &[u8]| {
            other.netns == kind.netns && (other.place == kind.place || at == port.as_slice())
        };
        let known = self.last.doors.iter().any(|(door, standing)| near(&door.kind, &standing.port))
            || self.leaving.iter().any(|(door, leaving)| near(&door.kind, &leaving.port))
            || self.ahead.values().any(|ahead| near(&ahead.kind, &ahead.port));
        if known || each.socket.cookie == 0 || !(self.connections || receives(&each)) {
            return false;
        }
        let ahead = Ahead { kind, kept: kept.clone(), traits: traits(&each), port };
        self.ahead.insert(identity(&each), ahead).is_none()
    }

    /// The namespace of that inode at the last moment.
    pub fn place(&self, inode: u64) -> Option<NamespaceId> {
        let at = self.last.snapshot.namespaces.iter().position(|each| each.inode == inode)?;
        u32::try_from(at).ok().map(NamespaceId)
    }

    /// A snapshot of no socket with the places of the last moment, which has none until they are back.
    pub fn lend(&mut self) -> Snapshot {
        let last = &mut self.last.snapshot;
        Snapshot {
            host: last.host.clone(),
            upstream: last.upstream,
            namespaces: std::mem::take(&mut last.namespaces),
            ..Snapshot::default()
        }
    }

    pub fn take_back(&mut self, lent: Snapshot) {
        self.last.snapshot.namespaces = lent.namespaces;
    }

    /// When the next thing will have been away for long enough.
    pub fn next_expiry(&self) -> Option<Instant> {
        let doors = self.leaving.values().map(|leaving| leaving.since);
        let findings = self.clearing.values().map(|(since, ..)| *since);
        doors.chain(findings).min().map(|since| since + self.dwell)
    }

    /// The last moment, for those who ask what stands.
    pub fn standing(&self) -> (&Snapshot, &Report) {
        (&self.last.snapshot, &self.last.report)
    }

    /// Everything that stands, as if it had come just now.
    pub fn all(&self) -> Vec<Change> {
        let mut news = News::new(&self.last);
        for standing in self.last.doors.values() {
            news.push(ChangeKind::Opened, None, Some(standing.at));
        }
        news.findings = counted(&self.last).into_values().map(|at| (ChangeKind::Finding, at)).collect();
        news.changes()
    }

    /// How many doors stand open.
    pub fn doors_open(&self) -> usize {
        self.last.doors.len()
    }

    fn doors(
        &self,
        snapshot: &Snapshot,
        wanted: &dyn Fn(&Observation<'_>) -> bool,
    ) -> BTreeMap<Door, Standing> {
        let mut kinds: BTreeMap<Kind, BTreeMap<Endpoint, Standing>> = BTreeMap::new();
        for each in snapshot.observations() {
            if !(self.connections || receives(&each)) || !wanted(&each) {
                continue;
            }
            let local = each.socket.local.clone();
            let standing = Standing { at: each.index, local, traits: traits(&each), port: port_place(&each) };
            let alike = kinds.entry(self.kind(&each)).or_default();
            let wider = |other: &Standing| width(&standing.traits) > width(&other.traits);
            if alike.get(&standing.local).is_none_or(wider) {
                alike.insert(standing.local.clone(), standing);
            }
        }
        let numbered = kinds.into_iter().flat_map(|(kind, alike)| self.number(&kind, alike));
        numbered.collect()
    }

    /// What stood before keeps its number; what is new takes the first that is free, which is that
    /// of a predecessor that has just gone.
    fn number(&self, kind: &Kind, alike: BTreeMap<Endpoint, Standing>) -> Vec<(Door, Standing)> {
        let door = |number| Door { kind: kind.clone(), number };
        let stood = self.last.doors.range(door(0)..=door(usize::MAX));
        let before: BTreeMap<&Endpoint, usize> =
            stood.map(|(door, standing)| (&standing.local, door.number)).collect();
        let taken: BTreeSet<usize> = alike.keys().filter_map(|local| before.get(local).copied()).collect();
        let mut free = (0..).filter(|number| !taken.contains(number));
        let mut numbered = Vec::with_capacity(alike.len());
        for (local, standing) in alike {
            let number = before.get(&local).copied().or_else(|| free.next());
            numbered.extend(number.map(|number| (door(number), standing)));
        }
        numbered
    }

    fn kind(&self, each: &Observation<'_>) -> Kind {
        let namespace = each.namespace();
        let netns = match &namespace.name {
            Some(name) => name.as_bytes().to_vec(),
            None if namespace.own => Vec::new(),
            None => namespace.inode.to_string().into_bytes(),
        };
        let mut place = place(each);
        if self.connections && each.socket.remote != Endpoint::None {
            place.extend(format!(" {:?}", each.socket.remote).into_bytes());
        }
        Kind { netns, place, program: program(each) }
    }

    /// Notes what stood and stands no more.
    fn leave(&mut self, now: Instant, next: &Moment) {
        let stands: BTreeSet<Identity> = if self.ahead.is_empty() {
            BTreeSet::new()
        } else {
            next.doors.values().map(|standing| identity(&next.snapshot.observe(standing.at))).collect()
        };
        let ended = self.ahead.extract_if(.., |at, _| !stands.contains(at));
        self.leaving.extend(ended.map(|(_, ahead)| ahead.leave(now)));
        let gone: Vec<(&Door, &Standing)> =
            self.last.doors.iter().filter(|(door, _)| !next.doors.contains_key(door)).collect();
        if gone.is_empty() {
            return;
        }
        let sockets: Vec<SocketIndex> = gone.iter().map(|(_, standing)| standing.at).collect();
        let (part, numbers) = self.last.snapshot.excerpt(&sockets);
        let part = Arc::new(past(part));
        for (door, standing) in gone {
            let kept = Kept { snapshot: Arc::clone(&part), at: numbers[&standing.at] };
            let leaving =
                Leaving { since: now, kept, traits: standing.traits.clone(), port: standing.port.clone() };
            self.leaving.insert(door.clone(), leaving);
        }
    }

    /// What there is to say of a door that is open now.
    fn compare(&mut self, door: &Door, standing: &Standing, news: &mut News<'_>) {
        if let Some(was) = self.last.doors.get(door) {
            let before = |ledger: &Self| ledger.keep(was.at);
            self.differences(&was.traits, standing, news, before);
            return;
        }
        if let Some(was) = self.ahead.remove(&identity(&news.moment.snapshot.observe(standing.at))) {
            let kept = was.kept.clone();
            self.differences(&was.traits, standing, news, |_| kept.clone());
            return;
        }
        if let Some(was) = self.leaving.remove(door) {
            // Back again: the same program at the same place.
            let kept = was.kept.clone();
            self.differences(&was.traits, standing, news, |_| kept.clone());
            return;
        }
        let kind = &door.kind;
        let near = |other: &Door, leaving: &Leaving| {
            let moved = other.kind.program == kind.program && leaving.port == standing.port;
            other.kind.netns == kind.netns && (other.kind.place == kind.place || moved)
        };
        let found =
            self.leaving.iter().find(|(other, leaving)| near(other, leaving)).map(|(other, _)| other.clone());
        let Some((other, was)) = found.and_then(|other| self.leaving.remove_entry(&other)) else {
            news.push(ChangeKind::Opened, None, Some(standing.at));
            return;
        };
        if other.kind.place != kind.place {
            news.push(ChangeKind::Reach, Some(was.kept), Some(standing.at));
        } else if other.kind.program.is_some() && kind.program.is_some() && other.kind != *kind {
            // A holder that could not be told is no other holder.
            news.push(ChangeKind::Owner, Some(was.kept), Some(standing.at));
        } else if was.traits.reach != standing.traits.reach {
            news.push(ChangeKind::Reach, Some(was.kept), Some(standing.at));
        }
    }

    fn differences(
        &self,
        was: &Traits,
        standing: &Standing,
        news: &mut News<'_>,
        before: impl Fn(&Self) -> Kept,
    ) {
        let is = &standing.traits;
        if was.reach != is.reach {
            news.push(ChangeKind::Reach, Some(before(self)), Some(standing.at));
        }
        if let (Some(was), Some(is)) = (&was.binary, &is.binary)
            && (was.0 != is.0 || was.1.is_some() && is.1.is_some() && was.1 != is.1)
        {
            news.push(ChangeKind::Owner, Some(before(self)), Some(standing.at));
        }
    }

    fn keep(&self, at: SocketIndex) -> Kept {
        let (part, numbers) = self.last.snapshot.excerpt(&[at]);
        Kept { snapshot: Arc::new(past(part)), at: numbers[&at] }
    }

    /// Findings that have come, grown worse, or gone.
    fn judge(&mut self, now: Instant, next: &Moment, news: &mut News<'_>) {
        let (was, is) = (counted(&self.last), counted(next));
        for (key, at) in &is {
            let finding = &next.report.findings[*at];
            let known = was.get(key).map(|at| said(&self.last.snapshot, &self.last.report.findings[*at]));
            let back = self.clearing.remove(key).map(|(_, part, gone)| said(&part, &gone));
            let (severity, places) = said(&next.snapshot, finding);
            let told = known.or(back).is_some_and(|(was, at)| was >= severity && places.is_subset(&at));
            if !told {
                news.findings.push((ChangeKind::Finding, *at));
            }
        }
        for (key, at) in was {
            if !is.contains_key(&key) {
                let (part, finding) = excerpt_of(&self.last.snapshot, &self.last.report.findings[at]);
                self.clearing.insert(key, (now, part, finding));
            }
        }
    }
}

/// What has been keeps no rules: those of now stand beside it, and would be taken for its own.
fn past(mut part: Snapshot) -> Snapshot {
    for exposure in part.sockets.iter_mut().filter_map(|socket| socket.exposure.as_mut()) {
        exposure.paths.iter_mut().for_each(|path| path.because.clear());
    }
    part.evidence.clear();
    part
}

/// What was said of a finding: how bad it is, at which places.
type Said = (Severity, BTreeSet<Vec<u8>>);

fn said(snapshot: &Snapshot, finding: &Finding) -> Said {
    (finding.severity, finding.sockets.iter().map(|at| place(&snapshot.observe(*at))).collect())
}

/// The findings that count, by rule and program: a further door of a program makes its finding
/// larger, and is news without the smaller one being gone.
fn counted(moment: &Moment) -> BTreeMap<String, usize> {
    let findings = moment.report.findings.iter().enumerate().filter(|(_, each)| each.suppressed.is_none());
    let keyed = findings.map(|(at, finding)| {
        let program = finding.sockets.first().and_then(|at| program(&moment.snapshot.observe(*at)));
        let of = program.map_or_else(|| finding.fingerprint.clone(), |program| Hex(&program).to_string());
        (format!("{} {of}", finding.rule), at)
    });
    keyed.collect()
}

/// What is about to be told of one moment.
struct News<'m> {
    moment: &'m Moment,
    doors: Vec<(ChangeKind, Option<Kept>, Option<SocketIndex>)>,
    findings: Vec<(ChangeKind, usize)>,
}

impl<'m> News<'m> {
    fn new(moment: &'m Moment) -> Self {
        Self { moment, doors: Vec::new(), findings: Vec::new() }
    }

    fn push(&mut self, kind: ChangeKind, before: Option<Kept>, after: Option<SocketIndex>) {
        self.doors.push((kind, before, after));
    }

    fn changes(self) -> Vec<Change> {
        let Moment { snapshot, report, .. } = self.moment;
        let sockets: Vec<SocketIndex> = self.doors.iter().filter_map(|(_, _, after)| *after).collect();
        let (part, numbers) = snapshot.excerpt(&sockets);
        let part = Arc::new(part);
        let doors = self.doors.into_iter().map(|(kind, before, after)| Change {
            kind,
            before,
            after: after.map(|at| Kept { snapshot: Arc::clone(&part), at: numbers[&at] }),
            finding: None,
        });
        let findings = self.findings.into_iter().filter_map(|(kind, at)| {
            let finding = excerpt_of(snapshot, report.findings.get(at)?);
            Some(Change { kind, before: None, after: None, finding: Some(finding) })
        });
        doors.chain(findings).collect()
    }
}

fn excerpt_of(snapshot: &Snapshot, finding: &Finding) -> (Arc<Snapshot>, Finding) {
    let (part, numbers) = snapshot.excerpt(&finding.sockets);
    let mut finding = finding.clone();
    finding.sockets = finding.sockets.iter().filter_map(|at| numbers.get(at).copied()).collect();
    (Arc::new(part), finding)
}

/// Whether somebody new can speak to it, or it reads what passes by.
fn receives(each: &Observation<'_>) -> bool {
    match each.socket.role {
        Role::Listener | Role::Receiver | Role::Published => each.socket.protocol != Protocol::Netlink,
        Role::Inbound | Role::Outbound | Role::Peer | Role::Idle => false,
    }
}

fn traits(each: &Observation<'_>) -> Traits {
    let reach = each.socket.exposure.as_ref().map(|exposure| (exposure.reach, exposure.certain));
    let binary = each.owners().filter_map(|owner| binary(owner.process)).min();
    Traits { reach, binary }
}

fn binary(process: &Process) -> Option<Binary> {
    Some((process.exe.known()?.as_bytes().to_vec(), process.exe_file))
}

fn width(traits: &Traits) -> Option<Reach> {
    traits.reach.map(|(reach, _)| reach)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Confidence, group};
    use crate::model::Fact;
    use crate::model::sample::Sample;

    const DWELL: Duration = Duration::from_secs(5);

    struct Clock(Instant, Ledger);

    impl Clock {
        fn new() -> Self {
            Self(Instant::now(), Ledger::new(DWELL, false))
        }

        fn see(&mut self, after: u64, sample: &Sample) -> Vec<(ChangeKind, Option<SocketIndex>)> {
            self.judge(after, sample, Report::default())
        }

        fn judge(
            &mut self,
            after: u64,
            sample: &Sample,
            report: Report,
        ) -> Vec<(ChangeKind, Option<SocketIndex>)> {
            self.0 += Duration::from_secs(after);
            let changes = self.1.observe(self.0, sample.snapshot.clone(), report, &|_| true);
            changes.iter().map(|each| (each.kind, each.after.as_ref().map(|kept| kept.at))).collect()
        }
    }

    fn kinds(changes: &[(ChangeKind, Option<SocketIndex>)]) -> Vec<ChangeKind> {
        changes.iter().map(|(kind, _)| *kind).collect()
    }

    fn serving(pid: u32, exe: &str, inode: u64, address: &str, reach: Reach) -> Sample {
        let mut sample = Sample::new();
        let process = sample.process(pid, exe);
        process.exe_file = Some(((8, 1), inode));
        process.unit = Fact::Known("web.service".into());
        sample.listener(address, reach, &[pid]).cookie = u64::from(pid);
        sample
    }

    fn web(pid: u32) -> Sample {
        serving(pid, "/usr/sbin/nginx", 7, "0.0.0.0:80", Reach::Lan)
    }

    #[test]
    fn a_restarted_service_is_silent() {
        let mut clock = Clock::new();
        assert_eq!(kinds(&clock.see(0, &web(10))), [ChangeKind::Opened]);
        assert_eq!(clock.see(1, &web(20)), [], "another pid within one look");
        assert_eq!(clock.see(1, &Sample::new()), [], "stopped");
        assert_eq!(clock.see(4, &web(30)), [], "and started again within the dwell");
        assert_eq!(clock.see(60, &web(30)), []);
    }

    #[test]
    fn what_stays_away_is_closed_once() {
        let mut clock = Clock::new();
        clock.see(0, &web(10));
        assert_eq!(clock.see(1, &Sample::new()), []);
        assert!(clock.1.next_expiry().is_some());
        clock.0 += DWELL;
        let closed = clock.1.expire(clock.0);
        assert_eq!(closed.len(), 1);
        let kept = closed[0].before.as_ref().unwrap();
        assert_eq!(kept.observe().owners().next().unwrap().process.pid, 10, "with its holder");
        assert_eq!(clock.see(60, &Sample::new()), []);
        assert_eq!(kinds(&clock.see(1, &web(20))), [ChangeKind::Opened], "later it is new again");
    }

    #[test]
    fn what_comes_back_for_a_moment_is_not_told_and_is_away_from_then_on() {
        let mut clock = Clock::new();
        clock.see(0, &web(10));
        clock.see(1, &Sample::new());
        let again = web(20);
        clock.0 += DWELL / 2;
        assert!(clock.1.knows(clock.0, &again.snapshot.observe(again.everything()[0])));
        clock.0 += DWELL / 2;
        assert!(clock.1.expire(clock.0).is_empty());
        // A scan that comes late finds it back before it counts as gone.
        clock.0 += DWELL;
        assert_eq!(clock.see(0, &web(30)), []);
        let other = serving(40, "/usr/sbin/nginx", 7, "0.0.0.0:81", Reach::Lan);
        assert!(!clock.1.knows(clock.0, &other.snapshot.observe(other.everything()[0])));
    }

    #[test]
    fn a_replaced_binary_is_not_silent() {
        let mut clock = Clock::new();
        clock.see(0, &web(10));
        let other = serving(20, "/usr/sbin/nginx", 8, "0.0.0.0:80", Reach::Lan);
        assert_eq!(kinds(&clock.see(1, &other)), [ChangeKind::Owner], "same path, another file");
        clock.see(1, &Sample::new());
        let elsewhere = serving(30, "/tmp/nginx", 9, "0.0.0.0:80", Reach::Lan);
        assert_eq!(kinds(&clock.see(1, &elsewhere)), [ChangeKind::Owner], "over a restart too");
    }

    #[test]
    fn a_widened_bind_and_a_hole_in_the_filter_are_changes_of_reach() {
        let mut clock = Clock::new();
        clock.see(0, &serving(10, "/usr/bin/redis-server", 7, "127.0.0.1:6379", Reach::Host));
        let wide = serving(20, "/usr/bin/redis-server", 7, "0.0.0.0:6379", Reach::Lan);
        assert_eq!(kinds(&clock.see(1, &wide)), [ChangeKind::Reach]);
        let open = serving(20, "/usr/bin/redis-server", 7, "0.0.0.0:6379", Reach::Internet);
        assert_eq!(kinds(&clock.see(1, &open)), [ChangeKind::Reach]);
        assert_eq!(clock.see(60, &open), []);
    }

    #[test]
    fn another_program_at_the_port_is_another_owner() {
        let mut clock = Clock::new();
        clock.see(0, &web(10));
        let mut other = serving(20, "/usr/bin/nc", 8, "0.0.0.0:80", Reach::Lan);
        other.snapshot.processes[0].unit = Fact::Absent;
        assert_eq!(kinds(&clock.see(1, &other)), [ChangeKind::Owner]);
    }

    #[test]
    fn a_holder_that_is_seen_late_is_no_change() {
        let mut clock = Clock::new();
        let mut hidden = web(10);
        hidden.snapshot.sockets[0].holders.len = 0;
        assert_eq!(kinds(&clock.see(0, &hidden)), [ChangeKind::Opened]);
        assert_eq!(clock.see(1, &web(10)), []);
    }

    #[test]
    fn ports_that_the_kernel_hands_out_are_told_apart_and_not_told_after_a_restart() {
        let mut clock = Clock::new();
        let with = |pid: u32, ports: &[u16]| {
            let mut sample = web(pid);
            for port in ports {
                sample.listener(&format!("0.0.0.0:{port}"), Reach::Lan, &[pid]);
            }
            sample
        };
        assert_eq!(clock.see(0, &with(10, &[40000])).len(), 2);
        assert_eq!(clock.see(1, &with(20, &[41000])), [], "restarted on another port");
        let more = clock.see(1, &with(20, &[33000, 41000]));
        assert_eq!(kinds(&more), [ChangeKind::Opened]);
        assert_eq!(clock.see(1, &with(20, &[33000])), []);
        clock.0 += DWELL;
        let closed = clock.1.expire(clock.0);
        let gone = &closed[0].before.as_ref().unwrap().observe().socket.local;
        assert_eq!(*gone, crate::model::sample::endpoint("0.0.0.0:41000"), "the one that has gone");
    }

    #[test]
    fn clients_are_no_doors_unless_asked_for() {
        let mut sample = web(10);
        let call = sample.socket(Protocol::Tcp, crate::model::State::Established, "203.0.113.5:40000", &[10]);
        (call.remote, call.role) = (crate::model::sample::endpoint("198.51.100.1:443"), Role::Outbound);
        let mut clock = Clock::new();
        assert_eq!(clock.see(0, &sample).len(), 1);
        clock.1 = Ledger::new(DWELL, true);
        assert_eq!(clock.see(0, &sample).len(), 2);
    }

    fn kept(sample: &Sample, at: usize) -> Kept {
        Kept { snapshot: Arc::new(sample.snapshot.clone()), at: sample.everything()[at] }
    }

    #[test]
    fn what_was_told_ahead_is_no_news_for_the_scan_and_its_end_is_told_once() {
        let mut clock = Clock::new();
        clock.see(0, &Sample::new());
        let mut told = web(10);
        assert!(clock.1.foresee(&kept(&told, 0)), "plainly new");
        assert!(!clock.1.foresee(&kept(&told, 0)), "once");
        assert_eq!(clock.see(1, &web(10)), [], "the scan finds what was told");
        // Another one is judged anew by the scan, and ends before the next.
        told.listener("0.0.0.0:81", Reach::Lan, &[10]).cookie = 81;
        assert!(clock.1.foresee(&kept(&told, 1)));
        told.snapshot.sockets[1].exposure.as_mut().unwrap().reach = Reach::Internet;
        assert_eq!(kinds(&clock.see(1, &told)), [ChangeKind::Reach]);
        told.listener("0.0.0.0:82", Reach::Lan, &[10]).cookie = 82;
        assert!(clock.1.foresee(&kept(&told, 2)));
        told.snapshot.sockets.pop();
        assert_eq!(clock.see(1, &told), []);
        clock.0 += DWELL;
        let closed = clock.1.expire(clock.0);
        let port = crate::model::sample::endpoint("0.0.0.0:82");
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].before.as_ref().unwrap().observe().socket.local, port);
    }

    #[test]
    fn what_was_told_ahead_and_ends_at_once_is_away_from_then_on() {
        let mut clock = Clock::new();
        let told = web(10);
        assert!(clock.1.foresee(&kept(&told, 0)));
        // The kernel's word of its end knows the socket, but not the unit of its holder.
        let mut ended = told.clone();
        ended.snapshot.processes[0].unit = Fact::Unknown;
        assert!(clock.1.knows(clock.0, &ended.snapshot.observe(ended.everything()[0])));
        assert_eq!(clock.see(1, &Sample::new()), []);
        clock.0 += DWELL;
        assert_eq!(clock.1.expire(clock.0).len(), 1);
    }

    #[test]
    fn what_may_be_a_restart_a_wider_bind_or_another_owner_is_left_to_the_scan() {
        let mut clock = Clock::new();
        clock.see(0, &serving(10, "/usr/bin/redis-server", 7, "127.0.0.1:6379", Reach::Host));
        let again = serving(20, "/usr/bin/redis-server", 7, "127.0.0.1:6379", Reach::Host);
        assert!(!clock.1.foresee(&kept(&again, 0)), "a restart");
        let wide = serving(20, "/usr/bin/redis-server", 7, "0.0.0.0:6379", Reach::Lan);
        assert!(!clock.1.foresee(&kept(&wide, 0)), "a wider bind");
        clock.see(1, &Sample::new());
        let mut other = serving(20, "/usr/bin/nc", 8, "127.0.0.1:6379", Reach::Host);
        other.snapshot.processes[0].unit = Fact::Absent;
        assert!(!clock.1.foresee(&kept(&other, 0)), "another owner after it has gone");
    }

    #[test]
    fn places_that_were_lent_come_back() {
        let mut clock = Clock::new();
        clock.see(0, &web(10));
        let before = clock.1.standing().0.clone();
        let lent = clock.1.lend();
        assert_eq!(lent.namespaces, before.namespaces);
        clock.1.take_back(lent);
        assert_eq!(*clock.1.standing().0, before);
        assert_eq!(clock.1.place(before.namespaces[0].inode), Some(NamespaceId(0)));
    }

    fn found(sample: &Sample, severity: Severity) -> Report {
        let words = crate::finding::Words {
            rule: "redis-reachable".into(),
            title: "t".into(),
            confidence: Confidence::High,
            why: String::new(),
            references: Vec::new(),
        };
        let hits = sample.everything().into_iter().map(|socket| crate::finding::Hit {
            words: Arc::new(words.clone()),
            severity,
            socket,
            message: "m".into(),
            evidence: Vec::new(),
            remedies: Vec::new(),
        });
        Report { findings: group(&sample.snapshot, hits.collect()), undecided: Vec::new() }
    }

    #[test]
    fn a_finding_is_news_when_it_comes_worsens_or_spreads_and_not_when_it_shrinks() {
        let (one, mut two) = (web(10), web(10));
        two.listener("0.0.0.0:81", Reach::Lan, &[10]);
        let finding = |all: Vec<(ChangeKind, Option<SocketIndex>)>| {
            all.iter().filter(|(kind, _)| *kind == ChangeKind::Finding).count()
        };
        let mut clock = Clock::new();
        assert_eq!(finding(clock.judge(0, &one, found(&one, Severity::Medium))), 1);
        assert_eq!(finding(clock.judge(1, &web(20), found(&web(20), Severity::Medium))), 0, "restarted");
        assert_eq!(finding(clock.judge(1, &one, found(&one, Severity::High))), 1, "worse");
        assert_eq!(finding(clock.judge(1, &two, found(&two, Severity::High))), 1, "a further door");
        assert_eq!(finding(clock.judge(1, &one, found(&one, Severity::Low))), 0, "less of it");
        assert_eq!(clock.judge(1, &one, Report::default()), []);
        clock.0 += DWELL;
        let gone = clock.1.expire(clock.0);
        assert!(gone.iter().any(|each| each.kind == ChangeKind::Cleared), "{gone:?}");
    }

    #[test]
    fn thousands_of_doors_that_come_and_go_leave_nothing_behind() {
        let mut clock = Clock::new();
        for round in 0..20_u32 {
            let mut sample = Sample::new();
            sample.process(10, "/usr/bin/many");
            for port in 0..500_u32 {
                let port = 1024 + (round % 2) * 500 + port;
                sample.listener(&format!("0.0.0.0:{port}"), Reach::Lan, &[10]);
            }
            clock.see(6, &sample);
            assert!(clock.1.leaving.len() <= 500 && clock.1.doors_open() == 500);
        }
    }
}
