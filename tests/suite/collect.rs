//! A recorded machine, read again: the kernel's bytes in, sockets with their holders out.

use std::path::{Path, PathBuf};

use sockwarden::model::{Endpoint, How, Observation, OwnerGap, Protocol, Role, Snapshot, State, Text, Wants};
use sockwarden::source::Source;

fn hosts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

fn awkward(wants: Wants) -> Snapshot {
    let source = Source::recorded(&hosts().join("awkward")).unwrap();
    sockwarden::collect::sockets(&source, &wants)
}

fn at<'s>(snapshot: &'s Snapshot, protocol: Protocol, port: u16, state: State) -> Observation<'s> {
    let fits = |each: &Observation<'_>| {
        each.socket.protocol == protocol
            && each.socket.state == state
            && matches!(each.socket.local, Endpoint::Inet(_, own) if own == port)
    };
    let mut found = snapshot.observations().filter(fits);
    let one = found.next().unwrap_or_else(|| panic!("no {} at {port}", protocol.name()));
    assert!(found.next().is_none(), "one {} at {port}", protocol.name());
    one
}

fn pids(observation: Observation<'_>) -> Vec<u32> {
    observation.owners().map(|owner| owner.process.pid).collect()
}

#[test]
fn holders_are_named_in_order_and_for_every_process() {
    let snapshot = awkward(Wants::EVERYTHING);
    let listener = at(&snapshot, Protocol::Tcp, 7002, State::Listen);
    assert_eq!(pids(listener), [12, 55, 56]);
    assert_eq!((listener.socket.v6only, listener.socket.role), (Some(false), Role::Listener));
    for run in snapshot.observations() {
        let holders = &snapshot.holders[run.socket.holders.range()];
        let order: Vec<_> =
            holders.iter().map(|held| (snapshot.process(held.process).pid, held.fd)).collect();
        assert!(order.is_sorted(), "{order:?}");
        assert!(holders.is_empty() || run.socket.owner_gap.is_none());
    }
}

#[test]
fn a_thread_with_a_file_table_of_its_own_is_an_owner() {
    let snapshot = awkward(Wants::EVERYTHING);
    let listener = at(&snapshot, Protocol::Tcp, 7011, State::Listen);
    let holders: Vec<_> = listener.owners().flat_map(|owner| owner.holders).collect();
    assert_eq!(holders.iter().map(|held| held.how).collect::<Vec<_>>(), [How::Thread]);
    assert_eq!(pids(listener), [12]);
}

#[test]
fn each_socket_without_owner_says_which_kind_it_is() {
    let snapshot = awkward(Wants::EVERYTHING);
    let gap = |protocol, port, state| at(&snapshot, protocol, port, state).socket.owner_gap;
    assert_eq!(gap(Protocol::Tcp, 7010, State::Listen), Some(OwnerGap::InFlight));
    assert_eq!(gap(Protocol::Udp, 4789, State::Unconnected), Some(OwnerGap::Kernel));
    let waiting = snapshot.sockets.iter().filter(|each| each.owner_gap == Some(OwnerGap::NotYetAccepted));
    assert_eq!(waiting.map(|each| each.protocol).collect::<Vec<_>>(), [Protocol::Mptcp]);
}

#[test]
fn a_socket_stays_in_its_namespace_when_its_holder_leaves() {
    let snapshot = awkward(Wants::EVERYTHING);
    let left = at(&snapshot, Protocol::Tcp, 7012, State::Listen);
    assert!(!left.namespace().own);
    assert_eq!(pids(left), [55]);
    assert_ne!(left.socket.netns, at(&snapshot, Protocol::Tcp, 7013, State::Listen).socket.netns);
    let names: Vec<_> = snapshot.namespaces.iter().filter_map(|each| each.name.clone()).collect();
    assert_eq!(names, [Text::from("blue")]);
}

#[test]
fn only_our_own_namespace_when_no_other_is_wanted() {
    let snapshot = awkward(Wants { all_namespaces: false, ..Wants::EVERYTHING });
    assert_eq!(snapshot.namespaces.len(), 1);
    let ports: Vec<_> = snapshot.sockets.iter().map(|each| &each.local).collect();
    assert!(!ports.contains(&&Endpoint::Inet("0.0.0.0".parse().unwrap(), 7013)));
}

#[test]
fn families_that_no_table_lists_are_there() {
    let snapshot = awkward(Wants::EVERYTHING);
    let count = |protocol, state| {
        snapshot.sockets.iter().filter(|each| each.protocol == protocol && each.state == state).count()
    };
    assert_eq!(count(Protocol::Tcp, State::Unconnected), 2);
    assert_eq!(count(Protocol::Udp, State::Unconnected), 3);
    assert_eq!(count(Protocol::Xdp, State::Unconnected), 1);
    assert_eq!(count(Protocol::Vsock, State::Listen), 1);
    assert_eq!(count(Protocol::Raw, State::Unconnected), 3);
    assert_eq!(at(&snapshot, Protocol::Tcp, 7001, State::Bound).socket.role, Role::Idle);
}

