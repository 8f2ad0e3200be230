//! One expression of a rule (`<linux/netfilter/nf_tables.h>`, `nft_*_attributes`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::loads::{byteorder, connection, exthdr, fib, loaded, meta, payload};
use crate::firewall::netlink::{big_u32, fields, text};
use crate::firewall::ranges::Family;
use crate::firewall::read::xt;
use crate::firewall::ruleset::{
    Compare, Logic, Register, Set, Step, Target, Translated, Translation, Verdict,
};

/// What the steps of a rule need to know around it.
pub(super) struct Around<'t> {
    pub(super) sets: &'t BTreeMap<Vec<u8>, Set>,
    pub(super) extensions: xt::Context<'t>,
    /// The `NFTA_SET_OBJ_TYPE` of maps of objects.
    pub(super) objects: &'t BTreeMap<Vec<u8>, u32>,
}

/// The attributes of an expression; none has as many.
pub(super) type Data<'b> = [Option<&'b [u8]>; 12];

pub(super) fn number(data: &Data<'_>, wanted: usize) -> Option<u32> {
    data.get(wanted).copied().flatten().and_then(big_u32)
}

/// Reads one expression into steps. Too little of it, or a name that is not known, is
/// `Step::Unknown`.
pub(super) fn steps(expression: &[u8], around: &Around<'_>, found: &mut Vec<Step>) {
    let parts = fields::<3>(expression).unwrap_or_default();
    let name = parts[1].map(text).unwrap_or_default();
    let data = match parts[2] {
        None => Some(Data::default()),
        Some(nested) => fields::<12>(nested),
    };
    let step = data.and_then(|data| match name {
        b"match" => {
            let (what, revision, info) = extension(&data)?;
            found.extend(xt::matching(what, revision, info, &around.extensions));
            Some(Step::Nothing)
        }
        b"target" => {
            let (what, revision, info) = extension(&data)?;
            found.extend(xt::target(what, revision, info, &around.extensions));
            Some(Step::Nothing)
        }
        _ => one(name, &data, around),
    });
    match step {
        Some(Step::Nothing) => {}
        Some(step) => found.push(step),
        None => found.push(Step::Unknown(String::from_utf8_lossy(name).into_owned())),
    }
}

fn extension<'b>(data: &Data<'b>) -> Option<(&'b [u8], u32, &'b [u8])> {
    Some((text(data[1]?), number(data, 2)?, data[3]?))
}

fn one(name: &[u8], data: &Data<'_>, around: &Around<'_>) -> Option<Step> {
    let maybe = |name: &'static str| Some(Step::Maybe(Cow::Borrowed(name)));
    match name {
        b"payload" => payload(data),
        b"meta" => meta(data),
        b"ct" => connection(data),
        b"cmp" => compare(data),
        b"range" => range(data),
        b"bitwise" => bitwise(data),
        b"byteorder" => byteorder(data),
        b"lookup" => lookup(data, around),
        b"immediate" => immediate(data),
        b"fib" => fib(data),
        b"exthdr" => exthdr(data),
        b"numgen" => loaded(data, 1, 4, "numgen"),
        b"hash" => loaded(data, 2, 4, "hash"),
        b"osf" => loaded(data, 1, 16, "osf"),
        b"socket" => loaded(data, 2, 8, "socket"),
        b"rt" => loaded(data, 1, 16, "rt"),
        b"tunnel" => loaded(data, 2, 4, "tunnel"),
        b"xfrm" => loaded(data, 1, 16, "ipsec"),
        // What it loads, and where, stands in an expression inside.
        b"inner" => Some(Step::Load { to: 0, length: 64, what: Cow::Borrowed("inner header") }),
        b"counter" | b"log" | b"last" => Some(Step::Nothing),
        // A copy; the packet goes on.
        b"dup" => Some(Step::Nothing),
        b"reject" => Some(Step::Verdict(Verdict::Drop)),
        b"queue" => Some(Step::Verdict(Verdict::Queue)),
        b"nat" => nat(data),
        b"masq" => translation(Translated::Masquerade, data, number(data, 1), [0, 0, 2, 3]),
        b"redir" => translation(Translated::Redirect, data, number(data, 3), [0, 0, 1, 2]),
        b"tproxy" => tproxy(data),
        b"notrack" => Some(Step::Untrack),
        b"limit" => maybe("limit"),
        b"quota" => maybe("quota"),
        b"connlimit" => maybe("connlimit"),
        // Ends the rule when the set is full, or by a limit of its own.
        b"dynset" => maybe("set update"),
        // Ends the rule for every packet that is not of an established flow. Only such flows are
        // taken past the hooks, and only when both sides were seen: no new one.
        b"flow_offload" => maybe("flow add"),
        b"objref" => object(data, around),
        _ => None,
    }
}

