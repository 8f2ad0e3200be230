//! The steps of a self-test: one line for a person, one object a line for a program.

use std::io::{self, Write};
use std::time::Duration;

use super::json::v1;
use super::{Format, Style, human};

/// What came of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Passed,
    Failed,
    /// There was nothing to try it with.
    Skipped,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One step of the way from a socket to whoever must hear of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// `seen`, `finding`, `notification`, `service`, `closed`.
    pub name: &'static str,
    pub outcome: Outcome,
    /// Since the door was opened, or shut.
    pub after: Option<Duration>,
    /// In words.
    pub said: String,
}

/// Writes one step.
///
/// # Errors
/// What writing to `out` gives; `Unsupported` for a format other than human and JSON.
pub fn step(out: &mut dyn Write, format: Format, step: &Step, style: &Style) -> io::Result<()> {
    match format {
        Format::Human => human::step(out, step, style),
        Format::Json | Format::Jsonl => v1::write_step(out, step),
        Format::Sarif | Format::Junit | Format::Github | Format::Markdown => super::unsupported(format),
    }
}
