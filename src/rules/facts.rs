//! The value that a fact has for one socket or one of its processes.

use std::net::IpAddr;

use super::schema::{FAMILY, Key, Kind, protocol_code, words};
use crate::model::{
    Access, Endpoint, ExeState, Fact, FilterState, Namespace, Observation, Owner, OwnerGap, Process,
    Protocol, Socket, SocketType, State, Text, Upstream, Users,
};

/// A fact's value; `Absent` is an answer, `Unknown` is none.
#[derive(Clone, Debug)]
pub(super) enum Value<'s> {
    Unknown,
    Absent,
    Code(u32),
    Number(u64),
    Bits(u64),
    Address(IpAddr),
    Text(&'s [u8]),
    /// Several at once, never empty.
    Texts(&'s [Text]),
    List {
        words: Vec<&'s [u8]>,
        codes: Vec<u32>,
        /// Whether there may be more that could not be read.
        complete: bool,
    },
    /// What standard streams point to.
    Streams {
        links: Vec<&'s Fact<Text>>,
        inode: u64,
    },
}

/// Whose facts are asked for: a socket, and the process that holds it where one is meant.
#[derive(Clone, Copy)]
pub(super) struct View<'s> {
    pub(super) observation: Observation<'s>,
    pub(super) owner: Option<Owner<'s>>,
}

