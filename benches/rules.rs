//! What the rules cost: reading them, and asking all of them of 10,000 and 100,000 sockets of 500
//! processes. CPU time of this process, best of five; `cargo bench --bench rules`.

#![allow(clippy::print_stdout, reason = "a bench tells its figures")]

use std::time::Duration;

use sockwarden::model::sample::{Sample, endpoint};
use sockwarden::model::{Fact, OwnerGap, Protocol, Reach, Role, State};
use sockwarden::rules::{RuleSet, compile};

/// CPU time of this process.
#[cfg(unix)]
fn cpu() -> Duration {
    let now = rustix_clock();
    Duration::new(now.0, now.1)
}

#[cfg(unix)]
fn rustix_clock() -> (u64, u32) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(unix))]
fn cpu() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

fn best<T>(mut work: impl FnMut() -> T) -> Duration {
    let mut one = || {
        let start = cpu();
        std::hint::black_box(work());
        cpu() - start
    };
    (0..5).map(|_| one()).min().unwrap_or_default()
}

/// Listeners, both ends of connections, UDP and UNIX sockets, spread over 500 processes; every
/// tenth program is one that rules know.
fn host(sockets: usize, hidden: bool) -> Sample {
    const KNOWN: [&str; 5] = [
        "/usr/bin/redis-server",
        "/usr/sbin/sshd",
        "/usr/bin/python3.11",
        "/usr/sbin/nginx",
        "/usr/bin/dockerd",
    ];
    let mut sample = Sample::new();
    for number in 0..500u32 {
        let exe = if number % 10 == 0 {
            KNOWN[number as usize / 10 % 5].to_owned()
        } else {
            format!("/opt/app/bin/worker-{number}")
        };
        let process = sample.process(1000 + number, &exe);
        process.cmdline =
            Fact::Known(vec![exe.as_str().into(), "--config".into(), "/etc/app/config.toml".into()]);
    }
    for number in 0..sockets {
        let pid = 1000 + u32::try_from(number % 500).unwrap_or(0);
        let pids = if hidden { vec![] } else { vec![pid] };
        let port = 1024 + number / 500 % 30_000;
        let kind = number / 500 % 5;
        let address = format!("10.1.{}.{}:{port}", number % 500 / 250, number % 250);
        let socket = match kind {
            0 => sample.listener(&address, Reach::Lan, &pids),
            1 | 2 => {
                let socket = sample.socket(Protocol::Tcp, State::Established, &address, &pids);
                socket.role = if kind == 1 { Role::Inbound } else { Role::Outbound };
                socket.remote = endpoint("198.51.100.9:443");
                socket
            }
            3 => {
                let socket = sample.socket(Protocol::Udp, State::Unconnected, &address, &pids);
                socket.role = Role::Receiver;
                socket
            }
            _ => sample.socket(Protocol::Unix, State::Listen, &format!("/run/app/{number}.sock"), &pids),
        };
        socket.owner_gap = hidden.then_some(OwnerGap::Hidden);
    }
    sample
}

fn main() {
    let shipped = RuleSet::builtin();
    println!("{} rules read: {:.2} ms", shipped.len(), ms(best(RuleSet::builtin)));
    let page = "title = \"t\"\nseverity = \"high\"\nconfidence = \"high\"\nwhy = \"w\"\n[when]\nprotocol = \"tcp\"\n\
                role = \"listener\"\nreach = \">= lan\"\nprocess.program = [\"serverN\", \"daemonN\"]\n";
    let many: Vec<_> = (0..1000)
        .filter_map(|number| {
            let text = page.replace('N', &number.to_string());
            compile(&format!("rules/extra-{number}.toml"), text.into(), false).ok()
        })
        .chain(shipped.rules().cloned())
        .collect();
    let many = RuleSet::from(many);
    for sockets in [10_000, 100_000] {
        for hidden in [false, true] {
            let sample = host(sockets, hidden);
            let (hits, undecided) = shipped.check(&sample.snapshot);
            println!(
                "{sockets} sockets{}: {:.1} ms ({} hits, {} undecided rules)",
                if hidden { ", owners hidden" } else { "" },
                ms(best(|| shipped.check(&sample.snapshot))),
                hits.len(),
                undecided.len(),
            );
            // Where nobody is seen each rule about a program stays undecided for each such socket,
            // so that the answer itself grows with both.
            if !hidden {
                println!("  with {} rules: {:.1} ms", many.len(), ms(best(|| many.check(&sample.snapshot))));
            }
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
