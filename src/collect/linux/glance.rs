//! Cheap looks at whatever can receive: dumps that the kernel filters, of every namespace that the
//! last scan knew, and its notifications of sockets that end (`SKNLGRP_INET_TCP_DESTROY` and its
//! kin in <linux/sock_diag.h>).

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::bpf::hooks::{Hook, Purpose, Without};
use super::bpf::record::{self, Event, Memory, Told, What};
use super::bpf::{self, Programs, Refusal};
use super::netns::{self, Namespaces};
use super::proc_net::{self, File, inode_of};
use super::sock_diag;
use super::wire::{self, Dump};
use crate::collect::events::{Brief, Seen, describe};
use crate::collect::gaps::Gaps;
use crate::collect::table::Table;
use crate::model::{
    Endpoint, ExeState, Fact, Holder, How, NamespaceId, OwnerGap, Process, ProcessId, Protocol, Snapshot,
    Socket, SocketType, Span, State,
};
use crate::source::{Heard, Source, Subscription};

pub(crate) const CAN_LOOK: bool = true;

const NETLINK_SOCK_DIAG: u32 = 4;
/// Groups 1 and 3, 2 and 4: TCP and UDP of IPv4 and IPv6. Joined where no program tells of ends.
const DESTROY_TCP: u32 = 0b0101;
const DESTROY_UDP: u32 = 0b1010;
/// Namespaces that are looked into and listened in between two scans; the rest is found by scans.
const NAMESPACES: usize = 64;
/// Brief sockets that are told apart in one look; more are counted as lost.
const MOST_BRIEF: usize = 20_000;
/// How far back one that is alike is looked for.
const ALIKE: usize = 64;
/// Newcomers at once that are worth to be told ahead of a scan.
const NEWCOMERS: usize = 8;
/// Sockets that are remembered until a scan has seen them.
const UNSCANNED: usize = 100_000;
/// Linux's own choice, for a namespace where it could not be read.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// A socket for as long as it lives: namespace, cookie, inode. The kernel gives cookies to all but
/// those that only /proc/net lists.
type Key = (u64, u64, u64);

/// A socket that no scan has seen yet.
#[derive(Debug)]
struct Fresh {
    socket: Socket,
    owner: Option<Arc<Process>>,
    /// Scans that did not show it.
    unseen: u8,
}

impl Fresh {
    fn new(socket: Socket, owner: Option<Arc<Process>>) -> Self {
        Self { socket, owner, unseen: 0 }
    }
}

#[derive(Debug)]
struct Place {
    inode: u64,
    ephemeral: (u16, u16),
    ends: Option<Subscription>,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    all_namespaces: bool,
    source: Option<Source>,
    places: Vec<Place>,
    /// Found by the last look.
    last: BTreeSet<Key>,
    /// Found by the last look or the scan since.
    known: BTreeSet<Key>,
    /// Found by looks, and by no scan yet: if they end now, no scan will ever tell of them.
    unscanned: BTreeMap<Key, Fresh>,
    /// Told of by programs since newcomers were last asked for.
    newcomers: Vec<Key>,
    /// Something that a scan has seen is no more as it was.
    stale: bool,
    programs: Result<Programs, Refusal>,
    memory: Memory,
    /// Cookies by namespace and inode, where a program cannot tell them.
    cookies: BTreeMap<(u64, u64), u64>,
    /// Those from before the last scan: ends of them may be on their way.
    earlier: BTreeMap<(u64, u64), u64>,
    /// Nanoseconds since the epoch.
    booted: i64,
    namespaces: BTreeSet<u64>,
    pids: Vec<u32>,
    /// Namespaces beyond `NAMESPACES`, and why the kernel does not tell of ends.
    unwatched: usize,
    deaf: Option<String>,
}

impl Watcher {
    pub(crate) fn new(all_namespaces: bool) -> Self {
        Self {
            all_namespaces,
            source: None,
            places: Vec::new(),
            last: BTreeSet::new(),
            known: BTreeSet::new(),
            unscanned: BTreeMap::new(),
            newcomers: Vec::new(),
            stale: false,
            programs: Err(Refusal::NotLoaded),
            memory: Memory::default(),
            cookies: BTreeMap::new(),
            earlier: BTreeMap::new(),
            booted: 0,
            namespaces: BTreeSet::new(),
            pids: Vec::new(),
            unwatched: 0,
            deaf: None,
        }
    }

