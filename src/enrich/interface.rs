//! Interfaces, addresses and settings of each network namespace.
//!
//! Names, flags and addresses come from pnet, asked from inside the namespace; kind, master and
//! default routes from rtnetlink; multicast groups and settings from its own /proc.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Fact, Interface, InterfaceKind, LinkSettings, Namespace, Sysctls, Text};
use crate::source::Source;

use super::netlink::{self, Link};
use super::user::{lines, number};

/// An interface as pnet tells it; this is also its form in a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Told {
    index: u32,
    name: String,
    up: bool,
    loopback: bool,
    addresses: Vec<IpNet>,
}

/// Fills interfaces and settings of every namespace. Counts those that could not be asked.
pub(super) fn fill(namespaces: &mut [Namespace], source: &Source) -> u64 {
    let mut unread = 0;
    for namespace in namespaces {
        match read(namespace.inode, source) {
            Ok((interfaces, sysctls)) => {
                namespace.interfaces = Fact::Known(interfaces);
                namespace.sysctls = sysctls;
            }
            Err(_) => unread += 1,
        }
    }
    unread
}

fn read(netns: u64, source: &Source) -> io::Result<(Vec<Interface>, Sysctls)> {
    let told = source.answer(&format!("interfaces/{netns}"), || {
        let found = if source.own_netns().is_none_or(|own| own == netns) {
            told()
        } else {
            source.within(netns, told)?
        };
        serde_json::to_vec(&found?).map_err(io::Error::other)
    })?;
    let told: Vec<Told> = serde_json::from_slice(&told)?;
    let links = source.links(netns).map(|answer| netlink::links(&answer)).unwrap_or_default();
    let routes = |name: &str, family: u8| {
        let answer = source.netlink(netns, 0, name, &netlink::routes_request(family));
        answer.map(|answer| netlink::default_links(&answer)).unwrap_or_default()
    };
    let defaults = (routes("routes4", 2), routes("routes6", 10));
    let paths = [
        "net/igmp",
        "net/igmp6",
        "sys/net/ipv4/ip_local_port_range",
        "sys/net/ipv4/ip_unprivileged_port_start",
        "sys/net/ipv4/ip_forward",
        "sys/net/ipv6/conf/all/forwarding",
        "sys/net/ipv4/conf/all/route_localnet",
        "sys/net/ipv4/conf/all/rp_filter",
        "sys/net/ipv4/conf/all/drop_unicast_in_l2_multicast",
        "sys/net/bridge/bridge-nf-call-iptables",
        "sys/net/bridge/bridge-nf-call-ip6tables",
    ];
    // Where there is no bridge, its settings are not asked for.
    let bridged = links.iter().any(|link| link.kind == InterfaceKind::Bridge);
    let paths = &paths[..if bridged { paths.len() } else { paths.len() - 2 }];
    let files = source.netns_files(netns, paths);
    let file = |at: usize| files.get(at).and_then(|file| file.as_deref().ok());
    let mut groups = file(0).map(groups_v4).unwrap_or_default();
    for (index, mut more) in file(1).map(groups_v6).unwrap_or_default() {
        groups.entry(index).or_default().append(&mut more);
    }
    let sysctls = Sysctls {
        ephemeral: file(2).and_then(port_range),
        unprivileged_start: file(3).and_then(|text| number(text.trim_ascii())),
        forward_v4: file(4).and_then(flag),
        forward_v6: file(5).and_then(flag),
        route_localnet: file(6)
            .and_then(flag)
            .map(|all| all || links.iter().any(|link| link.route_localnet == Some(true))),
    };
    let mut interfaces = merge(&told, &links, &defaults, &mut groups);
    // The stricter of both counts (`IN_DEV_RPFILTER`).
    let all: Option<u8> = file(7).and_then(|text| number(text.trim_ascii()));
    let whole = Whole {
        route_localnet: file(6).and_then(flag),
        drop_unicast_in_l2_multicast: file(8).and_then(flag),
        bridge_filter: [9, 10].map(|at| match files.get(at) {
            Some(Ok(text)) => flag(text).map(Some),
            // Without br_netfilter there is no such setting, and no bridge asks a filter. An old
            // recording has none of these files.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound && file(8).is_some() => Some(None),
            Some(Err(_)) | None => None,
        }),
    };
    for interface in &mut interfaces {
        let Some(link) = links.iter().find(|link| link.index == interface.index) else {
            interface.rp_filter = all;
            continue;
        };
        interface.rp_filter = link.rp_filter.max(all);
        interface.settings = whole.with(link);
    }
    Ok((interfaces, sysctls))
}

