//! What inventory, report and snapshot have in common, and the findings of a report.

use std::io;

use serde::Serialize;

use super::document::Document;
use super::socket::{Each, Ids, Lossy, Pairs, Shown, SocketV1, time};
use crate::finding::{Finding, Remedy, Severity, Suppressed, Undecided};
use crate::model::{Evidence, Gap, Host, Reach, SocketIndex, State};
use crate::output::View;

pub(super) fn head(document: &mut Document<'_>, view: &View<'_>) -> io::Result<()> {
    document.field("host", &HostV1::from(&view.snapshot.host))?;
    document.field("taken_at", &time(view.snapshot.taken_at).map(Shown))?;
    document.field("visibility", &visibility(view))
}

pub(crate) fn visibility<'s>(view: &View<'s>) -> impl Serialize + use<'s> {
    VisibilityV1 { complete: view.complete(), gaps: view.snapshot.gaps.iter().map(GapV1::from).collect() }
}

#[derive(Serialize)]
struct VisibilityV1<'s> {
    complete: bool,
    gaps: Vec<GapV1<'s>>,
}

pub(super) fn sockets(document: &mut Document<'_>, view: &View<'_>) -> io::Result<()> {
    let ids = Ids::new(view.snapshot);
    document.list("evidence", view.snapshot.evidence.iter().map(EvidenceV1::from))?;
    document.list("sockets", view.observations().map(|each| SocketV1 { ids: &ids, each }))
}

pub(super) fn findings(document: &mut Document<'_>, view: &View<'_>) -> io::Result<()> {
    let ids = Ids::new(view.snapshot);
    document.list("findings", view.report.findings.iter().map(|each| finding(&ids, each)))?;
    document.list("undecided", view.report.undecided.iter().map(|each| undecided(&ids, each)))
}

pub(crate) fn finding<'s>(ids: &'s Ids<'s>, finding: &'s Finding) -> impl Serialize + use<'s> {
    FindingV1 { ids, finding }
}

pub(crate) fn undecided<'s>(ids: &'s Ids<'s>, undecided: &'s Undecided) -> impl Serialize + use<'s> {
    UndecidedV1 { ids, undecided }
}

#[derive(Serialize)]
pub(super) struct HostV1<'s> {
    name: &'s str,
    os: &'s str,
    kernel: &'s str,
    boot_id: Option<&'s str>,
}

impl<'s> From<&'s Host> for HostV1<'s> {
    fn from(host: &'s Host) -> Self {
        Self { name: &host.name, os: &host.os, kernel: &host.kernel, boot_id: host.boot_id.as_deref() }
    }
}

#[derive(Serialize)]
pub(super) struct GapV1<'s> {
    id: &'s str,
    what: &'s str,
    why: &'s str,
    remedy: Option<&'s str>,
    count: u64,
}

impl<'s> From<&'s Gap> for GapV1<'s> {
    fn from(gap: &'s Gap) -> Self {
        Self { id: &gap.id, what: &gap.what, why: &gap.why, remedy: gap.remedy.as_deref(), count: gap.count }
    }
}

#[derive(Serialize)]
pub(super) struct EvidenceV1<'s> {
    #[serde(rename = "where")]
    place: &'s str,
    handle: Option<u64>,
    text: Lossy<'s>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<RawText<'s>>,
}

#[derive(Serialize)]
struct RawText<'s> {
    text: Shown<crate::model::Hex<'s>>,
}

impl<'s> From<&'s Evidence> for EvidenceV1<'s> {
    fn from(evidence: &'s Evidence) -> Self {
        let bytes = evidence.text.as_bytes();
        let raw =
            evidence.text.as_str().is_none().then_some(RawText { text: Shown(crate::model::Hex(bytes)) });
        Self { place: &evidence.place, handle: evidence.handle, text: Lossy(&evidence.text), raw }
    }
}

pub(super) struct FindingV1<'s> {
    pub(super) ids: &'s Ids<'s>,
    pub(super) finding: &'s Finding,
}