    pub(crate) fn load(&mut self, source: &Source, without: Without) {
        self.booted = booted();
        self.programs = bpf::load(source, without);
    }

    fn uses(&self, purpose: Purpose) -> bool {
        let used = self.programs.as_ref().map_or(&[][..], Programs::used);
        purpose.hooks().iter().any(|hook| used.contains(hook))
    }

    pub(crate) fn follow(&mut self, source: Source, snapshot: &Snapshot) -> io::Result<()> {
        let mut found = Namespaces::own(&source);
        self.pids = source.pids()?;
        if self.all_namespaces {
            netns::find(&source, &self.pids, &mut found, &mut Gaps::default());
        }
        let mut before = std::mem::take(&mut self.places);
        self.namespaces = snapshot.namespaces.iter().map(|each| each.inode).collect();
        self.namespaces.extend(found.list.iter().map(|each| each.inode));
        self.unwatched = found.list.len().saturating_sub(NAMESPACES);
        for namespace in found.list.iter().take(NAMESPACES) {
            let inode = namespace.inode;
            let told = snapshot.namespaces.iter().find(|each| each.inode == inode);
            let ends = match before.iter().position(|place| place.inode == inode) {
                Some(at) => before.swap_remove(at).ends,
                None => self.listen(&source, inode),
            };
            let ephemeral = told.and_then(|each| each.sysctls.ephemeral).unwrap_or(EPHEMERAL);
            self.places.push(Place { inode, ephemeral, ends });
        }
        for socket in &snapshot.sockets {
            let key = key(netns_of(snapshot, socket), socket);
            self.unscanned.remove(&key);
            self.known.insert(key);
        }
        self.source = Some(source);
        Ok(())
    }

    fn listen(&mut self, source: &Source, inode: u64) -> Option<Subscription> {
        // In `struct nlmsghdr` and `struct inet_diag_msg`: somebody at the other end has a port;
        // what was never bound has none.
        const REMOTE_PORT: u32 = 16 + 4 + 2;
        const LOCAL_PORT: u32 = 16 + 4;
        let tcp = if self.uses(Purpose::Listen) { 0 } else { DESTROY_TCP };
        let udp = if self.uses(Purpose::Release) { 0 } else { DESTROY_UDP };
        let groups = tcp | udp;
        if groups == 0 {
            return None;
        }
        let heard = source
            .subscribe(inode, NETLINK_SOCK_DIAG, groups)
            .and_then(|ends| ends.only(REMOTE_PORT, LOCAL_PORT).map(|()| ends));
        match heard {
            Ok(ends) => Some(ends),
            Err(error) => {
                self.deaf = Some(error.to_string());
                None
            }
        }
    }

    /// Hears what has been told, and names the owners of what this snapshot shows without one. What
    /// it shows, its scan tells: it lived long enough.
    pub(crate) fn complete(&mut self, snapshot: &mut Snapshot) -> Seen {
        self.stale = false;
        self.earlier = std::mem::take(&mut self.cookies);
        for socket in &snapshot.sockets {
            self.learn(netns_of(snapshot, socket), socket);
        }
        let mut seen = self.hear();
        let (with_key, without): (Vec<_>, Vec<_>) =
            std::mem::take(&mut seen.brief).into_iter().partition(|brief| brief.socket.cookie != 0);
        seen.brief = without;
        let mut ended: BTreeMap<Key, Brief> =
            with_key.into_iter().map(|brief| (key(brief.netns, &brief.socket), brief)).collect();
        for at in 0..snapshot.sockets.len() {
            let socket = &snapshot.sockets[at];
            let key = key(netns_of(snapshot, socket), socket);
            let ended = ended.remove(&key);
            self.stale |= ended.is_some();
            if socket.cookie == 0 {
                continue;
            }
            let fresh = self.unscanned.get(&key).and_then(|fresh| fresh.owner.as_deref());
            if let Some(owner) = ended.as_ref().and_then(|brief| brief.owner.as_deref()).or(fresh) {
                if socket.holders.len > 0 {
                    describe_holders(snapshot, at, owner);
                } else {
                    name_owner(snapshot, at, owner);
                }
            }
        }
        self.forget(snapshot, &mut seen);
        seen.changed |= self.stale;
        seen.brief.extend(ended.into_values());
        seen
    }

