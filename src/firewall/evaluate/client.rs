//! What a rule asks of things that the one who calls may choose: his port, how far his packets may go,
//! how long they are. Ordinary packets are meant everywhere; what a rule asks of others says nothing of
//! them, and whom it accepts of those is left in doubt.

use super::Walk;
use crate::firewall::ruleset::{Compare, Extension, Header, Register, Step, Table, Target, Verdict};
use crate::model::ranges::{Family, Ranges};

/// Default of net.ipv4.ip_local_port_range, from which ports are chosen (ip(7)); other systems choose
/// from parts of it.
pub(super) const AUTOMATIC: (u128, u128) = (32768, 60999);
/// Hops that are left on arrival: what starts with one is meant for the next router.
const HOPS: (u128, u128) = (2, 255);
/// Flags and offset of a packet that is no fragment: it may be forbidden to make fragments of it, or
/// not (RFC 791 section 3.1).
const WHOLE: [u128; 2] = [0, 0x4000];

/// What a rule is to an ordinary caller.
#[derive(Clone, Default)]
pub(super) struct Asked<'a> {
    /// It is for others.
    pub(super) unusual: bool,
    /// These steps let every ordinary packet pass, and the rule then accepts.
    pub(super) passed: Vec<&'a Step>,
    /// It drops what comes to its end.
    pub(super) drops: bool,
    /// It has some consequence.
    pub(super) decides: bool,
}

/// What stands in a register, as a number of so many bytes: the values that ordinary packets have.
struct Held {
    from: Register,
    width: usize,
    ordinary: Ranges,
}

impl Walk<'_> {
    pub(super) fn asked_of_caller<'s>(&self, table: &Table, steps: &'s [Step]) -> Asked<'s> {
        let last = steps.last();
        let mut asked = Asked {
            drops: matches!(last, Some(Step::Verdict(Verdict::Drop))),
            decides: steps.iter().any(consequence),
            ..Asked::default()
        };
        let accepts = matches!(last, Some(Step::Verdict(Verdict::Accept)));
        let mut held: Option<Held> = None;
        for step in steps {
            let mine = |from: &Register, width: usize| {
                held.as_ref().filter(|held| held.from == *from && held.width == width)
            };
            let told = match step {
                Step::Payload { .. } => {
                    held = self.ordinary(step);
                    None
                }
                Step::Bitwise { from, to, mask, xor } if mine(from, mask.len()).is_some() => {
                    held = held.and_then(|held| masked(&held, *to, mask, xor));
                    None
                }
                Step::Compare { from, how, value } => {
                    let held = mine(from, value.len());
                    held.and_then(|held| Some((held.ordinary.clone(), compared(*how, value)?)))
                }
                Step::Range { from, inverted, first, last } => mine(from, first.len())
                    .and_then(|held| Some((held.ordinary.clone(), spans(&[(first, last)], *inverted)?))),
                Step::Lookup { from, set, inverted, to: None } => {
                    let set = table.sets.get(set);
                    let plain = |set: &&crate::firewall::ruleset::Set| {
                        set.parts.is_empty()
                            && !set.dynamic
                            && !set.timed
                            && !set.partial
                            && set.otherwise.is_none()
                    };
                    set.filter(plain).and_then(|set| {
                        let held = mine(from, set.length)?;
                        let list: Vec<_> =
                            set.elements.iter().map(|each| (&each.first, &each.last)).collect();
                        Some((held.ordinary.clone(), spans(&list, *inverted)?))
                    })
                }
                Step::Extension(Extension::AnyPort { source, destination, ports, inverted })
                    if self.has_ports() && *source != *destination && *source != self.reply() =>
                {
                    let list = ports.iter().map(|(first, last)| ((*first).into(), (*last).into()));
                    let list = Ranges::new(list.collect());
                    let all = Ranges::new(vec![(0, u16::MAX.into())]);
                    let list = if *inverted { all.minus(&list) } else { list };
                    Some((Ranges::new(vec![AUTOMATIC]), list))
                }
                Step::Nothing | Step::Verdict(_) | Step::Extension(_) | Step::Untrack => None,
                // Whatever else there is may write to the register.
                Step::Meta { .. }
                | Step::CtState { .. }
                | Step::AddressType { .. }
                | Step::Route { .. }
                | Step::Connection { .. }
                | Step::Load { .. }
                | Step::Bitwise { .. }
                | Step::Shift { .. }
                | Step::Combine { .. }
                | Step::Swap { .. }
                | Step::Lookup { .. }
                | Step::Constant { .. }
                | Step::Translate(_)
                | Step::Set { .. }
                | Step::Unusual
                | Step::Maybe(_)
                | Step::Unknown(_) => {
                    held = None;
                    None
                }
            };
            let Some((ordinary, wanted)) = told else { continue };
            asked.unusual |= !wanted.meets(&ordinary);
            if accepts && ordinary.minus(&wanted).is_empty() {
                asked.passed.push(step);
            }
        }
        asked
    }

    /// What the caller may choose, and what he ordinarily does.
    fn ordinary(&self, step: &Step) -> Option<Held> {
        let Step::Payload { to, header, offset, length } = step else { return None };
        let callers = if self.reply() { 2 } else { 0 };
        let one = |range| Ranges::new(vec![range]);
        let family = self.question.family;
        let ordinary = match (header, family, *offset, *length) {
            (Header::Transport, _, offset, 2) if offset == callers && self.has_ports() => one(AUTOMATIC),
            (Header::Network, Family::V4, 8, 1) | (Header::Network, Family::V6, 7, 1) => one(HOPS),
            (Header::Network, Family::V4, 6, 2) => Ranges::new(WHOLE.map(|one| (one, one)).to_vec()),
            (Header::Network, Family::V4, 2, 2) => one(self.lengths(20)?),
            (Header::Network, Family::V6, 4, 2) => one(self.lengths(0)?),
            (Header::Network | Header::Transport | Header::Other, ..) => return None,
        };
        Some(Held { from: *to, width: *length, ordinary })
    }

    /// How long ordinary packets are, with a network header of so many bytes: the three of a
    /// handshake, and any datagram that an Ethernet carries.
    fn lengths(&self, header: u128) -> Option<(u128, u128)> {
        match self.question.protocol? {
            6 => Some((header + 20, header + 60)),
            17 | 136 => Some((header + 8, if header == 0 { 1460 } else { 1500 })),
            _ => None,
        }
    }
}

