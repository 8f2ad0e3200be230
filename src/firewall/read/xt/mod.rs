//! Matches and targets of iptables: binary structures of the kernel (`<linux/netfilter/xt_*.h>`),
//! in rules of nftables as in legacy tables. Numbers are in host byte order unless a type says
//! otherwise. A structure of another size or revision than those known here is not read.
//!
//! Whatever can be said in steps of nftables is said so: an extension has a meaning of its own only
//! where no steps have it.

mod connection;
mod ports;
mod target;
mod translate;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::ipset::{self, Ipsets};
use crate::firewall::ranges::Family;
use crate::firewall::ruleset::{Back, Compare, Connection, Extension, Header, Meta, Register, Set, Step};

pub(crate) use target::target;

/// What an extension needs to know around it.
#[derive(Clone, Copy)]
pub(crate) struct Context<'t> {
    /// `None` in tables of both families and of bridges.
    pub(crate) family: Option<Family>,
    pub(crate) ipsets: &'t Ipsets,
}

/// The data of an extension, which the kernel fills up to whole words (`XT_ALIGN`).
fn sized(info: &[u8], size: usize) -> Option<&[u8]> {
    let fits = info.len() == size.next_multiple_of(8) || info.len() == size.next_multiple_of(4);
    fits.then(|| info.get(..size)).flatten()
}

fn short(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

/// A match. What is not known may match or not.
pub(crate) fn matching(name: &[u8], revision: u32, info: &[u8], context: &Context<'_>) -> Vec<Step> {
    let steps = match (name, revision) {
        (b"comment", 0) => Some(Vec::new()),
        // They ask for a header that ordinary packets do not have, and match no other packet
        // (net/ipv6/netfilter/ip6t_*.c).
        (b"rt" | b"frag" | b"hbh" | b"dst" | b"srh", _) => Some(vec![Step::Unusual]),
        (b"tcp", 0) => ports::tcp(info),
        (b"udp" | b"udplite", 0) => ports::udp(info),
        (b"sctp", 0) => ports::sctp(info),
        (b"dccp", 0) => ports::dccp(info),
        (b"multiport", 1) => ports::multiport(info),
        (b"conntrack", 1..=3) => connection::conntrack(revision, info, context),
        (b"state", 0) => connection::state(info),
        (b"addrtype", 0 | 1) => address_type(revision, info),
        (b"iprange", 1) => address_range(info, context),
        (b"rpfilter", 0) => reverse_path(info),
        (b"mark", 1) => mark(info, Step::Meta { to: 0, key: Meta::Mark }),
        (b"connmark", 1) => mark(info, Step::Connection { to: 0, key: Connection::Mark, reply: false }),
        (b"set", 1..=4) => ipset::matching(revision, info, context),
        (b"physdev", 0) => bridge_port(info),
        (b"pkttype", 0) => packet_type(info),
        (b"ttl" | b"hl", 0) => hops(info, context),
        (b"length", 0) => long(info, context),
        _ => None,
    };
    steps.unwrap_or_else(|| vec![Step::Maybe(Cow::Owned(String::from_utf8_lossy(name).into_owned()))])
}

/// `struct xt_rpfilter_info`
fn reverse_path(info: &[u8]) -> Option<Vec<Step>> {
    const LOOSE: u8 = 1;
    /// The mark chooses between tables only.
    const VALID_MARK: u8 = 2;
    const INVERTED: u8 = 8;
    let flags = *sized(info, 1)?.first()?;
    let back = if flags & LOOSE != 0 { Back::Any } else { Back::Best };
    let how = if flags & INVERTED != 0 { Compare::NotEqual } else { Compare::Equal };
    (flags & !(LOOSE | VALID_MARK | INVERTED) == 0)
        .then(|| vec![Step::Route { to: 0, back, length: 1 }, Step::Compare { from: 0, how, value: vec![1] }])
}

/// The text of a match `comment`.
pub(crate) fn comment(name: &[u8], info: &[u8]) -> Option<Vec<u8>> {
    (name == b"comment").then(|| crate::firewall::netlink::text(info).to_vec())
}

/// Gives a table the ipsets that a rule of it looks into.
pub(crate) fn bring_sets(steps: &[Step], sets: &mut BTreeMap<Vec<u8>, Set>, ipsets: &Ipsets) {
    for step in steps {
        if let Step::Lookup { set, .. } = step
            && !sets.contains_key(set)
            && let Some(found) = ipsets.by_key(set)
        {
            sets.insert(set.clone(), found.clone());
        }
    }
}

/// Asks whether the bytes that `load` puts at the start of the registers, masked, are a value.
fn masked(load: Step, mask: &[u8], value: &[u8], inverted: bool) -> Vec<Step> {
    let how = if inverted { Compare::NotEqual } else { Compare::Equal };
    let mut steps = vec![load];
    if mask.iter().any(|byte| *byte != 0xff) {
        steps.push(Step::Bitwise { from: 0, to: 0, mask: mask.to_vec(), xor: vec![0; mask.len()] });
    }
    steps.push(Step::Compare { from: 0, how, value: value.to_vec() });
    steps
}

/// The source or destination address in the packet's header.
pub(super) fn address(family: Family, to: Register, destination: bool) -> Step {
    let (offset, length) = match (family, destination) {
        (Family::V4, false) => (12, 4),
        (Family::V4, true) => (16, 4),
        (Family::V6, false) => (8, 16),
        (Family::V6, true) => (24, 16),
    };
    Step::Payload { to, header: Header::Network, offset, length }
}

/// Compares an address with a network, as the headers of rules and some matches hold them. A mask
/// of nothing asks nothing.
pub(super) fn network(
    family: Family,
    destination: bool,
    value: &[u8],
    mask: &[u8],
    inverted: bool,
) -> Vec<Step> {
    if !inverted && mask.iter().chain(value).all(|byte| *byte == 0) {
        return Vec::new();
    }
    masked(address(family, 0, destination), mask, value, inverted)
}

/// Compares the beginning of an interface's name, or all of it: 16 bytes and as many of a mask.
pub(super) fn interface(key: Meta, name: &[u8], mask: &[u8], inverted: bool) -> Vec<Step> {
    let length = mask.iter().take_while(|byte| **byte == 0xff).count();
    if mask.iter().all(|byte| *byte == 0) && !inverted {
        return Vec::new();
    }
    if length > 0 && mask[length..].iter().all(|byte| *byte == 0) {
        let how = if inverted { Compare::NotEqual } else { Compare::Equal };
        return vec![
            Step::Meta { to: 0, key },
            Step::Compare { from: 0, how, value: name[..length].to_vec() },
        ];
    }
    masked(Step::Meta { to: 0, key }, mask, name, inverted)
}

/// `struct xt_addrtype_info` and `_v1`
fn address_type(revision: u32, info: &[u8]) -> Option<Vec<Step>> {
    /// `XT_ADDRTYPE_LIMIT_IFACE_IN`; its twin for the way out is not read.
    const BY_ENTRY: u32 = 4;
    let (inverted, near, others) = if revision == 0 {
        let info = sized(info, 12)?;
        ([word(info, 4)? != 0, word(info, 8)? != 0], false, false)
    } else {
        let flags = word(sized(info, 8)?, 4)?;
        ([flags & 1 != 0, flags & 2 != 0], flags & BY_ENTRY != 0, flags & !(3 | BY_ENTRY) != 0)
    };
    (!others).then_some(())?;
    let (source, destination) = (short(info, 0)?, short(info, 2)?);
    Some(vec![Step::Extension(Extension::AddressType { source, destination, inverted, near })])
}

/// `struct xt_iprange_mtinfo`
fn address_range(info: &[u8], context: &Context<'_>) -> Option<Vec<Step>> {
    let (info, family) = (sized(info, 68)?, context.family?);
    let flags = info[64];
    let width = if family == Family::V4 { 4 } else { 16 };
    let mut steps = Vec::new();
    for (asked, negated, at, destination) in [(1, 16, 0, false), (2, 32, 32, true)] {
        if flags & asked != 0 {
            let part = |at: usize| info[at..at + width].to_vec();
            steps.push(address(family, 0, destination));
            let inverted = flags & negated != 0;
            steps.push(Step::Range { from: 0, inverted, first: part(at), last: part(at + 16) });
        }
    }
    Some(steps)
}

/// `struct xt_mark_mtinfo1`, `struct xt_connmark_mtinfo1`
fn mark(info: &[u8], load: Step) -> Option<Vec<Step>> {
    let info = sized(info, 12)?;
    Some(masked(load, &info[4..8], &info[..4], info[8] != 0))
}

/// `struct xt_physdev_info`: of packets that cross no bridge the answer is known (`physdev_mt`).
fn bridge_port(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 66)?;
    let (inverted, asked) = (info[64], info[65]);
    Some(vec![Step::Extension(Extension::BridgePort { otherwise: asked & !inverted == 0 })])
}