    /// What programs have told of and two scans have not shown is gone, although nobody has said so:
    /// in namespaces that nobody listens in, or because the word of it was lost.
    fn forget(&mut self, snapshot: &Snapshot, seen: &mut Seen) {
        const TWICE: u8 = 2;
        let shown: BTreeSet<Key> =
            snapshot.sockets.iter().map(|socket| key(netns_of(snapshot, socket), socket)).collect();
        let gone = self.unscanned.extract_if(.., |key, fresh| {
            fresh.unseen += u8::from(!shown.contains(key));
            fresh.unseen >= TWICE
        });
        for (key, fresh) in gone.collect::<Vec<_>>() {
            tell_brief(seen, key.0, fresh);
        }
    }

    pub(crate) fn look(&mut self) -> Seen {
        let mut seen = self.hear();
        let Some(source) = &self.source else { return Seen { changed: true, ..seen } };
        let mut now = BTreeMap::new();
        for place in &self.places {
            let mut table = Table::default();
            let there = sock_diag::Place { inode: place.inode, id: NamespaceId(0) };
            sock_diag::glance(source, there, &mut table);
            if Some(place.inode) == source.own_netns() {
                for name in ["net/raw", "net/raw6"] {
                    if let Ok(text) = source.proc_file(name) {
                        proc_net::decode(File::Inet(Protocol::Raw), NamespaceId(0), &text, &mut table);
                    }
                }
            }
            let received = table.sockets.into_iter().filter(|socket| receives(socket, place.ephemeral));
            now.extend(received.map(|socket| (key(place.inode, &socket), socket)));
        }
        let gone: Vec<Key> = self.last.iter().filter(|key| !now.contains_key(*key)).copied().collect();
        for (key, socket) in &now {
            self.learn(key.0, socket);
        }
        for key in &gone {
            if let Some(fresh) = self.unscanned.remove(key) {
                tell_brief(&mut seen, key.0, fresh);
            }
        }
        self.stale |= !gone.is_empty() || self.new_namespace();
        self.last = now.keys().copied().collect();
        for (key, socket) in now.into_iter().filter(|(key, _)| !self.known.contains(key)) {
            // What a program told of it is more.
            if self.unscanned.len() < UNSCANNED {
                self.unscanned.entry(key).or_insert(Fresh::new(socket, None));
            }
        }
        seen.changed |= self.stale || self.last.difference(&self.known).next().is_some();
        self.known.clone_from(&self.last);
        seen
    }

    /// What the kernel has told: programs of what listens, netlink of what ended.
    pub(crate) fn hear(&mut self) -> Seen {
        let mut seen = Seen::default();
        // Ends are taken in first and understood last: whatever ended was told of before it.
        let ends = self.ends(&mut seen);
        let fresh = self.openings(&mut seen);
        for (netns, socket) in ends {
            let key = key(netns, &socket);
            if !self.end(&mut seen, &key)
                && let Some(socket) = self.brief(netns, socket)
            {
                tell_brief(&mut seen, netns, Fresh::new(socket, None));
            }
        }
        seen.told = self.stale || fresh.iter().any(|key| self.unscanned.contains_key(key));
        seen.changed |= seen.told;
        seen
    }

    fn ends(&mut self, seen: &mut Seen) -> Vec<(u64, Socket)> {
        let mut ends = Vec::new();
        for place in &mut self.places {
            let Some(subscription) = &mut place.ends else { continue };
            let mut table = Table::default();
            let heard = subscription.drain(&mut |block| {
                if table.sockets.len() < 2 * MOST_BRIEF {
                    wire::decode(Dump::Inet(Protocol::Tcp), NamespaceId(0), block, &mut table);
                } else {
                    seen.lost += 1;
                }
            });
            match heard {
                Ok(Heard::Nothing | Heard::Something) => {}
                Ok(Heard::Lost) => seen.lost += 1,
                Err(error) => {
                    self.deaf = Some(error.to_string());
                    place.ends = None;
                }
            }
            ends.extend(table.sockets.into_iter().map(|socket| (place.inode, socket)));
        }
        ends
    }

