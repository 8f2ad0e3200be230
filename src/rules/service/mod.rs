//! The short form: one file, one service. Read, checked, and written out as a whole rule, so that
//! everything else knows one form only.

mod examples;
mod expand;
mod fix;
mod sensitivity;
pub(super) mod text;

pub(super) use examples::made;
pub(super) use sensitivity::{ALL as SENSITIVITIES, CLASSES};

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::compile;
use super::condition;
use super::outline::Outline;
use super::reader::{Node, Reader, integer, shorten};
use super::schema::{CONFIDENCES, SEVERITIES};
use crate::finding::Severity;
use crate::model::Reach;
use sensitivity::{Sensitivity, Severities};

/// Keys of a service file.
pub(super) const SERVICE: &[&str] = &[
    "service",
    "title",
    "tcp",
    "udp",
    "shared_port",
    "kernel",
    "programs",
    "at_port",
    "units",
    "sensitivity",
    "severity",
    "confidence",
    "why",
    "references",
    "override",
    "fix",
    "fires",
    "quiet",
];

const MAX_PORTS: usize = 64;
const MAX_PROGRAMS: usize = 100;
const MAX_NAME: usize = 60;
/// A range with more ports than this says too little of what listens there.
const WIDE: u16 = 64;

/// A file is of this form if it names a service.
pub(super) fn is_one(table: &DeTable<'_>) -> bool {
    table.contains_key("service") && !table.contains_key("when")
}

/// What a service file says.
struct Service<'i> {
    name: String,
    title: String,
    tcp: Vec<(u16, u16)>,
    udp: Vec<(u16, u16)>,
    shared: bool,
    kernel: bool,
    programs: Vec<Program<'i>>,
    at_port: Vec<Program<'i>>,
    severities: Severities,
    confidence: String,
    why: String,
    references: Vec<String>,
    overrides: bool,
}

/// How a program is known.
#[derive(Clone)]
enum Program<'i> {
    /// Its executable's or its own name, maybe with globs.
    Word(String),
    /// A condition on the process.
    Facts(DeTable<'i>),
}

/// The whole rule that a service file stands for; `None` when something is wrong with it.
pub(super) fn rule(reader: &mut Reader, table: &DeTable<'_>) -> Option<String> {
    let service = read(reader, table);
    let fixes = fixes(reader, table);
    let written = examples::written(reader, table);
    let (service, fixes, written) = (service?, fixes?, written?);
    reader.is_clean().then(|| expand::rule(&service, &fixes, &written))
}

/// What a sound service file claims.
pub(super) fn outline(file: &str, source: &str) -> Option<Outline> {
    let mut reader = Reader::new(file.to_owned(), source.into());
    let table = reader.parse(source);
    let service = read(&mut reader, &table)?;
    let words = service.programs.iter().filter_map(|program| match program {
        Program::Word(word) => Some(word.clone()),
        Program::Facts(_) => None,
    });
    let mut ports = BTreeSet::new();
    for (protocol, ranges) in [("tcp", &service.tcp), ("udp", &service.udp)] {
        for range in ranges.iter().filter(|range| expand::is_narrow(range)) {
            ports.extend((range.0..=range.1).map(|port| (protocol, port)));
        }
    }
    let programs = if service.tcp.is_empty() { BTreeSet::new() } else { words.collect() };
    Some(Outline { programs, ports, shared: service.shared })
}

