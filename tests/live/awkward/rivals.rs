//! How many of the same sockets other tools show, for the record. Nothing here is asserted.

use std::path::PathBuf;
use std::process::Command;

use super::want::Want;
use crate::lab::{Netns, find_program};

/// Prints a line for each tool that is installed: sockets seen, and seen with all owners.
pub(super) fn compare(wants: &[Want], places: &[&Netns]) {
    for (name, args) in
        [("ss", &["-OHnape", "-A", "all"][..]), ("lsof", &["-nPw", "+c0"]), ("netstat", &["-anpee"])]
    {
        let Some(program) = find_program(name) else {
            println!("{name}: not installed");
            continue;
        };
        let text = everywhere(&program, args, places);
        let lines: Vec<(&str, Vec<&str>)> = text
            .lines()
            .map(|line| (line, line.split(|c: char| !c.is_ascii_alphanumeric()).collect()))
            .collect();
        let (mut seen, mut right) = (0, 0);
        for want in wants {
            let rows: Vec<_> = lines.iter().filter(|(line, words)| is_row(want, line, words)).collect();
            let named = |pid: &u32| rows.iter().any(|(_, words)| words.contains(&&*pid.to_string()));
            seen += usize::from(!rows.is_empty());
            right += usize::from(!rows.is_empty() && want.owners.iter().all(named));
        }
        println!("{name}: {seen} of {} seen, {right} with the right owners", wants.len());
    }
}

/// Its output in our own namespace and in each named one, as an administrator would ask.
fn everywhere(program: &PathBuf, args: &[&str], places: &[&Netns]) -> String {
    let mut commands = vec![Command::new(program)];
    commands.extend(places.iter().filter_map(|place| place.command(program).ok()));
    commands
        .into_iter()
        .filter_map(|mut command| command.args(args).output().ok())
        .map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
        .collect()
}

/// By inode where there is one, else by both addresses.
fn is_row(want: &Want, line: &str, words: &[&str]) -> bool {
    if want.inode != 0 {
        return words.contains(&&*want.inode.to_string());
    }
    let text = |end: &str| {
        let end = &want.fields[end];
        match (end["address"].as_str(), end["path"].as_str()) {
            (Some(address), _) => format!("{address}:{}", end["port"]),
            (None, Some(path)) => path.to_owned(),
            (None, None) => String::new(),
        }
    };
    line.contains(&text("local"))
        && line.contains(&text("remote"))
        && (words.contains(&"0") || !line.contains('/'))
}
