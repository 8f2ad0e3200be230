//! `watch` on machines of its own: namespaces, filters, programs that come and go.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{self, Maker, Need, Netns, Outcome, Program, Stop, sockwarden, trial, trial_alone};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn makers() -> Vec<Maker> {
    vec![("watch-listen", listen), ("watch-brief", brief), ("watch-bind", bind), ("watch-churn", churn)]
}

pub(crate) fn trials() -> Vec<Trial> {
    const ROOT: &[Need] = &[Need::Root, Need::Tool("ip")];
    const BPF: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Kernel("programs of ours", takes_programs)];
    const SETPRIV: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("setpriv")];
    const NFT: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    vec![
        trial("watch::a_restart_is_silent_a_replaced_program_is_not", ROOT, restart),
        trial("watch::a_widened_bind_is_told", ROOT, widened),
        trial("watch::a_rule_that_goes_is_told_at_once", NFT, rule_removed),
        trial("watch::a_new_namespace_is_looked_into", ROOT, new_namespace),
        trial("watch::every_end_of_a_short_life_is_told", ROOT, short_lives),
        trial("watch::a_listener_of_one_millisecond_is_told_with_its_owner", BPF, || {
            one_millisecond("watch-brief", "--netns current --every 1h proto:tcp", &whole)
        }),
        trial("watch::a_udp_bind_of_one_millisecond_is_told_with_its_owner", BPF, || {
            one_millisecond("watch-bind", "--netns current --every 1h proto:udp", &whole)
        }),
        trial("watch::a_refused_hook_is_replaced_by_the_next_best", BPF, || {
            let words = "--netns current --every 1h --without-hook tp_btf/inet_sock_set_state proto:tcp";
            one_millisecond("watch-brief", words, &|_, _, _| Ok(()))
        }),
        trial("watch::a_plain_hook_knows_a_listener_that_stays", BPF, plain),
        trial("watch::programs_of_ours_deny_nobody_and_say_which_they_are", BPF, harmless),
        trial("watch::a_new_listener_is_told_before_any_scan_and_once", BPF, ahead),
        trial_alone("watch::a_flood_that_finds_room_loses_nothing", BPF, torrent),
        trial_alone("watch::what_a_flood_loses_is_counted_and_everything_is_read_anew", BPF, lost),
        trial("watch::without_the_right_to_load_programs_it_looks_and_says_so", SETPRIV, refused),
        trial_alone("watch::a_flood_leaves_memory_flat", ROOT, flood),
        trial("watch::a_hostile_name_is_harmless", ROOT, hostile),
    ]
}

/// Listens on the address that it is given.
fn listen(arguments: &[OsString]) -> io::Result<()> {
    let address = arguments.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let _listener = TcpListener::bind(address)?;
    lab::hold()
}

/// Listens for a millisecond.
fn brief(arguments: &[OsString]) -> io::Result<()> {
    let address = arguments.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let listener = TcpListener::bind(address)?;
    std::thread::sleep(Duration::from_millis(1));
    drop(listener);
    Ok(())
}

/// Binds a datagram socket for a millisecond.
fn bind(arguments: &[OsString]) -> io::Result<()> {
    let address = arguments.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let socket = UdpSocket::bind(address)?;
    std::thread::sleep(Duration::from_millis(1));
    drop(socket);
    Ok(())
}

/// Listens on one port after the other for so many milliseconds: as fast as it can, or on so many.
fn churn(arguments: &[OsString]) -> io::Result<()> {
    let number = |at: usize| arguments.get(at).and_then(|word| word.to_string_lossy().parse::<u64>().ok());
    let (time, most) = (number(0).unwrap_or(1000), number(1).unwrap_or(u64::MAX));
    let until = Instant::now() + Duration::from_millis(time);
    let mut count = 0_u64;
    while Instant::now() < until && count < most {
        drop(TcpListener::bind(("127.0.0.1", 10_000 + u16::try_from(count % 20_000).unwrap_or(0)))?);
        count += 1;
    }
    println!("{count}");
    lab::hold()
}

