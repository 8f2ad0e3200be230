//! Packets that come to a socket otherwise than straight: translated, or passed on through another
//! namespace.

use super::evaluate::Now;
use super::journey::{Arrival, Judged};
use super::place::{Gate, Place, Port, Side as GateSide};
use super::policy::{Entry, Lookup};
use super::region::{Block, Region, Side};
use super::reverse::passing;
use super::ways::{Bind, Bound, MOST_PIECES, Ports, Transport, Way, because, reach, senders};
use crate::model::Verdict;
use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges, number};

/// A socket, and the namespace that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) netns: usize,
    pub(crate) place: &'a Place,
    pub(crate) bind: &'a Bind,
    pub(crate) port: Option<u16>,
}

/// Where packets came into this computer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'a> {
    pub(crate) netns: usize,
    pub(crate) place: &'a Place,
    pub(crate) gate: usize,
    pub(crate) family: Family,
}

/// Whether something is so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Sure {
    No,
    Maybe,
    Yes,
}

/// Every way by which packets of `judged` come to a socket so. `told` is what other ways say of that
/// door, and is not said twice; it grows.
pub(crate) fn arrived(door: &Door<'_>, judged: &Judged, target: &Target<'_>, told: &mut Region) -> Vec<Way> {
    let here = judged.arrivals.iter().filter(|arrival| arrival.netns == target.netns);
    come(door, judged, here.map(|arrival| (arrival, target)), told)
}

