//! Whose names count: those of the process's own root, mount and user namespaces.

use std::ffi::OsString;
use std::fs::{self};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use sockwarden::model::{ExeState, Fact};

use super::{become_user, ensure_exe, facts, number, open_folder, sleep_program, wait_for_exe};
use crate::awkward::sys;
use crate::lab::{self, Outcome, Program, ensure, maker};

const NAMES: &str = "root:x:0:0::/:/bin/sh\nmariner:x:4242:4242::/:/bin/sh\n";

/// Arguments: a folder, a user id. The root is left for the folder after the start.
pub(super) fn in_chroot(args: &[OsString]) -> io::Result<()> {
    let [folder, uid] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    std::os::unix::fs::chroot(folder)?;
    std::env::set_current_dir("/")?;
    become_user(number(uid)?)?;
    lab::hold()
}

pub(super) fn names_of_a_chroot() -> Outcome {
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

pub(super) fn names_of_another_mount_namespace() -> Outcome {
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
pub(super) fn mapped(args: &[OsString]) -> io::Result<()> {
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

pub(super) fn names_in_a_user_namespace() -> Outcome {
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
pub(super) fn own_names_in_a_user_namespace() -> Outcome {
    let mut program = Program::start(maker("enrich-mapped").arg("-").arg("0"))?;
    program.until_ready()?;
    let process = facts(program.pid())?.0;
    ensure(process.euid == Fact::Known(70000), || format!("uid {:?}", process.euid))?;
    ensure(process.user != Fact::Known("root".into()), || format!("user {:?}", process.user))
}
