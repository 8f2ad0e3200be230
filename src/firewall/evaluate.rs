//! What a ruleset does to every packet that could come to one gate, at once. Two sets come out: what
//! may be accepted and what may be dropped. Whatever is in doubt goes into both, so that a packet is
//! certain to get in only where it is in the first and not in the second, and certain not to where
//! it is not in the first.

use super::classes::Classes;
use super::place::{Gate, Place, Side as GateSide};
use super::ranges::{Family, Ranges};
use super::region::{Block, Region, Side};
use super::ruleset::{
    Chain, Compare, Extension, Header, Hook, Meta, Ruleset, Set, Step, Table, TableFamily, Target, Verdict,
};

/// More blocks than this, and nothing is said any more.
const MOST_BLOCKS: usize = 4_000;
/// The kernel's own limit of jumps (`NFT_JUMP_STACK_SIZE`).
const MOST_JUMPS: usize = 16;

/// What the rules make of everything that comes to a gate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) may_accept: Region,
    pub(crate) may_drop: Region,
}

/// What is asked: new packets of one protocol at one gate; with `answered`, the answer must find its
/// way back through the rules too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Question {
    pub(crate) family: Family,
    pub(crate) protocol: Option<u8>,
    pub(crate) answered: bool,
    /// Sent by a program of this computer on a network, and come back from there: broadcasts and
    /// groups.
    pub(crate) echoed: bool,
}

impl Judged {
    /// For packets that may have come either way.
    pub(crate) fn either(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.may_accept.add(other.may_accept.clone());
        sum.may_drop.add(other.may_drop.clone());
        sum
    }
}

pub(crate) fn judge(place: &Place, ruleset: &Ruleset, gate: &Gate, question: Question) -> Judged {
    let ports = Ranges::new(vec![(0, u16::MAX.into())]);
    let all = Region::one([question.family.all(), question.family.all(), ports]);
    let doubt = || Judged { may_accept: all.clone(), may_drop: all.clone() };
    let strange = ruleset.tables.iter().any(|table| {
        let bridged = gate.bridge && table.family == TableFamily::Bridge;
        let based = |hook| table.chains.values().any(|chain| chain.base.as_ref().is_some_and(|base| hook == base.hook));
        !table.dormant && ((bridged || table.family == TableFamily::Netdev) && based(Hook::Other))
    });
    if strange {
        return doubt();
    }
    let mut passing = all.clone();
    let mut may_drop = Region::default();
    for (hook, packet) in stations(gate.side == GateSide::Loopback || question.echoed, question.answered) {
        let reply = packet == Packet::Answer;
        let mut walk =
            Walk { place, ruleset, gate, question, hook, packet, reply, early: false, blocks: 0, lost: false };
        let (accepted, dropped) = walk.hook(passing);
        if walk.lost {
            return doubt();
        }
        passing = accepted;
        may_drop.add(dropped);
        if may_drop.0.len() + passing.0.len() > MOST_BLOCKS {
            return doubt();
        }
    }
    Judged { may_accept: passing, may_drop }
}

/// Which packet of a flow is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Packet {
    First,
    Answer,
    /// The third of a handshake: only with it has the listener a connection.
    Third,
}

/// The hooks that the packets of a flow pass. What a program of this computer sends passes its
/// output hooks first, and comes back in by loopback.
fn stations(loopback: bool, answered: bool) -> Vec<(Hook, Packet)> {
    use Hook::{Ingress, Input, Output, Postrouting, Prerouting};
    let packets = [Packet::First, Packet::Answer, Packet::Third];
    let mut found = Vec::new();
    for packet in packets.into_iter().take(if answered { 3 } else { 1 }) {
        let leaves = loopback || packet == Packet::Answer;
        let comes = loopback || packet != Packet::Answer;
        let out = [Output, Postrouting].into_iter().filter(|_| leaves);
        found.extend(out.chain([Ingress, Prerouting, Input].into_iter().filter(|_| comes)).map(|hook| (hook, packet)));
    }
    found
}

/// What is known of one byte in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Byte {
    Known(u8),
    /// Byte of a side, counted from its first, and the bits that are left of it.
    Part(Side, u8, u8),
    /// Byte of the type of an address (`RTN_…` in host byte order).
    Kind(Side, u8),
    Unknown,
}

