//! The tables of kube-proxy in both of its modes, written as it writes them (Kubernetes 1.31,
//! pkg/proxy/iptables and pkg/proxy/nftables), for two services with endpoints in a namespace of this
//! computer.

use super::published::inner;
use super::scene::{Scene, Shape};
use crate::lab::{Need, Outcome};
use crate::reach::Kind;

const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft"), Need::Tool("iptables-nft-restore")];

pub(super) fn shapes() -> Vec<Shape> {
    let shape =
        |name, doubt, how, make| Shape { name, how, needs: NEEDS, slow: false, doubt, settled: true, make };
    vec![
        shape(
            "kube-proxy-iptables",
            &[(Kind::Tcp, 30080, "meta random"), (Kind::Tcp, 8123, "meta random")],
            "kube-proxy's chains in iptables mode, written by hand in its shape: a NodePort and a ClusterIP service, one of two endpoints chosen by chance, a service without endpoints; iptables-nft-restore.",
            iptables,
        ),
        shape(
            "kube-proxy-nftables",
            &[(Kind::Tcp, 30080, "numgen random mod 2"), (Kind::Tcp, 8123, "numgen random mod 2")],
            "kube-proxy's table in nftables mode, written by hand in its shape: the same services by verdict maps; `nft -f`.",
            nftables,
        ),
    ]
}

fn endpoints(scene: &mut Scene) -> Outcome {
    let place = inner(scene)?;
    scene.run("ip netns exec inner ip addr add 10.88.0.3/24 dev eth0")?;
    let web = scene.listen(place, Kind::Tcp, "10.88.0.2:8000")?;
    for (port, others) in [(30080, &[][..]), (8123, &["10.96.0.10"]), (8000, &["10.88.0.2"])] {
        scene.ask_port(web, port, others)?;
    }
    let names = scene.listen(place, Kind::Udp, "10.88.0.2:53")?;
    scene.ask_port(names, 53, &["10.96.0.53", "10.88.0.2"])?;
    scene.ask_port(names, 30053, &[])?;
    scene.town.wan.ip("route add 10.96.0.0/16 via 203.0.113.5")?;
    scene.town.lan.ip("route add 10.96.0.0/16 via 192.168.7.1")
}

fn iptables(scene: &mut Scene) -> Outcome {
    endpoints(scene)?;
    scene.feed(
        &["iptables-nft-restore"],
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         :KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
         :KUBE-SVC-WEB - [0:0]\n:KUBE-EXT-WEB - [0:0]\n:KUBE-SEP-WEB1 - [0:0]\n:KUBE-SEP-WEB2 - [0:0]\n\
         :KUBE-SVC-DNS - [0:0]\n:KUBE-SEP-DNS1 - [0:0]\n\
         -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n\
         -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment \"default/web cluster IP\" -m tcp --dport 8123 -j KUBE-SVC-WEB\n\
         -A KUBE-SERVICES -d 10.96.0.53/32 -p udp -m comment --comment \"kube-system/dns cluster IP\" -m udp --dport 53 -j KUBE-SVC-DNS\n\
         -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
         -A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web\" -m tcp --dport 30080 -j KUBE-EXT-WEB\n\
         -A KUBE-EXT-WEB -m comment --comment \"masquerade traffic for default/web external destinations\" -j KUBE-MARK-MASQ\n\
         -A KUBE-EXT-WEB -j KUBE-SVC-WEB\n\
         -A KUBE-SVC-WEB ! -s 10.88.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 8123 -j KUBE-MARK-MASQ\n\
         -A KUBE-SVC-WEB -m comment --comment \"default/web -> 10.88.0.2:8000\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-WEB1\n\
         -A KUBE-SVC-WEB -m comment --comment \"default/web -> 10.88.0.3:8000\" -j KUBE-SEP-WEB2\n\
         -A KUBE-SEP-WEB1 -s 10.88.0.2/32 -j KUBE-MARK-MASQ\n\
         -A KUBE-SEP-WEB1 -p tcp -m tcp -j DNAT --to-destination 10.88.0.2:8000\n\
         -A KUBE-SEP-WEB2 -s 10.88.0.3/32 -j KUBE-MARK-MASQ\n\
         -A KUBE-SEP-WEB2 -p tcp -m tcp -j DNAT --to-destination 10.88.0.3:8000\n\
         -A KUBE-SVC-DNS -j KUBE-SEP-DNS1\n\
         -A KUBE-SEP-DNS1 -s 10.88.0.2/32 -j KUBE-MARK-MASQ\n\
         -A KUBE-SEP-DNS1 -p udp -m udp -j DNAT --to-destination 10.88.0.2:53\nCOMMIT\n\
         *filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         :KUBE-FIREWALL - [0:0]\n:KUBE-FORWARD - [0:0]\n:KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n\
         -A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL\n\
         -A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES\n\
         -A INPUT -j KUBE-FIREWALL\n\
         -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
         -A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-FIREWALL\n\
         -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A KUBE-SERVICES -d 10.96.0.99/32 -p tcp -m comment --comment \"default/empty has no endpoints\" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable\n\
         -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment \"default/empty has no endpoints\" -m addrtype --dst-type LOCAL -m tcp --dport 443 -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n",
    )
}

