//! Colours, where the caller asked for them.

use std::fmt;

use anstyle::{AnsiColor, Style as Ansi};

use crate::finding::Severity;
use crate::model::Reach;

/// A text in a style, or as it is.
pub(super) struct Painted<T> {
    pub(super) text: T,
    pub(super) style: Ansi,
    pub(super) on: bool,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.on {
            write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
        } else {
            self.text.fmt(f)
        }
    }
}

pub(super) fn bold() -> Ansi {
    Ansi::new().bold()
}

pub(super) fn faint() -> Ansi {
    Ansi::new().dimmed()
}

pub(super) fn colored(color: AnsiColor) -> Ansi {
    Ansi::new().fg_color(Some(color.into()))
}

pub(super) fn severity(severity: Severity) -> Ansi {
    match severity {
        Severity::Critical => colored(AnsiColor::BrightRed).bold(),
        Severity::High => colored(AnsiColor::Red),
        Severity::Medium => colored(AnsiColor::Yellow),
        Severity::Low => colored(AnsiColor::Cyan),
        Severity::Info => faint(),
    }
}

pub(super) fn reach(reach: Reach) -> Ansi {
    match reach {
        Reach::Internet => colored(AnsiColor::Red),
        Reach::Unknown => colored(AnsiColor::Magenta),
        Reach::Lan => colored(AnsiColor::Yellow),
        Reach::Link | Reach::Container => colored(AnsiColor::Cyan),
        Reach::Host | Reach::Process | Reach::None => faint(),
    }
}