/// Which packets fulfil a condition.
#[derive(Clone, Debug)]
enum Condition {
    Always,
    Never,
    /// Nobody can tell.
    Maybe,
    /// Those in a block; `sure` when all of them.
    Within { block: Box<Block>, sure: bool },
    /// Those outside of a block; `sure` when nobody in it.
    Outside { block: Box<Block>, sure: bool },
}

struct Walk<'a> {
    place: &'a Place,
    ruleset: &'a Ruleset,
    gate: &'a Gate,
    question: Question,
    hook: Hook,
    packet: Packet,
    reply: bool,
    /// Connection tracking may not have seen the packet yet.
    early: bool,
    blocks: usize,
    lost: bool,
}

/// What becomes of packets in a chain.
#[derive(Default)]
struct Fate {
    accepted: Region,
    dropped: Region,
    /// Came to the end, or back.
    rest: Region,
}

impl Walk<'_> {
    /// Through all base chains of the hook. Each can drop for good; accepting ends only itself, so
    /// their order makes no difference without translation.
    fn hook(&mut self, mut passing: Region) -> (Region, Region) {
        let mut dropped = Region::default();
        for table in self.ruleset.tables.iter().filter(|table| !table.dormant) {
            if !table.family.sees(self.question.family) {
                continue;
            }
            for chain in table.chains.values() {
                let Some(base) = chain.base.as_ref().filter(|base| base.hook == self.hook) else { continue };
                let elsewhere = base.hook == Hook::Ingress && !base.devices.contains(&self.gate.name.as_bytes().to_vec());
                // Translation looks at the first packet of a flow only.
                if elsewhere || (base.nat && self.packet != Packet::First) {
                    continue;
                }
                // `NF_IP_PRI_CONNTRACK`
                self.early = match self.hook {
                    Hook::Ingress => true,
                    Hook::Prerouting | Hook::Output => base.priority <= -200,
                    Hook::Input | Hook::Forward | Hook::Postrouting | Hook::Other => false,
                };
                let fate = self.chain(table, chain, passing, 0);
                // A new source, which later rules see.
                self.lost |= base.nat && !fate.accepted.is_empty();
                dropped.add(fate.dropped);
                passing = fate.accepted;
                if base.drop_policy {
                    dropped.add(fate.rest);
                } else {
                    passing.add(fate.rest);
                }
            }
        }
        (passing, dropped)
    }

    fn chain(&mut self, table: &Table, chain: &Chain, entering: Region, depth: usize) -> Fate {
        let mut fate = Fate { rest: entering, ..Fate::default() };
        let mut returned = Region::default();
        for rule in &chain.rules {
            if fate.rest.is_empty() || self.lost {
                break;
            }
            let here = std::mem::take(&mut fate.rest);
            self.rule(table, rule, here, &mut fate, &mut returned, depth);
            self.blocks = self.blocks.max(fate.rest.0.len() + fate.accepted.0.len() + fate.dropped.0.len());
            if self.blocks > MOST_BLOCKS || depth > MOST_JUMPS {
                self.lost = true;
            }
        }
        fate.rest.add(returned);
        fate
    }

    fn rule(
        &mut self,
        table: &Table,
        steps: &[Step],
        mut here: Region,
        fate: &mut Fate,
        returned: &mut Region,
        depth: usize,
    ) {
        let mut registers = [Byte::Unknown; 64];
        // What a rule for unusual packets drops says nothing of the ordinary ones.
        let mut spared: Option<Region> = None;
        for step in steps {
            if here.is_empty() {
                break;
            }
            let condition = match step {
                Step::Nothing => continue,
                Step::Payload { .. } | Step::Meta { .. } | Step::CtState { .. } | Step::AddressType { .. }
                | Step::Load { .. } | Step::Bitwise { .. } | Step::Constant { .. } => {
                    match self.load(step, &mut registers) {
                        true => continue,
                        false => Condition::Maybe,
                    }
                }
                Step::Unusual => {
                    fate.rest.add(here.clone());
                    spared.get_or_insert_with(|| fate.dropped.clone());
                    continue;
                }
                Step::Maybe => Condition::Maybe,
                Step::Compare { from, how, value } => self.compare(bytes(&registers, *from, value.len()), *how, value),
                Step::Range { from, inverted, first, last } => {
                    let inside = self.interval(bytes(&registers, *from, first.len()), first, last);
                    let (hit, miss) = split(here, &inside, *inverted);
                    fate.rest.add(miss);
                    here = hit;
                    continue;
                }
                Step::Extension(extension) => {
                    here = self.extension(extension, here, &mut fate.rest);
                    continue;
                }
                Step::Verdict(verdict) => {
                    here = self.verdict(table, verdict, here, fate, returned, depth);
                    continue;
                }
                Step::Lookup { from, set, inverted, to } => {
                    let Some(set) = table.sets.get(set) else {
                        self.lost = true;
                        return;
                    };
                    let key = bytes(&registers, *from, set.length);
                    if *to == Some(Target::Verdict) {
                        here = self.verdict_map(table, set, key, here, fate, returned, depth);
                        continue;
                    }
                    let (hit, miss) = self.member(set, key, here);
                    let (hit, miss) = if *inverted { (miss, hit) } else { (hit, miss) };
                    fate.rest.add(miss);
                    here = hit;
                    if let Some(Target::Register(to)) = to {
                        registers[*to..].fill(Byte::Unknown);
                    }
                    continue;
                }
                Step::Unknown(_) => {
                    registers.fill(Byte::Unknown);
                    fate.accepted.add(here.clone());
                    fate.dropped.add(here.clone());
                    Condition::Maybe
                }
            };
            let (hit, miss) = split(here, &condition, false);
            fate.rest.add(miss);
            here = hit;
        }
        fate.rest.add(here);
        if let Some(dropped) = spared {
            fate.dropped = dropped;
        }
    }

    /// Gives back what goes on in the same rule.
    fn verdict(
        &mut self,
        table: &Table,
        verdict: &Verdict,
        here: Region,
        fate: &mut Fate,
        returned: &mut Region,
        depth: usize,
    ) -> Region {
        let (name, comes_back) = match verdict {
            Verdict::Continue => return here,
            Verdict::Accept => {
                fate.accepted.add(here);
                return Region::default();
            }
            Verdict::Drop => {
                fate.dropped.add(here);
                return Region::default();
            }
            Verdict::Queue => {
                fate.accepted.add(here.clone());
                fate.dropped.add(here);
                return Region::default();
            }
            Verdict::Return => {
                returned.add(here);
                return Region::default();
            }
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
        };
        let Some(chain) = table.chains.get(name).filter(|_| depth < MOST_JUMPS) else {
            self.lost = true;
            return Region::default();
        };
        let inner = self.chain(table, chain, here, depth + 1);
        fate.accepted.add(inner.accepted);
        fate.dropped.add(inner.dropped);
        if comes_back {
            fate.rest.add(inner.rest);
        } else {
            returned.add(inner.rest);
        }
        Region::default()
    }

    /// True when the step has no other effect than on registers.
    fn load(&self, step: &Step, registers: &mut [Byte; 64]) -> bool {
        match step {
            Step::Payload { to, header, offset, length } => {
                put(registers, *to, &self.payload(*header, *offset, *length));
                // Beyond the headers that every packet has, the rule may end here.
                *header != Header::Other && (*header == Header::Network || *offset + u32::try_from(*length).unwrap_or(u32::MAX) <= 4)
            }
            Step::Meta { to, key } => {
                put(registers, *to, &self.meta(*key));
                true
            }
            Step::CtState { to } => {
                let known = self.state();
                let state = known.unwrap_or_default().to_ne_bytes().map(|byte| if known.is_some() { Byte::Known(byte) } else { Byte::Unknown });
                put(registers, *to, &state);
                true
            }
            Step::AddressType { to, destination } => {
                let side = self.side(*destination);
                put(registers, *to, &[0, 1, 2, 3].map(|index| Byte::Kind(side, index)));
                true
            }
            Step::Bitwise { from, to, mask, xor } => {
                let taken = bytes(registers, *from, mask.len()).to_vec();
                let made: Vec<Byte> =
                    taken.iter().zip(mask.iter().zip(xor)).map(|(byte, (mask, xor))| masked(*byte, *mask, *xor)).collect();
                put(registers, *to, &made);
                true
            }
            Step::Constant { to, value } => {
                let known: Vec<Byte> = value.iter().map(|byte| Byte::Known(*byte)).collect();
                put(registers, *to, &known);
                true
            }
            Step::Load { to, length } => {
                put(registers, *to, &vec![Byte::Unknown; *length]);
                false
            }
            Step::Compare { .. } | Step::Range { .. } | Step::Lookup { .. } | Step::Verdict(_)
            | Step::Extension(_) | Step::Unusual | Step::Maybe | Step::Nothing | Step::Unknown(_) => false,
        }
    }

    /// The bit of the connection's state; `None` where it may be untracked.
    fn state(&self) -> Option<u32> {
        const ESTABLISHED: u32 = 2;
        const NEW: u32 = 8;
        let known = !self.ruleset.untracks && !self.early;
        known.then_some(if self.packet == Packet::First { NEW } else { ESTABLISHED })
    }

    /// The side of the question that is the packet's destination (or source): of an answer, the other.
    fn side(&self, destination: bool) -> Side {
        if destination != self.reply { Side::Destination } else { Side::Source }
    }

    fn payload(&self, header: Header, offset: u32, length: usize) -> Vec<Byte> {
        (0..length).map(|index| self.header_byte(header, offset as usize + index)).collect()
    }

    fn header_byte(&self, header: Header, at: usize) -> Byte {
        let part = |destination, index: usize| {
            Byte::Part(self.side(destination), u8::try_from(index).unwrap_or(u8::MAX), 0xff)
        };
        let protocol = self.question.protocol.map_or(Byte::Unknown, Byte::Known);
        match (header, self.question.family, at) {
            (Header::Network, Family::V4, 9) => protocol,
            (Header::Network, Family::V4, 12..16) => part(false, at - 12),
            (Header::Network, Family::V4, 16..20) => part(true, at - 16),
            (Header::Network, Family::V6, 8..24) => part(false, at - 8),
            (Header::Network, Family::V6, 24..40) => part(true, at - 24),
            // The port of the listener: destination of what comes, source of the answer.
            (Header::Transport, _, 0..2) if self.reply && self.has_ports() => Byte::Part(Side::Port, at as u8, 0xff),
            (Header::Transport, _, 2..4) if !self.reply && self.has_ports() => {
                Byte::Part(Side::Port, at as u8 - 2, 0xff)
            }
            _ => Byte::Unknown,
        }
    }

    fn has_ports(&self) -> bool {
        matches!(self.question.protocol, Some(6 | 17 | 33 | 132 | 136))
    }

    fn meta(&self, key: Meta) -> Vec<Byte> {
        let known = |bytes: &[u8]| bytes.iter().map(|byte| Byte::Known(*byte)).collect();
        let name = |name: &[u8]| -> Vec<Byte> {
            let mut padded = [0; 16];
            let length = name.len().min(15);
            padded[..length].copy_from_slice(&name[..length]);
            known(&padded)
        };
        let loopback = self.gate.side == GateSide::Loopback || self.question.echoed;
        let incoming = matches!(self.hook, Hook::Ingress | Hook::Prerouting | Hook::Input);
        match key {
            Meta::Protocol => known(if self.question.family == Family::V4 { &[8, 0] } else { &[0x86, 0xdd] }),
            Meta::NfProto if self.hook == Hook::Ingress => vec![Byte::Unknown],
            Meta::NfProto => known(&[if self.question.family == Family::V4 { 2 } else { 10 }]),
            Meta::L4Proto => vec![self.question.protocol.map_or(Byte::Unknown, Byte::Known)],
            // A socket may mark what it sends (SO_MARK).
            Meta::Mark if !self.ruleset.marks && !loopback && !self.reply => known(&[0; 4]),
            Meta::Mark => vec![Byte::Unknown; 4],
            Meta::Iif if incoming => known(&self.gate.index.to_ne_bytes()),
            Meta::IifName if incoming => name(self.gate.name.as_bytes()),
            Meta::Oif if incoming => known(&[0; 4]),
            Meta::OifName if incoming => name(b""),
            Meta::Iif => known(&[0; 4]),
            Meta::IifName => name(b""),
            Meta::Oif if loopback => known(&self.gate.index.to_ne_bytes()),
            Meta::OifName if loopback => name(self.gate.name.as_bytes()),
            // An answer leaves by whatever its route says.
            Meta::Oif => vec![Byte::Unknown; 4],
            Meta::OifName | Meta::Other => vec![Byte::Unknown; 16],
        }
    }

    fn compare(&self, bytes: &[Byte], how: Compare, value: &[u8]) -> Condition {
        let (zeros, ones) = (vec![0; value.len()], vec![0xff; value.len()]);
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
    fn interval(&self, bytes: &[Byte], first: &[u8], last: &[u8]) -> Condition {
        if bytes.len() != first.len() || first.len() != last.len() {
            return Condition::Maybe;
        }
        if first == last {
            return self.equal(bytes, first);
        }
        let known: Option<Vec<u8>> = bytes
            .iter()
            .map(|byte| match byte {
                Byte::Known(byte) => Some(*byte),
                Byte::Part(..) | Byte::Kind(..) | Byte::Unknown => None,
            })
            .collect();
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

    fn width(&self, side: Side) -> usize {
        match (side, self.question.family) {
            (Side::Port, _) => 2,
            (_, Family::V4) => 4,
            (_, Family::V6) => 16,
        }
    }

    fn within(&self, side: Side, range: Ranges, sure: bool) -> Condition {
        let all = self.question.family.all();
        let mut sides = [all.clone(), all, Ranges::new(vec![(0, u16::MAX.into())])];
        sides[side as usize] = range;
        Condition::Within { block: Box::new(Block(sides)), sure }
    }

    /// Equality byte by byte: what is known must agree, parts of a side make a prefix of it.
    fn equal(&self, bytes: &[Byte], value: &[u8]) -> Condition {
        let mut sure = true;
        let mut prefixes: [Option<(u128, u128)>; 3] = [None; 3]; // mask, value
        let mut kinds: [Option<[u8; 4]>; 2] = [None; 2];
        for (byte, &wanted) in bytes.iter().zip(value) {
            match *byte {
                Byte::Known(known) if known != wanted => return Condition::Never,
                Byte::Known(_) => {}
                Byte::Unknown => sure = false,
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
                Byte::Kind(side, index) => {
                    kinds[side as usize & 1].get_or_insert([0; 4])[usize::from(index)] = wanted;
                }
            }
        }
        let mut condition = if sure { Condition::Always } else { Condition::Maybe };
        for side in [Side::Source, Side::Destination, Side::Port] {
            if let Some((mask, value)) = prefixes[side as usize] {
                let bits = 8 * self.width(side);
                let all = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
                let wild = all & !mask;
                // Ones, then zeros: a prefix, and its values one range.
                let prefix = wild & wild.wrapping_add(1) == 0;
                let range = if prefix { Ranges::new(vec![(value, value | wild)]) } else { Ranges::new(vec![(0, all)]) };
                condition = both(condition, self.within(side, range, prefix));
            }
            if let Some(kind) = kinds.get(side as usize).copied().flatten() {
                let one = self.kind(side, u32::from_ne_bytes(kind));
                condition = both(condition, one);
            }
        }
        condition
    }

    /// Addresses of a type, as the local table has them (`inet_dev_addr_type`, `nft_fib6_eval_type`).
    fn kind(&self, side: Side, kind: u32) -> Condition {
        let family = self.question.family;
        let classes = Classes::of(family);
        let index = family as usize;
        let (local, broadcast) = (&self.place.local[index], &self.place.broadcast[index]);
        let broad = match family {
            Family::V4 => broadcast.union(&classes.broadcast).union(&classes.unspecified),
            Family::V6 => Ranges::default(),
        };
        let anycast = if family == Family::V6 { broadcast.clone() } else { Ranges::default() };
        // A link-local address is looked up on the interface of the packet, which on loopback has
        // none: of it, as of what is unreachable, IPv6 may say otherwise.
        let sure = family == Family::V4;
        let blur = |set: Ranges| if sure { set } else { set.union(&classes.link) };
        let set = match kind {
            1 => {
                let others = [local, &broad, &anycast, &classes.multicast];
                others.into_iter().fold(family.all(), |left, set| left.minus(set))
            }
            2 => local.minus(&classes.multicast),
            3 => broad.minus(local),
            4 => anycast,
            5 => return self.within(side, classes.multicast.clone(), true),
            _ => return Condition::Maybe,
        };
        self.within(side, blur(set), sure)
    }

    fn extension(&self, extension: &Extension, here: Region, rest: &mut Region) -> Region {
        let ports = |list: &[(u16, u16)]| {
            Ranges::new(list.iter().map(|(first, last)| ((*first).into(), (*last).into())).collect())
        };
        let everything = |list: &[(u16, u16)]| list == [(0, u16::MAX)];
        let mut conditions: Vec<(Condition, bool)> = Vec::new();
        match extension {
            Extension::Ports { source, destination, inverted } => {
                for (list, destination, inverted) in [(source, false, inverted[0]), (destination, true, inverted[1])] {
                    if everything(list) && !inverted {
                        continue;
                    }
                    let ours = destination != self.reply && self.has_ports();
                    let one = if ours { self.within(Side::Port, ports(list), true) } else { Condition::Maybe };
                    conditions.push((one, inverted));
                }
            }
            Extension::AnyPort { source, destination, ports: list, inverted } => {
                let ours = *destination != self.reply && *source == self.reply && self.has_ports();
                let one = if ours { self.within(Side::Port, ports(list), true) } else { Condition::Maybe };
                conditions.push((one, *inverted));
            }
            Extension::State { mask, inverted } => {
                let one = match self.state().map(|state| mask & state != 0) {
                    None => Condition::Maybe,
                    Some(true) => Condition::Always,
                    Some(false) => Condition::Never,
                };
                conditions.push((one, *inverted));
            }
            Extension::AddressType { source, destination, inverted } => {
                for (bits, destination, inverted) in [(*source, false, inverted[0]), (*destination, true, inverted[1])] {
                    if bits != 0 {
                        let one = match bits.count_ones() {
                            1 => self.kind(self.side(destination), bits.trailing_zeros()),
                            _ => Condition::Maybe,
                        };
                        conditions.push((one, inverted));
                    }
                }
            }
        }
        conditions.into_iter().fold(here, |here, (condition, inverted)| {
            let (hit, miss) = split(here, &condition, inverted);
            rest.add(miss);
            hit
        })
    }

    /// Which packets have their key in a set.
    fn member(&self, set: &Set, key: &[Byte], here: Region) -> (Region, Region) {
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
            let (inside, outside) = split(rest, &self.element(set, key, &element.first, &element.last), false);
            hit.add(inside);
            rest = outside;
        }
        (hit, rest)
    }

    fn plain(&self, set: &Set, key: &[Byte]) -> Option<Condition> {
        let Some(Byte::Part(side, 0, 0xff)) = key.first().copied() else { return None };
        let whole = (0_u8..).zip(key).all(|(index, byte)| *byte == Byte::Part(side, index, 0xff));
        let width = self.width(side);
        if !whole || key.len() != width || !set.parts.is_empty() {
            return None;
        }
        let spans = set.elements.iter().map(|element| (padded(&element.first, width, 0), padded(&element.last, width, 0xff)));
        Some(self.within(side, Ranges::new(spans.collect()), true))
    }

    fn element(&self, set: &Set, key: &[Byte], first: &[u8], last: &[u8]) -> Condition {
        if set.parts.is_empty() {
            return self.interval(key, first, last);
        }
        let mut condition = Condition::Always;
        let mut at = 0;
        for part in &set.parts {
            let end = at + part;
            let (Some(key), Some(first), Some(last)) = (key.get(at..end), first.get(at..end), last.get(at..end)) else {
                return Condition::Maybe;
            };
            condition = both(condition, self.interval(key, first, last));
            at = end.next_multiple_of(4);
        }
        condition
    }

    #[expect(clippy::too_many_arguments, reason = "the state of a rule on its way")]
    fn verdict_map(
        &mut self,
        table: &Table,
        set: &Set,
        key: &[Byte],
        here: Region,
        fate: &mut Fate,
        returned: &mut Region,
        depth: usize,
    ) -> Region {
        if set.dynamic || set.partial {
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
            let (inside, outside) = split(rest, &self.element(set, key, &element.first, &element.last), false);
            rest = outside;
            match &element.verdict {
                Some(verdict) if !inside.is_empty() => {
                    onward.add(self.verdict(table, verdict, inside, fate, returned, depth));
                }
                Some(_) => {}
                None => self.lost = true,
            }
        }
        match &set.otherwise {
            Some(Some(verdict)) => onward.add(self.verdict(table, verdict, rest, fate, returned, depth)),
            Some(None) => self.lost = true,
            None => fate.rest.add(rest),
        }
        onward
    }
}

