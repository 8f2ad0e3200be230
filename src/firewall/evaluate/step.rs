//! What the expressions of a rule leave in the registers.

use super::arithmetic::calculate;
use super::condition::Condition;
use super::hooks::{DESTINATIONS, SOURCES};
use super::state::{Now, Tracked};
use super::{Exit, Packet, Tracking, Walk};
use crate::firewall::place::Side as GateSide;
use crate::firewall::region::Side;
use crate::firewall::ruleset::{Back, Connection, Header, Hook, Meta, Step};
use crate::firewall::world::has_ports;
use crate::model::ranges::{Family, Ranges};

/// What is known of one byte in a register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Byte {
    Known(u8),
    /// Byte of a side as the sender wrote it, counted from its first, and the bits that are left.
    Part(Side, u8, u8),
    /// Byte of the type of an address (`RTN_…` in host byte order), of which the interface of the
    /// packet alone may tell (`true`).
    Kind(Side, u8, bool),
    /// A byte of what [`Step::Route`] finds.
    Back(Back),
    /// The first header behind that of IPv6: this one, unless an extension header stands before it.
    Header(u8),
    /// A mask of bits that are known, and their values.
    Bits(u8, u8),
    /// Whom the frame was for, as its destination says.
    Frame,
    Unknown,
}

impl Byte {
    /// Its value, where all of it is known.
    pub(super) fn known(self) -> Option<u8> {
        match self {
            Self::Known(byte) => Some(byte),
            Self::Part(..)
            | Self::Kind(..)
            | Self::Back(_)
            | Self::Header(_)
            | Self::Bits(..)
            | Self::Frame
            | Self::Unknown => None,
        }
    }
}

fn known(bytes: &[u8]) -> Vec<Byte> {
    bytes.iter().map(|byte| Byte::Known(*byte)).collect()
}

