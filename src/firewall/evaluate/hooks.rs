//! In which order the base chains of a hook see a packet, and which of them do.

use std::cmp::Reverse;
use std::rc::Rc;

use super::record::At;
use super::state::{Stream, Tracked};
use super::{Exit, Packet, Tracking, Walk};
use crate::firewall::region::Region;
use crate::firewall::ruleset::{Chain, Hook, Step, Table};

/// `NF_IP_PRI_CONNTRACK`
const CONNTRACK: i32 = -200;
/// Where destinations are translated, and sources back (`NF_IP_PRI_NAT_DST`).
pub(super) const DESTINATIONS: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`
pub(super) const SOURCES: i32 = 100;
/// More tables than this whose order nobody knows are not tried in every order.
const MOST_UNORDERED: usize = 3;
/// Stands for all chains that translate among the tables of a hook.
const TRANSLATION: usize = usize::MAX;

/// A base chain.
#[derive(Clone, Copy)]
struct Base<'a> {
    number: usize,
    table: &'a Table,
    name: &'a [u8],
    chain: &'a Chain,
    drop_policy: bool,
    priority: i32,
}

/// All base chains that a packet meets at a hook.
struct Bases<'a> {
    filters: Vec<Base<'a>>,
    /// They stand together, whatever priorities they were given among themselves, and the first
    /// translation ends them (`nf_nat_inet_fn`).
    translating: Vec<Base<'a>>,
    /// Where those stand.
    at: i32,
}

impl<'a> Bases<'a> {
    /// Tables with chains of the same priority, where it makes a difference who comes first.
    fn unordered(&self) -> Vec<usize> {
        let mut slots: Vec<(bool, i32, usize)> =
            self.filters.iter().map(|base| (false, base.priority, base.number)).collect();
        if !self.translating.is_empty() {
            slots.push((false, self.at, TRANSLATION));
        }
        slots.extend(self.translating.iter().map(|base| (true, base.priority, base.number)));
        let mut found: Vec<usize> = Vec::new();
        for (index, one) in slots.iter().enumerate() {
            for other in &slots[..index] {
                if (one.0, one.1) == (other.0, other.1) && one.2 != other.2 {
                    found.extend([one.2, other.2]);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        let changes = |table: &Table| {
            let mut steps = table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps);
            steps.any(|step| matches!(step, Step::Set { .. } | Step::Translate(_) | Step::Untrack))
        };
        let matters = self
            .filters
            .iter()
            .chain(&self.translating)
            .any(|base| found.contains(&base.number) && changes(base.table));
        if matters { found } else { Vec::new() }
    }
}

/// Every order of a few things.
fn orders(things: &[usize]) -> Vec<Vec<usize>> {
    if things.len() < 2 {
        return vec![things.to_vec()];
    }
    let mut found = Vec::new();
    for (index, first) in things.iter().enumerate() {
        let others: Vec<usize> = [&things[..index], &things[index + 1..]].concat();
        found.extend(orders(&others).into_iter().map(|rest| [&[*first][..], &rest].concat()));
    }
    found
}

impl<'a> Walk<'a> {
    /// Through all base chains of the hook. Each can drop for good; accepting ends only itself. Where
    /// nobody knows which comes first, either order may be.
    pub(crate) fn hook(&mut self, passing: Stream) -> (Stream, Region) {
        let bases = self.bases();
        let unordered = bases.unordered();
        let mut dropped = Region::default();
        if unordered.len() > MOST_UNORDERED {
            self.lost = true;
            return (passing, dropped);
        }
        let mut sum = Stream::default();
        for order in orders(&unordered) {
            let mut one = passing.clone();
            self.in_order(&bases, &order, &mut one, &mut dropped);
            sum.merge(one);
        }
        (sum, dropped)
    }

    /// Of chains with equal priorities the one registered last runs first (`nf_hook_entries_grow`);
    /// inside a table handles tell which that is.
    fn in_order(&mut self, bases: &Bases<'a>, order: &[usize], passing: &mut Stream, dropped: &mut Region) {
        let rank = |number: usize| order.iter().position(|each| *each == number);
        let by_age = |base: &Base<'a>| (base.priority, rank(base.number), Reverse(base.chain.handle));
        let mut translating = bases.translating.clone();
        translating.sort_by_key(by_age);
        let mut filters = bases.filters.clone();
        filters.sort_by_key(by_age);
        let translation = (bases.at, rank(TRANSLATION));
        let before = |base: &&Base<'a>| (base.priority, rank(base.number)) < translation;
        for base in filters.iter().filter(before) {
            *passing = self.filter(base, std::mem::take(passing), dropped);
        }
        if !translating.is_empty() {
            *passing = self.translation(&translating, std::mem::take(passing), dropped);
        }
        for base in filters.iter().filter(|base| !before(base)) {
            *passing = self.filter(base, std::mem::take(passing), dropped);
        }
    }

    fn bases(&self) -> Bases<'a> {
        let late = matches!(self.station.hook, Hook::Input | Hook::Postrouting);
        let mut found = Bases {
            filters: Vec::new(),
            translating: Vec::new(),
            at: if late { SOURCES } else { DESTINATIONS },
        };
        let ruleset = self.ruleset;
        for (number, table) in ruleset.tables.iter().enumerate() {
            if table.dormant || !table.family.sees(self.question.family) {
                continue;
            }
            for (name, chain) in &table.chains {
                let Some(base) = chain.base.as_ref().filter(|base| base.hook == self.station.hook) else {
                    continue;
                };
                let here = |device: &Vec<u8>| {
                    self.station.entry.is_some_and(|gate| gate.name.as_bytes() == device.as_slice())
                };
                if base.hook == Hook::Ingress && !base.devices.iter().any(here) {
                    continue;
                }
                let (drop_policy, priority) = (base.drop_policy, base.priority);
                let one = Base { number, table, name, chain, drop_policy, priority };
                if !base.nat {
                    found.filters.push(one);
                } else if self.translates() {
                    found.translating.push(one);
                }
            }
        }
        found
    }

    /// Whether chains that translate see this packet: the first of a flow only, and of own packets
    /// only on their way out, where both ends are settled (`nf_nat_initialized`).
    fn translates(&self) -> bool {
        let settled = self.station.own && matches!(self.station.hook, Hook::Prerouting | Hook::Input);
        self.station.packet == Packet::First && !settled
    }

    fn filter(&mut self, base: &Base<'a>, passing: Stream, dropped: &mut Region) -> Stream {
        let mut fate = self.base_chain(base, passing, base.priority);
        dropped.add(fate.dropped);
        let mut passing = std::mem::take(&mut fate.accepted);
        passing.merge(fate.translated);
        passing
    }

    /// What no connection tracking follows is never translated.
    fn translation(&mut self, bases: &[Base<'a>], passing: Stream, dropped: &mut Region) -> Stream {
        let (mut left, mut done) = (Stream::default(), Stream::default());
        for (state, region) in passing.0 {
            match state.tracked {
                Tracked::Yes => left.add(&state, region),
                Tracked::No => done.add(&state, region),
                Tracked::Untold => {
                    left.add(&state, region.clone());
                    done.add(&state, region);
                }
            }
        }
        let at =
            if matches!(self.station.hook, Hook::Input | Hook::Postrouting) { SOURCES } else { DESTINATIONS };
        for base in bases {
            let fate = self.base_chain(base, left, at);
            dropped.add(fate.dropped);
            done.merge(fate.translated);
            left = fate.accepted;
        }
        done.merge(left);
        done
    }

    /// One base chain with its policy; nothing is left to come to its end.
    fn base_chain(&mut self, base: &Base<'a>, passing: Stream, priority: i32) -> super::Fate {
        self.priority = priority;
        self.tracking = self.tracked(priority);
        self.at.table = base.number;
        let mut fate = self.chain(base.table, base.name, base.chain, passing, 0);
        self.at = At { table: base.number, chain: base.name, handle: None };
        for (state, rest) in std::mem::take(&mut fate.rest).0 {
            self.state = Rc::clone(&state);
            self.decided(!base.drop_policy, &rest);
            if base.drop_policy {
                fate.dropped.add(rest);
            } else {
                fate.accepted.add(&state, rest);
            }
        }
        fate
    }

    fn tracked(&self, priority: i32) -> Tracking {
        let own = self.station.own;
        let first = match self.station.hook {
            Hook::Ingress => !own,
            Hook::Prerouting if own => false,
            Hook::Prerouting | Hook::Output if priority == CONNTRACK => return Tracking::Untold,
            Hook::Prerouting | Hook::Output => priority < CONNTRACK,
            Hook::Input | Hook::Forward | Hook::Postrouting | Hook::Other => false,
        };
        if first { Tracking::Unseen } else { Tracking::Seen }
    }

    /// Whether packets are on their way out, by an interface that is known.
    pub(super) fn leaving(&self) -> Option<&'a crate::firewall::place::Gate> {
        match self.station.exit {
            Exit::Gate(gate) => Some(gate),
            Exit::None | Exit::Untold => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_tried_once() {
        assert_eq!(orders(&[]), [[0_usize; 0]]);
        assert_eq!(orders(&[1, 2]), [[1, 2], [2, 1]]);
        let mut three = orders(&[1, 2, 3]);
        three.sort_unstable();
        three.dedup();
        assert_eq!(three.len(), 6);
    }
}
