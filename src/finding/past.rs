//! What was there once, as it was kept: doors, their changes, and who talked with whom. Arguments
//! and folders of programs are no part of it.

use super::{ChangeKind, Severity, program};
use crate::model::{
    Ancestor, Endpoint, Exposure, Fact, Holder, How, Namespace, NamespaceId, Observation, Process, ProcessId,
    Protocol, Reach, Role, Snapshot, Socket, SocketIndex, Span, State, Text,
};

/// Who held a socket. A fact that was absent or not known is `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PastHolder {
    pub pid: u32,
    pub name: Text,
    pub exe: Option<Text>,
    pub user: Option<Text>,
    pub unit: Option<Text>,
    /// Name of the container, else its id.
    pub container: Option<Text>,
    pub package: Option<Text>,
    /// Name of what started it.
    pub parent: Option<Text>,
}

impl PastHolder {
    /// Of several the one whose name comes first, so that the choice does not hang on pids.
    pub fn of(seen: &Observation<'_>) -> Option<Self> {
        let process = seen.owners().map(|owner| owner.process).min_by_key(|process| &process.name)?;
        let container = process.container.known();
        Some(Self {
            pid: process.pid,
            name: process.name.clone(),
            exe: process.exe.known().cloned(),
            user: process.user.known().cloned(),
            unit: process.unit.known().cloned(),
            container: container.map(|each| each.name.clone().unwrap_or_else(|| each.id.clone())),
            package: process.package.known().cloned(),
            parent: process.parents.known().and_then(|all| all.first()).map(|parent| parent.name.clone()),
        })
    }

    fn process(&self) -> Process {
        let mut process = Process::new(self.pid, 0, self.name.clone(), 0);
        process.exe = self.exe.clone().map_or(Fact::Unknown, Fact::Known);
        process.user = self.user.clone().map_or(Fact::Unknown, Fact::Known);
        process.unit = self.unit.clone().into();
        process.package = self.package.clone().into();
        process.container = Fact::from(self.container.clone().map(|name| crate::model::Container {
            runtime: String::new(),
            id: name.clone(),
            name: Some(name),
            image: None,
        }));
        let parent = self.parent.clone().map(|name| vec![Ancestor { pid: 0, name }]);
        process.parents = parent.map_or(Fact::Unknown, Fact::Known);
        process
    }
}

/// A place where something could receive, with the program that held it. Times are nanoseconds
/// since the epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastDoor {
    pub first_seen: i64,
    pub last_seen: i64,
    /// How often it was seen to open.
    pub times: u64,
    /// Whether it stood at the last look that was kept.
    pub open: bool,
    /// Name of the namespace, `None` for our own and for nameless ones.
    pub netns: Option<Text>,
    pub protocol: Protocol,
    pub local: Endpoint,
    pub holder: Option<PastHolder>,
    pub reach: Option<(Reach, bool)>,
}

impl PastDoor {
    /// As filter words and outputs know sockets: what was not kept is unknown there.
    pub fn snapshot(&self) -> Snapshot {
        let holders = u32::from(self.holder.is_some());
        let tcp = self.protocol == Protocol::Tcp;
        let socket = Socket {
            state: if tcp { State::Listen } else { State::Unconnected },
            role: if tcp { Role::Listener } else { Role::Receiver },
            local: self.local.clone(),
            holders: Span { start: 0, len: holders },
            exposure: self
                .reach
                .map(|(reach, certain)| Box::new(Exposure { reach, certain, paths: Vec::new() })),
            ..Socket::blank(self.protocol, NamespaceId(0))
        };
        let name = self.netns.clone();
        Snapshot {
            taken_at: self.last_seen,
            namespaces: vec![Namespace { own: name.is_none(), name, ..Namespace::default() }],
            processes: self.holder.iter().map(PastHolder::process).collect(),
            holders: self
                .holder
                .iter()
                .map(|_| Holder { process: ProcessId(0), fd: -1, how: How::Fd })
                .collect(),
            sockets: vec![socket],
            ..Snapshot::default()
        }
    }
}

/// The socket of [`PastDoor::snapshot`].
pub const THE_DOOR: SocketIndex = SocketIndex(0);

/// A finding as it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastFinding {
    pub fingerprint: String,
    pub rule: String,
    pub title: String,
    pub severity: Severity,
    pub message: String,
}

/// One piece of news.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastChange {
    pub at: i64,
    pub kind: ChangeKind,
    /// What made it be seen: start, look, event, reconciliation.
    pub seen_by: String,
    pub before: Option<PastDoor>,
    pub after: Option<PastDoor>,
    pub finding: Option<PastFinding>,
}

/// Conversations of one program with one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastTalk {
    pub first_seen: i64,
    pub last_seen: i64,
    /// How many connections were seen.
    pub times: u64,
    pub protocol: Protocol,
    /// `Inbound` where the other side began it, `Outbound` where we did, `Peer` where nobody can tell.
    pub role: Role,
    pub peer: std::net::IpAddr,
    /// The port that was called: ours when the other side began, else theirs.
    pub port: u16,
    pub netns: Option<Text>,
    pub holder: Option<PastHolder>,
}

/// A time in which somebody kept watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    pub began: i64,
    /// The last moment that was kept.
    pub until: i64,
    pub version: String,
    /// What could not be kept.
    pub lost: u64,
}

/// What a namespace and a program are known by over restarts: the name of the namespace, else its
/// inode unless it is our own; unit, image or executable.
pub fn whose(seen: &Observation<'_>) -> (Vec<u8>, Vec<u8>) {
    let namespace = seen.namespace();
    let netns = match &namespace.name {
        Some(name) => name.as_bytes().to_vec(),
        None if namespace.own => Vec::new(),
        None => namespace.inode.to_string().into_bytes(),
    };
    (netns, program(seen).unwrap_or_default())
}
