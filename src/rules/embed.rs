//! Build script: a rule is registered by existing. Every `rules/**/*.toml` becomes one entry of the
//! list that `rules::builtin` includes; that of a service with what finds it, so that it is
//! compiled only on a host that may have one.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "cargo reads the build script's standard output")]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=rules");
    println!("cargo::rerun-if-changed=src/rules/embed.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut files = Vec::new();
    find(&root.join("rules"), &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        let sketch = sketch(&fs::read_to_string(file)?);
        list.push_str(&format!(
            "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?})), {sketch}),\n",
            format!("/{name}")
        ));
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("rules.rs"), list)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

/// `Some(Sketch { … })` for a service, `None` for other rules and for what is no TOML: that is told
/// when the rules are read.
fn sketch(text: &str) -> String {
    let Ok(table) = text.parse::<toml::Table>() else { return "None".to_owned() };
    if !table.contains_key("service") {
        return "None".to_owned();
    }
    let mut programs = Vec::new();
    let mut loose = false;
    for entry in ["programs", "at_port"].iter().flat_map(|key| some(table.get(*key))) {
        let names = match entry.as_table() {
            None => some(Some(entry)),
            Some(facts) => ["program", "name"]
                .iter()
                .map(|key| some(facts.get(*key)))
                .find(|it| !it.is_empty())
                .unwrap_or_default(),
        };
        let words: Vec<&str> =
            names.iter().filter_map(|name| name.as_str()).filter(|name| !name.starts_with('!')).collect();
        loose |= words.is_empty()
            || words.len() != names.len()
            || words.iter().any(|word| matches!(*word, "any" | "none" | "*"));
        programs.extend(words.into_iter().map(str::to_owned));
    }
    let mut ports = Vec::new();
    for range in ["tcp", "udp"].iter().flat_map(|key| some(table.get(*key))) {
        let ends = match range.as_str() {
            Some(text) => {
                text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
            }
            None => range.as_integer().map(|port| (port, port)),
        };
        let Some((first, last)) = ends else { continue };
        // The width from which a port alone says too little: `rules::service`.
        if last - first < 64 {
            ports.extend((first..=last).filter_map(|port| u16::try_from(port).ok()));
        } else {
            loose |= table.contains_key("kernel");
        }
    }
    let (tcp, udp) = (table.contains_key("tcp"), table.contains_key("udp"));
    format!(
        "Some(Sketch {{ tcp: {tcp}, udp: {udp}, programs: &{programs:?}, ports: &{ports:?}, loose: {loose} }})"
    )
}

/// Elements of a list; a single value stands for a list of one.
fn some(value: Option<&toml::Value>) -> Vec<&toml::Value> {
    match value {
        None => Vec::new(),
        Some(toml::Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
    }
}
