//! IP sets (ipset(8), `<linux/netfilter/ipset/ip_set.h>`) as sets of nftables, and the match that
//! looks into them (`xt_set.h`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::xt::{Context, address};
use crate::firewall::netlink::{attributes, big_u32, fields, messages, put_attribute, request, text, whole};
use crate::firewall::ranges::{Family, Ranges};
use crate::firewall::ruleset::{Element, Header, Meta, Set, Step, Value};
use crate::model::IpsetDump;

/// `NFNL_SUBSYS_IPSET << 8`
const IPSET: u16 = 6 << 8;
const LIST: u16 = IPSET | 7;
const GET_BY_INDEX: u16 = IPSET | 15;
/// `IPSET_PROTOCOL`; kernels since 4.20 know it.
const PROTOCOL: u8 = 7;

/// More elements than this are not taken in.
const MOST: usize = 4_000_000;

/// All sets that rules look into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ipsets {
    names: BTreeMap<u16, Vec<u8>>,
    sets: BTreeMap<Vec<u8>, Ipset>,
}

#[derive(Clone, Debug)]
struct Ipset {
    /// `None` for sets that know no addresses.
    family: Option<Family>,
    fields: Vec<Field>,
    /// Addresses are looked up with these bits only.
    mask: Option<Vec<u8>>,
    set: Set,
}

/// A part of an element (`hash:net,port`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Address,
    Port {
        protocol: bool,
    },
    Mark,
    Interface,
    /// Hardware addresses: nobody can tell what a stranger's is.
    Hardware,
}

impl Field {
    /// Widths of its values in bytes.
    fn widths(self, family: Option<Family>) -> &'static [usize] {
        match (self, family) {
            (Self::Address, Some(Family::V6)) => &[16],
            (Self::Address, _) | (Self::Mark, _) => &[4],
            (Self::Port { protocol: true }, _) => &[2, 1],
            (Self::Port { protocol: false }, _) => &[2],
            (Self::Interface, _) => &[16],
            (Self::Hardware, _) => &[6],
        }
    }
}

/// The name of an ipset among the sets of a table; nftables allows no such name.
fn key_of(name: &[u8]) -> Vec<u8> {
    [b"ipset\0", name].concat()
}

impl Ipsets {
    pub(crate) fn by_key(&self, key: &[u8]) -> Option<&Set> {
        self.sets.get(key).map(|found| &found.set)
    }

    /// Reads a list of all sets. What is cut or contradicts itself leaves no set: then every match
    /// may match or not.
    /// `filled`: the numbers of sets that rules fill.
    pub(crate) fn decode(dump: &IpsetDump, filled: &BTreeSet<u16>) -> Self {
        let names = dump.names.iter().map(|(index, name)| (*index, name.as_bytes().to_vec())).collect();
        let mut found = Self { names, sets: list(dump.list.as_bytes()).unwrap_or_default() };
        for index in filled {
            let Some(name) = found.names.get(index) else { continue };
            if let Some(set) = found.sets.get_mut(&key_of(name)) {
                set.set.dynamic = true;
            }
        }
        join_lists(&mut found.sets, dump.list.as_bytes());
        found
    }

    fn of_index(&self, index: u16) -> Option<(Vec<u8>, &Ipset)> {
        let key = key_of(self.names.get(&index)?);
        let found = self.sets.get(&key)?;
        Some((key, found))
    }
}

/// A request for all sets with their elements.
pub(crate) fn list_request() -> Vec<u8> {
    let mut header = vec![2, 0, 0, 0];
    put_attribute(&mut header, 1, &[PROTOCOL]);
    crate::firewall::netlink::dump_request(LIST, &header)
}

/// A request for the name of one set.
pub(crate) fn name_request(index: u16) -> Vec<u8> {
    let mut header = vec![2, 0, 0, 0];
    put_attribute(&mut header, 1, &[PROTOCOL]);
    // NLA_F_NET_BYTEORDER
    put_attribute(&mut header, 11 | 0x4000, &index.to_be_bytes());
    request(GET_BY_INDEX, &header)
}

/// The name in the answer to a [`name_request`].
pub(crate) fn name(answer: &[u8]) -> Option<Vec<u8>> {
    let (_, body) = messages(answer).find(|(kind, _)| *kind == GET_BY_INDEX)?;
    Some(text(fields::<12>(body.get(4..)?)?[2]?).to_vec())
}

