//! The packet filter in neutral form: tables, chains, rules as steps over registers, sets. Pure
//! data; what was not understood is kept by name.

use std::borrow::Cow;
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
    /// Some rule asks by which interface packets leave.
    pub(crate) asks_exit: bool,
    /// Some rule can change where a packet goes, or does what is not understood.
    pub(crate) steers: bool,
}

impl Ruleset {
    fn steps(&self) -> impl Iterator<Item = &Step> {
        let chains = self.tables.iter().flat_map(|table| table.chains.values());
        chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps)
    }

    /// Notes what some rule of it does anywhere.
    pub(crate) fn sum_up(&mut self) {
        let asks = self.steps().any(|step| matches!(step, Step::Meta { key: Meta::Oif | Meta::OifName, .. }));
        let steers = self.steps().any(|step| {
            matches!(step, Step::Unknown(_))
                || matches!(step, Step::Translate(translation) if !translation.of_source())
        });
        (self.asks_exit, self.steers) = (asks, steers);
    }
}

/// Who keeps a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Origin {
    /// nftables, also where iptables-nft wrote it.
    Nftables,
    /// ip_tables and ip6_tables, the older half of the kernel.
    Legacy,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) family: TableFamily,
    pub(crate) origin: Origin,
    pub(crate) name: Vec<u8>,
    /// 0 in legacy tables, which have none.
    pub(crate) handle: u64,
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
    pub(crate) comment: Option<Vec<u8>>,
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
    /// Whom the frame was meant for (`PACKET_…` of packet(7)); one byte.
    PacketType,
    Other,
}

/// Which route to a source is looked for (`nft_fib4_eval`, `rpfilter_lookup_reverse`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Back {
    /// Among those by the interface that the packet came in by.
    Through,
    /// The best of all, which must leave by that interface.
    Best,
    Any,
}

/// Facts that connection tracking keeps of a flow. Addresses and ports are those of one direction:
/// the first packet's, or the answer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connection {
    /// 0 in the direction of the first packet, else 1; one byte.
    Direction,
    /// `IPS_…` of nf_conntrack_common.h
    Status,
    Mark,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    /// Of the transport, one byte.
    Protocol,
}

/// What a rule sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setting {
    Mark,
    ConnectionMark,
    /// The zone that connection tracking will look the flow up in; in raw chains only.
    Zone,
}

/// Changes the addresses or ports of a flow. What takes their place stands in registers, in network
/// byte order; a range of it means that the kernel picks one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Translation {
    pub(crate) kind: Translated,
    /// Asked for one family only: packets of the other are left alone.
    pub(crate) family: Option<Family>,
    /// First and last; `None` keeps the address (or, for redirect and masquerade, takes that of the
    /// interface).
    pub(crate) addresses: Option<(Register, Register)>,
    pub(crate) ports: Option<(Register, Register)>,
    /// Only the network part of the address is replaced (`NF_NAT_RANGE_NETMAP`): the bits in which
    /// first and last agree.
    pub(crate) netmap: bool,
    /// The port keeps its distance from this one (`NF_NAT_RANGE_PROTO_OFFSET`).
    pub(crate) shift: Option<Register>,
}

impl Translation {
    /// Leaves the destination alone.
    pub(crate) fn of_source(&self) -> bool {
        matches!(self.kind, Translated::Source | Translated::Masquerade)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translated {
    Source,
    Masquerade,
    Destination,
    /// To the address of the interface the packet came in by; of own packets to loopback.
    Redirect,
    /// To a transparent socket, with the packet unchanged.
    Proxy,
    /// Of the destination before routing and of own packets, else of the source (xt_NETMAP.c).
    Network,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
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
    /// Type of the destination (`true`) or source address. With `near`, what is told by the
    /// interface that the packet came in by alone: an address of another one is then not local.
    AddressType {
        to: Register,
        destination: bool,
        near: bool,
    },
    /// Where a route back to the source leads, in `length` bytes: 0 where there is none (or none by the
    /// interface that the packet came in by), else the index of an interface; in one byte, 1.
    Route {
        to: Register,
        back: Back,
        length: usize,
    },
    Connection {
        to: Register,
        key: Connection,
        reply: bool,
    },
    /// Loads something nobody can know beforehand, or may end the rule. What it is called.
    Load {
        to: Register,
        length: usize,
        what: Cow<'static, str>,
    },
    Bitwise {
        from: Register,
        to: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Of 32 bits each in the byte order of the computer, by fewer than 32, without carry between
    /// words but for `length` above 4 (`nft_bitwise_eval_lshift`).
    Shift {
        from: Register,
        to: Register,
        length: usize,
        left: bool,
        bits: u32,
    },
    /// Two registers.
    Combine {
        from: Register,
        other: Register,
        to: Register,
        length: usize,
        how: Logic,
    },
    /// Turns the bytes of every `size` around, where the computer's order is not the network's.
    Swap {
        from: Register,
        to: Register,
        length: usize,
        size: usize,
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
    /// Ends the chain's judgement with accept once the translation is set up.
    Translate(Translation),
    Set {
        what: Setting,
        from: Register,
    },
    /// Takes the packet out of connection tracking.
    Untrack,
    /// An extension of iptables that could be read.
    Extension(Extension),
    /// Matches packets of unusual form only: those with a routing header. An ordinary packet goes on.
    Unusual,
    /// May match or not: chance, rates, counts, clocks, and what is not understood. Its name.
    Maybe(Cow<'static, str>),
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
    /// Source or destination port is in the list (multiport).
    AnyPort { source: bool, destination: bool, ports: Vec<(u16, u16)>, inverted: bool },
    /// Bit sets of `1 << RTN_…`; 0 asks nothing. `near` as in [`Step::AddressType`].
    AddressType { source: u16, destination: u16, inverted: [bool; 2], near: bool },
    /// Asks for ports of a bridge. What it says of packets that cross none.
    BridgePort { otherwise: bool },
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Set {
    /// Its elements are intervals, told as starts and ends.
    pub(crate) intervals: bool,
    /// Filled by rules while packets pass.
    pub(crate) dynamic: bool,
    /// Its elements go away by themselves.
    pub(crate) timed: bool,
    /// Widths in bytes of the parts of a concatenated key as they lie in registers; empty for a
    /// plain key.
    pub(crate) parts: Vec<usize>,
    /// Length of the whole key.
    pub(crate) length: usize,
    pub(crate) elements: Vec<Element>,
    /// Applies where no element does.
    pub(crate) otherwise: Option<Value>,
    /// Something in it could not be read.
    pub(crate) partial: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Element {
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
    pub(crate) value: Value,
}

/// What a map gives for an element.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Value {
    /// Of a set that is no map, or of a map of objects.
    #[default]
    Nothing,
    Verdict(Verdict),
    /// What goes into the register.
    Data(Vec<u8>),
}
