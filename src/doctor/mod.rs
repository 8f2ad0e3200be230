//! What this user on this machine can and cannot see: a fixed list of abilities, each tried, never
//! guessed from the uid.
//!
//! `docs/doctor.md` explains the list; `ABILITIES` is its order.

#![forbid(unsafe_code)]

pub mod cross;

use crate::source::Source;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as imp;

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
use unsupported as imp;

/// Name and title of everything that is tried.
pub const ABILITIES: [(&str, &str); 27] = [
    ("processes", "see every process (/proc)"),
    ("file-tables", "read the file tables of all processes (who holds a socket)"),
    ("executables", "read the executables of all processes"),
    ("file-systems", "look into the file systems of all processes (names of users, units, packages)"),
    ("bpf-owners", "read all file tables in one pass (a program in the kernel)"),
    ("duplicate-sockets", "ask a socket that no table lists (pidfd_getfd)"),
    ("netns-list", "see the network namespace of every process"),
    ("netns-enter", "enter other network namespaces"),
    ("diag-tcp", "list TCP (sock_diag)"),
    ("diag-udp", "list UDP (sock_diag)"),
    ("diag-udplite", "list UDP-Lite (sock_diag)"),
    ("diag-mptcp", "list MPTCP (sock_diag)"),
    ("diag-raw", "list raw sockets (sock_diag)"),
    ("diag-unix", "list UNIX sockets (sock_diag)"),
    ("diag-packet", "list packet sockets (sock_diag)"),
    ("diag-netlink", "list netlink sockets (sock_diag)"),
    ("diag-vsock", "list vsock sockets (sock_diag)"),
    ("diag-xdp", "list XDP sockets (sock_diag)"),
    ("bound-tcp", "list TCP sockets that are bound but do not listen (Linux 6.8)"),
    ("bpf-listen", "be told who listens on TCP, as it happens (a program in the kernel)"),
    ("bpf-bind", "be told who binds UDP, as it happens (programs in the kernel)"),
    ("interfaces", "read interfaces, addresses and routes (rtnetlink)"),
    ("nftables", "ask whether nftables rules exist (nfnetlink)"),
    ("legacy-iptables", "ask whether legacy iptables rules exist"),
    ("packages", "read the package data base (dpkg, rpm)"),
    ("units", "read control groups and unit files (systemd units, containers)"),
    ("firmware", "read the maker of the machine (guess about the upstream)"),
];

/// What came of a try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Works,
    /// For some of what there is.
    Limited,
    Refused,
    /// This system has no such thing.
    Absent,
}

/// One ability, tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ability {
    pub id: &'static str,
    pub title: &'static str,
    pub state: State,
    /// What the try showed, and what its failure costs in sight.
    pub detail: String,
    /// The one command or setting that lifts the limit.
    pub remedy: Option<String>,
}

/// What one try found, before its name is put to it.
struct Found {
    state: State,
    detail: String,
    remedy: Option<String>,
}

/// Tries everything, in the order of `ABILITIES`.
pub fn examine(source: &Source) -> Vec<Ability> {
    let mut tries = imp::Tries::new(source);
    ABILITIES
        .iter()
        .map(|&(id, title)| {
            let Found { state, detail, remedy } = tries.run(id);
            Ability { id, title, state, detail, remedy }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ability_is_documented_and_named_once() {
        let text = include_str!("../../docs/doctor.md");
        for (at, (id, _)) in ABILITIES.iter().enumerate() {
            assert!(text.contains(&format!("| `{id}` |")), "docs/doctor.md does not name {id}");
            assert!(ABILITIES[..at].iter().all(|(other, _)| other != id), "{id} twice");
        }
    }

    #[test]
    fn each_is_tried_on_this_machine_and_a_limit_says_what_it_costs() {
        let source = Source::live().expect("this machine");
        let found = examine(&source);
        assert_eq!(found.len(), ABILITIES.len());
        for ability in found {
            assert!(!ability.detail.is_empty(), "{} says nothing", ability.id);
            if ability.state == State::Refused {
                assert!(ability.remedy.is_some(), "{} names no way out", ability.id);
            }
        }
    }
}
