//! Small hand-made machines for tests: the unit tests of every room, the suite and the fuzz
//! targets build their snapshots here, so that they agree on what a host looks like.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{
    AddrRange, Ancestor, Endpoint, Entry, Exposure, Fact, FilterState, Holder, Host, How, Interface,
    InterfaceKind, Namespace, NamespaceId, Path, PortRange, Process, ProcessId, Protocol, Reach, Role,
    Snapshot, Socket, SocketIndex, SocketType, Span, State, Sysctls, Text, Verdict,
};

/// A machine with the namespaces, interfaces and users of a small server, and no sockets yet.
#[derive(Clone, Debug)]
pub struct Sample {
    pub snapshot: Snapshot,
}

impl Default for Sample {
    fn default() -> Self {
        Self::new()
    }
}

impl Sample {
    /// Own namespace 4026531840 with `lo` and `eth0` (203.0.113.5, 2001:db8::5), no packet filter.
    pub fn new() -> Self {
        let interfaces = vec![
            interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"]),
            interface(2, "eth0", InterfaceKind::Ethernet, &["203.0.113.5/24", "2001:db8::5/64"]),
        ];
        let own = Namespace {
            inode: 4_026_531_840,
            cookie: Some(1),
            name: None,
            own: true,
            interfaces: Fact::Known(interfaces),
            filter: FilterState::None,
            translates: Some(false),
            sysctls: Sysctls {
                ephemeral: Some((32768, 60999)),
                unprivileged_start: Some(1024),
                forward_v4: Some(false),
                forward_v6: Some(false),
                route_localnet: Some(false),
            },
            ..Namespace::default()
        };
        let host = Host {
            name: "web1".into(),
            os: "Debian GNU/Linux 12".into(),
            kernel: "6.1.0".into(),
            boot_id: Some("5b3f8c1e-0000-4000-8000-000000000001".into()),
            dmi: None,
        };
        let snapshot = Snapshot {
            taken_at: 1_795_000_000_000_000_000,
            host,
            users: vec!["root".into(), "www-data".into(), "redis".into()],
            namespaces: vec![own],
            ..Snapshot::default()
        };
        Self { snapshot }
    }

    /// A process whose every fact is known: started from `exe`, as root, in no unit or container.
    pub fn process(&mut self, pid: u32, exe: &str) -> &mut Process {
        let name = exe.rsplit('/').next().unwrap_or(exe);
        let mut process = Process::new(pid, u64::from(pid) * 100, Text::from(name), 1);
        process.start_time = Fact::Known(1_794_990_000_000_000_000);
        process.exe = Fact::Known(exe.into());
        process.exe_state = super::ExeState::Present;
        process.cmdline = Fact::Known(vec![exe.into()]);
        process.cwd = Fact::Known("/".into());
        process.uid = Fact::Known(0);
        process.euid = Fact::Known(0);
        process.user = Fact::Known("root".into());
        process.capabilities = Fact::Known(0);
        process.unit = Fact::Absent;
        process.container = Fact::Absent;
        process.package = Fact::Absent;
        process.parents = Fact::Known(vec![Ancestor { pid: 1, name: "systemd".into() }]);
        process.netns = Fact::Known(self.snapshot.namespaces[0].inode);
        self.snapshot.processes.push(process);
        self.snapshot.processes.last_mut().expect("just pushed")
    }

    /// A socket held by the processes of these pids (which must have been made), with descriptor
    /// 3. Inode and cookie count up from 1000.
    pub fn socket(&mut self, protocol: Protocol, state: State, local: &str, pids: &[u32]) -> &mut Socket {
        let start = u32::try_from(self.snapshot.holders.len()).expect("small");
        for pid in pids {
            let found = self.snapshot.processes.iter().position(|process| process.pid == *pid);
            let process = ProcessId(u32::try_from(found.expect("process was made")).expect("small"));
            self.snapshot.holders.push(Holder { process, fd: 3, how: How::Fd });
        }
        let number = 1000 + self.snapshot.sockets.len() as u64;
        self.snapshot.sockets.push(Socket {
            kind: kind(protocol),
            state,
            role: if state == State::Listen { Role::Listener } else { Role::Idle },
            local: endpoint(local),
            inode: number,
            cookie: number,
            uid: Some(0),
            user: Some(0),
            holders: Span { start, len: u32::try_from(pids.len()).expect("small") },
            queues: (0, if state == State::Listen { 128 } else { 0 }),
            ..Socket::blank(protocol, NamespaceId(0))
        });
        self.snapshot.sockets.last_mut().expect("just pushed")
    }

