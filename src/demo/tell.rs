//! What is seen, in plain words: one story a program, told from its sockets alone.

use std::collections::BTreeMap;

use crate::model::{
    Endpoint, ExeState, Observation, Process, ProcessId, Protocol, Reach, Role, Snapshot, SocketIndex,
};

/// One program and what its sockets say of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// `swarm-peer (pid 812)`
    pub who: String,
    /// `is a server and a client at once`
    pub what: String,
    pub lines: Vec<String>,
}

/// The story of every process that holds a socket, by pid; our own is none.
pub fn stories(snapshot: &Snapshot) -> Vec<Story> {
    let mut held: BTreeMap<ProcessId, Vec<Observation<'_>>> = BTreeMap::new();
    for seen in snapshot.observations().filter(|seen| seen.namespace().own) {
        for owner in seen.owners() {
            held.entry(owner.id).or_default().push(seen);
        }
    }
    let mut stories: Vec<_> = held.iter().map(|(id, sockets)| (snapshot.process(*id), sockets)).collect();
    stories.retain(|(process, _)| process.pid != std::process::id());
    stories.sort_by_key(|(process, _)| process.pid);
    stories.into_iter().filter_map(|(process, sockets)| story(process, sockets)).collect()
}

fn story(process: &Process, sockets: &[Observation<'_>]) -> Option<Story> {
    let mut lines: Vec<String> = Vec::new();
    for seen in sockets {
        lines.extend(sentence(seen).filter(|line| !lines.contains(line)));
    }
    if lines.is_empty() {
        return None;
    }
    match process.exe_state {
        ExeState::Deleted => lines.push("Its executable has been deleted while it runs.".to_owned()),
        ExeState::Memory => lines.push("Its executable never was on a disk.".to_owned()),
        ExeState::Present | ExeState::Replaced | ExeState::Unknown => {}
    }
    if let Some(exe) = process.exe.known().filter(|exe| exe.as_bytes().starts_with(b"/tmp/")) {
        lines.push(format!("Its executable lies in a temporary folder: {exe}"));
    }
    let has = |wanted: &[Role]| sockets.iter().any(|seen| wanted.contains(&seen.socket.role));
    let what = match (has(&[Role::Listener, Role::Inbound]), has(&[Role::Outbound])) {
        (true, true) => "is a server and a client at once",
        (true, false) => "is a server",
        (false, true) => "is a client",
        (false, false) => "holds sockets",
    };
    Some(Story { who: format!("{} (pid {})", process.name, process.pid), what: what.to_owned(), lines })
}

fn sentence(seen: &Observation<'_>) -> Option<String> {
    let socket = seen.socket;
    let here = place(&socket.local);
    match socket.role {
        Role::Listener => {
            let who = socket.exposure.as_ref().map_or("", |exposure| callers(exposure.reach));
            Some(format!("It waits for callers at {}{who}.", here?))
        }
        Role::Receiver => Some(format!("It receives datagrams at {}.", here?)),
        Role::Inbound | Role::Outbound | Role::Peer => {
            let verb = match socket.role {
                Role::Inbound => "was called by",
                Role::Outbound => "called",
                Role::Peer | Role::Listener | Role::Receiver | Role::Idle | Role::Published => "is joined to",
            };
            let other = match socket.peer.and_then(|peer| partner(seen.snapshot, peer)) {
                Some(name) => format!("{name} on this computer, over {}", channel(seen)),
                None => match (socket.protocol, place(&socket.remote)) {
                    (Protocol::Unix, _) | (_, None) => return None,
                    (_, Some(remote)) => format!("{remote}, another computer"),
                },
            };
            Some(format!("It {verb} {other}."))
        }
        Role::Idle | Role::Published => None,
    }
}

fn callers(reach: Reach) -> &'static str {
    match reach {
        Reach::None => ", and nobody gets through to it",
        Reach::Process => ", open to its own kin only",
        Reach::Host => ", open to programs on this computer only",
        Reach::Container => ", open to containers and guests on this computer",
        Reach::Link => ", open to the same cable or radio cell",
        Reach::Lan => ", open to the local network",
        Reach::Internet => ", open to the whole internet",
        Reach::Unknown => ", and nobody can tell who gets through",
    }
}

/// Names of the programs at the other end.
fn partner(snapshot: &Snapshot, peer: SocketIndex) -> Option<String> {
    let names: Vec<_> = snapshot.observe(peer).owners().map(|owner| owner.process.name.to_string()).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

/// How two programs of one computer are joined. Of a UNIX pair only the server's end has a name.
fn channel(seen: &Observation<'_>) -> String {
    if seen.socket.protocol != Protocol::Unix {
        return "the loopback interface".to_owned();
    }
    let named = |endpoint: &Endpoint| place(endpoint).map(|path| format!("the UNIX socket {path}"));
    let other = seen.socket.peer.and_then(|peer| named(&seen.snapshot.observe(peer).socket.local));
    named(&seen.socket.local).or(other).unwrap_or_else(|| "a UNIX socket".to_owned())
}

fn place(endpoint: &Endpoint) -> Option<String> {
    match endpoint {
        Endpoint::None | Endpoint::Interface(_) => None,
        Endpoint::Inet(address, port) => Some(std::net::SocketAddr::new(*address, *port).to_string()),
        Endpoint::UnixPath(path) => Some(path.to_string()),
        Endpoint::UnixAbstract(name) => Some(format!("@{name}")),
        Endpoint::Vsock { cid, port } => Some(format!("vsock {cid}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;
    use crate::model::sample::{Sample, endpoint};

    #[test]
    fn a_peer_is_a_server_and_a_client_at_once() {
        let mut sample = Sample::new();
        sample.process(7, "/usr/bin/swarm");
        sample.listener("0.0.0.0:6881", Reach::Lan, &[7]);
        let call = sample.socket(Protocol::Tcp, State::Established, "203.0.113.5:40000", &[7]);
        (call.remote, call.role) = (endpoint("198.51.100.1:6969"), Role::Outbound);
        let told = stories(&sample.snapshot);
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].who.as_str(), told[0].what.as_str()),
            ("swarm (pid 7)", "is a server and a client at once")
        );
        assert_eq!(
            told[0].lines,
            [
                "It waits for callers at 0.0.0.0:6881, open to the local network.",
                "It called 198.51.100.1:6969, another computer."
            ]
        );
    }

    #[test]
    fn both_ends_of_a_local_conversation_name_each_other() {
        let mut sample = Sample::new();
        sample.process(7, "/usr/bin/store");
        sample.process(8, "/usr/bin/editor");
        let unix = |sample: &mut Sample, local, pid, role, peer| {
            let socket = sample.socket(Protocol::Unix, State::Established, local, &[pid]);
            (socket.role, socket.peer) = (role, Some(SocketIndex(peer)));
        };
        unix(&mut sample, "/run/notes.sock", 7, Role::Inbound, 1);
        unix(&mut sample, "", 8, Role::Outbound, 0);
        let told = stories(&sample.snapshot);
        assert_eq!(
            told[0].lines,
            ["It was called by editor on this computer, over the UNIX socket /run/notes.sock."]
        );
        assert_eq!(
            told[1].lines,
            ["It called store on this computer, over the UNIX socket /run/notes.sock."]
        );
    }
}
