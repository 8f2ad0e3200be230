//! JUnit XML as Jenkins reads it: a rule is a test case, a finding a failure.

use std::io::{self, BufWriter, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::json::v1::rfc3339;
use super::{Clean, View};
use crate::finding::Finding;

pub(crate) fn report(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let cases = cases(view);
    let failures = cases.iter().filter(|case| !case.failures.is_empty()).count();
    let skipped = cases.iter().filter(|case| case.failures.is_empty() && case.skipped.is_some()).count();
    let (tests, failures, skipped) = (cases.len().to_string(), failures.to_string(), skipped.to_string());
    let timestamp = rfc3339(view.snapshot.taken_at).unwrap_or_default();
    let host = Clean(&view.snapshot.host.name).to_string();

    let mut xml = Writer::new_with_indent(BufWriter::new(out), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let totals = [("tests", tests.as_str()), ("failures", &failures), ("errors", "0")];
    let whole =
        BytesStart::new("testsuites").with_attributes([("name", "sockwarden")].into_iter().chain(totals));
    xml.write_event(Event::Start(whole))?;
    let about = [("skipped", skipped.as_str()), ("timestamp", &timestamp), ("hostname", &host)];
    let suite = [("name", "sockwarden")].into_iter().chain(totals).chain(about);
    xml.write_event(Event::Start(BytesStart::new("testsuite").with_attributes(suite)))?;
    for case in &cases {
        write(&mut xml, case)?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuite")))?;
    xml.write_event(Event::End(BytesEnd::new("testsuites")))?;
    let mut out = xml.into_inner();
    out.write_all(b"\n")?;
    out.flush()
}

struct Case<'s> {
    name: &'s str,
    class: String,
    failures: Vec<&'s Finding>,
    /// Why it says nothing: suppressed, undecided or out of sight.
    skipped: Option<String>,
}

/// One for each rule that was asked, one for each other id among the findings, one for what could
/// be seen at all.
fn cases<'s>(view: &View<'s>) -> Vec<Case<'s>> {
    let mut rules: Vec<(&str, &str)> =
        view.rules.iter().map(|rule| (rule.id.as_str(), rule.pack.as_str())).collect();
    for finding in &view.report.findings {
        if !rules.iter().any(|(id, _)| *id == finding.rule) {
            rules.push((&finding.rule, ""));
        }
    }
    let of_rule = |(id, pack): (&'s str, &'s str)| {
        let findings = view.report.findings.iter().filter(|finding| finding.rule == id);
        let (failures, quiet): (Vec<_>, Vec<_>) = findings.partition(|finding| finding.suppressed.is_none());
        let suppressed = quiet.iter().filter_map(|finding| finding.suppressed.as_ref());
        let suppressed =
            suppressed.map(|each| format!("suppressed until {}: {}", each.until, each.reason)).next();
        let undecided = view.report.undecided.iter().find(|undecided| undecided.rule == id);
        let undecided = undecided.map(|each| format!("undecided: could not read {}", each.fields.join(", ")));
        let class = if pack.is_empty() { "sockwarden".to_owned() } else { format!("sockwarden.{pack}") };
        Case { name: id, class, failures, skipped: suppressed.or(undecided) }
    };
    let gaps: Vec<String> =
        view.snapshot.gaps.iter().map(|gap| format!("{}: {}", gap.what, gap.why)).collect();
    let sight = Case {
        name: "visibility",
        class: "sockwarden".to_owned(),
        failures: Vec::new(),
        skipped: (!view.complete()).then(|| format!("incomplete: {}", gaps.join("; "))),
    };
    rules.into_iter().map(of_rule).chain([sight]).collect()
}

fn write(xml: &mut Writer<BufWriter<&mut dyn Write>>, case: &Case<'_>) -> io::Result<()> {
    let (name, class) = (Clean(case.name).to_string(), Clean(&case.class).to_string());
    let start = BytesStart::new("testcase").with_attributes([("name", name.as_str()), ("classname", &class)]);
    if case.failures.is_empty() && case.skipped.is_none() {
        return xml.write_event(Event::Empty(start));
    }
    xml.write_event(Event::Start(start))?;
    for finding in &case.failures {
        let message = Clean(&finding.message).to_string();
        let failure = [("type", finding.severity.name()), ("message", message.as_str())];
        xml.write_event(Event::Start(BytesStart::new("failure").with_attributes(failure)))?;
        xml.write_event(Event::Text(BytesText::new(&body(finding))))?;
        xml.write_event(Event::End(BytesEnd::new("failure")))?;
    }
    if let Some(why) = case.skipped.as_ref().filter(|_| case.failures.is_empty()) {
        let why = Clean(why).to_string();
        xml.write_event(Event::Empty(
            BytesStart::new("skipped").with_attributes([("message", why.as_str())]),
        ))?;
    }
    xml.write_event(Event::End(BytesEnd::new("testcase")))
}

/// Title, evidence, the narrowest remedy and the fingerprint, one a line.
fn body(finding: &Finding) -> String {
    let mut lines = vec![Clean(&finding.title).to_string()];
    lines.extend(finding.evidence.iter().map(|fact| Clean(fact).to_string()));
    if let Some(remedy) = finding.remedies.first() {
        lines.push(format!("fix: {}", Clean(&remedy.title)));
        lines.extend(
            remedy.commands.iter().flat_map(|command| command.lines()).map(|line| Clean(line).to_string()),
        );
    }
    lines.push(format!("fingerprint: {}", finding.fingerprint));
    lines.join("\n")
}
