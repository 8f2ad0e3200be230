//! Sets and maps: which packets have their key in one, and what a map makes of them.

use std::rc::Rc;

use super::condition::{Condition, both, padded, split};
use super::step::Byte;
use super::{Fate, MOST_BLOCKS, Walk};
use crate::firewall::region::Region;
use crate::firewall::ruleset::{Set, Table, Value};
use crate::model::ranges::Ranges;

/// Whether nobody can tell of some packets if a set holds their key.
pub(super) fn doubtful(set: &Set, key: &[Byte]) -> bool {
    let untold = |byte: &Byte| match byte {
        Byte::Known(_) | Byte::Part(..) | Byte::Kind(..) | Byte::Back(_) => false,
        Byte::Header(_) | Byte::Bits(..) | Byte::Frame | Byte::Unknown => true,
    };
    set.dynamic || set.partial || key.iter().any(untold)
}

impl<'a> Walk<'a> {
    /// Which packets have their key in a set.
    pub(super) fn member(&mut self, set: &Set, key: &[Byte], here: Region) -> (Region, Region) {
        if set.partial {
            return (here.clone(), here);
        }
        if set.otherwise.is_some() {
            return (here, Region::default());
        }
        if set.dynamic {
            // What is in it now is; the packet itself may have put in the rest.
            let (_, outside) = self.held(set, key, here.clone());
            return (here, outside);
        }
        self.held(set, key, here)
    }

    /// Which packets have their key among the elements.
    fn held(&mut self, set: &Set, key: &[Byte], here: Region) -> (Region, Region) {
        let (mut hit, mut rest) = (Region::default(), here);
        if let Some(all) = self.exact(set, key) {
            for block in &all.0 {
                self.lost |= hit.0.len() + rest.0.len() > MOST_BLOCKS;
                if rest.is_empty() || self.lost {
                    break;
                }
                hit.add(rest.and(block));
                rest = rest.minus_block(block);
            }
            return (hit, rest);
        }
        for element in &set.elements {
            self.lost |= hit.0.len() + rest.0.len() > MOST_BLOCKS;
            if rest.is_empty() || self.lost {
                break;
            }
            let (inside, outside) =
                split(rest, &self.element(set, key, &element.first, &element.last), false);
            hit.add(inside);
            rest = outside;
        }
        (hit, rest)
    }

    /// The packets whose key is in a set, where that is known of all. A set may have 100,000 elements
    /// and be asked in many rules: it is made into blocks once.
    pub(super) fn exact(&self, set: &Set, key: &[Byte]) -> Option<Rc<Region>> {
        // All else hangs on where the packets stand.
        if !key.iter().all(|byte| matches!(byte, Byte::Known(_) | Byte::Part(..))) {
            return None;
        }
        let place = (std::ptr::from_ref(set), self.question.family, key.to_vec());
        let known = self.known_sets.borrow().get(&place).cloned();
        known.unwrap_or_else(|| {
            let made = self.plain(set, key).or_else(|| self.joined(set, key)).map(Rc::new);
            self.known_sets.borrow_mut().insert(place, made.clone());
            made
        })
    }

    /// Elements that differ in one part only are one block.
    fn joined(&self, set: &Set, key: &[Byte]) -> Option<Region> {
        let mut blocks = Vec::with_capacity(set.elements.len());
        for element in &set.elements {
            match self.element(set, key, &element.first, &element.last) {
                Condition::Never => {}
                Condition::Within { may, must } if must.as_ref() == Some(&may) => blocks.push(*may),
                Condition::Within { .. }
                | Condition::Outside { .. }
                | Condition::Always
                | Condition::Maybe => {
                    return None;
                }
            }
        }
        Some(Region(blocks).gathered())
    }

    /// A set of plain ranges of one side is one block, however large.
    fn plain(&self, set: &Set, key: &[Byte]) -> Option<Region> {
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
        Some(match Ranges::new(spans.collect()) {
            none if none.is_empty() => Region::default(),
            some => Region(vec![self.block(side, some)]),
        })
    }

    fn element(&self, set: &Set, key: &[Byte], first: &[u8], last: &[u8]) -> Condition {
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

    pub(super) fn verdict_map(
        &mut self,
        table: &'a Table,
        set: &'a Set,
        key: &[Byte],
        here: Region,
        fate: &mut Fate,
        depth: usize,
    ) -> Region {
        if doubtful(set, key) {
            self.hangs(&here);
        }
        if set.dynamic || set.partial {
            self.decided(true, &here);
            self.decided(false, &here);
            fate.accepted.add(&self.state, here.clone());
            fate.dropped.add(here.clone());
            fate.rest.add(&self.state, here.clone());
            fate.returned.add(&self.state, here);
            // Its chains may translate, which nobody follows.
            self.lost |= table.chains.values().any(|chain| chain.base.as_ref().is_some_and(|base| base.nat));
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
                    onward.add(self.verdict(table, verdict, inside, fate, depth));
                }
                Value::Verdict(_) => {}
                Value::Nothing | Value::Data(_) => self.lost = true,
            }
        }
        match &set.otherwise {
            Some(Value::Verdict(verdict)) => onward.add(self.verdict(table, verdict, rest, fate, depth)),
            Some(Value::Nothing | Value::Data(_)) => self.lost = true,
            None => fate.rest.add(&self.state, rest),
        }
        onward
    }

    /// What a map puts into a register, for whom; `None` where nobody can tell. Who has no entry is
    /// through with the rule.
    pub(super) fn mapped(
        &mut self,
        set: &Set,
        key: &[Byte],
        here: Region,
        fate: &mut Fate,
    ) -> Vec<(Option<Vec<Byte>>, Region)> {
        if doubtful(set, key) {
            self.hangs(&here);
        }
        let known = |value: &Value| match value {
            Value::Data(bytes) => Some(bytes.iter().map(|byte| Byte::Known(*byte)).collect::<Vec<_>>()),
            Value::Nothing | Value::Verdict(_) => None,
        };
        if set.dynamic || set.partial {
            fate.rest.add(&self.state, here.clone());
            return vec![(None, here)];
        }
        let mut found: Vec<(Option<Vec<Byte>>, Region)> = Vec::new();
        let mut rest = here;
        for element in &set.elements {
            if rest.is_empty() {
                break;
            }
            let (inside, outside) =
                split(rest, &self.element(set, key, &element.first, &element.last), false);
            rest = outside;
            let value = known(&element.value);
            match found.iter_mut().find(|(other, _)| *other == value) {
                _ if inside.is_empty() => {}
                Some((_, sum)) => sum.add(inside),
                None => found.push((value, inside)),
            }
            self.lost |= found.len() > MOST_BLOCKS;
        }
        match &set.otherwise {
            Some(value) if !rest.is_empty() => found.push((known(value), rest)),
            Some(_) => {}
            None => fate.rest.add(&self.state, rest),
        }
        found
    }
}
