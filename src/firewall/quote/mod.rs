//! The words of a rule, as the administrator's own tools write them. Pure.

mod base;
mod kind;
mod left;
mod listed;
mod nft;
mod statement;

use std::collections::{BTreeMap, BTreeSet};

pub use listed::quote;

use super::evaluate::Decider;
use super::netlink::{attribute, attributes, big_u64, messages, text};
use super::place::Place;
use super::read::decode;
use super::ruleset::{Origin, Ruleset, Table, TableFamily};
use super::ways::Reason;
use crate::model::{Evidence, Interface, Namespace, NamespaceId, NftablesDump, Text};

/// The text of every rule that decided something, in the order in which they are asked for.
pub(super) fn evidence(
    namespaces: &[Namespace],
    places: &[Option<Place>],
    wanted: &[&Reason],
) -> Vec<Evidence> {
    let mut scribes: BTreeMap<NamespaceId, Scribe<'_>> = BTreeMap::new();
    let quote = |(netns, decider): &&Reason| {
        let index = netns.0 as usize;
        let rules = places.get(index).and_then(Option::as_ref).and_then(|place| place.rules.as_ref());
        let (Some(rules), Some(namespace)) = (rules, namespaces.get(index)) else { return lost(decider) };
        let scribe = scribes.entry(*netns).or_insert_with(|| {
            let handles =
                wanted.iter().filter(|(id, _)| id == netns).filter_map(|(_, decider)| decider.handle);
            Scribe::new(namespace, rules, Some(handles.collect()))
        });
        scribe.quote(decider)
    };
    wanted.iter().map(quote).collect()
}

/// Every rule of nftables in a namespace that can be written without the help of nft(8).
pub fn quotations(namespace: &Namespace) -> Vec<Evidence> {
    let rules = namespace.nftables.known().and_then(|dump| decode(Some(dump), &[], None));
    let Some(ruleset) = rules else { return Vec::new() };
    let scribe = Scribe::new(namespace, &ruleset, None);
    deciders(&ruleset)
        .filter_map(|decider| {
            let text = scribe.rule(&decider)?;
            Some(Evidence { place: scribe.place(&decider), handle: decider.handle, text })
        })
        .collect()
}

/// Every rule of a ruleset.
fn deciders(ruleset: &Ruleset) -> impl Iterator<Item = Decider> + '_ {
    ruleset.tables.iter().enumerate().flat_map(|(table, each)| {
        each.chains.iter().flat_map(move |(name, chain)| {
            let handles = chain.rules.iter().map(|rule| rule.handle);
            handles.map(move |handle| Decider { table, chain: name.clone(), handle: Some(handle) })
        })
    })
}

fn lost(decider: &Decider) -> Evidence {
    let place = String::from_utf8_lossy(&decider.chain).into_owned();
    Evidence { place, handle: decider.handle, text: Text::default() }
}

/// The name of a family in nft(8).
fn family_name(family: TableFamily) -> &'static str {
    match family {
        TableFamily::Inet => "inet",
        TableFamily::Ip => "ip",
        TableFamily::Ip6 => "ip6",
        TableFamily::Netdev => "netdev",
        TableFamily::Bridge => "bridge",
    }
}

fn family_of(number: u8) -> Option<TableFamily> {
    match number {
        1 => Some(TableFamily::Inet),
        2 => Some(TableFamily::Ip),
        5 => Some(TableFamily::Netdev),
        7 => Some(TableFamily::Bridge),
        10 => Some(TableFamily::Ip6),
        _ => None,
    }
}

/// Writes the rules of one namespace.
struct Scribe<'a> {
    ruleset: &'a Ruleset,
    interfaces: Vec<(u32, String)>,
    annotated: BTreeSet<(usize, Vec<u8>)>,
    texts: &'a [Evidence],
    /// Messages of rules by table and handle.
    rules: BTreeMap<(usize, u64), &'a [u8]>,
}

impl<'a> Scribe<'a> {
    /// Finds the messages of the wanted rules; of all with `None`.
    fn new(namespace: &'a Namespace, ruleset: &'a Ruleset, wanted: Option<BTreeSet<u64>>) -> Self {
        let interfaces = namespace.interfaces.known().map_or(&[][..], Vec::as_slice);
        let name =
            |each: &Interface| (each.index, String::from_utf8_lossy(each.name.as_bytes()).into_owned());
        let dump = namespace.nftables.known();
        let mut rules = BTreeMap::new();
        for (_, body) in dump.into_iter().flat_map(|dump| messages(dump.rules.as_bytes())) {
            let handle = || {
                let attributes = body.get(4..)?;
                let handle = attribute(attributes, 3).and_then(big_u64)?;
                wanted.as_ref().is_none_or(|wanted| wanted.contains(&handle)).then_some(())?;
                Some((table_of(ruleset, *body.first()?, text(attribute(attributes, 1)?))?, handle))
            };
            if let Some(key) = handle() {
                rules.insert(key, body);
            }
        }
        Self {
            ruleset,
            interfaces: interfaces.iter().map(name).collect(),
            texts: &namespace.texts,
            annotated: dump.map(|dump| annotated(dump, ruleset)).unwrap_or_default(),
            rules,
        }
    }

