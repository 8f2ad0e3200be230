//! One finding for one rule and one program, however many sockets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use super::fingerprint::fingerprint;
use super::{Finding, Hit, program};
use crate::model::{Endpoint, Observation, Reach, Snapshot, SocketIndex};

/// How many addresses a message names before it counts the rest.
const NAMED: usize = 4;

/// Merges hits of one rule and one program: the highest severity, evidence and remedies each
/// once, a message that names the count. A socket without known program stands for itself. Ordered
/// by severity, then reach, then rule.
pub fn group(snapshot: &Snapshot, hits: Vec<Hit>) -> Vec<Finding> {
    let mut groups: BTreeMap<Key, Vec<Hit>> = BTreeMap::new();
    for hit in hits {
        let program = program(&snapshot.observe(hit.socket));
        let alone = program.is_none().then_some(hit.socket);
        let key = Key { rule: hit.words.rule.clone(), program, alone };
        groups.entry(key).or_default().push(hit);
    }
    let mut findings: Vec<Finding> =
        groups.into_iter().map(|(key, hits)| merge(snapshot, &key, hits)).collect();
    order(snapshot, &mut findings);
    findings
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rule: String,
    program: Option<Vec<u8>>,
    alone: Option<SocketIndex>,
}

/// Suppressed ones last, then worst first, then widest reach, then rule; what is left equal is
/// ordered by fingerprint and socket, so that the same snapshot gives the same order.
pub fn order(snapshot: &Snapshot, findings: &mut [Finding]) {
    findings.sort_by_cached_key(|finding| {
        (
            finding.suppressed.is_some(),
            Reverse(finding.severity),
            Reverse(finding.sockets.iter().map(|at| width(snapshot, *at)).max()),
            finding.rule.clone(),
            finding.fingerprint.clone(),
            finding.sockets.first().copied(),
        )
    });
}

/// A class that cannot be told comes right after the widest: it may be that.
fn width(snapshot: &Snapshot, at: SocketIndex) -> u8 {
    let reach = snapshot.sockets[at.0 as usize].exposure.as_ref().map(|exposure| exposure.reach);
    match reach {
        None => 0,
        Some(Reach::None) => 1,
        Some(Reach::Process) => 2,
        Some(Reach::Host) => 3,
        Some(Reach::Container) => 4,
        Some(Reach::Link) => 5,
        Some(Reach::Lan) => 6,
        Some(Reach::Unknown) => 7,
        Some(Reach::Internet) => 8,
    }
}

fn merge(snapshot: &Snapshot, key: &Key, mut hits: Vec<Hit>) -> Finding {
    hits.sort_by_key(|hit| (Reverse(hit.severity), Reverse(width(snapshot, hit.socket)), hit.socket));
    let mut sockets: Vec<SocketIndex> = hits.iter().map(|hit| hit.socket).collect();
    sockets.sort_unstable();
    sockets.dedup();
    let worst = &hits[0];
    let (words, severity) = (worst.words.clone(), worst.severity);
    let message = message(snapshot, &worst.message, worst.socket, &sockets);
    let observed = sockets.iter().map(|at| snapshot.observe(*at));
    let fingerprint = fingerprint(&key.rule, key.program.as_deref(), observed);
    let (evidence, remedies) =
        hits.into_iter().map(|hit| (hit.evidence, hit.remedies)).unzip::<_, _, Vec<_>, Vec<_>>();
    Finding {
        rule: words.rule.clone(),
        title: words.title.clone(),
        severity,
        confidence: words.confidence,
        message,
        fingerprint,
        sockets,
        evidence: once(evidence),
        remedies: once(remedies),
        references: words.references.clone(),
        why: words.why.clone(),
        suppressed: None,
    }
}

fn once<T: Clone + Eq + Hash>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut seen = HashSet::new();
    lists.into_iter().flatten().filter(|each| seen.insert(each.clone())).collect()
}

fn message(snapshot: &Snapshot, of_worst: &str, worst: SocketIndex, sockets: &[SocketIndex]) -> String {
    if sockets.len() < 2 {
        return of_worst.to_owned();
    }
    let mut places: Vec<String> = Vec::new();
    for at in [worst].iter().chain(sockets) {
        let place = place(&snapshot.observe(*at));
        if !places.contains(&place) {
            places.push(place);
        }
        if places.len() > NAMED {
            break;
        }
    }
    let more = if places.len() > NAMED { ", …" } else { "" };
    places.truncate(NAMED);
    format!("{of_worst}{} {}{more})", before_places(sockets.len()), places.join(", "))
}

/// Where the places begin in the message of several sockets.
fn before_places(sockets: usize) -> String {
    format!(" ({sockets} sockets of this program:")
}

