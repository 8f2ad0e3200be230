//! The kernel's own reverse path filter (`rp_filter`): IPv4 takes no packet from whom it would not
//! answer, and where it is strict only by the interface that the answer would leave by
//! (`__fib_validate_source`).

use super::place::{Gate, Place, Side};
use super::policy::{Choice, Entry, Lookup};
use super::ranges::{Family, Ranges};

/// How strict it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reverse {
    Off,
    Strict,
    /// Any route will do.
    Loose,
}

impl Reverse {
    /// `addressed`: without an address of its own an interface is not lenient.
    pub(crate) fn of(setting: Option<u8>, addressed: bool) -> Self {
        match setting {
            None | Some(0) => Self::Off,
            Some(2) if addressed => Self::Loose,
            Some(_) => Self::Strict,
        }
    }
}

/// Who may be let in by a gate, and who surely is: which of several interfaces a route takes is not
/// known, nor always which table of several a rule chooses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passing {
    pub(crate) may: Ranges,
    pub(crate) sure: Ranges,
}

/// `None` where nobody is turned away.
pub(crate) fn passing(place: &Place, gate: &Gate, family: Family) -> Option<Passing> {
    let index = family as usize;
    if family == Family::V6 || gate.side == Side::Loopback {
        return None;
    }
    let strangers = |set: Ranges| set.minus(&place.broadcast[index]).minus(&place.local[index]);
    let nobody_knows = Some(Passing { may: family.all(), sure: Ranges::default() });
    match &place.choice[index] {
        // A master that is none of ours may be a VRF, which has a table of its own.
        _ if gate.reverse != Reverse::Off && gate.master.is_some() => return nobody_knows,
        Choice::Fresh if gate.reverse == Reverse::Off => return None,
        Choice::Untold if gate.reverse == Reverse::Off && place.perhaps[index].is_empty() => return None,
        Choice::Untold => return nobody_knows,
        Choice::Fresh => {}
        // With rules even who is not filtered must not be one of us (`fib_validate_source`).
        Choice::Rules(policy) => {
            let ways = policy.ways(&Lookup { entry: Entry::Untold, ..Lookup::OWN });
            let (never, hardly) = ways.not_others();
            let (may, sure) = match gate.reverse {
                Reverse::Off => (family.all().minus(&never), family.all().minus(&hardly)),
                Reverse::Loose => (ways.perhaps(), ways.surely()),
                Reverse::Strict => (ways.perhaps_by(gate.index), ways.by(gate.index)),
            };
            return Some(Passing { may: strangers(may), sure: strangers(sure) });
        }
    }
    let (routed, shared) = match gate.reverse {
        Reverse::Loose => (place.answerable[index].clone(), Ranges::default()),
        Reverse::Strict | Reverse::Off => (place.routed(family, gate.index), place.routed(family, 0)),
    };
    if place.is_unrouted(family) {
        return nobody_knows;
    }
    let may = strangers(routed.union(&shared));
    let sure = if shared.is_empty() { may.clone() } else { Ranges::default() };
    Some(Passing { may, sure })
}
