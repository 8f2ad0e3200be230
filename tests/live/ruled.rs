//! Reach through generated rulesets: every answer of `expose` against what the kernel did. Saying
//! closed what the kernel lets in is a failure, as is open what it does not; doubt is counted.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::lab::{Need, Netns, Outcome, Stop, find_program, output, trial};
use crate::reach::{Bench, Count, Kind, Spec, Town};

/// Laboratories at work at once.
const WORKERS: u64 = 4;

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    vec![trial("ruled::generated_rulesets_agree_with_the_kernel", NEEDS, generated)]
}

/// Listeners on ports that the rules speak of.
fn specs(_: SocketAddrV6) -> Vec<Spec> {
    let tcp = [("::", 22), ("0.0.0.0", 80), ("203.0.113.5", 443), ("127.0.0.1", 5432), ("::", 8080)];
    let udp = [("::", 53), ("0.0.0.0", 123), ("2001:db8:1::5", 443)];
    let made = |protocol, list: &[(&str, u16)]| -> Vec<Spec> {
        let each = list.iter().map(|(address, port)| {
            let address = SocketAddr::new(address.parse().unwrap(), *port);
            Spec { protocol, address, v6only: *port == 8080, device: None }
        });
        each.collect()
    };
    [made(Kind::Tcp, &tcp), made(Kind::Udp, &udp)].concat()
}

/// Neighbours are known for good, so that a rule against ICMPv6 changes nothing by chance.
pub(crate) fn settle(town: &Town) -> Outcome {
    let sides = [
        (&town.wan, "w0", "wan0", ["203.0.113.9", "2001:db8:1::9"], ["203.0.113.5", "2001:db8:1::5"]),
        (&town.lan, "l0", "lan0", ["192.168.7.9", "fd07::9"], ["192.168.7.1", "fd07::1"]),
    ];
    for (netns, far, near, theirs, ours) in sides {
        let (there, here) = (hardware(netns, far)?, hardware(&town.host, near)?);
        let links = [
            town.link_local(netns, far)?.ip().to_string(),
            town.link_local(&town.host, near)?.ip().to_string(),
        ];
        for address in theirs.into_iter().chain([links[0].as_str(), "169.254.7.9"]) {
            town.host.ip(&format!("neigh replace {address} lladdr {there} dev {near} nud permanent"))?;
        }
        for address in ours.into_iter().chain([links[1].as_str(), "169.254.7.1"]) {
            netns.ip(&format!("neigh replace {address} lladdr {here} dev {far} nud permanent"))?;
        }
    }
    Ok(())
}

pub(crate) fn hardware(netns: &Netns, device: &str) -> Outcome<String> {
    let ip = find_program("ip").ok_or("ip")?;
    let said = output(netns.command(ip)?.args(["-o", "link", "show", "dev", device]))?;
    let text = String::from_utf8_lossy(&said).into_owned();
    let after = text.split("link/ether ").nth(1).ok_or("no address")?;
    Ok(after.split(' ').next().unwrap_or_default().to_owned())
}

/// How many rulesets are tried: some seconds' worth at every landing.
pub(crate) fn rounds() -> u64 {
    match std::env::var("SOCKWARDEN_TIER").as_deref() {
        Ok("long") => 2_000,
        Ok("soak") => 20_000,
        _ => 100,
    }
}

/// What came of the rulesets that one worker tried.
#[derive(Default)]
struct Tried {
    sum: Count,
    refused: u64,
    wrong: Vec<String>,
}

/// A number in the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn generated() -> Outcome {
    against_the_kernel("nft", rounds(), &|host, seed| {
        let ruleset = Generator::new(seed).ruleset();
        Ok(load(host, &ruleset)?.then_some(ruleset))
    })
}

/// Puts the ruleset of a number into a namespace; gives its text, or `None` where it was refused.
pub(crate) type Load<'f> = &'f (dyn Fn(&Netns, u64) -> Outcome<Option<String>> + Sync);

