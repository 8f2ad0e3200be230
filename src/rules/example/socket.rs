//! `socket`, and each of `others`.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::de::DeTable;

use super::{Builder, Holders, check_keys};
use crate::model::{
    Access, Endpoint, Exposure, Fact, Holder, OwnerGap, Protocol, Reach, Role, Socket, SocketIndex,
    SocketType, Span, State, Users,
};
use crate::rules::facts;
use crate::rules::reader::shorten;
use crate::rules::schema::PROTOCOLS;

pub(super) const SOCKET: &[&str] = &[
    "protocol",
    "type",
    "state",
    "role",
    "protocol_number",
    "local",
    "remote",
    "v6only",
    "interface",
    "groups",
    "uid",
    "user",
    "reach",
    "certain",
    "access",
    "owner_gap",
    "inode",
    "filtered",
    "netns",
    "owned",
    "ephemeral",
];

impl Builder<'_> {
    pub(super) fn socket(
        &mut self,
        fields: &DeTable<'_>,
        span: Range<usize>,
        holders: &Holders,
    ) -> Option<SocketIndex> {
        let protocol = match fields.get("protocol") {
            None => {
                self.reader.say(span, "a socket of an example needs a `protocol`");
                return None;
            }
            Some(node) => {
                let text = self.reader.text(node, "protocol")?;
                let protocol = Protocol::from_name(text);
                if protocol.is_none() {
                    let known = PROTOCOLS.iter().copied();
                    self.reader.unknown_word(node.span(), text, "protocol", known);
                }
                protocol?
            }
        };
        let states: Vec<_> = State::ALL.iter().map(|state| (state.name(), *state)).collect();
        let roles: Vec<_> = Role::ALL.iter().map(|role| (role.name(), *role)).collect();
        let state = self.choice(fields, "state", &states);
        let role = self.choice(fields, "role", &roles);
        let (state, role) = both(protocol, state, role);
        let local = self.endpoint(fields, "local", protocol)?;
        let index = u32::try_from(self.snapshot.sockets.len()).ok()?;
        let holders_start = u32::try_from(self.snapshot.holders.len()).ok()?;
        let held = holders.list.iter().map(|(process, how)| Holder { process: *process, fd: 3, how: *how });
        self.snapshot.holders.extend(held);
        let number = 1000 + u64::from(index);
        let socket = Socket {
            kind: self.kind(fields, protocol),
            state,
            role,
            protocol_number: self
                .number(fields, "protocol_number", u32::MAX.into())
                .and_then(|n| u32::try_from(n).ok()),
            remote: self.endpoint(fields, "remote", protocol)?,
            v6only: self.flag(fields, "v6only"),
            interface: self.bound(fields),
            groups: match self.texts(fields, "groups") {
                Fact::Known(groups) => groups.into(),
                Fact::Absent | Fact::Unknown => Box::default(),
            },
            inode: if self.flag(fields, "inode").unwrap_or(true) { number } else { 0 },
            cookie: number,
            uid: self.number(fields, "uid", u32::MAX.into()).and_then(|id| u32::try_from(id).ok()),
            user: self.text(fields, "user").and_then(|name| {
                self.snapshot.users.push(name.into());
                u32::try_from(self.snapshot.users.len() - 1).ok()
            }),
            holders: Span { start: holders_start, len: u32::try_from(holders.list.len()).ok()? },
            owner_gap: self.owner_gap(fields, holders),
            access: self.access(fields),
            exposure: self.exposure(fields, role),
            local,
            filtered: self.flag(fields, "filtered"),
            ..Socket::blank(protocol, self.netns(fields))
        };
        self.ephemeral(fields, &socket);
        self.snapshot.sockets.push(socket);
        Some(SocketIndex(index))
    }

    /// Whether a port is of the automatic range: of the host's, else of Linux's own, else of one that
    /// holds this port.
    pub(super) fn ephemeral(&mut self, fields: &DeTable<'_>, socket: &Socket) {
        let Some(node) = fields.get("ephemeral") else { return };
        let Some(wanted) = self.reader.flag(node, "ephemeral") else { return };
        let own = &mut self.snapshot.namespaces[socket.netns.0 as usize];
        let port = facts::port(&socket.local).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let usual = if wanted && port < 32768 { (port, port) } else { (32768, 60999) };
        let (first, last) = *own.sysctls.ephemeral.get_or_insert(usual);
        let inside = port != 0 && (first..=last).contains(&port);
        if inside != wanted {
            let message = format!(
                "this port is {}of the automatic range {first}-{last}",
                if inside { "" } else { "not " }
            );
            self.reader.advise(node.span(), message, "choose another port, or give `host.ephemeral`");
        }
    }

    pub(super) fn kind(&mut self, fields: &DeTable<'_>, protocol: Protocol) -> SocketType {
        let kinds: Vec<_> = SocketType::ALL.iter().map(|kind| (kind.name(), *kind)).collect();
        self.choice(fields, "type", &kinds).unwrap_or(match protocol {
            Protocol::Tcp | Protocol::Mptcp | Protocol::Smc => SocketType::Stream,
            Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => SocketType::Dgram,
            Protocol::Raw => SocketType::Raw,
            Protocol::Sctp
            | Protocol::Dccp
            | Protocol::Packet
            | Protocol::Unix
            | Protocol::Netlink
            | Protocol::Vsock
            | Protocol::Xdp
            | Protocol::Alg
            | Protocol::Key
            | Protocol::Tipc
            | Protocol::Can
            | Protocol::Bluetooth
            | Protocol::Other(_) => SocketType::Unknown,
        })
    }

    pub(super) fn owner_gap(&mut self, fields: &DeTable<'_>, holders: &Holders) -> Option<OwnerGap> {
        let gaps: Vec<_> = OwnerGap::ALL.iter().map(|gap| (gap.name(), *gap)).collect();
        let given = match fields.get("owner_gap") {
            Some(node) if node.get_ref().as_str() == Some("none") => return None,
            Some(node) => self.one_of(node, "owner_gap", &gaps),
            None => None,
        };
        let owned = self.flag(fields, "owned");
        let contradicts = match owned {
            Some(true) => holders.nobody,
            Some(false) => !holders.list.is_empty(),
            None => false,
        };
        if let (Some(node), true) = (fields.get("owned"), contradicts) {
            self.reader.say(node.span(), "`owned` contradicts `process` of this example");
        }
        match (given, holders.list.is_empty()) {
            (None, true) if holders.nobody || owned == Some(false) => Some(OwnerGap::Kernel),
            (None, true) => Some(OwnerGap::Hidden),
            (given, _) => given,
        }
    }

    pub(super) fn exposure(&mut self, fields: &DeTable<'_>, role: Role) -> Option<Box<Exposure>> {
        let reaches: Vec<_> = Reach::ALL.iter().map(|reach| (reach.name(), *reach)).collect();
        let reach = self.choice(fields, "reach", &reaches);
        let certain = self.flag(fields, "certain");
        let receives = matches!(role, Role::Listener | Role::Receiver | Role::Published);
        let exposure = match reach {
            Some(Reach::Unknown) => Exposure { reach: Reach::Unknown, certain: false, paths: Vec::new() },
            Some(reach) => Exposure { reach, certain: certain.unwrap_or(true), paths: Vec::new() },
            None if receives => Exposure { reach: Reach::Unknown, certain: false, paths: Vec::new() },
            None => return None,
        };
        Some(Box::new(exposure))
    }

    pub(super) fn access(&mut self, fields: &DeTable<'_>) -> Option<Box<Access>> {
        let node = fields.get("access")?;
        let inner = self.reader.table(node, "access")?;
        check_keys(self.reader, inner, "`access`", &["mode", "users", "uid", "gid"]);
        let users = match self.texts(inner, "users") {
            Fact::Known(names) if names.iter().any(|name| name.as_bytes() == b"everyone") => Users::Everyone,
            Fact::Known(names) => Users::Named(names),
            Fact::Absent => Users::Named(Vec::new()),
            Fact::Unknown => Users::Unknown,
        };
        let id = |number: Option<u64>| number.and_then(|id| u32::try_from(id).ok());
        Some(Box::new(Access {
            mode: id(self.number(inner, "mode", 0o7777)),
            uid: id(self.number(inner, "uid", u32::MAX.into())),
            gid: id(self.number(inner, "gid", u32::MAX.into())),
            users,
        }))
    }

    /// `None` after a problem.
    pub(super) fn endpoint(
        &mut self,
        fields: &DeTable<'_>,
        key: &str,
        protocol: Protocol,
    ) -> Option<Endpoint> {
        let Some(node) = fields.get(key) else { return Some(Endpoint::None) };
        let text = self.reader.text(node, key)?;
        if text == "none" {
            return Some(Endpoint::None);
        }
        let found = if protocol == Protocol::Unix {
            Some(match text.strip_prefix('@') {
                Some(name) => Endpoint::UnixAbstract(name.into()),
                None => Endpoint::UnixPath(text.into()),
            })
        } else if protocol == Protocol::Vsock {
            text.split_once(':').and_then(|(cid, port)| {
                Some(Endpoint::Vsock { cid: cid.parse().ok()?, port: port.parse().ok()? })
            })
        } else if protocol.is_ip() {
            match text.parse::<SocketAddr>() {
                Ok(address) => Some(Endpoint::Inet(address.ip().to_canonical(), address.port())),
                Err(_) => {
                    text.parse::<IpAddr>().ok().map(|address| Endpoint::Inet(address.to_canonical(), 0))
                }
            }
        } else {
            None
        };
        if found.is_none() {
            let help = if protocol.is_ip() {
                "write \"0.0.0.0:22\" or \"[::]:22\""
            } else {
                "only IP, UNIX and vsock sockets have one here; a packet socket has an `interface`"
            };
            let message = format!("`{}` is no `{key}` of a {} socket", shorten(text), protocol.name());
            self.reader.advise(node.span(), message, help);
        }
        found
    }
}

