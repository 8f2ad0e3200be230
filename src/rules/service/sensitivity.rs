//! How bad it is when others reach a service, by what it gives away: the severities that a service
//! file starts from.

use crate::finding::Severity;
use crate::model::Reach;

/// Severity by class of reach, in the order of [`CLASSES`]; `None`: the rule is quiet there.
pub(crate) type Severities = [Option<Severity>; CLASSES.len()];

/// The classes that a service file speaks of, widest first. Sockets whose reach is unknown follow
/// the widest one that is not quiet.
pub(crate) const CLASSES: [Reach; 5] =
    [Reach::Internet, Reach::Lan, Reach::Link, Reach::Container, Reach::Host];

/// One word for what a service gives to whoever reaches it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sensitivity {
    pub(crate) name: &'static str,
    pub(crate) words: &'static str,
    pub(crate) severities: Severities,
}

const C: Option<Severity> = Some(Severity::Critical);
const H: Option<Severity> = Some(Severity::High);
const M: Option<Severity> = Some(Severity::Medium);
const L: Option<Severity> = Some(Severity::Low);
const I: Option<Severity> = Some(Severity::Info);
const Q: Option<Severity> = None;

const fn of(name: &'static str, words: &'static str, severities: Severities) -> Sensitivity {
    Sensitivity { name, words, severities }
}

/// Every word that `sensitivity` takes, worst first.
pub(crate) const ALL: &[Sensitivity] = &[
    of("malware", "what intruders bring along", [C, C, C, H, H]),
    of("code", "runs programs for whoever reaches it", [C, H, H, Q, Q]),
    of("data", "reads and changes data without a login", [C, H, H, Q, Q]),
    of("device", "machines and plants that obey without a login", [C, H, H, M, Q]),
    of("control", "steers a service without a login", [H, H, H, Q, Q]),
    of("clear-text", "a login that travels readable", [H, M, M, Q, Q]),
    of("admin", "an administration page behind a login", [H, M, M, Q, Q]),
    of("store", "data behind a login", [H, M, M, Q, Q]),
    of("files", "files for other computers", [H, M, M, Q, Q]),
    of("desktop", "a screen with keyboard and mouse", [H, M, M, Q, Q]),
    of("proxy", "passes on the traffic of others", [H, M, M, Q, Q]),
    of("amplifier", "small forged requests, large answers to a victim", [H, L, L, Q, Q]),
    of("tool", "a tool of developers, made for one computer", [M, M, M, Q, Q]),
    of("information", "tells strangers about this computer", [M, L, L, Q, Q]),
    of("peers", "speaks with strangers by design", [M, L, L, Q, Q]),
    of("login", "meant for others, behind a strong login", [M, L, L, Q, Q]),
    of("discovery", "announces and finds services in the local network", [M, I, I, Q, Q]),
    of("public", "meant to be reached", [I, I, I, Q, Q]),
];

impl Sensitivity {
    pub(crate) fn from_name(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|each| each.name == name)
    }
}

/// What is said where only the port speaks: one step less and never more than medium; where other
/// services use the port too, two steps less and never more than low, and nothing of what is low
/// already.
pub(crate) fn guess(sure: Severity, shared: bool) -> Option<Severity> {
    let lower = |severity: Severity| match severity {
        Severity::Critical => Severity::High,
        Severity::High => Severity::Medium,
        Severity::Medium => Severity::Low,
        Severity::Low | Severity::Info => Severity::Info,
    };
    if shared {
        return (sure > Severity::Low).then(|| lower(lower(sure)).min(Severity::Low));
    }
    Some(lower(sure).min(Severity::Medium))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_reach_is_never_less_severe() {
        for each in ALL {
            assert!(each.severities.windows(2).all(|pair| pair[0] >= pair[1]), "{}", each.name);
            assert!(each.severities[0].is_some(), "{}: the internet is always told", each.name);
        }
    }

    #[test]
    fn a_port_alone_is_never_a_high_finding() {
        for sure in Severity::ALL {
            assert!(guess(*sure, false).is_some_and(|found| found <= Severity::Medium && found <= *sure));
            assert!(guess(*sure, true).is_none_or(|found| found <= Severity::Low));
        }
    }
}
