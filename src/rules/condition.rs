//! The condition of a rule as a tree, and how it is read from `[when]`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::pattern::{Class, Glob, MAX_PATTERN, Pattern, Test, reaches};
use super::reader::{Node, Reader, integer, shorten};
use super::schema::{self, Differs, FAMILY, Fact, GroupKind, Key, Kind, Scope};
use crate::model::{AddrRange, Protocol, Reach};

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

    /// `None` when any value is wrong: a misspelt condition must not become a wider one.
    fn test(&mut self, name: &str, kind: Kind, node: &Node<'_>) -> Option<Test> {
        let nodes = self.reader.list(node, name);
        self.values += nodes.len();
        if self.values > MAX_VALUES {
            self.limit(node, &format!("more than {MAX_VALUES} values"));
            return None;
        }
        let (mut test, mut sound) = (Test::default(), !nodes.is_empty());
        for each in nodes {
            let (negated, patterns) = match (each.get_ref(), kind) {
                (DeValue::String(text), _) => {
                    let (negated, text) = match text.strip_prefix('!') {
                        Some(rest) => (true, rest),
                        None => (false, &**text),
                    };
                    (negated, self.value(name, kind, text, each))
                }
                (DeValue::Boolean(flag), Kind::Flag) => (false, Some(vec![Pattern::Code(u32::from(*flag))])),
                (DeValue::Integer(_), Kind::Number(most)) => (false, self.number(name, most, each)),
                _ => {
                    self.reader.wrong(each, name, wanted(kind));
                    (false, None)
                }
            };
            match patterns {
                Some(patterns) if negated => test.no.extend(patterns),
                Some(patterns) => test.yes.extend(patterns),
                None => sound = false,
            }
        }
        sort_words(&mut test.yes);
        sort_words(&mut test.no);
        sound.then_some(test)
    }

    fn number(&mut self, name: &str, most: u64, node: &Node<'_>) -> Option<Vec<Pattern>> {
        match integer(node).and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= most) {
            Some(number) => Some(vec![Pattern::Number(number, number)]),
            None => {
                self.reader.say(node.span(), format!("`{name}` is a number from 0 to {most}"));
                None
            }
        }
    }

    fn value(&mut self, name: &str, kind: Kind, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            let what = if text.is_empty() {
                "is empty".to_owned()
            } else {
                format!("is longer than {MAX_PATTERN} bytes")
            };
            self.reader.say(node.span(), format!("this value of `{name}` {what}"));
            return None;
        }
        match (text, kind) {
            ("any", _) => return Some(vec![Pattern::Any]),
            ("none", Kind::Reach) => {}
            ("none", _) => return Some(vec![Pattern::None]),
            _ => {}
        }
        match kind {
            Kind::Word(_) | Kind::Capability => self.word(name, kind, text, node),
            Kind::Protocol => match Protocol::from_name(text) {
                Some(Protocol::Other(family)) => Some(vec![Pattern::Code(FAMILY + u32::from(family))]),
                Some(_) | None => self.word(name, kind, text, node),
            },
            Kind::Reach => self.reach(name, kind, text, node),
            Kind::Number(most) => self.range(name, most, text, node),
            Kind::Address => self.address(text, node),
            Kind::Text => self.glob(text, node).map(|pattern| vec![pattern]),
            Kind::Words => {
                let words: Vec<&str> = text.split_whitespace().collect();
                if let [word] = words[..] {
                    return self.glob(word, node).map(|pattern| vec![pattern]);
                }
                let globs: Option<Vec<Glob>> = words.iter().map(|word| self.new_glob(word, node)).collect();
                globs.filter(|globs| !globs.is_empty()).map(|globs| vec![Pattern::Row(globs)])
            }
            Kind::Mode => self.mode(text, node),
            Kind::Stream => match text {
                "this-socket" => Some(vec![Pattern::ThisSocket]),
                "socket" => Some(vec![Pattern::Socket]),
                _ => self.glob(text, node).map(|pattern| vec![pattern]),
            },
            Kind::Flag | Kind::Presence => {
                self.reader.say(node.span(), format!("`{name}` must be {}", wanted(kind)));
                None
            }
        }
    }

    fn word(&mut self, name: &str, kind: Kind, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let words = schema::words(kind);
        match words.iter().position(|word| *word == text) {
            Some(code) => Some(vec![Pattern::Code(u32::try_from(code).ok()?)]),
            None => {
                self.reader.unknown_word(
                    node.span(),
                    text,
                    &format!("value of `{name}`"),
                    words.into_iter().chain(["any", "none"]),
                );
                None
            }
        }
    }

    fn reach(&mut self, name: &str, kind: Kind, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let Some((comparison, word)) = comparison(text) else { return self.word(name, kind, text, node) };
        let Some(bound) = Reach::from_name(word).filter(|bound| *bound != Reach::Unknown) else {
            return self.word(name, kind, word, node);
        };
        let codes: Vec<Pattern> =
            reaches(comparison, bound).into_iter().map(|each| Pattern::Code(each as u32)).collect();
        if codes.is_empty() {
            self.reader.say(node.span(), format!("no reach is {text}"));
        }
        (!codes.is_empty()).then_some(codes)
    }

    fn range(&mut self, name: &str, most: u64, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let range = match comparison(text) {
            Some((">=", bound)) => number(bound).map(|bound| (bound, most)),
            Some((">", bound)) => number(bound).map(|bound| (bound.saturating_add(1), most)),
            Some(("<=", bound)) => number(bound).map(|bound| (0, bound)),
            Some((_, bound)) => match number(bound) {
                Some(0) => Some((1, 0)),
                bound => bound.map(|bound| (0, bound - 1)),
            },
            None => match text.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)),
                None => number(text).map(|number| (number, number)),
            },
        };
        match range {
            None => self.reader.advise(
                node.span(),
                format!("`{}` is no number of `{name}`", shorten(text)),
                "write 22, \"8000-9000\" or \">= 1024\"",
            ),
            Some((first, last)) if first > most || (last > most && comparison(text).is_none()) => {
                self.reader.say(node.span(), format!("`{name}` is a number from 0 to {most}"));
            }
            Some((first, last)) if first > last => {
                let help =
                    text.split_once('-').map(|(first, last)| format!("did you mean \"{last}-{first}\"?"));
                let message = format!("no number is in `{}`", shorten(text));
                match help {
                    Some(help) => self.reader.advise(node.span(), message, help),
                    None => self.reader.say(node.span(), message),
                }
            }
            Some((first, last)) => return Some(vec![Pattern::Number(first, last)]),
        }
        None
    }

    fn address(&mut self, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        if let Some((_, class)) = Class::ALL.iter().find(|(name, _)| *name == text) {
            return Some(vec![Pattern::Class(*class)]);
        }
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Some(vec![Pattern::Address(AddrRange::one(address.to_canonical()))]);
        }
        if let Ok(net) = text.parse::<ipnet::IpNet>() {
            if net.addr() == net.network() {
                return Some(vec![Pattern::Address(net.into())]);
            }
            let help = format!("did you mean \"{}\"?", net.trunc());
            self.reader.advise(node.span(), format!("`{text}` has bits set behind its prefix"), help);
            return None;
        }
        if let Some((first, last)) = text.split_once('-')
            && let (Ok(first), Ok(last)) =
                (first.parse::<std::net::IpAddr>(), last.parse::<std::net::IpAddr>())
        {
            if first.is_ipv4() == last.is_ipv4() && first <= last {
                return Some(vec![Pattern::Address(AddrRange { first, last })]);
            }
            self.reader.say(node.span(), format!("no address is in `{text}`"));
            return None;
        }
        self.reader.unknown_word(
            node.span(),
            text,
            "address, CIDR, range or class of addresses",
            Class::ALL.iter().map(|(name, _)| *name),
        );
        None
    }

    fn glob(&mut self, text: &str, node: &Node<'_>) -> Option<Pattern> {
        if !Glob::is_pattern(text) {
            return Some(Pattern::Words(vec![text.as_bytes().into()]));
        }
        self.new_glob(text, node).map(Pattern::Glob)
    }

    fn new_glob(&mut self, text: &str, node: &Node<'_>) -> Option<Glob> {
        match Glob::new(text) {
            Ok(glob) => Some(glob),
            Err(message) => {
                self.reader.say(node.span(), message);
                None
            }
        }
    }

    /// `o+w`, `go+rw`: the bits of chmod(1).
    fn mode(&mut self, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let bits = text.split_once('+').and_then(|(who, what)| {
            let who = who.chars().map(|c| match c {
                'u' => Some(0o700),
                'g' => Some(0o070),
                'o' => Some(0o007),
                'a' => Some(0o777),
                _ => None,
            });
            let what = what.chars().map(|c| match c {
                'r' => Some(0o444),
                'w' => Some(0o222),
                'x' => Some(0o111),
                _ => None,
            });
            let sum = |bits: Vec<u64>| bits.into_iter().fold(0, |sum, bit| sum | bit);
            Some(sum(who.collect::<Option<_>>()?) & sum(what.collect::<Option<_>>()?))
        });
        match bits {
            Some(bits) if bits != 0 => Some(vec![Pattern::Bits(bits)]),
            _ => {
                self.reader.advise(
                    node.span(),
                    format!("`{}` is no permission", shorten(text)),
                    "write \"o+w\", \"g+rw\"",
                );
                None
            }
        }
    }
}

