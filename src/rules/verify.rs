//! Runs the examples of rules: do they fire and stay quiet as they say, and is every condition
//! seen both true and false?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::{Cond, Group};
use super::example::{Example, JUDGED};
use super::facts::View;
use super::index::{Entry, Found, Index};
use super::matcher::Scan;
use super::pattern::Truth;
use super::reader::shorten;
use super::verdict::{Said, Verdict};
use super::{Rule, RuleSet, service};
use crate::model::{Observation, Problem, Reach};

/// What the examples of some rules show.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct Verified {
    pub rules: usize,
    pub examples: usize,
    /// Lines of conditions, each of which should be seen true and false.
    pub conditions: usize,
    /// Examples that do not behave as they say, and rules without any.
    pub failures: Vec<Problem>,
    /// Conditions that every example answers alike.
    pub uncovered: Vec<Uncovered>,
}

/// A condition that no example shows from both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uncovered {
    pub rule: String,
    /// `process.name = "nginx"`
    pub condition: String,
    /// What no example makes of it: `true` or `false`.
    pub never: bool,
    /// Its place in the rule's file.
    pub problem: Problem,
}

impl RuleSet {
    /// Runs the examples of every rule.
    pub fn verify(&self) -> Verified {
        let mut sum = Verified::default();
        for rule in self.rules() {
            let one = verify(rule);
            sum.rules += one.rules;
            sum.examples += one.examples;
            sum.conditions += one.conditions;
            sum.failures.extend(one.failures);
            sum.uncovered.extend(one.uncovered);
        }
        sum
    }
}

fn verify(rule: &Rule) -> Verified {
    let examples = match rule.examples() {
        Ok(examples) => examples,
        Err(failures) => return Verified { rules: 1, failures, ..Verified::default() },
    };
    let made = rule.service().map_or_else(Vec::new, |origin| service::made(&rule.file, origin));
    let count = examples.len() + made.len();
    let mut found = Verified { rules: 1, examples: count, ..Verified::default() };
    for (fires, what) in [(true, "[[fires]]"), (false, "[[quiet]]")] {
        if !examples.iter().any(|example| example.fires == fires) {
            found.failures.push(problem(rule, None, format!("the rule has no {what} example"), None));
        }
    }
    let index = Index::new([Entry::Rule(rule)].into_iter());
    let mut coverage = Coverage::default();
    for example in examples.iter().chain(&made) {
        found.failures.extend(run(rule, &index, example));
        let scan = Scan::new(&example.snapshot);
        let view = View { observation: example.snapshot.observe(JUDGED), owner: None };
        coverage.cond(&scan, &rule.when, view);
        if let Some(guess) = &rule.probably {
            coverage.cond(&scan, &guess.when, view);
        }
    }
    found.uncovered = coverage.gaps(rule);
    lines(&rule.when, &mut |_, _| found.conditions += 1);
    if let Some(guess) = &rule.probably {
        lines(&guess.when, &mut |_, _| found.conditions += 1);
    }
    found
}

fn run(rule: &Rule, index: &Index, example: &Example) -> Option<Problem> {
    let scan = Scan::new(&example.snapshot);
    let observation = example.snapshot.observe(JUDGED);
    let mut candidates = Vec::new();
    index.candidates(observation, &mut Found::default(), &mut candidates);
    let verdict = if candidates.is_empty() { Verdict::Quiet } else { rule.judge(&scan, observation) };
    let name = shorten(&example.name);
    let (message, help) = match (verdict, example.fires) {
        (Verdict::Quiet, false) => return None,
        (Verdict::Fires(said), true) => return wrong_severity(rule, said, example, observation),
        (Verdict::Quiet, true) => {
            let because = scan.refuting(&rule.when, observation).join(", ");
            (format!("`{name}` should fire, and is quiet"), format!("because of {because}"))
        }
        (Verdict::Fires(said), false) => {
            let because = scan.deciding(said.when, observation).join(", ");
            (format!("`{name}` should be quiet, and fires"), format!("because of {because}"))
        }
        (Verdict::Undecided(when), _) => {
            let missing = scan.missing(when, observation).join(", ");
            (format!("`{name}` cannot be decided"), format!("give the example these facts: {missing}"))
        }
    };
    Some(problem(rule, Some(example), message, Some(help)))
}

