//! Facts about holders and places, asked of real processes: what became of an executable, whose
//! names count in a foreign root, which container, which service behind systemd's socket, and who
//! may really connect to a UNIX socket.

mod access;
mod names;
mod package;
mod place;
mod program;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use sockwarden::collect;
use sockwarden::enrich::{self, record};
use sockwarden::model::{ExeState, Fact, Process, Snapshot, Text, Wants};
use sockwarden::source::Source;

use crate::lab::{self, Maker, Need, Outcome, check, ensure, trial};

pub(crate) fn makers() -> Vec<Maker> {
    vec![
        ("enrich-memory", program::in_memory),
        ("enrich-headless", program::headless),
        ("enrich-mounted", mounted),
        ("enrich-chroot", names::in_chroot),
        ("enrich-mapped", names::mapped),
        ("enrich-unix", access::unix_listener),
        ("enrich-manager", place::manager),
        ("enrich-dead-mount", access::dead_mount),
    ]
}

pub(crate) fn trials() -> Vec<Trial> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        trial("enrich::what_became_of_the_program", ROOT, program::what_became_of_the_program),
        trial("enrich::a_program_in_memory", ROOT, program::a_program_in_memory),
        trial("enrich::the_leading_thread_has_ended", ROOT, program::the_leading_thread_has_ended),
        trial("enrich::the_same_path_is_another_file", ROOT, program::the_same_path_is_another_file),
        trial("enrich::names_of_a_chroot", ROOT, names::names_of_a_chroot),
        trial("enrich::names_of_another_mount_namespace", ROOT, names::names_of_another_mount_namespace),
        trial("enrich::names_in_a_user_namespace", ROOT, names::names_in_a_user_namespace),
        trial("enrich::own_names_in_a_user_namespace", ROOT, names::own_names_in_a_user_namespace),
        trial("enrich::container_of_a_control_group", ROOT, place::container_of_a_control_group),
        trial("enrich::package_of_a_program", ROOT, package::package_of_a_program),
        trial(
            "enrich::package_of_rpm",
            &[Need::Root, Need::Tool("rpmbuild"), Need::Tool("busybox")],
            package::package_of_rpm,
        ),
        trial("enrich::service_behind_a_socket_unit", ROOT, place::service_behind_a_socket_unit),
        trial("enrich::who_may_connect", ROOT, access::who_may_connect),
        trial("enrich::a_dead_mount_hangs_nobody", ROOT, access::a_dead_mount_hangs_nobody),
        trial("enrich::a_socket_in_another_root", ROOT, access::a_socket_in_another_root),
        trial(
            "enrich::interfaces_of_a_namespace",
            &[Need::Root, Need::Tool("ip")],
            place::interfaces_of_a_namespace,
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
