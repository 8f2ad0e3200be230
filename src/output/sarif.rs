//! SARIF 2.1.0 (OASIS): one result a finding, located at the file of its rule, the sockets as
//! logical locations. Gaps are notifications of the run.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::cells;
use super::json::v1::rfc3339;
use super::{Clean, RuleRow, View};
use crate::finding::{Confidence, Finding, Severity};
use crate::model::{Gap, Observation};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Name of our fingerprint among `partialFingerprints`; the number is that of the recipe.
const FINGERPRINT: &str = "sockwarden/v1";

pub(crate) fn report(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let descriptors = descriptors(view);
    let index: BTreeMap<&str, usize> =
        descriptors.iter().enumerate().map(|(at, descriptor)| (descriptor.id, at)).collect();
    let results = view.report.findings.iter().map(|finding| result(view, finding, &index)).collect();
    let driver =
        Driver { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), rules: &descriptors };
    let invocation = Invocation {
        execution_successful: true,
        start_time_utc: rfc3339(view.snapshot.taken_at),
        machine: &view.snapshot.host.name,
        tool_execution_notifications: view.snapshot.gaps.iter().map(|gap| notification(view, gap)).collect(),
    };
    let log = Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: Tool { driver },
            column_kind: "unicodeCodePoints",
            invocations: [invocation],
            results,
        }],
    };
    let mut out = BufWriter::new(out);
    serde_json::to_writer_pretty(&mut out, &log)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[derive(Serialize)]
struct Log<'s> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'s>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'s> {
    tool: Tool<'s>,
    column_kind: &'static str,
    invocations: [Invocation<'s>; 1],
    results: Vec<ResultV2<'s>>,
}

#[derive(Serialize)]
struct Tool<'s> {
    driver: Driver<'s>,
}

#[derive(Serialize)]
struct Driver<'s> {
    name: &'static str,
    version: &'static str,
    rules: &'s [Descriptor<'s>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation<'s> {
    execution_successful: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time_utc: Option<String>,
    machine: &'s str,
    tool_execution_notifications: Vec<Notification<'s>>,
}

#[derive(Serialize)]
struct Notification<'s> {
    level: &'static str,
    message: Message,
    descriptor: Reference<'s>,
}

#[derive(Serialize)]
struct Reference<'s> {
    id: &'s str,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'s> {
    id: &'s str,
    short_description: Message,
    full_description: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    help_uri: Option<&'s str>,
    default_configuration: Configuration,
    properties: Properties,
}

#[derive(Serialize)]
struct Configuration {
    level: &'static str,
}

/// What GitHub's code scanning reads of a rule.
#[derive(Serialize)]
struct Properties {
    tags: [&'static str; 1],
    precision: &'static str,
    #[serde(rename = "security-severity")]
    security_severity: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultV2<'s> {
    rule_id: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    level: &'static str,
    message: Message,
    locations: Vec<Location>,
    partial_fingerprints: BTreeMap<&'static str, &'s str>,
    suppressions: Vec<Suppression>,
    properties: Facts<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_location: Option<Physical>,
    logical_locations: Vec<Logical>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Serialize)]
struct Artifact {
    uri: String,
}

/// A rule is its whole file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical {
    name: String,
    fully_qualified_name: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct Suppression {
    kind: &'static str,
    status: &'static str,
    justification: String,
}

#[derive(Serialize)]
struct Facts<'s> {
    severity: &'static str,
    confidence: &'static str,
    evidence: &'s [String],
}

/// Every rule that was asked, then the ids of findings that no rule file made.
fn descriptors<'s>(view: &View<'s>) -> Vec<Descriptor<'s>> {
    let mut descriptors: Vec<Descriptor<'s>> = view.rules.iter().map(of_rule).collect();
    for finding in &view.report.findings {
        if !descriptors.iter().any(|known| known.id == finding.rule) {
            descriptors.push(descriptor(
                &finding.rule,
                (&finding.title, &finding.why),
                finding.severity,
                finding.confidence,
                &finding.references,
            ));
        }
    }
    descriptors
}