    /// A TCP listener with a path from everywhere through `eth0`, or through `lo` for `Host`.
    pub fn listener(&mut self, local: &str, reach: Reach, pids: &[u32]) -> &mut Socket {
        let Endpoint::Inet(address, port) = endpoint(local) else { panic!("not an address: {local}") };
        let all = if address.is_ipv4() { AddrRange::ALL_V4 } else { AddrRange::ALL_V6 };
        let wildcard = address.is_unspecified();
        let path = Path {
            entry: Arc::new(Entry {
                netns: NamespaceId(0),
                interfaces: vec![if reach == Reach::Host { "lo" } else { "eth0" }.into()],
            }),
            destinations: [if wildcard { all } else { AddrRange::one(address) }].into(),
            ports: Some(vec![PortRange { first: port, last: port }]),
            sources: [all].into(),
            verdict: Verdict::Accept,
            because: Vec::new(),
        };
        let socket = self.socket(Protocol::Tcp, State::Listen, local, pids);
        socket.v6only = address.is_ipv6().then_some(true);
        socket.exposure = Some(Box::new(Exposure { reach, certain: true, paths: vec![path] }));
        socket
    }

    /// Every socket, in order: the selection of a command without filter.
    pub fn everything(&self) -> Vec<SocketIndex> {
        self.snapshot.observations().map(|each| each.index).collect()
    }
}

/// `ADDR:PORT`, `@abstract`, `/path`, or empty for no address.
pub fn endpoint(text: &str) -> Endpoint {
    if let Some(name) = text.strip_prefix('@') {
        return Endpoint::UnixAbstract(name.into());
    }
    match text {
        "" => Endpoint::None,
        path if path.starts_with('/') => Endpoint::UnixPath(path.into()),
        address => {
            let address: std::net::SocketAddr = address.parse().expect("ADDR:PORT");
            Endpoint::Inet(super::canonical(address.ip()), address.port())
        }
    }
}

/// An interface that is up, with these addresses.
pub fn interface(index: u32, name: &str, kind: InterfaceKind, addresses: &[&str]) -> Interface {
    let addresses: Vec<IpNet> = addresses.iter().map(|text| text.parse().expect("CIDR")).collect();
    let physical = kind == InterfaceKind::Ethernet;
    Interface {
        index,
        name: name.into(),
        kind,
        up: true,
        promiscuous: false,
        master: None,
        link: None,
        default_v4: physical && addresses.iter().any(|each| matches!(each.addr(), IpAddr::V4(_))),
        default_v6: physical && addresses.iter().any(|each| matches!(each.addr(), IpAddr::V6(_))),
        groups: Vec::new(),
        rp_filter: None,
        settings: super::LinkSettings::default(),
        addresses,
    }
}

fn kind(protocol: Protocol) -> SocketType {
    match protocol {
        Protocol::Tcp
        | Protocol::Mptcp
        | Protocol::Sctp
        | Protocol::Unix
        | Protocol::Vsock
        | Protocol::Smc => SocketType::Stream,
        Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => SocketType::Dgram,
        Protocol::Raw | Protocol::Packet | Protocol::Netlink | Protocol::Key | Protocol::Xdp => {
            SocketType::Raw
        }
        Protocol::Dccp | Protocol::Alg => SocketType::Seqpacket,
        Protocol::Tipc | Protocol::Can | Protocol::Bluetooth | Protocol::Other(_) => SocketType::Unknown,
    }
}
