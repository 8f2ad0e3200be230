//! Generated rulesets that translate, mark and forward, and generated rules between routing tables:
//! every answer against what the kernel did.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Stdio;

use libtest_mimic::Trial;

use super::published::inner;
use super::scene::{Scene, own_folders};
use crate::lab::{self, Need, Outcome, Stop, check, ensure, find_program, output, trial};
use crate::reach::Kind;
use crate::ruled::{Generator, number};

/// Boxes at work at once.
const WORKERS: u64 = 4;

pub(super) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    vec![
        trial("shapes::generated_translations", NEEDS, || generated("translated", rounds(), 50)),
        // Of those a rule may send the answer another way; whether it finds back nobody can tell.
        trial("shapes::generated_routing", NEEDS, || generated("routed", rounds() / 2, 4)),
    ]
}

/// How many rulesets are tried.
fn rounds() -> u64 {
    match std::env::var("SOCKWARDEN_TIER").as_deref() {
        Ok("long") => 1_000,
        Ok("soak") => 10_000,
        _ => 40,
    }
}

/// At most one answer in so many may be unknown.
fn generated(maker: &str, rounds: u64, unknown_in: u64) -> Outcome {
    let first = number("SOCKWARDEN_SEED").unwrap_or(1);
    let rounds = number("SOCKWARDEN_ROUNDS").unwrap_or(rounds);
    let mut boxes = Vec::new();
    for worker in 0..WORKERS.min(rounds) {
        let args = [first + worker, first + rounds, WORKERS].map(|number| number.to_string());
        let child = lab::maker(maker).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        boxes.push(child);
    }
    let mut sum = [0_u64; 5];
    let mut wrong = String::new();
    for child in boxes {
        let done = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        for line in said.lines() {
            let counts = line
                .strip_prefix("counted ")
                .map(|rest| rest.split(' ').filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<_>>());
            match counts {
                Some(counts) => sum.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more),
                None => {
                    wrong.push_str(line);
                    wrong.push('\n');
                }
            }
        }
        if !done.status.success() {
            let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Stop::Fail(format!("{}: {complaint}\n{wrong}", done.status)));
        }
    }
    let [tried, answers, open, unknown, disagree] = sum;
    println!(
        "{tried} rulesets from seed {first}: {answers} answers compared, {open} got in, {unknown} unknown"
    );
    if disagree > 0 {
        return Err(Stop::Fail(format!("{disagree} answers differ:\n{wrong}")));
    }
    if tried * 4 < rounds * 3 || unknown * unknown_in > answers || open * 50 < answers {
        return Err(Stop::Fail(format!("{tried} tried, {open} got in, {unknown} of {answers} unknown")));
    }
    Ok(())
}

/// Takes away what connection tracking knows: a flow of an earlier ruleset with the same ports would
/// still be translated as that ruleset had it.
fn forget_flows() -> Outcome {
    /// `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK`, without saying which.
    const DELETE: u16 = 1 << 8 | 2;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = 20_u32.to_ne_bytes().to_vec();
    message.extend([DELETE.to_ne_bytes(), flags.to_ne_bytes()].concat());
    message.extend([0; 12]);
    // SAFETY: numbers only; the descriptor is nobody else's.
    let socket = unsafe {
        let made = check(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_NETFILTER,
        ))?;
        OwnedFd::from_raw_fd(made)
    };
    let mut answer = [0_u8; 256];
    // SAFETY: buffers that outlive the calls, with their lengths.
    let got = unsafe {
        let sent = libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0);
        ensure(sent == 20, || format!("sent {sent}"))?;
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    ensure(got >= 20 && error == 0, || format!("{got} bytes, error {error}"))
}

/// Arguments: first seed, the one behind the last, and the step.
pub(super) fn play(args: &[OsString]) -> io::Result<()> {
    play_with(args, |seed| (Generator::new(seed).translating(), Vec::new()))
}

