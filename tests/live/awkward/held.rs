//! Sockets whose holder is hard to find, or to name.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;

use libc::{CLONE_FILES, SOCK_STREAM};
use serde_json::json;

use super::inet::toy;
use super::sys;
use super::want::{Want, pid};
use crate::lab::{check, hold, unshare};

/// A listener in a file table that only one thread has.
pub(super) fn thread_table(_: &[OsString]) -> io::Result<()> {
    let thread = std::thread::spawn(|| {
        unshare(CLONE_FILES)?;
        let (fd, want) = toy("TCP in a thread's own file table")?;
        want.owner(json!({"how": "thread"})).keep(fd)?;
        println!("ready");
        sys::sleep_forever()
    });
    thread.join().map_err(|_| io::Error::other("the thread panicked"))?
}

/// The leading thread is gone; another one holds the listener.
pub(super) fn leader_gone(_: &[OsString]) -> io::Result<()> {
    let leader = pid()?;
    std::thread::spawn(move || {
        let work = || -> io::Result<()> {
            let state = format!("/proc/{leader}/stat");
            while !std::fs::read_to_string(&state)?.contains(") Z ") {
                std::thread::yield_now();
            }
            let (fd, mut want) = toy("TCP of a process whose leading thread has ended")?;
            want.owners = vec![leader];
            want.keep(fd)?;
            hold()
        };
        let code = match work() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("leader_gone: {error}");
                1
            }
        };
        std::process::exit(code)
    });
    // SAFETY: ends this thread alone, without unwinding; nothing on its stack is used by the other.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!()
}

/// Registered in an io_uring, then closed (io_uring_register(2)).
pub(super) fn ring(_: &[OsString]) -> io::Result<()> {
    let (fd, want) = toy("TCP only in an io_uring")?;
    let mut parameters = [0_u8; 120]; // struct io_uring_params
    // SAFETY: room for the structure that the kernel fills; the descriptor is nobody else's.
    let ring = unsafe {
        let fd = libc::syscall(libc::SYS_io_uring_setup, 4_u32, parameters.as_mut_ptr());
        OwnedFd::from_raw_fd(check(i32::try_from(fd).map_err(io::Error::other)?)?)
    };
    let files = [fd.as_raw_fd()];
    const REGISTER_FILES: u32 = 2;
    // SAFETY: an array of one descriptor and its length, copied by the call.
    let done = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), REGISTER_FILES, files.as_ptr(), 1_u32)
    };
    check(i32::try_from(done).map_err(io::Error::other)?)?;
    drop(fd);
    want.owner(json!({"how": "ring"})).say()?;
    sys::keep([ring]);
    hold()
}

/// The only reference to a listener waits in a message that nobody reads.
pub(super) fn in_flight(_: &[OsString]) -> io::Result<()> {
    let (near, far) = UnixStream::pair()?;
    let (fd, want) = toy("TCP in flight")?;
    sys::send_fd(&near, &fd)?;
    drop(fd);
    want.gap("in-flight").say()?;
    let unix = sys::socket(libc::AF_UNIX, SOCK_STREAM, 0)?;
    sys::bind(&unix, &sys::unix(format!("\0sw-flight-{}", pid()?).as_bytes()))?;
    sys::listen(&unix)?;
    let fields =
        json!({"protocol": "unix", "type": "stream", "state": "listen", "local": {"abstract": true}});
    let want = Want::new("UNIX listener in flight", &unix, fields)?;
    sys::send_fd(&near, &unix)?;
    drop(unix);
    want.gap("in-flight").say()?;
    sys::keep([near, far]);
    hold()
}

/// Inherited by fork: two holders.
pub(super) fn inherited(_: &[OsString]) -> io::Result<()> {
    let (fd, want) = toy("TCP inherited by fork")?;
    let child = sys::fork(|| sys::sleep_forever())?;
    want.owners(&[pid()?, child]).keep(fd)?;
    hold()
}

/// Opened here, passed to another process and closed here.
pub(super) fn given_away(_: &[OsString]) -> io::Result<()> {
    let (near, far) = UnixStream::pair()?;
    let child = sys::fork(|| {
        let fd = sys::receive_fd(&far)?;
        sys::keep([fd]);
        sys::sleep_forever()
    })?;
    let (fd, want) = toy("TCP given away by SCM_RIGHTS")?;
    sys::send_fd(&near, &fd)?;
    let want = want.owners(&[child]);
    want.say()?;
    drop(fd);
    sys::keep([near]);
    // Ready once the child has it.
    while !sys::holds(child, want.inode)? {
        std::thread::yield_now();
    }
    hold()
}

