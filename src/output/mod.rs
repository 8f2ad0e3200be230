//! Every form in which an answer is written. Nothing here looks at the host: what is not in the
//! values handed in does not exist.

#![forbid(unsafe_code)]

mod cells;
mod clean;
mod event;
mod github;
mod human;
pub mod json;
mod jsonl;
mod junit;
mod markdown;
mod problems;
pub mod proof;
mod sarif;
mod targets;
mod view;

use std::io::{self, Write};

pub use cells::sort;
pub use clean::Clean;
pub use event::{Event, What, event};
pub use json::v1::{ReadError, read_snapshot};
pub use problems::problems;
pub use view::{
    Ability, Column, Comparison, Disagreement, Examination, Explained, Format, ListOptions, Outcome,
    Question, Recollection, RuleRow, SortKey, Style, Trace, Tried, View, Why,
};

use crate::model::Snapshot;
use json::v1;

/// Findings, exposed listeners and gaps.
///
/// # Errors
/// What writing to `out` gives.
pub fn audit(out: &mut dyn Write, format: Format, view: &View<'_>, style: &Style) -> io::Result<()> {
    match format {
        Format::Human => human::audit(out, view, style),
        Format::Json => v1::write_report(out, view),
        Format::Jsonl => jsonl::report(out, view),
        Format::Sarif => sarif::report(out, view),
        Format::Junit => junit::report(out, view),
        Format::Github => github::report(out, view),
        Format::Markdown => markdown::report(out, view),
    }
}

/// The selection as a table.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format that is not in `Format::TABLES`.
pub fn list(
    out: &mut dyn Write,
    format: Format,
    view: &View<'_>,
    options: &ListOptions,
    style: &Style,
) -> io::Result<()> {
    match format {
        Format::Human => human::list(out, view, options, style),
        Format::Json => v1::write_inventory(out, view),
        Format::Jsonl => jsonl::inventory(out, view),
        Format::Markdown => markdown::inventory(out, view, options),
        Format::Sarif | Format::Junit | Format::Github => unsupported(format),
    }
}

/// What could not be seen, for commands whose table leaves no room for it (`list`: on standard
/// error).
///
/// # Errors
/// What writing to `out` gives.
pub fn gaps(out: &mut dyn Write, view: &View<'_>, style: &Style) -> io::Result<()> {
    human::gaps(out, view, style)
}

/// One screen for each socket of a target.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format that is not in `Format::SCREENS`.
pub fn why(
    out: &mut dyn Write,
    format: Format,
    view: &View<'_>,
    why: &Why<'_>,
    style: &Style,
) -> io::Result<()> {
    match format {
        Format::Human => human::why(out, view, why, style),
        Format::Json => v1::write_why(out, view, why),
        Format::Jsonl | Format::Markdown | Format::Sarif | Format::Junit | Format::Github => {
            unsupported(format)
        }
    }
}

/// What differs between two snapshots.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format that is not in `Format::TABLES`.
pub fn diff(
    out: &mut dyn Write,
    format: Format,
    comparison: &Comparison<'_>,
    style: &Style,
) -> io::Result<()> {
    match format {
        Format::Human => human::diff(out, comparison, style),
        Format::Json => v1::write_diff(out, comparison),
        Format::Jsonl => jsonl::diff(out, comparison),
        Format::Markdown => markdown::diff(out, comparison),
        Format::Sarif | Format::Junit | Format::Github => unsupported(format),
    }
}

/// The rules themselves.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format that is not in `Format::TABLES`.
pub fn rules(out: &mut dyn Write, format: Format, rules: &[RuleRow], style: &Style) -> io::Result<()> {
    match format {
        Format::Human => human::rules(out, rules, style),
        Format::Json => v1::write_rules(out, rules),
        Format::Jsonl => jsonl::rules(out, rules),
        Format::Markdown => markdown::rules(out, rules),
        Format::Sarif | Format::Junit | Format::Github => unsupported(format),
    }
}

/// What can be seen and done here.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format that is not in `Format::SCREENS`.
pub fn doctor(
    out: &mut dyn Write,
    format: Format,
    examination: &Examination<'_>,
    style: &Style,
) -> io::Result<()> {
    match format {
        Format::Human => human::doctor(out, examination, style),
        Format::Json => v1::write_doctor(out, examination),
        Format::Jsonl | Format::Markdown | Format::Sarif | Format::Junit | Format::Github => {
            unsupported(format)
        }
    }
}

/// What was seen when.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format that is not in `Format::SCREENS`.
pub fn history(out: &mut dyn Write, format: Format, told: &Recollection, style: &Style) -> io::Result<()> {
    match format {
        Format::Human => human::history(out, told, style),
        Format::Json => v1::write_history(out, told),
        Format::Jsonl | Format::Markdown | Format::Sarif | Format::Junit | Format::Github => {
            unsupported(format)
        }
    }
}

/// The whole snapshot as a document of its own, which `read_snapshot` reads back.
///
/// # Errors
/// What writing to `out` gives.
pub fn snapshot(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    v1::write_snapshot(out, snapshot)
}

fn unsupported(format: Format) -> io::Result<()> {
    let message = format!("this answer has no form `{}`", format.name());
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}
