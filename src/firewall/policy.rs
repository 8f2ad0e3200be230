//! Rules that choose between routing tables: where packets surely leave, whatever of them nobody
//! knows (`fib_rules_lookup` of net/core/fib_rules.c, `fib4_rule_action`, `fib4_rule_suppress`,
//! `fib6_rule_action`, ip-rule(8)).

use std::collections::BTreeMap;

use super::ranges::{Family, Ranges, number};
use crate::model::{RouteKind, RouteRule, Routes, RuleAction, TableRoute, Text};

/// Tables that are asked where no rule says otherwise.
pub(crate) const LOCAL: u32 = 255;
pub(crate) const MAIN: u32 = 254;
pub(crate) const DEFAULT: u32 = 253;

/// How a namespace chooses between its tables.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// As a fresh one does.
    Fresh,
    Rules(Policy),
    Untold,
}

/// The rules of one family, and what their tables say.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    family: Family,
    rules: Vec<RouteRule>,
    tables: BTreeMap<u32, Vec<TableRoute>>,
    /// Of each table, what its best routes are.
    best: BTreeMap<u32, Vec<Best>>,
}

/// Destinations whose best route of a table is the same.
#[derive(Clone, Debug)]
struct Best {
    set: Ranges,
    length: u8,
    kind: RouteKind,
    /// 0 for several, of which any may be taken.
    interface: u32,
}

/// By what a packet comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'e> {
    /// A program here sends it.
    Own,
    Gate(&'e Text),
    Untold,
}

/// What is known of packets whose way is looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'e> {
    /// `None`: any.
    pub(crate) from: Option<&'e Ranges>,
    pub(crate) entry: Entry<'e>,
    /// The interface that it must leave by.
    pub(crate) exit: Option<u32>,
    pub(crate) mark: Option<u32>,
}

impl Lookup<'_> {
    /// Of what a program here sends, whatever its mark (`SO_MARK`).
    pub(crate) const OWN: Self = Self { from: None, entry: Entry::Own, exit: None, mark: None };
}

/// What becomes of a destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    /// By an interface, 0 for one of several.
    Leaves(u32),
    /// It is delivered here.
    Here,
    /// It is for many.
    Many,
    /// It has no way.
    Nowhere,
    /// Nobody can tell.
    Anything,
}

/// All that may become of destinations.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ways(BTreeMap<Fate, Ranges>);

impl Ways {
    fn add(&mut self, fate: Fate, set: &Ranges) {
        let sum = self.0.entry(fate).or_default();
        *sum = sum.union(set);
    }

    /// Those with a fate that is one of these, and those whose fate may be another.
    fn parted(&self, of: impl Fn(Fate) -> bool) -> (Ranges, Ranges) {
        let (mut these, mut others) = (Ranges::default(), Ranges::default());
        for (fate, set) in &self.0 {
            let sum = if of(*fate) { &mut these } else { &mut others };
            *sum = sum.union(set);
        }
        (these, others)
    }

    /// Destinations that surely leave by an interface.
    pub(crate) fn by(&self, interface: u32) -> Ranges {
        let (these, others) = self.parted(|fate| fate == Fate::Leaves(interface));
        these.minus(&others)
    }

    /// Destinations that surely leave, by whatever interface.
    pub(crate) fn surely(&self) -> Ranges {
        let (these, others) = self.parted(|fate| matches!(fate, Fate::Leaves(_)));
        these.minus(&others)
    }

    /// Destinations that may leave.
    pub(crate) fn perhaps(&self) -> Ranges {
        self.parted(|fate| matches!(fate, Fate::Leaves(_) | Fate::Anything)).0
    }

    /// Destinations that may leave by an interface.
    pub(crate) fn perhaps_by(&self, interface: u32) -> Ranges {
        let may = [Fate::Leaves(interface), Fate::Leaves(0), Fate::Anything];
        self.parted(|fate| may.contains(&fate)).0
    }

