//! What a user would say of a host, asked of `expose`; and what holds of every answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq, test_runner::Config};

use super::expose;
use super::ranges::{Family, Ranges};
use crate::model::sample::{Sample, interface};
use crate::model::{
    Endpoint, Exposure, Fact, FilterState, Interface, InterfaceKind, NamespaceId, Path, Protocol, Reach,
    Role, State, Upstream, Verdict,
};

fn listener(sample: &mut Sample, local: &str, port: u16) -> usize {
    bound(sample, Protocol::Tcp, Role::Listener, local, port)
}

fn bound(sample: &mut Sample, protocol: Protocol, role: Role, local: &str, port: u16) -> usize {
    let address: IpAddr = local.parse().expect("an address");
    let made = sample.socket(protocol, State::Listen, "", &[]);
    made.role = role;
    made.local = Endpoint::Inet(address, port);
    made.v6only = address.is_ipv6().then_some(false);
    sample.snapshot.sockets.len() - 1
}

fn judged(sample: &mut Sample, index: usize) -> Exposure {
    expose(&mut sample.snapshot, None);
    *sample.snapshot.sockets[index].exposure.clone().expect("a receiver has an exposure")
}

fn interfaces(sample: &mut Sample) -> &mut Vec<Interface> {
    match &mut sample.snapshot.namespaces[0].interfaces {
        Fact::Known(interfaces) => interfaces,
        Fact::Absent | Fact::Unknown => panic!("the sample has interfaces"),
    }
}

/// A host at home: 192.168.1.7 behind a router.
fn laptop() -> Sample {
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].interfaces = Fact::Known(vec![
        interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"]),
        interface(2, "wlan0", InterfaceKind::Ethernet, &["192.168.1.7/24", "fe80::7/64"]),
        interface(3, "docker0", InterfaceKind::Bridge, &["172.17.0.1/16"]),
    ]);
    sample
}

/// Whether some accepted path has this product of one.
fn gets_in(exposure: &Exposure, interface: &str, source: &str, destination: &str) -> Option<Verdict> {
    let (source, destination) = (source.parse().expect("address"), destination.parse().expect("address"));
    exposure.paths.iter().find(|path| holds(path, interface, source, destination)).map(|path| path.verdict)
}

fn holds(path: &Path, interface: &str, source: IpAddr, destination: IpAddr) -> bool {
    path.entry.interfaces.iter().any(|name| name.as_bytes() == interface.as_bytes())
        && path.sources.iter().any(|range| range.contains(source))
        && path.destinations.iter().any(|range| range.contains(destination))
}

#[test]
fn a_wildcard_listener_on_a_public_address_is_on_the_internet() {
    let mut sample = Sample::new();
    let index = listener(&mut sample, "::", 80);
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain), (Reach::Internet, true));
    assert_eq!(gets_in(&exposure, "eth0", "8.8.8.8", "203.0.113.5"), Some(Verdict::Accept));
    assert_eq!(gets_in(&exposure, "eth0", "2a00::1", "2001:db8::5"), Some(Verdict::Accept));
    assert_eq!(gets_in(&exposure, "lo", "203.0.113.5", "127.9.9.9"), Some(Verdict::Accept));
    assert_eq!(gets_in(&exposure, "eth0", "8.8.8.8", "127.0.0.1"), None);
    assert_eq!(gets_in(&exposure, "eth0", "127.0.0.1", "203.0.113.5"), None);
    assert_eq!(gets_in(&exposure, "eth0", "203.0.113.5", "203.0.113.5"), None);
    assert_eq!(gets_in(&exposure, "eth0", "8.8.8.8", "203.0.113.255"), None);
}

#[test]
fn a_loopback_listener_is_for_this_computer() {
    for address in ["127.0.0.1", "::1"] {
        let mut sample = Sample::new();
        let index = listener(&mut sample, address, 5432);
        let exposure = judged(&mut sample, index);
        assert_eq!((exposure.reach, exposure.certain), (Reach::Host, true));
        assert_eq!(exposure.paths.len(), 1);
    }
}

