//! Ports that the host's translation hands to another namespace of this computer, and what steers
//! packets by marks and tables.

use super::scene::{Scene, Shape};
use crate::lab::{Need, Netns, Outcome, cable};
use crate::reach::Kind;
use crate::ruled::hardware;

const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];

pub(super) fn shapes() -> Vec<Shape> {
    let shape =
        |name, settled, how, make| Shape { name, how, needs: NEEDS, slow: false, doubt: &[], settled, make };
    vec![
        shape(
            "published-by-hand",
            true,
            "A namespace behind a veth pair, its ports published by dnat rules of nftables, masquerading to the outside.",
            by_hand,
        ),
        shape("redirected", true, "redirect and dnat to the host itself, by nftables maps.", redirected),
        Shape {
            // A neighbour may send any packet in a frame to one.
            doubt: &[(Kind::Udp, 5300, "redirect to :53")],
            ..shape(
                "loopback-routed",
                true,
                "route_localnet on the interface of the LAN, a service at loopback published there by dnat, and drop_unicast_in_l2_multicast on the other; `nft -f`.",
                loopback_routed,
            )
        },
        shape(
            "kill-switch",
            true,
            "wg-quick's rules and policy routing (this kernel has no WireGuard: a tun device stands for it), and the usual kill switch on output.",
            kill_switch,
        ),
        shape(
            // Whoever calls from far away is answered through the tunnel: whether that finds him nobody
            // here knows.
            "kill-switch-published",
            false,
            "The same with a published namespace behind a veth pair, and loose reverse path filters as systemd sets them.",
            |scene| {
                by_hand(scene)?;
                tunnel(scene)?;
                scene.run_all("sysctl -qw net.ipv4.conf.all.rp_filter=2")
            },
        ),
        shape(
            "two-uplinks",
            true,
            "A host of two networks that answers by the one that it was asked by: a table for each address, after LARTC; ip-rule.",
            two_uplinks,
        ),
        shape(
            // A socket with the mark itself (`SO_MARK`) would answer nobody.
            "transparent-proxy",
            false,
            "Marked packets are delivered here whatever their destination, as guides to tproxy have it; ip-rule and nft.",
            transparent_proxy,
        ),
    ]
}

/// A namespace at the end of a cable of the host's, which forwards.
pub(super) fn inner(scene: &mut Scene) -> Outcome<usize> {
    let inner = Netns::named("inner")?;
    cable(
        (&scene.town.host, "vec0", &["10.88.0.1/24", "fd88::1/64"]),
        (&inner, "eth0", &["10.88.0.2/24", "fd88::2/64"]),
    )?;
    // Neighbours are known for good, so that rules against ICMPv6 change nothing by chance.
    for (netns, far, near, addresses) in [
        (&scene.town.host, (&inner, "eth0"), "vec0", ["10.88.0.2", "fd88::2"]),
        (&inner, (&scene.town.host, "vec0"), "eth0", ["10.88.0.1", "fd88::1"]),
    ] {
        let hardware = hardware(far.0, far.1)?;
        let link = scene.town.link_local(far.0, far.1)?.ip().to_string();
        for address in addresses.into_iter().chain([link.as_str()]) {
            netns.ip(&format!("neigh replace {address} lladdr {hardware} dev {near} nud permanent"))?;
        }
    }
    inner.ip("route add default via 10.88.0.1")?;
    inner.ip("-6 route add default via fd88::1")?;
    scene.run_all("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
    let place = scene.place(inner.path())?;
    scene.keep.push(inner);
    scene.sender(place, "vec0", "10.88.0.2")?;
    scene.sender(place, "vec0", "fd88::2")?;
    Ok(place)
}

fn by_hand(scene: &mut Scene) -> Outcome {
    let place = inner(scene)?;
    let web = scene.listen(place, Kind::Tcp, "[::]:80")?;
    scene.ask_port(web, 8081, &["10.88.0.2"])?;
    scene.ask_port(web, 80, &["10.88.0.2", "fd88::2"])?;
    let names = scene.listen(place, Kind::Udp, "0.0.0.0:53")?;
    scene.ask_port(names, 5300, &[])?;
    let private = scene.listen(place, Kind::Tcp, "127.0.0.1:9000")?;
    scene.ask_port(private, 9000, &["10.88.0.2"])?;
    scene.feed(
        &["nft", "-f", "-"],
        "table inet publish {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"wan0\" ip daddr 203.0.113.5 tcp dport 8081 dnat ip to 10.88.0.2:80
                iifname \"wan0\" ip6 daddr 2001:db8:1::5 tcp dport 8081 dnat ip6 to [fd88::2]:80
                udp dport 5300 meta nfproto ipv4 dnat ip to 10.88.0.2:53
            }
            chain output {
                type nat hook output priority -100; policy accept;
                oifname \"lo\" ip daddr 203.0.113.5 tcp dport 8081 dnat ip to 10.88.0.2:80
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr 10.88.0.0/24 oifname \"wan0\" masquerade
            }
            chain forward {
                type filter hook forward priority filter; policy drop;
                ct state established,related accept
                ct status dnat accept
                iifname \"vec0\" accept
            }
            chain input {
                type filter hook input priority filter; policy drop;
                ct state established,related accept
                iifname { \"lo\", \"vec0\" } accept
                tcp dport 22 accept
            }
        }",
    )
}