    /// Addresses that surely are no single other one's, and those that may be none.
    pub(crate) fn not_others(&self) -> (Ranges, Ranges) {
        let (surely, others) = self.parted(|fate| matches!(fate, Fate::Here | Fate::Many));
        let may = self.parted(|fate| matches!(fate, Fate::Here | Fate::Many | Fate::Anything)).0;
        (surely.minus(&others), may)
    }

    /// Destinations that may be delivered here.
    pub(crate) fn here(&self) -> Ranges {
        self.parted(|fate| matches!(fate, Fate::Here | Fate::Anything)).0
    }

    /// Destinations that surely leave, by interface.
    pub(crate) fn leaving(&self) -> Vec<(Ranges, u32)> {
        let interfaces = self.0.keys().filter_map(|fate| match fate {
            Fate::Leaves(interface) if *interface != 0 => Some(*interface),
            Fate::Leaves(_) | Fate::Here | Fate::Many | Fate::Nowhere | Fate::Anything => None,
        });
        interfaces.map(|each| (self.by(each), each)).filter(|(set, _)| !set.is_empty()).collect()
    }
}

/// Whether a rule is for packets, apart from their destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    No,
    Maybe,
    Yes,
}

impl Choice {
    pub(crate) fn of(routes: Option<&Routes>, family: Family) -> Self {
        let Some(routes) = routes.filter(|routes| routes.policy) else { return Self::Fresh };
        let v6 = family == Family::V6;
        let rules: Vec<RouteRule> = routes.rules.iter().filter(|rule| rule.v6 == v6).cloned().collect();
        let has_tables = routes.tables.iter().any(|route| Family::of(route.to.first) == family);
        let fresh = !has_tables && !choose(&rules, family);
        match () {
            () if !own_first(&rules) => Self::Untold,
            () if fresh => Self::Fresh,
            () => Self::Rules(Policy::new(family, rules, &routes.tables)),
        }
    }
}

impl Policy {
    fn new(family: Family, rules: Vec<RouteRule>, routes: &[TableRoute]) -> Self {
        let mut tables: BTreeMap<u32, Vec<TableRoute>> = BTreeMap::new();
        for route in routes.iter().filter(|route| Family::of(route.to.first) == family) {
            tables.entry(route.table).or_default().push(*route);
        }
        let best = tables.iter().map(|(table, routes)| (*table, best(family, routes))).collect();
        Self { family, rules, tables, best }
    }

    /// What may become of every destination.
    pub(crate) fn ways(&self, lookup: &Lookup<'_>) -> Ways {
        let mut ways = Ways::default();
        match (lookup.mark, self.marks()) {
            (None, Some(marks)) => {
                for mark in marks {
                    self.follow(&Lookup { mark: Some(mark), ..*lookup }, &mut ways);
                }
            }
            (Some(_), _) | (None, None) => self.follow(lookup, &mut ways),
        }
        ways
    }

    fn follow(&self, lookup: &Lookup<'_>, ways: &mut Ways) {
        // Those that no rule has surely decided yet.
        let mut left = self.family.all();
        for rule in &self.rules {
            let (must, may) = self.meant(rule, lookup);
            let may = may.and(&left);
            let (table, suppressed) = match rule.action {
                RuleAction::Nothing => continue,
                RuleAction::Refused | RuleAction::Other => {
                    let known = rule.action == RuleAction::Refused;
                    ways.add(if known { Fate::Nowhere } else { Fate::Anything }, &may);
                    left = left.minus(&must);
                    continue;
                }
                RuleAction::Lookup { table, suppressed } => (table, suppressed),
            };
            let bound;
            let routes = match (lookup.exit, self.tables.get(&table)) {
                (_, None) => continue,
                (None, Some(_)) => self.best.get(&table).map_or(&[][..], Vec::as_slice),
                (Some(exit), Some(routes)) => {
                    // A route of several interfaces may have that one among them.
                    let mine = |route: &&TableRoute| route.interface == exit || route.interface == 0;
                    bound = best(self.family, &routes.iter().filter(mine).copied().collect::<Vec<_>>());
                    &bound[..]
                }
            };
            for best in routes {
                let here = best.set.and(&may);
                // A refusal is an error, and of errors none is suppressed (`fib_rules_lookup`).
                let quiet = suppressed.is_some_and(|length| best.length <= length);
                if here.is_empty() || (quiet && best.kind != RouteKind::Refused) {
                    continue;
                }
                ways.add(
                    match best.kind {
                        RouteKind::Throw => continue,
                        RouteKind::Unicast => Fate::Leaves(best.interface),
                        RouteKind::Local => Fate::Here,
                        RouteKind::Many => Fate::Many,
                        RouteKind::Refused => Fate::Nowhere,
                        RouteKind::Other => Fate::Anything,
                    },
                    &here,
                );
                left = left.minus(&here.and(&must));
            }
            if left.is_empty() {
                break;
            }
        }
        ways.add(Fate::Nowhere, &left);
    }

