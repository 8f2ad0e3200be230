//! The words of a rule file: every fact that a condition may name, where it stands and which values
//! it takes. Compiler, matcher, coverage and the JSON Schema all read this one list.

use crate::model::{ExeState, How, OwnerGap, Protocol, Reach, Role, SocketType, State};

/// Where a condition stands, and with it which facts it may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    Socket,
    Process,
    Host,
}

impl Scope {
    pub(super) fn place(self) -> &'static str {
        match self {
            Self::Socket => "a condition on a socket",
            Self::Process => "a condition on a process",
            Self::Host => "a condition on the host",
        }
    }
}

/// Which values a fact takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One of these words; the code of a word is its place in the list.
    Word(fn() -> Vec<&'static str>),
    /// Protocols may also be `family-N`.
    Protocol,
    /// Words in order of width, which can be compared.
    Reach,
    /// A number up to this one.
    Number(u64),
    Flag,
    Address,
    Text,
    /// One word of a command line, or several in a row.
    Words,
    /// Permission bits: `o+w`.
    Mode,
    Capability,
    /// What a standard stream points to.
    Stream,
    /// Only whether it is there: `any`, `none`.
    Presence,
}

macro_rules! facts {
    ($($key:ident = $scope:ident $name:literal $kind:expr, $words:literal;)+) => {
        /// A fact of an observation that a condition can ask for, cheapest first.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub(super) enum Key { $($key),+ }

        pub(super) const FACTS: &[Fact] = &[
            $(Fact { key: Key::$key, scope: Scope::$scope, name: $name, kind: $kind, words: $words }),+
        ];
    };
}

/// One entry of the vocabulary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) key: Key,
    pub(super) scope: Scope,
    /// As written in its table; a dot stands for a table within.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it is, for the schema and for descriptions.
    pub(super) words: &'static str,
}

const PORT: Kind = Kind::Number(u16::MAX as u64);
const ID: Kind = Kind::Number(u32::MAX as u64);

facts! {
    Protocol = Socket "protocol" Kind::Protocol, "what the socket speaks";
    Role = Socket "role" Kind::Word(roles), "what it does for its program";
    State = Socket "state" Kind::Word(states), "the state of the socket";
    Type = Socket "type" Kind::Word(types), "the type of the socket";
    ProtocolNumber = Socket "protocol_number" ID, "IP protocol, netlink bus or ethertype";
    Port = Socket "port" PORT, "local port";
    Rport = Socket "rport" PORT, "remote port";
    Inode = Socket "inode" Kind::Flag, "whether the socket has an inode";
    V6only = Socket "v6only" Kind::Flag, "whether an IPv6 socket refuses IPv4";
    Uid = Socket "uid" ID, "user id of the socket's owner";
    Filtered = Socket "filtered" Kind::Flag, "whether a socket filter is attached";
    Reach = Socket "reach" Kind::Reach, "the widest class of senders that get in";
    Certain = Socket "certain" Kind::Flag, "whether the reach is certain";
    Owned = Socket "owned" Kind::Flag, "whether some process holds it";
    OwnerGap = Socket "owner_gap" Kind::Word(owner_gaps), "why nobody holds it";
    NetnsOwn = Socket "netns.own" Kind::Flag, "whether it lives in the namespace of sockwarden";
    NetnsName = Socket "netns.name" Kind::Text, "name of its network namespace";
    AccessMode = Socket "access.mode" Kind::Mode, "permission bits of a UNIX socket's file";
    AccessUid = Socket "access.uid" ID, "owner of a UNIX socket's file";
    AccessGid = Socket "access.gid" ID, "group of a UNIX socket's file";
    AccessUsers = Socket "access.users" Kind::Text, "who may connect to a UNIX socket";
    Address = Socket "address" Kind::Address, "local address";
    Remote = Socket "remote" Kind::Address, "remote address";
    Path = Socket "path" Kind::Text, "path of a UNIX socket";
    Abstract = Socket "abstract" Kind::Text, "abstract name of a UNIX socket";
    Interface = Socket "interface" Kind::Text, "interface that it is bound to";
    Groups = Socket "groups" Kind::Text, "multicast or netlink groups";
    Ephemeral = Socket "ephemeral" Kind::Flag, "whether the port is of the kernel's automatic range";
    User = Socket "user" Kind::Text, "owner of the socket, or effective user of a holder";
    Upstream = Host "upstream" Kind::Word(upstreams), "how the world addresses the host";
    Forwarding = Host "forwarding" Kind::Flag, "whether packets are forwarded";
    Filter = Host "filter" Kind::Flag, "whether a packet filter exists";
    Promiscuous = Host "promiscuous" Kind::Flag, "whether an interface is promiscuous";
    RouteLocalnet = Host "route_localnet" Kind::Flag, "whether 127.0.0.0/8 is routed";
    UnprivilegedStart = Host "unprivileged_port_start" PORT, "first port that needs no privilege";
    Pid = Process "pid" ID, "process id";
    How = Process "how" Kind::Word(hows), "how the process holds the socket";
    ProcessUid = Process "uid" ID, "real user id";
    Euid = Process "euid" ID, "effective user id";
    ExeState = Process "exe_state" Kind::Word(exe_states), "what became of the executable";
    Capabilities = Process "capabilities" Kind::Capability, "effective capabilities";
    Name = Process "name" Kind::Text, "name of the process (comm)";
    Program = Process "program" Kind::Text, "last part of the executable's path";
    Exe = Process "exe" Kind::Text, "path of the executable";
    Script = Process "script" Kind::Text, "what an interpreter runs";
    ProcessUser = Process "user" Kind::Text, "effective user";
    Unit = Process "unit" Kind::Text, "systemd unit";
    Package = Process "package" Kind::Text, "package of the executable";
    Cwd = Process "cwd" Kind::Text, "working directory";
    Container = Process "container" Kind::Presence, "whether it runs in a container";
    ContainerRuntime = Process "container.runtime" Kind::Text, "docker, podman, …";
    ContainerId = Process "container.id" Kind::Text, "id of its container";
    ContainerName = Process "container.name" Kind::Text, "name of its container";
    ContainerImage = Process "container.image" Kind::Text, "image of its container";
    Stdin = Process "stdin" Kind::Stream, "standard input";
    Stdout = Process "stdout" Kind::Stream, "standard output";
    Stderr = Process "stderr" Kind::Stream, "standard error";
    Stdio = Process "stdio" Kind::Stream, "one of the standard streams";
    Parents = Process "parents" Kind::Text, "names of the processes that started it";
    Cmdline = Process "cmdline" Kind::Words, "words of the command line";
}

