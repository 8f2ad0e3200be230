//! What a network namespace is to a packet: the gates it can come in by, the addresses that are
//! delivered here, the senders that can be answered.

use std::collections::BTreeMap;

use super::classes::Classes;
use super::policy::{Choice, Entry, Lookup};
use super::ranges::{Family, Ranges, number};
use super::read::decode;
use super::reverse::Reverse;
use super::ruleset::Ruleset;
use crate::model::{
    AddrRange, FilterState, Host, Interface, InterfaceKind, Namespace, Text, Upstream, Verdict,
};

/// Addresses, each with the index of its interface.
type Owned = Vec<(AddrRange, u32)>;

/// Who stands behind an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// This computer's own programs.
    Loopback,
    /// Nobody: what leaves here is lost, only its own multicasts come back (dummy links).
    Nobody,
    /// Networks that end on this computer.
    Inside,
    /// Overlays: WireGuard, tun.
    Overlay,
    Outside,
}

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) name: Text,
    pub(crate) index: u32,
    pub(crate) master: Option<u32>,
    pub(crate) side: Side,
    pub(crate) veth: bool,
    pub(crate) bridge: bool,
    /// Its frames say whom they are for, as those of Ethernet do.
    pub(crate) framed: bool,
    /// Index of the other end of a virtual cable, in its own namespace.
    pub(crate) link: Option<u32>,
    /// Multicast groups joined here, per family.
    pub(crate) groups: [Ranges; 2],
    /// Of IPv4.
    pub(crate) reverse: Reverse,
    /// Whether addresses of 127.0.0.0/8 may come in and leave here (`route_localnet`).
    pub(crate) localnet: Option<bool>,
    /// Whether frames to many that carry a packet to one are dropped (`drop_unicast_in_l2_multicast`).
    pub(crate) casts_dropped: Option<bool>,
    /// Of a bridge, per family: whether the packet filter sees what it passes on.
    pub(crate) bridge_filter: [Option<bool>; 2],
    /// How many interfaces belong to it.
    pub(crate) ports: usize,
}

/// An end of a virtual cable that is a port of a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Port {
    pub(crate) index: u32,
    pub(crate) master: u32,
    pub(crate) link: u32,
    /// Whether it sends back what came by it.
    pub(crate) hairpin: Option<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Only those that are up, and only those that IP sees: not the ports of a bridge or bond.
    pub(crate) gates: Vec<Gate>,
    /// Indices of all interfaces, gates or not.
    pub(crate) known: Vec<u32>,
    pub(crate) ports: Vec<Port>,
    /// Per family: what leaves by which interface.
    routes: [Vec<(Ranges, u32)>; 2],
    /// Per family: what some route leads to, by interface; empty where nobody can tell.
    through: [Vec<(Ranges, u32)>; 2],
    /// Per family: what is delivered here.
    pub(crate) local: [Ranges; 2],
    /// Per family: what belongs to one interface, with its index.
    pub(crate) owned: [Vec<(Ranges, u32)>; 2],
    /// Broadcast and anycast addresses, all and by interface.
    pub(crate) broadcast: [Ranges; 2],
    pub(crate) owned_broadcast: [Vec<(Ranges, u32)>; 2],
    pub(crate) answerable: [Ranges; 2],
    /// Per family: how one of several routing tables is chosen.
    pub(crate) choice: [Choice; 2],
    /// Per family: what some table that a rule may choose delivers here.
    pub(crate) perhaps: [Ranges; 2],
    /// What a packet filter makes of every path, where its rules are not known.
    pub(crate) verdict: Verdict,
    /// The rules, where all there are could be read.
    pub(crate) rules: Option<Ruleset>,
    /// Whether rules translate that nobody has read.
    pub(crate) translates: bool,
    pub(crate) forwards: [bool; 2],
    /// Whether private addresses have public ones, one to one, somewhere upstream.
    pub(crate) one_to_one: bool,
    /// As told, or guessed from the interfaces here.
    pub(crate) upstream: Upstream,
}

/// The union of what belongs to one interface.
pub(crate) fn of_interface(owned: &[(Ranges, u32)], index: u32) -> Ranges {
    let mine = owned.iter().filter(|(_, owner)| *owner == index);
    mine.fold(Ranges::default(), |sum, (range, _)| sum.union(range))
}

impl Place {
    /// Destinations that leave by an interface, as far as that is known.
    pub(crate) fn routed(&self, family: Family, interface: u32) -> Ranges {
        let found = self.routes[family as usize].iter().find(|(_, owner)| *owner == interface);
        found.map(|(set, _)| set.clone()).unwrap_or_default()
    }

