//! What systemd can do to the unit behind a socket (systemctl(1), systemd.resource-control(5),
//! systemd.socket(5)).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::words::Unit;
use crate::finding::Remedy;
use crate::model::{Endpoint, Fact, Process, Protocol, Reach, Snapshot, Socket, SocketIndex, SocketType};

/// The units behind the sockets, and what is held by them.
#[derive(Default)]
struct Units {
    services: BTreeSet<Unit>,
    sockets: BTreeSet<Unit>,
}

/// Narrower listening first, then no listening at all. Empty unless every socket belongs to a unit
/// of this computer's own service manager.
pub(super) fn remedies(snapshot: &Snapshot, sockets: &[SocketIndex]) -> Vec<Remedy> {
    let Some(units) = units(snapshot, sockets) else { return Vec::new() };
    let mut found = Vec::new();
    found.extend(rebind(snapshot, sockets, &units));
    found.extend(deny(snapshot, sockets, &units));
    found.extend(disable(&units));
    found
}

fn units(snapshot: &Snapshot, sockets: &[SocketIndex]) -> Option<Units> {
    let mut units = Units::default();
    for index in sockets {
        let observation = snapshot.observe(*index);
        let mut owned = false;
        if let Some(activation) = &observation.socket.activation {
            for name in &activation.units {
                units.sockets.insert(Unit::socket(name.as_bytes())?);
            }
            for name in &activation.services {
                units.services.insert(Unit::service(name.as_bytes())?);
            }
            owned = !activation.units.is_empty();
        }
        for owner in observation.owners().filter(|owner| owner.process.pid != 1) {
            // A unit name inside a container is another service manager's.
            if !matches!(owner.process.container, Fact::Absent) {
                return None;
            }
            let unit = Unit::service(owner.process.unit.known()?.as_bytes())?;
            if unit.name().starts_with("user@") || of_a_user(owner.process) {
                return None;
            }
            units.services.insert(unit);
            owned = true;
        }
        if !owned {
            return None;
        }
    }
    Some(units)
}

/// Whether a user's own service manager started it: the system's does not know such a unit.
fn of_a_user(process: &Process) -> bool {
    let parents = process.parents.known().map(Vec::as_slice).unwrap_or_default();
    parents.iter().any(|parent| parent.pid != 1 && parent.name.as_bytes() == b"systemd")
}

/// A socket unit that listens on loopback only.
fn rebind(snapshot: &Snapshot, sockets: &[SocketIndex], units: &Units) -> Option<Remedy> {
    let mut names = units.sockets.iter();
    let (Some(unit), None) = (names.next(), names.next()) else { return None };
    let mut lines = BTreeSet::new();
    for index in sockets {
        let socket = &snapshot.sockets[index.0 as usize];
        let outside = socket.exposure.as_ref().is_some_and(|exposure| exposure.reach > Reach::Host);
        let Endpoint::Inet(address, port) = socket.local else { return None };
        if socket.activation.is_none() || !outside {
            return None;
        }
        lines.extend(listen_lines(socket, address, port)?);
    }
    let reset: BTreeSet<String> =
        lines.iter().filter_map(|line| line.split_once('=')).map(|(key, _)| format!("{key}=")).collect();
    let settings: Vec<String> = reset.into_iter().chain(lines).collect();
    Some(drop_in(
        unit,
        "Socket",
        &settings,
        format!("Let {} listen on loopback only", unit.name()),
        "replaces every address of its kind in the unit: add back those that should stay",
    ))
}

/// `None` for what a socket unit has no key for.
fn listen_lines(socket: &Socket, address: IpAddr, port: u16) -> Option<Vec<String>> {
    let key = match (socket.protocol, socket.kind) {
        (Protocol::Tcp | Protocol::Mptcp, _) => "ListenStream",
        (Protocol::Udp, _) => "ListenDatagram",
        (Protocol::Sctp, SocketType::Seqpacket) => "ListenSequentialPacket",
        _ => return None,
    };
    let mut lines = Vec::new();
    if address.is_ipv4() || (address.is_unspecified() && socket.v6only != Some(true)) {
        lines.push(format!("{key}=127.0.0.1:{port}"));
    }
    if address.is_ipv6() {
        lines.push(format!("{key}=[::1]:{port}"));
    }
    Some(lines)
}

