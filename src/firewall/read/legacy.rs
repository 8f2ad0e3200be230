//! Tables of legacy iptables (`<linux/netfilter_ipv4/ip_tables.h>`, `ip6_tables.h`): one block of
//! entries each, told by getsockopt(2), made into a table of the common form.
//!
//! An entry is a header with what every rule can ask, then matches, then one target. Built-in chains
//! are told by the offsets of their first and last entry (the last is the policy), chains of the
//! user begin with an entry whose target is `ERROR` and carries the name.

use std::collections::BTreeMap;

use super::ipset::Ipsets;
use super::xt::{self, Context, interface, network};
use crate::firewall::netlink::text;
use crate::firewall::ranges::Family;
use crate::firewall::ruleset::{
    Base, Chain, Compare, Hook, Meta, Origin, Rule, Ruleset, Step, Table, TableFamily, Verdict,
};
use crate::model::LegacyTable;

/// `struct xt_entry_match` and `xt_entry_target`: size, name of 29 bytes, revision.
const EXTENSION: usize = 32;
/// `IPT_F_GOTO` and `IP6T_F_GOTO`
const GOTO_V4: u8 = 2;
const GOTO_V6: u8 = 4;

/// Where things stand in an entry of one family (`struct ipt_entry`, `ip6t_entry`).
struct Layout {
    family: Family,
    /// Size of an address.
    width: usize,
    interfaces: usize,
    protocol: usize,
    flags: usize,
    goto: u8,
    inverted: usize,
    /// Of `target_offset`; `next_offset` follows.
    offsets: usize,
    /// Where matches begin.
    size: usize,
}

const V4: Layout = Layout {
    family: Family::V4,
    width: 4,
    interfaces: 16,
    protocol: 80,
    flags: 82,
    goto: GOTO_V4,
    inverted: 83,
    offsets: 88,
    size: 112,
};
const V6: Layout = Layout {
    family: Family::V6,
    width: 16,
    interfaces: 64,
    protocol: 128,
    flags: 131,
    goto: GOTO_V6,
    inverted: 132,
    offsets: 140,
    size: 168,
};

/// Hooks in the order of the kernel (`NF_INET_…`), with the names of their chains.
const HOOKS: [(&[u8], Hook); 5] = [
    (b"PREROUTING", Hook::Prerouting),
    (b"INPUT", Hook::Input),
    (b"FORWARD", Hook::Forward),
    (b"OUTPUT", Hook::Output),
    (b"POSTROUTING", Hook::Postrouting),
];

/// Where a table stands at its hooks (`NF_IP_PRI_…`); `None` for one that no kernel has.
fn priority(table: &[u8], hook: Hook) -> Option<i32> {
    let late = matches!(hook, Hook::Postrouting | Hook::Input);
    Some(match table {
        b"raw" => -300,
        b"mangle" => -150,
        b"nat" => {
            if late {
                100
            } else {
                -100
            }
        }
        b"filter" => 0,
        b"security" => 50,
        _ => return None,
    })
}

/// Adds the tables to a ruleset. `None` where one contradicts itself.
pub(crate) fn decode(tables: &[LegacyTable], ipsets: &Ipsets, found: &mut Ruleset) -> Option<()> {
    for each in tables {
        found.tables.push(table(each, ipsets)?);
    }
    found.sum_up();
    Some(())
}

/// `struct ipt_getinfo`: name, mask of hooks, first entries, policies, count, size.
struct Info {
    hooks: u32,
    first: [usize; 5],
    policy: [usize; 5],
    size: usize,
}

impl Info {
    fn read(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 84).then_some(())?;
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let five = |at: usize| -> Option<[usize; 5]> {
            Some([word(at)?, word(at + 4)?, word(at + 8)?, word(at + 12)?, word(at + 16)?])
        };
        Some(Self {
            hooks: u32::try_from(word(32)?).ok()?,
            first: five(36)?,
            policy: five(56)?,
            size: word(80)?,
        })
    }
}

