//! What `why` asks: which rule keeps whom out, and what would close the ways that are open. Every
//! answer is found by judging again, never by looking at a rule alone.

use std::collections::BTreeMap;

use super::arrive::{Door, sendable};
use super::evaluate::{Decision, Deed};
use super::expose::{Asking as Asker, Reasons, Receives, Shape, Verdicts, listened, receives};
use super::place::{Place, Side};
use super::publish::{self, Key};
use super::quote;
use super::region::{Block, Region};
use super::ways::{Bind, Bound, Reason};
use super::world::{Listened, World};
use crate::model::ranges::{Family, Ranges};
use crate::model::{
    AddrRange, Answer, Asked, Asking, Closer, Closing, Endpoint, Entry, Exposure, Inquiry, NamespaceId, Path,
    PortRange, Reach, Refusal, Snapshot, Socket, SocketIndex, State, Text, Upstream, Verdict,
};

/// So many rules of one socket are tried without.
const MOST_TRIED: usize = 8;
/// So many sockets are inquired into: who asks about more gets no screen of it anyway.
const MOST_SOCKETS: usize = 100;

/// Answers for each of `sockets`, in their order; the rules they name go into the snapshot's evidence.
pub fn inquire(
    snapshot: &mut Snapshot,
    sockets: &[SocketIndex],
    upstream: Option<Upstream>,
    asking: Option<&Asking>,
) -> Vec<Inquiry> {
    let places = || -> Vec<Option<Place>> {
        snapshot.namespaces.iter().map(|each| Place::new(each, &snapshot.host, upstream)).collect()
    };
    let mut open = places();
    for place in open.iter_mut().flatten().filter(|place| place.rules.is_some()) {
        place.rules = None;
    }
    let mut inquirer = Inquirer {
        snapshot: &*snapshot,
        places: places(),
        open,
        listened: listened(snapshot),
        judged: Verdicts::default(),
        reasons: Reasons::default(),
    };
    let mut found: Vec<Inquiry> = sockets
        .iter()
        .enumerate()
        .map(|(number, &index)| (number, Subject::of(&inquirer.snapshot.sockets[index.0 as usize])))
        .map(|(number, subject)| match subject {
            Some(subject) if number < MOST_SOCKETS => inquirer.about(&subject, asking),
            Some(_) | None => Inquiry::default(),
        })
        .collect();
    let Inquirer { places, reasons, .. } = inquirer;
    let quoted = quote::evidence(&snapshot.namespaces, &places, &reasons.in_order());
    let mut known: BTreeMap<_, u32> = BTreeMap::new();
    for (index, each) in snapshot.evidence.iter().enumerate() {
        let key = (each.place.clone(), each.handle, each.text.clone());
        known.entry(key).or_insert(u32::try_from(index).unwrap_or(u32::MAX));
    }
    let mut indices = Vec::with_capacity(quoted.len());
    for each in quoted {
        let next = u32::try_from(snapshot.evidence.len()).unwrap_or(u32::MAX);
        let index = *known.entry((each.place.clone(), each.handle, each.text.clone())).or_insert(next);
        if index == next {
            snapshot.evidence.push(each);
        }
        indices.push(index);
    }
    for inquiry in &mut found {
        renumber(inquiry, &indices);
    }
    found
}

/// From the numbers of this inquiry to those of the snapshot.
fn renumber(inquiry: &mut Inquiry, indices: &[u32]) {
    let asked = inquiry.asked.iter_mut();
    let lists = asked.flat_map(|asked| {
        let paths = asked.paths.iter_mut().map(|path| &mut path.because);
        paths.chain(asked.refused.iter_mut().map(|each| &mut each.because))
    });
    let refused = inquiry.refused.iter_mut().map(|each| &mut each.because);
    let closing = inquiry.closing.iter_mut().map(|each| &mut each.evidence);
    for index in lists.chain(refused).chain(closing).flatten() {
        *index = indices.get(*index as usize).copied().unwrap_or(u32::MAX);
    }
}

struct Inquirer<'s> {
    snapshot: &'s Snapshot,
    places: Vec<Option<Place>>,
    /// The same, with rules that were read left out.
    open: Vec<Option<Place>>,
    listened: Listened,
    judged: Verdicts,
    reasons: Reasons,
}

