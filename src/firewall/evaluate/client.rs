//! What a rule asks of the port of the one who calls, which he may choose: an ordinary one is taken
//! from Linux's automatic range (ip(7)), and what is asked of others says nothing of ordinary callers.

use super::Walk;
use crate::firewall::ruleset::{Compare, Header, Register, Step, Table, Verdict};
use crate::model::ranges::Ranges;

/// Default of net.ipv4.ip_local_port_range; other systems choose from parts of it.
const AUTOMATIC: (u128, u128) = (32768, 60999);

/// What a rule is to an ordinary caller, as far as the port is concerned.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    /// It is for others.
    pub(super) unusual: bool,
    /// This step lets every ordinary caller pass, and the rule then accepts.
    pub(super) passed: Option<&'a Step>,
}

impl Walk<'_> {
    pub(super) fn asked_of_caller<'s>(&self, table: &Table, steps: &'s [Step]) -> Asked<'s> {
        let mut asked = Asked::default();
        let accepts = matches!(steps.last(), Some(Step::Verdict(Verdict::Accept)));
        let mut held: Option<Register> = None;
        let callers = if self.reply() { 2 } else { 0 };
        for step in steps.iter().filter(|_| self.has_ports()) {
            let ports = match step {
                Step::Payload { to, header: Header::Transport, offset, length: 2 } if *offset == callers => {
                    held = Some(*to);
                    None
                }
                Step::Compare { from, how, value } if held == Some(*from) => compared(*how, value),
                Step::Range { from, inverted, first, last } if held == Some(*from) => {
                    spans(&[(first, last)], *inverted)
                }
                Step::Lookup { from, set, inverted, to: None } if held == Some(*from) => {
                    let set = table.sets.get(set);
                    let plain = |set: &&crate::firewall::ruleset::Set| {
                        set.parts.is_empty()
                            && !set.dynamic
                            && !set.timed
                            && !set.partial
                            && set.otherwise.is_none()
                    };
                    set.filter(plain).and_then(|set| {
                        let list: Vec<_> =
                            set.elements.iter().map(|each| (&each.first, &each.last)).collect();
                        spans(&list, *inverted)
                    })
                }
                Step::Nothing | Step::Compare { .. } | Step::Range { .. } => None,
                // Whatever else there is may write to the register.
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
                | Step::Lookup { .. }
                | Step::Constant { .. }
                | Step::Verdict(_)
                | Step::Translate(_)
                | Step::Set { .. }
                | Step::Untrack
                | Step::Extension(_)
                | Step::Unusual
                | Step::Maybe(_)
                | Step::Unknown(_) => {
                    held = None;
                    None
                }
            };
            let Some(ports) = ports else { continue };
            let ordinary = Ranges::new(vec![AUTOMATIC]);
            asked.unusual |= !ports.meets(&ordinary);
            if accepts && ordinary.minus(&ports).is_empty() {
                asked.passed = Some(step);
            }
        }
        asked
    }
}

fn all() -> Ranges {
    Ranges::new(vec![(0, u16::MAX.into())])
}

fn port(bytes: &[u8]) -> Option<u128> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?).into())
}

fn spans(list: &[(&Vec<u8>, &Vec<u8>)], inverted: bool) -> Option<Ranges> {
    let pairs: Option<Vec<_>> = list.iter().map(|(first, last)| Some((port(first)?, port(last)?))).collect();
    let inside = Ranges::new(pairs?);
    Some(if inverted { all().minus(&inside) } else { inside })
}

fn compared(how: Compare, value: &[u8]) -> Option<Ranges> {
    let value = port(value)?;
    let end = u128::from(u16::MAX);
    Some(match how {
        Compare::Equal => Ranges::new(vec![(value, value)]),
        Compare::NotEqual => all().minus(&Ranges::new(vec![(value, value)])),
        Compare::LessOrEqual => Ranges::new(vec![(0, value)]),
        Compare::GreaterOrEqual => Ranges::new(vec![(value, end)]),
        Compare::Less => all().minus(&Ranges::new(vec![(value, end)])),
        Compare::Greater => all().minus(&Ranges::new(vec![(0, value)])),
    })
}
