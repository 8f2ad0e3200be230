//! Targets that translate addresses and ports (`<linux/netfilter/nf_nat.h>`, `xt_TPROXY.h`).

use super::target::flags;
use super::{Context, sized, word};
use crate::firewall::ranges::Family;
use crate::firewall::ruleset::{Meta, Setting, Step, Translated, Translation};

const ADDRESSES: u32 = 1;
const PORTS: u32 = 1 << 1;
const OFFSET: u32 = 1 << 5;

/// `struct nf_nat_ipv4_multi_range_compat`, `nf_nat_range`, `nf_nat_range2` in one form: addresses
/// of the family, ports in network byte order.
struct Range<'b> {
    flags: u32,
    addresses: [&'b [u8]; 2],
    ports: [&'b [u8]; 2],
    base: Option<&'b [u8]>,
}

fn old(info: &[u8]) -> Option<Range<'_>> {
    let info = sized(info, 20)?;
    (word(info, 0)? == 1).then_some(())?;
    Some(Range {
        flags: word(info, 4)?,
        addresses: [&info[8..12], &info[12..16]],
        ports: [&info[16..18], &info[18..20]],
        base: None,
    })
}

fn new(info: &[u8], family: Family, second: bool) -> Option<Range<'_>> {
    let info = sized(info, if second { 44 } else { 40 })?;
    let width = if family == Family::V4 { 4 } else { 16 };
    Some(Range {
        flags: flags(info)?,
        addresses: [&info[4..4 + width], &info[20..20 + width]],
        ports: [&info[36..38], &info[38..40]],
        base: second.then(|| &info[40..42]),
    })
}

pub(super) fn target(name: &[u8], revision: u32, info: &[u8], context: &Context<'_>) -> Option<Vec<Step>> {
    let family = context.family?;
    let kind = match name {
        b"DNAT" => Translated::Destination,
        b"SNAT" => Translated::Source,
        b"REDIRECT" => Translated::Redirect,
        b"MASQUERADE" => Translated::Masquerade,
        b"NETMAP" => Translated::Network,
        b"TPROXY" => return proxy(revision, info, family),
        _ => return None,
    };
    let range = match (kind, family, revision) {
        (Translated::Destination | Translated::Source, Family::V4, 0)
        | (Translated::Redirect | Translated::Masquerade | Translated::Network, Family::V4, 0) => old(info)?,
        (Translated::Destination | Translated::Source, _, 1)
        | (Translated::Redirect | Translated::Masquerade | Translated::Network, Family::V6, 0) => {
            new(info, family, false)?
        }
        (Translated::Destination | Translated::Source, _, 2) => new(info, family, true)?,
        _ => return None,
    };
    // A mapping of networks needs no word that addresses are meant.
    let addresses = range.flags & ADDRESSES != 0 || kind == Translated::Network;
    let mut steps = Vec::new();
    let mut put = |to: usize, value: &[u8]| {
        steps.push(Step::Constant { to, value: value.to_vec() });
        to
    };
    let translation = Translation {
        kind,
        family: Some(family),
        addresses: addresses.then(|| (put(0, range.addresses[0]), put(16, range.addresses[1]))),
        ports: (range.flags & PORTS != 0).then(|| (put(32, range.ports[0]), put(36, range.ports[1]))),
        netmap: kind == Translated::Network,
        shift: match range.base {
            Some(base) if range.flags & OFFSET != 0 => Some(put(40, base)),
            _ => None,
        },
    };
    steps.push(Step::Translate(translation));
    Some(steps)
}

/// `struct xt_tproxy_target_info` and `_v1`: address and port may be left as they are; the mark is
/// set where a socket takes the packet, and where none does it is dropped.
fn proxy(revision: u32, info: &[u8], family: Family) -> Option<Vec<Step>> {
    let (address, port) = match revision {
        0 => {
            let info = sized(info, 16)?;
            (info.get(8..12)?, info.get(12..14)?)
        }
        1 => {
            let info = sized(info, 28)?;
            (info.get(8..8 + if family == Family::V4 { 4 } else { 16 })?, info.get(24..26)?)
        }
        _ => return None,
    };
    let (mask, value) = (info.get(..4)?, info.get(4..8)?);
    let mask: Vec<u8> = mask.iter().map(|byte| !byte).collect();
    let mut steps = vec![
        Step::Meta { to: 0, key: Meta::Mark },
        Step::Bitwise { from: 0, to: 0, mask, xor: value.to_vec() },
        Step::Set { what: Setting::Mark, from: 0 },
    ];
    let mut put = |to: usize, value: &[u8]| {
        steps.push(Step::Constant { to, value: value.to_vec() });
        Some((to, to))
    };
    let given = |value: &[u8]| value.iter().any(|byte| *byte != 0);
    let translation = Translation {
        kind: Translated::Proxy,
        family: Some(family),
        addresses: if given(address) { put(0, address) } else { None },
        ports: if given(port) { put(32, port) } else { None },
        netmap: false,
        shift: None,
    };
    steps.push(Step::Translate(translation));
    Some(steps)
}
