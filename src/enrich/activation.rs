//! Which socket unit made a socket that a service manager holds, and which service it starts.
//!
//! The unit files are read in the manager's own root; systemctl is never run. A unit is matched to
//! the very socket, by kind, address and interface; of several that match, those that systemd has
//! started (`/run/systemd/units`) count.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Activation, Endpoint, Protocol, Snapshot, Socket, SocketType, Text};
use crate::source::Root;

use super::process::Look;
use super::unit_file::{Listen, Place, SocketUnit, Specifiers};
use super::world::{Worlds, missing};

/// Unit files are small; generated ones too.
const LIMIT: usize = 1 << 20;
/// Units of one manager beyond this are not read.
const MOST: usize = 10_000;

/// Where system units lie, in order of precedence (systemd.unit(5), "System Unit Search Path").
const SYSTEM: [&str; 12] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// A socket unit with its drop-ins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    pub name: Text,
    pub read: SocketUnit,
    /// systemd has started it in this boot.
    pub started: bool,
}

/// Fills `Socket::activation`. Counts the managers whose unit files could not
/// be read.
pub(super) fn fill(snapshot: &mut Snapshot, looks: &[Look], worlds: &mut Worlds<'_>) -> u64 {
    let mut unread = 0;
    let mut managers: BTreeMap<usize, (Manager, Vec<usize>)> = BTreeMap::new();
    for (at, look) in looks.iter().enumerate() {
        managers
            .extend(Manager::of(&snapshot.processes[at], look).map(|manager| (at, (manager, Vec::new()))));
    }
    if managers.is_empty() {
        return 0;
    }
    // Those that somebody may call at.
    for (index, socket) in snapshot.sockets.iter().enumerate() {
        if socket.local != Endpoint::None && socket.remote == Endpoint::None {
            for holder in &snapshot.holders[socket.holders.range()] {
                if let Some((_, held)) = managers.get_mut(&(holder.process.0 as usize)) {
                    held.push(index);
                }
            }
        }
    }
    for (at, (manager, mut held)) in managers {
        held.dedup();
        if held.is_empty() {
            continue;
        }
        let process = &snapshot.processes[at];
        let Some(units) = looks[at].world.and_then(|world| manager.units(process, world, worlds)) else {
            unread += 1;
            continue;
        };
        for index in held {
            let socket = &snapshot.sockets[index];
            let interface = interface_name(snapshot, socket);
            if let Some(activation) = activation(&units, socket, interface.as_ref()) {
                snapshot.sockets[index].activation = Some(Box::new(activation));
            }
        }
    }
    unread
}

fn interface_name(snapshot: &Snapshot, socket: &Socket) -> Option<Text> {
    let interfaces = snapshot.namespace(socket.netns).interfaces.known()?;
    let bound = interfaces.iter().find(|each| socket.interface != 0 && each.index == socket.interface);
    bound.map(|each| each.name.clone())
}

/// A running systemd: that of the system, or one of a user.
struct Manager {
    user: bool,
}

impl Manager {
    /// The first process of a pid namespace that is called systemd, or a `systemd --user`.
    fn of(process: &crate::model::Process, look: &Look) -> Option<Self> {
        let program = process.exe.known().map_or(&b""[..], Text::as_bytes);
        if process.name.as_bytes() != b"systemd" && !program.ends_with(b"/systemd") {
            return None;
        }
        let user = process
            .cmdline
            .known()
            .is_some_and(|words| words.iter().any(|word| word.as_bytes() == b"--user"));
        (user || look.first).then_some(Self { user })
    }

    fn units(
        &self,
        process: &crate::model::Process,
        world: usize,
        worlds: &mut Worlds<'_>,
    ) -> Option<Vec<Unit>> {
        let mut names = Specifiers { runtime: "/run".into(), ..Specifiers::default() };
        let mut folders: Vec<String> = SYSTEM.iter().map(|&folder| folder.to_owned()).collect();
        let mut started = "/run/systemd/units".to_owned();
        if self.user {
            let uid = *process.euid.known()?;
            let people = worlds.people(Some(world)).ok()?;
            let account = people.accounts.iter().find(|each| Some(&each.name) == process.user.known())?;
            let (home, runtime) = (account.home.as_str()?, format!("/run/user/{uid}"));
            folders = user_folders(home, &runtime);
            started = format!("{runtime}/systemd/units");
            names = Specifiers {
                runtime: runtime.as_str().into(),
                home: Some(home.into()),
                uid: Some(uid),
                user: Some(account.name.clone()),
                ..names
            };
        }
        let root = worlds.root(Some(world)).ok()?;
        read(root, &folders, &started, &names)
    }
}