impl Key {
    pub(super) fn fact(self) -> &'static Fact {
        &FACTS[self as usize]
    }

    /// As written from the top of `[when]`.
    pub(super) fn full_name(self) -> String {
        let fact = self.fact();
        match fact.scope {
            Scope::Socket => fact.name.to_owned(),
            Scope::Process => format!("process.{}", fact.name),
            Scope::Host => format!("host.{}", fact.name),
        }
    }

    /// Facts of which a socket or process has several at once.
    pub(super) fn is_many(self) -> bool {
        matches!(
            self,
            Self::Groups
                | Self::AccessUsers
                | Self::AccessMode
                | Self::User
                | Self::Capabilities
                | Self::Parents
                | Self::Cmdline
                | Self::Stdio
                | Self::How
                | Self::Unit
        )
    }

    /// The protocols whose sockets can have this fact.
    pub(super) fn fits(self, protocol: Protocol) -> bool {
        let (ip, unix) = (protocol.is_ip(), protocol == Protocol::Unix);
        if matches!(self, Self::Port | Self::Rport) {
            return protocol.has_ports() || protocol == Protocol::Vsock;
        }
        if matches!(self, Self::Address | Self::Remote | Self::V6only) {
            return ip;
        }
        if self == Self::Ephemeral {
            return protocol.has_ports();
        }
        if matches!(self, Self::Path | Self::Abstract)
            || matches!(self, Self::AccessMode | Self::AccessUid | Self::AccessGid | Self::AccessUsers)
        {
            return unix;
        }
        if matches!(self, Self::Reach | Self::Certain) {
            return ip || unix || protocol == Protocol::Vsock;
        }
        if self == Self::ProtocolNumber {
            return matches!(
                protocol,
                Protocol::Raw | Protocol::Icmp | Protocol::Netlink | Protocol::Packet | Protocol::Other(_)
            );
        }
        self != Self::Groups || ip || protocol == Protocol::Netlink
    }

    /// Facts that say what the socket or its program is, not how it stands.
    pub(super) fn is_identity(self) -> bool {
        matches!(
            self,
            Self::Port
                | Self::Path
                | Self::Abstract
                | Self::Name
                | Self::Program
                | Self::Exe
                | Self::Script
                | Self::Cmdline
                | Self::Unit
                | Self::Package
                | Self::ContainerImage
                | Self::ContainerName
                | Self::Stdin
                | Self::Stdout
                | Self::Stderr
                | Self::Stdio
                | Self::Parents
        )
    }

    /// Facts that only say which kind of socket it is.
    pub(super) fn is_structure(self) -> bool {
        matches!(self, Self::Protocol | Self::Type | Self::State | Self::Role)
    }
}

/// Finds a fact by the name it has in its table (`access.mode`).
pub(super) fn find(scope: Scope, name: &str) -> Option<&'static Fact> {
    FACTS.iter().find(|fact| fact.scope == scope && fact.name == name)
}

/// First parts of the dotted names: tables that may stand in this scope.
pub(super) fn tables(scope: Scope) -> impl Iterator<Item = &'static str> {
    FACTS
        .iter()
        .filter(move |fact| fact.scope == scope)
        .filter_map(|fact| fact.name.split_once('.'))
        .map(|(table, _)| table)
}

/// The words that a kind of enumerated fact takes, in the order of their codes.
pub(super) fn words(kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::Word(words) => words(),
        Kind::Protocol => PROTOCOLS.to_vec(),
        Kind::Reach => Reach::ALL.iter().map(|each| each.name()).collect(),
        Kind::Capability => CAPABILITIES.to_vec(),
        Kind::Number(_)
        | Kind::Flag
        | Kind::Address
        | Kind::Text
        | Kind::Words
        | Kind::Mode
        | Kind::Stream
        | Kind::Presence => Vec::new(),
    }
}

