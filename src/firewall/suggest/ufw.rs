//! ufw(8): a rule before all others, since the first one that fits decides.

use super::target::{Carrier, Target, describe, probe};
use crate::finding::Remedy;
use crate::firewall::ranges::Family;

/// `None` where ufw cannot say it: it knows TCP and UDP ports only.
pub(super) fn remedy(targets: &[Target]) -> Option<Remedy> {
    let mut rules = Vec::new();
    for target in targets {
        let carrier = match target.carrier {
            Carrier::Tcp | Carrier::Udp => target.carrier.name(),
            Carrier::UdpLite | Carrier::Sctp | Carrier::Dccp => return None,
        };
        let mut to: Vec<(&str, String)> =
            target.addresses.iter().map(|address| ("any", address.to_string())).collect();
        if to.is_empty() {
            // "any" covers both families; one of them alone is named by its zero network.
            to.push(match target.families[..] {
                [Family::V4] => ("0.0.0.0/0", "0.0.0.0/0".to_owned()),
                [Family::V6] => ("::/0", "::/0".to_owned()),
                _ => ("any", "any".to_owned()),
            });
        }
        for (from, to) in to {
            for port in &target.ports {
                rules.push(format!("deny in proto {carrier} from {from} to {to} port {port}"));
            }
        }
    }
    Some(Remedy {
        kind: "firewall".into(),
        title: format!("Let ufw deny it: {}", describe(targets)),
        commands: rules.iter().map(|rule| format!("ufw prepend {rule}")).collect(),
        undo: rules.iter().map(|rule| format!("ufw --force delete {rule}")).collect(),
        verify: Some(format!("{}, and `ufw status numbered` shows it first", probe(targets))),
        note: Some("kept by ufw over restarts".to_owned()),
    })
}