impl<'s> View<'s> {
    /// The table of all facts.
    pub(super) fn value(&self, key: Key) -> Value<'s> {
        let (observation, socket) = (self.observation, self.observation.socket);
        let sysctls = &observation.namespace().sysctls;
        match key {
            Key::Protocol => Value::Code(protocol_code(socket.protocol)),
            Key::Role => Value::Code(socket.role as u32),
            Key::State if socket.state == State::Unknown => Value::Unknown,
            Key::State => Value::Code(socket.state as u32),
            Key::Type if socket.kind == SocketType::Unknown => Value::Unknown,
            Key::Type => Value::Code(socket.kind as u32),
            Key::ProtocolNumber => maybe(socket.protocol_number.map(|number| Value::Number(number.into()))),
            Key::Port => maybe(port(&socket.local).map(Value::Number)),
            Key::Rport => maybe(port(&socket.remote).map(Value::Number)),
            Key::Inode => flag(socket.inode != 0),
            Key::V6only => v6only(socket),
            Key::Uid => known(socket.uid.map(|uid| Value::Number(uid.into()))),
            Key::Filtered => match (socket.filtered, socket.protocol == Protocol::Packet) {
                (Some(filtered), _) => flag(filtered),
                (None, true) => Value::Unknown,
                (None, false) => Value::Absent,
            },
            Key::Reach => maybe(socket.exposure.as_ref().map(|exposure| Value::Code(exposure.reach as u32))),
            Key::Certain => maybe(socket.exposure.as_ref().map(|exposure| flag(exposure.certain))),
            Key::Owned => match (socket.holders.len, socket.owner_gap) {
                (0, Some(OwnerGap::Hidden)) => flag(true),
                (holders, _) => flag(holders > 0),
            },
            Key::OwnerGap => maybe(socket.owner_gap.map(|gap| Value::Code(gap as u32))),
            Key::NetnsOwn => flag(observation.namespace().own),
            Key::NetnsName => maybe(observation.namespace().name.as_ref().map(text)),
            Key::AccessMode => access(socket, |access| access.mode),
            Key::AccessUid => access(socket, |access| access.uid),
            Key::AccessGid => access(socket, |access| access.gid),
            Key::AccessUsers => may_connect(socket),
            Key::Address => address(&socket.local),
            Key::Remote => address(&socket.remote),
            Key::Path => {
                if let Endpoint::UnixPath(path) = &socket.local {
                    text(path)
                } else {
                    Value::Absent
                }
            }
            Key::Abstract => {
                if let Endpoint::UnixAbstract(name) = &socket.local {
                    text(name)
                } else {
                    Value::Absent
                }
            }
            Key::Interface if interface_index(observation) == 0 => Value::Absent,
            Key::Interface => known(interface(observation).map(text)),
            Key::Groups if socket.groups.is_empty() => Value::Absent,
            Key::Groups => Value::Texts(&socket.groups),
            Key::Ephemeral => match (port(&socket.local), sysctls.ephemeral) {
                (None, _) => Value::Absent,
                (Some(_), None) => Value::Unknown,
                (Some(port), Some((first, last))) => {
                    flag((u64::from(first)..=u64::from(last)).contains(&port))
                }
            },
            Key::User => users(observation),
            Key::Upstream => known(observation.snapshot.upstream.map(|upstream| match upstream {
                Upstream::Direct => Value::Code(0),
                Upstream::Router => Value::Code(1),
                Upstream::OneToOne => Value::Code(2),
            })),
            Key::Forwarding => match (sysctls.forward_v4, sysctls.forward_v6) {
                (Some(true), _) | (_, Some(true)) => flag(true),
                (Some(false), Some(false)) => flag(false),
                (None, _) | (_, None) => Value::Unknown,
            },
            Key::Filter => match &observation.namespace().filter {
                FilterState::None => flag(false),
                FilterState::Some(_) => flag(true),
                FilterState::Unasked | FilterState::Refused(_) => Value::Unknown,
            },
            Key::Promiscuous => promiscuous(observation.namespace()),
            Key::RouteLocalnet => known(sysctls.route_localnet.map(flag)),
            Key::UnprivilegedStart => {
                known(sysctls.unprivileged_start.map(|port| Value::Number(port.into())))
            }
            Key::Pid => self.process(|process| Value::Number(process.pid.into())),
            Key::How => self.how(),
            Key::ProcessUid => self.process(|process| number(&process.uid)),
            Key::Euid => self.process(|process| number(&process.euid)),
            Key::ExeState => self.process(|process| match process.exe_state {
                ExeState::Unknown => Value::Unknown,
                state @ (ExeState::Present | ExeState::Deleted | ExeState::Replaced | ExeState::Memory) => {
                    Value::Code(state as u32)
                }
            }),
            Key::Capabilities => self.process(|process| match process.capabilities {
                Fact::Known(0) | Fact::Absent => Value::Absent,
                Fact::Known(bits) => Value::Bits(bits),
                Fact::Unknown => Value::Unknown,
            }),
            Key::Name => self.process(|process| text(&process.name)),
            Key::Program => {
                self.process(|process| of(&process.exe, |exe| Value::Text(last_part(exe.as_bytes()))))
            }
            Key::Exe => self.process(|process| of(&process.exe, text)),
            Key::Script => self.process(script),
            Key::ProcessUser => self.process(|process| of(&process.user, text)),
            Key::Unit => self.process(|process| units(observation, process)),
            Key::Package => self.process(|process| of(&process.package, text)),
            Key::Cwd => self.process(|process| of(&process.cwd, text)),
            Key::Container | Key::ContainerRuntime => self.process(|process| {
                of(&process.container, |container| Value::Text(container.runtime.as_bytes()))
            }),
            Key::ContainerId => {
                self.process(|process| of(&process.container, |container| text(&container.id)))
            }
            Key::ContainerName => self.process(|process| {
                of(&process.container, |container| known(container.name.as_ref().map(text)))
            }),
            Key::ContainerImage => self.process(|process| {
                of(&process.container, |container| known(container.image.as_ref().map(text)))
            }),
            Key::Stdin => self.process(|process| stream(process, &[0], observation)),
            Key::Stdout => self.process(|process| stream(process, &[1], observation)),
            Key::Stderr => self.process(|process| stream(process, &[2], observation)),
            Key::Stdio => self.process(|process| stream(process, &[0, 1, 2], observation)),
            Key::Parents => self.process(|process| {
                of(&process.parents, |parents| {
                    list(parents.iter().map(|parent| parent.name.as_bytes()).collect(), true)
                })
            }),
            Key::Cmdline => self.process(|process| {
                of(
                    &process.cmdline,
                    |words| if words.is_empty() { Value::Absent } else { Value::Texts(words) },
                )
            }),
        }
    }

    fn process(&self, fact: impl FnOnce(&'s Process) -> Value<'s>) -> Value<'s> {
        self.owner.map_or(Value::Unknown, |owner| fact(owner.process))
    }

    fn how(&self) -> Value<'s> {
        let Some(owner) = self.owner else { return Value::Unknown };
        let codes = owner.holders.iter().map(|holder| holder.how as u32).collect();
        Value::List { words: Vec::new(), codes, complete: true }
    }
}

