//! The name under which a finding is known again after a restart, on any machine.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use crate::model::{Endpoint, Hex, Observation, Text};

/// Linux's own choice of `ip_local_port_range`, for a namespace where it could not be read.
const USUAL_EPHEMERAL: (u16, u16) = (32768, 60999);

/// 32 hex digits of SHA-256 over rule, program and the set of (protocol, scope of the address,
/// port or name). Never part of it: pid, inode, cookie, time, container id, the ports that the
/// kernel hands out (ip_local_port_range), the number of sockets that share an address.
pub(crate) fn fingerprint<'s>(
    rule: &str,
    program: Option<&[u8]>,
    sockets: impl Iterator<Item = Observation<'s>>,
) -> String {
    let places: BTreeSet<Vec<u8>> = sockets.map(|socket| place(&socket)).collect();
    of_parts([b"finding 1", rule.as_bytes(), program.unwrap_or_default()], places.iter().map(Vec::as_slice))
}

/// Hashes fields so that no two lists of fields read alike: each with its length before it.
pub(crate) fn of_parts<'p>(head: [&'p [u8]; 3], rest: impl Iterator<Item = &'p [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in head.into_iter().chain(rest) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Hex(&hash.finalize()[..16]).to_string()
}

/// `tcp any 6379`, `udp private`, `unix /run/docker.sock`: what stays the same over restarts.
pub fn place(socket: &Observation<'_>) -> Vec<u8> {
    door(socket, true)
}

/// The same without the scope of the address: `tcp 6379`. A wider bind is the same port.
pub fn port_place(socket: &Observation<'_>) -> Vec<u8> {
    door(socket, false)
}

fn door(socket: &Observation<'_>, scoped: bool) -> Vec<u8> {
    let mut place = socket.socket.protocol.name().into_owned().into_bytes();
    match &socket.socket.local {
        Endpoint::None => {}
        Endpoint::Inet(address, port) => {
            if scoped {
                place.push(b' ');
                place.extend(scope(*address).as_bytes());
            }
            if !ephemeral(socket, *port) && *port != 0 {
                place.extend(format!(" {port}").as_bytes());
            }
        }
        Endpoint::UnixPath(path) => {
            place.push(b' ');
            place.extend(lasting_name(path.as_bytes(), socket));
        }
        Endpoint::UnixAbstract(name) if autobind(name) => place.extend(b" @"),
        Endpoint::UnixAbstract(name) => {
            place.extend(b" @");
            place.extend(lasting_name(name.as_bytes(), socket));
        }
        Endpoint::Vsock { port, .. } => place.extend(format!(" vsock {port}").as_bytes()),
        Endpoint::Interface(_) => place.extend(b" interface"),
    }
    if let Some(number) = socket.socket.protocol_number {
        place.extend(format!(" protocol {number}").as_bytes());
    }
    place
}

fn ephemeral(socket: &Observation<'_>, port: u16) -> bool {
    let (first, last) = socket.namespace().sysctls.ephemeral.unwrap_or(USUAL_EPHEMERAL);
    (first..=last).contains(&port)
}

/// The class of a bound address, so that another lease or another machine changes nothing.
fn scope(address: IpAddr) -> &'static str {
    match address {
        _ if address.is_unspecified() => "any",
        _ if address.is_loopback() => "loopback",
        _ if address.is_multicast() => "multicast",
        IpAddr::V4(v4) if v4.is_link_local() => "link",
        IpAddr::V4(v4) if v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64) => {
            "private"
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link",
        IpAddr::V6(v6) if v6.is_unique_local() => "private",
        IpAddr::V4(_) | IpAddr::V6(_) => "public",
    }
}

