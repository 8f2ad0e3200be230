//! Questions to a live Linux.

#![allow(unsafe_code, reason = "ioctl SIOCGSKNS and kcmp have no safe wrapper")]

mod ask;
mod mounts;

pub(crate) use ask::ask_socket;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, statat};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::netlink::{NetlinkError, judge, wants_list};
use super::{FILE_LIMIT, FileStat, NetnsPlace};
use mounts::Doubt;

/// How long a netlink answer may stay away before it counts as none.
const NETLINK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a mount may take before it counts as dead.
const MOUNT_PATIENCE: Duration = Duration::from_secs(2);
/// After so many threads stuck in unknown mounts, doubtful ones are no longer asked.
const STUCK_LIMIT: u32 = 4;
/// Kept netlink sockets; beyond it all are closed and opened anew as needed.
const SOCKETS_LIMIT: usize = 64;
/// The kernel sends at most 32 KiB of a dump at a time.
const BLOCK: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Host {
    proc: OwnedFd,
    own_netns: u64,
    handles: Mutex<BTreeMap<u64, Arc<OwnedFd>>>,
    sockets: Mutex<BTreeMap<(u64, u32), Arc<OwnedFd>>>,
    own_sockets: Mutex<Vec<u64>>,
    sequence: AtomicU32,
    /// Size of the receive buffer; grows when a message did not fit.
    block: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(rustix::fs::CWD, c"/proc", flags, Mode::empty())?;
        let own = statat(&proc, c"thread-self/ns/net", AtFlags::empty()).map_or(0, |stat| stat.st_ino);
        Ok(Self {
            proc,
            own_netns: own,
            handles: Mutex::default(),
            sockets: Mutex::default(),
            own_sockets: Mutex::default(),
            sequence: AtomicU32::new(1),
            block: AtomicUsize::new(BLOCK),
        })
    }

    pub(crate) fn proc_file(&self, path: &str) -> io::Result<Vec<u8>> {
        read_file(self.proc.as_fd(), path, FILE_LIMIT, true)
    }

    pub(crate) fn sys_file(&self, path: &str) -> io::Result<Vec<u8>> {
        read_file(rustix::fs::CWD, &format!("/sys/{path}"), FILE_LIMIT, true)
    }

    pub(crate) fn proc_link(&self, path: &str) -> io::Result<Vec<u8>> {
        read_link(self.proc.as_fd(), path.as_bytes())
    }

    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let dir =
            openat(&self.proc, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = Vec::with_capacity(BLOCK);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut pids = Vec::new();
        while let Some(entry) = entries.next() {
            pids.extend(number(entry?.file_name().to_bytes()));
        }
        Ok(pids)
    }

    pub(crate) fn process(&self, pid: u32) -> io::Result<Dir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir(openat(&self.proc, pid.to_string(), flags, Mode::empty())?))
    }

    pub(crate) fn root(&self, pid: u32) -> io::Result<RootDir> {
        let of = if pid == 0 { "thread-self".to_owned() } else { pid.to_string() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&self.proc, format!("{of}/root"), flags, Mode::empty())?;
        let doubt = Doubt::read(&self.proc_file(&format!("{of}/mountinfo")));
        Ok(RootDir { root: Arc::new(root), doubt, own: pid == 0 })
    }

    pub(crate) fn keep_netns(&self, inode: u64, place: &NetnsPlace) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let handle = match place {
            NetnsPlace::Proc(path) => openat(&self.proc, path.as_str(), flags, Mode::empty())?,
            NetnsPlace::Mount(path) => {
                // Only a namespace file is opened for reading: anything may stand there by now.
                let path = std::ffi::OsStr::from_bytes(path);
                let found = openat(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                if fstat(&found)?.st_ino != inode
                    || FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile
                {
                    return Err(io::Error::other("another file stands there by now"));
                }
                openat(rustix::fs::CWD, path, flags, Mode::empty())?
            }
        };
        if fstat(&handle)?.st_ino != inode {
            return Err(io::Error::other("another namespace is there by now"));
        }
        self.hold(inode, handle);
        Ok(())
    }

    fn hold(&self, inode: u64, handle: OwnedFd) {
        let mut handles = lock(&self.handles);
        handles.insert(inode, Arc::new(handle));
        if handles.len() == 200 {
            raise_descriptor_limit();
        }
    }

    pub(crate) fn netns_of_socket(&self, pid: u32, fd: i32) -> io::Result<u64> {
        const SIOCGSKNS: libc::c_ulong = 0x894c;
        let socket = duplicate(pid, fd)?;
        // SAFETY: the request takes no argument and answers with a new descriptor of ours.
        let raw = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let handle = unsafe { OwnedFd::from_raw_fd(raw) };
        let inode = fstat(&handle)?.st_ino;
        self.hold(inode, handle);
        Ok(inode)
    }

    pub(crate) fn within<T: Send>(&self, netns: u64, ask: impl FnOnce() -> T + Send) -> io::Result<T> {
        if netns == self.own_netns {
            return Ok(ask());
        }
        let handle = lock(&self.handles).get(&netns).cloned().ok_or(io::ErrorKind::NotFound)?;
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().spawn_scoped(scope, || {
                rustix::thread::move_into_link_name_space(
                    handle.as_fd(),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )?;
                Ok(ask())
            })?;
            helper.join().unwrap_or_else(|_| Err(io::Error::other("the helper thread panicked")))
        })
    }

    pub(crate) fn netlink(
        &self,
        netns: u64,
        protocol: u32,
        request: &[u8],
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), NetlinkError> {
        let socket = self.netlink_socket(netns, protocol)?;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut request = request.to_vec();
        let place = request.get_mut(8..12).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        place.copy_from_slice(&sequence.to_ne_bytes());
        rustix::net::send(&socket, &request, rustix::net::SendFlags::empty()).map_err(io::Error::from)?;
        let dump = wants_list(&request);
        let mut buffer = vec![0_u8; self.block.load(Ordering::Relaxed)];
        loop {
            let size = match self.receive(socket.as_fd(), &mut buffer) {
                Ok(size) => size,
                Err(error) => {
                    // What is left of this answer must not be taken for that to the next question.
                    lock(&self.sockets).remove(&(netns, protocol));
                    return Err(error);
                }
            };
            let block = &buffer[..size];
            if block.get(8..12) != Some(&sequence.to_ne_bytes()[..]) {
                continue;
            }
            match judge(block, dump) {
                Ok(end) => {
                    if let Err(error) = take(block) {
                        lock(&self.sockets).remove(&(netns, protocol));
                        return Err(NetlinkError::Failed(error));
                    }
                    if end {
                        return Ok(());
                    }
                }
                Err(error) => {
                    // The kernel's own words are part of the answer.
                    let taken = take(block);
                    lock(&self.sockets).remove(&(netns, protocol));
                    taken.map_err(NetlinkError::Failed)?;
                    return Err(error);
                }
            }
        }
    }

    fn netlink_socket(&self, netns: u64, protocol: u32) -> io::Result<Arc<OwnedFd>> {
        if let Some(socket) = lock(&self.sockets).get(&(netns, protocol)) {
            return Ok(Arc::clone(socket));
        }
        let socket = self.within(netns, || open_netlink(protocol))??;
        lock(&self.own_sockets).push(fstat(&socket)?.st_ino);
        let socket = Arc::new(socket);
        let mut sockets = lock(&self.sockets);
        if sockets.len() >= SOCKETS_LIMIT {
            sockets.clear();
        }
        sockets.insert((netns, protocol), Arc::clone(&socket));
        Ok(socket)
    }

    pub(crate) fn netns_cookie(&self, netns: u64) -> io::Result<u64> {
        const NETLINK_SOCK_DIAG: u32 = 4;
        ask::netns_cookie(&*self.netlink_socket(netns, NETLINK_SOCK_DIAG)?)
    }

    pub(crate) fn own_sockets(&self) -> Vec<u64> {
        lock(&self.own_sockets).clone()
    }

    /// One block of an answer. A socket that nobody bound receives from the kernel alone.
    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, NetlinkError> {
        use rustix::net::RecvFlags;
        loop {
            match rustix::net::recv(socket, &mut buffer[..], RecvFlags::TRUNC) {
                Ok((_, size)) if size > buffer.len() => {
                    self.block.fetch_max(size.next_power_of_two(), Ordering::Relaxed);
                    return Err(NetlinkError::Interrupted);
                }
                Ok((_, 0)) => return Err(NetlinkError::Short),
                Ok((_, size)) => return Ok(size),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
}

/// A socket keeps the namespace it was made in, whatever its maker does later.
fn open_netlink(protocol: u32) -> io::Result<OwnedFd> {
    let protocol = std::num::NonZero::new(protocol).map(rustix::net::Protocol::from_raw);
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        rustix::net::SocketFlags::CLOEXEC,
        protocol,
    )?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(NETLINK_PATIENCE),
    )?;
    Ok(socket)
}

