//! From one TOML file to one rule, or to everything that is wrong with it.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::condition::{self, Cond};
use super::example::{self, Example};
use super::reader::{Node, Reader};
use super::remedy::{Line, Template};
use super::schema::{CONFIDENCES, PROBABLY, REFERENCES, REMEDY, REMEDY_KINDS, SEVERITIES, TOP};
use super::{sense, service};
use crate::finding::{Confidence, Severity, Words};
use crate::model::{Problem, Reach};

/// What counts as risky, compiled from one file.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Title, confidence, why and references, shared with the hits.
    pub words: Arc<Words>,
    /// Path of its file as the user would name it.
    pub file: String,
    /// Whether it came with the program.
    pub builtin: bool,
    /// It says that it stands in for the shipped rule of its name.
    pub overrides: bool,
    pub remedies: Vec<Template>,
    pub(super) source: Arc<str>,
    /// The text of its file, if that is the short form of a service and `source` what it stands for.
    pub(super) origin: Option<Arc<str>>,
    pub(super) when: Cond,
    /// What is said where `when` does not hold: a guess.
    pub(super) probably: Option<Box<Probably>>,
    pub(super) severities: [Severity; Reach::ALL.len()],
    /// Classes that the severity table names; empty when one word stands for all.
    pub(super) named: Vec<Reach>,
    /// `None` for shipped rules, whose examples are read when somebody asks for them.
    examples: Option<Vec<Example>>,
}

impl Rule {
    pub fn id(&self) -> &str {
        &self.words.rule
    }

    /// Severity for a socket with this reach; `None` for sockets that have none.
    pub fn severity(&self, reach: Option<Reach>) -> Severity {
        self.severities[reach.unwrap_or(Reach::None) as usize]
    }

    /// Whether it is of the short form.
    pub(super) fn is_service(&self) -> bool {
        self.origin.is_some()
    }

    /// The worst that it can say.
    pub fn worst(&self) -> Severity {
        self.severities.iter().copied().max().unwrap_or(Severity::Info)
    }

    /// Its examples.
    ///
    /// # Errors
    /// What is wrong with them, for a shipped rule; others were refused when they were read.
    pub(super) fn examples(&self) -> Result<Cow<'_, [Example]>, Vec<Problem>> {
        if let Some(examples) = &self.examples {
            return Ok(Cow::Borrowed(examples));
        }
        let mut reader = Reader::new(self.file.clone(), Arc::clone(&self.source));
        let table = reader.parse(&self.source);
        let examples = example::read(&mut reader, &table);
        if reader.is_clean() { Ok(Cow::Owned(examples)) } else { Err(reader.finish()) }
    }

    /// The text of the rule; for the file of a service the rule that it stands for.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of its file, if that is the short form of a service.
    pub fn service(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

/// A weaker condition with words of its own, asked where that of its rule does not hold.
#[derive(Clone, Debug)]
pub(super) struct Probably {
    pub(super) words: Arc<Words>,
    pub(super) when: Cond,
    pub(super) severities: [Severity; Reach::ALL.len()],
}

/// Longest title, and most lines and characters of a why that still fit a screen.
pub(super) const MAX_TITLE: usize = 90;
pub(super) const MAX_WHY: usize = 1200;
/// A guess names what it is not sure of.
const MAX_GUESS: usize = 160;

/// Compiles the rule in a file; the file's name is the rule's.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn rule(file: &str, source: Arc<str>, builtin: bool) -> Result<Rule, Vec<Problem>> {
    let mut reader = Reader::new(file.to_owned(), Arc::clone(&source));
    let table = reader.parse(&source);
    let syntax_is_sound = reader.is_clean();
    if service::is_one(&table) {
        return match service::rule(&mut reader, &table) {
            Some(text) if reader.is_clean() => whole(file, text.into(), Some(source), builtin),
            Some(_) | None => Err(reader.finish()),
        };
    }
    let rule = compile(&mut reader, &table, builtin, syntax_is_sound);
    match rule {
        Some(rule) if reader.is_clean() => Ok(rule),
        _ => Err(reader.finish()),
    }
}

