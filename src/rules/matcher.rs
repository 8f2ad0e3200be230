//! Rule × observation, in three values. Pure: sees a snapshot and nothing else.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::condition::{Cond, Group, HolderCond, Leaf};
use super::facts::{self, Value, View};
use super::pattern::{Class, Glob, Pattern, Test, Truth};
use super::schema::{Differs, GroupKind, Key};
use crate::model::{
    Endpoint, Fact, InterfaceKind, NamespaceId, Observation, Owner, OwnerGap, ProcessId, Protocol, Reach,
    Role, Snapshot, Socket, SocketIndex, State, Text,
};

/// A snapshot with what many conditions ask of it, computed when first needed.
pub(super) struct Scan<'s> {
    pub(super) snapshot: &'s Snapshot,
    by_process: OnceCell<Vec<Vec<SocketIndex>>>,
    by_port: OnceCell<HashMap<Door, Vec<SocketIndex>>>,
    own: OnceCell<HashSet<IpAddr>>,
    /// How many sockets of a process, or behind a door, a group matches; by the group's address.
    counted: RefCell<HashMap<(usize, Subject), Count>>,
    classes: RefCell<HashMap<(usize, Door), Classes>>,
}

/// Where sockets meet that could be taken for each other: one port of one namespace, or one
/// UNIX name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Door {
    netns: NamespaceId,
    protocol: Protocol,
    name: DoorName,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum DoorName {
    Port(u64),
    Name(Endpoint),
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Process(ProcessId),
    /// The connections of a listener: its door, and its address where it has one of its own.
    Listener(Door, Option<IpAddr>),
}

/// How many matched, and of how many that cannot be told.
#[derive(Clone, Copy, Default, Debug)]
struct Count {
    sure: u64,
    doubtful: u64,
}

/// The sockets behind a door that a group matches, told apart by what may differ.
type Classes = BTreeMap<Vec<Vec<Differing>>, Count>;

/// One value of a fact in which sockets may differ; `Unknown` where it could not be read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Differing {
    Unknown,
    Absent,
    Number(u64),
    Bytes(Vec<u8>),
}