/// State and role, each of which follows from the other where only one is given.
fn both(protocol: Protocol, state: Option<State>, role: Option<Role>) -> (State, Role) {
    let of_role = |role: Role| match role {
        Role::Listener => State::Listen,
        Role::Inbound | Role::Outbound | Role::Peer => State::Established,
        Role::Receiver => State::Unconnected,
        Role::Idle => State::Unconnected,
        Role::Published => State::Published,
    };
    let of_state = |state: State| match state {
        State::Listen => Role::Listener,
        State::Published => Role::Published,
        State::Unconnected | State::Bound if matches!(protocol, Protocol::Tcp | Protocol::Mptcp) => {
            Role::Idle
        }
        State::Unconnected | State::Bound => Role::Receiver,
        State::Established
        | State::SynSent
        | State::SynRecv
        | State::FinWait1
        | State::FinWait2
        | State::TimeWait
        | State::Closed
        | State::CloseWait
        | State::LastAck
        | State::Closing => Role::Peer,
        State::Unknown => Role::Idle,
    };
    match (state, role) {
        (Some(state), Some(role)) => (state, role),
        (Some(state), None) => (state, of_state(state)),
        (None, Some(role)) => (of_role(role), role),
        (None, None) if matches!(protocol, Protocol::Packet | Protocol::Raw | Protocol::Icmp) => {
            (State::Unconnected, Role::Receiver)
        }
        (None, None) => (State::Unknown, Role::Idle),
    }
}
