//! The texts of rules: what we write from the kernel's own form against what nft(8) writes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use libtest_mimic::Trial;
use sockwarden::firewall::{ask, quotations};
use sockwarden::model::{Snapshot, Wants};
use sockwarden::source::Source;

use crate::lab::{Need, Netns, Outcome, Stop, find_program, output, trial};

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    vec![trial("quoted::rules_read_as_nft_writes_them", NEEDS, as_nft_writes)]
}

/// Matches of one version of IP, or of both.
const BOTH: &[&str] = &[
    "ct state established,related",
    "ct state new",
    "ct state != new",
    "ct state invalid",
    "ct state { new, established }",
    "ct state != { new, established }",
    "ct state new,untracked",
    "ct state != established,related",
    "iif lo",
    "iif != lo",
    "iifname \"lo\"",
    "iifname != \"wan*\"",
    "iifname { \"lo\", \"lan0\", \"eth1\" }",
    "iifname { \"lo\", \"wan*\" }",
    "oifname \"docker0\"",
    "meta l4proto tcp",
    "meta l4proto != udp",
    "meta l4proto { tcp, udp } th dport 53",
    "meta l4proto { tcp, udp, sctp }",
    "meta l4proto ipv6-icmp",
    "meta l4proto icmp",
    "meta l4proto 99",
    "meta l4proto tcp th dport 80",
    "meta l4proto tcp tcp dport 80",
    "tcp dport 22",
    "tcp dport != 22",
    "tcp dport 1000-2000",
    "tcp dport != 1000-2000",
    "tcp dport { 22, 80, 443 }",
    "tcp dport { 22, 80-90, 8000-9000 }",
    "tcp dport != { 22, 80 }",
    "tcp dport @ports",
    "tcp dport != @ports",
    "tcp dport < 100",
    "tcp dport <= 100",
    "tcp dport > 100",
    "tcp dport >= 100",
    "tcp sport 1024-65535 tcp dport 22",
    "tcp sport 1 tcp dport 2",
    "udp sport 67 udp dport 68",
    "udp dport 53",
    "udp dport { 53, 5353 }",
    "udp length 8",
    "udp length 8-20",
    "sctp dport 5",
    "dccp dport 5",
    "udplite dport 5",
    "tcp flags syn / fin,syn,rst,ack",
    "tcp flags != syn / fin,syn,rst,ack",
    "tcp flags & (fin|syn|rst|ack) == syn",
    "tcp flags syn",
    "tcp flags & syn != syn",
    "tcp flags & (fin|syn) == fin|syn",
    "tcp flags == syn",
    "tcp flags != syn",
    "tcp flags & (fin|syn|rst|psh|ack|urg) == 0x0",
    "tcp flags { syn, ack }",
    "tcp flags syn,ack",
    "meta mark 0",
    "meta mark 0x1",
    "meta mark != 7",
    "meta mark & 0xff == 0x1",
    "meta mark and 0xff != 0x1",
    "meta mark { 1, 2 }",
    "meta mark 1-5",
    "meta mark set 0x1",
    "ct mark set 0x10",
    "ct mark 1",
    "ct mark != 2",
    "ct direction original",
    "ct status dnat",
    "ct status assured,confirmed",
    "ct status != snat",
    "fib daddr type local",
    "fib daddr type != local",
    "fib daddr type { local, broadcast }",
    "fib saddr type multicast",
    "fib daddr . iif type local",
    "limit rate 1/second",
    "limit rate 10/minute burst 20 packets",
    "limit rate over 10/hour",
    "limit rate 10 mbytes/second",
    "limit rate over 1 kbytes/second burst 2 kbytes",
    "log",
    "log prefix \"hello \" level info",
    "log prefix \"[x]: \" group 2",
    "log level debug flags all",
    "log prefix \"p\" level warn",
    "counter",
    "counter name ct1",
    "meta pkttype multicast",
    "meta pkttype { broadcast, multicast }",
    "meta skuid 0",
    "meta skuid 1000-2000",
    "meta length > 100",
    "ct count over 10",
    "quota over 10 mbytes",
    "numgen random mod 10 0",
    "iifgroup 1",
    "tcp dport vmap @verdicts",
    "ct state . iifname { new . \"lo\", established . \"eth0\" }",
    "iifname . tcp dport { \"lo\" . 22, \"eth0\" . 80, \"br0\" . 22 }",
    "meta l4proto . th dport { tcp . 22, udp . 53, udp . 22 }",
    "meta l4proto . th dport @services",
    "tcp dport . tcp sport { 22 . 1, 1 . 22, 80 . 3 }",
    "iifname . tcp dport vmap { \"lo\" . 22 : accept, \"eth0\" . 80 : drop }",
    "iif . oif { lo . lo }",
    "tcp dport 22 counter",
    "limit rate 5/second counter",
    "meta mark set 5 counter",
    "th dport 53",
    "ether type ip",
    "ether saddr 00:11:22:33:44:55",
    "meta protocol ip",
    "meta protocol ip6",
    "tcp dport { 22 comment \"ssh\", 80 }",
    "vlan id 5",
    "ip dscp cs1",
    "meta cpu 1",
    "meta hour \"10:00\"-\"11:00\"",
    "meta day Monday",
    "meta time > \"2026-01-01\"",
    "socket transparent 1",
    "tcp option maxseg size 1",
    "exthdr frag exists",
    "meta priority 1:2",
    "ct helper \"ftp\"",
    "ct zone 1",
    "ct original proto-dst 80",
    "ct bytes > 100",
    "ct expiration 5s",
    "osf name \"Linux\"",
    "jhash ip saddr mod 2 0",
    "@th,16,16 80",
    "@nh,96,8 10",
    "rt classid 1",
    "meta iiftype loopback",
];
const V4: &[&str] = &[
    "ip saddr 10.0.0.0/8",
    "ip saddr 10.1.0.0/16",
    "ip saddr 10.1.2.0/24",
    "ip saddr 10.1.2.3",
    "ip saddr != 10.1.2.3",
    "ip saddr 172.16.0.0/12",
    "ip saddr != 172.16.0.0/12",
    "ip daddr 224.0.0.0/4",
    "ip saddr 10.1.2.3-10.1.2.9",
    "ip saddr != 10.1.2.3-10.1.2.9",
    "ip saddr { 10.0.0.0/8, 192.168.1.1, 1.1.1.1-1.1.1.9 }",
    "ip saddr { 9.9.9.9, 1.1.1.1, 200.1.1.1 }",
    "ip saddr != { 10.0.0.0/8 }",
    "ip saddr @near",
    "ip daddr != @near",
    "ip saddr . tcp dport @pairs",
    "ip saddr . ip daddr { 1.1.1.1 . 2.2.2.2, 3.3.3.3 . 1.1.1.1, 1.1.1.1 . 1.1.1.1 }",
    "ip saddr 1.1.1.1 ip daddr 2.2.2.2",
    "ip saddr & 255.0.255.0 == 10.0.5.0",
    "ip saddr . tcp dport { 1.1.1.1 . 22, 2.0.0.0/8 . 80-90 }",
    "ip saddr . udp dport vmap { 1.1.1.1 . 53 : accept, 9.9.9.9 . 53 : drop }",
    "ip saddr vmap { 10.0.0.0/8 : accept, 1.1.1.1 : drop }",
    "ip protocol tcp",
    "ip protocol tcp tcp dport 22",
    "ip protocol icmp",
    "ip protocol != tcp",
    "ip protocol { tcp, udp }",
    "ip protocol icmp icmp type echo-request",
    "ip ttl 1",
    "ip ttl < 5",
    "ip length 20-40",
    "ip id 7",
    "icmp type echo-request",
    "icmp type { echo-request, destination-unreachable, time-exceeded }",
    "icmp type != echo-reply",
    "icmp code 3",
    "icmp type echo-request icmp code 0",
    "meta l4proto icmp icmp type echo-request",
    "ip saddr 1.1.1.1 icmp type echo-request",
    "ip dscp cs1",
    "ip dscp != af11",
    "ip frag-off & 0x1fff != 0",
    "ip saddr > 1.1.1.1",
    "ip version 4",
    "ip saddr 0.0.0.0/0",
    "ip saddr 1.1.1.1 meta l4proto tcp",
    "ip saddr . ip protocol { 1.1.1.1 . tcp }",
    "ip daddr 127.0.0.1 iif lo",
    "tcp dport 22 ip saddr 1.2.3.4",
    "ip protocol tcp ip saddr 1.2.3.4 tcp dport 5",
    "update @seen { ip saddr }",
    "ip saddr @seen",
];
const V6: &[&str] = &[
    "ip6 saddr fe80::/10",
    "ip6 saddr fd00::/8",
    "ip6 saddr 2001:db8::/32",
    "ip6 saddr fd07::9",
    "ip6 saddr != fd07::9",
    "ip6 daddr ::1",
    "ip6 daddr ff02::1",
    "ip6 saddr fd07::1-fd07::9",
    "ip6 saddr { fe80::/10, 2001:db8::1 }",
    "ip6 saddr { 2a00::8, fd07::9 }",
    "ip6 saddr @far",
    "ip6 saddr != @far",
    "ip6 saddr . tcp dport { 2001:db8:1::9 . 53, fd07::9 . 443 }",
    "ip6 nexthdr tcp",
    "ip6 nexthdr tcp tcp dport 22",
    "ip6 nexthdr ipv6-icmp",
    "ip6 nexthdr ipv6-icmp icmpv6 type echo-request",
    "ip6 hoplimit 255",
    "icmpv6 type echo-request",
    "icmpv6 type nd-router-advert ip6 hoplimit 255",
    "icmpv6 type { nd-neighbor-solicit, nd-router-advert, nd-neighbor-advert }",
    "ip6 saddr ::ffff:1.2.3.4",
    "ip6 saddr ::/0",
    "ip6 saddr fe80::1 icmpv6 type echo-request",
    "meta l4proto ipv6-icmp icmpv6 type echo-request",
    "ip6 saddr fe80::/64 udp dport 546",
    "ip6 length 5",
    "ip6 saddr 2001:db8::/45",
    "rt type 0",
    "ip6 flowlabel 5",
];
/// What stands at the end.
const VERDICTS: &[&str] = &[
    "accept",
    "drop",
    "return",
    "continue",
    "jump c1",
    "goto c1",
    "reject",
    "reject with icmpx admin-prohibited",
    "reject with icmpx no-route",
    "counter accept",
    "counter drop comment \"a comment: it's\"",
    "accept comment \"x\"",
    "log prefix \"bye\" drop",
    "counter",
    "reject with tcp reset",
];
const LAST4: &[&str] = &[
    "reject with icmp host-unreachable",
    "reject with icmp port-unreachable",
    "reject with icmp net-prohibited",
    "reject with icmp admin-prohibited",
];
const LAST6: &[&str] = &[
    "reject with icmpv6 no-route",
    "reject with icmpv6 port-unreachable",
    "reject with icmpv6 admin-prohibited",
];
/// Whole rules of nat chains.
const NAT: &[&str] =
    &["tcp dport 80 redirect to :8080", "tcp dport 81 redirect", "udp dport 53 redirect to :5353"];
