//! One kernel endpoint.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Access, Exposure, NamespaceId, Published, Text};

/// Index into `Snapshot::sockets`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SocketIndex(pub u32);

/// A run of elements in one of the snapshot's flat lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// What the endpoint speaks. `Other` carries the address family number of `<linux/socket.h>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
    UdpLite,
    Mptcp,
    Sctp,
    Dccp,
    /// `SOCK_DGRAM` with `IPPROTO_ICMP` or `IPPROTO_ICMPV6` ("ping sockets").
    Icmp,
    Raw,
    Packet,
    Unix,
    Netlink,
    Vsock,
    Xdp,
    Alg,
    Key,
    Tipc,
    Can,
    Bluetooth,
    Smc,
    Other(u16),
}

impl Protocol {
    /// The name used in JSON, filters, rules and tables.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udplite",
            Self::Mptcp => "mptcp",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
            Self::Icmp => "icmp",
            Self::Raw => "raw",
            Self::Packet => "packet",
            Self::Unix => "unix",
            Self::Netlink => "netlink",
            Self::Vsock => "vsock",
            Self::Xdp => "xdp",
            Self::Alg => "alg",
            Self::Key => "key",
            Self::Tipc => "tipc",
            Self::Can => "can",
            Self::Bluetooth => "bluetooth",
            Self::Smc => "smc",
            Self::Other(family) => return Cow::Owned(format!("family-{family}")),
        })
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED
            .into_iter()
            .find(|known| known.name() == name)
            .or_else(|| name.strip_prefix("family-").and_then(|number| number.parse().ok()).map(Self::Other))
    }

    /// Every protocol that has a name of its own.
    pub const NAMED: [Self; 19] = [
        Self::Tcp,
        Self::Udp,
        Self::UdpLite,
        Self::Mptcp,
        Self::Sctp,
        Self::Dccp,
        Self::Icmp,
        Self::Raw,
        Self::Packet,
        Self::Unix,
        Self::Netlink,
        Self::Vsock,
        Self::Xdp,
        Self::Alg,
        Self::Key,
        Self::Tipc,
        Self::Can,
        Self::Bluetooth,
        Self::Smc,
    ];

    /// Whether its addresses are IP addresses.
    pub fn is_ip(self) -> bool {
        matches!(
            self,
            Self::Tcp
                | Self::Udp
                | Self::UdpLite
                | Self::Mptcp
                | Self::Sctp
                | Self::Dccp
                | Self::Icmp
                | Self::Raw
                | Self::Smc
        )
    }

    /// Whether it has a local port number that a sender can name.
    pub fn has_ports(self) -> bool {
        self.is_ip() && !matches!(self, Self::Icmp | Self::Raw)
    }
}

/// Its name.
impl Serialize for Protocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| serde::de::Error::custom(format_args!("no protocol {name:?}")))
    }
}

/// Defines an enum whose variants have one name each, used in JSON, filters, rules and tables.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }
    };
}
pub(crate) use named;

named! {
    /// `SO_TYPE` (socket(2)).
    SocketType {
        Stream = "stream", Dgram = "dgram", Raw = "raw", Rdm = "rdm", Seqpacket = "seqpacket",
        Packet = "packet", Unknown = "unknown",
    }
}

named! {
    /// TCP's states for whatever has them; `Bound` and `Unconnected` for what has not;
    /// `Published` for a port that address translation offers without a socket behind it.
    State {
        Listen = "listen", Established = "established", SynSent = "syn-sent", SynRecv = "syn-recv",
        FinWait1 = "fin-wait-1", FinWait2 = "fin-wait-2", TimeWait = "time-wait", Closed = "closed",
        CloseWait = "close-wait", LastAck = "last-ack", Closing = "closing", Bound = "bound",
        Unconnected = "unconnected", Published = "published", Unknown = "unknown",
    }
}

named! {
    /// What the endpoint does for its program. `Peer`: connected, and nobody can tell who called
    /// (a socket pair, a conversation whose listener is gone and whose ports tell nothing).
    Role {
        Listener = "listener", Inbound = "inbound", Outbound = "outbound", Peer = "peer",
        Receiver = "receiver", Idle = "idle", Published = "published",
    }
}

