//! What connection tracking knows of a new flow, as long as nothing translates it.

use super::condition::Condition;
use super::step::Byte;
use super::{Packet, Tracking, Walk};
use crate::firewall::ranges::Family;
use crate::firewall::ruleset::{Connection, Header};

impl Walk<'_> {
    /// The bytes that a fact of the flow puts into a register, of the first packet's direction or of
    /// the answer's.
    pub(super) fn connection(&self, key: Connection, reply: bool) -> Vec<Byte> {
        let unsure = self.ruleset.untracks || self.tracking != Tracking::Seen;
        let width = if self.question.family == Family::V4 { 4 } else { 16 };
        let unknown = |length| vec![Byte::Unknown; length];
        // The packet at hand runs with the flow's direction or against it: then what is the flow's
        // source is the packet's destination.
        let against = reply != (self.packet == Packet::Answer);
        let header = |v4: u32, v6: u32| match self.question.family {
            Family::V4 => self.payload(Header::Network, v4, 4),
            Family::V6 => self.payload(Header::Network, v6, 16),
        };
        match key {
            Connection::Direction if unsure => unknown(1),
            Connection::Direction => vec![Byte::Known(u8::from(self.packet == Packet::Answer))],
            Connection::Source | Connection::Destination if unsure || self.ruleset.steers() => unknown(width),
            Connection::Source if !against => header(12, 8),
            Connection::Destination if against => header(12, 8),
            Connection::Source | Connection::Destination => header(16, 24),
            Connection::SourcePort | Connection::DestinationPort if unsure || self.ruleset.steers() => {
                unknown(2)
            }
            Connection::SourcePort if !against => self.payload(Header::Transport, 0, 2),
            Connection::DestinationPort if against => self.payload(Header::Transport, 0, 2),
            Connection::SourcePort | Connection::DestinationPort => self.payload(Header::Transport, 2, 2),
            Connection::Protocol if unsure => unknown(1),
            Connection::Protocol => vec![self.question.protocol.map_or(Byte::Unknown, Byte::Known)],
            Connection::Status | Connection::Mark => unknown(4),
        }
    }

    /// What a match on ports of a bridge says. Whether a bridge hands packets to these rules is a
    /// setting that is not known here.
    pub(super) fn bridge_port(&self, otherwise: bool) -> Condition {
        match (self.gate.bridge || self.reply, otherwise) {
            (true, _) => Condition::Maybe,
            (false, true) => Condition::Always,
            (false, false) => Condition::Never,
        }
    }
}