fn bytes(registers: &[Byte; 64], from: usize, length: usize) -> &[Byte] {
    registers.get(from..from + length).unwrap_or_default()
}

/// Stores and fills up the last word with zeros, as the kernel does.
fn put(registers: &mut [Byte; 64], to: usize, value: &[Byte]) {
    for index in 0..value.len().next_multiple_of(4) {
        if let Some(place) = registers.get_mut(to + index) {
            *place = value.get(index).copied().unwrap_or(Byte::Known(0));
        }
    }
}

fn masked(byte: Byte, mask: u8, xor: u8) -> Byte {
    match byte {
        Byte::Known(known) => Byte::Known(known & mask ^ xor),
        _ if mask == 0 => Byte::Known(xor),
        Byte::Part(side, index, left) if xor == 0 => Byte::Part(side, index, left & mask),
        Byte::Kind(..) if mask == 0xff && xor == 0 => byte,
        Byte::Part(..) | Byte::Kind(..) | Byte::Unknown => Byte::Unknown,
    }
}

/// A number of `width` bytes from its first bytes.
fn padded(bytes: &[u8], width: usize, fill: u8) -> u128 {
    (0..width).fold(0, |number, index| number << 8 | u128::from(bytes.get(index).copied().unwrap_or(fill)))
}

