//! Links for which the kernel opens a socket of its own (rtnetlink(7), `IFLA_LINKINFO`).

#![forbid(unsafe_code)]

use super::wire::{attributes, messages};

/// A link that receives over UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tunnel {
    /// At this port.
    Udp(u16),
    /// At a port that only genetlink tells.
    Wireguard,
}

/// Reads an answer to `RTM_GETLINK`.
pub fn tunnels(answer: &[u8]) -> Vec<Tunnel> {
    const RTM_NEWLINK: u16 = 16;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    let mut found = Vec::new();
    for (_, message) in messages(answer).filter(|(kind, _)| *kind == RTM_NEWLINK) {
        let Some(rest) = message.get(16..) else { continue };
        for (_, info) in attributes(rest).filter(|(kind, _)| *kind == IFLA_LINKINFO) {
            let part = |wanted| attributes(info).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
            let kind = part(IFLA_INFO_KIND).unwrap_or_default();
            let data = part(IFLA_INFO_DATA).unwrap_or_default();
            let name = kind.split(|byte| *byte == 0).next().unwrap_or_default();
            if name == b"wireguard" {
                found.push(Tunnel::Wireguard);
            }
            // IFLA_VXLAN_PORT, IFLA_GENEVE_PORT, IFLA_BAREUDP_PORT, IFLA_AMT_RELAY_PORT
            for (tunnel, attribute) in [(&b"vxlan"[..], 15), (b"geneve", 5), (b"bareudp", 1), (b"amt", 3)] {
                if tunnel == name {
                    found.extend(port(data, attribute).map(Tunnel::Udp));
                }
            }
            if name == b"gtp" {
                found.extend([Tunnel::Udp(2152), Tunnel::Udp(3386)]);
            }
        }
    }
    found
}

/// A port in network order.
fn port(data: &[u8], attribute: u16) -> Option<u16> {
    let (_, value) = attributes(data).find(|(kind, _)| *kind == attribute)?;
    Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?))
}