    /// What programs tell; returns what has begun to listen.
    fn openings(&mut self, seen: &mut Seen) -> Vec<Key> {
        let mut programs = match std::mem::replace(&mut self.programs, Err(Refusal::NotLoaded)) {
            Ok(programs) => programs,
            refused @ Err(_) => {
                self.programs = refused;
                return Vec::new();
            }
        };
        let mut fresh = Vec::new();
        let booted = self.booted;
        seen.lost += programs.drain(&mut |bytes, lost| {
            let Some(mut event) = record::decode(bytes, booted) else { return };
            self.memory.complete(&mut event);
            fresh.extend(self.take_in(seen, event, lost));
        });
        self.programs = Ok(programs);
        fresh
    }

    /// Returns what has begun. `lost`: not every event has come.
    fn take_in(&mut self, seen: &mut Seen, event: Event, lost: bool) -> Option<Key> {
        let Event { what, netns, mut socket, owner, told } = event;
        let own = self.source.as_ref().and_then(Source::own_netns);
        if !self.all_namespaces && own.is_some_and(|own| own != netns) {
            return None;
        }
        let key = self.named(key(netns, &socket));
        socket.cookie = key.1;
        let datagram = socket.kind == SocketType::Dgram;
        let looked_for = !datagram || receives(&socket, self.ephemeral(netns));
        match what {
            What::Listens | What::Binds if looked_for => {
                self.stale |= self.known.contains(&key);
                if self.unscanned.len() >= UNSCANNED {
                    seen.lost += 1;
                    return None;
                }
                let owner = owner.map(|owner| self.described(owner, told));
                self.unscanned.insert(key, Fresh::new(socket, owner));
                if self.newcomers.len() <= NEWCOMERS {
                    self.newcomers.push(key);
                }
                return Some(key);
            }
            What::Ends => {
                // Of TCP every beginning was told; a datagram socket may have got its port by sending.
                let untold = lost || datagram && looked_for;
                if !self.end(seen, &key) && untold {
                    tell_brief(seen, netns, Fresh::new(socket, None));
                }
            }
            What::Listens | What::Binds => {}
        }
        None
    }

    /// See [`crate::collect::events::Events::newcomers`].
    pub(crate) fn newcomers(&mut self) -> Vec<Brief> {
        let keys = std::mem::take(&mut self.newcomers);
        if keys.len() > NEWCOMERS {
            return Vec::new();
        }
        let still = keys.iter().filter_map(|key| Some((key.0, self.unscanned.get(key)?)));
        let named = still.filter(|(_, fresh)| fresh.owner.is_some());
        named
            .map(|(netns, fresh)| Brief { netns, socket: fresh.socket.clone(), owner: fresh.owner.clone() })
            .collect()
    }

    fn ephemeral(&self, netns: u64) -> (u16, u16) {
        let place = self.places.iter().find(|place| place.inode == netns);
        place.map_or(EPHEMERAL, |place| place.ephemeral)
    }

    /// What the program could not read of its process, if that still is there.
    fn described(&self, mut owner: Arc<Process>, told: Told) -> Arc<Process> {
        let Some(source) = self.source.as_ref().filter(|_| told == Told::Briefly) else { return owner };
        let Ok(process) = source.process(owner.pid) else { return owner };
        let (exe, arguments) = (process.read_link("exe"), process.read("cmdline"));
        let stat = process.read("stat").ok().and_then(|text| proc_net::stat(&text));
        let Some(stat) = stat.filter(|stat| stat.start_ticks == owner.start_ticks) else { return owner };
        // Whoever ends lets go of its arguments and its executable at once (exit_mm() of kernel/exit.c).
        let arguments = arguments.ok().filter(|words| !words.is_empty() || process.read_link("exe").is_ok());
        let known = Arc::make_mut(&mut owner);
        known.ppid = stat.ppid;
        // Of a name that says " (deleted)" nobody can tell whether that is part of it.
        if let Some(exe) = exe.ok().filter(|exe| !exe.ends_with(b" (deleted)")) {
            (known.exe, known.exe_state) = (Fact::Known(exe.into()), ExeState::Present);
        }
        if let Some(arguments) = arguments {
            known.cmdline = Fact::Known(record::arguments(&arguments));
        }
        owner
    }

