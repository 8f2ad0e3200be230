//! Why a rule fired, could not be decided, or nearly fired: for `why`.

use super::condition::{Cond, HolderCond};
use super::facts::View;
use super::index::Found;
use super::matcher::Scan;
use super::pattern::Truth;
use super::reader::shorten;
use super::verdict::Verdict;
use super::{Rule, RuleSet};
use crate::model::Observation;

/// What one rule says of one socket.
#[derive(Clone, Debug)]
pub struct Explained<'r> {
    pub rule: &'r Rule,
    pub outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It fires, because of these facts.
    Matched(Vec<String>),
    /// These facts are unknown.
    Undecided(Vec<String>),
    /// It is about such a socket, and this one condition kept it quiet.
    Near {
        /// `reach = host`
        found: String,
        /// `reach = ">= lan"`
        wanted: String,
    },
}

impl RuleSet {
    /// Every rule that has something to say of this socket, in the order of their ids. Near
    /// misses are rules whose every condition but one holds, at least one of which says what the
    /// socket or its program is; that the program is another one is no near miss.
    pub fn explain(&self, observation: Observation<'_>) -> Vec<Explained<'_>> {
        let scan = Scan::new(observation.snapshot);
        let mut candidates = Vec::new();
        self.index.candidates(observation, &mut Found::default(), &mut candidates);
        let mut found = Vec::new();
        for (number, slot) in self.slots.iter().enumerate() {
            // A service that neither name nor port points to is no near miss.
            if slot.sketch().is_some() && candidates.binary_search(&number).is_err() {
                continue;
            }
            let rule = slot.rule();
            let outcome = match rule.judge(&scan, observation) {
                Verdict::Fires(said) => Some(Outcome::Matched(scan.deciding(said.when, observation))),
                Verdict::Undecided(when) => Some(Outcome::Undecided(scan.missing(when, observation))),
                Verdict::Quiet => near(&scan, rule, observation),
            };
            found.extend(outcome.map(|outcome| Explained { rule, outcome }));
        }
        found
    }
}

/// One condition that must hold, with the process that it is about.
struct Part<'c, 's> {
    cond: Clause<'c>,
    view: View<'s>,
}

#[derive(Clone, Copy)]
enum Clause<'c> {
    Cond(&'c Cond),
    Group(&'c super::condition::Group),
}

fn near(scan: &Scan<'_>, rule: &Rule, observation: Observation<'_>) -> Option<Outcome> {
    let mut parts = Vec::new();
    split(scan, &rule.when, View { observation, owner: None }, &mut parts)?;
    let mut failed = None;
    let mut fits = false;
    for part in &parts {
        let truth = match part.cond {
            Clause::Cond(cond) => scan.cond(cond, part.view),
            Clause::Group(group) => scan.group(group, part.view),
        };
        match truth {
            Truth::True => fits |= tells(part.cond),
            Truth::False if failed.is_some() => return None,
            Truth::False => failed = Some(part),
            Truth::Undecided => {}
        }
    }
    let failed = failed.filter(|part| fits && !is_kind(part.cond))?;
    let (name, span) = match failed.cond {
        Clause::Group(group) => (group.kind.name().to_owned(), group.span.clone()),
        Clause::Cond(cond) => first_line(cond)?,
    };
    let value = rule.source.get(span).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    match failed.cond {
        Clause::Cond(cond) => scan.refuted(cond, failed.view, &mut found),
        Clause::Group(group) => scan.refuted_group(group, failed.view, &mut found),
    }
    let not = if matches!(failed.cond, Clause::Cond(Cond::Not(_))) { "not." } else { "" };
    Some(Outcome::Near { found: found.join(", "), wanted: format!("{not}{name} = {}", shorten(&value)) })
}

/// Takes apart what must hold at once; `None` when nobody is known to hold the socket though a
/// process is asked for.
fn split<'c, 's>(
    scan: &Scan<'s>,
    cond: &'c Cond,
    view: View<'s>,
    parts: &mut Vec<Part<'c, 's>>,
) -> Option<()> {
    match cond {
        Cond::All(inner) => inner.iter().try_for_each(|each| split(scan, each, view, parts)),
        Cond::Holder(holder) => {
            // The process that comes closest to what the rule asks for.
            let best = view
                .observation
                .owners()
                .map(|owner| of_holder(holder, View { owner: Some(owner), ..view }))
                .min_by_key(|parts| parts.iter().filter(|part| is_false(scan, part)).count())?;
            parts.extend(best);
            Some(())
        }
        Cond::Any(_) | Cond::Not(_) | Cond::Leaf(_) | Cond::Group(_) => {
            parts.push(Part { cond: Clause::Cond(cond), view });
            Some(())
        }
    }
}

fn of_holder<'c, 's>(holder: &'c HolderCond, view: View<'s>) -> Vec<Part<'c, 's>> {
    let mut clauses: Vec<Clause<'c>> = Vec::new();
    match &holder.process {
        Some(Cond::All(inner)) => clauses.extend(inner.iter().map(Clause::Cond)),
        Some(cond) => clauses.push(Clause::Cond(cond)),
        None => {}
    }
    clauses.extend(holder.others.iter().map(Clause::Group));
    clauses.into_iter().map(|cond| Part { cond, view }).collect()
}

fn is_false(scan: &Scan<'_>, part: &Part<'_, '_>) -> bool {
    Truth::False
        == match part.cond {
            Clause::Cond(cond) => scan.cond(cond, part.view),
            Clause::Group(group) => scan.group(group, part.view),
        }
}

/// Whether a condition says something of this very socket or program, so that its truth makes
/// the rule worth a mention.
fn tells(clause: Clause<'_>) -> bool {
    match clause {
        Clause::Cond(Cond::Leaf(leaf)) => leaf.key.is_identity() && !leaf.test.yes.is_empty(),
        Clause::Cond(Cond::Any(parts)) => parts.iter().any(|part| is_kind(Clause::Cond(part))),
        Clause::Group(_) | Clause::Cond(Cond::Group(_)) => true,
        Clause::Cond(Cond::All(_) | Cond::Not(_) | Cond::Holder(_)) => false,
    }
}

/// Whether a condition only says which socket or program the rule is about.
fn is_kind(clause: Clause<'_>) -> bool {
    match clause {
        Clause::Cond(Cond::Leaf(leaf)) => leaf.key.is_identity() || leaf.key.is_structure(),
        Clause::Cond(Cond::Any(parts) | Cond::All(parts)) => {
            parts.iter().any(|part| is_kind(Clause::Cond(part)))
        }
        Clause::Cond(Cond::Not(inner)) => is_kind(Clause::Cond(inner)),
        Clause::Cond(Cond::Holder(holder)) => {
            holder.process.as_ref().is_some_and(|process| is_kind(Clause::Cond(process)))
        }
        Clause::Group(_) | Clause::Cond(Cond::Group(_)) => false,
    }
}

fn first_line(cond: &Cond) -> Option<(String, std::ops::Range<usize>)> {
    let mut first = None;
    super::verify::lines(cond, &mut |name, span| {
        first.get_or_insert((name, span));
    });
    first
}
