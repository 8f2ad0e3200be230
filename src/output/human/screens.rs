//! `diff`, `rules list`, `doctor`, and the gaps under every answer.

use std::io::{self, BufWriter, Write};

use anstyle::AnsiColor;

use super::audit::{field, place};
use super::paint::{self, Painted, bold, colored, faint};
use super::table::{self, Head};
use crate::finding::ChangeKind;
use crate::model::{Endpoint, Observation, counted};
use crate::output::cells;
use crate::output::{Clean, Comparison, Examination, RuleRow, Style, Tried, View};

/// What could not be seen, why, and what lifts it; only counted where it has no bearing on the
/// answer, unless asked for.
pub(crate) fn gaps(out: &mut dyn Write, view: &View<'_>, style: &Style) -> io::Result<()> {
    if !view.complete() {
        return titled_gaps(out, view, style, "Out of sight:");
    }
    let title = "Out of sight, without bearing on this answer:";
    match view.snapshot.gaps.len() {
        0 => Ok(()),
        _ if style.verbose => titled_gaps(out, view, style, title),
        1 => writeln!(out, "\n{title} 1 gap (-v lists it)"),
        many => writeln!(out, "\n{title} {} (-v lists them)", counted(many, "gap")),
    }
}

fn titled_gaps(out: &mut dyn Write, view: &View<'_>, style: &Style, title: &str) -> io::Result<()> {
    if view.snapshot.gaps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", Painted { text: title, style: bold(), on: style.color })?;
    for gap in &view.snapshot.gaps {
        let counted = gap.what.starts_with(|c: char| c.is_ascii_digit());
        let count = if counted { String::new() } else { gap.count.to_string() };
        field(out, style, &count, &format!("{}: {}", gap.what, gap.why))?;
        if let Some(remedy) = &gap.remedy {
            field(out, style, "", &format!("lift it: {remedy}"))?;
        }
    }
    Ok(())
}

pub(crate) fn diff(out: &mut dyn Write, comparison: &Comparison<'_>, style: &Style) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    let Comparison { before, after, changes } = comparison;
    if changes.is_empty() {
        writeln!(out, "no difference")?;
    }
    for change in *changes {
        let old = change.before.map(|at| before.snapshot.observe(at));
        let new = change.after.map(|at| after.snapshot.observe(at));
        let report = if change.kind == ChangeKind::Cleared { before.report } else { after.report };
        let finding = change.finding.and_then(|at| report.findings.get(at));
        let (mark, color) = match change.kind {
            ChangeKind::Opened | ChangeKind::Finding => ('+', AnsiColor::Red),
            ChangeKind::Closed | ChangeKind::Cleared => ('-', AnsiColor::Green),
            ChangeKind::Reach | ChangeKind::Owner => ('~', AnsiColor::Yellow),
        };
        let at = new.or(old);
        let what = match (change.kind, at, finding) {
            (ChangeKind::Reach, Some(at), _) => format!("{}  {} -> {}", place(&at), reach(old), reach(new)),
            (ChangeKind::Owner, Some(at), _) => {
                let who =
                    |each: Option<Observation<'_>>| each.map_or_else(String::new, |each| cells::who(&each));
                format!("{}  {} -> {}", place(&at), who(old), who(new))
            }
            (_, _, Some(finding)) => {
                format!("{} {} [{}]", finding.severity.name(), Clean(&finding.message), Clean(&finding.rule))
            }
            (_, Some(at), None) => {
                format!("{}{}  {}  {}", place(&at), far_end(&at), cells::who(&at), reach(Some(at)))
            }
            (_, None, None) => continue,
        };
        let line = format!("{mark} {:<8} {what}", change.kind.name());
        writeln!(out, "{}", Painted { text: line, style: colored(color), on: style.color })?;
    }
    for (name, view) in [("first", before), ("second", after)] {
        if !view.complete() {
            titled_gaps(out, view, style, &format!("Out of sight in the {name}:"))?;
        }
    }
    out.flush()
}

/// ` with 192.0.2.1:443`: a connection is told from its listener and from others by its far end.
fn far_end(each: &Observation<'_>) -> String {
    if matches!(each.socket.remote, Endpoint::None) {
        return String::new();
    }
    let mut end = String::from(" with ");
    cells::peer(&mut end, each);
    end
}

fn reach(each: Option<Observation<'_>>) -> String {
    let exposure = each.and_then(|each| each.socket.exposure.as_deref());
    exposure.map_or_else(
        || "-".to_owned(),
        |exposure| format!("{}{}", exposure.reach.name(), if exposure.certain { "" } else { "?" }),
    )
}

pub(crate) fn rules(out: &mut dyn Write, rules: &[RuleRow], style: &Style) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    let heads = [
        Head::new("Rule"),
        Head::new("Pack"),
        Head::new("Severity"),
        Head::new("Sure"),
        Head::shrinks("Title"),
    ];
    table::write(
        out,
        style,
        &heads,
        true,
        rules.len(),
        |row, column, text| {
            let rule = &rules[row];
            match column {
                0 => text.push_str(&Clean(&rule.id).to_string()),
                1 => text.push_str(&Clean(&rule.pack).to_string()),
                2 => text.push_str(rule.severity.name()),
                3 => text.push_str(rule.confidence.name()),
                _ => text.push_str(&Clean(&rule.title).to_string()),
            }
        },
        |row, column| (column == 2).then(|| paint::severity(rules[row].severity)),
    )?;
    out.flush()
}

pub(crate) fn doctor(out: &mut dyn Write, examination: &Examination<'_>, style: &Style) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    for ability in examination.abilities {
        let color = match ability.tried {
            Tried::Works => colored(AnsiColor::Green),
            Tried::Limited => colored(AnsiColor::Yellow),
            Tried::Refused => colored(AnsiColor::Red),
            Tried::Absent => faint(),
        };
        let name = Painted { text: format!("{:<8}", ability.tried.name()), style: color, on: style.color };
        writeln!(out, "{name} {}", Painted { text: Clean(&ability.title), style: bold(), on: style.color })?;
        field(out, style, "", &ability.detail)?;
        if let Some(remedy) = &ability.remedy {
            field(out, style, "lift", remedy)?;
        }
    }
    if !examination.sources.is_empty() {
        let sources: Vec<String> =
            examination.sources.iter().map(|source| Clean(source).to_string()).collect();
        writeln!(out, "\nCompared: {}", sources.join(", "))?;
        if examination.disagreements.is_empty() {
            writeln!(out, "All of them list the same sockets.")?;
        }
    }
    for each in examination.disagreements {
        let (seen, missed) = (each.seen_by.join(", "), each.missed_by.join(", "));
        let line = format!("{}: seen by {seen}; missed by {missed}", each.what);
        writeln!(out, "{}", Painted { text: Clean(&line), style: colored(AnsiColor::Red), on: style.color })?;
        if let Some(note) = &each.note {
            field(out, style, "", note)?;
        }
    }
    out.flush()
}
