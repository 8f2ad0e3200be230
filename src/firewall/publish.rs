//! Ports that address translation publishes with no socket behind them in the namespace that
//! translates: each is a row of its own, which tells where it leads and who gets there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use super::arrive::{Door, Target, come, takes, went};
use super::evaluate::{Now, Publication, Question};
use super::expose::{Asking, Reasons, Receives, Shape, receives};
use super::journey::{Arrival, Judged};
use super::place::{Place, Side as GateSide};
use super::ranges::{Family, Ranges};
use super::region::{Region, Side};
use super::ways::{Bind, Bound, Ports, Transport, Way};
use crate::model::{
    AddrRange, Gap, NamespaceId, PortRange, Protocol, Published, PublishedTarget, Snapshot, Socket,
    SocketIndex, State,
};

/// A rule for more ports than this makes one row for all of them.
const MOST_SINGLE: u128 = 64;
/// More rows than this help nobody.
const MOST_ROWS: usize = 20_000;
/// What translation rules name.
const PROTOCOLS: [(Protocol, u8, Transport); 3] = [
    (Protocol::Tcp, 6, Transport::Stream),
    (Protocol::Udp, 17, Transport::Datagram),
    (Protocol::Sctp, 132, Transport::Stream),
];

/// The number of a protocol that is published, and how it is taken.
pub(super) fn spoken(protocol: Protocol) -> (u8, Transport) {
    let known = PROTOCOLS.iter().find(|(known, ..)| *known == protocol);
    known.map_or((6, Transport::Stream), |(_, number, transport)| (*number, *transport))
}

/// What makes a published port the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) netns: NamespaceId,
    pub(super) protocol: Protocol,
    pub(super) address: IpAddr,
    /// 0 for many.
    pub(super) port: u16,
}

pub(super) struct Row {
    pub(super) published: Published,
    pub(super) shape: Shape,
    /// What was sent on, by the door that it came in by, whatever became of it.
    pub(super) sent: BTreeMap<Gate, Region>,
}

/// Namespace, gate and family.
pub(super) type Gate = (usize, usize, Family);

/// The row of one published port.
pub(super) fn row(asking: &mut Asking<'_, '_, '_>, snapshot: &Snapshot, key: &Key) -> Option<Row> {
    rows(asking, snapshot, Some(key)).0.remove(key)
}

/// All published ports, and how many there are no rows for; where one is wanted, those that are told
/// with it.
fn rows(
    asking: &mut Asking<'_, '_, '_>,
    snapshot: &Snapshot,
    wanted: Option<&Key>,
) -> (BTreeMap<Key, Row>, u64) {
    let pieces = pieces(asking, wanted);
    if pieces.is_empty() {
        return (BTreeMap::new(), 0);
    }
    let takers = Takers::new(snapshot);
    let mut drafts: BTreeMap<Key, Draft> = BTreeMap::new();
    let mut untold = 0;
    for ((protocol, family, publication), pieces) in &pieces {
        let (_, number, transport) = *protocol;
        let group = Group { protocol: protocol.0, number, transport, family: *family, publication, pieces };
        for (address, ports) in group.doors() {
            let port = ports.only().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            let netns = NamespaceId(u32::try_from(publication.netns).unwrap_or(u32::MAX));
            let key = Key { netns, protocol: group.protocol, address, port };
            if drafts.len() >= MOST_ROWS && !drafts.contains_key(&key) {
                untold += 1;
                continue;
            }
            let draft = drafts.entry(key).or_default();
            group.follow(asking, &takers, (address, &ports), draft);
        }
    }
    let led =
        drafts.into_iter().filter(|(key, draft)| !draft.targets.iter().all(|target| at_home(key, target)));
    let rows = led.map(|(key, draft)| (key, draft.row(asking)));
    (rows.collect(), untold)
}

/// The gap that says that more ports are published than are listed.
pub(super) const GAP: &str = "published-unlisted";

