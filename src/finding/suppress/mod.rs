//! What a person decided to live with: by fingerprint, or by rule and selectors; always with a
//! reason and a last day.
//!
//! ```toml
//! [[suppression]]
//! rule = "redis-exposed"
//! process = "redis-server"
//! port = [6379, "6380-6389"]
//! reason = "the cache of the test bench, reachable through the VPN alone"
//! until = 2027-01-31
//! ```
//!
//! A suppression holds for a finding when its rule is the same and **every** socket of the finding
//! fits every selector; of a finding with one socket more than was thought of, nothing is hidden.

mod read;
mod selector;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use self::selector::Selector;
use super::fingerprint::of_parts;
use super::{Confidence, Finding, Report, Severity, Suppressed, order};
use crate::model::{OwnerGap, Problem, Snapshot};

/// Places that a mark names before it only counts.
const NAMED: usize = 20;

/// Suppressions of one or more files, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct Suppressions(Vec<Suppression>);

#[derive(Clone, Debug)]
struct Suppression {
    what: What,
    reason: String,
    /// The last day on which it holds.
    until: Date,
    file: String,
    line: usize,
}

#[derive(Clone, Debug)]
enum What {
    Fingerprint(String),
    Rule { rule: String, named: Named, selectors: Vec<Selector> },
}

/// Where a file names a rule.
#[derive(Clone, Debug)]
struct Named {
    source: Arc<str>,
    span: Range<usize>,
}

impl Suppressions {
    /// Reads files, and every `*.toml` of folders, in the order of their names.
    ///
    /// # Errors
    /// Every fault of every file at once.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Vec<Problem>> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for path in paths {
            match read::texts(path) {
                Ok(texts) => {
                    for (file, text) in texts {
                        match Self::parse(&file, &text) {
                            Ok(more) => all.0.extend(more.0),
                            Err(more) => problems.extend(more),
                        }
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(all) } else { Err(problems) }
    }

    /// Reads the text of one file.
    ///
    /// # Errors
    /// Every fault of the file at once, each with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        read::parse(file, &Arc::from(text)).map(Self)
    }

    /// A problem for each suppression of a rule that is none of these: it can never fit anything.
    pub fn unknown_rules(&self, known: &[&str]) -> Vec<Problem> {
        let told = self.0.iter().filter_map(|each| {
            let What::Rule { rule, named, .. } = &each.what else { return None };
            (!known.contains(&rule.as_str())).then(|| Problem {
                file: each.file.clone(),
                source: Arc::clone(&named.source),
                span: Some(named.span.clone()),
                message: format!("there is no rule `{rule}`"),
                help: Some(read::nearest(rule, known).map_or_else(
                    || "`sockwarden rules list` names every rule".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                )),
            })
        });
        told.collect()
    }

    /// Marks what is suppressed, adds a finding for each suppression that is used by nothing or
    /// past its day (by the time of the snapshot, in UTC), and puts the report in order again.
    pub fn apply(&self, snapshot: &Snapshot, report: &mut Report) {
        let today = day(snapshot.taken_at);
        let mut about = Vec::new();
        for each in &self.0 {
            let expired = each.until < today;
            let mut used = false;
            let mut partly = None;
            for finding in &mut report.findings {
                match each.covers(snapshot, finding) {
                    Cover::All => used = true,
                    Cover::Some(sockets) => partly = partly.or(Some((finding.fingerprint.clone(), sockets))),
                    Cover::None => {}
                }
                if !expired
                    && finding.suppressed.is_none()
                    && matches!(each.covers(snapshot, finding), Cover::All)
                {
                    finding.suppressed = Some(each.mark(snapshot, finding));
                }
            }
            if expired {
                about.push(each.expired(used));
            } else if !used {
                about.push(each.unused(snapshot, partly));
            }
        }
        report.findings.extend(about);
        order(snapshot, &mut report.findings);
    }
}

fn day(nanoseconds: i64) -> Date {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default().to_zoned(TimeZone::UTC).date()
}

/// How much of a finding a suppression fits.
enum Cover {
    None,
    /// So many of its sockets, but not all.
    Some(usize),
    All,
}

impl Suppression {
    fn covers(&self, snapshot: &Snapshot, finding: &Finding) -> Cover {
        match &self.what {
            What::Fingerprint(fingerprint) if *fingerprint == finding.fingerprint => Cover::All,
            What::Rule { rule, selectors, .. } if *rule == finding.rule => {
                let fits = |at| selectors.iter().all(|selector| selector.fits(&snapshot.observe(at)));
                let fitting = finding.sockets.iter().filter(|at| fits(**at)).count();
                match fitting {
                    _ if fitting == finding.sockets.len() => Cover::All,
                    0 => Cover::None,
                    some => Cover::Some(some),
                }
            }
            What::Fingerprint(_) | What::Rule { .. } => Cover::None,
        }
    }

