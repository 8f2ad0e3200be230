//! Every way in to one kind of bind in one namespace, as products of sets.
//!
//! The weak host model of Linux: an address of one interface answers on every other, but
//! link-local IPv6 ones; loopback addresses never answer a network unless `route_localnet` says so.

use std::net::IpAddr;

use super::classes::Classes;
use super::evaluate::{Decider, reasons};
use super::journey::Judged;
use super::place::{Gate, Place, Side, of_interface};
use super::policy::{Choice, Lookup};
use super::ranges::{Family, Ranges};
use super::region::Block;
use super::reverse::passing;
use crate::model::{NamespaceId, Reach, Verdict};

/// How a protocol takes what a stranger sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Transport {
    /// A handshake: the answer must find its way back, and only one receiver is meant.
    Stream,
    /// Broadcasts and multicasts arrive too.
    Datagram,
    /// As datagrams; bound to an IPv6 address it receives every group all the same
    /// (`__raw_v6_lookup`).
    Raw,
    /// Echo replies: unicast only, no answer needed.
    Ping,
}

/// Which addresses of a family a socket is bound to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Bound {
    Any,
    One(IpAddr),
}

/// All of a socket that decides its ways in, but the port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Bind {
    pub(crate) bound: [Option<Bound>; 2],
    /// IPv4 is served only if the socket is dual stack, which nobody could tell.
    pub(crate) maybe_v4: bool,
    pub(crate) transport: Transport,
    /// Number of the IP protocol, where it is known.
    pub(crate) protocol: Option<u8>,
    /// Index of the interface it is bound to, 0 for none.
    pub(crate) device: u32,
    /// It may be bound to some interface all the same: the kernel does not tell.
    pub(crate) maybe_device: bool,
}

/// Which destination ports a way has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Ports {
    /// The socket's own.
    Own,
    /// All but its own: something translates them.
    Others,
    All,
    /// These: something translates them.
    These(Ranges),
}

/// One product, for one gate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    /// Index into the gates of the namespace in which the packet comes in.
    pub(crate) gate: usize,
    pub(crate) family: Family,
    pub(crate) destinations: Ranges,
    pub(crate) ports: Ports,
    pub(crate) sources: Ranges,
    pub(crate) verdict: Verdict,
    pub(crate) reach: Reach,
    /// The rules that let it in or leave it in doubt, each with its namespace.
    pub(crate) because: Vec<Reason>,
}

/// A rule of a namespace.
pub(crate) type Reason = (NamespaceId, Decider);

/// Every way by which packets come straight into `place`.
pub(crate) fn ways(place: &Place, bind: &Bind) -> Vec<Way> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        let Some(bound) = bind.bound[family as usize] else { continue };
        for (index, gate) in place.gates.iter().enumerate() {
            Walk { place, bind, family, bound, gate, index, found: &mut found }.all();
        }
    }
    found
}

struct Walk<'a> {
    place: &'a Place,
    bind: &'a Bind,
    family: Family,
    bound: Bound,
    gate: &'a Gate,
    index: usize,
    found: &'a mut Vec<Way>,
}

