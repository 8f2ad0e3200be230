//! `sockwarden/v1`: one document, written as a stream. Within the version fields and values may
//! be added; none is renamed or removed. `docs/sockwarden-v1.schema.json` enumerates every value.

mod change;
mod document;
mod history;
mod inquiry;
mod proof;
mod report;
mod screens;
mod snapshot;
mod socket;

use std::io::{self, Write};

use self::document::Document;
use serde::Serialize;

use crate::model::{Observation, Snapshot, SocketIndex};
use crate::output::{Comparison, Examination, Question, Recollection, RuleRow, View, Why};

pub(crate) use self::change::write_change;
pub(crate) use self::proof::write_step;
pub(crate) use self::report::{finding, undecided, visibility};
pub(crate) use self::screens::changes;
pub use self::snapshot::{ReadError, read_snapshot};
pub(crate) use self::socket::Ids;

/// RFC 3339 in UTC; `None` for a time that has no such form.
pub(crate) fn rfc3339(nanoseconds: i64) -> Option<String> {
    socket::time(nanoseconds).map(|time| time.to_string())
}

/// A socket as it stands in `sockets`.
pub(crate) fn socket<'s>(ids: &'s Ids<'s>, each: Observation<'s>) -> impl Serialize + use<'s> {
    self::socket::SocketV1 { ids, each }
}

/// A rule as it stands in `rules`.
pub(crate) fn rule(rule: &RuleRow) -> impl Serialize {
    screens::RuleV1::from(rule)
}

/// Value of the key `schema` of every document.
pub const SCHEMA: &str = "sockwarden/v1";

/// The sockets of the selection, without judgement.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_inventory(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let mut document = Document::begin(out, "inventory")?;
    report::head(&mut document, view)?;
    report::sockets(&mut document, view)?;
    document.field("summary", &report::Summary::of(view, false))?;
    document.end()
}

/// The sockets of the selection and the findings about them.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_report(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let mut document = Document::begin(out, "report")?;
    report::head(&mut document, view)?;
    report::sockets(&mut document, view)?;
    report::findings(&mut document, view)?;
    document.field("summary", &report::Summary::of(view, true))?;
    document.end()
}

/// The whole snapshot, which `read_snapshot` reads back without loss.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_snapshot(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let everything: Vec<SocketIndex> = snapshot.observations().map(|each| each.index).collect();
    let report = crate::finding::Report::default();
    let question = Question::EVERYTHING;
    let view = View { snapshot, report: &report, selection: &everything, question: &question, rules: &[] };
    let mut document = Document::begin(out, "snapshot")?;
    report::head(&mut document, &view)?;
    report::sockets(&mut document, &view)?;
    document.field("summary", &report::Summary::of(&view, false))?;
    snapshot::inputs(&mut document, snapshot)?;
    document.end()
}

/// What `why` explains.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_why(out: &mut dyn Write, view: &View<'_>, why: &Why<'_>) -> io::Result<()> {
    let mut document = Document::begin(out, "why")?;
    report::head(&mut document, view)?;
    screens::why(&mut document, view, why)?;
    document.end()
}

/// What differs between two snapshots.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_diff(out: &mut dyn Write, comparison: &Comparison<'_>) -> io::Result<()> {
    let mut document = Document::begin(out, "diff")?;
    screens::diff(&mut document, comparison)?;
    document.end()
}

/// What was seen when.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_history(out: &mut dyn Write, told: &Recollection) -> io::Result<()> {
    let mut document = Document::begin(out, "history")?;
    history::history(&mut document, told)?;
    document.end()
}

/// The rules themselves.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_rules(out: &mut dyn Write, rules: &[RuleRow]) -> io::Result<()> {
    let mut document = Document::begin(out, "rules")?;
    document.list("rules", rules.iter().map(screens::RuleV1::from))?;
    document.end()
}

/// What can be seen and done here.
///
/// # Errors
/// What writing to `out` gives.
pub fn write_doctor(out: &mut dyn Write, examination: &Examination<'_>) -> io::Result<()> {
    let mut document = Document::begin(out, "doctor")?;
    screens::doctor(&mut document, examination)?;
    document.end()
}