#[test]
fn a_loopback_listener_may_answer_the_link_where_route_localnet_is_on() {
    for setting in [Some(true), None] {
        let mut sample = Sample::new();
        sample.snapshot.namespaces[0].sysctls.route_localnet = setting;
        let index = listener(&mut sample, "127.0.0.1", 5432);
        let exposure = judged(&mut sample, index);
        assert_eq!((exposure.reach, exposure.certain), (Reach::Link, false));
    }
}

#[test]
fn only_the_interface_that_routes_loopback_addresses_lets_them_in() {
    let mut sample = Sample::new();
    let own = &mut sample.snapshot.namespaces[0];
    own.sysctls.route_localnet = Some(true);
    let mut interfaces = vec![
        interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8"]),
        interface(2, "eth0", InterfaceKind::Ethernet, &["203.0.113.5/24"]),
        interface(3, "eth1", InterfaceKind::Ethernet, &["192.168.7.1/24"]),
    ];
    for (each, allowed) in interfaces.iter_mut().zip([false, false, true]) {
        each.settings.route_localnet = Some(allowed);
    }
    own.interfaces = Fact::Known(interfaces);
    let index = bound(&mut sample, Protocol::Udp, Role::Receiver, "127.0.0.1", 5353);
    let exposure = judged(&mut sample, index);
    assert!(exposure.certain);
    let names: Vec<String> =
        exposure.paths.iter().flat_map(|path| &path.entry.interfaces).map(ToString::to_string).collect();
    assert_eq!(names, ["lo", "eth1"]);
}

#[test]
fn a_laptop_behind_a_router_is_not_on_the_internet() {
    let mut sample = laptop();
    let index = listener(&mut sample, "0.0.0.0", 8080);
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain), (Reach::Lan, true));
    expose(&mut sample.snapshot, Some(Upstream::OneToOne));
    assert_eq!(sample.snapshot.sockets[index].exposure.as_ref().map(|e| e.reach), Some(Reach::Internet));
}

#[test]
fn a_cloud_machine_with_a_private_address_is_on_the_internet() {
    let mut sample = laptop();
    sample.snapshot.host.dmi = Some("Amazon EC2 t3.micro".into());
    let index = listener(&mut sample, "0.0.0.0", 8080);
    assert_eq!(judged(&mut sample, index).reach, Reach::Internet);
    let inner = listener(&mut sample, "127.0.0.1", 8080);
    assert_eq!(judged(&mut sample, inner).reach, Reach::Host);
}

#[test]
fn link_local_addresses_are_for_the_link() {
    let mut sample = laptop();
    let index = listener(&mut sample, "fe80::7", 8080);
    sample.snapshot.sockets[index].interface = 2;
    let exposure = judged(&mut sample, index);
    assert_eq!(exposure.reach, Reach::Link);
    assert_eq!(gets_in(&exposure, "docker0", "fe80::9", "fe80::7"), None);
}

#[test]
fn a_listener_bound_to_the_bridge_of_containers_is_for_containers() {
    let mut sample = laptop();
    let index = listener(&mut sample, "0.0.0.0", 8080);
    sample.snapshot.sockets[index].interface = 3;
    assert_eq!(judged(&mut sample, index).reach, Reach::Container);
}

#[test]
fn a_bridge_with_a_real_port_is_a_network() {
    let mut sample = laptop();
    interfaces(&mut sample)[1].master = Some(3);
    let index = listener(&mut sample, "0.0.0.0", 8080);
    let exposure = judged(&mut sample, index);
    assert_eq!(exposure.reach, Reach::Lan);
    assert_eq!(gets_in(&exposure, "wlan0", "192.168.1.9", "172.17.0.1"), None);
    assert_eq!(gets_in(&exposure, "docker0", "192.168.1.9", "172.17.0.1"), Some(Verdict::Accept));
}

#[test]
fn without_a_way_back_no_handshake_completes() {
    let mut sample = Sample::new();
    interfaces(&mut sample)[1].default_v4 = false;
    let tcp = listener(&mut sample, "0.0.0.0", 53);
    let udp = bound(&mut sample, Protocol::Udp, Role::Receiver, "0.0.0.0", 53);
    let exposure = judged(&mut sample, tcp);
    assert_eq!(gets_in(&exposure, "eth0", "8.8.8.8", "203.0.113.5"), None);
    assert_eq!(gets_in(&exposure, "eth0", "203.0.113.9", "203.0.113.5"), Some(Verdict::Accept));
    let exposure = judged(&mut sample, udp);
    assert_eq!(gets_in(&exposure, "eth0", "8.8.8.8", "203.0.113.5"), Some(Verdict::Accept));
}

