//! iptables by hand and by tools that feed it: legacy and nft-backed, side by side with nft's own
//! tables, with sets of ipset.

use super::scene::{Scene, Shape};
use crate::lab::{Need, Outcome};
use crate::reach::Kind;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("nft"),
    Need::Tool("iptables-nft-restore"),
    Need::Tool("iptables-legacy-restore"),
];
const WITH_SETS: &[Need] =
    &[Need::Root, Need::Tool("ip"), Need::Tool("iptables-nft-restore"), Need::Tool("ipset")];

pub(super) fn shapes() -> Vec<Shape> {
    let shape = |name, settled, doubt, how, make| Shape {
        name,
        how,
        needs: NEEDS,
        slow: false,
        doubt,
        settled,
        make,
    };
    vec![
        shape(
            "stateful-nft",
            true,
            &[],
            "A simple stateful firewall after Arch's wiki; iptables-nft-restore and ip6tables-nft-restore.",
            |scene| stateful(scene, "nft"),
        ),
        shape(
            "stateful-legacy",
            true,
            &[],
            "A simple stateful firewall after Arch's wiki; iptables-legacy-restore and ip6tables-legacy-restore.",
            |scene| stateful(scene, "legacy"),
        ),
        shape(
            "legacy-beside-nft",
            true,
            &[],
            "Legacy iptables drops what nftables accepts, and the other way round.",
            legacy_beside_nft,
        ),
        shape(
            "iptables-beside-nft",
            true,
            &[],
            "iptables-nft with its own tables and chains, beside tables of nft.",
            iptables_beside_nft,
        ),
        shape(
            "many-matches",
            true,
            &[
                (Kind::Tcp, 22, "recent"),
                (Kind::Tcp, 80, "connlimit"),
                (Kind::Udp, 53, "limit rate 5000/second"),
                // Either port may be in its list, and the sender chooses one.
                (Kind::Udp, 68, "udp sport . udp dport"),
            ],
            "Matches of iptables that guides use: multiport, iprange, mac, mark, connmark, addrtype, pkttype, recent, hashlimit, connlimit, time, length, ttl, owner; iptables-nft-restore.",
            many_matches,
        ),
        Shape {
            needs: WITH_SETS,
            ..shape(
                "ipset-blocklists",
                true,
                &[],
                "Sets of ipset of several types in iptables-nft and iptables-legacy, as fail2ban's and blocklists' scripts make them.",
                blocklists,
            )
        },
    ]
}

fn restore(scene: &Scene, program: &str, text: &str) -> Outcome {
    scene.feed(&[program], text)
}

fn stateful(scene: &mut Scene, kind: &str) -> Outcome {
    let rules = |icmp: &str, reject: &str, near: &str| {
        format!(
            "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:TCP - [0:0]\n:UDP - [0:0]\n\
             -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A INPUT -i lo -j ACCEPT\n\
             -A INPUT -m conntrack --ctstate INVALID -j DROP\n\
             {icmp}\
             -A INPUT -p udp -m conntrack --ctstate NEW -j UDP\n\
             -A INPUT -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j TCP\n\
             -A INPUT -p udp -j REJECT --reject-with {reject}\n\
             -A INPUT -p tcp -j REJECT --reject-with tcp-reset\n\
             -A TCP -p tcp --dport 22 -j ACCEPT -m comment --comment \"ssh, \\\"for all\\\"\"\n\
             -A TCP -p tcp -m multiport --dports 80,443,9000:9100 -j ACCEPT\n\
             -A TCP -s {near} ! -i wan0 -p tcp --dport 8080 -j ACCEPT\n\
             -A TCP -p tcp ! --dport 1:10249 -s {near} -j ACCEPT\n\
             -A UDP -p udp --dport 53 ! -s {near} -j DROP\n\
             -A UDP -p udp --dport 53 -j ACCEPT\n\
             -A UDP -i wan+ -p udp --sport 1024:65535 --dport 51820 -j ACCEPT\n\
             COMMIT\n*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -i lan0 -p udp --dport 123 -j DROP\nCOMMIT\n"
        )
    };
    let four = "-A INPUT -p icmp --icmp-type 8 -m conntrack --ctstate NEW -j ACCEPT\n";
    let six = "-A INPUT -p ipv6-icmp -j ACCEPT\n";
    restore(
        scene,
        &format!("iptables-{kind}-restore"),
        &rules(four, "icmp-port-unreachable", "192.168.7.0/24"),
    )?;
    restore(scene, &format!("ip6tables-{kind}-restore"), &rules(six, "icmp6-port-unreachable", "fd07::/64"))
}

fn legacy_beside_nft(scene: &mut Scene) -> Outcome {
    restore(
        scene,
        "iptables-legacy-restore",
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A INPUT -p tcp --dport 22 -s 8.8.8.8 -j DROP\n-A INPUT -p tcp --dport 80 -i wan0 -j REJECT\n\
         -A INPUT -p tcp --dport 8080 -j ACCEPT\nCOMMIT\n",
    )?;
    scene.feed(
        &["nft", "-f", "-"],
        "table inet filter {\n chain input {\n type filter hook input priority 0; policy drop;\n \
         ct state established,related accept\n iif lo accept\n tcp dport { 22, 80 } accept\n \
         ip saddr 192.168.7.0/24 accept\n udp dport 53 accept\n }\n}\n",
    )
}