/// `struct xt_pkttype_info`
fn packet_type(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 8)?;
    let value = u8::try_from(word(info, 0)?).ok()?;
    let load = Step::Meta { to: 0, key: Meta::PacketType };
    Some(masked(load, &[0xff], &[value], word(info, 4)? != 0))
}

/// `struct xt_length_info`: of the whole packet (`length_mt`, `length_mt6`).
fn long(info: &[u8], context: &Context<'_>) -> Option<Vec<Step>> {
    let info = sized(info, 6)?;
    let (offset, header) = if context.family? == Family::V4 { (2, 0) } else { (4, 40) };
    let (first, last) = (short(info, 0)?.saturating_sub(header), short(info, 2)?.checked_sub(header)?);
    let (first, last) = (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
    let inverted = *info.get(4)? != 0;
    Some(vec![
        Step::Payload { to: 0, header: Header::Network, offset, length: 2 },
        Step::Range { from: 0, inverted, first, last },
    ])
}

/// `struct ipt_ttl_info`, `struct ip6t_hl_info`
fn hops(info: &[u8], context: &Context<'_>) -> Option<Vec<Step>> {
    let info = sized(info, 2)?;
    let how = match info[0] {
        0 => Compare::Equal,
        1 => Compare::NotEqual,
        2 => Compare::Less,
        3 => Compare::Greater,
        _ => return None,
    };
    let offset = if context.family? == Family::V4 { 8 } else { 7 };
    Some(vec![
        Step::Payload { to: 0, header: Header::Network, offset, length: 1 },
        Step::Compare { from: 0, how, value: vec![info[1]] },
    ])
}
