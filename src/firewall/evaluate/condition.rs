//! Which packets fulfil a condition on what a register holds.

use super::client::AUTOMATIC;
use super::step::Byte;
use super::{Exit, Fate, Walk};
use crate::firewall::region::{Block, Region, Side};
use crate::firewall::ruleset::{Back, Compare, Extension};
use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges};

/// What may stand between the header of IPv6 and that of a transport (RFC 8200 section 4.1): options
/// by hop, routing, fragment, authentication, for the destination, mobility, HIP, shim6.
const EXTENSION_HEADERS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

/// Which packets fulfil a condition.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Always,
    Never,
    /// Nobody can tell.
    Maybe,
    /// Nobody outside of `may`, everybody inside of `must`.
    Within {
        may: Box<Block>,
        must: Option<Box<Block>>,
    },
    /// Nobody inside of `must`, everybody outside of `may`.
    Outside {
        may: Box<Block>,
        must: Option<Box<Block>>,
    },
}

impl Walk<'_> {
    pub(super) fn compare(&self, bytes: &[Byte], how: Compare, value: &[u8]) -> Condition {
        let (zeros, ones) = (vec![0; value.len()], vec![0xff; value.len()]);
        if let ([Byte::Frame], [kind]) = (bytes, value) {
            return match how {
                Compare::Equal => self.framed(*kind, false),
                Compare::NotEqual => self.framed(*kind, true),
                Compare::Less | Compare::LessOrEqual | Compare::Greater | Compare::GreaterOrEqual => {
                    Condition::Maybe
                }
            };
        }
        match how {
            Compare::Equal => self.interval(bytes, value, value),
            Compare::NotEqual => not(self.interval(bytes, value, value)),
            Compare::LessOrEqual => self.interval(bytes, &zeros, value),
            Compare::GreaterOrEqual => self.interval(bytes, value, &ones),
            Compare::Greater => not(self.interval(bytes, &zeros, value)),
            Compare::Less => not(self.interval(bytes, value, &ones)),
        }
    }

    /// Which packets have a value between two, in the order of bytes.
    pub(super) fn interval(&self, bytes: &[Byte], first: &[u8], last: &[u8]) -> Condition {
        if bytes.len() != first.len() || first.len() != last.len() {
            return Condition::Maybe;
        }
        if first == last {
            return self.equal(bytes, first);
        }
        let known: Option<Vec<u8>> = bytes.iter().map(|byte| byte.known()).collect();
        if let Some(known) = known {
            let inside = first <= known.as_slice() && known.as_slice() <= last;
            return if inside { Condition::Always } else { Condition::Never };
        }
        let Some(Byte::Part(side, 0, 0xff)) = bytes.first().copied() else { return Condition::Maybe };
        let whole = (0_u8..).zip(bytes).all(|(index, byte)| *byte == Byte::Part(side, index, 0xff));
        if !whole {
            return Condition::Maybe;
        }
        let width = self.width(side);
        self.within(side, Ranges::new(vec![(padded(first, width, 0), padded(last, width, 0xff))]), true)
    }

    pub(super) fn width(&self, side: Side) -> usize {
        match (side, self.question.family) {
            (Side::Port, _) => 2,
            (_, Family::V4) => 4,
            (_, Family::V6) => 16,
        }
    }

    pub(super) fn within(&self, side: Side, range: Ranges, sure: bool) -> Condition {
        let must = if sure { range.clone() } else { Ranges::default() };
        self.between(side, must, range)
    }

    /// Nobody outside of `may`, everybody inside of `must`.
    pub(super) fn between(&self, side: Side, must: Ranges, may: Ranges) -> Condition {
        if may.is_empty() {
            return Condition::Never;
        }
        let surely = (!must.is_empty()).then(|| Box::new(self.block(side, must)));
        Condition::Within { must: surely, may: Box::new(self.block(side, may)) }
    }

    fn everything(&self) -> Block {
        let all = self.question.family.all();
        Block([all.clone(), all, Ranges::new(vec![(0, u16::MAX.into())])])
    }

    pub(super) fn block(&self, side: Side, range: Ranges) -> Block {
        let mut block = self.everything();
        block.0[side as usize] = range;
        block
    }

    /// Equality byte by byte: what is known must agree, parts of a side make a prefix of it.
    pub(super) fn equal(&self, bytes: &[Byte], value: &[u8]) -> Condition {
        let mut sure = true;
        let mut prefixes: [Option<(u128, u128)>; 3] = [None; 3]; // mask, value
        let mut kinds: [Option<([u8; 4], bool)>; 2] = [None; 2];
        let mut way_back = None;
        for (byte, &wanted) in bytes.iter().zip(value) {
            match *byte {
                Byte::Known(known) if known != wanted => return Condition::Never,
                Byte::Known(_) => {}
                // Bits that must be there, or must not.
                Byte::Bits(mask, value) if (value ^ wanted) & mask != 0 => return Condition::Never,
                Byte::Header(first) if first != wanted && !EXTENSION_HEADERS.contains(&wanted) => {
                    return Condition::Never;
                }
                Byte::Back(back) => {
                    let (_, any, width) = way_back.get_or_insert((back, 0, 0));
                    *any |= wanted;
                    *width += 1;
                }
                Byte::Frame if bytes.len() == 1 => return self.framed(wanted, false),
                Byte::Header(_) | Byte::Bits(..) | Byte::Frame | Byte::Unknown => sure = false,
                Byte::Part(_, _, mask) if wanted & !mask != 0 => return Condition::Never,
                Byte::Part(side, index, mask) => {
                    let shift = 8 * (self.width(side) - 1 - usize::from(index));
                    let (masks, values) = prefixes[side as usize].get_or_insert((0, 0));
                    // The same bits asked twice in one value: merged loads never do that.
                    if *masks & (u128::from(mask) << shift) != 0 {
                        return Condition::Maybe;
                    }
                    *masks |= u128::from(mask) << shift;
                    *values |= u128::from(wanted) << shift;
                }
                Byte::Kind(side, index, near) => {
                    let (kind, _) = kinds[side as usize & 1].get_or_insert(([0; 4], near));
                    kind[usize::from(index)] = wanted;
                }
            }
        }
        let mut condition = if sure { Condition::Always } else { Condition::Maybe };
        if let Some((back, any, width)) = way_back {
            let found = self.has_way_back(back);
            let one = match (any, width) {
                (0, _) => not(found),
                // Whether there is one, filled up with zeros.
                (1, 1) => found,
                // Which interface it is.
                _ => Condition::Maybe,
            };
            // Nothing else stands in such a value.
            condition = if sure { one } else { Condition::Maybe };
        }
        for side in [Side::Source, Side::Destination, Side::Port] {
            if let Some((mask, value)) = prefixes[side as usize] {
                let bits = 8 * self.width(side);
                let all = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
                let wild = all & !mask;
                // Ones, then zeros: a prefix, and its values one range.
                let prefix = wild & wild.wrapping_add(1) == 0;
                let range = if prefix {
                    Ranges::new(vec![(value, value | wild)])
                } else {
                    Ranges::new(vec![(0, all)])
                };
                condition = both(condition, self.within(side, range, prefix));
            }
            if let Some((kind, near)) = kinds.get(side as usize).copied().flatten() {
                let one = self.kind(side, u32::from_ne_bytes(kind), near);
                condition = both(condition, one);
            }
        }
        condition
    }

    /// Sources that have such a route back. To an own address there is none.
    fn has_way_back(&self, back: Back) -> Condition {
        let family = self.question.family;
        let Some(gate) = self.station.entry else { return Condition::Maybe };
        let local = &self.place.local[family as usize];
        let link = &Classes::of(Family::V6).link;
        let set = match back {
            Back::Through => self.place.through(family, gate.index),
            // A link-local source is looked up on its interface alone.
            Back::Best => self.place.through(family, gate.index).map(|through| match family {
                Family::V4 => self.place.routed(family, gate.index),
                Family::V6 => self.place.routed(family, gate.index).minus(link).union(&through.and(link)),
            }),
            Back::Any => Some(self.place.answerable[family as usize].clone()),
        };
        let Some(set) = set else { return Condition::Maybe };
        let classes = Classes::of(family);
        let strange =
            [local, &self.place.broadcast[family as usize], &classes.multicast, &classes.unspecified];
        let must = strange.into_iter().fold(set.clone(), |left, strange| left.minus(strange));
        self.between(Side::Source, must, set)
    }

    /// Whether ports of the packet are in a list.
    pub(super) fn in_ports(&self, list: &[(u16, u16)], source: bool, destination: bool) -> Condition {
        let list = Ranges::new(list.iter().map(|(first, last)| ((*first).into(), (*last).into())).collect());
        let ours = match self.reply() {
            true => source,
            false => destination,
        };
        if !self.has_ports() || !ours {
            return Condition::Maybe;
        }
        let mine = match self.seen(Side::Port) {
            Some(None) => self.within(Side::Port, list.clone(), true),
            Some(Some(set)) if set.minus(&list).is_empty() => Condition::Always,
            Some(Some(set)) if !set.meets(&list) => Condition::Never,
            Some(Some(_)) | None => Condition::Maybe,
        };
        // Of both ends one must be in the list. The caller's may be; what is dropped for that alone is
        // no ordinary packet.
        let others =
            source && destination && (!self.asked.drops || list.meets(&Ranges::new(vec![AUTOMATIC])));
        match mine {
            Condition::Within { ref must, .. } if others => {
                let must = must.clone();
                Condition::Within { must, may: Box::new(self.everything()) }
            }
            Condition::Never if others => Condition::Maybe,
            Condition::Always
            | Condition::Never
            | Condition::Maybe
            | Condition::Within { .. }
            | Condition::Outside { .. } => mine,
        }
    }

    /// Gives back who goes on in the rule.
    pub(super) fn extension(&mut self, extension: &Extension, here: Region, fate: &mut Fate) -> Region {
        // Each list is of conditions of which one must hold.
        let conditions: Vec<(Vec<Condition>, bool)> = match extension {
            Extension::AnyPort { source, destination, ports, inverted } => {
                vec![(vec![self.in_ports(ports, *source, *destination)], *inverted)]
            }
            Extension::AddressType { source, destination, inverted, near } => {
                let asked = [(*source, false, inverted[0]), (*destination, true, inverted[1])];
                let asked = asked.into_iter().filter(|(bits, ..)| *bits != 0);
                asked
                    .map(|(bits, destination, inverted)| (self.of_kinds(bits, destination, *near), inverted))
                    .collect()
            }
            Extension::BridgePort { otherwise } => {
                let bridged = self.station.entry.is_some_and(|gate| gate.bridge)
                    || matches!(self.station.exit, Exit::Gate(gate) if gate.bridge)
                    || matches!(self.station.exit, Exit::Untold);
                let one = match (bridged, otherwise) {
                    (true, _) => Condition::Maybe,
                    (false, true) => Condition::Always,
                    (false, false) => Condition::Never,
                };
                vec![(vec![one], false)]
            }
        };
        conditions.into_iter().fold(here, |here, (any, inverted)| {
            let (mut hit, mut miss) = (Region::default(), here);
            for condition in any {
                if self.asked.decides {
                    self.hangs(&overlap(&miss, &condition));
                }
                let (more, left) = split(miss, &condition, false);
                hit.add(more);
                miss = left;
            }
            let (hit, miss) = if inverted { (miss, hit) } else { (hit, miss) };
            fate.rest.add(&self.state, miss);
            hit
        })
    }
}

