//! Values as nft(8) writes them: each of a kind that its left side tells.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a value means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Ipv4,
    Ipv6,
    /// A number in network byte order.
    Number,
    /// A number in host byte order.
    HostNumber,
    Protocol,
    NfProto,
    EtherType,
    Hardware,
    Interface,
    Name,
    Mark,
    CtState,
    CtStatus,
    CtDirection,
    AddressType,
    PacketType,
    Icmp,
    Icmp6,
    TcpFlags,
}

/// Index and name of every interface.
pub(super) type Interfaces<'a> = &'a [(u32, String)];

const PROTOCOLS: &[(u8, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (108, "ipcomp"),
    (132, "sctp"),
    (136, "udplite"),
];
const ICMP: &[(u8, &str)] = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (15, "info-request"),
    (16, "info-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
];
const ICMP6: &[(u8, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (138, "router-renumbering"),
    (141, "ind-neighbor-solicit"),
    (142, "ind-neighbor-advert"),
    (143, "mld2-listener-report"),
];
const CT_STATES: &[(u8, &str)] =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const CT_STATUS: &[(u8, &str)] =
    &[(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed"), (16, "snat"), (32, "dnat")];
const TCP_FLAGS: &[(u8, &str)] =
    &[(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];
/// `RTN_…`
const ADDRESS_TYPES: &[(u8, &str)] = &[
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
/// `PACKET_…`
const PACKET_TYPES: &[(u8, &str)] = &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")];

fn named(table: &[(u8, &str)], number: u64) -> Option<String> {
    table.iter().find(|(known, _)| u64::from(*known) == number).map(|(_, name)| (*name).to_owned())
}

pub(super) fn protocol(number: u8) -> String {
    named(PROTOCOLS, number.into()).unwrap_or_else(|| number.to_string())
}

impl Kind {
    /// Its values are numbers in host byte order.
    pub(super) fn host_order(self) -> bool {
        match self {
            Self::HostNumber
            | Self::Interface
            | Self::Name
            | Self::Mark
            | Self::CtState
            | Self::CtStatus
            | Self::AddressType => true,
            Self::Ipv4
            | Self::Ipv6
            | Self::Number
            | Self::Protocol
            | Self::NfProto
            | Self::EtherType
            | Self::Hardware
            | Self::CtDirection
            | Self::PacketType
            | Self::Icmp
            | Self::Icmp6
            | Self::TcpFlags => false,
        }
    }

    /// Whether a range that is a prefix is written as one.
    pub(super) fn has_prefixes(self) -> bool {
        matches!(self, Self::Ipv4 | Self::Ipv6)
    }

    /// One bit is one word.
    pub(super) fn flags(self) -> Option<&'static [(u8, &'static str)]> {
        match self {
            Self::CtState => Some(CT_STATES),
            Self::CtStatus => Some(CT_STATUS),
            Self::TcpFlags => Some(TCP_FLAGS),
            Self::Ipv4
            | Self::Ipv6
            | Self::Number
            | Self::HostNumber
            | Self::Protocol
            | Self::NfProto
            | Self::EtherType
            | Self::Hardware
            | Self::Interface
            | Self::Name
            | Self::Mark
            | Self::CtDirection
            | Self::AddressType
            | Self::PacketType
            | Self::Icmp
            | Self::Icmp6 => None,
        }
    }

    pub(super) fn number(self, bytes: &[u8]) -> Option<u64> {
        if bytes.len() > 8 {
            return None;
        }
        let fold = |number, byte: &u8| number << 8 | u64::from(*byte);
        let little = self.host_order() && cfg!(target_endian = "little");
        Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    }

    /// A single value; `None` for one that has no name that is certain.
    pub(super) fn value(self, bytes: &[u8], interfaces: Interfaces<'_>) -> Option<String> {
        let number = self.number(bytes);
        Some(match self {
            Self::Ipv4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
            Self::Ipv6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
            Self::Number | Self::HostNumber => number?.to_string(),
            Self::Protocol => protocol(u8::try_from(number?).ok()?),
            Self::NfProto => named(&[(2, "ipv4"), (10, "ipv6")], number?)?,
            Self::EtherType => match number? {
                0x0800 => "ip".to_owned(),
                0x86dd => "ip6".to_owned(),
                0x0806 => "arp".to_owned(),
                _ => return None,
            },
            Self::Hardware => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            Self::Interface => {
                let index = u32::try_from(number?).ok()?;
                format!("\"{}\"", interfaces.iter().find(|(known, _)| *known == index)?.1)
            }
            Self::Name => {
                let end = bytes.iter().position(|byte| *byte == 0);
                let star = if end.is_none() && bytes.len() < 16 { "*" } else { "" };
                let name = std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).ok()?;
                format!("\"{name}{star}\"")
            }
            Self::Mark => format!("0x{:08x}", number?),
            Self::CtState | Self::CtStatus | Self::TcpFlags => self.words(number?)?,
            Self::CtDirection => named(&[(0, "original"), (1, "reply")], number?)?,
            Self::AddressType => named(ADDRESS_TYPES, number?)?,
            Self::PacketType => named(PACKET_TYPES, number?)?,
            Self::Icmp => named(ICMP, number?)?,
            Self::Icmp6 => named(ICMP6, number?)?,
        })
    }

    /// The words for a set of bits, none left over.
    pub(super) fn words(self, bits: u64) -> Option<String> {
        let table = self.flags()?;
        let known: u64 = table.iter().map(|(bit, _)| u64::from(*bit)).sum();
        if bits == 0 || bits & !known != 0 {
            return None;
        }
        let set = table.iter().filter(|(bit, _)| bits & u64::from(*bit) != 0);
        Some(set.map(|(_, word)| *word).collect::<Vec<_>>().join(","))
    }

    /// Two ends, both included, as an element of a set of intervals or the right side of a match.
    pub(super) fn range(self, first: &[u8], last: &[u8], interfaces: Interfaces<'_>) -> Option<String> {
        if first == last {
            return self.value(first, interfaces);
        }
        if let Some(bits) = prefix(first, last).filter(|_| self.has_prefixes()) {
            return Some(format!("{}/{bits}", self.value(first, interfaces)?));
        }
        match self {
            Self::Name => {
                let bits = prefix(first, last)?;
                let same = usize::try_from(bits / 8).ok()?;
                (bits % 8 == 0).then(|| self.value(first.get(..same)?, interfaces))?
            }
            Self::Ipv4 | Self::Ipv6 | Self::Number | Self::HostNumber | Self::Mark => {
                Some(format!("{}-{}", self.value(first, interfaces)?, self.value(last, interfaces)?))
            }
            Self::Protocol
            | Self::NfProto
            | Self::EtherType
            | Self::Hardware
            | Self::Interface
            | Self::CtState
            | Self::CtStatus
            | Self::CtDirection
            | Self::AddressType
            | Self::PacketType
            | Self::Icmp
            | Self::Icmp6
            | Self::TcpFlags => None,
        }
    }
}

/// Length in bits of the prefix that two ends make, if they do.
fn prefix(first: &[u8], last: &[u8]) -> Option<u32> {
    let mut bits = 0;
    let mut open = false;
    for (a, b) in first.iter().zip(last) {
        let mixed = a ^ b;
        if open {
            (*a == 0 && *b == 0xff).then_some(())?;
        } else {
            bits += mixed.leading_zeros();
            open = mixed != 0;
            let wild = mixed;
            (wild & wild.wrapping_add(1) == 0 && a & wild == 0).then_some(())?;
        }
    }
    (first.len() == last.len()).then_some(bits)
}

/// Length in bits of a mask that is one.
pub(super) fn mask_bits(mask: &[u8]) -> Option<u32> {
    let zeros = vec![0; mask.len()];
    let ends: Vec<u8> = mask.iter().map(|byte| !byte).collect();
    prefix(&zeros, &ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_prefixes_where_they_are_some() {
        let four = |a: [u8; 4], b: [u8; 4]| Kind::Ipv4.range(&a, &b, &[]).unwrap();
        assert_eq!(four([10, 0, 0, 0], [10, 255, 255, 255]), "10.0.0.0/8");
        assert_eq!(four([10, 0, 0, 0], [10, 15, 255, 255]), "10.0.0.0/12");
        assert_eq!(four([10, 0, 0, 1], [10, 0, 0, 9]), "10.0.0.1-10.0.0.9");
        assert_eq!(four([10, 0, 0, 8], [10, 0, 0, 11]), "10.0.0.8/30");
        assert_eq!(four([10, 0, 0, 1], [10, 0, 0, 2]), "10.0.0.1-10.0.0.2");
        assert_eq!(Kind::Number.range(&[0, 80], &[0, 81], &[]).unwrap(), "80-81");
        assert_eq!(mask_bits(&[255, 240, 0, 0]), Some(12));
        assert_eq!(mask_bits(&[255, 0, 255, 0]), None);
    }

    #[test]
    fn bits_without_a_word_have_no_text() {
        assert_eq!(Kind::CtState.words(6).unwrap(), "established,related");
        assert_eq!(Kind::CtState.words(0x80), None);
    }
}
