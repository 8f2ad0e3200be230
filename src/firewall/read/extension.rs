//! Matches and targets of iptables inside rules of nftables: binary structures of the kernel
//! (`<linux/netfilter/xt_*.h>`), numbers in host byte order.

use crate::firewall::ruleset::{Extension, Step, Verdict};

/// Offset of `invflags` in `struct ip6t_rt` (`<linux/netfilter_ipv6/ip6t_rt.h>`).
const RT_INVERTED: usize = 17;

fn short(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

/// A match. What is not known may match or not.
pub(super) fn matching(name: &[u8], revision: u32, data: &[u8]) -> Step {
    let found = match (name, revision) {
        (b"comment", _) => return Step::Nothing,
        // Inverted it matches every ordinary packet.
        (b"rt", 0) if data.get(RT_INVERTED) == Some(&0) => return Step::Unusual,
        (b"tcp", 0) => tcp(data),
        (b"udp", 0) => ports(data).map(|(source, destination)| Extension::Ports {
            source,
            destination,
            inverted: invert(data.get(8).copied().unwrap_or(0)),
        }),
        (b"multiport", 1) => multiport(data),
        (b"conntrack", 3) => conntrack(data),
        (b"state", 0) => data
            .get(..4)
            .and_then(|mask| mask.try_into().ok())
            .map(|mask| Extension::State { mask: u32::from_ne_bytes(mask), inverted: false }),
        (b"addrtype", 1) => address_type(data),
        _ => None,
    };
    found.map_or(Step::Maybe, Step::Extension)
}

type Ports = (Vec<(u16, u16)>, Vec<(u16, u16)>);

fn ports(data: &[u8]) -> Option<Ports> {
    Some((vec![(short(data, 0)?, short(data, 2)?)], vec![(short(data, 4)?, short(data, 6)?)]))
}

fn invert(flags: u8) -> [bool; 2] {
    [flags & 1 != 0, flags & 2 != 0]
}

/// `struct xt_tcp`: flags and options are not looked into, so a rule that asks for them may match.
fn tcp(data: &[u8]) -> Option<Extension> {
    let (source, destination) = ports(data)?;
    let (option, mask, inverted) = (*data.get(8)?, *data.get(9)?, *data.get(11)?);
    (option == 0 && mask == 0).then(|| Extension::Ports { source, destination, inverted: invert(inverted) })
}

/// `struct xt_multiport_v1`
fn multiport(data: &[u8]) -> Option<Extension> {
    let (flags, count) = (*data.first()?, *data.get(1)?);
    let inverted = *data.get(47)? != 0;
    let mut list = Vec::new();
    let mut index = 0;
    while index < usize::from(count) && index < 15 {
        let first = short(data, 2 + 2 * index)?;
        let is_range = *data.get(32 + index)? != 0;
        let last = if is_range && index < 14 { short(data, 4 + 2 * index)? } else { first };
        list.push((first, last));
        index += if is_range { 2 } else { 1 };
    }
    // XT_MULTIPORT_SOURCE, _DESTINATION, _EITHER
    let (source, destination) = match flags {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return None,
    };
    Some(Extension::AnyPort { source, destination, ports: list, inverted })
}

/// `struct xt_conntrack_mtinfo3`, where nothing but the state is asked for.
fn conntrack(data: &[u8]) -> Option<Extension> {
    const STATE: u16 = 1;
    let (asked, inverted, mask) = (short(data, 146)?, short(data, 148)?, short(data, 150)?);
    // Bits above are SNAT, DNAT and UNTRACKED: not states that a new flow is in by itself.
    let plain = mask & !0x0f == 0;
    (asked == STATE && plain).then(|| Extension::State { mask: mask.into(), inverted: inverted & STATE != 0 })
}

/// `struct xt_addrtype_info_v1`
fn address_type(data: &[u8]) -> Option<Extension> {
    let (source, destination) = (short(data, 0)?, short(data, 2)?);
    let flags = u32::from_ne_bytes(data.get(4..8)?.try_into().ok()?);
    (flags & !3 == 0).then_some(Extension::AddressType {
        source,
        destination,
        inverted: [flags & 1 != 0, flags & 2 != 0],
    })
}

/// A target.
pub(super) fn target(name: &[u8]) -> Step {
    match name {
        b"ACCEPT" | b"MASQUERADE" | b"SNAT" => Step::Verdict(Verdict::Accept),
        b"DROP" | b"REJECT" => Step::Verdict(Verdict::Drop),
        b"NFQUEUE" => Step::Verdict(Verdict::Queue),
        b"LOG" | b"NFLOG" | b"TCPMSS" | b"CLASSIFY" | b"CONNMARK" | b"MARK" | b"CT" | b"DSCP" | b"TOS" => {
            Step::Nothing
        }
        _ => Step::Unknown(String::from_utf8_lossy(name).into_owned()),
    }
}