impl<'s> Scan<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Self {
        Self {
            snapshot,
            by_process: OnceCell::new(),
            by_port: OnceCell::new(),
            own: OnceCell::new(),
            counted: RefCell::default(),
            classes: RefCell::default(),
        }
    }

    /// What the condition says of one socket.
    pub(super) fn judge(&self, cond: &Cond, observation: Observation<'s>) -> Truth {
        self.cond(cond, View { observation, owner: None })
    }

    pub(super) fn cond(&self, cond: &Cond, view: View<'s>) -> Truth {
        match cond {
            Cond::All(parts) => Truth::all(parts.iter().map(|part| self.cond(part, view))),
            Cond::Any(parts) => Truth::any(parts.iter().map(|part| self.cond(part, view))),
            Cond::Not(inner) => self.cond(inner, view).not(),
            Cond::Leaf(leaf) => self.leaf(leaf, view),
            Cond::Holder(holder) => self.holder(holder, view.observation),
            Cond::Group(group) => self.group(group, view),
        }
    }

    pub(super) fn leaf(&self, leaf: &Leaf, view: View<'s>) -> Truth {
        let value = view.value(leaf.key);
        self.test(leaf, &value, view)
    }

    fn test(&self, leaf: &Leaf, value: &Value<'s>, view: View<'s>) -> Truth {
        let Test { yes, no } = &leaf.test;
        match value {
            Value::Unknown if yes.is_empty() && no.is_empty() => Truth::True,
            Value::Unknown => Truth::Undecided,
            Value::Absent => yes.contains(&Pattern::None).into(),
            Value::Code(code) if leaf.key == Key::Reach && *code == Reach::Unknown as u32 => {
                unknown_reach(&leaf.test)
            }
            Value::Code(_)
            | Value::Number(_)
            | Value::Bits(_)
            | Value::Address(_)
            | Value::Text(_)
            | Value::Texts(_)
            | Value::List { .. }
            | Value::Streams { .. } => {
                let hit = |patterns: &[Pattern]| {
                    Truth::any(patterns.iter().map(|pattern| self.pattern(pattern, leaf.key, value, view)))
                };
                let wanted = if yes.is_empty() { Truth::True } else { hit(yes) };
                Truth::all([wanted, hit(no).not()])
            }
        }
    }

    fn pattern(&self, pattern: &Pattern, key: Key, value: &Value<'s>, view: View<'s>) -> Truth {
        match (pattern, value) {
            (Pattern::Any, _) => Truth::True,
            (Pattern::Code(wanted), Value::Code(code)) => (wanted == code).into(),
            (Pattern::Code(wanted), Value::Bits(bits)) => (bits >> (wanted & 63) & 1 == 1).into(),
            (Pattern::Code(wanted), Value::List { codes, .. }) => codes.contains(wanted).into(),
            (Pattern::Number(first, last), Value::Number(number)) => (first..=last).contains(&number).into(),
            (Pattern::Bits(wanted), Value::Number(bits)) => (bits & wanted == *wanted).into(),
            (Pattern::Address(range), Value::Address(address)) => range.contains(*address).into(),
            (Pattern::Class(class), Value::Address(address)) => self.class(*class, *address, key, view),
            (_, Value::Text(text)) => pattern.matches_text(text).into(),
            (Pattern::Row(globs), Value::Texts(words)) => row(globs, words).into(),
            (_, Value::Texts(words)) => words.iter().any(|word| pattern.matches_text(word.as_bytes())).into(),
            (_, Value::List { words, complete, .. }) => {
                match words.iter().any(|word| pattern.matches_text(word)) {
                    true => Truth::True,
                    false if *complete => Truth::False,
                    false => Truth::Undecided,
                }
            }
            (_, Value::Streams { links, inode }) => {
                Truth::any(links.iter().map(|link| stream(pattern, link, *inode)))
            }
            _ => Truth::False,
        }
    }

    /// Classes that digits cannot tell are told by the interfaces.
    fn class(&self, class: Class, address: IpAddr, key: Key, view: View<'s>) -> Truth {
        if let Some(answer) = class.of_digits(address) {
            return answer.into();
        }
        let namespace = view.observation.namespace();
        let within = |kinds: &[InterfaceKind]| match &namespace.interfaces {
            Fact::Known(interfaces) => interfaces
                .iter()
                .filter(|interface| kinds.contains(&interface.kind))
                .any(|interface| interface.addresses.iter().any(|net| net.contains(&address)))
                .into(),
            Fact::Absent => Truth::False,
            Fact::Unknown => Truth::Undecided,
        };
        use InterfaceKind as K;
        if class == Class::Overlay {
            return within(&[K::Wireguard, K::Tun, K::Tap, K::Tunnel]);
        }
        if class == Class::Container {
            return within(&[K::Bridge, K::Veth]);
        }
        let here =
            key == Key::Remote && view.observation.socket.peer.is_some() || self.own().contains(&address);
        if !here && namespace.interfaces.is_unknown() { Truth::Undecided } else { here.into() }
    }

    /// Every address of an interface in any namespace.
    fn own(&self) -> &HashSet<IpAddr> {
        self.own.get_or_init(|| {
            let interfaces =
                self.snapshot.namespaces.iter().filter_map(|each| each.interfaces.known()).flatten();
            interfaces.flat_map(|interface| &interface.addresses).map(|net| net.addr()).collect()
        })
    }

    fn holder(&self, holder: &HolderCond, observation: Observation<'s>) -> Truth {
        if observation.socket.holders.len == 0 {
            return unheld(observation.socket);
        }
        Truth::any(observation.owners().map(|owner| self.owner(holder, observation, owner)))
    }

    pub(super) fn owner(&self, holder: &HolderCond, observation: Observation<'s>, owner: Owner<'s>) -> Truth {
        let view = View { observation, owner: Some(owner) };
        let process = holder.process.as_ref().map_or(Truth::True, |cond| self.cond(cond, view));
        if process == Truth::False {
            return Truth::False;
        }
        let others = holder.others.iter().map(|group| self.group(group, view));
        Truth::all(std::iter::once(process).chain(others))
    }

    /// Whether what a condition demands of the process alone rules it out, whatever the socket.
    pub(super) fn rules_out(&self, cond: &Cond, observation: Observation<'s>, owner: Owner<'s>) -> bool {
        match cond {
            Cond::All(parts) => parts.iter().any(|part| self.rules_out(part, observation, owner)),
            Cond::Holder(holder) if holder.settled => {
                let view = View { observation, owner: Some(owner) };
                holder.process.as_ref().is_some_and(|cond| self.cond(cond, view) == Truth::False)
            }
            Cond::Holder(_) | Cond::Any(_) | Cond::Not(_) | Cond::Leaf(_) | Cond::Group(_) => false,
        }
    }

    /// The process for which a condition on holders is true.
    pub(super) fn culprit(&self, cond: &Cond, observation: Observation<'s>) -> Option<Owner<'s>> {
        match cond {
            Cond::Holder(holder) => {
                observation.owners().find(|owner| self.owner(holder, observation, *owner) == Truth::True)
            }
            Cond::All(parts) | Cond::Any(parts) => {
                parts.iter().find_map(|part| self.culprit(part, observation))
            }
            Cond::Not(_) | Cond::Leaf(_) | Cond::Group(_) => None,
        }
    }

    pub(super) fn group(&self, group: &Group, view: View<'s>) -> Truth {
        let count = self.count(group, view);
        let right = |number: u64| {
            let wanted =
                group.count.yes.is_empty() || group.count.yes.iter().any(|range| in_range(range, number));
            wanted && !group.count.no.iter().any(|range| in_range(range, number))
        };
        let least = right(count.sure);
        // Each bound of a range within the doubt could change the answer.
        let edges = group.count.yes.iter().chain(&group.count.no).filter_map(|range| {
            if let Pattern::Number(first, last) = range {
                Some([*first, last.saturating_add(1)])
            } else {
                None
            }
        });
        let doubt = count.sure + 1..=count.sure + count.doubtful;
        let changes = edges.flatten().any(|edge| doubt.contains(&edge) && right(edge) != least);
        if changes { Truth::Undecided } else { least.into() }
    }

    fn count(&self, group: &Group, view: View<'s>) -> Count {
        let this = view.observation;
        match group.kind {
            GroupKind::Others => {
                let Some(owner) = view.owner else { return Count::default() };
                let all = self.memo(group, Subject::Process(owner.id), || self.sockets_of(owner.id));
                all.without(self.inside(group, this))
            }
            GroupKind::Accepted => {
                let Some(door) = door(this.socket) else { return Count::default() };
                let address = bound_address(this.socket);
                let subject = Subject::Listener(door.clone(), address);
                self.memo(group, subject, || self.accepted(&door, address))
            }
            GroupKind::SamePort => self.same_port(group, this),
            GroupKind::Peer => match this.socket.peer {
                Some(peer) => Count::of([self.inside(group, self.snapshot.observe(peer))]),
                None => Count::default(),
            },
        }
    }

    /// The first of the sockets that a group surely counts, for a person; and how many there are.
    pub(super) fn members(&self, group: &Group, view: View<'s>, most: usize) -> (Vec<Observation<'s>>, u64) {
        let this = view.observation;
        let indices: Vec<SocketIndex> = match (group.kind, view.owner, door(this.socket)) {
            (GroupKind::Others, Some(owner), _) => self.sockets_of(owner.id),
            (GroupKind::Accepted, _, Some(door)) => {
                let address = bound_address(this.socket);
                self.accepted(&door, address).collect()
            }
            (GroupKind::SamePort, _, Some(door)) => self.behind(&door).to_vec(),
            (GroupKind::Peer, ..) => this.socket.peer.into_iter().collect(),
            (GroupKind::Others | GroupKind::Accepted | GroupKind::SamePort, ..) => Vec::new(),
        };
        let others = indices
            .into_iter()
            .filter(|index| *index != this.index)
            .map(|index| self.snapshot.observe(index));
        let first = others
            .filter(|other| self.inside(group, *other) == Truth::True)
            .filter(|other| {
                group.kind != GroupKind::SamePort
                    || receives(other.socket)
                        && differ(&differing(group, *other), &differing(group, this)) == Truth::True
            })
            .take(most)
            .collect();
        (first, self.count(group, view).sure)
    }

    fn memo<I: IntoIterator<Item = SocketIndex>>(
        &self,
        group: &Group,
        subject: Subject,
        sockets: impl FnOnce() -> I,
    ) -> Count {
        let key = (std::ptr::from_ref(group).addr(), subject);
        if let Some(count) = self.counted.borrow().get(&key) {
            return *count;
        }
        let truths = sockets().into_iter().map(|index| self.inside(group, self.snapshot.observe(index)));
        let count = Count::of(truths);
        self.counted.borrow_mut().insert(key, count);
        count
    }

    /// Whether a socket is of the kind that a group counts.
    fn inside(&self, group: &Group, observation: Observation<'s>) -> Truth {
        group.cond.as_ref().map_or(Truth::True, |cond| self.judge(cond, observation))
    }

    fn sockets_of(&self, process: ProcessId) -> Vec<SocketIndex> {
        let lists = self.by_process.get_or_init(|| {
            let mut lists = vec![Vec::new(); self.snapshot.processes.len()];
            for observation in self.snapshot.observations() {
                for owner in observation.owners() {
                    lists[owner.id.0 as usize].push(observation.index);
                }
            }
            lists
        });
        lists[process.0 as usize].clone()
    }

    fn behind(&self, door: &Door) -> &[SocketIndex] {
        let doors = self.by_port.get_or_init(|| {
            let mut doors: HashMap<Door, Vec<SocketIndex>> = HashMap::new();
            for observation in self.snapshot.observations() {
                if let Some(door) = self::door(observation.socket) {
                    doors.entry(door).or_default().push(observation.index);
                }
            }
            doors
        });
        doors.get(door).map_or(&[], Vec::as_slice)
    }

    fn accepted<'d>(
        &'d self,
        door: &Door,
        address: Option<IpAddr>,
    ) -> impl Iterator<Item = SocketIndex> + use<'d, 's> {
        self.behind(door).iter().copied().filter(move |index| {
            let socket = &self.snapshot.sockets[index.0 as usize];
            let taken = socket.role == Role::Inbound
                || socket.role == Role::Peer
                    && socket.state != State::Listen
                    && socket.protocol == Protocol::Unix;
            taken
                && address
                    .is_none_or(|address| matches!(&socket.local, Endpoint::Inet(own, _) if *own == address))
        })
    }

    fn same_port(&self, group: &Group, this: Observation<'s>) -> Count {
        let Some(door) = door(this.socket) else { return Count::default() };
        let key = (std::ptr::from_ref(group).addr(), door.clone());
        if !self.classes.borrow().contains_key(&key) {
            let mut classes = Classes::new();
            for index in self.behind(&door) {
                let observation = self.snapshot.observe(*index);
                if receives(observation.socket) {
                    let count = Count::of([self.inside(group, observation)]);
                    *classes.entry(differing(group, observation)).or_default() += count;
                }
            }
            self.classes.borrow_mut().insert(key.clone(), classes);
        }
        let mine = differing(group, this);
        let classes = self.classes.borrow();
        let mut sum = Count::default();
        for (class, count) in classes.get(&key).into_iter().flatten() {
            sum += match differ(class, &mine) {
                Truth::True => *count,
                Truth::Undecided => Count { sure: 0, doubtful: count.sure + count.doubtful },
                Truth::False => Count::default(),
            };
        }
        if group.differs.is_empty() && receives(this.socket) {
            sum.without(self.inside(group, this))
        } else {
            sum
        }
    }
}

