//! The way of new packets from a gate to sockets: through the hooks of the namespace they come into,
//! translated or not, on through virtual cables into others, and the answer's way back.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::evaluate::{Decision, Exit, Packet, Publication, Question, State, Station, Stream, Tracked, Walk};
use super::place::{Gate, Place, Side as GateSide};
use super::policy::{Choice, Entry, Lookup};
use super::region::{Block, Region, Side};
use super::reverse::{Passing, passing as passing_back};
use super::ruleset::{Hook, Ruleset, TableFamily};
use super::world::World;
use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges};

/// More namespaces than this on one way are not followed.
const MOST_HOPS: usize = 4;
/// More pieces than this, and nothing is said any more.
const MOST_BLOCKS: usize = 8_000;

/// What becomes of everything that comes to a gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// May come to sockets of the namespace as it was sent.
    pub(crate) may_accept: Region,
    /// May not come to any socket.
    pub(crate) dropped: Region,
    /// May not come to sockets of the namespace as it was sent.
    pub(crate) may_drop: Region,
    /// May come to sockets translated, or in another namespace.
    pub(crate) arrivals: Vec<Arrival>,
    /// May be sent on to where no namespace of this computer is, translated.
    pub(crate) gone: Vec<(Rc<State>, Region)>,
    /// Was sent on to another address or port, whatever became of it then.
    pub(crate) published: BTreeMap<Rc<Publication>, Region>,
    /// Who decided so, in the order in which packets meet them.
    pub(crate) decisions: Vec<Decision>,
    /// Too much of it to say anything; then all of it may be either.
    pub(crate) lost: bool,
}

/// Packets that come to the sockets of a namespace otherwise than straight.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) netns: usize,
    /// By which gate of it.
    pub(crate) gate: usize,
    /// The gate by which they left the first namespace.
    pub(crate) left: Option<usize>,
    pub(crate) state: Rc<State>,
    pub(crate) region: Region,
}

impl Judged {
    /// For packets that may have come either way.
    pub(crate) fn either(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.may_accept.add(other.may_accept.clone());
        sum.may_drop.add(other.may_drop.clone());
        sum.dropped.add(other.dropped.clone());
        sum.arrivals.extend_from_slice(&other.arrivals);
        sum.gone.extend_from_slice(&other.gone);
        sum.decisions.extend_from_slice(&other.decisions);
        sum.lost |= other.lost;
        sum
    }

    /// All that may not come to a socket, of what meets these; of each arrival it is told what that is.
    pub(crate) fn elsewhere(&self, these: &Region, of: impl Fn(&Arrival) -> Region) -> Region {
        let near = |region: &Region| {
            let meeting = region.0.iter().filter(|block| these.0.iter().any(|each| each.meets(block)));
            Region(meeting.cloned().collect())
        };
        let mut sum = near(&self.dropped);
        sum.add(near(&self.may_accept));
        for arrival in &self.arrivals {
            if !near(&arrival.region).is_empty() {
                sum.add(of(arrival));
            }
        }
        for (_, region) in &self.gone {
            sum.add(near(region));
        }
        sum
    }
}

/// One namespace on the way.
#[derive(Clone, Debug)]
struct Hop {
    netns: usize,
    /// `None`: sent by a program there.
    entry: Option<usize>,
    /// `None`: to a socket there.
    exit: Option<usize>,
    /// Sent by a program there to a socket there.
    own: bool,
    state: Rc<State>,
}

struct Journey<'a, 'w> {
    world: &'w World<'a>,
    question: Question,
    /// Everything to ports that somebody receives on; `None` where there are no ports.
    listened: Option<Block>,
    found: Judged,
}

