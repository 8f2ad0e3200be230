//! Reach through generated rulesets of iptables, legacy and over nftables, with IP sets: every answer
//! against what the kernel did. See [`crate::ruled`].

use std::io::Write as _;
use std::process::Stdio;

use libtest_mimic::Trial;

use crate::lab::{Need, Netns, Outcome, Stop, find_program, output, trial};
use crate::ruled::{Generator, against_the_kernel, rounds};

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[
        Need::Root,
        Need::Tool("ip"),
        Need::Tool("nft"),
        Need::Tool("ipset"),
        Need::Tool("iptables-legacy-restore"),
        Need::Tool("iptables-nft-restore"),
    ];
    vec![trial("ruled_xt::generated_rulesets_agree_with_the_kernel", NEEDS, generated)]
}

fn generated() -> Outcome {
    against_the_kernel("iptables", rounds(), &|host, seed| {
        let made = Rules { generator: Generator::new(seed), v6: false }.made();
        Ok(load(host, &made)?.then(|| format!("{made:#?}").replace("\\n", "\n")))
    })
}

/// Texts for ipset, and for the four programs that restore.
#[derive(Debug)]
struct Made {
    sets: String,
    parts: Vec<(&'static str, String)>,
}

fn run(host: &Netns, program: &str, arguments: &[&str], text: &str) -> Outcome<bool> {
    let program = find_program(program).ok_or("no such program")?;
    let mut command = host.command(program)?;
    let mut child = command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        println!("{}", String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default());
    }
    Ok(done.status.success())
}

/// Tables without rules.
const EMPTY: &str = "*raw\nCOMMIT\n*mangle\nCOMMIT\n*filter\nCOMMIT\n";

