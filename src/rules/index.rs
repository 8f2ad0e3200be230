//! Which rules are worth asking for a socket, so that the cost hardly grows with their number.

use std::collections::{BTreeMap, HashMap};

use super::compile::Rule;
use super::condition::{Cond, Leaf};
use super::facts::{last_part, port};
use super::matcher::unheld;
use super::pattern::{Glob, Pattern, Truth};
use super::schema::{FAMILY, Key, PROTOCOLS, protocol_code};
use crate::model::{Fact, Observation, OwnerGap, ProcessId, Role};

/// A rule stands in the list of each process name and port by which alone it can hold, else in that
/// of each kind of socket (protocol and role) it could match.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    kinds: BTreeMap<Kind, Vec<usize>>,
    ports: HashMap<u16, Vec<usize>>,
    names: HashMap<Box<[u8]>, Vec<usize>>,
    globs: Vec<(Glob, usize)>,
    /// The rules of `names` once more by kind, for sockets whose holder nobody could see.
    unseen: BTreeMap<Kind, Vec<usize>>,
    /// What each rule can match at all.
    masks: Vec<Mask>,
}

/// What is known of a shipped service before its rule is compiled: the build script writes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sketch {
    pub(super) tcp: bool,
    pub(super) udp: bool,
    /// Names of programs, maybe with globs.
    pub(super) programs: &'static [&'static str],
    pub(super) ports: &'static [u16],
    /// It can also match by something else.
    pub(super) loose: bool,
}

/// What an index is made from.
pub(super) enum Entry<'r> {
    Rule(&'r Rule),
    Sketch(&'r Sketch),
}

/// Rules found for each process by its names, kept while one snapshot is asked about.
#[derive(Default)]
pub(super) struct Found(Vec<Option<Vec<usize>>>);

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
    Glob(Glob),
    Port(u16),
}

/// Protocols and roles as bits.
#[derive(Clone, Copy, Debug)]
struct Mask {
    protocols: u32,
    roles: u32,
}

impl Mask {
    fn of(kinds: &[Kind]) -> Self {
        let mut mask = Self { protocols: 0, roles: 0 };
        for (protocol, role) in kinds {
            mask.protocols |= bit(*protocol);
            mask.roles |= 1 << role;
        }
        mask
    }

    fn admits(self, (protocol, role): Kind) -> bool {
        self.protocols & bit(protocol) != 0 && self.roles & 1 << role != 0
    }
}

/// The bit of a protocol's code.
fn bit(protocol: u32) -> u32 {
    1 << protocol.min(31)
}