/// systemd.unit(5), "User Unit Search Path".
fn user_folders(home: &str, runtime: &str) -> Vec<String> {
    [
        format!("{home}/.config/systemd/user.control"),
        format!("{runtime}/systemd/user.control"),
        format!("{runtime}/systemd/transient"),
        format!("{runtime}/systemd/generator.early"),
        format!("{home}/.config/systemd/user"),
        "/etc/systemd/user".into(),
        format!("{runtime}/systemd/user"),
        "/run/systemd/user".into(),
        format!("{runtime}/systemd/generator"),
        format!("{home}/.local/share/systemd/user"),
        "/usr/local/share/systemd/user".into(),
        "/usr/share/systemd/user".into(),
        "/usr/local/lib/systemd/user".into(),
        "/usr/lib/systemd/user".into(),
        format!("{runtime}/systemd/generator.late"),
    ]
    .into()
}

/// Every socket unit of these folders, the first of a name before the others. `None` when a folder
/// is there and cannot be listed.
fn read(root: &Root<'_>, folders: &[String], started: &str, names: &Specifiers) -> Option<Vec<Unit>> {
    let mut files: BTreeMap<Vec<u8>, String> = BTreeMap::new(); // name → folder
    let mut drop_ins: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, String>> = BTreeMap::new();
    for folder in folders {
        let listed = match root.list(folder) {
            Ok(listed) => listed,
            Err(error) if missing(&error) => continue,
            Err(_) => return None,
        };
        for name in listed {
            if name.ends_with(b".socket") {
                files.entry(name).or_insert_with(|| folder.clone());
            } else if let Some(unit) = name.strip_suffix(b".d").filter(|unit| unit.ends_with(b".socket")) {
                let path = [folder.as_bytes(), b"/", name.as_slice()].concat();
                for file in root.list(path).unwrap_or_default() {
                    if file.ends_with(b".conf") {
                        drop_ins
                            .entry(unit.to_vec())
                            .or_default()
                            .entry(file)
                            .or_insert_with(|| folder.clone());
                    }
                }
            }
        }
    }
    let active = started_units(root, started);
    let instances = active.iter().filter(|name| name.contains(&b'@')).cloned();
    let all: BTreeSet<Vec<u8>> = files.keys().cloned().chain(instances).collect();
    let mut units = Vec::new();
    for name in all.into_iter().take(MOST) {
        let template = template(&name);
        let Some(folder) = files.get(&name).or_else(|| files.get(template.as_ref()?)) else { continue };
        let file = if files.contains_key(&name) { &name } else { template.as_ref()? };
        let path = [folder.as_bytes(), b"/", file.as_slice()].concat();
        if is_alias(root, &path, file) {
            continue;
        }
        // Masked (a link to /dev/null) is no regular file.
        let Ok(bytes) = root.read(&path, LIMIT) else { continue };
        let names = Specifiers { unit: name.as_slice().into(), ..names.clone() };
        let mut unit = SocketUnit::default();
        unit.read(&bytes, &names);
        for (file, folder, of) in more(&drop_ins, &name, template.as_deref()) {
            let path = [folder.as_bytes(), b"/", of, b".d/", file].concat();
            if let Ok(bytes) = root.read(path, LIMIT) {
                unit.read(&bytes, &names);
            }
        }
        units.push(Unit { started: active.contains(&name), name: name.into(), read: unit });
    }
    Some(units)
}

/// Drop-ins of a unit and of its template, by file name; the unit's own come first of one name.
fn more<'a>(
    drop_ins: &'a BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, String>>,
    name: &'a [u8],
    template: Option<&'a [u8]>,
) -> Vec<(&'a [u8], &'a str, &'a [u8])> {
    let mut found: BTreeMap<&[u8], (&str, &[u8])> = BTreeMap::new();
    for of in [Some(name), template].into_iter().flatten() {
        for (file, folder) in drop_ins.get(of).into_iter().flatten() {
            found.entry(file).or_insert((folder, of));
        }
    }
    found.into_iter().map(|(file, (folder, of))| (file, folder, of)).collect()
}

