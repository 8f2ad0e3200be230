//! What differs between two moments.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, program};
use crate::model::{Endpoint, Observation, Snapshot, SocketIndex};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChangeKind {
    Opened,
    Closed,
    /// Other people can reach it than before, or it is no longer, or newly, certain.
    Reach,
    /// Another program holds it.
    Owner,
    /// A finding appeared.
    Finding,
    /// A finding went away, or was suppressed.
    Cleared,
}

impl ChangeKind {
    pub const ALL: &'static [Self] =
        &[Self::Opened, Self::Closed, Self::Reach, Self::Owner, Self::Finding, Self::Cleared];

    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Reach => "reach",
            Self::Owner => "owner",
            Self::Finding => "finding",
            Self::Cleared => "cleared",
        }
    }
}

/// One difference. A socket is known again by its address, so a restarted server is no change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    /// In the first snapshot: closed, reach, owner.
    pub before: Option<SocketIndex>,
    /// In the second snapshot: opened, reach, owner.
    pub after: Option<SocketIndex>,
    /// Index of the finding: in the second report for `Finding`, in the first for `Cleared`.
    pub finding: Option<usize>,
}

/// Everything that differs from `before` to `after`: sockets in the order of their addresses, then
/// findings in the order of their reports.
pub fn diff(before: (&Snapshot, &Report), after: (&Snapshot, &Report)) -> Vec<Change> {
    let (old, new) = (doors(before.0), doors(after.0));
    let mut changes = Vec::new();
    for door in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (was, is) =
            (old.get(door).map_or(&[][..], Vec::as_slice), new.get(door).map_or(&[][..], Vec::as_slice));
        let both = was.len().min(is.len());
        for (was, is) in was.iter().zip(is) {
            changes.extend(differences(before.0.observe(*was), after.0.observe(*is)));
        }
        let gone = was[both..].iter().map(|at| (ChangeKind::Closed, Some(*at), None));
        let come = is[both..].iter().map(|at| (ChangeKind::Opened, None, Some(*at)));
        changes.extend(gone.chain(come).map(|(kind, before, after)| Change {
            kind,
            before,
            after,
            finding: None,
        }));
    }
    changes.extend(appeared(before.1, after.1).map(|at| of_finding(ChangeKind::Finding, at)));
    changes.extend(appeared(after.1, before.1).map(|at| of_finding(ChangeKind::Cleared, at)));
    changes
}

/// What two sockets must share to be the same door.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Door<'s> {
    /// The name of a namespace, or the order in which it came; inodes change at every boot.
    netns: (Option<&'s [u8]>, u32),
    protocol: String,
    local: &'s Endpoint,
    remote: &'s Endpoint,
    /// For sockets without an address of their own.
    program: Option<Vec<u8>>,
}

fn doors(snapshot: &Snapshot) -> BTreeMap<Door<'_>, Vec<SocketIndex>> {
    let mut doors: BTreeMap<Door<'_>, Vec<SocketIndex>> = BTreeMap::new();
    for each in snapshot.observations() {
        let socket = each.socket;
        let name = each.namespace().name.as_ref().map(crate::model::Text::as_bytes);
        let number = if name.is_some() || each.namespace().own { 0 } else { 1 + socket.netns.0 };
        let door = Door {
            netns: (name, number),
            protocol: socket.protocol.name().into_owned(),
            local: &socket.local,
            remote: &socket.remote,
            program: (socket.local == Endpoint::None).then(|| program(&each)).flatten(),
        };
        doors.entry(door).or_default().push(each.index);
    }
    doors
}

fn differences(before: Observation<'_>, after: Observation<'_>) -> Vec<Change> {
    let reach = |each: &Observation<'_>| {
        each.socket.exposure.as_ref().map(|exposure| (exposure.reach, exposure.certain))
    };
    let mut kinds = Vec::new();
    if reach(&before) != reach(&after) {
        kinds.push(ChangeKind::Reach);
    }
    if program(&before) != program(&after) {
        kinds.push(ChangeKind::Owner);
    }
    let of = |kind| Change { kind, before: Some(before.index), after: Some(after.index), finding: None };
    kinds.into_iter().map(of).collect()
}

/// Findings that count in `now` and did not in `then`.
fn appeared<'r>(then: &'r Report, now: &'r Report) -> impl Iterator<Item = usize> + use<'r> {
    let counted =
        |report: &'r Report| report.findings.iter().enumerate().filter(|(_, each)| each.suppressed.is_none());
    let known: BTreeSet<&str> = counted(then).map(|(_, each)| each.fingerprint.as_str()).collect();
    counted(now).filter(move |(_, each)| !known.contains(each.fingerprint.as_str())).map(|(at, _)| at)
}

fn of_finding(kind: ChangeKind, at: usize) -> Change {
    Change { kind, before: None, after: None, finding: Some(at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reach;
    use crate::model::sample::Sample;

    fn server(pid: u32, exe: &str, reach: Reach) -> Sample {
        let mut sample = Sample::new();
        sample.process(pid, exe);
        sample.listener("0.0.0.0:80", reach, &[pid]).cookie = u64::from(pid);
        sample
    }

    fn kinds(before: &Sample, after: &Sample) -> Vec<ChangeKind> {
        let none = Report::default();
        diff((&before.snapshot, &none), (&after.snapshot, &none))
            .into_iter()
            .map(|change| change.kind)
            .collect()
    }

    #[test]
    fn a_restart_is_no_change() {
        let before = server(10, "/usr/sbin/nginx", Reach::Internet);
        assert_eq!(kinds(&before, &server(999, "/usr/sbin/nginx", Reach::Internet)), []);
    }

    #[test]
    fn another_reach_another_owner_another_door() {
        let before = server(10, "/usr/sbin/nginx", Reach::Internet);
        assert_eq!(kinds(&before, &server(10, "/usr/sbin/nginx", Reach::Lan)), [ChangeKind::Reach]);
        assert_eq!(kinds(&before, &server(10, "/tmp/nginx", Reach::Internet)), [ChangeKind::Owner]);
        let mut more = server(10, "/usr/sbin/nginx", Reach::Internet);
        more.listener("0.0.0.0:81", Reach::Lan, &[10]);
        assert_eq!(kinds(&before, &more), [ChangeKind::Opened]);
        assert_eq!(kinds(&more, &before), [ChangeKind::Closed]);
    }
}