pub(crate) fn judge(world: &World<'_>, netns: usize, gate: usize, question: Question) -> Judged {
    let all = Region(vec![to(question.family, question.family.all())]);
    let listened = world.listened(question.protocol).map(|ports| at(question.family, ports));
    let mut journey = Journey { world, question, listened, found: Judged::default() };
    let whole = match world.steered(netns) {
        true => all.clone(),
        false => journey.listened(all.clone()).0,
    };
    let start = Stream::one(Rc::new(State::new([None, None, None])), whole.clone());
    let Some(place) = &world.places[netns] else { return Judged { lost: true, ..Judged::default() } };
    if question.echoed {
        journey.own(netns, gate, start);
    } else if place.gates[gate].side == GateSide::Loopback {
        journey.outward(netns, gate, &whole);
    } else {
        journey.inward(&[], netns, gate, start);
    }
    let mut found = journey.found;
    found.lost |= found.may_accept.0.len() + found.may_drop.0.len() > MOST_BLOCKS;
    if found.lost {
        return Judged { may_accept: all.clone(), may_drop: all, lost: true, ..Judged::default() };
    }
    // What may come to others may not come to these.
    found.dropped = found.may_drop.clone();
    for arrival in &found.arrivals {
        found.may_drop.add(arrival.region.clone());
    }
    for (_, region) in &found.gone {
        found.may_drop.add(region.clone());
    }
    found
}

/// Tables whose hooks are not followed: of bridges, and at devices on the way out.
fn strange(rules: &Ruleset, bridged: bool) -> bool {
    rules.tables.iter().any(|table| {
        let based = || {
            table
                .chains
                .values()
                .any(|chain| chain.base.as_ref().is_some_and(|base| base.hook == Hook::Other))
        };
        let concerned =
            (bridged && table.family == TableFamily::Bridge) || table.family == TableFamily::Netdev;
        !table.dormant && concerned && based()
    })
}

