//! What `watch` costs those who are watched: processor time of loops that listen, bind, call, and of a
//! bystander, without it and beside it; and how soon it tells of a listener.
//!
//! `cargo bench --bench watch` (as root, so that the programs in the kernel are loaded). Rounds without
//! and with the watch take turns; prints medians and the median of the ratios within one round, and
//! what the watch itself took; asserts nothing, since the machine has other work. Words after `--`
//! are handed to the watch (`-- --without-hook all`).

#![allow(clippy::print_stdout, reason = "a bench speaks to its reader")]

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    if std::env::args().any(|word| word == "--bench") {
        return linux::measure();
    }
    println!("nothing is measured but by `cargo bench`");
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, BufRead as _, BufReader};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::net::sockopt::set_socket_linger;
    use rustix::time::{ClockId, clock_gettime};

    const ROUNDS: usize = 7;
    /// Name, iterations of one round, and what is done in each.
    type Loop = (&'static str, u32, fn(&TcpListener) -> io::Result<()>);
    const LOOPS: [Loop; 4] = [
        ("socket, bind, listen, close", 20_000, |_| TcpListener::bind("127.0.0.1:19999").map(drop)),
        ("socket, bind, close (UDP)", 20_000, |_| UdpSocket::bind("127.0.0.1:19999").map(drop)),
        ("connect, accept, close", 10_000, call),
        ("getppid (a bystander)", 1_000_000, |_| {
            std::hint::black_box(rustix::process::getppid());
            Ok(())
        }),
    ];

    /// Ends without leaving a port in TIME_WAIT.
    fn call(listener: &TcpListener) -> io::Result<()> {
        let caller = TcpStream::connect(listener.local_addr()?)?;
        let (called, _) = listener.accept()?;
        set_socket_linger(&caller, Some(Duration::ZERO))?;
        drop(caller);
        drop(called);
        Ok(())
    }

    /// Microseconds of this thread's processor time for one turn.
    fn cost(listener: &TcpListener, (_, turns, turn): Loop) -> io::Result<f64> {
        let now = || {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
        };
        let start = now();
        for _ in 0..turns {
            turn(listener)?;
        }
        Ok((now() - start) / f64::from(turns))
    }

    fn watch(words: &[&str], out: Stdio) -> io::Result<(Child, String)> {
        let own = std::env::args().skip(1).filter(|word| word != "--bench");
        let mut child = Command::new(env!("CARGO_BIN_EXE_sockwarden"))
            .args(["watch", "--every", "1h"])
            .args(own)
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()?;
        let notices = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(notices).lines().map_while(Result::ok);
        let first = lines.find(|line| line.contains("watching ")).and_then(|_| lines.next());
        std::thread::spawn(move || lines.for_each(drop));
        std::thread::sleep(Duration::from_secs(1));
        Ok((child, first.unwrap_or_default()))
    }

    /// Processor time in seconds and resident memory in kB of a process so far.
    fn spent(pid: u32) -> Option<(f64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some((ticks / 100.0, resident.trim().trim_end_matches(" kB").parse().ok()?))
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn measure() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); LOOPS.len()];
        let (mut mode, mut own) = (String::new(), Vec::new());
        for _ in 0..ROUNDS {
            let without: Vec<f64> =
                LOOPS.iter().map(|each| cost(&listener, *each)).collect::<Result<_, _>>()?;
            let (mut child, said) = watch(&["port:1"], Stdio::null())?;
            mode = said;
            let before = spent(child.id());
            for ((each, at), without) in LOOPS.iter().zip(0..).zip(without) {
                rounds[at].push((without, cost(&listener, *each)?));
            }
            own.extend(before.zip(spent(child.id())));
            child.kill()?;
            child.wait()?;
        }
        println!("{mode}");
        println!("{:30} {:>10} {:>10} {:>7}", "loop (us of processor time)", "without", "with", "ratio");
        for (round, (name, ..)) in rounds.into_iter().zip(LOOPS) {
            let ratio = median(round.iter().map(|(without, with)| with / without).collect());
            let (without, with) = round.into_iter().unzip();
            println!("{name:30} {:>10.2} {:>10.2} {ratio:>7.2}", median(without), median(with));
        }
        let time = median(own.iter().map(|(before, after)| after.0 - before.0).collect());
        let resident = own.iter().map(|(_, after)| after.1).max().unwrap_or(0);
        println!("the watch itself: {time:.2} s of processor time beside one round, {resident} kB resident");
        reports()
    }

    /// From before listen(2) to the line that tells of it, in milliseconds.
    fn reports() -> io::Result<()> {
        const LISTENERS: u16 = 200;
        let (mut child, _) = watch(&["--json", "--dwell", "100ms", "proto:tcp"], Stdio::piped())?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.map(|line| (Instant::now(), line)).all(|told| sender.send(told).is_ok())
        });
        let mut times = Vec::new();
        for port in 20_000..20_000 + LISTENERS {
            let start = Instant::now();
            let listener = TcpListener::bind(("127.0.0.1", port))?;
            let (local, patience) = (format!("\"port\":{port}"), start + Duration::from_secs(5));
            while let Ok((at, line)) = lines.recv_timeout(patience.saturating_duration_since(Instant::now()))
            {
                if line.contains("\"opened\"") && line.contains(&local) {
                    times.push((at - start).as_secs_f64() * 1e3);
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(30));
            drop(listener);
            std::thread::sleep(Duration::from_millis(30));
        }
        child.kill()?;
        child.wait()?;
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
        println!(
            "listen to report: {} of {LISTENERS} told, {:.2} ms median, {:.2} ms at the 90th percentile, {:.2} ms \
             at the 99th",
            times.len(),
            at(50),
            at(90),
            at(99),
        );
        Ok(())
    }
}
