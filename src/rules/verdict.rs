//! What one rule says of one socket.

use std::sync::Arc;

use super::compile::Rule;
use super::condition::Cond;
use super::matcher::Scan;
use super::pattern::Truth;
use crate::finding::{Severity, Words};
use crate::model::{Observation, Reach};

/// A rule's answer, with the condition that gave it.
#[derive(Clone, Copy)]
pub(super) enum Verdict<'r> {
    Quiet,
    Undecided(&'r Cond),
    /// What `[when]` says, or `[probably]`.
    Fires(Said<'r>),
}

/// The half of a rule that fires.
#[derive(Clone, Copy)]
pub(super) struct Said<'r> {
    pub(super) words: &'r Arc<Words>,
    pub(super) when: &'r Cond,
    pub(super) guess: bool,
    severities: &'r [Severity; Reach::ALL.len()],
}

impl Said<'_> {
    /// Severity for a socket with this reach; `None` for sockets that have none.
    pub(super) fn severity(&self, reach: Option<Reach>) -> Severity {
        self.severities[reach.unwrap_or(Reach::None) as usize]
    }
}

impl Rule {
    pub(super) fn judge<'s>(&self, scan: &Scan<'s>, observation: Observation<'s>) -> Verdict<'_> {
        let sure = scan.judge(&self.when, observation);
        if sure == Truth::True {
            return Verdict::Fires(self.said());
        }
        if let Some(guess) = &self.probably {
            let (words, severities) = (&guess.words, &guess.severities);
            match scan.judge(&guess.when, observation) {
                Truth::True => {
                    return Verdict::Fires(Said { words, when: &guess.when, guess: true, severities });
                }
                Truth::Undecided => return Verdict::Undecided(&guess.when),
                Truth::False => {}
            }
        }
        if sure == Truth::Undecided { Verdict::Undecided(&self.when) } else { Verdict::Quiet }
    }

    /// What it says where `[when]` holds.
    fn said(&self) -> Said<'_> {
        Said { words: &self.words, when: &self.when, guess: false, severities: &self.severities }
    }
}
