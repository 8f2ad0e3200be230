//! What the kernel programs write, understood: `struct record` of `events.bpf.c`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collect::linux::wire::{u16_at, u32_at, u64_at};
use crate::collect::table::of_the_kernel;
use crate::model::{
    Ancestor, Endpoint, ExeState, Fact, NamespaceId, Process, Protocol, Role, Socket, SocketType, State,
    Text, canonical,
};

const LISTENS: u16 = 1;
const ENDS: u16 = 2;
const BINDS: u16 = 3;
const EXE_READ: u16 = 1;
const EXE_UNLINKED: u16 = 2;
const ARGS_READ: u16 = 4;
const KERNEL: u16 = 8;
const V6ONLY: u16 = 16;
const AS_BEFORE: u16 = 32;
const BRIEFLY: u16 = 64;

const COMM: usize = 16;
const PARENTS: usize = 8;
/// `sizeof(struct record)`.
const HEAD: usize = 280;
/// Where `parent` stands in it.
const PARENT: usize = 116;
/// USER_HZ: what start times are counted in below /proc.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The socket can be called from now on.
    Listens,
    /// A datagram socket has got its address.
    Binds,
    /// A listener does so no more, a datagram socket is closed.
    Ends,
}

/// How much is told of the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// All that could be read.
    Whole,
    /// Parents, executable and arguments are those of its record before this one.
    AsBefore,
    /// Who it is, and no more.
    Briefly,
}

/// One event, told in the context of the process that caused it.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub what: What,
    /// Inode of the network namespace; `socket.netns` says nothing.
    pub netns: u64,
    pub socket: crate::model::Socket,
    /// Who did it, with what could be read of it; an end has none.
    pub owner: Option<Arc<Process>>,
    pub told: Told,
}

/// `None` for what no program of ours writes. `booted`: nanoseconds since the epoch.
pub fn decode(record: &[u8], booted: i64) -> Option<Event> {
    let what = match u16_at(record, 68)? {
        LISTENS => What::Listens,
        BINDS => What::Binds,
        ENDS => What::Ends,
        _ => return None,
    };
    let flags = u16_at(record, 76)?;
    let (protocol, kind) = match (what, u16_at(record, 72)?) {
        (What::Listens | What::Ends, 6) => (Protocol::Tcp, SocketType::Stream),
        (What::Listens | What::Ends, 33) => (Protocol::Dccp, SocketType::Stream),
        (What::Listens | What::Ends, 132) => (Protocol::Sctp, SocketType::Stream),
        (What::Listens | What::Ends, 262) => (Protocol::Mptcp, SocketType::Stream),
        (What::Binds | What::Ends, 17) => (Protocol::Udp, SocketType::Dgram),
        (What::Binds | What::Ends, 136) => (Protocol::UdpLite, SocketType::Dgram),
        (What::Listens | What::Binds | What::Ends, _) => return None,
    };
    let address: [u8; 16] = record.get(84..100)?.try_into().ok()?;
    let address = match u16_at(record, 70)? {
        2 => IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
        10 => canonical(IpAddr::V6(Ipv6Addr::from(address))),
        _ => return None,
    };
    let mut socket = Socket::blank(protocol, NamespaceId(0));
    socket.kind = kind;
    socket.local = Endpoint::Inet(address, u16_at(record, 74)?);
    socket.v6only = address.is_ipv6().then_some(flags & V6ONLY != 0);
    (socket.cookie, socket.inode) = (u64_at(record, 0)?, u64_at(record, 8)?);
    socket.uid = Some(u32_at(record, 56)?);
    socket.interface = u32_at(record, 60)?;
    socket.queues = (0, u32_at(record, 64)?);
    (socket.state, socket.role) = match what {
        What::Listens => (State::Listen, Role::Listener),
        What::Binds => (State::Unconnected, Role::Receiver),
        What::Ends => (State::Closed, Role::Idle),
    };
    let told = match (flags & AS_BEFORE != 0, flags & BRIEFLY != 0) {
        (true, _) => Told::AsBefore,
        (false, true) => Told::Briefly,
        (false, false) => Told::Whole,
    };
    let owner = match what {
        What::Listens | What::Binds if flags & KERNEL != 0 => {
            socket = of_the_kernel(socket);
            None
        }
        What::Listens | What::Binds => {
            let mut owner = identity(record, booted)?;
            if told == Told::Whole {
                describe(&mut owner, record, flags)?;
            }
            Some(Arc::new(owner))
        }
        What::Ends => None,
    };
    Some(Event { what, netns: u32_at(record, 40)?.into(), socket, owner, told })
}