fn list(answer: &[u8]) -> Option<BTreeMap<Vec<u8>, Ipset>> {
    whole(answer).then_some(())?;
    let mut sets: BTreeMap<Vec<u8>, Ipset> = BTreeMap::new();
    let mut elements: BTreeMap<Vec<u8>, Vec<Parsed>> = BTreeMap::new();
    let mut count = 0;
    // A large set comes in several messages, its header in the first.
    for (_, body) in messages(answer).filter(|(kind, _)| *kind == LIST) {
        let parts = fields::<9>(body.get(4..)?)?;
        let key = key_of(text(parts[2]?));
        if let Some(kind) = parts[3] {
            sets.insert(key.clone(), header(text(kind), &parts)?);
        }
        let set = sets.get_mut(&key)?;
        for (_, each) in parts[8].map(attributes).into_iter().flatten() {
            count += 1;
            (count <= MOST).then_some(())?;
            match parsed(each, set)? {
                Some(element) => elements.entry(key.clone()).or_default().push(element),
                None => set.set.partial = true,
            }
        }
    }
    let names: Vec<Vec<u8>> = sets.keys().cloned().collect();
    for key in &names {
        let parsed = elements.remove(key).unwrap_or_default();
        let set = sets.get_mut(key)?;
        if set.fields == [Field::Address] {
            set.set.elements = addresses(&parsed, set.family?);
        } else {
            set.set.partial |= parsed.iter().any(|element| element.excluded);
            set.set.elements = parsed.into_iter().map(|element| element.range).collect();
        }
    }
    Some(sets)
}

/// An element, and whether it excludes what it holds (`nomatch`).
struct Parsed {
    range: Element,
    excluded: bool,
}

/// A set as its header describes it. A kind that is not known is partial: it may hold anything.
fn header(kind: &[u8], parts: &[Option<&[u8]>; 9]) -> Option<Ipset> {
    const NETMASK: usize = 20;
    const MARKMASK: usize = 11;
    const BITMASK: usize = 12;
    let family = match parts[5].and_then(|family| family.first()) {
        Some(2) => Some(Family::V4),
        Some(10) => Some(Family::V6),
        _ => None,
    };
    let (storage, names) = kind.split_at(kind.iter().position(|byte| *byte == b':')? + 1);
    let mut found = Vec::new();
    let mut strange = false;
    for name in names.split(|byte| *byte == b',') {
        found.push(match name {
            b"ip" | b"net" => Field::Address,
            b"port" => Field::Port { protocol: storage == b"hash:" },
            b"mark" => Field::Mark,
            b"iface" => Field::Interface,
            b"mac" => Field::Hardware,
            _ => {
                strange = true;
                Field::Hardware
            }
        });
    }
    let data = fields::<24>(parts[7].unwrap_or_default())?;
    let widths: Vec<usize> = found.iter().flat_map(|field| field.widths(family)).copied().collect();
    let single = widths.len() == 1;
    let padded = |width: &usize| if single { *width } else { width.next_multiple_of(4) };
    let length = widths.iter().map(padded).sum();
    let bits = data[NETMASK].and_then(|mask| mask.first()).map(|bits| usize::from(*bits));
    let mask = bits.map(|bits| prefix(bits, if family == Some(Family::V6) { 16 } else { 4 }));
    // Sets of marks may look at some bits only; a mask of addresses may be any since Linux 6.3.
    let marks = data[MARKMASK].is_some_and(|mask| mask != [0xff; 4]);
    let partial = strange || marks || data[BITMASK].is_some();
    Some(Ipset {
        family,
        fields: found,
        mask,
        set: Set {
            timed: data[6].is_some(),
            parts: if single { Vec::new() } else { widths },
            length,
            intervals: true,
            partial,
            ..Set::default()
        },
    })
}

/// A mask of so many leading ones.
fn prefix(bits: usize, width: usize) -> Vec<u8> {
    let byte = |index: usize| match bits.saturating_sub(8 * index) {
        0 => 0,
        left @ 1..=7 => 0xff_u8 << (8 - left),
        _ => 0xff,
    };
    (0..width).map(byte).collect()
}