/// Takes away the rows of an earlier judgement, which stand at the end.
pub(super) fn retract(snapshot: &mut Snapshot) {
    let sockets = &mut snapshot.sockets;
    let kept = sockets.iter().rposition(|socket| socket.state != State::Published).map_or(0, |last| last + 1);
    sockets.truncate(kept);
    for socket in sockets {
        socket.peer = socket.peer.filter(|peer| (peer.0 as usize) < kept);
    }
}

/// Adds a row for every published port.
pub(super) fn publish(
    asking: &mut Asking<'_, '_, '_>,
    snapshot: &mut Snapshot,
    reasons: &mut Reasons,
) -> Option<Gap> {
    let (rows, untold) = rows(asking, snapshot, None);
    for (Key { netns, protocol, address, port }, row) in rows {
        let exposure = row.shape.exposure(Some(port), reasons);
        let place = (netns, protocol);
        snapshot.sockets.push(Socket::published(place, (address, port), row.published, exposure));
    }
    (untold > 0).then(|| Gap {
        id: GAP.into(),
        what: "further ports that address translation publishes".to_owned(),
        why: format!("more than {MOST_ROWS} are not listed"),
        remedy: None,
        count: untold,
        unlisted: None,
    })
}

/// A socket of the namespace that translates tells of itself.
fn at_home(key: &Key, target: &PublishedTarget) -> bool {
    target.netns == Some(key.netns) && target.socket.is_some()
}

/// What one door's packets of one family and protocol have to do with one publication.
struct Piece {
    netns: usize,
    gate: usize,
    judged: Rc<Judged>,
    sent: Region,
    /// Indices into what arrives, and into what is gone.
    arrivals: Vec<usize>,
    gone: Vec<usize>,
}

type Pieces = BTreeMap<((Protocol, u8, Transport), Family, Rc<Publication>), Vec<Piece>>;

/// Asks at every door from which packets may come to rules that translate.
fn pieces(asking: &mut Asking<'_, '_, '_>, wanted: Option<&Key>) -> Pieces {
    let world = asking.world;
    let steering: Vec<usize> = world
        .places
        .iter()
        .enumerate()
        .filter(|(_, place)| place.as_ref().is_some_and(Place::steers))
        .map(|(number, _)| number)
        .filter(|number| wanted.is_none_or(|key| key.netns.0 as usize == *number))
        .collect();
    let families =
        Family::BOTH.into_iter().filter(|family| wanted.is_none_or(|key| Family::of(key.address) == *family));
    let families: Vec<Family> = families.collect();
    let protocols =
        PROTOCOLS.into_iter().filter(|(protocol, ..)| wanted.is_none_or(|key| key.protocol == *protocol));
    let protocols: Vec<(Protocol, u8, Transport)> = protocols.collect();
    let mut found = Pieces::new();
    for (netns, place) in world.places.iter().enumerate() {
        let Some(place) = place else { continue };
        if !steering.iter().any(|to| *to == netns || world.leads(netns, *to)) {
            continue;
        }
        let gates = place.gates.iter().enumerate().filter(|(_, gate)| gate.side != GateSide::Nobody);
        for (gate, _) in gates {
            for &family in &families {
                for &protocol in &protocols {
                    let answered = protocol.2 == Transport::Stream;
                    let question = Question { family, protocol: Some(protocol.1), answered, echoed: false };
                    let judged = asking.ask(netns, gate, question);
                    sort(&mut found, (netns, gate), (protocol, family), &judged);
                }
            }
        }
    }
    found
}

fn sort(
    found: &mut Pieces,
    (netns, gate): (usize, usize),
    (protocol, family): ((Protocol, u8, Transport), Family),
    judged: &Rc<Judged>,
) {
    if judged.published.is_empty() {
        return;
    }
    let mut arrivals: BTreeMap<&Publication, Vec<usize>> = BTreeMap::new();
    let mut gone = arrivals.clone();
    for (number, arrival) in judged.arrivals.iter().enumerate() {
        arrival.state.published.iter().for_each(|each| arrivals.entry(each).or_default().push(number));
    }
    for (number, (state, _)) in judged.gone.iter().enumerate() {
        state.published.iter().for_each(|each| gone.entry(each).or_default().push(number));
    }
    for (publication, sent) in &judged.published {
        let key = (protocol, family, Rc::clone(publication));
        found.entry(key).or_default().push(Piece {
            netns,
            gate,
            judged: Rc::clone(judged),
            sent: sent.clone(),
            arrivals: arrivals.remove(&**publication).unwrap_or_default(),
            gone: gone.remove(&**publication).unwrap_or_default(),
        });
    }
}