impl Walk<'_> {
    fn all(mut self) {
        let device = self.bind.device;
        let here = device == 0 || device == self.gate.index || Some(device) == self.gate.master;
        match self.gate.side {
            Side::Loopback => self.loopback(here),
            _ if !here => {}
            Side::Nobody if self.takes_many() => self.groups(),
            Side::Nobody => {}
            Side::Inside | Side::Overlay | Side::Outside => {
                self.unicast();
                self.loopback_addresses();
                if self.takes_many() {
                    self.broadcasts();
                    self.groups();
                }
                self.translated();
            }
        }
    }

    /// Own addresses: who may send from this computer.
    fn own(&self) -> &Ranges {
        &self.place.local[self.family as usize]
    }

    /// Whether broadcasts and groups arrive.
    fn takes_many(&self) -> bool {
        matches!(self.bind.transport, Transport::Datagram | Transport::Raw)
    }

    /// What the socket takes of these destinations.
    fn taken(&self, destinations: &Ranges) -> Ranges {
        match self.bound {
            Bound::Any => destinations.clone(),
            Bound::One(address) => destinations.and(&self.family.one(address)),
        }
    }

    /// From this computer's own programs. The kernel counts such a packet as come in by the
    /// interface that its destination belongs to (`inet_iif`, `inet6_iif`), so a socket bound to an
    /// interface takes what is sent to that interface's own addresses.
    fn loopback(&mut self, here: bool) {
        let own = self.own().clone();
        // A rule may choose a table that delivers more here.
        if here {
            let perhaps = self.taken(&self.place.perhaps[self.family as usize]);
            self.push(perhaps, Ports::Own, own.clone(), Verdict::Unknown);
        }
        match (self.bind.device, self.family) {
            (0, Family::V4) => self.local(&own, &own),
            (0, Family::V6) => self.scoped(),
            (device, _) => {
                let to = self.owned_by(device);
                // The answer leaves along the interface; IPv4 takes what comes back on loopback for
                // an answer whatever it is.
                let from = match self.bind.transport {
                    Transport::Stream if !here || self.family == Family::V6 => to.clone(),
                    Transport::Stream | Transport::Datagram | Transport::Raw | Transport::Ping => {
                        self.unscoped().union(&to)
                    }
                };
                self.local(&to, &from);
            }
        }
        if here && self.takes_many() {
            self.broadcasts();
            self.groups();
        }
        if here && self.place.translates {
            self.others(&own);
        }
    }

    fn local(&mut self, to: &Ranges, from: &Ranges) {
        self.push(self.taken(to), Ports::Own, from.clone(), self.place.verdict);
    }

    fn owned_by(&self, interface: u32) -> Ranges {
        of_interface(&self.place.owned[self.family as usize], interface).and(self.own())
    }

    /// Own addresses that mean the same on every interface: all of IPv4.
    fn unscoped(&self) -> Ranges {
        match self.family {
            Family::V4 => self.own().clone(),
            Family::V6 => self.own().minus(&Classes::of(self.family).link),
        }
    }

    /// A link-local address of IPv6 speaks with addresses of its own interface only; the answer of a
    /// stream from one leaves along that interface.
    fn scoped(&mut self) {
        let (plain, link) = (self.unscoped(), &Classes::of(self.family).link);
        self.local(&plain, &plain);
        let mut interfaces: Vec<u32> =
            self.place.owned[self.family as usize].iter().map(|(_, index)| *index).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        for interface in interfaces {
            let mine = self.owned_by(interface);
            let near = mine.and(link);
            if near.is_empty() {
                continue;
            }
            let others = match self.bind.transport {
                Transport::Stream => mine.minus(link),
                Transport::Datagram | Transport::Raw | Transport::Ping => plain.clone(),
            };
            self.local(&mine, &near);
            self.local(&near, &others);
        }
    }

    /// Addresses that a network may name on this gate.
    fn addressable(&self) -> Ranges {
        let classes = Classes::of(self.family);
        let mut set = self.own().minus(&classes.loopback).minus(&classes.multicast);
        if self.family == Family::V6 {
            for (range, index) in &self.place.owned[self.family as usize] {
                if *index != self.gate.index && range.meets(&classes.link) {
                    set = set.minus(range);
                }
            }
            let here =
                self.place.owned[self.family as usize].iter().filter(|(_, index)| *index == self.gate.index);
            set = here.fold(set, |sum, (range, _)| sum.union(&range.minus(&classes.loopback)));
        }
        set
    }

    fn senders(&self) -> Ranges {
        senders(self.place, self.gate, self.bind.transport, self.family)
    }

    /// With rules that choose between tables only some are surely answered by the interface that
    /// they came in by.
    fn unicast(&mut self) {
        let (taken, senders) = (self.taken(&self.addressable()), self.senders());
        let answered = self.bind.transport == Transport::Stream;
        for part in self.parts(&taken).into_iter().filter(|_| answered) {
            let exit = (self.bind.device != 0).then_some(self.bind.device);
            let lookup = Lookup { from: Some(&part), exit, ..Lookup::OWN };
            let sure = senders.and(&self.place.surely(self.family, self.gate, &lookup));
            let senders = senders.and(&self.place.answers(self.family, &lookup));
            self.push(part.clone(), Ports::Own, senders.minus(&sure), Verdict::Unknown);
            self.push(part, Ports::Own, sure, self.place.verdict);
        }
        if !answered {
            self.push(taken, Ports::Own, senders.clone(), self.place.verdict);
        }
        // A rule may choose a table that delivers more here.
        let perhaps = self.taken(&self.place.perhaps[self.family as usize]);
        self.push(perhaps, Ports::Own, senders, Verdict::Unknown);
    }

    /// Destinations whose answers the same rules are for.
    fn parts(&self, destinations: &Ranges) -> Vec<Ranges> {
        match &self.place.choice[self.family as usize] {
            Choice::Rules(policy) => policy.parts(destinations),
            Choice::Fresh | Choice::Untold => vec![destinations.clone()],
        }
    }

    /// 127.0.0.0/8 from a network: only where the interface allows it. An answer must leave by one
    /// that allows it too.
    fn loopback_addresses(&mut self) {
        if self.family == Family::V6 || self.gate.localnet == Some(false) {
            return;
        }
        let taken = self.taken(&self.own().and(&Classes::of(self.family).loopback));
        let senders = self.senders();
        let sure = match (self.gate.localnet, self.bind.transport) {
            (Some(true), Transport::Stream) => senders.and(&self.place.routed(self.family, self.gate.index)),
            (Some(true), Transport::Datagram | Transport::Raw | Transport::Ping) => senders.clone(),
            (Some(false) | None, _) => Ranges::default(),
        };
        self.push(taken.clone(), Ports::Own, senders.minus(&sure), Verdict::Unknown);
        self.push(taken, Ports::Own, sure, self.place.verdict);
    }

    /// Own addresses that can be the sender of what this gate sends and gets back itself
    /// (`ip_mc_output`): on a real link no loopback address can.
    fn echoed(&self) -> Ranges {
        match self.gate.side {
            Side::Loopback => self.own().clone(),
            Side::Nobody | Side::Inside | Side::Overlay | Side::Outside => {
                self.own().minus(&Classes::of(self.family).loopback)
            }
        }
    }

    /// Whether nobody but this computer's own programs can send here.
    fn alone(&self) -> bool {
        matches!(self.gate.side, Side::Loopback | Side::Nobody)
    }

    /// Broadcasts of IPv4 and anycast of IPv6. What a program here sends so on the gate that the
    /// address belongs to comes back on it, hence its own addresses among the senders.
    fn broadcasts(&mut self) {
        let classes = Classes::of(self.family);
        let family = self.family as usize;
        let strangers = if self.alone() { Ranges::default() } else { self.senders() };
        let senders = strangers.union(&self.echoed());
        let mine = of_interface(&self.place.owned_broadcast[family], self.gate.index);
        let networks = self.taken(&self.place.broadcast[family]);
        self.push(networks.and(&mine), Ports::Own, senders.clone(), self.place.verdict);
        self.push(networks.minus(&mine), Ports::Own, strangers, self.place.verdict);
        let everybody = self.taken(&classes.broadcast);
        // Who has no address yet sends from 0.0.0.0 (RFC 2131).
        let nameless = if self.alone() { Ranges::default() } else { classes.unspecified.clone() };
        self.push(everybody, Ports::Own, senders.union(&nameless), self.place.verdict);
    }

    /// A wildcard socket receives groups that others joined (`IP_MULTICAST_ALL`). A dual-stack one
    /// receives IPv4 groups only if it joined them itself (`inet6_create` leaves the option off),
    /// which nobody can tell; hardly anybody joins 224.0.0.1, where everybody is.
    fn groups(&mut self) {
        let classes = Classes::of(self.family);
        let joined = &self.gate.groups[self.family as usize];
        let mut groups = match (self.bind.transport, self.family) {
            (Transport::Raw, Family::V6) => joined.clone(),
            _ => self.taken(joined),
        };
        let own = self.echoed();
        let senders = if self.alone() { own.clone() } else { self.senders().union(&own) };
        let nameless = match (self.alone(), self.family) {
            (false, Family::V4) => classes.unspecified.clone(), // `ip_mc_validate_source`
            (true, Family::V4) | (_, Family::V6) => Ranges::default(),
        };
        let mut verdict = self.place.verdict;
        if self.family == Family::V4 && self.bind.bound[Family::V6 as usize].is_some() {
            groups = groups.minus(&Family::V4.one(std::net::Ipv4Addr::new(224, 0, 0, 1).into()));
            verdict = Verdict::Unknown;
        }
        let near = groups.and(&classes.link_multicast).minus(&classes.interface_multicast);
        self.push(groups.and(&classes.interface_multicast), Ports::Own, own, verdict);
        self.push(near, Ports::Own, senders.union(&nameless), verdict);
        self.push(groups.minus(&classes.link_multicast), Ports::Own, senders, verdict);
    }

    /// What an unread translation could bring here. Onto a loopback address it brings nothing from
    /// a network: the kernel drops such a packet after translation.
    fn translated(&mut self) {
        let mut reachable = self.addressable();
        if self.gate.localnet != Some(false) {
            reachable = reachable.union(self.own());
        }
        if self.place.translates && !self.taken(&reachable).is_empty() {
            let senders = self.senders();
            self.others(&senders);
        }
    }

    /// Every destination and port that no other way of this gate has.
    fn others(&mut self, senders: &Ranges) {
        let mut told = Ranges::default();
        for way in self.found.iter().filter(|way| way.gate == self.index && way.family == self.family) {
            told = told.union(&way.destinations);
        }
        self.push(told.clone(), Ports::Others, senders.clone(), Verdict::Unknown);
        self.push(self.family.all().minus(&told), Ports::All, senders.clone(), Verdict::Unknown);
    }

    fn push(&mut self, destinations: Ranges, ports: Ports, sources: Ranges, verdict: Verdict) {
        if destinations.is_empty() || sources.is_empty() {
            return;
        }
        let maybe_v4 = self.family == Family::V4 && self.bind.maybe_v4;
        let doubt = self.bind.maybe_device || maybe_v4;
        let verdict = if doubt { Verdict::Unknown } else { verdict };
        let untold = match passing(self.place, self.gate, self.family) {
            Some(passing) => sources.and(&passing.may).minus(&passing.sure),
            None => Ranges::default(),
        };
        let told = sources.minus(&untold);
        for (sources, verdict) in [(told, verdict), (untold, Verdict::Unknown)] {
            if sources.is_empty() {
                continue;
            }
            let reach = reach(self.place, self.gate, self.family, &destinations, &ports, &sources);
            let (gate, family) = (self.index, self.family);
            let (destinations, ports) = (destinations.clone(), ports.clone());
            let because = Vec::new();
            self.found.push(Way { gate, family, destinations, ports, sources, verdict, reach, because });
        }
    }
}