impl Walk<'_> {
    /// Fills registers; those packets that fulfil what comes back go on in the rule.
    pub(super) fn load(&self, step: &Step, registers: &mut [Byte; 64]) -> Condition {
        let (to, value, condition) = match step {
            Step::Payload { to, header, offset, length } => {
                let length32 = u32::try_from(*length).unwrap_or(u32::MAX);
                // Beyond the headers that every packet has, the rule may end here.
                let there = offset.saturating_add(length32) <= self.shortest(*header);
                let value = (0..*length).map(|index| self.header_byte(*header, *offset as usize + index));
                (*to, value.collect(), if there { Condition::Always } else { Condition::Maybe })
            }
            Step::Meta { to, key } => (*to, self.meta(*key), Condition::Always),
            Step::CtState { to } => {
                let state = self.state();
                let value = match state {
                    Some(state) => known(&state.to_ne_bytes()),
                    None => vec![Byte::Unknown; 4],
                };
                (*to, value, Condition::Always)
            }
            Step::Connection { to, key, reply } => {
                let condition = match self.followed() {
                    Some(true) => Condition::Always,
                    // Of what is not tracked nothing is loaded, and the rule ends.
                    Some(false) => Condition::Never,
                    None => Condition::Maybe,
                };
                (*to, self.connection(*key, *reply), condition)
            }
            Step::AddressType { to, destination, near } => {
                (*to, self.address_type(*destination, *near), Condition::Always)
            }
            Step::Route { to, back, length } => (*to, self.way_back(*back, *length), Condition::Always),
            Step::Bitwise { from, to, mask, xor } => {
                let taken = bytes(registers, *from, mask.len()).iter();
                let made =
                    taken.zip(mask.iter().zip(xor)).map(|(byte, (mask, xor))| masked(*byte, *mask, *xor));
                (*to, made.collect(), Condition::Always)
            }
            Step::Shift { .. } | Step::Combine { .. } | Step::Swap { .. } => {
                calculate(step, registers);
                return Condition::Always;
            }
            Step::Constant { to, value } => (*to, known(value), Condition::Always),
            Step::Load { to, length, .. } => (*to, vec![Byte::Unknown; *length], Condition::Maybe),
            Step::Compare { .. }
            | Step::Range { .. }
            | Step::Lookup { .. }
            | Step::Verdict(_)
            | Step::Translate(_)
            | Step::Set { .. }
            | Step::Untrack
            | Step::Extension(_)
            | Step::Unusual
            | Step::Maybe(_)
            | Step::Nothing
            | Step::Unknown(_) => return Condition::Maybe,
        };
        put(registers, to, &value);
        condition
    }

    /// Whether connection tracking follows the packet here.
    fn followed(&self) -> Option<bool> {
        let tracked = match self.state.tracked {
            Tracked::Yes => true,
            // Other packets of the flow may be tracked all the same.
            Tracked::No if self.station.packet == Packet::First => false,
            Tracked::No | Tracked::Untold => return None,
        };
        match self.tracking {
            Tracking::Seen => Some(tracked),
            Tracking::Unseen => Some(false),
            Tracking::Untold => None,
        }
    }

    /// The bit of the connection's state. Before connection tracking saw a packet it counts as
    /// invalid (`nft_ct_get_eval`); what comes by loopback was seen on its way out.
    pub(super) fn state(&self) -> Option<u32> {
        const INVALID: u32 = 1;
        const ESTABLISHED: u32 = 2;
        const NEW: u32 = 8;
        const UNTRACKED: u32 = 64;
        match (self.followed()?, self.state.tracked) {
            (true, _) => Some(if self.station.packet == Packet::First { NEW } else { ESTABLISHED }),
            (false, Tracked::No) => Some(UNTRACKED),
            (false, Tracked::Yes | Tracked::Untold) => Some(INVALID),
        }
    }

    /// Whether the packet is one that comes in.
    pub(super) fn arrives(&self) -> bool {
        matches!(self.station.hook, Hook::Ingress | Hook::Prerouting | Hook::Input)
    }

    /// The side of the question that is the packet's destination (or source): of an answer, the other.
    pub(super) fn side(&self, destination: bool) -> Side {
        if destination != self.reply() { Side::Destination } else { Side::Source }
    }

    /// What a side of the flow looks like here; `None` where nobody can tell whether it is translated
    /// yet. Answers are translated back on the way, at the opposite hooks (`nf_nat_inet_fn`).
    fn view(&self, side: Side) -> Option<&Now> {
        let (came, now) = (&self.state.came[side as usize], &self.state.now[side as usize]);
        let own = self.station.own;
        let after = |at: i32| match self.priority.cmp(&at) {
            std::cmp::Ordering::Less => Some(false),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(true),
        };
        let source = side == Side::Source;
        let translated = match (self.station.packet, self.station.hook, source) {
            (Packet::First, _, _) => Some(true),
            (Packet::Third, Hook::Ingress, false) => Some(own),
            (Packet::Third, Hook::Prerouting, false) if own => Some(true),
            (Packet::Third, Hook::Prerouting | Hook::Output, false) => after(DESTINATIONS),
            (Packet::Third, _, false) => Some(true),
            (Packet::Third, Hook::Postrouting, true) => after(SOURCES),
            (Packet::Third, Hook::Input, true) if !own => after(SOURCES),
            (Packet::Third, Hook::Ingress | Hook::Prerouting | Hook::Input, true) => Some(own),
            (Packet::Third, _, true) => Some(false),
            (Packet::Answer, Hook::Postrouting, false) => after(SOURCES).map(|after| !after),
            (Packet::Answer, Hook::Ingress | Hook::Prerouting | Hook::Input, false) => Some(!own),
            (Packet::Answer, _, false) => Some(true),
            (Packet::Answer, Hook::Prerouting, true) if !own => after(DESTINATIONS).map(|after| !after),
            (Packet::Answer, Hook::Output, true) => after(DESTINATIONS).map(|after| !after),
            (Packet::Answer, Hook::Ingress, true) => Some(!own),
            (Packet::Answer, _, true) => Some(false),
        };
        match translated {
            Some(true) => Some(now),
            Some(false) => Some(came),
            None => (came == now).then_some(now),
        }
    }

    /// A byte of a side as it is here.
    fn side_byte(&self, view: Option<&Now>, side: Side, index: usize) -> Byte {
        match view {
            Some(None) => Byte::Part(side, u8::try_from(index).unwrap_or(u8::MAX), 0xff),
            Some(Some(set)) => match set.only() {
                Some(number) => Byte::Known((number >> (8 * (self.width(side) - 1 - index))) as u8),
                None => Byte::Unknown,
            },
            None => Byte::Unknown,
        }
    }

    /// How long a header is at least, in bytes.
    fn shortest(&self, header: Header) -> u32 {
        match (header, self.question.family, self.question.protocol) {
            (Header::Network, Family::V4, _) => 20,
            (Header::Network, Family::V6, _) => 40,
            (Header::Transport, _, Some(6)) => 20,
            (Header::Transport, _, Some(17 | 136)) => 8,
            (Header::Transport, _, Some(_) | None) => 4,
            (Header::Other, ..) => 0,
        }
    }

    /// The flags with which a handshake is made: SYN, SYN and ACK, ACK (RFC 9293 section 3.5). Those of
    /// congestion (RFC 3168) may be set or not.
    fn flags(&self) -> Byte {
        let flags = match self.station.packet {
            Packet::First => 0x02,
            Packet::Answer => 0x12,
            Packet::Third => 0x10,
        };
        Byte::Bits(0x3f, flags)
    }

    fn header_byte(&self, header: Header, at: usize) -> Byte {
        let address = |destination: bool, index: usize| {
            let side = self.side(destination);
            self.side_byte(self.view(side), side, index)
        };
        let protocol = self.question.protocol.map_or(Byte::Unknown, Byte::Known);
        // The port of the listener: destination of what comes, source of the answer.
        let port = |index| match self.has_ports() {
            true => self.side_byte(self.view(Side::Port), Side::Port, index),
            false => Byte::Unknown,
        };
        match (header, self.question.family, at) {
            (Header::Network, Family::V4, 9) => protocol,
            (Header::Network, Family::V4, 12..16) => address(false, at - 12),
            (Header::Network, Family::V4, 16..20) => address(true, at - 16),
            (Header::Network, Family::V6, 6) => self.question.protocol.map_or(Byte::Unknown, Byte::Header),
            (Header::Network, Family::V6, 8..24) => address(false, at - 8),
            (Header::Network, Family::V6, 24..40) => address(true, at - 24),
            (Header::Transport, _, 0..2) if self.reply() => port(at),
            (Header::Transport, _, 2..4) if !self.reply() => port(at - 2),
            (Header::Transport, _, 13) if self.question.protocol == Some(6) => self.flags(),
            _ => Byte::Unknown,
        }
    }

    pub(super) fn has_ports(&self) -> bool {
        self.question.protocol.is_some_and(has_ports)
    }

    fn meta(&self, key: Meta) -> Vec<Byte> {
        let name = |name: &[u8]| -> Vec<Byte> {
            let mut padded = [0; 16];
            let length = name.len().min(15);
            padded[..length].copy_from_slice(&name[..length]);
            known(&padded)
        };
        let entry = self.station.entry;
        match key {
            Meta::Protocol => known(if self.question.family == Family::V4 { &[8, 0] } else { &[0x86, 0xdd] }),
            Meta::NfProto if self.station.hook == Hook::Ingress => vec![Byte::Unknown],
            Meta::NfProto => known(&[if self.question.family == Family::V4 { 2 } else { 10 }]),
            Meta::L4Proto => vec![self.question.protocol.map_or(Byte::Unknown, Byte::Known)],
            Meta::Mark => match self.state.mark {
                Some(mark) => known(&mark.to_ne_bytes()),
                None => vec![Byte::Unknown; 4],
            },
            Meta::Iif => known(&entry.map_or(0, |gate| gate.index).to_ne_bytes()),
            Meta::IifName => name(entry.map_or(b"", |gate| gate.name.as_bytes())),
            Meta::Oif => match self.station.exit {
                Exit::None => known(&[0; 4]),
                Exit::Gate(gate) => known(&gate.index.to_ne_bytes()),
                Exit::Untold => vec![Byte::Unknown; 4],
            },
            Meta::OifName => match self.station.exit {
                Exit::None => name(b""),
                Exit::Gate(gate) => name(gate.name.as_bytes()),
                Exit::Untold => vec![Byte::Unknown; 16],
            },
            Meta::PacketType => vec![self.frame()],
            Meta::Other => vec![Byte::Unknown; 16],
        }
    }

    /// What connection tracking says of the flow: its first direction is that of the packets that
    /// came, the other answers what they were made into.
    fn connection(&self, key: Connection, reply: bool) -> Vec<Byte> {
        let state = &self.state;
        let side = |side: Side, now: &Now| -> Vec<Byte> {
            (0..self.width(side)).map(|index| self.side_byte(Some(now), side, index)).collect()
        };
        let number = |value: Option<u32>| match value {
            Some(value) => known(&value.to_ne_bytes()),
            None => vec![Byte::Unknown; 4],
        };
        match (key, reply) {
            (Connection::Direction, _) => known(&[u8::from(self.reply())]),
            (Connection::Status, _) => self.status(),
            (Connection::Mark, _) => number(state.flow_mark),
            (Connection::Source, false) => side(Side::Source, &state.came[Side::Source as usize]),
            (Connection::Destination, false) => {
                side(Side::Destination, &state.came[Side::Destination as usize])
            }
            (Connection::Source, true) => side(Side::Destination, &state.now[Side::Destination as usize]),
            (Connection::Destination, true) => side(Side::Source, &state.now[Side::Source as usize]),
            (Connection::DestinationPort, false) if self.has_ports() => {
                side(Side::Port, &state.came[Side::Port as usize])
            }
            (Connection::SourcePort, true) if self.has_ports() => {
                side(Side::Port, &state.now[Side::Port as usize])
            }
            (Connection::SourcePort | Connection::DestinationPort, _) => vec![Byte::Unknown; 2],
            (Connection::Protocol, _) => vec![self.question.protocol.map_or(Byte::Unknown, Byte::Known)],
        }
    }

    /// `IPS_SEEN_REPLY` and whether an end was translated, `IPS_SRC_NAT` and `IPS_DST_NAT`; the rest is
    /// not told.
    fn status(&self) -> Vec<Byte> {
        const SEEN_REPLY: u8 = 2;
        const SOURCE: u8 = 0x10;
        const DESTINATION: u8 = 0x20;
        let state = &self.state;
        let mut mask = SEEN_REPLY;
        let mut value = if self.station.packet == Packet::First { 0 } else { SEEN_REPLY };
        for (bit, sides) in
            [(SOURCE, &[Side::Source][..]), (DESTINATION, &[Side::Destination, Side::Port][..])]
        {
            let changed = |side: &Side| state.came[*side as usize] != state.now[*side as usize];
            // What was translated to what it was before has no such bit; ports of the source nobody
            // tells.
            if bit == DESTINATION && !sides.iter().any(changed) {
                mask |= bit;
            } else if (bit == DESTINATION && state.moved)
                || sides.iter().any(|side| changed(side) && self.surely_changed(*side))
            {
                mask |= bit;
                value |= bit;
            }
        }
        let mut bytes = [Byte::Unknown; 4];
        bytes[if cfg!(target_endian = "little") { 0 } else { 3 }] = Byte::Bits(mask, value);
        bytes.to_vec()
    }

    /// No packet can have had before what it was translated to.
    fn surely_changed(&self, side: Side) -> bool {
        match (&self.state.came[side as usize], &self.state.now[side as usize]) {
            (Some(came), Some(now)) => !came.meets(now),
            _ => false,
        }
    }

    /// The type of an address: of one that was translated it may be known.
    fn address_type(&self, destination: bool, near: bool) -> Vec<Byte> {
        let side = self.side(destination);
        match self.view(side) {
            Some(None) => (0..4).map(|index| Byte::Kind(side, index, near)).collect(),
            Some(Some(set)) => match self.kind_of(set, near) {
                Some(kind) => known(&kind.to_ne_bytes()),
                None => vec![Byte::Unknown; 4],
            },
            None => vec![Byte::Unknown; 4],
        }
    }

    /// A route back to the source: by loopback there always is one (`nft_fib_can_skip`).
    fn way_back(&self, back: Back, length: usize) -> Vec<Byte> {
        let early = matches!(self.station.hook, Hook::Ingress | Hook::Prerouting);
        let entry = self.station.entry;
        let loopback = self.station.own || entry.is_some_and(|gate| gate.side == GateSide::Loopback);
        if loopback {
            return match (early, length, entry) {
                (true, 1, _) => known(&[1]),
                (true, 4, Some(gate)) => known(&gate.index.to_ne_bytes()),
                _ => vec![Byte::Unknown; length],
            };
        }
        let plain = self.station.packet != Packet::Answer
            && self.arrives()
            && !self.place.chooses(self.question.family);
        let written = matches!(self.view(Side::Source), Some(None));
        match plain && written && entry.is_some_and(|gate| gate.master.is_none()) {
            true => vec![Byte::Back(back); length],
            false => vec![Byte::Unknown; length],
        }
    }

    /// Ports and addresses that stand here in place of what the sender wrote; `Some(None)` as he
    /// wrote it.
    pub(super) fn seen(&self, side: Side) -> Option<Option<&Ranges>> {
        self.view(side).map(Option::as_ref)
    }
}