/// The same with rules between routing tables, and few of the filter.
pub(super) fn play_routed(args: &[OsString]) -> io::Result<()> {
    play_with(args, |seed| (Generator::new(seed).marking(), Generator::new(!seed).routing()))
}

/// Rules for nft, and words for ip.
type Ruleset = fn(u64) -> (String, Vec<String>);

fn play_with(args: &[OsString], make: Ruleset) -> io::Result<()> {
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.to_str()?.parse().ok()).collect();
    let [first, end, step] = numbers[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    lab::in_box(|| work(first, end, step, make).map_err(|stop| io::Error::other(format!("{stop:?}"))))
}

fn work(first: u64, end: u64, step: u64, make: Ruleset) -> Outcome {
    const SERVED: [(Kind, &str); 6] = [
        (Kind::Tcp, "[::]:22"),
        (Kind::Tcp, "0.0.0.0:80"),
        (Kind::Tcp, "203.0.113.5:443"),
        (Kind::Tcp, "127.0.0.1:5432"),
        (Kind::Udp, "[::]:53"),
        (Kind::Udp, "0.0.0.0:123"),
    ];
    own_folders()?;
    let mut scene = Scene::new(&SERVED)?;
    let place = inner(&mut scene)?;
    let behind = ["10.88.0.2", "fd88::2"];
    let far = [
        scene.listen(place, Kind::Tcp, "[::]:80")?,
        scene.listen(place, Kind::Tcp, "0.0.0.0:8443")?,
        scene.listen(place, Kind::Udp, "[::]:53")?,
    ];
    // What the rules translate to each of them.
    for (listener, ports) in [
        (0, &[80, 81, 443, 8080][..]),
        (1, &[81, 443, 8080]),
        (2, &[443]),
        (3, &[80, 22, 8080]),
        (4, &[123, 5300]),
        (5, &[53]),
    ] {
        for port in ports {
            scene.ask_port(listener, *port, &[])?;
        }
    }
    for (listener, ports) in
        [(far[0], &[80, 81, 443, 8080][..]), (far[1], &[22, 8443]), (far[2], &[53, 123, 5300])]
    {
        for port in ports {
            scene.ask_port(listener, *port, &behind)?;
        }
    }
    let nft = find_program("nft").ok_or("nft")?;
    let mut seed = first;
    while seed < end {
        let (ruleset, routing) = make(seed);
        forget_flows()?;
        if !routing.is_empty() {
            routed(&scene, &routing)?;
        }
        output(std::process::Command::new(&nft).args(["flush", "ruleset"]))?;
        match scene.feed(&["nft", "-f", "-"], &ruleset) {
            Ok(()) => {
                let (snapshot, found) = scene.look()?;
                let (answers, wrong) = scene.compare(&snapshot, &found)?;
                let open = answers.values().filter(|answer| answer.got_in).count();
                let unknown = answers.values().filter(|answer| answer.unknown()).count();
                println!("counted 1 {} {open} {unknown} {}", answers.len(), wrong.len());
                let verbose = unknown > 0 && std::env::var_os("SOCKWARDEN_DOUBTS").is_some();
                if !wrong.is_empty() || verbose {
                    println!(
                        "seed {seed}, {unknown} unknown:\n{}\n{ruleset}{}",
                        wrong[..wrong.len().min(12)].join("\n"),
                        routing.join("\n")
                    );
                }
            }
            Err(Stop::Fail(why)) => println!("refused {seed}: {}", why.lines().next().unwrap_or_default()),
            Err(other) => return Err(other),
        }
        seed += step;
    }
    Ok(())
}

/// Priorities of the rules that are generated, and the tables that they ask.
const PRIORITIES: std::ops::Range<u64> = 100..106;
const TABLES: std::ops::Range<u64> = 100..103;