/// The same for the sockets that stand beside the arrivals: whoever takes it, it came to one of them.
pub(crate) fn come<'j>(
    door: &Door<'_>,
    judged: &'j Judged,
    arrivals: impl Iterator<Item = (&'j Arrival, &'j Target<'j>)>,
    told: &mut Region,
) -> Vec<Way> {
    let reaching: Vec<(&Arrival, &Target<'_>, Sure)> = arrivals
        .map(|(arrival, target)| (arrival, target, reaches(arrival, target, door.family)))
        .filter(|(_, _, sure)| *sure != Sure::No)
        .collect();
    if reaching.is_empty() {
        return Vec::new();
    }
    // Of what arrives, all that may be for somebody else.
    let mut these = Region::default();
    for (arrival, target, _) in &reaching {
        these.add(limited(door, arrival, target));
    }
    let elsewhere = judged.elsewhere(&these, |arrival| {
        let surely =
            reaching.iter().filter(|(other, _, sure)| std::ptr::eq(*other, arrival) && *sure == Sure::Yes);
        surely
            .fold(arrival.region.clone(), |left, (_, target, _)| left.minus(&limited(door, arrival, target)))
    });
    let mut found = Vec::new();
    for (arrival, target, sure) in &reaching {
        let region = limited(door, arrival, target).minus(told).disjoint();
        if region.0.len() > MOST_PIECES {
            // So many pieces tell nobody anything: then all of it is in doubt.
            for block in outline(&region).0 {
                told.add(Region(vec![block.clone()]));
                found.push(way(door, judged, block, Verdict::Unknown));
            }
            continue;
        }
        told.add(region.clone());
        let doubt = *sure != Sure::Yes || doubtful(door, target);
        let certain = match doubt {
            true => Region::default(),
            false => region.minus(&elsewhere).minus(&unsure(door, arrival, target)).disjoint(),
        };
        let unknown = region.minus(&certain).disjoint();
        found.extend(certain.0.into_iter().map(|block| way(door, judged, block, Verdict::Accept)));
        found.extend(unknown.0.into_iter().map(|block| way(door, judged, block, Verdict::Unknown)));
    }
    found
}

/// Whether what arrives so may be for that socket.
pub(crate) fn takes(arrival: &Arrival, target: &Target<'_>, family: Family) -> bool {
    reaches(arrival, target, family) != Sure::No
}

/// What anybody can send by a door to one receiver.
pub(crate) fn sendable(door: &Door<'_>, transport: Transport) -> Block {
    let own = door.place.gates[door.gate].side == GateSide::Loopback;
    let sources = match own {
        true => door.place.local[door.family as usize].minus(&Classes::of(door.family).martian),
        false => senders(door.place, &door.place.gates[door.gate], transport, door.family),
    };
    let destinations = door.family.all().minus(&Classes::of(door.family).unspecified).minus(&many(door));
    Block([sources, destinations, Ranges::new(vec![(0, u16::MAX.into())])])
}

/// What was sent on to other computers: whether anybody takes it there nobody can tell here.
pub(crate) fn went(
    door: &Door<'_>,
    judged: &Judged,
    region: &Region,
    transport: Transport,
    told: &mut Region,
) -> Vec<Way> {
    let region = region.and(&sendable(door, transport)).minus(told).disjoint();
    told.add(region.clone());
    let passed = |block: Block| {
        let because = because(judged, &block, false);
        Way { because, ..way(door, judged, block, Verdict::Unknown) }
    };
    region.0.into_iter().map(passed).collect()
}

/// One block around all.
fn outline(region: &Region) -> Region {
    let mut all = region.0.iter().cloned();
    let Some(mut sum) = all.next() else { return Region::default() };
    for block in all {
        for (side, more) in sum.0.iter_mut().zip(&block.0) {
            *side = side.union(more);
        }
    }
    Region(vec![sum])
}

/// Nobody can tell whether the socket takes anything of that family and gate.
fn doubtful(door: &Door<'_>, target: &Target<'_>) -> bool {
    target.bind.maybe_device || (door.family == Family::V4 && target.bind.maybe_v4)
}

/// A way that may be one.
pub(crate) fn unknown(door: &Door<'_>, block: Block) -> Way {
    way(door, &Judged::default(), block, Verdict::Unknown)
}

fn way(door: &Door<'_>, judged: &Judged, block: Block, verdict: Verdict) -> Way {
    let because = because(judged, &block, verdict == Verdict::Unknown);
    let Block([sources, destinations, ports]) = block;
    let ports = Ports::These(ports);
    let reach = reach(door.place, &door.place.gates[door.gate], door.family, &destinations, &ports, &sources);
    Way { gate: door.gate, family: door.family, destinations, ports, sources, verdict, reach, because }
}

/// What stands in place of an address or port, against the one that a socket has.
fn is(now: &Now, wanted: u128) -> Sure {
    match now {
        // As the sender writes it: who writes so.
        None => Sure::Yes,
        Some(set) if set.only() == Some(wanted) => Sure::Yes,
        Some(set) if set.meets(&Ranges::new(vec![(wanted, wanted)])) => Sure::Maybe,
        Some(_) => Sure::No,
    }
}

/// Source, destination and port for which a socket is looked up.
fn sides(arrival: &Arrival) -> [&Now; 3] {
    let [source, mut destination, mut port] = arrival.state.now.each_ref();
    if let Some([address, other]) = &arrival.state.proxy {
        destination = if address.is_some() { address } else { destination };
        port = if other.is_some() { other } else { port };
    }
    [source, destination, port]
}

/// Whether what arrives so is for that socket, as far as it is not as the sender wrote it.
fn reaches(arrival: &Arrival, target: &Target<'_>, family: Family) -> Sure {
    let (bind, place) = (target.bind, target.place);
    let Some(bound) = bind.bound[family as usize] else { return Sure::No };
    let Some(gate) = place.gates.get(arrival.gate) else { return Sure::No };
    let device = bind.device;
    if device != 0 && device != gate.index && Some(device) != gate.master {
        return Sure::No;
    }
    let [source, destination, port] = sides(arrival);
    // Whether a socket is a transparent one nobody tells.
    let mut sure = if arrival.state.proxy.is_some() { Sure::Maybe } else { Sure::Yes };
    if let Bound::One(address) = bound {
        sure = sure.min(is(destination, number(address)));
    }
    if let Some(own) = target.port {
        sure = sure.min(is(port, own.into()));
    }
    sure.min(delivered(destination, place, gate, family)).min(answerable(source, target, family))
}

/// Whether the namespace takes such a destination by such a gate.
fn delivered(destination: &Now, place: &Place, gate: &Gate, family: Family) -> Sure {
    let classes = Classes::of(family);
    match destination {
        Some(set) if gate.side != GateSide::Loopback && set.minus(&classes.loopback).is_empty() => {
            match family {
                // A martian destination, unless the interface allows it.
                Family::V4 => match gate.localnet {
                    Some(true) => Sure::Yes,
                    Some(false) => Sure::No,
                    None => Sure::Maybe,
                },
                Family::V6 => Sure::Maybe,
            }
        }
        Some(set) if set.minus(&place.local[family as usize]).is_empty() => Sure::Yes,
        Some(set) if set.meets(&place.local[family as usize]) => Sure::Maybe,
        Some(set) if set.meets(&place.perhaps[family as usize]) => Sure::Maybe,
        Some(_) => Sure::No,
        None => Sure::Yes,
    }
}

/// Whether a source that took the sender's place gets in, and its answer back.
fn answerable(source: &Now, target: &Target<'_>, family: Family) -> Sure {
    let Some(set) = source else { return Sure::Yes };
    let place = target.place;
    let stream = target.bind.transport == Transport::Stream;
    let routed = &place.answerable[family as usize];
    match stream {
        true if !set.meets(routed) => Sure::No,
        true if !set.minus(routed).is_empty() => Sure::Maybe,
        true | false => Sure::Yes,
    }
}

/// What hangs on settings that are not known, or on the one who sends.
fn unsure(door: &Door<'_>, arrival: &Arrival, target: &Target<'_>) -> Region {
    let family = door.family;
    let ports = Ranges::new(vec![(0, u16::MAX.into())]);
    let sources = match door.place.gates[door.gate].side {
        _ if door.netns == target.netns => Ranges::default(),
        GateSide::Loopback if family == Family::V4 && leaves(door, arrival) == Some(true) => {
            Ranges::default()
        }
        GateSide::Loopback => Classes::of(family).loopback.clone(),
        GateSide::Nobody | GateSide::Inside | GateSide::Overlay | GateSide::Outside => {
            match comes_back(door, arrival, target) {
                Some(true) => Ranges::default(),
                Some(false) | None => {
                    target.place.local[family as usize].minus(&Classes::of(family).loopback)
                }
            }
        }
    };
    let mut found = Region::one([sources, family.all(), ports.clone()]);
    for sources in [
        unanswered(arrival, target, family),
        astray(door, arrival, target),
        passing(door.place, &door.place.gates[door.gate], family)
            .map_or_else(Ranges::default, |passing| passing.may.minus(&passing.sure)),
    ] {
        found.add(Region::one([sources, family.all(), ports.clone()]));
    }
    found.add(Region::one([family.all(), target.place.perhaps[family as usize].clone(), ports.clone()]));
    let casts = many(door).minus(&cast(door, arrival, target));
    found.add(Region::one([family.all(), casts, ports]));
    found
}

/// Senders whose answer may take another way than they came by, since rules choose between routing
/// tables.
fn astray(door: &Door<'_>, arrival: &Arrival, target: &Target<'_>) -> Ranges {
    let (family, all) = (door.family, door.family.all());
    let Some(gate) = target.place.gates.get(arrival.gate) else { return all };
    if target.bind.transport != Transport::Stream {
        return Ranges::default();
    }
    let [source, destination, _] = sides(arrival);
    let own = Lookup { from: destination.as_ref(), ..Lookup::OWN };
    let mut found = match gate.side {
        GateSide::Loopback => Ranges::default(),
        GateSide::Nobody | GateSide::Inside | GateSide::Overlay | GateSide::Outside => {
            let sure = target.place.surely(family, gate, &own);
            match source {
                None => all.minus(&sure),
                Some(set) if set.minus(&sure).is_empty() => Ranges::default(),
                Some(_) => all.clone(),
            }
        }
    };
    let near = &door.place.gates[door.gate];
    if door.netns != target.netns && near.side != GateSide::Loopback {
        let left = arrival.left.and_then(|gate| door.place.gates.get(gate));
        let entry = left.map_or(Entry::Untold, |gate| Entry::Gate(&gate.name));
        let sure = door.place.surely(family, near, &Lookup { entry, ..Lookup::OWN });
        found = found.union(&all.minus(&sure));
    }
    found
}

/// Senders whose answer from a loopback address may be lost: by another interface than the one that
/// they came in by it may not leave (`__mkroute_output`).
fn unanswered(arrival: &Arrival, target: &Target<'_>, family: Family) -> Ranges {
    let loopback = &Classes::of(family).loopback;
    let [source, destination, _] = sides(arrival);
    let Some(gate) = target.place.gates.get(arrival.gate) else { return family.all() };
    let asked = destination.as_ref().is_some_and(|set| set.meets(loopback));
    if !asked || target.bind.transport != Transport::Stream || gate.side == GateSide::Loopback {
        return Ranges::default();
    }
    let routed = target.place.routed(family, gate.index);
    match source {
        None => family.all().minus(&routed),
        Some(set) if set.minus(&routed).is_empty() => Ranges::default(),
        Some(_) => family.all(),
    }
}

/// Whether a loopback address may leave by the interface that it left by (`__mkroute_output`).
fn leaves(door: &Door<'_>, arrival: &Arrival) -> Option<bool> {
    door.place.gates.get(arrival.left?)?.localnet
}

/// Whether what the socket's own namespace sends comes back to it by the same cable. Without a bridge
/// nothing minds. A bridge whose traffic the packet filter sees translates before it decides by which
/// port a frame leaves (`br_nf_pre_routing_finish`), and sends nothing back by the port that it came
/// by (`should_deliver`) but in hairpin mode; otherwise the packet is routed, and comes out of the
/// bridge's own interface.
fn comes_back(door: &Door<'_>, arrival: &Arrival, target: &Target<'_>) -> Option<bool> {
    let gate = &door.place.gates[door.gate];
    if gate.veth {
        return Some(true);
    }
    let filtered = gate.bridge_filter[door.family as usize].filter(|_| gate.bridge);
    let far = target.place.gates.get(arrival.gate)?;
    let plugged =
        |port: &&Port| port.master == gate.index && far.link == Some(port.index) && port.link == far.index;
    let hairpin = door.place.ports.iter().find(plugged).and_then(|port| port.hairpin);
    match (filtered, hairpin) {
        (Some(false), _) | (Some(true), Some(true)) => Some(true),
        (Some(true), Some(false)) => Some(false),
        (None, _) | (_, None) => None,
    }
}

/// Destinations of many of which it is known who takes them once they are translated to one address
/// of the namespace itself: groups that nobody joined may not even come in, and frames to many may
/// not carry a packet to one (`ip_rcv_finish_core`; of IPv6 that is asked before it is translated).
fn cast(door: &Door<'_>, arrival: &Arrival, target: &Target<'_>) -> Ranges {
    let gate = &door.place.gates[door.gate];
    let here = door.netns == target.netns && arrival.gate == door.gate;
    let translated = arrival.state.now[Side::Destination as usize].is_some();
    let dropped = match door.family {
        Family::V4 => gate.casts_dropped,
        Family::V6 => Some(false),
    };
    if !here || !translated || dropped != Some(false) {
        return Ranges::default();
    }
    let classes = Classes::of(door.family);
    let joined = gate.groups[door.family as usize].minus(&classes.interface_multicast);
    joined.union(&classes.broadcast).union(&door.place.broadcast[door.family as usize])
}

/// Destinations that are of many.
fn many(door: &Door<'_>) -> Ranges {
    let classes = Classes::of(door.family);
    classes.multicast.union(&classes.broadcast).union(&door.place.broadcast[door.family as usize])
}

/// The packets of an arrival that anybody can send and the socket takes.
fn limited(door: &Door<'_>, arrival: &Arrival, target: &Target<'_>) -> Region {
    let (bind, family) = (target.bind, door.family);
    let index = family as usize;
    let classes = Classes::of(family);
    let own = door.place.gates[door.gate].side == GateSide::Loopback;
    let mut sources = match own {
        true => door.place.local[index].clone(),
        false => senders(door.place, &door.place.gates[door.gate], bind.transport, family),
    };
    let [source, destination, port] = sides(arrival);
    let far = target.place.gates.get(arrival.gate).is_none_or(|gate| gate.side != GateSide::Loopback);
    // Nothing leaves by another interface from a loopback address of IPv4 (`__mkroute_output`); from
    // one of IPv6 it does once that is translated, but no answer finds back.
    let lonely = family == Family::V4 || source.is_none() || bind.transport == Transport::Stream;
    if own && far && lonely && (family == Family::V6 || leaves(door, arrival) == Some(false)) {
        sources = sources.minus(&classes.martian);
    }
    // No router passes these on (`ip6_forward`).
    if family == Family::V6 && door.netns != target.netns {
        sources = sources.minus(&classes.link);
    }
    // By another cable nobody answers in the name of the namespace.
    let alone = || door.place.gates[door.gate].ports < 2;
    if door.netns != target.netns
        && (bind.transport == Transport::Stream || alone())
        && comes_back(door, arrival, target) == Some(false)
    {
        sources = sources.minus(&target.place.local[index]);
    }
    if source.is_none() {
        if bind.transport == Transport::Stream {
            sources = sources.and(&target.place.answerable[index].union(&target.place.local[index]));
        }
        // Nobody is answered at an address of one's own, and IPv4 takes nothing from there.
        if !own && (family == Family::V4 || bind.transport == Transport::Stream) {
            sources = sources.minus(&target.place.local[index]);
        }
    }
    let mut destinations = family.all().minus(&classes.unspecified);
    if matches!(bind.transport, Transport::Stream | Transport::Ping) {
        destinations = destinations.minus(&many(door));
    }
    if destination.is_none() {
        destinations = destinations.and(&target.place.local[index].union(&target.place.perhaps[index]));
        if let Some(Bound::One(address)) = bind.bound[index] {
            destinations = destinations.and(&family.one(address));
        }
    }
    if !own && family == Family::V6 {
        destinations = destinations.minus(&classes.loopback);
    }
    let ports = match (port, target.port) {
        (None, Some(own)) => Ranges::new(vec![(own.into(), own.into())]),
        (Some(_), _) | (None, None) => Ranges::new(vec![(0, u16::MAX.into())]),
    };
    arrival.region.and(&Block([sources, destinations, ports]))
}

/// Everything that a way says.
pub(crate) fn said(way: &Way, port: Option<u16>) -> Region {
    let all = Ranges::new(vec![(0, u16::MAX.into())]);
    let own = port.map(|port| Ranges::new(vec![(port.into(), port.into())]));
    let ports = match (&way.ports, own) {
        (Ports::These(ports), _) => ports.clone(),
        (Ports::Own, Some(own)) => own,
        (Ports::Others, Some(own)) => all.minus(&own),
        (Ports::Own | Ports::Others, None) | (Ports::All, _) => all,
    };
    Region::one([way.sources.clone(), way.destinations.clone(), ports])
}
