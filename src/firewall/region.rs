//! Sets of packets as unions of products: sources × destinations × destination ports.

use std::collections::BTreeMap;

use super::ranges::Ranges;

/// The three sides of a product.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Side {
    Source,
    Destination,
    Port,
}

/// A product; never empty inside a `Region`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block(pub(crate) [Ranges; 3]);

impl Block {
    fn is_empty(&self) -> bool {
        self.0.iter().any(Ranges::is_empty)
    }

    pub(crate) fn and(&self, other: &Self) -> Option<Self> {
        self.meets(other).then(|| Self(std::array::from_fn(|side| self.0[side].and(&other.0[side]))))
    }

    /// Rules differ in ports more often than in addresses, and port sets are the shorter ones.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).rev().all(|(one, other)| one.meets(other))
    }

    /// The one side in which it differs from another, along which both are one block.
    fn seam(&self, other: &Self) -> Option<usize> {
        let mut differing = (0..3).filter(|side| self.0[*side] != other.0[*side]);
        match (differing.next(), differing.next()) {
            (side, None) => Some(side.unwrap_or(0)),
            (_, Some(_)) => None,
        }
    }

    /// What is left of it: at most one piece for each side.
    fn minus(self, other: &Self, left: &mut Vec<Self>) {
        if !self.meets(other) {
            left.push(self);
            return;
        }
        let mut rest = self;
        for side in 0..3 {
            let outside = rest.0[side].minus(&other.0[side]);
            let inside = rest.0[side].and(&other.0[side]);
            if !outside.is_empty() {
                rest.0[side] = outside;
                left.push(rest.clone());
            }
            rest.0[side] = inside;
        }
    }
}

/// A union of blocks, which may overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Region(pub(crate) Vec<Block>);

impl Region {
    pub(crate) fn one(sides: [Ranges; 3]) -> Self {
        let block = Block(sides);
        Self(if block.is_empty() { Vec::new() } else { vec![block] })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ten thousand rules that each drop one address make one block.
    pub(crate) fn add(&mut self, other: Self) {
        for block in other.0 {
            match self.0.last_mut().and_then(|last| last.seam(&block).map(|side| (last, side))) {
                Some((last, side)) => last.0[side].add(&block.0[side]),
                None => self.0.push(block),
            }
        }
    }

    /// Its blocks that meet another, whole, and those that do not.
    pub(crate) fn parted(self, block: &Block) -> (Self, Self) {
        if !self.0.iter().any(|each| each.meets(block)) {
            return (Self::default(), self);
        }
        let (meeting, others) = self.0.into_iter().partition(|each| each.meets(block));
        (Self(meeting), Self(others))
    }

    pub(crate) fn and(&self, block: &Block) -> Self {
        Self(self.0.iter().filter_map(|each| each.and(block)).collect())
    }

    pub(crate) fn minus_block(self, block: &Block) -> Self {
        if !self.0.iter().any(|each| each.meets(block)) {
            return self;
        }
        let mut left = Vec::with_capacity(self.0.len() + 2);
        for each in self.0 {
            each.minus(block, &mut left);
        }
        Self(left)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        other.0.iter().fold(self.clone(), Self::minus_block)
    }

    /// The same set without overlaps, and with blocks joined that differ in one side.
    pub(crate) fn disjoint(&self) -> Self {
        let mut told = Self::default();
        for block in &self.0 {
            let fresh = Self(vec![block.clone()]).minus(&told);
            told.add(fresh);
        }
        told.joined()
    }

    /// Joins blocks that differ in one side only, be they tens of thousands; one pass for each side.
    pub(crate) fn gathered(mut self) -> Self {
        for side in 0..3 {
            let mut alike: BTreeMap<[Ranges; 2], Vec<Ranges>> = BTreeMap::new();
            for Block(sides) in self.0 {
                let [source, destination, port] = sides;
                let (key, own) = match side {
                    0 => ([destination, port], source),
                    1 => ([source, port], destination),
                    _ => ([source, destination], port),
                };
                alike.entry(key).or_default().push(own);
            }
            let joined = alike.into_iter().map(|([one, other], own)| {
                let own = Ranges::union_of(&own);
                Block(match side {
                    0 => [own, one, other],
                    1 => [one, own, other],
                    _ => [one, other, own],
                })
            });
            self = Self(joined.collect());
        }
        self
    }

    /// Joins disjoint blocks that differ in one side only.
    fn joined(mut self) -> Self {
        let mut index = 0;
        while index < self.0.len() {
            let found = (0..index).find_map(|before| Some((before, self.0[before].seam(&self.0[index])?)));
            match found {
                Some((before, side)) => {
                    let gone = self.0.remove(index);
                    self.0[before].0[side].add(&gone.0[side]);
                    // The grown block may fit another one now.
                    index = 0;
                }
                None => index += 1,
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, proptest};
    use proptest::{prop_assert, prop_assert_eq, test_runner::Config};

    fn block() -> impl Strategy<Value = Block> {
        let side = || (0_u128..6, 0_u128..6).prop_map(|(a, b)| Ranges::new(vec![(a.min(b), a.max(b))]));
        (side(), side(), side()).prop_map(|(a, b, c)| Block([a, b, c]))
    }

    fn region() -> impl Strategy<Value = Region> {
        proptest::collection::vec(block(), 0..5).prop_map(Region)
    }

    fn holds(region: &Region, point: [u128; 3]) -> usize {
        let inside = |block: &&Block| (0..3).all(|side| block.0[side].contains(point[side]));
        region.0.iter().filter(inside).count()
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, cases: 60, ..Config::default() })]
        #[test]
        fn regions_behave_like_sets(a in region(), b in region()) {
            let (minus, disjoint, gathered) = (a.minus(&b), a.disjoint(), a.clone().gathered());
            let mut sum = a.clone();
            sum.add(b.clone());
            for x in 0..6 {
                for y in 0..6 {
                    for z in 0..6 {
                        let at = |region: &Region| holds(region, [x, y, z]);
                        prop_assert_eq!(at(&minus) > 0, at(&a) > 0 && at(&b) == 0);
                        prop_assert_eq!(at(&disjoint), usize::from(at(&a) > 0));
                        prop_assert_eq!(at(&gathered) > 0, at(&a) > 0);
                        prop_assert!((at(&sum) > 0) == (at(&a) + at(&b) > 0));
                    }
                }
            }
        }
    }
}