fn redirected(scene: &mut Scene) -> Outcome {
    scene.ask_port(1, 8888, &[])?;
    scene.ask_port(3, 9999, &[])?;
    scene.ask_port(6, 7777, &[])?;
    scene.ask_port(8, 5300, &[])?;
    scene.feed(
        &["nft", "-f", "-"],
        "table ip nat {
            map ports {
                type inet_service : inet_service
                elements = { 8888 : 80, 7777 : 5432 }
            }
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                tcp dport 9999 ip daddr 203.0.113.5 dnat to 192.168.7.1:8080
                meta l4proto tcp redirect to :tcp dport map @ports
            }
        }
        table inet fw {
            chain prerouting {
                type nat hook prerouting priority dstnat + 10; policy accept;
                udp dport 5300 redirect to :53
            }
            chain input {
                type filter hook input priority filter; policy drop;
                ct state established,related accept
                iifname \"lo\" accept
                meta l4proto tcp ct original proto-dst 8888 accept
                tcp dport { 22, 8080 } accept
                ct status dnat udp dport 53 accept
            }
        }",
    )
}

fn loopback_routed(scene: &mut Scene) -> Outcome {
    scene.town.lan.sysctl("net/ipv4/conf/l0/route_localnet", "1")?;
    // A neighbour that has no loopback network of its own.
    scene.town.lan.ip("addr flush dev lo")?;
    scene.town.lan.ip("route add 127.0.0.0/8 via 192.168.7.1")?;
    for (listener, port) in [(1, 80), (6, 5432), (8, 53), (9, 123)] {
        scene.ask_loopback(listener, port);
    }
    scene.ask_port(6, 7777, &[])?;
    scene.ask_port(8, 5300, &[])?;
    scene.run_all(
        "sysctl -qw net.ipv4.conf.lan0.route_localnet=1 net.ipv4.conf.wan0.drop_unicast_in_l2_multicast=1",
    )?;
    scene.feed(
        &["nft", "-f", "-"],
        "table ip nat {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                tcp dport 7777 dnat to 127.0.0.1:5432
                udp dport 5300 redirect to :53
            }
        }",
    )
}

/// As wg-quick sets routes.
fn tunnel(scene: &Scene) -> Outcome {
    scene.run_all(
        "ip tuntap add wg0 mode tun
         ip addr add 10.66.0.2/32 dev wg0
         ip link set wg0 up
         ip route add default dev wg0 table 51820
         ip rule add not fwmark 0xca6c table 51820
         ip rule add table main suppress_prefixlength 0
         sysctl -qw net.ipv4.conf.all.src_valid_mark=1",
    )
}

fn two_uplinks(scene: &mut Scene) -> Outcome {
    scene.run_all(
        "ip route add default via 203.0.113.9 dev wan0 table 101
         ip route add 192.168.7.0/24 dev lan0 table 101
         ip route add default via 192.168.7.9 dev lan0 table 102
         ip route add 203.0.113.0/24 dev wan0 table 102
         ip rule add from 203.0.113.5 table 101
         ip rule add from 192.168.7.1 table 102
         ip -6 rule add from fd07::1 to 2001:db8:1::/64 prohibit
         ip -6 rule add from 2001:db8:1::5 iif lo table 101
         ip -6 route add default via 2001:db8:1::9 dev wan0 table 101
         ip -6 route add fd07::/64 dev lan0 table 101",
    )?;
    scene.feed(
        &["nft", "-f", "-"],
        "table inet filter {
            chain input {
                type filter hook input priority filter; policy drop;
                ct state established,related accept
                iifname \"lo\" accept
                tcp dport { 22, 80, 443 } accept
                iifname \"lan0\" accept
            }
            chain output {
                type filter hook output priority filter; policy accept;
                oifname \"lan0\" ip daddr != 192.168.0.0/16 drop
            }
        }",
    )
}

fn transparent_proxy(scene: &mut Scene) -> Outcome {
    scene.ask_port(1, 80, &["198.51.100.1"])?;
    scene.ask_port(3, 8080, &["198.51.100.1"])?;
    scene.town.wan.ip("route add 198.51.100.1 via 203.0.113.5")?;
    scene.run_all(
        "ip rule add fwmark 1 table 100
         ip route add local 0.0.0.0/0 dev lo table 100
         sysctl -qw net.ipv4.ip_forward=1",
    )?;
    scene.feed(
        &["nft", "-f", "-"],
        "table ip divert {
            chain prerouting {
                type filter hook prerouting priority mangle; policy accept;
                iifname \"lan0\" tcp dport 8080 meta mark set 1 accept
            }
        }
        table inet filter {
            chain input {
                type filter hook input priority filter; policy drop;
                ct state established,related accept
                iifname { \"lo\", \"lan0\" } accept
                tcp dport { 22, 443 } accept
            }
        }",
    )
}

fn kill_switch(scene: &mut Scene) -> Outcome {
    tunnel(scene)?;
    scene.feed(
        &["nft", "-f", "-"],
        "table ip wg-quick-wg0 {
            chain preraw {
                type filter hook prerouting priority raw; policy accept;
                iifname != \"wg0\" ip daddr 10.66.0.2 fib saddr type != local drop
            }
            chain premangle {
                type filter hook prerouting priority mangle; policy accept;
                meta l4proto udp meta mark set ct mark
            }
            chain postmangle {
                type filter hook postrouting priority mangle; policy accept;
                meta l4proto udp meta mark 0x0000ca6c ct mark set meta mark
            }
        }
        table inet killswitch {
            chain output {
                type filter hook output priority filter; policy drop;
                oifname { \"lo\", \"wg0\" } accept
                meta mark 0x0000ca6c accept
                ip daddr 192.168.7.0/24 accept
                ip6 daddr fd07::/64 accept
            }
            chain input {
                type filter hook input priority filter; policy drop;
                iifname \"lo\" accept
                ct state established,related accept
                ip saddr 192.168.7.0/24 accept
                ip6 saddr fd07::/64 accept
                udp dport 51820 accept
            }
        }",
    )
}
