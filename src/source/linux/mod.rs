//! Questions to a live Linux.

#![allow(unsafe_code, reason = "ioctl SIOCGSKNS has no safe wrapper")]

mod ask;
#[cfg(feature = "bpf")]
pub(crate) mod bpf;
mod file;
mod listing;
#[cfg(feature = "bpf")]
mod memory;
mod mounts;
mod process;
mod root;
mod subscribe;
mod xtables;

pub(crate) use ask::ask_socket;
pub(crate) use listing::listing;
#[cfg(feature = "bpf")]
pub(crate) use memory::give_back_memory;
pub(crate) use process::{Dir, LinkBuffer};
pub(crate) use root::RootDir;
pub(crate) use subscribe::Subscription;
pub(crate) use xtables::table as legacy_table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, fstat, openat, statat};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::netlink::{NetlinkError, judge, wants_list};
use super::{FILE_LIMIT, FileStat, NetnsPlace};
use file::{number, read_file, read_link};
use mounts::Doubt;

/// How long a netlink answer may stay away before it counts as none.
const NETLINK_PATIENCE: Duration = Duration::from_secs(10);
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
    opened: Mutex<Vec<u64>>,
    sequence: AtomicU32,
    /// Size of the receive buffer; grows when a message did not fit.
    block: AtomicUsize,
    /// See [`Host::spare_handles`].
    spare: OnceLock<usize>,
}

/// Inodes of the sockets through which this process asks the kernel: they are in no answer, and no
/// namespace counts as open because one of them is in it.
static OWN_SOCKETS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// Notes a socket as one of ours; its inode.
fn own(socket: &OwnedFd) -> io::Result<u64> {
    let inode = fstat(socket)?.st_ino;
    lock(&OWN_SOCKETS).insert(inode);
    Ok(inode)
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut own = lock(&OWN_SOCKETS);
        for inode in lock(&self.opened).drain(..) {
            own.remove(&inode);
        }
    }
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
            opened: Mutex::default(),
            sequence: AtomicU32::new(1),
            block: AtomicUsize::new(BLOCK),
            spare: OnceLock::new(),
        })
    }

    /// How many handles of processes may be kept open, so that enough descriptors are left.
    pub(crate) fn spare_handles(&self) -> usize {
        *self.spare.get_or_init(|| (raise_descriptor_limit() / 4).min(4096))
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
        Ok(RootDir::new(root, doubt, pid == 0))
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
        let mut buffer = Vec::with_capacity(self.block.load(Ordering::Relaxed));
        loop {
            let block = match self.receive(socket.as_fd(), &mut buffer) {
                Ok(()) => buffer.as_slice(),
                Err(error) => {
                    // What is left of this answer must not be taken for that to the next question.
                    lock(&self.sockets).remove(&(netns, protocol));
                    return Err(error);
                }
            };
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
        lock(&self.opened).push(own(&socket)?);
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

    /// Of this process, whichever host or subscription has opened them.
    pub(crate) fn own_sockets(&self) -> Vec<u64> {
        lock(&OWN_SOCKETS).iter().copied().collect()
    }

    /// Notifications of a netlink bus in a namespace. `groups`: bit n-1 stands for group n.
    pub(crate) fn subscribe(&self, netns: u64, protocol: u32, groups: u32) -> io::Result<Subscription> {
        self.within(netns, || Subscription::open(protocol, groups))?
    }

    /// One block of an answer. A socket that nobody bound receives from the kernel alone.
    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<(), NetlinkError> {
        use rustix::net::RecvFlags;
        loop {
            buffer.clear();
            match rustix::net::recv(socket, rustix::buffer::spare_capacity(buffer), RecvFlags::TRUNC) {
                Ok((received, size)) if size > received => {
                    self.block.fetch_max(size.next_power_of_two(), Ordering::Relaxed);
                    return Err(NetlinkError::Interrupted);
                }
                Ok((_, 0)) => return Err(NetlinkError::Short),
                Ok(_) => return Ok(()),
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

/// A host with more namespaces than the usual soft limit of 1,024 descriptors is still read. The
/// limit that holds now.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it the namespaces beyond the limit become a gap.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Source;

    /// Tables with holes, and with more holes than are tried one by one.
    #[test]
    fn every_descriptor_is_seen_once() {
        let source = Source::live().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let high: Vec<_> =
            [60, 61, 200, 999].map(|least| rustix::io::fcntl_dupfd_cloexec(&file, least).unwrap()).into();
        let mut seen = Vec::new();
        let process = source.process(std::process::id()).unwrap();
        process
            .each_link("fd", &mut super::super::LinkBuffer::new(), &mut |fd, target| {
                seen.push((fd, target == b"/dev/null"));
            })
            .unwrap();
        for fd in high.iter().chain([&file.into()]).map(std::os::fd::AsRawFd::as_raw_fd) {
            assert_eq!(seen.iter().filter(|each| **each == (fd, true)).count(), 1, "{fd}: {seen:?}");
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
