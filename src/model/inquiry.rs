//! What is asked about one socket: what keeps strangers out, and what would.

use serde::{Deserialize, Serialize};

use super::socket::named;
use super::{AddrRange, Entry, Path, PortRange, Reach, Text};

/// The answer for one socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inquiry {
    /// What would come in if no packet filter said no, and does not.
    pub refused: Vec<Refusal>,
    /// What would narrow who gets in, found by judging again without it.
    pub closing: Vec<Closing>,
    /// One source, if it was asked for.
    pub asked: Option<Asked>,
}

/// A product that does not get in, with the rule or policy that says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub entry: Entry,
    pub destinations: Vec<AddrRange>,
    pub ports: Option<Vec<PortRange>>,
    pub sources: Vec<AddrRange>,
    /// Indices into `Snapshot::evidence`.
    pub because: Vec<u32>,
}

/// A change, and who could reach the socket then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closing {
    pub by: Closer,
    /// Indices into `Snapshot::evidence`: the rules that would be absent, or the policy that would
    /// drop.
    pub evidence: Vec<u32>,
    pub reach: Reach,
    pub certain: bool,
    /// Whether nobody but this computer's own programs could reach it any more.
    pub closes: bool,
}

named! {
    Closer { Absent = "rule-absent", Policy = "policy-drop", Loopback = "bound-to-loopback" }
}

/// Whom somebody asked about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asking {
    pub sources: Option<AddrRange>,
    pub interface: Option<Text>,
}

/// What comes of that source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    pub sources: Option<AddrRange>,
    pub interface: Option<Text>,
    pub answer: Answer,
    /// The ways in, only those sources in them.
    pub paths: Vec<Path>,
    pub refused: Vec<Refusal>,
}

named! {
    /// `Partly`: some of the sources. `Unknown`: none for certain, and perhaps some.
    Answer { Yes = "yes", No = "no", Partly = "partly", Unknown = "unknown" }
}
