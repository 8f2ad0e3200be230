//! Processes and sockets that come and go by the thousand while we look: no error, no wrong owner.
//!
//! The turmoil is a box of its own (pid, mount and network namespace) in which a few pids are used
//! again and again: clone3(2) gives each new process the pid of one that has just ended. Every
//! generation has a number, which is in the process's name and in the names of its sockets, so an
//! owner that was put together from two generations shows itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::awkward::sys;
use crate::lab::{self, Maker, Need, Outcome, Program, Stop, check, maker, trial_alone};

pub(crate) fn makers() -> Vec<Maker> {
    vec![("churn", churn)]
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial_alone("churn::no_error_and_no_wrong_owner", &[Need::Root, Need::Tool("ip")], no_wrong_owner)]
}

/// First of the pids that are used again and again, and how many there are.
const FIRST_PID: i32 = 3000;
const SLOTS: usize = 64;

/// Scans, by the tier of CI that this is.
fn rounds() -> usize {
    match std::env::var("SOCKWARDEN_TIER").as_deref() {
        Ok("long") => 200,
        Ok("soak") => 2000,
        _ => 12,
    }
}

fn no_wrong_owner() -> Outcome {
    let mut command = maker("churn");
    command.arg(env!("CARGO_BIN_EXE_sockwarden"));
    let mut program = Program::start(&mut command)?;
    let mut wrong = Vec::new();
    for line in program.until_ready()? {
        match line.strip_prefix("wrong ") {
            Some(what) => wrong.push(what.to_owned()),
            None => println!("{line}"),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Stop::Fail(wrong.join("\n"))) }
}

/// Argument: the program under test.
fn churn(args: &[OsString]) -> io::Result<()> {
    let program = args.first().ok_or_else(|| io::Error::other("which program?"))?.clone();
    lab::in_box(|| {
        if let Err(error) = first_generation() {
            println!("skip a new process with a chosen pid (clone3): {error}");
            return Ok(());
        }
        // Else TIME_WAIT becomes the bulk of every answer.
        std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "500")?;
        let (_control, name) = abstract_listener("churn-control")?;
        let stop = AtomicBool::new(false);
        let generations = AtomicU64::new(0);
        let sockets = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let turmoil = scope.spawn(|| {
                let result = processes(&stop, &generations);
                stop.store(true, Ordering::Relaxed);
                result
            });
            let flicker = scope.spawn(|| flicker(&stop, &sockets));
            let scans = scan_all(Path::new(&program), &name, &stop);
            stop.store(true, Ordering::Relaxed);
            turmoil.join().map_err(|_| io::Error::other("the turmoil panicked"))??;
            flicker.join().map_err(|_| io::Error::other("the flicker panicked"))??;
            scans
        })?;
        println!(
            "{} processes and {} further sockets came and went",
            generations.load(Ordering::Relaxed),
            sockets.load(Ordering::Relaxed)
        );
        println!("ready");
        Ok(())
    })
}

fn abstract_listener(name: &str) -> io::Result<(OwnedFd, String)> {
    let fd = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    sys::bind(&fd, &sys::unix(format!("\0{name}").as_bytes()))?;
    sys::listen(&fd)?;
    Ok((fd, name.to_owned()))
}

/// Whether pids can be chosen at all.
fn first_generation() -> io::Result<()> {
    fork_as(FIRST_PID, 0)?;
    wait_for(FIRST_PID)
}

fn wait_for(pid: i32) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: room for the status.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) }).map(|_| ())
}

/// Keeps every slot occupied: who ended is waited for and followed by the next generation.
fn processes(stop: &AtomicBool, generations: &AtomicU64) -> io::Result<()> {
    let pid_of = |slot: usize| FIRST_PID + i32::try_from(slot).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for slot in 0..SLOTS {
            let generation = generations.fetch_add(1, Ordering::Relaxed);
            fork_as(pid_of(slot), generation)?;
        }
        for slot in 0..SLOTS {
            wait_for(pid_of(slot))?;
        }
    }
    Ok(())
}

/// A child with this very pid (clone3(2), set_tid), which opens sockets named after its generation
/// and ends after a few milliseconds.
fn fork_as(pid: i32, generation: u64) -> io::Result<()> {
    // Everything that allocates comes before: another thread may hold the allocator's lock.
    let name = std::ffi::CString::new(format!("g-{generation}")).unwrap();
    let address = sys::unix(format!("\0churn-{generation}").as_bytes());
    let life = Duration::from_micros(500 + generation * 7919 % 6000);
    let tids = [pid];
    let mut arguments = [0_u64; 11]; // struct clone_args
    arguments[4] = libc::SIGCHLD as u64;
    arguments[8] = tids.as_ptr() as u64;
    arguments[9] = 1;
    // SAFETY: arguments and the list it points to outlive the call; without CLONE_VM the child has
    // its own copy of memory, and up to _exit it makes system calls only.
    unsafe {
        match libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                sys::set_name(&name);
                let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
                libc::bind(fd, address.as_ptr().cast(), address.len() as u32);
                libc::listen(fd, 1);
                let tcp = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                libc::listen(tcp, 1);
                let pause = libc::timespec { tv_sec: 0, tv_nsec: life.as_nanos() as libc::c_long };
                libc::nanosleep(&raw const pause, std::ptr::null_mut());
                libc::_exit(0)
            }
            _ => Ok(()),
        }
    }
}

