//! The kernel's own reverse path filter (`rp_filter`): IPv4 takes no packet from whom it would not
//! answer, and where it is strict only by the interface that the answer would leave by
//! (`__fib_validate_source`).

use super::place::{Gate, Place, Side};
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

/// Who may be let in by a gate, and whether that is all that can be said of it: which table of
/// several a rule chooses, and which of several interfaces a route takes, is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passing {
    pub(crate) may: Ranges,
    pub(crate) doubt: bool,
}

/// `None` where nobody is turned away.
pub(crate) fn passing(place: &Place, gate: &Gate, family: Family) -> Option<Passing> {
    let index = family as usize;
    if family == Family::V6 || gate.reverse == Reverse::Off || gate.side == Side::Loopback {
        return None;
    }
    // A master that is none of ours may be a VRF, which has a table of its own.
    if place.policy || gate.master.is_some() {
        return Some(Passing { may: family.all(), doubt: true });
    }
    let (routed, shared) = match gate.reverse {
        Reverse::Loose => (place.answerable[index].clone(), Ranges::default()),
        Reverse::Strict | Reverse::Off => (place.routed(family, gate.index), place.routed(family, 0)),
    };
    if place.is_unrouted(family) {
        return Some(Passing { may: family.all(), doubt: true });
    }
    let may = routed.union(&shared).minus(&place.broadcast[index]).minus(&place.local[index]);
    Some(Passing { may, doubt: !shared.is_empty() })
}
