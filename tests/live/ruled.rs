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

fn hardware(netns: &Netns, device: &str) -> Outcome<String> {
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
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
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
        let Some(ruleset) = load(&bench.town.host, seed)? else {
            tried.refused += 1;
            continue;
        };
        let (snapshot, found) = bench.look()?;
        let got_in = bench.ask_kernel(Duration::from_millis(250))?;
        match bench.judge(&snapshot, &found, &got_in, |_: &Spec, _: IpAddr| true) {
            Ok(count) => {
                if verbose && count.unknown > 0 {
                    println!("seed {seed}: {count}\n{ruleset}");
                }
                tried.sum.all += count.all;
                tried.sum.open += count.open;
                tried.sum.unknown += count.unknown;
            }
            Err(Stop::Fail(why)) => tried.wrong.push(format!("seed {seed}: {why}\n{ruleset}")),
            Err(other) => return Err(other),
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