fn v6only<'s>(socket: &Socket) -> Value<'s> {
    match (socket.v6only, matches!(socket.local, Endpoint::Inet(IpAddr::V6(_), _))) {
        (Some(v6only), _) => flag(v6only),
        (None, true) => Value::Unknown,
        (None, false) => Value::Absent,
    }
}

/// A number of a UNIX socket's file; abstract names have no file.
fn access<'s>(socket: &Socket, field: impl Fn(&Access) -> Option<u32>) -> Value<'s> {
    match (&socket.local, &socket.access) {
        (Endpoint::UnixPath(_), Some(access)) => {
            known(field(access).map(|number| Value::Number(number.into())))
        }
        (Endpoint::UnixPath(_), None) => Value::Unknown,
        _ => Value::Absent,
    }
}

fn may_connect(socket: &Socket) -> Value<'_> {
    let named = matches!(socket.local, Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_));
    match socket.access.as_ref().map(|access| &access.users) {
        Some(Users::Everyone) => Value::Text(b"everyone"),
        Some(Users::Named(names)) if names.is_empty() => Value::Absent,
        Some(Users::Named(names)) => Value::Texts(names),
        Some(Users::Unknown) => Value::Unknown,
        None if named => Value::Unknown,
        None => Value::Absent,
    }
}

/// The socket's owner and the effective users of its holders.
fn users(observation: Observation<'_>) -> Value<'_> {
    let (mut words, mut complete) = (Vec::new(), true);
    match (observation.user(), observation.socket.uid) {
        (Some(user), _) => words.push(user.as_bytes()),
        (None, Some(0)) => words.push(b"root".as_slice()),
        (None, _) => complete = false,
    }
    for owner in observation.owners() {
        match &owner.process.user {
            Fact::Known(user) => words.push(user.as_bytes()),
            Fact::Unknown => complete = false,
            Fact::Absent => {}
        }
    }
    complete &= observation.socket.owner_gap != Some(OwnerGap::Hidden);
    list(words, complete)
}

/// The holder's unit, and those that systemd would start for the socket.
fn units<'s>(observation: Observation<'s>, process: &'s Process) -> Value<'s> {
    let made = observation.socket.activation.iter().flat_map(|each| each.units.iter().chain(&each.services));
    let words: Vec<&[u8]> = process.unit.known().into_iter().chain(made).map(Text::as_bytes).collect();
    list(words, !process.unit.is_unknown())
}

/// The unit that a command about this socket should name: the holder's service, else the socket
/// unit that made it. A scope is nothing that could be configured.
pub(super) fn unit_of<'s>(observation: Observation<'s>, process: &'s Process) -> Option<&'s Text> {
    let configurable =
        |unit: &&Text| unit.as_bytes().ends_with(b".service") || unit.as_bytes().ends_with(b".socket");
    let made = observation.socket.activation.as_ref().and_then(|each| each.units.first());
    process.unit.known().filter(configurable).or(made)
}

fn promiscuous<'s>(namespace: &Namespace) -> Value<'s> {
    match &namespace.interfaces {
        Fact::Known(interfaces) => flag(interfaces.iter().any(|interface| interface.promiscuous)),
        Fact::Absent => flag(false),
        Fact::Unknown => Value::Unknown,
    }
}

fn stream<'s>(process: &'s Process, which: &[usize], observation: Observation<'s>) -> Value<'s> {
    let links: Vec<&Fact<Text>> = which
        .iter()
        .map(|number| &process.stdio.0[*number])
        .filter(|link| !matches!(link, Fact::Absent))
        .collect();
    if links.is_empty() {
        return Value::Absent;
    }
    Value::Streams { links, inode: observation.socket.inode }
}

/// How one kind of interpreter reads its command line: options with code as their value, with a
/// script, and with some other value.
struct Interpreter {
    names: &'static [&'static str],
    code: &'static [&'static str],
    script: &'static [&'static str],
    value: &'static [&'static str],
}

