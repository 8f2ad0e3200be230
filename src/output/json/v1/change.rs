//! One change as one object on one line.

use std::io::{self, Write};

use serde::Serialize;

use super::SCHEMA;
use super::report::{EvidenceV1, FindingV1};
use super::socket::{Ids, Shown, SocketV1, time};
use crate::model::Snapshot;
use crate::output::{Event, What};

/// `socket` is as it is after the change, or as it was last where it has gone; `before` as it was
/// where both are known. `evidence` holds the rules that its paths quote.
#[derive(Serialize)]
struct ChangeLineV1<'e> {
    schema: &'static str,
    kind: &'static str,
    at: Option<Shown<jiff::Timestamp>>,
    change: &'static str,
    seen_by: &'static str,
    socket: Option<SocketV1<'e>>,
    before: Option<SocketV1<'e>>,
    finding: Option<FindingV1<'e>>,
    /// The sockets of the finding.
    sockets: Vec<SocketV1<'e>>,
    evidence: Vec<EvidenceV1<'e>>,
    lost: Option<u64>,
}

pub(crate) fn write_change(out: &mut dyn Write, event: &Event<'_>) -> io::Result<()> {
    let nothing = Snapshot::default();
    let (after, before) = match event.what {
        What::Socket { before, after, .. } => (after.or(before), after.and(before)),
        What::Finding { .. } | What::Lost(_) => (None, None),
    };
    let of_finding = match event.what {
        What::Finding { snapshot, finding, .. } => Some((snapshot, finding)),
        What::Socket { .. } | What::Lost(_) => None,
    };
    let is =
        Ids::new(after.map(|each| each.snapshot).or(of_finding.map(|(part, _)| part)).unwrap_or(&nothing));
    let was = Ids::new(before.map_or(&nothing, |each| each.snapshot));
    let quoted = after.map(|each| each.snapshot).or(of_finding.map(|(part, _)| part));
    let paths = after.and_then(|each| each.socket.exposure.as_deref()).map_or(&[][..], |all| &all.paths);
    let quotes = of_finding.is_some() || paths.iter().any(|path| !path.because.is_empty());
    let line = ChangeLineV1 {
        schema: SCHEMA,
        kind: "change",
        at: time(event.at).map(Shown),
        change: event.what.name(),
        seen_by: event.seen_by,
        socket: after.map(|each| SocketV1 { ids: &is, each }),
        before: before.map(|each| SocketV1 { ids: &was, each }),
        finding: of_finding.map(|(_, finding)| FindingV1 { ids: &is, finding }),
        sockets: of_finding
            .map(|(part, finding)| {
                finding.sockets.iter().map(|at| SocketV1 { ids: &is, each: part.observe(*at) }).collect()
            })
            .unwrap_or_default(),
        evidence: quoted
            .filter(|_| quotes)
            .map(|part| part.evidence.iter().map(EvidenceV1::from).collect())
            .unwrap_or_default(),
        lost: match event.what {
            What::Lost(count) => Some(count),
            What::Socket { .. } | What::Finding { .. } => None,
        },
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
