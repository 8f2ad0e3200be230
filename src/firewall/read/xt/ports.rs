//! Matches on ports and flags of the transport's header.

use std::borrow::Cow;

use super::{short, sized, word};
use crate::firewall::ruleset::{Compare, Extension, Header, Step};

const EVERY: (u16, u16) = (0, u16::MAX);

/// A range of source (`false`) or destination ports, in the packet's byte order.
fn range(destination: bool, (first, last): (u16, u16), inverted: bool) -> Vec<Step> {
    if (first, last) == EVERY && !inverted {
        return Vec::new();
    }
    let offset = if destination { 2 } else { 0 };
    let (first, last) = (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
    vec![
        Step::Payload { to: 0, header: Header::Transport, offset, length: 2 },
        Step::Range { from: 0, inverted, first, last },
    ]
}

fn pair(info: &[u8], at: usize) -> Option<(u16, u16)> {
    Some((short(info, at)?, short(info, at + 2)?))
}

/// `struct xt_tcp`
pub(super) fn tcp(info: &[u8]) -> Option<Vec<Step>> {
    const FLAGS: u8 = 4;
    let info = sized(info, 12)?;
    let (option, mask, flags, inverted) = (info[8], info[9], info[10], info[11]);
    let mut steps = range(false, pair(info, 0)?, inverted & 1 != 0);
    steps.extend(range(true, pair(info, 4)?, inverted & 2 != 0));
    if mask != 0 || flags != 0 || inverted & FLAGS != 0 {
        let how = if inverted & FLAGS != 0 { Compare::NotEqual } else { Compare::Equal };
        steps.push(Step::Payload { to: 0, header: Header::Transport, offset: 13, length: 1 });
        steps.push(Step::Bitwise { from: 0, to: 0, mask: vec![mask], xor: vec![0] });
        steps.push(Step::Compare { from: 0, how, value: vec![flags] });
    }
    if option != 0 {
        steps.push(Step::Maybe(Cow::Borrowed("tcp option")));
    }
    Some(steps)
}

/// `struct xt_udp`
pub(super) fn udp(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 10)?;
    let mut steps = range(false, pair(info, 0)?, info[8] & 1 != 0);
    steps.extend(range(true, pair(info, 4)?, info[8] & 2 != 0));
    Some(steps)
}

/// `struct xt_sctp_info`
pub(super) fn sctp(info: &[u8]) -> Option<Vec<Step>> {
    const CHUNKS: u32 = 4;
    let info = sized(info, 292)?;
    let (asked, inverted) = (word(info, 284)?, word(info, 288)?);
    let mut steps = asked_ports(info, asked, inverted)?;
    if asked & CHUNKS != 0 {
        steps.push(Step::Maybe(Cow::Borrowed("sctp chunks")));
    }
    Some(steps)
}

/// `struct xt_dccp_info`
pub(super) fn dccp(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 16)?;
    let (asked, inverted) = (short(info, 8)?, short(info, 10)?);
    let mut steps = asked_ports(info, asked.into(), inverted.into())?;
    if asked & !3 != 0 {
        steps.push(Step::Maybe(Cow::Borrowed("dccp types")));
    }
    Some(steps)
}

/// Destination ports stand first here.
fn asked_ports(info: &[u8], asked: u32, inverted: u32) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    if asked & 1 != 0 {
        steps.extend(range(false, pair(info, 4)?, inverted & 1 != 0));
    }
    if asked & 2 != 0 {
        steps.extend(range(true, pair(info, 0)?, inverted & 2 != 0));
    }
    Some(steps)
}

/// `struct xt_multiport_v1`
pub(super) fn multiport(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 48)?;
    let (flags, count) = (info[0], usize::from(info[1]));
    (count <= 15).then_some(())?;
    let mut ports = Vec::new();
    let mut index = 0;
    while index < count {
        let first = short(info, 2 + 2 * index)?;
        if info[32 + index] != 0 {
            index += 1;
            (index < 15).then_some(())?;
        }
        ports.push((first, short(info, 2 + 2 * index)?));
        index += 1;
    }
    // XT_MULTIPORT_SOURCE, _DESTINATION, _EITHER
    let (source, destination) = match flags {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return None,
    };
    Some(vec![Step::Extension(Extension::AnyPort { source, destination, ports, inverted: info[47] != 0 })])
}
