//! A rule that fired: what it says, about which sockets, and how it is known again.

#![forbid(unsafe_code)]

mod change;
mod fingerprint;
mod group;
mod past;
mod program;
mod suppress;

pub use change::{Change, ChangeKind, diff};
pub use fingerprint::{place, port_place};
pub use group::{group, order};
pub use past::{PastChange, PastDoor, PastFinding, PastHolder, PastTalk, THE_DOOR, Watched, whose};
pub use program::program;
pub use suppress::Suppressions;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::SocketIndex;

/// How bad it is. Ordered: `Info` is the least.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Worst first.
    pub const ALL: &'static [Self] = &[Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|severity| severity.name() == name)
    }
}

/// How sure the rule is that it saw what it names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    Low,
    Medium,
    High,
}

impl Confidence {
    pub const ALL: &'static [Self] = &[Self::High, Self::Medium, Self::Low];

    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|confidence| confidence.name() == name)
    }
}

/// One way to put it right, as text: nothing is changed by printing it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Remedy {
    /// service | unit | firewall
    pub kind: String,
    pub title: String,
    /// Commands or settings, one a line, ready to copy.
    pub commands: Vec<String>,
    /// What takes them back.
    pub undo: Vec<String>,
    /// How to see that it worked.
    pub verify: Option<String>,
    pub note: Option<String>,
}

/// Why a finding is not counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suppressed {
    pub reason: String,
    /// Last day on which it holds, `2027-01-31`.
    pub until: String,
    /// File and line of the suppression, and of several sockets which.
    pub by: String,
}

/// A rule that fired for one program: plain data for every output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub rule: String,
    pub title: String,
    pub severity: Severity,
    pub confidence: Confidence,
    /// One sentence that names program, address and reach.
    pub message: String,
    pub fingerprint: String,
    /// Never empty but for findings about suppressions.
    pub sockets: Vec<SocketIndex>,
    /// The facts that decided: `reach = internet`, `process.exe = /usr/bin/redis-server`.
    pub evidence: Vec<String>,
    /// Narrowest first.
    pub remedies: Vec<Remedy>,
    pub references: Vec<String>,
    pub why: String,
    pub suppressed: Option<Suppressed>,
}

/// A rule that could fire if facts were known that could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Undecided {
    pub rule: String,
    pub sockets: Vec<SocketIndex>,
    pub fields: Vec<String>,
    /// Id of the gap that hides them.
    pub gap: Option<String>,
}

/// The words of a rule, shared by all its hits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Words {
    pub rule: String,
    pub title: String,
    pub confidence: Confidence,
    pub why: String,
    pub references: Vec<String>,
}

/// A rule that fired for one socket, before hits of one program are grouped into a finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    pub words: Arc<Words>,
    pub severity: Severity,
    pub socket: SocketIndex,
    pub message: String,
    pub evidence: Vec<String>,
    /// The rule's own remedies with this socket's values filled in.
    pub remedies: Vec<Remedy>,
}

/// What the rules say of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Ordered by severity, then reach, then rule; suppressed ones last.
    pub findings: Vec<Finding>,
    pub undecided: Vec<Undecided>,
}
