//! Sets of numbers as sorted, disjoint intervals: addresses of one family, or ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{AddrRange, PortRange};

/// A set of numbers. Intervals are in order, do not touch, and include both ends, so that equal
/// sets are equal values.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    pub(crate) fn new(mut parts: Vec<(u128, u128)>) -> Self {
        parts.retain(|(first, last)| first <= last);
        parts.sort_unstable();
        let count = parts.len();
        Self::in_order(parts.into_iter(), count)
    }

    /// Of at most so many intervals, by where they begin.
    fn in_order(parts: impl Iterator<Item = (u128, u128)>, count: usize) -> Self {
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(count);
        for (first, last) in parts {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                Some(_) | None => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one number it holds, if it holds one.
    pub(crate) fn only(&self) -> Option<u128> {
        match self.0[..] {
            [(first, last)] if first == last => Some(first),
            _ => None,
        }
    }

    /// One step through both lists.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut a = self.0.iter().copied().peekable();
        let mut b = other.0.iter().copied().peekable();
        let next = std::iter::from_fn(|| match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if y < x => b.next(),
            (Some(_), _) => a.next(),
            (None, _) => b.next(),
        });
        Self::in_order(next, self.0.len() + other.0.len())
    }

    pub(crate) fn union_of(sets: &[Self]) -> Self {
        Self::new(sets.iter().flat_map(|set| &set.0).copied().collect())
    }

    /// Takes in another set. Where that is one interval, which mostly begins behind all, the list is
    /// not written anew.
    pub(crate) fn add(&mut self, other: &Self) {
        let [(first, last)] = other.0[..] else {
            *self = self.union(other);
            return;
        };
        // All that it touches becomes one with it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = from + self.0[from..].partition_point(|(start, _)| *start <= last.saturating_add(1));
        let touched = &self.0[from..to];
        let one = match (touched.first(), touched.last()) {
            (Some(low), Some(high)) => (low.0.min(first), high.1.max(last)),
            _ => (first, last),
        };
        self.0.splice(from..to, [one]);
    }

    /// What both hold: one step through both lists, from where they can meet.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let from = |these: &Self, those: &Self| {
            let start =
                those.0.first().map_or(0, |(first, _)| these.0.partition_point(|(_, end)| end < first));
            start..these.0.len()
        };
        let mut a = self.0[from(self, other)].iter().peekable();
        let mut b = other.0[from(other, self)].iter().peekable();
        let mut both = Vec::new();
        while let (Some(&&x), Some(&&y)) = (a.peek(), b.peek()) {
            if x.0.max(y.0) <= x.1.min(y.1) {
                both.push((x.0.max(y.0), x.1.min(y.1)));
            }
            if x.1 < y.1 {
                a.next()
            } else {
                b.next()
            };
        }
        Self(both)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for &(mut first, last) in &self.0 {
            let mut gone = false;
            while let Some(&&(low, high)) = cuts.peek() {
                if low > last {
                    break;
                }
                if high >= first {
                    if low > first {
                        left.push((first, low - 1));
                    }
                    if high >= last {
                        gone = true;
                        break;
                    }
                    first = high + 1;
                }
                cuts.next();
            }
            if !gone {
                left.push((first, last));
            }
        }
        Self(left)
    }

    /// This set and whatever of `other` touches or fills the gaps between its parts.
    pub(crate) fn with_neighbours(&self, other: &Self) -> Self {
        let mut whole = self.union(other);
        whole.0.retain(|&(first, last)| self.meets(&Self(vec![(first, last)])));
        whole
    }

    /// Whether both hold some number: each interval of the shorter list is looked up in the longer.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (few, many) = if self.0.len() < other.0.len() { (self, other) } else { (other, self) };
        few.0.iter().any(|(first, last)| {
            let at = many.0.partition_point(|(_, end)| end < first);
            many.0.get(at).is_some_and(|(start, _)| start <= last)
        })
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// As ports; numbers above 65535 do not occur in a set of ports.
    pub(crate) fn ports(&self) -> Vec<PortRange> {
        let short = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
        self.0.iter().map(|&(a, b)| PortRange { first: short(a), last: short(b) }).collect()
    }
}

/// Address family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Every address there is.
    pub(crate) fn all(self) -> Ranges {
        Ranges(vec![(0, if self == Self::V4 { u128::from(u32::MAX) } else { u128::MAX })])
    }

    /// Those of `addresses` that are of this family.
    pub(crate) fn pick<'a>(self, addresses: impl IntoIterator<Item = &'a AddrRange>) -> Ranges {
        let mine = addresses.into_iter().filter(|range| Self::of(range.first) == self);
        Ranges::new(mine.map(|range| (number(range.first), number(range.last))).collect())
    }

    pub(crate) fn one(self, address: IpAddr) -> Ranges {
        self.pick([&AddrRange::one(address)])
    }

    pub(crate) fn addresses(self, set: &Ranges) -> Vec<AddrRange> {
        let address = |number: u128| match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        };
        set.0.iter().map(|&(a, b)| AddrRange { first: address(a), last: address(b) }).collect()
    }
}

pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, proptest};
    use proptest::{prop_assert_eq, test_runner::Config};

    fn small() -> impl Strategy<Value = Vec<(u128, u128)>> {
        proptest::collection::vec((0u128..40, 0u128..40), 0..6)
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
        #[test]
        fn sets_behave_like_sets(a in small(), b in small()) {
            let (x, y) = (Ranges::new(a.clone()), Ranges::new(b.clone()));
            let holds = |set: &[(u128, u128)], n| set.iter().any(|&(f, l)| f <= n && n <= l);
            for n in 0..41 {
                let (in_a, in_b) = (holds(&a, n), holds(&b, n));
                prop_assert_eq!(x.contains(n), in_a);
                prop_assert_eq!(x.union(&y).contains(n), in_a || in_b);
                let mut sum = x.clone();
                sum.add(&y);
                prop_assert_eq!(&sum, &x.union(&y));
                prop_assert_eq!(x.and(&y).contains(n), in_a && in_b);
                prop_assert_eq!(x.minus(&y).contains(n), in_a && !in_b);
            }
            prop_assert_eq!(x.meets(&y), !x.and(&y).is_empty());
            // Equal sets are equal values, however they were made.
            prop_assert_eq!(x.minus(&y).union(&x.and(&y)), x);
        }
    }

    #[test]
    fn the_ends_of_the_number_line_hold() {
        let all = Family::V6.all();
        assert_eq!(all.minus(&all), Ranges::default());
        let top = Ranges::new(vec![(u128::MAX, u128::MAX)]);
        assert_eq!(all.minus(&top).union(&top), all);
    }
}