/// Settings of a namespace that hold for all of its interfaces, whatever these have themselves.
struct Whole {
    route_localnet: Option<bool>,
    drop_unicast_in_l2_multicast: Option<bool>,
    /// `Some(None)`: there is no such thing.
    bridge_filter: [Option<Option<bool>>; 2],
}

impl Whole {
    /// One of both is enough (`IN_DEV_ORCONF`, `br_nf_pre_routing`).
    fn with(&self, link: &Link) -> LinkSettings {
        let either = |all: Option<bool>, own: Option<bool>| match (all, own) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            (None, _) | (_, None) => None,
        };
        let bridge = link.kind == InterfaceKind::Bridge;
        LinkSettings {
            route_localnet: either(self.route_localnet, link.route_localnet),
            drop_unicast_in_l2_multicast: either(
                self.drop_unicast_in_l2_multicast,
                link.drop_unicast_in_l2_multicast,
            ),
            hairpin: link.hairpin,
            bridge_filter: [0, 1].map(|family| match self.bridge_filter[family] {
                Some(None) if bridge => Some(false),
                Some(all) if bridge => either(all, link.bridge_filter[family]),
                Some(_) | None => None,
            }),
        }
    }
}

/// One interface for each index, in order. What only netlink knows, an interface that appeared in
/// between, is taken from there.
fn merge(
    told: &[Told],
    links: &[Link],
    defaults: &(Vec<u32>, Vec<u32>),
    groups: &mut BTreeMap<u32, Vec<IpAddr>>,
) -> Vec<Interface> {
    let mut merged: BTreeMap<u32, Interface> = BTreeMap::new();
    for link in links {
        let mut interface = blank(link.index, link.name.clone(), link.kind, link.up);
        interface.promiscuous = link.promiscuous;
        interface.master = link.master;
        interface.link = link.link.filter(|_| link.kind == InterfaceKind::Veth);
        merged.insert(link.index, interface);
    }
    for each in told {
        let kind = if each.loopback { InterfaceKind::Loopback } else { InterfaceKind::Other };
        // `eth0:1` is a label of an address of eth0, with the same index.
        let name = each.name.split(':').next().unwrap_or_default();
        let interface =
            merged.entry(each.index).or_insert_with(|| blank(each.index, name.into(), kind, each.up));
        interface.addresses.extend(&each.addresses);
    }
    for (index, interface) in &mut merged {
        interface.addresses.sort_unstable();
        interface.addresses.dedup();
        interface.default_v4 = defaults.0.contains(index);
        interface.default_v6 = defaults.1.contains(index);
        interface.groups = groups.remove(index).unwrap_or_default();
        interface.groups.sort_unstable();
        interface.groups.dedup();
    }
    merged.into_values().collect()
}

fn blank(index: u32, name: Text, kind: InterfaceKind, up: bool) -> Interface {
    Interface {
        index,
        name,
        kind,
        up,
        promiscuous: false,
        addresses: Vec::new(),
        master: None,
        link: None,
        default_v4: false,
        default_v6: false,
        groups: Vec::new(),
        rp_filter: None,
        settings: LinkSettings::default(),
    }
}

