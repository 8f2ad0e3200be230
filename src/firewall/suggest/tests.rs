//! What is offered for which socket, word for word.

use super::remedies;
use crate::finding::Remedy;
use crate::model::sample::{Sample, interface};
use crate::model::{
    Activation, Ancestor, Container, Fact, FrontEnd, Interface, InterfaceKind, NamespaceId, Protocol, Reach,
    SocketIndex,
};

fn offered(sample: &Sample) -> Vec<Remedy> {
    remedies(&sample.snapshot, &sample.everything())
}

fn redis(unit: Option<&str>) -> Sample {
    let mut sample = Sample::new();
    sample.process(100, "/usr/bin/redis-server").unit = Fact::from(unit.map(Into::into));
    sample.listener("0.0.0.0:6379", Reach::Internet, &[100]);
    sample
}

#[test]
fn the_unit_comes_first_then_one_rule() {
    let found = offered(&redis(Some("redis.service")));
    let kinds: Vec<&str> = found.iter().map(|remedy| remedy.kind.as_str()).collect();
    assert_eq!(kinds, ["unit", "unit", "firewall"]);
    assert_eq!(
        found[0].commands,
        [
            "mkdir -p /etc/systemd/system/redis.service.d",
            "printf '%s\\n' '[Service]' 'IPAddressDeny=any' 'IPAddressAllow=localhost' > \
             /etc/systemd/system/redis.service.d/50-sockwarden-address.conf",
            "systemctl daemon-reload && systemctl restart redis.service",
        ]
    );
    assert_eq!(found[1].commands, ["systemctl disable --now redis.service"]);
    assert_eq!(
        found[2].commands,
        [
            "nft 'add table inet sockwarden_tcp_6379; add chain inet sockwarden_tcp_6379 input { type filter hook \
          input priority -10; policy accept; }; add rule inet sockwarden_tcp_6379 input iifname != \"lo\" meta \
          nfproto ipv4 tcp dport 6379 counter drop'"
        ]
    );
    assert_eq!(found[2].undo, ["nft delete table inet sockwarden_tcp_6379"]);
}

#[test]
fn a_local_listener_needs_no_firewall() {
    let mut sample = Sample::new();
    sample.process(100, "/usr/bin/redis-server").unit = Fact::Known("redis.service".into());
    sample.listener("127.0.0.1:6379", Reach::Host, &[100]);
    let titles: Vec<String> = offered(&sample).into_iter().map(|remedy| remedy.title).collect();
    assert_eq!(titles, ["Stop redis.service and keep it from starting"]);
}

#[test]
fn the_language_is_that_of_the_active_packet_filter() {
    let first = |keepers: &[FrontEnd]| {
        let mut sample = redis(None);
        sample.snapshot.namespaces[0].front_ends = keepers.to_vec();
        let found = offered(&sample);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].commands.len(), found[0].undo.len());
        found[0].commands[0].clone()
    };
    assert_eq!(
        first(&[FrontEnd::Ufw, FrontEnd::IptablesNft]),
        "ufw prepend deny in proto tcp from 0.0.0.0/1 to any port 6379"
    );
    assert_eq!(
        first(&[FrontEnd::Firewalld]),
        "firewall-cmd --permanent --add-rich-rule='rule family=\"ipv4\" priority=\"-100\" port port=\"6379\" \
         protocol=\"tcp\" drop'"
    );
    assert_eq!(
        first(&[FrontEnd::IptablesLegacy]),
        "iptables-legacy -I INPUT ! -i lo -p tcp --dport 6379 -j DROP"
    );
    assert_eq!(first(&[FrontEnd::IptablesNft]), "iptables-nft -I INPUT ! -i lo -p tcp --dport 6379 -j DROP");
    assert!(first(&[FrontEnd::Nftables]).contains("hook input"));
    assert!(first(&[FrontEnd::Docker, FrontEnd::IptablesNft]).contains("hook prerouting priority -110"));
}

#[test]
fn one_program_with_many_ports_is_one_rule_set() {
    let mut sample = redis(None);
    sample.listener("[::]:6379", Reach::Internet, &[100]).v6only = Some(false);
    sample.listener("203.0.113.5:16379", Reach::Internet, &[100]);
    sample.listener("0.0.0.0:6380", Reach::Internet, &[100]).protocol = Protocol::Udp;
    let found = offered(&sample);
    assert_eq!(found.len(), 1);
    let rules: Vec<&str> =
        found[0].commands[0].split("; ").filter(|part| part.starts_with("add rule")).collect();
    assert_eq!(rules.len(), 4, "{rules:?}");
    assert!(rules.iter().any(|rule| rule.contains("ip daddr 203.0.113.5 tcp dport 16379")));
    assert!(rules.iter().any(|rule| rule.contains("lo\" tcp dport 6379")));
    assert!(rules.iter().any(|rule| rule.contains("udp dport 6380")));
}

#[test]
fn a_socket_unit_is_rebound_and_disabled_with_its_service() {
    let mut sample = Sample::new();
    sample.process(1, "/usr/lib/systemd/systemd");
    let socket = sample.listener("[::]:22", Reach::Internet, &[1]);
    socket.v6only = Some(false);
    socket.activation =
        Some(Box::new(Activation { units: vec!["ssh.socket".into()], services: vec!["ssh.service".into()] }));
    let found = offered(&sample);
    assert_eq!(
        found[0].commands[1],
        "printf '%s\\n' '[Socket]' 'ListenStream=' 'ListenStream=127.0.0.1:22' 'ListenStream=[::1]:22' > \
         /etc/systemd/system/ssh.socket.d/50-sockwarden-listen.conf"
    );
    assert!(found[1].commands[0].ends_with("ssh.socket.d"));
    assert_eq!(found[2].commands, ["systemctl disable --now ssh.socket ssh.service"]);
    assert!(found[2].note.as_ref().is_some_and(|note| note.contains("another way in")));
}

