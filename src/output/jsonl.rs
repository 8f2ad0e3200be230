//! One JSON object a line, told apart by `kind`: first what could be seen, then sockets, findings
//! and what is undecided, each in the form that it has in the whole document.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer};

use super::json::v1::{self, Ids, SCHEMA};
use super::{Comparison, RuleRow, View};
use crate::model::SocketIndex;

/// Findings and what is undecided, after the sockets that they are about.
pub(crate) fn report(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let mut lines = Lines::new(out);
    lines.visibility(view)?;
    let findings = view.report.findings.iter().flat_map(|finding| &finding.sockets);
    let undecided = view.report.undecided.iter().flat_map(|undecided| &undecided.sockets);
    let about: BTreeSet<SocketIndex> = findings.chain(undecided).copied().collect();
    let ids = Ids::new(view.snapshot);
    for each in view.observations().filter(|each| about.contains(&each.index)) {
        lines.line("socket", &v1::socket(&ids, each))?;
    }
    for finding in &view.report.findings {
        lines.line("finding", &v1::finding(&ids, finding))?;
    }
    for undecided in &view.report.undecided {
        lines.line("undecided", &v1::undecided(&ids, undecided))?;
    }
    lines.0.flush()
}

/// Every socket of the selection.
pub(crate) fn inventory(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let mut lines = Lines::new(out);
    lines.visibility(view)?;
    let ids = Ids::new(view.snapshot);
    for each in view.observations() {
        lines.line("socket", &v1::socket(&ids, each))?;
    }
    lines.0.flush()
}

pub(crate) fn diff(out: &mut dyn Write, comparison: &Comparison<'_>) -> io::Result<()> {
    let mut lines = Lines::new(out);
    v1::changes(comparison, |change| lines.line("difference", &change))?;
    lines.0.flush()
}

pub(crate) fn rules(out: &mut dyn Write, rules: &[RuleRow]) -> io::Result<()> {
    let mut lines = Lines::new(out);
    for rule in rules {
        lines.line("rule", &v1::rule(rule))?;
    }
    lines.0.flush()
}

struct Lines<'w>(BufWriter<&'w mut dyn Write>);

impl<'w> Lines<'w> {
    fn new(out: &'w mut dyn Write) -> Self {
        Self(BufWriter::with_capacity(1 << 16, out))
    }

    fn visibility(&mut self, view: &View<'_>) -> io::Result<()> {
        self.line("visibility", &v1::visibility(view))
    }

    fn line<T: Serialize>(&mut self, kind: &'static str, body: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, &Line { kind, body })?;
        self.0.write_all(b"\n")
    }
}

struct Line<'b, T> {
    kind: &'static str,
    body: &'b T,
}

impl<T: Serialize> Serialize for Line<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("line", 3)?;
        object.serialize_field("schema", SCHEMA)?;
        object.serialize_field("kind", self.kind)?;
        object.serialize_field(self.kind, self.body)?;
        object.end()
    }
}
