//! The document of `history`.

use std::io;

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use super::document::Document;
use super::socket::{Lossy, Raw, Shown, time};
use crate::finding::{PastChange, PastDoor, PastFinding, PastHolder, PastTalk, Watched};
use crate::model::{Endpoint, Reach, Text};
use crate::output::Recollection;

pub(super) fn history(document: &mut Document<'_>, told: &Recollection) -> io::Result<()> {
    document.field("question", told.question)?;
    document.field("file", &told.file)?;
    document.field("since", &told.since.and_then(time).map(Shown))?;
    document.field("until", &told.until.and_then(time).map(Shown))?;
    document.list("watched", told.watched.iter().map(WatchedV1::from))?;
    document.list("changes", told.changes.iter().map(ChangeV1::from))?;
    document.list("seen", told.doors.iter().map(DoorV1))?;
    document.list("peers", told.talks.iter().map(TalkV1))
}

#[derive(Serialize)]
struct WatchedV1<'s> {
    began: Option<Shown<jiff::Timestamp>>,
    until: Option<Shown<jiff::Timestamp>>,
    version: &'s str,
    lost: u64,
}

impl<'s> From<&'s Watched> for WatchedV1<'s> {
    fn from(each: &'s Watched) -> Self {
        let Watched { began, until, version, lost } = each;
        Self { began: time(*began).map(Shown), until: time(*until).map(Shown), version, lost: *lost }
    }
}

#[derive(Serialize)]
struct ChangeV1<'s> {
    at: Option<Shown<jiff::Timestamp>>,
    change: &'static str,
    seen_by: &'s str,
    /// As it was last, where it has gone.
    socket: Option<DoorV1<'s>>,
    before: Option<DoorV1<'s>>,
    finding: Option<FindingV1<'s>>,
}

impl<'s> From<&'s PastChange> for ChangeV1<'s> {
    fn from(change: &'s PastChange) -> Self {
        let PastChange { at, kind, seen_by, before, after, finding } = change;
        Self {
            at: time(*at).map(Shown),
            change: kind.name(),
            seen_by,
            socket: after.as_ref().or(before.as_ref()).map(DoorV1),
            before: before.as_ref().filter(|_| after.is_some()).map(DoorV1),
            finding: finding.as_ref().map(FindingV1::from),
        }
    }
}

#[derive(Serialize)]
struct FindingV1<'s> {
    rule: &'s str,
    title: &'s str,
    severity: &'static str,
    message: &'s str,
    fingerprint: &'s str,
}

impl<'s> From<&'s PastFinding> for FindingV1<'s> {
    fn from(finding: &'s PastFinding) -> Self {
        let PastFinding { fingerprint, rule, title, severity, message } = finding;
        Self { rule, title, severity: severity.name(), message, fingerprint }
    }
}

struct DoorV1<'s>(&'s PastDoor);

impl Serialize for DoorV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let door = self.0;
        let mut object = serializer.serialize_struct("door", 11)?;
        object.serialize_field("protocol", &door.protocol.name())?;
        object.serialize_field("local", &LocalV1(&door.local))?;
        object.serialize_field("netns", &door.netns.as_ref().map(Lossy))?;
        object.serialize_field("holder", &door.holder.as_ref().map(HolderV1))?;
        object.serialize_field("reach", &door.reach.map(|(reach, _)| Reach::name(reach)))?;
        object.serialize_field("certain", &door.reach.map(|(_, certain)| certain))?;
        object.serialize_field("first_seen", &time(door.first_seen).map(Shown))?;
        object.serialize_field("last_seen", &time(door.last_seen).map(Shown))?;
        object.serialize_field("open", &door.open)?;
        object.serialize_field("times", &door.times)?;
        Raw::of([("netns", door.netns.as_ref())]).write(&mut object)?;
        object.end()
    }
}

/// As in `sockets`, but an interface has its number alone: its name was not kept.
struct LocalV1<'s>(&'s Endpoint);

impl Serialize for LocalV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Endpoint::None => serializer.serialize_none(),
            Endpoint::Inet(address, port) => super::socket::inet(serializer, *address, Some(*port)),
            Endpoint::UnixPath(path) => super::socket::unix(serializer, path, false),
            Endpoint::UnixAbstract(name) => super::socket::unix(serializer, name, true),
            Endpoint::Vsock { cid, port } => super::socket::vsock(serializer, *cid, *port),
            Endpoint::Interface(index) => {
                let mut object = serializer.serialize_struct("interface", 1)?;
                object.serialize_field("interface_index", index)?;
                object.end()
            }
        }
    }
}

struct HolderV1<'s>(&'s PastHolder);

impl Serialize for HolderV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PastHolder { pid, name, exe, user, unit, container, package, parent } = self.0;
        let fields: [(&'static str, Option<&Text>); 7] = [
            ("name", Some(name)),
            ("exe", exe.as_ref()),
            ("user", user.as_ref()),
            ("unit", unit.as_ref()),
            ("container", container.as_ref()),
            ("package", package.as_ref()),
            ("parent", parent.as_ref()),
        ];
        let mut object = serializer.serialize_struct("holder", 9)?;
        object.serialize_field("pid", pid)?;
        for (name, text) in fields {
            object.serialize_field(name, &text.map(Lossy))?;
        }
        Raw::of(fields).write(&mut object)?;
        object.end()
    }
}

struct TalkV1<'s>(&'s PastTalk);

impl Serialize for TalkV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let talk = self.0;
        let mut object = serializer.serialize_struct("talk", 10)?;
        object.serialize_field("peer", &talk.peer)?;
        object.serialize_field("protocol", &talk.protocol.name())?;
        object.serialize_field("role", talk.role.name())?;
        object.serialize_field("port", &talk.port)?;
        object.serialize_field("netns", &talk.netns.as_ref().map(Lossy))?;
        object.serialize_field("holder", &talk.holder.as_ref().map(HolderV1))?;
        object.serialize_field("first_seen", &time(talk.first_seen).map(Shown))?;
        object.serialize_field("last_seen", &time(talk.last_seen).map(Shown))?;
        object.serialize_field("times", &talk.times)?;
        Raw::of([("netns", talk.netns.as_ref())]).write(&mut object)?;
        object.end()
    }
}
