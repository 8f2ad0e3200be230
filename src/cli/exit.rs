//! The exit codes that scripts rely on, and the order in which they win.

use std::process::ExitCode;

use crate::finding::{Finding, Severity};

/// How a run ended. The numbers are part of the contract.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Nothing at or above the threshold, no difference.
    Clean = 0,
    /// Findings at or above the threshold, or differences.
    Findings = 1,
    /// The work could not be done: usage, a bad rule, a bad snapshot.
    Failed = 2,
    /// Clean as far as it was seen, but the view was incomplete and `--strict` was given.
    Incomplete = 3,
    /// A panic reached the top.
    Bug = 4,
    /// Ctrl-C, as shells report it.
    Interrupted = 130,
}

impl Exit {
    /// Violations win over incompleteness.
    pub(crate) fn of(violated: bool, strict: bool, complete: bool) -> Self {
        match (violated, strict && !complete) {
            (true, _) => Self::Findings,
            (false, true) => Self::Incomplete,
            (false, false) => Self::Clean,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The severity from which a finding makes the exit code 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Threshold {
    Never,
    From(Severity),
}

impl Threshold {
    pub(crate) const NAMES: [&str; 6] = ["none", "info", "low", "medium", "high", "critical"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::Never,
            "info" => Self::From(Severity::Info),
            "low" => Self::From(Severity::Low),
            "medium" => Self::From(Severity::Medium),
            "high" => Self::From(Severity::High),
            "critical" => Self::From(Severity::Critical),
            _ => return None,
        })
    }

    /// For clap.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        Self::from_name(name).ok_or_else(|| format!("one of {}", Self::NAMES.join(", ")))
    }

    /// Whether one of these counts; suppressed ones do not.
    pub(crate) fn reached(self, findings: &[Finding]) -> bool {
        match self {
            Self::Never => false,
            Self::From(least) => {
                findings.iter().any(|each| each.suppressed.is_none() && each.severity >= least)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_win_over_incompleteness_and_blindness_counts_only_under_strict() {
        assert_eq!(Exit::of(true, true, false), Exit::Findings);
        assert_eq!(Exit::of(false, true, false), Exit::Incomplete);
        assert_eq!(Exit::of(false, false, false), Exit::Clean);
        assert_eq!(Exit::of(false, true, true), Exit::Clean);
    }

    #[test]
    fn every_name_of_a_threshold_is_understood() {
        for name in Threshold::NAMES {
            assert!(Threshold::from_name(name).is_some(), "{name}");
        }
        assert_eq!(Threshold::from_name("hihg"), None);
    }
}
