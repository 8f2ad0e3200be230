//! What is not wrong with rules, but could be better: no fix, no reference, no example, a rule that
//! another one makes needless, names that are taken for each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::condition::Cond;
use super::reader::distance;
use super::{Rule, RuleSet, outline};
use crate::model::Problem;

impl RuleSet {
    /// Advice on each rule, in the order of their ids.
    pub fn lint(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for rule in self.rules() {
            alone(rule, &mut found);
        }
        for clash in outline::clashes(self.rules()) {
            found.push(advice(clash.rule, &clash.message, clash.help));
        }
        let outlines: Vec<Outline<'_>> = self.rules().map(Outline::new).collect();
        for (index, one) in outlines.iter().enumerate() {
            for other in &outlines[..index] {
                pair(one, other, &mut found);
            }
        }
        found
    }
}

/// What rules are compared by.
struct Outline<'r> {
    rule: &'r Rule,
    title: String,
    demands: BTreeSet<String>,
}

impl<'r> Outline<'r> {
    fn new(rule: &'r Rule) -> Self {
        let mut demands = BTreeSet::new();
        gather(&rule.when, &mut demands);
        Self { rule, title: rule.words.title.to_lowercase(), demands }
    }
}

fn alone(rule: &Rule, found: &mut Vec<Problem>) {
    if rule.remedies.is_empty() {
        found.push(advice(rule, "the rule has no remedy", "add a `[[remedy]]` with the exact commands"));
    }
    for remedy in &rule.remedies {
        if !remedy.commands.is_empty() && remedy.undo.is_empty() && remedy.kind != "service" {
            let message = format!("the remedy `{}` cannot be taken back", remedy.title.written);
            found.push(advice(rule, &message, "add `undo`"));
        }
        if !remedy.commands.is_empty() && remedy.verify.is_none() {
            let message =
                format!("the remedy `{}` does not say how to see that it worked", remedy.title.written);
            found.push(advice(rule, &message, "add `verify`"));
        }
    }
    if rule.words.references.is_empty() {
        found.push(advice(rule, "the rule has no reference", "add `references`"));
    }
    let examples = rule.examples().unwrap_or_default();
    if !examples.iter().any(|example| example.fires) {
        found.push(advice(rule, "the rule has no `[[fires]]`", "add an example that fires"));
    }
    if !examples.iter().any(|example| !example.fires) {
        found.push(advice(rule, "the rule has no `[[quiet]]`", "add an example that its fix makes quiet"));
    }
}

fn pair(one: &Outline<'_>, other: &Outline<'_>, found: &mut Vec<Problem>) {
    if alike(one.rule.id(), other.rule.id()) {
        let message = format!("the name is easily taken for `{}`", other.rule.id());
        found.push(advice(one.rule, &message, "choose a name that differs in a word"));
    }
    if one.title == other.title {
        let message = format!("the title is that of `{}`", other.rule.id());
        found.push(advice(one.rule, &message, "say what is different"));
    }
    if one.demands == other.demands {
        let message = format!("it asks for the same as `{}`", other.rule.id());
        return found.push(advice(one.rule, &message, "make one of the two"));
    }
    for (wide, narrow) in [(one, other), (other, one)] {
        if wide.demands.is_subset(&narrow.demands) {
            let wide = wide.rule.id();
            let message = format!("whenever this rule fires, `{wide}` fires too");
            let help = format!("exclude it there with `not`, or name a fact that `{wide}` lacks");
            found.push(advice(narrow.rule, &message, &help));
        }
    }
}

/// Whether two names have the same words, or words of five letters and more that differ in one.
fn alike(a: &str, b: &str) -> bool {
    let (mut a, mut b): (Vec<&str>, Vec<&str>) = (a.split('-').collect(), b.split('-').collect());
    let slip = |(a, b): (&&str, &&str)| a == b || a.len().min(b.len()) >= 5 && distance(a, b) <= 1;
    let in_order = a.len() == b.len() && a.iter().zip(&b).all(slip);
    a.sort_unstable();
    b.sort_unstable();
    in_order || a == b
}

/// What must hold at once, each as a text that is the same for the same demand.
fn gather(cond: &Cond, found: &mut BTreeSet<String>) {
    match cond {
        Cond::All(parts) => parts.iter().for_each(|part| gather(part, found)),
        Cond::Leaf(leaf) => {
            found.insert(format!("{:?} {:?}", leaf.key, leaf.test));
        }
        Cond::Any(_) | Cond::Not(_) | Cond::Holder(_) | Cond::Group(_) => {
            found.insert(text(cond));
        }
    }
}

/// A condition as text without its places in the file.
fn text(cond: &Cond) -> String {
    let all = |parts: &[Cond]| {
        let texts: BTreeSet<String> = parts.iter().map(text).collect();
        texts.into_iter().collect::<Vec<_>>().join(" ")
    };
    let group = |group: &super::condition::Group| {
        let inner = group.cond.as_ref().map_or_else(String::new, text);
        format!("{:?} {:?} {:?} [{inner}]", group.kind, group.count, group.differs)
    };
    match cond {
        Cond::All(parts) => format!("all({})", all(parts)),
        Cond::Any(parts) => format!("any({})", all(parts)),
        Cond::Not(inner) => format!("not({})", text(inner)),
        Cond::Leaf(leaf) => format!("{:?} {:?}", leaf.key, leaf.test),
        Cond::Holder(holder) => {
            let process = holder.process.as_ref().map_or_else(String::new, text);
            let others: Vec<String> = holder.others.iter().map(group).collect();
            format!("holder({process} {})", others.join(" "))
        }
        Cond::Group(inner) => group(inner),
    }
}

fn advice(rule: &Rule, message: &str, help: &str) -> Problem {
    Problem {
        file: rule.file.clone(),
        source: Arc::clone(&rule.source),
        span: None,
        message: message.to_owned(),
        help: Some(help.to_owned()),
    }
}
