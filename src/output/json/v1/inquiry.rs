//! What `why` asks of the packet filter: refusals, suppositions, and the answer about one source.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::socket::{Each, EntryV1, Lossy, PathV1, PortV1, Raw, Shown};
use crate::model::{Asked, Closing, Inquiry, Refusal, Snapshot};

/// Written into the object of the socket that it is about.
pub(super) fn fields<S: serde::ser::SerializeStruct>(
    object: &mut S,
    snapshot: &Snapshot,
    inquiry: &Inquiry,
) -> Result<(), S::Error> {
    object.serialize_field("refused", &Each(&inquiry.refused, |each| RefusalV1(snapshot, each)))?;
    object.serialize_field("closing", &Each(&inquiry.closing, ClosingV1))?;
    object.serialize_field("asked", &inquiry.asked.as_ref().map(|asked| AskedV1(snapshot, asked)))
}

struct RefusalV1<'s>(&'s Snapshot, &'s Refusal);

impl Serialize for RefusalV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(snapshot, refusal) = self;
        let mut object = serializer.serialize_struct("refusal", 5)?;
        let inode = snapshot.namespace(refusal.entry.netns).inode;
        object.serialize_field("entry", &EntryV1(inode, &refusal.entry.interfaces))?;
        object.serialize_field("destinations", &Each(&refusal.destinations, Shown))?;
        object.serialize_field("ports", &refusal.ports.as_deref().map(|ports| Each(ports, PortV1)))?;
        object.serialize_field("sources", &Each(&refusal.sources, Shown))?;
        object.serialize_field("because", &refusal.because)?;
        object.end()
    }
}

struct ClosingV1<'s>(&'s Closing);

impl Serialize for ClosingV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Closing { by, evidence, reach, certain, closes } = self.0;
        let mut object = serializer.serialize_struct("closing", 5)?;
        object.serialize_field("by", by.name())?;
        object.serialize_field("evidence", evidence)?;
        object.serialize_field("reach", reach.name())?;
        object.serialize_field("certain", certain)?;
        object.serialize_field("closes", closes)?;
        object.end()
    }
}

struct AskedV1<'s>(&'s Snapshot, &'s Asked);

impl Serialize for AskedV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(snapshot, asked) = self;
        let mut object = serializer.serialize_struct("asked", 6)?;
        object.serialize_field("source", &asked.sources.as_ref().map(Shown))?;
        object.serialize_field("interface", &asked.interface.as_ref().map(Lossy))?;
        object.serialize_field("answer", asked.answer.name())?;
        object.serialize_field("paths", &Each(&asked.paths, |path| PathV1(snapshot, path)))?;
        object.serialize_field("refused", &Each(&asked.refused, |each| RefusalV1(snapshot, each)))?;
        Raw::of([("interface", asked.interface.as_ref())]).write(&mut object)?;
        object.end()
    }
}