    /// A program that has no cookies goes by inodes; looks and scans tell which cookie is whose.
    fn named(&self, key: Key) -> Key {
        match key {
            (netns, 0, inode) => {
                let cookie = self.cookies.get(&(netns, inode)).or_else(|| self.earlier.get(&(netns, inode)));
                cookie.map_or(key, |cookie| (netns, *cookie, 0))
            }
            (_, _, _) => key,
        }
    }

    fn learn(&mut self, netns: u64, socket: &Socket) {
        if socket.cookie == 0 || socket.inode == 0 || !self.uses_plain() {
            return;
        }
        self.cookies.insert((netns, socket.inode), socket.cookie);
        if let Some(mut fresh) = self.unscanned.remove(&(netns, 0, socket.inode)) {
            fresh.socket.cookie = socket.cookie;
            self.unscanned.insert(key(netns, socket), fresh);
        }
    }

    fn uses_plain(&self) -> bool {
        self.programs.as_ref().is_ok_and(|programs| programs.used().contains(&Hook::TcpStatePlain))
    }

    /// Whether a socket that has ended was known to anybody.
    fn end(&mut self, seen: &mut Seen, key: &Key) -> bool {
        let scanned = self.known.remove(key);
        self.last.remove(key);
        if let Some(fresh) = self.unscanned.remove(key) {
            // Where a scan knows it in another state, the next one must see that it is gone.
            self.stale |= scanned;
            tell_brief(seen, key.0, fresh);
            return true;
        }
        self.stale |= scanned;
        scanned
    }

    fn brief(&self, netns: u64, socket: Socket) -> Option<Socket> {
        let place = self.places.iter().find(|place| place.inode == netns)?;
        brief(socket, place.ephemeral)
    }

    /// Whether a scan would tell anything new.
    pub(crate) fn unsettled(&self) -> bool {
        self.stale || !self.unscanned.is_empty()
    }

    /// Whether a process has appeared in a namespace that nobody knows.
    fn new_namespace(&mut self) -> bool {
        let Some(source) = self.source.as_ref().filter(|_| self.all_namespaces) else { return false };
        let Ok(pids) = source.pids() else { return false };
        let mut found = false;
        for pid in pids.iter().filter(|pid| self.pids.binary_search(pid).is_err()) {
            let link = source.proc_link(&format!("{pid}/ns/net"));
            let inode = link.ok().and_then(|link| inode_of(&link, b"net"));
            found |= inode.is_some_and(|inode| self.namespaces.insert(inode));
        }
        self.pids = pids;
        found
    }

    pub(crate) fn heard(&self) -> bool {
        let told = self.programs.as_ref().is_ok_and(Programs::has_told);
        told || self.places.iter().any(|place| place.ends.as_ref().is_some_and(Subscription::is_ready))
    }

    pub(crate) fn limits(&self) -> Vec<String> {
        let programs = match &self.programs {
            Ok(programs) => self.in_use(programs),
            Err(refusal) => {
                let remedy = refusal.remedy().map_or_else(String::new, |remedy| format!("; {remedy}"));
                format!(
                    "without programs in the kernel ({refusal}{remedy}), what lives shorter than the time \
                     between two looks is seen without its holder, or not at all (UNIX, packet and raw \
                     sockets)"
                )
            }
        };
        let refused = self.programs.as_ref().map_or(&[][..], Programs::refused);
        let refused = refused.iter().map(|each| format!("{} is not in use: {}", each.hook.name(), each.why));
        let deaf = self.deaf.as_ref().map(|why| {
            format!("the kernel does not tell of sockets that end ({why}): one that lives between two looks stays unseen")
        });
        let beyond = (self.unwatched > 0)
            .then(|| format!("{} network namespaces are only seen by the full scans", self.unwatched));
        std::iter::once(programs).chain(refused).chain(deaf).chain(beyond).collect()
    }