fn in_range(range: &Pattern, number: u64) -> bool {
    matches!(range, Pattern::Number(first, last) if (*first..=*last).contains(&number))
}

impl Count {
    fn of(truths: impl IntoIterator<Item = Truth>) -> Self {
        let mut count = Self::default();
        for truth in truths {
            match truth {
                Truth::True => count.sure += 1,
                Truth::Undecided => count.doubtful += 1,
                Truth::False => {}
            }
        }
        count
    }

    /// All but one, of which it is known how it was counted.
    fn without(self, one: Truth) -> Self {
        match one {
            Truth::True => Self { sure: self.sure.saturating_sub(1), ..self },
            Truth::Undecided => Self { doubtful: self.doubtful.saturating_sub(1), ..self },
            Truth::False => self,
        }
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.sure += other.sure;
        self.doubtful += other.doubtful;
    }
}

/// A reach that cannot be told counts as internet; a rule that asks for less stays undecided.
fn unknown_reach(test: &Test) -> Truth {
    let names = |patterns: &[Pattern], reach: Reach| {
        patterns
            .iter()
            .any(|pattern| matches!(pattern, Pattern::Any) || *pattern == Pattern::Code(reach as u32))
    };
    let counts = |patterns: &[Pattern]| names(patterns, Reach::Unknown) || names(patterns, Reach::Internet);
    if counts(&test.no) {
        Truth::False
    } else if test.yes.is_empty() || counts(&test.yes) {
        Truth::True
    } else {
        Truth::Undecided
    }
}