/// `Some(None)` for an element that is understood in part only.
#[expect(clippy::option_option, reason = "the outer one says that nothing can be told")]
fn parsed(element: &[u8], set: &Ipset) -> Option<Option<Parsed>> {
    const PHYSICAL: u32 = 1 << 1;
    const EXCLUDED: u32 = 1 << 2;
    const WILDCARD: u32 = 1 << 7;
    let parts = fields::<32>(element)?;
    let flags = parts[8].and_then(big_u32).unwrap_or(0);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut addresses = [(1, 2, 3), (20, 22, 21)].into_iter();
    for field in &set.fields {
        match field {
            Field::Address => {
                let (from, to, bits) = addresses.next()?;
                let (low, high) = span(parts[from]?, parts[to], parts[bits])?;
                let width = if set.family == Some(Family::V6) { 16 } else { 4 };
                (low.len() == width && high.len() == width).then_some(())?;
                first.extend(low);
                last.extend(high);
            }
            Field::Port { protocol } => {
                let port = parts[4]?.get(..2)?;
                let highest = parts[5].and_then(|port| port.get(..2)).unwrap_or(port);
                first.extend(port);
                last.extend(highest);
                if *protocol {
                    let protocol = *parts[7]?.first()?;
                    first.extend([0, 0, protocol, 0, 0, 0]);
                    last.extend([0, 0, protocol, 0, 0, 0]);
                } else if set.fields.len() > 1 {
                    first.extend([0, 0]);
                    last.extend([0, 0]);
                }
            }
            Field::Mark => {
                let mark = big_u32(parts[10]?)?.to_ne_bytes();
                first.extend(mark);
                last.extend(mark);
            }
            Field::Interface => {
                if flags & (PHYSICAL | WILDCARD) != 0 {
                    return Some(None);
                }
                let mut name = text(parts[23]?).to_vec();
                (name.len() < 16).then_some(())?;
                name.resize(16, 0);
                first.extend(&name);
                last.extend(&name);
            }
            Field::Hardware => return Some(None),
        }
    }
    let range = Element { first, last, value: Value::Nothing };
    Some(Some(Parsed { range, excluded: flags & EXCLUDED != 0 }))
}

/// First and last address of an element.
fn span(from: &[u8], to: Option<&[u8]>, bits: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
    let plain = |nested: &[u8]| {
        let parts = fields::<3>(nested)?;
        Some(parts[1].or(parts[2])?.to_vec())
    };
    let low = plain(from)?;
    if let Some(to) = to {
        return Some((low, plain(to)?));
    }
    let Some(bits) = bits else { return Some((low.clone(), low)) };
    let mask = prefix(usize::from(*bits.first()?), low.len());
    let first = low.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    let last = low.iter().zip(&mask).map(|(byte, mask)| byte | !mask).collect();
    Some((first, last))
}

fn numbers(element: &Element) -> (u128, u128) {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
    (number(&element.first), number(&element.last))
}

/// Of networks inside each other the smallest decides (`mtype_test_cidrs`).
fn addresses(parsed: &[Parsed], family: Family) -> Vec<Element> {
    let ranges = if parsed.iter().any(|element| element.excluded) {
        let mut sizes: BTreeMap<u128, [Vec<(u128, u128)>; 2]> = BTreeMap::new();
        for element in parsed {
            let (first, last) = numbers(&element.range);
            let both = sizes.entry(last.saturating_sub(first)).or_default();
            both[usize::from(element.excluded)].push((first, last));
        }
        let mut ranges = Ranges::default();
        for [held, excluded] in sizes.into_values().rev() {
            ranges = ranges.union(&Ranges::new(held)).minus(&Ranges::new(excluded));
        }
        ranges
    } else {
        Ranges::new(parsed.iter().map(|element| numbers(&element.range)).collect())
    };
    elements_of(&ranges, family)
}

fn elements_of(ranges: &Ranges, family: Family) -> Vec<Element> {
    let bytes = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let element = |range: crate::model::AddrRange| Element {
        first: bytes(range.first),
        last: bytes(range.last),
        value: Value::Nothing,
    };
    family.addresses(ranges).into_iter().map(element).collect()
}