impl Index {
    pub(super) fn new<'r>(entries: impl Iterator<Item = Entry<'r>>) -> Self {
        let mut index = Self::default();
        for (number, entry) in entries.enumerate() {
            match entry {
                Entry::Rule(rule) => index.rule(number, rule),
                Entry::Sketch(sketch) => index.sketch(number, sketch),
            }
        }
        index
    }

    fn rule(&mut self, number: usize, rule: &Rule) {
        let (mut kinds, mut all_signs, mut needs_sight) = (Vec::new(), Some(Vec::new()), false);
        for cond in [Some(&rule.when), rule.probably.as_ref().map(|guess| &guess.when)].into_iter().flatten()
        {
            let mut needs = Needs::default();
            needs.gather(cond);
            kinds.extend(needs.kinds());
            all_signs = all_signs.zip(signs(cond)).map(|(before, more)| [before, more].concat());
            needs_sight |= !tells_of_hidden(cond);
        }
        self.masks.push(Mask::of(&kinds));
        let Some(signs) = all_signs.filter(|signs| signs.len() <= MANY_SIGNS) else {
            return kinds.into_iter().for_each(|kind| push(self.kinds.entry(kind).or_default(), number));
        };
        if needs_sight && signs.iter().any(|sign| !matches!(sign, Sign::Port(_))) {
            kinds.into_iter().for_each(|kind| push(self.unseen.entry(kind).or_default(), number));
        }
        signs.into_iter().for_each(|sign| self.sign(number, sign));
    }

    fn sketch(&mut self, number: usize, sketch: &Sketch) {
        let code = |name: &str| PROTOCOLS.iter().position(|each| *each == name).unwrap_or(0) as u32;
        let mut kinds = Vec::new();
        for (there, protocols, role) in
            [(sketch.tcp, &["tcp", "mptcp"][..], Role::Listener), (sketch.udp, &["udp"], Role::Receiver)]
        {
            for protocol in protocols.iter().filter(|_| there) {
                kinds.extend([(code(protocol), role as u32), (code(protocol), Role::Published as u32)]);
            }
        }
        self.masks.push(Mask::of(&kinds));
        if sketch.loose {
            return kinds.into_iter().for_each(|kind| push(self.kinds.entry(kind).or_default(), number));
        }
        for name in sketch.programs {
            match Glob::is_pattern(name).then(|| Glob::new(name)) {
                Some(Ok(glob)) => self.sign(number, Sign::Glob(glob)),
                Some(Err(_)) | None => {
                    // Also as it stands in comm (proc_pid_comm(5)), cut to 15 bytes.
                    let short = &name.as_bytes()[..name.len().min(15)];
                    self.sign(number, Sign::Name(short.into()));
                    self.sign(number, Sign::Name(name.as_bytes().into()));
                }
            }
        }
        sketch.ports.iter().for_each(|port| self.sign(number, Sign::Port(*port)));
    }

    fn sign(&mut self, number: usize, sign: Sign) {
        match sign {
            Sign::Name(name) => push(self.names.entry(name).or_default(), number),
            Sign::Port(port) => push(self.ports.entry(port).or_default(), number),
            Sign::Glob(glob) => self.globs.push((glob, number)),
        }
    }

    /// Rules that could fire or be undecided for this socket, in order.
    pub(super) fn candidates(&self, observation: Observation<'_>, known: &mut Found, found: &mut Vec<usize>) {
        found.clear();
        let socket = observation.socket;
        let kind = (protocol_code(socket.protocol).min(OTHER), socket.role as u32);
        found.extend(self.kinds.get(&kind).into_iter().flatten());
        let fits = |number: &&usize| self.masks[**number].admits(kind);
        if let Some(port) = port(&socket.local).and_then(|port| u16::try_from(port).ok()) {
            found.extend(self.ports.get(&port).into_iter().flatten().filter(fits));
        }
        let mut exe_unknown = false;
        for owner in observation.owners() {
            exe_unknown |= owner.process.exe.is_unknown();
            let named = known.of(owner.id, || self.named(owner.process));
            found.extend(named.iter().filter(fits));
        }
        let unseen = exe_unknown || socket.holders.len == 0 && unheld(socket) == Truth::Undecided;
        if unseen {
            found.extend(self.unseen.get(&kind).into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Rules that know a program of this name.
    fn named(&self, process: &crate::model::Process) -> Vec<usize> {
        let name = process.name.as_bytes();
        let program = match &process.exe {
            Fact::Known(exe) => last_part(exe.as_bytes()),
            Fact::Unknown | Fact::Absent => name,
        };
        let mut found = Vec::new();
        for name in [name, program] {
            found.extend(self.names.get(name).into_iter().flatten());
            found.extend(self.globs.iter().filter(|(glob, _)| glob.matches(name)).map(|(_, number)| number));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Found {
    fn of(&mut self, process: ProcessId, look: impl FnOnce() -> Vec<usize>) -> &[usize] {
        let at = process.0 as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        self.0[at].get_or_insert_with(look)
    }
}

/// Lists are filled in the order of rules.
fn push(list: &mut Vec<usize>, number: usize) {
    if list.last() != Some(&number) {
        list.push(number);
    }
}

/// Whether a condition says at its top that it is not about sockets whose holder is hidden.
fn tells_of_hidden(cond: &Cond) -> bool {
    match cond {
        Cond::All(parts) => parts.iter().any(tells_of_hidden),
        Cond::Not(inner) => matches!(&**inner, Cond::Leaf(leaf) if leaf.key == Key::OwnerGap
            && leaf.test.no.is_empty() && leaf.test.yes.contains(&Pattern::Code(OwnerGap::Hidden as u32))),
        // A condition without a process is decided without one.
        Cond::Any(_) | Cond::Leaf(_) | Cond::Holder(_) | Cond::Group(_) => false,
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

    fn kinds(&self) -> Vec<Kind> {
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
        kinds
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
        Cond::Leaf(leaf) if matches!(leaf.key, Key::Name | Key::Program) => names(&leaf.test.yes),
        Cond::Leaf(_) | Cond::Not(_) | Cond::Group(_) => None,
    }
}

fn names(patterns: &[Pattern]) -> Option<Vec<Sign>> {
    let mut found = Vec::new();
    for pattern in patterns {
        match pattern {
            Pattern::Words(words) => found.extend(words.iter().cloned().map(Sign::Name)),
            Pattern::Glob(glob) => found.push(Sign::Glob(glob.clone())),
            Pattern::Any
            | Pattern::None
            | Pattern::Code(_)
            | Pattern::Number(..)
            | Pattern::Address(_)
            | Pattern::Class(_)
            | Pattern::Row(_)
            | Pattern::Bits(_)
            | Pattern::ThisSocket
            | Pattern::Socket => return None,
        }
    }
    (!found.is_empty()).then_some(found)
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
