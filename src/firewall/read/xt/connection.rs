//! Matches on what connection tracking knows of a flow.

use std::borrow::Cow;

use super::{Context, masked, short, sized, word};
use crate::firewall::ranges::Family;
use crate::firewall::ruleset::{Compare, Connection, Logic, Step};

/// Bits of `xt_conntrack` and `xt_state` above the four of nftables (`<linux/netfilter/xt_conntrack.h>`,
/// with the kernel's `IP_CT_NUMBER` of 5).
const STATES: u32 = 0x0f;
const INVALID: u32 = 0x01;
const SOURCE_TRANSLATED: u32 = 0x40;
const DESTINATION_TRANSLATED: u32 = 0x80;
const UNTRACKED: u32 = 0x100;
/// `NF_CT_STATE_UNTRACKED_BIT`
const UNTRACKED_IN_NFTABLES: u32 = 0x40;

fn any_bit(load: Step, bits: u32, inverted: bool) -> Vec<Step> {
    let how = if inverted { Compare::Equal } else { Compare::NotEqual };
    vec![
        load,
        Step::Bitwise { from: 0, to: 0, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Step::Compare { from: 0, how, value: vec![0; 4] },
    ]
}

/// `struct xt_state_info`
pub(super) fn state(info: &[u8]) -> Option<Vec<Step>> {
    let mask = word(sized(info, 4)?, 0)?;
    // Here the bit of untracked packets is the one that nftables has too.
    (mask & !(STATES | UNTRACKED_IN_NFTABLES) == 0).then(|| any_bit(Step::CtState { to: 0 }, mask, false))
}

/// `struct xt_conntrack_mtinfo1` to `3`: all that is asked for must hold.
pub(super) fn conntrack(revision: u32, info: &[u8], context: &Context<'_>) -> Option<Vec<Step>> {
    const STATE: u16 = 1;
    const PROTOCOL: u16 = 1 << 1;
    const STATUS: u16 = 1 << 6;
    const EXPIRES: u16 = 1 << 7;
    const DIRECTION: u16 = 1 << 12;
    let info = sized(
        info,
        match revision {
            1 => 152,
            2 => 156,
            _ => 164,
        },
    )?;
    let (asked, negated) = (short(info, 146)?, short(info, 148)?);
    let (states, statuses) = if revision == 1 {
        (u16::from(info[150]), u16::from(info[151]))
    } else {
        (short(info, 150)?, short(info, 152)?)
    };
    let wants = |flag: u16| asked & flag != 0;
    let inverted = |flag: u16| negated & flag != 0;
    let mut steps = Vec::new();
    if wants(STATE) {
        steps.extend(states_asked(states.into(), inverted(STATE)));
    }
    if wants(DIRECTION) {
        // Without negation the packets of the first one's direction are meant (`conntrack_mt`).
        let value = vec![u8::from(inverted(DIRECTION))];
        steps.push(Step::Connection { to: 0, key: Connection::Direction, reply: false });
        steps.push(Step::Compare { from: 0, how: Compare::Equal, value });
    }
    let width = match context.family {
        Some(Family::V4) => 4,
        Some(Family::V6) => 16,
        None => return None,
    };
    let addresses = [
        (1 << 2, Connection::Source, false, 0),
        (1 << 3, Connection::Destination, false, 32),
        (1 << 4, Connection::Source, true, 64),
        (1 << 5, Connection::Destination, true, 96),
    ];
    for (flag, key, reply, at) in addresses {
        if wants(flag) {
            let (value, mask) = (info.get(at..at + width)?, info.get(at + 16..at + 16 + width)?);
            let value: Vec<u8> = value.iter().zip(mask).map(|(byte, mask)| byte & mask).collect();
            steps.extend(masked(Step::Connection { to: 0, key, reply }, mask, &value, inverted(flag)));
        }
    }
    if wants(PROTOCOL) {
        let value = vec![u8::try_from(short(info, 136)?).ok()?];
        let load = Step::Connection { to: 0, key: Connection::Protocol, reply: false };
        steps.extend(masked(load, &[0xff], &value, inverted(PROTOCOL)));
    }
    let ports = [
        (1 << 8, Connection::SourcePort, false),
        (1 << 9, Connection::DestinationPort, false),
        (1 << 10, Connection::SourcePort, true),
        (1 << 11, Connection::DestinationPort, true),
    ];
    for (index, (flag, key, reply)) in ports.into_iter().enumerate() {
        if wants(flag) {
            let at = 138 + 2 * index;
            let (first, last) = if revision == 3 {
                (
                    short(info, at)?.to_be_bytes().to_vec(),
                    short(info, 154 + 2 * index)?.to_be_bytes().to_vec(),
                )
            } else {
                (info.get(at..at + 2)?.to_vec(), info.get(at..at + 2)?.to_vec())
            };
            steps.push(Step::Connection { to: 0, key, reply });
            steps.push(Step::Range { from: 0, inverted: inverted(flag), first, last });
        }
    }
    if wants(STATUS) {
        let load = Step::Connection { to: 0, key: Connection::Status, reply: false };
        steps.extend(any_bit(load, statuses.into(), inverted(STATUS)));
    }
    if wants(EXPIRES) {
        steps.push(Step::Maybe(Cow::Borrowed("conntrack expiry")));
    }
    Some(steps)
}

/// One of the states; two of them are bits of the status (`IPS_SRC_NAT`, `IPS_DST_NAT`).
fn states_asked(mask: u32, inverted: bool) -> Vec<Step> {
    let mut states = mask & STATES;
    if mask & UNTRACKED != 0 {
        states |= UNTRACKED_IN_NFTABLES;
    }
    let mut statuses = 0;
    if mask & SOURCE_TRANSLATED != 0 {
        statuses |= 0x10;
    }
    if mask & DESTINATION_TRANSLATED != 0 {
        statuses |= 0x20;
    }
    let status = Step::Connection { to: 0, key: Connection::Status, reply: false };
    match (states, statuses) {
        (states, 0) => any_bit(Step::CtState { to: 0 }, states, inverted),
        (0, statuses) => any_bit(status, statuses, inverted),
        // None of both.
        (states, statuses) if inverted => {
            [any_bit(Step::CtState { to: 0 }, states, true), any_bit(status, statuses, true)].concat()
        }
        // Of what is not tracked no status can be loaded, and yet the state may match.
        (states, _) if states & (INVALID | UNTRACKED_IN_NFTABLES) != 0 => {
            vec![Step::Maybe(Cow::Borrowed("conntrack"))]
        }
        // One of either.
        (states, statuses) => {
            let only = |at, bits: u32| Step::Bitwise {
                from: at,
                to: at,
                mask: bits.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            };
            vec![
                Step::CtState { to: 0 },
                only(0, states),
                Step::Connection { to: 4, key: Connection::Status, reply: false },
                only(4, statuses),
                Step::Combine { from: 0, other: 4, to: 0, length: 4, how: Logic::Or },
                Step::Compare { from: 0, how: Compare::NotEqual, value: vec![0; 4] },
            ]
        }
    }
}