fn iptables_beside_nft(scene: &mut Scene) -> Outcome {
    restore(
        scene,
        "iptables-nft-restore",
        "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:IN_WEB - [0:0]\n\
         -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n\
         -A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -p tcp -g IN_WEB\n-A INPUT -p udp --dport 53 -j ACCEPT\n\
         -A IN_WEB -p tcp --dport 80 -j ACCEPT\n-A IN_WEB -p tcp --dport 443 -s 8.0.0.0/8 -j RETURN\n\
         -A IN_WEB -p tcp --dport 443 -j ACCEPT\nCOMMIT\n",
    )?;
    scene.feed(
        &["nft", "-f", "-"],
        "table inet mine {\n chain input {\n type filter hook input priority -1;\n \
         iifname \"lan0\" tcp dport 22 drop\n ip6 saddr 2a00::/16 drop\n }\n \
         chain after {\n type filter hook input priority 1;\n udp dport 53 ip saddr 8.8.8.8 drop\n }\n}\n",
    )
}

fn many_matches(scene: &mut Scene) -> Outcome {
    restore(
        scene,
        "iptables-nft-restore",
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         -A PREROUTING -i lan0 -j MARK --set-xmark 0x10/0xff\n\
         -A PREROUTING -p tcp --dport 8080 -j CONNMARK --set-xmark 0x7/0xffffffff\n\
         COMMIT\n\
         *filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:LOGDROP - [0:0]\n\
         -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A INPUT -i lo -m comment --comment \"our own\" -j ACCEPT\n\
         -A INPUT -m iprange --src-range 8.8.8.0-8.8.9.255 -p tcp --dport 3306 -j ACCEPT\n\
         -A INPUT -m iprange ! --dst-range 192.168.7.1-192.168.7.5 -p tcp --dport 445 -j ACCEPT\n\
         -A INPUT -p tcp --dport 22 -m recent --name ssh --update --seconds 60 --hitcount 200 -j DROP\n\
         -A INPUT -p tcp --dport 22 -m recent --name ssh --set -j ACCEPT\n\
         -A INPUT -p tcp --dport 80 -m connlimit --connlimit-above 5000 --connlimit-mask 32 -j REJECT --reject-with tcp-reset\n\
         -A INPUT -p tcp --dport 80 -j ACCEPT\n\
         -A INPUT -p udp --dport 53 -m hashlimit --hashlimit-upto 5000/sec --hashlimit-burst 5000 --hashlimit-mode srcip --hashlimit-name dns -j ACCEPT\n\
         -A INPUT -p tcp -m tcp --dport 443 -m mark --mark 0x10/0xf0 -j ACCEPT\n\
         -A INPUT -p tcp -m tcp --dport 8080 -m connmark --mark 0x7 -j ACCEPT\n\
         -A INPUT -m addrtype --dst-type BROADCAST -j DROP\n\
         -A INPUT -m pkttype --pkt-type broadcast -j DROP\n\
         -A INPUT -m addrtype ! --src-type UNICAST -j DROP\n\
         -A INPUT -p udp -m multiport --ports 5353,51820 -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT\n\
         -A INPUT -p udp -m udp --dport 123 -m ttl --ttl-gt 1 -m length --length 28:1500 -j ACCEPT\n\
         -A INPUT -p tcp -m tcp --dport 10250 -m dscp ! --dscp 0x2e -j LOGDROP\n\
         -A INPUT -m limit --limit 3/min -j LOG --log-prefix \"dropped: \"\n\
         -A LOGDROP -j LOG\n-A LOGDROP -j DROP\nCOMMIT\n",
    )?;
    restore(
        scene,
        "ip6tables-nft-restore",
        "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -m rpfilter --invert -j DROP\nCOMMIT\n\
         *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A INPUT -m rt --rt-type 0 -j DROP\n\
         -A INPUT -s fe80::/10 -p udp --dport 5353 -j ACCEPT\n\
         -A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j ACCEPT\n\
         -A INPUT -i wan0 -p tcp -m tcp --dport 8080 -m conntrack --ctstate NEW -m conntrack ! --ctstatus SEEN_REPLY -j DROP\n\
         -A INPUT ! -s fd07::/16 -p tcp -m multiport --dports 443,10250 -j REJECT --reject-with icmp6-adm-prohibited\nCOMMIT\n",
    )
}

fn blocklists(scene: &mut Scene) -> Outcome {
    scene.run_all(
        "ipset create banned hash:ip timeout 600
         ipset add banned 203.0.113.9
         ipset create networks hash:net
         ipset add networks 8.8.8.0/24
         ipset add networks 8.8.9.0/24 nomatch
         ipset create admin hash:ip,port
         ipset add admin 192.168.7.9,tcp:8080
         ipset create ports bitmap:port range 0-65535
         ipset add ports 22
         ipset add ports 443
         ipset create six hash:net family inet6
         ipset add six 2a00::/16
         ipset create all list:set
         ipset add all banned
         ipset add all networks",
    )?;
    restore(
        scene,
        "iptables-nft-restore",
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:f2b-sshd - [0:0]\n\
         -A INPUT -p tcp -m multiport --dports 22 -m set --match-set banned src -j REJECT\n\
         -A INPUT -p udp -m set --match-set all src -j DROP\n\
         -A INPUT -i lan0 -p tcp --dport 8080 -m set ! --match-set admin src,dst -j DROP\n\
         -A INPUT -i wan0 -p tcp -m set ! --match-set ports dst -j DROP\nCOMMIT\n",
    )?;
    restore(
        scene,
        "ip6tables-nft-restore",
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A INPUT -m set --match-set six src -p tcp --dport 443 -j DROP\nCOMMIT\n",
    )
}
