//! A network namespace of our own, where necessary inside a user namespace of our own.

#![allow(unsafe_code, reason = "unshare(2) has no safe interface")]

use std::fs;
use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Leaves the network that everybody shares. Without the right to, through a user namespace in
/// which this user keeps their own number (user_namespaces(7)).
pub(super) fn unshare() -> io::Result<()> {
    if leave(UnshareFlags::NEWNET).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    leave(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?;
    // The change of credentials made our /proc files root's, who is nobody in here.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn leave(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: neither flag touches memory or file tables; no descriptor changes its meaning.
    Ok(unsafe { unshare_unsafe(flags) }?)
}