impl<'a> Journey<'a, '_> {
    fn place(&self, netns: usize) -> Option<&'a Place> {
        self.world.places[netns].as_ref()
    }

    fn gate(&self, netns: usize, gate: usize) -> Option<&'a Gate> {
        self.place(netns)?.gates.get(gate)
    }

    fn exit(&self, netns: usize, gate: usize) -> Exit<'a> {
        self.gate(netns, gate).map_or(Exit::Untold, Exit::Gate)
    }

    /// Through one hook; what is dropped there is noted.
    fn pass(&mut self, netns: usize, station: Station<'a>, stream: Stream) -> Stream {
        let Some(place) = self.place(netns) else {
            self.found.lost = true;
            return stream;
        };
        let Some(rules) = &place.rules else {
            self.found.lost |= place.verdict == crate::model::Verdict::Unknown;
            return stream;
        };
        let bridged = station.entry.is_some_and(|gate| gate.bridge)
            || matches!(station.exit, Exit::Gate(gate) if gate.bridge);
        if stream.is_empty() || self.found.lost || strange(rules, bridged) {
            self.found.lost |= !stream.is_empty();
            return stream;
        }
        let sets = Rc::clone(&self.world.known_sets);
        let mut walk = Walk::new((netns, place, rules), self.question, station, sets);
        let (passed, dropped) = walk.hook(stream);
        self.found.lost |= walk.lost;
        self.found.decisions.append(&mut walk.decisions);
        self.found.may_drop.add(dropped);
        self.found.lost |= passed.blocks() + self.found.may_drop.0.len() > MOST_BLOCKS;
        passed
    }

    /// What is for a port that somebody receives on, and the rest.
    fn listened(&self, region: Region) -> (Region, Region) {
        match &self.listened {
            Some(listened) => (region.and(listened), region.minus_block(listened)),
            None => (region, Region::default()),
        }
    }

    /// Of packets that are as they were sent, and that nothing on their way translates any more, only
    /// those are followed that somebody may receive.
    fn received(&mut self, state: &State, region: Region) -> Region {
        let [_, destination, port] = &state.now;
        let plain = destination.is_none() && port.is_none() && state.proxy.is_none();
        if !plain || !state.published.is_empty() {
            return region;
        }
        let (received, rest) = self.listened(region);
        self.found.may_drop.add(rest);
        received
    }

    /// Packets that come in by a gate from outside of the namespace.
    fn inward(&mut self, hops: &[Hop], netns: usize, gate: usize, mut stream: Stream) {
        let entry = self.gate(netns, gate);
        for hook in [Hook::Ingress, Hook::Prerouting] {
            let station = Station { hook, packet: Packet::First, entry, exit: Exit::None, own: false };
            stream = self.pass(netns, station, stream);
        }
        let Some(place) = self.place(netns) else { return };
        let local = &place.local[self.question.family as usize];
        // At the first gate the senders tell who is turned away.
        let passing = entry.filter(|_| !hops.is_empty());
        let passing = passing.and_then(|gate| passing_back(place, gate, self.question.family));
        for (state, region) in stream.0 {
            let region = match &passing {
                Some(passing) => self.turned_away(&state, region, passing),
                None => region,
            };
            let region = match entry.filter(|_| !hops.is_empty()) {
                Some(gate) => self.without_loopback(&state, region, gate),
                None => region,
            };
            let state = self.published(netns, state, &region);
            match &state.now[Side::Destination as usize] {
                None => {
                    // Rules and transparent sockets may take what is for others.
                    let known = !place.untold(self.question.family) && state.proxy.is_none();
                    let sure = self.taken(place);
                    let came = entry.map_or(Entry::Untold, |gate| Entry::Gate(&gate.name));
                    let lookup = Lookup { entry: came, mark: state.mark, ..Lookup::OWN };
                    let may = sure.union(&place.delivered(self.question.family, &lookup));
                    let (sure, may) = (to(self.question.family, sure), to(self.question.family, may));
                    let (taken, passed) = match known {
                        true => (region.and(&may), region.minus_block(&sure)),
                        false => (region.clone(), region),
                    };
                    if hops.is_empty() {
                        self.forward(hops, netns, Some(gate), &state, &passed);
                    }
                    self.input(hops, netns, gate, false, &state, taken);
                }
                Some(to) if to.minus(local).is_empty() => {
                    self.input(hops, netns, gate, false, &state, region)
                }
                Some(to) if !to.meets(local) && !to.meets(&place.perhaps[self.question.family as usize]) => {
                    self.forward(hops, netns, Some(gate), &state, &region);
                }
                Some(_) => {
                    self.forward(hops, netns, Some(gate), &state, &region);
                    self.input(hops, netns, gate, false, &state, region);
                }
            }
        }
    }

    /// What the reverse path filter of a further namespace leaves.
    fn turned_away(&mut self, state: &State, region: Region, passing: &Passing) -> Region {
        let family = self.question.family;
        let kept = match &state.now[Side::Source as usize] {
            None => region.and(&from(family, passing.may.clone())),
            Some(set) if set.meets(&passing.may) => region.clone(),
            Some(_) => Region::default(),
        };
        let sure = match &state.now[Side::Source as usize] {
            None => kept.and(&from(family, passing.sure.clone())),
            Some(set) if set.minus(&passing.sure).is_empty() => kept.clone(),
            Some(_) => Region::default(),
        };
        self.found.may_drop.add(region.minus(&sure));
        kept
    }

    /// What is left of packets from other namespaces without those from 127.0.0.0/8, which come in
    /// only where the interface allows it (`ip_route_input_slow`).
    fn without_loopback(&mut self, state: &State, region: Region, gate: &Gate) -> Region {
        if self.question.family == Family::V6 || gate.localnet == Some(true) {
            return region;
        }
        let loopback = &Classes::of(Family::V4).loopback;
        let (doubtful, left) = match &state.now[Side::Source as usize] {
            None => {
                let block = from(Family::V4, loopback.clone());
                (region.and(&block), region.clone().minus_block(&block))
            }
            Some(set) if !set.meets(loopback) => return region,
            Some(set) if set.minus(loopback).is_empty() => (region.clone(), Region::default()),
            Some(_) => (region.clone(), region.clone()),
        };
        self.found.may_drop.add(doubtful);
        if gate.localnet == Some(false) { left } else { region }
    }

    /// Notes that packets are sent on to another place than they came for.
    fn published(&mut self, netns: usize, state: Rc<State>, region: &Region) -> Rc<State> {
        let Some(publication) = state.publication(netns) else { return state };
        let publication = Rc::new(publication);
        self.found.published.entry(Rc::clone(&publication)).or_default().add(region.clone());
        let mut state = State::clone(&state);
        state.published.push(publication);
        Rc::new(state)
    }

    /// Destinations that are delivered in a namespace: its own, and those of many.
    fn taken(&self, place: &Place) -> Ranges {
        let family = self.question.family;
        let classes = Classes::of(family);
        [&classes.multicast, &classes.broadcast, &classes.unspecified, &place.broadcast[family as usize]]
            .into_iter()
            .fold(place.local[family as usize].clone(), |sum, set| sum.union(set))
    }

    /// What a program here sends on a network and gets back from there, or to itself: all hooks of the
    /// way out, then those of the way in.
    fn own(&mut self, netns: usize, gate: usize, stream: Stream) {
        let stream = self.stations(netns, Packet::First, &OUT, gate, stream);
        self.back(netns, gate, stream);
    }

    /// Through hooks of the namespace's own packets.
    fn stations(
        &mut self,
        netns: usize,
        packet: Packet,
        hooks: &[Hook],
        gate: usize,
        mut stream: Stream,
    ) -> Stream {
        for hook in hooks {
            let out = OUT.contains(hook);
            let entry = self.gate(netns, gate).filter(|_| !out);
            let exit = if out { self.exit(netns, gate) } else { Exit::None };
            stream = self.pass(netns, Station { hook: *hook, packet, entry, exit, own: true }, stream);
        }
        stream
    }

    /// Own packets that come back in.
    fn back(&mut self, netns: usize, gate: usize, stream: Stream) {
        let stream = self.stations(netns, Packet::First, &[Hook::Ingress, Hook::Prerouting], gate, stream);
        for (state, region) in stream.0 {
            self.input(&[], netns, gate, true, &state, region);
        }
    }

    /// Packets of this computer's own programs, to any address: what is for here comes back by
    /// loopback; the rest matters only where rules translate it.
    fn outward(&mut self, netns: usize, gate: usize, all: &Region) {
        let Some(place) = self.place(netns) else { return };
        let family = self.question.family;
        let classes = Classes::of(family);
        let local = &place.local[family as usize];
        let many = classes.multicast.union(&classes.broadcast).union(&place.broadcast[family as usize]);
        let fresh = || Rc::new(State::new([None, None, None]));
        let perhaps = to(family, local.union(&many).union(&place.perhaps[family as usize]));
        let mut parts = vec![(self.exit(netns, gate), all.and(&perhaps))];
        let mut told = local.union(&many);
        for cable in self.world.cables(netns) {
            let Some(inner) = self.place(cable.netns) else { continue };
            let behind = behind(place, inner, cable.gate, &Lookup::OWN, family).0.minus(&told);
            told = told.union(&behind);
            parts.push((self.exit(netns, cable.gate), all.and(&to(family, behind))));
        }
        let here = to(family, told);
        if place.steers() {
            parts.push((Exit::Untold, all.clone().minus_block(&here)));
        }
        for (exit, region) in parts {
            let station = Station { hook: Hook::Output, packet: Packet::First, entry: None, exit, own: true };
            let passed = self.pass(netns, station, Stream::one(fresh(), region));
            for (state, region) in passed.0 {
                let state = self.published(netns, state, &region);
                let loopback = matches!(exit, Exit::Gate(exit) if exit.side == GateSide::Loopback);
                let lookup = Lookup { mark: state.mark, ..Lookup::OWN };
                let home = local.union(&place.delivered(family, &lookup));
                let (stays, goes, region) = match &state.now[Side::Destination as usize] {
                    None if loopback => (true, false, region.and(&to(family, home.union(&many)))),
                    None => (false, true, region),
                    Some(to) => (to.meets(&home), !to.minus(local).is_empty(), region),
                };
                if goes {
                    self.forward(&[], netns, None, &state, &region);
                }
                if stays {
                    let stream = Stream::one(state, region);
                    let stream = self.stations(netns, Packet::First, &[Hook::Postrouting], gate, stream);
                    self.back(netns, gate, stream);
                }
            }
        }
    }

    /// To the sockets of a namespace.
    fn input(
        &mut self,
        hops: &[Hop],
        netns: usize,
        gate: usize,
        own: bool,
        state: &Rc<State>,
        region: Region,
    ) {
        let station = Station {
            hook: Hook::Input,
            packet: Packet::First,
            entry: self.gate(netns, gate),
            exit: Exit::None,
            own,
        };
        let region = self.received(state, region);
        let passed = self.pass(netns, station, Stream::one(Rc::clone(state), region));
        for (state, region) in passed.0 {
            let mut way = hops.to_vec();
            way.push(Hop { netns, entry: Some(gate), exit: None, own, state: Rc::clone(&state) });
            let region = if self.question.answered { self.answered(&way, region) } else { region };
            let [_, destination, port] = &state.now;
            let straight = hops.is_empty() && destination.is_none() && port.is_none();
            if straight {
                self.found.may_accept.add(region.clone());
            }
            if !straight || state.proxy.is_some() {
                let left = hops.first().and_then(|hop| hop.exit);
                self.found.arrivals.push(Arrival { netns, gate, left, state, region });
            }
        }
    }

    /// Out of a namespace, to where the destination is; `entry` is `None` for its own programs.
    fn forward(
        &mut self,
        hops: &[Hop],
        netns: usize,
        entry: Option<usize>,
        state: &Rc<State>,
        region: &Region,
    ) {
        let Some(place) = self.place(netns) else { return };
        let family = self.question.family;
        let target = &state.now[Side::Destination as usize];
        if entry.is_some() && !place.forwards[family as usize] {
            if target.is_some() {
                self.found.may_drop.add(region.clone());
            }
            return;
        }
        let mut told = Ranges::default();
        for cable in self.world.cables(netns) {
            let Some(inner) = self.place(cable.netns) else { continue };
            let came = entry.and_then(|gate| place.gates.get(gate));
            let came = came.map_or(Entry::Own, |gate| Entry::Gate(&gate.name));
            let lookup = Lookup { entry: came, mark: state.mark, ..Lookup::OWN };
            let (reachable, sure) = behind(place, inner, cable.gate, &lookup, family);
            let part = match target {
                None => region.and(&to(family, reachable.clone())),
                Some(to) if to.meets(&reachable) => region.clone(),
                Some(_) => continue,
            };
            told = told.union(&reachable);
            let part = match self.world.steered(cable.netns) {
                true => part,
                false => self.received(state, part),
            };
            if part.is_empty() {
                continue;
            }
            // Which way it takes is not known for sure.
            let unsure = match target {
                _ if hops.len() >= MOST_HOPS => part.clone(),
                None => part.clone().minus_block(&to(family, sure)),
                Some(to) if to.minus(&sure).is_empty() => Region::default(),
                Some(_) => part.clone(),
            };
            self.found.may_drop.add(unsure);
            if hops.len() >= MOST_HOPS {
                self.found.lost = true;
                return;
            }
            let passed = self.leave(netns, entry, self.exit(netns, cable.gate), state, part);
            for (state, region) in passed.0 {
                let mut way = hops.to_vec();
                let next = Rc::new(state.next());
                way.push(Hop { netns, entry, exit: Some(cable.gate), own: false, state });
                self.inward(&way, cable.netns, cable.far, Stream::one(next, region));
            }
        }
        // To other computers: only what was translated is of interest.
        if let Some(to) = target
            && !to.minus(&told).is_empty()
        {
            let exits = place.gates.iter().filter(|gate| {
                let came = entry.and_then(|gate| place.gates.get(gate));
                let came = came.map_or(Entry::Own, |gate| Entry::Gate(&gate.name));
                let lookup = Lookup { entry: came, mark: state.mark, ..Lookup::OWN };
                let routed = place.leaving(family, gate, &lookup);
                to.minus(&told).minus(&routed).is_empty()
            });
            let exit = exits.map(Exit::Gate).next().unwrap_or(Exit::Untold);
            let passed = self.leave(netns, entry, exit, state, region.clone());
            self.found.gone.extend(passed.0);
        }
    }

    fn leave(
        &mut self,
        netns: usize,
        entry: Option<usize>,
        exit: Exit<'a>,
        state: &Rc<State>,
        region: Region,
    ) -> Stream {
        let mut stream = Stream::one(Rc::clone(state), region);
        let came = entry.and_then(|gate| self.gate(netns, gate));
        if came.is_some() {
            let station =
                Station { hook: Hook::Forward, packet: Packet::First, entry: came, exit, own: false };
            stream = self.pass(netns, station, stream);
        }
        let station =
            Station { hook: Hook::Postrouting, packet: Packet::First, entry: None, exit, own: false };
        self.pass(netns, station, stream)
    }

    /// Who of these has an answer, and the connection with its third packet.
    fn answered(&mut self, way: &[Hop], mut region: Region) -> Region {
        for hop in way.iter().rev() {
            region = self.answer(hop, region);
        }
        for hop in way {
            region = self.third(hop, region);
        }
        region
    }

    fn answer(&mut self, hop: &Hop, region: Region) -> Region {
        use Hook::{Forward, Ingress, Input, Postrouting, Prerouting};
        let netns = hop.netns;
        let state = |mark| {
            let mut state = State::clone(&hop.state);
            state.mark = mark;
            // What is not tracked one way may be the other.
            if state.tracked == Tracked::No {
                state.tracked = Tracked::Untold;
            }
            Rc::new(state)
        };
        let packet = Packet::Answer;
        match (hop.entry, hop.exit) {
            (Some(gate), None) if hop.own => {
                let stream = self.stations(netns, packet, &OUT, gate, Stream::one(state(None), region));
                self.stations(netns, packet, &[Ingress, Prerouting, Input], gate, stream).region()
            }
            // A socket may mark what it sends (SO_MARK).
            (_, None) => self.split_by_exit(hop, None, &[Hook::Output, Postrouting], state(None), region),
            (Some(_), Some(exit)) => {
                let far = self.gate(netns, exit);
                let mut stream = Stream::one(state(Some(0)), region);
                for hook in [Ingress, Prerouting] {
                    let station = Station { hook, packet, entry: far, exit: Exit::None, own: false };
                    stream = self.pass(netns, station, stream);
                }
                let mut left = Region::default();
                for (state, region) in stream.0 {
                    left.add(self.split_by_exit(hop, far, &[Forward, Postrouting], state, region));
                }
                left
            }
            (None, Some(exit)) => {
                let far = self.gate(netns, exit);
                let mut stream = Stream::one(state(Some(0)), region);
                for hook in [Ingress, Prerouting, Input] {
                    let station = Station { hook, packet, entry: far, exit: Exit::None, own: false };
                    stream = self.pass(netns, station, stream);
                }
                stream.region()
            }
        }
    }

    /// Through hooks on the way out, by the gates that routes name for those that are answered.
    fn split_by_exit(
        &mut self,
        hop: &Hop,
        entry: Option<&'a Gate>,
        hooks: &[Hook],
        state: Rc<State>,
        region: Region,
    ) -> Region {
        let Some(place) = self.place(hop.netns) else { return region };
        let family = self.question.family;
        let asked = place.rules.as_ref().is_some_and(|rules| rules.asks_exit);
        match (&hop.state.now[Side::Destination as usize], &place.choice[family as usize]) {
            // The address that answers decides which rules are for the answer.
            (None, Choice::Rules(policy)) if asked => {
                let mut left = Region::default();
                let mut rest = region;
                for part in policy.parts(&place.local[family as usize]) {
                    let block = to(family, part.clone());
                    left.add(self.by_exits(hop, (entry, Some(&part)), hooks, &state, rest.and(&block)));
                    rest = rest.minus_block(&block);
                }
                left.add(self.by_exits(hop, (entry, None), hooks, &state, rest));
                left
            }
            (answering, _) => self.by_exits(hop, (entry, answering.as_ref()), hooks, &state, region),
        }
    }

    /// The same for answers that come in by some gate, or none, from some addresses.
    fn by_exits(
        &mut self,
        hop: &Hop,
        (entry, answering): (Option<&'a Gate>, Option<&Ranges>),
        hooks: &[Hook],
        state: &Rc<State>,
        region: Region,
    ) -> Region {
        let Some(place) = self.place(hop.netns) else { return region };
        let packet = Packet::Answer;
        let mut left = Region::default();
        let mut rest = region;
        let mut parts: Vec<(Exit<'a>, Region)> = Vec::new();
        let asked = place.rules.as_ref().is_some_and(|rules| rules.asks_exit);
        let to_whom = &hop.state.came[Side::Source as usize];
        // A link-local address is answered where it came in.
        let link = &Classes::of(Family::V6).link;
        if let (Family::V6, None, Some(gate)) = (self.question.family, to_whom, hop.entry) {
            let near = from(Family::V6, link.clone());
            parts.push((self.exit(hop.netns, gate), rest.and(&near)));
            rest = rest.minus_block(&near);
        }
        for gate in place.gates.iter().filter(|_| asked) {
            let by = entry.map_or(Entry::Own, |gate| Entry::Gate(&gate.name));
            let lookup = Lookup { from: answering, entry: by, ..Lookup::OWN };
            let routed = place.leaving(self.question.family, gate, &lookup);
            match to_whom {
                None => {
                    let block = from(self.question.family, routed);
                    parts.push((Exit::Gate(gate), rest.and(&block)));
                    rest = rest.minus_block(&block);
                }
                Some(set) if set.minus(&routed).is_empty() => {
                    parts.push((Exit::Gate(gate), std::mem::take(&mut rest)));
                }
                Some(_) => {}
            }
        }
        parts.push((Exit::Untold, rest));
        for (exit, region) in parts {
            let mut stream = Stream::one(Rc::clone(state), region);
            for hook in hooks {
                let entry = entry.filter(|_| *hook == Hook::Forward);
                stream =
                    self.pass(hop.netns, Station { hook: *hook, packet, entry, exit, own: false }, stream);
            }
            left.add(stream.region());
        }
        left
    }

    fn third(&mut self, hop: &Hop, region: Region) -> Region {
        use Hook::{Forward, Ingress, Input, Output, Postrouting, Prerouting};
        let (netns, packet) = (hop.netns, Packet::Third);
        let mut state = State::clone(&hop.state);
        state.mark = Some(0);
        let mut stream = Stream::one(Rc::new(state), region);
        if let (true, Some(gate)) = (hop.own, hop.entry) {
            let stream = self.stations(netns, packet, &OUT, gate, stream);
            return self.stations(netns, packet, &[Ingress, Prerouting, Input], gate, stream).region();
        }
        let came = hop.entry.and_then(|gate| self.gate(netns, gate));
        let goes = hop.exit.map_or(Exit::None, |gate| self.exit(netns, gate));
        let hooks: &[Hook] = match (hop.entry, hop.exit) {
            (_, None) => &[Ingress, Prerouting, Input],
            (Some(_), Some(_)) => &[Ingress, Prerouting, Forward, Postrouting],
            (None, Some(_)) => &[Output, Postrouting],
        };
        for hook in hooks {
            let entry = came.filter(|_| matches!(hook, Ingress | Prerouting | Input | Forward));
            let exit = if matches!(hook, Forward | Output | Postrouting) { goes } else { Exit::None };
            stream = self.pass(netns, Station { hook: *hook, packet, entry, exit, own: false }, stream);
        }
        stream.region()
    }
}

/// The hooks of what a program sends.
const OUT: [Hook; 2] = [Hook::Output, Hook::Postrouting];

/// Everything to these addresses.
fn to(family: Family, destinations: Ranges) -> Block {
    Block([family.all(), destinations, Ranges::new(vec![(0, u16::MAX.into())])])
}

/// Everything to these ports.
fn at(family: Family, ports: Ranges) -> Block {
    Block([family.all(), family.all(), ports])
}

/// Everything from these addresses.
fn from(family: Family, sources: Ranges) -> Block {
    Block([sources, family.all(), Ranges::new(vec![(0, u16::MAX.into())])])
}

/// The addresses of `inner` that `place` sends out by a gate of its own: those that may be, and those
/// that surely are.
fn behind(
    place: &Place,
    inner: &Place,
    gate: usize,
    lookup: &Lookup<'_>,
    family: Family,
) -> (Ranges, Ranges) {
    let classes = Classes::of(family);
    let theirs = inner.local[family as usize].minus(&classes.loopback).minus(&classes.link);
    let theirs = theirs.minus(&classes.multicast).minus(&place.local[family as usize]);
    match place.gates.get(gate) {
        Some(gate) if place.chooses(family) => {
            let sure = theirs.and(&place.surely(family, gate, lookup));
            (theirs, sure)
        }
        Some(gate) => {
            let routed = theirs.and(&place.routed(family, gate.index));
            (routed.clone(), routed)
        }
        None => (Ranges::default(), Ranges::default()),
    }
}
