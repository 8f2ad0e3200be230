//! A table of its own for each remedy: a drop is final whatever other tables say, and taking the
//! table away takes back all of it and nothing else (nft(8)).

use super::target::{Target, describe, label, probe};
use crate::finding::Remedy;
use crate::firewall::ranges::Family;

/// Where the chain stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hook {
    Input,
    /// Before destination translation: sees published ports as the sender wrote them.
    Prerouting,
    /// What passes through to another namespace, after translation.
    Forward,
}

/// Closes what this computer's own sockets offer to others.
pub(super) fn input(targets: &[Target]) -> Remedy {
    remedy(targets, Hook::Input, "Drop it in the input hook, in a table of its own", None)
}

/// Closes sockets and published ports alike.
pub(super) fn prerouting(targets: &[Target]) -> Remedy {
    let note = "address translation is at work here: published ports never pass the input hook, so this \
                stands before translation";
    remedy(targets, Hook::Prerouting, "Drop it before translation, in a table of its own", Some(note))
}

/// Closes the way to a socket in another namespace of this computer.
pub(super) fn forward(targets: &[Target]) -> Remedy {
    let note = "meets the addresses that the namespace has now; a container may get others when it \
                starts again";
    remedy(targets, Hook::Forward, "Drop it in the forward hook, in a table of its own", Some(note))
}

/// Closes sockets of another namespace in that namespace itself, which process `pid` is in: right
/// wherever the packets come from. `translated` tells that ports may be translated there.
pub(super) fn inside(targets: &[Target], pid: u32, translated: bool) -> Remedy {
    let (hook, name) = match translated {
        true => (Hook::Prerouting, "before the translation"),
        false => (Hook::Input, "in the input hook"),
    };
    let table = label(targets);
    let enter = format!("nsenter -t {pid} -n nft");
    Remedy {
        kind: "firewall".into(),
        title: format!("Drop it {name} of its own network namespace: {}", describe(targets)),
        commands: vec![format!("{enter} '{}'", script(targets, hook, &table))],
        undo: vec![format!("{enter} delete table inet {table}")],
        verify: Some(format!("`{enter} list table inet {table}` counts what was dropped")),
        note: Some(format!(
            "our own forward hook is not known to see what goes there; process {pid} was seen in that \
             namespace, any other one in it will do; lasts as long as the namespace"
        )),
    }
}

fn remedy(targets: &[Target], hook: Hook, title: &str, note: Option<&str>) -> Remedy {
    let table = label(targets);
    let lasting = "lasts until the next start; to keep it, put it into /etc/nftables.conf";
    Remedy {
        kind: "firewall".into(),
        title: format!("{title}: {}", describe(targets)),
        commands: vec![format!("nft '{}'", script(targets, hook, &table))],
        undo: vec![format!("nft delete table inet {table}")],
        verify: Some(format!(
            "{}, and `nft list table inet {table}` counts what was dropped",
            probe(targets)
        )),
        note: Some(note.map_or_else(|| lasting.to_owned(), |note| format!("{note}; {lasting}"))),
    }
}

/// One transaction. Made of numbers, addresses and fixed words only, so it needs no quoting
/// beyond the quotation marks around it.
fn script(targets: &[Target], hook: Hook, table: &str) -> String {
    let (chain, priority) = match hook {
        Hook::Input => ("input", -10),
        Hook::Prerouting => ("prerouting", -110),
        Hook::Forward => ("forward", -10),
    };
    let mut parts = vec![
        format!("add table inet {table}"),
        format!(
            "add chain inet {table} {chain} {{ type filter hook {chain} priority {priority}; policy accept; }}"
        ),
    ];
    for target in targets {
        for matches in matches(target, hook) {
            parts.push(format!("add rule inet {table} {chain} {matches} counter drop"));
        }
    }
    parts.join("; ")
}

/// One match for each family with addresses, else one for all.
fn matches(target: &Target, hook: Hook) -> Vec<String> {
    let ports: Vec<String> = target.ports.iter().map(u16::to_string).collect();
    let ports = one_or_set(&ports);
    let ports = format!("{} dport {ports}", target.carrier.name());
    // In a forward chain everything comes from elsewhere; lo is what own programs use.
    let (entry, local) = match hook {
        Hook::Input => ("iifname != \"lo\" ", ""),
        Hook::Prerouting => ("iifname != \"lo\" ", "fib daddr type local "),
        Hook::Forward => ("", ""),
    };
    if target.addresses.is_empty() {
        let family = match target.families[..] {
            [Family::V4] => "meta nfproto ipv4 ",
            [Family::V6] => "meta nfproto ipv6 ",
            _ => "",
        };
        return vec![format!("{entry}{family}{local}{ports}")];
    }
    let each = Family::BOTH.into_iter().filter_map(|family| {
        let addresses: Vec<String> = target.of_family(family).map(|address| address.to_string()).collect();
        let word = if family == Family::V4 { "ip" } else { "ip6" };
        (!addresses.is_empty()).then(|| format!("{entry}{word} daddr {} {ports}", one_or_set(&addresses)))
    });
    each.collect()
}

fn one_or_set(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        many => format!("{{ {} }}", many.join(", ")),
    }
}
