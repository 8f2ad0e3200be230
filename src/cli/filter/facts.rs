//! What a socket has for each key of the filter words.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::Key;
use crate::model::{Endpoint, Fact, Observation, OwnerGap, Text};

pub(super) enum Value<'s> {
    Number(u32),
    /// All of these.
    Numbers(RangeInclusive<u32>),
    Address(IpAddr),
    Bytes(std::borrow::Cow<'s, [u8]>),
}

/// What a socket has for one key.
#[derive(Default)]
pub(super) struct Facts<'s> {
    pub(super) values: Vec<Value<'s>>,
    /// There may be more that could not be read.
    pub(super) unknown: bool,
}

impl<'s> Facts<'s> {
    fn name(name: &'static str) -> Self {
        Self { values: vec![Value::Bytes(name.as_bytes().into())], unknown: false }
    }

    fn push(&mut self, text: &'s Text) {
        self.values.push(Value::Bytes(text.as_bytes().into()));
    }

    /// Adds a fact; tells whether it is there.
    fn add(&mut self, fact: &'s Fact<Text>) {
        self.unknown |= fact.is_unknown();
        if let Some(text) = fact.known() {
            self.push(text);
        }
    }
}

impl Key {
    pub(super) fn facts<'s>(self, seen: &Observation<'s>) -> Facts<'s> {
        let socket = seen.socket;
        let mut facts = Facts::default();
        match self {
            Self::Proto => facts.values.push(Value::Bytes(match socket.protocol.name() {
                std::borrow::Cow::Borrowed(name) => name.as_bytes().into(),
                std::borrow::Cow::Owned(name) => name.into_bytes().into(),
            })),
            Self::State => return Facts::name(socket.state.name()),
            Self::Role => return Facts::name(socket.role.name()),
            Self::Reach => return socket.exposure.as_ref().map_or(facts, |e| Facts::name(e.reach.name())),
            Self::Port => {
                facts.values.extend(port(&socket.local));
                let many = seen.published_ports();
                facts.values.extend(many.map(|all| Value::Numbers(all.first.into()..=all.last.into())));
            }
            Self::Rport => facts.values.extend(port(&socket.remote)),
            Self::Addr => facts.values.extend(address(&socket.local)),
            Self::Raddr => facts.values.extend(address(&socket.remote)),
            Self::Path => facts.values.extend(path(&socket.local)),
            Self::Interface => match seen.interface() {
                Some(interface) => facts.push(&interface.name),
                None => facts.unknown = socket.interface != 0,
            },
            Self::Netns => {
                let namespace = seen.namespace();
                facts.values.push(Value::Bytes(namespace.inode.to_string().into_bytes().into()));
                if let Some(name) = &namespace.name {
                    facts.push(name);
                }
                if namespace.own {
                    facts.values.push(Value::Bytes(b"current".into()));
                }
            }
            Self::User
            | Self::Process
            | Self::Pid
            | Self::Exe
            | Self::Unit
            | Self::Container
            | Self::Package => {
                facts.unknown = socket.owner_gap == Some(OwnerGap::Hidden);
                self.owner_facts(seen, &mut facts);
            }
        }
        facts
    }

    fn owner_facts<'s>(self, seen: &Observation<'s>, facts: &mut Facts<'s>) {
        if self == Self::User {
            facts.values.extend(seen.socket.uid.map(Value::Number));
            seen.user().into_iter().for_each(|name| facts.push(name));
        }
        if self == Self::Unit {
            seen.units().for_each(|unit| facts.push(unit));
        }
        for owner in seen.owners() {
            let process = owner.process;
            match self {
                Self::Process => facts.push(&process.name),
                Self::Pid => facts.values.push(Value::Number(process.pid)),
                Self::Exe => facts.add(&process.exe),
                Self::Package => facts.add(&process.package),
                Self::Unit => facts.unknown |= process.unit.is_unknown(),
                Self::User => {
                    facts.add(&process.user);
                    facts.values.extend(process.euid.known().copied().map(Value::Number));
                }
                Self::Container => {
                    facts.unknown |= process.container.is_unknown();
                    if let Some(container) = process.container.known() {
                        facts
                            .values
                            .extend(container.name.as_ref().map(|n| Value::Bytes(n.as_bytes().into())));
                        let id = container.id.as_bytes();
                        facts.values.push(Value::Bytes(id.into()));
                        // What `docker ps` prints.
                        facts.values.extend(id.get(..12).map(|short| Value::Bytes(short.into())));
                    }
                }
                Self::Proto
                | Self::Port
                | Self::Rport
                | Self::Addr
                | Self::Raddr
                | Self::Path
                | Self::State
                | Self::Role
                | Self::Reach
                | Self::Interface
                | Self::Netns => {}
            }
        }
    }
}

fn port<'s>(endpoint: &Endpoint) -> Option<Value<'s>> {
    match endpoint {
        Endpoint::Inet(_, 0) => None,
        Endpoint::Inet(_, port) => Some(Value::Number(u32::from(*port))),
        Endpoint::Vsock { port, .. } => Some(Value::Number(*port)),
        Endpoint::None | Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) | Endpoint::Interface(_) => None,
    }
}

fn address<'s>(endpoint: &Endpoint) -> Option<Value<'s>> {
    match endpoint {
        Endpoint::Inet(address, _) => Some(Value::Address(*address)),
        Endpoint::None
        | Endpoint::UnixPath(_)
        | Endpoint::UnixAbstract(_)
        | Endpoint::Vsock { .. }
        | Endpoint::Interface(_) => None,
    }
}

fn path(endpoint: &Endpoint) -> Option<Value<'_>> {
    match endpoint {
        Endpoint::UnixPath(path) => Some(Value::Bytes(path.as_bytes().into())),
        Endpoint::UnixAbstract(name) => Some(Value::Bytes([b"@", name.as_bytes()].concat().into())),
        Endpoint::None | Endpoint::Inet(..) | Endpoint::Vsock { .. } | Endpoint::Interface(_) => None,
    }
}
