//! Rules that choose between routing tables (ip-rule(8)), and the routes of those tables.

use serde::{Deserialize, Serialize};

use super::socket::named;
use super::{AddrRange, Text};

/// A rule; those of one family are in the order in which the kernel asks them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteRule {
    pub v6: bool,
    /// It holds for what its conditions do not.
    pub inverted: bool,
    /// Source and destination of a packet.
    pub from: Option<AddrRange>,
    pub to: Option<AddrRange>,
    /// Names of the interfaces that it came in by, `lo` for what was sent here, and that its socket is
    /// bound to.
    pub entry: Option<Text>,
    pub exit: Option<Text>,
    /// Value and mask of the packet's mark.
    pub mark: Option<(u32, u32)>,
    /// It has conditions of other kinds too: users, ports, protocols, types of service.
    pub more: bool,
    pub action: RuleAction,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Asks a table; routes with a prefix of at most this length do not count
    /// (`suppress_prefixlength`).
    Lookup { table: u32, suppressed: Option<u8> },
    /// Goes on with the next rule.
    Nothing,
    /// blackhole, unreachable, prohibit
    Refused,
    /// Anything else: goes on elsewhere, asks the table of a VRF.
    Other,
}

/// A route of a table that some rule may ask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TableRoute {
    pub table: u32,
    /// A network, whose length decides between routes of one table.
    pub to: AddrRange,
    pub metric: u32,
    pub kind: RouteKind,
    /// Index of the interface it leaves by, 0 where several share it.
    pub interface: u32,
}

named! {
    RouteKind {
        Unicast = "unicast",
        /// Delivered here.
        Local = "local",
        /// Broadcast and anycast.
        Many = "many",
        /// blackhole, unreachable, prohibit
        Refused = "refused",
        /// The next rule is asked.
        Throw = "throw",
        /// It holds for some packets only, or nobody knows what it does.
        Other = "other",
    }
}