/// Takes the rules of the one before away and sets these. What ip refuses is left out.
fn routed(scene: &Scene, lines: &[String]) -> Outcome {
    for family in ["-4", "-6"] {
        for priority in PRIORITIES {
            let _ = scene.run(&format!("ip {family} rule del pref {priority}"));
        }
        for table in TABLES {
            let _ = scene.run(&format!("ip {family} route flush table {table}"));
        }
    }
    for line in lines {
        let _ = scene.run(line);
    }
    // A route of a table that is gone may stand in the cache of a neighbour's.
    scene.run_all("ip -4 route flush cache\nip -6 route flush cache")
}

impl Generator {
    /// Marks by port and interface, and an output chain that asks for interfaces.
    fn marking(&mut self) -> String {
        let mut rules = String::new();
        for _ in 0..self.below(3) {
            let mark = self.pick(&["1", "2", "0x10"]);
            let who = self.pick(&["iifname lan0", "iifname vec0", "tcp dport 8080", "udp dport 53"]);
            rules.push_str(&format!("  {who} meta mark set {mark}\n"));
        }
        let out = self.pick(&["", "oifname lan0 tcp sport 443 drop\n", "meta mark 0x10 drop\n"]);
        format!(
            "table inet marks {{\n chain before {{\n  type filter hook prerouting priority mangle\n{rules} }}\n \
             chain out {{\n  type filter hook output priority filter\n  {out} }}\n}}\n"
        )
    }

    /// Rules of both families, and routes of the tables that they ask.
    fn routing(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for (family, nets, gates) in [
            (
                "-4",
                &[
                    "203.0.113.5",
                    "192.168.7.1",
                    "203.0.113.0/24",
                    "192.168.7.0/24",
                    "8.8.8.8",
                    "10.88.0.0/24",
                ][..],
                ["via 203.0.113.9 dev wan0", "via 192.168.7.9 dev lan0"],
            ),
            (
                "-6",
                &["2001:db8:1::5", "fd07::1", "2001:db8:1::/64", "fd07::/64", "2a00::8", "fd88::/64"],
                ["via 2001:db8:1::9 dev wan0", "via fd07::9 dev lan0"],
            ),
        ] {
            for table in TABLES {
                for _ in 0..self.below(3) {
                    let to = if self.chance(40) { "default" } else { self.pick(nets) };
                    let gate = self.pick(&gates);
                    let route = match self.below(8) {
                        0 => format!("throw {to}"),
                        1 => format!("prohibit {to}"),
                        2 => format!("local {to} dev lo"),
                        3 => format!("{to} dev vec0"),
                        _ => format!("{to} {gate}"),
                    };
                    found.push(format!("ip {family} route add {route} table {table}"));
                }
            }
            for priority in PRIORITIES {
                if self.chance(50) {
                    continue;
                }
                let mut rule = format!("ip {family} rule add pref {priority}");
                if self.chance(15) {
                    rule.push_str(" not");
                }
                if self.chance(40) {
                    rule.push_str(&format!(" from {}", self.pick(nets)));
                }
                if self.chance(30) {
                    rule.push_str(&format!(" to {}", self.pick(nets)));
                }
                if self.chance(25) {
                    rule.push_str(&format!(" iif {}", self.pick(&["lo", "wan0", "lan0", "vec0"])));
                }
                if self.chance(40) {
                    rule.push_str(&format!(" fwmark {}", self.pick(&["1", "2/3", "0x10/0xf0", "0/3"])));
                }
                rule.push(' ');
                rule.push_str(self.pick(&[
                    "table 100",
                    "table 101",
                    "table 102",
                    "table main",
                    "table main suppress_prefixlength 0",
                    "table 100 suppress_prefixlength 24",
                    "prohibit",
                ]));
                found.push(rule);
            }
        }
        let filter = self.pick(&["0", "0", "1", "2"]);
        found.push(format!("sysctl -qw net.ipv4.conf.all.rp_filter={filter}"));
        found
    }
}