/// A number of `width` bytes from its first bytes.
pub(super) fn padded(bytes: &[u8], width: usize, fill: u8) -> u128 {
    (0..width).fold(0, |number, index| number << 8 | u128::from(bytes.get(index).copied().unwrap_or(fill)))
}

pub(super) fn both(a: Condition, b: Condition) -> Condition {
    match (a, b) {
        (Condition::Never, _) | (_, Condition::Never) => Condition::Never,
        (Condition::Always, other) | (other, Condition::Always) => other,
        // Intervals and equalities only are joined: an outside never comes here.
        (Condition::Outside { .. } | Condition::Maybe, Condition::Outside { .. } | Condition::Maybe) => {
            Condition::Maybe
        }
        (Condition::Outside { .. } | Condition::Maybe, Condition::Within { may, .. })
        | (Condition::Within { may, .. }, Condition::Outside { .. } | Condition::Maybe) => {
            Condition::Within { may, must: None }
        }
        (Condition::Within { may: a, must: c }, Condition::Within { may: b, must: d }) => match a.and(&b) {
            Some(may) => {
                let must = c.zip(d).and_then(|(c, d)| c.and(&d)).map(Box::new);
                Condition::Within { may: Box::new(may), must }
            }
            None => Condition::Never,
        },
    }
}

