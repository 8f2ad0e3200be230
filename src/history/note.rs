//! What the watch says, as it is kept: plain values, made where the snapshot still is.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::finding::{ChangeKind, Finding, PastHolder, Severity, place, whose};
use crate::model::{Endpoint, Observation, Protocol, Reach, Role, Snapshot, State};

/// No text that others chose is longer than this, in bytes.
const LONGEST: usize = 4096;
/// Connections that go on are noted so often, not at every scan.
const TOUCH: Duration = Duration::from_secs(60);

/// Something to keep.
#[derive(Debug)]
pub enum Record {
    /// What stands when the watch begins; in our own namespace alone where it looks nowhere else.
    Start {
        at: i64,
        doors: Vec<Door>,
        findings: Vec<Said>,
        own: Option<Vec<u8>>,
    },
    Change(Box<Change>),
    /// A scan has been made.
    Scan {
        at: i64,
        talks: Vec<Talk>,
    },
}

#[derive(Clone, Debug)]
pub struct Door {
    pub(super) netns: Vec<u8>,
    pub(super) place: Vec<u8>,
    pub(super) program: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) local: Endpoint,
    pub(super) holder: Option<PastHolder>,
    pub(super) reach: Option<(Reach, bool)>,
    /// The moment in which it was seen like this.
    pub(super) seen: i64,
}

#[derive(Clone, Debug)]
pub struct Said {
    pub(super) fingerprint: String,
    pub(super) rule: String,
    pub(super) title: String,
    pub(super) severity: Severity,
    pub(super) message: String,
}

#[derive(Debug)]
pub struct Change {
    pub(super) at: i64,
    pub(super) kind: ChangeKind,
    pub(super) seen_by: &'static str,
    pub(super) before: Option<Door>,
    pub(super) after: Option<Door>,
    pub(super) finding: Option<Said>,
}

#[derive(Debug)]
pub struct Talk {
    pub(super) key: TalkKey,
    pub(super) holder: Option<PastHolder>,
    /// Connections that were not there before.
    pub(super) new: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TalkKey {
    pub(super) netns: Vec<u8>,
    pub(super) program: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) role: Role,
    pub(super) peer: IpAddr,
    pub(super) port: u16,
}

impl Door {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.netns, &self.place, &self.program) == (&other.netns, &other.place, &other.program)
    }
}

impl From<&Observation<'_>> for Door {
    fn from(seen: &Observation<'_>) -> Self {
        let (netns, program) = whose(seen);
        let exposure = seen.socket.exposure.as_ref();
        Self {
            netns: cut(netns),
            place: cut(place(seen)),
            program: cut(program),
            protocol: seen.socket.protocol,
            local: seen.socket.local.clone(),
            holder: holder(seen),
            reach: exposure.map(|exposure| (exposure.reach, exposure.certain)),
            seen: seen.snapshot.taken_at,
        }
    }
}

impl From<&Finding> for Said {
    fn from(finding: &Finding) -> Self {
        let text = |text: &str| text.chars().take(LONGEST).collect::<String>();
        Self {
            fingerprint: text(&finding.fingerprint),
            rule: text(&finding.rule),
            title: text(&finding.title),
            severity: finding.severity,
            message: text(&finding.message),
        }
    }
}

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(LONGEST);
    bytes
}

fn holder(seen: &Observation<'_>) -> Option<PastHolder> {
    let mut holder = PastHolder::of(seen)?;
    for text in [&mut holder.exe, &mut holder.unit, &mut holder.container, &mut holder.package] {
        if text.as_ref().is_some_and(|text| text.as_bytes().len() > LONGEST) {
            *text = text.as_ref().map(|text| text.as_bytes()[..LONGEST].into());
        }
    }
    Some(holder)
}

/// Whether it is a place where somebody new can speak, which is what doors are; conversations are
/// counted, not followed one by one.
fn is_door(seen: &Observation<'_>) -> bool {
    match seen.socket.role {
        Role::Listener | Role::Receiver | Role::Published => true,
        // One that was gone before anybody could look has no part assigned.
        Role::Idle => seen.socket.remote == Endpoint::None,
        Role::Inbound | Role::Outbound | Role::Peer => false,
    }
}