    /// Marks of which each stands for all that meet the same conditions; `None` where conditions
    /// overlap, or are too many.
    fn marks(&self) -> Option<Vec<u32>> {
        let mut fields: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (value, mask) in self.rules.iter().filter_map(|rule| rule.mark) {
            fields.entry(mask).or_default().push(value);
        }
        let mut found = vec![0];
        let mut told = 0;
        for (mask, mut values) in fields {
            // A value with bits outside of its mask is never met.
            values.retain(|value| value & !mask == 0);
            values.sort_unstable();
            values.dedup();
            // And one that is none of them, if there is any.
            let none = (0..=values.len()).filter_map(|number| spread(number, mask));
            values.extend(none.filter(|value| !values.contains(value)).take(1).collect::<Vec<_>>());
            if told & mask != 0 || found.len() * values.len() > MOST_PARTS {
                return None;
            }
            told |= mask;
            found = found.iter().flat_map(|mark| values.iter().map(move |value| mark | value)).collect();
        }
        Some(found)
    }

    /// Destinations for which a rule is surely asked, and those for which it may be.
    fn meant(&self, rule: &RouteRule, lookup: &Lookup<'_>) -> (Ranges, Ranges) {
        let to = rule.to.map_or_else(|| self.family.all(), |to| self.family.pick([&to]));
        let (must, may) = match self.holds(rule, lookup) {
            Holds::Yes => (to.clone(), to),
            Holds::Maybe => (Ranges::default(), to),
            Holds::No => (Ranges::default(), Ranges::default()),
        };
        let all = self.family.all();
        if rule.inverted { (all.minus(&may), all.minus(&must)) } else { (must, may) }
    }

    fn holds(&self, rule: &RouteRule, lookup: &Lookup<'_>) -> Holds {
        let sure = |holds| if holds { Holds::Yes } else { Holds::No };
        let from = match (rule.from, lookup.from) {
            (None, _) => Holds::Yes,
            (Some(_), None) => Holds::Maybe,
            (Some(range), Some(set)) => {
                let range = self.family.pick([&range]);
                match (set.minus(&range).is_empty(), set.meets(&range)) {
                    (true, _) => Holds::Yes,
                    (false, true) => Holds::Maybe,
                    (false, false) => Holds::No,
                }
            }
        };
        let entry = match (&rule.entry, lookup.entry) {
            (None, _) => Holds::Yes,
            (Some(name), Entry::Own) => sure(name.as_bytes() == b"lo"),
            (Some(name), Entry::Gate(gate)) => sure(name == gate),
            (Some(_), Entry::Untold) => Holds::Maybe,
        };
        let exit = match (&rule.exit, lookup.exit) {
            (None, _) => Holds::Yes,
            (Some(_), None) => Holds::No,
            (Some(_), Some(_)) => Holds::Maybe,
        };
        let mark = match (rule.mark, lookup.mark) {
            (None, _) => Holds::Yes,
            (Some((value, mask)), Some(mark)) => sure((mark ^ value) & mask == 0),
            (Some(_), None) => Holds::Maybe,
        };
        let more = if rule.more { Holds::Maybe } else { Holds::Yes };
        from.min(entry).min(exit).min(mark).min(more)
    }

