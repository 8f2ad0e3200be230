//! Types of addresses, as the routing tables have them.

use super::Walk;
use super::condition::Condition;
use crate::firewall::place::{Gate, of_interface};
use crate::firewall::region::Side;
use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges};

/// Types of addresses (`<linux/rtnetlink.h>`).
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;
const BROADCAST: u32 = 3;
const ANYCAST: u32 = 4;
const MULTICAST: u32 = 5;

impl Walk<'_> {
    /// Addresses of a type (`inet_dev_addr_type`, `nft_fib6_eval_type`); with `near` as one interface
    /// has them.
    pub(super) fn kind(&self, side: Side, kind: u32, near: bool) -> Condition {
        match self.of_kind(kind, near) {
            Some((must, may)) => self.between(side, must, may),
            None => Condition::Maybe,
        }
    }

    /// The type that all these addresses have.
    pub(super) fn kind_of(&self, set: &Ranges, near: bool) -> Option<u32> {
        let surely =
            |kind: &u32| self.of_kind(*kind, near).is_some_and(|(must, _)| set.minus(&must).is_empty());
        (UNICAST..=MULTICAST).find(surely)
    }

    /// Whether an address has one of the types of a bit set. Of IPv6 with `near` another function is
    /// asked than by nftables (`match_lookup_rt6`).
    pub(super) fn of_kinds(&self, bits: u16, destination: bool, near: bool) -> Vec<Condition> {
        if near && self.question.family == Family::V6 {
            return vec![Condition::Maybe];
        }
        let side = self.side(destination);
        let kinds = (0..16).filter(|kind| bits & (1 << kind) != 0);
        match self.seen(side) {
            Some(None) => kinds.map(|kind| self.kind(side, kind, near)).collect(),
            Some(Some(set)) => match self.kind_of(set, near) {
                Some(kind) if bits & (1 << kind) != 0 => vec![Condition::Always],
                Some(_) => vec![Condition::Never],
                None => vec![Condition::Maybe],
            },
            None => vec![Condition::Maybe],
        }
    }

    /// The interface of a packet that comes from a network, where no other stands for it.
    fn entered(&self) -> Option<&Gate> {
        self.station.entry.filter(|gate| self.arrives() && !self.station.own && gate.master.is_none())
    }

    /// What is of a type, and what may be.
    fn of_kind(&self, kind: u32, near: bool) -> Option<(Ranges, Ranges)> {
        let gate = match near {
            true => Some(self.entered()?),
            false => None,
        };
        match self.question.family {
            Family::V4 => self.kind_v4(kind, gate).map(|set| (set.clone(), set)),
            Family::V6 => self.kind_v6(kind, gate),
        }
    }

    /// An address of another interface than `near` is one that some route leads to: unicast.
    fn kind_v4(&self, kind: u32, near: Option<&Gate>) -> Option<Ranges> {
        let classes = Classes::of(Family::V4);
        let index = Family::V4 as usize;
        let (local, broad) = match near {
            Some(gate) => (
                of_interface(&self.place.owned[index], gate.index),
                of_interface(&self.place.owned_broadcast[index], gate.index),
            ),
            None => (self.place.local[index].clone(), self.place.broadcast[index].clone()),
        };
        let broad = broad.union(&classes.broadcast).union(&classes.unspecified);
        Some(match kind {
            UNICAST => [&local, &broad, &classes.multicast]
                .into_iter()
                .fold(Family::V4.all(), |left, set| left.minus(set)),
            LOCAL => local.minus(&classes.multicast),
            BROADCAST => broad.minus(&local),
            ANYCAST => Ranges::default(),
            MULTICAST => classes.multicast.clone(),
            _ => return None,
        })
    }

    /// What no route leads to is of the type "unreachable", and with rules between tables nobody
    /// can tell. A link-local address is looked up on the interface of the packet: there it is local
    /// or not; on loopback, and on the way out, it may have any type. A group that came in by a network
    /// has a route there, or it would not be taken (`rt6_need_strict`).
    fn kind_v6(&self, kind: u32, near: Option<&Gate>) -> Option<(Ranges, Ranges)> {
        let classes = Classes::of(Family::V6);
        let index = Family::V6 as usize;
        let (all, anycast) = (&self.place.local[index], &self.place.broadcast[index]);
        let link = &classes.link;
        let of_gate = |gate: &Gate| of_interface(&self.place.owned[index], gate.index);
        // Local, and may be local: of one interface only what is assigned to it (`nf_ipv6_chk_addr`),
        // no whole network that a route makes local.
        let (local, perhaps) = match (near, self.entered()) {
            (Some(gate), _) => (self.assigned(gate), of_gate(gate)),
            (None, Some(gate)) => {
                let known = all.minus(link).union(&of_gate(gate).and(link));
                (known.clone(), known)
            }
            (None, None) => (all.minus(link), all.minus(link).union(link)),
        };
        let perhaps = perhaps.union(&self.place.perhaps[index]);
        let (local, perhaps) = (local.minus(&classes.multicast), perhaps.minus(&classes.multicast));
        Some(match kind {
            UNICAST => {
                let never = [anycast, &classes.multicast, &local];
                let may = never.into_iter().fold(Family::V6.all(), |left, set| left.minus(set));
                let routed = match self.place.chooses(Family::V6) {
                    true => Ranges::default(),
                    false => self.place.answerable[index].union(all),
                };
                let never = [link, &classes.martian, &classes.unspecified, &perhaps];
                (never.into_iter().fold(may.and(&routed), |left, set| left.minus(set)), may)
            }
            LOCAL => (local.minus(anycast), perhaps),
            ANYCAST => (anycast.minus(link), anycast.union(link)),
            MULTICAST => {
                let sure = self.entered().is_some() && !self.place.chooses(Family::V6);
                let must = if sure { classes.multicast.clone() } else { Ranges::default() };
                (must, classes.multicast.clone())
            }
            // Only an IPv4 address can be of this type.
            BROADCAST => (Ranges::default(), Ranges::default()),
            _ => return None,
        })
    }

    /// The single addresses of an interface.
    fn assigned(&self, gate: &Gate) -> Ranges {
        let owned = self.place.owned[Family::V6 as usize].iter();
        let single = owned.filter(|(set, index)| *index == gate.index && set.only().is_some());
        single.fold(Ranges::default(), |sum, (set, _)| sum.union(set))
    }
}
