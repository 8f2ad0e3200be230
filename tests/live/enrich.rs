//! Facts about holders and places, asked of real processes: what became of an executable, whose
//! names count in a foreign root, which container, which service behind systemd's socket, and who
//! may really connect to a UNIX socket.

use std::ffi::{CString, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use sockwarden::collect;
use sockwarden::enrich::{self, record};
use sockwarden::model::{
    Endpoint, ExeState, Fact, InterfaceKind, Process, Protocol, Snapshot, Socket, Text, Users, Wants,
};
use sockwarden::source::Source;

use crate::awkward::sys;
use crate::lab::{self, Maker, Need, Netns, Outcome, Program, Stop, check, ensure, maker, trial};

pub(crate) fn makers() -> Vec<Maker> {
    vec![
        ("enrich-memory", in_memory),
        ("enrich-headless", headless),
        ("enrich-mounted", mounted),
        ("enrich-chroot", in_chroot),
        ("enrich-mapped", mapped),
        ("enrich-unix", unix_listener),
        ("enrich-manager", manager),
        ("enrich-dead-mount", dead_mount),
    ]
}

pub(crate) fn trials() -> Vec<Trial> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        trial("enrich::what_became_of_the_program", ROOT, what_became_of_the_program),
        trial("enrich::a_program_in_memory", ROOT, a_program_in_memory),
        trial("enrich::the_leading_thread_has_ended", ROOT, the_leading_thread_has_ended),
        trial("enrich::the_same_path_is_another_file", ROOT, the_same_path_is_another_file),
        trial("enrich::names_of_a_chroot", ROOT, names_of_a_chroot),
        trial("enrich::names_of_another_mount_namespace", ROOT, names_of_another_mount_namespace),
        trial("enrich::names_in_a_user_namespace", ROOT, names_in_a_user_namespace),
        trial("enrich::own_names_in_a_user_namespace", ROOT, own_names_in_a_user_namespace),
        trial("enrich::container_of_a_control_group", ROOT, container_of_a_control_group),
        trial("enrich::package_of_a_program", ROOT, package_of_a_program),
        trial("enrich::service_behind_a_socket_unit", ROOT, service_behind_a_socket_unit),
        trial("enrich::who_may_connect", ROOT, who_may_connect),
        trial("enrich::a_dead_mount_hangs_nobody", ROOT, a_dead_mount_hangs_nobody),
        trial("enrich::a_socket_in_another_root", ROOT, a_socket_in_another_root),
        trial(
            "enrich::interfaces_of_a_namespace",
            &[Need::Root, Need::Tool("ip")],
            interfaces_of_a_namespace,
        ),
    ]
}

/// A program that is killed and waited for when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Outcome<Self> {
        // SAFETY: the closure runs between fork and exec and makes one system call, prctl(2).
        unsafe {
            command.pre_exec(|| {
                lab::end_with_parent();
                Ok(())
            });
        }
        Ok(Self(command.stdin(Stdio::null()).spawn().map_err(|error| format!("{command:?}: {error}"))?))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All facts of one process, with the gaps that they left.
fn facts(pid: u32) -> Outcome<(Process, Snapshot)> {
    let source = Source::live()?;
    let stat = record::stat(&source.process(pid)?.read("stat")?).ok_or("no record")?;
    let process = Process::new(pid, stat.start_ticks, stat.name, stat.ppid);
    let mut snapshot = Snapshot { processes: vec![process], ..Snapshot::default() };
    enrich::context(&mut snapshot, &source, &Wants::EVERYTHING);
    Ok((snapshot.processes[0].clone(), snapshot))
}

/// The whole machine.
fn scan() -> Outcome<Snapshot> {
    scan_for(&Wants::EVERYTHING)
}

fn scan_for(wants: &Wants) -> Outcome<Snapshot> {
    let source = Source::live()?;
    let mut snapshot = collect::sockets(&source, wants);
    enrich::context(&mut snapshot, &source, wants);
    Ok(snapshot)
}

fn text(path: &Path) -> Text {
    path.as_os_str().as_bytes().into()
}

fn ensure_exe(pid: u32, path: &Path, state: ExeState) -> Outcome<Process> {
    let (process, snapshot) = facts(pid)?;
    ensure(process.exe == Fact::Known(text(path)) && process.exe_state == state, || {
        format!(
            "wanted {path:?} {state:?}, got {:?} {:?}, gaps {:?}",
            process.exe, process.exe_state, snapshot.gaps
        )
    })?;
    Ok(process)
}