/// All that is led from somewhere to one place.
struct Group<'p> {
    protocol: Protocol,
    number: u8,
    transport: Transport,
    family: Family,
    publication: &'p Publication,
    pieces: &'p [Piece],
}

#[derive(Default)]
struct Draft {
    targets: Vec<PublishedTarget>,
    ways: BTreeMap<usize, Vec<Way>>,
    told: BTreeMap<Gate, Region>,
    sent: BTreeMap<Gate, Region>,
}

impl Draft {
    fn row(mut self, asking: &Asking<'_, '_, '_>) -> Row {
        self.targets.sort_unstable();
        self.targets.dedup();
        let world = asking.world;
        let ways = self.ways.into_iter().filter_map(|(netns, ways)| {
            let id = NamespaceId(u32::try_from(netns).unwrap_or(u32::MAX));
            Some((id, world.places.get(netns)?.as_ref()?, ways))
        });
        let shape = Shape::of(world, ways);
        Row { published: Published { targets: self.targets }, shape, sent: self.sent }
    }

    fn add(&mut self, targets: impl IntoIterator<Item = PublishedTarget>) {
        self.targets.extend(targets);
    }
}

impl Group<'_> {
    /// Destination and ports as they came to the namespace that translates: each port for itself
    /// where they are few. Several addresses are the wildcard.
    fn doors(&self) -> Vec<(IpAddr, Ranges)> {
        let [came, asked] = &self.publication.came;
        let mut blocks: Vec<(Ranges, Ranges)> = Vec::new();
        for block in self.pieces.iter().flat_map(|piece| &piece.sent.0) {
            let [_, destinations, ports] = &block.0;
            let destinations = came.as_ref().unwrap_or(destinations).clone();
            blocks.push((destinations, asked.as_ref().unwrap_or(ports).clone()));
        }
        let all = blocks.iter().fold(Ranges::default(), |sum, (_, ports)| sum.union(ports));
        let count: u128 = all.ports().iter().map(|range| u128::from(range.last - range.first) + 1).sum();
        let each: Vec<Ranges> = match count {
            0..=MOST_SINGLE => all
                .ports()
                .iter()
                .flat_map(|range| range.first..=range.last)
                .map(|port| Ranges::new(vec![(port.into(), port.into())]))
                .collect(),
            _ => vec![all],
        };
        let door = |ports: Ranges| {
            let here = blocks.iter().filter(|(_, all)| all.meets(&ports));
            let to = here.fold(Ranges::default(), |sum, (to, _)| sum.union(to));
            let only =
                self.family.addresses(&to).first().filter(|_| to.only().is_some()).map(|one| one.first);
            (only.unwrap_or_else(|| self.wildcard()), ports)
        };
        each.into_iter().map(door).collect()
    }

    fn wildcard(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Where it leads, and who gets there.
    fn follow(
        &self,
        asking: &Asking<'_, '_, '_>,
        takers: &Takers,
        (address, ports): (IpAddr, &Ranges),
        draft: &mut Draft,
    ) {
        let mut led = false;
        for piece in self.pieces {
            let Some(place) = asking.world.places.get(piece.netns).and_then(Option::as_ref) else { continue };
            let door = Door { netns: piece.netns, place, gate: piece.gate, family: self.family };
            let gate = (piece.netns, piece.gate, self.family);
            draft.sent.entry(gate).or_default().add(self.of_these(piece.sent.clone(), ports));
            let mut told = draft.told.remove(&gate).unwrap_or_default();
            let (pairs, targets) = self.targets(asking, takers, piece, (address, ports));
            led |= !targets.is_empty();
            draft.add(targets);
            let pairs = pairs.iter().map(|(arrival, target)| (*arrival, target));
            let mut ways = come(&door, &piece.judged, pairs, &mut told);
            for (state, region) in piece.gone.iter().filter_map(|number| piece.judged.gone.get(*number)) {
                led = true;
                draft.add(self.places(None, &state.now, (address, ports), &[]));
                ways.extend(went(&door, &piece.judged, region, self.transport, &mut told));
            }
            draft.told.insert(gate, told);
            let mine = ways.into_iter().filter_map(|way| self.with_ports(way, ports));
            draft.ways.entry(piece.netns).or_default().extend(mine);
        }
        if !led {
            let to = [None, self.publication.to[0].clone(), self.publication.to[1].clone()];
            let netns = self.home(asking, &to);
            let sockets =
                netns.map_or(Vec::new(), |netns| takers.at(netns, self.number, &to, ports, self.family));
            let sockets: Vec<SocketIndex> = sockets.iter().map(|taker| taker.socket).collect();
            draft.add(self.places(netns, &to, (address, ports), &sockets));
        }
    }

    /// Sockets that arrivals may be for, and the same as the row names them.
    fn targets<'w>(
        &self,
        asking: &Asking<'w, '_, '_>,
        takers: &'w Takers,
        piece: &'w Piece,
        (address, ports): (IpAddr, &Ranges),
    ) -> (Vec<(&'w Arrival, Target<'w>)>, Vec<PublishedTarget>) {
        let (mut pairs, mut targets) = (Vec::new(), Vec::new());
        for arrival in piece.arrivals.iter().filter_map(|number| piece.judged.arrivals.get(*number)) {
            let netns = arrival.netns;
            let Some(place) = asking.world.places.get(netns).and_then(Option::as_ref) else { continue };
            let found = takers.at(netns, self.number, &arrival.state.now, ports, self.family);
            let sockets: Vec<SocketIndex> = found.iter().map(|taker| taker.socket).collect();
            for taker in found {
                let target = Target { netns, place, bind: &taker.bind, port: taker.port };
                if takes(arrival, &target, self.family) {
                    pairs.push((arrival, target));
                }
            }
            if sockets.is_empty()
                && let Some(bind) = takers.unlisted(netns, self.number)
            {
                pairs.push((arrival, Target { netns, place, bind, port: None }));
            }
            targets.extend(self.places(Some(netns), &arrival.state.now, (address, ports), &sockets));
        }
        (pairs, targets)
    }

    /// The places that packets are sent on to.
    fn places(
        &self,
        netns: Option<usize>,
        [_, to, port]: &[Now; 3],
        (address, ports): (IpAddr, &Ranges),
        sockets: &[SocketIndex],
    ) -> Vec<PublishedTarget> {
        let netns = netns.map(|netns| NamespaceId(u32::try_from(netns).unwrap_or(u32::MAX)));
        let addresses = match to {
            Some(to) => self.family.addresses(to),
            None => vec![AddrRange::one(address)],
        };
        let ports = port.as_ref().unwrap_or(ports).ports();
        let (Some(first), Some(last)) = (ports.first(), ports.last()) else { return Vec::new() };
        let ports = PortRange { first: first.first, last: last.last };
        let named: Vec<Option<SocketIndex>> = match sockets {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let each = |address: AddrRange| {
            named.iter().map(move |socket| PublishedTarget { netns, address, ports, socket: *socket })
        };
        addresses.into_iter().flat_map(each).collect()
    }

    /// The namespace that has the address; nothing came there.
    fn home(&self, asking: &Asking<'_, '_, '_>, [_, to, _]: &[Now; 3]) -> Option<usize> {
        let (world, here) = (asking.world, self.publication.netns);
        let Some(to) = to else { return Some(here) };
        let mut order: Vec<usize> = (0..world.places.len()).filter(|other| *other != here).collect();
        order.insert(0, here);
        order.into_iter().find(|number| {
            let place = world.places.get(*number).and_then(Option::as_ref);
            let joined = *number == here || world.leads(here, *number);
            joined && place.is_some_and(|place| to.minus(&place.local[self.family as usize]).is_empty())
        })
    }

    /// Of what the sender wrote, that to these ports; what was translated before has others.
    fn of_these(&self, region: Region, ports: &Ranges) -> Region {
        if self.publication.came[1].is_some() {
            return region;
        }
        let only = |mut block: super::region::Block| {
            let side = &mut block.0[Side::Port as usize];
            *side = side.and(ports);
            (!side.is_empty()).then_some(block)
        };
        Region(region.0.into_iter().filter_map(only).collect())
    }

    fn with_ports(&self, mut way: Way, ports: &Ranges) -> Option<Way> {
        if let (Ports::These(mine), None) = (&way.ports, &self.publication.came[1]) {
            let both = mine.and(ports);
            if both.is_empty() {
                return None;
            }
            way.ports = Ports::These(both);
        }
        Some(way)
    }
}