    /// `inet filter/input`, `iptables filter/INPUT`
    fn place(&self, decider: &Decider) -> String {
        let chain = String::from_utf8_lossy(&decider.chain);
        let Some(table) = self.ruleset.tables.get(decider.table) else { return chain.into_owned() };
        let keeper = match (table.origin, table.family) {
            (Origin::Nftables, family) => family_name(family),
            (Origin::Legacy, TableFamily::Ip6) => "ip6tables",
            (Origin::Legacy, _) => "iptables",
        };
        format!("{keeper} {}/{chain}", String::from_utf8_lossy(&table.name))
    }

    fn quote(&self, decider: &Decider) -> Evidence {
        let place = self.place(decider);
        let text = match decider.handle {
            None => self.policy(decider),
            Some(_) => self.rule(decider).or_else(|| self.listed(&place, decider)),
        };
        match (text, decider.handle) {
            (Some(text), handle) => Evidence { place, handle, text },
            (None, Some(handle)) => Evidence::wordless(place, handle),
            (None, None) => Evidence { text: Text::from(format!("policy of {place}")), place, handle: None },
        }
    }

    /// In the words of the program that keeps it.
    fn listed(&self, place: &str, decider: &Decider) -> Option<Text> {
        let found = self.texts.iter().find(|each| each.place == place && each.handle == decider.handle);
        found.map(|each| each.text.clone())
    }

    /// The line at the head of a base chain.
    fn policy(&self, decider: &Decider) -> Option<Text> {
        let table = self.ruleset.tables.get(decider.table)?;
        let base = table.chains.get(&decider.chain)?.base.as_ref()?;
        if table.origin == Origin::Legacy {
            let policy = if base.drop_policy { "DROP" } else { "ACCEPT" };
            return Some(Text::from(format!(":{} {policy}", String::from_utf8_lossy(&decider.chain))));
        }
        Some(Text::from(base::write(table.family, base)?))
    }

    fn rule(&self, decider: &Decider) -> Option<Text> {
        let table = self.ruleset.tables.get(decider.table)?;
        let body = self.rules.get(&(decider.table, decider.handle?))?;
        let rule = body.get(4..)?;
        let list = attribute(rule, 4).unwrap_or_default();
        let mut words = nft::write(
            table,
            &self.interfaces,
            &|set| self.annotated.contains(&(decider.table, set.to_vec())),
            list,
        )?
        .into_bytes();
        if let Some(comment) = attribute(rule, 7).and_then(comment) {
            words.extend_from_slice(b" comment \"");
            words.extend_from_slice(comment);
            words.push(b'"');
        }
        Some(Text::from(words))
    }
}

/// Sets without a name whose elements have comments, which nft writes into the rule: one answer holds
/// the elements of one set.
fn annotated(dump: &NftablesDump, ruleset: &Ruleset) -> BTreeSet<(usize, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for answer in &dump.elements {
        let set = |body: &[u8]| {
            let attributes = body.get(4..)?;
            let (table, set) = (text(attribute(attributes, 1)?), text(attribute(attributes, 2)?));
            set.starts_with(b"__").then_some(())?;
            Some((table_of(ruleset, *body.first()?, table)?, set.to_vec()))
        };
        let Some(set) = messages(answer.as_bytes()).next().and_then(|(_, body)| set(body)) else { continue };
        let commented = messages(answer.as_bytes()).any(|(_, body)| {
            let list = body.get(4..).and_then(|attributes| attribute(attributes, 3)).unwrap_or_default();
            // NFTA_SET_ELEM_USERDATA
            attributes(list).any(|(_, element)| attribute(element, 6).and_then(comment).is_some())
        });
        if commented {
            found.insert(set);
        }
    }
    found
}

/// The index of a table of nftables.
fn table_of(ruleset: &Ruleset, family: u8, name: &[u8]) -> Option<usize> {
    let family = family_of(family)?;
    let same = |each: &Table| each.origin == Origin::Nftables && each.family == family && each.name == name;
    ruleset.tables.iter().position(same)
}

/// The comment in a rule's user data (libnftnl's `NFTNL_UDATA_RULE_COMMENT`: type, length, text).
fn comment(mut data: &[u8]) -> Option<&[u8]> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value)).filter(|comment| !comment.is_empty());
        }
        data = &rest[usize::from(*length)..];
    }
    None
}