fn of_rule(rule: &RuleRow) -> Descriptor<'_> {
    descriptor(&rule.id, (&rule.title, &rule.why), rule.severity, rule.confidence, &rule.references)
}

fn descriptor<'s>(
    id: &'s str,
    (title, why): (&str, &str),
    severity: Severity,
    confidence: Confidence,
    references: &'s [String],
) -> Descriptor<'s> {
    let why = if why.is_empty() { title } else { why };
    Descriptor {
        id,
        short_description: message(title),
        full_description: message(&why.split_whitespace().collect::<Vec<_>>().join(" ")),
        help_uri: references.iter().map(String::as_str).find(|reference| is_uri(reference)),
        default_configuration: Configuration { level: level(severity) },
        properties: Properties {
            tags: ["security"],
            precision: confidence.name(),
            security_severity: match severity {
                Severity::Critical => "9.5",
                Severity::High => "8.0",
                Severity::Medium => "5.5",
                Severity::Low => "3.0",
                Severity::Info => "0.0",
            },
        },
    }
}

fn is_uri(reference: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'`' | b'[' | b']')
    };
    reference.starts_with("https://") && reference.bytes().all(plain)
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

fn result<'s>(view: &View<'s>, finding: &'s Finding, index: &BTreeMap<&str, usize>) -> ResultV2<'s> {
    let rule = view.rules.iter().find(|rule| rule.id == finding.rule);
    let physical_location = rule.map(|rule| Physical {
        artifact_location: Artifact { uri: uri(rule) },
        region: Region { start_line: 1 },
    });
    let sockets = finding.sockets.iter().map(|at| logical(&view.snapshot.observe(*at)));
    let location = Location { physical_location, logical_locations: sockets.collect() };
    let suppression = finding.suppressed.as_ref().map(|suppressed| Suppression {
        kind: "external",
        status: "accepted",
        justification: Clean(&format!(
            "{} (until {}, {})",
            suppressed.reason, suppressed.until, suppressed.by
        ))
        .to_string(),
    });
    ResultV2 {
        rule_id: &finding.rule,
        rule_index: index.get(finding.rule.as_str()).copied(),
        level: level(finding.severity),
        message: message(&finding.message),
        locations: vec![location],
        partial_fingerprints: BTreeMap::from([(FINGERPRINT, finding.fingerprint.as_str())]),
        suppressions: suppression.into_iter().collect(),
        properties: Facts {
            severity: finding.severity.name(),
            confidence: finding.confidence.name(),
            evidence: &finding.evidence,
        },
    }
}

fn logical(each: &Observation<'_>) -> Logical {
    let mut name = String::new();
    cells::local(&mut name, each);
    let fully_qualified_name = format!("{}/{}/{name}", each.namespace().inode, each.socket.protocol.name());
    Logical { name, fully_qualified_name, kind: "resource" }
}

fn notification<'s>(view: &View<'_>, gap: &'s Gap) -> Notification<'s> {
    let lift = gap.remedy.as_ref().map_or(String::new(), |remedy| format!("; lift it: {remedy}"));
    Notification {
        level: if view.complete() { "note" } else { "warning" },
        message: message(&format!("{} ({}): {}{lift}", gap.what, gap.count, gap.why)),
        descriptor: Reference { id: &gap.id },
    }
}

/// Braces stand doubled (SARIF 2.1.0, 3.11.5), and a name cannot make a link (3.11.6).
fn message(text: &str) -> Message {
    let text = Clean(text).to_string().replace('{', "{{").replace('}', "}}");
    let text = if text.contains("](") { text.replace('[', "\\[").replace(']', "\\]") } else { text };
    Message { text }
}

/// The file of a rule, relative to the source of sockwarden for a built-in one (RFC 3986).
fn uri(rule: &RuleRow) -> String {
    let path = rule.file.clone().unwrap_or_else(|| format!("rules/{}/{}.toml", rule.pack, rule.id));
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