/// Compiles the text that a service file stands for.
fn whole(file: &str, text: Arc<str>, origin: Option<Arc<str>>, builtin: bool) -> Result<Rule, Vec<Problem>> {
    let mut reader = Reader::new(file.to_owned(), Arc::clone(&text));
    let table = reader.parse(&text);
    match compile(&mut reader, &table, builtin, true) {
        Some(rule) if reader.is_clean() => Ok(Rule { origin, ..rule }),
        _ => Err(reader.finish()),
    }
}

fn compile(reader: &mut Reader, table: &DeTable<'_>, builtin: bool, complete: bool) -> Option<Rule> {
    let id = id(reader);
    for (key, _) in table.iter().filter(|(key, _)| !TOP.contains(&&**key.get_ref())) {
        if key.get_ref() == "id" {
            reader.advise(key.span(), "a rule has no `id` of its own", "its name is the name of its file");
        } else {
            reader.unknown_key(key.span(), key.get_ref(), "a rule", TOP.iter().copied());
        }
    }
    if complete {
        for key in ["title", "severity", "confidence", "why", "when"] {
            if !table.contains_key(key) {
                reader.whole(format!("the rule has no `{key}`"), None);
            }
        }
    }
    let title = table.get("title").and_then(|node| prose(reader, node, "title", MAX_TITLE));
    let why = table.get("why").and_then(|node| prose(reader, node, "why", MAX_WHY));
    let confidence = table.get("confidence").and_then(|node| {
        let word = word(reader, node, "confidence", CONFIDENCES)?;
        Confidence::from_name(word)
    });
    let references = table.get("references").map_or_else(Vec::new, |node| references(reader, node));
    let overrides = table.get("override").and_then(|node| reader.flag(node, "override")).unwrap_or(false);
    let when = table.get("when").and_then(|node| {
        let when = reader.table(node, "when")?;
        condition::read(reader, when, node.span())
    });
    if let Some(when) = &when {
        sense::check(reader, when);
    }
    let severity = table.get("severity").and_then(|node| severity(reader, node, when.as_ref()));
    let probably = table.get("probably").map(|node| probably(reader, node, title.as_deref()));
    let remedies = table.get("remedy").map_or_else(Vec::new, |node| remedies(reader, node));
    let examples = (!builtin).then(|| example::read(reader, table));
    let (severities, named) = severity?;
    let words = Words { rule: id?, title: title?, confidence: confidence?, why: why?, references };
    let probably = match probably {
        None => None,
        Some(guess) => {
            let (title, confidence, when, severities) = guess?;
            let words = Arc::new(Words { title, confidence, ..words.clone() });
            Some(Box::new(Probably { words, when, severities }))
        }
    };
    Some(Rule {
        words: Arc::new(words),
        file: reader.file.clone(),
        builtin,
        overrides,
        remedies,
        source: Arc::clone(&reader.source),
        origin: None,
        when: when?,
        probably,
        severities,
        named,
        examples,
    })
}

type Guess = (String, Confidence, Cond, [Severity; Reach::ALL.len()]);

/// `[probably]`: a title, a severity and a confidence of its own, and when it is said.
fn probably(reader: &mut Reader, node: &Node<'_>, title: Option<&str>) -> Option<Guess> {
    let table = reader.table(node, "probably")?;
    for (key, _) in table.iter().filter(|(key, _)| !PROBABLY.contains(&&**key.get_ref())) {
        reader.unknown_key(key.span(), key.get_ref(), "`probably`", PROBABLY.iter().copied());
    }
    for key in PROBABLY {
        if !table.contains_key(*key) {
            reader.say(node.span(), format!("`probably` has no `{key}`"));
        }
    }
    let own = prose(reader, table.get("title")?, "title", MAX_GUESS)?;
    if Some(own.as_str()) == title {
        reader.say(node.span(), "a guess has the title of what is sure");
    }
    let confidence =
        Confidence::from_name(word(reader, table.get("confidence")?, "confidence", CONFIDENCES)?)?;
    let place = table.get("when")?;
    let inner = reader.table(place, "when")?;
    let when = condition::read(reader, inner, place.span())?;
    sense::check(reader, &when);
    let (severities, _) = severity(reader, table.get("severity")?, Some(&when))?;
    Some((own, confidence, when, severities))
}

