//! From where each socket can be reached: bind address, interfaces, routes and namespaces, and
//! whether a packet filter could say no. Pure: everything it knows is in the snapshot.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::arrive::{Door, Target, arrived, said, unknown};
use super::evaluate::Question;
use super::journey::{Judged, judge};
use super::place::{Place, Side};
use super::publish;
use super::quote;
use super::ranges::{Family, Ranges};
use super::region::Region;
use super::ways::{
    Bind, Bound, Ports, Reason, Transport, Way, echoes, forwarded, senders, through_rules, ways,
};
use super::world::{Listened, World};
use crate::model::{
    Endpoint, Entry, Exposure, FilterState, Gap, Namespace, NamespaceId, Path, PortRange, Protocol, Reach,
    Role, Snapshot, Socket, Text, Upstream, Verdict,
};

/// The gap that says for how many sockets nobody could tell the interface they are bound to.
const DEVICE_GAP: &str = "bound-interface-unread";
/// The gap that says for how many sockets a packet filter exists whose verdict is not known.
const FILTER_GAP: &str = "filter-unread";

/// Fills the exposure of every socket; what no packet of anybody new can reach has none. Says once,
/// with its count, where a packet filter leaves the answer open.
pub fn expose(snapshot: &mut Snapshot, upstream: Option<Upstream>) {
    let places: Vec<Option<Place>> =
        snapshot.namespaces.iter().map(|each| Place::new(each, &snapshot.host, upstream)).collect();
    let own = snapshot.namespaces.iter().zip(&places).find(|(namespace, _)| namespace.own);
    snapshot.upstream = upstream.or_else(|| Some(own?.1.as_ref()?.upstream));
    let mut shapes: BTreeMap<(NamespaceId, Bind, Option<u16>), Shape> = BTreeMap::new();
    let world = World::new(&places, listened(snapshot));
    // Only rules tell ports apart.
    let ruled = places.iter().flatten().any(|place| place.rules.is_some());
    let mut judged = Verdicts::default();
    let mut reasons = Reasons::default();
    let mut filtered: BTreeMap<NamespaceId, u64> = BTreeMap::new();
    let mut unbound = 0;
    publish::retract(snapshot);
    for index in 0..snapshot.sockets.len() {
        let exposure = match receives(&snapshot.sockets[index]) {
            Receives::Nothing => None,
            Receives::Locally(reach) => Some(Exposure { reach, certain: true, paths: Vec::new() }),
            Receives::Untold => Some(untold()),
            Receives::Network(mut bind, port) => {
                let netns = snapshot.sockets[index].netns;
                // Only Linux has such binds, and there a namespace has an inode.
                bind.maybe_device &= snapshot.namespace(netns).inode != 0;
                unbound += u64::from(bind.maybe_device);
                let shape = shapes
                    .entry((netns, bind, port.filter(|_| ruled)))
                    .or_insert_with(|| Shape::new(&world, netns, &bind, port, &mut judged));
                if let Some(where_filtered) = shape.filtered {
                    *filtered.entry(where_filtered).or_default() += 1;
                }
                Some(shape.exposure(port, &mut reasons))
            }
        };
        snapshot.sockets[index].exposure = exposure.map(Box::new);
    }
    let mut asking = Asking { world: &world, judged: &mut judged };
    let untold = publish::publish(&mut asking, snapshot, &mut reasons);
    snapshot.evidence = quote::evidence(&snapshot.namespaces, &places, &reasons.in_order());
    snapshot.gaps.retain(|gap| ![FILTER_GAP, DEVICE_GAP, publish::GAP].contains(&&*gap.id));
    snapshot.gaps.extend(untold);
    snapshot.gaps.extend(filter_gap(&snapshot.namespaces, &filtered));
    snapshot.gaps.extend((unbound > 0).then(|| device_gap(unbound)));
}

fn device_gap(count: u64) -> Gap {
    Gap {
        id: DEVICE_GAP.into(),
        what: "the interface that sockets may be bound to".to_owned(),
        why: "this system has no socket diagnostics for their protocol".to_owned(),
        remedy: Some("modprobe raw_diag udp_diag".to_owned()),
        count,
        unlisted: None,
    }
}

fn untold() -> Exposure {
    Exposure { reach: Reach::Unknown, certain: false, paths: Vec::new() }
}

/// What can come in to a socket from somebody new.
pub(super) enum Receives {
    Nothing,
    /// From this computer only, without addresses.
    Locally(Reach),
    /// From a network that is none of IP's, or at an address that is not known.
    Untold,
    Network(Bind, Option<u16>),
}