#[test]
fn names_of_other_programs_reach_no_command() {
    for hostile in
        ["a.service; reboot", "$(reboot).service", "x\n.service", "-H.service", "user@1000.service"]
    {
        let found = offered(&redis(Some(hostile)));
        assert_eq!(found.len(), 1, "{hostile}");
        assert_eq!(found[0].kind, "firewall");
    }
}

#[test]
fn a_unit_inside_a_container_is_not_ours_to_stop() {
    let mut sample = redis(Some("redis.service"));
    let container = Container { runtime: "lxc".into(), id: "c1".into(), name: None, image: None };
    sample.snapshot.processes[0].container = Fact::Known(container);
    assert!(offered(&sample).iter().all(|remedy| remedy.kind == "firewall"));
}

#[test]
fn a_unit_of_a_user_is_not_the_systems_to_stop() {
    let mut sample = redis(Some("redis.service"));
    let manager = Ancestor { pid: 900, name: "systemd".into() };
    sample.snapshot.processes[0].parents = Fact::Known(vec![manager]);
    assert!(offered(&sample).iter().all(|remedy| remedy.kind == "firewall"));
}

/// redis in another namespace, at 172.17.0.2 on a cable; ours has 172.17.0.1 on a bridge if `bridged`.
fn contained(bridged: bool) -> Sample {
    let mut sample = redis(None);
    let mut inner = sample.snapshot.namespaces[0].clone();
    (inner.inode, inner.own) = (7, false);
    inner.interfaces = Fact::Known(vec![
        interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8"]),
        interface(2, "eth0", InterfaceKind::Veth, &["172.17.0.2/16"]),
    ]);
    sample.snapshot.namespaces.push(inner);
    sample.snapshot.sockets[0].netns = NamespaceId(1);
    sample.snapshot.processes[0].netns = Fact::Known(7);
    if bridged {
        interfaces(&mut sample, 0).push(interface(3, "br0", InterfaceKind::Bridge, &["172.17.0.1/16"]));
    }
    sample
}

fn interfaces(sample: &mut Sample, namespace: usize) -> &mut Vec<Interface> {
    let Fact::Known(all) = &mut sample.snapshot.namespaces[namespace].interfaces else { panic!("unknown") };
    all
}

#[test]
fn a_container_is_closed_on_its_way_through_the_host() {
    let mut sample = contained(true);
    let found = remedies(&sample.snapshot, &[SocketIndex(0)]);
    assert!(found[0].commands[0].contains("hook forward priority -10"));
    assert!(found[0].commands[0].contains("forward ip daddr 172.17.0.2 tcp dport 6379 counter drop"));
    sample.snapshot.namespaces[0].front_ends = vec![FrontEnd::Docker, FrontEnd::IptablesNft];
    let found = remedies(&sample.snapshot, &[SocketIndex(0)]);
    assert_eq!(
        found[0].commands,
        ["iptables-nft -I DOCKER-USER -d 172.17.0.2/32 -p tcp --dport 6379 -j DROP"]
    );
}

#[test]
fn what_no_network_of_ours_leads_to_is_closed_inside() {
    let found = offered(&contained(false));
    assert_eq!(
        found[0].commands,
        [
            "nsenter -t 100 -n nft 'add table inet sockwarden_tcp_6379; add chain inet sockwarden_tcp_6379 input { \
          type filter hook input priority -10; policy accept; }; add rule inet sockwarden_tcp_6379 input iifname \
          != \"lo\" meta nfproto ipv4 tcp dport 6379 counter drop'"
        ]
    );
    assert_eq!(found[0].undo, ["nsenter -t 100 -n nft delete table inet sockwarden_tcp_6379"]);
    let inside = |change: fn(&mut Sample)| {
        let mut sample = contained(true);
        change(&mut sample);
        let found = offered(&sample);
        found.len() == 1 && found[0].commands[0].starts_with("nsenter -t 100 -n nft ")
    };
    assert!(!inside(|_| ()), "our bridge leads there");
    // Both ends of a cable are inside, one with the address of our bridge.
    assert!(inside(|sample| {
        let ours = interface(3, "eth1", InterfaceKind::Veth, &["172.17.0.1/16"]);
        interfaces(sample, 1).push(ours);
    }));
    assert!(inside(|sample| interfaces(sample, 1)[1].kind = InterfaceKind::Macvlan));
    // A bridge to the outside passes frames on below our forward hook.
    assert!(inside(|sample| {
        let mut port = interface(4, "eth1", InterfaceKind::Ethernet, &[]);
        port.master = Some(3);
        interfaces(sample, 0).push(port);
    }));
    assert!(inside(|sample| sample.snapshot.namespaces[1].interfaces = Fact::Unknown));
}

#[test]
fn without_a_process_inside_there_is_no_way_in_to_offer() {
    let mut sample = contained(false);
    sample.snapshot.processes[0].netns = Fact::Known(8);
    assert!(offered(&sample).is_empty());
}