/// What is inquired into.
enum Subject {
    Socket(NamespaceId, Bind, Option<u16>),
    Published(Key),
}

impl Subject {
    fn of(socket: &Socket) -> Option<Self> {
        match (receives(socket), &socket.local) {
            (Receives::Network(bind, port), _) => Some(Self::Socket(socket.netns, bind, port)),
            (_, Endpoint::Inet(address, port)) if socket.state == State::Published => {
                let (netns, protocol) = (socket.netns, socket.protocol);
                Some(Self::Published(Key { netns, protocol, address: *address, port: *port }))
            }
            (Receives::Nothing | Receives::Locally(_) | Receives::Untold, _) => None,
        }
    }

    fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(_, _, port) => *port,
            Self::Published(key) => Some(key.port),
        }
    }
}

impl Inquirer<'_> {
    fn about(&mut self, subject: &Subject, asking: Option<&Asking>) -> Inquiry {
        let port = subject.port();
        let (now, refused, reasons) = match subject {
            Subject::Socket(netns, bind, _) => {
                let shape = Shape::new(
                    &World::new(&self.places, self.listened.clone()),
                    *netns,
                    bind,
                    port,
                    &mut self.judged,
                );
                let now = shape.exposure(port, &mut self.reasons);
                let free = Shape::new(
                    &World::new(&self.open, self.listened.clone()),
                    *netns,
                    bind,
                    port,
                    &mut Verdicts::default(),
                );
                let free = free.exposure(port, &mut Reasons::default());
                let refused = self.refused(&now, &free, (port, bind.protocol));
                (now, refused, shape.reasons())
            }
            Subject::Published(key) => {
                let world = World::new(&self.places, self.listened.clone());
                let mut asking = Asker { world: &world, judged: &mut self.judged };
                let row = publish::row(&mut asking, self.snapshot, key);
                let Some(row) = row else { return Inquiry::default() };
                let now = row.shape.exposure(port, &mut self.reasons);
                let refused = self.kept_out(&now, key, &row.sent);
                (now, refused, row.shape.reasons())
            }
        };
        let asked = asking.map(|asking| asked(asking, &now, &refused));
        let closing = match asking {
            None => self.closing(subject, &now, &reasons),
            Some(_) => Vec::new(),
        };
        Inquiry { refused, closing, asked }
    }

    /// What is in `free` and in no path of `now`, with the rule that met it first.
    fn refused(
        &mut self,
        now: &Exposure,
        free: &Exposure,
        (port, protocol): (Option<u16>, Option<u8>),
    ) -> Vec<Refusal> {
        let mut rows: Vec<Row> = Vec::new();
        for path in &free.paths {
            let Some(family) = family_of(path) else { continue };
            for interface in &path.entry.interfaces {
                let whole = Region(vec![block(path, family, port)]);
                let left = left_of(whole, now, (path.entry.netns, interface, family), port);
                for (reason, Block([sources, destinations, _])) in
                    self.attributed(path.entry.netns, interface, (family, protocol), left)
                {
                    let entry = Entry { netns: path.entry.netns, interfaces: vec![interface.clone()] };
                    rows.push((reason, entry, family, [sources, destinations]));
                }
            }
        }
        let ports = port.map(|port| vec![PortRange { first: port, last: port }]);
        self.refusals(rows, ports.as_deref())
    }

    /// What was sent to a published port and dropped on its way.
    fn kept_out(
        &mut self,
        now: &Exposure,
        key: &Key,
        sent: &BTreeMap<publish::Gate, Region>,
    ) -> Vec<Refusal> {
        let mut rows: Vec<Row> = Vec::new();
        let mut ports = Ranges::default();
        for ((netns, gate, family), region) in sent {
            let Some(place) = self.places.get(*netns).and_then(Option::as_ref) else { continue };
            let door = Door { netns: *netns, place, gate: *gate, family: *family };
            let (protocol, transport) = publish::spoken(key.protocol);
            let region = region.and(&sendable(&door, transport));
            ports = region.0.iter().fold(ports, |sum, block| sum.union(&block.0[2]));
            let netns = NamespaceId(u32::try_from(*netns).unwrap_or(u32::MAX));
            let interface = place.gates[*gate].name.clone();
            let left = left_of(region, now, (netns, &interface, *family), None);
            for (reason, Block([sources, destinations, _])) in
                self.attributed(netns, &interface, (*family, Some(protocol)), left)
            {
                // What nobody drops is refused because nobody listens.
                if reason.is_some() {
                    let entry = Entry { netns, interfaces: vec![interface.clone()] };
                    rows.push((reason, entry, *family, [sources, destinations]));
                }
            }
        }
        self.refusals(rows, Some(&ports.ports()))
    }

    fn refusals(&mut self, rows: Vec<Row>, ports: Option<&[PortRange]>) -> Vec<Refusal> {
        let mut found: Vec<Refusal> = Vec::new();
        for (reason, entry, family, [sources, destinations]) in joined(rows) {
            let because = reason.iter().map(|reason| self.reasons.index(reason)).collect();
            found.push(Refusal {
                entry,
                destinations: family.addresses(&destinations),
                ports: ports.map(<[PortRange]>::to_vec),
                sources: family.addresses(&sources),
                because,
            });
        }
        found
    }

    /// Parts a closed region by who dropped it.
    fn attributed(
        &self,
        netns: NamespaceId,
        interface: &Text,
        (family, protocol): (Family, Option<u8>),
        mut left: Region,
    ) -> Vec<(Option<Reason>, Block)> {
        let mut found = Vec::new();
        let place = self.places.get(netns.0 as usize).and_then(Option::as_ref);
        let gate = place.and_then(|place| place.gates.iter().position(|gate| gate.name == *interface));
        let judged = self.judged.iter().filter(|((at, number, question), _)| {
            let asked = (question.family, question.protocol) == (family, protocol);
            *at == netns.0 as usize && Some(*number) == gate && asked
        });
        let dropped = |each: &&Decision| each.deed == Deed::Drops;
        for decision in judged.flat_map(|(_, judged)| &judged.decisions).filter(dropped) {
            if left.is_empty() {
                break;
            }
            for piece in &decision.region.0 {
                let mine = left.and(piece);
                if mine.is_empty() {
                    continue;
                }
                left = left.minus_block(piece);
                let reason = (
                    NamespaceId(u32::try_from(decision.netns).unwrap_or(u32::MAX)),
                    decision.decider.clone(),
                );
                found.extend(mine.0.into_iter().map(|block| (Some(reason.clone()), block)));
            }
        }
        found.extend(left.0.into_iter().map(|block| (None, block)));
        found
    }

    /// Each rule that lets somebody from outside in is taken away and everything judged again; so is a
    /// bind to loopback.
    fn closing(&mut self, subject: &Subject, now: &Exposure, reasons: &[Reason]) -> Vec<Closing> {
        if self.outside(now).is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let tried: Vec<Reason> = reasons.iter().take(MOST_TRIED).cloned().collect();
        for reason in &tried {
            let then = self.without(std::slice::from_ref(reason), subject);
            let by = if reason.1.handle.is_some() { Closer::Absent } else { Closer::Policy };
            found.extend(self.compared(now, &then, by, std::slice::from_ref(reason)));
        }
        if tried.len() > 1 && !found.iter().any(|each| each.closes) {
            let rules: Vec<Reason> =
                tried.iter().filter(|(_, decider)| decider.handle.is_some()).cloned().collect();
            let then = self.without(&rules, subject);
            let all = self.compared(now, &then, Closer::Absent, &rules);
            found.extend(all.filter(|each| each.closes && rules.len() > 1));
        }
        if let Subject::Socket(netns, bind, port) = subject {
            let then = self.then(&Subject::Socket(*netns, on_loopback(bind), *port));
            found.extend(self.compared(now, &then, Closer::Loopback, &[]));
        }
        found
    }

    /// Who could reach it with the rules as they are in `places`.
    fn then(&self, subject: &Subject) -> Exposure {
        let (world, mut judged) = (World::new(&self.places, self.listened.clone()), Verdicts::default());
        let shape = match subject {
            Subject::Socket(netns, bind, port) => Shape::new(&world, *netns, bind, *port, &mut judged),
            Subject::Published(key) => {
                let mut asking = Asker { world: &world, judged: &mut judged };
                let row = publish::row(&mut asking, self.snapshot, key);
                row.map_or_else(|| Shape::of(&world, std::iter::empty()), |row| row.shape)
            }
        };
        shape.exposure(subject.port(), &mut Reasons::default())
    }

    /// Who could reach it if these rules were not there, and these policies dropped.
    fn without(&mut self, reasons: &[Reason], subject: &Subject) -> Exposure {
        let mut kept = Vec::new();
        for (at, decider) in reasons {
            let place = self.places.get_mut(at.0 as usize).and_then(Option::as_mut);
            let Some(rules) = place.and_then(|place| place.rules.as_mut()) else { continue };
            kept.push((*at, rules.clone()));
            let table = rules.tables.get_mut(decider.table);
            let Some(chain) = table.and_then(|table| table.chains.get_mut(&decider.chain)) else { continue };
            match (decider.handle, &mut chain.base) {
                (Some(handle), _) => chain.rules.retain(|rule| rule.handle != handle),
                (None, Some(base)) => base.drop_policy = true,
                (None, None) => {}
            }
        }
        let then = self.then(subject);
        // Backwards, so that the first copy of a namespace's rules is the last to come back.
        for (at, rules) in kept.into_iter().rev() {
            if let Some(place) = self.places.get_mut(at.0 as usize).and_then(Option::as_mut) {
                place.rules = Some(rules);
            }
        }
        then
    }

    /// `None` where it would keep nobody out, or let others in.
    fn compared(
        &mut self,
        now: &Exposure,
        then: &Exposure,
        by: Closer,
        reasons: &[Reason],
    ) -> Option<Closing> {
        let (before, after) = (self.outside(now), self.outside(then));
        let fewer = after
            .iter()
            .all(|(gate, region)| before.get(gate).is_some_and(|before| region.minus(before).is_empty()));
        let gone = before.iter().any(|(gate, region)| match after.get(gate) {
            Some(after) => !region.minus(after).is_empty(),
            None => true,
        });
        (fewer && gone).then(|| Closing {
            by,
            evidence: reasons.iter().map(|reason| self.reasons.index(reason)).collect(),
            reach: then.reach,
            certain: then.certain,
            closes: after.is_empty(),
        })
    }

    /// What comes in from anywhere but this computer's own programs, by interface.
    fn outside(&self, exposure: &Exposure) -> BTreeMap<Gate, Region> {
        let mut found: BTreeMap<Gate, Region> = BTreeMap::new();
        for path in &exposure.paths {
            let place = self.places.get(path.entry.netns.0 as usize).and_then(Option::as_ref);
            let gate =
                |name: &Text| place?.gates.iter().find(|gate| gate.name == *name).map(|gate| gate.side);
            let Some(family) = family_of(path) else { continue };
            for name in path.entry.interfaces.iter().filter(|name| gate(name) != Some(Side::Loopback)) {
                let region = found.entry((path.entry.netns, name.clone(), family)).or_default();
                region.add(Region(vec![block(path, family, None)]));
            }
        }
        found
    }
}