/// `a@b.socket` → `a@.socket`.
fn template(name: &[u8]) -> Option<Vec<u8>> {
    let at = name.iter().position(|&byte| byte == b'@')?;
    (name.get(at + 1) != Some(&b'.')).then(|| [&name[..=at], b".socket"].concat())
}

/// Whether the file is a link to a unit of another name: that one is read under its own.
fn is_alias(root: &Root<'_>, path: &[u8], name: &[u8]) -> bool {
    root.read_link(path).is_ok_and(|target| {
        let last = target.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        last.ends_with(b".socket") && last != name
    })
}

/// The socket units with an invocation id: systemd links `invocation:NAME` for what it has started.
fn started_units(root: &Root<'_>, folder: &str) -> BTreeSet<Vec<u8>> {
    let names = root.list(folder).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.strip_prefix(b"invocation:"));
    names.filter(|name| name.ends_with(b".socket")).map(<[u8]>::to_vec).take(MOST).collect()
}

/// The units that describe this socket. `None` where none does.
pub fn activation(units: &[Unit], socket: &Socket, interface: Option<&Text>) -> Option<Activation> {
    let describes =
        |unit: &&Unit| unit.read.listens.iter().any(|listen| matches(&unit.read, listen, socket, interface));
    let mut found: Vec<&Unit> = units.iter().filter(describes).collect();
    if found.iter().any(|unit| unit.started) {
        found.retain(|unit| unit.started);
    }
    let services: BTreeSet<Text> = found.iter().map(|unit| unit.read.triggers(&unit.name)).collect();
    (!found.is_empty()).then(|| Activation {
        units: found.iter().map(|unit| unit.name.clone()).collect(),
        services: services.into_iter().collect(),
    })
}

fn matches(unit: &SocketUnit, listen: &Listen, socket: &Socket, interface: Option<&Text>) -> bool {
    let bound = unit.interface.is_none() || interface.is_none() || unit.interface.as_ref() == interface;
    listen.kind == socket.kind && bound && at(&listen.at, listen.kind, unit, socket)
}

fn at(place: &Place, kind: SocketType, unit: &SocketUnit, socket: &Socket) -> bool {
    match (place, &socket.local) {
        (Place::Port(port), Endpoint::Inet(address, bound)) => {
            port == bound && address.is_unspecified() && speaks(unit, kind, socket.protocol)
        }
        (Place::Inet(wanted, port), Endpoint::Inet(address, bound)) => {
            port == bound && wanted == address && speaks(unit, kind, socket.protocol)
        }
        (Place::Path(wanted), Endpoint::UnixPath(path)) => {
            legacy(wanted.as_bytes()) == legacy(path.as_bytes())
        }
        (Place::Abstract(wanted), Endpoint::UnixAbstract(name)) => wanted == name,
        (Place::Vsock(wanted, wanted_port), Endpoint::Vsock { cid, port }) => {
            wanted_port == port && wanted.is_none_or(|wanted| wanted == *cid)
        }
        (
            Place::Port(_) | Place::Inet(..) | Place::Path(_) | Place::Abstract(_) | Place::Vsock(..),
            Endpoint::None
            | Endpoint::Inet(..)
            | Endpoint::UnixPath(_)
            | Endpoint::UnixAbstract(_)
            | Endpoint::Vsock { .. }
            | Endpoint::Interface(_),
        ) => false,
    }
}

/// `SocketProtocol=` chooses another protocol of the same kind.
fn speaks(unit: &SocketUnit, kind: SocketType, protocol: Protocol) -> bool {
    let usual = if kind == SocketType::Dgram { "udp" } else { "tcp" };
    let wanted = unit.protocol.as_ref().and_then(Text::as_str).unwrap_or(usual);
    let wanted = if kind == SocketType::Seqpacket { "sctp" } else { wanted };
    protocol.name() == wanted
}

