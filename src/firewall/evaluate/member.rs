//! Sets and maps: which packets have their key in one, and what a map makes of them.

use super::condition::{Condition, both, padded, split};
use super::step::Byte;
use super::{Fate, MOST_BLOCKS, Walk};
use crate::firewall::ranges::Ranges;
use crate::firewall::region::Region;
use crate::firewall::ruleset::{Set, Table, Value};

impl<'a> Walk<'a> {
    /// Which packets have their key in a set.
    pub(super) fn member(&self, set: &Set, key: &[Byte], here: Region) -> (Region, Region) {
        if set.dynamic || set.partial {
            return (here.clone(), here);
        }
        if set.otherwise.is_some() {
            return (here, Region::default());
        }
        let (mut hit, mut rest) = (Region::default(), here);
        // A set of plain ranges of one side is one condition, however large.
        if let Some(condition) = self.plain(set, key) {
            return split(rest, &condition, false);
        }
        for element in &set.elements {
            if rest.is_empty() || hit.0.len() > MOST_BLOCKS {
                break;
            }
            let (inside, outside) =
                split(rest, &self.element(set, key, &element.first, &element.last), false);
            hit.add(inside);
            rest = outside;
        }
        (hit, rest)
    }

    pub(super) fn plain(&self, set: &Set, key: &[Byte]) -> Option<Condition> {
        let Some(Byte::Part(side, 0, 0xff)) = key.first().copied() else { return None };
        let whole = (0_u8..).zip(key).all(|(index, byte)| *byte == Byte::Part(side, index, 0xff));
        let width = self.width(side);
        if !whole || key.len() != width || !set.parts.is_empty() {
            return None;
        }
        let spans = set
            .elements
            .iter()
            .map(|element| (padded(&element.first, width, 0), padded(&element.last, width, 0xff)));
        Some(self.within(side, Ranges::new(spans.collect()), true))
    }

    pub(super) fn element(&self, set: &Set, key: &[Byte], first: &[u8], last: &[u8]) -> Condition {
        if set.parts.is_empty() {
            return self.interval(key, first, last);
        }
        let mut condition = Condition::Always;
        let mut at = 0;
        for part in &set.parts {
            let end = at + part;
            let (Some(key), Some(first), Some(last)) =
                (key.get(at..end), first.get(at..end), last.get(at..end))
            else {
                return Condition::Maybe;
            };
            condition = both(condition, self.interval(key, first, last));
            at = end.next_multiple_of(4);
        }
        condition
    }

    #[expect(clippy::too_many_arguments, reason = "the state of a rule on its way")]
    pub(super) fn verdict_map(
        &mut self,
        table: &'a Table,
        set: &'a Set,
        key: &[Byte],
        here: Region,
        fate: &mut Fate,
        returned: &mut Region,
        depth: usize,
    ) -> Region {
        if set.dynamic || set.partial {
            self.decided(true, &here);
            self.decided(false, &here);
            fate.accepted.add(here.clone());
            fate.dropped.add(here.clone());
            fate.rest.add(here.clone());
            returned.add(here);
            // Its chains may do anything, but nothing else than these.
            return Region::default();
        }
        let mut rest = here;
        let mut onward = Region::default();
        for element in &set.elements {
            if rest.is_empty() || self.lost {
                break;
            }
            let (inside, outside) =
                split(rest, &self.element(set, key, &element.first, &element.last), false);
            rest = outside;
            match &element.value {
                Value::Verdict(verdict) if !inside.is_empty() => {
                    onward.add(self.verdict(table, verdict, inside, fate, returned, depth));
                }
                Value::Verdict(_) => {}
                Value::Nothing | Value::Data(_) => self.lost = true,
            }
        }
        match &set.otherwise {
            Some(Value::Verdict(verdict)) => {
                onward.add(self.verdict(table, verdict, rest, fate, returned, depth))
            }
            Some(Value::Nothing | Value::Data(_)) => self.lost = true,
            None => fate.rest.add(rest),
        }
        onward
    }
}