/// Whether `doctor` finds that the kernel takes the programs.
fn takes_programs() -> bool {
    let Ok(answer) = sockwarden(["doctor", "--json"]).output() else { return false };
    let Ok(value) = serde_json::from_slice::<Value>(&answer.stdout) else { return false };
    let abilities = value["abilities"].as_array();
    abilities.into_iter().flatten().any(|each| each["id"] == "bpf-listen" && each["outcome"] == "works")
}

pub(crate) struct Watch {
    pub(crate) child: Child,
    pub(crate) lines: mpsc::Receiver<Value>,
    /// What it says when it begins.
    said: Vec<String>,
}

impl Watch {
    pub(crate) fn start(netns: Option<&Netns>, words: &str) -> Outcome<Self> {
        let mut command = sockwarden(["watch", "--json"]);
        command.args(words.split_whitespace());
        Self::run(netns, command)
    }

    fn run(netns: Option<&Netns>, mut command: std::process::Command) -> Outcome<Self> {
        if let Some(netns) = netns {
            netns.enter(&mut command)?;
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (out, notices) = (child.stdout.take().ok_or("no pipe")?, child.stderr.take().ok_or("no pipe")?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.filter_map(|line| serde_json::from_str(&line).ok()).all(|value| sender.send(value).is_ok())
        });
        let mut notices = BufReader::new(notices);
        let mut said = String::new();
        while !said.contains("watching ") {
            said.clear();
            if notices.read_line(&mut said)? == 0 {
                return Err(Stop::Fail("the watch has ended".to_owned()));
            }
        }
        let (teller, told) = mpsc::channel();
        std::thread::spawn(move || {
            notices.lines().map_while(Result::ok).for_each(|line| drop(teller.send(line)));
        });
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { child, lines, said: told.try_iter().collect() })
    }

    pub(crate) fn next(&self, what: &str, pick: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let end = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while let Some(value) = received(&self.lines, end) {
            if pick(&value) {
                return Ok(value);
            }
            others.push(format!("{} {}", value["change"], value["socket"]["local"]));
        }
        Err(Stop::Fail(format!("{what} was not told; but {others:?}")))
    }

    /// What is told within some time.
    fn within(&self, time: Duration) -> Vec<Value> {
        let end = Instant::now() + time;
        let mut told = Vec::new();
        while let Some(value) = received(&self.lines, end) {
            told.push(value);
        }
        told
    }
}

