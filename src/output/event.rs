//! What changes, as it happens: one line for a person, one object a line for a program.

use std::io::{self, Write};

use super::json::v1;
use super::{Format, Style, human};
use crate::finding::{ChangeKind, Finding};
use crate::model::{Observation, Snapshot};

/// One change, or the word that some may have been missed.
#[derive(Clone, Copy, Debug)]
pub struct Event<'e> {
    /// Nanoseconds since the epoch.
    pub at: i64,
    /// What made it be seen: start, look, event, reconciliation.
    pub seen_by: &'static str,
    pub what: What<'e>,
}

#[derive(Clone, Copy, Debug)]
pub enum What<'e> {
    Socket {
        kind: ChangeKind,
        before: Option<Observation<'e>>,
        after: Option<Observation<'e>>,
    },
    Finding {
        kind: ChangeKind,
        snapshot: &'e Snapshot,
        finding: &'e Finding,
    },
    /// So many signs were lost; everything has been read anew.
    Lost(u64),
}

impl What<'_> {
    /// The value of `change`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Socket { kind, .. } | Self::Finding { kind, .. } => kind.name(),
            Self::Lost(_) => "lost-events",
        }
    }
}

/// Writes one event.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format other than human and JSON.
pub fn event(out: &mut dyn Write, format: Format, event: &Event<'_>, style: &Style) -> io::Result<()> {
    match format {
        Format::Human => human::event(out, event, style),
        Format::Json | Format::Jsonl => v1::write_change(out, event),
        Format::Sarif | Format::Junit | Format::Github | Format::Markdown => super::unsupported(format),
    }
}