/// Whether a step can change what becomes of a packet.
fn consequence(step: &Step) -> bool {
    match step {
        Step::Verdict(verdict) => *verdict != Verdict::Continue,
        Step::Translate(_)
        | Step::Set { .. }
        | Step::Untrack
        | Step::Unknown(_)
        | Step::Lookup { to: Some(Target::Verdict), .. } => true,
        Step::Payload { .. }
        | Step::Meta { .. }
        | Step::CtState { .. }
        | Step::AddressType { .. }
        | Step::Route { .. }
        | Step::Connection { .. }
        | Step::Load { .. }
        | Step::Bitwise { .. }
        | Step::Shift { .. }
        | Step::Combine { .. }
        | Step::Swap { .. }
        | Step::Compare { .. }
        | Step::Range { .. }
        | Step::Lookup { .. }
        | Step::Constant { .. }
        | Step::Extension(_)
        | Step::Unusual
        | Step::Maybe(_)
        | Step::Nothing => false,
    }
}

fn masked(held: &Held, to: Register, mask: &[u8], xor: &[u8]) -> Option<Held> {
    let (mask, xor) = (number(mask)?, number(xor)?);
    let one = |value: u128| (value, value);
    let values = match held.ordinary.only() {
        Some(value) => vec![value],
        None if held.ordinary == Ranges::new(WHOLE.map(one).to_vec()) => WHOLE.to_vec(),
        None => return None,
    };
    let made = values.into_iter().map(|value| one(value & mask ^ xor));
    Some(Held { from: to, width: held.width, ordinary: Ranges::new(made.collect()) })
}

fn number(bytes: &[u8]) -> Option<u128> {
    (bytes.len() <= 2).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

fn all(width: usize) -> Ranges {
    Ranges::new(vec![(0, if width == 1 { u8::MAX.into() } else { u16::MAX.into() })])
}

fn spans(list: &[(&Vec<u8>, &Vec<u8>)], inverted: bool) -> Option<Ranges> {
    let width = list.first().map_or(2, |(first, _)| first.len());
    let pairs: Option<Vec<_>> =
        list.iter().map(|(first, last)| Some((number(first)?, number(last)?))).collect();
    let inside = Ranges::new(pairs?);
    Some(if inverted { all(width).minus(&inside) } else { inside })
}

fn compared(how: Compare, bytes: &[u8]) -> Option<Ranges> {
    let value = number(bytes)?;
    let all = all(bytes.len());
    let upto = |last: u128| Ranges::new(vec![(0, last)]);
    let one = Ranges::new(vec![(value, value)]);
    Some(match how {
        Compare::Equal => one,
        Compare::NotEqual => all.minus(&one),
        Compare::LessOrEqual => upto(value),
        Compare::GreaterOrEqual => all.minus(&upto(value)).union(&one),
        Compare::Less => upto(value).minus(&one),
        Compare::Greater => all.minus(&upto(value)),
    })
}
