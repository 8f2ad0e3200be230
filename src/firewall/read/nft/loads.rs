//! Expressions that fill registers from the packet or from what the kernel knows of it.

use std::borrow::Cow;

use super::expression::{Data, length, number, to};
use crate::firewall::ruleset::{Back, Connection, Header, Meta, Setting, Step};

pub(super) fn payload(data: &Data<'_>) -> Option<Step> {
    if data[5].is_some() {
        return written(data);
    }
    let header = match number(data, 2)? {
        1 => Header::Network,
        2 => Header::Transport,
        0 | 3 | 4 => Header::Other,
        _ => return None,
    };
    let to = to(data, 1)?;
    Some(Step::Payload { to, header, offset: number(data, 3)?, length: length(data, 4, to)? })
}

/// Writing into the packet: traffic class and DSCP decide nothing here, anything else might.
fn written(data: &Data<'_>) -> Option<Step> {
    let (base, offset, length) = (number(data, 2)?, number(data, 3)?, number(data, 4)?);
    let harmless = match base {
        0 => true,
        1 => offset.checked_add(length)? <= 2,
        _ => false,
    };
    Some(if harmless { Step::Nothing } else { Step::Unknown("payload set".to_owned()) })
}

pub(super) fn meta(data: &Data<'_>) -> Option<Step> {
    const MARK: u32 = 3;
    let key = number(data, 2)?;
    if data[3].is_some() {
        return Some(match key {
            MARK => Step::Set { what: Setting::Mark, from: to(data, 3)? },
            // priority, nftrace, secmark
            2 | 12 | 14 => Step::Nothing,
            // packet type, what a bridge does with it
            _ => Step::Unknown("meta set".to_owned()),
        });
    }
    let to = to(data, 1)?;
    let (meaning, length) = match key {
        1 => (Meta::Protocol, 2),
        MARK => (Meta::Mark, 4),
        4 => (Meta::Iif, 4),
        5 => (Meta::Oif, 4),
        6 => (Meta::IifName, 16),
        7 => (Meta::OifName, 16),
        15 => (Meta::NfProto, 1),
        16 => (Meta::L4Proto, 1),
        19 => (Meta::PacketType, 1),
        // length, priority, kinds and groups of interfaces, owners, random numbers, clocks …
        0..=34 => (Meta::Other, 16),
        // What a newer kernel loads may be of any length, and may end the rule.
        _ => return Some(Step::Load { to: 0, length: 64, what: Cow::Borrowed("meta") }),
    };
    (to + length <= 64).then_some(Step::Meta { to, key: meaning })
}

pub(super) fn connection(data: &Data<'_>) -> Option<Step> {
    const STATE: u32 = 0;
    let key = number(data, 2)?;
    if data[4].is_some() {
        let from = to(data, 4)?;
        return Some(match key {
            3 => Step::Set { what: Setting::ConnectionMark, from },
            17 => Step::Set { what: Setting::Zone, from },
            // secmark, labels, event mask
            4 | 13 | 18 => Step::Nothing,
            _ => return None,
        });
    }
    let to = to(data, 1)?;
    let reply = match data[3] {
        Some(direction) => *direction.first()? != 0,
        None => false,
    };
    let (key, length) = match key {
        STATE => return Some(Step::CtState { to }),
        1 => (Connection::Direction, 1),
        2 => (Connection::Status, 4),
        3 => (Connection::Mark, 4),
        8 => (Connection::Source, 16),
        9 => (Connection::Destination, 16),
        10 => (Connection::Protocol, 1),
        11 => (Connection::SourcePort, 2),
        12 => (Connection::DestinationPort, 2),
        19 => (Connection::Source, 4),
        20 => (Connection::Destination, 4),
        21 => (Connection::Source, 16),
        22 => (Connection::Destination, 16),
        // expiration, helper, labels, counters, zone, id
        _ => return Some(Step::Load { to, length: 16.min(64 - to), what: Cow::Borrowed("ct") }),
    };
    (to + length <= 64).then_some(Step::Connection { to, key, reply })
}

pub(super) fn fib(data: &Data<'_>) -> Option<Step> {
    const TYPE: u32 = 3;
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;
    const INTERFACE: u32 = 1;
    const NAME: u32 = 2;
    const MARK: u32 = 4;
    const BY_ENTRY: u32 = 8;
    const PRESENT: u32 = 32;
    let to = to(data, 1)?;
    let (result, flags) = (number(data, 2)?, number(data, 3)?);
    let length = match result {
        _ if flags & PRESENT != 0 => 1,
        INTERFACE => 4,
        _ => 16,
    };
    Some(match (result, flags) {
        // The mark chooses between tables only.
        (INTERFACE | NAME, _) if flags & !(MARK | BY_ENTRY | PRESENT) == SOURCE && to + length <= 64 => {
            let back = if flags & BY_ENTRY != 0 { Back::Through } else { Back::Any };
            Step::Route { to, back, length }
        }
        (TYPE, _) if flags & !BY_ENTRY == SOURCE || flags & !BY_ENTRY == DESTINATION => {
            Step::AddressType { to, destination: flags & DESTINATION != 0, near: flags & BY_ENTRY != 0 }
        }
        _ => Step::Load { to, length: 16.min(64 - to), what: Cow::Borrowed("fib") },
    })
}

/// Extension headers and options.
pub(super) fn exthdr(data: &Data<'_>) -> Option<Step> {
    const PRESENT: u32 = 1;
    const TCP: u32 = 1;
    const SCTP: u32 = 3;
    const DCCP: u32 = 4;
    let (flags, operation) = (number(data, 5).unwrap_or(0), number(data, 6).unwrap_or(0));
    // Writing an option, or taking it out.
    if data[1].is_none() {
        return Some(Step::Nothing);
    }
    let to = to(data, 1)?;
    let length = number(data, 4).map_or(4, |length| length as usize).clamp(1, 64 - to);
    let what = Cow::Borrowed("header option");
    Some(match operation {
        // Every handshake has some of these.
        TCP | SCTP | DCCP => Step::Load { to, length, what },
        _ if flags & PRESENT != 0 => Step::Load { to, length, what },
        // IPv6 extension headers, IPv4 options: without them the rule ends.
        _ => Step::Unusual,
    })
}

/// The register of something that nobody can foretell.
pub(super) fn loaded(data: &Data<'_>, wanted: usize, length: usize, what: &'static str) -> Option<Step> {
    let to = to(data, wanted)?;
    Some(Step::Load { to, length: length.min(64 - to), what: Cow::Borrowed(what) })
}

pub(super) fn byteorder(data: &Data<'_>) -> Option<Step> {
    let (from, to) = (to(data, 1)?, to(data, 2)?);
    let length = length(data, 4, from.max(to))?;
    let size = number(data, 5)? as usize;
    matches!(size, 2 | 4 | 8).then_some(Step::Swap { from, to, length, size })
}