fn table(each: &LegacyTable, ipsets: &Ipsets) -> Option<Table> {
    let layout = if each.v6 { &V6 } else { &V4 };
    let info = Info::read(each.info.as_bytes())?;
    let block = each.entries.as_bytes();
    (block.len() == info.size).then_some(())?;
    let entries = entries(block, layout)?;
    let starts = starts(&entries, &info)?;
    let mut table = Table {
        family: if each.v6 { TableFamily::Ip6 } else { TableFamily::Ip },
        origin: Origin::Legacy,
        name: each.name.as_bytes().to_vec(),
        handle: 0,
        dormant: false,
        chains: BTreeMap::new(),
        sets: BTreeMap::new(),
    };
    for (start, place) in starts.iter().enumerate() {
        let end = starts.get(start + 1).map_or(block.len(), |next| next.head);
        let inside = entries.range(place.first..end);
        let mut chain = Chain { base: None, handle: 0, rules: Vec::new() };
        for (offset, entry) in inside {
            if place.hook.is_some_and(|hook| info.policy[hook] == *offset) {
                break;
            }
            // The last of a chain of the user's is a return that nobody wrote.
            let last = offset + entry.bytes.len() == end;
            if place.hook.is_none() && last && entry.target.is_empty() {
                break;
            }
            let mut rule = rule(entry, *offset, layout, &starts, ipsets)?;
            rule.handle = chain.rules.len() as u64 + 1;
            xt::bring_sets(&rule.steps, &mut table.sets, ipsets);
            chain.rules.push(rule);
        }
        if let Some(number) = place.hook {
            let (_, hook) = HOOKS[number];
            let policy = entries.get(&info.policy[number])?;
            let drop_policy = match verdict(policy.data)? {
                -1 => true,
                -2 => false,
                _ => return None,
            };
            chain.base = Some(Base {
                hook,
                priority: priority(&table.name, hook)?,
                nat: table.name == b"nat",
                drop_policy,
                devices: Vec::new(),
            });
        }
        table.chains.insert(place.name.clone(), chain);
    }
    Some(table)
}

/// Hands over name and data of every match and target of a table, as far as it can be read.
pub(super) fn each_extension(table: &LegacyTable, take: &mut dyn FnMut(&[u8], &[u8])) {
    let layout = if table.v6 { &V6 } else { &V4 };
    for entry in entries(table.entries.as_bytes(), layout).unwrap_or_default().values() {
        take(entry.target, entry.data);
        let mut rest = entry.matches;
        while let Some((name, _, data, size)) = extension(rest) {
            take(name, data);
            rest = rest.get(size..).unwrap_or_default();
        }
    }
}

struct Entry<'b> {
    bytes: &'b [u8],
    matches: &'b [u8],
    /// Name, revision and data of the target.
    target: &'b [u8],
    revision: u8,
    data: &'b [u8],
}

/// All entries by their offset.
fn entries<'b>(block: &'b [u8], layout: &Layout) -> Option<BTreeMap<usize, Entry<'b>>> {
    let mut found = BTreeMap::new();
    let mut at = 0;
    while at < block.len() {
        let rest = &block[at..];
        let short = |at: usize| Some(usize::from(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?)));
        let (target, next) = (short(layout.offsets)?, short(layout.offsets + 2)?);
        (layout.size <= target && target + EXTENSION <= next).then_some(())?;
        let bytes = rest.get(..next)?;
        let (name, revision, data, length) = extension(&bytes[target..])?;
        (target + length == next).then_some(())?;
        let entry = Entry { bytes, matches: &bytes[layout.size..target], target: name, revision, data };
        found.insert(at, entry);
        at += next;
    }
    Some(found)
}

/// Name, revision, data and whole size.
fn extension(bytes: &[u8]) -> Option<(&[u8], u8, &[u8], usize)> {
    let size = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let data = bytes.get(EXTENSION..size)?;
    Some((text(&bytes[2..31]), bytes[31], data, size))
}

/// Where a chain begins: with `head` (for chains of the user's the entry with the name), its rules
/// with `first`.
struct Start {
    head: usize,
    first: usize,
    name: Vec<u8>,
    hook: Option<usize>,
}

fn starts(entries: &BTreeMap<usize, Entry<'_>>, info: &Info) -> Option<Vec<Start>> {
    let mut found = Vec::new();
    for (number, (name, _)) in HOOKS.iter().enumerate() {
        if info.hooks & 1 << number != 0 {
            let first = info.first[number];
            (entries.contains_key(&first) && first <= info.policy[number]).then_some(())?;
            found.push(Start { head: first, first, name: name.to_vec(), hook: Some(number) });
        }
    }
    for (offset, entry) in entries {
        if entry.target == b"ERROR" {
            let name = text(entry.data).to_vec();
            found.push(Start { head: *offset, first: offset + entry.bytes.len(), name, hook: None });
        }
    }
    found.sort_by_key(|start| start.head);
    Some(found)
}

