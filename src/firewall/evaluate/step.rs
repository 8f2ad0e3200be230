//! What the expressions of a rule leave in the registers.

use super::arithmetic::calculate;
use super::{Packet, Tracking, Walk};
use crate::firewall::place::Side as GateSide;
use crate::firewall::ranges::Family;
use crate::firewall::region::Side;
use crate::firewall::ruleset::{Header, Hook, Meta, Step};

/// What is known of one byte in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Byte {
    Known(u8),
    /// Byte of a side, counted from its first, and the bits that are left of it.
    Part(Side, u8, u8),
    /// Byte of the type of an address (`RTN_…` in host byte order).
    Kind(Side, u8),
    /// The flags of TCP; those of congestion (RFC 3168) may be set or not.
    Flags(u8),
    Unknown,
}

impl Walk<'_> {
    /// True when the step has no other effect than on registers.
    pub(super) fn load(&self, step: &Step, registers: &mut [Byte; 64]) -> bool {
        match step {
            Step::Payload { to, header, offset, length } => {
                put(registers, *to, &self.payload(*header, *offset, *length));
                // Beyond the headers that every packet has, the rule may end here.
                offset.saturating_add(u32::try_from(*length).unwrap_or(u32::MAX)) <= self.shortest(*header)
            }
            Step::Meta { to, key } => {
                put(registers, *to, &self.meta(*key));
                true
            }
            Step::CtState { to } => {
                let known = self.state();
                let state = known
                    .unwrap_or_default()
                    .to_ne_bytes()
                    .map(|byte| if known.is_some() { Byte::Known(byte) } else { Byte::Unknown });
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
                let made: Vec<Byte> = taken
                    .iter()
                    .zip(mask.iter().zip(xor))
                    .map(|(byte, (mask, xor))| masked(*byte, *mask, *xor))
                    .collect();
                put(registers, *to, &made);
                true
            }
            Step::Constant { to, value } => {
                let known: Vec<Byte> = value.iter().map(|byte| Byte::Known(*byte)).collect();
                put(registers, *to, &known);
                true
            }
            Step::Connection { to, key, reply } => {
                put(registers, *to, &self.connection(*key, *reply));
                true
            }
            Step::Shift { .. } | Step::Combine { .. } | Step::Swap { .. } => {
                calculate(step, registers);
                true
            }
            Step::Load { to, length, .. } => {
                put(registers, *to, &vec![Byte::Unknown; *length]);
                false
            }
            Step::Compare { .. }
            | Step::Range { .. }
            | Step::Lookup { .. }
            | Step::Verdict(_)
            | Step::Extension(_)
            | Step::Unusual
            | Step::Maybe(_)
            | Step::Translate(_)
            | Step::Set { .. }
            | Step::Untrack
            | Step::Nothing
            | Step::Unknown(_) => false,
        }
    }

    /// The bit of the connection's state; `None` where it may be untracked. Before connection
    /// tracking saw a packet it counts as invalid (`nft_ct_get_eval`); what comes by loopback was
    /// seen on its way out.
    pub(super) fn state(&self) -> Option<u32> {
        const INVALID: u32 = 1;
        const ESTABLISHED: u32 = 2;
        const NEW: u32 = 8;
        if self.ruleset.untracks {
            return None;
        }
        let seen = if self.packet == Packet::First { NEW } else { ESTABLISHED };
        match self.tracking {
            Tracking::Seen => Some(seen),
            Tracking::Unseen => Some(INVALID),
            Tracking::Untold => None,
        }
    }

    /// Whether the packet is one that comes in.
    pub(super) fn arrives(&self) -> bool {
        matches!(self.hook, Hook::Ingress | Hook::Prerouting | Hook::Input)
    }

    /// Whether it is sent by a program of this computer.
    pub(super) fn loopback(&self) -> bool {
        self.gate.side == GateSide::Loopback || self.question.echoed
    }

    /// The side of the question that is the packet's destination (or source): of an answer, the other.
    pub(super) fn side(&self, destination: bool) -> Side {
        if destination != self.reply { Side::Destination } else { Side::Source }
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

    /// The flags with which a handshake is made: SYN, SYN and ACK, ACK (RFC 9293 section 3.5).
    fn flags(&self) -> u8 {
        match self.packet {
            Packet::First => 0x02,
            Packet::Answer => 0x12,
            Packet::Third => 0x10,
        }
    }

    pub(super) fn payload(&self, header: Header, offset: u32, length: usize) -> Vec<Byte> {
        (0..length).map(|index| self.header_byte(header, offset as usize + index)).collect()
    }

    pub(super) fn header_byte(&self, header: Header, at: usize) -> Byte {
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
            (Header::Transport, _, 0..2) if self.reply && self.has_ports() => {
                Byte::Part(Side::Port, at as u8, 0xff)
            }
            (Header::Transport, _, 2..4) if !self.reply && self.has_ports() => {
                Byte::Part(Side::Port, at as u8 - 2, 0xff)
            }
            (Header::Transport, _, 13) if self.question.protocol == Some(6) => Byte::Flags(self.flags()),
            _ => Byte::Unknown,
        }
    }

    pub(super) fn has_ports(&self) -> bool {
        matches!(self.question.protocol, Some(6 | 17 | 33 | 132 | 136))
    }

    pub(super) fn meta(&self, key: Meta) -> Vec<Byte> {
        let known = |bytes: &[u8]| bytes.iter().map(|byte| Byte::Known(*byte)).collect();
        let name = |name: &[u8]| -> Vec<Byte> {
            let mut padded = [0; 16];
            let length = name.len().min(15);
            padded[..length].copy_from_slice(&name[..length]);
            known(&padded)
        };
        let (loopback, incoming) = (self.loopback(), self.arrives());
        match key {
            Meta::Protocol => known(if self.question.family == Family::V4 { &[8, 0] } else { &[0x86, 0xdd] }),
            Meta::NfProto if self.hook == Hook::Ingress => vec![Byte::Unknown],
            Meta::NfProto => known(&[if self.question.family == Family::V4 { 2 } else { 10 }]),
            Meta::L4Proto => vec![self.question.protocol.map_or(Byte::Unknown, Byte::Known)],
            // What answers may have a mark of its own (SO_MARK).
            Meta::Mark if !self.ruleset.marks && !self.reply => known(&[0; 4]),
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
            // A transport with connections takes no frame that was meant for others (`tcp_v4_rcv`,
            // `sctp_rcv`); a datagram may come in any.
            Meta::PacketType if matches!(self.question.protocol, Some(6 | 132)) => known(&[0]),
            Meta::PacketType => vec![Byte::Unknown],
            Meta::OifName | Meta::Other => vec![Byte::Unknown; 16],
        }
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

/// ECE and CWR.
const CONGESTION: u8 = 0xc0;

pub(super) fn masked(byte: Byte, mask: u8, xor: u8) -> Byte {
    match byte {
        Byte::Known(known) => Byte::Known(known & mask ^ xor),
        _ if mask == 0 => Byte::Known(xor),
        Byte::Part(side, index, left) if xor == 0 => Byte::Part(side, index, left & mask),
        Byte::Kind(..) if mask == 0xff && xor == 0 => byte,
        Byte::Flags(flags) if mask & CONGESTION == 0 => Byte::Known(flags & mask ^ xor),
        Byte::Part(..) | Byte::Kind(..) | Byte::Flags(_) | Byte::Unknown => Byte::Unknown,
    }
}
