//! The left side of a match: which field or fact a register holds, and how nft(8) calls it.

use super::kind::Kind;
use crate::firewall::ruleset::TableFamily;

/// Layers of a packet; a match on a field implies one on its protocol, which is then not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layer {
    Link,
    Network,
    Transport,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Left {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Bytes of the whole field; fewer may be loaded, for a prefix.
    pub(super) width: usize,
    /// Of a field in the packet.
    pub(super) layer: Option<Layer>,
    /// What equality with a value tells of the fields of a layer.
    pub(super) tells: Option<Layer>,
    /// `icmp` and `icmpv6` imply their network protocol too.
    pub(super) icmp: bool,
}

/// What is known of a packet's protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Known {
    /// `NFPROTO_…`
    pub(super) network: Option<u8>,
    pub(super) transport: Option<u8>,
}

impl Known {
    pub(super) fn of(family: TableFamily) -> Self {
        let network = match family {
            TableFamily::Ip => Some(2),
            TableFamily::Ip6 => Some(10),
            TableFamily::Inet | TableFamily::Netdev | TableFamily::Bridge => None,
        };
        Self { network, transport: None }
    }
}

/// Start, length, name, kind.
type Field = (u32, usize, &'static str, Kind);

const IP: &[Field] = &[
    (2, 2, "length", Kind::Number),
    (4, 2, "id", Kind::Number),
    (8, 1, "ttl", Kind::Number),
    (9, 1, "protocol", Kind::Protocol),
    (12, 4, "saddr", Kind::Ipv4),
    (16, 4, "daddr", Kind::Ipv4),
];
const IP6: &[Field] = &[
    (4, 2, "length", Kind::Number),
    (6, 1, "nexthdr", Kind::Protocol),
    (7, 1, "hoplimit", Kind::Number),
    (8, 16, "saddr", Kind::Ipv6),
    (24, 16, "daddr", Kind::Ipv6),
];
const PORTS: &[Field] = &[(0, 2, "sport", Kind::Number), (2, 2, "dport", Kind::Number)];
const TCP: &[Field] = &[
    (0, 2, "sport", Kind::Number),
    (2, 2, "dport", Kind::Number),
    (4, 4, "sequence", Kind::Number),
    (8, 4, "ackseq", Kind::Number),
    (13, 1, "flags", Kind::TcpFlags),
    (14, 2, "window", Kind::Number),
];
const UDP: &[Field] =
    &[(0, 2, "sport", Kind::Number), (2, 2, "dport", Kind::Number), (4, 2, "length", Kind::Number)];
const ICMP: &[Field] = &[(0, 1, "type", Kind::Icmp)];
const ICMP6: &[Field] = &[(0, 1, "type", Kind::Icmp6)];
const ETHER: &[Field] =
    &[(0, 6, "daddr", Kind::Hardware), (6, 6, "saddr", Kind::Hardware), (12, 2, "type", Kind::EtherType)];

/// The field that starts at `offset` (`nft_payload`, `NFTA_PAYLOAD_BASE`).
pub(super) fn field(known: Known, base: u32, offset: u32) -> Option<Left> {
    let (layer, header, fields) = match base {
        0 => (Layer::Link, "ether", ETHER),
        1 => match known.network? {
            2 => (Layer::Network, "ip", IP),
            10 => (Layer::Network, "ip6", IP6),
            _ => return None,
        },
        2 => {
            let (header, fields) = match known.transport {
                Some(1) => ("icmp", ICMP),
                Some(6) => ("tcp", TCP),
                Some(17) => ("udp", UDP),
                Some(33) => ("dccp", PORTS),
                Some(58) => ("icmpv6", ICMP6),
                Some(132) => ("sctp", PORTS),
                Some(136) => ("udplite", PORTS),
                Some(_) => return None,
                None => ("th", PORTS),
            };
            (Layer::Transport, header, fields)
        }
        _ => return None,
    };
    let (_, width, name, kind) = *fields.iter().find(|(start, ..)| *start == offset)?;
    Some(Left {
        name: format!("{header} {name}"),
        kind,
        width,
        layer: Some(layer),
        tells: None,
        icmp: matches!(kind, Kind::Icmp | Kind::Icmp6),
    })
}

/// `NFT_META_…`, as far as their names and values are certain: of `meta protocol` nft leaves out what
/// other matches imply, in ways of its own.
pub(super) fn meta(key: u32) -> Option<Left> {
    let (name, kind, width, tells) = match key {
        0 => ("meta length", Kind::HostNumber, 4, None),
        3 => ("meta mark", Kind::Mark, 4, None),
        4 => ("iif", Kind::Interface, 4, None),
        5 => ("oif", Kind::Interface, 4, None),
        6 => ("iifname", Kind::Name, 16, None),
        7 => ("oifname", Kind::Name, 16, None),
        10 => ("meta skuid", Kind::HostNumber, 4, None),
        11 => ("meta skgid", Kind::HostNumber, 4, None),
        15 => ("meta nfproto", Kind::NfProto, 1, Some(Layer::Network)),
        16 => ("meta l4proto", Kind::Protocol, 1, Some(Layer::Transport)),
        19 => ("meta pkttype", Kind::PacketType, 1, None),
        _ => return None,
    };
    Some(Left { name: name.to_owned(), kind, width, layer: None, tells, icmp: false })
}

/// `NFT_CT_…` without a direction.
pub(super) fn connection(key: u32) -> Option<Left> {
    let (name, kind, width) = match key {
        0 => ("ct state", Kind::CtState, 4),
        1 => ("ct direction", Kind::CtDirection, 1),
        2 => ("ct status", Kind::CtStatus, 4),
        3 => ("ct mark", Kind::Mark, 4),
        _ => return None,
    };
    Some(Left { name: name.to_owned(), kind, width, layer: None, tells: None, icmp: false })
}

/// `nft_fib`: the type of an address (`NFT_FIB_RESULT_ADDRTYPE`).
pub(super) fn address_type(flags: u32) -> Option<Left> {
    let name = match flags {
        1 => "fib saddr type",
        2 => "fib daddr type",
        0x9 => "fib saddr . iif type",
        0xa => "fib daddr . iif type",
        _ => return None,
    };
    Some(Left {
        name: name.to_owned(),
        kind: Kind::AddressType,
        width: 4,
        layer: None,
        tells: None,
        icmp: false,
    })
}

/// The layer and protocol that equality with a value tells.
pub(super) fn names_protocol(left: &Left, value: &[u8]) -> Option<(Layer, u8)> {
    match (left.tells, value) {
        (Some(layer), [number]) => Some((layer, *number)),
        (Some(_), _) => None,
        // Fields that tell the next protocol stay written.
        (None, [number]) if left.kind == Kind::Protocol => Some((Layer::Transport, *number)),
        (None, _) => None,
    }
}

/// `snat ip to`: the family of an address in a table of both.
pub(super) fn family_word(family: TableFamily, address: u8) -> &'static str {
    match (family, address) {
        (TableFamily::Inet, 2) => "ip ",
        (TableFamily::Inet, 10) => "ip6 ",
        (
            TableFamily::Inet
            | TableFamily::Ip
            | TableFamily::Ip6
            | TableFamily::Netdev
            | TableFamily::Bridge,
            _,
        ) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_after_the_protocol_that_is_known() {
        let name = |network, transport, base, offset| {
            field(Known { network, transport }, base, offset).map(|left| left.name)
        };
        assert_eq!(name(None, Some(6), 2, 2).as_deref(), Some("tcp dport"));
        assert_eq!(name(None, None, 2, 2).as_deref(), Some("th dport"));
        assert_eq!(name(Some(2), None, 1, 12).as_deref(), Some("ip saddr"));
        assert_eq!(name(None, None, 1, 12), None, "whose address it is depends on the packet");
    }
}