pub(super) fn receives(socket: &Socket) -> Receives {
    let receiver = matches!(socket.role, Role::Listener | Role::Receiver);
    match socket.protocol {
        Protocol::Packet | Protocol::Netlink | Protocol::Xdp | Protocol::Alg | Protocol::Key => {
            Receives::Nothing
        }
        Protocol::Unix => match (socket.role, &socket.local) {
            (Role::Listener | Role::Receiver, Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_)) => {
                Receives::Locally(Reach::Host)
            }
            (Role::Listener | Role::Receiver | Role::Peer, _) => Receives::Locally(Reach::Process),
            (Role::Inbound | Role::Outbound | Role::Idle | Role::Published, _) => Receives::Nothing,
        },
        Protocol::Vsock if receiver => Receives::Locally(Reach::Host),
        Protocol::Tipc | Protocol::Can | Protocol::Bluetooth | Protocol::Other(_) if receiver => {
            Receives::Untold
        }
        Protocol::Vsock | Protocol::Tipc | Protocol::Can | Protocol::Bluetooth | Protocol::Other(_) => {
            Receives::Nothing
        }
        Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp | Protocol::Dccp | Protocol::Smc if receiver => {
            network(socket, Transport::Stream, true)
        }
        // Whoever sent from a port that the kernel chose receives there too, from everybody.
        Protocol::Udp | Protocol::UdpLite if receiver || is_bound_alone(socket) => {
            network(socket, Transport::Datagram, true)
        }
        Protocol::Raw if receiver => network(socket, Transport::Raw, false),
        Protocol::Icmp if receiver => network(socket, Transport::Ping, false),
        Protocol::Tcp
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Smc
        | Protocol::Udp
        | Protocol::UdpLite
        | Protocol::Raw
        | Protocol::Icmp => Receives::Nothing,
    }
}

/// The ports that somebody receives on.
pub(super) fn listened(snapshot: &Snapshot) -> Listened {
    let mut found = Listened::default();
    for socket in &snapshot.sockets {
        if let Receives::Network(Bind { protocol: Some(protocol), .. }, port) = receives(socket) {
            found.add(protocol, port);
        }
    }
    found
}

/// Has a port, and is connected to nobody.
fn is_bound_alone(socket: &Socket) -> bool {
    socket.remote == Endpoint::None && matches!(socket.local, Endpoint::Inet(_, 1..))
}

/// `dual`: a wildcard bind to IPv6 serves IPv4 too, unless `IPV6_V6ONLY` says no.
fn network(socket: &Socket, transport: Transport, dual: bool) -> Receives {
    let Endpoint::Inet(address, port) = socket.local else { return Receives::Untold };
    let any = address.is_unspecified();
    let bound = if any { Bound::Any } else { Bound::One(address) };
    let both = any && address.is_ipv6() && dual && socket.v6only != Some(true);
    let mut families = [None; 2];
    families[Family::of(address) as usize] = Some(bound);
    if both {
        families[Family::V4 as usize] = Some(Bound::Any);
    }
    let maybe_v4 = both && socket.v6only.is_none();
    let maybe_device = socket.interface_unread();
    let protocol = match socket.protocol {
        Protocol::Tcp | Protocol::Mptcp | Protocol::Smc => Some(6),
        Protocol::Udp => Some(17),
        Protocol::Dccp => Some(33),
        Protocol::Sctp => Some(132),
        Protocol::UdpLite => Some(136),
        Protocol::Icmp => Some(if address.is_ipv4() { 1 } else { 58 }),
        Protocol::Raw
        | Protocol::Packet
        | Protocol::Unix
        | Protocol::Netlink
        | Protocol::Vsock
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Other(_) => socket.protocol_number.and_then(|number| u8::try_from(number).ok()),
    };
    let bind =
        Bind { bound: families, maybe_v4, transport, protocol, device: socket.interface, maybe_device };
    Receives::Network(bind, socket.protocol.has_ports().then_some(port))
}

/// What becomes of everything that comes to a gate: one journey for all listeners.
pub(super) type Verdicts = BTreeMap<(usize, usize, Question), Rc<Judged>>;

pub(super) struct Asking<'a, 'w, 'v> {
    pub(super) world: &'w World<'a>,
    pub(super) judged: &'v mut Verdicts,
}