    /// Of several sockets the mark says which.
    fn mark(&self, snapshot: &Snapshot, finding: &Finding) -> Suppressed {
        let mut by = self.place();
        if finding.sockets.len() > 1 {
            let places: BTreeSet<String> =
                finding.sockets.iter().map(|at| super::group::place(&snapshot.observe(*at))).collect();
            let named: Vec<String> = places.iter().take(NAMED).cloned().collect();
            let more = if places.len() > NAMED { ", …" } else { "" };
            by += &format!(" (covers {} sockets: {}{more})", finding.sockets.len(), named.join(", "));
        }
        Suppressed { reason: self.reason.clone(), until: self.until.to_string(), by }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    fn subject(&self) -> String {
        match &self.what {
            What::Fingerprint(fingerprint) => format!("fingerprint {fingerprint}"),
            What::Rule { rule, selectors, .. } => {
                let words: Vec<String> = selectors.iter().map(|selector| format!(" {selector}")).collect();
                format!("rule {rule}{}", words.concat())
            }
        }
    }

    fn expired(&self, used: bool) -> Finding {
        let (severity, effect) = if used {
            (Severity::Medium, "what it covered counts again")
        } else {
            (Severity::Low, "nothing of what it covered is left")
        };
        let message = format!(
            "the suppression at {} ({}) ended on {}; {effect}",
            self.place(),
            self.subject(),
            self.until
        );
        let title = "A suppression is past its day";
        self.finding("suppression-expired", title, severity, message)
    }

    fn unused(&self, snapshot: &Snapshot, partly: Option<(String, usize)>) -> Finding {
        let mut message = format!("the suppression at {} ({}) fits no finding", self.place(), self.subject());
        if let Some((fingerprint, sockets)) = partly {
            message += &format!(
                "; it fits {sockets} socket(s) of finding {fingerprint}, which has more: name them all, or the fingerprint"
            );
        }
        if blind(snapshot) {
            message += "; what it is for may be out of sight in this run";
        }
        let title = "A suppression is used by nothing";
        self.finding("suppression-unused", title, Severity::Low, message)
    }

    fn finding(&self, rule: &str, title: &str, severity: Severity, message: String) -> Finding {
        Finding {
            rule: rule.to_owned(),
            title: title.to_owned(),
            severity,
            confidence: Confidence::High,
            message,
            fingerprint: of_parts(
                [b"suppression 1", rule.as_bytes(), self.subject().as_bytes()],
                [self.reason.as_bytes()].into_iter(),
            ),
            sockets: Vec::new(),
            evidence: vec![format!("until = {}", self.until), format!("reason = {}", self.reason)],
            remedies: Vec::new(),
            references: Vec::new(),
            why: "A suppression that hides nothing, or no longer may, hides the next thing that fits it \
                  without anybody having decided so."
                .to_owned(),
            suppressed: None,
        }
    }
}

/// Whether something in this snapshot stayed out of sight that a suppression could be for.
fn blind(snapshot: &Snapshot) -> bool {
    snapshot.gaps.iter().any(|gap| gap.unlisted.is_some())
        || snapshot.sockets.iter().any(|socket| socket.owner_gap == Some(OwnerGap::Hidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;
    use crate::model::{Fact, Reach, SocketIndex};

    const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

    fn host() -> Sample {
        let mut sample = Sample::new();
        sample.process(10, "/usr/bin/redis-server").unit = Fact::Known("redis.service".into());
        sample.process(11, "/tmp/intruder");
        sample.listener("0.0.0.0:6379", Reach::Internet, &[10]);
        sample.listener("0.0.0.0:6380", Reach::Internet, &[10]);
        sample.listener("0.0.0.0:6381", Reach::Internet, &[10, 11]);
        sample
    }

    fn report(sockets: &[u32]) -> Report {
        let finding = Finding {
            rule: "redis-exposed".into(),
            title: "t".into(),
            severity: Severity::High,
            confidence: Confidence::High,
            message: "m".into(),
            fingerprint: FINGERPRINT.into(),
            sockets: sockets.iter().map(|at| SocketIndex(*at)).collect(),
            evidence: Vec::new(),
            remedies: Vec::new(),
            references: Vec::new(),
            why: String::new(),
            suppressed: None,
        };
        Report { findings: vec![finding], undecided: Vec::new() }
    }

    /// Rule ids after applying, `(id)` for suppressed ones.
    fn applied(sockets: &[u32], entry: &str) -> Vec<String> {
        let text = format!("[[suppression]]\nreason = \"agreed\"\n{entry}");
        let suppressions = Suppressions::parse("s.toml", &text).unwrap();
        let mut report = report(sockets);
        suppressions.apply(&host().snapshot, &mut report);
        report
            .findings
            .into_iter()
            .map(
                |finding| {
                    if finding.suppressed.is_some() { format!("({})", finding.rule) } else { finding.rule }
                },
            )
            .collect()
    }

    #[test]
    fn a_fingerprint_or_every_selector_suppresses() {
        let until = "until = 2099-01-01\n";
        assert_eq!(
            applied(&[0, 1], &format!("fingerprint = \"{FINGERPRINT}\"\n{until}")),
            ["(redis-exposed)"]
        );
        for entry in [
            "rule = \"redis-exposed\"",
            "rule = \"redis-exposed\"\nport = [6379, 6380]\nprocess = \"redis-*\"",
            "rule = \"redis-exposed\"\nport = \"6000-7000\"\nunit = \"redis.service\"",
            "rule = \"redis-exposed\"\nproto = \"tcp\"\nreach = [\"lan\", \"internet\"]\nuser = \"root\"",
            "rule = \"redis-exposed\"\ncontainer = \"none\"\nexe = \"/usr/bin/*\"",
        ] {
            assert_eq!(applied(&[0, 1], &format!("{entry}\n{until}")), ["(redis-exposed)"], "{entry}");
        }
    }

    #[test]
    fn one_that_covers_several_sockets_says_which() {
        let text = "[[suppression]]\nrule = \"redis-exposed\"\nreason = \"agreed\"\nuntil = 2099-01-01\n";
        let mut report = report(&[1, 0]);
        Suppressions::parse("s.toml", text).unwrap().apply(&host().snapshot, &mut report);
        let mark = report.findings[0].suppressed.as_ref().unwrap();
        assert_eq!(mark.by, "s.toml:1 (covers 2 sockets: tcp 0.0.0.0:6379, tcp 0.0.0.0:6380)");
    }

    #[test]
    fn one_socket_too_many_and_nothing_is_hidden() {
        let entry = "rule = \"redis-exposed\"\nport = 6379\nuntil = 2099-01-01\n";
        assert_eq!(applied(&[0], entry), ["(redis-exposed)"]);
        assert_eq!(applied(&[0, 1], entry), ["redis-exposed", "suppression-unused"]);
    }

    #[test]
    fn a_second_holder_is_not_covered_by_the_first() {
        let entry = "rule = \"redis-exposed\"\nprocess = \"redis-server\"\nuntil = 2099-01-01\n";
        assert_eq!(applied(&[2], entry), ["redis-exposed", "suppression-unused"]);
    }

    #[test]
    fn past_its_day_it_is_a_finding_and_hides_nothing() {
        // The sample was taken on 2026-11-18.
        assert_eq!(applied(&[0], "rule = \"redis-exposed\"\nuntil = 2026-11-18\n"), ["(redis-exposed)"]);
        assert_eq!(
            applied(&[0], "rule = \"redis-exposed\"\nuntil = 2026-11-17\n"),
            ["redis-exposed", "suppression-expired"]
        );
    }

    #[test]
    fn what_fits_nothing_is_a_finding() {
        assert_eq!(
            applied(&[0], "rule = \"other\"\nuntil = 2099-01-01\n"),
            ["redis-exposed", "suppression-unused"]
        );
    }

    #[test]
    fn a_rule_that_does_not_exist_is_told_at_its_place() {
        let text = "[[suppression]]\nrule = \"redis-expsed\"\nreason = \"r\"\nuntil = 2027-01-31\n\
                    [[suppression]]\nrule = \"redis-exposed\"\nreason = \"r\"\nuntil = 2027-01-31\n\
                    [[suppression]]\nfingerprint = \"0123456789abcdef0123456789abcdef\"\nreason = \"r\"\n\
                    until = 2027-01-31\n";
        let read = Suppressions::parse("s.toml", text).unwrap();
        let told = read.unknown_rules(&["other-rule", "redis-exposed"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(&text[told[0].span.clone().unwrap()], "\"redis-expsed\"");
        assert_eq!(told[0].help.as_deref(), Some("did you mean `redis-exposed`?"));
        assert_eq!(read.unknown_rules(&["something-else"]).len(), 2);
    }
}