/// A folder that every user may enter.
fn open_folder() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir()
}

fn sleep_program() -> Outcome<PathBuf> {
    Ok(fs::canonicalize(lab::find_program("sleep").ok_or("no program sleep")?)?)
}

fn what_became_of_the_program() -> Outcome {
    let dir = open_folder()?;
    let sleep = sleep_program()?;
    let start = |name: &str| -> Outcome<(PathBuf, Running)> {
        let path = dir.path().join(name);
        fs::copy(&sleep, &path)?;
        let running = Running::start(Command::new(&path).arg("1000"))?;
        Ok((path, running))
    };
    let (path, present) = start("present")?;
    let process = ensure_exe(present.pid(), &path, ExeState::Present)?;
    ensure(process.package == Fact::Absent, || format!("a package for a copy: {:?}", process.package))?;
    let words = [path.as_os_str().as_bytes(), b"1000"].map(Text::from).to_vec();
    ensure(process.cmdline == Fact::Known(words), || format!("arguments {:?}", process.cmdline))?;

    let (path, deleted) = start("deleted")?;
    fs::remove_file(&path)?;
    ensure_exe(deleted.pid(), &path, ExeState::Deleted)?;

    let (path, replaced) = start("replaced")?;
    fs::copy(&sleep, dir.path().join("new"))?;
    fs::rename(dir.path().join("new"), &path)?;
    ensure_exe(replaced.pid(), &path, ExeState::Replaced)?;

    let (path, linked) = start("linked")?;
    fs::hard_link(&path, dir.path().join("other name"))?;
    fs::remove_file(&path)?;
    ensure_exe(linked.pid(), &path, ExeState::Deleted)?;

    // A file that is really called so, while another stands at the name without the words.
    let (path, honest) = start("honest (deleted)")?;
    fs::copy(&sleep, dir.path().join("honest"))?;
    ensure_exe(honest.pid(), &path, ExeState::Present)?;

    // The folder goes, too.
    fs::create_dir(dir.path().join("sub"))?;
    let (path, orphan) = start("sub/orphan")?;
    fs::remove_dir_all(dir.path().join("sub"))?;
    ensure_exe(orphan.pid(), &path, ExeState::Deleted)?;
    Ok(())
}

/// Executes `sleep` out of a memfd.
fn in_memory(_: &[OsString]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::fd::FromRawFd as _;
    let program = lab::find_program("sleep").ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: a NUL-terminated name; the new descriptor belongs to nobody else.
    let mut file = unsafe { fs::File::from_raw_fd(check(libc::memfd_create(c"hidden".as_ptr(), 0))?) };
    file.write_all(&fs::read(program)?)?;
    println!("ready");
    Err(Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).arg("1000").exec())
}

fn a_program_in_memory() -> Outcome {
    let mut program = Program::start(&mut maker("enrich-memory"))?;
    program.until_ready()?;
    let path = format!("/proc/{}/exe", program.pid());
    lab::wait("the program in memory", || {
        fs::read_link(&path).is_ok_and(|exe| exe.as_os_str().as_bytes().starts_with(b"/memfd:")).then_some(())
    })?;
    let process = ensure_exe(program.pid(), Path::new("/memfd:hidden"), ExeState::Memory)?;
    ensure(process.package == Fact::Absent, || format!("package {:?}", process.package))
}

