//! All network namespaces together, and the virtual cables between them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::evaluate::KnownSets;
use super::place::Place;
use crate::model::AddrRange;
use crate::model::ranges::{Family, Ranges};

/// Per family.
type KnownLists = [BTreeMap<Ranges, Arc<[AddrRange]>>; 2];

/// All namespaces, and what joins them.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) places: &'a [Option<Place>],
    /// Of each namespace, the cables that lead out of it.
    cables: Vec<Vec<Cable>>,
    listened: Listened,
    pub(crate) known_sets: Rc<KnownSets>,
    known_lists: RefCell<KnownLists>,
    /// Of each namespace, whether rules may translate there or in one that it leads to.
    steered: Vec<bool>,
}

/// Ports that somebody receives on, over all namespaces, by the number of the protocol: what comes to
/// any other port is of interest only where it may be translated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listened(BTreeMap<u8, Ranges>);

impl Listened {
    /// `None` for a socket that takes all there is of a protocol.
    pub(crate) fn add(&mut self, protocol: u8, port: Option<u16>) {
        let ports = port.map_or((0, u16::MAX.into()), |port| (port.into(), port.into()));
        self.0.entry(protocol).or_default().add(&Ranges::new(vec![ports]));
    }
}

/// From a gate here, by a pair of virtual interfaces or a bridge of such, to one elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cable {
    pub(crate) gate: usize,
    pub(crate) netns: usize,
    pub(crate) far: usize,
}

impl<'a> World<'a> {
    pub(crate) fn new(places: &'a [Option<Place>], listened: Listened) -> Self {
        let cables = places.iter().enumerate().map(|(number, place)| match place {
            Some(place) => cables(places, number, place),
            None => Vec::new(),
        });
        let mut world = Self {
            cables: cables.collect(),
            places,
            listened,
            known_sets: Rc::default(),
            known_lists: RefCell::default(),
            steered: Vec::new(),
        };
        let steers = |number: usize| places[number].as_ref().is_some_and(Place::steers);
        let steered =
            |from: usize| (0..places.len()).any(|to| steers(to) && (from == to || world.leads(from, to)));
        world.steered = (0..places.len()).map(steered).collect();
        world
    }

    /// The ports of a protocol that somebody receives on; `None` for one that has none.
    pub(crate) fn listened(&self, protocol: Option<u8>) -> Option<Ranges> {
        let protocol = protocol.filter(|protocol| has_ports(*protocol))?;
        Some(self.listened.0.get(&protocol).cloned().unwrap_or_default())
    }

    /// A set as a list of addresses: one for all who have the same, since it may be of 100,000.
    pub(crate) fn list(&self, family: Family, set: &Ranges) -> Arc<[AddrRange]> {
        let mut known = self.known_lists.borrow_mut();
        let known = &mut known[family as usize];
        match known.get(set) {
            Some(list) => Arc::clone(list),
            None => Arc::clone(known.entry(set.clone()).or_insert(family.addresses(set).into())),
        }
    }

    /// Whether rules may translate what comes into a namespace, there or further on.
    pub(crate) fn steered(&self, netns: usize) -> bool {
        self.steered[netns]
    }

    /// The cables that lead out of a namespace.
    pub(crate) fn cables(&self, netns: usize) -> &[Cable] {
        &self.cables[netns]
    }

    /// Whether packets that come into a namespace may go on to another.
    pub(crate) fn leads(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut next) = (vec![from], vec![from]);
        while let Some(netns) = next.pop() {
            for cable in &self.cables[netns] {
                if cable.netns == to {
                    return true;
                }
                if !seen.contains(&cable.netns) {
                    seen.push(cable.netns);
                    next.push(cable.netns);
                }
            }
        }
        false
    }
}

/// TCP, UDP, DCCP, SCTP, UDP-Lite.
pub(crate) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// The ends of a pair know each other by their numbers (`IFLA_LINK`).
fn cables(places: &[Option<Place>], number: usize, place: &Place) -> Vec<Cable> {
    let mut found = Vec::new();
    for (gate, near) in place.gates.iter().enumerate() {
        // The ends of cables that are plugged in here: the gate itself, or the ports of a bridge.
        let ends: Vec<(u32, u32)> = if near.veth {
            near.link.map(|link| (near.index, link)).into_iter().collect()
        } else if near.bridge {
            let ports = place.ports.iter().filter(|port| port.master == near.index);
            ports.map(|port| (port.index, port.link)).collect()
        } else {
            continue;
        };
        for (netns, other) in places.iter().enumerate() {
            let Some(other) = other.as_ref().filter(|_| netns != number) else { continue };
            for (far, end) in other.gates.iter().enumerate().filter(|(_, gate)| gate.veth) {
                if ends.iter().any(|(index, link)| end.link == Some(*index) && *link == end.index) {
                    found.push(Cable { gate, netns, far });
                }
            }
        }
    }
    found
}
