//! Which network namespaces there are (network_namespaces(7)): those of processes, those that are
//! mounted somewhere, and those that only a descriptor or a socket still refers to.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::proc_net::{self, inode_of};
use super::rights::{self, Capability};
use crate::collect::gaps::Gaps;
use crate::model::{Gap, Namespace, NamespaceId, Text};
use crate::source::{NetnsPlace, Source};

/// How many ways into one namespace are remembered: the process behind the first may end.
const WAYS: usize = 3;

/// The namespaces found so far.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    pub(super) list: Vec<Namespace>,
    /// Processes that may not be looked into, in order of pid.
    pub(super) denied: Vec<u32>,
    numbers: BTreeMap<u64, NamespaceId>,
}

impl Namespaces {
    /// Our own namespace, first in the list always.
    pub(super) fn own(source: &Source) -> Self {
        let mut found = Self::default();
        found.push(source, source.own_netns().unwrap_or(0), None, true);
        found
    }

    fn push(&mut self, source: &Source, inode: u64, name: Option<Text>, own: bool) -> NamespaceId {
        let id = NamespaceId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let cookie = source.netns_cookie(inode).ok();
        self.list.push(Namespace { inode, cookie, name, own, ..Namespace::default() });
        self.numbers.insert(inode, id);
        id
    }

    /// A namespace that sockets are known to be in, though nobody could enter it.
    pub(super) fn push_closed(&mut self, cookie: Option<u64>) -> NamespaceId {
        let id = NamespaceId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(Namespace { cookie, ..Namespace::default() });
        id
    }

    pub(super) fn known(&self, inode: u64) -> Option<NamespaceId> {
        self.numbers.get(&inode).copied()
    }

    pub(super) fn with_cookie(&self, cookie: u64) -> Option<NamespaceId> {
        let at = self.list.iter().position(|each| each.cookie == Some(cookie))?;
        u32::try_from(at).ok().map(NamespaceId)
    }

    /// Adds a namespace that one of these ways leads into; `None` when it was known, or none does.
    pub(super) fn enter(
        &mut self,
        source: &Source,
        inode: u64,
        name: Option<Text>,
        ways: &[NetnsPlace],
        gaps: &mut Gaps,
    ) -> Option<NamespaceId> {
        if self.known(inode).is_some() {
            return None;
        }
        let mut failure = None;
        for way in ways {
            match source.keep_netns(inode, way) {
                Ok(()) => return Some(self.push(source, inode, name, false)),
                Err(error) => failure = Some(error),
            }
        }
        let failure = failure?;
        if failure.kind() != std::io::ErrorKind::PermissionDenied {
            return None; // it has ended meanwhile, or its process is elsewhere by now
        }
        let id = self.push_closed(None);
        self.list[id.0 as usize].inode = inode;
        self.list[id.0 as usize].name = name;
        self.numbers.insert(inode, id);
        gaps.add(unread(source, id, &failure));
        None
    }

    /// Gives a namespace that could not be entered its cookie; false when it has one.
    pub(super) fn name_closed(&mut self, id: NamespaceId, cookie: Option<u64>) -> bool {
        let namespace = &mut self.list[id.0 as usize];
        let free = namespace.cookie.is_none() && !namespace.own;
        if free {
            namespace.cookie = cookie;
        }
        free
    }

    /// Adds a namespace under a socket's own word.
    pub(super) fn add_of_socket(&mut self, source: &Source, inode: u64) -> (NamespaceId, bool) {
        match self.known(inode) {
            Some(id) => (id, false),
            None => (self.push(source, inode, None, false), true),
        }
    }
}

/// Finds and enters the namespaces of all processes and mounts; the new ones, in order of inode.
pub(super) fn find(
    source: &Source,
    pids: &[u32],
    namespaces: &mut Namespaces,
    gaps: &mut Gaps,
) -> Vec<NamespaceId> {
    let mut ways: BTreeMap<u64, (Option<Text>, Vec<NetnsPlace>)> = BTreeMap::new();
    namespaces.denied.clear();
    for pid in pids {
        let path = format!("{pid}/ns/net");
        let link = source.proc_link(&path);
        if is_denied(source, *pid, &link) {
            namespaces.denied.push(*pid);
        }
        let Some(inode) = link.ok().and_then(|link| inode_of(&link, b"net")) else { continue };
        let found = ways.entry(inode).or_default();
        if found.1.len() < WAYS {
            found.1.push(NetnsPlace::Proc(path));
        }
    }
    let unseen = namespaces.denied.len() as u64;
    if unseen > 0 {
        let remedy = rights::remedy(source, Capability::SysPtrace);
        let what = "processes whose network namespace cannot be seen";
        gaps.add(unknown(what, "permission denied on /proc/PID/ns/net", remedy, unseen));
    }
    if let Some(unshown) = rights::unshown(source) {
        gaps.add(unknown(unshown.what, unshown.why, unshown.remedy, 1));
    }
    let mounts = source.proc_file("thread-self/mountinfo").unwrap_or_default();
    for (inode, path) in proc_net::mounted_namespaces(&mounts) {
        let found = ways.entry(inode).or_default();
        let name = path.strip_prefix(b"/run/netns/").or_else(|| path.strip_prefix(b"/var/run/netns/"));
        if let Some(name) = name.filter(|name| !name.contains(&b'/')) {
            found.0 = Some(Text::from(name));
        }
        found.1.push(NetnsPlace::Mount(path));
    }
    if let Some((Some(name), _)) = ways.get(&namespaces.list[0].inode) {
        namespaces.list[0].name = Some(name.clone());
    }
    ways.into_iter()
        .filter_map(|(inode, (name, ways))| namespaces.enter(source, inode, name, &ways, gaps))
        .collect()
}

/// Which of these processes may not be looked into.
pub(crate) fn denied(source: &Source, pids: &[u32]) -> Vec<u32> {
    let closed = |pid: &u32| is_denied(source, *pid, &source.proc_link(&format!("{pid}/ns/net")));
    pids.iter().copied().filter(closed).collect()
}

/// `link`: what asking for the network namespace came to.
fn is_denied<T>(source: &Source, pid: u32, link: &std::io::Result<T>) -> bool {
    link.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        && !is_kernel_thread(source, pid)
}

/// Threads of the kernel are in its first namespace, and hold no sockets.
fn is_kernel_thread(source: &Source, pid: u32) -> bool {
    let text = source.process(pid).and_then(|process| process.read("stat"));
    text.is_ok_and(|text| proc_net::stat(&text).is_some_and(|stat| stat.kernel))
}

/// The gap of namespaces that may be there, whose processes do not tell.
fn unknown(what: &str, why: &str, remedy: String, count: u64) -> Gap {
    Gap {
        id: "netns-unseen".into(),
        what: format!("{what}: sockets in network namespaces of theirs would be missing"),
        why: why.into(),
        remedy: Some(remedy),
        count,
        unlisted: Some((None, None)),
    }
}

/// The gap of a namespace that could not be entered.
pub(super) fn unread(source: &Source, id: NamespaceId, why: &std::io::Error) -> Gap {
    Gap {
        id: "netns-unread".into(),
        what: "network namespaces that could not be entered: their sockets are not all listed".into(),
        why: why.to_string(),
        remedy: Some(rights::remedy(source, Capability::SysAdmin)),
        count: 1,
        unlisted: Some((None, Some(id))),
    }
}
