//! What text would close a door: the unit that opened it first, then one rule in the language of
//! the packet filter that is active here. Nothing is run. Every command is made of values that a
//! typed builder has let through; names of other programs are quoted, or there is no command.

mod firewalld;
mod iptables;
mod nft;
mod target;
#[cfg(test)]
mod tests;
mod ufw;
mod unit;
mod words;

use std::net::IpAddr;

use self::target::{Target, targets};
use crate::finding::Remedy;
use crate::firewall::place::{Place, Side};
use crate::model::{
    FrontEnd, Interface, InterfaceKind, Namespace, NamespaceId, Process, Reach, Snapshot, SocketIndex,
};

/// Ways to close these sockets, narrowest first: what systemd can do to the unit, then a rule of
/// the packet filter for what comes in from outside this computer. Empty where neither applies.
pub fn remedies(snapshot: &Snapshot, sockets: &[SocketIndex]) -> Vec<Remedy> {
    let mut found = unit::remedies(snapshot, sockets);
    let outside: Vec<SocketIndex> = sockets
        .iter()
        .copied()
        .filter(|index| {
            let exposure = snapshot.sockets[index.0 as usize].exposure.as_ref();
            exposure.is_some_and(|exposure| exposure.reach > Reach::Host)
        })
        .collect();
    for place in places(snapshot, &outside) {
        found.extend(firewall(snapshot, place, &outside));
    }
    found
}

/// The namespaces of the sockets, each once, in order.
fn places(snapshot: &Snapshot, sockets: &[SocketIndex]) -> Vec<NamespaceId> {
    let mut found: Vec<_> = sockets.iter().map(|index| snapshot.sockets[index.0 as usize].netns).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// One rule set for all of the sockets in one namespace.
fn firewall(snapshot: &Snapshot, place: NamespaceId, sockets: &[SocketIndex]) -> Vec<Remedy> {
    let namespace = snapshot.namespace(place);
    let Some(own) = snapshot.namespaces.iter().find(|each| each.own) else { return Vec::new() };
    let found = targets(snapshot, place, sockets);
    if found.is_empty() {
        return Vec::new();
    }
    let has = |keeper| own.front_ends.contains(&keeper);
    if !namespace.own {
        // What is meant for another namespace passes through ours by the forward hook, after
        // translation: its own address and port are what a rule sees there. What has no way
        // through ours only a rule in that namespace can stop.
        let addressed: Option<Vec<Target>> = found.iter().map(|each| each.at(namespace)).collect();
        let Some(addressed) = addressed.filter(|all| leads_to(snapshot, own, namespace, all)) else {
            let inside = process_in(snapshot, place, sockets);
            let translated = namespace.translates == Some(true);
            return inside.map(|pid| nft::inside(&found, pid, translated)).into_iter().collect();
        };
        let kind = iptables_kind(&own.front_ends).filter(|_| has(FrontEnd::Docker));
        let docker = kind.and_then(|kind| iptables::docker(&addressed, kind));
        return vec![docker.unwrap_or_else(|| nft::forward(&addressed))];
    }
    // Translated ports never come by the input hook that ufw and most guides fill.
    if own.translates == Some(true) || has(FrontEnd::Docker) {
        return vec![nft::prerouting(&found)];
    }
    if has(FrontEnd::Ufw) {
        if let Some(remedy) = ufw::remedy(&found) {
            return vec![remedy];
        }
    } else if has(FrontEnd::Firewalld) {
        return vec![firewalld::remedy(&found)];
    } else if let Some(kind) = iptables_kind(&own.front_ends).filter(|_| !has(FrontEnd::Nftables)) {
        return vec![iptables::input(&found, kind)];
    }
    vec![nft::input(&found)]
}

/// Whether all of these addresses of `other` are on virtual cables to networks of ours that end on
/// this computer. A network where it has our address too is another one with the same numbers.
fn leads_to(snapshot: &Snapshot, own: &Namespace, other: &Namespace, targets: &[Target]) -> bool {
    let (Some(ours), Some(theirs)) = (own.interfaces.known(), other.interfaces.known()) else { return false };
    let Some(place) = Place::new(own, &snapshot.host, snapshot.upstream) else { return false };
    let holds = |each: &Interface, address: IpAddr| each.addresses.iter().any(|net| net.addr() == address);
    let inside = |each: &&Interface| {
        place.gates.iter().any(|gate| gate.index == each.index && gate.side == Side::Inside)
    };
    let networks: Vec<_> = ours
        .iter()
        .filter(inside)
        .flat_map(|each| &each.addresses)
        .filter(|net| !theirs.iter().any(|each| holds(each, net.addr())))
        .collect();
    let led = |address: IpAddr| {
        networks.iter().any(|net| net.contains(&address))
            && theirs.iter().any(|each| each.kind == InterfaceKind::Veth && holds(each, address))
    };
    targets.iter().flat_map(|target| &target.addresses).all(|address| led(*address))
}

/// The pid of a process that is in that namespace: a holder of these sockets, else any.
fn process_in(snapshot: &Snapshot, place: NamespaceId, sockets: &[SocketIndex]) -> Option<u32> {
    let inode = snapshot.namespace(place).inode;
    let there = |process: &&Process| inode != 0 && process.netns.known() == Some(&inode);
    let holders = sockets
        .iter()
        .map(|index| snapshot.observe(*index))
        .filter(|seen| seen.socket.netns == place)
        .flat_map(|seen| seen.owners().map(|owner| owner.process));
    holders.chain(&snapshot.processes).find(there).map(|process| process.pid)
}

/// Which of the two programs keeps the rules here. Where both do, a drop in either is final.
fn iptables_kind(keepers: &[FrontEnd]) -> Option<iptables::Kind> {
    if keepers.contains(&FrontEnd::IptablesLegacy) {
        Some(iptables::Kind::Legacy)
    } else if keepers.contains(&FrontEnd::IptablesNft) {
        Some(iptables::Kind::Nft)
    } else {
        None
    }
}