fn read<'i>(reader: &mut Reader, table: &DeTable<'i>) -> Option<Service<'i>> {
    for (key, _) in table.iter().filter(|(key, _)| !SERVICE.contains(&&**key.get_ref())) {
        reader.unknown_key(key.span(), key.get_ref(), "a service", SERVICE.iter().copied());
    }
    for key in ["sensitivity", "why", "fires", "quiet"] {
        if !table.contains_key(key) {
            reader.whole(format!("the service has no `{key}`"), None);
        }
    }
    let name = compile::prose(reader, table.get("service")?, "service", MAX_NAME)?;
    let title = match table.get("title") {
        Some(node) => compile::prose(reader, node, "title", compile::MAX_TITLE),
        None => Some(format!("{name} can be reached from other computers")),
    };
    let ports =
        |reader: &mut Reader, key| table.get(key).map_or(Some(Vec::new()), |node| ports(reader, node, key));
    let (tcp, udp) = (ports(reader, "tcp"), ports(reader, "udp"));
    let flag =
        |reader: &mut Reader, key| table.get(key).and_then(|node| reader.flag(node, key)).unwrap_or(false);
    let (shared, kernel, overrides) =
        (flag(reader, "shared_port"), flag(reader, "kernel"), flag(reader, "override"));
    let (programs, at_port) = (programs(reader, table, "programs"), programs(reader, table, "at_port"));
    let severities = severities(reader, table);
    let confidence = match table.get("confidence") {
        Some(node) => compile::word(reader, node, "confidence", CONFIDENCES).map(str::to_owned),
        None => Some("high".to_owned()),
    };
    let why = table.get("why").and_then(|node| compile::prose(reader, node, "why", compile::MAX_WHY));
    let references = table.get("references").map_or_else(Vec::new, |node| compile::references(reader, node));
    let (tcp, udp) = (tcp?, udp?);
    if tcp.is_empty() && udp.is_empty() {
        reader.whole("the service has no port", Some("add `tcp = [80]` or `udp = [53]`".to_owned()));
    }
    let service = Service {
        name,
        title: title?,
        tcp,
        udp,
        shared,
        kernel,
        programs: programs?,
        at_port: at_port?,
        severities: severities?,
        confidence: confidence?,
        why: why?,
        references,
        overrides,
    };
    if service.shared && service.programs.is_empty() && service.at_port.is_empty() && !service.kernel {
        reader.whole(
            "a service on shared ports needs a program: the port alone says next to nothing",
            Some("add `programs` or `at_port`".to_owned()),
        );
    }
    Some(service)
}

fn programs<'i>(reader: &mut Reader, table: &DeTable<'i>, key: &str) -> Option<Vec<Program<'i>>> {
    let Some(node) = table.get(key) else { return Some(Vec::new()) };
    let nodes = reader.list(node, key);
    if nodes.len() > MAX_PROGRAMS {
        reader.say(node.span(), format!("more than {MAX_PROGRAMS} programs"));
        return None;
    }
    let found: Vec<_> = nodes.into_iter().map(|each| program(reader, each, key)).collect();
    found.into_iter().collect()
}

fn program<'i>(reader: &mut Reader, node: &Node<'i>, key: &str) -> Option<Program<'i>> {
    if let Some(facts) = node.get_ref().as_table() {
        condition::read_process(reader, facts, node.span())?;
        return Some(Program::Facts(facts.clone()));
    }
    let word = reader.text(node, key)?;
    if word.is_empty() || word.contains('/') || word.starts_with('!') {
        reader.advise(
            node.span(),
            "a program is named by the last part of its path",
            "for anything else write a table: `{ exe = \"/opt/x/bin/y\" }`",
        );
        return None;
    }
    if matches!(word, "any" | "none" | "*") || super::pattern::Glob::new(word).is_err() {
        reader.say(node.span(), format!("`{}` is no name of a program", shorten(word)));
        return None;
    }
    Some(Program::Word(word.to_owned()))
}

fn ports(reader: &mut Reader, node: &Node<'_>, key: &str) -> Option<Vec<(u16, u16)>> {
    let nodes = reader.list(node, key);
    if nodes.len() > MAX_PORTS {
        reader.say(node.span(), format!("more than {MAX_PORTS} ports"));
        return None;
    }
    let mut found = Vec::new();
    for each in nodes {
        let range = match each.get_ref().as_str() {
            Some(text) => {
                text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
            }
            None => integer(each).and_then(|port| u16::try_from(port).ok()).map(|port| (port, port)),
        };
        match range {
            Some((first, last)) if first > 0 && first <= last => found.push((first, last)),
            Some(_) | None => {
                reader.advise(
                    each.span(),
                    format!("this is no port of `{key}`"),
                    "write 6379 or \"6000-6063\"",
                );
                return None;
            }
        }
    }
    Some(found)
}