fn wrong_severity(
    rule: &Rule,
    said: Said<'_>,
    example: &Example,
    observation: Observation<'_>,
) -> Option<Problem> {
    let wanted = example.severity?;
    let reach = observation.socket.exposure.as_ref().map(|exposure| exposure.reach);
    let found = said.severity(reach);
    let class = reach.map_or("none", Reach::name);
    let message =
        format!("`{}` should be {}, and is {}", shorten(&example.name), wanted.name(), found.name());
    (found != wanted).then(|| problem(rule, Some(example), message, Some(format!("its reach is {class}"))))
}

fn problem(rule: &Rule, example: Option<&Example>, message: String, help: Option<String>) -> Problem {
    // What a service file stands for has places of its own.
    let span = example.map(|example| example.span.clone()).filter(|_| rule.service().is_none());
    Problem { file: rule.file.clone(), source: Arc::clone(&rule.source), span, message, help }
}

/// For each condition, by its place in the file: whether it was seen true, and false.
#[derive(Default)]
struct Coverage(BTreeMap<usize, (bool, bool)>);

impl Coverage {
    fn note(&mut self, place: usize, truth: Truth) {
        let seen = self.0.entry(place).or_default();
        seen.0 |= truth == Truth::True;
        seen.1 |= truth == Truth::False;
    }

    /// Asks every part, also those that the answer does not hang on.
    fn cond<'s>(&mut self, scan: &Scan<'s>, cond: &Cond, view: View<'s>) {
        match cond {
            Cond::All(parts) | Cond::Any(parts) => parts.iter().for_each(|part| self.cond(scan, part, view)),
            Cond::Not(inner) => self.cond(scan, inner, view),
            Cond::Leaf(leaf) => self.note(leaf.span.start, scan.leaf(leaf, view)),
            Cond::Holder(holder) => {
                for owner in view.observation.owners() {
                    let view = View { owner: Some(owner), ..view };
                    if let Some(process) = &holder.process {
                        self.cond(scan, process, view);
                    }
                    holder.others.iter().for_each(|group| self.group(scan, group, view));
                }
            }
            Cond::Group(group) => self.group(scan, group, view),
        }
    }

    fn group<'s>(&mut self, scan: &Scan<'s>, group: &Group, view: View<'s>) {
        self.note(group.span.start, scan.group(group, view));
        let Some(inner) = &group.cond else { return };
        for other in scan.snapshot.observations().filter(|other| other.index != view.observation.index) {
            self.cond(scan, inner, View { observation: other, owner: None });
        }
    }

    fn gaps(&self, rule: &Rule) -> Vec<Uncovered> {
        let mut found = Vec::new();
        let mut each = |name: String, span: std::ops::Range<usize>| {
            let (yes, no) = self.0.get(&span.start).copied().unwrap_or_default();
            if yes && no {
                return;
            }
            let value = rule.source.get(span.clone()).unwrap_or_default();
            let condition =
                format!("{name} = {}", shorten(&value.split_whitespace().collect::<Vec<_>>().join(" ")));
            let message = format!("no example makes `{condition}` {}", !yes);
            let problem = Problem {
                file: rule.file.clone(),
                source: Arc::clone(&rule.source),
                span: Some(span),
                message,
                help: None,
            };
            found.push(Uncovered { rule: rule.id().to_owned(), condition, never: !yes, problem });
        };
        lines(&rule.when, &mut each);
        if let Some(guess) = &rule.probably {
            lines(&guess.when, &mut |name, span| each(format!("probably.{name}"), span));
        }
        found
    }
}

/// Every line of a condition with its full name and its place, those within groups included.
pub(super) fn lines(cond: &Cond, each: &mut dyn FnMut(String, std::ops::Range<usize>)) {
    match cond {
        Cond::All(parts) | Cond::Any(parts) => parts.iter().for_each(|part| lines(part, each)),
        Cond::Not(inner) => lines(inner, each),
        Cond::Leaf(leaf) => each(leaf.key.full_name(), leaf.span.clone()),
        Cond::Holder(holder) => {
            holder.process.iter().for_each(|process| lines(process, each));
            holder.others.iter().for_each(|group| group_lines(group, each));
        }
        Cond::Group(group) => group_lines(group, each),
    }
}

fn group_lines(group: &Group, each: &mut dyn FnMut(String, std::ops::Range<usize>)) {
    let name = group.kind.name();
    each(name.to_owned(), group.span.clone());
    if let Some(cond) = &group.cond {
        lines(cond, &mut |inner, span| each(format!("{name}.{inner}"), span));
    }
}