/// The leading thread ends, another lives on.
fn headless(_: &[OsString]) -> io::Result<()> {
    std::thread::Builder::new().spawn(|| {
        let _ = lab::hold();
        std::process::exit(0);
    })?;
    // SAFETY: ends this thread alone; nothing of its stack is needed any more.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}

fn the_leading_thread_has_ended() -> Outcome {
    let mut program = Program::start(&mut maker("enrich-headless"))?;
    program.until_ready()?;
    let status = format!("/proc/{}/status", program.pid());
    lab::wait("the end of the leading thread", || {
        fs::read_to_string(&status).is_ok_and(|text| text.contains("State:\tZ")).then_some(())
    })?;
    let process = ensure_exe(program.pid(), &std::env::current_exe()?, ExeState::Present)?;
    ensure(process.user == Fact::Known("root".into()), || format!("user {:?}", process.user))?;
    ensure(process.cmdline.known().is_some_and(|words| words.len() == 3), || format!("{:?}", process.cmdline))
}

/// Arguments: a file, a path at which it is mounted in a namespace of our own, then a user id to
/// become and a program with its arguments.
fn mounted(args: &[OsString]) -> io::Result<()> {
    let [file, at, uid, program, rest @ ..] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    lab::unshare(libc::CLONE_NEWNS)?;
    lab::mount(None, "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    lab::mount(file.to_str(), &at.to_string_lossy(), None, libc::MS_BIND)?;
    become_user(number(uid)?)?;
    println!("ready");
    Err(Command::new(program).args(rest).exec())
}

fn number(text: &OsString) -> io::Result<u32> {
    text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: take numbers and a null list only.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(uid, uid, uid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    lab::end_with_parent(); // forgotten at a change of user
    Ok(())
}

/// Waits until a process runs this program.
fn wait_for_exe(pid: u32, path: &Path) -> Outcome {
    lab::wait("the new program", || {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == path).then_some(())
    })
}

fn the_same_path_is_another_file() -> Outcome {
    let dir = open_folder()?;
    let (path, other) = (dir.path().join("program"), dir.path().join("other"));
    fs::copy(sleep_program()?, &path)?;
    fs::copy(sleep_program()?, &other)?;
    // Inside, `program` is what is called `other` here; here another file has that path.
    let args = [other.as_os_str(), path.as_os_str(), "0".as_ref(), path.as_os_str(), "1000".as_ref()];
    let mut inside = Program::start(maker("enrich-mounted").args(args))?;
    inside.until_ready()?;
    wait_for_exe(inside.pid(), &path)?;
    ensure_exe(inside.pid(), &path, ExeState::Present)?;
    let outside = Running::start(Command::new(&path).arg("1000"))?;
    ensure_exe(outside.pid(), &path, ExeState::Present)?;
    // What is replaced is the one under its own path, though both are called the same.
    fs::copy(&other, dir.path().join("new"))?;
    fs::rename(&other, dir.path().join("kept"))?;
    ensure_exe(inside.pid(), &path, ExeState::Present)?;
    fs::rename(dir.path().join("new"), dir.path().join("program2"))?;
    fs::remove_file(&path)?;
    ensure_exe(outside.pid(), &path, ExeState::Deleted).map(|_| ())
}

const NAMES: &str = "root:x:0:0::/:/bin/sh\nmariner:x:4242:4242::/:/bin/sh\n";

/// Arguments: a folder, a user id. The root is left for the folder after the start.
fn in_chroot(args: &[OsString]) -> io::Result<()> {
    let [folder, uid] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    std::os::unix::fs::chroot(folder)?;
    std::env::set_current_dir("/")?;
    become_user(number(uid)?)?;
    lab::hold()
}

fn names_of_a_chroot() -> Outcome {
    let dir = open_folder()?;
    fs::create_dir(dir.path().join("etc"))?;
    fs::write(dir.path().join("etc/passwd"), NAMES)?;
    let start = |folder: &Path, uid: &str| -> Outcome<Program> {
        let mut program = Program::start(maker("enrich-chroot").arg(folder).arg(uid))?;
        program.until_ready()?;
        Ok(program)
    };
    let known = start(dir.path(), "4242")?;
    // The program lies outside its root, in the mount namespace that it shares with us.
    let process = ensure_exe(known.pid(), &std::env::current_exe()?, ExeState::Present)?;
    ensure(process.user == Fact::Known("mariner".into()), || format!("user {:?}", process.user))?;
    ensure(process.euid == Fact::Known(4242), || format!("uid {:?}", process.euid))?;
    // Uid 1 has a name here and none in there.
    let unknown = facts(start(dir.path(), "1")?.pid())?.0;
    ensure(unknown.user == Fact::Absent, || format!("user {:?}", unknown.user))?;
    // An empty root brings no names: those of the file system around it count.
    let empty = open_folder()?;
    let plain = facts(start(empty.path(), "0")?.pid())?.0;
    ensure(plain.user == Fact::Known("root".into()), || format!("user {:?}", plain.user))
}

fn names_of_another_mount_namespace() -> Outcome {
    let dir = open_folder()?;
    let names = dir.path().join("passwd");
    fs::write(&names, NAMES)?;
    let sleep = sleep_program()?;
    let args =
        [names.as_os_str(), "/etc/passwd".as_ref(), "4242".as_ref(), sleep.as_os_str(), "1000".as_ref()];
    let mut inside = Program::start(maker("enrich-mounted").args(args))?;
    inside.until_ready()?;
    wait_for_exe(inside.pid(), &sleep)?;
    let process = ensure_exe(inside.pid(), &sleep, ExeState::Present)?;
    ensure(process.user == Fact::Known("mariner".into()), || format!("user {:?}", process.user))
}

/// Arguments: a user data base or `-`, and the uid inside. In a user namespace that maps 0 to 70000.
fn mapped(args: &[OsString]) -> io::Result<()> {
    let [names, uid] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (me, mut theirs) = UnixStream::pair()?;
    let parent = std::process::id();
    sys::fork(move || {
        use std::io::Read as _;
        theirs.read_exact(&mut [0])?;
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{parent}/{map}"), "0 70000 5000\n")?;
        }
        io::Write::write_all(&mut theirs, b"!")
    })?;
    lab::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    io::Write::write_all(&mut &me, b"?")?;
    io::Read::read_exact(&mut &me, &mut [0])?;
    become_user(0)?;
    if names != "-" {
        lab::mount(None, "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
        lab::mount(names.to_str(), "/etc/passwd", None, libc::MS_BIND)?;
    }
    become_user(number(uid)?)?;
    lab::hold()
}

fn names_in_a_user_namespace() -> Outcome {
    let dir = open_folder()?;
    let names = dir.path().join("passwd");
    fs::write(&names, NAMES)?;
    let mut program = Program::start(maker("enrich-mapped").arg(&names).arg("4242"))?;
    program.until_ready()?;
    let process = facts(program.pid())?.0;
    ensure(process.euid == Fact::Known(74242), || format!("uid {:?}", process.euid))?;
    ensure(process.user == Fact::Known("mariner".into()), || format!("user {:?}", process.user))
}

/// Root of a user namespace in our own file system is not our root.
fn own_names_in_a_user_namespace() -> Outcome {
    let mut program = Program::start(maker("enrich-mapped").arg("-").arg("0"))?;
    program.until_ready()?;
    let process = facts(program.pid())?.0;
    ensure(process.euid == Fact::Known(70000), || format!("uid {:?}", process.euid))?;
    ensure(process.user != Fact::Known("root".into()), || format!("user {:?}", process.user))
}

/// A control group of our own, removed when dropped.
struct ControlGroup(Vec<PathBuf>);

impl ControlGroup {
    /// `path` below a folder of our own, in the unified hierarchy.
    fn new(path: &str) -> Outcome<Self> {
        let table = fs::read_to_string("/proc/self/mounts")?;
        let mount = table.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (point, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(point))
        });
        let mut at = mount.ok_or_else(|| Stop::Skip("no unified control groups here".into()))?;
        let mut made = Self(Vec::new());
        at.push(format!("sockwarden-test-{}", std::process::id()));
        for part in std::iter::once("").chain(path.split('/')) {
            if !part.is_empty() {
                at.push(part);
            }
            if !at.exists() {
                fs::create_dir(&at)?;
                made.0.push(at.clone());
            }
        }
        Ok(made)
    }

    fn take_in(&self, pid: u32) -> Outcome {
        let last = self.0.last().ok_or("no control group")?;
        Ok(fs::write(last.join("cgroup.procs"), pid.to_string())?)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

fn container_of_a_control_group() -> Outcome {
    let id = "5ca1ab1e".repeat(8);
    let dir = open_folder()?;
    let state = dir.path().join("containers").join(&id);
    fs::create_dir_all(&state)?;
    fs::write(state.join("config.v2.json"), r#"{"Name":"/web","Config":{"Image":"nginx:1"}}"#)?;
    fs::write(state.join("hostname"), "web\n")?;
    let group = ControlGroup::new(&format!("docker/{id}"))?;
    let sleep = sleep_program()?;
    // As Docker does it: `hostname` of the container is mounted from the folder with its state.
    let hostname = state.join("hostname");
    let target = dir.path().join("etc-hostname");
    fs::write(&target, "")?;
    let args = [hostname.as_os_str(), target.as_os_str(), "0".as_ref(), sleep.as_os_str(), "1000".as_ref()];
    let mut inside = Program::start(maker("enrich-mounted").args(args))?;
    inside.until_ready()?;
    wait_for_exe(inside.pid(), &sleep)?;
    group.take_in(inside.pid())?;
    let container = facts(inside.pid())?.0.container;
    drop(inside);
    let container = container.known().ok_or("no container")?;
    ensure(container.runtime == "docker" && container.id == id.as_str().into(), || format!("{container:?}"))?;
    ensure(container.name == Some("web".into()) && container.image == Some("nginx:1".into()), || {
        format!("{container:?}")
    })?;
    // The same without state files: the id is told, name and image are a gap.
    let other = "0ddba11".repeat(10)[..64].to_owned();
    let group = ControlGroup::new(&format!("libpod-{other}.scope"))?;
    let plain = Running::start(Command::new(&sleep).arg("1000"))?;
    group.take_in(plain.pid())?;
    let (process, snapshot) = facts(plain.pid())?;
    drop(plain);
    let container = process.container.known().ok_or("no container")?;
    ensure(container.runtime == "podman" && container.name.is_none(), || format!("{container:?}"))?;
    ensure(process.unit == Fact::Known(format!("libpod-{other}.scope").into()), || {
        format!("{:?}", process.unit)
    })?;
    ensure(snapshot.gaps.iter().any(|gap| gap.id == "container-state" && gap.count == 1), || {
        format!("gaps {:?}", snapshot.gaps)
    })
}

fn package_of_a_program() -> Outcome {
    let sleep = sleep_program()?;
    if !Path::new("/var/lib/dpkg/info").exists() {
        return Err(Stop::Skip("needs a system with dpkg".into()));
    }
    let running = Running::start(Command::new(&sleep).arg("1000"))?;
    let process = ensure_exe(running.pid(), &sleep, ExeState::Present)?;
    let mut told = None;
    for name in [sleep.to_string_lossy().into_owned(), sleep.to_string_lossy().replacen("/usr", "", 1)] {
        if let Ok(answer) = lab::output(Command::new("dpkg").args(["-S", &name])) {
            told = String::from_utf8_lossy(&answer).split(':').next().map(str::to_owned);
            break;
        }
    }
    let told = told.ok_or("dpkg does not know sleep")?;
    ensure(process.package == Fact::Known(told.as_str().into()), || {
        format!("dpkg says {told}, we {:?}", process.package)
    })
}

/// Argument: a root with unit files. The first process of a pid namespace, called systemd, that
/// listens at port 2222 and at `/run/x.sock` of that root.
fn manager(args: &[OsString]) -> io::Result<()> {
    let [folder] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    let folder = folder.clone();
    lab::unshare(libc::CLONE_NEWPID)?;
    let pid = sys::fork(move || {
        std::os::unix::fs::chroot(&folder)?;
        std::env::set_current_dir("/")?;
        let tcp = std::net::TcpListener::bind("[::]:2222")?;
        let other = std::net::TcpListener::bind("[::]:2223")?;
        let unix = UnixListener::bind("/run/x.sock")?;
        sys::set_name(c"systemd");
        sys::keep([tcp.into(), other.into(), std::os::fd::OwnedFd::from(unix)]);
        sys::sleep_forever()
    })?;
    lab::wait("the manager", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n").then_some(())
    })
    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    println!("{pid}");
    lab::hold()
}

fn service_behind_a_socket_unit() -> Outcome {
    let netns = Netns::new()?;
    let dir = open_folder()?;
    let write = |path: &str, text: &str| -> io::Result<()> {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
        fs::write(path, text)
    };
    write("run/empty", "")?;
    write("usr/lib/systemd/system/ssh.socket", "[Socket]\nListenStream=22\nAccept=no\n")?;
    write("etc/systemd/system/ssh.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=2222\n")?;
    write("usr/lib/systemd/system/x.socket", "[Socket]\nListenStream=/run/x.sock\nAccept=yes\n")?;
    write("usr/lib/systemd/system/dgram.socket", "[Socket]\nListenDatagram=2223\n")?;
    let mut command = maker("enrich-manager");
    netns.enter(&mut command)?;
    let mut program = Program::start(command.arg(dir.path()))?;
    let said = program.until_ready()?;
    let pid: u32 = said.first().and_then(|line| line.parse().ok()).ok_or("no pid")?;
    let snapshot = scan()?;
    let at = snapshot.processes.iter().position(|each| each.pid == pid).ok_or("the manager is not listed")?;
    let held = |socket: &&Socket| {
        snapshot.holders[socket.holders.range()].iter().any(|holder| holder.process.0 as usize == at)
    };
    let mut found: Vec<(String, Vec<Text>, Vec<Text>)> = snapshot
        .sockets
        .iter()
        .filter(held)
        .map(|socket| {
            let made = socket.activation.as_deref().cloned().unwrap_or_default();
            (format!("{:?}", socket.local), made.units, made.services)
        })
        .collect();
    found.sort();
    let names = |name: &str| vec![Text::from(name)];
    let port = |port: u16| format!("{:?}", Endpoint::Inet(std::net::Ipv6Addr::UNSPECIFIED.into(), port));
    let wanted = [
        (port(2222), names("ssh.socket"), names("ssh.service")),
        (port(2223), Vec::new(), Vec::new()),
        (format!("{:?}", Endpoint::UnixPath("/run/x.sock".into())), names("x.socket"), names("x@.service")),
    ];
    ensure(found == wanted, || format!("{found:#?}"))
}

/// Argument: a path. Listens there and leaves the permissions to others.
fn unix_listener(args: &[OsString]) -> io::Result<()> {
    let listeners: Vec<UnixListener> = args.iter().map(UnixListener::bind).collect::<Result<_, _>>()?;
    sys::keep(listeners);
    lab::hold()
}

/// An account of this machine as the system sees it at login.
struct Login {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<libc::gid_t>,
}

/// A few ordinary accounts of this machine, and root.
fn logins() -> Outcome<Vec<Login>> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let mut logins = Vec::new();
    for line in passwd.lines() {
        let words: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = words[..] else { continue };
        let (uid, gid) = (uid.parse()?, gid.parse()?);
        let mut groups = vec![0; 64];
        let mut count = 64;
        let c_name = CString::new(name)?;
        // SAFETY: a NUL-terminated name, and room for as many groups as `count` says.
        if unsafe { libc::getgrouplist(c_name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) } < 0 {
            continue;
        }
        groups.truncate(usize::try_from(count)?);
        logins.push(Login { name: name.to_owned(), uid, gid, groups });
    }
    Ok(logins)
}

/// Whether this account can really connect: a thread becomes the user and tries.
fn connects(login: &Login, path: &Path) -> Outcome<bool> {
    let (uid, gid) = (login.uid, login.gid);
    std::thread::scope(|scope| {
        let attempt = scope.spawn(|| -> io::Result<bool> {
            // The raw system calls change this thread alone, which ends with the attempt.
            // SAFETY: take numbers, and a list with its length.
            unsafe {
                let become_one = |result: libc::c_long| check(libc::c_int::try_from(result).unwrap_or(-1));
                become_one(libc::syscall(libc::SYS_setgroups, login.groups.len(), login.groups.as_ptr()))?;
                become_one(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
                become_one(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
            }
            match UnixStream::connect(path) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
                Err(error) => Err(error),
            }
        });
        attempt.join().map_err(|_| Stop::Fail("the thread panicked".into()))?.map_err(Stop::from)
    })
}

fn socket_at<'s>(snapshot: &'s Snapshot, path: &Path) -> Outcome<&'s Socket> {
    let wanted = Endpoint::UnixPath(text(path));
    let found = snapshot.sockets.iter().find(|each| each.protocol == Protocol::Unix && each.local == wanted);
    Ok(found.ok_or_else(|| format!("{} is not listed", path.display()))?)
}

