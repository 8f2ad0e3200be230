//! Keeps a played shape as a recorded case: `tests/rulesets/NAME/` with the snapshot that was judged,
//! the rules as programs print them, and what the kernel did with every probe.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use sockwarden::model::sample::Sample;
use sockwarden::model::{Endpoint, NamespaceId, Snapshot, SocketIndex, Span};

use super::scene::{Answer, Question, Shape};
use crate::lab::{Outcome, find_program};

pub(super) fn write(
    folder: &Path,
    shape: &Shape,
    snapshot: &Snapshot,
    found: &[SocketIndex],
    answers: &BTreeMap<Question, Answer>,
) -> Outcome {
    let folder = folder.join(shape.name);
    std::fs::create_dir_all(&folder)?;
    let (kept, numbers) = trimmed(snapshot, found);
    let inputs = serde_json::to_string(&kept)?;
    let whole = format!("{{\"schema\": \"sockwarden/v1\", \"kind\": \"snapshot\", \"inputs\": {inputs}}}\n");
    std::fs::write(folder.join("snapshot.json"), whole)?;
    std::fs::write(folder.join("probes.txt"), probes(shape, &kept, &numbers, answers))?;
    std::fs::write(folder.join("ruleset.txt"), rules())?;
    std::fs::write(folder.join("README.md"), format!("# {}\n{}\n", shape.name, shape.how))?;
    Ok(())
}

/// Only the listeners that were asked, and of the computer nothing that would tell which it was.
fn trimmed(snapshot: &Snapshot, found: &[SocketIndex]) -> (Snapshot, Vec<usize>) {
    let mut kept = snapshot.clone();
    let wanted: Vec<SocketIndex> = found.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    kept.sockets = wanted.iter().map(|index| snapshot.observe(*index).socket.clone()).collect();
    for socket in &mut kept.sockets {
        (socket.exposure, socket.peer, socket.holders, socket.user) = (None, None, Span::default(), None);
    }
    kept.processes.clear();
    kept.holders.clear();
    kept.users.clear();
    kept.evidence.clear();
    kept.gaps.clear();
    let sample = Sample::new().snapshot;
    (kept.host, kept.taken_at) = (sample.host, sample.taken_at);
    let number = |index: &SocketIndex| wanted.iter().position(|each| each == index).unwrap_or_default();
    (kept, found.iter().map(number).collect())
}

/// One line for each listener, interface and destination: who gets in and who does not.
fn probes(shape: &Shape, kept: &Snapshot, numbers: &[usize], answers: &BTreeMap<Question, Answer>) -> String {
    type Line = (usize, String, SocketAddr);
    let mut lines: BTreeMap<Line, [Vec<IpAddr>; 2]> = BTreeMap::new();
    for ((listener, entry, source, to), answer) in answers {
        let line = lines.entry((numbers[*listener], entry.clone(), *to)).or_default();
        line[usize::from(!answer.got_in)].push(*source);
    }
    let mut text = String::new();
    for (kind, port, words) in shape.doubt {
        let kind = format!("{kind:?}").to_lowercase();
        let _ = writeln!(text, "doubt {kind}/{port} {words}");
    }
    let unknown = answers.iter().filter(|((listener, _, _, to), answer)| {
        let hangs = shape.doubt.iter().any(|(kind, port, words)| {
            *port == to.port()
                && format!("{kind:?}").to_lowercase() == kept.sockets[numbers[*listener]].protocol.name()
                && answer.because.iter().any(|rule| rule.contains(words))
        });
        answer.unknown() && !hangs
    });
    let unknown = unknown.count();
    if unknown > 0 {
        let _ = writeln!(text, "unknown {unknown}");
    }
    for ((socket, entry, to), sources) in lines {
        let socket = &kept.sockets[socket];
        let Endpoint::Inet(address, port) = socket.local else { continue };
        let local = SocketAddr::new(address, port);
        let place =
            if socket.netns == NamespaceId(0) { String::new() } else { format!("@{}", socket.netns.0) };
        let _ = write!(text, "{}/{local}{place} {entry} {to}", socket.protocol.name());
        for (word, sources) in [" in", " out"].into_iter().zip(sources) {
            if !sources.is_empty() {
                text.push_str(word);
                sources.iter().for_each(|source| {
                    let _ = write!(text, " {source}");
                });
            }
        }
        text.push('\n');
    }
    text
}

/// What an administrator would print.
fn rules() -> String {
    let mut text = String::new();
    let asked: [&[&str]; 4] = [
        &["nft", "-s", "-a", "list", "ruleset"],
        &["iptables-legacy-save"],
        &["ip6tables-legacy-save"],
        &["ipset", "save"],
    ];
    for words in asked {
        let Some(program) = find_program(words[0]) else { continue };
        let Ok(done) = Command::new(program).args(&words[1..]).output() else { continue };
        // Lines that tell when, not what.
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('#')).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "# {}\n{}\n", words.join(" "), lines.join("\n"));
        }
    }
    text
}