/// What stands when the watch begins. `own`: it looks into its own namespace alone.
pub fn standing<'s>(
    at: i64,
    sockets: impl Iterator<Item = Observation<'s>>,
    findings: impl Iterator<Item = &'s Finding>,
    own: bool,
) -> Record {
    let mut own_name = None;
    let mut doors = Vec::new();
    for seen in sockets {
        if own && seen.namespace().own {
            own_name.get_or_insert_with(|| whose(&seen).0);
        }
        if is_door(&seen) {
            doors.push(Door::from(&seen));
        }
    }
    Record::Start {
        at,
        doors,
        findings: findings.map(Said::from).collect(),
        own: own.then(|| own_name.unwrap_or_default()),
    }
}

/// A change, unless it is one of a mere conversation.
pub fn change(
    at: i64,
    seen_by: &'static str,
    kind: ChangeKind,
    before: Option<Observation<'_>>,
    after: Option<Observation<'_>>,
    finding: Option<&Finding>,
) -> Option<Record> {
    let (before, after) = (before.filter(is_door), after.filter(is_door));
    if before.is_none() && after.is_none() && finding.is_none() {
        return None;
    }
    Some(Record::Change(Box::new(Change {
        at,
        kind,
        seen_by,
        before: before.as_ref().map(Door::from),
        after: after.as_ref().map(Door::from),
        finding: finding.map(Said::from),
    })))
}

/// Counts connections from scan to scan.
#[derive(Debug, Default)]
pub struct Talks {
    /// The connections of the last scan, by what they are known by.
    known: HashSet<u64>,
    state: RandomState,
    touched: Option<Instant>,
}

impl Talks {
    /// What a scan saw of conversations: all that are new, and now and then those that go on.
    pub fn scan(&mut self, now: Instant, snapshot: &Snapshot) -> Record {
        let touch = self.touched.is_none_or(|last| now.saturating_duration_since(last) >= TOUCH);
        if touch {
            self.touched = Some(now);
        }
        let mut known = HashSet::with_capacity(self.known.len());
        let mut talks: BTreeMap<TalkKey, Talk> = BTreeMap::new();
        for seen in snapshot.observations() {
            let Some((peer, port)) = conversation(&seen) else { continue };
            let socket = seen.socket;
            let id = match (socket.cookie, socket.inode) {
                (0, 0) => (0, 0),
                (0, inode) => (1, inode),
                (cookie, _) => (2, cookie),
            };
            let id = self.state.hash_one((
                seen.namespace().inode,
                socket.protocol,
                &socket.local,
                &socket.remote,
                id,
            ));
            known.insert(id);
            let new = !self.known.contains(&id);
            if !new && !touch {
                continue;
            }
            let (netns, program) = whose(&seen);
            let (netns, program) = (cut(netns), cut(program));
            let key = TalkKey { netns, program, protocol: socket.protocol, role: socket.role, peer, port };
            let talk =
                talks.entry(key.clone()).or_insert_with(|| Talk { key, holder: holder(&seen), new: 0 });
            talk.new += u64::from(new);
        }
        self.known = known;
        Record::Scan { at: snapshot.taken_at, talks: talks.into_values().collect() }
    }
}

/// With whom, and the port that was called as far as anybody can tell. What is over or not yet made
/// is no conversation.
fn conversation(seen: &Observation<'_>) -> Option<(IpAddr, u16)> {
    let socket = seen.socket;
    let inbound = match socket.role {
        Role::Inbound => true,
        Role::Outbound | Role::Peer => false,
        Role::Listener | Role::Receiver | Role::Published | Role::Idle => return None,
    };
    if [State::TimeWait, State::SynRecv, State::SynSent, State::Closed].contains(&socket.state) {
        return None;
    }
    match (&socket.local, &socket.remote) {
        (Endpoint::Inet(_, ours), Endpoint::Inet(peer, theirs)) => {
            Some((*peer, if inbound { *ours } else { *theirs }))
        }
        _ => None,
    }
}
