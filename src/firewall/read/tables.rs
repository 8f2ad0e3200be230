//! Tables, chains, rules, sets and elements out of the dumps of nfnetlink.

use std::collections::BTreeMap;

use super::expression::{Effects, step, verdict};
use crate::firewall::netlink::{attribute, attributes, big_u32, big_u64, messages, text};
use crate::firewall::ruleset::{Base, Chain, Element, Hook, Rule, Ruleset, Set, Table, TableFamily};
use crate::model::NftablesDump;

const NEW_TABLE: u16 = 10 << 8;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const NEW_RULE: u16 = NEW_TABLE | 6;
const NEW_SET: u16 = NEW_TABLE | 9;
const NEW_ELEMENTS: u16 = NEW_TABLE | 12;

/// Reads a whole ruleset. `None` where something contradicts itself (a rule of a chain that is not
/// there): then nothing can be said of any packet.
pub(crate) fn decode(dump: &NftablesDump) -> Option<Ruleset> {
    let mut found = Ruleset::default();
    for (_, body) in messages(dump.tables.as_bytes()).filter(|(kind, _)| *kind == NEW_TABLE) {
        let family = match body.first()? {
            1 => TableFamily::Inet,
            2 => TableFamily::Ip,
            5 => TableFamily::Netdev,
            7 => TableFamily::Bridge,
            10 => TableFamily::Ip6,
            3 => continue, // ARP
            _ => return None,
        };
        let attributes = body.get(4..)?;
        found.tables.push(Table {
            family,
            name: text(attribute(attributes, 1)?).to_vec(),
            dormant: attribute(attributes, 2).and_then(big_u32).unwrap_or(0) & 1 != 0,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        });
    }
    for (_, body) in messages(dump.chains.as_bytes()).filter(|(kind, _)| *kind == NEW_CHAIN) {
        let Some((table, attributes)) = table_of(&mut found.tables, body, 1)? else { continue };
        let name = text(attribute(attributes, 3)?).to_vec();
        let family = table.family;
        let handle = attribute(attributes, 2).and_then(big_u64).unwrap_or(0);
        table.chains.insert(name, Chain { base: base(attributes, family)?, handle, rules: Vec::new() });
    }
    for (_, body) in messages(dump.sets.as_bytes()).filter(|(kind, _)| *kind == NEW_SET) {
        let Some((table, attributes)) = table_of(&mut found.tables, body, 1)? else { continue };
        table.sets.insert(text(attribute(attributes, 2)?).to_vec(), set(attributes)?);
    }
    for answer in &dump.elements {
        elements(&mut found.tables, answer.as_bytes())?;
    }
    for table in &mut found.tables {
        table.sets.values_mut().for_each(close_intervals);
    }
    let mut effects = Effects::default();
    for (_, body) in messages(dump.rules.as_bytes()).filter(|(kind, _)| *kind == NEW_RULE) {
        let Some((table, rule)) = table_of(&mut found.tables, body, 1)? else { continue };
        let chain = table.chains.get_mut(text(attribute(rule, 2)?))?;
        let list = attribute(rule, 4).unwrap_or_default();
        let handle = attribute(rule, 3).and_then(big_u64).unwrap_or(0);
        let steps = attributes(list).map(|(_, expression)| step(expression, &mut effects)).collect();
        chain.rules.push(Rule { handle, steps });
    }
    (found.untracks, found.marks) = (effects.untracks, effects.marks);
    Some(found)
}

/// The table that a message belongs to, and its attributes. `Some(None)` for ARP; `None` for a table
/// that is not there.
fn table_of<'t, 'b>(
    tables: &'t mut [Table],
    body: &'b [u8],
    name: u16,
) -> Option<Option<(&'t mut Table, &'b [u8])>> {
    let family = match body.first()? {
        1 => TableFamily::Inet,
        2 => TableFamily::Ip,
        5 => TableFamily::Netdev,
        7 => TableFamily::Bridge,
        10 => TableFamily::Ip6,
        _ => return Some(None),
    };
    let attributes = body.get(4..)?;
    let name = text(attribute(attributes, name)?);
    let table = tables.iter_mut().find(|table| table.family == family && table.name == name)?;
    Some(Some((table, attributes)))
}

/// `Some(None)` for a chain that hangs on no hook.
#[expect(clippy::option_option, reason = "the outer one says that nothing can be told")]
fn base(attributes: &[u8], family: TableFamily) -> Option<Option<Base>> {
    let Some(nested) = attribute(attributes, 4) else { return Some(None) };
    let hook = match (family, attribute(nested, 1).and_then(big_u32)?) {
        (TableFamily::Netdev, 0) | (TableFamily::Inet, 5) => Hook::Ingress,
        (TableFamily::Netdev | TableFamily::Bridge, _) => Hook::Other,
        (_, 0) => Hook::Prerouting,
        (_, 1) => Hook::Input,
        (_, 2) => Hook::Forward,
        (_, 3) => Hook::Output,
        (_, 4) => Hook::Postrouting,
        _ => return None,
    };
    let mut devices: Vec<Vec<u8>> =
        attribute(nested, 3).map(|name| text(name).to_vec()).into_iter().collect();
    if let Some(list) = attribute(nested, 4) {
        devices.extend(super::super::netlink::attributes(list).map(|(_, name)| text(name).to_vec()));
    }
    Some(Some(Base {
        hook,
        priority: attribute(nested, 2).and_then(big_u32)?.cast_signed(),
        nat: attribute(attributes, 7).map(text) == Some(b"nat"),
        drop_policy: attribute(attributes, 5).and_then(big_u32) == Some(0),
        devices,
    }))
}

