//! The packet filter's part of a screen of `why`: ways that are shut and by which rule, what would shut
//! those that are open, and the answer about one source.

use std::io::{self, Write};

use super::audit::field;
use super::paint::{self, Painted, faint};
use super::ways::{shut, ways};
use crate::model::{Answer, Asked, Closer, Closing, Inquiry, Observation, Reach, Refusal};
use crate::output::{Clean, Style, View};

/// Refusals of one socket that are shown without `-v`.
const SHOWN: usize = 6;

/// Ways that the packet filter shuts, and what would shut the others.
pub(super) fn inquiry(out: &mut dyn Write, view: &View<'_>, of: &Inquiry, style: &Style) -> io::Result<()> {
    refusals(out, view, &of.refused, style)?;
    for closing in &of.closing {
        field(out, style, "if", &supposed(view, closing))?;
    }
    Ok(())
}

fn refusals(out: &mut dyn Write, view: &View<'_>, refused: &[Refusal], style: &Style) -> io::Result<()> {
    let lines = shut(view, refused, style.verbose);
    let shown = if style.verbose || lines.len() <= SHOWN { lines.len() } else { SHOWN - 1 };
    for line in &lines[..shown] {
        field(out, style, "shut", line)?;
    }
    if shown < lines.len() {
        field(out, style, "shut", &format!("and {} more (-v)", lines.len() - shown))?;
    }
    Ok(())
}

/// `the rule inet filter/input handle 14 were absent: host`
fn supposed(view: &View<'_>, closing: &Closing) -> String {
    let Closing { by, evidence, reach, certain, closes } = closing;
    let names: Vec<String> = evidence
        .iter()
        .filter_map(|at| view.snapshot.evidence.get(*at as usize))
        .map(|each| match each.handle {
            Some(handle) => format!("{} handle {handle}", Clean(&each.place)),
            None => Clean(&each.place).to_string(),
        })
        .collect();
    let condition = match by {
        Closer::Absent if names.len() == 1 => format!("the rule at {} were absent", names.concat()),
        Closer::Absent => format!("the rules at {} were absent", names.join(", ")),
        Closer::Policy => format!("the policy of {} were drop", names.concat()),
        Closer::Loopback => "it were bound to loopback".to_owned(),
    };
    let doubt = if *certain { "" } else { " at most" };
    match (closes, reach) {
        (true, Reach::None) => format!("{condition}: closed to everybody"),
        (true, _) => format!("{condition}: closed to all but this computer{doubt}"),
        (false, reach) => format!("{condition}: fewer could, reach {}{doubt}", reach.name()),
    }
}

/// The answer about one source.
pub(super) fn asked(
    out: &mut dyn Write,
    view: &View<'_>,
    (each, asked): (&Observation<'_>, &Asked),
    style: &Style,
) -> io::Result<()> {
    let who = asked.sources.map_or_else(
        || "anybody".to_owned(),
        |range| {
            if range.first == range.last { range.first.to_string() } else { range.to_string() }
        },
    );
    let through = asked.interface.as_ref().map_or_else(String::new, |name| format!(" through {name}"));
    let (word, reach) = match asked.answer {
        Answer::Yes => ("yes", Reach::Internet),
        Answer::No => ("no", Reach::None),
        Answer::Partly => ("in part", Reach::Lan),
        Answer::Unknown => ("perhaps", Reach::Unknown),
    };
    let word = Painted { text: word, style: paint::reach(reach), on: style.color };
    let label = Painted { text: "asked", style: faint(), on: style.color };
    writeln!(out, "  {label}  {who}{through}: {word}")?;
    for way in ways(view, &asked.paths, style.verbose) {
        field(out, style, "way", &way)?;
    }
    refusals(out, view, &asked.refused, style)?;
    if asked.paths.is_empty() && asked.refused.is_empty() {
        let text = match &each.socket.exposure {
            None => "this socket receives from nobody new",
            Some(exposure) if exposure.reach == Reach::Unknown => {
                "who can reach this socket is not known at all"
            }
            Some(_) => "no way leads from there to it: its address, its interface or the routes exclude it",
        };
        field(out, style, "shut", text)?;
    }
    Ok(())
}