/// The next line, but none after the end, however many wait: a machine with much to tell never falls
/// silent.
pub(crate) fn received(lines: &mpsc::Receiver<Value>, end: Instant) -> Option<Value> {
    end.checked_duration_since(Instant::now()).and_then(|left| lines.recv_timeout(left).ok())
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port(value: &Value) -> Option<u64> {
    value["socket"]["local"]["port"].as_u64()
}

fn expect(truth: bool, what: &str, value: &Value) -> Outcome {
    if truth { Ok(()) } else { Err(Stop::Fail(format!("{what}: {value:#}"))) }
}

/// This very binary under another name, as a listener in a namespace.
pub(crate) fn program(netns: &Netns, path: &Path, address: &str) -> Outcome<Program> {
    let mut command = netns.command(path)?;
    let mut program = Program::start(command.args(["maker", "watch-listen", address]))?;
    program.until_ready()?;
    Ok(program)
}

pub(crate) fn copy_of_ourselves(path: &Path) -> Outcome {
    crate::lab::copy_program(std::env::current_exe()?, path)?;
    Ok(())
}

fn restart() -> Outcome {
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("server");
    copy_of_ourselves(&path)?;
    let first = program(&netns, &path, "127.0.0.1:8080")?;
    let watch = Watch::start(Some(&netns), "--netns current --dwell 4s")?;
    drop(first);
    std::thread::sleep(Duration::from_millis(1500));
    let second = program(&netns, &path, "127.0.0.1:8080")?;
    let told = watch.within(Duration::from_secs(5));
    if !told.is_empty() {
        let told: Vec<String> = told.iter().map(Value::to_string).collect();
        return Err(Stop::Fail(format!("a restart was told: {told:#?}")));
    }
    drop(second);
    // The old file stays, so that the new one does not get its number.
    std::fs::rename(&path, dir.path().join("old"))?;
    copy_of_ourselves(&path)?;
    let _third = program(&netns, &path, "127.0.0.1:8080")?;
    let told = watch.next("the replaced program", |value| port(value) == Some(8080))?;
    expect(told["change"] == "owner", "a replaced program is another owner", &told)
}

fn widened() -> Outcome {
    let netns = Netns::new()?;
    let first = program(&netns, Path::new("/proc/self/exe"), "127.0.0.1:8080")?;
    let watch = Watch::start(Some(&netns), "--netns current")?;
    drop(first);
    let _second = program(&netns, Path::new("/proc/self/exe"), "0.0.0.0:8080")?;
    let told = watch.next("the wider bind", |value| port(value) == Some(8080))?;
    expect(told["change"] == "reach", "a widened bind is a change of reach", &told)?;
    expect(told["before"]["local"]["address"] == "127.0.0.1", "it tells from where", &told)?;
    expect(told["socket"]["local"]["address"] == "0.0.0.0", "and to where", &told)
}

/// A rule of the filter goes, and the port that it closed is told as reachable long before the next
/// full scan.
fn rule_removed() -> Outcome {
    let (netns, other) = (Netns::new()?, Netns::new()?);
    lab::cable((&netns, "eth0", &["192.0.2.1/24"]), (&other, "eth0", &["192.0.2.2/24"]))?;
    netns.nft(
        "table inet t { chain input { type filter hook input priority 0; \
         iifname != \"lo\" tcp dport 6379 drop; }\n}\n",
    )?;
    let _server = program(&netns, Path::new("/proc/self/exe"), "0.0.0.0:6379")?;
    let watch = Watch::start(Some(&netns), "--netns current --every 1h port:6379")?;
    netns.nft("flush chain inet t input")?;
    let start = Instant::now();
    let told = watch.next("the reach", |value| value["change"] == "reach")?;
    expect(told["seen_by"] == "event", "the kernel told of it", &told)?;
    let (was, is) = (&told["before"]["exposure"]["reach"], &told["socket"]["exposure"]["reach"]);
    expect(was != is, "reach is another", &told)?;
    expect(told["socket"]["exposure"]["certain"] == true, "and certain", &told)?;
    if start.elapsed() > Duration::from_secs(30) {
        return Err(Stop::Fail(format!("it took {:?}", start.elapsed())));
    }
    Ok(())
}

fn new_namespace() -> Outcome {
    let watch = Watch::start(None, "--every 1h port:8099")?;
    let netns = Netns::new()?;
    let _server = program(&netns, Path::new("/proc/self/exe"), "127.0.0.1:8099")?;
    // Others may publish that port in namespaces of theirs.
    watch.next("the listener in the new namespace", |value| {
        value["change"] == "opened" && value["socket"]["netns"]["inode"] == netns.inode()
    })?;
    // Another listener there is found by looks into that namespace.
    let _second = program(&netns, Path::new("/proc/self/exe"), "127.0.0.2:8099")?;
    drop(netns);
    Ok(())
}

/// 200 listeners that live for a millisecond: each is told, most of them without holder.
fn short_lives() -> Outcome {
    let netns = Netns::new()?;
    let watch = Watch::start(Some(&netns), "--netns current --every 1h proto:tcp")?;
    netns.run(|| -> io::Result<()> {
        for port in 7001..=7200_u16 {
            let listener = TcpListener::bind(("127.0.0.1", port))?;
            std::thread::sleep(Duration::from_millis(1));
            drop(listener);
            std::thread::sleep(Duration::from_millis(4));
        }
        Ok(())
    })??;
    let mut ports = std::collections::BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    while let Some(value) = received(&watch.lines, end) {
        ports.extend(port(&value).filter(|_| value["change"] == "opened"));
        if ports.len() == 200 {
            return Ok(());
        }
    }
    Err(Stop::Fail(format!("{} of 200 were told", ports.len())))
}

/// What is told of one process beyond who it is: the change, its executable, what it was asked to do.
type Judge<'j> = &'j dyn Fn(&Value, &Path, &str) -> Outcome;

fn whole(value: &Value, path: &Path, maker: &str) -> Outcome {
    let owner = &value["socket"]["owners"][0];
    expect(owner["exe"].as_str() == path.to_str(), "the executable", value)?;
    expect(owner["cmdline"][2] == maker, "the arguments", value)
}

/// 200 processes, each with an executable of its own, each with a socket of a millisecond, on IPv4 and
/// IPv6 in turn: every one is told with pid, name and all that the judge asks for.
fn one_millisecond(maker: &str, words: &str, judge: Judge<'_>) -> Outcome {
    let (netns, dir) = (Netns::new()?, tempfile::tempdir()?);
    let first = dir.path().join("first");
    copy_of_ourselves(&first)?;
    let watch = Watch::start(Some(&netns), words)?;
    let mut expected = std::collections::BTreeMap::new();
    for port in 7001..=7200_u64 {
        let path = dir.path().join(format!("brief-{port}"));
        std::fs::hard_link(&first, &path)?;
        let address = if port % 2 == 0 { "127.0.0.1" } else { "[::1]" };
        let mut command = netns.command(&path)?;
        let mut child = command.args(["maker", maker, &format!("{address}:{port}")]).spawn()?;
        let pid = child.id();
        lab::ensure(child.wait()?.success(), || format!("the socket on {port} failed"))?;
        expected.insert(port, (u64::from(pid), path));
    }
    let mut told = std::collections::BTreeMap::new();
    let mut end = Instant::now() + PATIENCE;
    while let Some(value) = received(&watch.lines, end) {
        let Some(port) = port(&value).filter(|_| value["change"] == "opened") else { continue };
        lab::ensure(told.insert(port, value).is_none(), || format!("{port} was told twice"))?;
        if told.len() == 200 {
            // Nothing more is to come.
            end = Instant::now() + Duration::from_secs(1);
        }
    }
    let mut right = 0;
    for (port, (pid, path)) in &expected {
        let Some(value) = told.get(port) else { continue };
        let owner = &value["socket"]["owners"][0];
        expect(owner["pid"] == *pid, "the pid", value)?;
        let name = path.file_name().and_then(|name| name.to_str());
        expect(owner["name"].as_str() == name, "the name", value)?;
        judge(value, path, maker)?;
        right += 1;
    }
    lab::ensure(right == 200, || format!("{right} of 200 were told with their owner"))
}

/// A program without cookies: what it tells of and what looks and scans find is one socket, told once,
/// and its end is heard.
fn plain() -> Outcome {
    let netns = Netns::new()?;
    let words = "--netns current --every 1h --dwell 1s --without-hook tp_btf/inet_sock_set_state proto:tcp";
    let watch = Watch::start(Some(&netns), words)?;
    lab::ensure(watch.said.join("\n").contains("raw_tp/inet_sock_set_state"), || {
        format!("it only said {:?}", watch.said)
    })?;
    let server = program(&netns, Path::new("/proc/self/exe"), "127.0.0.1:8080")?;
    let told = watch.next("the listener", |value| port(value) == Some(8080))?;
    expect(told["socket"]["owners"][0]["pid"] == server.pid(), "with its owner", &told)?;
    std::thread::sleep(Duration::from_secs(2));
    drop(server);
    let told = watch.next("the end", |value| port(value) == Some(8080))?;
    expect(told["change"] == "closed", "it is told once, and then its end", &told)
}

/// Every kind of bind still works while our programs are asked about each, and the watch names them.
fn harmless() -> Outcome {
    let netns = Netns::new()?;
    let watch = Watch::start(Some(&netns), "--netns current --every 1h proto:udp")?;
    let said = watch.said.join("\n");
    for hook in ["tp_btf/inet_sock_set_state", "cgroup/post_bind4", "cgroup/post_bind6"] {
        lab::ensure(said.contains(hook), || format!("{hook} is not named in {said:?}"))?;
    }
    netns.run(|| -> io::Result<()> {
        let _kept = UdpSocket::bind("0.0.0.0:5353")?;
        let refused = UdpSocket::bind("0.0.0.0:5353").map_err(|error| error.kind());
        if refused.err() != Some(io::ErrorKind::AddrInUse) {
            return Err(io::Error::other("a port was given twice"));
        }
        UdpSocket::bind("127.0.0.1:0")?;
        UdpSocket::bind("[::1]:0")?;
        TcpListener::bind("[::]:0")?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    })??;
    let told = watch.next("the one that stayed", |value| port(value) == Some(5353))?;
    expect(told["change"] == "opened" && told["seen_by"] == "event", "the kernel told of it", &told)
}

/// What is plainly new is told at once, judged by the rules of the last scan, with the unit-less
/// process that opened it; the scan after it repeats nothing, and its end is told once.
fn ahead() -> Outcome {
    let (netns, other) = (Netns::new()?, Netns::new()?);
    lab::cable((&netns, "eth0", &["192.0.2.1/24"]), (&other, "eth0", &["192.0.2.2/24"]))?;
    let rules = "table inet t { chain input { type filter hook input priority 0; \
                 iifname != \"lo\" tcp dport 8081 drop; }\n}\n";
    netns.nft(rules)?;
    let watch = Watch::start(Some(&netns), "--netns current --every 1h --dwell 500ms proto:tcp")?;
    let open = program(&netns, Path::new("/proc/self/exe"), "0.0.0.0:8080")?;
    let told = watch.next("the open one", |value| port(value) == Some(8080))?;
    expect(told["change"] == "opened" && told["seen_by"] == "event", "it is news", &told)?;
    expect(told["socket"]["owners"][0]["how"] == "event", "no scan has seen it", &told)?;
    expect(told["socket"]["owners"][0]["pid"] == open.pid(), "the process", &told)?;
    expect(!told["socket"]["owners"][0]["user"].is_null(), "the user", &told)?;
    let (reach, certain) = (&told["socket"]["exposure"]["reach"], &told["socket"]["exposure"]["certain"]);
    expect(reach != "host" && certain == true, "others reach it", &told)?;
    let shut = program(&netns, Path::new("/proc/self/exe"), "0.0.0.0:8081")?;
    let told = watch.next("the shut one", |value| port(value) == Some(8081))?;
    expect(told["socket"]["exposure"]["reach"] == "host", "the filter shuts it", &told)?;
    // The scans that follow.
    for value in watch.within(Duration::from_secs(2)) {
        expect(value["change"] == "finding", "a scan repeats what was told", &value)?;
    }
    drop((open, shut));
    let mut closed: Vec<Option<u64>> = Vec::new();
    let mut end = Instant::now() + PATIENCE;
    while let Some(value) = received(&watch.lines, end) {
        if value["change"] != "cleared" {
            expect(value["change"] == "closed", "nothing but their ends", &value)?;
            closed.push(port(&value));
        }
        if closed.len() == 2 {
            end = end.min(Instant::now() + Duration::from_secs(1));
        }
    }
    closed.sort_unstable();
    lab::ensure(closed == [Some(8080), Some(8081)], || format!("closed were {closed:?}"))
}

/// More listeners at once than any scan could follow, and no more than the kernel has room for until
/// somebody hears it: nothing was lost on the way, and of a thousand at most one is not told.
fn torrent() -> Outcome {
    // What is told of each, its end included, takes some 250 bytes of 2 MiB.
    const LISTENERS: u64 = 4_000;
    let netns = Netns::new()?;
    let watch = Watch::start(Some(&netns), "--netns current --every 1h proto:tcp")?;
    let words = ["maker", "watch-churn", "600000", &LISTENERS.to_string()];
    let mut churn = Program::start(netns.command("/proc/self/exe")?.args(words))?;
    let count: u64 = churn.line()?.parse()?;
    lab::ensure(count == LISTENERS, || format!("{count} were opened"))?;
    let mut ports = std::collections::BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    while let Some(value) = received(&watch.lines, end) {
        expect(value["change"] != "lost-events", "something was lost", &value)?;
        ports.extend(port(&value).filter(|_| value["change"] == "opened"));
        if ports.len() as u64 == count {
            return Ok(());
        }
    }
    // One that ends while a scan is looking at it is told by neither now and then.
    lab::ensure(count - ports.len() as u64 <= count / 1000, || {
        format!("of {count} listeners {} were told", ports.len())
    })
}

/// While the watch is stopped, more is opened than the kernel can keep for it. Afterwards the loss is
/// told with its count, and what listens by now is found.
fn lost() -> Outcome {
    let netns = Netns::new()?;
    let watch = Watch::start(Some(&netns), "--netns current --every 1h proto:tcp")?;
    let pid = rustix_pid(watch.child.id())?;
    signal(pid, libc::SIGSTOP)?;
    let mut churn = Program::start(netns.command("/proc/self/exe")?.args(["maker", "watch-churn", "3000"]))?;
    let count: u64 = churn.line()?.parse()?;
    let _listener = program(&netns, Path::new("/proc/self/exe"), "127.0.0.1:8080")?;
    signal(pid, libc::SIGCONT)?;
    // A short record takes some 120 bytes of 2 MiB.
    if count < 20_000 {
        return Err(Stop::Skip(format!("only {count} listeners in 3 s: the ring had room for them")));
    }
    let told = watch.next("the loss", |value| value["change"] == "lost-events")?;
    expect(told["lost"].as_u64() > Some(0), "with its count", &told)?;
    watch.next("the listener that stands", |value| port(value) == Some(8080))?;
    Ok(())
}

fn rustix_pid(pid: u32) -> Outcome<libc::pid_t> {
    Ok(pid.try_into()?)
}

fn signal(pid: libc::pid_t, signal: libc::c_int) -> Outcome {
    // SAFETY: takes numbers only; the process is a child of ours that nobody has waited for.
    lab::check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Root that may not load programs: the same watch as ever, and it says what it lacks.
fn refused() -> Outcome {
    let netns = Netns::new()?;
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", "-bpf,-sys_admin,-perfmon", "--"]);
    command.arg(sockwarden::<&str>([]).get_program()).args(["watch", "--json", "--netns", "current"]);
    let watch = Watch::run(Some(&netns), command)?;
    let said = watch.said.join("\n");
    lab::ensure(said.contains("without programs in the kernel"), || format!("it only said {said:?}"))?;
    lab::ensure(said.contains("CAP_BPF"), || format!("no way out in {said:?}"))?;
    let _listener = program(&netns, Path::new("/proc/self/exe"), "127.0.0.1:8080")?;
    let told = watch.next("the listener", |value| port(value) == Some(8080))?;
    expect(told["change"] == "opened", "it is told as ever", &told)
}

fn resident(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Thousands of sockets that come and go: the memory of the second half is that of the first.
fn flood() -> Outcome {
    let netns = Netns::new()?;
    let watch = Watch::start(Some(&netns), "--netns current --dwell 200ms proto:tcp")?;
    let pid = watch.child.id();
    let round = || {
        netns.run(|| {
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                // A scan of another process may hold a duplicate of one that was just dropped.
                let all: Vec<_> =
                    (7001..7301_u16).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
                std::thread::sleep(Duration::from_millis(20));
                drop(all);
            }
        })
    };
    round()?;
    std::thread::sleep(Duration::from_secs(1));
    let first = resident(pid)?;
    round()?;
    std::thread::sleep(Duration::from_secs(1));
    let second = resident(pid)?;
    let told = watch.within(Duration::from_millis(200)).len();
    if told < 300 {
        return Err(Stop::Fail(format!("only {told} changes of a flood")));
    }
    if second > first + 4 * 1024 {
        return Err(Stop::Fail(format!("{first} kB after one round, {second} kB after two")));
    }
    Ok(())
}

fn hostile() -> Outcome {
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("\u{1b}]0;evil\u{7}\n\u{202e}x");
    copy_of_ourselves(&path)?;
    let mut command = sockwarden(["watch", "--netns", "current", "--for", "8s"]);
    netns.enter(&mut command)?;
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut notices = BufReader::new(watch.stderr.take().ok_or("no pipe")?);
    let mut said = String::new();
    while !said.contains("watching ") && notices.read_line(&mut said)? > 0 {}
    let _server = program(&netns, &path, "127.0.0.1:8080")?;
    let text = String::from_utf8(watch.wait_with_output()?.stdout)?;
    if !text.contains(":8080") {
        return Err(Stop::Fail(format!("the listener was not told: {text}")));
    }
    if text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}') {
        return Err(Stop::Fail(format!("a control character came through: {text:?}")));
    }
    Ok(())
}