    /// Parts of which each is meant by the same rules as long as only the source tells them apart.
    pub(crate) fn parts(&self, sources: &Ranges) -> Vec<Ranges> {
        let mut parts = vec![sources.clone()];
        for range in self.rules.iter().filter_map(|rule| rule.from) {
            let range = self.family.pick([&range]);
            let halves = parts.iter().flat_map(|part| [part.and(&range), part.minus(&range)]);
            parts = halves.filter(|part| !part.is_empty()).collect();
            if parts.len() > MOST_PARTS {
                return vec![sources.clone()];
            }
        }
        parts
    }
}

/// Asks one table for every packet.
fn plain(rule: &RouteRule, wanted: u32) -> bool {
    let lookup = RuleAction::Lookup { table: wanted, suppressed: None };
    let every = rule.from.is_none() && rule.to.is_none() && rule.entry.is_none() && rule.exit.is_none();
    rule.action == lookup && every && rule.mark.is_none() && !rule.more && !rule.inverted
}

/// Whether they are other rules than those of a fresh namespace. A kernel without such rules has none.
pub(crate) fn choose(rules: &[RouteRule], family: Family) -> bool {
    let fresh = match family {
        Family::V4 => &[LOCAL, MAIN, DEFAULT][..],
        Family::V6 => &[LOCAL, MAIN],
    };
    let same = rules.len() == fresh.len() && rules.iter().zip(fresh).all(|(rule, table)| plain(rule, *table));
    !rules.is_empty() && !same
}

/// Whether the addresses of a namespace are asked for before any other rule: then nothing is sent on
/// that is for them.
pub(crate) fn own_first(rules: &[RouteRule]) -> bool {
    rules.first().is_some_and(|rule| plain(rule, LOCAL))
}

/// A number in the bits of a mask, the lowest first; `None` where it has not room there.
fn spread(mut number: usize, mask: u32) -> Option<u32> {
    let mut found = 0;
    for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit != 0) {
        if number & 1 == 1 {
            found |= bit;
        }
        number >>= 1;
    }
    (number == 0).then_some(found)
}

/// More parts than this are not told apart.
const MOST_PARTS: usize = 64;

/// The longest prefix decides, then the lowest metric; of equals any.
fn best(family: Family, routes: &[TableRoute]) -> Vec<Best> {
    let order = |route: &TableRoute| (u8::MAX - length(family, route), route.metric, route.to);
    let mut sorted: Vec<&TableRoute> = routes.iter().collect();
    sorted.sort_by_key(|route| order(route));
    let mut left = family.all();
    let mut found: Vec<Best> = Vec::new();
    for alike in sorted.chunk_by(|a, b| order(a) == order(b)) {
        let first = alike[0];
        let prefix = family.pick([&first.to]);
        let set = prefix.and(&left);
        if set.is_empty() {
            continue;
        }
        left = left.minus(&prefix);
        let same = alike.iter().all(|other| (other.kind, other.interface) == (first.kind, first.interface));
        let same_kind = alike.iter().all(|other| other.kind == first.kind);
        found.push(Best {
            set,
            length: length(family, first),
            kind: if same_kind { first.kind } else { RouteKind::Other },
            interface: if same { first.interface } else { 0 },
        });
    }
    found
}

