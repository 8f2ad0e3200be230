//! Runs the commands in turn and says what each cost.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::load::Size;

/// The result of a system call, with errno where it failed.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn mount(kind: &std::ffi::CStr, target: &std::ffi::CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: NUL-terminated strings that outlive the call, and no data.
    check(unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
        .map(|_| ())
}

/// Starts this program again as pid 1 of fresh namespaces.
pub(crate) fn in_box(size: &Size) -> io::Result<()> {
    let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET;
    // SAFETY: takes a number only.
    check(unsafe { libc::unshare(namespaces) })
        .map_err(|error| io::Error::other(format!("needs root: {error}")))?;
    let status = Command::new("/proc/self/exe").args(["box", size.name]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the box ended: {status}"))) }
}

/// pid 1: prepares the box, starts the load, measures.
pub(crate) fn inside(size: &Size) -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(c"proc", c"/proc", 0)?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure that outlives both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    }
    let mut load = Command::new(&program)
        .args(["load", size.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(load.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?).read_line(&mut line)?;
    if line != "ready\n" {
        return Err(io::Error::other("the load did not start"));
    }
    let sockets = usize::from(size.processes) * usize::from(size.sockets);
    println!("{}: {} processes, about {sockets} sockets, {} rounds", size.name, size.processes, size.rounds);
    rounds(size, &program, sockets);
    load.kill()?;
    load.wait().map(|_| ())
}

/// The first is what the others are compared with.
fn commands(own: &Path) -> Vec<(&'static str, Command)> {
    let make = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args);
        command
    };
    let sockwarden = Path::new(env!("CARGO_BIN_EXE_sockwarden"));
    let walks = |args: &[&str]| {
        let mut command = make(sockwarden, args);
        // SAFETY: nothing but one system call happens between fork and exec.
        unsafe { command.pre_exec(forbid_bpf) };
        command
    };
    vec![
        ("ss -tunap", make(Path::new("ss"), &["-tunap"])),
        ("lsof -nP -i", make(Path::new("lsof"), &["-nP", "-i"])),
        ("netstat2 (crate)", make(own, &["netstat2"])),
        ("facts read raw", make(own, &["facts"])),
        ("sockwarden list -tuxap", make(sockwarden, &["list", "-tuxap"])),
        ("sockwarden list --json", make(sockwarden, &["list", "--json"])),
        ("sockwarden audit --json", make(sockwarden, &["audit", "--json"])),
        ("list -tuxap, by /proc", walks(&["list", "-tuxap"])),
        ("list --json, by /proc", walks(&["list", "--json"])),
        ("list -tuxa, no owners", make(sockwarden, &["list", "-tuxa"])),
        ("true (start-up floor)", make(Path::new("true"), &[])),
    ]
}

/// This process gets EPERM from bpf(2) from now on (seccomp(2)), as in most containers.
fn forbid_bpf() -> io::Result<()> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let rule = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let number = u32::try_from(libc::SYS_bpf).map_err(io::Error::other)?;
    let mut rules = [
        rule(LOAD, 0, 0), // seccomp_data.nr
        rule(EQUALS, 1, number),
        rule(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        rule(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: rules.as_mut_ptr() };
    // SAFETY: the rules outlive the call.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) })
        .map(|_| ())
}

/// Milliseconds and MiB.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: f64,
    user: f64,
    system: f64,
    memory: f64,
}

impl Cost {
    fn cpu(self) -> f64 {
        self.user + self.system
    }
}

fn rounds(size: &Size, own: &Path, sockets: usize) {
    let mut commands = commands(own);
    let mut costs: Vec<Vec<Option<Cost>>> = vec![Vec::new(); commands.len()];
    for round in 0..=size.rounds {
        for (kept, (_, command)) in costs.iter_mut().zip(&mut commands) {
            let cost = run(command);
            if round > 0 {
                kept.push(cost); // round 0 warms the caches
            }
        }
    }
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7} {:>8}",
        "command", "wall ms", "user ms", "sys ms", "cpu ms", "RSS MiB", "cpu/ss", "us/sock"
    );
    for ((name, _), kept) in commands.iter().zip(&costs) {
        if kept.iter().any(Option::is_none) {
            println!("{name:<24} could not run");
            continue;
        }
        let median_of = |field: fn(Cost) -> f64| median(kept.iter().flatten().map(|cost| field(*cost)));
        let pairs = kept.iter().zip(&costs[0]);
        let ratio = median(pairs.filter_map(|(mine, theirs)| Some((*mine)?.cpu() / (*theirs)?.cpu())));
        println!(
            "{name:<24} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>8.1} {ratio:>7.3} {:>8.2}",
            median_of(|cost| cost.wall),
            median_of(|cost| cost.user),
            median_of(|cost| cost.system),
            median_of(Cost::cpu),
            median_of(|cost| cost.memory),
            median_of(Cost::cpu) * 1000.0 / sockets as f64,
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What one run cost; `None` when it could not be started or failed. Exit code 1 is "findings".
fn run(command: &mut Command) -> Option<Cost> {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let (status, usage) = wait4(&child).ok()?;
    let wall = start.elapsed().as_secs_f64() * 1000.0;
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1000.0 + time.tv_usec as f64 / 1000.0;
    let fine = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) <= 1;
    fine.then(|| Cost {
        wall,
        user: ms(usage.ru_utime),
        system: ms(usage.ru_stime),
        memory: usage.ru_maxrss as f64 / 1024.0,
    })
}

fn wait4(child: &Child) -> io::Result<(libc::c_int, libc::rusage)> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: room for the status and the usage.
    check(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) })?;
    Ok((status, usage))
}
