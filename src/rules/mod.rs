//! What counts as risky: rules written in TOML, one file each, matched against a snapshot.
//! Sees nothing but the snapshot, and changes nothing.

#![forbid(unsafe_code)]

mod compile;
mod condition;
mod describe;
mod evidence;
mod example;
mod explain;
mod facts;
mod index;
mod json_schema;
mod lint;
mod load;
mod matcher;
mod pattern;
mod reader;
mod remedy;
mod schema;
mod sense;
#[cfg(test)]
mod tests;
mod verify;

pub use compile::{Rule, rule as compile};
pub use explain::{Explained, Outcome};
pub use json_schema::json_schema;
pub use load::Override;
pub use remedy::Template;
pub use verify::{Uncovered, Verified};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::finding::{Hit, Undecided};
use crate::model::{Observation, Snapshot};

use index::Index;
use matcher::Scan;
use pattern::Truth;

/// Rules that are asked together.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// Ordered by id.
    rules: Vec<Rule>,
    overrides: Vec<Override>,
    index: Index,
}

impl RuleSet {
    /// In the order of their ids.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of this name.
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.rules.binary_search_by(|rule| rule.id().cmp(id)).ok().map(|at| &self.rules[at])
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
        let mut candidates = Vec::new();
        for observation in snapshot.observations() {
            self.index.candidates(observation, &mut candidates);
            for number in &candidates {
                let rule = &self.rules[*number];
                match scan.judge(&rule.when, observation) {
                    Truth::False => {}
                    Truth::True => hits.push(hit(&scan, rule, observation)),
                    Truth::Undecided => {
                        let entry = undecided.entry(*number).or_insert_with(|| Undecided {
                            rule: rule.id().to_owned(),
                            sockets: Vec::new(),
                            fields: Vec::new(),
                            gap: None,
                        });
                        doubt(&scan, rule, observation, entry);
                    }
                }
            }
        }
        (hits, undecided.into_values().collect())
    }
}

fn hit<'s>(scan: &Scan<'s>, rule: &Rule, observation: Observation<'s>) -> Hit {
    let reach = observation.socket.exposure.as_ref().map(|exposure| exposure.reach);
    let culprit = scan.culprit(&rule.when, observation);
    // A rule that only rules processes out names none; advice still has to.
    let owner = culprit.or_else(|| observation.owners().next());
    Hit {
        words: Arc::clone(&rule.words),
        severity: rule.severity(reach),
        socket: observation.index,
        message: evidence::message(observation, culprit),
        evidence: scan.deciding(&rule.when, observation),
        remedies: rule.remedies.iter().filter_map(|remedy| remedy.fill(observation, owner)).collect(),
    }
}

/// Adds a socket to those for which a rule could not be decided.
fn doubt<'s>(scan: &Scan<'s>, rule: &Rule, observation: Observation<'s>, entry: &mut Undecided) {
    for field in scan.missing(&rule.when, observation) {
        if !entry.fields.contains(&field) {
            entry.gap = entry.gap.take().or_else(|| gap(scan.snapshot, &field));
            entry.fields.push(field);
        }
    }
    entry.sockets.push(observation.index);
}

/// The gap because of which a fact is unknown, by the beginning of its id.
fn gap(snapshot: &Snapshot, field: &str) -> Option<String> {
    let kinds: &[&str] = match field.split('.').next().unwrap_or(field) {
        "process" | "user" | "owned" => &["owners", "owner", "process"],
        "others" | "accepted" | "same_port" | "peer" => &["owners", "netns", "sockets"],
        "access" => &["access", "paths", "files"],
        "reach" | "certain" => &["filter", "exposure", "interfaces", "netns"],
        "host" | "ephemeral" | "address" | "remote" | "interface" => {
            &["filter", "interfaces", "sysctls", "netns"]
        }
        _ => &[],
    };
    kinds
        .iter()
        .find_map(|kind| snapshot.gaps.iter().find(|gap| gap.id.starts_with(kind)))
        .map(|gap| gap.id.to_string())
}