/// Every account of this machine tries every socket; what we say is what the kernel does.
fn who_may_connect() -> Outcome {
    let dir = open_folder()?;
    let logins = logins()?;
    let other =
        logins.iter().find(|login| login.uid != 0 && login.uid != 65534).ok_or("no second account")?;
    let mut paths = Vec::new();
    for name in ["600", "660", "666", "622", "644", "070", "open", "shut"] {
        fs::create_dir(dir.path().join(name))?;
        paths.push(dir.path().join(name).join("s"));
    }
    // A path by way of a link into a folder that only its owner may search.
    fs::create_dir_all(dir.path().join("deep/er"))?;
    symlink(dir.path().join("deep/er"), dir.path().join("link"))?;
    paths.push(dir.path().join("link/s"));
    let mut program = Program::start(maker("enrich-unix").args(&paths))?;
    program.until_ready()?;
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode));
    for path in &paths {
        let folder =
            path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        mode(path, u32::from_str_radix(folder, 8).unwrap_or(0o666))?;
        if folder == "660" || folder == "070" {
            std::os::unix::fs::chown(path, Some(other.uid), Some(other.gid))?;
        }
    }
    mode(&dir.path().join("shut"), 0o700)?;
    mode(&dir.path().join("deep"), 0o750)?;
    std::os::unix::fs::chown(dir.path().join("deep"), None, Some(other.gid))?;
    let snapshot = scan()?;
    let mut verdicts = (0, 0);
    for path in &paths {
        let access = socket_at(&snapshot, path)?.access.as_deref().ok_or("no access told")?;
        let at = path.strip_prefix(dir.path())?.display();
        for login in &logins {
            let may = match &access.users {
                Users::Everyone => true,
                Users::Named(names) => names.contains(&login.name.as_str().into()),
                Users::Unknown => {
                    return Err(format!("{at}: nobody can tell; gaps {:?}", snapshot.gaps).into());
                }
            };
            let can = connects(login, path)?;
            ensure(can == may, || format!("{at}: {} {can}, but we say {:?}", login.name, access.users))?;
            if can { verdicts.0 += 1 } else { verdicts.1 += 1 }
        }
    }
    // The same without the facts of processes, and without their owners: then our own root proves it.
    let places =
        Wants { processes: false, streams: false, units: false, packages: false, ..Wants::EVERYTHING };
    for wants in [places, Wants { owners: false, ..places }] {
        let less = scan_for(&wants)?;
        ensure(less.processes.iter().all(|each| each.exe.is_unknown()), || "facts nobody asked for".into())?;
        for path in &paths {
            let (less, more) = (&socket_at(&less, path)?.access, &socket_at(&snapshot, path)?.access);
            ensure(less == more, || format!("{}: {less:?}, else {more:?}", path.display()))?;
        }
    }
    ensure(verdicts.0 > 20 && verdicts.1 > 20, || format!("nothing was tried: {verdicts:?}"))
}

