//! What rtnetlink says of links and routes (rtnetlink(7), linux/if_link.h, linux/rtnetlink.h).
//!
//! Pure: requests as bytes, answers as values. A short or lying length ends the reading of what it
//! belongs to and never reads beyond it.

use crate::model::{InterfaceKind, Text};
use crate::netlink::{attributes, messages};

const RTM_GETROUTE: u16 = 26;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
const DUMP: u16 = 0x301; // NLM_F_REQUEST | NLM_F_DUMP

/// A link, without its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub index: u32,
    pub name: Text,
    pub kind: InterfaceKind,
    pub up: bool,
    pub promiscuous: bool,
    pub master: Option<u32>,
    pub link: Option<u32>,
    /// net.ipv4.conf.NAME.route_localnet
    pub route_localnet: Option<bool>,
    /// net.ipv4.conf.NAME.rp_filter
    pub rp_filter: Option<u8>,
    /// net.ipv4.conf.NAME.drop_unicast_in_l2_multicast
    pub drop_unicast_in_l2_multicast: Option<bool>,
    /// `IFLA_BRPORT_MODE` of a port of a bridge.
    pub hairpin: Option<bool>,
    /// `IFLA_BR_NF_CALL_IPTABLES` and `IFLA_BR_NF_CALL_IP6TABLES` of a bridge.
    pub bridge_filter: [Option<bool>; 2],
}

/// A request for all routes; `family` 2 is IPv4, 10 IPv6.
pub fn routes_request(family: u8) -> Vec<u8> {
    let length: u32 = 28; // nlmsghdr and rtmsg
    let mut bytes = Vec::with_capacity(28);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&RTM_GETROUTE.to_ne_bytes());
    bytes.extend_from_slice(&DUMP.to_ne_bytes());
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.push(family);
    bytes.resize(length as usize, 0);
    bytes
}

/// The links in an answer to `RTM_GETLINK`.
pub fn links(answer: &[u8]) -> Vec<Link> {
    messages(answer).filter(|(kind, _)| *kind == RTM_NEWLINK).filter_map(|(_, body)| link(body)).collect()
}

fn link(body: &[u8]) -> Option<Link> {
    let hardware = u16_at(body, 2)?;
    let index = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let mut link = Link {
        index,
        name: Text::default(),
        kind: InterfaceKind::Other,
        up: flags & 1 != 0,
        promiscuous: flags & 0x100 != 0,
        master: None,
        link: None,
        route_localnet: None,
        rp_filter: None,
        drop_unicast_in_l2_multicast: None,
        hairpin: None,
        bridge_filter: [None; 2],
    };
    let mut kind: &[u8] = b"";
    for (name, value) in attributes(body.get(16..)?) {
        match name {
            3 => link.name = value.strip_suffix(b"\0").unwrap_or(value).into(), // IFLA_IFNAME
            5 => link.link = u32_at(value, 0),                                  // IFLA_LINK
            10 => link.master = u32_at(value, 0),                               // IFLA_MASTER
            18 => kind = info(value, &mut link),                                // IFLA_LINKINFO
            30 => link.promiscuous |= u32_at(value, 0)? > 0,                    // IFLA_PROMISCUITY
            // IFLA_AF_SPEC
            26 => {
                const RP_FILTER: usize = 8;
                const ROUTE_LOCALNET: usize = 26;
                const DROP_UNICAST_IN_L2_MULTICAST: usize = 30;
                let flag = |which| setting(value, which).map(|number| number != 0);
                link.route_localnet = flag(ROUTE_LOCALNET);
                link.drop_unicast_in_l2_multicast = flag(DROP_UNICAST_IN_L2_MULTICAST);
                link.rp_filter = setting(value, RP_FILTER).and_then(|number| u8::try_from(number).ok());
            }
            _ => {}
        }
    }
    link.kind = kind_of(kind.strip_suffix(b"\0").unwrap_or(kind), hardware);
    Some(link)
}

