//! Which rule decided about which packets: written down while a ruleset is walked, so that every
//! answer can name its reason.

use super::{Packet, Walk};
use crate::firewall::region::{Block, Region};
use crate::firewall::ruleset::Hook;

/// So many pieces of one walk are remembered; who asks for more reasons gets the first ones.
const MOST_PIECES: usize = 20_000;

/// A rule, or the policy of a base chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Decider {
    /// Index into the tables of the ruleset.
    pub(crate) table: usize,
    pub(crate) chain: Vec<u8>,
    /// Of the rule; `None` is the policy.
    pub(crate) handle: Option<u64>,
}

/// What a decider did to the packets of a region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    /// Index of the namespace.
    pub(crate) netns: usize,
    pub(crate) decider: Decider,
    pub(crate) hook: Hook,
    /// Of the first packet of a flow, not of its answer.
    pub(crate) first: bool,
    pub(crate) accepts: bool,
    pub(crate) region: Region,
}

/// The rule that is being walked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At<'a> {
    pub(super) table: usize,
    pub(super) chain: &'a [u8],
    pub(super) handle: Option<u64>,
}

impl Walk<'_> {
    /// Takes back what was dropped since there were so many decisions.
    pub(super) fn forget_drops(&mut self, so_far: usize) {
        let mut number = 0;
        self.decisions.retain(|each| {
            number += 1;
            number <= so_far || each.accepts
        });
    }

    /// The rule at hand decides; its policy where `policy`.
    pub(super) fn decided(&mut self, accepts: bool, region: &Region) {
        if region.is_empty() || self.pieces >= MOST_PIECES {
            return;
        }
        self.pieces += region.0.len();
        let At { table, chain, handle } = self.at;
        self.decisions.push(Decision {
            netns: self.netns,
            decider: Decider { table, chain: chain.to_vec(), handle },
            hook: self.station.hook,
            first: self.station.packet == Packet::First,
            accepts,
            region: region.clone(),
        });
    }
}

/// At most this many reasons are given for one path.
const MOST_REASONS: usize = 8;

/// Who let the packets of `block` in: the rules that accept the first of them; where none does, the
/// policies at the door. With `doubt` also who may drop any of them.
pub(crate) fn reasons(decisions: &[Decision], block: &Block, doubt: bool) -> Vec<(usize, Decider)> {
    let mut found = Vec::new();
    let concerns = |each: &&Decision| each.region.0.iter().any(|piece| piece.meets(block));
    let mut take = |wanted: &dyn Fn(&Decision) -> bool| {
        for each in decisions {
            let told = |(netns, decider): &(usize, Decider)| (*netns, decider) == (each.netns, &each.decider);
            if found.len() < MOST_REASONS && wanted(each) && !found.iter().any(told) && concerns(&each) {
                found.push((each.netns, each.decider.clone()));
            }
        }
        found.len()
    };
    take(&|each| each.accepts && each.first && each.decider.handle.is_some());
    let by_rule_at_the_door = decisions.iter().any(|each| {
        each.accepts
            && each.first
            && each.hook == Hook::Input
            && each.decider.handle.is_some()
            && concerns(&each)
    });
    if !by_rule_at_the_door {
        take(&|each| each.accepts && each.first && each.hook == Hook::Input);
    }
    if doubt {
        take(&|each| !each.accepts);
    }
    found
}
