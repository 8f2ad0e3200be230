//! What counts as risky: rules written in TOML, one file each, matched against a snapshot.
//! Sees nothing but the snapshot, and changes nothing.

#![forbid(unsafe_code)]

mod compile;
mod condition;
mod describe;
mod draft;
mod evidence;
mod example;
mod explain;
mod facts;
mod gaps;
mod index;
mod json_schema;
mod lint;
mod load;
mod matcher;
mod outline;
mod pages;
mod pattern;
mod reader;
mod remedy;
mod ruled_out;
mod schema;
mod sense;
mod service;
mod slot;
#[cfg(test)]
mod tests;
mod verdict;
mod verify;

pub use compile::{Rule, rule as compile};
pub use draft::draft;
pub use explain::{Explained, Outcome};
pub use json_schema::{json_schema, service_schema};
pub use load::Override;
pub use remedy::Template;
pub use verify::{Uncovered, Verified};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::finding::{Hit, Severity, Undecided};
use crate::model::{Observation, Published, Snapshot};

use condition::Cond;
use index::{Found, Index};
use matcher::Scan;
use ruled_out::RuledOut;
use slot::Slot;
use verdict::{Said, Verdict};

/// Rules that are asked together.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// Ordered by id.
    slots: Vec<Slot>,
    overrides: Vec<Override>,
    index: Index,
}

impl RuleSet {
    /// In the order of their ids. Compiles all of them; `ids` and `len` do not.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.slots.iter().map(Slot::rule)
    }

    /// The rules that some socket gave a reason to ask, and all that are no shipped service.
    pub fn asked(&self) -> impl Iterator<Item = &Rule> {
        self.slots.iter().filter_map(Slot::compiled)
    }

    /// The names of all rules, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.slots.iter().map(Slot::id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The rule of this name.
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.slots.binary_search_by(|slot| slot.id().cmp(id)).ok().map(|at| self.slots[at].rule())
    }

    /// Shipped rules that a file of the user's stands in for.
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// What the rules say of every socket: hits in the order of sockets, then of rule ids, and the
    /// rules that could not be decided, each with its sockets.
    pub fn check(&self, snapshot: &Snapshot) -> (Vec<Hit>, Vec<Undecided>) {
        let scan = Scan::new(snapshot);
        let mut hits = Vec::new();
        let mut undecided: BTreeMap<usize, Undecided> = BTreeMap::new();
        let (mut candidates, mut known) = (Vec::new(), Found::default());
        let mut ruled_out = RuledOut::new(snapshot, self.slots.len());
        for observation in snapshot.observations() {
            self.index.candidates(observation, &mut known, &mut candidates);
            let mut guesses = Guesses::default();
            for number in &candidates {
                if ruled_out.holds(&scan, observation, *number, || self.slots[*number].rule()) {
                    continue;
                }
                let rule = self.slots[*number].rule();
                match rule.judge(&scan, observation) {
                    Verdict::Quiet => {}
                    Verdict::Fires(said) if rule.is_service() => guesses.add(rule, said, observation),
                    Verdict::Fires(said) => hits.push(hit(&scan, rule, said, observation)),
                    Verdict::Undecided(when) => {
                        let entry = undecided.entry(*number).or_insert_with(|| Undecided {
                            rule: rule.id().to_owned(),
                            sockets: Vec::new(),
                            fields: Vec::new(),
                            gap: None,
                        });
                        doubt(&scan, when, observation, entry);
                    }
                }
            }
            guesses.settle(&scan, observation, &mut hits);
        }
        (hits, undecided.into_values().collect())
    }
}

/// What services say of one socket: a program that is known beats a port, and of several that have
/// the port one is told, with the names of the others.
#[derive(Default)]
struct Guesses<'r> {
    sure: Vec<(&'r Rule, Said<'r>)>,
    best: Option<(Severity, &'r Rule, Said<'r>)>,
    others: Vec<&'r str>,
}

impl<'r> Guesses<'r> {
    fn add(&mut self, rule: &'r Rule, said: Said<'r>, observation: Observation<'_>) {
        if !said.guess {
            return self.sure.push((rule, said));
        }
        // Where a published port leads to programs that were found, nobody has to guess by the port.
        if observation.socket.published.as_deref().is_some_and(Published::is_told_elsewhere) {
            return;
        }
        let reach = observation.socket.exposure.as_ref().map(|exposure| exposure.reach);
        let severity = said.severity(reach);
        let beaten = match &self.best {
            Some((best, ..)) if *best >= severity => Some(rule),
            Some((_, best, _)) => {
                let best = *best;
                self.best = Some((severity, rule, said));
                Some(best)
            }
            None => {
                self.best = Some((severity, rule, said));
                None
            }
        };
        self.others.extend(beaten.map(Rule::id));
    }

    fn settle<'s>(self, scan: &Scan<'s>, observation: Observation<'s>, hits: &mut Vec<Hit>) {
        const NAMED: usize = 6;
        if !self.sure.is_empty() {
            hits.extend(self.sure.into_iter().map(|(rule, said)| hit(scan, rule, said, observation)));
            return;
        }
        let Some((_, rule, said)) = self.best else { return };
        let mut one = hit(scan, rule, said, observation);
        if !self.others.is_empty() {
            let more = if self.others.len() > NAMED { ", …" } else { "" };
            let named: Vec<&str> = self.others.into_iter().take(NAMED).collect();
            one.evidence.push(format!("rules of other services on this port: {}{more}", named.join(", ")));
        }
        hits.push(one);
    }
}

fn hit<'s>(scan: &Scan<'s>, rule: &Rule, said: Said<'_>, observation: Observation<'s>) -> Hit {
    let reach = observation.socket.exposure.as_ref().map(|exposure| exposure.reach);
    let culprit = scan.culprit(said.when, observation);
    // A rule that only rules processes out names none; advice still has to.
    let owner = culprit.or_else(|| observation.owners().next());
    Hit {
        words: Arc::clone(said.words),
        severity: said.severity(reach),
        socket: observation.index,
        message: evidence::message(observation, culprit),
        evidence: scan.deciding(said.when, observation),
        remedies: rule.remedies.iter().filter_map(|remedy| remedy.fill(observation, owner)).collect(),
    }
}

/// Adds a socket to those for which a rule could not be decided.
fn doubt<'s>(scan: &Scan<'s>, when: &Cond, observation: Observation<'s>, entry: &mut Undecided) {
    for field in scan.missing(when, observation) {
        if !entry.fields.contains(&field) {
            entry.gap = entry.gap.take().or_else(|| gaps::behind(scan.snapshot, &field));
            entry.fields.push(field);
        }
    }
    entry.sockets.push(observation.index);
}