/// A name that the kernel made up: five hex digits (unix(7), "Autobind feature").
fn autobind(name: &Text) -> bool {
    name.as_bytes().len() == 5 && name.as_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// The name with `*` for each number that is the pid of a holder or of its parents, and for what
/// looks like the random part of a temporary name (mkstemp(3)): a word of six or more letters and
/// digits, set off by `.`, `-` or `_`, that mixes digits or capitals with small letters.
fn lasting_name(name: &[u8], socket: &Observation<'_>) -> Vec<u8> {
    let pids: BTreeSet<String> = socket
        .owners()
        .flat_map(|owner| {
            let parents = owner.process.parents.known().into_iter().flatten().map(|parent| parent.pid);
            parents.chain([owner.process.pid])
        })
        .filter(|pid| *pid > 1)
        .map(|pid| pid.to_string())
        .collect();
    let temporary = [&b"/tmp/"[..], b"/var/tmp/", b"/dev/shm/"].iter().any(|dir| name.starts_with(dir))
        || !name.starts_with(b"/");
    let mut lasting = Vec::with_capacity(name.len());
    let mut before = None;
    for word in name.split_inclusive(|b| !b.is_ascii_alphanumeric()) {
        let end = word.len() - usize::from(word.last().is_some_and(|b| !b.is_ascii_alphanumeric()));
        let (word, mark) = word.split_at(end);
        let is_pid = std::str::from_utf8(word).is_ok_and(|word| pids.contains(word));
        let set_off = matches!(before, Some(b'.' | b'-' | b'_'));
        if is_pid || temporary && set_off && looks_random(word) {
            lasting.push(b'*');
        } else {
            lasting.extend(word);
        }
        lasting.extend(mark);
        before = mark.first().copied();
    }
    lasting
}

fn looks_random(word: &[u8]) -> bool {
    word.len() >= 6
        && word.iter().any(u8::is_ascii_lowercase)
        && word.iter().skip(1).any(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;
    use crate::model::{Protocol, State};

    fn one(protocol: Protocol, local: &str, pid: u32) -> String {
        let mut sample = Sample::new();
        sample.process(pid, "/usr/sbin/server");
        let socket = sample.socket(protocol, State::Listen, local, &[pid]);
        socket.inode = u64::from(pid);
        socket.cookie = u64::from(pid);
        fingerprint(
            "rule",
            Some(b"exe:x"),
            sample.everything().into_iter().map(|at| sample.snapshot.observe(at)),
        )
    }

    #[test]
    fn a_restart_changes_nothing() {
        assert_eq!(one(Protocol::Tcp, "0.0.0.0:6379", 10), one(Protocol::Tcp, "0.0.0.0:6379", 999));
        assert_eq!(one(Protocol::Udp, "0.0.0.0:40000", 10), one(Protocol::Udp, "0.0.0.0:50000", 11));
        assert_eq!(one(Protocol::Tcp, "192.168.1.5:80", 10), one(Protocol::Tcp, "10.9.8.7:80", 10));
        assert_eq!(one(Protocol::Unix, "/tmp/agent.4242", 4242), one(Protocol::Unix, "/tmp/agent.77", 77));
        assert_eq!(
            one(Protocol::Unix, "@/tmp/dbus-aB3xYz90Qw", 1),
            one(Protocol::Unix, "@/tmp/dbus-zz9Kf7PqLm", 1)
        );
        assert_eq!(one(Protocol::Unix, "@0001f", 10), one(Protocol::Unix, "@00abc", 10));
    }

    #[test]
    fn another_door_is_another_finding() {
        let doors = [
            one(Protocol::Tcp, "0.0.0.0:6379", 10),
            one(Protocol::Tcp, "0.0.0.0:6380", 10),
            one(Protocol::Udp, "0.0.0.0:6379", 10),
            one(Protocol::Tcp, "127.0.0.1:6379", 10),
            one(Protocol::Tcp, "10.0.0.1:6379", 10),
            one(Protocol::Tcp, "8.8.8.8:6379", 10),
            one(Protocol::Unix, "/run/a.sock", 10),
            one(Protocol::Unix, "/run/b.sock", 10),
            one(Protocol::Unix, "@/run/a.sock", 10),
        ];
        assert_eq!(doors.iter().collect::<BTreeSet<_>>().len(), doors.len());
    }

    /// Suppressions name these: a change of the recipe must be a decision, not an accident.
    #[test]
    fn the_recipe_is_pinned() {
        assert_eq!(one(Protocol::Tcp, "0.0.0.0:6379", 10), "e2914d74add80877c7a23e83675e1118");
    }
}