/// Offset of a register in 64 bytes: numbers 1 to 4 are the old ones of 16 bytes, 8 to 23 those of 4
/// (`nft_parse_register`). `None` for the verdict register and for numbers there are not.
fn register(number: u32) -> Option<Register> {
    match number {
        1..=4 => Some((number as usize - 1) * 16),
        8..=23 => Some((number as usize - 8) * 4),
        _ => None,
    }
}

pub(super) fn to(data: &Data<'_>, wanted: usize) -> Option<Register> {
    register(number(data, wanted)?)
}

/// A length in bytes that fits behind a register.
pub(super) fn length(data: &Data<'_>, wanted: usize, register: Register) -> Option<usize> {
    let length = number(data, wanted)? as usize;
    (length > 0 && register + length <= 64).then_some(length)
}

/// The bytes of a nested `NFTA_DATA_VALUE`.
fn value(nested: &[u8]) -> Option<Vec<u8>> {
    let value = fields::<2>(nested)?[1]?;
    (!value.is_empty() && value.len() <= 64).then(|| value.to_vec())
}

/// A nested `NFTA_DATA_VERDICT`.
pub(super) fn verdict(nested: &[u8]) -> Option<Verdict> {
    let parts = fields::<4>(fields::<3>(nested)?[2]?)?;
    let chain = || parts[2].map(|name| text(name).to_vec());
    let code = parts[1].and_then(big_u32)?.cast_signed();
    Some(match code {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        code if code & 0xff == 3 => Verdict::Queue,
        _ => return None,
    })
}

fn compare(data: &Data<'_>) -> Option<Step> {
    let how = match number(data, 2)? {
        0 => Compare::Equal,
        1 => Compare::NotEqual,
        2 => Compare::Less,
        3 => Compare::LessOrEqual,
        4 => Compare::Greater,
        5 => Compare::GreaterOrEqual,
        _ => return None,
    };
    Some(Step::Compare { from: to(data, 1)?, how, value: value(data[3]?)? })
}

fn range(data: &Data<'_>) -> Option<Step> {
    let inverted = match number(data, 2)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (first, last) = (value(data[3]?)?, value(data[4]?)?);
    (first.len() == last.len()).then_some(())?;
    Some(Step::Range { from: to(data, 1)?, inverted, first, last })
}

/// Operations: mask and xor, shifts, and since Linux 6.13 two registers or one and a constant.
fn bitwise(data: &Data<'_>) -> Option<Step> {
    let from = to(data, 1)?;
    let destination = to(data, 2)?;
    let length = length(data, 3, from.max(destination))?;
    let operation = number(data, 6).unwrap_or(0);
    let constant = || data[7].and_then(value).filter(|value| value.len() == length);
    let logic = match operation {
        0 => {
            let (mask, xor) = (value(data[4]?)?, value(data[5]?)?);
            (mask.len() == length && xor.len() == length).then_some(())?;
            return Some(Step::Bitwise { from, to: destination, mask, xor });
        }
        1 | 2 => {
            let bits = u32::from_ne_bytes(value(data[7]?)?.try_into().ok()?);
            (1..32).contains(&bits).then_some(())?;
            return Some(Step::Shift { from, to: destination, length, left: operation == 1, bits });
        }
        3 => Logic::And,
        4 => Logic::Or,
        5 => Logic::Xor,
        _ => return None,
    };
    if data[8].is_some() {
        let other = to(data, 8).filter(|other| other + length <= 64)?;
        return Some(Step::Combine { from, other, to: destination, length, how: logic });
    }
    let constant = constant()?;
    let inverse: Vec<u8> = constant.iter().map(|byte| !byte).collect();
    let (mask, xor) = match logic {
        Logic::And => (constant, vec![0; length]),
        // Bits that are set whatever they were.
        Logic::Or => (inverse, constant),
        Logic::Xor => (vec![0xff; length], constant),
    };
    Some(Step::Bitwise { from, to: destination, mask, xor })
}

