//! Links for which the kernel opens a socket of its own (rtnetlink(7), `IFLA_LINKINFO`).

#![forbid(unsafe_code)]

use crate::netlink::{attributes, messages};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// An `RTM_NEWLINK` message of a link of this kind.
    fn link(kind: &[u8], data: &[u8]) -> Vec<u8> {
        let info = attribute(18, &[attribute(1, kind), attribute(2, data)].concat());
        let mut bytes = u32::try_from(32 + info.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&16_u16.to_ne_bytes());
        bytes.resize(32, 0);
        bytes.extend_from_slice(&info);
        bytes
    }

    #[test]
    fn tunnels_tell_the_port_that_the_kernel_serves() {
        let answer = [
            link(b"vxlan\0", &attribute(15, &4789_u16.to_be_bytes())),
            link(b"bridge\0", &attribute(15, &1_u16.to_be_bytes())),
            link(b"geneve", &attribute(5, &6081_u16.to_be_bytes())),
            link(b"wireguard\0", &[]),
        ]
        .concat();
        assert_eq!(tunnels(&answer), [Tunnel::Udp(4789), Tunnel::Udp(6081), Tunnel::Wireguard]);
        assert_eq!(tunnels(&answer[..40]), []);
    }
}