pub(super) fn not(condition: Condition) -> Condition {
    match condition {
        Condition::Always => Condition::Never,
        Condition::Never => Condition::Always,
        Condition::Maybe => Condition::Maybe,
        Condition::Within { may, must } => Condition::Outside { may, must },
        Condition::Outside { may, must } => Condition::Within { may, must },
    }
}

/// Those of which nobody can tell whether they fulfil a condition.
pub(super) fn overlap(region: &Region, condition: &Condition) -> Region {
    match condition {
        Condition::Always | Condition::Never => Region::default(),
        Condition::Maybe => region.clone(),
        Condition::Within { may, must } | Condition::Outside { may, must } => match must {
            Some(must) if must == may => Region::default(),
            Some(must) => region.and(may).minus_block(must),
            None => region.and(may),
        },
    }
}

/// Those that fulfil a condition and those that do not; whoever may do either is in both.
pub(super) fn split(region: Region, condition: &Condition, inverted: bool) -> (Region, Region) {
    let parted = |region: Region, may: &Block, must: &Option<Box<Block>>| {
        let inside = region.and(may);
        let outside = match must {
            Some(must) => region.minus_block(must),
            None => region,
        };
        (inside, outside)
    };
    let (hit, miss) = match condition {
        Condition::Always => (region, Region::default()),
        Condition::Never => (Region::default(), region),
        Condition::Maybe => (region.clone(), region),
        Condition::Within { may, must } => parted(region, may, must),
        Condition::Outside { may, must } => {
            let (inside, outside) = parted(region, may, must);
            (outside, inside)
        }
    };
    if inverted { (miss, hit) } else { (hit, miss) }
}
