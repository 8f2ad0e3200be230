//! Tables, chains and rules out of the dumps of nfnetlink.

use std::collections::BTreeMap;

use super::expression::{Around, steps};
use super::sets::{NEW_ELEMENTS, NEW_SET, close_intervals, elements, set};
use crate::firewall::netlink::{self, attributes, big_u32, big_u64, fields, messages, text, whole};
use crate::firewall::ranges::Family;
use crate::firewall::read::ipset::Ipsets;
use crate::firewall::read::xt;
use crate::firewall::ruleset::{Base, Chain, Hook, Origin, Rule, Ruleset, Table, TableFamily};
use crate::model::NftablesDump;

pub(super) const NEW_TABLE: u16 = 10 << 8;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const NEW_RULE: u16 = NEW_TABLE | 6;

/// More tables, chains, rules or elements than this are not taken in: no computer has them.
pub(super) const MOST: usize = 4_000_000;

/// Reads a whole ruleset. `None` where something contradicts itself (a rule of a chain that is not
/// there) or is cut: then nothing can be said of any packet.
pub(crate) fn decode(dump: &NftablesDump, ipsets: &Ipsets) -> Option<Ruleset> {
    let blocks = [&dump.tables, &dump.chains, &dump.rules, &dump.sets];
    let sound = blocks.into_iter().chain(&dump.elements).all(|block| whole(block.as_bytes()));
    sound.then_some(())?;
    let mut found = Ruleset::default();
    let mut index = Index::default();
    for (_, body) in messages(dump.tables.as_bytes()).filter(|(kind, _)| *kind == NEW_TABLE) {
        let Some(family) = family(*body.first()?)? else { continue };
        let parts = fields::<8>(body.get(4..)?)?;
        let name = text(parts[1]?).to_vec();
        index.tables.insert((family, name.clone()), found.tables.len());
        found.tables.push(Table {
            family,
            origin: Origin::Nftables,
            name,
            handle: parts[4].and_then(big_u64).unwrap_or(0),
            dormant: parts[2].and_then(big_u32).unwrap_or(0) & 1 != 0,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        });
    }
    index.objects.resize(found.tables.len(), BTreeMap::new());
    for (_, body) in messages(dump.chains.as_bytes()).filter(|(kind, _)| *kind == NEW_CHAIN) {
        let Some((number, attributes)) = index.table_of(body, 1)? else { continue };
        let parts = fields::<13>(attributes)?;
        let table = &mut found.tables[number];
        let base = base(&parts, table.family)?;
        let handle = parts[2].and_then(big_u64).unwrap_or(0);
        table.chains.insert(text(parts[3]?).to_vec(), Chain { base, handle, rules: Vec::new() });
    }
    for (_, body) in messages(dump.sets.as_bytes()).filter(|(kind, _)| *kind == NEW_SET) {
        let Some((number, attributes)) = index.table_of(body, 1)? else { continue };
        let parts = fields::<19>(attributes)?;
        let name = text(parts[2]?).to_vec();
        if let Some(kind) = parts[15].and_then(big_u32) {
            index.objects[number].insert(name.clone(), kind);
        }
        found.tables[number].sets.insert(name, set(&parts)?);
    }
    for answer in &dump.elements {
        for (_, body) in messages(answer.as_bytes()).filter(|(kind, _)| *kind == NEW_ELEMENTS) {
            let Some((number, attributes)) = index.table_of(body, 1)? else { continue };
            elements(&mut found.tables[number].sets, attributes)?;
        }
    }
    for table in &mut found.tables {
        table.sets.values_mut().try_for_each(close_intervals)?;
    }
    for (_, body) in messages(dump.rules.as_bytes()).filter(|(kind, _)| *kind == NEW_RULE) {
        let Some((number, attributes)) = index.table_of(body, 1)? else { continue };
        rule(&mut found.tables[number], &index.objects[number], attributes, ipsets)?;
    }
    found.sum_up();
    Some(found)
}

/// Where tables stand, and what their maps of objects hold.
#[derive(Default)]
struct Index {
    tables: BTreeMap<(TableFamily, Vec<u8>), usize>,
    objects: Vec<BTreeMap<Vec<u8>, u32>>,
}

impl Index {
    /// The number of the table that a message belongs to, and its attributes. `Some(None)` for ARP;
    /// `None` for a table that is not there.
    #[expect(clippy::option_option, reason = "the outer one says that nothing can be told")]
    fn table_of<'b>(&self, body: &'b [u8], name: usize) -> Option<Option<(usize, &'b [u8])>> {
        let Some(family) = family(*body.first()?)? else { return Some(None) };
        let attributes = body.get(4..)?;
        let name = text(fields::<2>(attributes)?[name]?);
        Some(Some((*self.tables.get(&(family, name.to_vec()))?, attributes)))
    }
}

