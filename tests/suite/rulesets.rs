//! Rulesets of real programs, as recorded in `tests/rulesets`: every answer is compared with what the
//! kernel did with that packet when the case was recorded. See the README there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};

use sockwarden::firewall::expose;
use sockwarden::model::{Endpoint, NamespaceId, Path, Snapshot, Socket, Verdict};
use sockwarden::output::read_snapshot;

fn cases() -> Vec<PathBuf> {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/rulesets");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = all.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// What `probes.txt` says.
#[derive(Default)]
struct Probes {
    /// `tcp/22` and words of the rule: verdicts that hang on a rate, a count, chance or what the sender
    /// chooses.
    doubt: BTreeMap<String, String>,
    /// Answers that may still be unknown.
    unknown: usize,
    lines: Vec<Line>,
}

/// One listener, one way in, one destination: from where packets got in.
struct Line {
    protocol: String,
    local: SocketAddr,
    netns: u32,
    entry: String,
    to: SocketAddr,
    sources: Vec<(IpAddr, bool)>,
}

impl Probes {
    fn read(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            match words.next()? {
                "doubt" => {
                    let port = words.next()?.to_owned();
                    found.doubt.insert(port, words.collect::<Vec<_>>().join(" "));
                }
                "unknown" => found.unknown = words.next()?.parse().ok()?,
                listener => found.lines.push(Line::read(listener, words)?),
            }
        }
        Some(found)
    }
}

impl Line {
    /// `tcp/[::]:22@1 wan0 203.0.113.5:22 in 8.8.8.8 out 203.0.113.9`
    fn read<'t>(listener: &str, mut words: impl Iterator<Item = &'t str>) -> Option<Self> {
        let (listener, netns) = listener.split_once('@').unwrap_or((listener, "0"));
        let (protocol, local) = listener.split_once('/')?;
        let (entry, to) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let mut sources = Vec::new();
        let mut got_in = false;
        for word in words {
            match word {
                "in" => got_in = true,
                "out" => got_in = false,
                source => sources.push((source.parse().ok()?, got_in)),
            }
        }
        let (protocol, netns) = (protocol.to_owned(), netns.parse().ok()?);
        Some(Self { protocol, local: local.parse().ok()?, netns, entry, to, sources })
    }

    fn listener<'s>(&self, snapshot: &'s Snapshot) -> &'s Socket {
        let fits = |socket: &&Socket| {
            socket.protocol.name() == self.protocol
                && socket.netns == NamespaceId(self.netns)
                && socket.local == Endpoint::Inet(self.local.ip(), self.local.port())
        };
        snapshot.sockets.iter().find(fits).unwrap_or_else(|| panic!("no {}/{}", self.protocol, self.local))
    }

    fn said<'s>(&self, socket: &'s Socket, source: IpAddr) -> Option<&'s Path> {
        let (to, port) = (self.to.ip(), self.to.port());
        let covers = |path: &&Path| {
            let ports = path.ports.as_ref();
            path.entry.netns == NamespaceId(0)
                && path.entry.interfaces.iter().any(|name| name.as_bytes() == self.entry.as_bytes())
                && path.sources.iter().any(|range| range.contains(source))
                && path.destinations.iter().any(|range| range.contains(to))
                && ports.is_none_or(|all| all.iter().any(|range| (range.first..=range.last).contains(&port)))
        };
        socket.exposure.as_ref()?.paths.iter().find(covers)
    }
}

/// Never wrong in either direction, and no more in doubt than the case allows.
#[test]
fn recorded_rulesets_are_judged_as_the_kernel_did() {
    let mut complaints = Vec::new();
    let mut all = 0;
    for case in cases() {
        let name = case.file_name().unwrap().display().to_string();
        let mut snapshot = read_snapshot(&std::fs::read(case.join("snapshot.json")).unwrap()).unwrap();
        let probes = Probes::read(&std::fs::read_to_string(case.join("probes.txt")).unwrap());
        let probes = probes.unwrap_or_else(|| panic!("{name}: probes.txt"));
        expose(&mut snapshot, None);
        let (mut unknown, mut doubtful) = (0, 0);
        for line in &probes.lines {
            let socket = line.listener(&snapshot);
            for (source, got_in) in &line.sources {
                all += 1;
                let path = line.said(socket, *source);
                let said = path.map(|path| path.verdict);
                // What the verdict hangs on must be named.
                let hangs = probes.doubt.get(&format!("{}/{}", line.protocol, line.to.port()));
                let hangs = hangs.zip(path).is_some_and(|(words, path)| {
                    let mut named = path.because.iter().map(|index| &snapshot.evidence[*index as usize]);
                    named.any(|rule| rule.text.to_string().contains(words))
                });
                match said {
                    Some(Verdict::Unknown) if hangs => doubtful += 1,
                    Some(Verdict::Unknown) => unknown += 1,
                    Some(Verdict::Accept) if *got_in => {}
                    None if !got_in => {}
                    Some(Verdict::Accept) | None => complaints.push(format!(
                        "{name}: {source} -> {} by {}: kernel {got_in}, said {said:?}",
                        line.to, line.entry
                    )),
                }
            }
        }
        if unknown > probes.unknown {
            complaints.push(format!("{name}: {unknown} unknown, {} allowed", probes.unknown));
        }
        if !probes.doubt.is_empty() && doubtful == 0 {
            complaints.push(format!("{name}: what hangs on a rate is said to be certain"));
        }
    }
    let shown = complaints[..complaints.len().min(30)].join("\n");
    assert!(complaints.is_empty(), "{} complaints:\n{shown}", complaints.len());
    assert!(all > 5_000, "only {all} answers were compared");
}