impl Serialize for FindingV1<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let finding = self.finding;
        let mut object = serializer.serialize_struct("finding", 13)?;
        object.serialize_field("rule", &finding.rule)?;
        object.serialize_field("title", &finding.title)?;
        object.serialize_field("severity", finding.severity.name())?;
        object.serialize_field("confidence", finding.confidence.name())?;
        object.serialize_field("message", &finding.message)?;
        object.serialize_field("why", &finding.why)?;
        object.serialize_field("fingerprint", &finding.fingerprint)?;
        object.serialize_field(
            "sockets",
            &Each(&finding.sockets, |at: &SocketIndex| Shown(self.ids.of(*at))),
        )?;
        object.serialize_field("evidence", &finding.evidence)?;
        object.serialize_field("remedies", &Each(&finding.remedies, RemedyV1::from))?;
        object.serialize_field("references", &finding.references)?;
        object.serialize_field("suppressed", &finding.suppressed.as_ref().map(SuppressedV1::from))?;
        object.end()
    }
}

#[derive(Serialize)]
pub(super) struct RemedyV1<'s> {
    kind: &'s str,
    title: &'s str,
    commands: &'s [String],
    undo: &'s [String],
    verify: Option<&'s str>,
    note: Option<&'s str>,
}

impl<'s> From<&'s Remedy> for RemedyV1<'s> {
    fn from(remedy: &'s Remedy) -> Self {
        Self {
            kind: &remedy.kind,
            title: &remedy.title,
            commands: &remedy.commands,
            undo: &remedy.undo,
            verify: remedy.verify.as_deref(),
            note: remedy.note.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct SuppressedV1<'s> {
    reason: &'s str,
    until: &'s str,
    by: &'s str,
}

impl<'s> From<&'s Suppressed> for SuppressedV1<'s> {
    fn from(suppressed: &'s Suppressed) -> Self {
        Self { reason: &suppressed.reason, until: &suppressed.until, by: &suppressed.by }
    }
}

struct UndecidedV1<'s> {
    ids: &'s Ids<'s>,
    undecided: &'s Undecided,
}

impl Serialize for UndecidedV1<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("undecided", 4)?;
        object.serialize_field("rule", &self.undecided.rule)?;
        object.serialize_field(
            "sockets",
            &Each(&self.undecided.sockets, |at: &SocketIndex| Shown(self.ids.of(*at))),
        )?;
        object.serialize_field("fields", &self.undecided.fields)?;
        object.serialize_field("gap", &self.undecided.gap)?;
        object.end()
    }
}

/// Counts over the selection. Suppressed findings are counted apart.
pub(super) struct Summary {
    sockets: usize,
    listeners: usize,
    by_reach: Vec<(&'static str, usize)>,
    judged: Option<Judged>,
}

struct Judged {
    findings: Vec<(&'static str, usize)>,
    suppressed: usize,
    undecided: usize,
}

impl Summary {
    pub(super) fn of(view: &View<'_>, judged: bool) -> Self {
        let mut by_reach: Vec<(&'static str, usize)> =
            Reach::ALL.iter().map(|reach| (reach.name(), 0)).collect();
        let mut listeners = 0;
        for each in view.observations() {
            listeners += usize::from(each.socket.state == State::Listen);
            if let Some(exposure) = &each.socket.exposure {
                let name = exposure.reach.name();
                by_reach.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, count)| *count += 1);
            }
        }
        let judged = judged.then(|| {
            let counted = |severity: &Severity| {
                let all = view.report.findings.iter();
                all.filter(|each| each.severity == *severity && each.suppressed.is_none()).count()
            };
            Judged {
                findings: Severity::ALL.iter().map(|severity| (severity.name(), counted(severity))).collect(),
                suppressed: view.report.findings.iter().filter(|each| each.suppressed.is_some()).count(),
                undecided: view.report.undecided.len(),
            }
        });
        Self { sockets: view.selection.len(), listeners, by_reach, judged }
    }
}

impl Serialize for Summary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("summary", 6)?;
        object.serialize_field("sockets", &self.sockets)?;
        object.serialize_field("listeners", &self.listeners)?;
        object.serialize_field("by_reach", &Pairs(&self.by_reach))?;
        if let Some(judged) = &self.judged {
            object.serialize_field("findings", &Pairs(&judged.findings))?;
            object.serialize_field("suppressed", &judged.suppressed)?;
            object.serialize_field("undecided", &judged.undecided)?;
        }
        object.end()
    }
}