/// Who can send over a network, and be answered where an answer is needed.
pub(crate) fn senders(place: &Place, gate: &Gate, transport: Transport, of: Family) -> Ranges {
    let all = anybody(place, transport, of);
    match passing(place, gate, of) {
        Some(passing) => all.and(&passing.may),
        None => all,
    }
}

fn anybody(place: &Place, transport: Transport, of: Family) -> Ranges {
    let classes = Classes::of(of);
    let family = of as usize;
    let outside = of.all().minus(&classes.martian);
    match (transport, of) {
        (Transport::Stream, _) => outside
            .minus(&classes.unspecified)
            .and(&place.answerable[family])
            .minus(&place.local[family])
            .minus(&place.broadcast[family]),
        // IPv4 refuses its own addresses as senders (`fib_validate_source`), IPv6 does not.
        (Transport::Datagram | Transport::Raw | Transport::Ping, Family::V4) => {
            outside.minus(&place.local[family])
        }
        (Transport::Datagram | Transport::Raw | Transport::Ping, Family::V6) => outside,
    }
}

/// The class of senders of one product. Where translation is at work the destination may be any
/// address of this computer.
pub(crate) fn reach(
    place: &Place,
    gate: &Gate,
    family: Family,
    to: &Ranges,
    ports: &Ports,
    from: &Ranges,
) -> Reach {
    let classes = Classes::of(family);
    let one_to_one = place.one_to_one && gate.side == Side::Outside;
    let local = &place.local[family as usize];
    match gate.side {
        Side::Loopback | Side::Nobody => Reach::Host,
        Side::Inside => Reach::Container,
        // A sender can name 127.0.0.1 of a neighbour only.
        Side::Overlay | Side::Outside if to.minus(&classes.loopback).is_empty() => Reach::Link,
        Side::Overlay | Side::Outside => match ports {
            Ports::Own => classes.reach(from, to, one_to_one),
            // A sender that is far away can name an address of ours only.
            Ports::These(_) => {
                let ours = to.and(local);
                classes.reach(from, if ours.is_empty() { to } else { &ours }, one_to_one)
            }
            Ports::Others | Ports::All => classes.reach(from, &local.minus(&classes.loopback), one_to_one),
        },
    }
}

