//! Which rules are worth asking for a socket, so that the cost hardly grows with their number.

use std::collections::{BTreeMap, HashMap};

use super::compile::Rule;
use super::condition::{Cond, Leaf};
use super::facts::{last_part, port};
use super::matcher::unheld;
use super::pattern::{Pattern, Truth};
use super::schema::{FAMILY, Key, protocol_code};
use crate::model::{Fact, Observation, Role};

/// A rule stands in the list of each process name and port by which alone it can hold, else in that
/// of each kind of socket (protocol and role) it could match.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    kinds: BTreeMap<Kind, Vec<usize>>,
    ports: HashMap<u16, Vec<usize>>,
    names: HashMap<Box<[u8]>, Vec<usize>>,
    /// The rules of `names` once more by kind, for sockets whose holder nobody could see.
    unseen: BTreeMap<Kind, Vec<usize>>,
}

/// Code of the protocol and of the role.
type Kind = (u32, u32);

/// All protocols without a name of their own share this code.
const OTHER: u32 = FAMILY;
/// Rules with more signs than this are looked up by kind.
const MANY_SIGNS: usize = 512;

/// A name or port by which a rule is found.
#[derive(Clone)]
enum Sign {
    Name(Box<[u8]>),
    Port(u16),
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let mut needs = Needs::default();
            needs.gather(&rule.when);
            let Some(signs) = signs(&rule.when).filter(|signs| signs.len() <= MANY_SIGNS) else {
                needs.kinds().for_each(|kind| index.kinds.entry(kind).or_default().push(number));
                continue;
            };
            if signs.iter().any(|sign| matches!(sign, Sign::Name(_))) {
                needs.kinds().for_each(|kind| index.unseen.entry(kind).or_default().push(number));
            }
            for sign in signs {
                match sign {
                    Sign::Name(name) => index.names.entry(name).or_default().push(number),
                    Sign::Port(port) => index.ports.entry(port).or_default().push(number),
                }
            }
        }
        index
    }

    /// Rules that could fire or be undecided for this socket, in order.
    pub(super) fn candidates(&self, observation: Observation<'_>, found: &mut Vec<usize>) {
        found.clear();
        let socket = observation.socket;
        let kind = (protocol_code(socket.protocol).min(OTHER), socket.role as u32);
        found.extend(self.kinds.get(&kind).into_iter().flatten());
        if let Some(port) = port(&socket.local).and_then(|port| u16::try_from(port).ok()) {
            found.extend(self.ports.get(&port).into_iter().flatten());
        }
        let mut exe_unknown = false;
        for owner in observation.owners() {
            found.extend(self.names.get(owner.process.name.as_bytes()).into_iter().flatten());
            match &owner.process.exe {
                Fact::Known(exe) => {
                    found.extend(self.names.get(last_part(exe.as_bytes())).into_iter().flatten())
                }
                Fact::Unknown => exe_unknown = true,
                Fact::Absent => {}
            }
        }
        let unseen = exe_unknown || socket.holders.len == 0 && unheld(socket) == Truth::Undecided;
        if unseen {
            found.extend(self.unseen.get(&kind).into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// What a rule cannot do without; `None` where it makes no demand.
#[derive(Default)]
struct Needs {
    protocols: Option<Vec<u32>>,
    roles: Option<Vec<u32>>,
}

impl Needs {
    fn gather(&mut self, cond: &Cond) {
        match cond {
            Cond::All(parts) => parts.iter().for_each(|part| self.gather(part)),
            Cond::Leaf(leaf) => self.leaf(leaf),
            Cond::Any(_) | Cond::Not(_) | Cond::Holder(_) | Cond::Group(_) => {}
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        let yes = &leaf.test.yes;
        let codes = || {
            yes.iter()
                .map(|pattern| if let Pattern::Code(code) = pattern { Some(*code) } else { None })
                .collect()
        };
        if yes.is_empty() {
        } else if leaf.key == Key::Protocol {
            self.protocols = self.protocols.take().or_else(codes);
        } else if leaf.key == Key::Role {
            self.roles = self.roles.take().or_else(codes);
        }
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let protocols = self.protocols.clone().unwrap_or_else(|| (0..19).chain([OTHER]).collect());
        let roles = self.roles.clone().unwrap_or_else(|| Role::ALL.iter().map(|role| *role as u32).collect());
        let mut kinds: Vec<Kind> = protocols
            .into_iter()
            .flat_map(|protocol| {
                roles.iter().map(move |role| (protocol.min(OTHER), *role)).collect::<Vec<_>>()
            })
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter()
    }
}

/// Names and ports of which a socket must have at least one for the condition to hold; `None`
/// where it can hold without. Of several such lists the shortest.
fn signs(cond: &Cond) -> Option<Vec<Sign>> {
    match cond {
        Cond::All(parts) => parts.iter().filter_map(signs).min_by_key(Vec::len),
        Cond::Any(parts) => parts.iter().map(signs).collect::<Option<Vec<_>>>().map(|lists| lists.concat()),
        Cond::Holder(holder) => signs(holder.process.as_ref()?),
        Cond::Leaf(leaf) if leaf.key == Key::Port => ports(&leaf.test.yes),
        Cond::Leaf(leaf) if matches!(leaf.key, Key::Name | Key::Program) => match &leaf.test.yes[..] {
            [Pattern::Words(words)] => Some(words.iter().cloned().map(Sign::Name).collect()),
            _ => None,
        },
        Cond::Leaf(_) | Cond::Not(_) | Cond::Group(_) => None,
    }
}

/// The ports of a condition, if they are few.
fn ports(patterns: &[Pattern]) -> Option<Vec<Sign>> {
    const MANY: u64 = 64;
    let mut found = Vec::new();
    for pattern in patterns {
        let Pattern::Number(first, last) = pattern else { return None };
        if last - first >= MANY {
            return None;
        }
        found.extend((*first..=*last).filter_map(|port| u16::try_from(port).ok()).map(Sign::Port));
    }
    (!found.is_empty()).then_some(found)
}