#[test]
fn broadcasts_and_groups_reach_datagram_sockets_only() {
    let mut sample = Sample::new();
    interfaces(&mut sample)[1].groups = vec!["224.0.0.251".parse().unwrap(), "ff02::fb".parse().unwrap()];
    let dual = bound(&mut sample, Protocol::Udp, Role::Receiver, "::", 5353);
    let plain = bound(&mut sample, Protocol::Udp, Role::Receiver, "0.0.0.0", 5353);
    let tcp = listener(&mut sample, "::", 5353);
    let one = bound(&mut sample, Protocol::Udp, Role::Receiver, "203.0.113.5", 5353);
    let (yes, may) = (Some(Verdict::Accept), Some(Verdict::Unknown));
    for (index, expected) in
        [(dual, [yes, yes, may, yes]), (plain, [yes, yes, yes, None]), (tcp, [None; 4]), (one, [None; 4])]
    {
        let exposure = judged(&mut sample, index);
        let said = [
            ("203.0.113.9", "203.0.113.255"),
            ("0.0.0.0", "255.255.255.255"),
            ("203.0.113.9", "224.0.0.251"),
            ("fe80::1", "ff02::fb"),
        ]
        .map(|(source, destination)| gets_in(&exposure, "eth0", source, destination));
        assert_eq!(said, expected, "{index}");
    }
}

#[test]
fn a_packet_filter_leaves_every_path_in_doubt_and_lowers_nothing() {
    for filter in
        [FilterState::Some(vec!["nftables: inet filter".into()]), FilterState::Refused("EPERM".into())]
    {
        let mut sample = Sample::new();
        sample.snapshot.namespaces[0].filter = filter;
        sample.snapshot.namespaces[0].translates = None;
        let one = listener(&mut sample, "0.0.0.0", 22);
        let two = listener(&mut sample, "127.0.0.1", 631);
        let exposure = judged(&mut sample, one);
        assert_eq!((exposure.reach, exposure.certain), (Reach::Internet, false));
        assert!(exposure.paths.iter().all(|path| path.verdict == Verdict::Unknown));
        let exposure = judged(&mut sample, two);
        assert_eq!((exposure.reach, exposure.certain), (Reach::Host, false));
        let gaps: Vec<_> = sample.snapshot.gaps.iter().map(|gap| (gap.id.as_ref(), gap.count)).collect();
        assert_eq!(gaps, [("filter-unread", 2)]);
    }
}

#[test]
fn a_translation_that_nobody_read_may_bring_any_port() {
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].filter = FilterState::Some(vec!["nftables: ip nat".into()]);
    sample.snapshot.namespaces[0].translates = Some(true);
    let index = listener(&mut sample, "203.0.113.5", 8080);
    let exposure = judged(&mut sample, index);
    let covered = |port: u16| {
        exposure.paths.iter().any(|path| {
            holds(path, "eth0", "8.8.8.8".parse().unwrap(), "203.0.113.5".parse().unwrap())
                && path
                    .ports
                    .as_ref()
                    .is_some_and(|ports| ports.iter().any(|p| p.first <= port && port <= p.last))
        })
    };
    assert!(covered(8080) && covered(80));
}

#[test]
fn a_container_behind_a_forwarding_host_may_be_on_the_internet() {
    let mut sample = Sample::new();
    interfaces(&mut sample).push(interface(3, "docker0", InterfaceKind::Bridge, &["172.17.0.1/16"]));
    let mut inner = sample.snapshot.namespaces[0].clone();
    inner.inode += 1;
    inner.own = false;
    inner.interfaces = Fact::Known(vec![
        interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8"]),
        Interface { default_v4: true, ..interface(2, "eth0", InterfaceKind::Veth, &["172.17.0.2/16"]) },
    ]);
    sample.snapshot.namespaces.push(inner);
    let index = listener(&mut sample, "0.0.0.0", 6379);
    sample.snapshot.sockets[index].netns = NamespaceId(1);
    assert_eq!(judged(&mut sample, index).reach, Reach::Container);

    sample.snapshot.namespaces[0].sysctls.forward_v4 = Some(true);
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain), (Reach::Lan, false));

    sample.snapshot.namespaces[0].filter = FilterState::Some(vec!["nftables: ip nat".into()]);
    sample.snapshot.namespaces[0].translates = Some(true);
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain), (Reach::Internet, false));
    assert!(exposure.paths.iter().any(|path| path.entry.netns == NamespaceId(0)));
}

