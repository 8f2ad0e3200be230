//! Independent sources for the same sockets, and every disagreement between them: something that
//! hides a socket from one of them shows here.

use crate::source::Source;

/// A socket that one source lists and another does not, however often they are asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// Protocol and address.
    pub what: String,
    pub seen_by: Vec<String>,
    pub missed_by: Vec<String>,
    pub note: Option<String>,
}

/// What the comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Crossed {
    /// The sources, each with how much it listed.
    pub sources: Vec<String>,
    pub disagreements: Vec<Disagreement>,
}

/// Compares what the sources say of our own network namespace.
pub fn check(source: &Source) -> Crossed {
    super::imp::cross::check(source)
}
