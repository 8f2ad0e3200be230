//! Whole rules, from text to verdict.

use std::sync::Arc;

use super::{Rule, RuleSet, compile};
use crate::model::Problem;

/// The rule that the page about the format shows.
fn page() -> String {
    let text = include_str!("../../rules/README.md");
    text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

fn rule(text: &str) -> Result<Rule, Vec<Problem>> {
    compile("rules/a-rule.toml", Arc::from(text), true)
}

/// A rule with this condition, whose severity is one word.
fn when(when: &str) -> Result<Rule, Vec<Problem>> {
    rule(&format!("title = \"t\"\nseverity = \"low\"\nconfidence = \"high\"\nwhy = \"w\"\n[when]\n{when}\n"))
}

fn told(found: Result<Rule, Vec<Problem>>) -> String {
    let Err(problems) = found else { return "no problem".to_owned() };
    problems
        .iter()
        .map(|problem| {
            let at = problem.span.as_ref().map_or("", |span| &problem.source[span.clone()]);
            let help = problem.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("[{at}] {}{help}", problem.message)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_rule_on_the_page_about_the_format_is_sound() {
    let rule = rule(&page()).unwrap();
    let set = RuleSet::of(vec![rule], Vec::new());
    let verified = set.verify();
    assert_eq!(verified.failures, []);
    assert_eq!(verified.examples, 2);
}

/// Problems as a person can read them in a failed test: place, message, help.
fn lines(problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let at = problem.span.as_ref().map_or(0, |span| problem.source[..span.start].lines().count());
        format!("{}:{at}: {}; {}", problem.file, problem.message, problem.help.as_deref().unwrap_or("-"))
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_shipped_rule_behaves_as_its_examples_say() {
    let set = RuleSet::load(&[]).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let verified = set.verify();
    assert!(verified.failures.is_empty(), "{}", lines(&verified.failures));
}

#[test]
fn lint_has_nothing_to_say_of_the_shipped_rules() {
    let advice = RuleSet::builtin().lint();
    assert!(advice.is_empty(), "{}", lines(&advice));
}
