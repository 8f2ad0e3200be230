//! Targets that translate nothing.

use super::{Context, short, sized, translate, word};
use crate::firewall::ruleset::{Connection, Logic, Meta, Setting, Step, Verdict};

pub(crate) fn target(name: &[u8], revision: u32, info: &[u8], context: &Context<'_>) -> Vec<Step> {
    let steps = match (name, revision) {
        (b"ACCEPT", _) => Some(vec![Step::Verdict(Verdict::Accept)]),
        (b"DROP", _) | (b"REJECT", 0) => Some(vec![Step::Verdict(Verdict::Drop)]),
        (b"NFQUEUE" | b"QUEUE", _) => Some(vec![Step::Verdict(Verdict::Queue)]),
        // They tell, count, copy, or write what decides nothing.
        (
            b"LOG" | b"NFLOG" | b"ULOG" | b"TRACE" | b"AUDIT" | b"CHECKSUM" | b"TCPMSS" | b"TCPOPTSTRIP"
            | b"CLASSIFY" | b"DSCP" | b"TOS" | b"ECN" | b"LED" | b"IDLETIMER" | b"RATEEST" | b"TEE"
            | b"CONNSECMARK" | b"SECMARK" | b"SET",
            _,
        ) => Some(Vec::new()),
        (b"MARK", 2) => mark(info),
        (b"CONNMARK", 1 | 2) => connection_mark(revision, info),
        (b"CT", 0..=2) => tracking(revision, info),
        (b"NOTRACK", 0) => Some(vec![Step::Untrack]),
        (b"TTL" | b"HL", 0) => hops(info),
        _ => translate::target(name, revision, info, context),
    };
    steps.unwrap_or_else(|| vec![Step::Unknown(String::from_utf8_lossy(name).into_owned())])
}

fn inverse(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// `struct xt_mark_tginfo2`: `(mark & ~mask) ^ value`
fn mark(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 8)?;
    Some(vec![
        Step::Meta { to: 0, key: Meta::Mark },
        Step::Bitwise { from: 0, to: 0, mask: inverse(&info[4..8]), xor: info[..4].to_vec() },
        Step::Set { what: Setting::Mark, from: 0 },
    ])
}

/// `struct xt_connmark_tginfo1` and `2`
fn connection_mark(revision: u32, info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 16)?;
    let (value, connection, packet) = (&info[..4], &info[4..8], &info[8..12]);
    let (shift, mode) = if revision == 1 { (0, info[12]) } else { (info[13], info[14]) };
    (shift == 0).then_some(())?;
    let of_packet = Step::Meta { to: 0, key: Meta::Mark };
    let of_connection = Step::Connection { to: 4, key: Connection::Mark, reply: false };
    let and = |at: usize, mask: Vec<u8>, xor: Vec<u8>| Step::Bitwise { from: at, to: at, mask, xor };
    let zeros = || vec![0; 4];
    let join = Step::Combine { from: 0, other: 4, to: 0, length: 4, how: Logic::Xor };
    Some(match mode {
        0 => vec![
            of_connection,
            and(4, inverse(connection), value.to_vec()),
            Step::Set { what: Setting::ConnectionMark, from: 4 },
        ],
        1 => vec![
            of_packet,
            and(0, packet.to_vec(), zeros()),
            of_connection,
            and(4, inverse(connection), zeros()),
            join,
            Step::Set { what: Setting::ConnectionMark, from: 0 },
        ],
        2 => vec![
            of_packet,
            and(0, inverse(packet), zeros()),
            of_connection,
            and(4, connection.to_vec(), zeros()),
            join,
            Step::Set { what: Setting::Mark, from: 0 },
        ],
        _ => return None,
    })
}

/// `struct xt_ct_target_info` and `_v1`
fn tracking(revision: u32, info: &[u8]) -> Option<Vec<Step>> {
    const NOTRACK: u16 = 1;
    const ZONE_FROM_MARK: u16 = 1 << 4;
    let info = sized(info, if revision == 0 { 40 } else { 72 })?;
    let (flags, zone) = (short(info, 0)?, short(info, 2)?);
    if flags & NOTRACK != 0 {
        return Some(vec![Step::Untrack]);
    }
    if zone == 0 && flags & ZONE_FROM_MARK == 0 {
        // A helper, a timeout, or which events are told.
        return Some(Vec::new());
    }
    let mut value = zone.to_ne_bytes().to_vec();
    value.resize(4, 0);
    Some(vec![Step::Constant { to: 0, value }, Step::Set { what: Setting::Zone, from: 0 }])
}

/// `struct ipt_TTL_info`, `struct ip6t_HL_info`: set, raise or lower. A packet that may go no
/// further is still delivered here, but is not forwarded.
fn hops(info: &[u8]) -> Option<Vec<Step>> {
    let info = sized(info, 2)?;
    let (mode, count) = (info[0], info[1]);
    ((mode == 0 && count > 1) || mode == 1).then(Vec::new)
}

/// The number of a flag word, for translations.
pub(super) fn flags(info: &[u8]) -> Option<u32> {
    word(info, 0)
}