#[test]
fn a_namespace_with_only_lo_is_this_computer() {
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].interfaces =
        Fact::Known(vec![interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"])]);
    let index = listener(&mut sample, "::", 1);
    assert_eq!(judged(&mut sample, index).reach, Reach::Host);
}

#[test]
fn an_address_that_is_gone_lets_nobody_in() {
    let mut sample = Sample::new();
    let index = listener(&mut sample, "198.51.100.7", 80);
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain, exposure.paths.len()), (Reach::None, true, 0));
}

#[test]
fn an_unreadable_namespace_is_unknown_never_closed() {
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].interfaces = Fact::Unknown;
    let index = listener(&mut sample, "0.0.0.0", 80);
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain), (Reach::Unknown, false));
}

#[test]
fn a_socket_that_may_be_bound_to_an_interface_is_in_doubt() {
    let mut sample = Sample::new();
    let index = bound(&mut sample, Protocol::Raw, Role::Receiver, "0.0.0.0", 0);
    sample.snapshot.sockets[index].cookie = 0;
    let exposure = judged(&mut sample, index);
    assert_eq!((exposure.reach, exposure.certain), (Reach::Internet, false));
    assert!(sample.snapshot.gaps.iter().any(|gap| gap.id == "bound-interface-unread" && gap.count == 1));
}

/// WireGuard's usual port is one that the kernel could have chosen: it receives all the same.
#[test]
fn a_datagram_socket_on_an_automatic_port_receives_from_everybody() {
    let mut sample = laptop();
    let index = bound(&mut sample, Protocol::Udp, Role::Outbound, "0.0.0.0", 51820);
    sample.snapshot.sockets[index].state = State::Unconnected;
    let exposure = judged(&mut sample, index);
    assert_eq!(gets_in(&exposure, "wlan0", "192.168.1.9", "192.168.1.7"), Some(Verdict::Accept));
    sample.snapshot.sockets[index].remote = Endpoint::Inet("192.168.1.1".parse().expect("an address"), 53);
    expose(&mut sample.snapshot, None);
    assert!(sample.snapshot.sockets[index].exposure.is_none());
}

#[test]
fn who_receives_from_nobody_new_has_no_exposure() {
    let cases: [(Protocol, Role, Endpoint, Option<Reach>); 9] = [
        (Protocol::Tcp, Role::Inbound, Endpoint::None, None),
        (Protocol::Udp, Role::Outbound, Endpoint::None, None),
        (Protocol::Packet, Role::Receiver, Endpoint::Interface(0), None),
        (Protocol::Netlink, Role::Receiver, Endpoint::None, None),
        (Protocol::Unix, Role::Listener, Endpoint::UnixPath("/run/x".into()), Some(Reach::Host)),
        (Protocol::Unix, Role::Receiver, Endpoint::UnixAbstract("x".into()), Some(Reach::Host)),
        (Protocol::Unix, Role::Inbound, Endpoint::UnixPath("/run/x".into()), None),
        (Protocol::Unix, Role::Peer, Endpoint::None, Some(Reach::Process)),
        (Protocol::Vsock, Role::Listener, Endpoint::Vsock { cid: 3, port: 22 }, Some(Reach::Host)),
    ];
    for (protocol, role, local, expected) in cases {
        let mut sample = Sample::new();
        let made = sample.socket(protocol, State::Listen, "", &[]);
        (made.role, made.local) = (role, local);
        expose(&mut sample.snapshot, None);
        let exposure = sample.snapshot.sockets[0].exposure.as_ref();
        assert_eq!(exposure.map(|e| e.reach), expected, "{protocol:?} {role:?}");
        assert!(exposure.is_none_or(|e| e.paths.is_empty() && e.certain));
    }
}

