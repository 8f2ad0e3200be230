//! The rules in force, and what they say.

use std::path::Path;
use std::time::Instant;

use super::errors::Faults;
use super::session::{Session, Subject};
use crate::finding::{Remedy, Suppressions};
use crate::model::{Reach, SocketIndex};
use crate::output::{Explained, Outcome, RuleRow, Trace};
use crate::rules::{Rule, RuleSet};
use crate::{firewall, scan};

impl Session {
    /// The built-in rules and those of the configuration.
    pub(crate) fn rules(&self) -> anyhow::Result<RuleSet> {
        RuleSet::load(&self.settings.rules).map_err(|problems| Faults(problems).into())
    }

    pub(crate) fn suppressions(&self) -> anyhow::Result<Suppressions> {
        Suppressions::load(&self.settings.suppressions).map_err(|problems| Faults(problems).into())
    }

    pub(crate) fn judge(&self, subject: &mut Subject, rules: &RuleSet) -> anyhow::Result<()> {
        let suppressions = self.suppressions()?;
        let started = Instant::now();
        subject.report = scan::judge(&mut subject.snapshot, self.settings.upstream(), rules, &suppressions);
        self.console.detail(&format!(
            "{} rules, {} findings in {:.1} ms",
            rules.rules().len(),
            subject.report.findings.len(),
            started.elapsed().as_secs_f64() * 1e3,
        ));
        Ok(())
    }

    /// The rules as outputs know them.
    pub(crate) fn rule_rows(&self, rules: &RuleSet) -> Vec<RuleRow> {
        for each in rules.overrides() {
            self.console.notice(&format!("{} stands in for the rule {}", each.file, each.rule));
        }
        rules.rules().iter().map(row).collect()
    }
}

impl Subject {
    /// What the rules and the firewall say of each selected socket.
    pub(crate) fn explain(&self, selection: &[SocketIndex]) -> Vec<Explained> {
        selection
            .iter()
            .map(|&socket| {
                let concerns = |sockets: &[SocketIndex]| sockets.contains(&socket);
                let found = self.report.findings.iter().filter(|finding| concerns(&finding.sockets));
                let mut remedies: Vec<Remedy> = Vec::new();
                let mut rules = Vec::new();
                for finding in found {
                    remedies.extend(
                        finding
                            .remedies
                            .iter()
                            .filter(|each| !remedies.contains(each))
                            .cloned()
                            .collect::<Vec<_>>(),
                    );
                    rules.push(Trace {
                        rule: finding.rule.clone(),
                        title: finding.title.clone(),
                        severity: finding.severity,
                        outcome: Outcome::Matched,
                    });
                }
                remedies.extend(
                    firewall::suggest::remedies(&self.snapshot, &[socket])
                        .into_iter()
                        .filter(|each| !remedies.contains(each))
                        .collect::<Vec<_>>(),
                );
                Explained { socket, rules, remedies }
            })
            .collect()
    }
}

fn row(rule: &Rule) -> RuleRow {
    let by_reach: Vec<_> = Reach::ALL.iter().map(|&reach| (reach, rule.severity(Some(reach)))).collect();
    let alike = by_reach.iter().all(|(_, severity)| *severity == rule.worst());
    let folder = Path::new(&rule.file).parent().and_then(Path::file_name).unwrap_or_default();
    RuleRow {
        id: rule.id().to_owned(),
        pack: folder.to_string_lossy().into_owned(),
        title: rule.words.title.clone(),
        severity: rule.worst(),
        by_reach: if alike { Vec::new() } else { by_reach },
        confidence: rule.words.confidence,
        why: rule.words.why.clone(),
        references: rule.words.references.clone(),
        file: (!rule.builtin).then(|| rule.file.clone()),
    }
}