    /// Whether rules here can change where a packet goes.
    pub(crate) fn steers(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.steers)
    }

    /// Whether rules choose between routing tables.
    pub(crate) fn chooses(&self, family: Family) -> bool {
        !matches!(self.choice[family as usize], Choice::Fresh)
    }

    /// Whether nobody can tell how a routing table is chosen.
    pub(crate) fn untold(&self, family: Family) -> bool {
        matches!(self.choice[family as usize], Choice::Untold)
    }

    /// Destinations that surely leave by a gate, where rules choose between tables; those of one link
    /// are looked up on its interface alone. Where no rules choose, all are.
    pub(crate) fn surely(&self, family: Family, gate: &Gate, lookup: &Lookup<'_>) -> Ranges {
        let policy = match &self.choice[family as usize] {
            Choice::Fresh => return family.all(),
            Choice::Untold => return Ranges::default(),
            Choice::Rules(policy) => policy,
        };
        let by = |lookup: &Lookup<'_>| policy.ways(lookup).by(gate.index);
        let plain = by(lookup);
        let link = &Classes::of(family).link;
        match family {
            Family::V4 => plain,
            Family::V6 => {
                let bound = by(&Lookup { exit: Some(gate.index), ..*lookup });
                plain.minus(link).union(&bound.and(link))
            }
        }
    }

    /// What may be delivered here beyond what always is.
    pub(crate) fn delivered(&self, family: Family, lookup: &Lookup<'_>) -> Ranges {
        let Choice::Rules(policy) = &self.choice[family as usize] else {
            return self.perhaps[family as usize].clone();
        };
        policy.ways(lookup).here().and(&self.perhaps[family as usize])
    }

    /// Senders that some answer may find a way to.
    pub(crate) fn answers(&self, family: Family, lookup: &Lookup<'_>) -> Ranges {
        match &self.choice[family as usize] {
            Choice::Rules(policy) => policy.ways(lookup).perhaps(),
            Choice::Fresh | Choice::Untold => family.all(),
        }
    }

    /// Destinations that leave by a gate, as far as that is known.
    pub(crate) fn leaving(&self, family: Family, gate: &Gate, lookup: &Lookup<'_>) -> Ranges {
        if self.chooses(family) { self.surely(family, gate, lookup) } else { self.routed(family, gate.index) }
    }

    /// Nothing is known of where anything leaves.
    pub(crate) fn is_unrouted(&self, family: Family) -> bool {
        self.routes[family as usize].is_empty()
    }

    /// Networks that some route by an interface leads to; `None` where nobody can tell.
    pub(crate) fn through(&self, family: Family, interface: u32) -> Option<Ranges> {
        let all = &self.through[family as usize];
        let found = all.iter().find(|(_, owner)| *owner == interface);
        (!all.is_empty()).then(|| found.map(|(set, _)| set.clone()).unwrap_or_default())
    }

    /// `None` when the interfaces could not be read.
    pub(crate) fn new(namespace: &Namespace, host: &Host, upstream: Option<Upstream>) -> Option<Self> {
        let interfaces = namespace.interfaces.known()?;
        let routes = namespace.routes.known();
        let (local, broadcast) = match routes {
            Some(routes) => (routes.local.clone(), routes.broadcast.clone()),
            None => from_addresses(interfaces),
        };
        let pick = |list: &[(AddrRange, u32)]| {
            Family::BOTH.map(|family| family.pick(list.iter().map(|(range, _)| range)))
        };
        let answerable = Family::BOTH.map(|family| match routes {
            Some(routes) => family.pick(&routes.answerable),
            None => connected(interfaces, family),
        });
        let by_owner = |list: &[(AddrRange, u32)]| {
            Family::BOTH.map(|family| {
                let mine = list.iter().filter(|(range, _)| Family::of(range.first) == family);
                mine.map(|(range, index)| (family.pick([range]), *index)).collect()
            })
        };
        let (owned, owned_broadcast) = (by_owner(&local), by_owner(&broadcast));
        let rules = rules(namespace);
        let choice = Family::BOTH.map(|family| Choice::of(routes, family));
        let filtered = namespace.filter != FilterState::None && rules.is_none();
        let (local, broadcast) = (pick(&local), pick(&broadcast));
        // Only a packet filter marks what comes in.
        let mark = (namespace.filter == FilterState::None).then_some(0);
        let perhaps = Family::BOTH.map(|family| {
            let here = match &choice[family as usize] {
                Choice::Fresh => return Ranges::default(),
                Choice::Rules(policy) => {
                    policy.ways(&Lookup { entry: Entry::Untold, mark, ..Lookup::OWN }).here()
                }
                Choice::Untold => routes.map_or_else(Ranges::default, |all| family.pick(&all.elsewhere)),
            };
            let classes = Classes::of(family);
            let many = [&classes.multicast, &classes.broadcast, &classes.unspecified];
            let known = [&local[family as usize], &broadcast[family as usize], &classes.loopback];
            many.into_iter().chain(known).fold(here, |left, set| left.minus(set))
        });
        let guess = upstream.unwrap_or_else(|| guess(interfaces, host));
        let doubt = namespace.inode != 0; // only Linux has the setting, and there a namespace has an inode
        // What no interface has of its own: an older snapshot tells whether any has it.
        let localnet = match namespace.sysctls.route_localnet {
            Some(true) => None,
            Some(false) => Some(false),
            None => (!doubt).then_some(false),
        };
        let gate = |each: &Interface| {
            Some(Gate {
                localnet: each.settings.route_localnet.or(localnet),
                ..gate(each, interfaces, namespace.own)?
            })
        };
        Some(Self {
            gates: interfaces.iter().filter_map(gate).collect(),
            known: interfaces.iter().map(|each| each.index).collect(),
            ports: interfaces.iter().filter_map(port).collect(),
            routes: Family::BOTH.map(|family| match &choice[family as usize] {
                Choice::Rules(policy) => policy.ways(&Lookup::OWN).leaving(),
                Choice::Fresh | Choice::Untold => routed(routes.map(|routes| &routes.out[..]), family),
            }),
            through: Family::BOTH.map(|family| routed(routes.map(|routes| &routes.through[..]), family)),
            broadcast: [broadcast[0].minus(&local[0]), broadcast[1].minus(&local[1])],
            perhaps,
            local,
            owned,
            owned_broadcast,
            answerable,
            choice,
            rules,
            verdict: if filtered { Verdict::Unknown } else { Verdict::Accept },
            translates: filtered && namespace.translates != Some(false),
            forwards: [namespace.sysctls.forward_v4, namespace.sysctls.forward_v6]
                .map(|setting| setting.unwrap_or(doubt)),
            one_to_one: guess == Upstream::OneToOne,
            upstream: guess,
        })
    }
}