/// From the manual pages of each.
const INTERPRETERS: &[Interpreter] = &[
    Interpreter { names: &["python", "pypy"], code: &["-c"], script: &["-m"], value: &["-W", "-X"] },
    Interpreter {
        names: &["bash", "dash", "sh", "ash", "zsh", "ksh", "fish"],
        code: &["-c", "-s"],
        script: &[],
        value: &["-o", "-O", "+O", "--rcfile", "--init-file"],
    },
    Interpreter { names: &["perl"], code: &["-e", "-E"], script: &[], value: &["-I"] },
    Interpreter { names: &["ruby"], code: &["-e"], script: &[], value: &["-I", "-r", "-C", "-E"] },
    Interpreter {
        names: &["node", "nodejs", "deno", "bun"],
        code: &["-e", "--eval", "-p", "--print", "eval"],
        script: &[],
        value: &["-r", "--require", "--import", "--loader"],
    },
    Interpreter { names: &["php"], code: &["-r"], script: &["-f"], value: &["-S", "-t", "-d", "-c", "-z"] },
    Interpreter {
        names: &["java"],
        code: &[],
        script: &["-jar", "-m", "--module"],
        value: &["-cp", "-classpath", "--class-path", "-p", "--module-path"],
    },
    Interpreter { names: &["lua", "tclsh", "mono", "dotnet"], code: &["-e"], script: &[], value: &["-l"] },
];

/// What an interpreter was told to run: a file, the module of `-m`, the archive of `-jar`; nothing
/// for code given on the command line.
pub(super) fn script(process: &Process) -> Value<'_> {
    let exe = match &process.exe {
        Fact::Known(exe) => exe.as_bytes(),
        Fact::Absent => return Value::Absent,
        Fact::Unknown => return Value::Unknown,
    };
    let name = last_part(exe);
    let stem = name.iter().rposition(|byte| !byte.is_ascii_digit() && *byte != b'.').map_or(0, |at| at + 1);
    let named = |known: &&Interpreter| known.names.iter().any(|each| each.as_bytes() == &name[..stem]);
    let Some(interpreter) = INTERPRETERS.iter().find(named) else { return Value::Absent };
    let Fact::Known(words) = &process.cmdline else { return Value::Unknown };
    let is = |options: &[&str], word: &[u8]| options.iter().any(|option| option.as_bytes() == word);
    let mut words = words.iter().skip(1).map(Text::as_bytes);
    while let Some(word) = words.next() {
        // `-Im` is `-I -m`: the last letter decides what follows.
        let last = match word {
            [b'-', first, .., last] if *first != b'-' && is(interpreter.script, &[b'-', *last]) => {
                vec![b'-', *last]
            }
            [b'-', first, .., last] if *first != b'-' && is(interpreter.code, &[b'-', *last]) => {
                vec![b'-', *last]
            }
            _ => word.to_vec(),
        };
        if is(interpreter.code, &last) {
            return Value::Absent;
        } else if is(interpreter.script, &last) {
            return maybe(words.next().map(Value::Text));
        } else if is(interpreter.value, word) {
            words.next();
        } else if !word.starts_with(b"-") && !matches!(word, b"run" | b"serve" | b"exec") {
            return Value::Text(word);
        }
    }
    Value::Absent
}

pub(super) fn last_part(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

pub(super) fn port(endpoint: &Endpoint) -> Option<u64> {
    match endpoint {
        Endpoint::Inet(_, port) => Some(u64::from(*port)),
        Endpoint::Vsock { port, .. } => Some(u64::from(*port)),
        Endpoint::None | Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) | Endpoint::Interface(_) => None,
    }
}

fn address<'s>(endpoint: &Endpoint) -> Value<'s> {
    match endpoint {
        Endpoint::Inet(address, _) => Value::Address(*address),
        Endpoint::None
        | Endpoint::UnixPath(_)
        | Endpoint::UnixAbstract(_)
        | Endpoint::Vsock { .. }
        | Endpoint::Interface(_) => Value::Absent,
    }
}

/// Bound with SO_BINDTODEVICE, or the interface of a packet socket; 0 for none.
fn interface_index(observation: Observation<'_>) -> u32 {
    match (&observation.socket.local, observation.socket.interface) {
        (Endpoint::Interface(index), 0) => *index,
        (_, index) => index,
    }
}

pub(super) fn interface(observation: Observation<'_>) -> Option<&Text> {
    let index = interface_index(observation);
    let interfaces = observation.namespace().interfaces.known()?;
    interfaces.iter().find(|each| index != 0 && each.index == index).map(|each| &each.name)
}

fn list(words: Vec<&[u8]>, complete: bool) -> Value<'_> {
    match (words.is_empty(), complete) {
        (true, true) => Value::Absent,
        (true, false) => Value::Unknown,
        (false, _) => Value::List { words, codes: Vec::new(), complete },
    }
}