impl Asking<'_, '_, '_> {
    pub(super) fn ask(&mut self, netns: usize, gate: usize, question: Question) -> Rc<Judged> {
        let world = self.world;
        let judged = self.judged.entry((netns, gate, question));
        Rc::clone(judged.or_insert_with(|| Rc::new(judge(world, netns, gate, question))))
    }

    /// What the rules of the namespace make of a way straight to the socket.
    fn through(&mut self, way: &Way, target: &Target<'_>) -> Vec<Way> {
        let (netns, place) = (target.netns, target.place);
        let plain = question(way.family, target.bind);
        let (echo, stranger) = echoes(place, way);
        let mut found = Vec::new();
        if let Some(echo) = echo {
            let mut verdicts = self.ask(netns, way.gate, Question { echoed: true, ..plain });
            // Of IPv6 a stranger may take such an address for his own.
            if way.family == Family::V6 {
                verdicts = Rc::new(verdicts.either(&self.ask(netns, way.gate, plain)));
            }
            found.extend(through_rules(place, &echo, &verdicts, target.port));
        }
        if let Some(stranger) = stranger {
            found.extend(through_rules(place, &stranger, &self.ask(netns, way.gate, plain), target.port));
        }
        found
    }

    /// Ways in to sockets of the namespace that are none by what the sender writes.
    fn translated(&mut self, own: &[Way], target: &Target<'_>) -> Vec<Way> {
        let steers = target.place.steers();
        let mut found = Vec::new();
        for family in Family::BOTH.into_iter().filter(|_| steers) {
            for gate in 0..target.place.gates.len() {
                let door = Door { netns: target.netns, place: target.place, gate, family };
                let mut told = Region::default();
                for way in own.iter().filter(|way| way.gate == gate && way.family == family) {
                    told.add(said(way, target.port));
                }
                found.extend(self.arrivals(&door, target.netns, target, &mut told));
            }
        }
        found
    }

    fn arrivals(
        &mut self,
        door: &Door<'_>,
        netns: usize,
        target: &Target<'_>,
        told: &mut Region,
    ) -> Vec<Way> {
        if target.bind.bound[door.family as usize].is_none() {
            return Vec::new();
        }
        let judged = self.ask(netns, door.gate, question(door.family, target.bind));
        if judged.lost { anything(door, target, told) } else { arrived(door, &judged, target, told) }
    }

    /// Ways in by another namespace, which passes packets on.
    fn passed_on(&mut self, netns: usize, host: &Place, target: &Target<'_>) -> Vec<Way> {
        let unread = host.verdict == Verdict::Unknown;
        // The ends of the cables do not know each other: nobody can tell what is joined to what.
        let untold = target.place.gates.iter().any(|gate| gate.veth && gate.link.is_none());
        if untold || (unread && self.world.leads(netns, target.netns)) {
            let veth = target.place.gates.iter().any(|gate| gate.veth);
            return if veth && cabled(host) {
                forwarded(host, target.place, target.bind)
            } else {
                Vec::new()
            };
        }
        let mut found = Vec::new();
        if !self.world.leads(netns, target.netns) {
            return found;
        }
        for family in Family::BOTH {
            for (gate, entry) in host.gates.iter().enumerate() {
                if entry.side == Side::Nobody {
                    continue;
                }
                let door = Door { netns, place: host, gate, family };
                found.extend(self.arrivals(&door, netns, target, &mut Region::default()));
            }
        }
        found
    }
}

fn question(family: Family, bind: &Bind) -> Question {
    let answered = bind.transport == Transport::Stream;
    Question { family, protocol: bind.protocol, answered, echoed: false }
}

/// All that may come by a door whose rules are too many to follow, but for what is told already.
fn anything(door: &Door<'_>, target: &Target<'_>, told: &Region) -> Vec<Way> {
    let host = door.place;
    let sources = match host.gates[door.gate].side {
        Side::Loopback => host.local[door.family as usize].clone(),
        Side::Nobody => return Vec::new(),
        Side::Inside | Side::Overlay | Side::Outside => {
            senders(host, &host.gates[door.gate], target.bind.transport, door.family)
        }
    };
    let ports = Ranges::new(vec![(0, u16::MAX.into())]);
    let all = Region::one([sources, door.family.all(), ports]).minus(told).disjoint();
    all.0.into_iter().map(|block| unknown(door, block)).collect()
}

/// The rules that decided anything, each with its index in the evidence.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<Reason, u32>);

impl Reasons {
    pub(super) fn index(&mut self, reason: &Reason) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        match self.0.get(reason) {
            Some(index) => *index,
            None => *self.0.entry(reason.clone()).or_insert(next),
        }
    }

    pub(super) fn in_order(&self) -> Vec<&Reason> {
        let mut all: Vec<(&Reason, u32)> = self.0.iter().map(|(reason, index)| (reason, *index)).collect();
        all.sort_unstable_by_key(|(_, index)| *index);
        all.into_iter().map(|(reason, _)| reason).collect()
    }
}

