//! What has become of packets on their way: addresses that were translated, marks, whether
//! connection tracking knows them.

use std::rc::Rc;

use crate::firewall::region::Region;
use crate::model::ranges::Ranges;

/// A side of packets: `None` as the sender wrote it, else what took its place. More than one value:
/// one of them, and nobody can tell which.
pub(crate) type Now = Option<Ranges>;

/// Whether connection tracking follows a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tracked {
    Yes,
    No,
    Untold,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    /// Source, destination and destination port with which packets came into the namespace.
    pub(crate) came: [Now; 3],
    /// And what they are now.
    pub(crate) now: [Now; 3],
    /// Destination or port are surely others than before (`IPS_DST_NAT`).
    pub(crate) moved: bool,
    /// Marks of the packet and of its flow, where they are known.
    pub(crate) mark: Option<u32>,
    pub(crate) flow_mark: Option<u32>,
    pub(crate) tracked: Tracked,
    /// Has a zone of its own: then nothing takes it out of tracking any more.
    pub(crate) zoned: bool,
    /// Address and port of the transparent socket that a rule hands the packet to.
    pub(crate) proxy: Option<[Now; 2]>,
    /// The translations that brought it here, over all namespaces.
    pub(crate) published: Vec<Rc<Publication>>,
}

/// What was sent to some address and port is sent on to another. `None`: as it came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Publication {
    /// Index of the namespace that translates.
    pub(crate) netns: usize,
    /// Destination and port with which packets came there; `None` as the sender wrote them.
    pub(crate) came: [Now; 2],
    pub(crate) to: [Now; 2],
}

impl State {
    /// Of new packets.
    pub(crate) fn new(sides: [Now; 3]) -> Self {
        Self {
            now: sides.clone(),
            came: sides,
            moved: false,
            mark: Some(0),
            flow_mark: Some(0),
            tracked: Tracked::Yes,
            zoned: false,
            proxy: None,
            published: Vec::new(),
        }
    }

    /// Of the same flow in the next namespace: marks do not leave one (`skb_scrub_packet`).
    pub(crate) fn next(&self) -> Self {
        Self { published: self.published.clone(), ..Self::new(self.now.clone()) }
    }

    /// What translation has done in this namespace to where the packet goes.
    pub(crate) fn publication(&self, netns: usize) -> Option<Publication> {
        let [_, destination, port] = self.now.clone();
        let [_, came, asked] = self.came.clone();
        self.moved.then_some(Publication { netns, came: [came, asked], to: [destination, port] })
    }
}

/// Packets by what has become of them. One packet may stand in more than one region: then either
/// may have become of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream(pub(crate) Vec<(Rc<State>, Region)>);

impl Stream {
    pub(crate) fn one(state: Rc<State>, region: Region) -> Self {
        Self(if region.is_empty() { Vec::new() } else { vec![(state, region)] })
    }

    pub(crate) fn add(&mut self, state: &Rc<State>, region: Region) {
        if region.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|(other, _)| Rc::ptr_eq(state, other) || state == other) {
            Some((_, sum)) if *sum == region => {}
            Some((_, sum)) => sum.add(region),
            None => self.0.push((Rc::clone(state), region)),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (state, region) in other.0 {
            self.add(&state, region);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn blocks(&self) -> usize {
        self.0.iter().map(|(_, region)| region.0.len()).sum()
    }

    pub(crate) fn region(self) -> Region {
        let mut sum = Region::default();
        for (_, region) in self.0 {
            sum.add(region);
        }
        sum
    }
}