/// Processes that were told whole of late, for records that refer to them. Bounded in number and
/// time.
#[derive(Debug)]
pub struct Memory {
    young: BTreeMap<(u32, u64), Arc<Process>>,
    old: BTreeMap<(u32, u64), Arc<Process>>,
    since: Instant,
}

impl Default for Memory {
    fn default() -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), since: Instant::now() }
    }
}

impl Memory {
    /// Each of both generations holds so many.
    const MOST: usize = 1_024;
    /// A record refers to one that is at most a second older (`HOLDS` of `events.bpf.c`).
    const HOLDS: Duration = Duration::from_secs(3);

    /// Puts down what the record leaves out. What is not remembered stays unknown, and is said to
    /// be told briefly.
    pub fn complete(&mut self, event: &mut Event) {
        let Some(owner) = &mut event.owner else { return };
        let key = (owner.pid, owner.start_ticks);
        match event.told {
            Told::Briefly => {}
            Told::Whole => {
                self.make_room();
                self.young.insert(key, Arc::clone(owner));
            }
            Told::AsBefore => match self.young.get(&key).or_else(|| self.old.get(&key)) {
                None => event.told = Told::Briefly,
                Some(known) if known.name == owner.name && known.euid == owner.euid => {
                    *owner = Arc::clone(known);
                }
                Some(known) => {
                    let now = Arc::make_mut(owner);
                    (now.ppid, now.parents) = (known.ppid, known.parents.clone());
                    (now.exe, now.exe_state) = (known.exe.clone(), known.exe_state);
                    now.cmdline = known.cmdline.clone();
                }
            },
        }
    }

    fn make_room(&mut self) {
        let now = Instant::now();
        if self.young.len() >= Self::MOST || now - self.since >= Self::HOLDS {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
    }
}

/// Who it is and what it may.
fn identity(record: &[u8], booted: i64) -> Option<Process> {
    let start = u64_at(record, 16)?;
    let mut process =
        Process::new(u32_at(record, 44)?, start / NANOSECONDS_PER_TICK, comm(record.get(100..)?)?, 0);
    process.start_time = Fact::Known(booted.saturating_add_unsigned(start));
    process.uid = Fact::Known(u32_at(record, 48)?);
    process.euid = Fact::Known(u32_at(record, 52)?);
    process.capabilities = Fact::Known(u64_at(record, 32)?);
    Some(process)
}

/// Where it comes from and what it runs.
fn describe(process: &mut Process, record: &[u8], flags: u16) -> Option<()> {
    let parents = parents(record)?;
    process.ppid = parents.first().map_or(0, |parent| parent.pid);
    // A longer chain was cut.
    if parents.len() < PARENTS || parents.last().is_some_and(|last| last.pid == 1) {
        process.parents = Fact::Known(parents);
    }
    let (exe, args) = (usize::from(u16_at(record, 80)?), usize::from(u16_at(record, 82)?));
    if flags & EXE_READ != 0 {
        let names = record.get(HEAD..HEAD + exe)?;
        process.exe_state = match (flags & EXE_UNLINKED != 0, names.starts_with(b"memfd:")) {
            (false, _) => ExeState::Present,
            (true, false) => ExeState::Deleted,
            (true, true) => ExeState::Memory,
        };
        process.exe = Fact::Known(path(names));
    }
    if flags & ARGS_READ != 0 {
        process.cmdline = Fact::Known(arguments(record.get(HEAD + exe..HEAD + exe + args)?));
    }
    Some(())
}

fn parents(record: &[u8]) -> Option<Vec<Ancestor>> {
    let count = usize::from(u16_at(record, 78)?);
    let each = record.get(PARENT..PARENT + PARENTS * (4 + COMM))?.chunks_exact(4 + COMM).take(count);
    each.map(|parent| Some(Ancestor { pid: u32_at(parent, 0)?, name: comm(parent.get(4..)?)? })).collect()
}

/// Ends at the first NUL.
fn comm(bytes: &[u8]) -> Option<Text> {
    let field = bytes.get(..COMM)?;
    Some(field.split(|byte| *byte == 0).next().unwrap_or_default().into())
}

/// Names of folders, the innermost first, each with a NUL.
fn path(names: &[u8]) -> Text {
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.strip_suffix(b"\0").unwrap_or(names).rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend(name);
    }
    path.into()
}

