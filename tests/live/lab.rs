//! The laboratory: what a test needs, network namespaces of its own, programs that end with it.
//!
//! Nothing here touches the host: the whole test process lives in a mount namespace of its own with
//! an empty `/run/netns`, so that whatever is mounted there ends with the process, even when killed.

use std::ffi::{CString, OsStr, OsString};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use rustix::net;

/// How long a test waits for what must happen at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a test ended early. Made from any error by `?`: then it is a failure.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This kernel cannot do it: ignored, with the reason.
    Skip(String),
    Fail(String),
}

impl<E: Display> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(error.to_string())
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Stop>;

/// What a test cannot do without.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// Root with namespaces of our own.
    Root,
    /// A program in PATH.
    Tool(&'static str),
    /// A file that some package brings.
    File(&'static str),
    /// An ability of the kernel: what it is called, and how it is tried.
    Kernel(&'static str, fn() -> bool),
}

/// Held for reading by every test that runs, and for writing by one that must run alone.
static BESIDE: RwLock<()> = RwLock::new(());

/// A program of these lines, written by another process for the reason of [`copy_program`].
pub(crate) fn script(place: &Path, text: &str) -> Outcome {
    let mut tee =
        Command::new("tee").arg("--").arg(place).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    tee.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
    ensure(tee.wait()?.success(), || "tee failed".into())?;
    Ok(std::fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}

/// A copy of a program. Made by cp(1): a file that this process had open for writing could not be
/// executed while a test beside it is between fork and exec (`ETXTBSY`).
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let status = Command::new("cp").arg("--").arg(from.as_ref()).arg(to.as_ref()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("cp failed")) }
}

/// A test that no other runs beside: scans of other tests enter every namespace, and their sockets
/// would stand in the answer without an owner that can be seen.
pub(crate) fn trial_alone(
    name: &str,
    needs: &'static [Need],
    run: impl FnOnce() -> Outcome + Send + 'static,
) -> Trial {
    with_needs(name, needs, move || {
        let _alone = BESIDE.write().unwrap_or_else(PoisonError::into_inner);
        run()
    })
}

/// A test with its needs.
pub(crate) fn trial(
    name: &str,
    needs: &'static [Need],
    run: impl FnOnce() -> Outcome + Send + 'static,
) -> Trial {
    with_needs(name, needs, move || {
        let _beside = BESIDE.read().unwrap_or_else(PoisonError::into_inner);
        run()
    })
}

fn with_needs(name: &str, needs: &'static [Need], run: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        let strict = std::env::var_os("CI").is_some_and(|value| value == "true");
        for need in needs {
            let (lacking, fatal) = match *need {
                Need::Root => (prepare().as_ref().err().map(|why| format!("needs root: {why}")), strict),
                Need::Tool(name) => {
                    (find_program(name).is_none().then(|| format!("needs the program {name}")), strict)
                }
                Need::File(path) => {
                    ((!Path::new(path).exists()).then(|| format!("needs the file {path}")), strict)
                }
                Need::Kernel(what, works) => {
                    ((!works()).then(|| format!("this kernel has no {what}")), false)
                }
            };
            match lacking {
                None => {}
                Some(why) if fatal => return Err(Failed::from(why)),
                Some(why) => return Ok(Completion::ignored_with(why)),
            }
        }
        match run() {
            Ok(()) => Ok(Completion::Completed),
            Err(Stop::Skip(why)) => Ok(Completion::ignored_with(why)),
            Err(Stop::Fail(why)) => Err(Failed::from(why)),
        }
    })
}

/// Where PATH, or the usual folder of system programs, has this program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Moves the test process into a mount namespace of its own with an empty `/run/netns`. Called
/// first by `main`, while there is one thread; later calls repeat the answer.
pub(crate) fn prepare() -> &'static Result<(), String> {
    static PREPARED: OnceLock<Result<(), String>> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let step = |what: &str, result: io::Result<()>| result.map_err(|error| format!("{what}: {error}"));
        step("unshare", unshare(libc::CLONE_NEWNS))?;
        step("mount / as slave", mount(None, "/", None, libc::MS_REC | libc::MS_SLAVE))?;
        step("create /run/netns", std::fs::create_dir_all("/run/netns"))?;
        step("mount /run/netns", mount(Some("tmpfs"), "/run/netns", Some("tmpfs"), 0))
    })
}