fn port(each: &Interface) -> Option<Port> {
    let hairpin = each.settings.hairpin;
    Some(Port { index: each.index, master: each.master?, link: each.link?, hairpin })
}

/// Destinations by the interface that they leave by.
fn routed(routes: Option<&[(AddrRange, u32)]>, family: Family) -> Vec<(Ranges, u32)> {
    let mut by_interface: BTreeMap<u32, Vec<AddrRange>> = BTreeMap::new();
    for (range, interface) in
        routes.unwrap_or_default().iter().filter(|(range, _)| Family::of(range.first) == family)
    {
        by_interface.entry(*interface).or_default().push(*range);
    }
    let sets = by_interface.into_iter().map(|(interface, all)| (family.pick(&all), interface));
    sets.filter(|(set, _)| !set.is_empty()).collect()
}

/// Rules that can be judged: nothing else filters here.
fn rules(namespace: &Namespace) -> Option<Ruleset> {
    let FilterState::Some(names) = &namespace.filter else { return None };
    let starts = |prefix: &[u8]| names.iter().any(|name| name.as_bytes().starts_with(prefix));
    let known = [&b"nftables: "[..], b"iptables: ", b"ip6tables: "];
    let only = names.iter().all(|name| known.iter().any(|prefix| name.as_bytes().starts_with(prefix)));
    let legacy = namespace.legacy.known();
    let nftables = namespace.nftables.known();
    let read = (nftables.is_some() || !starts(known[0]))
        && (legacy.is_some() || !(starts(known[1]) || starts(known[2])));
    if !only || !read {
        return None;
    }
    decode(nftables, legacy.map_or(&[], Vec::as_slice), namespace.ipsets.known())
}

/// `direct` when a global address stands on the interface of the default route, `one-to-one` where
/// the firmware names a cloud, else `router`.
fn guess(interfaces: &[Interface], host: &Host) -> Upstream {
    /// Makers, products and asset tags of clouds whose machines know only their private address.
    const CLOUDS: [&str; 11] = [
        "Amazon EC2",
        "Google Compute Engine",
        "Google Cloud",
        "7783-7084-3265-9085-8269-3286-77", // Azure
        "Alibaba Cloud",
        "OracleCloud",
        "Tencent Cloud",
        "HUAWEICLOUD",
        "OpenStack",
        "Exoscale",
        "Scaleway",
    ];
    let uplink = |each: &&Interface| each.default_v4 || each.default_v6;
    let global = interfaces.iter().filter(uplink).flat_map(|each| &each.addresses).any(|net| {
        let family = Family::of(net.addr());
        Classes::of(family).has_global(&family.one(net.addr()))
    });
    if global {
        Upstream::Direct
    } else if host.dmi.as_ref().is_some_and(|dmi| CLOUDS.iter().any(|cloud| dmi.contains(cloud))) {
        Upstream::OneToOne
    } else {
        Upstream::Router
    }
}