/// Where packets of a family come in.
type Gate = (NamespaceId, Text, Family);

/// The loopback address of its family instead of all.
fn on_loopback(bind: &Bind) -> Bind {
    let mut near = *bind;
    if bind.bound[Family::V6 as usize].is_some() {
        near.bound = [None, Some(Bound::One(std::net::Ipv6Addr::LOCALHOST.into()))];
    } else {
        near.bound = [Some(Bound::One(std::net::Ipv4Addr::LOCALHOST.into())), None];
    }
    near
}

fn family_of(path: &Path) -> Option<Family> {
    path.destinations.first().map(|range| Family::of(range.first))
}

/// A path as a set of packets, to one port or to all.
fn block(path: &Path, family: Family, port: Option<u16>) -> Block {
    let port = port.map_or((0, u16::MAX.into()), |port| (port.into(), port.into()));
    let mine = match &path.ports {
        Some(ports) => {
            Ranges::new(ports.iter().map(|range| (range.first.into(), range.last.into())).collect())
        }
        None => Ranges::new(vec![port]),
    };
    let ports = mine.and(&Ranges::new(vec![port]));
    Block([family.pick(&*path.sources), family.pick(&*path.destinations), ports])
}

/// What of a region comes in by no path at that gate.
fn left_of(
    mut left: Region,
    now: &Exposure,
    (netns, interface, family): (NamespaceId, &Text, Family),
    port: Option<u16>,
) -> Region {
    let same = |path: &&Path| path.entry.netns == netns && path.entry.interfaces.contains(interface);
    for other in now.paths.iter().filter(same).filter(|other| family_of(other) == Some(family)) {
        left = left.minus_block(&block(other, family, port));
    }
    left.disjoint()
}

