//! One step of a self-test as a line, for a person.

use std::io::{self, Write};

use anstyle::AnsiColor;

use super::paint::{Painted, colored, faint};
use crate::output::proof::{Outcome, Step};
use crate::output::{Clean, Style};

/// `passed   finding        after 48 ms: listener-from-temporary-folder (medium)`
pub(crate) fn step(out: &mut dyn Write, step: &Step, style: &Style) -> io::Result<()> {
    let paint = match step.outcome {
        Outcome::Passed => colored(AnsiColor::Green),
        Outcome::Failed => colored(AnsiColor::Red),
        Outcome::Skipped => faint(),
    };
    let outcome = format!("{:<8}", step.outcome.name());
    write!(out, "{} {:<14}", Painted { text: outcome, style: paint, on: style.color }, step.name)?;
    if let Some(after) = step.after {
        write!(out, "after {:.0} ms: ", after.as_secs_f64() * 1e3)?;
    }
    writeln!(out, "{}", Clean(&step.said))
}