const NAT4: &[&str] = &[
    "tcp dport 80 dnat DNAT 10.0.0.2",
    "tcp dport 80 dnat DNAT 10.0.0.2:8080",
    "iifname \"eth0\" tcp dport { 80, 443 } dnat DNAT 10.0.0.2",
    "tcp dport 80 dnat DNAT 10.0.0.2-10.0.0.9",
    "tcp dport 80 counter dnat DNAT tcp dport map { 80 : 1.1.1.1, 81 : 2.2.2.2 }",
    "ip daddr 1.2.3.4 tcp dport 443 dnat DNAT 10.1.1.1:443",
];
const NAT6: &[&str] = &["tcp dport 80 dnat DNAT [fd07::2]:8080", "tcp dport 80 dnat DNAT fd07::2"];
const POSTNAT: &[&str] = &[
    "oifname \"eth0\" masquerade",
    "masquerade",
    "oifname \"eth0\" masquerade random",
    "masquerade to :1024-2048",
];
const POSTNAT4: &[&str] = &[
    "ip saddr 10.0.0.0/8 oifname \"eth0\" masquerade",
    "ip saddr 10.0.0.0/8 snat DNAT 1.2.3.4",
    "ip saddr 10.0.0.0/8 snat DNAT 1.2.3.4-1.2.3.9 persistent",
];