/// Compares every answer under every ruleset with the kernel's.
pub(crate) fn against_the_kernel(program: &str, rounds: u64, load: Load<'_>) -> Outcome {
    let first = number("SOCKWARDEN_SEED").unwrap_or(1);
    let rounds = number("SOCKWARDEN_ROUNDS").unwrap_or(rounds);
    let next = AtomicU64::new(first);
    // Mostly they wait for packets that never come.
    let workers: Vec<Outcome<Tried>> = std::thread::scope(|scope| {
        let work = || compare(&next, first + rounds, load);
        let threads: Vec<_> = (0..WORKERS.min(rounds)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all = Tried::default();
    for tried in workers {
        let tried = tried?;
        all.sum.all += tried.sum.all;
        all.sum.open += tried.sum.open;
        all.sum.unknown += tried.sum.unknown;
        all.refused += tried.refused;
        all.wrong.extend(tried.wrong);
    }
    let Tried { sum, refused, wrong } = all;
    println!("{rounds} rulesets from seed {first}, {refused} refused by {program}: {sum}");
    if !wrong.is_empty() {
        let some = wrong[..wrong.len().min(3)].join("\n\n");
        return Err(Stop::Fail(format!("{} rulesets: {some}", wrong.len())));
    }
    // Some of what the grammar makes contradicts itself; most must not.
    if refused * 4 > rounds || sum.unknown * 50 > sum.all {
        return Err(Stop::Fail(format!("{refused} refused, {sum}")));
    }
    Ok(())
}

/// Takes seeds until there are none left.
fn compare(next: &AtomicU64, end: u64, load: Load<'_>) -> Outcome<Tried> {
    let bench = Bench::new(true, specs)?;
    settle(&bench.town)?;
    let verbose = std::env::var_os("SOCKWARDEN_DOUBTS").is_some();
    let mut tried = Tried::default();
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end {
            return Ok(tried);
        }
        // On a busy machine a packet may be late, and come under the rules after its own: what differs
        // is asked again, with more time and nothing else on its way.
        for patience in [Duration::from_millis(250), Duration::from_secs(1)] {
            let Some(ruleset) = load(&bench.town.host, seed)? else {
                tried.refused += 1;
                break;
            };
            let (snapshot, found) = bench.look()?;
            let got_in = bench.ask_kernel(patience)?;
            match bench.judge(&snapshot, &found, &got_in, |_: &Spec, _: IpAddr| true) {
                Ok(count) => {
                    if verbose && count.unknown > 0 {
                        println!("seed {seed}: {count}\n{ruleset}");
                    }
                    tried.sum.all += count.all;
                    tried.sum.open += count.open;
                    tried.sum.unknown += count.unknown;
                    break;
                }
                Err(Stop::Fail(why)) if patience < Duration::from_secs(1) => {
                    println!("seed {seed} is asked again: {why}");
                    std::thread::sleep(Duration::from_secs(2));
                }
                Err(Stop::Fail(why)) => tried.wrong.push(format!("seed {seed}: {why}\n{ruleset}")),
                Err(other) => return Err(other),
            }
        }
    }
}

/// Replaces the ruleset of a namespace of our own. False when nft refuses the text.
fn load(host: &Netns, ruleset: &str) -> Outcome<bool> {
    let nft = find_program("nft").ok_or("nft")?;
    output(host.command(&nft)?.args(["flush", "ruleset"]))?;
    let mut child =
        host.command(&nft)?.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(ruleset.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        println!("{}", String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default());
    }
    Ok(done.status.success())
}

/// Writes rulesets; the same number gives the same one.
pub(crate) struct Generator(u64);

impl Generator {
    /// The same number gives the same rulesets.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    pub(crate) fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        let index = self.below(list.len() as u64);
        list[usize::try_from(index).unwrap()]
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn ruleset(&mut self) -> String {
        let mut text = String::new();
        for number in 0..1 + self.below(3) {
            let family = self.pick(&["inet", "inet", "ip", "ip6"]);
            text.push_str(&self.table(family, number));
        }
        text
    }

    /// As [`Self::ruleset`], with translation, marks and forwarding: a namespace hangs on `vec0`.
    pub(crate) fn translating(&mut self) -> String {
        let mut text = String::new();
        for number in 0..self.below(3) {
            let family = self.pick(&["inet", "inet", "ip", "ip6"]);
            text.push_str(&self.table(family, number));
        }
        for number in 0..1 + self.below(2) {
            let family = self.pick(&["inet", "ip", "ip", "ip6"]);
            text.push_str(&self.translation(family, number));
        }
        if self.chance(50) {
            text.push_str(&self.forwarding());
        }
        if self.chance(15) {
            let device = self.pick(&["wan0", "lan0", "vec0"]);
            let rule = self.pick(&["tcp dport 443 drop", "udp dport 53 drop", "ip saddr 8.8.8.8 drop"]);
            text.push_str(&format!(
                "table netdev early {{\nchain in {{\ntype filter hook ingress device \"{device}\" priority 0; policy accept;\n{rule}\n}}\n}}\n"
            ));
        }
        text
    }

    fn translation(&mut self, family: &str, number: u64) -> String {
        let mut text = format!("table {family} n{number} {{\n");
        let versions: &[&str] = match family {
            "inet" => &["ip", "ip6"],
            "ip" => &["ip"],
            _ => &["ip6"],
        };
        let four = versions.contains(&"ip");
        if four {
            text.push_str("map doors { type inet_service : ipv4_addr . inet_service; elements = { 81 : 10.88.0.2 . 80, 443 : 203.0.113.5 . 22, 8080 : 192.168.7.1 . 80, 22 : 10.88.0.2 . 8443 }; }\n");
            text.push_str("map homes { type ipv4_addr : ipv4_addr; elements = { 192.168.7.1 : 10.88.0.2, 203.0.113.5 : 192.168.7.1 }; }\n");
        }
        for (chain, rules) in [("inner", 2), ("deeper", 1)] {
            text.push_str(&format!("chain {chain} {{\n"));
            for _ in 0..1 + self.below(rules) {
                text.push_str(&self.destination(family, versions, "prerouting", false));
            }
            text.push_str("}\n");
        }
        let hooks = [("prerouting", 85), ("output", 35), ("postrouting", 40), ("input", 10)];
        for (hook, percent) in hooks {
            if !self.chance(percent) {
                continue;
            }
            let early = matches!(hook, "prerouting" | "output");
            let priority =
                if early { self.pick(&["-100", "-100", "-90"]) } else { self.pick(&["100", "100", "110"]) };
            text.push_str(&format!(
                "chain {hook} {{\ntype nat hook {hook} priority {priority}; policy accept;\n"
            ));
            for _ in 0..1 + self.below(4) {
                text.push_str(&match early {
                    true => self.destination(family, versions, hook, true),
                    false => self.source(family, versions, hook),
                });
            }
            text.push_str("}\n");
        }
        if self.chance(25) {
            let rule = self.pick(&[
                "tcp dport 80 meta mark set 1",
                "udp dport 53 meta mark set 1",
                "tcp dport 443 notrack",
                "tcp dport 8080 notrack",
                "meta mark set 2",
                "udp dport 53 notrack",
                "tcp dport 80 ct mark set 3",
            ]);
            let priority =
                if rule.contains("notrack") { "-300" } else { self.pick(&["-300", "-150", "-100"]) };
            // Nothing stands before connection tracking that asks it.
            let priority = if rule.contains("ct mark") { "-150" } else { priority };
            text.push_str(&format!("chain early {{\ntype filter hook prerouting priority {priority}; policy accept;\n{rule}\n}}\n"));
        }
        text.push_str("}\n");
        text
    }

    fn destination(&mut self, family: &str, versions: &[&str], hook: &str, jumps: bool) -> String {
        let version = self.pick(versions);
        let carrier = self.pick(&["tcp", "tcp", "tcp", "udp"]);
        let mut parts = Vec::new();
        if self.chance(55) {
            let one = self.matching(family, hook, version, carrier);
            parts.extend(Some(one).filter(|one| !one.contains('@')));
        }
        let port = match carrier {
            "tcp" => self.pick(&["80", "81", "443", "8080", "22", "{ 80, 443 }", "8000-8100"]),
            _ => self.pick(&["53", "123", "5300"]),
        };
        parts.push(format!("{carrier} dport {port}"));
        let to = if family == "inet" { format!("{version} to") } else { "to".to_owned() };
        let targets: &[&str] = match (version, carrier) {
            ("ip", "tcp") => &[
                "redirect to :22",
                "redirect to :80",
                "dnat TO 10.88.0.2:80",
                "dnat TO 10.88.0.2",
                "dnat TO 203.0.113.5:22",
                "dnat TO 127.0.0.1:5432",
                "dnat TO 192.168.7.9:80",
                "redirect",
                "MAP",
                "HOMES",
            ],
            ("ip", _) => {
                &["redirect to :53", "dnat TO 10.88.0.2:53", "redirect to :123", "dnat TO 192.168.7.1"]
            }
            (_, "tcp") => &[
                "redirect to :22",
                "dnat TO [fd88::2]:80",
                "dnat TO fd88::2",
                "dnat TO [2001:db8:1::5]:443",
                "redirect",
            ],
            _ => &["redirect to :53", "dnat TO [fd88::2]:53", "dnat TO fd07::1"],
        };
        let mut all: Vec<&str> = targets.to_vec();
        all.extend(["accept", "return"]);
        if jumps {
            all.extend(["jump inner", "goto inner", "jump deeper"]);
        }
        let target = match self.pick(&all) {
            "MAP" => format!("dnat {} addr . port to tcp dport map @doors", "ip"),
            "HOMES" => format!("dnat {to} ip daddr map @homes"),
            plain => plain.replace("TO", &to),
        };
        parts.push(target);
        format!("{}\n", parts.join(" "))
    }

    fn source(&mut self, family: &str, versions: &[&str], hook: &str) -> String {
        let version = self.pick(versions);
        let carrier = self.pick(&["tcp", "udp"]);
        let mut parts = Vec::new();
        if hook == "postrouting" && self.chance(60) {
            parts.push(self.pick(&["oifname \"vec0\"", "oifname != \"lo\"", "oifname \"lo\""]).to_owned());
        } else {
            let one = self.matching(family, hook, version, carrier);
            parts.extend(Some(one).filter(|one| !one.contains('@')));
        }
        let to = if family == "inet" { format!("{version} to") } else { "to".to_owned() };
        let own = if version == "ip" { "snat TO 10.88.0.1" } else { "snat TO fd88::1" };
        let target = match hook {
            "postrouting" => self.pick(&["masquerade", "masquerade", own, "accept"]),
            _ => self.pick(&["accept", "return"]),
        };
        // What is translated so must be of that version.
        if target.starts_with("snat") && family == "inet" {
            parts.insert(0, format!("meta nfproto {}", if version == "ip" { "ipv4" } else { "ipv6" }));
        }
        parts.push(target.replace("TO", &to));
        format!("{}\n", parts.join(" "))
    }

    fn forwarding(&mut self) -> String {
        let policy = self.pick(&["accept", "drop"]);
        let priority = self.pick(&["-150", "0", "0", "10"]);
        let mut text = format!(
            "table inet f {{\nchain forward {{\ntype filter hook forward priority {priority}; policy {policy};\n"
        );
        if self.chance(80) {
            text.push_str("ct state established,related accept\n");
        }
        for _ in 0..1 + self.below(4) {
            let matching = match self.below(8) {
                0 => "oifname \"vec0\"".to_owned(),
                1 => "iifname \"wan0\" oifname \"vec0\"".to_owned(),
                2 => "ct original proto-dst 81 meta l4proto tcp".to_owned(),
                3 => "ct status dnat".to_owned(),
                4 => "meta mark 1".to_owned(),
                5 => "ct original ip daddr 203.0.113.5".to_owned(),
                6 => "ip daddr 10.88.0.2 tcp dport 80".to_owned(),
                _ => match self.matching("inet", "forward", "ip", "tcp") {
                    one if one.contains('@') => "tcp dport 80".to_owned(),
                    one => one,
                },
            };
            let verdict = self.pick(&["accept", "accept", "drop"]);
            text.push_str(&format!("{matching} {verdict}\n"));
        }
        text.push_str("}\n}\n");
        text
    }

    fn table(&mut self, family: &str, number: u64) -> String {
        let mut text = format!("table {family} t{number} {{\n");
        text.push_str(
            "set ports { type inet_service; flags interval; elements = { 22, 80-100, 8000-9000 }; }\n",
        );
        if family != "ip6" {
            text.push_str("set near { type ipv4_addr; flags interval; elements = { 192.168.0.0/16, 8.0.0.0/8, 127.0.0.1 }; }\n");
            text.push_str("set pairs { type ipv4_addr . inet_service; flags interval; elements = { 203.0.113.0/24 . 22-80, 192.168.7.9 . 443 }; }\n");
        }
        if family != "ip" {
            text.push_str(
                "set far { type ipv6_addr; flags interval; elements = { 2001:db8:1::/64, fe80::/10 }; }\n",
            );
        }
        for chain in ["c2", "c1"] {
            text.push_str(&format!("chain {chain} {{\n"));
            let inner: &[&str] = if chain == "c1" { &["jump c2", "goto c2"] } else { &[] };
            for _ in 0..1 + self.below(3) {
                text.push_str(&self.rule(family, "input", inner));
            }
            text.push_str("}\n");
        }
        let hooks = [("input", 100), ("prerouting", 30), ("output", 35), ("postrouting", 10)];
        for (hook, percent) in hooks {
            if !self.chance(percent) {
                continue;
            }
            let priority = self.pick(&["-300", "-150", "0", "10"]);
            let policy = self.pick(&["accept", "accept", "drop"]);
            text.push_str(&format!(
                "chain {hook} {{\ntype filter hook {hook} priority {priority}; policy {policy};\n"
            ));
            if self.chance(60) {
                text.push_str("ct state established,related accept\n");
            }
            if self.chance(50) {
                text.push_str(if hook == "input" {
                    "iifname \"lo\" accept\n"
                } else {
                    "meta l4proto tcp accept\n"
                });
            }
            for _ in 0..2 + self.below(7) {
                text.push_str(&self.rule(family, hook, &["jump c1", "goto c1", "jump c2"]));
            }
            text.push_str("}\n");
        }
        text.push_str("}\n");
        text
    }

    fn rule(&mut self, family: &str, hook: &str, jumps: &[&str]) -> String {
        let mut parts = Vec::new();
        // nft refuses a rule that asks for two protocols.
        let version = match family {
            "inet" => self.pick(&["ip", "ip6"]),
            other => other,
        };
        let carrier = self.pick(&["tcp", "tcp", "udp"]);
        for _ in 0..1 + self.below(3) {
            parts.push(self.matching(family, hook, version, carrier));
        }
        if self.chance(12) && !parts.iter().any(|part| part.contains("l4proto") || part.contains("th dport"))
        {
            let first = if jumps.is_empty() { "accept" } else { jumps[0] };
            let map = self.pick(&[
                "PROTO dport vmap { 22 : accept, 80-90 : drop, 443 : FIRST }",
                "PROTO dport vmap { 53 : accept, 123 : drop }",
                "ct state vmap { new : FIRST, established : accept }",
                "meta l4proto vmap { tcp : FIRST, udp : accept }",
            ]);
            parts.push(map.replace("FIRST", first).replace("PROTO", carrier));
            return format!("{}\n", parts.join(" "));
        }
        if self.chance(30) {
            parts.push("counter".to_owned());
        }
        let mut verdicts = vec!["accept", "accept", "drop", "drop", "return", "reject", "continue"];
        verdicts.extend(jumps);
        // Rejecting stands in some hooks only.
        verdicts.retain(|verdict| *verdict != "reject" || hook == "input");
        let verdict = self.pick(&verdicts);
        parts.push(if verdict == "reject" { "drop".to_owned() } else { verdict.to_owned() });
        format!("{}\n", parts.join(" "))
    }

    fn matching(&mut self, family: &str, hook: &str, version: &str, carrier: &str) -> String {
        let not = if self.chance(25) { "!= " } else { "" };
        let four = [
            "192.168.7.9",
            "8.8.8.8",
            "203.0.113.0/24",
            "10.0.0.0/8",
            "192.168.0.0/20",
            "127.0.0.0/8",
            "8.0.0.0-9.255.255.255",
            "{ 8.8.8.8, 192.168.7.0/24 }",
            "@near",
        ];
        let six =
            ["2001:db8:1::9", "fd07::/64", "fe80::/10", "2a00::/11", "::1", "{ 2a00::8, fd07::9 }", "@far"];
        let ports = [
            "22",
            "80",
            "443",
            "1-1023",
            "{ 22, 443, 8080 }",
            "{ 53, 100-200 }",
            "8080",
            "@ports",
            "< 100",
            "> 1000",
            "!= 22",
        ];
        let kind = self.below(17);
        match kind {
            0..=3 if version == "ip" => {
                let side = self.pick(&["saddr", "saddr", "daddr"]);
                format!("ip {side} {not}{}", self.pick(&four))
            }
            0..=3 => {
                let side = self.pick(&["saddr", "saddr", "daddr"]);
                format!("ip6 {side} {not}{}", self.pick(&six))
            }
            4..=7 => format!("{carrier} dport {}", self.pick(&ports)),
            8 => format!("meta l4proto {carrier}"),
            9 | 10 if hook != "output" && hook != "postrouting" => {
                format!(
                    "iifname {not}{}",
                    self.pick(&["\"lo\"", "\"wan0\"", "\"lan0\"", "\"wan*\"", "{ \"lo\", \"lan0\" }"])
                )
            }
            11 => format!(
                "ct state {not}{}",
                self.pick(&["new", "established", "invalid", "{ new, established }"])
            ),
            12 => format!(
                "fib daddr type {not}{}",
                self.pick(&["local", "broadcast", "multicast", "{ local, broadcast }"])
            ),
            13 if version == "ip" => format!("ip saddr . {carrier} dport @pairs"),
            13 => format!("ip6 saddr . {carrier} dport {{ 2001:db8:1::9 . 53, fd07::9 . 443 }}"),
            14 if family == "inet" => {
                format!("meta nfproto {}", if version == "ip" { "ipv4" } else { "ipv6" })
            }
            15 if self.chance(50) => "meta mark 0".to_owned(),
            15 if self.chance(20) => "limit rate 1/second".to_owned(),
            16 if carrier == "tcp" => "tcp flags syn / fin,syn,rst,ack".to_owned(),
            16 if version == "ip" => format!("ip protocol {carrier}"),
            16 => format!("ip6 nexthdr {carrier}"),
            _ => format!("{carrier} dport {}", self.pick(&ports)),
        }
    }
}