/// Passed to another process and kept as well.
pub(super) fn shared(_: &[OsString]) -> io::Result<()> {
    let (near, far) = UnixStream::pair()?;
    let child = sys::fork(|| {
        sys::keep([sys::receive_fd(&far)?]);
        sys::sleep_forever()
    })?;
    let (fd, want) = toy("TCP shared by SCM_RIGHTS")?;
    sys::send_fd(&near, &fd)?;
    sys::keep([near]);
    while !sys::holds(child, want.inode)? {
        std::thread::yield_now();
    }
    want.owners(&[pid()?, child]).keep(fd)?;
    hold()
}

/// Two processes with one file table, made by clone(CLONE_FILES).
pub(super) fn one_table(_: &[OsString]) -> io::Result<()> {
    let child = sys::fork_with(CLONE_FILES, || sys::sleep_forever())?;
    let (fd, want) = toy("TCP in a file table of two processes")?;
    want.owners(&[pid()?, child]).keep(fd)?;
    hold()
}

/// Three descriptors, one of them high; a zombie child that once had them too; a stopped child.
pub(super) fn many_descriptors(_: &[OsString]) -> io::Result<()> {
    let stopped = sys::fork(|| {
        let (fd, want) = toy("TCP of a stopped process")?;
        want.keep(fd)?;
        // SAFETY: takes a number only.
        unsafe { libc::raise(libc::SIGSTOP) };
        sys::sleep_forever()
    })?;
    let (fd, want) = toy("TCP with three descriptors")?;
    let mut fds = vec![fd.as_raw_fd()];
    for at in [700, 900] {
        // SAFETY: takes numbers only; nothing of ours has these descriptors.
        fds.push(check(unsafe { libc::dup2(fd.as_raw_fd(), at) })?);
    }
    let zombie = sys::fork(|| Ok(()))?;
    for (pid, state) in [(zombie, ") Z "), (stopped, ") T ")] {
        while !std::fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(state) {
            std::thread::yield_now();
        }
    }
    want.owner(json!({"fds": fds})).keep(fd)?;
    hold()
}

/// Root opens, an ordinary user shares it and has another of its own.
pub(super) fn two_users(_: &[OsString]) -> io::Result<()> {
    const NOBODY: u32 = 65534;
    let (fd, want) = toy("TCP of two users")?;
    let (mut near, far) = UnixStream::pair()?;
    let child = sys::fork(|| {
        // SAFETY: take numbers only.
        unsafe {
            check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
            check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        }
        crate::lab::end_with_parent(); // forgotten at a change of user
        let (own, want) = toy_of_nobody()?;
        want.keep(own)?;
        io::Write::write_all(&mut &far, b"x")?;
        sys::sleep_forever()
    })?;
    io::Read::read_exact(&mut near, &mut [0])?;
    want.owners(&[pid()?, child]).keep(fd)?;
    hold()
}

fn toy_of_nobody() -> io::Result<(OwnedFd, Want)> {
    let (fd, mut want) = toy("TCP of another user")?;
    want.fields["uid"] = json!(65534);
    Ok((fd, want))
}

/// Runs from memory only (memfd_create(2)). Arguments: passed on.
pub(super) fn from_memory(args: &[OsString]) -> io::Result<()> {
    let memory = rustix::fs::memfd_create("sw-memory", rustix::fs::MemfdFlags::empty())?;
    let mut copy = File::from(memory);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Err(std::process::Command::new(path).args(["maker", "awkward-listener"]).args(args).exec())
}

/// Names that break careless readers of /proc/PID/stat and of terminals.
pub(super) fn odd_names(_: &[OsString]) -> io::Result<()> {
    for (case, name, shown) in [
        ("TCP of a process named `a) b`", c"a) S 1 (b", "a) S 1 (b"),
        ("TCP of a process with newline and escape in its name", c"x\n\x1b[31m y", "x\n\x1b[31m y"),
        ("TCP of a process without name", c"", ""),
        ("TCP of a process whose name is not UTF-8", c"\xff\xfe", "\u{fffd}\u{fffd}"),
    ] {
        let (mut near, far) = UnixStream::pair()?;
        sys::fork(|| {
            sys::set_name(name);
            let (fd, want) = toy(case)?;
            want.owner(json!({"name": shown})).keep(fd)?;
            io::Write::write_all(&mut &far, b"x")?;
            sys::sleep_forever()
        })?;
        io::Read::read_exact(&mut near, &mut [0])?;
    }
    hold()
}