/// Parts a way into what this computer's own programs send to many on a network, and get back from
/// there, and the rest.
pub(crate) fn echoes(place: &Place, way: &Way) -> (Option<Way>, Option<Way>) {
    let family = way.family as usize;
    let classes = Classes::of(way.family);
    let many = classes.multicast.union(&classes.broadcast).union(&place.broadcast[family]);
    let alone = place.gates[way.gate].side == Side::Loopback;
    if alone || !way.destinations.meets(&many) {
        return (None, Some(way.clone()));
    }
    let part = |sources: Ranges| (!sources.is_empty()).then(|| Way { sources, ..way.clone() });
    (part(way.sources.and(&place.local[family])), part(way.sources.minus(&place.local[family])))
}

/// The rules that let a block in, or leave it in doubt.
pub(crate) fn because(judged: &Judged, block: &Block, doubt: bool) -> Vec<Reason> {
    let netns = |number: usize| NamespaceId(u32::try_from(number).unwrap_or(u32::MAX));
    let found = reasons(&judged.decisions, block, doubt).into_iter();
    found.map(|(number, decider)| (netns(number), decider)).collect()
}

/// More pieces than this of one way are not told apart.
pub(crate) const MOST_PIECES: usize = 400;

/// Splits a way by what the rules of `place` make of it; what they drop is no way.
pub(crate) fn through_rules(place: &Place, way: &Way, judged: &Judged, port: Option<u16>) -> Vec<Way> {
    let ports = match port {
        Some(port) => Ranges::new(vec![(port.into(), port.into())]),
        None => Ranges::new(vec![(0, u16::MAX.into())]),
    };
    let block = Block([way.sources.clone(), way.destinations.clone(), ports]);
    let (may, may_not) = (judged.may_accept.and(&block), judged.may_drop.and(&block));
    // So many pieces tell nobody anything: then all of it is in doubt.
    if may.0.len() + may_not.0.len() > MOST_PIECES {
        return vec![Way { verdict: Verdict::Unknown, ..way.clone() }];
    }
    let may = may.disjoint();
    let certain = may.minus(&may_not).disjoint();
    let doubtful = may.minus(&certain).disjoint();
    let mut found = Vec::new();
    for (region, verdict, doubt) in [(certain, way.verdict, false), (doubtful, Verdict::Unknown, true)] {
        for block in region.0 {
            let because = because(judged, &block, doubt);
            let Block([sources, destinations, _]) = block;
            let gate = &place.gates[way.gate];
            let reach = reach(place, gate, way.family, &destinations, &way.ports, &sources);
            found.push(Way {
                gate: way.gate,
                family: way.family,
                destinations,
                ports: way.ports.clone(),
                sources,
                verdict,
                reach,
                because,
            });
        }
    }
    found
}