fn as_nft_writes() -> Outcome {
    let (mut all, mut own, mut wrong) = (0, 0, Vec::new());
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    for family in ["inet", "ip", "ip6"] {
        let netns = Netns::new()?;
        let loaded = load(&netns, rules(family), |rules| table(family, rules))?;
        let ours = written(&netns)?;
        for (key, text) in listed(&netns)? {
            all += 1;
            match ours.get(&key) {
                Some(mine) if *mine == text => own += 1,
                Some(mine) => wrong.push(format!("{key:?}\n  nft: {text}\n  we:  {mine}")),
                None => *left.entry(text).or_default() += 1,
            }
        }
        println!("{family}: {loaded} rules loaded");
    }
    println!("{own} of {all} rules written, {} wrong", wrong.len());
    if std::env::var_os("SOCKWARDEN_VERBOSE").is_some() {
        left.keys().for_each(|text| println!("left: {text}"));
    }
    if !wrong.is_empty() {
        return Err(Stop::Fail(format!(
            "{} wrong:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(40)].join("\n")
        )));
    }
    if own * 10 < all * 7 {
        return Err(Stop::Fail(format!("only {own} of {all} could be written")));
    }
    Ok(())
}

/// Each match alone, then mixed.
fn rules(family: &str) -> Vec<(&'static str, String)> {
    let versions: &[&[&str]] = match family {
        "inet" => &[V4, V6],
        "ip" => &[V4],
        _ => &[V6],
    };
    let mut found = Vec::new();
    for matches in versions.iter().chain([&BOTH]) {
        found.extend(matches.iter().map(|one| ("input", format!("{one} accept"))));
    }
    found.extend(VERDICTS.iter().map(|last| ("input", (*last).to_owned())));
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        usize::try_from(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    };
    for number in 0..400 {
        let version = versions[number % versions.len()];
        let last: &[&str] = if std::ptr::eq(version, V4) { LAST4 } else { LAST6 };
        let lists = [version, BOTH, BOTH];
        let mut words: Vec<&str> = Vec::new();
        for _ in 0..1 + below(3) {
            let list = lists[below(3)];
            words.push(list[below(list.len())]);
        }
        let ends = [VERDICTS, last][usize::from(below(8) == 0)];
        words.push(ends[below(ends.len())]);
        found.push(("input", words.join(" ")));
    }
    let to = |family_word: &str, list: &[&str], chain: &'static str| -> Vec<(&'static str, String)> {
        list.iter().map(|rule| (chain, rule.replace("DNAT", family_word))).collect()
    };
    let words = |word: &'static str| if family == "inet" { word } else { "to" };
    found.extend(to("", NAT, "prenat"));
    found.extend(to("", POSTNAT, "postnat"));
    if family != "ip6" {
        found.extend(to(words("ip to"), NAT4, "prenat"));
        found.extend(to(words("ip to"), POSTNAT4, "postnat"));
    }
    if family != "ip" {
        found.extend(to(words("ip6 to"), NAT6, "prenat"));
    }
    found
}