/// Duplicates a descriptor of another process (pidfd_getfd(2)); of another thread, where that has
/// a file table of its own and the kernel knows `PIDFD_THREAD` (6.9).
pub(crate) fn duplicate(pid: u32, fd: i32) -> io::Result<OwnedFd> {
    const PIDFD_THREAD: u32 = libc::O_EXCL as u32;
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let handle = match pidfd_open(id, PidfdFlags::empty()) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
            pidfd_open(id, PidfdFlags::from_bits_retain(PIDFD_THREAD))?
        }
        opened => opened?,
    };
    Ok(pidfd_getfd(&handle, fd, PidfdGetfdFlags::empty())?)
}

/// A host with more namespaces than the usual soft limit of 1,024 descriptors is still read.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it the namespaces beyond the limit become a gap.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A handle on /proc/PID.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    pub(crate) fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_file(self.0.as_fd(), name, limit, false)
    }

    pub(crate) fn read_link(&self, name: &str) -> io::Result<Vec<u8>> {
        read_link(self.0.as_fd(), name.as_bytes())
    }

    pub(crate) fn list(&self, name: &str) -> io::Result<Vec<String>> {
        let names = list(self.open_dir(name)?, usize::MAX)?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    fn open_dir(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::empty())?)
    }

    pub(crate) fn stat(&self, name: &str) -> io::Result<FileStat> {
        use rustix::fs::{StatxFlags, statx};
        // What is cached suffices: nobody waits for the server behind a dead mount.
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        match statx(&self.0, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID) {
            Ok(found) => Ok(FileStat {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                mode: found.stx_mode.into(),
                uid: found.stx_uid,
                gid: found.stx_gid,
                links: found.stx_nlink.into(),
                size: found.stx_size,
                mount: if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id },
            }),
            // Older kernels, and sandboxes that refuse what they do not know.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                Ok(file_stat(&statat(&self.0, name, AtFlags::empty())?))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn each_link(
        &self,
        name: &str,
        buffer: &mut LinkBuffer,
        take: &mut dyn FnMut(i32, &[u8]),
    ) -> io::Result<()> {
        let dir = self.open_dir(name)?;
        let mut entries = RawDir::new(&dir, &mut buffer.entries[..]);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let Some(fd) = number(entry.file_name().to_bytes()) else { continue };
            match rustix::fs::readlinkat_raw(&dir, entry.file_name(), &mut buffer.target[..]) {
                Ok((target, _)) => take(fd as i32, target),
                // Whoever may list a directory of links may still be forbidden to read them.
                Err(error @ (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn own_tables(&self, pid: u32, mut threads: Vec<u32>) -> Vec<u32> {
        // A leading thread that has exited has no table any more: then the others' count.
        let leader = threads.iter().copied().find(|thread| *thread == pid && self.has_table());
        match leader {
            Some(leader) => threads.retain(|thread| *thread != leader && !same_table(leader, *thread)),
            None => threads.retain(|thread| *thread != pid),
        }
        threads
    }

    /// The name of the protocol of a socket, as the kernel's own tables call it (xattr(7),
    /// `sockfs_xattr_get` in net/socket.c).
    pub(crate) fn protocol_name(&self, pid: u32, fd: i32) -> io::Result<Vec<u8>> {
        let mut name = [0_u8; 64];
        let path = format!("/proc/{pid}/fd/{fd}");
        let size = rustix::fs::getxattr(path, c"system.sockprotoname", &mut name[..])?;
        // Read by number, not through the handle: still the same process?
        self.stat("stat")?;
        let name = name.get(..size).unwrap_or_default();
        Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    }

    fn has_table(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 512];
        self.open_dir("fd").is_ok_and(|dir| matches!(RawDir::new(dir, &mut buffer).next(), Some(Ok(_))))
    }
}

/// kcmp(2) with `KCMP_FILES`; false also where nobody can tell.
fn same_table(one: u32, other: u32) -> bool {
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: kcmp takes plain numbers and touches no memory of ours.
    unsafe {
        libc::syscall(libc::SYS_kcmp, one as libc::pid_t, other as libc::pid_t, KCMP_FILES, 0_u64, 0_u64) == 0
    }
}

pub(crate) struct LinkBuffer {
    entries: Box<[MaybeUninit<u8>]>,
    target: Box<[MaybeUninit<u8>]>,
}

impl std::fmt::Debug for LinkBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkBuffer")
    }
}

