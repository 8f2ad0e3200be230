//! Which tables filter here, who keeps them, and whether something in them translates: what the
//! answers of nfnetlink and rtnetlink say. Pure.

use std::collections::BTreeSet;

use crate::firewall::netlink::{attribute, attributes, big_u32, messages, text};
use crate::model::{FrontEnd, Text};

/// `NFNL_SUBSYS_NFTABLES << 8`
const NFTABLES: u16 = 10 << 8;
pub(super) const GET_TABLE: u16 = NFTABLES | 1;
pub(super) const GET_CHAIN: u16 = NFTABLES | 4;
pub(super) const GET_RULE: u16 = NFTABLES | 7;
pub(super) const GET_SET: u16 = NFTABLES | 10;
pub(super) const GET_GENERATION: u16 = NFTABLES | 16;
const NEW_GENERATION: u16 = NFTABLES | 15;
const NEW_TABLE: u16 = NFTABLES;
const NEW_CHAIN: u16 = NFTABLES | 3;
const NEW_RULE: u16 = NFTABLES | 6;

/// A table of nftables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// `NFPROTO_…` of `<linux/netfilter.h>`.
    family: u8,
    name: Text,
}

/// The family's name in nft(8); ARP carries no IP.
fn family_name(family: u8) -> Option<&'static str> {
    match family {
        1 => Some("inet"),
        2 => Some("ip"),
        5 => Some("netdev"),
        7 => Some("bridge"),
        10 => Some("ip6"),
        _ => None,
    }
}

impl Table {
    /// As the model names it: `nftables: inet filter`.
    pub(super) fn label(&self) -> Text {
        let family = family_name(self.family).unwrap_or("unknown");
        let mut label = format!("nftables: {family} ").into_bytes();
        label.extend_from_slice(self.name.as_bytes());
        label.into()
    }

    /// One of the tables that iptables-nft makes (nft(8), iptables-nft(8)).
    fn of_iptables(&self) -> bool {
        matches!(self.family, 2 | 7 | 10)
            && [b"filter".as_slice(), b"nat", b"mangle", b"raw", b"security"].contains(&self.name.as_bytes())
    }
}

/// The number of the ruleset's generation, which every change raises.
pub(super) fn generation(answer: &[u8]) -> Option<u32> {
    let (_, body) = messages(answer).find(|(kind, _)| *kind == NEW_GENERATION)?;
    attribute(body.get(4..)?, 1).and_then(big_u32)
}

/// The tables of a `NFT_MSG_GETTABLE` dump that can see IP packets; an unknown family can.
pub(super) fn tables(answer: &[u8]) -> Vec<Table> {
    const NAME: u16 = 1;
    const ARP: u8 = 3;
    messages(answer)
        .filter(|(kind, body)| *kind == NEW_TABLE && body.first().is_some_and(|family| *family != ARP))
        .map(|(_, body)| Table {
            family: body[0],
            name: attribute(body.get(4..).unwrap_or_default(), NAME).map(text).unwrap_or_default().into(),
        })
        .collect()
}

/// Who keeps the rules, told by names of tables and of the chains of a `NFT_MSG_GETCHAIN` dump.
pub(super) fn front_ends(tables: &[Table], chains: &[u8]) -> BTreeSet<FrontEnd> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    let mut found = BTreeSet::new();
    // Tables of iptables-nft have its built-in chains in capitals; a table `filter` of a
    // nftables.conf has not.
    let mut iptables = Vec::new();
    for (_, body) in messages(chains).filter(|(kind, _)| *kind == NEW_CHAIN) {
        let Some(attributes) = body.get(4..) else { continue };
        let name = attribute(attributes, NAME).map(text).unwrap_or_default();
        match name {
            b"ufw-user-input" | b"ufw-before-input" | b"ufw6-user-input" | b"ufw6-before-input" => {
                found.insert(FrontEnd::Ufw);
            }
            b"DOCKER" | b"DOCKER-USER" => {
                found.insert(FrontEnd::Docker);
            }
            b"INPUT" | b"OUTPUT" | b"FORWARD" | b"PREROUTING" | b"POSTROUTING" => {
                let name: Text = attribute(attributes, TABLE).map(text).unwrap_or_default().into();
                iptables.push(Table { family: body[0], name });
            }
            _ => {}
        }
    }
    for table in tables {
        found.insert(match table.name.as_bytes() {
            b"firewalld" => FrontEnd::Firewalld,
            b"docker-bridges" => FrontEnd::Docker,
            _ if table.of_iptables() && iptables.contains(table) => FrontEnd::IptablesNft,
            _ => FrontEnd::Nftables,
        });
    }
    found
}

/// Whether a rule of a `NFT_MSG_GETRULE` dump can change where a packet goes: destination
/// translation, transparent proxying, forwarding, or writing into the packet.
pub(super) fn translates(rules: &[u8]) -> bool {
    const EXPRESSIONS: u16 = 4;
    messages(rules)
        .filter(|(kind, _)| *kind == NEW_RULE)
        .filter_map(|(_, body)| attribute(body.get(4..)?, EXPRESSIONS))
        .flat_map(attributes)
        .any(|(_, expression)| steers(expression))
}

fn steers(expression: &[u8]) -> bool {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let data = attribute(expression, DATA).unwrap_or_default();
    match attribute(expression, NAME).map(text).unwrap_or_default() {
        // NFTA_NAT_TYPE: 0 is source translation
        b"nat" => attribute(data, 1).and_then(big_u32) != Some(0),
        b"redir" | b"tproxy" | b"fwd" | b"dup" => true,
        // NFTA_PAYLOAD_SREG: writes
        b"payload" => attribute(data, 5).is_some(),
        // NFTA_TARGET_NAME, the extensions of iptables
        b"target" => !matches!(
            attribute(data, 1).map(text).unwrap_or_default(),
            b"REJECT"
                | b"LOG"
                | b"NFLOG"
                | b"MASQUERADE"
                | b"SNAT"
                | b"MARK"
                | b"CONNMARK"
                | b"TCPMSS"
                | b"CT"
        ),
        _ => false,
    }
}

/// Interfaces of an `RTM_GETLINK` dump that have an XDP program.
pub(super) fn xdp(links: &[u8]) -> Vec<Text> {
    const NEW_LINK: u16 = 16;
    const IFNAME: u16 = 3;
    const XDP: u16 = 43;
    const XDP_ATTACHED: u16 = 2;
    let mut found = Vec::new();
    for (_, body) in messages(links).filter(|(kind, _)| *kind == NEW_LINK) {
        let Some(attributes) = body.get(16..) else { continue };
        let attached = attribute(attributes, XDP).and_then(|nest| attribute(nest, XDP_ATTACHED));
        if attached.is_some_and(|mode| mode.first() != Some(&0)) {
            let name = attribute(attributes, IFNAME).map(text).unwrap_or_default();
            found.push([b"xdp: ", name].concat().into());
        }
    }
    found
}

/// Indices of interfaces of an `RTM_GETQDISC` dump where traffic control can stop packets that
/// come in (`ingress`, `clsact`: tc-bpf(8)).
pub(super) fn traffic_control(qdiscs: &[u8]) -> BTreeSet<u32> {
    const NEW_QDISC: u16 = 36;
    const KIND: u16 = 1;
    messages(qdiscs)
        .filter(|(kind, _)| *kind == NEW_QDISC)
        .filter_map(|(_, body)| {
            let kind = text(attribute(body.get(20..)?, KIND)?);
            let index = crate::firewall::netlink::native_u32(body.get(4..8)?)?;
            matches!(kind, b"ingress" | b"clsact").then_some(index)
        })
        .collect()
}