/// `CLONE_NEW…` for the calling thread.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; only this thread's own view changes.
    check(unsafe { libc::unshare(flags) }).map(|_| ())
}

pub(crate) fn mount(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let [source, target, kind] =
        [source.unwrap_or("none"), target, kind.unwrap_or("none")].map(|text| CString::new(text).unwrap());
    // SAFETY: three NUL-terminated strings that outlive the call, and no data.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
        .map(|_| ())
}

/// Runs `work` as pid 1 of new pid, mount and network namespaces, with a `/proc` of its own and
/// loopback up; for a maker. Whatever `work` leaves running ends with it.
pub(crate) fn in_box(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
    // SAFETY: a maker has one thread here, so the child may go on as the parent would.
    match check(unsafe { libc::fork() })? {
        0 => {
            end_with_parent();
            let inside = || -> io::Result<()> {
                mount(None, "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
                mount(Some("proc"), "/proc", Some("proc"), 0)?;
                forget_namespaces()?;
                let ip = find_program("ip").ok_or_else(|| io::Error::other("needs the program ip"))?;
                Command::new(ip).args(["link", "set", "lo", "up"]).status()?;
                work()
            };
            let result = inside();
            if let Err(error) = &result {
                eprintln!("box: {error}");
            }
            std::process::exit(i32::from(result.is_err()))
        }
        pid => {
            let mut status = 0;
            // SAFETY: room for the status.
            check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
            if status == 0 {
                Ok(())
            } else {
                Err(io::Error::other(format!("box ended with status {status:#x}")))
            }
        }
    }
}

/// Takes away the bind mounts through which the namespaces of tests that run beside this one could be
/// entered: a box sees no sockets but its own.
fn forget_namespaces() -> io::Result<()> {
    for line in
        std::fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|line| line.contains(" - nsfs "))
    {
        let place = CString::new(line.split(' ').nth(4).unwrap_or_default())?;
        // SAFETY: a path that outlives the call.
        match check(unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) }) {
            // A test beside this one has ended, and its namespace with it; or another mount lies over it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => _ = done?,
        }
    }
    Ok(())
}

/// The result of a system call, with errno where it failed.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Fails with `what` unless it holds.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Stop::Fail(what())) }
}