/// The address filter of the unit: it holds for all its sockets, and for both directions.
fn deny(snapshot: &Snapshot, sockets: &[SocketIndex], units: &Units) -> Vec<Remedy> {
    let outside = sockets.iter().any(|index| {
        let socket = &snapshot.sockets[index.0 as usize];
        socket.protocol.is_ip() && socket.exposure.as_ref().is_some_and(|each| each.reach > Reach::Host)
    });
    if !outside {
        return Vec::new();
    }
    // A socket belongs to the unit that made it: of an activated service that is the socket unit.
    let (section, names) =
        if units.sockets.is_empty() { ("Service", &units.services) } else { ("Socket", &units.sockets) };
    let settings = ["IPAddressDeny=any".to_owned(), "IPAddressAllow=localhost".to_owned()];
    names
        .iter()
        .map(|unit| {
            drop_in(
                unit,
                section,
                &settings,
                format!("Let {} speak with this computer only", unit.name()),
                "stops its outgoing traffic too: add what it needs as further IPAddressAllow= lines; needs a \
                 kernel with cgroup BPF",
            )
        })
        .collect()
}

/// A drop-in of our own name, so that taking it away takes back nothing else.
fn drop_in(unit: &Unit, section: &str, settings: &[String], title: String, note: &str) -> Remedy {
    let file = if settings.iter().any(|line| line.starts_with("IPAddress")) { "address" } else { "listen" };
    let dir = format!("/etc/systemd/system/{}.d", unit.name());
    let path = quoted(&format!("{dir}/50-sockwarden-{file}.conf"));
    let lines: Vec<String> = settings.iter().map(|line| format!("'{line}'")).collect();
    let again = format!("systemctl daemon-reload && systemctl restart {}", unit.word());
    Remedy {
        kind: "unit".into(),
        title,
        commands: vec![
            format!("mkdir -p {}", quoted(&dir)),
            format!("printf '%s\\n' '[{section}]' {} > {path}", lines.join(" ")),
            again.clone(),
        ],
        undo: vec![format!("rm {path}"), again],
        verify: Some(format!("`systemctl show -p IPAddressDeny -p Listen {}` shows it", unit.word())),
        note: Some(note.to_owned()),
    }
}

/// A path made of a unit's name and fixed words.
fn quoted(path: &str) -> String {
    super::words::shell(path.as_bytes()).unwrap_or_else(|| format!("'{path}'"))
}

/// Both units at once: a service whose socket unit stays is started by the next caller.
fn disable(units: &Units) -> Option<Remedy> {
    // A template (`ssh@.service`) runs in instances only; its socket unit starts them.
    let running = units.services.iter().filter(|unit| !unit.name().ends_with("@.service"));
    let names: Vec<String> = units.sockets.iter().chain(running).map(Unit::word).collect();
    if names.is_empty() {
        return None;
    }
    let names = names.join(" ");
    let lockout =
        units.services.iter().chain(&units.sockets).any(|unit| {
            ["ssh.", "sshd.", "ssh@", "sshd@"].iter().any(|start| unit.name().starts_with(start))
        });
    let mut note = "ends the service for everybody".to_owned();
    if lockout {
        note.push_str("; make sure of another way in before you close the one you may be using");
    }
    Some(Remedy {
        kind: "unit".into(),
        title: format!("Stop {names} and keep it from starting"),
        commands: vec![format!("systemctl disable --now {names}")],
        undo: vec![format!("systemctl enable --now {names}")],
        verify: Some(format!("`systemctl is-active {names}` says inactive")),
        note: Some(note),
    })
}