fn gate(each: &Interface, all: &[Interface], own: bool) -> Option<Gate> {
    let kind_of = |index| all.iter().find(|other| other.index == index).map(|other| other.kind);
    // A port of a bridge or bond hands its packets to the master before IP sees them.
    let port = matches!(each.master.and_then(kind_of), Some(InterfaceKind::Bridge | InterfaceKind::Bond));
    if !each.up || port {
        return None;
    }
    let group = |family: Family| {
        let nets: Vec<AddrRange> = each.groups.iter().map(|group| AddrRange::one(*group)).collect();
        family.pick(&nets)
    };
    Some(Gate {
        name: each.name.clone(),
        index: each.index,
        master: each.master,
        side: side(each, all, own),
        veth: each.kind == InterfaceKind::Veth,
        bridge: each.kind == InterfaceKind::Bridge,
        framed: match each.kind {
            InterfaceKind::Ethernet
            | InterfaceKind::Veth
            | InterfaceKind::Bridge
            | InterfaceKind::Bond
            | InterfaceKind::Vlan
            | InterfaceKind::Vxlan
            | InterfaceKind::Macvlan
            | InterfaceKind::Tap => true,
            InterfaceKind::Loopback
            | InterfaceKind::Dummy
            | InterfaceKind::Ipvlan
            | InterfaceKind::Wireguard
            | InterfaceKind::Tun
            | InterfaceKind::Tunnel
            | InterfaceKind::Other => false,
        },
        link: each.link,
        groups: Family::BOTH.map(group),
        localnet: each.settings.route_localnet,
        casts_dropped: each.settings.drop_unicast_in_l2_multicast,
        bridge_filter: each.settings.bridge_filter,
        ports: all.iter().filter(|other| other.master == Some(each.index)).count(),
        reverse: Reverse::of(each.rp_filter, each.addresses.iter().any(|net| net.addr().is_ipv4())),
    })
}

fn side(each: &Interface, all: &[Interface], own: bool) -> Side {
    // Our own way to everybody is no inner network, whatever its link is made of: whoever runs us
    // in a container may publish its ports.
    let uplink = own && (each.default_v4 || each.default_v6);
    let outer_port =
        |other: &Interface| other.master == Some(each.index) && side(other, all, false) == Side::Outside;
    match each.kind {
        InterfaceKind::Loopback => Side::Loopback,
        InterfaceKind::Dummy => Side::Nobody,
        InterfaceKind::Bridge if uplink || all.iter().any(outer_port) => Side::Outside,
        InterfaceKind::Veth | InterfaceKind::Tap if uplink => Side::Outside,
        InterfaceKind::Bridge | InterfaceKind::Veth | InterfaceKind::Tap => Side::Inside,
        InterfaceKind::Wireguard | InterfaceKind::Tun => Side::Overlay,
        InterfaceKind::Ethernet
        | InterfaceKind::Vxlan
        | InterfaceKind::Macvlan
        | InterfaceKind::Ipvlan
        | InterfaceKind::Vlan
        | InterfaceKind::Bond
        | InterfaceKind::Tunnel
        | InterfaceKind::Other => Side::Outside,
    }
}

/// What the kernel makes of addresses when nobody changes its routes: every address is local, on
/// loopback the whole network (`fib_add_ifaddr`); the last one of an IPv4 network is its broadcast.
fn from_addresses(interfaces: &[Interface]) -> (Owned, Owned) {
    let (mut local, mut broadcast) = (Owned::new(), Owned::new());
    for each in interfaces {
        for net in &each.addresses {
            // IPv6 addresses leave with their link, IPv4 ones stay.
            if !each.up && net.addr().is_ipv6() {
                continue;
            }
            let whole = each.kind == InterfaceKind::Loopback && net.addr().is_ipv4();
            local.push((if whole { AddrRange::from(*net) } else { AddrRange::one(net.addr()) }, each.index));
            if net.addr().is_ipv4() && net.prefix_len() < 31 && !whole {
                broadcast.push((AddrRange::one(net.broadcast()), each.index));
            }
        }
    }
    (local, broadcast)
}

/// Senders that an answer finds a way to, from addresses and default routes alone.
fn connected(interfaces: &[Interface], family: Family) -> Ranges {
    let mut found = Vec::new();
    for each in interfaces.iter().filter(|each| each.up) {
        if (family == Family::V4 && each.default_v4) || (family == Family::V6 && each.default_v6) {
            return family.all();
        }
        let nets = each.addresses.iter().filter(|net| Family::of(net.addr()) == family);
        found.extend(nets.map(|net| (number(net.network()), number(net.broadcast()))));
    }
    Ranges::new(found)
}