    fn in_use(&self, programs: &Programs) -> String {
        let hooks: Vec<&str> = programs.used().iter().map(|hook| hook.name()).collect();
        let binds = self.uses(Purpose::Bind4) && self.uses(Purpose::Bind6);
        let (told, briefly) = match (self.uses(Purpose::Listen), binds) {
            (true, true) => {
                ("who listens on TCP and who binds UDP", "UNIX, packet and raw sockets that live")
            }
            (true, false) => ("who listens on TCP", "other sockets that live"),
            (false, _) => ("who binds UDP", "other sockets that live"),
        };
        let blind = if binds { "are not seen" } else { "are seen without their holder, or not at all" };
        format!(
            "programs in the kernel tell {told} ({}); {briefly} shorter than the time between two looks {blind}",
            hooks.join(", "),
        )
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let told = self.programs.as_ref().ok().map(Programs::descriptor);
        let ends = self.places.iter().filter_map(|place| place.ends.as_ref().map(|ends| ends.as_fd()));
        told.into_iter().chain(ends).collect()
    }
}

fn netns_of(snapshot: &Snapshot, socket: &Socket) -> u64 {
    snapshot.namespaces.get(socket.netns.0 as usize).map_or(0, |each| each.inode)
}

/// Puts down who opened a socket.
fn name_owner(snapshot: &mut Snapshot, at: usize, owner: &Process) {
    let index = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let same = |each: &Process| (each.pid, each.start_ticks) == (owner.pid, owner.start_ticks);
    let process = snapshot.processes.iter().position(same).unwrap_or_else(|| {
        snapshot.processes.push(owner.clone());
        snapshot.processes.len() - 1
    });
    let start = index(snapshot.holders.len());
    snapshot.holders.push(Holder { process: ProcessId(index(process)), fd: -1, how: How::Event });
    let socket = &mut snapshot.sockets[at];
    (socket.holders, socket.owner_gap) = (Span { start, len: 1 }, None);
}

fn describe_holders(snapshot: &mut Snapshot, at: usize, owner: &Process) {
    for holder in &snapshot.holders[snapshot.sockets[at].holders.range()] {
        describe(&mut snapshot.processes[holder.process.0 as usize], owner);
    }
}

/// Nanoseconds since the epoch at which this machine was started.
fn booted() -> i64 {
    use rustix::time::{ClockId, clock_gettime};
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    };
    nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime)
}

/// A cookie outlives the inode number, which is zero when the kernel tells of an end.
fn key(netns: u64, socket: &Socket) -> Key {
    (netns, socket.cookie, if socket.cookie == 0 { socket.inode } else { 0 })
}

/// Whether a look shows it: listeners, bound datagram sockets, packet and raw sockets. The UDP ports
/// that the kernel hands to clients are left to the scans.
fn receives(socket: &Socket, ephemeral: (u16, u16)) -> bool {
    match socket.protocol {
        Protocol::Udp => match &socket.local {
            Endpoint::Inet(address, port) => {
                *port != 0 && !(address.is_unspecified() && (ephemeral.0..=ephemeral.1).contains(port))
            }
            Endpoint::None
            | Endpoint::UnixPath(_)
            | Endpoint::UnixAbstract(_)
            | Endpoint::Vsock { .. }
            | Endpoint::Interface(_) => false,
        },
        Protocol::Unix => {
            socket.state == State::Listen
                || socket.kind == SocketType::Dgram && socket.local != Endpoint::None
        }
        Protocol::Tcp
        | Protocol::UdpLite
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Dccp
        | Protocol::Icmp
        | Protocol::Raw
        | Protocol::Packet
        | Protocol::Netlink
        | Protocol::Vsock
        | Protocol::Xdp
        | Protocol::Alg
        | Protocol::Key
        | Protocol::Tipc
        | Protocol::Can
        | Protocol::Bluetooth
        | Protocol::Smc
        | Protocol::Other(_) => true,
    }
}