fn load(host: &Netns, made: &Made) -> Outcome<bool> {
    let nft = find_program("nft").ok_or("nft")?;
    output(host.command(&nft)?.args(["flush", "ruleset"]))?;
    for program in ["iptables-legacy-restore", "ip6tables-legacy-restore"] {
        if !run(host, program, &[], EMPTY)? {
            return Err(Stop::Fail(format!("{program} takes no empty tables")));
        }
    }
    // The rules of before may still hold them.
    if !run(host, "ipset", &["-exist", "restore"], &made.sets)? {
        return Err(Stop::Fail("ipset takes no sets".to_owned()));
    }
    for (program, text) in &made.parts {
        if !run(host, program, &[], text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Rules {
    generator: Generator,
    v6: bool,
}

impl Rules {
    fn made(mut self) -> Made {
        let sets = self.sets();
        let mut parts = Vec::new();
        // One kind, or both side by side.
        let which = self.generator.below(3);
        for (v6, legacy, nft) in [
            (false, "iptables-legacy-restore", "iptables-nft-restore"),
            (true, "ip6tables-legacy-restore", "ip6tables-nft-restore"),
        ] {
            self.v6 = v6;
            if which != 0 {
                parts.push((legacy, self.tables()));
            }
            if which != 1 {
                parts.push((nft, self.tables()));
            }
        }
        Made { sets, parts }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.generator.below(limit)
    }

    fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        self.generator.pick(list)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.generator.chance(percent)
    }

    fn sets(&mut self) -> String {
        let mut text = String::new();
        let sets: [(&str, &str, &[&str]); 9] = [
            (
                "near",
                "hash:net",
                &[
                    "192.168.0.0/16",
                    "8.0.0.0/8",
                    "192.168.7.9 nomatch",
                    "8.8.0.0/16 nomatch",
                    "8.8.8.8",
                    "203.0.113.0/24",
                ],
            ),
            ("hosts", "hash:ip", &["8.8.8.8", "192.168.7.9", "203.0.113.9", "127.0.0.1"]),
            ("nets", "hash:ip netmask 24", &["8.8.8.0", "192.168.7.0", "203.0.113.0"]),
            ("ports", "bitmap:port range 0-9000", &["22", "80-100", "443", "53", "8000-9000"]),
            (
                "pairs",
                "hash:net,port",
                &["203.0.113.0/24,tcp:22", "192.168.7.0/24,udp:53", "127.0.0.0/8,tcp:80", "8.8.8.8,tcp:80"],
            ),
            (
                "where",
                "hash:net,iface",
                &["8.8.8.0/24,wan0", "192.168.0.0/16,lan0", "127.0.0.0/8,lo", "203.0.113.9,lan0"],
            ),
            (
                "far",
                "hash:net family inet6",
                &["2001:db8:1::/64", "2001:db8:1::9 nomatch", "fe80::/10", "2a00::/12", "::1"],
            ),
            (
                "pairs6",
                "hash:ip,port family inet6",
                &["2001:db8:1::9,tcp:22", "fd07::9,udp:53", "2a00::8,tcp:8080", "::1,tcp:22"],
            ),
            (
                "where6",
                "hash:net,iface family inet6",
                &["2a00::/12,wan0", "fd07::/64,lan0", "fe80::/10,wan0"],
            ),
        ];
        for (name, kind, elements) in sets {
            text.push_str(&format!("create {name} {kind}\nflush {name}\n"));
            for element in elements {
                if self.chance(60) {
                    text.push_str(&format!("add {name} {element}\n"));
                }
            }
        }
        text.push_str("create some list:set\nflush some\nadd some near\nadd some hosts\n");
        text
    }

    fn tables(&mut self) -> String {
        let mut text = String::new();
        if self.chance(30) {
            text.push_str("*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n");
            text.push_str(&self.chain("PREROUTING", &[], 3));
            text.push_str("COMMIT\n");
        }
        if self.chance(30) {
            text.push_str("*mangle\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:c3 -\n");
            text.push_str(&self.chain("c3", &[], 2));
            text.push_str(&self.chain("PREROUTING", &["c3"], 3));
            text.push_str(&self.chain("INPUT", &["c3"], 2));
            text.push_str("COMMIT\n");
        }
        let (input, output) =
            (self.pick(&["ACCEPT", "ACCEPT", "DROP"]), self.pick(&["ACCEPT", "ACCEPT", "DROP"]));
        text.push_str(&format!("*filter\n:INPUT {input}\n:OUTPUT {output}\n:c1 -\n:c2 -\n"));
        text.push_str(&self.chain("c2", &[], 3));
        text.push_str(&self.chain("c1", &["c2"], 3));
        if self.chance(50) {
            text.push_str("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
        }
        if self.chance(50) {
            text.push_str("-A INPUT -i lo -j ACCEPT\n");
        }
        text.push_str(&self.chain("INPUT", &["c1", "c2"], 8));
        if output == "DROP" && self.chance(80) {
            text.push_str("-A OUTPUT -m state --state ESTABLISHED -j ACCEPT\n");
        }
        if self.chance(35) {
            text.push_str(&self.chain("OUTPUT", &[], 3));
        }
        text.push_str("COMMIT\n");
        text
    }

    fn chain(&mut self, name: &str, inner: &[&str], most: u64) -> String {
        let count = 1 + self.below(most);
        (0..count).map(|_| format!("-A {name} {}\n", self.rule(name, inner))).collect()
    }

    fn rule(&mut self, chain: &str, inner: &[&str]) -> String {
        let mut parts = Vec::new();
        let carrier = self.pick(&["tcp", "tcp", "udp"]);
        if self.chance(80) {
            parts.push(format!("-p {carrier}"));
            if self.chance(60) {
                parts.push(self.transport(carrier));
            }
        }
        let mut kinds: Vec<u64> = Vec::new();
        for _ in 0..self.below(3) {
            let kind =
                [0, 0, 2, 3, 4, 5, 6, 7, 7, 9, 10, 11, 12, 13][usize::try_from(self.below(14)).unwrap()];
            if !kinds.contains(&kind) {
                kinds.push(kind);
                parts.push(self.matching(kind, chain));
            }
        }
        let filter = chain.starts_with("INPUT") || chain.starts_with("c1") || chain.starts_with("c2");
        let target = self.below(20);
        parts.push(match target {
            0..=5 => "-j ACCEPT".to_owned(),
            6..=10 => "-j DROP".to_owned(),
            11 | 12 => "-j RETURN".to_owned(),
            13 if filter && chain != "c2" => "-j REJECT".to_owned(),
            14 if self.chance(50) => String::new(),
            15 => "-j NFLOG --nflog-prefix x".to_owned(),
            _ => match inner {
                [] => "-j DROP".to_owned(),
                inner => format!("{} {}", self.pick(&["-j", "-j", "-g"]), self.pick(inner)),
            },
        });
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }

    fn not(&mut self) -> &'static str {
        if self.chance(25) { "! " } else { "" }
    }

    fn transport(&mut self, carrier: &str) -> String {
        let not = self.not();
        match self.below(6) {
            0 if carrier == "tcp" => format!("{not}--syn"),
            1 if carrier == "tcp" => {
                format!(
                    "-m tcp {not}--tcp-flags {}",
                    self.pick(&[
                        "ALL SYN",
                        "SYN,RST SYN",
                        "ACK ACK",
                        "ALL NONE",
                        "FIN,SYN,RST,PSH,ACK,URG SYN,ACK"
                    ])
                )
            }
            2 | 3 => {
                let ports =
                    self.pick(&["22,80,443", "53,100:200", "1:1023", "8080", "22,443,8000:9000", "123"]);
                format!("-m multiport {not}--dports {ports}")
            }
            _ => {
                let ports = self.pick(&["22", "80", "443", "1:1023", "53", "8080", "123", ":100", "1000:"]);
                format!("{not}--dport {ports}")
            }
        }
    }

    fn matching(&mut self, kind: u64, chain: &str) -> String {
        let not = self.not();
        let four = [
            "192.168.7.9",
            "8.8.8.8",
            "203.0.113.0/24",
            "10.0.0.0/8",
            "192.168.0.0/20",
            "127.0.0.0/8",
            "8.0.0.0/255.0.0.255",
        ];
        let six = ["2001:db8:1::9", "fd07::/64", "fe80::/10", "2a00::/11", "::1"];
        let address = if self.v6 { self.pick(&six) } else { self.pick(&four) };
        let enters = matches!(chain, "INPUT" | "PREROUTING");
        match kind {
            0 => format!("{not}{} {address}", self.pick(&["-s", "-s", "-d"])),
            2 if enters => format!("{not}-i {}", self.pick(&["lo", "wan0", "lan0", "wan+", "l+"])),
            2 => String::new(),
            3 => {
                let states = self.pick(&[
                    "NEW",
                    "ESTABLISHED",
                    "NEW,ESTABLISHED",
                    "INVALID",
                    "RELATED",
                    "INVALID,NEW",
                    "UNTRACKED",
                ]);
                format!("-m conntrack {not}--ctstate {states}")
            }
            4 => format!(
                "-m state --state {}",
                self.pick(&["NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "INVALID"])
            ),
            5 if !self.v6 => {
                let side = self.pick(&["--dst-type", "--dst-type", "--src-type"]);
                format!(
                    "-m addrtype {not}{side} {}",
                    self.pick(&["LOCAL", "BROADCAST", "MULTICAST", "UNICAST", "LOCAL,BROADCAST"])
                )
            }
            6 if self.v6 => format!(
                "-m iprange {not}--src-range {}",
                self.pick(&["2001:db8:1::-2001:db8:1::ff", "::-2fff::"])
            ),
            6 => format!(
                "-m iprange {not}--src-range {}",
                self.pick(&["8.0.0.0-9.255.255.255", "192.168.7.0-192.168.7.99"])
            ),
            7 => self.looked_up(not),
            9 => self
                .pick(&[
                    "-m conntrack --ctdir ORIGINAL",
                    "-m conntrack --ctdir REPLY",
                    "-m conntrack --ctproto tcp",
                    "-m conntrack ! --ctproto tcp",
                    "-m conntrack --ctorigdstport 22",
                    "-m conntrack --ctorigdstport 22:90",
                ])
                .to_owned(),
            10 => format!(
                "-m conntrack {not}{} {address}",
                self.pick(&["--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"])
            ),
            11 => format!("-m mark {not}--mark {}", self.pick(&["0", "1", "0x10/0xff", "0/0xf0"])),
            12 => self
                .pick(&[
                    "-m comment --comment \"some text\"",
                    "-m physdev --physdev-is-bridged",
                    "-m physdev ! --physdev-is-bridged",
                ])
                .to_owned(),
            13 if self.chance(15) => self
                .pick(&["-m limit --limit 1/s", "-m statistic --mode random --probability 0.5"])
                .to_owned(),
            _ => String::new(),
        }
    }

    fn looked_up(&mut self, not: &str) -> String {
        let list: &[&str] = if self.v6 {
            &["far src", "far dst", "pairs6 src,dst", "where6 src,src"]
        } else {
            &[
                "near src",
                "hosts src",
                "nets src",
                "ports dst",
                "pairs dst,dst",
                "pairs src,dst",
                "where src,src",
                "some src",
                "near dst",
            ]
        };
        format!("-m set {not}--match-set {}", self.pick(list))
    }
}