impl Finding {
    /// The message without the places that follow it, for those who name every place themselves.
    pub fn message_alone(&self) -> &str {
        let end = match self.sockets.len() {
            0 | 1 => None,
            many => self.message.rfind(&before_places(many)),
        };
        &self.message[..end.unwrap_or(self.message.len())]
    }
}

/// Protocol and local address for a sentence; foreign names escaped.
pub(crate) fn place(socket: &Observation<'_>) -> String {
    let protocol = socket.socket.protocol.name();
    match &socket.socket.local {
        Endpoint::None => protocol.into_owned(),
        Endpoint::Inet(address, port) => format!("{protocol} {}", std::net::SocketAddr::new(*address, *port)),
        Endpoint::UnixPath(path) => format!("{protocol} {path}"),
        Endpoint::UnixAbstract(name) => format!("{protocol} @{name}"),
        Endpoint::Vsock { cid, port } => format!("{protocol} {cid}:{port}"),
        Endpoint::Interface(index) => {
            let interfaces = socket.namespace().interfaces.known();
            let found =
                interfaces.and_then(|all| all.iter().find(|each| each.index == *index && *index != 0));
            found.map_or_else(|| format!("{protocol} *"), |each| format!("{protocol} {}", each.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::finding::{Confidence, Remedy, Severity, Words};
    use crate::model::sample::Sample;

    fn hit(rule: &str, severity: Severity, socket: u32) -> Hit {
        let words = Words {
            rule: rule.into(),
            title: format!("title of {rule}"),
            confidence: Confidence::High,
            why: "because".into(),
            references: vec!["https://example.org/".into()],
        };
        let remedy = |title: &str| Remedy {
            kind: "service".into(),
            title: title.into(),
            commands: Vec::new(),
            undo: Vec::new(),
            verify: None,
            note: None,
        };
        Hit {
            words: Arc::new(words),
            severity,
            socket: SocketIndex(socket),
            message: format!("socket {socket}"),
            evidence: vec!["process.name = nginx".into(), format!("port = {socket}")],
            remedies: vec![remedy("the same"), remedy("the same")],
        }
    }

    fn web_server() -> Sample {
        let mut sample = Sample::new();
        sample.process(50, "/usr/sbin/nginx");
        sample.process(51, "/usr/bin/redis-server");
        for port in [80, 443] {
            sample.listener(&format!("127.0.0.1:{port}"), Reach::Host, &[50]);
            sample.listener(&format!("0.0.0.0:{port}"), Reach::Internet, &[50]);
            sample.listener(&format!("[::]:{port}"), Reach::Internet, &[50]);
            sample.listener(&format!("10.0.0.1:{port}"), Reach::Lan, &[50]);
        }
        sample.listener("0.0.0.0:6379", Reach::Lan, &[51]);
        sample
    }

    #[test]
    fn a_web_server_with_eight_sockets_is_one_finding() {
        let sample = web_server();
        let severity = |at| if at == 1 { Severity::High } else { Severity::Low };
        let hits = (0..8).map(|at| hit("r", severity(at), at)).collect();
        let findings = group(&sample.snapshot, hits);
        assert_eq!(findings.len(), 1);
        let finding = &findings[0];
        assert_eq!(finding.severity, Severity::High);
        assert_eq!(finding.sockets.len(), 8);
        assert_eq!(finding.remedies.len(), 1);
        assert_eq!(finding.evidence.len(), 9);
        assert_eq!(
            finding.message,
            "socket 1 (8 sockets of this program: tcp 0.0.0.0:80, tcp 127.0.0.1:80, tcp [::]:80, tcp 10.0.0.1:80, …)"
        );
    }

    #[test]
    fn worst_first_then_widest_then_by_rule() {
        let sample = web_server();
        let hits = vec![
            hit("b", Severity::Low, 0),
            hit("z", Severity::Low, 1),
            hit("a", Severity::Low, 0),
            hit("c", Severity::Critical, 8),
        ];
        let rules: Vec<_> = group(&sample.snapshot, hits).into_iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["c", "z", "a", "b"]);
    }

    #[test]
    fn the_order_of_hits_does_not_matter() {
        let sample = web_server();
        let hits: Vec<Hit> = (0..9).map(|at| hit("r", Severity::Low, at)).collect();
        let backwards = hits.iter().cloned().rev().collect();
        assert_eq!(group(&sample.snapshot, hits), group(&sample.snapshot, backwards));
    }

    #[test]
    fn sockets_without_program_stand_alone() {
        let mut sample = Sample::new();
        sample.listener("0.0.0.0:80", Reach::Lan, &[]);
        sample.listener("0.0.0.0:81", Reach::Lan, &[]);
        assert_eq!(
            group(&sample.snapshot, vec![hit("r", Severity::Low, 0), hit("r", Severity::Low, 1)]).len(),
            2
        );
    }
}