/// Mounts a FUSE file system that never answers over a folder that holds a socket and the program of
/// a process, then examines both. Says in the end what it found.
fn dead_mount(_: &[OsString]) -> io::Result<()> {
    let tell = |stop: Stop| match stop {
        Stop::Skip(why) | Stop::Fail(why) => io::Error::other(why),
    };
    lab::unshare(libc::CLONE_NEWNS)?;
    lab::mount(None, "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    let dir = open_folder()?;
    let dead = dir.path().join("dead");
    fs::create_dir(&dead)?;
    let sockets = [dead.join("s"), dir.path().join("alive")];
    sys::keep(sockets.iter().map(UnixListener::bind).collect::<Result<Vec<_>, _>>()?);
    let program = dead.join("program");
    fs::copy(sleep_program().map_err(tell)?, &program)?;
    let running = Running::start(Command::new(&program).arg("1000")).map_err(tell)?;
    let Ok(device) = fs::File::options().read(true).write(true).open("/dev/fuse") else {
        println!("skip this machine has no FUSE");
        return Ok(());
    };
    let options = CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))?;
    let target = CString::new(dead.as_os_str().as_bytes())?;
    // SAFETY: NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(c"dead".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast())
    })?;
    let start = std::time::Instant::now();
    let (process, left) = facts(running.pid()).map_err(tell)?;
    println!("{:?} {:?}", process.exe == Fact::Known(text(&program)), process.exe_state);
    println!("{:?}", left.gaps.iter().any(|gap| gap.id == "root-unread" && gap.count == 1));
    let snapshot = scan().map_err(tell)?;
    for path in &sockets {
        let access = socket_at(&snapshot, path).map_err(tell)?.access.as_deref();
        println!("{:?}", access.map(|access| access.users == Users::Unknown));
    }
    println!("{:?}", snapshot.gaps.iter().any(|gap| gap.id == "access-unread" && gap.count >= 1));
    println!("{:?}", start.elapsed() < std::time::Duration::from_secs(30));
    println!("ready");
    std::process::exit(0) // without waiting for those that hang
}