type Row = (Option<Reason>, Entry, Family, [Ranges; 2]);

/// Rows of one rule that differ in one thing only are one.
fn joined(rows: Vec<Row>) -> Vec<Row> {
    let mut found: Vec<Row> = Vec::new();
    // Thousands of rules may shut a door: rows of other rules are not even looked at.
    let mut of_rule: BTreeMap<(Option<Reason>, NamespaceId, Family), Vec<usize>> = BTreeMap::new();
    for row in rows {
        let (reason, entry, family, [sources, destinations]) = &row;
        let known = of_rule.entry((reason.clone(), entry.netns, *family)).or_default();
        let twin = known.iter().copied().find(|&number| {
            let (_, place, _, sides) = &found[number];
            let alike =
                [place.interfaces == entry.interfaces, sides[0] == *sources, sides[1] == *destinations];
            alike.iter().filter(|alike| **alike).count() >= 2
        });
        match twin.and_then(|number| found.get_mut(number)) {
            Some((_, place, _, sides)) => {
                for name in &entry.interfaces {
                    if !place.interfaces.contains(name) {
                        place.interfaces.push(name.clone());
                    }
                }
                *sides = [sides[0].union(sources), sides[1].union(destinations)];
            }
            None => {
                known.push(found.len());
                found.push(row);
            }
        }
    }
    found
}