/// Every way by which `host` may pass packets on to a socket in `inner`, at the other end of a
/// virtual cable: whether it does is up to routes and rules that nobody has read, so all of it is
/// in doubt.
pub(crate) fn forwarded(host: &Place, inner: &Place, bind: &Bind) -> Vec<Way> {
    let mut found = Vec::new();
    let translates = host.translates || host.steers();
    for family in Family::BOTH {
        let Some(bound) = bind.bound[family as usize] else { continue };
        let classes = Classes::of(family);
        let own = inner.local[family as usize].minus(&classes.loopback).minus(&classes.link);
        let taken = match bound {
            Bound::Any => own,
            Bound::One(address) => own.and(&family.one(address)),
        };
        if taken.is_empty() || !host.forwards[family as usize] {
            continue;
        }
        for (index, gate) in host.gates.iter().enumerate() {
            let alone = matches!(gate.side, Side::Loopback | Side::Nobody);
            if alone && !(translates && gate.side == Side::Loopback) {
                continue;
            }
            let (destinations, ports) = if translates {
                (family.all(), Ports::All)
            } else {
                (taken.minus(&host.local[family as usize]), Ports::Own)
            };
            let local = &host.local[family as usize];
            let sources =
                if alone { local.clone() } else { family.all().minus(&classes.martian).minus(local) };
            if destinations.is_empty() || sources.is_empty() {
                continue;
            }
            let reach = reach(host, gate, family, &destinations, &ports, &sources);
            found.push(Way {
                gate: index,
                family,
                destinations,
                ports,
                sources,
                verdict: Verdict::Unknown,
                reach,
                because: Vec::new(),
            });
        }
    }
    found
}
