//! Which rules there are: the shipped ones, and those of folders that the user names.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RuleSet;
use super::compile::{self, Rule};
use super::index::{Entry, Index, Sketch};
use super::reader::{MAX_FILE, nearest};
use super::slot::Slot;
use crate::model::Problem;

/// Path and text of every shipped rule, in the order of their paths, and of services what finds them.
const SHIPPED: &[(&str, &str, Option<Sketch>)] = include!(concat!(env!("OUT_DIR"), "/rules.rs"));

/// Deepest folder below one that was named, and most files in it.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 5000;

/// A shipped rule that a file of the user's stands in for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    pub rule: String,
    /// The user's file.
    pub file: String,
}

impl RuleSet {
    /// The shipped rules.
    ///
    /// # Panics
    /// If a shipped rule is faulty, which the test `tests/suite/rules.rs` rules out.
    pub fn builtin() -> Self {
        Self::load(&[]).unwrap_or_else(|problems| panic!("a shipped rule is faulty: {problems:?}"))
    }

    /// The shipped rules and those of every `*.toml` below these folders (or these files); a later
    /// folder wins over an earlier one.
    ///
    /// # Errors
    /// Everything that is wrong with any of them: then none is used, since a set with a rule
    /// missing would pass for clean.
    pub fn load(folders: &[PathBuf]) -> Result<Self, Vec<Problem>> {
        let (mut rules, mut problems) = (BTreeMap::new(), Vec::new());
        for (file, text, sketch) in SHIPPED {
            match sketch {
                Some(sketch) => put(&mut rules, Slot::later(file, text, sketch), &mut problems),
                None => add(&mut rules, compile::rule(file, Arc::from(*text), true), &mut problems),
            }
        }
        let ids: Vec<String> = rules.keys().cloned().collect();
        let mut overrides = Vec::new();
        for folder in folders {
            let mut own = BTreeMap::new();
            for (file, text) in files(folder, &mut problems) {
                add(&mut own, compile::rule(&file, text, false), &mut problems);
            }
            for (id, slot) in own {
                let rule = slot.rule();
                check_override(rule, ids.binary_search(&id).is_ok(), &ids, &mut problems);
                if rule.overrides {
                    overrides.retain(|known: &Override| known.rule != id);
                    overrides.push(Override { rule: id.clone(), file: rule.file.clone() });
                }
                rules.insert(id, slot);
            }
        }
        if problems.is_empty() {
            Ok(Self::of(rules.into_values().collect(), overrides))
        } else {
            Err(problems)
        }
    }

    /// Only the rules below this folder, without the shipped ones: for `rules test DIR` and
    /// `rules lint DIR`.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn only(folder: &Path) -> Result<Self, Vec<Problem>> {
        let (mut rules, mut problems) = (BTreeMap::new(), Vec::new());
        for (file, text) in files(folder, &mut problems) {
            add(&mut rules, compile::rule(&file, text, false), &mut problems);
        }
        if problems.is_empty() {
            Ok(Self::of(rules.into_values().collect(), Vec::new()))
        } else {
            Err(problems)
        }
    }

    fn of(slots: Vec<Slot>, overrides: Vec<Override>) -> Self {
        let index = Index::new(slots.iter().map(|slot| match slot.sketch() {
            Some(sketch) => Entry::Sketch(sketch),
            None => Entry::Rule(slot.rule()),
        }));
        Self { slots, overrides, index }
    }
}

impl From<Vec<Rule>> for RuleSet {
    /// These rules and no others; of two with one name the later stays.
    fn from(rules: Vec<Rule>) -> Self {
        let by_id: BTreeMap<String, Slot> =
            rules.into_iter().map(|rule| (rule.id().to_owned(), rule.into())).collect();
        Self::of(by_id.into_values().collect(), Vec::new())
    }
}

fn add(rules: &mut BTreeMap<String, Slot>, rule: Result<Rule, Vec<Problem>>, problems: &mut Vec<Problem>) {
    match rule {
        Err(found) => problems.extend(found),
        Ok(rule) => put(rules, rule.into(), problems),
    }
}

fn put(rules: &mut BTreeMap<String, Slot>, slot: Slot, problems: &mut Vec<Problem>) {
    if let Some(other) = rules.get(slot.id()) {
        let message = format!("there are two rules `{}`", slot.id());
        problems.push(whole(slot.file(), message, Some(format!("the other is {}", other.file()))));
    }
    rules.insert(slot.id().to_owned(), slot);
}

fn check_override(rule: &Rule, shipped: bool, ids: &[String], problems: &mut Vec<Problem>) {
    let id = rule.id();
    if shipped && !rule.overrides {
        let message = format!("there is a shipped rule `{id}`");
        let help = "write `override = true` to stand in for it, or choose another name";
        problems.push(whole(&rule.file, message, Some(help.to_owned())));
    }
    if !shipped && rule.overrides {
        let help = nearest(id, ids.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        problems.push(whole(&rule.file, format!("there is no shipped rule `{id}` to override"), help));
    }
}

fn whole(file: &str, message: String, help: Option<String>) -> Problem {
    Problem { file: file.to_owned(), source: Arc::from(""), span: None, message, help }
}

/// Path and text of every rule file; what cannot be read is a problem.
fn files(folder: &Path, problems: &mut Vec<Problem>) -> Vec<(String, Arc<str>)> {
    let mut paths = Vec::new();
    if folder.is_dir() {
        find(folder, 0, &mut paths, problems);
        paths.sort();
    } else {
        paths.push(folder.to_owned());
    }
    let mut found = Vec::new();
    for path in paths {
        let name = path.to_string_lossy().into_owned();
        match text(&path) {
            Ok(text) => found.push((name, text)),
            Err(error) => problems.push(whole(&name, format!("cannot be read: {error}"), None)),
        }
    }
    found
}

fn text(path: &Path) -> std::io::Result<Arc<str>> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE as u64 + 1).read_to_string(&mut text)?;
    Ok(text.into())
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    let name = folder.to_string_lossy().into_owned();
    if depth > MAX_DEPTH {
        return problems.push(whole(&name, format!("folders are nested deeper than {MAX_DEPTH}"), None));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return problems.push(whole(&name, format!("cannot be read: {error}"), None)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, depth + 1, found, problems);
        } else if path.extension().is_some_and(|ext| ext == "toml") {
            if found.len() >= MAX_FILES {
                return problems.push(whole(&name, format!("more than {MAX_FILES} rule files"), None));
            }
            found.push(path);
        }
    }
}