impl LinkBuffer {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![MaybeUninit::uninit(); 32 << 10].into(),
            target: vec![MaybeUninit::uninit(); 4096].into(),
        }
    }
}

/// The root of one process's file system.
#[derive(Debug)]
pub(crate) struct RootDir {
    root: Arc<OwnedFd>,
    /// Whether some mount could keep us waiting for ever: then a helper thread asks.
    doubt: Doubt,
    /// Our own root, where a kernel without openat2 may be asked in the old way.
    own: bool,
}

impl RootDir {
    pub(crate) fn read(&self, path: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        self.patiently(path, move |place| {
            let found = place.find(OFlags::empty())?;
            if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            // The file itself, by way of our own handle: no path is walked a second time.
            let again = format!("/proc/self/fd/{}", found.as_raw_fd());
            read_file(rustix::fs::CWD, &again, limit, true)
        })
    }

    pub(crate) fn stat(&self, path: &[u8]) -> io::Result<FileStat> {
        self.patiently(path, |place| Ok(file_stat(&fstat(place.find(OFlags::empty())?)?)))
    }

    pub(crate) fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        self.patiently(path, |place| {
            let found = place.find(OFlags::NOFOLLOW)?;
            if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Symlink {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            read_link(found.as_fd(), b"")
        })
    }