fn a_dead_mount_hangs_nobody() -> Outcome {
    let said = Program::start(&mut maker("enrich-dead-mount"))?.until_ready()?;
    let wanted = ["true Unknown", "true", "Some(true)", "Some(false)", "true", "true"];
    ensure(said == wanted, || format!("{said:?}, wanted {wanted:?}"))
}

/// A socket is judged in the root of its holder, and only when it is the very file: the same path
/// here is another one.
fn a_socket_in_another_root() -> Outcome {
    let dir = open_folder()?;
    let (inner, outer) = (dir.path().join("inner"), dir.path().join("outer"));
    fs::create_dir(&inner)?;
    fs::create_dir(&outer)?;
    let path = outer.join("s");
    let own = std::env::current_exe()?;
    let args = [
        inner.as_os_str(),
        outer.as_os_str(),
        "0".as_ref(),
        own.as_os_str(),
        "maker".as_ref(),
        "enrich-unix".as_ref(),
        path.as_os_str(),
    ];
    let mut inside = Program::start(maker("enrich-mounted").args(args))?;
    inside.until_ready()?; // its mounts are made
    inside.until_ready()?; // and it listens
    fs::set_permissions(inner.join("s"), Permissions::from_mode(0o600))?;
    // Here everybody may connect to what stands at that path.
    let here = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    let snapshot = scan()?;
    let wanted = Endpoint::UnixPath(text(&path));
    let mut found: Vec<(u32, Option<u32>, bool)> = snapshot
        .observations()
        .filter(|each| each.socket.local == wanted)
        .filter_map(|each| {
            let pid = each.owners().next()?.process.pid;
            let access = each.socket.access.as_deref()?;
            Some((pid, access.mode, access.users == Users::Everyone))
        })
        .collect();
    found.sort_unstable();
    let mut wanted = vec![(inside.pid(), Some(0o600), false), (std::process::id(), Some(0o666), true)];
    wanted.sort_unstable();
    drop(here);
    ensure(found == wanted, || format!("{found:?}, wanted {wanted:?}"))
}

