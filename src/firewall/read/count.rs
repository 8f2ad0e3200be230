//! How much there is to judge.

use super::decode;
use crate::firewall::ruleset::Step;
use crate::model::Namespace;

/// What the rules of a namespace are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    pub tables: usize,
    pub chains: usize,
    pub rules: usize,
    /// Of all sets and maps.
    pub elements: usize,
    /// Expressions that are not understood.
    pub unknown: usize,
}

/// Reads the rules of a namespace from the kernel's own form. `None` where they contradict
/// themselves or are cut.
pub fn count(namespace: &Namespace) -> Option<Counted> {
    let legacy = namespace.legacy.known().map_or(&[][..], Vec::as_slice);
    let found = decode(namespace.nftables.known(), legacy, namespace.ipsets.known())?;
    let mut counted = Counted { tables: found.tables.len(), ..Counted::default() };
    for table in &found.tables {
        counted.chains += table.chains.len();
        counted.elements += table.sets.values().map(|set| set.elements.len()).sum::<usize>();
        for rule in table.chains.values().flat_map(|chain| &chain.rules) {
            counted.rules += 1;
            counted.unknown += rule.steps.iter().filter(|step| matches!(step, Step::Unknown(_))).count();
        }
    }
    Some(counted)
}