/// `NFPROTO_…`; `Some(None)` for ARP.
#[expect(clippy::option_option, reason = "the outer one says that nothing can be told")]
fn family(number: u8) -> Option<Option<TableFamily>> {
    Some(Some(match number {
        1 => TableFamily::Inet,
        2 => TableFamily::Ip,
        5 => TableFamily::Netdev,
        7 => TableFamily::Bridge,
        10 => TableFamily::Ip6,
        3 => return Some(None),
        _ => return None,
    }))
}

/// `Some(None)` for a chain that hangs on no hook.
#[expect(clippy::option_option, reason = "the outer one says that nothing can be told")]
fn base(parts: &[Option<&[u8]>; 13], family: TableFamily) -> Option<Option<Base>> {
    let Some(nested) = parts[4] else { return Some(None) };
    let place = fields::<5>(nested)?;
    let hook = match (family, place[1].and_then(big_u32)?) {
        (TableFamily::Netdev, 0) | (TableFamily::Inet, 5) => Hook::Ingress,
        (TableFamily::Netdev | TableFamily::Bridge, _) => Hook::Other,
        (_, 0) => Hook::Prerouting,
        (_, 1) => Hook::Input,
        (_, 2) => Hook::Forward,
        (_, 3) => Hook::Output,
        (_, 4) => Hook::Postrouting,
        _ => return None,
    };
    let mut devices: Vec<Vec<u8>> = place[3].map(|name| text(name).to_vec()).into_iter().collect();
    if let Some(list) = place[4] {
        devices.extend(attributes(list).map(|(_, name)| text(name).to_vec()));
    }
    devices.dedup();
    Some(Some(Base {
        hook,
        priority: place[2].and_then(big_u32)?.cast_signed(),
        nat: parts[7].map(text) == Some(b"nat"),
        drop_policy: parts[5].and_then(big_u32) == Some(0),
        devices,
    }))
}

fn rule(
    table: &mut Table,
    objects: &BTreeMap<Vec<u8>, u32>,
    attributes: &[u8],
    ipsets: &Ipsets,
) -> Option<()> {
    let parts = fields::<12>(attributes)?;
    let mut rule = Rule {
        handle: parts[3].and_then(big_u64).unwrap_or(0),
        comment: parts[7].and_then(comment),
        steps: Vec::new(),
    };
    let family = match table.family {
        TableFamily::Ip => Some(Family::V4),
        TableFamily::Ip6 => Some(Family::V6),
        TableFamily::Inet | TableFamily::Netdev | TableFamily::Bridge => None,
    };
    let list = parts[4].unwrap_or_default();
    fields::<0>(list)?;
    {
        let around = Around { sets: &table.sets, objects, extensions: xt::Context { family, ipsets } };
        for (_, expression) in netlink::attributes(list) {
            steps(expression, &around, &mut rule.steps);
            rule.comment = rule.comment.or_else(|| compat_comment(expression));
        }
    }
    xt::bring_sets(&rule.steps, &mut table.sets, ipsets);
    table.chains.get_mut(text(parts[2]?))?.rules.push(rule);
    Some(())
}

/// The text of a match `comment` of iptables-nft.
fn compat_comment(expression: &[u8]) -> Option<Vec<u8>> {
    let [_, Some(name), Some(data)] = fields::<3>(expression)? else { return None };
    let [_, Some(extension), _, Some(info)] = fields::<4>(data)? else { return None };
    (text(name) == b"match").then(|| xt::comment(text(extension), info)).flatten()
}

/// Hands over name and data of every match and target of iptables, as far as they can be read.
pub(crate) fn each_extension(dump: &NftablesDump, take: &mut dyn FnMut(&[u8], &[u8])) {
    for (_, body) in messages(dump.rules.as_bytes()).filter(|(kind, _)| *kind == NEW_RULE) {
        let list = body.get(4..).and_then(fields::<12>).and_then(|parts| parts[4]).unwrap_or_default();
        for (_, expression) in attributes(list) {
            let Some([_, Some(name), Some(data)]) = fields::<3>(expression) else { continue };
            if matches!(text(name), b"match" | b"target")
                && let Some([_, Some(name), _, Some(info)]) = fields::<4>(data)
            {
                take(text(name), info);
            }
        }
    }
}

/// The comment in a rule's user data: types and lengths of one byte (`NFTNL_UDATA_RULE_COMMENT` of
/// libnftnl, 0).
fn comment(mut data: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (kind, length) = (*data.first()?, usize::from(*data.get(1)?));
        let value = data.get(2..2 + length)?;
        if kind == 0 {
            return Some(text(value).to_vec());
        }
        data = data.get(2 + length..)?;
    }
}
