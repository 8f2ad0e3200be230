//! The documents of `why`, `diff`, `doctor` and `rules`.

use std::io;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::document::Document;
use super::inquiry;
use super::report::{self, FindingV1, HostV1, RemedyV1};
use super::socket::{Each, Ids, Pairs, Shown, SocketV1, time};
use crate::finding::ChangeKind;
use crate::model::Snapshot;
use crate::output::{
    Ability, Comparison, Disagreement, Examination, Explained, Outcome, RuleRow, Trace, View, Why,
};

pub(super) fn why(document: &mut Document<'_>, view: &View<'_>, why: &Why<'_>) -> io::Result<()> {
    let ids = Ids::new(view.snapshot);
    document.field("target", why.target)?;
    document.field("free", &(why.takeable && why.sockets.is_empty()))?;
    report::sockets(document, view)?;
    document
        .list("explained", why.sockets.iter().map(|explained| ExplainedV1(&ids, view.snapshot, explained)))?;
    report::findings(document, view)
}

struct ExplainedV1<'s>(&'s Ids<'s>, &'s Snapshot, &'s Explained);

impl Serialize for ExplainedV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ids, snapshot, explained) = self;
        let mut object = serializer.serialize_struct("explained", 6)?;
        object.serialize_field("socket", &ids.of(explained.socket).to_string())?;
        inquiry::fields(&mut object, snapshot, &explained.inquiry)?;
        object.serialize_field("rules", &Each(&explained.rules, TraceV1::from))?;
        object.serialize_field("remedies", &Each(&explained.remedies, RemedyV1::from))?;
        object.end()
    }
}

/// `fields` are those that could not be read; `condition` and `found` say on which one fact a
/// rule failed.
#[derive(Serialize)]
struct TraceV1<'s> {
    rule: &'s str,
    title: &'s str,
    severity: &'static str,
    outcome: &'static str,
    fields: &'s [String],
    condition: Option<&'s str>,
    found: Option<&'s str>,
}

impl<'s> From<&'s Trace> for TraceV1<'s> {
    fn from(trace: &'s Trace) -> Self {
        let (outcome, fields, condition, found) = match &trace.outcome {
            Outcome::Matched => ("matched", &[][..], None, None),
            Outcome::Undecided { fields } => ("undecided", fields.as_slice(), None, None),
            Outcome::NearMiss { condition, found } => {
                ("near-miss", &[][..], Some(condition.as_str()), Some(found.as_str()))
            }
        };
        let (rule, title, severity) = (trace.rule.as_str(), trace.title.as_str(), trace.severity.name());
        Self { rule, title, severity, outcome, fields, condition, found }
    }
}

pub(super) fn diff(document: &mut Document<'_>, comparison: &Comparison<'_>) -> io::Result<()> {
    let Comparison { before, after, changes } = comparison;
    for (key, view) in [("before", before), ("after", after)] {
        document.object(key, |inner| report::head(inner, view))?;
    }
    let mut written = document.begin_list("changes")?;
    self::changes(comparison, |change| written.element(&change))?;
    written.end()?;
    let count = |kind: &ChangeKind| changes.iter().filter(|change| change.kind == *kind).count();
    let counts: Vec<_> = ChangeKind::ALL.iter().map(|kind| (kind.name(), count(kind))).collect();
    document.field("summary", &Pairs(&counts))
}

/// Hands every difference on, ready to be written.
pub(crate) fn changes(
    comparison: &Comparison<'_>,
    mut write: impl FnMut(ChangeV1<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let Comparison { before, after, changes } = comparison;
    let (old, new) = (Ids::new(before.snapshot), Ids::new(after.snapshot));
    for change in *changes {
        let (ids, report) = match change.kind {
            ChangeKind::Cleared => (&old, before.report),
            ChangeKind::Opened
            | ChangeKind::Closed
            | ChangeKind::Reach
            | ChangeKind::Owner
            | ChangeKind::Finding => (&new, after.report),
        };
        write(ChangeV1 {
            change: change.kind.name(),
            before: change.before.map(|at| SocketV1 { ids: &old, each: before.snapshot.observe(at) }),
            after: change.after.map(|at| SocketV1 { ids: &new, each: after.snapshot.observe(at) }),
            finding: change
                .finding
                .and_then(|at| report.findings.get(at))
                .map(|finding| FindingV1 { ids, finding }),
        })?;
    }
    Ok(())
}

#[derive(Serialize)]
pub(crate) struct ChangeV1<'s> {
    change: &'static str,
    before: Option<SocketV1<'s>>,
    after: Option<SocketV1<'s>>,
    finding: Option<FindingV1<'s>>,
}

/// A rule in a list of rules.
#[derive(Serialize)]
pub(crate) struct RuleV1<'s> {
    id: &'s str,
    pack: &'s str,
    title: &'s str,
    severity: &'static str,
    by_reach: Vec<ByReachV1>,
    confidence: &'static str,
    why: &'s str,
    references: &'s [String],
    file: Option<&'s str>,
}

#[derive(Serialize)]
struct ByReachV1 {
    reach: &'static str,
    severity: &'static str,
}

impl<'s> From<&'s RuleRow> for RuleV1<'s> {
    fn from(rule: &'s RuleRow) -> Self {
        let by_reach = rule.by_reach.iter();
        Self {
            id: &rule.id,
            pack: &rule.pack,
            title: &rule.title,
            severity: rule.severity.name(),
            by_reach: by_reach
                .map(|(reach, severity)| ByReachV1 { reach: reach.name(), severity: severity.name() })
                .collect(),
            confidence: rule.confidence.name(),
            why: &rule.why,
            references: &rule.references,
            file: rule.file.as_deref(),
        }
    }
}

pub(super) fn doctor(document: &mut Document<'_>, examination: &Examination<'_>) -> io::Result<()> {
    document.field("host", &HostV1::from(examination.host))?;
    document.field("taken_at", &time(examination.taken_at).map(Shown))?;
    document.list("abilities", examination.abilities.iter().map(AbilityV1::from))?;
    document.field("sources", examination.sources)?;
    document.field("disagreements", &Each(examination.disagreements, DisagreementV1::from))
}

#[derive(Serialize)]
struct AbilityV1<'s> {
    id: &'s str,
    title: &'s str,
    outcome: &'static str,
    detail: &'s str,
    remedy: Option<&'s str>,
}

impl<'s> From<&'s Ability> for AbilityV1<'s> {
    fn from(ability: &'s Ability) -> Self {
        Self {
            id: &ability.id,
            title: &ability.title,
            outcome: ability.tried.name(),
            detail: &ability.detail,
            remedy: ability.remedy.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct DisagreementV1<'s> {
    what: &'s str,
    seen_by: &'s [String],
    missed_by: &'s [String],
    note: Option<&'s str>,
}

impl<'s> From<&'s Disagreement> for DisagreementV1<'s> {
    fn from(each: &'s Disagreement) -> Self {
        Self {
            what: &each.what,
            seen_by: &each.seen_by,
            missed_by: &each.missed_by,
            note: each.note.as_deref(),
        }
    }
}