/// A list of sets holds what its members hold, where all hold plain addresses of one family; any
/// other list may hold anything.
fn join_lists(sets: &mut BTreeMap<Vec<u8>, Ipset>, answer: &[u8]) {
    let mut members: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for (_, body) in messages(answer).filter(|(kind, _)| *kind == LIST) {
        let Some(parts) = body.get(4..).and_then(fields::<9>) else { continue };
        let Some(key) = parts[2].map(|name| key_of(text(name))) else { continue };
        if !sets.get(&key).is_some_and(|set| set.fields == [Field::Hardware]) {
            continue;
        }
        for (_, each) in parts[8].map(attributes).into_iter().flatten() {
            let name = fields::<20>(each).and_then(|parts| parts[18]).map(|name| key_of(text(name)));
            members.entry(key.clone()).or_default().push(name.unwrap_or_default());
        }
    }
    for (key, names) in members {
        let all: Option<Vec<&Ipset>> = names.iter().map(|name| sets.get(name)).collect();
        let Some(all) = all else { continue };
        let Some(family) = all.first().and_then(|set| set.family) else { continue };
        let alike = all.iter().all(|set| {
            set.fields == [Field::Address]
                && set.family == Some(family)
                && set.mask.is_none()
                && !set.set.partial
        });
        if alike {
            let ranges = all.iter().flat_map(|set| &set.set.elements).map(numbers).collect();
            let dynamic = all.iter().any(|set| set.set.dynamic);
            let joined = Ipset {
                family: Some(family),
                fields: vec![Field::Address],
                mask: None,
                set: Set {
                    elements: elements_of(&Ranges::new(ranges), family),
                    dynamic,
                    ..all[0].set.clone()
                },
            };
            sets.insert(key, joined);
        }
    }
}

/// `struct xt_set_info_match_v1`, `_v3`, `_v4`
pub(super) fn matching(revision: u32, info: &[u8], context: &Context<'_>) -> Option<Vec<Step>> {
    const INVERTED: u8 = 1;
    const RETURN_NOMATCH: u8 = 1 << 7;
    let size = if revision <= 2 { 4 } else { 48 };
    let fits = info.len() == size || info.len() == size.next_multiple_of(8);
    let info = if fits { info.get(..size)? } else { return None };
    let index = u16::from_ne_bytes([info[0], info[1]]);
    let (dimension, flags) = (usize::from(info[2]), info[3]);
    // What it asks of the counters of an element.
    let counted = match revision {
        1 | 2 => false,
        3 => info[8] != 0 || info[24] != 0,
        _ => info[16] != 0 || info[32] != 0,
    };
    if counted || flags & RETURN_NOMATCH != 0 {
        return None;
    }
    let (key, found) = context.ipsets.of_index(index)?;
    if found.set.partial && found.fields.contains(&Field::Hardware) {
        return None;
    }
    let inverted = flags & INVERTED != 0;
    let ours = found.family.is_none() || found.family == Some(context.family?);
    if dimension < found.fields.len() || !ours {
        // It is never in there (`ip_set_test`).
        let how = crate::firewall::ruleset::Compare::NotEqual;
        let never =
            [Step::Constant { to: 0, value: vec![0; 4] }, Step::Compare { from: 0, how, value: vec![0; 4] }];
        return Some(if inverted { Vec::new() } else { never.to_vec() });
    }
    let mut steps = Vec::new();
    let mut to = 0;
    for (number, field) in found.fields.iter().enumerate() {
        let source = flags & 1_u8.checked_shl(u32::try_from(number).ok()? + 1)? != 0;
        match field {
            Field::Address => {
                steps.push(address(context.family?, to, !source));
                if let Some(mask) = &found.mask {
                    let xor = vec![0; mask.len()];
                    steps.push(Step::Bitwise { from: to, to, mask: mask.clone(), xor });
                }
            }
            Field::Port { protocol } => {
                let offset = if source { 0 } else { 2 };
                steps.push(Step::Payload { to, header: Header::Transport, offset, length: 2 });
                if *protocol {
                    steps.push(Step::Meta { to: to + 4, key: Meta::L4Proto });
                }
            }
            Field::Mark => steps.push(Step::Meta { to, key: Meta::Mark }),
            Field::Interface => {
                let key = if source { Meta::IifName } else { Meta::OifName };
                steps.push(Step::Meta { to, key });
            }
            Field::Hardware => {
                let what = Cow::Borrowed("hardware address");
                steps.push(Step::Load { to, length: 8, what });
            }
        }
        to += field.widths(found.family).iter().map(|width| width.next_multiple_of(4)).sum::<usize>();
    }
    (to <= 64).then_some(())?;
    steps.push(Step::Lookup { from: 0, set: key, inverted, to: None });
    Some(steps)
}
