//! What became of a program: replaced, deleted, only in memory, or another file of that name.

use std::ffi::OsString;
use std::fs::{self};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sockwarden::model::{ExeState, Fact, Text};

use super::{Running, ensure_exe, open_folder, sleep_program, wait_for_exe};
use crate::lab::{self, Outcome, Program, check, ensure, maker};

pub(super) fn what_became_of_the_program() -> Outcome {
    let dir = open_folder()?;
    let sleep = sleep_program()?;
    let start = |name: &str| -> Outcome<(PathBuf, Running)> {
        let path = dir.path().join(name);
        crate::lab::copy_program(&sleep, &path)?;
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
    crate::lab::copy_program(&sleep, dir.path().join("new"))?;
    fs::rename(dir.path().join("new"), &path)?;
    ensure_exe(replaced.pid(), &path, ExeState::Replaced)?;

    let (path, linked) = start("linked")?;
    fs::hard_link(&path, dir.path().join("other name"))?;
    fs::remove_file(&path)?;
    ensure_exe(linked.pid(), &path, ExeState::Deleted)?;

    // A file that is really called so, while another stands at the name without the words.
    let (path, honest) = start("honest (deleted)")?;
    crate::lab::copy_program(&sleep, dir.path().join("honest"))?;
    ensure_exe(honest.pid(), &path, ExeState::Present)?;

    // The folder goes, too.
    fs::create_dir(dir.path().join("sub"))?;
    let (path, orphan) = start("sub/orphan")?;
    fs::remove_dir_all(dir.path().join("sub"))?;
    ensure_exe(orphan.pid(), &path, ExeState::Deleted)?;
    Ok(())
}

/// Executes `sleep` out of a memfd.
pub(super) fn in_memory(_: &[OsString]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::fd::FromRawFd as _;
    let program = lab::find_program("sleep").ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: a NUL-terminated name; the new descriptor belongs to nobody else.
    let mut file = unsafe { fs::File::from_raw_fd(check(libc::memfd_create(c"hidden".as_ptr(), 0))?) };
    file.write_all(&fs::read(program)?)?;
    println!("ready");
    Err(Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).arg("1000").exec())
}

pub(super) fn a_program_in_memory() -> Outcome {
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
pub(super) fn headless(_: &[OsString]) -> io::Result<()> {
    std::thread::Builder::new().spawn(|| {
        let _ = lab::hold();
        std::process::exit(0);
    })?;
    // SAFETY: ends this thread alone; nothing of its stack is needed any more.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}

pub(super) fn the_leading_thread_has_ended() -> Outcome {
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

pub(super) fn the_same_path_is_another_file() -> Outcome {
    let dir = open_folder()?;
    let (path, other) = (dir.path().join("program"), dir.path().join("other"));
    crate::lab::copy_program(sleep_program()?, &path)?;
    crate::lab::copy_program(sleep_program()?, &other)?;
    // Inside, `program` is what is called `other` here; here another file has that path.
    let args = [other.as_os_str(), path.as_os_str(), "0".as_ref(), path.as_os_str(), "1000".as_ref()];
    let mut inside = Program::start(maker("enrich-mounted").args(args))?;
    inside.until_ready()?;
    wait_for_exe(inside.pid(), &path)?;
    ensure_exe(inside.pid(), &path, ExeState::Present)?;
    let outside = Running::start(Command::new(&path).arg("1000"))?;
    ensure_exe(outside.pid(), &path, ExeState::Present)?;
    // What is replaced is the one under its own path, though both are called the same.
    crate::lab::copy_program(&other, dir.path().join("new"))?;
    fs::rename(&other, dir.path().join("kept"))?;
    ensure_exe(inside.pid(), &path, ExeState::Present)?;
    fs::rename(dir.path().join("new"), dir.path().join("program2"))?;
    fs::remove_file(&path)?;
    ensure_exe(outside.pid(), &path, ExeState::Deleted).map(|_| ())
}
