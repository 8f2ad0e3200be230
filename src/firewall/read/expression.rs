//! One expression of a rule (`<linux/netfilter/nf_tables.h>`, `nft_*_attributes`).

use super::extension::{matching, target};
use crate::firewall::netlink::{attribute, big_u32, text};
use crate::firewall::ruleset::{Compare, Header, Meta, Register, Step, Target, Verdict};

/// What a rule does beyond its steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Effects {
    pub(crate) untracks: bool,
    pub(crate) marks: bool,
}

/// Reads one expression. Too little of it, or a name that is not known, is `Step::Unknown`.
pub(crate) fn step(expression: &[u8], effects: &mut Effects) -> Step {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let name = attribute(expression, NAME).map(text).unwrap_or_default();
    let data = attribute(expression, DATA).unwrap_or_default();
    let unknown = || Step::Unknown(String::from_utf8_lossy(name).into_owned());
    let number = |wanted| attribute(data, wanted).and_then(big_u32);
    match name {
        b"payload" => payload(data),
        b"meta" => meta(data, effects),
        b"ct" => connection(data),
        b"cmp" => compare(data),
        b"range" => range(data),
        b"bitwise" => bitwise(data),
        b"lookup" => lookup(data),
        b"immediate" => immediate(data),
        b"fib" => fib(data),
        b"counter" | b"log" | b"last" => Some(Step::Nothing),
        b"reject" => Some(Step::Verdict(Verdict::Drop)),
        b"masq" => Some(Step::Verdict(Verdict::Accept)),
        // Source translation only: whatever else a rule does is noticed before.
        b"nat" if number(1) == Some(0) => Some(Step::Verdict(Verdict::Accept)),
        b"queue" => Some(Step::Verdict(Verdict::Queue)),
        b"notrack" => {
            effects.untracks = true;
            Some(Step::Nothing)
        }
        b"limit" | b"quota" | b"connlimit" | b"dynset" | b"flow_offload" => Some(Step::Maybe),
        // Which register they fill is told in different places: after them nothing is known of any.
        b"numgen" | b"hash" | b"osf" | b"socket" | b"rt" | b"tunnel" | b"xfrm" | b"exthdr" | b"byteorder"
        | b"inner" => Some(Step::Load { to: 0, length: 64 }),
        b"objref" => Some(match number(1) {
            // counter, ct helper, ct timeout, secmark
            Some(1 | 3 | 7 | 8) => Step::Nothing,
            // A proxy answers in the listener's place.
            Some(10) => Step::Unknown("synproxy".to_owned()),
            _ => Step::Maybe,
        }),
        b"match" => Some(matching(
            attribute(data, 1).map(text).unwrap_or_default(),
            number(2).unwrap_or(0),
            attribute(data, 3).unwrap_or_default(),
        )),
        b"target" => {
            let name = attribute(data, 1).map(text).unwrap_or_default();
            effects.marks |= matches!(name, b"MARK" | b"CONNMARK");
            // CT can do more, but taking out of tracking is what matters here.
            effects.untracks |= matches!(name, b"CT" | b"NOTRACK");
            Some(target(name))
        }
        _ => None,
    }
    .unwrap_or_else(unknown)
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

fn to(data: &[u8], wanted: u16) -> Option<Register> {
    register(attribute(data, wanted).and_then(big_u32)?)
}

fn payload(data: &[u8]) -> Option<Step> {
    let number = |wanted| attribute(data, wanted).and_then(big_u32);
    if attribute(data, 5).is_some() {
        return None;
    }
    let header = match number(2)? {
        1 => Header::Network,
        2 => Header::Transport,
        _ => Header::Other,
    };
    let length = number(4)? as usize;
    (1..=64).contains(&length).then_some(())?;
    Some(Step::Payload { to: to(data, 1)?, header, offset: number(3)?, length })
}

fn meta(data: &[u8], effects: &mut Effects) -> Option<Step> {
    const MARK: u32 = 3;
    let key = attribute(data, 2).and_then(big_u32)?;
    if attribute(data, 3).is_some() {
        effects.marks |= key == MARK;
        return Some(Step::Nothing);
    }
    let meaning = match key {
        1 => Meta::Protocol,
        MARK => Meta::Mark,
        4 => Meta::Iif,
        5 => Meta::Oif,
        6 => Meta::IifName,
        7 => Meta::OifName,
        15 => Meta::NfProto,
        16 => Meta::L4Proto,
        _ => Meta::Other,
    };
    Some(Step::Meta { to: to(data, 1)?, key: meaning })
}

fn connection(data: &[u8]) -> Option<Step> {
    const STATE: u32 = 0;
    let key = attribute(data, 2).and_then(big_u32)?;
    if attribute(data, 4).is_some() {
        return Some(Step::Nothing);
    }
    let to = to(data, 1)?;
    Some(if key == STATE { Step::CtState { to } } else { Step::Load { to, length: 16 } })
}

/// The bytes of a nested `NFTA_DATA_VALUE`.
fn value(data: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let value = attribute(attribute(data, wanted)?, 1)?;
    (!value.is_empty() && value.len() <= 64).then(|| value.to_vec())
}

/// A nested `NFTA_DATA_VERDICT`.
pub(super) fn verdict(nested: &[u8]) -> Option<Verdict> {
    let verdict = attribute(nested, 2)?;
    let chain = || attribute(verdict, 2).map(|name| text(name).to_vec());
    let code = attribute(verdict, 1).and_then(big_u32)?.cast_signed();
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

fn compare(data: &[u8]) -> Option<Step> {
    let how = match attribute(data, 2).and_then(big_u32)? {
        0 => Compare::Equal,
        1 => Compare::NotEqual,
        2 => Compare::Less,
        3 => Compare::LessOrEqual,
        4 => Compare::Greater,
        5 => Compare::GreaterOrEqual,
        _ => return None,
    };
    Some(Step::Compare { from: to(data, 1)?, how, value: value(data, 3)? })
}

fn range(data: &[u8]) -> Option<Step> {
    let inverted = match attribute(data, 2).and_then(big_u32)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (first, last) = (value(data, 3)?, value(data, 4)?);
    (first.len() == last.len()).then_some(())?;
    Some(Step::Range { from: to(data, 1)?, inverted, first, last })
}

fn bitwise(data: &[u8]) -> Option<Step> {
    let number = |wanted| attribute(data, wanted).and_then(big_u32);
    let destination = to(data, 2)?;
    let length = number(3)? as usize;
    (1..=64).contains(&length).then_some(())?;
    if number(6).unwrap_or(0) != 0 {
        return Some(Step::Load { to: destination, length });
    }
    let (mask, xor) = (value(data, 4)?, value(data, 5)?);
    (mask.len() == length && xor.len() == length).then_some(())?;
    Some(Step::Bitwise { from: to(data, 1)?, to: destination, mask, xor })
}

fn lookup(data: &[u8]) -> Option<Step> {
    let number = |wanted| attribute(data, wanted).and_then(big_u32);
    let set = text(attribute(data, 1)?).to_vec();
    let inverted = number(5).unwrap_or(0) & 1 != 0;
    let target = match number(3) {
        None => None,
        Some(0) => Some(Target::Verdict),
        Some(number) => Some(Target::Register(register(number)?)),
    };
    Some(Step::Lookup { from: to(data, 2)?, set, inverted, to: target })
}

fn immediate(data: &[u8]) -> Option<Step> {
    match attribute(data, 1).and_then(big_u32)? {
        0 => Some(Step::Verdict(verdict(attribute(data, 2)?)?)),
        number => Some(Step::Constant { to: register(number)?, value: value(data, 2)? }),
    }
}

fn fib(data: &[u8]) -> Option<Step> {
    const TYPE: u32 = 3;
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;
    let number = |wanted| attribute(data, wanted).and_then(big_u32);
    let to = to(data, 1)?;
    Some(match (number(2)?, number(3)?) {
        (TYPE, SOURCE) => Step::AddressType { to, destination: false },
        (TYPE, DESTINATION) => Step::AddressType { to, destination: true },
        _ => Step::Load { to, length: 16 },
    })
}
