//! A rule of nftables as `nft -s list ruleset` writes it, from the expressions that the kernel has.
//!
//! The kernel knows registers where nft knows fields, so this goes the way back: what a register
//! holds is remembered, and each comparison becomes a match. `None` where the text is not certain;
//! every way of writing here was compared with nft 1.0.6.

use std::collections::BTreeMap;

use super::kind::{Interfaces, Kind, mask_bits};
use super::left::{Known, Layer, Left, address_type, connection, family_word, field, meta, names_protocol};
use super::statement;
use crate::firewall::netlink::{attribute, attributes, big_u32, text};
use crate::firewall::ruleset::{Set, Table, TableFamily, Value, Verdict};

/// More elements than this of a set without a name are not written out.
const MOST_ELEMENTS: usize = 200;

/// What stands in a register.
#[derive(Clone, Debug)]
enum Held {
    /// Fields that lie side by side, and the bits that are left of them.
    Fields {
        fields: Vec<Left>,
        length: usize,
        mask: Option<Vec<u8>>,
    },
    Constant(Vec<u8>),
}

struct Writer<'a> {
    table: &'a Table,
    interfaces: Interfaces<'a>,
    /// Whether elements of a set have comments, which would be written too.
    annotated: &'a dyn Fn(&[u8]) -> bool,
    known: Known,
    registers: BTreeMap<usize, Held>,
    /// Statements so far; those that turned out to be implied are empty.
    words: Vec<String>,
    /// Statements that a later match on a field of the layer would imply.
    implied: [Option<usize>; 3],
}

/// The text of a rule: `list` is its `NFTA_RULE_EXPRESSIONS`.
pub(super) fn write(
    table: &Table,
    interfaces: Interfaces<'_>,
    annotated: &dyn Fn(&[u8]) -> bool,
    list: &[u8],
) -> Option<String> {
    let mut writer = Writer {
        table,
        interfaces,
        annotated,
        known: Known::of(table.family),
        registers: BTreeMap::new(),
        words: Vec::new(),
        implied: [None; 3],
    };
    let expressions: Vec<(&[u8], &[u8])> = attributes(list)
        .map(|(_, expression)| {
            let name = attribute(expression, 1).map(text).unwrap_or_default();
            (name, attribute(expression, 2).unwrap_or_default())
        })
        .collect();
    let mut rest = expressions.as_slice();
    while let Some(((name, data), others)) = rest.split_first() {
        // Two comparisons make one range.
        let taken = others.first().and_then(|(next, second)| {
            (*name == b"cmp" && *next == b"cmp").then(|| writer.between(data, second)).flatten()
        });
        rest = others;
        match taken {
            Some(()) => rest = &rest[1..],
            None => writer.expression(name, data)?,
        }
    }
    writer.words.retain(|word| !word.is_empty());
    Some(writer.words.join(" "))
}

pub(super) fn number(data: &[u8], wanted: u16) -> Option<u32> {
    attribute(data, wanted).and_then(big_u32)
}

pub(super) fn wide(data: &[u8], wanted: u16) -> Option<u64> {
    Some(u64::from_be_bytes(attribute(data, wanted)?.try_into().ok()?))
}

fn bytes(data: &[u8], wanted: u16) -> Option<&[u8]> {
    attribute(attribute(data, wanted)?, 1)
}

fn place(data: &[u8], wanted: u16) -> Option<usize> {
    register(number(data, wanted)?)
}

/// Offset of a register: numbers 1 to 4 are the old ones of 16 bytes, 8 to 23 those of 4
/// (`nft_parse_register`).
fn register(number: u32) -> Option<usize> {
    match number {
        1..=4 => Some((number as usize - 1) * 16),
        8..=23 => Some((number as usize - 8) * 4),
        _ => None,
    }
}

/// A nested `NFTA_DATA_VERDICT` in words.
fn verdict(nested: &[u8]) -> Option<String> {
    let verdict = attribute(nested, 2)?;
    let chain = || attribute(verdict, 2).map(text).and_then(name_of);
    Some(match number(verdict, 1)?.cast_signed() {
        0 => "drop".to_owned(),
        1 => "accept".to_owned(),
        -1 => "continue".to_owned(),
        -3 => format!("jump {}", chain()?),
        -4 => format!("goto {}", chain()?),
        -5 => "return".to_owned(),
        _ => return None,
    })
}

fn name_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

