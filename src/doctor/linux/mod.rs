//! The tries, on Linux.

pub(super) mod cross;
mod ports;
mod probe;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::{Found, State};
use crate::collect::linux::bpf::hooks::{Hook, Purpose, Without};
use crate::collect::linux::bpf::{self, Programs, Refusal};
use crate::collect::linux::{iterated, rights};
use crate::model::counted;
use crate::source::{NetlinkError, NetnsPlace, Source};

/// Processes that are looked at one by one; on larger machines the rest is taken to be alike.
const SAMPLE: usize = 4_000;

pub(super) struct Tries<'s> {
    source: &'s Source,
    pids: Vec<u32>,
    programs: OnceCell<Result<Programs, Refusal>>,
}

/// How a try went for a number of processes or places.
#[derive(Default)]
struct Count {
    works: usize,
    refused: usize,
}

impl Count {
    /// Ended processes and the like count as neither.
    fn add<T>(&mut self, result: &io::Result<T>) {
        match result {
            Ok(_) => self.works += 1,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.refused += 1,
            Err(_) => {}
        }
    }

    fn found(&self, what: &str, costs: &str, capability: &str) -> Found {
        let Self { works, refused } = *self;
        let all = works + refused;
        match (works, refused) {
            (0, 0) => works_with(format!("there are no {what} to try it on")),
            (_, 0) => works_with(format!("{works} of {all} {what}")),
            _ => Found {
                state: if works == 0 { State::Refused } else { State::Limited },
                detail: format!("{works} of {all} {what}; {costs}"),
                remedy: Some(lift(capability)),
            },
        }
    }
}

/// A program that is not in use; `said`: why, and what that costs.
fn unused(refusal: &Refusal, said: String) -> Found {
    let state = if refusal.is_for_rights() { State::Refused } else { State::Absent };
    Found { state, detail: said, remedy: refusal.remedy().map(str::to_owned) }
}

fn works_with(detail: impl Into<String>) -> Found {
    Found { state: State::Works, detail: detail.into(), remedy: None }
}

fn absent(detail: impl Into<String>) -> Found {
    Found { state: State::Absent, detail: detail.into(), remedy: None }
}

fn refused(detail: impl Into<String>, capability: &str) -> Found {
    Found { state: State::Refused, detail: detail.into(), remedy: Some(lift(capability)) }
}

/// What gives a capability: for an ordinary user root's rights, for root that lacks it the place
/// that took it away.
fn lift(capability: &str) -> String {
    if rustix::process::geteuid().is_root() {
        let short = capability.trim_start_matches("CAP_");
        format!("give {capability} to this container or unit: docker run --pid=host --cap-add={short} …")
    } else {
        "run it as root: sudo sockwarden".to_owned()
    }
}