/// systemd listens at /run where an old unit says /var/run.
fn legacy(path: &[u8]) -> &[u8] {
    if path.starts_with(b"/var/run/") { &path[4..] } else { path }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::model::{NamespaceId, Role, State};

    fn socket(local: Endpoint, protocol: Protocol, kind: SocketType) -> Socket {
        Socket {
            kind,
            state: State::Listen,
            role: Role::Listener,
            local,
            inode: 1,
            cookie: 1,
            ..Socket::blank(protocol, NamespaceId(0))
        }
    }

    fn unit(name: &str, text: &str, started: bool) -> Unit {
        let mut read = SocketUnit::default();
        read.read(format!("[Socket]\n{text}\n").as_bytes(), &Specifiers::default());
        Unit { name: name.into(), read, started }
    }

    fn tcp(address: &str, port: u16) -> Socket {
        let local = Endpoint::Inet(address.parse().expect("an address"), port);
        socket(local, Protocol::Tcp, SocketType::Stream)
    }

    fn services(units: &[Unit], socket: &Socket) -> Vec<String> {
        let found = activation(units, socket, None).unwrap_or_default();
        found.services.iter().map(|name| name.lossy().into_owned()).collect()
    }

    #[test]
    fn a_unit_is_matched_to_the_very_socket() {
        let units = [
            unit("ssh.socket", "ListenStream=22", true),
            unit("cups.socket", "ListenStream=127.0.0.1:631\nListenStream=/run/cups/cups.sock", true),
            unit("dns.socket", "ListenDatagram=53", true),
            unit("bus.socket", "ListenStream=/run/dbus/system_bus_socket\nListenStream=@bus", true),
        ];
        assert_eq!(services(&units, &tcp("::", 22)), ["ssh.service"]);
        assert_eq!(services(&units, &tcp("0.0.0.0", 22)), ["ssh.service"]);
        assert!(services(&units, &tcp("127.0.0.1", 22)).is_empty());
        assert_eq!(services(&units, &tcp("127.0.0.1", 631)), ["cups.service"]);
        assert!(services(&units, &tcp("::", 53)).is_empty(), "that is a datagram port");
        let unix = |local| socket(local, Protocol::Unix, SocketType::Stream);
        assert_eq!(
            services(&units, &unix(Endpoint::UnixPath("/run/cups/cups.sock".into()))),
            ["cups.service"]
        );
        let old = Endpoint::UnixPath("/var/run/dbus/system_bus_socket".into());
        assert_eq!(services(&units, &unix(old)), ["bus.service"]);
        assert_eq!(services(&units, &unix(Endpoint::UnixAbstract("bus".into()))), ["bus.service"]);
    }

    #[test]
    fn the_started_unit_counts_else_all_are_named() {
        let mut units =
            [unit("a.socket", "ListenStream=80", false), unit("b.socket", "ListenStream=80", false)];
        assert_eq!(services(&units, &tcp("::", 80)), ["a.service", "b.service"]);
        units[1].started = true;
        assert_eq!(services(&units, &tcp("::", 80)), ["b.service"]);
    }

    #[test]
    fn another_protocol_of_the_same_kind() {
        let units = [unit("m.socket", "ListenStream=80\nSocketProtocol=mptcp", true)];
        assert!(services(&units, &tcp("::", 80)).is_empty());
        let local = Endpoint::Inet("::".parse().expect("an address"), 80);
        assert_eq!(services(&units, &socket(local, Protocol::Mptcp, SocketType::Stream)), ["m.service"]);
    }

    #[test]
    fn reads_unit_files_of_a_root() {
        let source = crate::source::Source::live().expect("a source");
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("etc/ssh.socket", "[Socket]\nListenStream=2222\n");
        write("lib/ssh.socket", "[Socket]\nListenStream=22\n");
        write("lib/ssh.socket.d/10.conf", "[Socket]\nAccept=yes\n");
        write("lib/t@.socket", "[Socket]\nListenStream=/run/%i\n");
        write("units/invocation:t@one.socket", "");
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).expect("a link");
        };
        link("/dev/null", "etc/masked.socket");
        link("ssh.socket", "lib/alias.socket");
        let at = |name: &str| dir.path().join(name).to_str().expect("plain").to_owned();
        let root = source.root(0).expect("our root");
        let units =
            read(&root, &[at("etc"), at("lib")], &at("units"), &Specifiers::default()).expect("units");
        let names: Vec<_> = units.iter().map(|unit| unit.name.lossy().into_owned()).collect();
        assert_eq!(names, ["ssh.socket", "t@.socket", "t@one.socket"]);
        assert_eq!(units[0].read.listens[0].at, Place::Port(2222));
        assert!(units[0].read.accept && !units[0].started && units[2].started);
        assert_eq!(units[2].read.listens[0].at, Place::Path("/run/one".into()));
    }
}
