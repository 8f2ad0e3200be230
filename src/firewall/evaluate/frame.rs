//! Whom a frame was for. Ordinary ones are for whom their destination says, but a neighbour may send
//! any packet in a frame to everybody.

use super::Walk;
use super::condition::{Condition, not};
use super::step::Byte;
use crate::firewall::place::of_interface;
use crate::firewall::region::Side;
use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges};

/// `PACKET_…` of packet(7).
const HOST: u8 = 0;
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;

impl Walk<'_> {
    /// TCP takes nothing but what was for this computer alone (`tcp_v4_rcv`, `tcp_v6_rcv`), and nothing
    /// else is passed on (`ip_forward`).
    pub(super) fn frame(&self) -> Byte {
        let came = &self.state.came[Side::Destination as usize];
        match self.station.entry {
            Some(_) if self.question.protocol == Some(6) => Byte::Known(HOST),
            Some(gate) if self.arrives() && gate.framed && came.is_none() => Byte::Frame,
            Some(_) | None => Byte::Unknown,
        }
    }

    /// Packets whose frame was for `kind`, or with `others` for anybody else. What a rule drops is
    /// asked of ordinary frames alone, and every frame may be of those that another rule wants.
    pub(super) fn framed(&self, kind: u8, others: bool) -> Condition {
        let Some((must, may)) = self.frames_to(kind) else { return Condition::Maybe };
        let one = |must: Ranges, may: Ranges| self.between(Side::Destination, must, may);
        let all = self.question.family.all();
        match (self.asked.drops, others) {
            (true, false) => one(must, may),
            (true, true) => not(one(must, may)),
            (false, false) => one(must, all),
            (false, true) => one(all.minus(&may), all),
        }
    }

    /// Destinations whose frames are surely for `kind`, and those whose may be. The broadcast address
    /// of another network than this one is reached by a router, or by nobody.
    fn frames_to(&self, kind: u8) -> Option<(Ranges, Ranges)> {
        let family = self.question.family;
        let classes = Classes::of(family);
        let gate = self.station.entry?;
        let (sure, perhaps) = match family {
            Family::V4 => (
                of_interface(&self.place.owned_broadcast[family as usize], gate.index)
                    .union(&classes.broadcast),
                self.place.broadcast[family as usize].union(&classes.unspecified),
            ),
            Family::V6 => Default::default(),
        };
        let perhaps = perhaps.minus(&sure);
        let single = [&sure, &classes.multicast].into_iter().fold(family.all(), |all, set| all.minus(set));
        match kind {
            HOST => Some((single.minus(&perhaps), single)),
            BROADCAST => Some((sure.clone(), sure.union(&perhaps))),
            MULTICAST => Some((classes.multicast.clone(), classes.multicast.clone())),
            _ => None,
        }
    }
}