fn interfaces_of_a_namespace() -> Outcome {
    let netns = Netns::new()?;
    netns.ip("link add br0 type bridge")?;
    netns.ip("link add veth0 type veth peer name veth1")?;
    netns.ip("link set veth0 master br0")?;
    netns.ip("link set veth1 promisc on")?;
    netns.ip("link set veth1 up")?;
    netns.ip("link set veth0 up")?;
    netns.ip("link set br0 up")?;
    netns.ip("addr add 10.9.0.1/24 dev br0")?;
    netns.ip("addr add 10.9.0.2/24 dev br0 label br0:x")?;
    netns.ip("-6 addr add fd09::1/64 dev br0 nodad")?;
    netns.ip("route add default via 10.9.0.254")?;
    netns.sysctl("net/ipv4/conf/br0/route_localnet", "1")?;
    netns.sysctl("net/ipv4/ip_local_port_range", "40000 50000")?;
    let group = netns.run(|| -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.join_multicast_v4(&[239, 1, 2, 3].into(), &[10, 9, 0, 1].into())?;
        Ok(socket)
    })??;
    let snapshot = scan()?;
    drop(group);
    let namespace = snapshot.namespaces.iter().find(|each| each.inode == netns.inode());
    let namespace = namespace.ok_or("the namespace is not listed")?;
    let interfaces = namespace.interfaces.known().ok_or("no interfaces")?;
    let find = |name: &str| interfaces.iter().find(|each| each.name == name.into()).ok_or(name.to_owned());
    let (bridge, port, peer) = (find("br0")?, find("veth0")?, find("veth1")?);
    ensure(interfaces.len() == 4, || format!("{interfaces:#?}"))?;
    ensure(
        bridge.kind == InterfaceKind::Bridge && bridge.default_v4 && !bridge.default_v6 && bridge.up,
        || format!("{bridge:?}"),
    )?;
    for address in ["10.9.0.1/24", "10.9.0.2/24", "fd09::1/64"] {
        let address = address.parse()?;
        ensure(bridge.addresses.contains(&address), || format!("{bridge:?} lacks {address}"))?;
    }
    ensure(bridge.groups.contains(&[239, 1, 2, 3].into()), || format!("groups {:?}", bridge.groups))?;
    ensure(port.kind == InterfaceKind::Veth && port.master == Some(bridge.index), || format!("{port:?}"))?;
    ensure(peer.promiscuous && find("lo")?.kind == InterfaceKind::Loopback, || format!("{peer:?}"))?;
    let sysctls = &namespace.sysctls;
    ensure(sysctls.ephemeral == Some((40000, 50000)) && sysctls.route_localnet == Some(true), || {
        format!("{sysctls:?}")
    })
}
