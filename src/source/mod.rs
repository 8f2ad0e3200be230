//! The only door to the host: live, or a recorded folder.
//!
//! Whoever wants to know something of the machine asks here, so that a recorded machine can be
//! examined in the same way as the one we run on. Nothing here understands what it reads, and
//! nothing here changes the machine.

mod answer;
mod netlink;
mod process;
mod record;
mod root;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as imp;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub(crate) use linux::bpf;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as imp;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use answer::{FileStat, Listing, NetnsPlace, SocketAnswer};
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub(crate) use imp::give_back_memory;
pub use netlink::NetlinkError;
pub use process::{LinkBuffer, ProcessDir};
pub use root::Root;

use record::{Recording, Tee};

/// Where facts come from.
#[derive(Debug)]
pub enum Source {
    /// This machine, as it is now.
    Live(Live),
    /// A folder that a live source wrote ([`Source::record_to`]).
    Recorded(Recorded),
}

/// This machine. With a recorder it writes down all that it is asked.
#[derive(Debug)]
pub struct Live {
    host: imp::Host,
    tee: Option<Tee>,
    kept: Box<Mutex<Kept>>,
}

/// What was learnt in one look and is not asked again in it.
#[derive(Debug, Default)]
struct Kept {
    /// Handles of processes, by pid, and when each was started.
    processes: HashMap<u32, (imp::Dir, u64)>,
    /// The links of network namespaces.
    links: HashMap<u64, Arc<[u8]>>,
}

/// A recorded folder.
#[derive(Debug)]
pub struct Recorded(Recording);

/// Files below /proc are read whole up to this size; larger ones are an error.
const FILE_LIMIT: usize = 256 << 20;

impl Source {
    /// This machine, seen from the calling thread's namespaces.
    ///
    /// # Errors
    /// When there is no readable /proc at all (on Linux).
    pub fn live() -> io::Result<Self> {
        Ok(Self::Live(Live { host: imp::Host::open()?, tee: None, kept: Box::default() }))
    }

    /// A folder made by [`Source::record_to`].
    ///
    /// # Errors
    /// When `dir` holds no recording, or one of another version.
    pub fn recorded(dir: &Path) -> io::Result<Self> {
        Ok(Self::Recorded(Recorded(Recording::open(dir)?)))
    }