fn table(family: &str, rules: &[(&str, String)]) -> Vec<String> {
    let mut lines = vec![format!("table {family} t {{")];
    lines.push("set ports { type inet_service; flags interval; elements = { 22, 80-100 }; }".into());
    lines.push("set services { type inet_proto . inet_service; elements = { tcp . 22 }; }".into());
    lines.push("map verdicts { type inet_service : verdict; elements = { 22 : accept }; }".into());
    lines.push("counter ct1 { packets 0 bytes 0; }".into());
    if family != "ip6" {
        lines.push("set near { type ipv4_addr; flags interval; elements = { 8.0.0.0/8 }; }".into());
        lines.push("set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }".into());
        lines.push("set pairs { type ipv4_addr . inet_service; flags interval; elements = { 203.0.113.0/24 . 22-80 }; }".into());
    }
    if family != "ip" {
        lines.push("set far { type ipv6_addr; flags interval; elements = { fe80::/10 }; }".into());
    }
    lines.push("chain c1 {".into());
    lines.push("}".into());
    for (name, head) in [
        ("input", "type filter hook input priority 0; policy drop;"),
        ("prenat", "type nat hook prerouting priority -100;"),
        ("postnat", "type nat hook postrouting priority 100;"),
    ] {
        lines.push(format!("chain {name} {{"));
        lines.push(head.into());
        lines.extend(rules.iter().filter(|(chain, _)| *chain == name).map(|(_, rule)| rule.clone()));
        lines.push("}".into());
    }
    lines.push("}".into());
    lines
}