/// A socket that takes packets.
struct Taker {
    socket: SocketIndex,
    bind: Bind,
    port: Option<u16>,
}

/// The sockets by namespace, number of their protocol and port.
struct Takers {
    by: BTreeMap<(usize, u8, u16), Vec<Taker>>,
    /// Namespaces and protocols whose sockets could not be listed.
    unlisted: Vec<(Option<u8>, usize)>,
    anybody: [Bind; 2],
}

impl Takers {
    fn new(snapshot: &Snapshot) -> Self {
        let mut by: BTreeMap<(usize, u8, u16), Vec<Taker>> = BTreeMap::new();
        for seen in snapshot.observations() {
            let netns = seen.socket.netns.0 as usize;
            if let Receives::Network(bind, Some(port)) = receives(seen.socket)
                && let Some(protocol) = bind.protocol
            {
                let taker = Taker { socket: seen.index, bind, port: Some(port) };
                by.entry((netns, protocol, port)).or_default().push(taker);
            }
        }
        let number = |protocol| PROTOCOLS.iter().find(|(known, ..)| *known == protocol).map(|each| each.1);
        let unlisted = snapshot.gaps.iter().filter_map(|gap| match gap.unlisted {
            Some((Some(protocol), Some(netns))) => Some((Some(number(protocol)?), netns.0 as usize)),
            Some((None, Some(netns))) => Some((None, netns.0 as usize)),
            Some((_, None)) | None => None,
        });
        let anybody = |transport| Bind {
            bound: [Some(Bound::Any); 2],
            maybe_v4: false,
            transport,
            protocol: None,
            device: 0,
            // Nobody knows what is there.
            maybe_device: true,
        };
        let anybody = [Transport::Stream, Transport::Datagram].map(anybody);
        Self { by, unlisted: unlisted.collect(), anybody }
    }

    /// Who takes what comes with such an address and port.
    fn at(&self, netns: usize, protocol: u8, now: &[Now; 3], ports: &Ranges, family: Family) -> Vec<&Taker> {
        let [_, to, port] = now;
        let ports = port.as_ref().unwrap_or(ports).ports();
        let ranges = ports.iter().map(|range| (netns, protocol, range.first)..=(netns, protocol, range.last));
        let all = ranges.flat_map(|range| self.by.range(range)).flat_map(|(_, takers)| takers);
        let bound = |taker: &&Taker| match (taker.bind.bound[family as usize], to) {
            (None, _) => false,
            (Some(Bound::Any), _) | (Some(Bound::One(_)), None) => true,
            (Some(Bound::One(address)), Some(to)) => to.meets(&family.one(address)),
        };
        all.filter(bound).collect()
    }

    fn unlisted(&self, netns: usize, protocol: u8) -> Option<&Bind> {
        let lacking =
            |(which, at): &(Option<u8>, usize)| *at == netns && which.is_none_or(|each| each == protocol);
        self.unlisted.iter().any(lacking).then(|| &self.anybody[usize::from(protocol == 17)])
    }
}