/// As /proc/PID/cmdline has them, each with a NUL.
pub(crate) fn arguments(bytes: &[u8]) -> Vec<Text> {
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.strip_suffix(b"\0").unwrap_or(bytes).split(|byte| *byte == 0).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/usr/bin/nc -l` of pid 42, child of a shell, on 127.0.0.1:4444.
    fn listens() -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [77_u64, 5000, 1_230_000_000, 1, 0x400] {
            bytes.extend(number.to_ne_bytes());
        }
        for number in [4_026_531_840_u32, 42, 1000, 1001, 1000, 0, 5] {
            bytes.extend(number.to_ne_bytes());
        }
        for number in [LISTENS, 2, 6, 4444, EXE_READ | ARGS_READ, 2, 11, 7] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"nc\n\x1b[2J\0\0\0\0\0\0\0\0\0");
        for (pid, name) in [(41_u32, b"bash\0\0\0\0\0\0\0\0\0\0\0\0"), (1, b"init\0\0\0\0\0\0\0\0\0\0\0\0")] {
            bytes.extend(pid.to_ne_bytes());
            bytes.extend(name);
        }
        bytes.resize(HEAD, 0);
        bytes.extend(b"nc\0bin\0usr\0nc\0-l\0\0");
        bytes
    }

    #[test]
    fn a_listener_is_told_with_everything_that_was_read_of_its_process() {
        let event = decode(&listens(), 1_000).unwrap();
        assert_eq!((event.what, event.netns), (What::Listens, 4_026_531_840));
        assert_eq!((event.socket.cookie, event.socket.inode, event.socket.uid), (77, 5000, Some(1000)));
        assert_eq!(event.socket.local, crate::model::sample::endpoint("127.0.0.1:4444"));
        let owner = event.owner.unwrap();
        assert_eq!((owner.pid, owner.start_ticks, owner.ppid), (42, 123, 41));
        assert_eq!(owner.start_time, Fact::Known(1_230_001_000));
        assert_eq!(owner.name.as_bytes(), b"nc\n\x1b[2J");
        assert_eq!(owner.exe, Fact::Known("/usr/bin/nc".into()));
        assert_eq!(owner.exe_state, ExeState::Present);
        assert_eq!(owner.cmdline, Fact::Known(vec!["nc".into(), "-l".into(), "".into()]));
        assert_eq!((&owner.uid, &owner.euid), (&Fact::Known(1000), &Fact::Known(1001)));
        assert_eq!(owner.parents.known().unwrap().len(), 2);
    }

    fn with(mut bytes: Vec<u8>, at: usize, number: u16) -> Vec<u8> {
        bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_bound_datagram_socket_is_told_like_a_listener() {
        let event = decode(&with(with(listens(), 68, BINDS), 72, 17), 0).unwrap();
        let socket = &event.socket;
        assert_eq!(
            (event.what, socket.protocol, socket.kind),
            (What::Binds, Protocol::Udp, SocketType::Dgram)
        );
        assert_eq!((socket.state, socket.role), (State::Unconnected, Role::Receiver));
        assert_eq!(event.owner.unwrap().pid, 42);
        assert!(decode(&with(listens(), 68, BINDS), 0).is_none(), "TCP has no such event");
        assert!(decode(&with(listens(), 72, 17), 0).is_none(), "UDP does not listen");
    }

    #[test]
    fn what_a_record_leaves_out_is_that_of_the_one_before() {
        let mut memory = Memory::default();
        let short = with(listens()[..PARENT].to_vec(), 76, AS_BEFORE);
        let mut unheard = decode(&short, 0).unwrap();
        memory.complete(&mut unheard);
        assert_eq!(unheard.told, Told::Briefly, "nothing is made up");
        assert!(unheard.owner.unwrap().exe.is_unknown());
        let mut whole = decode(&listens(), 0).unwrap();
        memory.complete(&mut whole);
        let mut again = decode(&short, 0).unwrap();
        memory.complete(&mut again);
        assert_eq!(again.owner, whole.owner);
        // Another name and user by now, the same executable.
        let mut renamed = short.clone();
        renamed[52..56].copy_from_slice(&7_u32.to_ne_bytes());
        renamed[100..103].copy_from_slice(b"xy\0");
        let mut renamed = decode(&renamed, 0).unwrap();
        memory.complete(&mut renamed);
        let owner = renamed.owner.unwrap();
        assert_eq!((owner.name.as_bytes(), &owner.euid), (b"xy".as_slice(), &Fact::Known(7)));
        assert_eq!((&owner.exe, owner.ppid), (&whole.owner.unwrap().exe, 41));
        // Another process under the same number is another process.
        let mut other = short;
        other[16..24].copy_from_slice(&9_990_000_000_u64.to_ne_bytes());
        let mut other = decode(&other, 0).unwrap();
        memory.complete(&mut other);
        assert!(other.told == Told::Briefly && other.owner.unwrap().exe.is_unknown());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for pid in 1..10_000_u32 {
            let mut bytes = listens();
            bytes[44..48].copy_from_slice(&pid.to_ne_bytes());
            memory.complete(&mut decode(&bytes, 0).unwrap());
        }
        assert!(memory.young.len() + memory.old.len() <= 2 * Memory::MOST);
    }

    #[test]
    fn what_was_not_read_is_unknown_and_no_empty_answer() {
        let mut bytes = listens();
        bytes[76..78].copy_from_slice(&0_u16.to_ne_bytes());
        let owner = decode(&bytes, 0).unwrap().owner.unwrap();
        assert!(owner.exe.is_unknown() && owner.cmdline.is_unknown());
        assert_eq!(owner.exe_state, ExeState::Unknown);
        bytes[78..80].copy_from_slice(&8_u16.to_ne_bytes());
        assert!(decode(&bytes, 0).unwrap().owner.unwrap().parents.is_unknown(), "the chain was cut");
    }

    #[test]
    fn files_without_name_and_threads_of_the_kernel_are_told_apart() {
        let mut bytes = listens();
        bytes[76..78].copy_from_slice(&(EXE_READ | EXE_UNLINKED).to_ne_bytes());
        assert_eq!(decode(&bytes, 0).unwrap().owner.unwrap().exe_state, ExeState::Deleted);
        bytes[HEAD..HEAD + 11].copy_from_slice(b"memfd:abcd\0");
        assert_eq!(decode(&bytes, 0).unwrap().owner.unwrap().exe_state, ExeState::Memory);
        bytes[76..78].copy_from_slice(&KERNEL.to_ne_bytes());
        let event = decode(&bytes, 0).unwrap();
        assert!(event.owner.is_none());
        assert_eq!(event.socket.owner_gap, Some(crate::model::OwnerGap::Kernel));
    }

    #[test]
    fn every_cut_and_every_foreign_kind_is_refused() {
        let whole = listens();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], 0).is_none(), "{length} bytes");
        }
        let mut foreign = whole.clone();
        foreign[68] = 9;
        assert!(decode(&foreign, 0).is_none());
        // An end is told without its process.
        let mut end = whole[..100].to_vec();
        end[68..70].copy_from_slice(&ENDS.to_ne_bytes());
        let end = decode(&end, 0).unwrap();
        assert!(end.what == What::Ends && end.owner.is_none() && end.socket.state == State::Closed);
    }
}
