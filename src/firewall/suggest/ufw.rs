//! ufw(8): rules before all others, since the first one that fits decides.

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
        for &family in &target.families {
            let mut to: Vec<String> = target.of_family(family).map(|address| address.to_string()).collect();
            if target.addresses.is_empty() {
                to.push("any".to_owned());
            }
            for to in to {
                for port in &target.ports {
                    let rule = |from| format!("deny in proto {carrier} from {from} to {to} port {port}");
                    rules.extend(halves(family).map(rule));
                }
            }
        }
    }
    Some(Remedy {
        kind: "firewall".into(),
        title: format!("Let ufw deny it: {}", describe(targets)),
        commands: rules.iter().map(|rule| format!("ufw prepend {rule}")).collect(),
        undo: rules.iter().map(|rule| format!("ufw --force delete {rule}")).collect(),
        verify: Some(format!("{}, and `ufw status numbered` shows it first", probe(targets))),
        note: Some(
            "kept by ufw over restarts; \"from any\" is written as two halves, since ufw skips a rule whose \
             twin allows the same"
                .to_owned(),
        ),
    })
}

/// Every sender, in two rules that are nobody's yet: `ufw prepend deny` of the very addresses and
/// port of an `allow` does nothing and says so in passing ("Skipping inserting existing rule").
fn halves(family: Family) -> std::array::IntoIter<&'static str, 2> {
    match family {
        Family::V4 => ["0.0.0.0/1", "128.0.0.0/1"],
        Family::V6 => ["::/1", "8000::/1"],
    }
    .into_iter()
}