fn lookup(data: &Data<'_>, around: &Around<'_>) -> Option<Step> {
    let set = text(data[1]?).to_vec();
    let inverted = number(data, 5).unwrap_or(0) & 1 != 0;
    let target = match number(data, 3) {
        None => None,
        Some(0) => Some(Target::Verdict),
        Some(number) => Some(Target::Register(register(number)?)),
    };
    let from = to(data, 2)?;
    let length = around.sets.get(&set)?.length;
    (from + length <= 64).then_some(Step::Lookup { from, set, inverted, to: target })
}

fn immediate(data: &Data<'_>) -> Option<Step> {
    match number(data, 1)? {
        0 => Some(Step::Verdict(verdict(data[2]?)?)),
        number => {
            let (to, value) = (register(number)?, value(data[2]?)?);
            (to + value.len() <= 64).then_some(Step::Constant { to, value })
        }
    }
}

fn nat(data: &Data<'_>) -> Option<Step> {
    let kind = match number(data, 1)? {
        0 => Translated::Source,
        1 => Translated::Destination,
        _ => return None,
    };
    translation(kind, data, number(data, 7), [3, 4, 5, 6])
}

/// `places`: attributes of the first and last address and the first and last port, 0 for none.
/// Without a last the first stands alone.
fn translation(kind: Translated, data: &Data<'_>, flags: Option<u32>, places: [usize; 4]) -> Option<Step> {
    const OFFSET: u32 = 1 << 5;
    const NETMAP: u32 = 1 << 6;
    let flags = flags.unwrap_or(0);
    (flags & OFFSET == 0).then_some(())?;
    let pair = |first: usize, last: usize| -> Option<Option<(Register, Register)>> {
        if first == 0 || data[first].is_none() {
            return Some(None);
        }
        let low = to(data, first)?;
        let high = if data[last].is_some() { to(data, last)? } else { low };
        Some(Some((low, high)))
    };
    let family = match (kind, number(data, 2)) {
        (Translated::Source | Translated::Destination, family) => Some(family_of(family?)?),
        (Translated::Masquerade | Translated::Redirect | Translated::Proxy | Translated::Network, _) => None,
    };
    Some(Step::Translate(Translation {
        kind,
        family,
        addresses: pair(places[0], places[1])?,
        ports: pair(places[2], places[3])?,
        netmap: flags & NETMAP != 0,
        shift: None,
    }))
}

/// `NFPROTO_…`
fn family_of(number: u32) -> Option<Family> {
    match number {
        2 => Some(Family::V4),
        10 => Some(Family::V6),
        _ => None,
    }
}

fn tproxy(data: &Data<'_>) -> Option<Step> {
    let family = match number(data, 1)? {
        0 => None,
        number => Some(family_of(number)?),
    };
    let one = |wanted: usize| match data[wanted] {
        None => Some(None),
        Some(_) => to(data, wanted).map(|register| Some((register, register))),
    };
    Some(Step::Translate(Translation {
        kind: Translated::Proxy,
        family,
        addresses: one(2)?,
        ports: one(3)?,
        netmap: false,
        shift: None,
    }))
}

/// A named object, or one that a map gives (`NFT_OBJECT_…`).
fn object(data: &Data<'_>, around: &Around<'_>) -> Option<Step> {
    let kind = match number(data, 1) {
        Some(kind) => kind,
        None => *around.objects.get(text(data[4]?))?,
    };
    let benign = match kind {
        // counter, tunnel data, ct helper, timeout and expectation, secmark
        1 | 3 | 6 | 7 | 8 | 9 => Step::Nothing,
        2 => Step::Maybe(Cow::Borrowed("quota")),
        4 => Step::Maybe(Cow::Borrowed("limit")),
        5 => Step::Maybe(Cow::Borrowed("connlimit")),
        // A proxy answers in the listener's place.
        10 => return Some(Step::Unknown("synproxy".to_owned())),
        _ => return None,
    };
    // A key that is not in the map ends the rule.
    let mapped = data[4].is_some();
    Some(if mapped && benign == Step::Nothing { Step::Maybe(Cow::Borrowed("object map")) } else { benign })
}