fn hosts() -> impl Strategy<Value = Vec<Interface>> {
    let address = prop_oneof![
        Just("10.0.0.5/24"),
        Just("10.0.0.6/24"),
        Just("203.0.113.5/30"),
        Just("169.254.3.4/16"),
        Just("fe80::5/64"),
        Just("fd00::5/64"),
        Just("2001:db8::5/64"),
        Just("::ffff:10.0.0.5/128"),
    ];
    let kind = proptest::sample::select(InterfaceKind::ALL);
    let one = (kind, proptest::collection::vec(address, 0..4), any::<(bool, bool, bool, bool)>(), 0u32..5);
    proptest::collection::vec(one, 0..4).prop_map(|list| {
        let lo = interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"]);
        let rest = list.into_iter().enumerate().map(|(n, (kind, addresses, flags, master))| {
            let index = u32::try_from(n).unwrap() + 2;
            let mut made = interface(index, &format!("if{n}"), kind, &addresses);
            (made.up, made.default_v4, made.default_v6) = (flags.0, flags.1, flags.2);
            made.master = (master > 1 && master != index).then_some(master);
            if flags.3 {
                made.groups = ["224.0.0.1", "239.1.1.1", "ff02::1", "ff01::1", "ff05::2"]
                    .map(|group| group.parse().unwrap())
                    .to_vec();
            }
            made
        });
        std::iter::once(lo).chain(rest).collect()
    })
}

fn set(family: Family, ranges: &[crate::model::AddrRange]) -> Ranges {
    family.pick(ranges)
}

/// Two products share a packet only if all four of their sides meet.
fn overlap(a: &Path, b: &Path) -> bool {
    let ports = |path: &Path| {
        let list = path.ports.clone().unwrap_or_default();
        Ranges::new(list.iter().map(|range| (range.first.into(), range.last.into())).collect())
    };
    a.entry.netns == b.entry.netns
        && a.entry.interfaces.iter().any(|name| b.entry.interfaces.contains(name))
        && (a.ports.is_none() || ports(a).meets(&ports(b)))
        && Family::BOTH.into_iter().any(|family| {
            set(family, &a.destinations).meets(&set(family, &b.destinations))
                && set(family, &a.sources).meets(&set(family, &b.sources))
        })
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
    #[test]
    fn paths_are_products_of_one_family_that_never_overlap(
        interfaces in hosts(),
        address in prop_oneof![Just("0.0.0.0"), Just("::"), Just("10.0.0.5"), Just("fe80::5"), Just("127.0.0.1"),
            Just("10.0.0.255"), Just("224.0.0.1"), Just("::1")],
        protocol in prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Raw), Just(Protocol::Icmp)],
        device in 0u32..4,
        v6only in any::<Option<bool>>(),
        localnet in any::<Option<bool>>(),
        filter in prop_oneof![Just((FilterState::None, Some(false))), Just((FilterState::Unasked, None))],
    ) {
        let mut sample = Sample::new();
        let own = &mut sample.snapshot.namespaces[0];
        own.interfaces = Fact::Known(interfaces);
        (own.filter, own.translates) = filter;
        own.sysctls.route_localnet = localnet;
        let index = bound(&mut sample, protocol, Role::Receiver, address, 4000);
        sample.snapshot.sockets[index].v6only = v6only;
        sample.snapshot.sockets[index].interface = device;
        let exposure = judged(&mut sample, index);
        prop_assert_eq!(exposure.certain, exposure.reach != Reach::Unknown
            && exposure.paths.iter().all(|path| path.verdict == Verdict::Accept));
        let mut seen = BTreeMap::new();
        for (number, path) in exposure.paths.iter().enumerate() {
            prop_assert!(!path.sources.is_empty() && !path.destinations.is_empty());
            prop_assert!(!path.entry.interfaces.is_empty());
            prop_assert_eq!(path.ports.is_some(), protocol.has_ports());
            let families: Vec<bool> = path.sources.iter().chain(&*path.destinations).map(|r| r.first.is_ipv4()).collect();
            prop_assert!(families.windows(2).all(|pair| pair[0] == pair[1]));
            for other in &exposure.paths[..number] {
                prop_assert!(!overlap(path, other), "{:?} {:?}", path, other);
            }
            seen.insert(number, path);
        }
    }
}