fn units(reader: &mut Reader, table: &DeTable<'_>) -> Option<Vec<String>> {
    let Some(node) = table.get("units") else { return Some(Vec::new()) };
    let nodes = reader.list(node, "units");
    let mut found = Vec::new();
    for each in nodes {
        let unit = reader.text(each, "units")?;
        let plain = unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@._-:".contains(&byte));
        let suffix =
            [".service", ".socket", ".target", ".path", ".timer"].iter().any(|end| unit.ends_with(end));
        if !plain || !suffix {
            reader.advise(each.span(), "this is no name of a unit", "write it whole: `redis-server.service`");
            return None;
        }
        found.push(unit.to_owned());
    }
    Some(found)
}

/// The severities of the sensitivity, and what `severity` changes of them.
fn severities(reader: &mut Reader, table: &DeTable<'_>) -> Option<Severities> {
    let sensitivity = table.get("sensitivity").and_then(|node| {
        let word = reader.text(node, "sensitivity")?;
        let found = Sensitivity::from_name(word);
        if found.is_none() {
            let known = sensitivity::ALL.iter().map(|each| each.name);
            reader.unknown_word(node.span(), word, "sensitivity", known);
        }
        found
    });
    let mut severities = sensitivity.map_or([None; CLASSES.len()], |each| each.severities);
    let Some(node) = table.get("severity") else { return Some(severities) };
    let mut named = [false; CLASSES.len()];
    for (key, value) in reader.table(node, "severity")? {
        let class = Reach::from_name(key.get_ref());
        let Some(slot) = CLASSES.iter().position(|each| Some(*each) == class) else {
            let known = CLASSES.iter().map(|each| each.name());
            reader.unknown_word(key.span(), key.get_ref(), "class of reach", known);
            return None;
        };
        let known: Vec<&str> = SEVERITIES.iter().copied().chain(["none"]).collect();
        let word = compile::word(reader, value, "severity", &known)?;
        (severities[slot], named[slot]) = (Severity::from_name(word), true);
    }
    // What is not named follows: the segment the local network, a narrower class at most the wider,
    // a wider one at least the narrower.
    let (lan, link) = (1, 2);
    if named[lan] && !named[link] {
        severities[link] = severities[lan];
    }
    for slot in 0..CLASSES.len() {
        if !named[slot] {
            let wider = (0..slot).filter(|wider| named[*wider]).map(|wider| severities[wider]).min();
            let narrower =
                (slot..CLASSES.len()).filter(|other| named[*other]).map(|other| severities[other]).max();
            severities[slot] =
                severities[slot].min(wider.unwrap_or(severities[slot])).max(narrower.flatten());
        }
    }
    if severities.windows(2).any(|pair| pair[0] < pair[1]) {
        reader.say(node.span(), "a narrower reach is more severe than a wider one");
        return None;
    }
    Some(severities)
}

fn fixes(reader: &mut Reader, table: &DeTable<'_>) -> Option<String> {
    let verify = match (table.contains_key("tcp"), table.contains_key("udp")) {
        (true, false) => "ss -ltn 'sport = :{port}'",
        (false, true) => "ss -lun 'sport = :{port}'",
        (false, false) | (true, true) => "ss -ltun 'sport = :{port}'",
    };
    let service = table.get("service")?.get_ref().as_str()?;
    let common = fix::Common { service, verify };
    let nodes = table.get("fix").map_or_else(Vec::new, |node| reader.list(node, "fix"));
    let found: Vec<_> = nodes.into_iter().map(|each| fix::remedy(reader, each, &common)).collect();
    let units = units(reader, table)?;
    let mut text = found.into_iter().collect::<Option<String>>()?;
    if !units.is_empty() {
        text.push_str(&fix::off(&units, &common));
    }
    Some(text)
}
