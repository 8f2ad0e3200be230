//! Sets and their elements out of the dumps of nfnetlink.

use std::collections::BTreeMap;

use super::expression::verdict;
use super::tables::{MOST, NEW_TABLE};
use crate::firewall::netlink::{
    attribute, attributes, big_u32, dump_request, fields, messages, put_attribute, text,
};
use crate::firewall::ruleset::{Element, Set, Value};

pub(super) const NEW_SET: u16 = NEW_TABLE | 9;
pub(super) const NEW_ELEMENTS: u16 = NEW_TABLE | 12;

/// A set without its elements.
pub(super) fn set(parts: &[Option<&[u8]>; 19]) -> Option<Set> {
    const INTERVAL: u32 = 4;
    const TIMEOUT: u32 = 0x10;
    const EVAL: u32 = 0x20;
    let flags = parts[3].and_then(big_u32).unwrap_or(0);
    let length = parts[5].and_then(big_u32)? as usize;
    (length <= 64).then_some(())?;
    let mut widths = Vec::new();
    if let Some(list) = parts[9].and_then(|description| attribute(description, 2)) {
        for (_, field) in attributes(list) {
            widths.push(attribute(field, 1).and_then(big_u32)? as usize);
        }
        // The parts of a key, each filled up to a word, are the key.
        let sum: usize = widths.iter().map(|width| width.next_multiple_of(4)).sum();
        (sum == length).then_some(())?;
    }
    Some(Set {
        intervals: flags & INTERVAL != 0,
        dynamic: flags & EVAL != 0,
        timed: flags & TIMEOUT != 0,
        parts: widths,
        length,
        ..Set::default()
    })
}

pub(super) fn elements(sets: &mut BTreeMap<Vec<u8>, Set>, attributes_of_list: &[u8]) -> Option<()> {
    const INTERVAL_END: u32 = 1;
    const CATCHALL: u32 = 2;
    let list = fields::<4>(attributes_of_list)?;
    let set = sets.get_mut(text(list[2]?))?;
    let nested = list[3].unwrap_or_default();
    fields::<0>(nested)?;
    for (_, element) in attributes(nested) {
        (set.elements.len() < MOST).then_some(())?;
        let parts = fields::<12>(element)?;
        let flags = parts[3].and_then(big_u32).unwrap_or(0);
        let value = match parts[2] {
            None => Value::Nothing,
            Some(data) => match fields::<3>(data)? {
                [_, Some(bytes), _] => Value::Data(bytes.to_vec()),
                _ => verdict(data).map_or_else(
                    || {
                        set.partial = true;
                        Value::Nothing
                    },
                    Value::Verdict,
                ),
            },
        };
        // Counters of an element count; a limit may keep it from matching.
        set.partial |= parts[7].is_some_and(limits);
        set.partial |= parts[11].is_some_and(|list| attributes(list).any(|(_, each)| limits(each)));
        if flags & CATCHALL != 0 {
            set.otherwise = Some(value);
            continue;
        }
        let key = |wanted: usize| -> Option<Vec<u8>> { Some(fields::<2>(parts[wanted]?)?[1]?.to_vec()) };
        let first = key(1)?;
        let last = key(10);
        let fits = |key: &Vec<u8>| key.len() == set.length;
        (fits(&first) && last.as_ref().is_none_or(fits)).then_some(())?;
        // An end is marked by an empty interval until all are there.
        let last = if flags & INTERVAL_END != 0 { Vec::new() } else { last.unwrap_or_else(|| first.clone()) };
        set.elements.push(Element { first, last, value });
    }
    Some(())
}

fn limits(expression: &[u8]) -> bool {
    !matches!(attribute(expression, 1).map(text), Some(b"counter" | b"last"))
}

/// Sets of intervals are told as starts and, flagged, as first keys behind the end.
pub(super) fn close_intervals(set: &mut Set) -> Option<()> {
    if !set.intervals || !set.parts.is_empty() {
        // Only there do ends occur.
        return set.elements.iter().all(|element| !element.last.is_empty() || set.length == 0).then_some(());
    }
    // An end comes before a start at the same key.
    set.elements.sort_by(|a, b| (&a.first, !a.last.is_empty()).cmp(&(&b.first, !b.last.is_empty())));
    let mut closed: Vec<Element> = Vec::with_capacity(set.elements.len() / 2 + 1);
    let mut open: Option<Element> = None;
    for element in std::mem::take(&mut set.elements) {
        if let Some(mut start) = open.take() {
            start.last = before(&element.first)?;
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
    Some(())
}

/// The number one less, in network byte order; `None` of zero.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return Some(key);
        }
    }
    None
}

/// Requests for the elements of every set of a `NFT_MSG_GETSET` dump.
pub(crate) fn set_requests(sets: &[u8]) -> Vec<Vec<u8>> {
    const GET_ELEMENTS: u16 = NEW_TABLE | 13;
    let mut found = Vec::new();
    for (_, body) in messages(sets).filter(|(kind, _)| *kind == NEW_SET) {
        let Some(attributes) = body.get(4..) else { continue };
        let (Some(table), Some(set)) = (attribute(attributes, 1), attribute(attributes, 2)) else { continue };
        let mut header = vec![body[0], 0, 0, 0];
        put_attribute(&mut header, 1, table);
        put_attribute(&mut header, 2, set);
        found.push(dump_request(GET_ELEMENTS, &header));
    }
    found
}
