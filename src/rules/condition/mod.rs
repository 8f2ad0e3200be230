//! The condition of a rule as a tree, and how it is read from `[when]`.

mod value;

use std::ops::Range;

use toml::de::DeTable;

use super::pattern::{Pattern, Test};
use super::reader::{Node, Reader, shorten};
use super::schema::{self, Differs, Fact, GroupKind, Key, Kind, Scope};

/// What `[when]` says. Children of `All` stand in the order in which they are cheap to ask.
#[derive(Clone, Debug)]
pub(super) enum Cond {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(Box<Leaf>),
    /// One process holds the socket for which both parts are true.
    Holder(Box<HolderCond>),
    Group(Box<Group>),
}

/// One line of a condition.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) key: Key,
    pub(super) test: Test,
    /// The value, in the rule's file.
    pub(super) span: Range<usize>,
}

#[derive(Clone, Default, Debug)]
pub(super) struct HolderCond {
    pub(super) process: Option<Cond>,
    /// The part about the process hangs on nothing but the process.
    pub(super) settled: bool,
    /// Groups of kind `Others`, about the same process.
    pub(super) others: Vec<Group>,
}

impl Cond {
    /// Whether a condition in a `process` table hangs on nothing but the process: neither on how it
    /// holds the socket nor on what its streams or units have to do with it.
    fn is_settled(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_settled),
            Self::Not(inner) => inner.is_settled(),
            Self::Leaf(leaf) => !matches!(
                leaf.key,
                Key::How | Key::Unit | Key::Stdin | Key::Stdout | Key::Stderr | Key::Stdio
            ),
            Self::Holder(_) | Self::Group(_) => false,
        }
    }
}

/// How many other sockets there are of some kind.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) kind: GroupKind,
    pub(super) count: Test,
    pub(super) differs: Vec<Differs>,
    pub(super) cond: Option<Cond>,
    /// The table, in the rule's file.
    pub(super) span: Range<usize>,
}

/// Deepest nesting of `any`, `all` and `not`; most lines and values of one rule.
const MAX_DEPTH: usize = 8;
const MAX_LEAVES: usize = 300;
const MAX_VALUES: usize = 5000;

/// Reads one condition; `None` when nothing of it could be understood.
pub(super) fn read(reader: &mut Reader, table: &DeTable<'_>, span: Range<usize>) -> Option<Cond> {
    let mut parser = Parser { reader, leaves: 0, values: 0, full: false };
    parser.table(table, span, Place { scope: Scope::Socket, group: false, depth: 0 })
}

/// Reads a condition on one process.
pub(super) fn read_process(reader: &mut Reader, table: &DeTable<'_>, span: Range<usize>) -> Option<Cond> {
    let mut parser = Parser { reader, leaves: 0, values: 0, full: false };
    parser.table(table, span, Place { scope: Scope::Process, group: false, depth: 1 })
}

#[derive(Clone, Copy)]
struct Place {
    scope: Scope,
    /// Within a group, where no further groups stand.
    group: bool,
    depth: usize,
}

struct Parser<'r> {
    reader: &'r mut Reader,
    leaves: usize,
    values: usize,
    /// A limit was passed and told.
    full: bool,
}