/// The file's name without its ending: words of small letters and digits, joined by `-`.
fn id(reader: &mut Reader) -> Option<String> {
    let stem =
        Path::new(&reader.file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if stem.len() <= 60 && stem.split('-').all(word) {
        return Some(stem);
    }
    reader.whole(
        "the file's name is no name for a rule",
        Some("use small letters, digits and `-`, at most 60: `database-on-all-interfaces.toml`".to_owned()),
    );
    None
}

pub(super) fn prose(reader: &mut Reader, node: &Node<'_>, what: &str, longest: usize) -> Option<String> {
    let text = reader.text(node, what)?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        reader.say(node.span(), format!("`{what}` is empty"));
    } else if trimmed.chars().count() > longest {
        reader.say(node.span(), format!("`{what}` is longer than {longest} characters"));
    } else if what == "title" && trimmed.contains('\n') {
        reader.say(node.span(), "`title` has more than one line");
    }
    Some(trimmed.to_owned())
}

pub(super) fn word<'n>(
    reader: &mut Reader,
    node: &'n Node<'_>,
    what: &str,
    known: &[&str],
) -> Option<&'n str> {
    let text = reader.text(node, what)?;
    if known.contains(&text) {
        return Some(text);
    }
    reader.unknown_word(node.span(), text, &format!("value of `{what}`"), known.iter().copied());
    None
}

fn severity(
    reader: &mut Reader,
    node: &Node<'_>,
    when: Option<&Cond>,
) -> Option<([Severity; Reach::ALL.len()], Vec<Reach>)> {
    let Some(table) = node.get_ref().as_table() else {
        let severity = Severity::from_name(word(reader, node, "severity", SEVERITIES)?)?;
        return Some(([severity; Reach::ALL.len()], Vec::new()));
    };
    if table.is_empty() {
        reader.say(node.span(), "`severity` names no class of reach");
        return None;
    }
    let possible = when.map_or(Reach::ALL.to_vec(), sense::reaches);
    let mut named: Vec<(Reach, Severity)> = Vec::new();
    let mut sound = true;
    for (key, value) in table {
        let Some(reach) = Reach::from_name(key.get_ref()) else {
            let classes = Reach::ALL.iter().map(|class| class.name());
            reader.unknown_word(key.span(), key.get_ref(), "class of reach", classes);
            sound = false;
            continue;
        };
        if !possible.contains(&reach) {
            let message = format!("`[when]` lets no socket with reach `{}` through", reach.name());
            reader.advise(key.span(), message, "remove this entry, or widen `reach`");
            sound = false;
        }
        match word(reader, value, "severity", SEVERITIES).and_then(Severity::from_name) {
            Some(severity) => named.push((reach, severity)),
            None => sound = false,
        }
    }
    let missing: Vec<&str> = [Reach::Host, Reach::Lan, Reach::Internet]
        .into_iter()
        .filter(|class| possible.contains(class) && !named.iter().any(|(reach, _)| reach == class))
        .map(Reach::name)
        .collect();
    if sound && !missing.is_empty() {
        let message =
            format!("`severity` does not say what these classes of reach are: {}", missing.join(", "));
        reader.advise(
            node.span(),
            message,
            "name them, or leave them out in `[when]` (`reach = \">= lan\"`)",
        );
        sound = false;
    }
    if !sound {
        return None;
    }
    named.sort();
    let mut severities = [Severity::Info; Reach::ALL.len()];
    for (slot, reach) in severities.iter_mut().zip(Reach::ALL) {
        *slot = follow(&named, *reach)?;
    }
    Some((severities, named.into_iter().map(|(reach, _)| reach).collect()))
}

