//! All network namespaces together, and the virtual cables between them.

use super::place::Place;

/// All namespaces, and what joins them.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) places: &'a [Option<Place>],
    /// Of each namespace, the cables that lead out of it.
    cables: Vec<Vec<Cable>>,
}

/// From a gate here, by a pair of virtual interfaces or a bridge of such, to one elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cable {
    pub(crate) gate: usize,
    pub(crate) netns: usize,
    pub(crate) far: usize,
}

impl<'a> World<'a> {
    pub(crate) fn new(places: &'a [Option<Place>]) -> Self {
        let cables = places.iter().enumerate().map(|(number, place)| match place {
            Some(place) => cables(places, number, place),
            None => Vec::new(),
        });
        Self { cables: cables.collect(), places }
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
