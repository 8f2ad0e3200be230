//! Whom a rule can concern at all, so that thousands of rules about other ports and addresses leave
//! the packets alone that pass them by.

use super::client::Asked;
use super::condition::{Condition, both, not};
use super::step::{Byte, bytes};
use super::{Walk, member};
use crate::firewall::region::Block;
use crate::firewall::ruleset::{Extension, Step, Table};

/// Which packets a rule looks at closer.
pub(super) enum Concern {
    Nobody,
    These(Box<Block>),
    Anybody,
}

impl Walk<'_> {
    /// What the first conditions of a rule demand together, as far as that is one block; with the first
    /// step that does anything it ends.
    pub(super) fn concern(&self, table: &Table, steps: &[Step], asked: &Asked<'_>) -> Concern {
        let mut registers = [Byte::Unknown; 64];
        let mut sum = Condition::Maybe;
        for step in steps {
            if asked.passed.iter().any(|passed| std::ptr::eq(*passed, step)) {
                continue;
            }
            let condition = match step {
                Step::Nothing | Step::Unusual | Step::Maybe(_) => continue,
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
                | Step::Constant { .. } => self.load(step, &mut registers),
                Step::Compare { from, how, value } => {
                    self.compare(bytes(&registers, *from, value.len()), *how, value)
                }
                Step::Range { from, inverted, first, last } => {
                    let inside = self.interval(bytes(&registers, *from, first.len()), first, last);
                    if *inverted { not(inside) } else { inside }
                }
                Step::Lookup { from, set, inverted: false, to: None } => {
                    let Some(set) = table.sets.get(set) else { break };
                    let key = bytes(&registers, *from, set.length);
                    if set.otherwise.is_some() || member::doubtful(set, key) {
                        continue;
                    }
                    match self.exact(set, key).as_deref().map(|all| &all.0[..]) {
                        Some([]) => Condition::Never,
                        Some([one]) => Condition::Within { may: Box::new(one.clone()), must: None },
                        Some(_) | None => continue,
                    }
                }
                Step::Lookup { inverted: true, to: None, .. } => continue,
                Step::Extension(Extension::AnyPort { source, destination, ports, inverted: false }) => {
                    self.in_ports(ports, *source, *destination)
                }
                Step::Extension(_) => continue,
                Step::Lookup { to: Some(_), .. }
                | Step::Verdict(_)
                | Step::Translate(_)
                | Step::Set { .. }
                | Step::Untrack
                | Step::Unknown(_) => break,
            };
            sum = both(sum, condition);
            if matches!(sum, Condition::Never) {
                return Concern::Nobody;
            }
        }
        match sum {
            Condition::Never => Concern::Nobody,
            Condition::Within { may, .. } => Concern::These(may),
            Condition::Always | Condition::Maybe | Condition::Outside { .. } => Concern::Anybody,
        }
    }
}