/// A class that is not named follows the nearest named one, of two equally near the wider; sockets
/// whose reach is unknown follow the widest, those that nobody or one process reaches the narrowest.
fn follow(named: &[(Reach, Severity)], reach: Reach) -> Option<Severity> {
    if let Some((_, severity)) = named.iter().find(|(class, _)| *class == reach) {
        return Some(*severity);
    }
    let known = || named.iter().filter(|(class, _)| *class != Reach::Unknown);
    let chosen = match reach {
        Reach::Unknown => known().next_back(),
        Reach::None | Reach::Process => known().next(),
        Reach::Host | Reach::Container | Reach::Link | Reach::Lan | Reach::Internet => {
            known().min_by_key(|(class, _)| (((*class as i32) - (reach as i32)).abs(), *class < reach))
        }
    };
    chosen.or(named.first()).map(|(_, severity)| *severity)
}

pub(super) fn references(reader: &mut Reader, node: &Node<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for each in reader.list(node, "references") {
        let Some(text) = reader.text(each, "references") else { continue };
        if !is_reference(text) {
            let help = format!("write a URL (https://…), or one of {}: and a name", REFERENCES.join(":, "));
            reader.advise(each.span(), "this is no reference", help);
        }
        found.push(text.to_owned());
    }
    found
}

/// `https://…` or `attack:T1133`.
fn is_reference(text: &str) -> bool {
    let plain = text.len() <= 300 && text.chars().all(|c| c.is_ascii_graphic());
    let url = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    match (url, text.split_once(':')) {
        (Some(rest), _) => plain && rest.split('/').next().is_some_and(|host| host.contains('.')),
        (None, Some(("attack", name))) => {
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let (technique, sub) = name.split_once('.').unwrap_or((name, "000"));
            technique.len() == 5
                && technique.starts_with('T')
                && digits(&technique[1..])
                && sub.len() == 3
                && digits(sub)
        }
        (None, Some((form, name))) => plain && REFERENCES.contains(&form) && !name.is_empty(),
        (None, None) => false,
    }
}

fn remedies(reader: &mut Reader, node: &Node<'_>) -> Vec<Template> {
    let mut found = Vec::new();
    for each in reader.list(node, "remedy") {
        let Some(table) = reader.table(each, "remedy") else { continue };
        for (key, _) in table.iter().filter(|(key, _)| !REMEDY.contains(&&**key.get_ref())) {
            reader.unknown_key(key.span(), key.get_ref(), "a remedy", REMEDY.iter().copied());
        }
        for key in ["kind", "title"] {
            if !table.contains_key(key) {
                reader.say(each.span(), format!("this remedy has no `{key}`"));
            }
        }
        if !table.contains_key("commands") && !table.contains_key("note") {
            reader.say(each.span(), "this remedy has neither `commands` nor `note`: it says nothing to do");
        }
        let kind = table.get("kind").and_then(|node| word(reader, node, "kind", REMEDY_KINDS));
        let title = table.get("title").and_then(|node| line(reader, node, "title", false));
        let commands = lines(reader, table, "commands");
        let undo = lines(reader, table, "undo");
        let verify = table.get("verify").and_then(|node| line(reader, node, "verify", true));
        let note = table.get("note").and_then(|node| line(reader, node, "note", false));
        if let (Some(kind), Some(title)) = (kind, title) {
            found.push(Template { kind: kind.to_owned(), title, commands, undo, verify, note });
        }
    }
    found
}

fn lines(reader: &mut Reader, table: &DeTable<'_>, what: &str) -> Vec<Line> {
    let Some(node) = table.get(what) else { return Vec::new() };
    let nodes = reader.list(node, what);
    nodes.into_iter().filter_map(|each| line(reader, each, what, true)).collect()
}

fn line(reader: &mut Reader, node: &Node<'_>, what: &str, shell: bool) -> Option<Line> {
    const LONGEST: usize = 2000;
    let text = reader.text(node, what)?;
    if text.trim().is_empty() || text.len() > LONGEST {
        reader.say(node.span(), format!("`{what}` is empty or longer than {LONGEST} bytes"));
        return None;
    }
    Some(Line::read(reader, text, node.span(), shell))
}