/// Of the prefix of a route.
fn length(family: Family, route: &TableRoute) -> u8 {
    let differing = number(route.to.first) ^ number(route.to.last);
    let bits = if family == Family::V4 { 32 } else { 128 };
    u8::try_from(bits - (128 - differing.leading_zeros())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AddrRange;

    const LOOKUP: fn(u32) -> RuleAction = |table| RuleAction::Lookup { table, suppressed: None };

    fn net(text: &str) -> AddrRange {
        text.parse::<ipnet::IpNet>().unwrap().into()
    }

    fn rule(action: RuleAction) -> RouteRule {
        RouteRule {
            v6: false,
            inverted: false,
            from: None,
            to: None,
            entry: None,
            exit: None,
            mark: None,
            more: false,
            action,
        }
    }

    fn route(table: u32, to: &str, kind: RouteKind, interface: u32) -> TableRoute {
        TableRoute { table, to: net(to), metric: 0, kind, interface }
    }

    /// Table 255 with an own address, 254 with a default route by 2 and a network by 3, 77 with a
    /// default route by 9.
    fn tables() -> Vec<TableRoute> {
        vec![
            route(255, "192.168.7.1/32", RouteKind::Local, 3),
            route(254, "0.0.0.0/0", RouteKind::Unicast, 2),
            route(254, "192.168.7.0/24", RouteKind::Unicast, 3),
            route(77, "0.0.0.0/0", RouteKind::Unicast, 9),
        ]
    }

    fn policy(rules: Vec<RouteRule>, tables: &[TableRoute]) -> Policy {
        let rules = [vec![rule(LOOKUP(255))], rules, vec![rule(LOOKUP(254)), rule(LOOKUP(253))]].concat();
        Policy::new(Family::V4, rules, tables)
    }

    /// By which interface an address surely leaves.
    fn leaves(policy: &Policy, lookup: &Lookup<'_>, to: &str) -> Option<u32> {
        let to = Family::V4.one(to.parse().unwrap());
        policy.ways(lookup).leaving().iter().find(|(set, _)| set.meets(&to)).map(|(_, index)| *index)
    }

    #[test]
    fn a_suppressed_default_route_leaves_it_to_the_next_rule() {
        let quick = |mark| RouteRule { inverted: true, mark: Some((mark, u32::MAX)), ..rule(LOOKUP(77)) };
        let nearby = rule(RuleAction::Lookup { table: 254, suppressed: Some(0) });
        let policy = policy(vec![nearby, quick(0xca6c)], &tables());
        let marked = |mark| Lookup { mark, ..Lookup::OWN };
        assert_eq!(leaves(&policy, &Lookup::OWN, "192.168.7.9"), Some(3));
        assert_eq!(leaves(&policy, &Lookup::OWN, "192.168.7.1"), None, "an own address");
        assert_eq!(leaves(&policy, &Lookup::OWN, "8.8.8.8"), None, "the mark decides");
        assert_eq!(leaves(&policy, &marked(Some(0)), "8.8.8.8"), Some(9));
        assert_eq!(leaves(&policy, &marked(Some(0xca6c)), "8.8.8.8"), Some(2));
    }

    #[test]
    fn the_source_decides_where_a_host_of_two_networks_answers() {
        let from = |text| RouteRule { from: Some(net(text)), ..rule(LOOKUP(77)) };
        let policy = policy(vec![from("10.0.1.5/32")], &tables());
        let own = Family::V4.pick([&net("10.0.1.5/32"), &net("192.168.7.1/32")]);
        let parts = policy.parts(&own);
        assert_eq!(parts.len(), 2);
        let by = |part| leaves(&policy, &Lookup { from: Some(part), ..Lookup::OWN }, "8.8.8.8");
        assert_eq!(parts.iter().map(by).collect::<Vec<_>>(), [Some(9), Some(2)]);
        assert_eq!(leaves(&policy, &Lookup::OWN, "8.8.8.8"), None, "either");
    }

    #[test]
    fn what_is_not_known_of_a_rule_leaves_all_that_it_may_take_in_doubt() {
        for odd in [
            RouteRule { more: true, ..rule(LOOKUP(77)) },
            rule(RuleAction::Other),
            RouteRule { to: Some(net("8.0.0.0/8")), ..rule(RuleAction::Other) },
        ] {
            assert_eq!(leaves(&policy(vec![odd], &tables()), &Lookup::OWN, "8.8.8.8"), None);
        }
        let elsewhere = RouteRule { to: Some(net("9.0.0.0/8")), ..rule(RuleAction::Other) };
        assert_eq!(leaves(&policy(vec![elsewhere], &tables()), &Lookup::OWN, "8.8.8.8"), Some(2));
        let entry = RouteRule { entry: Some("eth5".into()), ..rule(LOOKUP(77)) };
        let policy = policy(vec![entry], &tables());
        assert_eq!(leaves(&policy, &Lookup::OWN, "8.8.8.8"), Some(2));
        let (five, six) = (Text::from("eth5"), Text::from("eth6"));
        let by = |entry| leaves(&policy, &Lookup { entry, ..Lookup::OWN }, "8.8.8.8");
        assert_eq!(by(Entry::Gate(&five)), Some(9));
        assert_eq!(by(Entry::Gate(&six)), Some(2));
        assert_eq!(by(Entry::Untold), None);
    }

    #[test]
    fn all_marks_that_rules_tell_apart_are_tried() {
        let marked = |value, mask, action| RouteRule { mark: Some((value, mask)), ..rule(action) };
        let marks = |rules: Vec<RouteRule>| policy(rules, &tables()).marks();
        let look = LOOKUP(254);
        assert_eq!(marks(vec![]), Some(vec![0]));
        assert_eq!(marks(vec![marked(0, 0xff, look)]), Some(vec![0, 1]));
        assert_eq!(marks(vec![marked(0, 1, look), marked(1, 1, look)]), Some(vec![0, 1]));
        assert_eq!(marks(vec![marked(1, 0xf, look), marked(0x10, 0xf0, look)]), Some(vec![0x11, 1, 0x10, 0]));
        assert_eq!(marks(vec![marked(1, 0xff, look), marked(1, 0xf, look)]), None);
        // As tailscaled has it: its own packets go by the usual tables or nowhere, all others ask its
        // own table first.
        let mesh = [
            marked(0x80000, 0xff0000, look),
            marked(0x80000, 0xff0000, RuleAction::Refused),
            rule(LOOKUP(52)),
        ];
        let mut tables = tables();
        tables.push(route(52, "100.64.0.9/32", RouteKind::Unicast, 7));
        let policy = policy(mesh.to_vec(), &tables);
        let by = |to| leaves(&policy, &Lookup::OWN, to);
        assert_eq!(["8.8.8.8", "192.168.7.9", "100.64.0.9"].map(by), [Some(2), Some(3), None]);
        let ways = policy.ways(&Lookup::OWN);
        let far = Family::V4.one("100.64.0.9".parse().unwrap());
        assert!(far.minus(&ways.surely()).is_empty(), "by one or the other");
    }

    #[test]
    fn what_is_refused_leaves_by_no_interface() {
        let wall = RouteRule { to: Some(net("8.0.0.0/8")), ..rule(RuleAction::Refused) };
        let mut tables = tables();
        let ways = policy(vec![wall], &tables).ways(&Lookup::OWN);
        let set = |text: &str| Family::V4.pick([&net(text)]);
        assert!(!ways.perhaps().meets(&set("8.0.0.0/8")) && ways.surely().meets(&set("9.0.0.0/8")));
        assert_eq!(ways.here(), set("192.168.7.1/32"));
        assert_eq!(ways.not_others(), (set("192.168.7.1/32"), set("192.168.7.1/32")));
        // A refusal is not suppressed as a way of that length is.
        tables.push(route(78, "0.0.0.0/0", RouteKind::Refused, 0));
        let quiet = rule(RuleAction::Lookup { table: 78, suppressed: Some(0) });
        assert!(!policy(vec![quiet], &tables).ways(&Lookup::OWN).perhaps().meets(&set("9.0.0.0/8")));
    }

    #[test]
    fn walls_throws_and_twins() {
        let mut tables = tables();
        tables.extend([
            route(78, "8.0.0.0/8", RouteKind::Throw, 0),
            route(78, "9.0.0.0/8", RouteKind::Refused, 0),
            route(78, "11.0.0.0/8", RouteKind::Unicast, 4),
            route(78, "11.0.0.0/8", RouteKind::Unicast, 5),
        ]);
        let policy = policy(vec![rule(LOOKUP(78))], &tables);
        let by = |to| leaves(&policy, &Lookup::OWN, to);
        assert_eq!(["8.1.1.1", "9.1.1.1", "11.1.1.1", "12.1.1.1"].map(by), [Some(2), None, None, Some(2)]);
        let bound = Lookup { exit: Some(5), ..Lookup::OWN };
        assert_eq!(leaves(&policy, &bound, "11.1.1.1"), Some(5));
    }
}