/// The ways in to all sockets of one namespace that are bound alike; only the port is missing.
pub(super) struct Shape {
    entrances: Vec<Entrance>,
    reach: Reach,
    certain: bool,
    /// The namespace whose packet filter leaves the answer open.
    filtered: Option<NamespaceId>,
}

/// A path whose port and reasons are still to be numbered; what it holds is shared by all sockets.
struct Entrance {
    path: Path,
    ports: Ports,
    reach: Reach,
    because: Vec<Reason>,
}

/// An entrance in the making.
struct Product {
    entry: Entry,
    family: Family,
    destinations: Ranges,
    ports: Ports,
    sources: Ranges,
    verdict: Verdict,
    reach: Reach,
    because: Vec<Reason>,
}

impl Shape {
    pub(super) fn new(
        world: &World<'_>,
        netns: NamespaceId,
        bind: &Bind,
        port: Option<u16>,
        judged: &mut Verdicts,
    ) -> Self {
        let mut asking = Asking { world, judged };
        let Some(place) = asking.world.places.get(netns.0 as usize).and_then(Option::as_ref) else {
            return Self::blind(world, netns, bind);
        };
        let alien = bind.device != 0 && !place.known.contains(&bind.device);
        if alien {
            return Self { entrances: Vec::new(), reach: Reach::Unknown, certain: false, filtered: None };
        }
        let target = Target { netns: netns.0 as usize, place, bind, port };
        let mut own = ways(place, bind);
        if place.rules.is_some() {
            own = own.iter().flat_map(|way| asking.through(way, &target)).collect();
            let translated = asking.translated(&own, &target);
            own.extend(translated);
        }
        let mut filtered = (place.verdict == Verdict::Unknown && !own.is_empty()).then_some(netns);
        let mut products = Vec::new();
        gather(&mut products, netns, place, own);
        for (number, other) in asking.world.places.iter().enumerate() {
            let id = NamespaceId(u32::try_from(number).unwrap_or(u32::MAX));
            let Some(host) = other.as_ref().filter(|_| id != netns) else { continue };
            let through = asking.passed_on(number, host, &target);
            if through.iter().any(|way| way.verdict == Verdict::Unknown) && host.verdict == Verdict::Unknown {
                filtered = filtered.or(Some(id));
            }
            gather(&mut products, id, host, through);
        }
        Self::made_of(world, products, filtered)
    }

    fn made_of(world: &World<'_>, products: Vec<Product>, filtered: Option<NamespaceId>) -> Self {
        let reach = products.iter().map(|each| each.reach).max().unwrap_or(Reach::None);
        let certain = products.iter().all(|each| each.verdict == Verdict::Accept);
        let entrances = products.into_iter().map(|each| each.shared(world)).collect();
        Self { entrances, reach, certain, filtered }
    }

    /// Of ways that somebody else found, by the namespaces that they begin in.
    pub(super) fn of<'p>(
        world: &World<'_>,
        ways: impl Iterator<Item = (NamespaceId, &'p Place, Vec<Way>)>,
    ) -> Self {
        let mut products = Vec::new();
        ways.for_each(|(netns, place, ways)| gather(&mut products, netns, place, ways));
        Self::made_of(world, products, None)
    }

    /// In a namespace that could not be looked into, a loopback bind still tells its class.
    fn blind(world: &World<'_>, netns: NamespaceId, bind: &Bind) -> Self {
        let mut products = Vec::new();
        for family in Family::BOTH {
            let Some(Bound::One(address)) = bind.bound[family as usize] else { continue };
            let destinations = family.one(address);
            if address.is_loopback() {
                products.push(Product {
                    entry: Entry { netns, interfaces: vec![Text::from("lo")] },
                    family,
                    sources: super::classes::Classes::of(family).loopback.clone(),
                    destinations,
                    ports: Ports::Own,
                    verdict: Verdict::Unknown,
                    reach: Reach::Host,
                    because: Vec::new(),
                });
            }
        }
        let reach = if products.is_empty() { Reach::Unknown } else { Reach::Host };
        Self {
            entrances: products.into_iter().map(|each| each.shared(world)).collect(),
            reach,
            certain: false,
            filtered: None,
        }
    }