fn text(text: &Text) -> Value<'_> {
    Value::Text(text.as_bytes())
}

fn of<'s, T>(fact: &'s Fact<T>, value: impl FnOnce(&'s T) -> Value<'s>) -> Value<'s> {
    match fact {
        Fact::Known(known) => value(known),
        Fact::Absent => Value::Absent,
        Fact::Unknown => Value::Unknown,
    }
}

fn number<'s>(fact: &Fact<u32>) -> Value<'s> {
    match fact {
        Fact::Known(value) => Value::Number(u64::from(*value)),
        Fact::Absent => Value::Absent,
        Fact::Unknown => Value::Unknown,
    }
}

fn flag<'s>(answer: bool) -> Value<'s> {
    Value::Code(u32::from(answer))
}

fn maybe(value: Option<Value<'_>>) -> Value<'_> {
    value.unwrap_or(Value::Absent)
}

fn known(value: Option<Value<'_>>) -> Value<'_> {
    value.unwrap_or(Value::Unknown)
}

/// A value for a person; foreign text is made harmless.
pub(super) fn show(key: Key, value: &Value<'_>) -> String {
    let kind = key.fact().kind;
    let word = |code: u32| {
        if matches!(kind, Kind::Flag) {
            return if code == 0 { "no" } else { "yes" }.to_owned();
        }
        if matches!(kind, Kind::Protocol) && code >= FAMILY {
            return format!("family-{}", code - FAMILY);
        }
        words(kind).get(code as usize).copied().unwrap_or_default().to_owned()
    };
    let plain = |bytes: &[u8]| Text::from(bytes).to_string();
    match value {
        Value::Unknown => "unknown".to_owned(),
        Value::Absent => "none".to_owned(),
        Value::Code(code) => word(*code),
        Value::Number(mode) if key == Key::AccessMode => format!("{mode:04o}"),
        Value::Number(number) => number.to_string(),
        Value::Bits(bits) => {
            (0..64).filter(|bit| bits >> bit & 1 == 1).map(word).collect::<Vec<_>>().join(" ")
        }
        Value::Address(address) => address.to_string(),
        Value::Text(bytes) => plain(bytes),
        Value::Texts(texts) => texts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Value::List { words, codes, .. } => words
            .iter()
            .map(|bytes| plain(bytes))
            .chain(codes.iter().copied().map(word))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Streams { links, .. } => links
            .iter()
            .map(|link| link.known().map_or_else(|| "unknown".to_owned(), ToString::to_string))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_an_interpreter() {
        let script = |exe: &str, cmdline: &str| {
            let mut process = Process::new(1, 1, Text::from("x"), 0);
            process.exe = Fact::Known(exe.into());
            process.cmdline = Fact::Known(cmdline.split(' ').map(Text::from).collect());
            match script(&process) {
                Value::Text(found) => String::from_utf8(found.to_vec()).unwrap(),
                Value::Absent => "Absent".to_owned(),
                Value::Unknown
                | Value::Code(_)
                | Value::Number(_)
                | Value::Bits(_)
                | Value::Address(_)
                | Value::Texts(_)
                | Value::List { .. }
                | Value::Streams { .. } => "no text".to_owned(),
            }
        };
        assert_eq!(script("/usr/bin/python3.11", "python3 -u -W ignore /srv/app.py --port 1"), "/srv/app.py");
        assert_eq!(script("/usr/bin/python3.11", "python3 -m http.server"), "http.server");
        assert_eq!(script("/usr/bin/python3.11", "python3 -Im http.server"), "http.server");
        assert_eq!(script("/usr/bin/python3.11", "python3 -c import"), "Absent");
        assert_eq!(script("/usr/bin/bash", "bash -lc nc -l"), "Absent");
        assert_eq!(script("/usr/bin/php8.2", "php -S 0.0.0.0:8000 router.php"), "router.php");
        assert_eq!(script("/usr/lib/jvm/bin/java", "java -cp /x -Xmx1g -jar app.jar"), "app.jar");
        assert_eq!(script("/usr/bin/ruby3.1", "ruby -run -e httpd ."), "Absent");
        assert_eq!(script("/usr/sbin/nginx", "nginx -c /etc/x"), "Absent");
    }
}