pub(super) fn bytes(registers: &[Byte; 64], from: usize, length: usize) -> &[Byte] {
    registers.get(from..from + length).unwrap_or_default()
}

/// Stores and fills up the last word with zeros, as the kernel does.
pub(super) fn put(registers: &mut [Byte; 64], to: usize, value: &[Byte]) {
    for index in 0..value.len().next_multiple_of(4) {
        if let Some(place) = registers.get_mut(to + index) {
            *place = value.get(index).copied().unwrap_or(Byte::Known(0));
        }
    }
}

pub(super) fn masked(byte: Byte, mask: u8, xor: u8) -> Byte {
    match byte {
        Byte::Known(known) => Byte::Known(known & mask ^ xor),
        _ if mask == 0 => Byte::Known(xor),
        Byte::Part(side, index, left) if xor == 0 => Byte::Part(side, index, left & mask),
        Byte::Kind(..) if mask == 0xff && xor == 0 => byte,
        Byte::Bits(known, value) => match known | !mask {
            0xff => Byte::Known(value & mask ^ xor),
            known => Byte::Bits(known, value & mask ^ xor),
        },
        Byte::Back(_) | Byte::Header(_) | Byte::Frame if mask == 0xff && xor == 0 => byte,
        Byte::Part(..) | Byte::Kind(..) | Byte::Back(_) | Byte::Header(_) | Byte::Frame | Byte::Unknown => {
            Byte::Unknown
        }
    }
}
