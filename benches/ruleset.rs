//! What reading a ruleset costs beside `nft -j list ruleset`: 1,000 and 10,000 rules of nftables in a
//! network namespace of its own, asked of the kernel and decoded. CPU time, user and system, both in
//! turn in one run, best of seven; `cargo bench --bench ruleset`. Needs root and nft(8).
//!
//! Each size twice: with named sets only, and with a set without a name in every fifth rule. The
//! kernel walks all sets of a table for each one that is asked for (`nf_tables_dump_set`), so that
//! thousands of them in one table cost their square, whoever asks.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells its figures")]
#![allow(unsafe_code, reason = "unshare and getrusage")]

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::Write as _;
    use std::io::{self, Write as _};
    use std::mem::MaybeUninit;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use sockwarden::firewall::{ask, count};
    use sockwarden::model::sample::Sample;
    use sockwarden::source::Source;

    const ROUNDS: usize = 7;

    /// CPU time of this process, or of its children that have ended.
    fn cpu(who: libc::c_int) -> Duration {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel fills the structure; zeroes are a valid one.
        let usage = unsafe {
            libc::getrusage(who, usage.as_mut_ptr());
            usage.assume_init()
        };
        let sum = |time: libc::timeval| {
            Duration::new(
                u64::try_from(time.tv_sec).unwrap_or(0),
                u32::try_from(time.tv_usec).unwrap_or(0) * 1000,
            )
        };
        sum(usage.ru_utime) + sum(usage.ru_stime)
    }

    fn best(
        who: libc::c_int,
        times: &mut Vec<Duration>,
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let start = cpu(who);
        work()?;
        times.push(cpu(who) - start);
        Ok(())
    }

    /// As servers write them: addresses, ports, ranges, states, comments; with `nameless`, sets
    /// without a name.
    fn ruleset(rules: u32, nameless: bool) -> String {
        let mut text = String::from("flush ruleset\ntable inet filter {\n");
        text.push_str(
            "set known { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.0/16 } }\n",
        );
        text.push_str("chain input {\ntype filter hook input priority filter; policy drop;\n");
        for number in 0..rules {
            let (a, b, port) = (number / 250 % 250, number % 250, 1024 + number % 40_000);
            let _ = match number % 10 {
                0 | 1 if !nameless => writeln!(text, "tcp dport {port} ct state new counter drop"),
                0 | 1 => writeln!(text, "tcp dport {{ {port}, {} }} ct state new counter drop", port + 7),
                2 | 3 => {
                    writeln!(text, "ip6 saddr 2001:db8:{a:x}:{b:x}::/64 drop comment \"number {number}\"")
                }
                4 | 5 => writeln!(text, "iifname \"eth*\" udp dport {port}-{} accept", port + 5),
                6 => writeln!(text, "ip saddr @known tcp dport {port} accept"),
                _ => writeln!(text, "ip saddr 203.{a}.{b}.0/24 tcp dport {port} accept"),
            };
        }
        text.push_str("}\n}\n");
        text
    }

    fn nft(arguments: &[&str], input: &str) -> io::Result<usize> {
        let mut command = Command::new("nft");
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes())?;
        }
        let done = child.wait_with_output()?;
        if done.status.success() { Ok(done.stdout.len()) } else { Err(io::Error::other("nft failed")) }
    }

    fn compare(rules: u32, nameless: bool) -> io::Result<()> {
        nft(&["-f", "-"], &ruleset(rules, nameless))?;
        let source = Source::live()?;
        let mut sample = Sample::new();
        sample.snapshot.namespaces[0].inode = source.own_netns().unwrap_or_default();
        let (mut theirs, mut asked, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            best(libc::RUSAGE_CHILDREN, &mut theirs, || nft(&["-j", "list", "ruleset"], "").map(|_| ()))?;
            best(libc::RUSAGE_SELF, &mut asked, || {
                ask(&mut sample.snapshot, &source);
                Ok(())
            })?;
            best(libc::RUSAGE_SELF, &mut ours, || {
                let found =
                    count(&sample.snapshot.namespaces[0]).map(|counted| (counted.rules, counted.unknown));
                if found == Some((rules as usize, 0)) {
                    Ok(())
                } else {
                    Err(io::Error::other("not all was read"))
                }
            })?;
        }
        let least = |times: &[Duration]| times.iter().min().copied().unwrap_or_default();
        let (theirs, asked, ours) = (least(&theirs), least(&asked), least(&ours));
        let share = (asked + ours).as_secs_f64() / theirs.as_secs_f64();
        println!(
            "{rules:>6} rules, {:>4} sets: nft -j {:>7.1} ms, asked {:>6.1} ms, decoded {:>6.1} ms, together {share:.3} of nft -j",
            if nameless { rules / 5 + 1 } else { 1 },
            theirs.as_secs_f64() * 1e3,
            asked.as_secs_f64() * 1e3,
            ours.as_secs_f64() * 1e3,
        );
        Ok(())
    }

    pub(crate) fn run() -> io::Result<()> {
        // SAFETY: takes a number only; there is no other thread yet.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::other(format!("needs root: {}", io::Error::last_os_error())));
        }
        [(1_000, false), (10_000, false), (1_000, true), (10_000, true)]
            .into_iter()
            .try_for_each(|(rules, nameless)| compare(rules, nameless))
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