#[test]
fn mptcp_stands_there_once_and_knows_its_other_end() {
    let snapshot = awkward(Wants::EVERYTHING);
    let carried = |each: &&sockwarden::model::Socket| {
        each.protocol == Protocol::Tcp && matches!(each.local, Endpoint::Inet(_, 7007))
    };
    assert_eq!(snapshot.sockets.iter().filter(carried).count(), 0);
    let calls = snapshot
        .sockets
        .iter()
        .filter(|each| each.protocol == Protocol::Mptcp && each.role == Role::Outbound);
    for call in calls {
        let other = &snapshot.sockets[call.peer.unwrap().0 as usize];
        assert_eq!((&other.local, other.role), (&call.remote, Role::Inbound));
    }
}

/// A kernel without `mptcp_diag` lists MPTCP sockets among those of TCP: what their descriptors are
/// called tells them apart.
#[test]
fn mptcp_is_told_from_tcp_where_the_kernel_has_no_table_of_it() {
    const MISSING: &str = "2"; // ENOENT, as __inet_diag_dump_start() answers without a handler
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("host");
    copy_tree(&hosts().join("awkward"), &copy);
    let usual = awkward(Wants::EVERYTHING);
    let own = usual.namespaces[0].inode;
    for name in ["mptcp4", "mptcp6"] {
        let dump = copy.join(format!("netlink/{own}/{name}"));
        std::fs::remove_file(&dump).unwrap();
        std::fs::write(dump.with_extension("errno"), MISSING).unwrap();
    }
    let look = || sockwarden::collect::sockets(&Source::recorded(&copy).unwrap(), &Wants::EVERYTHING);
    let listener = at(&usual, Protocol::Tcp, 7002, State::Listen);
    let holder = listener.owners().next().unwrap();
    let held = holder.holders.first().unwrap();
    let name = format!("protocol-name/{}-{}", holder.process.pid, held.fd);
    let place = copy.join("answers").join(name);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, "MPTCPv6").unwrap();
    assert_eq!(at(&look(), Protocol::Mptcp, 7002, State::Listen).socket.inode, listener.socket.inode);
    std::fs::write(&place, "TCPv6").unwrap();
    assert_eq!(at(&look(), Protocol::Tcp, 7002, State::Listen).socket.inode, listener.socket.inode);
}

#[test]
fn unix_names_are_kept_whole_and_peers_are_mutual() {
    let snapshot = awkward(Wants::EVERYTHING);
    let name = Endpoint::UnixAbstract(Text::from(&b"abs\nname\0x"[..]));
    assert_eq!(snapshot.sockets.iter().filter(|each| each.local == name).count(), 1);
    let stream = |each: &&sockwarden::model::Socket| each.kind != sockwarden::model::SocketType::Dgram;
    for socket in snapshot.sockets.iter().filter(|each| each.protocol == Protocol::Unix).filter(stream) {
        if let Some(peer) = socket.peer {
            let back = snapshot.sockets[peer.0 as usize].peer.unwrap();
            assert!(std::ptr::eq(&raw const snapshot.sockets[back.0 as usize], socket));
        }
    }
}

/// The same question twice has the same answer, order included.
#[test]
fn a_recording_reads_the_same_every_time() {
    assert!(awkward(Wants::EVERYTHING) == awkward(Wants::EVERYTHING));
}

/// A dump that ends in the middle is a gap, and what it did say is kept.
#[test]
fn a_dump_cut_short_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("host");
    copy_tree(&hosts().join("awkward"), &copy);
    let own = awkward(Wants::EVERYTHING).namespaces[0].inode;
    let dump = copy.join(format!("netlink/{own}/tcp"));
    let bytes = std::fs::read(&dump).unwrap();
    std::fs::write(&dump, &bytes[..bytes.len() - 30]).unwrap();
    let snapshot = sockwarden::collect::sockets(&Source::recorded(&copy).unwrap(), &Wants::EVERYTHING);
    let gap = snapshot.gaps.iter().find(|gap| gap.id == "table-unread").expect("a gap");
    assert_eq!(gap.unlisted.map(|(protocol, _)| protocol), Some(Some(Protocol::Tcp)));
    // The kernel's refusal is one too.
    std::fs::remove_file(&dump).unwrap();
    std::fs::write(dump.with_file_name("tcp.errno"), "1").unwrap();
    let snapshot = sockwarden::collect::sockets(&Source::recorded(&copy).unwrap(), &Wants::EVERYTHING);
    assert!(snapshot.gaps.iter().any(|gap| gap.id == "table-unread"));
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_tree(&source, &target);
        } else if kind.is_symlink() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(std::fs::read_link(&source).unwrap(), &target).unwrap();
        } else {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}