fn roles() -> Vec<&'static str> {
    Role::ALL.iter().map(|each| each.name()).collect()
}

fn states() -> Vec<&'static str> {
    State::ALL.iter().filter(|each| **each != State::Unknown).map(|each| each.name()).collect()
}

fn types() -> Vec<&'static str> {
    SocketType::ALL.iter().filter(|each| **each != SocketType::Unknown).map(|each| each.name()).collect()
}

fn owner_gaps() -> Vec<&'static str> {
    OwnerGap::ALL.iter().map(|each| each.name()).collect()
}

fn hows() -> Vec<&'static str> {
    How::ALL.iter().map(|each| each.name()).collect()
}

fn exe_states() -> Vec<&'static str> {
    ExeState::ALL.iter().filter(|each| **each != ExeState::Unknown).map(|each| each.name()).collect()
}

/// In the order of `model::Upstream`.
fn upstreams() -> Vec<&'static str> {
    vec!["direct", "router", "one-to-one"]
}

/// In the order of `Protocol::NAMED`.
pub(super) const PROTOCOLS: &[&str] = &[
    "tcp",
    "udp",
    "udplite",
    "mptcp",
    "sctp",
    "dccp",
    "icmp",
    "raw",
    "packet",
    "unix",
    "netlink",
    "vsock",
    "xdp",
    "alg",
    "key",
    "tipc",
    "can",
    "bluetooth",
    "smc",
];

/// Codes of protocols without a name of their own: this plus the address family.
pub(super) const FAMILY: u32 = 1000;

/// The code of a protocol among the patterns.
pub(super) fn protocol_code(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::UdpLite => 2,
        Protocol::Mptcp => 3,
        Protocol::Sctp => 4,
        Protocol::Dccp => 5,
        Protocol::Icmp => 6,
        Protocol::Raw => 7,
        Protocol::Packet => 8,
        Protocol::Unix => 9,
        Protocol::Netlink => 10,
        Protocol::Vsock => 11,
        Protocol::Xdp => 12,
        Protocol::Alg => 13,
        Protocol::Key => 14,
        Protocol::Tipc => 15,
        Protocol::Can => 16,
        Protocol::Bluetooth => 17,
        Protocol::Smc => 18,
        Protocol::Other(family) => FAMILY + u32::from(family),
    }
}

/// Capability names in the order of their bits (linux/capability.h).
pub(super) const CAPABILITIES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Counts over other sockets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum GroupKind {
    Others,
    Accepted,
    SamePort,
    Peer,
}

impl GroupKind {
    pub(super) const ALL: [Self; 4] = [Self::Others, Self::Accepted, Self::SamePort, Self::Peer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Others => "others",
            Self::Accepted => "accepted",
            Self::SamePort => "same_port",
            Self::Peer => "peer",
        }
    }
}

/// What `differs` may name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Differs {
    User,
    Exe,
    Unit,
    Container,
    Address,
    Process,
}

impl Differs {
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("user", Self::User),
        ("exe", Self::Exe),
        ("unit", Self::Unit),
        ("container", Self::Container),
        ("address", Self::Address),
        ("process", Self::Process),
    ];
}

/// Keys at the top of a rule file.
pub(super) const TOP: &[&str] = &[
    "title",
    "severity",
    "confidence",
    "why",
    "references",
    "override",
    "when",
    "probably",
    "remedy",
    "fires",
    "quiet",
];
/// Keys of `[probably]`, all of which must be there.
pub(super) const PROBABLY: &[&str] = &["title", "severity", "confidence", "when"];
pub(super) const REMEDY: &[&str] = &["kind", "title", "commands", "undo", "verify", "note"];
pub(super) const REMEDY_KINDS: &[&str] = &["service", "unit", "firewall"];
pub(super) const CONFIDENCES: &[&str] = &["low", "medium", "high"];
pub(super) const SEVERITIES: &[&str] = &["info", "low", "medium", "high", "critical"];
/// Forms of references that are no URL.
pub(super) const REFERENCES: &[&str] =
    &["attack", "cis", "cve", "cwe", "stig", "rfc", "shadowserver", "lynis", "falco", "sigma", "prowler"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_lists_they_stand_for() {
        for (code, protocol) in Protocol::NAMED.into_iter().enumerate() {
            assert_eq!(protocol_code(protocol) as usize, code);
            assert_eq!(PROTOCOLS[code], protocol.name());
        }
        for (index, fact) in FACTS.iter().enumerate() {
            assert_eq!(fact.key as usize, index);
            assert_eq!(find(fact.scope, fact.name).map(|found| found.key), Some(fact.key));
        }
        for (list, all) in [
            (states(), State::ALL.len()),
            (types(), SocketType::ALL.len()),
            (exe_states(), ExeState::ALL.len()),
        ] {
            assert_eq!(list.len() + 1, all, "`unknown` is the last and is no word of a rule");
        }
    }
}