impl Parser<'_> {
    fn table(&mut self, table: &DeTable<'_>, span: Range<usize>, place: Place) -> Option<Cond> {
        if table.is_empty() {
            self.reader.advise(
                span,
                "this condition is empty: it would hold for everything",
                "name a fact, or remove it",
            );
            return None;
        }
        if place.depth > MAX_DEPTH {
            self.reader.say(span, format!("conditions are nested deeper than {MAX_DEPTH}"));
            return None;
        }
        let mut parts = Vec::new();
        let mut holder = HolderCond::default();
        for (key, node) in table {
            self.entry(key.get_ref(), key.span(), node, place, &mut parts, &mut holder);
        }
        if holder.process.is_some() || !holder.others.is_empty() {
            holder.settled = holder.process.as_ref().is_some_and(Cond::is_settled);
            parts.push(Cond::Holder(Box::new(holder)));
        }
        join(parts)
    }

    fn entry(
        &mut self,
        key: &str,
        key_span: Range<usize>,
        node: &Node<'_>,
        place: Place,
        parts: &mut Vec<Cond>,
        holder: &mut HolderCond,
    ) {
        let at_socket = place.scope == Scope::Socket;
        let group = GroupKind::ALL.into_iter().find(|kind| kind.name() == key);
        match (key, group) {
            ("any", _) => {
                let branches = self.branches(node, key, place);
                parts.extend((!branches.is_empty()).then_some(Cond::Any(branches)));
            }
            ("all", _) => parts.extend(self.branches(node, key, place)),
            ("not", _) => {
                parts.extend(
                    self.branches(node, key, place).into_iter().map(|each| Cond::Not(Box::new(each))),
                );
            }
            ("process", _) if at_socket => {
                if let Some(table) = self.reader.table(node, key) {
                    let inner = Place { scope: Scope::Process, depth: place.depth + 1, ..place };
                    holder.process = self.table(table, node.span(), inner);
                }
            }
            ("host", _) if at_socket => {
                if let Some(table) = self.reader.table(node, key) {
                    let inner = Place { scope: Scope::Host, depth: place.depth + 1, ..place };
                    parts.extend(self.table(table, node.span(), inner));
                }
            }
            (_, Some(kind)) if at_socket && !place.group => {
                for each in self.reader.list(node, key) {
                    match (self.group(kind, each, place), kind) {
                        (Some(group), GroupKind::Others) => holder.others.push(group),
                        (Some(group), GroupKind::Accepted | GroupKind::SamePort | GroupKind::Peer) => {
                            parts.push(Cond::Group(Box::new(group)));
                        }
                        (None, _) => {}
                    }
                }
            }
            (_, Some(_)) if at_socket => {
                self.reader
                    .say(key_span, format!("`{key}` counts sockets and cannot stand within another count"));
            }
            _ => self.fact(key, key_span, node, place, parts),
        }
    }

    fn branches(&mut self, node: &Node<'_>, what: &str, place: Place) -> Vec<Cond> {
        let place = Place { depth: place.depth + 1, ..place };
        let nodes = self.reader.list(node, what);
        nodes
            .into_iter()
            .filter_map(|each| {
                let table = self.reader.table(each, what)?;
                self.table(table, each.span(), place)
            })
            .collect()
    }

    fn group(&mut self, kind: GroupKind, node: &Node<'_>, place: Place) -> Option<Group> {
        let table = self.reader.table(node, kind.name())?;
        let place = Place { group: true, depth: place.depth + 1, ..place };
        let mut count = Test { yes: vec![Pattern::Number(1, u64::MAX)], no: Vec::new() };
        let (mut differs, mut parts) = (Vec::new(), Vec::new());
        let mut holder = HolderCond::default();
        for (key, value) in table {
            match &**key.get_ref() {
                "count" => count = self.test("count", Kind::Number(u32::MAX.into()), value)?,
                "differs" if kind == GroupKind::SamePort => {
                    for each in self.reader.list(value, "differs") {
                        let Some(word) = self.reader.text(each, "differs") else { continue };
                        match Differs::ALL.iter().find(|(name, _)| *name == word) {
                            Some((_, fact)) => differs.push(*fact),
                            None => self.reader.unknown_word(
                                each.span(),
                                word,
                                "fact that sockets of one port can differ in",
                                Differs::ALL.iter().map(|(name, _)| *name),
                            ),
                        }
                    }
                }
                name => self.entry(name, key.span(), value, place, &mut parts, &mut holder),
            }
        }
        if holder.process.is_some() {
            parts.push(Cond::Holder(Box::new(holder)));
        }
        if count
            .yes
            .iter()
            .any(|range| matches!(range, Pattern::Number(0, last) if *last >= u64::from(u32::MAX)))
        {
            self.reader.say(node.span(), "this count holds for every number");
        }
        Some(Group { kind, count, differs, cond: join(parts), span: node.span() })
    }

    fn fact(
        &mut self,
        key: &str,
        key_span: Range<usize>,
        node: &Node<'_>,
        place: Place,
        parts: &mut Vec<Cond>,
    ) {
        if let Some(fact) = schema::find(place.scope, key)
            && !(node.get_ref().is_table() && schema::tables(place.scope).any(|table| table == key))
        {
            parts.extend(self.leaf(fact, node));
            return;
        }
        if schema::tables(place.scope).any(|table| table == key) {
            let Some(table) = self.reader.table(node, key) else { return };
            if table.is_empty() {
                self.reader.say(node.span(), format!("`{key}` is empty: it would hold for everything"));
            }
            for (name, value) in table {
                let full = format!("{key}.{}", name.get_ref());
                match schema::find(place.scope, &full) {
                    Some(fact) => parts.extend(self.leaf(fact, value)),
                    None => self.unknown(&full, name.span(), place),
                }
            }
            return;
        }
        self.unknown(key, key_span, place);
    }

    fn unknown(&mut self, key: &str, span: Range<usize>, place: Place) {
        let home = [Scope::Socket, Scope::Process, Scope::Host]
            .into_iter()
            .filter(|scope| *scope != place.scope)
            .find_map(|scope| schema::find(scope, key));
        if let Some(fact) = home {
            let message = format!("there is no `{}` in {}", shorten(key), place.scope.place());
            let help = match fact.scope {
                Scope::Socket => format!("`{key}` is a fact of the socket: it stands outside this table"),
                Scope::Process | Scope::Host => format!("did you mean `{}`?", fact.key.full_name()),
            };
            return self.reader.advise(span, message, help);
        }
        if key == "local" && place.scope == Scope::Socket {
            return self.reader.advise(
                span,
                "there is no `local` in a condition",
                "write `address` and `port`, or `path`",
            );
        }
        let facts = schema::FACTS.iter().filter(|fact| fact.scope == place.scope).map(|fact| fact.name);
        let words: &[&str] = match place.scope {
            Scope::Socket if place.group => &["any", "all", "not", "process", "count"],
            Scope::Socket => {
                &["any", "all", "not", "process", "host", "others", "accepted", "same_port", "peer"]
            }
            Scope::Process | Scope::Host => &["any", "all", "not"],
        };
        self.reader.unknown_key(span, key, place.scope.place(), facts.chain(words.iter().copied()));
    }

    fn leaf(&mut self, fact: &'static Fact, node: &Node<'_>) -> Option<Cond> {
        self.leaves += 1;
        if self.leaves > MAX_LEAVES {
            self.limit(node, &format!("more than {MAX_LEAVES} conditions"));
            return None;
        }
        let test = self.test(fact.name, fact.kind, node)?;
        let test = super::sense::normal(self.reader, fact, test, node.span());
        Some(Cond::Leaf(Box::new(Leaf { key: fact.key, test, span: node.span() })))
    }

    fn limit(&mut self, node: &Node<'_>, what: &str) {
        if !std::mem::replace(&mut self.full, true) {
            self.reader.say(node.span(), format!("this rule has {what}"));
        }
    }
}

/// One condition for all of them, cheap ones first.
fn join(mut parts: Vec<Cond>) -> Option<Cond> {
    parts.sort_by_key(cost);
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Cond::All(parts)),
    }
}

fn cost(cond: &Cond) -> usize {
    match cond {
        Cond::Leaf(leaf) => leaf.key as usize,
        Cond::Not(inner) => cost(inner),
        Cond::All(inner) | Cond::Any(inner) => inner.iter().map(cost).max().unwrap_or(0) + 1,
        Cond::Holder(holder) if holder.others.is_empty() => 1000,
        Cond::Group(_) => 2000,
        Cond::Holder(_) => 3000,
    }
}
