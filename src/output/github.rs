//! Workflow commands of GitHub Actions: `::error title=…::…`
//! (docs.github.com, "Workflow commands for GitHub Actions").

use std::io::{self, BufWriter, Write};

use super::{Clean, View};
use crate::finding::{Finding, Severity};

/// One command for each finding that counts and one for each gap.
pub(crate) fn report(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    for finding in view.report.findings.iter().filter(|finding| finding.suppressed.is_none()) {
        let title = property(&format!("{}: {}", finding.rule, finding.title));
        writeln!(out, "::{} title={title}::{}", command(finding.severity), data(&text(finding)))?;
    }
    for gap in &view.snapshot.gaps {
        let level = if view.complete() { "notice" } else { "warning" };
        let lift = gap.remedy.as_ref().map_or(String::new(), |remedy| format!("; lift it: {remedy}"));
        let text = format!("{} ({}): {}{lift}", gap.what, gap.count, gap.why);
        writeln!(out, "::{level} title={}::{}", property("sockwarden: out of sight"), data(&text))?;
    }
    out.flush()
}

fn command(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "notice",
    }
}

fn text(finding: &Finding) -> String {
    let remedy = finding.remedies.first().map_or(String::new(), |remedy| format!(" Fix: {}.", remedy.title));
    format!("{} [{}]{remedy} ({})", finding.message, finding.severity.name(), finding.fingerprint)
}

/// The part behind `::`, where percent and line ends have a meaning.
fn data(text: &str) -> String {
    Clean(text).to_string().replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property, which a colon or comma would end.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_ends_a_command() {
        assert_eq!(property("a::error::b,c=d%\n"), r"a%3A%3Aerror%3A%3Ab%2Cc=d%25\x0a");
        assert_eq!(data("100%\n::error::x"), r"100%25\x0a::error::x");
    }
}