fn nftables(scene: &mut Scene) -> Outcome {
    endpoints(scene)?;
    scene.feed(
        &["nft", "-f", "-"],
        "table ip kube-proxy {
            comment \"rules for kube-proxy\"
            set cluster-ips {
                type ipv4_addr
                elements = { 10.96.0.10, 10.96.0.53, 10.96.0.99 }
            }
            set nodeport-ips {
                type ipv4_addr
                elements = { 203.0.113.5 }
            }
            map no-endpoint-services {
                type ipv4_addr . inet_proto . inet_service : verdict
                elements = { 10.96.0.99 . tcp . 80 comment \"default/empty\" : goto reject-chain }
            }
            map no-endpoint-nodeports {
                type inet_proto . inet_service : verdict
                elements = { tcp . 443 comment \"default/empty\" : goto reject-chain }
            }
            map firewall-ips {
                type ipv4_addr . inet_proto . inet_service : verdict
            }
            map service-ips {
                type ipv4_addr . inet_proto . inet_service : verdict
                elements = { 10.96.0.10 . tcp . 8123 comment \"default/web\" : goto service-WEB,
                    10.96.0.53 . udp . 53 comment \"kube-system/dns\" : goto service-DNS }
            }
            map service-nodeports {
                type inet_proto . inet_service : verdict
                elements = { tcp . 30080 comment \"default/web\" : goto external-WEB }
            }
            chain reject-chain {
                reject
            }
            chain mark-for-masquerade {
                meta mark set meta mark or 0x4000
            }
            chain endpoint-WEB1 {
                ip saddr 10.88.0.2 jump mark-for-masquerade
                meta l4proto tcp dnat to 10.88.0.2:8000
            }
            chain endpoint-WEB2 {
                ip saddr 10.88.0.3 jump mark-for-masquerade
                meta l4proto tcp dnat to 10.88.0.3:8000
            }
            chain endpoint-DNS1 {
                ip saddr 10.88.0.2 jump mark-for-masquerade
                meta l4proto udp dnat to 10.88.0.2:53
            }
            chain service-WEB {
                ip daddr 10.96.0.10 tcp dport 8123 ip saddr != 10.88.0.0/16 jump mark-for-masquerade
                numgen random mod 2 vmap { 0 : goto endpoint-WEB1, 1 : goto endpoint-WEB2 }
            }
            chain service-DNS {
                goto endpoint-DNS1
            }
            chain external-WEB {
                jump mark-for-masquerade
                goto service-WEB
            }
            chain services {
                ip daddr . meta l4proto . th dport vmap @service-ips
                ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
            }
            chain service-endpoints-check {
                ip daddr . meta l4proto . th dport vmap @no-endpoint-services
            }
            chain nodeport-endpoints-check {
                ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
            }
            chain firewall-check {
                ip daddr . meta l4proto . th dport vmap @firewall-ips
            }
            chain cluster-ips-check {
                ip daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"
            }
            chain masquerading {
                meta mark & 0x4000 == 0 return
                meta mark set meta mark ^ 0x4000
                masquerade fully-random
            }
            chain nat-prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                jump services
            }
            chain nat-output {
                type nat hook output priority -100; policy accept;
                jump services
            }
            chain nat-postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                jump masquerading
            }
            chain filter-prerouting-pre-dnat {
                type filter hook prerouting priority dstnat - 10; policy accept;
                ct state new jump firewall-check
            }
            chain filter-input {
                type filter hook input priority -110; policy accept;
                ct state new jump nodeport-endpoints-check
                ct state new jump service-endpoints-check
            }
            chain filter-forward {
                type filter hook forward priority -110; policy accept;
                ct state new jump service-endpoints-check
            }
            chain filter-output {
                type filter hook output priority -110; policy accept;
                ct state new jump service-endpoints-check
            }
            chain filter-output-post-dnat {
                type filter hook output priority -90; policy accept;
                ct state new jump cluster-ips-check
            }
        }",
    )
}