/// Loads what nft takes: lines that it names in an error are left out, and it is asked again.
fn load<'r>(
    netns: &Netns,
    mut rules: Vec<(&'r str, String)>,
    text: impl Fn(&[(&'r str, String)]) -> Vec<String>,
) -> Outcome<usize> {
    let nft = find_program("nft").ok_or("nft")?;
    for _ in 0..200 {
        let lines = text(&rules);
        let mut child =
            netns.command(&nft)?.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all((lines.join("\n") + "\n").as_bytes())?;
        let done = child.wait_with_output()?;
        if done.status.success() {
            return Ok(rules.len());
        }
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let numbers: Vec<usize> = said
            .lines()
            .filter(|line| line.contains("Error"))
            .filter_map(|line| line.split(':').nth(1)?.split(['-', ' ']).next()?.parse().ok())
            .collect();
        let bad: Vec<&String> = numbers.iter().filter_map(|number| lines.get(number - 1)).collect();
        let before = rules.len();
        rules.retain(|(_, rule)| !bad.contains(&rule));
        if rules.len() == before {
            return Err(Stop::Fail(said));
        }
    }
    Err(Stop::Fail("nft refuses everything".into()))
}

type Texts = BTreeMap<(String, u64), String>;

/// What nft lists: table, handle, text.
fn listed(netns: &Netns) -> Outcome<Texts> {
    let nft = find_program("nft").ok_or("nft")?;
    let said = output(netns.command(nft)?.args(["-s", "-a", "list", "ruleset"]))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let (mut place, mut found) = (String::new(), Texts::new());
    for line in said.lines() {
        if line.starts_with("table ") {
            place = line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
        }
        let depth = line.len() - line.trim_start_matches('\t').len();
        let Some((text, handle)) = line.trim().rsplit_once(" # handle ") else { continue };
        if depth == 2 && !text.ends_with('{') {
            found.insert(
                (place.clone(), handle.parse()?),
                text.split_whitespace().collect::<Vec<_>>().join(" "),
            );
        }
    }
    Ok(found)
}

/// What we write.
fn written(netns: &Netns) -> Outcome<Texts> {
    let snapshot = netns.run(|| -> std::io::Result<Snapshot> {
        let wants = Wants {
            owners: false,
            processes: false,
            packages: false,
            all_namespaces: false,
            ..Wants::EVERYTHING
        };
        let source = Source::live()?;
        let mut snapshot = sockwarden::collect::sockets(&source, &wants);
        sockwarden::enrich::context(&mut snapshot, &source, &wants);
        ask(&mut snapshot, &source);
        Ok(snapshot)
    })??;
    let own = snapshot.namespaces.iter().find(|each| each.own).ok_or("no namespace")?;
    let texts = quotations(own).into_iter().map(|each| {
        let place = each.place.rsplit_once('/').unwrap().0.to_owned();
        let text = String::from_utf8_lossy(each.text.as_bytes()).into_owned();
        ((place, each.handle.unwrap()), text.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    Ok(texts.collect())
}