/// Whether a socket in no file table may yet have a holder: only where some process could not be
/// looked into. Without any `owner_gap` everything was looked at and nothing explains it.
pub(super) fn unheld(socket: &Socket) -> Truth {
    if socket.owner_gap == Some(OwnerGap::Hidden) { Truth::Undecided } else { Truth::False }
}

/// Words of a command line that stand one after the other; a title that a program gave itself
/// (`sshd: user [priv]`) is one argument of several words.
fn row(globs: &[Glob], arguments: &[Text]) -> bool {
    let words: Vec<&[u8]> = arguments
        .iter()
        .flat_map(|argument| argument.as_bytes().split(u8::is_ascii_whitespace))
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(globs.len()).any(|window| window.iter().zip(globs).all(|(word, glob)| glob.matches(word)))
}

fn stream(pattern: &Pattern, link: &Fact<Text>, inode: u64) -> Truth {
    let Fact::Known(link) = link else { return Truth::Undecided };
    let link = link.as_bytes();
    if *pattern == Pattern::Socket {
        link.starts_with(b"socket:[").into()
    } else if *pattern == Pattern::ThisSocket {
        (inode != 0 && link == format!("socket:[{inode}]").as_bytes()).into()
    } else {
        pattern.matches_text(link).into()
    }
}

