//! One rule a family, port and address at the head of a chain, and its deletion (iptables(8)).

use super::target::{Target, describe, probe};
use crate::finding::Remedy;
use crate::firewall::ranges::Family;

/// Which of the two programs: each has tables of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Legacy,
    Nft,
}

impl Kind {
    fn program(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Legacy, Family::V4) => "iptables-legacy",
            (Self::Legacy, Family::V6) => "ip6tables-legacy",
            (Self::Nft, Family::V4) => "iptables-nft",
            (Self::Nft, Family::V6) => "ip6tables-nft",
        }
    }
}

/// Closes what this computer's own sockets offer to others.
pub(super) fn input(targets: &[Target], kind: Kind) -> Remedy {
    remedy(targets, kind, "INPUT", " ! -i lo", "lasts until the next start unless iptables-save keeps it")
}

/// Closes the way to a container: Docker passes everything for its networks through this chain
/// first. `None` where Docker has no such chain for any of the families.
pub(super) fn docker(targets: &[Target], kind: Kind) -> Option<Remedy> {
    let note = "meets the container's own port and its addresses of now, which may be others when it \
                starts again; for good, publish the port on 127.0.0.1 only";
    let v4: Vec<Target> = targets
        .iter()
        .filter(|target| target.of_family(Family::V4).next().is_some())
        .map(|target| Target {
            families: vec![Family::V4],
            addresses: target.of_family(Family::V4).collect(),
            ..target.clone()
        })
        .collect();
    (!v4.is_empty()).then(|| remedy(&v4, kind, "DOCKER-USER", "", note))
}

fn remedy(targets: &[Target], kind: Kind, chain: &str, entry: &str, note: &str) -> Remedy {
    let mut rules = Vec::new();
    for target in targets {
        for &family in &target.families {
            let bits = if family == Family::V4 { 32 } else { 128 };
            let mut to: Vec<String> =
                target.of_family(family).map(|address| format!(" -d {address}/{bits}")).collect();
            if target.addresses.is_empty() {
                to.push(String::new());
            }
            for to in to {
                for port in &target.ports {
                    let carrier = target.carrier.name();
                    rules.push((
                        kind.program(family),
                        format!("{entry}{to} -p {carrier} --dport {port} -j DROP"),
                    ));
                }
            }
        }
    }
    let with = |action: &str| {
        rules.iter().map(|(program, rule)| format!("{program} {action} {chain}{rule}")).collect()
    };
    let program = rules.first().map_or("iptables", |(program, _)| program);
    Remedy {
        kind: "firewall".into(),
        title: format!("Drop it at the head of {chain}: {}", describe(targets)),
        commands: with("-I"),
        undo: with("-D"),
        verify: Some(format!("{}, and `{program} -nvL {chain}` counts what was dropped", probe(targets))),
        note: Some(note.to_owned()),
    }
}
