//! Has something changed that decides who can reach a socket? What the kernel tells of addresses,
//! links, routes (rtnetlink(7)) and rules of nftables. Legacy iptables tells nobody.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::model::Snapshot;
use crate::source::{Heard, NetnsPlace, Source, Subscription};

const NETLINK_ROUTE: u32 = 0;
const NETLINK_NETFILTER: u32 = 12;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`,
/// `_IPV6_RULE` (<linux/rtnetlink.h>): bit n-1 for group n.
const ROUTE_GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
/// `NFNLGRP_NFTABLES` (<linux/netfilter/nfnetlink.h>).
const NFTABLES_GROUP: u32 = 1 << 6;
/// Namespaces that are listened in; changes in others are found by scans.
const NAMESPACES: usize = 64;

/// What is listened to.
#[derive(Debug, Default)]
pub struct Generation {
    heard: BTreeMap<u64, Vec<Subscription>>,
    unheard: BTreeMap<&'static str, String>,
}

impl Generation {
    /// Listens in the namespaces of a snapshot, and no longer in others.
    pub fn follow(&mut self, source: &Source, snapshot: &Snapshot) {
        let wanted: Vec<u64> = snapshot.namespaces.iter().map(|each| each.inode).take(NAMESPACES).collect();
        self.heard.retain(|inode, _| wanted.contains(inode));
        for inode in wanted {
            if self.heard.contains_key(&inode) {
                continue;
            }
            if Some(inode) != source.own_netns() && !enter(source, inode) {
                continue;
            }
            let mut open = Vec::new();
            for (what, bus, groups) in [
                ("addresses and routes", NETLINK_ROUTE, ROUTE_GROUPS),
                ("rules of nftables", NETLINK_NETFILTER, NFTABLES_GROUP),
            ] {
                match source.subscribe(inode, bus, groups) {
                    Ok(subscription) => open.push(subscription),
                    Err(error) => drop(self.unheard.insert(what, error.to_string())),
                }
            }
            self.heard.insert(inode, open);
        }
    }

    /// Whether something has changed since the last time.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for subscription in self.heard.values_mut().flatten() {
            match subscription.drain(&mut |_| ()) {
                Ok(Heard::Nothing) => {}
                // What was lost on the way has changed as well, and is read anew anyhow.
                Ok(Heard::Something | Heard::Lost) | Err(_) => changed = true,
            }
        }
        changed
    }

    /// What nobody tells of, and why.
    pub fn limits(&self) -> impl Iterator<Item = String> {
        self.unheard.iter().map(|(what, why)| {
            format!(
                "the kernel does not tell of changed {what} ({why}): they count from the next full scan on"
            )
        })
    }

    #[cfg(unix)]
    pub fn descriptors(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        self.heard.values().flatten().map(|each| each.as_fd())
    }
}

/// Finds a way into a namespace that a scan has been in.
fn enter(source: &Source, inode: u64) -> bool {
    if source.within(inode, || ()).is_ok() {
        return true;
    }
    let link = format!("net:[{inode}]");
    let of_process = source.pids().unwrap_or_default().into_iter().map(|pid| format!("{pid}/ns/net"));
    let mut ways = of_process.filter(|way| source.proc_link(way).is_ok_and(|found| found == link.as_bytes()));
    ways.next().is_some_and(|way| source.keep_netns(inode, &NetnsPlace::Proc(way)).is_ok())
}