impl<'s> Tries<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        let mut pids = source.pids().unwrap_or_default();
        pids.truncate(SAMPLE);
        Self { source, pids, programs: OnceCell::new() }
    }

    pub(super) fn run(&mut self, id: &str) -> Found {
        match id {
            "processes" => self.processes(),
            "file-tables" => {
                let costs = "sockets of the others have no owner in any list";
                self.each(|process| process.list("fd")).found("processes", costs, "CAP_SYS_PTRACE")
            }
            "bpf-owners" => self.tables(),
            "executables" => {
                let costs = "rules about executables stay undecided for the others";
                // A kernel thread has none, which is no refusal.
                self.each(|process| process.read_link("exe")).found("processes", costs, "CAP_SYS_PTRACE")
            }
            "file-systems" => self.file_systems(),
            "duplicate-sockets" => self.duplicates(),
            "netns-list" => {
                let costs = "namespaces that only the others are in stay unseen";
                self.each(|process| process.read_link("ns/net")).found("processes", costs, "CAP_SYS_PTRACE")
            }
            "netns-enter" => self.namespaces(),
            "bound-tcp" => self.bound(),
            "bpf-listen" => self.program(&[Purpose::Listen]),
            "bpf-bind" => self.program(&[Purpose::Bind4, Purpose::Bind6, Purpose::Release]),
            "interfaces" => {
                self.ask(0, &probe::links(), "who can reach a socket is told from its address alone")
            }
            "nftables" => self.ask(
                12,
                &probe::nft_tables(),
                "whether packets are filtered is unknown, and so is every reach beyond this computer",
            ),
            "legacy-iptables" => self.legacy(),
            "packages" => self.packages(),
            "units" => self.units(),
            "firmware" => self.firmware(),
            _ => match probe::diag(id) {
                Some(request) => {
                    self.ask(4, &request, "it is read from /proc/net, with fewer facts, where that lists it")
                }
                None => absent("unknown to this version"),
            },
        }
    }

    fn each<T>(&self, ask: impl Fn(&crate::source::ProcessDir<'_>) -> io::Result<T>) -> Count {
        let mut count = Count::default();
        for pid in &self.pids {
            if let Ok(process) = self.source.process(*pid) {
                count.add(&ask(&process));
            }
        }
        count
    }

    fn processes(&self) -> Found {
        let seen = counted(self.pids.len(), "process");
        match rights::unshown(self.source) {
            Some(unshown) => Found {
                state: State::Limited,
                detail: format!("{seen} seen; {}: {}", unshown.what, unshown.why),
                remedy: Some(unshown.remedy),
            },
            None => works_with(seen),
        }
    }

    fn file_systems(&self) -> Found {
        let mut count = Count::default();
        for pid in &self.pids {
            count.add(&self.source.root(*pid).and_then(|root| root.stat("/").map(drop)));
        }
        count.found(
            "processes",
            "names of users, units and packages in the others' file systems stay unknown",
            "CAP_SYS_PTRACE",
        )
    }

    /// A descriptor of another process is duplicated and closed at once.
    fn duplicates(&self) -> Found {
        let own = std::process::id();
        let mut count = Count::default();
        for pid in self.pids.iter().filter(|pid| **pid != own) {
            let names = self.source.process(*pid).and_then(|process| process.list("fd"));
            let first = match names {
                Ok(names) => names.first().and_then(|name| name.parse().ok()),
                // Whether descriptor 0 is open does not matter: rights are checked before.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(0),
                Err(_) => None,
            };
            if let (Some(fd), Some(id)) = (first, i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
                let duplicate = pidfd_open(id, PidfdFlags::empty())
                    .and_then(|handle| pidfd_getfd(&handle, fd, PidfdGetfdFlags::empty()));
                if let Err(rustix::io::Errno::NOSYS) = duplicate {
                    return absent("the kernel is older than 5.6: sockets outside every table stay unseen");
                }
                count.add(&duplicate.map_err(io::Error::from));
            }
        }
        count.found("processes", "sockets outside every table stay unseen", "CAP_SYS_PTRACE")
    }

    fn namespaces(&self) -> Found {
        let own = self.source.own_netns();
        let mut places = BTreeMap::new();
        for pid in &self.pids {
            let inode =
                self.source.process(*pid).and_then(|process| process.stat("ns/net")).map(|stat| stat.inode);
            if let Ok(inode) = inode {
                places.entry(inode).or_insert(*pid);
            }
        }
        places.retain(|inode, _| Some(*inode) != own);
        if places.is_empty() {
            // Entering the own one again asks for the same right.
            return match own.map_or(Err(io::ErrorKind::NotFound.into()), probe::enter_own) {
                Ok(()) => works_with("there is no other one now; it would be allowed"),
                Err(error) => refused(format!("{error}; there is no other one now"), "CAP_SYS_ADMIN"),
            };
        }
        let mut count = Count::default();
        for (inode, pid) in places {
            let place = NetnsPlace::Proc(format!("{pid}/ns/net"));
            let entered =
                self.source.keep_netns(inode, &place).and_then(|()| self.source.within(inode, || ()));
            count.add(&entered);
        }
        count.found("other namespaces", "sockets in the others stay unseen", "CAP_SYS_ADMIN")
    }

    fn ask(&self, bus: u32, request: &[u8], costs: &str) -> Found {
        let Some(netns) = self.source.own_netns() else {
            return absent("this kernel has no network namespaces");
        };
        match self.source.netlink(netns, bus, "doctor", request) {
            Ok(_) => works_with("the kernel answers"),
            Err(NetlinkError::Missing(error)) => absent(format!("not in this kernel ({error}); {costs}")),
            Err(NetlinkError::Refused(error)) => refused(format!("{error}; {costs}"), "CAP_NET_ADMIN"),
            Err(error @ (NetlinkError::Interrupted | NetlinkError::Short | NetlinkError::Failed(_))) => {
                Found {
                    state: State::Limited,
                    detail: format!("{error}; {costs}"),
                    remedy: Some("run it again".to_owned()),
                }
            }
        }
    }

    fn bound(&self) -> Found {
        match probe::lists_bound(self.source) {
            Ok(true) => works_with("a socket that was bound for the try is in the list"),
            Ok(false) => absent("the kernel is older than 6.8: ports that are only bound stay unseen"),
            Err(error) => absent(format!("could not be tried: {error}")),
        }
    }

    /// As every scan asks.
    fn tables(&self) -> Found {
        const ELSE: &str = "every scan walks through /proc instead: the same answer, several times slower";
        match iterated::references(self.source) {
            Ok(told) => {
                let told = counted(told.len(), "socket reference");
                works_with(format!("the kernel takes iter/task_file, and every scan uses it; {told} told"))
            }
            Err(refusal) => unused(&refusal, format!("{refusal}; {ELSE}")),
        }
    }

    /// Loaded, attached and taken away again.
    fn program(&self, purposes: &[Purpose]) -> Found {
        const COSTS: &str = "`watch` tells a socket that lives only for a moment without its holder";
        let programs = match self.programs.get_or_init(|| bpf::load(self.source, Without::default())) {
            Ok(programs) => programs,
            Err(refusal) => return unused(refusal, format!("{refusal}; {COSTS}")),
        };
        let ours = |hook: &Hook| purposes.iter().any(|purpose| purpose.hooks().contains(hook));
        let used: Vec<&str> =
            programs.used().iter().filter(|hook| ours(hook)).map(|hook| hook.name()).collect();
        let refused: Vec<_> = programs.refused().iter().filter(|each| ours(&each.hook)).collect();
        let why: Vec<String> =
            refused.iter().map(|each| format!("{} is refused: {}", each.hook.name(), each.why)).collect();
        let takes = format!("the kernel takes {}", used.join(", "));
        match refused.first() {
            None => works_with(takes),
            Some(first) if used.is_empty() => unused(&first.why, format!("{}; {COSTS}", why.join("; "))),
            Some(first) => Found {
                state: State::Limited,
                detail: format!("{takes}; {}", why.join("; ")),
                remedy: first.why.remedy().map(str::to_owned),
            },
        }
    }

    fn legacy(&self) -> Found {
        let mut found = Vec::new();
        for name in ["net/ip_tables_names", "net/ip6_tables_names"] {
            match self.source.proc_file(name) {
                Ok(text) => found.push(String::from_utf8_lossy(&text).lines().count()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let costs =
                        "whether packets are filtered is unknown, and so is every reach beyond this computer";
                    return refused(format!("/proc/{name}: {error}; {costs}"), "CAP_NET_ADMIN");
                }
            }
        }
        if found.is_empty() {
            return absent("not in this kernel, so there are no such rules");
        }
        works_with(counted(found.iter().sum::<usize>(), "table"))
    }

    fn packages(&self) -> Found {
        const BASES: [(&str, &str); 4] = [
            ("dpkg", "/var/lib/dpkg/status"),
            ("rpm", "/var/lib/rpm/rpmdb.sqlite"),
            ("rpm", "/usr/lib/sysimage/rpm/rpmdb.sqlite"),
            ("rpm", "/var/lib/rpm/Packages"),
        ];
        let Ok(root) = self.source.root(0) else {
            return refused("our own root folder cannot be opened", "CAP_SYS_PTRACE");
        };
        for (name, path) in BASES {
            match root.stat(path) {
                Ok(_) => return works_with(format!("{name}: {path}")),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let costs = "which package a program comes from stays unknown";
                    return refused(format!("{path}: {error}; {costs}"), "CAP_DAC_READ_SEARCH");
                }
                Err(_) => {}
            }
        }
        absent("no data base of dpkg or rpm; which package a program comes from stays unknown")
    }

    fn units(&self) -> Found {
        let groups = self.each(|process| process.read("cgroup"));
        if groups.refused > 0 || groups.works == 0 {
            return groups.found(
                "processes",
                "units and containers of the others stay unknown",
                "CAP_SYS_PTRACE",
            );
        }
        let runs = self.source.root(0).and_then(|root| root.stat("/run/systemd/system").map(drop)).is_ok();
        let service = if runs { "systemd runs here" } else { "no systemd runs here" };
        works_with(format!("{}; {service}", counted(groups.works, "process")))
    }

    fn firmware(&self) -> Found {
        match self.source.sys_file("class/dmi/id/sys_vendor") {
            Ok(text) => works_with(crate::model::Text::from(text.trim_ascii()).to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                absent("no such thing here; set [host] upstream in the configuration")
            }
            Err(error) => {
                refused(format!("{error}; set [host] upstream in the configuration"), "CAP_DAC_READ_SEARCH")
            }
        }
    }
}