    /// The same source, writing down all that it reads from now on. `dir` is made, with mode 0700,
    /// and must not exist or be empty.
    ///
    /// # Errors
    /// When the folder cannot be made or holds something, or when this is a recording itself.
    pub fn record_to(self, dir: &Path) -> io::Result<Self> {
        match self {
            Self::Live(live) => Ok(Self::Live(Live { tee: Some(Tee::create(dir)?), ..live })),
            Self::Recorded(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "a recording cannot be recorded"))
            }
        }
    }

    /// Ends a recording.
    ///
    /// # Errors
    /// The first error that hindered the recorder (a full disk); the recording is then incomplete.
    pub fn finish(&self) -> io::Result<()> {
        match self {
            Self::Live(Live { tee: Some(tee), .. }) => tee.finish(),
            Self::Live(_) | Self::Recorded(_) => Ok(()),
        }
    }

    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Whether all that is read is written down, for a recording.
    pub fn is_recorder(&self) -> bool {
        matches!(self, Self::Live(Live { tee: Some(_), .. }))
    }

    /// A file below /proc: `net/unix`, `loadavg`.
    ///
    /// # Errors
    /// As open(2) and read(2); `FileTooLarge` above 256 MiB.
    pub fn proc_file(&self, path: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Live(live) => live.tee_file("proc", path, || live.host.proc_file(path)),
            Self::Recorded(recorded) => recorded.0.file("proc", path),
        }
    }

    /// A file below /sys: `class/dmi/id/sys_vendor`.
    ///
    /// # Errors
    /// As [`Source::proc_file`].
    pub fn sys_file(&self, path: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Live(live) => live.tee_file("sys", path, || live.host.sys_file(path)),
            Self::Recorded(recorded) => recorded.0.file("sys", path),
        }
    }

    /// Where a link below /proc points to: `thread-self/ns/net`.
    ///
    /// # Errors
    /// As readlink(2).
    pub fn proc_link(&self, path: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Live(live) => {
                let found = live.host.proc_link(path);
                if let Some(tee) = &live.tee {
                    tee.link("proc", path, &found);
                }
                found
            }
            Self::Recorded(recorded) => recorded.0.link("proc", path),
        }
    }

    /// All process ids that /proc shows, in ascending order.
    ///
    /// # Errors
    /// When /proc cannot be listed.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        match self {
            Self::Live(live) => {
                let mut pids = live.host.pids()?;
                pids.sort_unstable();
                if let Some(tee) = &live.tee {
                    tee.pids(&pids);
                }
                Ok(pids)
            }
            Self::Recorded(recorded) => recorded.0.pids(),
        }
    }

    /// A handle on /proc/PID: everything read through it is of one and the same process.
    ///
    /// # Errors
    /// `NotFound` when there is no such process (any more).
    pub fn process(&self, pid: u32) -> io::Result<ProcessDir<'_>> {
        match self {
            Self::Live(live) => {
                if let Some((dir, started)) = live.kept().processes.remove(&pid) {
                    return Ok(ProcessDir::live(pid, dir, live, Some(started)));
                }
                Ok(ProcessDir::live(pid, live.host.process(pid)?, live, None))
            }
            Self::Recorded(recorded) => {
                recorded.0.process(pid)?;
                Ok(ProcessDir::recorded(pid, &recorded.0))
            }
        }
    }

    /// The file system as process `pid` sees it; 0 stands for sockwarden itself.
    ///
    /// # Errors
    /// As open(2) on /proc/PID/root: `PermissionDenied` when we may not look into the process.
    pub fn root(&self, pid: u32) -> io::Result<Root<'_>> {
        match self {
            Self::Live(live) => Root::live(live.host.root(pid), pid, live.tee.as_ref()),
            Self::Recorded(recorded) => Root::recorded(pid, &recorded.0),
        }
    }

    /// Inode of the network namespace that we run in; `None` where the system has none.
    pub fn own_netns(&self) -> Option<u64> {
        let link = self.proc_link("thread-self/ns/net").ok()?;
        let digits = link.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Remembers how to enter a network namespace, and tries it.
    ///
    /// # Errors
    /// As open(2) and setns(2); `Other` when the place holds another namespace by now.
    pub fn keep_netns(&self, inode: u64, place: &NetnsPlace) -> io::Result<()> {
        let way = match place {
            NetnsPlace::Proc(path) => record::plain_name(path.as_bytes()),
            NetnsPlace::Mount(path) => record::plain_name(path),
        };
        self.answer(&format!("netns-entered/{inode}/{way}"), || match self {
            Self::Live(live) => {
                live.host.keep_netns(inode, place)?;
                live.host.within(inode, Vec::new)
            }
            Self::Recorded(_) => Err(io::ErrorKind::NotFound.into()),
        })
        .map(|_| ())
    }

    /// The network namespace that the socket behind a descriptor of another process belongs to,
    /// which is then kept.
    ///
    /// # Errors
    /// As pidfd_getfd(2) and `SIOCGSKNS` (netdevice(7)): `PermissionDenied` without the rights.
    pub fn netns_of_socket(&self, pid: u32, fd: i32) -> io::Result<u64> {
        let answer = self.answer(&format!("netns-of-socket/{pid}-{fd}"), || match self {
            Self::Live(live) => Ok(live.host.netns_of_socket(pid, fd)?.to_string().into_bytes()),
            Self::Recorded(_) => Err(io::ErrorKind::NotFound.into()),
        })?;
        String::from_utf8_lossy(&answer).parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Asks a socket that a process (or a thread with a file table of its own) holds what it is.
    ///
    /// # Errors
    /// As pidfd_getfd(2): `PermissionDenied` without ptrace rights, ENOSYS before Linux 5.6.
    pub fn ask_socket(&self, pid: u32, fd: i32) -> io::Result<SocketAnswer> {
        let bytes = self.answer(&format!("socket/{pid}-{fd}"), || {
            serde_json::to_vec(&imp::ask_socket(pid, fd)?).map_err(io::Error::other)
        })?;
        serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// `SO_NETNS_COOKIE` of a network namespace.
    ///
    /// # Errors
    /// As [`Source::within`]; ENOPROTOOPT before Linux 5.14.
    pub fn netns_cookie(&self, netns: u64) -> io::Result<u64> {
        let answer = self.answer(&format!("netns-cookie/{netns}"), || match self {
            Self::Live(live) => Ok(live.host.netns_cookie(netns)?.to_string().into_bytes()),
            Self::Recorded(_) => Err(io::ErrorKind::NotFound.into()),
        })?;
        String::from_utf8_lossy(&answer).parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Runs `ask` in a thread that has entered a network namespace. Its answer is not recorded:
    /// see [`Source::answer`].
    ///
    /// # Errors
    /// As setns(2); `NotFound` for a namespace that nobody has kept; `Unsupported` in a recording.
    pub fn within<T: Send>(&self, netns: u64, ask: impl FnOnce() -> T + Send) -> io::Result<T> {
        match self {
            Self::Live(live) => live.host.within(netns, ask),
            Self::Recorded(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// A file below /proc as a network namespace shows it: `net/raw`,
    /// `sys/net/ipv4/ip_local_port_range`.
    ///
    /// # Errors
    /// As [`Source::within`] and [`Source::proc_file`].
    pub fn netns_file(&self, netns: u64, path: &str) -> io::Result<Vec<u8>> {
        let key = format!("{netns}/{path}");
        match self {
            Self::Live(live) => live.tee_file("netns", &key, || {
                live.host.within(netns, || match path.strip_prefix("net/") {
                    Some(rest) => live.host.proc_file(&format!("thread-self/net/{rest}")),
                    None => live.host.proc_file(path),
                })?
            }),
            Self::Recorded(recorded) => recorded.0.file("netns", &key),
        }
    }

    /// Several such files, with one visit to the namespace.
    pub fn netns_files(&self, netns: u64, paths: &[&str]) -> Vec<io::Result<Vec<u8>>> {
        let read_all = || paths.iter().map(|path| self.netns_file(netns, path)).collect();
        let Self::Live(live) = self else { return read_all() };
        let read = |path: &str| match path.strip_prefix("net/") {
            Some(rest) => live.host.proc_file(&format!("thread-self/net/{rest}")),
            None => live.host.proc_file(path),
        };
        let visit = || paths.iter().map(|path| read(path)).collect::<Vec<_>>();
        let Ok(found) = live.host.within(netns, visit) else { return read_all() };
        if let Some(tee) = &live.tee {
            for (path, found) in paths.iter().zip(&found) {
                tee.file("netns", &format!("{netns}/{path}"), found);
            }
        }
        found
    }

    /// A table of legacy iptables in a network namespace: `struct ipt_getinfo` (84 bytes), then its
    /// entries. Only tables that `net/ip_tables_names` tells may be asked for.
    ///
    /// # Errors
    /// As [`Source::within`], socket(2) and getsockopt(2): `PermissionDenied` without CAP_NET_ADMIN.
    pub fn legacy_table(&self, netns: u64, v6: bool, name: &str) -> io::Result<Vec<u8>> {
        let kind = if v6 { "ip6tables" } else { "iptables" };
        let place = record::plain_name(name.as_bytes());
        self.answer(&format!("{kind}/{netns}/{place}"), || match self {
            Self::Live(live) => live.host.within(netns, || imp::legacy_table(v6, name))?,
            Self::Recorded(_) => Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// What a program of the system says of the packet filter of a network namespace.
    ///
    /// # Errors
    /// `NotFound` where it is not installed; `InvalidData` when it fails or says too much; `TimedOut`.
    pub fn listing(&self, netns: u64, program: Listing) -> io::Result<Vec<u8>> {
        self.answer(&format!("listing/{netns}/{}", program.name()), || match self {
            Self::Live(live) => live.host.within(netns, || imp::listing(program))?,
            Self::Recorded(_) => Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// Any other question. Asked live, and its answer recorded under `key` (a path of plain
    /// words); in a recording, the recorded answer.
    ///
    /// # Errors
    /// Those of `ask`; `NotFound` where a recording has no such answer.
    pub fn answer(&self, key: &str, ask: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        match self {
            Self::Live(live) => live.tee_file("answers", key, ask),
            Self::Recorded(recorded) => recorded.0.file("answers", key),
        }
    }

    /// Sends one netlink request in a network namespace and hands over all that comes back, the
    /// final message included. `protocol` is the bus (`NETLINK_SOCK_DIAG` = 4), `name` the name
    /// under which the answer is recorded.
    ///
    /// # Errors
    /// See [`NetlinkError`]. A dump that the kernel marks as interrupted is repeated first.
    pub fn netlink(
        &self,
        netns: u64,
        protocol: u32,
        name: &str,
        request: &[u8],
    ) -> Result<Vec<u8>, NetlinkError> {
        let mut last = NetlinkError::Interrupted;
        for _ in 0..netlink::ATTEMPTS {
            let mut all = Vec::new();
            match self.netlink_each(netns, protocol, name, request, &mut |block| {
                all.extend_from_slice(block);
                if all.len() > FILE_LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
            }) {
                Ok(()) => return Ok(all),
                Err(error @ NetlinkError::Interrupted) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The links of a network namespace: an answer to `RTM_GETLINK` (rtnetlink(7)). Asked once in a
    /// look, however many want to know; everybody may ask.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn links(&self, netns: u64) -> Result<Arc<[u8]>, NetlinkError> {
        if let Self::Live(live) = self
            && let Some(links) = live.kept().links.get(&netns)
        {
            return Ok(Arc::clone(links));
        }
        let links = self.netlink(netns, netlink::NETLINK_ROUTE, "links", &netlink::links_request())?;
        let links: Arc<[u8]> = links.into();
        if let Self::Live(live) = self {
            live.kept().links.insert(netns, Arc::clone(&links));
        }
        Ok(links)
    }

    /// Closes the handles of processes that were kept.
    pub fn let_go(&self) {
        if let Self::Live(live) = self {
            live.kept().processes.clear();
        }
    }

    /// Begins a new look: what an earlier one learnt is asked anew.
    pub fn look_anew(&self) {
        if let Self::Live(live) = self {
            *live.kept() = Kept::default();
        }
    }

    /// As [`Source::netlink`], block by block as the kernel sends them and without a second
    /// attempt: after `Interrupted` the caller throws away what it got and asks again.
    ///
    /// # Errors
    /// See [`NetlinkError`]; an error of `take` ends the reading and comes back as `Failed`.
    pub fn netlink_each(
        &self,
        netns: u64,
        protocol: u32,
        name: &str,
        request: &[u8],
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), NetlinkError> {
        let key = format!("{netns}/{name}");
        match self {
            Self::Live(live) => match &live.tee {
                None => live.host.netlink(netns, protocol, request, take),
                Some(tee) => {
                    let mut copy = Vec::new();
                    let done = live.host.netlink(netns, protocol, request, &mut |block| {
                        copy.extend_from_slice(block);
                        take(block)
                    });
                    tee.netlink(&key, &copy, &done);
                    done
                }
            },
            Self::Recorded(recorded) => {
                let bytes = recorded.0.netlink(&key)?;
                let end = netlink::judge(&bytes, netlink::wants_list(request))?;
                take(&bytes).map_err(NetlinkError::Failed)?;
                if end { Ok(()) } else { Err(NetlinkError::Short) }
            }
        }
    }

    /// Notifications of a netlink bus in a network namespace that was kept. `groups`: bit n-1
    /// stands for group n. Nothing of it is recorded.
    ///
    /// # Errors
    /// As [`Source::within`], socket(2) and bind(2): `PermissionDenied` for a group that needs more
    /// rights; `Unsupported` in a recording.
    pub fn subscribe(&self, netns: u64, protocol: u32, groups: u32) -> io::Result<Subscription> {
        match self {
            Self::Live(live) => live.host.subscribe(netns, protocol, groups).map(Subscription),
            Self::Recorded(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Inodes of the sockets that this process has opened to ask the kernel.
    pub fn own_sockets(&self) -> Vec<u64> {
        let answer = self.answer("own-sockets", || match self {
            Self::Live(live) => {
                let words: Vec<String> = live.host.own_sockets().iter().map(u64::to_string).collect();
                Ok(words.join(" ").into_bytes())
            }
            Self::Recorded(_) => Err(io::ErrorKind::NotFound.into()),
        });
        let text = answer.unwrap_or_default();
        String::from_utf8_lossy(&text).split(' ').filter_map(|word| word.parse().ok()).collect()
    }

    /// Ids of the threads of a process that have a file table of their own, and of those for
    /// which nobody can tell, without the leading thread as long as it lives.
    ///
    /// # Errors
    /// As listing /proc/PID/task.
    pub fn file_tables(&self, process: &ProcessDir<'_>) -> io::Result<Vec<u32>> {
        let mut threads: Vec<u32> =
            process.list("task")?.iter().filter_map(|name| name.parse().ok()).collect();
        threads.sort_unstable();
        Ok(process.own_tables(threads))
    }
}

impl Live {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tee_file(
        &self,
        area: &str,
        path: &str,
        read: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        let found = read();
        if let Some(tee) = &self.tee {
            tee.file(area, path, &found);
        }
        found
    }
}

/// Notifications that the kernel sends of itself, of some groups in one namespace.
#[derive(Debug)]
pub struct Subscription(imp::Subscription);

/// What came of listening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    Nothing,
    Something,
    /// Something, and some more was lost on the way.
    Lost,
}

impl Subscription {
    /// Only messages with two zero bytes at `zero` and not two at `nonzero` are delivered from now
    /// on; places count from the start of `struct nlmsghdr`.
    ///
    /// # Errors
    /// As setsockopt(2) with `SO_ATTACH_FILTER`.
    pub fn only(&self, zero: u32, nonzero: u32) -> io::Result<()> {
        self.0.only(zero, nonzero)
    }

    /// Whether something has come.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Hands over what has come, block by block, without waiting.
    ///
    /// # Errors
    /// As recv(2); a lost message is none.
    pub fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<Heard> {
        self.0.drain(take)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Subscription {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
