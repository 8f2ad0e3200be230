//! Who may connect to a UNIX socket, and file systems that do not answer.

use std::ffi::{CString, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use sockwarden::model::{Endpoint, Fact, Protocol, Snapshot, Socket, Users, Wants};

use super::{Running, facts, open_folder, scan, scan_for, sleep_program, text};
use crate::awkward::sys;
use crate::lab::{self, Outcome, Program, Stop, check, ensure, maker};

/// Argument: a path. Listens there and leaves the permissions to others.
pub(super) fn unix_listener(args: &[OsString]) -> io::Result<()> {
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
pub(super) fn who_may_connect() -> Outcome {
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
pub(super) fn dead_mount(_: &[OsString]) -> io::Result<()> {
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
    crate::lab::copy_program(sleep_program().map_err(tell)?, &program)?;
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

pub(super) fn a_dead_mount_hangs_nobody() -> Outcome {
    let said = Program::start(&mut maker("enrich-dead-mount"))?.until_ready()?;
    let wanted = ["true Unknown", "true", "Some(true)", "Some(false)", "true", "true"];
    ensure(said == wanted, || format!("{said:?}, wanted {wanted:?}"))
}

/// A socket is judged in the root of its holder, and only when it is the very file: the same path
/// here is another one.
pub(super) fn a_socket_in_another_root() -> Outcome {
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
