//! What it costs to judge who reaches the listeners of a host, once its rules are read: 5,000 rules
//! and 100 listeners, 10,000 and 1,000, and what `why` costs where thousands of rules shut one door.
//! CPU time, user and system, best of five; `cargo bench --bench reach`. Needs root, nft(8) and ip(8).
//!
//! Decoding the kernel's form is part of each judgement and told apart; asking the kernel is measured
//! by `cargo bench --bench ruleset`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells its figures")]
#![allow(unsafe_code, reason = "unshare and getrusage")]

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::Write as _;
    use std::io::{self, Write as _};
    use std::mem::MaybeUninit;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use sockwarden::enrich::context;
    use sockwarden::firewall::{ask, count, expose, inquire};
    use sockwarden::model::sample::Sample;
    use sockwarden::model::{Protocol, Role, SocketIndex, State, Wants};
    use sockwarden::source::Source;

    const ROUNDS: usize = 5;

    fn usage() -> libc::rusage {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel fills the structure; zeroes are a valid one.
        unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        }
    }

    fn cpu() -> Duration {
        let usage = usage();
        let one = |time: libc::timeval| {
            Duration::new(
                u64::try_from(time.tv_sec).unwrap_or(0),
                u32::try_from(time.tv_usec).unwrap_or(0) * 1000,
            )
        };
        one(usage.ru_utime) + one(usage.ru_stime)
    }

    fn best(mut work: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = cpu();
            work()?;
            least = least.min((cpu() - start).as_secs_f64() * 1e3);
        }
        Ok(least)
    }

    /// As servers write them: addresses, ports, ranges, states, a named set.
    fn mixed(rules: u32) -> String {
        let mut text = String::new();
        for number in 0..rules {
            let (a, b, port) = (number / 250 % 250, number % 250, 1024 + number % 40_000);
            let _ = match number % 10 {
                0 | 1 => writeln!(text, "tcp dport {port} ct state new counter drop"),
                2 | 3 => writeln!(text, "ip6 saddr 2001:db8:{a:x}:{b:x}::/64 drop"),
                4 | 5 => writeln!(text, "iifname \"eth*\" udp dport {port}-{} accept", port + 5),
                6 => writeln!(text, "ip saddr @known tcp dport {port} accept"),
                _ => writeln!(text, "ip saddr 203.{a}.{b}.0/24 tcp dport {port} accept"),
            };
        }
        text
    }

    /// One banned address after the other, then everybody else.
    fn banned(rules: u32) -> String {
        let mut text = String::new();
        for number in 0..rules {
            let _ = writeln!(
                text,
                "ip saddr 198.{}.{}.{} drop",
                18 + number / 65_536,
                number / 256 % 256,
                number % 256
            );
        }
        text + "tcp dport 22 accept\n"
    }

    fn load(rules: &str) -> io::Result<()> {
        let text = format!(
            "flush ruleset\ntable inet filter {{\n\
             set known {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8, 192.168.0.0/16 }} }}\n\
             chain input {{\ntype filter hook input priority filter; policy drop;\n\
             ct state established,related accept\niifname \"lo\" accept\n{rules}}}\n}}\n"
        );
        let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(text.as_bytes())?;
        }
        if child.wait()?.success() { Ok(()) } else { Err(io::Error::other("nft failed")) }
    }

    /// A host with these rules and so many listeners of TCP and UDP, each on a port of its own.
    fn host(rules: &str, listeners: u16) -> io::Result<Sample> {
        load(rules)?;
        let source = Source::live()?;
        let mut sample = Sample::new();
        sample.snapshot.namespaces[0].inode = source.own_netns().unwrap_or_default();
        context(&mut sample.snapshot, &source, &Wants { places: true, ..Wants::NOTHING });
        for number in 0..listeners {
            let port = if number == 0 { 22 } else { 1024 + number * 31 };
            let at = if number % 2 == 0 { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") };
            let udp = number % 4 == 3;
            let (protocol, state) =
                if udp { (Protocol::Udp, State::Unconnected) } else { (Protocol::Tcp, State::Listen) };
            let socket = sample.socket(protocol, state, &at, &[]);
            socket.v6only = Some(false);
            socket.role = if udp { Role::Receiver } else { Role::Listener };
        }
        ask(&mut sample.snapshot, &source);
        Ok(sample)
    }

    fn judged(rules: u32, listeners: u16) -> io::Result<()> {
        let mut sample = host(&mixed(rules), listeners)?;
        let decoded = best(|| match count(&sample.snapshot.namespaces[0]) {
            Some(counted) if counted.unknown == 0 && counted.rules >= rules as usize => Ok(()),
            Some(_) | None => Err(io::Error::other("not all was read")),
        })?;
        let mut paths = 0;
        let judged = best(|| {
            expose(&mut sample.snapshot, None);
            let all = sample.snapshot.sockets.iter().filter_map(|each| each.exposure.as_ref());
            paths = all.map(|each| each.paths.len()).sum();
            Ok(())
        })?;
        let unsure = sample.snapshot.sockets.iter().filter_map(|each| each.exposure.as_ref());
        let unsure = unsure.filter(|each| !each.certain).count();
        println!(
            "{rules:>6} rules, {listeners:>5} listeners: decoded {decoded:>6.1} ms, judged with that {judged:>7.1} ms, \
             {paths} paths, {unsure} listeners in doubt, at most {:.0} MiB so far",
            usage().ru_maxrss as f64 / 1024.0
        );
        Ok(())
    }

    fn explained(rules: u32) -> io::Result<()> {
        let mut sample = host(&banned(rules), 1)?;
        expose(&mut sample.snapshot, None);
        let mut refused = 0;
        let why = best(|| {
            let told = inquire(&mut sample.snapshot, &[SocketIndex(0)], None, None);
            refused = told.iter().map(|each| each.refused.len()).sum();
            Ok(())
        })?;
        println!("{rules:>6} rules that drop: why {why:>8.1} ms, {refused} refusals");
        if refused < rules as usize { Err(io::Error::other("some rule is not told")) } else { Ok(()) }
    }

    pub(crate) fn run() -> io::Result<()> {
        // SAFETY: takes a number only; there is no other thread yet.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::other(format!("needs root: {}", io::Error::last_os_error())));
        }
        for line in [
            "link set lo up",
            "link add eth0 type veth peer name far",
            "link set far up",
            "address add 192.0.2.1/24 dev eth0",
            "address add 2001:db8:ffff::1/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 192.0.2.254",
            "route add default via 2001:db8:ffff::fe",
        ] {
            if !Command::new("ip").args(line.split(' ')).status()?.success() {
                return Err(io::Error::other(format!("ip {line} failed")));
            }
        }
        judged(5_000, 100)?;
        judged(10_000, 1_000)?;
        [1_000, 5_000].into_iter().try_for_each(explained)
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match linux::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