/// Asks pnet, in the namespace of the calling thread.
#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere there is no answer")]
fn told() -> io::Result<Vec<Told>> {
    let found = pnet::datalink::interfaces().into_iter().map(|each| Told {
        index: each.index,
        up: each.is_up(),
        loopback: each.is_loopback(),
        addresses: each.ips.iter().filter_map(|net| IpNet::new(net.ip(), net.prefix()).ok()).collect(),
        name: each.name,
    });
    Ok(found.collect())
}

#[cfg(not(unix))]
fn told() -> io::Result<Vec<Told>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `/proc/net/igmp`: interfaces at the margin, their groups indented; groups are the network bytes
/// printed as one number of this computer (net/ipv4/igmp.c).
pub fn groups_v4(bytes: &[u8]) -> BTreeMap<u32, Vec<IpAddr>> {
    let mut groups: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    let mut index = None;
    for line in lines(bytes).skip(1) {
        let Some(first) = words(line).next() else { continue };
        if line[0].is_ascii_whitespace() {
            let group = (first.len() == 8).then(|| hex::<4>(first)).flatten();
            if let (Some(index), Some(group)) = (index, group) {
                let group = Ipv4Addr::from(u32::from_be_bytes(group).to_ne_bytes());
                groups.entry(index).or_default().push(group.into());
            }
        } else {
            index = number(first);
        }
    }
    groups
}

/// `/proc/net/igmp6`: index, name, group as 32 digits, users.
pub fn groups_v6(bytes: &[u8]) -> BTreeMap<u32, Vec<IpAddr>> {
    let mut groups: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for line in lines(bytes) {
        let mut words = words(line);
        let index = words.next().and_then(number);
        // A name may not hold white space (dev_valid_name).
        let group = words.nth(1).and_then(hex::<16>);
        if let (Some(index), Some(group)) = (index, group) {
            groups.entry(index).or_default().push(Ipv6Addr::from(group).into());
        }
    }
    groups
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Exactly `N` bytes as hexadecimal digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(bytes)
}

fn port_range(text: &[u8]) -> Option<(u16, u16)> {
    let mut words = words(text);
    Some((number(words.next()?)?, number(words.next()?)?))
}

fn flag(text: &[u8]) -> Option<bool> {
    number::<u32>(text.trim_ascii()).map(|value| value != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn multicast_groups() {
        let text = b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            2\teth0      :     2      V3\n\t\t\t\tFB0000E0     1 0:00000000\t\t0\n\t\t\t\tzz\n";
        let read = groups_v4(text);
        assert_eq!(read[&1], ["224.0.0.1".parse::<IpAddr>().expect("a group")]);
        assert_eq!(read[&2], ["224.0.0.251".parse::<IpAddr>().expect("a group")]);
        let text = b"1    lo              ff020000000000000000000000000001     1 0000000C 0\nx\n";
        assert_eq!(groups_v6(text)[&1], ["ff02::1".parse::<IpAddr>().expect("a group")]);
    }

    #[test]
    fn a_label_is_no_interface() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let each = |name: &str, address: &str| Told {
            index: 2,
            name: name.into(),
            up: true,
            loopback: false,
            addresses: vec![net(address)],
        };
        let told = [each("eth0", "10.0.0.1/24"), each("eth0:1", "10.0.0.2/24")];
        let merged = merge(&told, &[], &(vec![2], vec![]), &mut BTreeMap::new());
        assert_eq!(merged.len(), 1);
        assert_eq!((merged[0].name.clone(), merged[0].addresses.len()), ("eth0".into(), 2));
        assert!(merged[0].default_v4 && !merged[0].default_v6);
    }

    #[test]
    fn settings() {
        assert_eq!(port_range(b"32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(flag(b"2\n"), Some(true));
        assert_eq!(flag(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = (groups_v4(&bytes), groups_v6(&bytes), port_range(&bytes), flag(&bytes));
            let _ = groups_v4(&[&b"head\n"[..], &bytes].concat());
        }
    }
}