impl Writer<'_> {
    fn say(&mut self, words: impl Into<String>) {
        self.words.push(words.into());
    }

    /// Something that is no match: behind it nothing before is implied any more.
    fn act(&mut self, words: impl Into<String>) {
        self.say(words);
        self.implied = [None; 3];
    }

    fn expression(&mut self, name: &[u8], data: &[u8]) -> Option<()> {
        match name {
            b"payload" => self.payload(data),
            b"meta" => self.fact(data, "meta", 2, 1, 3, meta),
            b"ct" => self.fact(data, "ct", 2, 1, 4, connection),
            b"fib" => self.fib(data),
            b"bitwise" => self.bitwise(data),
            b"cmp" => self.compare(data),
            b"range" => self.range(data),
            b"lookup" => self.lookup(data),
            b"immediate" => self.immediate(data),
            b"reject" => self.reject(data),
            b"nat" => self.translation(data),
            b"redir" => self.redirect(data),
            _ => {
                self.act(statement::write(name, data)?);
                Some(())
            }
        }
    }

    fn payload(&mut self, data: &[u8]) -> Option<()> {
        attribute(data, 5).is_none().then_some(())?;
        let (base, mut offset, length) = (number(data, 2)?, number(data, 3)?, number(data, 4)? as usize);
        let mut fields = Vec::new();
        let mut left = length;
        while left > 0 {
            let field = field(self.known, base, offset)?;
            offset += u32::try_from(field.width).ok()?;
            left = left.saturating_sub(field.width);
            fields.push(field);
        }
        self.registers.insert(place(data, 1)?, Held::Fields { fields, length, mask: None });
        Some(())
    }

    /// A fact about packet or connection: loaded into a register, or set from one.
    fn fact(
        &mut self,
        data: &[u8],
        word: &str,
        key: u16,
        to: u16,
        from: u16,
        names: fn(u32) -> Option<Left>,
    ) -> Option<()> {
        const MARK: u32 = 3;
        let key = number(data, key)?;
        if let Some(source) = attribute(data, from) {
            let source = register(big_u32(source)?)?;
            let Some(Held::Constant(value)) = self.registers.get(&source) else { return None };
            (key == MARK).then_some(())?;
            let value = Kind::Mark.value(value, self.interfaces)?;
            self.act(format!("{word} mark set {value}"));
            return Some(());
        }
        // NFTA_CT_DIRECTION
        (word != "ct" || attribute(data, 3).is_none()).then_some(())?;
        let left = names(key)?;
        let length = left.width;
        self.registers.insert(place(data, to)?, Held::Fields { fields: vec![left], length, mask: None });
        Some(())
    }

    fn fib(&mut self, data: &[u8]) -> Option<()> {
        (number(data, 2)? == 3).then_some(())?;
        let left = address_type(number(data, 3)?)?;
        self.registers.insert(place(data, 1)?, Held::Fields { fields: vec![left], length: 4, mask: None });
        Some(())
    }

    fn bitwise(&mut self, data: &[u8]) -> Option<()> {
        (number(data, 6).unwrap_or(0) == 0).then_some(())?;
        let (taken, xor) = (bytes(data, 4)?, bytes(data, 5)?);
        xor.iter().all(|byte| *byte == 0).then_some(())?;
        let Held::Fields { fields, length, mask: None } = self.registers.get(&place(data, 1)?)?.clone()
        else {
            return None;
        };
        (fields.len() == 1 && taken.len() == length).then_some(())?;
        let held = Held::Fields { fields, length, mask: Some(taken.to_vec()) };
        self.registers.insert(place(data, 2)?, held);
        Some(())
    }

    /// A match on these fields makes what they imply superfluous.
    fn used(&mut self, left: &Left) {
        let Some(layer) = left.layer else { return };
        if let Some(at) = self.implied[layer as usize].take() {
            self.words[at].clear();
        }
        if left.icmp
            && let Some(at) = self.implied[Layer::Network as usize].take()
        {
            self.words[at].clear();
        }
    }

    /// Equality with a protocol: later fields are of that protocol.
    fn learned(&mut self, left: &Left, value: &[u8]) {
        let Some((layer, number)) = names_protocol(left, value) else { return };
        match layer {
            Layer::Network => self.known.network = Some(number),
            Layer::Transport => self.known.transport = Some(number),
            Layer::Link => {}
        }
        let payload = left.layer.is_some();
        let both = matches!(self.table.family, TableFamily::Inet | TableFamily::Netdev | TableFamily::Bridge);
        if !payload || !both {
            self.implied[layer as usize] = Some(self.words.len() - 1);
        }
    }

    fn compare(&mut self, data: &[u8]) -> Option<()> {
        let (how, value) = (number(data, 2)?, bytes(data, 3)?);
        let Held::Fields { fields, length, mask } = self.registers.get(&place(data, 1)?)?.clone() else {
            return None;
        };
        if let [left] = fields.as_slice() {
            let right = self.right(left, length, mask.as_deref(), how, value)?;
            self.used(left);
            self.say(format!("{} {right}", left.name));
            if how == 0 && mask.is_none() {
                self.learned(left, value);
            }
            return Some(());
        }
        (how == 0 && mask.is_none() && value.len() == length).then_some(())?;
        let mut rest = value;
        for left in &fields {
            let (mine, others) = rest.split_at_checked(left.width)?;
            rest = others;
            self.used(left);
            self.say(format!("{} {}", left.name, left.kind.value(mine, self.interfaces)?));
        }
        Some(())
    }

    /// Operator and value.
    fn right(
        &self,
        left: &Left,
        length: usize,
        mask: Option<&[u8]>,
        how: u32,
        value: &[u8],
    ) -> Option<String> {
        let sign = ["", "!= ", "< ", "<= ", "> ", ">= "].get(how as usize)?;
        let kind = left.kind;
        let plain = || kind.value(value, self.interfaces);
        if kind == Kind::Name && mask.is_none() && how < 2 {
            return Some(format!("{sign}{}", plain()?));
        }
        if length < left.width {
            // The first bytes of an address.
            let mut whole = value.to_vec();
            whole.resize(left.width, 0);
            (kind.has_prefixes() && how < 2 && mask.is_none() && value.len() == length).then_some(())?;
            return Some(format!("{sign}{}/{}", kind.value(&whole, self.interfaces)?, 8 * length));
        }
        (value.len() == left.width).then_some(())?;
        let Some(mask) = mask else {
            // Several bits are words with a bar between, and after equality that is not certain.
            if kind.flags().is_some() && kind != Kind::TcpFlags && kind.number(value)?.count_ones() > 1 {
                return (how == 1).then(|| Some(format!("{sign}{}", plain()?.replace(',', " | "))))?;
            }
            if kind == Kind::TcpFlags {
                return (how < 2)
                    .then(|| Some(format!("{}{}", if how == 0 { "== " } else { sign }, plain()?)))?;
            }
            return Some(format!("{sign}{}", plain()?));
        };
        if kind.flags().is_some() {
            let (bits, wanted) = (kind.number(mask)?, kind.number(value)?);
            let words = kind.words(bits)?;
            return match (how, wanted) {
                (1, 0) => Some(words),
                (0 | 1, wanted) if kind == Kind::TcpFlags && wanted != 0 && words.contains(',') => {
                    Some(format!("{sign}{} / {words}", kind.words(wanted)?))
                }
                (1, wanted) if kind == Kind::TcpFlags && wanted == bits => {
                    Some(format!("& {words} != {words}"))
                }
                _ => None,
            };
        }
        let wanted = plain()?;
        match (kind.has_prefixes(), mask_bits(mask)) {
            (true, Some(length)) if how < 2 => Some(format!("{sign}{wanted}/{length}")),
            (false, _) if kind == Kind::Mark => {
                let sign = ["== ", "!= "].get(how as usize)?;
                Some(format!("& {} {sign}{wanted}", kind.value(mask, self.interfaces)?))
            }
            _ => None,
        }
    }

    /// `>=` and `<=` of one register, one after the other.
    fn between(&mut self, first: &[u8], last: &[u8]) -> Option<()> {
        let same = number(first, 1)? == number(last, 1)? && number(first, 2)? == 5 && number(last, 2)? == 3;
        same.then_some(())?;
        self.span(place(first, 1)?, false, bytes(first, 3)?, bytes(last, 3)?)
    }

    fn range(&mut self, data: &[u8]) -> Option<()> {
        self.span(place(data, 1)?, number(data, 2)? == 1, bytes(data, 3)?, bytes(data, 4)?)
    }

    fn span(&mut self, from: usize, inverted: bool, first: &[u8], last: &[u8]) -> Option<()> {
        let Held::Fields { fields, length, mask: None } = self.registers.get(&from)?.clone() else {
            return None;
        };
        let [left] = fields.as_slice() else { return None };
        let network_order = !left.kind.host_order() && length == left.width && first.len() == length;
        (network_order && matches!(left.kind, Kind::Ipv4 | Kind::Ipv6 | Kind::Number)).then_some(())?;
        let (first, last) =
            (left.kind.value(first, self.interfaces)?, left.kind.value(last, self.interfaces)?);
        self.used(left);
        self.say(format!("{} {}{first}-{last}", left.name, if inverted { "!= " } else { "" }));
        Some(())
    }

    fn lookup(&mut self, data: &[u8]) -> Option<()> {
        let (name, from) = (text(attribute(data, 1)?), place(data, 2)?);
        let inverted = number(data, 5).unwrap_or(0) & 1 != 0;
        // Only maps to verdicts.
        let map = match number(data, 3) {
            None => false,
            Some(0) => true,
            Some(_) => return None,
        };
        let set = self.table.sets.get(name)?;
        let key = self.key(set, from)?;
        let anonymous = name.starts_with(b"__set") || name.starts_with(b"__map");
        (!anonymous || !(self.annotated)(name)).then_some(())?;
        let right = if anonymous { self.elements(set, &key, map)? } else { format!("@{}", name_of(name)?) };
        for left in &key {
            self.used(left);
        }
        let names = key.iter().map(|left| left.name.as_str()).collect::<Vec<_>>().join(" . ");
        let sign = if map {
            "vmap "
        } else if inverted {
            "!= "
        } else {
            ""
        };
        self.say(format!("{names} {sign}{right}"));
        Some(())
    }

    /// The fields that make the key of a set, from their registers.
    fn key(&self, set: &Set, from: usize) -> Option<Vec<Left>> {
        let mut found = Vec::new();
        let mut at = from;
        while at < from + set.length.max(1) {
            let Held::Fields { fields, length, mask: None } = self.registers.get(&at)? else { return None };
            for left in fields {
                found.push(left.clone());
            }
            (fields.len() == 1 && *length == fields[0].width).then_some(())?;
            at += length.next_multiple_of(4);
        }
        (set.parts.is_empty() || found.len() == set.parts.len()).then_some(found)
    }

    fn elements(&self, set: &Set, key: &[Left], map: bool) -> Option<String> {
        let plain = !set.partial && !set.dynamic && set.otherwise.is_none();
        (plain && !set.elements.is_empty() && set.elements.len() <= MOST_ELEMENTS).then_some(())?;
        let mut elements: Vec<_> = set.elements.iter().collect();
        if !set.intervals {
            elements.sort_by_cached_key(|element| order(&element.first, key));
        }
        let each = elements.iter().map(|element| {
            let mut parts = Vec::new();
            let mut at = 0;
            for left in key {
                let (first, last) =
                    (element.first.get(at..at + left.width)?, element.last.get(at..at + left.width)?);
                parts.push(left.kind.range(first, last, self.interfaces)?);
                at += left.width.next_multiple_of(4);
            }
            let key = parts.join(" . ");
            Some(match &element.value {
                Value::Verdict(verdict) if map => format!("{key} : {}", decision(verdict)?),
                Value::Nothing if !map => key,
                Value::Nothing | Value::Verdict(_) | Value::Data(_) => return None,
            })
        });
        Some(format!("{{ {} }}", each.collect::<Option<Vec<_>>>()?.join(", ")))
    }

    fn immediate(&mut self, data: &[u8]) -> Option<()> {
        match number(data, 1)? {
            0 => {
                let words = verdict(attribute(data, 2)?)?;
                self.say(words);
            }
            other => {
                let held = Held::Constant(bytes(data, 2)?.to_vec());
                self.registers.insert(register(other)?, held);
            }
        }
        Some(())
    }

    fn reject(&mut self, data: &[u8]) -> Option<()> {
        let code = attribute(data, 2).and_then(|code| code.first()).copied().unwrap_or(0);
        let network = self.implied[Layer::Network as usize];
        let family = self.known.network;
        let words = match (number(data, 1)?, family) {
            (1, _) => "reject with tcp reset".to_owned(),
            (2, _) => match code {
                0 => "reject with icmpx no-route".to_owned(),
                1 => "reject".to_owned(),
                2 => "reject with icmpx host-unreachable".to_owned(),
                3 => "reject with icmpx admin-prohibited".to_owned(),
                _ => return None,
            },
            (0, Some(2)) => {
                let codes = [
                    (0, "net-unreachable"),
                    (1, "host-unreachable"),
                    (2, "prot-unreachable"),
                    (3, "port-unreachable"),
                    (9, "net-prohibited"),
                    (10, "host-prohibited"),
                    (13, "admin-prohibited"),
                ];
                let word = codes.iter().find(|(known, _)| *known == code)?.1;
                if code == 3 && self.table.family == TableFamily::Ip {
                    "reject".to_owned()
                } else {
                    format!("reject with icmp {word}")
                }
            }
            (0, Some(10)) => {
                let codes = [
                    (0, "no-route"),
                    (1, "admin-prohibited"),
                    (3, "addr-unreachable"),
                    (4, "port-unreachable"),
                    (5, "policy-fail"),
                    (6, "reject-route"),
                ];
                let word = codes.iter().find(|(known, _)| *known == code)?.1;
                if code == 4 && self.table.family == TableFamily::Ip6 {
                    "reject".to_owned()
                } else {
                    format!("reject with icmpv6 {word}")
                }
            }
            _ => return None,
        };
        let one_version = matches!(self.table.family, TableFamily::Ip | TableFamily::Ip6);
        match (number(data, 1)?, network, self.implied[Layer::Transport as usize]) {
            (0, Some(at), _) => self.words[at].clear(),
            (1, _, Some(at)) if one_version => self.words[at].clear(),
            _ => {}
        }
        self.say(words);
        Some(())
    }

    fn constant(&self, data: &[u8], wanted: u16) -> Option<&[u8]> {
        match self.registers.get(&place(data, wanted)?)? {
            Held::Constant(value) => Some(value),
            Held::Fields { .. } => None,
        }
    }

    /// `nft_nat`: to one address, one port, or both; no ranges, no flags.
    fn translation(&mut self, data: &[u8]) -> Option<()> {
        let word = match number(data, 1)? {
            0 => "snat",
            1 => "dnat",
            _ => return None,
        };
        let family = u8::try_from(number(data, 2)?).ok()?;
        let one = |low: u16, high: u16| {
            attribute(data, high).is_none() || attribute(data, high) == attribute(data, low)
        };
        let odd = number(data, 7).unwrap_or(0) & !3 != 0;
        (one(3, 4) && one(5, 6) && !odd).then_some(())?;
        let port = match attribute(data, 5) {
            Some(_) => format!(":{}", Kind::Number.value(self.constant(data, 5)?, &[])?),
            None => String::new(),
        };
        let address = match (attribute(data, 3), family) {
            (None, _) => String::new(),
            (Some(_), 2) => Kind::Ipv4.value(self.constant(data, 3)?, &[])?,
            (Some(_), 10) => {
                let address = Kind::Ipv6.value(self.constant(data, 3)?, &[])?;
                if port.is_empty() { address } else { format!("[{address}]") }
            }
            (Some(_), _) => return None,
        };
        let kind = if address.is_empty() { "" } else { family_word(self.table.family, family) };
        self.say(format!("{word} {kind}to {address}{port}"));
        Some(())
    }

    fn redirect(&mut self, data: &[u8]) -> Option<()> {
        let one = attribute(data, 2).is_none() || attribute(data, 2) == attribute(data, 1);
        (one && number(data, 3).unwrap_or(0) & !2 == 0).then_some(())?;
        let to = match attribute(data, 1) {
            Some(_) => format!(" to :{}", Kind::Number.value(self.constant(data, 1)?, &[])?),
            None => String::new(),
        };
        self.say(format!("redirect{to}"));
        Some(())
    }
}

/// Elements of sets that are no intervals stand in the order of their keys as numbers, each part in
/// its own byte order.
fn order(key: &[u8], parts: &[Left]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(key.len());
    let mut at = 0;
    for left in parts {
        packed.extend_from_slice(key.get(at..at + left.width).unwrap_or_default());
        at += left.width.next_multiple_of(4);
    }
    let little = cfg!(target_endian = "little");
    if little && (parts.len() > 1 || parts.first().is_some_and(|left| left.kind.host_order())) {
        packed.reverse();
    }
    packed
}

fn decision(verdict: &Verdict) -> Option<String> {
    Some(match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {}", name_of(chain)?),
        Verdict::Goto(chain) => format!("goto {}", name_of(chain)?),
        Verdict::Queue => return None,
    })
}
