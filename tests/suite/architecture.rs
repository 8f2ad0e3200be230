//! Who may import whom: the table of ARCHITECTURE.md, held against every file below src.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may name. What is not listed may be imported by nobody.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("source", &[]),
    ("netlink", &[]),
    ("finding", &["model"]),
    ("rules", &["model", "finding"]),
    ("collect", &["model", "source", "netlink"]),
    ("enrich", &["model", "source", "netlink"]),
    ("firewall", &["model", "source", "netlink", "finding"]),
    ("scan", &["model", "source", "collect", "enrich", "firewall", "rules", "finding"]),
    ("output", &["model", "finding"]),
    ("history", &["model", "finding"]),
    ("doctor", &["model", "source", "collect"]),
    ("demo", &["model"]),
    ("alert", &["model", "finding"]),
    // Of the readers, it knows two doors: what happens among sockets, and what decides their reach.
    ("watch", &["model", "source", "finding", "collect", "firewall"]),
    (
        "cli",
        &[
            "model", "source", "finding", "rules", "collect", "enrich", "firewall", "scan", "output",
            "doctor", "demo", "watch", "alert", "history",
        ],
    ),
];

/// Files within a room that may see less than their room: they decide on plain values.
const PURE: &[(&str, &[&str])] = &[
    ("watch/publish.rs", &["model", "finding", "watch"]),
    ("alert/throttle.rs", &["finding", "alert"]),
    ("watch/diff.rs", &["model", "finding", "watch"]),
    ("watch/trigger.rs", &[]),
    ("firewall/expose.rs", &["model", "firewall"]),
    ("firewall/inquiry.rs", &["model", "firewall"]),
    ("firewall/place.rs", &["model", "firewall"]),
    ("firewall/ways.rs", &["model", "firewall"]),
    ("firewall/netlink.rs", &["netlink"]),
    ("firewall/ask/filter.rs", &["model", "firewall"]),
    ("firewall/ask/routes.rs", &["model", "firewall"]),
    ("firewall/suggest", &["model", "finding", "firewall"]),
    ("collect/join.rs", &["model", "collect"]),
    ("collect/linux/bpf/record.rs", &["model", "collect"]),
    ("collect/linux/wire/", &["model", "netlink", "collect"]),
    ("collect/linux/links.rs", &["netlink", "collect"]),
    ("collect/roles.rs", &["model", "collect"]),
    ("collect/peers.rs", &["model", "collect"]),
    ("collect/linux/proc_net.rs", &["model", "collect"]),
    ("enrich/cgroup.rs", &["model", "enrich"]),
    ("enrich/netlink.rs", &["model", "netlink"]),
    ("enrich/record.rs", &["model", "enrich"]),
    ("enrich/rpm/header.rs", &[]),
    ("enrich/rpm/sqlite.rs", &[]),
    ("enrich/unit_file.rs", &["model", "enrich"]),
    ("enrich/user.rs", &["model"]),
];

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// First segments after `crate::` in code, grouped imports (`use crate::{a, b::c}`) included.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.find("//").map_or(line, |at| &line[..at]))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(head(rest)),
        }
    }
    found
}

fn head(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The first segment of each element of a braced group, nested groups passed over.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                heads.extend(head(&group[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                heads.extend(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

#[test]
fn imports_point_downwards() {
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    assert!(files.len() > 20, "src was not found whole: {} files", files.len());

    let mut faults = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
        let room = relative.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&room.as_str()) || relative == "rules/embed.rs" {
            continue;
        }
        let Some(room_allows) = table.get(room.as_str()) else {
            faults.push(format!("src/{relative}: room `{room}` is not in the table"));
            continue;
        };
        let pure = PURE.iter().find(|(prefix, _)| relative.starts_with(prefix));
        for name in imports(&fs::read_to_string(&file).expect("a source file is text")) {
            let allowed = match pure {
                Some((_, narrower)) => narrower.contains(&name.as_str()),
                None => name == room || room_allows.contains(&name.as_str()),
            };
            if table.contains_key(name.as_str()) && !allowed {
                faults.push(format!("src/{relative} must not import `{name}`"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_exception_names_a_file_that_exists() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    for (prefix, _) in PURE {
        let wanted = src.join(prefix);
        assert!(files.iter().any(|file| file.starts_with(&wanted)), "src/{prefix} does not exist");
    }
}

#[test]
fn grouped_imports_are_read() {
    let text = "use crate::{model::{Socket, Text}, source::Source, rules};\n// use crate::cli;\nlet x = crate::scan::gather();";
    let heads: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(heads, ["model", "rules", "scan", "source"]);
}

/// What rules name as the reason of a doubt is a gap that some other room really tells of.
#[test]
fn every_gap_that_rules_blame_is_told() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let blamed = fs::read_to_string(src.join("rules/gaps.rs")).expect("a source file is text");
    let table = blamed.split_once("];").expect("the end of the table").0;
    let ids: BTreeSet<&str> =
        table.split('"').filter(|word| word.contains('-') && !word.contains(' ')).collect();
    assert!(ids.len() > 10, "{ids:?}");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    files.retain(|file| !file.starts_with(src.join("rules")));
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).expect("text")).collect();
    for id in ids {
        let id = format!("\"{id}\"");
        assert!(texts.iter().any(|text| text.contains(&id)), "no room tells of {id}");
    }
}