/// Sockets of this process that live for a moment, and connections that leave TIME_WAIT behind.
fn flicker(stop: &AtomicBool, sockets: &AtomicU64) -> io::Result<()> {
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    while !stop.load(Ordering::Relaxed) {
        let client = std::net::TcpStream::connect(server.local_addr()?)?;
        let served = server.accept()?;
        let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let pair = std::os::unix::net::UnixStream::pair()?;
        drop((client, served, udp, pair));
        sockets.fetch_add(5, Ordering::Relaxed);
    }
    Ok(())
}

/// Scans again and again; each fault is a line `wrong …`.
fn scan_all(program: &Path, control: &str, stop: &AtomicBool) -> io::Result<()> {
    let mut owned = 0;
    let mut ownerless: BTreeMap<String, u32> = BTreeMap::new();
    let rounds = rounds();
    for round in 0..rounds {
        if stop.load(Ordering::Relaxed) {
            return Ok(()); // the turmoil failed and says why
        }
        let start = Instant::now();
        let mut command = Command::new(program);
        command.args(["list", "--json"]);
        // In turn as the kernel tells of all file tables, and as /proc shows them.
        let way = if round % 2 == 0 { "told" } else { "walked" };
        if way == "walked" {
            lab::without_bpf(&mut command);
        }
        let done = command.output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        if !done.status.success() {
            println!("wrong scan {round}: {}: {said}", done.status);
            continue;
        }
        let document: Value = match serde_json::from_slice(&done.stdout) {
            Ok(document) => document,
            Err(error) => {
                println!("wrong scan {round}: {error}");
                continue;
            }
        };
        // Nothing but what a pid namespace of its own cannot know, and who ended meanwhile.
        let usual = ["owners-hidden", "netns-unseen", "process-ended"];
        let gaps = document["visibility"]["gaps"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !gaps.iter().all(|gap| usual.iter().any(|id| gap["id"] == *id)) {
            println!("wrong scan {round}: out of sight: {}", document["visibility"]);
        }
        let rows = document["sockets"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !rows.iter().any(|row| row["local"]["path"] == control && row["owners"][0]["pid"] == 1) {
            println!("wrong scan {round}: the control listener is missing");
        }
        println!("scan {round}, {way}: {} sockets in {:?}", rows.len(), start.elapsed());
        for row in rows {
            match judge(row) {
                Ok(()) if row["owners"].as_array().is_some_and(|owners| !owners.is_empty()) => owned += 1,
                Ok(()) => *ownerless.entry(row["owner_gap"].to_string()).or_default() += 1,
                Err(why) => println!("wrong scan {round} ({:?}): {why} in {row}", start.elapsed()),
            }
        }
    }
    println!("{rounds} scans: {owned} sockets with the right owner, without owner: {ownerless:?}");
    Ok(())
}

/// A socket of a generation belongs to a process of that generation, or is gone.
fn judge(row: &Value) -> Result<(), String> {
    let owners = row["owners"].as_array().map(Vec::as_slice).unwrap_or_default();
    if owners.is_empty() {
        let gap = row["owner_gap"].as_str();
        let by_nature = gap == Some("time-wait")
            || gap == Some("not-yet-accepted") && row["inode"].as_u64().unwrap_or(0) == 0;
        let kernel = gap == Some("kernel") && row["protocol"] == "netlink";
        return if gap == Some("gone") || by_nature || kernel { Ok(()) } else { Err(format!("gap {gap:?}")) };
    }
    let Some(generation) = row["local"]["path"].as_str().and_then(|path| path.strip_prefix("churn-")) else {
        return Ok(());
    };
    let Ok(generation) = generation.parse::<u64>() else {
        return Ok(()); // the control listener
    };
    let expected = (format!("g-{generation}"), u64::try_from(FIRST_PID).unwrap() + generation % SLOTS as u64);
    match owners {
        [owner] if owner["name"] == expected.0.as_str() && owner["pid"] == expected.1 => Ok(()),
        _ => Err(format!("not owned by {expected:?} alone")),
    }
}
