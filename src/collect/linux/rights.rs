//! What we lack to see more, and how to get it.

#![forbid(unsafe_code)]

use super::proc_net::{self, inode_of};
use crate::source::Source;

/// Numbers of <linux/capability.h>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Capability {
    SysPtrace = 19,
    SysAdmin = 21,
}

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "SYS_PTRACE",
            Self::SysAdmin => "SYS_ADMIN",
        }
    }
}

/// The one thing that helps where this capability was needed.
pub(super) fn remedy(source: &Source, needed: Capability) -> String {
    let status = source.proc_file("thread-self/status").unwrap_or_default();
    let (root, capable) = standing(&String::from_utf8_lossy(&status), needed);
    match (root, capable) {
        (false, false) => "run as root: sudo sockwarden".into(),
        (true, false) => {
            let name = needed.name();
            format!("give it CAP_{name} (docker run --cap-add {name} --pid host …)")
        }
        (_, true) => "run it on the host itself, with every capability that the hidden processes have".into(),
    }
}

/// Why there may be processes that `/proc` does not show at all.
pub(crate) struct Unshown {
    pub(crate) what: &'static str,
    pub(crate) why: &'static str,
    pub(crate) remedy: String,
}

/// `None`: every process of this computer is shown, whether it may be looked into or not.
pub(crate) fn unshown(source: &Source) -> Option<Unshown> {
    // Every pid namespace has a process 1; who does not see it is not shown every process.
    // A handle on its folder can be had all the same; looking into it is what is forbidden.
    if source.process(1).and_then(|first| first.read("stat")).is_err() {
        return Some(Unshown {
            what: "processes of others are not shown",
            why: "/proc is mounted with hidepid",
            remedy: remedy(source, Capability::SysPtrace),
        });
    }
    (!shows_first_namespace(source)?).then(|| Unshown {
        what: "processes outside of this container cannot be seen",
        why: "sockwarden runs in a pid namespace of its own",
        remedy: "run it on the host, or with --pid=host".to_owned(),
    })
}

/// Whether `/proc` belongs to the first pid namespace (`PROC_PID_INIT_INO`, <linux/proc_ns.h>).
/// A container may have the host's `/proc` mounted: the kernel's own threads are shown there alone.
fn shows_first_namespace(source: &Source) -> Option<bool> {
    const FIRST: u64 = 0xefff_fffc;
    const KTHREADD: u32 = 2;
    let own = source.proc_link("thread-self/ns/pid").ok()?;
    let stat = || source.process(KTHREADD).and_then(|process| process.read("stat"));
    let kernel = || stat().is_ok_and(|text| proc_net::stat(&text).is_some_and(|stat| stat.kernel));
    Some(inode_of(&own, b"pid") == Some(FIRST) || kernel())
}

/// Whether /proc/PID/status tells of effective user 0, and of the capability.
fn standing(status: &str, needed: Capability) -> (bool, bool) {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.split_whitespace())
    };
    let root = field("Uid:").and_then(|mut ids| ids.nth(1)) == Some("0");
    let set = field("CapEff:").and_then(|mut words| u64::from_str_radix(words.next()?, 16).ok());
    (root, set.is_some_and(|set| set & 1 << needed as u32 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_the_effective_set() {
        let root = "Name:\tx\nUid:\t1000\t0\t0\t0\nCapPrm:\t0\nCapEff:\t0000000000080000\n";
        assert_eq!(standing(root, Capability::SysPtrace), (true, true));
        assert_eq!(standing(root, Capability::SysAdmin), (true, false));
        let user = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";
        assert_eq!(standing(user, Capability::SysPtrace), (false, false));
    }
}
