//! A rule for a reader: one Markdown page from the same fields that judge.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::condition::{Cond, Group};
use super::remedy::{Line, Template};
use super::schema::REFERENCES;
use super::{Rule, RuleSet};
use crate::finding::Severity;

impl Rule {
    /// The page of this rule: what, why, how it is decided, what puts it right, references.
    pub fn describe(&self) -> String {
        let mut page = format!("# {}\n\n", self.words.title);
        let severity = if self.named.is_empty() {
            self.worst().name().to_owned()
        } else {
            let classes = self.named.iter().rev();
            let each =
                classes.map(|reach| format!("{} ({})", self.severity(Some(*reach)).name(), reach.name()));
            each.collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(
            page,
            "Rule `{}` · severity {severity} · confidence {}\n",
            self.id(),
            self.words.confidence.name()
        );
        let _ = writeln!(page, "{}\n", self.words.why);
        let _ = writeln!(page, "## How it is decided\n");
        self.bullets(&self.when, 0, "", &mut page);
        if let Some(guess) = &self.probably {
            let worst = guess.severities.iter().copied().max().unwrap_or(Severity::Info);
            let (title, confidence) = (&guess.words.title, guess.words.confidence.name());
            let _ = writeln!(
                page,
                "\nWhere that does not hold, \"{title}\" is said, at worst {} with {confidence} confidence, if:\n",
                worst.name()
            );
            self.bullets(&guess.when, 0, "", &mut page);
        }
        self.list_examples(&mut page);
        if !self.remedies.is_empty() {
            let _ = writeln!(page, "\n## What puts it right");
            self.remedies.iter().for_each(|remedy| describe_remedy(remedy, &mut page));
        }
        if !self.words.references.is_empty() {
            let _ = writeln!(page, "\n## References\n");
            self.words.references.iter().for_each(|reference| describe_reference(reference, &mut page));
        }
        page
    }

    /// What must hold, one line each; `prefix` is the table that a line stands in.
    fn bullets(&self, cond: &Cond, depth: usize, prefix: &str, page: &mut String) {
        let indent = "  ".repeat(depth);
        match cond {
            Cond::All(parts) if depth == 0 => {
                parts.iter().for_each(|part| self.bullets(part, depth, prefix, page))
            }
            Cond::All(parts) => self.heading("all of:", parts, depth, prefix, page),
            Cond::Any(parts) => self.heading("one of:", parts, depth, prefix, page),
            Cond::Not(inner) => self.heading("not:", std::slice::from_ref(&**inner), depth, prefix, page),
            Cond::Leaf(leaf) => {
                let value = self.written(leaf.span.clone());
                let _ = writeln!(page, "{indent}- `{prefix}{} = {value}`", leaf.key.full_name());
            }
            Cond::Holder(holder) => {
                let inner = if holder.process.is_some()
                    && depth == 0
                    && !matches!(holder.process, Some(Cond::All(_)))
                {
                    depth
                } else {
                    depth + 1
                };
                if inner > depth {
                    let _ = writeln!(page, "{indent}- of one process that holds it:");
                }
                match &holder.process {
                    Some(Cond::All(parts)) => {
                        parts.iter().for_each(|part| self.bullets(part, inner, prefix, page))
                    }
                    Some(process) => self.bullets(process, inner, prefix, page),
                    None => {}
                }
                holder.others.iter().for_each(|group| self.group(group, inner, page));
            }
            Cond::Group(group) => self.group(group, depth, page),
        }
    }

    fn heading(&self, words: &str, parts: &[Cond], depth: usize, prefix: &str, page: &mut String) {
        let _ = writeln!(page, "{}- {words}", "  ".repeat(depth));
        parts.iter().for_each(|part| self.bullets(part, depth + 1, prefix, page));
    }

    fn group(&self, group: &Group, depth: usize, page: &mut String) {
        let _ = writeln!(
            page,
            "{}- `{} = {}`",
            "  ".repeat(depth),
            group.kind.name(),
            self.written(group.span.clone())
        );
    }

    /// A value as its author wrote it, on one line.
    fn written(&self, span: std::ops::Range<usize>) -> String {
        let value = self.source.get(span).unwrap_or_default();
        value.split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "'")
    }

    fn list_examples(&self, page: &mut String) {
        let Ok(examples) = self.examples() else { return };
        for (fires, words) in [(true, "It fires"), (false, "It stays quiet")] {
            let names: Vec<&str> =
                examples.iter().filter(|each| each.fires == fires).map(|each| each.name.as_str()).collect();
            if !names.is_empty() {
                let _ = writeln!(page, "\n{words}: {}.", names.join("; "));
            }
        }
    }
}

impl RuleSet {
    /// The list of all rules by the folder of their files, with a link to the page of each.
    pub fn describe(&self) -> String {
        let mut packs: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
        for rule in self.rules() {
            let folder = rule.file.rsplit_once('/').map_or("", |(folder, _)| folder);
            packs.entry(folder.rsplit('/').next().unwrap_or(folder)).or_default().push(rule);
        }
        let mut page = format!("# Rules\n\n{} rules; [what they cover](coverage.md).\n", self.len());
        for (pack, rules) in packs {
            let _ = writeln!(
                page,
                "\n## {pack} ({})\n\n| rule | what it finds | at worst |\n| --- | --- | --- |",
                rules.len()
            );
            for rule in rules {
                let title = rule.words.title.replace('|', "\\|");
                let _ = writeln!(page, "| [{0}]({0}.md) | {title} | {1} |", rule.id(), rule.worst().name());
            }
        }
        page
    }
}

fn describe_remedy(remedy: &Template, page: &mut String) {
    let _ = writeln!(page, "\n### {} ({})\n", remedy.title.written, remedy.kind);
    let block =
        |lines: &[Line]| lines.iter().map(|line| line.written.as_str()).collect::<Vec<_>>().join("\n");
    if !remedy.commands.is_empty() {
        let _ = writeln!(page, "```sh\n{}\n```", block(&remedy.commands));
    }
    if let Some(verify) = &remedy.verify {
        let _ = writeln!(page, "\nTo see that it worked: `{}`", verify.written);
    }
    if !remedy.undo.is_empty() {
        let _ = writeln!(page, "\nTo take it back:\n\n```sh\n{}\n```", block(&remedy.undo));
    }
    if let Some(note) = &remedy.note {
        let _ = writeln!(page, "\n{}", note.written);
    }
}

fn describe_reference(reference: &str, page: &mut String) {
    let _ = match reference.split_once(':') {
        Some(("attack", id)) => {
            writeln!(page, "- [ATT&CK {id}](https://attack.mitre.org/techniques/{}/)", id.replace('.', "/"))
        }
        Some(("cve", id)) => writeln!(page, "- [{id}](https://www.cve.org/CVERecord?id={id})"),
        Some(("cwe", id)) => writeln!(page, "- [CWE-{id}](https://cwe.mitre.org/data/definitions/{id}.html)"),
        Some(("rfc", id)) => writeln!(page, "- [RFC {id}](https://www.rfc-editor.org/rfc/rfc{id})"),
        Some((form, id)) if REFERENCES.contains(&form) => writeln!(page, "- {form}: {id}"),
        Some(_) | None => writeln!(page, "- <{reference}>"),
    };
}