/// Asks again every few milliseconds until there is an answer.
pub(crate) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            return Err(Stop::Fail(format!("waited {} s in vain for {what}", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program to its end; its standard output. An exit code other than 0 is an error.
pub(crate) fn output(command: &mut Command) -> Outcome<Vec<u8>> {
    let done = command.stdin(Stdio::null()).output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        return Err(Stop::Fail(format!("{command:?}: {}: {said}", done.status)));
    }
    Ok(done.stdout)
}

/// The program under test, with these arguments, as a command that has not started yet.
pub(crate) fn sockwarden<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockwarden"));
    command.args(args).env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE");
    command
}

/// Keeps a command from bpf(2), as the usual rules for containers do.
pub(crate) fn without_bpf(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: nothing but one system call happens between fork and exec.
    unsafe { command.pre_exec(forbid_bpf) }
}

/// This process gets EPERM from bpf(2) from now on (seccomp(2)).
pub(crate) fn forbid_bpf() -> io::Result<()> {
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

/// A network namespace of the test's own, with its loopback up. Gone when dropped, once no process
/// is in it any more.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
    inode: u64,
}

impl Netns {
    /// A unique name `sw-PID-n` below /run/netns.
    pub(crate) fn new() -> Outcome<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("sw-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::named(&name)
    }

    /// For a test in which the name matters; it must be unique within this process.
    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let path = format!("/run/netns/{name}");
        File::create_new(&path)?;
        let target = path.clone();
        let made = std::thread::spawn(move || {
            unshare(libc::CLONE_NEWNET)?;
            mount(Some("/proc/thread-self/ns/net"), &target, None, libc::MS_BIND)
        })
        .join()
        .map_err(|_| "the thread that makes the namespace panicked")?;
        if let Err(error) = made {
            let _ = std::fs::remove_file(&path);
            return Err(error.into());
        }
        let inode = std::fs::metadata(&path)?.ino();
        let made = Self { name: name.into(), inode };
        made.ip("link set lo up")?;
        Ok(made)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// `ip -n NAME …`, words parted by blanks.
    pub(crate) fn ip(&self, words: &str) -> Outcome {
        let ip = find_program("ip").ok_or("needs the program ip")?;
        output(Command::new(ip).args(["-n", self.name()]).args(words.split_whitespace())).map(|_| ())
    }

    /// Writes a setting of this namespace: the path below /proc/sys.
    pub(crate) fn sysctl(&self, name: &str, value: &str) -> Outcome {
        let path = format!("/proc/sys/{name}");
        self.run(|| std::fs::write(&path, value))?.map_err(|error| Stop::Fail(format!("{path}: {error}")))
    }

    /// A program that will start in this namespace.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Outcome<Command> {
        let mut command = Command::new(program);
        self.enter(&mut command)?;
        Ok(command)
    }

    /// Lets `command` start in this namespace.
    pub(crate) fn enter(&self, command: &mut Command) -> Outcome {
        let file = File::open(self.path())?;
        // SAFETY: the closure runs between fork and exec and makes one system call, setns(2).
        unsafe {
            command.pre_exec(move || check(libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET)).map(|_| ()));
        }
        Ok(())
    }

    /// Runs `work` in a thread that has entered this namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        let file = File::open(self.path())?;
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: a system call without pointers; the thread ends with the closure.
                    check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) })?;
                    Ok::<T, io::Error>(work())
                })
                .join()
        })
        .map_err(|_| "the thread in the namespace panicked")?
        .map_err(Stop::from)
    }

    /// Loads a ruleset with nft(8).
    pub(crate) fn nft(&self, text: &str) -> Outcome {
        let nft = find_program("nft").ok_or("nft")?;
        let mut child = self.command(nft)?.args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
        ensure(child.wait()?.success(), || format!("nft refuses {text}"))
    }

    /// A connection from here with this address as its sender, or why there is none.
    pub(crate) fn connect(
        &self,
        from: &str,
        to: (&str, u16),
        patience: Duration,
    ) -> Outcome<io::Result<TcpStream>> {
        let (from, to) = (SocketAddr::new(from.parse()?, 0), SocketAddr::new(to.0.parse()?, to.1));
        self.run(move || {
            let socket = net::socket_with(
                if from.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 },
                net::SocketType::STREAM,
                net::SocketFlags::CLOEXEC,
                None,
            )?;
            net::bind(&socket, &from)?;
            // connect(2) waits no longer than for sending.
            net::sockopt::set_socket_timeout(&socket, net::sockopt::Timeout::Send, Some(patience))?;
            net::connect(&socket, &to)?;
            Ok(socket.into())
        })
    }

    /// Waits until something listens on this TCP port (`udp` false), or is bound to the UDP port.
    pub(crate) fn wait_for_port(&self, udp: bool, port: u16) -> Outcome {
        let (files, state) = if udp { (["udp", "udp6"], "07") } else { (["tcp", "tcp6"], "0A") };
        let port = format!(":{port:04X}");
        wait(&format!("port {port} (hex) in {}", self.name), || {
            self.run(|| {
                files
                    .iter()
                    .filter_map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok())
                    .any(|text| {
                        text.lines().any(|line| {
                            let mut words = line.split_whitespace().skip(1);
                            words.next().is_some_and(|local| local.ends_with(&port))
                                && words.nth(1) == Some(state)
                        })
                    })
                    .then_some(())
            })
            .ok()
            .flatten()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let path = self.path();
        if let Some(path) = path.to_str().and_then(|path| CString::new(path).ok()) {
            // SAFETY: one NUL-terminated string that outlives the call.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        let _ = std::fs::remove_file(path);
    }
}

/// Joins two namespaces by a virtual cable: interface name and addresses with prefix length of each
/// end. Both ends are up, IPv6 addresses usable at once.
pub(crate) fn cable(a: (&Netns, &str, &[&str]), b: (&Netns, &str, &[&str])) -> Outcome {
    a.0.ip(&format!("link add {} type veth peer name {} netns {}", a.1, b.1, b.0.name))?;
    for (netns, interface, addresses) in [a, b] {
        // Without this an IPv6 address cannot be bound to for its first second (RFC 4862, DAD).
        netns.sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0")?;
        netns.ip(&format!("link set {interface} up"))?;
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            netns.ip(&format!("addr add {address} dev {interface} {nodad}"))?;
        }
    }
    Ok(())
}

