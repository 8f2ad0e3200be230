//! The packet filter in neutral form: tables, chains, rules as steps over registers, sets. Pure
//! data; what was not understood is kept by name.

use std::collections::BTreeMap;

use super::ranges::Family;

/// Address families of tables (`NFPROTO_…` in `<linux/netfilter.h>`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TableFamily {
    Inet,
    Ip,
    Ip6,
    Netdev,
    Bridge,
}

impl TableFamily {
    pub(crate) fn sees(self, family: Family) -> bool {
        match self {
            Self::Inet | Self::Netdev => true,
            Self::Ip => family == Family::V4,
            Self::Ip6 => family == Family::V6,
            Self::Bridge => false,
        }
    }
}

/// Where a base chain stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    /// Of a bridge, or leaving by a device: no packet to a socket of this namespace is judged there.
    Other,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ruleset {
    pub(crate) tables: Vec<Table>,
    /// Some rule takes packets out of connection tracking.
    pub(crate) untracks: bool,
    /// Some rule sets the packet's mark.
    pub(crate) marks: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) family: TableFamily,
    pub(crate) name: Vec<u8>,
    pub(crate) dormant: bool,
    pub(crate) chains: BTreeMap<Vec<u8>, Chain>,
    pub(crate) sets: BTreeMap<Vec<u8>, Set>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) base: Option<Base>,
    /// 0 in legacy tables.
    pub(crate) handle: u64,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rule {
    /// As `nft -a` prints it; in legacy tables the number of the rule in its chain, from 1.
    pub(crate) handle: u64,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Base {
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    /// Judges the first packet of a flow only.
    pub(crate) nat: bool,
    pub(crate) drop_policy: bool,
    /// Ingress chains: the devices they stand at.
    pub(crate) devices: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Header {
    Network,
    Transport,
    Other,
}

/// Facts about a packet that stand in no header; `Other` has no meaning for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meta {
    Protocol,
    Mark,
    Iif,
    Oif,
    IifName,
    OifName,
    NfProto,
    L4Proto,
    Other,
}

/// Offset in bytes into the 64 bytes of registers.
pub(crate) type Register = usize;

/// One expression of a rule, over registers as the kernel has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Payload {
        to: Register,
        header: Header,
        offset: u32,
        length: usize,
    },
    Meta {
        to: Register,
        key: Meta,
    },
    /// The state of the connection.
    CtState {
        to: Register,
    },
    /// Type of the destination (`true`) or source address.
    AddressType {
        to: Register,
        destination: bool,
    },
    /// Loads something nobody can know beforehand, or may end the rule.
    Load {
        to: Register,
        length: usize,
    },
    Bitwise {
        from: Register,
        to: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        from: Register,
        how: Compare,
        value: Vec<u8>,
    },
    Range {
        from: Register,
        inverted: bool,
        first: Vec<u8>,
        last: Vec<u8>,
    },
    Lookup {
        from: Register,
        set: Vec<u8>,
        inverted: bool,
        to: Option<Target>,
    },
    Constant {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// An extension of iptables that could be read.
    Extension(Extension),
    /// Matches packets of unusual form only: those with a routing header. An ordinary packet goes on.
    Unusual,
    /// May match or not.
    Maybe,
    /// Changes nothing for us.
    Nothing,
    /// What it does is not known: any verdict is possible. Its name.
    Unknown(String),
}

/// Where a map puts what it finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Verdict,
    Register(Register),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// Some program decides.
    Queue,
    Continue,
    Return,
    Jump(Vec<u8>),
    Goto(Vec<u8>),
}

/// Matches of iptables in the form of their structures (xt_*.h).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Extension {
    /// Ranges of source and destination ports; which of them is negated.
    Ports { source: Vec<(u16, u16)>, destination: Vec<(u16, u16)>, inverted: [bool; 2] },
    /// Source or destination port is in the list (multiport).
    AnyPort { source: bool, destination: bool, ports: Vec<(u16, u16)>, inverted: bool },
    /// Mask of states, in nftables' bits; `None` for bits that nftables has not.
    State { mask: u32, inverted: bool },
    /// Bit sets of `1 << RTN_…`; 0 asks nothing.
    AddressType { source: u16, destination: u16, inverted: [bool; 2] },
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Set {
    /// Its elements are intervals, told as starts and ends.
    pub(crate) intervals: bool,
    /// Filled by rules while packets pass.
    pub(crate) dynamic: bool,
    /// Widths in bytes of the parts of a concatenated key as they lie in registers; empty for a
    /// plain key.
    pub(crate) parts: Vec<usize>,
    /// Length of the whole key.
    pub(crate) length: usize,
    pub(crate) elements: Vec<Element>,
    /// Applies where no element does.
    pub(crate) otherwise: Option<Option<Verdict>>,
    /// Something in it could not be read.
    pub(crate) partial: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Element {
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
    /// Of a verdict map.
    pub(crate) verdict: Option<Verdict>,
}