fn set(attributes: &[u8]) -> Option<Set> {
    const INTERVAL: u32 = 4;
    const EVAL: u32 = 0x20;
    let flags = attribute(attributes, 3).and_then(big_u32).unwrap_or(0);
    let length = attribute(attributes, 5).and_then(big_u32)? as usize;
    let parts = attribute(attributes, 9).and_then(|description| attribute(description, 2)).map(|list| {
        let lengths = super::super::netlink::attributes(list);
        lengths
            .filter_map(|(_, field)| attribute(field, 1).and_then(big_u32))
            .map(|bytes| bytes as usize)
            .collect()
    });
    Some(Set {
        intervals: flags & INTERVAL != 0,
        dynamic: flags & EVAL != 0,
        parts: parts.unwrap_or_default(),
        length,
        ..Set::default()
    })
}

fn elements(tables: &mut [Table], answer: &[u8]) -> Option<()> {
    const INTERVAL_END: u32 = 1;
    const CATCHALL: u32 = 2;
    for (_, body) in messages(answer).filter(|(kind, _)| *kind == NEW_ELEMENTS) {
        let Some((table, attributes)) = table_of(tables, body, 1)? else { continue };
        let set = table.sets.get_mut(text(attribute(attributes, 2)?))?;
        let list = attribute(attributes, 3).unwrap_or_default();
        for (_, element) in super::super::netlink::attributes(list) {
            let flags = attribute(element, 3).and_then(big_u32).unwrap_or(0);
            let data = attribute(element, 2);
            let decided = data.and_then(verdict);
            // A verdict that is there but not understood.
            set.partial |= data.is_some_and(|data| attribute(data, 2).is_some()) && decided.is_none();
            // Counters and limits of an element: a limit may keep it from matching.
            set.partial |= attribute(element, 7).is_some_and(limits) || attribute(element, 11).is_some();
            if flags & CATCHALL != 0 {
                set.otherwise = Some(decided);
                continue;
            }
            let key = |wanted| Some(attribute(attribute(element, wanted)?, 1)?.to_vec());
            let first: Vec<u8> = key(1)?;
            let last = key(10);
            let whole =
                first.len() == set.length && last.as_ref().is_none_or(|last| last.len() == set.length);
            if !whole {
                set.partial = true;
                continue;
            }
            if flags & INTERVAL_END != 0 {
                // Marked by an empty interval until all are there.
                set.elements.push(Element { last: Vec::new(), first, verdict: None });
            } else {
                set.elements.push(Element {
                    last: last.unwrap_or_else(|| first.clone()),
                    first,
                    verdict: decided,
                });
            }
        }
    }
    Some(())
}

fn limits(expression: &[u8]) -> bool {
    attribute(expression, 1).map(text) != Some(b"counter")
}

/// Sets of intervals are told as starts and, flagged, as first keys behind the end.
fn close_intervals(set: &mut Set) {
    if !set.intervals || !set.parts.is_empty() {
        return;
    }
    // An end comes before a start at the same key.
    set.elements.sort_by(|a, b| (&a.first, !a.last.is_empty()).cmp(&(&b.first, !b.last.is_empty())));
    let mut closed: Vec<Element> = Vec::with_capacity(set.elements.len() / 2 + 1);
    let mut open: Option<Element> = None;
    for element in std::mem::take(&mut set.elements) {
        if let Some(mut start) = open.take() {
            start.last = before(&element.first);
            closed.push(start);
        }
        if !element.last.is_empty() {
            open = Some(element);
        }
    }
    if let Some(mut start) = open {
        start.last = vec![0xff; start.first.len()];
        closed.push(start);
    }
    set.elements = closed;
}

/// The number one less, in network byte order.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    key
}

/// Requests for the elements of every set of a `NFT_MSG_GETSET` dump, each with a name of its own.
pub(crate) fn set_requests(sets: &[u8]) -> Vec<Vec<u8>> {
    const GET_ELEMENTS: u16 = NEW_TABLE | 13;
    let mut found = Vec::new();
    for (_, body) in messages(sets).filter(|(kind, _)| *kind == NEW_SET) {
        let Some(attributes) = body.get(4..) else { continue };
        let (Some(table), Some(set)) = (attribute(attributes, 1), attribute(attributes, 2)) else { continue };
        let mut header = vec![body[0], 0, 0, 0];
        for (number, value) in [(1_u16, table), (2, set)] {
            let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
            header.extend(length.to_ne_bytes());
            header.extend(number.to_ne_bytes());
            header.extend(value);
            header.resize(header.len().next_multiple_of(4), 0);
        }
        found.push(crate::firewall::netlink::dump_request(GET_ELEMENTS, &header));
    }
    found
}