/// The number in a standard target.
fn verdict(data: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(data.get(..4)?.try_into().ok()?))
}

fn rule(
    entry: &Entry<'_>,
    offset: usize,
    layout: &Layout,
    starts: &[Start],
    ipsets: &Ipsets,
) -> Option<Rule> {
    let context = Context { family: Some(layout.family), ipsets };
    let mut rule = Rule { steps: header(entry.bytes, layout)?, ..Rule::default() };
    let mut rest = entry.matches;
    while !rest.is_empty() {
        let (name, revision, data, size) = extension(rest)?;
        (size > 0).then_some(())?;
        rule.comment = rule.comment.or_else(|| xt::comment(name, data));
        rule.steps.extend(xt::matching(name, revision.into(), data, &context));
        rest = rest.get(size..)?;
    }
    if entry.target.is_empty() {
        let goto = entry.bytes[layout.flags] & layout.goto != 0;
        let verdict = match verdict(entry.data)? {
            -1 => Verdict::Drop,
            -2 => Verdict::Accept,
            -4 => Verdict::Queue,
            // XT_RETURN
            -5 => Verdict::Return,
            place => {
                let place = usize::try_from(place).ok()?;
                if place == offset + entry.bytes.len() {
                    // A rule without a target: the next one is where it leads to.
                    Verdict::Continue
                } else {
                    let chain = starts.iter().find(|start| start.hook.is_none() && start.first == place)?;
                    if goto { Verdict::Goto(chain.name.clone()) } else { Verdict::Jump(chain.name.clone()) }
                }
            }
        };
        rule.steps.push(Step::Verdict(verdict));
    } else {
        rule.steps.extend(xt::target(entry.target, entry.revision.into(), entry.data, &context));
    }
    Some(rule)
}

/// `struct ipt_ip`, `struct ip6t_ip6`: addresses, interfaces, protocol.
fn header(bytes: &[u8], layout: &Layout) -> Option<Vec<Step>> {
    const VIA_IN: u8 = 1;
    const VIA_OUT: u8 = 2;
    const TOS: u8 = 4;
    const SOURCE: u8 = 8;
    const DESTINATION: u8 = 0x10;
    const FRAGMENT: u8 = 0x20;
    const PROTOCOL: u8 = 0x40;
    let width = layout.width;
    let part = |at: usize, length: usize| bytes.get(at..at + length);
    let negated = bytes[layout.inverted];
    let not = |flag: u8| negated & flag != 0;
    let mut steps = Vec::new();
    let (source, destination) = (part(0, width)?, part(width, width)?);
    let (of_source, of_destination) = (part(2 * width, width)?, part(3 * width, width)?);
    steps.extend(network(layout.family, false, source, of_source, not(SOURCE)));
    steps.extend(network(layout.family, true, destination, of_destination, not(DESTINATION)));
    let name = |number: usize| part(layout.interfaces + 16 * number, 16);
    steps.extend(interface(Meta::IifName, name(0)?, name(2)?, not(VIA_IN)));
    steps.extend(interface(Meta::OifName, name(1)?, name(3)?, not(VIA_OUT)));
    let protocol = u16::from_ne_bytes(part(layout.protocol, 2)?.try_into().ok()?);
    let flags = bytes[layout.flags];
    // Of IPv6 a flag says whether the protocol is asked for.
    let asked = protocol != 0 && (layout.family == Family::V4 || flags & 1 != 0);
    if asked {
        let how = if not(PROTOCOL) { Compare::NotEqual } else { Compare::Equal };
        steps.push(Step::Meta { to: 0, key: Meta::L4Proto });
        steps.push(Step::Compare { from: 0, how, value: vec![u8::try_from(protocol).ok()?] });
    }
    match layout.family {
        // Parts of a packet behind its first one.
        Family::V4 if flags & 1 != 0 && !not(FRAGMENT) => steps.push(Step::Unusual),
        Family::V4 => {}
        Family::V6 if flags & 2 != 0 || not(TOS) => steps.push(Step::Maybe("traffic class".into())),
        Family::V6 => {}
    }
    Some(steps)
}
