//! Rich rules of the default zone (firewalld.richlanguage(5)).

use super::target::{Carrier, Target, describe, probe};
use crate::finding::Remedy;
use crate::firewall::ranges::Family;

pub(super) fn remedy(targets: &[Target]) -> Remedy {
    let rules: Vec<String> = targets.iter().flat_map(rules).collect();
    let with = |action: &str| -> Vec<String> {
        let each = rules.iter().map(|rule| format!("firewall-cmd --permanent --{action}-rich-rule='{rule}'"));
        each.chain(["firewall-cmd --reload".to_owned()]).collect()
    };
    Remedy {
        kind: "firewall".into(),
        title: format!("Let firewalld drop it: {}", describe(targets)),
        commands: with("add"),
        undo: with("remove"),
        verify: Some(format!("{}, and `firewall-cmd --list-rich-rules` shows it", probe(targets))),
        note: Some(
            "acts on the default zone; an interface in another zone (`firewall-cmd --get-active-zones`) needs \
             the same with --zone=NAME"
                .to_owned(),
        ),
    }
}

/// One rule for each address and port. A negative priority comes before what a zone allows.
fn rules(target: &Target) -> Vec<String> {
    // firewalld has no name for UDP-Lite ports; its protocol can be dropped as a whole.
    let what = |port: &u16| match target.carrier {
        Carrier::UdpLite => r#"protocol value="udplite""#.to_owned(),
        Carrier::Tcp | Carrier::Udp | Carrier::Sctp | Carrier::Dccp => {
            format!(r#"port port="{port}" protocol="{}""#, target.carrier.name())
        }
    };
    let mut to: Vec<String> = target
        .addresses
        .iter()
        .map(|address| {
            let family = if Family::of(*address) == Family::V4 { "ipv4" } else { "ipv6" };
            format!(r#"family="{family}" destination address="{address}" "#)
        })
        .collect();
    if to.is_empty() {
        to.push(match target.families[..] {
            [Family::V4] => r#"family="ipv4" "#.to_owned(),
            [Family::V6] => r#"family="ipv6" "#.to_owned(),
            _ => String::new(),
        });
    }
    let mut made = Vec::new();
    for to in &to {
        // `priority` belongs to the word `rule`, before any element.
        let (head, rest) = match to.split_once(" destination") {
            Some((family, rest)) => (format!("{family} "), format!("destination{rest}")),
            None => (to.clone(), String::new()),
        };
        for port in &target.ports {
            made.push(format!(r#"rule {head}priority="-100" {rest}{} drop"#, what(port)));
        }
    }
    made.dedup();
    made
}