/// `IFLA_LINKINFO`: what an interface is, and what it is to the one that it belongs to. Gives back
/// `IFLA_INFO_KIND`.
fn info<'a>(value: &'a [u8], link: &mut Link) -> &'a [u8] {
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    const SLAVE_KIND: u16 = 4;
    const SLAVE_DATA: u16 = 5;
    const BRIDGE_FILTERS: [u16; 2] = [36, 37]; // IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES
    const PORT_MODE: u16 = 4; // IFLA_BRPORT_MODE
    let part = |wanted| attributes(value).find(|(name, _)| *name == wanted).map(|(_, part)| part);
    let flag = |nest, wanted| {
        let (_, value) = attributes(part(nest)?).find(|(name, _)| *name == wanted)?;
        value.first().map(|byte| *byte != 0)
    };
    let kind = part(KIND).unwrap_or_default();
    if kind == b"bridge\0" {
        link.bridge_filter = BRIDGE_FILTERS.map(|wanted| flag(DATA, wanted));
    }
    if part(SLAVE_KIND) == Some(b"bridge\0") {
        link.hairpin = flag(SLAVE_DATA, PORT_MODE);
    }
    kind
}

/// `IFLA_AF_SPEC` → `AF_INET` → `IFLA_INET_CONF`: the array of linux/ip.h, from 1 on.
fn setting(spec: &[u8], number: usize) -> Option<u32> {
    let (_, inet) = attributes(spec).find(|(family, _)| *family == 2)?;
    let (_, conf) = attributes(inet).find(|(name, _)| *name == 1)?;
    u32_at(conf, (number - 1) * 4)
}

/// `hardware` is an `ARPHRD_` number (linux/if_arp.h): it tells loopback, and tun from tap.
fn kind_of(kind: &[u8], hardware: u16) -> InterfaceKind {
    match kind {
        b"" if hardware == 772 => InterfaceKind::Loopback,
        b"" if hardware == 1 => InterfaceKind::Ethernet,
        b"tun" if hardware == 1 => InterfaceKind::Tap,
        b"tun" => InterfaceKind::Tun,
        b"bridge" | b"openvswitch" => InterfaceKind::Bridge,
        b"veth" | b"netkit" => InterfaceKind::Veth,
        b"wireguard" => InterfaceKind::Wireguard,
        b"vxlan" => InterfaceKind::Vxlan,
        b"macvlan" | b"macvtap" => InterfaceKind::Macvlan,
        b"ipvlan" | b"ipvtap" => InterfaceKind::Ipvlan,
        b"vlan" => InterfaceKind::Vlan,
        b"bond" | b"team" => InterfaceKind::Bond,
        b"dummy" => InterfaceKind::Dummy,
        b"ipip" | b"sit" | b"gre" | b"gretap" | b"erspan" | b"ip6tnl" | b"ip6gre" | b"ip6gretap"
        | b"ip6erspan" | b"vti" | b"vti6" | b"xfrm" | b"geneve" | b"ppp" | b"gtp" | b"amt" | b"bareudp"
        | b"ovpn" => InterfaceKind::Tunnel,
        b"" if matches!(hardware, 512 | 768 | 769 | 776 | 778 | 823) => InterfaceKind::Tunnel,
        _ => InterfaceKind::Other,
    }
}