    pub(crate) fn acl(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        self.patiently(path, |place| {
            let found = place.find(OFlags::empty())?;
            // An O_PATH handle answers no fgetxattr(2); this name for it leads to the file itself.
            let again = format!("/proc/self/fd/{}", found.as_raw_fd());
            let mut list = vec![0; 8192];
            match rustix::fs::getxattr(again, c"system.posix_acl_access", &mut list[..]) {
                Ok(size) => {
                    list.truncate(size);
                    Ok(list)
                }
                Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            }
        })
    }

    pub(crate) fn list(&self, path: &[u8], limit: usize) -> io::Result<Vec<Vec<u8>>> {
        self.patiently(path, move |place| {
            let found = place.find(OFlags::DIRECTORY)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            list(openat(&found, c".", flags, Mode::empty())?, limit)
        })
    }

    /// Asks at once where no mount on the way could hang, else in a helper thread with a deadline.
    fn patiently<T: Send + 'static>(
        &self,
        path: &[u8],
        ask: impl FnOnce(Place) -> io::Result<T> + Clone + Send + 'static,
    ) -> io::Result<T> {
        static STUCK: AtomicU32 = AtomicU32::new(0);
        let mut place =
            Place { root: Arc::clone(&self.root), path: path.to_vec(), own: self.own, follow: true };
        if self.doubt.is_none() {
            return ask(place);
        }
        if self.doubt.spares(path) {
            place.follow = false;
            match ask.clone()(place.clone()) {
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => place.follow = true, // by a link
                answer => return answer,
            }
        }
        if self.doubt.is_dead(path) || STUCK.load(Ordering::Relaxed) >= STUCK_LIMIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (answer, wait) = mpsc::sync_channel(1);
        std::thread::Builder::new().spawn(move || answer.send(ask(place)))?;
        wait.recv_timeout(MOUNT_PATIENCE).unwrap_or_else(|_| {
            if !self.doubt.declare_dead(path) {
                STUCK.fetch_add(1, Ordering::Relaxed);
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

#[derive(Clone)]
struct Place {
    root: Arc<OwnedFd>,
    path: Vec<u8>,
    own: bool,
    /// Without it a link on the way is an error (`ELOOP`).
    follow: bool,
}

impl Place {
    /// A handle that can only be looked at (`O_PATH`), never a device that was opened.
    fn find(&self, extra: OFlags) -> io::Result<OwnedFd> {
        let inside: &[u8] = match self.path.iter().position(|byte| *byte != b'/') {
            Some(start) => &self.path[start..],
            None => b".",
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if !self.follow {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        match openat2(&self.root, inside, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::NOSYS) if self.own && !self.follow => Err(rustix::io::Errno::LOOP.into()),
            Err(rustix::io::Errno::NOSYS) if self.own => {
                Ok(openat(&self.root, inside, flags, Mode::empty())?)
            }
            found => Ok(found?),
        }
    }
}

fn list(dir: OwnedFd, limit: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
        if names.len() >= limit {
            break;
        }
    }
    Ok(names)
}

/// Reads a file whole. Above `limit` it is an error when `strict`, else the rest is left out.
fn read_file(dir: BorrowedFd<'_>, path: &str, limit: usize, strict: bool) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(openat(dir, path, flags, Mode::empty())?);
    let mut bytes = Vec::with_capacity(4096);
    if comes_at_once(path) {
        rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))?;
        if bytes.len() < bytes.capacity() && bytes.len() <= limit {
            return Ok(bytes);
        }
    }
    file.take((limit as u64 + 1).saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        if strict {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        bytes.truncate(limit);
    }
    Ok(bytes)
}

/// Files of a process that the kernel hands over as a whole: where it gave less than there was room
/// for, there is no more (fs/proc/base.c: `ONE`, and `proc_pid_cmdline_read`).
fn comes_at_once(path: &str) -> bool {
    matches!(path, "stat" | "status" | "cmdline" | "cgroup")
}

fn read_link(dir: BorrowedFd<'_>, path: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, path, Vec::new())?.into_bytes())
}

#[allow(clippy::useless_conversion, reason = "the width of st_nlink depends on the architecture")]
fn file_stat(stat: &rustix::fs::Stat) -> FileStat {
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    FileStat {
        device: (major, minor),
        inode: stat.st_ino,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: u64::from(stat.st_nlink),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mount: 0,
    }
}

/// The file names of /proc are short decimal numbers; anything else is none.
fn number(name: &[u8]) -> Option<u32> {
    if name.is_empty() || name.len() > 10 {
        return None;
    }
    name.iter().try_fold(0_u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::number;

    #[test]
    fn numbers_are_plain_decimals() {
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"-1", b"4294967296", b"12a", b"99999999999"] {
            assert_eq!(number(bad), None);
        }
    }

    /// A recording answers every question as the machine did, errors included.
    #[test]
    fn a_recording_answers_like_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("recording");
        let ask = |source: &Source| {
            let me = std::process::id();
            let process = source.process(me).unwrap();
            let mut links = Vec::new();
            process
                .each_link("fd", &mut super::super::LinkBuffer::new(), &mut |fd, target| {
                    if fd <= 2 {
                        links.push((fd, target.to_vec()));
                    }
                })
                .unwrap();
            links.sort();
            let root = source.root(0).unwrap();
            (
                links,
                process.read("comm").unwrap(),
                process.read_link("exe").unwrap(),
                process.stat("exe").unwrap(),
                process.read("no-such-file").unwrap_err().raw_os_error(),
                root.read("/etc/passwd", 1 << 20).unwrap(),
                root.stat("/").unwrap().inode,
                root.read("/dev/null", 10).unwrap_err().kind(),
                root.read("/etc/../../../nowhere", 10).unwrap_err().kind(),
                source.own_netns().unwrap(),
                source.netlink(source.own_netns().unwrap(), 4, "udp4", &udp4()).unwrap(),
            )
        };
        let live = Source::live().unwrap().record_to(&dir).unwrap();
        let first = ask(&live);
        live.finish().unwrap();
        assert!(ask(&Source::recorded(&dir).unwrap()) == first);
        assert!(Source::recorded(folder.path()).is_err());
        assert!(Source::live().unwrap().record_to(&dir).is_err(), "a folder that holds something");
    }

    /// A dump of all IPv4 UDP sockets: `struct nlmsghdr`, `struct inet_diag_req_v2`.
    fn udp4() -> Vec<u8> {
        let mut request = vec![0; 72];
        request[0..4].copy_from_slice(&72_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&20_u16.to_ne_bytes());
        request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
        request[16] = 2;
        request[17] = 17;
        request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        request
    }

    #[test]
    fn a_process_that_is_not_there_is_not_found() {
        let source = Source::live().unwrap();
        assert_eq!(source.process(u32::MAX).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert!(source.pids().unwrap().contains(&std::process::id()));
    }
}