/// What comes of the sources that were asked for.
fn asked(asking: &Asking, now: &Exposure, refused: &[Refusal]) -> Asked {
    let here = |entry: &Entry| asking.interface.as_ref().is_none_or(|name| entry.interfaces.contains(name));
    let narrowed = |sources: &[AddrRange]| -> Option<Vec<AddrRange>> {
        let Some(range) = asking.sources else { return Some(sources.to_vec()) };
        let family = Family::of(range.first);
        let both = family.pick(sources).and(&family.pick([&range]));
        (!both.is_empty()).then(|| family.addresses(&both))
    };
    let entry = |entry: &Entry| Entry {
        netns: entry.netns,
        interfaces: match &asking.interface {
            Some(name) => vec![name.clone()],
            None => entry.interfaces.clone(),
        },
    };
    let paths: Vec<Path> = now
        .paths
        .iter()
        .filter(|path| here(&path.entry))
        .filter_map(|path| {
            let sources = narrowed(&path.sources)?.into();
            Some(Path { entry: entry(&path.entry).into(), sources, ..path.clone() })
        })
        .collect();
    let refused: Vec<Refusal> = refused
        .iter()
        .filter(|each| here(&each.entry))
        .filter_map(|each| {
            Some(Refusal { entry: entry(&each.entry), sources: narrowed(&each.sources)?, ..each.clone() })
        })
        .collect();
    Asked {
        answer: answer(asking, now, &paths, &refused),
        sources: asking.sources,
        interface: asking.interface.clone(),
        paths,
        refused,
    }
}

fn answer(asking: &Asking, now: &Exposure, paths: &[Path], refused: &[Refusal]) -> Answer {
    let certain = paths.iter().filter(|path| path.verdict == Verdict::Accept);
    let all_in = match asking.sources {
        Some(range) => {
            let family = Family::of(range.first);
            let sum =
                certain.clone().fold(Ranges::default(), |sum, path| sum.union(&family.pick(&*path.sources)));
            family.pick([&range]).minus(&sum).is_empty()
        }
        None => refused.is_empty() && paths.iter().all(|path| path.verdict == Verdict::Accept),
    };
    let some_in = certain.clone().next().is_some();
    if all_in && some_in {
        Answer::Yes
    } else if some_in {
        Answer::Partly
    } else if !paths.is_empty() || now.reach == Reach::Unknown {
        Answer::Unknown
    } else {
        Answer::No
    }
}