fn both(a: Condition, b: Condition) -> Condition {
    match (a, b) {
        (Condition::Never, _) | (_, Condition::Never) => Condition::Never,
        (Condition::Always, other) | (other, Condition::Always) => other,
        // Intervals and equalities only are joined: an outside never comes here.
        (Condition::Outside { .. }, _) | (_, Condition::Outside { .. }) => Condition::Maybe,
        (Condition::Maybe, Condition::Maybe) => Condition::Maybe,
        (Condition::Maybe, Condition::Within { block, .. }) | (Condition::Within { block, .. }, Condition::Maybe) => {
            Condition::Within { block, sure: false }
        }
        (Condition::Within { block: a, sure: c }, Condition::Within { block: b, sure: d }) => {
            let sides = std::array::from_fn(|side| a.0[side].and(&b.0[side]));
            if sides.iter().any(Ranges::is_empty) {
                return Condition::Never;
            }
            Condition::Within { block: Box::new(Block(sides)), sure: c && d }
        }
    }
}

fn not(condition: Condition) -> Condition {
    match condition {
        Condition::Always => Condition::Never,
        Condition::Never => Condition::Always,
        Condition::Maybe => Condition::Maybe,
        Condition::Within { block, sure } => Condition::Outside { block, sure },
        Condition::Outside { block, sure } => Condition::Within { block, sure },
    }
}

/// Those that fulfil a condition and those that do not; whoever may do either is in both.
fn split(region: Region, condition: &Condition, inverted: bool) -> (Region, Region) {
    let (hit, miss) = match condition {
        Condition::Always => (region, Region::default()),
        Condition::Never => (Region::default(), region),
        Condition::Maybe => (region.clone(), region),
        Condition::Within { block, sure: true } => (region.and(block), region.minus_block(block)),
        Condition::Within { block, sure: false } => (region.and(block), region),
        Condition::Outside { block, sure: true } => (region.minus_block(block), region.and(block)),
        Condition::Outside { block, sure: false } => {
            let inside = region.and(block);
            (region, inside)
        }
    };
    if inverted { (miss, hit) } else { (hit, miss) }
}