fn door(socket: &Socket) -> Option<Door> {
    let name = match &socket.local {
        Endpoint::Inet(_, 0) | Endpoint::None | Endpoint::Interface(_) => return None,
        local @ (Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_)) => DoorName::Name(local.clone()),
        local @ (Endpoint::Inet(..) | Endpoint::Vsock { .. }) => DoorName::Port(facts::port(local)?),
    };
    Some(Door { netns: socket.netns, protocol: socket.protocol, name })
}

/// The one address that a listener is bound to; `None` for a wildcard.
fn bound_address(socket: &Socket) -> Option<IpAddr> {
    if let Endpoint::Inet(address, _) = &socket.local {
        Some(*address).filter(|own| !own.is_unspecified())
    } else {
        None
    }
}

fn receives(socket: &Socket) -> bool {
    matches!(socket.role, Role::Listener | Role::Receiver | Role::Published)
}

/// The values in which a socket may differ from another of its door, one list for each fact.
fn differing(group: &Group, observation: Observation<'_>) -> Vec<Vec<Differing>> {
    group
        .differs
        .iter()
        .map(|fact| {
            let bytes = |text: &Fact<Text>| match text {
                Fact::Known(text) => Differing::Bytes(text.as_bytes().to_vec()),
                Fact::Absent => Differing::Absent,
                Fact::Unknown => Differing::Unknown,
            };
            let owners = |of: &dyn Fn(Owner<'_>) -> Differing| {
                let mut values: Vec<Differing> = observation.owners().map(of).collect();
                if values.is_empty() {
                    values.push(if unheld(observation.socket) == Truth::Undecided {
                        Differing::Unknown
                    } else {
                        Differing::Absent
                    });
                }
                values.sort();
                values.dedup();
                values
            };
            match fact {
                Differs::User => vec![match (observation.socket.uid, observation.user()) {
                    (Some(uid), _) => Differing::Number(uid.into()),
                    (None, Some(name)) => Differing::Bytes(name.as_bytes().to_vec()),
                    (None, None) => Differing::Unknown,
                }],
                Differs::Address => vec![if let Endpoint::Inet(address, _) = &observation.socket.local {
                    Differing::Bytes(address.to_string().into_bytes())
                } else {
                    Differing::Absent
                }],
                Differs::Exe => owners(&|owner| bytes(&owner.process.exe)),
                Differs::Unit => owners(&|owner| bytes(&owner.process.unit)),
                Differs::Process => owners(&|owner| Differing::Number(owner.id.0.into())),
                Differs::Container => owners(&|owner| match &owner.process.container {
                    Fact::Known(container) => Differing::Bytes(container.id.as_bytes().to_vec()),
                    Fact::Absent => Differing::Absent,
                    Fact::Unknown => Differing::Unknown,
                }),
            }
        })
        .collect()
}

/// Whether two sockets have no value in common, for each fact.
fn differ(a: &[Vec<Differing>], b: &[Vec<Differing>]) -> Truth {
    Truth::all(a.iter().zip(b).map(|(a, b)| {
        let unknown = a.contains(&Differing::Unknown) || b.contains(&Differing::Unknown);
        let common = a.iter().any(|value| *value != Differing::Unknown && b.contains(value));
        match (common, unknown) {
            (true, _) => Truth::False,
            (false, true) => Truth::Undecided,
            (false, false) => Truth::True,
        }
    }))
}