/// Indices of the interfaces through which a default route leaves, from an answer to
/// `RTM_GETROUTE`. The halves `0.0.0.0/1` and `128.0.0.0/1`, by which VPNs override a default route
/// without removing it, count too; unreachable and blackhole routes do not.
pub fn default_links(answer: &[u8]) -> Vec<u32> {
    let mut found: Vec<u32> = messages(answer)
        .filter(|(kind, _)| *kind == RTM_NEWROUTE)
        .filter_map(|(_, body)| {
            let (length, unicast) = (*body.get(1)?, *body.get(7)? == 1);
            (length <= 1 && unicast).then(|| outgoing(body.get(12..).unwrap_or_default()))
        })
        .flatten()
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `RTA_OIF`, and the interface of each next hop in `RTA_MULTIPATH`.
fn outgoing(body: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    for (name, value) in attributes(body) {
        match name {
            4 => found.extend(u32_at(value, 0)),
            9 => {
                let mut rest = value;
                while let (Some(length), Some(index)) = (u16_at(rest, 0), u32_at(rest, 4)) {
                    found.push(index);
                    let step = usize::from(length).next_multiple_of(4);
                    match rest.get(step..) {
                        Some(after) if step >= 8 => rest = after,
                        Some(_) | None => break,
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).expect("short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 16).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend_from_slice(body);
        bytes
    }

    fn link_message(hardware: u16, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend_from_slice(&hardware.to_ne_bytes());
        body.extend_from_slice(&7u32.to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend(attributes.concat());
        message(RTM_NEWLINK, &body)
    }

    #[test]
    fn a_tap_in_a_bridge() {
        let info = attribute(18, &attribute(1, b"tun\0"));
        let bytes =
            link_message(1, 0x101, &[attribute(3, b"tap0\0"), attribute(10, &3u32.to_ne_bytes()), info]);
        let read = links(&bytes);
        assert_eq!(read[0].name, Text::from("tap0"));
        assert_eq!((read[0].index, read[0].kind, read[0].master), (7, InterfaceKind::Tap, Some(3)));
        assert!(read[0].up && read[0].promiscuous);
    }

    #[test]
    fn a_port_of_a_bridge_tells_its_hairpin_mode_and_a_bridge_whom_it_asks() {
        let port = [attribute(4, b"bridge\0"), attribute(5, &attribute(4, &[1]))].concat();
        let port = [attribute(1, b"veth\0"), port].concat();
        let data = [attribute(36, &[1]), attribute(37, &[0])].concat();
        let bridge = [attribute(1, b"bridge\0"), attribute(2, &data)].concat();
        let read = |info: &[u8]| links(&link_message(1, 1, &[attribute(18, info)])).remove(0);
        assert_eq!((read(&port).kind, read(&port).hairpin), (InterfaceKind::Veth, Some(true)));
        assert_eq!(read(&bridge).bridge_filter, [Some(true), Some(false)]);
        // The same numbers mean other things elsewhere.
        let other = [attribute(4, b"bond\0"), attribute(5, &attribute(4, &[1]))].concat();
        assert_eq!(read(&other).hairpin, None);
    }

    #[test]
    fn settings_of_an_interface() {
        let mut conf = vec![0; 33 * 4];
        conf[29 * 4] = 1;
        let inet = attribute(2, &attribute(1, &conf));
        let read = links(&link_message(1, 1, &[attribute(26, &inet)])).remove(0);
        assert_eq!((read.drop_unicast_in_l2_multicast, read.route_localnet), (Some(true), Some(false)));
    }

    #[test]
    fn promiscuous_without_the_flag_that_ifconfig_sets() {
        let count = attribute(30, &1u32.to_ne_bytes()); // a packet socket with PACKET_MR_PROMISC
        assert!(links(&link_message(1, 1, &[count]))[0].promiscuous);
        assert!(!links(&link_message(1, 1, &[attribute(30, &0u32.to_ne_bytes())]))[0].promiscuous);
    }

    #[test]
    fn kinds_without_a_driver_name() {
        assert_eq!(links(&link_message(772, 8, &[]))[0].kind, InterfaceKind::Loopback);
        assert_eq!(links(&link_message(1, 0, &[]))[0].kind, InterfaceKind::Ethernet);
        assert_eq!(links(&link_message(512, 0, &[]))[0].kind, InterfaceKind::Tunnel);
    }

    #[test]
    fn default_routes() {
        let route = |length: u8, kind: u8, more: &[Vec<u8>]| {
            let mut body = vec![2, length, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
            body.extend(more.concat());
            message(RTM_NEWROUTE, &body)
        };
        let out = |index: u32| attribute(4, &index.to_ne_bytes());
        let hop = |index: u32| [&8u16.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes()].concat();
        let bytes = [
            route(0, 1, &[out(3)]),
            route(24, 1, &[out(9)]),
            route(0, 6, &[out(8)]),
            route(1, 1, &[out(5)]),
            route(0, 1, &[attribute(9, &[hop(6), hop(7)].concat())]),
        ]
        .concat();
        assert_eq!(default_links(&bytes), [3, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = (links(&bytes), default_links(&bytes));
            let framed = [message(RTM_NEWLINK, &bytes), message(RTM_NEWROUTE, &bytes)].concat();
            let _ = (links(&framed), default_links(&framed));
        }
    }
}