named! {
    /// Why a socket has no owner in the list.
    OwnerGap {
        /// Some process could not be looked into.
        Hidden = "hidden",
        /// Held by the kernel itself (WireGuard, VXLAN, NFS).
        Kernel = "kernel",
        TimeWait = "time-wait",
        /// Waits in a listener's queue.
        NotYetAccepted = "not-yet-accepted",
        /// Its only reference waits in an unread `SCM_RIGHTS` message.
        InFlight = "in-flight",
        /// Closed between the dump and the walk.
        Gone = "gone",
    }
}

/// One end of a socket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    #[default]
    None,
    /// Canonical address (never `::ffff:`) and port, in host byte order; port 0 for raw and ICMP
    /// sockets without identifier.
    Inet(IpAddr, u16),
    /// `sun_path` without the trailing NUL.
    UnixPath(Text),
    /// The name behind the leading NUL byte (unix(7)).
    UnixAbstract(Text),
    Vsock {
        cid: u32,
        port: u32,
    },
    /// Index of the interface, for packet and XDP sockets; 0 stands for all.
    Interface(u32),
}

/// What systemd does when somebody calls at a socket that it made (systemd.socket(5)). More than
/// one entry means that several unit files describe this very socket and nothing tells which.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Activation {
    /// `ssh.socket`
    pub units: Vec<Text>,
    /// `ssh.service`, or `ssh@.service` with `Accept=yes`.
    pub services: Vec<Text>,
}

/// One kernel endpoint. Owners and namespace are indices into the snapshot that holds it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Socket {
    pub protocol: Protocol,
    pub kind: SocketType,
    pub state: State,
    pub role: Role,
    /// Raw: IP protocol; netlink: bus; packet: ethertype.
    pub protocol_number: Option<u32>,
    pub netns: NamespaceId,
    pub local: Endpoint,
    pub remote: Endpoint,
    /// The socket at the other end, where that is on this computer.
    pub peer: Option<SocketIndex>,
    pub v6only: Option<bool>,
    /// Index of the interface that the socket is bound to (`SO_BINDTODEVICE`), 0 for none.
    pub interface: u32,
    /// Multicast groups as text, or netlink group numbers.
    pub groups: Box<[Text]>,
    /// 0 when the kernel gives none.
    pub inode: u64,
    /// 0 when the kernel gives none.
    pub cookie: u64,
    /// Owner of the socket (`sk_uid`).
    pub uid: Option<u32>,
    /// Name of that uid: an index into `Snapshot::users`. `None` where nobody could tell.
    pub user: Option<u32>,
    /// Socket unit that made it, and the service that it starts, where a service manager holds it.
    pub activation: Option<Box<Activation>>,
    /// Who holds it: a run of `Snapshot::holders`.
    pub holders: Span,
    pub owner_gap: Option<OwnerGap>,
    /// UNIX sockets: who may connect.
    pub access: Option<Box<Access>>,
    /// `None` until judged, and for a socket that receives from nobody new.
    pub exposure: Option<Box<Exposure>>,
    /// Accept queue: waiting connections and limit, for listeners; else bytes in receive and
    /// send queue.
    pub queues: (u32, u32),
    /// Whether a socket filter is attached, where the kernel tells (packet sockets).
    pub filtered: Option<bool>,
    /// UNIX sockets: device and inode of the file it is bound to (`UNIX_DIAG_VFS`).
    pub file: Option<(u32, u32)>,
    /// Where address translation leads what comes to a published port. Follows from the rest of a
    /// snapshot, so a file does not keep it.
    #[serde(skip)]
    pub published: Option<Box<Published>>,
}

impl Socket {
    /// A socket of which only protocol and namespace are known yet.
    pub fn blank(protocol: Protocol, netns: NamespaceId) -> Self {
        Self {
            protocol,
            kind: SocketType::Unknown,
            state: State::Unknown,
            role: Role::Idle,
            protocol_number: None,
            netns,
            local: Endpoint::None,
            remote: Endpoint::None,
            peer: None,
            v6only: None,
            interface: 0,
            groups: Box::default(),
            inode: 0,
            cookie: 0,
            uid: None,
            user: None,
            activation: None,
            holders: Span::default(),
            owner_gap: None,
            access: None,
            exposure: None,
            queues: (0, 0),
            filtered: None,
            file: None,
            published: None,
        }
    }

    /// Whether it may be bound to an interface that nobody told: only socket diagnostics tell it,
    /// and they come with a cookie.
    pub fn interface_unread(&self) -> bool {
        self.interface == 0 && self.cookie == 0 && self.state != State::Published
    }
}
