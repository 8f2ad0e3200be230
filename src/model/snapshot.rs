//! One moment of one machine.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Holder, Host, Namespace, NamespaceId, Process, ProcessId, Protocol, Socket, SocketIndex, Text,
    Upstream,
};

/// Which facts a command needs: the rest is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// Who holds each socket.
    pub owners: bool,
    /// Executable, arguments, users, rights, unit, container, parents of each holder.
    pub processes: bool,
    /// Standard streams and present network namespace of each holder, which rules alone ask for.
    pub streams: bool,
    /// Unit and container of each holder, which `processes` includes.
    pub units: bool,
    /// The package that each executable comes from (reads the package data base).
    pub packages: bool,
    /// Interfaces, filters and sysctls of each namespace, permissions of UNIX sockets.
    pub places: bool,
    /// Every network namespace, or only our own.
    pub all_namespaces: bool,
    /// No descriptor is duplicated to ask a socket of a family that the kernel's tables list as soon
    /// as it can be spoken to. A duplicate keeps a port taken for a moment: whoever looks again and
    /// again would one day be in the way of a program that closes and binds anew.
    pub gentle: bool,
    /// The words of rules that we cannot write ourselves, from the programs that keep them. It starts a
    /// process, so it is not among `EVERYTHING`.
    pub texts: bool,
}

impl Wants {
    pub const NOTHING: Self = Self {
        owners: false,
        processes: false,
        streams: false,
        units: false,
        packages: false,
        places: false,
        all_namespaces: false,
        gentle: false,
        texts: false,
    };
    pub const EVERYTHING: Self = Self {
        owners: true,
        processes: true,
        streams: true,
        units: true,
        packages: true,
        places: true,
        all_namespaces: true,
        gentle: false,
        texts: false,
    };
}

/// Short fixed name of a kind of gap: `owners-hidden`, `netns-unreadable`, `filter-unread`.
pub type GapId = Cow<'static, str>;

/// Something that could not be seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    pub id: GapId,
    /// "processes of other users".
    pub what: String,
    /// "permission denied on /proc/PID/fd".
    pub why: String,
    /// The one command or setting that lifts it, where there is one.
    pub remedy: Option<String>,
    /// How many processes, sockets or namespaces it concerns.
    pub count: u64,
    /// What could not be listed at all: a protocol (`None`: every one) in a namespace (`None`: such
    /// as nobody knows of, not our own). `None` when the gap hides no socket.
    pub unlisted: Option<(Option<Protocol>, Option<NamespaceId>)>,
}

/// Everything seen at one moment, in a fixed order, with what could not be seen.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Nanoseconds since the epoch.
    pub taken_at: i64,
    pub host: Host,
    pub namespaces: Vec<Namespace>,
    pub processes: Vec<Process>,
    pub holders: Vec<Holder>,
    pub sockets: Vec<Socket>,
    /// Names of the users that own sockets, each once (`Socket::user`).
    pub users: Vec<Text>,
    pub gaps: Vec<Gap>,
    pub evidence: Vec<Evidence>,
    /// Whether the world can address this host, as told or guessed when exposures were judged.
    #[serde(default)]
    pub upstream: Option<Upstream>,
}

impl Snapshot {
    pub fn observe(&self, index: SocketIndex) -> Observation<'_> {
        Observation { snapshot: self, index, socket: &self.sockets[index.0 as usize] }
    }

    pub fn observations(&self) -> impl Iterator<Item = Observation<'_>> {
        self.sockets.iter().enumerate().map(|(index, socket)| Observation {
            snapshot: self,
            index: SocketIndex(u32::try_from(index).unwrap_or(u32::MAX)),
            socket,
        })
    }

    pub fn namespace(&self, id: NamespaceId) -> &Namespace {
        &self.namespaces[id.0 as usize]
    }

    pub fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0 as usize]
    }
}

/// A socket together with everything known about it: all that a rule or an output may see.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'s> {
    pub snapshot: &'s Snapshot,
    pub index: SocketIndex,
    pub socket: &'s Socket,
}

/// One process among the holders, with all its references.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'s> {
    pub process: &'s Process,
    pub id: ProcessId,
    /// Never empty; all of this process.
    pub holders: &'s [Holder],
}

impl<'s> Observation<'s> {
    pub fn namespace(&self) -> &'s Namespace {
        self.snapshot.namespace(self.socket.netns)
    }

    /// Every process that holds the socket, ordered by pid; holders are kept in that order.
    pub fn owners(&self) -> impl Iterator<Item = Owner<'s>> + use<'s> {
        let snapshot = self.snapshot;
        snapshot.holders[self.socket.holders.range()].chunk_by(|a, b| a.process == b.process).map(
            move |holders| Owner {
                process: snapshot.process(holders[0].process),
                id: holders[0].process,
                holders,
            },
        )
    }

    /// Name of the socket's owner, as the holder's own `/etc/passwd` or ours gives it.
    pub fn user(&self) -> Option<&'s Text> {
        self.snapshot.users.get(self.socket.user? as usize)
    }

    /// Every systemd unit that has to do with this socket: those of its holders, then the socket
    /// units that made it and the services that they start. A unit may appear twice.
    pub fn units(&self) -> impl Iterator<Item = &'s Text> + use<'s> {
        let socket = self.socket;
        let made = socket.activation.iter().flat_map(|each| each.units.iter().chain(&each.services));
        self.owners().filter_map(|owner| owner.process.unit.known()).chain(made)
    }

    /// The interface that the socket is bound to.
    pub fn interface(&self) -> Option<&'s super::Interface> {
        let index = self.socket.interface;
        self.namespace().interfaces.known()?.iter().find(|each| index != 0 && each.index == index)
    }
}