/// A socket that ended, if it was one that others could have spoken to, as far as the kernel still
/// tells: bound, with nobody at the other end. The groups are joined together, so its own protocol
/// is in the message.
fn brief(mut socket: Socket, ephemeral: (u16, u16)) -> Option<Socket> {
    const UDP: u32 = 17;
    if socket.protocol_number == Some(UDP) {
        socket.protocol = Protocol::Udp;
        socket.kind = SocketType::Dgram;
        if !receives(&socket, ephemeral) {
            return None;
        }
    }
    socket.protocol_number = None;
    socket.uid = None;
    // A call that was refused keeps the address of whom it called.
    (socket.remote == Endpoint::None).then_some(socket)
}

/// Nobody will ever learn more of it. The same place, opened again and again by one program, is told
/// once a time.
fn tell_brief(seen: &mut Seen, netns: u64, fresh: Fresh) {
    let Fresh { mut socket, owner, .. } = fresh;
    let who = |owner: &Option<Arc<Process>>| owner.as_ref().map(|each| (each.pid, each.start_ticks));
    let same = |brief: &Brief| {
        (brief.netns, &brief.socket.local) == (netns, &socket.local) && who(&brief.owner) == who(&owner)
    };
    if owner.is_some() && seen.brief.iter().rev().take(ALIKE).any(same) {
        return;
    }
    if seen.brief.len() >= MOST_BRIEF {
        seen.lost += 1;
        return;
    }
    socket.inode = 0;
    socket.state = State::Closed;
    socket.owner_gap = owner.is_none().then_some(socket.owner_gap.unwrap_or(OwnerGap::Gone));
    seen.brief.push(Brief { netns, socket, owner });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{Sample, endpoint};

    fn udp(local: &str) -> Socket {
        let mut sample = Sample::new();
        sample.socket(Protocol::Udp, State::Unconnected, local, &[]).clone()
    }

    #[test]
    fn ports_of_udp_clients_are_no_news() {
        assert!(receives(&udp("0.0.0.0:53"), EPHEMERAL));
        assert!(!receives(&udp("0.0.0.0:40000"), EPHEMERAL));
        assert!(receives(&udp("127.0.0.1:40000"), EPHEMERAL));
        assert!(!receives(&udp(""), EPHEMERAL));
    }

    #[test]
    fn a_holder_that_ended_while_it_was_looked_at_is_described_by_what_was_told() {
        let mut sample = Sample::new();
        let process = sample.process(7, "/usr/bin/brief");
        let told = process.clone();
        // A corpse has neither.
        (process.exe, process.cmdline) = (Fact::Absent, Fact::Known(Vec::new()));
        sample.listener("127.0.0.1:80", crate::model::Reach::Host, &[7]);
        let snapshot = &mut sample.snapshot;
        let mut other = told.clone();
        other.start_ticks += 1;
        describe_holders(snapshot, 0, &other);
        let holder = |snapshot: &Snapshot| {
            let at = snapshot.holders[snapshot.sockets[0].holders.range()][0].process;
            snapshot.process(at).exe.clone()
        };
        assert_eq!(holder(snapshot), Fact::Absent, "another process under the same number");
        describe_holders(snapshot, 0, &told);
        assert_eq!(holder(snapshot), Fact::Known("/usr/bin/brief".into()));
    }

    #[test]
    fn what_was_bound_and_ended_is_told_and_a_refused_call_is_not() {
        let mut listener = udp("0.0.0.0:4444");
        listener.protocol = Protocol::Tcp;
        let mut refused = listener.clone();
        refused.remote = endpoint("127.0.0.1:1");
        assert!(brief(refused, EPHEMERAL).is_none());
        let mut seen = Seen::default();
        let fresh = |socket| Fresh::new(socket, None);
        tell_brief(&mut seen, 7, fresh(brief(listener, EPHEMERAL).unwrap()));
        let Brief { netns, socket, .. } = &seen.brief[0];
        assert_eq!((*netns, socket.state, socket.owner_gap), (7, State::Closed, Some(OwnerGap::Gone)));
        let mut client = udp("0.0.0.0:40000");
        client.protocol_number = Some(17);
        assert!(brief(client, EPHEMERAL).is_none());
        for _ in 0..2 * MOST_BRIEF {
            tell_brief(&mut seen, 7, fresh(udp("0.0.0.0:53")));
        }
        assert!(seen.brief.len() == MOST_BRIEF && seen.lost == MOST_BRIEF as u64 + 1);
    }
}
