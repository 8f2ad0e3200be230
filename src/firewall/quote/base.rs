//! The head of a base chain as `nft list ruleset` writes it: where it stands, and what becomes of
//! packets that no rule decides.

use crate::firewall::ruleset::{Base, Hook, TableFamily};

pub(super) fn write(family: TableFamily, base: &Base) -> Option<String> {
    let hook = match base.hook {
        Hook::Ingress => "ingress",
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
        Hook::Other => return None,
    };
    let kind = if base.nat { "nat" } else { "filter" };
    let devices: Vec<String> =
        base.devices.iter().map(|name| format!("\"{}\"", String::from_utf8_lossy(name))).collect();
    let devices = match devices.as_slice() {
        [] => String::new(),
        [one] => format!(" device {one}"),
        many => format!(" devices = {{ {} }}", many.join(", ")),
    };
    let policy = if base.drop_policy { "drop" } else { "accept" };
    let priority = priority(family, base.hook, base.priority);
    Some(format!("type {kind} hook {hook}{devices} priority {priority}; policy {policy};"))
}

/// Names of priorities (nft(8), "Standard priority names"), with a distance of at most 10.
fn priority(family: TableFamily, hook: Hook, number: i32) -> String {
    const NAMES: &[(&str, i32, Option<Hook>)] = &[
        ("raw", -300, None),
        ("mangle", -150, None),
        ("dstnat", -100, Some(Hook::Prerouting)),
        ("filter", 0, None),
        ("security", 50, None),
        ("srcnat", 100, Some(Hook::Postrouting)),
    ];
    let known = match family {
        TableFamily::Inet | TableFamily::Ip | TableFamily::Ip6 => NAMES,
        TableFamily::Netdev => &NAMES[3..4],
        TableFamily::Bridge => &[],
    };
    let close =
        known.iter().find(|(_, at, only)| (number - at).abs() <= 10 && only.is_none_or(|only| only == hook));
    match close {
        Some((name, at, _)) if number == *at => (*name).to_owned(),
        Some((name, at, _)) if number > *at => format!("{name} + {}", number - at),
        Some((name, at, _)) => format!("{name} - {}", at - number),
        None => number.to_string(),
    }
}
