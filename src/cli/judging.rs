//! The rules in force, and what they say.

use std::path::Path;
use std::time::Instant;

use super::args::{Judging, Manner, Sight};
use super::errors::Faults;
use super::exit::{Exit, Threshold};
use super::session::{Session, Subject};
use crate::finding::{Finding, Remedy, Report, Suppressions};
use crate::model::{Asking, Inquiry, Observation, Protocol, Reach, SocketIndex, Wants, counted};
use crate::output::{Explained, Outcome, Question, RuleRow, Trace, View};
use crate::rules::{self, Rule, RuleSet};
use crate::{firewall, scan};

/// A machine that the rules have judged, and the part of it that somebody asked about.
pub(crate) struct Judged {
    pub(crate) session: Session,
    pub(crate) rules: RuleSet,
    pub(crate) subject: Subject,
    pub(crate) selection: Vec<SocketIndex>,
    strict: bool,
    report: Report,
    question: Question,
    rows: Vec<RuleRow>,
}

impl Judged {
    /// Looks, asks every rule, and keeps what `wanted` lets through; `protocols` are those that can
    /// be among it, `texts` says whether the words of the packet filter's rules will be shown.
    pub(crate) fn open(
        manner: &Manner,
        judging: &Judging,
        sight: &Sight,
        protocols: Option<Vec<Protocol>>,
        texts: bool,
        wanted: impl Fn(&Observation<'_>) -> bool,
    ) -> anyhow::Result<Self> {
        let session = Session::open(manner, &judging.ground)?;
        let scope = session.sight(sight);
        let rules = session.rules()?;
        let mut subject = session.look(&scope, scope.wants(Wants { texts, ..Wants::EVERYTHING }))?;
        session.judge(&mut subject, &rules)?;
        let selection = subject.select(&scope, wanted);
        let (report, rows) = (subject.report_on(&selection), session.rows_asked(&rules));
        let question = Question { protocols, ..scope.question() };
        Ok(Self { session, rules, subject, selection, strict: scope.strict, report, question, rows })
    }

    pub(crate) fn view(&self) -> View<'_> {
        self.subject.view(&self.report, &self.selection, &self.question, &self.rows)
    }

    /// What the rules and the firewall say of each selected socket.
    pub(crate) fn explain(&mut self, asking: Option<&Asking>) -> Vec<Explained> {
        let upstream = self.session.settings.upstream();
        let inquiries = firewall::inquire(&mut self.subject.snapshot, &self.selection, upstream, asking);
        let sockets = self.selection.iter().zip(inquiries);
        sockets.map(|(&socket, inquiry)| self.subject.explain(socket, inquiry, &self.rules)).collect()
    }

    pub(crate) fn end(&self, threshold: Option<Threshold>) -> Exit {
        self.session.end(&self.view(), threshold, self.strict)
    }
}

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
        subject.settle();
        self.console.detail(&format!(
            "{}, {} in {:.1} ms",
            counted(rules.len(), "rule"),
            counted(subject.report.findings.len(), "finding"),
            started.elapsed().as_secs_f64() * 1e3,
        ));
        Ok(())
    }

    /// The rules as outputs know them.
    pub(crate) fn rule_rows(&self, rules: &RuleSet) -> Vec<RuleRow> {
        self.tell_overrides(rules);
        rules.rules().map(row).collect()
    }

    /// Those that this machine gave a reason to ask: services of which it has neither the port nor
    /// the program stay uncompiled.
    pub(crate) fn rows_asked(&self, rules: &RuleSet) -> Vec<RuleRow> {
        self.tell_overrides(rules);
        rules.asked().map(row).collect()
    }

    fn tell_overrides(&self, rules: &RuleSet) {
        for each in rules.overrides() {
            self.console.notice(&format!("{} stands in for the rule {}", each.file, each.rule));
        }
    }
}

impl Subject {
    fn explain(&self, socket: SocketIndex, inquiry: Inquiry, rules: &RuleSet) -> Explained {
        let seen = self.snapshot.observe(socket);
        let reach = seen.socket.exposure.as_ref().map(|exposure| exposure.reach);
        let rules = rules.explain(seen).into_iter().map(|each| trace(each, reach)).collect();
        Explained { socket, inquiry, rules, remedies: self.remedies(socket) }
    }

    /// Those of the findings about this socket, then what closes it whatever it is; each once.
    fn remedies(&self, socket: SocketIndex) -> Vec<Remedy> {
        let about = |finding: &&Finding| finding.sockets.contains(&socket);
        let found = self.report.findings.iter().filter(about).flat_map(|finding| finding.remedies.clone());
        let mut remedies: Vec<Remedy> = Vec::new();
        for remedy in found.chain(firewall::suggest::remedies(&self.snapshot, &[socket])) {
            if !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        remedies
    }
}

fn trace(explained: rules::Explained<'_>, reach: Option<Reach>) -> Trace {
    let rules::Explained { rule, outcome } = explained;
    let outcome = match outcome {
        rules::Outcome::Matched(_) => Outcome::Matched,
        rules::Outcome::Undecided(fields) => Outcome::Undecided { fields },
        rules::Outcome::Near { found, wanted } => Outcome::NearMiss { condition: wanted, found },
    };
    let severity = rule.severity(reach);
    Trace { rule: rule.id().to_owned(), title: rule.words.title.clone(), severity, outcome }
}

/// A rule as outputs know it.
pub(crate) fn row(rule: &Rule) -> RuleRow {
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
