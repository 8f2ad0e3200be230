//! What two services have in common: lint looks for programs and ports that both claim.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, service};

/// The claims of one service file.
pub(super) struct Outline {
    /// Programs that are the service on any port.
    pub(super) programs: BTreeSet<String>,
    /// Protocol and port, where the port alone makes a guess.
    pub(super) ports: BTreeSet<(&'static str, u16)>,
    pub(super) shared: bool,
}

/// A fault in how services share: the rule it is about, what, and what helps.
pub(super) struct Clash<'r> {
    pub(super) rule: &'r Rule,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Programs that two services claim on any port, and ports that two services claim for themselves.
pub(super) fn clashes<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<Clash<'r>> {
    let outlines: Vec<(&Rule, Outline)> =
        rules.filter_map(|rule| Some((rule, service::outline(&rule.file, rule.service()?)?))).collect();
    let (mut programs, mut ports) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for (rule, outline) in &outlines {
        for program in &outline.programs {
            if let Some(other) = programs.insert(program, *rule) {
                let other: &Rule = other;
                found.push(Clash {
                    rule,
                    message: format!("`{}` too is known by the program `{program}` on any port", other.id()),
                    help: "name it in `at_port`, or by more facts",
                });
            }
        }
        let own = outline.ports.iter().filter(|_| !outline.shared);
        for (protocol, port) in own {
            if let Some(other) = ports.insert((protocol, port), *rule) {
                let other: &Rule = other;
                found.push(Clash {
                    rule,
                    message: format!("`{}` has {protocol} port {port} too", other.id()),
                    help: "write `shared_port = true` in both, or put both into one file",
                });
            }
        }
    }
    found.sort_by_key(|clash| clash.rule.id());
    found
}