/// A running program with its standard output; killed and waited for when dropped. Standard input
/// is held open: a maker ends when it closes.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    out: ChildStdout,
    read: Vec<u8>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let out = child.stdout.take().ok_or("no pipe")?;
        Ok(Self { child, out, read: Vec::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output, without the newline.
    pub(crate) fn line(&mut self) -> Outcome<String> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let mut poll = libc::pollfd { fd: self.out.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd that outlives the call.
            check(unsafe { libc::poll(&raw mut poll, 1, 1000) })?;
            let mut buffer = [0; 4096];
            if poll.revents != 0 {
                match self.out.read(&mut buffer)? {
                    0 => {
                        return Err(Stop::Fail(format!("pid {} ended: {:?}", self.pid(), self.child.wait())));
                    }
                    n => self.read.extend_from_slice(&buffer[..n]),
                }
            } else if start.elapsed() > PATIENCE {
                return Err(Stop::Fail(format!("pid {} says nothing", self.pid())));
            }
        }
    }

    /// All lines up to `ready`. `skip WHY` ends the test: this kernel cannot do it.
    pub(crate) fn until_ready(&mut self) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if let Some(why) = line.strip_prefix("skip ") {
                return Err(Stop::Skip(why.to_owned()));
            }
            if line == "ready" {
                return Ok(lines);
            }
            lines.push(line);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One with a process group of its own takes along what it started.
        let pid = self.child.id().cast_signed();
        // SAFETY: numbers only; the child has not been waited for, so the number is still its own.
        unsafe {
            if libc::getpgid(pid) == pid {
                libc::kill(-pid, libc::SIGKILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of our own that holds something: its name and what it does. It says `ready` on
/// standard output, then [`hold`]s.
pub(crate) type Maker = (&'static str, fn(&[OsString]) -> io::Result<()>);

/// This binary as the maker of that name.
pub(crate) fn maker(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["maker", name]);
    command
}

/// Runs the maker that the command line names, if it names one.
pub(crate) fn run_maker(makers: &[Maker]) -> Option<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_none_or(|word| word != "maker") {
        return None;
    }
    let name = args.get(2)?;
    let Some((_, make)) = makers.iter().find(|(known, _)| name == known) else {
        eprintln!("no maker {}", name.display());
        return Some(ExitCode::from(2));
    };
    end_with_parent();
    Some(match make(&args[3..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maker {}: {error}", name.display());
            ExitCode::FAILURE
        }
    })
}

/// SIGKILL for this process when the thread that started it ends (prctl(2)).
pub(crate) fn end_with_parent() {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Says `ready` and waits until standard input closes.
pub(crate) fn hold() -> io::Result<()> {
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())
}

pub(crate) fn makers() -> Vec<Maker> {
    vec![("idle", |_| hold())]
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("lab::two_hosts_and_a_cable", &[Need::Root, Need::Tool("ip")], two_hosts_and_a_cable)]
}

/// The laboratory itself: two namespaces on one cable reach each other by both families, a maker
/// runs in one of them and ends with its guard.
fn two_hosts_and_a_cable() -> Outcome {
    let (here, there) = (Netns::new()?, Netns::new()?);
    cable(
        (&here, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&there, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    )?;
    for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
        let listener = here.run(|| std::net::TcpListener::bind(address))??;
        let target = listener.local_addr()?;
        here.wait_for_port(false, target.port())?;
        there.run(|| std::net::TcpStream::connect_timeout(&target, PATIENCE))??;
    }
    let mut command = maker("idle");
    here.enter(&mut command)?;
    let mut idle = Program::start(&mut command)?;
    idle.until_ready()?;
    let pid = idle.pid();
    let inode = std::fs::metadata(format!("/proc/{pid}/ns/net"))?.ino();
    if inode != here.inode() {
        return Err(Stop::Fail(format!("maker is in namespace {inode}, not {}", here.inode())));
    }
    drop(idle);
    if Path::new(&format!("/proc/{pid}")).exists() {
        return Err(Stop::Fail(format!("pid {pid} is still there")));
    }
    Ok(())
}
