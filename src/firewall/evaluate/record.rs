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
    pub(crate) deed: Deed,
    pub(crate) region: Region,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Accepts,
    Drops,
    /// Nobody can tell what it does: it asks for a rate, for chance, or for what the caller chooses.
    Hangs,
}

/// The rule that is being walked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At<'a> {
    pub(super) table: usize,
    pub(super) chain: &'a [u8],
    pub(super) handle: Option<u64>,
}

impl Walk<'_> {
    /// Takes back what was dropped since there were so many decisions, and what that hung on.
    pub(super) fn forget_drops(&mut self, so_far: usize) {
        let accepts = self.decisions.iter().skip(so_far).any(|each| each.deed == Deed::Accepts);
        let mut number = 0;
        self.decisions.retain(|each| {
            number += 1;
            let kept = match each.deed {
                Deed::Accepts => true,
                Deed::Drops => false,
                Deed::Hangs => accepts,
            };
            number <= so_far || kept
        });
    }

    /// The rule at hand decides, or the policy of its chain.
    pub(super) fn decided(&mut self, accepts: bool, region: &Region) {
        self.note(if accepts { Deed::Accepts } else { Deed::Drops }, region);
    }

    /// What becomes of these in the rule at hand is not known.
    pub(super) fn hangs(&mut self, region: &Region) {
        self.note(Deed::Hangs, region);
    }

    fn note(&mut self, deed: Deed, region: &Region) {
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
            deed,
            region: region.clone(),
        });
    }
}

/// At most this many reasons are given for one path, and so many of them for doubt alone.
const MOST_REASONS: usize = 8;
const MOST_DOUBTS: usize = 4;

/// Who let the packets of `block` in: the rules that accept the first of them; where none does, the
/// policies at the door. With `doubt` first the rules that it hangs on, and also who may drop any.
pub(crate) fn reasons(decisions: &[Decision], block: &Block, doubt: bool) -> Vec<(usize, Decider)> {
    let mut found = Vec::new();
    let concerns = |each: &&Decision| each.region.0.iter().any(|piece| piece.meets(block));
    let mut take = |most: usize, wanted: &dyn Fn(&Decision) -> bool| {
        for each in decisions {
            let told = |(netns, decider): &(usize, Decider)| (*netns, decider) == (each.netns, &each.decider);
            if found.len() < most && wanted(each) && !found.iter().any(told) && concerns(&each) {
                found.push((each.netns, each.decider.clone()));
            }
        }
    };
    let accepts = |each: &Decision| each.deed == Deed::Accepts && each.first;
    if doubt {
        take(MOST_DOUBTS, &|each| each.deed == Deed::Hangs);
    }
    take(MOST_REASONS, &|each| accepts(each) && each.decider.handle.is_some());
    let by_rule_at_the_door = decisions.iter().any(|each| {
        accepts(each) && each.hook == Hook::Input && each.decider.handle.is_some() && concerns(&each)
    });
    if !by_rule_at_the_door {
        take(MOST_REASONS, &|each| accepts(each) && each.hook == Hook::Input);
    }
    if doubt {
        take(MOST_REASONS, &|each| each.deed == Deed::Drops);
    }
    found
}