    /// The rules that let somebody in by a way that is no loopback, each once.
    pub(super) fn reasons(&self) -> Vec<Reason> {
        let mut found: Vec<Reason> = Vec::new();
        for entrance in self.entrances.iter().filter(|each| each.reach > Reach::Host) {
            for reason in &entrance.because {
                if !found.contains(reason) {
                    found.push(reason.clone());
                }
            }
        }
        found
    }

    pub(super) fn exposure(&self, port: Option<u16>, reasons: &mut Reasons) -> Exposure {
        let has_ports = port.is_some();
        // Where there are no ports, there is no other port either.
        let told = self.entrances.iter().filter(|each| has_ports || each.ports != Ports::Others);
        let mut paths: Vec<Path> = told
            .map(|each| Path {
                ports: port.map(|port| ports(&each.ports, port)),
                because: each.because.iter().map(|reason| reasons.index(reason)).collect(),
                ..each.path.clone()
            })
            .collect();
        // Most sockets have one path, and a list that was filtered has room for four.
        paths.shrink_to_fit();
        Exposure { reach: self.reach, certain: self.certain, paths }
    }
}

impl Product {
    fn shared(self, world: &World<'_>) -> Entrance {
        let path = Path {
            entry: Arc::new(self.entry),
            destinations: world.list(self.family, &self.destinations),
            ports: None,
            sources: world.list(self.family, &self.sources),
            verdict: self.verdict,
            because: Vec::new(),
        };
        Entrance { path, ports: self.ports, reach: self.reach, because: self.because }
    }
}

/// Whether other namespaces can hang on it.
fn cabled(host: &Place) -> bool {
    host.gates.iter().any(|gate| gate.side == Side::Inside)
}

fn ports(which: &Ports, own: u16) -> Vec<PortRange> {
    let all = Ranges::new(vec![(0, u16::MAX.into())]);
    let own = Ranges::new(vec![(own.into(), own.into())]);
    match which {
        Ports::Own => own.ports(),
        Ports::Others => all.minus(&own).ports(),
        Ports::All => all.ports(),
        Ports::These(ports) => ports.ports(),
    }
}

/// Joins ways that differ in the gate only, then those that differ in the destinations only: both
/// stay products.
fn gather(products: &mut Vec<Product>, netns: NamespaceId, place: &Place, ways: Vec<Way>) {
    let start = products.len();
    for way in ways {
        let name = &place.gates[way.gate].name;
        let same = products[start..].iter_mut().find(|each| {
            each.family == way.family
                && each.ports == way.ports
                && each.verdict == way.verdict
                && each.reach == way.reach
                && each.destinations == way.destinations
                && each.sources == way.sources
                && each.because == way.because
        });
        match same {
            Some(product) => product.entry.interfaces.push(name.clone()),
            None => products.push(Product {
                entry: Entry { netns, interfaces: vec![name.clone()] },
                family: way.family,
                destinations: way.destinations,
                ports: way.ports,
                sources: way.sources,
                verdict: way.verdict,
                reach: way.reach,
                because: way.because,
            }),
        }
    }
    let mut index = start;
    while index < products.len() {
        let twin = products[start..index].iter().position(|each| {
            let other = &products[index];
            each.family == other.family
                && each.ports == other.ports
                && each.verdict == other.verdict
                && each.reach == other.reach
                && each.sources == other.sources
                && each.entry == other.entry
                && each.because == other.because
        });
        match twin {
            Some(twin) => {
                let gone = products.remove(index);
                let kept = &mut products[start + twin];
                kept.destinations = kept.destinations.union(&gone.destinations);
            }
            None => index += 1,
        }
    }
}

/// One gap for all namespaces whose filter leaves sockets in doubt: the first reason stands for all.
fn filter_gap(namespaces: &[Namespace], filtered: &BTreeMap<NamespaceId, u64>) -> Option<Gap> {
    let (first, _) = filtered.first_key_value()?;
    let (why, remedy) = match &namespaces[first.0 as usize].filter {
        FilterState::Some(tables) => {
            let names: Vec<String> = tables.iter().take(4).map(ToString::to_string).collect();
            let more = if tables.len() > names.len() { " and more" } else { "" };
            (format!("rules exist that are not evaluated: {}{more}", names.join(", ")), None)
        }
        FilterState::Refused(why) => {
            (format!("the kernel does not tell whether rules exist: {why}"), Some("run as root".to_owned()))
        }
        FilterState::Unasked | FilterState::None => {
            ("the kernel was not asked whether rules exist".to_owned(), None)
        }
    };
    Some(Gap {
        id: FILTER_GAP.into(),
        what: "what the packet filter lets through".to_owned(),
        why,
        remedy,
        count: filtered.values().sum(),
        unlisted: None,
    })
}