/// `>= lan` as its two parts.
fn comparison(text: &str) -> Option<(&str, &str)> {
    [">=", "<=", ">", "<"].into_iter().find_map(|sign| Some((sign, text.strip_prefix(sign)?.trim())))
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Flag => "`true` or `false`",
        Kind::Number(_) => "a number, \"8000-9000\" or \">= 1024\"",
        Kind::Presence => "\"any\" or \"none\"",
        Kind::Word(_)
        | Kind::Protocol
        | Kind::Reach
        | Kind::Address
        | Kind::Text
        | Kind::Words
        | Kind::Mode
        | Kind::Capability
        | Kind::Stream => "text in quotes",
    }
}

/// Puts all plain words into one sorted list.
fn sort_words(patterns: &mut Vec<Pattern>) {
    let mut all = Vec::new();
    patterns.retain_mut(|pattern| match pattern {
        Pattern::Words(words) => {
            all.append(words);
            false
        }
        Pattern::Any
        | Pattern::None
        | Pattern::Code(_)
        | Pattern::Number(..)
        | Pattern::Address(_)
        | Pattern::Class(_)
        | Pattern::Glob(_)
        | Pattern::Row(_)
        | Pattern::Bits(_)
        | Pattern::ThisSocket
        | Pattern::Socket => true,
    });
    if !all.is_empty() {
        all.sort();
        all.dedup();
        patterns.push(Pattern::Words(all));
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
