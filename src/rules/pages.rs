//! The pages of `docs/rules/`: one a rule, a list of all, and what other catalogues list beside what
//! the rules refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Rule, RuleSet};

/// Form, name and words of what other catalogues list.
const CATALOGUES: &str = include_str!("catalogues.tsv");
/// Catalogues in the table, with their names.
const FORMS: [(&str, &str); 3] = [
    ("shadowserver", "Reports of the Shadowserver Foundation"),
    ("prowler", "Port checks of Prowler"),
    ("cis", "Network items of the CIS benchmark for Debian 12"),
];

impl RuleSet {
    /// Name and text of every page.
    pub fn pages(&self) -> Vec<(String, String)> {
        let mut pages: Vec<_> =
            self.rules().map(|rule| (format!("{}.md", rule.id()), rule.describe() + FOOT)).collect();
        pages.push(("README.md".to_owned(), self.describe()));
        pages.push(("coverage.md".to_owned(), self.coverage()));
        pages
    }

    /// Which entries of other catalogues some rule refers to, and which none does.
    pub fn coverage(&self) -> String {
        let mut page = "# What the rules cover\n\nMade from the references of the rules: an entry is covered when a rule names it.\n".to_owned();
        let known = self.references();
        for (form, words) in FORMS {
            table(&known, form, words, &mut page);
        }
        let attack: Vec<_> = known.iter().filter(|(reference, _)| reference.starts_with("attack:")).collect();
        let _ = writeln!(
            page,
            "\n## Techniques of MITRE ATT&CK ({})\n\n| technique | rules |\n| --- | --- |",
            attack.len()
        );
        for (reference, rules) in attack {
            let id = reference.trim_start_matches("attack:");
            let url = format!("https://attack.mitre.org/techniques/{}/", id.replace('.', "/"));
            let _ = writeln!(page, "| [{id}]({url}) | {} |", links(rules, 12));
        }
        page + FOOT
    }

    /// Rules by what they refer to.
    fn references(&self) -> BTreeMap<&str, Vec<&Rule>> {
        let mut known: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
        for rule in self.rules() {
            for reference in rule.words.references.iter().collect::<BTreeSet<_>>() {
                known.entry(reference).or_default().push(rule);
            }
        }
        known
    }
}

const FOOT: &str = "\n<!-- Made from the rules: SOCKWARDEN_BLESS=1 cargo test --test suite rules -->\n";

fn table(known: &BTreeMap<&str, Vec<&Rule>>, form: &str, words: &str, page: &mut String) {
    let entries: Vec<(&str, &str)> = CATALOGUES
        .lines()
        .filter_map(|line| line.strip_prefix(form)?.strip_prefix('\t')?.split_once('\t'))
        .collect();
    let none = Vec::new();
    let of = |name: &str| known.get(&*format!("{form}:{name}")).unwrap_or(&none);
    let covered = entries.iter().filter(|(name, _)| !of(name).is_empty()).count();
    let _ = writeln!(
        page,
        "\n## {words}: {covered} of {}\n\n| entry | about | rules |\n| --- | --- | --- |",
        entries.len()
    );
    for (name, about) in entries {
        let _ = writeln!(page, "| `{name}` | {about} | {} |", links(of(name), 12));
    }
}

fn links(rules: &[&Rule], most: usize) -> String {
    let shown: Vec<String> =
        rules.iter().take(most).map(|rule| format!("[{0}]({0}.md)", rule.id())).collect();
    match (shown.is_empty(), rules.len().saturating_sub(most)) {
        (true, _) => "–".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
